"""SupervisionService: orders of superiors, and their view of subordinates' open cases, over gRPC (§五(三), SPEC §7).

Officers ask their own bureau's node. Orders come from the node of the direct superior, reports from those of direct
subordinates; form, caller and signature are checked before the ledger hears of it. A superior's question about a
subordinate's cases goes down the tree hop by hop, and only public parts come back.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message

from kuaixiang.domain.authority import Subject
from kuaixiang.domain.errors import Condition, FieldMalformed, FieldMissing, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.lights import CLOSED_STAGES, is_extended, light_of
from kuaixiang.domain.order_errors import NotASubordinate
from kuaixiang.domain.orders import ANSWER_WORKDAYS_MAX, CASES_MAX, Order
from kuaixiang.domain.registration import (
    NOTE_CHARACTERS_MAX,
    REFERENCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    at_most,
    check_case_id,
)
from kuaixiang.domain.words import Custody, Light, OrderLevel, OrderSide, OrderStage, Stage
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.server import Context, Inside, admit
from kuaixiang.wire.codec import enum_of, event_name, order_act_of, rpc_of, timestamp
from kuaixiang.wire.errors import RefusedElsewhere, from_call
from kuaixiang.wire.v1 import supervision_pb2, supervision_pb2_grpc
from node.cases import case_view, clock_view, header_of, history_item
from node.federation.attestations import check_attestation, of_report, of_statement
from node.federation.client import Links, NoEndpoint, failure_of
from node.federation.server import HeardFrom, check_bureau, check_instant, seconds_for_a_hop
from node.ledger import evidence, queries
from node.ledger.queries import CaseFilter, HistoryEntry, OrderFilter
from node.office import Office
from node.orders import DOWN, UP, OrdersDone, receipt_id_of

STATEMENT_BYTES_MAX: Final = 128 * 1024
"""Wording and reason of 10,000 characters of three bytes each, a hundred cases, and as much again for the rest."""
DAYS_OF_A_WORKDAY_MAX: Final = 2
DAYS_OFF_MAX: Final = 30
"""A limit in working days ends within twice as many days and a month; a later deadline follows from no calendar."""
MICROS_PER_DAY: Final = 24 * 3600 * 1_000_000
STEPS_MAX: Final = 1_000_000
"""What one side may have said of an order; far above what people do."""
_OPEN_STAGES: Final = tuple(stage for stage in Stage if stage not in CLOSED_STAGES)

_M = TypeVar("_M", bound=Message)
_log: Final = structlog.get_logger(__name__)


class SubordinateUnreachable(Refused):
    """A bureau on the way to the subordinate does not answer."""

    condition = Condition.BUSY
    remedy = "Try again later; the hub has the figures meanwhile."
    remedy_chinese = "请稍后再试；其间可查看汇总中心的数据。"

    def __init__(self, bureau: str) -> None:
        super().__init__(f"Bureau {bureau} could not be asked.", f"暂时无法联系单位 {bureau}。")


class SupervisionServicer(supervision_pb2_grpc.SupervisionServiceServicer):
    """Answers SupervisionService for the bureaus of one node; `heard_from` is the courier's."""

    def __init__(self, office: Office, links: Links, seal: Seal, heard_from: HeardFrom) -> None:
        self._office = office
        self._links = links
        self._seal = seal
        self._heard_from = heard_from

    def _admit(self, context: Context | Inside, rpc: str, bureau: str, speaker: str = "") -> None:
        admit(context, rpc, Subject(bureau=bureau, speaker=speaker), self._office.place.tree)

    # ------------------------------------------------------------ officers

    async def _perform(self, request: Any, context: Context) -> OrdersDone:  # noqa: ANN401 - any act's message
        header = header_of(request)
        self._admit(context, rpc_of(type(request)), header.bureau)
        self._office.check_hosted(header.bureau)
        return await self._office.orders.perform(header, order_act_of(request))

    async def _act(self, request: Any, context: Context) -> supervision_pb2.OrderResponse:  # noqa: ANN401 - as above
        done = await self._perform(request, context)
        (order,) = await self._views(done.orders)
        return supervision_pb2.OrderResponse(order=order, seq=done.seq, repeated_request=done.repeated)

    # Each RPC that is an act on one order; what it does is said in supervision.proto and decided by the domain.
    IssueOrder = _act
    AcknowledgeOrder = _act
    AnswerOrder = _act
    AcceptAnswer = _act
    ReturnAnswer = _act
    CancelOrder = _act

    async def CascadeOrder(
        self, request: supervision_pb2.CascadeOrderRequest, context: Context
    ) -> supervision_pb2.CascadeOrderResponse:
        """Derives an order for each of some subordinates from one received: all or none."""
        done = await self._perform(request, context)
        return supervision_pb2.CascadeOrderResponse(
            orders=await self._views(done.orders), seq=done.seq, repeated_request=done.repeated
        )

    async def GetOrder(
        self, request: supervision_pb2.GetOrderRequest, context: Context
    ) -> supervision_pb2.GetOrderResponse:
        """One order, with its texts and its history where asked."""
        self._admit(context, "GetOrder", request.bureau)
        self._office.check_hosted(request.bureau, "bureau")
        order = await self._office.orders.read(request.bureau, request.order_id)
        (view,) = await self._views((order,))
        response = supervision_pb2.GetOrderResponse(order=view)
        if request.include_texts or request.include_history:
            history = await asyncio.to_thread(
                queries.history,
                self._office.ledger.database,
                order.bureau,
                order.order_id,
                private=request.include_texts,
            )
            if request.include_texts:
                response.texts.CopyFrom(_texts(order, history))
            if request.include_history:
                response.history.extend(_history_item(item) for item in history)
        return response

    async def ListOrders(
        self, request: supervision_pb2.ListOrdersRequest, context: Context
    ) -> supervision_pb2.ListOrdersResponse:
        """The bureau's orders by filters, nearest deadline first, in pages."""
        self._admit(context, "ListOrders", request.bureau)
        self._office.check_hosted(request.bureau, "bureau")
        wanted = self._orders_wanted(request)
        orders, token = await asyncio.to_thread(
            queries.list_orders, self._office.ledger.database, wanted, request.page_size, request.page_token
        )
        return supervision_pb2.ListOrdersResponse(orders=await self._views(tuple(orders)), next_page_token=token)

    async def count_orders(
        self, requests: Sequence[supervision_pb2.ListOrdersRequest], context: Context | Inside
    ) -> list[int]:
        """How many orders each of some lists has, on all its pages; for the pages of the bureau's desk."""
        for request in requests:
            self._admit(context, "ListOrders", request.bureau)
            self._office.check_hosted(request.bureau, "bureau")
        wanted = [self._orders_wanted(request) for request in requests]
        return await asyncio.to_thread(queries.count_orders, self._office.ledger.database, wanted)

    def _orders_wanted(self, request: supervision_pb2.ListOrdersRequest) -> OrderFilter:
        return OrderFilter(
            bureau=request.bureau,
            side=enum_of(OrderSide, request.side, "side") if request.side else None,
            stages=[enum_of(OrderStage, stage, "stages") for stage in request.stages],
            level=enum_of(OrderLevel, request.level, "level") if request.level else None,
            open=request.open or request.overdue,
            due_before_us=to_micros(self._office.place.clock.now()) if request.overdue else None,
        )

    async def _views(self, orders: tuple[Order, ...]) -> list[supervision_pb2.Order]:
        if not orders:
            return []
        derived = await asyncio.to_thread(
            queries.derived_orders,
            self._office.ledger.database,
            orders[0].bureau,
            [order.order_id for order in orders],
        )
        now = self._office.place.clock.now()
        return [_order_view(order, derived.get(order.order_id, ()), now) for order in orders]

    # ------------------------------------------------------------ neighbours

    async def DeliverOrder(
        self, request: supervision_pb2.DeliverOrderRequest, context: Context
    ) -> supervision_pb2.OrderReceipt:
        """An order, or what its issuer has said of it since, recorded. Repeats get the first receipt, word for word.

        Raises `FieldMissing`, `FieldMalformed`, `NotAuthorised`, `SignatureNotProven`, `NotThisBureau`, and what
        `decide_order` raises; `NotAttested` and `AttestationDiffers` where the issuer's own word is missing or another.
        """
        statement = _read(supervision_pb2.OrderStatement, request.statement, "statement")
        self._check_statement(statement)
        self._admit(context, "DeliverOrder", statement.to_bureau, statement.from_bureau)
        self._office.check_hosted(statement.to_bureau)
        self._seal.check(request.statement, request.signature, statement.from_bureau)
        attestation = b""
        if not await self._is_repeat(statement, DOWN):
            directly = statement.from_bureau == statement.issuer and statement.to_bureau == statement.final_bureau
            word = of_statement(statement, request.attestation.salt)
            attestation = check_attestation(request.attestation, word, self._seal.check, directly=directly)
        self._heard_from(statement.to_bureau, statement.from_bureau)
        return self._receipt(await self._office.orders.hear_statement(statement, attestation))

    async def ReportOrder(
        self, request: supervision_pb2.ReportOrderRequest, context: Context
    ) -> supervision_pb2.OrderReceipt:
        """What has become of an order at a subordinate, recorded. Raises what `DeliverOrder` raises."""
        report = _read(supervision_pb2.OrderReport, request.report, "report")
        self._check_report(report)
        self._admit(context, "ReportOrder", report.to_bureau, report.from_bureau)
        self._office.check_hosted(report.to_bureau)
        self._seal.check(request.report, request.signature, report.from_bureau)
        order = await self._office.orders.read(report.to_bureau, report.order_id)
        attestation = b""
        if report.from_bureau == order.below and not await self._is_repeat(report, UP):
            directly = order.below == order.final_bureau and order.begins_here
            word = of_report(report, order.final_bureau, request.attestation.salt)
            attestation = check_attestation(request.attestation, word, self._seal.check, directly=directly)
        self._heard_from(report.to_bureau, report.from_bureau)
        return self._receipt(await self._office.orders.hear_report(report, attestation))

    async def _is_repeat(self, said: supervision_pb2.OrderStatement | supervision_pb2.OrderReport, way: str) -> bool:
        """Whether it has been recorded: then it gets its receipt, whatever certificate its author has had since."""
        database, receipt_id = self._office.ledger.database, receipt_id_of(said, way)
        return await asyncio.to_thread(evidence.is_decided, database, said.to_bureau, receipt_id)

    def _receipt(self, kept: bytes) -> supervision_pb2.OrderReceipt:
        """The receipt as it was recorded, signed by the certificate that this node has now."""
        receipt = supervision_pb2.OrderReceipt.FromString(kept)
        receipt.signature.CopyFrom(self._seal.renewed(receipt.record, receipt.signature))
        return receipt

    def _check_statement(self, statement: supervision_pb2.OrderStatement) -> None:
        _check_numbers("statement", statement)
        for field in ("issuer", "final_bureau"):
            check_bureau(getattr(statement, field), f"statement.{field}")
        if len(statement.case_ids) > CASES_MAX:
            raise FieldMalformed(
                "statement.case_ids",
                Both(f"names {len(statement.case_ids)} cases", f"有 {len(statement.case_ids)} 项，过多"),
                Both(f"An order names at most {CASES_MAX}.", f"一份督办单最多 {CASES_MAX} 项。"),
            )
        for case_id in statement.case_ids:
            check_case_id(case_id, "statement.case_ids")
        if not 1 <= statement.answer_workdays <= ANSWER_WORKDAYS_MAX:
            raise FieldMalformed(
                "statement.answer_workdays",
                Both(f"is {statement.answer_workdays}", f"为 {statement.answer_workdays}，不在规定范围内"),
                Both(f"It is 1 to {ANSWER_WORKDAYS_MAX}.", f"须为 1 至 {ANSWER_WORKDAYS_MAX}。"),
            )
        if not statement.text:
            raise FieldMissing("statement.text", Both("an order says what is wanted", "督办单须写明督办事项"))
        at_most(statement.text, "statement.text", TEXT_CHARACTERS_MAX)
        at_most(statement.note, "statement.note", NOTE_CHARACTERS_MAX)
        check_instant(statement.issued_at_us, "statement.issued_at_us", self._now_us())

    def _check_report(self, report: supervision_pb2.OrderReport) -> None:
        _check_numbers("report", report)
        at_most(report.answer, "report.answer", NOTE_CHARACTERS_MAX)
        at_most(report.because, "report.because", NOTE_CHARACTERS_MAX)
        now_us = self._now_us()
        check_instant(report.received_at_us, "report.received_at_us", now_us)
        for field in ("acknowledged_at_us", "answered_at_us"):
            if getattr(report, field):
                check_instant(getattr(report, field), f"report.{field}", now_us)
        at_most(report.calendar_version, "report.calendar_version", REFERENCE_CHARACTERS_MAX)
        if report.limit_workdays > ANSWER_WORKDAYS_MAX:
            raise FieldMalformed(
                "report.limit_workdays",
                Both(f"is {report.limit_workdays}", f"为 {report.limit_workdays}，不在规定范围内"),
                Both(f"It is at most {ANSWER_WORKDAYS_MAX}.", f"最多为 {ANSWER_WORKDAYS_MAX}。"),
            )
        longest_us = (DAYS_OF_A_WORKDAY_MAX * report.limit_workdays + DAYS_OFF_MAX) * MICROS_PER_DAY
        if not 0 < report.due_at_us - report.received_at_us <= longest_us:
            raise FieldMalformed(
                "report.due_at_us",
                Both("is not after the receipt, or long after its limit", "不晚于送达时间，或者远超规定期限"),
                Both("Compute it from the receipt on.", "请从送达时间起计算。"),
            )

    def _now_us(self) -> int:
        return to_micros(self._office.place.clock.now())

    # ------------------------------------------------------------ superiors

    async def ListSubordinateCases(
        self, request: supervision_pb2.ListSubordinateCasesRequest, context: Context
    ) -> supervision_pb2.ListSubordinateCasesResponse:
        """A subordinate's open cases by light, nearest deadline first, without private parts.

        Raises `NotThisBureau`, `NotAuthorised`, `NotASubordinate`, `FieldMalformed`, `SubordinateUnreachable`.
        """
        light = enum_of(Light, request.light, "light") if request.light else None
        if self._goes_on("ListSubordinateCases", request, context):
            following = self._next(request.bureau, request.subordinate)
            question = supervision_pb2.ListSubordinateCasesRequest()
            question.CopyFrom(request)
            question.bureau = following
            answer: supervision_pb2.ListSubordinateCasesResponse = await self._ask(
                following,
                context,
                lambda seconds: self._links.supervision(following).ListSubordinateCases(question, timeout=seconds),
            )
            return answer
        found, token = await asyncio.to_thread(self._open_cases, request, light)
        return supervision_pb2.ListSubordinateCasesResponse(cases=found, next_page_token=token)

    async def GetSubordinateCase(
        self, request: supervision_pb2.GetSubordinateCaseRequest, context: Context
    ) -> supervision_pb2.GetSubordinateCaseResponse:
        """One case of a subordinate with its history, without private parts.

        Raises what `ListSubordinateCases` raises, and `UnknownCase`.
        """
        check_case_id(request.case_id, "case_id")
        if self._goes_on("GetSubordinateCase", request, context):
            following = self._next(request.bureau, request.subordinate)
            question = supervision_pb2.GetSubordinateCaseRequest(
                bureau=following, subordinate=request.subordinate, case_id=request.case_id
            )
            answer: supervision_pb2.GetSubordinateCaseResponse = await self._ask(
                following,
                context,
                lambda seconds: self._links.supervision(following).GetSubordinateCase(question, timeout=seconds),
            )
            return answer
        case = await self._office.read_case(request.subordinate, request.case_id)
        history = await asyncio.to_thread(
            queries.history, self._office.ledger.database, case.bureau, case.case_id, private=False
        )
        light: Any = light_of(case, self._office.place.clock.now())
        return supervision_pb2.GetSubordinateCaseResponse(
            found=supervision_pb2.SubordinateCase(case=case_view(case, self._office), light=light),
            history=[history_item(item.seq, item.entry) for item in history],
        )

    def _goes_on(
        self,
        rpc: str,
        request: supervision_pb2.ListSubordinateCasesRequest | supervision_pb2.GetSubordinateCaseRequest,
        context: Context,
    ) -> bool:
        """Whether the question is for a bureau further down; checks who asks."""
        bureau, subordinate, tree = request.bureau, request.subordinate, self._office.place.tree
        self._office.check_hosted(bureau, "bureau")
        if subordinate not in tree or not tree.contains(bureau, subordinate):
            raise NotASubordinate(bureau, subordinate, "subordinate")
        self._admit(context, rpc, subordinate)
        return bureau != subordinate

    def _next(self, bureau: str, subordinate: str) -> str:
        return self._office.place.tree.next_hop(bureau, subordinate)

    async def _ask(self, following: str, context: Context, call: Callable[[float], Any]) -> Any:  # noqa: ANN401 - the call's answer
        try:
            return await call(seconds_for_a_hop(context))
        except grpc.aio.AioRpcError as error:
            refusal = from_call(error)
            if refusal is not None:
                raise RefusedElsewhere(refusal) from error
            reason = failure_of(error).code
        except (NoEndpoint, PkiError) as failure:
            reason = type(failure).__name__
        _log.info("A subordinate could not be asked.", action="drill.unreachable", bureau=following, reason=reason)
        raise SubordinateUnreachable(following)

    def _open_cases(
        self, request: supervision_pb2.ListSubordinateCasesRequest, light: Light | None
    ) -> tuple[list[supervision_pb2.SubordinateCase], str]:
        """A page of open cases of that light; pages of the ledger are read until it is full."""
        now = self._office.place.clock.now()
        wanted = CaseFilter(
            bureau=request.subordinate,
            stages=_OPEN_STAGES,
            custodies=(Custody.OWNED, Custody.OFFERED),
            due_before_us=to_micros(now) if light is Light.OVERDUE else None,
        )
        size = min(request.page_size or queries.PAGE_SIZE_DEFAULT, queries.PAGE_SIZE_MAX)
        found: list[supervision_pb2.SubordinateCase] = []
        token = request.page_token
        while True:
            cases, token = queries.list_cases(self._office.ledger.database, wanted, queries.PAGE_SIZE_MAX, token)
            for at, case in enumerate(cases, start=1):
                shown: Any = light_of(case, now)
                if light not in {None, shown} or (request.extended and not is_extended(case)):
                    continue
                found.append(supervision_pb2.SubordinateCase(case=case_view(case, self._office), light=shown))
                if len(found) == size:
                    return found, queries.token_after(case) if token or at < len(cases) else ""
            if not token:
                return found, ""


def _read(kind: type[_M], content: bytes, field: str) -> _M:
    if len(content) > STATEMENT_BYTES_MAX:
        raise FieldMalformed(
            field,
            Both(f"has {len(content)} bytes", f"有 {len(content)} 字节，过大"),
            Both(f"It has at most {STATEMENT_BYTES_MAX}.", f"最多 {STATEMENT_BYTES_MAX} 字节。"),
        )
    try:
        return kind.FromString(content)
    except DecodeError as failure:
        raise FieldMalformed(
            field,
            Both("cannot be read", "无法读取"),
            Both(
                f"Send a serialized {kind.DESCRIPTOR.full_name}; its texts are UTF-8.",
                f"请发送 {kind.DESCRIPTOR.full_name} 报文，文字采用 UTF-8 编码。",
            ),
        ) from failure


def _check_numbers(field: str, said: supervision_pb2.OrderStatement | supervision_pb2.OrderReport) -> None:
    check_case_id(said.order_id, f"{field}.order_id")
    check_case_id(said.nonce, f"{field}.nonce")
    for name in ("step", "round"):
        if getattr(said, name) > STEPS_MAX:
            raise FieldMalformed(
                f"{field}.{name}",
                Both("counts more than can have been said", "超过可能的次数"),
                Both("Compare both ledgers.", "请核对双方台账。"),
            )
    if not said.step:
        raise FieldMissing(f"{field}.step", Both("it says which of several this is", "须写明是第几次"))


def _order_view(order: Order, derived: Any, now: datetime) -> supervision_pb2.Order:  # noqa: ANN401 - some numbers
    words: dict[str, Any] = {"stage": order.stage, "level": order.level}
    view = supervision_pb2.Order(
        order_id=order.order_id,
        bureau=order.bureau,
        version=order.version,
        issuer=order.issuer,
        final_bureau=order.final_bureau,
        above=order.above,
        below=order.below,
        case_ids=order.case_ids,
        answer_workdays=order.answer_workdays,
        parent_order_id=order.parent_order_id,
        derived_order_ids=derived,
        round=order.round,
        issued_at=timestamp(order.issued_at),
        answered_late=order.answered_late,
        awaiting_delivery=sorted(order.owed),
        **words,
    )
    for field, at in (
        ("received_at", order.received_at),
        ("acknowledged_at", order.acknowledged_at),
        ("answered_at", order.answered_at),
    ):
        if at is not None:
            getattr(view, field).CopyFrom(timestamp(at))
    if order.clock is not None:
        view.clock.CopyFrom(clock_view(order.clock, now))
    return view


def _texts(order: Order, history: list[HistoryEntry]) -> supervision_pb2.OrderTexts:
    private = {item.entry.version: item.entry.event.private for item in history}
    wording = private.get(order.text_version)
    answer = private.get(order.answer_version)
    stated = private.get(order.stated_version)
    return supervision_pb2.OrderTexts(
        text=wording.text if wording else "",
        answer=answer.note if answer else "",
        because=answer.text if answer else "",
        reason=stated.note if stated else "",
    )


def _history_item(item: HistoryEntry) -> supervision_pb2.OrderHistoryItem:
    entry = item.entry
    other = getattr(entry.event, "from_bureau", "") or getattr(entry.event, "to_bureau", "")
    words: dict[str, Any] = {"role": entry.role, "stage": getattr(entry.event, "order_stage", 0)}
    return supervision_pb2.OrderHistoryItem(
        seq=item.seq,
        version=entry.version,
        occurred_at=timestamp(entry.occurred_at),
        recorded_at=timestamp(entry.recorded_at),
        actor=entry.actor,
        department=entry.department,
        event=event_name(entry.event),
        note=entry.event.private.note if entry.event.private else "",
        other_bureau=other,
        **words,
    )
