"""How a referred case goes is seen where it began, within a moment; without NATS nothing is missing but the moment."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from demo.sites import Sites
from kuaixiang.domain import acts
from kuaixiang.domain.words import Channel, Custody, Role, Stage
from kuaixiang.runtime.bus import Bus, progress_subject, wake_subject
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc, common_pb2, live_pb2, referral_pb2, referral_pb2_grpc
from node.federation import courier
from node.federation.courier import Courier
from node.ledger import queries
from tests.federation.bureaus import until
from tests.federation.nodes import (
    COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    PREFECTURE,
    PROVINCE,
    Nodes,
    is_heard,
    nodes,
    strange,
)

pytestmark = pytest.mark.nats
CONNECT_SECONDS = 60.0
PATIENCE_SECONDS = 120.0


@pytest_asyncio.fixture
async def tiers(tmp_path: Path, own_nats_sites: Sites) -> AsyncIterator[Nodes]:
    """County, prefecture, province and headquarters, at the NATS sites of the province and the nation."""
    async with nodes(tmp_path, own_nats_sites) as made:
        await made.start(HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY)
        await all_listen(own_nats_sites)
        yield made


async def all_listen(own_nats_sites: Sites) -> None:
    """Wait until each bureau hears what is published where its neighbours are: before, it would be lost."""
    ways = (
        (own_nats_sites.national.node, wake_subject(PROVINCE, PROVINCE), FAR_PROVINCE),
        *(
            (own_nats_sites[PROVINCE].node, wake_subject(PROVINCE, bureau), FAR_PROVINCE)
            for bureau in (PREFECTURE, COUNTY)
        ),
        (own_nats_sites[PROVINCE].node, wake_subject(HEADQUARTERS, HEADQUARTERS), COUNTY),
    )
    for access, subject, nobody in ways:
        await is_heard(access, subject, live_pb2.WakeNotice(from_bureau=nobody))


async def escalated(tiers: Nodes) -> str:
    """A case of the county that headquarters has."""
    case_id = await tiers.register(COUNTY)
    await tiers.refer(COUNTY, case_id, HEADQUARTERS)
    await until(lambda: _is(tiers, HEADQUARTERS, case_id, Custody.OWNED))
    await until(lambda: _is(tiers, COUNTY, case_id, Custody.RELEASED))
    return case_id


def _is(tiers: Nodes, bureau: str, case_id: str, custody: Custody) -> bool:
    case = tiers.case(bureau, case_id)
    return case is not None and case.custody is custody


async def shown(tiers: Nodes, bureau: str, case_id: str) -> case_pb2.CaseProgress | None:
    """What officers of a bureau see of a case that is elsewhere."""
    async with tiers.channel(bureau, "office", bureau) as channel:
        request = case_pb2.GetCaseRequest(bureau=bureau, case_id=case_id)
        answer = await case_pb2_grpc.CaseServiceStub(channel).GetCase(request, timeout=60)
    return answer.progress if answer.HasField("progress") else None


async def tracked(tiers: Nodes, case_id: str) -> referral_pb2.TrackResponse:
    async with tiers.channel(COUNTY, "office", COUNTY) as channel:
        request = referral_pb2.TrackRequest(bureau=COUNTY, case_id=case_id)
        return await referral_pb2_grpc.ReferralServiceStub(channel).Track(request, timeout=60)


async def until_shown(tiers: Nodes, bureau: str, case_id: str, stage: Stage) -> case_pb2.CaseProgress:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            progress = await shown(tiers, bureau, case_id)
            if progress is not None and progress.stage == int(stage):
                return progress
            await asyncio.sleep(0.02)


async def test_what_headquarters_does_with_a_case_shows_at_the_county_and_on_the_way(tiers: Nodes) -> None:
    case_id = await escalated(tiers)
    done = await tiers.act(HEADQUARTERS, case_id, acts.Dispatch(to_department="tax-service"))
    for bureau in (PROVINCE, PREFECTURE, COUNTY):
        progress = await until_shown(tiers, bureau, case_id, Stage.HANDLING)
        assert (HEADQUARTERS, done.epoch, done.version) == (progress.bureau, progress.epoch, progress.version)
        assert common_pb2.DEPARTMENT_KIND_TAX_SERVICE == progress.department_kind
    assert await shown(tiers, HEADQUARTERS, case_id) is None
    assert await shown(tiers, COUNTY, case_id) == (await tracked(tiers, case_id)).progress


async def test_each_step_shows_until_the_end(tiers: Nodes) -> None:
    case_id = await escalated(tiers)
    await tiers.act(HEADQUARTERS, case_id, acts.Dispatch(to_department="tax-service"))
    for act, stage in (
        (acts.Complete(result="已修复"), Stage.COMPLETED),
        (acts.GiveFeedback(told_by=Channel.HOTLINE, told="已电话告知"), Stage.FED_BACK),
    ):
        await tiers.act(HEADQUARTERS, case_id, act, Role.HANDLER, "handler-1")
        await until_shown(tiers, COUNTY, case_id, stage)


async def test_nothing_private_is_in_what_travels(tiers: Nodes, own_nats_sites: Sites) -> None:
    heard: list[bytes] = []

    async def hear(_: str, payload: bytes) -> None:
        heard.append(payload)

    async with Bus(own_nats_sites[PROVINCE].node, name="listener") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.subscribe(progress_subject(PROVINCE, COUNTY), hear)
        case_id = await escalated(tiers)
        await tiers.act(HEADQUARTERS, case_id, acts.Dispatch(to_department="tax-service", note="请核实晨光文具店"))
        await until_shown(tiers, COUNTY, case_id, Stage.HANDLING)
        await until(lambda: heard)
    assert not any("晨光".encode() in payload or b"15400001234" in payload for payload in heard)


async def test_a_stranger_to_the_case_is_not_believed(tiers: Nodes, own_nats_sites: Sites) -> None:
    case_id = await escalated(tiers)
    await tiers.act(HEADQUARTERS, case_id, acts.Dispatch(to_department="tax-service"))
    true = await until_shown(tiers, COUNTY, case_id, Stage.HANDLING)
    lie = case_pb2.CaseProgress(bureau=COUNTY, case_id=case_id, epoch=99, version=99, stage=common_pb2.STAGE_FED_BACK)
    async with Bus(own_nats_sites[PROVINCE].node, name="liar") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        subject = progress_subject(PROVINCE, COUNTY)
        for payload in (
            live_pb2.ProgressNotice(from_bureau=FAR_PROVINCE, progress=lie).SerializeToString(),
            b"\xff no message",
        ):
            await bus.publish_core(subject, payload)
    done = await tiers.act(HEADQUARTERS, case_id, acts.Complete(result="已修复"), Role.HANDLER, "handler-1")
    progress = await until_shown(tiers, COUNTY, case_id, Stage.COMPLETED)
    assert (true.epoch, done.version) == (progress.epoch, progress.version)


async def test_a_peer_that_is_there_again_ends_the_pause_of_those_who_wait_for_it(
    tiers: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tiers.stop(PREFECTURE)
    case_id = await tiers.register(COUNTY)
    with monkeypatch.context() as patient:
        patient.setattr(courier, "BACKOFF_SECONDS_MIN", 1000.0)
        patient.setattr(courier, "BACKOFF_SECONDS_MAX", 1000.0)
        await tiers.refer(COUNTY, case_id, PREFECTURE)
        database = tiers.up[COUNTY].office.ledger.database

        def tried_in_vain() -> bool:
            state = queries.peer_states(database).get((COUNTY, PREFECTURE))
            return state is not None and state.failures > 0

        await until(tried_in_vain)
    await tiers.start(PREFECTURE)
    await until(lambda: _is(tiers, PREFECTURE, case_id, Custody.OWNED))


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Whose courier has heard that which peer is there, of nodes that are started after this."""
    seen: list[tuple[str, str]] = []
    hear = Courier.heard_from

    def heard_from(self: Courier, bureau: str, peer: str) -> None:
        seen.append((bureau, peer))
        hear(self, bureau, peer)

    monkeypatch.setattr(Courier, "heard_from", heard_from)
    return seen


async def test_only_a_neighbour_wakes(woken: list[tuple[str, str]], tiers: Nodes, own_nats_sites: Sites) -> None:
    before = strange("wake")
    woken.clear()
    async with Bus(own_nats_sites[PROVINCE].node, name="stranger") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        for payload in (
            live_pb2.WakeNotice(from_bureau=FAR_PROVINCE).SerializeToString(),
            b"\xff",
            live_pb2.WakeNotice(from_bureau=PREFECTURE).SerializeToString(),
        ):
            await bus.publish_core(wake_subject(PROVINCE, COUNTY), payload)
        await until(lambda: (COUNTY, PREFECTURE) in woken)
        await until(lambda: strange("wake") >= before + 2)
    assert (COUNTY, FAR_PROVINCE) not in woken


async def test_while_the_link_is_cut_nothing_breaks_and_track_tells(tmp_path: Path, own_nats_sites: Sites) -> None:
    async with nodes(tmp_path, own_nats_sites) as tiers:
        await tiers.start(HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY)
        await asyncio.to_thread(own_nats_sites.cut_link, PROVINCE)
        case_id = await escalated(tiers)
        await tiers.act(HEADQUARTERS, case_id, acts.Dispatch(to_department="tax-service"))
        segments = (await tracked(tiers, case_id)).segments
        assert [COUNTY, PREFECTURE, PROVINCE, HEADQUARTERS] == [one.bureau for one in segments]
        assert int(Stage.HANDLING) == segments[-1].stage
        progress = await shown(tiers, COUNTY, case_id)
        assert progress is None or progress.bureau != HEADQUARTERS
        await asyncio.to_thread(own_nats_sites.restore_link, PROVINCE)
        await asyncio.to_thread(own_nats_sites.wait_linked, PROVINCE)
        await all_listen(own_nats_sites)
        await tiers.act(HEADQUARTERS, case_id, acts.Complete(result="已修复"), Role.HANDLER, "handler-1")
        await until_shown(tiers, COUNTY, case_id, Stage.COMPLETED)
