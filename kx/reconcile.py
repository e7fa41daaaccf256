"""`kx reconcile`: compare a bureau's ledger with its superior's and its subordinates' 对账, and see what stands."""

from datetime import date
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuaixiang.domain.labels import Both, field_term
from kuaixiang.domain.words import DifferenceKind
from kx.options import Asking, asking_options, takes
from kx.output import (
    DIFFERENT_EXIT_CODE,
    UNREACHABLE_EXIT_CODE,
    both,
    day_of,
    failures_shown,
    local,
    print_json,
    table_of,
    wide,
)

RECONCILE_SECONDS_MAX: Final = 600.0
"""A province with all its counties; each pair takes two looks at both ledgers."""
AGAIN: Final = Both("The same command again is harmless.", "重复执行本命令不会造成影响。")


@takes(asking=asking_options)
def reconcile(
    *,
    peer: Annotated[
        str, typer.Option(metavar="CODE", help="Only with this superior or subordinate; with all when left out.")
    ] = "",
    from_day: Annotated[
        date | None,
        typer.Option("--from", metavar="DAY", parser=day_of, help="First day of the hand-overs compared, in Shanghai."),
    ] = None,
    to_day: Annotated[
        date | None, typer.Option("--to", metavar="DAY", parser=day_of, help="Last day, included; today when left out.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Compare nothing: list the mismatches that stand and the last comparisons.")
    ] = False,
    asking: Asking,
) -> None:
    """Compare the ledger with its superior's and subordinates' 对账, hand-over by hand-over; both record the result.

    Ends with 1 when something differs, with 3 when a ledger could not be compared.
    """
    from kuaixiang.wire.v1 import reconciliation_pb2 as pb
    from kx.client import ask

    with failures_shown(as_json=asking.as_json):
        if show:
            listed = ask(
                asking, "ReconciliationService", "ListMismatches", pb.ListMismatchesRequest(bureau=asking.bureau)
            )
            if asking.as_json:
                print_json(table_of(listed))
            else:
                _show_standing(asking, listed)
            return
        request = pb.ReconcileLedgersRequest(
            bureau=asking.bureau,
            peer=peer,
            from_day=from_day.isoformat() if from_day is not None else "",
            to_day=to_day.isoformat() if to_day is not None else "",
        )
        answer = ask(
            asking, "ReconciliationService", "ReconcileLedgers", request, AGAIN, call_seconds_max=RECONCILE_SECONDS_MAX
        )
        if asking.as_json:
            print_json(table_of(answer))
        else:
            _show_reports(asking, answer)
    differ = any(report.missing_here or report.missing_there or report.different for report in answer.reports)
    away = any(report.away for report in answer.reports)
    if differ or away:
        raise typer.Exit(DIFFERENT_EXIT_CODE if differ else UNREACHABLE_EXIT_CODE)


def _show_reports(asking: Asking, answer: Any) -> None:  # noqa: ANN401 - the answer's message
    console = wide(Console(highlight=False))
    table = Table(title="Differences 对账不符")
    for heading in ("case", "with", "difference", "what", "here 本台账", "there 对方台账"):
        table.add_column(heading, overflow="fold")
    for report in answer.reports:
        for found in report.differences:
            kind = both(DifferenceKind(found.difference))
            told = found.fields or [None]
            for number, field in enumerate(told):
                first = (found.case_id, asking.bureau_name(report.peer), kind) if number == 0 else ("", "", "")
                what = (f"{field.field} {field_term(field.field)}", field.here, field.there) if field else ("", "", "")
                table.add_row(*first, *(escape(text) for text in what))
    if table.row_count:
        console.print(table)
    for report in answer.reports:
        console.print(_summary(asking, report), soft_wrap=True, markup=False)
    if not answer.reports:
        console.print(f"Bureau {asking.bureau} has neither superior nor subordinates.", markup=False)


def _summary(asking: Asking, report: Any) -> str:  # noqa: ANN401 - one report's message
    peer = asking.bureau_name(report.peer)
    if report.away and not report.bytes_exchanged:
        return f"{peer}: not compared, {report.away}."
    differing = report.missing_here + report.missing_there + report.different
    counts = f"{report.matched} hand-overs agree, {report.pending} pending, {differing} differ"
    if differing > len(report.differences):
        counts += f" (the first {len(report.differences)} are shown)"
    line = f"{peer}: {counts}; {report.from_day} to {report.to_day}, {report.bytes_exchanged} bytes exchanged."
    return f"{line} Not compared from its side: {report.away}." if report.away else line


def _show_standing(asking: Asking, listed: Any) -> None:  # noqa: ANN401 - the answer's message
    from kuaixiang.wire.codec import instant

    console = wide(Console(highlight=False))
    if listed.mismatches:
        table = Table(title="Mismatches that stand 未消除的对账不符")
        for heading in ("case", "with", "difference", "since", ""):
            table.add_column(heading, overflow="fold")
        for found in listed.mismatches:
            table.add_row(
                found.case_id,
                asking.bureau_name(found.peer),
                both(DifferenceKind(found.difference)),
                local(instant(found.since)),
                "not in this ledger" if found.absent else "",
            )
        console.print(table)
    console.print(f"{listed.standing} mismatch(es) of {asking.bureau_name(asking.bureau)}.", markup=False)
    for last in listed.last:
        differing = last.missing_here + last.missing_there + last.different
        console.print(
            f"{asking.bureau_name(last.peer)}: last compared {local(instant(last.at))}, {last.from_day} to "
            f"{last.to_day}: {last.matched} agreed, {last.pending} pending, {differing} differed.",
            soft_wrap=True,
            markup=False,
        )
