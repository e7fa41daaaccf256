"""Every refusal of the product is provoked by a test: raised by the product's own rules, and known by its name."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.house.test_refusals import refusals

ROOT = Path(__file__).parents[2]
PACKAGES = ("kuaixiang", "node", "hub", "kx")


@cache
def modules(*folders: str) -> tuple[ast.Module, ...]:
    """The sources of some folders, parsed; generated code says nothing, nor do the tests of this folder."""
    return tuple(
        ast.parse(path.read_text("utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "v1" not in path.parts and "house" not in path.parts
    )


def name_of(node: ast.AST) -> str:
    """`UnknownCase` of `errors.UnknownCase`, or of the name alone."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def made(module: ast.Module) -> Iterator[str]:
    """What a module calls by its name, or raises without a call."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield name_of(node.func)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield name_of(node.exc)


def expected(module: ast.Module) -> Iterator[str]:
    """What a module of tests names to expect it: the class in `raises(…)` or in a table, the rule in a comparison.

    To make a refusal is not to expect it, and a rule that is handed on is a fake's answer.
    """
    for node in ast.walk(module):
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.Constant) and not isinstance(node, ast.Call):
                yield str(part.value)
            elif not isinstance(node, ast.Raise) and not (isinstance(node, ast.Call) and part is node.func):
                yield name_of(part)


def test_every_refusal_is_provoked_by_a_test() -> None:
    provoked = {name for module in modules("tests") for name in expected(module)}
    assert [] == [kind.__name__ for kind in refusals() if kind.__name__ not in provoked]


def test_every_refusal_is_made_by_the_product() -> None:
    by_the_product = {name for module in modules(*PACKAGES) for name in made(module)}
    assert [] == [kind.__name__ for kind in refusals() if kind.__name__ not in by_the_product]
