"""What docs/API.md shows is run as it stands there, against a node: a program over gRPC, `buf curl`, `curl`."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kuaixiang.runtime import pki
from kuaixiang.wire.v1 import sign_in_pb2, sign_in_pb2_grpc
from node import service
from node.settings import NodeSettings
from tests.node.callers import COUNTY, Callers
from tests.node.gateways import Gateway, with_gateway
from tests.node.test_sign_in import PASSWORD

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "API.md").read_text("utf-8")
SERVER_NAME = pki.dns_name("node", COUNTY)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: it is the guide that is tested here."""
    return f"sqlite:///{tmp_path}/node.db"


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path, officers=("B01", "T01", "R01"))


def shown(language: str) -> list[str]:
    """The blocks of a language, in the guide's order."""
    found = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    assert found, language
    return found


async def done(*command: str, **variables: str) -> str:
    """What a command says; it must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == run.returncode, run.stdout + run.stderr
    return str(run.stdout)


async def test_the_program_and_the_command_over_grpc_do_what_the_guide_says(
    node: service.Running, callers: Callers, tmp_path: Path
) -> None:
    channel = callers.channel("office", COUNTY)
    certificates, address = tmp_path / f"office-{COUNTY}", f"127.0.0.1:{node.port}"
    (program,) = shown("python")
    given = f"""
from pathlib import Path
CERTIFICATES, ADDRESS = Path({str(certificates)!r}), {address!r}
SERVER_NAME, PASSWORD = {SERVER_NAME!r}, {PASSWORD!r}
"""
    await done(sys.executable, "-c", given + program)
    door: Any = sign_in_pb2_grpc.SignInServiceStub(channel)
    signed_in = await door.SignIn(sign_in_pb2.SignInRequest(bureau=COUNTY, actor="R01", password=PASSWORD))
    (command,) = [block for block in shown("sh") if block.startswith("buf curl")]
    given_to_it = {
        "CERTIFICATES": str(certificates),
        "ADDRESS": address,
        "SERVER_NAME": SERVER_NAME,
        "SIGN_IN": signed_in.token,
    }
    told = json.loads(await done("sh", "-euc", command, **given_to_it))
    assert ["STAGE_REGISTERED"] == [case["stage"] for case in told["cases"]]
    by_files = command.replace("--protocol grpc", "--protocol grpc --schema proto")
    assert told == json.loads(await done("sh", "-euc", by_files, **given_to_it))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_what_is_asked_by_curl_is_answered_as_the_guide_says(gateway: Gateway) -> None:
    (commands,) = [block for block in shown("sh") if block.startswith("curl")]
    said = await done("sh", "-euc", commands, GATEWAY=gateway.base, TOKEN=(await gateway.issue()).secret)
    answers, rest = [], said
    while rest:
        answer, end = json.JSONDecoder().raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].lstrip()
    made, listed, changes, described, updates = answers
    assert [made] == listed["cases"]
    assert [made["case_id"]] == [one["case_id"] for one in changes["changes"]]
    assert "3.1.0" == described["openapi"]
    assert [(made["case_id"], "OPEN")] == [(one["service_request_id"], one["status"]) for one in updates]


def test_the_guide_names_every_service() -> None:
    services = {
        name
        for path in (ROOT / "proto" / "kuaixiang").rglob("*.proto")
        for name in re.findall(r"^service (\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert set() == {name for name in services if f"`{name}`" not in GUIDE}
