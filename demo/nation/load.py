"""Officers of many bureaus at their terminals, as a process of its own: ``python -m demo.nation.load ORDERS``.

It registers the cases of its bureaus over one stream for each node, in the order of the day, as fast as they are
acknowledged, and does every later act by a call of its own, when the business clock has come to the time that the plan
has for it. The clock is moved by whoever started it, by how far registering has come.

Every acknowledgement is a line of a file, against which the ledgers are held in the end; how far the process is stands
in another one, which is replaced five times a second.
"""

import asyncio
import contextlib
import heapq
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TextIO

from demo.content import Department, fictional_taxpayer
from demo.federation import terminal_channel
from demo.nation import day
from demo.nation.day import CasePlan, FilingDay, Way, minutes
from demo.officers import NoAnswer, Office, Officer, request_of
from demo.registrations import RegistrationRefused, Registrations
from demo.tally import Acknowledged
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.words import Channel, Custody, Role, Satisfaction, Telling
from kuaixiang.facts import load_tree
from kuaixiang.runtime.clock import SharedClock
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.wire.errors import RemoteRefusal

REGISTERED_AT_ONCE: Final = 64
"""Registrations that are not acknowledged, for each node that this process registers at: so many share a commit. A
quarter of it, and of the acts, and a nation of sixty nodes registers a quarter less."""

ACTS_AT_ONCE: Final = 16
"""Other acts under way, likewise. Where four times as many waited at a node without a core of its own, it answered its
peers' offers after the ten seconds that they wait, and was offered everything twice."""

ACTS_WAITING_MAX: Final = 2_000
"""Acts whose time has come and that wait for their turn; while there are more nothing is registered, so that the
business clock, which registering moves, does not run away from what is to be done by then."""

AGENDA_SECONDS: Final = 0.1
"""Between two looks at the business clock."""

PROGRESS_SECONDS: Final = 0.2

ARRIVAL_SECONDS_MIN, ARRIVAL_SECONDS_MAX = 2.0, 15.0
"""Between two looks whether a case has arrived, at first and at last: a hop takes some tens of milliseconds where
nothing waits, and seconds where a whole nation shares two cores. Asked four times as often, the questions were two
calls of five."""

PATIENCE_SECONDS: Final = 900.0
"""Officers ask again for so long: sixty processes on two cores may leave one of them without an answer for minutes."""

CALL_SECONDS: Final = 120.0
"""One attempt. Where a node has too little of the machine, an act that is given up and asked again is more to do: with
ten seconds sixty nodes on two busy cores did little else."""

ARRIVED_SECONDS_MAX: Final = 900.0
"""A hand-over that takes longer than this is not late but stuck."""

FAULTS_TOLD_MAX: Final = 20

TAX_SERVICE: Final = Department.TAX_SERVICE.value


class DayOver(Exception):
    """The next act of a case would come after closing time; it is left for the next day."""


class NeverArrived(Exception):
    """A case did not come to the bureau that it was handed over to."""

    def __init__(self, case_id: str, bureau: str, seconds: float) -> None:
        self.case_id = case_id
        self.bureau = bureau
        super().__init__(f"case {case_id} has not arrived at bureau {bureau} after {seconds:.0f} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddress:
    """A node, and the certificate of its bureaus' terminals."""

    codes: Sequence[str]
    endpoint: str
    terminal: str
    """The certificate's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a process of officers is to do."""

    tree: str
    clock: str
    nodes: Sequence[NodeAddress]
    cases: int
    """Of the whole day."""
    seed: int
    worker: int
    workers: int
    """This one registers at each node whose place among all, modulo their number, is its own."""
    acknowledged: str
    progress: str
    until: float = math.inf
    """Unix time after which nothing more is registered; what has come in by then is the day."""

    @classmethod
    def read(cls, file: Path) -> "Orders":
        """The orders of a file that `write` made."""
        told = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{**told, "nodes": [NodeAddress(**node) for node in told["nodes"]]})

    def write(self, file: Path) -> None:
        """Write them down as JSON."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(slots=True)
class Progress:
    """How far a process of officers is."""

    registered: int = 0
    acts: int = 0
    """Acknowledged, registrations not counted."""
    waiting: int = 0
    """Acts whose time has come and that are not acknowledged."""
    travelling: int = 0
    """Cases on their way to another bureau."""
    arrived: int = 0
    """Hand-overs that came to the bureau they were meant for, passing others on their way or not."""
    open: int = 0
    """Cases with something to be done on this day."""
    retries: int = 0
    """Attempts that were not answered and were made again."""
    faults: int = 0
    """Refusals, hand-overs that did not arrive, services that did not answer."""
    told: list[str] = field(default_factory=list)
    """The first of them."""
    woken: float = 0.0
    """Business time, Unix seconds, up to which everybody whose turn had come was woken, and is counted above."""
    cpu_seconds: float = 0.0
    done: bool = False

    def write(self, file: Path) -> None:
        """Write it down, whole from the first instant that it can be read."""
        self.cpu_seconds = time.process_time()
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(file)

    @classmethod
    def read(cls, file: Path) -> "Progress":
        """As it stands in a file; of one that is not there yet: nothing done."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()


def acknowledged(file: Path) -> list[tuple[str, Acknowledged]]:
    """What a process of officers was acknowledged, each with its request key."""
    with file.open(encoding="utf-8") as lines:
        rows = (line.rstrip("\n").split("\t") for line in lines)
        return [(key, Acknowledged(bureau, case_id, int(seq), act)) for key, bureau, case_id, seq, act in rows]


class Agenda:
    """Wakes whoever waits for an instant of the business clock."""

    def __init__(self, clock: SharedClock) -> None:
        self._clock = clock
        self._waiting: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._count = 0
        self.woken = 0.0
        """Business time, Unix seconds, up to which everybody has been woken and has had a turn."""

    @property
    def now(self) -> datetime:
        """Business time."""
        return self._clock.now()

    async def rest(self, duration: timedelta) -> None:
        """Wait until so much later on this day. Raises `DayOver`."""
        at = self.now + duration
        if at >= day.CLOSES:
            raise DayOver
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (at, self._count, future))
        await future

    async def run(self) -> None:
        """Wake them, until this is cancelled."""
        while True:
            now = self.now
            while self._waiting and self._waiting[0][0] <= now:
                heapq.heappop(self._waiting)[2].set_result(None)
            await asyncio.sleep(AGENDA_SECONDS)
            self.woken = now.timestamp()


class Officers:
    """The officers of one process, and the lives of the cases that they register."""

    def __init__(self, orders: Orders, acknowledgements: TextIO) -> None:
        self._orders = orders
        self._file = acknowledgements
        self.progress = Progress()
        self._day = FilingDay(load_tree(Path(orders.tree)), orders.cases, orders.seed)
        self._agenda = Agenda(SharedClock(Path(orders.clock)))
        self._node_of = {code: number for number, node in enumerate(orders.nodes) for code in node.codes}
        self._channels = [
            terminal_channel("node", node.codes[0], node.endpoint, CertificatePaths.in_folder(Path(node.terminal)))
            for node in orders.nodes
        ]
        self._offices: dict[str, Office] = {}
        mine = sum(map(self._is_mine, range(len(orders.nodes))))
        self._registering = asyncio.Semaphore(max(1, REGISTERED_AT_ONCE * mine))
        self._acting = asyncio.Semaphore(max(1, ACTS_AT_ONCE * mine))
        self._lives: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """The whole day, until nobody has anything more to do on it."""
        mine = {number for number in range(len(self._channels)) if self._is_mine(number)}
        progress_file = Path(self._orders.progress)
        async with contextlib.AsyncExitStack() as stack:
            for channel in self._channels:
                stack.push_async_callback(channel.close)
            chores = [asyncio.create_task(self._agenda.run()), asyncio.create_task(self._tell(progress_file))]
            for chore in chores:
                stack.callback(chore.cancel)
            streams = {
                number: await stack.enter_async_context(
                    Registrations(self._office(self._orders.nodes[number].codes[0]))
                )
                for number in mine
            }
            for number, home in enumerate(self._day.homes):
                node = self._node_of[home]
                if node not in streams:
                    continue
                if time.time() > self._orders.until:
                    break
                while self.progress.waiting > ACTS_WAITING_MAX:  # noqa: ASYNC110 - an event would be set by each act
                    await asyncio.sleep(AGENDA_SECONDS)
                await self._registering.acquire()
                life = asyncio.create_task(self._live(self._day.plan(number), streams[node]))
                self._lives.add(life)
                life.add_done_callback(self._lives.discard)
                self.progress.open = len(self._lives)
            while self._lives:
                await asyncio.wait(self._lives)
        self.progress.open, self.progress.done = 0, True
        self.progress.retries = sum(office.retries for office in self._offices.values())
        self._file.flush()
        self.progress.write(progress_file)

    def _is_mine(self, number: int) -> bool:
        return number % self._orders.workers == self._orders.worker

    async def _tell(self, file: Path) -> None:
        while True:
            self.progress.open, self.progress.woken = len(self._lives), self._agenda.woken
            self.progress.write(file)
            await asyncio.sleep(PROGRESS_SECONDS)

    def _office(self, bureau: str) -> Office:
        office = self._offices.get(bureau)
        if office is None:
            channel = self._channels[self._node_of[bureau]]
            office = self._offices[bureau] = Office(bureau, channel, PATIENCE_SECONDS, CALL_SECONDS)
        return office

    async def _live(self, plan: CasePlan, stream: Registrations) -> None:
        life = Life(plan, self._day.tree.subtree(plan.home)[-1])
        try:
            try:
                await self._register(life, stream)
            finally:
                self._registering.release()
            if plan.way is not Way.ON_THE_SPOT:
                await self._handle(life)
        except DayOver:
            pass
        except (RemoteRefusal, RegistrationRefused, NoAnswer, NeverArrived) as fault:
            self.progress.faults += 1
            if len(self.progress.told) < FAULTS_TOLD_MAX:
                self.progress.told.append(f"case {plan.number} ({plan.way}) at bureau {life.bureau}: {fault}")

    async def _register(self, life: "Life", stream: Registrations) -> None:
        plan, request, rng = life.plan, life.plan.request, life.plan.rng
        taxpayer = fictional_taxpayer(rng, life.division, request.trade)
        act = request.registered(taxpayer, f"{request.channel.name}-{plan.number}")
        act = replace(act, place=life.division, answer=request.reply if plan.way is Way.ON_THE_SPOT else "")
        key = life.next_key()
        answer = await stream.register(request_of(act, plan.home, life.officer("R", Role.REGISTRAR), key=key))
        life.case_id = answer.case_id
        self._acknowledge(key, plan.home, life.case_id, answer.seq, "Register")
        self.progress.registered += 1

    async def _handle(self, life: "Life") -> None:
        """What a case takes that is not answered on the spot, as far as the day goes."""
        plan, rng, request = life.plan, life.plan.rng, life.plan.request
        registrar, tax_service = life.officer("R", Role.REGISTRAR), life.officer("T", Role.TAX_SERVICE)
        await self._agenda.rest(minutes(day.FORWARD_MINUTES, rng))
        told = "已告知纳税人：转交纳税服务部门统筹办理。"
        await self._do(life, registrar, acts.Forward(telling=Telling.TRANSFERRED, told=told))
        await self._agenda.rest(minutes(day.DISPATCH_MINUTES, rng))
        if plan.to:
            await self._do(
                life, tax_service, acts.Refer(final_bureau=plan.to, reason="非本局权限或辖区，移交研究办理。")
            )
            await self._arrives(life, plan.to)
            if plan.way is Way.SENT_BACK:
                await self._agenda.rest(minutes(day.RETURN_MINUTES, rng))
                await self._do(life, tax_service, acts.Return(reason="经核实应由首接单位办理，退回。"))
                await self._arrives(life, plan.home)
            await self._agenda.rest(minutes(day.DISPATCH_MINUTES, rng))
        await self._do(life, tax_service, acts.Dispatch(to_department=request.department.value))
        if not plan.done_today:
            return
        handler = life.officer("H", Role.HANDLER, request.department.value)
        await self._agenda.rest(minutes(day.HANDLE_MINUTES, rng))
        await self._do(life, handler, acts.Complete(result=request.reply))
        await self._agenda.rest(minutes(day.FEEDBACK_MINUTES, rng))
        await self._do(life, handler, acts.GiveFeedback(told_by=Channel.HOTLINE, told=request.reply))
        if plan.to:
            return  # every ledger on its way hears of it first
        await self._agenda.rest(minutes(day.FOLLOW_UP_MINUTES, rng))
        caller = life.officer("V", Role.TAX_SERVICE)
        await self._do(life, caller, acts.FollowUp(satisfaction=Satisfaction.SATISFIED))
        await self._do(life, tax_service, acts.WriteOff(note="台账核对一致，销号。"))

    async def _do(self, life: "Life", officer: Officer, act: Act) -> None:
        self.progress.waiting += 1
        try:
            async with self._acting:
                key = life.next_key()
                answer = await self._office(life.bureau).do(officer, act, life.case_id, key=key)
        finally:
            self.progress.waiting -= 1
        self._acknowledge(key, life.bureau, life.case_id, answer.seq, type(act).__name__)
        self.progress.acts += 1

    async def _arrives(self, life: "Life", bureau: str) -> None:
        """Wait until the bureau has the case. Raises `NeverArrived`."""
        office, began, pause = self._office(bureau), time.monotonic(), ARRIVAL_SECONDS_MIN
        self.progress.travelling += 1
        try:
            while not await _has(office, life.case_id):
                if time.monotonic() - began > ARRIVED_SECONDS_MAX:
                    raise NeverArrived(life.case_id, bureau, ARRIVED_SECONDS_MAX)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, ARRIVAL_SECONDS_MAX)
        finally:
            self.progress.travelling -= 1
        self.progress.arrived += 1
        life.bureau = bureau

    def _acknowledge(self, key: str, bureau: str, case_id: str, seq: int, act: str) -> None:
        self._file.write(f"{key}\t{bureau}\t{case_id}\t{seq}\t{act}\n")


@dataclass(slots=True)
class Life:
    """A case while it is worked on."""

    plan: CasePlan
    division: str
    """The place of the taxpayer."""
    case_id: str = ""
    bureau: str = ""
    acts: int = 0

    def __post_init__(self) -> None:
        self.bureau = self.plan.home

    def next_key(self) -> str:
        """The request key of the next act."""
        self.acts += 1
        return f"{self.plan.number}.{self.acts}"

    def officer(self, letter: str, role: Role, department: str = TAX_SERVICE) -> Officer:
        """One of the three of a kind that every bureau has (`demo.staff`)."""
        return Officer(f"{letter}{self.plan.rng.randint(1, 3):02d}", role, department)


async def _has(office: Office, case_id: str) -> bool:
    try:
        answer = await office.get(case_id)
    except RemoteRefusal as refusal:
        if refusal.rule == "UnknownCase":
            return False
        raise
    return Custody(answer.case.custody) is Custody.OWNED


def main(arguments: Sequence[str]) -> int:
    """Work by the orders in the file named."""
    orders = Orders.read(Path(arguments[0]))
    with Path(orders.acknowledged).open("w", encoding="utf-8") as file:

        async def work() -> None:
            await Officers(orders, file).work()

        asyncio.run(work())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
