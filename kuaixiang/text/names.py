"""What is private and has no form: companies, places below a city, persons. Found by the words of the dictionary.

The dictionary cuts a text into words and says which may be names; it cuts names that it does not know badly, so that
what stands before 有限公司, 路 or 局长, and after 我叫 or 联系人, is looked at beside it.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from kuaixiang.text.forms import Mask, Span
from kuaixiang.text.lexicon import (
    BREAKS,
    COMMON_SURNAMES,
    COMPANY_BARE,
    COMPANY_STRONG,
    COMPANY_WEAK,
    COMPOUND_SURNAMES,
    GENERIC_BEFORE_COMPANY,
    GENERIC_BEFORE_PLACE,
    INTRODUCTIONS,
    INTRODUCTIONS_SURE,
    NAMING_CLASSES,
    ORDINARY,
    PLACE_ENDINGS,
    SEPARATING_CLASSES,
    SURNAMES,
    TITLES,
    TITLES_SURE,
    words,
)

COMPANY_CHARACTERS_MAX: Final = 24
"""How far before 有限公司 a name may begin; the longest names in use are shorter."""
WORDS_BEFORE_MAX: Final = 6
"""How many words a shop's or a place's name may have before what it is."""
NAME_CHARACTERS_MAX: Final = 3
"""A person's name without a compound surname."""
GIVEN_CHARACTERS_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, its class in the dictionary, and where it is."""

    text: str
    kind: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)

    @property
    def is_name(self) -> bool:
        """Whether it is, or may be, a name: a proper noun of the dictionary, or no word that it knows."""
        text = self.text
        if text in ORDINARY:
            return False
        if self.kind.startswith(("nr", "ns", "nz", "nt")):
            return True
        return len(text) > 1 and _CHINESE.fullmatch(text) is not None and not words().has_word(text)


_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]+")


def words_of(plain: str) -> list[Word]:
    """The words of a text, first to last."""
    found: list[Word] = []
    at = 0
    for text, kind in words().tag(plain, True):  # noqa: FBT003 - rjieba's own signature
        # A character that the dictionary does not know has the class of a mark.
        found.append(Word(text, "zg" if kind == "x" and _CHINESE.fullmatch(text) else kind, at))
        at += len(text)
    return found


# ---------------------------------------------------------------- companies and shops

_STRONG_COMPANY: Final = re.compile("|".join(COMPANY_STRONG))
_WEAK_COMPANY: Final = re.compile("|".join(sorted(COMPANY_WEAK, key=len, reverse=True)))
_IN_BRACKETS: Final = re.compile(r"[(（][\u4e00-\u9fff]{2,6}[)）]")


def companies(plain: str, tokens: Sequence[Word]) -> Iterator[Span]:
    """Companies and shops by their names; 我们公司 and 物业公司 name nobody."""
    for match in _STRONG_COMPANY.finditer(plain):
        start = _company_start(plain, tokens, match.start())
        if start < match.start():
            yield Span(start, match.end(), Mask.COMPANY)
    for match in _WEAK_COMPANY.finditer(plain):
        start = _shop_start(tokens, match.start(), sure=True)
        if start < match.start():
            yield Span(start, match.end(), Mask.COMPANY)
    for index, token in enumerate(tokens):
        ending = _ending(token.text, COMPANY_BARE)
        if ending and token.text not in ORDINARY:
            before = token.end - len(ending)
            if token.is_name and token.text != ending:
                yield Span(_shop_start(tokens, token.start, sure=False), token.end, Mask.COMPANY)
            elif index and (token.text == ending or not token.kind.startswith("v")):
                start = _shop_start(tokens, before, sure=False)
                if start < token.start:
                    yield Span(start, token.end, Mask.COMPANY)


def _company_start(plain: str, tokens: Sequence[Word], before: int) -> int:
    """Where the name begins that ends before 有限公司; there, when what stands before it names nobody."""
    start, named = before, False
    for token in reversed(tokens[: _first_from(tokens, before)]):
        if before - token.start > COMPANY_CHARACTERS_MAX or token.text in BREAKS:
            break
        if token.kind in SEPARATING_CLASSES and not _of_a_name(plain, token):
            break
        start, named = token.start, named or token.text not in GENERIC_BEFORE_COMPANY
    return start if named else before


def _of_a_name(plain: str, token: Word) -> bool:
    """Whether a bracket belongs to a company's name, as in 云栖（杭州）软件有限公司."""
    return token.text in "()（）" and _IN_BRACKETS.search(plain, max(0, token.start - 7), token.end + 8) is not None


def _shop_start(tokens: Sequence[Word], before: int, *, sure: bool) -> int:
    """Where the name begins of what ends before a position; there, when it has none.

    `sure`: what follows is called by a name as a rule (超市), so that any word but the general ones is one; else, as
    for 公司 and 店, only a word that may be a name is.
    """
    start, named, characters = before, False, 0
    end = _first_from(tokens, before)
    for token in reversed(tokens[max(0, end - WORDS_BEFORE_MAX) : end]):
        if token.text in BREAKS:
            break
        if token.kind in SEPARATING_CLASSES and (not sure or token.kind != "d") and not token.is_name:
            break
        if not sure and not token.is_name and token.kind.startswith(("v", "m")):
            break
        if token.text not in GENERIC_BEFORE_COMPANY:
            counts = sure and not token.kind.startswith(("m", "d"))
            # Characters that are no words together are a name that the dictionary does not know.
            characters += counts and len(token.text) == 1 and _CHINESE.fullmatch(token.text) is not None
            named = named or token.is_name or (counts and len(token.text) > 1) or characters > 1
        start = token.start
    return start if named else before


def _first_from(tokens: Sequence[Word], position: int) -> int:
    """The first word that begins at or after a position."""
    return bisect_left(tokens, position, key=lambda token: token.start)


def _ending(text: str, endings: AbstractSet[str]) -> str:
    """The longest of some endings that a word has; empty for none."""
    for start in range(max(0, len(text) - _ENDING_CHARACTERS_MAX), len(text)):
        if text[start:] in endings:
            return text[start:]
    return ""


_ENDING_CHARACTERS_MAX: Final = max(map(len, (*COMPANY_BARE, *PLACE_ENDINGS)))

# ---------------------------------------------------------------- places

_BELOW_COUNTY: Final = re.compile(
    r"(?<=[县区市旗])(?![的是有政公各全里内级])[\u4e00-\u9fff]{1,4}?(?:街道|镇|乡|村|社区)"
    r"(?:[\u4e00-\u9fff]{1,4}?(?:村|社区|居委会))?"
)
_HOUSE: Final = re.compile(
    r"(?:[0-9A-Za-z]{1,6}(?:[-—–－#][0-9A-Za-z]{1,6}){0,3}|(?<=[路街道巷弄村园苑区里镇厦场楼栋幢元])[一二三四五六七八九十百零〇]{1,5})"
    r"(?:号楼|号院|号房|号铺|号门|号|栋|幢|座|单元|室|弄|组|队|铺)(?!公告|文|令|线|公里|段|窗口|系统|凭证|车|税|发票|表|柜|机)"
)
_DAY_OF_MONTH: Final = re.compile(r"(?<![路街道巷弄村园苑区里镇厦场])(?:[12]?\d|3[01])号")
_NUMBERED: Final = re.compile(r"[月〕\])第]$")


def places(plain: str, tokens: Sequence[Word]) -> Iterator[Span]:
    """Places below a city: districts, streets, villages, estates, houses."""
    for index, token in enumerate(tokens):
        ending = _ending(token.text, PLACE_ENDINGS)
        if not ending or token.text in ORDINARY:
            continue
        if token.text != ending:
            if token.is_name and (len(token.text) > len(ending) + 1 or token.kind in {"ns", "nz"}):
                yield Span(_place_start(tokens, index), token.end, Mask.ADDRESS)
        elif index:
            before = tokens[index - 1]
            start = _place_start(tokens, index)
            if start < token.start and (len(ending) > 1 or before.is_name or before.kind in NAMING_CLASSES):
                yield Span(start, token.end, Mask.ADDRESS)
    for match in _BELOW_COUNTY.finditer(plain):
        yield Span(match.start(), match.end(), Mask.ADDRESS)
    for match in _HOUSE.finditer(plain):
        if not _NUMBERED.search(plain[: match.start()]) and not _DAY_OF_MONTH.fullmatch(
            plain, match.start(), match.end()
        ):
            yield Span(match.start(), match.end(), Mask.ADDRESS)


def _place_start(tokens: Sequence[Word], index: int) -> int:
    """Where the name of a place begins that ends with a word: at the names before it, or a noun that stands there."""
    first = start = tokens[index].start
    for token in reversed(tokens[max(0, index - WORDS_BEFORE_MAX) : index]):
        noun = token.kind in NAMING_CLASSES and token.text not in GENERIC_BEFORE_PLACE and start == first
        if not (token.is_name or noun):
            break
        start = token.start
    return start


# ---------------------------------------------------------------- persons

_PERSON_CLASSES: Final = frozenset({"nr", "nrt", "nrfg"})
_UNKNOWN_CLASSES: Final = _PERSON_CLASSES | {"nz", "ns"}
_NAME_ENDS: Final = frozenset(
    "的是在有说因为和与等您你我他她它这那已被把将向从到对也都就要会能可没不未想请问办来去开做让叫给用以及或了着过吗呢吧啊呀"
)


def _any_of(terms: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, terms), key=len, reverse=True))


_TITLE: Final = re.compile(f"{_any_of(TITLES)}|总(?![是共额量之体务结部局计经有要会说的得算归数站])")
_AFTER_INTRODUCTION: Final = r"(?:姓名|名字|的名字)?(?:是|为|叫|系)?[\s：:（(，,！!。]*"
_SURE: Final = re.compile(f"(?:{_any_of(INTRODUCTIONS_SURE)}){_AFTER_INTRODUCTION}")
_UNSURE: Final = re.compile(f"(?:{_any_of(INTRODUCTIONS)})(?:是|为|叫|系)?[\\s：:（(]*")
_COMPOUND: Final = re.compile(f"(?:{'|'.join(COMPOUND_SURNAMES)})(?=[\\u4e00-\\u9fff])")
_BEFORE_NUMBER: Final = re.compile(
    r"(?:^|[，。；、！？!?,;\s：:])(?P<name>[\u4e00-\u9fff]{2,3})[\s，,：:（(]*(?:的?(?:电话|手机|手机号|身份证|身份证号)[号码是为：:\s]*)?$"
)
_WITH_NUMBER: Final = frozenset({Mask.PHONE, Mask.IDENTITY})
_JOINING_CLASSES: Final = frozenset({"p", "c", "uj"})
_SURNAME_ALONE: Final = frozenset({"某", "某某"})


def persons(plain: str, tokens: Sequence[Word], formed: Sequence[Span]) -> Iterator[Span]:
    """Persons by their names; `formed` is what has a form, before which a name may stand alone."""
    for token in tokens:
        if _is_person(token):
            yield Span(token.start, token.end, Mask.PERSON)
    for match in _COMPOUND.finditer(plain):
        if _word_at(tokens, match.start()) is not None:
            yield Span(match.start(), _name_end(plain, match.end()), Mask.PERSON)
    for introduction, sure in ((_SURE, True), (_UNSURE, False)):
        for match in introduction.finditer(plain):
            yield from _introduced(plain, tokens, match.end(), sure=sure)
    for match in _TITLE.finditer(plain):
        yield from _titled(plain, tokens, match)
    for span in formed:
        if span.mask in _WITH_NUMBER:
            before = _BEFORE_NUMBER.search(plain[max(0, span.start - 20) : span.start])
            if before is not None and before["name"][0] in SURNAMES and before["name"] not in ORDINARY:
                start = max(0, span.start - 20) + before.start("name")
                yield Span(start, start + len(before["name"]), Mask.PERSON)


def _is_person(token: Word) -> bool:
    text = token.text
    if text in ORDINARY or not 1 < len(text) <= NAME_CHARACTERS_MAX + 1:
        return False
    known = words().has_word(text)
    if text[0] in COMMON_SURNAMES:
        # A name that it does not know the dictionary takes for a place's or a thing's as well.
        return token.kind in (_PERSON_CLASSES if known else _UNKNOWN_CLASSES)
    # A rare surname is more often the beginning of something else, which the rest then tells.
    return token.kind in _PERSON_CLASSES and text[0] in SURNAMES and not known and not words().has_word(text[1:])


def _word_at(tokens: Sequence[Word], position: int) -> Word | None:
    """The word that begins at a position; None when one goes on across it."""
    index = bisect_right(tokens, position, key=lambda token: token.start) - 1
    return tokens[index] if index >= 0 and tokens[index].start == position else None


def _name_end(plain: str, given: int) -> int:
    """Where a name ends whose given name, of one or two characters, begins at `given`."""
    end = given
    while end < min(given + GIVEN_CHARACTERS_MAX, len(plain)):
        if plain[end] in _NAME_ENDS or not _CHINESE.fullmatch(plain[end]) or _TITLE.match(plain, end):
            break
        end += 1
    return end


def _introduced(plain: str, tokens: Sequence[Word], at: int, *, sure: bool) -> Iterator[Span]:
    """The name that follows 我叫 (`sure`: nothing else does), or 请联系."""
    if at >= len(plain) or plain[at] not in SURNAMES or plain[at : at + 2] in ORDINARY:
        return
    first = _word_at(tokens, at)
    if not sure:
        if first is None:
            # The dictionary has cut across, 人马 in 代表人马小云; but 方式 in 联系方式 is a word.
            if words().has_word(plain[at : at + 2]):
                return
        elif len(first.text) > 1 and not first.is_name:
            return
    end = _name_end(plain, at + 1)
    third = _word_at(tokens, at + NAME_CHARACTERS_MAX - 1)
    if end - at == NAME_CHARACTERS_MAX and third is not None and len(third.text) > 1 and not third.is_name:
        end -= 1
    if end - at > 1:
        yield Span(at, end, Mask.PERSON)


def _titled(plain: str, tokens: Sequence[Word], title: re.Match[str]) -> Iterator[Span]:
    """The surname or the name before 局长, 女士 and the like."""
    at = title.start()
    if title.group() in TITLES_SURE:
        for start in range(max(0, at - NAME_CHARACTERS_MAX), at):
            name = plain[start:at]
            if name[0] in COMMON_SURNAMES and _CHINESE.fullmatch(name) and _NAME_ENDS.isdisjoint(name):
                yield Span(start, at, Mask.PERSON)
                return
    for length in (1,) if title.group() in _SURNAME_ALONE else (3, 2, 1):
        start = at - length
        if start < 0 or plain[start] not in SURNAMES or _CHINESE.fullmatch(plain, start, at) is None:
            continue
        first = _word_at(tokens, start)
        if length == 1:
            inside = first is None and words().has_word(plain[start - 1 : at])
            if plain[start] not in COMMON_SURNAMES or inside or (first and first.kind in _JOINING_CLASSES):
                continue
        elif first is None or not {first.text, plain[start:at]}.isdisjoint(ORDINARY) or _is_other_word(first, at):
            continue
        yield Span(start, at, Mask.PERSON)
        return


def _is_other_word(token: Word, at: int) -> bool:
    """Whether a word that ends by `at` is no name."""
    return token.end <= at and len(token.text) > 1 and not token.is_name
