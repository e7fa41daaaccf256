"""Requests that nobody who means well sends, for each route of an application, made by schemathesis."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

import httpx
import hypothesis
import schemathesis
from starlette.applications import Starlette
from starlette.routing import Mount, Route

EXAMPLES_OF_A_ROUTE = 2
MARK = "<script>alert(1)</script>"
VALUE = {
    "anyOf": [
        {"type": "string", "maxLength": 200},
        {"enum": [MARK, "110101", "../..", "-1", "9" * 40, "2026-13-45", "\u202e", "%00", "=1+1"]},
    ]
}


def described(app: Starlette, fields: Iterable[str]) -> dict[str, Any]:
    """An OpenAPI description of every route of an application, whose forms and addresses have these fields."""
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
            parameters += [{"name": name, "in": "query", "schema": VALUE} for name in fields]
            operation: dict[str, Any] = {"parameters": parameters, "responses": {"200": {"description": "a page"}}}
            if method == "POST":
                form = {"type": "object", "properties": dict.fromkeys(fields, VALUE)}
                operation["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": form}}}
            paths.setdefault(plain or "/", {})[method.lower()] = operation
    return {"openapi": "3.0.3", "info": {"title": "pages", "version": "1"}, "paths": paths}


def routes(of: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every route's path and methods."""
    for route in of:
        if isinstance(route, Mount):
            yield from routes(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            yield prefix + route.path, set(route.methods or ())


def requests_for(app: Starlette, fields: Sequence[str], endless: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A few requests for each route, the same ones every time; none for streams that do not end."""
    found: list[dict[str, Any]] = []
    schema = schemathesis.openapi.from_dict(described(app, fields))
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
            asked = case.as_transport_kwargs(base_url="")
            known = {
                name: value for name, value in asked.items() if name in {"method", "url", "params", "data", "headers"}
            }
            if not any(part in known["url"] for part in endless):
                found.append(known)

        collect()
    return found


async def hold_out(
    client: httpx.AsyncClient, asked: Sequence[dict[str, Any]], token: Callable[[], Awaitable[str]]
) -> None:
    """Sends them all, forms with the `token` that makes them ours: no fault, and nothing comes back as it was sent.

    After an answer that leads to where one steps in, the token is asked for again.
    """
    csrf = await token()
    for one in asked:
        sent = one | ({"data": {**(one.get("data") or {}), "csrf": csrf}} if one["method"] == "POST" else {})
        answer = await client.request(**sent)
        assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (sent, answer.status_code)
        assert MARK not in answer.text, sent
        if "step-out" in one["url"] or answer.headers.get("location", "").startswith("/step-in"):
            csrf = await token()
