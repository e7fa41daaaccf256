"""The driver against bureaus that only remember what they were asked, and when the clock showed what."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from demo import registrations
from demo.officers import Officer
from demo.registrations import RegistrationRefused, Registrations
from demo.replay import driver
from demo.replay.driver import Driver, ReplayFailed, timeline
from demo.replay.log import Plan, read_log
from demo.replay.mapping import load_mapping
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both
from kuaixiang.domain.words import Custody
from kuaixiang.wire.codec import instant
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import case_pb2
from tests.demo.replay import small


@dataclass
class Done:
    """An act, with what the clock showed when it came to the bureau and when it was answered."""

    bureau: str
    case_id: str
    act: str
    at: dt.datetime | None
    came: dt.datetime
    answered: dt.datetime


@dataclass
class Clock:
    shown: dt.datetime

    def now(self) -> dt.datetime:
        return self.shown

    def advance_to(self, instant: dt.datetime) -> None:
        assert instant >= self.shown
        self.shown = instant


@dataclass
class FakeNode:
    name: str
    codes: tuple[str, ...]


@dataclass
class FakeFederation:
    clock: Clock
    nodes: list[FakeNode]
    done: list[Done] = field(default_factory=list)
    arriving: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    holder: dict[str, str] = field(default_factory=dict)
    arrived: list[tuple[str, dt.datetime, dt.datetime]] = field(default_factory=list)
    """Case, when it was referred, and when it arrived."""
    refuse: str = ""
    travel_seconds: float = 0.03

    def office(self, bureau: str) -> Any:
        return FakeOffice(self, bureau)

    def node(self, bureau: str) -> FakeNode:
        return next(node for node in self.nodes if bureau in node.codes)

    def require_alive(self) -> None:
        pass


@dataclass
class FakeOffice:
    """Answers after a while; what is referred travels for longer."""

    federation: FakeFederation
    bureau: str

    async def do(
        self, officer: Officer, act: Act, case_id: str = "", *, key: str = "", at: dt.datetime | None = None
    ) -> None:
        came = self.federation.clock.now()
        await asyncio.sleep(0.002)
        name = type(act).__name__
        if name == self.federation.refuse:
            raise RemoteRefusal(grpc.StatusCode.FAILED_PRECONDITION, "ActNotAllowed", "", Both("not now", "现在不能"))
        assert self.federation.holder[case_id] == self.bureau
        self.federation.done.append(Done(self.bureau, case_id, name, at, came, self.federation.clock.now()))
        if name == "Refer":
            assert at is not None
            self.federation.holder[case_id] = ""
            travel = self._travel(case_id, act.final_bureau, at)  # type: ignore[attr-defined]
            self.federation.arriving[case_id] = asyncio.create_task(travel)

    async def _travel(self, case_id: str, bureau: str, at: dt.datetime) -> None:
        await asyncio.sleep(self.federation.travel_seconds)
        self.federation.holder[case_id] = bureau
        self.federation.arrived.append((case_id, at, self.federation.clock.now()))

    async def get(self, case_id: str) -> case_pb2.GetCaseResponse:
        if self.federation.holder[case_id] != self.bureau:
            raise RemoteRefusal(grpc.StatusCode.NOT_FOUND, "UnknownCase", "", Both("unknown", "未知"))
        return case_pb2.GetCaseResponse(case=case_pb2.Case(custody=int(Custody.OWNED)))  # type: ignore[arg-type]

    async def register_many(
        self, requests: AsyncIterator[case_pb2.RegisterCasesRequest]
    ) -> AsyncIterator[case_pb2.RegisterCasesResponse]:
        async for request in requests:
            now = self.federation.clock.now()
            answers = []
            for registration in request.registrations:
                header = registration.header
                case_id, at = header.request_key, instant(header.occurred_at)
                self.federation.holder[case_id] = header.bureau
                self.federation.done.append(Done(header.bureau, case_id, "Register", at, now, now))
                answers.append(_accepted(case_id))
            yield case_pb2.RegisterCasesResponse(answers=answers)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    log, mapping = small.write(tmp_path)
    return read_log(log, load_mapping(mapping))


def federation_of(plan: Plan) -> Any:
    codes = tuple(plan.tree.bureaus.bureaus)
    return FakeFederation(Clock(plan.cases[0].registered_at), [FakeNode("node", codes)])


def test_the_timeline_is_in_order_and_each_case_within_it(plan: Plan) -> None:
    moments = list(timeline(plan))
    assert moments == sorted(moments, key=lambda moment: moment.at)
    for number, case in enumerate(plan.cases):
        positions = [moment.position for moment in moments if moment.case == number]
        assert positions == list(range(-1, len(case.steps)))


async def test_every_act_carries_its_own_time_and_comes_on_its_own_day(plan: Plan) -> None:
    federation = federation_of(plan)
    played = await Driver(federation, plan).play()
    assert played.steps == sum(1 + len(case.steps) for case in plan.cases)
    assert played.acts == len(federation.done)
    for done in federation.done:
        at = done.at or done.came
        assert at <= done.came
        assert at.astimezone(SHANGHAI).date() == done.answered.astimezone(SHANGHAI).date()
    assert federation.clock.now() == plan.ends_at


async def test_a_case_is_played_in_the_order_of_its_steps_and_where_it_is(plan: Plan) -> None:
    federation = federation_of(plan)
    await Driver(federation, plan).play()
    names = {code: bureau.name for code, bureau in plan.tree.bureaus.bureaus.items()}
    number = next(number for number, case in enumerate(plan.cases) if case.case_ref == "hasty")
    told = [(names[done.bureau], done.act) for done in federation.done if done.case_id == f"replay-{number}.1"]
    assert told == [
        ("Desk", "Register"),
        ("Desk", "AcceptDirectly"),
        ("Desk", "Refer"),
        ("Lab 2nd", "Dispatch"),
        ("Lab 2nd", "Refer"),
        ("Desk", "Dispatch"),
        ("Desk", "Complete"),
        ("Desk", "GiveFeedback"),
    ]


async def test_the_clock_waits_for_a_case_on_its_way(plan: Plan) -> None:
    """It arrives on the day of the hand-over, and before the next step of the case."""
    federation = federation_of(plan)
    await Driver(federation, plan).play()
    steps = {f"replay-{number}.1": case.steps for number, case in enumerate(plan.cases)}
    assert len(federation.arrived) == 5
    for case_id, at, arrived in federation.arrived:
        assert at.astimezone(SHANGHAI).date() == arrived.astimezone(SHANGHAI).date()
        following = next(step.at for step in steps[case_id] if step.at > at)
        assert arrived <= following


async def test_a_case_with_departments_is_forwarded_and_dispatched_from_one_to_the_other(plan: Plan) -> None:
    federation = federation_of(plan)
    await Driver(federation, plan).play()
    number = next(number for number, case in enumerate(plan.cases) if case.case_ref == "within")
    told = [done.act for done in federation.done if done.case_id == f"replay-{number}.1"]
    assert told == ["Register", "Forward", "Dispatch", "ReturnDispatch", "Dispatch", "Complete", "GiveFeedback"]


async def test_a_refused_act_ends_the_replay_with_case_and_step(plan: Plan) -> None:
    federation = federation_of(plan)
    federation.refuse = "Defer"
    with pytest.raises(ReplayFailed, match=r"case waiting: step 1 \(Wait\) of 2024-03-06T01:30:00") as failed:
        await Driver(federation, plan).play()
    assert (failed.value.case_ref, failed.value.reason) == ("waiting", "not now")


async def test_a_case_that_does_not_arrive_ends_the_replay(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = federation_of(plan)
    federation.travel_seconds = 3600.0
    monkeypatch.setattr(driver, "ARRIVAL_SECONDS_MAX", 0.0)
    with pytest.raises(ReplayFailed, match=r"case up and down: step 1 \(HandOver\) .* has not arrived"):
        await Driver(federation, plan).play()


# ---------------------------------------------------------------- the stream of registrations


class Unreliable:
    """A node that goes away in the middle, is busy once, and refuses what has no bureau."""

    bureau = "110101"

    def __init__(self) -> None:
        self.streams = 0
        self.busy = True
        self.registered: dict[str, str] = {}

    async def register_many(
        self, requests: AsyncIterator[case_pb2.RegisterCasesRequest]
    ) -> AsyncIterator[case_pb2.RegisterCasesResponse]:
        self.streams += 1
        async for request in requests:
            for registration in request.registrations:
                yield case_pb2.RegisterCasesResponse(answers=[self._answer(registration.header)])

    def _answer(self, header: case_pb2.ActHeader) -> case_pb2.RegistrationAnswer:
        if header.request_key == "4" and self.streams == 1:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "away")
        if header.request_key == "2" and self.busy:
            self.busy = False
            return _refused(8, "TooMuchWaits")
        if not header.bureau:
            return _refused(3, "FieldMissing")
        return _accepted(self.registered.setdefault(header.request_key, f"case-{len(self.registered) + 1}"))


def _accepted(case_id: str) -> case_pb2.RegistrationAnswer:
    return case_pb2.RegistrationAnswer(accepted=case_pb2.RegisteredCase(case_id=case_id))


def _refused(code: int, rule: str) -> case_pb2.RegistrationAnswer:
    return case_pb2.RegistrationAnswer(refused=case_pb2.RefusedAct(code=code, rule=rule, message=rule))


def _request(key: int, bureau: str = "110101") -> case_pb2.RegisterCaseRequest:
    return case_pb2.RegisterCaseRequest(header=case_pb2.ActHeader(bureau=bureau, request_key=str(key)))


async def test_registrations_survive_a_node_that_goes_away_and_one_that_is_busy() -> None:
    node: Any = Unreliable()
    async with asyncio.timeout(60), Registrations(node) as stream:
        answers = await asyncio.gather(*(stream.register(_request(key)) for key in range(8)))
    numbers = [answer.case_id for answer in answers]
    assert [node.registered[str(key)] for key in range(8)] == numbers
    assert len(set(numbers)) == 8
    assert node.streams == 2


class OfTheFirstRelease(Unreliable):
    """A node that knows one registration of a message alone, and answers each message for itself."""

    async def register_many(
        self, requests: AsyncIterator[case_pb2.RegisterCasesRequest]
    ) -> AsyncIterator[case_pb2.RegisterCasesResponse]:
        self.streams += 1
        index = 0
        async for request in requests:
            answer = self._answer(request.registration.header)
            if answer.HasField("refused"):
                yield case_pb2.RegisterCasesResponse(index=index, refused=answer.refused)
            else:
                case = case_pb2.Case(case_id=answer.accepted.case_id)
                yield case_pb2.RegisterCasesResponse(index=index, accepted=case_pb2.ActResponse(case=case))
            index += 1


async def test_a_node_of_the_first_release_is_asked_for_one_registration_at_a_time() -> None:
    node: Any = OfTheFirstRelease()
    async with asyncio.timeout(60), Registrations(node) as stream:
        asked = [stream.register(_request(key)) for key in range(10, 30)]
        refused = asyncio.ensure_future(stream.register(_request(9, bureau="")))
        answers = await asyncio.gather(*asked)
        with pytest.raises(RegistrationRefused):
            await refused
    assert list(node.registered.values()) == [answer.case_id for answer in answers]
    assert (20, 2) == (len(answers), node.streams)


async def test_a_refused_registration_is_told_to_whoever_asked_for_it_alone() -> None:
    node: Any = Unreliable()
    async with asyncio.timeout(60), Registrations(node) as stream:
        wrong, right = await asyncio.gather(
            stream.register(_request(10, bureau="")), stream.register(_request(11)), return_exceptions=True
        )
    assert isinstance(wrong, RegistrationRefused)
    assert wrong.rule == "FieldMissing"
    assert isinstance(right, case_pb2.RegisteredCase)
    assert right.case_id == "case-1"


async def test_a_node_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "PATIENCE_SECONDS", 0.0)
    node: Any = Unreliable()
    async with asyncio.timeout(60), Registrations(node) as stream:
        with pytest.raises(Exception, match="did not answer RegisterCases"):
            await stream.register(_request(4))
