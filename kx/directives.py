"""The commands of `kx supervise` about what headquarters publishes to every bureau."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kuaixiang.domain.labels import Both
from kx.options import Acting, Asking, Once, Who, acting_options, asking_options, takes, who_options
from kx.output import Failed, failures_shown, note, print_json, table_of

IssueId = Annotated[str, typer.Argument(metavar="ISSUE", help="The issue's number, such as GX-2026-0001.")]


def add_commands(app: typer.Typer) -> None:
    """Add them to the group."""
    for name, command in (
        ("publish-calendar", publish_calendar),
        ("publish-issue", publish_issue),
        ("publish-tree", publish_tree),
        ("directives", directives),
        ("show-issue", issue),
    ):
        app.command(name)(command)


@takes(who=who_options, once=acting_options, asking=asking_options)
def publish_calendar(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="The calendar; `kx calendar check FILE` checks it alone."
        ),
    ],
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Publish a version of the working calendar 发布工作日历, at headquarters; open deadlines move everywhere."""
    from kuaixiang.wire.v1 import directive_pb2

    with failures_shown(as_json=asking.as_json):
        request = directive_pb2.PublishCalendarRequest(calendar=_text_of(file))
        _publish(Acting(asking, who, once), "PublishCalendar", request, "the calendar")


@takes(who=who_options, once=acting_options, asking=asking_options)
def publish_tree(
    *,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The tree; `kx tree check` checks it."),
    ],
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Publish a version of the tree of bureaus 发布机构树, at headquarters; every node and hub adopts it as it runs."""
    from kuaixiang.wire.v1 import directive_pb2

    with failures_shown(as_json=asking.as_json):
        request = directive_pb2.PublishTreeRequest(tree=_text_of(file))
        _publish(Acting(asking, who, once), "PublishTree", request, "the tree")


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise Failed(
            Both(f"{file} cannot be read as UTF-8 text.", f"{file} 无法按 UTF-8 文本读取。"),
            field=str(file),
            rule=type(fault).__name__,
            remedy=Both("Save it as UTF-8.", "请另存为 UTF-8 编码。"),
        ) from fault


@takes(who=who_options, once=acting_options, asking=asking_options)
def publish_issue(
    *,
    issue_id: Annotated[str, typer.Option("--issue", metavar="ID", help="Its number, such as GX-2026-0001.")],
    title: Annotated[str, typer.Option(metavar="TEXT", help="What it is about, in a line.")],
    owner: Annotated[
        str, typer.Option(metavar="CODE", help="Who answers for it: a bureau, such as 000000 or 000000/vat.")
    ],
    answer: Annotated[str, typer.Option(metavar="TEXT", help="The standard answer 统一答复口径; everybody sees it.")],
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Publish a confirmed common issue 发布共性诉求 with its standard answer, or a new wording, at headquarters."""
    from kuaixiang.wire.v1 import directive_pb2

    with failures_shown(as_json=asking.as_json):
        request = directive_pb2.PublishIssueRequest(
            issue=directive_pb2.ConfirmedIssue(issue_id=issue_id, title=title, owner=owner, standard_answer=answer)
        )
        _publish(Acting(asking, who, once), "PublishIssue", request, f"issue {issue_id}")


def _publish(acting: Acting, method: str, request: Any, what: str) -> None:  # noqa: ANN401 - either message
    from kx.client import ask, header_of

    request.header.CopyFrom(header_of(acting, ""))
    again = Both(
        f"The same command with --key {acting.once.key} is harmless, whether or not it was published.",
        f"可用 --key {acting.once.key} 再次执行同一命令，不会重复发布。",
    )
    response = ask(acting.asking, "DirectiveService", method, request, again)
    if acting.asking.as_json:
        print_json({**table_of(response), "request_key": acting.once.key})
        return
    done = "was published before under the same key" if response.repeated_request else "is published"
    typer.echo(f"✓ {what} {done}; every bureau's node takes it over.")


@takes(asking=asking_options)
def directives(*, asking: Asking) -> None:
    """List what headquarters has published 总局指令, as the bureau's node knows it."""
    from kuaixiang.wire.v1 import directive_pb2
    from kx.client import ask
    from kx.views import show_directives

    with failures_shown(as_json=asking.as_json):
        request = directive_pb2.ReadDirectivesRequest(bureau=asking.bureau)
        found: list[directive_pb2.Directive] = []
        while True:
            answer = ask(asking, "DirectiveService", "ReadDirectives", request)
            for signed in answer.directives:
                one = directive_pb2.Directive.FromString(signed.directive)
                found.append(one)
                request.have.add(kind=one.kind, subject=one.subject, published_at_us=one.published_at_us)
            if not answer.more:
                break
        if asking.as_json:
            print_json({"directives": [table_of(one) for one in found]})
        else:
            show_directives(asking, found)


@takes(asking=asking_options)
def issue(*, issue_id: IssueId, asking: Asking) -> None:
    """Show a confirmed common issue 共性诉求 and its standard answer 统一答复口径."""
    from kx.views import show_issue

    with failures_shown(as_json=asking.as_json):
        response = _published(asking, issue_id)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_issue(response)


def _published(asking: Asking, issue_id: str) -> Any:  # noqa: ANN401 - GetPublishedIssue's answer
    from kuaixiang.wire.v1 import directive_pb2
    from kx.client import ask

    request = directive_pb2.GetPublishedIssueRequest(bureau=asking.bureau, issue_id=issue_id)
    return ask(asking, "DirectiveService", "GetPublishedIssue", request)


def issue_of(asking: Asking, issue_id: str) -> Any:  # noqa: ANN401 - GetPublishedIssue's answer, or None
    """The issue of a case, as the bureau's node knows it; None while it is not there. Raises `Failed`."""
    try:
        return _published(asking, issue_id)
    except Failed as failure:
        if failure.rule != "UnknownIssue":
            raise
        note(*failure.sentence)
        return None
