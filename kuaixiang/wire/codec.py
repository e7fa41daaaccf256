"""Between the domain's values and the wire's messages: one table, made from the fields' names and types.

An event class `ExtensionAsked` is the message `ExtensionAsked`, the entry's field `extension_asked`; their fields have
the same names, an instant `review_at` being `review_at_us` in microseconds. A request `AskExtensionRequest` is the act
`AskExtension` in the same way. What does not fit fails at import, not in service.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from kuaixiang.domain import acts, order_acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.changed import maker
from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.events import KINDS, Attachment, CaseEvent, ClockChange, Entry, Event, OrderEvent, Private
from kuaixiang.domain.labels import Both, listed, term
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockAction,
    ClockKind,
    ClockOutcome,
    Custody,
    DepartmentKind,
    OrderStage,
    Role,
    Stage,
)
from kuaixiang.runtime.clock import InstantOutOfRange, from_micros, to_micros
from kuaixiang.wire.v1 import case_pb2, common_pb2, journal_pb2, supervision_pb2

UNREADABLE: Final = (DecodeError, LookupError, ValueError)
"""What reading an entry fails with that something else than this system has changed."""

_E = TypeVar("_E", bound=IntEnum)
_A = TypeVar("_A", bound=Act)
_NOT_OF_THE_ACT = {"header", "data"}
"""Fields of a request besides its act: who asks, and the content of the file that the act attaches."""
_HEADER = {field.name for kind in (CaseEvent, OrderEvent) for field in fields(kind)}


@dataclass(frozen=True, slots=True)
class _Field:
    attribute: str
    wire: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _same(value: Any) -> Any:  # noqa: ANN401 - a value that is alike on both sides
    return value


def _micros_or_zero(at: datetime | None) -> int:
    return to_micros(at) if at is not None else 0


def _instant_unless_zero(micros: int) -> datetime | None:
    return from_micros(micros) if micros else None


def _word_of(kind: type[_E]) -> Callable[[int], _E]:
    """What gives a word by its number, in a sixth of the enumeration's own time. Raises `KeyError`."""
    return {int(word): word for word in kind}.__getitem__


_CATEGORY, _CHANNEL, _DEPARTMENT_KIND = _word_of(Category), _word_of(Channel), _word_of(DepartmentKind)
_CLOCK, _CLOCK_ACTION, _CLOCK_OUTCOME = _word_of(ClockKind), _word_of(ClockAction), _word_of(ClockOutcome)
_ROLE, _STAGE, _CUSTODY, _ORDER_STAGE = _word_of(Role), _word_of(Stage), _word_of(Custody), _word_of(OrderStage)
"""A journal is read by thousands of entries, and each has some ten of them."""
_CLOCK_CHANGE: Final = maker(ClockChange)


def _field_for(name: str, hint: Any) -> _Field:  # noqa: ANN401 - a type
    if hint is datetime:
        return _Field(name, f"{name}_us", to_micros, from_micros)
    if hint == datetime | None:
        return _Field(name, f"{name}_us", _micros_or_zero, _instant_unless_zero)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _Field(name, name, int, _word_of(hint))
    if get_origin(hint) is tuple:
        return _Field(name, name, _same, tuple)
    if hint in {str, int, bool, bytes}:
        return _Field(name, name, _same, _same)
    message = f"{name}: {hint} has no form on the wire"
    raise TypeError(message)


@dataclass(frozen=True, slots=True)
class _EventForm:
    kind: type[Event]
    name: str
    message: type[Message]
    fields: tuple[_Field, ...]


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _event_form(kind: type[Event]) -> _EventForm:
    message: type[Message] = getattr(journal_pb2, kind.__name__)
    hints = get_type_hints(kind)
    own = tuple(_field_for(field.name, hints[field.name]) for field in fields(kind) if field.name not in _HEADER)
    wire = {field.name for field in message.DESCRIPTOR.fields}
    if wire != {field.wire for field in own}:
        mismatch = f"{kind.__name__}: fields {sorted(field.wire for field in own)} here, {sorted(wire)} on the wire"
        raise TypeError(mismatch)
    return _EventForm(kind, _snake(kind.__name__), message, own)


_BY_KIND: Mapping[type[Event], _EventForm] = {kind: _event_form(kind) for kind in KINDS}
_BY_NAME: Mapping[str, _EventForm] = {form.name: form for form in _BY_KIND.values()}


def event_name_of(kind: type[Event]) -> str:
    """The name in the journal of events of a kind."""
    return _BY_KIND[kind].name


def event_name(event: Event) -> str:
    """The event's name in the journal, such as `extension_asked`."""
    return _BY_KIND[type(event)].name


def encode_entry(entry: Entry) -> bytes:
    """The public part of an entry, to be hashed and stored as it is."""
    event = entry.event
    form = _BY_KIND[type(event)]
    header: dict[str, Any] = {
        "bureau": entry.bureau,
        "case_id": entry.case_id,
        "version": entry.version,
        "recorded_at_us": to_micros(entry.recorded_at),
        "occurred_at_us": to_micros(entry.occurred_at),
        "actor": entry.actor,
        "role": entry.role,
        "department": entry.department,
        "category": entry.category or 0,
        "channel": entry.channel or 0,
        "clocks": [_encode_clock(change) for change in event.clocks],
        "department_kind": entry.department_kind or 0,
    }
    if isinstance(event, CaseEvent):
        header.update(stage=event.stage, custody=event.custody, epoch=event.epoch)
    elif isinstance(event, OrderEvent):
        header["order_stage"] = event.order_stage
    message = journal_pb2.Entry(**header)
    own = getattr(message, form.name)
    own.SetInParent()
    for field in form.fields:
        value = field.encode(getattr(event, field.attribute))
        if isinstance(value, tuple):
            getattr(own, field.wire).extend(value)
        else:
            setattr(own, field.wire, value)
    return message.SerializeToString()


def decode_entry(public: bytes, private: bytes | None = None) -> Entry:
    """An entry from its stored parts; `private` None where it is not known here."""
    message = journal_pb2.Entry.FromString(public)
    form = _BY_NAME[str(message.WhichOneof("event"))]
    own = getattr(message, form.name)
    standing: dict[str, Any] = {}
    if issubclass(form.kind, CaseEvent):
        standing = {"stage": _STAGE(message.stage), "custody": _CUSTODY(message.custody), "epoch": message.epoch}
    elif issubclass(form.kind, OrderEvent):
        standing = {"order_stage": _ORDER_STAGE(message.order_stage)}
    event = form.kind(
        clocks=tuple(_decode_clock(change) for change in message.clocks),
        private=decode_private(private) if private is not None else None,
        **standing,
        **{field.attribute: field.decode(getattr(own, field.wire)) for field in form.fields},
    )
    return Entry(
        bureau=message.bureau,
        case_id=message.case_id,
        version=message.version,
        recorded_at=from_micros(message.recorded_at_us),
        occurred_at=from_micros(message.occurred_at_us),
        actor=message.actor,
        role=_ROLE(message.role),
        department=message.department,
        category=_CATEGORY(message.category) if message.category else None,
        channel=_CHANNEL(message.channel) if message.channel else None,
        event=event,
        department_kind=_DEPARTMENT_KIND(message.department_kind) if message.department_kind else None,
    )


def _encode_clock(change: ClockChange) -> journal_pb2.ClockChange:
    parts: dict[str, Any] = {
        "kind": change.kind,
        "action": change.action,
        "department": change.department,
        "started_at_us": to_micros(change.started_at),
        "due_at_us": to_micros(change.due_at),
        "limit_workdays": change.limit_workdays,
        "calendar_version": change.calendar_version,
        "provisional": change.provisional,
        "outcome": change.outcome or 0,
        "elapsed_milli_workdays": change.elapsed_milli_workdays,
        "soon_at_us": _micros_or_zero(change.soon_at),
        "department_kind": change.department_kind or 0,
    }
    return journal_pb2.ClockChange(**parts)


def _decode_clock(change: journal_pb2.ClockChange) -> ClockChange:
    return _CLOCK_CHANGE(
        _CLOCK(change.kind),
        _CLOCK_ACTION(change.action),
        change.department,
        from_micros(change.started_at_us),
        from_micros(change.due_at_us),
        change.limit_workdays,
        change.calendar_version,
        change.provisional,
        _instant_unless_zero(change.soon_at_us),
        _CLOCK_OUTCOME(change.outcome) if change.outcome else None,
        change.elapsed_milli_workdays,
        _DEPARTMENT_KIND(change.department_kind) if change.department_kind else None,
    )


def encode_private(private: Private) -> bytes:
    """The private part of an entry, to be salted, digested and stored apart."""
    return journal_pb2.Private(
        taxpayer_name=private.taxpayer_name,
        taxpayer_number=private.taxpayer_number,
        contact=private.contact,
        text=private.text,
        place=private.place,
        channel_reference=private.channel_reference,
        note=private.note,
        attachments=[attachment_message(attachment) for attachment in private.attachments],
    ).SerializeToString()


def decode_private(payload: bytes) -> Private:
    """The private part as stored."""
    message = journal_pb2.Private.FromString(payload)
    return Private(
        taxpayer_name=message.taxpayer_name,
        taxpayer_number=message.taxpayer_number,
        contact=message.contact,
        text=message.text,
        place=message.place,
        channel_reference=message.channel_reference,
        note=message.note,
        attachments=tuple(attachment_of(attachment) for attachment in message.attachments),
    )


def attachment_message(attachment: Attachment) -> common_pb2.Attachment:
    """What a file of a case is, as it travels."""
    return common_pb2.Attachment(
        digest=attachment.digest,
        name=attachment.name,
        media_type=attachment.media_type,
        size_bytes=attachment.size_bytes,
    )


def attachment_of(message: common_pb2.Attachment) -> Attachment:
    """What a file of a case is, as it came; nothing of it is checked."""
    return Attachment(
        digest=message.digest, name=message.name, media_type=message.media_type, size_bytes=message.size_bytes
    )


def timestamp(at: datetime) -> Timestamp:
    """An instant for the interface."""
    micros = to_micros(at)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1_000)


def instant(stamp: Timestamp, field: str = "timestamp") -> datetime:
    """An instant from the interface; its nanoseconds are cut to microseconds. Raises `FieldMalformed`."""
    return instant_of(stamp.seconds * 1_000_000 + stamp.nanos // 1_000, field)


def instant_of(micros: int, field: str) -> datetime:
    """An instant from a peer; raises `FieldMalformed` for one that no calendar has."""
    try:
        return from_micros(micros)
    except InstantOutOfRange as fault:
        raise FieldMalformed(
            field,
            Both("is not a time between the years 1 and 9999", "不是公元1年至9999年之间的时间"),
            Both("Give a time that can be.", "请填写正确的时间。"),
        ) from fault


def micros_given(request: Message, field: str) -> int | None:
    """An instant that a request may give, in microseconds; None when it does not. Raises `FieldMalformed`."""
    return to_micros(instant(getattr(request, field), field)) if request.HasField(field) else None


ACT_OF_REQUEST: Mapping[type[Message], type[Act]] = {
    case_pb2.RegisterCaseRequest: acts.Register,
    case_pb2.AnswerOnTheSpotRequest: acts.AnswerOnTheSpot,
    case_pb2.ForwardCaseRequest: acts.Forward,
    case_pb2.DispatchCaseRequest: acts.Dispatch,
    case_pb2.ReturnDispatchRequest: acts.ReturnDispatch,
    case_pb2.AcceptDirectlyRequest: acts.AcceptDirectly,
    case_pb2.AskExtensionRequest: acts.AskExtension,
    case_pb2.ApproveExtensionRequest: acts.ApproveExtension,
    case_pb2.RefuseExtensionRequest: acts.RefuseExtension,
    case_pb2.StartJointHandlingRequest: acts.StartJointHandling,
    case_pb2.ExplainExtensionRequest: acts.ExplainExtension,
    case_pb2.AddPartRequest: acts.AddPart,
    case_pb2.CompletePartRequest: acts.CompletePart,
    case_pb2.CompleteCaseRequest: acts.Complete,
    case_pb2.LinkCaseRequest: acts.Link,
    case_pb2.UnlinkCaseRequest: acts.Unlink,
    case_pb2.LinkIssueRequest: acts.LinkIssue,
    case_pb2.AttachFileRequest: acts.Attach,
    case_pb2.GiveFeedbackRequest: acts.GiveFeedback,
    case_pb2.RecordFollowUpRequest: acts.FollowUp,
    case_pb2.ReopenCaseRequest: acts.Reopen,
    case_pb2.WithdrawCaseRequest: acts.Withdraw,
    case_pb2.DeferCaseRequest: acts.Defer,
    case_pb2.ResumeCaseRequest: acts.Resume,
    case_pb2.SendToReconsiderationRequest: acts.SendToReconsideration,
    case_pb2.ReferCaseRequest: acts.Refer,
    case_pb2.ReturnCaseRequest: acts.Return,
    case_pb2.AskRulingRequest: acts.AskRuling,
    case_pb2.RuleCaseRequest: acts.Rule,
    case_pb2.AskOverrideRequest: acts.AskOverride,
    case_pb2.ApproveOverrideRequest: acts.ApproveOverride,
    case_pb2.RefuseOverrideRequest: acts.RefuseOverride,
    case_pb2.WithdrawOfferRequest: acts.WithdrawOffer,
    case_pb2.WriteOffCaseRequest: acts.WriteOff,
}
"""What each request of the case service asks."""

ACT_OF_ORDER_REQUEST: Mapping[type[Message], type[OrderAct]] = {
    supervision_pb2.IssueOrderRequest: order_acts.IssueOrder,
    supervision_pb2.CascadeOrderRequest: order_acts.CascadeOrder,
    supervision_pb2.AcknowledgeOrderRequest: order_acts.AcknowledgeOrder,
    supervision_pb2.AnswerOrderRequest: order_acts.AnswerOrder,
    supervision_pb2.AcceptAnswerRequest: order_acts.AcceptAnswer,
    supervision_pb2.ReturnAnswerRequest: order_acts.ReturnAnswer,
    supervision_pb2.CancelOrderRequest: order_acts.CancelOrder,
}
"""What each request of the supervision service that is an act asks."""


def rpc_of(request: type[Message]) -> str:
    """The name of the call that takes a request: they are alike but for the ending."""
    return str(request.DESCRIPTOR.name).removesuffix("Request")


def act_of(request: Message) -> Act:
    """The act that a request asks; raises `FieldMissing` or `FieldMalformed`."""
    return _asked(_ACT_FORMS[type(request)], request)


def order_act_of(request: Message) -> OrderAct:
    """The act on a supervision order that a request asks; raises `FieldMissing` or `FieldMalformed`."""
    return _asked(_ORDER_ACT_FORMS[type(request)], request)


def _asked(form: tuple[type[_A], "_Readers"], request: Message) -> _A:
    kind, readers = form
    return kind(**{name: read(getattr(request, name)) for name, read in readers})


def enum_of(kind: type[_E], value: int, field: str) -> _E:
    """A word by its number; raises `FieldMissing` for 0, `FieldMalformed` for one that this version does not know."""
    if value == 0:
        raise FieldMissing(field, Both(f"it says which {kind.__name__.lower()}", "须从规定的选项中选择"))
    try:
        return kind(value)
    except ValueError as unknown:
        raise FieldMalformed(
            field,
            Both(f"is {value}, which is no {kind.__name__.lower()}", f"为 {value}，不在规定的选项中"),
            Both(
                f"Use one of {', '.join(word.name for word in kind)}.", f"可选：{listed(term(word) for word in kind)}。"
            ),
        ) from unknown


def _act_reader(name: str, hint: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - a type
    if isinstance(hint, UnionType):
        (inner,) = (arm for arm in get_args(hint) if arm is not NoneType)
        read = _act_reader(name, inner)
        return lambda value: read(value) if value else None
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return lambda value: enum_of(hint, value, name)
    if hint is datetime:
        return lambda value: _required_instant(value, name)
    return _field_for(name, hint).decode


def _required_instant(stamp: Timestamp, field: str) -> datetime:
    if not stamp.seconds:
        raise FieldMissing(field, Both("it says when", "须写明时间"))
    return instant(stamp, field)


_Readers = tuple[tuple[str, Callable[[Any], Any]], ...]


def _act_form(message: type[Message], kind: type[_A]) -> tuple[type[_A], _Readers]:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    wire = {field.name for field in message.DESCRIPTOR.fields} - _NOT_OF_THE_ACT
    if wire != set(names):
        mismatch = f"{kind.__name__}: fields {sorted(names)} here, {sorted(wire)} on the wire"
        raise TypeError(mismatch)
    return kind, tuple((name, _act_reader(name, hints[name])) for name in names)


_ACT_FORMS = {message: _act_form(message, kind) for message, kind in ACT_OF_REQUEST.items()}
_ORDER_ACT_FORMS = {message: _act_form(message, kind) for message, kind in ACT_OF_ORDER_REQUEST.items()}
