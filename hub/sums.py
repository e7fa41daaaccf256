"""Counts of many bureaus and days in whole arrays: summed up the tree, by month and by year, all of a batch at once.

A batch of a backlog counts in tens of thousands of places, and each place again for every superior, month and year. One
number stands for a place (bureau, day, cell), so that all of it is sorting and adding numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from hub.cells import CELL_BITS, CELL_MASK, COUNT_MAX, MEASURE_MASK, Days

Numbers = npt.NDArray[np.int64]
_KEPT: Final = np.dtype("<u4")
"""Cells as they are kept: all their numbers, then all their counts (`hub.cells`)."""
_NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class Sums:
    """What is to be added, or is kept, of some bureaus and days.

    `places` are ascending and each stands once: (place of the bureau in `bureaus` × number of `days` + place of the day
    in `days`) above the bits of the cell. There is room for 2³⁵ pairs of bureau and day.
    """

    bureaus: Sequence[str]
    days: Numbers
    places: Numbers
    counts: Numbers

    @staticmethod
    def of_numbers(counts: Mapping[str, Sequence[int]]) -> "Sums":
        """Counts by bureau, each number (a day above the bits of a cell) one more."""
        lengths = [len(numbers) for numbers in counts.values()]
        numbers = np.fromiter(chain.from_iterable(counts.values()), np.int64, sum(lengths))
        whose = np.repeat(np.arange(len(lengths)), lengths)
        days, at = _numbered(numbers >> CELL_BITS)
        places = np.sort((whose * len(days) + at) << CELL_BITS | numbers & CELL_MASK)
        first = np.flatnonzero(np.diff(places, prepend=-1))
        return Sums(list(counts), days, places[first], np.diff(first, append=len(places)))

    @staticmethod
    def of_kept(rows: Iterable[tuple[int, str, bytes]]) -> "Sums":
        """Counts as they are kept: day, bureau, cells."""
        found = list(rows)
        index: dict[str, int] = {}
        whose = np.array([index.setdefault(bureau, len(index)) for _, bureau, _ in found], np.int64)
        days, at = _numbered(np.array([day for day, _, _ in found], np.int64))
        return Sums(list(index), days, *_once(*_thawed(whose * len(days) + at, [kept for _, _, kept in found])))

    def negated(self) -> "Sums":
        """The same, to be taken out."""
        return replace(self, counts=-self.counts)

    def upwards(self, superiors: Mapping[str, Sequence[str]]) -> "Sums":
        """The same counts for each superior: `superiors` names those that the hub keeps totals for, by bureau.

        From tier to tier, since a tier's sums have fewer cells than what they are the sums of.
        """
        lines = [superiors[bureau] for bureau in self.bureaus]
        all_of_them = list(dict.fromkeys(chain.from_iterable(lines)))
        index = {superior: nth for nth, superior in enumerate(all_of_them)}
        above = [index[superiors[one][1]] if len(superiors[one]) > 1 else _NOBODY for one in all_of_them]
        tier = self._moved(all_of_them, [index[line[0]] if line else _NOBODY for line in lines])
        tiers = [tier]
        while len(tier.places):
            tier = tier._moved(all_of_them, above)  # noqa: SLF001 - its own kind
            tiers.append(tier)
        places, counts = [one.places for one in tiers], [one.counts for one in tiers]
        return Sums(all_of_them, self.days, *_once(np.concatenate(places), np.concatenate(counts)))

    def _moved(self, bureaus: Sequence[str], to: Sequence[int]) -> "Sums":
        """What each bureau has, given to another one."""
        whose = np.array(to, np.int64)[self._whose()]
        somebody = whose != _NOBODY
        rows = whose[somebody] * len(self.days) + self._at()[somebody]
        places = rows << CELL_BITS | self.places[somebody] & CELL_MASK
        return Sums(bureaus, self.days, *_once(places, self.counts[somebody]))

    def gathered(self, first_of: Callable[[int], int], *, grounds: bool = True) -> "Sums":
        """The same counts by month or year, each under its first day.

        Without `grounds`, over all categories, channels and kinds of departments, which are 0 then.
        """
        days, of_day = _numbered(np.array([first_of(day) for day in self.days.tolist()], np.int64))
        rows = self._whose() * len(days) + of_day[self._at()]
        places = rows << CELL_BITS | self.places & (CELL_MASK if grounds else MEASURE_MASK)
        return Sums(self.bureaus, days, *_once(places, self.counts))

    def touched(self) -> dict[int, list[str]]:
        """The bureaus of which there is something, by day."""
        found: dict[int, list[str]] = {}
        days = self.days.tolist()
        for row in _distinct(self.places >> CELL_BITS).tolist():
            found.setdefault(days[row % len(days)], []).append(self.bureaus[row // len(days)])
        return found

    def with_kept(self, rows: Sequence[tuple[int, str, bytes]]) -> "Sums":
        """Added to what is kept of the same bureaus and days.

        Nothing is left of a count that becomes zero. Nor of one below: of a total that somebody has made too small,
        which a reconciliation names. Raises `OverflowError` for a count above `COUNT_MAX`.
        """
        index = {bureau: nth for nth, bureau in enumerate(self.bureaus)}
        at = {day: nth for nth, day in enumerate(self.days.tolist())}
        ascending = sorted((index[bureau] * len(at) + at[day], kept) for day, bureau, kept in rows)
        places, counts = _thawed(np.array([row for row, _ in ascending], np.int64), [kept for _, kept in ascending])
        if not (np.diff(places) > 0).all():
            places, counts = _once(places, counts)
        # Both ascend: looking one up in the other is quicker than sorting all that is kept.
        there = np.searchsorted(places, self.places)
        known = np.zeros(len(there), bool)
        within = there < len(places)
        known[within] = places[there[within]] == self.places[within]
        counts[there[known]] += self.counts[known]
        new = ~known
        places = np.insert(places, there[new], self.places[new])
        counts = np.insert(counts, there[new], self.counts[new])
        left = counts > 0
        if not left.all():
            places, counts = places[left], counts[left]
        if len(counts) and int(counts.max()) > COUNT_MAX:
            raise OverflowError(f"a count is above {COUNT_MAX}")
        return replace(self, places=places, counts=counts)

    def frozen(self) -> Iterator[tuple[int, str, bytes]]:
        """As they are kept: day, bureau, cells."""
        days = self.days.tolist()
        rows = self.places >> CELL_BITS
        cells = (self.places & CELL_MASK).astype(_KEPT)
        counts = self.counts.astype(_KEPT)
        begins = np.flatnonzero(np.diff(rows, prepend=-1))
        if not len(begins):
            return
        ends = [*begins[1:].tolist(), len(rows)]
        for row, begin, end in zip(rows[begins].tolist(), begins.tolist(), ends, strict=True):
            kept = cells[begin:end].tobytes() + counts[begin:end].tobytes()
            yield days[row % len(days)], self.bureaus[row // len(days)], kept

    def by_bureau(self) -> dict[str, Days]:
        """As dictionaries."""
        found: dict[str, Days] = {}
        cells = (self.places & CELL_MASK).tolist()
        whose, days, counts = self._whose().tolist(), self._days().tolist(), self.counts.tolist()
        for nth, day, cell, count in zip(whose, days, cells, counts, strict=True):
            found.setdefault(self.bureaus[nth], {}).setdefault(day, {})[cell] = count
        return found

    def _at(self) -> Numbers:
        return (self.places >> CELL_BITS) % max(len(self.days), 1)

    def _days(self) -> Numbers:
        return self.days[self._at()]

    def _whose(self) -> Numbers:
        return (self.places >> CELL_BITS) // max(len(self.days), 1)


def _numbered(days: Numbers) -> tuple[Numbers, Numbers]:
    """The days that there are, ascending, and the place of each given one among them."""
    named = np.unique(days)
    return named, np.searchsorted(named, days)


def _once(places: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Each place once, ascending, with its sum."""
    if not len(places):
        return places, counts
    order = np.argsort(places)
    places = places[order]
    first = np.flatnonzero(np.diff(places, prepend=-1))
    return places[first], np.add.reduceat(counts[order], first)


def _distinct(ascending: Numbers) -> Numbers:
    return ascending[np.flatnonzero(np.diff(ascending, prepend=-1))]


def _thawed(rows: Numbers, kept: Sequence[bytes]) -> tuple[Numbers, Numbers]:
    """The places and counts of all cells that are kept of these rows."""
    halves = [np.frombuffer(cells, _KEPT).reshape(2, -1) for cells in kept]
    if not halves:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    cells = np.concatenate([half[0] for half in halves]).astype(np.int64)
    counts = np.concatenate([half[1] for half in halves]).astype(np.int64)
    return np.repeat(rows, [half.shape[1] for half in halves]) << CELL_BITS | cells, counts
