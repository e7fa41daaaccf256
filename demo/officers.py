"""The inhabitants' side of a federation: officers at their terminals, a supervisor's reader, a statistician.

Clients are typed by the domain's own acts: ``await office.do(officer, acts.Complete(result="…"), case_id)``. An act is
asked again under the same request key until the bureau has answered, so that a node that dies in the middle costs time
and nothing else. One channel serves every client of a node.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuaixiang.domain.acts import Act, Attach, Register
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.words import Role
from kuaixiang.runtime.streams import send
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST, ACT_OF_REQUEST, timestamp
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import (
    case_pb2,
    case_pb2_grpc,
    directive_pb2,
    directive_pb2_grpc,
    issues_pb2,
    journal_pb2,
    ledger_pb2,
    ledger_pb2_grpc,
    reconciliation_pb2,
    reconciliation_pb2_grpc,
    supervision_pb2,
    supervision_pb2_grpc,
)
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kuaixiang.wire.v1.issues_pb2_grpc import IssueServiceStub
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceStub

CALL_SECONDS_MAX: Final = 10.0
"""One attempt. An answer takes milliseconds, on a machine busy with a whole federation now and then a second."""

PATIENCE_SECONDS: Final = 120.0
"""How long an officer goes on asking under the same key, whatever happens to the node meanwhile."""

RETRY_SECONDS: Final = 0.1
RETRY_SECONDS_MAX: Final = 0.5
"""Between two attempts, from the first to the last: a node is back some seconds after it died."""

STREAM_SECONDS_MAX: Final = 600.0
"""Reading a whole journal."""

ISSUE_CASES_MIN: Final = 3
"""Requests of one meaning that make a common issue."""

PIECE_BYTES: Final = 64 * 1024
"""Of a file, in one message."""

NO_DECISION: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
"""Answers that say nothing of the act: it may be durable or not, so it is asked again under its key."""


class OfficeError(Exception):
    """A service of the federation did not do its part."""


class NoAnswer(OfficeError):
    """A service did not answer for so long that its caller gave up."""

    def __init__(self, who: str, what: str, seconds: float, reason: str) -> None:
        self.who = who
        self.what = what
        self.seconds = seconds
        self.reason = reason
        super().__init__(f"{who} did not answer {what} within {seconds:.0f} s: {reason}")


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody who acts: identification within the bureau, the capacity, the department."""

    actor: str
    role: Role
    department: str


@dataclass(frozen=True, slots=True)
class _Form:
    """How an act is asked over the wire."""

    message: Any
    rpc: str


_FORMS: Final = {
    act: _Form(message, str(message.DESCRIPTOR.name).removesuffix("Request"))
    for message, act in {**ACT_OF_REQUEST, **ACT_OF_ORDER_REQUEST}.items()
}


def request_of(
    act: Act, bureau: str, officer: Officer, case_id: str = "", *, key: str = "", at: datetime | None = None
) -> Any:  # noqa: ANN401 - any act's message
    """The message that asks for an act."""
    asked = {field.name: _on_wire(getattr(act, field.name)) for field in fields(act)}
    return _FORMS[type(act)].message(header=_header(bureau, officer, case_id, key=key, at=at), **asked)


def _header(
    bureau: str, officer: Officer, case_id: str = "", *, key: str, at: datetime | None = None
) -> case_pb2.ActHeader:
    return case_pb2.ActHeader(
        bureau=bureau,
        case_id=case_id,
        actor=officer.actor,
        role=officer.role.value,  # type: ignore[arg-type]  # the wire's numbers are the domain's
        department=officer.department,
        request_key=key,
        occurred_at=None if at is None else timestamp(at),
    )


def _on_wire(value: Any) -> Any:  # noqa: ANN401 - a field of any act
    if isinstance(value, datetime):
        return timestamp(value)
    return int(value) if isinstance(value, IntEnum) else value


class Office:
    """The office of one bureau: its officers' terminals and its readers of the ledger.

    `patience_seconds` bounds how long an act or a question is asked again while the node does not answer,
    `call_seconds` one attempt.
    """

    def __init__(
        self,
        bureau: str,
        channel: grpc.aio.Channel,
        patience_seconds: float = PATIENCE_SECONDS,
        call_seconds: float = CALL_SECONDS_MAX,
    ) -> None:
        self.bureau = bureau
        self.patience_seconds = patience_seconds
        self.call_seconds = call_seconds
        self.in_flight = 0
        """Acts under way now."""
        self.retries = 0
        """Attempts that were not answered and were made again."""
        self._cases: Any = case_pb2_grpc.CaseServiceStub(channel)
        self._ledger: Any = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._supervision: Any = supervision_pb2_grpc.SupervisionServiceStub(channel)
        self._reconciliation: Any = reconciliation_pb2_grpc.ReconciliationServiceStub(channel)
        self._directives: Any = directive_pb2_grpc.DirectiveServiceStub(channel)

    async def do(
        self, officer: Officer, act: Act, case_id: str = "", *, key: str = "", at: datetime | None = None
    ) -> case_pb2.ActResponse:
        """Do an act, asking again under `key` until there is an answer; without a key it is asked once.

        Raises `RemoteRefusal` when the bureau refuses it, `NoAnswer`.
        """
        form = _FORMS[type(act)]
        request = request_of(act, self.bureau, officer, case_id, key=key, at=at)
        self.in_flight += 1
        try:
            answer: case_pb2.ActResponse = await self._ask(
                getattr(self._cases, form.rpc), request, form.rpc, again=bool(key)
            )
        finally:
            self.in_flight -= 1
        return answer

    async def get(self, case_id: str, *, history: bool = False) -> case_pb2.GetCaseResponse:
        """One case, without what is private of it. Raises `RemoteRefusal`, `NoAnswer`."""
        request = case_pb2.GetCaseRequest(bureau=self.bureau, case_id=case_id, include_history=history)
        answer: case_pb2.GetCaseResponse = await self._ask(self._cases.GetCase, request, "GetCase")
        return answer

    async def cases(self, **filters: Any) -> AsyncIterator[case_pb2.Case]:
        """The ledger's cases by the filters of `ListCasesRequest`, page after page."""
        token = ""
        while True:
            request = case_pb2.ListCasesRequest(bureau=self.bureau, page_token=token, **filters)
            page: case_pb2.ListCasesResponse = await self._ask(self._cases.ListCases, request, "ListCases")
            for case in page.cases:
                yield case
            token = page.next_page_token
            if not token:
                return

    def watch(self, from_seq: int) -> AsyncIterator[case_pb2.WatchCasesResponse]:
        """Every change from a journal position on; fails with grpc's own error when the node goes away."""
        request = case_pb2.WatchCasesRequest(bureau=self.bureau, from_seq=from_seq)
        changes: AsyncIterator[case_pb2.WatchCasesResponse] = self._cases.WatchCases(request)
        return changes

    def register_many(
        self, registrations: AsyncIterator[case_pb2.RegisterCasesRequest]
    ) -> AsyncIterator[case_pb2.RegisterCasesResponse]:
        """Registrations over one stream, each message answered when what is in it is durable, in their order."""
        answers: AsyncIterator[case_pb2.RegisterCasesResponse] = self._cases.RegisterCases(registrations)
        return answers

    async def head(self) -> journal_pb2.Head:
        """The end of the bureau's journal. Raises `NoAnswer`."""
        request = ledger_pb2.GetHeadsRequest(bureaus=[self.bureau])
        answer: ledger_pb2.GetHeadsResponse = await self._ask(self._ledger.GetHeads, request, "GetHeads")
        return answer.heads[0]

    async def heads(self, bureaus: Sequence[str]) -> list[journal_pb2.Head]:
        """The ends of the journals of bureaus that share this one's node. Raises `NoAnswer`."""
        request = ledger_pb2.GetHeadsRequest(bureaus=bureaus)
        answer: ledger_pb2.GetHeadsResponse = await self._ask(self._ledger.GetHeads, request, "GetHeads")
        return list(answer.heads)

    async def journal(self, from_seq: int = 1) -> list[journal_pb2.Segment]:
        """The bureau's whole journal from a position on, public parts. Raises `NoAnswer`."""
        request = ledger_pb2.ReadJournalRequest(bureau=self.bureau, from_seq=from_seq)

        async def read(request: ledger_pb2.ReadJournalRequest, timeout: float) -> list[journal_pb2.Segment]:
            answers = self._ledger.ReadJournal(request, timeout=max(timeout, STREAM_SECONDS_MAX))
            return [answer.segment async for answer in answers]

        segments: list[journal_pb2.Segment] = await self._ask(read, request, "ReadJournal")
        return segments

    async def attach(
        self, officer: Officer, act: Attach, content: bytes, case_id: str, *, key: str
    ) -> case_pb2.ActResponse:
        """Attach a file, sent again under `key` until there is an answer. Raises what `do` does."""
        first = request_of(act, self.bureau, officer, case_id, key=key)

        async def pieces() -> AsyncIterator[case_pb2.AttachFileRequest]:
            for at in range(0, len(content), PIECE_BYTES):
                yield case_pb2.AttachFileRequest(data=content[at : at + PIECE_BYTES])

        async def call(request: case_pb2.AttachFileRequest, timeout: float) -> case_pb2.ActResponse:
            answer: case_pb2.ActResponse = await send(self._cases.AttachFile(timeout=timeout), request, pieces())
            return answer

        attached: case_pb2.ActResponse = await self._ask(call, first, "AttachFile")
        return attached

    async def attachment(self, officer: Officer, case_id: str, digest: str) -> bytes:
        """The content of a case's file, whose reading is recorded. Raises `RemoteRefusal`, `NoAnswer`."""
        request = case_pb2.ReadAttachmentRequest(
            bureau=self.bureau,
            case_id=case_id,
            digest=digest,
            actor=officer.actor,
            role=officer.role.value,  # type: ignore[arg-type]  # the wire's numbers are the domain's
            department=officer.department,
        )

        async def read(request: case_pb2.ReadAttachmentRequest, timeout: float) -> bytes:
            return b"".join([piece.data async for piece in self._cases.ReadAttachment(request, timeout=timeout)])

        content: bytes = await self._ask(read, request, "ReadAttachment")
        return content

    async def duplicates(self, act: Register) -> list[str]:
        """Cases that may be the one about to be registered, the likeliest first. Raises `NoAnswer`."""
        request = case_pb2.FindDuplicatesRequest(
            bureau=self.bureau,
            taxpayer_name=act.taxpayer_name,
            taxpayer_number=act.taxpayer_number,
            contact=act.contact,
            text=act.text,
        )
        answer: case_pb2.FindDuplicatesResponse = await self._ask(self._cases.FindDuplicates, request, "FindDuplicates")
        return [candidate.case_id for candidate in answer.candidates]

    async def order(
        self, officer: Officer, act: OrderAct, order_id: str = "", *, key: str
    ) -> list[supervision_pb2.Order]:
        """Do an act on a supervision order 督办, asked again under `key`; the orders that it leaves.

        Raises what `do` does.
        """
        request = request_of(act, self.bureau, officer, order_id, key=key)
        form = _FORMS[type(act)]
        answer: Any = await self._ask(getattr(self._supervision, form.rpc), request, form.rpc)
        return list(answer.orders) if isinstance(answer, supervision_pb2.CascadeOrderResponse) else [answer.order]

    async def order_as_it_stands(self, order_id: str) -> supervision_pb2.Order:
        """One order. Raises `RemoteRefusal` while it is not in this ledger, `NoAnswer`."""
        request = supervision_pb2.GetOrderRequest(bureau=self.bureau, order_id=order_id)
        answer: supervision_pb2.GetOrderResponse = await self._ask(self._supervision.GetOrder, request, "GetOrder")
        return answer.order

    async def open_cases_of(self, subordinate: str) -> list[str]:
        """The first open cases of a subordinate, the nearest deadline first. Raises `RemoteRefusal`, `NoAnswer`."""
        request = supervision_pb2.ListSubordinateCasesRequest(bureau=self.bureau, subordinate=subordinate)
        answer: supervision_pb2.ListSubordinateCasesResponse = await self._ask(
            self._supervision.ListSubordinateCases, request, "ListSubordinateCases"
        )
        return [found.case.case_id for found in answer.cases]

    async def publish_calendar(self, officer: Officer, text: str, *, key: str) -> None:
        """Publish a version of the working calendar, at headquarters. Raises what `do` does."""
        request = directive_pb2.PublishCalendarRequest(header=_header(self.bureau, officer, key=key), calendar=text)
        await self._ask(self._directives.PublishCalendar, request, "PublishCalendar")

    async def publish_tree(self, officer: Officer, text: str, *, key: str) -> None:
        """Publish a version of the tree of bureaus, at headquarters. Raises what `do` does."""
        request = directive_pb2.PublishTreeRequest(header=_header(self.bureau, officer, key=key), tree=text)
        await self._ask(self._directives.PublishTree, request, "PublishTree")

    async def reconcile(self, peer: str = "") -> list[reconciliation_pb2.PairReport]:
        """Compare the ledger with a superior's or a subordinate's 对账, with all of them by default; both record it.

        Raises `RemoteRefusal`, `NoAnswer`.
        """
        request = reconciliation_pb2.ReconcileLedgersRequest(bureau=self.bureau, peer=peer)
        answer: reconciliation_pb2.ReconcileLedgersResponse = await self._ask(
            self._reconciliation.ReconcileLedgers, request, "ReconcileLedgers"
        )
        return list(answer.reports)

    async def mismatches(self) -> int:
        """How many differences with other ledgers stand in this one. Raises `NoAnswer`."""
        request = reconciliation_pb2.ListMismatchesRequest(bureau=self.bureau)
        answer: reconciliation_pb2.ListMismatchesResponse = await self._ask(
            self._reconciliation.ListMismatches, request, "ListMismatches"
        )
        return int(answer.standing)

    async def _ask(self, call: Any, request: Any, what: str, *, again: bool = True) -> Any:  # noqa: ANN401 - any RPC
        deadline = time.monotonic() + self.patience_seconds
        pause_seconds = RETRY_SECONDS
        while True:
            try:
                return await call(request, timeout=self.call_seconds)
            except grpc.aio.AioRpcError as failure:
                if failure.code() not in NO_DECISION:
                    raise from_call(failure) or failure from failure
                if not again or time.monotonic() >= deadline:
                    reason = f"{failure.code().name}, {failure.details()}"
                    raise NoAnswer(f"bureau {self.bureau}", what, self.patience_seconds, reason) from failure
            self.retries += 1
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, RETRY_SECONDS_MAX)


class HubReader:
    """A statistician of a hub's scope."""

    def __init__(self, scope: str, channel: grpc.aio.Channel) -> None:
        self.scope = scope
        self._stub: Any = StatisticsServiceStub(channel)
        self._issues: Any = IssueServiceStub(channel)

    async def figures(self, grouping: int = 0, scope: str = "", **period: str) -> pb.GetFiguresResponse:
        """Figures by the grouping's number; `from_day` and `to_day` bound the period. Raises `NoAnswer`."""
        request = pb.GetFiguresRequest(scope=scope, grouping=grouping, **period)  # type: ignore[arg-type]
        answer: pb.GetFiguresResponse = await self._ask(self._stub.GetFigures, request, CALL_SECONDS_MAX)
        return answer

    async def completeness(self, scope: str = "") -> pb.GetCompletenessResponse:
        """Which bureaus have been heard from, and up to where. Raises `NoAnswer`."""
        request = pb.GetCompletenessRequest(scope=scope)
        answer: pb.GetCompletenessResponse = await self._ask(self._stub.GetCompleteness, request, CALL_SECONDS_MAX)
        return answer

    async def reconcile(self, scope: str = "") -> pb.ReconcileResponse:
        """The hub against every ledger of the scope. Raises `NoAnswer`."""
        request = pb.ReconcileRequest(scope=scope)
        answer: pb.ReconcileResponse = await self._ask(self._stub.Reconcile, request, STREAM_SECONDS_MAX)
        return answer

    async def find_issues(self, from_day: str, to_day: str) -> issues_pb2.FindIssuesResponse:
        """What many ask in a period 共性诉求, by all ledgers of the scope. Raises `NoAnswer`."""
        request = issues_pb2.FindIssuesRequest(from_day=from_day, to_day=to_day, cases_min=ISSUE_CASES_MIN)
        answer: issues_pb2.FindIssuesResponse = await self._ask(self._issues.FindIssues, request, STREAM_SECONDS_MAX)
        return answer

    async def bulletin(self, period: str, form: int) -> pb.GetBulletinResponse:
        """The bulletin 通报 of a period, as a file of a form. Raises `NoAnswer`."""
        request = pb.GetBulletinRequest(period=period, format=form)  # type: ignore[arg-type]
        answer: pb.GetBulletinResponse = await self._ask(self._stub.GetBulletin, request, STREAM_SECONDS_MAX)
        return answer

    async def _ask(self, call: Any, request: Any, seconds: float) -> Any:  # noqa: ANN401 - any RPC
        try:
            return await call(request, timeout=seconds)
        except grpc.aio.AioRpcError as failure:
            reason = f"{failure.code().name}, {failure.details()}"
            raise NoAnswer(f"hub {self.scope}", type(request).__name__, seconds, reason) from failure


async def serving(channel: grpc.aio.Channel, timeout_seconds: float) -> bool:
    """Whether the service behind the channel says that it serves."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds, wait_for_ready=True)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
