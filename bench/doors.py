"""What stands before every call, and what it costs: `python -m bench.doors`.

An echo by 64 callers over one channel, in turns: of a bare gRPC server without and with mutual TLS; of a node, where certificate,
revocations, authority and the limits of calls and streams at once are asked besides; and of a node that counts calls a
second too, with a rate that nobody reaches. Registering is measured at both nodes.
"""

import asyncio
import contextlib
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import grpc

from bench import nodes, results
from kuaixiang.runtime import pki, tls
from kuaixiang.wire.v1 import case_pb2_grpc

RATE: Final = 100_000.0
"""Calls a second that one caller may make: counted, and never reached."""


async def _serving(folder: Path, ready: Connection) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((nodes.echo_handler(doors=False),))
    paths = pki.CertificatePaths.in_folder(folder / nodes.BUREAU)
    plain = server.add_insecure_port("127.0.0.1:0")
    secure = server.add_secure_port("127.0.0.1:0", tls.server_credentials(paths))
    await server.start()
    ready.send((plain, secure))
    await asyncio.to_thread(ready.recv)
    await server.stop(0)


def _serve(folder: Path, ready: Connection) -> None:
    """A server that only echoes: its ports without and with TLS."""
    asyncio.run(_serving(folder, ready))


async def measure(folder: Path, ports: dict[str, int], calls: int, rounds: int) -> dict[str, list[float]]:
    """The rates of each round, after one that is not counted."""
    rates: dict[str, list[float]] = {}
    message = nodes.request()
    async with contextlib.AsyncExitStack() as stack:
        asked: dict[str, nodes.Call] = {}
        for name, port in ports.items():
            opened: contextlib.AbstractAsyncContextManager[grpc.aio.Channel] = nodes.channel_to(folder, port)
            if name == PLAIN:
                opened = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            channel = await stack.enter_async_context(opened)
            echo = nodes.echo_of(channel)
            asked[name] = lambda echo=echo: echo(message)  # type: ignore[misc]
            if name in {OFF, ON}:
                stub = case_pb2_grpc.CaseServiceStub(channel)
                asked[f"register, {name}"] = lambda stub=stub: stub.RegisterCase(message)  # type: ignore[misc]
        for turn in range(rounds + 1):
            for name, call in asked.items():
                measured = await nodes.rate(call, calls)
                if turn:
                    rates.setdefault(name, []).append(measured)
    return rates


PLAIN: Final = "bare server, plain TCP"
SECURE: Final = "bare server, mTLS"
OFF: Final = "node, no rate"
ON: Final = "node, with rates"


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--calls", type=int, help="calls in each round (6400)")
    arguments = results.parse(parser)
    calls = arguments.calls or (640 if arguments.short else 6_400)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes.issue(folder)
        second: dict[str, Any] = {"database": f"sqlite:///{folder}/rates.db", "data_key": folder / "rates.key"}
        with (
            nodes.in_a_process(_serve, folder) as (plain, secure),
            nodes.running(folder) as off,
            nodes.running(folder, calls_per_second=RATE, **second) as on,
        ):
            ports = {PLAIN: plain, SECURE: secure, OFF: off, ON: on}
            rates = asyncio.run(measure(folder, ports, calls, arguments.rounds))
    rows = [results.Row.of(f"echo, {PLAIN}", rates[PLAIN], "1/s")]
    for name, against in ((SECURE, PLAIN), (OFF, SECURE), (ON, OFF)):
        rows.append(results.Row.of(f"echo, {name}", rates[name], "1/s", against, rates[against]))
    of_off, of_on = rates[f"register, {OFF}"], rates[f"register, {ON}"]
    rows += [
        results.Row.of(f"register, {OFF}", of_off, "1/s"),
        results.Row.of(f"register, {ON}", of_on, "1/s", OFF, of_off),
    ]
    results.report("doors", rows, arguments)


if __name__ == "__main__":
    main()
