"""`kx node`: a wrong setting is named at the start, a node serves until it is told to stop, a ledger is rebuilt."""

import asyncio
import shutil
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from demo.federation import child_environment
from demo.processes import ChildProcess
from kuaixiang.runtime import database as database_module
from kuaixiang.runtime.clock import FixedClock, SharedClockDriver
from node.ledger.archive import Archive
from node.restoration import NUMBERS_LEFT_OUT
from tests.domain.story import MONDAY, SHANGCHENG
from tests.kx.conftest import COUNTY, PROVINCE, Officers, kx, refusal, told
from tests.ledger.bureaus import desks
from tests.ledger.test_archive import NEXT_YEAR, ended

pytestmark = pytest.mark.nats

READY_SECONDS = STOP_SECONDS = 120.0


def settings(folder: Path, **values: object) -> Path:
    file = folder / "node.toml"
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    file.write_text("\n".join(lines).replace("'", '"'), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"bureaus": ["999999"]}, "bureaus"),
        ({"bureaus": ["110101", "330102"]}, "bureaus"),
        ({"bureaus": ["110101"], "listen": "nowhere"}, "listen"),
        ({"bureaus": ["110101"], "colour": "red"}, "colour"),
        ({}, "bureaus"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, values: dict[str, object], name: str) -> None:
    result = kx("node", "serve", "--config", str(settings(tmp_path, **values)))
    assert result.exit_code == 2
    assert f"setting {name}" in result.stderr
    assert "WrongSetting" in result.stderr


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "absent.toml"
    assert str(file) in kx("node", "serve", "--config", str(file)).stderr.replace("\n", "")
    assert refusal(kx("node", "rebuild", "--config", str(file), "--json"))["rule"] == "WrongSetting"


def test_a_running_ledger_is_not_rebuilt_and_a_stopped_one_shows_the_same_cases(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    request = ("--taxpayer", "甲店", "--contact", "13800138000", "--text", "发票", "--category", "纳税服务")
    for number in range(3):
        assert registrar("register", *request, "--key", f"rebuilt-{number}").exit_code == 0
    before = told(registrar("list", "--json"))["cases"]
    config = officers.federation.node(COUNTY).config
    held = refusal(kx("node", "rebuild", "--config", str(config), "--json"))
    assert held["rule"] == "DatabaseHeld"
    officers.run(officers.federation.stop_node(COUNTY))
    try:
        rebuilt = told(kx("node", "rebuild", "--config", str(config), "--json"))
    finally:
        officers.run(officers.federation.restart_node(COUNTY))
    assert (rebuilt["bureaus"], rebuilt["entries"]) == ([COUNTY], 3)
    assert told(registrar("list", "--json"))["cases"] == before


def broken_off(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_a_closed_year_of_a_stopped_ledger_is_archived_and_one_that_goes_on_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path / 'node.db'}"

    async def work() -> None:
        with desks(database, (SHANGCHENG,), clock=FixedClock(MONDAY)) as office:
            await ended(office)
            await office.register(SHANGCHENG)

    asyncio.run(work())
    assert SharedClockDriver(tmp_path / "clock", NEXT_YEAR).now() == NEXT_YEAR
    config = str(settings(tmp_path, bureaus=[SHANGCHENG], database=database, clock=str(tmp_path / "clock")))
    refused = refusal(kx("node", "archive", "--year", "2027", "--config", config, "--json"))
    assert ("YearNotOver", "--year") == (refused["rule"], refused["field"])
    assert (
        "NotThisBureau"
        == refusal(kx("node", "archive", "--year", "2026", "--bureau", COUNTY, "--config", config, "--json"))["rule"]
    )
    older = told(kx("backup", "node", "--config", config, "--to", str(tmp_path / "older"), "--json"))["backup"]
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
        full = refusal(kx("node", "archive", "--year", "2026", "--config", config, "--json"))
        assert "NoRoomToArchive" == full["rule"]
        assert not (tmp_path / "node.db.archive").exists()
    with monkeypatch.context() as patched:
        # The disk passes its mark while entries are copied, or breaks a write off.
        patched.setattr(database_module, "FREE_BYTES_MIN", 2**62)
        full = refusal(kx("node", "archive", "--year", "2026", "--config", config, "--json"))
        assert "DatabaseNotWritable" == full["rule"]
    with monkeypatch.context() as patched:
        patched.setattr(Archive, "_copy_entries", broken_off)
        full = refusal(kx("node", "archive", "--year", "2026", "--config", config, "--json"))
        assert "ArchivingBrokenOff" == full["rule"]
    archived = told(kx("node", "archive", "--year", "2026", "--config", config, "--json"))
    assert [{"bureau": SHANGCHENG, "last_seq": 4, "entries": 4, "cases": 1}] == archived["archived"]
    assert (tmp_path / "node.db.archive").is_file()
    backup = told(kx("backup", "node", "--config", config, "--to", str(tmp_path / "kept"), "--json"))
    assert [("database", 4), ("archive", 4)] == [
        (one["role"], backup["ends"][SHANGCHENG]["seq"]) for one in backup["files"]
    ]
    assert backup["ends"] == told(kx("backup", "check", backup["backup"], "--json"))["ends"]
    for lost in ("node.db", "node.db.archive"):
        (tmp_path / lost).unlink()
    assert [] == told(kx("backup", "restore", backup["backup"], "--config", config, "--json"))["set_aside"]
    assert "0 entries and 0 cases of 0 bureau(s)" in kx("node", "archive", "--year", "2026", "--config", config).stdout
    assert 4 == told(kx("node", "rebuild", "--config", config, "--json"))["entries"]

    # A backup from before the archiving has no archive, and leaves none beside the ledger that it puts back.
    aside = told(kx("backup", "restore", older, "--config", config, "--json"))["set_aside"]
    assert ["node.db", "node.db.archive"] == [Path(one).name.partition(".before-")[0] for one in aside]
    assert not (tmp_path / "node.db.archive").exists()
    assert 4 == told(kx("node", "rebuild", "--config", config, "--json"))["entries"]


def test_a_stopped_ledger_goes_on_in_a_new_generation_under_numbers_that_were_never_given(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    request = ("--taxpayer", "甲店", "--contact", "13800138000", "--text", "发票", "--category", "纳税服务")
    before = told(registrar("register", *request, "--key", "before-refill", "--json"))["case"]["case_id"]
    config = officers.federation.node(COUNTY).config
    assert refusal(kx("node", "refill", "--config", str(config), "--json"))["rule"] == "DatabaseHeld"
    officers.run(officers.federation.stop_node(COUNTY))
    try:
        (restored,) = told(kx("node", "refill", "--config", str(config), "--json"))["ledgers"]
        assert "generation 3 is open" in kx("node", "refill", "--config", str(config)).stdout
    finally:
        officers.run(officers.federation.restart_node(COUNTY))
    told_of = tuple(restored[name] for name in ("bureau", "witness", "generation", "missing", "set_aside"))
    assert told_of == (COUNTY, PROVINCE, 2, 0, 0)
    after = told(registrar("register", *request, "--key", "after-refill", "--json"))["case"]["case_id"]
    assert int(after[-7:]) > int(before[-7:]) + NUMBERS_LEFT_OUT


def test_a_node_serves_until_it_is_told_to_stop(officers: Officers) -> None:
    node = officers.federation.node(PROVINCE)
    officers.run(officers.federation.stop_node(PROVINCE))
    command = [sys.executable, "-c", "from kx.main import app; app()", "node", "serve", "--config", str(node.config)]
    log = officers.federation.directory / "logs" / "kx-node.log"
    environment = child_environment(officers.federation.directory)
    with ChildProcess("kx node", command, log=log, environment=environment) as served:
        served.start().wait_ready(lambda: "The node serves on port" in served.log_tail(), READY_SECONDS)
        assert told(officers.at(PROVINCE)("list", "--json"))["cases"] == []
        assert served.stop(STOP_SECONDS) == 0
    assert str(node.port) in log.read_text(encoding="utf-8")
    officers.run(officers.federation.restart_node(PROVINCE))
