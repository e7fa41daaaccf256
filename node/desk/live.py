"""What has changed, told to pages that are open: the numbers of cases, over server-sent events. Nothing private.

A page that shows a case, or a list, asks again for the part that shows it. A stream that breaks off loses nothing:
pages are as they were loaded, and browsers begin it again by themselves.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from kuaixiang.runtime.loops import end_tasks
from kuaixiang.web.console import Console, Visit
from kuaixiang.wire.v1 import case_pb2
from node.desk.asking import Services, inside, whole_number

BEAT_SECONDS: Final = 15.0
"""A line at least so often: proxies close what is silent, and a browser that has gone is noticed."""
WAITING_MAX: Final = 1_000
"""Changes that wait for a slow browser; more than that are forgotten, and the next one brings the page up to date."""

_DIGITS: Final = 15
"""Of a position in a journal; whatever is longer is none."""


def live_from(services: Services, bureau: str) -> str:
    """The address of the stream for a page that is about to read: what changes before it listens is told then."""
    return f"/live?from={services.office.ledger.heads[bureau].seq + 1}"


def routes(console: Console, services: Services) -> list[Route]:
    """The stream of changes."""

    async def live(visit: Visit) -> Response:
        caller = console.caller(visit.request)
        console.allowance.begin_stream(caller)
        # Given back here and not by the stream itself: one whose browser has gone at once never begins.
        return Ending(_changes(visit, services), lambda: console.allowance.end_stream(caller))

    return [console.route("/live", live, by_itself=True)]


class Ending(StreamingResponse):
    """A stream of events, and what is to be done when it has ended, however it did."""

    def __init__(self, events: AsyncIterator[str], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _changes(visit: Visit, services: Services) -> AsyncIterator[str]:
    waiting: asyncio.Queue[str] = asyncio.Queue(WAITING_MAX)

    def put(case_id: str) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            waiting.put_nowait(case_id)

    # A page that comes back after long is read anew anyway: it needs no more than what has just happened.
    seq = services.office.ledger.heads[visit.person.bureau].seq
    asked = whole_number(visit.request.query_params.get("from", ""), _DIGITS)
    from_seq = max(asked, seq - WAITING_MAX, 1) if asked else 0

    async def watch() -> None:
        request = case_pb2.WatchCasesRequest(bureau=visit.person.bureau, from_seq=from_seq)
        async for change in services.cases.WatchCases(request, inside(visit.person)):
            put(change.case_id)

    watching = asyncio.create_task(watch())
    ending = asyncio.create_task(visit.console.ending.wait())
    ending.add_done_callback(lambda _: put(""))
    forget = services.office.heard.listen(visit.person.bureau, put)
    try:
        yield "retry: 2000\n\n"
        while not watching.done() and not ending.done() and visit.console.stands(visit):
            try:
                case_id = await asyncio.wait_for(waiting.get(), BEAT_SECONDS)
            except TimeoutError:
                yield ": \n\n"
                continue
            if case_id:
                yield f"event: changed\ndata: {case_id}\n\n"
    finally:
        forget()
        await end_tasks((watching, ending))
