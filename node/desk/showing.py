"""What several pages of supervision show alike: deadlines, names of acts and events, lists of bureaus."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kuaixiang.domain.acts import Act
from kuaixiang.domain.labels import EVENTS, Both, act_term, command
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import ClockKind, Light
from kuaixiang.web.language import Unknown, known
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2

GROUP: Final = "supervise "
"""How the names of the acts on orders begin, as commands."""


@dataclass(frozen=True, slots=True)
class Due:
    """A running clock on a page."""

    light: Light
    kind: ClockKind | Unknown
    due_at: datetime
    department: str
    extended: bool
    provisional: bool


def due_of(clock: case_pb2.Clock) -> Due:
    """A clock as the interface tells it, which has said whether its deadline is near or past."""
    light = Light.OVERDUE if clock.overdue else Light.DUE_SOON if clock.due_soon else Light.IN_TIME
    return Due(
        light=light,
        kind=known(ClockKind, clock.kind),
        due_at=instant(clock.due_at),
        department=clock.department,
        extended=clock.extended,
        provisional=clock.provisional,
    )


def act_slug(kind: type[Act]) -> str:
    """An act on orders in the address of a page: `acknowledge`."""
    return command(kind).removeprefix(GROUP)


def act_name(kind: type[Act]) -> Both:
    """What the button of an act on orders says."""
    return Both(act_slug(kind).replace("-", " ").capitalize(), act_term(kind))


def event_name(event: str) -> Both:
    """An event of a history."""
    return Both(event.replace("_", " ").capitalize(), EVENTS.get(event, event))


@dataclass(frozen=True, slots=True)
class Below:
    """A bureau under another one, and those under it in turn."""

    code: str
    name: str
    below: tuple["Below", ...] = ()


def bureaus_below(tree: BureauTree, code: str) -> tuple[Below, ...]:
    """The bureaus under a bureau, as a tree."""
    return tuple(Below(child, tree.get(child).name, bureaus_below(tree, child)) for child in tree.children(code))


def found_below(tree: BureauTree, code: str, wanted: str, limit: int) -> list[Below]:
    """Bureaus under a bureau whose code begins so or whose name contains it, the nearest to it first."""
    return found_among(tree, tree.subtree(code)[1:], wanted, limit)


def found_among(tree: BureauTree, codes: Iterable[str], wanted: str, limit: int) -> list[Below]:
    """Of these bureaus those whose code begins so or whose name contains it, in their order."""
    wanted = wanted.strip()
    found = (Below(one, tree.get(one).name) for one in codes)
    return _first(limit, (one for one in found if one.code.startswith(wanted) or wanted in one.name))


def code_named(tree: BureauTree, code: str, typed: str) -> str:
    """The code of a bureau below that was typed by its whole name, alone or behind its code; else what was typed."""
    first, _, rest = typed.partition(" ")
    if rest and first in tree and tree.get(first).name == rest.strip():
        return first
    named = [one.code for one in found_below(tree, code, typed, len(tree)) if one.name == typed]
    return named[0] if len(named) == 1 else typed


def _first(limit: int, found: Iterable[Below]) -> list[Below]:
    return [one for _, one in zip(range(limit), found, strict=False)]
