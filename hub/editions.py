"""What has been published: editions of a period's figures. Pure values that `hub.publishing` makes and the store keeps.

An edition never changes. Journals go on being folded, late entries restate the days they belong to, and what then
differs from the edition is a correction.
"""

from dataclasses import dataclass
from typing import Final

Cell = tuple[str, int, int, int, int, int]
"""Where a published figure stands: bureau, reach, category, channel, department kind, measure.

Of each bureau alone the sums over categories, channels and kinds (0 stands for all); of the scope with its
subordinates every combination."""

FIRST_EDITION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """One publication of a period of a scope. Days count from 1970-01-01, instants are microseconds since then."""

    scope: str
    period: str
    """As `kuaixiang.domain.periods` writes it, such as 2026-10."""
    edition: int = FIRST_EDITION
    first_day: int
    last_day: int
    published_at_us: int
    published_by: str
    """The officer who had signed in, by name, bureau and number; where nobody does, such as `office 330000`."""
    definitions: int
    """By which definitions entries were counted: `hub.measures.DEFINITIONS` of that day."""
    tree_version: str
    bureaus_expected: int
    bureaus_heard: int
    bureaus_up_to_date: int
    bureaus_quarantined: int
    data_as_of_us: int
    missing: str = ""
    """Codes of the bureaus whose figures were not complete, separated by blanks."""
    override_by: str = ""
    override_second: str = ""
    override_reason: str = ""
    """Who had it published all the same, and why; empty for complete figures."""

    @property
    def complete(self) -> bool:
        """Whether every bureau's figures were."""
        return not self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideAsked:
    """That somebody has asked to have incomplete figures published, which another one may confirm until then."""

    scope: str
    period: str
    bureau: str
    actor: str
    name: str
    reason: str
    asked_at_us: int
    until_us: int
