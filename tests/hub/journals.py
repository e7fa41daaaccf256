"""The tree of the hub's tests, and what one entry of a journal (`demo.journals`) adds to the tallies."""

from collections.abc import Mapping

import numpy as np

from hub.cells import CELL_BITS, CELL_MASK, Cell, grounds_of
from hub.measures import COUNTED_ACTIONS, count_clock, count_event, shanghai_day
from hub.sums import Sums
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.wire.v1 import journal_pb2 as pb

HEADQUARTERS = "000000"
BEIJING, DONGCHENG, XICHENG = "110000", "110101", "110102"
ZHEJIANG, HANGZHOU, SHANGCHENG = "330000", "330100", "330102"


def tree(endpoints: dict[str, str] | None = None) -> BureauTree:
    """Two provinces: one with its counties right under it, one with a prefecture between."""
    where = endpoints or {}
    rows = [
        (HEADQUARTERS, Tier.NATIONAL, None),
        (BEIJING, Tier.PROVINCIAL, HEADQUARTERS),
        (DONGCHENG, Tier.COUNTY, BEIJING),
        (XICHENG, Tier.COUNTY, BEIJING),
        (ZHEJIANG, Tier.PROVINCIAL, HEADQUARTERS),
        (HANGZHOU, Tier.PREFECTURE, ZHEJIANG),
        (SHANGCHENG, Tier.COUNTY, HANGZHOU),
    ]
    return BureauTree("test", [Bureau(code, code, tier, above, where.get(code, "")) for code, tier, above in rows])


def measures(entry: pb.Entry) -> list[tuple[int, int, int]]:
    """What an entry adds, each standing for one more: (measure, day, department kind)."""
    into: list[int] = []
    day = shanghai_day(entry.occurred_at_us)
    count_event(entry, entry.department_kind, day, 0, into)
    for change in entry.clocks:
        if change.action in COUNTED_ACTIONS:
            count_clock(change, change.kind, change.action, entry.department_kind, day, 0, into)
    found = []
    for number in into:
        _, _, kind, measure = grounds_of(number & CELL_MASK)
        found.append((measure, number >> CELL_BITS, kind))
    return found


def frozen(cells: Mapping[Cell, int]) -> bytes:
    """Cells as a row of tallies has them."""
    ascending = sorted(cells.items())
    places = np.array([cell for cell, _ in ascending], np.int64)
    counts = np.array([count for _, count in ascending], np.int64)
    [(_, _, kept)] = Sums([HEADQUARTERS], np.zeros(1, np.int64), places, counts).frozen()
    return kept
