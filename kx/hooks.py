"""`kx hooks`: what channels' web hooks and the notifier of taxpayers could not bring yet, looked after by leaders."""

from datetime import UTC
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kuaixiang.wire.v1 import callback_pb2
from kx.options import Asking, Who, asking_options, officer_options, takes
from kx.output import failures_told, local, print_json, table_of, wide

app = typer.Typer(
    name="hooks",
    help="What could not be told to channels and taxpayers: list it, have it tried again, drop it.",
    no_args_is_help=True,
)

Sink = Annotated[str, typer.Argument(metavar="SINK", help="Such as hook:330106:website, as `kx hooks list` names it.")]
Seq = Annotated[
    int, typer.Option("--seq", min=0, help="Of this entry alone, by its number in the list; up to 500 when left out.")
]


@app.command("list")
@takes(asking=asking_options, who=officer_options)
@failures_told
def list_callbacks(
    *,
    asking: Asking,
    who: Who,
    sink: Annotated[str, typer.Option(metavar="SINK", help="Of this web hook or notifier alone.")] = "",
    given_up: Annotated[bool, typer.Option("--given-up", help="Only what nobody tries any more.")] = False,
) -> None:
    """What waits to be told, and what was given up, which comes first."""
    request = callback_pb2.ListCallbacksRequest(sink=sink, given_up=given_up)
    answer: callback_pb2.ListCallbacksResponse = _ask(asking, who, "ListCallbacks", request)
    if asking.as_json:
        print_json(table_of(answer))
        return
    from kx.views import event

    table = Table(
        "sink 推送对象",
        "seq 序号",
        "case 受理编号",
        "what 事项",
        "since 等待自",
        "attempts 已试次数",
        "next 下次推送",
        "failure 失败原因",
    )
    for one in answer.callbacks:
        table.add_row(
            one.sink,
            str(one.seq),
            one.case_id,
            event(one.kind),
            _shown(one, "since"),
            str(one.attempts),
            "given up 已停止" if one.given_up else _shown(one, "next_attempt_at"),
            one.failure,
        )
    console = wide(Console(highlight=False))
    console.print(table)
    console.print(f"Sinks 推送对象: {', '.join(answer.sinks) or 'none 无'}")


@app.command()
@takes(asking=asking_options, who=officer_options)
@failures_told
def retry(sink: Sink, *, seq: Seq = 0, asking: Asking, who: Who) -> None:
    """Have it tried again, for as long as at first. What came, but whose answer did not, comes again under its id."""
    request = callback_pb2.RetryCallbacksRequest(sink=sink, seq=seq)
    answer: callback_pb2.RetryCallbacksResponse = _ask(asking, who, "RetryCallbacks", request)
    _say(asking, "retried", answer.retried)


@app.command()
@takes(asking=asking_options, who=officer_options)
@failures_told
def drop(sink: Sink, *, seq: Seq = 0, asking: Asking, who: Who) -> None:
    """Drop what was given up: nobody is told of it any more. What still waits stays."""
    request = callback_pb2.DropCallbacksRequest(sink=sink, seq=seq)
    answer: callback_pb2.DropCallbacksResponse = _ask(asking, who, "DropCallbacks", request)
    _say(asking, "dropped", answer.dropped)


def _say(asking: Asking, what: str, count: int) -> None:
    if asking.as_json:
        print_json({what: count})
    else:
        typer.echo(f"{count} {what}.")


def _ask(asking: Asking, who: Who, method: str, request: Any) -> Any:  # noqa: ANN401 - the method's own answer
    from kx.client import ask_as

    return ask_as(asking, who, "CallbackService", method, request)


def _shown(one: callback_pb2.Callback, field: Any) -> str:  # noqa: ANN401 - a field's name
    return local(getattr(one, field).ToDatetime(UTC))
