"""Registering through gRPC, durable, against the echo of the same server: `python -m bench.register`.

One node process (SQLite, synchronous=FULL, mTLS) serves CaseService and an echo of the same request behind the same doors
(limits, certificate, authority); one client process calls each from 64 callers over one channel, in turns.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from bench import results
from kuaixiang.domain.authority import Subject
from kuaixiang.facts import national_tree
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.server import Context, admit
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc, common_pb2
from node import service
from node.settings import NodeSettings

BUREAU = "110101"
CALLERS = 64
ECHO_SERVICE = "kuaixiang.bench.Echo"
ECHO_METHOD = "RegisterCase"
"""The name of the call that is echoed: a call without a row in the table of authority is answered to nobody."""


def request() -> case_pb2.RegisterCaseRequest:
    """A registration of ordinary size: a text of 120 characters."""
    return case_pb2.RegisterCaseRequest(
        header=case_pb2.ActHeader(
            bureau=BUREAU, actor="bench-1", role=common_pb2.ROLE_REGISTRAR, department="tax-service"
        ),
        taxpayer_name="示例商贸有限公司",
        contact="15400000000",
        text="办税厅排队时间较长，希望增加咨询窗口并公布高峰时段。" * 5,
        category=common_pb2.CATEGORY_SERVICE,
        channel=common_pb2.CHANNEL_COUNTER,
    )


async def serve(folder: Path, ready: Any) -> None:
    """The node, with the echo beside it, until the pipe says stop."""

    tree = national_tree()

    async def echo(message: case_pb2.RegisterCaseRequest, context: Context) -> case_pb2.RegisterCaseRequest:
        admit(context, ECHO_METHOD, Subject(bureau=message.header.bureau), tree)
        return message

    handler = grpc.method_handlers_generic_handler(
        ECHO_SERVICE,
        {
            ECHO_METHOD: grpc.unary_unary_rpc_method_handler(
                echo,
                request_deserializer=case_pb2.RegisterCaseRequest.FromString,
                response_serializer=case_pb2.RegisterCaseRequest.SerializeToString,
            )
        },
    )
    settings = read_settings(
        NodeSettings,
        bureaus=(BUREAU,),
        database=f"sqlite:///{folder}/node.db",
        listen="127.0.0.1:0",
        metrics_port=0,
        certificates=folder / "node",
        nats_url=None,
        calls_per_second=0,  # what the node can, not what it lets one terminal do
    )
    async with service.running(settings, [handler]) as node:
        ready.send(node.port)
        await asyncio.to_thread(ready.recv)


def _serve(folder: Path, ready: Any) -> None:
    asyncio.run(serve(folder, ready))


async def rate(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """Calls per second from `CALLERS` callers."""

    async def caller(count: int) -> None:
        for _ in range(count):
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(caller(calls // CALLERS) for _ in range(CALLERS)))
    return calls / (time.perf_counter() - started)


async def measure(port: int, folder: Path, calls: int, rounds: int) -> dict[str, list[float]]:
    """The rates of each round, after one that is not counted."""
    channel = tls.open_channel(
        f"127.0.0.1:{port}", pki.dns_name("node", BUREAU), pki.CertificatePaths.in_folder(folder / "office")
    )
    echo = channel.unary_unary(
        f"/{ECHO_SERVICE}/{ECHO_METHOD}",
        request_serializer=case_pb2.RegisterCaseRequest.SerializeToString,
        response_deserializer=case_pb2.RegisterCaseRequest.FromString,
    )
    stub = case_pb2_grpc.CaseServiceStub(channel)
    message = request()
    rates: dict[str, list[float]] = {"echo": [], "register": []}
    for turn in range(rounds + 1):
        for name, call in (("echo", echo), ("register", stub.RegisterCase)):
            measured = await rate(lambda call=call: call(message), calls)  # type: ignore[misc]
            if turn:
                rates[name].append(measured)
    await channel.close()
    return rates


def main() -> None:
    """Runs the benchmark and prints it."""
    parser = results.parser(__doc__)
    parser.add_argument("--calls", type=int, help="calls in each round (6400)")
    arguments = results.parse(parser)
    calls = arguments.calls or (640 if arguments.short else 6400)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pki.init_authority(folder / "ca", "bench")
        pki.issue(folder / "ca", folder / "node", "node", [BUREAU])
        pki.issue(folder / "ca", folder / "office", "office", [BUREAU])
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
        process.start()
        try:
            rates = asyncio.run(measure(ours.recv(), folder, calls, arguments.rounds))
            ours.send("stop")
            process.join(10)
        finally:
            process.kill()
    rows = [
        results.Row.of("echo", rates["echo"], "1/s"),
        results.Row.of("register, durable", rates["register"], "1/s", "echo", rates["echo"], "≥ 0.75"),
    ]
    results.report("register", rows, arguments)


if __name__ == "__main__":
    main()
