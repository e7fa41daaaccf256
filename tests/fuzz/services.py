"""A node and a hub whose services are called with hostile bytes, in this process: everything but the socket is theirs.

What may come back is an answer, or a refusal with a status and a sentence. A fault of the service, an exception, or a ledger
that a refused call has changed is a finding.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from google.protobuf.message import Message

import hub.service
import node.service
from hub.settings import HubSettings
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.limits import DEFAULT_LIMITS
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.server import Answering
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, common_pb2, referral_pb2
from node.settings import NodeSettings
from tests.fuzz.draw import Draw, filled
from tests.services_of import WIRE

COUNTY, PROVINCE, HEADQUARTERS, NEIGHBOUR, STRANGER = "110101", "110000", "000000", "110105", "330106"
MORNING = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
CALLERS: tuple[tuple[pki.Kind, str], ...] = (
    ("office", COUNTY),
    ("office", COUNTY),
    ("node", HEADQUARTERS),
    ("node", NEIGHBOUR),
    ("node", HEADQUARTERS),
    ("node", NEIGHBOUR),
    ("hub", HEADQUARTERS),
    ("office", PROVINCE),
    ("office", STRANGER),
    ("node", STRANGER),
)
RAW_OF_256 = 40
"""How often a request is bytes as they come, and no message at all."""
STREAM_MESSAGES_MAX = 3
ANSWERS_MAX = 20
ANSWER_SECONDS_MAX = 0.05
"""A stream that only waits for what will happen is left then."""
CALL_SECONDS_MAX = 20.0
CLEAR: frozenset[grpc.StatusCode] = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
SIGNED: dict[str, tuple[type[Message], str]] = {
    "OfferRequest": (referral_pb2.Offer, "offer"),
}
"""Requests in which a message travels as bytes under a signature: its type and field."""


class Finding(AssertionError):
    """Something that hostile bytes must not bring about."""


class Refusal(grpc.aio.AbortError):
    """The call was ended with a status."""


class Context:
    """A call's context, of a caller with that certificate."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._pem]}

    def peer(self) -> str:
        return "ipv4:192.0.2.1:1"

    def time_remaining(self) -> float:
        return CALL_SECONDS_MAX

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def send_initial_metadata(self, metadata: object) -> None:
        pass

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: object = ()) -> None:
        self.code, self.details = code, details
        raise Refusal

    async def abort_with_status(self, status: Any) -> None:
        await self.abort(status.code, status.details)


class Capturing:
    """Stands in for grpc's server: keeps the handlers."""

    def __init__(self) -> None:
        self.generic: list[Any] = []
        self.trust: Any = None
        self.gate: Any = None

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self.generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        pass

    def handler(self, details: Any) -> Any:
        return next((found for one in self.generic if (found := one.service(details)) is not None), None)


@dataclass(frozen=True, slots=True)
class Details:
    method: str
    invocation_metadata: tuple[()] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: how it is called, and its request's type."""

    name: str
    request: type[Message]
    handler: Any


class Target:
    """Services of one process, called without their sockets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pems: dict[tuple[pki.Kind, str], bytes] = {}
        self._seals: dict[str, Seal] = {}
        self.methods: list[Method] = []
        self.known: list[str] = [COUNTY, PROVINCE, HEADQUARTERS, "officer-1", "tax-service"]
        self.heads: Callable[[], object] = lambda: None
        """What a refused call must leave as it is."""

    async def capture(self, server: Capturing) -> None:
        """Take the services' methods, wrapped as they are served."""
        # As fast as it goes: what is to be met are the handlers, not the limits before them.
        limits = replace(DEFAULT_LIMITS, calls_per_second=0, token_calls_per_second=0)
        answering = Answering(server.trust, server.gate, limits)

        async def find(details: Any) -> Any:
            return server.handler(details)

        for file in WIRE:
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    details: Any = Details(f"/{service.full_name}/{method.name}")
                    handler = await answering.intercept_service(find, details)
                    if handler is not None:
                        self.methods.append(Method(method.name, method.input_type._concrete_class, handler))

    def pem(self, kind: pki.Kind, code: str) -> bytes:
        """The certificate of a caller."""
        known = self._pems.get((kind, code))
        if known is None:
            known = self._pems[kind, code] = self._paths(kind, code).certificate.read_bytes()
        return known

    def _paths(self, kind: pki.Kind, code: str) -> pki.CertificatePaths:
        folder = self._folder / f"caller-{kind}-{code}"
        if not folder.exists():
            pki.issue(self._folder / "ca", folder, kind, [code])
        return pki.CertificatePaths.in_folder(folder)

    # ------------------------------------------------------------ one call

    async def call(self, data: bytes) -> str:
        """One call as the bytes say; what came of it. Raises `Finding`."""
        draw = Draw(data)
        method = draw.choice(self.methods)
        caller = draw.choice(CALLERS)
        context = Context(self.pem(*caller))
        requests = [
            self._request(method, caller, draw)
            for _ in range(1 + draw.number(STREAM_MESSAGES_MAX) if method.handler.request_streaming else 1)
        ]
        before = self.heads()
        try:
            await asyncio.wait_for(self._ask(method, requests, context), CALL_SECONDS_MAX)
        except Refusal:
            self._check(method, caller, context, before)
            return f"{method.name}: {context.code}"
        except Exception as failure:
            raise Finding(f"{method.name} by {caller}: {failure!r}") from failure
        return f"{method.name}: OK"

    def _check(self, method: Method, caller: tuple[pki.Kind, str], context: Context, before: object) -> None:
        code = context.code
        if isinstance(code, int):
            code = next(one for one in grpc.StatusCode if one.value[0] == code)
        if code not in CLEAR or not context.details:
            raise Finding(f"{method.name} by {caller}: {code}: {context.details!r}")
        if not method.handler.request_streaming and self.heads() != before:
            raise Finding(f"{method.name} by {caller}: refused ({context.details}), and the ledger has changed")

    async def _ask(self, method: Method, requests: list[bytes], context: Context) -> None:
        handler = method.handler
        kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
        behaviour = getattr(handler, kind)

        async def each() -> AsyncIterator[bytes]:
            for one in requests:
                yield one

        given = each() if handler.request_streaming else requests[0]
        if not handler.response_streaming:
            handler.response_serializer(await behaviour(given, context))
            return
        answers = behaviour(given, context)
        with contextlib.suppress(TimeoutError, StopAsyncIteration):
            for _ in range(ANSWERS_MAX):
                handler.response_serializer(await asyncio.wait_for(anext(answers), ANSWER_SECONDS_MAX * 10))
        await answers.aclose()

    def _request(self, method: Method, caller: tuple[pki.Kind, str], draw: Draw) -> bytes:
        if draw.chance(RAW_OF_256):
            return draw.bytes(2_000)
        message = filled(method.request(), draw, self.known)
        self._sign(message, caller, draw)
        if draw.chance(20):
            # Cut off, or with something changed in the middle.
            payload = bytearray(message.SerializeToString())
            if payload:
                payload[draw.number(len(payload))] ^= 1 << draw.number(8)
            return bytes(payload[: len(payload) - draw.number(4)])
        return message.SerializeToString()

    def _sign(self, message: Message, caller: tuple[pki.Kind, str], draw: Draw) -> None:
        """Sign what must be signed, as the caller: what is behind a signature is not to be trusted either."""
        signed = SIGNED.get(type(message).__name__)
        if signed is None or caller[0] != "node" or draw.chance(20):
            return
        inner, field = signed
        seal = self._seals.get(caller[1])
        if seal is None:
            seal = self._seals[caller[1]] = Seal(self._paths("node", caller[1]))
        offer: Any = filled(inner(), draw, self.known)
        if draw.chance(200):
            offer.from_bureau, offer.to_bureau = caller[1], draw.choice((COUNTY, PROVINCE))
            offer.referral_id = f"{draw.number(50):032x}"
            offer.snapshot.taxpayer_name = offer.snapshot.taxpayer_name or "某商行"
        payload = offer.SerializeToString()
        setattr(message, field, payload)
        getattr(message, "signature").CopyFrom(seal.sign(payload))  # noqa: B009 - a field of the two kinds only


@contextlib.asynccontextmanager
async def node_target(folder: Path) -> AsyncIterator[Target]:
    """A node of a county and its province, with a few cases in it."""
    clock = SharedClockDriver(folder / "clock", MORNING)
    pki.init_authority(folder / "ca", "fuzz")
    pki.issue(folder / "ca", folder / "node", "node", [COUNTY, PROVINCE])
    settings = read_settings(
        NodeSettings,
        bureaus=(COUNTY, PROVINCE),
        database=f"sqlite:///{folder / 'node.db'}",
        listen="127.0.0.1:0",
        metrics_port=0,
        certificates=folder / "node",
        nats_url=None,
        clock=folder / "clock",
        cosigned_start_seconds=0,
        # The limits are tested by themselves; here they would answer for the rules.
        calls_per_second=0,
        log_level="error",
    )
    target = Target(folder)
    async with AsyncExitStack() as stack:
        server = Capturing()
        stack.enter_context(_captured(node.service, server))
        running = await stack.enter_async_context(node.service.running(settings))
        await target.capture(server)
        ledger = running.office.ledger
        target.heads = lambda: [(head.bureau, head.seq) for head in list(ledger.heads.values())]
        for number in range(3):
            target.known.append(await _registered(target, number))
        yield target
    clock.close()


async def _registered(target: Target, number: int) -> str:
    method = next(method for method in target.methods if method.name == "RegisterCase")
    request = case_pb2.RegisterCaseRequest(
        header=case_pb2.ActHeader(
            bureau=COUNTY, actor="officer-1", role=common_pb2.ROLE_REGISTRAR, department="tax-service"
        ),
        taxpayer_name="晨光文具店",
        contact="15400001234",
        text=f"第{number}项：发票查验平台反复报错，无法抵扣。",
        category=common_pb2.CATEGORY_POLICY,
        channel=common_pb2.CHANNEL_COUNTER,
    )
    context = Context(target.pem("office", COUNTY))
    answer = await method.handler.unary_unary(request.SerializeToString(), context)
    case_id: str = answer.case.case_id
    return case_id


@contextlib.asynccontextmanager
async def hub_target(folder: Path, nats_url: str) -> AsyncIterator[Target]:
    """A hub of headquarters that has heard nothing."""
    pki.init_authority(folder / "ca", "fuzz")
    pki.issue(folder / "ca", folder / "hub", "hub", [HEADQUARTERS])
    settings = read_settings(
        HubSettings,
        scope=HEADQUARTERS,
        database=f"sqlite:///{folder / 'hub.db'}",
        listen="127.0.0.1:0",
        metrics_port=0,
        certificates=folder / "hub",
        nats_url=nats_url,
        log_level="error",
    )
    target = Target(folder)
    async with AsyncExitStack() as stack:
        server = Capturing()
        stack.enter_context(_captured(hub.service, server))
        await stack.enter_async_context(hub.service.running(settings))
        await target.capture(server)
        yield target


@contextlib.contextmanager
def _captured(module: Any, server: Capturing) -> Iterator[None]:
    """The service is served by nobody: its handlers are ours."""

    @contextlib.asynccontextmanager
    async def serving(address: str, paths: object, services: object, add: Any, **more: Any) -> AsyncIterator[int]:
        server.trust, server.gate = more["trust"], more.get("gate")
        add(server)
        yield 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "serving", serving)
        yield


class Runner:
    """Calls a target from code that is not asynchronous, on a loop of its own."""

    def __init__(self, make: Callable[[Path], Any], folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._make = make
        self._folder = folder
        self._target: Target | None = None

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._target = self._runner.run(self._stack.enter_async_context(self._make(self._folder)))
        return self

    def __exit__(self, *raised: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    def call(self, data: bytes) -> str:
        """One call. Raises `Finding`."""
        assert self._target is not None
        return self._runner.run(self._target.call(data))
