"""Common issues as a bulletin tells them (通报): found in the period, by the confirmed title where there is one."""

from typing import Final

from hub.bulletin.material import IssueLine
from hub.issues import catalogue
from hub.issues.find import Findings, Found, Period, find_issues
from hub.ledgers import Ledgers
from hub.store import Store
from kuaixiang.domain.labels import term_of
from kuaixiang.domain.periods import Period as BulletinPeriod
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category

CASES_MIN: Final = 3
ISSUES_MAX: Final = 10
TERMS_IN_A_LABEL: Final = 4
SAMPLED: Final = "（抽样推算）"
"""Behind the label of an issue whose size is that of a sample, times what one case of it stands for."""


async def issue_lines(
    *, store: Store, tree: BureauTree, ledgers: Ledgers, scope: str, period: BulletinPeriod
) -> list[IssueLine]:
    """The largest issues of a period, with masked examples, read from the ledgers of the scope now."""
    wanted = Period(
        scope=scope,
        from_day=period.first,
        to_day=period.last,
        before=(period.previous.first, period.previous.last),
        cases_min=CASES_MIN,
        limit=ISSUES_MAX,
        examples=True,
    )
    findings = await find_issues(store=store, tree=tree, ledgers=ledgers, wanted=wanted)
    titles = {issue.issue_id: issue.title for issue in catalogue.all_issues(store)}
    return [_line(tree, findings, found, titles.get(found.known_as, "")) for found in findings.issues]


def _line(tree: BureauTree, findings: Findings, found: Found, title: str) -> IssueLine:
    label = title or "、".join(found.terms[:TERMS_IN_A_LABEL])
    return IssueLine(
        label=label if findings.one_of == 1 else label + SAMPLED,
        size=found.cases * findings.one_of,
        previous_size=found.cases_before * findings.one_of,
        bureaus=tuple(tree.get(bureau).name for bureau in found.bureaus),
        categories=tuple(term_of(Category, category) for category, _ in found.by_category),
        examples=tuple(text for _, text in found.examples),
        is_confirmed=bool(title),
    )
