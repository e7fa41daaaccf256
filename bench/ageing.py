"""Whether anything slows with the age of a ledger: `python -m bench.ageing --ledgers FILE`.

The core of a node works (`bench.soak`) in turns at a new database and at an old one, of 100 counties with 10,000 cases
each, which is some 3.3 million entries (`bench.filling` makes it where it is not there); then all but
the latest days of the old one are archived, and both are worked at in turns again. Told are the time of a core for an
act, for a look at all tabs and counts of the work list and for reading a case that is over, each against the new one's,
for opening the old one and for archiving it, and how large the files are. The file that is given is archived by it.
"""

import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bench import results
from bench.filling import have_ledgers, shared_ledgers
from bench.lives import NOW
from bench.soak import SAMPLE_ACTS, Core
from kuaixiang.domain.words import Stage
from kuaixiang.runtime.clock import to_micros
from node.ledger import queries, schema, texts
from node.ledger.ledger import Ledger

ACTS: Final = 1_000
"""Of each round, in each database."""
LOOKS: Final = 20
READ: Final = 100
"""Cases that are read in a round."""
DAYS_KEPT: Final = 20
"""Of the two hundred days of an old ledger, those that are not archived: a tenth, as in the first months of a year."""


class Aged:
    """A database of some age, and what its core took in each round, in milliseconds of a core."""

    def __init__(self, path: Path, bureau: str) -> None:
        started = time.process_time()
        self.core = Core(path, bureau, NOW)
        self.opening = (time.process_time() - started) * 1e3
        self.acts: list[float] = []
        self.looks: list[float] = []
        self.reads: list[float] = []

    async def round(self, acts: int, *, counted: bool) -> None:
        """Acts, then looks, then cases that are over."""
        before = len(self.core.samples)
        await self.core.work(0, acts)
        core = sum(sample.core_seconds for sample in self.core.samples[before:])
        per_act = core * 1e3 / SAMPLE_ACTS / max(1, len(self.core.samples) - before)
        started = time.process_time()
        for _ in range(LOOKS):
            await self.core.look()
        looked = time.process_time()
        over = self._over()
        read = time.process_time()
        for case_id in over:
            queries.history(self.core.ledger.database, self.core.bureau, case_id, private=True)
        if counted:
            self.acts.append(per_act)
            self.looks.append((looked - started) * 1e3 / LOOKS)
            self.reads.append((time.process_time() - read) * 1e3 / max(1, len(over)))

    def _over(self) -> list[str]:
        """Cases that are over, the oldest of the bureau, wherever they are."""
        table = schema.KNOWN_CASES.c
        query = sa.select(table.case_id).where(table.bureau == self.core.bureau, table.stage == int(Stage.WRITTEN_OFF))
        with self.core.ledger.database.reading() as connection:
            return list(connection.execute(query.order_by(table.case_id).limit(READ)).scalars())


async def measure(new: Aged, old: Aged, acts: int, rounds: int) -> None:
    """Both in turns, after a round that is not counted."""
    for turn in range(rounds + 1):
        for one in (new, old):
            await one.round(acts, counted=turn > 0)


def archive(path: Path, bureau: str, days_kept: int) -> tuple[int, float]:
    """Archives all but the latest days of every bureau; how many entries, and in how many seconds of a core."""
    ledger = Ledger(f"sqlite:///{path}", [bureau])
    database = ledger.database
    with database.reading() as connection:
        ends = {row.bureau: row.seq for row in connection.execute(sa.select(schema.BUREAUS))}
    started, entries = time.process_time(), 0
    for one, end in ends.items():
        last = texts.first_seq_at(database, one, to_micros(NOW - timedelta(days=days_kept)), end) - 1
        if last > database.archive.end(one):
            went = database.archive.add(bureau=one, year=NOW.year, last_seq=last, kept=(), now_us=to_micros(NOW))
            entries += went.entries
    database.compact()
    ledger.close()
    return entries, time.process_time() - started


def compared(new: Aged, old: Aged, prefix: str = "") -> list[results.Row]:
    """What the old one took, against the new one."""
    return [
        results.Row.of(f"{prefix}an act", old.acts, "ms of a core", "new", new.acts, "≤ 1.2"),
        results.Row.of(f"{prefix}a look at the work list", old.looks, "ms of a core", "new", new.looks),
        results.Row.of(f"{prefix}reading a case that is over", old.reads, "ms of a core", "new", new.reads),
        results.Row(name=f"{prefix}opening it", value=old.opening, unit="ms of a core"),
    ]


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument(
        "--ledgers",
        type=Path,
        help="a database of as many counties, made where it is not there; acts are added to it, and it is archived",
    )
    arguments = results.parse(parser)
    bureaus, cases = shared_ledgers(short=arguments.short)
    acts = 2 * SAMPLE_ACTS if arguments.short else ACTS
    with tempfile.TemporaryDirectory() as name:
        path = arguments.ledgers or Path(name) / "old.db"
        have_ledgers(path, bureaus, cases)
        new, old = Aged(Path(name) / "new.db", bureaus[0]), Aged(path, bureaus[0])
        asyncio.run(measure(new, old, acts, arguments.rounds))
        with old.core.ledger.database.reading() as connection:
            entries = connection.exec_driver_sql("SELECT sum(seq) FROM bureaus").scalar_one()
        rows = [results.Row(name="entries of the old database", value=float(entries), unit="")]
        old.core.ledger.close()
        size = path.stat().st_size
        rows += [results.Row(name="its size", value=size / 1e6, unit="MB"), *compared(new, old)]
        new.core.ledger.close()
        went, seconds = archive(path, bureaus[0], 0 if arguments.short else DAYS_KEPT)
        new, old = Aged(Path(name) / "again.db", bureaus[0]), Aged(path, bureaus[0])
        asyncio.run(measure(new, old, acts, arguments.rounds))
        for one in (new, old):
            one.core.ledger.close()
        sizes = path.stat().st_size, path.with_name(f"{path.name}.archive").stat().st_size
    rows += [
        results.Row(name="entries archived", value=float(went), unit=""),
        results.Row(name="archiving a thousand of them", value=seconds * 1e6 / max(1, went), unit="ms of a core"),
        results.Row(name="its size then", value=sizes[0] / 1e6, unit="MB", against="before", ratio=sizes[0] / size),
        results.Row(name="the archive's", value=sizes[1] / 1e6, unit="MB"),
        *compared(new, old, "then: "),
    ]
    results.report("ageing", rows, arguments)


if __name__ == "__main__":
    main()
