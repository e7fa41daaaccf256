"""Masking what is private in a text: numbers, names, places and companies become placeholders such as 〔电话〕.

Two readings are put together: what has a form (`forms`), and what the dictionary takes for a name (`names`). Where they
disagree, or a word could be a name, it is masked: a masked text that says less is a lesser evil than one that tells who
wrote it. The names of provinces and cities stay; the bureau that holds the case is known anyway.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kuaixiang.text.forms import CHINESE_DIGITS, Mask, Span, by_form, narrow
from kuaixiang.text.names import companies, persons, places, words_of

FORM_CHARACTERS_MAX: Final = 254
"""As long as what has a form can be, an e-mail address: what begins within a part of a text ends so many after it."""
_OF_NO_FORM: Final = re.compile(rf"(?![{CHINESE_DIGITS}])[\u4e00-\u9fff]")
"""A character at which whatever has a form has ended."""
PLACEHOLDER: Final = re.compile("|".join(re.escape(mask.value) for mask in Mask))
"""What stands in a masked text for something private."""


def mask(text: str, known: Iterable[str] = ()) -> str:
    """The text with everything private replaced by placeholders; `known` are names that are private for certain."""
    plain = narrow(text)
    parts: list[str] = []
    at = 0
    for span in private_spans(plain, known):
        parts += (plain[at : span.start], span.mask.value)
        at = span.end
    return "".join((*parts, plain[at:]))


def beginning(text: str, characters: int, known: Iterable[str] = ()) -> str:
    """The beginning of a text in one line, so many characters of it, what is private by its form masked.

    `known` are names that are private for certain. Other names stay: this is for readers who may see the whole case,
    and look at many at once. It takes no dictionary, and a small part of the time that `mask` takes.
    """
    plain = " ".join(narrow(text[: characters + FORM_CHARACTERS_MAX]).split())
    after = _OF_NO_FORM.search(plain, characters)
    formed = by_form(plain[: after.start()] if after else plain)
    parts: list[str] = []
    at = 0
    for span in _united([*formed, *_again(plain, (), known)]):
        if span.start >= characters:
            break
        parts += (plain[at : span.start], span.mask.value)
        at = span.end
    parts.append(plain[at:characters])
    return "".join(parts) + "…" * (max(at, characters) < len(plain))


def private_spans(plain: str, known: Iterable[str] = ()) -> list[Span]:
    """Where a narrow text is private, first to last."""
    tokens = words_of(plain)
    formed = list(by_form(plain))
    named = [*companies(plain, tokens), *persons(plain, tokens, formed)]
    return _united([*formed, *named, *places(plain, tokens), *_again(plain, named, known)])


def _again(plain: str, named: Sequence[Span], known: Iterable[str]) -> Iterator[Span]:
    """Where the names found, and those known, stand elsewhere in the text, where nothing gives them away."""
    names = {plain[span.start : span.end]: span.mask for span in named}
    names |= {narrow(name).strip(): Mask.PERSON for name in known}
    for name, mask_ in names.items():
        at = plain.find(name) if len(name) > 1 else -1
        while at >= 0:
            yield Span(at, at + len(name), mask_)
            at = plain.find(name, at + len(name))


def _united(spans: list[Span]) -> list[Span]:
    """Overlapping spans as one, of the kind that reaches furthest; neighbours of one kind as one."""
    united: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        last = united[-1] if united else None
        if last is None or span.start > last.end or (span.start == last.end and span.mask is not last.mask):
            united.append(span)
        elif span.end > last.end:
            longer = last.mask if last.end - last.start >= span.end - span.start else span.mask
            united[-1] = Span(last.start, span.end, longer)
    return united
