"""The words of the hub's figures: how they are grouped, what they are compared with, why they are not complete.

Apart from what reads figures, so that a command that asks a hub need not load a database's library.
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from typing import Final

from kuaixiang.domain.labels import term_of


class Grouping(IntEnum):
    """What the rows of an answer are; the numbers are the wire's."""

    TOTAL = 0
    BUREAU = 1
    """The scope's own figures and those of each immediate subordinate with all of its own."""
    CATEGORY = 2
    CHANNEL = 3
    DAY = 4
    MONTH = 5
    EVERY_BUREAU = 6
    DEPARTMENT = 7
    """Kinds of departments."""
    WEEK = 8
    QUARTER = 9
    YEAR = 10
    BUREAU_AND_CATEGORY = 11
    """Each category of what BUREAU has; the rows' keys are bureau/category."""


class Basis(IntEnum):
    """With what a period is compared; the numbers are the wire's."""

    LAST_PERIOD = 1
    """环比."""
    YEAR_BEFORE = 2
    """同比."""


BASIS_LABELS: Final = {Basis.LAST_PERIOD: "环比", Basis.YEAR_BEFORE: "同比"}


class Lack(IntEnum):
    """Why a bureau's figures are not complete; the numbers are the wire's."""

    NEVER_HEARD = 1
    QUARANTINED = 2
    BEHIND = 3
    """More of its journal is known to exist than has been folded, or it has not reported far enough."""
    SILENT = 4
    """Not heard from lately."""
    RESTORED = 5
    """Its ledger goes on in a new generation without entries that had been folded."""


LACK_LABELS: Final[Mapping[Lack, str]] = {
    Lack.NEVER_HEARD: "从未报送",
    Lack.BEHIND: "报送滞后",
    Lack.SILENT: "近期未报",
    Lack.QUARANTINED: "台账数据存疑",
    Lack.RESTORED: "台账恢复有缺失",
}


@cache
def ground_text(kind: type[IntEnum], number: int) -> str:
    """What a category, channel or kind of department is called; entries that have none stand under 0."""
    return term_of(kind, number) if number else "未分类"
