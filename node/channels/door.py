"""The door for channels 渠道: programs that register requests and ask how they go, each with a token of a bureau.

Behind it are the same services that gRPC and the pages ask, under the same rule: the gate says what a token allows, the
table of authority and the service itself hold the call to it. The interfaces (`case_api`, `open311`) say how a question
is asked and answered; this file says who may ask, and how much.
"""

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.tokens import PREFIX
from kuaixiang.domain.authority import Caller, ChannelToken
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.sign_in import SignInEnded
from kuaixiang.runtime import tracing
from kuaixiang.runtime.limits import (
    DEFAULT_PAGE_LIMITS,
    Allowance,
    Buckets,
    CallLimits,
    PageAllowance,
    TooManyCalls,
    whole_seconds,
)
from kuaixiang.runtime.server import NOT_NOW, Inside, as_refusal
from kuaixiang.web.door import Reach
from kuaixiang.web.guard import Hardened
from kuaixiang.wire.errors import HTTP_OF
from node.desk.asking import Services

BODY_BYTES_MAX: Final = 256 * 1024
"""The longest text and note, each character escaped as JSON and forms do it, and what stands around them."""
CHALLENGE: Final = 'Bearer realm="kuaixiang"'

REQUESTS: Final = Counter(
    "kx_channel_requests_total",
    "Requests at the door for channels, by interface (json, open311) and HTTP status.",
    ["interface", "status"],
)

_log: Final = structlog.get_logger(__name__)


class TokenNeeded(Refused):
    """A program asks without saying who it is."""

    condition = Condition.UNAUTHENTICATED
    remedy = "Send the token that the bureau has issued to the channel: `Authorization: Bearer kx-channel-…`."
    remedy_chinese = "请附上受理单位签发给本渠道的令牌：Authorization: Bearer kx-channel-…。"

    def __init__(self) -> None:
        super().__init__("No token came with the request.", "请求未附令牌。")


class NoSuchAddress(Refused):
    """An address that is none of the interfaces', or asked by a method that it does not take."""

    condition = Condition.MISSING
    remedy = "The addresses are in /v1/openapi.json and /open311/v2/discovery.json."
    remedy_chinese = "接口地址见 /v1/openapi.json 与 /open311/v2/discovery.json。"

    def __init__(self) -> None:
        super().__init__("Nothing is asked in this way here.", "没有这个接口。")


class CannotAnswer(Refused):
    """A fault of this service; what it was stands in the log."""

    condition = Condition.BUSY
    remedy = "Nothing is known lost: ask again, a registration under the same key or reference."
    remedy_chinese = "未发现数据丢失：请重试，登记请使用同一请求标识或渠道编号。"

    def __init__(self) -> None:
        super().__init__("The service failed; the fault is in its log.", "服务发生故障，已记入日志。")


class Interface(Protocol):
    """How an interface tells a refusal."""

    name: str

    def refused(self, request: Request, refusal: Refused, status: HTTPStatus | None = None) -> Response:
        """The answer that says what is wrong; of that status where the refusal's own would not be true."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """One request at the door, and what came with it to say who asks."""

    door: "Door"
    request: Request
    secret: str

    async def ask(self, rpc: str, make: Callable[[ChannelToken], Any]) -> Any:  # noqa: ANN401 - the RPC's own answer
        """Asks CaseService what `make` makes for the token; raises what the gate, the limits and the service raise."""
        return await self.door.ask(self.secret, rpc, make)


class Door:
    """Lets channels' programs ask a node's services. For the event loop's thread."""

    def __init__(self, services: Services, officers: Officers, reach: Reach, limits: CallLimits) -> None:
        self.services = services
        self.reach = reach
        self.allowance = PageAllowance(DEFAULT_PAGE_LIMITS, time.monotonic)
        """What an address may ask that brings no token; whoever serves this puts one of other limits here."""
        self.ending = asyncio.Event()
        self._officers = officers
        self._tokens = Allowance(limits, time.monotonic)
        self._requests = Buckets(limits.token_calls_per_second, time.monotonic)
        """Requests of each token, whatever becomes of them: of some nothing is asked of a service."""
        self._interfaces: dict[str, Interface] = {}

    @property
    def bureaus(self) -> frozenset[str]:
        """The bureaus whose ledgers are behind this door."""
        return self._officers.bureaus

    def application(self, routes: Sequence[BaseRoute]) -> Starlette:
        """The ASGI application of these routes, which `route` makes."""
        app = Starlette(
            routes=routes,
            middleware=[
                Middleware(
                    Hardened,
                    refuse=self._turned_away,
                    enter=self._enter,
                    hosts=self.reach.hosts,
                    form_bytes_max=BODY_BYTES_MAX,
                )
            ],
            exception_handlers={HTTPException: self._no_address, Refused: self._turned_away},
        )
        app.state.served = self
        return app

    def knows(self, request: Request) -> bool:
        """Whether a good token came with the request."""
        return self._is_known(secret_of(request))

    @staticmethod
    def is_asked(_: Request) -> bool:
        """Whether somebody has asked: a program does nothing else here."""
        return True

    def route(
        self, path: str, interface: Interface, answer: Callable[[Asking], Awaitable[Response]], method: str = "GET"
    ) -> Route:
        """A route of an interface."""

        async def answered(request: Request) -> Response:
            response = await self._answer(request, interface, answer)
            REQUESTS.labels(interface.name, str(response.status_code)).inc()
            return response

        route = Route(path, answered, methods=[method])
        # Whoever is turned away before the route is reached is told in its interface's own words.
        self._interfaces[path.split("/")[1]] = interface
        return route

    async def _answer(
        self, request: Request, interface: Interface, answer: Callable[[Asking], Awaitable[Response]]
    ) -> Response:
        try:
            return await answer(Asking(self, request, secret_of(request)))
        except (Refused, *NOT_NOW) as refusal:
            refused = as_refusal(refusal)
            tracing.say_refused(refused)
            return interface.refused(request, refused)
        except HTTPException:
            raise
        except Exception:  # noqa: BLE001 - a fault of ours: logged here, its text kept from the answer
            _log.exception("A channel's request failed by a fault of this service.", action="channels.fault")
            return interface.refused(request, CannotAnswer(), HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            await request.close()

    async def ask(self, secret: str, rpc: str, make: Callable[[ChannelToken], Any]) -> Any:  # noqa: ANN401 - see above
        """Asks CaseService in the name of a token. Raises `TokenNeeded`, `SignInEnded`, `TooManyCalls` and more."""
        async with self.entered(secret, rpc) as (caller, token):
            message = make(token)
            self.check(caller, message)
            return await getattr(self.services.cases, rpc)(message, Inside(caller))

    @contextlib.asynccontextmanager
    async def entered(self, secret: str, rpc: str) -> AsyncIterator[tuple[Caller, ChannelToken]]:
        """Lets in who brings a token, for the time of one call; raises as `ask`."""
        self.check_token(secret)
        caller = await self._officers.admit(Caller(offices=self.bureaus), rpc, f"Bearer {secret}")
        assert caller.token is not None  # noqa: S101 - the gate has taken it for one
        whose = _digest(secret)
        with self._tokens.entered(whose, whose, streams=False):
            yield caller, caller.token

    def check_token(self, secret: str) -> None:
        """Who asks has brought a token that is good, for whatever; raises `TokenNeeded`, `SignInEnded`."""
        if not secret:
            raise TokenNeeded
        if not self._is_known(secret):
            raise SignInEnded

    def check(self, caller: Caller, message: Any) -> None:  # noqa: ANN401 - any request
        """Whoever a message says acts is who came with the token; raises `Refused`."""
        self._officers.check(caller, message)

    def _enter(self, request: Request) -> None:
        """Counts a request of a good token, else of an address; raises `TooManyCalls`."""
        secret = secret_of(request)
        if not self._is_known(secret):
            self.allowance.enter(self.reach.address_of(request))
        elif wait := self._requests.take(_digest(secret)):
            raise TooManyCalls(self._requests.per_second, wait, "token_rate")

    def _is_known(self, secret: str) -> bool:
        tokens = self._officers.tokens
        if tokens is None or not secret.startswith(PREFIX):
            # An officer's sign-in is for terminals and pages.
            return False
        try:
            tokens.use(secret)
        except SignInEnded:
            return False
        return True

    async def _turned_away(self, request: Request, error: Exception) -> Response:
        return self._counted(request, as_refusal(error))

    async def _no_address(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - what this is registered for
        response = self._counted(request, NoSuchAddress(), HTTPStatus(error.status_code))
        for header, value in (error.headers or {}).items():
            response.headers[header] = value
        return response

    def _counted(self, request: Request, refusal: Refused, status: HTTPStatus | None = None) -> Response:
        part = request.url.path.partition("/")[2].partition("/")[0]
        interface = self._interfaces.get(part) or next(iter(self._interfaces.values()))
        tracing.say_refused(refusal)
        response = interface.refused(request, refusal, status)
        REQUESTS.labels(interface.name, str(response.status_code)).inc()
        return response


def secret_of(request: Request) -> str:
    """The token that came with a request: as Bearer, as the password of Basic, else as the argument `api_key`."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return ""
        return password or user
    return request.query_params.get("api_key", "")


def headers_of(refusal: Refused) -> dict[str, str]:
    """What the head of a refusal's answer says besides: how to say who asks, when to ask again."""
    if refusal.condition is Condition.UNAUTHENTICATED:
        return {"WWW-Authenticate": CHALLENGE}
    if refusal.condition in {Condition.BUSY, Condition.LIMIT}:
        return {"Retry-After": str(whole_seconds(refusal.retry_seconds))}
    return {}


def status_of(refusal: Refused) -> HTTPStatus:
    """The status of a refusal, by the one table."""
    return HTTP_OF[refusal.condition]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
