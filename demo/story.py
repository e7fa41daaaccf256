"""The demonstration's story: what taxpayers ask in a fortnight, and what becomes of each request.

Every case is a coroutine that does its officers' acts over gRPC and rests for office hours between them. `Pace` moves
the shared clock from one hour to the next when all cases rest; within an hour the acts of all run together. Nothing
sleeps: an act that depends on another bureau waits until that bureau's ledger shows it. While a node is down the hours
go on without those who wait for it.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Final

from demo.content import Course, Department, Request, fictional_taxpayer, load_requests
from demo.federation import Federation
from demo.officers import Officer
from demo.staff import CHANNEL_OFFICER, LEADERSHIP
from demo.tally import Acknowledged
from demo.watch import Change, NeverSeen, Watch
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.tree import BureauTree, Tier
from kuaixiang.domain.words import Channel, Custody, Role, Satisfaction, Stage, Telling
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import case_pb2

OFFICE_HOURS: Final = (9, 10, 11, 13, 14, 15, 16, 17)
DAY: Final = len(OFFICE_HOURS)
"""Office hours of a working day, the unit in which cases rest."""

FIRST_DAY: Final = date(2026, 9, 21)
LAST_DAY: Final = date(2026, 10, 10)
"""Ten working days from a Monday on, with Mid-Autumn and National Day between them, and a Saturday that is worked."""

HOUR_SECONDS_MAX: Final = 45.0
"""Real time that one hour's acts may take: far more than needed, so that a story that is stuck ends with a reason."""

HOUR_SECONDS_WITHOUT_A_NODE: Final = 0.3
"""Real time that an hour takes while a node is down, for those who do not wait for it."""

HAND_OVER_SECONDS_MAX: Final = 60.0
"""Real time for a case, or a conclusion, to pass through all bureaus between."""

TAX_SERVICE: Final = Department.TAX_SERVICE.value

RETURNS_MAX: Final = Rules().returns_max
"""How often a case is sent back before a superior rules."""

ONLINE: Final = frozenset({Channel.PLATFORM, Channel.WEBSITE})
"""Channels on which requests come in on days off, too."""

LATE_SHARE: Final = 30
"""One case in so many misses a deadline on purpose."""

TWICE_SHARE: Final = 12
"""One registration in so many is sent twice by its channel, which must make one case."""


class StoryError(Exception):
    """The story cannot go on."""


class StoryStuck(StoryError):
    """The acts of an hour did not come to their end."""

    def __init__(self, at: datetime, seconds: float, waiting: Sequence[str]) -> None:
        self.at = at
        self.waiting = tuple(waiting)
        cases = "; ".join(waiting[:5]) + (f"; and {len(waiting) - 5} more" if len(waiting) > 5 else "")
        super().__init__(f"the acts of {at:%Y-%m-%d %H:%M} did not end within {seconds:.0f} s: {cases}")


class StoryBroken(StoryError):
    """A bureau refused an act that the story had good reason to ask."""

    def __init__(self, case: str, bureau: str, act: str, refusal: str) -> None:
        self.case = case
        self.bureau = bureau
        self.act = act
        super().__init__(f"bureau {bureau} refused {act} of {case}: {refusal}")


class FortnightOver(Exception):
    """The next act of a case would come after the last day shown; the case stays open."""


@dataclass(frozen=True, slots=True)
class Hour:
    """An instant at which the clock stands still while the acts of that hour are done."""

    at: datetime
    office: bool
    """Whether bureaus work at that hour."""


def fortnight(calendar: WorkingCalendar, first: date = FIRST_DAY, last: date = LAST_DAY) -> list[Hour]:
    """The hours of the story: office hours of working days, two on days off, and the turn of each day."""
    hours = []
    day = first
    while day <= last:
        midnight = datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)
        worked = calendar.is_working(day)
        hours += [Hour(midnight + timedelta(hours=hour), worked) for hour in (OFFICE_HOURS if worked else (10, 16))]
        day += timedelta(days=1)
        # A deadline ends at 24:00: shortly after, the sweeps see it.
        hours.append(Hour(midnight + timedelta(days=1, minutes=1), office=False))
    return hours


def office_hours(hours: Sequence[Hour]) -> list[int]:
    """The indices of the hours at which bureaus work."""
    return [index for index, hour in enumerate(hours) if hour.office]


def office_hour(hours: Sequence[Hour], day: int, hour: int = 0) -> int:
    """The index of an hour of a working day, both counted from 0; of the last one in a story that ends before it."""
    office = office_hours(hours)
    return office[min(day * DAY + hour, len(office) - 1)]


def next_morning(calendar: WorkingCalendar, at: datetime) -> datetime:
    """When bureaus open next, later than that instant."""
    local = at.astimezone(SHANGHAI)
    opens = datetime(local.year, local.month, local.day, OFFICE_HOURS[0], tzinfo=SHANGHAI)
    if calendar.is_working(local.date()) and at < opens:
        return opens
    day = calendar.add_workdays(local.date(), 1)
    return opens.replace(year=day.year, month=day.month, day=day.day)


class Pace:
    """Moves the clock, hour by hour, when nobody has anything to do any more."""

    def __init__(self, hours: Sequence[Hour], advance_to: Callable[[datetime], object]) -> None:
        self.hours = tuple(hours)
        self.index = 0
        self._advance_to = advance_to
        self._resting: defaultdict[int, list[asyncio.Future[None]]] = defaultdict(list)
        self._active: dict[str, str] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def now(self) -> datetime:
        """The hour that is being worked."""
        return self.hours[self.index].at

    def begin(self, name: str) -> None:
        """A case has something to do."""
        self._active[name] = "begins"
        self._idle.clear()

    def doing(self, name: str, what: str) -> None:
        """Say what a case is at, for the report of a story that is stuck."""
        self._active[name] = what

    def end(self, name: str) -> None:
        """A case has nothing to do any more."""
        self._active.pop(name, None)
        if not self._active:
            self._idle.set()

    async def rest(self, name: str, hours: int) -> None:
        """Rest for so many office hours; 0: until the next one unless this is one. Raises FortnightOver."""
        target = self.after(hours)
        if target == self.index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting[target].append(future)
        self.end(name)
        await future
        self.begin(name)

    def after(self, hours: int) -> int:
        """The index of the hour that is so many office hours from now. Raises FortnightOver."""
        index, left = self.index, hours
        while left > 0 or not self.hours[index].office:
            index += 1
            if index >= len(self.hours):
                raise FortnightOver
            left -= self.hours[index].office
        return index

    async def turn(self, index: int) -> None:
        """Begin an hour: the clock shows it, and whoever rested until then goes on."""
        self.index = index
        self._advance_to(self.hours[index].at)
        for future in self._resting.pop(index, ()):
            if not future.done():
                future.set_result(None)
                # Until the case itself says what it does: the hour must not end before it has been heard.
                self._idle.clear()
        await asyncio.sleep(0)
        if not self._active:
            self._idle.set()

    async def idle(self, timeout_seconds: float) -> bool:
        """Wait until no case has anything to do; whether it came to that."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def waiting(self) -> list[str]:
        """What the cases that have something to do are at."""
        return [f"{name} {what}" for name, what in self._active.items()]


@dataclass(slots=True)
class Book:
    """What the bureaus have acknowledged: the story's own record, against which the ledgers are held."""

    acts: list[Acknowledged] = field(default_factory=list)
    registrations: dict[str, str] = field(default_factory=dict)
    """Case by the key under which it was registered."""
    homes: dict[str, str] = field(default_factory=dict)
    """Bureau that registered it, by case."""
    repeated: int = 0
    """Answers that said: this has been done before."""
    finished: int = 0
    """Cases whose course has come to its end, written off everywhere."""
    open: int = 0
    """Cases whose course goes on after the last day."""
    attachments: int = 0
    """Files that were read again, byte for byte, at the bureau that a case was handed over to."""
    duplicates_found: int = 0
    """Requests that the ledger itself said were a case already registered, before they were linked to it."""
    calendar: str = ""
    """The version of the calendar that headquarters has published and every bureau has adopted."""
    tree: str = ""
    """The version of the tree, with the nodes' certificates in it, that every bureau has adopted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One case before it begins."""

    number: int
    request: Request
    home: str
    """The bureau that registers it."""
    other: str
    """The bureau that it is referred to; empty when it is not."""
    arrives: int
    """Index of the hour."""
    seed: str
    late: str = ""
    """The act that misses its deadline on purpose: `forward`, `handle` or `feedback`."""
    twice: bool = False
    """Whether the channel sends the registration twice."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that is done over several hours and is not a case's own course."""

    name: str
    arrives: int
    """Index of the hour at which it begins."""
    tell: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Places:
    """Which bureaus play which part, by the tree alone."""

    tree: BureauTree

    @property
    def headquarters(self) -> str:
        """The root."""
        return self.tree.root

    @property
    def counties(self) -> list[str]:
        """Bureaus that nobody is under."""
        return [code for code in self.tree.bureaus if not self.tree.children(code)]

    @property
    def provinces(self) -> list[str]:
        """Bureaus of the provincial tier."""
        return [code for code, bureau in self.tree.bureaus.items() if bureau.tier is Tier.PROVINCIAL]

    def superior(self, code: str) -> str:
        """The bureau directly above."""
        return self.tree.parent(code) or self.tree.root


def casting(tree: BureauTree, hours: Sequence[Hour], cases: int, seed: int) -> list[Plan]:
    """Who asks what, where and when: the same arguments give the same plan.

    Up to as many cases as there are requests, each request is used once, every course as its share of them.
    """
    rng = Random(f"{seed}:casting")
    chosen = _chosen(cases, rng)
    places = Places(tree)
    counties = places.counties
    plans: list[Plan] = []
    lates = ["handle", "forward", "feedback"]
    # The plain courses can bear it: each of their deadlines is one bureau's own.
    plain = [number for number, request in enumerate(chosen) if request.course is Course.ORDINARY]
    late_numbers = set(rng.sample(plain, min(len(plain), max(1, cases // LATE_SHARE)))) if plain else set()
    for number, request in enumerate(chosen):
        home, other = _parts(request.course, counties[number % len(counties)], places, rng)
        late = lates[len([one for one in plans if one.late]) % len(lates)] if number in late_numbers else ""
        plans.append(
            Plan(
                number=number,
                request=request,
                home=home,
                other=other,
                arrives=_arrival(request, hours, rng, early=bool(late)),
                seed=f"{seed}:{number}",
                late=late,
                twice=rng.randrange(TWICE_SHARE) == 0,
            )
        )
    return plans


def _chosen(cases: int, rng: Random) -> list[Request]:
    requests = list(load_requests())
    rng.shuffle(requests)
    if cases < len(requests):
        # Each course in its share, and each at least once where there is room.
        by_course: dict[Course, list[Request]] = {}
        for request in requests:
            by_course.setdefault(request.course, []).append(request)
        ranked = [
            ((place + 0.5) / len(group), request) for group in by_course.values() for place, request in enumerate(group)
        ]
        firsts = [group[0] for group in by_course.values()]
        rest = [request for _, request in sorted(ranked, key=lambda one: one[0]) if request not in firsts]
        requests = [*firsts, *rest][:cases]
    return [requests[number % len(requests)] for number in range(cases)]


def _parts(course: Course, county: str, places: Places, rng: Random) -> tuple[str, str]:
    """The bureau that registers, and the one that the case is referred to."""
    tree, headquarters = places.tree, places.headquarters
    province = tree.site(county)
    match course:
        case Course.ESCALATED_PROVINCE:
            return county, province
        case Course.ESCALATED_HEADQUARTERS:
            return county, headquarters
        case Course.REFERRED_DOWN:
            return rng.choice([province, headquarters, places.superior(county)]), county
        case Course.RETURNED:
            # Half of them go up and come back down, half go down and come back up.
            return (county, places.superior(county)) if rng.randrange(2) else (province, county)
        case Course.RELAYED | Course.DISPUTED:
            elsewhere = [code for code in places.counties if tree.site(code) != province]
            return county, rng.choice(elsewhere) if elsewhere else headquarters
        case Course.ON_THE_SPOT | Course.ORDINARY if rng.randrange(8) == 0:
            return rng.choice([province, places.superior(county), headquarters]), ""
        case _:
            return county, ""


_LAST_ARRIVAL: Final = {
    Course.ON_THE_SPOT: 8,
    Course.ORDINARY: 7,
    Course.EXTENDED: 1,
    Course.EXTENSION_REFUSED: 2,
    Course.ESCALATED_PROVINCE: 5,
    Course.ESCALATED_HEADQUARTERS: 4,
    Course.REFERRED_DOWN: 5,
    Course.RETURNED: 4,
    Course.DISPUTED: 2,
    Course.RELAYED: 4,
    Course.JOINT: 4,
    Course.LINKED: 4,
    Course.DEFERRED: 3,
    Course.RECONSIDERATION: 7,
    Course.WITHDRAWN: 7,
}
"""The working day, from 0, on which the last case of a course comes in: most are done before the fortnight is."""


def _arrival(request: Request, hours: Sequence[Hour], rng: Random, *, early: bool) -> int:
    last_day = 1 if early else _LAST_ARRIVAL[request.course]
    window = office_hours(hours)[: (last_day + 1) * DAY]
    if request.channel in ONLINE and not early:
        # Who asks over the net does so on days off, too; not at midnight.
        window = [index for index in range(window[-1] + 1) if hours[index].office or hours[index].at.hour >= 9]
    return rng.choice(window)


def registrations_of(plans: Sequence[Plan]) -> int:
    """How many cases they come to: what is linked is asked by two taxpayers."""
    return len(plans) + sum(plan.request.course is Course.LINKED for plan in plans)


def _asked_again(plan: Plan) -> Plan:
    """What another taxpayer asks, in nearly the same words."""
    request = replace(plan.request, text=f"我们也遇到同样的问题。{plan.request.text}", course=Course.LINKED)
    return replace(plan, request=request, seed=f"{plan.seed}:like", twice=False)


class CaseStory:
    """One case, from its taxpayer's words to the end of its course."""

    def __init__(
        self, plan: Plan, federation: Federation, watch: Watch, pace: Pace, book: Book, *, told_with: str = ""
    ) -> None:
        """`told_with`: the case whose course tells this one's too, so that the two rest together."""
        self.plan = plan
        self._told_with = told_with or plan.seed
        self.name = f"request {plan.request.id} of {plan.home}"
        self.case_id = ""
        self._world = (federation, watch, pace, book)
        self._federation = federation
        self._watch = watch
        self._pace = pace
        self._book = book
        self._rng = Random(plan.seed)
        self._acts = 0
        self._ledgers: list[str] = [plan.home]
        self._owner = plan.home
        self._competent = ""
        self._key = f"demo-{plan.seed.replace(':', '-')}"

    async def tell(self) -> None:
        """The whole course. Raises StoryBroken, NeverSeen, NoAnswer."""
        try:
            await self._course()
        except FortnightOver:
            self._book.open += 1
        else:
            self._book.finished += 1

    async def _course(self) -> None:
        course = self.plan.request.course
        await self._register(answer=self.plan.request.reply if course is Course.ON_THE_SPOT else "")
        if course is not Course.ON_THE_SPOT:
            await _HANDLING[course](self)
        await (self._write_off() if course in _NOT_FED_BACK else self._close())

    # ------------------------------------------------------------ courses

    async def _ordinary(self) -> None:
        if self.plan.request.department is Department.TAX_SERVICE and not self.plan.late:
            await self._rest(0, 3)
            telling = acts.AcceptDirectly(
                telling=Telling.COMPLICATED, told="情况较为复杂，由本部门办理，五个工作日内答复。"
            )
            await self._do(self._registrar(), telling)
            await self._work()
            return
        await self._forward()
        if self._rng.randrange(6) == 0 and not self.plan.late:
            wrong = self._rng.choice([one for one in Department if one.value != self._department])
            await self._dispatch(wrong.value)
            await self._rest(1, 4)
            await self._do(
                self._handler(wrong.value), acts.ReturnDispatch(reason="不属于本部门职责，建议转有关业务部门办理。")
            )
        await self._handled_here()

    async def _referred(self) -> None:
        await self._forward()
        travels = self.plan.request.course is Course.ESCALATED_PROVINCE
        digest = await self._attach() if travels else ""
        await self._refer(self.plan.other)
        if travels:
            await self._read_again(digest)
        await self._handled_here()

    async def _linked(self) -> None:
        """Two taxpayers of a bureau ask the same: found before registering, linked, and completed together 并案."""
        await self._forward()
        other = CaseStory(_asked_again(self.plan), *self._world, told_with=self.plan.seed)
        await self._rest(1, 4)
        await other._register(lead=self.case_id)
        await other._forward()
        await self._dispatch()
        await self._rest(2, 2 * DAY)
        handler = self._handler()
        completed = acts.Complete(result=self.plan.request.reply, with_linked=True)
        await self._do(handler, completed, last_of=other.case_id)
        self._doing("waits for the case linked to it to be completed, too")
        await self._watch.until(
            self._owner,
            other.case_id,
            "being completed with the case it is linked to",
            lambda change: change.stage is Stage.COMPLETED,
            HAND_OVER_SECONDS_MAX,
        )
        for one in (self, other):
            await one._rest(0, 3)  # noqa: SLF001
            await one._give_feedback(handler)  # noqa: SLF001
        await other._close()

    async def _to_reconsideration(self) -> None:
        await self._forward()
        await self._dispatch()
        await self._rest(2, DAY)
        reference = f"行复〔2026〕{self.plan.number + 1}号"
        await self._do(self._handler(), acts.SendToReconsideration(reference=reference))

    async def _withdrawn(self) -> None:
        await self._forward()
        if self._rng.randrange(2):
            await self._dispatch()
        await self._rest(1, DAY)
        await self._do(self._tax_service(), acts.Withdraw(reason="纳税人来电，问题已自行解决，要求撤回。"))

    async def _extended(self) -> None:
        await self._forward()
        await self._dispatch()
        await self._rest(2 * DAY, 3 * DAY + 4)
        reason = "涉及多年度资料核对，需要企业补充证明材料。"
        await self._do(self._handler(), acts.AskExtension(workdays=self._rng.randint(2, 5), reason=reason))
        await self._rest(1, 5)
        await self._do(self._leader(Role.DEPUTY_HEAD), acts.ApproveExtension(note="同意延期，请及时告知纳税人。"))
        await self._work(DAY, 3 * DAY)

    async def _extension_refused(self) -> None:
        await self._forward()
        await self._dispatch()
        await self._rest(2 * DAY, 3 * DAY)
        reason = "近期申报期业务量较大，请求延期办理。"
        await self._do(self._handler(), acts.AskExtension(workdays=5, reason=reason))
        await self._rest(1, 4)
        refusal = acts.RefuseExtension(reason="资料已齐全，不具备延期理由，请按期办结。")
        await self._do(self._leader(Role.DEPUTY_HEAD), refusal)
        # Some of those who wanted more time take it all the same.
        await (self._work(2 * DAY + 6, 4 * DAY) if self._rng.randrange(3) == 0 else self._work(2, DAY))

    async def _to_headquarters(self) -> None:
        await self._forward()
        if self._rng.randrange(2):
            # The province looks into it first, and finds that the answer is not its to give.
            await self._refer(self._federation.tree.site(self.plan.home))
            await self._dispatch()
            await self._rest(2, DAY)
            await self._refer(self.plan.other, by=self._handler())
        else:
            await self._refer(self.plan.other)
        await self._handled_here()

    async def _returned(self) -> None:
        await self._forward()
        home = self._owner
        await self._refer(self.plan.other)
        await self._rest(1, DAY // 2)
        tree = self._federation.tree
        reason = (
            "属于你局管辖权限，请按现行规定直接办理并答复。"
            if tree.contains(self._owner, home)
            else "涉及全省口径统一，基层无权答复，请上级研究。"
        )
        before = self._watch.last(home, self.case_id)
        await self._do(self._tax_service(), acts.Return(reason=reason))
        await self._arrives(home, before)
        await self._handled_here()

    async def _disputed(self) -> None:
        """Two bureaus send a case back to each other until their lowest common superior rules, which binds."""
        await self._forward()
        home, other = self._owner, self.plan.other
        superior = self._federation.tree.lowest_common_superior(home, other)
        for _ in range(RETURNS_MAX):
            await self._refer(other)
            await self._rest(1, DAY // 2)
            before = self._watch.last(home, self.case_id)
            await self._do(self._tax_service(), acts.Return(reason="经核实不属于本局管辖，退回重新研究。"))
            await self._arrives(home, before)
        await self._rest(1, 4)
        before = self._watch.last(superior, self.case_id)
        asked = acts.AskRuling(reason="双方对管辖有争议，已两次退回，提请上级裁定。")
        await self._do(self._tax_service(), asked)
        await self._arrives(superior, before)
        await self._rest(1, 4)
        before = self._watch.last(other, self.case_id)
        ruling = acts.Rule(final_bureau=other, reason="纳税人生产经营地在该局辖区，由该局办理。")
        await self._do(self._leader(Role.DEPUTY_HEAD), ruling)
        await self._arrives(other, before)
        await self._handled_here()

    async def _joint(self) -> None:
        await self._forward()
        await self._rest(1, 4)
        lead = self._department
        assisting = self._rng.sample([one.value for one in Department if one.value != lead], self._rng.randint(1, 2))
        joint = acts.StartJointHandling(
            lead_department=lead, assisting_departments=tuple(assisting), note="请各部门按职责分工，主办部门牵头答复。"
        )
        await self._do(self._tax_service(), joint)
        if self._rng.randrange(3) == 0:
            await self._rest(2 * DAY, 3 * DAY)
            asked = acts.AskExtension(workdays=3, reason="需要会同相关部门现场核实。")
            await self._do(self._handler(lead), asked)
            await self._rest(1, 4)
            await self._do(self._leader(Role.BUREAU_HEAD), acts.ApproveExtension(note="同意，并告知纳税人延期原因。"))
            await self._rest(0, 2)
            told = acts.ExplainExtension(told="已告知纳税人：需会同相关部门现场核实，延期三个工作日。")
            await self._do(self._handler(lead), told)
        for department in assisting:
            await self._rest(3, DAY + 4)
            await self._do(self._handler(department), acts.CompletePart(result="已提出本部门处理意见。"))
        await self._rest(1, DAY)
        await self._complete(self._handler(lead))

    async def _deferred(self) -> None:
        await self._forward()
        await self._dispatch()
        await self._rest(3, DAY)
        review = self._rng.randint(2, 4)
        condition = "所提建议已纳入系统优化清单，待版本升级后实施。"
        hours = self._pace.after(review * DAY)
        await self._do(
            self._handler(),
            acts.Defer(owner=self._department, review_at=self._pace.hours[hours].at, condition=condition),
        )
        await self._rest(review * DAY, review * DAY)
        self._doing("waits for its review to come close")
        await self._watch.until(
            self._owner, self.case_id, "its review coming close", _said_by_time, HAND_OVER_SECONDS_MAX
        )
        await self._do(self._handler(), acts.Resume(note="条件已具备，恢复办理。"))
        await self._work(2, 2 * DAY)

    # ------------------------------------------------------------ the steps that courses share

    async def _register(self, answer: str = "", lead: str = "") -> None:
        """`lead` is the case that this one repeats: the officer looks for it first, and links this one to it."""
        request, rng = self.plan.request, self._rng
        division = self._division()
        taxpayer = fictional_taxpayer(rng, division, request.trade)
        act = request.registered(taxpayer, f"{request.channel.name}-{self._key}")
        act = replace(act, place=division, answer=answer, lead_case_id=lead)
        if lead:
            self._doing("is looked for among the cases of the last months")
            found = await self._federation.office(self._owner).duplicates(act)
            self._book.duplicates_found += lead in found
        online = request.channel in ONLINE and not answer
        officer = Officer(CHANNEL_OFFICER, Role.CHANNEL, TAX_SERVICE) if online else self._registrar()
        if answer:
            await self._rest(0, 0)
        answered = await self._do(officer, act)
        self.case_id = answered.case.case_id
        self._competent = answered.case.competent_bureau
        self.name = f"case {self.case_id}"
        self._book.registrations[self._key] = self.case_id
        self._book.homes[self.case_id] = self.plan.home
        if self.plan.twice:
            # The channel did not hear the answer and sends its request again, as a new message of the same number.
            again = await self._do(officer, act)
            if again.case.case_id != self.case_id:
                self._book.registrations[f"{self._key}-again"] = again.case.case_id

    def _division(self) -> str:
        """Where the taxpayer belongs: to the county that registers, or that gets the case."""
        tree = self._federation.tree
        for code in (
            (self.plan.other, self.plan.home)
            if self.plan.request.course in {Course.RELAYED, Course.DISPUTED}
            else (
                self.plan.home,
                self.plan.other,
            )
        ):
            if code and not tree.children(code):
                return code
        return self._rng.choice([code for code in tree.subtree(self.plan.home) if not tree.children(code)])

    async def _forward(self) -> None:
        if self.plan.late == "forward":
            await self._rest(2 * DAY, 2 * DAY + 4)
        else:
            await self._rest(0, 4)
        told = acts.Forward(telling=Telling.TRANSFERRED, told="已告知纳税人：转交纳税服务部门统筹办理。")
        await self._do(self._registrar(), told)

    async def _dispatch(self, department: str = "") -> None:
        await self._rest(1, 4)
        await self._do(self._tax_service(), acts.Dispatch(to_department=department or self._department))

    async def _handled_here(self) -> None:
        await self._dispatch()
        await (self._work(5 * DAY + 2, 6 * DAY) if self.plan.late == "handle" else self._work())

    async def _work(self, least: int = 2, most: int = 3 * DAY) -> None:
        await self._rest(least, most)
        await self._complete(self._handler())

    async def _complete(self, handler: Officer) -> None:
        await self._do(handler, acts.Complete(result=self.plan.request.reply))
        await (self._rest(2 * DAY, 2 * DAY + 4) if self.plan.late == "feedback" else self._rest(0, DAY - 2))
        await self._give_feedback(handler)

    async def _give_feedback(self, handler: Officer) -> None:
        channel = Channel.HOTLINE if self.plan.request.channel is Channel.HOTLINE else Channel.OTHER
        await self._do(handler, acts.GiveFeedback(told_by=channel, told=self.plan.request.reply))

    async def _close(self) -> None:
        """Followed up, perhaps handled again, and written off in every ledger."""
        await self._rest(2, 2 * DAY)
        satisfaction = self._rng.choices(
            list(Satisfaction),
            weights=(70, 15, 9, 6) if self.plan.request.course is not Course.ON_THE_SPOT else (85, 10, 2, 3),
        )[0]
        reopens = satisfaction is Satisfaction.NOT_SATISFIED and self._rng.randrange(4) > 0
        remark = ""
        if satisfaction is Satisfaction.NOT_SATISFIED and not reopens:
            remark = "诉求超出现行政策规定，已当面解释并取得理解。"
        await self._do(self._caller(), acts.FollowUp(satisfaction=satisfaction, remark=remark))
        if reopens:
            await self._rest(1, 3)
            await self._do(self._tax_service(), acts.Reopen(reason="纳税人认为答复未解决实际问题，重新办理。"))
            await self._work(2, DAY)
            await self._rest(2, DAY)
            await self._do(self._caller(), acts.FollowUp(satisfaction=Satisfaction.SATISFIED))
        await self._write_off()

    async def _attach(self) -> str:
        """A file that the taxpayer has handed in becomes one of the case's; its digest."""
        await self._rest(0, 2)
        content = f"情况说明\n{self.plan.request.text}\n".encode() * 20
        act = acts.Attach(
            digest=sha256(content).hexdigest(), name="情况说明.txt", media_type="text/plain", size_bytes=len(content)
        )
        self._acts += 1
        self._doing(f"has a file attached in {self._owner}")
        try:
            answer = await self._federation.office(self._owner).attach(
                self._tax_service(), act, content, self.case_id, key=f"{self._key}-{self._acts}"
            )
        except RemoteRefusal as refusal:
            raise StoryBroken(self.name, self._owner, "Attach", f"{refusal} ({refusal.rule})") from refusal
        self._book.acts.append(Acknowledged(self._owner, self.case_id, answer.seq, "Attach"))
        return act.digest

    async def _read_again(self, digest: str) -> None:
        """Read the file where the case has gone; that it is the same one is what its digest says."""
        self._doing(f"has its file read at {self._owner}")
        content = await self._federation.office(self._owner).attachment(self._tax_service(), self.case_id, digest)
        self._book.attachments += sha256(content).hexdigest() == digest

    async def _refer(self, to: str, by: Officer | None = None) -> None:
        await self._rest(1, 5)
        if self.plan.request.course is Course.RELAYED and self._competent:
            to = self._competent  # what the ledger itself proposed
        tree, origin = self._federation.tree, self._owner
        if tree.contains(to, origin):
            reason = "涉及政策口径，超出本级权限，上报上级研究答复。"
        elif tree.contains(origin, to):
            reason = "属于属地管辖事项，请核实办理并答复纳税人。"
        else:
            reason = "纳税人主管税务机关在外地，移交属地办理。"
        before = self._watch.last(to, self.case_id)
        await self._do(by or self._tax_service(), acts.Refer(final_bureau=to, reason=reason))
        await self._arrives(to, before)

    async def _arrives(self, to: str, before: Change | None) -> None:
        """Wait until the bureau that the case is for has it; `before` is what its ledger said when it was sent."""
        origin = self._owner

        def received(change: Change) -> bool:
            return change.custody is Custody.OWNED and (before is None or change.seq > before.seq)

        self._doing(f"is on its way from {origin} to {to}")
        await self._watch.until(to, self.case_id, f"the hand-over from {origin}", received, HAND_OVER_SECONDS_MAX)
        route = self._federation.tree.route(origin, to)
        self._ledgers += [code for code in route if code not in self._ledgers]
        self._owner = to

    async def _write_off(self) -> None:
        """Written off by every bureau that has it in its ledger, the owner first, once all agree on how it ended."""
        await self._rest(1, 4)
        for bureau in (self._owner, *(code for code in self._ledgers if code != self._owner)):
            await self._agreed(bureau)
            await self._do(self._tax_service(bureau), acts.WriteOff(note="台账核对一致，销号。"), bureau)

    async def _agreed(self, bureau: str) -> None:
        """Wait until a ledger knows how the case ended, and those that it told have acknowledged."""
        if bureau != self._owner:
            self._doing(f"waits for its conclusion at {bureau}")
            await self._watch.until(
                bureau,
                self.case_id,
                "hearing the conclusion",
                lambda change: change.stage in {Stage.CONCLUDED, Stage.WRITTEN_OFF},
                HAND_OVER_SECONDS_MAX,
            )
        while True:
            seen = self._watch.last(bureau, self.case_id)
            case = (await self._federation.office(bureau).get(self.case_id)).case
            if not case.awaiting_acknowledgement:
                return
            seq = seen.seq if seen is not None else 0
            self._doing(f"waits at {bureau} for {', '.join(case.awaiting_acknowledgement)} to acknowledge its end")
            await self._watch.until(
                bureau,
                self.case_id,
                "the acknowledgement of its conclusion",
                lambda change, seq=seq: change.seq > seq,  # type: ignore[misc]
                HAND_OVER_SECONDS_MAX,
            )

    # ------------------------------------------------------------ who acts

    @property
    def _department(self) -> str:
        department = self.plan.request.department
        # Tax service dispatches; what it would handle itself goes to policy.
        return (department if department is not Department.TAX_SERVICE else Department.POLICY).value

    def _officer(self, letter: str, role: Role, department: str, bureau: str = "", of: int = 3) -> Officer:
        """One of a few colleagues, the same one for a case and a role."""
        place = Random(f"{self.plan.seed}:{letter}:{bureau or self._owner}:{department}").randint(1, of)
        return Officer(f"{letter}{place:02d}", role, department)

    def _registrar(self) -> Officer:
        return self._officer("R", Role.REGISTRAR, TAX_SERVICE)

    def _tax_service(self, bureau: str = "") -> Officer:
        return self._officer("T", Role.TAX_SERVICE, TAX_SERVICE, bureau)

    def _caller(self) -> Officer:
        """Who follows up: never one of those who handled the case (§四(四))."""
        return self._officer("V", Role.TAX_SERVICE, TAX_SERVICE)

    def _handler(self, department: str = "") -> Officer:
        if not department and self.plan.request.department is Department.TAX_SERVICE and self._accepted_directly:
            return self._officer("H", Role.HANDLER, TAX_SERVICE)
        return self._officer("H", Role.HANDLER, department or self._department)

    @property
    def _accepted_directly(self) -> bool:
        return self.plan.request.course is Course.ORDINARY and not self.plan.late

    def _leader(self, role: Role) -> Officer:
        return self._officer("B" if role is Role.BUREAU_HEAD else "D", role, LEADERSHIP, of=1)

    # ------------------------------------------------------------ doing and resting

    async def _do(self, officer: Officer, act: Act, bureau: str = "", last_of: str = "") -> case_pb2.ActResponse:
        """Do an act of the case; `last_of`: another case that it changes, too, whose entry comes last."""
        self._acts += 1
        where = bureau or self._owner
        name = type(act).__name__
        self._doing(f"is at {name} in {where}")
        try:
            answer = await self._federation.office(where).do(
                officer,
                act,
                self.case_id if not isinstance(act, acts.Register) else "",
                key=f"{self._key}-{self._acts}",
            )
        except RemoteRefusal as refusal:
            raise StoryBroken(self.name, where, name, f"{refusal} ({refusal.rule})") from refusal
        self._book.acts.append(Acknowledged(where, last_of or answer.case.case_id, answer.seq, name))
        self._book.repeated += answer.repeated_request
        return answer

    async def _rest(self, least: int, most: int) -> None:
        await self._pace.rest(self._told_with, self._rng.randint(least, most))
        self._doing("goes on")

    def _doing(self, what: str) -> None:
        self._pace.doing(self._told_with, f"{self.name} {what}")


def _said_by_time(change: Change) -> bool:
    """Whether the sweep wrote it: a deadline is close, or another calendar was adopted since."""
    return change.event in {"became_due_soon", "clocks_recomputed"}


_HANDLING: Final[Mapping[Course, Callable[[CaseStory], Awaitable[None]]]] = {
    Course.ORDINARY: CaseStory._ordinary,  # noqa: SLF001 - the class's own table of courses
    Course.EXTENDED: CaseStory._extended,  # noqa: SLF001
    Course.EXTENSION_REFUSED: CaseStory._extension_refused,  # noqa: SLF001
    Course.ESCALATED_PROVINCE: CaseStory._referred,  # noqa: SLF001
    Course.REFERRED_DOWN: CaseStory._referred,  # noqa: SLF001
    Course.RELAYED: CaseStory._referred,  # noqa: SLF001
    Course.ESCALATED_HEADQUARTERS: CaseStory._to_headquarters,  # noqa: SLF001
    Course.RETURNED: CaseStory._returned,  # noqa: SLF001
    Course.DISPUTED: CaseStory._disputed,  # noqa: SLF001
    Course.JOINT: CaseStory._joint,  # noqa: SLF001
    Course.LINKED: CaseStory._linked,  # noqa: SLF001
    Course.DEFERRED: CaseStory._deferred,  # noqa: SLF001
    Course.RECONSIDERATION: CaseStory._to_reconsideration,  # noqa: SLF001
    Course.WITHDRAWN: CaseStory._withdrawn,  # noqa: SLF001
}
"""What becomes of a case between its registration and its end."""

_NOT_FED_BACK: Final = frozenset({Course.RECONSIDERATION, Course.WITHDRAWN})
"""Courses that end without an answer to follow up."""

Happening = Callable[[], Awaitable[None]]
"""Something that befalls the federation at an hour, while the acts of that hour are under way."""


async def play(
    *,
    plans: Sequence[Plan],
    errands: Sequence[Errand],
    federation: Federation,
    watch: Watch,
    pace: Pace,
    book: Book,
    happenings: Callable[[int], Happening | None],
    after_hour: Callable[[], None],
) -> None:
    """Tell every story from the first hour to the last, and what else there is to do.

    Raises StoryStuck, StoryBroken, NeverSeen, NoAnswer, ChildDied, and what a happening raises.
    """
    arriving: defaultdict[int, list[Errand]] = defaultdict(list)
    courses = [Errand(plan.seed, plan.arrives, CaseStory(plan, federation, watch, pace, book).tell) for plan in plans]
    for errand in (*courses, *errands):
        arriving[errand.arrives].append(errand)
    tasks: set[asyncio.Task[None]] = set()

    async def tell(errand: Errand) -> None:
        try:
            with contextlib.suppress(FortnightOver):
                await errand.tell()
        finally:
            pace.end(errand.name)

    try:
        for index in range(len(pace.hours)):
            await pace.turn(index)
            for errand in arriving[index]:
                pace.begin(errand.name)
                tasks.add(asyncio.create_task(tell(errand)))
            await asyncio.sleep(0)
            happening = happenings(index)
            if happening is not None:
                await happening()
            await _hour(federation, pace, tasks)
            after_hour()
        book.open += sum(not task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hour(federation: Federation, pace: Pace, tasks: set[asyncio.Task[None]]) -> None:
    """Until the hour's acts are done; while a node is down, those who do not need it."""
    waited = 0.0
    while True:
        down = any(node.down for node in federation.nodes)
        slice_seconds = HOUR_SECONDS_WITHOUT_A_NODE if down else 1.0
        idle = await pace.idle(slice_seconds)
        for task in [task for task in tasks if task.done()]:
            tasks.discard(task)
            task.result()
        if idle or down:
            return
        federation.require_alive()
        waited += slice_seconds
        if waited >= HOUR_SECONDS_MAX:
            raise StoryStuck(pace.now, waited, pace.waiting())


async def quiet(watch: Watch, timeout_seconds: float) -> None:
    """Wait until no hand-over is undecided. Raises NeverSeen, naming the first one that still is."""
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    while offered := watch.offered():
        left = deadline - asyncio.get_running_loop().time()
        first = offered[0]
        if left <= 0:
            raise NeverSeen(first.bureau, first.case_id, "the decision on its hand-over", timeout_seconds, first)
        await watch.until(
            first.bureau,
            first.case_id,
            "the decision on its hand-over",
            lambda change, seq=first.seq: change.seq > seq,  # type: ignore[misc]
            left,
        )
