"""`kx channel send` at a node's door: a file is acknowledged row by row, whatever is killed in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from demo.processes import ChildProcess, free_port
from kx.handing_in import HandIn, _acknowledgements, _Sender
from kx.output import Bar, Failed
from node.settings import NodeSettings
from tests.kx.conftest import kx
from tests.node.callers import Callers
from tests.node.gateways import REQUEST, Gateway, with_gateway
from tests.node.processes import node_process, start

ROWS = 2_000
HEADINGS = "渠道编号,纳税人名称,联系方式,诉求内容,类别"
UNKNOWN_CONTACT = 1_500
"""The row in which something is wrong."""


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    more = {"listen": f"127.0.0.1:{free_port()}", "gateway": f"127.0.0.1:{free_port()}"}
    return with_gateway(settings, tmp_path, token_calls_per_second=1_000, **more)


@pytest.fixture
def process(settings: NodeSettings, tmp_path: Path) -> Iterator[ChildProcess]:
    """A node that is killed and started again."""
    with node_process(settings, tmp_path) as made:
        yield made


@pytest.fixture
async def token(process: ChildProcess, settings: NodeSettings, tmp_path: Path) -> AsyncIterator[Path]:
    """What a leader has given the channel, in a file."""
    start(process)
    port = int(settings.listen.rpartition(":")[2])
    callers = Callers(port, tmp_path)
    issued = await Gateway(SimpleNamespace(gateway_port=0), callers).issue()  # type: ignore[arg-type]
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(issued.secret, encoding="utf-8")
    yield file
    await callers.close()


def table(file: Path) -> Path:
    rows = [
        f"R{number},{REQUEST['taxpayer_name']},{'12' if number == UNKNOWN_CONTACT else REQUEST['contact']},"
        f"{REQUEST['text']}，第{number}件,政策落实"
        for number in range(ROWS)
    ]
    file.write_text("\n".join((HEADINGS, *rows)), encoding="utf-8")
    return file


def rows_of(acknowledgements: Path) -> list[dict[str, Any]]:
    return [row for line in acknowledgements.read_text("utf-8").splitlines() if "row" in (row := json.loads(line))]


@pytest.mark.slow
async def test_a_node_killed_in_the_middle_of_a_file_has_every_row_once_and_acknowledged_alike(
    process: ChildProcess, settings: NodeSettings, token: Path, tmp_path: Path
) -> None:
    file, kept = table(tmp_path / "day.csv"), tmp_path / "day.csv.acknowledged.ndjson"
    url = f"http://{settings.gateway}"
    arguments = ("channel", "send", str(file), "--to", url, "--token-file", str(token), "--json")
    sending = asyncio.create_task(asyncio.to_thread(kx, *arguments, "--patience", "300"))
    while not kept.exists() or len(rows_of(kept)) < ROWS // 10:
        assert not sending.done(), sending.result().output
        await asyncio.sleep(0.01)
    process.kill()
    acknowledged = rows_of(kept)
    assert len(acknowledged) < ROWS
    start(process)
    result = await sending
    told = json.loads(result.stdout)
    assert (2, ROWS - 1, 1) == (result.exit_code, told["registered"], told["refused"]), result.output
    assert told["tries"] > 1
    every = rows_of(kept)
    assert [number + 2 for number in range(ROWS)] == [row["row"] for row in every]
    assert acknowledged == every[: len(acknowledged)]
    assert ("contact", "FieldMalformed") == (every[UNKNOWN_CONTACT]["field"], every[UNKNOWN_CONTACT]["rule"])
    # The same file again, whole: the same answers, and no case more.
    assert 2 == (await asyncio.to_thread(kx, *arguments)).exit_code
    assert every == rows_of(kept)
    asks: dict[str, str] = {"page_size": "500"}
    cases: list[str] = []
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token.read_text()}"}) as program:
        while True:
            page = (await program.get("/v1/cases", params=asks, timeout=60)).json()
            cases += [case["case_id"] for case in page["cases"]]
            if not page["next_page_token"]:
                break
            asks["page_token"] = page["next_page_token"]
    assert sorted(cases) == sorted(row["case_id"] for row in every if row["result"] == "registered")


def refused(*arguments: str) -> tuple[int, str, str]:
    result = kx("channel", "send", *arguments, "--json")
    failure = json.loads(result.stdout)["error"]
    assert all(failure[part] for part in ("message", "message_chinese"))
    return result.exit_code, failure["rule"], failure["field"]


def test_what_cannot_be_sent_is_said_before_anything_is(tmp_path: Path) -> None:
    file, token = table(tmp_path / "day.csv"), tmp_path / "token"
    token.touch(0o600)
    token.write_text("kx-channel-x", encoding="utf-8")
    away = ("--to", f"http://127.0.0.1:{free_port()}", "--token-file", str(token))
    assert (2, "NotTaken", "FILE") == refused(str(tmp_path / "day.txt"), *away)
    assert (2, "Unreadable", "FILE") == refused(str(tmp_path / "none.csv"), *away)
    assert (3, "Unreachable", "") == refused(str(file), *away, "--patience", "0")
    assert (2, "NotHttps", "--to") == refused(str(file), "--to", "http://door.example", "--token-file", str(token))
    token.chmod(0o644)
    assert (2, "OpenToOthers", "--token-file") == refused(str(file), *away)
    assert (2, "Unreadable", "--token-file") == refused(str(file), *away[:3], str(tmp_path / "none"))


def test_a_token_that_ends_in_the_middle_of_a_file_is_said_at_once(tmp_path: Path) -> None:
    problem = {"status": 401, "rule": "SignInEnded", "detail": "It has ended.", "detail_chinese": "已失效。"}
    told = json.dumps({"end": False, "next_row": 1, "problem": problem})
    door = httpx.MockTransport(lambda _: httpx.Response(200, text=f"{told}\n"))
    asked = HandIn(
        file=tmp_path / "day.csv",
        url="https://door",
        token_file=tmp_path / "token",
        authorities=None,
        acknowledgements=tmp_path / "kept",
        patience_seconds=1,
    )
    with (
        pytest.raises(Failed) as ended,
        _acknowledgements(asked, b"x") as kept,
        httpx.Client(transport=door, base_url=asked.url) as client,
        Bar("Handing in", None) as bar,
    ):
        _Sender(asked, client, kept, bar).send_all(b"x", "text/csv")
    assert (2, "SignInEnded") == (ended.value.exit_code, ended.value.rule)


def test_acknowledgements_of_another_file_and_half_a_line_are_not_gone_on_from(tmp_path: Path) -> None:
    kept = tmp_path / "day.csv.acknowledged.ndjson"
    asked: Any = SimpleNamespace(file=tmp_path / "day.csv", url="http://127.0.0.1:1", acknowledgements=kept)
    row = {"row": 2, "reference": "R0", "result": "registered", "case_id": "1"}
    with pytest.raises(RuntimeError), _acknowledgements(asked, b"first") as begun:
        begun.add(json.dumps(row))
        begun.stream.write('{"row": 3, "re')
        raise RuntimeError
    with pytest.raises(RuntimeError), _acknowledgements(asked, b"first") as again:
        assert (3, {"registered": 1}) == (again.next_row, again.results)
        raise RuntimeError
    with _acknowledgements(asked, b"second") as other:
        assert (1, {}) == (other.next_row, other.results)
    with _acknowledgements(asked, b"second") as whole:
        assert 1 == whole.next_row
