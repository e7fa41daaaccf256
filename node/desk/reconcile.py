"""对账: the page of how this ledger agrees with its superior's and its subordinates', and of comparing them now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.words import DifferenceKind, Outcome, ReferralState, Refusal
from kuaixiang.web.console import Console, Visit
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import reconciliation_pb2 as pb
from node.desk.asking import Services, inside

_WORDS: Final[Mapping[str, type[IntEnum]]] = {"state": ReferralState, "refusal": Refusal, "outcome": Outcome}
"""Fields of a hand-over whose texts are names of words."""
_NAMES: Final = ("peer", "from_day", "to_day")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The superior or a subordinate, and the last comparison with it, if there has been one."""

    code: str
    is_superior: bool
    last: pb.LastReconciliation | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A case about which a neighbour's ledger tells something else."""

    mismatch: pb.StandingMismatch
    kind: DifferenceKind
    since: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """A difference that the comparison just run has found."""

    peer: str
    difference: pb.Difference
    kind: DifferenceKind
    fields: tuple["Told", ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A field about which the two ledgers tell different things: words of the field, or texts as they are."""

    field: str
    here: IntEnum | str
    there: IntEnum | str


def routes(console: Console, services: Services) -> list[Route]:
    """The page of reconciliation."""
    pages = _Pages(services)
    return [console.route("/reconcile", pages.shown), console.route("/reconcile", pages.compare, "POST")]


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def shown(self, visit: Visit) -> Response:
        """The last comparison with each neighbour, and what stands."""
        return await self._page(visit)

    async def compare(self, visit: Visit) -> Response:
        """Compare now, with one neighbour or with all; as often as it is sent, for nothing is done twice by it."""
        form = await visit.form()
        typed = {name: str(form.get(name, "")).strip() for name in _NAMES}
        request = pb.ReconcileLedgersRequest(bureau=visit.person.bureau, **typed)
        try:
            answer = await self._services.reconciliations.ReconcileLedgers(request, inside(visit.person))
        except Refused as refusal:
            return await self._page(visit, typed=typed, refusal=refusal)
        return await self._page(visit, typed=typed, reports=list(answer.reports))

    async def _page(
        self,
        visit: Visit,
        *,
        typed: dict[str, str] | None = None,
        reports: list[pb.PairReport] | None = None,
        refusal: Refused | None = None,
    ) -> Response:
        bureau, tree = visit.person.bureau, self._services.office.place.tree
        request = pb.ListMismatchesRequest(bureau=bureau)
        told = await self._services.reconciliations.ListMismatches(request, inside(visit.person))
        last = {one.peer: one for one in told.last}
        neighbours = [_neighbour(code, tree.parent(bureau), last.get(code)) for code in tree.neighbours(bureau)]
        return visit.page(
            "reconcile.html",
            neighbours=neighbours,
            mismatches=[_standing(one) for one in told.mismatches],
            standing=told.standing,
            typed=typed or dict.fromkeys(_NAMES, ""),
            reports=reports,
            found=[_found(report.peer, one) for report in reports or () for one in report.differences],
            refusal=refusal,
            wrong=refusal.field if refusal is not None else "",
        )


def _neighbour(code: str, superior: str | None, last: pb.LastReconciliation | None) -> Neighbour:
    return Neighbour(code, code == superior, last, instant(last.at) if last is not None else None)


def _standing(mismatch: pb.StandingMismatch) -> Standing:
    return Standing(mismatch, DifferenceKind(mismatch.difference), instant(mismatch.since))


def _found(peer: str, difference: Any) -> Found:  # noqa: ANN401 - the message's type has the name of one of its fields
    fields = tuple(
        Told(one.field, _told(one.field, one.here), _told(one.field, one.there)) for one in difference.fields
    )
    return Found(peer, difference, DifferenceKind(difference.difference), fields)


def _told(field: str, text: str) -> IntEnum | str:
    words = _WORDS.get(field)
    return words[text] if words is not None and text in words.__members__ else text
