"""The stage as a web application: what it shows, and the few things that may be asked of it.

Nobody steps in here. Whoever is at this machine may look and act; pages of other sites may not: a form carries a token
that only our pages know, its origin must be ours, and a host name that is not this machine's is refused.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from demo.federation import Service, State
from demo.picture import HEADINGS, KINDS, STATES, BureauSeen, Heading, Move, Sight, code_and_place
from demo.processes import free_port
from demo.stage.controls import Controls, Deed
from demo.stage.drawing import BOX_HEIGHT, BOX_WIDTH, drawn, traffic
from demo.stage.words import CHINESE
from kuaixiang.accounts.people import Person
from kuaixiang.accounts.store import TOKEN_BYTES
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import short_name
from kuaixiang.web.console import FIELDS_MAX, Console
from kuaixiang.web.guard import NotOurForm
from kuaixiang.web.serving import serving_pages

FOLDER: Final = Path(__file__).parent
HOST: Final = "127.0.0.1"

LOOK_SECONDS: Final = 0.5
"""Between two looks at the federation, and so between two changes that a page is told of."""

ALIVE_SECONDS: Final = 15.0
"""Without a change, a page is told so often that somebody is there."""

PARTS: Final = frozenset({"people", "tree", "ledgers", "lists", "controls"})
"""Of the page, each asked for again when something has changed."""
MOVES_SHOWN: Final = 10
HAPPENINGS_MAX: Final = 50
HAPPENINGS_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that has befallen the federation."""

    number: int
    at: datetime
    what: Both


@dataclass(frozen=True, slots=True)
class Look:
    """The federation as it was seen at one instant; another one is another picture."""

    minute: str
    bureaus: tuple[BureauSeen, ...]
    hub_up: bool
    cut: tuple[str, ...]
    moves: tuple[Move, ...]
    happenings: int
    controls_open: bool


class Nobody:
    """The stage has no officers."""

    def knows(self, person: Person) -> bool:
        """Whether the person is somebody here."""
        return person in self.people()

    def people(self) -> Sequence[Person]:
        """None."""
        return ()


class Stage:
    """The stage of a federation; as an asynchronous context manager it is served for the time of the block.

    `calendar` says when bureaus open. The controls are closed until `controls.open()`.
    """

    def __init__(self, sight: Sight, calendar: WorkingCalendar) -> None:
        self._sight = sight
        self._federation = sight.federation
        self.controls = Controls(sight.federation, calendar)
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}/"
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._drawing = drawn(sight.federation.tree)
        self._happenings: deque[Happening] = deque(maxlen=HAPPENINGS_MAX)
        self._count = 0
        self._resources = contextlib.AsyncExitStack()
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted((FOLDER / "assets").iterdir())))
        self._console = Console(
            name="stage",
            templates=FOLDER / "templates",
            words=CHINESE,
            sign_in=Nobody(),
            now=sight.federation.clock.now,
            common={
                "product": "Stage",
                "demonstration": True,
                "token": self._token,
                "edition": digest.hexdigest()[:12],
                "tree": sight.federation.tree,
                "place": lambda code: short_name(sight.federation.tree.get(code).name),
                "code_and_place": lambda code: code_and_place(sight.federation.tree, code),
                "HEADINGS": HEADINGS,
                "KINDS": KINDS,
                "STATES": STATES,
                "Heading": Heading,
                "State": State,
                "Deed": Deed,
            },
        )
        self._standing = self._stands()
        self._look = self._see()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as resources:
            await resources.enter_async_context(serving_pages(self.application, f"{HOST}:{self._port}"))
            looking = asyncio.create_task(self._keep_looking())
            resources.push_async_callback(_cancelled, looking)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    @property
    def application(self) -> Starlette:
        """The ASGI application."""
        return self._console.application(
            [
                self._route("/", self._first_page),
                self._route("/part/{part}", self._part),
                self._route("/changes", self._changes),
                self._route("/do", self._do, "POST"),
                Mount("/stage", StaticFiles(directory=FOLDER / "assets")),
            ]
        )

    # ------------------------------------------------------------ what is asked

    def _route(self, path: str, page: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        async def answer(request: Request) -> Response:
            try:
                return await page(request)
            except Refused as refusal:
                return self._console.refusal(request, refusal, None)

        return Route(path, answer, methods=[method])

    async def _first_page(self, request: Request) -> Response:
        told = request.query_params.get("told", "")
        happening = next((one for one in self._happenings if str(one.number) == told), None)
        return self._page(request, "stage.html", told=happening, live="/changes")

    async def _part(self, request: Request) -> Response:
        part = request.path_params["part"]
        if part not in PARTS:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        return self._page(request, f"_{part}.html")

    async def _do(self, request: Request) -> Response:
        form = await request.form(max_fields=FIELDS_MAX)
        if not hmac.compare_digest(self._token.encode(), str(form.get("csrf", "")).encode()):
            raise NotOurForm
        happening = self._happened(await self.controls.do(str(form.get("what", "")), str(form.get("whom", ""))))
        # What was done is told already.
        self._standing = self._stands()
        self._look = self._see()
        if request.headers.get("hx-request-type", "") == "partial":
            return self._page(request, "_done.html", told=happening)
        return RedirectResponse(f"/?told={happening.number}", HTTPStatus.SEE_OTHER)

    async def _changes(self, _: Request) -> Response:
        """Server-sent events: that something has changed. Which part shows it asks for it itself."""

        async def told() -> AsyncIterator[str]:
            # At once: between a page's loading and this something may have changed.
            yield "retry: 1000\nevent: changed\ndata: picture\n\n"
            seen, silent_seconds = self._look, 0.0
            while not await self._ends_within(LOOK_SECONDS):
                silent_seconds += LOOK_SECONDS
                if seen != self._look:
                    seen, silent_seconds = self._look, 0.0
                    yield "event: changed\ndata: picture\n\n"
                elif silent_seconds >= ALIVE_SECONDS:
                    silent_seconds = 0.0
                    yield ": still here\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    # ------------------------------------------------------------ what is seen

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        look = self._look
        federation = self._federation
        seen = {bureau.code: bureau for bureau in look.bureaus}
        return self._console.page(
            request,
            template,
            None,
            **{
                "look": look,
                "seen": seen,
                "total": sum((Counter(bureau.standing) for bureau in look.bureaus), Counter()),
                "entries": sum(bureau.entries for bureau in look.bureaus),
                "folded": sum(bureau.folded for bureau in look.bureaus),
                "drawing": self._drawing,
                "box_width": BOX_WIDTH,
                "box_height": BOX_HEIGHT,
                "traffic": traffic(self._drawing, look.moves),
                "hub_state": self._state_of(federation.hubs[0]) if federation.hubs else None,
                "hub": federation.hubs[0] if federation.hubs else None,
                "hubs": [(hub, self._state_of(hub)) for hub in federation.hubs],
                "nodes": [(node, self._state_of(node)) for node in federation.nodes],
                "sites": [(site.code, federation.is_cut_off(site.code)) for site in federation.sites.provinces],
                "desk": self._desk,
                "happenings": list(self._happenings)[: -HAPPENINGS_SHOWN - 1 : -1],
                "told": None,
                **values,
            },
        )

    def _desk(self, bureau: str) -> str:
        """Where one steps in at a bureau's desk; empty when it has none, or cannot be reached now."""
        node = self._federation.node(bureau)
        return step_in(node, bureau) if self._state_of(node) is State.UP else ""

    @staticmethod
    def _state_of(service: Service) -> State:
        return State.DOWN if service.down or not service.process.alive else State.UP

    def _see(self) -> Look:
        federation = self._federation
        return Look(
            minute=f"{federation.clock.now():%Y-%m-%d %H:%M}",
            bureaus=self._sight.bureaus(),
            hub_up=all(self._state_of(hub) is State.UP for hub in federation.hubs),
            cut=tuple(site.code for site in federation.sites.provinces if federation.is_cut_off(site.code)),
            moves=self._sight.moves(MOVES_SHOWN),
            happenings=self._count,
            controls_open=self.controls.are_open,
        )

    async def _keep_looking(self) -> None:
        while not await self._ends_within(LOOK_SECONDS):
            self._notice()
            self._look = self._see()

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._console.ending.wait()
        return self._console.ending.is_set()

    # ------------------------------------------------------------ what happens

    def _stands(self) -> dict[str, State]:
        """The state of each process, and of each link under its province's code."""
        federation = self._federation
        states = {service.name: self._state_of(service) for service in federation.services}
        for site in federation.sites.provinces:
            states[site.code] = State.CUT_OFF if federation.is_cut_off(site.code) else State.UP
        return states

    def _notice(self) -> None:
        """Tell what has changed by somebody else's doing: the story's, or whoever ended a process by hand."""
        if self.controls.busy:
            return
        before, self._standing = self._standing, self._stands()
        codes = {service.name: service for service in self._federation.services}
        for name, state in self._standing.items():
            if before.get(name) is not state:
                self._happened(_noticed(codes.get(name), name, state))

    def _happened(self, what: Both) -> Happening:
        self._count += 1
        happening = Happening(self._count, self._federation.clock.now(), what)
        self._happenings.append(happening)
        return happening


def step_in(service: Service, code: str) -> str:
    """Where somebody steps in at a desk or a board; empty when the service has no pages."""
    return f"{service.pages_url}/step-in?bureau={code}" if service.pages_url else ""


def _noticed(service: Service | None, name: str, state: State) -> Both:
    if service is None:
        if state is State.CUT_OFF:
            return Both(f"The link of {name} is cut.", f"{name} 的链路断开。")
        return Both(f"The link of {name} is up again.", f"{name} 的链路恢复。")
    codes = ", ".join(service.codes)
    if service.kind == "hub":
        down, up = Both("The hub is down.", "汇总中心停机。"), Both("The hub is up again.", "汇总中心恢复运行。")
    else:
        down = Both(f"The node of {codes} is down.", f"{codes} 的节点停机。")
        up = Both(f"The node of {codes} is up again.", f"{codes} 的节点恢复运行。")
    return down if state is State.DOWN else up


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
