"""Publishing: the figures of a period that is over are kept as an edition; what changes later is told as a correction.

An edition holds, for each bureau alone, every measure of the period and what was unfinished at its end; and for the
scope with its subordinates every measure by category, channel and kind of department. Complete figures alone are
published: every bureau has reported up to the end of the period. Two persons may have it done all the same, with a
reason, and the edition says so for good.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import sqlalchemy as sa

from hub import query
from hub.editions import Cell, Edition, OverrideAsked
from hub.measures import DEFINITIONS, UNFINISHED
from hub.query import Completeness, Question
from hub.store import ALONE, WITH_SUBORDINATES, latest_edition, read_cells
from hub.words import LACK_LABELS
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import field_term
from kuaixiang.domain.periods import Period
from kuaixiang.domain.registration import NAME_CHARACTERS_MAX, NOTE_CHARACTERS_MAX, at_most
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.clock import to_micros

NAMED_MAX: Final = 20
"""Bureaus named in a refusal and beside figures; the others are counted."""


class PeriodNotOver(Refused):
    """A period is to be published before its last day has ended."""

    field = "period"

    def __init__(self, period: Period) -> None:
        self.period = period
        self.remedy = f"Publish it after {period.last}; its figures can be read at any time."
        self.remedy_chinese = f"请在 {period.last} 之后发布；期间内的数据可随时查询。"
        super().__init__(
            f"The period {period} is not over: its last day is {period.last}.",
            f"{period.chinese}尚未结束（截至 {period.last}），不能发布。",
        )


class FiguresIncomplete(Refused):
    """A period is to be published and not every bureau has reported to its end."""

    field = "period"
    remedy = "Wait until they have reported (`kx hub completeness`), or have two persons override it with a reason."
    remedy_chinese = "请等待上述单位报齐（可用 kx hub completeness 查看）；确需发布的，须由两名人员署名并说明理由。"

    def __init__(self, scope: str, period: Period, found: Completeness) -> None:
        self.scope = scope
        self.period = period
        self.missing = found.missing
        count, expected = len(found.missing), found.bureaus_expected
        told = list(found.missing.items())[:NAMED_MAX]
        named = ", ".join(f"{bureau} ({lack.name.lower().replace('_', ' ')})" for bureau, lack in told)
        more = f" and {count - NAMED_MAX} more" if count > NAMED_MAX else ""
        named_chinese = "、".join(f"{bureau}（{LACK_LABELS[lack]}）" for bureau, lack in told)
        super().__init__(
            f"The figures of {scope} for {period} are not complete: of {expected} bureaus {count} have not reported "
            f"to its end: {named}{more}.",
            f"单位 {scope} {period.chinese}的数据不完整：应报 {expected} 个单位，{count} 个未报齐："
            f"{named_chinese}{'等' if count > NAMED_MAX else ''}。",
        )


class OverrideUnsigned(Refused):
    """An override lacks one of its two names, or the reason."""

    condition = Condition.INVALID
    remedy = "Give both names and the reason, or none of the three."
    remedy_chinese = "请同时填写两名人员姓名和理由，或三项均不填。"

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(
            f"An override takes two persons and a reason; {field} is missing.",
            f"数据不完整时发布，须由两名人员署名并说明理由：缺少{field_term(field)}。",
        )


class OverrideByOne(Refused):
    """Both names of an override are the same person's."""

    condition = Condition.FORBIDDEN
    field = "override_second"
    remedy = "Have another person confirm it."
    remedy_chinese = "请由另一名人员复核。"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"An override takes two different persons; both are {name}.",
            f"数据不完整时发布，须由两名不同人员署名，两处均为“{name}”。",
        )


class NotPublished(Refused):
    """There is no edition of the period."""

    condition = Condition.MISSING
    field = "period"
    remedy = "Publish it first (`kx hub publish`)."
    remedy_chinese = "请先发布（kx hub publish）。"

    def __init__(self, scope: str, period: Period) -> None:
        super().__init__(
            f"The figures of {scope} for {period} have not been published.",
            f"单位 {scope} {period.chinese}的数据尚未发布。",
        )


@dataclass(frozen=True, slots=True)
class Override:
    """Who has incomplete figures published, and why; all empty: nobody."""

    by: str = ""
    second: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """A published figure that is another one now. `cell` says which."""

    cell: Cell
    published: int
    now: int

    @property
    def difference(self) -> int:
        """What has been added since."""
        return self.now - self.published


@dataclass(frozen=True, slots=True)
class Corrections:
    """Everything that has changed since an edition."""

    edition: Edition
    bureaus: list[Correction]
    """By bureau and measure: what is counted as corrections."""
    grounds: list[Correction]
    """The same, or what moved between them, by category, channel and department kind of the whole scope."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What stands of publishing a period."""

    edition: Edition | None
    """The last one."""
    corrections: list[Correction]
    """What has changed since, by bureau and measure."""
    completeness: Completeness
    """Up to the end of the period, now."""
    asked: OverrideAsked | None
    """The override that waits for a second person."""


def end_of(period: Period) -> int:
    """The instant at which a period's last day ends, in microseconds."""
    return end_of_day(period.last)


def end_of_day(day: date) -> int:
    """The instant at which a day in Shanghai ends, in microseconds."""
    return to_micros(WorkingCalendar.end_of(day))


def check_override(override: Override) -> None:
    """Two persons and a reason, or nothing. Raises `OverrideUnsigned`, `OverrideByOne`, `FieldMalformed`."""
    given = {
        "override_by": (override.by, NAME_CHARACTERS_MAX),
        "override_second": (override.second, NAME_CHARACTERS_MAX),
        "override_reason": (override.reason, NOTE_CHARACTERS_MAX),
    }
    if not any(text.strip() for text, _ in given.values()):
        return
    for field, (text, characters) in given.items():
        if not text.strip():
            raise OverrideUnsigned(field)
        at_most(text, field, characters)
    if _same(override.by, override.second):
        raise OverrideByOne(override.by.strip())


def prepare(
    connection: sa.Connection,
    tree: BureauTree,
    *,
    scope: str,
    period: Period,
    completeness: Completeness,
    override: Override,
    published_by: str,
    now_us: int,
) -> tuple[Edition, dict[Cell, int]]:
    """An edition and its figures, to be given to `Store.publish`. `completeness` is up to the end of the period.

    Raises `PeriodNotOver`, `FiguresIncomplete`, and what `check_override` raises.
    """
    check_override(override)
    if now_us < end_of(period):
        raise PeriodNotOver(period)
    if completeness.missing and not override.by.strip():
        raise FiguresIncomplete(scope, period, completeness)
    needed = override if completeness.missing else Override()
    edition = Edition(
        scope=scope,
        period=str(period),
        first_day=query.day_number(period.first),
        last_day=query.day_number(period.last),
        published_at_us=now_us,
        published_by=published_by,
        definitions=DEFINITIONS,
        tree_version=tree.version,
        bureaus_expected=completeness.bureaus_expected,
        bureaus_heard=completeness.bureaus_heard,
        bureaus_up_to_date=completeness.bureaus_up_to_date,
        bureaus_quarantined=completeness.bureaus_quarantined,
        data_as_of_us=completeness.data_as_of_us,
        missing=" ".join(completeness.missing),
        override_by=needed.by.strip(),
        override_second=needed.second.strip(),
        override_reason=needed.reason.strip(),
    )
    return edition, snapshot(connection, tree, scope, period)


def snapshot(connection: sa.Connection, tree: BureauTree, scope: str, period: Period) -> dict[Cell, int]:
    """The figures of a period as they are now; those that are zero are left out."""
    question = Question(scope, period.first, period.last)
    found: dict[Cell, int] = {}
    for row in query.unfinished_and_sums(connection, tree, question):
        for measure, value in (*row.sums.items(), (UNFINISHED, row.unfinished or 0)):
            found[row.key, ALONE, 0, 0, 0, measure] = value
    for (category, channel, kind), sums in query.cells(connection, tree, question).items():
        for measure, value in sums.items():
            found[scope, WITH_SUBORDINATES, category, channel, kind, measure] = value
    return {cell: value for cell, value in found.items() if value}


def corrections(connection: sa.Connection, tree: BureauTree, scope: str, period: Period) -> Corrections:
    """What differs now from the last edition of a period. Raises `NotPublished`."""
    edition = latest_edition(connection, scope, str(period))
    if edition is None:
        raise NotPublished(scope, period)
    changed = differences(read_cells(connection, edition), snapshot(connection, tree, scope, period))
    return Corrections(
        edition,
        [correction for correction in changed if correction.cell[1] == ALONE],
        [correction for correction in changed if correction.cell[1] != ALONE],
    )


def differences(published: Mapping[Cell, int], now: Mapping[Cell, int]) -> list[Correction]:
    """What is not the same, in the order of the cells."""
    return [
        Correction(cell, published.get(cell, 0), now.get(cell, 0))
        for cell in sorted(published.keys() | now.keys())
        if published.get(cell, 0) != now.get(cell, 0)
    ]


def _same(one: str, other: str) -> bool:
    """Whether two names are one, however they are typed."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).split()).casefold()
