"""Two processes over one PostgreSQL database: one works, the other stands by and takes over when the first is gone."""

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo.federation import child_environment, toml_text, tree_text
from demo.officers import Office
from demo.processes import ChildProcess, free_port
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.runtime import pki
from kuaixiang.runtime.settings import WrongSetting, read_settings
from kuaixiang.runtime.tls import channel_to
from kuaixiang.runtime.writer import EXIT_COMMIT_FAILED
from kuaixiang.wire.v1.journal_pb2 import Entry
from node.settings import NodeSettings
from tests.kx.conftest import kx
from tests.registering import REGISTRAR, registration

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio]

BUREAU = "000000"
CALLERS = 8
TAKEOVER_SECONDS_MAX = 45.0
"""Half a second after an end and eight where there was none, on a machine that has nothing else to do."""
PATIENCE_SECONDS = 120.0
CALL_SECONDS = 5.0
GIVEN_UP_SECONDS = 40.0
"""After which gRPC's keepalive gives up a connection to one that stands still, if nobody has ended it."""
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "OPERATING.md"


@dataclass
class Machine:
    """One of the two: its settings, its process, where it is asked."""

    process: ChildProcess
    config: Path
    port: int
    metrics_port: int

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    @property
    def health(self) -> str:
        with contextlib.suppress(OSError):
            return self.page("/health")[1]
        return ""

    async def until(self, health: str) -> float:
        """When its health was seen to begin with that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (await asyncio.to_thread(lambda: self.health)).startswith(health):
            self.process.require_alive()
            assert time.monotonic() < deadline, self.process.log_tail()
            await asyncio.sleep(0.02)
        return time.monotonic()


@dataclass
class Pair:
    """Two machines of one bureau, and its officers, who know both addresses."""

    one: Machine
    other: Machine
    office: Office
    answered: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By the request's key: the case, and when the answer came."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, who: int) -> None:
        for number in itertools.count():
            if self.ending.is_set():
                return
            key = f"{who}-{number}"
            answer = await self.office.do(REGISTRAR, registration(key), key=key)
            self.answered[key] = answer.case.case_id, time.monotonic()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Officers register without a pause for the time of the block."""
        async with asyncio.TaskGroup() as group:
            for who in range(CALLERS):
                group.create_task(self.work(who))
            try:
                await self.answers(CALLERS)
                yield
            finally:
                self.ending.set()

    async def answers(self, more: int) -> None:
        """Waits for so many more answers."""
        wanted, deadline = len(self.answered) + more, time.monotonic() + PATIENCE_SECONDS
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    def first_answer_after(self, moment: float) -> float:
        return min(at for _, at in self.answered.values() if at > moment)

    async def check(self) -> None:
        """Each act that was answered is in the journal once, and nothing else but what is still unanswered."""
        entries = [Entry.FromString(one.public) for segment in await self.office.journal() for one in segment.entries]
        recorded = [one.case_id for one in entries if one.HasField("registered")]
        answered = [case_id for case_id, _ in self.answered.values()]
        assert len(recorded) == len(set(recorded))
        assert len(answered) == len(set(answered))
        assert set(answered) == set(recorded)


@pytest.fixture
def machines(tmp_path: Path, fresh_postgres_url: str) -> Iterator[list[Machine]]:
    """Two machines, not started."""
    tree = BureauTree("test", [Bureau(BUREAU, "headquarters", Tier.NATIONAL, None)])
    (tmp_path / "tree.csv").write_text(tree_text(tree), encoding="utf-8")
    pki.init_authority(tmp_path / "authority", "test")
    pki.issue(tmp_path / "authority", tmp_path / "node", "node", [BUREAU])
    pki.issue(tmp_path / "authority", tmp_path / "office", "office", [BUREAU])
    made: list[Machine] = []
    for name in ("one", "other"):
        port, metrics_port = free_port(), free_port()
        settings = {
            "bureaus": [BUREAU],
            "tree": str(tmp_path / "tree.csv"),
            "database": fresh_postgres_url,
            "data_key": str(tmp_path / "data.key"),
            "standby": True,
            "nats_url": "",
            "listen": f"127.0.0.1:{port}",
            "metrics_port": metrics_port,
            "certificates": str(tmp_path / "node"),
            "cosigned_start_seconds": 0.0,
        }
        config = tmp_path / f"{name}.toml"
        config.touch(mode=0o600)
        config.write_text(toml_text(settings), encoding="utf-8")
        command = [sys.executable, "-m", "demo.serve", "node", str(config)]
        process = ChildProcess(name, command, log=tmp_path / f"{name}.log", environment=child_environment(tmp_path))
        made.append(Machine(process, config, port, metrics_port))
    try:
        yield made
    finally:
        for machine in made:
            if machine.process.alive:
                machine.process.kill()


@asynccontextmanager
async def pair_of(machines: list[Machine], folder: Path) -> AsyncIterator[Pair]:
    """One works, the other stands by."""
    one, other = machines
    await asyncio.to_thread(one.process.start)
    await one.until("SERVING")
    await asyncio.to_thread(other.process.start)
    await other.until("NOT_SERVING: another process holds the ledger")
    both = f"ipv4:127.0.0.1:{other.port},127.0.0.1:{one.port}"
    credentials = pki.load(pki.CertificatePaths.in_folder(folder / "office"))
    async with channel_to(both, pki.dns_name("node", BUREAU), credentials) as channel:
        yield Pair(one, other, Office(BUREAU, channel, PATIENCE_SECONDS, CALL_SECONDS))


async def test_a_standby_serves_nobody_says_so_and_ends_when_it_is_told_to(
    machines: list[Machine], tmp_path: Path
) -> None:
    async with pair_of(machines, tmp_path) as pair:
        status, _ = pair.other.page("/health")
        assert 503 == status
        shown = pair.other.page("/metrics")[1]
        assert "kx_node_standby 1.0" in shown
        # Nothing that would raise an alarm about a node that is none.
        assert "kx_nats_connected" not in shown
        assert "kx_node_standby 0.0" in pair.one.page("/metrics")[1]
        assert (200, "SERVING\n") == pair.one.page("/health")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", pair.other.port)
        found = kx("doctor", "node", "--config", str(pair.other.config), "--offline", "--json").stdout
        said = {one["look"]: one["said"] for one in json.loads(found)["findings"]}
        assert "stands by" in said["process"]
        assert 0 == await asyncio.to_thread(pair.other.process.stop, PATIENCE_SECONDS)
        assert "SERVING\n" == pair.one.health


async def test_a_standby_takes_over_from_one_that_is_killed_and_nothing_that_was_acknowledged_is_lost(
    machines: list[Machine], tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pair_of(machines, tmp_path) as pair:
        async with pair.at_work():
            killed_at = time.monotonic()
            await asyncio.to_thread(pair.one.process.kill)
            serves_at = await pair.other.until("SERVING")
            await pair.answers(2 * CALLERS)
        took, waited = serves_at - killed_at, pair.first_answer_after(serves_at) - killed_at
        tell(
            capsys, f"killed: the standby serves after {took:.1f} s, the next act is acknowledged after {waited:.1f} s"
        )
        record_property("takeover_seconds", round(took, 2))
        assert took < TAKEOVER_SECONDS_MAX
        await pair.check()


@pytest.mark.slow
async def test_one_that_stood_still_while_the_standby_took_over_acknowledges_nothing_when_it_wakes(
    machines: list[Machine], tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with pair_of(machines, tmp_path) as pair:
        async with pair.at_work():
            stopped_at = time.monotonic()
            await asyncio.to_thread(pair.one.process.pause)
            serves_at = await pair.other.until("SERVING")
            took = serves_at - stopped_at
            # What officers had sent to the one that stands still lies in its socket: it reads that first.
            await asyncio.to_thread(pair.one.process.resume)
            status = await asyncio.to_thread(pair.one.process.wait, PATIENCE_SECONDS)
            await pair.answers(2 * CALLERS)
        tell(capsys, f"stood still: the standby serves after {took:.1f} s")
        record_property("takeover_seconds", round(took, 2))
        assert took < TAKEOVER_SECONDS_MAX
        assert EXIT_COMMIT_FAILED == status
        await pair.check()


def balancer_of(machines: list[Machine], port: int) -> str:
    """The balancer's configuration as docs/OPERATING.md has it, for these two machines on this one."""
    (found,) = re.findall(r"^```text\n(defaults\n.*?)^```$", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    one, other = machines
    for there, here in (
        ("10.33.1.10:7440", f"127.0.0.1:{port}"),
        ("server one 10.33.1.11:7440", f"server one 127.0.0.1:{one.port} port {one.metrics_port}"),
        ("server other 10.33.1.12:7440", f"server other 127.0.0.1:{other.port} port {other.metrics_port}"),
    ):
        assert 1 == found.count(there)
        found = found.replace(there, here)
    return str(found)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_officers_behind_the_documented_balancer_come_to_the_one_that_works(
    machines: list[Machine], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, conf = free_port(), tmp_path / "haproxy.cfg"
    conf.write_text(balancer_of(machines, port), "utf-8")
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(conf)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (0, "") == (checked.returncode, checked.stderr)
    balancer = ChildProcess("haproxy", ["haproxy", "-db", "-f", str(conf)], log=tmp_path / "haproxy.log")
    credentials = pki.load(pki.CertificatePaths.in_folder(tmp_path / "office"))
    async with contextlib.AsyncExitStack() as stack:
        pair = await stack.enter_async_context(pair_of(machines, tmp_path))
        stack.callback(balancer.kill)
        balancer.start()
        name = pki.dns_name("node", BUREAU)
        channel = await stack.enter_async_context(channel_to(f"127.0.0.1:{port}", name, credentials))
        pair.office = Office(BUREAU, channel, PATIENCE_SECONDS, CALL_SECONDS)
        async with pair.at_work():
            # It stands still, so that nothing but the balancer tells who is connected that it is gone.
            stopped_at = time.monotonic()
            await asyncio.to_thread(pair.one.process.pause)
            serves_at = await pair.other.until("SERVING")
            await pair.answers(2 * CALLERS)
        waited = pair.first_answer_after(serves_at) - stopped_at
        tell(capsys, f"behind HAProxy, one that stands still: the next act is acknowledged after {waited:.1f} s")
        assert waited < GIVEN_UP_SECONDS, "the balancer ends what is connected"
        await pair.check()


async def test_a_node_over_a_file_cannot_stand_by(machines: list[Machine], tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match="standby: needs PostgreSQL"):
        read_settings(NodeSettings, machines[0].config, database=f"sqlite:///{tmp_path / 'node.db'}")
    with pytest.raises(WrongSetting, match="accounts: must be in PostgreSQL"):
        read_settings(NodeSettings, machines[0].config, accounts=f"sqlite:///{tmp_path / 'accounts.db'}")


def tell(capsys: pytest.CaptureFixture[str], measured: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{measured}\n")
