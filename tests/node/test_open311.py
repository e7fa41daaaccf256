"""Open311 GeoReport v2: a program of the standard registers and follows requests, in JSON and in XML."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from kuaixiang.domain.authority import NotForToken
from kuaixiang.domain.errors import FieldMalformed, FieldMissing, UnknownCase
from kuaixiang.domain.sign_in import SignInEnded, TokenNotForThis
from kuaixiang.domain.words import Category
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.web.guard import NotUtf8
from kuaixiang.wire.v1 import case_pb2, common_pb2
from node.channels import open311
from node.channels.door import NoSuchAddress, TokenNeeded
from node.channels.open311 import IDS_MAX, NoSuchJurisdiction, NoSuchService, NotAForm
from node.settings import NodeSettings
from tests.node.callers import COUNTY, MORNING, PROVINCE, Callers
from tests.node.gateways import FORM, REGISTER, Gateway, with_gateway
from tests.node.open311_tables import faults

V2 = "/open311/v2"


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: the same service is asked over both databases elsewhere."""
    return f"sqlite:///{tmp_path}/node.db"


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path)


def texts(element: ET.Element) -> dict[str, str]:
    """What the children of an element say."""
    return {child.tag: child.text or "" for child in element}


async def xml(program: httpx.AsyncClient, address: str, **params: str) -> ET.Element:
    answer = await program.get(f"{V2}/{address}", params=params)
    assert 200 == answer.status_code, answer.text
    assert "text/xml; charset=utf-8" == answer.headers["content-type"]
    assert answer.text.startswith("<?xml version='1.0' encoding='utf-8'?>")
    return ET.fromstring(answer.content)  # noqa: S314 - our own answer


async def test_what_may_be_requested_is_told_without_a_token_in_both_formats(gateway: Gateway) -> None:
    async with gateway.client_with() as nobody:
        found = (await nobody.get(f"{V2}/discovery.json")).json()
        endpoint, extended = found["endpoints"]
        assert f"{gateway.base}{V2}" == endpoint["url"] == extended["url"]
        assert ["text/xml", "application/json"] == endpoint["formats"]
        assert ("http://wiki.open311.org/GeoReport_v2", True) == (
            endpoint["specification"],
            "mysociety" in extended["specification"],
        )
        in_xml = await xml(nobody, "discovery.xml")
        assert endpoint["url"] == in_xml.findtext("endpoints/endpoint/url")
        assert ["text/xml", "application/json"] == [
            one.text for one in in_xml.iterfind("endpoints/endpoint[1]/formats/format")
        ]
        services = (await nobody.get(f"{V2}/services.json", params={"jurisdiction_id": COUNTY})).json()
        assert len(Category) == len(services)
        assert {
            "service_code": "policy",
            "service_name": "政策落实",
            "description": "政策落实: preferential policies and how they are carried out",
            "metadata": True,
            "type": "realtime",
            "keywords": "policy",
            "group": "诉求和意见",
        } == services[0]
        in_xml = await xml(nobody, "services.xml")
        assert ("services", "policy", "true") == (
            in_xml.tag,
            in_xml.findtext("service/service_code"),
            in_xml.findtext("service/metadata"),
        )
        definition = (await nobody.get(f"{V2}/services/policy.json")).json()
        assert "policy" == definition["service_code"]
        assert {
            "taxpayer_name": True,
            "contact": True,
            "taxpayer_number": False,
            "channel_reference": False,
        } == {one["code"]: one["required"] for one in definition["attributes"]}
        in_xml = await xml(nobody, "services/policy.xml")
        assert ["taxpayer_name", "contact", "taxpayer_number", "channel_reference"] == [
            one.findtext("code") for one in in_xml.iterfind("attributes/attribute")
        ]


async def test_a_request_is_made_and_followed_and_nothing_private_comes_back(
    gateway: Gateway, callers: Callers
) -> None:
    secret = (await gateway.issue()).secret
    async with gateway.client_with() as program, gateway.client_with(secret) as bearer:
        form = FORM | {"api_key": secret, "jurisdiction_id": COUNTY, "attribute[channel_reference]": "WEB-7"}
        made = await program.post(f"{V2}/requests.json", data=form)
        assert 201 == made.status_code, made.text
        (told,) = made.json()
        assert {"service_request_id", "service_notice", "account_id"} == set(told)
        again = await program.post(f"{V2}/requests.xml", data=form)
        assert 200 == again.status_code
        number = told["service_request_id"]
        assert number == ET.fromstring(again.content).findtext("request/service_request_id")  # noqa: S314
        (request,) = (await program.get(f"{V2}/requests/{number}.json", params={"api_key": secret})).json()
        assert {
            "service_request_id": number,
            "status": "open",
            "status_notes": "已登记",
            "service_name": "政策落实",
            "service_code": "policy",
            "description": "政策落实",
            "agency_responsible": "国家税务总局东城区税务局（110101）",
            "service_notice": None,
            "requested_datetime": "2026-11-23T09:00:00+08:00",
            "updated_datetime": "2026-11-23T09:00:00+08:00",
            "expected_datetime": "2026-11-25T00:00:00+08:00",
            "address": "国家税务总局东城区税务局",
            "address_id": COUNTY,
            "zipcode": None,
            "lat": None,
            "long": None,
            "media_url": None,
        } == request
        in_xml = await xml(bearer, f"requests/{number}.xml")
        assert {field: value or "" for field, value in request.items()} == texts(in_xml[0])
        token = (await bearer.get(f"{V2}/tokens/{number}.json")).json()
        assert [{"service_request_id": number, "token": number}] == token
        assert [request] == (await bearer.get(f"{V2}/requests.json")).json()
    # What was handed in is in the ledger, under the channel that the token is of.
    wanted = case_pb2.GetCaseRequest(
        bureau=COUNTY,
        case_id=number,
        private=common_pb2.DISCLOSURE_MASKED,
        actor="B01",
        role=common_pb2.ROLE_BUREAU_HEAD,
        department="leadership",
    )
    kept = await callers.office().GetCase(wanted, metadata=gateway.signed())
    assert (common_pb2.CHANNEL_WEBSITE, FORM["address_id"], "WEB-7") == (
        kept.case.channel,
        kept.private_view.place,
        kept.private_view.channel_reference,
    )


async def test_the_standards_own_arguments_stand_for_attributes(gateway: Gateway) -> None:
    form = {
        "service_code": "other",
        "description": "窗口排队时间过长，建议增加预约。",
        "lat": "30.25",
        "long": "120.16",
    }
    who = {"first_name": "明", "last_name": "王", "email": "wang@example.org"}
    async with await gateway.client() as program:
        made = await program.post(f"{V2}/requests.json", data=form | who)
        assert 201 == made.status_code, made.text
        for left_out, field in (("email", "contact"), ("description", "text"), ("service_code", "service_code")):
            less = {name: value for name, value in (form | who).items() if name != left_out}
            answer = await program.post(f"{V2}/requests.json", data=less)
            assert 400 == answer.status_code
            assert f"{FieldMissing.__name__}: {field} is required" in answer.json()[0]["description"]


async def test_every_answer_is_as_the_specifications_tables_have_it(
    gateway: Gateway, callers: Callers, clock: SharedClockDriver
) -> None:
    async with await gateway.client() as program:
        number = (await program.post(f"{V2}/requests.json", data=FORM)).json()[0]["service_request_id"]
        closed = (await program.post(f"{V2}/requests.json", data=FORM)).json()[0]["service_request_id"]
        header = case_pb2.ActHeader(
            bureau=COUNTY, case_id=closed, actor="T01", role=common_pb2.ROLE_TAX_SERVICE, department="tax-service"
        )
        signed = await gateway.signed_in("T01")
        await callers.office().WithdrawCase(case_pb2.WithdrawCaseRequest(header=header), metadata=signed)
        # Beyond the published calendar a deadline is told to be provisional.
        clock.advance_to(MORNING + timedelta(days=400))
        late = (await program.post(f"{V2}/requests.json", data=FORM)).json()
        assert late[0]["service_notice"]
        assert [] == faults("posted", late)
        for answer, address in (
            ("discovery", "discovery"),
            ("services", "services"),
            ("definition", "services/policy"),
            ("requests", f"requests/{number}"),
            ("requests", f"requests/{closed}"),
            ("requests", f"requests/{late[0]['service_request_id']}"),
            ("requests", "requests"),
            ("token", f"tokens/{number}"),
            ("updates", "servicerequestupdates"),
            ("errors", "requests/none"),
            ("errors", "services/weather"),
        ):
            told = (await program.get(f"{V2}/{address}.json")).json()
            assert told
            assert [] == faults(answer, told), address


async def test_requests_are_found_by_number_time_kind_and_state(gateway: Gateway, clock: SharedClockDriver) -> None:
    async with await gateway.client() as program, await gateway.client(channel=common_pb2.CHANNEL_HOTLINE) as other:
        numbers = []
        for kind in ("policy", "service"):
            made = await program.post(f"{V2}/requests.json", data=FORM | {"service_code": kind})
            numbers.append(made.json()[0]["service_request_id"])
            clock.advance_to(MORNING + timedelta(hours=1))
        strange = (await other.post(f"{V2}/requests.json", data=FORM)).json()[0]["service_request_id"]

        async def found(**params: str) -> list[str]:
            answer = await program.get(f"{V2}/requests.json", params=params)
            assert 200 == answer.status_code, answer.text
            return [one["service_request_id"] for one in answer.json()]

        first, second = numbers
        assert [second, first] == await found() == await found(status="open,closed")
        assert [] == await found(status="closed")
        assert [first] == await found(service_code="policy")
        assert [second, first] == await found(service_code="policy,service", status="open")
        assert [first] == await found(service_request_id=f"{first},{strange},none", status="closed")
        assert [second] == await found(start_date="2026-11-23T09:30:00+08:00")
        assert [first] == await found(start_date="2026-11-01T00:00:00Z", end_date="2026-11-23T01:00:00Z")


async def test_what_happened_to_requests_is_told_as_updates(
    gateway: Gateway, callers: Callers, clock: SharedClockDriver
) -> None:
    async with await gateway.client() as program, await gateway.client(channel=common_pb2.CHANNEL_HOTLINE) as other:
        number = (await program.post(f"{V2}/requests.json", data=FORM)).json()[0]["service_request_id"]
        await other.post(f"{V2}/requests.json", data=FORM)
        clock.advance_to(MORNING + timedelta(hours=2))
        header = case_pb2.ActHeader(
            bureau=COUNTY, case_id=number, actor="T01", role=common_pb2.ROLE_TAX_SERVICE, department="tax-service"
        )
        withdrawn = case_pb2.WithdrawCaseRequest(header=header, reason="纳税人来电撤回")
        await callers.office().WithdrawCase(withdrawn, metadata=await gateway.signed_in("T01"))
        answer = await program.get(f"{V2}/servicerequestupdates.json")
        assert 200 == answer.status_code, answer.text
        first, last = answer.json()
        assert {
            "update_id": first["update_id"],
            "service_request_id": number,
            "status": "OPEN",
            "updated_datetime": "2026-11-23T09:00:00+08:00",
            "description": "已登记",
            "media_url": None,
        } == first
        assert ("CLOSED", "2026-11-23T11:00:00+08:00", "已撤回") == tuple(
            last[part] for part in ("status", "updated_datetime", "description")
        )
        assert first["update_id"] != last["update_id"]
        told = await xml(program, "servicerequestupdates.xml")
        assert ("service_request_updates", ["request_update"] * 2) == (told.tag, [one.tag for one in told])
        assert {part: value or "" for part, value in last.items()} == texts(told[1])
        since = await program.get(f"{V2}/servicerequestupdates.json", params={"start_date": last["updated_datetime"]})
        assert [last] == since.json()
        before = {"start_date": "2026-11-01T00:00:00Z", "end_date": "2026-11-23T02:59:59Z"}
        assert [first] == (await program.get(f"{V2}/servicerequestupdates.json", params=before)).json()
        assert (
            []
            == (
                await program.get(f"{V2}/servicerequestupdates.json", params={"end_date": "2026-11-01T00:00:00Z"})
            ).json()
        )
        for params, status in (
            ({"jurisdiction_id": PROVINCE}, 403),
            ({"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-11-01T00:00:00Z"}, 400),
        ):
            assert status == (await program.get(f"{V2}/servicerequestupdates.json", params=params)).status_code
        adding = await program.post(f"{V2}/servicerequestupdates.json", data={"service_request_id": number})
        assert (405, NoSuchAddress.__name__) == (adding.status_code, rule_of(adding.json()[0]["description"]))


async def test_an_answer_with_all_updates_that_fit_ends_with_a_whole_second(
    gateway: Gateway, clock: SharedClockDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open311, "UPDATES_MAX", 1)
    monkeypatch.setattr(open311, "PAGE_SIZE_MAX", 1)
    async with await gateway.client() as program:
        for hour in (0, 0, 1):
            clock.advance_to(MORNING + timedelta(hours=hour))
            await program.post(f"{V2}/requests.json", data=FORM)
        answer = (await program.get(f"{V2}/servicerequestupdates.json")).json()
        assert ["2026-11-23T09:00:00+08:00"] * 2 == [one["updated_datetime"] for one in answer]
        rest = {"start_date": "2026-11-23T09:00:01+08:00"}
        assert 1 == len((await program.get(f"{V2}/servicerequestupdates.json", params=rest)).json())


async def test_other_words_under_the_same_reference_are_said_to_be_kept_nowhere(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        form = FORM | {"attribute[channel_reference]": "WEB-9"}
        first = (await program.post(f"{V2}/requests.json", data=form)).json()[0]
        other = await program.post(f"{V2}/requests.json", data=form | {"description": "另一件事"})
        (told,) = other.json()
        assert (200, first["service_request_id"]) == (other.status_code, told["service_request_id"])
        assert told["service_notice"] == open311.OTHER_WORDS
        again = await program.post(f"{V2}/requests.json", data=form)
        assert first == again.json()[0]


async def test_what_is_wrong_is_told_in_the_standards_form(gateway: Gateway) -> None:
    async with (
        await gateway.client() as program,
        await gateway.client(REGISTER) as registers,
        gateway.client_with() as nobody,
        gateway.client_with("kx-channel-x") as unknown,
    ):
        for client, address, params, expected in (
            (nobody, "requests", {}, (403, TokenNeeded.__name__)),
            (unknown, "requests", {}, (403, SignInEnded.__name__)),
            (registers, "requests", {}, (403, NotForToken.__name__)),
            (program, "requests", {"jurisdiction_id": PROVINCE}, (403, TokenNotForThis.__name__)),
            (program, "requests", {"jurisdiction_id": "330106"}, (404, NoSuchJurisdiction.__name__)),
            (nobody, "services", {"jurisdiction_id": "330106"}, (404, NoSuchJurisdiction.__name__)),
            (nobody, "services/weather", {}, (404, NoSuchService.__name__)),
            (program, "requests", {"service_code": "weather"}, (404, NoSuchService.__name__)),
            (program, "requests/none", {}, (404, UnknownCase.__name__)),
            (program, "tokens/none", {}, (404, UnknownCase.__name__)),
            (program, "requests", {"status": "lost"}, (400, FieldMalformed.__name__)),
            (program, "requests", {"start_date": "2026-11-23"}, (400, FieldMalformed.__name__)),
            (
                program,
                "requests",
                {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-11-01T00:00:00Z"},
                (400, FieldMalformed.__name__),
            ),
            (program, "requests", {"end_date": "0001-01-01T00:00:00Z"}, (400, FieldMalformed.__name__)),
            (program, "requests", {"service_request_id": "1," * IDS_MAX}, (400, FieldMalformed.__name__)),
        ):
            assert expected == await refused(client, address, params), (address, params)
        many = await program.post(f"{V2}/requests.json", data={f"attribute[{place}]": "x" for place in range(100)})
        assert (400, NotAForm.__name__) == (many.status_code, rule_of(many.json()[0]["description"]))
        for charset in ("punycode", "undefined", "gbk"):
            kind = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
            odd = await nobody.post(f"{V2}/requests.json", content=b"--x--\r\n", headers=kind)
            assert (400, NotUtf8.__name__) == (odd.status_code, rule_of(odd.json()[0]["description"]))
        strange = await nobody.get(f"{V2}/services.csv")
        assert (404, NoSuchAddress.__name__) == (strange.status_code, rule_of(strange.json()[0]["description"]))


async def test_who_posts_for_another_jurisdiction_is_refused_wherever_it_is_named(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        for address, body, expected in (
            (PROVINCE, "", (403, TokenNotForThis.__name__)),
            ("", PROVINCE, (403, TokenNotForThis.__name__)),
            (PROVINCE, COUNTY, (403, TokenNotForThis.__name__)),
            ("330106", COUNTY, (404, NoSuchJurisdiction.__name__)),
        ):
            answer = await program.post(
                f"{V2}/requests.json", params={"jurisdiction_id": address}, data=FORM | {"jurisdiction_id": body}
            )
            assert expected == (answer.status_code, rule_of(answer.json()[0]["description"])), (address, body)
        assert [] == (await program.get(f"{V2}/requests.json")).json()
        own = await program.post(
            f"{V2}/requests.json", params={"jurisdiction_id": COUNTY}, data=FORM | {"jurisdiction_id": COUNTY}
        )
        assert 201 == own.status_code


async def refused(client: httpx.AsyncClient, address: str, params: Any) -> tuple[int, str]:
    """Status and rule of a refusal, which is the same in both formats."""
    told = await client.get(f"{V2}/{address}.json", params=params)
    ((code, description),) = [one.values() for one in told.json()]
    answer = await client.get(f"{V2}/{address}.xml", params=params)
    in_xml = ET.fromstring(answer.content)  # noqa: S314 - our own answer
    assert ("errors", {"code": str(code), "description": description}) == (in_xml.tag, texts(in_xml[0]))
    assert code == told.status_code == answer.status_code
    return code, rule_of(description)


def rule_of(description: str) -> str:
    return description.partition(":")[0]
