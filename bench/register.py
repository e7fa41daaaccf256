"""Registering through gRPC, durable, against the echo of the same server: `python -m bench.register`.

One node process (SQLite, synchronous=FULL, mTLS) serves CaseService and an echo of the same request behind the same doors
(limits, certificate, authority); one client process calls each from 64 callers over one channel, in turns. Then the same
with texts of requests that differ from each other, which have three times as many words to be found by.
"""

import asyncio
import itertools
import tempfile
from pathlib import Path

from bench import nodes, results
from demo.content import load_requests
from kuaixiang.wire.v1 import case_pb2_grpc


async def measure(port: int, folder: Path, calls: int, rounds: int) -> dict[str, list[float]]:
    """The rates of each round, after one that is not counted."""
    rates: dict[str, list[float]] = {"echo": [], "register": [], "register, texts that differ": []}
    async with nodes.channel_to(folder, port) as channel:
        echo = nodes.echo_of(channel)
        stub = case_pb2_grpc.CaseServiceStub(channel)
        message = nodes.request()
        texts = itertools.cycle([nodes.request(f"{one.text}{one.reply}"[:120]) for one in load_requests()])
        for turn in range(rounds + 1):
            for name, call in (
                ("echo", lambda: echo(message)),
                ("register", lambda: stub.RegisterCase(message)),
                ("register, texts that differ", lambda: stub.RegisterCase(next(texts))),
            ):
                measured = await nodes.rate(call, calls)
                if turn:
                    rates[name].append(measured)
    return rates


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--calls", type=int, help="calls in each round (6400)")
    arguments = results.parse(parser)
    calls = arguments.calls or (640 if arguments.short else 6400)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes.issue(folder)
        with nodes.running(folder) as port:
            rates = asyncio.run(measure(port, folder, calls, arguments.rounds))
    echo = rates["echo"]
    rows = [
        results.Row.of("echo, 64 callers", echo, "1/s"),
        results.Row.of("register, 64 callers", rates["register"], "1/s", "echo", echo, "≥ 0.75"),
        results.Row.of("register, texts that differ", rates["register, texts that differ"], "1/s", "echo", echo),
    ]
    results.report("register", rows, arguments)


if __name__ == "__main__":
    main()
