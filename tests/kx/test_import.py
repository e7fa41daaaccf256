"""Reading somebody's table as registrations: mappings, old numbers, finished rows, what is said of each row."""

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import Category, Channel, Role
from kuaixiang.text.columns import NOT_TAKEN_OVER, OWN, OWN_HEADINGS, TITLES
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2
from kx import bulk
from kx.bulk import Finished, Outcome, Result, Row, Source, read_rows, register_rows, try_rows, write_report
from kx.mapping import load_mapping
from kx.options import Acting, Asking, Once, Who
from kx.output import Failed
from node.channels.ledger_table import COLUMNS

ASKING = Asking(node="", certificates=Path(), bureau="110101", tree_file=None, patience_seconds=0.0, as_json=False)
OFFICER = Acting(ASKING, Who("reg-1", Role.REGISTRAR, "hall", None), Once())
ANOTHER = Acting(ASKING, Who("reg-2", Role.TAX_SERVICE, "tax-service", None), Once())

COUNTY_LEDGER = """\
heading_row = 3
finished = ["已办结", "答复"]

[columns]
channel_reference = "编号"
taxpayer_name = "企业名称"
contact = "电话"
text = ["标题", "内容"]
category = "问题类型"
channel = "来源"
accepted_at = "来件日期"
status = "办理状态"
completed_at = "办结日期"
result = "答复"

[values.category]
"税收政策" = "政策落实"
"*" = "other"

[values.channel]
"来电" = "hotline"

[defaults]
channel = "办税服务厅"
"""
HEADINGS = [
    "序号",
    "编号",
    "企业名称",
    "电话",
    "标题",
    "内容",
    "问题类型",
    "来源",
    "来件日期",
    "办理状态",
    "办结日期",
    "答复",
]
GOOD = [
    "1",
    "东〔2025〕7号",
    "晨光小卖部",
    "13800138000",
    "发票",
    "怎么开？",
    "税收政策",
    "来电",
    "2025/5/10",
    "在办",
    "",
    "",
]


def table(file: Path, *rows: list[Any], headings: list[str] = HEADINGS) -> Path:
    """A county's ledger with a title and a note above its headings."""
    with file.open("w", encoding="gb18030", newline="") as stream:
        csv.writer(stream).writerows([["小微企业诉求台账"], ["填报单位：东城区"], headings, *rows])
    return file


def changed(**cells: str) -> list[str]:
    return [cells.get(heading, cell) for heading, cell in zip(HEADINGS, GOOD, strict=True)]


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    file = tmp_path / "mapping.toml"
    file.write_text(COUNTY_LEDGER, encoding="utf-8")
    return file


def read(tmp_path: Path, mapping: Path | None, *rows: list[Any], acting: Acting = OFFICER, **how: Any) -> list[Row]:
    return read_rows(Source(file=table(tmp_path / "t.csv", *rows), mapping=load_mapping(mapping), **how), acting)


def request_of(row: Row) -> Any:
    assert row.request is not None, row.message
    return row.request


def refused(row: Row) -> tuple[str, str]:
    assert Result.REFUSED is row.result
    assert all((row.message, row.message_chinese, row.remedy, row.remedy_chinese))
    return row.field, row.rule


class OfTheFirstRelease:
    """CaseService of a node that knows one registration of a message alone, and answers each message for itself."""

    def __init__(self) -> None:
        self.registered: list[str] = []

    async def register_cases(
        self, requests: AsyncIterator[case_pb2.RegisterCasesRequest], timeout: float
    ) -> AsyncIterator[case_pb2.RegisterCasesResponse]:
        assert timeout
        index = 0
        async for request in requests:
            asked = request.registration
            response = case_pb2.RegisterCasesResponse(index=index)
            if not asked.header.bureau:
                response.refused.CopyFrom(case_pb2.RefusedAct(code=3, field="header.bureau", rule="FieldMissing"))
            elif not asked.text:
                response.refused.CopyFrom(case_pb2.RefusedAct(code=3, field="text", rule="FieldMissing"))
            else:
                self.registered.append(asked.channel_reference)
                response.accepted.case.case_id = f"case-{asked.channel_reference}"
            yield response
            index += 1


# ---------------------------------------------------------------- mapping


def test_columns_and_words_mean_what_the_mapping_says(tmp_path: Path, mapping: Path) -> None:
    (row,) = read(tmp_path, mapping, GOOD)
    request = request_of(row)
    assert ("晨光小卖部", "13800138000", "发票\n怎么开？") == (request.taxpayer_name, request.contact, request.text)
    assert (Category.POLICY, Channel.HOTLINE) == (request.category, request.channel)
    assert ("东〔2025〕7号", "东〔2025〕7号") == (request.channel_reference, row.number)
    assert (4, datetime(2025, 5, 10, tzinfo=SHANGHAI)) == (row.row, instant(request.header.occurred_at))


def test_a_word_that_the_mapping_lacks_falls_to_its_star_or_is_refused(tmp_path: Path, mapping: Path) -> None:
    odd = changed(编号="1", 问题类型="停车难")
    strange = changed(编号="2", 来源="信鸽")
    empty = changed(编号="3", 来源="")
    rows = read(tmp_path, mapping, odd, strange, empty)
    assert Category.OTHER == request_of(rows[0]).category
    assert ("channel", "NoSuchWord") == refused(rows[1])
    assert "信鸽" in rows[1].message_chinese
    assert Channel.COUNTER == request_of(rows[2]).channel


@pytest.mark.parametrize("word", ["政策落实", "政策落实类", "policy", "POLICY"])
def test_our_own_words_and_the_notices_need_no_mapping(word: str) -> None:
    assert Category.POLICY is OWN.category(word)
    assert Channel.HOTLINE is OWN.channel("12366 纳税服务热线".replace(" ", ""))


WRONG_MAPPINGS = {
    "colums": ('[colums]\ntext = "内容"', "colums"),
    "unknown field": ('[columns]\ntaxpayer = "企业"', "columns.taxpayer"),
    "no required column": ('[columns]\ntext = "内容"', "columns.taxpayer_name"),
    "no word": (COUNTY_LEDGER.replace('"hotline"', '"telephone"'), "values.channel.来电"),
    "no heading": (COUNTY_LEDGER.replace('"电话"', "7"), "columns.contact"),
    "no list": (COUNTY_LEDGER.replace('["已办结", "答复"]', '"已办结"'), "finished"),
    "finished without status": (COUNTY_LEDGER.replace('status = "办理状态"\n', ""), "columns.status"),
    "no row": (COUNTY_LEDGER.replace("heading_row = 3", "heading_row = true"), "heading_row"),
    "no table": (COUNTY_LEDGER.replace('[defaults]\nchannel = "办税服务厅"', "") + "[values.text]\n", "values.text"),
    "no TOML": ("columns = [", "TOML"),
}


@pytest.mark.parametrize(("text", "named"), WRONG_MAPPINGS.values(), ids=list(WRONG_MAPPINGS))
def test_a_setting_that_means_nothing_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(Failed) as failed:
        load_mapping(file)
    assert ("--mapping", "Mapping") == (failed.value.field, failed.value.rule)
    assert named in failed.value.sentence.english
    assert named in failed.value.sentence.chinese


def test_headings_are_found_under_titles_and_compared_without_blanks(tmp_path: Path, mapping: Path) -> None:
    text = mapping.read_text(encoding="utf-8").replace("heading_row = 3\n", "").replace('"企业名称"', '"企业 名称"')
    mapping.write_text(text, encoding="utf-8")
    file = table(tmp_path / "t.csv", GOOD, headings=["企业\n名称" if one == "企业名称" else one for one in HEADINGS])
    (row,) = read_rows(Source(file=file, mapping=load_mapping(mapping)), OFFICER)
    assert "晨光小卖部" == request_of(row).taxpayer_name


def test_a_table_without_a_mapped_heading_is_refused_by_that_heading(tmp_path: Path, mapping: Path) -> None:
    for headings in ([one for one in HEADINGS if one != "电话"], [*HEADINGS, "电话"]):
        file = table(tmp_path / "t.csv", GOOD, headings=headings)
        with pytest.raises(Failed) as failed:
            read_rows(Source(file=file, mapping=load_mapping(mapping)), OFFICER)
        assert ("电话", "Columns") == (failed.value.field, failed.value.rule)


def test_every_column_of_an_exported_ledger_is_known_to_the_import() -> None:
    headings = {column.heading for column in COLUMNS}
    assert headings <= OWN_HEADINGS.keys() | NOT_TAKEN_OVER
    assert headings >= NOT_TAKEN_OVER
    assert {OWN_HEADINGS[heading] for heading in headings - NOT_TAKEN_OVER} == TITLES.keys() - {"place", "answer"}


# ---------------------------------------------------------------- rows


def test_rows_in_which_nothing_stands_are_no_rows(tmp_path: Path, mapping: Path) -> None:
    rows = read(tmp_path, mapping, [], [""] * 12, ["2"], GOOD, ["", " ", "　"])
    assert [7] == [row.row for row in rows]


def test_a_row_with_more_cells_than_headings_is_refused(tmp_path: Path, mapping: Path) -> None:
    (row,) = read(tmp_path, mapping, [*GOOD, "", "?"])
    assert ("", "Columns") == refused(row)


def test_a_time_that_cannot_be_read_is_refused_by_its_column(tmp_path: Path, mapping: Path) -> None:
    (row,) = read(tmp_path, mapping, changed(来件日期="上周"))
    assert ("accepted_at", "NoTime") == refused(row)


def test_full_width_digits_and_small_letters_are_the_plain_ones(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    number = "９１３３０１０２ma2yy00074"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["纳税人名称", "有效联系方式", "诉求和意见", "类别", "渠道", "统一社会信用代码"])
        writer.writerow(["晨光", "１３８００１３８０００", "怎么办", "其他", "其他", number])
    (row,) = read_rows(Source(file=file, mapping=OWN), OFFICER)
    request = request_of(row)
    assert ("13800138000", "91330102MA2YY00074") == (request.contact, request.taxpayer_number)


def test_numbers_dates_and_flawed_cells_of_a_workbook(tmp_path: Path) -> None:
    file = tmp_path / "own.xlsx"
    book = xlsxwriter.Workbook(str(file))
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["纳税人名称", "联系方式", "诉求内容", "类别", "渠道", "受理时间", "统一社会信用代码"])
    sheet.write_row(1, 0, ["甲", 13800138000, "一", "政策落实", "其他"])
    sheet.write_number(1, 5, 43595.5)
    sheet.write_row(2, 0, ["乙", 13800138000, "二", "政策落实", "其他", "", 911101010000000000])
    sheet.merge_range(3, 0, 4, 0, "丙")
    for at in (3, 4):
        sheet.write_row(at, 1, [13800138000, "三", "政策落实", "其他"])
    book.close()
    rows = read_rows(Source(file=file, mapping=OWN), OFFICER)
    assert "13800138000" == request_of(rows[0]).contact
    assert datetime(2019, 5, 10, 12, tzinfo=SHANGHAI) == instant(request_of(rows[0]).header.occurred_at)
    assert ("taxpayer_number", "CellUnusable") == refused(rows[1])
    assert [("taxpayer_name", "CellUnusable")] * 2 == [refused(row) for row in rows[2:]]
    assert "跨行合并" in rows[2].message_chinese


# ---------------------------------------------------------------- once


def references(rows: list[Row]) -> list[str]:
    return [request_of(row).channel_reference for row in rows]


def test_without_an_old_number_a_row_is_known_by_what_it_registers(tmp_path: Path, mapping: Path) -> None:
    nameless = changed(编号="")
    first = read(tmp_path, mapping, nameless, nameless, changed(编号="", 内容="别的"))
    again = read(tmp_path, mapping, changed(编号="", 办理状态="延期"), nameless, acting=ANOTHER)
    assert 3 == len(set(references(first)))
    # Another officer, and a course that went on, make no other row of it.
    assert references(first)[:2] == references(again)
    assert request_of(first[0]).header.request_key != request_of(again[0]).header.request_key


def test_the_same_row_asks_the_same_again(tmp_path: Path, mapping: Path) -> None:
    rows = [read(tmp_path, mapping, GOOD, changed(编号=""))[at] for _ in range(2) for at in (0, 1)]
    assert [request_of(row) for row in rows[:2]] == [request_of(row) for row in rows[2:]]
    assert [row.later for row in rows[:2]] == [row.later for row in rows[2:]]


def test_a_number_that_two_different_rows_have_is_refused(tmp_path: Path, mapping: Path) -> None:
    rows = read(tmp_path, mapping, GOOD, GOOD, changed(内容="另一件事"))
    assert references(rows[:1]) == references(rows[1:2])
    assert ("channel_reference", "NumberTwice") == refused(rows[2])
    assert "第 4 行" in rows[2].message_chinese


def test_numbers_that_begin_anew_each_year_get_a_prefix(tmp_path: Path, mapping: Path) -> None:
    (row,) = read(tmp_path, mapping, changed(编号="1"), prefix="2025-")
    assert ("2025-1", "1") == (request_of(row).channel_reference, row.number)


# ---------------------------------------------------------------- the old ledger's times


def test_a_row_that_is_too_old_is_asked_for_again_with_the_present_time_and_a_note(
    tmp_path: Path, mapping: Path
) -> None:
    (row,) = read(tmp_path, mapping, GOOD)
    reference = request_of(row).channel_reference
    assert row.takes_later()
    request = request_of(row)
    assert not request.header.HasField("occurred_at")
    assert "由原台账转入：原编号 东〔2025〕7号，原受理时间 2025-05-10，原状态 在办。时限自登记时起算。" == request.note
    assert reference == request.channel_reference
    assert "2025-05-10" in row.message
    assert not row.takes_later()


def test_a_row_without_a_time_is_of_now(tmp_path: Path, mapping: Path) -> None:
    (row,) = read(tmp_path, mapping, changed(来件日期=""))
    assert row.later is None
    assert not request_of(row).header.HasField("occurred_at")


def test_finished_rows_are_left_out_unless_their_reply_is_to_be_registered(tmp_path: Path, mapping: Path) -> None:
    rows = (
        changed(编号="1", 办理状态="已办结", 答复="可以享受"),
        changed(编号="2", 办结日期="2025/5/12", 答复="已处理"),
        changed(编号="3", 办理状态="答复"),
        changed(编号="4"),
    )
    skipped = read(tmp_path, mapping, *rows)
    assert [Result.SKIPPED] * 3 + [Result.UNANSWERED] == [row.result for row in skipped]
    answered = read(tmp_path, mapping, *rows, finished=Finished.ANSWER)
    assert ["可以享受", "已处理"] == [request_of(row).answer for row in answered[:2]]
    assert "原办结时间 2025-05-12" in request_of(answered[1]).note
    # It is not dated back, however lately it was accepted.
    assert [False] * 2 == [request_of(row).header.HasField("occurred_at") for row in answered[:2]]
    assert ("result", "NoReply") == refused(answered[2])
    assert "" == request_of(answered[3]).answer


# ---------------------------------------------------------------- trying, reporting


def test_a_dry_run_says_what_the_rules_say(tmp_path: Path, mapping: Path) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"
    rows = read(
        tmp_path,
        mapping,
        changed(编号="1"),
        changed(编号="2", 电话="12"),
        changed(编号="3", 来件日期=tomorrow),
        changed(编号="4", 来件日期=""),
        changed(编号="5", 办理状态="已办结"),
    )
    outcome = try_rows(ASKING, rows)
    assert [Result.READY, Result.REFUSED, Result.REFUSED, Result.READY, Result.SKIPPED] == [row.result for row in rows]
    assert [("contact", "FieldMalformed"), ("header.occurred_at", "TimeInFuture")] == [
        refused(row) for row in rows[1:3]
    ]
    assert "registered now" in rows[0].message
    assert (2, 2, 1) == tuple(outcome.counts()[one] for one in (Result.READY, Result.REFUSED, Result.SKIPPED))
    assert 2 == outcome.exit_code


def test_the_report_speaks_both_languages_and_holds_no_formula(tmp_path: Path, mapping: Path) -> None:
    evil = changed(编号="=cmd|' /C calc'!A0", 来源="+信鸽")
    outcome = Outcome(read(tmp_path, mapping, evil, GOOD), 0.0, None)
    file = tmp_path / "report.csv"
    write_report(file, outcome)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert ("4", "拒绝 refused", "NoSuchWord") == (first["行号 row"], first["结果 result"], first["规则 rule"])
    assert "'=cmd|' /C calc'!A0" == first["原编号 number"]
    assert first["说明 message"].startswith("“+信鸽”不在规定的选项中")
    assert "is no channel" in first["说明 message"]
    assert "未得到答复 unanswered" == second["结果 result"]


# ---------------------------------------------------------------- the stream


def test_a_table_goes_into_a_node_of_the_first_release_row_by_row(
    tmp_path: Path, mapping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = OfTheFirstRelease()

    @asynccontextmanager
    async def channel_to(_: Asking) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr(bulk, "channel_to", channel_to)
    monkeypatch.setattr(bulk, "method_of", lambda *_: node.register_cases)
    rows = read(tmp_path, mapping, *(changed(编号=str(number)) for number in range(4)))
    request_of(rows[2]).text = ""
    outcome = register_rows(ASKING, rows)
    assert outcome.failure is None
    assert [Result.REGISTERED, Result.REGISTERED, Result.REFUSED, Result.REGISTERED] == [row.result for row in rows]
    assert ("text", "FieldMissing") == (rows[2].field, rows[2].rule)
    assert [f"case-{reference}" for reference in node.registered] == [row.case_id for row in rows if row.case_id]
