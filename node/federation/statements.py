"""What a neighbour is to be told of a supervision order, made from the ledger as it is at that moment.

As with offers, a message is made anew at each attempt and is the same each time. Downwards goes the issuer's latest
statement with the whole order, upwards the receiver's latest report with all that it has reported before: what was
overtaken need not be told.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

from kuaixiang.domain.events import Private
from kuaixiang.domain.orders import Order, evolve_order
from kuaixiang.domain.words import OrderStage
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1 import supervision_pb2
from node.ledger.queries import HistoryEntry

OrderMessage = supervision_pb2.OrderStatement | supervision_pb2.OrderReport


class WordingErased(Exception):
    """An order cannot be told: its wording has been erased from this ledger."""

    def __init__(self, bureau: str, order_id: str) -> None:
        self.bureau = bureau
        self.order_id = order_id
        super().__init__(f"Bureau {bureau} no longer has the wording of order {order_id}, which its delivery needs.")


def order_of(history: Sequence[HistoryEntry]) -> Order | None:
    """The order that entries amount to."""
    return reduce(evolve_order, (item.entry for item in history), None)


def owed_of_order(history: Sequence[HistoryEntry], peer: str) -> OrderMessage | None:
    """What a neighbour is to be told of an order now, its entries given with their private parts; None: nothing.

    Raises `WordingErased`.
    """
    order = order_of(history)
    if order is None or peer not in order.owed:
        return None
    private = {item.entry.version: item.entry.event.private or Private() for item in history}
    return _statement(order, peer, private) if peer == order.below else _report(order, peer, private)


def _statement(order: Order, peer: str, private: Mapping[int, Private]) -> supervision_pb2.OrderStatement:
    text = private[order.text_version].text
    if not text:
        raise WordingErased(order.bureau, order.order_id)
    words: dict[str, Any] = {"stage": order.stated, "level": order.level}
    return supervision_pb2.OrderStatement(
        order_id=order.order_id,
        nonce=order.nonce,
        step=order.statement_step,
        round=order.round,
        issuer=order.issuer,
        from_bureau=order.bureau,
        to_bureau=peer,
        final_bureau=order.final_bureau,
        case_ids=order.case_ids,
        answer_workdays=order.answer_workdays,
        text=text,
        note=private[order.stated_version].note,
        issued_at_us=to_micros(order.issued_at),
        **words,
    )


def _report(order: Order, peer: str, private: Mapping[int, Private]) -> supervision_pb2.OrderReport:
    answered = order.reported is OrderStage.ANSWERED
    answer = private[order.answer_version] if answered else Private()
    words: dict[str, Any] = {"stage": order.reported}
    report = supervision_pb2.OrderReport(
        order_id=order.order_id,
        nonce=order.nonce,
        step=order.report_step,
        round=order.round,
        from_bureau=order.bureau,
        to_bureau=peer,
        answer=answer.note,
        because=answer.text,
        acknowledged_at_us=_micros(order.acknowledged_at),
        **words,
    )
    if answered:
        report.answered_at_us = _micros(order.answered_at)
        report.late = order.answered_late
        report.derived_open = order.derived_open
    if order.term is not None:
        report.received_at_us = to_micros(order.term.started_at)
        report.due_at_us = to_micros(order.term.due_at)
        report.limit_workdays = order.term.limit_workdays
        report.calendar_version = order.term.calendar_version
        report.provisional = order.term.provisional
        report.soon_at_us = _micros(order.term.soon_at)
    return report


def _micros(at: datetime | None) -> int:
    return to_micros(at) if at is not None else 0
