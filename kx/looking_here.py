"""What `kx doctor` looks at on the service's own machine: files, keys, database, disk, calendar, backups.

Nothing is changed by looking: an SQLite database is read as `kx backup` reads it, no lock is kept, no file is made.
"""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.labels import Both
from kuaixiang.domain.succession import newer
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import DirectiveKind
from kuaixiang.runtime import backups, pki, revocation
from kuaixiang.runtime.database import CONNECT_SECONDS_MAX, FREE_BYTES_MIN, lock_key
from kuaixiang.runtime.directives import tree_of
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.vault import PLAIN, KeyFile, VaultError
from kuaixiang.wire.v1.directive_pb2 import Directive
from kx.findings import Finding, fail, ok, warn

EXPIRES_WITHIN: Final = timedelta(days=30)
"""A month to renew what expires."""
CALENDAR_DAYS_MIN: Final = 45
"""The State Council publishes the next year's days off in November or December: who has fewer days left missed it."""
BACKUP_HOURS_MAX: Final = 26
"""A nightly backup, and two hours for a slow night."""
BACKUP_DAYS_LOST_MAX: Final = 7
FREE_SHARE_MIN: Final = 0.1
FREE_GIB_MIN: Final = 5
"""Of a disk, whichever is less: a county's ledger grows by less than a GiB a year, a province's by some fifty."""
DURABLE: Final = ("fsync", "full_page_writes")
"""What a PostgreSQL server must not have switched off; the service itself asks for synchronous commits."""
LOCKED_AS: Final = {"node": "ledger", "hub": "hub"}
"""By which name each service locks its database."""
STANDBY_SERVER_MIN: Final = 140_000
"""PostgreSQL 14 is the first that ends a session that is idle outside of a transaction."""
LOCKS: Final = Path("/proc/locks")
MOUNTS: Final = Path("/proc/self/mounts")
FORGETFUL: Final = ("tmpfs", "ramfs", "overlay")
"""File systems that a machine, or a container, loses when it ends."""
REMOTE: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")
"""File systems on which SQLite's locks, or its log, are not to be relied on."""


def certificates(paths: CertificatePaths) -> Iterator[Finding]:
    """The service's own certificate, its authority, and the list of what is revoked."""
    look = "certificate"
    renew = Both(
        "Have another one issued (kx pki issue --force) and put it in place; the service takes it up by itself.",
        "请重新签发（kx pki issue --force）并放入证书目录；服务会自动启用。",
    )
    try:
        credentials = pki.load(paths)
        authority = pki.issuer_of(credentials.certificate, paths.ca)
        listed = revocation.load_revocations(paths.ca)
    except pki.PkiError as failure:
        yield fail(look, Both(str(failure), f"证书无法使用（{failure}）。"), renew)
        return
    certificate = credentials.certificate
    if certificate.serial_number in listed.serials:
        serial = revocation.serial_text(certificate.serial_number)
        yield fail(look, Both(f"The certificate {serial} is revoked.", f"证书 {serial} 已被吊销。"), renew)
        return
    now = datetime.now(UTC)
    dates = [("certificate", certificate.not_valid_after_utc), ("authority", authority.not_valid_after_utc)]
    for name, ends in dates:
        named = {"certificate": "证书", "authority": "颁发机构"}[name]
        said = Both(f"Valid until {ends:%Y-%m-%d}.", f"{named}有效期至 {ends:%Y-%m-%d}。")
        if ends <= now:
            yield fail(name, Both(f"It has expired on {ends:%Y-%m-%d}.", f"{named}已于 {ends:%Y-%m-%d} 过期。"), renew)
        elif ends - now < EXPIRES_WITHIN:
            yield warn(name, said, renew)
        else:
            yield ok(name, *said)
    if listed.fresh_until is not None and listed.fresh_until < now:
        yield warn(
            "revocations",
            Both(
                f"The list of revoked certificates was to be renewed before {listed.fresh_until:%Y-%m-%d}.",
                f"吊销名单应于 {listed.fresh_until:%Y-%m-%d} 前更新。",
            ),
            Both(
                "Have the authority renew it (kx pki revoke) and copy ca.crl beside ca.crt.",
                "请由颁发机构更新（kx pki revoke），并将 ca.crl 复制到 ca.crt 旁。",
            ),
        )
    elif listed.fresh_until is not None:
        yield ok(
            "revocations", f"{len(listed.serials)} revoked, list fresh.", f"名单有效，已吊销 {len(listed.serials)} 份。"
        )


def calendar(calendar: WorkingCalendar, today: date | None = None) -> Finding:
    """How far the working calendar in the settings reaches; a newer one that headquarters has published wins."""
    left = (calendar.horizon - (today or datetime.now(SHANGHAI).date())).days
    said = Both(
        f"Calendar {calendar.version} reaches to {calendar.horizon}, {left} days ahead.",
        f"工作日历 {calendar.version} 公布至 {calendar.horizon}，还有 {left} 天。",
    )
    remedy = Both(
        "Take the calendar of the next year in force: headquarters publishes it (kx supervise publish-calendar).",
        "请启用下一年度工作日历：由税务总局发布（kx supervise publish-calendar）。",
    )
    if left < 0:
        return fail("calendar", said, remedy)
    return warn("calendar", said, remedy) if left < CALENDAR_DAYS_MIN else ok("calendar", *said)


def disk(folder: Path, look: str = "disk") -> Iterator[Finding]:
    """Whether a folder's disk has room, and is one that keeps what it is told to."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    usage = shutil.disk_usage(there)
    gibi = 1024**3
    said = Both(
        f"{usage.free / gibi:.1f} GiB of {usage.total / gibi:.1f} free at {there}.",
        f"{there} 剩余 {usage.free / gibi:.1f} GiB，共 {usage.total / gibi:.1f} GiB。",
    )
    remedy = Both("Make room, or a larger disk.", "请清理或扩容磁盘。")
    if usage.free < FREE_BYTES_MIN:
        yield fail(look, said, remedy)
    elif usage.free < min(usage.total * FREE_SHARE_MIN, FREE_GIB_MIN * gibi):
        yield warn(look, said, remedy)
    else:
        yield ok(look, *said)
    kind = _file_system(there)
    if kind in FORGETFUL:
        yield warn(
            f"{look} kind",
            Both(f"{there} is on {kind}, which a restart empties.", f"{there} 位于 {kind}，重启后数据丢失。"),
            Both("Keep the database on a disk.", "请将数据库放在磁盘上。"),
        )
    elif kind in REMOTE:
        yield fail(
            f"{look} kind",
            Both(f"{there} is on {kind}, where SQLite is not safe.", f"{there} 位于 {kind}，SQLite 不能安全使用。"),
            Both("Keep the database on a disk of this machine.", "请将数据库放在本机磁盘上。"),
        )


def _file_system(folder: Path) -> str:
    """The kind of the file system that a folder is on; empty where nothing says."""
    mounts = {Path(of[1]): of[2] for line in MOUNTS.read_text("utf-8").splitlines() if len(of := line.split()) > 2}
    resolved = folder.resolve()
    return next((mounts[one] for one in (resolved, *resolved.parents) if one in mounts), "")


# ---------------------------------------------------------------- the database


def database(
    url_text: str, service: str, migrations: Path, version_table: str, *, standby: bool = False
) -> Iterator[Finding]:
    """The service's database: there, whole, of this program's version, and as durable as it must be; who holds it.

    `standby`: the service waits while another process holds it.
    """
    url = sa.make_url(url_text)
    if url.get_backend_name() == "sqlite":
        yield from _sqlite(Path(url.database or ""), service, migrations, version_table)
    else:
        url = url.set(drivername="postgresql+psycopg")
        yield from _postgresql(url, LOCKED_AS[service], migrations, version_table, standby=standby)


def _sqlite(file: Path, service: str, migrations: Path, version_table: str) -> Iterator[Finding]:
    look = "database"
    if not file.exists():
        yield warn(
            look,
            Both(
                f"{file} does not exist; the {service} makes it at its first start.",
                f"{file} 尚不存在，首次启动时建立。",
            ),
            Both(
                "If it has been there before: do not start; restore a backup (kx backup restore).",
                "如此前已有数据，请勿启动，先从备份恢复（kx backup restore）。",
            ),
        )
        yield from disk(file.parent)
        return
    yield from _held(file)
    try:
        with closing(backups.read_only(file)) as connection:
            said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
            stands_at = connection.execute(f"SELECT version_num FROM {version_table}").fetchone()  # noqa: S608 - a name of ours
    except sqlite3.Error as failure:
        yield fail(
            look,
            Both(f"{file} cannot be read: {failure}.", f"{file} 无法读取（{failure}）。"),
            Both(
                "Look at its owner and its disk; if it is damaged, restore a backup (kx backup restore).",
                "请检查属主与磁盘；如已损坏，请从备份恢复（kx backup restore）。",
            ),
        )
        return
    if said != ["ok"]:
        yield fail(
            look,
            Both(f"{file} is damaged: {'; '.join(said)}.", f"{file} 已损坏。"),
            Both(
                "Stop the service and restore a backup (kx backup restore, then kx node refill for a node).",
                "请停止服务并从备份恢复（kx backup restore；节点随后执行 kx node refill）。",
            ),
        )
        return
    size = sum(one.stat().st_size for side in ("", "-wal") if (one := file.with_name(file.name + side)).exists())
    yield ok(look, f"{file} is whole, {size / 2**20:.1f} MiB.", f"{file} 完好。")
    yield _migrated(str(stands_at[0]) if stands_at else "", migrations)
    yield from disk(file.parent)


def _held(file: Path) -> Iterator[Finding]:
    if not os.access(file, os.R_OK | os.W_OK):
        yield fail(
            "database owner",
            Both(f"{file} is not this account's to write.", f"当前账户无权写入 {file}。"),
            Both("Run as the service's account, or give it the file.", "请以服务账户运行，或更正文件属主。"),
        )
    if _is_locked(file.with_name(f"{file.name}.lock")):
        yield ok("process", "The service runs.", "服务运行中。")
    else:
        yield ok("process", "The service does not run.", "服务未运行。")


def _is_locked(lock: Path) -> bool:
    """Whether a process holds a lock file: as the kernel lists it, for to try would keep a service from starting."""
    if not lock.exists():
        return False
    found = lock.stat()
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any("FLOCK" in line and f" {place} " in line for line in LOCKS.read_text("ascii").splitlines())


def _migrated(stands_at: str, migrations: Path) -> Finding:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(migrations / "versions"))
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_current_head() or ""
    if stands_at == newest:
        return ok("schema", f"At {newest}, this program's.", f"版本 {newest}，与程序一致。")
    known = {script.revision for script in scripts.walk_revisions()}
    if stands_at in known:
        return warn(
            "schema",
            Both(
                f"At {stands_at}; the next start brings it to {newest}.", f"版本 {stands_at}，下次启动升级至 {newest}。"
            ),
            Both("Make a backup before it is started.", "启动前请先备份。"),
        )
    return fail(
        "schema",
        Both(
            f"At {stands_at or 'nothing'}, which this program does not know: it was written by a newer one.",
            f"版本 {stands_at or '无'} 为本程序所不识，系由更新的程序写入。",
        ),
        Both("Start the newer program, or restore the backup from before.", "请使用更新的程序，或恢复升级前的备份。"),
    )


def _session(connection: sa.Connection, locked_as: str, *, standby: bool) -> Iterator[Finding]:
    """Which session of PostgreSQL holds the service's lock."""
    version = int(str(connection.execute(sa.text("SHOW server_version_num")).scalar_one()))
    if standby and version < STANDBY_SERVER_MIN:
        yield fail(
            "process",
            Both(
                "PostgreSQL before version 14 does not end a session that is silent, so that nobody takes over.",
                "PostgreSQL 14 以前的版本不会结束沉默的会话，备用进程无法接替。",
            ),
            Both(
                "Bring the server to version 14 or newer, or unset standby.", "请升级到 14 或更新版本，或取消 standby。"
            ),
        )
        return
    high, low = divmod(lock_key(locked_as), 2**32)
    found = connection.execute(_HOLDER, {"high": high, "low": low}).one_or_none()
    if found is None:
        yield ok("process", "The service does not run.", "服务未运行。")
        return
    where = found.client_addr or "this machine"
    since = f"{found.backend_start.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    ends = (
        ("a second process stands by", "另一进程将作为备用")
        if standby
        else ("a second process is refused", "另一进程将被拒绝")
    )
    yield ok(
        "process",
        f"The service runs: a session from {where} holds the lock since {since}, and {ends[0]}.",
        f"服务运行中：来自 {found.client_addr or '本机'} 的会话自 {since} 起持有锁，{ends[1]}。",
    )


_HOLDER: Final = sa.text(
    """SELECT host(a.client_addr) AS client_addr, a.backend_start
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database()
    AND l.classid::bigint = :high AND l.objid::bigint = :low"""
)


def _postgresql(
    url: sa.URL, locked_as: str, migrations: Path, version_table: str, *, standby: bool
) -> Iterator[Finding]:
    look = "database"
    named = url.render_as_string(hide_password=True)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": CONNECT_SECONDS_MAX})
    try:
        with engine.connect() as connection, connection.begin():
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            settings = {
                name: str(connection.execute(sa.text(f"SHOW {name}")).scalar_one())
                for name in ("server_version", *DURABLE)
            }
            there = connection.execute(sa.text("SELECT to_regclass(:name)"), {"name": version_table}).scalar_one()
            stands_at = (
                connection.execute(
                    sa.select(sa.column("version_num")).select_from(sa.table(version_table))
                ).scalar_one()
                if there
                else None
            )
            held = list(_session(connection, locked_as, standby=standby))
    except sa.exc.DBAPIError as failure:
        why = str(failure.orig).strip().partition("\n")[0].rstrip(".")
        yield fail(
            look,
            Both(f"{named} cannot be reached: {why}.", f"无法连接 {named}（{why}）。"),
            Both(
                "See that the server runs, and that address, user and password are right.",
                "请确认服务器运行，地址、用户与密码正确。",
            ),
        )
        return
    finally:
        engine.dispose()
    yield ok(
        look, f"{named}, PostgreSQL {settings['server_version']}.", f"可连接，PostgreSQL {settings['server_version']}。"
    )
    off = [name for name in DURABLE if settings[name] != "on"]
    if off:
        yield fail(
            "durability",
            Both(
                f"The server runs with {' and '.join(off)} off: a power cut loses what was acknowledged.",
                "服务器关闭了落盘保证，断电会丢失已确认的数据。",
            ),
            Both(
                f"Set {' and '.join(f'{name} = on' for name in off)} in postgresql.conf.",
                "请在 postgresql.conf 中开启。",
            ),
        )
    else:
        yield ok("durability", f"{' and '.join(DURABLE)} are on.", "落盘保证已开启。")
    yield from held
    if stands_at is None:
        yield warn(
            "schema",
            Both("The database is empty; the service fills it at its first start.", "数据库为空，首次启动时建立。"),
            Both(
                "If it has been filled before: do not start; restore a backup (kx backup restore).",
                "如此前已有数据，请勿启动，先从备份恢复（kx backup restore）。",
            ),
        )
    else:
        yield _migrated(str(stands_at), migrations)


@contextmanager
def reading(url_text: str) -> Iterator[sa.Connection]:
    """A connection for one look into a database, by which nothing is changed.

    Raises `sqlalchemy.exc.DBAPIError`, `sqlite3.Error`.
    """
    url = sa.make_url(url_text)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        engine = sa.create_engine("sqlite://", creator=lambda: backups.read_only(file), poolclass=sa.NullPool)
    else:
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def end_of(url_text: str, bureau: str) -> tuple[int, int] | None:
    """Generation and seq of the end of a bureau's journal; None where there is none, or it cannot be read."""
    from node.ledger import schema

    table = schema.BUREAUS
    query = sa.select(table.c.generation, table.c.seq).where(table.c.bureau == bureau)
    try:
        with reading(url_text) as connection:
            found = connection.execute(query).one_or_none()
    except (sa.exc.DBAPIError, sqlite3.Error):
        return None
    return None if found is None else (int(found[0]), int(found[1]))


def tree_in_force(given: BureauTree, url_text: str, service: str) -> BureauTree:
    """The tree that a service goes by: what headquarters has published, where that is newer than the file's."""
    kept = _tree_kept(url_text, service)
    return kept if kept is not None and newer(kept, given) else given


def _tree_kept(url_text: str, service: str) -> BureauTree | None:
    """The last tree that a service has taken from headquarters; None where it has taken none, or cannot be read."""
    if service == "node":
        from node.ledger.schema import DIRECTIVES

        of_trees = DIRECTIVES.c.kind == int(DirectiveKind.TREE)
        query = sa.select(DIRECTIVES.c.directive).where(of_trees).order_by(DIRECTIVES.c.published_at_us.desc())
    else:
        from hub.store import PUBLISHED_TREES

        query = sa.select(PUBLISHED_TREES.c.directive)
    try:
        with reading(url_text) as connection:
            found = connection.execute(query.limit(1)).scalar()
    except (sa.exc.DBAPIError, sqlite3.Error):
        return None
    return None if found is None else tree_of(Directive.FromString(bytes(found)).tree)


def ledger_keys(url_text: str, key_file: Path) -> Finding:
    """The keys that a node's private data need are in its key file, which is its owner's alone."""
    from node.ledger import schema

    look = "data key"
    remedy = Both(
        "Put the key file in place from where its copy is kept, mode 0600. Without it what is private is lost.",
        "请从密钥保管处取回密钥文件，权限 0600。缺少密钥则隐私内容无法恢复。",
    )
    query = sa.select(schema.DATA_KEYS.c.key_id)
    try:
        with reading(url_text) as connection:
            needed = {bytes.fromhex(one) for one in connection.execute(query).scalars()} - {PLAIN}
        keys = {one.key_id for one in KeyFile(key_file).read()}
    except VaultError as failure:
        return fail(look, Both(str(failure), f"密钥文件无法使用（{failure}）。"), remedy)
    except sa.exc.DBAPIError:
        return ok(look, "Nothing is sealed yet.", "尚无加密数据。")
    missing = ", ".join(sorted(one.hex() for one in needed - keys))
    if missing:
        said = Both(f"{key_file} does not have the key {missing}.", f"{key_file} 中没有密钥 {missing}。")
        return fail(look, said, remedy)
    return ok(look, f"{key_file} has all {len(needed)} key(s).", f"密钥齐备，共 {len(needed)} 个。")


def archive(url_text: str) -> Iterator[Finding]:
    """The archive of a ledger that has closed years in one: there, whole, and this ledger's."""
    from node.ledger import schema

    url, archives, journal = sa.make_url(url_text), schema.ARCHIVES.c, schema.A_JOURNAL.c
    last = sa.select(archives.bureau, sa.func.max(archives.last_seq).label("seq")).group_by(archives.bureau).subquery()
    of_last = (last.c.bureau == archives.bureau) & (last.c.seq == archives.last_seq)
    counted_on = sa.select(archives.bureau, archives.last_seq, archives.hash).join(last, of_last)
    try:
        with reading(url_text) as connection:
            # A ledger that cannot be read at all has been told of; one of an older version has no archive.
            known = sa.inspect(connection).has_table(schema.ARCHIVES.name)
            ends = connection.execute(counted_on).all() if known else ()
            if not ends:
                return
            place = schema.ARCHIVE
            if url.get_backend_name() == "sqlite":
                place = f"{url.database}.archive"
                if not Path(place).exists():
                    yield _archive_at_fault(Both(f"{place} is not there.", f"归档文件 {place} 不存在。"))
                    return
                with closing(backups.read_only(Path(place))) as alone:
                    said = [str(row[0]) for row in alone.execute("PRAGMA quick_check(3)")]
                if said != ["ok"]:
                    damage = "; ".join(said)
                    yield _archive_at_fault(Both(f"{place} is damaged: {damage}.", f"归档文件 {place} 已损坏。"))
                    return
                raw = connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - the driver of this dialect
                backups.attach_read_only(raw, Path(place), schema.ARCHIVE)
            for bureau, seq, hash_ in ends:
                query = sa.select(journal.hash).where(journal.bureau == bureau, journal.seq == seq)
                found = connection.execute(query).scalar()
                if found is None or bytes(found) != bytes(hash_):
                    yield _archive_at_fault(
                        Both(
                            f"{place} is not this ledger's: entry {seq} of bureau {bureau} is another, or missing.",
                            f"归档 {place} 与台账不符：单位 {bureau} 第 {seq} 条不一致或缺失。",
                        )
                    )
                    return
    except (sa.exc.DBAPIError, sqlite3.Error) as failure:
        why = str(getattr(failure, "orig", failure)).strip().partition("\n")[0].rstrip(".")
        yield _archive_at_fault(Both(f"It cannot be read: {why}.", f"归档无法读取（{why}）。"))
        return
    yield ok("archive", f"{place} is whole, and this ledger's.", f"归档 {place} 完好，与台账一致。")


def _archive_at_fault(said: Both) -> Finding:
    remedy = Both(
        "Put back the one that was last copied with the ledger (kx backup restore): without it no node starts.",
        "请恢复与台账一同备份的归档（kx backup restore）；缺少归档时节点不能启动。",
    )
    return fail("archive", said, remedy)


def backup_age(folder: Path | None, service: str, code: str, now: datetime | None = None) -> Finding:
    """When the newest whole backup was made."""
    look = "backup"
    remedy = Both(
        f"Run kx backup {service}, and see that its timer runs (deploy/systemd/kx-backup@.timer).",
        f"请执行 kx backup {service}，并确认定时器运行（deploy/systemd/kx-backup@.timer）。",
    )
    if folder is None:
        return warn(
            look,
            Both("The settings do not say where backups are.", "设置未指明备份目录。"),
            Both("Set `backups`, and run kx backup every night.", "请设置 backups，并每晚执行 kx backup。"),
        )
    found = backups.newest(folder, service, code)
    if found is None:
        return fail(look, Both(f"There is none in {folder}.", f"{folder} 中没有备份。"), remedy)
    age = (now or datetime.now(UTC)) - found
    said = Both(f"The newest is of {found:%Y-%m-%d %H:%M} UTC.", f"最近一次备份：{found:%Y-%m-%d %H:%M} UTC。")
    if age > timedelta(days=BACKUP_DAYS_LOST_MAX):
        return fail(look, said, remedy)
    return warn(look, said, remedy) if age > timedelta(hours=BACKUP_HOURS_MAX) else ok(look, *said)


def secrets_closed(file: Path | None) -> Iterator[Finding]:
    """A settings file with a password in it is its owner's alone to read."""
    if file is None or not file.exists():
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077 and "@" in file.read_text("utf-8", errors="replace"):
        yield warn(
            "settings mode",
            Both(
                f"{file} may hold a password and is open to others (mode {mode:04o}).",
                f"{file} 可能含密码，且他人可读（权限 {mode:04o}）。",
            ),
            Both(f"Close it: chmod 600 {file}", f"请收紧权限：chmod 600 {file}"),
        )
