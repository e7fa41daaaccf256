"""Supervision orders: the tables cell by cell, what each act demands, and ledgers that agree over any bad link."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import Any

import pytest

from kuaixiang.domain import errors, events, order_acts, order_errors
from kuaixiang.domain.desk import Context
from kuaixiang.domain.events import ClockChange, Entry, OrderEvent
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.orders import (
    ANSWER_WORKDAYS_MAX,
    BUREAUS_MAX,
    CASES_MAX,
    ENDED,
    ISSUERS_ACTS,
    RECEIVERS_ACTS,
    ROLES,
    Order,
    check_cascade,
    decide_order,
    evolve_order,
    possible,
    stage_after,
)
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, OrderLevel, OrderStage, Role
from tests.domain.story import (
    BEIJING,
    CALENDAR,
    CASE_ID,
    DAY,
    HANGZHOU,
    HEADQUARTERS,
    HOUR,
    MONDAY,
    RULES,
    SHANGCHENG,
    TREE,
    XIHU,
    ZHEJIANG,
    day,
    end_of,
)

ORDER_ID = "330000-2026-D000001"
ISSUE = order_acts.IssueOrder(
    final_bureau=SHANGCHENG,
    level=OrderLevel.SUPERVISE,
    text="请说明该诉求逾期原因",
    answer_workdays=3,
    case_ids=(CASE_ID,),
)
CASCADE = order_acts.CascadeOrder(
    to_bureaus=(SHANGCHENG, XIHU), level=OrderLevel.URGE, text="请报送办理情况", answer_workdays=2
)
ACKNOWLEDGE = order_acts.AcknowledgeOrder(note="已收悉")
ANSWER = order_acts.AnswerOrder(answer="已于今日办结并反馈")
ACCEPT = order_acts.AcceptAnswer()
RETURN = order_acts.ReturnAnswer(reason="未说明原因", answer_workdays=1)
CANCEL = order_acts.CancelOrder(reason="诉求已撤回")
EXAMPLES: dict[type[OrderAct], OrderAct] = {
    type(act): act for act in (CASCADE, ACKNOWLEDGE, ANSWER, ACCEPT, RETURN, CANCEL)
}

# Where each act leads from each stage, in the ledger of the bureau that may do it: `=` stays, `.` is not possible.
# fmt: off
TABLE = """
                   Iss Rec Ack Ans Ret Clo Can
AcknowledgeOrder    .  Ack  .   .   .   .   .
CascadeOrder        .   .   =   .   =   .   .
AnswerOrder         .   .  Ans  .  Ans  .   .
AcceptAnswer        .   .   .  Clo  .   .   .
ReturnAnswer        .   .   .  Ret  .   .   .
CancelOrder        Can Can Can Can Can  .   .
"""
PEOPLE = """
                 REGISTRAR TAX_SERVICE HANDLER DEPUTY_HEAD BUREAU_HEAD CHANNEL SYSTEM SUPERVISOR AUDITOR
IssueOrder           .          .         .         x           x         .      .        x        .
CascadeOrder         .          .         .         x           x         .      .        x        .
AcknowledgeOrder     .          x         .         .           .         .      .        .        .
AnswerOrder          .          x         x         .           .         .      .        .        .
AcceptAnswer         .          .         .         x           x         .      .        x        .
ReturnAnswer         .          .         .         x           x         .      .        x        .
CancelOrder          .          .         .         x           x         .      .        x        .
HearStatement        .          .         .         .           .         .      x        .        .
HearReport           .          .         .         .           .         .      x        .        .
NoteDelivery         .          .         .         .           .         .      x        .        .
NoteClock            .          .         .         .           .         .      x        .        .
"""
# fmt: on
SHORT = {stage.name.title()[:3]: stage for stage in OrderStage}


@dataclass
class Ledger:
    """What one bureau's ledger has of one order."""

    bureau: str
    entries: list[Entry] = field(default_factory=list)
    order: Order | None = None

    @property
    def known(self) -> Order:
        assert self.order is not None
        return self.order

    def do(self, act: OrderAct, now: datetime, role: Role | None = None, **more: Any) -> tuple[OrderEvent, ...]:
        parts = {name: more.pop(name) for name in ("parent", "derived") if name in more}
        found = decide_order(self.order, act, context(self.bureau, act, now, role, **more), **parts)
        for event in found:
            entry = Entry(
                bureau=self.bureau,
                case_id=ORDER_ID,
                version=len(self.entries) + 1,
                recorded_at=now,
                occurred_at=more.get("occurred_at", now),
                actor="officer",
                role=role or min(ROLES[type(act)]),
                department="tax-service",
                category=None,
                channel=None,
                event=event,
            )
            self.entries.append(entry)
            self.order = evolve_order(self.order, entry)
        return found

    def private(self, version: int) -> events.Private:
        return (self.entries[version - 1].event.private if version else None) or events.Private()


def context(bureau: str, act: OrderAct, now: datetime, role: Role | None = None, **more: Any) -> Context:
    plain: dict[str, Any] = {
        "bureau": bureau,
        "actor": "officer",
        "role": role or min(ROLES[type(act)]),
        "department": "tax-service",
        "now": now,
        "occurred_at": now,
        "tree": TREE,
        "calendar": CALENDAR,
        "rules": RULES,
        "new_id": "i1",
    }
    return Context(**{**plain, **more})


@dataclass
class Way:
    """An order on its way from the province to a county by way of the prefecture, and the time."""

    now: datetime = MONDAY
    ledgers: dict[str, Ledger] = field(
        default_factory=lambda: {code: Ledger(code) for code in (ZHEJIANG, HANGZHOU, SHANGCHENG)}
    )

    @property
    def issuer(self) -> Ledger:
        return self.ledgers[ZHEJIANG]

    @property
    def relay(self) -> Ledger:
        return self.ledgers[HANGZHOU]

    @property
    def receiver(self) -> Ledger:
        return self.ledgers[SHANGCHENG]

    def at(self, now: datetime) -> "Way":
        self.now = now
        return self

    def issue(self, act: order_acts.IssueOrder = ISSUE) -> "Way":
        self.issuer.do(act, self.now)
        return self

    def receive(self, act: OrderAct, **more: Any) -> "Way":
        """The receiver does something, and everybody hears of it."""
        self.receiver.do(act, self.now, **more)
        return self.carry()

    def rule(self, act: OrderAct) -> "Way":
        """The issuer does something, and everybody hears of it."""
        self.issuer.do(act, self.now)
        return self.carry()

    def carry(self) -> "Way":
        """All that is owed is delivered."""
        while any(self.deliver(code, peer) for code, ledger in self.ledgers.items() for peer in owed(ledger)):
            pass
        return self

    def deliver(self, bureau: str, peer: str, *, receipt: bool = True) -> bool:
        """One message, made from the ledger as it is; the receipt may be lost."""
        sender, order = self.ledgers[bureau], self.ledgers[bureau].order
        if order is None or peer not in order.owed:
            return False
        down = peer == order.below
        self.ledgers[peer].do(statement(sender) if down else report(sender), self.now)
        if receipt:
            step = order.statement_step if down else order.report_step
            note = order_acts.NoteDelivery(to_bureau=peer, step=step, receipt_seq=1, receipt_hash=bytes(32))
            sender.do(note, self.now)
        return True


def owed(ledger: Ledger) -> list[str]:
    return list(ledger.order.owed) if ledger.order is not None else []


def statement(ledger: Ledger) -> order_acts.HearStatement:
    order = ledger.known
    return order_acts.HearStatement(
        nonce=order.nonce,
        step=order.statement_step,
        stage=order.stated,
        round=order.round,
        issuer=order.issuer,
        from_bureau=order.bureau,
        final_bureau=order.final_bureau,
        level=order.level,
        case_ids=order.case_ids,
        answer_workdays=order.answer_workdays,
        text=ledger.private(order.text_version).text,
        note=ledger.private(order.stated_version).note,
        issued_at=order.issued_at,
    )


def report(ledger: Ledger) -> order_acts.HearReport:
    order = ledger.known
    assert order.term is not None
    answer = ledger.private(order.answer_version)
    return order_acts.HearReport(
        nonce=order.nonce,
        step=order.report_step,
        stage=order.reported,
        round=order.round,
        from_bureau=order.bureau,
        clock=ClockChange(
            kind=ClockKind.ORDER,
            action=ClockAction.STARTED,
            started_at=order.term.started_at,
            due_at=order.term.due_at,
            limit_workdays=order.term.limit_workdays,
            calendar_version=order.term.calendar_version,
            soon_at=order.term.soon_at,
        ),
        acknowledged_at=order.acknowledged_at,
        answered_at=order.answered_at,
        late=order.answered_late,
        derived_open=order.derived_open,
        answer=answer.note,
        because=answer.text,
    )


def delivered() -> Way:
    return Way().issue().carry()


def answered() -> Way:
    return delivered().receive(ACKNOWLEDGE).receive(ANSWER)


def changes(found: tuple[OrderEvent, ...]) -> list[tuple[ClockAction, ClockOutcome | None]]:
    return [(change.action, change.outcome) for event in found for change in event.clocks]


# ---------------------------------------------------------------- the tables


@pytest.mark.parametrize("row", TABLE.strip().splitlines()[1:], ids=lambda row: row.split()[0])
def test_an_act_leads_where_the_table_says(row: str) -> None:
    name, *cells = row.split()
    act = EXAMPLES[getattr(order_acts, name)]
    issuers = any(type(act) in kinds for kinds in ISSUERS_ACTS.values())
    order = answered().issuer.known if issuers else answered().receiver.known
    for short, cell in zip(SHORT, cells, strict=True):
        at = replace(order, stage=SHORT[short])
        if cell == ".":
            with pytest.raises(order_errors.OrderActNotAllowed) as refusal:
                stage_after(at, act)
            assert refusal.value.remedy
            assert ("has ended" in refusal.value.remedy) is (at.stage in ENDED)
        else:
            assert SHORT[short if cell == "=" else cell] is stage_after(at, act)


def test_the_tables_have_a_row_for_every_stage() -> None:
    assert set(OrderStage) == set(ISSUERS_ACTS) == set(RECEIVERS_ACTS)
    assert set(EXAMPLES) | {order_acts.IssueOrder} == {
        kind for kind, roles in ROLES.items() if roles != frozenset({Role.SYSTEM})
    }


def test_an_act_is_for_the_roles_of_the_table() -> None:
    heading, *rows = PEOPLE.strip().splitlines()
    assert heading.split() == [role.name for role in Role]
    assert {row.split()[0] for row in rows} == {kind.__name__ for kind in ROLES}
    for row in rows:
        name, *cells = row.split()
        allowed = {role for role, cell in zip(Role, cells, strict=True) if cell == "x"}
        assert allowed == ROLES[getattr(order_acts, name)], name


def test_a_wrong_role_is_told_who_may() -> None:
    with pytest.raises(errors.RoleNotAllowed) as refusal:
        Way().issuer.do(ISSUE, MONDAY, Role.TAX_SERVICE)
    assert "supervisor" in refusal.value.remedy
    assert "督办岗" in refusal.value.remedy_chinese


def test_the_issuers_acts_are_not_the_receivers_and_a_bureau_between_has_none() -> None:
    way = answered()
    for act in (ACCEPT, RETURN, CANCEL):
        for ledger in (way.relay, way.receiver):
            with pytest.raises(order_errors.NotTheIssuer, match=ORDER_ID):
                ledger.do(act, way.now)
    for own in (ACKNOWLEDGE, ANSWER):
        for ledger in (way.issuer, way.relay):
            with pytest.raises(order_errors.NotTheReceiver, match=ORDER_ID):
                ledger.do(own, way.now)
    assert () == possible(way.relay.known)


# ---------------------------------------------------------------- one order from end to end


def test_an_order_is_in_every_ledger_on_its_way_and_ends_alike_in_each() -> None:
    way = Way().issue()
    assert OrderStage.ISSUED is way.issuer.known.stage
    way.carry()
    assert [OrderStage.RECEIVED] * 3 == [ledger.known.stage for ledger in way.ledgers.values()]
    way.receive(ACKNOWLEDGE).receive(ANSWER)
    assert [OrderStage.ANSWERED] * 3 == [ledger.known.stage for ledger in way.ledgers.values()]
    way.rule(ACCEPT)
    assert [OrderStage.CLOSED] * 3 == [ledger.known.stage for ledger in way.ledgers.values()]
    assert [[], [], []] == [owed(ledger) for ledger in way.ledgers.values()]


def test_the_wording_and_the_answer_are_the_same_in_every_ledger() -> None:
    way = answered()
    for ledger in way.ledgers.values():
        assert ISSUE.text == ledger.private(ledger.known.text_version).text
        assert ANSWER.answer == ledger.private(ledger.known.answer_version).note


def test_the_receivers_clock_runs_from_the_receipt_and_the_other_ledgers_take_its_deadline_over() -> None:
    way = Way().issue()
    assert end_of(3, 5) == _due(way.issuer)
    way.at(day(3, 4)).carry()
    # Friday 6 March is off: Thursday, Monday, Tuesday.
    assert [end_of(3, 10)] * 3 == [_due(ledger) for ledger in way.ledgers.values()]
    assert ["", SHANGCHENG, SHANGCHENG] == [
        ledger.known.clocks[0].department for ledger in (way.receiver, way.relay, way.issuer)
    ]


def _due(ledger: Ledger) -> datetime:
    clock = ledger.known.clock
    assert clock is not None
    return clock.due_at


def test_an_answer_in_time_meets_the_deadline_and_a_late_one_is_marked() -> None:
    way = delivered().receive(ACKNOWLEDGE)
    found = way.receiver.do(ANSWER, day(3, 5))
    assert [(ClockAction.STOPPED, ClockOutcome.MET)] == changes(found)
    late = delivered().receive(ACKNOWLEDGE).at(end_of(3, 5)).receive(ANSWER)
    assert [True] * 3 == [ledger.known.answered_late for ledger in late.ledgers.values()]


def test_an_order_without_an_answer_becomes_due_soon_and_overdue_once_each_at_the_issuer_and_at_the_receiver() -> None:
    way = delivered()
    for ledger in way.ledgers.values():
        assert () == ledger.do(order_acts.NoteClock(), day(3, 4))
        assert [(ClockAction.DUE_SOON, None)] == changes(ledger.do(order_acts.NoteClock(), day(3, 5)))
        assert () == ledger.do(order_acts.NoteClock(), day(3, 5, 12))
        assert [(ClockAction.OVERDUE, None)] == changes(ledger.do(order_acts.NoteClock(), end_of(3, 5)))
        assert () == ledger.do(order_acts.NoteClock(), end_of(3, 5) + DAY)


def test_an_order_that_cannot_be_delivered_shows_at_its_issuer() -> None:
    way = Way().issue()
    assert [(ClockAction.OVERDUE, None)] == changes(way.issuer.do(order_acts.NoteClock(), end_of(3, 5)))
    # Delivered at last, it is the receiver's own three days that count.
    way.at(day(3, 9)).carry()
    clock = way.issuer.known.clock
    assert clock is not None
    assert (end_of(3, 12), False) == (clock.due_at, clock.overdue)


OTHER_CALENDAR = replace(CALENDAR, version="other", off_days=frozenset({*CALENDAR.off_days, day(3, 5).date()}))


def test_a_new_calendar_moves_the_deadline_before_it_is_found_to_be_near() -> None:
    way = delivered()
    found = way.receiver.do(order_acts.NoteClock(), day(3, 5), calendar=OTHER_CALENDAR)
    assert [(ClockAction.RECOMPUTED, None), (ClockAction.DUE_SOON, None)] == changes(found)
    assert end_of(3, 9) == _due(way.receiver)


def test_a_deadline_that_has_passed_was_missed_whatever_a_later_calendar_says() -> None:
    way = delivered()
    found = way.receiver.do(order_acts.NoteClock(), end_of(3, 5), calendar=OTHER_CALENDAR)
    assert [(ClockAction.OVERDUE, None)] == changes(found)
    assert end_of(3, 5) == _due(way.receiver)


def test_a_returned_answer_begins_another_round_with_a_clock_of_its_own() -> None:
    way = answered().at(day(3, 5)).rule(RETURN)
    assert [(OrderStage.RETURNED, 1)] * 3 == [(one.known.stage, one.known.round) for one in way.ledgers.values()]
    assert [end_of(3, 9)] * 3 == [_due(ledger) for ledger in way.ledgers.values()]
    assert "未说明原因" == way.receiver.private(way.receiver.known.stated_version).note
    way.receive(replace(ANSWER, answer="补充说明如下")).rule(ACCEPT)
    assert [OrderStage.CLOSED] * 3 == [ledger.known.stage for ledger in way.ledgers.values()]
    assert "补充说明如下" == way.issuer.private(way.issuer.known.answer_version).note


def test_a_cancelled_order_stops_every_clock_and_wants_nothing_more() -> None:
    way = delivered().rule(CANCEL)
    assert [None] * 3 == [ledger.known.clock for ledger in way.ledgers.values()]
    with pytest.raises(order_errors.OrderActNotAllowed):
        way.receiver.do(ACKNOWLEDGE, way.now)


def test_an_order_cancelled_before_it_went_out_arrives_cancelled() -> None:
    way = Way().issue()
    way.rule(CANCEL)
    assert [OrderStage.CANCELLED] * 3 == [ledger.known.stage for ledger in way.ledgers.values()]
    assert [None] * 3 == [ledger.known.clock for ledger in way.ledgers.values()]
    assert [[], [], []] == [owed(ledger) for ledger in way.ledgers.values()]


def test_an_answer_and_a_cancellation_that_cross_leave_the_order_cancelled_everywhere() -> None:
    way = delivered().receive(ACKNOWLEDGE)
    way.receiver.do(ANSWER, way.now)
    way.issuer.do(CANCEL, way.now)
    way.carry()
    assert [OrderStage.CANCELLED] * 3 == [ledger.known.stage for ledger in way.ledgers.values()]


# ---------------------------------------------------------------- what acts demand


MALFORMED: list[tuple[order_acts.IssueOrder, str]] = [
    (replace(ISSUE, text=" "), "text"),
    (replace(ISSUE, text="长" * 10_001), "text"),
    (replace(ISSUE, answer_workdays=0), "answer_workdays"),
    (replace(ISSUE, answer_workdays=ANSWER_WORKDAYS_MAX + 1), "answer_workdays"),
    (replace(ISSUE, case_ids=("a case",)), "case_ids"),
    (replace(ISSUE, case_ids=(CASE_ID, CASE_ID)), "case_ids"),
    (replace(ISSUE, case_ids=tuple(f"c-{number}" for number in range(CASES_MAX + 1))), "case_ids"),
    (replace(ISSUE, final_bureau=ZHEJIANG), "final_bureau"),
    (replace(ISSUE, final_bureau=HEADQUARTERS), "final_bureau"),
    (replace(ISSUE, final_bureau=BEIJING), "final_bureau"),
    (replace(ISSUE, final_bureau="990000"), "final_bureau"),
]


@pytest.mark.parametrize(("act", "at_fault"), MALFORMED, ids=lambda part: part if isinstance(part, str) else "")
def test_an_order_that_cannot_be_is_refused_naming_the_field(act: order_acts.IssueOrder, at_fault: str) -> None:
    with pytest.raises(errors.Refused) as refusal:
        Way().issue(act)
    assert at_fault == refusal.value.field
    assert refusal.value.remedy
    assert refusal.value.remedy_chinese
    assert refusal.value.chinese


def test_of_several_pasted_numbers_the_wrong_one_is_told_by_its_place() -> None:
    for case_ids, told in (
        ((CASE_ID, "c-2", "不是"), "第 3 个不是有效的编号"),
        ((CASE_ID, CASE_ID), "第 2 个与前面的重复"),
    ):
        with pytest.raises(errors.FieldMalformed) as refused:
            Way().issue(replace(ISSUE, case_ids=case_ids))
        assert told in refused.value.chinese


def test_an_order_may_be_about_no_case_and_about_as_many_as_the_bound_allows() -> None:
    for case_ids in ((), tuple(f"c-{number}" for number in range(CASES_MAX))):
        assert case_ids == Way().issue(replace(ISSUE, case_ids=case_ids)).carry().receiver.known.case_ids


@pytest.mark.parametrize(
    ("act", "at_fault"),
    [
        (replace(ANSWER, answer=""), "answer"),
        (replace(RETURN, reason=" "), "reason"),
        (replace(RETURN, answer_workdays=0), "answer_workdays"),
        (replace(CANCEL, reason=""), "reason"),
    ],
)
def test_an_answer_a_return_and_a_cancellation_say_what_they_must(act: OrderAct, at_fault: str) -> None:
    way = delivered().receive(ACKNOWLEDGE) if isinstance(act, order_acts.AnswerOrder) else answered()
    ledger = way.receiver if isinstance(act, order_acts.AnswerOrder) else way.issuer
    with pytest.raises(errors.Refused) as refusal:
        ledger.do(act, way.now)
    assert at_fault == refusal.value.field


def test_an_act_before_the_last_one_is_refused_and_one_before_a_delivery_was_noted_is_not() -> None:
    way = delivered().at(MONDAY + HOUR).receive(ACKNOWLEDGE).at(MONDAY + 3 * HOUR)
    with pytest.raises(errors.OutOfOrder):
        way.receiver.do(ANSWER, way.now, occurred_at=MONDAY)
    way.receiver.do(ANSWER, way.now, occurred_at=MONDAY + 2 * HOUR)


# ---------------------------------------------------------------- cascading


def test_a_cascade_asks_for_an_order_of_its_own_for_each_subordinate() -> None:
    way = Way().issue(replace(ISSUE, final_bureau=HANGZHOU)).carry()
    way.relay.do(ACKNOWLEDGE, way.now)
    wanted = check_cascade(way.relay.known, CASCADE, context(HANGZHOU, CASCADE, way.now))
    assert [SHANGCHENG, XIHU] == [act.final_bureau for act in wanted]
    (issued,) = decide_order(None, wanted[0], context(HANGZHOU, wanted[0], way.now), parent=way.relay.known)
    assert isinstance(issued, events.OrderIssued)
    assert ORDER_ID == issued.parent_order_id


CASCADES: list[tuple[order_acts.CascadeOrder, str]] = [
    (replace(CASCADE, to_bureaus=()), "to_bureaus"),
    (replace(CASCADE, to_bureaus=(XIHU, XIHU)), "to_bureaus"),
    (replace(CASCADE, to_bureaus=(XIHU,) * (BUREAUS_MAX + 1)), "to_bureaus"),
]


@pytest.mark.parametrize(("act", "at_fault"), CASCADES)
def test_a_cascade_that_cannot_be_is_refused_naming_the_field(act: order_acts.CascadeOrder, at_fault: str) -> None:
    way = Way().issue(replace(ISSUE, final_bureau=HANGZHOU)).carry()
    way.relay.do(ACKNOWLEDGE, way.now)
    with pytest.raises(errors.Refused) as refusal:
        check_cascade(way.relay.known, act, context(HANGZHOU, act, way.now))
    assert at_fault == refusal.value.field


def test_an_order_is_answered_after_those_derived_from_it_unless_it_says_why_not() -> None:
    way = Way().issue(replace(ISSUE, final_bureau=HANGZHOU)).carry()
    way.relay.do(ACKNOWLEDGE, way.now)
    below = [replace(delivered().issuer.known, order_id=f"d{n}", stage=stage) for n, stage in enumerate(OrderStage)]
    with pytest.raises(order_errors.DerivedOrdersOpen) as refusal:
        way.relay.do(ANSWER, way.now, derived=below)
    assert "d0, d1, d2, d4" in str(refusal.value)
    assert "because" == refusal.value.field
    (found,) = way.relay.do(replace(ANSWER, because="西湖区断网，先行回复"), way.now, derived=below)
    assert isinstance(found, events.OrderAnswered)
    assert 4 == found.derived_open


# ---------------------------------------------------------------- neighbours


def test_a_repeated_statement_and_a_repeated_report_say_nothing_new() -> None:
    way = answered()
    assert () == way.relay.do(statement(way.issuer), way.now)
    assert () == way.receiver.do(statement(way.relay), way.now)
    assert () == way.relay.do(report(way.receiver), way.now)
    assert () == way.issuer.do(report(way.relay), way.now)


def test_an_older_statement_that_comes_late_says_nothing_new() -> None:
    way = answered()
    old = statement(way.relay)
    way.rule(RETURN)
    assert () == way.receiver.do(old, way.now)


def test_a_report_makes_up_for_those_that_were_lost() -> None:
    way = Way().issue()
    way.deliver(ZHEJIANG, HANGZHOU)
    way.deliver(HANGZHOU, SHANGCHENG)
    way.receiver.do(ACKNOWLEDGE, way.now)
    way.receiver.do(ANSWER, way.now)
    found = way.relay.do(report(way.receiver), way.now)
    assert ["OrderArrived", "OrderAcknowledged", "OrderAnswered"] == [type(event).__name__ for event in found]


def test_another_order_of_the_same_number_is_refused_and_not_taken_for_a_repetition() -> None:
    way = delivered()
    with pytest.raises(order_errors.OrderNamesake):
        way.relay.do(replace(statement(way.issuer), nonce="other"), way.now)
    with pytest.raises(order_errors.OrderNamesake):
        way.relay.do(replace(report(way.receiver), nonce="other"), way.now)


def test_a_neighbour_that_is_not_on_the_way_is_refused() -> None:
    way = delivered()
    with pytest.raises(order_errors.OrderMisdirected):
        way.relay.do(replace(report(way.receiver), from_bureau=XIHU), way.now)
    with pytest.raises(order_errors.OrderMisdirected):
        way.receiver.do(replace(statement(way.relay), from_bureau=HEADQUARTERS), way.now)


@pytest.mark.parametrize(
    "strange", [{"issuer": XIHU}, {"final_bureau": BEIJING}, {"issuer": "990000"}, {"final_bureau": HANGZHOU}]
)
def test_an_order_of_no_superior_or_for_no_subordinate_is_refused(strange: dict[str, Any]) -> None:
    way = Way().issue()
    way.deliver(ZHEJIANG, HANGZHOU)
    with pytest.raises(order_errors.OrderMisdirected, match="cannot speak of this order here") as refused:
        way.receiver.do(replace(statement(way.relay), **strange), way.now)
    assert f"该督办单不应由单位 {HANGZHOU} 传来。" == refused.value.chinese


def test_a_ledger_that_has_lost_an_order_says_so_when_it_is_ruled_on() -> None:
    way = answered().at(day(3, 3))
    way.issuer.do(RETURN, way.now)
    way.deliver(ZHEJIANG, HANGZHOU)
    with pytest.raises(order_errors.UnknownOrder):
        Ledger(SHANGCHENG).do(statement(way.relay), way.now)


def test_a_receipt_of_something_else_changes_nothing() -> None:
    way = delivered()
    note = order_acts.NoteDelivery(to_bureau=HANGZHOU, step=1, receipt_seq=1, receipt_hash=b"")
    for other in (note, replace(note, step=9), replace(note, to_bureau=XIHU)):
        assert () == way.issuer.do(other, way.now)


def test_entries_of_other_kinds_change_no_order() -> None:
    way = delivered()
    (entry,) = way.issuer.entries[:1]
    for event in (
        events.CaseWithdrawn(stage=1, epoch=0),  # type: ignore[arg-type]
        events.OrderClosed(order_stage=OrderStage.CLOSED, from_bureau="", step=2),
    ):
        assert None is evolve_order(None, replace(entry, event=event))
    other = replace(entry, event=events.CaseWithdrawn(stage=1, epoch=0))  # type: ignore[arg-type]
    assert way.issuer.known is evolve_order(way.issuer.known, other)


@pytest.mark.parametrize("seed", range(60))
def test_over_any_bad_link_the_ledgers_end_alike_and_each_answer_stands_once(seed: int) -> None:
    chance = Random(seed)
    way = Way().issue()
    late: list[tuple[str, OrderAct]] = []
    for _ in range(60):
        way.at(way.now + chance.choice([HOUR, 5 * HOUR, DAY]))
        _people(way, chance)
        for code in way.ledgers:
            for peer in owed(way.ledgers[code]):
                sender = way.ledgers[code]
                down = peer == sender.known.below
                late.append((peer, statement(sender) if down else report(sender)))
                if chance.random() < 0.5:
                    way.deliver(code, peer, receipt=chance.random() < 0.6)
        if late and chance.random() < 0.4:
            # Something said long ago comes again, or for the first time.
            peer, act = chance.choice(late)
            try:
                way.ledgers[peer].do(act, way.now)
            except order_errors.UnknownOrder:
                assert way.ledgers[peer].order is None
        for ledger in way.ledgers.values():
            if ledger.order is not None:
                ledger.do(order_acts.NoteClock(), way.now)
    way.carry()
    orders = [ledger.known for ledger in way.ledgers.values()]
    # A return that a cancellation has overtaken is not told any more.
    assert 1 == len({(order.stage, order.statement_step) for order in orders}), orders
    assert [[], [], []] == [owed(ledger) for ledger in way.ledgers.values()]
    for ledger in way.ledgers.values():
        answers = [one.event.round for one in ledger.entries if isinstance(one.event, events.OrderAnswered)]
        assert sorted(set(answers)) == answers
        assert ledger.order == _folded(ledger)
        if ledger.known.clock is not None:
            assert ledger.known.clock.due_at == _due(way.receiver)


def _people(way: Way, chance: Random) -> None:
    for ledger in (way.issuer, way.receiver):
        if ledger.order is None or chance.random() < 0.6:
            continue
        kinds = [kind for kind in possible(ledger.order) if kind is not order_acts.CascadeOrder]
        if kinds and (kinds != [order_acts.CancelOrder] or chance.random() < 0.05):
            ledger.do(EXAMPLES[chance.choice(kinds)], way.now)


def _folded(ledger: Ledger) -> Order | None:
    order = None
    for entry in ledger.entries:
        order = evolve_order(order, entry)
    return order
