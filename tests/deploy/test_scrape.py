"""What a node and a hub at work show to Prometheus: few series, bounded labels, metrics as they should be named."""

import asyncio
import re
import subprocess
from datetime import datetime
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from demo.federation import Federation, Service, part_of
from demo.mishaps import caught_up
from demo.officers import Officer
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import Channel, ClockKind, Custody, Light, ReferralKind, Refusal, Role, Satisfaction, Stage
from kuaixiang.domain.words import Telling as Told
from kuaixiang.facts import national_tree
from node.ledger.counting import SERIES_MAX, word
from tests.registering import REGISTRAR, registration
from tests.services import Monitors

METRICS = Path(__file__).resolve().parents[2] / "docs" / "METRICS.md"
MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS, PROVINCE, COUNTY = "000000", "110000", "110101"
TAX_SERVICE = Officer("T01", Role.TAX_SERVICE, "tax-service")
HANDLER = Officer("H01", Role.HANDLER, "policy")
SECONDS_MAX = 120.0

ENUMERATIONS = {
    "channel": set(map(word, Channel)),
    "stage": set(map(word, Stage)),
    "light": set(map(word, Light)),
    "clock": set(map(word, ClockKind)),
    "direction": set(map(word, ReferralKind)),
    "satisfaction": set(map(word, Satisfaction)),
    "reason": set(map(word, Refusal)),
    "way": {"answered_on_the_spot", "completed", "withdrawn", "reconsideration"},
    "by": {"peer", "here"},
    "step": {"issued", "received", "acknowledged", "answered", "returned", "closed", "cancelled"},
    "code": {code.name for code in grpc.StatusCode},
}
FORMS = {
    "bureau": r"\d{6}",
    "branch": r"\d{6}",
    "le": r"[0-9.e+-]+|\+Inf",
    "method": r"[A-Za-z]+",
    "version": r"[\w.-]{1,40}",
    "connection": r"(?:node|hub)[.-]\d{6}|[a-z]+",
    "domain": r"hq|p\d{6}",
}
"""Of other labels every value is a word: neither a number of a case or a taxpayer, nor a name, is one."""
A_WORD = r"[a-z]+(?:[_-][a-z]+){0,4}"


async def work(federation: Federation) -> None:
    """Cases that are answered, handled, followed up and handed up at a county."""
    county = federation.office(COUNTY)
    spot = await county.do(REGISTRAR, registration("spot"), key="spot")
    await county.do(REGISTRAR, acts.AnswerOnTheSpot(answer="不需要"), spot.case.case_id, key="answered")
    handled = await county.do(REGISTRAR, registration("handled"), key="handled")
    for officer, act in (
        (REGISTRAR, acts.Forward(telling=Told.TRANSFERRED, told="已转纳税服务部门")),
        (TAX_SERVICE, acts.Dispatch(to_department="policy")),
        (HANDLER, acts.Complete(result="可以享受免税")),
        (HANDLER, acts.GiveFeedback(told_by=Channel.HOTLINE, told="可以享受免税")),
        (TAX_SERVICE, acts.FollowUp(satisfaction=Satisfaction.SATISFIED)),
    ):
        await county.do(officer, act, handled.case.case_id, key=type(act).__name__)
    await county.do(REGISTRAR, registration("open"), key="open")
    up = await county.do(REGISTRAR, registration("up"), key="up")
    escalation = acts.Refer(
        final_bureau=PROVINCE, reason="涉及政策口径", telling=Told.COMPLICATED, told="情况复杂，已告知"
    )
    await county.do(REGISTRAR, escalation, up.case.case_id, key="refer")
    async with asyncio.timeout(SECONDS_MAX):
        while Custody((await county.get(up.case.case_id)).case.custody) is not Custody.RELEASED:
            await asyncio.sleep(0.1)
    ends = {head.bureau: head.seq for head in [await federation.office(code).head() for code in (COUNTY, PROVINCE)]}
    await caught_up(federation, ends, SECONDS_MAX)


async def scraped(service: Service) -> str:
    def read() -> str:
        with urlopen(service.metrics_url, timeout=60) as answer:
            return str(answer.read(), "utf-8")

    return await asyncio.to_thread(read)


async def shown(service: Service, sample: str) -> str:
    """What the service shows once it shows that sample; those that are looked at every minute have their time."""
    async with asyncio.timeout(SECONDS_MAX):
        while sample not in (text := await scraped(service)):
            await asyncio.sleep(0.5)
    return text


def check(text: str, monitors: Monitors, service: Service) -> None:
    """Holds one scrape to the rules."""
    linted = subprocess.run(
        [monitors.promtool, "check", "metrics"], check=False, input=text, capture_output=True, text=True, timeout=120
    )
    assert (0, "") == (linted.returncode, linted.stdout + linted.stderr)
    documented = set(re.findall(r"^\| `(kx_\w+)` \|", METRICS.read_text("utf-8"), re.MULTILINE))
    of_bureaus: dict[str, int] = {}
    total = 0
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("kx_"):
            continue
        assert {family.name, f"{family.name}_total"} & documented, family.name
        for sample in family.samples:
            total += 1
            for label, value in sample.labels.items():
                if label in ENUMERATIONS:
                    assert value in ENUMERATIONS[label], sample
                else:
                    assert re.fullmatch(FORMS.get(label, A_WORD), value), sample
            if "bureau" in sample.labels:
                bureau = sample.labels["bureau"]
                assert bureau in service.codes, sample
                of_bureaus[bureau] = of_bureaus.get(bureau, 0) + 1
    assert max(of_bureaus.values(), default=0) <= SERIES_MAX
    assert total <= SERIES_MAX * len(service.codes)
    if service.kind == "hub":
        assert {} == of_bureaus


@pytest.mark.nats
@pytest.mark.slow
async def test_a_node_and_a_hub_at_work_show_few_series_with_bounded_labels_and_all_documented(
    tmp_path: Path, monitors: Monitors
) -> None:
    async with Federation(tmp_path, part_of(national_tree(), [COUNTY]), clock_start=MONDAY) as federation:
        await work(federation)
        county = await shown(
            federation.node(COUNTY), 'kx_cases_open{bureau="110101",light="due_soon",stage="registered"} 1.0'
        )
        for sample in (
            'kx_cases_registered_total{bureau="110101",channel="counter"} 4.0',
            'kx_cases_closed_total{bureau="110101",way="completed"} 1.0',
            'kx_cases_closed_total{bureau="110101",way="answered_on_the_spot"} 1.0',
            'kx_follow_ups_total{bureau="110101",satisfaction="satisfied"} 1.0',
            'kx_referrals_total{bureau="110101",direction="escalate",result="released"} 1.0',
            'kx_referrals_total{bureau="110000",direction="escalate",result="received"} 1.0',
            'kx_deadlines_missed_total{bureau="110101",clock="handle"} 0.0',
            'kx_deadlines_due_total{bureau="110101",clock="handle"} 1.0',
            "kx_nats_leaf_links 1.0",
            "kx_nats_leaf_links_expected 1.0",
        ):
            assert sample in county, sample
        hub = await shown(federation.hubs[0], 'kx_hub_cases_open{branch="110000",light="in_time"} ')
        check(county, monitors, federation.node(COUNTY))
        check(await scraped(federation.node(HEADQUARTERS)), monitors, federation.node(HEADQUARTERS))
        check(hub, monitors, federation.hubs[0])
