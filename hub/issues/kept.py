"""What the last search for common issues of a scope and period has found of the confirmed ones, for its bulletin.

Kept are numbers and codes alone. Terms and examples are not: they are taken from the texts whenever somebody asks.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa

from hub.comparison import whole_period
from hub.issues.find import Findings, Found, Period
from hub.store import METADATA, Store
from kuaixiang.runtime.clock import to_micros

ISSUE_SEARCHES: Final = sa.Table(
    "issue_searches",
    METADATA,
    sa.Column("scope", sa.String(6), primary_key=True),
    sa.Column("from_day", sa.String(10), primary_key=True),
    sa.Column("to_day", sa.String(10), primary_key=True),
    sa.Column("found_at_us", sa.BigInteger, nullable=False),
    sa.Column("one_of", sa.Integer, nullable=False),
    sa.Column("unreadable", sa.Integer, nullable=False),
    sa.Column("unconfirmed", sa.Integer, nullable=False),
    sa.Column("sizes", sa.Text, nullable=False),
)
"""`sizes` is JSON: by the number of a confirmed issue what `Size` holds."""


@dataclass(frozen=True, slots=True)
class Size:
    """One confirmed issue's cases in a period and in the one before, and their spread."""

    issue_id: str
    cases: int
    cases_before: int
    by_subordinate: tuple[tuple[str, int], ...]
    by_category: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What a search has found."""

    found_at_us: int
    one_of: int
    unreadable: int
    unconfirmed: int
    sizes: tuple[Size, ...]


def keep(store: Store, wanted: Period, findings: Findings, at: datetime) -> None:
    """Keep what a search has found in place of the one before, durably; of whole days, weeks and so on alone.

    For the store's writing thread.
    """
    if whole_period(wanted.from_day, wanted.to_day) is None:
        return
    by_issue: dict[str, list[Found]] = {}
    for found in findings.issues:
        by_issue.setdefault(found.known_as, []).append(found)
    unconfirmed = by_issue.pop("", [])
    key = {
        "scope": wanted.scope,
        "from_day": wanted.from_day.isoformat(),
        "to_day": wanted.to_day.isoformat(),
    }
    table = ISSUE_SEARCHES
    with store.writing() as connection:
        connection.execute(sa.delete(table).where(*(table.c[name] == value for name, value in key.items())))
        connection.execute(
            sa.insert(table),
            {
                **key,
                "found_at_us": to_micros(at),
                "one_of": findings.one_of,
                "unreadable": len(findings.unreadable),
                "unconfirmed": len(unconfirmed),
                "sizes": json.dumps({issue_id: _size(those) for issue_id, those in by_issue.items()}),
            },
        )


def kept(connection: sa.Connection, scope: str, from_day: date, to_day: date) -> Search | None:
    """What the last search of these very days has found; None: there was none."""
    table = ISSUE_SEARCHES
    row = connection.execute(
        sa.select(table).where(
            table.c.scope == scope, table.c.from_day == from_day.isoformat(), table.c.to_day == to_day.isoformat()
        )
    ).one_or_none()
    if row is None:
        return None
    sizes = tuple(
        Size(
            issue_id,
            size["cases"],
            size["cases_before"],
            tuple((bureau, cases) for bureau, cases in size["by_subordinate"]),
            tuple((category, cases) for category, cases in size["by_category"]),
        )
        for issue_id, size in json.loads(row.sizes).items()
    )
    return Search(row.found_at_us, row.one_of, row.unreadable, row.unconfirmed, sizes)


def _size(those: Iterable[Found]) -> dict[str, Any]:
    """Several findings can be of one confirmed issue: they are told as one."""
    cases = before = 0
    by_subordinate: Counter[str] = Counter()
    by_category: Counter[int] = Counter()
    for found in those:
        cases += found.cases
        before += found.cases_before
        by_subordinate.update(dict(found.by_subordinate))
        by_category.update(dict(found.by_category))
    return {
        "cases": cases,
        "cases_before": before,
        "by_subordinate": by_subordinate.most_common(),
        "by_category": by_category.most_common(),
    }
