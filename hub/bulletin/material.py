"""What a bulletin is made from: figures of a period and of the ones before it, and what else there is to tell.

None of it has a place for a taxpayer: there are counts, names of bureaus, and the wording of common issues, masked
before it left the bureau.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hub.query import Completeness, Lack, Row
from kuaixiang.domain.periods import Period
from kuaixiang.domain.tree import Bureau


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """The figures of one period: of the whole scope, and its rows."""

    total: Row
    bureaus: Sequence[Row] = ()
    """The scope's own row and those of its immediate subordinates, each with all of its own."""
    categories: Sequence[Row] = ()
    channels: Sequence[Row] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was counted."""
        return not any(self.total.sums.values())


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A bureau whose figures are not whole for the period."""

    bureau: str
    name: str
    row: str
    """The row that it is counted in."""
    lack: Lack


@dataclass(frozen=True, slots=True)
class IssueLine:
    """A common issue 共性诉求: its size in cases, whom it concerns, and how it is typically worded, masked."""

    label: str
    size: int
    previous_size: int | None
    """Cases in the period before; None when it is not known."""
    bureaus: tuple[str, ...]
    """Names of the bureaus where it was raised."""
    categories: tuple[str, ...]
    examples: tuple[str, ...] = ()
    is_confirmed: bool = False
    """Whether an officer has confirmed it; otherwise it was only found in the texts."""


@dataclass(frozen=True, slots=True)
class MismatchLine:
    """A ledger that differed from the hub's figures when they were compared 对账."""

    name: str
    differences: int


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """A figure of a published period that later entries have changed 更正."""

    period: str
    name: str
    figure: str
    published: int
    now: int


@dataclass(frozen=True, slots=True)
class Material:
    """Everything a bulletin tells."""

    bureau: Bureau
    """Whose subtree it is about; it is also the one that publishes."""
    period: Period
    current: PeriodFigures
    previous: PeriodFigures
    year_before: PeriodFigures
    completeness: Completeness
    now_us: int
    minimum_sample: int
    shortfalls: Sequence[Shortfall] = ()
    issues: Sequence[IssueLine] = ()
    mismatches: Sequence[MismatchLine] = ()
    corrections: Sequence[CorrectionLine] = ()
