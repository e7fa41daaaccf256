"""Where everything of the tree's picture stands: a row for each tier, superiors over the middle of those below."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from demo.picture import Kind, Move
from kuaixiang.domain.tree import BureauTree

BOX_WIDTH: Final = 162
BOX_HEIGHT: Final = 66
COLUMN: Final = BOX_WIDTH + 10
ROW: Final = BOX_HEIGHT + 46
MARGIN: Final = 6
"""All in units of the drawing, about a pixel each."""


@dataclass(frozen=True, slots=True)
class Box:
    """A bureau's place, by its upper left corner."""

    code: str
    x: float
    y: float

    @property
    def middle(self) -> float:
        """Where edges meet it."""
        return self.x + BOX_WIDTH / 2

    @property
    def bottom(self) -> float:
        """Where the edges to subordinates begin."""
        return self.y + BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class Edge:
    """The line between a superior and a subordinate: down, across, down."""

    above: Box
    below: Box

    @property
    def across(self) -> float:
        """The height at which it goes across: shortly over the subordinate."""
        return self.below.y - (ROW - BOX_HEIGHT) / 2

    @property
    def path(self) -> str:
        """The line as SVG draws it."""
        return f"M{self.above.middle:g} {self.above.bottom:g}V{self.across:g}H{self.below.middle:g}V{self.below.y:g}"


@dataclass(frozen=True, slots=True)
class Drawing:
    """The tree's places and lines, and the hub's place at the upper right."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    hub: Box
    width: float
    height: float

    def journal(self, code: str) -> str:
        """The way of a bureau's site's journals to the hub, as SVG draws it: up, across between two rows, up."""
        place = self.box(code)
        begins = place.x + BOX_WIDTH - 20
        if place.y == self.hub.y:
            return f"M{place.x + BOX_WIDTH:g} {place.y + BOX_HEIGHT / 2:g}H{self.hub.x:g}"
        across = self.hub.bottom + (ROW - BOX_HEIGHT) / 4
        return f"M{begins:g} {place.y:g}V{across:g}H{self.hub.middle:g}V{self.hub.bottom:g}"

    def box(self, code: str) -> Box:
        """The place of a bureau of the tree."""
        return next(box for box in self.boxes if box.code == code)


def drawn(tree: BureauTree) -> Drawing:
    """The drawing of a tree."""
    rows = {tier: row for row, tier in enumerate(sorted({bureau.tier for bureau in tree.bureaus.values()}))}
    columns = 0
    boxes: dict[str, Box] = {}

    def place(code: str) -> float:
        nonlocal columns
        under = [place(child) for child in tree.children(code)]
        if under:
            x = (under[0] + under[-1]) / 2
        else:
            x = MARGIN + columns * COLUMN
            columns += 1
        boxes[code] = Box(code, x, MARGIN + rows[tree.get(code).tier] * ROW)
        return x

    top = place(tree.root)
    # Beside the root, however narrow the tree is.
    hub = Box("hub", max(MARGIN + (columns - 1) * COLUMN, top + 1.5 * COLUMN), MARGIN)
    edges = tuple(Edge(boxes[parent], box) for box in boxes.values() if (parent := tree.parent(box.code)) is not None)
    return Drawing(
        boxes=tuple(boxes.values()),
        edges=edges,
        hub=hub,
        width=hub.x + BOX_WIDTH + MARGIN,
        height=2 * MARGIN + (len(rows) - 1) * ROW + BOX_HEIGHT,
    )


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many of the latest hand-overs went along an edge, and which way."""

    edge: Edge
    up: int
    down: int


def traffic(drawing: Drawing, moves: Sequence[Move]) -> tuple[Traffic, ...]:
    """Every edge with its part of the moves."""
    up = [move.origin for move in moves if move.kind is Kind.UP]
    down = [move.target for move in moves if move.kind is Kind.DOWN]
    for move in moves:
        if move.kind is Kind.RESULT:
            # A result goes either way: back to whom the case came from.
            lower = {edge.below.code: edge.above.code for edge in drawing.edges}
            if lower.get(move.origin) == move.target:
                up.append(move.origin)
            else:
                down.append(move.target)
    return tuple(Traffic(edge, up.count(edge.below.code), down.count(edge.below.code)) for edge in drawing.edges)
