"""What still works when others are away, and how it heals: real processes, killed and started again."""

import asyncio
import re
from datetime import datetime
from pathlib import Path
from urllib.request import urlopen

import pytest

from demo.federation import Federation, Service, part_of
from demo.mishaps import caught_up
from demo.officers import Officer
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import Channel, Custody, Role, Stage, Telling
from kuaixiang.facts import national_tree
from tests.registering import REGISTRAR, registration

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS, PROVINCE, COUNTY = "000000", "110000", "110101"
SITES = (PROVINCE, HEADQUARTERS)
TAX_SERVICE = Officer("T01", Role.TAX_SERVICE, "tax-service")
HANDLER = Officer("H01", Role.HANDLER, "policy")
SECONDS_MAX = 120.0


async def metric(service: Service, name: str) -> float:
    """The sum of a metric's samples, whatever their labels."""

    def read() -> str:
        with urlopen(service.metrics_url, timeout=60) as answer:
            return str(answer.read(), "utf-8")

    samples = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", await asyncio.to_thread(read), re.MULTILINE)
    assert samples, name
    return sum(map(float, samples))


async def shows(service: Service, name: str, at_least: float) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while await metric(service, name) < at_least:
            await asyncio.sleep(0.1)


@pytest.mark.nats
@pytest.mark.slow
async def test_with_superior_bus_and_hub_all_down_a_county_works_as_usual_and_all_converges_when_they_are_back(
    tmp_path: Path,
) -> None:
    placement = [(HEADQUARTERS,), (PROVINCE,), (COUNTY,)]
    async with Federation(
        tmp_path,
        part_of(national_tree(), [COUNTY]),
        placement=placement,
        clock_start=MONDAY,
        node_settings={"cosigned_start_seconds": 1.0},
    ) as federation:
        county = federation.office(COUNTY)
        before = await county.do(REGISTRAR, registration("before"), key="before")
        await federation.kill_hub(HEADQUARTERS)
        await federation.kill_node(HEADQUARTERS)
        await federation.kill_node(PROVINCE)
        for site in SITES:
            await asyncio.to_thread(federation.sites.kill_site, site)

        # Alone, and started again alone.
        await federation.kill_node(COUNTY)
        node = await federation.restart_node(COUNTY)
        spot = await county.do(REGISTRAR, registration("spot"), key="spot")
        answered = await county.do(
            REGISTRAR, acts.AnswerOnTheSpot(answer="不需要，可以享受免税"), spot.case.case_id, key="spot-answer"
        )
        handled = before.case.case_id
        for officer, act in (
            (REGISTRAR, acts.Forward(telling=Telling.TRANSFERRED, told="已转纳税服务部门")),
            (TAX_SERVICE, acts.Dispatch(to_department="policy")),
            (HANDLER, acts.Complete(result="可以享受免税")),
            (HANDLER, acts.GiveFeedback(told_by=Channel.HOTLINE, told="可以享受免税")),
        ):
            await county.do(officer, act, handled, key=f"handled-{type(act).__name__}")
        referred = await county.do(REGISTRAR, registration("up"), key="up")
        escalation = acts.Refer(
            final_bureau=PROVINCE, reason="涉及政策口径", telling=Telling.COMPLICATED, told="情况复杂，已告知"
        )
        up = await county.do(REGISTRAR, escalation, referred.case.case_id, key="up-refer")
        assert Stage.FED_BACK is Stage(answered.case.stage) is Stage((await county.get(handled)).case.stage)
        assert Custody.OFFERED is Custody(up.case.custody)
        await shows(node, "kx_deliveries_pending", 1)
        await shows(node, "kx_peers_unreachable", 1)
        await shows(node, "kx_journal_unpublished_entries", up.seq - before.seq)
        assert 0 == await metric(node, "kx_nats_connected")

        # They come back, in the order that is least convenient; nobody does anything else.
        await federation.restart_hub(HEADQUARTERS)
        await federation.restart_node(PROVINCE)
        await federation.restart_node(HEADQUARTERS)
        for site in reversed(SITES):
            await asyncio.to_thread(federation.sites.start_site, site)
        async with asyncio.timeout(SECONDS_MAX):
            while Custody((await county.get(up.case.case_id)).case.custody) is not Custody.RELEASED:
                await asyncio.sleep(0.1)
        received = (await federation.office(PROVINCE).get(up.case.case_id)).case
        assert (Custody.OWNED, Stage.FORWARDED) == (Custody(received.custody), Stage(received.stage))
        ends = {head.bureau: head.seq for head in [await federation.office(code).head() for code in (COUNTY, PROVINCE)]}
        await caught_up(federation, ends, SECONDS_MAX)
        async with asyncio.timeout(SECONDS_MAX):
            while (reconciled := await federation.hub().reconcile()).unreachable:  # its channels dial again within 10 s
                await asyncio.sleep(0.5)
        assert [] == list(reconciled.mismatches)
        pairs = await federation.office(COUNTY).reconcile()
        assert [(1, 0)] == [(pair.matched, len(pair.differences)) for pair in pairs]
