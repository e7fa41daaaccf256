"""The same node on PostgreSQL and on SQLite, in turns: `python -m bench.postgres`.

Two nodes run side by side, one on SQLite (synchronous=FULL), one on a PostgreSQL server on this machine
(synchronous_commit=on, fsync=on); one at a time is asked to register, by 64 callers and over four streams.
"""

import asyncio
import tempfile
from pathlib import Path

from bench import bulk, nodes, results
from demo.postgres import Postgres
from kuaixiang.wire.v1 import case_pb2_grpc


async def _unary(folder: Path, port: int, cases: int) -> float:
    async with nodes.channel_to(folder, port) as channel:
        stub, message = case_pb2_grpc.CaseServiceStub(channel), nodes.request()
        return await nodes.rate(lambda: stub.RegisterCase(message), cases)


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help="cases in each round (6400)")
    arguments = results.parse(parser)
    cases = arguments.cases or (640 if arguments.short else 6_400)
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, Postgres() as server:
        folder = Path(name)
        nodes.issue(folder)
        key = folder / "postgresql.key"
        with (
            nodes.running(folder) as sqlite,
            nodes.running(folder, database=server.create_database("bench"), data_key=key) as postgresql,
        ):
            for turn in range(arguments.rounds + 1):
                for how, measure in (("register, 64 callers", _unary), ("register in bulk", bulk.registered)):
                    for where, port in (("SQLite", sqlite), ("PostgreSQL", postgresql)):
                        measured = asyncio.run(measure(folder, port, cases))
                        if turn:
                            rates.setdefault((how, where), []).append(measured)
    rows = []
    for how in dict.fromkeys(how for how, _ in rates):
        ours, base = rates[how, "PostgreSQL"], rates[how, "SQLite"]
        rows += [
            results.Row.of(f"{how}, SQLite", base, "1/s"),
            results.Row.of(f"{how}, PostgreSQL", ours, "1/s", "SQLite", base, "≥ 0.6"),
        ]
    results.report("postgres", rows, arguments)


if __name__ == "__main__":
    main()
