"""The whole demonstration: a federation of ten bureaus starts, lives through a fortnight, and is checked.

Headquarters; Beijing, whose counties hang directly under it; Zhejiang with the prefecture Hangzhou between. Each bureau
has a ledger of its own; counties that share a node process do so as in a provincial data centre.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from demo.federation import Federation, part_of
from demo.live import Scene, Show
from demo.mishaps import CATCH_UP_SECONDS_MAX, Mishaps, caught_up
from demo.staff import staff_list
from demo.story import OFFICE_HOURS, Book, Pace, casting, fortnight, play, quiet
from demo.tally import Tally, check
from demo.watch import Watch
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.wire.v1 import statistics_pb2 as pb

PLACEMENT: Final = (
    ("000000",),
    ("110000",),
    ("110101",),
    ("110105", "110108"),
    ("330000",),
    ("330100",),
    ("330106",),
    ("330109", "330122"),
)
"""Node processes and the bureaus whose ledgers each keeps: 东城 | 朝阳, 海淀 | 西湖 | 萧山, 桐庐 are counties."""

VICTIM: Final = "330106"
"""The county whose node is killed; its superior's lives in another process."""

CUT_OFF: Final = "330000"
"""The province whose NATS site is cut off; its nodes still reach headquarters, and each other, by gRPC."""

PROVINCES: Final = ("110000", "330000")

QUIET_SECONDS_MAX: Final = 60.0
"""For hand-overs that the last hour began."""


@dataclass(frozen=True, slots=True)
class Performed:
    """A performance that has come to its end, its federation still running."""

    federation: Federation
    book: Book
    mishaps: Mishaps
    tally: Tally
    reconciliation: pb.ReconcileResponse
    seconds: float
    """Of real time, from the first process to the last check."""
    story_seconds: float
    """Of those, the fortnight itself."""

    next_morning: datetime
    """When the bureaus open again."""

    def an_example(self, bureau: str) -> str:
        """A case that this bureau registered, one that went as far as headquarters if there is one."""
        travelled = [act.case_id for act in self.book.acts if act.bureau == self.federation.tree.root]
        return next((case for case in (*travelled, *self.book.homes) if self.book.homes[case] == bureau), "")

    @property
    def hub_equals_ledgers(self) -> bool:
        """Whether the hub's own reconciliation and our count both found every figure equal."""
        told = self.reconciliation
        return not told.mismatches and not told.unreachable and not self.tally.different

    @property
    def sound(self) -> bool:
        """Whether everything is as it must be."""
        return self.hub_equals_ledgers and self.tally.sound

    def as_dict(self) -> dict[str, Any]:
        """The figures of the whole, as `--json` prints them."""
        tally = self.tally
        return {
            "cases": tally.cases,
            "journal_entries": tally.journal_entries,
            "referrals": tally.referrals,
            "acts": len(self.book.acts),
            "repeated_requests": self.book.repeated,
            "finished": self.book.finished,
            "written_off": tally.written_off,
            "lost": len(tally.lost) + len(tally.lost_acts),
            "duplicated": len(tally.duplicated),
            "broken": len(tally.broken),
            "hub_equals_ledgers": self.hub_equals_ledgers,
            "bureaus": len(self.federation.bureaus),
            "nodes": len(self.federation.nodes),
            "unanswered_attempts": self.mishaps.retries,
            "entries_cut_off": self.mishaps.entries_cut_off,
            "catch_up_seconds": round(self.mishaps.catch_up_seconds, 2),
            "story_seconds": round(self.story_seconds, 2),
            "seconds": round(self.seconds, 2),
        }


@asynccontextmanager
async def performance(
    directory: Path, console: Console, *, cases: int, seed: int, live: bool, tell: Callable[[str], None]
) -> AsyncIterator[Performed]:
    """Perform it all; the federation runs until the block ends.

    `tell` gets sentences on what is being done before and after the fortnight. Raises ProcessError, StoryError,
    NeverSeen, OfficeError.
    """
    begun = time.monotonic()
    hours = fortnight(published_calendar())
    tree = part_of(national_tree(), [code for group in PLACEMENT for code in group])
    plans = casting(tree, hours, cases, seed)
    federation = Federation(
        directory, tree, placement=PLACEMENT, clock_start=hours[0].at, staff=staff_list(tree.bureaus)
    )
    bureaus, sites = len(federation.bureaus), len(federation.sites.all)
    tell(f"Starting {len(PLACEMENT)} nodes for {bureaus} bureaus, {sites} NATS sites and the national hub…")
    async with federation:
        tell(f"They serve after {time.monotonic() - begun:.1f} s. {hours[0].at:%Y-%m-%d} begins.")
        book = Book()
        pace = Pace(hours, federation.clock.advance_to)
        story_begun = time.monotonic()
        async with Watch({bureau: federation.office(bureau) for bureau in federation.bureaus}) as watch:
            mishaps = Mishaps(federation, watch, hours, victim=VICTIM, site=CUT_OFF)
            try:
                async with Show(console, Scene(federation, watch, pace, book, cases, mishaps.cut), live=live) as show:
                    mishaps.shown_by(show)
                    await play(
                        plans=plans,
                        federation=federation,
                        watch=watch,
                        pace=pace,
                        book=book,
                        happenings=mishaps.at,
                        after_hour=show.hour_done,
                    )
                    story_seconds = time.monotonic() - story_begun
                    await mishaps.mend()
                    await quiet(watch, QUIET_SECONDS_MAX)
                    await caught_up(federation, watch.seqs, CATCH_UP_SECONDS_MAX)
            finally:
                await mishaps.close()
        tell(f"The fortnight took {story_seconds:.1f} s. Every ledger is read and compared with the hub…")
        reconciliation, tally = await _checked(federation, book)
        yield Performed(
            federation=federation,
            book=book,
            mishaps=mishaps,
            tally=tally,
            reconciliation=reconciliation,
            seconds=time.monotonic() - begun,
            story_seconds=story_seconds,
            next_morning=_next_morning(hours[-1].at),
        )


def _next_morning(at: datetime) -> datetime:
    """When bureaus open after that instant, the last of the story."""
    day = published_calendar().add_workdays(at.date() - timedelta(days=1), 1)
    return datetime(day.year, day.month, day.day, OFFICE_HOURS[0], tzinfo=SHANGHAI)


async def _checked(federation: Federation, book: Book) -> tuple[pb.ReconcileResponse, Tally]:
    """The hub's own reconciliation and our own count; sweeps may have added an entry between the two."""
    offices = {bureau: federation.office(bureau) for bureau in federation.bureaus}
    reconciliation = await federation.hub().reconcile()
    heads = await asyncio.gather(*(office.head() for office in offices.values()))
    await caught_up(federation, {head.bureau: head.seq for head in heads}, CATCH_UP_SECONDS_MAX)
    return reconciliation, await check(offices, federation.hub(), book.registrations, book.homes, book.acts)
