"""`kx node`: run the service of one or several bureaus, and what is done to the ledger of one that is stopped."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kuaixiang.domain.labels import Both
from kx.output import Bar, Failed, failures_shown, note, print_json

if TYPE_CHECKING:
    from node.ledger.ledger import Ledger

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


@contextmanager
def _stopped(config: Path | None) -> "Iterator[Ledger]":
    """The ledger of a node that does not run. Raises `Failed`."""
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.settings import WrongSetting, read_settings
    from kuaixiang.runtime.vault import VaultError
    from node.ledger.ledger import Ledger
    from node.settings import NodeSettings

    try:
        settings = read_settings(NodeSettings, config)
        ledger = Ledger(settings.database, settings.bureaus, settings.data_key)
    except (WrongSetting, DatabaseError, VaultError) as refusal:
        raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
    try:
        yield ledger
    finally:
        ledger.close()


def _not_run(refusal: Exception) -> Both:
    return Both(str(refusal), f"节点不能运行：{refusal}")
