"""A cluster of requests that ask the same, as `hub.issues.joining` finds them, and the bounds that others share."""

from dataclasses import dataclass
from typing import Final

CASES_MIN: Final = 3
"""Requests that make an issue, unless another number is asked for."""
TERM_CASES_MIN: Final = 2
"""A term of a single request is nobody's issue, and could tell whose request it is."""
EXAMPLES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Cluster:
    """Requests that ask the same, by their places in the period; `before` as many of the period before."""

    members: tuple[int, ...]
    before: int
    terms: tuple[str, ...]
    """What they have in common and others have not, most telling first."""
    central: tuple[int, ...]
    """Its most typical members, most typical first."""
