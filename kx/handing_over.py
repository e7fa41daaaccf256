"""`kx case hand-over`: refers every open case of a bureau to the one that carries on for it, by custody's own rules."""

import asyncio
from dataclasses import asdict, dataclass
from typing import Any, Final

import grpc.aio
from rich.console import Console

from kuaixiang.domain import acts
from kuaixiang.domain.lifecycle import HANDLED_HERE, TRANSITIONS
from kuaixiang.domain.words import Custody, Stage, Telling
from kuaixiang.wire.v1 import case_pb2
from kx.client import LATER, channel_to, header_of, method_of, patiently, request_of, run
from kx.options import Acting, Asking, Once, Who
from kx.output import REFUSED_EXIT_CODE, Bar, Failed, wide
from kx.ready import AT_ONCE, PAGE_SIZE, Refused, refused_of, table_of_refused

UNANSWERED: Final = HANDLED_HERE | {Stage.COMPLETED}
"""Stages in which the taxpayer waits for an answer. Whether such a case can go is for the lifecycle to say: one that is
deferred is to be resumed first, one that is complete is to be fed back by who completed it."""


@dataclass(slots=True)
class Outcome:
    """What became of the open cases. `under_way`: handed over before, and not decided yet by the next bureau."""

    handed_over: list[str]
    refused: list[Refused]
    under_way: list[str]
    answered: int
    """Cases that were answered, or have ended elsewhere, and wait to be written off."""

    @property
    def exit_code(self) -> int:
        """0 when nothing was refused."""
        return REFUSED_EXIT_CODE if self.refused else 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome in plain values."""
        return asdict(self)


def hand_over(asking: Asking, who: Who, to: str, reason: str, told: str) -> Outcome:
    """Refers what is open. Raises `Failed` when the node does not answer; the same again is harmless then."""
    return run(_hand_over(asking, who, to, reason, told))


async def _hand_over(asking: Asking, who: Who, to: str, reason: str, told: str) -> Outcome:
    outcome = Outcome([], [], [], 0)
    async with channel_to(asking) as channel:
        ours: list[case_pb2.Case] = []
        async for case in _open(asking, channel):
            if int(case.custody) == Custody.OFFERED:
                outcome.under_way.append(case.case_id)
            elif int(case.custody) == Custody.OWNED and Stage(case.stage) in UNANSWERED:
                ours.append(case)
            else:
                outcome.answered += 1
        act = method_of(channel, "CaseService", "ReferCase")
        wanted = acts.Refer(final_bureau=to, reason=reason, telling=Telling.TRANSFERRED, told=told)
        slots = asyncio.Semaphore(AT_ONCE)
        with Bar("Handing over", len(ours)) as bar:

            async def one(case: case_pb2.Case) -> None:
                # The key names the case and its version, so that a try whose answer was lost counts once.
                once = Once(f"hand-over.{case.case_id}.{case.version}", case.version)
                request = request_of(wanted)
                request.header.CopyFrom(header_of(Acting(asking, who, once), case.case_id))
                async with slots:
                    try:
                        await patiently(asking, lambda seconds: act(request, timeout=seconds), LATER)
                    except Failed as failure:
                        if failure.exit_code != REFUSED_EXIT_CODE:
                            raise
                        outcome.refused.append(refused_of(case.case_id, failure))
                    else:
                        outcome.handed_over.append(case.case_id)
                    bar.reached(len(outcome.handed_over) + len(outcome.refused))

            await asyncio.gather(*(one(case) for case in ours))
    outcome.handed_over.sort()
    outcome.refused.sort(key=lambda refused: refused.case_id)
    return outcome


async def _open(asking: Asking, channel: grpc.aio.Channel) -> Any:  # noqa: ANN401 - an asynchronous generator of cases
    read = method_of(channel, "CaseService", "ListCases")
    stages: Any = [int(stage) for stage in TRANSITIONS if stage is not Stage.WRITTEN_OFF]
    request = case_pb2.ListCasesRequest(bureau=asking.bureau, page_size=PAGE_SIZE, stages=stages)
    while True:
        page = await patiently(asking, lambda seconds: read(request, timeout=seconds), LATER)
        for case in page.cases:
            yield case
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def show_handed_over(outcome: Outcome, to: str) -> None:
    """The refused ones with their reasons, and how many went."""
    console = wide(Console(highlight=False))
    if outcome.refused:
        console.print(table_of_refused("Not handed over 未移交", outcome.refused))
    console.print(
        f"{len(outcome.handed_over)} handed over to {to} 已移交, {len(outcome.refused)} refused 未移交, "
        f"{len(outcome.under_way)} under way 移交中, {outcome.answered} to be written off 待销号.",
        markup=False,
    )
