"""Figures by hand for bulletins: what a province of a few prefectures might have counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.bulletin.contents import compose
from hub.bulletin.document import Bulletin, Heading, Paragraph, Table
from hub.bulletin.material import IssueLine, IssueSearch, Material, PeriodFigures
from hub.comparison import Compared, change
from hub.editions import Edition
from hub.measures import DEFINITIONS, Fact, met, missed
from hub.query import Completeness, Row
from hub.words import Basis
from kuaixiang.domain.periods import parse_period
from kuaixiang.domain.tree import Bureau, Tier
from kuaixiang.domain.words import ClockKind
from kuaixiang.runtime.clock import to_micros

ZHEJIANG = Bureau("330000", "国家税务总局浙江省税务局", Tier.PROVINCIAL, "000000")
NOVEMBER = datetime(2026, 11, 3, 1, 30, tzinfo=UTC)
"""09:30 in Shanghai, after the period that the bulletins here are of."""
OCTOBER = parse_period("2026-10")
NAMES = {
    "330000": "国家税务总局浙江省税务局（本级）",
    "330100": "国家税务总局杭州市税务局",
    "330200": "国家税务总局宁波市税务局",
    "330300": "国家税务总局温州市税务局",
    "330400": "国家税务总局嘉兴市税务局",
}


def row(key: str = "", on_time: int = 0, late: int = 0, label: str = "", **facts: int) -> Row:
    """A row: deadlines for handling met and missed, and facts by their names; `unfinished` and `overdue` cases."""
    made = Row(key, label or NAMES.get(key, key), overdue=facts.pop("overdue", 0))
    made.unfinished = facts.pop("unfinished", 0)
    made.sums = {met(ClockKind.HANDLE): on_time, missed(ClockKind.HANDLE): late}
    for kind in (ClockKind.FEEDBACK, ClockKind.ORDER):
        for outcome, measure in (("met", met), ("missed", missed)):
            made.sums[measure(kind)] = facts.pop(f"{kind.name.lower()}_{outcome}", 0)
    for name, number in facts.items():
        made.sums[Fact[name.upper()]] = number
    return made


@dataclass(frozen=True)
class Counted:
    """The rows of one period, and their total."""

    bureaus: Sequence[Row] = ()
    categories: Sequence[Row] = ()

    @property
    def total(self) -> Row:
        """All bureaus together."""
        sums: dict[int, int] = {}
        made = Row(sums=sums, unfinished=0)
        for one in self.bureaus:
            made.overdue += one.overdue
            made.unfinished = (made.unfinished or 0) + (one.unfinished or 0)
            for measure, value in one.sums.items():
                sums[measure] = sums.get(measure, 0) + value
        return made


def counted(*rows: Row, categories: Sequence[Row] = ()) -> Counted:
    """What was counted in a period."""
    return Counted(rows, categories)


def figures(current: Counted, previous: Counted, year_before: Counted) -> PeriodFigures:
    """A period's figures beside those that it is compared with."""
    earlier = {Basis.LAST_PERIOD: previous, Basis.YEAR_BEFORE: year_before}

    def compared(now: Row, rows_of: Callable[[Counted], Sequence[Row]]) -> Compared:
        changes = []
        for basis, of in earlier.items():
            before = next((one for one in rows_of(of) if one.key == now.key), Row(now.key, now.label))
            changes.append(change(basis, (OCTOBER.first, OCTOBER.last), now, before))
        return Compared(now, tuple(changes))

    return PeriodFigures(
        compared(current.total, lambda of: (of.total,)),
        [compared(one, lambda of: of.bureaus) for one in current.bureaus],
        [compared(one, lambda of: of.categories) for one in current.categories],
    )


def material(
    *rows: Row,
    categories: Sequence[Row] = (),
    previous: Counted = Counted(),
    year_before: Counted = Counted(),
    **more: Any,
) -> Material:
    """Material for a bulletin of Zhejiang of October 2026, written in November."""
    plain = Material(
        bureau=ZHEJIANG,
        period=OCTOBER,
        figures=figures(counted(*rows, categories=categories), previous, year_before),
        completeness=Completeness(5, 5, 5, 0, to_micros(NOVEMBER)),
        now_us=to_micros(NOVEMBER),
        minimum_sample=30,
    )
    return replace(plain, **more)


def edition(number: int = 1, **more: Any) -> Edition:
    """An edition of October, published on 2 November."""
    plain = Edition(
        scope="330000",
        period="2026-10",
        edition=number,
        first_day=0,
        last_day=30,
        published_at_us=to_micros(NOVEMBER - timedelta(days=1)),
        published_by="office 330000",
        definitions=DEFINITIONS,
        tree_version="test",
        bureaus_expected=5,
        bureaus_heard=5,
        bureaus_up_to_date=5,
        bureaus_quarantined=0,
        data_as_of_us=to_micros(NOVEMBER),
    )
    return replace(plain, **more)


def search(*issues: IssueLine, **more: Any) -> IssueSearch:
    """A search of 3 November that has found these issues, and others that nobody has confirmed."""
    found: dict[str, Any] = {"one_of": 1, "unreadable": 0, "unconfirmed": 0}
    return IssueSearch(at_us=to_micros(NOVEMBER), issues=issues, **found | more)


def bulletin(*rows: Row, **more: Any) -> Bulletin:
    """The same, composed."""
    return compose(material(*rows, **more))


def text_of(made: Bulletin) -> str:
    """Every word of the sections, without their tables."""
    parts = []
    for section in made.sections:
        parts.append(section.title)
        parts += [block.text for block in section.blocks if isinstance(block, Heading | Paragraph)]
    return "\n".join(parts)


def texts(table: Table) -> list[list[str]]:
    """A table as a reader sees it, without its headings."""
    return [[cell.text for cell in line.cells] for line in table.lines]


def column(table: Table, heading: str) -> dict[str, str]:
    """One column by the first one."""
    at = table.headings.index(heading)
    return {line[0]: line[at] for line in texts(table)}
