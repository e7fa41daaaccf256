"""Traces of a real federation (county, province, hub, NATS) at a collector that takes them by OTLP over HTTP."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from demo.federation import part_of
from demo.officers import Officer, request_of
from kuaixiang.domain import acts
from kuaixiang.domain.words import Category, Channel, Role, Telling
from kuaixiang.facts import national_tree
from kuaixiang.runtime import pki
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.v1.case_pb2_grpc import CaseServiceStub
from tests.collector import WAIT_SECONDS, Collector, Found, ways
from tests.federation.doors import DoorFederation
from tests.privacy.scan import Scan

PROVINCE, COUNTY = "110000", "110101"
REGISTRAR = Officer("R01", Role.REGISTRAR, "tax-service")
SERVICE = Officer("T01", Role.TAX_SERVICE, "tax-service")
PRIVATE = {
    "name": "鹣鲽情深扎染坊",
    "contact": "13977770913",
    "text": "靛缸作坊的留抵为何迟迟未批",
    "told": "已告知靛缸作坊转上级",
}
TRACE, TERMINAL = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ON_A_PAGE, AT_THE_DOOR, ASKED = "a" * 32, "d" * 32, "f" * 32
CASES = "kuaixiang.wire.v1.CaseService"
OFFER = "kuaixiang.wire.v1.ReferralService/Offer"


@pytest.fixture(scope="module")
def collector() -> Any:
    with Collector() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> AsyncIterator[DoorFederation]:
    # No call begins a trace by itself: what is seen is what callers have asked to be traced.
    traces = {"traces_endpoint": collector.endpoint, "traces_sample_ratio": 0.0}
    async with DoorFederation(
        tmp_path_factory.mktemp("traces") / "federation",
        part_of(national_tree(), ("000000", PROVINCE, COUNTY)),
        placement=[[PROVINCE], [COUNTY]],
        signing_in=COUNTY,
        node_settings=traces,
        hub_settings=traces | {"totals_seconds": 0.2},
    ) as made:
        yield made


async def escalated(federation: DoorFederation, traceparent: str) -> str:
    """A case that the county registers and refers to the province, each call as part of the terminal's trace."""
    county = federation.node(COUNTY)
    name = pki.dns_name("node", COUNTY)
    metadata = (*await federation.signed_in(), *((("traceparent", traceparent),) if traceparent else ()))
    async with open_channel(county.endpoint, name, county.terminal) as channel:
        cases: Any = CaseServiceStub(channel)
        register = acts.Register(
            taxpayer_name=PRIVATE["name"],
            contact=PRIVATE["contact"],
            text=PRIVATE["text"],
            category=Category.POLICY,
            channel=Channel.COUNTER,
        )
        answer = await cases.RegisterCase(request_of(register, COUNTY, REGISTRAR), metadata=metadata, timeout=60)
        case_id = str(answer.case.case_id)
        refer = acts.Refer(final_bureau=PROVINCE, reason="超出权限", telling=Telling.TRANSFERRED, told=PRIVATE["told"])
        await cases.ReferCase(request_of(refer, COUNTY, REGISTRAR, case_id), metadata=metadata, timeout=60)
        return case_id


def traced(spans: list[Found], trace_id: str = TRACE) -> list[Found]:
    return [one for one in spans if one.trace_id == trace_id]


def followed_to_the_end(spans: list[Found], trace_id: str = TRACE, written: int = 4, told: int = 2) -> bool:
    """Whether all of the trace has come: what was written, folded by the hub, of which its totals have told.

    Each process sends its spans when it has some: one that is above others may come after them.
    """
    here, commits = traced(spans, trace_id), {one.span.span_id for one in spans if one.name == "ledger commit"}
    names, known = Counter(one.name for one in here), {one.span.span_id for one in here}
    return (
        names["process kx.v1.journal.*.*"] >= written
        and names["publish kx.v1.totals.*"] >= told
        and {one.span.parent_span_id for one in here} <= known | {bytes.fromhex(TERMINAL)}
        and {link.span_id for one in here for link in one.span.links} <= commits
    )


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_one_trace_goes_from_the_countys_register_to_the_national_totals(
    federation: DoorFederation, collector: Collector
) -> None:
    case_id = await escalated(federation, f"00-{TRACE}-{TERMINAL}-01")
    # Registered, offered, received at the province, released at the county: the first two change the nation's figures.
    spans = await asyncio.to_thread(collector.wait_for, followed_to_the_end)
    here = traced(spans)

    to_the_nation = ("publish kx.v1.journal.*.*", "process kx.v1.journal.*.*", "publish kx.v1.totals.*")

    def on(way: tuple[str, ...], *names: str) -> tuple[str, ...]:
        return (*way, *names)

    found = ways(here)
    register = (f"{COUNTY} {CASES}/RegisterCase", f"{COUNTY} ledger write")
    refer = (f"{COUNTY} {CASES}/ReferCase", f"{COUNTY} ledger write")
    deliver = on(refer, f"{COUNTY} deliver")
    receive = on(deliver, f"{COUNTY} {OFFER}", f"{PROVINCE} {OFFER}", f"{PROVINCE} ledger write")
    release = on(deliver, f"{COUNTY} ledger write")
    for way, bureau in ((register, COUNTY), (refer, COUNTY), (receive, PROVINCE), (release, COUNTY)):
        publish, process, totals = to_the_nation
        folded = on(way, f"{bureau} {publish}", f"000000 {process}")
        assert folded in found, sorted(found)
        assert way not in {register, refer} or on(folded, f"000000 {totals}") in found, sorted(found)

    assert {TERMINAL} == {one.span.parent_span_id.hex() for one in here if one.name.startswith(CASES)}
    # What acts share is a trace of its own, which they lead to and which leads to them.
    commits = {one.span.span_id.hex(): one for one in spans if one.name == "ledger commit"}
    for write in (one for one in here if one.name == "ledger write"):
        assert [write.span.parent_span_id.hex()] == [
            asked for commit in write.links for asked in commits[commit].links & {write.span.parent_span_id.hex()}
        ]

    kinds = {(one.name, one.kind) for one in here if one.name == OFFER}
    assert {(OFFER, "client"), (OFFER, "server")} == kinds
    (offer,) = [one for one in here if one.name == OFFER and one.kind == "server"]
    expected = {"rpc.system.name": "grpc", "rpc.method": OFFER, "rpc.response.status_code": "OK"}
    assert expected == offer.attributes
    published = next(one for one in here if one.name == to_the_nation[0] and one.instance == PROVINCE)
    assert "producer" == published.kind
    assert {
        "messaging.system": "nats",
        "messaging.destination.name": f"kx.v1.journal.{PROVINCE}.{PROVINCE}",
        "messaging.destination.template": "kx.v1.journal.*.*",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }.items() <= published.attributes.items()
    assert published.attributes["messaging.message.id"].startswith(f"{PROVINCE}.1.")
    assert {"consumer"} == {one.kind for one in here if one.name == to_the_nation[1]}

    # The trace names neither the case nor anything that was written; the log says which lines belong to it.
    scan = Scan(PRIVATE | {"case": case_id})
    for body in collector.bodies:
        scan.content("a trace", body)
    assert [] == sorted(scan.leaks)
    assert scan.bytes_read > 1_000


def saying(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{TERMINAL}-01"}


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_one_trace_goes_from_a_page_and_one_from_the_door_for_channels_to_the_national_totals(
    federation: DoorFederation, collector: Collector
) -> None:
    registration = {"taxpayer_name": PRIVATE["name"], "contact": PRIVATE["contact"], "text": PRIVATE["text"]}
    on_form = {"category": str(int(Category.POLICY)), "channel": str(int(Channel.COUNTER))}
    async with await federation.browser("R01") as browser:
        registered = await browser.fill_in("/register", registration | on_form, saying(ON_A_PAGE))
        page = registered.headers["location"]
        shown = await browser.client.get(f"{page}?look=for-{PRIVATE['contact']}", headers=saying(ON_A_PAGE))
        # What a page asks by itself is of no trace, whatever it says.
        await browser.client.get(page, headers=saying(ON_A_PAGE) | {"kx-by-itself": "changed"})
    assert 200 == shown.status_code
    async with await federation.channel() as channel:
        body = registration | {"category": "policy"}
        made = await channel.post("/v1/cases", json=body, headers=saying(AT_THE_DOOR) | {"Idempotency-Key": "once"})
        assert 201 == made.status_code, made.text
        assert 200 == (await channel.get(made.headers["location"], headers=saying(AT_THE_DOOR))).status_code
        wrong = await channel.post("/v1/cases", json={"text": ""}, headers=saying(AT_THE_DOOR))
        assert 422 == wrong.status_code

    def complete(spans: list[Found]) -> bool:
        return all(followed_to_the_end(spans, one, written=1, told=1) for one in (ON_A_PAGE, AT_THE_DOOR))

    spans = await asyncio.to_thread(collector.wait_for, complete)
    for trace_id, request in ((ON_A_PAGE, "POST /register"), (AT_THE_DOOR, "POST /v1/cases")):
        found = ways(traced(spans, trace_id))
        write = (f"{COUNTY} {request}", f"{COUNTY} ledger write")
        published = (*write, f"{COUNTY} publish kx.v1.journal.*.*", "000000 process kx.v1.journal.*.*")
        assert (*published, "000000 publish kx.v1.totals.*") in found, sorted(found)

    def answered(trace_id: str) -> list[tuple[str, dict[str, Any]]]:
        return [(one.name, one.attributes) for one in traced(spans, trace_id) if one.kind == "server"]

    def of(method: str, route: str, status: int, **more: str) -> tuple[str, dict[str, Any]]:
        said = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        return f"{method} {route}", {"url.scheme": "http", **said, **more}

    assert [of("POST", "/register", 303), of("GET", "/cases/{case_id}", 200)] == answered(ON_A_PAGE)
    refused = of("POST", "/v1/cases", 422, **{"error.type": wrong.json()["rule"]})
    at_the_door = [of("POST", "/v1/cases", 201), of("GET", "/v1/cases/{case_id}", 200), refused]
    assert at_the_door == answered(AT_THE_DOOR)

    # Where the time of a page went: what was read, by which function, and how long it took to make the page.
    page_parts = [one for one in ways(traced(spans, ON_A_PAGE)) if one[0] == f"{COUNTY} GET /cases/{{case_id}}"]
    assert {f"{COUNTY} database read", f"{COUNTY} render page"} <= {part for way in page_parts for part in way}
    reads = {one.attributes["code.function.name"] for one in traced(spans, ON_A_PAGE) if one.name == "database read"}
    assert {"node.ledger.queries.private_of", "node.ledger.queries.histories"} <= reads
    (posted,) = [one for one in traced(spans, ON_A_PAGE) if one.name == "POST /register"]
    assert ["request.received", "response.begun"] == [event.name for event in posted.span.events]

    numbers = {"on the page": page.rpartition("/")[2], "at the door": made.headers["location"].rpartition("/")[2]}
    scan = Scan(PRIVATE | numbers)
    for body_sent in collector.bodies:
        scan.content("a trace", body_sent)
    assert [] == sorted(scan.leaks)


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_stranger_says_of_traces_is_believed_at_no_door(
    federation: DoorFederation, collector: Collector
) -> None:
    strange = "5" * 32
    async with await federation.browser() as browser:
        for page in ("/sign-in", "/", "/cases/110101-2026-1", "/nowhere"):
            await browser.client.get(page, headers=saying(strange))
    forged = {"Authorization": "Bearer kx-channel-forged"}
    for headers in ({}, forged):
        async with federation.stranger(headers) as program:
            await program.get("/v1/categories", headers=saying(strange))
            await program.post("/v1/cases", json={}, headers=saying(strange))
            await program.get("/open311/v2/services.json", headers=saying(strange))
    async with await federation.channel() as channel:
        await channel.get("/v1/categories", headers=saying(ASKED))
    spans = await asyncio.to_thread(collector.wait_for, lambda spans: bool(traced(spans, ASKED)))
    assert [] == traced(spans, strange)
    assert {one.trace_id for one in spans if one.kind == "server"} <= {TRACE, ON_A_PAGE, AT_THE_DOOR, ASKED}


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_caller_does_not_have_traced_is_traced_nowhere(
    federation: DoorFederation, collector: Collector
) -> None:
    unsampled = f"00-{'1' * 32}-{'2' * 16}-00"
    await escalated(federation, unsampled)
    await escalated(federation, "")
    last = "e" * 32
    await escalated(federation, f"00-{last}-{TERMINAL}-01")
    spans = await asyncio.to_thread(collector.wait_for, lambda spans: followed_to_the_end(spans, last))
    begun = {TRACE, ON_A_PAGE, AT_THE_DOOR, ASKED, last}
    assert begun >= {one.trace_id for one in spans if one.name != "ledger commit"}


@pytest.mark.nats
@pytest.mark.asyncio(loop_scope="module")
async def test_without_its_collector_a_federation_goes_on_and_says_so_once(
    federation: DoorFederation, collector: Collector
) -> None:
    collector.close()
    county = federation.node(COUNTY)

    def said() -> int:
        return county.process.log.read_text("utf-8").count('"traces.lost"')

    numbers: set[str] = set()
    async with asyncio.timeout(WAIT_SECONDS):
        while len(numbers) < 3 or not said():
            numbers.add(await escalated(federation, f"00-{TRACE}-{TERMINAL}-01"))
    assert 1 == said()
    async with httpx.AsyncClient(timeout=60) as client:
        metrics = (await client.get(county.metrics_url)).text
    assert re.search(r'^kx_trace_spans_total\{result="lost"\} [1-9]', metrics, re.MULTILINE)
