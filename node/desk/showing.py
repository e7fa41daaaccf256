"""What several pages of supervision show alike: deadlines, names of acts and events, lists of bureaus."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rapidfuzz import process

from kuaixiang.domain.acts import Act
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.labels import EVENTS, Both, act_term, command
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.domain.words import ClockKind, Light
from kuaixiang.web.language import Unknown, known
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2

ALIKE_MIN: Final = 50
"""Of 100: half of a short name's characters are right."""
NEAR_MAX: Final = 5
"""Names that a refusal of a mistyped one offers."""
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


def bureau_named(tree: BureauTree, typed: str, field: str) -> str:
    """The code of the bureau that was typed by its code, by its name, whole or short, or by both.

    Raises `FieldMalformed` for what is no bureau's or several ones', naming those that it may be.
    """
    typed = " ".join(typed.split())
    code, _, rest = typed.partition(" ")
    if code in tree and (not rest or rest in {tree.get(code).name, short_name(tree.get(code).name)}):
        return code
    bureaus = tree.bureaus
    whole = [one for one in bureaus if tree.get(one).name == typed]
    named = whole or [one for one in bureaus if short_name(tree.get(one).name) == typed]
    if len(named) == 1:
        return named[0]
    # Nothing is in every name.
    like = [one.code for one in found_among(tree, bureaus, typed, NEAR_MAX)] or _alike(tree, typed) if typed else []
    near = named or like
    told = "、".join(f"{one} {tree.get(one).name}" for one in near[:NEAR_MAX])
    raise FieldMalformed(
        field,
        Both("names several bureaus" if named else "names no bureau", "对应多个单位" if named else "没有对应的单位"),
        Both(
            f"It may be {told}; give the code." if told else "Give its code.",
            f"是否为：{told}。请填写单位代码。" if told else "请填写单位代码。",
        ),
    )


def _alike(tree: BureauTree, typed: str) -> list[str]:
    """Bureaus whose short names are written most like it."""
    names = {code: short_name(tree.get(code).name) for code in tree.bureaus}
    found = process.extract(short_name(typed), names, limit=NEAR_MAX, score_cutoff=ALIKE_MIN)
    return [code for _, _, code in found]


def _first(limit: int, found: Iterable[Below]) -> list[Below]:
    return [one for _, one in zip(range(limit), found, strict=False)]
