"""Other systems follow a hub's totals on NATS, by its description and in their own language."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from nats.aio.client import Client

from demo.journals import DAY, MONDAY
from demo.sites import Sites
from hub.query import Completeness
from hub.totals import REPEAT_SECONDS, Totals
from kuaixiang.runtime import bus, pki
from kuaixiang.runtime.bus import Access, totals_subject
from kuaixiang.wire.v1 import journal_pb2, live_pb2
from tests.hub.bench import Bench, cases
from tests.hub.federation import Federation
from tests.hub.test_service import folded, journal_of

ROOT = Path(__file__).parents[2]
SUBSCRIBER = ROOT / "deploy" / "subscriber"
DESCRIPTION = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
NATION = "000000"


def held_to_the_description(message: dict[str, Any]) -> dict[str, Any]:
    jsonschema_rs.validate(
        {**DESCRIPTION["components"]["schemas"]["Totals"], "components": DESCRIPTION["components"]}, message
    )
    return message


@asynccontextmanager
async def reading(sites: Sites, heard: list[dict[str, Any]], refused: list[str]) -> AsyncIterator[Client]:
    """A client with a reader's certificate, by nothing but NATS' own library."""
    paths = pki.issue(sites.authority, sites.directory / "reader", "reader", [NATION], force=True)

    async def hear(message: Any) -> None:
        heard.append(json.loads(message.data))

    async def refuse(failure: Exception) -> None:
        refused.append(str(failure).lower())

    client = Client()
    await client.connect(
        sites.national.url,
        tls=Access(url=sites.national.url, site=NATION, user="reader", certificates=paths).context(),
        tls_hostname=pki.dns_name("nats", NATION),
        error_cb=refuse,
        allow_reconnect=False,
        connect_timeout=60,
    )
    try:
        await client.subscribe(totals_subject(NATION), cb=hear)
        await client.flush(60)
        yield client
    finally:
        await client.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.nats
async def test_a_reader_hears_the_figures_that_the_ledgers_add_up_to_and_may_say_nothing(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 12, late=3)
    heard: list[dict[str, Any]] = []
    refused: list[str] = []
    async with (
        reading(federation.sites, heard, refused) as client,
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}", totals_seconds=0.1) as hub,
        federation.publishing("110000") as site,
    ):
        for segment in journal.segments():
            await site.segment(segment)
        await folded(hub, journal)
        await until(lambda: bool(heard and heard[-1]["completeness"]["bureaus_heard"]))
        for message in heard:
            held_to_the_description(message)
            for name in ("open", "overdue"):
                assert message["total"][name] == sum(row[name] for row in message["subordinates"])
            facts = {name for row in message["subordinates"] for name in row["facts"]}
            assert {
                name: sum(row["facts"].get(name, 0) for row in message["subordinates"]) for name in facts
            } == message["total"]["facts"]
        for subject in (totals_subject(NATION), "kx.v1.journal.000000.000000", "kx.v1.wake.000000.000000"):
            await client.publish(subject, b"{}")
        for subject in ("kx.v1.journal.>", "kx.v1.totals.110000"):
            await client.subscribe(subject)
        await until(lambda: len(refused) >= 5)
        assert 3 == len([one for one in refused if "violation for publish" in one])
        assert 2 == len([one for one in refused if "violation for subscription" in one])


class Told:
    """What was told, and a clock to wait by."""

    def __init__(self, bench: Bench) -> None:
        self.messages: list[dict[str, Any]] = []
        self.connected = True
        self.seconds = 1_000.0
        self.as_of_us = 0
        self.now = datetime(2026, 10, 13, 9, tzinfo=UTC)
        self.totals = Totals(
            store=bench.store,
            completeness=lambda: Completeness(7, 0, 0, 0, self.as_of_us),
            folds=lambda: bench.folder.folds,
            now=lambda: self.now,
            tell=self._tell,
            monotonic=lambda: self.seconds,
        )

    async def _tell(self, subject: str, payload: bytes, _: object) -> bool:
        assert totals_subject(NATION) == subject
        if self.connected:
            self.messages.append(held_to_the_description(json.loads(payload)))
        return self.connected


async def test_the_message_has_the_months_figures_of_each_subordinate(bench: Bench) -> None:
    journal = cases("110101", 4)
    bench.feed(*journal.segments())
    told = Told(bench)
    told.now = MONDAY + 3 * DAY
    await told.totals.step()
    (message,) = told.messages
    assert "2026-11" == message["period"]
    assert 4 == message["total"]["facts"]["registered"]
    (nation,) = bench.rows(from_day=date(2026, 11, 1), to_day=date(2026, 11, 30))
    assert (nation.facts, nation.open) == (message["total"]["facts"], message["total"]["open"])
    assert {"110000": 4} == {
        row["bureau"]: row["facts"]["registered"] for row in message["subordinates"] if row["facts"]
    }
    told.now = datetime(2026, 12, 1, 2, tzinfo=UTC)
    await told.totals.step()
    assert {} == told.messages[-1]["total"]["facts"]


async def test_what_has_not_changed_is_told_once_a_minute_and_what_nobody_took_at_once(bench: Bench) -> None:
    told = Told(bench)
    told.connected = False
    await told.totals.step()
    told.connected = True
    await told.totals.step()
    await told.totals.step()
    assert 1 == len(told.messages)
    told.seconds += REPEAT_SECONDS
    await told.totals.step()
    assert 2 == len(told.messages)
    told.now = datetime(2026, 10, 31, 17, tzinfo=UTC)
    await told.totals.step()
    assert ["2026-10", "2026-10", "2026-11"] == [message["period"] for message in told.messages]


async def test_figures_are_not_read_while_nothing_was_folded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    read = bench.store.reading

    def counted() -> Any:
        reads.append(None)
        return read()

    monkeypatch.setattr(bench.store, "reading", counted)
    told = Told(bench)
    told.now = MONDAY + 3 * DAY
    told.seconds += 1
    for _ in range(3):
        await told.totals.step()
    assert (1, 1) == (len(reads), len(told.messages))
    bench.feed(*cases("110101", 1).segments())
    for _ in range(3):
        await told.totals.step()
    assert (2, 2) == (len(reads), len(told.messages))
    bench.folder.forget("110101")
    told.as_of_us = 1
    for _ in range(3):
        await told.totals.step()
    assert (3, 3) == (len(reads), len(told.messages))
    told.seconds += REPEAT_SECONDS
    await told.totals.step()
    assert (4, 4) == (len(reads), len(told.messages))


def test_every_subject_of_the_bus_is_described_with_its_message() -> None:
    described = {channel["address"].split(".{")[0] for channel in DESCRIPTION["channels"].values()}
    assert {value for name, value in vars(bus).items() if name.endswith("_PREFIX") and "kx." in value} == described
    known = {
        f"kuaixiang.wire.v1.{name}" for of in (journal_pb2, live_pb2) for name in of.DESCRIPTOR.message_types_by_name
    }
    titles = {
        message["title"]
        for channel in DESCRIPTION["channels"].values()
        for message in channel["messages"].values()
        if message.get("contentType") == "application/protobuf"
    }
    assert 5 == len(titles)
    assert titles <= known


async def run(*command: str, folder: Path, seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        told, _ = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert 0 == process.returncode, told.decode()
    return told.decode()


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm is not on PATH")
async def test_another_language_follows_the_totals_and_its_tools_read_the_description(
    federation: Federation, tmp_path: Path
) -> None:
    folder = tmp_path / "subscriber"
    shutil.copytree(SUBSCRIBER, folder)
    install = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
    await run(*install, folder=folder, seconds=240)
    await run(*install, "--no-save", "@asyncapi/parser@3.6.6", folder=folder, seconds=240)
    (folder / "read.mjs").write_text(
        'import { readFileSync } from "node:fs";\nimport { Parser } from "@asyncapi/parser";\n'
        "const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));\n"
        "const faults = diagnostics.filter((one) => one.severity === 0);\n"
        "console.log(JSON.stringify({ faults, channels: document ? document.channels().length : 0 }));\n",
        encoding="utf-8",
    )
    read = json.loads(await run("node", "read.mjs", str(ROOT / "docs" / "asyncapi.yaml"), folder=folder, seconds=120))
    assert {"faults": [], "channels": 6} == read

    pki.issue(federation.authority, folder / "certificates", "reader", [NATION])
    async with federation.hub(f"sqlite:///{tmp_path / 'hub.db'}", totals_seconds=0.1):
        process = await asyncio.create_subprocess_exec(
            "node",
            "totals.mjs",
            cwd=folder,
            env={**os.environ, "KX_NATS": federation.sites.national.url},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
            assert re.search(r"Z .+ \d{4}-\d{2}: \d+ registered, \d+ completed, .* of 7 bureaus up to date", line)
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
    assert 0 == process.returncode
