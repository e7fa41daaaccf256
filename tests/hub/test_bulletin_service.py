"""The bulletin as the hub serves it, and as the command writes it to a file."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from python_calamine import CalamineWorkbook
from typer.testing import CliRunner

from demo.journals import DAY, MONDAY
from hub.service import Running
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kx.hub import app
from tests.hub.federation import Federation
from tests.hub.test_service import folded, journal_of
from tests.node.callers import refusal_of

pytestmark = pytest.mark.nats


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Path]:
    """Business time stands in December, after the period."""
    driver = SharedClockDriver(tmp_path / "clock", MONDAY + 20 * DAY)
    yield driver.path
    driver.close()


@pytest.fixture
async def hub(federation: Federation, tmp_path: Path, clock: Path) -> AsyncIterator[Running]:
    """A hub that has folded thirty cases of one county and twelve of another."""
    counted = ((federation.north[0], 30), (federation.south[0], 12))
    journals = [journal_of(federation, bureau, cases, late=3) for bureau, cases in counted]
    settings = {"silent_after_seconds": 0.5, "clock": str(clock)}
    async with federation.hub(f"sqlite:///{tmp_path / 'hub.db'}", **settings) as running:
        await folded(running, *journals)
        yield running


async def test_the_hub_gives_the_bulletin_of_a_period_in_each_format(federation: Federation, hub: Running) -> None:
    contents = {}
    async with federation.statistics(hub.port) as stub:
        for wanted, begin in (
            (pb.BULLETIN_FORMAT_HTML, b"<!DOCTYPE html>"),
            (pb.BULLETIN_FORMAT_DOCX, b"PK"),
            (pb.BULLETIN_FORMAT_XLSX, b"PK"),
        ):
            request = pb.GetBulletinRequest(period="2026-11", format=wanted)
            answer = await stub.GetBulletin(request, timeout=60)
            ending = pb.BulletinFormat.Name(wanted).removeprefix("BULLETIN_FORMAT_").lower()
            assert answer.file_name == f"bulletin-000000-2026-11.{ending}"
            assert answer.content.startswith(begin)
            contents[ending] = answer.content
    book = CalamineWorkbook.from_filelike(io.BytesIO(contents["xlsx"]))
    _, headings, *lines = book.get_sheet_by_name("分单位").to_python()[:-1]
    at = {heading: place for place, heading in enumerate(headings)}
    assert {str(line[0]).rstrip("※"): (line[at["受理"]], line[at["名次"]]) for line in lines} == {
        "合计": (42, "—"),
        "110000": (30, 1),
        "330000": (12, "—"),
        "本级": (0, "—"),
    }


async def test_what_cannot_be_told_is_refused_with_the_field_at_fault(federation: Federation, hub: Running) -> None:
    html = pb.BULLETIN_FORMAT_HTML
    async with federation.statistics(hub.port) as stub, federation.statistics(hub.port, "county") as county:
        cases: list[tuple[Any, dict[str, Any], grpc.StatusCode, str]] = [
            (stub, {"period": "soon", "format": html}, grpc.StatusCode.INVALID_ARGUMENT, "period"),
            (stub, {"period": "2027-01", "format": html}, grpc.StatusCode.INVALID_ARGUMENT, "period"),
            (stub, {"period": "2026-11"}, grpc.StatusCode.INVALID_ARGUMENT, "format"),
            (stub, {"period": "2026-11", "format": 9}, grpc.StatusCode.INVALID_ARGUMENT, "format"),
            (stub, {"period": "2026-11", "format": html, "scope": "9"}, grpc.StatusCode.NOT_FOUND, "scope"),
            (county, {"period": "2026-11", "format": html, "scope": "330000"}, grpc.StatusCode.PERMISSION_DENIED, ""),
        ]
        for client, question, code, field in cases:
            refusal = await refusal_of(client.GetBulletin(pb.GetBulletinRequest(**question), timeout=60))
            assert (code, field) == (refusal.code, refusal.field)


async def test_the_command_writes_the_file_and_says_where(
    federation: Federation, hub: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KX_HUB_ENDPOINT", f"127.0.0.1:{hub.port}")
    monkeypatch.setenv("KX_CERTIFICATES", str(federation.folder / "office"))

    async def kx(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, words)
        return result.exit_code, " ".join(result.output.split())

    out = tmp_path / "通报.html"
    county = federation.north[0]
    assert (0, str(out)) == await kx("bulletin", "2026-11", "--scope", county, "--format", "html", "--out", str(out))
    assert county in out.read_text("utf-8")
    assert (0, "bulletin-000000-2026-W47.docx") == await kx("bulletin", "2026-W47")
    assert Path("bulletin-000000-2026-W47.docx").read_bytes().startswith(b"PK")
    status, output = await kx("bulletin", "2026-13")
    assert (status, "'2026-13' is no period" in output) == (2, True)
    status, output = await kx("bulletin", "2026-11", "--format", "pdf")
    assert (status, "Choose one of html, docx, xlsx" in output) == (2, True)
    status, output = await kx("bulletin", "2026-11", "--out", str(tmp_path / "nowhere" / "x.docx"))
    assert (status, "cannot be written" in output) == (2, True)
