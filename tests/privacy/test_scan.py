"""What taxpayers have told is nowhere but in the private store: a federation works, and everything around it is searched.

What is searched: every file that its processes have written (databases with their logs, JetStream's stores, logs,
settings), what they were started with, their metrics, their traces, what refusals say, and every address of a page. So
it is with what comes by gRPC, by the pages and by the door for channels. Each datum is unmistakable, so that whatever is
found is a leak.
"""

import asyncio
import base64
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio

from demo.federation import Federation, part_of
from demo.officers import Officer
from demo.staff import staff_list
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.words import Category, Channel, Disclosure, Role, Satisfaction, Telling
from kuaixiang.facts import national_tree
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import case_pb2
from tests.collector import Collector
from tests.federation.doors import DoorFederation
from tests.privacy.scan import Leak, Scan, forms

HEADQUARTERS, PROVINCE, COUNTY, DOORS = "000000", "110000", "110101", "110102"
"""At `DOORS` officers sign in on its pages, and channels have a door."""
START = datetime(2026, 9, 28, 9, 0, tzinfo=SHANGHAI)

PLANTED = {
    "name": "鹣鲽情深扎染坊",
    "number": make_taxpayer_number("110101", 77_013_907),
    "contact": "13977770913",
    "second contact": "qianbei.zaran@example.com",
    "text": "靛缸作坊的留抵为何迟迟未批",
    "place": "翠微路九十七号院",
    "reference": "REF-PLANT-88012-ZX",
    "told": "已告知靛缸作坊缺一份凭证",
    "result": "靛缸作坊凭证齐全可以办理",
    "remark": "店主对靛缸答复连声称谢",
    "reason": "靛缸用料之争不属本所职责",
    "file": "翠微合同靛缸扫描件",
    "content": "content-of-the-vat-file-zq9-7731",
}
"""What is private, each unlike anything else that a program may write."""
WRONG = {
    "wrong contact": "一三九七七七七零九一三嗯",
    "wrong number": "91110101ZZ7701390Q",
    "long name": "鹣鲽名号过长" * 60,
    "question": "靛缸作坊凭证是否遗失" * 30,
}
"""What is private and refused as it is written; of the long ones the beginning is looked for."""

REGISTRAR = Officer("R01", Role.REGISTRAR, "tax-service")
SERVICE = Officer("T01", Role.TAX_SERVICE, "tax-service")
HANDLER = Officer("H01", Role.HANDLER, "policy")
REGISTER = acts.Register(
    taxpayer_name=PLANTED["name"],
    taxpayer_number=PLANTED["number"],
    contact=PLANTED["contact"],
    text=f"{PLANTED['text']}，可以写信到 {PLANTED['second contact']}。",
    place="110101",
    category=Category.POLICY,
    channel=Channel.HOTLINE,
    channel_reference=PLANTED["reference"],
)
REFUSED_MIN = 12
"""Of the requests below; the others are harmless repetitions."""
ADDRESS = re.compile(r'(?:href|action|src|hx-\w+)="([^"]*)"')


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


@pytest_asyncio.fixture
async def federation(collector: Collector) -> AsyncIterator[DoorFederation]:
    traces = {"traces_endpoint": collector.endpoint, "traces_sample_ratio": 1.0}
    with TemporaryDirectory(prefix="kuaixiang-scan-") as directory:
        codes = (HEADQUARTERS, PROVINCE, COUNTY, DOORS)
        tree = part_of(national_tree(), codes)
        made = DoorFederation(
            Path(directory),
            tree,
            placement=[[code] for code in codes],
            signing_in=DOORS,
            clock_start=START,
            staff=staff_list,
            pages=True,
            node_settings=traces,
            hub_settings=traces,
        )
        async with made:
            yield made


async def work(federation: Federation) -> str:
    """Cases are registered with everything that is private, handled, referred, read and ended; the first one's number."""
    county, province = federation.office(COUNTY), federation.office(PROVINCE)
    content = (PLANTED["content"] * 3).encode()
    attach = acts.Attach(
        digest=sha256(content).hexdigest(),
        name=f"{PLANTED['file']}.txt",
        media_type="text/plain",
        size_bytes=len(content),
    )
    case_id = (await county.do(REGISTRAR, REGISTER, key="planted-1")).case.case_id
    await county.attach(REGISTRAR, attach, content, case_id, key="planted-2")
    told = acts.Forward(telling=Telling.COMPLICATED, told=PLANTED["told"])
    await county.do(REGISTRAR, told, case_id, key="planted-3")
    await county.do(SERVICE, acts.Dispatch(to_department="policy"), case_id, key="planted-4")
    await county.do(HANDLER, acts.Complete(result=PLANTED["result"]), case_id, key="planted-5")
    feedback = acts.GiveFeedback(told_by=Channel.HOTLINE, told=PLANTED["result"])
    await county.do(HANDLER, feedback, case_id, key="planted-6")
    follow_up = acts.FollowUp(satisfaction=Satisfaction.SATISFIED, remark=PLANTED["remark"])
    await county.do(SERVICE, follow_up, case_id, key="planted-7")
    await county.do(SERVICE, acts.WriteOff(), case_id, key="planted-8")
    referred = replace(REGISTER, channel_reference="", channel=Channel.COUNTER)
    second = (await county.do(REGISTRAR, referred, key="planted-9")).case.case_id
    await county.attach(REGISTRAR, attach, content, second, key="planted-10")
    refer = acts.Refer(
        final_bureau=PROVINCE, reason=PLANTED["reason"], telling=Telling.TRANSFERRED, told=PLANTED["told"]
    )
    await county.do(SERVICE, acts.Forward(telling=Telling.COMPLICATED, told=PLANTED["told"]), second, key="planted-11")
    await county.do(SERVICE, refer, second, key="planted-12")
    deadline = asyncio.get_running_loop().time() + 60
    while not [case async for case in province.cases()]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.2)
    await province.do(SERVICE, acts.Return(reason=PLANTED["reason"]), second, key="planted-13")
    assert await county.duplicates(REGISTER)
    await county.attachment(SERVICE, case_id, attach.digest)
    await federation.hub(HEADQUARTERS).find_issues("2026-09-28", "2026-09-28")
    return case_id


async def refusals(federation: Federation, case_id: str) -> list[str]:
    """All that refusals say to requests that have something private in a wrong place or form."""
    county = federation.office(COUNTY)
    new = replace(REGISTER, channel_reference="")
    wrong: list[tuple[Officer, Any, str, str]] = [
        (REGISTRAR, replace(new, contact=WRONG["wrong contact"]), "", "w1"),
        (REGISTRAR, replace(new, taxpayer_number=WRONG["wrong number"]), "", "w2"),
        (REGISTRAR, replace(new, taxpayer_name=WRONG["long name"]), "", "w3"),
        (REGISTRAR, replace(new, place=PLANTED["place"]), "", "w4"),
        (REGISTRAR, replace(new, text=PLANTED["text"] * 2_000), "", "w5"),
        (REGISTRAR, replace(new, channel_reference=PLANTED["reference"] * 50), "", "w6"),
        (REGISTRAR, replace(REGISTER, text=PLANTED["reason"]), "", "planted-1"),
        (Officer(PLANTED["name"], Role.REGISTRAR, "tax-service"), new, "", "w7"),
        (Officer("R01", Role.REGISTRAR, PLANTED["name"]), new, "", "w8"),
        (HANDLER, acts.Complete(result=PLANTED["result"]), case_id, "w9"),
        (HANDLER, acts.Complete(result=PLANTED["result"]), PLANTED["name"], "w10"),
        (SERVICE, acts.Dispatch(to_department=PLANTED["name"]), case_id, "w11"),
        (REGISTRAR, REGISTER, "", PLANTED["name"]),
    ]
    said = []
    for officer, act, subject, key in wrong:
        try:
            await county.do(officer, act, subject, key=key)
        except RemoteRefusal as refused:
            said.append(f"{refused!r} {vars(refused)!r}")
    for search in (WRONG["question"], "鹣", "😀"):
        try:
            _ = [case async for case in county.cases(search=search)]
        except RemoteRefusal as refused:
            said.append(f"{refused!r} {vars(refused)!r}")
    assert len(said) >= REFUSED_MIN
    return said


async def pages(federation: Federation, case_id: str) -> list[str]:
    """Every address on the pages that an officer opens, looks for the taxpayer on, and is refused something on."""
    addresses: list[str] = []

    async def keep(answer: httpx.Response) -> None:
        await answer.aread()
        addresses.extend([str(answer.request.url), answer.headers.get("location", "")])
        addresses.extend(unescape(address) for address in ADDRESS.findall(answer.text))

    desk = federation.node(COUNTY).pages_url
    async with httpx.AsyncClient(base_url=desk, event_hooks={"response": [keep]}, timeout=60) as client:
        officer = {"bureau": COUNTY, "actor": "T01", "department": "tax-service", "role": Role.TAX_SERVICE.name}
        assert 303 == (await client.post("/step-in", data=officer)).status_code
        for address in ("/", f"/cases/{case_id}", "/register", "/search", "/nowhere"):
            await client.get(address)
        form = (await client.get("/search")).text
        csrf = form.partition('name="csrf" value="')[2].partition('"')[0]
        for search in (PLANTED["name"], PLANTED["contact"], WRONG["question"]):
            found = await client.post("/search", data={"csrf": csrf, "search": search})
        found = await client.post("/search", data={"csrf": csrf, "search": PLANTED["name"]})
        assert case_id in found.text
        wrong = {
            "csrf": csrf,
            "taxpayer_name": PLANTED["name"],
            "contact": WRONG["wrong contact"],
            "text": PLANTED["text"],
        }
        assert (await client.post("/register", data=wrong)).status_code >= 400
    return addresses


async def at_the_doors(federation: DoorFederation) -> tuple[str, list[str]]:
    """What is private comes over HTTP, right and wrong; the number of a case of it, and what refusals said."""
    said: list[str] = []

    async def keep(answer: httpx.Response) -> None:
        await answer.aread()
        if answer.status_code >= httpx.codes.BAD_REQUEST and answer.request.url.path.startswith("/v1"):
            said.append(answer.text)

    planted = {"taxpayer_name": PLANTED["name"], "contact": PLANTED["contact"], "text": PLANTED["text"]}
    private = {"x-private": PLANTED["contact"], "user-agent": PLANTED["reference"]}
    async with await federation.browser("R01") as browser:
        form = planted | {"category": str(int(Category.POLICY)), "channel": str(int(Channel.COUNTER))}
        registered = await browser.fill_in("/register", form, private)
        assert 303 == registered.status_code, registered.text
        page = registered.headers["location"]
        assert 200 == (await browser.client.get(page, headers=private)).status_code
        assert (await browser.fill_in("/register", form | {"contact": WRONG["wrong contact"]})).status_code >= 400
        await browser.fill_in("/search", {"search": PLANTED["name"]})
        for address in (f"/cases/{PLANTED['reference']}", f"/{PLANTED['name']}", f"{page}?q={PLANTED['text']}"):
            await browser.client.get(address, headers=private)
    body = planted | {"category": "policy"}
    async with await federation.channel() as channel:
        channel.event_hooks = {"response": [keep]}
        numbered = body | {"channel_reference": PLANTED["reference"]}
        made = await channel.post("/v1/cases", json=numbered, headers=private)
        assert 201 == made.status_code, made.text
        await channel.get(made.headers["location"], headers=private)
        for wrong in (body | {"contact": WRONG["wrong contact"]}, body | {"place": PLANTED["place"]}):
            await channel.post("/v1/cases", json=wrong, headers={"Idempotency-Key": PLANTED["reference"]})
        for address in (f"/v1/cases/{PLANTED['name']}", f"/v1/cases?status={PLANTED['name']}"):
            await channel.get(address, headers=private)
        lines = (json.dumps(one) for one in (body, body | {"contact": WRONG["wrong contact"]}))
        await channel.post("/v1/intakes", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
        asked = {"service_code": "policy", "description": PLANTED["text"], "address_string": PLANTED["place"]}
        await channel.post("/open311/v2/requests.json", data=asked | {"attribute[contact]": WRONG["wrong contact"]})
    async with federation.stranger({"Authorization": f"Bearer {PLANTED['reference']}"}) as stranger:
        stranger.event_hooks = {"response": [keep]}
        await stranger.post("/v1/cases", json=body)
        await stranger.get(f"/v1/cases/{PLANTED['reference']}?api_key={PLANTED['reference']}")
    return page.rpartition("/")[2], said


async def metrics(federation: Federation) -> dict[str, str]:
    async with httpx.AsyncClient() as client:
        return {one.name: (await client.get(one.metrics_url)).text for one in federation.services}


async def private_of(federation: Federation, case_id: str) -> str:
    """What an officer who may reads of the case."""
    request = case_pb2.GetCaseRequest(
        bureau=COUNTY,
        case_id=case_id,
        include_history=True,
        private=int(Disclosure.FULL),  # type: ignore[arg-type]  # the wire's numbers are the domain's
        actor=SERVICE.actor,
        role=int(SERVICE.role),  # type: ignore[arg-type]  # as above
        department=SERVICE.department,
    )
    county: Any = federation.office(COUNTY)
    return str(await county._cases.GetCase(request))


def public_everywhere(federation: Federation, case_id: str) -> bool:
    """Whether a case's number, which is public, stands in a NATS store and in a database."""
    scan = Scan({"case": case_id})
    scan.folder(federation.directory, without=("pycache",))
    return {"nats", "databases"} <= {Path(leak.place).relative_to(federation.directory).parts[0] for leak in scan.leaks}


@pytest.mark.nats
@pytest.mark.slow
async def test_after_a_days_work_what_is_private_is_nowhere_but_in_the_private_store(
    federation: DoorFederation, collector: Collector
) -> None:
    case_id = await work(federation)
    scan = Scan(PLANTED | {name: text[:12] for name, text in WRONG.items()})
    for said in await refusals(federation, case_id):
        scan.content("a refusal", said)
    for address in await pages(federation, case_id):
        scan.content("an address", address)
    by_page, refused_there = await at_the_doors(federation)
    for said in refused_there:
        scan.content("a refusal at the door", said)
    for name, text in (await metrics(federation)).items():
        scan.content(f"metrics of {name}", text)
    # It is there for whoever may read it: else there would be nothing to find anywhere.
    told = await private_of(federation, case_id)
    control = Scan({"number": PLANTED["number"], "contact": PLANTED["contact"], "reference": PLANTED["reference"]})
    control.content("the case", told)
    assert {"number", "contact", "reference"} == {leak.datum for leak in control.leaks}
    # And what is public is found in streams and databases: nothing there is packed so that a leak could hide.
    async with asyncio.timeout(120):  # the last segments are on their way to NATS
        while not await asyncio.to_thread(public_everywhere, federation, case_id):
            await asyncio.sleep(0.5)
    processes = [*(one.process for one in federation.services), *(site.process for site in federation.sites.all)]
    for process in processes:
        scan.process(process.pid, within=federation.directory)
    # Once while all run, with the databases' logs, and once after they have closed them.
    without = ("pycache", "certificates", "authority", "keys")
    scan.folder(federation.directory, without=without)
    await federation.stop()
    scan.folder(federation.directory, without=without)
    # Every call was traced, and a process sends what it has before it ends.
    traced = {one.name for one in collector.spans}
    assert {"RegisterCase", "Offer", "FindIssues"} <= {name.rpartition("/")[2] for name in traced}
    over_http = {"POST /register", "GET /cases/{case_id}", "POST /search", "POST /v1/cases", "GET /v1/cases/{case_id}"}
    assert over_http | {"POST /v1/intakes", "GET"} <= traced
    for body in collector.bodies:
        scan.content("a trace", body)
    numbers = Scan({"case": case_id, "case of a page": by_page})
    for body in collector.bodies:
        numbers.content("a trace", body)
    assert [] == sorted(numbers.leaks)
    assert scan.bytes_read > 1_000_000
    assert [] == sorted(scan.leaks)


@pytest.mark.parametrize("datum", ["name", "contact", "second contact", "reference"])
def test_the_scanner_finds_a_datum_in_every_form_wherever_it_stands(datum: str, tmp_path: Path) -> None:
    text = PLANTED[datum]
    for number, needle in enumerate(forms(text).values()):
        path = tmp_path / f"leak-{number}"
        path.write_bytes(b"x" * 70 + needle + b"y" * 70)
        scan = Scan(PLANTED)
        scan.folder(tmp_path)
        assert {datum} == {leak.datum for leak in scan.leaks}
        path.unlink()


def test_the_scanner_finds_what_other_programs_write(tmp_path: Path) -> None:
    text = PLANTED["text"]
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (a TEXT)")
        connection.execute("INSERT INTO t VALUES (?)", [f"before {text} after"])
    connection.close()
    (tmp_path / "b.log").write_text(f"GET /?{urlencode({'q': 'a ' + text})} 200\n")
    for shift in range(3):
        (tmp_path / f"c{shift}").write_bytes(base64.urlsafe_b64encode(b"z" * shift + text.encode() + b"more"))
    (tmp_path / text).write_text("an innocent file with a telling name")
    scan = Scan(PLANTED)
    scan.folder(tmp_path)
    found = {Path(leak.place.removeprefix("name of ")).name for leak in scan.leaks if leak.datum == "text"}
    assert {"a.db", "b.log", "c0", "c1", "c2", text} == found
    assert Leak(str(tmp_path / "a.db"), "text", "utf-8") in scan.leaks
