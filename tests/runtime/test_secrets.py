"""What only the service may know (passwords of its database and its bus, its key of private data) is told to nobody."""

import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings
from sqlalchemy import make_url

from demo.federation import toml_text
from demo.processes import ChildProcess, free_port
from hub.settings import HubSettings
from kuaixiang.runtime import pki
from kuaixiang.runtime.settings import WrongSetting, read_settings
from node.settings import NodeSettings

NATS_PASSWORD = "k3-of-the-bus-3f9c"
DATABASE_PASSWORD = "k3-of-the-database-71d2"
COUNTY, HEADQUARTERS = "110101", "000000"
READY_SECONDS_MAX = 120.0


def settings_of(kind: str, folder: Path, **more: Any) -> dict[str, Any]:
    code = COUNTY if kind == "node" else HEADQUARTERS
    return {
        **({"bureaus": [code]} if kind == "node" else {"scope": code}),
        "nats_url": f"nats://somebody:{NATS_PASSWORD}@127.0.0.1:{free_port()}",
        "certificates": str(folder / kind),
        "listen": f"127.0.0.1:{free_port()}",
        "metrics_port": free_port(),
        "log_level": "debug",
        **({"cosigned_start_seconds": 0} if kind == "node" else {}),
    } | more


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["node", "hub"])
def test_no_secret_is_in_a_log_a_metric_or_an_error(kind: Any, tmp_path: Path, fresh_postgres_url: str) -> None:
    password = make_url(fresh_postgres_url).password
    assert password
    pki.init_authority(tmp_path / "ca", "test")
    pki.issue(tmp_path / "ca", tmp_path / kind, kind, [COUNTY if kind == "node" else HEADQUARTERS])
    key = {"data_key": str(tmp_path / "data.key")} if kind == "node" else {}
    told = settings_of(kind, tmp_path, database=fresh_postgres_url, **key)
    config = tmp_path / f"{kind}.toml"
    config.write_text(toml_text(told), encoding="utf-8")
    with ChildProcess(kind, [sys.executable, "-m", "demo.serve", kind, str(config)], log=tmp_path / "log") as process:
        process.start()
        shown = metrics(process, int(told["metrics_port"]))
    said = (tmp_path / "log").read_text("utf-8") + shown
    assert "nats.connect" in said, "nobody has tried the bus"
    secrets = [password, NATS_PASSWORD, (tmp_path / kind / "tls.key").read_text("ascii").splitlines()[1]]
    keys = key_material(tmp_path / "data.key")
    assert bool(keys) is (kind == "node")
    assert [secret for secret in (*secrets, *keys) if secret in said] == []


def metrics(process: ChildProcess, port: int) -> str:
    """What /metrics shows, once it answers and a moment has passed."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        process.require_alive()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                shown: str = answer.read().decode()
        except OSError:
            assert time.monotonic() < deadline, process.log_tail()
            time.sleep(0.1)
        else:
            if "nats.connect" in process.log.read_text("utf-8"):
                return shown
            assert time.monotonic() < deadline, process.log_tail()
            time.sleep(0.1)


def key_material(file: Path) -> list[str]:
    """The words of a key file that are long enough to be keys."""
    return [word for word in file.read_text("utf-8").split() if len(word) >= 24] if file.exists() else []


@pytest.mark.parametrize(("kind", "model"), [("node", NodeSettings), ("hub", HubSettings)])
def test_settings_do_not_show_their_secrets(kind: str, model: type[BaseSettings], tmp_path: Path) -> None:
    database = f"postgresql://kuaixiang:{DATABASE_PASSWORD}@127.0.0.1/ledger"
    settings = read_settings(model, **settings_of(kind, tmp_path, database=database))
    for shown in (repr(settings), str(settings)):
        assert DATABASE_PASSWORD not in shown
        assert NATS_PASSWORD not in shown


@pytest.mark.parametrize(("kind", "model"), [("node", NodeSettings), ("hub", HubSettings)])
@pytest.mark.parametrize("wrong", [{"metrics_port": -1}, {"surprise": "1"}, {"database": ["a list"]}, {"nats_url": 7}])
def test_a_wrong_setting_is_named_without_any_value(
    kind: str, model: type[BaseSettings], wrong: Mapping[str, Any], tmp_path: Path
) -> None:
    database = f"postgresql://k:{DATABASE_PASSWORD}@127.0.0.1/ledger"
    given = settings_of(kind, tmp_path, **({"database": database} | dict(wrong)))
    with pytest.raises(WrongSetting) as refused:
        read_settings(model, **given)
    assert next(iter(wrong)) in str(refused.value)
    assert DATABASE_PASSWORD not in str(refused.value)
    assert NATS_PASSWORD not in str(refused.value)
