"""What a bulletin is, whatever it is written down as: sections of headings, paragraphs and tables, numbers as numbers.

A number is kept as an integer in the unit in which it is told, so that the page, the document and the workbook show the
same digits, and bureaus that look equal are equal.
"""

from dataclasses import dataclass
from datetime import date
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Final

OWN: Final = "本级"
"""What the bureau that a bulletin is of is called among those under it."""
NOTHING: Final = "—"
"""What stands where there is no figure."""
DEFINITIONS_TITLE: Final = "统计口径与数据完整性说明"

BASIS_POINTS: Final = 10_000
"""Of one: a rate is told in hundredths of a percent."""
PER_MILLE: Final = 1_000
"""Of one: a growth is told in tenths of a percent."""
_TEN_THOUSAND: Final = 10_000


class Format(IntEnum):
    """What a bulletin is written as; the numbers are the wire's."""

    HTML = 1
    DOCX = 2
    XLSX = 3


class Kind(Enum):
    """What a cell's value is, and in which unit."""

    WORDS = "words"
    TERM = "term"
    """One short word."""
    COUNT = "count"
    RATE = "rate"
    """Basis points."""
    GROWTH = "growth"
    """Per mille of the earlier count."""
    POINTS = "points"
    """Hundredths of a percentage point by which a rate has changed."""
    RANK = "rank"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    kind: Kind
    value: int | str | None
    """None: there is no such figure."""

    @property
    def text(self) -> str:
        """The value as a reader sees it."""
        if self.value is None:
            return NOTHING
        if isinstance(self.value, str):
            return self.value
        match self.kind:
            case Kind.RATE:
                return rate_text(self.value)
            case Kind.GROWTH:
                return f"{self.value / 10:+.1f}%" if self.value else "0.0%"
            case Kind.POINTS:
                return f"{self.value / 100:+.2f}" if self.value else "0.00"
            case Kind.COUNT:
                return f"{self.value:,}"
            case Kind.WORDS | Kind.TERM | Kind.RANK:
                return str(self.value)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table."""

    cells: tuple[Cell, ...]
    is_total: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with one line of headings."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[Line, ...]
    widths: tuple[int, ...]
    """Of the columns, in relation to each other."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the second level, such as （一）办理情况."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of running text."""

    text: str


Block = Heading | Paragraph | Table


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the first level, such as 一、总体情况."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """What a word or a rate of the bulletin means."""

    word: str
    meaning: str
    english: str = ""
    """The same; empty for what concerns this bulletin alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem that the figures show, and whom it concerns."""

    title: str
    sentences: tuple[str, ...]
    bureaus: tuple[tuple[str, str], ...]
    """Each bureau concerned, with its figures in words; all of them, where the sentences name only some."""


@dataclass(frozen=True, slots=True)
class Bulletin:
    """The whole bulletin of a period."""

    scope: str
    period: str
    """As it is parsed, such as 2026-10."""
    issuer: str
    title: tuple[str, ...]
    """Its lines, broken where the sense allows."""
    addressees: str
    """Empty where there is nobody below."""
    opening: str
    sections: tuple[Section, ...]
    definitions: tuple[Definition, ...]
    overall: Table
    bureaus: Table
    categories: Table
    channels: Table
    departments: Table
    issues: Table
    findings: tuple[Finding, ...]
    signed_on: date
    data_as_of: str
    strip: tuple[tuple[str, str], ...]
    """How complete the figures are: what, and how many."""

    @property
    def signed_on_text(self) -> str:
        """The date under the signature."""
        return chinese_day(self.signed_on)

    @property
    def annexes(self) -> tuple[Table, ...]:
        """The tables behind the text, in order."""
        return (self.bureaus, self.categories, self.channels, self.departments)

    @property
    def attachments(self) -> tuple[str, ...]:
        """Titles of what is attached, in order: the annexes, then the definitions."""
        return (*(annex.title for annex in self.annexes), DEFINITIONS_TITLE)


# ---------------------------------------------------------------- cells


def words(text: str) -> Cell:
    """A cell of text."""
    return Cell(Kind.WORDS, text)


def term(word: str) -> Cell:
    """A cell with one short word."""
    return Cell(Kind.TERM, word)


def count(number: int | None) -> Cell:
    """A cell with a number of things."""
    return Cell(Kind.COUNT, number)


def rate(basis_points: int | None) -> Cell:
    """A cell with a rate."""
    return Cell(Kind.RATE, basis_points)


def growth(now: int | None, before: int | None) -> Cell:
    """A cell with the growth of a count; nothing where there was none to grow."""
    return Cell(Kind.GROWTH, None if now is None else growth_per_mille(now, before))


def points(now: int | None, before: int | None) -> Cell:
    """A cell with the change of a rate."""
    return Cell(Kind.POINTS, None if now is None or before is None else now - before)


# ---------------------------------------------------------------- numbers


def basis_points_of(numerator: int, denominator: int) -> int | None:
    """A rate in hundredths of a percent, half up; None without a denominator.

    Only what is complete is 100.00%, and only nothing is 0.00%: rounding must not hide the one case that was late.
    """
    if not denominator:
        return None
    rounded = _half_up(Fraction(numerator * BASIS_POINTS, denominator))
    if 0 < numerator < denominator:
        return min(max(rounded, 1), BASIS_POINTS - 1)
    return rounded


def growth_per_mille(now: int, before: int | None) -> int | None:
    """How much a count has grown, in tenths of a percent of the earlier one; None where that is nothing."""
    return _half_up(Fraction((now - before) * PER_MILLE, before)) if before else None


def rate_text(basis_points: int) -> str:
    """A rate as text, such as 98.73%."""
    return f"{basis_points / 100:.2f}%"


def chinese_day(day: date) -> str:
    """A day within a sentence, such as 2026年10月8日."""
    return f"{day.year}年{day.month}月{day.day}日"


def many(number: int) -> str:
    """A count within a sentence: exact below ten thousand, then in 万 with two decimals."""
    if number < _TEN_THOUSAND:
        return str(number)
    return f"{_half_up(Fraction(number * 100, _TEN_THOUSAND)) / 100:.2f}万"


def _half_up(number: Fraction) -> int:
    """The nearest integer, halves away from zero."""
    whole = (abs(number) + Fraction(1, 2)).__floor__()
    return whole if number >= 0 else -whole
