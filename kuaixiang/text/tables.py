"""Tables as bureaus hand them in: CSV in the encodings of their machines, XLSX of any spreadsheet program.

A file is judged before it is loaded: how large it is packed and unpacked, how far its cells reach, how many rows it
has. So one that was made to exhaust the machine (a packed bomb, one cell in the last corner of a sheet) is refused by a
sentence like any other. What stands in a cell is given as it is there; what must not be relied on (an error, a formula
that was never calculated, a cell merged over several rows) is named with it.
"""

import csv
import io
import os
import re
import resource
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import Enum
from multiprocessing import get_context
from typing import Final
from xml.parsers import expat

from python_calamine import CalamineWorkbook

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both, listed
from kuaixiang.text.cells import ACTIVE_BEGINNINGS

LOADING_BYTES_MAX: Final = 4 << 30
LOADING_SECONDS_MAX: Final = 300
"""What loading one sheet may take; a hundred thousand cases take a twentieth of it."""
PARTS_MAX: Final = 10_000
COLUMNS_MAX: Final = 500
MERGED_CELLS_MAX: Final = 200_000
"""Of those merged downwards, all of which are remembered."""
CELL_CHARACTERS_MAX: Final = 1_000_000
"""Whatever is longer is no cell of ours but a quotation mark left open."""
CHUNK_BYTES: Final = 1 << 20
EXACT_DIGITS: Final = 15
"""Digits of a number that a spreadsheet keeps; of a longer one the rest are zeros."""

ZIP_MARK: Final = b"PK\x03\x04"
OLD_EXCEL_MARK: Final = b"\xd0\xcf\x11\xe0"
"""The old binary workbook, and the envelope of one that is protected by a password."""
DAMAGED_SHARE: Final = 0.5
"""Of the characters beyond ASCII. Chinese text in GB18030 is hardly ever UTF-8 by chance; a damaged file mostly is."""
DELIMITERS: Final = ",\t;"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a table may be. `file_bytes`: of its file, which is held in memory."""

    file_bytes: int
    unpacked_bytes: int
    """All parts of a workbook."""
    rows: int
    cells: int
    """A sheet is laid out as a rectangle: two cells in opposite corners would take the memory of all between."""


WHOLE_LEDGER: Final = Bounds(file_bytes=64 * 2**20, unpacked_bytes=512 * 2**20, rows=200_000, cells=8_000_000)
"""About a hundred thousand cases: of 27 columns they unpack to about half of that."""

Cell = str | float | bool | datetime | date | time | timedelta


class Flaw(Enum):
    """Why what a cell shows must not be relied on."""

    ERROR = Both("holds an error of the spreadsheet", "是电子表格的错误值")
    NOT_CALCULATED = Both("holds a formula without its result", "是没有计算结果的公式")
    MERGED = Both("is merged over several rows", "跨行合并")
    TOO_MANY_DIGITS = Both(
        "is a number with more digits than a spreadsheet keeps", "为数字格式，位数超过电子表格能保留的位数"
    )


@dataclass(frozen=True, slots=True)
class Line:
    """A row as a spreadsheet numbers it, its cells, and which of them are flawed."""

    number: int
    cells: Sequence[Cell]
    flaws: Mapping[int, Flaw]

    @property
    def blank(self) -> bool:
        """Whether nothing stands in it."""
        return not any(cell.strip() if isinstance(cell, str) else True for cell in self.cells) and not self.flaws


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file. `since_1904`: its numbers count days from 1904, as old spreadsheets of a Mac did."""

    lines: Sequence[Line]
    since_1904: bool = False
    merged_headings: Mapping[int, int] = field(default_factory=dict)
    """Rows in which a cell begins that is merged downwards, and the last row it covers."""


class TableUnusable(Exception):
    """A whole file cannot be read; `sentence` goes on after its name. `about`: the choice at fault, if it is not it."""

    def __init__(self, sentence: Both, rule: str, remedy: Both, *, about: str = "") -> None:
        super().__init__(sentence.english)
        self.sentence = sentence
        self.rule = rule
        self.remedy = remedy
        self.about = about


_SPLIT: Final = Both("Split it; each part is imported by itself.", "请拆分成几个文件，分别导入。")
_SAVE_AGAIN: Final = Both(
    "Open it in a spreadsheet program and save it as XLSX again.", "请用电子表格软件打开并重新另存为 XLSX。"
)


def read_table(content: bytes, encoding: str = "", sheet: str = "", bounds: Bounds = WHOLE_LEDGER) -> Table:
    """The rows of a file; `encoding` empty: found out, `sheet` empty: the only one with content.

    Raises `TableUnusable`.
    """
    if len(content) > bounds.file_bytes:
        size = bounds.file_bytes >> 20
        raise TableUnusable(Both(f"is larger than {size} MiB.", f"超过 {size} MiB。"), "TooLarge", _SPLIT)
    if content.startswith(ZIP_MARK):
        return _Workbook(content, bounds).read(sheet)
    if content.startswith(OLD_EXCEL_MARK):
        raise TableUnusable(
            Both("is an old workbook (XLS) or is protected by a password.", "是旧版工作簿（XLS）或者设有密码。"),
            "NotXlsx",
            Both("Save it as XLSX, without a password.", "请另存为不设密码的 XLSX。"),
        )
    return Table(list(_csv_lines(_text(content, encoding), bounds)))


def empty() -> TableUnusable:
    """The refusal of a file without rows."""
    return TableUnusable(Both("has no rows.", "中没有数据行。"), "Empty", Both("Check the file.", "请检查文件。"))


def _too_many_rows(bounds: Bounds) -> TableUnusable:
    rows = Both(f"has more than {bounds.rows:,} rows.", f"超过 {bounds.rows:,} 行。")
    return TableUnusable(rows, "TooLarge", _SPLIT)


# ---------------------------------------------------------------- CSV


def _text(content: bytes, encoding: str) -> str:
    """The text of a CSV. Raises `TableUnusable`."""
    wanted = encoding.lower().replace("_", "-") or _encoding_of(content)
    try:
        return content.decode("utf-8-sig" if wanted in {"utf-8", "utf8"} else wanted)
    except LookupError:
        raise TableUnusable(
            Both(f"cannot be read: there is no encoding {encoding!r}.", f"无法读取：没有“{encoding}”这种编码。"),
            "Encoding",
            Both("Say utf-8 or gb18030, or leave it out.", "请填写 utf-8 或者 gb18030，也可不填。"),
            about="encoding",
        ) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableUnusable(
            Both(
                f"line {line} is not {wanted}: the file is damaged, or in another encoding.",
                f"第 {line} 行不是 {wanted} 编码，文件已损坏或者是其他编码。",
            ),
            "Encoding",
            Both(
                "Save it as UTF-8, or name its encoding by --encoding.", "请另存为 UTF-8，或者用 --encoding 注明编码。"
            ),
        ) from None


def _encoding_of(content: bytes) -> str:
    """UTF-8 or GB18030. A damaged UTF-8 file is not taken for the other, as which it would be readable nonsense."""
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        read = content.decode("utf-8", "replace")
        strange = sum(not character.isascii() for character in read)
        return "gb18030" if read.count("\ufffd") > DAMAGED_SHARE * strange else "utf-8"
    return "utf-8"


def _csv_lines(text: str, bounds: Bounds) -> Iterator[Line]:
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        for number, cells in enumerate(reader, start=1):
            if number > bounds.rows:
                raise _too_many_rows(bounds)
            yield Line(number, [_woken(cell) for cell in cells], {})
    except csv.Error as error:
        raise TableUnusable(
            Both(f"line {reader.line_num} cannot be read: {error}.", f"第 {reader.line_num} 行无法读取：{error}。"),
            "Csv",
            Both("Check the quotation marks; save the table as CSV again.", "请检查引号，重新另存为 CSV。"),
        ) from None


def _woken(cell: str) -> str:
    """A cell without the apostrophe that `inert`, or a spreadsheet, put before it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(ACTIVE_BEGINNINGS) else cell


# ---------------------------------------------------------------- XLSX

_REFERENCE: Final = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")
_ROW: Final = re.compile(r"[1-9][0-9]{0,6}")
_SHEET_PART: Final = re.compile(r"xl/worksheets/[^/]+\.xml")


_COMPLETE: Final = True


class _Part:
    """Reads one part of a workbook as it is unpacked; knows no entities, for which our files have no use."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.buffer_text = True

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises `TableUnusable`, `expat.ExpatError`, `ValueError`."""
        self._parser.Parse(chunk)

    def close(self) -> None:
        """The part has ended. Raises as `feed`."""
        self._parser.Parse(b"", _COMPLETE)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.start(name.rpartition(":")[2], attributes)

    def _end(self, name: str) -> None:
        self.end(name.rpartition(":")[2])

    @staticmethod
    def _doctype(*_: object) -> None:
        raise TableUnusable(Both("declares entities of its own.", "含有自定义实体声明。"), "NotXlsx", _SAVE_AGAIN)


class _Sheet(_Part):
    """How far a sheet reaches, and which of its cells must not be relied on."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self._bounds = bounds
        self.flaws: dict[int, dict[int, Flaw]] = {}
        self.filled = 0
        self._row = self._column = 0
        self._first = self._last = (0, 0)
        self._is_error = self._has_formula = self._has_value = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A row, a cell, or what a cell holds."""
        match name:
            case "row":
                self._row = int(_matched(_ROW, attributes["r"])[0]) if "r" in attributes else self._row + 1
                self._column = 0
            case "c" if "r" in attributes:
                found = _matched(_REFERENCE, attributes["r"])
                self._column, self._row = _column_number(found[1]), int(found[2])
                self._cell(attributes)
            case "c":
                self._column += 1
                self._cell(attributes)
            case "f":
                self._has_formula = True
            case "v" | "is":
                self._has_value = True
            case _:
                pass

    def _cell(self, attributes: dict[str, str]) -> None:
        self._is_error = attributes.get("t") == "e"
        self._has_formula = self._has_value = False

    def end(self, name: str) -> None:
        """A cell is complete."""
        if name != "c" or not (self._has_value or self._has_formula):
            return
        self._reach()
        flaw = Flaw.ERROR if self._is_error else Flaw.NOT_CALCULATED
        if self._is_error or not self._has_value:
            self.flaws.setdefault(self._row, {})[self._column - 1] = flaw

    def _reach(self) -> None:
        row, column = self._row, self._column
        if not self.filled:
            self._first = self._last = (row, column)
        self.filled += 1
        self._first = (min(self._first[0], row), min(self._first[1], column))
        self._last = (max(self._last[0], row), max(self._last[1], column))
        rows, columns = (last - first + 1 for first, last in zip(self._first, self._last, strict=True))
        if rows > self._bounds.rows:
            raise _too_many_rows(self._bounds)
        if columns > COLUMNS_MAX or rows * columns > self._bounds.cells:
            raise TableUnusable(
                Both(
                    f"has cells far apart: {rows:,} rows of {columns:,} columns.",
                    f"单元格相距太远：{rows:,} 行、{columns:,} 列。",
                ),
                "TooLarge",
                Both("Delete what stands beside and below the table.", "请删除表格以外的单元格内容。"),
            )


class _Sheets(_Part):
    """The sheets of a workbook in their order: name, relation."""

    def __init__(self) -> None:
        super().__init__()
        self.relations: list[tuple[str, str]] = []
        self.since_1904 = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A sheet, or the workbook's properties."""
        if name == "sheet":
            relation = next((value for key, value in attributes.items() if key.endswith(":id")), "")
            self.relations.append((attributes.get("name", ""), relation))
        elif name == "workbookPr":
            self.since_1904 = attributes.get("date1904", "0") in {"1", "true"}


class _Relations(_Part):
    """Which part a relation means."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A relation."""
        if name == "Relationship":
            target = attributes.get("Target", "")
            part = target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
            self.parts[attributes.get("Id", "")] = part


class _Workbook:
    """An XLSX file, judged before it is loaded."""

    def __init__(self, content: bytes, bounds: Bounds) -> None:
        self._content = content
        self._bounds = bounds
        self._sheets = _Sheets()
        self._relations = _Relations()
        self._scanned: dict[str, _Sheet] = {}

    def read(self, wanted: str) -> Table:
        """The rows of a sheet. Raises `TableUnusable`."""
        try:
            self._scan()
            return self._load(*self._choose(wanted))
        except (
            zipfile.BadZipFile,
            zlib.error,
            expat.ExpatError,
            LookupError,
            ValueError,
            RuntimeError,
            NotImplementedError,
            EOFError,
            OSError,
        ) as fault:
            raise TableUnusable(
                Both(f"is no workbook that can be read: {fault}.", f"不是可以读取的工作簿：{fault}。"),
                "NotXlsx",
                _SAVE_AGAIN,
            ) from None

    def _scan(self) -> None:
        """Unpacks every part once, counting, before anything is loaded."""
        with zipfile.ZipFile(io.BytesIO(self._content)) as archive:
            parts = archive.infolist()
            if len(parts) > PARTS_MAX or len({part.filename for part in parts}) != len(parts):
                raise TableUnusable(
                    Both("is packed in a way that no spreadsheet program packs.", "的打包方式与电子表格软件不符。"),
                    "NotXlsx",
                    _SAVE_AGAIN,
                )
            unpacked = 0
            for part in parts:
                reader = self._reader_of(part.filename)
                with archive.open(part) as stream:
                    while chunk := stream.read(CHUNK_BYTES):
                        unpacked += len(chunk)
                        if unpacked > self._bounds.unpacked_bytes:
                            size = self._bounds.unpacked_bytes >> 20
                            raise TableUnusable(
                                Both(f"unpacks to more than {size} MiB.", f"解压后超过 {size} MiB。"),
                                "TooLarge",
                                _SPLIT,
                            )
                        if reader is not None:
                            reader.feed(chunk)
                if reader is not None:
                    reader.close()

    def _reader_of(self, part: str) -> _Part | None:
        if part == "xl/workbook.xml":
            return self._sheets
        if part == "xl/_rels/workbook.xml.rels":
            return self._relations
        if _SHEET_PART.fullmatch(part):
            return self._scanned.setdefault(part, _Sheet(self._bounds))
        return None

    def _choose(self, wanted: str) -> tuple[str, _Sheet]:
        sheets = {
            name: scanned
            for name, relation in self._sheets.relations
            if (scanned := self._scanned.get(self._relations.parts.get(relation, ""))) is not None
        }
        filled = [name for name, scanned in sheets.items() if scanned.filled]
        if wanted and wanted not in sheets:
            raise TableUnusable(
                Both(f"has no sheet {wanted!r}.", f"中没有工作表“{wanted}”。"),
                "Sheet",
                Both(f"It has {', '.join(sheets)}.", f"其中有：{listed(sheets)}。"),
                about="sheet",
            )
        if not wanted and not filled:
            raise empty()
        if not wanted and len(filled) > 1:
            # To take the first would leave the others out in silence.
            raise TableUnusable(
                Both(
                    f"has several sheets with content: {', '.join(filled)}.",
                    f"中有几个工作表都有内容：{listed(filled)}。",
                ),
                "Sheet",
                Both("Import one after the other, by --sheet.", "请用 --sheet 逐个导入。"),
            )
        name = wanted or filled[0]
        return name, sheets[name]

    def _load(self, name: str, scanned: _Sheet) -> Table:
        sheet = _loaded(self._content, name)
        first_row, first_column = sheet.start
        last_row, last_column = sheet.end
        downwards = [
            (top, left, min(bottom, last_row), min(right, last_column))
            for (top, left), (bottom, right) in sheet.merged
            if bottom > top
        ]
        _mark_merged(scanned, downwards)
        lead: list[Cell] = [""] * first_column
        lines = [
            Line(number, lead + cells, scanned.flaws.get(number, {}))
            for number, cells in enumerate(sheet.rows, start=first_row + 1)
        ]
        merged_headings = {top + 1: bottom + 1 for top, _, bottom, _ in downwards}
        return Table(lines, self._sheets.since_1904, merged_headings)


_Corner = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A sheet as the library loads it: its rows from the first filled cell on, and what is merged; places from 0."""

    rows: list[list[Cell]]
    start: _Corner
    end: _Corner
    merged: list[tuple[_Corner, _Corner]]


def _loaded(content: bytes, name: str) -> _Loaded:
    """A sheet, loaded in a process of its own that has so much memory and time. Raises `TableUnusable`.

    The library believes what a workbook says of itself (so many texts, so many styles) and takes the memory for it at
    once; one that lies ends its process, not this one.
    """
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_restrict)
    try:
        return pool.submit(_load, content, name).result()
    except (BrokenProcessPool, ValueError) as fault:
        reason = str(fault) if isinstance(fault, ValueError) else "-"
        raise TableUnusable(
            Both(f"cannot be loaded ({reason}).", f"无法读入（{reason}）。"), "NotXlsx", _SAVE_AGAIN
        ) from None
    finally:
        pool.shutdown()


def _restrict() -> None:
    for what, most in (
        (resource.RLIMIT_AS, LOADING_BYTES_MAX),
        (resource.RLIMIT_CPU, LOADING_SECONDS_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # What the library prints when it dies is for its makers.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _load(content: bytes, name: str) -> _Loaded:
    """Runs in the process that may die of it. Raises `ValueError`."""
    try:
        with CalamineWorkbook.from_object(io.BytesIO(content)) as workbook:
            sheet = workbook.get_sheet_by_name(name)
            rows: list[list[Cell]] = sheet.to_python(skip_empty_area=True)
            return _Loaded(rows, sheet.start or (0, 0), sheet.end or (0, 0), list(sheet.merged_cell_ranges or ()))
    except BaseException as fault:  # noqa: BLE001 - the library's panics are no `Exception`
        raise ValueError(str(fault)) from None


def _mark_merged(scanned: _Sheet, downwards: Sequence[tuple[int, int, int, int]]) -> None:
    """Marks the cells that are merged over several rows: which of these rows their content belongs to is not said."""
    area = sum((bottom - top + 1) * (right - left + 1) for top, left, bottom, right in downwards)
    if area > MERGED_CELLS_MAX:
        raise TableUnusable(
            Both(f"has {area:,} cells merged over several rows.", f"中有 {area:,} 个跨行合并的单元格。"),
            "TooLarge",
            Both("Unmerge the cells of the table.", "请取消表格中的单元格合并。"),
        )
    for top, left, bottom, right in downwards:
        for row in range(top, bottom + 1):
            flaws = scanned.flaws.setdefault(row + 1, {})
            for column in range(left, right + 1):
                flaws.setdefault(column, Flaw.MERGED)


def _matched(form: re.Pattern[str], reference: str) -> re.Match[str]:
    """A reference in the only form it has: another reader may take anything else for a place far away."""
    found = form.fullmatch(reference)
    if found is None:
        raise TableUnusable(
            Both(f"has a cell at {reference[:20]!r}.", f"中有位置为 {reference[:20]!r} 的单元格。"),
            "NotXlsx",
            _SAVE_AGAIN,
        )
    return found


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


# ---------------------------------------------------------------- what stands in a cell


def text_of(cell: Cell) -> str:
    """A cell as a text, without blanks around it; a number without the fraction that a spreadsheet gives it."""
    match cell:
        case str():
            return cell.strip()
        case bool():
            return str(cell).upper()
        case float():
            return str(int(cell)) if cell.is_integer() else repr(cell)
        case datetime():
            return cell.isoformat(sep=" ")
        case _:
            return str(cell)


def plain(text: str) -> str:
    """A text with full-width letters and digits as ASCII, as numbers and headings are compared."""
    return unicodedata.normalize("NFKC", text).strip()


def has_too_many_digits(cell: Cell) -> bool:
    """Whether a number has lost digits: an identification number that was typed into a cell for numbers."""
    return isinstance(cell, float) and abs(cell) >= 10**EXACT_DIGITS


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was, in Shanghai; `day_only` where no time of the day was written."""

    at: datetime
    day_only: bool

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d}" if self.day_only else f"{self.at:%Y-%m-%d %H:%M:%S}"


class NoMoment(ValueError):
    """A cell is no time that can be read."""


_DATE: Final = r"(?P<y>[0-9]{4})(?:[-/.]|年)(?P<m>[0-9]{1,2})(?:[-/.]|月)(?P<d>[0-9]{1,2})(?:日|号)?"
_TIME: Final = (
    r"(?P<half>上午|下午|中午|晚上|AM|PM)?\s*(?P<h>[0-9]{1,2})(?::|时|点)(?:(?P<min>[0-9]{1,2})分?)?"
    r"(?::?(?P<s>[0-9]{1,2})(?:\.[0-9]+)?秒?)?\s*(?P<after>AM|PM)?"
)
_WEEKDAY: Final = r"(?:\s*\(?(?:星期|周)[一二三四五六日天]\)?)?"
_WRITTEN: Final = re.compile(
    rf"{_DATE}{_WEEKDAY}(?:[T\s]*{_TIME})?\s*(?P<zone>Z|[+-][0-9]{{2}}:?[0-9]{{2}})?", re.IGNORECASE
)
_COMPACT: Final = re.compile(r"(?P<y>(?:19|20)[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2})")
_SERIAL: Final = re.compile(r"[0-9]{5}(?:\.[0-9]+)?")
_FIRST_DAY: Final = datetime(1990, 1, 1, tzinfo=SHANGHAI)
_LAST_DAY: Final = datetime(2100, 1, 1, tzinfo=SHANGHAI)
"""Between these a ledger's times are plausible; a number outside them is no serial date."""
_EPOCH: Final = datetime(1899, 12, 30, tzinfo=SHANGHAI)
_EPOCH_1904: Final = datetime(1904, 1, 1, tzinfo=SHANGHAI)
_NOON: Final = 12


def moment_of(cell: Cell, *, since_1904: bool = False) -> Moment | None:
    """The time that a cell means, None for an empty one.

    It may be a date of the spreadsheet, its serial number, or a text: 2019/5/10 14:56:53, 2019-05-10, 2019年5月10日
    下午2时56分, 20190510, ISO 8601 … Raises `NoMoment`.
    """
    match cell:
        case datetime():
            at = cell if cell.tzinfo is not None else cell.replace(tzinfo=SHANGHAI)
            return _plausible(Moment(at, day_only=False))
        case date():
            return _plausible(Moment(datetime(cell.year, cell.month, cell.day, tzinfo=SHANGHAI), day_only=True))
        case bool() | time() | timedelta():
            raise NoMoment
        case float():
            return _serial(cell, since_1904=since_1904)
        case str():
            text = plain(cell)
            return _written(text, since_1904=since_1904) if text else None


def _written(text: str, *, since_1904: bool) -> Moment:
    if _SERIAL.fullmatch(text):
        return _serial(float(text), since_1904=since_1904)
    found = _COMPACT.fullmatch(text) or _WRITTEN.fullmatch(text)
    if found is None:
        raise NoMoment
    parts = found.groupdict()
    try:
        day = datetime(int(parts["y"]), int(parts["m"]), int(parts["d"]), tzinfo=SHANGHAI)
        if parts.get("h") is None:
            return _plausible(Moment(day, day_only=True))
        hour = _hour(int(parts["h"]), (parts["half"] or parts["after"] or "").upper())
        at = day.replace(hour=hour, minute=int(parts["min"] or 0), second=int(parts["s"] or 0))
        if parts["zone"]:
            zone = parts["zone"].upper().replace("Z", "+00:00")
            at = datetime.fromisoformat(f"{at:%Y-%m-%dT%H:%M:%S}{zone}").astimezone(SHANGHAI)
    except ValueError:
        raise NoMoment from None
    return _plausible(Moment(at, day_only=False))


def _hour(hour: int, half: str) -> int:
    if half in {"下午", "晚上", "PM"} and hour < _NOON:
        return hour + _NOON
    if half in {"上午", "AM"} and hour == _NOON:
        return 0
    return hour


def _serial(days: float, *, since_1904: bool) -> Moment:
    """Days since the spreadsheet's first day, to the second."""
    try:
        at = (_EPOCH_1904 if since_1904 else _EPOCH) + timedelta(seconds=round(days * 86_400))
    except (OverflowError, ValueError):
        raise NoMoment from None
    return _plausible(Moment(at, day_only=float(days).is_integer()))


def _plausible(moment: Moment) -> Moment:
    if not _FIRST_DAY <= moment.at < _LAST_DAY:
        raise NoMoment
    return moment
