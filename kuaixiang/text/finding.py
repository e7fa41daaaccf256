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
_JOINTS: Final = re.compile(r"[-_.@/:+]")


def pieces_of(*texts: str) -> tuple[str, ...]:
    """What texts are found by, each piece once."""
    return tuple(dict.fromkeys(piece for text in texts for word in _words(text) for piece in _pieces(word)))


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
    return unicodedata.normalize("NFKC", text).casefold()


def _words(text: str) -> list[str]:
    return _WORDS.findall(_plain(text))


def _pieces(word: str) -> Iterator[str]:
    if not word[0].isascii():
        if len(word) == 1:
            yield word
        yield from map(add, word, word[1:])
    elif word.isalnum():
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
