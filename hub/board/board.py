"""The board's pages put together: routes, what all templates know, and whose scope each page is for."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from hub.board.bulletins import bulletin_file, bulletin_page
from hub.board.checks import (
    completeness_file,
    completeness_page,
    lack_name,
    reconciliation_file,
    reconciliation_page,
    verdict,
)
from hub.board.dashboard import dashboard
from hub.board.figures import ALL, basis_name, figure_meaning, figure_name
from hub.board.league import cases_file, cases_page, league_file, league_page
from hub.board.people import DEPARTMENT, Supervisors
from hub.board.publish import publish_page
from hub.board.rows import rows_file, rows_page
from hub.board.view import View, view_of
from hub.board.words import WORDS
from hub.bulletin.figures import EXPLANATIONS
from hub.servicer import Statistics
from hub.words import Lack
from kuaixiang.accounts.officers import Officers
from kuaixiang.domain.labels import term
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.domain.words import DepartmentKind
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.in_force import InForce
from kuaixiang.web.console import Console, Page, Visit
from kuaixiang.web.door import Reach
from kuaixiang.web.language import Name

FOLDER: Final = Path(__file__).parent
PRODUCT: Final = "Board"
"""What the pages are called, as `hub.board.words` translates it."""


class Board:
    """The web pages of a hub, where `officers` sign in; they come from where `reach` says. `now` is business time."""

    def __init__(
        self,
        *,
        statistics: Statistics,
        trees: InForce[BureauTree],
        scope: str,
        now: Callable[[], datetime],
        demonstration: bool,
        officers: Officers | None = None,
        reach: Reach = Reach(),  # noqa: B008 - frozen
    ) -> None:
        self._statistics = statistics
        self._trees = trees
        self._scope = scope
        self._now = now
        self.console = Console(
            name="board",
            templates=FOLDER / "templates",
            words=WORDS,
            sign_in=Supervisors(trees.value, scope, demonstration=demonstration),
            now=now,
            officers=officers,
            reach=reach,
            assets=FOLDER / "assets",
            common={
                "product": PRODUCT,
                "demonstration": demonstration,
                "bureau_name": self._bureau_name,
                "department_name": _department_name,
                "figure_name": figure_name,
                "figure_meaning": figure_meaning,
                "basis_name": basis_name,
                "lack_name": lack_name,
                "verdict": verdict,
                "lacks": tuple(Lack),
                "explanations": EXPLANATIONS,
                "from_micros": from_micros,
            },
        )

    def application(self) -> Starlette:
        """The ASGI application."""
        return self.console.application(
            [
                self._route("/", dashboard),
                self._route("/figures", rows_page),
                self._route("/figures/{format}", rows_file),
                self._route("/board", league_page),
                self._route("/board/{format}", league_file),
                self._route("/cases", cases_page),
                self._route("/cases/{format}", cases_file),
                self._route("/bulletin", bulletin_page),
                self._route("/bulletin/{format}", bulletin_file),
                self._route("/publish", publish_page, "GET", "POST"),
                self._route("/completeness", completeness_page),
                self._route("/completeness/{format}", completeness_file),
                self._route("/reconciliation", reconciliation_page, "GET", "POST"),
                self._route("/reconciliation/{format}", reconciliation_file),
                self._route("/definitions", _definitions),
            ]
        )

    def _route(self, path: str, page: Callable[[View], Awaitable[Response]], *methods: str) -> Route:
        async def viewed(visit: Visit) -> Response:
            return await page(view_of(visit, self._statistics, self._trees.value, self._scope, self._now()))

        wrapped: Page = viewed
        return self.console.route(path, wrapped, *methods)

    def _bureau_name(self, code: str) -> str:
        tree = self._trees.value
        return Name(short_name(tree.get(code).name)) if code in tree else code


def _department_name(_bureau: str, department: str) -> str:
    return term(DepartmentKind.LEADERSHIP) if department == DEPARTMENT else department


async def _definitions(view: View) -> Response:
    """What every figure means, one readable page."""
    return view.page("definitions.html", names=ALL)
