"""Finding texts that say the same again: an index that names candidates, and a comparison that decides.

A text is brought to its words alone: width, marks, courtesies and digits' forms do not matter. Its pairs of characters
are hashed; the smallest few hashes are its sketch. Texts that share much share much of their sketches, whatever the
length of either (bottom-k sketches estimate the share of common pairs without bias), so that those that share some are
the candidates. Each candidate's whole text is then compared. The index holds numbers only, never a text.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

SKETCH_SIZE: Final = 24
"""Hashes of a sketch: with half of the pairs in common, twelve are expected in common and fewer than three one time in
100,000."""
COMMON_MIN: Final = 3
"""Hashes that a candidate shares; a short text may have no more than that."""
SIMILAR_MIN: Final = 0.65
"""From here on two texts are told to be near-identical; measured by `bench/texts.py`."""
CONTAINED_MIN: Final = 0.9
"""So much of the shorter text, in its order, must be in the longer one for the first to be a part of the second."""
CONTAINED_CHARACTERS_MIN: Final = 24
"""Below this length a text may be found in another by chance."""
CONTAINED_LENGTHS_MAX: Final = 4.0
"""And so many times as long may the longer one be: any long text has most of a short one's characters, in any order."""
PART_TEXTS: Final = 1_024
"""Texts of one part of an index: parts are dropped whole when they are too old."""

_COURTESIES: Final = re.compile(
    "尊敬的|亲爱的|各位|领导们?|(?:您|你|大家|早上|上午|下午|晚上)好|请问一?下?|麻烦(?:您|你)?|非常感谢|万分感谢|谢谢(?:您|你|了)?|感谢(?:您|你)?|辛苦了|"
    "望(?:尽快|及时)?(?:回复|答复|解决|处理)|盼(?:复|回复|答复)|为盼|此致敬礼|此致|敬礼|拜托了?|打扰了|税务局的?(?:同志|老师)"
)
_MARKS: Final = re.compile(r"[\W_]+")


def normal(text: str) -> str:
    """A text's words alone: one width, lower case, no marks, no courtesies."""
    plain = unicodedata.normalize("NFKC", text).lower()
    words = _MARKS.sub("", plain)
    return _COURTESIES.sub("", words) or words


def sketch(normalised: str) -> tuple[int, ...]:
    """The smallest hashes of a normalised text's pairs of characters, ascending; of one character, that one's."""
    codes = np.frombuffer(normalised.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if not len(codes):
        return ()
    pairs = (codes[:-1] << np.uint64(21)) | codes[1:] if len(codes) > 1 else codes
    mixed = pairs * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return tuple(np.unique((mixed >> np.uint64(32)).astype(np.uint32))[:SKETCH_SIZE].tolist())


def similarity(one: str, other: str) -> float:
    """How far two normalised texts say the same, 0 to 1; 0.9 and more for a part of the other one.

    The share of characters in common in the same order, or of pairs of characters in any order, of both texts together;
    or of the shorter one, when the other goes on where it ends.
    """
    whole = max(fuzz.ratio(one, other) / 100, _pairs_in_common(one, other))
    short, long = sorted((len(one), len(other)))
    if whole >= SIMILAR_MIN or short < CONTAINED_CHARACTERS_MIN or long > short * CONTAINED_LENGTHS_MAX:
        return whole
    contained = LCSseq.similarity(one, other) / short
    return contained if contained >= CONTAINED_MIN else whole


def _pairs_in_common(one: str, other: str) -> float:
    """Twice the pairs of characters in common, of those of both (Dice)."""
    first, second = (set(itertools.pairwise(text)) for text in (one, other))
    return 2 * len(first & second) / (len(first) + len(second)) if first and second else 0.0


class SketchIndex:
    """Sketches of texts by numbers that ascend, in parts that can be dropped from the oldest on.

    `common_min`: how many hashes a candidate shares at least. A sketch may be anything of which some values are to be
    found again; one of a text takes about 150 bytes.
    """

    def __init__(self, common_min: int = COMMON_MIN) -> None:
        self._common_min = common_min
        self._sealed: list[_Sealed] = []
        self._open: list[tuple[int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        return sum(len(part.numbers) for part in self._sealed) + len(self._open)

    def add(self, number: int, hashes: tuple[int, ...]) -> None:
        """Add a text; its number is greater than those before."""
        self._open.append((number, hashes))
        if len(self._open) >= PART_TEXTS:
            self._sealed.append(_Sealed(self._open))
            self._open = []

    def drop_before(self, number: int) -> None:
        """Drop the parts of which every text's number is smaller."""
        while self._sealed and self._sealed[0].numbers[-1] < number:
            self._sealed.pop(0)

    def shrink(self, texts_max: int) -> None:
        """Drop the oldest parts until no more texts are left than that."""
        while self._sealed and len(self) > texts_max:
            self._sealed.pop(0)

    def candidates(self, hashes: tuple[int, ...], limit: int, from_number: int = 0) -> list[int]:
        """The numbers, from one on, of the texts that share most with a sketch; the newer first among equals."""
        least = min(self._common_min, len(hashes))
        if not least:
            return []
        found = [pair for part in self._sealed for pair in part.sharing(hashes, least) if pair[1] >= from_number]
        wanted = frozenset(hashes)
        for number, own in self._open:
            common = len(wanted.intersection(own))
            if common >= least and number >= from_number:
                found.append((common, number))
        found.sort(reverse=True)
        return [number for _, number in found[:limit]]


class _Sealed:
    """A full part: its texts' hashes in one ascending array, and beside each whose it is."""

    def __init__(self, texts: list[tuple[int, tuple[int, ...]]]) -> None:
        self.numbers = [number for number, _ in texts]
        hashes = np.array([value for _, own in texts for value in own], dtype=np.uint32)
        places = np.array([place for place, (_, own) in enumerate(texts) for _ in own], dtype=np.uint16)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._places = places[order]

    def sharing(self, hashes: tuple[int, ...], least: int) -> Iterator[tuple[int, int]]:
        """(hashes in common, number) of the texts that share some."""
        wanted = np.array(hashes, dtype=np.uint32)
        first = np.searchsorted(self._hashes, wanted, "left")
        last = np.searchsorted(self._hashes, wanted, "right")
        shared = np.concatenate([self._places[start:end] for start, end in zip(first, last, strict=True)])
        counts = np.bincount(shared)
        return ((int(counts[place]), self.numbers[place]) for place in np.flatnonzero(counts >= least))
