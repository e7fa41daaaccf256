"""What there is to see of a federation: the state of each bureau, its cases by heading, what the hub has, hand-overs.

One place of counting for whoever shows it: the terminal (`demo.live`) and the pages of the stage (`demo.stage`).
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self

from demo.federation import Federation, State
from demo.officers import NoAnswer
from demo.watch import Watch
from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.domain.words import Custody, Stage
from kuaixiang.wire.v1 import statistics_pb2 as pb

HUB_SECONDS: Final = 0.5
"""Between two questions to the hub."""


class Heading(Enum):
    """Where a case stands in a bureau's ledger, as a picture sums it up."""

    REGISTERED = auto()
    TO_DISPATCH = auto()
    HANDLING = auto()
    OFFERED = auto()
    """A hand-over that the other bureau has not decided on."""
    REFERRED = auto()
    TO_FEED_BACK = auto()
    TO_WRITE_OFF = auto()
    WRITTEN_OFF = auto()


HEADINGS: Final[Mapping[Heading, Both]] = {
    Heading.REGISTERED: Both("registered", "已登记"),
    Heading.TO_DISPATCH: Both("to dispatch", "待分办"),
    Heading.HANDLING: Both("in handling", "办理中"),
    Heading.OFFERED: Both("being handed over", "移交中"),
    Heading.REFERRED: Both("handed over", "已移交"),
    Heading.TO_FEED_BACK: Both("to feed back", "待反馈"),
    Heading.TO_WRITE_OFF: Both("to write off", "待销号"),
    Heading.WRITTEN_OFF: Both("written off", "已销号"),
}

STATES: Final[Mapping[State, tuple[str, Both]]] = {
    State.UP: ("●", Both("up", "运行")),
    State.DOWN: ("✗", Both("down", "停机")),
    State.CUT_OFF: ("✂", Both("cut off", "断网")),
}
"""The mark and the word of each state."""

_HEADING_OF: Final[Mapping[Stage, Heading]] = {
    Stage.REGISTERED: Heading.REGISTERED,
    Stage.FORWARDED: Heading.TO_DISPATCH,
    Stage.HANDLING: Heading.HANDLING,
    Stage.JOINT_HANDLING: Heading.HANDLING,
    Stage.DEFERRED: Heading.HANDLING,
    Stage.REFERRED: Heading.REFERRED,
    Stage.COMPLETED: Heading.TO_FEED_BACK,
    Stage.FED_BACK: Heading.TO_WRITE_OFF,
    Stage.FOLLOWED_UP: Heading.TO_WRITE_OFF,
    Stage.CONCLUDED: Heading.TO_WRITE_OFF,
    Stage.RECONSIDERATION: Heading.TO_WRITE_OFF,
    Stage.WITHDRAWN: Heading.TO_WRITE_OFF,
    Stage.WRITTEN_OFF: Heading.WRITTEN_OFF,
}
"""The heading of a case of a stage, unless it is being handed over."""


class Kind(Enum):
    """What a hand-over along an edge of the tree is."""

    UP = auto()
    DOWN = auto()
    RESULT = auto()
    """The result of a case, on its way back through the ledgers that had it."""


KINDS: Final[Mapping[Kind, Both]] = {
    Kind.UP: Both("case to the superior", "上报上级"),
    Kind.DOWN: Both("case to a subordinate", "转交下级"),
    Kind.RESULT: Both("result returned", "结果回传"),
}


@dataclass(frozen=True, slots=True)
class BureauSeen:
    """One bureau as it is now."""

    code: str
    state: State
    standing: Mapping[Heading, int]
    """Its ledger's cases by heading."""
    entries: int
    """The end of its journal, as last seen."""
    folded: int
    """As much of the journal as the hub last said it had."""

    @property
    def behind(self) -> int:
        """Journal entries that the hub lacks."""
        return max(0, self.entries - self.folded)

    @property
    def open(self) -> int:
        """Cases of the ledger that are not written off."""
        return sum(count for heading, count in self.standing.items() if heading is not Heading.WRITTEN_OFF)


@dataclass(frozen=True, slots=True)
class Move:
    """A case, or its result, that went from a bureau to its neighbour in the tree."""

    key: str
    """Tells it from every other."""
    kind: Kind
    case_id: str
    origin: str
    target: str
    at: datetime


class Sight:
    """Looks at a federation for whoever shows it; as an asynchronous context manager, for the time of the block.

    `watch` follows the ledgers; the hub is asked here.
    """

    def __init__(self, federation: Federation, watch: Watch) -> None:
        self.federation = federation
        self.watch = watch
        self._task: asyncio.Task[None] | None = None
        self.figures: pb.GetFiguresResponse | None = None
        """The hub's latest figures."""
        self.marks: Mapping[str, int] = {}
        """How far the hub says it has folded each journal."""

    async def __aenter__(self) -> Self:
        if self.federation.hubs:
            self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def folded(self) -> int:
        """Journal entries that the hub said it had folded."""
        return sum(self.marks.values())

    def bureau(self, code: str) -> BureauSeen:
        """One bureau as it is now."""
        standing: Counter[Heading] = Counter()
        for (stage, custody), count in self.watch.stages(code).items():
            standing[Heading.OFFERED if custody is Custody.OFFERED else _HEADING_OF[stage]] += count
        return BureauSeen(
            code, self.federation.state(code), standing, self.watch.seqs.get(code, 0), self.marks.get(code, 0)
        )

    def bureaus(self) -> tuple[BureauSeen, ...]:
        """Every bureau with a ledger, each directly followed by those under it."""
        hosted = set(self.federation.bureaus)
        return tuple(self.bureau(code) for code in depth_first(self.federation.tree) if code in hosted)

    def moves(self, count: int) -> tuple[Move, ...]:
        """The latest hand-overs, at most so many, the latest last."""
        tree = self.federation.tree
        return tuple(
            Move(
                key=f"{change.bureau}-{change.seq}",
                kind=Kind.RESULT
                if change.event == "concluded"
                else Kind.UP
                if tree.parent(change.other_bureau) == change.bureau
                else Kind.DOWN,
                case_id=change.case_id,
                origin=change.other_bureau,
                target=change.bureau,
                at=change.occurred_at,
            )
            for change in list(self.watch.hand_overs)[-count:]
        )

    async def _ask(self) -> None:
        hub = self.federation.hub()
        while True:
            with contextlib.suppress(NoAnswer):  # a busy or killed hub: the next answer will do
                self.figures = await hub.figures()
                self.marks = {mark.bureau: mark.seq for mark in (await hub.completeness()).marks}
            await asyncio.sleep(HUB_SECONDS)


def depth_first(tree: BureauTree) -> list[str]:
    """Every bureau, each directly followed by those under it."""

    def below(code: str) -> list[str]:
        return [code, *(found for child in tree.children(code) for found in below(child))]

    return below(tree.root)


def code_and_place(tree: BureauTree, code: str) -> str:
    """A bureau's code and the place in its name."""
    return f"{code} {short_name(tree.get(code).name)}" if code in tree else code
