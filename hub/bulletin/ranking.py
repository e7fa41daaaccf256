"""Who stands where: the order of the bureaus in a bulletin.

The rate for handling in time ranks, from high to low, as it is told: in hundredths of a percent. Equal ones share a
rank, and the next rank is as far down as there are bureaus above it (1, 2, 2, 4). Not ranked, only listed, are a bureau
with fewer deadlines than the minimum sample, one with a ledger under doubt in it, and the publishing bureau itself.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hub.bulletin.figures import basis_points, rate_of
from hub.query import Row

RANKING_RATE = "on_time"


@dataclass(frozen=True, slots=True)
class Standing:
    """A row and its rank; None: listed, not ranked."""

    row: Row
    rank: int | None


def standings(rows: Sequence[Row], own: str, minimum_sample: int, doubtful: Collection[str]) -> tuple[Standing, ...]:
    """Rank the rows: the ranked ones in order, then the others as they come, the publishing bureau's own last."""
    ranked: list[tuple[int, Row]] = []
    listed: list[Row] = []
    for row in rows:
        rate = basis_points(row, RANKING_RATE)
        enough = rate_of(row, RANKING_RATE).denominator >= minimum_sample
        if row.key != own and rate is not None and enough and row.key not in doubtful:
            ranked.append((rate, row))
        else:
            listed.append(row)
    ranked.sort(key=lambda one: (-one[0], one[1].key))
    rates = [rate for rate, _ in ranked]
    found = [Standing(row, rates.index(rate) + 1) for rate, row in ranked]
    listed.sort(key=lambda row: row.key == own)
    return (*found, *(Standing(row, None) for row in listed))
