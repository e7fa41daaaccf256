"""The command `kx`. A sub-command's module is imported when it is asked for, so that each starts quickly."""

import functools
import sys
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

COMMANDS: Final = {
    "demo": ("kx.demo:demo", "Run a whole federation on this machine, for a fortnight of working days."),
    "case": ("kx.case:app", "Work on the cases 诉求和意见 of a bureau: register, handle, refer, read."),
    "supervise": (
        "kx.supervise:app",
        "What superiors ask of the bureaus below them, and what headquarters publishes to all.",
    ),
    "node": ("kx.node:app", "The service that keeps the ledgers of one or several bureaus."),
    "reconcile": ("kx.reconcile:reconcile", "Compare a bureau's ledger with its superior's and subordinates' 对账."),
    "hub": ("kx.hub:app", "Statistics of a bureau and everything under it."),
    "backup": ("kx.backup:app", "Backups of a node or a hub: make one while it runs, check one, put one back."),
    "doctor": (
        "kx.doctor:app",
        "Look at a node's or a hub's settings and surroundings: what is well, what is not, and what to do.",
    ),
    "verify": ("kx.verify:verify", "Prove an exported ledger complete and untampered, or name its first bad entry."),
    "pki": ("kx.pki:app", "The federation's certificate authority: issue, show, check and revoke certificates."),
    "nats": ("kx.nats:nats", "The configuration of NATS sites, written from the tree of bureaus."),
    "calendar": ("kx.calendar:app", "The legal working calendar: days off, make-up working days 调休, deadlines."),
    "tree": ("kx.tree:app", "The tree of bureaus: who is above whom, and the way of a case."),
    "staff": (
        "kx.staff:app",
        "The departments and officers of bureaus: check the list that a node is to take, set passwords.",
    ),
    "sign-in": ("kx.signing:sign_in", "Sign in at a node or a hub, as the officer that you are 登录."),
    "sign-out": ("kx.signing:sign_out", "End your sign-in there 退出登录."),
    "token": ("kx.token:app", "Tokens of channels 渠道: issue, list and revoke what their programs call with."),
    "channel": (
        "kx.channel:app",
        "What a channel's 渠道 own machine does at a bureau's door: hand in files 批量受理.",
    ),
    "hooks": (
        "kx.hooks:app",
        "What could not be told to channels and taxpayers: list it, have it tried again, drop it.",
    ),
    "simulate": ("kx.simulate:simulate", "Live through a filing-deadline day with provinces of the real tree, or all."),
    "replay": ("kx.replay:replay", "Play a real event log through a federation, and compare the figures."),
}
"""Name, where it is (a typer application, or the function of a single command), and what it is for."""


class Lazy(TyperGroup):
    """A group whose commands are imported by name; its help imports none of them."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's context, its own class in each version
        """The names, as `kx --help` shows them."""
        return list(COMMANDS)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """The help, from the table alone."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer's command, likewise
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        place, purpose = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=purpose) if self._listing else _load(cmd_name, place)


@functools.cache
def _load(name: str, place: str) -> Any:  # noqa: ANN401 - typer's command
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer()
        single.command(name)(found)
        found = single
    found._add_completion = False  # noqa: SLF001 - `kx` itself installs completion, for all of them
    command = get_command(found)
    command.name = name
    return command


app = typer.Typer(
    name="kx",
    cls=Lazy,
    help="Kuaixiang 快响: the quick-response mechanism for small and micro enterprises' tax requests and opinions.",
    no_args_is_help=True,
    # A fault's locals may hold a taxpayer's name.
    pretty_exceptions_show_locals=False,
)


@app.callback()
def kx() -> None:
    """Kuaixiang 快响: the quick-response mechanism for small and micro enterprises' tax requests and opinions."""
    import structlog

    # What a command answers is for programs too; a service configures its logs again.
    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
