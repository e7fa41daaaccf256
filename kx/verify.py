"""`kx verify`: prove an exported ledger, offline; the first bad entry is named, with what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from kuaixiang.domain.labels import Both
from kx.output import Bar, note, print_json

if TYPE_CHECKING:
    from kuaixiang.runtime.audit import Proven

TAMPERED_EXIT_CODE: Final = 1
"""The ledger is not what its bureau has recorded and signed."""
UNREADABLE_EXIT_CODE: Final = 2
"""The file, or the authority's, is none that can be read."""


def verify(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="A file that kx node export has written.")],
    authority: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The certificate of the authority that you trust (ca.crt); a ca.crl beside it is held to.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Prove an exported ledger complete and untampered, or name its first bad entry; needs no network.

    Exit status: 0 whole, 1 tampered with or incomplete, 2 unreadable.
    """
    from kuaixiang.runtime.audit import Tampered, verify_export
    from kuaixiang.runtime.pki import PkiError
    from kuaixiang.runtime.revocation import load_revocations
    from kuaixiang.wire.export import ExportUnreadable

    try:
        with Bar("Verifying", None) as bar, export.open("rb") as file:
            pem, revoked = authority.read_bytes(), load_revocations(authority).serials
            proven = verify_export(file, pem, bar.reached, revoked=revoked)
    except Tampered as found:
        _bad("tampered", found.seq, Both(found.english, found.chinese), as_json=as_json)
        raise typer.Exit(TAMPERED_EXIT_CODE) from None
    except ExportUnreadable as found:
        _bad("unreadable", found.record, Both(found.english, found.chinese), as_json=as_json)
        raise typer.Exit(UNREADABLE_EXIT_CODE) from None
    except PkiError as found:
        _bad("unreadable", None, Both(str(found), f"颁发机构文件无法使用（{found}）"), as_json=as_json)
        raise typer.Exit(UNREADABLE_EXIT_CODE) from None
    except OSError as error:
        why = Both(
            f"{error.filename} cannot be read: {error.strerror}", f"{error.filename} 无法读取（{error.strerror}）"
        )
        _bad("unreadable", None, why, as_json=as_json)
        raise typer.Exit(UNREADABLE_EXIT_CODE) from None
    if as_json:
        print_json({"verdict": "whole", **_facts(proven)})
        return
    console = Console(highlight=False)
    console.print(
        f"Whole 完整: {proven.entries} entries of bureau {proven.bureau}, generation {proven.generation}, exported "
        f"{proven.exported_at:%Y-%m-%d %H:%M:%S} UTC, up to {proven.hash.hex()}.",
        soft_wrap=True,
    )
    console.print(
        f"Private parts 隐私内容: {proven.private_checked} checked, {proven.private_unchecked} not in the file, "
        f"{proven.private_erased} erased by the rule of retention, {proven.private_lost} lost and said so. "
        f"Receipts 回执: {proven.receipts} checked. "
        f"Orders, rulings and reports of bureaus further away 他单位自签原文: "
        f"{proven.attested} by their own signatures, {proven.unattested} by their neighbours' word alone.",
        soft_wrap=True,
    )
    for witness, seq in proven.cosigned:
        console.print(f"Cosigned 见证: by bureau {witness}, up to entry {seq}.")


def _facts(proven: "Proven") -> dict[str, object]:
    return {
        "bureau": proven.bureau,
        "generation": proven.generation,
        "entries": proven.entries,
        "hash": proven.hash.hex(),
        "exported_at": proven.exported_at.isoformat(),
        "private_checked": proven.private_checked,
        "private_unchecked": proven.private_unchecked,
        "private_erased": proven.private_erased,
        "private_lost": proven.private_lost,
        "receipts": proven.receipts,
        "attested": proven.attested,
        "unattested": proven.unattested,
        "cosigned": dict(proven.cosigned),
    }


def _bad(verdict: str, seq: int | None, why: Both, *, as_json: bool) -> None:
    if as_json:
        print_json({"verdict": verdict, "entry": seq, "why": why.english, "why_chinese": why.chinese})
        return
    where = "" if seq is None else "the header: " if seq == 0 else f"entry {seq}: "
    there = "" if seq is None else "文件头：" if seq == 0 else f"第 {seq} 条"
    word = {"tampered": "Tampered with 被改动", "unreadable": "Unreadable 无法读取"}[verdict]
    note(f"{word}: {where}{why.english}. {there}{why.chinese}。")
