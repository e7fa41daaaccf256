"""`kx hub`: run the hub of a scope, read its figures, compare it with the ledgers, fold it again."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hub.measures import RATES
from hub.query import Grouping
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both, listed, term_of
from kuaixiang.domain.tree import short_name
from kuaixiang.domain.words import Category, Channel, ClockKind
from kuaixiang.runtime.pki import PkiError
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kx import issues
from kx.asking_hub import ANSWER_SECONDS_MAX, AsJson, Certificates, Endpoint, HubScope
from kx.asking_hub import call as _call
from kx.output import TABLE_COLUMNS, Failed, failures_told, wide

DIFFERENT_EXIT_CODE: Final = 1
RECONCILE_SECONDS_MAX: Final = 3600.0

_COLUMNS: Final = (
    ("登记", ("registered",)),
    ("转办", ("dispatched",)),
    ("办结", ("completed",)),
    ("反馈", ("fed_back",)),
    ("回访", ("followed_up",)),
    ("延期", ("extended",)),
    ("上报", ("referred_up",)),
    ("下转", ("referred_down",)),
    ("跨区", ("referred_across",)),
    ("退回", ("returned_referral", "dispatch_returned")),
    ("销号", ("written_off",)),
)
"""The table's counts: heading, and the facts that are added up in it."""
_SHOWN_RATES: Final = ("on_time", "feedback_in_time", "follow_up", "satisfaction")


app = typer.Typer(name="hub", help="Statistics of a bureau and everything under it.", no_args_is_help=True)
app.add_typer(issues.app)

Scope = Annotated[str, typer.Option(metavar="CODE", help="The bureau whose subtree is asked for; all by default.")]
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
    from_day: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First day, in Shanghai.")] = "",
    to_day: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, included.")] = "",
    by: Annotated[
        str, typer.Option(help="Rows: total, bureau, category, channel, day, month or every-bureau.")
    ] = "total",
    category: Annotated[str, typer.Option(help=f"Only one of {', '.join(c.name.lower() for c in Category)}.")] = "",
    channel: Annotated[str, typer.Option(help=f"Only one of {', '.join(c.name.lower() for c in Channel)}.")] = "",
    as_json: AsJson = False,
) -> None:
    """Figures of a period: counts, on-time rates, working days taken, and how complete they are."""
    request: dict[str, Any] = {
        "scope": scope,
        "from_day": from_day,
        "to_day": to_day,
        "grouping": _word("--by", by, Grouping),
        "category": _word("--category", category, Category) if category else 0,
        "channel": _word("--channel", channel, Channel) if channel else 0,
    }

    async def ask(stub: Any) -> pb.GetFiguresResponse:  # noqa: ANN401 - the stub's asynchronous side has no name
        answer: pb.GetFiguresResponse = await stub.GetFigures(
            pb.GetFiguresRequest(**request), timeout=ANSWER_SECONDS_MAX
        )
        return answer

    answer = _call(hub, certificates, hub_scope, ask)
    if as_json:
        print(json.dumps(figures_as_dict(answer), ensure_ascii=False))
        return
    print_figures(wide(Console()), answer, f"{scope or hub_scope} {_period(from_day, to_day)}")


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

    async def ask(stub: Any) -> pb.GetCompletenessResponse:  # noqa: ANN401 - as above
        request = pb.GetCompletenessRequest(scope=scope)
        answer: pb.GetCompletenessResponse = await stub.GetCompleteness(request, timeout=ANSWER_SECONDS_MAX)
        return answer

    answer = _call(hub, certificates, hub_scope, ask)
    if as_json:
        told = {
            "completeness": _completeness_as_dict(answer.completeness),
            "marks": [
                {
                    "bureau": mark.bureau,
                    "generation": mark.generation,
                    "seq": mark.seq,
                    "announced_seq": mark.announced_seq,
                    "hash": mark.hash.hex(),
                    "parked_entries": mark.parked_entries,
                    "heard_at": _instant(mark, "heard_at"),
                    "data_as_of": _instant(mark, "data_as_of"),
                    "quarantine": mark.quarantine,
                }
                for mark in answer.marks
            ],
        }
        print(json.dumps(told, ensure_ascii=False))
        return
    console = wide(Console())
    table = Table(title="Journals")
    for heading in ("bureau", "seq", "announced", "parked", "heard at", "data as of", "quarantine"):
        table.add_column(heading, justify="right" if heading in {"seq", "announced", "parked"} else "left")
    for mark in answer.marks:
        well = mark.seq >= mark.announced_seq and not mark.quarantine and mark.HasField("heard_at")
        if everyone or not well:
            table.add_row(
                mark.bureau,
                str(mark.seq),
                str(mark.announced_seq),
                str(mark.parked_entries),
                _instant(mark, "heard_at") or "never",
                _instant(mark, "data_as_of") or "-",
                mark.quarantine,
            )
    if table.row_count:
        console.print(table)
    console.print(_completeness_line(answer.completeness))


@app.command()
@failures_told
def reconcile(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Scope = "",
    as_json: AsJson = False,
) -> None:
    """Compare the hub with every ledger of its scope; ends with 1 when they differ or one could not be read."""

    async def ask(stub: Any) -> pb.ReconcileResponse:  # noqa: ANN401 - as above
        answer: pb.ReconcileResponse = await stub.Reconcile(
            pb.ReconcileRequest(scope=scope), timeout=RECONCILE_SECONDS_MAX
        )
        return answer

    console = Console(stderr=True)
    with console.status("Every ledger is read and folded again…"):
        answer = _call(hub, certificates, hub_scope, ask)
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
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print_reconciliation(Console(), answer)
    if not equal:
        raise typer.Exit(DIFFERENT_EXIT_CODE)


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
    from kuaixiang.runtime.settings import WrongSetting, read_settings

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
        print(json.dumps(told, ensure_ascii=False))
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
def explain(rate: Annotated[str, typer.Argument(help="Name of a rate; all of them when left out.")] = "") -> None:
    """Say how a rate is defined."""
    from hub.measures import measure_name

    wanted = [known for known in RATES if rate in {"", known.name}]
    if not wanted:
        raise Failed(
            Both(f"There is no rate {rate!r}.", f"没有“{rate}”这项指标。"),
            field="RATE",
            rule="NoSuchRate",
            remedy=Both(
                f"The rates are {', '.join(known.name for known in RATES)}.",
                f"可选：{listed(known.name for known in RATES)}。",
            ),
        )
    console = Console()
    for known in wanted:
        above, below = (" + ".join(map(measure_name, part)) for part in (known.numerator, known.denominator))
        console.print(f"[bold]{known.name}[/bold] {known.label} = ({above}) ÷ ({below})")
        console.print(f"  {known.sentence}")


# ---------------------------------------------------------------- for the demo and the replay too


def figures_as_dict(answer: pb.GetFiguresResponse) -> dict[str, Any]:
    """Figures in plain values, as `--json` prints them."""
    return {
        "rows": [
            {
                "key": row.key,
                "label": row.label,
                "facts": dict(sorted(row.facts.items())),
                "open": row.open,
                "overdue": row.overdue,
                "rates": {
                    rate.name: {
                        "numerator": rate.numerator,
                        "denominator": rate.denominator,
                        "value": rate.numerator / rate.denominator if rate.denominator else None,
                    }
                    for rate in row.rates
                },
                "clocks": {
                    ClockKind(clock.kind).name.lower(): {
                        "met": clock.met,
                        "missed": clock.missed,
                        "p50_workdays": clock.p50_workdays,
                        "p90_workdays": clock.p90_workdays,
                        "histogram": list(clock.histogram),
                    }
                    for clock in row.clocks
                },
            }
            for row in answer.rows
        ],
        "completeness": _completeness_as_dict(answer.completeness),
    }


LABEL_COLUMNS: Final = 12
PADDING_COLUMNS: Final = 3
"""Around a cell: two blanks and a line."""


def print_figures(console: Console, answer: pb.GetFiguresResponse, title: str) -> None:
    """Figures as tables: the counts and rates of each row, and the clocks of a single one."""
    labels = {rate.name: rate.label for rate in RATES}
    headings = [heading for heading, _ in _COLUMNS]
    headings += [*(labels[name] for name in _SHOWN_RATES), "办理 P50/P90", "未结", "逾期"]
    figures: list[tuple[str, ...]] = []
    for row in answer.rows:
        rates = {rate.name: rate for rate in row.rates}
        handle = next((clock for clock in row.clocks if int(clock.kind) == ClockKind.HANDLE), None)
        figures.append(
            (
                (f"{short_name(row.label)} {row.key}".strip() if row.key != row.label else row.label) or "合计",
                *(str(sum(row.facts.get(fact, 0) for fact in facts)) for _, facts in _COLUMNS),
                *(_percent(rates[name].numerator, rates[name].denominator) for name in _SHOWN_RATES),
                f"{handle.p50_workdays:.1f}/{handle.p90_workdays:.1f}" if handle is not None else "-",
                str(row.open),
                str(row.overdue),
            )
        )
    for table in _fitting(console, title, headings, figures):
        console.print(table)
    if len(answer.rows) == 1:
        clocks = Table(title="时限")
        for heading in ("", "met", "missed", "on time", "P50 wd", "P90 wd"):
            clocks.add_column(heading, justify="right" if heading else "left")
        for clock in answer.rows[0].clocks:
            clocks.add_row(
                term_of(ClockKind, clock.kind),
                str(clock.met),
                str(clock.missed),
                _percent(clock.met, clock.met + clock.missed),
                f"{clock.p50_workdays:.1f}",
                f"{clock.p90_workdays:.1f}",
            )
        console.print(clocks)
    console.print(_completeness_line(answer.completeness))


def _fitting(console: Console, title: str, headings: list[str], figures: list[tuple[str, ...]]) -> Iterator[Table]:
    """One table with a line for each row; on a narrow terminal the rows stand side by side, as many as fit, in turn."""
    table = Table(title=title)
    table.add_column("", overflow="fold", min_width=LABEL_COLUMNS)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in figures:
        table.add_row(*row)
    if not figures or console.measure(table, options=console.options.update(width=TABLE_COLUMNS)).maximum <= (
        console.width
    ):
        yield table
        return
    at_once = max(1, console.width // (LABEL_COLUMNS + PADDING_COLUMNS) - 1)
    for begin in range(0, len(figures), at_once):
        several = figures[begin : begin + at_once]
        turned = Table(title=title)
        turned.add_column("", no_wrap=True)
        for row in several:
            turned.add_column(row[0], justify="right", overflow="fold")
        for place, heading in enumerate(headings, start=1):
            turned.add_row(heading, *(row[place] for row in several))
        yield turned


# ---------------------------------------------------------------- inside


def _word(option: str, text: str, words: type[Grouping] | type[Category] | type[Channel]) -> int:
    known = {word.name.lower().replace("_", "-"): int(word) for word in words}
    if text not in known:
        raise Failed(
            Both(f"{option} cannot be {text!r}.", f"{option} 不能是“{text}”。"),
            field=option,
            rule="NoSuchWord",
            remedy=Both(f"Choose one of {', '.join(known)}.", f"可选：{listed(known)}。"),
        )
    return known[text]


def _completeness_as_dict(found: pb.Completeness) -> dict[str, Any]:
    return {
        "bureaus_expected": found.bureaus_expected,
        "bureaus_heard": found.bureaus_heard,
        "bureaus_up_to_date": found.bureaus_up_to_date,
        "bureaus_quarantined": found.bureaus_quarantined,
        "data_as_of": _instant(found, "data_as_of"),
    }


def _completeness_line(found: pb.Completeness) -> str:
    line = (
        f"{found.bureaus_expected} bureaus expected, {found.bureaus_heard} heard from, "
        f"{found.bureaus_up_to_date} up to date; data as of {_instant(found, 'data_as_of') or 'never'}."
    )
    if found.bureaus_quarantined:
        line += f" [bold red]{found.bureaus_quarantined} quarantined: see `kx hub completeness`.[/bold red]"
    return line


def _instant(message: pb.Completeness | pb.BureauMark, field: str) -> str | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # one of its timestamps, by name
        return None
    local = getattr(message, field).ToDatetime(tzinfo=SHANGHAI)
    return str(local.isoformat(sep=" ", timespec="seconds"))


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


def _percent(numerator: int, denominator: int) -> str:
    return f"{100 * numerator / denominator:.1f}%" if denominator else "-"


def _period(from_day: str, to_day: str) -> str:
    return f"{from_day or '…'} – {to_day or '…'}" if from_day or to_day else ""
