"""`kx case import`: the rows of a CSV or XLSX table over one stream, and what became of each.

A row is known by its old number, else by a digest of what it registers and of how many rows before it say the same. It
goes with it as the channel's own number, under which a bureau registers one case only. So a table sent again, after a
cut, by mistake, by another officer, in another encoding or with its refused rows corrected, registers nothing twice:
rows that were registered answer with the case they became.

A row of an older ledger is registered with its own time of acceptance where the rules still allow that. Where they do
not, it is registered now, its clocks run from now, and when it was accepted stands in the registration's note: the
deadlines of this ledger are of what this ledger did.
"""

import contextlib
import csv
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.decide import decide
from kuaixiang.domain.desk import Context
from kuaixiang.domain.errors import RecordedTooLate, Refused
from kuaixiang.domain.labels import Both, NoSuchWord
from kuaixiang.domain.words import Role
from kuaixiang.facts import published_calendar
from kuaixiang.text.cells import inert
from kuaixiang.text.columns import (
    TITLES,
    Columns,
    RowUnusable,
    check_width,
    find_columns,
    is_blank,
    moment_in,
    text_in,
)
from kuaixiang.text.columns import Mapping as ColumnMapping
from kuaixiang.text.tables import WHOLE_LEDGER, Line, Moment, Table, TableUnusable, empty, plain, read_table
from kuaixiang.wire.codec import act_of, instant, timestamp
from kuaixiang.wire.errors import told_apart
from kuaixiang.wire.registrations import ReadsOneAlone, RowNumbers, answers_in, digest_of
from kuaixiang.wire.v1 import case_pb2
from kx.client import Patience, channel_to, header_of, method_of, run
from kx.options import Acting, Asking
from kx.output import REFUSED_EXIT_CODE, UNREACHABLE_EXIT_CODE, Bar, Failed

STREAM_SECONDS_MAX: Final = 600.0
"""One stream; what is unanswered then goes over the next one."""
ROWS_AT_ONCE: Final = 100
"""Rows of one message: more gain nothing, and the bar would stand still for longer."""
BYTES_AT_ONCE: Final = 1 << 20
"""A message with more is sent without waiting for further rows: the longest row, 60 kB, still fits into one."""
BUSY: Final = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
TOO_LATE: Final = RecordedTooLate.__name__
_TEXTS: Final = ("taxpayer_name", "contact", "text", "taxpayer_number", "place", "answer")
"""Columns that are the request's fields of the same name."""


class Finished(StrEnum):
    """What is done with rows that the old ledger has finished."""

    SKIP = "skip"
    ANSWER = "answer"


class Result(StrEnum):
    """What became of a row."""

    REGISTERED = "registered"
    REPEATED = "repeated"
    READY = "ready"
    SKIPPED = "skipped"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


RESULTS: Final[Mapping[Result, str]] = {
    Result.REGISTERED: "已登记",
    Result.REPEATED: "此前已登记",
    Result.READY: "可以登记",
    Result.SKIPPED: "未登记（原台账已办结）",
    Result.REFUSED: "拒绝",
    Result.UNANSWERED: "未得到答复",
}
"""The Chinese of each result."""
NOT_DONE: Final = frozenset({Result.REFUSED, Result.UNANSWERED})


@dataclass(slots=True)
class Row:
    """A row, and what became of it. `later` is what it asks when it was accepted too long ago to be dated back."""

    row: int
    number: str = ""
    result: Result = Result.UNANSWERED
    case_id: str = ""
    message: str = ""
    message_chinese: str = ""
    field: str = ""
    rule: str = ""
    remedy: str = ""
    remedy_chinese: str = ""
    request: case_pb2.RegisterCaseRequest | None = None
    later: "Later | None" = None

    def refuse(self, message: Both, column: str, rule: str, remedy: Both) -> None:
        """The row is refused."""
        self.result, self.field, self.rule = Result.REFUSED, column, rule
        self.say(message)
        self.remedy, self.remedy_chinese = remedy

    def say(self, message: Both) -> None:
        """What is to be said of the row."""
        self.message, self.message_chinese = message

    def takes_later(self) -> bool:
        """Goes on with what it asks for now that its own time is too long ago; whether there is such a thing."""
        if self.later is None:
            return False
        self.request = self.later.request
        self.say(self.later.message)
        self.later = None
        return True

    def as_dict(self) -> dict[str, Any]:
        """What became of the row, in plain values."""
        return {one.name: getattr(self, one.name) for one in fields_of(self) if one.name not in {"request", "later"}}


@dataclass(frozen=True, slots=True)
class Later:
    """A registration that is not dated back, and what is said of it."""

    request: case_pb2.RegisterCaseRequest
    message: Both


@dataclass(slots=True)
class Outcome:
    """What became of a file; `failure` is what ended it early."""

    rows: list[Row]
    seconds: float
    failure: Failed | None

    def counts(self) -> dict[Result, int]:
        """How many rows of each result."""
        results = Counter(row.result for row in self.rows)
        return {result: results[result] for result in Result}

    @property
    def exit_code(self) -> int:
        """0 when every row is registered, or left out as one asked."""
        if self.failure is not None:
            return self.failure.exit_code
        return REFUSED_EXIT_CODE if any(row.result in NOT_DONE for row in self.rows) else 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome in plain values."""
        told: dict[str, Any] = {
            **{str(result): count for result, count in self.counts().items()},
            "seconds": round(self.seconds, 3),
            "rows": [row.as_dict() for row in self.rows],
        }
        if self.failure is not None:
            told["error"] = self.failure.as_dict()
        return told


# ---------------------------------------------------------------- the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file and how to read it. `encoding` and `sheet` are found out when empty; `prefix` goes before old numbers."""

    file: Path
    mapping: ColumnMapping
    encoding: str = ""
    sheet: str = ""
    prefix: str = ""
    finished: Finished = Finished.SKIP


def read_rows(source: Source, acting: Acting) -> list[Row]:
    """The rows of a file, each with its request or the reason why it has none. Raises `Failed` for the whole file."""
    with _named(source.file):
        table = read_table(_content(source.file), source.encoding, source.sheet)
        columns = find_columns(table, source.mapping)
        reader = _Reader(source, acting, table, columns)
        content = (line for line in table.lines if line.number > columns.last_heading_row)
        rows = [reader.row(line) for line in content if not is_blank(columns, line)]
        if not rows:
            raise empty()
    return rows


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """What is wrong with a file is said with its name."""
    try:
        yield
    except TableUnusable as unusable:
        sentence, remedy, about = unusable.sentence, unusable.remedy, unusable.about or "FILE"
        if unusable.rule == "Columns":
            remedy = Both(
                f"Say by --mapping which columns are meant. {remedy.english}",
                f"请用 --mapping 注明各列的含义。{remedy.chinese}",
            )
        elif unusable.about:
            about = f"--{about}"
        raise Failed(
            Both(f"{file} {sentence.english}", f"文件 {file} {sentence.chinese}"),
            field=about,
            rule=unusable.rule,
            remedy=remedy,
        ) from None


def _content(file: Path) -> bytes:
    """A file's content, with a byte too many where it is too large. Raises `TableUnusable`."""
    try:
        with file.open("rb") as stream:
            return stream.read(WHOLE_LEDGER.file_bytes + 1)
    except OSError as error:
        raise TableUnusable(
            Both(f"cannot be read: {error.strerror}.", f"无法读取：{error.strerror}。"),
            "Unreadable",
            Both("Check the path and who may read it.", "请检查路径和读取权限。"),
        ) from None


class _Reader:
    """Makes requests of a table's lines; remembers what earlier lines said."""

    def __init__(self, source: Source, acting: Acting, table: Table, columns: Columns) -> None:
        self._source = source
        self._mapping = source.mapping
        self._acting = acting
        self._since_1904 = table.since_1904
        self._columns = columns
        self._numbers = RowNumbers()

    def row(self, line: Line) -> Row:
        """The row of a line."""
        row = Row(line.number)
        try:
            self._fill(row, line)
        except RowUnusable as unusable:
            row.refuse(unusable.sentence, unusable.column, unusable.rule, unusable.remedy)
        return row

    def _fill(self, row: Row, line: Line) -> None:
        check_width(self._columns, line)
        said = {column: text_in(self._columns, line, column) for column in TITLES}
        row.number = said["channel_reference"]
        accepted = self._moment(line, "accepted_at")
        completed = self._moment(line, "completed_at")
        finished = completed is not None or plain(said["status"]) in self._mapping.finished
        if finished and self._source.finished is Finished.SKIP:
            row.result = Result.SKIPPED
            row.say(Both("The old ledger has finished it.", "原台账中已办结。"))
            return
        if finished:
            said["answer"] = _recorded_reply(said)
        request = self._request(row, line, said, accepted)
        if finished:
            # What was finished elsewhere is not dated back: this ledger saw nothing of its course.
            row.request, row.later = None, self._later(request, said, accepted, completed)
            row.takes_later()
        else:
            row.request = request
            if accepted is not None:
                row.later = self._later(request, said, accepted, None)
                request.header.occurred_at.CopyFrom(timestamp(accepted.at))
            elif self._acting.who.at is not None:
                request.header.occurred_at.CopyFrom(timestamp(self._acting.who.at))
            request.header.request_key = digest_of(request)

    def _request(
        self, row: Row, line: Line, said: Mapping[str, str], accepted: Moment | None
    ) -> case_pb2.RegisterCaseRequest:
        fields: dict[str, Any] = {column: said[column] for column in _TEXTS}
        # An empty word is the node's to refuse: it says which rule of the notice asks for it.
        fields |= {"category": self._category(said) or 0, "channel": self._channel(said) or 0}
        request = case_pb2.RegisterCaseRequest(**fields)
        digest = digest_of(request, f"{accepted or ''}", but="answer")
        own = f"{self._source.prefix}{row.number}" if row.number else ""
        request.channel_reference = self._numbers.number(line.number, request.channel, own, digest)
        request.header.CopyFrom(header_of(self._acting, ""))
        request.header.ClearField("request_key")
        request.header.ClearField("occurred_at")
        return request

    def _later(
        self,
        request: case_pb2.RegisterCaseRequest,
        said: Mapping[str, str],
        accepted: Moment | None,
        completed: Moment | None,
    ) -> Later:
        """The registration with the present time, the old ledger's times in its note."""
        facts = [
            ("原编号", said["channel_reference"]),
            ("原受理时间", accepted),
            ("原办结时间", completed),
            ("原状态", said["status"]),
        ]
        known = "，".join(f"{title} {fact}" for title, fact in facts if fact)
        later = case_pb2.RegisterCaseRequest()
        later.CopyFrom(request)
        later.note = f"由原台账转入：{known or '无其他记载'}。时限自登记时起算。"
        later.header.request_key = digest_of(later)
        message = Both(
            f"Accepted {accepted or 'at an unknown time'} by the old ledger: registered now, its clocks run from now.",
            f"原台账受理时间 {accepted or '不详'}：按当前时间登记，时限自登记时起算。",
        )
        return Later(later, message)

    def _moment(self, line: Line, column: str) -> Moment | None:
        return moment_in(self._columns, line, column, since_1904=self._since_1904)

    def _category(self, said: Mapping[str, str]) -> int | None:
        try:
            return self._mapping.category(said["category"])
        except NoSuchWord as unknown:
            raise _no_such_word(unknown, "category") from None

    def _channel(self, said: Mapping[str, str]) -> int | None:
        try:
            return self._mapping.channel(said["channel"])
        except NoSuchWord as unknown:
            raise _no_such_word(unknown, "channel") from None


def _no_such_word(unknown: NoSuchWord, column: str) -> RowUnusable:
    remedy = Both(
        f"{unknown.remedy.english} Or say what it means in the mapping, under values.{column}.",
        f"{unknown.remedy.chinese}也可在对照文件的 values.{column} 中注明其含义。",
    )
    return RowUnusable(unknown.said, column, "NoSuchWord", remedy)


def _recorded_reply(said: Mapping[str, str]) -> str:
    reply = said["answer"] or said["result"]
    if not reply:
        raise RowUnusable(
            Both("The old ledger has finished it and records no reply.", "原台账中已办结，但没有记载答复内容。"),
            "result",
            "NoReply",
            Both("Enter the reply, or import with --finished skip.", "请补录办理结果，或者用 --finished skip 导入。"),
        )
    return reply


# ---------------------------------------------------------------- trying


def try_rows(asking: Asking, rows: list[Row]) -> Outcome:
    """What the rules say of the rows, here and now; nobody is asked. Raises `Failed`."""
    begun = time.monotonic()
    tree, calendar = asking.tree(), published_calendar()
    for row in rows:
        while row.result is Result.UNANSWERED and row.request is not None:
            header, now = row.request.header, datetime.now(SHANGHAI)
            try:
                context = Context(
                    bureau=header.bureau,
                    actor=header.actor,
                    role=Role(header.role),
                    department=header.department,
                    now=now,
                    occurred_at=instant(header.occurred_at) if header.HasField("occurred_at") else now,
                    tree=tree,
                    calendar=calendar,
                    rules=Rules(),
                )
                decide(None, act_of(row.request), context)
                row.result = Result.READY
            except RecordedTooLate as late:
                if not row.takes_later():
                    _refuse(row, late)
            except Refused as refusal:
                _refuse(row, refusal)
    return Outcome(rows, time.monotonic() - begun, None)


def _refuse(row: Row, refusal: Refused) -> None:
    row.refuse(
        Both(str(refusal), refusal.chinese),
        refusal.field,
        refusal.rule,
        Both(refusal.remedy, refusal.remedy_chinese),
    )


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
        at_once = ROWS_AT_ONCE
        while waiting := [row for row in rows if row.result is Result.UNANSWERED]:
            bar.reached(len(rows) - len(waiting))
            try:
                everything = await _send(stream, waiting, len(rows), bar, patience, at_once=at_once)
            except ReadsOneAlone:
                at_once = 1
                continue
            except grpc.aio.AioRpcError as error:
                await patience.after(error)
                continue
            if not everything:
                said = Both(
                    f"The node at {asking.node} has too much waiting.", f"节点 {asking.node} 等待处理的事项过多。"
                )
                await patience.wait(
                    Failed(said, exit_code=UNREACHABLE_EXIT_CODE, field="--node", rule="TooMuchWaits", remedy=again)
                )


async def _send(
    stream: Any,  # noqa: ANN401
    rows: Sequence[Row],
    total: int,
    bar: Bar,
    patience: Patience,
    *,
    at_once: int,
) -> bool:
    """Sends rows over one stream, so many in a message, and takes the answers; whether every row got one.

    Rows that the node was too busy for stay unanswered, and so do those that are to be asked for with the present time.
    Raises `ReadsOneAlone`, grpc's own error.
    """
    before = total - len(rows)
    alone = at_once == 1

    async def requests() -> AsyncIterator[case_pb2.RegisterCasesRequest]:
        message = case_pb2.RegisterCasesRequest()
        for row in rows:
            assert row.request is not None  # noqa: S101 - a row that cannot be asked for has been refused
            if alone:
                yield case_pb2.RegisterCasesRequest(registration=row.request)
                continue
            message.registrations.append(row.request)
            if len(message.registrations) == at_once or message.ByteSize() > BYTES_AT_ONCE:
                yield message
                message = case_pb2.RegisterCasesRequest()
        if message.registrations:
            yield message

    async def answers() -> AsyncIterator[case_pb2.RegistrationAnswer]:
        async for response in stream(requests(), timeout=STREAM_SECONDS_MAX):
            for answer in answers_in(response, sent_alone=alone):
                yield answer

    answered = turned = 0
    async for answer in answers():
        row = rows[answer.index]
        refused_act = answer.refused
        match answer.WhichOneof("result"):
            case "accepted":
                row.result = Result.REPEATED if answer.accepted.repeated_request else Result.REGISTERED
                row.case_id = answer.accepted.case_id
                patience.renew()
            case "refused" if refused_act.code == BUSY:
                continue
            case "refused" if refused_act.rule == TOO_LATE and row.takes_later():
                turned += 1
                patience.renew()
                continue
            case _:
                remedy = Both(refused_act.remedy, refused_act.remedy_chinese)
                sentence = told_apart(Both(refused_act.message, refused_act.message_chinese), remedy)
                row.refuse(sentence, refused_act.field, refused_act.rule, remedy)
                patience.renew()
        answered += 1
        bar.reached(before + answered)
    return answered + turned == len(rows)


# ---------------------------------------------------------------- the report


_REPORT: Final[Mapping[str, str]] = {
    "row": "行号",
    "number": "原编号",
    "result": "结果",
    "case_id": "受理编号",
    "message": "说明",
    "field": "列",
    "rule": "规则",
    "remedy": "处理办法",
}


def write_report(file: Path, outcome: Outcome) -> None:
    """Writes what became of each row as CSV, in both languages. Raises `Failed`."""
    try:
        # With a mark by which spreadsheets know it for UTF-8.
        with file.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(f"{title} {name}" for name, title in _REPORT.items())
            for row in outcome.rows:
                parts = row.as_dict()
                parts["result"] = f"{RESULTS[row.result]} {row.result}"
                for name in ("message", "remedy"):
                    parts[name] = f"{parts[f'{name}_chinese']} {parts[name]}".strip()
                writer.writerow(inert(str(parts[name])) for name in _REPORT)
    except OSError as error:
        said = Both(f"{file} cannot be written: {error.strerror}.", f"{file} 无法写入（{error.strerror}）。")
        raise Failed(said, field="--report") from None
