"""Asking a bureau's node: one certificate, one channel, a deadline on every call, the same key again while it is away.

It brings gRPC with it: commands of a node import it inside, those of a hub are a module of their own that is imported
when one of them is called, so that `kx --help` is quick.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from kuaixiang.domain.acts import Act
from kuaixiang.domain.labels import Both
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.runtime.pki import CertificatePaths, Kind, PkiError, dns_name
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST, ACT_OF_REQUEST, timestamp
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import (
    callback_pb2_grpc,
    case_pb2,
    case_pb2_grpc,
    cosign_pb2_grpc,
    directive_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    reconciliation_pb2_grpc,
    referral_pb2_grpc,
    sign_in_pb2_grpc,
    supervision_pb2,
    supervision_pb2_grpc,
)
from kx.options import Acting, Asking, Once, Who
from kx.output import FAULT_EXIT_CODE, REFUSED_EXIT_CODE, UNREACHABLE_EXIT_CODE, Failed, note
from kx.signing import Signed, bearer_for

CALL_SECONDS_MAX: Final = 10.0
"""One try of one call; an act waits for its commit, milliseconds."""
CALL_SECONDS_MIN: Final = 0.5
"""What the last try is given at least."""
RETRY_SECONDS: Final = (0.3, 0.6, 1.2, 2.5)
"""Pauses between tries; the last one repeats."""
WATCH_SECONDS: Final = 600.0
"""One call of a watcher, who then calls again."""
AWAY: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
"""No decisions: the same request under the same key may be tried again."""

_CUT: Final = "Stream removed"
"""What gRPC itself says of a call whose connection went away under it; a fault of the node names the fault."""
_MISMATCHES: Final = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
"""What gRPC's details say when the node's certificate is not the one expected, which trying again does not change."""

REQUEST_OF_ACT: Final[Mapping[type[Act], type[Message]]] = {
    act: request for request, act in (*ACT_OF_REQUEST.items(), *ACT_OF_ORDER_REQUEST.items())
}
_SERVICE: Final = case_pb2.DESCRIPTOR.services_by_name["CaseService"]
_ORDER_SERVICE: Final = supervision_pb2.DESCRIPTOR.services_by_name["SupervisionService"]
_RPC_OF: Final = {
    method.input_type.full_name: method.name for service in (_SERVICE, _ORDER_SERVICE) for method in service.methods
}

LATER: Final = Both("Try again later.", "请稍后重试。")

T = TypeVar("T")


@asynccontextmanager
async def channel_of(endpoint: str, kind: Kind, code: str, certificates: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a node or a hub by the name in its certificate. Raises `Failed` when ours cannot be used."""
    try:
        channel = open_channel(endpoint, dns_name(kind, code), CertificatePaths.in_folder(certificates))
    except PkiError as failure:
        said = Both(str(failure), f"证书不能使用：{failure}")
        raise Failed(said, field="--certificates", rule=type(failure).__name__) from failure
    token = bearer_for(endpoint, code)
    async with channel:
        signed: Any = Signed(channel, token) if token else channel
        yield signed


def channel_to(asking: Asking) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    """The channel to the bureau's node. Raises `Failed` when the certificates cannot be used."""
    return channel_of(asking.node, "node", asking.bureau, asking.certificates)


def rpc_of(request: Message) -> str:
    """The method of CaseService or SupervisionService that takes a request."""
    return _RPC_OF[request.DESCRIPTOR.full_name]


def request_of(act: Act) -> Any:  # noqa: ANN401 - the act's own message
    """The request that asks for an act, without its header."""
    request: Any = REQUEST_OF_ACT[type(act)]()
    for field in fields(act):
        value = getattr(act, field.name)
        if value is None:
            continue
        if isinstance(value, datetime):
            getattr(request, field.name).CopyFrom(timestamp(value))
        elif isinstance(value, tuple):
            getattr(request, field.name).extend(value)
        else:
            setattr(request, field.name, int(value) if isinstance(value, IntEnum) else value)
    return request


def header_of(acting: Acting, case_id: str) -> case_pb2.ActHeader:
    """Who does what to which case."""
    header = case_pb2.ActHeader(
        bureau=acting.asking.bureau,
        case_id=case_id,
        actor=acting.who.actor,
        department=acting.who.department,
        request_key=acting.once.key,
        expected_version=acting.once.expected_version,
    )
    header.role = int(acting.who.role)  # type: ignore[assignment]
    if acting.who.at is not None:
        header.occurred_at.CopyFrom(timestamp(acting.who.at))
    return header


def perform(acting: Acting, case_id: str, act: Act) -> case_pb2.ActResponse:
    """Does an act; tried again under the same key while the node is away, which is harmless. Raises `Failed`."""
    response: case_pb2.ActResponse = _perform(acting, "CaseService", case_id, act)
    return response


def perform_on_order(acting: Acting, order_id: str, act: OrderAct) -> Any:  # noqa: ANN401 - the act's own answer
    """Does an act on a supervision order, as `perform` does one on a case."""
    return _perform(acting, "SupervisionService", order_id, act)


def _perform(acting: Acting, service: str, subject: str, act: Act) -> Any:  # noqa: ANN401 - the act's own answer
    request = request_of(act)
    request.header.CopyFrom(header_of(acting, subject))
    return ask(acting.asking, service, rpc_of(request), request, again_under(acting))


def again_under(acting: Acting) -> Both:
    """What to do when an act had no answer."""
    return Both(
        f"The same command with --key {acting.once.key} is harmless, whether or not the act was done.",
        f"可加上 --key {acting.once.key} 重新执行同一命令：无论该操作是否已完成，都不会重复办理。",
    )


def ask(
    asking: Asking,
    service: str,
    method: str,
    request: Message,
    again: Both = LATER,
    *,
    call_seconds_max: float = CALL_SECONDS_MAX,
) -> Any:  # noqa: ANN401 - the method's own answer
    """The answer to one request; `again` is what to do when none came. Raises `Failed`."""

    async def work() -> object:
        async with channel_to(asking) as channel:
            call = method_of(channel, service, method)
            return await patiently(asking, lambda seconds: call(request, timeout=seconds), again, call_seconds_max)

    return run(work())


def ask_as(asking: Asking, who: Who, service: str, method: str, request: Any) -> Any:  # noqa: ANN401 - as `ask`
    """The answer to a request with a header, which is filled in: who asks. Raises `Failed`."""
    request.header.CopyFrom(header_of(Acting(asking, who, Once()), ""))
    return ask(asking, service, method, request)


def method_of(channel: grpc.aio.Channel, service: str, method: str) -> Any:  # noqa: ANN401 - the stub's callable
    """A method of one of the node's services."""
    stubs: dict[str, Callable[[grpc.aio.Channel], object]] = {
        "CallbackService": callback_pb2_grpc.CallbackServiceStub,
        "CaseService": case_pb2_grpc.CaseServiceStub,
        "CosignService": cosign_pb2_grpc.CosignServiceStub,
        "DirectiveService": directive_pb2_grpc.DirectiveServiceStub,
        "LedgerService": ledger_pb2_grpc.LedgerServiceStub,
        "ReferralService": referral_pb2_grpc.ReferralServiceStub,
        "ReconciliationService": reconciliation_pb2_grpc.ReconciliationServiceStub,
        "SignInService": sign_in_pb2_grpc.SignInServiceStub,
        "SupervisionService": supervision_pb2_grpc.SupervisionServiceStub,
    }
    return getattr(stubs[service](channel), method)


async def patiently(
    asking: Asking,
    attempt: Callable[[float], Awaitable[T]],
    again: Both,
    call_seconds_max: float = CALL_SECONDS_MAX,
) -> T:
    """Tries until there is an answer or the time is up. `attempt` is given the seconds it may take. Raises `Failed`."""
    patience = Patience(asking, again, call_seconds_max)
    while True:
        try:
            return await attempt(patience.seconds_for_a_call())
        except grpc.aio.AioRpcError as error:
            await patience.after(error)


class Patience:
    """How long a command goes on trying a node that does not answer; the time runs from the first failure."""

    def __init__(self, asking: Asking, again: Both, call_seconds_max: float = CALL_SECONDS_MAX) -> None:
        self._asking = asking
        self._again = again
        self._call_seconds_max = call_seconds_max
        self._tries = 0
        self._until: float | None = None

    def renew(self) -> None:
        """There was an answer."""
        self._tries = 0
        self._until = None

    def seconds_for_a_call(self) -> float:
        """The deadline of the next try."""
        left = self._call_seconds_max if self._until is None else self._until - time.monotonic()
        return max(CALL_SECONDS_MIN, min(self._call_seconds_max, left))

    async def after(self, error: grpc.aio.AioRpcError) -> None:
        """Waits before the next try; raises `Failed` for a refusal, a fault, or when the time is up."""
        failure = failure_of(error, self._asking, self._again)
        if not _away(error) or _mismatch(error):
            raise failure from error
        await self.wait(failure)

    async def wait(self, failure: Failed) -> None:
        """Waits before the next try; raises the failure when the time is up."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._asking.patience_seconds
        pause = RETRY_SECONDS[min(self._tries, len(RETRY_SECONDS) - 1)]
        left = self._until - now
        if left <= pause:
            raise failure
        if self._tries == 0:
            note(
                f"{failure.sentence.english} Trying again for {left:.0f} s, under the same key.",
                f"{failure.sentence.chinese}将在 {left:.0f} 秒内以同一请求标识重试。",
            )
        self._tries += 1
        await asyncio.sleep(pause)


def refused_by(error: grpc.aio.AioRpcError) -> Failed | None:
    """What a failed call means to the one who asked, when it is a refusal; None when there was no decision."""
    refusal = from_call(error)
    if refusal is None:
        return None
    busy = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return Failed(
        refusal.sentence,
        exit_code=UNREACHABLE_EXIT_CODE if busy else REFUSED_EXIT_CODE,
        field=refusal.field,
        rule=refusal.rule,
        remedy=refusal.remedy,
        code=error.code().name,
    )


def failure_of(error: grpc.aio.AioRpcError, asking: Asking, again: Both) -> Failed:
    """What a failed call means to the one who asked."""
    refusal = refused_by(error)
    if refusal is not None:
        return refusal
    code = error.code().name
    details = (error.details() or "").strip()
    if _away(error):
        if _mismatch(error):
            return Failed(
                Both(
                    f"The node at {asking.node} does not show a certificate of bureau {asking.bureau} that this "
                    "terminal trusts.",
                    f"节点 {asking.node} 出示的不是本终端信任的单位 {asking.bureau} 的证书。",
                ),
                exit_code=UNREACHABLE_EXIT_CODE,
                field="--node",
                rule="WrongCertificate",
                remedy=Both(
                    "Check --node, --bureau, and that --certificates are of the same authority as the node's.",
                    "请核对 --node 和 --bureau，并确认 --certificates 与节点证书由同一机构颁发。",
                ),
                code=code,
            )
        return Failed(
            Both(
                f"The node at {asking.node} does not answer ({details or code}).",
                f"节点 {asking.node} 没有应答（{details or code}）。",
            ),
            exit_code=UNREACHABLE_EXIT_CODE,
            field="--node",
            remedy=again,
            code=code,
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        said = Both(
            f"The node at {asking.node} does not offer this: {details}", f"节点 {asking.node} 不提供该功能：{details}"
        )
        return Failed(said, exit_code=FAULT_EXIT_CODE, code=code)
    return Failed(
        Both(f"The node at {asking.node} failed: {details or code}", f"节点 {asking.node} 出现故障：{details or code}"),
        exit_code=FAULT_EXIT_CODE,
        remedy=again,
        code=code,
    )


def _away(error: grpc.aio.AioRpcError) -> bool:
    """Whether there was no answer, as when the node's process died: a cut stream has a status of gRPC's own making."""
    cut = error.code() is grpc.StatusCode.UNKNOWN and _CUT in (error.details() or "")
    return cut or error.code() in AWAY


def _mismatch(error: grpc.aio.AioRpcError) -> bool:
    return any(sign in (error.details() or "") for sign in _MISMATCHES)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's asynchronous part."""
    return asyncio.run(work)


def follow(asking: Asking, from_seq: int, count: int, told: Callable[[Any], object]) -> None:
    """Tells every change of the bureau's ledger, once each, through interruptions too. Raises `Failed`."""
    run(_follow(asking, from_seq, count, told))


async def _follow(asking: Asking, from_seq: int, count: int, told: Callable[[Any], object]) -> None:
    again = Both(
        "Watch again with --from-seq and the last position seen.", "请用 --from-seq 从最后看到的序号起重新查看。"
    )
    async with channel_to(asking) as channel:
        wanted = from_seq or await _end_of_journal(asking, channel, again) + 1
        patience = Patience(asking, again)
        watch = method_of(channel, "CaseService", "WatchCases")
        seen = 0
        while True:
            begun = time.monotonic()
            try:
                request = case_pb2.WatchCasesRequest(bureau=asking.bureau, from_seq=wanted)
                async for change in watch(request, timeout=WATCH_SECONDS):
                    told(change)
                    wanted = change.seq + 1
                    seen += 1
                    if seen == count:
                        return
                await asyncio.sleep(RETRY_SECONDS[0])
            except grpc.aio.AioRpcError as error:
                if time.monotonic() - begun > CALL_SECONDS_MAX:
                    patience.renew()
                # The call's own time is up, not the watcher's.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    await patience.after(error)


async def _end_of_journal(asking: Asking, channel: grpc.aio.Channel, again: Both) -> int:
    """The last position of the bureau's journal, so that nothing is missed between two calls."""
    call = method_of(channel, "LedgerService", "GetHeads")
    request = ledger_pb2.GetHeadsRequest(bureaus=[asking.bureau])
    response = await patiently(asking, lambda seconds: call(request, timeout=seconds), again)
    return next((int(head.seq) for head in response.heads if head.bureau == asking.bureau), 0)
