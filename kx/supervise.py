"""`kx supervise`: what a superior bureau asks of those below it, and what headquarters publishes.

Supervision 督办 (§五(三)): orders to subordinates, their answers, the view of open cases; and the directives.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from kuaixiang.domain import order_acts
from kuaixiang.domain.labels import act_term, command
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.words import Light, OrderLevel, OrderSide, OrderStage
from kx import directives
from kx.options import (
    Acting,
    Asking,
    Certificates,
    Endpoint,
    HubScope,
    Once,
    Who,
    acting_options,
    asking_options,
    takes,
    text_given,
    who_options,
)
from kx.output import DIFFERENT_EXIT_CODE, failures_shown, names, print_json, table_of, wide, word_parser

GROUP: Final = "supervise "
"""How the table of acts names the commands of this group."""

app = typer.Typer(
    name="supervise",
    help="What superiors ask of the bureaus below them, and what headquarters publishes to all.",
    epilog="Say whom to ask and who you are as for `kx case`. An order is issued by a supervisor or a leader, "
    "acknowledged by tax service, answered by tax service or a handler.",
    no_args_is_help=True,
)

OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="The order's number, such as 330000-2026-D000001.")]
Remark = Annotated[str, typer.Option(metavar="TEXT", help="A remark; private.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; private.")]
Workdays = Annotated[
    int, typer.Option(metavar="N", min=1, max=250, help="Working days for the answer, from the receipt on.")
]
Wording = Annotated[str, typer.Option(metavar="TEXT", help="What is wanted; private. - reads standard input.")]
Level = Annotated[
    OrderLevel, typer.Option(metavar="WORD", parser=word_parser(OrderLevel), help=f"{names(OrderLevel)}.")
]
LevelIfOther = Annotated[
    OrderLevel | None, typer.Option(metavar="WORD", parser=word_parser(OrderLevel), help=f"{names(OrderLevel)}.")
]
Cases = Annotated[
    list[str] | None, typer.Option("--case", metavar="CASE", help="A case it is about; repeat for several, up to 100.")
]
Subordinate = Annotated[
    str, typer.Argument(metavar="BUREAU", help="The subordinate's six digits; any depth below this bureau.")
]
PageSize = Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Rows a page.")]
Page = Annotated[str, typer.Option(metavar="TOKEN", help="Which page: the token that the page before ended with.")]


def _act(kind: type[OrderAct], *, opens: bool = False) -> Callable[[Callable[..., OrderAct]], Callable[..., OrderAct]]:
    """Make an act's command of a function that builds it from options of its own; `opens`: no order is there before."""
    name = command(kind).removeprefix(GROUP)

    def decorate(build: Callable[..., OrderAct]) -> Callable[..., OrderAct]:
        options: dict[str, Callable[..., Any]] = {
            "act": build,
            "who": who_options,
            "once": acting_options,
            "asking": asking_options,
        }

        def do(order_id: str, act: OrderAct, who: Who, once: Once, asking: Asking) -> None:
            with failures_shown(as_json=asking.as_json):
                _perform(Acting(asking, who, once), order_id, act)

        if opens:

            def issue_order(*, act: OrderAct, who: Who, once: Once, asking: Asking) -> None:
                do("", act, who, once, asking)

            app.command(name, help=build.__doc__)(takes(**options)(issue_order))
        else:

            def on_order(*, order_id: OrderId, act: OrderAct, who: Who, once: Once, asking: Asking) -> None:
                do(order_id, act, who, once, asking)

            app.command(name, help=build.__doc__)(takes(**options)(on_order))
        return build

    return decorate


def _perform(acting: Acting, order_id: str, act: OrderAct) -> None:
    from kx.client import perform_on_order
    from kx.views import show_orders_done

    response = perform_on_order(acting, order_id, act)
    if acting.asking.as_json:
        print_json({**table_of(response), "request_key": acting.once.key})
    else:
        orders = response.orders if isinstance(act, order_acts.CascadeOrder) else [response.order]
        show_orders_done(acting.asking, orders, repeated=response.repeated_request)


# ---------------------------------------------------------------- the issuer


@_act(order_acts.IssueOrder, opens=True)
def issue(
    *,
    to: Annotated[
        str, typer.Option(metavar="CODE", help="The bureau that is to answer: a direct or indirect subordinate.")
    ],
    text: Wording,
    workdays: Workdays,
    level: Level = OrderLevel.SUPERVISE,
    case: Cases = None,
) -> OrderAct:
    """Issue an order to a subordinate 下达督办, about one case, several or none (§五(三))."""
    return order_acts.IssueOrder(
        final_bureau=to, level=level, text=text_given(text), answer_workdays=workdays, case_ids=tuple(case or ())
    )


@_act(order_acts.AcceptAnswer)
def accept(*, note: Remark = "") -> OrderAct:
    """Accept the answer 认可回复: the order is done."""
    return order_acts.AcceptAnswer(note=note)


@_act(order_acts.ReturnAnswer)
def return_answer(*, reason: Reason, workdays: Workdays) -> OrderAct:
    """Return the answer 退回回复: another one is wanted, by a new deadline."""
    return order_acts.ReturnAnswer(reason=reason, answer_workdays=workdays)


@_act(order_acts.CancelOrder)
def cancel(*, reason: Reason) -> OrderAct:
    """Cancel an order 撤销督办, answered or not."""
    return order_acts.CancelOrder(reason=reason)


# ---------------------------------------------------------------- the receiver


@_act(order_acts.AcknowledgeOrder)
def acknowledge(*, note: Remark = "") -> OrderAct:
    """Acknowledge an order received 签收督办."""
    return order_acts.AcknowledgeOrder(note=note)


@_act(order_acts.AnswerOrder)
def answer(
    *,
    answer: Annotated[str, typer.Option(metavar="TEXT", help="What was done; private. - reads standard input.")],
    because: Annotated[
        str, typer.Option(metavar="TEXT", help="Why it is answered while orders derived from it are still open.")
    ] = "",
) -> OrderAct:
    """Answer an order received 回复督办, within its working days."""
    return order_acts.AnswerOrder(answer=text_given(answer), because=because)


@app.command(
    command(order_acts.CascadeOrder).removeprefix(GROUP),
    help=f"Pass an order received on {act_term(order_acts.CascadeOrder)}: one for each of some subordinates, all or "
    "none. Its own wording and level are kept where no others are given.",
)
@takes(who=who_options, once=acting_options, asking=asking_options)
def cascade(
    *,
    order_id: OrderId,
    to: Annotated[list[str], typer.Option(metavar="CODE", help="A subordinate; repeat for several, up to 100.")],
    workdays: Workdays,
    text: Wording = "",
    level: LevelIfOther = None,
    case: Cases = None,
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Derive orders from one received."""
    from kuaixiang.wire.v1 import supervision_pb2
    from kx.client import ask

    with failures_shown(as_json=asking.as_json):
        wording = text_given(text)
        if not wording or level is None:
            request = supervision_pb2.GetOrderRequest(bureau=asking.bureau, order_id=order_id, include_texts=True)
            received = ask(asking, "SupervisionService", "GetOrder", request)
            wording = wording or received.texts.text
            level = level or OrderLevel(received.order.level)
        act = order_acts.CascadeOrder(
            to_bureaus=tuple(to), level=level, text=wording, answer_workdays=workdays, case_ids=tuple(case or ())
        )
        _perform(Acting(asking, who, once), order_id, act)


# ---------------------------------------------------------------- reading orders


@app.command("list")
@takes(asking=asking_options)
def list_orders(
    *,
    side: Annotated[
        OrderSide | None, typer.Option(metavar="WORD", parser=word_parser(OrderSide), help=f"{names(OrderSide)}.")
    ] = None,
    stage: Annotated[
        list[OrderStage] | None,
        typer.Option(metavar="WORD", parser=word_parser(OrderStage), help=f"Repeat for several: {names(OrderStage)}."),
    ] = None,
    level: LevelIfOther = None,
    only_open: Annotated[bool, typer.Option("--open", help="Neither closed nor cancelled 未办结.")] = False,
    overdue: Annotated[bool, typer.Option("--overdue", help="Without an answer past the deadline 逾期未回复.")] = False,
    page_size: PageSize = 50,
    page: Page = "",
    asking: Asking,
) -> None:
    """List the bureau's supervision orders, nearest deadline first, in pages."""
    from kuaixiang.wire.v1 import supervision_pb2
    from kx.client import ask
    from kx.views import show_orders

    with failures_shown(as_json=asking.as_json):
        words: dict[str, Any] = {
            "side": int(side or 0),
            "stages": [int(one) for one in stage or ()],
            "level": int(level or 0),
        }
        request = supervision_pb2.ListOrdersRequest(
            bureau=asking.bureau, open=only_open, overdue=overdue, page_size=page_size, page_token=page, **words
        )
        response = ask(asking, "SupervisionService", "ListOrders", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_orders(asking, response.orders, response.next_page_token)


@app.command("show")
@takes(asking=asking_options)
def show(*, order_id: OrderId, asking: Asking) -> None:
    """Show an order: its wording, where it stands, its answer, its history."""
    from kuaixiang.wire.v1 import supervision_pb2
    from kx.client import ask
    from kx.views import show_order

    with failures_shown(as_json=asking.as_json):
        request = supervision_pb2.GetOrderRequest(
            bureau=asking.bureau, order_id=order_id, include_texts=True, include_history=True
        )
        response = ask(asking, "SupervisionService", "GetOrder", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_order(asking, response)


# ---------------------------------------------------------------- subordinates' ledgers


@app.command("ledgers")
@takes(asking=asking_options)
def ledgers(*, asking: Asking) -> None:
    """List the ledgers that the bureau witnesses 台账见证: how far each is cosigned, and what contradicts that.

    Ends with 1 when something stands against one of them.
    """
    from kuaixiang.wire.v1 import cosign_pb2
    from kx.client import ask
    from kx.views import show_witnessed

    with failures_shown(as_json=asking.as_json):
        request = cosign_pb2.ListWitnessedRequest(bureau=asking.bureau)
        response: cosign_pb2.ListWitnessedResponse = ask(asking, "CosignService", "ListWitnessed", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_witnessed(asking, response.ledgers)
    if any(one.HasField("doubt") for one in response.ledgers):
        raise typer.Exit(DIFFERENT_EXIT_CODE)


# ---------------------------------------------------------------- subordinates' open cases


@app.command("board")
def board(
    *,
    hub: Endpoint,
    certificates: Certificates,
    hub_scope: HubScope = "000000",
    scope: Annotated[
        str, typer.Option(metavar="CODE", help="The bureau whose subordinates are looked at; the hub's by default.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text, refusals too.")] = False,
) -> None:
    """Count each subordinate's open cases by light: in time, due within 1 wd, overdue, stopped; extended ones apart.

    A row's bureau given as --scope shows what is under it; `kx supervise cases` lists one bureau's cases.
    """
    from rich.console import Console

    from kuaixiang.wire.v1 import statistics_pb2
    from kx.asking_hub import call
    from kx.figures import lights_as_dict, print_lights

    with failures_shown(as_json=as_json):
        request = statistics_pb2.GetLightsRequest(scope=scope)
        answer: statistics_pb2.GetLightsResponse = call(hub, certificates, hub_scope, "GetLights", request)
        if as_json:
            print_json(lights_as_dict(answer))
        else:
            print_lights(wide(Console(highlight=False)), answer, f"未结诉求 {scope or hub_scope}")


@app.command("cases")
@takes(asking=asking_options)
def cases(
    *,
    subordinate: Subordinate,
    light: Annotated[
        Light | None, typer.Option(metavar="WORD", parser=word_parser(Light), help=f"{names(Light)}.")
    ] = None,
    extended: Annotated[
        bool, typer.Option("--extended", help="Only those with an approved extension running.")
    ] = False,
    page_size: PageSize = 50,
    page: Page = "",
    asking: Asking,
) -> None:
    """List a subordinate's open cases, nearest deadline first, without private parts."""
    from kuaixiang.wire.v1 import supervision_pb2
    from kx.client import ask
    from kx.views import show_subordinate_cases

    with failures_shown(as_json=asking.as_json):
        words: dict[str, Any] = {"light": int(light or 0)}
        request = supervision_pb2.ListSubordinateCasesRequest(
            bureau=asking.bureau,
            subordinate=subordinate,
            extended=extended,
            page_size=page_size,
            page_token=page,
            **words,
        )
        response = ask(asking, "SupervisionService", "ListSubordinateCases", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_subordinate_cases(asking, subordinate, response)


@app.command("case")
@takes(asking=asking_options)
def case(
    *,
    subordinate: Subordinate,
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="The case's number.")],
    asking: Asking,
) -> None:
    """Show one case of a subordinate with its history, without private parts."""
    from kuaixiang.wire.v1 import case_pb2, supervision_pb2
    from kx.client import ask
    from kx.views import show_case

    with failures_shown(as_json=asking.as_json):
        request = supervision_pb2.GetSubordinateCaseRequest(
            bureau=asking.bureau, subordinate=subordinate, case_id=case_id
        )
        response = ask(asking, "SupervisionService", "GetSubordinateCase", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_case(asking, case_pb2.GetCaseResponse(case=response.found.case, history=response.history))


# ---------------------------------------------------------------- what headquarters publishes

directives.add_commands(app)
