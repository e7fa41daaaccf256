"""`kx node`: run the service of one or several bureaus, and rebuild what is folded from its journal."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kuaixiang.domain.labels import Both
from kx.output import Failed, failures_shown, note, print_json

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
            ClockError,
            UnknownLogLevel,
        ) as refusal:
            raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal


@app.command()
def rebuild(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Empty a stopped node's projections and fold them from its journal again; nothing in the journal changes."""
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.settings import WrongSetting, read_settings
    from node.ledger.ledger import Ledger
    from node.settings import NodeSettings

    console = Console(stderr=True)
    with failures_shown(as_json=as_json):
        begun = time.monotonic()
        try:
            settings = read_settings(NodeSettings, config)
            ledger = Ledger(settings.database, settings.bureaus)
        except (WrongSetting, DatabaseError) as refusal:
            raise Failed(_not_run(refusal), rule=type(refusal).__name__) from refusal
        try:
            with console.status("The journal is read and folded again…"):
                entries = ledger.rebuild()
        finally:
            ledger.close()
        seconds = time.monotonic() - begun
        if as_json:
            print_json({"bureaus": list(settings.bureaus), "entries": entries, "seconds": round(seconds, 3)})
        else:
            Console(highlight=False).print(
                f"{entries} entries of {len(settings.bureaus)} bureau(s) folded again in {seconds:.1f} s."
            )


def _not_run(refusal: Exception) -> Both:
    return Both(str(refusal), f"节点不能运行：{refusal}")
