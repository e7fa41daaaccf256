"""`kx pki`: the federation's certificate authority, and a certificate for each process."""

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from rich.console import Console
from rich.table import Table

from kuaixiang.runtime import pki
from kx.output import REFUSED_EXIT_CODE

WHOM = "Say for whom the certificate is: one of --bureau, --office and --hub, and only one of them."

app = typer.Typer(
    name="pki", help="Make the federation's certificate authority and issue certificates.", no_args_is_help=True
)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the authority's certificate and key are to live.")],
    name: Annotated[str, typer.Option(help="The authority's name, shown in its certificate.")] = "Kuaixiang federation",
    days: Annotated[int, typer.Option(min=1, help="Days that the authority is valid.")] = pki.AUTHORITY_DAYS,
) -> None:
    """Make the certificate authority of a federation. Keep its key offline; every node needs its certificate only."""
    try:
        paths = pki.init_authority(folder, name, days=days)
    except pki.PkiError as refusal:
        raise _refused(refusal) from None
    table = Table(show_header=False, box=None)
    table.add_row("authority", name)
    table.add_row("certificate", str(paths.certificate))
    table.add_row("key (keep it secret)", str(paths.key))
    table.add_row("valid until", _valid_until(paths.certificate))
    Console().print(table)


@app.command()
def issue(
    authority: Annotated[Path, typer.Argument(help="The authority's folder, made by `kx pki init`.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the certificate, its key and the authority's certificate.")],
    bureau: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="A bureau that the node hosts; repeat it for a node of several bureaus."),
    ] = None,
    office: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="A bureau whose officers' terminals this is for.")
    ] = None,
    hub: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="The scope of a hub: 000000 for the whole nation.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days that the certificate is valid.")] = pki.CERTIFICATE_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a certificate that is there, with a new key.")
    ] = False,
) -> None:
    """Issue a certificate for one process: a node (--bureau), an officers' terminal (--office) or a hub (--hub)."""
    kind: pki.Kind
    match bureau or [], office or [], hub or []:
        case [_, *_] as codes, [], []:
            kind = "node"
        case [], [_, *_] as codes, []:
            kind = "office"
        case [], [], [_, *_] as codes:
            kind = "hub"
        case _:
            raise _refused(WHOM)
    try:
        paths = pki.issue(authority, out, kind, codes, days, force=force)
    except pki.PkiError as refusal:
        raise _refused(refusal) from None
    table = Table(show_header=False, box=None)
    table.add_row("for", "\n".join(pki.spiffe_uri(kind, code) for code in dict.fromkeys(codes)))
    table.add_row("certificate", str(paths.certificate))
    table.add_row("key (keep it secret)", str(paths.key))
    table.add_row("authority", str(paths.ca))
    table.add_row("valid until", _valid_until(paths.certificate))
    Console().print(table)


def _valid_until(certificate: Path) -> str:
    return f"{x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _refused(why: pki.PkiError | str) -> typer.Exit:
    Console(stderr=True).print(str(why), style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(REFUSED_EXIT_CODE)
