"""A federation under random faults while its officers work: nothing acknowledged is lost, doubled or stranded.

Nodes, the hub and the NATS servers are killed (kill -9) or frozen, links cut, and the clock moves on, in an order that
the seed decides; what coincides with what is up to the machine. The seed is printed. `make test-faults` runs it for
longer: KX_TEST_FAULTS is the number of faults, KX_TEST_SEED repeats a seed.
"""

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from demo.federation import Federation, part_of
from demo.mishaps import caught_up
from demo.officers import NoAnswer, Officer
from demo.processes import ChildProcess, ProcessError
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import Category, Channel, Custody, Role, Satisfaction, Stage, Telling
from kuaixiang.facts import national_tree
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import case_pb2
from tests.faults.evidence import Answered, Journal, faults_found, fold

FAULTS = int(os.environ.get("KX_TEST_FAULTS", "4"))
SEED = int(os.environ.get("KX_TEST_SEED", "0")) or secrets.randbelow(10**9) + 1
MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR = BUREAUS = ("000000", "110000", "110101", "110105")
CLERKS = 24
"""Officers at work at once: hundreds of acts and dozens of referrals are under way in the time of a few faults."""
QUIET_SECONDS_MAX = 90.0
"""A courier's pause is a minute at most."""
FAULT_SECONDS_MAX = 20.0
"""Killing and starting again on a busy machine; bounds the test's own time."""


class Town:
    """The officers' side: random acts at random bureaus, and what came of each."""

    def __init__(self, federation: Federation, chance: random.Random) -> None:
        self.answered: list[Answered] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self.over = False
        self._federation = federation
        self._chance = chance
        self._cases: list[str] = []
        self._number = 0

    async def clerk(self) -> None:
        """One officer after the other, until it is over."""
        while not self.over:
            bureau = self._chance.choice(BUREAUS)
            if not self._cases or self._chance.random() < 0.25:
                await self._register(bureau)
            else:
                await self._go_on(bureau, self._chance.choice(self._cases[-80:]))

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
            final_bureau=self._chance.choice([other for other in BUREAUS if other != bureau]),
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
        try:
            done = await self._federation.office(bureau).do(officer, act, case_id, key=f"key-{self._number}")
        except RemoteRefusal:
            self.refused.append(actor)
            return ""
        except NoAnswer:
            self.unknown.append(actor)
            return ""
        self.answered.append(Answered(bureau, done.case.case_id, actor, done.seq, isinstance(act, acts.WithdrawOffer)))
        return done.case.case_id


class Saboteur:
    """Does the harm, one fault after the other, and mends it."""

    def __init__(self, federation: Federation, chance: random.Random) -> None:
        self._federation = federation
        self._chance = chance

    async def rage(self, faults: int) -> None:
        harms: list[Callable[[], Awaitable[str]]] = [
            self._kill_node,
            self._kill_node,
            self._freeze_node,
            self._kill_hub,
            self._kill_site,
            self._cut_link,
            self._clock_moves,
        ]
        for number in range(1, faults + 1):
            await asyncio.sleep(self._chance.uniform(0.2, 1.2))
            begun = time.monotonic()
            told = await self._chance.choice(harms)()
            print(f"fault {number}: {told}, {time.monotonic() - begun:.1f} s")

    async def _kill_node(self) -> str:
        # Two at once now and then: a hand-over then has neither of its ends.
        victims = self._chance.sample(BUREAUS, self._chance.choice([1, 1, 2]))
        for bureau in victims:
            await self._federation.kill_node(bureau)
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        for bureau in victims:
            await self._federation.restart_node(bureau)
        return f"kill -9 of {' and '.join(victims)}"

    async def _freeze_node(self) -> str:
        bureau = self._chance.choice(BUREAUS)
        async with frozen(self._federation.node(bureau).process):
            await asyncio.sleep(self._chance.uniform(0.5, 2))
        return f"{bureau} stood still"

    async def _kill_hub(self) -> str:
        await self._federation.kill_hub(HEADQUARTERS)
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        await self._federation.restart_hub(HEADQUARTERS)
        return "kill -9 of the hub"

    async def _kill_site(self) -> str:
        site = self._chance.choice([HEADQUARTERS, PROVINCE])
        await asyncio.to_thread(self._federation.sites.kill_site, site)
        await asyncio.to_thread(self._federation.sites.restart_site, site)
        return f"kill -9 of the nats-server of {site}"

    async def _cut_link(self) -> str:
        await self._federation.cut_link(PROVINCE)
        await asyncio.sleep(self._chance.uniform(0.2, 1.5))
        await self._federation.restore_link(PROVINCE)
        return f"the leaf link of {PROVINCE} was cut"

    async def _clock_moves(self) -> str:
        hours = self._chance.choice([1, 8, 24])
        self._federation.clock.advance(timedelta(hours=hours))
        return f"{hours} hours pass at once"


@contextlib.asynccontextmanager
async def frozen(process: ChildProcess) -> AsyncIterator[None]:
    """The process stands still for the time of the block."""
    process.pause()
    try:
        yield
    finally:
        process.resume()


async def quiet(federation: Federation) -> list[str]:
    """Waits until no bureau owes another anything; what is still owed when it takes too long."""
    deadline = asyncio.get_running_loop().time() + QUIET_SECONDS_MAX
    while True:
        owed = [
            f"{bureau} owes {case.case_id} ({Custody(case.custody).name}, {list(case.awaiting_acknowledgement)})"
            for bureau in BUREAUS
            async for case in federation.office(bureau).cases()
            if Custody(case.custody) is Custody.OFFERED or case.awaiting_acknowledgement
        ]
        if not owed or asyncio.get_running_loop().time() > deadline:
            return owed
        await asyncio.sleep(0.2)


async def journals_of(federation: Federation) -> dict[str, Journal]:
    """Every journal, whole."""
    found = {}
    for bureau in BUREAUS:
        office = federation.office(bureau)
        segments = await office.journal()
        found[bureau] = Journal(await office.head(), segments)
    return found


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(180 + FAULT_SECONDS_MAX * FAULTS)
async def test_what_was_acknowledged_under_random_faults_is_there_once_and_the_hub_says_the_same(
    tmp_path: Path,
) -> None:
    print(f"seed {SEED}, {FAULTS} faults (KX_TEST_SEED={SEED} KX_TEST_FAULTS={FAULTS} repeats them)")
    chance = random.Random(SEED)
    tree = part_of(national_tree(), [COUNTY, NEIGHBOUR])
    async with Federation(
        tmp_path, tree, placement=[(bureau,) for bureau in BUREAUS], clock_start=MONDAY
    ) as federation:
        town = Town(federation, random.Random(SEED + 1))
        clerks = [asyncio.create_task(town.clerk()) for _ in range(CLERKS)]
        try:
            await Saboteur(federation, chance).rage(FAULTS)
        finally:
            town.over = True
            outcomes = await asyncio.gather(*clerks, return_exceptions=True)
        assert [outcome for outcome in outcomes if outcome is not None] == []
        owed = await quiet(federation)
        journals = await journals_of(federation)
        listed = {
            bureau: {
                case.case_id: (Stage(case.stage), Custody(case.custody))
                async for case in federation.office(bureau).cases()
            }
            for bureau in BUREAUS
        }
        with contextlib.suppress(ProcessError):  # what the hub lacks is in the reconciliation, by name
            await caught_up(federation, {bureau: journals[bureau].head.seq for bureau in BUREAUS}, QUIET_SECONDS_MAX)
        reconciled = await federation.hub().reconcile()
    folded = fold(journals)
    print(
        f"{len(town.answered)} acts answered, {len(town.refused)} refused, {len(town.unknown)} unknown; "
        f"{len(folded)} cases, {sum(len(known) > 1 for known in folded.values())} in several ledgers, "
        f"{sum(journal.head.seq for journal in journals.values())} entries"
    )
    assert owed == []
    assert faults_found(journals, town.answered, town.refused) == []
    for bureau in BUREAUS:
        by_journal = {case_id: known[bureau] for case_id, known in folded.items() if bureau in known}
        assert {case_id: (case.stage, case.custody) for case_id, case in by_journal.items()} == listed[bureau]
    assert list(reconciled.mismatches) == []
    assert (reconciled.ledgers_compared, list(reconciled.unreachable)) == (len(BUREAUS), [])
    assert len(town.answered) > 10 * FAULTS
