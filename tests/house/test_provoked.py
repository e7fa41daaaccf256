"""Every refusal of the product is provoked by a test: raised by the product's own rules, and known by its name."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.test_refusals import refusals

ROOT = Path(__file__).parents[2]
PACKAGES = ("kuaixiang", "node", "hub", "kx")


@cache
def trees(*folders: str) -> tuple[tuple[Path, ast.Module], ...]:
    """The sources of some folders, parsed; generated code and this folder's tests say nothing."""
    return tuple(
        (path, ast.parse(path.read_text("utf-8")))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "v1" not in path.parts and "house" not in path.parts
    )


def name_of(node: ast.expr) -> str:
    """`UnknownCase` of `errors.UnknownCase`, or of the name alone."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def made_in(*code: ast.AST) -> set[str]:
    """The names of all that is called, or raised without a call, in pieces of code."""
    found = set()
    for node in (node for piece in code for node in ast.walk(piece)):
        if isinstance(node, ast.Call):
            found.add(name_of(node.func))
        elif isinstance(node, ast.Raise) and node.exc is not None:
            found.add(name_of(node.exc))
    return found


def expected(module: ast.Module) -> Iterator[str]:
    """The refusals that a module of tests expects: in `pytest.raises(…)`, or by the rule that a refusal names.

    A `raises` in whose body the test makes the refusal itself proves nothing, nor does a name that is handed on: a fake
    refuses with it.
    """
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            yield from (
                part.value
                for part in ast.iter_child_nodes(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
        if not isinstance(node, ast.With | ast.AsyncWith):
            continue
        made = made_in(*node.body)
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and name_of(call.func) == "raises" and call.args:
                kinds = call.args[0].elts if isinstance(call.args[0], ast.Tuple) else [call.args[0]]
                yield from (name for name in map(name_of, kinds) if name not in made)


def test_every_refusal_is_provoked_by_a_test() -> None:
    provoked = {name for _, module in trees("tests") for name in expected(module)}
    assert [] == [kind.__name__ for kind in refusals() if kind.__name__ not in provoked]


def test_every_refusal_is_made_by_the_product() -> None:
    made = made_in(*(module for _, module in trees(*PACKAGES)))
    assert [] == [kind.__name__ for kind in refusals() if kind.__name__ not in made]
