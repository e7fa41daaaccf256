"""Backups: a folder for each, with whole copies of a service's databases and a manifest that says what they are.

An SQLite database is copied while its service writes to it, by SQLite's own online copy under one reader's view, so
that the copy is the database of one instant. The connection is opened read-only: it can neither write nor fold the
write-ahead log in, also when it is the last one to be closed, which two processes at once could corrupt a database by.
A PostgreSQL database is dumped by `pg_dump` from a snapshot that is exported to it; whatever else is to be read of that
instant is read in the same snapshot.

A backup is a draft until all of it is proven and on the disk; then its folder gets its name. Whatever has that name and
a manifest is whole. What is private in it is sealed as in the database: the keys are in no backup.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from prometheus_client import Gauge

from kuaixiang.domain.labels import NOTHING, Both
from kuaixiang.runtime.database import (
    BUSY_SECONDS,
    FREE_BYTES_MIN,
    DatabaseHeld,
    Restoration,
    locked_file,
    note_restoration,
    restoration_in,
)
from kuaixiang.runtime.files import alone_with, replacing, sync_folder

MANIFEST: Final = "manifest.json"
FORM: Final = "kuaixiang-backup-1"
"""First word of a manifest; another form is not read."""
PAGES_AT_ONCE: Final = 4_096
"""Pages of an SQLite database copied at a time, 16 MiB: between them progress is told and can be broken off."""
READ_BYTES: Final = 1024 * 1024
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
DRAFT_PREFIX: Final = ".draft-"
PROGRAM_SECONDS_MAX: Final = 6 * 3600
"""pg_dump of a province's ledgers takes minutes; one that hangs does not hang the next night's too."""
STAMP: Final = "%Y%m%dT%H%M%SZ"
_FOLDER: Final = re.compile(r"^(?P<service>node|hub)-(?P<code>\d{6})-(?P<stamp>\d{8}T\d{6}Z)$")

LAST: Final = Gauge(
    "kx_backup_last_success_timestamp_seconds",
    "When the newest whole backup in the service's folder of backups was begun, Unix time; 0: none is there.",
)


class BackupFailed(Exception):
    """A backup could not be made, proven or put back.

    Nothing has changed, but where `RestoreBroken` says what has, and where a PostgreSQL database had been filled before
    the next one failed: that one is to be emptied again.
    """

    def __init__(self, said: Both, remedy: Both = NOTHING) -> None:
        self.said = said
        self.remedy = remedy
        super().__init__(said.english)


class CopyBroken(BackupFailed):
    """A copy is not whole."""

    def __init__(self, what: str, why: str, why_chinese: str) -> None:
        self.what = what
        super().__init__(
            Both(f"{what} is not whole: {why}.", f"{what} 不完整：{why_chinese}。"),
            Both(
                "Do not rely on it. Have the database and its disk examined, and make another backup.",
                "请勿使用该备份。请检查数据库及其磁盘，并重新备份。",
            ),
        )


class NoManifest(BackupFailed):
    """A folder is no backup."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            Both(f"{folder} is no backup: {why}.", f"{folder} 不是备份（{why}）。"),
            Both("Name a folder that kx backup has written.", "请指定 kx backup 写出的目录。"),
        )


class ProgramFailed(BackupFailed):
    """A program of PostgreSQL has failed, or is not there."""

    def __init__(self, program: str, why: str) -> None:
        super().__init__(
            Both(f"{program} failed: {why}", f"{program} 执行失败：{why}"),
            Both(
                f"{program} must be on PATH, of the server's major version or a newer one.",
                f"{program} 须在 PATH 上，且主版本不低于服务器。",
            ),
        )


ANOTHER_FOLDER: Final = Both("Make room, or name another folder by --to.", "请清理磁盘，或用 --to 指定其他目录。")


class NoRoom(BackupFailed):
    """The disk has no room for a copy."""

    def __init__(self, folder: Path, needed: int, free: int, remedy: Both = ANOTHER_FOLDER) -> None:
        mebi = 1024 * 1024
        super().__init__(
            Both(
                f"The disk of {folder} has {free // mebi} MiB free, and the copy takes {needed // mebi} MiB.",
                f"{folder} 所在磁盘剩余 {free // mebi} MiB，备份需要 {needed // mebi} MiB。",
            ),
            remedy,
        )


class RestoreBroken(BackupFailed):
    """Putting a backup back was broken off when something of it was in place."""

    def __init__(self, why: str, aside: Sequence[Path]) -> None:
        self.aside = tuple(aside)
        lies = ", ".join(map(str, aside)) or "–"
        super().__init__(
            Both(
                f"The backup is put back in part only: {why}. What was there lies in: {lies}.",
                f"备份仅恢复了一部分（{why}）。原有数据保留于：{lies}。",
            ),
            Both(
                "Mend what is wrong and put the same backup back again; until then the service does not start.",
                "请排除故障后重新恢复同一备份；在此之前服务不会启动。",
            ),
        )


class NotEmpty(BackupFailed):
    """A PostgreSQL database that is to be restored into holds something."""

    def __init__(self, database: str) -> None:
        super().__init__(
            Both(f"The database {database} is not empty.", f"数据库 {database} 不是空库。"),
            Both(
                "Create an empty database and name it in the settings; keep the damaged one until all is well again.",
                "请新建空库并写入设置；受损的库请保留至恢复正常。",
            ),
        )


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of a backup. `role` says which database it is: the service's own, or that of sign-ins."""

    role: str
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class End:
    """Where the journal of a bureau ended in a backup."""

    generation: int
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is: of which service (`node`, `hub`) and code, when it was begun, by which version, and its files.

    `ends` are of a node's ledgers, `keys` the ids of the data keys without which what is private in it cannot be read.
    """

    service: str
    code: str
    begun_at: datetime
    version: str
    files: tuple[Copy, ...]
    ends: Mapping[str, End] = field(default_factory=dict)
    keys: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The manifest in plain values."""
        return {"form": FORM, **asdict(self), "begun_at": self.begun_at.isoformat()}


def product_version() -> str:
    """The version of this program."""
    return version("kuaixiang")


# ---------------------------------------------------------------- what is there


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup. Raises `NoManifest`."""
    try:
        said = json.loads((folder / MANIFEST).read_text("utf-8"))
        if said.pop("form") != FORM:
            raise NoManifest(folder, "its manifest is of another form")
        said["begun_at"] = datetime.fromisoformat(said["begun_at"])
        said["files"] = tuple(Copy(**one) for one in said["files"])
        said["ends"] = {bureau: End(**one) for bureau, one in said["ends"].items()}
        said["keys"] = tuple(said["keys"])
        found = Manifest(**said)
    except OSError as failure:
        raise NoManifest(folder, failure.strerror or str(failure)) from failure
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise NoManifest(folder, "its manifest cannot be read") from failure
    if any(Path(one.name).name != one.name for one in found.files):
        raise NoManifest(folder, "its manifest names files elsewhere")
    return found


def backups_in(folder: Path, service: str, code: str) -> list[tuple[str, Path]]:
    """A service's whole backups in a folder, with their stamps, the newest last; none where there is no such folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    matches = [match for name in names if (match := _FOLDER.match(name)) is not None]
    of = [(match["stamp"], folder / match[0]) for match in matches if match.group("service", "code") == (service, code)]
    return [(stamp, found) for stamp, found in sorted(of) if (found / MANIFEST).is_file()]


def newest(folder: Path, service: str, code: str) -> datetime | None:
    """When the newest whole backup was begun; None where there is none."""
    found = backups_in(folder, service, code)
    return datetime.strptime(found[-1][0], STAMP).replace(tzinfo=UTC) if found else None


def show_newest(folder: Path | None, service: str, code: str) -> None:
    """From now on the metric tells of the newest backup in that folder, as it is when somebody looks."""
    if folder is None:
        LAST.set(0)
        return

    def at() -> float:
        found = newest(folder, service, code)
        return found.timestamp() if found else 0.0

    LAST.set_function(at)


# ---------------------------------------------------------------- making one


@contextmanager
def draft_in(folder: Path, service: str, code: str) -> Iterator[tuple[Path, datetime]]:
    """A draft's folder and when it was begun, for the time of the block; what is not `keep`-ed of it goes with it.

    One backup of a folder at a time; what one that was broken off has left is removed. Raises `BackupFailed`.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with alone_with(folder / MANIFEST):
            for left in folder.glob(f"{DRAFT_PREFIX}{service}-{code}-*"):
                shutil.rmtree(left)
            draft = Path(tempfile.mkdtemp(dir=folder, prefix=f"{DRAFT_PREFIX}{service}-{code}-"))
            try:
                yield draft, datetime.now(UTC).replace(microsecond=0)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except OSError as failure:
        said = Both(
            f"The backup in {folder} could not be written: {failure.strerror}.",
            f"无法写入备份目录 {folder}（{failure.strerror}）。",
        )
        raise BackupFailed(
            said, Both("Mend the disk or its rights, and try again.", "请检查磁盘或权限后重试。")
        ) from failure


def keep(draft: Path, manifest: Manifest, *, kept: int) -> Path:
    """Gives a proven draft its name, durably, and removes all but the newest `kept`. Raises `OSError`."""
    folder = draft.parent
    for one in manifest.files:
        (draft / one.name).chmod(FILE_MODE)
        _sync(draft / one.name)
    with replacing(draft / MANIFEST, FILE_MODE) as file:
        file.write(json.dumps(manifest.as_dict(), indent=1).encode())
    _sync(draft)
    done = folder / f"{manifest.service}-{manifest.code}-{manifest.begun_at.strftime(STAMP)}"
    draft.rename(done)
    _sync(folder)
    for _, old in backups_in(folder, manifest.service, manifest.code)[:-kept]:
        # The manifest goes first: what is half removed is none any more.
        (old / MANIFEST).unlink()
        shutil.rmtree(old)
    return done


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def described(folder: Path, role: str, name: str) -> Copy:
    """A file of a draft as its manifest will have it."""
    with (folder / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Copy(role=role, name=name, bytes=(folder / name).stat().st_size, sha256=digest)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file is there as it was made. Raises `CopyBroken`."""
    for one in manifest.files:
        try:
            found = described(folder, one.role, one.name)
        except OSError as failure:
            raise CopyBroken(one.name, failure.strerror or str(failure), "文件缺失或无法读取") from failure
        if found != one:
            raise CopyBroken(one.name, "its content is not what the manifest says", "内容与清单不符")


# ---------------------------------------------------------------- SQLite


def read_only(database: Path) -> sqlite3.Connection:
    """A connection that reads an SQLite database, live or not, and by no means changes anything of it.

    For a process beside the service. Raises `sqlite3.Error`.
    """
    connection = sqlite3.connect(_for_reading(database), uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA query_only = ON")
    return connection


def attach_read_only(connection: sqlite3.Connection, database: Path, name: str) -> None:
    """Has such a connection read another SQLite database too, under a name. Raises `sqlite3.Error`."""
    connection.execute(f"ATTACH DATABASE ? AS {name}", (_for_reading(database),))


def _for_reading(database: Path) -> str:
    return f"file:{quote(str(database.absolute()))}?mode=ro"


def copy_sqlite(source: Path, target: Path, told: Callable[[int, int], None] = lambda _done, _all: None) -> None:
    """Copies an SQLite database as it is at one instant, and proves the copy sound; `told` of pages.

    Raises `BackupFailed`, `OSError`.
    """
    free = shutil.disk_usage(target.parent).free
    needed = source.stat().st_size + FREE_BYTES_MIN
    if free < needed:
        raise NoRoom(target.parent, needed, free)
    try:
        with closing(read_only(source)) as live, closing(sqlite3.connect(target, isolation_level=None)) as copy:
            # One view for all of the copying: otherwise each commit of the service would have it begin anew.
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            live.backup(
                copy, pages=PAGES_AT_ONCE, progress=lambda _status, left, pages: told(pages - left, pages), sleep=0
            )
            live.execute("ROLLBACK")
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as failure:
        said = Both(f"{source} cannot be copied: {failure}.", f"无法复制 {source}（{failure}）。")
        raise BackupFailed(said, Both("See that it is there and whole.", "请确认数据库存在且完好。")) from failure
    check_sqlite(target)


def check_sqlite(copy: Path) -> None:
    """Has SQLite examine a copy, indexes included. Raises `CopyBroken`."""
    try:
        with closing(read_only(copy)) as connection:
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as failure:
        raise CopyBroken(copy.name, str(failure), "无法打开") from failure
    if said != ["ok"]:
        raise CopyBroken(copy.name, "; ".join(said), "完整性检查未通过")


@dataclass(frozen=True, slots=True)
class Return:
    """A database in whose place a copy is put, and what holds it while it runs; no copy: nothing is to be there."""

    target: Path
    service: str
    copy: Path | None


def put_back_sqlite(returns: Sequence[Return]) -> list[Path]:
    """Puts copies in the places of databases that belong together, durably; where what was there lies now.

    Nothing is deleted. Each lock is taken and each copy written beside its place before anything changes. From then
    until all are in place the lock files say so: no service opens what is half restored (`database.HalfRestored`), and
    the same once more finishes it. A database's log goes with it, and never lies beside another's.

    Raises `DatabaseHeld` while a service runs, `NoRoom`, `OSError`: nothing has changed; and `RestoreBroken`.
    """
    with ExitStack() as stack:
        for one in returns:
            one.target.parent.mkdir(parents=True, exist_ok=True)
        locks = [stack.enter_context(_locked(one)) for one in returns]
        _check_room(returns)
        drafts = [stack.enter_context(_drafted(one)) for one in returns]
        asides: list[Path] = []
        try:
            for one, lock in zip(returns, locks, strict=True):
                asides += filter(None, [_kept_aside(one.target, lock)])
            for one, draft in zip(returns, drafts, strict=True):
                _replace(one.target, draft)
            for lock in locks:
                note_restoration(lock, None)
        except OSError as failure:
            raise RestoreBroken(failure.strerror or str(failure), asides) from failure
    return asides


@contextmanager
def _locked(one: Return) -> Iterator[int]:
    lock = locked_file(one.target)
    if lock is None:
        raise DatabaseHeld(one.service, str(one.target))
    try:
        yield lock
    finally:
        os.close(lock)


def _check_room(returns: Sequence[Return]) -> None:
    needed: dict[int, int] = {}
    for one in returns:
        if one.copy is not None:
            disk = one.target.parent.stat().st_dev
            needed[disk] = needed.get(disk, FREE_BYTES_MIN) + one.copy.stat().st_size
            free = shutil.disk_usage(one.target.parent).free
            if free < needed[disk]:
                raise NoRoom(one.target.parent, needed[disk], free, Both("Make room.", "请清理磁盘。"))


@contextmanager
def _drafted(one: Return) -> Iterator[Path | None]:
    """A copy beside the place that it will take, whole and on the disk; gone when it has not been taken there."""
    if one.copy is None:
        yield None
        return
    draft = one.target.with_name(f".{one.target.name}.restored")
    try:
        with one.copy.open("rb") as kept, replacing(draft, FILE_MODE) as file:
            shutil.copyfileobj(kept, file, READ_BYTES)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


_SIDES: Final = ("", "-wal", "-shm")
"""A database and what SQLite keeps beside it."""


def _kept_aside(target: Path, lock: int) -> Path | None:
    """Has what is there lie under a second name too, noted in the lock; where, None if nothing was there."""
    found = [side for side in _SIDES if target.with_name(target.name + side).exists()]
    half = restoration_in(lock)
    name = half.aside if half is not None else _unused_name(target)
    if half is None:
        note_restoration(lock, Restoration(name))
    if half is None or not half.kept:
        for side in found:
            link = target.with_name(name + side)
            link.unlink(missing_ok=True)
            link.hardlink_to(target.with_name(target.name + side))
        sync_folder(target.parent)
        note_restoration(lock, Restoration(name, kept=True))
    aside = target.with_name(name)
    return aside if aside.exists() else None


def _unused_name(target: Path) -> str:
    name = f"{target.name}.before-{datetime.now(UTC).strftime(STAMP)}"
    while any(target.with_name(name + side).exists() for side in _SIDES):
        name += "-"  # of the same second
    return name


def _replace(target: Path, draft: Path | None) -> None:
    if draft is None:
        target.unlink(missing_ok=True)
    else:
        draft.replace(target)
    for side in _SIDES[1:]:
        target.with_name(target.name + side).unlink(missing_ok=True)
    sync_folder(target.parent)


# ---------------------------------------------------------------- PostgreSQL


@contextmanager
def snapshot(url: sa.URL) -> Iterator[tuple[sa.Connection, str]]:
    """A reading connection to a PostgreSQL database, and the name by which its view can be shared for so long."""
    engine = sa.create_engine(url, isolation_level="REPEATABLE READ", poolclass=sa.NullPool)
    try:
        with engine.connect() as connection, connection.begin():
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            yield connection, str(connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one())
    finally:
        engine.dispose()


def dump_postgresql(url: sa.URL, shared: str, target: Path) -> None:
    """Dumps a PostgreSQL database as it is in a snapshot, and reads the dump once. Raises `ProgramFailed`."""
    _run(
        url,
        "pg_dump",
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        f"--snapshot={shared}",
        f"--file={target}",
        f"--dbname={_address(url)}",
    )
    check_dump(target)


def check_dump(dump: Path) -> None:
    """Reads a dump to its end, as a restoration would. Raises `ProgramFailed`."""
    _run(None, "pg_restore", f"--file={os.devnull}", str(dump))


def restore_postgresql(url: sa.URL, dump: Path) -> None:
    """Fills an empty PostgreSQL database from a dump, all or nothing. Raises `NotEmpty`, `ProgramFailed`."""
    check_empty(url)
    _run(
        url,
        "pg_restore",
        "--no-owner",
        "--no-privileges",
        "--exit-on-error",
        "--single-transaction",
        f"--dbname={_address(url)}",
        str(dump),
    )


def check_empty(url: sa.URL) -> None:
    """A PostgreSQL database holds nothing. Raises `NotEmpty`."""
    with snapshot(url) as (connection, _):
        there = connection.execute(
            sa.text("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        ).scalar_one()
    if there:
        raise NotEmpty(url.render_as_string(hide_password=True))


def _address(url: sa.URL) -> str:
    """For the tools' command line, which everybody on the machine can read: without the password."""
    return url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)


def _run(url: sa.URL | None, program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise ProgramFailed(program, "not found")
    environment = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url is not None and url.password else {})
    command: Sequence[str] = (found, *arguments)
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and a program by its full path
            command,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PROGRAM_SECONDS_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ProgramFailed(program, type(failure).__name__) from failure
    if done.returncode:
        raise ProgramFailed(program, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word why")
