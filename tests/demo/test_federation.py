"""A whole federation on one machine: real processes, certificates, sites and a hub."""

import asyncio
import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from demo.federation import (
    Database,
    Federation,
    NotHosted,
    child_environment,
    part_of,
    shared_by_site,
    toml_text,
    tree_text,
    with_endpoints,
)
from demo.mishaps import caught_up, entries_behind
from demo.officers import Officer
from demo.processes import ChildDied
from demo.watch import Watch
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Custody, Role, Stage, Telling
from kuaixiang.facts import national_tree, parse_tree
from kuaixiang.runtime import pki
from kuaixiang.runtime.pki import CODES_MAX
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.errors import RemoteRefusal, from_call
from kuaixiang.wire.v1 import directive_pb2, directive_pb2_grpc
from tests.registering import REGISTRAR, registration

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR = "000000", "110000", "110101", "110105"
SECONDS_MAX = 120.0


def escalation(to: str) -> acts.Refer:
    return acts.Refer(final_bureau=to, reason="涉及政策口径", telling=Telling.COMPLICATED, told="已告知")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    tree = part_of(national_tree(), [COUNTY, NEIGHBOUR])
    placement = [(HEADQUARTERS,), (PROVINCE,), (COUNTY, NEIGHBOUR)]
    async with Federation(
        tmp_path_factory.mktemp("federation"), tree, placement=placement, clock_start=MONDAY
    ) as started:
        yield started


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.slow
async def test_a_case_that_went_up_is_found_after_the_node_of_its_new_custodian_was_killed(
    federation: Federation,
) -> None:
    county, province = federation.office(COUNTY), federation.office(PROVINCE)
    async with Watch({COUNTY: county, PROVINCE: province}) as watch:
        registered = await county.do(REGISTRAR, registration("kill"), key="kill-register")
        case_id = registered.case.case_id
        await county.do(REGISTRAR, escalation(PROVINCE), case_id, key="kill-escalate")
        await watch.until(PROVINCE, case_id, "its arrival", lambda seen: seen.custody is Custody.OWNED, SECONDS_MAX)
        killed = (await federation.kill_node(PROVINCE)).process.returncode
        restarted = await federation.restart_node(PROVINCE)
        found = (await province.get(case_id)).case
        released = await watch.until(
            COUNTY, case_id, "its release", lambda seen: seen.custody is Custody.RELEASED, SECONDS_MAX
        )
    assert killed == -9
    assert restarted.process.alive
    assert Custody(found.custody) is Custody.OWNED
    assert Stage(found.stage) is Stage.FORWARDED
    assert released.stage is Stage.REFERRED


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_an_act_repeated_under_its_key_after_a_kill_is_done_once(federation: Federation) -> None:
    office = federation.office(NEIGHBOUR)
    first = await office.do(REGISTRAR, registration("again"), key="again-register")
    await federation.kill_node(NEIGHBOUR)
    await federation.restart_node(NEIGHBOUR)
    again = await office.do(REGISTRAR, registration("again"), key="again-register")
    assert again.case.case_id == first.case.case_id
    assert again.repeated_request


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_recorded_behind_a_cut_link_reaches_the_hub_once_it_is_restored(federation: Federation) -> None:
    await federation.cut_link(PROVINCE)
    office = federation.office(COUNTY)
    recorded = await office.do(REGISTRAR, registration("cut"), key="cut-register")
    behind = await entries_behind(federation, {COUNTY: recorded.seq})
    await federation.restore_link(PROVINCE)
    await caught_up(federation, {COUNTY: recorded.seq}, SECONDS_MAX)
    reconciled = await federation.hub().reconcile()
    assert behind.get(COUNTY, 0) >= 1
    assert (reconciled.ledgers_compared, list(reconciled.mismatches), list(reconciled.unreachable)) == (4, [], [])


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_a_refusal_arrives_with_its_rule_and_a_strange_bureau_is_named(federation: Federation) -> None:
    office = federation.office(COUNTY)
    with pytest.raises(RemoteRefusal) as refused:
        await office.do(REGISTRAR, acts.WriteOff(), "110101-2026-9999999", key="no-such-case")
    with pytest.raises(NotHosted) as strange:
        federation.office("330000")
    assert refused.value.rule == "UnknownCase"
    assert strange.value.code == "330000"


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_a_county_renews_its_pinned_certificate_while_it_runs_and_another_one_of_its_name_is_refused(
    federation: Federation, tmp_path: Path
) -> None:
    root, county = federation.office(HEADQUARTERS), federation.office(COUNTY)
    supervisor = Officer("S01", Role.SUPERVISOR, "leadership")
    bureaus = (HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR)
    async with Watch({bureau: federation.office(bureau) for bureau in bureaus}) as watch:

        async def publish(tree: BureauTree, adopted: int) -> None:
            await root.publish_tree(supervisor, tree_text(tree), key=f"tree-{tree.version}")
            async with asyncio.timeout(SECONDS_MAX):
                while watch.events["tree_adopted"] < adopted:
                    await asyncio.sleep(0.05)

        async def escalated(reference: str) -> None:
            registered = await county.do(REGISTRAR, registration(reference), key=f"{reference}-register")
            case_id = registered.case.case_id
            await county.do(REGISTRAR, escalation(PROVINCE), case_id, key=f"{reference}-escalate")
            await watch.until(
                COUNTY, case_id, "its release", lambda seen: seen.custody is Custody.RELEASED, SECONDS_MAX
            )

        def issued(name: str) -> pki.CertificatePaths:
            return pki.issue(federation.authority, tmp_path / name, "node", (COUNTY, NEIGHBOUR), days=20)

        following, stolen = issued("following"), issued("stolen")
        fingerprint = Seal(following).fingerprint()
        more = {COUNTY: [fingerprint], NEIGHBOUR: [fingerprint]}
        await publish(federation.pinned_tree("2026-10", more), 4)
        await escalated("before")
        node = federation.certificates("node", COUNTY)
        for file in ("tls.key", "tls.crt"):
            (node / file).write_bytes((tmp_path / "following" / file).read_bytes())
        await escalated("after")
        await publish(federation.pinned_tree("2026-11"), 8)
        await escalated("finally")
        endpoint = federation.tree.get(PROVINCE).endpoint
        async with open_channel(endpoint, pki.dns_name("node", PROVINCE), stolen) as channel:
            stub: Any = directive_pb2_grpc.DirectiveServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ReadDirectives(directive_pb2.ReadDirectivesRequest(bureau=PROVINCE), timeout=60)
    refusal = from_call(refused.value)
    assert "CertificateNotPinned" == (refusal.rule if refusal else "")


@pytest.mark.nats
@pytest.mark.postgres
@pytest.mark.slow
async def test_ledgers_and_hub_can_be_kept_in_postgresql(tmp_path: Path) -> None:
    tree = part_of(national_tree(), [PROVINCE])
    async with Federation(
        tmp_path, tree, placement=[(PROVINCE,)], database=Database.POSTGRESQL, clock_start=MONDAY, hubs=(PROVINCE,)
    ) as federation:
        recorded = await federation.office(PROVINCE).do(REGISTRAR, registration("pg"), key="pg-register")
        await _hub_of_the_province_has(federation, recorded.seq)
        reconciled = await federation.hub(PROVINCE).reconcile()
    assert (reconciled.entries_compared, list(reconciled.mismatches)) == (1, [])


async def _hub_of_the_province_has(federation: Federation, seq: int) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while [mark.seq for mark in (await federation.hub(PROVINCE).completeness()).marks] != [seq]:
            await asyncio.sleep(0.05)


@pytest.mark.nats
async def test_a_node_that_cannot_start_is_named_with_its_reason_and_nothing_stays_behind(tmp_path: Path) -> None:
    tree = part_of(national_tree(), [PROVINCE])
    federation = Federation(tmp_path, tree, hubs=(), node_settings={"dispatch_workdays": 99})
    with pytest.raises(ChildDied) as died:
        await federation.start()
    assert died.value.name in {"node-000000", "node-110000"}
    assert "dispatch_workdays" in died.value.log_tail
    assert [service.process.alive for service in federation.services] == [False, False]
    assert [site.process.alive for site in federation.sites.all] == [False, False]


def test_a_tree_is_written_as_it_is_read() -> None:
    tree = with_endpoints(part_of(national_tree(), [COUNTY, "330106"]), {COUNTY: 7440})
    tree = BureauTree(tree.version, [replace(one, desk="http://127.0.0.1:8080") for one in tree.bureaus.values()])
    read = parse_tree(tree_text(tree))
    assert dict(read.bureaus) == dict(tree.bureaus)
    assert read.version == tree.version


def test_names_with_commas_and_quotes_survive_in_the_tree() -> None:
    tree = BureauTree("1", [Bureau(HEADQUARTERS, 'a, "b"', Tier.NATIONAL, None)])
    assert parse_tree(tree_text(tree)).get(HEADQUARTERS).name == 'a, "b"'


def test_settings_are_written_as_toml_reads_them() -> None:
    settings = {"bureaus": ["110101"], "listen": '127.0.0.1:1 "quoted" 税', "metrics_port": 0, "reflection": True}
    assert tomllib.loads(toml_text(settings)) == settings


def test_bureaus_of_a_site_share_a_process_as_far_as_a_certificate_goes() -> None:
    groups = shared_by_site(national_tree())
    tree = national_tree()
    assert sorted(code for group in groups for code in group) == sorted(tree.bureaus)
    assert max(map(len, groups)) <= CODES_MAX
    assert all(len({tree.site(code) for code in group}) == 1 for group in groups)


def test_settings_of_the_harness_do_not_reach_the_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KX_NODE_DATABASE", "sqlite:///elsewhere.db")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    environment = child_environment(tmp_path)
    assert "KX_NODE_DATABASE" not in environment
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["PYTHONPYCACHEPREFIX"] == str(tmp_path / "pycache")
