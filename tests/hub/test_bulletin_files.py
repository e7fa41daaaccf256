"""The bulletin as files, read back: the layout of the document, the sums of the workbook, the page by itself."""

import io
import re
import zipfile
from html.parser import HTMLParser
from typing import Any

import docx
import pytest
from docx.enum.section import WD_ORIENT
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_LINE_SPACING
from docx.oxml.ns import qn
from docx.shared import Mm, Pt
from python_calamine import CalamineWorkbook

from hub.bulletin import files
from hub.bulletin.document import Bulletin, Format
from hub.bulletin.files import BulletinTooLarge, as_file
from hub.bulletin.material import CorrectionLine, IssueLine, MismatchLine, ReconciliationLine, Shortfall
from hub.words import Lack
from kuaixiang.runtime.clock import to_micros
from tests.hub.bulletins import NOVEMBER, bulletin, counted, edition, row, search, texts


def whole() -> Bulletin:
    """A bulletin that has something of everything."""
    return bulletin(
        row("330000", on_time=5, registered=6, completed=5, unfinished=1),
        row("330100", on_time=90, late=10, registered=120, completed=110, unfinished=12, overdue=3, feedback_met=80),
        row(
            "330200", on_time=95, late=5, registered=1300, completed=1200, satisfied=8, not_satisfied=1, followed_up=10
        ),
        row("330300", on_time=3, late=1, registered=4, completed=4),
        previous=counted(row("330100", registered=100), row("330200", registered=1000)),
        search=search(
            IssueLine("GX-2026-0002", "发票额度调整", 12, 10, ("杭州市", "宁波市"), ("纳税服务",)),
            IssueLine("GX-2026-0003", "=1+1<script>", 2, 0, (), ()),
            unconfirmed=3,
        ),
        shortfalls=[Shortfall("330106", "杭州市西湖区", "330100", Lack.BEHIND)],
        reconciliation=ReconciliationLine(to_micros(NOVEMBER), 4, 1, [MismatchLine("宁波市海曙区", 3)]),
        edition=edition(2),
        corrections=[CorrectionLine("温州市", "受理", 120, 123)],
    )


@pytest.fixture(scope="module")
def made() -> Bulletin:
    return whole()


def test_the_file_is_named_by_scope_and_period_and_has_its_media_type(made: Bulletin) -> None:
    names = {wanted: (as_file(made, wanted).name, as_file(made, wanted).media_type) for wanted in Format}
    assert names == {
        Format.HTML: ("bulletin-330000-2026-10.html", "text/html; charset=utf-8"),
        Format.DOCX: (
            "bulletin-330000-2026-10.docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        Format.XLSX: (
            "bulletin-330000-2026-10.xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
    }


def test_a_file_that_fits_into_no_answer_is_refused(made: Bulletin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CONTENT_BYTES_MAX", 100)
    with pytest.raises(BulletinTooLarge, match="100 can be sent"):
        as_file(made, Format.HTML)


# ---------------------------------------------------------------- DOCX


@pytest.fixture(scope="module")
def document(made: Bulletin) -> Any:
    return docx.Document(io.BytesIO(as_file(made, Format.DOCX).content))


def test_the_document_is_on_a4_with_the_official_margins_and_the_wide_tables_on_the_same_turned(document: Any) -> None:
    def millimetres(*lengths: Any) -> tuple[int, ...]:
        return tuple(round(length.mm) for length in lengths)

    layouts = [
        (
            millimetres(page.page_width, page.page_height),
            millimetres(page.top_margin, page.bottom_margin, page.left_margin, page.right_margin),
            page.orientation,
        )
        for page in document.sections
    ]
    assert layouts == [
        ((210, 297), (37, 35, 28, 26), WD_ORIENT.PORTRAIT),
        ((297, 210), (28, 26, 37, 35), WD_ORIENT.LANDSCAPE),
        ((210, 297), (37, 35, 28, 26), WD_ORIENT.PORTRAIT),
    ]


@pytest.mark.parametrize(
    ("style", "font", "points"),
    [
        ("通报标题", "方正小标宋简体", 22),
        ("公文正文", "仿宋_GB2312", 16),
        ("一级标题", "黑体", 16),
        ("二级标题", "楷体_GB2312", 16),
        ("附件标题", "方正小标宋简体", 18),
        ("页码右", "宋体", 14),
    ],
)
def test_each_style_has_its_chinese_font_and_size(document: Any, style: str, font: str, points: float) -> None:
    found = document.styles[style]
    fonts = found.element.rPr.rFonts
    assert (font, "Times New Roman", points) == (
        fonts.get(qn("w:eastAsia")),
        fonts.get(qn("w:ascii")),
        found.font.size.pt,
    )


def test_the_body_has_lines_of_28_points_and_begins_two_characters_in(document: Any) -> None:
    layout = document.styles["公文正文"].paragraph_format
    indent = document.styles["公文正文"].element.pPr.ind
    assert (
        layout.line_spacing_rule,
        layout.line_spacing,
        layout.first_line_indent,
        indent.get(qn("w:firstLineChars")),
        layout.alignment,
    ) == (WD_LINE_SPACING.EXACTLY, Pt(28), Pt(32), "200", WD_ALIGN_PARAGRAPH.JUSTIFY)


def test_every_paragraph_of_the_text_has_a_style_of_the_official_layout(document: Any) -> None:
    assert {paragraph.style.name for paragraph in document.paragraphs} == {
        "发文机关",
        "通报标题",
        "主送机关",
        "公文正文",
        "一级标题",
        "二级标题",
        "表题",
        "表注",
        "表后",
        "附件说明",
        "落款",
        "附件序号",
        "附件标题",
        "分节",
    }


def test_machines_without_the_fonts_are_told_others(made: Bulletin) -> None:
    with zipfile.ZipFile(io.BytesIO(as_file(made, Format.DOCX).content)) as package:
        fonts = package.read("word/fontTable.xml").decode()
    named = dict(re.findall(r'<w:font w:name="([^"]+)"[^>]*>\s*<w:altName w:val="([^"]+)"', fonts))
    assert {"方正小标宋简体", "仿宋_GB2312", "楷体_GB2312", "黑体", "宋体"} <= set(named)
    assert "仿宋,FangSong" in named["仿宋_GB2312"]
    assert len(re.findall(r"<w:font ", fonts)) == len(set(re.findall(r'<w:font w:name="([^"]+)"', fonts)))


def test_pages_are_numbered_between_dashes_on_the_outer_side(document: Any) -> None:
    page = document.sections[0]
    odd, even = page.footer.paragraphs[0], page.even_page_footer.paragraphs[0]
    assert document.settings.odd_and_even_pages_header_footer
    assert [(odd.text, odd.style.paragraph_format.alignment), (even.text, even.style.paragraph_format.alignment)] == [
        ("— 1 —", WD_ALIGN_PARAGRAPH.RIGHT),
        ("— 1 —", WD_ALIGN_PARAGRAPH.LEFT),
    ]
    assert [element.text for element in odd._p.iter(qn("w:instrText"))] == [" PAGE "]


def test_tables_repeat_their_header_and_no_row_is_split(document: Any) -> None:
    for table in document.tables:
        repeated = [row._tr.trPr.find(qn("w:tblHeader")) is not None for row in table.rows]
        whole_rows = [row._tr.trPr.find(qn("w:cantSplit")) is not None for row in table.rows]
        assert repeated == [True] + [False] * (len(table.rows) - 1)
        assert all(whole_rows)


def test_the_document_has_the_tables_of_the_bulletin(made: Bulletin, document: Any) -> None:
    read = [[[cell.text for cell in row.cells] for row in table.rows] for table in document.tables]
    tables = (made.overall, made.issues, *made.annexes)
    assert read == [[list(table.headings), *texts(table)] for table in tables]


def test_the_tables_fit_between_the_margins(document: Any) -> None:
    for table, across in zip(document.tables, (156, 156, 225, 225, 225, 225), strict=True):
        width = sum(column.width for column in table.columns)
        assert Mm(across - 1) < width <= Mm(across)


# ---------------------------------------------------------------- XLSX


@pytest.fixture(scope="module")
def workbook(made: Bulletin) -> CalamineWorkbook:
    return CalamineWorkbook.from_filelike(io.BytesIO(as_file(made, Format.XLSX).content))


def rows(workbook: CalamineWorkbook, sheet: str) -> list[list[Any]]:
    return workbook.get_sheet_by_name(sheet).to_python()


def test_the_workbook_has_a_sheet_for_each_table(workbook: CalamineWorkbook) -> None:
    assert workbook.sheet_names == ["总体", "分单位", "分类别", "分渠道", "分部门类别", "共性诉求", "问题", "口径"]


def test_the_total_of_the_bureaus_is_their_sum_and_the_numbers_are_numbers(workbook: CalamineWorkbook) -> None:
    _, headings, total, *lines, _ = rows(workbook, "分单位")
    for heading in ("受理", "办结", "按时", "超时", "未办结"):
        at = headings.index(heading)
        assert total[at] == sum(line[at] for line in lines)
    assert total[headings.index("受理")] == 1430
    ningbo = dict(zip(headings, lines[0], strict=True))
    assert (ningbo["单位"], ningbo["按时办结率"], ningbo["满意率"], ningbo["环比"], ningbo["名次"]) == (
        "宁波市",
        0.95,
        0.8889,
        0.3,
        1,
    )


def test_what_has_no_figure_is_a_dash(workbook: CalamineWorkbook) -> None:
    _, headings, *lines = rows(workbook, "分单位")
    own = next(line for line in lines if line[0] == "本级")
    assert (own[headings.index("满意率")], own[headings.index("名次")]) == ("—", "—")


def test_text_that_looks_like_a_formula_stays_text(workbook: CalamineWorkbook) -> None:
    assert "=1+1<script>" in [line[2] for line in rows(workbook, "共性诉求")]


def test_the_problems_are_listed_bureau_by_bureau(workbook: CalamineWorkbook) -> None:
    listed = [tuple(line) for line in rows(workbook, "问题")[2:-1]]
    assert ("办理超时", "杭州市", "本期超时10个") in listed
    assert ("数据报送不完整", "杭州市西湖区", "报送滞后") in listed
    assert ("对账不符", "宁波市海曙区", "3处") in listed
    assert ("已公布数据更正", "温州市", "受理由120更正为123") in listed


def test_every_rate_is_explained_on_its_sheet(made: Bulletin, workbook: CalamineWorkbook) -> None:
    explained = "\n".join(line[0] for line in rows(workbook, "口径"))
    assert all(heading in explained for heading in made.bureaus.headings[1:])


def test_titles_and_headings_stay_in_sight_and_are_printed_on_each_page(made: Bulletin) -> None:
    with zipfile.ZipFile(io.BytesIO(as_file(made, Format.XLSX).content)) as package:
        sheet = package.read("xl/worksheets/sheet2.xml").decode()
        book = package.read("xl/workbook.xml").decode()
    assert '<pane xSplit="1" ySplit="2"' in sheet
    assert 'paperSize="9"' in sheet
    assert 'orientation="landscape"' in sheet
    assert book.count("_xlnm.Print_Titles") == 8


# ---------------------------------------------------------------- HTML


class Page(HTMLParser):
    """Collects what a page says and what it refers to; refuses what is not nested."""

    VOID = frozenset({"meta", "br", "col", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.cells[-1] += data


def test_the_page_parses_and_refers_to_nothing_outside_itself(made: Bulletin) -> None:
    text = as_file(made, Format.HTML).content.decode()
    page = Page(text)
    assert page.references == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert re.findall(r"url\(|@import|https?:", text) == []


def test_what_comes_from_texts_is_escaped_on_the_page(made: Bulletin) -> None:
    text = as_file(made, Format.HTML).content.decode()
    assert ("=1+1&lt;script&gt;" in text, "<script" in text) == (True, False)


def test_the_page_has_the_tables_of_the_bulletin(made: Bulletin) -> None:
    page = Page(as_file(made, Format.HTML).content.decode())
    tables = (made.overall, made.issues, *made.annexes)
    assert page.cells == [cell for table in tables for line in (list(table.headings), *texts(table)) for cell in line]


def test_an_empty_period_makes_all_three_files() -> None:
    empty = bulletin(row("330000"))
    assert all(as_file(empty, wanted).content for wanted in Format)
