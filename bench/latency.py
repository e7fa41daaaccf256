"""How long the slowest of a hundred acts takes, against one bare sync and one echo: `python -m bench.latency`.

Sixteen callers register, each again as soon as it is answered (SQLite, synchronous=FULL, mTLS). Against the 99th percentile
of all rounds stands the least that a durable act can take: the median of a write of one page with fdatasync, on the same
disk, and of one echo by one caller of the same server.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import nodes, results
from kuaixiang.wire.v1 import case_pb2_grpc

CALLERS: Final = 16
PAGE: Final = os.urandom(4096)


def syncs(folder: Path, count: int) -> list[float]:
    """Milliseconds of appending a page to a file durably."""
    took = []
    with (folder / "synced").open("ab", buffering=0) as file:
        for _ in range(count):
            started = time.perf_counter()
            file.write(PAGE)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - started) * 1e3)
    return took


async def measure(folder: Path, port: int, calls: int, rounds: int) -> dict[str, list[float]]:
    """All observations, in milliseconds."""
    took: dict[str, list[float]] = {"sync": [], "echo": [], "register": []}
    async with nodes.channel_to(folder, port) as channel:
        echo, message = nodes.echo_of(channel), nodes.request()
        stub = case_pb2_grpc.CaseServiceStub(channel)
        await nodes.latencies(lambda: stub.RegisterCase(message), CALLERS * 4, CALLERS)
        for _ in range(rounds):
            took["sync"] += syncs(folder, calls // 10)
            took["echo"] += await nodes.latencies(lambda: echo(message), calls // 10, 1)
            took["register"] += await nodes.latencies(lambda: stub.RegisterCase(message), calls, CALLERS)
    return took


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--calls", type=int, help="acts in each round (3200)")
    arguments = results.parse(parser)
    calls = arguments.calls or (320 if arguments.short else 3_200)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes.issue(folder)
        with nodes.running(folder) as port:
            took = asyncio.run(measure(folder, port, calls, arguments.rounds))
    sync, echo = statistics.median(took["sync"]), statistics.median(took["echo"])
    acts = sorted(took["register"])
    p50, p99 = statistics.median(acts), acts[int(len(acts) * 0.99)]
    least, against = sync + echo, "one sync and one echo"
    rows = [
        results.Row(name="fdatasync of a page, p50", value=sync, unit="ms"),
        results.Row(name="echo, one caller, p50", value=echo, unit="ms"),
        results.Row(name="register, 16 callers, p50", value=p50, unit="ms", against=against, ratio=p50 / least),
        results.Row(
            name="register, 16 callers, p99", value=p99, unit="ms", against=against, ratio=p99 / least, target="≤ 12"
        ),
    ]
    results.report("latency", rows, arguments)


if __name__ == "__main__":
    main()
