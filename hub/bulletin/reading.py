"""Asking the hub's database for everything a bulletin tells. Read at one instant, so that its tables agree."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import sqlalchemy as sa

from hub import publishing, query
from hub.bulletin.document import OWN
from hub.bulletin.figures import label
from hub.bulletin.league import League, bases_told, league
from hub.bulletin.material import (
    CorrectionLine,
    IssueLine,
    IssueSearch,
    Material,
    MismatchLine,
    PeriodFigures,
    ReconciliationLine,
    Shortfall,
)
from hub.comparison import Compared, compare
from hub.fold import Mark
from hub.issues import catalogue, kept
from hub.measures import measure_name
from hub.publishing import end_of_day
from hub.query import Completeness, Question
from hub.reconcile import read_outcomes
from hub.store import latest_edition
from hub.words import Grouping, ground_text
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.periods import Period
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.domain.words import Category
from kuaixiang.runtime.clock import from_micros


class PeriodNotBegun(Refused):
    """A bulletin is asked for of a period that lies in the future."""

    condition = Condition.INVALID
    field = "period"
    remedy = "Ask for a period that has begun; one that has ended is complete."
    remedy_chinese = "请选择已经开始的统计期间；已结束的期间数据才完整。"

    def __init__(self, period: str, first: date) -> None:
        super().__init__(
            f"The period {period} begins on {first}: there is nothing to tell of it yet.",
            f"统计期间 {period} 自 {first} 开始，尚无可通报的数据。",
        )


def read_material(
    connection: sa.Connection,
    *,
    tree: BureauTree,
    scope: str,
    period: Period,
    marks: Mapping[str, Mark],
    silent: frozenset[str],
    now_us: int,
    minimum_sample: int,
) -> Material:
    """Read what a bulletin is made from. Raises `UnknownBureau`, `PeriodNotBegun`."""
    if period.first > from_micros(now_us).astimezone(SHANGHAI).date():
        raise PeriodNotBegun(str(period), period.first)

    def read(grouping: Grouping) -> list[Compared]:
        return compare(connection, tree, Question(scope, period.first, period.last, grouping), now_us)

    completeness = completeness_of(tree=tree, scope=scope, last=period.last, marks=marks, silent=silent, now_us=now_us)
    edition = latest_edition(connection, scope, str(period))
    return Material(
        bureau=tree.get(scope),
        period=period,
        figures=PeriodFigures(
            read(Grouping.TOTAL)[0],
            *map(read, (Grouping.BUREAU, Grouping.CATEGORY, Grouping.CHANNEL, Grouping.DEPARTMENT)),
        ),
        completeness=completeness,
        now_us=now_us,
        minimum_sample=minimum_sample,
        shortfalls=shortfalls(tree, scope, completeness),
        search=issue_search(connection, tree, scope, (period.first, period.last)),
        reconciliation=_reconciliation(connection, tree, scope),
        edition=edition,
        corrections=[] if edition is None else _corrections(connection, tree, scope, period),
    )


def read_league(
    connection: sa.Connection,
    *,
    tree: BureauTree,
    question: Question,
    marks: Mapping[str, Mark],
    silent: frozenset[str],
    now_us: int,
    minimum_sample: int,
) -> League:
    """Rank the immediate subordinates of a scope over any days. Raises `UnknownBureau`, `ComparisonUnbounded`."""
    scope, last = question.scope, question.to_day
    total, bureaus = (
        compare(connection, tree, replace(question, grouping=grouping), now_us)
        for grouping in (Grouping.TOTAL, Grouping.BUREAU)
    )
    assert last is not None  # noqa: S101 - `compare` refuses a question without days
    completeness = completeness_of(tree=tree, scope=scope, last=last, marks=marks, silent=silent, now_us=now_us)
    return league(
        PeriodFigures(total[0], bureaus),
        scope,
        minimum_sample,
        shortfalls(tree, scope, completeness),
        bases_told(total[0], is_over=end_of_day(last) <= now_us),
        completeness,
    )


def completeness_of(
    *, tree: BureauTree, scope: str, last: date, marks: Mapping[str, Mark], silent: frozenset[str], now_us: int
) -> Completeness:
    """How complete the figures of days up to `last` are.

    When it is over a bureau must have reported to its end, and that it is silent afterwards takes nothing away.
    """
    bureaus, end_us = tree.subtree(scope), end_of_day(last)
    if end_us <= now_us:
        return query.completeness(bureaus, marks, frozenset(), end_us)
    return query.completeness(bureaus, marks, silent)


def shortfalls(tree: BureauTree, scope: str, completeness: Completeness) -> list[Shortfall]:
    """Name the bureaus whose figures are not complete."""
    return [
        Shortfall(bureau, place_name(tree, scope, bureau), tree.branch(scope, bureau), lack)
        for bureau, lack in completeness.missing.items()
    ]


def issue_search(
    connection: sa.Connection, tree: BureauTree, scope: str, days: tuple[date, date]
) -> IssueSearch | None:
    """What the last search for common issues of these very days has found, as it is told; None: there was none."""
    found = kept.kept(connection, scope, *days)
    if found is None:
        return None
    titles = catalogue.titles(connection)
    return IssueSearch(
        found.found_at_us,
        found.one_of,
        found.unreadable,
        found.unconfirmed,
        [
            IssueLine(
                size.issue_id,
                titles[size.issue_id],
                size.cases,
                size.cases_before,
                tuple(place_name(tree, scope, bureau) for bureau, _ in size.by_subordinate),
                tuple(ground_text(Category, category) for category, _ in size.by_category),
            )
            for size in found.sizes
        ],
    )


def _reconciliation(connection: sa.Connection, tree: BureauTree, scope: str) -> ReconciliationLine | None:
    outcomes = read_outcomes(connection, tree.subtree(scope))
    if not outcomes:
        return None
    unreachable = sum(outcome.unreachable for outcome in outcomes)
    return ReconciliationLine(
        max(outcome.at_us for outcome in outcomes),
        len(outcomes) - unreachable,
        unreachable,
        [
            MismatchLine(place_name(tree, scope, outcome.bureau), outcome.differences)
            for outcome in outcomes
            if outcome.differences
        ],
    )


def _corrections(connection: sa.Connection, tree: BureauTree, scope: str, period: Period) -> list[CorrectionLine]:
    return [
        CorrectionLine(
            place_name(tree, scope, correction.cell[0]),
            label(measure_name(correction.cell[-1])),
            correction.published,
            correction.now,
        )
        for correction in publishing.corrections(connection, tree, scope, period).bureaus
    ]


def place_name(tree: BureauTree, scope: str, bureau: str) -> str:
    """A county's name alone is not unique: it is told with the names of those between it and the scope."""
    if bureau not in tree:
        return bureau
    return "".join(short_name(tree.get(code).name) for code in reversed(_below(tree, scope, bureau))) or OWN


def _below(tree: BureauTree, scope: str, bureau: str) -> tuple[str, ...]:
    """A bureau and its superiors, up to the one right under the scope."""
    line = tree.superiors_and_self(bureau)
    return tuple(line[: line.index(scope)])
