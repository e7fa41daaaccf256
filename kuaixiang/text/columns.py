"""What a table's columns are to a registration: headings, words, the texts and times of cells.

Tables have the headings of this system, of its exported ledger or the fields' own names, unless a `Mapping` says which
others are meant.
"""

from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeVar

from kuaixiang.domain.labels import Both, NoSuchWord, listed, term, word_of
from kuaixiang.domain.words import Category, Channel, Stage
from kuaixiang.text.tables import (
    Cell,
    Flaw,
    Line,
    Moment,
    NoMoment,
    Table,
    TableUnusable,
    empty,
    has_too_many_digits,
    moment_of,
    plain,
    text_of,
)

TITLES: Final[MappingOf[str, str]] = {
    "taxpayer_name": "纳税人名称",
    "contact": "联系方式",
    "text": "诉求内容",
    "category": "类别",
    "channel": "渠道",
    "taxpayer_number": "统一社会信用代码",
    "channel_reference": "渠道编号",
    "place": "行政区划",
    "accepted_at": "受理时间",
    "answer": "当场答复",
    "result": "办理结果",
    "status": "状态",
    "completed_at": "办结时间",
}
"""What a column may be, and its heading. The last three say of a finished row how and when it ended."""
REQUIRED: Final = ("taxpayer_name", "contact", "text", "category", "channel")
"""What a registration must have (§四(一)1); category and channel may come from the mapping's defaults."""
OWN_HEADINGS: Final[MappingOf[str, str]] = {
    **{field: field for field in TITLES},
    **{title: field for field, title in TITLES.items()},
    "有效联系方式": "contact",
    "诉求和意见": "text",
    "受理编号": "channel_reference",
}
"""The headings of a table that needs no mapping: the fields' own, and an exported ledger's."""
NOT_TAKEN_OVER: Final = frozenset(
    {
        "序号",
        "受理单位",
        "受理部门",
        "受理人",
        "告知情况",
        "转交时间",
        "承办部门",
        "办理时限",
        "延期",
        "反馈时间",
        "反馈方式",
        "回访情况",
        "满意度",
        "移交情况",
        "销号时间",
        "备注",
    }
)
"""An exported ledger's other columns: the course of a case, of which a ledger records only what happens in it."""
ANY_OTHER: Final = "*"
HEADING_ROWS_MAX: Final = 30
"""How far down headings are looked for, under titles and notes."""

_W = TypeVar("_W", Category, Channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """How rows are read. `columns`: the headings of each field, several of them joined line by line."""

    columns: MappingOf[str, tuple[str, ...]]
    categories: MappingOf[str, Category]
    channels: MappingOf[str, Channel]
    default_category: Category | None = None
    default_channel: Channel | None = None
    finished: frozenset[str] = frozenset()
    heading_row: int = 0

    def of_channel(self, channel: Channel) -> "Mapping":
        """The same for a table of which a row that does not say its channel came by this one."""
        return replace(self, default_channel=channel)

    def category(self, text: str) -> Category | None:
        """The category that a cell means, None where nothing says; raises `NoSuchWord`."""
        return _word(Category, self.categories, text) if text else self.default_category

    def channel(self, text: str) -> Channel | None:
        """The channel that a cell means, as `category`."""
        return _word(Channel, self.channels, text) if text else self.default_channel


def _word(words: type[_W], known: MappingOf[str, _W], text: str) -> _W:
    plainly = plain(text)
    if plainly in known:
        return known[plainly]
    try:
        return word_of(words, plainly)
    except NoSuchWord:
        if ANY_OTHER in known:
            return known[ANY_OTHER]
        raise


NOTICE_CATEGORIES: Final = {f"{term(category)}类": category for category in Category}
NOTICE_CHANNELS: Final = {
    "12366纳税服务热线": Channel.HOTLINE,
    "12366纳税服务平台": Channel.PLATFORM,
    "其他渠道": Channel.OTHER,
    "行业协会、商会": Channel.ASSOCIATION,
}
"""As the notice itself writes them (§三), where that differs from our terms."""
_ENDED: Final = (
    Stage.REFERRED,
    Stage.COMPLETED,
    Stage.FED_BACK,
    Stage.FOLLOWED_UP,
    Stage.CONCLUDED,
    Stage.RECONSIDERATION,
    Stage.WITHDRAWN,
    Stage.WRITTEN_OFF,
)
OWN: Final = Mapping(
    columns={},
    categories=NOTICE_CATEGORIES,
    channels=NOTICE_CHANNELS,
    finished=frozenset(map(term, _ENDED)),
)
"""For tables with our own headings. A case that ended or went to another bureau is not this ledger's to handle."""


# ---------------------------------------------------------------- the headings of a table


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the fields stand in a table. Rows after `last_heading_row` are its content."""

    of: MappingOf[str, tuple[int, ...]]
    count: int
    last_heading_row: int


def find_columns(table: Table, mapping: Mapping) -> Columns:
    """The columns of a table by its headings, which may stand below a title. Raises `TableUnusable`."""
    candidates = list(islice((line for line in table.lines if not line.blank), HEADING_ROWS_MAX))
    if mapping.heading_row:
        candidates = [line for line in table.lines if line.number == mapping.heading_row]
    if not candidates:
        raise empty()
    wanted = {_key(heading) for headings in mapping.columns.values() for heading in headings} or OWN_HEADINGS.keys()
    headings = max(candidates, key=lambda line: len({*_keys(line)} & {*wanted}))
    keys = _keys(headings)
    of = _own_columns(keys, mapping) if not mapping.columns else _mapped_columns(keys, mapping)
    last = max(table.merged_headings.get(headings.number, 0), headings.number)
    return Columns(of, max((at for at, key in enumerate(keys, start=1) if key), default=0), last)


def _key(heading: str) -> str:
    return "".join(plain(heading).split())


def _keys(line: Line) -> list[str]:
    return [_key(text_of(cell)) for cell in line.cells]


def _own_columns(keys: Sequence[str], mapping: Mapping) -> dict[str, tuple[int, ...]]:
    of: dict[str, tuple[int, ...]] = {}
    for at, key in enumerate(keys):
        field = OWN_HEADINGS.get(key)
        if not key or key in NOT_TAKEN_OVER:
            continue
        if field is None:
            raise _columns(key, Both(f"has an unknown column {key!r}.", f"中有未知的列“{key}”。"))
        if field in of:
            raise _columns(key, Both(f"has the column {key!r} twice.", f"中的列“{key}”重复。"))
        of[field] = (at,)
    defaults = {"category": mapping.default_category, "channel": mapping.default_channel}
    for field in REQUIRED:
        if field not in of and defaults.get(field) is None:
            title = TITLES[field]
            raise _columns(field, Both(f"lacks the column {title} ({field}).", f"中缺少“{title}”列。"))
    return of


def _mapped_columns(keys: Sequence[str], mapping: Mapping) -> dict[str, tuple[int, ...]]:
    of: dict[str, tuple[int, ...]] = {}
    for field, headings in mapping.columns.items():
        places = []
        for heading in headings:
            found = [at for at, key in enumerate(keys) if key == _key(heading)]
            if not found:
                raise _columns(heading, Both(f"lacks the column {heading!r}.", f"中缺少“{heading}”列。"))
            if len(found) > 1:
                raise _columns(heading, Both(f"has the column {heading!r} twice.", f"中的列“{heading}”重复。"))
            places += found
        of[field] = tuple(places)
    return of


def _columns(column: str, wrong: Both) -> TableUnusable:
    known = ", ".join(f"{title} {field}" for field, title in TITLES.items())
    return TableUnusable(
        wrong,
        "Columns",
        Both(f"Without a mapping the columns are: {known}.", f"不作对照时可用的列：{listed(TITLES.values())}。"),
        about=column,
    )


# ---------------------------------------------------------------- what stands in a row

_NUMBERS: Final = frozenset({"contact", "taxpayer_number", "place"})
"""Columns in which full-width digits and letters mean the plain ones."""


class RowUnusable(Exception):
    """A row cannot be asked for: what is wrong, in which column, by which rule, and what to do."""

    def __init__(self, sentence: Both, column: str, rule: str, remedy: Both) -> None:
        super().__init__(sentence.english)
        self.sentence = sentence
        self.column = column
        self.rule = rule
        self.remedy = remedy


def is_blank(columns: Columns, line: Line) -> bool:
    """Whether nothing stands where we look: an empty row, or one with its serial number alone."""
    places = [at for of in columns.of.values() for at in of if at < len(line.cells)]
    return not any(text_of(line.cells[at]) or at in line.flaws for at in places)


def check_width(columns: Columns, line: Line) -> None:
    """A row has no more cells than there are headings; raises `RowUnusable`."""
    if any(text_of(cell) for cell in line.cells[columns.count :]):
        raise RowUnusable(
            Both(
                f"The row has more cells than the {columns.count} headings.",
                f"该行的单元格多于 {columns.count} 个列标题。",
            ),
            "",
            "Columns",
            Both("Quote cells that contain a comma or a line break.", "含有逗号或换行的单元格请加引号。"),
        )


def text_in(columns: Columns, line: Line, column: str) -> str:
    """What a row says in a column; raises `RowUnusable`."""
    parts = []
    for at in columns.of.get(column, ()):
        cell: Cell = line.cells[at] if at < len(line.cells) else ""
        flaw = Flaw.TOO_MANY_DIGITS if has_too_many_digits(cell) else line.flaws.get(at)
        if flaw is not None:
            what: Both = flaw.value
            raise RowUnusable(
                Both(f"The cell of {column} {what.english}.", f"“{TITLES[column]}”单元格{what.chinese}。"),
                column,
                "CellUnusable",
                Both("Write the value itself into each row, as text.", "请在每行以文本格式写入内容本身。"),
            )
        parts.append(text_of(cell))
    text = "\n".join(part for part in parts if part)
    if column == "taxpayer_number":
        return plain(text).upper()
    return plain(text) if column in _NUMBERS else text


def moment_in(columns: Columns, line: Line, column: str, *, since_1904: bool) -> Moment | None:
    """The time that a row says in a column, None for none; raises `RowUnusable`."""
    found = None
    for at in columns.of.get(column, ()):
        try:
            moment = moment_of(line.cells[at] if at < len(line.cells) else "", since_1904=since_1904)
        except NoMoment:
            raise RowUnusable(
                Both(f"The cell of {column} is no time that can be read.", f"“{TITLES[column]}”不是可以识别的时间。"),
                column,
                "NoTime",
                Both(
                    "Write it like 2026-03-01 09:30, or leave the cell empty.",
                    "请写成 2026-03-01 09:30 的形式，或者留空。",
                ),
            ) from None
        found = found or moment
    return found


def number_twice(first_row: int) -> RowUnusable:
    """A number that means two cases would leave one of them out."""
    return RowUnusable(
        Both(
            f"Its number is that of row {first_row}, which says something else.",
            f"编号与第 {first_row} 行相同，内容却不同。",
        ),
        "channel_reference",
        "NumberTwice",
        Both(
            "Give each row a number of its own, or leave the column out.",
            "请使每行编号各不相同，或者去掉编号列。",
        ),
    )
