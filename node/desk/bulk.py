"""One act on several cases: first what it would do to each, then each by itself, done once however often it is sent."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import FieldMalformed, FieldMissing, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.runtime.server import NOT_NOW, as_refusal
from kuaixiang.web.console import Console, NoSuchPage, Visit
from kuaixiang.wire.codec import act_of, rpc_of
from kuaixiang.wire.v1 import case_pb2
from node.cases import header_of
from node.desk.asking import (
    KEY_BYTES,
    REQUEST_OF_ACT,
    Services,
    departments_of,
    header,
    inside,
    key_of,
    new_key,
    whole_number,
)
from node.desk.forms import ACTS, fields_of, filled_in
from node.desk.showing import bureau_named

CASES_MAX: Final = 500
"""As many as a page of a list may have."""
KEY_CHARACTERS: Final = 2 * KEY_BYTES

BULK_ACTS: Final[tuple[type[Act], ...]] = (
    acts.Forward,
    acts.Dispatch,
    acts.AcceptDirectly,
    acts.GiveFeedback,
    acts.LinkIssue,
    acts.Refer,
    acts.WriteOff,
)
"""Acts that say the same of many cases; a result or an extension is each case's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became, or would become, of one of the cases. `refusal`: why nothing."""

    case_id: str
    before: Case | None = None
    after: Case | None = None
    refusal: Refused | None = None


def routes(console: Console, services: Services) -> list[Route]:
    """The preview of a bulk act, and the act."""
    pages = _BulkPages(services)
    return [console.route("/bulk", pages.bulk, "POST")]


class _BulkPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def bulk(self, visit: Visit) -> Response:
        """The form for the cases that are chosen; filled in, the preview; confirmed, the acts."""
        form = await visit.form()
        kind = ACTS.get(str(form.get("act", "")))
        if kind not in BULK_ACTS:
            raise NoSuchPage
        chosen = list(dict.fromkeys(str(case_id) for case_id in form.getlist("case")))
        if len(chosen) > CASES_MAX:
            raise FieldMalformed(
                "case_ids",
                Both(f"names {len(chosen)} cases", f"选择了 {len(chosen)} 件"),
                Both(f"Choose at most {CASES_MAX}.", f"一次最多选择 {CASES_MAX} 件。"),
            )
        if not chosen:
            raise FieldMissing("case_ids", Both("choose cases first", "请先选择诉求"))
        step = str(form.get("step", ""))
        refusal: Refused | None = None
        outcomes: list[Outcome] = []
        if step in {"preview", "do"}:
            try:
                values = filled_in(fields_of(kind), form)
                if "final_bureau" in values:
                    tree = self._services.office.place.tree
                    values["final_bureau"] = bureau_named(tree, values["final_bureau"], "final_bureau")
            except Refused as wrong:
                refusal, step = wrong, ""
            else:
                # Together: the ledger's writer commits what waits in one go.
                heads = _headers(visit, chosen, form if step == "do" else None)
                tried = self._do if step == "do" else self._foresee
                requests = [REQUEST_OF_ACT[kind](header=head, **values) for head in heads]
                outcomes = await asyncio.gather(*(tried(visit, request) for request in requests))
        return visit.page(
            "bulk.html",
            act=kind,
            step=step,
            chosen=chosen,
            outcomes=outcomes,
            fields=fields_of(kind),
            typed=form.getlist,
            key=str(form.get("request_key", "")) or new_key(),
            refusal=refusal,
            departments=departments_of(self._services, visit.person.bureau),
            live="",
        )

    async def _foresee(self, visit: Visit, request: Any) -> Outcome:  # noqa: ANN401 - any act's message
        case_id = request.header.case_id
        try:
            before, after = await self._services.office.foresee(header_of(request), act_of(request))
        except Refused as refusal:
            return Outcome(case_id=case_id, refusal=refusal)
        return Outcome(case_id=case_id, before=before, after=after)

    async def _do(self, visit: Visit, request: Any) -> Outcome:  # noqa: ANN401 - any act's message
        case_id = request.header.case_id
        try:
            await getattr(self._services.cases, rpc_of(type(request)))(request, inside(visit.person))
        except (Refused, *NOT_NOW) as error:
            return Outcome(case_id=case_id, refusal=as_refusal(error))
        return Outcome(case_id=case_id, after=await self._services.office.read_case(visit.person.bureau, case_id))


def _headers(visit: Visit, chosen: Sequence[str], form: FormData | None) -> list[case_pb2.ActHeader]:
    """Who acts on each case; with the form, once however often it is sent, and on what its preview has shown."""
    if form is None:
        return [header(visit.person, case_id=case_id) for case_id in chosen]
    key, versions = key_of(form)[:KEY_CHARACTERS], _versions(form)
    return [
        header(visit.person, case_id=case_id, key=f"{key}-{case_id}", version=versions.get(case_id, 0))
        for case_id in chosen
    ]


def _versions(form: FormData) -> dict[str, int]:
    """The version of each case that the preview was of."""
    parts = (str(looked_at).partition(" ") for looked_at in form.getlist("version"))
    return {case_id: whole_number(version) for case_id, _, version in parts}
