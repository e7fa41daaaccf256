"""The demonstration as it is seen: a live picture on a terminal, plain lines where there is none."""

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.federation import State
from demo.picture import HEADINGS, STATES, BureauSeen, Sight, code_and_place
from demo.story import Book, Pace
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import EVENTS
from kuaixiang.wire.v1 import statistics_pb2 as pb

REFRESH_SECONDS: Final = 0.25
"""Between two pictures: the eye needs no more, and the nodes need the processor."""

EVENTS_SHOWN: Final = 9
NOTES_SHOWN: Final = 6

WEEKDAYS: Final = "一二三四五六日"

_FROM_ELSEWHERE: Final = frozenset({"offer_refused", "received", "offer_declined", "concluded", "conclusion_revoked"})
"""Events that another bureau's message brought; the others that name a bureau go to it."""

_STYLES: Final = {State.UP: "green", State.DOWN: "bold red", State.CUT_OFF: "yellow"}

_FIGURES: Final = (
    ("登记", "registered"),
    ("办结", "completed"),
    ("反馈", "fed_back"),
    ("回访", "followed_up"),
    ("延期", "extended"),
    ("上报", "referred_up"),
    ("下转", "referred_down"),
    ("跨区", "referred_across"),
    ("退回", "returned_referral"),
    ("销号", "written_off"),
)
"""The hub's national figures in the picture."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be seen."""

    sight: Sight
    pace: Pace
    book: Book
    cases: int
    """How many there will be."""


class Show:
    """Shows a scene; as an asynchronous context manager, for the time of the block.

    With `live` it is a picture that is drawn again and again; else `note` and the end of each day are lines.
    """

    def __init__(self, console: Console, scene: Scene, *, live: bool) -> None:
        self._console = console
        self._scene = scene
        self._live = Live(console=console, auto_refresh=False, transient=True) if live else None
        self._notes: deque[str] = deque(maxlen=NOTES_SHOWN)
        self._drawing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._live is not None:
            self._live.start()
            self._drawing = asyncio.create_task(self._draw())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
            await asyncio.gather(self._drawing, return_exceptions=True)
        if self._live is not None:
            self._live.stop()

    def note(self, sentence: str) -> None:
        """Say something that happened to the federation."""
        at = self._scene.pace.now.strftime("%m-%d %H:%M")
        if self._live is None:
            self._console.print(f"{at}  {sentence}", highlight=False, markup=False, soft_wrap=True)
        else:
            self._notes.append(f"{at}  {sentence}")

    def hour_done(self) -> None:
        """An hour is over; at the end of a working day, say how it stands."""
        pace = self._scene.pace
        hour = pace.hours[pace.index]
        last = pace.index + 1 >= len(pace.hours) or not pace.hours[pace.index + 1].office
        if self._live is None and hour.office and last:
            sight, watch, book = self._scene.sight, self._scene.sight.watch, self._scene.book
            self.note(
                f"周{WEEKDAYS[hour.at.weekday()]}: {len(book.homes)} of {self._scene.cases} cases registered, "
                f"{book.finished} finished; {watch.entries} journal entries, {sight.folded} of them at the hub; "
                f"{watch.events['received']} hand-overs"
            )

    # ------------------------------------------------------------ inside

    async def _draw(self) -> None:
        assert self._live is not None  # noqa: S101 - only then is this task made
        while True:
            self._live.update(self._picture(), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)

    def _picture(self) -> RenderableType:
        below = Table.grid(expand=True, padding=(0, 1))
        below.add_column(ratio=3)
        below.add_column(ratio=2)
        below.add_row(
            Panel(self._events(), title="台账最新记录", border_style="dim"),
            Panel(self._hub(), title="全国汇总", border_style="dim"),
        )
        parts: list[RenderableType] = [self._head(), self._tree(), below]
        if self._notes:
            parts.append(Text("\n".join(self._notes), style="yellow"))
        return Group(*parts)

    def _head(self) -> Text:
        scene = self._scene
        watch, at = scene.sight.watch, scene.pace.now.astimezone(SHANGHAI)
        return Text.assemble(
            ("快响 Kuaixiang  ", "bold"),
            (f"{at:%Y-%m-%d} 周{WEEKDAYS[at.weekday()]} {at:%H:%M}", "bold cyan"),
            f"   {len(scene.book.homes)}/{scene.cases} cases, {scene.book.finished} finished"
            f"   {watch.entries} journal entries   {watch.events['received']} hand-overs",
        )

    def _tree(self) -> Table:
        sight = self._scene.sight
        table = Table(box=None, padding=(0, 1))
        table.add_column("税务机关")
        table.add_column("")
        for words in HEADINGS.values():
            table.add_column(words.chinese, justify="right")
        table.add_column("台账", justify="right")
        table.add_column("汇总", justify="right")
        tree = sight.federation.tree
        for bureau in sight.bureaus():
            table.add_row(
                "  " * len(tree.ancestors(bureau.code)) + code_and_place(tree, bureau.code),
                _state(bureau),
                *(str(bureau.standing.get(heading, 0) or "·") for heading in HEADINGS),
                str(bureau.entries),
                Text(str(bureau.folded), style="yellow" if bureau.behind else ""),
            )
        return table

    def _events(self) -> Text:
        tree = self._scene.sight.federation.tree
        lines = Text()
        for change in list(self._scene.sight.watch.recent)[-EVENTS_SHOWN:]:
            other = code_and_place(tree, change.other_bureau) if change.other_bureau else ""
            lines.append(f"{change.occurred_at.astimezone(SHANGHAI):%m-%d %H:%M} ", "dim")
            lines.append(f"{code_and_place(tree, change.bureau)} {change.case_id} ")
            arrow = "" if not other else " ←" if change.event in _FROM_ELSEWHERE else " →"
            lines.append(
                f"{EVENTS.get(change.event, change.event)}{arrow} {other}\n",
                "red" if change.event == "became_overdue" else "cyan" if other else "",
            )
        return lines

    def _hub(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        for _ in range(4):
            grid.add_column(justify="right")
        sight = self._scene.sight
        figures = sight.figures
        facts = dict(figures.rows[0].facts) if figures is not None and figures.rows else {}
        cells = [text for label, fact in _FIGURES for text in (label, str(facts.get(fact, 0)))]
        for start in range(0, len(cells), 4):
            grid.add_row(*cells[start : start + 4])
        if figures is not None:
            complete = figures.completeness
            behind = max(0, sight.watch.entries - sight.folded)
            grid.add_row("账目", f"{sight.folded}", "未到", Text(str(behind), style="yellow" if behind else ""))
            grid.add_row("单位", f"{complete.bureaus_heard}/{complete.bureaus_expected}", "截至", _as_of(complete))
        return grid


def _state(bureau: BureauSeen) -> Text:
    mark, words = STATES[bureau.state]
    return Text(mark if bureau.state is State.UP else f"{mark} {words.english}", style=_STYLES[bureau.state])


def _as_of(complete: pb.Completeness) -> str:
    if not complete.HasField("data_as_of"):
        return "-"
    return complete.data_as_of.ToDatetime(tzinfo=SHANGHAI).strftime("%m-%d %H:%M")
