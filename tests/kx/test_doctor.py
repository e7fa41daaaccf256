"""`kx doctor` finds each fault that it says it looks for, names it by what it is, and says what to do."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from demo.federation import tree_text
from demo.processes import free_port
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Custody, Stage
from kuaixiang.facts import load_tree, published_calendar
from kuaixiang.runtime import backups, pki, revocation
from kuaixiang.runtime.bus import Access, Bus, node_user, site_domain
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import statistics_pb2
from kx import findings, looking_around, looking_here, retiring
from kx.findings import Finding, Verdict
from kx.looking_around import Asked, Me
from node.ledger.database import MIGRATIONS, LedgerDatabase
from node.settings import NodeSettings
from tests.domain.story import MONDAY, SHANGCHENG
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, kx, refusal
from tests.kx.test_case import until
from tests.ledger.bureaus import desks, execute
from tests.ledger.test_archive import NEXT_YEAR, archived, ended

FREE = 2**40
"""More than any disk of a test has."""


def by_look(found: Iterator[Finding] | list[Finding]) -> dict[str, Finding]:
    return {one.look: one for one in found}


def told(found: Finding) -> tuple[Verdict, str]:
    """Verdict and sentence of a finding that has all it needs: both languages, and what to do where all is not well."""
    assert found.said.english
    assert found.said.chinese
    assert (found.verdict is Verdict.OK) or (found.remedy.english and found.remedy.chinese)
    return found.verdict, found.said.english


# ---------------------------------------------------------------- a whole node


@pytest.mark.nats
def test_a_node_of_a_federation_is_well_but_for_what_is_named(officers: Officers, tmp_path: Path) -> None:
    config = officers.federation.node(PROVINCE).config
    environment = {"KX_NODE_BACKUPS": str(tmp_path / "kept")}
    assert 0 == kx("backup", "node", "--config", str(config), environment=environment).exit_code

    def verdicts_now() -> dict[str, str]:
        done = kx("doctor", "node", "--config", str(config), "--json", environment=environment)
        answer = json.loads(done.stdout)
        assert done.exit_code == answer["exit_code"]
        return {one["look"]: one["verdict"] for one in answer["findings"]}

    # A test's folder may be on memory, and the year's calendar may end soon.
    may_be_otherwise = {"calendar", "disk", "disk kind", "settings mode"}
    # A node that has just begun has its stream made a moment later.
    verdicts = until(
        verdicts_now, lambda seen: may_be_otherwise >= {look for look, verdict in seen.items() if verdict != "ok"}
    )
    assert {
        "settings",
        "certificate",
        "authority",
        "process",
        "database",
        "schema",
        "data key",
        "backup",
        "nats",
        f"nats stream {PROVINCE}",
        "nats permissions",
        f"peer {HEADQUARTERS}",
        f"peer {COUNTY}",
    } <= set(verdicts)
    shown = kx("doctor", "node", "--config", str(config), "--offline", environment=environment).stdout
    assert "process: The service runs. 服务运行中。" in shown
    assert f"peer {COUNTY}" not in shown


@pytest.mark.parametrize("service", ["node", "hub"])
def test_settings_that_cannot_be_used_are_named_and_nothing_else_is_looked_at(service: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('colour = "red"\nbureaus = ["330106"]\n')
    done = kx("doctor", service, "--config", str(file), "--json")
    found = json.loads(done.stdout)["findings"]
    assert 2 == done.exit_code
    assert {"settings"} == {one["look"] for one in found}
    assert "colour" in "".join(one["said"] for one in found)


def test_the_gravest_finding_is_the_exit_status() -> None:
    well = findings.ok("one", "It is.", "正常。")
    grave = replace(well, verdict=Verdict.FAIL)
    assert (0, 1, 2) == (
        findings.exit_code([well]),
        findings.exit_code([well, replace(well, verdict=Verdict.WARN)]),
        findings.exit_code([grave, well]),
    )


# ---------------------------------------------------------------- this machine


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init_authority(tmp_path / "authority", "test", valid_from=datetime.now(UTC) - timedelta(days=30))
    return tmp_path / "authority"


def test_a_certificate_that_expires_has_expired_is_revoked_or_is_not_there_is_found(
    authority: Path, tmp_path: Path
) -> None:
    def looked_at(name: str, **more: Any) -> dict[str, Finding]:
        return by_look(looking_here.certificates(pki.issue(authority, tmp_path / name, "node", [COUNTY], **more)))

    assert Verdict.OK is looked_at("good")["certificate"].verdict
    assert Verdict.WARN is looked_at("soon", days=7)["certificate"].verdict
    verdict, said = told(looked_at("late", days=1, valid_from=datetime.now(UTC) - timedelta(days=3))["certificate"])
    assert (Verdict.FAIL, True) == (verdict, said.startswith("It has expired on"))

    revoked = CertificatePaths.in_folder(tmp_path / "good")
    revocation.revoke(authority, [pki.load(revoked).certificate.serial_number])
    shutil.copy(authority / "ca.crl", tmp_path / "good")
    verdict, said = told(by_look(looking_here.certificates(revoked))["certificate"])
    assert (Verdict.FAIL, True) == (verdict, said.endswith("is revoked."))

    revocation.revoke(authority, [], days=1, now=datetime.now(UTC) - timedelta(days=3))
    shutil.copy(authority / "ca.crl", tmp_path / "soon")
    stale = by_look(looking_here.certificates(CertificatePaths.in_folder(tmp_path / "soon")))
    assert Verdict.WARN is told(stale["revocations"])[0]
    absent = by_look(looking_here.certificates(CertificatePaths.in_folder(tmp_path / "absent")))
    assert Verdict.FAIL is told(absent["certificate"])[0]
    revoked.key.chmod(0o644)
    assert Verdict.FAIL is told(by_look(looking_here.certificates(revoked))["certificate"])[0]


@pytest.mark.parametrize(
    ("days_before", "expected"), [(100, Verdict.OK), (44, Verdict.WARN), (0, Verdict.WARN), (-1, Verdict.FAIL)]
)
def test_a_calendar_that_ends_soon_is_named(days_before: int, expected: Verdict) -> None:
    shipped: WorkingCalendar = published_calendar()
    today: date = shipped.horizon - timedelta(days=days_before)
    assert expected is told(looking_here.calendar(shipped, today))[0]


def test_a_disk_that_is_nearly_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking_here, "FREE_SHARE_MIN", 2)
    monkeypatch.setattr(looking_here, "FREE_GIB_MIN", FREE)
    assert Verdict.WARN is told(by_look(looking_here.disk(tmp_path / "not" / "there"))["disk"])[0]
    monkeypatch.setattr(looking_here, "FREE_BYTES_MIN", FREE * 1024)
    assert Verdict.FAIL is told(by_look(looking_here.disk(tmp_path))["disk"])[0]


@pytest.mark.parametrize(("kind", "expected"), [("tmpfs", Verdict.WARN), ("nfs4", Verdict.FAIL), ("ext4", None)])
def test_a_file_system_that_forgets_or_is_elsewhere_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: Verdict | None
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nsomewhere {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(looking_here, "MOUNTS", mounts)
    found = by_look(looking_here.disk(tmp_path / "var"))
    assert expected is (told(found["disk kind"])[0] if "disk kind" in found else None)


def test_a_backup_that_is_old_or_missing_is_named(tmp_path: Path) -> None:
    assert Verdict.WARN is told(looking_here.backup_age(None, "node", COUNTY))[0]
    assert Verdict.FAIL is told(looking_here.backup_age(tmp_path, "node", COUNTY))[0]
    made = datetime(2026, 11, 26, 17, 30, tzinfo=UTC)
    with backups.draft_in(tmp_path, "node", COUNTY) as (draft, _):
        backups.keep(draft, backups.Manifest("node", COUNTY, made, "1", ()), kept=1)
    aged = [looking_here.backup_age(tmp_path, "node", COUNTY, made + timedelta(hours=hours)) for hours in (25, 27, 200)]
    assert [Verdict.OK, Verdict.WARN, Verdict.FAIL] == [told(one)[0] for one in aged]


def test_settings_with_a_password_that_others_can_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('database = "postgresql://kx:secret@db/kx"\n')
    file.chmod(0o640)
    assert Verdict.WARN is told(by_look(looking_here.secrets_closed(file))["settings mode"])[0]
    file.chmod(0o600)
    assert [] == list(looking_here.secrets_closed(file))


# ---------------------------------------------------------------- the database


def ledger(url: str) -> dict[str, Finding]:
    return by_look(looking_here.database(url, "node", MIGRATIONS, "ledger_version"))


def made_at(url: str, key_file: Path) -> None:
    LedgerDatabase(url, key_file).close()


async def test_an_archive_that_is_lost_damaged_or_anothers_is_found(database_url: str, tmp_path: Path) -> None:
    execute(database_url, "CREATE TABLE of_no_ledger (one INTEGER)")
    assert [] == list(looking_here.archive(database_url))
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        await ended(office)
        office.clock.set(NEXT_YEAR)
        await office.register(SHANGCHENG)
    assert [] == list(looking_here.archive(database_url))
    archived(database_url)
    assert Verdict.OK is told(by_look(looking_here.archive(database_url))["archive"])[0]
    execute(database_url, "UPDATE archives SET hash = one.hash FROM (SELECT hash FROM bureaus LIMIT 1) one")
    verdict, said = told(by_look(looking_here.archive(database_url))["archive"])
    assert Verdict.FAIL is verdict
    assert "another, or missing" in said
    if not database_url.startswith("sqlite"):
        execute(database_url, "DROP SCHEMA ledger_archive CASCADE")
        assert Verdict.FAIL is told(by_look(looking_here.archive(database_url))["archive"])[0]
        return
    file = tmp_path / "ledger.db.archive"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    assert Verdict.FAIL is told(by_look(looking_here.archive(database_url))["archive"])[0]
    file.unlink()
    verdict, said = told(by_look(looking_here.archive(database_url))["archive"])
    assert (Verdict.FAIL, True) == (verdict, "is not there" in said)


def put_version(url: str, version: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE ledger_version SET version_num = :version"), {"version": version})


def test_a_database_whose_schema_is_older_or_newer_than_the_program_is_named(database_url: str, tmp_path: Path) -> None:
    url = str(sa.make_url(database_url).render_as_string(hide_password=False))
    made_at(url, tmp_path / "key")
    assert Verdict.OK is ledger(url)["schema"].verdict
    put_version(url, "0001")
    assert Verdict.WARN is told(ledger(url)["schema"])[0]
    put_version(url, "9999")
    newer = told(ledger(url)["schema"])
    assert (Verdict.FAIL, True) == (newer[0], "written by a newer one" in newer[1])


def test_a_database_that_is_held_is_seen_to_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    database = LedgerDatabase(url, tmp_path / "key")
    try:
        assert "The service runs." == ledger(url)["process"].said.english
    finally:
        database.close()
    assert "The service does not run." == ledger(url)["process"].said.english


def test_a_damaged_a_foreign_and_an_absent_database_are_named(tmp_path: Path) -> None:
    file = tmp_path / "node.db"
    url = f"sqlite:///{file}"
    assert Verdict.WARN is told(ledger(url)["database"])[0]
    made_at(url, tmp_path / "key")
    content = bytearray(file.read_bytes())
    content[4_096 * 3 : 4_096 * 4] = os.urandom(4_096)
    file.write_bytes(content)
    assert Verdict.FAIL is told(ledger(url)["database"])[0]
    file.write_text("no database at all, but a text that somebody has put there by mistake")
    assert Verdict.FAIL is told(ledger(url)["database"])[0]


@pytest.mark.postgres
def test_a_postgresql_that_is_away_or_loses_what_it_acknowledges_is_named(
    fresh_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Verdict.WARN is told(ledger(fresh_postgres_url)["schema"])[0]
    assert Verdict.OK is ledger(fresh_postgres_url)["durability"].verdict
    with monkeypatch.context() as patch:
        # The server of the tests is everybody's: a session's own settings stand for those of a careless one.
        patch.setattr(looking_here, "DURABLE", ("fsync", "synchronous_commit"))
        url = sa.make_url(fresh_postgres_url).update_query_dict({"options": "-c synchronous_commit=off"})
        assert Verdict.FAIL is told(ledger(url.render_as_string(hide_password=False))["durability"])[0]
    away = sa.make_url(fresh_postgres_url).set(port=free_port()).render_as_string(hide_password=False)
    verdict, said = told(ledger(away)["database"])
    assert Verdict.FAIL is verdict
    assert str(sa.make_url(fresh_postgres_url).password) not in said


def test_a_key_that_is_missing_or_open_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    key = tmp_path / "key"
    made_at(url, key)
    assert Verdict.OK is looking_here.ledger_keys(url, key).verdict
    key.chmod(0o644)
    assert Verdict.FAIL is told(looking_here.ledger_keys(url, key))[0]
    verdict, said = told(looking_here.ledger_keys(url, tmp_path / "another"))
    assert (Verdict.FAIL, True) == (verdict, "does not have the key" in said)
    assert not (tmp_path / "another").exists()


def test_looking_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    made_at(url, tmp_path / "key")
    with closing(sqlite3.connect(tmp_path / "node.db")) as connection:
        before = list(connection.iterdump())
    ledger(url)
    looking_here.ledger_keys(url, tmp_path / "key")
    with closing(sqlite3.connect(tmp_path / "node.db")) as connection:
        assert before == list(connection.iterdump())


# ---------------------------------------------------------------- peers, by real processes


def me(officers: Officers, bureau: str = COUNTY, tree: BureauTree | None = None) -> Me:
    settings = read_settings(NodeSettings, officers.federation.node(bureau).config)
    return Me(settings.certificate_paths, tree or load_tree(officers.federation.tree_file))


def looked_at(officers: Officers, as_whom: Me, peer: str = PROVINCE, asked: Asked | None = None) -> dict[str, Finding]:
    return by_look(officers.run(looking_around.peers(as_whom, {peer: asked or Asked(witness_of=COUNTY)})))


def with_endpoint(officers: Officers, bureau: str, **changed: Any) -> Me:
    found = me(officers)
    bureaus = [replace(one, **changed) if one.code == bureau else one for one in found.tree.bureaus.values()]
    return replace(found, tree=BureauTree("other", bureaus))


@pytest.mark.nats
def test_a_peer_that_is_away_is_not_in_the_tree_or_is_somebody_else_is_named(officers: Officers) -> None:
    look = f"peer {PROVINCE}"
    assert [(look, Verdict.OK)] == [(one.look, one.verdict) for one in looked_at(officers, me(officers)).values()]
    away = looked_at(officers, with_endpoint(officers, PROVINCE, endpoint=f"127.0.0.1:{free_port()}"))
    assert Verdict.WARN is told(away[look])[0]
    assert Verdict.FAIL is told(looked_at(officers, with_endpoint(officers, PROVINCE, endpoint=""))[look])[0]
    other = officers.federation.node(HEADQUARTERS).endpoint
    verdict, said = told(looked_at(officers, with_endpoint(officers, PROVINCE, endpoint=other))[look])
    assert (Verdict.FAIL, True) == (verdict, "not the bureau's" in said)


@pytest.mark.nats
def test_a_peers_certificate_is_held_to_the_tree_and_to_the_list_of_what_is_revoked(
    officers: Officers, tmp_path: Path
) -> None:
    look = f"peer {PROVINCE}"
    pinned = looked_at(officers, with_endpoint(officers, PROVINCE, fingerprints=frozenset({"ab" * 32})))
    assert Verdict.FAIL is told(pinned[f"{look} fingerprint"])[0]
    own = tmp_path / "own"
    shutil.copytree(me(officers).certificates.ca.parent, own)
    authority = tmp_path / "authority"
    shutil.copytree(officers.federation.authority, authority)
    serial = pki.load(me(officers, PROVINCE).certificates).certificate.serial_number
    revocation.revoke(authority, [serial])
    shutil.copy(authority / "ca.crl", own)
    revoked = looked_at(officers, replace(me(officers), certificates=CertificatePaths.in_folder(own)))
    assert Verdict.FAIL is told(revoked[f"{look} certificate"])[0]


@pytest.mark.nats
def test_a_peer_that_does_not_believe_this_service_says_why(officers: Officers, tmp_path: Path) -> None:
    look = f"peer {PROVINCE}"
    stranger = replace(me(officers), certificates=me(officers, HEADQUARTERS).certificates)
    refused = looked_at(officers, stranger)
    assert Verdict.FAIL is told(refused[f"{look} trust"])[0]
    pki.init_authority(tmp_path / "authority", "another")
    strange = pki.issue(tmp_path / "authority", tmp_path / "strange", "node", [COUNTY])
    strange.ca.write_bytes(me(officers).certificates.ca.read_bytes())
    assert Verdict.FAIL is told(looked_at(officers, replace(stranger, certificates=strange))[look])[0]


@pytest.mark.nats
@pytest.mark.parametrize(("off", "expected"), [(0, None), (-5, Verdict.WARN), (300, Verdict.FAIL)])
def test_a_clock_that_differs_from_a_peers_is_named(
    officers: Officers, monkeypatch: pytest.MonkeyPatch, off: float, expected: Verdict | None
) -> None:
    real = looking_around.now
    monkeypatch.setattr(looking_around, "now", lambda: real() + off)
    found = looked_at(officers, me(officers)).get(f"peer {PROVINCE} clock")
    assert expected is (told(found)[0] if found else None)


@pytest.mark.nats
def test_a_peer_of_another_version_is_named(officers: Officers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking_around, "product_version", lambda: "99.0")
    found = looked_at(officers, me(officers))[f"peer {PROVINCE} version"]
    assert Verdict.WARN is told(found)[0]


# ---------------------------------------------------------------- the tree in force, and a bureau's end


@pytest.mark.nats
def test_the_tree_that_headquarters_has_published_is_looked_by_where_it_is_newer_than_the_file(
    officers: Officers, tmp_path: Path
) -> None:
    federation = officers.federation
    given = load_tree(federation.tree_file)
    config = federation.node(COUNTY).config
    database = read_settings(NodeSettings, config).database
    assert given.version == looking_here.tree_in_force(given, database, "node").version
    published = BureauTree("2026-11", given.bureaus.values())
    (tmp_path / "tree.csv").write_text(tree_text(published), encoding="utf-8")
    publish = officers.at(HEADQUARTERS, "supervisor", "leadership", group="supervise")
    assert 0 == publish("publish-tree", str(tmp_path / "tree.csv")).exit_code
    until(
        lambda: looking_here.tree_in_force(given, database, "node").version, lambda version: version == "2026-11", 120
    )
    newer = BureauTree("2026-12", given.bureaus.values())
    assert "2026-12" == looking_here.tree_in_force(newer, database, "node").version


@pytest.mark.nats
def test_a_bureau_that_is_there_is_not_to_be_retired_nor_while_a_hub_cannot_be_asked(officers: Officers) -> None:
    config = str(officers.federation.node(COUNTY).config)
    away = f"{HEADQUARTERS}=127.0.0.1:{free_port()}"
    done = kx("doctor", "retire", COUNTY, "--hub", away, "--config", config, "--json")
    found = {one["look"]: one for one in json.loads(done.stdout)["findings"]}
    assert 2 == done.exit_code
    assert "takes new requests" in found["tree"]["said"]
    assert "could not be asked" in found[f"hub {HEADQUARTERS}"]["said"]
    assert ("ok", "ok", "ok") == tuple(found[look]["verdict"] for look in ("cases", "orders", f"peer {PROVINCE}"))
    assert "must not be switched off" in found["retire"]["said"]

    done = kx("doctor", "retire", PROVINCE, "--hub", away, "--config", config, "--json")
    assert (2, ["settings", "ledger"]) == (
        done.exit_code,
        [one["look"] for one in json.loads(done.stdout)["findings"] if one["look"] != "settings mode"],
    )
    done = kx("doctor", "retire", COUNTY, "--hub", "hq.example:7450", "--config", config, "--json")
    assert "NotAHub" == refusal(done)["rule"]


def test_a_hub_that_has_more_of_a_ledger_than_its_database_or_less_or_another_one_is_in_the_way() -> None:
    end = retiring._End(2, 7, b"7")

    def said(generation: int, seq: int, hash_: bytes) -> str:
        mark = statistics_pb2.BureauMark(bureau=COUNTY, generation=generation, seq=seq, hash=hash_)
        found = retiring._lacking("hub", end, mark)
        return told(found)[1] if found is not None else ""

    assert "" == said(2, 7, b"7")
    assert "It has folded 6 of 7 entries." == said(2, 6, b"6")
    assert "It has folded 8 entries, and the ledger here ends at 7." == said(2, 8, b"8")
    assert "It has folded 5 entries, and the ledger here ends at 7." == said(3, 5, b"5")
    assert "It has folded another ledger than this one." == said(2, 7, b"x")


def test_a_ledger_that_changes_while_it_is_looked_at_is_looked_at_again() -> None:
    end = retiring._End(2, 7, b"7")
    assert [] == list(retiring._moved(end, (2, 7)))
    for now in ((2, 8), (3, 7), None):
        (found,) = retiring._moved(end, now)
        assert (Verdict.FAIL, "It has changed while it was looked at.") == told(found)
    assert [] == list(retiring._moved(retiring._End(1, 0, b"0"), None))


async def test_what_is_open_is_read_from_a_ledger_in_either_database(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        case = (await office.register(SHANGCHENG)).case
        kept = retiring._kept(database_url, SHANGCHENG)
        assert kept is not None
        assert [case.case_id] == [row.case_id for row in kept.cases]
        assert office.ledger.heads[SHANGCHENG].hash == kept.end.hash
        (found,) = retiring._cases(kept, "330103")
        assert ("cases open", True) == (found.look, case.case_id in found.said.english)
        assert "--to 330103" in found.remedy.english
        never = retiring._kept(database_url, "110101")
        assert never is not None
        assert (0, []) == (never.end.seq, never.cases)
        assert [Verdict.OK] == [told(one)[0] for one in retiring._cosigned(never, ["110000"])]


def test_every_case_that_is_not_written_off_waits_for_something_that_is_named() -> None:
    waits = {
        (custody, stage): retiring._way_of(custody, stage).look
        for custody in Custody
        for stage in Stage
        if stage is not Stage.WRITTEN_OFF
    }
    assert {way.look for way in retiring._WAYS} == set(waits.values())
    assert "cases open" == waits[Custody.OWNED, Stage.JOINT_HANDLING]
    assert "cases deferred" == waits[Custody.OWNED, Stage.DEFERRED]
    assert "cases without feedback" == waits[Custody.OWNED, Stage.COMPLETED]
    assert "cases offered" == waits[Custody.OFFERED, Stage.FORWARDED]
    assert "cases elsewhere" == waits[Custody.RELEASED, Stage.REFERRED]
    assert "cases to write off" == waits[Custody.RELEASED, Stage.CONCLUDED]


# ---------------------------------------------------------------- NATS


@pytest.mark.nats
def test_a_site_that_is_away_or_does_not_let_this_node_publish_is_named(
    officers: Officers, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = officers.federation.sites[PROVINCE]
    access = Access(url=site.url, site=PROVINCE, user=node_user(COUNTY), certificates=me(officers).certificates)

    def looked(as_whom: Access, *bureaus: str) -> dict[str, Finding]:
        return by_look(officers.run(looking_around.nats(as_whom, (PROVINCE,), bureaus)))

    before = officers.run(_messages(access))
    assert {Verdict.OK} == {one.verdict for one in looked(access, COUNTY).values()}
    verdict, said = told(looked(access, "110102")["nats permissions"])
    assert (Verdict.FAIL, True) == (verdict, "does not let" in said)
    # To find out was no message of anybody's: heads alone may have come meanwhile.
    assert officers.run(_messages(access)) - before <= 6
    monkeypatch.setattr(looking_around, "SECONDS_MAX", 1.0)
    away = replace(access, url=f"tls://127.0.0.1:{free_port()}")
    assert Verdict.FAIL is told(looked(away, COUNTY)["nats"])[0]


async def _messages(access: Access) -> int:
    async with Bus(access) as bus:
        await bus.wait_connected(30)
        return (await bus.stream_state(site_domain(PROVINCE))).messages
