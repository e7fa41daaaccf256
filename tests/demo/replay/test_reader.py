"""Small logs made by hand, one rule each."""

import datetime as dt
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from demo.replay.figures import BureauFigures, SegmentEnd, figures_of, segments_of
from demo.replay.log import (
    CaseHistory,
    ColumnsMissing,
    Complete,
    CountsDoNotReconcile,
    Depart,
    HandOver,
    LogUnreadable,
    Plan,
    Reason,
    Resume,
    Wait,
    _Reader,
    read_log,
)
from demo.replay.mapping import parse_mapping
from demo.replay.tree import Direction, TreeTooLarge
from kuaixiang.domain.tree import Tier
from kuaixiang.domain.words import Category, Channel, ClockOutcome
from kuaixiang.facts import published_calendar

EVENTS: dict[str, Any] = {
    "log": {"title": "made by hand", "form": "events"},
    "case": {"id": "case", "text": "{what}!"},
    "time": {"earliest": dt.date(2020, 1, 1), "latest": dt.date(2030, 1, 1)},
    "events": {
        "at": "at",
        "state": ["state"],
        "meaning": {"work": "progress", "wait": "wait", "done": "complete", "filed": "close"},
    },
    "tree": {
        "headquarters": "HQ",
        "province": {"column": "line"},
        "bureau": {"column": "team"},
        "shape": "exchange",
        "lines": {" 2nd": 2, " 3rd": 3},
    },
    "departments": {"name": "{desk}", "unknown": {"desk": ["", "?"]}},
    "category": {"default": "other", "table": [{"column": "what", "values": {"printer": "systems"}}]},
    "channel": {"default": "counter"},
}
CASES: dict[str, Any] = {
    "log": {"title": "made by hand", "form": "cases"},
    "case": {"id": "id", "text": "{what}"},
    "time": {
        "format": "%Y-%m-%d %H:%M",
        "zone": "America/New_York",
        "registered": "opened",
        "completed": "closed",
        "earliest": dt.date(2020, 1, 1),
        "latest": dt.date(2030, 1, 1),
    },
    "status": {"column": "status", "completed": ["Closed"], "open": ["Open"]},
    "tree": {
        "headquarters": "HQ",
        "province": {"constant": "City"},
        "prefecture": {"column": "department"},
        "bureau": {"column": "queue"},
    },
    "category": {"default": "service"},
    "channel": {"default": "hotline"},
}

Reads = Callable[..., Plan]


@pytest.fixture
def events(tmp_path: Path) -> Reads:
    """Reads rows `case,at,state,line,team[,desk]`; a day alone is nine o'clock in Beijing."""

    def read(*rows: str, **settings: Mapping[str, object]) -> Plan:
        path = tmp_path / "log.csv"
        path.write_text("case,at,state,line,team,desk,what\n" + "".join(f"{_full(row)}\n" for row in rows))
        return read_log(path, parse_mapping(_with(EVENTS, settings)))

    return read


@pytest.fixture
def cases(tmp_path: Path) -> Reads:
    """Reads rows `id,opened,closed,status[,queue]`."""

    def read(*rows: str, **settings: Mapping[str, object]) -> Plan:
        path = tmp_path / "log.csv"
        whole = [f"{row}{',Q1' if row.count(',') == 3 else ''},D,hole" for row in rows]
        path.write_text("\n".join(["id,opened,closed,status,queue,department,what", *whole]))
        return read_log(path, parse_mapping(_with(CASES, settings)))

    return read


def _full(row: str) -> str:
    fields = row.split(",")
    if len(fields) < 5:
        return row
    if len(fields[1]) == len("2024-03-01"):
        fields[1] += "T09:00:00+08:00"
    return ",".join([*fields, *["", "printer"][len(fields) - 5 :]])


def _with(content: Mapping[str, Any], settings: Mapping[str, Mapping[str, object]]) -> dict[str, Any]:
    return {**content, **{name: {**content.get(name, {}), **part} for name, part in settings.items()}}


def at(day: str, clock: str = "09:00") -> dt.datetime:
    return dt.datetime.fromisoformat(f"{day}T{clock}:00+08:00")


def refused(plan: Plan) -> list[tuple[int, str, Reason]]:
    assert plan.rows_used + len(plan.refused) == plan.rows_read
    return [(row.line, row.case_ref, row.reason) for row in plan.refused]


def only(plan: Plan) -> CaseHistory:
    (case,) = plan.cases
    return case


def outcomes(plan: Plan) -> list[tuple[SegmentEnd, ClockOutcome]]:
    assert plan.ends_at is not None
    found = segments_of(only(plan), plan.ends_at, published_calendar())
    return [(segment.end, segment.outcome) for segment in found]


# ------------------------------------------------------------------ cases as they should be


def test_a_case_is_read_with_its_words_and_its_steps(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1", "c1,2024-03-04,work,L1,T2 2nd", "c1,2024-03-05,done,L1,T2 2nd")
    t1, t2 = plan.tree.codes["L1", "T1"], plan.tree.codes["L1", "T2 2nd"]
    assert only(plan) == CaseHistory(
        case_ref="c1",
        origin=t1,
        registered_at=at("2024-03-01"),
        category=Category.SYSTEMS,
        channel=Channel.COUNTER,
        text="printer!",
        steps=(HandOver(at("2024-03-04"), t1, t2), Complete(at("2024-03-05"))),
        rows=3,
    )
    assert only(plan).completed_at == at("2024-03-05")


def test_a_case_never_closed_stays_open(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1")
    assert (only(plan).steps, only(plan).completed_at) == ((), None)


def test_a_wait_ends_with_the_next_event_and_a_wait_again_is_the_same_wait(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,work,L1,T1",
        "c1,2024-03-02,wait,L1,T1",
        "c1,2024-03-03,wait,L1,T1",
        "c1,2024-03-04,work,L1,T1",
        "c1,2024-03-05,wait,L1,T1",
        "c1,2024-03-06,done,L1,T1",
    )
    assert only(plan).steps == (
        Wait(at("2024-03-02")),
        Resume(at("2024-03-04")),
        Wait(at("2024-03-05")),
        Resume(at("2024-03-06")),
        Complete(at("2024-03-06")),
    )


def test_a_wait_is_over_before_the_case_is_handed_over(events: Reads) -> None:
    plan = events("c1,2024-03-01,wait,L1,T1", "c1,2024-03-02,wait,L1,T2")
    t1, t2 = plan.tree.codes["L1", "T1"], plan.tree.codes["L1", "T2"]
    day = at("2024-03-02")
    assert only(plan).steps == (Wait(at("2024-03-01")), Resume(day), HandOver(day, t1, t2), Wait(day))


def test_an_unknown_department_is_no_dispatch(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,work,L1,T1,?",
        "c1,2024-03-02,work,L1,T1,A",
        "c1,2024-03-03,work,L1,T1,",
        "c1,2024-03-04,work,L1,T1,A",
        "c1,2024-03-05,work,L1,T1,B",
    )
    assert only(plan).steps == (
        Depart(at("2024-03-02"), "department-1"),
        Depart(at("2024-03-05"), "department-2"),
    )
    assert plan.departments == {"department-1": "A", "department-2": "B"}


def test_after_a_hand_over_the_same_department_name_is_another_department(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1,A", "c1,2024-03-02,work,L1,T2,A")
    assert [type(step) for step in only(plan).steps] == [Depart, HandOver, Depart]


def test_a_hand_over_back_is_a_hand_over(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1", "c1,2024-03-02,work,L1,T2", "c1,2024-03-03,work,L1,T1")
    assert [type(step) for step in only(plan).steps] == [HandOver, HandOver]


def test_the_last_completion_counts_and_what_follows_it_is_refused(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,done,L1,T1",
        "c1,2024-03-02,work,L1,T1",
        "c1,2024-03-03,done,L1,T1",
        "c1,2024-03-04,work,L1,T1",
    )
    assert only(plan).completed_at == at("2024-03-03")
    assert plan.superseded_completions == 1
    assert refused(plan) == [(5, "c1", Reason.AFTER_COMPLETION)]


def test_the_first_completion_counts_where_the_mapping_says_so(events: Reads) -> None:
    plan = events("c1,2024-03-01,done,L1,T1", "c1,2024-03-02,done,L1,T1", events={"completion": "first"})
    assert only(plan).completed_at == at("2024-03-01")
    assert refused(plan) == [(3, "c1", Reason.AFTER_COMPLETION)]


@pytest.mark.parametrize(
    ("states", "completed_on"),
    [
        (["work", "done", "filed"], 2),
        (["done", "done", "filed", "filed"], 2),
        (["done", "work", "filed"], 3),
        (["work", "filed", "filed"], 2),
    ],
)
def test_a_closing_completes_only_what_nothing_completed_directly_before(
    events: Reads, states: list[str], completed_on: int
) -> None:
    plan = events(*(f"c1,2024-03-{day:02d},{state},L1,T1" for day, state in enumerate(states, 1)))
    assert only(plan).completed_at == at(f"2024-03-{completed_on:02d}")
    assert (refused(plan), only(plan).rows) == ([], len(states))


def test_rows_out_of_order_are_put_in_order(events: Reads) -> None:
    plan = events("c1,2024-03-03,done,L1,T1", "c1,2024-03-01,work,L1,T1", "c1,2024-03-02,wait,L1,T1")
    assert only(plan).registered_at == at("2024-03-01")
    assert refused(plan) == []


def test_rows_of_one_instant_keep_the_order_of_a_log_that_is_in_order(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1", "c1,2024-03-01,work,L1,T2", "c1,2024-03-01,done,L1,T2")
    assert [type(step) for step in only(plan).steps] == [HandOver, Complete]


def test_a_log_may_be_packed(tmp_path: Path) -> None:
    path = tmp_path / "log.anything"
    path.write_bytes(gzip.compress(b"case,at,state,line,team,desk,what\nc1,2024-03-01T00:00Z,work,L,T,,w\n"))
    assert only(read_log(path, parse_mapping(EVENTS))).case_ref == "c1"


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    row = "c{},2024-03-01T00:00Z,work,L,T,,w\n"
    path.write_text("case,at,state,line,team,desk,what\n" + "".join(row.format(number) for number in range(2_100)))
    told: list[int] = []
    read_log(path, parse_mapping(EVENTS), on_rows=told.append)
    assert told == [1_000, 2_000, 2_100]


def test_a_case_of_one_row_is_registered_and_completed(cases: Reads) -> None:
    plan = cases("7,2024-03-01 09:00,2024-03-01 12:00,Closed", "8,2024-07-01 09:00,,Open")
    first, second = plan.cases
    assert first.registered_at == dt.datetime(2024, 3, 1, 14, tzinfo=dt.UTC)
    assert first.completed_at == dt.datetime(2024, 3, 1, 17, tzinfo=dt.UTC)
    assert second.registered_at == dt.datetime(2024, 7, 1, 13, tzinfo=dt.UTC)  # summer time
    assert second.completed_at is None


# ------------------------------------------------------------------ rows that make no sense


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",2024-03-01,work,L1,T1", Reason.NO_CASE_ID),
        ("c1,,work,L1,T1", Reason.NO_TIME),
        ("c1,yesterday,work,L1,T1", Reason.UNREADABLE_TIME),
        ("c1,2024-03-01T09:00:00,work,L1,T1", Reason.UNREADABLE_TIME),  # no offset, no zone
        ("c1,1999-01-01,work,L1,T1", Reason.IMPLAUSIBLE_TIME),
        ("c1,2024-03-01,dreams,L1,T1", Reason.UNKNOWN_STATE),
        ("c1,2024-03-01,work,,T1", Reason.NO_BUREAU),
        ("c1,2024-03-01,work,L1", Reason.MALFORMED_ROW),
        ("c1,2024-03-01,work,L1,T1,A,w,more", Reason.MALFORMED_ROW),
        ('c1,2024-03-01,work,L1,"T1"x', Reason.MALFORMED_ROW),
    ],
)
def test_a_row_that_makes_no_sense_is_refused_alone(events: Reads, row: str, reason: Reason) -> None:
    plan = events("c0,2024-03-01,work,L1,T1", row, "c0,2024-03-02,done,L1,T1")
    assert [(line, why) for line, _, why in refused(plan)] == [(3, reason)]
    assert [type(step) for step in only(plan).steps] == [Complete]


def test_bytes_of_another_encoding_are_refused_with_their_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    header = b"case,at,state,line,team,desk,what\n"
    path.write_bytes(header + b"c1,2024-03-01T00:00Z,work,L,T,,\xd5\xf7\nc2,2024-03-01T00:00Z,work,L,T,,w\n")
    plan = read_log(path, parse_mapping(EVENTS))
    assert refused(plan) == [(2, "c1", Reason.UNREADABLE_TEXT)]
    assert only(plan).case_ref == "c2"


def test_an_event_told_twice_is_refused(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,work,L1,T1,1", "c1,2024-03-02,work,L1,T1,1", events={"identity": "desk"}, departments={}
    )
    assert refused(plan) == [(3, "c1", Reason.DUPLICATE_EVENT)]


def test_events_of_one_instant_in_a_log_out_of_order_cannot_be_ordered(events: Reads) -> None:
    plan = events(
        "c1,2024-03-02,work,L1,T1",
        "c1,2024-03-01,work,L1,T2",
        "c1,2024-03-01,work,L1,T3",
        "c2,2024-03-01,work,L1,T1",
    )
    assert refused(plan) == [(line, "c1", Reason.CANNOT_BE_ORDERED) for line in (2, 3, 4)]
    assert only(plan).case_ref == "c2"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("7,2024-03-01 09:00,2024-03-01 08:59,Closed", Reason.CLOSED_BEFORE_OPENED),
        ("7,,2024-03-01 08:59,Closed", Reason.NO_TIME),
        ("7,2024-03-01 09:00,,Closed", Reason.NO_TIME),
        ("7,2024-03-01 09:00,2024-03-01 10:00,Open", Reason.STATUS_DISAGREES),
        ("7,2024-03-01 09:00,2024-03-01 10:00,Lost", Reason.UNKNOWN_STATE),
        ("7,2024-03-10 02:30,,Open", Reason.NO_SUCH_LOCAL_TIME),
        ("7,2024-03-01 09:00,2024-03-41 10:00,Closed", Reason.UNREADABLE_TIME),
        ("7,2924-03-01 09:00,,Open", Reason.IMPLAUSIBLE_TIME),
    ],
)
def test_a_case_that_makes_no_sense_is_refused_alone(cases: Reads, row: str, reason: Reason) -> None:
    plan = cases("6,2024-03-01 09:00,,Open", row, "8,2024-03-01 09:00,,Open")
    assert refused(plan) == [(3, "7", reason)]
    assert [case.case_ref for case in plan.cases] == ["6", "8"]


def test_a_case_told_twice_is_refused_the_second_time(cases: Reads) -> None:
    plan = cases("7,2024-03-01 09:00,,Open", "7,2024-03-02 09:00,,Open")
    assert refused(plan) == [(3, "7", Reason.DUPLICATE_CASE)]


def test_a_case_refused_once_may_be_told_rightly_later(cases: Reads) -> None:
    plan = cases("7,2024-03-01 09:00,2023-03-01 09:00,Closed", "7,2024-03-02 09:00,,Open")
    assert refused(plan) == [(2, "7", Reason.CLOSED_BEFORE_OPENED)]
    assert only(plan).case_ref == "7"


CASE_TIMES: dict[str, Any] = {
    "time": {"registered": "what", "completed": "desk", "completed_slack_s": 60, "zone": "Asia/Shanghai"},
    "case": {"text": "t"},
    "category": {"table": []},
}


def with_case_times(events: Reads, *rows: str) -> Plan:
    settings = {**CASE_TIMES, "departments": {"name": "", "unknown": {}}}
    return events(*rows, **settings)


def test_events_outside_the_times_of_the_case_are_refused(events: Reads) -> None:
    plan = with_case_times(
        events,
        "c1,2024-03-01,work,L1,T1,2024-03-05,2024-03-02",
        "c1,2024-03-03,work,L1,T1,2024-03-05,2024-03-02",
        "c1,2024-03-05T00:01:00+08:00,work,L1,T2,2024-03-05,2024-03-02",
        "c1,2024-03-05T00:01:01+08:00,work,L1,T1,2024-03-05,2024-03-02",
    )
    assert refused(plan) == [(2, "c1", Reason.BEFORE_REGISTRATION), (5, "c1", Reason.AFTER_COMPLETION)]
    assert only(plan).registered_at == at("2024-03-02", "00:00")
    done = at("2024-03-05", "00:00")
    assert [(type(step), step.at) for step in only(plan).steps] == [(HandOver, done), (Complete, done)]


def test_every_row_of_a_case_closed_before_opened_is_refused(events: Reads) -> None:
    plan = with_case_times(
        events,
        "c1,2024-03-02,work,L1,T1,2024-03-01,2024-03-02",
        "c1,2024-03-03,work,L1,T1,2024-03-01,2024-03-02",
    )
    assert refused(plan) == [(2, "c1", Reason.CLOSED_BEFORE_OPENED), (3, "c1", Reason.CLOSED_BEFORE_OPENED)]
    assert plan.cases == ()
    assert plan.ends_at is None


def test_a_row_that_gives_its_case_other_times_is_refused(events: Reads) -> None:
    plan = with_case_times(
        events,
        "c1,2024-03-02,work,L1,T1,,2024-03-02",
        "c1,2024-03-03,work,L1,T1,,2024-03-01",
    )
    assert refused(plan) == [(3, "c1", Reason.TIMES_DISAGREE)]


def test_a_row_lost_on_the_way_is_noticed(monkeypatch: pytest.MonkeyPatch, events: Reads) -> None:
    monkeypatch.setattr(_Reader, "_refuse", lambda *_: None)
    with pytest.raises(CountsDoNotReconcile, match="2 rows read, but 1 used and 0 refused"):
        events("c1,2024-03-01,work,L1,T1", "c1,,work,L1,T1")


# ------------------------------------------------------------------ logs that cannot be read


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogUnreadable, match=r"nowhere\.csv"):
        read_log(tmp_path / "nowhere.csv", parse_mapping(EVENTS))


def test_a_log_cut_off_is_not_half_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    whole = "case,at,state,line,team,desk,what\n" + "".join(
        f"c{number},2024-03-01T00:00Z,work,L,T,,{number * 7919}\n" for number in range(500)
    )
    path.write_bytes(gzip.compress(whole.encode())[:-200])
    with pytest.raises(LogUnreadable):
        read_log(path, parse_mapping(EVENTS))


@pytest.mark.parametrize("content", ["", "case,at,state\n"])
def test_missing_columns_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(content)
    with pytest.raises(ColumnsMissing, match=r"line.*, team"):
        read_log(path, parse_mapping({**EVENTS, "departments": {"name": ""}, "case": {"id": "case", "text": "t"}}))


# ------------------------------------------------------------------ the tree


def test_a_team_stands_under_the_higher_line_that_it_works_with_most(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,work,L1,A",
        "c1,2024-03-02,work,L1,B 2nd",
        "c1,2024-03-03,work,L1,C 3rd",
        "c1,2024-03-04,work,L1,B 2nd",
        "c2,2024-03-01,work,L1,A",
        "c2,2024-03-02,work,L1,C 3rd",
        "c3,2024-03-01,work,L1,A",
        "c3,2024-03-02,work,L1,B 2nd",
        "c3,2024-03-03,work,L2,D",
        "c3,2024-03-04,work,L1,E",
    )
    codes, tree = plan.tree.codes, plan.tree.bureaus
    parents = {key: tree.parent(code) for key, code in codes.items() if key}
    assert parents == {
        ("L1",): "000000",
        ("L1", "C 3rd"): codes[("L1",)],
        ("L1", "B 2nd"): codes["L1", "C 3rd"],
        ("L1", "A"): codes["L1", "B 2nd"],
        ("L1", "E"): codes[("L1",)],
        ("L2",): "000000",
        ("L2", "D"): codes[("L2",)],
    }
    assert [(bureau.code, bureau.name, bureau.tier) for bureau in tree.bureaus.values()][2:6] == [
        ("110001", "C 3rd", Tier.PREFECTURE),
        ("110002", "B 2nd", Tier.COUNTY),
        ("110003", "A", Tier.COUNTY),
        ("110004", "E", Tier.COUNTY),
    ]
    a, b, c, d, e = (codes[key] for key in [("L1", "A"), ("L1", "B 2nd"), ("L1", "C 3rd"), ("L2", "D"), ("L1", "E")])
    assert [plan.tree.direction(a, b), plan.tree.direction(a, c), plan.tree.direction(c, a)] == [
        Direction.UP,
        Direction.UP,
        Direction.DOWN,
    ]
    assert [plan.tree.direction(b, d), plan.tree.direction(a, e)] == [Direction.ACROSS, Direction.ACROSS]
    assert plan.tree.relays(b, d) == (c, codes[("L1",)], "000000", codes[("L2",)])


def test_equal_exchanges_go_to_the_lower_line_and_then_to_the_lesser_name(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,work,L1,A",
        "c1,2024-03-02,work,L1,C 3rd",
        "c2,2024-03-01,work,L1,A",
        "c2,2024-03-02,work,L1,Z 2nd",
        "c3,2024-03-01,work,L1,A",
        "c3,2024-03-02,work,L1,B 2nd",
    )
    assert plan.tree.bureaus.parent(plan.tree.codes["L1", "A"]) == plan.tree.codes["L1", "B 2nd"]


def test_the_columns_can_name_the_bureau_between(cases: Reads) -> None:
    plan = cases("7,2024-03-01 09:00,,Open,Q2", "8,2024-03-01 09:00,,Open,Q1")
    assert [
        (bureau.code, bureau.name, bureau.tier, bureau.parent) for bureau in plan.tree.bureaus.bureaus.values()
    ] == [
        ("000000", "HQ", Tier.NATIONAL, None),
        ("110000", "City", Tier.PROVINCIAL, "000000"),
        ("110001", "D", Tier.PREFECTURE, "110000"),
        ("110002", "Q1", Tier.COUNTY, "110001"),
        ("110003", "Q2", Tier.COUNTY, "110001"),
    ]


def test_more_provinces_than_two_digits_number_are_refused(events: Reads) -> None:
    with pytest.raises(TreeTooLarge, match="90 bureaus under HQ; 89 can be numbered"):
        events(*(f"c{number},2024-03-01,work,L{number},T" for number in range(90)))


# ------------------------------------------------------------------ the figures


def test_a_case_is_in_time_until_midnight_of_the_fifth_working_day(events: Reads) -> None:
    # 2024-09-12 is a Thursday; the 14th is a make-up working day, the 15th to the 17th are Mid-Autumn.
    in_time = events("c1,2024-09-12,work,L1,T1", "c1,2024-09-20T23:59:59+08:00,done,L1,T1")
    too_late = events("c1,2024-09-12,work,L1,T1", "c1,2024-09-21T00:00:00+08:00,done,L1,T1")
    assert outcomes(in_time) == [(SegmentEnd.COMPLETED, ClockOutcome.MET)]
    assert outcomes(too_late) == [(SegmentEnd.COMPLETED, ClockOutcome.MISSED)]


def test_each_bureau_has_its_own_clock(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1", "c1,2024-03-06,work,L1,T2", "c1,2024-03-12,done,L1,T2")
    assert outcomes(plan) == [
        (SegmentEnd.REFERRED, ClockOutcome.VOID),
        (SegmentEnd.COMPLETED, ClockOutcome.MET),
    ]


def test_a_case_referred_on_too_late_was_missed_there(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1", "c1,2024-04-01,work,L1,T2", "c1,2024-04-02,done,L1,T2")
    figures = figures_of(plan, published_calendar())
    t1, t2 = plan.tree.codes["L1", "T1"], plan.tree.codes["L1", "T2"]
    assert figures.bureaus[t1] == BureauFigures(registered=1, missed=1, referred_across=1)
    assert figures.bureaus[t2] == BureauFigures(completed=1, met=1, received=1)
    assert figures.bureaus[plan.tree.codes[("L1",)]] == BureauFigures(relayed=1)
    assert figures.total == BureauFigures(
        registered=1, completed=1, met=1, missed=1, referred_across=1, received=1, relayed=1
    )


def test_a_wait_ends_the_clock_and_a_new_one_begins_after_it(events: Reads) -> None:
    plan = events("c1,2024-03-01,work,L1,T1", "c1,2024-03-04,wait,L1,T1", "c1,2024-06-03,done,L1,T1")
    assert outcomes(plan) == [
        (SegmentEnd.DEFERRED, ClockOutcome.VOID),
        (SegmentEnd.COMPLETED, ClockOutcome.MET),
    ]


def test_the_clock_runs_from_the_dispatch_and_anew_with_another_department(events: Reads) -> None:
    plan = events(
        "c0,2024-03-01,work,L1,T1,?",
        "c0,2024-03-20,work,L1,T1,A",
        "c0,2024-03-22,work,L1,T1,B",
        "c0,2024-03-29,done,L1,T1,B",
        case={"text": "t"},
    )
    assert plan.ends_at is not None
    segments = list(segments_of(only(plan), plan.ends_at, published_calendar()))
    assert [(segment.started_at, segment.end, segment.outcome) for segment in segments] == [
        (at("2024-03-20"), SegmentEnd.RETURNED, ClockOutcome.VOID),
        (at("2024-03-22"), SegmentEnd.COMPLETED, ClockOutcome.MET),
    ]


def test_the_first_dispatch_after_a_referral_does_not_renew_the_clock(events: Reads) -> None:
    plan = events(
        "c1,2024-03-01,work,L1,T1,A",
        "c1,2024-03-04,work,L1,T2,?",
        "c1,2024-03-08,work,L1,T2,A",
        "c1,2024-03-12,done,L1,T2,A",
    )
    assert outcomes(plan) == [
        (SegmentEnd.REFERRED, ClockOutcome.VOID),
        (SegmentEnd.COMPLETED, ClockOutcome.MISSED),
    ]


def test_a_case_open_at_the_end_is_missed_only_if_its_time_is_over(events: Reads) -> None:
    rows = "c1,2024-03-01,work,L1,T1", "c2,2024-03-11,work,L1,T1", "c2,2024-03-12,done,L1,T1"
    figures = figures_of(events(*rows), published_calendar()).total
    assert (figures.met, figures.missed) == (1, 1)
    figures = figures_of(events(*rows[:2]), published_calendar()).total
    assert (figures.met, figures.missed) == (0, 1)
    figures = figures_of(events(rows[1]), published_calendar()).total
    assert (figures.met, figures.missed) == (0, 0)
