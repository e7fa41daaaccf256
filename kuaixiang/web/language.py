"""The two languages of the pages. Chinese is what officers get first; English is complete."""

from collections.abc import Mapping
from datetime import date, datetime
from enum import IntEnum, StrEnum
from typing import Final, TypeVar

from markupsafe import escape

from kuaixiang.domain.calendar import SHANGHAI, last_day
from kuaixiang.domain.labels import Both, field_term, name, term

_Kind = TypeVar("_Kind", bound=IntEnum)
_WEEKDAYS: Final = "一二三四五六日"


class Name(str):
    """A name that is Chinese on the pages of every language; where it stands as text, it says so."""

    __slots__ = ()

    def __html__(self) -> str:
        """The name in an element that tells its language. Attributes and titles take `name | plain`."""
        return f'<span lang="{Language.CHINESE}">{escape(str(self))}</span>'


class Language(StrEnum):
    """A language of the pages, as `lang` attributes name it."""

    CHINESE = "zh-CN"
    ENGLISH = "en"


def language_of(wanted: str | None) -> Language:
    """The language that a cookie names; Chinese for anything else."""
    return Language.ENGLISH if wanted == Language.ENGLISH else Language.CHINESE


def say(both: Both, language: Language) -> str:
    """A sentence in the language."""
    return both.chinese if language is Language.CHINESE else both.english


class Unknown(int):
    """A number that stands for a word of the field which this program does not know: a newer node has said it."""

    __slots__ = ()


def known(kind: type[_Kind], number: int) -> _Kind | Unknown:
    """The word of a number that another node has said."""
    try:
        return kind(number)
    except ValueError:
        return Unknown(number)


def word(value: IntEnum | Unknown, language: Language) -> str:
    """A word of the field in the language."""
    if isinstance(value, Unknown):
        return "未知" if language is Language.CHINESE else "unknown"
    return term(value) if language is Language.CHINESE else name(value).replace("-", " ")


def field_name(field: str, language: Language) -> str:
    """What a field of a request is called: `to_department` is 承办部门, or "to department"."""
    own = field.rpartition(".")[2]
    return field_term(own) if language is Language.CHINESE else own.replace("_", " ")


def shown_day(at: datetime, language: Language) -> str:
    """The day of an instant in Shanghai, with its day of the week."""
    return _with_weekday(at.astimezone(SHANGHAI).date(), language)


def shown_due(at: datetime, language: Language) -> str:
    """The day at whose end a deadline lies."""
    return _with_weekday(last_day(at), language)


def _with_weekday(day: date, language: Language) -> str:
    weekday = f"周{_WEEKDAYS[day.weekday()]}" if language is Language.CHINESE else f"{day:%a}"
    return f"{day:%Y-%m-%d} {weekday}"


def shown_instant(at: datetime) -> str:
    """An instant in Shanghai, to the minute."""
    return f"{at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"


class Words:
    """The pages' own sentences: written in English in the templates, with their Chinese beside each other here."""

    def __init__(self, *catalogues: Mapping[str, str]) -> None:
        self._chinese = {english: chinese for catalogue in catalogues for english, chinese in catalogue.items()}

    def translated(self, english: str, language: Language) -> str:
        """The sentence in the language; one that has no Chinese stays English, which a test does not let pass."""
        return self._chinese.get(english, english) if language is Language.CHINESE else english

    def __contains__(self, english: object) -> bool:
        return english in self._chinese
