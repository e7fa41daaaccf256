"""The ledger 台账 as a table for people: its columns, and the files it is written into, XLSX or CSV.

The columns are those of the notice's registration (§四(一)1) and of a ledger as bureaus keep it on paper (§五(三)).
Terminals and the pages of a bureau's desk write it by the same code, from the lines that `export_ledger` tells.
"""

import csv
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import xlsxwriter
from google.protobuf.timestamp_pb2 import Timestamp

from kuaixiang.domain.calendar import SHANGHAI, last_day
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both, name, term_of
from kuaixiang.domain.words import (
    Category,
    Channel,
    Custody,
    ReferralKind,
    ReferralState,
    Satisfaction,
    Stage,
    Telling,
)
from kuaixiang.text.cells import ACTIVE_BEGINNINGS, inert
from kuaixiang.web.language import shown_instant
from kuaixiang.wire.codec import instant, timestamp
from kuaixiang.wire.v1 import case_pb2

SHEET_ROWS_MAX: Final = 1_048_576
CELL_CHARACTERS_MAX: Final = 32_000
"""A spreadsheet's cell takes 32,767; what is longer ends with an ellipsis."""
TITLE: Final = "小微企业涉税诉求和意见台账"
FONT: Final = "宋体"
FONT_POINTS: Final = 9
LINE_POINTS: Final = 12.0
ROW_POINTS_MAX: Final = 300.0
"""A longer text is read in its cell; a spreadsheet allows 409."""
WIDE: Final = 1.75
NARROW: Final = 0.95
"""Widths of a Chinese and a Latin character of that font, in the units of a column's width."""
A3: Final = 8
PAGES_WIDE: Final = 2
"""A line goes over two pages side by side, as in a ledger on paper; on one its letters would be too small to read."""

ON_THE_SPOT: Final = Both("on the spot", "当场答复")

Value = str | int | datetime | date | None
"""What stands in a column; instants in Shanghai, without their zone, as spreadsheets keep them."""


# ---------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class Place:
    """A line, its number, the names of bureaus, and the language: files are in Chinese, a page is in either.

    Where departments are known by name they are told by it, else by their codes.
    """

    row: case_pb2.LedgerRow
    number: int
    bureau_name: Callable[[str], str]
    english: bool = False
    department_name: Callable[[str], str] = str

    def said(self, both: Both) -> str:
        """A phrase in the line's language."""
        return both.english if self.english else both.chinese

    def word(self, kind: type[IntEnum], number: int) -> str:
        """A word in the line's language; the number of one that this version does not know."""
        known = self.english and 1 <= number <= len(kind)
        return name(kind(number)).replace("-", " ") if known else term_of(kind, number)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the ledger: its heading, in Chinese and in English, its width in characters, what stands in it."""

    heading: str
    english: str
    width: float
    value: Callable[[Place], Value]


def _at(stamp: Timestamp) -> datetime | None:
    """A time to the second, None for one that is not set."""
    if not stamp.seconds:
        return None
    return instant(stamp).astimezone(SHANGHAI).replace(tzinfo=None, microsecond=0)


def _told(place: Place) -> str:
    row = place.row
    if row.telling:
        when = shown_instant(instant(row.told_at)) if row.HasField("told_at") else ""
        return " ".join(part for part in (place.word(Telling, row.telling), when, row.told) if part)
    return place.said(ON_THE_SPOT) if row.answered_on_the_spot else ""


def _department(place: Place) -> str:
    lead = place.department_name(place.row.department)
    listed_ = (", " if place.english else "、").join(map(place.department_name, place.row.assisting_departments))
    assisting = place.said(Both(f" (with {listed_})", f"（协办 {listed_}）"))
    return f"{lead}{assisting}" if listed_ else lead


def _due(place: Place) -> date | None:
    """The last day; the limit ends at its 24:00."""
    if not place.row.HasField("due_at"):
        return None
    return last_day(instant(place.row.due_at))


def _extension(place: Place) -> str:
    row = place.row
    days = row.extended_workdays
    granted = place.said(Both(f"{days} working days more", f"延长 {days} 个工作日")) if days else ""
    pending = place.said(Both("asked for", "申请中")) if row.extension_pending else ""
    return " ".join(part for part in (granted, pending) if part)


def _told_by(place: Place) -> str:
    row = place.row
    told_by = place.word(Channel, row.told_by) if row.told_by else ""
    return place.said(ON_THE_SPOT) if row.answered_on_the_spot else told_by


def _followed_up(place: Place) -> str:
    row = place.row
    return (
        f"{shown_instant(instant(row.followed_up_at))} {row.remark}".strip() if row.HasField("followed_up_at") else ""
    )


def _satisfaction(place: Place) -> str:
    return place.word(Satisfaction, place.row.satisfaction) if place.row.satisfaction else ""


def _referrals(place: Place) -> str:
    lines = []
    for one in place.row.referrals:
        way = f"{place.bureau_name(one.from_bureau)} → {place.bureau_name(one.to_bureau)}"
        final = place.bureau_name(one.final_bureau) if one.final_bureau not in {"", one.to_bureau} else ""
        onward = place.said(Both(f" (for {final})", f"（转 {final}）")) if final else ""
        kind, state = place.word(ReferralKind, one.kind), place.word(ReferralState, one.state)
        lines.append(f"{shown_instant(instant(one.at))} {kind} {way}{onward} {state}")
    return "\n".join(lines)


def _status(place: Place) -> str:
    row = place.row
    if row.unreadable:
        return f"{place.word(Stage, row.stage)}·{place.said(Both('its record cannot be read', '记录无法读取'))}"
    offered = place.word(Custody, Custody.OFFERED) if int(row.custody) == Custody.OFFERED else ""
    overdue = place.said(Both("overdue", "逾期")) if row.overdue else ""
    return "·".join(part for part in (place.word(Stage, row.stage), offered, overdue) if part)


def _remarks(place: Place) -> str:
    row = place.row
    lead = place.said(Both(f"linked to {row.lead_case_id}", f"与 {row.lead_case_id} 并案")) if row.lead_case_id else ""
    issue = place.said(Both(f"common issue {row.issue_id}", f"共性诉求 {row.issue_id}")) if row.issue_id else ""
    return ("; " if place.english else "；").join(part for part in (row.note, lead, issue) if part)


COLUMNS: Final = (
    Column("序号", "No.", 5, lambda place: place.number),
    Column("受理编号", "Case", 12, lambda place: place.row.case_id),
    Column("纳税人名称", "Taxpayer", 15, lambda place: place.row.taxpayer_name),
    Column("统一社会信用代码", "Taxpayer number", 12, lambda place: place.row.taxpayer_number),
    Column("有效联系方式", "Contact", 13, lambda place: place.row.contact),
    Column("诉求和意见", "Request or opinion", 32, lambda place: place.row.text),
    Column("类别", "Category", 9, lambda place: place.word(Category, place.row.category) if place.row.category else ""),
    Column("渠道", "Channel", 9, lambda place: place.word(Channel, place.row.channel) if place.row.channel else ""),
    Column("受理时间", "Accepted", 15, lambda place: _at(place.row.registered_at)),
    Column("受理单位", "Accepting bureau", 10, lambda place: place.bureau_name(place.row.origin_bureau)),
    Column("受理部门", "Accepting department", 10, lambda place: place.department_name(place.row.accepting_department)),
    Column("受理人", "Accepted by", 10, lambda place: place.row.accepted_by),
    Column("告知情况", "Told", 15, _told),
    Column("转交时间", "Forwarded", 15, lambda place: _at(place.row.forwarded_at)),
    Column("承办部门", "Department", 11, _department),
    Column("办理时限", "Handle by", 10, _due),
    Column("延期", "Extension", 9, _extension),
    Column("办理结果", "Result", 28, lambda place: place.row.result),
    Column("办结时间", "Completed", 15, lambda place: _at(place.row.completed_at)),
    Column("反馈时间", "Fed back", 15, lambda place: _at(place.row.fed_back_at)),
    Column("反馈方式", "Fed back by", 9, _told_by),
    Column("回访情况", "Follow-up", 14, _followed_up),
    Column("满意度", "Satisfaction", 7, _satisfaction),
    Column("移交情况", "Hand-overs", 20, _referrals),
    Column("销号时间", "Written off", 15, lambda place: _at(place.row.written_off_at)),
    Column("状态", "State", 9, _status),
    Column("备注", "Remarks", 16, _remarks),
)


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True, slots=True)
class Period:
    """Days of acceptance, both included; None: no limit."""

    first: date | None = None
    last: date | None = None

    def __str__(self) -> str:
        if self.first is None and self.last is None:
            return "全部"
        return f"{self.first or ''} 至 {self.last or '今'}"


def export_request(
    *, bureau: str, actor: str, role: int, department: str, period: Period, open_only: bool
) -> case_pb2.ExportLedgerRequest:
    """What is asked of the node for the ledger's lines."""
    word: Any = role
    request = case_pb2.ExportLedgerRequest(
        bureau=bureau, actor=actor, role=word, department=department, open_only=open_only
    )
    if period.first is not None:
        request.registered_from.CopyFrom(timestamp(_midnight(period.first)))
    if period.last is not None:
        request.registered_before.CopyFrom(timestamp(_midnight(period.last + timedelta(days=1))))
    return request


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)


# ---------------------------------------------------------------- files


class SheetFull(Refused):
    """A ledger has more cases than a sheet of a workbook has rows."""

    condition = Condition.INVALID
    remedy = "Export a part by the days of acceptance, or write CSV."
    remedy_chinese = "请按受理时间分段导出，或者导出为 CSV。"

    def __init__(self) -> None:
        super().__init__(
            f"A sheet has no more than {SHEET_ROWS_MAX:,} rows.", f"一个工作表最多 {SHEET_ROWS_MAX:,} 行。"
        )


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the table."""

    bureau: str
    period: str
    as_of: datetime
    masked: bool

    def __str__(self) -> str:
        masked = "；纳税人名称和联系方式已脱敏" if self.masked else ""
        return f"单位：{self.bureau}；受理时间：{self.period}；导出时间：{shown_instant(self.as_of)}{masked}"


class Sink(Protocol):
    """A file that lines are written into."""

    def write(self, values: Sequence[Value]) -> None:
        """Writes a line."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends the file."""


class CsvSink:
    """The ledger as CSV in UTF-8 with its mark, by which spreadsheets know it; nothing in it is taken for a formula."""

    def __init__(self, file: Path, heading: Heading) -> None:
        self._stream = file.open("w", encoding="utf-8-sig", newline="")
        self._writer = csv.writer(self._stream)
        self._writer.writerow(column.heading for column in COLUMNS)

    def write(self, values: Sequence[Value]) -> None:
        """Writes a line."""
        self._writer.writerow(inert(value) if isinstance(value, str) else value for value in values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()


class XlsxSink:
    """The ledger as a workbook, written line by line: texts are texts, whatever they begin with, times are times."""

    HEADING_ROW: Final = 2

    def __init__(self, file: Path, heading: Heading) -> None:
        self._book = xlsxwriter.Workbook(
            str(file),
            {
                "constant_memory": True,
                "tmpdir": str(file.parent),
                "strings_to_formulas": False,
                "strings_to_numbers": False,
                "strings_to_urls": False,
            },
        )
        self._book.set_properties({"title": TITLE, "subject": str(heading), "comments": ""})
        self._sheet = self._book.add_worksheet("台账")
        cell = {"font_name": FONT, "font_size": FONT_POINTS, "valign": "top", "border": 1, "border_color": "#999999"}
        self._text = self._book.add_format({**cell, "text_wrap": True})
        self._quoted = self._book.add_format({**cell, "text_wrap": True, "quote_prefix": True})
        self._number = self._book.add_format({**cell, "align": "center"})
        self._instant = self._book.add_format({**cell, "align": "center", "num_format": "yyyy-mm-dd hh:mm"})
        self._day = self._book.add_format({**cell, "align": "center", "num_format": "yyyy-mm-dd"})
        self._head = self._book.add_format(
            {
                **cell,
                "bold": True,
                "align": "center",
                "valign": "vcenter",
                "bg_color": "#E7ECF3",
                "text_wrap": True,
            }
        )
        self._row = self.HEADING_ROW
        self._begin(heading)

    def _begin(self, heading: Heading) -> None:
        sheet = self._sheet
        for at, column in enumerate(COLUMNS):
            sheet.set_column(at, at, column.width)
        title = self._book.add_format({"font_name": FONT, "font_size": 18, "bold": True, "valign": "vcenter"})
        below = self._book.add_format({"font_name": FONT, "font_size": 10, "valign": "vcenter"})
        # Not merged over the columns: a title that is stays out of sight when one scrolls.
        sheet.set_row(0, 30)
        sheet.write_string(0, 0, TITLE, title)
        sheet.write_string(1, 0, str(heading), below)
        sheet.set_row(self.HEADING_ROW, 28)
        for at, column in enumerate(COLUMNS):
            sheet.write_string(self.HEADING_ROW, at, column.heading, self._head)
        sheet.freeze_panes(self.HEADING_ROW + 1, 3)
        sheet.set_landscape()
        sheet.set_paper(A3)
        sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
        sheet.fit_to_pages(PAGES_WIDE, 0)
        sheet.print_across()
        sheet.repeat_rows(self.HEADING_ROW)
        sheet.repeat_columns(0, 2)
        sheet.set_footer("&C第 &P 页，共 &N 页")

    def write(self, values: Sequence[Value]) -> None:
        """Writes a line. Raises `SheetFull`."""
        self._row += 1
        if self._row >= SHEET_ROWS_MAX:
            raise SheetFull
        # Said, for not every program fits a row to its texts when it opens a file.
        self._sheet.set_row(self._row, _height(values))
        for at, value in enumerate(values):
            match value:
                case None | "":
                    self._sheet.write_blank(self._row, at, None, self._text)
                case str():
                    form = self._quoted if value.startswith(ACTIVE_BEGINNINGS) else self._text
                    self._sheet.write_string(self._row, at, value, form)
                case int():
                    self._sheet.write_number(self._row, at, value, self._number)
                case datetime():
                    self._sheet.write_datetime(self._row, at, value, self._instant)
                case date():
                    self._sheet.write_datetime(self._row, at, value, self._day)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sheet.autofilter(self.HEADING_ROW, 0, max(self._row, self.HEADING_ROW + 1), len(COLUMNS) - 1)
        self._book.close()


def _height(values: Sequence[Value]) -> float:
    """How high a row must be for its texts, in points."""
    lines = max(
        _lines(value, column.width) if isinstance(value, str) else 1
        for value, column in zip(values, COLUMNS, strict=True)
    )
    return min(LINE_POINTS * lines + 3, ROW_POINTS_MAX)


def _lines(text: str, width: float) -> int:
    """About how many lines a text takes in a column. Of its characters beyond ASCII most have three bytes."""
    lines = 0
    for paragraph in text.split("\n"):
        wide = (len(paragraph.encode()) - len(paragraph)) / 2
        lines += max(1, math.ceil((wide * WIDE + (len(paragraph) - wide) * NARROW) / (width - 1)))
    return lines


SINKS: Final[dict[str, Callable[[Path, Heading], Sink]]] = {".xlsx": XlsxSink, ".csv": CsvSink}
"""What writes a file, by how its name ends."""


# ---------------------------------------------------------------- writing


class Writing:
    """One attempt at the file: its heading from the first answer, then line by line."""

    def __init__(
        self,
        file: Path,
        sink_of: Callable[[Path, Heading], Sink],
        *,
        bureau: str,
        bureau_name: Callable[[str], str],
        period: Period,
    ) -> None:
        self._file = file
        self._sink_of = sink_of
        self._bureau = bureau
        self._period = period
        self._bureau_name = functools.cache(bureau_name)
        self.cases = 0

    def begin(self, answer: case_pb2.ExportLedgerResponse) -> Sink:
        """The file with what stands above its table. Raises `OSError`."""
        name = self._bureau_name(self._bureau)
        return self._sink_of(
            self._file, Heading(name, str(self._period), instant(answer.as_of), answer.contacts_masked)
        )

    def line(self, row: case_pb2.LedgerRow) -> list[Value]:
        """The values of the next line."""
        self.cases += 1
        return line(Place(row, self.cases, self._bureau_name))


def line(place: Place) -> list[Value]:
    """The values of a line, each of which fits into a cell."""
    return [_fitting(column.value(place)) for column in COLUMNS]


def _fitting(value: Value) -> Value:
    if isinstance(value, str) and len(value) > CELL_CHARACTERS_MAX:
        return f"{value[: CELL_CHARACTERS_MAX - 1]}…"
    return value
