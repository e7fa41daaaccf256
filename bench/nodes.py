"""Nodes in processes of their own for benchmarks, with an echo beside their services; and callers."""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import grpc

from kuaixiang.domain.authority import Subject
from kuaixiang.facts import national_tree
from kuaixiang.runtime import logs, pki, tls
from kuaixiang.runtime.server import Context, admit
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, common_pb2
from node import service
from node.settings import NodeSettings

BUREAU: Final = "110101"
CALLERS: Final = 64
ECHO_SERVICE: Final = "kuaixiang.bench.Echo"
ECHO_METHOD: Final = "RegisterCase"
"""The name of the call that is echoed: a call without a row in the table of authority is answered to nobody."""
STOP_SECONDS: Final = 20.0
CONNECT_SECONDS: Final = 120.0
"""A busy machine takes its time over a handshake."""

Call = Callable[[], Awaitable[object]]


def request(text: str = "办税厅排队时间较长，希望增加咨询窗口并公布高峰时段。" * 5) -> case_pb2.RegisterCaseRequest:
    """A registration of ordinary size: a text of 120 characters."""
    return case_pb2.RegisterCaseRequest(
        header=case_pb2.ActHeader(
            bureau=BUREAU, actor="bench-1", role=common_pb2.ROLE_REGISTRAR, department="tax-service"
        ),
        taxpayer_name="示例商贸有限公司",
        contact="15400000000",
        text=text,
        category=common_pb2.CATEGORY_SERVICE,
        channel=common_pb2.CHANNEL_COUNTER,
    )


def echo_handler(*, doors: bool) -> grpc.GenericRpcHandler:
    """Answers a registration with itself; with `doors` whoever asks is admitted by its row of the table of authority."""
    tree = national_tree()

    async def echo(message: case_pb2.RegisterCaseRequest, context: Context) -> case_pb2.RegisterCaseRequest:
        if doors:
            admit(context, ECHO_METHOD, Subject(bureau=message.header.bureau), tree)
        return message

    method = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=case_pb2.RegisterCaseRequest.FromString,
        response_serializer=case_pb2.RegisterCaseRequest.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(ECHO_SERVICE, {ECHO_METHOD: method})


def echo_of(channel: grpc.aio.Channel) -> Callable[[case_pb2.RegisterCaseRequest], Awaitable[object]]:
    """The echo as a client calls it."""
    return channel.unary_unary(
        f"/{ECHO_SERVICE}/{ECHO_METHOD}",
        request_serializer=case_pb2.RegisterCaseRequest.SerializeToString,
        response_deserializer=case_pb2.RegisterCaseRequest.FromString,
    )


def issue(folder: Path, bureaus: Sequence[str] = (BUREAU,)) -> None:
    """An authority, and for each bureau the certificates of its node and of its office, in `folder/<bureau>`."""
    pki.init_authority(folder / "ca", "bench")
    for code in bureaus:
        pki.issue(folder / "ca", folder / code, "node", [code])
        pki.issue(folder / "ca", folder / code / "office", "office", [code])


@asynccontextmanager
async def channel_to(folder: Path, port: int, bureau: str = BUREAU) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of the bureau's office to its node, which is connected: the handshake is in no figure."""
    paths = pki.CertificatePaths.in_folder(folder / bureau / "office")
    async with tls.open_channel(f"127.0.0.1:{port}", pki.dns_name("node", bureau), paths) as channel:
        async with asyncio.timeout(CONNECT_SECONDS):
            await channel.channel_ready()
        yield channel


@contextmanager
def running(folder: Path, bureau: str = BUREAU, **settings: Any) -> Iterator[int]:
    """A bureau's node, on SQLite with synchronous=FULL where nothing else is said, for the time of the block: its port.

    It lets one terminal ask as much as it can: what is measured is the node.
    """
    given = {
        "bureaus": (bureau,),
        "database": f"sqlite:///{folder}/{bureau}.db",
        "listen": "127.0.0.1:0",
        "metrics_port": 0,
        "certificates": folder / bureau,
        "data_key": folder / f"{bureau}.key",
        "nats_url": None,
        "calls_per_second": 0,
        "calls_at_once": 10_000,
        "log_level": "error",
        **settings,
    }
    with in_a_process(_serve, given) as port:
        yield port


@contextmanager
def in_a_process(serve: Callable[[Any, Connection], None], given: object) -> Iterator[Any]:
    """A server in a process of its own for the time of the block: what it has sent as it serves.

    `serve` gets what is given and the pipe, sends one thing when it serves, and ends when something comes back.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(given, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
        ours.send("stop")
        process.join(STOP_SECONDS)
    finally:
        process.kill()
        process.join()


def _serve(settings: dict[str, Any], ready: Connection) -> None:
    logs.configure("bench", settings["log_level"])
    asyncio.run(_serving(settings, ready))


async def _serving(settings: dict[str, Any], ready: Connection) -> None:
    async with service.running(read_settings(NodeSettings, **settings), [echo_handler(doors=True)]) as node:
        ready.send(node.port)
        await asyncio.to_thread(ready.recv)


async def rate(call: Call, calls: int, callers: int = CALLERS) -> float:
    """Calls per second of so many callers, each of whom asks again when it is answered."""
    started = time.perf_counter()
    await asyncio.gather(*(_ask(call, calls // callers, []) for _ in range(callers)))
    return calls / (time.perf_counter() - started)


async def latencies(call: Call, calls: int, callers: int) -> list[float]:
    """How long each call of so many callers took, in milliseconds."""
    took: list[float] = []
    await asyncio.gather(*(_ask(call, calls // callers, took) for _ in range(callers)))
    return took


async def _ask(call: Call, count: int, took: list[float]) -> None:
    for _ in range(count):
        started = time.perf_counter()
        await call()
        took.append((time.perf_counter() - started) * 1e3)
