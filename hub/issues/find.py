"""Finding what many ask in a period: terms gathered, clustered, compared with the period before; spread, examples."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from hub import query
from hub.comparison import days_compared
from hub.issues import catalogue
from hub.issues.clusters import EXAMPLES_MAX, Cluster
from hub.issues.gather import CaseTerms, gather_terms, masked_texts
from hub.ledgers import Ledgers
from hub.measures import Fact
from hub.query import Question
from hub.store import Store
from hub.words import Basis
from kuaixiang.domain.tree import BureauTree

CASES_MAX: Final = 20_000
"""Cases of a period that are compared, a minute's work at the most. Of more, one of every so many is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is asked for: a scope's cases from one day to another, both included."""

    scope: str
    from_day: date
    to_day: date
    cases_min: int
    limit: int
    examples: bool

    @property
    def before(self) -> tuple[date, date]:
        """The days that every figure of these is compared with (环比)."""
        return days_compared(self.from_day, self.to_day, Basis.LAST_PERIOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One issue: its terms, sizes, spread, and what it is known as if it has been confirmed."""

    terms: tuple[str, ...]
    cases: int
    cases_before: int
    bureaus: int
    by_subordinate: tuple[tuple[str, int], ...]
    by_category: tuple[tuple[int, int], ...]
    examples: tuple[tuple[CaseTerms, str], ...]
    known_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything found, and how much it rests on."""

    issues: tuple[Found, ...]
    cases: int
    cases_in_issues: int
    cases_before: int
    one_of: int
    bureaus_read: int
    unreadable: tuple[str, ...] = field(default=())


async def find_issues(*, store: Store, tree: BureauTree, ledgers: Ledgers, wanted: Period) -> Findings:
    """The issues of a period, largest first. Bureaus that cannot be read are named, and their cases are missing."""
    one_of = await asyncio.to_thread(_one_of, store, tree, wanted)
    first, _ = wanted.before
    gathered = await gather_terms(ledgers, tree.subtree(wanted.scope), first, wanted.to_day, one_of)
    start = wanted.from_day.isoformat()
    cases = [case for case in gathered.cases if case.day >= start]
    before = [case for case in gathered.cases if case.day < start]
    clusters = await asyncio.to_thread(
        _clusters, [case.terms for case in cases], [case.terms for case in before], wanted.cases_min
    )
    told = clusters[: wanted.limit]
    confirmed = await asyncio.to_thread(catalogue.all_issues, store)
    shown = [_typical([cases[place] for place in cluster.central]) for cluster in told]
    texts = {}
    if wanted.examples:
        texts = await masked_texts(ledgers, [(case.bureau, case.case_id) for some in shown for case in some])
    return Findings(
        issues=tuple(
            _found(
                tree,
                wanted.scope,
                cluster,
                members=[cases[place] for place in cluster.members],
                examples=[(case, texts[key]) for case in some if (key := (case.bureau, case.case_id)) in texts],
                known_as=catalogue.known_as(cluster.terms, confirmed),
            )
            for cluster, some in zip(told, shown, strict=True)
        ),
        cases=len(cases),
        cases_in_issues=sum(len(cluster.members) for cluster in clusters),
        cases_before=len(before),
        one_of=one_of,
        bureaus_read=gathered.bureaus_read,
        unreadable=tuple(gathered.unreadable),
    )


def _clusters(period: Sequence[Sequence[str]], before: Sequence[Sequence[str]], cases_min: int) -> list[Cluster]:
    # Loads scikit-learn: a second and 90 MB that a hub nobody asks for issues does without.
    from hub.issues.joining import find_clusters  # noqa: PLC0415

    return find_clusters(period, before, cases_min)


def _one_of(store: Store, tree: BureauTree, wanted: Period) -> int:
    """Of how many cases one is read, by what the hub has counted of the larger one of the two periods."""
    largest = 0
    with store.reading() as connection:
        for from_day, to_day in ((wanted.from_day, wanted.to_day), wanted.before):
            registered = Question(wanted.scope, from_day, to_day, measures=(Fact.REGISTERED,))
            (row,) = query.figures(connection, tree, registered, 0)
            largest = max(largest, row.sums.get(Fact.REGISTERED, 0))
    return max(1, math.ceil(largest / CASES_MAX))


def _typical(members: Sequence[CaseTerms]) -> list[CaseTerms]:
    """A few typical cases, of different bureaus where that can be, in the order given."""
    first_of_bureau = {case.bureau: case for case in reversed(members)}
    apart = [case for case in members if first_of_bureau[case.bureau] is case]
    return [*apart, *(case for case in members if case not in apart)][:EXAMPLES_MAX]


def _found(
    tree: BureauTree,
    scope: str,
    cluster: Cluster,
    *,
    members: Sequence[CaseTerms],
    examples: Sequence[tuple[CaseTerms, str]],
    known_as: str,
) -> Found:
    by_subordinate = Counter(tree.branch(scope, case.bureau) for case in members)
    by_category = Counter(case.category for case in members)
    return Found(
        terms=cluster.terms,
        cases=len(members),
        cases_before=cluster.before,
        bureaus=len({case.bureau for case in members}),
        by_subordinate=tuple(sorted(by_subordinate.items(), key=lambda share: (-share[1], share[0]))),
        by_category=tuple(sorted(by_category.items(), key=lambda share: (-share[1], share[0]))),
        examples=tuple(examples),
        known_as=known_as,
    )
