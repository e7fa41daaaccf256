"""The counts of one bureau and one day (month, year) as one value in the database.

A cell is a category, a channel, a kind of department and a measure, packed into a number of 28 bits; only cells that
are not zero are kept: first all their numbers, then all their counts, each an unsigned 32-bit little-endian integer. A
busy county's day has a few hundred, a nation's year some thousands. One row for all of them takes a fifth of the room
of one row for each, and a batch of entries changes as many rows as it touches bureaus, not as it touches cells.
"""

import sys
from array import array
from collections.abc import Collection, Hashable, Mapping, MutableMapping, Sequence
from enum import IntEnum
from typing import Any, Final, TypeVar

import numpy as np

_GROUND_MAX: Final = 15
MEASURE_MASK: Final = (1 << 16) - 1
COUNT_MAX: Final = 2**32 - 1
"""One cell of a nation's year holds forty times the cases of all of it, some 10⁸."""
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


def add(into: MutableMapping[Cell, int], more: Mapping[Cell, int]) -> None:
    """Add cells to others."""
    get = into.get
    for cell, count in more.items():
        into[cell] = get(cell, 0) + count


def add_days(into: MutableMapping[int, Cells], more: Mapping[int, Mapping[Cell, int]]) -> None:
    """Add days to others."""
    for day, cells in more.items():
        known = into.get(day)
        if known is None:
            into[day] = dict(cells)
        else:
            add(known, cells)


def frozen(cells: Mapping[Cell, int]) -> bytes:
    """As they are kept. Raises `OverflowError` for a count that is negative or above `COUNT_MAX`."""
    packed = array("I", cells.keys())
    packed.extend(cells.values())
    return _little(packed).tobytes()


def thawed(kept: bytes) -> Cells:
    """As they were."""
    packed = array("I")
    packed.frombytes(kept)
    packed = _little(packed)
    half = len(packed) // 2
    return dict(zip(packed[:half], packed[half:], strict=True))


def _little(packed: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


def summed(
    kept: Sequence[tuple[_K, bytes]],
    grounds: Sequence[Ground],
    wanted: Mapping[Ground, int],
    measures: Collection[int] = (),
) -> list[tuple[tuple[Any, ...], dict[int, int]]]:
    """Sums of kept cells, each under a key: (key and number of each ground, sums by measure), in that order.

    Only cells of the wanted grounds and measures (none: all) are summed. Whole arrays are, since a question about a
    nation's month reads a few hundred thousand cells.
    """
    if not kept:
        return []
    keys: dict[_K, int] = {}
    rows = np.fromiter((keys.setdefault(key, len(keys)) for key, _ in kept), np.int64, len(kept))
    halves = [np.frombuffer(cells, "<u4").reshape(2, -1) for _, cells in kept]
    numbers = np.concatenate([half[0] for half in halves]).astype(np.int64)
    counts = np.concatenate([half[1] for half in halves]).astype(np.int64)
    row_of = np.repeat(rows, [half.shape[1] for half in halves])
    right = np.ones(len(numbers), bool)
    for ground, number in wanted.items():
        right &= numbers >> ground & _GROUND_MAX == number
    if measures:
        asked = np.zeros(MEASURE_MASK + 1, bool)
        asked[list(measures)] = True
        right &= asked[numbers & MEASURE_MASK]
    if not right.all():
        numbers, counts, row_of = numbers[right], counts[right], row_of[right]
    if not len(numbers):
        return []
    mask = MEASURE_MASK | sum(_GROUND_MAX << ground for ground in grounds)
    places = row_of << 32 | numbers & mask
    order = np.argsort(places, kind="stable")
    places = places[order]
    first = np.flatnonzero(np.diff(places, prepend=-1))
    sums = np.add.reduceat(counts[order], first).tolist()
    places = places[first]
    whose = places & ~MEASURE_MASK
    begins = np.flatnonzero(np.diff(whose, prepend=-1))
    ends = [*begins[1:].tolist(), len(sums)]
    names, told = list(keys), (places & MEASURE_MASK).tolist()
    columns = [(whose[begins] >> ground & _GROUND_MAX).tolist() for ground in grounds]
    return [
        ((names[row], *at), dict(zip(told[begin:end], sums[begin:end], strict=True)))
        for begin, end, row, *at in zip(begins.tolist(), ends, (whose[begins] >> 32).tolist(), *columns, strict=True)
    ]
