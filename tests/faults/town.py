"""Officers at work in a federation that suffers, and what is read of its ledgers when it is over."""

import asyncio
import random
import time
from collections import Counter

from demo.federation import Federation
from demo.officers import NoAnswer, Officer
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.words import Category, Channel, ClockKind, Custody, Role, Satisfaction, Stage, Telling
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import case_pb2
from kuaixiang.wire.v1.statistics_pb2 import GROUPING_EVERY_BUREAU
from tests.faults.checker.history import Came, HubView, Journal, Operation

QUIET_SECONDS_MAX = 300.0
"""A courier's pause is a minute at most, and the machine may be busy with other things."""


class Town:
    """The officers' side: random acts at random bureaus, and what came of each.

    Between two acts an officer pauses up to `pause_seconds_max`.
    """

    def __init__(self, federation: Federation, chance: random.Random, pause_seconds_max: float = 0.0) -> None:
        self.operations: list[Operation] = []
        self.over = False
        self._federation = federation
        self._chance = chance
        self._pause_seconds_max = pause_seconds_max
        self._cases: list[str] = []
        self._number = 0

    async def clerk(self) -> None:
        """One officer after the other, until it is over."""
        while not self.over:
            bureau = self._chance.choice(self._federation.bureaus)
            if not self._cases or self._chance.random() < 0.25:
                await self._register(bureau)
            else:
                await self._go_on(bureau, self._chance.choice(self._cases[-80:]))
            if self._pause_seconds_max:
                await asyncio.sleep(self._chance.uniform(0, self._pause_seconds_max))

    async def _register(self, bureau: str) -> None:
        number = self._number
        act = acts.Register(
            taxpayer_name="澄筠野百货商行",
            contact="15400001234",
            text="季度销售额没有超过三十万元，两张专票要不要单独缴税？",
            category=self._chance.choice(tuple(Category)),
            channel=Channel.COUNTER,
            channel_reference=f"number-{number}",
        )
        case_id = await self._do(bureau, Role.REGISTRAR, act)
        if case_id:
            self._cases.append(case_id)

    async def _go_on(self, bureau: str, case_id: str) -> None:
        try:
            seen = (await self._federation.office(bureau).get(case_id)).case
        except (RemoteRefusal, NoAnswer):
            return
        role, act = self._next(bureau, seen)
        await self._do(bureau, role, act, case_id)

    def _next(self, bureau: str, seen: case_pb2.Case) -> tuple[Role, Act]:
        """Something that may be possible; others work on the same case, so that it often is not any more."""
        away = acts.Refer(
            final_bureau=self._chance.choice([other for other in self._federation.bureaus if other != bureau]),
            reason="移交",
            telling=Telling.COMPLICATED,
        )
        if Custody(seen.custody) is Custody.OFFERED:
            return Role.TAX_SERVICE, acts.WithdrawOffer(reason="收回")
        choices: dict[Stage, list[tuple[Role, Act]]] = {
            Stage.REGISTERED: [
                (Role.REGISTRAR, acts.Forward(telling=Telling.COMPLICATED)),
                (Role.REGISTRAR, away),
                (Role.REGISTRAR, acts.AnswerOnTheSpot(answer="不用缴税")),
            ],
            Stage.FORWARDED: [
                (Role.TAX_SERVICE, acts.Dispatch(to_department="goods-services-tax")),
                (Role.TAX_SERVICE, away),
                (Role.TAX_SERVICE, acts.Return(reason="不属本局")),
            ],
            Stage.HANDLING: [
                (Role.HANDLER, acts.Complete(result="不用缴税")),
                (Role.HANDLER, away),
                (Role.HANDLER, acts.Return(reason="不属本局")),
            ],
            Stage.COMPLETED: [(Role.HANDLER, acts.GiveFeedback(told_by=Channel.HOTLINE, told="已电话告知"))],
            Stage.FED_BACK: [
                (Role.TAX_SERVICE, acts.FollowUp(satisfaction=Satisfaction.SATISFIED)),
                (Role.TAX_SERVICE, acts.Reopen(reason="仍有疑问")),
                (Role.TAX_SERVICE, acts.WriteOff()),
            ],
        }
        fallback: list[tuple[Role, Act]] = [(Role.TAX_SERVICE, acts.WriteOff())]
        return self._chance.choice(choices.get(Stage(seen.stage), fallback))

    async def _do(self, bureau: str, role: Role, act: Act, case_id: str = "") -> str:
        """Does one act by an actor of its own and keeps what was answered; the case's number when it is done."""
        self._number += 1
        actor = f"officer-{self._number}"
        officer = Officer(actor, role, "tax-service" if role is not Role.HANDLER else "goods-services-tax")
        invoked_at = time.monotonic()

        def came(how: Came, case_id: str = "", seq: int = 0) -> None:
            self.operations.append(
                Operation(
                    actor=actor,
                    bureau=bureau,
                    act=type(act).__name__,
                    came=how,
                    case_id=case_id,
                    seq=seq,
                    invoked_at=invoked_at,
                    completed_at=time.monotonic(),
                    may_be_so=isinstance(act, acts.WithdrawOffer),
                )
            )

        try:
            done = await self._federation.office(bureau).do(officer, act, case_id, key=f"key-{self._number}")
        except RemoteRefusal:
            came(Came.REFUSED, case_id)
            return ""
        except NoAnswer:
            came(Came.UNKNOWN, case_id)
            return ""
        came(Came.OK, done.case.case_id, done.seq)
        return done.case.case_id

    def count(self) -> Counter[Came]:
        """How many acts came to what."""
        return Counter(operation.came for operation in self.operations)


async def quiet(federation: Federation) -> list[str]:
    """Waits until no bureau owes another anything; what is still owed when it takes too long."""
    deadline = asyncio.get_running_loop().time() + QUIET_SECONDS_MAX
    while True:
        owed = [
            f"{bureau} owes {case.case_id} ({Custody(case.custody).name}, {list(case.awaiting_acknowledgement)})"
            for bureau in federation.bureaus
            async for case in federation.office(bureau).cases()
            if Custody(case.custody) is Custody.OFFERED or case.awaiting_acknowledgement
        ]
        if not owed or asyncio.get_running_loop().time() > deadline:
            return owed
        await asyncio.sleep(0.2)


async def journals_of(federation: Federation) -> dict[str, Journal]:
    """Every journal, whole."""
    found = {}
    for bureau in federation.bureaus:
        office = federation.office(bureau)
        segments = await office.journal()
        found[bureau] = Journal(await office.head(), segments)
    return found


async def hub_view(federation: Federation) -> HubView:
    """What the hub of headquarters says."""
    figures = await federation.hub().figures(GROUPING_EVERY_BUREAU)
    facts = {row.key: dict(row.facts) for row in figures.rows}
    for row in figures.rows:
        for clock in row.clocks:
            kind = ClockKind(clock.kind).name.lower()
            facts[row.key] |= {f"{kind}_met": clock.met, f"{kind}_missed": clock.missed}
    marks = (await federation.hub().completeness()).marks
    return HubView(
        facts=facts,
        marks={mark.bureau: (mark.generation, mark.seq, mark.hash) for mark in marks},
        quarantined={mark.bureau: mark.quarantine for mark in marks if mark.quarantine},
    )
