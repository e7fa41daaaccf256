"""The work list of a county among a million cases: `python -m bench.worklist [--ledgers FILE]`.

One node keeps a database of 100 counties with 10,000 cases each, another one the same first county alone; `bench.filling`
makes the files where they are not there. One caller asks both in turns over gRPC and mutual TLS: for every
tab's first page with what each case is about, for a department's, for a page far down, for the counts of all tabs. The
cost is the node's time of a core for an answer, among the million and alone: others who use the machine do not change it.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import results
from bench.filling import have_ledgers, shared_ledgers
from bench.hosting import node_of, prepare, serves
from bench.million import Ask, questions
from demo.processes import ChildProcess, cpu_seconds, free_port
from kuaixiang.runtime import pki, tls
from kuaixiang.wire.v1 import case_pb2_grpc

ASKED, ASKED_SHORT = 200, 5
"""Of each question: the 99th percentile is then the second longest."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A node and what is asked of it."""

    questions: dict[str, Ask]
    pid: int


@contextlib.asynccontextmanager
async def asked_of(folder: Path, database: Path, bureaus: Sequence[str]) -> AsyncIterator[Asked]:
    """A node for these bureaus, and what the first one's officers ask of it."""
    folder.mkdir()
    prepare(folder, bureaus)
    port = free_port()
    process: ChildProcess = node_of(folder, database, bureaus, port)
    process.start()
    try:
        await serves(port, folder, bureaus[0])
        paths = pki.CertificatePaths.in_folder(folder / "office")
        async with tls.open_channel(f"127.0.0.1:{port}", pki.dns_name("node", bureaus[0]), paths) as channel:
            await channel.channel_ready()
            stub: Any = case_pb2_grpc.CaseServiceStub(channel)
            yield Asked(await questions(stub, bureaus[0]), process.pid)
    finally:
        await asyncio.to_thread(process.stop)


@dataclass(slots=True)
class Taken:
    """What a question took in each round, in milliseconds: the 99th percentile, and the node's time of a core."""

    p99: list[float] = field(default_factory=list)
    core: list[float] = field(default_factory=list)


async def measure(
    folder: Path, databases: tuple[Path, Path], bureaus: Sequence[str], asked: int, rounds: int
) -> dict[str, tuple[Taken, Taken]]:
    """What each question takes among many and alone, in turns."""
    figures: dict[str, tuple[Taken, Taken]] = {}
    async with (
        asked_of(folder / "many", databases[0], bureaus) as many,
        asked_of(folder / "few", databases[1], bureaus[:1]) as few,
    ):
        for name in many.questions:
            figures[name] = (Taken(), Taken())
            for turn in range(rounds + 1):
                for taken, one in zip(figures[name], (many, few), strict=True):
                    p99, core = await ask(one, name, asked)
                    if turn:
                        taken.p99.append(p99)
                        taken.core.append(core)
            print(f"  {name:36} p99 {figures[name][0].p99[-1]:6.1f} ms, {figures[name][0].core[-1]:5.2f} ms of a core")
    return figures


async def ask(of: Asked, name: str, times: int) -> tuple[float, float]:
    """The 99th percentile of a question asked so often by one caller, and what it takes of a core, in milliseconds."""
    took = []
    core = -cpu_seconds(of.pid)
    for _ in range(times):
        started = time.perf_counter()
        await of.questions[name]()
        took.append((time.perf_counter() - started) * 1e3)
    core += cpu_seconds(of.pid)
    return sorted(took)[int(len(took) * 0.99)], core * 1e3 / times


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument(
        "--ledgers", type=Path, help="a database of as many counties, made and kept where it is not there"
    )
    arguments = results.parse(parser)
    bureaus, cases = shared_ledgers(short=arguments.short)
    asked = ASKED_SHORT if arguments.short else ASKED
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few = arguments.ledgers or folder / "many.db", folder / "few.db"
        have_ledgers(many, bureaus, cases)
        have_ledgers(few, bureaus[:1], cases)
        figures = asyncio.run(measure(folder, (many, few), bureaus, asked, arguments.rounds))
    rows = []
    for name, (of_many, of_few) in figures.items():
        # Searches and single cases are told, but are no lists.
        is_list = name.startswith(("tab", "counts", "a department"))
        rows += [
            results.Row.of(f"{name}: p99", of_many.p99, "ms", target="≤ 10" if is_list else ""),
            results.Row.of(f"{name}: time of a core", of_many.core, "ms", "alone", of_few.core, "≤ 1.5"),
        ]
    results.report("worklist", rows, arguments)


if __name__ == "__main__":
    main()
