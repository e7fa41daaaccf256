"""Whether anything slows with the age of a ledger: `python -m bench.ageing --old FILE`.

The core of a node works (`bench.soak`) in turns at a new database and at an old one, of 100 counties with 10,000 cases each,
which is some 3.3 million entries (`bench.filling` makes it, and without a file it is made first). Told are the time of a core
for an act and for a look at all tabs and counts of the work list, each against the new one's, and for opening the old one.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

from bench import results
from bench.filling import counties, fill_by_copies
from bench.million import NOW
from bench.soak import SAMPLE_ACTS, Core

BUREAUS, CASES = 100, 10_000
ACTS: Final = 1_000
"""Of each round, in each database."""
LOOKS: Final = 20


class Aged:
    """A database of some age, and what its core took in each round, in milliseconds of a core."""

    def __init__(self, path: Path, bureau: str) -> None:
        started = time.process_time()
        self.core = Core(path, bureau, NOW)
        self.opening = (time.process_time() - started) * 1e3
        self.acts: list[float] = []
        self.looks: list[float] = []

    async def round(self, acts: int, *, counted: bool) -> None:
        """Acts, then looks."""
        before = len(self.core.samples)
        await self.core.work(0, acts)
        core = sum(sample.core_seconds for sample in self.core.samples[before:])
        per_act = core * 1e3 / SAMPLE_ACTS / max(1, len(self.core.samples) - before)
        started = time.process_time()
        for _ in range(LOOKS):
            await self.core.look()
        if counted:
            self.acts.append(per_act)
            self.looks.append((time.process_time() - started) * 1e3 / LOOKS)


async def measure(new: Aged, old: Aged, acts: int, rounds: int) -> None:
    """Both in turns, after a round that is not counted."""
    for turn in range(rounds + 1):
        for one in (new, old):
            await one.round(acts, counted=turn > 0)


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--old", type=Path, help="a database of a hundred counties; acts are added to the first one's")
    arguments = results.parse(parser)
    bureaus = counties(3 if arguments.short else BUREAUS)
    with tempfile.TemporaryDirectory() as name:
        path = arguments.old or Path(name) / "old.db"
        if not path.exists():
            fill_by_copies(path, bureaus, 100 if arguments.short else CASES)
        new, old = Aged(Path(name) / "new.db", bureaus[0]), Aged(path, bureaus[0])
        asyncio.run(measure(new, old, 2 * SAMPLE_ACTS if arguments.short else ACTS, arguments.rounds))
        with old.core.ledger.database.reading() as connection:
            entries = connection.exec_driver_sql("SELECT sum(seq) FROM bureaus").scalar_one()
        for one in (new, old):
            one.core.ledger.close()
        size = path.stat().st_size
    rows = [
        results.Row(name="entries of the old database", value=float(entries), unit=""),
        results.Row(name="its size", value=size / 1e6, unit="MB"),
        results.Row.of("an act", old.acts, "ms of a core", "new", new.acts, "≤ 1.2"),
        results.Row.of("a look at the work list", old.looks, "ms of a core", "new", new.looks),
        results.Row(name="opening it", value=old.opening, unit="ms of a core"),
    ]
    results.report("ageing", rows, arguments)


if __name__ == "__main__":
    main()
