"""`kx demo`: a whole federation on this machine lives through a fortnight, is checked, and stays up to be tried."""

import asyncio
import json
import shlex
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.tree import short_name

if TYPE_CHECKING:
    from demo.performance import Performed
    from kuaixiang.wire.v1 import statistics_pb2 as pb

CASES: Final = 166
"""As many as there are requests: each is made once."""
CASES_MAX: Final = 5_000
UNSOUND_EXIT_CODE: Final = 1
DEADLINES_MIN: Final = 5
"""A bureau with fewer deadlines in the period is listed, not ranked."""
TICK_SECONDS: Final = 1.0
SUGGESTED_COUNTY: Final = "110101"


def demo(
    *,
    leave: Annotated[bool, typer.Option("--exit", help="End after the summary instead of staying up.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line; progress goes to standard error.")
    ] = False,
    cases: Annotated[int, typer.Option(min=1, max=CASES_MAX, help="How many requests come in.")] = CASES,
    seed: Annotated[int, typer.Option(help="Another seed, another fortnight.")] = 1,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where ledgers, certificates and logs go, and stay; a temporary folder when left out."),
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="While it stays up, serve the stage, the desks and the board.")
    ] = True,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the stage from the start, to watch the fortnight in a browser.")
    ] = False,
) -> None:
    """Run a whole federation on this machine: ten bureaus live through a fortnight in about a minute.

    Headquarters, Beijing and Zhejiang with their counties and Hangzhou between, each with its own ledger; three NATS
    sites; the national hub. A node is killed and a province cut off on the way. The bulletin goes to the folder
    `bulletin` of the directory, or of here without one. With --exit it ends with 0 only if nothing was lost, nothing
    was done twice, all ledgers agree, the hub equals them, and a ledger that had lost cases was found out.

    Without --exit it stays up, with the stage: a page on this machine that leads to every bureau's desk and the board,
    moves the clock, breaks and mends parts, and shows the tree live.
    """
    if watch and (leave or not pages):
        raise typer.BadParameter("--watch needs the pages, which --exit and --no-pages leave out.")
    served = pages and not leave
    raise typer.Exit(
        asyncio.run(
            _main(
                leave=leave, as_json=as_json, cases=cases, seed=seed, directory=directory, served=served, watched=watch
            )
        )
    )


async def _main(
    *, leave: bool, as_json: bool, cases: int, seed: int, directory: Path | None, served: bool, watched: bool
) -> int:
    from demo.federation import require_unused
    from demo.officers import OfficeError
    from demo.performance import Pages, performance
    from demo.processes import ProcessError
    from demo.story import StoryError
    from demo.watch import NeverSeen
    from kuaixiang.runtime.clock import ClockError
    from kuaixiang.runtime.pki import PkiError
    from kuaixiang.wire.errors import RemoteRefusal

    # With --json, standard output is for the object alone.
    console = Console(stderr=as_json, soft_wrap=not sys.stdout.isatty())
    live = console.is_terminal and not as_json
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run made it
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def tell(sentence: str) -> None:
        console.print(sentence, highlight=False, markup=False)

    with tempfile.TemporaryDirectory(prefix="kuaixiang-demo-", ignore_cleanup_errors=True) as temporary:
        place = directory if directory is not None else Path(temporary)
        try:
            require_unused(place)
            bulletin = (directory if directory is not None else Path()) / "bulletin"
            pages = Pages.FROM_THE_START if watched else Pages.AFTERWARDS if served else Pages.NONE
            async with performance(
                place, bulletin, console, cases=cases, seed=seed, live=live, tell=tell, pages=pages
            ) as performed:
                await _summarise(console, performed)
                if as_json:
                    print(json.dumps(performed.as_dict(), ensure_ascii=False), flush=True)
                if not leave:
                    _suggest(console, performed)
                    _lead_to_pages(console, performed)
                    await _stay(performed, tell)
                return 0 if performed.sound else UNSOUND_EXIT_CODE
        except asyncio.CancelledError:
            tell("Everything is stopped.")
            return 0 if not leave else UNSOUND_EXIT_CODE
        except (
            *(ProcessError, OfficeError, StoryError, NeverSeen, RemoteRefusal),
            *(PkiError, ClockError, OSError),
        ) as failure:
            where = f" Its logs are in {place / 'logs'}." if directory is not None else ""
            console.print(f"The demonstration failed: {failure}{where}", style="red", markup=False, highlight=False)
            return UNSOUND_EXIT_CODE


async def _summarise(console: Console, performed: "Performed") -> None:
    """The national table, the leagues of both provinces, and what the checks found."""
    from demo.performance import PROVINCES
    from demo.picture import code_and_place
    from demo.story import FIRST_DAY, LAST_DAY
    from hub.words import Grouping
    from kx.figures import print_figures
    from kx.output import wide

    federation = performed.federation
    hub = federation.hub()
    console.print()
    period = f"{FIRST_DAY} – {LAST_DAY}"
    print_figures(wide(console), await hub.figures(), f"全国 {period}")
    print_figures(wide(console), await hub.figures(Grouping.BUREAU), f"各省 {period}")
    for province in PROVINCES:
        figures = await hub.figures(Grouping.EVERY_BUREAU, scope=province)
        wide(console).print(_league(figures, f"排名 {code_and_place(federation.tree, province)}"))
    tally, told, found = performed.tally, performed.reconciliation, performed.as_dict()
    console.print()

    def say(sentence: str) -> None:
        console.print(sentence, highlight=False, markup=False)

    say(
        f"{tally.cases} cases, {tally.journal_entries} journal entries, {tally.referrals} hand-overs accepted; "
        f"{performed.book.finished} cases ran their whole course, {tally.written_off} are written off in every ledger."
    )
    say(
        f"Reconciled by the hub: {told.ledgers_compared} ledgers, {told.entries_compared} entries, "
        f"{len(told.mismatches)} differences, {len(told.unreachable)} unreachable."
    )
    say(
        f"Counted by other code, from the journals alone: lost {found['lost']}, duplicated {found['duplicated']}, "
        f"hub equals ledgers: {'yes' if performed.hub_equals_ledgers else 'NO'}."
    )
    say(
        f"{found['unanswered_attempts']} attempts of officers went unanswered while their node was dead. "
        f"The hub had the {found['entries_cut_off']} entries it lacked of the province that was cut off "
        f"{found['catch_up_seconds']} s after its link was mended."
    )
    _tell_deeds(say, performed)
    say(f"{performed.seconds:.1f} s in all, {performed.story_seconds:.1f} s of them for the fortnight.")
    for mismatch in told.mismatches:
        console.print(f"{mismatch.bureau}: {mismatch.what}: hub {mismatch.hub}, ledger {mismatch.ledger}", style="red")
    for sentence in tally.findings():
        console.print(sentence, style="red", markup=False)


def _tell_deeds(say: Callable[[str], None], performed: "Performed") -> None:
    """What bureaus and superiors did besides, and what became of the older copy."""
    from demo.older_copy import COUNTY, PROVINCE
    from demo.performance import BULLETIN_PERIOD

    told, exercise = performed.as_dict(), performed.exercise
    extensions, orders, calendar = told["extensions"], told["orders"], told["calendar"]
    say(
        f"延期 {extensions['approved']} extensions approved, {extensions['refused']} refused, "
        f"{extensions['explained']} of joint cases explained to the taxpayer; 联合办理 {told['joint']} joint cases; "
        f"待条件成熟 {told['deferred']} deferred, {told['reviews_close']} reviews close, {told['resumed']} resumed."
    )
    say(
        f"并案 {told['linked']} requests linked to a like one, {told['duplicates_found']} of them found by the ledger, "
        f"{told['completed_with_lead']} completed with it; 附件 {told['attachments_travelled']} files read at the "
        f"province they were handed up to; 裁定 {told['rulings']} disputes ended by a superior's ruling."
    )
    say(
        f"督办 {orders['issued']} supervision orders, {orders['cascaded']} of them derived from headquarters' by a "
        f"province; {orders['answers']} answers, {orders['answers_returned']} returned, {orders['accepted']} accepted."
    )
    say(
        f"工作日历 {calendar['version']}, made up for the demonstration, published by headquarters and adopted by "
        f"{calendar['adopted_by']} bureaus: deadlines computed again {calendar['deadlines_recomputed']} times."
    )
    say(
        f"机构树 {told['tree']['version']}, with the certificate of every node in it, published by headquarters and "
        f"adopted by {told['tree']['adopted_by']} bureaus: no other certificate speaks for them."
    )
    kinds = Counter(exercise.named.values())
    named = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(kinds.items())) or "nothing"
    say(
        f"对账 Every ledger compared with its superior's: {told['pairs_that_differ']} differences. An exercise on "
        f"copies, apart from the federation: an older copy of {COUNTY} lacks {len(exercise.handed_over)} cases that "
        f"were handed over; {PROVINCE}'s comparison with it named {named}: "
        f"{'all of them' if exercise.found else 'NOT ALL of them'}. Its node took no acts until {PROVINCE} had given "
        f"back {exercise.restored.refilled} entries; in generation {exercise.restored.generation} {exercise.after} "
        "differ."
    )
    say(f"通报 The bulletin of {BULLETIN_PERIOD}: {', '.join(told['bulletin'])}")


def _league(figures: "pb.GetFiguresResponse", title: str) -> Table:
    """Bureaus by their on-time rate, equal ones by satisfaction; too few deadlines are listed, not ranked (SPEC §7)."""
    rows = [(row, {rate.name: (rate.numerator, rate.denominator) for rate in row.rates}) for row in figures.rows]

    def standing(rates: dict[str, tuple[int, int]]) -> tuple[bool, float, float]:
        (met, due), (content, asked) = rates["on_time"], rates["satisfaction"]
        return due >= DEADLINES_MIN, met / due if due else 0.0, content / asked if asked else 0.0

    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("名次", justify="right", no_wrap=True)
    table.add_column("税务机关", no_wrap=True)
    for heading in ("登记", "办结", "按时率", "反馈率", "有效回访率", "满意率", "未结", "逾期"):
        table.add_column(heading, justify="right", no_wrap=True)
    place = 0
    for row, rates in sorted(rows, key=lambda one: standing(one[1]), reverse=True):
        ranked = standing(rates)[0]
        place += ranked
        table.add_row(
            str(place) if ranked else "–",
            f"{row.key} {short_name(row.label)}",
            str(row.facts.get("registered", 0)),
            str(row.facts.get("completed", 0)),
            *(_percent(*rates[name]) for name in ("on_time", "feedback_in_time", "follow_up", "satisfaction")),
            str(row.open),
            str(row.overdue),
        )
    return table


def _percent(numerator: int, denominator: int) -> str:
    return f"{100 * numerator / denominator:.1f}%" if denominator else "–"


async def _stay(performed: "Performed", tell: Callable[[str], None]) -> None:
    """Until Ctrl-C: the clock goes on from the next working morning as a clock does, and what dies is started again."""
    clock = performed.federation.clock
    clock.advance_to(performed.next_morning)
    if performed.stage is not None:
        performed.stage.controls.open()

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            clock.advance(timedelta(seconds=TICK_SECONDS))

    await asyncio.gather(tick(), performed.federation.keep_alive(tell))


def _lead_to_pages(console: Console, performed: "Performed") -> None:
    """Where the web pages are, last of all, so that it is what one sees."""
    from demo.picture import code_and_place, depth_first

    if performed.stage is None:
        return
    federation = performed.federation
    lines = [f"The stage 演示台: {performed.stage.url}"]
    lines += [
        f"  desk 工作台  {federation.node(bureau).pages_url}/step-in?bureau={bureau}  "
        f"{'  ' * len(federation.tree.ancestors(bureau))}{code_and_place(federation.tree, bureau)}"
        for bureau in depth_first(federation.tree)
    ]
    lines += [
        f"  board 看板   {hub.pages_url}/step-in?bureau={hub.codes[0]}  the national hub" for hub in federation.hubs
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _suggest(console: Console, performed: "Performed") -> None:
    """What to try next, in commands that work as they stand but for CASE and ORDER."""
    from demo.performance import BULLETIN_PERIOD, PROVINCES
    from demo.picture import code_and_place, depth_first
    from demo.story import FIRST_DAY, LAST_DAY
    from kuaixiang.runtime.pki import dns_name

    federation = performed.federation
    tree, county = federation.tree, SUGGESTED_COUNTY
    superior = tree.parent(county) or tree.root
    node, hub = federation.node(county), federation.hubs[0]
    folders = federation.certificates("office", county).parent
    morning = performed.next_morning.astimezone(SHANGHAI)

    def say(*lines: str) -> None:
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    def certificates(bureau: str) -> str:
        return f"$C/{federation.node(bureau).terminal.ca.parent.name}"

    def at(bureau: str) -> str:
        where = f"KX_BUREAU={bureau} KX_NODE={federation.node(bureau).endpoint}"
        return f"export {where} KX_CERTIFICATES={certificates(bureau)}"

    def client(command: str, dash: str) -> str:
        """A generic client's command, with the officers' certificate; `dash` is how it marks its options."""
        files = (("cacert", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key"))
        flags = " ".join(f"{dash}{flag} {certificates(county)}/{file}" for flag, file in files)
        return f"{command} {dash}servername {dns_name('node', county)} {flags}"

    buf, grpcurl = client("buf curl --protocol grpc", "--"), client("grpcurl", "-")
    question = shlex.quote(json.dumps({"bureau": county, "pageSize": 3}))
    asking_hub = f"--hub {hub.endpoint} --certificates {certificates(tree.root)}"
    say("", f"The federation stays up; its clock goes on from {morning:%Y-%m-%d %H:%M}. Ctrl-C stops everything.", "")
    for bureau in depth_first(tree):
        host = federation.node(bureau)
        name = f"{'  ' * len(tree.ancestors(bureau))}{code_and_place(tree, bureau)}"
        say(f"  {host.endpoint}  {host.metrics_url}  process {host.process.pid}  {name}")
    say(f"  {hub.endpoint}  {hub.metrics_url}  process {hub.process.pid}  the national hub", "")
    say(
        "# in another terminal",
        f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH C={shlex.quote(str(folders))}",
        f"export KX_TREE={shlex.quote(str(federation.tree_file))} KX_ACTOR=R01 KX_DEPARTMENT=tax-service",
        "",
        f"# the ledger of {county}, a case of it, and a new one on its way up: put its number in the place of CASE",
        at(county),
        "kx case list",
        f"kx case show {performed.an_example(county)} --private --role registrar",
        "kx case export --role tax-service --actor T01 --out ledger.xlsx",
        f"kx staff check {shlex.quote(str(federation.staff_file(county)))} --bureau {county}",
        "kx case duplicates --text 我们也遇到同样的问题，季度销售额没有超过三十万元，两张专票要不要单独缴税？",
    )
    say(
        "kx case register --role registrar --taxpayer 澄筠野百货商行 --contact 15400001234 --category policy "
        "--text 季度销售额没有超过三十万元，两张专票要不要单独缴税？",
        "kx case escalate CASE --role registrar --reason 涉及政策口径 --telling complicated --told 已告知将上报",
        "kx case track CASE",
        "",
        f"# at its superior {superior}: dispatched, completed, fed back, written off; then written off below, too",
        at(superior),
        "kx case dispatch CASE --role tax-service --actor T01 --to policy",
        "kx case complete CASE --role handler --actor H01 --department policy --result 已按现行规定研究答复",
        "kx case feedback CASE --role handler --actor H01 --department policy --by hotline --told 已电话答复纳税人",
        "kx case write-off CASE --role tax-service --actor T01",
        "",
        f"# it compares its ledger with its neighbours', looks at what {county} has open, and issues an order to it",
        "kx reconcile",
        f"kx supervise cases {county}",
        f"kx supervise issue --role supervisor --actor S01 --to {county} --workdays 3 --text 请核实临期诉求并书面回复",
        "# below: put the order's number in the place of ORDER",
        at(county),
        "kx supervise list --open",
        "kx supervise acknowledge ORDER --role tax-service --actor T01",
        "kx supervise answer ORDER --role tax-service --actor T01 --answer 已逐件核实，将按期办结",
        "",
        "# kill a node: it is started again, and a command in the middle goes on",
        f"kill -9 {node.process.pid}",
        "",
        "# the national figures, how complete they are, and every ledger against them",
        f"kx hub stats {asking_hub} --by bureau",
        f"kx hub completeness {asking_hub} --all",
        f"kx hub reconcile {asking_hub}",
        f"kx supervise board {asking_hub}",
        "",
        "# a month that is over: kept as an edition, its bulletin for a province, and what many have asked",
        f"kx hub publish {BULLETIN_PERIOD} {asking_hub}",
        f"kx hub bulletin {BULLETIN_PERIOD} {asking_hub} --issues --scope {PROVINCES[-1]} --out {PROVINCES[-1]}.docx",
        f"kx hub issues find {asking_hub} --from {FIRST_DAY} --to {LAST_DAY} --min 2",
        "",
        "# any gRPC client: the services describe themselves",
        f"{buf} --list-methods https://{node.endpoint}",
        f"{buf} --data {question} https://{node.endpoint}/kuaixiang.wire.v1.CaseService/ListCases",
        f"{grpcurl} {node.endpoint} list",
        f"{grpcurl} -d {question} {node.endpoint} kuaixiang.wire.v1.CaseService/ListCases",
        "",
    )
