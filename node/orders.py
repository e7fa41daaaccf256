"""The desk of supervision orders (督办, §五(三)): what officers, neighbours and the sweep may ask of a bureau's orders.

Like the office, of which it is a part, it puts a question to the ledger's writer and answers when that is durable.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kuaixiang.domain import acts, errors, order_acts, order_errors
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.desk import Context
from kuaixiang.domain.events import ClockChange
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.orders import Order, check_cascade, decide_order
from kuaixiang.domain.possible import possible_order_acts, why_not
from kuaixiang.domain.registration import check_case_id
from kuaixiang.domain.words import ClockAction, ClockKind, OrderLevel, OrderStage
from kuaixiang.wire.codec import enum_of, instant_of
from kuaixiang.wire.v1 import referral_pb2, supervision_pb2
from node.ledger import queries
from node.ledger.ledger import Draft, Ledger, Request, Work

if TYPE_CHECKING:
    from node.office import Header

ContextOf = Callable[["Header", Order | None], Context]
SystemContextOf = Callable[[str, Order | None], Context]
Signer = Callable[[bytes], referral_pb2.Signature]


DOWN: Final = "down"
UP: Final = "up"

_NOTED: Final[Mapping[ClockAction, type[Act]]] = {
    ClockAction.OVERDUE: acts.MarkOverdue,
    ClockAction.DUE_SOON: acts.MarkDueSoon,
    ClockAction.RECOMPUTED: acts.Recompute,
}
"""What the sweep counts a change of a clock as."""


@dataclass(frozen=True, slots=True)
class OrdersDone:
    """An act on orders that is durable: what they are now. `repeated`: it had been done before under the same key."""

    orders: tuple[Order, ...]
    seq: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class _Result:
    order_ids: tuple[str, ...]
    seq: int
    repeated: bool


class OrderDesk:
    """The orders of the bureaus of one node. `context_of` and `system_context_of` are the office's."""

    def __init__(
        self, *, ledger: Ledger, sign: Signer, context_of: ContextOf, system_context_of: SystemContextOf
    ) -> None:
        self._ledger = ledger
        self._sign = sign
        self._context_of = context_of
        self._system_context_of = system_context_of

    # ------------------------------------------------------------ officers

    async def perform(self, header: "Header", act: OrderAct) -> OrdersDone:
        """Does an act of a person; raises `Refused`, `WriterBusy`, `WriterStopped`."""
        opens = isinstance(act, order_acts.IssueOrder)
        if not opens:
            check_case_id(header.case_id, "header.case_id")
        work = Work(
            run=lambda draft: self._perform(draft, header, act),
            bureau=header.bureau,
            order_id="" if opens else header.case_id,
            request_key=header.request_key,
        )
        result: _Result = await self._ledger.do(work)
        order_ids = result.order_ids
        if result.repeated and isinstance(act, order_acts.CascadeOrder):
            found = await asyncio.to_thread(queries.derived_orders, self._ledger.database, header.bureau, order_ids)
            order_ids = tuple(found.get(header.case_id, ()))
        orders = [await self.read(header.bureau, order_id) for order_id in order_ids]
        return OrdersDone(tuple(orders), result.seq, result.repeated)

    def _perform(self, draft: Draft, header: "Header", act: OrderAct) -> _Result:
        bureau = header.bureau
        request = draft.request(bureau, header.request_key, header.digest)
        if request is not None:
            return _Result((request.case_id,), request.seq, repeated=True)
        order = None
        if not isinstance(act, order_acts.IssueOrder):
            order = draft.order(bureau, header.case_id)
            if order is None:
                raise order_errors.UnknownOrder(bureau, header.case_id)
            if header.expected_version and header.expected_version != order.version:
                raise errors.VersionConflict(order.order_id, header.expected_version, order.version)
        match act:
            case order_acts.IssueOrder():
                result = self._issue(draft, header, (act,), None)
            case order_acts.CascadeOrder() if order is not None:
                wanted = check_cascade(order, act, self._context_of(header, order))
                result = self._issue(draft, header, wanted, order)
            case _:
                context = self._context_of(header, order)
                derived = draft.derived(bureau, header.case_id)
                events = decide_order(order, act, context, derived=derived)
                recorded = draft.record_order(context, header.case_id, events, order)
                result = _Result((header.case_id,), recorded.seq, repeated=False)
        if header.request_key:
            about = header.case_id or result.order_ids[0]
            draft.keep_request(bureau, header.request_key, Request(header.digest, about, result.seq))
        return result

    def _issue(
        self, draft: Draft, header: "Header", wanted: tuple[order_acts.IssueOrder, ...], parent: Order | None
    ) -> _Result:
        order_ids, seq = [], 0
        for act in wanted:
            context = self._context_of(header, parent)
            events = decide_order(None, act, context, parent=parent)
            order_id = new_order_id(context, draft.head(header.bureau).orders_issued + 1)
            seq = draft.record_order(context, order_id, events, None).seq
            order_ids.append(order_id)
        return _Result(tuple(order_ids), seq, repeated=False)

    async def read(self, bureau: str, order_id: str) -> Order:
        """An order as committed; raises `UnknownOrder`."""
        cached = self._ledger.cached_order(bureau, order_id)
        if cached is not None:
            return cached
        check_case_id(order_id, "order_id")
        order = await asyncio.to_thread(queries.one_order, self._ledger.database, bureau, order_id)
        if order is None:
            raise order_errors.UnknownOrder(bureau, order_id)
        return order

    def possible(self, header: "Header", order: Order) -> tuple[type[OrderAct], ...]:
        """The acts that the person of the header may do on the order now."""
        return possible_order_acts(order, self._context_of(header, order))

    def why_not(self, header: "Header", kind: type[OrderAct], order: Order | None = None) -> errors.Refused | None:
        """Why the person may not do the act now, on the order or, to issue one, on none; None when he may."""
        return why_not(kind, order, self._context_of(header, order))

    # ------------------------------------------------------------ neighbours

    async def hear_statement(self, statement: supervision_pb2.OrderStatement, attestation: bytes = b"") -> bytes:
        """Records what the superior says of an order; the receipt. A repetition gets the first one, word for word.

        `attestation` is the issuer's own word, checked, and is kept with what is recorded.
        """
        act = order_acts.HearStatement(
            nonce=statement.nonce,
            step=statement.step,
            stage=enum_of(OrderStage, statement.stage, "statement.stage"),
            round=statement.round,
            issuer=statement.issuer,
            from_bureau=statement.from_bureau,
            final_bureau=statement.final_bureau,
            level=enum_of(OrderLevel, statement.level, "statement.level"),
            case_ids=tuple(statement.case_ids),
            answer_workdays=statement.answer_workdays,
            text=statement.text,
            note=statement.note,
            issued_at=instant_of(statement.issued_at_us, "statement.issued_at_us"),
        )
        return await self._hear(statement, DOWN, act, attestation)

    async def hear_report(self, report: supervision_pb2.OrderReport, attestation: bytes = b"") -> bytes:
        """Records what a subordinate says of an order; the receipt, as of `hear_statement`."""
        act = order_acts.HearReport(
            nonce=report.nonce,
            step=report.step,
            stage=enum_of(OrderStage, report.stage, "report.stage"),
            round=report.round,
            from_bureau=report.from_bureau,
            clock=ClockChange(
                kind=ClockKind.ORDER,
                action=ClockAction.STARTED,
                started_at=instant_of(report.received_at_us, "report.received_at_us"),
                due_at=instant_of(report.due_at_us, "report.due_at_us"),
                limit_workdays=report.limit_workdays,
                calendar_version=report.calendar_version,
                provisional=report.provisional,
                soon_at=instant_of(report.soon_at_us, "report.soon_at_us") if report.soon_at_us else None,
            ),
            acknowledged_at=instant_of(report.acknowledged_at_us, "report.acknowledged_at_us")
            if report.acknowledged_at_us
            else None,
            answered_at=instant_of(report.answered_at_us, "report.answered_at_us") if report.answered_at_us else None,
            late=report.late,
            derived_open=report.derived_open,
            answer=report.answer,
            because=report.because,
        )
        return await self._hear(report, UP, act, attestation)

    async def _hear(
        self,
        said: supervision_pb2.OrderStatement | supervision_pb2.OrderReport,
        way: str,
        act: OrderAct,
        attestation: bytes,
    ) -> bytes:
        bureau, order_id = said.to_bureau, said.order_id
        receipt_id = receipt_id_of(said, way)

        def run(draft: Draft) -> bytes:
            stored = draft.receipt(bureau, receipt_id)
            if stored is not None:
                return stored
            order = draft.order(bureau, order_id)
            if order is None and isinstance(act, order_acts.HearReport):
                raise order_errors.UnknownOrder(bureau, order_id)
            context = self._system_context_of(bureau, order)
            events = decide_order(order, act, context)
            recorded = draft.record_order(context, order_id, events, order)
            if events:
                draft.put_attestation(bureau, receipt_id, recorded.seq, attestation)
            record = supervision_pb2.OrderRecord(
                order_id=order_id,
                nonce=said.nonce,
                step=said.step,
                bureau=bureau,
                generation=draft.head(bureau).generation,
                seq=recorded.seq,
                hash=recorded.hash,
            ).SerializeToString()
            receipt = supervision_pb2.OrderReceipt(record=record, signature=self._sign(record)).SerializeToString()
            draft.keep_receipt(bureau, receipt_id, receipt)
            return receipt

        receipt: bytes = await self._ledger.do(Work(run=run, bureau=bureau, order_id=order_id, referral_id=receipt_id))
        return receipt

    async def note_delivery(self, bureau: str, to_bureau: str, record: supervision_pb2.OrderRecord) -> int:
        """Records that a neighbour has what it was told; the journal's end at which it is so."""
        act = order_acts.NoteDelivery(
            to_bureau=to_bureau, step=record.step, receipt_seq=record.seq, receipt_hash=record.hash
        )

        def run(draft: Draft) -> int:
            order = draft.order(bureau, record.order_id)
            if order is None:
                raise order_errors.UnknownOrder(bureau, record.order_id)
            context = self._system_context_of(bureau, order)
            return draft.record_order(context, record.order_id, decide_order(order, act, context), order).seq

        seq: int = await self._ledger.do(Work(run=run, bureau=bureau, order_id=record.order_id))
        return seq

    def note_time(self, draft: Draft, order: Order) -> frozenset[type[Act]]:
        """Within a piece of work: records what time and the calendar have done to an order's clock; which kinds."""
        context = self._system_context_of(order.bureau, order)
        events = decide_order(order, order_acts.NoteClock(), context)
        draft.record_order(context, order.order_id, events, order)
        return frozenset(_NOTED[change.action] for event in events for change in event.clocks)


def receipt_id_of(said: supervision_pb2.OrderStatement | supervision_pb2.OrderReport, way: str) -> str:
    """By what the receipt for something said of an order is kept; `way` is `DOWN` or `UP`."""
    return f"{said.order_id}.{said.nonce}.{way}.{said.step}"


def new_order_id(context: Context, number: int) -> str:
    """An order's number: the bureau that issues it, the year, and its place among that bureau's orders."""
    return f"{context.bureau}-{context.now.astimezone(SHANGHAI).year}-D{number:06d}"
