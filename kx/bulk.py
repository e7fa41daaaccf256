"""`kx case register-many`: the rows of a CSV file over one stream, and what became of each.

The key of a row is made of what it says, and of how many rows of the file before it say the same. So a file sent again,
after a cut, by mistake, in another encoding or with its refused rows corrected, registers nothing twice: rows that were
registered answer with the case they became.
"""

import csv
import hashlib
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from kuaixiang.domain.labels import Both, listed
from kuaixiang.domain.words import Category, Channel
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.errors import told_apart
from kuaixiang.wire.v1 import case_pb2
from kx.client import Patience, channel_to, header_of, method_of, run
from kx.options import Acting, Asking
from kx.output import (
    REFUSED_EXIT_CODE,
    UNREACHABLE_EXIT_CODE,
    Bar,
    Failed,
    NoSuchWord,
    NotUnderstood,
    instant_of,
    word_of,
)

FILE_BYTES_MAX: Final = 64 * 2**20
"""About a hundred thousand cases; the file is held in memory, for its digest and for sending again."""
STREAM_SECONDS_MAX: Final = 600.0
"""One stream; what is unanswered then goes over the next one."""
FIRST_ROW: Final = 2
"""Rows are numbered as a spreadsheet shows them: the headings are row 1."""
BUSY: Final = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
CELL_CHARACTERS_MAX: Final = 1_000_000
"""Whatever is longer is no cell of ours but a quotation mark left open."""

REQUIRED: Final = ("taxpayer_name", "contact", "text", "category", "channel")
TEXTS: Final = ("taxpayer_name", "contact", "text", "taxpayer_number", "channel_reference", "place", "answer")
CHINESE: Final[Mapping[str, str]] = {
    "纳税人名称": "taxpayer_name",
    "联系方式": "contact",
    "诉求内容": "text",
    "类别": "category",
    "渠道": "channel",
    "统一社会信用代码": "taxpayer_number",
    "渠道编号": "channel_reference",
    "行政区划": "place",
    "当场答复": "answer",
    "受理时间": "occurred_at",
}
COLUMNS: Final = (*TEXTS, "category", "channel", "occurred_at")


@dataclass(slots=True)
class Row:
    """A row, and what became of it: registered, repeated (registered before), refused, or unanswered."""

    row: int
    result: str = "unanswered"
    case_id: str = ""
    message: str = ""
    message_chinese: str = ""
    field: str = ""
    rule: str = ""
    remedy: str = ""
    remedy_chinese: str = ""
    request: case_pb2.RegisterCaseRequest | None = None

    def refuse(self, sentence: Both, column: str, rule: str, remedy: Both) -> None:
        """The row is refused."""
        self.result, self.field, self.rule = "refused", column, rule
        self.message, self.message_chinese = sentence
        self.remedy, self.remedy_chinese = remedy

    def as_dict(self) -> dict[str, Any]:
        """What became of the row, in plain values."""
        return {one.name: getattr(self, one.name) for one in fields_of(self) if one.name != "request"}


@dataclass(slots=True)
class Outcome:
    """What became of a file; `failure` is what ended it early."""

    rows: list[Row]
    seconds: float
    failure: Failed | None

    def counts(self) -> dict[str, int]:
        """How many rows of each result."""
        results = [row.result for row in self.rows]
        return {result: results.count(result) for result in ("registered", "repeated", "refused", "unanswered")}

    @property
    def exit_code(self) -> int:
        """0 when every row is registered."""
        if self.failure is not None:
            return self.failure.exit_code
        return REFUSED_EXIT_CODE if any(row.result != "registered" and not row.case_id for row in self.rows) else 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome in plain values."""
        told: dict[str, Any] = {
            **self.counts(),
            "seconds": round(self.seconds, 3),
            "rows": [row.as_dict() for row in self.rows],
        }
        if self.failure is not None:
            told["error"] = self.failure.as_dict()
        return told


# ---------------------------------------------------------------- the file


def read_rows(file: Path, encoding: str, acting: Acting) -> list[Row]:
    """The rows of a file, each with its request or the reason why it has none. Raises `Failed` for the whole file."""
    content = _content(file)
    try:
        text = content.decode("utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding)
    except LookupError:
        raise Failed(
            Both(f"There is no encoding {encoding!r}.", f"没有“{encoding}”这种编码。"),
            field="--encoding",
            remedy=Both("Say utf-8 or gb18030.", "请填写 utf-8 或者 gb18030。"),
        ) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = Both(f"{file} line {line} is not {encoding}.", f"{file} 第 {line} 行不是 {encoding} 编码。")
        remedy = Both(
            "Save it as UTF-8, or say --encoding gb18030.", "请另存为 UTF-8 编码，或者使用 --encoding gb18030。"
        )
        raise Failed(wrong, field="FILE.csv", rule="Encoding", remedy=remedy) from None
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = _columns(next(reader, []))
        rows = []
        said_before: Counter[str] = Counter()
        for number, cells in enumerate(reader, start=FIRST_ROW):
            if any(cell.strip() for cell in cells):
                row = _row(number, columns, cells, acting)
                rows.append(row)
                if row.request is not None:
                    # The officer and the bureau are in the request's header, and belong to what is said.
                    said = row.request.SerializeToString(deterministic=True)
                    digest = hashlib.sha256(said).hexdigest()[:40]
                    said_before[digest] += 1
                    row.request.header.request_key = f"{digest}-{said_before[digest]}"
    except csv.Error as error:
        wrong = Both(
            f"{file} line {reader.line_num} cannot be read: {error}.",
            f"{file} 第 {reader.line_num} 行无法读取（{error}）。",
        )
        remedy = Both(
            "Check the quotation marks; save the table as CSV again.", "请检查引号，并将表格重新保存为 CSV 文件。"
        )
        raise Failed(wrong, field="FILE.csv", rule="Csv", remedy=remedy) from None
    if not rows:
        raise Failed(Both(f"{file} has no rows.", f"{file} 没有数据行。"), field="FILE.csv", rule="Empty")
    return rows


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        said = Both(f"{file} cannot be read: {error.strerror}.", f"{file} 无法读取（{error.strerror}）。")
        raise Failed(said, field="FILE.csv", rule="Unreadable") from None
    if len(content) > FILE_BYTES_MAX:
        mebibytes = FILE_BYTES_MAX >> 20
        raise Failed(
            Both(f"{file} is larger than {mebibytes} MiB.", f"{file} 超过 {mebibytes} MiB。"),
            field="FILE.csv",
            rule="TooLarge",
            remedy=Both("Split it; each part is sent by itself.", "请拆分成几个文件，分别登记。"),
        )
    return content


def _columns(headings: Sequence[str]) -> list[str]:
    columns = [CHINESE.get(heading.strip(), heading.strip()) for heading in headings]
    if not any(columns):
        said = Both("The file has no headings in its first line.", "文件第一行没有表头。")
        raise Failed(said, field="FILE.csv", rule="Empty")
    chinese = {name: heading for heading, name in CHINESE.items()}
    known = Both(
        f"Known columns: {', '.join(f'{column} {chinese[column]}' for column in COLUMNS)}.",
        f"可用的列：{listed(chinese[column] for column in COLUMNS)}。",
    )
    for column in columns:
        if column not in COLUMNS or columns.count(column) > 1:
            wrong = Both("is there twice", "出现两次") if column in COLUMNS else Both("is not known", "无法识别")
            said = Both(
                f"The column {column!r} {wrong.english}.", f"列“{chinese.get(column, column)}”{wrong.chinese}。"
            )
            raise Failed(said, field=column, rule="Columns", remedy=known)
    for column in REQUIRED:
        if column not in columns:
            said = Both(f"The column {column} {chinese[column]} is missing.", f"缺少“{chinese[column]}”一列。")
            raise Failed(said, field=column, rule="Columns", remedy=known)
    return columns


def _row(number: int, columns: Sequence[str], cells: Sequence[str], acting: Acting) -> Row:
    row = Row(row=number)
    if len(cells) != len(columns):
        wrong = Both(
            f"The row has {len(cells)} cells; the headings are {len(columns)}.",
            f"本行有 {len(cells)} 格，表头有 {len(columns)} 列。",
        )
        remedy = Both(
            "Quote cells that contain a comma or a line break.", "含有逗号或换行的单元格，请用英文双引号括起来。"
        )
        row.refuse(wrong, "", "Columns", remedy)
        return row
    values = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
    said: dict[str, Any] = {column: values.get(column, "") for column in TEXTS}
    try:
        for column, kind in (("category", Category), ("channel", Channel)):
            # An empty word is the node's to refuse: it says which rule of the notice asks for it.
            said[column] = int(word_of(kind, values[column])) if values[column] else 0
        at = _instant(values.get("occurred_at", "")) or acting.who.at
    except NoSuchWord as unknown:
        row.refuse(unknown.said, unknown.words.__name__.lower(), "NoSuchWord", unknown.remedy)
        return row
    except NotUnderstood as unreadable:
        remedy = Both("Correct the cell, or leave it empty for now.", "请更正该单元格；不填即为当前时间。")
        row.refuse(unreadable.said, "occurred_at", "NoTime", remedy)
        return row
    request = case_pb2.RegisterCaseRequest(**said)
    request.header.CopyFrom(header_of(acting, ""))
    if at is not None:
        request.header.occurred_at.CopyFrom(timestamp(at))
    row.request = request
    return row


def _instant(cell: str) -> datetime | None:
    return instant_of(cell) if cell else None


# ---------------------------------------------------------------- the stream


def register_rows(asking: Asking, rows: list[Row]) -> Outcome:
    """Registers the rows; what ends it early is in the outcome, with what had become of the rows until then."""
    begun = time.monotonic()
    failure: Failed | None = None
    with Bar("Registering", len(rows)) as bar:
        try:
            run(_register(asking, rows, bar))
        except Failed as ended:
            failure = ended
    return Outcome(rows, time.monotonic() - begun, failure)


async def _register(asking: Asking, rows: Sequence[Row], bar: Bar) -> None:
    again = Both(
        "Run the same command again: rows that are registered are not registered twice.",
        "请重新执行同一命令：已登记的行不会重复登记。",
    )
    async with channel_to(asking) as channel:
        stream = method_of(channel, "CaseService", "RegisterCases")
        patience = Patience(asking, again)
        while waiting := [row for row in rows if row.result == "unanswered"]:
            bar.reached(len(rows) - len(waiting))
            try:
                await _send(stream, waiting, len(rows), bar, patience)
            except grpc.aio.AioRpcError as error:
                await patience.after(error)
                continue
            if any(row.result == "unanswered" for row in waiting):
                said = Both(
                    f"The node at {asking.node} has too much waiting.", f"节点 {asking.node} 等待处理的事项过多。"
                )
                await patience.wait(
                    Failed(said, exit_code=UNREACHABLE_EXIT_CODE, field="--node", rule="TooMuchWaits", remedy=again)
                )


async def _send(stream: Any, rows: Sequence[Row], total: int, bar: Bar, patience: Patience) -> None:  # noqa: ANN401
    """Sends rows over one stream and takes the answers; rows that the node was too busy for stay unanswered."""
    before = total - len(rows)

    async def requests() -> AsyncIterator[case_pb2.RegisterCasesRequest]:
        for row in rows:
            yield case_pb2.RegisterCasesRequest(registration=row.request)

    answered = 0
    async for answer in stream(requests(), timeout=STREAM_SECONDS_MAX):
        row = rows[answer.index]
        match answer.WhichOneof("result"):
            case "accepted":
                row.result = "repeated" if answer.accepted.repeated_request else "registered"
                row.case_id = answer.accepted.case.case_id
                patience.renew()
            case "refused" if answer.refused.code == BUSY:
                continue
            case _:
                refused = answer.refused
                remedy = Both(refused.remedy, refused.remedy_chinese)
                sentence = told_apart(Both(refused.message, refused.message_chinese), remedy)
                row.refuse(sentence, refused.field, refused.rule, remedy)
                patience.renew()
        answered += 1
        bar.reached(before + answered)


# ---------------------------------------------------------------- the report


def write_report(file: Path, outcome: Outcome) -> None:
    """Writes what became of each row as CSV, with a mark by which spreadsheets know it for UTF-8. Raises `Failed`."""
    try:
        with file.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.DictWriter(stream, [one.name for one in fields_of(Row) if one.name != "request"])
            writer.writeheader()
            writer.writerows(row.as_dict() for row in outcome.rows)
    except OSError as error:
        said = Both(f"{file} cannot be written: {error.strerror}.", f"{file} 无法写入（{error.strerror}）。")
        raise Failed(said, field="--report") from None
