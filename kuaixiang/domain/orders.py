"""Supervision orders (督办, §五(三)): what a superior wants answered by a subordinate, within working days.

An order is one record with its own number, kept in the ledger of every bureau from its issuer down to the one that is
to answer. Two lines of speech run along that way. The issuer speaks downwards (issued, answer returned, closed,
cancelled), the receiver upwards (received, acknowledged, answered); each counts its own steps, and of two steps of one
line the later stands. So a repeated, late or overtaken message says nothing new, and a bureau between passes on
whatever it heard last, by itself.

What people may do is in the two tables below; a miss is one named error. What neighbours say is ordered by their steps.
The deadline is the receiver's: from the receipt on, by its calendar, and it counts there. The ledgers above keep it
too, the issuer's from the issue on and then all of them as the receiver reports it, so that an order without an answer
shows in each of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from kuaixiang.domain import clocks as clockwork
from kuaixiang.domain import errors, events, order_acts, order_errors
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.decide import check_asked, check_time
from kuaixiang.domain.desk import Context
from kuaixiang.domain.events import ClockChange, Entry, OrderEvent, Private
from kuaixiang.domain.labels import Both
from kuaixiang.domain.lifecycle import check_allowed
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.registration import (
    NOTE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    at_most,
    check_case_id,
    required,
)
from kuaixiang.domain.words import ClockKind, OrderLevel, OrderStage, Role

CASES_MAX = 100
"""Cases of one order: more are a matter of their own, for which an order without cases is the form."""
BUREAUS_MAX = 100
"""Orders of one cascade: the counties of the largest prefecture, several times over."""
ANSWER_WORKDAYS_MAX = 250
"""A year of working days: more is a slip of the keyboard."""

ENDED = frozenset({OrderStage.CLOSED, OrderStage.CANCELLED})
AWAITING = frozenset({OrderStage.ISSUED, OrderStage.RECEIVED, OrderStage.ACKNOWLEDGED, OrderStage.RETURNED})
"""Stages of an order that still wants its answer."""

TypeOfAct = type[OrderAct]

ISSUERS_ACTS: Mapping[OrderStage, Mapping[TypeOfAct, OrderStage]] = MappingProxyType(
    {
        OrderStage.ISSUED: {order_acts.CancelOrder: OrderStage.CANCELLED},
        OrderStage.RECEIVED: {order_acts.CancelOrder: OrderStage.CANCELLED},
        OrderStage.ACKNOWLEDGED: {order_acts.CancelOrder: OrderStage.CANCELLED},
        OrderStage.ANSWERED: {
            order_acts.AcceptAnswer: OrderStage.CLOSED,
            order_acts.ReturnAnswer: OrderStage.RETURNED,
            order_acts.CancelOrder: OrderStage.CANCELLED,
        },
        OrderStage.RETURNED: {order_acts.CancelOrder: OrderStage.CANCELLED},
        OrderStage.CLOSED: {},
        OrderStage.CANCELLED: {},
    }
)
"""What people of the issuing bureau may do, and where it leads. `IssueOrder` begins an order at ISSUED."""

RECEIVERS_ACTS: Mapping[OrderStage, Mapping[TypeOfAct, OrderStage]] = MappingProxyType(
    {
        OrderStage.ISSUED: {},
        OrderStage.RECEIVED: {order_acts.AcknowledgeOrder: OrderStage.ACKNOWLEDGED},
        OrderStage.ACKNOWLEDGED: {
            order_acts.AnswerOrder: OrderStage.ANSWERED,
            order_acts.CascadeOrder: OrderStage.ACKNOWLEDGED,
        },
        OrderStage.ANSWERED: {},
        OrderStage.RETURNED: {
            order_acts.AnswerOrder: OrderStage.ANSWERED,
            order_acts.CascadeOrder: OrderStage.RETURNED,
        },
        OrderStage.CLOSED: {},
        OrderStage.CANCELLED: {},
    }
)
"""What people of the bureau that the order is for may do, and where it leads."""

_LEADERS = frozenset({Role.SUPERVISOR, Role.DEPUTY_HEAD, Role.BUREAU_HEAD})
ROLES: Mapping[TypeOfAct, frozenset[Role]] = MappingProxyType(
    {
        order_acts.IssueOrder: _LEADERS,
        order_acts.CascadeOrder: _LEADERS,
        order_acts.AcknowledgeOrder: frozenset({Role.TAX_SERVICE}),
        order_acts.AnswerOrder: frozenset({Role.TAX_SERVICE, Role.HANDLER}),
        order_acts.AcceptAnswer: _LEADERS,
        order_acts.ReturnAnswer: _LEADERS,
        order_acts.CancelOrder: _LEADERS,
        order_acts.HearStatement: frozenset({Role.SYSTEM}),
        order_acts.HearReport: frozenset({Role.SYSTEM}),
        order_acts.NoteDelivery: frozenset({Role.SYSTEM}),
        order_acts.NoteClock: frozenset({Role.SYSTEM}),
    }
)
"""Who may do what."""


# ---------------------------------------------------------------- the order, and its fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the entries of an order amount to in one ledger."""

    bureau: str
    order_id: str
    version: int
    stage: OrderStage
    nonce: str
    level: OrderLevel
    issuer: str
    final_bureau: str
    above: str
    """The neighbour towards the issuer; empty at the issuer."""
    below: str
    """The neighbour towards the receiver; empty at the receiver."""
    case_ids: tuple[str, ...]
    answer_workdays: int
    parent_order_id: str
    issued_at: datetime
    last_at: datetime
    stated: OrderStage
    """What the issuer said last, as far as it is known here: ISSUED, RETURNED, CLOSED or CANCELLED."""
    stated_at: datetime
    stated_version: int
    """The entry that holds it, with what was written."""
    statement_step: int
    told_below: int = 0
    """Up to which statement the neighbour below has them in its ledger."""
    reported: OrderStage
    """What the receiver said last: RECEIVED, ACKNOWLEDGED, ANSWERED, RETURNED; ISSUED while nothing is known of it."""
    reported_at: datetime
    report_step: int = 0
    told_above: int = 0
    """Up to which report the neighbour above has them in its ledger."""
    round: int = 0
    arrived_round: int = -1
    """The round that has reached the receiver, as far as it is known here; -1: none."""
    received_at: datetime | None = None
    acknowledged_at: datetime | None = None
    answered_at: datetime | None = None
    answered_late: bool = False
    derived_open: int = 0
    clocks: tuple[Clock, ...] = ()
    term: Clock | None = None
    """This round's clock as it was last, running or not: what a report says of the deadline."""
    text_version: int
    """The entry that holds the wording; `answer_version` likewise, 0 where there is none."""
    answer_version: int = 0

    @property
    def ends_here(self) -> bool:
        """Whether this bureau is the one to answer."""
        return not self.below

    @property
    def begins_here(self) -> bool:
        """Whether this bureau has issued it."""
        return not self.above

    @property
    def clock(self) -> Clock | None:
        """The running clock; None while no answer is awaited, and at bureaus between."""
        return self.clocks[0] if self.clocks else None

    @property
    def owed(self) -> dict[str, datetime]:
        """Neighbours that are to be told something of the order, and since when."""
        owed: dict[str, datetime] = {}
        if self.below and self.told_below < self.statement_step:
            owed[self.below] = self.stated_at
        if self.above and self.told_above < self.report_step and self.stage not in ENDED:
            # Once the issuer has ended the order, nothing said of it from below changes that.
            owed[self.above] = self.reported_at
        return owed


def evolve_order(order: Order | None, entry: Entry) -> Order | None:
    """The order after an entry: pure and total. None for entries that begin none."""
    event = entry.event
    if not isinstance(event, OrderEvent):
        return order
    order = _begin(entry, event) if order is None else order
    if order is None:
        return None
    changes = _particulars(order, entry)
    changes["version"] = entry.version
    changes["stage"] = event.order_stage
    if not isinstance(event, (events.OrderDelivered, events.OrderClockNoted, events.OrderArrived)):
        # Those note what neighbours and time did: an officer may still record what was done before they were noted.
        changes["last_at"] = entry.occurred_at
    if event.clocks:
        running = clockwork.apply(order.clocks, event.clocks)
        changes["clocks"] = running
        changes["term"] = running[0] if running else order.term
    return replace(order, **changes)


def _begin(entry: Entry, event: OrderEvent) -> Order | None:
    if not isinstance(event, (events.OrderIssued, events.OrderReceived)):
        return None
    received = event if isinstance(event, events.OrderReceived) else None
    arrived = received is not None and not event.to_bureau
    return Order(
        bureau=entry.bureau,
        order_id=entry.case_id,
        version=0,
        stage=event.order_stage,
        nonce=event.nonce,
        level=event.level,
        issuer=received.issuer if received else entry.bureau,
        final_bureau=event.final_bureau,
        above=received.from_bureau if received else "",
        below=event.to_bureau,
        case_ids=event.case_ids,
        answer_workdays=event.answer_workdays,
        parent_order_id="" if isinstance(event, events.OrderReceived) else event.parent_order_id,
        issued_at=received.issued_at if received else entry.occurred_at,
        last_at=entry.occurred_at,
        stated=OrderStage.ISSUED,
        stated_at=entry.occurred_at,
        stated_version=entry.version,
        statement_step=received.step if received else 1,
        reported=event.order_stage,
        reported_at=entry.occurred_at,
        report_step=1 if arrived else 0,
        arrived_round=0 if arrived else -1,
        received_at=entry.occurred_at if arrived else None,
        text_version=entry.version,
    )


def _particulars(order: Order, entry: Entry) -> dict[str, Any]:
    """What an event changes besides stage and clocks."""
    match entry.event:
        case events.OrderArrived() as event:
            return _reported(entry, event.step, event) | {
                "received_at": event.received_at,
                "arrived_round": event.round,
            }
        case events.OrderAcknowledged() as event:
            return _reported(entry, event.step, event) | {"acknowledged_at": event.acknowledged_at}
        case events.OrderAnswered() as event:
            return _reported(entry, event.step, event) | {
                "answered_at": event.answered_at,
                "answered_late": event.late,
                "derived_open": event.derived_open,
                "answer_version": entry.version,
            }
        case events.OrderAnswerReturned() as event:
            returned = _stated(entry, event.step, event) | {
                "round": event.round,
                "answer_workdays": event.answer_workdays,
            }
            if order.ends_here:
                # That it has come is something to report.
                returned |= _reported(entry, order.report_step + 1, event)
                returned |= {"received_at": entry.occurred_at, "arrived_round": event.round}
            return returned
        case (events.OrderClosed() | events.OrderCancelled()) as event:
            return _stated(entry, event.step, event)
        case events.OrderDelivered() as event:
            told = "told_below" if event.to_bureau == order.below else "told_above"
            return {told: max(getattr(order, told), event.step)}
        case _:
            return {}


def _stated(entry: Entry, step: int, event: OrderEvent) -> dict[str, Any]:
    return {
        "stated": event.order_stage,
        "stated_at": entry.occurred_at,
        "stated_version": entry.version,
        "statement_step": step,
    }


def _reported(entry: Entry, step: int, event: OrderEvent) -> dict[str, Any]:
    return {"reported": event.order_stage, "reported_at": entry.occurred_at, "report_step": step}


# ---------------------------------------------------------------- deciding


def decide_order(
    order: Order | None,
    act: OrderAct,
    context: Context,
    *,
    parent: Order | None = None,
    derived: Sequence[Order] = (),
) -> tuple[OrderEvent, ...]:
    """The events of an act on an order; raises `Refused`. None of them: the act is a repetition of what is so.

    `parent` is the order from which a new one is derived, `derived` are those derived from this one.
    """
    check_asked(act, ROLES[type(act)], order.last_at if order else None, context)
    match act:
        case order_acts.IssueOrder():
            return _issue(act, context, parent)
        case order_acts.HearStatement():
            return _hear_statement(order, act, context)
        case _ if order is None:
            raise order_errors.UnknownOrder(context.bureau, "")
        case order_acts.HearReport():
            return _hear_report(order, act, context)
        case order_acts.NoteDelivery():
            return _note_delivery(order, act)
        case order_acts.NoteClock():
            return _note_clock(order, context)
        case order_acts.AcknowledgeOrder():
            return _acknowledge(order, act, context)
        case order_acts.AnswerOrder():
            return _answer(order, act, context, derived)
        case order_acts.AcceptAnswer() | order_acts.ReturnAnswer() | order_acts.CancelOrder():
            return _decide_answer(order, act, context)
        case _:
            raise order_errors.OrderActNotAllowed(order.order_id, order.stage, type(act), possible(order))


def possible(order: Order) -> tuple[TypeOfAct, ...]:
    """The acts that people of this ledger's bureau can do on the order now."""
    table = ISSUERS_ACTS if order.begins_here else RECEIVERS_ACTS if order.ends_here else None
    return tuple(table[order.stage]) if table is not None else ()


def stage_after(order: Order, act: OrderAct) -> OrderStage:
    """Looks an act of people up; raises `NotTheIssuer`, `NotTheReceiver`, `OrderActNotAllowed`."""
    kind = type(act)
    if any(kind in row for row in ISSUERS_ACTS.values()):
        if not order.begins_here:
            raise order_errors.NotTheIssuer(order.order_id, kind, order.issuer)
        table = ISSUERS_ACTS
    else:
        if not order.ends_here:
            raise order_errors.NotTheReceiver(order.order_id, kind, order.final_bureau)
        table = RECEIVERS_ACTS
    target = table[order.stage].get(kind)
    if target is None:
        raise order_errors.OrderActNotAllowed(order.order_id, order.stage, kind, possible(order))
    return target


def check_cascade(parent: Order, act: order_acts.CascadeOrder, context: Context) -> tuple[order_acts.IssueOrder, ...]:
    """The orders that a cascade asks for; raises `Refused`. Each is then decided with `parent`."""
    check_time(parent.last_at, context)
    check_allowed(act, context.role, ROLES[type(act)])
    stage_after(parent, act)
    _check_has_subordinates(context)
    if not act.to_bureaus:
        raise errors.FieldMissing("to_bureaus", Both("it says which subordinates", "须写明转给哪些下级单位"))
    if len(act.to_bureaus) > BUREAUS_MAX:
        raise _too_many("to_bureaus", len(act.to_bureaus), BUREAUS_MAX)
    for place, bureau in enumerate(act.to_bureaus, 1):
        if bureau in act.to_bureaus[: place - 1]:
            raise _named_twice("to_bureaus", place)
    return tuple(
        order_acts.IssueOrder(
            final_bureau=bureau,
            level=act.level,
            text=act.text,
            answer_workdays=act.answer_workdays,
            case_ids=act.case_ids,
        )
        for bureau in act.to_bureaus
    )


def _issue(act: order_acts.IssueOrder, context: Context, parent: Order | None) -> tuple[OrderEvent, ...]:
    tree, bureau = context.tree, context.bureau
    _check_has_subordinates(context)
    required(act.text, "text", Both("an order says what is wanted (§五(三))", "督办单须写明督办事项"))
    at_most(act.text, "text", TEXT_CHARACTERS_MAX)
    _check_workdays(act.answer_workdays)
    if len(act.case_ids) > CASES_MAX:
        raise _too_many("case_ids", len(act.case_ids), CASES_MAX)
    for place, case_id in enumerate(act.case_ids, 1):
        check_case_id(case_id, "case_ids", place)
        if case_id in act.case_ids[: place - 1]:
            raise _named_twice("case_ids", place)
    if act.final_bureau == bureau or act.final_bureau not in tree or not tree.contains(bureau, act.final_bureau):
        raise order_errors.NotASubordinate(bureau, act.final_bureau, "to_bureaus" if parent else "final_bureau")
    issued = events.OrderIssued(
        order_stage=OrderStage.ISSUED,
        clocks=(_start(act.answer_workdays, context, act.final_bureau),),
        private=Private(text=act.text),
        nonce=context.new_id,
        level=act.level,
        to_bureau=tree.next_hop(bureau, act.final_bureau),
        final_bureau=act.final_bureau,
        case_ids=act.case_ids,
        answer_workdays=act.answer_workdays,
        parent_order_id=parent.order_id if parent else "",
    )
    return (issued,)


def _check_has_subordinates(context: Context) -> None:
    if not context.tree.children(context.bureau):
        raise order_errors.NoSubordinates(context.bureau)


def _check_workdays(workdays: int) -> None:
    if not 1 <= workdays <= ANSWER_WORKDAYS_MAX:
        raise errors.FieldMalformed(
            "answer_workdays",
            Both(f"is {workdays}", f"为 {workdays}，不在规定范围内"),
            Both(
                f"Give 1 to {ANSWER_WORKDAYS_MAX} working days for the answer.",
                f"回复期限须为 1 至 {ANSWER_WORKDAYS_MAX} 个工作日。",
            ),
        )


def _too_many(field: str, count: int, count_max: int) -> errors.FieldMalformed:
    return errors.FieldMalformed(
        field,
        Both(f"has {count} items", f"有 {count} 项，过多"),
        Both(f"Name at most {count_max}, or issue several orders.", f"最多 {count_max} 项；更多的请分别下达。"),
    )


def _named_twice(field: str, place: int) -> errors.FieldMalformed:
    return errors.FieldMalformed(
        field,
        Both(f"names at place {place} one that stands before", f"第 {place} 个与前面的重复"),
        Both("Name each one once.", "请去掉重复的一项。"),
    )


def _start(workdays: int, context: Context, at_bureau: str = "") -> ClockChange:
    """The order's clock. One that runs for another bureau names it, so that a deadline counts where it is kept."""
    return clockwork.start(ClockKind.ORDER, context.occurred_at, workdays, context.calendar, department=at_bureau)


def _noted(text: str) -> Private | None:
    return Private(note=text) if text else None


def _acknowledge(order: Order, act: order_acts.AcknowledgeOrder, context: Context) -> tuple[OrderEvent, ...]:
    stage = stage_after(order, act)
    at_most(act.note, "note", NOTE_CHARACTERS_MAX)
    acknowledged = events.OrderAcknowledged(
        order_stage=stage,
        private=_noted(act.note),
        from_bureau="",
        step=order.report_step + 1,
        acknowledged_at=context.occurred_at,
    )
    return (acknowledged,)


def _answer(
    order: Order, act: order_acts.AnswerOrder, context: Context, derived: Sequence[Order]
) -> tuple[OrderEvent, ...]:
    stage = stage_after(order, act)
    required(act.answer, "answer", Both("an answer says what was done", "须写明办理情况"))
    at_most(act.answer, "answer", NOTE_CHARACTERS_MAX)
    at_most(act.because, "because", NOTE_CHARACTERS_MAX)
    open_orders = tuple(sorted(one.order_id for one in derived if one.stage in AWAITING))
    if open_orders and not act.because.strip():
        raise order_errors.DerivedOrdersOpen(order.order_id, open_orders)
    at = context.occurred_at
    answered = events.OrderAnswered(
        order_stage=stage,
        clocks=clockwork.stop_each(order.clocks, at, context.calendar, fulfilled=True),
        private=Private(note=act.answer, text=act.because),
        from_bureau="",
        step=order.report_step + 1,
        round=order.round,
        answered_at=at,
        late=any(clock.has_passed(at) for clock in order.clocks),
        derived_open=len(open_orders),
    )
    return (answered,)


def _decide_answer(
    order: Order, act: order_acts.AcceptAnswer | order_acts.ReturnAnswer | order_acts.CancelOrder, context: Context
) -> tuple[OrderEvent, ...]:
    stage, step = stage_after(order, act), order.statement_step + 1
    match act:
        case order_acts.AcceptAnswer():
            at_most(act.note, "note", NOTE_CHARACTERS_MAX)
            return (events.OrderClosed(order_stage=stage, private=_noted(act.note), from_bureau="", step=step),)
        case order_acts.CancelOrder():
            required(act.reason, "reason", Both("a cancellation says why", "撤销须说明原因"))
            at_most(act.reason, "reason", NOTE_CHARACTERS_MAX)
            stopped = clockwork.stop_each(order.clocks, context.occurred_at, context.calendar, fulfilled=False)
            cancelled = events.OrderCancelled(
                order_stage=stage, clocks=stopped, private=_noted(act.reason), from_bureau="", step=step
            )
            return (cancelled,)
        case order_acts.ReturnAnswer():
            required(act.reason, "reason", Both("a return says why", "退回须说明原因"))
            at_most(act.reason, "reason", NOTE_CHARACTERS_MAX)
            _check_workdays(act.answer_workdays)
            returned = events.OrderAnswerReturned(
                order_stage=stage,
                clocks=(_start(act.answer_workdays, context, order.final_bureau),),
                private=_noted(act.reason),
                from_bureau="",
                step=step,
                round=order.round + 1,
                answer_workdays=act.answer_workdays,
            )
            return (returned,)


# ---------------------------------------------------------------- what neighbours say


def _hear_statement(order: Order | None, act: order_acts.HearStatement, context: Context) -> tuple[OrderEvent, ...]:
    """What came from above. Only an order that nobody can have answered yet begins here: issued, or cancelled since."""
    if order is None:
        match act.stage:
            case OrderStage.ISSUED:
                return (_receive(act, context),)
            case OrderStage.CANCELLED:
                return (_receive(act, context), _ruled((), act, context, ends_here=False))
            case _:
                # What was said before is lost here; a beginning in the middle would hide that.
                raise order_errors.UnknownOrder(context.bureau, "")
    if order.nonce != act.nonce:
        raise order_errors.OrderNamesake(order.order_id)
    if order.above != act.from_bureau:
        raise order_errors.OrderMisdirected(order.order_id, act.from_bureau)
    if act.step <= order.statement_step:
        return ()
    return (_ruled(order.clocks, act, context, ends_here=order.ends_here, order_id=order.order_id),)


def _receive(act: order_acts.HearStatement, context: Context) -> OrderEvent:
    tree, bureau = context.tree, context.bureau
    known = act.issuer in tree and act.final_bureau in tree and bureau in tree and act.from_bureau in tree
    if not known or not (tree.contains(act.issuer, act.from_bureau) and tree.contains(bureau, act.final_bureau)):
        raise order_errors.OrderMisdirected("", act.from_bureau)
    arrived = act.final_bureau == bureau
    runs = arrived and act.stage is OrderStage.ISSUED
    return events.OrderReceived(
        order_stage=OrderStage.RECEIVED if arrived else OrderStage.ISSUED,
        clocks=(_start(act.answer_workdays, context),) if runs else (),
        private=Private(text=act.text),
        nonce=act.nonce,
        level=act.level,
        issuer=act.issuer,
        from_bureau=act.from_bureau,
        to_bureau="" if arrived else tree.next_hop(bureau, act.final_bureau),
        final_bureau=act.final_bureau,
        case_ids=act.case_ids,
        answer_workdays=act.answer_workdays,
        step=act.step,
        issued_at=act.issued_at,
    )


def _ruled(
    running: tuple[Clock, ...], act: order_acts.HearStatement, context: Context, *, ends_here: bool, order_id: str = ""
) -> OrderEvent:
    """A later statement of the issuer's."""
    stopped = clockwork.stop_each(running, context.occurred_at, context.calendar, fulfilled=False)
    frame: dict[str, Any] = {
        "order_stage": act.stage,
        "private": _noted(act.note),
        "from_bureau": act.from_bureau,
        "step": act.step,
    }
    match act.stage:
        case OrderStage.RETURNED:
            started = (_start(act.answer_workdays, context),) if ends_here else ()
            return events.OrderAnswerReturned(
                **frame, clocks=(*stopped, *started), round=act.round, answer_workdays=act.answer_workdays
            )
        case OrderStage.CLOSED:
            return events.OrderClosed(**frame, clocks=stopped)
        case OrderStage.CANCELLED:
            return events.OrderCancelled(**frame, clocks=stopped)
        case _:
            raise order_errors.OrderMisdirected(order_id, act.from_bureau)


def _hear_report(order: Order, act: order_acts.HearReport, context: Context) -> tuple[OrderEvent, ...]:
    """What came from below. One report says all that went before it, so that a lost one leaves no gap."""
    if order.nonce != act.nonce:
        raise order_errors.OrderNamesake(order.order_id)
    if order.below != act.from_bureau:
        raise order_errors.OrderMisdirected(order.order_id, act.from_bureau)
    if act.step <= order.report_step or order.stage in ENDED or act.round < order.round:
        return ()
    frame: dict[str, Any] = {"from_bureau": act.from_bureau, "step": act.step}
    found: list[OrderEvent] = []
    clocks, stage = order.clocks, order.stage
    if order.arrived_round < act.round:
        # What the issuer reckoned from the issue on gives way to the deadline that the receiver has.
        there = replace(act.clock, department=order.final_bureau)
        moved = (*clockwork.stop_each(clocks, context.occurred_at, context.calendar, fulfilled=False), there)
        clocks = clockwork.apply(clocks, moved)
        stage = OrderStage.RETURNED if act.round else OrderStage.RECEIVED
        found.append(
            events.OrderArrived(
                **frame, order_stage=stage, clocks=moved, round=act.round, received_at=act.clock.started_at
            )
        )
    if act.acknowledged_at is not None and order.acknowledged_at is None:
        stage = OrderStage.ACKNOWLEDGED if stage is OrderStage.RECEIVED else stage
        found.append(events.OrderAcknowledged(**frame, order_stage=stage, acknowledged_at=act.acknowledged_at))
    if act.stage is OrderStage.ANSWERED and act.answered_at is not None:
        stopped = clockwork.stop_each(clocks, act.answered_at, context.calendar, fulfilled=True)
        found.append(
            events.OrderAnswered(
                **frame,
                order_stage=OrderStage.ANSWERED,
                clocks=stopped,
                private=Private(note=act.answer, text=act.because),
                round=act.round,
                answered_at=act.answered_at,
                late=act.late,
                derived_open=act.derived_open,
            )
        )
    return tuple(found)


def _note_delivery(order: Order, act: order_acts.NoteDelivery) -> tuple[OrderEvent, ...]:
    """A receipt for what has been told before, or overtaken since, says nothing new."""
    down = act.to_bureau == order.below
    told, step = (order.told_below, order.statement_step) if down else (order.told_above, order.report_step)
    if act.to_bureau not in {order.above, order.below} or not told < act.step <= step:
        return ()
    delivered = events.OrderDelivered(
        order_stage=order.stage,
        to_bureau=act.to_bureau,
        step=act.step,
        receipt_seq=act.receipt_seq,
        receipt_hash=act.receipt_hash,
    )
    return (delivered,)


def _note_clock(order: Order, context: Context) -> tuple[OrderEvent, ...]:
    """A passed deadline, one moved by another calendar, and one working day left, once each and in this order.

    What has passed was missed under the calendar of its day, before another one could move it.
    """
    changes: list[ClockChange] = []
    at = context.occurred_at
    for clock in order.clocks:
        passed = clockwork.overdue(clock, at)
        moved = () if passed else clockwork.recompute(clock, context.calendar)
        changes += (*passed, *moved)
        for now in clockwork.apply((clock,), (*passed, *moved)):
            changes += clockwork.due_soon(now, at)
    if not changes:
        return ()
    return (events.OrderClockNoted(order_stage=order.stage, clocks=tuple(changes)),)
