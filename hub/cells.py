"""The counts of one bureau and one day (month, year) as one value in the database.

A cell is a category, a channel, a kind of department and a measure, packed into a number of 28 bits; only cells that
are not zero are kept: first all their numbers, then all their counts, each an unsigned 32-bit little-endian integer. A
busy county's day has a few hundred, a nation's year some thousands. One row for all of them takes a fifth of the room
of one row for each, and a batch of entries changes as many rows as it touches bureaus, not as it touches cells.
"""

import sys
from array import array
from collections.abc import Collection, Hashable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np

_GROUND_MAX: Final = 15
MEASURE_MASK: Final = (1 << 16) - 1
CELL_BITS: Final = 28
CELL_MASK: Final = (1 << CELL_BITS) - 1
COUNT_MAX: Final = 2**32 - 1
"""One cell of a nation's year holds forty times the cases of all of it, some 10⁸."""
BUREAUS_REMEMBERED: Final = 10_000
"""Twice and more all bureaus of the nation. Answers of 30 measures take 24 MB then, of 80 measures 59 MB."""
_CELL_BYTES: Final = 8
"""A cell's number and its count."""
_K = TypeVar("_K", bound=Hashable)


class Ground(IntEnum):
    """What a case is counted by besides bureau and day; the number is the place of its four bits in a cell."""

    CATEGORY = 24
    CHANNEL = 20
    DEPARTMENT = 16


Cell = int
Cells = dict[Cell, int]
Days = dict[int, Cells]
"""By day, counted from 1970-01-01."""


def cell_of(category: int, channel: int, department: int, measure: int) -> Cell:
    """Put a cell into one number: quicker to look up than a tuple."""
    return category << 24 | channel << 20 | department << 16 | measure


def grounds_of(cell: Cell) -> tuple[int, int, int, int]:
    """Give (category, channel, department kind, measure) again."""
    return cell >> 24, cell >> 20 & _GROUND_MAX, cell >> 16 & _GROUND_MAX, cell & MEASURE_MASK


def thawed(kept: bytes) -> Cells:
    """The cells of a row of tallies (`hub.sums` makes them)."""
    packed = array("I")
    packed.frombytes(kept)
    packed = _little(packed)
    half = len(packed) // 2
    return dict(zip(packed[:half], packed[half:], strict=True))


def _little(packed: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


@lru_cache(maxsize=BUREAUS_REMEMBERED)
def by_measure(kept: bytes, measures: Collection[int] = ()) -> Mapping[int, int]:
    """Kept cells that are measures alone, of no category, channel or department, as sums by measure (none: all).

    The answer follows from what is kept and nothing else, so that it is remembered: of a league table that is asked for
    again, only the bureaus that have changed are read anew.
    """
    cells = thawed(kept)
    # Whoever asks again is handed the very same.
    return MappingProxyType(
        cells if not measures else {measure: cells[measure] for measure in measures if measure in cells}
    )


def summed(
    kept: Sequence[tuple[_K, bytes]],
    grounds: Sequence[Ground],
    wanted: Mapping[Ground, int],
    measures: Collection[int] = (),
) -> list[tuple[tuple[Any, ...], Mapping[int, int]]]:
    """Sums of kept cells, each under a key: (key and number of each ground, sums by measure), in that order.

    Only cells of the wanted grounds and measures (none: all) are summed. Whole arrays are, since a question about a
    nation's month reads a hundred thousand cells; they are added up where they belong and not sorted. Sums are exact up
    to 2⁵³: 2²¹ cells of `COUNT_MAX`.
    """
    keys: dict[_K, int] = {}
    rows = np.array([keys.setdefault(key, len(keys)) for key, _ in kept], np.int64)
    halves = np.array([len(cells) for _, cells in kept], np.int64) // _CELL_BYTES
    packed = np.frombuffer(b"".join([cells for _, cells in kept]), "<u4")
    before = np.cumsum(halves) - halves
    numbers_at = np.arange(len(packed) // 2) + np.repeat(before, halves)
    numbers = packed[numbers_at]
    told = np.zeros(MEASURE_MASK + 1, bool)
    told[list(measures) or numbers & MEASURE_MASK] = True
    right = told[numbers & MEASURE_MASK]
    for ground, number in wanted.items():
        right &= numbers >> ground & _GROUND_MAX == number
    which = np.flatnonzero(right)
    numbers, row_of = numbers[which].astype(np.int64), np.searchsorted(before, which, "right") - 1
    counts = packed[numbers_at[which] + halves[row_of]]
    names = np.flatnonzero(told)
    place_of = np.zeros(MEASURE_MASK + 1, np.uint16)
    place_of[names] = np.arange(len(names))
    places = rows[row_of]
    for ground in grounds:
        places = places * (_GROUND_MAX + 1) + (numbers >> ground & _GROUND_MAX)
    places = places * len(names) + place_of[numbers & MEASURE_MASK]
    table = np.bincount(places, counts)
    filled = np.flatnonzero(table)
    if not len(filled):
        return []
    whose = filled // len(names)
    begins = np.flatnonzero(np.diff(whose, prepend=-1))
    of, sums = names[filled % len(names)].tolist(), table[filled].astype(np.int64).tolist()
    rest = whose[begins]
    columns: list[list[int]] = []
    for _ in grounds:
        columns.insert(0, (rest & _GROUND_MAX).tolist())
        rest = rest // (_GROUND_MAX + 1)
    found = list(keys)
    tells = zip([found[row] for row in rest.tolist()], *columns, strict=True)
    sizes = np.diff(begins, append=len(sums)).tolist()
    pairs = zip(of, sums, strict=True)
    return [(at, dict(islice(pairs, size))) for at, size in zip(tells, sizes, strict=True)]
