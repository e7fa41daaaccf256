"""The league table: the bureaus' figures in the columns and the order that the bulletin and the board both have."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from hub.bulletin.document import Cell, count, growth, rate
from hub.bulletin.figures import basis_points, number_of
from hub.bulletin.material import PeriodFigures, Shortfall
from hub.bulletin.ranking import Standing, standings
from hub.comparison import Compared
from hub.measures import Fact
from hub.query import Completeness, Row
from hub.words import Basis, Lack

LEAGUE_COUNTS: Final = ("registered", "completed", "in_time", "late", "unfinished")
LEAGUE_RATES: Final = ("completion", "on_time", "feedback_in_time", "follow_up", "satisfaction")
"""The figures of the table, by the names under which `hub.definitions` has them; behind them stands the growth of what
was registered."""


@dataclass(frozen=True, slots=True)
class LeagueLine:
    """One bureau: its rank, if it has one, and its figures as they are told."""

    standing: Standing
    cells: tuple[Cell, ...]
    """In the order of the columns: counts, rates, growth."""
    is_lacking: bool
    """Whether figures of a bureau in it are not complete."""

    @property
    def row(self) -> Row:
        """The figures that the cells are of."""
        return self.standing.row


@dataclass(frozen=True, slots=True)
class League:
    """The whole table."""

    total: tuple[Cell, ...]
    lines: tuple[LeagueLine, ...]
    """The ranked ones in order, then those that are only listed, the scope's own row last."""
    doubtful: frozenset[str]
    """Rows with a ledger under doubt in them."""
    is_compared: bool
    """Whether there is a period before that growth could be told against."""
    completeness: Completeness


def bases_told(total: Compared, *, is_over: bool) -> frozenset[Basis]:
    """With what a period is compared: with nothing while it lasts, nor where there was nothing then."""
    return frozenset(
        basis
        for basis in Basis
        if is_over and (before := total.before(basis)) is not None and any(before.sums.values())
    )


def figures_told(compared: Compared, bases: Collection[Basis]) -> tuple[Cell, ...]:
    """A row's cells in the order of the columns."""
    row = compared.row
    before = compared.before(Basis.LAST_PERIOD) if Basis.LAST_PERIOD in bases else None
    return (
        *(count(number_of(row, name)) for name in LEAGUE_COUNTS),
        *(rate(basis_points(row, name)) for name in LEAGUE_RATES),
        growth(row.sums.get(Fact.REGISTERED, 0), None if before is None else before.sums.get(Fact.REGISTERED, 0)),
    )


def league(  # noqa: PLR0917 - what the table is made of
    figures: PeriodFigures,
    own: str,
    minimum_sample: int,
    shortfalls: Sequence[Shortfall],
    bases: Collection[Basis],
    completeness: Completeness,
) -> League:
    """Rank the bureaus of a scope and tell their figures."""
    lacking = frozenset(short.row for short in shortfalls)
    doubtful = frozenset(short.row for short in shortfalls if short.lack is Lack.QUARANTINED)
    compared = {one.row.key: one for one in figures.bureaus}
    return League(
        figures_told(figures.total, bases),
        tuple(
            LeagueLine(standing, figures_told(compared[standing.row.key], bases), standing.row.key in lacking)
            for standing in standings([one.row for one in figures.bureaus], own, minimum_sample, doubtful)
        ),
        doubtful,
        Basis.LAST_PERIOD in bases,
        completeness,
    )
