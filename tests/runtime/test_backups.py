"""A backup is whole or is none: copied from a database at work, proven, named when it is on the disk, and kept in number."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from kuaixiang.runtime import backups
from kuaixiang.runtime.backups import (
    BackupFailed,
    CopyBroken,
    Manifest,
    NoManifest,
    NoRoom,
    ProgramFailed,
    RestoreBroken,
    Return,
)
from kuaixiang.runtime.database import Database, DatabaseHeld, HalfRestored, locked_file

CODE = "330106"
BEGUN = datetime(2026, 11, 26, 17, 30, tzinfo=UTC)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A database that a service has open, as its writer has."""
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("CREATE TABLE pairs (number INTEGER PRIMARY KEY, side TEXT, filling BLOB)")
        yield path, writer


def add_pair(writer: sqlite3.Connection) -> None:
    """Two rows that belong together, in one transaction."""
    writer.execute("BEGIN IMMEDIATE")
    for side in ("left", "right"):
        writer.execute("INSERT INTO pairs (side, filling) VALUES (?, randomblob(2000))", (side,))
    writer.execute("COMMIT")


def made(folder: Path, begun_at: datetime = BEGUN, *, kept: int = 14) -> Path:
    with backups.draft_in(folder, "node", CODE) as (draft, _):
        (draft / "database.db").write_bytes(b"copy")
        files = (backups.described(draft, "database", "database.db"),)
        manifest = Manifest("node", CODE, begun_at, "1", files, {CODE: backups.End(1, 7, "ab")}, ("k1",))
        return backups.keep(draft, manifest, kept=kept)


def test_a_copy_of_a_database_that_is_written_to_is_that_of_one_instant(
    live: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = live
    for _ in range(2_000):
        add_pair(writer)
    before = writer.execute("SELECT count(*) FROM pairs").fetchone()[0]
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            add_pair(writer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        backups.copy_sqlite(path, tmp_path / "copy.db")
    finally:
        done.set()
        thread.join()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        sides = dict(copy.execute("SELECT side, count(*) FROM pairs GROUP BY side").fetchall())
        assert "delete" == copy.execute("PRAGMA journal_mode").fetchone()[0]
    assert sides["left"] == sides["right"] >= before // 2
    assert ["copy.db"] == sorted(file.name for file in tmp_path.glob("copy.db*"))


def test_whoever_copies_never_folds_the_log_in_also_when_nobody_else_is_there(
    live: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = live
    add_pair(writer)
    log = path.with_name("ledger.db-wal")
    with closing(backups.read_only(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pairs").fetchone()
        writer.close()
        before = (path.read_bytes(), log.read_bytes())
        with pytest.raises(sqlite3.OperationalError):
            reader.execute("INSERT INTO pairs (side) VALUES ('left')")
    assert before == (path.read_bytes(), log.read_bytes())


def test_a_damaged_copy_is_none(live: tuple[Path, sqlite3.Connection], tmp_path: Path) -> None:
    path, writer = live
    for _ in range(200):
        add_pair(writer)
    copy = tmp_path / "copy.db"
    backups.copy_sqlite(path, copy)
    content = bytearray(copy.read_bytes())
    content[8_192:8_292] = bytes(100)
    copy.write_bytes(content)
    with pytest.raises(CopyBroken, match="is not whole"):
        backups.check_sqlite(copy)


def test_a_draft_that_fails_leaves_nothing_and_one_that_was_broken_off_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / f"{backups.DRAFT_PREFIX}node-{CODE}-old"
    left.mkdir()
    with pytest.raises(CopyBroken), backups.draft_in(tmp_path, "node", CODE) as (draft, _):
        assert not left.exists()
        (draft / "database.db").write_bytes(b"half")
        raise CopyBroken("database.db", "it is half", "只有一半")
    assert [] == list(tmp_path.iterdir())


def test_the_newest_backups_are_kept_and_told_by_the_metric(tmp_path: Path) -> None:
    backups.show_newest(tmp_path, "node", CODE)
    assert 0 == REGISTRY.get_sample_value("kx_backup_last_success_timestamp_seconds")
    for day in range(4):
        made(tmp_path, BEGUN + timedelta(days=day), kept=2)
    others = tmp_path / "node-330102-20270101T000000Z"
    others.mkdir()
    (tmp_path / f"node-{CODE}-20270101T000000Z").mkdir()  # without a manifest: none
    last = BEGUN + timedelta(days=3)
    assert [f"node-{CODE}-20261128T173000Z", f"node-{CODE}-20261129T173000Z"] == [
        found.name for _, found in backups.backups_in(tmp_path, "node", CODE)
    ]
    assert last == backups.newest(tmp_path, "node", CODE)
    assert last.timestamp() == REGISTRY.get_sample_value("kx_backup_last_success_timestamp_seconds")
    assert others.exists()
    backups.show_newest(None, "node", CODE)


def test_a_manifest_says_what_was_backed_up_and_what_has_changed_since_is_found(tmp_path: Path) -> None:
    folder = made(tmp_path)
    manifest = backups.read_manifest(folder)
    assert ("node", CODE, BEGUN, ("k1",)) == (manifest.service, manifest.code, manifest.begun_at, manifest.keys)
    assert {CODE: backups.End(1, 7, "ab")} == manifest.ends
    assert 0 == (folder.stat().st_mode | (folder / "database.db").stat().st_mode) & 0o077
    backups.check_files(folder, manifest)
    (folder / "database.db").write_bytes(b"c0py")
    with pytest.raises(CopyBroken, match="not what the manifest says"):
        backups.check_files(folder, manifest)
    (folder / "database.db").unlink()
    with pytest.raises(CopyBroken, match="No such file"):
        backups.check_files(folder, manifest)


@pytest.mark.parametrize("content", ["", "{}", '{"form": "another"}', '{"form": "kuaixiang-backup-1", "files": 3}'])
def test_a_folder_without_a_good_manifest_is_no_backup(tmp_path: Path, content: str) -> None:
    if content:
        (tmp_path / backups.MANIFEST).write_text(content)
    with pytest.raises(NoManifest, match="is no backup"):
        backups.read_manifest(tmp_path)


def test_a_manifest_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path)
    path = folder / backups.MANIFEST
    path.write_text(path.read_text().replace('"database.db"', '"../../etc/passwd"'))
    with pytest.raises(NoManifest, match="names files elsewhere"):
        backups.read_manifest(folder)


def test_what_a_backup_replaces_is_kept_beside_it_and_a_running_service_is_let_alone(
    live: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = live
    add_pair(writer)
    copy = tmp_path / "copy.db"
    backups.copy_sqlite(path, copy)
    add_pair(writer)
    held = locked_file(path)
    assert held is not None
    with closing(open(held, "rb")), pytest.raises(DatabaseHeld):  # noqa: PTH123 - a descriptor, closed here
        backups.put_back_sqlite([Return(path, "ledger", copy)])
    writer.close()
    (aside,) = backups.put_back_sqlite([Return(path, "ledger", copy)])
    counted = []
    for file in (path, aside):
        with closing(sqlite3.connect(file)) as connection:
            counted.append(connection.execute("SELECT count(*) FROM pairs").fetchone()[0])
    assert [2, 4] == counted
    assert 0o600 == path.stat().st_mode & 0o777


def rows_in(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM pairs").fetchone()[0])


STEPS = ("unlink", "replace", "hardlink_to")
"""What of a file's name a restoration changes by."""


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt, OSError])
def test_wherever_a_restoration_is_broken_off_nothing_opens_a_database_without_its_log_and_once_more_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: type[BaseException]
) -> None:
    monkeypatch.setattr(Database, "_migrate", lambda *_: None)
    refused = step = 0
    while True:
        folder = tmp_path / str(step)
        folder.mkdir()
        path, second, copy = folder / "ledger.db", folder / "ledger.db.archive", folder / "copy.db"
        killed(folder, copy, path, second)
        returns = [Return(path, "ledger", copy), Return(second, "ledger", None)]
        with pytest.MonkeyPatch.context() as patch, suppress(ended_by, RestoreBroken):
            broken_off = breaking_off(patch, at=step, by=ended_by)
            backups.put_back_sqlite(returns)
        if not broken_off:
            break
        try:
            Database(f"sqlite:///{path}", service="ledger", migrations=tmp_path).close()
        except HalfRestored:
            refused += 1
        else:
            assert (rows_in(path), second.exists()) in {(2, True), (0, False)}
        backups.put_back_sqlite(returns)
        assert (0, False) == (rows_in(path), second.exists())
        assert {2, 4} <= {rows_in(one) for one in folder.glob("*.before-*") if not one.name.endswith(("-wal", "-shm"))}
        step += 1
    assert refused >= 6


def killed(folder: Path, copy: Path, *databases: Path) -> None:
    """An empty copy, and databases of two rows, four and so on in their logs, as a process leaves them that is killed."""
    live = folder / "live.db"
    with closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE pairs (number INTEGER PRIMARY KEY, side TEXT, filling BLOB)")
        backups.copy_sqlite(live, copy)
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for database in databases:
            add_pair(writer)
            for side in ("", "-wal"):
                shutil.copy(f"{live}{side}", f"{database}{side}")


def breaking_off(patch: pytest.MonkeyPatch, *, at: int, by: type[BaseException]) -> list[int]:
    """Ends what runs at its nth change of a name; the list has one when it came so far."""
    done, ends = [0], list[int]()
    for name in STEPS:
        real = getattr(Path, name)

        def change(self: Path, *arguments: Any, real: Any = real, **more: Any) -> Any:
            if done[0] == at and not ends:
                ends.append(at)
                raise by(5, "Input/output error")
            done[0] += 1
            return real(self, *arguments, **more)

        patch.setattr(Path, name, change)
    return ends


def test_of_databases_that_belong_together_none_is_put_back_while_one_is_held(
    live: tuple[Path, sqlite3.Connection], tmp_path: Path
) -> None:
    path, writer = live
    copy, other = tmp_path / "copy.db", tmp_path / "accounts.db"
    backups.copy_sqlite(path, copy)
    add_pair(writer)
    writer.close()
    other.write_bytes(copy.read_bytes())
    held = locked_file(other)
    assert held is not None
    with closing(open(held, "rb")), pytest.raises(DatabaseHeld):  # noqa: PTH123 - a descriptor, closed here
        backups.put_back_sqlite([Return(path, "ledger", copy), Return(other, "accounts", copy)])
    assert 2 == rows_in(path)
    assert [] == list(tmp_path.glob("*.before-*"))


def test_a_disk_without_room_and_a_missing_program_are_named(
    live: tuple[Path, sqlite3.Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = live
    monkeypatch.setattr(backups, "FREE_BYTES_MIN", 2**60)
    with pytest.raises(NoRoom, match="MiB free"):
        backups.copy_sqlite(path, tmp_path / "copy.db")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramFailed, match="pg_restore failed: not found"):
        backups.check_dump(tmp_path / "a.dump")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BackupFailed, match="could not be written"), backups.draft_in(tmp_path / "file", "node", CODE):
        pass
