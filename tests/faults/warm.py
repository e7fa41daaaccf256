"""Services that are forked from a process that has read their modules already (`tests.faults.nursery`)."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

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


class Nursery:
    """Forks services when it is asked to; as a context manager it begins and ends."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = dict(environment)
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # OpenBLAS would have threads of its own before the first fork.
                env=self._environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
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

    def fork(self, arguments: Sequence[str], log: Path, network: str) -> Adopted:
        """A new service: `arguments` are those of `demo.serve`, `network` its namespace."""
        with self._lock:
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(
                json.dumps({"arguments": list(arguments), "log": str(log), "network": network}) + "\n"
            )
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
    """A service of the federation, forked; `prefix` before its command makes it a program of its own for one life.

    As under fiu-run or faketime: what they do begins with the program.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        nursery: Callable[[], Nursery],
        network: str,
    ) -> None:
        own = ("nsenter", f"--net={network}", "--", *command)
        super().__init__(name, own, log=log, environment=environment)
        self.prefix: tuple[str, ...] = ()
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
        return self._nursery().fork(self._arguments, self.log, self._network)
