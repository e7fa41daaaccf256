"""Registering in bulk over streams, durably, against the bare database: `python -m bench.bulk`.

A client sends cases over four bidirectional streams, a hundred in a message, to a node (SQLite, synchronous=FULL, mTLS)
and counts those that are acknowledged. Against it stands what no ledger on SQLite can pass: the very rows that the node has written, put into an
empty database of the same form by `executemany`, committed in hundreds, by a program that does nothing else.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from bench import nodes, results
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc
from node.ledger.ledger import Ledger

STREAMS: Final = 4
MESSAGE_CASES: Final = 100
"""Cases of one message, as `kx case register-bulk` has them."""
COMMIT_ROWS: Final = 100
"""Cases of one commit of the bare database."""
PRAGMAS: Final = ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "cache_size = -65536")
"""As the node has them."""


async def registered(folder: Path, port: int, cases: int) -> float:
    """Cases a second that are acknowledged as durable over all streams."""

    async def requests() -> AsyncIterator[case_pb2.RegisterCasesRequest]:
        one = nodes.request()
        for at in range(0, cases // STREAMS, MESSAGE_CASES):
            count = min(MESSAGE_CASES, cases // STREAMS - at)
            yield case_pb2.RegisterCasesRequest(registrations=[one] * count)

    async def stream(stub: Any) -> int:
        accepted = 0
        async for response in stub.RegisterCases(requests()):
            accepted += sum(answer.HasField("accepted") for answer in response.answers)
        return accepted

    async with nodes.channel_to(folder, port) as channel:
        stub = case_pb2_grpc.CaseServiceStub(channel)
        started = time.perf_counter()
        accepted = await asyncio.gather(*(stream(stub) for _ in range(STREAMS)))
        seconds = time.perf_counter() - started
    assert sum(accepted) == cases
    return cases / seconds


def bare(folder: Path, written: Path, cases: int) -> float:
    """Cases a second whose rows are put into an empty database."""
    path = folder / "bare.db"
    Ledger(f"sqlite:///{path}", [nodes.BUREAU], folder / "bare.key").close()
    with sqlite3.connect(written) as source:
        tables = [name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # What each case has a row in; the index of words fills itself.
        rows = {
            name: found
            for name in tables
            if not name.startswith(("case_words_index", "sqlite_"))
            and len(found := source.execute(f"SELECT * FROM {name}").fetchall()) >= cases
        }
    source.close()
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        database.execute(f"PRAGMA {pragma}")
    insert = {name: f"INSERT INTO {name} VALUES ({', '.join('?' * len(some[0]))})" for name, some in rows.items()}
    started = time.perf_counter()
    for at in range(0, cases, COMMIT_ROWS):
        database.execute("BEGIN IMMEDIATE")
        for name, some in rows.items():
            database.executemany(insert[name], some[at : at + COMMIT_ROWS])
        database.execute("COMMIT")
    seconds = time.perf_counter() - started
    database.close()
    return cases / seconds


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help="cases in each round (12800)")
    arguments = results.parse(parser)
    cases = arguments.cases or (1_280 if arguments.short else 12_800)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            nodes.issue(folder)
            with nodes.running(folder) as port:
                ours.append(asyncio.run(registered(folder, port, cases)))
            theirs.append(bare(folder, folder / f"{nodes.BUREAU}.db", cases))
    rows = [
        results.Row.of("bare executemany, in hundreds", theirs, "cases/s"),
        results.Row.of("register in bulk, acknowledged", ours, "cases/s", "bare executemany", theirs, "≥ 0.40"),
    ]
    results.report("bulk", rows, arguments)


if __name__ == "__main__":
    main()
