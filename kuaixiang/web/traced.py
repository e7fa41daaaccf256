"""Traces that begin with a request over HTTP: one span around everything that a page or the door for channels does.

Who has been let in, by a session or by a channel's token, may say of which trace his request is, and so that it is
traced: he is known, counted and can be shut out. Of whom nobody knows nothing is believed; his request begins a trace
for the share of requests that do. No span has an address: a path may hold a case's number, a query what is looked for.
"""

from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kuaixiang.runtime.tracing import TRACEPARENT
from kuaixiang.web.guard import SAFE

if TYPE_CHECKING:
    from kuaixiang.runtime.spans import Spans


class Doorkeeper(Protocol):
    """What knows who asks: a `Console`, or the door for channels."""

    def knows(self, request: Request) -> bool:
        """Whether who asks has been let in."""
        ...

    def is_asked(self, request: Request) -> bool:
        """Whether somebody has asked for something, and not a page by itself."""
        ...


class Traced:
    """An application whose requests have spans; `secure`: they come by TLS."""

    def __init__(self, app: ASGIApp, spans: "Spans", doorkeeper: Doorkeeper, *, secure: bool) -> None:
        self._app = app
        self._spans = spans
        self._doorkeeper = doorkeeper
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if not self._doorkeeper.is_asked(request):
            with self._spans.unasked().under_way():
                await self._app(scope, receive, send)
            return
        traceparent = request.headers.get(TRACEPARENT, "")
        if traceparent and not self._doorkeeper.knows(request):
            traceparent = ""
        asked = self._spans.asked(scope["method"], secure=self._secure, traceparent=traceparent)
        waits = scope["method"] not in SAFE

        async def received() -> Message:
            nonlocal waits
            message = await receive()
            if waits and message["type"] == "http.request" and not message.get("more_body", False):
                waits = False
                asked.received()
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.answered(message["status"])
            await send(message)

        with asked.under_way():
            try:
                await self._app(scope, received, told)
            finally:
                route = scope.get("route")
                if route is not None:
                    asked.routed(route.path)
