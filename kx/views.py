"""How cases look on a terminal."""

from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import term
from kuaixiang.domain.words import Category, Channel, ClockKind, Custody, DuplicateReason, Role, Satisfaction, Stage
from kuaixiang.facts import published_calendar
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2, referral_pb2
from kx.bulk import Outcome
from kx.options import Asking
from kx.output import EVENT_TERMS, both, day_text, local, wide

ROWS_LISTED_MAX: Final = 50
"""Registered rows named one by one; of more there is a count, and --report."""
COLUMNS_MIN: Final = {"case": len("110101-2026-0000001"), "registered": len("2026-10-12"), "with": len("tax-service")}
"""What is there to be copied or is one word stays whole on a terminal of 80 columns; the other columns give way."""
_NEARLY_DUE_WORKDAYS: Final = 1.0
_ENDED: Final = frozenset(
    {
        Stage.FED_BACK,
        Stage.FOLLOWED_UP,
        Stage.CONCLUDED,
        Stage.RECONSIDERATION,
        Stage.WITHDRAWN,
        Stage.WRITTEN_OFF,
    }
)
"""Stages whose end-to-end time stands still, so that it no longer tells the present time."""


def word(kind: type[IntEnum], number: int) -> str:
    """A word of a message in both languages; `-` for none, the number of one that this version does not know."""
    if not number:
        return "-"
    return both(kind(number)) if number in {int(one) for one in kind} else f"#{number}"


def light(case: case_pb2.Case | None, clock: case_pb2.Clock) -> Text:
    """A clock's light: in time, due within a working day, overdue; extended and provisional beside it."""
    shown = Text()
    if clock.overdue:
        shown.append("overdue 逾期", "bold red")
    elif case is not None and _remaining_workdays(case, clock) <= _NEARLY_DUE_WORKDAYS:
        shown.append("due within 1 wd 临期", "yellow")
    else:
        shown.append("in time 期内", "green")
    if clock.extended:
        shown.append(" · extended 已延期", "cyan")
    if clock.provisional:
        shown.append(f" · provisional, beyond the calendar {clock.calendar_version}", "magenta")
    return shown


def _remaining_workdays(case: case_pb2.Case, clock: case_pb2.Clock) -> float:
    """Working days left, by the node's own time: its case says how long it has taken up to now."""
    if Stage(case.stage) in _ENDED:
        return float(clock.limit_workdays) + _NEARLY_DUE_WORKDAYS
    whole = published_calendar().elapsed_workdays(instant(case.registered_at), instant(clock.due_at))
    return whole - case.end_to_end_milli_workdays / 1000


def due(clock: case_pb2.Clock) -> str:
    """The last day of a clock. It ends at 24:00 of that day, which no ordinary clock shows."""
    last = instant(clock.due_at) - timedelta(microseconds=1)
    return f"{day_text(last.astimezone(SHANGHAI).date())} 24:00"


def clock_line(case: case_pb2.Case | None, clock: case_pb2.Clock) -> Text:
    """A clock in one line."""
    of = f" ({clock.department})" if clock.department else ""
    line = Text(f"{term(ClockKind(clock.kind))}{of} by {due(clock)} ")
    return line.append_text(light(case, clock))


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
    for clock in case.clocks[:1]:
        console.print(Text("  ").append_text(clock_line(case, clock)), soft_wrap=True)
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
    if case.clocks:
        clocks = _table("clock 时限", "department", "started", "limit", "due", "light", right=("limit",))
        for clock in case.clocks:
            clocks.add_row(
                word(ClockKind, clock.kind),
                clock.department or "-",
                _at(clock.started_at),
                f"{clock.limit_workdays} wd",
                due(clock),
                light(case, clock),
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
    if response.history:
        show_history(asking, response.history)


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
        ("extension", "asked for, not decided" if case.extension_pending else ""),
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
        ("version", str(case.version)),
    ]


def show_history(asking: Asking, history: Sequence[case_pb2.HistoryItem]) -> None:
    """The case's history, first to last."""
    table = _table("when 时间", "what", "stage after", "who", "bureau", "written")
    last_stage = -1
    for item in history:
        stage = word(Stage, item.stage) if item.stage != last_stage else ""
        last_stage = int(item.stage)
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


def _who(item: case_pb2.HistoryItem) -> str:
    if Role(item.role) is Role.SYSTEM:
        return "system"
    return escape(f"{item.actor} {term(Role(item.role))} {item.department}".strip())


def event(name: str) -> str:
    """An event in both languages."""
    return f"{name.replace('_', '-')} {EVENT_TERMS.get(name, '')}".strip()


def show_list(asking: Asking, cases: Sequence[case_pb2.Case], next_page: str) -> None:
    """A page of the ledger."""
    table = _table("case", "stage, category", "registered", "with", "next deadline")
    for case in cases:
        elsewhere = case.with_bureau and case.with_bureau != case.bureau
        where = asking.bureau_name(case.with_bureau) if elsewhere else case.department
        nearest = case.clocks[0] if case.clocks else None
        table.add_row(
            case.case_id,
            f"{word(Stage, case.stage)}\n{word(Category, case.category)}",
            _at(case.registered_at),
            where,
            Text(f"{term(ClockKind(nearest.kind))} {due(nearest)}\n").append_text(light(case, nearest))
            if nearest
            else "-",
        )
    console = _console()
    console.print(table)
    console.print(f"{len(cases)} case(s) of {asking.bureau_name(asking.bureau)}.")
    if next_page:
        console.print(f"More: --page {next_page}, or --all.", soft_wrap=True)


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
        clock = clock_line(None, segment.clocks[0]) if segment.clocks else Text("-")
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


def show_bulk(outcome: Outcome) -> None:
    """What became of each row: those registered while they are few, those refused always."""
    console = _console()
    done = [row for row in outcome.rows if row.case_id]
    if len(done) <= ROWS_LISTED_MAX:
        for row in done:
            again = "  (registered before)" if row.result == "repeated" else ""
            console.print(f"row {row.row}  ✓ {row.case_id}{again}", markup=False)
    refused = [row for row in outcome.rows if row.result == "refused"]
    if refused:
        table = _table("row", "refused because", "field", "rule", "do", right=("row",))
        for row in refused:
            because, remedy = (
                escape("\n".join(filter(None, both_)))
                for both_ in ((row.message, row.message_chinese), (row.remedy, row.remedy_chinese))
            )
            table.add_row(str(row.row), because, row.field, row.rule, remedy)
        console.print(table)
    counts = outcome.counts()
    console.print(
        f"{len(outcome.rows)} rows: {counts['registered']} registered, {counts['repeated']} registered before, "
        f"{counts['refused']} refused, {counts['unanswered']} unanswered; {outcome.seconds:.1f} s."
    )
    if outcome.failure is not None:
        from kx.output import show_failure

        show_failure(outcome.failure)


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
