"""A row's figures by their names, with the labels and sentences of `hub.definitions`: no bulletin has its own."""

from collections.abc import Mapping
from typing import Final

from hub.bulletin.document import Definition, basis_points_of
from hub.definitions import Explanation, explanations
from hub.measures import Fact, measure_name, met, missed
from hub.query import RateFigure, Row
from kuaixiang.domain.words import ClockKind

EXPLANATIONS: Final[Mapping[str, Explanation]] = explanations()
_MEASURES: Final = {
    measure_name(measure): int(measure)
    for measure in (*Fact, *(number(kind) for kind in ClockKind for number in (met, missed)))
}


def label(name: str) -> str:
    """What a fact, a count or a rate is called."""
    return EXPLANATIONS[name].label


def definition(name: str) -> Definition:
    """What it means."""
    found = EXPLANATIONS[name]
    return Definition(found.label, found.chinese, found.sentence)


def number_of(row: Row, name: str) -> int | None:
    """A fact or a count of a row; None where it cannot be told."""
    measure = _MEASURES.get(name)
    return row.counts.get(name) if measure is None else row.sums.get(measure, 0)


def count_of(row: Row, name: str) -> int:
    """The same where it is added up or not told at all: 0 where it cannot be told."""
    return number_of(row, name) or 0


def rate_of(row: Row, name: str) -> RateFigure:
    """One rate of a row; over nothing where the row does not tell it."""
    return next((figure for figure in row.rates if figure.name == name), RateFigure(name, 0, 0))


def basis_points(row: Row, name: str) -> int | None:
    """One rate of a row as it is told."""
    figure = rate_of(row, name)
    return basis_points_of(figure.numerator, figure.denominator)
