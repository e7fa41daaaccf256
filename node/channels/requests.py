"""What channels hand in and are told, alike for every interface: a registration made of fields, a case without privacy.

What is told of a case is what `GetCase` tells a token: where it stands, who has it, until when. Never its text, who
asked, or how he is reached: a channel knows what it has handed in, and whoever has stolen its token learns none of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kuaixiang.domain.authority import ChannelToken
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Condition, FieldMalformed, FieldMissing, Refused
from kuaixiang.domain.labels import Both, name
from kuaixiang.domain.sign_in import TokenNotForThis
from kuaixiang.domain.staff import Staff
from kuaixiang.domain.words import Category, Channel, ClockKind, Role, Stage
from kuaixiang.wire.codec import instant, timestamp
from kuaixiang.wire.v1 import case_pb2, channel_pb2
from node.desk.asking import Services

ANSWERED: Final = frozenset(
    {
        Stage.FED_BACK,
        Stage.FOLLOWED_UP,
        Stage.CONCLUDED,
        Stage.RECONSIDERATION,
        Stage.WITHDRAWN,
        Stage.WRITTEN_OFF,
    }
)
"""Closed to the taxpayer: what he asked has been answered, or does not go on here. The ledger's own work may go on."""
UNANSWERED: Final = frozenset(Stage) - ANSWERED
STAGES_BY_STATUS: Final[Mapping[str, frozenset[Stage]]] = {"open": UNANSWERED, "closed": ANSWERED}

TEXTS: Final = (
    "taxpayer_name",
    "contact",
    "taxpayer_number",
    "text",
    "channel_reference",
    "place",
    "answer",
    "lead_case_id",
    "note",
)
"""Fields of a registration that are taken as they come; the others are words and who acts."""

W = TypeVar("W", bound=IntEnum)


class ChannelNotNamed(Refused):
    """The bureau's list of staff does not tell under which number the channel acts."""

    condition = Condition.STATE
    field = "actor"

    def __init__(self, bureau: str, number: str) -> None:
        self.remedy = f"Name the number in `actor`, or have the bureau list the channel as {number}, with that role."
        self.remedy_chinese = f"请在 actor 中填写编号；或请该单位将本渠道以编号 {number}、“渠道”岗位列入人员名单。"
        super().__init__(
            f"The list of staff of bureau {bureau} does not tell under which number this channel acts.",
            f"单位 {bureau} 的人员名单中无法确定本渠道的编号。",
        )


class NotSafeToRepeat(Refused):
    """A registration could not be told from its repetition: after a time-out its sender could do nothing safe."""

    condition = Condition.INVALID
    field = "channel_reference"
    remedy = "Send the header Idempotency-Key, or channel_reference; either makes a repetition the same case."
    remedy_chinese = "请附上请求头 Idempotency-Key，或填写 channel_reference；重复提交即视为同一诉求。"

    def __init__(self) -> None:
        super().__init__("Sent twice, this would be two cases.", "该请求重复提交时会登记为两件诉求。")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The next deadline of a case, where its custodian has it."""

    clock: ClockKind
    due_at: datetime
    provisional: bool
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicCase:
    """What a channel is told of a case. `stage` is the custodian's, as far as it has been heard."""

    case_id: str
    bureau: str
    category: Category
    channel: Channel
    registered_at: datetime
    changed_at: datetime
    stage: Stage
    ledger_stage: Stage
    custodian: str
    deadline: Deadline | None
    told: bool
    extended: bool
    end_to_end_workdays: float

    @property
    def status(self) -> str:
        """`closed` when the taxpayer has his answer, else `open`."""
        return status_at(self.ledger_stage)


def status_at(ledger_stage: Stage) -> str:
    """What a stage of the bureau's ledger means to the taxpayer."""
    return "closed" if ledger_stage in ANSWERED else "open"


def change_id(change: case_pb2.CaseChange) -> str:
    """The number of a change, of which there is one: a case's entry in its ledger."""
    return f"{change.case_id}.{change.seq}"


def changes_request(
    token: ChannelToken, asked: channel_pb2.ChannelServiceListCaseChangesRequest
) -> case_pb2.ListChangesRequest:
    """The question for a page of what happened to a token's cases."""
    channel: Any = token.channel
    request = case_pb2.ListChangesRequest(
        bureau=token.bureau, channel=channel, page_size=asked.page_size, page_token=asked.page_token
    )
    copy_given(asked, request, "recorded_from", "recorded_before")
    return request


def copy_given(asked: Message, request: Message, *fields: str) -> None:
    """The messages among some fields that are there, from one message to another."""
    for field in fields:
        if asked.HasField(field):
            getattr(request, field).CopyFrom(getattr(asked, field))


def public(case: case_pb2.Case, progress: case_pb2.CaseProgress | None = None) -> PublicCase:
    """A case as `GetCase` and `ListCases` tell it, with what was last heard of it from another bureau, if any."""
    heard = progress is not None and bool(progress.bureau)
    deadline: Deadline | None = None
    if heard and progress is not None and progress.next_clock:
        deadline = Deadline(
            clock=ClockKind(progress.next_clock),
            due_at=instant(progress.next_due_at),
            provisional=False,
            overdue=progress.overdue,
        )
    elif not heard and case.clocks:
        first = case.clocks[0]
        deadline = Deadline(
            clock=ClockKind(first.kind),
            due_at=instant(first.due_at),
            provisional=first.provisional,
            overdue=first.overdue,
        )
    return PublicCase(
        case_id=case.case_id,
        bureau=case.bureau,
        category=Category(case.category),
        channel=Channel(case.channel),
        registered_at=instant(case.registered_at),
        changed_at=max(instant(case.last_at), instant(progress.occurred_at))
        if heard and progress is not None
        else instant(case.last_at),
        stage=Stage(progress.stage) if heard and progress is not None else Stage(case.stage),
        ledger_stage=Stage(case.stage),
        custodian=progress.bureau if heard and progress is not None else case.with_bureau or case.bureau,
        deadline=deadline,
        told=case.told,
        extended=case.extended,
        end_to_end_workdays=case.end_to_end_milli_workdays / 1000,
    )


def registration(
    services: Services, token: ChannelToken, given: channel_pb2.ChannelServiceRegisterCaseRequest
) -> case_pb2.RegisterCaseRequest:
    """The registration that a token's holder asks for, what is left out being the token's or the list of staff's.

    Raises `TokenNotForThis`, `ChannelNotNamed`; the service looks at all the rest.
    """
    bureau = given.bureau or token.bureau
    if bureau != token.bureau:
        raise TokenNotForThis(token, "bureau")
    staff = services.office.place.staff(bureau)
    actor = given.actor or _number_of(staff, token)
    role: Any = Role.CHANNEL
    header = case_pb2.ActHeader(
        bureau=bureau,
        actor=actor,
        role=role,
        department=given.department or _department_of(staff, actor),
        request_key=given.request_key,
    )
    copy_given(given, header, "occurred_at")
    channel: Any = given.channel or token.channel
    request = case_pb2.RegisterCaseRequest(header=header, category=given.category, channel=channel)
    for field in TEXTS:
        setattr(request, field, getattr(given, field))
    return request


def word(kind: type[W], written: str, field: str) -> W:
    """A word by its English name; raises `FieldMalformed`, which does not repeat it."""
    for one in kind:
        if name(one) == written:
            return one
    known = ", ".join(map(name, kind))
    raise FieldMalformed(
        field,
        Both(f"is no {kind.__name__.lower()}", "不在规定的选项中"),
        Both(f"Use one of {known}.", f"可选：{known}。"),
    )


def stamp(written: str, field: str) -> Timestamp:
    """An instant as ISO 8601 with its offset; raises `FieldMalformed`."""
    try:
        # A plus sign that has not been escaped arrives as a space.
        at = datetime.fromisoformat(written.strip().replace(" ", "+") if "T" in written else written)
        if at.tzinfo is None:
            raise ValueError
        return timestamp(at.astimezone(SHANGHAI))
    except (ValueError, OverflowError):
        raise FieldMalformed(
            field,
            Both("is not a time with its offset from UTC", "不是带时区的时间"),
            Both("Write it like 2026-11-23T09:00:00+08:00.", "请按 2026-11-23T09:00:00+08:00 的格式填写。"),
        ) from None


def shown(at: datetime) -> str:
    """An instant as it is answered: ISO 8601, Shanghai's time."""
    return at.astimezone(SHANGHAI).isoformat(timespec="seconds")


def _number_of(staff: Staff, token: ChannelToken) -> str:
    """Under which number the channel acts when it does not say: the one that is listed for it, or the only one."""
    own = name(token.channel)
    if not staff.listed:
        return own
    channels = [actor for actor, officer in staff.officers.items() if Role.CHANNEL in officer.roles]
    if own in channels:
        return own
    if len(channels) != 1:
        raise ChannelNotNamed(token.bureau, own)
    return channels[0]


def _department_of(staff: Staff, actor: str) -> str:
    """Of that number's departments tax service (§五(二)), else the first."""
    officer = staff.officers.get(actor)
    if officer is None or staff.receiving_department in officer.departments:
        return staff.receiving_department
    return min(officer.departments, default=staff.receiving_department)


def required(fields: Mapping[str, str], field: str) -> str:
    """A field that must be there; raises `FieldMissing`."""
    value = fields.get(field, "")
    if not value:
        raise FieldMissing(field, Both("nothing can be asked without it", "缺少该项无法办理"))
    return value
