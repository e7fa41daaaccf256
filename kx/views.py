"""How cases and supervision orders look on a terminal."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from enum import IntEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import last_day
from kuaixiang.domain.labels import EVENTS, term
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockKind,
    Custody,
    DepartmentKind,
    DirectiveKind,
    DuplicateReason,
    LedgerFinding,
    Light,
    OrderLevel,
    OrderStage,
    Role,
    Satisfaction,
    Stage,
    WorkTab,
)
from kuaixiang.runtime.clock import from_micros
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2, common_pb2, cosign_pb2, directive_pb2, referral_pb2, supervision_pb2
from kx.options import Asking
from kx.output import both, day_text, local, show_failure, wide

if TYPE_CHECKING:
    from kx.bulk import Outcome

ROWS_LISTED_MAX: Final = 50
"""Registered rows named one by one; of more there is a count, and --report."""
COLUMNS_MIN: Final = {
    "case": len("110101-2026-0000001"),
    "order 督办单": len("110000-2026-D000001"),
    "registered": len("2026-10-12"),
    "with": len("tax-service"),
}
"""What is there to be copied or is one word stays whole on a terminal of 80 columns; the other columns give way."""


def word(kind: type[IntEnum], number: int) -> str:
    """A word of a message in both languages; `-` for none, the number of one that this version does not know."""
    if not number:
        return "-"
    return both(kind(number)) if number in {int(one) for one in kind} else f"#{number}"


def light(clock: case_pb2.Clock) -> Text:
    """A clock's light: in time, due within a working day, overdue; extended and provisional beside it."""
    shown = Text()
    if clock.overdue:
        shown.append("overdue 逾期", "bold red")
    elif clock.due_soon:
        shown.append("due within 1 wd 临期", "yellow")
    else:
        shown.append("in time 期内", "green")
    if clock.extended:
        shown.append(" · extended 已延期", "cyan")
    if clock.provisional:
        shown.append(f" · provisional 暂定, beyond the calendar {clock.calendar_version}", "magenta")
    return shown


def due(clock: case_pb2.Clock) -> str:
    """The last day of a clock. It ends at 24:00 of that day, which no ordinary clock shows."""
    return f"{day_text(last_day(instant(clock.due_at)))} 24:00"


def clock_line(clock: case_pb2.Clock) -> Text:
    """A clock in one line."""
    of = f" ({clock.department})" if clock.department else ""
    line = Text(f"{term(ClockKind(clock.kind))}{of} by {due(clock)} ")
    return line.append_text(light(clock))


def show_done(asking: Asking, act: type[Act], response: case_pb2.ActResponse) -> None:
    """What became of the case."""
    case = response.case
    console = _console()
    line = Text("✓ ", "green")
    line.append(case.case_id, "bold").append(f"  {word(Stage, case.stage)}")
    if Custody(case.custody) is not Custody.OWNED:
        line.append(f"  {word(Custody, case.custody)}")
        if case.with_bureau not in {"", case.bureau}:
            line.append(f" → {asking.bureau_name(case.with_bureau)}")
    if response.repeated_request:
        line.append("  (done before under the same key or channel number)", "yellow")
    console.print(line, soft_wrap=True)
    # Joint handling has a deadline for each department: an act of one of them shows in no other one's.
    shown = case.clocks if int(case.stage) == Stage.JOINT_HANDLING else case.clocks[:1]
    for clock in shown:
        console.print(Text("  ").append_text(clock_line(clock)), soft_wrap=True)
    if case.extension_pending:
        console.print("  extension asked for, not decided 延期待批准", style="yellow")
    if case.competent_bureau and case.competent_bureau != case.bureau and act.__name__ == "Register":
        console.print(
            f"  The taxpayer seems to belong to {asking.bureau_name(case.competent_bureau)} (属地管理): "
            f"kx case refer {case.case_id} --to {case.competent_bureau}",
            style="cyan",
            markup=False,
            soft_wrap=True,  # the command is there to be copied
        )


def show_case(asking: Asking, response: case_pb2.GetCaseResponse) -> None:
    """A case, its clocks, its private part where it came, its history."""
    case = response.case
    console = _console()
    table = _facts()
    for label, value in _facts_of(asking, case):
        if value:
            table.add_row(label, escape(value))
    console.print(table)
    if response.HasField("progress"):
        console.print(progress_line(asking, response.progress), soft_wrap=True)
    if case.clocks:
        clocks = _table("clock 时限", "department", "started", "limit", "due", "light", right=("limit",))
        for clock in case.clocks:
            clocks.add_row(
                word(ClockKind, clock.kind),
                clock.department or "-",
                _at(clock.started_at),
                f"{clock.limit_workdays} wd",
                due(clock),
                light(clock),
            )
        console.print(clocks)
    if response.HasField("private_view"):
        private = _facts()
        for label, value in (
            ("taxpayer 纳税人", response.private_view.taxpayer_name),
            ("number 信用代码", response.private_view.taxpayer_number),
            ("contact 联系方式", response.private_view.contact),
            ("place 行政区划", response.private_view.place),
            ("channel's number", response.private_view.channel_reference),
            ("text 诉求和意见", response.private_view.text),
        ):
            if value:
                private.add_row(label, escape(value))
        console.print(private)
        if response.private_view.attachments:
            show_attachments(response.private_view.attachments)
    if response.history:
        show_history(asking, response.history)


def show_attachments(files: Iterable[common_pb2.Attachment]) -> None:
    """The files of a case."""
    table = _table("attachment 附件", "type", "bytes", "digest", right=("bytes",))
    for file in files:
        table.add_row(escape(file.name), escape(file.media_type), f"{file.size_bytes:,}", file.digest)
    _console().print(table)


def progress_line(asking: Asking, progress: case_pb2.CaseProgress) -> Text:
    """How a case goes at the bureau that has it, as this one has heard."""
    line = Text("last heard 最新进展  ", "dim")
    line.append(asking.bureau_name(progress.bureau), "bold not dim")
    line.append(f"  {word(Stage, progress.stage)}  {_at(progress.occurred_at)}", "not dim")
    if progress.department_kind:
        line.append(f"  {word(DepartmentKind, progress.department_kind)}", "not dim")
    if progress.HasField("next_due_at"):
        day = day_text(last_day(instant(progress.next_due_at)))
        line.append(f"  {word(ClockKind, progress.next_clock)} by {day}", "not dim")
        if progress.overdue:
            line.append("  overdue 逾期", "bold red not dim")
    return line


def show_issue(response: directive_pb2.GetPublishedIssueResponse) -> None:
    """A confirmed common issue and its standard answer."""
    table = _facts()
    for label, value in (
        ("issue 共性诉求", response.issue.issue_id),
        ("title 标题", response.issue.title),
        ("owner 负责", response.issue.owner),
        ("published 发布", local(from_micros(response.published_at_us))),
        ("answer 统一答复口径", response.issue.standard_answer),
    ):
        table.add_row(label, escape(value))
    _console().print(table)


def show_directives(asking: Asking, directives: Sequence[directive_pb2.Directive]) -> None:
    """What headquarters has published, as a bureau's node knows it."""
    table = _table("published", "what", "version, number", "title")
    for one in directives:
        kind = int(one.kind)
        table.add_row(
            local(from_micros(one.published_at_us)),
            word(DirectiveKind, kind),
            one.calendar_version or one.tree_version or one.subject,
            escape(one.issue.title),
        )
    _console().print(table)
    _console().print(
        f"{len(directives)} directive(s) at the node of {asking.bureau_name(asking.bureau)}.", markup=False
    )


def _facts_of(asking: Asking, case: case_pb2.Case) -> list[tuple[str, str]]:
    elsewhere = case.with_bureau and case.with_bureau != case.bureau
    return [
        ("case", case.case_id),
        ("ledger 台账", asking.bureau_name(case.bureau)),
        ("stage", word(Stage, case.stage)),
        ("custody", word(Custody, case.custody)),
        ("with", asking.bureau_name(case.with_bureau) if elsewhere else ""),
        ("department", case.department),
        ("category", word(Category, case.category)),
        ("channel", word(Channel, case.channel)),
        ("registered", f"{_at(case.registered_at)} by {asking.bureau_name(case.origin_bureau)}"),
        ("end to end", f"{case.end_to_end_milli_workdays / 1000:.2f} wd"),
        ("told 告知", "yes" if case.told else "not yet"),
        ("belongs to", asking.bureau_name(case.competent_bureau) if case.competent_bureau else ""),
        ("extension", "asked for, not decided 待批准" if case.extension_pending else ""),
        ("open parts", ", ".join(case.open_parts)),
        ("satisfaction", word(Satisfaction, case.satisfaction) if case.satisfaction else ""),
        ("bounces", str(case.bounces) if case.bounces else ""),
        ("linked to 并案", case.lead_case_id),
        ("common issue", case.issue_id),
        ("sent back", f"{case.returns} times" if case.returns else ""),
        ("ruled by 裁定", asking.bureau_name(case.ruled_by) if case.ruled_by else ""),
        ("to explain 延期告知", ", ".join(case.extensions_to_explain)),
        ("override 特批", "asked for, not decided" if case.override_pending else ""),
        ("reopened", f"{case.round} times" if case.round else ""),
        ("not told yet", ", ".join(map(asking.bureau_name, case.awaiting_acknowledgement))),
        ("mismatch 对账不符", ", ".join(map(asking.bureau_name, case.mismatched_with))),
        ("archive 归档", "in the archive of closed years 已归档" if case.archived else ""),
        ("version", str(case.version)),
    ]


def show_history(asking: Asking, history: Sequence[case_pb2.HistoryItem]) -> None:
    """The case's history, first to last."""
    table = _table("when 时间", "what", "stage after", "who", "bureau", "written")
    last_stage = -1
    for item in history:
        # A reading has no stage: it leaves the case where it was.
        stage = word(Stage, item.stage) if item.stage not in {0, last_stage} else ""
        last_stage = int(item.stage) or last_stage
        late = instant(item.recorded_at) - instant(item.occurred_at) > timedelta(minutes=1)
        when = Text(_at(item.occurred_at))
        if late:
            when.append(f"\nrecorded {_at(item.recorded_at)}", "dim")
        table.add_row(
            when,
            event(item.event),
            stage,
            _who(item),
            item.other_bureau and asking.bureau_name(item.other_bureau),
            escape(item.note),
        )
    _console().print(table)


def _who(item: case_pb2.HistoryItem | supervision_pb2.OrderHistoryItem) -> str:
    if Role(item.role) is Role.SYSTEM:
        return "system"
    return escape(f"{item.actor} {term(Role(item.role))} {item.department}".strip())


def event(name: str) -> str:
    """An event in both languages."""
    return f"{name.replace('_', '-')} {EVENTS.get(name, '')}".strip()


def show_list(asking: Asking, cases: Sequence[case_pb2.Case], briefs: Sequence[case_pb2.Brief], next_page: str) -> None:
    """A page of the ledger; with what each case is about, where there are briefs."""
    table = _table("case", "stage, category", "registered", "with", "next deadline", *(["about"] if briefs else []))
    for case, about in zip_longest(cases, briefs):
        elsewhere = case.with_bureau and case.with_bureau != case.bureau
        where = asking.bureau_name(case.with_bureau) if elsewhere else case.department
        nearest = case.clocks[0] if case.clocks else None
        table.add_row(
            case.case_id,
            f"{word(Stage, case.stage)}\n{word(Category, case.category)}",
            _at(case.registered_at),
            where,
            Text(f"{term(ClockKind(nearest.kind))} {due(nearest)}\n").append_text(light(nearest)) if nearest else "-",
            *([Text(f"{about.taxpayer}\n{about.text}")] if about else []),
        )
    console = _console()
    console.print(table)
    console.print(f"{len(cases)} case(s) of {asking.bureau_name(asking.bureau)}.")
    if next_page:
        console.print(f"More: --page {next_page}, or --all.", soft_wrap=True)


def show_counts(asking: Asking, response: case_pb2.CountWorkResponse) -> None:
    """How many cases each part of the work list has."""
    table = _table("work", "cases")
    for count in response.counts:
        table.add_row(word(WorkTab, count.tab), f"{count.count}{'+' * count.more}")
    console = _console()
    console.print(table)
    console.print(f"Cases of {asking.bureau_name(asking.bureau)}.")


def show_change(asking: Asking, change: case_pb2.WatchCasesResponse) -> None:
    """One change of the ledger, one line."""
    line = Text(f"{_at(change.occurred_at, seconds=True)}  #{change.seq}  ", "dim")
    line.append(change.case_id, "bold not dim").append(f"  {event(change.event)}", "not dim")
    line.append(f"  {word(Stage, change.stage)}  {change.actor}", "not dim")
    if change.other_bureau:
        line.append(f"  {asking.bureau_name(change.other_bureau)}", "not dim")
    _console().print(line, soft_wrap=True)


def show_track(asking: Asking, response: referral_pb2.TrackResponse) -> None:
    """The way of a case through the bureaus."""
    table = _table("bureau", "stage", "custody", "hand-overs", "clock")
    for segment in response.segments:
        clock = clock_line(segment.clocks[0]) if segment.clocks else Text("-")
        table.add_row(
            asking.bureau_name(segment.bureau),
            word(Stage, segment.stage),
            word(Custody, segment.custody),
            str(segment.epoch),
            clock,
        )
    console = _console()
    console.print(table)
    if response.unreachable:
        console.print(
            f"Bureau {asking.bureau_name(response.unreachable)} could not be asked; try again.", style="yellow"
        )
        if response.HasField("progress"):
            console.print(progress_line(asking, response.progress), soft_wrap=True)
    elif response.segments:
        responsible = asking.bureau_name(response.segments[-1].bureau)
        console.print(f"Responsible now: {responsible}.", markup=False)


def show_duplicates(found: case_pb2.FindDuplicatesResponse) -> None:
    """Cases that may be the same as a request, the likeliest first."""
    console = _console()
    if not found.days:
        console.print("This bureau does not compare cases (duplicates_days is 0). 本单位未启用重复比对。")
    elif not found.candidates:
        console.print(f"No case of the last {found.days} days is like it. 未发现疑似重复诉求。")
    else:
        table = _table("case", "stage", "registered", "taxpayer 纳税人", "because 理由", "alike", right=("alike",))
        for one in found.candidates:
            table.add_row(
                one.case_id,
                word(Stage, one.stage),
                _at(one.registered_at),
                escape(one.taxpayer),
                "\n".join(word(DuplicateReason, reason) for reason in one.reasons),
                f"{one.similarity:.0%}" if one.similarity else "-",
            )
        console.print(table)


def show_bulk(outcome: "Outcome") -> None:
    """What became of each row: those registered while they are few, those refused always."""
    from kx.bulk import RESULTS, Result

    console = _console()
    done = [row for row in outcome.rows if row.case_id]
    if len(done) <= ROWS_LISTED_MAX:
        for row in done:
            again = "  (registered before)" if row.result is Result.REPEATED else ""
            console.print(f"row {row.row}  ✓ {row.case_id}{again}  {row.message}".rstrip(), markup=False)
    refused = [row for row in outcome.rows if row.result is Result.REFUSED]
    if refused:
        table = _table("row", "refused because 原因", "field", "rule", "do 处理办法", right=("row",))
        for row in refused:
            because, remedy = (
                escape("\n".join(filter(None, both_)))
                for both_ in ((row.message, row.message_chinese), (row.remedy, row.remedy_chinese))
            )
            table.add_row(str(row.row), because, row.field, row.rule, remedy)
        console.print(table)
    counts = ", ".join(f"{count} {result} {RESULTS[result]}" for result, count in outcome.counts().items() if count)
    console.print(f"{len(outcome.rows)} rows: {counts}; {outcome.seconds:.1f} s.", markup=False)
    now = sum(bool(row.case_id and row.message) for row in outcome.rows)
    if now:
        console.print(
            f"{now} of them were accepted earlier than may be dated back: their clocks run from now "
            "原受理时间已记入备注，时限自登记时起算.",
            markup=False,
        )
    if outcome.failure is not None:
        show_failure(outcome.failure)


_LATE: Final = "bold red"
_LIGHTS: Final = {Light.IN_TIME: "green", Light.DUE_SOON: "yellow", Light.OVERDUE: _LATE, Light.STOPPED: "dim"}


def show_orders_done(asking: Asking, orders: Sequence[supervision_pb2.Order], *, repeated: bool) -> None:
    """What became of the orders that an act was about."""
    console = _console()
    for order in orders:
        line = Text("✓ ", "green")
        line.append(order.order_id, "bold").append(f"  {word(OrderStage, order.stage)}")
        line.append(f"  {word(OrderLevel, order.level)} → {asking.bureau_name(order.final_bureau)}")
        if repeated:
            line.append("  (done before under the same key)", "yellow")
        console.print(line, soft_wrap=True)
        if order.HasField("clock"):
            console.print(Text("  ").append_text(_answer_line(order)), soft_wrap=True)


def _answer_line(order: supervision_pb2.Order) -> Text:
    line = Text(f"回复 by {due(order.clock)} ")
    return line.append(*(("overdue 逾期", _LATE) if order.clock.overdue else ("awaited 待回复", "green")))


def show_orders(asking: Asking, orders: Sequence[supervision_pb2.Order], next_page: str) -> None:
    """A page of the bureau's orders."""
    table = _table("order 督办单", "level", "from → for", "stage", "cases", "answer 回复", right=("cases",))
    for order in orders:
        answer: Text | str = "-"
        if order.HasField("clock"):
            answer = _answer_line(order)
        elif order.HasField("answered_at"):
            answer = f"{_at(order.answered_at)} {'late 逾期' if order.answered_late else 'in time 按时'}"
        table.add_row(
            order.order_id,
            word(OrderLevel, order.level),
            f"{asking.bureau_name(order.issuer)} → {asking.bureau_name(order.final_bureau)}",
            word(OrderStage, order.stage),
            str(len(order.case_ids)),
            answer,
        )
    console = _console()
    console.print(table)
    console.print(f"{len(orders)} order(s) of {asking.bureau_name(asking.bureau)}.")
    if next_page:
        console.print(f"More: --page {next_page}", soft_wrap=True)


def proven_receipts(
    receipts: Iterable[referral_pb2.Receipt], check: Callable[[bytes, referral_pb2.Signature, str], None]
) -> list[dict[str, Any]]:
    """What receipts prove, and of each that does not prove its hand-over, why."""
    from kuaixiang.runtime.signing import SignatureRefused
    from node.federation.receipts import ReceiptUnproven, prove

    found = []
    for receipt in receipts:
        decision = referral_pb2.Decision.FromString(receipt.decision)
        said, unproven = referral_pb2.HandOver(), ""
        try:
            said, decision = prove(receipt, check)
        except (ReceiptUnproven, SignatureRefused) as why:
            unproven = str(why)
        found.append(
            {
                "referral_id": decision.referral_id,
                "from_bureau": said.from_bureau,
                "to_bureau": decision.bureau,
                "accepted": decision.accepted,
                "generation": decision.generation,
                "seq": decision.seq,
                "hash": decision.hash.hex(),
                "unproven": unproven,
            }
        )
    return found


def show_receipts(asking: Asking, proven: Sequence[dict[str, Any]]) -> None:
    """Receipts, with what they prove."""
    table = _table("hand-over 移交", "from", "to", "decision", "entry", "signed by both 双方签名")
    for one in proven:
        table.add_row(
            one["referral_id"],
            asking.bureau_name(one["from_bureau"]) if one["from_bureau"] else "-",
            asking.bureau_name(one["to_bureau"]),
            "accepted 已接收" if one["accepted"] else "refused 未接收",
            f"{one['generation']}.{one['seq']}",
            Text(one["unproven"], _LATE) if one["unproven"] else Text("yes 是", "green"),
        )
    console = _console()
    console.print(table)
    console.print(f"{len(proven)} receipt(s).", markup=False)


def show_witnessed(asking: Asking, ledgers: Sequence[cosign_pb2.WitnessedLedger]) -> None:
    """The ledgers that the bureau witnesses, and what stands against them."""
    table = _table("bureau", "cosigned up to 已见证至", "generation 世代", "at", "against it 存疑")
    for one in ledgers:
        against: Text | str = "-"
        if one.HasField("doubt"):
            doubt = one.doubt
            against = Text(
                f"{word(LedgerFinding, doubt.finding)}: entry {doubt.known_seq} {doubt.known_hash.hex()[:16]}…, shown "
                f"entry {doubt.told_seq} {doubt.told_hash.hex()[:16]}…, since {_at(doubt.since)}",
                _LATE,
            )
        table.add_row(asking.bureau_name(one.bureau), str(one.seq), str(one.generation), _at(one.cosigned_at), against)
    console = _console()
    console.print(table)
    doubted = sum(one.HasField("doubt") for one in ledgers)
    whose = asking.bureau_name(asking.bureau)
    console.print(f"{len(ledgers)} ledger(s) witnessed by {whose}, {doubted} under doubt.", markup=False)


def show_order(asking: Asking, response: supervision_pb2.GetOrderResponse) -> None:
    """An order with its texts and its history."""
    facts = _facts()
    for label, value in _order_facts(asking, response.order, response.texts):
        if value:
            facts.add_row(label, escape(value))
    table = _table("when 时间", "what", "stage after", "who", "bureau", "written")
    for item in response.history:
        table.add_row(
            _at(item.occurred_at),
            event(item.event),
            word(OrderStage, item.stage),
            _who(item),
            item.other_bureau and asking.bureau_name(item.other_bureau),
            escape(item.note),
        )
    console = _console()
    console.print(facts)
    console.print(table)


def _order_facts(
    asking: Asking, order: supervision_pb2.Order, texts: supervision_pb2.OrderTexts
) -> list[tuple[str, str]]:
    return [
        ("order 督办单", order.order_id),
        ("level 级别", word(OrderLevel, order.level)),
        ("stage 状态", word(OrderStage, order.stage)),
        ("issued 下达", f"{_at(order.issued_at)} by {asking.bureau_name(order.issuer)}"),
        ("for 接收单位", asking.bureau_name(order.final_bureau)),
        ("derived from", order.parent_order_id),
        ("passed on as", ", ".join(order.derived_order_ids)),
        ("cases 诉求", ", ".join(order.case_ids)),
        ("text 督办事项", texts.text),
        ("received 送达", _at(order.received_at) if order.HasField("received_at") else "not known yet"),
        ("signed for 签收", _at(order.acknowledged_at) if order.HasField("acknowledged_at") else ""),
        ("deadline 时限", _answer_line(order).plain if order.HasField("clock") else ""),
        ("answered 回复", _at(order.answered_at) if order.HasField("answered_at") else ""),
        ("", "late 逾期" if order.answered_late else ""),
        ("answer 回复内容", texts.answer),
        ("because 理由", texts.because),
        ("returned 退回", f"{order.round} times" if order.round else ""),
        ("reason 原因", texts.reason),
        ("not told yet", ", ".join(map(asking.bureau_name, order.awaiting_delivery))),
    ]


def show_subordinate_cases(
    asking: Asking, subordinate: str, response: supervision_pb2.ListSubordinateCasesResponse
) -> None:
    """A page of a subordinate's open cases."""
    table = _table("case", "light 时限", "stage", "category", "registered", "next deadline")
    for one in response.cases:
        nearest = one.case.clocks[0] if one.case.clocks else None
        table.add_row(
            one.case.case_id,
            Text(word(Light, one.light), _LIGHTS.get(Light(one.light), "")),
            word(Stage, one.case.stage),
            word(Category, one.case.category),
            _at(one.case.registered_at),
            f"{term(ClockKind(nearest.kind))} {due(nearest)}" if nearest else "-",
        )
    console = _console()
    console.print(table)
    console.print(f"{len(response.cases)} open case(s) of {asking.bureau_name(subordinate)}.")
    if response.next_page_token:
        console.print(f"More: --page {response.next_page_token}", soft_wrap=True)


def _at(stamp: Timestamp, *, seconds: bool = False) -> str:
    return local(instant(stamp), seconds=seconds)


def _console() -> Console:
    return wide(Console(highlight=False))


def _facts() -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def _table(*headings: str, right: Any = ()) -> Table:  # noqa: ANN401 - a few headings
    table = Table()
    for heading in headings:
        width = COLUMNS_MIN.get(heading)
        table.add_column(heading, justify="right" if heading in right else "left", min_width=width, overflow="fold")
    return table
