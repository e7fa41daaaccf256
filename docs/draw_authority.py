"""Draws docs/AUTHORITY.md from the table of authority; `--write` puts it in its place, else it is printed."""  # noqa: INP001 - a program, not part of a package

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from docs.writing import print_or_write, table
from kuaixiang.domain.authority import ACCESS, HTTP_ALONE, OFFICERS, PAGES, Capacity, Rule
from kuaixiang.domain.labels import name, term
from kuaixiang.domain.tree import Relation
from kuaixiang.domain.words import Role, TokenScope
from kuaixiang.wire import v1

DOCUMENT: Final = Path(__file__).with_name("AUTHORITY.md")
COLUMNS: Final[Mapping[Relation, str]] = {
    Relation.SELF: "itself",
    Relation.PARENT: "parent",
    Relation.ANCESTOR: "superior",
    Relation.CHILD: "child",
    Relation.DESCENDANT: "subordinate",
    Relation.ELSEWHERE: "elsewhere",
}
HEAD: Final = """\
# Who may ask what

Drawn from `kuaixiang/domain/authority.py` by `python -m docs.draw_authority --write`; a test holds it to the table,
and others hold every cell to what `tests/authority.py` says apart from it: the table, and a node and a hub that are
asked everything over mutual TLS, by every kind of certificate.

**A call without a row is refused to everybody, before its handler runs; what a row does not allow, it denies.** Callers
are known by the certificate of their connection. It names bureaus in three capacities: as their *node*, as an *office*
(the terminals at which their officers sit), or as a *hub* that counts them. A column says what that bureau is to the
one asked about, whose ledger or figures the call is of: a *superior* is further up than the parent, a *subordinate*
further down than a child, *elsewhere* is any other, also one that the tree does not know.

*(node)* is the node of a bureau that the case or the question itself adds: for `Track` one that handed the case over
with the bureau asked, for the calls of a pair the one whose ledger is compared. *Once* says as what the node of a past
neighbour may still call, to end what both share. A call that *speaks* is made in the name of a bureau, of which the
certificate must be the node's.

An officer who has signed in, or a channel's token, narrows what the terminal's certificate allows: to one bureau, and
to the calls of his roles, or of its scopes.
"""


def services() -> Iterator[tuple[str, list[str]]]:
    """Every service of ours with its calls, in the order in which the wire has them."""
    for module in iter_modules(v1.__path__):
        if module.name.endswith("_pb2"):
            for service in import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR.services_by_name.values():
                if service.name not in HTTP_ALONE:
                    yield service.name, [method.name for method in service.methods]
    yield "Pages of the board", sorted(PAGES)


def cell(rule: Rule, relation: Relation) -> str:
    """Who of that relation may."""
    allowed = [capacity.value for capacity in Capacity if relation in rule.by_capacity[capacity]]
    if relation in rule.party and Capacity.NODE not in allowed:
        allowed.insert(0, f"({Capacity.NODE})")
    return ", ".join(allowed)


def matrix(rpcs: list[str]) -> str:
    """The rows of some calls: relations."""
    head = ("call", *COLUMNS.values(), "once", "speaks", "channel's scope")
    return table(
        head,
        (
            (
                f"`{rpc}`",
                *(cell(ACCESS[rpc], relation) for relation in COLUMNS),
                ", ".join(COLUMNS[relation] for relation in COLUMNS if relation in ACCESS[rpc].once),
                "yes" if ACCESS[rpc].speaks is not None else "",
                "" if (scope := ACCESS[rpc].scope) is None else name(scope),
            )
            for rpc in rpcs
        ),
    )


def roles(rpcs: list[str]) -> str:
    """The rows of some calls: which of the officers there."""
    people = sorted(OFFICERS)

    def marks(rpc: str) -> Iterator[str]:
        for role in people:
            yield "●" if role in ACCESS[rpc].roles else ""

    return table(("call", *(name(role) for role in people)), ((f"`{rpc}`", *marks(rpc)) for rpc in rpcs))


def document() -> str:
    """The whole of docs/AUTHORITY.md."""
    parts = [HEAD]
    for service, rpcs in services():
        parts.append(f"## {service}\n\n{matrix(rpcs)}\n\nWhich officers, once they have signed in:\n\n{roles(rpcs)}\n")
    words = ", ".join(f"{name(role)} {term(role)}" for role in Role if role in OFFICERS)
    scopes = ", ".join(f"{name(scope)} {term(scope)}" for scope in TokenScope)
    parts.append(f"## Words\n\nRoles: {words}. Scopes of a channel's token: {scopes}.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print_or_write(__doc__, lambda: {DOCUMENT: document()})
