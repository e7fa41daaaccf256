"""No call to another process waits for ever: each has its time-out where it is made."""

import ast
from collections.abc import Iterator
from pathlib import Path

from kuaixiang.domain.authority import ACCESS

ROOT = Path(__file__).parents[2]
PACKAGES = ("kuaixiang", "node", "hub", "kx")


def calls_without(source: str) -> Iterator[str]:
    """Calls of other processes without a time-out: an RPC's name with the request alone, awaited or gone through.

    Inside the process the context is the second argument; a method that is only named (`stub.Track`) is called where
    it was handed to.
    """
    for node in ast.walk(ast.parse(source)):
        call = node.value if isinstance(node, ast.Await) else node.iter if isinstance(node, ast.AsyncFor) else None
        if isinstance(node, ast.Lambda):
            call = node.body
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ACCESS
            and len(call.args) < 2
            and "timeout" not in {keyword.arg for keyword in call.keywords}
        ):
            yield f"{call.func.attr} in line {call.lineno}"


def test_every_call_of_another_process_has_a_timeout() -> None:
    found = {
        str(path.relative_to(ROOT)): missing
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "v1" not in path.parts and (missing := list(calls_without(path.read_text("utf-8"))))
    }
    assert {} == found


def test_a_call_without_one_is_found() -> None:
    for found in ("await stub.Track(question)", "lambda: stub.Track(question)"):
        assert ["Track in line 1"] == list(calls_without(found))
    for fine in ("await stub.Track(question, timeout=1)", "await services.Track(question, inside)", "ask(stub.Track)"):
        assert [] == list(calls_without(fine))
