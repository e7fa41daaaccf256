"""Key terms of a text: what may leave a bureau to tell what requests are about, without telling who made them.

The text is masked first. Then only words that the dictionary knows are taken, so that what masking has overlooked (the
name of a person or a firm that is no word) does not become a term; of these only nouns, verbs and the like of two
characters or more, no names, no digits. Two neighbours make a term too, 发票 额度. The terms are sorted, so that the
text's own order stays at home.
"""

import re
from collections.abc import Iterable
from typing import Final

from kuaixiang.text.lexicon import FIELD_WORDS, ORDINARY, STOP_WORDS, TELLING_CLASSES, words
from kuaixiang.text.masking import PLACEHOLDER, mask

TERMS_MAX: Final = 160
"""Of one text: what a page of 1,000 characters has. Of a longer one the terms of its beginning are told."""
TERM_CHARACTERS_MAX: Final = 24
"""Two words of twelve characters each, longer than any that is kept."""

_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]{2,12}")
_CLAUSES: Final = re.compile(r"[^\u4e00-\u9fffA-Za-z]+")
_FIELD: Final = frozenset(FIELD_WORDS) - STOP_WORDS
_ORDINARY: Final = ORDINARY - STOP_WORDS
PAIR: Final = " "
"""Between the two words of a term."""


def key_terms(text: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """The key terms of a text, sorted: words, and pairs of neighbours; `known` are names that are private."""
    found: set[str] = set()
    for clause in _CLAUSES.split(PLACEHOLDER.sub("。", mask(text, known))):
        last = ""
        for word, kind in words().tag(clause, False):  # noqa: FBT003 - rjieba's own signature; no words of its own making
            if not _tells(word, kind):
                continue
            found.add(word)
            if last and last != word:
                found.add(last + PAIR + word)
            last = word
        if len(found) >= TERMS_MAX:
            break
    return tuple(sorted(found)[:TERMS_MAX])


def _tells(word: str, kind: str) -> bool:
    """Whether a word may be a term: it is of the field, or known, no name, and not empty of sense."""
    if word in STOP_WORDS or not _CHINESE.fullmatch(word):
        return False
    return word in _FIELD or word in _ORDINARY or (kind in TELLING_CLASSES and words().has_word(word))
