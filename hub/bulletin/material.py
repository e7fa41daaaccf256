"""What a bulletin is made from: figures of a period with those of the ones before it, and what else there is to tell.

None of it has a place for a taxpayer: there are counts, names of bureaus, and titles of common issues as an officer has
confirmed them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hub.comparison import Compared
from hub.editions import Edition
from hub.publishing import end_of
from hub.query import Completeness
from hub.words import Lack
from kuaixiang.domain.periods import Period
from kuaixiang.domain.tree import Bureau


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """The figures of a period: of the whole scope, and its rows, each with those that it is compared with."""

    total: Compared
    bureaus: Sequence[Compared] = ()
    """The scope's own row and those of its immediate subordinates, each with all of its own."""
    categories: Sequence[Compared] = ()
    channels: Sequence[Compared] = ()
    departments: Sequence[Compared] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was counted."""
        return not any(self.total.row.sums.values())


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A bureau whose figures are not complete, as it is named in the bulletin."""

    bureau: str
    name: str
    row: str
    """The row that it is counted in."""
    lack: Lack


@dataclass(frozen=True, slots=True)
class IssueLine:
    """A confirmed common issue 共性诉求: its size in cases and whom it concerns."""

    issue_id: str
    title: str
    size: int
    size_before: int
    """Cases in the period before."""
    bureaus: tuple[str, ...]
    """Names of the immediate subordinates where it was raised, those with most cases first."""
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IssueSearch:
    """What the last search for common issues of the period has found."""

    at_us: int
    one_of: int
    """Of how many cases one was read; sizes are of those read."""
    unreadable: int
    """Bureaus whose ledgers could not be read."""
    unconfirmed: int
    """Issues found that nobody has confirmed: they have no title that could be told."""
    issues: Sequence[IssueLine]


@dataclass(frozen=True, slots=True)
class MismatchLine:
    """A ledger that differed from the hub's figures when they were compared 对账."""

    name: str
    differences: int


@dataclass(frozen=True, slots=True)
class ReconciliationLine:
    """The last daily comparison of the hub with the ledgers of the scope."""

    at_us: int
    ledgers: int
    """Ledgers that were compared."""
    unreachable: int
    mismatches: Sequence[MismatchLine] = ()


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """A published figure that later entries have changed 更正."""

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
    figures: PeriodFigures
    completeness: Completeness
    now_us: int
    minimum_sample: int
    shortfalls: Sequence[Shortfall] = ()
    search: IssueSearch | None = None
    """None: nobody has looked for common issues of the period."""
    reconciliation: ReconciliationLine | None = None
    """None: there has been none."""
    edition: Edition | None = None
    """The last edition of the period; None: it has not been published."""
    corrections: Sequence[CorrectionLine] = ()
    """What has changed since that edition."""

    @property
    def is_over(self) -> bool:
        """Whether the period's last day has ended: its figures do not depend on the present."""
        return end_of(self.period) <= self.now_us
