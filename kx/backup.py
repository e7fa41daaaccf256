"""`kx backup`: whole copies of a node's or a hub's databases, proven before they count, and the way back."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import sqlalchemy as sa
import typer
from rich.console import Console

from kuaixiang.domain.labels import Both
from kuaixiang.runtime import backups
from kuaixiang.runtime.backups import BackupFailed, Copy, End, Manifest
from kuaixiang.runtime.database import DatabaseError
from kuaixiang.runtime.settings import WrongSetting, read_settings
from kuaixiang.runtime.vault import VaultError
from kx.options import AsJson, ServiceConfig
from kx.output import Bar, Failed, failures_told, print_json

if TYPE_CHECKING:
    from hub.settings import HubSettings
    from node.settings import NodeSettings

LEDGER: Final = "database"
ARCHIVE: Final = "archive"
ACCOUNTS: Final = "accounts"
"""What a file of a backup is: the service's own database, closed years of its ledgers, or sign-ins and tokens."""

app = typer.Typer(
    name="backup",
    help="Backups of a node or a hub: make one while it runs, check one, put one back.",
    no_args_is_help=True,
)

To = Annotated[
    Path | None,
    typer.Option("--to", metavar="FOLDER", help="Where backups are; the setting `backups` when left out."),
]
Keep = Annotated[
    int | None,
    typer.Option(min=1, help="How many are kept; the setting `backups_kept` when left out."),
]
Folder = Annotated[Path, typer.Argument(metavar="BACKUP", help="The folder of one backup.")]


@dataclass(frozen=True, slots=True)
class _Service:
    """Whose databases are backed up."""

    kind: str
    code: str
    settings: "NodeSettings | HubSettings"

    @property
    def databases(self) -> dict[str, sa.URL]:
        """Each database of the service by what it is; one that two share stands for both."""
        own = _url(self.settings.database)
        found = {LEDGER: own}
        archive = self.archive
        if archive is not None and archive.exists():
            # After the ledger: what was archived in between is in both, and what the ledger counts on in neither alone.
            found[ARCHIVE] = own.set(database=str(archive))
        if self.settings.needs_sign_in:
            accounts = _url(self.settings.accounts_url(self.settings.database))
            if accounts != own:
                found[ACCOUNTS] = accounts
        return found

    @property
    def archive(self) -> Path | None:
        """The file in which closed years of a node's ledgers are, beside an SQLite database."""
        own = _url(self.settings.database)
        kept_here = self.kind == "node" and own.get_backend_name() == "sqlite"
        return Path(f"{own.database}.archive") if kept_here else None


def _url(text: str) -> sa.URL:
    url = sa.make_url(text)
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


@app.command()
@failures_told
def node(config: ServiceConfig = None, *, to: To = None, keep: Keep = None, as_json: AsJson = False) -> None:
    """Back a node up, while it runs: its ledgers, proven entry by entry, with cases' files, and its sign-ins.

    The keys of private data are not in it: keep a copy of the key file elsewhere.
    """
    _made(_back_up(_node(config), to, keep), as_json=as_json)


@app.command()
@failures_told
def hub(config: ServiceConfig = None, *, to: To = None, keep: Keep = None, as_json: AsJson = False) -> None:
    """Back a hub up, while it runs: figures, published editions, what reconciliations found, and its sign-ins."""
    _made(_back_up(_hub(config), to, keep), as_json=as_json)


@app.command()
@failures_told
def check(
    backup: Folder,
    *,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key file, to open what is private with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a backup: its files are as they were made, an SQLite copy is sound, its ledgers' chains are whole.

    Of a dump of PostgreSQL the files are checked and read to their end; its chains were proven when it was made.
    """
    with _told_apart():
        manifest = backups.read_manifest(backup)
        backups.check_files(backup, manifest)
        roles = [one.role for one in manifest.files]
        if roles.count(LEDGER) != 1 or (manifest.service == "node") != bool(manifest.ends):
            raise backups.CopyBroken(str(backup), "its manifest does not say what it is a backup of", "清单不完整")
        ends: dict[str, End] = {}
        for one in manifest.files:
            if one.name.endswith(".dump"):
                backups.check_dump(backup / one.name)
                continue
            backups.check_sqlite(backup / one.name)
            if manifest.service == "node" and one.role == LEDGER:
                found, _ = _proven_copy(backup / one.name, tuple(manifest.ends), key)
                ends = found
        if ends and ends != dict(manifest.ends):
            raise backups.CopyBroken(
                str(backup), "its ledgers do not end where the manifest says", "台账末尾与清单不符"
            )
    _tell("Whole 完整", backup, manifest, as_json=as_json)


@app.command()
@failures_told
def restore(backup: Folder, config: ServiceConfig = None, *, as_json: AsJson = False) -> None:
    """Put a backup in the place of a stopped service's databases; what is there is kept beside them.

    Of a node `kx node refill` comes next: it brings back what others have seen since, and opens a new generation.
    """
    with _told_apart():
        manifest = backups.read_manifest(backup)
        service = _node(config) if manifest.service == "node" else _hub(config)
        if service.code != manifest.code:
            raise BackupFailed(
                Both(
                    f"The backup is of {manifest.code}, and the settings are of {service.code}.",
                    f"备份属于 {manifest.code}，而设置属于 {service.code}。",
                ),
                Both("Name the settings of the service that was backed up.", "请使用被备份服务的设置。"),
            )
        backups.check_files(backup, manifest)
        _require_keys(service, manifest)
        aside = _put_back(service, backup, manifest)
    if as_json:
        print_json({"restored": str(backup), "set_aside": [str(one) for one in aside]})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Restored 已恢复: {backup}, of {manifest.begun_at:%Y-%m-%d %H:%M:%S} UTC.", markup=False)
    for path in aside:
        console.print(f"What was there lies in {path} 原有数据保留于此.", markup=False)
    if manifest.service == "node":
        console.print("Next 下一步: kx node refill", markup=False)


# ---------------------------------------------------------------- making


def _node(config: Path | None) -> _Service:
    from node.settings import NodeSettings

    settings = _read(NodeSettings, config)
    return _Service("node", settings.bureaus[0], settings)


def _hub(config: Path | None) -> _Service:
    from hub.settings import HubSettings

    settings = _read(HubSettings, config)
    return _Service("hub", settings.scope, settings)


def _read(kind: Any, config: Path | None) -> Any:  # noqa: ANN401 - the settings of either service
    try:
        return read_settings(kind, config)
    except WrongSetting as refusal:
        raise Failed(Both(str(refusal), f"设置有误：{refusal}"), rule=type(refusal).__name__) from refusal


def _back_up(service: _Service, to: Path | None, keep: int | None) -> tuple[Path, Manifest]:
    folder = to or service.settings.backups
    if folder is None:
        raise Failed(
            Both("Nothing says where backups are to be.", "未指明备份目录。"),
            field="--to",
            rule="FieldMissing",
            remedy=Both("Give --to, or set `backups`.", "请使用 --to，或设置 backups。"),
        )
    with _told_apart(), backups.draft_in(folder, service.kind, service.code) as (draft, begun_at):
        files: list[Copy] = []
        ends: dict[str, End] = {}
        keys: tuple[str, ...] = ()
        for role, url in service.databases.items():
            if url.get_backend_name() == "sqlite":
                name = f"{role}.db"
                with Bar(f"Copying {role}", None) as bar:
                    backups.copy_sqlite(Path(url.database or ""), draft / name, lambda done, _: bar.reached(done))
            else:
                name = f"{role}.dump"
                with backups.snapshot(url) as (connection, shared):
                    backups.dump_postgresql(url, shared, draft / name)
                    if role == LEDGER and service.kind == "node":
                        ends, keys = _proven(connection, _bureaus(service), _key_file(service))
            files.append(backups.described(draft, role, name))
        ledger = draft / f"{LEDGER}.db"
        if service.kind == "node" and ledger.exists():
            ends, keys = _proven_copy(ledger, _bureaus(service), _key_file(service))
        manifest = Manifest(
            service=service.kind,
            code=service.code,
            begun_at=begun_at,
            version=backups.product_version(),
            files=tuple(files),
            ends=ends,
            keys=keys,
        )
        return backups.keep(draft, manifest, kept=keep or service.settings.backups_kept), manifest


def _bureaus(service: _Service) -> tuple[str, ...]:
    bureaus: tuple[str, ...] = getattr(service.settings, "bureaus", ())
    return bureaus


def _key_file(service: _Service) -> Path:
    from node.ledger.database import default_key_file

    named: Path | None = getattr(service.settings, "data_key", None)
    return named or default_key_file(service.settings.database)


def _proven_copy(copy: Path, bureaus: tuple[str, ...], key: Path | None) -> tuple[dict[str, End], tuple[str, ...]]:
    from node.ledger import schema

    def opened() -> sqlite3.Connection:
        connection = backups.read_only(copy)
        archive = copy.with_name(f"{ARCHIVE}.db")
        if archive.exists():
            backups.attach_read_only(connection, archive, schema.ARCHIVE)
        return connection

    engine = sa.create_engine("sqlite://", creator=opened, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return _proven(connection, bureaus, key)
    except sa.exc.DBAPIError as failure:
        raise backups.CopyBroken(copy.name, str(failure.orig), "无法读取") from failure
    finally:
        engine.dispose()


def _proven(
    connection: sa.Connection, bureaus: tuple[str, ...], key: Path | None
) -> tuple[dict[str, End], tuple[str, ...]]:
    from kuaixiang.runtime.vault import KeyFile
    from node import backup

    vault, keys = backup.vault_of(connection, KeyFile(key)) if key is not None else (None, ())
    with Bar("Proving", None) as bar:
        return dict(backup.prove(connection, bureaus, vault, bar.reached)), keys


# ---------------------------------------------------------------- putting back


def _require_keys(service: _Service, manifest: Manifest) -> None:
    """The keys of what is private in a backup are where the service will look for them. Raises `VaultError`."""
    from kuaixiang.runtime.vault import KeyFile, KeyMissing

    needed = {bytes.fromhex(one) for one in manifest.keys}
    if not needed:
        return
    file = KeyFile(_key_file(service))
    keys = file.read()
    missing = needed - {one.key_id for one in keys}
    if missing:
        raise KeyMissing(file.path, missing, file_exists=bool(keys))


def _put_back(service: _Service, backup: Path, manifest: Manifest) -> list[Path]:
    """Puts the files of a backup in place; where what was there lies now."""
    returns: list[backups.Return] = []
    dumps: list[tuple[sa.URL, Path]] = []
    held = "ledger" if service.kind == "node" else "hub"
    archive, roles = service.archive, {one.role for one in manifest.files}
    for one in manifest.files:
        copy = backup / one.name
        if one.role == ARCHIVE and archive is not None:
            returns.append(backups.Return(archive, held, copy))
            continue
        url = service.databases.get(one.role)
        if url is None:
            continue
        if (url.get_backend_name() == "sqlite") is one.name.endswith(".dump"):
            raise BackupFailed(
                Both(
                    f"{one.name} does not fit the database that the settings name.",
                    f"{one.name} 与设置中的数据库类型不符。",
                ),
                Both("Restore into a database of the same kind.", "请恢复到同类数据库。"),
            )
        if url.get_backend_name() == "sqlite":
            of = ACCOUNTS if one.role == ACCOUNTS else held
            returns.append(backups.Return(Path(url.database or ""), of, copy))
        else:
            dumps.append((url, copy))
    if archive is not None and ARCHIVE not in roles and archive.exists():
        # The ledger that is put back counts on no archive: today's would not be its own.
        returns.append(backups.Return(archive, held, None))
    for url, _ in dumps:
        backups.check_empty(url)
    # Files last: they are the easier to put back once more.
    for url, dump in dumps:
        backups.restore_postgresql(url, dump)
    return backups.put_back_sqlite(returns)


# ---------------------------------------------------------------- telling


@contextmanager
def _told_apart() -> Iterator[None]:
    """What can go wrong, as a command tells it. Raises `Failed`."""
    try:
        yield
    except BackupFailed as failure:
        raise Failed(failure.said, rule=type(failure).__name__, remedy=failure.remedy) from failure
    except (DatabaseError, VaultError) as failure:
        said = Both(str(failure), f"备份操作未完成：{failure}")
        raise Failed(said, rule=type(failure).__name__) from failure
    except (sa.exc.DBAPIError, sqlite3.Error, OSError) as failure:
        why = str(getattr(failure, "orig", failure)).strip().partition("\n")[0].rstrip(".")
        said = Both(f"The database or a disk does not answer: {why}.", f"数据库或磁盘没有响应（{why}）。")
        raise Failed(said, rule="DatabaseUnavailable") from failure


def _made(made: tuple[Path, Manifest], *, as_json: bool) -> None:
    _tell("Backed up 已备份", *made, as_json=as_json)


def _tell(word: str, folder: Path, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        print_json({"backup": str(folder), **manifest.as_dict()})
        return
    console = Console(highlight=False, soft_wrap=True)
    size = sum(one.bytes for one in manifest.files) / 2**20
    console.print(f"{word}: {folder}, {size:.1f} MiB, {len(manifest.files)} file(s).", markup=False)
    for bureau, end in manifest.ends.items():
        console.print(
            f"  {bureau}: {end.seq} entries proven 条已验证, generation {end.generation}, up to {end.hash[:16]}…",
            markup=False,
        )
    if manifest.keys:
        console.print(f"  Keys that it needs 所需密钥: {', '.join(manifest.keys)}", markup=False)
