"""Services that are forked from a process that has read their modules already (`tests.faults.nursery`)."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from demo.processes import ChildProcess


class Adopted(subprocess.Popen[bytes]):
    """A process that was forked elsewhere and orphaned: we are the first process of its namespace, hence its parent."""

    def __init__(self, pid: int, arguments: Sequence[str]) -> None:
        state: dict[str, Any] = {
            "args": list(arguments),
            "pid": pid,
            "returncode": None,
            "stdin": None,
            "stdout": None,
            "stderr": None,
            "_child_created": True,
            "_waitpid_lock": threading.Lock(),
            "_sigint_wait_secs": 0.25,
        }
        self.__dict__.update(state)


UNDER_LIBFIU: Final = (
    "fiu-run",
    "-x",
    "sh",
    "-c",
    'LD_PRELOAD="libc_malloc_debug.so.0 $LD_PRELOAD" exec "$@"',
    "sh",
)
"""Before a command: calls of the program, and of what it forks, can be made to fail; but memory stays the C library's affair.

fiu-run -x stands before malloc and realloc, too, by code that looks up a variable of its thread. Where a program loads so many
libraries with such variables that the dynamic linker makes their table larger (a hub that compares texts has 34, a node 12),
this look-up inside the table's own realloc frees the table twice: hubs ended by ``free(): double free`` as they read their
modules, whether a call was made to fail or not. The C library's checking malloc, loaded first, is not stood before.
"""


class Nursery:
    """Forks services when it is asked to; as a context manager it begins and ends. `under`: words before its command."""

    def __init__(self, environment: Mapping[str, str], log: Path, under: Sequence[str] = ()) -> None:
        self._environment = dict(environment)
        self._log = log
        self._under = tuple(under)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._under, sys.executable, "-m", "tests.faults.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # OpenBLAS would have threads of its own before the first fork. Whoever ends by a signal tells where.
                env=self._environment
                | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
            )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()

    def fork(
        self, arguments: Sequence[str], log: Path, network: str, failing: tuple[str, float] | None = None
    ) -> Adopted:
        """A new service: `arguments` are those of `demo.serve`, `network` its namespace.

        `failing`: libfiu's name of calls, and how likely each of them fails, in a nursery that is under libfiu.
        """
        with self._lock:
            assert self._process is not None
            assert self._process.stdin is not None
            asked = {"arguments": list(arguments), "log": str(log), "network": network, "failing": failing}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return Adopted(int(self._answer()), arguments)

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"the nursery has ended; see {self._log}")
        return answer


class WarmChild(ChildProcess):
    """A service of the federation, forked.

    For one life, `prefix` before its command makes it a program of its own (what faketime does begins with the program), and
    `failing` are calls that fail (see `Nursery.fork`); `nursery` is asked for one that is under libfiu, or not.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        nursery: Callable[[bool], Nursery],
        network: str,
    ) -> None:
        own = ("nsenter", f"--net={network}", "--", *command)
        super().__init__(name, own, log=log, environment=environment)
        self.prefix: tuple[str, ...] = ()
        self.failing: tuple[str, float] | None = None
        self._own = own
        self._nursery = nursery
        self._network = network
        self._arguments = command[-2:]

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self.prefix:
            at = self._own.index("--") + 1
            self.command = (*self._own[:at], *self.prefix, *self._own[at:])
            self.prefix = ()
            return super()._spawn()
        failing, self.failing = self.failing, None
        return self._nursery(failing is not None).fork(self._arguments, self.log, self._network, failing)
