"""待办 the work list: the bureau's cases by what is to be done next, nearest deadline first, and a search."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.words import Category, Channel, OrderSide, Role, WorkTab
from kuaixiang.web.console import Console, Visit
from kuaixiang.wire.v1 import case_pb2, supervision_pb2
from node.desk.asking import Services, departments_of, inside
from node.desk.live import live_from

PAGE_SIZE: Final = 50
"""Rows of a page: what an officer looks through before he narrows the list."""

FIRST_TAB: Final = {
    Role.REGISTRAR: WorkTab.TO_FORWARD,
    Role.TAX_SERVICE: WorkTab.TO_DISPATCH,
    Role.HANDLER: WorkTab.TO_HANDLE,
    Role.DEPUTY_HEAD: WorkTab.TO_DECIDE,
    Role.BUREAU_HEAD: WorkTab.TO_DECIDE,
}
"""Where each role begins; the others at everything."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the address asks for."""

    tab: int
    department: str
    category: int
    channel: int
    token: str

    def address(self, **changes: object) -> str:
        """The list's address with something else asked for; back at its first page."""
        asked = {"tab": self.tab, "department": self.department, "category": self.category, "channel": self.channel}
        return "/?" + urlencode({name: value for name, value in (asked | changes).items() if value})


def routes(console: Console, services: Services) -> list[Route]:
    """The work list and its search."""
    listing = _Listing(services)
    return [
        console.route("/", listing.show),
        console.route("/search", listing.search, "GET", "POST"),
    ]


class _Listing:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def show(self, visit: Visit) -> Response:
        """A tab of the list; the filters are in the address, so that a list can be kept and sent on."""
        person, query = visit.person, visit.request.query_params
        live = live_from(self._services, person.bureau)
        own = person.department if person.role is Role.HANDLER else ""
        wanted = _Wanted(
            tab=_number(query.get("tab"), WorkTab, FIRST_TAB.get(person.role, WorkTab.ALL)),
            department=query.get("department", own),
            category=_number(query.get("category"), Category, 0),
            channel=_number(query.get("channel"), Channel, 0),
            token=query.get("after", ""),
        )
        words: dict[str, Any] = {"tab": wanted.tab, "category": wanted.category, "channel": wanted.channel}
        answer = await self._services.cases.ListCases(
            case_pb2.ListCasesRequest(
                bureau=person.bureau,
                department="" if wanted.department == "*" else wanted.department,
                page_size=PAGE_SIZE,
                page_token=wanted.token,
                include_brief=True,
                **words,
            ),
            inside(person),
        )
        return visit.page(
            "listing.html",
            rows=list(zip(answer.cases, answer.briefs, strict=True)),
            wanted=wanted,
            tabs=await self._tabs(visit, wanted),
            orders=await self._orders(visit),
            next=wanted.address(after=answer.next_page_token) if answer.next_page_token else "",
            first=wanted.address() if wanted.token else "",
            categories=list(Category),
            channels=list(Channel),
            departments=departments_of(self._services, person.bureau),
            live=live,
        )

    async def _tabs(self, visit: Visit, wanted: _Wanted) -> list[tuple[WorkTab, case_pb2.WorkCount, str]]:
        department = "" if wanted.department == "*" else wanted.department
        counts = await self._services.cases.CountWork(
            case_pb2.CountWorkRequest(bureau=visit.person.bureau, department=department), inside(visit.person)
        )
        return [(WorkTab(count.tab), count, wanted.address(tab=int(count.tab))) for count in counts.counts]

    async def _orders(self, visit: Visit) -> int:
        side: Any = OrderSide.RECEIVED
        received = supervision_pb2.ListOrdersRequest(bureau=visit.person.bureau, side=side, open=True)
        (count,) = await self._services.supervision.count_orders([received], inside(visit.person))
        return count

    async def search(self, visit: Visit) -> Response:
        """Cases by their words. What is looked for is often a name: it is sent in a form, not in an address."""
        if visit.request.method == "GET":
            return visit.page("search.html", searched="", archived=False, rows=[], next_token="", after="", live="")
        form = await visit.form()
        searched, token = str(form.get("search", "")).strip(), str(form.get("after", ""))
        archived = bool(form.get("archived"))
        shown: dict[str, Any] = {"searched": searched, "archived": archived, "after": token, "live": ""}
        try:
            answer = await self._find(visit, searched, token, archived=archived)
        except Refused as refusal:
            return visit.page("search.html", rows=[], next_token="", refusal=refusal, **shown)
        rows = list(zip(answer.cases, answer.briefs, strict=True))
        return visit.page("search.html", rows=rows, next_token=answer.next_page_token, **shown)

    async def _find(self, visit: Visit, searched: str, token: str, *, archived: bool) -> case_pb2.ListCasesResponse:
        return await self._services.cases.ListCases(
            case_pb2.ListCasesRequest(
                bureau=visit.person.bureau,
                search=searched,
                page_size=PAGE_SIZE,
                page_token=token,
                include_brief=True,
                archived=archived,
            ),
            inside(visit.person),
        )


def _number(written: str | None, words: Any, default: int) -> int:  # noqa: ANN401 - an enumeration
    """A word's number from an address; the default for what is none, for addresses are typed too."""
    known = {str(int(word)): int(word) for word in words}
    return known.get(written or "", int(default))
