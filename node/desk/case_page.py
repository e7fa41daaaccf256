"""诉求 one case: where it stands and by when, what its taxpayer asks, what can be done, and all that was done."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.words import Disclosure
from kuaixiang.web.console import Console, Visit
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2, referral_pb2
from node.desk.asking import Services, asker, inside
from node.desk.live import live_from
from node.desk.showing import event_name
from node.ledger import queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of a case's timeline."""

    bureau: str
    at: datetime
    item: case_pb2.HistoryItem
    workdays: float
    """Working days since the case came to this bureau."""


def routes(console: Console, services: Services) -> list[Route]:
    """A case's page, its parts, and its files."""
    cases = _CasePages(services)
    return [
        console.route("/cases/{case_id}", cases.show),
        console.route("/cases/{case_id}/private", cases.show_private, "POST"),
        console.route("/cases/{case_id}/timeline", cases.timeline),
        console.route("/cases/{case_id}/files/{digest}", cases.file),
    ]


class _CasePages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def show(self, visit: Visit) -> Response:
        """The page; what is private is masked until somebody who may asks for it."""
        return await self._page(visit, Disclosure.MASKED)

    async def show_private(self, visit: Visit) -> Response:
        """The page with what is private in clear, which the journal records."""
        return await self._page(visit, Disclosure.FULL)

    async def _page(self, visit: Visit, disclosure: Disclosure) -> Response:
        person, case_id = visit.person, visit.request.path_params["case_id"]
        live = live_from(self._services, person.bureau)
        got = await self._get(visit, case_id, disclosure)
        place = self._services.office.place
        own_steps = self._steps(person.bureau, got.history, place.calendar)
        return visit.page(
            "case.html",
            case=got.case,
            view=got.private_view if got.HasField("private_view") else None,
            progress=got.progress if got.HasField("progress") else None,
            issue=next((one for one in self._services.directives.issues() if one.issue_id == got.case.issue_id), None),
            in_clear=disclosure is Disclosure.FULL,
            acts=await self._services.office.possible(asker(person, case_id)),
            steps=list(reversed(own_steps)),
            # A case that has come back has been elsewhere, too.
            asks_elsewhere=any(item.other_bureau for item in got.history),
            unreachable=(),
            event_name=event_name,
            live=live,
        )

    async def _get(self, visit: Visit, case_id: str, disclosure: Disclosure) -> case_pb2.GetCaseResponse:
        person = visit.person
        words: dict[str, Any] = {"private": disclosure, "role": person.role}
        return await self._services.cases.GetCase(
            case_pb2.GetCaseRequest(
                bureau=person.bureau,
                case_id=case_id,
                include_history=True,
                actor=person.actor,
                department=person.department,
                **words,
            ),
            inside(person),
        )

    async def timeline(self, visit: Visit) -> Response:
        """All that was done with the case in every bureau that it went through; asked along its hand-overs."""
        person, case_id = visit.person, visit.request.path_params["case_id"]
        live = live_from(self._services, person.bureau)
        got = await self._get(visit, case_id, Disclosure.MASKED)
        calendar = self._services.office.place.calendar
        tracked = await self._services.referrals.Track(
            referral_pb2.TrackRequest(bureau=person.bureau, case_id=case_id, whole=True), inside(person)
        )
        # In the order of the hand-overs: of what happened at one instant, an earlier bureau's came before.
        segments = sorted(tracked.segments, key=lambda segment: segment.epoch)
        steps = [
            step
            for segment in segments
            for step in self._steps(
                segment.bureau, got.history if segment.bureau == person.bureau else segment.history, calendar
            )
        ]
        # Of what happened at one instant, the last entry comes first, too.
        steps.sort(key=lambda step: step.at)
        steps.reverse()
        return visit.page(
            "timeline.html",
            case=got.case,
            steps=steps,
            asks_elsewhere=False,
            unreachable=[*filter(None, (tracked.unreachable,)), *tracked.more_unreachable],
            event_name=event_name,
            live=live,
        )

    @staticmethod
    def _steps(bureau: str, history: Iterable[case_pb2.HistoryItem], calendar: WorkingCalendar) -> list[Step]:
        steps: list[Step] = []
        began: datetime | None = None
        for item in history:
            at = instant(item.occurred_at)
            # A case that comes again begins a segment of its own here.
            if began is None or item.event == "received":
                began = at
            steps.append(
                Step(
                    bureau=bureau,
                    at=at,
                    item=item,
                    workdays=calendar.elapsed_workdays(began, max(at, began)),
                )
            )
        return steps

    async def file(self, visit: Visit) -> Response:
        """The content of a file, to be kept and not shown: what it holds is the taxpayer's, not ours."""
        person, params = visit.person, visit.request.path_params
        case = await self._services.office.read_case(person.bureau, params["case_id"])
        files = await asyncio.to_thread(queries.attachments_of, self._services.office.ledger.database, case)
        # Under the name that the ledger has, whatever an address says.
        name = next((file.name for file in files if file.digest == params["digest"]), params["digest"])
        words: dict[str, Any] = {"role": person.role}
        pieces = self._services.cases.ReadAttachment(
            case_pb2.ReadAttachmentRequest(
                bureau=person.bureau,
                case_id=params["case_id"],
                digest=params["digest"],
                actor=person.actor,
                department=person.department,
                **words,
            ),
            inside(person),
        )
        # The first piece is asked for here, so that a refusal is answered as one.
        first = await anext(aiter(pieces), None)

        async def content() -> AsyncIterator[bytes]:
            if first is not None:
                yield first.data
            async for piece in pieces:
                yield piece.data

        return StreamingResponse(
            content(),
            HTTPStatus.OK,
            {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"},
            "application/octet-stream",
        )
