"""`kx hub issues`: find what many taxpayers ask, confirm it with a standard answer, read what has been confirmed."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import Both, term_of
from kuaixiang.domain.periods import parse_period
from kuaixiang.domain.words import Category
from kuaixiang.wire.v1 import issues_pb2 as pb
from kuaixiang.wire.v1.issues_pb2_grpc import IssueServiceStub
from kx.asking_hub import AsJson, call
from kx.options import Certificates, Endpoint, HubScope
from kx.output import Failed, failures_told, print_json, table_of, wide

FIND_SECONDS_MAX: Final = 1800.0
"""Every ledger of the scope reads and masks its texts for it."""
TERMS_SHOWN: Final = 5
SUBORDINATES_SHOWN: Final = 3

app = typer.Typer(
    name="issues",
    help="Common issues 共性诉求: find them, confirm them, read the confirmed ones.",
    no_args_is_help=True,
)

IssueId = Annotated[str, typer.Argument(metavar="ISSUE", help="The issue's number, such as GX-2026-0001.")]


@app.command()
@failures_told
def find(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Annotated[str, typer.Option(metavar="CODE", help="The bureau whose subtree is read; all by default.")] = "",
    from_day: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First day, in Shanghai.")],
    to_day: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last day, included.")],
    cases_min: Annotated[int, typer.Option("--min", metavar="N", min=2, help="Cases that make an issue.")] = 3,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="How many to show, the largest.")] = 20,
    examples: Annotated[
        bool, typer.Option("--examples", help="Ask the bureaus for three masked texts of each.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find what many ask in a period, from masked key terms that the bureaus of the scope tell now."""
    request = pb.FindIssuesRequest(
        scope=scope, from_day=from_day, to_day=to_day, cases_min=cases_min, limit=limit, examples=examples
    )
    answer = _find(hub, certificates, hub_scope, request)
    if as_json:
        print_json(table_of(answer))
    else:
        _show_found(wide(Console()), answer)


def search(hub: str, certificates: Path, hub_scope: str, scope: str, period: str) -> None:
    """Search a whole period, so that the hub keeps what its bulletin tells of it. Raises `Failed`."""
    try:
        days = parse_period(period)
    except Refused as refusal:
        said, remedy = Both(str(refusal), refusal.chinese), Both(refusal.remedy, refusal.remedy_chinese)
        raise Failed(said, field="PERIOD", rule=refusal.rule, remedy=remedy) from refusal
    request = pb.FindIssuesRequest(scope=scope, from_day=days.first.isoformat(), to_day=days.last.isoformat())
    _find(hub, certificates, hub_scope, request)


def _find(hub: str, certificates: Path, hub_scope: str, request: pb.FindIssuesRequest) -> pb.FindIssuesResponse:
    with Console(stderr=True).status("The ledgers tell their key terms…"):
        found: pb.FindIssuesResponse = call(
            hub, certificates, hub_scope, "FindIssues", request, seconds=FIND_SECONDS_MAX, stub=IssueServiceStub
        )
    return found


@app.command()
@failures_told
def confirm(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    title: Annotated[str, typer.Option(metavar="TEXT", help="What it is about, at most 100 characters.")],
    owner: Annotated[str, typer.Option(metavar="CODE", help="Who keeps the answer, such as 000000/policy.")],
    answer: Annotated[str, typer.Option(metavar="TEXT", help="The standard answer 标准答复.")],
    term: Annotated[list[str], typer.Option(metavar="TERM", help="A key term of it; repeat it for several.")],
    actor: Annotated[
        str, typer.Option(envvar="KX_ACTOR", metavar="ID", help="The officer's number or account, not a name.")
    ],
    change: Annotated[str, typer.Option(metavar="ISSUE", help="Change this issue instead of making a new one.")] = "",
    as_json: AsJson = False,
) -> None:
    """Confirm an issue 确认共性诉求: it gets a number, which cases are linked to, and a standard answer."""
    request = pb.ConfirmIssueRequest(
        issue_id=change, title=title, owner=owner, standard_answer=answer, terms=term, actor=actor
    )

    _tell_one(call(hub, certificates, hub_scope, "ConfirmIssue", request, stub=IssueServiceStub).issue, as_json=as_json)


@app.command("list")
@failures_told
def list_issues(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    page_size: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Issues on a page.")] = 50,
    page: Annotated[str, typer.Option(metavar="TOKEN", help="The page after, as the page before names it.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the confirmed issues, latest first."""
    request = pb.ListIssuesRequest(page_size=page_size, page_token=page)
    answer: pb.ListIssuesResponse = call(hub, certificates, hub_scope, "ListIssues", request, stub=IssueServiceStub)
    if as_json:
        print_json(table_of(answer))
        return
    console = wide(Console(highlight=False))
    table = Table("issue", "title", "owner", "key terms 关键词", "confirmed")
    for issue in answer.issues:
        table.add_row(
            issue.issue_id, escape(issue.title), escape(issue.owner), escape("、".join(issue.terms)), _day(issue)
        )
    console.print(table)
    if answer.next_page_token:
        console.print(f"More: --page {answer.next_page_token}", soft_wrap=True)


@app.command()
@failures_told
def show(
    *,
    issue_id: IssueId,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    as_json: AsJson = False,
) -> None:
    """Show a confirmed issue with its standard answer."""
    request = pb.GetConfirmedIssueRequest(issue_id=issue_id)
    _tell_one(
        call(hub, certificates, hub_scope, "GetConfirmedIssue", request, stub=IssueServiceStub).issue, as_json=as_json
    )


def _show_found(console: Console, answer: pb.FindIssuesResponse) -> None:
    table = Table(title="共性诉求")
    for heading in ("cases", "before", "bureaus", "key terms 关键词", "where", "category", "known as"):
        table.add_column(heading, justify="right" if heading in {"cases", "before", "bureaus"} else "left")
    for found in answer.issues:
        table.add_row(
            str(found.cases),
            _growth(found),
            str(found.bureaus),
            escape("、".join(found.terms[:TERMS_SHOWN])),
            ", ".join(f"{share.bureau} ({share.cases})" for share in found.by_subordinate[:SUBORDINATES_SHOWN]),
            ", ".join(f"{term_of(Category, share.category)} ({share.cases})" for share in found.by_category[:2]),
            found.known_as,
        )
    console.print(table)
    for place, found in enumerate(answer.issues, start=1):
        for example in found.examples:
            console.print(f"{place}. {example.case_id}: {example.text}", markup=False, soft_wrap=True)
    sample = "" if answer.one_of == 1 else f" (one of {answer.one_of} cases was compared)"
    console.print(
        f"{answer.cases} cases of {answer.bureaus_read} bureaus compared{sample}, {answer.cases_in_issues} of them in "
        f"an issue; {answer.cases_before} cases from {answer.before_from_day} to {answer.before_to_day} before."
    )
    if answer.unreadable:
        console.print(f"Without the ledgers that could not be read: {', '.join(answer.unreadable)}.", style="yellow")


def _growth(found: pb.FoundIssue) -> str:
    """The cases of the period before, and how many times as many there are now."""
    if not found.cases_before:
        return "0 new 新增"
    return f"{found.cases_before} ×{found.cases / found.cases_before:.1f}"


def _tell_one(issue: pb.Issue, *, as_json: bool) -> None:
    if as_json:
        print_json(table_of(issue))
        return
    table = Table(show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label, value in (
        ("issue 共性诉求", issue.issue_id),
        ("title 标题", issue.title),
        ("owner 责任单位", issue.owner),
        ("key terms 关键词", "、".join(issue.terms)),
        ("standard answer 标准答复", issue.standard_answer),
        ("confirmed 确认", f"{_day(issue)} by {issue.confirmed_by}"),
        ("changed 修改", f"by {issue.changed_by}" if issue.changed_by else ""),
    ):
        if value:
            table.add_row(label, escape(value))
    Console(highlight=False).print(table)


def _day(issue: pb.Issue) -> str:
    return str(issue.confirmed_at.ToDatetime(tzinfo=SHANGHAI).date().isoformat())
