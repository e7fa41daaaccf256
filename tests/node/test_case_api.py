"""The door for channels in JSON: a program with a token registers and follows its own cases, and nothing else."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from kuaixiang.domain.authority import NotForToken
from kuaixiang.domain.errors import (
    CannotLink,
    FieldMalformed,
    FieldMissing,
    KeyReused,
    RoleNotHeld,
    UnknownCase,
)
from kuaixiang.domain.sign_in import SignInEnded, TokenNotForThis
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.limits import TooManyCalls
from kuaixiang.runtime.settings import WrongSetting, read_settings
from kuaixiang.web.guard import BodyTooLarge
from kuaixiang.wire.v1 import case_pb2, channel_pb2, common_pb2
from node import cases, service
from node.archiving import archive_year
from node.cases import CaseServicer
from node.channels.case_api import ChannelServicer
from node.channels.door import CannotAnswer, NoSuchAddress, TokenNeeded
from node.channels.gateway import NotJson
from node.channels.messages import FieldsUnknown
from node.channels.requests import ChannelNotNamed, NotSafeToRepeat
from node.ledger import changes
from node.ledger.ledger import Ledger
from node.settings import NodeSettings
from tests.node.callers import COUNTY, MORNING, PROVINCE, Callers
from tests.node.gateways import REGISTER, REQUEST, STATUS, Gateway, with_gateway
from tests.node.test_sign_in import STAFF

NEXT_YEAR = datetime(2027, 1, 10, 2, tzinfo=UTC)
GUIDE = Path(__file__).parents[2] / "docs" / "CHANNELS.md"


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path)


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, rule and field of a refusal, which says what is wrong and what to do in both languages."""
    told = answer.json()
    assert "application/problem+json" == answer.headers["content-type"]
    assert answer.status_code == told["status"]
    assert all(told[part] for part in ("detail", "detail_chinese", "remedy", "remedy_chinese"))
    return answer.status_code, told["rule"], told["field"]


async def test_a_case_is_registered_once_and_followed_until_it_is_answered(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        first = await program.post("/v1/cases", json=REQUEST, headers=keyed("a1"))
        assert 201 == first.status_code, first.text
        case = first.json()
        assert f"/v1/cases/{case['case_id']}" == first.headers["location"]
        assert {"code": COUNTY, "name": "国家税务总局东城区税务局"} == case["bureau"] == case["custodian"]
        assert ("open", "registered", "已登记", "website", "policy") == tuple(
            case[part] for part in ("status", "stage", "stage_name", "channel", "category")
        )
        assert {
            "clock": "forward",
            "due_at": "2026-11-25T00:00:00+08:00",
            "provisional": False,
            "overdue": False,
        } == case["deadline"]
        again = await program.post("/v1/cases", json=REQUEST, headers=keyed("a1"))
        assert (200, case["case_id"]) == (again.status_code, again.json()["case_id"])
        for private in ("taxpayer_name", "contact", "text"):
            assert REQUEST[private] not in first.text
        followed = await program.get(f"/v1/cases/{case['case_id']}")
        assert (200, case) == (followed.status_code, followed.json())
        by_reference = REQUEST | {"channel_reference": "WEB-7"}
        other = [(await program.post("/v1/cases", json=by_reference)).json()["case_id"] for _ in range(2)]
        assert other[0] == other[1] != case["case_id"]
        listed = (await program.get("/v1/cases", params={"status": "open", "page_size": 1})).json()
        rest = (await program.get("/v1/cases", params={"page_token": listed["next_page_token"]})).json()
        assert {case["case_id"], other[0]} == {one["case_id"] for one in listed["cases"] + rest["cases"]}
        assert [] == (await program.get("/v1/cases", params={"status": "closed"})).json()["cases"]


async def test_what_is_wrong_is_told_by_field_and_rule_and_nothing_is_stored(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        for body, more, expected in (
            (REQUEST | {"contact": "12"}, keyed("b1"), (422, FieldMalformed.__name__, "contact")),
            (REQUEST | {"text": ""}, keyed("b2"), (422, FieldMissing.__name__, "text")),
            (REQUEST | {"category": "weather"}, keyed("b3"), (422, FieldMalformed.__name__, "category")),
            (REQUEST | {"category": ""}, keyed("b4"), (422, FieldMissing.__name__, "category")),
            (REQUEST | {"subject": "x"}, keyed("b5"), (422, FieldsUnknown.__name__, "")),
            (REQUEST | {"text": 7}, keyed("b6"), (422, FieldMalformed.__name__, "text")),
            (REQUEST | {"occurred_at": "yesterday"}, keyed("b8"), (422, FieldMalformed.__name__, "occurred_at")),
            (REQUEST, keyed("a b"), (422, FieldMalformed.__name__, "Idempotency-Key")),
            (REQUEST, {}, (422, NotSafeToRepeat.__name__, "channel_reference")),
            (["a", "list"], keyed("b9"), (422, NotJson.__name__, "")),
            (REQUEST | {"bureau": PROVINCE}, keyed("b10"), (403, TokenNotForThis.__name__, "bureau")),
            (REQUEST | {"channel": "hotline"}, keyed("b11"), (403, TokenNotForThis.__name__, "channel")),
            (REQUEST | {"actor": "R01"}, keyed("b12"), (403, RoleNotHeld.__name__, "role")),
            (REQUEST | {"note": "x" * 300_000}, keyed("b13"), (422, BodyTooLarge.__name__, "")),
        ):
            answer = await program.post("/v1/cases", json=body, headers=more)
            assert expected == problem(answer), answer.text
        half = json.dumps(REQUEST | {"text": "\ud83d"})
        typed = keyed("b7") | {"content-type": "application/json"}
        refused = await program.post("/v1/cases", content=half, headers=typed)
        assert (422, FieldMalformed.__name__, "text") == problem(refused)
        form = await program.post("/v1/cases", data=REQUEST, headers=keyed("b14"))
        assert (422, NotJson.__name__, "") == problem(form)
        assert [] == (await program.get("/v1/cases")).json()["cases"]
        assert (404, UnknownCase.__name__, "case_id") == problem(await program.get("/v1/cases/none"))
        assert (404, NoSuchAddress.__name__, "") == problem(await program.get("/v2/cases"))
        assert (405, NoSuchAddress.__name__, "") == problem(await program.delete("/v1/cases"))
        await program.post("/v1/cases", json=REQUEST, headers=keyed("c1"))
        other = await program.post("/v1/cases", json=REQUEST | {"note": "more"}, headers=keyed("c1"))
        assert (409, KeyReused.__name__) == problem(other)[:2]


async def test_without_a_good_token_nothing_is_told_and_a_token_is_good_for_its_own_alone(gateway: Gateway) -> None:
    issued = await gateway.issue()
    async with gateway.client_with(issued.secret) as program:
        own = (await program.post("/v1/cases", json=REQUEST, headers=keyed("a1"))).json()["case_id"]
        asked = f"/v1/cases/{own}"
        async with gateway.client_with() as nobody, gateway.client_with("kx-session-x") as officer:
            for client, rule in ((nobody, TokenNeeded), (officer, SignInEnded)):
                answer = await client.get(asked)
                assert (401, rule.__name__) == problem(answer)[:2]
                assert answer.headers["www-authenticate"].startswith("Bearer")
            assert 200 == (await nobody.get(asked, auth=("website", issued.secret))).status_code
        async with await gateway.client(channel=common_pb2.CHANNEL_HOTLINE) as hotline:
            assert (403, TokenNotForThis.__name__) == problem(await hotline.get(asked))[:2]
            assert [] == (await hotline.get("/v1/cases")).json()["cases"]
        async with await gateway.client(REGISTER) as registers, await gateway.client(STATUS) as follows:
            assert (403, NotForToken.__name__) == problem(await registers.get(asked))[:2]
            assert (403, NotForToken.__name__) == problem(await registers.get("/v1/cases"))[:2]
            refused = await follows.post("/v1/cases", json=REQUEST, headers=keyed("a2"))
            assert (403, NotForToken.__name__) == problem(refused)[:2]
            assert 200 == (await follows.get(asked)).status_code
        await gateway.revoke(issued.token.token_id)
        assert (401, SignInEnded.__name__) == problem(await program.get(asked))[:2]


async def test_the_same_reference_with_other_words_is_the_first_case_and_said_to_be(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        by_reference = REQUEST | {"channel_reference": "WEB-8"}
        first = await program.post("/v1/cases", json=by_reference)
        for change, said in (
            ({}, None),
            ({"text": "另一件事"}, "true"),
            ({"contact": "15400005678"}, "true"),
            ({"category": "service"}, "true"),
            ({"occurred_at": "2026-11-23T08:59:00+08:00"}, None),
        ):
            again = await program.post("/v1/cases", json=by_reference | change)
            assert (200, first.json(), said) == (
                again.status_code,
                again.json(),
                again.headers.get("registered-other-words"),
            ), change


async def test_a_call_that_forgets_to_ask_the_gate_answers_nobody_without_a_token(
    settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgets(*_: Any) -> Any:
        return channel_pb2.ChannelServiceListCasesResponse()

    monkeypatch.setattr(ChannelServicer, "ListCases", forgets)
    async with service.running(settings) as running:
        callers = Callers(running.port, tmp_path)
        gateway = Gateway(running, callers)
        async with gateway.client_with() as nobody, gateway.client_with("kx-channel-x") as stranger:
            assert (401, TokenNeeded.__name__) == problem(await nobody.get("/v1/cases"))[:2]
            assert (401, SignInEnded.__name__) == problem(await stranger.get("/v1/cases"))[:2]
            assert 200 == (await nobody.get("/v1/categories")).status_code
        await callers.close()


async def test_a_channel_joins_no_case_of_another_channel(gateway: Gateway) -> None:
    async with (
        await gateway.client() as program,
        await gateway.client(channel=common_pb2.CHANNEL_HOTLINE) as hotline,
    ):
        strange = (await hotline.post("/v1/cases", json=REQUEST, headers=keyed("l1"))).json()["case_id"]
        own = (await program.post("/v1/cases", json=REQUEST, headers=keyed("l2"))).json()["case_id"]
        for lead, expected in (
            (strange, (403, TokenNotForThis.__name__, "lead_case_id")),
            ("none", (422, CannotLink.__name__, "lead_case_id")),
        ):
            refused = await program.post("/v1/cases", json=REQUEST | {"lead_case_id": lead}, headers=keyed("l3"))
            assert expected == problem(refused)
        joined = await program.post("/v1/cases", json=REQUEST | {"lead_case_id": own}, headers=keyed("l4"))
        assert 201 == joined.status_code, joined.text
        assert 2 == len((await program.get("/v1/cases")).json()["cases"])


async def test_what_happened_is_told_in_the_order_of_recording_in_pages(
    gateway: Gateway, callers: Callers, clock: SharedClockDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pages end where so many entries have been looked at, whosever they are.
    monkeypatch.setattr(changes, "ENTRIES_LOOKED_AT_MAX", 2)
    async with (
        await gateway.client() as program,
        await gateway.client(channel=common_pb2.CHANNEL_HOTLINE) as hotline,
    ):
        numbers = [(await program.post("/v1/cases", json=REQUEST, headers=keyed("h0"))).json()["case_id"]]
        for number in range(5):
            await hotline.post("/v1/cases", json=REQUEST, headers=keyed(f"s{number}"))
        clock.advance_to(MORNING + timedelta(hours=2))
        numbers.append((await program.post("/v1/cases", json=REQUEST, headers=keyed("h1"))).json()["case_id"])

        async def told(**asked: Any) -> list[dict[str, Any]]:
            found, token = [], ""
            while True:
                answer = await program.get("/v1/changes", params=asked | {"page_token": token})
                assert 200 == answer.status_code, answer.text
                page = answer.json()
                found += page["changes"]
                token = page["next_page_token"]
                if not token:
                    return found

        every = await told()
        assert numbers == [one["case_id"] for one in every]
        assert {
            "change_id": every[0]["change_id"],
            "case_id": numbers[0],
            "status": "open",
            "stage": "registered",
            "stage_name": "已登记",
            "recorded_at": "2026-11-23T09:00:00+08:00",
        } == every[0]
        assert every == await told(page_size=1)
        assert every[1:] == await told(recorded_from="2026-11-23T09:00:01+08:00")
        assert every[:1] == await told(recorded_before="2026-11-23T11:00:00+08:00")
        assert [] == await told(recorded_before="2026-11-23T09:00:00+08:00")
        wrong = await program.get("/v1/changes", params={"page_token": "x"})
        assert (422, FieldMalformed.__name__, "page_token") == problem(wrong)
        private = (await program.get("/v1/changes")).text
        assert not [word for word in REQUEST.values() if word in private and word != "policy"]


async def test_a_fault_of_the_service_is_told_as_one_and_its_text_kept(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError("a secret of the service")

    monkeypatch.setattr(CaseServicer, "GetCase", fails)
    async with await gateway.client() as program:
        answer = await program.get("/v1/cases/1")
        assert (500, CannotAnswer.__name__, "") == problem(answer)
        in_xml = await program.get("/open311/v2/requests/1.xml")
        assert 500 == in_xml.status_code
        assert "secret" not in answer.text + in_xml.text


async def test_what_the_guide_shows_is_registered(gateway: Gateway) -> None:
    as_json, as_table, as_form = re.findall(r"```http\n(.*?)\n\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    issued = await gateway.issue()
    async with gateway.client_with(issued.secret) as program, gateway.client_with() as open311:
        for client, (head, body), status in (
            (program, as_json, 201),
            (program, as_table, 200),
            (open311, as_form, 201),
        ):
            first, *headers = head.splitlines()
            method, address = first.split()
            sent = body.replace("kx-channel-…", issued.secret).strip().encode()
            answer = await client.request(
                method, address, content=sent, headers=dict(line.split(": ") for line in headers)
            )
            assert status == answer.status_code, answer.text
            assert '"result":"refused"' not in answer.text


def test_a_gateway_without_sign_in_is_refused_at_the_start(settings: NodeSettings) -> None:
    believed = settings.model_dump() | {"users": None, "staff": None}
    with pytest.raises(WrongSetting, match=r"gateway.*nobody signs in"):
        read_settings(NodeSettings, **believed)


async def test_who_asks_too_much_is_told_when_to_ask_again(settings: NodeSettings, tmp_path: Path) -> None:
    few: Any = settings.model_copy(update={"token_calls_per_second": 0.02, "page_requests_per_second": 0.02})
    async with service.running(few) as node:
        callers = Callers(node.port, tmp_path)
        gateway = Gateway(node, callers)
        async with await gateway.client() as program, gateway.client_with() as nobody:
            for client, good in ((program, 200), (nobody, 401)):
                answers = [await client.get("/v1/cases") for _ in range(2)]
                assert good == answers[0].status_code
                assert (429, TooManyCalls.__name__) == problem(answers[1])[:2]
                assert 1 <= int(answers[1].headers["retry-after"]) <= 50
        await callers.close()


async def test_a_token_is_counted_also_where_nothing_is_asked_of_the_ledger(
    settings: NodeSettings, tmp_path: Path
) -> None:
    few: Any = settings.model_copy(update={"token_calls_per_second": 0.02})
    async with service.running(few) as node:
        callers = Callers(node.port, tmp_path)
        for address in ("/v1/openapi.json", "/v1/categories", "/open311/v2/services.json", "/v1/nothing"):
            # A leader who has signed in anew each time is within his own limits.
            async with await Gateway(node, callers).client() as program:
                first, second = [await program.get(address) for _ in range(2)]
                assert first.status_code in {200, 404}
                assert 429 == second.status_code, address
                assert TooManyCalls.__name__ in second.text
        async with await Gateway(node, callers).client() as program:
            typed = {"content-type": "application/json"}
            answers = [await program.post("/v1/cases", content=b"[" * 9, headers=typed) for _ in range(2)]
            assert [NotJson.__name__, TooManyCalls.__name__] == [problem(answer)[1] for answer in answers]
        await callers.close()


async def test_the_same_key_is_the_same_case_after_the_list_of_staff_has_changed(
    settings: NodeSettings,
    node: service.Running,
    gateway: Gateway,
    callers: Callers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.staff is not None
    async with await gateway.client() as program:
        made = await program.post("/v1/cases", json=REQUEST, headers=keyed("e1"))
        with monkeypatch.context() as earlier:
            # As ledgers have kept keys that were given under the earlier rule.
            earlier.setattr(cases, "_asked_by_channel", lambda request: request)
            old = await program.post("/v1/cases", json=REQUEST, headers=keyed("e2"))
        assert [201, 201] == [made.status_code, old.status_code]
        again = await program.post("/v1/cases", json=REQUEST, headers=keyed("e2"))
        assert (200, old.json()["case_id"]) == (again.status_code, again.json()["case_id"])
        settings.staff.write_text(STAFF.replace("12366 = {", "w1 = {"), encoding="utf-8")
        async with asyncio.timeout(60):
            while "w1" not in node.office.place.staff(COUNTY).officers:
                await asyncio.sleep(0.1)
        again = await program.post("/v1/cases", json=REQUEST, headers=keyed("e1"))
        assert (200, made.json()["case_id"]) == (again.status_code, again.json()["case_id"])
        other = await program.post("/v1/cases", json=REQUEST | {"text": "另一件事"}, headers=keyed("e1"))
        assert (409, KeyReused.__name__) == problem(other)[:2]
        # Over gRPC the program says itself under which number it acts.
        header = case_pb2.ActHeader(
            bureau=COUNTY,
            actor="12366",
            role=common_pb2.ROLE_CHANNEL,
            department="tax-service",
            request_key="e1",
        )
        words: Any = {part: REQUEST[part] for part in ("taxpayer_name", "contact", "text")}
        request = case_pb2.RegisterCaseRequest(
            header=header, category=common_pb2.CATEGORY_POLICY, channel=common_pb2.CHANNEL_WEBSITE, **words
        )
        token = program.headers["authorization"]
        done = await callers.office().RegisterCase(request, metadata=(("authorization", token),))
        assert (True, made.json()["case_id"]) == (done.repeated_request, done.case.case_id)


async def test_a_channel_of_several_says_under_which_number_it_acts(
    settings: NodeSettings, node: service.Running, gateway: Gateway
) -> None:
    assert settings.staff is not None
    listed = STAFF.replace(
        "[110000.departments]",
        'other = { name = "平台", roles = ["channel"], departments = ["tax-service"] }\n[110000.departments]',
        1,
    )
    settings.staff.write_text(listed, encoding="utf-8")
    async with await gateway.client() as program:
        async with asyncio.timeout(60):
            while "other" not in node.office.place.staff(COUNTY).officers:
                await asyncio.sleep(0.1)
        refused = await program.post("/v1/cases", json=REQUEST, headers=keyed("d1"))
        assert (409, ChannelNotNamed.__name__, "actor") == problem(refused)
        named = await program.post("/v1/cases", json=REQUEST | {"actor": "12366"}, headers=keyed("d1"))
        assert 201 == named.status_code


async def test_a_case_says_when_it_was_acted_on_last(
    gateway: Gateway, callers: Callers, clock: SharedClockDriver
) -> None:
    async with await gateway.client() as program:
        made = (await program.post("/v1/cases", json=REQUEST, headers=keyed("e1"))).json()
        assert made["registered_at"] == made["changed_at"]
        clock.advance_to(MORNING + timedelta(hours=2))
        header = case_pb2.ActHeader(
            bureau=COUNTY,
            case_id=made["case_id"],
            actor="T01",
            role=common_pb2.ROLE_TAX_SERVICE,
            department="tax-service",
        )
        withdrawn = case_pb2.WithdrawCaseRequest(header=header, reason="纳税人来电撤回")
        await callers.office().WithdrawCase(withdrawn, metadata=await gateway.signed_in("T01"))
        after = (await program.get(f"/v1/cases/{made['case_id']}")).json()
        assert ("closed", "withdrawn", "2026-11-23T11:00:00+08:00", None) == tuple(
            after[part] for part in ("status", "stage", "changed_at", "deadline")
        )
        (closed,) = (await program.get("/v1/cases", params={"status": "closed"})).json()["cases"]
        assert after == closed


async def test_cases_of_a_closed_year_are_listed_after_the_others(
    settings: NodeSettings, clock: SharedClockDriver, tmp_path: Path
) -> None:
    made: list[str] = []
    async with service.running(settings) as running:
        callers = Callers(running.port, tmp_path)
        gateway = Gateway(running, callers)
        async with await gateway.client() as program:
            for number in range(3):
                case = (await program.post("/v1/cases", json=REQUEST, headers=keyed(f"f{number}"))).json()
                made.append(case["case_id"])
        signed = await gateway.signed_in("T01")
        for case_id in made[:2]:
            header = case_pb2.ActHeader(
                bureau=COUNTY, case_id=case_id, actor="T01", role=common_pb2.ROLE_TAX_SERVICE, department="tax-service"
            )
            await callers.office().WithdrawCase(case_pb2.WithdrawCaseRequest(header=header), metadata=signed)
            await callers.office().WriteOffCase(case_pb2.WriteOffCaseRequest(header=header), metadata=signed)
        await callers.close()
    clock.advance_to(NEXT_YEAR)
    ledger = Ledger(settings.database, (COUNTY, PROVINCE))
    try:
        assert [2] == [one.cases for one in archive_year(ledger, 2026, NEXT_YEAR)]
    finally:
        ledger.close()
    async with service.running(settings) as running:
        callers = Callers(running.port, tmp_path)
        async with await Gateway(running, callers).client() as program:

            async def listed(**asked: Any) -> list[str]:
                found: list[str] = []
                page = {"next_page_token": ""}
                while not found or page["next_page_token"]:
                    params = {"page_size": 1, "page_token": page["next_page_token"], **asked}
                    page = (await program.get("/v1/cases", params=params)).json()
                    found += [one["case_id"] for one in page["cases"]] or [""]
                return found

            async def requested(**asked: Any) -> set[str]:
                params = {"start_date": "2026-11-01T00:00:00Z", **asked}
                answer = (await program.get("/open311/v2/requests.json", params=params)).json()
                return {one["service_request_id"] for one in answer}

            first, *rest = await listed()
            assert (made[2], set(made[:2])) == (first, set(rest))
            assert 2 == len(rest)
            assert ["", *rest] == await listed(status="closed")
            assert [made[2]] == await listed(status="open")
            assert set(made) == await requested()
            assert set(made[:2]) == await requested(status="closed", service_code="policy")
            assert {made[2]} == await requested(status="open")
        await callers.close()
