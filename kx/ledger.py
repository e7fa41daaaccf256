"""`kx case export`: the ledger 台账 as a table for people, in XLSX or CSV.

The columns are those of the notice's registration (§四(一)1) and of a ledger as bureaus keep it on paper (§五(三)). The
node tells the lines one by one and they are written as they come. The file appears under its name when it is whole,
and its owner alone can read it.
"""

import csv
import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import grpc.aio
import xlsxwriter
from google.protobuf.timestamp_pb2 import Timestamp

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both, term, term_of
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
from kuaixiang.wire.codec import instant, timestamp
from kuaixiang.wire.v1 import case_pb2
from kx.client import Patience, channel_to, method_of, run
from kx.options import Asking, Who
from kx.output import Bar, Failed, last_day, local

STREAM_SECONDS_MAX: Final = 1800.0
"""One export; a million cases take a fraction of it."""
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

Value = str | int | datetime | date | None
"""What stands in a column; instants in Shanghai, without their zone, as spreadsheets keep them."""


# ---------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class Place:
    """A line, its number, and the names of bureaus."""

    row: case_pb2.LedgerRow
    number: int
    bureau_name: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the ledger: its heading, its width in characters, and what stands in it."""

    heading: str
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
        when = local(instant(row.told_at)) if row.HasField("told_at") else ""
        return " ".join(part for part in (term_of(Telling, row.telling), when, row.told) if part)
    return "当场答复" if row.answered_on_the_spot else ""


def _department(place: Place) -> str:
    assisting = "、".join(place.row.assisting_departments)
    return f"{place.row.department}（协办 {assisting}）" if assisting else place.row.department


def _due(place: Place) -> date | None:
    """The last day; the limit ends at its 24:00."""
    if not place.row.HasField("due_at"):
        return None
    return last_day(instant(place.row.due_at))


def _extension(place: Place) -> str:
    row = place.row
    granted = f"延长 {row.extended_workdays} 个工作日" if row.extended_workdays else ""
    return " ".join(part for part in (granted, "申请中" if row.extension_pending else "") if part)


def _told_by(place: Place) -> str:
    row = place.row
    return "当场答复" if row.answered_on_the_spot else (term_of(Channel, row.told_by) if row.told_by else "")


def _followed_up(place: Place) -> str:
    row = place.row
    return f"{local(instant(row.followed_up_at))} {row.remark}".strip() if row.HasField("followed_up_at") else ""


def _satisfaction(place: Place) -> str:
    return term_of(Satisfaction, place.row.satisfaction) if place.row.satisfaction else ""


def _referrals(place: Place) -> str:
    lines = []
    for one in place.row.referrals:
        way = f"{place.bureau_name(one.from_bureau)} → {place.bureau_name(one.to_bureau)}"
        onward = "" if one.final_bureau in {"", one.to_bureau} else f"（转 {place.bureau_name(one.final_bureau)}）"
        kind, state = term_of(ReferralKind, one.kind), term_of(ReferralState, one.state)
        lines.append(f"{local(instant(one.at))} {kind} {way}{onward} {state}")
    return "\n".join(lines)


def _status(place: Place) -> str:
    row = place.row
    if row.unreadable:
        return f"{term_of(Stage, row.stage)}·记录无法读取"
    offered = term(Custody.OFFERED) if int(row.custody) == Custody.OFFERED else ""
    return "·".join(part for part in (term_of(Stage, row.stage), offered, "逾期" if row.overdue else "") if part)


def _remarks(place: Place) -> str:
    row = place.row
    lead = f"与 {row.lead_case_id} 并案" if row.lead_case_id else ""
    issue = f"共性诉求 {row.issue_id}" if row.issue_id else ""
    return "；".join(part for part in (row.note, lead, issue) if part)


COLUMNS: Final = (
    Column("序号", 5, lambda place: place.number),
    Column("受理编号", 12, lambda place: place.row.case_id),
    Column("纳税人名称", 15, lambda place: place.row.taxpayer_name),
    Column("统一社会信用代码", 12, lambda place: place.row.taxpayer_number),
    Column("有效联系方式", 13, lambda place: place.row.contact),
    Column("诉求和意见", 32, lambda place: place.row.text),
    Column("类别", 9, lambda place: term_of(Category, place.row.category) if place.row.category else ""),
    Column("渠道", 9, lambda place: term_of(Channel, place.row.channel) if place.row.channel else ""),
    Column("受理时间", 15, lambda place: _at(place.row.registered_at)),
    Column("受理单位", 10, lambda place: place.bureau_name(place.row.origin_bureau)),
    Column("受理部门", 10, lambda place: place.row.accepting_department),
    Column("受理人", 10, lambda place: place.row.accepted_by),
    Column("告知情况", 15, _told),
    Column("转交时间", 15, lambda place: _at(place.row.forwarded_at)),
    Column("承办部门", 11, _department),
    Column("办理时限", 10, _due),
    Column("延期", 9, _extension),
    Column("办理结果", 28, lambda place: place.row.result),
    Column("办结时间", 15, lambda place: _at(place.row.completed_at)),
    Column("反馈时间", 15, lambda place: _at(place.row.fed_back_at)),
    Column("反馈方式", 9, _told_by),
    Column("回访情况", 14, _followed_up),
    Column("满意度", 7, _satisfaction),
    Column("移交情况", 20, _referrals),
    Column("销号时间", 15, lambda place: _at(place.row.written_off_at)),
    Column("状态", 9, _status),
    Column("备注", 16, _remarks),
)


# ---------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the table."""

    bureau: str
    period: str
    as_of: datetime
    masked: bool

    def __str__(self) -> str:
        masked = "；联系方式已脱敏" if self.masked else ""
        return f"单位：{self.bureau}；受理时间：{self.period}；导出时间：{local(self.as_of)}{masked}"


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
        """Writes a line. Raises `Failed` when the sheet is full."""
        self._row += 1
        if self._row >= SHEET_ROWS_MAX:
            raise Failed(
                Both(f"A sheet has no more than {SHEET_ROWS_MAX:,} rows.", f"一个工作表最多 {SHEET_ROWS_MAX:,} 行。"),
                field="--out",
                rule="TooLarge",
                remedy=Both(
                    "Export a part by --from and --to, or write CSV.", "请用 --from 和 --to 分段导出，或者导出为 CSV。"
                ),
            )
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


# ---------------------------------------------------------------- the export


@dataclass(frozen=True, slots=True)
class Period:
    """Days of acceptance, both included; None: no limit."""

    first: date | None = None
    last: date | None = None

    def __str__(self) -> str:
        if self.first is None and self.last is None:
            return "全部"
        return f"{self.first or ''} 至 {self.last or '今'}"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    cases: int
    masked: bool


def export(asking: Asking, who: Who, period: Period, out: Path, *, open_only: bool) -> Exported:
    """Writes the ledger to a file. Raises `Failed`."""
    sink_of = SINKS.get(out.suffix.lower())
    if sink_of is None:
        raise Failed(
            Both(f"{out} is neither XLSX nor CSV.", f"{out} 既不是 XLSX 也不是 CSV。"),
            field="--out",
            rule="NoSuchFormat",
            remedy=Both(f"End its name with {' or '.join(SINKS)}.", f"文件名请以 {' 或 '.join(SINKS)} 结尾。"),
        )
    request = _request(asking, who, period, open_only=open_only)

    def write(folder: Path) -> _Writing:
        return _Writing(folder / out.name, sink_of, asking, period)

    try:
        with tempfile.TemporaryDirectory(prefix=".kx-export-", dir=out.parent) as folder:
            exported = run(_export(asking, request, lambda: write(Path(folder))))
            made = Path(folder) / out.name
            made.chmod(0o600)
            made.replace(out)
    except OSError as error:
        said = Both(f"{out} cannot be written: {error.strerror}.", f"{out} 无法写入（{error.strerror}）。")
        raise Failed(said, field="--out", rule="Unwritable") from None
    return exported


def _request(asking: Asking, who: Who, period: Period, *, open_only: bool) -> case_pb2.ExportLedgerRequest:
    role: Any = int(who.role)
    request = case_pb2.ExportLedgerRequest(
        bureau=asking.bureau, actor=who.actor, role=role, department=who.department, open_only=open_only
    )
    if period.first is not None:
        request.registered_from.CopyFrom(timestamp(_midnight(period.first)))
    if period.last is not None:
        request.registered_before.CopyFrom(timestamp(_midnight(period.last + timedelta(days=1))))
    return request


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)


class _Writing:
    """One attempt at the file."""

    def __init__(self, file: Path, sink_of: Callable[[Path, Heading], Sink], asking: Asking, period: Period) -> None:
        self._file = file
        self._sink_of = sink_of
        self._asking = asking
        self._period = period
        self._bureau_name = functools.cache(asking.bureau_name)
        self.cases = 0

    def begin(self, answer: case_pb2.ExportLedgerResponse) -> Sink:
        """The file with what stands above its table."""
        name = self._bureau_name(self._asking.bureau)
        return self._sink_of(
            self._file, Heading(name, str(self._period), instant(answer.as_of), answer.contacts_masked)
        )

    def line(self, row: case_pb2.LedgerRow) -> list[Value]:
        """The values of the next line."""
        self.cases += 1
        place = Place(row, self.cases, self._bureau_name)
        return [_fitting(column.value(place)) for column in COLUMNS]


def _fitting(value: Value) -> Value:
    if isinstance(value, str) and len(value) > CELL_CHARACTERS_MAX:
        return f"{value[: CELL_CHARACTERS_MAX - 1]}…"
    return value


async def _export(asking: Asking, request: case_pb2.ExportLedgerRequest, attempt: Callable[[], _Writing]) -> Exported:
    """Asks until the ledger has come whole; one that breaks off is begun anew."""
    async with channel_to(asking) as channel:
        call = method_of(channel, "CaseService", "ExportLedger")
        patience = Patience(asking, Both("Export again.", "请重新导出。"))
        with Bar("Exporting", None) as bar:
            while True:
                writing = attempt()
                try:
                    answers = aiter(call(request, timeout=STREAM_SECONDS_MAX))
                    first = await anext(answers)
                    with writing.begin(first) as sink:
                        async for answer in answers:
                            for row in answer.rows:
                                sink.write(writing.line(row))
                            bar.reached(writing.cases)
                    return Exported(writing.cases, first.contacts_masked)
                except grpc.aio.AioRpcError as error:
                    await patience.after(error)
