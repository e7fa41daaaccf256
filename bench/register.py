"""Registering through gRPC, durable, against the echo of the same server: `python -m bench.register`.

One node process (SQLite, synchronous=FULL, mTLS) serves CaseService and an echo of the same request behind the same doors
(limits, certificate, authority); one client process calls each from 64 callers over one channel, in turns. Prints the medians
of the rounds and their ratio.
"""

import argparse
import asyncio
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

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
ROUNDS = 5
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


async def measure(port: int, folder: Path, calls: int) -> dict[str, list[float]]:
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
    for turn in range(ROUNDS + 1):
        for name, call in (("echo", echo), ("register", stub.RegisterCase)):
            measured = await rate(lambda call=call: call(message), calls)  # type: ignore[misc]
            if turn:
                rates[name].append(measured)
    await channel.close()
    return rates


def main() -> None:
    """Runs the benchmark and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=6400, help="calls in each round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
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
            rates = asyncio.run(measure(ours.recv(), folder, arguments.calls))
            ours.send("stop")
            process.join(10)
        finally:
            process.kill()
    medians = {key: statistics.median(values) for key, values in rates.items()}
    ratio = statistics.median(b / a for a, b in zip(rates["echo"], rates["register"], strict=True))
    for key, values in rates.items():
        print(f"{key:10} {medians[key]:8.0f} /s   (of {ROUNDS}: {min(values):.0f} to {max(values):.0f})")
    print(f"register / echo {ratio:.2f}, {CALLERS} callers, mTLS, synchronous=FULL, {platform.machine()}")
    if arguments.json:
        print(json.dumps({"name": "register", "unit": "1/s", "medians": medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
