"""How the columns of somebody's table become the fields of a registration: the mapping file of `kx case import`.

Its format is in docs/LEDGER.md. Without one, the headings are those of this system: of its exported ledger, or the
fields' own names. A setting that means nothing is refused, for a typing mistake would otherwise register other data in
silence.
"""

import tomllib
from collections.abc import Mapping as MappingOf
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from kuaixiang.domain.labels import Both, listed, term
from kuaixiang.domain.words import Category, Channel, Stage
from kx.output import Failed, NoSuchWord, word_of
from kx.tables import Line, Table, empty, plain, refused, text_of

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


_NOTICE_CATEGORIES: Final = {f"{term(category)}类": category for category in Category}
_NOTICE_CHANNELS: Final = {
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
    categories=_NOTICE_CATEGORIES,
    channels=_NOTICE_CHANNELS,
    finished=frozenset(map(term, _ENDED)),
)
"""For tables with our own headings. A case that ended or went to another bureau is not this ledger's to handle."""


# ---------------------------------------------------------------- the file


def _unstopped(said: Both) -> Both:
    return Both(said.english.rstrip("."), said.chinese.rstrip("。"))


class _Wrong(Exception):
    """A setting of a mapping file is unknown or cannot be so."""

    def __init__(self, setting: str, sentence: Both) -> None:
        super().__init__(sentence.english)
        self.setting = setting
        self.sentence = sentence


_SETTINGS: Final = frozenset({"columns", "values", "defaults", "finished", "heading_row"})


def load_mapping(file: Path | None) -> Mapping:
    """The mapping of a file, our own headings for None. Raises `Failed`."""
    if file is None:
        return OWN
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        return _mapping(settings)
    except OSError as error:
        why = Both(f"cannot be read: {error.strerror}", f"无法读取：{error.strerror}")
    except (ValueError, RecursionError) as error:
        why = Both(f"is no TOML: {error}", f"不是有效的 TOML：{error}")
    except _Wrong as wrong:
        why = Both(f"{wrong.setting}: {wrong.sentence.english}", f"设置 {wrong.setting}：{wrong.sentence.chinese}")
    raise Failed(
        Both(f"The mapping {file} {why.english}.", f"对照文件 {file} {why.chinese}。"),
        field="--mapping",
        rule="Mapping",
        remedy=Both("Correct it; docs/LEDGER.md describes the format.", "请改正，格式见 docs/LEDGER.md。"),
    )


def _mapping(settings: dict[str, Any]) -> Mapping:
    _known("", settings, _SETTINGS)
    columns = {
        field: _headings(f"columns.{field}", given)
        for field, given in _known("columns", settings.get("columns", {}), TITLES).items()
    }
    values = _known("values", settings.get("values", {}), {"category", "channel"})
    defaults = _known("defaults", settings.get("defaults", {}), {"category", "channel"})
    for field in REQUIRED:
        if field not in columns and field not in defaults:
            raise _Wrong(f"columns.{field}", Both("is missing, and a registration needs it", "未填写，而登记时必须有"))
    finished = settings.get("finished", [])
    if not isinstance(finished, list) or not all(isinstance(value, str) for value in finished):
        raise _Wrong("finished", Both("must be a list of texts", "应为文字列表"))
    if finished and "status" not in columns:
        raise _Wrong("columns.status", Both("is missing, and `finished` is about it", "未填写，而 finished 须与其对照"))
    heading_row = settings.get("heading_row", 0)
    if not isinstance(heading_row, int) or isinstance(heading_row, bool) or heading_row < 0:
        raise _Wrong("heading_row", Both("must be the number of a row", "应为行号"))
    return Mapping(
        columns=columns,
        categories=_NOTICE_CATEGORIES | _words("values.category", Category, values.get("category", {})),
        channels=_NOTICE_CHANNELS | _words("values.channel", Channel, values.get("channel", {})),
        default_category=_default(Category, defaults, "category"),
        default_channel=_default(Channel, defaults, "channel"),
        finished=frozenset(map(plain, finished)),
        heading_row=heading_row,
    )


def _known(where: str, given: Any, names: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever TOML holds
    if not isinstance(given, dict):
        raise _Wrong(where, Both("must be a table", "应为一组设置"))
    for name in given:
        if name not in names:
            known = ", ".join(sorted(names))
            raise _Wrong(
                f"{where}.{name}".removeprefix("."),
                Both(f"means nothing; there is {known}", f"没有此项，可用：{known}"),
            )
    return given


def _headings(setting: str, given: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever TOML holds
    headings = given if isinstance(given, list) else [given]
    if not headings or not all(isinstance(heading, str) and plain(heading) for heading in headings):
        raise _Wrong(setting, Both("must be a heading, or a list of headings", "应为列标题，或者列标题的列表"))
    return tuple(headings)


def _words(setting: str, words: type[_W], given: Any) -> dict[str, _W]:  # noqa: ANN401 - whatever TOML holds
    if not isinstance(given, dict):
        raise _Wrong(setting, Both("must be a table", "应为一组设置"))
    return {plain(value): _one(f"{setting}.{value}", words, word) for value, word in given.items()}


def _default(words: type[_W], defaults: dict[str, Any], field: str) -> _W | None:
    return _one(f"defaults.{field}", words, defaults[field]) if field in defaults else None


def _one(setting: str, words: type[_W], given: Any) -> _W:  # noqa: ANN401 - whatever TOML holds
    try:
        return word_of(words, str(given))
    except NoSuchWord as unknown:
        raise _Wrong(setting, _unstopped(unknown.said)) from None


# ---------------------------------------------------------------- the headings of a table


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the fields stand in a table. Rows after `last_heading_row` are its content."""

    of: MappingOf[str, tuple[int, ...]]
    count: int
    last_heading_row: int


def find_columns(file: Path, table: Table, mapping: Mapping) -> Columns:
    """The columns of a table by its headings, which may stand below a title. Raises `Failed`."""
    candidates = list(islice((line for line in table.lines if not line.blank), HEADING_ROWS_MAX))
    if mapping.heading_row:
        candidates = [line for line in table.lines if line.number == mapping.heading_row]
    if not candidates:
        raise empty(file)
    wanted = {_key(heading) for headings in mapping.columns.values() for heading in headings} or OWN_HEADINGS.keys()
    headings = max(candidates, key=lambda line: len({*_keys(line)} & {*wanted}))
    keys = _keys(headings)
    of = _own_columns(file, keys) if mapping is OWN else _mapped_columns(file, keys, mapping)
    last = max(table.merged_headings.get(headings.number, 0), headings.number)
    return Columns(of, max((at for at, key in enumerate(keys, start=1) if key), default=0), last)


def _key(heading: str) -> str:
    return "".join(plain(heading).split())


def _keys(line: Line) -> list[str]:
    return [_key(text_of(cell)) for cell in line.cells]


def _own_columns(file: Path, keys: Sequence[str]) -> dict[str, tuple[int, ...]]:
    of: dict[str, tuple[int, ...]] = {}
    for at, key in enumerate(keys):
        field = OWN_HEADINGS.get(key)
        if not key or key in NOT_TAKEN_OVER:
            continue
        if field is None:
            raise _columns(file, key, Both(f"has an unknown column {key!r}.", f"中有未知的列“{key}”。"))
        if field in of:
            raise _columns(file, key, Both(f"has the column {key!r} twice.", f"中的列“{key}”重复。"))
        of[field] = (at,)
    for field in REQUIRED:
        if field not in of:
            title = TITLES[field]
            raise _columns(file, field, Both(f"lacks the column {title} ({field}).", f"中缺少“{title}”列。"))
    return of


def _mapped_columns(file: Path, keys: Sequence[str], mapping: Mapping) -> dict[str, tuple[int, ...]]:
    of: dict[str, tuple[int, ...]] = {}
    for field, headings in mapping.columns.items():
        places = []
        for heading in headings:
            found = [at for at, key in enumerate(keys) if key == _key(heading)]
            if not found:
                raise _columns(file, heading, Both(f"lacks the column {heading!r}.", f"中缺少“{heading}”列。"))
            if len(found) > 1:
                raise _columns(file, heading, Both(f"has the column {heading!r} twice.", f"中的列“{heading}”重复。"))
            places += found
        of[field] = tuple(places)
    return of


def _columns(file: Path, column: str, wrong: Both) -> Failed:
    known = ", ".join(f"{title} {field}" for field, title in TITLES.items())
    failed = refused(
        file,
        wrong,
        "Columns",
        Both(
            f"Say by --mapping which columns are meant. Without it they are: {known}.",
            f"请用 --mapping 注明各列的含义；不注明时可用的列：{listed(TITLES.values())}。",
        ),
    )
    failed.field = column
    return failed
