"""`kx case`: a county officer's whole job from the command line, one command for each act of the lifecycle."""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.labels import Both, command
from kuaixiang.domain.tree import Relation, UnknownBureau
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockKind,
    Custody,
    Disclosure,
    Override,
    Satisfaction,
    Stage,
    Telling,
    WorkTab,
)
from kx.options import (
    Acting,
    Asking,
    Once,
    Reader,
    Who,
    acting_options,
    asking_options,
    officer_options,
    reader_options,
    takes,
    text_given,
    who_options,
)
from kx.output import (
    DIFFERENT_EXIT_CODE,
    INSTANT_FORM,
    Bar,
    Failed,
    choice_of,
    day_of,
    failures_shown,
    instant_of,
    names,
    print_json,
    table_of,
    word_parser,
)

ADJACENT_ABOVE: Final = frozenset({Relation.PARENT, Relation.ANCESTOR})

app = typer.Typer(
    name="case",
    help="Work on the cases 诉求和意见 of a bureau: register, handle, refer, read.",
    epilog="Say whom to ask by KX_NODE, KX_CERTIFICATES and KX_BUREAU, and who you are by KX_ACTOR, KX_ROLE and "
    "KX_DEPARTMENT. Ends with 0 when done, 2 when refused (nothing has changed; `import` and "
    "`write-off --all-ready` do what is not refused), 3 when the node did not answer.",
    no_args_is_help=True,
)

CaseId = Annotated[str, typer.Argument(metavar="CASE", help="The case's number, such as 110101-2026-0000001.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why.")]
Remark = Annotated[str, typer.Option(metavar="TEXT", help="A remark for the ledger; private.")]
Told = Annotated[str, typer.Option(metavar="TEXT", help="What the taxpayer was told; private.")]
Department = Annotated[str, typer.Option(metavar="CODE", help="Lower-case letters, digits and hyphens, such as vat-2.")]
OfDepartment = Annotated[
    str, typer.Option("--of", metavar="CODE", help="Which jointly handling department's, where several have asked.")
]
HowTold = Annotated[
    Telling,
    typer.Option(
        metavar="WORD", parser=word_parser(Telling), help=f"What the taxpayer was told, once: {names(Telling)}."
    ),
]
ToldIfNeeded = Annotated[
    Telling | None,
    typer.Option(
        metavar="WORD",
        parser=word_parser(Telling),
        help=f"What the taxpayer was told, if that was not recorded before: {names(Telling)}.",
    ),
]


def _act(kind: type[Act]) -> Callable[[Callable[..., Act]], Callable[..., Act]]:
    """Make an act's command of a function that builds it from options of its own."""
    name = command(kind)

    def decorate(build: Callable[..., Act]) -> Callable[..., Act]:
        options: dict[str, Callable[..., Any]] = {
            "act": build,
            "who": who_options,
            "once": acting_options,
            "asking": asking_options,
        }

        def on_case(*, case_id: CaseId, act: Act, who: Who, once: Once, asking: Asking) -> None:
            with failures_shown(as_json=asking.as_json):
                _perform(Acting(asking, who, once), case_id, act)

        app.command(name, help=build.__doc__)(takes(**options)(on_case))
        return build

    return decorate


def _perform(acting: Acting, case_id: str, act: Act) -> None:
    from kx.client import perform

    _show(acting, type(act), perform(acting, case_id, act))


def _show(acting: Acting, kind: type[Act], response: Any) -> None:  # noqa: ANN401 - an ActResponse, imported later
    from kx.views import show_done

    if acting.asking.as_json:
        print_json({**table_of(response), "request_key": acting.once.key})
    else:
        show_done(acting.asking, kind, response)


# ---------------------------------------------------------------- 受理登记 (§四(一))


def _registration(
    *,
    taxpayer: Annotated[
        str, typer.Option(metavar="NAME", help="The taxpayer's name 纳税人名称, at most 200 characters.")
    ],
    contact: Annotated[str, typer.Option(metavar="CONTACT", help="A mobile or landline number, or an e-mail address.")],
    text: Annotated[
        str,
        typer.Option(metavar="TEXT", help="The request or opinion, at most 10,000 characters; - reads standard input."),
    ],
    category: Annotated[
        Category,
        typer.Option(metavar="WORD", parser=word_parser(Category), help=f"诉求类别: {names(Category)}."),
    ],
    channel: Annotated[
        Channel,
        typer.Option(metavar="WORD", parser=word_parser(Channel), help=f"受理渠道: {names(Channel)}."),
    ] = Channel.COUNTER,
    taxpayer_number: Annotated[
        str, typer.Option(metavar="NUMBER", help="统一社会信用代码, 18 characters, its check characters are checked.")
    ] = "",
    reference: Annotated[
        str, typer.Option(metavar="REF", help="The channel's own number; the same number twice is one case.")
    ] = "",
    place: Annotated[str, typer.Option(metavar="CODE", help="Where the taxpayer is: a division's six digits.")] = "",
    answer: Annotated[
        str, typer.Option(metavar="TEXT", help="The reply, if answered on the spot: the case is complete at once.")
    ] = "",
    link: Annotated[
        str, typer.Option(metavar="CASE", help="The case of this ledger that asks the same 并案; handled with it.")
    ] = "",
    note: Remark = "",
) -> acts.Register:
    """What is registered."""
    return acts.Register(
        taxpayer_name=taxpayer,
        contact=contact,
        text=text_given(text),
        category=category,
        channel=channel,
        taxpayer_number=taxpayer_number,
        channel_reference=reference,
        place=place,
        answer=answer,
        lead_case_id=link,
        note=note,
    )


@app.command(command(acts.Register))
@takes(act=_registration, who=who_options, once=acting_options, asking=asking_options)
def register(
    *,
    act: acts.Register,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Register it although cases of the last months seem to be the same.")
    ] = False,
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Register a request or opinion 受理登记; it is to be forwarded within 1 working day (§四(一)1).

    Cases that may be the same are shown first and end it with 2, unless --anyway or --link is given, or --key, which
    is for asking again. A channel's program, which has a token, is shown none.
    """
    with failures_shown(as_json=asking.as_json):
        from kx.duplicates import check_new
        from kx.signing import with_token

        # A channel's token does not read the bureau's cases: its officers look before they forward.
        if not (anyway or act.lead_case_id or once.again or with_token()):
            check_new(asking, act)
        _perform(Acting(asking, who, once), "", act)


@app.command("duplicates")
@takes(asking=asking_options)
def duplicates(
    *,
    taxpayer: Annotated[str, typer.Option(metavar="NAME", help="The taxpayer's name; compared with --contact.")] = "",
    contact: Annotated[str, typer.Option(metavar="CONTACT", help="The contact; compared with --taxpayer.")] = "",
    taxpayer_number: Annotated[str, typer.Option(metavar="NUMBER", help="统一社会信用代码.")] = "",
    text: Annotated[str, typer.Option(metavar="TEXT", help="The request or opinion; - reads standard input.")] = "",
    asking: Asking,
) -> None:
    """Show cases of the last months that may be the same as a request 疑似重复, the likeliest first."""
    with failures_shown(as_json=asking.as_json):
        from kx.duplicates import find, tell

        act = acts.Register(
            taxpayer_name=taxpayer,
            contact=contact,
            taxpayer_number=taxpayer_number,
            text=text_given(text),
            category=Category.OTHER,
            channel=Channel.OTHER,
        )
        tell(asking, find(asking, act))


@_act(acts.AnswerOnTheSpot)
def answer(
    *, answer: Annotated[str, typer.Option(metavar="TEXT", help="The reply given to the taxpayer; private.")]
) -> Act:
    """Answer a registered case on the spot 当场答复: complete and fed back at once (§四(一)2)."""
    return acts.AnswerOnTheSpot(answer=answer)


@_act(acts.Forward)
def forward(*, telling: HowTold, told: Told = "") -> Act:
    """Forward a case to tax service 转交纳税服务部门, having told the taxpayer, within 1 working day (§四(一)2)."""
    return acts.Forward(telling=telling, told=told)


@_act(acts.Dispatch)
def dispatch(*, to: Department, note: Remark = "") -> Act:
    """Dispatch a case to the department in charge 分办; its 5 working days begin (§四(一)2, §四(二)1)."""
    return acts.Dispatch(to_department=to, note=note)


@_act(acts.ReturnDispatch)
def return_dispatch(*, reason: Reason) -> Act:
    """Give a dispatched case, or an assisting department's part, back to tax service 退回分办."""
    return acts.ReturnDispatch(reason=reason)


@_act(acts.AcceptDirectly)
def accept(*, telling: HowTold, told: Told = "") -> Act:
    """Handle a case in the department that registered it 直接受理; its 5 working days begin (§四(二)1)."""
    return acts.AcceptDirectly(telling=telling, told=told)


# ---------------------------------------------------------------- 办理 (§四(二))


@_act(acts.AskExtension)
def ask_extension(
    *,
    workdays: Annotated[int, typer.Option(metavar="N", min=1, help="Working days more; in all at most 10.")],
    reason: Reason,
) -> Act:
    """Ask for an extension 申请延期 in working days, before the deadline; once (§四(二)1)."""
    return acts.AskExtension(workdays=workdays, reason=reason)


@_act(acts.ApproveExtension)
def approve_extension(*, of: OfDepartment = "", note: Remark = "") -> Act:
    """Approve an extension 批准延期: the deputy head in charge, the bureau head for joint handling (§四(二)1-2)."""
    return acts.ApproveExtension(for_department=of, note=note)


@_act(acts.RefuseExtension)
def refuse_extension(*, reason: Reason, of: OfDepartment = "") -> Act:
    """Refuse an extension 不批准延期; the deadline stays (§四(二)1-2)."""
    return acts.RefuseExtension(reason=reason, for_department=of)


@_act(acts.ExplainExtension)
def explain_extension(*, told: Told) -> Act:
    """Record that the taxpayer was told why a jointly handling department takes longer 延期告知 (§四(二)2)."""
    return acts.ExplainExtension(told=told)


@_act(acts.StartJointHandling)
def start_joint(
    *,
    lead: Department,
    assisting: Annotated[
        list[str], typer.Option("--assisting", metavar="CODE", help="An assisting department; repeat for several.")
    ],
    note: Remark = "",
) -> Act:
    """Start joint handling 联合办理 by a lead and assisting departments, 5 working days each (§四(二)2)."""
    return acts.StartJointHandling(lead_department=lead, assisting_departments=tuple(assisting), note=note)


@_act(acts.AddPart)
def add_part(*, to: Department, note: Remark = "") -> Act:
    """Bring another assisting department into joint handling 增加协办, with 5 working days of its own (§四(二)2)."""
    return acts.AddPart(to_department=to, note=note)


@_act(acts.CompletePart)
def complete_part(
    *, result: Annotated[str, typer.Option(metavar="TEXT", help="What the department did; private.")]
) -> Act:
    """Say that an assisting department has done its part 协办完成 (§四(二)2)."""
    return acts.CompletePart(result=result)


@_act(acts.Complete)
def complete(
    *,
    result: Annotated[str, typer.Option(metavar="TEXT", help="How it ended; private.")],
    with_linked: Annotated[
        bool, typer.Option("--with-linked", help="Complete the cases linked to it 并案 by the same result.")
    ] = False,
) -> Act:
    """Complete a case 办结; feedback is due within 1 working day (§四(二)1, §四(三))."""
    return acts.Complete(result=result, with_linked=with_linked)


@_act(acts.Link)
def link(*, to: Annotated[str, typer.Option(metavar="CASE", help="The case that leads.")]) -> Act:
    """Link a case to another one of the ledger that asks the same 并案; that one's result can complete both."""
    return acts.Link(lead_case_id=to)


@_act(acts.Unlink)
def unlink(*, reason: Reason) -> Act:
    """Undo a link 解除并案: the case is handled by itself again."""
    return acts.Unlink(reason=reason)


@_act(acts.LinkIssue)
def link_issue(*, issue: Annotated[str, typer.Option(metavar="ID", help="Its number, such as GX-2026-0001.")]) -> Act:
    """Say that a case is an instance of a confirmed common issue 归入共性诉求 (§四(五))."""
    return acts.LinkIssue(issue_id=issue)


@app.command(command(acts.Attach))
@takes(who=who_options, once=acting_options, asking=asking_options)
def attach(
    *,
    case_id: CaseId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The file, at most 20 MiB.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What it is called there; its own name if left out.")] = "",
    media_type: Annotated[
        str,
        typer.Option("--type", metavar="TYPE", help="What it is, such as application/pdf; by its name if left out."),
    ] = "",
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Attach a file to a case 添加附件; bureaus that get the case get the file with it."""
    from kx import files

    with failures_shown(as_json=asking.as_json):
        acting = Acting(asking, who, once)
        act, content = files.act_of_file(file, name, media_type)
        _show(acting, acts.Attach, files.attach(acting, case_id, act, content))


@_act(acts.Defer)
def defer(
    *,
    owner: Annotated[str, typer.Option(metavar="ID", help="Who keeps an eye on it.")],
    review_at: Annotated[
        datetime,
        typer.Option(metavar="TIME", parser=instant_of, help=f"When to look again, in Shanghai: {INSTANT_FORM}."),
    ],
    condition: Annotated[str, typer.Option(metavar="TEXT", help="What must be so before it can be met; private.")],
) -> Act:
    """Park a case until conditions are ripe 列入待条件成熟, with an owner and a review date (§四(二)1)."""
    return acts.Defer(owner=owner, review_at=review_at, condition=condition)


@_act(acts.Resume)
def resume(*, note: Remark = "") -> Act:
    """Take a deferred case up again 恢复办理."""
    return acts.Resume(note=note)


@_act(acts.SendToReconsideration)
def reconsideration(
    *,
    reference: Annotated[
        str, typer.Option(metavar="REF", help="Its number on the legal track, at most 64 characters.")
    ],
) -> Act:
    """Hand a case to administrative reconsideration 转行政复议; it leaves this track (§四(二)1)."""
    return acts.SendToReconsideration(reference=reference)


@_act(acts.Withdraw)
def withdraw(*, reason: Reason = "") -> Act:
    """Close a case that the taxpayer withdraws 纳税人撤回."""
    return acts.Withdraw(reason=reason)


# ---------------------------------------------------------------- 反馈, 回访, 销号 (§四(三), §四(四), §五(三))


@_act(acts.GiveFeedback)
def feedback(
    *,
    told: Told,
    by: Annotated[
        Channel,
        typer.Option(metavar="WORD", parser=word_parser(Channel), help=f"How the taxpayer was told: {names(Channel)}."),
    ] = Channel.HOTLINE,
) -> Act:
    """Give feedback 反馈 to the taxpayer, and to tax service in the same act, within 1 working day (§四(三))."""
    return acts.GiveFeedback(told_by=by, told=told)


@_act(acts.FollowUp)
def follow_up(
    *,
    satisfaction: Annotated[
        Satisfaction,
        typer.Option(metavar="WORD", parser=word_parser(Satisfaction), help=f"满意度: {names(Satisfaction)}."),
    ],
    remark: Remark = "",
) -> Act:
    """Record a call back 回访; by tax service, not by the one who handled the case (§四(四))."""
    return acts.FollowUp(satisfaction=satisfaction, remark=remark)


@_act(acts.Reopen)
def reopen(*, reason: Reason) -> Act:
    """Take a case up again after feedback 重新办理; 5 working days begin (§四(四))."""
    return acts.Reopen(reason=reason)


@_act(acts.AskOverride)
def ask_override(
    *,
    reason: Reason,
    override: Annotated[
        Override, typer.Option("--of", metavar="WORD", parser=word_parser(Override), help=f"{names(Override)}.")
    ] = Override.LEDGERS_DISAGREE,
) -> Act:
    """Ask for a rule to be set aside for this case 申请特批; a leader decides, who is somebody else."""
    return acts.AskOverride(override=override, reason=reason)


@_act(acts.ApproveOverride)
def approve_override(*, note: Remark = "") -> Act:
    """Approve an override 批准特批, not by the one who asked for it."""
    return acts.ApproveOverride(note=note)


@_act(acts.RefuseOverride)
def refuse_override(*, reason: Reason) -> Act:
    """Refuse an override 不批准特批."""
    return acts.RefuseOverride(reason=reason)


@app.command("write-off")
@takes(who=who_options, once=acting_options, asking=asking_options)
def write_off(
    *,
    case_id: Annotated[str, typer.Argument(metavar="[CASE]", help="The case's number; none with --all-ready.")] = "",
    all_ready: Annotated[
        bool,
        typer.Option(
            "--all-ready",
            help="Every case whose work is done: followed up, or without a follow-up to come; concluded elsewhere, "
            "withdrawn, sent to reconsideration. Each that is refused is named with the reason.",
        ),
    ] = False,
    before: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=instant_of, help=f"With --all-ready: registered before, {INSTANT_FORM}."),
    ] = None,
    note: Remark = "",
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Write a case off 销号, or all that are ready, once every ledger on its way agrees (§五(三))."""
    with failures_shown(as_json=asking.as_json):
        if bool(case_id) == all_ready or (before is not None and not all_ready):
            raise Failed(
                Both("Name one case, or ask for --all-ready.", "请填写一个诉求编号，或者使用 --all-ready。"),
                field="CASE",
                rule="OneOrAll",
            )
        if not all_ready:
            _perform(Acting(asking, who, once), case_id, acts.WriteOff(note=note))
            return
        from kx.ready import show_written_off, write_off_ready

        outcome = write_off_ready(asking, who, before, note)
        if asking.as_json:
            print_json(outcome.as_dict())
        else:
            show_written_off(outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


# ---------------------------------------------------------------- 分级办理 (§四(二)3)


@_act(acts.Refer)
def refer(
    *,
    to: Annotated[
        str, typer.Option(metavar="CODE", help="The bureau that is to handle it, six digits; any of the tree.")
    ],
    reason: Reason,
    telling: ToldIfNeeded = None,
    told: Told = "",
) -> Act:
    """Refer a case to another bureau 移交: down, up, or across by way of the superiors between (§四(二)3)."""
    return acts.Refer(final_bureau=to, reason=reason, telling=telling, told=told)


@app.command("hand-over")
@takes(who=who_options, asking=asking_options)
def hand_over(
    *,
    to: Annotated[str, typer.Option(metavar="CODE", help="The bureau that carries on, six digits.")],
    reason: Reason,
    told: Told = "",
    who: Who,
    asking: Asking,
) -> None:
    """Refer every open case of the bureau to its successor 撤并移交, case by case; given again, it takes what is new.

    Each that is refused is named with the reason; what was answered already stays to be followed up and written off.
    """
    from kx.handing_over import hand_over as hand_all_over
    from kx.handing_over import show_handed_over

    with failures_shown(as_json=asking.as_json):
        outcome = hand_all_over(asking, who, to, reason, told)
        if asking.as_json:
            print_json(outcome.as_dict())
        else:
            show_handed_over(outcome, to)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command("escalate")
@takes(who=who_options, once=acting_options, asking=asking_options)
def escalate(
    *,
    case_id: CaseId,
    reason: Reason,
    to: Annotated[
        str, typer.Option(metavar="CODE", help="Which superior, six digits; the direct one when left out.")
    ] = "",
    telling: ToldIfNeeded = None,
    told: Told = "",
    who: Who,
    once: Once,
    asking: Asking,
) -> None:
    """Escalate a case to the superior bureau 上报上级 (§四(二)3)."""
    with failures_shown(as_json=asking.as_json):
        superior = to or _superior_of(asking)
        if to:
            _check_superior(asking, to)
        act = acts.Refer(final_bureau=superior, reason=reason, telling=telling, told=told)
        _perform(Acting(asking, who, once), case_id, act)


def _superior_of(asking: Asking) -> str:
    try:
        superior = asking.tree().parent(asking.bureau)
    except UnknownBureau as unknown:
        remedy = Both(
            "Name the tree of this federation by --tree or KX_TREE, or the superior by --to.",
            "请用 --tree 或 KX_TREE 指定机构树，或者用 --to 指定上级单位。",
        )
        said = Both(f"{unknown}.", f"机构树中没有单位 {asking.bureau}。")
        raise Failed(said, field="--bureau", rule="UnknownBureau", remedy=remedy) from unknown
    if superior is None:
        raise Failed(
            Both(f"Bureau {asking.bureau} has no superior.", f"单位 {asking.bureau} 没有上级。"),
            field="--to",
            rule="NoSuperior",
            remedy=Both(
                "Use `kx case refer` for the bureau that is to handle it.", "请用 kx case refer 移交应办理的单位。"
            ),
        )
    return superior


def _check_superior(asking: Asking, to: str) -> None:
    try:
        relation = asking.tree().relation(asking.bureau, to)
    except UnknownBureau:
        # The node's own tree decides: the one here may be another edition.
        return
    if relation not in ADJACENT_ABOVE:
        raise Failed(
            Both(f"Bureau {to} is no superior of {asking.bureau}.", f"单位 {to} 不是单位 {asking.bureau} 的上级。"),
            field="--to",
            rule="NotASuperior",
            remedy=Both(
                "Use `kx case refer` for a bureau that is not a superior.", "移交非上级单位请用 kx case refer。"
            ),
        )


@_act(acts.Return)
def return_case(*, reason: Reason) -> Act:
    """Return a referred case 退回 to the bureau that referred it (§四(二)3)."""
    return acts.Return(reason=reason)


@_act(acts.AskRuling)
def ask_ruling(*, reason: Reason) -> Act:
    """Ask the lowest common superior to rule who handles a case that was sent back too often 提请裁定 (§二(四))."""
    return acts.AskRuling(reason=reason)


@_act(acts.Rule)
def rule(
    *,
    to: Annotated[str, typer.Option(metavar="CODE", help="Who handles it: this bureau, or one under it.")],
    reason: Reason,
) -> Act:
    """Rule who handles a case that bureaus under this one sent to and fro 裁定; it binds (§二(四))."""
    return acts.Rule(final_bureau=to, reason=reason)


@_act(acts.WithdrawOffer)
def withdraw_offer(*, reason: Reason = "") -> Act:
    """Ask for a referral that is not decided yet to be taken back 收回移交; the receiver's decision stands."""
    return acts.WithdrawOffer(reason=reason)


# ---------------------------------------------------------------- reading


@app.command("show")
@takes(reader=reader_options, asking=asking_options)
def show(
    *,
    case_id: CaseId,
    masked: Annotated[
        bool,
        typer.Option(
            "--masked",
            help="Also the taxpayer, the text and what was written; names, numbers and contacts masked 脱敏.",
        ),
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="The same in clear 明文, for roles that call taxpayers; each reading is recorded."
        ),
    ] = False,
    reader: Reader,
    asking: Asking,
) -> None:
    """Show a case: where it stands, its deadlines in working days, its history, and who read what is private of it.

    What is private is shown to an officer of the bureau, who is named as for an act.
    """
    from kx.client import ask
    from kx.directives import issue_of
    from kx.views import show_case, show_issue

    with failures_shown(as_json=asking.as_json):
        from kuaixiang.wire.v1 import case_pb2

        words: dict[str, Any] = {"private": 0, "role": int(reader.role or 0)}
        if masked or private:
            words["private"] = int(Disclosure.FULL if private else Disclosure.MASKED)
        request = case_pb2.GetCaseRequest(
            bureau=asking.bureau,
            case_id=case_id,
            include_history=True,
            actor=reader.actor,
            department=reader.department,
            **words,
        )
        response = ask(asking, "CaseService", "GetCase", request)
        issue = issue_of(asking, response.case.issue_id) if response.case.issue_id else None
        if asking.as_json:
            print_json({**table_of(response), "issue": table_of(issue.issue) if issue is not None else None})
        else:
            show_case(asking, response)
            if issue is not None:
                show_issue(issue)


@app.command("attachments")
@takes(officer=officer_options, asking=asking_options)
def attachments(*, case_id: CaseId, officer: Who, asking: Asking) -> None:
    """List the files of a case 附件, each with the digest that it is fetched by; contacts in their names are masked."""
    from kx import files
    from kx.views import show_attachments

    with failures_shown(as_json=asking.as_json):
        found = files.attachments(asking, officer, case_id)
        if asking.as_json:
            print_json({"attachments": [table_of(one) for one in found]})
        else:
            show_attachments(found)


@app.command("fetch")
@takes(officer=officer_options, asking=asking_options)
def fetch(
    *,
    case_id: CaseId,
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="Which file: its digest, or the first 6 characters of it or more.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to write it; in a folder it gets its own name, cleaned.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    officer: Who,
    asking: Asking,
) -> None:
    """Fetch a file of a case; it is written only when all of it has come and has its digest.

    For roles that call taxpayers; each reading is recorded.
    """
    from kx import files

    with failures_shown(as_json=asking.as_json):
        wanted = files.chosen(files.attachments(asking, officer, case_id), case_id, digest)
        written = files.fetch(asking, officer, case_id, wanted, out, force=force)
        if asking.as_json:
            print_json({**table_of(wanted), "file": str(written)})
        else:
            typer.echo(f"{written}  {wanted.size_bytes} bytes  {wanted.media_type}")


@app.command("list")
@takes(asking=asking_options)
def list_cases(
    *,
    stage: Annotated[
        list[Stage] | None,
        typer.Option(
            metavar="WORD", parser=word_parser(Stage), help=f"At this stage; repeat for several: {names(Stage)}."
        ),
    ] = None,
    tab: Annotated[
        WorkTab,
        typer.Option(
            metavar="WORD", parser=word_parser(WorkTab), help=f"Which part of the work list: {names(WorkTab)}."
        ),
    ] = WorkTab.ALL,
    search: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="Only those with all of these words in one entry: text, taxpayer, numbers, a note. The newest first.",
        ),
    ] = "",
    brief: Annotated[
        bool, typer.Option("--brief", help="Also the taxpayer and the beginning of the text, both masked.")
    ] = False,
    custody: Annotated[
        list[Custody] | None,
        typer.Option(metavar="WORD", parser=word_parser(Custody), help=f"Repeat for several: {names(Custody)}."),
    ] = None,
    with_department: Annotated[
        str, typer.Option("--with", metavar="CODE", help="With this department of the bureau.")
    ] = "",
    category: Annotated[
        Category | None, typer.Option(metavar="WORD", parser=word_parser(Category), help=f"{names(Category)}.")
    ] = None,
    channel: Annotated[
        Channel | None, typer.Option(metavar="WORD", parser=word_parser(Channel), help=f"{names(Channel)}.")
    ] = None,
    clock: Annotated[
        ClockKind | None,
        typer.Option(metavar="WORD", parser=word_parser(ClockKind), help=f"Whose next deadline is {names(ClockKind)}."),
    ] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those with a passed deadline 逾期.")] = False,
    due_soon: Annotated[
        bool, typer.Option("--due-soon", help="Only those whose next deadline is due within a working day 临期.")
    ] = False,
    archived: Annotated[
        bool, typer.Option("--archived", help="Those in the archive of closed years 已归档, instead of the others.")
    ] = False,
    provisional: Annotated[
        bool, typer.Option("--provisional", help="Only those with a deadline beyond the published calendar 暂定.")
    ] = False,
    registered_from: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=instant_of, help=f"Registered at or after, in Shanghai: {INSTANT_FORM}."),
    ] = None,
    registered_before: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=instant_of, help=f"Registered before, in Shanghai: {INSTANT_FORM}."),
    ] = None,
    page_size: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Cases a page.")] = 50,
    page: Annotated[
        str, typer.Option(metavar="TOKEN", help="Which page: the token that the page before ended with.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All pages, one after the other.")] = False,
    asking: Asking,
) -> None:
    """List the bureau's cases 台账, nearest deadline first, in pages; what a search finds, newest first."""
    from kuaixiang.wire.codec import timestamp
    from kuaixiang.wire.v1 import case_pb2
    from kx.client import ask
    from kx.views import show_list

    with failures_shown(as_json=asking.as_json):
        words: dict[str, Any] = {
            "stages": [int(one) for one in stage or ()],
            "custodies": [int(one) for one in custody or ()],
            "category": int(category or 0),
            "channel": int(channel or 0),
            "next_clock": int(clock or 0),
            "tab": int(tab),
        }
        request = case_pb2.ListCasesRequest(
            search=search,
            include_brief=brief,
            bureau=asking.bureau,
            department=with_department,
            overdue=overdue,
            due_soon=due_soon,
            archived=archived,
            provisional=provisional,
            page_size=page_size,
            page_token=page,
            **words,
        )
        if registered_from is not None:
            request.registered_from.CopyFrom(timestamp(registered_from))
        if registered_before is not None:
            request.registered_before.CopyFrom(timestamp(registered_before))
        response = ask(asking, "CaseService", "ListCases", request)
        cases, briefs = list(response.cases), list(response.briefs)
        with Bar("Reading the ledger", None) as bar:
            while everything and response.next_page_token:
                request.page_token = response.next_page_token
                response = ask(asking, "CaseService", "ListCases", request)
                cases += response.cases
                briefs += response.briefs
                bar.reached(len(cases))
        if asking.as_json:
            shown = {"briefs": [table_of(one) for one in briefs]} if brief else {}
            listed = [table_of(one) for one in cases]
            print_json({"cases": listed, **shown, "next_page_token": response.next_page_token})
        else:
            show_list(asking, cases, briefs, response.next_page_token)


@app.command("count")
@takes(asking=asking_options)
def count_work(
    *,
    with_department: Annotated[
        str, typer.Option("--with", metavar="CODE", help="With this department of the bureau.")
    ] = "",
    asking: Asking,
) -> None:
    """Count the cases of each part of the work list 待办数量, to 999."""
    from kuaixiang.wire.v1 import case_pb2
    from kx.client import ask
    from kx.views import show_counts

    with failures_shown(as_json=asking.as_json):
        request = case_pb2.CountWorkRequest(bureau=asking.bureau, department=with_department)
        response = ask(asking, "CaseService", "CountWork", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_counts(asking, response)


@app.command("watch")
@takes(asking=asking_options)
def watch(
    *,
    from_seq: Annotated[
        int, typer.Option(metavar="SEQ", min=0, help="First journal position wanted; 0: what happens from now on.")
    ] = 0,
    count: Annotated[int, typer.Option(metavar="N", min=0, help="End after so many changes; 0 does not end.")] = 0,
    asking: Asking,
) -> None:
    """Watch the bureau's ledger change, live; Ctrl-C ends it. With --json one object a line."""
    from kx.client import follow
    from kx.views import show_change

    with failures_shown(as_json=asking.as_json):
        try:
            follow(
                asking,
                from_seq,
                count,
                lambda change: print_json(table_of(change)) if asking.as_json else show_change(asking, change),
            )
        except KeyboardInterrupt:
            return


@app.command("track")
@takes(asking=asking_options)
def track(*, case_id: CaseId, asking: Asking) -> None:
    """Follow a case along its referrals to the bureau that is responsible for it now."""
    from kuaixiang.wire.v1 import referral_pb2
    from kx.client import ask
    from kx.views import show_track

    with failures_shown(as_json=asking.as_json):
        request = referral_pb2.TrackRequest(bureau=asking.bureau, case_id=case_id)
        response = ask(asking, "ReferralService", "Track", request)
        if asking.as_json:
            print_json(table_of(response))
        else:
            show_track(asking, response)


@app.command("receipts")
@takes(asking=asking_options)
def receipts(*, case_id: CaseId, asking: Asking) -> None:
    """Show the receipts of a case's hand-overs 移交凭证, each held to the signatures of both bureaus on it.

    Ends with 1 when one of them does not prove its hand-over.
    """
    from kuaixiang.runtime import signing
    from kuaixiang.runtime.clock import SystemClock
    from kuaixiang.runtime.pki import CertificatePaths
    from kuaixiang.wire.v1 import referral_pb2
    from kx.client import ask
    from kx.views import proven_receipts, show_receipts

    def check(payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        made = signing.Signature(signature.certificate_der, signature.value)
        authority = CertificatePaths.in_folder(asking.certificates).ca.read_bytes()
        try:
            signing.verify(payload, made, bureau, authority, SystemClock().now())
        except signing.CertificateNotValid as expired:
            # It was signed before; a receipt proves a hand-over for longer than a certificate lasts.
            signing.verify(payload, made, bureau, authority, expired.ends)

    with failures_shown(as_json=asking.as_json):
        request = referral_pb2.ListReceiptsRequest(bureau=asking.bureau, case_id=case_id)
        response: referral_pb2.ListReceiptsResponse = ask(asking, "ReferralService", "ListReceipts", request)
        proven = proven_receipts(response.receipts, check)
        if asking.as_json:
            print_json({"receipts": proven})
        else:
            show_receipts(asking, proven)
    if any(one["unproven"] for one in proven):
        raise typer.Exit(DIFFERENT_EXIT_CODE)


@app.command("import")
@takes(who=who_options, asking=asking_options)
def import_cases(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="CSV or XLSX, one case a row.")
    ],
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            exists=True,
            dir_okay=False,
            help="Which columns and words mean what; docs/LEDGER.md describes it. Not needed for our own headings.",
        ),
    ] = None,
    finished: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            parser=choice_of("skip", "answer"),
            help="Rows that the old ledger has finished: skip them, or register them as answered on the spot with "
            "the reply it records.",
        ),
    ] = "skip",
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Goes before old numbers that begin anew each year, such as 2025-; the same again."
        ),
    ] = "",
    sheet: Annotated[
        str, typer.Option(metavar="NAME", help="Which sheet of a workbook, where several have content.")
    ] = "",
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="Of a CSV: utf-8 or gb18030; found out when left out.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the rules say of each row; nothing is registered.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write what became of each row to this file.")
    ] = None,
    who: Who,
    asking: Asking,
) -> None:
    """Register the cases of a table 批量登记、台账导入: a file of new cases, or a ledger kept elsewhere so far.

    The same table again registers nothing twice: a row is known by its old number 编号, else by what it says. A row
    accepted too long ago to be dated back is registered now: its clocks run from now, and when it was accepted stands
    in the registration's note. The columns are those of `kx case export`, or taxpayer_name 纳税人名称, contact
    联系方式, text 诉求内容, category 类别, channel 渠道, and if wanted taxpayer_number 统一社会信用代码,
    channel_reference 渠道编号, place 行政区划, accepted_at 受理时间, answer 当场答复; any others by --mapping.
    """
    from kx.bulk import Finished, Source, read_rows, register_rows, try_rows, write_report
    from kx.mapping import load_mapping
    from kx.views import show_bulk

    with failures_shown(as_json=asking.as_json):
        source = Source(
            file=file,
            mapping=load_mapping(mapping),
            encoding=encoding,
            sheet=sheet,
            prefix=prefix,
            finished=Finished(finished),
        )
        rows = read_rows(source, Acting(asking, who, Once()))
        outcome = try_rows(asking, rows) if dry_run else register_rows(asking, rows)
        if report is not None:
            write_report(report, outcome)
        if asking.as_json:
            print_json(outcome.as_dict())
        else:
            show_bulk(outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command("export")
@takes(officer=officer_options, asking=asking_options)
def export_cases(
    *,
    out: Annotated[
        Path, typer.Option(metavar="FILE", dir_okay=False, help="Where to: a name that ends with .xlsx or .csv.")
    ],
    from_day: Annotated[
        date | None,
        typer.Option("--from", metavar="DAY", parser=day_of, help="Accepted on this day or later: YYYY-MM-DD."),
    ] = None,
    to_day: Annotated[
        date | None, typer.Option("--to", metavar="DAY", parser=day_of, help="Accepted on this day or earlier.")
    ] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only cases that are not written off 未销号.")] = False,
    officer: Who,
    asking: Asking,
) -> None:
    """Export the bureau's ledger 台账导出 with the notice's columns, in the order of acceptance (§四(一), §五(三)).

    Names, numbers and contacts are masked, contacts in the texts too, unless the role calls taxpayers: registrar
    受理人, tax-service 纳税服务部门, handler 承办人; then the export is recorded in the journal. Who exported how many
    cases stands in the node's log.
    """
    from kx.ledger import export
    from node.channels.ledger_table import Period

    with failures_shown(as_json=asking.as_json):
        exported = export(asking, officer, Period(from_day, to_day), out, open_only=open_only)
        told = {"cases": exported.cases, "contacts_masked": exported.masked, "file": str(out)}
        masked = "; names and contacts are masked 纳税人名称和联系方式已脱敏" if exported.masked else ""
        if asking.as_json:
            print_json(told)
        else:
            typer.echo(f"{exported.cases} case(s) of {asking.bureau_name(asking.bureau)} in {out}{masked}.")
