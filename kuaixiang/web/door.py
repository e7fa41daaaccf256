"""Where officers sign in at a service's pages: by password or identity provider, choosing a capacity, going on after.

A form that is sent when the session has ended is kept in the page where one signs in again, and offered once more: a
text of a quarter of an hour is not lost to a break.
"""

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.sessions import Session
from kuaixiang.accounts.store import TOKEN_BYTES
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.sign_in import (
    PASSWORD_CHARACTERS_MAX,
    PASSWORD_CHARACTERS_MIN,
    NewPasswordNeeded,
    NotSignedIn,
    PasswordUnfit,
)
from kuaixiang.web.guard import NotOurForm

ADDRESS: Final = "/sign-in"
CAPACITY: Final = "/capacity"
FORM_FIELDS_MAX: Final = 12
"""Fields of the form in which one signs in."""
KEPT_CHARACTERS_MAX: Final = 1_000_000
"""Of a form that is kept while its officer signs in again: half of what a form may have."""
FLOW_COOKIE_SECONDS: Final = 600
KEPT_FIELDS_MAX: Final = 1_200
BUREAUS_LISTED_MAX: Final = 20
"""Bureaus among which one chooses; where there are more one types the code."""

NOT_KEPT: Final = frozenset({"csrf", "password", "new_password"})

Render = Callable[..., Response]
"""The console's `page`."""


@dataclass(frozen=True, slots=True)
class Reach:
    """From where pages are reached. `hosts` are names besides this machine's own; `secure`: browsers come by TLS."""

    hosts: frozenset[str] = frozenset()
    secure: bool = False
    behind_proxy: bool = False

    def address_of(self, request: Request) -> str:
        """Who asks, for counting wrong passwords: what the proxy says where there is one, else the other end."""
        if self.behind_proxy:
            # The last one is what the proxy has seen itself; those before it anybody can write.
            said = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            if said:
                return said
        return request.client.host if request.client is not None else ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A form that was sent when the session had ended: where to, and what was in it."""

    to: str
    fields: tuple[tuple[str, str], ...]

    @property
    def packed(self) -> str:
        """As a hidden field holds it."""
        return json.dumps([self.to, self.fields], ensure_ascii=False)


def kept_of(to: str, form: FormData) -> Kept | None:
    """What of a form can be kept: its texts. None where there is nothing, or too much."""
    fields = tuple(
        (name, value) for name, value in form.multi_items() if isinstance(value, str) and name not in NOT_KEPT
    )
    kept = Kept(to, fields)
    return kept if fields and len(kept.packed) <= KEPT_CHARACTERS_MAX else None


def kept_in(packed: str) -> Kept | None:
    """What a hidden field holds; None for what no page of ours has written."""
    if not packed or len(packed) > KEPT_CHARACTERS_MAX:
        return None
    try:
        to, fields = json.loads(packed)
        pairs = tuple((str(name), str(value)) for name, value in fields)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(to, str) or len(pairs) > KEPT_FIELDS_MAX:
        return None
    return Kept(to, tuple(pair for pair in pairs if pair[0] not in NOT_KEPT))


class Door:
    """The pages of signing in. `name` is the console's, `local` keeps addresses on this site."""

    def __init__(
        self, *, name: str, officers: Officers, reach: Reach, render: Render, local: Callable[[str], str]
    ) -> None:
        self.cookie = f"__Host-kx-{name}" if reach.secure else f"kx-{name}"
        self._form_cookie = f"{self.cookie}-form"
        self._flow_cookie = f"{self.cookie}-flow"
        self._officers = officers
        self._reach = reach
        self._render = render
        self._local = local

    def routes(self, guarded: Callable[[str, Callable[[Any], Awaitable[Response]]], BaseRoute]) -> list[BaseRoute]:
        """The routes; `guarded` makes one for who has signed in, by either method."""
        with_provider: list[BaseRoute] = (
            []
            if self._officers.provider is None
            else [Route(f"{ADDRESS}/provider", self._to_provider), Route(f"{ADDRESS}/back", self._back)]
        )
        shared: list[BaseRoute] = [Route(ADDRESS, self._answer, methods=["GET", "POST"])]
        return [*with_provider, *shared, guarded(CAPACITY, self._capacity)]

    # ------------------------------------------------------------ who is there

    def session_of(self, request: Request, *, touch: bool) -> Session | None:
        """Who asks, if he has signed in."""
        return self._officers.session_of(request.cookies.get(self.cookie, ""), touch=touch)

    def set_cookie(self, answer: Response, token: str) -> Response:
        """The answer, with the session's token for the browser to keep."""
        answer.set_cookie(self.cookie, token, httponly=True, samesite="strict", secure=self._reach.secure)
        return answer

    async def out(self, request: Request) -> Response:
        """Ends the session, and shows where one signs in."""
        await self._officers.sign_out(request.cookies.get(self.cookie, ""))
        answer = RedirectResponse(f"{ADDRESS}?out=1", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(self.cookie, httponly=True, samesite="strict", secure=self._reach.secure)
        return answer

    # ------------------------------------------------------------ the identity provider

    async def _to_provider(self, request: Request) -> Response:
        """Sends the browser to the provider, with a cookie by which it is known when it comes back."""
        provider = self._officers.provider
        assert provider is not None  # noqa: S101 - the route is there where the provider is
        to = self._local(request.query_params.get("to", "/"))
        browser = secrets.token_urlsafe(TOKEN_BYTES)
        try:
            address = await provider.begin(browser, to)
        except Refused as refusal:
            return await self._page(request, to=to, refusal=refusal)
        answer = RedirectResponse(address, HTTPStatus.SEE_OTHER)
        # Lax: the way back begins at another site.
        answer.set_cookie(
            self._flow_cookie,
            browser,
            max_age=FLOW_COOKIE_SECONDS,
            httponly=True,
            samesite="lax",
            secure=self._reach.secure,
        )
        return answer

    async def _back(self, request: Request) -> Response:
        """Signs in whom the provider has sent back."""
        browser = request.cookies.get(self._flow_cookie, "")
        try:
            token, session, to = await self._officers.sign_in_by_provider(browser, request.query_params)
        except Refused as refusal:
            answer = await self._page(request, to="/", refusal=refusal)
        else:
            await self._officers.sign_out(request.cookies.get(self.cookie, ""))
            several = len(self._officers.capacities(session.claims)) > 1
            onward = f"{CAPACITY}?to={quote(to, safe='')}" if several else self._local(to)
            # Not a redirect: in one that another site has begun, browsers keep the new cookie back.
            answer = self.set_cookie(
                self._render(request, "signed_in.html", session, onward=onward, here=onward), token
            )
        answer.delete_cookie(self._flow_cookie, httponly=True, samesite="lax", secure=self._reach.secure)
        return answer

    # ------------------------------------------------------------ pages

    async def ended(self, request: Request, *, is_part: bool) -> Response:
        """The answer to a form that was sent without a session: sign in again, nothing of it is lost."""
        kept = kept_of(request.url.path, await request.form(max_fields=KEPT_FIELDS_MAX))
        answer = await self._page(request, to="/", kept=kept, status=HTTPStatus.UNAUTHORIZED)
        if is_part:
            # The part that was asked for, a dialog perhaps, cannot hold the page.
            answer.headers["HX-Retarget"] = "body"
            answer.headers["HX-Reswap"] = "innerHTML"
            # Whatever part of the page the form would have taken out of its answer.
            answer.headers["HX-Reselect"] = ".skip, .bar, main"
        return answer

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return await self._page(request, to=self._local(request.query_params.get("to", "/")))
        form = await request.form(max_fields=FORM_FIELDS_MAX, max_part_size=KEPT_CHARACTERS_MAX * 4)
        given = {name: str(form.get(name, "")) for name in ("bureau", "actor", "to", "kept", "password")}
        kept = kept_in(given["kept"])
        to = self._local(given["to"] or "/")
        try:
            self._check_form(request, str(form.get("form", "")))
            if form.get("signed_in"):
                return self._go_on(request, to, kept)
            new_password = str(form.get("new_password", ""))
            if new_password != str(form.get("new_again", "")):
                raise PasswordUnfit
            token, session = await self._officers.sign_in(
                given["bureau"].strip(),
                given["actor"].strip(),
                given["password"],
                new_password=new_password,
                address=self._reach.address_of(request),
            )
        except Refused as refusal:
            return await self._page(request, to=to, kept=kept, refusal=refusal, given=given)
        # Whoever signs in again in the same browser leaves no session behind.
        await self._officers.sign_out(request.cookies.get(self.cookie, ""))
        return self.welcome(request, token, session, to, kept)

    def welcome(self, request: Request, token: str, session: Session, to: str, kept: Kept | None = None) -> Response:
        """On to where one was going: by way of the choice of a capacity, or of the form that was kept."""
        return self.set_cookie(self._onward(request, session, to, kept), token)

    def _onward(self, request: Request, session: Session, to: str, kept: Kept | None) -> Response:
        if kept is not None and self._local(kept.to) == kept.to:
            return self._render(request, "kept.html", session, kept=kept)
        if len(self._officers.capacities(session.claims)) > 1:
            return RedirectResponse(f"{CAPACITY}?to={quote(to, safe='')}", HTTPStatus.SEE_OTHER)
        return RedirectResponse(to, HTTPStatus.SEE_OTHER)

    def _go_on(self, request: Request, to: str, kept: Kept | None) -> Response:
        """On with the form that was kept for who has signed in in another window. Raises `NotSignedIn`."""
        session = self.session_of(request, touch=True)
        if session is None:
            raise NotSignedIn
        return self._onward(request, session, to, kept)

    async def _capacity(self, visit: Any) -> Response:  # noqa: ANN401 - the console's `Visit`, which imports this
        """In which role, of which department, one works now."""
        people = self._officers.capacities(visit.session.claims)
        request: Request = visit.request
        to = self._local(request.query_params.get("to", "/"))
        if request.method == "POST":
            form = await visit.form()
            for person in people:
                if (person.role.name, person.department) == (form.get("role"), form.get("department")):
                    await self._officers.sessions.change(request.cookies.get(self.cookie, ""), person)
                    return RedirectResponse(self._local(str(form.get("to", "/"))), HTTPStatus.SEE_OTHER)
        return self._render(request, "capacity.html", visit.session, people=people, to=to)

    async def _page(
        self,
        request: Request,
        *,
        to: str,
        kept: Kept | None = None,
        refusal: Refused | None = None,
        given: dict[str, str] | None = None,
        status: int = HTTPStatus.OK,
    ) -> Response:
        given = given or {}
        provider = self._officers.provider
        out = "out" in request.query_params and request.method == "GET"
        token = request.cookies.get(self._form_cookie) or secrets.token_urlsafe(TOKEN_BYTES)
        bureaus = sorted(self._officers.bureaus)
        answer = self._render(
            request,
            "sign_in.html",
            None,
            # Not the address of an answer of the provider, which is good once.
            here=ADDRESS,
            status=status,
            refusal=refusal,
            form=token,
            to=to,
            kept=kept,
            out=out,
            leaving=await provider.leaving() if out and provider is not None else "",
            provider=provider is not None,
            bureaus=bureaus if len(bureaus) <= BUREAUS_LISTED_MAX else (),
            bureau=given.get("bureau", ""),
            actor=given.get("actor", ""),
            takes_passwords=self._officers.takes_passwords,
            new_needed=isinstance(refusal, NewPasswordNeeded | PasswordUnfit),
            password_min=PASSWORD_CHARACTERS_MIN,
            password_max=PASSWORD_CHARACTERS_MAX,
        )
        answer.set_cookie(self._form_cookie, token, httponly=True, samesite="strict", secure=self._reach.secure)
        return answer

    def _check_form(self, request: Request, sent: str) -> None:
        """The form is one that this browser was given: nobody is signed in by another site as somebody else."""
        known = request.cookies.get(self._form_cookie, "")
        if not known or not hmac.compare_digest(known.encode(), sent.encode(errors="replace")):
            raise NotOurForm
