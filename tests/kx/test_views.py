"""Lights of deadlines, the lines that show them, and tables on a narrow terminal."""

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hub.definitions import RATES
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import ClockKind, Custody, Stage
from kuaixiang.facts import published_calendar
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import case_pb2, statistics_pb2
from kx.figures import print_figures
from kx.options import Asking
from kx.views import due, light, progress_line, show_done, show_list, word

ASKING = Asking(node="", certificates=Path(), bureau="110101", tree_file=None, patience_seconds=0.0, as_json=False)
REGISTERED = datetime(2026, 9, 28, 9, 0, tzinfo=SHANGHAI)


def clock_of(**parts: Any) -> case_pb2.Clock:
    """A clock of five working days, as its node shows it."""
    deadline = published_calendar().deadline(REGISTERED, 5).due_at
    standard: dict[str, Any] = {
        "kind": int(ClockKind.HANDLE),
        "limit_workdays": 5,
        "started_at": timestamp(REGISTERED),
        "due_at": timestamp(deadline),
    }
    return case_pb2.Clock(**standard | parts)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({}, "in time 期内"),
        ({"due_soon": True}, "due within 1 wd 临期"),
        ({"overdue": True}, "overdue 逾期"),
        (
            {"extended": True, "provisional": True, "calendar_version": "2026.1"},
            "in time 期内 · extended 已延期 · provisional 暂定, beyond the calendar 2026.1",
        ),
    ],
    ids=["in time", "due soon", "overdue", "extended and provisional"],
)
def test_a_clock_has_the_light_that_its_node_gives_it(parts: dict[str, Any], shown: str) -> None:
    assert light(clock_of(**parts)).plain == shown


@pytest.mark.parametrize(("overdue", "light_shown"), [(False, ""), (True, "  overdue 逾期")])
def test_progress_is_told_in_one_line(light_shown: str, *, overdue: bool) -> None:
    words: dict[str, Any] = {"stage": int(Stage.HANDLING), "next_clock": int(ClockKind.HANDLE)}
    progress = case_pb2.CaseProgress(
        bureau="000000",
        occurred_at=timestamp(REGISTERED),
        next_due_at=clock_of().due_at,
        overdue=overdue,
        **words,
    )
    said = "last heard 最新进展  000000 总局  handling 办理中  2026-09-28 09:00  handle 办理 by 2026-10-10 周六"
    assert progress_line(ASKING, progress).plain == said + light_shown


def test_a_deadline_is_shown_as_the_end_of_its_last_day() -> None:
    assert due(clock_of()) == "2026-10-10 周六 24:00"


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
    show_list(ASKING, [case], [], "")
    assert {"overdue", "tax-service", "2026-10-12", "110101-2026-0000001"} <= set(output.getvalue().split())


def test_an_act_of_joint_handling_shows_every_departments_deadline_and_what_waits_for_the_bureau_head(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words: dict[str, Any] = {"stage": int(Stage.JOINT_HANDLING), "custody": int(Custody.OWNED)}
    case = case_pb2.Case(
        **words,
        case_id="110101-2026-0000001",
        bureau="110101",
        extension_pending=True,
        clocks=[clock_of(department=department) for department in ("policy", "information")],
    )
    show_done(ASKING, acts.AskExtension, case_pb2.ActResponse(case=case))
    shown = capsys.readouterr().out
    assert ["(policy)", "(information)"] == [line.split()[1] for line in shown.splitlines()[1:3]]
    assert "extension asked for, not decided 延期待批准" in shown
