"""What stands around every call: none is answered without a row of authority, nor by a handler that has not asked."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from kuaixiang.domain.authority import Caller, NotAuthorised, Subject
from kuaixiang.runtime.server import Answering, Inside, admit
from kuaixiang.wire.errors import from_call
from tests.authority import ASKED, COUNTY, TREE

reached: list[str] = []


async def careless(request: bytes, context: Any) -> bytes:
    """Answers whoever asks."""
    reached.append("unary")
    return b"all of it"


async def careless_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    reached.append("stream")
    yield b"all of it"


async def asking_of_another_call(request: bytes, context: Any) -> bytes:
    """Asks whether the caller may do something else."""
    reached.append("unary")
    admit(Inside(Caller(offices=frozenset({ASKED}))), "ListCases", Subject(bureau=ASKED), TREE)
    return b"all of it"


async def careful(request: bytes, context: Any) -> bytes:
    admit(Inside(Caller(offices=frozenset({ASKED}))), "CountWork", Subject(bureau=ASKED), TREE)
    return b"what is asked"


HANDLERS = {
    "/kuaixiang.wire.v1.CaseService/EraseEverything": grpc.unary_unary_rpc_method_handler(careless, bytes, bytes),
    "/kuaixiang.wire.v1.CaseService/EraseAll": grpc.unary_stream_rpc_method_handler(careless_stream, bytes, bytes),
    "/kuaixiang.wire.v1.CaseService/GetCase": grpc.unary_unary_rpc_method_handler(careless, bytes, bytes),
    "/kuaixiang.wire.v1.CaseService/ExportLedger": grpc.unary_stream_rpc_method_handler(careless_stream, bytes, bytes),
    "/kuaixiang.wire.v1.CaseService/GetOrder": grpc.unary_unary_rpc_method_handler(
        asking_of_another_call, bytes, bytes
    ),
    "/kuaixiang.wire.v1.CaseService/CountWork": grpc.unary_unary_rpc_method_handler(careful, bytes, bytes),
}


class Table(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return HANDLERS.get(str(handler_call_details.method))


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    reached.clear()
    server = grpc.aio.server(interceptors=(Answering(None),))
    server.add_generic_rpc_handlers((Table(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


async def ask(channel: grpc.aio.Channel, rpc: str) -> bytes:
    """The first of what the call is answered."""
    method = f"/kuaixiang.wire.v1.CaseService/{rpc}"
    if HANDLERS[method].response_streaming:
        streaming: Any = channel.unary_stream(method)
        return bytes(await anext(aiter(streaming(b"", timeout=60))))
    single: Any = channel.unary_unary(method)
    return bytes(await single(b"", timeout=60))


@pytest.mark.parametrize("rpc", ["EraseEverything", "EraseAll"])
async def test_a_call_without_a_row_is_refused_before_its_handler_runs(channel: grpc.aio.Channel, rpc: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(channel, rpc)
    refusal = from_call(raised.value)
    assert refusal is not None
    assert (grpc.StatusCode.PERMISSION_DENIED, "NoRuleForCall") == (refusal.code, refusal.rule)
    assert [] == reached


@pytest.mark.parametrize("rpc", ["GetCase", "ExportLedger", "GetOrder"])
async def test_an_answer_of_a_handler_that_has_not_asked_does_not_leave(channel: grpc.aio.Channel, rpc: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(channel, rpc)
    assert grpc.StatusCode.INTERNAL == raised.value.code()
    assert "all of it" not in str(raised.value.details())
    assert 1 == len(reached), "it ran, and its answer was kept"


async def test_an_answer_of_a_handler_that_has_asked_leaves(channel: grpc.aio.Channel) -> None:
    assert b"what is asked" == await ask(channel, "CountWork")


def test_pages_ask_by_the_same_table() -> None:
    with pytest.raises(NotAuthorised):
        admit(Inside(Caller(offices=frozenset({COUNTY}))), "ListCases", Subject(bureau=ASKED), TREE)
