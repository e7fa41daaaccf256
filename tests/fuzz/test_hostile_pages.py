"""Hostile requests to the pages: the desk's routes, described from the application itself and filled by schemathesis.

Whoever asks has stepped in, so that forms and not the door are met. Nothing but pages, refusals and redirections comes back,
never a fault, and what is sent is never a part of the page as it was sent.
"""

from collections.abc import Iterator
from typing import Any

import hypothesis
import schemathesis
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from kuaixiang.domain.words import Role
from tests.desk.conftest import bureaus, county  # noqa: F401 - fixtures
from tests.desk.offices import Pages
from tests.federation.bureaus import COUNTY, Federation

EXAMPLES_OF_A_ROUTE = 2
MARK = "<script>alert(1)</script>"
FIELDS = (
    "actor",
    "bureau",
    "category",
    "channel",
    "contact",
    "cases",
    "csrf",
    "department",
    "key",
    "reason",
    "role",
    "tab",
    "taxpayer_name",
    "text",
    "version",
)
"""Names of fields that some form has."""
VALUE = {
    "anyOf": [
        {"type": "string", "maxLength": 200},
        {"enum": [MARK, "110101", "../..", "-1", "9" * 40, "2026-13-45", "\u202e", "%00", "=1+1"]},
    ]
}
ENDLESS = ("/live",)
"""Streams that end with the session."""


def described(app: Starlette) -> dict[str, Any]:
    """An OpenAPI description of every route of an application."""
    paths: dict[str, Any] = {}
    for path, methods in routes(app.routes):
        names = [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]
        plain = "/".join(
            f"{{{part[1:-1].partition(':')[0]}}}" if part.startswith("{") else part for part in path.split("/")
        )
        for method in sorted(methods & {"GET", "POST"}):
            parameters: list[dict[str, Any]] = [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 60},
                }
                for name in names
            ]
            parameters += [{"name": name, "in": "query", "schema": VALUE} for name in FIELDS]
            operation: dict[str, Any] = {"parameters": parameters, "responses": {"200": {"description": "a page"}}}
            if method == "POST":
                fields = {"type": "object", "properties": dict.fromkeys(FIELDS, VALUE)}
                operation["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": fields}}}
            paths.setdefault(plain or "/", {})[method.lower()] = operation
    return {"openapi": "3.0.3", "info": {"title": "pages", "version": "1"}, "paths": paths}


def routes(of: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every route's path and methods."""
    for route in of:
        if isinstance(route, Mount):
            yield from routes(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            yield prefix + route.path, set(route.methods or ())


def requests_for(app: Starlette) -> list[dict[str, Any]]:
    """A few requests for each route, the same ones every time."""
    found: list[dict[str, Any]] = []
    schema = schemathesis.openapi.from_dict(described(app))
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # the description is ours

        @hypothesis.seed(1)
        @hypothesis.settings(
            max_examples=EXAMPLES_OF_A_ROUTE,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def collect(case: Any) -> None:
            asked = case.as_transport_kwargs(base_url="http://127.0.0.1")
            found.append(asked)

        collect()
    return found


async def test_no_request_to_the_desk_is_a_fault_or_comes_back_as_it_was_sent(
    county: Pages,  # noqa: F811
    bureaus: Federation,  # noqa: F811
) -> None:
    await bureaus.register(COUNTY)
    await county.step_in(COUNTY, Role.TAX_SERVICE)
    form = await county.hidden("/register")
    app = county.client._transport.app  # type: ignore[attr-defined]
    asked = [one for one in requests_for(app) if not any(part in one["url"] for part in ENDLESS)]
    assert len(asked) > 30
    for whole in asked:
        one = {name: value for name, value in whole.items() if name in {"method", "url", "params", "data", "headers"}}
        if one["method"] == "POST":
            one["data"] = {**(one.get("data") or {}), "csrf": form["csrf"]}
        answer = await county.client.request(**one)
        assert answer.status_code < 500, (one, answer.status_code)
        assert MARK not in answer.text, one
        if "step-out" in one["url"] or answer.headers.get("location", "").startswith("/step-in"):
            await county.step_in(COUNTY, Role.TAX_SERVICE)
            form = await county.hidden("/register")
