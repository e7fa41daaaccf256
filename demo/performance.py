"""The whole demonstration: a federation of ten bureaus starts, lives through a fortnight, is checked, and reported on.

Headquarters; Beijing, whose counties hang directly under it; Zhejiang with the prefecture Hangzhou between. Each bureau
has a ledger of its own; counties that share a node process do so as in a provincial data centre.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from demo.federation import Federation, part_of
from demo.live import Scene, Show
from demo.mishaps import CATCH_UP_SECONDS_MAX, Mishaps, caught_up
from demo.older_copy import Exercise, OlderCounty
from demo.picture import Sight
from demo.staff import staff_list
from demo.stage.app import Stage
from demo.story import Book, Pace, casting, fortnight, next_morning, office_hour, play, quiet, registrations_of
from demo.supervision import Superiors, amended_calendar
from demo.tally import Tally, check, compare_pairs
from demo.watch import Watch
from hub.bulletin.document import Format
from kuaixiang.domain.periods import parse_period
from kuaixiang.facts import national_tree, parse_calendar, published_calendar
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

COPY_DAY: Final = 1
"""Working day, from 0, at whose beginning a county's ledger is copied, to be found wanting later."""

BULLETIN_PERIOD: Final = "2026-09"
"""The month that is over by the end of the fortnight."""

QUIET_SECONDS_MAX: Final = 120.0
"""For hand-overs that the last hour began."""


class Pages(Enum):
    """Whether a performance has web pages, and from when on its stage is served."""

    NONE = auto()
    AFTERWARDS = auto()
    FROM_THE_START = auto()


@dataclass(frozen=True, slots=True)
class Performed:
    """A performance that has come to its end, its federation still running."""

    federation: Federation
    book: Book
    mishaps: Mishaps
    tally: Tally
    reconciliation: pb.ReconcileResponse
    exercise: Exercise
    """What reconciliation said of a ledger that had lost cases."""
    bulletin: tuple[Path, ...]
    """The files of the bulletin."""
    seconds: float
    """Of real time, from the first process to the last check."""
    story_seconds: float
    """Of those, the fortnight itself."""

    next_morning: datetime
    """When the bureaus open again."""
    stage: Stage | None
    """The page of the demonstration, its controls closed until they are opened; None where there are no pages."""

    def an_example(self, bureau: str) -> str:
        """A case that this bureau registered, one that went as far as headquarters if there is one."""
        travelled = [act.case_id for act in self.book.acts if act.bureau == self.federation.tree.root]
        return next((case for case in (*travelled, *self.book.homes) if self.book.homes[case] == bureau), "")

    @property
    def hub_equals_ledgers(self) -> bool:
        """Whether the hub's own reconciliation and our count both found every figure equal."""
        return self.tally.hub_equals_ledgers(self.reconciliation)

    @property
    def sound(self) -> bool:
        """Whether everything is as it must be."""
        return self.hub_equals_ledgers and self.tally.sound and self.exercise.found and self.exercise.mended

    def as_dict(self) -> dict[str, Any]:
        """The figures of the whole, as `--json` prints them."""
        tally, exercise, events = self.tally, self.exercise, self.tally.events
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
            "pairs_that_differ": len(tally.unreconciled),
            "extensions": {
                "approved": events["extension_approved"],
                "refused": events["extension_refused"],
                "explained": events["extension_explained"],
            },
            "joint": events["joint_handling_started"],
            "deferred": events["deferred"],
            "reviews_close": tally.reviews_close,
            "resumed": events["resumed"],
            "linked": events["linked"],
            "duplicates_found": self.book.duplicates_found,
            "completed_with_lead": tally.completed_with_lead,
            "attachments_travelled": self.book.attachments,
            "rulings": events["ruled"],
            "orders": {
                "issued": tally.orders,
                "cascaded": tally.orders_derived,
                "answers": tally.order_answers,
                "answers_returned": tally.order_answers_returned,
                "accepted": tally.orders_closed,
            },
            "calendar": {
                "version": self.book.calendar,
                "adopted_by": events["calendar_adopted"],
                "deadlines_recomputed": events["clocks_recomputed"],
            },
            "tree": {"version": self.book.tree, "adopted_by": events["tree_adopted"]},
            "older_copy": {
                "cases_lost": len(exercise.handed_over),
                "cases_named": dict(exercise.named),
                "fault_found": exercise.found,
                "takes_no_acts": bool(exercise.refused),
                "entries_put_back": exercise.restored.refilled,
                "generation": exercise.restored.generation,
                "private_lost": len([part for part in exercise.restored.private if not part.from_bureau]),
                "differences_after": exercise.after,
            },
            "bulletin": [str(file) for file in self.bulletin],
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
    directory: Path,
    bulletin: Path,
    console: Console,
    *,
    cases: int,
    seed: int,
    live: bool,
    tell: Callable[[str], None],
    pages: Pages = Pages.NONE,
) -> AsyncIterator[Performed]:
    """Perform it all; the federation runs until the block ends. The bulletin's files go to a folder of that name.

    `pages` says whether there are desks, a board and the stage, and from when on the stage is served. `tell` gets
    sentences on what is being done before and after the fortnight. Raises ProcessError, StoryError, NeverSeen,
    OfficeError.
    """
    begun = time.monotonic()
    hours = fortnight(published_calendar())
    tree = part_of(national_tree(), [code for group in PLACEMENT for code in group])
    plans = casting(tree, hours, cases, seed)
    federation = Federation(
        directory,
        tree,
        placement=PLACEMENT,
        clock_start=hours[0].at,
        staff=staff_list,
        pages=pages is not Pages.NONE,
    )
    older = OlderCounty(federation)
    bureaus, sites = len(federation.bureaus), len(federation.sites.all)
    tell(f"Starting {len(PLACEMENT)} nodes for {bureaus} bureaus, {sites} NATS sites and the national hub…")
    calendar = parse_calendar(amended_calendar())
    async with federation, AsyncExitStack() as seen:
        tell(f"They serve after {time.monotonic() - begun:.1f} s. {hours[0].at:%Y-%m-%d} begins.")
        book = Book()
        pace = Pace(hours, federation.clock.advance_to)
        story_begun = time.monotonic()
        watch = await seen.enter_async_context(
            Watch({bureau: federation.office(bureau) for bureau in federation.bureaus})
        )
        sight = await seen.enter_async_context(Sight(federation, watch))
        stage = None
        if pages is Pages.FROM_THE_START:
            stage = await seen.enter_async_context(Stage(sight, calendar))
            tell(f"The stage 演示台, from where one can watch: {stage.url}")
        mishaps = Mishaps(federation, watch, hours, victim=VICTIM, site=CUT_OFF)
        try:
            async with Show(console, Scene(sight, pace, book, registrations_of(plans)), live=live) as show:
                mishaps.shown_by(show)
                await play(
                    plans=plans,
                    errands=[
                        *Superiors(federation, watch, pace, book).errands(hours),
                        older.errand(office_hour(hours, COPY_DAY)),
                    ],
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
        if pages is Pages.NONE:
            await seen.aclose()
        tell(f"The fortnight took {story_seconds:.1f} s. Every ledger is read and compared with the hub…")
        reconciliation, tally = await _checked(federation, book)
        files = await _write_bulletin(federation, bulletin)
        tell("Two ledgers are started from copies, one of them an older copy: what has it lost?")
        exercise = await older.hold(hours[-1].at)
        if pages is Pages.AFTERWARDS:
            stage = await seen.enter_async_context(Stage(sight, calendar))
        yield Performed(
            federation=federation,
            book=book,
            mishaps=mishaps,
            tally=tally,
            reconciliation=reconciliation,
            exercise=exercise,
            bulletin=files,
            seconds=time.monotonic() - begun,
            story_seconds=story_seconds,
            next_morning=next_morning(calendar, hours[-1].at),
            stage=stage,
        )


async def _write_bulletin(federation: Federation, folder: Path) -> tuple[Path, ...]:
    """The bulletin of the month that is over, its common issues looked for first, as a page, a document, a workbook."""
    month = parse_period(BULLETIN_PERIOD)
    await federation.hub().find_issues(month.first.isoformat(), month.last.isoformat())
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for form in Format:
        answer = await federation.hub().bulletin(BULLETIN_PERIOD, form.value)
        file = folder / answer.file_name
        await asyncio.to_thread(file.write_bytes, answer.content)
        written.append(file)
    return tuple(written)


async def _checked(federation: Federation, book: Book) -> tuple[pb.ReconcileResponse, Tally]:
    """Each pair of ledgers, the hub's own reconciliation, and our own count.

    Sweeps, and the comparing itself, may have added an entry before the last of them.
    """
    offices = {bureau: federation.office(bureau) for bureau in federation.bureaus}
    tree = federation.tree
    superior_of = {bureau: above for bureau in offices if (above := tree.parent(bureau)) is not None}
    unreconciled = await compare_pairs(offices, superior_of)
    await _hub_has_all(federation)
    reconciliation = await federation.hub().reconcile()
    await _hub_has_all(federation)
    tally = await check(offices, federation.hub(), book.registrations, book.homes, book.acts)
    tally.unreconciled += unreconciled
    return reconciliation, tally


async def _hub_has_all(federation: Federation) -> None:
    heads = await asyncio.gather(*(federation.office(bureau).head() for bureau in federation.bureaus))
    await caught_up(federation, {head.bureau: head.seq for head in heads}, CATCH_UP_SECONDS_MAX)
