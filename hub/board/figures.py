"""The hub's answers as figures of a page: by their names, as cells, with what they are compared with.

A cell is the bulletin's, so that a page, a bulletin and a file show the same digits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub.bulletin.document import Cell, basis_points_of, count, growth, points, rate
from hub.bulletin.figures import EXPLANATIONS
from hub.definitions import COUNTS, RATES
from hub.measures import FACT_NAMES, measure_name, met, missed
from hub.words import BASIS_LABELS, Basis, Grouping
from kuaixiang.domain.words import Category, Channel, ClockKind, DepartmentKind
from kuaixiang.web.language import Language, word
from kuaixiang.wire.v1 import statistics_pb2 as pb

RATE_NAMES: Final = frozenset(of.name for of in RATES)
OPEN, OVERDUE = "open", "overdue"
NOW: Final = frozenset({OPEN, OVERDUE})
"""Figures of the present, whatever the days."""

CARDS: Final = (
    "registered",
    "completed",
    "unfinished",
    "on_time",
    "feedback_in_time",
    "satisfaction",
    "completion",
    "late",
    OPEN,
    OVERDUE,
)
BUREAU_COLUMNS: Final = (
    "registered",
    "completed",
    "unfinished",
    "on_time",
    "feedback_in_time",
    "satisfaction",
    OPEN,
    OVERDUE,
)
"""Of the dashboard's table by bureau."""

_CLOCK_MEASURES: Final = {
    measure_name(number(kind)): (kind, "met" if number is met else "missed")
    for kind in ClockKind
    for number in (met, missed)
}
ALL: Final = (
    *FACT_NAMES.values(),
    *(of.name for of in COUNTS),
    *_CLOCK_MEASURES,
    *(of.name for of in RATES),
    OPEN,
    OVERDUE,
)
"""Every figure that a file tells, in order."""

_ENGLISH: Final[Mapping[str, str]] = {
    "on_time": "On-time rate",
    "feedback_in_time": "Feedback-in-time rate",
    "completion": "Completion rate",
    "satisfaction": "Satisfaction rate",
    "follow_up": "Follow-up rate",
    "on_the_spot": "Answered-on-the-spot rate",
    "returns": "Return rate",
    "in_time": "Deadlines met",
    "late": "Deadlines missed",
    OPEN: "Open now",
    OVERDUE: "Overdue now",
}
"""What English calls a figure whose name alone would mislead."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How a figure has moved against an earlier period."""

    basis: Basis
    before: Cell
    by: Cell
    """Growth of a count, points of a rate."""
    added: int | None
    """Of a count."""
    direction: int
    """1 up, -1 down, 0 neither."""


def figure_name(name: str, language: Language) -> str:
    """What a figure is called."""
    if language is Language.CHINESE:
        return EXPLANATIONS[name].label
    return _ENGLISH.get(name) or name.replace("_", " ").capitalize()


def figure_meaning(name: str, language: Language) -> str:
    """What it means, in a sentence."""
    of = EXPLANATIONS[name]
    return of.chinese if language is Language.CHINESE else of.sentence


def number_of(row: pb.Figures, name: str) -> int | None:
    """A count of a row; None where it is not told."""
    if name == OPEN:
        return row.open
    if name == OVERDUE:
        return row.overdue
    if name in _CLOCK_MEASURES:
        kind, outcome = _CLOCK_MEASURES[name]
        clock = next((clock for clock in row.clocks if int(clock.kind) == kind), None)
        return 0 if clock is None else int(getattr(clock, outcome))
    if name == "unfinished":
        return row.counts.get(name)
    return row.counts[name] if name in row.counts else row.facts.get(name, 0)


def rate_of(row: pb.Figures, name: str) -> tuple[int, int] | None:
    """What a rate of a row is computed from; None where it is not told."""
    return next(((of.numerator, of.denominator) for of in row.rates if of.name == name), None)


def basis_points(row: pb.Figures, name: str) -> int | None:
    """A rate in hundredths of a percent; None without anything to divide by."""
    of = rate_of(row, name)
    return None if of is None else basis_points_of(*of)


def cell(row: pb.Figures, name: str) -> Cell:
    """A figure of a row, as it is told."""
    return rate(basis_points(row, name)) if name in RATE_NAMES else count(number_of(row, name))


def moves(row: pb.Figures, name: str) -> list[Moved]:
    """How a figure has moved, against each period that had anything at all."""
    return [
        _moved(row, change, name)
        for change in row.changes
        if name not in NOW and (change.before.facts or change.before.clocks)
    ]


def _moved(row: pb.Figures, change: pb.Change, name: str) -> Moved:
    basis, before = Basis(int(change.basis)), change.before
    if name in RATE_NAMES:
        by = points(basis_points(row, name), basis_points(before, name))
        return Moved(basis, cell(before, name), by, None, _sign(by.value))
    now, then = number_of(row, name), number_of(before, name)
    added = None if now is None or then is None else now - then
    return Moved(basis, cell(before, name), growth(now, then), added, _sign(added))


def _sign(by: int | str | None) -> int:
    return (by > 0) - (by < 0) if isinstance(by, int) else 0


def basis_name(basis: Basis, language: Language) -> str:
    """With what is compared, in words."""
    if language is Language.CHINESE:
        return BASIS_LABELS[basis]
    return "against the period before" if basis is Basis.LAST_PERIOD else "against a year before"


# ---------------------------------------------------------------- rows

_WORDS: Final = {
    Grouping.CATEGORY: Category,
    Grouping.CHANNEL: Channel,
    Grouping.DEPARTMENT: DepartmentKind,
}


def ground_name(grouping: Grouping, key: str, language: Language) -> str:
    """What a category, channel or kind of department is called; what has none stands under 0."""
    kind = _WORDS[grouping]
    number = int(key)
    if number not in set(map(int, kind)):
        return "未分类" if language is Language.CHINESE else "not classified"
    return word(kind(number), language)


def components(name: str) -> tuple[str, ...]:
    """The figures that a rate or a count is computed from; none for what is counted itself."""
    of_rate = next((of for of in RATES if of.name == name), None)
    if of_rate is not None:
        measures: Sequence[int] = (*of_rate.numerator, *of_rate.denominator)
    else:
        of_count = next((of for of in COUNTS if of.name == name), None)
        measures = () if of_count is None else (*of_count.plus, *of_count.minus)
    return tuple(dict.fromkeys(map(measure_name, measures)))
