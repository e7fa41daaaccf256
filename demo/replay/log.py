"""Reading an event log into a plan of what a federation is to live through.

Every row of the log ends up in exactly one place: in a case, or in the report of refused rows with its line and its
reason. The counts are checked against each other before a plan is handed out.
"""

import csv
import datetime as dt
import gzip
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Final

from demo.replay.mapping import Completion, Events, LogMapping, Meaning, Status
from demo.replay.times import ImplausibleTime, NoSuchLocalTime, NoTime, TimeCondition
from demo.replay.tree import Key, LogTree, grow
from kuaixiang.domain.words import Category, Channel

GZIP_MAGIC: Final = b"\x1f\x8b"
FIELD_CHARACTERS_MAX: Final = 1_000_000  # far above any text of a case, far below what would exhaust memory
ROWS_PER_PROGRESS: Final = 1_000


_ENDINGS: Final = frozenset({Meaning.COMPLETE, Meaning.CLOSE})


class Reason(StrEnum):
    """Why a row was refused."""

    MALFORMED_ROW = "malformed row"
    UNREADABLE_TEXT = "unreadable text"
    NO_CASE_ID = "no case id"
    NO_BUREAU = "no bureau"
    NO_TIME = "no time"
    UNREADABLE_TIME = "unreadable time"
    NO_SUCH_LOCAL_TIME = "no such local time"
    IMPLAUSIBLE_TIME = "implausible time"
    UNKNOWN_STATE = "unknown state"
    STATUS_DISAGREES = "status disagrees with times"
    DUPLICATE_CASE = "duplicate case id"
    DUPLICATE_EVENT = "duplicate event id"
    TIMES_DISAGREE = "rows of the case disagree about its times"
    CLOSED_BEFORE_OPENED = "closed before opened"
    BEFORE_REGISTRATION = "event before the registration"
    AFTER_COMPLETION = "event after the completion"
    CANNOT_BE_ORDERED = "events cannot be ordered"


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One row that makes no sense. `line` is the first physical line of the row, the header being line 1."""

    line: int
    case_ref: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Another bureau took the case: a referral along the tree."""

    at: dt.datetime
    from_bureau: str
    to_bureau: str


@dataclass(frozen=True, slots=True)
class Depart:
    """A department of the bureau took the case: a dispatch. `department` is a code of `Plan.departments`."""

    at: dt.datetime
    department: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The case began to wait for something outside the bureau."""

    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Resume:
    """The wait was over."""

    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Complete:
    """The bureau that has the case completed it."""

    at: dt.datetime


Step = HandOver | Depart | Wait | Resume | Complete


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """The life of one case. Without `Complete`, its last step, it was open when the log ended.

    Attributes:
        origin: the bureau that registered it.
        steps: in the order they were taken; `at` never falls and is never before `registered_at`.
        rows: how many rows of the log tell this.
    """

    case_ref: str
    origin: str
    registered_at: dt.datetime
    category: Category
    channel: Channel
    text: str
    steps: tuple[Step, ...]
    rows: int

    @property
    def completed_at(self) -> dt.datetime | None:
        """When it was completed; None: never."""
        last = self.steps[-1] if self.steps else None
        return last.at if isinstance(last, Complete) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a federation is to live through.

    Attributes:
        tree: the bureaus.
        departments: code → the log's name. The same log gives the same codes.
        cases: by registration, then by reference.
        refused: by line.
        rows_read: rows of the log without its header; each is in a case or refused.
        superseded_completions: completions that the mapping's choice of another one turned into progress.
        ends_at: the last registration or step; None: no row was used.
    """

    tree: LogTree
    departments: Mapping[str, str]
    cases: tuple[CaseHistory, ...]
    refused: tuple[RefusedRow, ...]
    rows_read: int
    superseded_completions: int
    ends_at: dt.datetime | None

    @property
    def rows_used(self) -> int:
        """Rows that are part of a case."""
        return sum(case.rows for case in self.cases)

    def refused_by_reason(self) -> dict[Reason, int]:
        """How many rows were refused for each reason."""
        return dict(Counter(row.reason for row in self.refused))


class LogUnreadable(OSError):
    """The file is missing, is cut off, or is not what its first bytes say."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the log {path} cannot be read: {reason}")
        self.path = path
        self.reason = reason


class ColumnsMissing(ValueError):
    """The mapping names columns that the log does not have."""

    def __init__(self, path: Path, columns: frozenset[str]) -> None:
        super().__init__(f"the log {path} has no column {', '.join(sorted(columns))}")
        self.path = path
        self.columns = columns


class CountsDoNotReconcile(AssertionError):
    """A row was lost or counted twice: a fault of this program, never of the log."""

    def __init__(self, rows_read: int, rows_used: int, rows_refused: int) -> None:
        super().__init__(f"{rows_read} rows read, but {rows_used} used and {rows_refused} refused")
        self.rows_read = rows_read
        self.rows_used = rows_used
        self.rows_refused = rows_refused


def read_log(path: Path, mapping: LogMapping, *, on_rows: Callable[[int], None] | None = None) -> Plan:
    """Read a log, plain or gzip, row by row.

    Args:
        path: the file.
        mapping: how it maps.
        on_rows: told the number of rows read so far, every thousand rows and at the end.

    Raises:
        LogUnreadable: the file cannot be read to its end.
        ColumnsMissing: it lacks a column that the mapping names.
    """
    reader = _Reader(mapping)
    with _opened(path, mapping) as lines:
        for line, header, values in _rows(path, lines, mapping):
            reader.take(line, header, values)
            if on_rows is not None and reader.rows_read % ROWS_PER_PROGRESS == 0:
                on_rows(reader.rows_read)
    if on_rows is not None:
        on_rows(reader.rows_read)
    return reader.plan()


@contextmanager
def _opened(path: Path, mapping: LogMapping) -> Iterator[io.TextIOBase]:
    try:
        with path.open("rb") as raw:
            packed = raw.peek(len(GZIP_MAGIC))[: len(GZIP_MAGIC)] == GZIP_MAGIC
            plain = gzip.GzipFile(fileobj=raw) if packed else raw
            # Bytes outside the encoding are kept as surrogates, so that one bad row is refused and not the whole log.
            with io.TextIOWrapper(plain, encoding=mapping.encoding, errors="surrogateescape", newline="") as lines:
                yield lines
    except (OSError, EOFError, LookupError) as error:
        raise LogUnreadable(path, str(error) or type(error).__name__) from error


def _rows(
    path: Path, lines: io.TextIOBase, mapping: LogMapping
) -> Iterator[tuple[int, list[str], list[str] | csv.Error]]:
    """The rows after the header, each with its first physical line; one that is no CSV comes as the error it makes."""
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    reader = csv.reader(lines, delimiter=mapping.delimiter, strict=True)
    header = next(reader, [])
    missing = mapping.columns() - frozenset(header)
    if missing:
        raise ColumnsMissing(path, missing)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, header, error
        else:
            if values:  # an empty line is no row
                yield line, header, values


@dataclass(frozen=True, slots=True)
class _Event:
    """One row, understood."""

    line: int
    case_ref: str
    at: dt.datetime
    meaning: Meaning
    bureau: Key
    department: str
    category: Category
    channel: Channel
    text: str
    registered: dt.datetime | None
    completed: dt.datetime | None


@dataclass(frozen=True, slots=True)
class _KeyedHandOver:
    """A hand-over before the bureaus have codes."""

    at: dt.datetime
    sender: Key
    receiver: Key


@dataclass(frozen=True, slots=True)
class _KeyedCase:
    """A case before the bureaus have codes."""

    first: _Event
    registered_at: dt.datetime
    steps: tuple[_KeyedHandOver | Depart | Wait | Resume | Complete, ...]
    rows: int


class _Refused(ValueError):
    """The row at hand makes no sense."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Reader:
    """Takes the rows one by one and makes the plan at the end."""

    def __init__(self, mapping: LogMapping) -> None:
        self.rows_read = 0
        self._mapping = mapping
        self._sources = mapping.tree.sources()
        self._cases: dict[str, list[_Event]] = {}
        self._identities: set[str] = set()
        self._refused: list[RefusedRow] = []
        self._superseded = 0

    def take(self, line: int, header: list[str], values: list[str] | csv.Error) -> None:
        """One row: kept for its case, or refused."""
        self.rows_read += 1
        row: Mapping[str, str] = {}
        try:
            if isinstance(values, csv.Error):
                raise _Refused(Reason.MALFORMED_ROW, str(values))
            row = dict(zip(header, values, strict=False))
            if len(values) != len(header):
                raise _Refused(Reason.MALFORMED_ROW, f"{len(values)} fields where the header has {len(header)}")
            event = self._understand(line, row)
        except _Refused as refused:
            self._refuse(line, _printable(row.get(self._mapping.case_id, "")), refused.reason, refused.detail)
            return
        self._cases.setdefault(event.case_ref, []).append(event)

    def plan(self) -> Plan:
        """The plan, once every row has been taken.

        Raises:
            CountsDoNotReconcile: a row is neither in a case nor refused, or is both.
        """
        keyed = [case for events in self._cases.values() if (case := self._history(events)) is not None]
        teams: set[Key] = set()
        named: set[str] = set()
        exchanges: Counter[tuple[Key, Key]] = Counter()
        ends_at: dt.datetime | None = None
        for case in keyed:
            teams.add(case.first.bureau)
            for step in case.steps:
                if isinstance(step, _KeyedHandOver):
                    teams.add(step.receiver)
                    exchanges[step.sender, step.receiver] += 1
                elif isinstance(step, Depart):
                    named.add(step.department)
            last = case.steps[-1].at if case.steps else case.registered_at
            ends_at = last if ends_at is None else max(ends_at, last)
        tree = grow(self._mapping.tree, self._mapping.title, teams, exchanges)
        departments = {name: f"department-{number}" for number, name in enumerate(sorted(named), 1)}
        coded = (_coded(case, tree, departments) for case in keyed)
        cases = sorted(coded, key=lambda case: (case.registered_at, case.case_ref))
        plan = Plan(
            tree=tree,
            departments={code: name for name, code in departments.items()},
            cases=tuple(cases),
            refused=tuple(sorted(self._refused, key=lambda row: row.line)),
            rows_read=self.rows_read,
            superseded_completions=self._superseded,
            ends_at=ends_at,
        )
        if plan.rows_used + len(plan.refused) != plan.rows_read:
            raise CountsDoNotReconcile(plan.rows_read, plan.rows_used, len(plan.refused))
        return plan

    def _refuse(self, line: int, case_ref: str, reason: Reason, detail: str) -> None:
        self._refused.append(RefusedRow(line, case_ref, reason, detail))

    def _refuse_all(self, events: list[_Event], reason: Reason, detail: str) -> None:
        for event in events:
            self._refuse(event.line, event.case_ref, reason, detail)

    def _understand(self, line: int, row: Mapping[str, str]) -> _Event:
        mapping = self._mapping
        for column, value in row.items():
            if not value.isascii() and _printable(value) != value:
                raise _Refused(Reason.UNREADABLE_TEXT, f"{column} is not {mapping.encoding}")
        case_ref = row[mapping.case_id].strip()
        if not case_ref:
            raise _Refused(Reason.NO_CASE_ID, f"{mapping.case_id} is empty")
        bureau = tuple(source.of(row).strip() for source in self._sources)
        if not all(bureau):
            raise _Refused(Reason.NO_BUREAU, "the row names no bureau")
        try:
            registered, completed = self._times_of_case(row)
            if mapping.events is not None:
                at = mapping.time.read(mapping.events.at, row[mapping.events.at])
                meaning = self._meaning(mapping.events, row)
            else:
                at = registered or mapping.time.read(mapping.registered, row[mapping.registered])
                meaning = Meaning.PROGRESS
                self._check_row_of_case(case_ref, row, at, completed)
        except TimeCondition as error:
            raise _Refused(_reason_of(error), str(error)) from error
        return _Event(
            line=line,
            case_ref=case_ref,
            at=at,
            meaning=meaning,
            bureau=bureau,
            department=mapping.departments.of(row) if mapping.departments is not None else "",
            category=mapping.category.of(row),
            channel=mapping.channel.of(row),
            text=mapping.text.of(row),
            registered=registered,
            completed=completed,
        )

    def _times_of_case(self, row: Mapping[str, str]) -> tuple[dt.datetime | None, dt.datetime | None]:
        """What the row's own columns say of the case's registration and completion."""
        time, registered, completed = self._mapping.time, self._mapping.registered, self._mapping.completed
        return (
            time.read(registered, row[registered]) if registered else None,
            time.read_if_any(completed, row[completed]) if completed else None,
        )

    def _meaning(self, events: Events, row: Mapping[str, str]) -> Meaning:
        if events.identity:
            identity = row[events.identity]
            if identity in self._identities:
                raise _Refused(Reason.DUPLICATE_EVENT, f"{events.identity} {identity!r} was seen before")
        state = " / ".join(row[column] for column in events.state)
        meaning = events.meanings.get(state, events.default)
        if meaning is None:
            raise _Refused(Reason.UNKNOWN_STATE, f"the mapping does not say what {state!r} means")
        if events.identity:
            self._identities.add(row[events.identity])
        return meaning

    def _check_row_of_case(
        self, case_ref: str, row: Mapping[str, str], registered: dt.datetime, completed: dt.datetime | None
    ) -> None:
        if case_ref in self._cases:
            raise _Refused(Reason.DUPLICATE_CASE, f"the case has a row at line {self._cases[case_ref][0].line}")
        if completed is not None and completed < registered:
            raise _Refused(Reason.CLOSED_BEFORE_OPENED, _closed_before(completed, registered))
        if self._mapping.status is not None:
            _check_status(self._mapping.status, row, completed)

    def _history(self, told: list[_Event]) -> _KeyedCase | None:
        """The case that its rows tell; None when every one of them was refused."""
        registered, completed = told[0].registered, told[0].completed
        events: list[_Event] = []
        for event in told:
            if (event.registered, event.completed) == (registered, completed):
                events.append(event)
            else:
                self._refuse_all([event], Reason.TIMES_DISAGREE, f"the case's first row is line {told[0].line}")
        if registered is not None and completed is not None and completed < registered:
            self._refuse_all(events, Reason.CLOSED_BEFORE_OPENED, _closed_before(completed, registered))
            return None
        ordered = sorted(events, key=lambda event: event.at)
        clash = _clash(ordered) if ordered != events else None
        if clash is not None:
            self._refuse_all(events, Reason.CANNOT_BE_ORDERED, clash)
            return None
        kept, closing = self._within(ordered, registered, completed)
        if not kept:
            return None
        return _KeyedCase(
            first=kept[0],
            registered_at=registered or kept[0].at,
            steps=tuple(_steps(kept, completed or _completion(kept))),
            rows=len(kept) + closing,
        )

    def _within(
        self, ordered: list[_Event], registered: dt.datetime | None, completed: dt.datetime | None
    ) -> tuple[list[_Event], int]:
        """The events up to the completion, and how many only closed what was complete; the others are refused."""
        kept: list[_Event] = []
        closing = 0
        done, closed = self._end(ordered)
        slack = dt.timedelta(seconds=self._mapping.completed_slack_s)
        for position, event in enumerate(ordered):
            if registered is not None and event.at < registered:
                detail = f"at {event.at.isoformat()}, registered at {registered.isoformat()}"
                self._refuse_all([event], Reason.BEFORE_REGISTRATION, detail)
            elif completed is not None and event.at > completed + slack:
                detail = f"at {event.at.isoformat()}, completed at {completed.isoformat()}"
                self._refuse_all([event], Reason.AFTER_COMPLETION, detail)
            elif position > closed:
                detail = f"completed by the event at line {ordered[done].line}"
                self._refuse_all([event], Reason.AFTER_COMPLETION, detail)
            elif position > done:
                closing += 1
            else:
                kept.append(event if completed is None else replace(event, at=min(event.at, completed)))
        self._superseded += sum(event.meaning in _ENDINGS for event in kept[:-1])
        return kept, closing

    def _end(self, ordered: list[_Event]) -> tuple[int, int]:
        """Positions of the event that completes the case and of the last that closes it; the last event's if none."""
        endings = [position for position, event in enumerate(ordered) if event.meaning in _ENDINGS]
        if not endings:
            return len(ordered) - 1, len(ordered) - 1
        done = endings[0]
        if self._mapping.events is not None and self._mapping.events.completion is Completion.LAST:
            done = endings[-1]
            while ordered[done].meaning is Meaning.CLOSE and done - 1 in endings:
                done -= 1
        closed = done
        while closed + 1 in endings and ordered[closed + 1].meaning is Meaning.CLOSE:
            closed += 1
        return done, closed


def _completion(kept: list[_Event]) -> dt.datetime | None:
    return kept[-1].at if kept[-1].meaning in _ENDINGS else None


def _steps(
    kept: list[_Event], completed: dt.datetime | None
) -> Iterator[_KeyedHandOver | Depart | Wait | Resume | Complete]:
    bureau, department, waiting = kept[0].bureau, "", False
    for event in kept:
        moves = event.bureau != bureau
        departs = bool(event.department) and (moves or event.department != department)
        waits = event.meaning is Meaning.WAIT
        if waiting and (moves or departs or not waits):
            yield Resume(event.at)
            waiting = False
        if moves:
            yield _KeyedHandOver(event.at, bureau, event.bureau)
            bureau, department = event.bureau, ""
        if departs:
            yield Depart(event.at, event.department)
            department = event.department
        if waits and not waiting:
            yield Wait(event.at)
            waiting = True
    if completed is not None:
        if waiting:
            yield Resume(completed)
        yield Complete(completed)


def _coded(case: _KeyedCase, tree: LogTree, departments: Mapping[str, str]) -> CaseHistory:
    steps: list[Step] = []
    for step in case.steps:
        match step:
            case _KeyedHandOver():
                steps.append(HandOver(step.at, tree.codes[step.sender], tree.codes[step.receiver]))
            case Depart():
                steps.append(Depart(step.at, departments[step.department]))
            case _:
                steps.append(step)
    return CaseHistory(
        case_ref=case.first.case_ref,
        origin=tree.codes[case.first.bureau],
        registered_at=case.registered_at,
        category=case.first.category,
        channel=case.first.channel,
        text=case.first.text,
        steps=tuple(steps),
        rows=case.rows,
    )


def _clash(ordered: list[_Event]) -> str | None:
    """Two events of one instant that say different things, where the log's own order is no guide."""
    for one, other in pairwise(ordered):
        said = (one.bureau, one.department, one.meaning), (other.bureau, other.department, other.meaning)
        if one.at == other.at and said[0] != said[1]:
            return f"lines {one.line} and {other.line} are of the same instant and the log is not in order of time"
    return None


def _check_status(status: Status, row: Mapping[str, str], completed: dt.datetime | None) -> None:
    word = row[status.column]
    if word in status.completed:
        if completed is None:
            raise _Refused(Reason.NO_TIME, f"{status.column} is {word!r}, but there is no time of completion")
    elif word in status.open:
        if completed is not None:
            raise _Refused(Reason.STATUS_DISAGREES, f"{status.column} is {word!r}, but there is a time of completion")
    else:
        raise _Refused(Reason.UNKNOWN_STATE, f"the mapping does not say what {status.column} {word!r} means")


def _reason_of(error: TimeCondition) -> Reason:
    match error:
        case NoTime():
            return Reason.NO_TIME
        case NoSuchLocalTime():
            return Reason.NO_SUCH_LOCAL_TIME
        case ImplausibleTime():
            return Reason.IMPLAUSIBLE_TIME
        case _:
            return Reason.UNREADABLE_TIME


def _closed_before(completed: dt.datetime, registered: dt.datetime) -> str:
    return f"completed at {completed.isoformat()}, registered at {registered.isoformat()}"


def _printable(text: str) -> str:
    """The text with the bytes that are outside the log's encoding replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
