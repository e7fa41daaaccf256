"""Child processes of the federation: started so that they cannot outlive the harness, and killed on purpose.

Every child runs in a session of its own (Ctrl-C in the terminal reaches the harness only, which then stops its children
in order) and asks the kernel for a signal when the harness dies (PDEATHSIG), so that a killed harness leaves no server
behind. Python code is never run between fork and exec: gRPC's threads do not survive it; a wrapper program sets the
signal instead.
"""

import contextlib
import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LOG_TAIL_LINES: Final = 30
"""How much of a dead child's log goes into the error: enough for a traceback, small enough to read."""

LOG_TAIL_BYTES: Final = 16_384
"""Upper bound of what is read from the end of a log, whatever the length of its lines."""

READY_POLL_SECONDS: Final = 0.02
"""Pause between two readiness probes: far below the start-up time of any child (0.05 s for nats-server)."""

FREE_PORTS: Final = range(20_000, 32_768)
"""Below Linux's ephemeral range (32768-60999): no outgoing connection takes the port before the child binds it."""

FREE_PORT_ATTEMPTS: Final = 200
"""Far more than ever needed on a machine that is not out of ports; a bound, so that the search ends."""

# PDEATHSIG fires when the *thread* that forked ends, not the process: one thread that lives as long as the process
# forks every child, whichever short-lived thread asked for it.
_spawner: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-spawner")

AUTOGROUP_TRIES_MAX, AUTOGROUP_RETRY_SECONDS = 100, 0.1
"""The kernel takes ten such changes a second from all who are not root; a nation has sixty services."""

PORTS_FOLDER: Final = Path("/tmp") / f"kuaixiang-ports-{os.getuid()}"  # noqa: S108 - made for its owner alone
"""Where ports are reserved: the same place for every harness, wherever each keeps its files."""

_ports_lock: Final = threading.Lock()
_ports_given: Final[set[int]] = set()
_system_chance: Final = random.SystemRandom()

_WRAPPER: Final = """
import ctypes, os, pwd, sys, warnings
death_signal, account, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
if account:
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
ctypes.CDLL(None, use_errno=True).prctl(1, death_signal)
os.execvp(command[0], command)
"""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process since its start. Raises `OSError` where there is none."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int, what: str, of: str = "smaps_rollup") -> int:
    """Memory of a process, by the kernel's name for it in that file of /proc (proc(5)). Raises `OSError`."""
    rows = (line.split() for line in Path(f"/proc/{pid}/{of}").read_text().splitlines())
    (kilobytes,) = (row[1] for row in rows if row[0] == f"{what}:")
    return int(kilobytes) * 1024


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that have not ended (proc(5)). Raises `OSError` where there is none."""
    return [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or one that only waits for whoever asks how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


class ProcessError(Exception):
    """A child process of the federation did not do what the harness needs."""


class ChildDied(ProcessError):
    """The child ended before it was ready, or while it was expected to run."""

    def __init__(self, name: str, returncode: int, log: Path, log_tail: str) -> None:
        self.name = name
        self.returncode = returncode
        self.log = log
        self.log_tail = log_tail
        super().__init__(f"{name} ended with status {returncode}; end of its log {log}:\n{log_tail}")


class ChildNotReady(ProcessError):
    """The child runs, but its probe did not succeed in time."""

    def __init__(self, name: str, seconds: float, log: Path, log_tail: str) -> None:
        self.name = name
        self.seconds = seconds
        self.log = log
        self.log_tail = log_tail
        super().__init__(f"{name} was not ready after {seconds:g} s; end of its log {log}:\n{log_tail}")


class ChildRunning(ProcessError):
    """The child was started a second time while the first process runs."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        super().__init__(f"{name} is already running as process {pid}")


class ChildNotRunning(ProcessError):
    """A signal or a question was meant for a child that does not run."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} is not running")


class ChildStillRuns(ProcessError):
    """The child was expected to end by itself and did not."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        super().__init__(f"{name} still runs after {seconds:g} s")


class NoFreePort(ProcessError):
    """No port of the range could be bound on 127.0.0.1."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        super().__init__(
            f"no free port on 127.0.0.1 between {FREE_PORTS.start} and {FREE_PORTS.stop - 1} after {attempts} attempts"
        )


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now, never the same twice in one process.

    Nor is it given to another harness on this machine while this one runs: between the choice and the child that binds
    it lie seconds. Raises NoFreePort.
    """
    with _ports_lock:
        for _ in range(FREE_PORT_ATTEMPTS):
            # The system's chance: a program that seeds its own would make the same choices as another that does.
            port = _system_chance.choice(FREE_PORTS)
            if port in _ports_given or not _reserve(port):
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            _ports_given.add(port)
            return port
    raise NoFreePort(FREE_PORT_ATTEMPTS)


def _reserve(port: int) -> bool:
    """Take the port for this process until it ends, by a lock that every harness of this account looks at."""
    PORTS_FOLDER.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(PORTS_FOLDER / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True  # the descriptor stays open: it is the lock


def bound_command(command: Sequence[str], death_signal: signal.Signals, run_as: str | None = None) -> list[str]:
    """The command wrapped so that it gets `death_signal` when the harness dies, and runs as the account `run_as`.

    Linux only has PDEATHSIG; elsewhere the command is returned as it is.
    """
    if sys.platform != "linux":
        return list(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return [sys.executable, "-I", "-S", "-c", _WRAPPER, str(int(death_signal)), run_as or "", *command]
    account = [f"--reuid={run_as}", f"--regid={pwd.getpwnam(run_as).pw_gid}", "--clear-groups"] if run_as else []
    return [setpriv, f"--pdeathsig={death_signal.name}", *account, "--", *command]


class ChildProcess:
    """One program of the federation, run as a child with its output in a log file.

    Methods block; from a coroutine call them by ``asyncio.to_thread``. The same object can be started again after it
    was stopped or killed. As a context manager it is stopped on leaving.

    `death_signal` is what the kernel sends the child when the harness dies.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        run_as: str | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self.environment = environment
        self.directory = directory
        self._run_as = run_as
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._paused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the program itself (the wrapper has been replaced by it). Raises ChildNotRunning."""
        if self._process is None or self._process.poll() is not None:
            raise ChildNotRunning(self.name)
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Status the last process ended with, negative for a signal; None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> Self:
        """Start the program, with `environment` as its whole environment (None: the harness's own).

        Raises ChildRunning; ChildDied comes from `wait_ready`, since nothing is known before that.
        """
        if self.alive:
            raise ChildRunning(self.name, self.pid)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._paused = False
        self._process = _spawner.submit(self._spawn).result()
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                bound_command(self.command, self._death_signal, self._run_as),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=None if self.environment is None else dict(self.environment),
                start_new_session=True,
            )

    def stand_behind(self, niceness: int) -> None:
        """Have the running program, until it ends, stand behind others by so much (nice(1)). Raises ChildNotRunning.

        Linux may give each session its share and heed niceness only within one (sched(7), autogroups); each child has a
        session of its own, which is told too. Where there is no /proc nothing changes.
        """
        for thread in self._threads():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                # Never ahead of where it is, which only root may.
                os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), niceness))
        for _ in range(AUTOGROUP_TRIES_MAX):
            try:
                (Path("/proc") / str(self.pid) / "autogroup").write_text(str(niceness))
            except BlockingIOError:
                time.sleep(AUTOGROUP_RETRY_SECONDS)
            except OSError:
                return  # there are no autogroups
            else:
                return

    def keep_to(self, core: int) -> None:
        """Have the running program's threads, and those to come, run on one core. Raises ChildNotRunning.

        Where there is no /proc, or the core may not be had, nothing changes.
        """
        for thread in self._threads():
            with contextlib.suppress(OSError):  # it has ended meanwhile, or the core is not ours
                os.sched_setaffinity(thread, {core})

    def _threads(self) -> list[int]:
        """The running program's threads; none where there is no /proc."""
        return [int(thread.name) for thread in Path(f"/proc/{self.pid}/task").glob("*")]

    def wait_ready(self, probe: Callable[[], bool], timeout_seconds: float = 60.0) -> Self:
        """Wait until `probe` returns True; an OSError of the probe means not yet.

        Raises ChildDied when the process ends first, ChildNotReady when the time is over (the process goes on).
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            self.require_alive()
            try:
                if probe():
                    return self
            except OSError:
                pass  # the usual answer of a server that does not listen yet
            if time.monotonic() >= deadline:
                raise ChildNotReady(self.name, timeout_seconds, self.log, self.log_tail())
            time.sleep(READY_POLL_SECONDS)

    def require_alive(self) -> None:
        """Raises ChildDied with the tail of the log when it has ended, ChildNotRunning before the first start."""
        if self._process is None:
            raise ChildNotRunning(self.name)
        returncode = self._process.poll()
        if returncode is not None:
            raise ChildDied(self.name, returncode, self.log, self.log_tail())

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines that the current (or last) process wrote to its log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(self._log_start, end - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait(self, timeout_seconds: float) -> int:
        """Wait until the process ends by itself and return its status. Raises ChildNotRunning, ChildStillRuns."""
        if self._process is None:
            raise ChildNotRunning(self.name)
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise ChildStillRuns(self.name, timeout_seconds) from None

    def stop(self, timeout_seconds: float = 10.0) -> int | None:
        """Ask the process to end (SIGTERM), kill it (SIGKILL) when the time is over; nothing when it does not run.

        Returns the status it ended with, None when it never ran.
        """
        return self._end(signal.SIGTERM, timeout_seconds)

    def interrupt(self, timeout_seconds: float = 10.0) -> int | None:
        """As `stop`, but asks by SIGINT, as Ctrl-C does."""
        return self._end(signal.SIGINT, timeout_seconds)

    def _end(self, request: signal.Signals, timeout_seconds: float) -> int | None:
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(request)
            if self._paused:
                self.resume()  # a stopped process does not see its signal
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout_seconds)
        return self._process.returncode

    def kill(self) -> None:
        """End the process without any warning (kill -9) and wait until it is gone. Raises ChildNotRunning."""
        self._signal(signal.SIGKILL)
        assert self._process is not None  # noqa: S101 (_signal raised otherwise)
        self._process.wait()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): it keeps its connections and answers nothing. Raises ChildNotRunning."""
        self._signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT). Raises ChildNotRunning."""
        self._signal(signal.SIGCONT)
        self._paused = False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise ChildNotRunning(self.name)
        self._process.send_signal(number)
