"""The acts: one form for each, as a dialog or as a page of its own, with what it would do to the clocks; done once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.errors import Refused, VersionConflict
from kuaixiang.domain.events import ClockChange
from kuaixiang.domain.referring import segment_clocks
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Disclosure, Override
from kuaixiang.runtime.server import NOT_NOW, as_refusal
from kuaixiang.web.console import Console, NoSuchPage, Visit
from kuaixiang.wire.codec import act_of, rpc_of
from kuaixiang.wire.v1 import case_pb2
from node.cases import header_of
from node.desk.asking import (
    REQUEST_OF_ACT,
    Services,
    departments_of,
    header,
    inside,
    key_of,
    new_key,
    whole_number,
)
from node.desk.forms import ACTS, Field, fields_of, filled_in
from node.desk.showing import bureau_named, found_among

FOUND_MAX: Final = 20
CHOICES_MAX: Final = 120
"""Subordinates that are offered in a choice: a province's prefectures and counties under direct administration."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an act would do: the case's clocks before and after, and those of the bureau that it would go to."""

    before: Case
    after: Case
    there: tuple[ClockChange, ...]

    @property
    def stopped(self) -> tuple[Clock, ...]:
        """Clocks that would no longer run."""
        return tuple(clock for clock in self.before.clocks if _like(clock, self.after.clocks) is None)

    @property
    def moved(self) -> tuple[tuple[Clock, Clock], ...]:
        """Clocks that would have another deadline."""
        pairs = ((clock, _like(clock, self.after.clocks)) for clock in self.before.clocks)
        return tuple((clock, other) for clock, other in pairs if other is not None and other.due_at != clock.due_at)

    @property
    def started(self) -> tuple[Clock, ...]:
        """Clocks that would begin."""
        return tuple(clock for clock in self.after.clocks if _like(clock, self.before.clocks) is None)


@dataclass(frozen=True, slots=True)
class Asked:
    """An override that waits for a second person: who has asked for it, when, for which rule, and why."""

    override: Override
    actor: str
    name: str
    at: datetime
    reason: str


def _like(clock: Clock, clocks: tuple[Clock, ...]) -> Clock | None:
    return next((one for one in clocks if (one.kind, one.department) == (clock.kind, clock.department)), None)


def routes(console: Console, services: Services) -> list[Route]:
    """The forms of acts on one case."""
    pages = _ActPages(services)
    return [
        console.route("/cases/{case_id}/acts/{act}", pages.form, "GET", "POST"),
        console.route("/cases/{case_id}/acts/{act}/preview", pages.preview, "POST"),
        console.route("/bureaus", pages.bureaus),
    ]


class _ActPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def form(self, visit: Visit) -> Response:
        """The form of an act; sent, the act."""
        kind, case_id = self._asked(visit)
        if visit.request.method == "GET":
            return await self._form(visit, kind, case_id, given=dict(visit.request.query_params), key=new_key())
        form = await visit.form()
        try:
            request = self._request(visit, kind, case_id, form)
            await getattr(self._services.cases, rpc_of(type(request)))(request, inside(visit.person))
        except (Refused, *NOT_NOW) as error:
            refusal = as_refusal(error)
            return await self._form(
                visit, kind, case_id, form=form, key=str(form.get("request_key", "")), refusal=refusal
            )
        return visit.to(f"/cases/{case_id}")

    async def preview(self, visit: Visit) -> Response:
        """What the act would do to the clocks, here and where the case would go."""
        kind, case_id = self._asked(visit)
        form = await visit.form()
        key = str(form.get("request_key", ""))
        try:
            request = self._request(visit, kind, case_id, form)
            foreseen = await self._foresee(request, kind)
        except Refused as refusal:
            return await self._form(visit, kind, case_id, form=form, key=key, refusal=refusal)
        return await self._form(visit, kind, case_id, form=form, key=key, preview=foreseen)

    async def bureaus(self, visit: Visit) -> Response:
        """Bureaus whose code or name has what is typed, for the line beside the choice."""
        typed = visit.request.query_params.get("final_bureau", "").strip()
        tree = self._services.office.place.tree
        return visit.page("_bureaus.html", bureaus=found_among(tree, tree.bureaus, typed, FOUND_MAX) if typed else [])

    async def _foresee(self, request: Any, kind: type[Act]) -> Preview:  # noqa: ANN401 - any act's message
        office = self._services.office
        before, after = await office.foresee(header_of(request), act_of(request))
        place = office.place
        goes = kind in {acts.Refer, acts.Return, acts.AskRuling, acts.Rule}
        there = segment_clocks(place.clock.now(), place.rules, place.calendar) if goes else ()
        return Preview(before, after, there)

    @staticmethod
    def _asked(visit: Visit) -> tuple[type[Act], str]:
        kind = ACTS.get(visit.request.path_params["act"])
        if kind is None or kind in {acts.Register, acts.Attach}:
            raise NoSuchPage
        return kind, visit.request.path_params["case_id"]

    def _request(self, visit: Visit, kind: type[Act], case_id: str, form: FormData) -> Any:  # noqa: ANN401 - any act's message
        values = filled_in(fields_of(kind), form)
        if "final_bureau" in values:
            tree = self._services.office.place.tree
            values["final_bureau"] = bureau_named(tree, values["final_bureau"], "final_bureau")
        return REQUEST_OF_ACT[kind](
            header=header(
                visit.person,
                case_id=case_id,
                key=key_of(form),
                version=whole_number(str(form.get("version", ""))),
            ),
            **values,
        )

    async def _form(
        self,
        visit: Visit,
        kind: type[Act],
        case_id: str,
        *,
        key: str,
        form: FormData | None = None,
        given: Mapping[str, str] | None = None,
        refusal: Refused | None = None,
        preview: Preview | None = None,
    ) -> Response:
        office = self._services.office
        case = await office.read_case(visit.person.bureau, case_id)
        # The version that was looked at stays in the form until its reader has been told of another one.
        looked_at = form is not None and not isinstance(refusal, VersionConflict)
        return visit.page(
            "_act.html" if visit.is_part else "act.html",
            act=kind,
            case=case,
            version=str(form.get("version", "")) if form is not None and looked_at else str(case.version),
            fields=[_asked_of(field, case) for field in fields_of(kind) if _is_asked(field, case)],
            typed=form.getlist if form is not None else partial(_listed, given),
            key=key,
            refusal=refusal,
            preview=preview,
            asked=await self._asked_for(visit, case) if kind in _OF_A_SECOND_PERSON else None,
            departments=departments_of(self._services, visit.person.bureau),
            choices=choices(office.place.tree, visit.person.bureau, case.competent_bureau),
        )

    async def _asked_for(self, visit: Visit, case: Case) -> Asked | None:
        """What the second person decides on, with the reason as the case's own page shows it."""
        asked, person = case.override_asked, visit.person
        if asked is None:
            return None
        words: dict[str, Any] = {"private": Disclosure.MASKED, "role": person.role}
        request = case_pb2.GetCaseRequest(
            bureau=person.bureau,
            case_id=str(case.case_id),
            include_history=True,
            actor=person.actor,
            department=person.department,
            **words,
        )
        history = (await self._services.cases.GetCase(request, inside(person))).history
        reason = next((item.note for item in reversed(history) if item.event == "override_asked"), "")
        officer = self._services.office.place.staff(person.bureau).officers.get(asked.asked_by)
        name = officer.name if officer is not None else ""
        return Asked(asked.override, asked.asked_by, name, asked.asked_at, reason)


_OF_A_SECOND_PERSON: Final[tuple[type[Act], ...]] = (acts.ApproveOverride, acts.RefuseOverride)


def _is_asked(field: Field, case: Case) -> bool:
    """Whether the field has anything to choose: of one extension that was asked for there is no question which."""
    return field.name != "for_department" or len(case.extensions) > 1


def _asked_of(field: Field, case: Case) -> Field:
    """The field, needed where the case makes it so: a taxpayer who has not been told yet is told now (§四(一)2)."""
    return replace(field, needed=True) if field.name == "telling" and case.telling is None else field


def _listed(given: Mapping[str, str] | None, name: str) -> list[str]:
    value = (given or {}).get(name, "")
    return [value] if value else []


def choices(tree: BureauTree, bureau: str, competent: str = "") -> dict[str, list[Any]]:
    """Where a case may well go: to the bureau that seems competent, to the superior, to a subordinate."""
    superior = tree.parent(bureau) if bureau in tree else None
    return {
        "competent": [tree.get(competent)] if competent in tree and competent != bureau else [],
        "up": [tree.get(superior)] if superior else [],
        "down": [tree.get(code) for code in tree.children(bureau)[:CHOICES_MAX]] if bureau in tree else [],
    }
