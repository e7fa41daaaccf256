"""`kx pki`: the federation's certificate authority, and a certificate for each process."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rich.console import Console
from rich.table import Table

from kuaixiang.runtime import pki, revocation
from kx.output import REFUSED_EXIT_CODE, print_json

EXPIRES_WITHIN_DAYS: Final = 30
"""A month to renew what expires."""
WHOM = "Say for whom the certificate is: one of --bureau, --office, --hub, --nats and --reader, and only one of them."

app = typer.Typer(
    name="pki",
    help="The federation's certificate authority: issue, show, check and revoke certificates.",
    no_args_is_help=True,
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
    nats: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="The NATS site: a province, or 000000 for the national one."),
    ] = None,
    reader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE", help="The scope of a hub whose totals another system follows on NATS, and nothing else."
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="By which name or address other sites dial this NATS site; repeat it."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days that the certificate is valid.")] = pki.CERTIFICATE_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a certificate that is there, with a new key.")
    ] = False,
) -> None:
    """Issue a certificate for one process: a node, an officers' terminal, a hub, a NATS site's server, a reader."""
    asked: dict[pki.Kind, list[str]] = {
        "node": bureau or [],
        "office": office or [],
        "hub": hub or [],
        "nats": nats or [],
        "reader": reader or [],
    }
    named = [(kind, codes) for kind, codes in asked.items() if codes]
    if len(named) != 1:
        raise _refused(WHOM)
    kind, codes = named[0]
    try:
        paths = pki.issue(authority, out, kind, codes, days, hosts=host or [], force=force)
    except pki.PkiError as refusal:
        raise _refused(refusal) from None
    table = Table(show_header=False, box=None)
    table.add_row("for", "\n".join(pki.spiffe_uri(kind, code) for code in dict.fromkeys(codes)))
    table.add_row("certificate", str(paths.certificate))
    table.add_row("key (keep it secret)", str(paths.key))
    table.add_row("authority", str(paths.ca))
    table.add_row("valid until", _valid_until(paths.certificate))
    Console().print(table)


@app.command()
def revoke(
    authority: Annotated[Path, typer.Argument(help="The authority's folder, made by `kx pki init`.")],
    serials: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERIAL]...", help="Serial numbers as `kx pki show` tells them; none: a fresh list."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days until the list should be renewed.")] = revocation.LIST_DAYS,
) -> None:
    """Revoke certificates: write the authority's list, ca.crl, anew; it is copied beside every ca.crt, no restart."""
    try:
        path = revocation.revoke(authority, [revocation.serial_of(one) for one in serials or []], days)
        listed = revocation.load_revocations(authority / pki.AUTHORITY_CERTIFICATE)
    except pki.PkiError as refusal:
        raise _refused(refusal) from None
    table = Table(show_header=False, box=None)
    table.add_row("list", str(path))
    table.add_row("revoked", str(len(listed.serials)))
    table.add_row("to be renewed before", f"{listed.fresh_until:%Y-%m-%d %H:%M} UTC")
    Console().print(table)
    typer.echo("Copy it into every certificates' folder, beside ca.crt; nodes and hubs take it up as they run.")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A certificates' folder, as `kx pki issue` writes it.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Show a certificate: for whom it is, serial, fingerprint for the tree, until when it is valid, whether revoked."""
    told, _ = _looked_at(folder)
    _tell(told, as_json=as_json)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A certificates' folder, as `kx pki issue` writes it.")],
    *,
    within: Annotated[
        int, typer.Option(metavar="DAYS", min=0, help="What expires within so many days is a fault.")
    ] = EXPIRES_WITHIN_DAYS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Check a certificate: issued by the authority, neither expired nor about to, not revoked, the list fresh."""
    told, dates = _looked_at(folder)
    soon = datetime.now(UTC) + timedelta(days=within)
    faults = [f"{what} expires on {at:%Y-%m-%d}" for what, at in dates if at <= soon]
    if told["revoked"]:
        faults.append("the certificate is revoked")
    told["faults"] = faults
    _tell(told, as_json=as_json)
    if faults:
        raise typer.Exit(REFUSED_EXIT_CODE)


def _looked_at(folder: Path) -> tuple[dict[str, Any], list[tuple[str, datetime]]]:
    """What there is to tell of a certificates' folder, and what in it expires when."""
    paths = pki.CertificatePaths.in_folder(folder)
    try:
        certificate = pki.load(paths).certificate
        authority = pki.issuer_of(certificate, paths.ca)
        listed = revocation.load_revocations(paths.ca)
    except pki.PkiError as refusal:
        raise _refused(refusal) from None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    told = {
        "for": names.get_values_for_type(x509.UniformResourceIdentifier),
        "serial": revocation.serial_text(certificate.serial_number),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "valid_from": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
        "valid_until": f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        "authority_valid_until": f"{authority.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
        "revoked": certificate.serial_number in listed.serials,
        "list_fresh_until": f"{listed.fresh_until:%Y-%m-%d %H:%M} UTC" if listed.fresh_until else "",
    }
    dates = [("the certificate", certificate.not_valid_after_utc), ("the authority", authority.not_valid_after_utc)]
    if listed.fresh_until:
        dates.append(("the list of revoked certificates", listed.fresh_until))
    return told, dates


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    table = Table(show_header=False, box=None)
    for name, value in told.items():
        text = "\n".join(value) if isinstance(value, list) else {True: "yes", False: "no"}.get(value, str(value))
        table.add_row(name.replace("_", " "), text or "–")
    Console(soft_wrap=True).print(table)


def _valid_until(certificate: Path) -> str:
    return f"{x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _refused(why: pki.PkiError | str) -> typer.Exit:
    Console(stderr=True).print(str(why), style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(REFUSED_EXIT_CODE)
