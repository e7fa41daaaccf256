"""A node that is told to stop while it is at work ends in order: what it has acknowledged stands, and who asks again is answered."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from demo.federation import Federation, Service, part_of
from kuaixiang.facts import national_tree
from kuaixiang.runtime.serving import TIME_KEY, VERSION_KEY
from kuaixiang.wire.v1.journal_pb2 import Entry
from tests.registering import REGISTRAR, registration

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.asyncio]

HEADQUARTERS, PROVINCE = "000000", "110000"
CALLERS = 16
STOPS = 3
DRAIN_SECONDS = 1.0
STOP_SECONDS = 120.0


@pytest_asyncio.fixture
async def federation(tmp_path: Path) -> AsyncIterator[Federation]:
    """A province's node, its site and the hub."""
    tree = part_of(national_tree(), (HEADQUARTERS, PROVINCE))
    async with Federation(
        tmp_path, tree, placement=[[HEADQUARTERS], [PROVINCE]], node_settings={"drain_seconds": DRAIN_SECONDS}
    ) as made:
        yield made


async def health(channel: grpc.aio.Channel) -> tuple[int, dict[str, str]]:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    call = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    told = {key: str(value) for key, value in await call.initial_metadata()}
    return (await call).status, told


async def test_callers_who_ask_again_see_no_error_and_nothing_acknowledged_is_lost_or_done_twice(
    federation: Federation,
) -> None:
    office = federation.office(PROVINCE)
    answered: dict[str, str] = {}
    stopping = asyncio.Event()

    async def caller(who: int) -> None:
        for number in itertools.count():
            if stopping.is_set():
                return
            key = f"{who}-{number}"
            answer = await office.do(REGISTRAR, registration(key), key=key)
            assert answer.case.case_id not in answered.values()
            answered[key] = answer.case.case_id

    async with asyncio.TaskGroup() as callers:
        for who in range(CALLERS):
            callers.create_task(caller(who))
        for _ in range(STOPS):
            before = len(answered)
            while len(answered) < before + 5 * CALLERS:
                await asyncio.sleep(0.01)
            node = await stopped(federation)
            assert 0 == node.process.returncode
            assert "node.drain" in node.process.log.read_text("utf-8")
            await federation.restart_node(PROVINCE)
        stopping.set()

    recorded = [
        Entry.FromString(one.public).case_id
        for segment in await office.journal()
        for one in segment.entries
        if Entry.FromString(one.public).HasField("registered")
    ]
    assert len(recorded) == len(set(recorded))
    assert set(answered.values()) <= set(recorded)


async def test_a_node_that_is_told_to_stop_says_so_first_and_answers_still(federation: Federation) -> None:
    node = federation.node(PROVINCE)
    office = federation.office(PROVINCE)
    assert node.channel is not None
    status, told = await health(node.channel)
    assert health_pb2.HealthCheckResponse.SERVING == status
    assert {VERSION_KEY, TIME_KEY} <= set(told)
    stopping = asyncio.create_task(stopped(federation))
    while (await health(node.channel))[0] == health_pb2.HealthCheckResponse.SERVING:
        await asyncio.sleep(0.02)
    last = (await office.do(REGISTRAR, registration("last"), key="last")).case.case_id
    await stopping
    # What was acknowledged last has left for the site too: the hub hears of it while the node is down.
    while not any(one.seq for one in await marks(federation)):
        await asyncio.sleep(0.1)
    await federation.restart_node(PROVINCE)
    assert last == (await office.get(last)).case.case_id


async def marks(federation: Federation) -> list[Any]:
    return [one for one in (await federation.hub().completeness()).marks if one.bureau == PROVINCE]


async def stopped(federation: Federation) -> Service:
    """The province's node, told to stop and ended, however busy the machine is."""
    node = federation.node(PROVINCE)
    node.down = True
    await asyncio.to_thread(node.process.stop, STOP_SECONDS)
    return node
