"""`kx simulate`: a filing-deadline day with provinces of the real tree, or the whole nation, on this machine."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from kuaixiang.domain.labels import Both
from kx.output import FAULT_EXIT_CODE, Failed, failures_shown, note, print_json

if TYPE_CHECKING:
    from demo.nation.run import Simulated

CASES: Final = 3_000
PROVINCES: Final = 2
PROVINCES_MAX: Final = 36
NATION_CASES: Final = 400_000
"""What 10⁸ cases a year are on an ordinary working day."""

Cases = Annotated[int | None, typer.Option(min=1, metavar="N", help=f"How many come in; {CASES} by default.")]
Provinces = Annotated[
    int | None,
    typer.Option(min=1, max=PROVINCES_MAX, metavar="P", help=f"So many of the 36 provincial bureaus; {PROVINCES}."),
]
Nation = Annotated[
    bool,
    typer.Option("--nation", help=f"All 36, and {NATION_CASES} cases where none are named: hours on two cores; 14 GB."),
]
Minutes = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="M", help="Register for so long at most; what has come in by then is the day."),
]
Folder = Annotated[
    Path | None, typer.Option(help="Where the federation lives, kept afterwards; a temporary one by default.")
]
Chart = Annotated[Path | None, typer.Option(help="Draw the backlogs over time there, as PNG; takes matplotlib.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line instead of tables.")]


def simulate(
    *,
    cases: Cases = None,
    provinces: Provinces = None,
    nation: Nation = False,
    minutes: Minutes = None,
    seed: Annotated[int, typer.Option(help="Another seed, another day.")] = 1,
    folder: Folder = None,
    chart: Chart = None,
    as_json: AsJson = False,
) -> None:
    """Live through a filing-deadline day with the bureaus of some provinces, each with its own ledger.

    Real nodes, up to a hundred bureaus in each, a NATS server for each province and the national hub; officers
    register, answer, forward, hand over and handle over gRPC. Ends with status 0 only if no case and no act is lost,
    none is there twice, each ledger agrees with its superior's, and the hub's figures are the sum of the ledgers.
    """
    if nation and provinces not in {None, PROVINCES_MAX}:
        raise typer.BadParameter("--nation has all provinces; leave --provinces out. --nation 已含全部省局。")
    with failures_shown(as_json=as_json):
        simulated = _simulated(
            cases=cases or (NATION_CASES if nation else CASES),
            provinces=PROVINCES_MAX if nation else provinces or PROVINCES,
            minutes=minutes,
            seed=seed,
            folder=folder,
            chart=chart,
        )
        if as_json:
            print_json(simulated.as_dict())
        else:
            _show(Console(), simulated.as_dict())
        if not simulated.sound:
            raise typer.Exit(FAULT_EXIT_CODE)


def _simulated(
    *, cases: int, provinces: int, minutes: float | None, seed: int, folder: Path | None, chart: Path | None
) -> "Simulated":
    from demo.federation import DirectoryInUse
    from demo.nation.run import simulate as run
    from demo.nation.watching import ChartUnavailable
    from demo.officers import OfficeError
    from demo.processes import ProcessError
    from demo.settling import NeverSettled
    from kuaixiang.runtime.pki import PkiError

    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kuaixiang-simulation-")))
        try:
            return asyncio.run(
                run(place, cases=cases, provinces=provinces, minutes=minutes, seed=seed, chart=chart, tell=note)
            )
        except (DirectoryInUse, ChartUnavailable) as wrong:
            raise Failed(Both(str(wrong), f"不能模拟：{wrong}")) from wrong
        except (NeverSettled, OfficeError, ProcessError, PkiError) as failure:
            if folder is None:
                note("The federation was in a temporary folder; give --folder to keep its logs.")
            raise Failed(Both(str(failure), f"模拟失败：{failure}"), exit_code=FAULT_EXIT_CODE) from failure


def _show(console: Console, told: dict[str, Any]) -> None:
    seconds, memory, most = told["seconds"], told["memory_mb"], told["backlog_most"]

    def say(sentence: str) -> None:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    say(
        f"{told['cases']} cases at {told['bureaus']} bureaus in {told['nodes']} node processes and {told['sites']} "
        f"NATS sites: {told['journal_entries']} journal entries, {told['hand_overs']} hand-overs accepted."
    )
    say(
        f"The day took {seconds['day']} s of {told['machine']['cores']} cores: {told['cases_per_second']} cases and "
        f"{told['acts_per_second']} acts a second; {told['entries_per_second']} entries a second to the hub's figure."
    )
    table = Table("of the machine", "processes", "MB at rest", "MB in the end", "core seconds")
    for kind in ("node", "nats", "hub"):
        table.add_row(
            kind,
            str(told["processes"][kind]),
            *(f"{memory[when][kind]:.0f}" for when in ("at_rest", "in_the_end")),
            str(told["cpu_seconds"][kind]),
        )
    table.add_row("officers", "", "", "", str(told["cpu_seconds"]["officers"]))
    table.add_row("all", "", *(f"{memory[when]['all']:.0f}" for when in ("at_rest", "in_the_end")), "")
    console.print(table)
    say(
        f"At most {most['unpublished']} entries waited for a stream, {most['unfolded']} for the hub, "
        f"{most['deliveries']} messages for peers, {most['acts_waiting']} acts for their turn."
    )
    say(
        f"Lost {told['lost']}, duplicated {told['duplicated']}, broken {told['broken']}, pairs of ledgers that differ "
        f"{told['pairs_that_differ']}, acts that failed {told['faults']}; hub equals ledgers: "
        f"{'yes' if told['hub_equals_ledgers'] else 'NO'}."
    )
    for sentence in told["findings"]:
        console.print(sentence, style="red", markup=False)
