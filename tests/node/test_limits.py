"""What one caller may ask of a node, over real connections: honest work passes, excess is told when to come again."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from kuaixiang.runtime import tls
from kuaixiang.wire.v1 import case_pb2
from node import cases, service
from node.settings import NodeSettings
from tests.node.callers import COUNTY, PROVINCE, Callers, registration

SECONDS = 60.0


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """No limit depends on the database."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@asynccontextmanager
async def served(settings: NodeSettings, folder: Path, **limits: Any) -> AsyncIterator[tuple[service.Running, Callers]]:
    async with service.running(settings.model_copy(update=limits)) as node:
        callers = Callers(node.port, folder)
        try:
            yield node, callers
        finally:
            await callers.close()


def listing(bureau: str = COUNTY) -> case_pb2.ListCasesRequest:
    return case_pb2.ListCasesRequest(bureau=bureau)


def retry_seconds(error: grpc.aio.AioRpcError) -> float:
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return float(retry.retry_delay.ToMilliseconds()) / 1_000


async def outcome(call: Any) -> grpc.aio.AioRpcError | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not so():
            await asyncio.sleep(0.01)


async def test_who_calls_too_fast_is_told_when_to_come_again_and_others_are_not_affected(
    settings: NodeSettings, tmp_path: Path
) -> None:
    async with served(settings, tmp_path, calls_per_second=1) as (_, callers):
        office, other = callers.office(), callers.office(PROVINCE)
        outcomes = [await outcome(office.ListCases(listing(), timeout=SECONDS)) for _ in range(60)]
        refusals = [one for one in outcomes if one is not None]
        assert outcomes[:5] == [None] * 5, "a burst of five seconds passes"
        assert len(refusals) >= 20
        assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {one.code() for one in refusals}
        assert all("1 calls a second" in (one.details() or "") for one in refusals)
        assert all(0 < retry_seconds(one) <= 1.01 for one in refusals)
        assert await outcome(other.ListCases(listing(PROVINCE), timeout=SECONDS)) is None
        last = await outcome(office.ListCases(listing(), timeout=SECONDS))
        await asyncio.sleep(retry_seconds(last) if last is not None else 1.0)
        assert await outcome(office.ListCases(listing(), timeout=SECONDS)) is None


async def test_a_token_has_a_rate_of_its_own_below_its_bearers(settings: NodeSettings, tmp_path: Path) -> None:
    async with served(settings, tmp_path, token_calls_per_second=1) as (_, callers):
        office = callers.office()
        bearing = [("authorization", "Bearer of-a-channel")]
        outcomes = [await outcome(office.ListCases(listing(), timeout=SECONDS, metadata=bearing)) for _ in range(40)]
        refused = [one for one in outcomes if one is not None and one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert refused
        assert await outcome(office.ListCases(listing(), timeout=SECONDS)) is None


async def test_as_many_calls_as_may_be_are_under_way_and_one_more_is_refused_at_once(
    settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    begun = 0
    real = cases.CaseServicer.ListCases

    async def slow(self: Any, request: Any, context: Any) -> Any:
        nonlocal begun
        begun += 1
        await go_on.wait()
        return await real(self, request, context)

    monkeypatch.setattr(cases.CaseServicer, "ListCases", slow)
    async with served(settings, tmp_path, calls_at_once=3) as (_, callers):
        office, other = callers.office(), callers.office(PROVINCE)
        under_way = [asyncio.ensure_future(outcome(office.ListCases(listing(), timeout=SECONDS))) for _ in range(3)]
        await until(lambda: begun == 3)
        started = time.monotonic()
        refused = await outcome(office.ListCases(listing(), timeout=SECONDS))
        assert time.monotonic() - started < SECONDS / 2
        assert refused is not None
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, 1.0) == (refused.code(), retry_seconds(refused))
        theirs = asyncio.ensure_future(outcome(other.ListCases(listing(PROVINCE), timeout=SECONDS)))
        await until(lambda: begun == 4)
        go_on.set()
        assert [None] * 4 == await asyncio.gather(*under_way, theirs)
        assert await outcome(office.ListCases(listing(), timeout=SECONDS)) is None


async def test_streams_are_counted_while_they_are_open_and_given_back_when_they_end(
    settings: NodeSettings, tmp_path: Path
) -> None:
    async with served(settings, tmp_path, streams_at_once=3) as (_, callers):
        office, other = callers.office(), callers.office(PROVINCE)
        await office.RegisterCase(registration(), timeout=SECONDS)

        def watch(stub: Any, bureau: str = COUNTY) -> Any:
            return stub.WatchCases(case_pb2.WatchCasesRequest(bureau=bureau, from_seq=1), timeout=60)

        open_ones = [watch(office) for _ in range(3)]
        for stream in open_ones:
            assert 1 == (await stream.read()).seq
        refused = await outcome(watch(office).read())
        assert refused is not None
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, 10.0) == (refused.code(), retry_seconds(refused))
        assert "3 of your streams" in (refused.details() or "")
        await office.ListCases(listing(), timeout=SECONDS)
        theirs = watch(other, PROVINCE)
        open_ones.pop().cancel()
        async with asyncio.timeout(SECONDS):
            while await outcome(watch(office).read()) is not None:
                await asyncio.sleep(0.05)
        theirs.cancel()


async def test_who_does_not_read_his_stream_holds_none_of_it_in_the_node(
    settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    real = cases.watched

    def counted(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        message = real(*arguments)
        message.actor = "x" * 20_000  # what a connection's own buffers hold must not be all
        return message

    monkeypatch.setattr(cases, "watched", counted)
    async with served(settings, tmp_path, calls_per_second=0) as (node, callers):
        office = callers.office()
        for _ in range(5):
            await asyncio.gather(*(office.RegisterCase(registration(), timeout=SECONDS) for _ in range(200)))
        committed = node.office.ledger.heads[COUNTY].seq
        stream = office.WatchCases(case_pb2.WatchCasesRequest(bureau=COUNTY, from_seq=1), timeout=4 * SECONDS)
        await stream.read()
        before = -1
        async with asyncio.timeout(SECONDS):
            while made != before:
                before = made
                await asyncio.sleep(0.5)
        assert made < committed / 2
        seqs = [(await stream.read()).seq for _ in range(committed - 1)]
        assert list(range(2, committed + 1)) == seqs
        stream.cancel()


async def test_who_connects_and_says_nothing_is_sent_away(
    settings: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = dict(tls.SERVER_OPTIONS) | {"grpc.server_handshake_timeout_ms": 500}
    monkeypatch.setattr(tls, "SERVER_OPTIONS", tuple(hurried.items()))
    async with served(settings, tmp_path) as (node, callers):
        silent = [socket.create_connection(("127.0.0.1", node.port), timeout=SECONDS) for _ in range(50)]
        try:
            honest = callers.office().ListCases(listing(), timeout=SECONDS, wait_for_ready=True)
            assert await outcome(honest) is None
            started = time.monotonic()
            for one in silent:
                while await asyncio.to_thread(one.recv, 1_000):
                    pass
            assert time.monotonic() - started < SECONDS
        finally:
            for one in silent:
                one.close()
