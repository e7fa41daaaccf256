"""The day that is simulated: how many cases each bureau registers, when, and what becomes of them until it closes.

Where public logs of the same kind of work give a share, it is taken from them, and the constant says which; what no log
tells is an assumption, and says so. `docs/PERFORMANCE.md` has the mix in one table.
"""

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from random import Random
from typing import Final

from demo.content import Course, Request, load_requests
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.tree import BureauTree, Tier

FILING_DAY: Final = date(2026, 9, 15)
"""Returns of the month are due on the 15th; this one is a working day."""

OPENS: Final = datetime(FILING_DAY.year, FILING_DAY.month, FILING_DAY.day, 8, tzinfo=SHANGHAI)
REGISTERED_UNTIL: Final = OPENS + timedelta(hours=10)
CLOSES: Final = OPENS + timedelta(hours=12)
"""Assumption: on this day halls take requests until 18:00, and departments work until 20:00."""

NEXT_DAY: Final = OPENS.replace(hour=0, minute=1) + timedelta(days=1)
"""Shortly after midnight: sweeps see which deadlines have passed, and which have one working day left."""

REGISTERED_BY_HOUR: Final = (4_593, 5_685, 6_028, 5_387, 4_784, 4_721, 4_918, 4_893, 3_214, 2_253)
"""Requests that came in between 8 and 9, and so on until 18: Boston's city services (311), January to June 2015."""

ON_THE_SPOT_PERCENT: Final = 75
"""Assumption: on a filing day most ask how to file, which is answered at once 当场答复. (Of Boston's 58,119 requests
13.6 percent were closed within 15 minutes, of all kinds of work.)"""

HANDED_OVER: Final = (280, 1_487)
"""Of the cases that need handling, so many are given to another bureau: of the problems in BPI Challenge 2013 (closed
problems), which first-line support could not answer either, so many were given to another team."""

RETURNED: Final = (105, 280)
"""Of those, so many come back: the same log, teams that got a problem again which they had given away."""

DONE_THE_SAME_DAY: Final = (5_928, 50_202)
"""Of the cases that need handling, so many are done on the day: Boston, of what was not closed within 15 minutes."""

BY_TIER: Final = {Tier.NATIONAL: 0.1, Tier.PROVINCIAL: 0.3, Tier.PREFECTURE: 0.5, Tier.COUNTY: 1.0}
"""Assumption: how much a bureau registers beside a county's, by its tier: taxpayers go to the hall next to them."""

SIZE_SPREAD: Final = 0.6
"""Assumption: bureaus of a tier are unequal, log-normally with this sigma: of ten counties the largest registers some
six times as much as the smallest."""

HAND_OVERS: Final = (60, 15, 5, 20)
"""Assumption: of 100 hand-overs of a county so many go one tier up, to its province, to headquarters, and to another
county of the province (属地管理). The log's teams form no tree whose tiers would compare."""

FORWARD_MINUTES: Final = (5, 60)
DISPATCH_MINUTES: Final = (10, 120)
RETURN_MINUTES: Final = (20, 90)
HANDLE_MINUTES: Final = (30, 240)
FEEDBACK_MINUTES: Final = (5, 30)
FOLLOW_UP_MINUTES: Final = (10, 60)
"""Assumption: how long an office takes for each step; what would come after closing time is left for the next day."""


class Way(StrEnum):
    """What becomes of a case on the day."""

    ON_THE_SPOT = "on_the_spot"
    HANDLED_HERE = "handled_here"
    HANDED_OVER = "handed_over"
    SENT_BACK = "sent_back"
    """Handed over, returned by who got it, and handled where it was registered."""


@dataclass(frozen=True, slots=True)
class CasePlan:
    """One case: where and when it is registered, and what becomes of it."""

    number: int
    home: str
    at: datetime
    way: Way
    request: Request
    to: str
    """The bureau that it is handed over to; empty when it is not."""
    done_today: bool
    rng: Random
    """The case's own chance, for officers and durations."""


class FilingDay:
    """Every case of the day, by number in the order of registration; the same arguments give the same day."""

    def __init__(self, tree: BureauTree, cases: int, seed: int) -> None:
        self.tree = tree
        self.cases = cases
        self._seed = seed
        codes = tree.subtree(tree.root)
        sizes = Random(f"{seed}:sizes")
        weights = [BY_TIER[tree.bureaus[code].tier] * sizes.lognormvariate(0, SIZE_SPREAD) for code in codes]
        self.homes: Sequence[str] = Random(f"{seed}:homes").choices(codes, weights=weights, k=cases)
        """The bureau that registers each."""
        self._by_then = [0, *accumulate(REGISTERED_BY_HOUR)]
        requests = load_requests()
        self._spot = [request for request in requests if request.course is Course.ON_THE_SPOT]
        self._others = [request for request in requests if request.course is not Course.ON_THE_SPOT]

    def time_of(self, number: int) -> datetime:
        """When the case of that number comes in; of the number after the last: when registering ends."""
        if number >= self.cases:
            return REGISTERED_UNTIL
        place = number / self.cases * self._by_then[-1]
        hour = bisect(self._by_then, place) - 1
        within = (place - self._by_then[hour]) / REGISTERED_BY_HOUR[hour]
        return OPENS + timedelta(hours=hour + within)

    def plan(self, number: int) -> CasePlan:
        """One case."""
        rng = Random(f"{self._seed}:{number}")
        home, to, way, done = self.homes[number], "", Way.HANDLED_HERE, False
        if rng.randrange(100) < ON_THE_SPOT_PERCENT:
            way = Way.ON_THE_SPOT
        else:
            done = _one_of(DONE_THE_SAME_DAY, rng)
            if _one_of(HANDED_OVER, rng):
                to = self._addressee(home, rng)
                way = Way.SENT_BACK if _one_of(RETURNED, rng) else Way.HANDED_OVER
        request = rng.choice(self._spot if way is Way.ON_THE_SPOT else self._others)
        return CasePlan(number, home, self.time_of(number), way, request, to, done, rng)

    def _addressee(self, home: str, rng: Random) -> str:
        """Who gets a case that this bureau does not handle."""
        tree = self.tree
        above, below = tree.ancestors(home), tree.children(home)
        if below and (not above or rng.randrange(2)):
            return rng.choice(below)
        way = rng.choices(("superior", "province", "headquarters", "elsewhere"), weights=HAND_OVERS)[0]
        province = tree.site(home)
        elsewhere = [code for code in tree.subtree(province) if code != home and not tree.children(code)]
        match way:
            case "elsewhere" if elsewhere:
                return rng.choice(elsewhere)
            case "headquarters":
                return tree.root
            case "province" if province != home:
                return province
            case _:
                return tree.parent(home) or tree.root


def provinces_of(tree: BureauTree, count: int) -> list[str]:
    """So many provincial bureaus, spread over the tree's order, so that few are not all cities without prefectures."""
    provinces = [code for code in tree.sites() if code != tree.root]
    return [provinces[place * len(provinces) // count] for place in range(count)]


def bureaus_of(tree: BureauTree, provinces: Iterable[str]) -> list[str]:
    """The root, and every bureau of these provinces."""
    return [tree.root, *(code for province in provinces for code in tree.subtree(province))]


def minutes(span: tuple[int, int], rng: Random) -> timedelta:
    """A duration between two of so many minutes."""
    return timedelta(minutes=rng.uniform(*span))


def _one_of(share: tuple[int, int], rng: Random) -> bool:
    some, of = share
    return rng.randrange(of) < some
