"""Hand-ins of a channel 批量受理: a file of registrations, each row answered by itself as soon as it is in the ledger.

Nothing is kept of a hand-in. A row is known by the channel's own number, else by what it says, and under either a
bureau registers one case only: so the same file sent again has the same answers, and one that was cut off goes on where
it stopped. What a row asks is what RegisterCases asks; this file reads files and tells answers.
"""

import asyncio
import json
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from prometheus_client import Counter
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from kuaixiang.domain.authority import Caller, ChannelToken
from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both, NoSuchWord, name
from kuaixiang.domain.sign_in import check_token_channel
from kuaixiang.domain.words import Channel
from kuaixiang.runtime.limits import LIMITED, TooManyCalls
from kuaixiang.runtime.server import NOT_NOW, Inside, TooMuchWaits, as_refusal
from kuaixiang.runtime.writer import WriterBusy
from kuaixiang.text.columns import (
    OWN,
    TITLES,
    Columns,
    RowUnusable,
    check_width,
    find_columns,
    is_blank,
    moment_in,
    text_in,
)
from kuaixiang.text.tables import Line, Table, TableUnusable, empty, read_table
from kuaixiang.wire.errors import told_apart
from kuaixiang.wire.registrations import CSV, HAND_IN, NDJSON, XLSX, RowNumbers, digest_of
from kuaixiang.wire.v1 import case_pb2, channel_pb2
from node.channels.door import Asking, CannotAnswer, Door, Interface
from node.channels.gateway import NotJson
from node.channels.messages import http_of, read
from node.channels.requests import registration
from node.desk.asking import whole_number

HAND_INS_MAX: Final = 2
"""At once: each reads its file beside the officers' acts."""
ROWS_AT_ONCE: Final = 100
"""Rows that share a commit and are acknowledged together; more gain nothing, and a cut would leave more to repeat."""
WAIT_SECONDS_MAX: Final = 30.0
"""A ledger that takes nothing for so long ends the hand-in, which its sender resumes."""
WAIT_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 2.0
"""A hand-in of some thousand rows takes about as long."""

TAKEN: Final = (NDJSON, CSV, XLSX)
ADDRESS: Final = "/v1/intakes"
FROM_ROW: Final = "from_row"
FIELDS: Final = tuple(
    field for field in channel_pb2.ChannelServiceRegisterCaseRequest.DESCRIPTOR.fields if not http_of(field).header
)
"""What a row may say: as much as one registration by itself."""
TABLE_TEXTS: Final = ("taxpayer_name", "contact", "text", "taxpayer_number", "place", "answer", "channel_reference")
OF_FINISHED: Final = ("result", "status", "completed_at")
"""Columns of an older ledger: how a case has ended that was handled elsewhere."""

ROWS: Final = Counter(
    "kx_intake_rows_total",
    "Rows of channels' hand-ins that were answered, by result: registered, repeated, refused.",
    ["result"],
)

_log: Final = structlog.get_logger(__name__)


class NotTaken(Refused):
    """A hand-in is of no kind that is read."""

    condition = Condition.INVALID
    field = "Content-Type"
    remedy = f"Say in Content-Type which it is: {', '.join(TAKEN)}."
    remedy_chinese = f"请在 Content-Type 中注明类型：{'、'.join(TAKEN)}。"

    def __init__(self) -> None:
        super().__init__("What was handed in is neither CSV, XLSX nor NDJSON.", "提交的内容不是 CSV、XLSX 或 NDJSON。")


class FileUnusable(Refused):
    """A file that was handed in cannot be read, or is larger than one may be; none of its rows was looked at."""

    condition = Condition.INVALID

    def __init__(self, unusable: TableUnusable) -> None:
        self.remedy, self.remedy_chinese = unusable.remedy
        super().__init__(f"The file {unusable.sentence.english}", f"文件{unusable.sentence.chinese}")


class TooManyHandIns(Refused):
    """A hand-in of this token, or as many of others as may be, are under way."""

    condition = Condition.LIMIT
    retry_seconds = RETRY_SECONDS
    remedy = "Wait as long as the answer says, then send the file again: no row is registered twice."
    remedy_chinese = "请按答复所示时间等待后重新提交文件，已登记的行不会重复登记。"

    def __init__(self) -> None:
        super().__init__(
            f"Files are being taken in: one of a token, {HAND_INS_MAX} in all.",
            f"正在接收其他文件：每个令牌同时一个，总共不超过 {HAND_INS_MAX} 个。",
        )
        LIMITED.labels("hand_ins").inc()


# ---------------------------------------------------------------- what a file says


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its number in the file: the fields of a registration and when it was accepted, or why there are none."""

    number: int
    fields: Mapping[str, Any]
    accepted: str = ""
    wrong: RowUnusable | Refused | None = None


def read_rows(content: bytes, kind: str, channel: Channel) -> list[Row]:
    """The rows of a file. Raises `TableUnusable`."""
    rows = _read_lines(content) if kind == NDJSON else _read_table(content, channel)
    if not rows:
        raise empty()
    return rows


def _read_lines(content: bytes) -> list[Row]:
    # Counted first: each line, an empty one too, takes many times its byte.
    if content.count(b"\n") - content.endswith(b"\n") >= HAND_IN.rows:
        raise TableUnusable(
            Both(f"has more than {HAND_IN.rows:,} rows.", f"超过 {HAND_IN.rows:,} 行。"),
            "TooLarge",
            Both("Split it.", "请拆分成几个文件。"),
        )
    lines = enumerate(content.split(b"\n"), start=1)
    return [_row_of_line(number, line) for number, line in lines if line.strip()]


def _row_of_line(number: int, line: bytes) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        # Of the whole body another remedy would be true: its type is right.
        wrong = RowUnusable(
            Both("The line is not a JSON object.", "该行不是 JSON 对象。"),
            "",
            NotJson.__name__,
            Both(
                "Write each request as one JSON object on one line, in UTF-8, its values texts.",
                "请以 UTF-8 编码将每件诉求写成一行 JSON 对象，各值为文本。",
            ),
        )
        return Row(number, {}, wrong=wrong)
    return Row(number, fields, str(fields.get("occurred_at", "")))


def _read_table(content: bytes, channel: Channel) -> list[Row]:
    table = read_table(content, bounds=HAND_IN)
    # What a token's channel hands in came by it.
    columns = find_columns(table, OWN.of_channel(channel))
    finished = [TITLES[column] for column in OF_FINISHED if column in columns.of]
    if finished:
        raise TableUnusable(
            Both(
                f"has columns of cases that were handled elsewhere: {', '.join(finished)}.",
                f"中有已在别处办理的诉求的列：{'、'.join(finished)}。",
            ),
            "Columns",
            Both("Hand in new requests only, without these columns.", "请只提交新的诉求，去掉这些列。"),
        )
    content_lines = (line for line in table.lines if line.number > columns.last_heading_row)
    return [_row_of_cells(table, columns, line) for line in content_lines if not is_blank(columns, line)]


def _row_of_cells(table: Table, columns: Columns, line: Line) -> Row:
    try:
        check_width(columns, line)
        fields = {column: text_in(columns, line, column) for column in TABLE_TEXTS}
        for column, meant in (("category", OWN.category), ("channel", OWN.channel)):
            said = text_in(columns, line, column)
            fields[column] = name(word) if said and (word := meant(said)) is not None else ""
        moment = moment_in(columns, line, "accepted_at", since_1904=table.since_1904)
    except NoSuchWord as unknown:
        column = unknown.words.__name__.lower()
        return Row(line.number, {}, wrong=RowUnusable(unknown.said, column, "NoSuchWord", unknown.remedy))
    except RowUnusable as unusable:
        return Row(line.number, {}, wrong=unusable)
    if moment is not None:
        fields["occurred_at"] = moment.at.isoformat()
    return Row(line.number, fields, f"{moment or ''}")


# ---------------------------------------------------------------- what is answered


@dataclass(slots=True)
class Answer:
    """What became of a row."""

    row: int
    reference: str = ""
    is_numbered: bool = False
    """Whether the reference is the channel's own number, and not made of what the row says."""
    request: case_pb2.RegisterCaseRequest | None = None
    case_id: str = ""
    repeated: bool = False
    other_words: bool = False
    """The number had been registered with other words; those of this row are kept nowhere."""
    refusal: dict[str, str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is known yet."""
        return not self.case_id and self.refusal is None

    def as_dict(self) -> dict[str, Any]:
        """The row's line: the same each time that the row is handed in."""
        known: dict[str, Any] = {"row": self.row, "reference": self.reference}
        if self.refusal is None:
            done = known | {"result": "registered", "case_id": self.case_id}
            return done | {"other_words": True} if self.other_words else done
        return known | {"result": "refused"} | self.refusal


def _told(wrong: RowUnusable | Refused) -> dict[str, str]:
    if isinstance(wrong, RowUnusable):
        sentence, field, rule, remedy = wrong.sentence, wrong.column, wrong.rule, wrong.remedy
    else:
        sentence, field, rule = Both(str(wrong), wrong.chinese), wrong.field, wrong.rule
        remedy = Both(wrong.remedy, wrong.remedy_chinese)
    return _refusal(sentence, field, rule, remedy)


def _refusal(sentence: Both, field: str, rule: str, remedy: Both) -> dict[str, str]:
    return {
        "rule": rule,
        "field": field,
        "detail": sentence.english,
        "detail_chinese": sentence.chinese,
        "remedy": remedy.english,
        "remedy_chinese": remedy.chinese,
    }


class _Requests:
    """Makes registrations of a file's rows, one after the other; remembers what earlier rows said."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._numbers = RowNumbers()

    def answer(self, row: Row, token: ChannelToken) -> Answer:
        """The row with its registration, or why it has none."""
        answer = Answer(row.number)
        try:
            if row.wrong is not None:
                raise row.wrong
            given = channel_pb2.ChannelServiceRegisterCaseRequest()
            read(given, FIELDS, row.fields, in_body=True)
            answer.reference = given.channel_reference
            request = registration(self._door.services, token, given)
            check_token_channel(token, Channel(request.channel))
            digest = _digest(request, row.accepted)
            answer.is_numbered = bool(answer.reference)
            number = self._numbers.number(row.number, request.channel, answer.reference, digest)
            answer.reference = request.channel_reference = number
            answer.request = request
        except (RowUnusable, Refused) as wrong:
            answer.refusal = _told(wrong)
        return answer


def _digest(request: case_pb2.RegisterCaseRequest, accepted: str) -> str:
    """What a row says: not by which number the channel acts, which the list of staff may change between two tries."""
    said = case_pb2.RegisterCaseRequest()
    said.CopyFrom(request)
    said.ClearField("header")
    said.ClearField("channel_reference")
    return digest_of(said, accepted, but="answer")


class _Answers(StreamingResponse):
    """Answers of a hand-in, which is over when they have been sent or nobody takes them any more."""

    def __init__(self, lines: AsyncIterator[bytes], over: Callable[[], None]) -> None:
        super().__init__(lines, media_type=NDJSON)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def routes(door: Door, interface: Interface) -> list[BaseRoute]:
    """The address of hand-ins, whose refusals that interface tells."""
    return [door.route(ADDRESS, interface, _Intake(door, interface).hand_in, "POST")]


class _Intake:
    def __init__(self, door: Door, interface: Interface) -> None:
        self._door = door
        self._interface = interface
        self._under_way: set[str] = set()

    async def hand_in(self, asking: Asking) -> _Answers:
        """批量受理: registers a file row by row, from a row on; raises what stands against the whole of it."""
        async with self._door.entered(asking.secret, "RegisterCases") as (caller, token):
            # Who may not come in is not listened to.
            self._door.services.cases.admit_registrar(Inside(caller))
        kind = asking.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in TAKEN:
            raise NotTaken
        from_row = _from_row(asking.request.query_params.get(FROM_ROW, "1"))
        whose = asking.secret
        if whose in self._under_way or len(self._under_way) >= HAND_INS_MAX:
            raise TooManyHandIns
        self._under_way.add(whose)
        try:
            content = await asking.request.body()
            rows = await asyncio.to_thread(read_rows, content, kind, token.channel)
        except BaseException as failure:
            self._under_way.discard(whose)
            if isinstance(failure, TableUnusable):
                raise FileUnusable(failure) from None
            raise
        lines = self._lines(asking, rows, from_row)
        return _Answers(lines, lambda: self._under_way.discard(whose))

    async def _lines(self, asking: Asking, rows: Sequence[Row], from_row: int) -> AsyncIterator[bytes]:
        """A line for each row as it is durable, then one that says how many, or from which row on to go on."""
        requests = _Requests(self._door)
        results: Tally[str] = Tally()
        next_row = from_row
        try:
            for first in range(0, len(rows), ROWS_AT_ONCE):
                batch = rows[first : first + ROWS_AT_ONCE]
                for answer in await self._answered(asking.secret, requests, batch, from_row):
                    results[_result(answer)] += 1
                    ROWS.labels(_result(answer)).inc()
                    yield _line(answer.as_dict())
                next_row = max(next_row, batch[-1].number + 1)
        except (Refused, *NOT_NOW) as refusal:
            yield _line({"end": False, "next_row": next_row, "problem": self._problem(asking, as_refusal(refusal))})
        except Exception:  # noqa: BLE001 - a fault of ours: logged here, its text kept from the answer
            _log.exception("A hand-in failed by a fault of this service.", action="channels.fault")
            yield _line({"end": False, "next_row": next_row, "problem": self._problem(asking, CannotAnswer())})
        else:
            yield _line({"end": True, "rows": results.total()} | {result: results[result] for result in RESULTS})

    def _problem(self, asking: Asking, refusal: Refused) -> Any:  # noqa: ANN401 - what JSON holds
        """A refusal in the same words as if it had been the whole answer."""
        return json.loads(bytes(self._interface.refused(asking.request, refusal).body))

    async def _answered(self, secret: str, requests: _Requests, rows: Sequence[Row], from_row: int) -> list[Answer]:
        """What became of some rows, those before `from_row` left out. Raises what ends the hand-in."""
        until = time.monotonic() + WAIT_SECONDS_MAX
        answers: list[Answer] | None = None
        while True:
            try:
                async with self._door.entered(secret, "RegisterCases") as (caller, token):
                    if answers is None:
                        made = (requests.answer(row, token) for row in rows)
                        answers = [answer for answer in made if answer.row >= from_row]
                    if await self._register(caller, answers):
                        return answers
                waiting = sum(answer.is_open for answer in answers)
                ended: Exception = WriterBusy(waiting)
                pause = WAIT_SECONDS
            except TooManyCalls as too_many:
                ended, pause = too_many, too_many.retry_seconds
            if time.monotonic() + pause > until:
                raise ended
            await asyncio.sleep(pause)

    async def _register(self, caller: Caller, answers: Sequence[Answer]) -> bool:
        """Registers those of which nothing is known; whether something is known of all of them then."""
        waiting: list[Answer] = []
        cases = self._door.services.cases
        for answer in answers:
            if answer.is_open and answer.request is not None:
                try:
                    self._door.check(caller, answer.request)
                    # A stream ends with what is refused here; of a file it is one row.
                    await cases.check_registration(caller, answer.request)
                except Refused as wrong:
                    answer.refusal = _told(wrong)
                else:
                    waiting.append(answer)
        if not waiting:
            return True
        message = case_pb2.RegisterCasesRequest(registrations=[answer.request for answer in waiting if answer.request])
        async for response in cases.RegisterCases(_once(message), Inside(caller)):
            for told in response.answers:
                _take(waiting[told.index], told)
        for answer in waiting:
            if answer.repeated and answer.is_numbered and answer.request is not None:
                answer.other_words = await cases.had_other_words(answer.case_id, answer.request)
        return not any(answer.is_open for answer in answers)


async def _once(message: case_pb2.RegisterCasesRequest) -> AsyncIterator[case_pb2.RegisterCasesRequest]:
    yield message


def _take(answer: Answer, told: case_pb2.RegistrationAnswer) -> None:
    refused = told.refused
    if told.HasField("accepted"):
        answer.case_id, answer.repeated = told.accepted.case_id, told.accepted.repeated_request
    elif refused.rule != TooMuchWaits.__name__:
        remedy = Both(refused.remedy, refused.remedy_chinese)
        sentence = told_apart(Both(refused.message, refused.message_chinese), remedy)
        answer.refusal = _refusal(sentence, refused.field, refused.rule, remedy)


RESULTS: Final = ("registered", "repeated", "refused")


def _result(answer: Answer) -> str:
    if answer.refusal is not None:
        return "refused"
    return "repeated" if answer.repeated else "registered"


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _from_row(written: str) -> int:
    row = whole_number(written)
    if not row:
        raise FieldMalformed(
            FROM_ROW,
            Both("is not the number of a row", "不是行号"),
            Both("Leave it out for the whole file.", "不填则提交整个文件。"),
        )
    return row
