"""`kx case write-off --all-ready`: writes off every case whose work is done, and says of each other one why not."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import grpc.aio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuaixiang.domain import acts
from kuaixiang.domain.words import ClockKind, Stage
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import case_pb2
from kx.client import LATER, channel_to, header_of, method_of, patiently, request_of, run
from kx.options import Acting, Asking, Once, Who
from kx.output import REFUSED_EXIT_CODE, Bar, Failed, wide

READY: Final = (Stage.FED_BACK, Stage.FOLLOWED_UP, Stage.CONCLUDED, Stage.RECONSIDERATION, Stage.WITHDRAWN)
"""Stages at which the work on a case is done; one that was fed back waits for its follow-up while that clock runs."""
PAGE_SIZE: Final = 500
AT_ONCE: Final = 32
"""Acts under way: they share the ledger's commits, and officers at work feel nothing of it."""


@dataclass(slots=True)
class Refused:
    """A case of several that an act was refused for, and why."""

    case_id: str
    message: str
    message_chinese: str
    rule: str
    remedy: str
    remedy_chinese: str


@dataclass(slots=True)
class Outcome:
    """What became of the cases that were ready."""

    written_off: list[str]
    refused: list[Refused]

    @property
    def exit_code(self) -> int:
        """0 when all were written off."""
        return REFUSED_EXIT_CODE if self.refused else 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome in plain values."""
        return {"written_off": self.written_off, "refused": [asdict(one) for one in self.refused]}


def write_off_ready(asking: Asking, who: Who, before: datetime | None, note: str) -> Outcome:
    """Writes off what is ready. Raises `Failed` when the node does not answer; the same again is harmless then."""
    return run(_write_off_ready(asking, who, before, note))


async def _write_off_ready(asking: Asking, who: Who, before: datetime | None, note: str) -> Outcome:
    outcome = Outcome([], [])
    async with channel_to(asking) as channel:
        cases = await _ready(asking, channel, before)
        act = method_of(channel, "CaseService", "WriteOffCase")
        slots = asyncio.Semaphore(AT_ONCE)
        with Bar("Writing off", len(cases)) as bar:

            async def one(case: case_pb2.Case) -> None:
                async with slots:
                    try:
                        await _write_off(asking, act, who, case, note)
                    except Failed as failure:
                        if failure.exit_code != REFUSED_EXIT_CODE:
                            raise
                        outcome.refused.append(refused_of(case.case_id, failure))
                    else:
                        outcome.written_off.append(case.case_id)
                    bar.reached(len(outcome.written_off) + len(outcome.refused))

            await asyncio.gather(*(one(case) for case in cases))
    outcome.written_off.sort()
    outcome.refused.sort(key=lambda refused: refused.case_id)
    return outcome


async def _ready(asking: Asking, channel: grpc.aio.Channel, before: datetime | None) -> list[case_pb2.Case]:
    read = method_of(channel, "CaseService", "ListCases")
    stages: Any = [int(stage) for stage in READY]
    request = case_pb2.ListCasesRequest(bureau=asking.bureau, page_size=PAGE_SIZE, stages=stages)
    if before is not None:
        request.registered_before.CopyFrom(timestamp(before))
    found: list[case_pb2.Case] = []
    while True:
        page = await patiently(asking, lambda seconds: read(request, timeout=seconds), LATER)
        found += [case for case in page.cases if not _waits_for_follow_up(case)]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def _waits_for_follow_up(case: case_pb2.Case) -> bool:
    follow_up = any(int(clock.kind) == ClockKind.FOLLOW_UP for clock in case.clocks)
    return int(case.stage) == Stage.FED_BACK and follow_up


async def _write_off(asking: Asking, act: Any, who: Who, case: case_pb2.Case, note: str) -> None:  # noqa: ANN401
    request = request_of(acts.WriteOff(note=note))
    # The key names the case and the version it was ready at, so that a try whose answer was lost counts once.
    once = Once(f"write-off.{case.case_id}.{case.version}", case.version)
    request.header.CopyFrom(header_of(Acting(asking, who, once), case.case_id))
    await patiently(asking, lambda seconds: act(request, timeout=seconds), LATER)


def refused_of(case_id: str, failure: Failed) -> Refused:
    """A case of several whose act was refused, with the reasons."""
    return Refused(
        case_id=case_id,
        message=failure.sentence.english,
        message_chinese=failure.sentence.chinese,
        rule=failure.rule,
        remedy=failure.remedy.english,
        remedy_chinese=failure.remedy.chinese,
    )


def table_of_refused(title: str, refused: Iterable[Refused]) -> Table:
    """What was refused, with the reasons."""
    table = Table(title=title)
    for heading in ("case", "because", "rule", "do"):
        table.add_column(heading, overflow="fold")
    for one in refused:
        table.add_row(
            one.case_id,
            escape(f"{one.message}\n{one.message_chinese}"),
            one.rule,
            escape(f"{one.remedy}\n{one.remedy_chinese}"),
        )
    return table


def show_written_off(outcome: Outcome) -> None:
    """The refused ones with their reasons, and how many were written off."""
    console = wide(Console(highlight=False))
    if outcome.refused:
        console.print(table_of_refused("Not written off 未销号", outcome.refused))
    console.print(
        f"{len(outcome.written_off)} written off 已销号, {len(outcome.refused)} refused 未销号.", markup=False
    )
