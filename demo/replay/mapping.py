"""The mapping file: how the columns of an event log become bureaus, cases and steps. Its format is in README.md."""

import datetime as dt
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from demo.replay.times import ISO, TimeRule
from kuaixiang.domain.words import Category, Channel

SHIPPED: Final = Path(__file__).parent / "mappings"

_COLUMN_IN_TEMPLATE: Final = re.compile(r"\{([^{}]+)\}")

_Row = Mapping[str, str]
_Word = TypeVar("_Word", Category, Channel)


class MappingCondition(ValueError):
    """A mapping file that cannot be used."""


class MappingUnreadable(MappingCondition):
    """The file is missing or is not TOML."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the mapping {path} cannot be read: {reason}")
        self.path = path
        self.reason = reason


class SettingMissing(MappingCondition):
    """A setting that the file must have."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"the mapping lacks {setting}")
        self.setting = setting


class SettingUnknown(MappingCondition):
    """A setting that means nothing: a typing mistake would otherwise change the figures in silence."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"the mapping has {setting}, which means nothing")
        self.setting = setting


class SettingWrong(MappingCondition):
    """A setting with a value that it cannot have."""

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(f"the mapping has {setting} = {value!r}; expected {expected}")
        self.setting = setting
        self.value = value
        self.expected = expected


class Form(StrEnum):
    """What a row of the log is."""

    EVENTS = "events"
    CASES = "cases"


class Meaning(StrEnum):
    """What an event says of the case."""

    PROGRESS = "progress"
    """It is being worked on."""
    WAIT = "wait"
    """It waits from here to its next event, which the notice calls 待条件成熟: deferred."""
    COMPLETE = "complete"
    """It is done."""
    CLOSE = "close"
    """What comes after it was done. It completes the case only where nothing directly before did."""


class Completion(StrEnum):
    """Which of several completions of one case counts."""

    FIRST = "first"
    LAST = "last"


class Shape(StrEnum):
    """How the teams of a province become a tree."""

    COLUMNS = "columns"
    EXCHANGE = "exchange"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a name comes from: a column of the row, or one constant for the whole log."""

    column: str
    constant: str

    def of(self, row: _Row) -> str:
        """The name in this row, empty where the column is."""
        return row[self.column] if self.column else self.constant

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (self.column,) if self.column else ()


@dataclass(frozen=True, slots=True)
class Template:
    """A text with `{column}` in it."""

    text: str

    def of(self, row: _Row) -> str:
        """The text with the row's values in place."""
        return _COLUMN_IN_TEMPLATE.sub(lambda found: row[found.group(1)], self.text).strip()

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return tuple(_COLUMN_IN_TEMPLATE.findall(self.text))


@dataclass(frozen=True, slots=True)
class Choice(Generic[_Word]):
    """A word by tables: the first table that knows its column's value decides, else the default."""

    default: _Word
    tables: tuple[tuple[str, Mapping[str, _Word]], ...]

    def of(self, row: _Row) -> _Word:
        """The word for this row."""
        for column, values in self.tables:
            if row[column] in values:
                return values[row[column]]
        return self.default

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return tuple(column for column, _ in self.tables)


@dataclass(frozen=True, slots=True)
class Events:
    """What the rows of an event log mean.

    Attributes:
        at: column of the event's time.
        state: columns that together name the event, joined by ` / `.
        meanings: event → meaning.
        default: the meaning of an event that is not named; None: such a row is refused.
        identity: column that numbers the events; a number seen before is refused. Empty: none.
        completion: which completion counts where a case has several.
    """

    at: str
    state: tuple[str, ...]
    meanings: Mapping[str, Meaning]
    default: Meaning | None
    identity: str
    completion: Completion


@dataclass(frozen=True, slots=True)
class Status:
    """The column in which a log of cases says whether a case is closed, and its words for either."""

    column: str
    completed: frozenset[str]
    open: frozenset[str]


@dataclass(frozen=True, slots=True)
class TreeRule:
    """How the log's organisations become bureaus.

    Attributes:
        headquarters: name of the root.
        province: the provincial bureau that a row belongs to.
        prefecture: the bureau between, where the log has one.
        bureau: the bureau that holds the case.
        shape: `columns`: each bureau under the one its columns name; `exchange`: see `demo.replay.tree`.
        lines: suffix of a bureau's name → its support line, for `exchange`; the longest suffix that fits counts.
        line_default: the line of a name with none of the suffixes.
    """

    headquarters: str
    province: Source
    prefecture: Source | None
    bureau: Source
    shape: Shape
    lines: Mapping[str, int]
    line_default: int

    def line_of(self, name: str) -> int:
        """The support line of a team, told by its suffix."""
        fitting = [suffix for suffix in self.lines if name.endswith(suffix)]
        return self.lines[max(fitting, key=len)] if fitting else self.line_default

    def sources(self) -> tuple[Source, ...]:
        """The parts of a bureau's key, highest first."""
        return tuple(part for part in (self.province, self.prefecture, self.bureau) if part is not None)


@dataclass(frozen=True, slots=True)
class Departments:
    """The department within the bureau that a row belongs to; where a column has one of its unknowns, none."""

    name: Template
    unknown: Mapping[str, frozenset[str]]

    def of(self, row: _Row) -> str:
        """The department's name, empty when the row does not tell."""
        if any(row[column] in values for column, values in self.unknown.items()):
            return ""
        return self.name.of(row)

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (*self.name.columns(), *self.unknown)


@dataclass(frozen=True, slots=True)
class LogMapping:
    """A mapping file, checked.

    Attributes:
        title: the log's name, for people.
        form: what a row is.
        case_id: column that identifies the case.
        text: the text of the case.
        time: how times are written.
        registered: column of the registration; empty in an event log: the case's first event registers it.
        completed: column of the completion; empty in an event log: the events tell.
        completed_slack_s: an event at most so many seconds after that column's time belongs to the completion: two
            systems wrote the two times.
        status: only for a log of cases.
        events: only for an event log.
    """

    title: str
    encoding: str
    delimiter: str
    form: Form
    case_id: str
    text: Template
    time: TimeRule
    registered: str
    completed: str
    completed_slack_s: int
    status: Status | None
    events: Events | None
    tree: TreeRule
    departments: Departments | None
    category: Choice[Category]
    channel: Choice[Channel]

    def columns(self) -> frozenset[str]:
        """Every column that the log must have."""
        columns = {self.case_id, self.registered, self.completed, *self.text.columns()}
        columns.update(*(part.columns() for part in self.tree.sources()))
        columns.update(self.category.columns(), self.channel.columns())
        if self.departments is not None:
            columns.update(self.departments.columns())
        if self.status is not None:
            columns.add(self.status.column)
        if self.events is not None:
            columns.update(self.events.state, (self.events.at, self.events.identity))
        return frozenset(columns - {""})


def load_mapping(path: Path) -> LogMapping:
    """Read and check a mapping file.

    Raises:
        MappingCondition: one of this module's, naming the setting.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MappingUnreadable(path, str(error)) from error
    return parse_mapping(content)


def parse_mapping(content: Mapping[str, object]) -> LogMapping:
    """Check what a mapping file says.

    Raises:
        MappingCondition: one of this module's, naming the setting.
    """
    top = _Section("", content)
    log = top.section("log")
    form = Form(log.one_of("form", tuple(Form)))
    case = top.section("case")
    times = top.section("time")
    mapping = LogMapping(
        title=log.text("title"),
        encoding=log.text("encoding", "utf-8-sig"),
        delimiter=log.text("delimiter", ","),
        form=form,
        case_id=case.text("id"),
        text=Template(case.text("text")),
        time=_time_rule(times),
        registered=times.text("registered", None if form is Form.CASES else ""),
        completed=times.text("completed", None if form is Form.CASES else ""),
        completed_slack_s=times.number("completed_slack_s", 0),
        status=_status(top.section("status")) if form is Form.CASES and top.has("status") else None,
        events=_events(top.section("events")) if form is Form.EVENTS else None,
        tree=_tree(top.section("tree")),
        departments=_departments(top.section("departments")) if top.has("departments") else None,
        category=_choice(top.section("category"), Category),
        channel=_choice(top.section("channel"), Channel),
    )
    top.close()
    return mapping


class _Section:
    """One table of the file, which knows what has been asked of it: what nobody asked for means nothing."""

    def __init__(self, name: str, content: Mapping[str, object]) -> None:
        self.name = name
        self._content = content
        self._asked: set[str] = set()
        self._sections: list[_Section] = []

    def has(self, key: str) -> bool:
        return key in self._content

    def path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def names(self) -> tuple[str, ...]:
        return tuple(self._content)

    def section(self, key: str) -> "_Section":
        value = self._take(key, None)
        if not isinstance(value, dict):
            raise SettingWrong(self.path(key), value, "a table")
        return self._under(self.path(key), value)

    def sections(self, key: str) -> list["_Section"]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
            raise SettingWrong(self.path(key), value, "an array of tables")
        return [self._under(f"{self.path(key)}[{position}]", part) for position, part in enumerate(value)]

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise SettingWrong(self.path(key), value, "a text")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise SettingWrong(self.path(key), value, "a whole number")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, None)
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise SettingWrong(self.path(key), value, "an array of texts")
        return tuple(value)

    def day(self, key: str, default: dt.date) -> dt.datetime:
        value = self._take(key, default)
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            raise SettingWrong(self.path(key), value, "a day such as 2015-01-31")
        return dt.datetime.combine(value, dt.time(), dt.UTC)

    def one_of(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise SettingWrong(self.path(key), value, " or ".join(allowed))
        return value

    def close(self) -> None:
        for section in self._sections:
            section.close()
        for key in self._content:
            if key not in self._asked:
                raise SettingUnknown(self.path(key))

    def _take(self, key: str, default: object) -> object:
        self._asked.add(key)
        value = self._content.get(key, default)
        if value is None:
            raise SettingMissing(self.path(key))
        return value

    def _under(self, name: str, content: Mapping[str, object]) -> "_Section":
        section = _Section(name, content)
        self._sections.append(section)
        return section


def _time_rule(section: _Section) -> TimeRule:
    zone = section.text("zone", "")
    try:
        known = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise SettingWrong(section.path("zone"), zone, "a time zone such as America/New_York") from error
    return TimeRule(
        format=section.text("format", ISO),
        zone=known,
        earliest=section.day("earliest", dt.date(1990, 1, 1)),
        latest=section.day("latest", dt.date(2100, 1, 1)),
    )


def _status(section: _Section) -> Status:
    return Status(
        column=section.text("column"),
        completed=frozenset(section.texts("completed")),
        open=frozenset(section.texts("open")),
    )


def _events(section: _Section) -> Events:
    meanings = section.section("meaning") if section.has("meaning") else _Section(section.path("meaning"), {})
    default = section.one_of("default", (*Meaning, ""), "")
    return Events(
        at=section.text("at"),
        state=section.texts("state"),
        meanings={state: Meaning(meanings.one_of(state, tuple(Meaning))) for state in meanings.names()},
        default=Meaning(default) if default else None,
        identity=section.text("identity", ""),
        completion=Completion(section.one_of("completion", tuple(Completion), Completion.LAST)),
    )


def _tree(section: _Section) -> TreeRule:
    shape = Shape(section.one_of("shape", tuple(Shape), Shape.COLUMNS))
    lines: dict[str, int] = {}
    line_default = 1
    if shape is Shape.EXCHANGE:
        if section.has("prefecture"):
            raise SettingWrong(section.path("prefecture"), "a source", "none where shape is exchange")
        suffixes = section.section("lines")
        lines = {suffix: suffixes.number(suffix) for suffix in suffixes.names()}
        line_default = section.number("line_default", 1)
    return TreeRule(
        headquarters=section.text("headquarters"),
        province=_source(section.section("province")),
        prefecture=_source(section.section("prefecture")) if section.has("prefecture") else None,
        bureau=_source(section.section("bureau")),
        shape=shape,
        lines=lines,
        line_default=line_default,
    )


def _source(section: _Section) -> Source:
    source = Source(column=section.text("column", ""), constant=section.text("constant", ""))
    if bool(source.column) == bool(source.constant):
        raise SettingWrong(section.name, section.names(), "either a column or a constant")
    return source


def _departments(section: _Section) -> Departments:
    unknown: dict[str, frozenset[str]] = {}
    if section.has("unknown"):
        words = section.section("unknown")
        unknown = {column: frozenset(words.texts(column)) for column in words.names()}
    return Departments(name=Template(section.text("name")), unknown=unknown)


def _choice(section: _Section, words: type[_Word]) -> Choice[_Word]:
    """The words are written in lower case."""
    allowed = {word.name.lower(): word for word in words}
    tables: list[tuple[str, Mapping[str, _Word]]] = []
    for table in section.sections("table"):
        values = table.section("values")
        known = {value: allowed[values.one_of(value, tuple(allowed))] for value in values.names()}
        tables.append((table.text("column"), known))
    return Choice(default=allowed[section.one_of("default", tuple(allowed))], tables=tuple(tables))
