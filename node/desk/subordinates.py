"""Superiors' view (§五(三), SPEC §7): the open cases below by light, down the tree to one case, public parts alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.order_errors import NotASubordinate
from kuaixiang.domain.words import Category, Custody, LedgerFinding, Light, Role, Stage
from kuaixiang.web.console import Console, Visit
from kuaixiang.web.language import Unknown, known
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2
from kuaixiang.wire.v1 import cosign_pb2 as pb_cosign
from kuaixiang.wire.v1 import supervision_pb2 as pb
from node.desk.asking import Services, inside, whole_number
from node.desk.orders import may_issue
from node.desk.showing import Due, due_of, event_name
from node.supervision import SubordinateUnreachable

PAGE_SIZE: Final = 50
COUNTED_MAX: Final = 500
"""Open cases of a subordinate that are counted by light for its line: as many as one question brings."""


@dataclass(frozen=True, slots=True)
class Open:
    """An open case of a subordinate."""

    case: case_pb2.Case
    light: Light | Unknown
    stage: Stage | Unknown
    custody: Custody | Unknown
    category: Category | Unknown
    registered_at: datetime
    dues: tuple[Due, ...]


@dataclass(frozen=True, slots=True)
class Happened:
    """An entry of a case's history, as far as it is public."""

    event: Both
    at: datetime
    stage: Stage | Unknown | None
    actor: str
    role: Role | Unknown
    department: str
    other_bureau: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger that the bureau witnesses, and what stands against it."""

    bureau: str
    generation: int
    seq: int
    cosigned_at: datetime
    doubt: pb_cosign.LedgerDoubt | None
    finding: LedgerFinding | None
    since: datetime | None


def routes(console: Console, services: Services) -> list[Route]:
    """The pages of what is open below."""
    pages = _Pages(services)
    return [
        console.route("/subordinates", pages.top),
        console.route("/subordinates/{code}", pages.bureau),
        console.route("/subordinates/{code}/lights", pages.lights),
        console.route("/subordinates/{code}/cases/{case_id}", pages.case),
    ]


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._place = services.office.place

    async def top(self, visit: Visit) -> Response:
        """The bureaus directly under this one, and the ledgers that it witnesses."""
        request = pb_cosign.ListWitnessedRequest(bureau=visit.person.bureau)
        witnessed = await self._services.witness.ListWitnessed(request, inside(visit.person))
        ledgers = [_ledger(one) for one in witnessed.ledgers]
        return self._page(visit, visit.person.bureau, cases=None, ledgers=ledgers)

    async def bureau(self, visit: Visit) -> Response:
        """A subordinate: the bureaus under it, and its own open cases."""
        code = visit.request.path_params["code"]
        self._check_below(visit, code)
        query = visit.request.query_params
        light, extended = query.get("light", ""), bool(query.get("extended"))
        request = self._request(
            visit, code, light=light, extended=extended, page_size=PAGE_SIZE, page_token=query.get("page", "")
        )
        chosen = {"light": light, "extended": "1" if extended else ""}
        chosen = {name: value for name, value in chosen.items() if value}
        try:
            answer = await self._services.supervision.ListSubordinateCases(request, inside(visit.person))
        except SubordinateUnreachable as away:
            return self._page(visit, code, cases=[], chosen=chosen, away=away)
        here = f"/subordinates/{code}"
        following = chosen | {"page": answer.next_page_token}
        return self._page(
            visit,
            code,
            cases=[_open(found) for found in answer.cases],
            chosen=chosen,
            first=f"{here}?{urlencode(chosen)}" if request.page_token else "",
            next=f"{here}?{urlencode(following)}" if answer.next_page_token else "",
        )

    async def lights(self, visit: Visit) -> Response:
        """A subordinate's open cases counted by light, for its line in the list of bureaus."""
        code = visit.request.path_params["code"]
        self._check_below(visit, code)
        request = self._request(visit, code, page_size=COUNTED_MAX)
        try:
            answer = await self._services.supervision.ListSubordinateCases(request, inside(visit.person))
        except SubordinateUnreachable as away:
            # The line says so; it is no fault of the page that asks.
            return visit.page("_lights.html", code=code, counts={}, strange=None, more=False, away=away)
        counts = Counter(known(Light, found.light) for found in answer.cases)
        strange = Unknown(sum(count for light, count in counts.items() if isinstance(light, Unknown)))
        more = bool(answer.next_page_token)
        return visit.page("_lights.html", code=code, counts=counts, strange=strange, more=more, away=None)

    async def case(self, visit: Visit) -> Response:
        """One case of a subordinate with its history."""
        code, case_id = visit.request.path_params["code"], visit.request.path_params["case_id"]
        self._check_below(visit, code)
        request = pb.GetSubordinateCaseRequest(bureau=visit.person.bureau, subordinate=code, case_id=case_id)
        refusal: Refused | None = None
        answer = pb.GetSubordinateCaseResponse()
        try:
            answer = await self._services.supervision.GetSubordinateCase(request, inside(visit.person))
        except Refused as away:
            refusal = away
        return visit.page(
            "subordinate_case.html",
            code=code,
            case_id=case_id,
            crumbs=self._crumbs(visit, code),
            refusal=refusal,
            shown=_open(answer.found) if refusal is None else None,
            history=[_happened(item) for item in answer.history],
            may_issue=may_issue(self._services, visit.person),
        )

    def _request(self, visit: Visit, code: str, *, light: str = "", **more: Any) -> pb.ListSubordinateCasesRequest:
        number: Any = whole_number(light, 1)
        return pb.ListSubordinateCasesRequest(bureau=visit.person.bureau, subordinate=code, light=number, **more)

    def _check_below(self, visit: Visit, code: str) -> None:
        if code not in self._place.tree or not self._place.tree.contains(visit.person.bureau, code):
            raise NotASubordinate(visit.person.bureau, code, "subordinate")

    def _crumbs(self, visit: Visit, code: str) -> list[str]:
        """From this bureau down to the one that is shown."""
        return list(reversed(self._place.tree.route(code, visit.person.bureau)))

    def _page(
        self,
        visit: Visit,
        code: str,
        *,
        cases: list[Open] | None,
        ledgers: Sequence[Ledger] = (),
        chosen: dict[str, str] | None = None,
        away: Refused | None = None,
        first: str = "",
        next: str = "",  # noqa: A002 - the link's own relation
    ) -> Response:
        return visit.page(
            "subordinate.html",
            code=code,
            crumbs=self._crumbs(visit, code),
            below=self._place.tree.children(code),
            cases=cases,
            ledgers=ledgers,
            chosen=chosen or {},
            lights=tuple(Light),
            refusal=away,
            first=first,
            next=next,
            may_issue=may_issue(self._services, visit.person),
        )


def _ledger(found: pb_cosign.WitnessedLedger) -> Ledger:
    doubt = found.doubt if found.HasField("doubt") else None
    return Ledger(
        bureau=found.bureau,
        generation=found.generation,
        seq=found.seq,
        cosigned_at=instant(found.cosigned_at),
        doubt=doubt,
        finding=LedgerFinding(doubt.finding) if doubt is not None else None,
        since=instant(doubt.since) if doubt is not None else None,
    )


def _open(found: pb.SubordinateCase) -> Open:
    case = found.case
    return Open(
        case=case,
        light=known(Light, found.light),
        stage=known(Stage, case.stage),
        custody=known(Custody, case.custody),
        category=known(Category, case.category),
        registered_at=instant(case.registered_at),
        dues=tuple(due_of(clock) for clock in case.clocks),
    )


def _happened(item: case_pb2.HistoryItem) -> Happened:
    return Happened(
        event=event_name(item.event),
        at=instant(item.occurred_at),
        stage=known(Stage, item.stage) if item.stage else None,
        actor=item.actor,
        role=known(Role, item.role),
        department=item.department,
        other_bureau=item.other_bureau,
    )
