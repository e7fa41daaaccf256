"""How figures are shown, as tables and as JSON: with their completeness, changes since other periods, and editions."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub.definitions import COUNTS, RATES
from hub.words import BASIS_LABELS, LACK_LABELS, Lack, ground_text
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import term_of
from kuaixiang.domain.tree import short_name
from kuaixiang.domain.words import Category, Channel, ClockKind, DepartmentKind
from kuaixiang.wire.v1 import statistics_pb2 as pb

_COLUMNS: Final = (
    ("登记", ("registered",)),
    ("转办", ("dispatched",)),
    ("办结", ("completed",)),
    ("反馈", ("fed_back",)),
    ("回访", ("followed_up",)),
    ("延期", ("extended",)),
    ("上报", ("referred_up",)),
    ("下转", ("referred_down",)),
    ("跨区", ("referred_across",)),
    ("退回", ("returned_referral", "dispatch_returned")),
    ("销号", ("written_off",)),
)
"""The table's counts: heading, and the facts that are added up in it."""
_SHOWN_RATES: Final = ("on_time", "feedback_in_time", "completion", "follow_up", "satisfaction")
_COMPARED_FACTS: Final = (("登记", "registered"), ("办结", "completed"), ("反馈", "fed_back"), ("回访", "followed_up"))
_COMPARED_COUNTS: Final = ("late", "unfinished")

_YEAR_DIGITS: Final = 4
_LIGHT_COLUMNS: Final = (
    "open 未结",
    "in time 期内",
    "within 1 wd 临期",
    "overdue 逾期",
    "stopped 停止计时",
    "extended 已延期",
)

LABEL_COLUMNS: Final = 12
PADDING_COLUMNS: Final = 3
"""Around a cell: two blanks and a line."""
ANY_COLUMNS: Final = 10_000
"""Wide enough to see how wide a table would like to be."""
OWN: Final = "（本级）"
"""What the label of a superior's own row ends in."""


# ---------------------------------------------------------------- as plain values


def figures_as_dict(answer: pb.GetFiguresResponse) -> dict[str, Any]:
    """Figures in plain values, as `--json` prints them."""
    return {
        "rows": [
            _row_as_dict(row) | ({"changes": list(map(_change_as_dict, row.changes))} if row.changes else {})
            for row in answer.rows
        ],
        "completeness": completeness_as_dict(answer.completeness),
        "published": {"corrections": answer.published.corrections} | edition_as_dict(answer.published.edition)
        if answer.HasField("published")
        else None,
    }


def _row_as_dict(row: pb.Figures) -> dict[str, Any]:
    return {
        "key": row.key,
        "label": row.label,
        "facts": dict(sorted(row.facts.items())),
        "counts": dict(sorted(row.counts.items())),
        "open": row.open,
        "overdue": row.overdue,
        "rates": {
            rate.name: {
                "numerator": rate.numerator,
                "denominator": rate.denominator,
                "value": rate.numerator / rate.denominator if rate.denominator else None,
            }
            for rate in row.rates
        },
        "clocks": {
            ClockKind(clock.kind).name.lower(): {
                "met": clock.met,
                "missed": clock.missed,
                "p50_workdays": clock.p50_workdays,
                "p90_workdays": clock.p90_workdays,
                "p95_workdays": clock.p95_workdays,
                "histogram": list(clock.histogram),
            }
            for clock in row.clocks
        },
    }


def _change_as_dict(change: pb.Change) -> dict[str, Any]:
    return {
        "basis": pb.Basis.Name(change.basis).removeprefix("BASIS_").lower(),
        "from_day": change.from_day,
        "to_day": change.to_day,
        "before": _row_as_dict(change.before),
        "facts": dict(sorted(change.facts.items())),
        "counts": dict(sorted(change.counts.items())),
        "rates_percentage_points": dict(sorted(change.rates.items())),
    }


def completeness_as_dict(found: pb.Completeness) -> dict[str, Any]:
    """How complete figures are, in plain values."""
    return {
        "bureaus_expected": found.bureaus_expected,
        "bureaus_heard": found.bureaus_heard,
        "bureaus_up_to_date": found.bureaus_up_to_date,
        "bureaus_quarantined": found.bureaus_quarantined,
        "data_as_of": instant(found, "data_as_of"),
        "missing": [
            {
                "bureau": bureau.bureau,
                "name": bureau.name,
                "lack": pb.Lack.Name(bureau.lack).removeprefix("LACK_").lower() if bureau.lack else None,
            }
            for bureau in found.missing
        ],
        "missing_count": found.missing_count,
    }


def edition_as_dict(edition: pb.Edition) -> dict[str, Any]:
    """An edition in plain values."""
    return {
        "scope": edition.scope,
        "period": edition.period,
        "edition": edition.edition,
        "from_day": edition.from_day,
        "to_day": edition.to_day,
        "published_at": instant(edition, "published_at"),
        "published_by": edition.published_by,
        "override_by": edition.override_by,
        "override_second": edition.override_second,
        "override_reason": edition.override_reason,
        "definitions": edition.definitions,
        "tree_version": edition.tree_version,
        "completeness": completeness_as_dict(edition.completeness),
    }


def corrections_as_dict(answer: pb.GetCorrectionsResponse) -> dict[str, Any]:
    """Corrections in plain values."""
    return {
        "edition": edition_as_dict(answer.edition),
        "definitions": answer.definitions,
        "bureaus": [_correction_as_dict(changed) for changed in answer.bureaus],
        "grounds": [
            _correction_as_dict(changed)
            | {
                "category": ground_text(Category, changed.category),
                "channel": ground_text(Channel, changed.channel),
                "department_kind": ground_text(DepartmentKind, changed.department_kind),
            }
            for changed in answer.grounds
        ],
    }


def _correction_as_dict(changed: pb.Correction) -> dict[str, Any]:
    return {
        "bureau": changed.bureau,
        "name": changed.name,
        "measure": changed.measure,
        "published": changed.published,
        "now": changed.now,
        "difference": changed.now - changed.published,
    }


def instant(message: pb.Completeness | pb.BureauMark | pb.Edition, field: str) -> str | None:
    """One of a message's timestamps by its name, in Shanghai; None when it is not set."""
    if not message.HasField(field):  # type: ignore[arg-type]  # one of its timestamps, by name
        return None
    local = getattr(message, field).ToDatetime(tzinfo=SHANGHAI)
    return str(local.isoformat(sep=" ", timespec="seconds"))


# ---------------------------------------------------------------- as tables


def print_figures(console: Console, answer: pb.GetFiguresResponse, title: str) -> None:
    """Figures as tables: the counts and rates of each row, what has changed, and the clocks of a single row."""
    labels = {rate.name: rate.label for rate in RATES}
    headings = [heading for heading, _ in _COLUMNS]
    headings += [*(labels[name] for name in _SHOWN_RATES), "办理 P50/P90/P95", "未办结", "未销号", "逾期"]
    figures: list[tuple[str, ...]] = []
    for row in answer.rows:
        rates = {rate.name: rate for rate in row.rates}
        handle = next((clock for clock in row.clocks if int(clock.kind) == ClockKind.HANDLE), None)
        figures.append(
            (
                _label(row),
                *(str(sum(row.facts.get(fact, 0) for fact in facts)) for _, facts in _COLUMNS),
                *(_rate(rates.get(name)) for name in _SHOWN_RATES),
                f"{handle.p50_workdays:.1f}/{handle.p90_workdays:.1f}/{handle.p95_workdays:.1f}"
                if handle is not None
                else "-",
                str(row.counts["unfinished"]) if "unfinished" in row.counts else "-",
                *("-" if _is_period(row) else str(number) for number in (row.open, row.overdue)),
            )
        )
    for table in _fitting(console, title, headings, figures):
        console.print(table)
    _print_changes(console, answer)
    if len(answer.rows) == 1:
        console.print(_clocks(answer.rows[0]))
    if answer.HasField("published"):
        edition, count = answer.published.edition, answer.published.corrections
        see = f": see `kx hub corrections {edition.period}`" if count else ""
        console.print(f"{edition_line(edition)} {count} corrections since{see}.", markup=False)
    for line in completeness_lines(answer.completeness):
        console.print(line)


def _clocks(row: pb.Figures) -> Table:
    clocks = Table(title="时限")
    for heading in ("", "met", "missed", "on time", "P50 wd", "P90 wd", "P95 wd"):
        clocks.add_column(heading, justify="right" if heading else "left")
    for clock in row.clocks:
        clocks.add_row(
            term_of(ClockKind, clock.kind),
            str(clock.met),
            str(clock.missed),
            _percent(clock.met, clock.met + clock.missed),
            f"{clock.p50_workdays:.1f}",
            f"{clock.p90_workdays:.1f}",
            f"{clock.p95_workdays:.1f}",
        )
    return clocks


def _print_changes(console: Console, answer: pb.GetFiguresResponse) -> None:
    """What has changed, a line for each row and basis; rates in percentage points."""
    labels = {of.name: of.label for of in (*RATES, *COUNTS)}
    headings = ["对比期", *(heading for heading, _ in _COMPARED_FACTS), *(labels[name] for name in _COMPARED_COUNTS)]
    headings += [labels[name] for name in _SHOWN_RATES]
    lines = [
        (
            f"{_label(row)} {BASIS_LABELS[change.basis]}",  # type: ignore[index]  # the wire's number of it
            change.from_day if change.from_day == change.to_day else f"{change.from_day} – {change.to_day}",
            *(_added(change.facts, change.before.facts, fact) for _, fact in _COMPARED_FACTS),
            *(_added(change.counts, change.before.counts, count) for count in _COMPARED_COUNTS),
            *(f"{change.rates[name]:+.1f}" if name in change.rates else "-" for name in _SHOWN_RATES),
        )
        for row in answer.rows
        for change in row.changes
    ]
    if lines:
        for table in _fitting(console, "比较（率为百分点）", headings, lines):
            console.print(table)


def _added(changes: Mapping[str, int], before: Mapping[str, int], name: str) -> str:
    """What has been added, and in percent where there was something before."""
    added, was = changes.get(name, 0), before.get(name, 0)
    return f"{added:+d} ({100 * added / was:+.1f}%)" if was else f"{added:+d}"


def print_corrections(console: Console, answer: pb.GetCorrectionsResponse) -> None:
    """Corrections as a table."""
    console.print(edition_line(answer.edition), markup=False)
    if answer.edition.definitions != answer.definitions:
        console.print(
            f"It was counted by definitions {answer.edition.definitions}, these are {answer.definitions}: "
            "what differs may be no more than that. 统计口径已变更，差异可能仅由此产生。"
        )
    if answer.bureaus:
        table = Table(title="更正")
        for heading in ("单位", "指标", "已发布", "现为", "差额"):
            table.add_column(heading, justify="left" if heading in {"单位", "指标"} else "right")
        for changed in answer.bureaus:
            table.add_row(
                f"{escape(short_name(changed.name))} {changed.bureau}",
                changed.measure,
                str(changed.published),
                str(changed.now),
                f"{changed.now - changed.published:+d}",
            )
        console.print(table)
    console.print(
        f"{len(answer.bureaus)} corrections by bureau, {len(answer.grounds)} by category, channel and department kind. "
        f"更正 {len(answer.bureaus)} 项。"
    )


def edition_line(edition: pb.Edition) -> str:
    """An edition in one sentence."""
    line = (
        f"Published 已发布: edition {edition.edition} of {edition.period} for {edition.scope}, "
        f"{instant(edition, 'published_at')} by {edition.published_by}"
    )
    if edition.override_by:
        line += (
            f", incomplete, at the instance of {edition.override_by} and {edition.override_second}: "
            f"{edition.override_reason}"
        )
    return f"{line}."


def completeness_lines(found: pb.Completeness) -> Iterator[str]:
    """How complete figures are, and who is missing."""
    line = (
        f"{found.bureaus_expected} bureaus expected, {found.bureaus_heard} heard from, "
        f"{found.bureaus_up_to_date} up to date; data as of {instant(found, 'data_as_of') or 'never'}."
    )
    if found.bureaus_quarantined:
        line += f" [bold red]{found.bureaus_quarantined} quarantined: see `kx hub completeness`.[/bold red]"
    yield line
    if found.missing:
        more = found.missing_count - len(found.missing)
        named = ", ".join(
            f"{bureau.bureau} {escape(short_name(bureau.name))}"
            + (f" ({LACK_LABELS[Lack(bureau.lack)]})" if bureau.lack else "")
            for bureau in found.missing
        )
        yield f"Missing 未报齐: {named}{f' and {more} more' if more else ''}."


def lights_as_dict(answer: pb.GetLightsResponse) -> dict[str, Any]:
    """Open cases by light, in plain values."""
    names = pb.Lights.DESCRIPTOR.fields_by_name
    return {
        "rows": [{name: getattr(row, name) for name in names} for row in answer.rows],
        "completeness": completeness_as_dict(answer.completeness),
    }


def print_lights(console: Console, answer: pb.GetLightsResponse, title: str) -> None:
    """Open cases by light as a table, with their sum."""
    table = Table(title=title)
    table.add_column("bureau 单位", overflow="fold")
    for heading in _LIGHT_COLUMNS:
        table.add_column(heading, justify="right")
    sums = [0] * len(_LIGHT_COLUMNS)
    for row in answer.rows:
        lights = [row.in_time, row.due_soon, row.overdue, row.stopped]
        figures = [sum(lights), *lights, row.extended]
        sums = [total + figure for total, figure in zip(sums, figures, strict=True)]
        table.add_row(f"{row.bureau} {_short(row.label)}", *map(str, figures))
    table.add_section()
    table.add_row("合计", *map(str, sums))
    console.print(table)
    for line in completeness_lines(answer.completeness):
        console.print(line)


def _label(row: pb.Figures) -> str:
    if row.key == row.label:
        return row.label or "合计"
    return f"{_short(row.label)} {row.key}".strip()


def _short(label: str) -> str:
    own = OWN if label.endswith(OWN) else ""
    return f"{short_name(label.removesuffix(OWN))}{own}"


def _is_period(row: pb.Figures) -> bool:
    """Whether a row is a period, of which open cases are not told: its key is a year, or written with a hyphen."""
    return len(row.key) == _YEAR_DIGITS or "-" in row.key


def _rate(rate: pb.Rate | None) -> str:
    return "-" if rate is None else _percent(rate.numerator, rate.denominator)


def _percent(numerator: int, denominator: int) -> str:
    return f"{100 * numerator / denominator:.1f}%" if denominator else "-"


def _fitting(console: Console, title: str, headings: list[str], figures: list[tuple[str, ...]]) -> Iterator[Table]:
    """One table with a line for each row; on a narrow terminal the rows stand side by side, as many as fit, in turn."""
    table = Table(title=title)
    table.add_column("", overflow="fold", min_width=LABEL_COLUMNS)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in figures:
        table.add_row(*row)
    if not figures or console.measure(table, options=console.options.update(width=ANY_COLUMNS)).maximum <= (
        console.width
    ):
        yield table
        return
    at_once = max(1, console.width // (LABEL_COLUMNS + PADDING_COLUMNS) - 1)
    for begin in range(0, len(figures), at_once):
        several = figures[begin : begin + at_once]
        turned = Table(title=title)
        turned.add_column("", no_wrap=True)
        for row in several:
            turned.add_column(row[0], justify="right", overflow="fold")
        for place, heading in enumerate(headings, start=1):
            turned.add_row(heading, *(row[place] for row in several))
        yield turned
