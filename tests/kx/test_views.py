"""Lights of deadlines, the lines that show them, and tables on a narrow terminal."""

import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hub.definitions import RATES
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import ClockKind, Stage
from kuaixiang.facts import published_calendar
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import case_pb2, statistics_pb2
from kx.figures import print_figures
from kx.options import Asking
from kx.views import due, light, show_list, word

REGISTERED = datetime(2026, 9, 28, 9, 0, tzinfo=SHANGHAI)


def case_at(now: datetime, **clock: Any) -> case_pb2.Case:
    """A case with five working days, as its node shows it at a time."""
    calendar = published_calendar()
    deadline = calendar.deadline(REGISTERED, 5).due_at
    clock = {
        "kind": int(ClockKind.HANDLE),
        "limit_workdays": 5,
        "started_at": timestamp(REGISTERED),
        "due_at": timestamp(deadline),
        "overdue": now >= deadline,
        **clock,
    }
    elapsed = round(calendar.elapsed_workdays(REGISTERED, now) * 1000)
    stage: Any = int(Stage.HANDLING)
    return case_pb2.Case(
        stage=stage,
        registered_at=timestamp(REGISTERED),
        end_to_end_milli_workdays=elapsed,
        clocks=[case_pb2.Clock(**clock)],
    )


@pytest.mark.parametrize(
    ("day", "hour", "shown"),
    [
        (28, 9, "in time 期内"),
        (30, 23, "in time 期内"),
        # Seven days of holidays do not bring the deadline nearer.
        (37, 12, "in time 期内"),
        (40, 1, "due within 1 wd 临期"),
        (41, 0, "overdue 逾期"),
    ],
)
def test_a_clock_has_a_light_by_the_nodes_own_time(day: int, hour: int, shown: str) -> None:
    now = REGISTERED.replace(hour=hour) + timedelta(days=day - 28)
    case = case_at(now)
    assert light(case, case.clocks[0]).plain == shown


def test_extended_and_provisional_stand_beside_the_light() -> None:
    case = case_at(REGISTERED, extended=True, provisional=True, calendar_version="2026.1")
    assert light(case, case.clocks[0]).plain == (
        "in time 期内 · extended 已延期 · provisional, beyond the calendar 2026.1"
    )


def test_a_deadline_is_shown_as_the_end_of_its_last_day() -> None:
    assert due(case_at(REGISTERED).clocks[0]) == "2026-10-10 周六 24:00"


def test_a_word_of_a_newer_version_is_shown_by_its_number() -> None:
    assert [word(Stage, 0), word(Stage, 3), word(Stage, 99)] == ["-", "handling 办理中", "#99"]


def test_national_figures_are_whole_on_a_terminal_of_eighty_columns() -> None:
    answer = statistics_pb2.GetFiguresResponse()
    for number in range(6):
        row = answer.rows.add(key=str(number), label="纳税服务")
        row.facts["registered"] = 1000 + number
        for known in RATES:
            row.rates.add(name=known.name, numerator=9, denominator=10)
    output = io.StringIO()
    print_figures(Console(file=output, width=80, force_terminal=True, color_system=None), answer, "全国")
    shown = output.getvalue()
    assert "…" not in shown
    assert all(str(1000 + number) in shown for number in range(6))


def test_the_ledger_shows_the_light_on_a_terminal_of_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("kx.views._console", lambda: console)
    case = case_pb2.Case(case_id="110101-2026-0000001", bureau="110101", department="tax-service")
    case.registered_at.FromJsonString("2026-10-12T01:00:00Z")
    clock = case.clocks.add(kind=1, limit_workdays=1, overdue=True)
    clock.due_at.FromJsonString("2026-10-13T16:00:00Z")
    asking = Asking(node="", certificates=Path(), bureau="110101", tree_file=None, patience_seconds=0.0, as_json=False)
    show_list(asking, [case], "")
    assert {"overdue", "tax-service", "2026-10-12", "110101-2026-0000001"} <= set(output.getvalue().split())
