"""`kx backup` against a node at work, and the whole way back: what a lost disk has taken is refilled, and the hub agrees."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from demo.federation import DATABASE_SIDES, Database, Federation, part_of
from demo.officers import Officer
from demo.postgres import postgres_binaries
from demo.settling import reconciled, settle
from hub.settings import HubSettings
from kuaixiang.domain import acts
from kuaixiang.domain.words import Custody, Role, Telling
from kuaixiang.facts import national_tree
from kuaixiang.runtime.settings import read_settings
from node.settings import NodeSettings
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, START, Officers, kx, refusal, told
from tests.kx.test_case import registered
from tests.registering import REGISTRAR, registration

pytestmark = pytest.mark.nats

HANDLER = Officer("H1", Role.HANDLER, "tax-service")
TAX_SERVICE = Officer("T1", Role.TAX_SERVICE, "tax-service")
PATIENCE_SECONDS = 120.0


def damaged(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert 1 == connection.execute(statement).rowcount


def test_a_node_is_backed_up_while_it_works_and_the_copy_is_proven(officers: Officers, tmp_path: Path) -> None:
    registrar = officers.at(COUNTY, "registrar", "hall")
    for _ in range(3):
        registered(registrar)
    config = officers.federation.node(COUNTY).config
    made = told(kx("backup", "node", "--config", str(config), "--to", str(tmp_path / "kept"), "--json"))
    folder = Path(made["backup"])
    assert ("node", COUNTY, 1) == (made["service"], made["code"], len(made["keys"]))
    assert made["ends"][COUNTY]["seq"] >= 3
    assert [("database", "database.db")] == [(one["role"], one["name"]) for one in made["files"]]
    key = officers.federation.database_file(officers.federation.node(COUNTY).name).with_suffix(".db.key")
    settings = read_settings(NodeSettings, config)
    key = settings.data_key or key
    assert made["ends"] == told(kx("backup", "check", str(folder), "--key", str(key), "--json"))["ends"]
    assert "Whole 完整" in kx("backup", "check", str(folder)).stdout
    said = json.loads((folder / "manifest.json").read_text("utf-8"))
    forgeries: list[dict[str, Any]] = [
        {"files": []},
        {"ends": {}},
        {"files": [{**said["files"][0], "role": "accounts"}]},
    ]
    for forged in forgeries:
        (folder / "manifest.json").write_text(json.dumps({**said, **forged}), "utf-8")
        assert "CopyBroken" == refusal(kx("backup", "check", str(folder), "--json"))["rule"]
    (folder / "manifest.json").write_text(json.dumps(said), "utf-8")

    held = refusal(kx("backup", "restore", str(folder), "--config", str(config), "--json"))
    assert "DatabaseHeld" == held["rule"]
    other = officers.federation.node(PROVINCE).config
    elsewhere = refusal(kx("backup", "restore", str(folder), "--config", str(other), "--json"))
    assert f"The backup is of {COUNTY}" in elsewhere["message"]
    lost = kx(
        "backup",
        "restore",
        str(folder),
        "--config",
        str(config),
        "--json",
        environment={"KX_NODE_DATA_KEY": str(tmp_path / "no.key")},
    )
    assert "KeyMissing" == refusal(lost)["rule"]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM journal WHERE seq = 2", "entry 2 is not there"),
        (
            "UPDATE journal SET public = CAST(public || x'00' AS BLOB) WHERE seq = 2",
            "entry 2 is not what the chain has",
        ),
        ("UPDATE journal SET public = 'text' WHERE seq = 2", "entry 2 cannot be read"),
        ("DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)", "is not the end that the ledger knows"),
        ("UPDATE private SET sealed = randomblob(80) WHERE seq = 1", "entry 1 has a private part that does not open"),
    ],
)
def test_a_ledger_that_was_tampered_with_gives_no_backup(
    officers: Officers, tmp_path: Path, statement: str, why: str
) -> None:
    registrar = officers.at(COUNTY, "registrar", "hall")
    for _ in range(2):
        registered(registrar)
    config = officers.federation.node(COUNTY).config
    made = told(kx("backup", "node", "--config", str(config), "--to", str(tmp_path / "good"), "--json"))
    database = tmp_path / "tampered.db"
    database.write_bytes((Path(made["backup"]) / "database.db").read_bytes())
    damaged(database, statement)
    settings = read_settings(NodeSettings, config)
    environment = {
        "KX_NODE_DATABASE": f"sqlite:///{database}",
        "KX_NODE_DATA_KEY": str(settings.data_key or f"{sa.make_url(settings.database).database}.key"),
    }
    asked = ("backup", "node", "--config", str(config), "--to", str(tmp_path / "bad"), "--json")
    refused = refusal(kx(*asked, environment=environment))
    assert "CopyBroken" == refused["rule"]
    assert why in refused["message"]
    assert [] == list((tmp_path / "bad").iterdir())


def test_where_backups_are_to_be_must_be_said(officers: Officers) -> None:
    config = officers.federation.node(COUNTY).config
    assert "--to" == refusal(kx("backup", "node", "--config", str(config), "--json"))["field"]


# ---------------------------------------------------------------- the restore drill


@asynccontextmanager
async def drilled(database: Database) -> AsyncIterator[Federation]:
    with TemporaryDirectory(prefix="kuaixiang-drill-") as directory:
        tree = part_of(national_tree(), (HEADQUARTERS, PROVINCE, COUNTY))
        placement = [[HEADQUARTERS], [PROVINCE], [COUNTY]]
        async with Federation(
            Path(directory), tree, placement=placement, clock_start=START, database=database
        ) as federation:
            yield federation


async def register(federation: Federation, key: str) -> str:
    return (await federation.office(COUNTY).do(REGISTRAR, registration(key), key=key)).case.case_id


async def escalated(federation: Federation, key: str) -> str:
    """A case that the province has."""
    case_id = await register(federation, key)
    office = federation.office(COUNTY)
    accept = acts.AcceptDirectly(telling=Telling.COMPLICATED, told="情况复杂")
    await office.do(HANDLER, accept, case_id, key=f"{key}-accept")
    refer = acts.Refer(final_bureau=PROVINCE, reason="超出权限", telling=Telling.TRANSFERRED, told="已转上级")
    await office.do(TAX_SERVICE, refer, case_id, key=f"{key}-refer")
    while (await office.get(case_id)).case.custody != int(Custody.RELEASED):
        await asyncio.sleep(0.1)
    return case_id


async def witnessed(federation: Federation) -> None:
    """Until the province has cosigned all of the county's ledger."""
    while True:
        head = await federation.office(COUNTY).head()
        rows = await asyncio.to_thread(_cosigned, federation)
        if rows == head.seq:
            return
        await asyncio.sleep(0.2)


def _cosigned(federation: Federation) -> int:
    url = sa.make_url(read_settings(NodeSettings, federation.node(COUNTY).config).database)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT coalesce(max(seq), 0) FROM cosigned")).scalar_one())
    finally:
        engine.dispose()


def destroy(url: sa.URL) -> None:
    """The ledger's disk is lost; a new one, empty, is there."""
    if url.get_backend_name() == "sqlite":
        for side in DATABASE_SIDES:
            Path(f"{url.database}{side}").unlink(missing_ok=True)
        return
    address = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    with psycopg.connect(**address, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(f'DROP DATABASE "{url.database}"'.encode())
        connection.execute(f'CREATE DATABASE "{url.database}"'.encode())


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "database", [Database.SQLITE, pytest.param(Database.POSTGRESQL, marks=pytest.mark.postgres)], ids=str
)
async def test_a_county_whose_disk_is_lost_goes_on_from_its_backup_and_nothing_that_was_witnessed_is_missing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database is Database.POSTGRESQL:
        monkeypatch.setenv("PATH", f"{postgres_binaries()}{os.pathsep}{os.environ['PATH']}")
    async with asyncio.timeout(600), drilled(database) as federation:
        config = str(federation.node(COUNTY).config)
        url = sa.make_url(read_settings(NodeSettings, federation.node(COUNTY).config).database)
        before = [await register(federation, f"before-{number}") for number in range(3)]
        made = await command("backup", "node", "--config", config, "--to", str(tmp_path))
        checked = await command("backup", "check", made["backup"])
        assert made["ends"] == checked["ends"]
        if database is Database.POSTGRESQL:
            asked = ("backup", "restore", made["backup"], "--config", config, "--json")
            assert "NotEmpty" == refusal(await asyncio.to_thread(kx, *asked))["rule"]

        after = [await register(federation, f"after-{number}") for number in range(2)]
        shared = await escalated(federation, "shared")
        await witnessed(federation)
        await federation.kill_node(COUNTY)
        destroy(url)

        restored = await command("backup", "restore", made["backup"], "--config", config)
        assert [] == restored["set_aside"]
        found = json.loads((await asyncio.to_thread(kx, "doctor", "node", "--config", config, "--json")).stdout)
        assert [f"ledger {COUNTY}"] == [one["look"] for one in found["findings"] if "older copy" in one["said"]]
        (refilled,) = (await command("node", "refill", "--config", config))["ledgers"]
        assert (2, 0) == (refilled["generation"], refilled["missing"])
        given_back = {part["case_id"]: part["given_back_by"] for part in refilled["private"]}
        assert {**dict.fromkeys(after, ""), shared: PROVINCE} == given_back
        await federation.restart_node(COUNTY)

        again = await register(federation, "again")
        await settle(federation)
        there = [case.case_id async for case in federation.office(COUNTY).cases()]
        assert sorted([*before, *after, shared, again]) == sorted(there)
        assert [] == list((await reconciled(federation)).mismatches)
        await hub_is_well_and_restored(federation, tmp_path)


async def hub_is_well_and_restored(federation: Federation, folder: Path) -> None:
    """The hub beside them is found well, is backed up while it folds, and goes on from its backup."""
    (hub,) = federation.hubs
    config = str(hub.config)
    looked = json.loads((await asyncio.to_thread(kx, "doctor", "hub", "--config", config, "--json")).stdout)
    verdicts = {one["look"]: one["verdict"] for one in looked["findings"]}
    assert {"backup"} >= {look for look, verdict in verdicts.items() if verdict == "fail"}, looked
    assert {"nats", f"nats stream {PROVINCE}", f"peer {HEADQUARTERS}", f"peer {COUNTY}"} <= set(verdicts)
    made = await command("backup", "hub", "--config", config, "--to", str(folder))
    assert ("hub", HEADQUARTERS, {}) == (made["service"], made["code"], made["ends"])
    await register(federation, "after-the-hub")
    await settle(federation)
    await federation.kill_hub(HEADQUARTERS)
    destroy(sa.make_url(read_settings(HubSettings, hub.config).database))
    await command("backup", "restore", made["backup"], "--config", config)
    await federation.restart_hub(HEADQUARTERS)
    await settle(federation)
    assert [] == list((await reconciled(federation)).mismatches)


async def command(*arguments: str) -> Any:
    """What a command answers, asked while the federation goes on."""
    return told(await asyncio.to_thread(kx, *arguments, "--json"))
