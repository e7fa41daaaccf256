"""The hub as a process between real NATS sites and real ledgers."""

import asyncio
import json
import re
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from demo.journals import Journal
from demo.processes import ChildProcess, free_port
from hub.ledgers import Ledgers
from hub.rebuild import rebuild
from hub.service import Running, running
from hub.settings import HubSettings
from hub.store import Store
from kuaixiang.runtime import pki
from kuaixiang.runtime.database import DatabaseHeld
from kuaixiang.runtime.settings import WrongSetting, read_settings
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kuaixiang.wire.v1.journal_pb2 import Head
from kx.hub import app
from tests.hub.federation import Federation
from tests.hub.journals import HEADQUARTERS
from tests.node.callers import refusal_of

pytestmark = pytest.mark.nats

PATIENCE_SECONDS = 120.0
"""Starting a process takes half a minute where a dozen others of this test run do the same."""


def journal_of(federation: Federation, bureau: str, cases: int, *, late: int = 0) -> Journal:
    journal = Journal(bureau)
    for number in range(cases):
        journal.live(f"{bureau}-{number}", late=number < late, category=1 + number % 6, channel=1 + number % 5)
    federation.ledgers.journals[bureau] = journal
    return journal


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def folded(hub: Running, *journals: Journal) -> None:
    for journal in journals:

        def reached(of: Journal = journal) -> bool:
            return hub.folder.mark(of.bureau).seq == of.seq

        await until(reached, f"bureau {journal.bureau} is not folded to its end")


def entries_folded(metrics_port: int) -> float:
    """What a hub in another process says that it has folded since its start; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    return next((float(line.split()[1]) for line in lines if line.startswith("kx_hub_entries_total ")), 0)


async def figures(stub: Any, **question: Any) -> dict[str, dict[str, int]]:
    answer = await stub.GetFigures(pb.GetFiguresRequest(**question), timeout=60)
    return {row.key: dict(row.facts) for row in answer.rows}


async def test_segments_published_at_a_provincial_site_appear_in_the_national_figures(
    federation: Federation, database_url: str
) -> None:
    north = journal_of(federation, federation.north[0], 30, late=10)
    south = journal_of(federation, federation.south[0], 20)
    async with (
        federation.hub(database_url) as hub,
        federation.publishing("110000") as one,
        federation.publishing("330000") as other,
        federation.statistics(hub.port) as stub,
    ):
        for segment in north.segments(size=40):
            await one.segment(segment)
        await one.head(north)
        for segment in south.segments(size=40):
            await other.segment(segment)
        await folded(hub, north, south)
        by_bureau = await figures(stub, grouping=pb.GROUPING_BUREAU)
        assert by_bureau["110000"]["registered"] == 30
        assert by_bureau["330000"]["registered"] == 20
        assert (await figures(stub))[""]["written_off"] == 50
        answer = await stub.GetFigures(pb.GetFiguresRequest(), timeout=60)
        rates = {rate.name: (rate.numerator, rate.denominator) for rate in answer.rows[0].rates}
        assert rates["on_time"] == (40, 50)
        assert answer.completeness.bureaus_expected == 7
        assert answer.completeness.bureaus_heard >= 2
        metrics = await asyncio.to_thread(
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{hub.metrics_port}/metrics", timeout=60).read().decode()
        )
        assert "kx_hub_entries_total" in metrics


async def test_what_was_lost_on_the_way_is_read_from_the_ledger(federation: Federation, database_url: str) -> None:
    journal = journal_of(federation, federation.north[0], 20)
    lost_tail = journal_of(federation, federation.south[0], 4)
    async with (
        federation.hub(database_url) as hub,
        federation.publishing("110000") as site,
        federation.publishing("330000") as other,
    ):
        await site.segment(journal.segment(1, 20))
        await site.segment(journal.segment(61))
        await other.head(lost_tail)
        await folded(hub, journal, lost_tail)
        assert hub.folder.mark(journal.bureau).hash == journal.hashes[-1]
        assert hub.folder.parked_entries(journal.bureau) == 0


async def test_a_silent_bureau_is_asked_and_one_that_cannot_be_is_not_up_to_date(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}", silent_after_seconds=0.5) as hub,
        federation.statistics(hub.port) as stub,
    ):
        await folded(hub, journal)
        answer = await stub.GetCompleteness(pb.GetCompletenessRequest(scope=journal.bureau), timeout=60)
        assert answer.completeness.bureaus_heard == 1
        silent = await stub.GetCompleteness(pb.GetCompletenessRequest(scope=federation.north[1]), timeout=60)
        assert (silent.completeness.bureaus_heard, silent.completeness.bureaus_up_to_date) == (0, 0)


async def test_a_restored_ledger_is_folded_again_after_asking_it(federation: Federation, tmp_path: Path) -> None:
    journal = journal_of(federation, federation.north[0], 10)
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
        federation.statistics(hub.port) as stub,
    ):
        await site.segment(journal.segment())
        await folded(hub, journal)
        journal.restore(14)
        journal.open_generation()
        journal.live("after", category=6)
        await site.segment(journal.segment(15))
        await until(lambda: hub.folder.mark(journal.bureau).generation == 2, "the new generation is not folded")
        await folded(hub, journal)
        assert (await figures(stub))[""]["registered"] == 3
        # It is counted as its ledger has it now, and nobody overlooks what that has lost.
        answer = await stub.GetCompleteness(pb.GetCompletenessRequest(scope=journal.bureau), timeout=60)
        (mark,) = answer.marks
        assert "generation 2 has lost 56 folded entries, from 15 on" in mark.restored
        assert [pb.LACK_RESTORED] == [one.lack for one in answer.completeness.missing]


async def test_a_rewritten_ledger_that_calls_itself_restored_is_quarantined(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
        federation.statistics(hub.port) as stub,
    ):
        await site.segment(journal.segment())
        await folded(hub, journal)
        before = await figures(stub)
        # The last case was late and is told anew, in time; then a new generation says that nothing is lost.
        journal.rewrite(14)
        journal.live("dressed up")
        journal.restore(journal.seq)
        journal.open_generation()
        await site.segment(journal.segment(journal.seq))
        await until(lambda: bool(hub.folder.mark(journal.bureau).quarantine), "the rewritten ledger passes")
        assert "entry 21 is another one than was folded" in hub.folder.mark(journal.bureau).quarantine
        assert before == await figures(stub)
        journal.live("more")
        await site.segment(journal.segment(journal.seq - 6))
        await site.head(journal)
        await until(
            lambda: hub.folder.mark(journal.bureau).announced_seq == journal.seq, "the hub does not hear the head"
        )
        assert hub.folder.mark(journal.bureau).held
        assert before == await figures(stub)


async def test_a_fork_is_quarantined_and_the_other_bureaus_go_on(federation: Federation, tmp_path: Path) -> None:
    good = journal_of(federation, federation.north[1], 3)
    true = journal_of(federation, federation.north[0], 2)
    forged = Journal(true.bureau)
    forged.live("never happened")
    forged.live("never happened either")
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
        federation.statistics(hub.port) as stub,
    ):
        await site.segment(true.segment(1, 7))
        await site.segment(forged.segment(8), again="x")
        await site.segment(good.segment())
        await folded(hub, good)
        answer = await stub.GetCompleteness(pb.GetCompletenessRequest(), timeout=60)
        assert answer.completeness.bureaus_quarantined == 1
        assert {mark.bureau for mark in answer.marks if mark.quarantine} == {true.bureau}
        report = await stub.Reconcile(pb.ReconcileRequest(scope=true.bureau), timeout=60)
        assert {found.what for found in report.mismatches} == {"quarantine", "head"}


async def test_a_quarantine_ends_when_the_ledger_goes_on_in_a_new_generation(
    federation: Federation, tmp_path: Path
) -> None:
    true = journal_of(federation, federation.north[0], 2)
    forged = Journal(true.bureau)
    forged.live("never happened")
    forged.live("never happened either")
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
        federation.statistics(hub.port) as stub,
    ):
        await site.segment(true.segment())
        await folded(hub, true)
        await site.segment(forged.segment(8), again="x")
        await until(lambda: bool(hub.folder.mark(true.bureau).quarantine), "the fork is not seen")
        written = true.seq
        true.restore(written)
        true.live("after")
        await site.segment(true.segment(written + 1))
        await until(lambda: not hub.folder.mark(true.bureau).quarantine, "the new generation is not believed")
        await folded(hub, true)
        assert (await figures(stub))[""]["registered"] == 3


async def test_entries_that_a_ledger_never_wrote_are_found_by_its_next_head(
    federation: Federation, tmp_path: Path
) -> None:
    true = journal_of(federation, federation.north[0], 2)
    forged = Journal(true.bureau, entries=true.entries[:], generations=true.generations[:], hashes=true.hashes[:])
    forged.generation = 2
    forged.live("never happened")
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
    ):
        await site.segment(true.segment())
        await site.segment(forged.segment(true.seq + 1))
        await folded(hub, forged)
        await site.head(true)
        await until(lambda: bool(hub.folder.mark(true.bureau).quarantine), "the ledger was not asked")
        assert hub.folder.mark(true.bureau).quarantine == (
            f"generation 1 of the journal ends at seq {true.seq}, but {forged.seq} was folded of generation 2"
        )


async def test_what_is_announced_and_denied_by_the_ledger_does_not_stand(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 2)
    other = journal_of(federation, federation.north[1], 1)
    boast = Journal(journal.bureau, generation=2**40, entries=journal.entries * 2, hashes=[b"x" * 32])
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
    ):
        await site.segment(journal.segment())
        await site.head(boast)
        await site.segment(other.segment())
        await folded(hub, journal, other)
        await until(lambda: not hub.folder.mark(journal.bureau).behind, "the announcement stands")
        mark = hub.folder.mark(journal.bureau)
        assert (mark.announced_generation, mark.announced_seq, mark.quarantine) == (1, journal.seq, "")


async def test_what_is_folded_while_a_ledger_answers_is_no_contradiction(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(federation, federation.north[0], 2)
    answering, folded_meanwhile = asyncio.Event(), asyncio.Event()
    ask = Ledgers.head

    async def slow(self: Ledgers, bureau: str) -> Head:
        head = journal.segment(1, 7)
        answering.set()
        await folded_meanwhile.wait()
        answer = await ask(self, bureau)
        return Head(bureau=bureau, generation=1, seq=7, hash=head.last_hash, as_of_us=answer.as_of_us)

    monkeypatch.setattr(Ledgers, "head", slow)
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
    ):
        await site.segment(journal.segment(1, 3))
        await site.segment(journal.segment(5, 7))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await answering.wait()
        await site.segment(journal.segment(4), again="whole")
        await folded(hub, journal)
        folded_meanwhile.set()
        await asyncio.sleep(0.5)
        assert not hub.folder.mark(journal.bureau).quarantine


async def test_the_hub_equals_its_ledgers_and_says_where_it_does_not(federation: Federation, database_url: str) -> None:
    journals = [journal_of(federation, bureau, 12, late=3) for bureau in (*federation.north, *federation.south)]
    for code in ("000000", "110000", "330000"):
        federation.ledgers.journals[code] = Journal(code)
    async with (
        federation.hub(database_url, silent_after_seconds=0.3, settle_seconds=PATIENCE_SECONDS) as hub,
        federation.statistics(hub.port) as stub,
    ):
        report = await stub.Reconcile(pb.ReconcileRequest(), timeout=2 * PATIENCE_SECONDS)
        assert list(report.mismatches) == []
        assert list(report.unreachable) == []
        assert report.ledgers_compared == 7
        assert report.entries_compared == sum(journal.seq for journal in journals)
        federation.ledgers.journals[journals[0].bureau] = Journal(journals[0].bureau)
        del federation.ledgers.journals[journals[1].bureau]
        report = await stub.Reconcile(pb.ReconcileRequest(scope="110000"), timeout=60)
        assert {found.bureau for found in report.mismatches} == {journals[0].bureau}
        assert any(found.what.startswith("registered 2026-11-16") for found in report.mismatches)
        assert list(report.unreachable) == [journals[1].bureau]


async def test_a_rebuild_gives_the_same_figures(federation: Federation, database_url: str) -> None:
    journals = [journal_of(federation, bureau, 15, late=4) for bureau in (*federation.north, *federation.south)]
    for journal in journals:
        for case_id in sorted(journal.versions)[:5]:
            journal.look("private_read", case_id)
    async with (
        federation.hub(database_url) as hub,
        federation.publishing("110000") as one,
        federation.publishing("330000") as other,
        federation.statistics(hub.port) as stub,
    ):
        for journal in journals:
            for segment in journal.segments(size=30):
                await (one if journal.bureau in federation.north else other).segment(segment)
        await folded(hub, *journals)
        before = [await figures(stub, grouping=grouping) for grouping in range(12)]
        settings = read_settings(HubSettings, None, **federation.settings(database_url))
        with pytest.raises(DatabaseHeld, match="Another hub holds"):
            await rebuild(settings)
    rebuilt = await rebuild(settings)
    assert rebuilt.entries == sum(journal.seq for journal in journals)
    assert rebuilt.unreachable == ["000000", "110000", "330000"]
    async with federation.hub(database_url) as hub, federation.statistics(hub.port) as stub:
        assert [await figures(stub, grouping=grouping) for grouping in range(12)] == before


async def released(database_url: str, federation: Federation) -> Store:
    """The database of a hub that was killed: PostgreSQL takes a moment to see that its holder is gone."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return Store(database_url, federation.tree, HEADQUARTERS)
            except DatabaseHeld:
                await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_hub_killed_while_it_folds_counts_nothing_twice_and_loses_nothing(
    federation: Federation, database_url: str, tmp_path: Path
) -> None:
    journals = [journal_of(federation, bureau, 0) for bureau in federation.north]
    config = tmp_path / "hub.toml"
    metrics_port = free_port()
    settings = federation.settings(database_url, metrics_port=metrics_port)
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()), "utf-8")
    command = [sys.executable, "-c", "from kx.hub import app; app()", "serve", "--config", str(config)]

    async def publish(part: int) -> None:
        async with federation.publishing("110000") as site:
            before = journals[0].seq
            for journal in journals:
                for number in range(200):
                    journal.live(f"{part}-{number}")
            for start in range(before, journals[0].seq, 20):
                for journal in journals:
                    await site.segment(journal.segment(start + 1, start + 20))
                await asyncio.sleep(0.02)

    reached = [0]
    for part in range(2):
        publishing = asyncio.create_task(publish(part))
        with ChildProcess("hub", command, log=tmp_path / "hub.log") as process:
            await asyncio.to_thread(process.start)
            await until(lambda: entries_folded(metrics_port) > 0, "the hub does not fold")
            await asyncio.to_thread(process.kill)
        with await released(database_url, federation) as store:
            reached.append(sum(mark.seq for mark in store.marks().values()))
        await publishing
    assert 0 < reached[1] < reached[2]
    await publish(2)
    async with federation.hub(database_url) as hub, federation.statistics(hub.port) as stub:
        await folded(hub, *journals)
        assert (await figures(stub))[""]["registered"] == 1200
        assert (await figures(stub))[""]["written_off"] == 1200


async def test_the_command_shows_figures_completeness_and_the_comparison(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in federation.codes:
        journal_of(federation, code, 5, late=1)
    settings = federation.settings(f"sqlite:///{tmp_path / 'hub.db'}", silent_after_seconds=0.5, settle_seconds=60)
    config = tmp_path / "hub.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()), "utf-8")

    async def kx(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, words)
        return result.exit_code, result.output

    async with running(read_settings(HubSettings, config)) as hub:
        monkeypatch.setenv("KX_HUB_ENDPOINT", f"127.0.0.1:{hub.port}")
        monkeypatch.setenv("KX_CERTIFICATES", str(federation.folder / "office"))
        status, output = await kx("reconcile", "--json")
        assert status == 0
        assert json.loads(output.splitlines()[-1])["hub_equals_ledgers"] is True
        status, output = await kx("stats", "--by", "bureau", "--from", "2026-11-01", "--json")
        assert status == 0
        told = json.loads(output)
        assert {row["key"]: row["facts"]["registered"] for row in told["rows"]} == {
            "000000": 5,
            "110000": 15,
            "330000": 15,
        }
        assert told["rows"][0]["rates"]["on_time"] == {"numerator": 4, "denominator": 5, "value": 0.8}
        status, output = await kx("stats")
        assert status == 0
        assert "7 bureaus expected, 7 heard from" in " ".join(output.split())
        status, output = await kx("completeness", "--all", "--json")
        assert status == 0
        assert {mark["seq"] for mark in json.loads(output)["marks"]} == {36}
        assert (await kx("completeness"))[0] == 0
        assert (await kx("reconcile"))[0] == 0
        status, output = await kx("stats", "--by", "weekday")
        assert (status, "Choose one of total, bureau" in " ".join(output.split())) == (2, True)
        status, output = await kx("stats", "--scope", "999999")
        assert (status, "999999 is not counted by this hub" in " ".join(output.split())) == (2, True)
        status, output = await kx("stats", "--scope", "999999", "--json")
        assert (status, json.loads(output)["error"]) == (
            2,
            {
                "message": "Bureau 999999 is not counted by this hub.",
                "message_chinese": "本汇总中心不统计单位 999999。",
                "field": "scope",
                "rule": "NotCounted",
                "remedy": "This hub counts 000000 and the bureaus under it.",
                "remedy_chinese": "本汇总中心统计单位 000000 及其下级。",
                "code": "NOT_FOUND",
            },
        )
        status, output = await kx("rebuild", "--config", str(config))
        assert (status, "Another hub holds" in " ".join(output.split())) == (2, True)
        federation.ledgers.journals[federation.north[0]].live("later")
        del federation.ledgers.journals[federation.south[0]]
        status, output = await kx("reconcile", "--scope", federation.south[0], "--json")
        assert (status, json.loads(output.splitlines()[-1])["unreachable"]) == (1, [federation.south[0]])
    status, output = await kx("rebuild", "--config", str(config), "--json")
    assert status == 1
    rebuilt = json.loads(output.splitlines()[-1])
    assert (rebuilt["bureaus"], rebuilt["unreachable"]) == (6, [federation.south[0]])
    status, output = await kx("stats")
    assert (status, "does not answer" in output) == (3, True)


async def test_a_period_is_published_and_what_comes_late_shows_as_a_correction(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    county = federation.north[0]
    journal = Journal(county)
    for number in range(3):
        journal.live(f"{county}-{number}", datetime(2024, 3, 4, 2, tzinfo=UTC), late=number < 1)
    federation.ledgers.journals[county] = journal
    pki.issue(federation.authority, federation.folder / "province", "office", ["110000"])
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.publishing("110000") as site,
    ):
        await site.segment(journal.segment())
        await site.head(journal)
        await folded(hub, journal)
        monkeypatch.setenv("KX_HUB_ENDPOINT", f"127.0.0.1:{hub.port}")

        async def kx(who: str, *words: str) -> tuple[int, Any]:
            monkeypatch.setenv("KX_CERTIFICATES", str(federation.folder / who))
            result = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json"])
            return result.exit_code, json.loads(result.output.splitlines()[-1])

        async def shown(who: str, *words: str) -> str:
            monkeypatch.setenv("KX_CERTIFICATES", str(federation.folder / who))
            result = await asyncio.to_thread(CliRunner().invoke, app, words)
            return " ".join(result.output.split())

        async with asyncio.timeout(
            PATIENCE_SECONDS
        ):  # a head that overtook entries counts for nothing; nodes repeat theirs, as here
            while "edition" not in (told := (await kx("county", "publish", "2024-03", "--scope", county))[1]):
                assert told["error"]["rule"] == "FiguresIncomplete"
                await site.head(journal)
                await asyncio.sleep(0.2)
        assert told["edition"]["edition"] == 1
        status, told = await kx("county", "publish", "2024-03", "--scope", county)
        assert (status, told["unchanged"], told["edition"]["published_by"]) == (0, True, f"office {county}")
        for who, scope, rule in (
            ("office", county, "NotAuthorised"),
            ("province", county, "NotAuthorised"),
            ("province", "110000", "FiguresIncomplete"),
        ):
            status, told = await kx(who, "publish", "2024-03", "--scope", scope)
            assert (status, told["error"]["rule"], bool(told["error"]["message_chinese"])) == (2, rule, True)
        alone = ("--override-by", "张三", "--second", "张三", "--reason", "急")
        assert (await kx("province", "publish", "2024-03", "--scope", "110000", *alone))[1]["error"]["rule"] == (
            "OverrideByOne"
        )
        two = ("--override-by", "张三", "--second", "李四", "--reason", "上级要求")
        status, told = await kx("province", "publish", "2024-03", "--scope", "110000", *two)
        assert (status, told["edition"]["override_second"]) == (0, "李四")
        assert [bureau["bureau"] for bureau in told["edition"]["completeness"]["missing"]] == [
            "110000",
            federation.north[1],
        ]
        assert (await kx("county", "corrections", "2024-02", "--scope", county))[1]["error"]["rule"] == "NotPublished"
        before = journal.seq
        journal.write("late", "registered", datetime(2024, 3, 5, 2, tzinfo=UTC))
        await site.segment(journal.segment(before + 1))
        await folded(hub, journal)
        status, told = await kx("county", "corrections", "2024-03", "--scope", county)
        assert [(one["measure"], one["published"], one["now"], one["difference"]) for one in told["bureaus"]] == [
            ("registered", 3, 4, 1),
            ("unfinished", 0, 1, 1),
        ]
        status, told = await kx("county", "stats", "--period", "2024-03", "--scope", county, "--compare")
        assert (told["published"]["edition"], told["published"]["corrections"]) == (1, 2)
        assert told["rows"][0]["counts"]["unfinished"] == 1
        assert [(one["basis"], one["facts"]["registered"]) for one in told["rows"][0]["changes"]] == [
            ("last_period", 4),
            ("year_before", 4),
        ]
        assert (await kx("county", "stats", "--period", "2024-04", "--scope", county))[1]["published"] is None
        stats = await shown("county", "stats", "--period", "2024-03", "--scope", county, "--compare")
        assert "edition 1 of 2024-03" in stats
        assert "2 corrections since" in stats
        assert "环比" in stats
        assert "registered" in await shown("county", "corrections", "2024-03", "--scope", county)
        assert "Missing 未报齐: 110000" in await shown("province", "stats", "--scope", "110000")
        assert "edition 1" in await shown("county", "publish", "2024-02", "--scope", county)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("registered", ("受理 §四(一)1", "Registered by the bureau")),
        ("on_time", ("按时办结率 §四(二) = (handle_met + joint_met) ÷", "待条件成熟的不计时限")),
        ("unfinished", ("未办结 §五(三) = registered + received + reopened − referred_up", "at the end of the period")),
        ("handle_workdays_5", ("办理用时", "more than 3 and at most 5 working days")),
    ],
)
def test_every_figure_is_explained_by_its_name(figure: str, expected: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["explain", figure])
    assert result.exit_code == 0
    for part in expected:
        assert part in " ".join(result.output.split())


def test_a_figure_that_there_is_not_is_refused() -> None:
    result = CliRunner().invoke(app, ["explain", "averages"])
    assert (result.exit_code, "没有“averages”这项指标" in result.output) == (2, True)


async def test_errors_say_which_field_is_wrong(federation: Federation, tmp_path: Path) -> None:
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.statistics(hub.port) as stub,
        federation.statistics(hub.port, "county") as county,
    ):
        cases: list[tuple[Any, dict[str, Any], grpc.StatusCode, str]] = [
            (stub, {"from_day": "soon"}, grpc.StatusCode.INVALID_ARGUMENT, "from_day"),
            (stub, {"from_day": "2026-02-01", "to_day": "2026-01-01"}, grpc.StatusCode.INVALID_ARGUMENT, "to_day"),
            (stub, {"from_day": "9999-12-31"}, grpc.StatusCode.INVALID_ARGUMENT, "from_day"),
            (stub, {"category": 9}, grpc.StatusCode.INVALID_ARGUMENT, "category"),
            (stub, {"department_kind": 10}, grpc.StatusCode.INVALID_ARGUMENT, "department_kind"),
            (stub, {"grouping": 12}, grpc.StatusCode.INVALID_ARGUMENT, "grouping"),
            (stub, {"period": "2026-13"}, grpc.StatusCode.INVALID_ARGUMENT, "period"),
            (stub, {"period": "2026-10", "to_day": "2026-10-31"}, grpc.StatusCode.INVALID_ARGUMENT, "period"),
            (stub, {"compare": True}, grpc.StatusCode.INVALID_ARGUMENT, "from_day"),
            (
                stub,
                {"compare": True, "from_day": "2026-10-02", "to_day": "2026-10-31", "grouping": 5},
                grpc.StatusCode.INVALID_ARGUMENT,
                "from_day",
            ),
            (stub, {"scope": "999999"}, grpc.StatusCode.NOT_FOUND, "scope"),
            (county, {"scope": "330000"}, grpc.StatusCode.PERMISSION_DENIED, ""),
        ]
        for client, question, code, field in cases:
            refusal = await refusal_of(figures(client, **question))
            assert (code, field) == (refusal.code, refusal.field)
        assert await figures(county, scope="110000") == {"": {}}


async def test_health_answers_while_the_hub_serves(federation: Federation, tmp_path: Path) -> None:
    office = federation.paths["office"]
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        open_channel(f"127.0.0.1:{hub.port}", pki.dns_name("hub", "000000"), office) as channel,
    ):
        check: Any = health_pb2_grpc.HealthStub(channel)
        answer = await check.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_board_is_served_where_it_is_asked_for(federation: Federation, tmp_path: Path) -> None:
    settings = {"board": "127.0.0.1:0", "demonstration": True}
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}", **settings) as hub,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{hub.board_port}", follow_redirects=True, timeout=PATIENCE_SECONDS
        ) as client,
    ):
        shown = await client.get("/")
        assert (shown.status_code, str(shown.url.path)) == (200, "/step-in")
        who = {"bureau": "000000", "actor": "S01", "department": "leadership", "role": "SUPERVISOR"}
        shown = await client.post("/step-in", data=who)
        assert (shown.status_code, 'class="cards figures"' in shown.text) == (200, True)
        for asset in re.findall(r'(?:src|href)="(/assets/[^"]+)"', shown.text):
            assert (await client.get(asset)).status_code == 200
    async with federation.hub(f"sqlite:///{tmp_path / 'other.db'}") as hub:
        assert hub.board_port == 0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"scope": "12"}, "scope"),
        ({"scope": "999999"}, "scope"),
        ({"sites": ["440000"], "scope": "110000"}, "sites"),
        ({"metrics_port": 70000}, "metrics_port"),
        ({"tree": "/nowhere/tree.csv"}, "tree"),
        ({"no_such": 1}, "no_such"),
        ({"listen": "7450"}, "listen"),
        ({"nats_url": "tls://one:4222,nats://two:4222"}, "nats_url"),
        ({"board": "8090"}, "board"),
        ({"board": "0.0.0.0:8090"}, "board"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongSetting) as refusal:
        read_settings(HubSettings, None, **wrong)
    assert list(refusal.value.problems) == [named]


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('scope = "110000"\nmetrics_port = 1\n', "utf-8")
    monkeypatch.setenv("KX_HUB_METRICS_PORT", "2")
    monkeypatch.setenv("KX_HUB_SITES", "110000,")
    settings = read_settings(HubSettings, file)
    assert (settings.scope, settings.metrics_port, settings.sites) == ("110000", 2, ("110000",))
