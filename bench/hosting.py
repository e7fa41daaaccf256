"""One process that hosts many bureaus: what an idle one costs, and how soon all of them serve: `python -m bench.hosting`.

A node is started for the ledgers of 1 and of 100 county bureaus of one province, each time as a process of its own with
SQLite and mTLS and the tree's true witnesses away. Start is from `exec` until gRPC's health says SERVING, the
database's pages dropped from the machine's memory before it where that is allowed; memory is what is not of files
when it has been idle for a while. The difference of the two divided by the bureaus between them is an idle bureau's.

`--ledgers FILE` is a database of as many bureaus that `bench.filling` has made; where it is not there it is made first, of a
million cases.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import results
from bench.filling import BUREAUS, clock_of, counties, have_ledgers, shared_ledgers
from demo.federation import child_environment
from demo.processes import ChildProcess, cpu_seconds, free_port, memory_bytes
from demo.staff import staff_list
from kuaixiang.runtime import pki, tls

IDLE_SECONDS: Final = 8.0
"""Until the first looks of all chores are over."""
START_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.02


def settings_of(folder: Path, database: Path, bureaus: Sequence[str], port: int) -> Path:
    """A file of settings for a node of these bureaus."""
    config = folder / "node.toml"
    lines = {
        "bureaus": ",".join(bureaus),
        "database": f"sqlite:///{database}",
        "listen": f"127.0.0.1:{port}",
        "metrics_port": 0,
        "certificates": str(folder / "node"),
        "clock": str(clock_of(database)),
        "nats_url": "",
        "staff": str(folder / "staff.toml"),
        # How long it waits for witnesses that are away is a setting, not what a start costs.
        "cosigned_start_seconds": 0,
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()), encoding="utf-8")
    return config


def drop_cached(database: Path) -> None:
    """Have the database's pages read from the disk again, as after the machine's own start."""
    for file in database.parent.glob(f"{database.name}*"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


async def serves(port: int, folder: Path, bureau: str) -> None:
    """Returns when the node says that it serves."""
    paths = pki.CertificatePaths.in_folder(folder / "office")
    # A channel that has failed waits a while before it tries again, longer than what is measured here.
    options = (
        ("grpc.initial_reconnect_backoff_ms", 20),
        ("grpc.max_reconnect_backoff_ms", 20),
        ("grpc.min_reconnect_backoff_ms", 5_000),
    )
    async with tls.open_channel(f"127.0.0.1:{port}", pki.dns_name("node", bureau), paths, options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Start:
    """What one start took, and what the process holds when it idles."""

    seconds: float
    cpu_seconds: float
    memory_bytes: int


def node_of(folder: Path, database: Path, bureaus: Sequence[str], port: int) -> ChildProcess:
    """A node for these bureaus, as a process of its own."""
    command = [sys.executable, "-m", "demo.serve", "node", str(settings_of(folder, database, bureaus, port))]
    return ChildProcess("node", command, log=folder / "node.log", environment=child_environment(folder))


def prepare(folder: Path, bureaus: Sequence[str]) -> None:
    """The list of staff and the certificates of a node of these bureaus and of the first one's office."""
    (folder / "staff.toml").write_text(staff_list(bureaus), encoding="utf-8")
    pki.init_authority(folder / "ca", "bench")
    pki.issue(folder / "ca", folder / "node", "node", bureaus)
    pki.issue(folder / "ca", folder / "office", "office", [bureaus[0]])


def start(folder: Path, database: Path, bureaus: Sequence[str]) -> Start:
    """Starts a node for these bureaus, lets it idle, and stops it."""
    port = free_port()
    process = node_of(folder, database, bureaus, port)
    drop_cached(database)
    started = time.perf_counter()
    with process.start():
        asyncio.run(asyncio.wait_for(serves(port, folder, bureaus[0]), START_SECONDS_MAX))
        seconds, cpu = time.perf_counter() - started, cpu_seconds(process.pid)
        time.sleep(IDLE_SECONDS)
        process.require_alive()
        # What it shares with others depends on who else runs.
        return Start(seconds, cpu, memory_bytes(process.pid, "Anonymous"))


def run(folder: Path, database: Path, bureaus: Sequence[str], rounds: int) -> dict[str, list[Start]]:
    """Starts nodes for one and for all of the bureaus, in turns."""
    prepare(folder, bureaus)
    found: dict[str, list[Start]] = {"one": [], "all": []}
    for turn in range(rounds + 1):
        for name, some in (("one", bureaus[:1]), ("all", bureaus)):
            measured = start(folder, database, some)
            print(
                f"  {len(some):4} bureaus: {measured.seconds:5.2f} s, of it {measured.cpu_seconds:.2f} s of one core, "
                f"{measured.memory_bytes / 1e6:.1f} MB",
                flush=True,
            )
            if turn:
                found[name].append(measured)
    return found


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument(
        "--ledgers", type=Path, help="a database of as many bureaus, made and kept where it is not there"
    )
    parser.add_argument("--bureaus", type=int, help=f"bureaus of one process ({BUREAUS})")
    arguments = results.parse(parser)
    bureaus, cases = shared_ledgers(short=arguments.short)
    if arguments.bureaus:
        bureaus = counties(arguments.bureaus)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = arguments.ledgers or folder / "ledgers.db"
        have_ledgers(database, bureaus, cases)
        found = run(folder, database, bureaus, arguments.rounds)
    idle = [
        (many.memory_bytes - one.memory_bytes) / (len(bureaus) - 1) / 1e6
        for one, many in zip(found["one"], found["all"], strict=True)
    ]
    rows = [
        results.Row.of("an idle bureau's memory", idle, "MB", target="≤ 0.3"),
        results.Row.of(f"start of {len(bureaus)} bureaus", [one.seconds for one in found["all"]], "s", target="≤ 5"),
        results.Row.of("of it time of a core", [one.cpu_seconds for one in found["all"]], "s"),
        results.Row.of("start of one of them", [one.seconds for one in found["one"]], "s"),
        results.Row.of("memory of the process", [one.memory_bytes / 1e6 for one in found["all"]], "MB"),
    ]
    results.report("hosting", rows, arguments)


if __name__ == "__main__":
    main()
