"""`kx replay`: a real event log played through a federation on this machine, and the hub's figures beside the log's."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final, Self

import typer
from rich.console import Console
from rich.table import Table

from kuaixiang.domain.labels import Both
from kx.output import FAULT_EXIT_CODE, Bar, Failed, failures_shown, note, print_json

DIFFERENCES_SHOWN_MAX: Final = 20
"""More say no more; `--json` has all of them."""

LABELS: Final = {
    "registered": "受理登记",
    "completed": "办结",
    "deferred": "待条件成熟",
    "met": "按时办理",
    "missed": "逾期办理",
    "referred_up": "上报上级",
    "referred_down": "转交下级",
    "referred_across": "跨区移交",
    "returned": "退回",
    "received": "接收移交",
    "relayed": "中转",
}
"""The Chinese term of each measure."""

Log = Annotated[Path, typer.Argument(metavar="LOG", help="The event log: CSV, plain or gzip.")]
MappingFile = Annotated[
    Path,
    typer.Option(
        "--mapping", metavar="FILE", help="How its columns map, a TOML file; or the name of a shipped mapping."
    ),
]
Directory = Annotated[
    Path | None, typer.Option(help="Where the federation lives, kept afterwards; a temporary one by default.")
]
DatabaseName = Annotated[str, typer.Option("--database", help="sqlite or postgresql.")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N cases, for a quick look.")]
Report = Annotated[
    Path | None,
    typer.Option(help="Where every refused row goes, as CSV or (.json) JSON; LOG's name with .refused.csv by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line instead of tables.")]


def replay(
    log: Log,
    *,
    mapping: MappingFile,
    directory: Directory = None,
    database: DatabaseName = "sqlite",
    limit: Limit = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Play an event log through real nodes and the hub at its own historical times, and compare the figures.

    Each organisation of the log becomes a bureau, each hand-over a referral, each case its life. Rows that make no
    sense are refused one by one into a report. Ends with status 0 only if the hub's figures are those of the log.
    """
    with failures_shown(as_json=as_json):
        outcome = _outcome(log, mapping, directory, database=database, limit=limit, report=report)
        if as_json:
            print_json(outcome.as_dict())
        else:
            _show(Console(), outcome)
        if not outcome.matches:
            raise typer.Exit(FAULT_EXIT_CODE)


def _outcome(
    log: Path, mapping: Path, directory: Path | None, *, database: str, limit: int | None, report: Path | None
) -> Any:  # noqa: ANN401 - demo.replay.outcome.Outcome, which is imported when it is needed
    from demo.federation import Database, DirectoryInUse
    from demo.officers import NoAnswer
    from demo.processes import ProcessError
    from demo.replay.driver import ReplayFailed
    from demo.replay.log import ColumnsMissing, LogUnreadable
    from demo.replay.mapping import SHIPPED, MappingCondition, load_mapping
    from demo.replay.run import NothingToPlay
    from demo.replay.run import replay as run
    from demo.replay.tree import TreeTooLarge
    from demo.settling import NeverSettled

    shipped = SHIPPED / f"{mapping.name}.toml"
    refused_rows = report or Path(f"{log.name.split('.')[0]}.refused.csv")
    with ExitStack() as stack:
        place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kuaixiang-replay-")))
        bars = stack.enter_context(Bars())
        try:
            return asyncio.run(
                run(
                    log,
                    load_mapping(shipped if shipped.exists() and not mapping.exists() else mapping),
                    place,
                    refused_rows,
                    database=Database(database),
                    limit=limit,
                    progress=bars.reached,
                )
            )
        except (MappingCondition, LogUnreadable, ColumnsMissing, NothingToPlay, DirectoryInUse, TreeTooLarge) as wrong:
            raise Failed(Both(str(wrong), f"不能回放：{wrong}")) from wrong
        except (ReplayFailed, NeverSettled, NoAnswer, ProcessError) as failure:
            if directory is None:
                note("The federation was in a temporary directory; give --directory to keep its logs.")
            raise Failed(Both(str(failure), f"回放失败：{failure}"), exit_code=FAULT_EXIT_CODE) from failure


class Bars:
    """One progress bar after the other, on standard error."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Bar | None = None
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reached(self, what: str, done: int, total: int | None) -> None:
        """Say what is going on, how far it is and of how much."""
        if self._bar is None or what != self._what:
            self._stack.close()
            self._what, self._bar = what, self._stack.enter_context(Bar(what, total))
        self._bar.reached(done)


def _show(console: Console, outcome: Any) -> None:  # noqa: ANN401 - as above
    from demo.replay.outcome import MEASURES

    plan, hub, expected = outcome.plan, outcome.hub.total, outcome.expected.total
    console.print(
        f"{plan.rows_read} rows: {plan.rows_used} used, {len(plan.refused)} refused, {outcome.rows_left_out} left out; "
        f"{len(plan.cases)} cases at {len(plan.tree.bureaus)} bureaus."
    )
    for reason, rows in sorted(plan.refused_by_reason().items()):
        console.print(f"  {rows} × {reason.value}")
    console.print(f"Every refused row is in {outcome.report}.", soft_wrap=True)
    console.print(
        f"{outcome.journal_entries} journal entries of {outcome.played.acts} acts in {outcome.seconds:.1f} s "
        f"({outcome.entries_per_second:.0f} a second, from the act to the hub's figure)."
    )
    table = Table("measure", "指标", title="The hub's figures beside the log's, over all bureaus")
    for heading in ("hub", "log", "bureaus that differ"):
        table.add_column(heading, justify="right")
    for measure in MEASURES:
        differing = sum(one.measure == measure for one in outcome.differences)
        table.add_row(
            measure,
            LABELS[measure],
            str(getattr(hub, measure)),
            str(getattr(expected, measure)),
            str(differing),
            style="red" if differing else "",
        )
    console.print(table)
    for one in outcome.differences[:DIFFERENCES_SHOWN_MAX]:
        console.print(f"bureau {one.bureau}: {one.measure} is {one.hub} at the hub, {one.plan} by the log", style="red")
    found = outcome.reconciliation
    console.print(
        f"{found.ledgers_compared} ledgers read again ({found.entries_compared} entries): "
        f"{len(found.mismatches)} mismatches, {len(found.unreachable)} unreachable."
    )
    if outcome.matches:
        console.print("The hub's figures are those of the log, for every bureau.", style="green")
    else:
        console.print("The hub's figures are not those of the log.", style="red")
