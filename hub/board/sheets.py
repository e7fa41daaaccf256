"""Tables of pages as files: XLSX, and CSV known for UTF-8 that no formula is taken from. Never cut short."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import xlsxwriter

from hub.bulletin.files import File
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.text.cells import inert

XLSX_ROWS_MAX: Final = 1_048_570
"""What a sheet of Excel holds, less the title, the headings and the note."""
NAME_CHARACTERS_MAX: Final = 31
NOT_IN_A_NAME: Final = str.maketrans(dict.fromkeys("[]:*?/\\'", " "))
"""What a worksheet's name may not have."""
COLUMN_CHARACTERS: Final = 14
FIRST_COLUMN_CHARACTERS: Final = 28
Value = int | float | str | None


class TooManyRows(Refused):
    """A table has more rows than a workbook's sheet holds."""

    condition = Condition.INVALID
    field = "format"
    remedy = "Take it as CSV, or choose a smaller scope."
    remedy_chinese = "请导出为 CSV，或者缩小统计范围。"

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"The table has {rows} rows; a sheet holds {XLSX_ROWS_MAX}.",
            f"表格共 {rows} 行，超过工作表上限 {XLSX_ROWS_MAX} 行。",
        )


class NoSuchFormat(Refused):
    """A file is asked for in a format that there is not."""

    condition = Condition.MISSING
    field = "format"
    remedy = "Ask for xlsx or csv."
    remedy_chinese = "可选 xlsx 或 csv。"

    def __init__(self, wanted: str) -> None:
        super().__init__(f"There is no format {wanted!r}.", f"没有“{wanted}”这种格式。")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: `name` is the file's, `note` says what the figures are of and how current they are."""

    name: str
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str
    percents: frozenset[int] = frozenset()
    """Columns whose numbers are shares of one."""


def as_sheet_file(sheet: Sheet, wanted: str) -> File:
    """Write a table down. Raises `NoSuchFormat`, `TooManyRows`."""
    match wanted:
        case "csv":
            return File(f"{sheet.name}.csv", "text/csv; charset=utf-8", _as_csv(sheet))
        case "xlsx":
            media_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
            return File(f"{sheet.name}.xlsx", media_type, _as_xlsx(sheet))
        case _:
            raise NoSuchFormat(wanted)


def _as_csv(sheet: Sheet) -> bytes:
    """Headings and rows alone, so that other programs can read it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for line in (sheet.headings, *sheet.rows):
        writer.writerow([inert(value) if isinstance(value, str) else value for value in line])
    return out.getvalue().encode("utf-8-sig")


def _as_xlsx(sheet: Sheet) -> bytes:
    if len(sheet.rows) > XLSX_ROWS_MAX:
        raise TooManyRows(len(sheet.rows))
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    title = book.add_format({"bold": True, "font_size": 14})
    head = book.add_format({"bold": True, "border": 1, "bg_color": "#F0F0F0", "text_wrap": True, "valign": "vcenter"})
    cell = book.add_format({"border": 1})
    percent = book.add_format({"border": 1, "num_format": "0.00%"})
    page = book.add_worksheet(sheet.title.translate(NOT_IN_A_NAME)[:NAME_CHARACTERS_MAX])
    page.write_string(0, 0, sheet.title, title)
    page.write_string(1, 0, sheet.note)
    for column, heading in enumerate(sheet.headings):
        page.write_string(2, column, heading, head)
    page.set_column(0, 0, FIRST_COLUMN_CHARACTERS)
    page.set_column(1, max(1, len(sheet.headings) - 1), COLUMN_CHARACTERS)
    for at, line in enumerate(sheet.rows, start=3):
        for column, value in enumerate(line):
            if isinstance(value, str):
                page.write_string(at, column, value, cell)
            elif value is None:
                page.write_blank(at, column, None, cell)
            else:
                page.write_number(at, column, value, percent if column in sheet.percents else cell)
    page.freeze_panes(3, 1)
    if sheet.rows:
        page.autofilter(2, 0, 2 + len(sheet.rows), len(sheet.headings) - 1)
    book.close()
    return out.getvalue()
