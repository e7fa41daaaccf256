"""`kx node`: run the service of one or several bureaus, and what is done to the ledger of one that is stopped."""

import asyncio
import gc
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kuaixiang.domain.labels import Both
from kuaixiang.runtime.files import replacing
from kx.output import Bar, Failed, failures_shown, note, print_json

if TYPE_CHECKING:
    from node.ledger.ledger import Ledger
    from node.restoration import Restored
    from node.settings import NodeSettings

app = typer.Typer(
    name="node", help="The service that keeps the ledgers of one or several bureaus.", no_args_is_help=True
)

Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The node's settings, a TOML file; the environment (KX_NODE_...) wins over it."),
]


@app.command()
def serve(config: Config = None) -> None:
    """Run the node until it is told to stop (SIGTERM, Ctrl-C); a wrong setting is named at the start."""
    from kuaixiang.runtime.clock import ClockError
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.exposition import PortUnavailable
    from kuaixiang.runtime.logs import UnknownLogLevel
    from kuaixiang.runtime.pki import PkiError
    from kuaixiang.runtime.serving import CannotListen
    from kuaixiang.runtime.settings import WrongSetting, read_settings
    from kuaixiang.runtime.vault import VaultError
    from node import service
    from node.callbacks.notifier import NotifierUnusable
    from node.settings import NodeSettings

    def ready(node: service.Running) -> None:
        note(f"The node serves on port {node.port}, its metrics on port {node.metrics_port}.")

    with failures_shown(as_json=False):
        try:
            service.serve(read_settings(NodeSettings, config), ready)
        except (
            WrongSetting,
            DatabaseError,
            PkiError,
            CannotListen,
            PortUnavailable,
            VaultError,
            ClockError,
            UnknownLogLevel,
            NotifierUnusable,
        ) as refusal:
            raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def rebuild(config: Config = None, as_json: AsJson = False) -> None:
    """Empty a stopped node's projections and fold them from its journal again; nothing in the journal changes."""
    with failures_shown(as_json=as_json):
        begun = time.monotonic()
        with _stopped(config) as ledger, Console(stderr=True).status("The journal is read and folded again…"):
            entries = ledger.rebuild()
        seconds = time.monotonic() - begun
        if as_json:
            print_json({"bureaus": list(ledger.bureaus), "entries": entries, "seconds": round(seconds, 3)})
        else:
            Console(highlight=False).print(
                f"{entries} entries of {len(ledger.bureaus)} bureau(s) folded again in {seconds:.1f} s."
            )


@app.command()
def rotate_key(config: Config = None, as_json: AsJson = False) -> None:
    """Seal a stopped node's private data under a new key and forget the old one; after an interruption, call it again.

    Backups made before need the old key: keep a copy of the key file from before with them.
    """
    from kuaixiang.runtime.vault import VaultError
    from node.ledger import sealing

    with failures_shown(as_json=as_json):
        begun = time.monotonic()
        with _stopped(config) as ledger, Bar("Sealing", None) as bar:
            try:
                resealed = sealing.rotate(ledger.database, bar.reached)
            except VaultError as refusal:
                raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
            key = ledger.database.vault.key_id.hex()
        seconds = time.monotonic() - begun
        if resealed.broken:
            raise Failed(
                Both(
                    f"{resealed.values} values are sealed under the key {key}; {resealed.broken} did not open.",
                    f"已用新密钥 {key} 重新加密 {resealed.values} 项；另有 {resealed.broken} 项无法解密，未作改动。",
                ),
                rule="SealBroken",
                remedy=Both(
                    "The old key is kept. Compare the ledger with a backup: somebody has changed these values.",
                    "旧密钥已保留。请与备份核对：这些数据已被改动。",
                ),
            )
        if as_json:
            print_json({"key": key, "values": resealed.values, "seconds": round(seconds, 3)})
        else:
            Console(highlight=False).print(f"{resealed.values} values sealed under the key {key} in {seconds:.1f} s.")


@app.command()
def export(
    bureau: Annotated[str, typer.Option(metavar="CODE", help="The bureau whose ledger is exported.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the export is written; readable by its owner alone.")
    ],
    config: Config = None,
    *,
    private: Annotated[
        bool, typer.Option("--private", help="With what is private, in clear; recorded in the ledger before.")
    ] = False,
    actor: Annotated[str, typer.Option(metavar="WHO", help="Who exports; needed with --private.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a stopped node's ledger to a file that proves itself (kx verify), signed by the node's certificate."""
    from kuaixiang.domain.errors import Refused
    from kuaixiang.runtime.pki import PkiError
    from node import export as exporting

    with failures_shown(as_json=as_json), _settings_and_ledger(config) as (settings, ledger):
        if bureau not in ledger.heads:
            raise Failed(
                Both(f"The node does not keep the ledger of {bureau}.", f"本节点不承载单位 {bureau} 的台账。"),
                field="--bureau",
                rule="NotThisBureau",
            )
        if private and not actor:
            raise Failed(
                Both("An export with private data names who makes it.", "导出隐私内容须写明导出人。"),
                field="--actor",
                rule="FieldMissing",
                remedy=Both("Say who exports by --actor.", "请用 --actor 写明导出人。"),
            )
        try:
            if private:
                exporting.record_export(settings, ledger, bureau, actor)
            with replacing(out) as file, Bar("Exporting", ledger.heads[bureau].seq) as bar:
                said = exporting.export_ledger(
                    ledger.database,
                    ledger.heads[bureau],
                    file,
                    settings.certificate_paths,
                    private=private,
                    told=bar.reached,
                )
        except (PkiError, Refused) as refusal:
            raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
        except OSError as error:
            said_why = Both(f"{out} cannot be written: {error.strerror}.", f"{out} 无法写入（{error.strerror}）。")
            raise Failed(said_why, field="--out", rule="Unwritable") from None
        if as_json:
            print_json({"bureau": bureau, "generation": said.generation, "entries": said.seq, "hash": said.hash.hex()})
        else:
            Console(highlight=False).print(f"{said.seq} entries of {bureau} written to {out}, up to {said.hash.hex()}.")


@app.command()
def erase(
    config: Config = None,
    *,
    due: Annotated[bool, typer.Option("--due", help="What the setting retention_years says is due; needed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase the private data of cases whose term is over, in a stopped node; a running one does so by itself."""
    from node.retention import Retention, erase_due, office_of

    with failures_shown(as_json=as_json), _settings_and_ledger(config) as (settings, ledger):
        if not due or settings.retention_years is None:
            raise Failed(
                Both("Nothing says what is to be erased.", "未指明删除范围。"),
                field="--due" if not due else "retention_years",
                rule="FieldMissing",
                remedy=Both(
                    "Set retention_years in the node's settings and give --due.",
                    "请在节点设置中写明 retention_years，并使用 --due。",
                ),
            )
        retention = Retention(office_of(settings, ledger), settings.retention_years)
        found = list(retention.due())
        if not dry_run:
            erase_due(ledger, retention)
        if as_json:
            print_json(
                {
                    "erased": not dry_run,
                    "cases": [
                        {"bureau": one.bureau, "case_id": one.case_id, "parts": one.parts, "files": one.files}
                        for one in found
                    ],
                }
            )
            return
        console = Console(highlight=False)
        for one in found:
            console.print(f"{one.case_id} of {one.bureau}: {one.parts} private part(s), {one.files} file(s)")
        word = "would be erased 将删除" if dry_run else "erased 已删除"
        console.print(f"Private data of {len(found)} case(s) {word}.")


@app.command()
def archive(
    year: Annotated[int, typer.Option(metavar="YEAR", help="The year that is over; what is before it goes with it.")],
    bureau: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Only of this bureau; repeat for several. All without it.")
    ] = None,
    config: Config = None,
    *,
    keep_room: Annotated[
        bool,
        typer.Option("--keep-room", help="Leave the room that gets free in the database's file, for what is to come."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move what is over of a closed year out of a stopped node's ledgers, into the archive beside them 归档.

    It is read as before: cases, exports, what peers and hubs ask. Broken off, it is called again.
    """
    import sqlalchemy as sa

    from kuaixiang.runtime.clock import ClockError, clock_from
    from kuaixiang.runtime.database import DatabaseError
    from node.archiving import YearNotOver, archive_year

    with failures_shown(as_json=as_json), _settings_and_ledger(config) as (settings, ledger):
        unknown = sorted(set(bureau or ()) - set(ledger.bureaus))
        if unknown:
            raise Failed(
                Both(f"The node does not keep the ledger of {unknown[0]}.", f"本节点不承载单位 {unknown[0]} 的台账。"),
                field="--bureau",
                rule="NotThisBureau",
            )
        begun = time.monotonic()
        try:
            ledger.database.archive.check_room(compacts=not keep_room)
            with Bar("Archiving", None) as bar:
                now = clock_from(settings.clock).now()
                archived = list(archive_year(ledger, year, now, bureau or (), bar.reached))
            if archived and not keep_room:
                with Console(stderr=True).status("The room is given back…"):
                    ledger.database.compact()
        except YearNotOver as refusal:
            raise Failed(
                Both(str(refusal), f"{year} 年不能归档：该年度尚未结束，或早于制度施行年度。"),
                field="--year",
                rule="YearNotOver",
                remedy=Both("Give a year that is over.", "请填写已经结束的年度。"),
            ) from refusal
        except (DatabaseError, ClockError) as refusal:
            raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
        except (sa.exc.DBAPIError, sqlite3.Error, OSError) as failure:
            why = str(getattr(failure, "orig", failure)).strip().partition("\n")[0].rstrip(".")
            raise Failed(
                Both(f"Archiving was broken off: {why}.", f"归档中断（{why}）。"),
                rule="ArchivingBrokenOff",
                remedy=Both("Nothing is lost: see to the disk, and run it again.", "数据未丢失：处理磁盘后重新执行。"),
            ) from failure
        seconds = time.monotonic() - begun
        if as_json:
            years = [
                {"bureau": one.bureau, "last_seq": one.last_seq, "entries": one.entries, "cases": one.cases}
                for one in archived
            ]
            print_json({"year": year, "archived": years, "archive": ledger.database.archive.name})
            return
        entries, cases = sum(one.entries for one in archived), sum(one.cases for one in archived)
        Console(highlight=False).print(
            f"{entries} entries and {cases} cases of {len(archived)} bureau(s) archived 已归档 in {seconds:.1f} s,"
            f" to {ledger.database.archive.name}."
        )


@app.command()
def refill(
    config: Config = None,
    set_aside: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where entries go that the cosigned ledger denies, with what is private in them."
        ),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on where the backup ends if nobody can give back what is missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a stopped node's ledgers after a backup was put back: refill them, and go on in a new generation.

    What the witness has kept is put back and held to the head that it cosigned; neighbours give back what is private of
    cases that were handed over; what nobody has is named. No number of a case is given out twice.
    """
    from kuaixiang.runtime.clock import ClockError
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.pki import PkiError
    from kuaixiang.runtime.settings import WrongSetting, read_settings
    from kuaixiang.runtime.vault import VaultError
    from node.restoration import NotRestored, restore
    from node.settings import NodeSettings

    with failures_shown(as_json=as_json):
        try:
            settings = read_settings(NodeSettings, config)
            restored = asyncio.run(restore(settings, aside=set_aside, accept_loss=accept_loss))
        except NotRestored as refusal:
            said = Both(str(refusal), f"台账未能恢复：{refusal}")
            remedy = Both(refusal.remedy, f"处理办法：{refusal.remedy}")
            raise Failed(said, rule=type(refusal).__name__, remedy=remedy) from refusal
        except (WrongSetting, DatabaseError, VaultError, PkiError, ClockError) as refusal:
            raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
        if as_json:
            print_json({"ledgers": [_restored(one) for one in restored]})
        else:
            _show_restored(restored)


def _restored(one: "Restored") -> dict[str, object]:
    return {
        "bureau": one.bureau,
        "witness": one.witness,
        "generation": one.generation,
        "backup_seq": one.backup_seq,
        "cosigned_seq": one.cosigned.seq,
        "cosigned_hash": one.cosigned.hash.hex(),
        "refilled": one.refilled,
        "missing": one.missing,
        "set_aside": one.set_aside,
        "private": [
            {
                "case_id": part.case_id,
                "entries": part.entries,
                "request_lost": part.snapshot and not part.from_bureau,
                "given_back_by": part.from_bureau,
            }
            for part in one.private
        ],
        "away": list(one.away),
    }


def _show_restored(restored: "list[Restored]") -> None:
    console = Console(highlight=False, soft_wrap=True)
    for one in restored:
        held_to = f"{one.witness} had cosigned entry {one.cosigned.seq}" if one.witness else "nobody witnesses it"
        console.print(
            f"{one.bureau}: generation {one.generation} is open. The backup ended at entry {one.backup_seq}; "
            f"{held_to}. "
            f"{one.refilled} entries put back, {one.missing} lost, {one.set_aside} set aside.",
            markup=False,
        )
        for part in one.private:
            if part.from_bureau:
                what = f"the request came back from {part.from_bureau}; {part.entries - 1} notes are lost"
            elif part.snapshot:
                what = f"the request and {part.entries - 1} notes are lost"
            else:
                what = f"{part.entries} notes are lost"
            console.print(f"  {part.case_id}: {what}.", markup=False)
        if one.away:
            console.print(f"  Not asked for what is private, being away: {', '.join(one.away)}.", markup=False)


@contextmanager
def _stopped(config: Path | None) -> "Iterator[Ledger]":
    """The ledger of a node that does not run. Raises `Failed`."""
    with _settings_and_ledger(config) as (_, ledger):
        yield ledger


@contextmanager
def _settings_and_ledger(config: Path | None) -> "Iterator[tuple[NodeSettings, Ledger]]":
    """The settings and the ledger of a node that does not run. Raises `Failed`."""
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.serving import GARBAGE_THRESHOLDS
    from kuaixiang.runtime.settings import WrongSetting, read_settings
    from kuaixiang.runtime.vault import VaultError
    from node.ledger.ledger import Ledger
    from node.settings import NodeSettings

    # What goes through a whole ledger makes as many values as a service does.
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    try:
        settings = read_settings(NodeSettings, config)
        ledger = Ledger(settings.database, settings.bureaus, settings.data_key)
    except (WrongSetting, DatabaseError, VaultError) as refusal:
        raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
    try:
        yield settings, ledger
    finally:
        ledger.close()


def _not_run(refusal: Exception) -> Both:
    return Both(str(refusal), f"节点不能运行：{refusal}")
