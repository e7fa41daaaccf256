"""Words that masking and key terms go by (`lexicon.toml`), and the dictionary that cuts a text into words.

The dictionary's own classes (`nr` a person, `ns` a place, `nt` an institution, `nz` another proper noun) are rough: it
takes 许可证 for a person. Words of this field, and ordinary ones that it takes for names, are therefore listed.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final

import rjieba

_LISTS: Final[dict[str, str]] = tomllib.loads((files(__package__) / "lexicon.toml").read_text("utf-8"))


def _characters(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name]) - {"\n"}


def _list(name: str) -> tuple[str, ...]:
    return tuple(_LISTS[name].split())


SURNAMES: Final = _characters("surnames")
COMMON_SURNAMES: Final = _characters("common_surnames")
COMPOUND_SURNAMES: Final = _list("compound_surnames")
TITLES: Final = _list("titles")
TITLES_SURE: Final = frozenset(_list("titles_sure"))
INTRODUCTIONS_SURE: Final = _list("introductions_sure")
INTRODUCTIONS: Final = _list("introductions")
ORDINARY: Final = frozenset(_list("ordinary"))
FIELD_WORDS: Final = _list("field_words")
STOP_WORDS: Final = frozenset(_list("stop_words"))
GENERIC_BEFORE_COMPANY: Final = frozenset(_list("generic_before_company"))
COMPANY_STRONG: Final = _list("company_strong")
COMPANY_WEAK: Final = _list("company_weak")
COMPANY_BARE: Final = frozenset(_list("company_bare"))
BREAKS: Final = frozenset(_list("breaks"))
PLACE_ENDINGS: Final = frozenset(_list("place_endings"))
GENERIC_BEFORE_PLACE: Final = frozenset(_list("generic_before_place"))

SEPARATING_CLASSES: Final = frozenset(
    ("r", "rz", "rr", "p", "c", "u", "uj", "ul", "uz", "ug", "ud", "uv", "d", "y", "e", "x", "k", "o")
)
"""The dictionary's classes of words that separate names: pronouns, prepositions, conjunctions, particles, marks."""
NAMING_CLASSES: Final = frozenset(("n", "ng", "zg", "nz", "ns", "nr", "j", "eng", "a", "b", "q", "i", "l"))
"""Its classes of words that a place may be named by."""
TELLING_CLASSES: Final = frozenset(
    ("n", "ng", "nl", "v", "vn", "vd", "vi", "a", "ad", "an", "b", "i", "l", "j", "s", "z", "nrt")
)
"""Its classes of words that say something."""

_FIELD_FREQUENCY: Final = 5_000
"""As frequent as 发票: often enough to be cut as one word."""


@cache
def words() -> rjieba.Jieba:
    """The dictionary with the words of the field; reading it takes a fifth of a second, once per process."""
    dictionary = rjieba.Jieba()
    for word in FIELD_WORDS:
        dictionary.add_word(word, _FIELD_FREQUENCY, "n")
    return dictionary
