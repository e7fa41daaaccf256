"""Words by which a text is found again: pairs of characters for Chinese, whole words and numbers for the rest. Pure.

A search looks for pieces that are equal, so that a text and a question are cut in the same way. Chinese is not cut into
words by a dictionary: 减免 would then be found in one text and not in the next. Whatever the input, the pieces are
letters and digits alone, so that none of them can be syntax to a database.
"""

import re
import unicodedata
from collections.abc import Iterator
from operator import add
from typing import Final

PIECE_CHARACTERS_MAX: Final = 64
"""Of a longer word (an address of the net, noise) only the beginning counts."""
PARTS_MAX: Final = 6
"""A number written in more groups is found by its groups and as a whole, not from each group on."""

_WORDS: Final = re.compile(r"[0-9a-z]+(?:[-_.@/:+][0-9a-z]+)*|[^\W\x00-\x7f]+")
"""ASCII words, with what joins their parts (0571-88000000, a.b@c.cn); and runs of all other letters and digits."""
_WIDER_BY: Final = 0xFF01 - ord("!")
_WIDE: Final = re.compile("[\uff01-\uff5e]")
"""The signs of ASCII in the width of Chinese characters."""
_ASCII_LAST: Final = "\x7f"
_JOINTS: Final = re.compile(r"[-_.@/:+]")


def pieces_of(*texts: str) -> tuple[str, ...]:
    """What texts are found by, each piece once."""
    pieces: list[str] = []
    # In one go, a line for each text: nothing goes across lines. What is said twice is cut once.
    for word in dict.fromkeys(_words("\n".join(texts))):
        # Nearly all pieces are these pairs.
        pieces += map(add, word, word[1:]) if len(word) > 1 and word[0] > _ASCII_LAST else _pieces(word)
    return tuple(dict.fromkeys(pieces))


def pieces_asked(question: str) -> tuple[str, ...]:
    """What a text must have to answer a question, each piece once; empty when there is nothing to look for.

    A single Chinese character says too little to be looked for, and is passed over.
    """
    return tuple(dict.fromkeys(piece for word in _words(question) for piece in _asked(word)))


def number_pieces(number: str) -> tuple[str, ...]:
    """What a number of several groups (330106-2026-0000001) is found by: from each group on, not by each of them."""
    parts = _JOINTS.split(_plain(number))
    return tuple("".join(parts[at:])[:PIECE_CHARACTERS_MAX] for at in range(len(parts)))


def _plain(text: str) -> str:
    """A text in one width and one case."""
    # Of Chinese text mostly its marks are in another width; the full rules take ten times as long.
    text = _WIDE.sub(_narrow, text)
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return text.casefold()


def _narrow(wide: re.Match[str]) -> str:
    return chr(ord(wide[0]) - _WIDER_BY)


def _words(text: str) -> list[str]:
    return _WORDS.findall(_plain(text))


def _pieces(word: str) -> Iterator[str]:
    """The pieces of a word of ASCII, or of a single character of another script."""
    if word.isalnum():
        yield word[:PIECE_CHARACTERS_MAX]
    else:
        parts = _JOINTS.split(word)
        yield from (part[:PIECE_CHARACTERS_MAX] for part in parts)
        yield from number_pieces(word) if len(parts) <= PARTS_MAX else ("".join(parts)[:PIECE_CHARACTERS_MAX],)


def _asked(word: str) -> Iterator[str]:
    if not word[0].isascii():
        yield from map(add, word, word[1:])
    else:
        yield _JOINTS.sub("", word)[:PIECE_CHARACTERS_MAX]
