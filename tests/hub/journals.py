"""The tree of the hub's tests, and what one entry of a journal (`demo.journals`) adds to the tallies."""

from hub.cells import grounds_of
from hub.measures import count_entry, shanghai_day, tallying
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
    into = tallying()
    count_entry(entry, entry.clocks, shanghai_day(entry.occurred_at_us), 0, into)
    found = []
    for day, cells in into.items():
        for cell, value in cells.items():
            _, _, kind, measure = grounds_of(cell)
            found += [(measure, day, kind)] * value
    return found
