"""Figures by hand for bulletins: what a province of a few prefectures might have counted."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hub.bulletin.contents import compose
from hub.bulletin.document import Bulletin, Heading, Paragraph, Table
from hub.bulletin.material import Material, PeriodFigures
from hub.measures import Fact, met, missed
from hub.query import Completeness, Row
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
    """A row: deadlines for handling met and missed, facts by their names; `unfinished`, `open` and `overdue` cases."""
    made = Row(key, label or NAMES.get(key, key), open=facts.pop("open", 0), overdue=facts.pop("overdue", 0))
    made.unfinished = facts.pop("unfinished", 0)
    made.sums = {met(ClockKind.HANDLE): on_time, missed(ClockKind.HANDLE): late}
    for kind in ("met", "missed"):
        number = {"met": met, "missed": missed}[kind](ClockKind.FEEDBACK)
        made.sums[number] = facts.pop(f"feedback_{kind}", 0)
    for name, number in facts.items():
        made.sums[Fact[name.upper()]] = number
    return made


def figures(*rows: Row, categories: tuple[Row, ...] = (), channels: tuple[Row, ...] = ()) -> PeriodFigures:
    """The rows of the bureaus, and their total."""
    total = Row(unfinished=0)
    for one in rows:
        total.unfinished = (total.unfinished or 0) + (one.unfinished or 0)
        total.open += one.open
        total.overdue += one.overdue
        for measure, value in one.sums.items():
            total.add(measure, value)
    return PeriodFigures(total, rows, categories, channels)


def material(*rows: Row, **more: Any) -> Material:
    """Material for a bulletin of Zhejiang of October 2026, written in November."""
    plain = Material(
        bureau=ZHEJIANG,
        period=OCTOBER,
        current=figures(*rows),
        previous=figures(),
        year_before=figures(),
        completeness=Completeness(5, 5, 5, 0, to_micros(NOVEMBER)),
        now_us=to_micros(NOVEMBER),
        minimum_sample=30,
    )
    return replace(plain, **more)


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
