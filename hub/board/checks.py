"""How far the figures can be relied on: which bureaus are complete, and what comparing with the ledgers has found."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from hub.board.sheets import Sheet, Value
from hub.board.view import View
from hub.reconcile import Outcome
from hub.words import LACK_LABELS, Lack
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.runtime.clock import from_micros
from kuaixiang.web.language import Language, shown_instant
from kuaixiang.wire.v1 import statistics_pb2 as pb

PAGE_BUREAUS: Final = 200
GRAVE: Final = frozenset({Lack.QUARANTINED, Lack.RESTORED})
"""What does not mend by itself: somebody has to look at the bureau's ledger."""

_ENGLISH: Final = {
    Lack.NEVER_HEARD: "never heard from",
    Lack.QUARANTINED: "quarantined",
    Lack.BEHIND: "behind",
    Lack.SILENT: "silent lately",
    Lack.RESTORED: "restored with a loss",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One bureau's mark, and what its figures lack."""

    mark: pb.BureauMark
    lack: Lack | None


def lack_name(lack: Lack, language: Language) -> str:
    """Why a bureau's figures are not complete."""
    return LACK_LABELS[lack] if language is Language.CHINESE else _ENGLISH[lack]


async def completeness_page(view: View) -> Response:
    """Every bureau's mark, those that lack something first asked for."""
    found, standings = view.asking.completeness(), await _standings(view)
    lacking = [standing for standing in standings if standing.lack is not None]
    everyone = view.asked.get("show") == "all" or not lacking
    shown = standings if everyone else lacking
    after = view.asked.get("after", "")
    codes = [standing.mark.bureau for standing in shown]
    start = codes.index(after) + 1 if after in codes else 0
    some = shown[start : start + PAGE_BUREAUS]
    more = start + PAGE_BUREAUS < len(shown)
    return view.page(
        "completeness.html",
        found=found,
        standings=some,
        grave=GRAVE,
        everyone=everyone,
        lacking=len(lacking),
        all=len(standings),
        first=view.here() if start else "",
        following=view.here(after=some[-1].mark.bureau) if more else "",
    )


async def completeness_file(view: View) -> Response:
    """Every bureau's mark as a file."""
    headings = (
        "Code",
        "Bureau",
        "State",
        "Reason",
        "Heard from at",
        "Data as of",
        "Entries counted",
        "Entries announced",
        "Entries waiting",
    )
    rows: list[list[Value]] = [
        [
            standing.mark.bureau,
            view.place(standing.mark.bureau),
            view.say("up to date") if standing.lack is None else lack_name(standing.lack, view.language),
            standing.mark.quarantine or standing.mark.restored,
            _instant(standing.mark, "heard_at"),
            _instant(standing.mark, "data_as_of"),
            standing.mark.seq,
            standing.mark.announced_seq,
            standing.mark.parked_entries,
        ]
        for standing in await _standings(view)
    ]
    as_of = view.asking.completeness().data_as_of_us
    sheet = Sheet(
        name=f"completeness-{view.scope}",
        title=view.say("Completeness"),
        headings=[view.say(heading) for heading in headings],
        rows=rows,
        note=view.note(from_micros(as_of) if as_of else None),
    )
    return view.file(sheet, view.visit.request.path_params["format"])


async def reconciliation_page(view: View) -> Response:
    """What the last daily reconciliation has found; after a press, what comparing now finds."""
    outcomes, report = await asyncio.gather(view.asking.outcomes(), _report(view))
    return view.page(
        "reconciliation.html",
        outcomes=_worst_first(outcomes),
        found=sum(outcome.differences for outcome in outcomes),
        unreachable=sum(outcome.unreachable for outcome in outcomes),
        at=max((from_micros(outcome.at_us) for outcome in outcomes), default=None),
        report=report,
    )


async def reconciliation_file(view: View) -> Response:
    """What the last daily reconciliation has found, as a file."""
    headings = ("Code", "Bureau", "Compared at", "Differences", "Result")
    sheet = Sheet(
        name=f"reconciliation-{view.scope}",
        title=view.say("Reconciliation"),
        headings=[view.say(heading) for heading in headings],
        rows=[
            [
                outcome.bureau,
                view.place(outcome.bureau),
                shown_instant(from_micros(outcome.at_us)),
                outcome.differences,
                view.say(verdict(outcome)),
            ]
            for outcome in _worst_first(await view.asking.outcomes())
        ],
        note=view.note(None),
    )
    return view.file(sheet, view.visit.request.path_params["format"])


def verdict(outcome: Outcome) -> str:
    """What was found of one ledger, in English; pages say it in their own language."""
    if outcome.unreachable:
        return "could not be read"
    return "differs" if outcome.differences else "agrees"


# ---------------------------------------------------------------- inside


async def _standings(view: View) -> list[Standing]:
    missing = view.asking.completeness().missing
    return [Standing(mark, missing.get(mark.bureau)) for mark in await view.asking.marks()]


async def _report(view: View) -> pb.ReconcileResponse | None:
    return await view.asking.reconcile() if view.visit.request.method == "POST" else None


def _worst_first(outcomes: list[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda one: (-one.differences, not one.unreachable, one.bureau))


def _instant(mark: pb.BureauMark, field: str) -> str | None:
    if not mark.HasField(field):  # type: ignore[arg-type]  # one of its timestamps, by name
        return None
    return shown_instant(getattr(mark, field).ToDatetime(tzinfo=SHANGHAI))
