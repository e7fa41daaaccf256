"""What the span of a request over HTTP says, whatever is asked; and that it says no more than may be told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kuaixiang.runtime import tracing
from kuaixiang.runtime.settings import TraceSettings
from kuaixiang.runtime.spans import PARTS_MAX, Spans
from kuaixiang.web.traced import Traced
from tests.collector import Collector, Found

CALLER, TRACE = "b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319c"
SAID = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


class Keeper:
    """Knows whoever says `known`; what says `by-itself` has nobody asked."""

    def knows(self, request: Request) -> bool:
        return "known" in request.headers

    def is_asked(self, request: Request) -> bool:
        return "by-itself" not in request.headers


def pages(spans: Spans) -> Traced:
    async def page(request: Request) -> Response:
        return PlainTextResponse(request.path_params.get("name", ""))

    async def fault(_: Request) -> Response:
        raise RuntimeError("what it was about is nobody's business")

    async def away(_: Request) -> Response:
        tracing.say_refused(TimeoutError("nor this"))
        return Response(status_code=503)

    async def many(request: Request) -> Response:
        await request.body()
        for number in range(PARTS_MAX + 36):
            with tracing.part(f"part {number}"):
                await asyncio.sleep(0)
        return Response(status_code=200 if spans.waiting() is None else 500)

    async def untraced(_: Request) -> Response:
        return Response(status_code=200 if spans.here() is None else 500)

    routes = [
        Route("/pages/{name}", page),
        Route("/fault", fault),
        Route("/away", away),
        Route("/many", many, methods=["POST"]),
        Route("/untraced", untraced),
    ]
    return Traced(Starlette(routes=routes), spans, Keeper(), secure=True)


@asynccontextmanager
async def browsing(collector: Collector, sample_ratio: float) -> AsyncIterator[httpx.AsyncClient]:
    settings = TraceSettings(traces_endpoint=collector.endpoint, traces_sample_ratio=sample_ratio)
    with tracing.tracing(settings, "node", "110101"):
        spans = tracing.spans()
        assert spans is not None
        transport = httpx.ASGITransport(pages(spans), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1") as client:
            yield client


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


def servers(collector: Collector) -> list[Found]:
    return [one for one in collector.spans if one.kind == "server"]


async def test_a_span_has_the_route_the_method_and_the_status_and_never_the_address(collector: Collector) -> None:
    async with browsing(collector, 1.0) as client:
        await client.get("/pages/鹣鲽?look=for")
        await client.get("/鹣鲽/nowhere")
        await client.post("/pages/鹣鲽")
        await client.request("鹣鲽".encode().hex(), "/pages/鹣鲽")
        await client.get("/fault")
        await client.get("/away")
    common = {"url.scheme": "https"}

    def of(method: str, status: int, route: str = "", **more: str) -> dict[str, object]:
        said = {"http.request.method": method, "http.response.status_code": status}
        return {**common, **said, **({"http.route": route} if route else {}), **more}

    assert [
        ("GET /pages/{name}", of("GET", 200, "/pages/{name}")),
        ("GET", of("GET", 404)),
        ("POST /pages/{name}", of("POST", 405, "/pages/{name}")),
        ("HTTP /pages/{name}", of("_OTHER", 405, "/pages/{name}")),
        ("GET /fault", of("GET", 500, "/fault", **{"error.type": "RuntimeError"})),
        ("GET /away", of("GET", 503, "/away", **{"error.type": "TimeoutError"})),
    ] == [(one.name, one.attributes) for one in servers(collector)]
    assert [0, 0, 0, 0, 2, 2] == [one.span.status.code for one in servers(collector)]
    told = b"".join(collector.bodies)
    assert not [word for word in ("鹣鲽", "鹣鲽".encode().hex(), "look", "business") if word.encode() in told]


async def test_who_is_known_says_of_which_trace_he_is_and_a_stranger_begins_his_own(collector: Collector) -> None:
    async with browsing(collector, 1.0) as client:
        await client.get("/pages/1", headers=SAID | {"known": "yes"})
        await client.get("/pages/2", headers={"traceparent": f"00-{TRACE}-{CALLER}-00", "known": "yes"})
        await client.get("/pages/3", headers=SAID)
        await client.get("/untraced", headers=SAID | {"known": "yes", "by-itself": "yes"})
    of_known, of_stranger = servers(collector)
    assert (TRACE, CALLER) == (of_known.trace_id, of_known.span.parent_span_id.hex())
    assert of_stranger.trace_id != TRACE
    assert b"" == of_stranger.span.parent_span_id


async def test_nobody_forces_a_trace_who_is_not_known(collector: Collector) -> None:
    async with browsing(collector, 0.0) as client:
        for headers in ({}, SAID):
            assert 200 == (await client.get("/untraced", headers=headers)).status_code
        assert 200 == (await client.get("/pages/1", headers=SAID | {"known": "yes"})).status_code
    assert ["GET /pages/{name}"] == [one.name for one in collector.spans]


async def test_a_request_tells_so_many_of_its_parts_and_counts_the_others(collector: Collector) -> None:
    async with browsing(collector, 1.0) as client:
        assert 200 == (await client.post("/many", content=b"what comes")).status_code
    (request,) = servers(collector)
    parts = [one for one in collector.spans if one.name.startswith("part")]
    assert PARTS_MAX == len(parts)
    assert {request.span.span_id} == {one.span.parent_span_id for one in parts}
    # The parts and the act that came after them.
    assert 36 + 1 == int(request.attributes["kx.parts_left_out"])
    assert ["request.received", "response.begun"] == [event.name for event in request.span.events]


async def test_a_request_within_the_task_of_another_is_not_below_it(collector: Collector) -> None:
    async with browsing(collector, 0.0) as client:
        spans = tracing.spans()
        assert spans is not None
        with spans.asked("GET", secure=True, traceparent=SAID["traceparent"]).under_way():
            assert spans.here() is not None
            assert 200 == (await client.get("/untraced")).status_code
            assert 200 == (await client.get("/untraced", headers={"by-itself": "yes"})).status_code
