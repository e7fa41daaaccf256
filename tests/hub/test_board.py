"""The board's pages: they say what the services say, in both languages, to those who oversee the scope alone."""

import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from python_calamine import CalamineWorkbook

from demo.journals import DAY, Journal
from hub.board import sheets
from hub.board.figures import ALL, CARDS, RATE_NAMES, cell, number_of, rate_of
from hub.board.people import Supervisors
from hub.board.sheets import Sheet, TooManyRows, as_sheet_file
from hub.board.words import WORDS
from hub.bulletin.document import NOTHING, basis_points_of
from hub.bulletin.figures import EXPLANATIONS
from hub.folder import Message
from hub.issues import catalogue, kept
from hub.issues.find import Findings, Found, Period
from hub.reconcile import Mismatch, Report, keep_outcomes
from hub.words import Grouping
from kuaixiang.domain.authority import Caller
from kuaixiang.runtime.bus import journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.server import Inside
from kuaixiang.web.language import Language
from kuaixiang.web.words import SHARED
from kuaixiang.wire.v1 import statistics_pb2 as pb
from tests.hub.boards import DECEMBER_3, DESK, TREE, Bench, lived, table_of, text_of, two_months, waiting, with_desk
from tests.hub.journals import BEIJING, DONGCHENG, HANGZHOU, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG

TEMPLATES = Path(sheets.__file__).parent / "templates"
NOVEMBER: Any = {"period": "2026-11"}
"""Words of an address."""
PAGES = (
    "/",
    "/figures",
    "/board",
    "/cases",
    "/bulletin",
    "/publish",
    "/completeness",
    "/reconciliation",
    "/definitions",
)
FILES = ("/figures", "/board", "/cases", "/completeness", "/reconciliation")


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    opened = Bench(database_url)
    opened.feed(*two_months())
    yield opened
    await opened.close()


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Bench]:
    opened = Bench(f"sqlite:///{tmp_path / 'hub.db'}")
    yield opened
    await opened.close()


async def page(client: httpx.AsyncClient, path: str, /, expected_status: int = 200, **asked: str) -> str:
    answer = await client.get(path, params=asked or None)
    assert expected_status == answer.status_code, text_of(answer.text)
    return answer.text


async def table(client: httpx.AsyncClient, path: str, **asked: str) -> list[list[str]]:
    """A file in CSV, with its headings."""
    answer = await client.get(f"{path}/csv", params=asked)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))


async def workbook(client: httpx.AsyncClient, path: str, **asked: str) -> list[list[Any]]:
    """The same in XLSX, without the title and the note."""
    answer = await client.get(f"{path}/xlsx", params=asked)
    assert answer.status_code == 200
    return CalamineWorkbook.from_filelike(io.BytesIO(answer.content)).get_sheet_by_index(0).to_python()[2:]


# ---------------------------------------------------------------- the dashboard


async def test_the_cards_say_what_the_service_says_and_how_it_has_moved(bench: Bench) -> None:
    (row,) = (await bench.figures(period="2026-11", compare=True)).rows
    async with bench.visitor() as client:
        shown = await page(client, "/", **NOVEMBER)
    cards = re.findall(r'<li class="card">.*?</li>', shown, flags=re.DOTALL)
    assert len(CARDS) == len(cards)
    for name, card in zip(CARDS, cards, strict=True):
        assert f">{cell(row, name).text}</a>" in card
        of = rate_of(row, name)
        assert of is None or f"{of[0]:,} / {of[1]:,}" in card
    assert row.facts["registered"] == 82
    registered = text_of(cards[0])
    assert "环比 ▲ +42 (+105.0%) 原 40" in registered
    assert "同比" not in registered
    on_time = text_of(cards[CARDS.index("on_time")])
    assert "环比 ▼ -3.60 个百分点 原 97.50%" in on_time


async def test_what_is_not_over_is_compared_with_nothing(bench: Bench) -> None:
    async with bench.visitor() as client:
        shown = text_of(await page(client, "/"))
    assert "2026年12月（2026-12-01 – 2026-12-31）" in shown
    assert "统计期间尚未结束，不作环比、同比。" in shown


async def test_the_trend_has_every_day_and_carries_what_is_unfinished_on(bench: Bench) -> None:
    async with bench.visitor() as client:
        rows = table_of(await page(client, "/", **NOVEMBER), "趋势")[1:]
        weeks = table_of(await page(client, "/", by="week", **NOVEMBER), "趋势")[1:]
    known = {row.key: row for row in (await bench.figures(period="2026-11", grouping=4)).rows}
    assert [f"2026-11-{day:02}" for day in range(1, 31)] == [row[0] for row in rows]
    for key, registered, completed, unfinished in rows:
        row = known.get(key)
        expected = (0, 0) if row is None else (row.facts.get("registered", 0), row.facts.get("completed", 0))
        assert expected == (int(registered), int(completed))
        assert row is None or str(row.counts["unfinished"]) == unfinished
    assert sum(int(row[1]) for row in weeks) == 82


async def test_a_tile_and_a_row_lead_to_the_bureau_under_it(bench: Bench) -> None:
    async with bench.visitor() as client:
        shown = await page(client, "/", **NOVEMBER)
        assert f'<a href="/?period=2026-11&amp;scope={BEIJING}">' in shown
        tiles = re.findall(r'<li class="tile level-(\d)( small)?">(.*?)</li>', shown, flags=re.DOTALL)
        told = {text_of(tile).split()[0]: (level, bool(small)) for level, small, tile in tiles}
        assert {"总局（本级）": ("1", True), "北京市": ("3", False), "浙江省": ("2", False)} == told
        below = text_of(await page(client, "/", scope=BEIJING, **NOVEMBER))
        assert "总局 北京市" in below
        assert "东城区" in below


async def test_common_issues_that_were_looked_for_are_told_with_their_growth(bench: Bench) -> None:
    async with bench.visitor() as client:
        assert "所选日期尚未归纳共性诉求。" in text_of(await page(client, "/", **NOVEMBER))
        wanted = catalogue.Wanted(
            issue_id="",
            title="电子发票无法开具",
            owner="policy",
            standard_answer="请更新",
            terms=("发票",),
            actor="S01",
        )
        issue = catalogue.confirm(bench.store, wanted, DECEMBER_3)
        assert isinstance(issue, catalogue.Issue)
        found = Found(
            terms=("发票",),
            cases=12,
            cases_before=8,
            bureaus=2,
            by_subordinate=((BEIJING, 12),),
            by_category=((1, 12),),
            examples=(),
            known_as=issue.issue_id,
        )
        asked = Period(
            scope=HEADQUARTERS,
            from_day=date(2026, 11, 1),
            to_day=date(2026, 11, 30),
            cases_min=3,
            limit=20,
            examples=False,
        )
        kept.keep(
            bench.store,
            asked,
            Findings(issues=(found,), cases=12, cases_in_issues=12, cases_before=8, one_of=1, bureaus_read=7),
            DECEMBER_3,
        )
        row = table_of(await page(client, "/", **NOVEMBER), "共性诉求")[1]
        assert [issue.issue_id, "电子发票无法开具", "12", "8", "+50.0%", "北京市", "政策落实"] == row


# ---------------------------------------------------------------- the rows under a figure


@pytest.mark.parametrize("by", ["bureau", "day", "category", "channel", "department", "every_bureau", "month"])
async def test_the_files_have_every_figure_of_every_row_and_the_total(bench: Bench, by: str) -> None:
    grouping: Any = Grouping[by.upper()].value
    rows = [*(await bench.figures(period="2026-11", grouping=grouping)).rows]
    rows += (await bench.figures(period="2026-11")).rows
    async with bench.visitor(language=Language.ENGLISH) as client:
        headings, *lines = await table(client, "/figures", by=by, **NOVEMBER)
        head, *cells = await workbook(client, "/figures", by=by, **NOVEMBER)
    assert headings == head
    assert len(rows) == len(lines) == len(cells)
    for row, line, values in zip(rows, lines, cells, strict=True):
        assert row.key == line[0] == (values[0] if isinstance(values[0], str) else str(int(values[0])))
        at = 2
        for name in ALL:
            if name in RATE_NAMES:
                of = rate_of(row, name)
                told = None if of is None else basis_points_of(*of)
                expected: list[float | None] = [*(of or (None, None)), None if told is None else told / 10_000]
            else:
                expected = [number_of(row, name)]
            for value in expected:
                assert ("" if value is None else str(value)) == line[at], headings[at]
                assert ("" if value is None else value) == values[at], headings[at]
                at += 1


async def test_a_figure_s_rows_add_up_and_lead_on_to_the_rows_under_them(bench: Bench) -> None:
    async with bench.visitor() as client:
        first = await page(client, "/figures", figure="registered", **NOVEMBER)
        rows = table_of(first)
        assert ["总局（本级）", "1", "1.22%"] == rows[1]
        assert ["北京市", "46", "56.10%"] == rows[2]
        assert ["合计", "82", ""] == rows[-1]
        link = f"/figures?scope={BEIJING}&amp;period=2026-11&amp;figure=registered&amp;by=bureau"
        assert link in first
        second = await page(client, link.replace("&amp;", "&"))
        assert ["东城区", "40", "86.96%"] == table_of(second)[2]
        assert f"scope={DONGCHENG}&amp;period=2026-11&amp;figure=registered&amp;by=day" in second
        rate = table_of(await page(client, "/figures", figure="on_time", **NOVEMBER))
        assert ["项目", "办理按时", "联合办理按时", "办理逾期", "联合办理逾期", "按时办结率"] == rate[0]
        assert ["合计", "77", "0", "5", "0", "93.90%"] == rate[-1]


async def test_what_there_is_not_is_refused_as_a_page(bench: Bench) -> None:
    refused: list[tuple[str, dict[str, str], int, str]] = [
        ("/figures", {"figure": "averages"}, 404, "NoSuchFigure"),
        ("/figures/pdf", {}, 404, "NoSuchFormat"),
        ("/bulletin/pdf", NOVEMBER, 404, "NoSuchFormat"),
        ("/bulletin", {"from": "2026-11-02", "to": "2026-11-05"}, 422, "NoWholePeriod"),
        ("/bulletin", {"period": "2027-01"}, 422, "PeriodNotBegun"),
        ("/cases", {"after": "next"}, 422, "NoSuchPlace"),
        ("/", {"period": "2026-13"}, 422, "NoSuchPeriod"),
        ("/", {"from": "soon", "to": "2026-11-05"}, 422, "NoSuchDay"),
        ("/", {"from": "2026-11-05"}, 422, "ComparisonUnbounded"),
        ("/", {"from": "2026-11-05", "to": "2026-11-01"}, 422, "EmptyPeriod"),
        ("/", {"from": "2026-11-05", **NOVEMBER}, 422, "PeriodTwice"),
        ("/", {"scope": "999999"}, 404, "NotCounted"),
        ("/nowhere", {}, 404, "NoSuchPage"),
    ]
    for language in Language:
        async with bench.visitor(language=language) as client:
            for path, asked, status, rule in refused:
                assert f'data-rule="{rule}"' in await page(client, path, status, **asked)


# ---------------------------------------------------------------- the ranking


@pytest.mark.parametrize("scope", [HEADQUARTERS, BEIJING, DONGCHENG])
async def test_the_ranking_is_the_bulletin_s(bench: Bench, scope: str) -> None:
    async with bench.visitor() as client:
        bulletin = table_of(await page(client, "/bulletin", scope=scope, **NOVEMBER), "各单位办理情况统计表")
        shown = table_of(await page(client, "/board", scope=scope, **NOVEMBER))
    _, columns, *lines = shown
    headings = {heading.rstrip(" ▲▼"): at for at, heading in enumerate(columns)}
    head, total, *told = bulletin
    assert len(told) == len(lines) - 1
    for line, of in zip([*lines[:-1], lines[-1]], [*told, total], strict=True):
        name = line[headings["单位"]].removesuffix(" ※")
        assert of[0].rstrip("※") in {name, "本级" if name.endswith("（本级）") else name}
        for heading, value in zip(head[1:-1], of[1:-1], strict=True):
            assert value == line[headings[heading]], (name, heading)
        if line is not lines[-1]:
            assert of[-1] == line[headings["名次"]]
    if scope == HEADQUARTERS:
        assert ["1", "2", NOTHING] == [line[headings["名次"]] for line in lines[:-1]]


async def test_lights_stand_beside_the_figures_and_lead_to_the_cases(bench: Bench) -> None:
    inside: Any = Inside(Caller(offices=frozenset({HEADQUARTERS})))
    rows = (await bench.statistics.GetLights(pb.GetLightsRequest(), inside)).rows
    async with bench.visitor() as client:
        headings, *lines = await table(client, "/board", **NOVEMBER)
        shown = await page(client, "/board", **NOVEMBER)
    assert headings[-5:] == [f"未销号事项 {word}" for word in ("期内", "临期", "逾期", "停止计时", "已延期")]
    told = {line[1]: tuple(map(int, line[-5:])) for line in lines[1:]}
    assert told == {row.bureau: (row.in_time, row.due_soon, row.overdue, row.stopped, row.extended) for row in rows}
    assert (0, 2, 3, 0, 0) == told[BEIJING]
    assert f"/cases?scope={BEIJING}&amp;period=2026-11&amp;light=overdue" in shown


async def test_the_ranking_is_sorted_by_any_column_and_what_has_no_value_comes_last(bench: Bench) -> None:
    async with bench.visitor() as client:
        for order, expected in (("down", [BEIJING, ZHEJIANG, HEADQUARTERS]), ("up", [HEADQUARTERS, ZHEJIANG, BEIJING])):
            lines = await table(client, "/board", sort="registered", order=order, **NOVEMBER)
            assert expected == [line[1] for line in lines[2:]]
        lines = await table(client, "/board", sort="rank", order="down", **NOVEMBER)
        assert [BEIJING, ZHEJIANG, HEADQUARTERS] == [line[1] for line in lines[2:]]
        by_light = await table(client, "/board", sort="light_overdue", order="down", **NOVEMBER)
        assert by_light[2][1] == BEIJING
        assert await table(client, "/board", sort="nonsense", **NOVEMBER) == await table(client, "/board", **NOVEMBER)
        shown = await page(client, "/board", sort="registered", order="down", **NOVEMBER)
        assert 'aria-sort="descending"' in shown
        assert "sort=registered&amp;order=up" in shown


async def test_a_ledger_under_doubt_is_listed_with_its_reason_and_not_ranked(bench: Bench) -> None:
    forked = Journal(SHANGCHENG)
    lived(SHANGCHENG, 60, into=forked, day=DECEMBER_3 - 3 * DAY)
    known = bench.folder.mark(SHANGCHENG).seq
    subject = journal_subject(ZHEJIANG, SHANGCHENG)
    bench.folder.take([Message(ZHEJIANG, subject, forked.segment(known + 1).SerializeToString())])
    assert bench.folder.mark(SHANGCHENG).quarantine
    async with bench.visitor() as client:
        lines = {line[1]: line[0] for line in (await table(client, "/board", **NOVEMBER))[2:]}
        assert {BEIJING: "1", ZHEJIANG: "", HEADQUARTERS: ""} == lines
        assert "数据存疑" in text_of(await page(client, "/board", **NOVEMBER))
        marks = await page(client, "/completeness")
        assert bench.folder.mark(SHANGCHENG).quarantine in text_of(marks)
        rows = await table(client, "/completeness")
        assert {SHANGCHENG: "台账数据存疑", DONGCHENG: "数据最新", HANGZHOU: "从未报送"}.items() <= {
            row[0]: row[2] for row in rows[1:]
        }.items()


# ---------------------------------------------------------------- open cases


async def test_many_cases_come_page_by_page_each_once_and_a_file_has_them_all(bench: Bench) -> None:
    bench.feed(waiting(waiting(Journal(HANGZHOU), 60, DECEMBER_3 - DAY), 75, DECEMBER_3 + 4 * DAY, category=3))
    await check_pages(bench, 144)
    await check_pages(bench, 63, light="overdue", scope=HEADQUARTERS)
    await check_pages(bench, 75, category="3")


async def check_pages(bench: Bench, count: int, **asked: str) -> None:
    seen: list[str] = []
    async with bench.visitor() as client:
        address = "/cases"
        while address:
            words: Any = {} if seen else asked
            shown = await page(client, address, **words)
            seen += [row[1] for row in table_of(shown)[1:]]
            following = re.search(r'href="([^"]+)" rel="next"', shown)
            address = following[1].replace("&amp;", "&") if following else ""
        everything = await table(client, "/cases", **asked)
    assert count == len(seen) == len(set(seen))
    assert seen == [line[1] for line in everything[1:]]


async def test_cases_are_told_by_light_scope_and_category_and_nothing_private_of_them(bench: Bench) -> None:
    async with bench.visitor() as client:
        late = table_of(await page(client, "/cases", light="overdue"))
        assert ["■ 逾期", f"{DONGCHENG}-w-1201-0000", "北京市东城区", "办理中", "政策落实", "12366热线"] == late[1][:6]
        assert ["办理 2026-12-01 周二", "已超 2 天", "2026-11-16 10:00", "催办"] == late[1][6:]
        assert len(late) == 4
        soon = await table(client, "/cases", light="due_soon")
        assert ["2026-12-03", "0"] == soon[1][8:10]
        assert len(soon) == 3
        assert len(await table(client, "/cases", scope=ZHEJIANG)) == 5
        assert len(await table(client, "/cases", scope=BEIJING, own="yes")) == 1
        assert len(await table(client, "/cases", category="2")) == 1
        assert "没有符合条件的未销号事项。" in text_of(await page(client, "/cases", category="2"))


async def test_urging_leads_to_the_desk_of_the_person_s_own_bureau(bench: Bench) -> None:
    case = f"{DONGCHENG}-w-1201-0000"
    async with bench.visitor() as client:
        shown = await page(client, "/cases", light="overdue")
        assert f'href="{DESK}/orders/new?to={DONGCHENG}&amp;case={case}"' in shown
        ranking = await page(client, "/board", **NOVEMBER)
        assert f'href="{DESK}/orders/new?to={BEIJING}"' in ranking
        assert f"to={HEADQUARTERS}" not in ranking
    async with bench.visitor(BEIJING) as client:
        assert "/orders/new" not in await page(client, "/cases")


async def test_nobody_urges_from_a_desk_that_the_tree_does_not_name(tmp_path: Path) -> None:
    bench = Bench(f"sqlite:///{tmp_path / 'hub.db'}", with_desk(TREE, HEADQUARTERS, ""))
    bench.feed(*two_months())
    async with bench.visitor() as client:
        assert "/orders/new" not in await page(client, "/board", **NOVEMBER)
    await bench.close()


# ---------------------------------------------------------------- bulletin, completeness, reconciliation


async def test_the_bulletin_is_taken_as_the_file_that_the_service_gives(bench: Bench) -> None:
    async with bench.visitor(BEIJING) as client:
        shown = text_of(await page(client, "/bulletin", **NOVEMBER))
        assert "关于2026年11月小微企业涉税诉求和意见快速响应工作情况的通报" in shown
        for ending, begin in (("html", b"<!DOCTYPE html>"), ("docx", b"PK"), ("xlsx", b"PK")):
            answer = await client.get(f"/bulletin/{ending}", params=NOVEMBER)
            assert (
                f'attachment; filename="bulletin-{BEIJING}-2026-11.{ending}"' == answer.headers["content-disposition"]
            )
            assert answer.content.startswith(begin)


async def test_reconciliation_shows_what_was_kept_and_compares_when_asked(bench: Bench) -> None:
    report = Report(mismatches=[Mismatch(XICHENG, "head", "seq 1", "seq 2")], unreachable=[DONGCHENG])
    keep_outcomes(bench.store, TREE, report, to_micros(DECEMBER_3))
    async with bench.visitor() as client:
        shown = await page(client, "/reconciliation")
        rows = table_of(shown, "各台账对账结果")
        assert [
            ["110102 北京市西城区", "■ 不符", "1", "2026-12-03 10:00"],
            ["110101 北京市东城区", "▲ 未能读取", "—", "2026-12-03 10:00"],
        ] == rows[1:3]
        assert "1 处不符" in text_of(await page(client, "/", **NOVEMBER))
        assert ["110102", "北京市西城区", "2026-12-03 10:00", "1", "不符"] == (await table(client, "/reconciliation"))[
            1
        ]
        answer = await client.post("/reconciliation", data={"csrf": "another"})
        assert (403, ["NotOurForm"]) == (answer.status_code, re.findall(r'data-rule="(\w+)"', answer.text))
        token = re.search(r'name="csrf" value="([^"]+)"', shown)
        assert token is not None
        answer = await client.post("/reconciliation", params={"scope": BEIJING}, data={"csrf": token[1]})
        assert "比对台账 0 个; ● 未发现不符; ▲ 3 个台账未能读取" in text_of(answer.text)


async def test_every_bureau_s_mark_is_shown_those_that_lack_something_first(bench: Bench) -> None:
    async with bench.visitor() as client:
        lacking = table_of(await page(client, "/completeness"))
        assert [
            ["110000 北京市", "▲ 从未报送"],
            ["330000 浙江省", "▲ 从未报送"],
            ["330100 浙江省杭州市", "▲ 从未报送"],
        ] == [row[:2] for row in lacking[1:]]
        assert len(table_of(await page(client, "/completeness", show="all"))) == 8


# ---------------------------------------------------------------- who, languages, safety


async def test_nobody_sees_what_is_above_or_beside_his_own_bureau(bench: Bench) -> None:
    async with bench.visitor(BEIJING) as client:
        for path in (*PAGES, *(f"{path}/csv" for path in FILES), "/bulletin/docx"):
            for scope in (HEADQUARTERS, ZHEJIANG, SHANGCHENG):
                asked = {"scope": scope, **NOVEMBER}
                assert 'data-rule="NotAuthorised"' in await page(client, path, 403, **asked), path
        assert "北京市" in text_of(await page(client, "/", scope=XICHENG, **NOVEMBER))
        shown = await page(client, "/", **NOVEMBER)
        assert "浙江省" not in shown


async def test_pages_are_for_those_who_have_stepped_in(bench: Bench) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=bench.app), base_url="http://127.0.0.1") as client:
        for path in PAGES:
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/step-in")
        who = {"bureau": DONGCHENG, "actor": "S01", "department": "leadership", "role": "SUPERVISOR"}
        answer = await client.post("/step-in", data=who)
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers


async def test_what_is_too_large_for_a_page_is_refused_unread(empty: Bench) -> None:
    async with empty.visitor() as client:
        answer = await client.post("/reconciliation", headers={"content-length": str(30 * 2**20)})
        assert (422, ["BodyTooLarge"]) == (answer.status_code, re.findall(r'data-rule="(\w+)"', answer.text))


def test_supervisors_are_of_provinces_and_of_counties_where_they_are_few() -> None:
    def bureaus(scope: str) -> list[str]:
        return list(dict.fromkeys(person.bureau for person in Supervisors(TREE, scope, demonstration=True).people()))

    assert [HEADQUARTERS, BEIJING, ZHEJIANG] == bureaus(HEADQUARTERS)
    assert [ZHEJIANG, HANGZHOU, SHANGCHENG] == bureaus(ZHEJIANG)
    assert [] == Supervisors(TREE, HEADQUARTERS, demonstration=False).people()


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("filled", [True, False])
async def test_every_page_and_file_is_there_in_both_languages_with_and_without_figures(
    empty: Bench, language: Language, filled: bool
) -> None:
    if filled:
        empty.feed(*two_months())
    async with empty.visitor(language=language) as client:
        for path in PAGES:
            shown = await page(client, path, **NOVEMBER)
            assert f'<html lang="{language}">' in shown
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style", shown), path
            assert re.findall(r"<script(?![^>]*src=)[^>]*>", shown) == [
                '<script type="application/json">'
            ] * shown.count('<script type="application/json">')
            if language is Language.CHINESE:
                said = text_of(shown)
                missing = [english for english in WORDS if len(english) > 12 and english in said]
                assert [] == missing, path
        for path in FILES:
            await table(client, path, **NOVEMBER)
            await workbook(client, path, **NOVEMBER)


def test_every_sentence_of_the_templates_has_its_chinese_and_none_stands_idle() -> None:
    sources = {path.name: path.read_text("utf-8") for path in TEMPLATES.glob("*.html")}
    code = "".join(path.read_text("utf-8") for path in TEMPLATES.parent.glob("*.py") if path.name != "words.py")
    used = {
        text
        for source in sources.values()
        for text in (
            *(double or single for double, single in re.findall(r"""_\(\s*(?:"([^"]*)"|'([^']*)')""", source)),
            *(one for pair in re.findall(r'ngettext\("([^"]*)", "([^"]*)"', source) for one in pair),
        )
    }
    assert set() == {text for text in used if text not in WORDS and text not in SHARED}
    assert set() == {text for text in WORDS if text not in used and f'"{text}"' not in code and f"'{text}'" not in code}


# ---------------------------------------------------------------- files


def test_no_cell_of_a_csv_is_taken_for_a_formula_and_numbers_stay_numbers() -> None:
    sheet = Sheet("s", "t", ["=a"], [["=1+1"], ["@x"], [-5], [None]], "n")
    assert "﻿'=a\r\n'=1+1\r\n'@x\r\n-5\r\n\"\"\r\n" == as_sheet_file(sheet, "csv").content.decode()
    book = CalamineWorkbook.from_filelike(io.BytesIO(as_sheet_file(sheet, "xlsx").content)).get_sheet_by_index(0)
    assert [["=a"], ["=1+1"], ["@x"], [-5.0]] == book.to_python()[2:6]


def test_a_table_that_a_sheet_cannot_hold_is_refused_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "XLSX_ROWS_MAX", 2)
    sheet = Sheet("s", "t", ["a"], [[1], [2], [3]], "n")
    with pytest.raises(TooManyRows):
        as_sheet_file(sheet, "xlsx")
    assert as_sheet_file(sheet, "csv").content.count(b"\n") == 4


def test_every_figure_of_a_row_is_explained() -> None:
    assert set(ALL) <= set(EXPLANATIONS)
