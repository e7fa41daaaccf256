"""督办: the pages of supervision orders (§五(三)): the lists, an order with its journey, its acts, issuing one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.accounts.people import Person
from kuaixiang.domain import order_acts
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.orders import Order
from kuaixiang.domain.words import OrderLevel, OrderSide, OrderStage, Role
from kuaixiang.runtime.server import NOT_NOW, as_refusal
from kuaixiang.web.console import Console, NoSuchPage, Visit
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST, instant, rpc_of
from kuaixiang.wire.v1 import supervision_pb2 as pb
from node.desk.asking import REQUEST_OF_ACT, Services, asker, header, inside, key_of, new_key
from node.desk.forms import Field, Kind, fields_of, filled_in
from node.desk.showing import (
    Due,
    act_name,
    act_slug,
    bureaus_below,
    code_named,
    due_of,
    event_name,
    found_below,
)

PAGE_SIZE: Final = 50
OPTIONS_MAX: Final = 400
"""Subordinates that a field offers all at once: a province has fewer; at headquarters what is typed finds some."""
FOUND_MAX: Final = 40
WORKDAYS_USUAL: Final = 3
"""What the field of a new order's working days begins with."""

TABS: Final[Mapping[str, Mapping[str, Any]]] = {
    "received": {"side": int(OrderSide.RECEIVED), "open": True},
    "issued": {"side": int(OrderSide.ISSUED), "open": True},
    "overdue": {"overdue": True},
    "relayed": {"side": int(OrderSide.RELAYED)},
    "all": {},
}
"""What each tab of the list asks for."""

ACTS: Final[Mapping[str, type[OrderAct]]] = {
    act_slug(act): act for act in ACT_OF_ORDER_REQUEST.values() if act is not order_acts.IssueOrder
}
"""Acts on an order by the name that addresses of pages have."""

CALLED: Final[Mapping[str, Both]] = {
    "text": Both("wording", "督办事项"),
    "answer": Both("answer", "回复内容"),
    "final_bureau": Both("bureau that is to answer", "接收单位"),
    "to_bureaus": Both("subordinates", "接收单位"),
    "answer_workdays": Both("working days for the answer", "回复工作日数"),
    "case_ids": Both("cases", "涉及诉求"),
    "because": Both("why it is answered before its derived orders are", "下级尚未回复而先行回复的理由"),
}
"""What a field is called on the form of an order, where its general name would be of a case."""


@dataclass(frozen=True, slots=True)
class Row:
    """An order in a list."""

    order: pb.Order
    level: OrderLevel
    stage: OrderStage
    due: Due | None
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of an order's journey; `workdays` since it was issued."""

    event: Both
    at: datetime
    stage: OrderStage | None
    actor: str
    role: Role
    department: str
    other_bureau: str
    workdays: float
    note: str


@dataclass(frozen=True, slots=True)
class Named:
    """A case that an order is about, and where its page is; empty when no page of this bureau shows it."""

    case_id: str
    page: str


def routes(console: Console, services: Services) -> list[Route]:
    """The pages of orders."""
    pages = _Pages(services)
    return [
        console.route("/orders", pages.listed),
        console.route("/orders/bureaus", pages.bureaus),
        console.route("/orders/new", pages.issue, "GET", "POST"),
        console.route("/orders/{order_id}", pages.one),
        console.route("/orders/{order_id}/{act}", pages.act, "GET", "POST"),
    ]


def may_issue(services: Services, person: Person) -> bool:
    """Whether the person may issue an order now."""
    return services.office.orders.why_not(asker(person, ""), order_acts.IssueOrder) is None


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._place = services.office.place

    # ------------------------------------------------------------ lists

    async def listed(self, visit: Visit) -> Response:
        """The bureau's orders in tabs, nearest deadline first."""
        person, supervision = visit.person, self._services.supervision
        asked = {tab: pb.ListOrdersRequest(bureau=person.bureau, **wanted) for tab, wanted in TABS.items()}
        counts = dict(zip(TABS, await supervision.count_orders(list(asked.values()), inside(person)), strict=True))
        query = visit.request.query_params
        tab = query.get("tab", "")
        if tab not in TABS:
            tab = next((one for one in TABS if counts[one]), "received")
        request = asked[tab]
        request.page_size, request.page_token = PAGE_SIZE, query.get("page", "")
        answer = await supervision.ListOrders(request, inside(person))
        following = {"tab": tab, "page": answer.next_page_token}
        return visit.page(
            "orders.html",
            tab=tab,
            counts=counts,
            rows=[_row(order) for order in answer.orders],
            may_issue=may_issue(self._services, person),
            first=f"/orders?{urlencode({'tab': tab})}" if request.page_token else "",
            next=f"/orders?{urlencode(following)}" if answer.next_page_token else "",
        )

    # ------------------------------------------------------------ one order

    async def one(self, visit: Visit) -> Response:
        """An order: its wording, its journey, what was derived from it, and what the person may do with it."""
        person, office = visit.person, self._services.office
        order_id = visit.request.path_params["order_id"]
        answer = await self._read(person, order_id, texts=True)
        order = await office.orders.read(person.bureau, order_id)
        derived = [await self._read(person, one) for one in answer.order.derived_order_ids]
        now = office.place.clock.now()
        ended = order.answered_at if order.stage in {OrderStage.ANSWERED, OrderStage.CLOSED} else None
        return visit.page(
            "order.html",
            row=_row(answer.order),
            order=answer.order,
            texts=answer.texts,
            issued_at=order.issued_at,
            received_at=order.received_at,
            acknowledged_at=order.acknowledged_at,
            workdays=office.place.calendar.elapsed_workdays(order.issued_at, ended or now),
            cases=await asyncio.gather(*(self._named(person, order, case_id) for case_id in order.case_ids)),
            derived=[_row(one.order) for one in derived],
            steps=[self._step(item, order) for item in answer.history],
            acts=[(act_slug(act), act_name(act)) for act in office.orders.possible(asker(person, order_id), order)],
        )

    async def _read(self, person: Person, order_id: str, *, texts: bool = False) -> pb.GetOrderResponse:
        request = pb.GetOrderRequest(
            bureau=person.bureau, order_id=order_id, include_texts=texts, include_history=texts
        )
        return await self._services.supervision.GetOrder(request, inside(person))

    async def _named(self, person: Person, order: Order, case_id: str) -> Named:
        try:
            await self._services.office.read_case(person.bureau, case_id)
        except Refused:
            # It has never been in this ledger: a superior looks at it where the order was answered.
            there = "" if order.ends_here else f"/subordinates/{order.final_bureau}/cases/{case_id}"
            return Named(case_id, there)
        return Named(case_id, f"/cases/{case_id}")

    def _step(self, item: pb.OrderHistoryItem, order: Order) -> Step:
        at = instant(item.occurred_at)
        return Step(
            event=event_name(item.event),
            at=at,
            stage=OrderStage(item.stage) if item.stage else None,
            actor=item.actor,
            role=Role(item.role),
            department=item.department,
            other_bureau=item.other_bureau,
            workdays=max(0.0, self._services.office.place.calendar.elapsed_workdays(order.issued_at, at)),
            note=item.note,
        )

    # ------------------------------------------------------------ acts

    async def act(self, visit: Visit) -> Response:
        """The form of an act on an order, as a page or in a dialog, and the act itself when it is sent."""
        order_id = visit.request.path_params["order_id"]
        kind = ACTS.get(visit.request.path_params["act"])
        if kind is None:
            raise NoSuchPage
        if visit.request.method == "POST":
            return await self._do(visit, kind, order_id)
        person, office = visit.person, self._services.office
        order = await office.orders.read(person.bureau, order_id)
        refusal = office.orders.why_not(asker(person, order_id), kind, order)
        if refusal is not None:
            raise refusal
        begun: dict[str, list[str]] = {"answer_workdays": [str(order.answer_workdays)]}
        if kind is order_acts.CascadeOrder:
            # The order's own wording and level are what is passed on, unless others are given.
            received = await self._read(person, order_id, texts=True)
            begun |= {
                "text": [received.texts.text],
                "level": [str(int(order.level))],
                "case_ids": list(order.case_ids),
            }
        return self._form(visit, kind, order_id, begun)

    async def issue(self, visit: Visit) -> Response:
        """The form of a new order, filled in by the address as far as it names bureau and cases; and issuing it."""
        kind = order_acts.IssueOrder
        if visit.request.method == "POST":
            return await self._do(visit, kind, "")
        refusal = self._services.office.orders.why_not(asker(visit.person, ""), kind)
        if refusal is not None:
            raise refusal
        query = visit.request.query_params
        cases = query.getlist("case")
        begun = {
            "final_bureau": query.getlist("to")[:1],
            "level": [str(int(OrderLevel.URGE if cases else OrderLevel.SUPERVISE))],
            "answer_workdays": [str(WORKDAYS_USUAL)],
            "case_ids": cases,
        }
        return self._form(visit, kind, "", begun)

    async def bureaus(self, visit: Visit) -> Response:
        """Subordinates by what is typed into the field that names one."""
        found = found_below(
            self._place.tree, visit.person.bureau, visit.request.query_params.get("final_bureau", ""), FOUND_MAX
        )
        return visit.page("_bureaus.html", bureaus=found)

    async def _do(self, visit: Visit, kind: type[OrderAct], order_id: str) -> Response:
        form = await visit.form()
        key = str(form.get("request_key", ""))
        try:
            done = await self._perform(visit.person, kind, order_id, key_of(form), form)
        except (Refused, *NOT_NOW) as error:
            typed = {name: [str(value) for value in form.getlist(name)] for name in form}
            return self._form(visit, kind, order_id, typed, key=key, refusal=as_refusal(error))
        return visit.to(f"/orders/{order_id or done.order.order_id}")

    async def _perform(self, person: Person, kind: type[OrderAct], order_id: str, key: str, form: FormData) -> Any:  # noqa: ANN401 - the act's answer
        message = REQUEST_OF_ACT[kind]
        values = filled_in(fields_of(kind), form)
        if "final_bureau" in values:
            values["final_bureau"] = code_named(self._place.tree, person.bureau, values["final_bureau"])
        request = message(header=header(person, case_id=order_id, key=key), **values)
        return await getattr(self._services.supervision, rpc_of(message))(request, inside(person))

    def _form(
        self,
        visit: Visit,
        kind: type[OrderAct],
        order_id: str,
        typed: Mapping[str, list[str]],
        *,
        key: str = "",
        refusal: Refused | None = None,
    ) -> Response:
        fields = fields_of(kind)
        return visit.page(
            "order_act.html",
            part=visit.is_part,
            name=act_name(kind),
            fields=[(field, CALLED.get(field.name), list(typed.get(field.name, ()))) for field in fields],
            here_to=f"/orders/{order_id}/{act_slug(kind)}" if order_id else "/orders/new",
            order_id=order_id,
            key=key or new_key(),
            refusal=refusal,
            wrong=refusal.field.rpartition(".")[2] if refusal is not None else "",
            **self._choices(fields, visit.person.bureau, typed),
        )

    def _choices(self, fields: tuple[Field, ...], bureau: str, typed: Mapping[str, list[str]]) -> dict[str, Any]:
        """The bureaus that the form offers; `searched`: some that fit what is typed, of too many for a list."""
        kinds = {field.kind for field in fields}
        searched = len(self._place.tree.subtree(bureau)) > OPTIONS_MAX
        options, named = [], ""
        if Kind.BUREAU in kinds:
            wanted = "".join(typed.get("final_bureau", ()))
            options = found_below(
                self._place.tree, bureau, wanted if searched else "", FOUND_MAX if searched else OPTIONS_MAX
            )
            named = self._place.tree.get(wanted).name if wanted in self._place.tree else ""
        below = bureaus_below(self._place.tree, bureau) if Kind.BUREAUS in kinds else ()
        return {"options": options, "searched": searched, "named": named, "below": below}


def _row(order: pb.Order) -> Row:
    return Row(
        order=order,
        level=OrderLevel(order.level),
        stage=OrderStage(order.stage),
        due=due_of(order.clock) if order.HasField("clock") else None,
        answered_at=instant(order.answered_at) if order.HasField("answered_at") else None,
    )
