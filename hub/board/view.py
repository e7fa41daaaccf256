"""What every page of the board knows: who looks, at which scope, over which days; and how its links keep that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from hub.board.asking import Asking
from hub.board.days import CHOSEN, Days, days_of
from hub.board.sheets import Sheet, as_sheet_file
from hub.bulletin.document import Cell, Kind
from hub.bulletin.files import File
from hub.bulletin.reading import place_name
from hub.servicer import Statistics, counted_scope
from kuaixiang.domain.authority import Caller, Subject, decide_access
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.periods import Period, PeriodKind, period_of
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.web.console import Visit
from kuaixiang.web.language import Language, shown_instant


@dataclass(frozen=True, slots=True)
class View:
    """One visit to the board, whose scope its person oversees."""

    visit: Visit
    tree: BureauTree
    asking: Asking
    days: Days
    now: datetime

    @property
    def scope(self) -> str:
        """The bureau whose figures, with those of everything under it, are shown."""
        return self.asking.scope

    @property
    def today(self) -> date:
        """Today in Shanghai."""
        return self.now.astimezone(SHANGHAI).date()

    @property
    def asked(self) -> Mapping[str, str]:
        """The address's own words."""
        return self.visit.request.query_params

    @property
    def language(self) -> Language:
        """The language of the page."""
        return self.visit.language

    @property
    def crumbs(self) -> list[str]:
        """The way from the person's own bureau down to the scope."""
        line = self.tree.superiors_and_self(self.scope)
        return list(reversed(line[: line.index(self.visit.person.bureau) + 1]))

    def say(self, english: str) -> str:
        """A sentence of ours in the page's language."""
        return self.visit.console.words.translated(english, self.language)

    def link(self, path: str, **changes: str) -> str:
        """An address of the board for the same scope and days; `changes` are added, empty ones left out."""
        query = {"scope": self.scope, **self.days.query, **changes}
        if "period" in changes:
            query.pop("from", None)
            query.pop("to", None)
        return address(path, query)

    def here(self, **changes: str) -> str:
        """This very address with some words changed; empty ones are left out. What pages a list starts again."""
        query = {name: value for name, value in self.asked.items() if name != "after"}
        if "period" in changes:
            query.pop("from", None)
            query.pop("to", None)
        return address(self.visit.request.url.path, {**query, **changes})

    def here_at(self, path: str) -> str:
        """Another address for what this one asks: the same table as a file."""
        return address(path, {name: value for name, value in self.asked.items() if name != "after"})

    def kept(self, *without: str) -> list[tuple[str, str]]:
        """This address's words as hidden fields of a form that changes the others."""
        return [(name, value) for name, value in self.asked.items() if name not in {*without, "after"}]

    def bureau(self, code: str) -> str:
        """What a bureau is called."""
        return short_name(self.tree.get(code).name) if code in self.tree else code

    def place(self, code: str) -> str:
        """What a bureau somewhere under the scope is called: counties of one name are told apart by their superiors."""
        return self.bureau(code) if code == self.scope else place_name(self.tree, self.scope, code)

    def row_name(self, code: str) -> str:
        """What a bureau is called among the rows of the scope, whose own row is that of its own office alone."""
        if code != self.scope:
            return self.bureau(code)
        own = self.say("itself")
        return f"{self.bureau(code)}（{own}）" if self.language is Language.CHINESE else f"{self.bureau(code)} ({own})"

    def urge(self, bureau: str, case: str = "") -> str:
        """Where the person's own bureau urges another one 催办: at its desk; empty where it has none."""
        own = self.visit.person.bureau
        desk = self.tree.get(own).desk
        if not desk or bureau == own or bureau not in self.tree:
            return ""
        return address(f"{desk}/orders/new", {"to": bureau, "case": case})

    @property
    def periods(self) -> list[tuple[PeriodKind, Period]]:
        """The periods that one chooses with one press."""
        return [(kind, period_of(self.today, kind)) for kind in CHOSEN]

    @property
    def shown_days(self) -> str:
        """The days in words."""
        period = self.days.period
        span = f"{self.days.first} – {self.days.last}" if self.days.first != self.days.last else str(self.days.first)
        if period is None or period.kind is PeriodKind.DAY:
            return span
        return f"{period.chinese}（{span}）" if self.language is Language.CHINESE else f"{period} ({span})"

    @property
    def is_over(self) -> bool:
        """Whether the last of the days has ended."""
        return self.days.last < self.today

    def page(self, template: str, **values: Any) -> Response:
        """A page of the template."""
        return self.visit.page(template, view=self, **values)

    def file(self, sheet: Sheet, wanted: str) -> Response:
        """A table as a file. Raises `NoSuchFormat`, `TooManyRows`."""
        return sent(as_sheet_file(sheet, wanted))

    def note(self, as_of: datetime | None) -> str:
        """What stands under the title of a file: scope, days, how current."""
        told = shown_instant(as_of) if as_of is not None else self.say("no data yet")
        return f"{self.scope} {self.bureau(self.scope)}　{self.shown_days}　{self.say('Data as of')}: {told}"


def view_of(visit: Visit, statistics: Statistics, tree: BureauTree, hub_scope: str, now: datetime) -> View:
    """The view of a visit.

    Raises `NotCounted`, `NotAuthorised` for a scope that is not the person's to oversee, and what `days_of` does.
    """
    asked = visit.request.query_params
    own = visit.person.bureau
    scope = counted_scope(asked.get("scope") or own, hub_scope, tree)
    decide_access(Caller(offices=frozenset({own})), "OverseeBoard", Subject(bureau=scope), tree)
    days = days_of(asked, now.astimezone(SHANGHAI).date())
    return View(visit, tree, Asking(statistics, visit.person, scope), days, now)


def address(path: str, query: Mapping[str, str]) -> str:
    """A path with a query, its empty words left out."""
    words = urlencode({name: value for name, value in query.items() if value}, quote_via=quote)
    return f"{path}?{words}" if words else path


def sent(file: File) -> Response:
    """A file, to be kept by whoever asked for it."""
    return Response(
        file.content,
        media_type=file.media_type,
        headers={"Content-Disposition": f'attachment; filename="{file.name}"'},
    )


def value_of(cell: Cell) -> int | float | str | None:
    """A cell as a number of a file: a share of one where it is a rate or a growth, points where it is points."""
    if not isinstance(cell.value, int):
        return cell.value
    scale = {Kind.RATE: 10_000, Kind.GROWTH: 1_000, Kind.POINTS: 100}.get(cell.kind)
    return cell.value if scale is None else cell.value / scale


def counted(cells: Sequence[Cell]) -> list[int | float | str | None]:
    """Cells as numbers of a file."""
    return list(map(value_of, cells))
