"""Who asks too much of the pages, or keeps a connection and says nothing: over real sockets, beside honest visitors."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from kuaixiang.runtime.limits import DEFAULT_PAGE_LIMITS, PageLimits
from kuaixiang.web import guard, serving
from kuaixiang.web.serving import serving_pages
from node.desk.application import application
from tests.desk.offices import Pages
from tests.federation.bureaus import COUNTY

SECONDS = 60.0
GET = b"GET /step-in HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ANSWERS_BYTES = 64 * 1024**2
"""More than what two sockets hold between them."""
PERSON = {"bureau": COUNTY, "actor": "tax_service-1", "department": "tax-service", "role": "TAX_SERVICE"}


@asynccontextmanager
async def served(county: Pages, limits: PageLimits = DEFAULT_PAGE_LIMITS) -> AsyncIterator[int]:
    async with serving_pages(application(county.services, demonstration=True), "127.0.0.1:0", limits=limits) as port:
        yield port


@asynccontextmanager
async def browser(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:
        yield client


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends."""
    async with asyncio.timeout(SECONDS):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_silent_connections_are_closed_and_an_honest_visitor_is_served_meanwhile_and_after(
    county: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The honest visitor's own head must come within it, however busy the machine is.
    monkeypatch.setattr(serving, "HEAD_SECONDS_MAX", 2.0)
    async with served(county) as port, browser(port) as visitor:
        started = time.monotonic()
        silent = [await connect(port) for _ in range(300)]
        assert 200 == (await visitor.get("/step-in")).status_code
        assert [b""] * 300 == await asyncio.gather(*(ended(reader) for reader, _ in silent))
        assert 1.9 < time.monotonic() - started < SECONDS
        # A visitor who has been answered may think for longer than that, on the same connection.
        assert 200 == (await visitor.get("/step-in")).status_code
        for _, writer in silent:
            writer.close()


async def test_more_connections_than_may_be_are_told_so_and_the_service_is_there_when_they_are_gone(
    county: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 50)
    async with served(county) as port:
        silent = [await connect(port) for _ in range(60)]
        async with browser(port) as early:
            assert 503 == (await early.get("/step-in")).status_code
        for _, writer in silent:
            writer.close()
        async with asyncio.timeout(SECONDS), browser(port) as late:
            while (await late.get("/step-in")).status_code == 503:
                await asyncio.sleep(0.05)
            assert 200 == (await late.get("/step-in")).status_code


@pytest.mark.parametrize("first", [b"", GET])
async def test_a_head_that_trickles_in_byte_by_byte_is_not_waited_for(
    county: Pages, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS_MAX", 1.0)
    async with served(county) as port:
        reader, writer = await connect(port)
        writer.write(first)
        ending = asyncio.create_task(ended(reader))
        started = time.monotonic()
        for byte in GET[:-2].ljust(400, b"a"):
            if ending.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
        await ending
        assert time.monotonic() - started < SECONDS / 2
        writer.close()


async def test_a_visitor_who_thinks_between_two_pages_keeps_his_connection(
    county: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS_MAX", 1.5)
    async with served(county) as port:
        reader, writer = await connect(port)
        for thinking in (2.0, 0.0):
            writer.write(GET.replace(b"/step-in", b"/nothing"))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(thinking)
        writer.close()


async def test_a_form_that_does_not_come_is_refused_in_time(county: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS_MAX", 0.5)
    async with served(county) as port:
        reader, writer = await connect(port)
        writer.write(
            b"POST /step-in HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nbureau="
        )
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 422 ")
        refused = guard.BodyTooSlow
        assert refused().chinese in answer.decode()
        writer.close()


async def test_who_does_not_read_the_answer_is_given_up(county: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "READ_SECONDS_MAX", 0.5)
    lost = serving.Patient.connection_lost
    async with served(county) as port:
        reader, writer = await connect(port)
        given_up = asyncio.Event()

        def told(connection: serving.Patient, failure: Exception | None) -> None:
            if connection.client == writer.get_extra_info("sockname"):
                given_up.set()
            lost(connection, failure)

        monkeypatch.setattr(serving.Patient, "connection_lost", told)
        transport = writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        async with browser(port) as visitor:
            page = (await visitor.get("/step-in")).text
            script = page.partition('src="/assets/')[2].partition('"')[0]
            whole = len((await visitor.get(f"/assets/{script}")).content)
        asked = ANSWERS_BYTES // whole
        for _ in range(asked):
            writer.write(GET.replace(b"/step-in", f"/assets/{script}".encode()))
        async with asyncio.timeout(SECONDS):
            await given_up.wait()
        transport.resume_reading()  # type: ignore[attr-defined]
        # What was in the sockets' buffers, and nothing more: the connection had been given up.
        assert len(await ended(reader)) < asked * whole
        writer.close()


async def test_a_session_that_asks_too_fast_is_told_when_to_come_again_and_another_is_not_affected(
    county: Pages,
) -> None:
    async with (
        served(county, PageLimits(requests_per_second=1)) as port,
        browser(port) as greedy,
        browser(port) as modest,
    ):
        for visitor in (greedy, modest):
            assert 303 == (await visitor.post("/step-in", data=PERSON)).status_code
        answers = [await greedy.get("/nothing") for _ in range(40)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert {404, 429} == {answer.status_code for answer in answers}
        assert {"1"} == {answer.headers["retry-after"] for answer in refused}
        assert "每秒最多可调用 1 次" in refused[0].text
        assert 404 == (await modest.get("/nothing")).status_code
        style = refused[0].text.partition('href="/assets/')[2].partition('"')[0]
        assert 200 == (await greedy.get(f"/assets/{style}")).status_code
        await asyncio.sleep(1.0)
        assert 404 == (await greedy.get("/nothing")).status_code


async def test_a_session_has_so_many_streams_and_another_its_own(county: Pages) -> None:
    limits = PageLimits(requests_per_second=0, streams_at_once=2)
    async with served(county, limits) as port, browser(port) as greedy, browser(port) as modest:
        for visitor in (greedy, modest):
            assert 303 == (await visitor.post("/step-in", data=PERSON)).status_code
        async with greedy.stream("GET", "/live") as first:
            assert 200 == first.status_code
            async with greedy.stream("GET", "/live") as second:
                assert 200 == second.status_code
                third = await greedy.get("/live")
                assert (429, "10") == (third.status_code, third.headers["retry-after"])
                async with modest.stream("GET", "/live") as theirs:
                    assert 200 == theirs.status_code
            async with asyncio.timeout(SECONDS):
                while True:
                    async with greedy.stream("GET", "/live") as again:
                        if again.status_code == 200:
                            break
                    await asyncio.sleep(0.05)


async def test_one_address_with_more_silent_connections_than_there_are_places_keeps_nobody_out(
    county: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer than there are, for the sake of the files that a process may open.
    monkeypatch.setattr(serving, "CONNECTIONS_MAX", 300)
    monkeypatch.setattr(serving, "HEAD_SECONDS_MAX", SECONDS)
    async with served(county) as port:
        silent = [await connect(port) for _ in range(serving.CONNECTIONS_MAX + 5)]
        started = time.monotonic()
        # Behind the same address, and at once: not when the silent ones are given up.
        async with browser(port) as visitor:
            assert 200 == (await visitor.get("/step-in")).status_code
        assert time.monotonic() - started < serving.HEAD_SECONDS_MAX
        longest = len(silent) - serving.SILENT_OF_ADDRESS_MAX - 1
        assert [b""] * longest == await asyncio.gather(*(ended(reader) for reader, _ in silent[:longest]))
        for _, writer in silent:
            writer.close()


async def test_one_address_has_no_more_than_its_share_of_connections(
    county: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS_OF_ADDRESS_MAX", 3)
    async with served(county) as port:
        kept = [await connect(port) for _ in range(3)]
        reader, writer = await connect(port)
        assert b"" == await ended(reader)
        writer.close()
        _, leaving = kept.pop()
        leaving.close()
        async with asyncio.timeout(SECONDS):
            while True:
                reader, writer = await connect(port)
                writer.write(GET + b"GET")
                if (await reader.read(12)).startswith(b"HTTP/1.1 200"):
                    break
                writer.close()
                await asyncio.sleep(0.05)
        for _, other in (*kept, (reader, writer)):
            other.close()
