"""A process that has imported what nodes and hubs need and forks one when it is asked to: ``python -m tests.faults.nursery``.

Four fifths of what a node takes to start is Python reading its modules, which a thousand kills would pay a thousand times.
It has one thread and no gRPC object, so that what it forks is as good as new: with its own session, log and network, and
orphaned at once, so that it becomes the child of the harness: the first process of its PID namespace, with which all end.

One JSON object a line comes in (`arguments` of `demo.serve`, `log`, `network`: a namespace's file or "", `failing`: null, or
libfiu's name of calls and how likely each of them fails); the process id goes out.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Final

import hub.service
import node.service
from demo.serve import main

READ: Final = (hub.service, node.service)
"""What is forked has read these."""
CLONE_NEWNET: Final = 0x40000000


def born(arguments: list[str], log: Path, network: str, failing: tuple[str, float] | None) -> None:
    """Become the service; never comes back."""
    status = 1
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if network:
            descriptor = os.open(network, os.O_RDONLY)
            if libc.setns(descriptor, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {network}")
            os.close(descriptor)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if failing:
            calls, probability = failing
            libfiu = ctypes.CDLL("libfiu.so.0")
            likely = ctypes.c_float(probability)
            if libfiu.fiu_enable_random(calls.encode(), 1, None, ctypes.c_uint(0), likely):
                raise OSError(f"libfiu does not make {calls} fail")
        status = main(arguments)
    except SystemExit as told:
        status = told.code if isinstance(told.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def deliver(arguments: list[str], log: Path, network: str, failing: tuple[str, float] | None) -> int:
    """Fork the service as an orphan; its process id."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.close(reading)
            os.close(writing)
            born(arguments, log, network, failing)
        os.write(writing, str(child).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(middle, 0)
    with os.fdopen(reading) as told:
        return int(told.read())


def serve() -> None:
    """Fork what is asked for until nobody asks any more."""
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(deliver(asked["arguments"], Path(asked["log"]), asked["network"], asked["failing"]), flush=True)


if __name__ == "__main__":
    serve()
