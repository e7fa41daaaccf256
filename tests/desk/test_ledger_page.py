"""台账 at the desk: read page by page and exported whole, the same lines as the terminal's export, masked by role."""

import re
from datetime import date, datetime, timedelta
from html import unescape
from io import BytesIO
from typing import Any

import pytest
from python_calamine import CalamineWorkbook

from kuaixiang.domain.tree import code_and_name
from kuaixiang.domain.words import Role
from kuaixiang.wire.v1 import case_pb2
from node.channels import ledger_table
from node.channels.ledger_export import export_ledger
from node.channels.ledger_table import COLUMNS, Period, Place, SheetFull, export_request, line
from tests.desk.offices import Pages
from tests.federation.bureaus import COUNTY, Federation

CONTACT = "13800138000"
HEADING_ROW = 2
"""Of a workbook, counted from 0: the title and what is told stand above."""


async def rows_told(bureaus: Federation, role: Role = Role.TAX_SERVICE, **more: Any) -> list[case_pb2.LedgerRow]:
    request = export_request(
        bureau=COUNTY, actor="o-1", role=int(role), department="tax-service", period=Period(), open_only=False, **more
    )
    return [row async for answer in export_ledger(bureaus.office(COUNTY), request) for row in answer.rows]


def table(page: str) -> list[list[str]]:
    body = page.partition('<tbody translate="no">')[2].partition("</tbody>")[0]
    cells = re.compile(r"<t[dh][^>]*>(.*?)</t[dh]>", re.DOTALL)
    return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells.findall(row)] for row in body.split("</tr>")[:-1]]


def plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.replace(second=0, microsecond=0)
    return datetime(value.year, value.month, value.day) if isinstance(value, date) else value  # noqa: DTZ001


async def test_the_workbook_holds_the_lines_of_the_export(county: Pages, bureaus: Federation) -> None:
    for _ in range(3):
        await bureaus.register(COUNTY)
    answer = await county.client.get("/ledger.xlsx")
    assert 200 == answer.status_code
    assert f"{COUNTY}-2026-03-02.xlsx" in answer.headers["content-disposition"]
    sheet = CalamineWorkbook.from_filelike(BytesIO(answer.content)).get_sheet_by_index(0).to_python()
    expected = [
        line(Place(row, number, lambda code: code_and_name(bureaus.tree, code)))
        for number, row in enumerate(await rows_told(bureaus), 1)
    ]
    assert [column.heading for column in COLUMNS] == sheet[HEADING_ROW]
    assert [[plain("" if value is None else value) for value in one] for one in expected] == [
        [plain(value) for value in one] for one in sheet[HEADING_ROW + 1 :]
    ]


async def test_the_page_shows_the_same_lines_and_a_long_ledger_goes_on(
    county: Pages, bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.desk.ledger_page.PAGE_SIZE", 2)
    cases = [await bureaus.register(COUNTY) for _ in range(5)]
    page, shown = await county.get("/ledger"), []
    while page:
        shown += table(page)
        following = page.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
        page = await county.get(following) if 'rel="next"' in page else ""
    assert [[str(number), case_id] for number, case_id in enumerate(cases, 1)] == [one[:2] for one in shown]
    assert {len(COLUMNS)} == set(map(len, shown))


async def test_the_role_decides_whether_contacts_are_masked_on_the_page_and_in_the_workbook(
    county: Pages, bureaus: Federation
) -> None:
    await bureaus.register(COUNTY)
    for role, masked in ((Role.TAX_SERVICE, False), (Role.AUDITOR, True)):
        await county.step_in(COUNTY, role)
        page = await county.get("/ledger")
        book = BytesIO((await county.client.get("/ledger.xlsx")).content)
        cells = str(CalamineWorkbook.from_filelike(book).get_sheet_by_index(0).to_python())
        assert [masked, masked] == [CONTACT not in page, CONTACT not in cells]
        assert masked == ("已脱敏显示" in page)


async def test_days_and_open_cases_choose_the_lines(county: Pages, bureaus: Federation) -> None:
    first = await bureaus.register(COUNTY)
    bureaus.clock.advance(timedelta(days=1))
    second = await bureaus.register(COUNTY)
    wanted = {"from": "2026-03-03", "to": "2026-03-03"}
    assert [second] == [one[1] for one in table(await county.get("/ledger", params=wanted))]
    assert [first] == [one[1] for one in table(await county.get("/ledger", params={"to": "2026-03-02", "open": "1"}))]
    assert "该期间没有诉求" in await county.get("/ledger", params={"from": "2026-04-01"})
    book = CalamineWorkbook.from_filelike(BytesIO((await county.client.get("/ledger.xlsx", params=wanted)).content))
    assert second == book.get_sheet_by_index(0).to_python()[HEADING_ROW + 1][1]


@pytest.mark.parametrize("address", ["/ledger", "/ledger.xlsx"])
async def test_a_day_that_is_none_is_refused_at_its_field(county: Pages, address: str) -> None:
    page = await county.get(f"{address}?from=2026-02-30", 422)
    assert 'id="fault-from_day"' in page
    assert 'value="2026-02-30"' in page
    assert 'data-rule="FieldMalformed"' in await county.get("/ledger?page=x&line=9", 422)


async def test_a_ledger_that_no_sheet_holds_is_refused_and_no_file_is_sent(
    county: Pages, bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await bureaus.register(COUNTY)
    monkeypatch.setattr(ledger_table, "SHEET_ROWS_MAX", HEADING_ROW + 2)
    assert f'data-rule="{SheetFull.__name__}"' in await county.get("/ledger.xlsx", 422)


async def test_the_page_speaks_english_too(county: Pages, bureaus: Federation) -> None:
    await bureaus.register(COUNTY)
    await county.english()
    page = await county.get("/ledger")
    assert [column.english for column in COLUMNS] == re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page)
    (row,) = table(page)
    assert ("systems", "counter") == (row[6], row[7])
