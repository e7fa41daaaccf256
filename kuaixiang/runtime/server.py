"""What every gRPC server of ours does around a call: who is calling, refusals made readable, counts and seconds."""

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status
from prometheus_client import Counter, Histogram

from kuaixiang.domain.authority import ACCESS, Access, Caller, NoRuleForCall, Subject, decide_access
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime import tracing
from kuaixiang.runtime.database import DatabaseNotWritable, DatabaseSilent, Unwritable
from kuaixiang.runtime.limits import DEFAULT_LIMITS, Allowance, CallLimits
from kuaixiang.runtime.revocation import serial_text
from kuaixiang.runtime.tls import Identity, Peer, PeerWithoutCertificate, peer_of
from kuaixiang.runtime.trust import Trust
from kuaixiang.runtime.writer import WriterBusy, WriterStopped
from kuaixiang.wire.errors import to_status

RPCS: Final = Counter("kx_rpcs_total", "Calls answered, by method and status code.", ["method", "code"])
RPC_SECONDS: Final = Histogram(
    "kx_rpc_seconds",
    "Time to answer a call; streams until their end.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

AUTHORIZATION: Final = "authorization"
"""The metadata under which an officer brings what he was given when he signed in, and a channel its token."""

_log: Final = structlog.get_logger(__name__)

NOT_NOW: Final = (WriterBusy, WriterStopped, DatabaseSilent)
"""What says nothing of the question: it may be asked again."""

Context = grpc.aio.ServicerContext[Any, Any]


class TooMuchWaits(Refused):
    """The ledger has more work waiting than it answers in time."""

    condition = Condition.BUSY
    remedy = "Try again in a moment, under the same request key."
    remedy_chinese = "请稍后使用同一请求标识重试。"

    def __init__(self, why: WriterBusy) -> None:
        super().__init__(
            f"{why.waiting} acts already wait to be written to the ledger.", f"已有 {why.waiting} 项操作等待写入台账。"
        )


class LedgerClosed(Refused):
    """The ledger is closing; whether the act was done shows when it is asked again under the same key."""

    condition = Condition.BUSY
    remedy = "Try again under the same request key when the node is back."
    remedy_chinese = "请在节点恢复后使用同一请求标识重试。"

    def __init__(self) -> None:
        super().__init__("The ledger is closed.", "台账已关闭。")


class DatabaseAway(Refused):
    """What is asked for cannot be read now."""

    condition = Condition.BUSY
    remedy = "Try again in a moment, an act under the same request key; the service's log says why."
    remedy_chinese = "请稍后重试，操作请使用同一请求标识；原因见服务日志。"

    def __init__(self) -> None:
        super().__init__("The database does not answer.", "数据库没有响应。")


class LedgerNotWritable(Refused):
    """Nothing can be written now; what is there can be read."""

    condition = Condition.BUSY
    remedy = "Nothing was done. Try again under the same request key when those who run the service have mended it."
    remedy_chinese = "本次操作未执行。请联系运维人员，恢复后使用同一请求标识重试。"

    def __init__(self, why: DatabaseNotWritable) -> None:
        chinese = {Unwritable.FULL: "磁盘空间已满", Unwritable.READ_ONLY: "数据库处于只读状态"}[why.why]
        super().__init__(
            f"The ledger can be read and not written: {why.why}.", f"台账只能查阅，暂不能办理：{chinese}。"
        )


class NotReadable(Refused):
    """The bytes of a request are not the message that the method takes."""

    condition = Condition.INVALID
    remedy = "Send the message of this method's own version, its texts in UTF-8."
    remedy_chinese = "请按该接口当前版本的报文格式发送，文字采用 UTF-8 编码。"

    def __init__(self, why: DecodeError) -> None:
        fault = str(why).rstrip(".")
        super().__init__(f"The request cannot be read: {fault}.", f"请求报文无法读取（{fault}）。")


class CertificateRevoked(Refused):
    """The authority has revoked the caller's certificate."""

    condition = Condition.FORBIDDEN
    remedy = "Have a new certificate issued, with a new key."
    remedy_chinese = "请重新申领证书并更换密钥。"

    def __init__(self, serial: str) -> None:
        self.serial = serial
        super().__init__(f"The certificate {serial} is revoked.", f"证书 {serial} 已被吊销。")


class AuthorityNotTrusted(Refused):
    """The authority that issued the caller's certificate has been taken out of those that are trusted."""

    condition = Condition.FORBIDDEN
    remedy = "Have a certificate issued by the authority that is trusted now."
    remedy_chinese = "请由现在受信任的颁发机构重新签发证书。"

    def __init__(self, serial: str) -> None:
        self.serial = serial
        super().__init__(
            f"The authority that issued the certificate {serial} is not trusted any more.",
            f"签发证书 {serial} 的颁发机构已不再受信任。",
        )


class CertificateNotPinned(Refused):
    """The tree lists other certificates for a bureau that the caller's certificate names."""

    condition = Condition.FORBIDDEN
    remedy = "Use the bureau's listed certificate, or ask headquarters to publish a tree that lists this one."
    remedy_chinese = "请使用机构树所列的证书，或者报税务总局在机构树中登记该证书。"

    def __init__(self, bureau: str, fingerprint: str) -> None:
        self.bureau = bureau
        self.fingerprint = fingerprint
        super().__init__(
            f"The certificate {fingerprint[:16]}… is not one that the tree lists for bureau {bureau}.",
            f"证书 {fingerprint[:16]}… 不在机构树为单位 {bureau} 所列的证书之中。",
        )


class Inside:
    """The context of a call that does not come over the wire: this process's web pages ask for somebody they know."""

    __slots__ = ("caller",)

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    @staticmethod
    def time_remaining() -> None:
        """No deadline: who waits in front of a page gives up by himself."""

    async def send_initial_metadata(self, metadata: object) -> None:
        """Whoever sends a file from inside has it all: nobody waits to be told to go ahead."""


class Gate(Protocol):
    """Who may come in, beyond what a certificate says: officers who have signed in, channels with a token."""

    async def admit(self, caller: Caller, method: str, authorization: str, *, again: bool = False) -> Caller:
        """The caller with who came with the call; raises `Refused` for what may not come in.

        `again`: asked for each message of a stream, which by itself shows that nobody is there.
        """
        ...

    def check(self, caller: Caller, message: Any) -> None:  # noqa: ANN401 - any request
        """Whoever a request says acts or reads is who came with the call; raises `Refused`."""
        ...


_CALLER: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
"""Who is calling, as the gate has let him in, else by the certificate; for the time of the call."""


def caller_of(context: Context | Inside) -> Caller:
    """Who is calling: as the gate has let him in, else by the certificate; from inside, by the pages' session."""
    if isinstance(context, Inside):
        return context.caller
    return _CALLER.get() or _by_certificate(peer_of(context))


def _by_certificate(peer: Peer) -> Caller:
    identity = peer.identity
    return Caller(identity.bureaus, identity.offices, identity.hubs)


def _shown(context: Context) -> Peer | None:
    """The certificate that the connection was opened with; None where there is none.

    gRPC is asked once for a call: it writes the certificate out anew each time.
    """
    try:
        return peer_of(context)
    except PeerWithoutCertificate:
        return None


class AnsweredUnasked(Exception):
    """A handler has answered a call of which nobody has asked whether the caller may make it: a fault of ours."""

    def __init__(self, rpc: str) -> None:
        self.rpc = rpc
        super().__init__(f"{rpc} answers without having been admitted by its row of the table of authority")


_ADMITTED: Final[ContextVar[set[str] | None]] = ContextVar("admitted", default=None)
"""The calls that the one under way has been admitted as; None outside of a call over the wire."""


def admit(context: Context | Inside, rpc: str, subject: Subject, tree: BureauTree) -> Access:
    """What every handler begins with: whether the caller may make this call about that subject.

    Raises what `decide_access` raises.
    """
    access = decide_access(caller_of(context), rpc, subject, tree)
    admitted = _ADMITTED.get()
    if admitted is not None:
        admitted.add(rpc)
    return access


@dataclass(frozen=True, slots=True)
class _Doors:
    """What every call of one server passes: whose certificate is not believed, how much may be asked, who signed in."""

    believe: Callable[[Peer | None, Context], None]
    gate: Gate | None
    allowance: Allowance


class Answering(grpc.aio.ServerInterceptor):
    """Turns refusals into statuses with details, counts calls, and keeps faults of ours out of the answer.

    A call without a row in the table of authority is refused before its handler runs; an answer of a handler that has
    not been admitted (`admit`) does not leave. A caller who asks more than `limits` is refused before anything is read.
    """

    def __init__(self, trust: Trust | None, gate: Gate | None = None, limits: CallLimits = DEFAULT_LIMITS) -> None:
        """`trust` says whose calls are refused; None: there are no certificates, as in a test without TLS."""
        self._trust = trust
        self._doors = _Doors(self._believe, gate, Allowance(limits, time.monotonic))
        self._known: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - grpc's handlers have no common type
        """The handler of a call, wrapped; made once for each method."""
        method = str(handler_call_details.method)
        known = self._known.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/kuaixiang."):
            return handler
        wrapped = self._known[method] = _wrapped(handler, method.lstrip("/"), self._doors)
        return wrapped

    def _believe(self, peer: Peer | None, context: Context) -> None:
        """Raises `PeerWithoutCertificate`, `AuthorityNotTrusted`, `CertificateRevoked`, `CertificateNotPinned`."""
        if self._trust is None:
            return
        if peer is None:
            raise PeerWithoutCertificate(context.peer())
        if self._trust.strange(peer):
            raise AuthorityNotTrusted(serial_text(peer.serial))
        if self._trust.revoked(peer):
            raise CertificateRevoked(serial_text(peer.serial))
        bureau = self._trust.unpinned(peer)
        if bureau:
            raise CertificateNotPinned(bureau, peer.fingerprint)


def _wrapped(handler: Any, full: str, doors: _Doors) -> Any:  # noqa: ANN401 - grpc's handlers have no common type
    method = full.rsplit("/", 1)[-1]
    streams = handler.response_streaming
    make = (
        (grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler)
        if handler.request_streaming
        else (grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler)
    )
    name = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if streams else 'unary'}"
    inner = getattr(handler, name)
    read = _reader(handler, method, doors)
    brings = handler.request_streaming
    behaviour = _stream(inner, read, method, doors) if streams else _unary(inner, read, method, doors, brings)
    spans = tracing.spans()
    if spans is not None:
        behaviour = spans.answering(behaviour, full, streams=streams)
    # Bytes are read inside the call, so that what cannot be read is refused like anything else.
    return make(behaviour, request_deserializer=None, response_serializer=handler.response_serializer)


def _reader(handler: Any, method: str, doors: _Doors) -> Callable[[Any, Context], Any]:  # noqa: ANN401 - grpc's handlers have no common type
    parse, gate = handler.request_deserializer, doors.gate

    def one(payload: bytes, _: Context) -> Any:  # noqa: ANN401 - any message
        try:
            message = parse(payload)
        except DecodeError as why:
            raise NotReadable(why) from why
        caller = _CALLER.get()
        if gate is not None and caller is not None:
            gate.check(caller, message)
        return message

    async def each(payloads: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        peer = _shown(context)
        async for payload in payloads:
            await _still_in(doors, peer, context, method)
            yield one(payload, context)

    return each if handler.request_streaming else one


def _who(peer: Peer | None, context: Context) -> tuple[Identity | str, bytes | None]:
    """Whose bucket a call is counted in: the certificate's, and the token's that it brings besides, if any."""
    counted = peer.identity if peer is not None else context.peer()
    for name, value in context.invocation_metadata() or ():
        if name == AUTHORIZATION:
            token = value if isinstance(value, bytes) else value.encode()
            return counted, hashlib.sha256(token).digest()
    return counted, None


def _begin(method: str, peer: Peer | None) -> set[str]:
    """What a call begins with: nothing is admitted. Raises `NoRuleForCall`."""
    if method not in ACCESS:
        raise NoRuleForCall(method)
    if peer is not None:
        _CALLER.set(_by_certificate(peer))
    admitted: set[str] = set()
    _ADMITTED.set(admitted)
    return admitted


def _check_admitted(admitted: set[str], method: str) -> None:
    if method not in admitted:
        raise AnsweredUnasked(method)


async def _still_in(doors: _Doors, peer: Peer | None, context: Context, method: str) -> None:
    """Once more, for each message of a stream: it may be open for weeks, and certificate or sign-in end meanwhile."""
    doors.believe(peer, context)
    await _let_in(doors.gate, peer, context, method, again=True)


async def _let_in(gate: Gate | None, peer: Peer | None, context: Context, method: str, *, again: bool = False) -> None:
    """Asks the gate, where there is one; what it says holds for this call, which is a task of its own."""
    if gate is None:
        return
    if peer is None:
        raise PeerWithoutCertificate(context.peer())
    sent = dict(context.invocation_metadata() or ())
    authorization = sent.get(AUTHORIZATION, "")
    caller = await gate.admit(_by_certificate(peer), method, str(authorization), again=again)
    _CALLER.set(caller)


def _unary(
    inner: Callable[..., Awaitable[Any]],
    read: Callable[[Any, Context], Any],
    method: str,
    doors: _Doors,
    brings: bool,  # noqa: FBT001 - said once, where the handler is wrapped
) -> Callable[[Any, Context], Awaitable[Any]]:
    seconds = RPC_SECONDS.labels(method)
    answered = RPCS.labels(method, "OK")

    async def call(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        started = time.perf_counter()
        try:
            peer = _shown(context)
            doors.believe(peer, context)
            with doors.allowance.entered(*_who(peer, context), streams=brings):
                admitted = _begin(method, peer)
                await _let_in(doors.gate, peer, context, method)
                response = await inner(read(request, context), context)
                _check_admitted(admitted, method)
        except (Refused, *NOT_NOW) as refusal:
            await _refuse(context, refusal, method)
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - a fault of ours: logged here, its text kept from the caller
            await _fault(context, method)
        else:
            answered.inc()
            return response
        finally:
            seconds.observe(time.perf_counter() - started)

    return call


def _stream(
    inner: Callable[..., AsyncIterator[Any]], read: Callable[[Any, Context], Any], method: str, doors: _Doors
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    seconds = RPC_SECONDS.labels(method)
    answered = RPCS.labels(method, "OK")

    async def call(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
        started = time.perf_counter()
        try:
            peer = _shown(context)
            doors.believe(peer, context)
            with doors.allowance.entered(*_who(peer, context), streams=True):
                admitted = _begin(method, peer)
                await _let_in(doors.gate, peer, context, method)
                async for response in inner(read(request, context), context):
                    await _still_in(doors, peer, context, method)
                    _check_admitted(admitted, method)
                    yield response
            answered.inc()
        except (Refused, *NOT_NOW) as refusal:
            await _refuse(context, refusal, method)
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - a fault of ours: logged here, its text kept from the caller
            await _fault(context, method)
        finally:
            seconds.observe(time.perf_counter() - started)

    return call


def as_refusal(error: Exception) -> Refused:
    """What a call may be answered with, as a refusal: one of `NOT_NOW`, or a refusal already."""
    if isinstance(error, WriterBusy):
        return TooMuchWaits(error)
    if isinstance(error, WriterStopped):
        return LedgerClosed()
    if isinstance(error, DatabaseNotWritable):
        return LedgerNotWritable(error)
    if isinstance(error, DatabaseSilent):
        _log.warning("The database does not answer.", action="database.silent", reason=error.reason)
        return DatabaseAway()
    assert isinstance(error, Refused)  # noqa: S101 - callers catch these alone
    return error


async def _refuse(context: Context, refusal: Exception, method: str) -> None:
    refused = as_refusal(refusal)
    tracing.say_refused(refused)
    status = rpc_status.to_status(to_status(refused))
    RPCS.labels(method, status.code.name).inc()
    await context.abort_with_status(status)


async def _fault(context: Context, method: str) -> None:
    _log.exception("A call failed by a fault of this service.", action="rpc.fault", method=method)
    RPCS.labels(method, "INTERNAL").inc()
    await context.abort(grpc.StatusCode.INTERNAL, "The service failed; the fault is in its log. Nothing is known lost.")
