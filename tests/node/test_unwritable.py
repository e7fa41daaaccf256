"""A ledger that cannot be written: read as ever, acts refused by name, health and metric say so, and it heals by itself."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from kuaixiang.wire.v1 import case_pb2
from node import service
from node.settings import NodeSettings
from tests.node.callers import COUNTY, Callers, refusal_of, registration

SECONDS_MAX = 60.0
DISK = "size=96m"
FILLING_BYTES = 48 * 1024 * 1024
"""Leaves less than `database.FREE_BYTES_MIN`, and room enough to read by."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ("mount", "-t", "tmpfs", "-o", DISK, "tmpfs", folder), check=False, capture_output=True
    ).returncode:
        if os.environ.get("CI"):
            pytest.fail("this machine lets nobody mount a small disk", pytrace=False)
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", folder), check=True)


@pytest_asyncio.fixture
async def on_the_disk(settings: NodeSettings, disk: Path, tmp_path: Path) -> AsyncIterator[Callers]:
    """Callers of a node whose ledger is on that disk."""
    settings = settings.model_copy(update={"database": f"sqlite:///{disk}/node.db"})
    async with service.running(settings) as running:
        made = Callers(running.port, tmp_path)
        yield made
        await made.close()


async def health(callers: Callers) -> int:
    stub: Any = health_pb2_grpc.HealthStub(callers.channel())
    answer: health_pb2.HealthCheckResponse = await stub.Check(health_pb2.HealthCheckRequest())
    return answer.status


async def becomes(callers: Callers, expected: int) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while await health(callers) != expected:
            await asyncio.sleep(0.05)


def writable() -> float | None:
    return REGISTRY.get_sample_value("kx_database_writable")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_on_a_full_disk_nothing_is_done_and_everything_is_read_until_there_is_room(
    on_the_disk: Callers, disk: Path
) -> None:
    office = on_the_disk.office()
    case_id = (await office.RegisterCase(registration())).case.case_id
    with (disk / "filling").open("wb") as filling:
        os.posix_fallocate(filling.fileno(), 0, FILLING_BYTES)
    refusal = await refusal_of(office.RegisterCase(registration(channel_reference="while-full")))
    assert ("LedgerNotWritable", grpc.StatusCode.RESOURCE_EXHAUSTED) == (refusal.rule, refusal.code)
    assert "its disk is full" in refusal.sentence.english
    assert "磁盘空间已满" in refusal.sentence.chinese
    listed = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY))
    assert [case_id] == [case.case_id for case in listed.cases]
    await becomes(on_the_disk, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert 0.0 == writable()
    (disk / "filling").unlink()
    await becomes(on_the_disk, health_pb2.HealthCheckResponse.SERVING)
    again = await office.RegisterCase(registration(channel_reference="while-full"))
    assert (2, False) == (again.seq, again.repeated_request)
    assert 1.0 == writable()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_on_a_disk_that_the_system_has_made_read_only_acts_are_refused_by_that_name(
    callers: Callers, node: service.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = callers.office()
    await office.RegisterCase(registration())
    seen = os.statvfs("/")
    read_only = os.statvfs_result((*seen[:8], seen.f_flag | os.ST_RDONLY, seen.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    refusal = await refusal_of(office.RegisterCase(registration(channel_reference="second")))
    assert ("LedgerNotWritable", "The ledger can be read and not written: it is read-only.") == (
        refusal.rule,
        refusal.sentence.english,
    )
    monkeypatch.undo()
    assert 2 == (await office.RegisterCase(registration(channel_reference="second"))).seq
    assert 2 == node.office.ledger.heads[COUNTY].seq


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_database_server_that_takes_no_writes_refuses_a_batch_whole_and_takes_the_next(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    await office.RegisterCase(registration())
    writing = node.office.ledger.database.writing
    writing.exec_driver_sql("SET default_transaction_read_only = on")
    writing.commit()
    several = [office.RegisterCase(registration(channel_reference=f"r-{number}")) for number in range(5)]
    for call in several:
        refusal = await refusal_of(call)
        assert ("LedgerNotWritable", grpc.StatusCode.RESOURCE_EXHAUSTED) == (refusal.rule, refusal.code)
    writing.exec_driver_sql("SET default_transaction_read_only = off")
    writing.commit()
    assert 2 == (await office.RegisterCase(registration(channel_reference="r-0"))).seq
