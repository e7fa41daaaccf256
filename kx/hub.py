"""`kx hub`: run the hub of a scope, read and publish its figures, compare it with the ledgers, fold it again."""

import asyncio
import gc
from dataclasses import asdict
from datetime import UTC
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hub.bulletin.document import Format
from hub.definitions import explanations
from hub.words import Grouping
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both, listed, name
from kuaixiang.domain.words import Category, Channel, DepartmentKind
from kuaixiang.runtime.pki import PkiError
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kx import issues
from kx.asking_hub import AsJson, call
from kx.figures import (
    completeness_as_dict,
    completeness_lines,
    corrections_as_dict,
    edition_as_dict,
    edition_line,
    figures_as_dict,
    instant,
    print_corrections,
    print_figures,
)
from kx.options import Certificates, Endpoint, HubScope
from kx.output import DIFFERENT_EXIT_CODE, Failed, failures_told, print_json, wide

PUBLISH_SECONDS_MAX: Final = 600.0
"""A year of every bureau of the nation is many rows."""
RECONCILE_SECONDS_MAX: Final = 3600.0
PERIOD_FORMS: Final = "2026-10-12, 2026-W40, 2026-10, 2026-Q4 or 2026"

app = typer.Typer(name="hub", help="Statistics of a bureau and everything under it.", no_args_is_help=True)
app.add_typer(issues.app)

Scope = Annotated[str, typer.Option(metavar="CODE", help="The bureau whose subtree is asked for; all by default.")]
PeriodOption = Annotated[
    str, typer.Option("--period", metavar="PERIOD", help=f"Instead of days: {PERIOD_FORMS}.", show_default=False)
]
Period = Annotated[str, typer.Argument(metavar="PERIOD", help=f"{PERIOD_FORMS}.")]
Config = Annotated[Path | None, typer.Option(help="The hub's settings, a TOML file; KX_HUB_… wins over it.")]


@app.command()
@failures_told
def serve(config: Config = None) -> None:
    """Run the hub until it is told to stop."""
    from hub.service import serve as run
    from hub.settings import HubSettings
    from kuaixiang.runtime.bus import BusError
    from kuaixiang.runtime.clock import ClockError
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.exposition import PortUnavailable
    from kuaixiang.runtime.logs import UnknownLogLevel
    from kuaixiang.runtime.serving import CannotListen
    from kuaixiang.runtime.settings import WrongSetting, read_settings

    try:
        run(read_settings(HubSettings, config))
    except (
        WrongSetting,
        DatabaseError,
        PkiError,
        CannotListen,
        PortUnavailable,
        ClockError,
        UnknownLogLevel,
        BusError,
    ) as refusal:
        raise Failed(Both(str(refusal), f"汇总中心不能运行：{refusal}"), rule=type(refusal).__name__) from refusal


@app.command()
@failures_told
def stats(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    period: PeriodOption = "",
    from_day: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First day, in Shanghai.")] = "",
    to_day: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, included.")] = "",
    by: Annotated[
        str,
        typer.Option(
            help="Rows: total, bureau, every-bureau, bureau-and-category, category, channel, department, day, week, "
            "month, quarter or year."
        ),
    ] = "total",
    category: Annotated[str, typer.Option(help=f"Only one of {', '.join(c.name.lower() for c in Category)}.")] = "",
    channel: Annotated[str, typer.Option(help=f"Only one of {', '.join(c.name.lower() for c in Channel)}.")] = "",
    department: Annotated[
        str, typer.Option(help=f"Only one of {', '.join(name(kind) for kind in DepartmentKind)}.")
    ] = "",
    compare: Annotated[
        bool, typer.Option("--compare", help="With the period before (环比) and the same of last year (同比).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Figures of a period: counts, on-time rates, working days taken, and how complete they are."""
    request: dict[str, Any] = {
        "scope": scope,
        "period": period,
        "from_day": from_day,
        "to_day": to_day,
        "grouping": _word("--by", by, Grouping),
        "category": _word("--category", category, Category) if category else 0,
        "channel": _word("--channel", channel, Channel) if channel else 0,
        "department_kind": _word("--department", department, DepartmentKind) if department else 0,
        "compare": compare,
    }

    answer: pb.GetFiguresResponse = call(hub, certificates, hub_scope, "GetFigures", pb.GetFiguresRequest(**request))
    if as_json:
        print_json(figures_as_dict(answer))
        return
    days = f"{from_day or '…'} – {to_day or '…'}" if from_day or to_day else period
    print_figures(wide(Console()), answer, f"{scope or hub_scope} {days}")


@app.command()
@failures_told
def publish(
    period: Period,
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    override_by: Annotated[
        str, typer.Option(metavar="NAME", help="Who has incomplete figures published all the same.")
    ] = "",
    second: Annotated[str, typer.Option(metavar="NAME", help="Another person who agrees to it.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it cannot wait.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep the figures of a period that is over as an edition 发布; later changes show as corrections (§五(三))."""
    request = pb.PublishPeriodRequest(
        scope=scope, period=period, override_by=override_by, override_second=second, override_reason=reason
    )

    with Console(stderr=True).status("The figures of every bureau are read…"):
        answer: pb.PublishPeriodResponse = call(
            hub, certificates, hub_scope, "PublishPeriod", request, seconds=PUBLISH_SECONDS_MAX
        )
    awaited = answer.awaits_second_until.ToDatetime(UTC) if answer.HasField("awaits_second_until") else None
    if as_json:
        told = {"edition": edition_as_dict(answer.edition), "unchanged": answer.unchanged} if awaited is None else {}
        print_json(told | ({"awaits_second_until": awaited.isoformat()} if awaited is not None else {}))
        return
    console = wide(Console())
    if awaited is not None:
        at = f"{awaited.astimezone(SHANGHAI):%Y-%m-%d %H:%M}"
        console.print(
            f"Another officer signs in and confirms it with --override-by {override_by} until {at}. "
            f"须由另一名人员登录，并在 {at} 前以 --override-by {override_by} 确认。",
            markup=False,
        )
        return
    if answer.unchanged:
        console.print("Nothing has changed since; no new edition was made. 数据无变化，未生成新版本。")
    console.print(edition_line(answer.edition), markup=False)
    for line in completeness_lines(answer.edition.completeness):
        console.print(line)


@app.command()
@failures_told
def corrections(
    period: Period,
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    as_json: AsJson = False,
) -> None:
    """What has changed since the last edition of a published period 更正: published, now, difference."""
    request = pb.GetCorrectionsRequest(scope=scope, period=period)
    answer: pb.GetCorrectionsResponse = call(
        hub, certificates, hub_scope, "GetCorrections", request, seconds=PUBLISH_SECONDS_MAX
    )
    if as_json:
        print_json(corrections_as_dict(answer))
        return
    print_corrections(wide(Console()), answer)


@app.command()
@failures_told
def completeness(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    everyone: Annotated[bool, typer.Option("--all", help="Bureaus that are up to date too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Which bureaus have been heard from, and up to where their journals are folded."""
    request = pb.GetCompletenessRequest(scope=scope)
    answer: pb.GetCompletenessResponse = call(hub, certificates, hub_scope, "GetCompleteness", request)
    if as_json:
        told = {
            "completeness": completeness_as_dict(answer.completeness),
            "marks": [
                {
                    "bureau": mark.bureau,
                    "generation": mark.generation,
                    "seq": mark.seq,
                    "announced_seq": mark.announced_seq,
                    "hash": mark.hash.hex(),
                    "parked_entries": mark.parked_entries,
                    "heard_at": instant(mark, "heard_at"),
                    "data_as_of": instant(mark, "data_as_of"),
                    "quarantine": mark.quarantine,
                    "restored": mark.restored,
                }
                for mark in answer.marks
            ],
        }
        print_json(told)
        return
    console = wide(Console())
    table = Table(title="Journals")
    for heading in ("bureau", "seq", "announced", "parked", "heard at", "data as of", "stands against it"):
        table.add_column(heading, justify="right" if heading in {"seq", "announced", "parked"} else "left")
    for mark in answer.marks:
        against = mark.quarantine or mark.restored
        well = mark.seq >= mark.announced_seq and not against and mark.HasField("heard_at")
        if everyone or not well:
            table.add_row(
                mark.bureau,
                str(mark.seq),
                str(mark.announced_seq),
                str(mark.parked_entries),
                instant(mark, "heard_at") or "never",
                instant(mark, "data_as_of") or "-",
                against,
            )
    if table.row_count:
        console.print(table)
    for line in completeness_lines(answer.completeness):
        console.print(line)


@app.command()
@failures_told
def reconcile(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="By the hash at the hub's mark alone, a few hundred bytes a ledger: equal hashes prove that the hub "
            "has folded these journals. The whole comparison reads and folds them again.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the hub with every ledger of its scope; ends with 1 when they differ or one could not be read."""
    console = Console(stderr=True)
    with console.status("Every ledger is asked…" if quick else "Every ledger is read and folded again…"):
        request = pb.ReconcileRequest(scope=scope, quick=quick)
        answer: pb.ReconcileResponse = call(
            hub, certificates, hub_scope, "Reconcile", request, seconds=RECONCILE_SECONDS_MAX
        )
    equal = not answer.mismatches and not answer.unreachable
    if as_json:
        told = {
            "hub_equals_ledgers": equal,
            "ledgers_compared": answer.ledgers_compared,
            "entries_compared": answer.entries_compared,
            "mismatches": [
                {"bureau": found.bureau, "what": found.what, "hub": found.hub, "ledger": found.ledger}
                for found in answer.mismatches
            ],
            "unreachable": list(answer.unreachable),
        }
        print_json(told)
    else:
        _print_reconciliation(Console(), answer)
    if not equal:
        raise typer.Exit(DIFFERENT_EXIT_CODE)


@app.command()
@failures_told
def bulletin(
    period: Annotated[
        str, typer.Argument(metavar="PERIOD", help="Such as 2026-10, 2026-Q4, 2026, 2026-W40 or 2026-10-08.")
    ],
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    form: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(known.name.lower() for known in Format)}.")
    ] = "docx",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; a name of its own here when left out.")
    ] = None,
    minimum_sample: Annotated[
        int,
        typer.Option(
            min=0, max=1_000_000, help="Deadlines below which a bureau is listed, not ranked; 0: the hub's own minimum."
        ),
    ] = 0,
    with_issues: Annotated[
        bool,
        typer.Option(
            "--issues",
            help="Search the period's common issues first, so that it tells them; every ledger is read for it.",
        ),
    ] = False,
) -> None:
    """Write the bulletin (通报) of a period to a file: figures, ranking, common issues, problems found."""
    wanted = _word("--format", form, Format)
    if with_issues:
        issues.search(hub, certificates, hub_scope, scope, period)

    request = pb.GetBulletinRequest(
        scope=scope,
        period=period,
        format=pb.BulletinFormat.ValueType(wanted),
        minimum_sample=minimum_sample,
    )
    answer: pb.GetBulletinResponse = call(hub, certificates, hub_scope, "GetBulletin", request)
    path = out if out is not None else Path(answer.file_name)
    try:
        path.write_bytes(answer.content)
    except OSError as failure:
        said = Both(
            f"The bulletin cannot be written to {path}: {failure.strerror}.",
            f"通报无法写入 {path}：{failure.strerror}。",
        )
        raise Failed(said, field="--out", rule=type(failure).__name__) from failure
    print(path)


@app.command()
@failures_told
def rebuild(
    config: Config = None,
    bureau: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Only this bureau; repeat it for several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Drop a stopped hub's figures and fold them again from the ledgers; ends with 1 when one could not be."""
    from hub.rebuild import Rebuilt
    from hub.rebuild import rebuild as again
    from hub.settings import HubSettings
    from kuaixiang.domain.tree import UnknownBureau
    from kuaixiang.runtime.clock import ClockError
    from kuaixiang.runtime.database import DatabaseError
    from kuaixiang.runtime.serving import GARBAGE_THRESHOLDS
    from kuaixiang.runtime.settings import WrongSetting, read_settings

    gc.set_threshold(*GARBAGE_THRESHOLDS)
    columns = (TextColumn("Folding {task.fields[bureau]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    async def work() -> Rebuilt:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("", bureau="", total=None)

            def told(done: int, of: int, code: str) -> None:
                progress.update(task, completed=done, total=of, bureau=code)

            return await again(read_settings(HubSettings, config), tuple(bureau or ()), told)

    try:
        found = asyncio.run(work())
    except (WrongSetting, DatabaseError, PkiError, ClockError, UnknownBureau) as refusal:
        raise Failed(Both(str(refusal), f"汇总中心不能运行：{refusal}"), rule=type(refusal).__name__) from refusal
    if as_json:
        told = {
            "bureaus": found.bureaus,
            "entries": found.entries,
            "seconds": round(found.seconds, 3),
            "unreachable": found.unreachable,
            "refused": found.refused,
        }
        print_json(told)
    else:
        console = Console()
        console.print(f"{found.bureaus} ledgers, {found.entries} entries folded again in {found.seconds:.1f} s.")
        for code in found.unreachable:
            console.print(f"Bureau {code} cannot be reached; its figures are as they were.")
        for code, reason in found.refused.items():
            console.print(f"Bureau {code} is quarantined: {reason}.")
    if found.unreachable or found.refused:
        raise typer.Exit(DIFFERENT_EXIT_CODE)


@app.command()
@failures_told
def explain(
    figure: Annotated[str, typer.Argument(help="Name of a fact, a count or a rate; all of them when left out.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say how a figure is defined: Chinese label, clause of the notice, formula, a sentence in each language."""
    known = explanations()
    if figure and figure not in known:
        raise Failed(
            Both(f"There is no figure {figure!r}.", f"没有“{figure}”这项指标。"),
            field="FIGURE",
            rule="NoSuchFigure",
            remedy=Both(
                "`kx hub explain` without a name shows all of them.", "不带名称执行 kx hub explain 可列出全部指标。"
            ),
        )
    wanted = [known[figure]] if figure else list(known.values())
    if as_json:
        print_json([asdict(explanation) for explanation in wanted])
        return
    console = wide(Console())
    for of in wanted:
        formula = f" = {of.formula}" if of.formula else ""
        console.print(f"[bold]{of.name}[/bold] {of.label} {of.clause}{formula}", highlight=False)
        console.print(f"  {of.sentence}", markup=False, highlight=False)
        console.print(f"  {of.chinese}", markup=False, highlight=False)


# ---------------------------------------------------------------- inside


def _word(option: str, text: str, words: type[IntEnum]) -> int:
    known = {name(word): int(word) for word in words}
    if text not in known:
        raise Failed(
            Both(f"{option} cannot be {text!r}.", f"{option} 不能是“{text}”。"),
            field=option,
            rule="NoSuchWord",
            remedy=Both(f"Choose one of {', '.join(known)}.", f"可选：{listed(known)}。"),
        )
    return known[text]


def _print_reconciliation(console: Console, answer: pb.ReconcileResponse) -> None:
    if answer.mismatches:
        table = Table(title="Differences")
        for heading in ("bureau", "what", "hub", "ledger"):
            table.add_column(heading)
        for found in answer.mismatches:
            table.add_row(found.bureau, found.what, found.hub, found.ledger)
        console.print(table)
    for code in answer.unreachable:
        console.print(f"The ledger of bureau {code} could not be read.")
    verdict = "The hub equals its ledgers" if not answer.mismatches else f"{len(answer.mismatches)} differences"
    console.print(f"{verdict}: {answer.ledgers_compared} ledgers, {answer.entries_compared} entries compared.")
