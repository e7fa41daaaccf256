"""Draws docs/lifecycle.md from the lifecycle's tables; `--write` puts it in its place, else it is printed."""  # noqa: INP001 - a program, not part of a package

from collections.abc import Iterator
from pathlib import Path

from docs.writing import print_or_write, table
from kuaixiang.domain.acts import Act
from kuaixiang.domain.labels import term
from kuaixiang.domain.lifecycle import OPENING, ROLES, STANDING, TRANSITIONS
from kuaixiang.domain.words import Role, Stage

DOCUMENT = Path(__file__).with_name("lifecycle.md")

HEAD = """\
# The lifecycle of a case

Drawn from `kuaixiang/domain/lifecycle.py` by `python -m docs.draw_lifecycle --write`; a test holds it to the table.
It shows one bureau's ledger: a case that was referred stands in several, and moves in each of them by these arrows.
A conclusion heard that says the case was reopened leads back to REFERRED.
"""


def arrows() -> Iterator[tuple[Stage | None, Stage, str]]:
    """Every arrow once, with the acts that follow it: from (None: a new case), to, label."""
    for act, stage in OPENING.items():
        yield None, stage, act.__name__
    for stage, row in TRANSITIONS.items():
        for target in dict.fromkeys(row.values()):
            yield stage, target, ", ".join(act.__name__ for act, to in row.items() if to is target)


def diagram() -> str:
    """The state diagram as Mermaid text."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {stage.name}: {stage.name} {term(stage)}" for stage in Stage]
    lines += [f"    {source.name if source else '[*]'} --> {to.name}: {label}" for source, to, label in arrows()]
    return "\n".join(lines)


def standing() -> str:
    """The acts that leave the stage as it is."""
    rows = (
        (act.__name__, "every stage" if stages == frozenset(Stage) else ", ".join(s.name for s in sorted(stages)))
        for act, stages in STANDING.items()
    )
    return table(("act", "possible at"), rows)


def people() -> str:
    """Who may do what."""

    def mark(act: type[Act], role: Role) -> str:
        return "●" if role in ROLES[act] else ""

    head = ("act", *(role.name.lower().replace("_", " ") for role in Role))
    return table(head, ((act.__name__, *(mark(act, role) for role in Role)) for act in ROLES))


def document() -> str:
    """The whole of docs/lifecycle.md."""
    parts = (
        HEAD,
        f"```mermaid\n{diagram()}\n```\n",
        f"## Acts that leave the stage as it is\n\n{standing()}\n",
        f"## Who may do what\n\n{people()}\n",
    )
    return "\n".join(parts)


if __name__ == "__main__":
    print_or_write(__doc__, lambda: {DOCUMENT: document()})
