"""Tables as bureaus hand them in: what cells mean, and files made by accident or on purpose that cannot be read."""

import contextlib
import csv
import gzip
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.text import tables
from kuaixiang.text.cells import inert
from kuaixiang.text.tables import (
    WHOLE_LEDGER,
    Flaw,
    NoMoment,
    TableUnusable,
    has_too_many_digits,
    moment_of,
    read_table,
    text_of,
)

AFTERNOON = datetime(2019, 5, 10, 14, 56, 53, tzinfo=SHANGHAI)
NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def saved(file: Path, fill: Callable[[Any, Any], None], **options: Any) -> Path:
    """A workbook as a spreadsheet program saves it."""
    book = xlsxwriter.Workbook(str(file), options)
    fill(book, book.add_worksheet("台账"))
    book.close()
    return file


def packed(file: Path, sheet: str, *, name: str = "s", **parts: str) -> Path:
    """A workbook made by hand: one sheet with that content, and any other parts."""
    content = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" '
        'ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {NAMESPACE} xmlns:r="{RELATIONS}"><sheets><sheet name="{name}" sheetId="1" '
        'r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": sheet,
        **parts,
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, text in content.items():
            archive.writestr(part, text)
    return file


def sheet_of(rows: str) -> str:
    return f'<?xml version="1.0"?><worksheet {NAMESPACE}><sheetData>{rows}</sheetData></worksheet>'


def refusal_of(file: Path, sheet: str = "", encoding: str = "", bounds: tables.Bounds = WHOLE_LEDGER) -> TableUnusable:
    with pytest.raises(TableUnusable) as refused:
        read_table(file.read_bytes(), encoding, sheet, bounds)
    failed = refused.value
    assert all((*failed.sentence, *failed.remedy))
    return failed


def texts(file: Path, **how: str) -> list[list[str]]:
    table = read_table(file.read_bytes(), how.get("encoding", ""), how.get("sheet", ""))
    return [[text_of(cell) for cell in line.cells] for line in table.lines]


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("2019/5/10 14:56:53", AFTERNOON),
        ("2019/05/10 14:56:53", AFTERNOON),
        ("2019-5-10 14:56:53", AFTERNOON),
        ("2019.5.10 14:56:53", AFTERNOON),
        ("2019-05-10T14:56:53", AFTERNOON),
        ("2019-05-10T06:56:53Z", AFTERNOON),
        ("2019-05-10 14:56:53+08:00", AFTERNOON),
        ("2019-05-10 14:56:53.250", AFTERNOON),
        ("2019年5月10日 14时56分53秒", AFTERNOON),
        ("2019年5月10日下午2时56分53秒", AFTERNOON),
        ("2019/5/10 下午 2:56:53", AFTERNOON),
        ("2019/5/10 2:56:53 PM", AFTERNOON),
        ("２０１９／５／１０　１４：５６：５３", AFTERNOON),
        ("2019年5月10日 星期五 14:56:53", AFTERNOON),
        (43595.6228356, AFTERNOON),
        ("43595.6228356", AFTERNOON),
        (datetime(2019, 5, 10, 14, 56, 53), AFTERNOON),  # noqa: DTZ001 - as a spreadsheet has it
        ("2019/5/10 9:05", AFTERNOON.replace(hour=9, minute=5, second=0)),
        ("2019/5/10 上午12:05", AFTERNOON.replace(hour=0, minute=5, second=0)),
        ("2019年5月10日9点", AFTERNOON.replace(hour=9, minute=0, second=0)),
    ],
)
def test_a_time_is_read_however_it_is_written(cell: Any, meant: datetime) -> None:
    moment = moment_of(cell)
    assert moment is not None
    assert (meant, False) == (moment.at, moment.day_only)
    assert f"{meant:%Y-%m-%d %H:%M:%S}" == str(moment)


@pytest.mark.parametrize(
    "cell", ["2019/5/10", "2019-05-10", "2019.5.10", "2019年5月10日", "20190510", 43595.0, "43595", date(2019, 5, 10)]
)
def test_a_day_alone_is_a_day(cell: Any) -> None:
    moment = moment_of(cell)
    assert moment is not None
    assert (AFTERNOON.date(), True, "2019-05-10") == (moment.at.date(), moment.day_only, str(moment))


@pytest.mark.parametrize(
    "cell",
    [
        "昨天",
        "2019/13/10",
        "2019/2/29",
        "2019/5/10 25:00",
        "5/10/2019",
        "19/5/10",
        "12",
        7.0,
        1e300,
        float("nan"),
        True,
        time_of_day(9, 30),
        timedelta(days=1),
        "0001-01-01",
        "2019-05-10 14:56:53+99:99",
    ],
)
def test_what_is_no_plausible_time_is_refused(cell: Any) -> None:
    with pytest.raises(NoMoment):
        moment_of(cell)


@pytest.mark.parametrize("cell", ["", "  ", "　"])
def test_an_empty_cell_is_no_time(cell: str) -> None:
    assert moment_of(cell) is None


@given(at=st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30)))  # noqa: DTZ001 - hypothesis wants them so
def test_every_way_of_writing_a_time_means_the_same(at: datetime) -> None:
    at = at.replace(microsecond=0, tzinfo=SHANGHAI)
    days = (at - datetime(1899, 12, 30, tzinfo=SHANGHAI)) / timedelta(days=1)
    utc = at.astimezone(timezone.utc)  # noqa: UP017 - one of the ways
    ways = (f"{at:%Y/%m/%d %H:%M:%S}", f"{at:%Y年%m月%d日 %H时%M分%S秒}", at.isoformat(), utc.isoformat(), days)
    found = [moment_of(way) for way in ways]
    assert [at] * len(ways) == [moment and moment.at for moment in found]


def test_a_workbook_that_counts_from_1904_is_read_so(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_number(0, 0, 43595 - 1462)

    table = read_table(saved(tmp_path / "mac.xlsx", fill, date_1904=True).read_bytes())
    moment = moment_of(table.lines[0].cells[0], since_1904=table.since_1904)
    assert "2019-05-10" == str(moment)


@pytest.mark.skipif("KX_DATA" not in os.environ, reason="KX_DATA names the folder of the real data")
def test_every_time_of_a_real_file_is_read() -> None:
    file = Path(os.environ["KX_DATA"]) / "citizen-messages-zh.csv.gz"
    shapes: dict[str, int] = {}
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for cell in (row["created"], row["replied"]):
                if moment_of(cell) is not None:
                    shape = re.sub("[0-9]", "9", cell)
                    shapes[shape] = shapes.get(shape, 0) + 1
    assert len(shapes) >= 8


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (" 张三 ", "张三"),
        (13800138000.0, "13800138000"),
        (1.5, "1.5"),
        (True, "TRUE"),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_a_cell_is_the_text_that_one_sees(cell: Any, text: str) -> None:
    assert text == text_of(cell)


def test_a_number_that_has_lost_digits_is_known() -> None:
    assert [True, False] == [has_too_many_digits(cell) for cell in (9.1110101e17, 13800138000.0)]


@given(text=st.text("=+-@'\t\r1a", min_size=1, max_size=6))
def test_no_text_is_a_formula_and_each_comes_back(text: str) -> None:
    assert not inert(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    if not text.startswith("'"):
        assert text == tables._woken(inert(text))


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_csv_is_read_in_the_encoding_that_it_is_in(tmp_path: Path, encoding: str, delimiter: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(delimiter.join(["名称", "诉求", "编号"]).encode(encoding) + b"\r\n")
    assert [["名称", "诉求", "编号"]] == texts(file)


def test_a_damaged_file_is_not_read_as_nonsense_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "damaged.csv"
    text = "名称,诉求\n" + "晨光小卖部,电子税务局无法申报，请尽快修复系统\n" * 3
    whole = text.encode()
    file.write_bytes(whole[:-20] + whole[-19:])
    failed = refusal_of(file)
    assert ("Encoding", "") == (failed.rule, failed.about)
    assert "line 4 is not utf-8" in failed.sentence.english
    assert failed.rule == refusal_of(file, encoding="utf-8").rule


def test_a_wrong_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("名称\n".encode("gb18030"))
    assert "Encoding" == refusal_of(file, encoding="utf-8").rule
    assert "encoding" == refusal_of(file, encoding="gb-nonsense").about


def test_bytes_of_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(bytes(range(128, 256)) * 9)
    assert "Encoding" == refusal_of(file).rule


def test_an_old_workbook_or_one_with_a_password_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.xls"
    file.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert "NotXlsx" == refusal_of(file).rule


def test_a_workbook_is_read_with_its_row_numbers_dates_and_texts(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        day = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet.write_string(3, 2, "名称")
        sheet.write_datetime(5, 2, datetime(2019, 5, 10, 14, 56, 53), day)  # noqa: DTZ001 - as a spreadsheet has it
        sheet.write_number(5, 3, 13800138000)
        sheet.write_string(5, 4, "=cmd|' /C calc'!A0")

    table = read_table(saved(tmp_path / "a.xlsx", fill).read_bytes())
    assert [4, 5, 6] == [line.number for line in table.lines]
    assert [False, True, False] == [line.blank for line in table.lines]
    last = table.lines[-1].cells
    assert ["", "", "13800138000", "=cmd|' /C calc'!A0"] == [text_of(last[at]) for at in (0, 1, 3, 4)]
    assert moment_of(last[2]) == moment_of("2019/5/10 14:56:53")


def test_cells_that_must_not_be_relied_on_are_marked(tmp_path: Path) -> None:
    rows = (
        '<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="e"><v>#REF!</v></c>'
        '<c r="C1"><f>1+1</f></c><c r="D1"><f>1+1</f><v>2</v></c></row>'
        '<row r="2"><c r="A2"><v>1</v></c></row><row r="3"><c r="B3"><v>1</v></c></row>'
    )
    content = sheet_of(rows).replace("</sheetData>", '</sheetData><mergeCells><mergeCell ref="A2:A3"/></mergeCells>')
    table = read_table(packed(tmp_path / "a.xlsx", content).read_bytes())
    assert [{1: Flaw.ERROR, 2: Flaw.NOT_CALCULATED}, {0: Flaw.MERGED}, {0: Flaw.MERGED}] == [
        line.flaws for line in table.lines
    ]
    assert "2" == text_of(table.lines[0].cells[3])


def test_rows_and_cells_without_references_have_their_places(tmp_path: Path) -> None:
    rows = "<row><c><v>1</v></c><c t='e'><v>#N/A</v></c></row><row><c><v>2</v></c><c><f>A1</f></c></row>"
    table = read_table(packed(tmp_path / "a.xlsx", sheet_of(rows)).read_bytes())
    assert [(1, {1: Flaw.ERROR}), (2, {1: Flaw.NOT_CALCULATED})] == [(line.number, line.flaws) for line in table.lines]


def test_of_several_sheets_with_content_one_must_be_named(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_string(0, 0, "一")
        book.add_worksheet("2025年").write_string(0, 0, "二")
        book.add_worksheet("空")

    file = saved(tmp_path / "a.xlsx", fill)
    failed = refusal_of(file)
    assert "Sheet" == failed.rule
    assert "台账, 2025年" in failed.sentence.english
    assert [["二"]] == texts(file, sheet="2025年")
    assert "sheet" == refusal_of(file, sheet="2024年").about


CORNERS = '<row r="1"><c r="A1"><v>1</v></c></row><row r="{row}"><c r="{cell}"><v>1</v></c></row>'
HOSTILE: dict[str, tuple[str, dict[str, str], str]] = {
    "a cell in the last corner": (CORNERS.format(row=1048576, cell="XFD1048576"), {}, "TooLarge"),
    "a cell in the last column": (CORNERS.format(row=2, cell="XFD2"), {}, "TooLarge"),
    "columns by rows": (CORNERS.format(row=199_000, cell="ALL199000"), {}, "TooLarge"),
    "a row too many": ("<row><c><v>1</v></c></row>" * (WHOLE_LEDGER.rows + 1), {}, "TooLarge"),
    "rows that are no numbers": ('<row r="x"><c><v>1</v></c></row>', {}, "NotXlsx"),
    "XML that ends early": ("<row>", {}, "NotXlsx"),
    "no content": ("", {}, "Empty"),
    "a bomb beside the sheet": ("", {"xl/media/image1.png": "0" * (33 << 20)}, "TooLarge"),
}


@pytest.mark.parametrize(("rows", "parts", "rule"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_workbook_is_refused_before_it_is_loaded(
    tmp_path: Path, rows: str, parts: dict[str, str], rule: str
) -> None:
    file = packed(tmp_path / "hostile.xlsx", sheet_of(rows), **parts)
    assert file.stat().st_size < 4 << 20
    assert rule == refusal_of(file, bounds=replace(WHOLE_LEDGER, unpacked_bytes=32 << 20)).rule


def test_entities_of_its_own_are_refused(tmp_path: Path) -> None:
    laughs = '<!DOCTYPE worksheet [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    content = sheet_of('<row><c t="inlineStr"><is><t>&b;</t></is></c></row>').replace("?>", f"?>{laughs}", 1)
    assert "entities" in refusal_of(packed(tmp_path / "laughs.xlsx", content)).sentence.english


def test_a_workbook_that_lies_about_its_size_ends_no_process_of_ours(tmp_path: Path) -> None:
    texts_ = f'<sst {NAMESPACE} count="1" uniqueCount="34294967296"><si><t>x</t></si></sst>'
    relations = (
        f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type="{RELATIONS}/worksheet" '
        f'Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{RELATIONS}/sharedStrings" '
        'Target="sharedStrings.xml"/></Relationships>'
    )
    parts = {"xl/sharedStrings.xml": texts_, "xl/_rels/workbook.xml.rels": relations}
    file = packed(tmp_path / "a.xlsx", sheet_of('<row><c t="s"><v>0</v></c></row>'), **parts)
    assert "NotXlsx" == refusal_of(file).rule


@pytest.mark.parametrize("place", ["A99999999999999999999", "a1", "A0", "1A", ""])
def test_a_cell_at_no_place_is_refused(tmp_path: Path, place: str) -> None:
    file = packed(tmp_path / "a.xlsx", sheet_of(f'<row><c r="{place}"><v>1</v></c></row>'))
    assert "NotXlsx" == refusal_of(file).rule


def test_merging_everything_is_refused(tmp_path: Path) -> None:
    merges = '<mergeCells><mergeCell ref="A1:ZZ1048576"/></mergeCells>'
    content = sheet_of(CORNERS.format(row=9_000, cell="CV9000")).replace("</sheetData>", f"</sheetData>{merges}")
    assert "merged" in refusal_of(packed(tmp_path / "merged.xlsx", content)).sentence.english


def test_a_workbook_cut_short_or_packed_twice_is_refused(tmp_path: Path) -> None:
    whole = packed(tmp_path / "a.xlsx", sheet_of("<row><c><v>1</v></c></row>")).read_bytes()
    cut = tmp_path / "cut.xlsx"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "NotXlsx" == refusal_of(cut).rule
    twice = tmp_path / "twice.xlsx"
    twice.write_bytes(whole)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("xl/worksheets/sheet1.xml", sheet_of(""))
    assert "NotXlsx" == refusal_of(twice).rule
    bare = tmp_path / "bare.xlsx"
    with zipfile.ZipFile(bare, "w") as archive:
        archive.writestr("readme.txt", "x")
    assert refusal_of(bare).rule in {"Empty", "NotXlsx"}


def test_any_damage_to_a_workbook_is_a_sentence(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        for at in range(40):
            sheet.write_row(at, 0, ["名称", at, "诉求"])

    whole = saved(tmp_path / "a.xlsx", fill).read_bytes()
    file = tmp_path / "damaged.xlsx"
    for at in range(4, len(whole), 97):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        file.write_bytes(bytes(damaged))
        with contextlib.suppress(TableUnusable):
            read_table(file.read_bytes())


def test_a_csv_without_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_bytes(b"a\n" * (WHOLE_LEDGER.rows + 1))
    assert "TooLarge" == refusal_of(file).rule
    assert "TooLarge" == refusal_of(file, bounds=replace(WHOLE_LEDGER, file_bytes=1 << 10)).rule
