"""What somebody with a browser and bad intentions, or with bad luck, does to the desk: nothing is lost, doubled or shown."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kuaixiang.domain.errors import VersionConflict
from kuaixiang.domain.words import Channel, Role
from kuaixiang.web.guard import NotUtf8
from kuaixiang.web.serving import serving_pages
from node.desk.application import application
from node.ledger import queries
from node.ledger.queries import CaseFilter
from tests.desk.offices import Pages
from tests.federation.bureaus import COUNTY, Federation

REGISTRATION = {
    "taxpayer_name": "芃沅文具店",
    "contact": "15400001234",
    "text": "怎样更正已经申报的印花税？",
    "category": "1",
    "channel": str(int(Channel.COUNTER)),
}


MANY_LETTERS = (
    b'--x\r\nContent-Disposition: form-data; name="d"\r\n\r\n'
    + f"{'a' * 20_000}\U0001f600".encode("punycode")
    + b"\r\n--x--\r\n"
)


def cases(bureaus: Federation) -> int:
    return len(queries.list_cases(bureaus.office(COUNTY).ledger.database, CaseFilter(bureau=COUNTY), 500, "")[0])


async def attach(county: Pages, case_id: str) -> None:
    """Somebody else adds a file, by which the case gets another version."""
    form = await county.hidden(f"/cases/{case_id}")
    answer = await county.client.post(f"/cases/{case_id}/files", data=form, files={"file": ("a.txt", b"abc")})
    assert 303 == answer.status_code


async def test_a_form_without_a_key_registers_nothing(county: Pages, bureaus: Federation) -> None:
    await county.step_in(COUNTY, Role.REGISTRAR)
    form = await county.hidden("/register")
    answer = await county.client.post("/register", data={"csrf": form["csrf"], **REGISTRATION})
    assert (422, 0) == (answer.status_code, cases(bureaus))
    twice = [await county.client.post("/register", data=form | REGISTRATION) for _ in range(2)]
    assert (1, 1) == (len({answer.headers["location"] for answer in twice}), cases(bureaus))


async def test_a_preview_does_not_hide_that_the_case_has_changed_since_the_form_was_opened(
    county: Pages, bureaus: Federation
) -> None:
    case_id = await bureaus.register(COUNTY)
    await county.step_in(COUNTY, Role.REGISTRAR)
    form = await county.hidden(f"/cases/{case_id}/acts/Forward") | {"telling": "1", "told": "情况复杂"}
    await attach(county, case_id)
    for address in (f"/cases/{case_id}/acts/Forward/preview", f"/cases/{case_id}/acts/Forward"):
        answer = await county.client.post(address, data=form)
        assert (409, True) == (answer.status_code, VersionConflict.__name__ in answer.text)
    # Told of it, the officer decides anew.
    answer = await county.fill_in(f"/cases/{case_id}/acts/Forward", telling="1", told="情况复杂")
    assert 303 == answer.status_code


async def test_a_bulk_act_is_refused_for_what_has_changed_since_its_preview(county: Pages, bureaus: Federation) -> None:
    chosen = [await bureaus.register(COUNTY) for _ in range(2)]
    await county.step_in(COUNTY, Role.REGISTRAR)
    csrf = (await county.hidden("/search"))["csrf"]
    form: dict[str, Any] = {"csrf": csrf, "act": "Forward", "case": chosen, "telling": "1", "told": "情况复杂"}
    preview = await county.client.post("/bulk", data=form | {"step": "preview"})
    key = preview.text.partition('name="request_key" value="')[2].partition('"')[0]
    versions = [f"{case_id} 1" for case_id in chosen]
    assert all(f'name="version" value="{version}"' in preview.text for version in versions)
    await attach(county, chosen[1])
    done = await county.client.post("/bulk", data=form | {"step": "do", "request_key": key, "version": versions})
    stages = [(await bureaus.office(COUNTY).read_case(COUNTY, case_id)).version for case_id in chosen]
    assert ([3, 2], True) == (stages, "版本" in done.text or VersionConflict.__name__ in done.text)


async def test_more_cases_than_one_bulk_act_takes_are_refused_and_not_cut_off(county: Pages) -> None:
    csrf = (await county.hidden("/search"))["csrf"]
    form = {"csrf": csrf, "act": "Forward", "case": [f"{COUNTY}-2026-{number:07}" for number in range(501)]}
    assert 422 == (await county.client.post("/bulk", data=form)).status_code


async def test_who_is_struck_off_the_list_is_nobody_here_any_more(
    county: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    await county.get("/")
    monkeypatch.setattr("tests.desk.offices.everybody", lambda _: [])
    assert 303 == (await county.client.get("/")).status_code


async def test_no_other_name_of_a_host_is_answered(county: Pages) -> None:
    for headers in ({"host": "evil.example"}, {"host": "evil.example:80"}, {"host": ""}):
        assert 403 == (await county.client.get("/", headers=headers)).status_code
    assert 403 == (await county.client.post("/step-in", headers={"origin": "http://["})).status_code


@pytest.mark.parametrize(
    "address",
    [
        "/?tab=²",
        f"/?tab={'9' * 5_000}",
        "/?department=%00",
        f"/ledger?line={'9' * 5_000}",
        "/ledger?registered_from=2026-13-01",
        "/cases/x",
        "/cases/%00/timeline",
        "/orders/%00",
        "/subordinates/x",
        "/language/en?to=/%09/[",
        "/language/xx?to=//elsewhere",
        f"/live2?from={'9' * 99}",
    ],
)
async def test_an_odd_address_is_answered_and_never_a_fault(county: Pages, address: str) -> None:
    answer = await county.client.get(address)
    assert answer.status_code < 500
    assert not answer.headers.get("location", "/").startswith("//")


async def test_an_odd_form_is_refused_and_never_a_fault(county: Pages, bureaus: Federation) -> None:
    await county.step_in(COUNTY, Role.REGISTRAR)
    form = await county.hidden("/register")
    for odd in ({"category": "9" * 5_000}, {"category": "²"}, {"text": "\0"}, {"taxpayer_number": "x" * 5_000}):
        assert 422 == (await county.client.post("/register", data=form | REGISTRATION | odd)).status_code
    for content, kind in (
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (b"a=b&" * 2_000, "application/x-www-form-urlencoded"),
    ):
        answer = await county.client.post("/register", content=content, headers={"content-type": kind})
        assert answer.status_code in {400, 403}
        assert "CannotBeRead" in answer.text or "NotOurForm" in answer.text
    assert 0 == cases(bureaus)
    large = await county.client.post("/register", content=b"x" * (3 << 20))
    assert (422, True) == (large.status_code, "BodyTooLarge" in large.text)


async def test_a_form_in_another_encoding_is_refused_unread(county: Pages) -> None:
    # Of these Python has codecs: one whose work grows with the square of a name's length, one that always fails.
    for charset in ("punycode", "undefined", '"PunyCode"', "gbk"):
        for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
            answer = await county.client.post(
                "/step-in", content=MANY_LETTERS, headers={"content-type": f"{kind}; charset={charset}"}
            )
            assert (422, True) == (answer.status_code, NotUtf8.__name__ in answer.text), charset
    for charset in ("", "; charset=UTF-8", '; charset="utf8"'):
        kind = f"application/x-www-form-urlencoded{charset}"
        answer = await county.client.post("/step-in", content=b"a=b", headers={"content-type": kind})
        assert NotUtf8.__name__ not in answer.text


async def test_a_ledger_that_was_taken_as_a_file_is_left_nowhere(
    county: Pages, bureaus: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    await bureaus.register(COUNTY)
    for headers in ({}, {"range": "bogus"}, {"range": "bytes=99999999-"}):
        answer = await county.client.get("/ledger.xlsx", headers=headers)
        assert (200, []) == (answer.status_code, list(folder.iterdir()))


async def test_a_file_goes_out_under_the_name_that_the_ledger_has(county: Pages, bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await county.step_in(COUNTY, Role.REGISTRAR)
    await attach(county, case_id)
    page = await county.get(f"/cases/{case_id}")
    address = page.partition(f'href="/cases/{case_id}/files/')[2].partition('"')[0]
    answer = await county.client.get(f"/cases/{case_id}/files/{address}")
    assert ("attachment; filename*=UTF-8''a.txt", b"abc") == (answer.headers["content-disposition"], answer.content)
    assert 404 == (await county.client.get(f"/cases/{case_id}/files/{address}/x.exe")).status_code
    assert 422 == (await county.client.get(f"/cases/{case_id}/files/%00")).status_code


async def test_open_pages_end_with_the_service_and_nothing_is_said_of_a_fault(
    county: Pages, caplog: pytest.LogCaptureFixture
) -> None:
    person = {"bureau": COUNTY, "actor": "tax_service-1", "department": "tax-service", "role": "TAX_SERVICE"}
    async with AsyncExitStack() as open_page:
        async with serving_pages(application(county.services, demonstration=True), "127.0.0.1:0") as port:
            browser = await open_page.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
            )
            assert 303 == (await browser.post("/step-in", data=person)).status_code
            stream = await open_page.enter_async_context(browser.stream("GET", "/live"))
            lines = stream.aiter_lines()
            assert "retry: 2000" == await anext(lines)
        # The service has ended: so has the stream, in order.
        assert [] == [line async for line in lines if line]
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
