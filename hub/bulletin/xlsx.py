"""The bulletin as a workbook: the same tables, numbers as numbers, one sheet for each, ready to be printed."""

import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any, Final

import xlsxwriter

from hub.bulletin.document import BASIS_POINTS, NOTHING, PER_MILLE, Bulletin, Cell, Kind, Line, Table, words

_SCALES: Final = {Kind.RATE: BASIS_POINTS, Kind.GROWTH: PER_MILLE, Kind.POINTS: 100}
"""What a cell's integer is divided by to be the number that its format shows."""
_FORMATS: Final[Mapping[Kind, Mapping[str, Any]]] = {
    Kind.WORDS: {"align": "left", "text_wrap": True},
    Kind.TERM: {"align": "center"},
    Kind.COUNT: {"align": "right", "num_format": "#,##0"},
    Kind.RATE: {"align": "right", "num_format": "0.00%"},
    Kind.GROWTH: {"align": "right", "num_format": "+0.0%;-0.0%;0.0%"},
    Kind.POINTS: {"align": "right", "num_format": "+0.00;-0.00;0.00"},
    Kind.RANK: {"align": "center", "num_format": "0"},
}
_BORDERED: Final[Mapping[str, Any]] = {"border": 1, "valign": "vcenter", "font_name": "宋体", "font_size": 11}
_HEADING: Final = {
    **_BORDERED,
    "font_name": "黑体",
    "align": "center",
    "text_wrap": True,
    "bg_color": "#F0F0F0",
}
_TOTAL: Final[Mapping[str, Any]] = {"font_name": "黑体", "bold": True}
_TITLE: Final = {"font_name": "方正小标宋简体", "font_size": 16, "align": "center", "valign": "vcenter"}
_NOTE: Final = {"font_name": "宋体", "font_size": 10, "align": "left", "valign": "top", "text_wrap": True}

A4: Final = 9
"""Excel's number of the paper."""
TITLE_ROW_POINTS: Final = 30
HEADING_ROW_POINTS: Final = 32
ROW_POINTS: Final = 18
FIRST_LINE: Final = 2
"""The row below the title and the headings, which stay in sight."""
CHARACTERS_ACROSS: Final = 130
"""A sheet's width: so many characters fill a landscape page without being shrunk much."""
COLUMN_CHARACTERS_MIN: Final = 8.0
_LATIN_MAX: Final = 0x2FF


def as_xlsx(bulletin: Bulletin) -> bytes:
    """Write the workbook: the bytes of a .xlsx file."""
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    book.set_properties(
        {
            "title": "".join(bulletin.title),
            "author": bulletin.issuer,
            "created": datetime.combine(bulletin.signed_on, time(), UTC).replace(tzinfo=None),
        }
    )
    writer = _Writer(book, bulletin)
    writer.sheet("总体", bulletin.overall)
    writer.sheet("分单位", bulletin.bureaus, filtered=True)
    writer.sheet("分类别", bulletin.categories)
    writer.sheet("分渠道", bulletin.channels)
    writer.sheet("分部门类别", bulletin.departments)
    writer.sheet("共性诉求", bulletin.issues)
    writer.sheet("问题", _problems(bulletin))
    writer.sheet("口径", _definitions(bulletin))
    book.close()
    return out.getvalue()


class _Writer:
    def __init__(self, book: Any, bulletin: Bulletin) -> None:  # noqa: ANN401 - XlsxWriter has no types
        self._book = book
        self._bulletin = bulletin
        self._formats = {
            (kind, is_total): book.add_format({**_BORDERED, **layout, **emphasis})
            for kind, layout in _FORMATS.items()
            for is_total, emphasis in ((False, {}), (True, _TOTAL))
        }
        self._heading, self._title, self._note = (book.add_format(layout) for layout in (_HEADING, _TITLE, _NOTE))

    def sheet(self, name: str, table: Table, *, filtered: bool = False) -> None:
        """One sheet: the title, the table, its note."""
        sheet = self._book.add_worksheet(name)
        last = len(table.headings) - 1
        widths = [max(COLUMN_CHARACTERS_MIN, CHARACTERS_ACROSS * width / sum(table.widths)) for width in table.widths]
        for column, width in enumerate(widths):
            sheet.set_column(column, column, width)
        sheet.set_row(0, TITLE_ROW_POINTS)
        sheet.merge_range(
            0, 0, 0, last, f"{self._bulletin.issuer}　{table.title}（{self._bulletin.period}）", self._title
        )
        sheet.set_row(1, HEADING_ROW_POINTS)
        for column, heading in enumerate(table.headings):
            sheet.write_string(1, column, heading, self._heading)
        for row, line in enumerate(table.lines, start=FIRST_LINE):
            sheet.set_row(row, ROW_POINTS * max(map(_rows_taken, line.cells, widths)))
            self._line(sheet, row, line)
        end = FIRST_LINE + len(table.lines)
        note = "　".join(filter(None, (table.note, f"数据截至：{self._bulletin.data_as_of}。")))
        sheet.merge_range(end, 0, end, last, note, self._note)
        if filtered and table.lines:
            sheet.autofilter(1, 0, end - 1, last)
        sheet.freeze_panes(FIRST_LINE, 1)
        sheet.repeat_rows(0, 1)
        sheet.set_paper(A4)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(left=0.6, right=0.6, top=0.8, bottom=0.8)
        sheet.center_horizontally()
        sheet.set_footer("&C— &P —")

    def _line(self, sheet: Any, row: int, line: Line) -> None:  # noqa: ANN401 - XlsxWriter has no types
        for column, cell in enumerate(line.cells):
            layout = self._formats[cell.kind, line.is_total]
            match cell.value:
                case None:
                    sheet.write_string(row, column, NOTHING, layout)
                case str(text):
                    sheet.write_string(row, column, text, layout)
                case int(number):
                    sheet.write_number(row, column, number / _SCALES.get(cell.kind, 1), layout)


def _rows_taken(cell: Cell, width: float) -> int:
    """Lines that a text takes in a column of so many characters; a Chinese one takes the room of two."""
    room = sum(2 if ord(character) > _LATIN_MAX else 1 for character in cell.text)
    return max(1, math.ceil(room / (width - 1)))


def _problems(bulletin: Bulletin) -> Table:
    lines = [(finding.title, name, in_words) for finding in bulletin.findings for name, in_words in finding.bureaus]
    return Table("存在问题明细表", ("问题", "单位", "情况"), _lines(lines), (20, 30, 80))


def _definitions(bulletin: Bulletin) -> Table:
    rows = [
        *((definition.word, definition.meaning, definition.english) for definition in bulletin.definitions),
        *((what, found, "") for what, found in bulletin.strip),
    ]
    return Table(bulletin.attachments[-1], ("项目", "说明", "Definition"), _lines(rows), (20, 55, 55))


def _lines(rows: Sequence[tuple[str, ...]]) -> tuple[Line, ...]:
    return tuple(Line(tuple(map(words, row))) for row in rows)
