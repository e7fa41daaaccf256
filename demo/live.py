"""The demonstration as it is seen: a live picture on a terminal, plain lines where there is none."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.federation import Federation
from demo.officers import NoAnswer
from demo.story import Book, Pace
from demo.watch import Watch
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import EVENTS
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.domain.words import Custody, Stage
from kuaixiang.wire.v1 import statistics_pb2 as pb

REFRESH_SECONDS: Final = 0.25
"""Between two pictures: the eye needs no more, and the nodes need the processor."""

HUB_SECONDS: Final = 0.5
"""Between two questions to the hub."""

EVENTS_SHOWN: Final = 9
NOTES_SHOWN: Final = 6

WEEKDAYS: Final = "一二三四五六日"

_FROM_ELSEWHERE: Final = frozenset({"offer_refused", "received", "offer_declined", "concluded", "conclusion_revoked"})
"""Events that another bureau's message brought; the others that name a bureau go to it."""

_HEADING_OF: Final[Mapping[Stage, str]] = {
    Stage.REGISTERED: "已登记",
    Stage.FORWARDED: "待分办",
    Stage.HANDLING: "办理中",
    Stage.JOINT_HANDLING: "办理中",
    Stage.DEFERRED: "办理中",
    Stage.REFERRED: "已移交",
    Stage.COMPLETED: "待反馈",
    Stage.FED_BACK: "待销号",
    Stage.FOLLOWED_UP: "待销号",
    Stage.CONCLUDED: "待销号",
    Stage.RECONSIDERATION: "待销号",
    Stage.WITHDRAWN: "待销号",
    Stage.WRITTEN_OFF: "已销号",
}
"""Under which heading of the picture a case of a stage stands; one that is being handed over under `_OFFERED`."""
_OFFERED: Final = "移交中"
_HEADINGS: Final = ("已登记", "待分办", "办理中", _OFFERED, "已移交", "待反馈", "待销号", "已销号")

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

    federation: Federation
    watch: Watch
    pace: Pace
    book: Book
    cases: int
    """How many there will be."""
    cut: set[str]
    """Provinces whose leaf link is cut."""


class Show:
    """Shows a scene; as an asynchronous context manager, for the time of the block.

    With `live` it is a picture that is drawn again and again; else `note` and the end of each day are lines.
    """

    def __init__(self, console: Console, scene: Scene, *, live: bool) -> None:
        self._console = console
        self._scene = scene
        self._live = Live(console=console, auto_refresh=False, transient=True) if live else None
        self._notes: deque[str] = deque(maxlen=NOTES_SHOWN)
        self._tasks: list[asyncio.Task[None]] = []
        self.figures: pb.GetFiguresResponse | None = None
        self.marks: dict[str, pb.BureauMark] = {}

    async def __aenter__(self) -> Self:
        if self._live is not None:
            self._live.start()
            self._tasks.append(asyncio.create_task(self._draw()))
        self._tasks.append(asyncio.create_task(self._ask()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
            watch, book = self._scene.watch, self._scene.book
            self.note(
                f"周{WEEKDAYS[hour.at.weekday()]}: {len(book.homes)} of {self._scene.cases} cases registered, "
                f"{book.finished} finished; {watch.entries} journal entries, {self.folded} of them at the hub; "
                f"{watch.events['received']} hand-overs"
            )

    @property
    def folded(self) -> int:
        """Journal entries that the hub said it had folded."""
        return sum(mark.seq for mark in self.marks.values())

    # ------------------------------------------------------------ inside

    async def _ask(self) -> None:
        hub = self._scene.federation.hub()
        while True:
            with contextlib.suppress(NoAnswer):  # a busy hub: the next answer will do
                self.figures = await hub.figures()
                self.marks = {mark.bureau: mark for mark in (await hub.completeness()).marks}
            await asyncio.sleep(HUB_SECONDS)

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
        at = scene.pace.now.astimezone(SHANGHAI)
        return Text.assemble(
            ("快响 Kuaixiang  ", "bold"),
            (f"{at:%Y-%m-%d} 周{WEEKDAYS[at.weekday()]} {at:%H:%M}", "bold cyan"),
            f"   {len(scene.book.homes)}/{scene.cases} cases, {scene.book.finished} finished"
            f"   {scene.watch.entries} journal entries   {scene.watch.events['received']} hand-overs",
        )

    def _tree(self) -> Table:
        scene = self._scene
        table = Table(box=None, padding=(0, 1))
        table.add_column("税务机关")
        table.add_column("")
        for heading in _HEADINGS:
            table.add_column(heading, justify="right")
        table.add_column("台账", justify="right")
        table.add_column("汇总", justify="right")
        tree = scene.federation.tree
        for bureau in depth_first(tree):
            standing: Counter[str] = Counter()
            for (stage, custody), count in scene.watch.stages(bureau).items():
                standing[_OFFERED if custody is Custody.OFFERED else _HEADING_OF[stage]] += count
            mark = self.marks.get(bureau)
            entries = scene.watch.seqs[bureau]
            folded = mark.seq if mark is not None else 0
            table.add_row(
                "  " * len(tree.ancestors(bureau)) + code_and_place(tree, bureau),
                self._state(bureau),
                *(str(standing[heading] or "·") for heading in _HEADINGS),
                str(entries),
                Text(str(folded), style="" if folded >= entries else "yellow"),
            )
        return table

    def _state(self, bureau: str) -> Text:
        federation = self._scene.federation
        if federation.node(bureau).down:
            return Text("✗ down", style="bold red")
        if federation.tree.site(bureau) in self._scene.cut:
            return Text("✂ cut off", style="yellow")
        return Text("●", style="green")

    def _events(self) -> Text:
        tree = self._scene.federation.tree
        lines = Text()
        for change in list(self._scene.watch.recent)[-EVENTS_SHOWN:]:
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
        facts = dict(self.figures.rows[0].facts) if self.figures is not None and self.figures.rows else {}
        cells = [text for label, fact in _FIGURES for text in (label, str(facts.get(fact, 0)))]
        for start in range(0, len(cells), 4):
            grid.add_row(*cells[start : start + 4])
        if self.figures is not None:
            complete = self.figures.completeness
            behind = max(0, self._scene.watch.entries - self.folded)
            grid.add_row("账目", f"{self.folded}", "未到", Text(str(behind), style="yellow" if behind else ""))
            grid.add_row("单位", f"{complete.bureaus_heard}/{complete.bureaus_expected}", "截至", _as_of(complete))
        return grid


def depth_first(tree: BureauTree) -> list[str]:
    """Every bureau, each directly followed by those under it."""

    def below(code: str) -> list[str]:
        return [code, *(found for child in tree.children(code) for found in below(child))]

    return below(tree.root)


def code_and_place(tree: BureauTree, code: str) -> str:
    """A bureau's code and the place in its name."""
    return f"{code} {short_name(tree.get(code).name)}" if code in tree else code


def _as_of(complete: pb.Completeness) -> str:
    if not complete.HasField("data_as_of"):
        return "-"
    return complete.data_as_of.ToDatetime(tzinfo=SHANGHAI).strftime("%m-%d %H:%M")
