"""A service's web pages: routes, templates in both languages, stepping in, and refusals that say what to do.

A page is a function of a `Visit`. It works without scripts; with them, htmx puts its answers into a part of the page.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import jinja2
import structlog
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.people import Person
from kuaixiang.accounts.sessions import Session, Sessions, session_of
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockKind,
    Custody,
    DuplicateReason,
    Light,
    ReferralKind,
    Role,
    Satisfaction,
    Stage,
    Telling,
)
from kuaixiang.runtime import tracing
from kuaixiang.runtime.limits import DEFAULT_PAGE_LIMITS, PageAllowance, whole_seconds
from kuaixiang.runtime.server import NOT_NOW, as_refusal
from kuaixiang.web import language as languages
from kuaixiang.web.door import ADDRESS, CAPACITY, Door, Reach
from kuaixiang.web.guard import SAFE, Hardened, NotOurForm
from kuaixiang.web.language import Language, Words, language_of
from kuaixiang.web.people import SignIn
from kuaixiang.web.words import SHARED
from kuaixiang.wire.codec import instant
from kuaixiang.wire.errors import HTTP_OF

ASSETS: Final = Path(__file__).parent / "assets"
TEMPLATES: Final = Path(__file__).parent / "templates"
LANGUAGE_COOKIE: Final = "kx-language"
LANGUAGE_SECONDS: Final = 400 * 24 * 3600
FIELDS_MAX: Final = 1_200
"""Fields of one form: a bulk act names at most 500 cases, each with the version that was looked at."""
BY_ITSELF: Final = "kx-by-itself"
"""The header of what a page asks again without anybody having pressed anything. What it asks while somebody types says
`TYPING`: then somebody is there."""
TYPING: Final = "typing"

NAMED: Final[Mapping[str, type[IntEnum]]] = {
    "stage_name": Stage,
    "custody_name": Custody,
    "clock_name": ClockKind,
    "category_name": Category,
    "channel_name": Channel,
    "role_name": Role,
    "reason_name": DuplicateReason,
    "satisfaction_name": Satisfaction,
    "telling_name": Telling,
    "referral_kind_name": ReferralKind,
    "light_name": Light,
}
"""Functions of the templates that name a word by its number on the wire."""

_log: Final = structlog.get_logger(__name__)


class NoSuchPage(Refused):
    """An address that is none of ours."""

    condition = Condition.MISSING
    remedy = "Go back to the first page."
    remedy_chinese = "请返回首页。"

    def __init__(self) -> None:
        super().__init__("There is no such page.", "没有这个页面。")


class CannotBeRead(Refused):
    """What was sent is no form of ours, or not by the method that the page takes."""

    condition = Condition.INVALID
    remedy = "Load the page again and repeat what you did."
    remedy_chinese = "请刷新页面后重新操作。"

    def __init__(self) -> None:
        super().__init__("What was sent cannot be read.", "提交的内容无法读取。")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request by somebody who has stepped in."""

    request: Request
    session: Session
    language: Language
    console: "Console"

    @property
    def person(self) -> Person:
        """Who asks."""
        return self.session.person

    @property
    def is_part(self) -> bool:
        """Whether only a part of the page is wanted: htmx says so, a browser that loads the page does not."""
        return _is_part(self.request)

    async def form(self) -> FormData:
        """The form that was sent, ours for certain. Raises `NotOurForm`."""
        form = await self.request.form(max_fields=FIELDS_MAX)
        if not self.session.is_form_of(str(form.get("csrf", ""))):
            raise NotOurForm
        try:
            for _, value in form.multi_items():
                str(value).encode()
        except UnicodeEncodeError:
            # A half of a character, which no browser sends, can be stored nowhere.
            raise NotOurForm from None
        return form

    def to(self, address: str) -> Response:
        """Go on to another page of this service, with the whole browser."""
        if self.request.headers.get("hx-request"):
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": address})
        return RedirectResponse(address, HTTPStatus.SEE_OTHER)

    def page(self, template: str, *, refusal: Refused | None = None, **values: Any) -> Response:
        """A page of the template; with `refusal` it tells what was refused, and has its status."""
        return self.console.page(self.request, template, self.session, refusal=refusal, **values)


Page = Callable[[Visit], Awaitable[Response]]


class Console:
    """The pages of one service.

    `name` tells its cookies from those of the other services on the same host; `home` is its first page. `now` is
    business time, which deadlines on the pages are shown against. `assets` is a folder of what this service's pages
    need beyond the shared scripts and styles. With `officers` people sign in; without, those whom `sign_in` knows step
    in. `reach` says from where.
    """

    def __init__(
        self,
        *,
        name: str,
        templates: Path,
        words: Mapping[str, str],
        sign_in: SignIn,
        now: Callable[[], datetime],
        common: Mapping[str, Any] | None = None,
        assets: Path | None = None,
        officers: Officers | None = None,
        reach: Reach = Reach(),  # noqa: B008 - frozen
    ) -> None:
        self._cookie = f"kx-{name}"
        self._sign_in = sign_in
        self._sessions = Sessions()
        self.reach = reach
        self._door = (
            None if officers is None else Door(name=name, officers=officers, reach=reach, render=self.page, local=local)
        )
        self.allowance = PageAllowance(DEFAULT_PAGE_LIMITS, time.monotonic)
        """What one session may ask; whoever serves the pages puts one of other limits here."""
        self.words = Words(SHARED, words)
        self.ending = asyncio.Event()
        """Set when the pages are served no longer: what streams to them ends then."""
        self._common = {"now": now, **(common or {})}
        loader = jinja2.FileSystemLoader([templates, TEMPLATES])
        self._environments = {language: self._environment(loader, language) for language in Language}
        self._assets = {ASSETS: "/assets"} | ({assets: "/assets/own"} if assets is not None else {})
        self._addresses = {
            file.name: f"{place}/{file.name}?{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
            for folder, place in self._assets.items()
            for file in folder.iterdir()
            if file.is_file()
        }

    # ------------------------------------------------------------ the application

    def application(self, routes: Sequence[BaseRoute]) -> Starlette:
        """The ASGI application of these routes, which `route` makes, and of what all pages have."""
        shared: list[BaseRoute] = [
            # The longer address first: the first that fits answers.
            *(Mount(place, StaticFiles(directory=folder)) for folder, place in reversed(self._assets.items())),
            *(
                [Route("/step-in", self._step_in, methods=["GET", "POST"])]
                if self._door is None
                else self._door.routes(lambda path, page: self.route(path, page, "GET", "POST"))
            ),
            Route("/language/{language}", self._choose_language),
            self.route("/step-out", self._step_out, "POST"),
        ]
        app = Starlette(
            routes=[*shared, *routes],
            middleware=[Middleware(Hardened, refuse=self._refused, enter=self._enter, hosts=self.reach.hosts)],
            exception_handlers={HTTPException: self._no_page, Refused: self._refused},
        )
        app.state.served = self
        return app

    def route(self, path: str, page: Page, *methods: str, by_itself: bool = False) -> Route:
        """A route for somebody who has stepped in; everybody else is led to where one does.

        `by_itself`: browsers ask for it without anybody having pressed anything.
        """

        async def answer(request: Request) -> Response:
            asks_itself = by_itself or BY_ITSELF in request.headers
            touch = not asks_itself or request.headers.get(BY_ITSELF) == TYPING
            session = self._session_of(request, touch=touch)
            if session is None:
                # A page that asks by itself is left as it is: somebody may be typing into it.
                return Response(status_code=HTTPStatus.NO_CONTENT) if asks_itself else await self._to_step_in(request)
            visit = Visit(request, session, self._language(request), self)
            try:
                if request.method not in SAFE:
                    await visit.form()
                return await page(visit)
            except (Refused, *NOT_NOW) as refusal:
                return self.refusal(request, as_refusal(refusal), session)
            except HTTPException:
                raise
            except Exception:  # noqa: BLE001 - a fault of ours: logged here, its text kept from the page
                # Not the address: what stands in it is nobody's business, and the trace says which page it was.
                _log.exception("A page failed by a fault of this service.", action="web.fault")
                return self.page(request, "fault.html", session, status=HTTPStatus.INTERNAL_SERVER_ERROR)
            finally:
                # Files that came with a form.
                await request.close()

        return Route(path, answer, methods=list(methods) or ["GET"])

    def stands(self, visit: Visit) -> bool:
        """Whether the visit's session is still there: a stream ends with it."""
        return self._session_of(visit.request, touch=False) is visit.session

    def _session_of(self, request: Request, *, touch: bool) -> Session | None:
        """Who asks, if he has signed in or stepped in, and is somebody here still."""
        if self._door is not None:
            return self._door.session_of(request, touch=touch)
        session = self._sessions.of(request.cookies.get(self._cookie, ""), touch=touch)
        # Whoever has been struck off the list since is nobody here any more.
        return session if session is not None and self._sign_in.knows(session.person) else None

    def knows(self, request: Request) -> bool:
        """Whether who asks has signed in or stepped in."""
        return self._session_of(request, touch=False) is not None

    @staticmethod
    def is_asked(request: Request) -> bool:
        """Whether somebody has asked for it, and not a page by itself, for what has changed, a script or a style."""
        by_itself = (
            request.headers.get(BY_ITSELF, TYPING) != TYPING or request.headers.get("accept") == "text/event-stream"
        )
        return not by_itself and not request.url.path.startswith("/assets/")

    def caller(self, request: Request) -> str:
        """In whose name a request is counted: of a session's, or of the address that has none."""
        session = self._session_of(request, touch=False)
        return f"session {session.csrf}" if session is not None else f"address {self.reach.address_of(request)}"

    def _enter(self, request: Request) -> None:
        """Raises `TooManyCalls`."""
        self.allowance.enter(self.caller(request))

    # ------------------------------------------------------------ answers

    def page(
        self,
        request: Request,
        template: str,
        session: Session | None,
        *,
        status: int = HTTPStatus.OK,
        refusal: Refused | None = None,
        **values: Any,
    ) -> Response:
        """A page of the template, in the language of whoever asks; with a refusal, of its status."""
        known = {
            "session": session,
            "person": session.person if session is not None else None,
            "path": request.url.path,
            "here": _address_of(request),
            "refusal": refusal,
            "signs_in": self._door is not None,
            "capacity_address": CAPACITY,
        }
        with tracing.part("render page", {"kx.template": template}):
            # Compiled the first time that it is used, which takes longer than all that comes after.
            body = self._environments[self._language(request)].get_template(template)
            answer = HTMLResponse(body.render(**self._common | known | values), status_code=status)
        if refusal is not None:
            tracing.say_refused(refusal)
            answer.status_code = HTTP_OF[refusal.condition]
            if refusal.condition in {Condition.BUSY, Condition.LIMIT}:
                answer.headers["Retry-After"] = str(whole_seconds(refusal.retry_seconds))
        return answer

    def refusal(self, request: Request, refusal: Refused, session: Session | None) -> Response:
        """A refusal as a page, or as a part of one."""
        template = "_refusal.html" if _is_part(request) else "refused.html"
        return self.page(request, template, session, refusal=refusal)

    # ------------------------------------------------------------ inside

    def _environment(self, loader: jinja2.BaseLoader, language: Language) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )

        def one(english: str) -> str:
            return self.words.translated(english, language)

        def several(single: str, plural: str, count: int) -> str:
            return one(single if count == 1 else plural)

        environment.install_gettext_callables(one, several, newstyle=True)  # type: ignore[attr-defined]
        environment.filters |= {
            "word": lambda value: languages.word(value, language),
            "say": lambda both: languages.say(Both(*both), language),
            "field": lambda field: languages.field_name(field, language),
            "day": lambda at: languages.shown_day(at, language),
            "due": lambda at: languages.shown_due(at, language),
            "at": instant,
            "instant": languages.shown_instant,
            "plain": str,
        }
        environment.globals |= {
            **{name: _named(kind, language) for name, kind in NAMED.items()},
            "language": language,
            "languages": tuple(Language),
            "asset": self._asset,
            "chinese": languages.Name,
            "Role": Role,
            "refused_in": lambda refusal: (
                (refusal.chinese, refusal.remedy_chinese)
                if language is Language.CHINESE
                else (str(refusal), refusal.remedy)
            ),
        }
        return environment

    def _asset(self, file: str) -> str:
        """The address of an asset, which changes with its content, so that no browser keeps an old one."""
        return self._addresses[file]

    @staticmethod
    def _language(request: Request) -> Language:
        return language_of(request.cookies.get(LANGUAGE_COOKIE))

    async def _to_step_in(self, request: Request) -> Response:
        if self._door is not None and request.method not in SAFE:
            return await self._door.ended(request, is_part=bool(request.headers.get("hx-request")))
        door = "/step-in" if self._door is None else ADDRESS
        if request.headers.get("hx-request"):
            # A part of a page cannot hold the page where one steps in: the whole browser goes there.
            return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": door})
        wanted = _address_of(request)
        to = f"?to={quote(wanted, safe='')}" if request.method in SAFE and wanted != "/" else ""
        return RedirectResponse(f"{door}{to}", HTTPStatus.SEE_OTHER)

    async def _step_in(self, request: Request) -> Response:
        """Where somebody steps in. Only the demonstration has people who may without a password."""
        people = list(self._sign_in.people())
        if request.method == "POST":
            form = await request.form(max_fields=FIELDS_MAX)
            wanted = tuple(str(form.get(name, "")) for name in ("bureau", "actor", "department", "role"))
            for person in people:
                if wanted == (person.bureau, person.actor, person.department, person.role.name):
                    answer = RedirectResponse(local(str(form.get("to", "/"))), HTTPStatus.SEE_OTHER)
                    token = await self._sessions.begin(session_of(person))
                    answer.set_cookie(self._cookie, token, httponly=True, samesite="strict")
                    return answer
        shown = request.query_params.get("bureau", people[0].bureau if people else "")
        return self.page(
            request,
            "step_in.html",
            None,
            people=[person for person in people if person.bureau == shown],
            bureaus=sorted({person.bureau for person in people}),
            shown=shown,
            to=local(request.query_params.get("to", "/")),
        )

    async def _step_out(self, visit: Visit) -> Response:
        if self._door is not None:
            return await self._door.out(visit.request)
        await self._sessions.end(visit.request.cookies.get(self._cookie, ""))
        answer = RedirectResponse("/step-in", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(self._cookie, httponly=True, samesite="strict")
        return answer

    async def _choose_language(self, request: Request) -> Response:
        answer = RedirectResponse(local(request.query_params.get("to", "/")), HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            LANGUAGE_COOKIE,
            language_of(request.path_params["language"]),
            max_age=LANGUAGE_SECONDS,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def _refused(self, request: Request, error: Exception) -> Response:
        return self.refusal(request, as_refusal(error), None)

    async def _no_page(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
        refusal = NoSuchPage() if status == HTTPStatus.NOT_FOUND else CannotBeRead()
        answer = self.refusal(request, refusal, self._session_of(request, touch=True))
        answer.status_code = status
        return answer


def _is_part(request: Request) -> bool:
    return request.headers.get("hx-request-type", "") == "partial"


def _address_of(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _named(kind: type[IntEnum], language: Language) -> Callable[[int], str]:
    return lambda number: languages.word(languages.known(kind, int(number)), language) if number else ""


def local(address: str) -> str:
    """An address of this very site; its first page for one of another, which a link from outside may name."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc
    return address if safe else "/"
