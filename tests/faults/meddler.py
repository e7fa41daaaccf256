"""A peer that meddles: stands before a node, with its certificate, and loses, repeats, delays and reorders what comes.

The tree of the storm leads bureaus to it; it passes each call on with the certificate of whoever called, so that neither
side knows of it. What it does to a call:

- the request is lost, or the answer is;
- the request comes twice, at the same time;
- the caller is told that nobody answered, and the request arrives seconds later, behind others;
- it is held up for a while;
- a request of long ago comes again.
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio

from demo.federation import Federation
from demo.processes import free_port
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.tls import open_channel
from tests.services_of import WIRE

MEDDLED_WITH = ("Offer", "Withdraw", "Conclude", "DeliverOrder", "ReportOrder")
"""What changes a ledger; the rest is passed on as it is."""
REMEMBERED = 400
"""Requests that may come again."""
LATE_SECONDS = (0.5, 20.0)
HELD_SECONDS = (0.05, 1.5)
CALL_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    payload: bytes
    caller: str


class Meddler(grpc.GenericRpcHandler):
    """Stands before the node of one bureau."""

    def __init__(self, federation: Federation, bureau: str, host: str, chance: random.Random) -> None:
        self.port = free_port()
        self.done: Counter[str] = Counter()
        """What it did, by kind."""
        self._federation = federation
        self._bureau = bureau
        self._host = host
        self._chance = chance
        self._server: grpc.aio.Server | None = None
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._past: deque[Asked] = deque(maxlen=REMEMBERED)
        self._late: set[asyncio.Task[None]] = set()
        self.quiet = False
        """Whether it has stopped meddling."""
        self._methods = {
            f"/{service.full_name}/{method.name}": method
            for file in WIRE
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }

    async def start(self) -> Self:
        """Begin to listen, with the node's own certificate."""
        node = self._federation.node(self._bureau)
        paths = pki.CertificatePaths.in_folder(self._federation.certificates("node", node.codes[0]))
        self._server = grpc.aio.server(options=tls.SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self._server.add_secure_port(f"{self._host}:{self.port}", tls.server_credentials(paths))
        await self._server.start()
        return self

    async def stop(self) -> None:
        """End, what was to come late included: it is lost."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(0)
        for channel in self._channels.values():
            await channel.close()

    # ------------------------------------------------------------ grpc's side

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """How a method's call is taken: as bytes."""
        name = str(handler_call_details.method)
        method = self._methods.get(name)
        if method is None:
            return None
        if not method.client_streaming and not method.server_streaming:
            return grpc.unary_unary_rpc_method_handler(self._unary(name))
        make: Callable[..., Any] = {
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        return make(self._streamed(name, method.client_streaming, method.server_streaming))

    def _unary(self, method: str) -> Callable[[bytes, Any], Any]:
        meddled = method.rpartition("/")[2] in MEDDLED_WITH

        async def call(payload: bytes, context: Any) -> bytes:
            asked = Asked(method, payload, _caller(context))
            try:
                return await (self._meddle(asked) if meddled and not self.quiet else self._pass_on(asked))
            except grpc.aio.AioRpcError as error:
                await _tell(context, error)
                raise

        return call

    def _streamed(self, method: str, many_requests: bool, many_answers: bool) -> Callable[[Any, Any], Any]:
        kind = f"{'stream' if many_requests else 'unary'}_{'stream' if many_answers else 'unary'}"

        async def one(requests: Any, context: Any) -> bytes:
            call = getattr(self._channel(_caller(context)), kind)(method)
            try:
                answer: bytes = await call(requests, timeout=CALL_SECONDS_MAX)
                return answer
            except grpc.aio.AioRpcError as error:
                await _tell(context, error)
                raise

        async def many(requests: Any, context: Any) -> AsyncIterator[bytes]:
            call = getattr(self._channel(_caller(context)), kind)(method)
            try:
                async for answer in call(requests, timeout=CALL_SECONDS_MAX):
                    yield answer
            except grpc.aio.AioRpcError as error:
                await _tell(context, error)

        return many if many_answers else one

    # ------------------------------------------------------------ what it does

    async def _meddle(self, asked: Asked) -> bytes:
        self._past.append(asked)
        drawn = self._chance.random()
        if drawn < 0.06:
            return await self._lost("request lost")
        if drawn < 0.12:
            await self._pass_on(asked)
            return await self._lost("answer lost")
        if drawn < 0.18:
            self.done["request twice at once"] += 1
            first, _ = await asyncio.gather(self._pass_on(asked), self._pass_on(asked))
            return first
        if drawn < 0.22:
            self._later(asked)
            return await self._lost("request late, behind others")
        if drawn < 0.27:
            self.done["request held up"] += 1
            await asyncio.sleep(self._chance.uniform(*HELD_SECONDS))
        elif drawn < 0.31:
            self.done["request of long ago again"] += 1
            self._later(self._chance.choice(self._past))
        return await self._pass_on(asked)

    async def _lost(self, what: str) -> bytes:
        self.done[what] += 1
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="the line is bad"
        )

    def _later(self, asked: Asked) -> None:
        async def arrive() -> None:
            await asyncio.sleep(self._chance.uniform(*LATE_SECONDS))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._pass_on(asked)

        task = asyncio.create_task(arrive())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _pass_on(self, asked: Asked) -> bytes:
        call: Any = self._channel(asked.caller).unary_unary(asked.method)
        answer: bytes = await call(asked.payload, timeout=CALL_SECONDS_MAX)
        return answer

    def _channel(self, caller: str) -> grpc.aio.Channel:
        channel = self._channels.get(caller)
        if channel is None:
            code, _, rest = caller.partition(".")
            kind = rest.partition(".")[0]
            folder = self._federation.certificates(
                {"bureau": "node", "office": "office", "hub": "hub"}[kind],  # type: ignore[arg-type]
                code,
            )
            channel = self._channels[caller] = open_channel(
                self._federation.node(self._bureau).endpoint,
                pki.dns_name("node", self._bureau),
                pki.CertificatePaths.in_folder(folder),
                (("grpc.max_reconnect_backoff_ms", 500),),
            )
        return channel


def _caller(context: Any) -> str:
    """The first DNS name of whoever calls."""
    names: list[bytes] = context.auth_context()["x509_subject_alternative_name"]
    return next(name.decode() for name in names if b"://" not in name)


async def _tell(context: Any, error: grpc.aio.AioRpcError) -> None:
    """Say what the node said, word for word."""
    metadata = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", metadata)
