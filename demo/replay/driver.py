"""Playing a plan: every step of every case as an act at its bureau, at its own time, through real nodes.

How the business clock and the acts go together:

- The steps of all cases are taken in the order of their times. Before a step is taken, the clock shows its time at
  least; its act carries that time itself. Steps of different cases are under way together, those of one case follow
  each other.
- A referral is received when it arrives, by the clock of the receiver. So that the receiver's handling clock starts
  on the day of the hand-over and its next act does not come before the receipt, the clock is not moved to the next
  step of a case, nor to another day in Shanghai, before the case has arrived.
- A deadline passes at midnight. The clock is not moved to another day while a step is under way, lest the sweep find
  overdue what was done in time.
"""

import asyncio
import datetime as dt
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from demo.federation import Federation
from demo.officers import NoAnswer, Office, Officer, request_of
from demo.registrations import RegistrationRefused, Registrations
from demo.replay.log import CaseHistory, Complete, Depart, HandOver, Plan, Resume, Step, Wait
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.registration import REFERENCE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from kuaixiang.domain.words import Custody, Role, Telling
from kuaixiang.wire.errors import RemoteRefusal

STEPS_UNDER_WAY_MAX: Final = 128
"""Enough that each commit of each node is shared by dozens; more only makes each wait longer."""

ARRIVAL_LOOK_SECONDS: Final = 0.01
"""Between two looks whether a referral has arrived, at first; a hop takes some tens of milliseconds."""

ARRIVAL_LOOK_SECONDS_MAX: Final = 0.1
"""The same, at last."""

ARRIVAL_SECONDS_MAX: Final = 120.0
"""A referral over a dozen hops takes a second; a node that has to be started again, some more."""

FRONT_DESK: Final = "front-desk"
"""The department that registers, and handles where the log names no other."""

REGISTRAR: Final = Officer("registrar", Role.REGISTRAR, FRONT_DESK)
TAX_SERVICE: Final = Officer("tax-service", Role.TAX_SERVICE, "tax-service")
HANDLER: Final = "handler"

TAXPAYER: Final = "回放纳税人"
CONTACT: Final = "replay@example.com"
"""The logs name nobody, and the ledger asks for a name and a contact."""

REVIEW_AFTER: Final = dt.timedelta(days=30)
"""A deferred case is looked at again (§四(二)1); the logs do not say when."""


class ReplayFailed(Exception):
    """A step could not be played; the replay ends, as its figures would be worth nothing."""

    def __init__(self, case_ref: str, step: str, at: dt.datetime, bureau: str, reason: str) -> None:
        self.case_ref = case_ref
        self.step = step
        self.at = at
        self.bureau = bureau
        self.reason = reason
        super().__init__(f"case {case_ref}: {step} of {at.isoformat()} at bureau {bureau} failed: {reason}")


class NeverArrived(Exception):
    """A referral did not come to the bureau it was meant for."""

    def __init__(self, case_id: str, bureau: str, seconds: float) -> None:
        self.case_id = case_id
        self.bureau = bureau
        super().__init__(f"case {case_id} has not arrived at bureau {bureau} after {seconds:.0f} s")


@dataclass(slots=True)
class Life:
    """A case while it is played."""

    number: int
    history: CaseHistory
    bureau: str
    case_id: str = ""
    department: str = FRONT_DESK
    handled: bool = False
    """A department has it: another dispatch takes a return first."""
    acts: int = 0
    last: asyncio.Task[None] | None = None
    """The step taken last."""
    travelling: bool = False
    """That step is a hand-over, or follows one and is not done."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A step of a case and when it is taken; position -1 is the registration."""

    at: dt.datetime
    case: int
    position: int


def timeline(plan: Plan) -> Iterator[Moment]:
    """Every registration and step of a plan by time; those of one case in their order."""
    yield from sorted(
        Moment(at, number, position)
        for number, case in enumerate(plan.cases)
        for position, at in enumerate((case.registered_at, *(step.at for step in case.steps)), -1)
    )


@dataclass(slots=True)
class Played:
    """What playing came to."""

    acts: int = 0
    steps: int = 0
    days: int = 0
    """Days in Shanghai on which anything happened."""
    seconds: float = 0.0
    hand_over_seconds: list[float] = field(default_factory=list)
    """How long each referral took to its last hop, in real time."""

    def referral_seconds(self) -> dict[str, float] | None:
        """The median and the longest of them; None without any."""
        if not self.hand_over_seconds:
            return None
        return {
            "median": round(statistics.median(self.hand_over_seconds), 3),
            "longest": round(max(self.hand_over_seconds), 3),
        }


class Driver:
    """Plays a plan in a federation. `on_steps` is told how many steps have been taken."""

    def __init__(self, federation: Federation, plan: Plan, on_steps: Callable[[int], None] = lambda _: None) -> None:
        self._federation = federation
        self._plan = plan
        self._on_steps = on_steps
        self._lives = [Life(number, case, case.origin) for number, case in enumerate(plan.cases)]
        self._registrations: dict[str, Registrations] = {}
        self._slots = asyncio.Semaphore(STEPS_UNDER_WAY_MAX)
        self._under_way: set[asyncio.Task[None]] = set()
        self._failure: ReplayFailed | None = None
        self.played = Played()

    async def play(self) -> Played:
        """Play every step, and leave the clock at the plan's end. Raises `ReplayFailed`, `ChildDied`."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            for node in self._federation.nodes:
                stream = Registrations(self._federation.office(node.codes[0]))
                self._registrations[node.name] = await stack.enter_async_context(stream)
            try:
                await self._play()
            finally:
                for task in self._under_way:
                    task.cancel()
                await asyncio.gather(*self._under_way, return_exceptions=True)
        self.played.seconds = time.monotonic() - began
        return self.played

    async def _play(self) -> None:
        clock, today = self._federation.clock, None
        for moment in timeline(self._plan):
            life = self._lives[moment.case]
            day = moment.at.astimezone(SHANGHAI).date()
            if day != today:
                await self._all_done()
                self._federation.require_alive()
                today = day
                self.played.days += 1
            elif life.travelling and life.last is not None:
                await asyncio.wait([life.last])
            await self._slots.acquire()
            if self._failure is not None:
                raise self._failure
            clock.advance_to(max(moment.at, clock.now()))
            task = asyncio.create_task(self._take(life, moment, life.last))
            life.travelling = isinstance(self._step(moment), HandOver) or (life.travelling and not _done(life.last))
            life.last = task
            self._under_way.add(task)
            task.add_done_callback(self._took)
        await self._all_done()
        if self._plan.ends_at is not None:
            clock.advance_to(max(self._plan.ends_at, clock.now()))

    def _step(self, moment: Moment) -> Step | None:
        return self._lives[moment.case].history.steps[moment.position] if moment.position >= 0 else None

    async def _all_done(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)
        if self._failure is not None:
            raise self._failure

    def _took(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._slots.release()
        self.played.steps += 1
        self._on_steps(self.played.steps)

    async def _take(self, life: Life, moment: Moment, before: asyncio.Task[None] | None) -> None:
        """One step of a case, once the one before is done; what fails is kept for whoever plays."""
        if before is not None and not before.done():
            await asyncio.wait([before])
        if self._failure is not None:
            return
        step, bureau = self._step(moment), life.bureau
        try:
            if step is None:
                await self._register(life)
            else:
                await self._do(life, step, moment.position)
        except (RemoteRefusal, RegistrationRefused, NoAnswer, NeverArrived) as failure:
            what = "the registration" if step is None else f"step {moment.position + 1} ({type(step).__name__})"
            self._failure = ReplayFailed(life.history.case_ref, what, moment.at, bureau, str(failure))

    # ------------------------------------------------------------ steps

    async def _register(self, life: Life) -> None:
        history, at = life.history, life.history.registered_at
        reference = history.case_ref if len(history.case_ref) <= REFERENCE_CHARACTERS_MAX else ""
        act = acts.Register(
            taxpayer_name=TAXPAYER,
            contact=CONTACT,
            text=history.text[:TEXT_CHARACTERS_MAX].replace("\0", "").strip() or history.case_ref,
            category=history.category,
            channel=history.channel,
            channel_reference=reference,
        )
        request = request_of(act, life.bureau, REGISTRAR, key=self._key(life), at=at)
        node = self._federation.node(life.bureau)
        life.case_id = (await self._registrations[node.name].register(request)).case_id
        if _departs(history, 0):
            await self._act(life, REGISTRAR, acts.Forward(telling=Telling.TRANSFERRED), at)
        else:
            await self._act(life, REGISTRAR, acts.AcceptDirectly(telling=Telling.COMPLICATED), at)
            life.handled = True

    async def _do(self, life: Life, step: Step, position: int) -> None:
        at = step.at
        handler = Officer(HANDLER, Role.HANDLER, life.department)
        match step:
            case Depart(department=department):
                if life.handled:
                    await self._act(life, handler, acts.ReturnDispatch(reason="转其他部门办理"), at)
                await self._act(life, TAX_SERVICE, acts.Dispatch(to_department=department), at)
                life.department, life.handled = department, True
            case HandOver(to_bureau=to_bureau):
                await self._act(life, handler, acts.Refer(final_bureau=to_bureau, reason="移交办理"), at)
                await self._arrival(life, to_bureau)
                life.bureau, life.department, life.handled = to_bureau, FRONT_DESK, False
                if not _departs(life.history, position + 1):
                    # By the receiver's clock: it has received the case only now.
                    await self._act(life, TAX_SERVICE, acts.Dispatch(to_department=FRONT_DESK), None)
                    life.handled = True
            case Wait():
                defer = acts.Defer(owner=HANDLER, review_at=at + REVIEW_AFTER, condition="等待外部条件")
                await self._act(life, handler, defer, at)
            case Resume():
                await self._act(life, handler, acts.Resume(), at)
            case Complete():
                await self._act(life, handler, acts.Complete(result="已办结"), at)
                told = acts.GiveFeedback(told_by=life.history.channel, told="已告知办理结果")
                await self._act(life, handler, told, at)

    async def _act(self, life: Life, officer: Officer, act: Act, at: dt.datetime | None) -> None:
        office = self._federation.office(life.bureau)
        await office.do(officer, act, life.case_id, key=self._key(life), at=at)

    def _key(self, life: Life) -> str:
        life.acts += 1
        self.played.acts += 1
        return f"replay-{life.number}.{life.acts}"

    async def _arrival(self, life: Life, bureau: str) -> None:
        """Wait until the bureau has the case."""
        office, began, pause = self._federation.office(bureau), time.monotonic(), ARRIVAL_LOOK_SECONDS
        while not await _holds(office, life.case_id):
            if time.monotonic() - began > ARRIVAL_SECONDS_MAX:
                raise NeverArrived(life.case_id, bureau, ARRIVAL_SECONDS_MAX)
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, ARRIVAL_LOOK_SECONDS_MAX)
        self.played.hand_over_seconds.append(time.monotonic() - began)


def _departs(history: CaseHistory, position: int) -> bool:
    return position < len(history.steps) and isinstance(history.steps[position], Depart)


def _done(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


async def _holds(office: Office, case_id: str) -> bool:
    try:
        answer = await office.get(case_id)
    except RemoteRefusal as refusal:
        if refusal.rule == "UnknownCase":
            return False
        raise
    return Custody(answer.case.custody) is Custody.OWNED
