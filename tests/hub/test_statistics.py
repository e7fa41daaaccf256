"""Figures: grouped, compared, as of a past day; over both databases, with journals that the domain's rules have written."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from demo.journals import DAY, MONDAY, Journal, clock, stopped
from hub.cells import cell_of
from hub.comparison import ComparisonUnbounded, ComparisonUneven, compare, days_compared, whole_period
from hub.definitions import COUNTS, FACTS, RATES, explanations
from hub.fold import EPOCH_DAY, first_of_month, first_of_year
from hub.folder import Answer
from hub.measures import Fact, measure_name, met, missed
from hub.query import Question, Row
from hub.store import FACTS as HUB_FACTS
from hub.store import OPEN_CASES
from hub.sums import Sums
from hub.words import Basis, Grouping
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, DepartmentKind, ReferralKind, Stage
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1.journal_pb2 import Entry
from tests.domain.story import HANGZHOU, HEADQUARTERS, ZHEJIANG
from tests.domain.story import TREE as LIVES_TREE
from tests.hub.bench import Bench, cases
from tests.hub.journals import BEIJING, DONGCHENG, SHANGCHENG, XICHENG, frozen, measures
from tests.hub.lives import journals_of, lived

UNFINISHED_STAGES = [
    int(stage) for stage in (Stage.REGISTERED, Stage.FORWARDED, Stage.HANDLING, Stage.JOINT_HANDLING, Stage.DEFERRED)
]
SEEDS = (1, 2, 3)


@pytest.fixture(params=SEEDS)
def living(request: pytest.FixtureRequest, database_url: str) -> Iterator[Bench]:
    """The national hub of a federation that has lived for some weeks."""
    life = lived(request.param)
    opened = Bench(database_url, HEADQUARTERS, LIVES_TREE)
    opened.now = life.federation.now
    opened.feed(*(segment for journal in journals_of(life).values() for segment in journal.segments()))
    yield opened
    opened.store.close()


def told(rows: list[Row]) -> list[tuple[object, ...]]:
    return [(row.key, row.facts, row.counts, row.rates, row.clocks, row.open, row.overdue) for row in rows]


# ---------------------------------------------------------------- groupings


def test_a_table_of_every_bureau_that_is_asked_again_tells_what_came_and_went_between(bench: Bench) -> None:
    year: dict[str, Any] = {
        "from_day": date(2026, 1, 1),
        "to_day": date(2026, 12, 31),
        "grouping": Grouping.EVERY_BUREAU,
    }

    def both() -> tuple[dict[str, dict[int, int]], dict[str, dict[int, int]]]:
        """The year as it is kept, and summed up from its days, which alone tell the categories."""
        days: dict[str, dict[int, int]] = {}
        for category in range(1, 7):
            for row in bench.rows(category=category, **year):
                sums = days.setdefault(row.key, {})
                for measure, count in row.sums.items():
                    sums[measure] = sums.get(measure, 0) + count
        return {row.key: dict(row.sums) for row in bench.rows(**year)}, days

    first, second = cases(DONGCHENG, 2), cases(SHANGCHENG, 1)
    bench.feed(first.segment(), second.segment())
    kept, summed_up = both()
    assert kept == summed_up
    assert {DONGCHENG, SHANGCHENG} == set(kept)
    assert {DONGCHENG: 2, SHANGCHENG: 1} == {
        row.key: row.sums[Fact.REGISTERED] for row in bench.rows(measures=(int(Fact.REGISTERED),), **year)
    }
    entries = first.seq
    first.live("another")
    bench.feed(first.segment(entries + 1))
    later, summed_up = both()
    assert later == summed_up
    assert later[DONGCHENG][Fact.REGISTERED] == 3
    assert kept[SHANGCHENG] == later[SHANGCHENG]
    bench.folder.forget(DONGCHENG)
    bench.reopen()
    assert ({SHANGCHENG: kept[SHANGCHENG]},) * 2 == both()


def test_figures_are_grouped_by_day_iso_week_month_quarter_and_year(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    for number, day in enumerate(("2026-12-31", "2027-01-01", "2027-01-03", "2027-01-04")):
        journal.write(f"c{number}", "registered", MONDAY + (date.fromisoformat(day) - date(2026, 11, 16)))
    bench.feed(journal.segment())

    def registered(grouping: Grouping) -> dict[str, int]:
        return {row.key: row.facts["registered"] for row in bench.rows(grouping=grouping)}

    assert list(registered(Grouping.DAY)) == ["2026-12-31", "2027-01-01", "2027-01-03", "2027-01-04"]
    assert registered(Grouping.WEEK) == {"2026-W53": 3, "2027-W01": 1}
    assert registered(Grouping.MONTH) == {"2026-12": 1, "2027-01": 3}
    assert registered(Grouping.QUARTER) == {"2026-Q4": 1, "2027-Q1": 3}
    assert registered(Grouping.YEAR) == {"2026": 1, "2027": 3}


def test_figures_are_grouped_and_filtered_by_kind_of_department(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("a", "registered", department_kind=DepartmentKind.HALL)
    journal.write("a", "dispatched", department_kind=DepartmentKind.POLICY)
    journal.write("b", "registered", department_kind=DepartmentKind.HALL)
    journal.write("b", "dispatched", department_kind=DepartmentKind.LEGAL)
    bench.feed(journal.segment())
    rows = bench.rows(grouping=Grouping.DEPARTMENT)
    assert [(row.key, row.label, row.facts, row.open) for row in rows] == [
        ("2", "税政", {"dispatched": 1}, 1),
        ("5", "法制", {"dispatched": 1}, 1),
        ("7", "办税服务厅", {"registered": 2}, 0),
    ]
    assert bench.rows(department=DepartmentKind.LEGAL)[0].facts == {"dispatched": 1}


def test_a_clock_counts_for_the_department_whose_duty_it_is() -> None:
    journal = Journal(DONGCHENG)
    journal.write(
        "c",
        "dispatched",
        MONDAY,
        *(
            stopped(kind, ClockOutcome.MET, MONDAY, 1)
            for kind in (ClockKind.FORWARD, ClockKind.DISPATCH, ClockKind.HANDLE, ClockKind.FOLLOW_UP)
        ),
        clock(ClockKind.JOINT, ClockAction.OVERDUE, MONDAY, department_kind=int(DepartmentKind.LEGAL)),
        department_kind=DepartmentKind.POLICY,
    )
    entry = Entry.FromString(journal.entries[0].public)
    counted = {measure_name(measure): kind for measure, _, kind in measures(entry)}
    assert {name: kind for name, kind in counted.items() if name.endswith(("met", "missed"))} == {
        "forward_met": 0,
        "dispatch_met": DepartmentKind.TAX_SERVICE,
        "handle_met": DepartmentKind.POLICY,
        "follow_up_met": DepartmentKind.TAX_SERVICE,
        "joint_missed": DepartmentKind.LEGAL,
    }
    assert counted["dispatched"] == DepartmentKind.POLICY


def test_whatever_the_grouping_the_rows_add_up_to_the_total(living: Bench) -> None:
    [total] = living.rows()
    assert total.facts["registered"] > 20
    for grouping in Grouping:
        rows = living.rows(grouping=grouping)
        sums: dict[int, int] = {}
        for row in rows:
            for measure, value in row.sums.items():
                sums[measure] = sums.get(measure, 0) + value
        assert sums == total.sums, grouping.name


def test_any_span_of_days_is_the_sum_of_its_days(living: Bench) -> None:
    days = {date.fromisoformat(row.key): row.sums for row in living.rows(grouping=Grouping.DAY)}
    chance = Random(40)
    ends = sorted(days)
    for scope in (HEADQUARTERS, ZHEJIANG, HANGZHOU, SHANGCHENG):
        days = {date.fromisoformat(row.key): row.sums for row in living.rows(scope, Grouping.DAY)}
        for _ in range(8):
            first, last = sorted(ends[0] + timedelta(chance.randrange((ends[-1] - ends[0]).days)) for _ in range(2))
            expected: dict[int, int] = {}
            for day, sums in days.items():
                if first <= day <= last:
                    for measure, value in sums.items():
                        expected[measure] = expected.get(measure, 0) + value
            assert living.rows(scope, from_day=first, to_day=last)[0].sums == expected


def test_months_and_years_are_under_their_first_day() -> None:
    january, october, november = ((date(2026, month, 1) - EPOCH_DAY).days for month in (1, 10, 11))
    cell = cell_of(1, 2, 3, 4)
    sums = Sums.of_kept((october + day, DONGCHENG, frozen({cell: 1 + day})) for day in (0, 7, 30, 31))
    months = sums.gathered(first_of_month)
    assert months.by_bureau() == {DONGCHENG: {october: {cell: 40}, november: {cell: 32}}}
    plain = sums.gathered(first_of_month, grounds=False)
    assert plain.by_bureau() == {DONGCHENG: {october: {4: 40}, november: {4: 32}}}
    assert months.gathered(first_of_year).by_bureau() == {DONGCHENG: {january: {cell: 72}}}


# ---------------------------------------------------------------- what is unfinished


def test_what_is_unfinished_by_the_tallies_is_what_the_open_cases_are(living: Bench) -> None:
    with living.store.reading() as connection:
        by = (OPEN_CASES.c.bureau, OPEN_CASES.c.category, OPEN_CASES.c.channel)
        counted = connection.execute(
            sa.select(*by, sa.func.count()).where(OPEN_CASES.c.stage.in_(UNFINISHED_STAGES)).group_by(*by)
        ).all()
    assert counted
    for grouping, column in ((Grouping.EVERY_BUREAU, 0), (Grouping.CATEGORY, 1), (Grouping.CHANNEL, 2)):
        expected: dict[str, int] = {}
        for row in counted:
            expected[str(row[column])] = expected.get(str(row[column]), 0) + row[3]
        rows = living.rows(grouping=grouping)
        assert {row.key: row.unfinished for row in rows if row.unfinished} == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_unfinished_on_a_past_day_is_what_a_hub_of_that_day_had_open(seed: int, tmp_path: Path) -> None:
    life = lived(seed)
    days = sorted({entry.occurred_at.date() for of in life.federation.entries.values() for entry in of})
    whole = Bench(f"sqlite:///{tmp_path}/whole.db", HEADQUARTERS, LIVES_TREE)
    whole.feed(*(segment for journal in journals_of(life).values() for segment in journal.segments()))
    for day in days[:: max(1, len(days) // 4)]:
        then = Bench(f"sqlite:///{tmp_path}/{day}.db", HEADQUARTERS, LIVES_TREE)
        for bureau, journal in journals_of(life).items():
            end = to_micros(MONDAY.replace(year=day.year, month=day.month, day=day.day, hour=16))
            early = Journal(bureau)
            for sealed in journal.entries:
                if Entry.FromString(sealed.public).occurred_at_us < end:
                    early.seal(sealed.public)
            then.feed(*early.segments())
        with then.store.reading() as connection:
            expected = connection.execute(
                sa.select(sa.func.count()).select_from(OPEN_CASES).where(OPEN_CASES.c.stage.in_(UNFINISHED_STAGES))
            ).scalar_one()
        assert whole.rows(to_day=day)[0].unfinished == expected
        assert whole.rows(from_day=day, to_day=day)[0].unfinished == expected
        then.store.close()
    whole.store.close()


def test_rows_in_time_say_what_was_unfinished_at_the_end_of_each(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("a", "registered", MONDAY - 30 * DAY)
    journal.write("b", "registered", MONDAY)
    journal.write("a", "completed", MONDAY + DAY)
    journal.write("c", "received", MONDAY + DAY)
    journal.write("c", "released", MONDAY + 2 * DAY, referral_kind=1)
    bench.feed(journal.segment())
    rows = bench.rows(grouping=Grouping.DAY, from_day=date(2026, 11, 16))
    assert [(row.key, row.unfinished) for row in rows] == [("2026-11-16", 2), ("2026-11-17", 2), ("2026-11-18", 1)]


def test_a_bureau_that_does_nothing_in_a_period_still_has_what_is_unfinished(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("a", "registered", MONDAY)
    bench.feed(journal.segment())
    later: dict[str, Any] = {"from_day": date(2026, 12, 1), "to_day": date(2026, 12, 31)}
    assert [(row.key, row.unfinished) for row in bench.rows(grouping=Grouping.EVERY_BUREAU, **later)] == [
        (DONGCHENG, 1)
    ]
    [row] = bench.rows(**later)
    assert row.counts["unfinished"] == 1
    assert {rate.name: (rate.numerator, rate.denominator) for rate in row.rates}["completion"] == (0, 1)


def test_what_is_unfinished_is_not_told_by_kind_of_department_nor_a_rate_that_needs_it(bench: Bench) -> None:
    bench.feed(cases(DONGCHENG, 1, kinds=(2, 2, 2)).segment())
    for row in (*bench.rows(grouping=Grouping.DEPARTMENT), *bench.rows(department=2)):
        assert row.unfinished is None
        assert "unfinished" not in row.counts
        assert "completion" not in {rate.name for rate in row.rates}


def test_every_way_of_handing_a_case_on_makes_it_anothers(bench: Bench) -> None:
    journal = Journal(BEIJING)
    for kind in ReferralKind:
        for relayed in (False, True):
            journal.write(f"{kind}{relayed}", "received")
            journal.write(f"{kind}{relayed}", "released", referral_kind=int(kind), relayed=relayed)
    bench.feed(journal.segment())
    [row] = bench.rows()
    assert (row.unfinished, row.counts["taken_on"], row.counts["handed_on"]) == (0, 10, 10)


# ---------------------------------------------------------------- comparison


def test_a_period_is_compared_with_the_one_before_and_with_last_years(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    for number, day in enumerate((-365, -30, -30, 0, 0, 0)):
        journal.live(f"c{number}", MONDAY + day * DAY, late=number in {1, 3})
    bench.feed(journal.segment())
    question = Question(HEADQUARTERS, date(2026, 11, 1), date(2026, 11, 30))
    with bench.store.reading() as connection:
        [found] = compare(connection, bench.tree, question, 0)
    before, year_before = found.changes
    assert (before.basis, before.first, before.last) == (Basis.LAST_PERIOD, date(2026, 10, 1), date(2026, 10, 31))
    assert before.facts["registered"] == 1
    assert before.rates["on_time"] == pytest.approx(100 * (2 / 3 - 1 / 2))
    assert year_before.basis is Basis.YEAR_BEFORE
    assert year_before.facts["registered"] == 2
    assert year_before.rates["on_time"] == pytest.approx(100 * (2 / 3 - 1))
    assert year_before.before.facts["registered"] == 1


@pytest.mark.parametrize(
    ("first", "last", "before", "year_before"),
    [
        ("2026-03-01", "2026-03-31", ("2026-02-01", "2026-02-28"), ("2025-03-01", "2025-03-31")),
        ("2026-10-01", "2026-12-31", ("2026-07-01", "2026-09-30"), ("2025-10-01", "2025-12-31")),
        ("2026-11-16", "2026-11-22", ("2026-11-09", "2026-11-15"), ("2025-11-17", "2025-11-23")),
        ("2026-11-05", "2026-11-08", ("2026-11-01", "2026-11-04"), ("2025-11-05", "2025-11-08")),
        ("2028-02-20", "2028-02-29", ("2028-02-10", "2028-02-19"), ("2027-02-20", "2027-02-28")),
    ],
)
def test_the_days_compared_are_the_calendars_or_as_many_before(
    first: str, last: str, before: tuple[str, str], year_before: tuple[str, str]
) -> None:
    asked = (date.fromisoformat(first), date.fromisoformat(last))
    for basis, expected in ((Basis.LAST_PERIOD, before), (Basis.YEAR_BEFORE, year_before)):
        assert days_compared(*asked, basis) == tuple(map(date.fromisoformat, expected))


@pytest.mark.parametrize(
    ("first", "last", "period"),
    [
        ("2026-10-01", "2026-10-31", "2026-10"),
        ("2026-10-05", "2026-10-31", None),
        ("2026-07-01", "2026-12-31", None),
        ("2026-10-07", "2026-10-11", None),
        ("2026-10-05", "2026-10-11", "2026-W41"),
    ],
)
def test_days_are_a_period_only_when_they_begin_and_end_so(first: str, last: str, period: str | None) -> None:
    found = whole_period(date.fromisoformat(first), date.fromisoformat(last))
    assert period == (None if found is None else str(found))


def test_rows_in_time_are_compared_each_with_its_own_predecessor(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    for number, day in enumerate((-31, 0, 0)):
        journal.write(f"c{number}", "registered", MONDAY + day * DAY)
    bench.feed(journal.segment())
    question = Question(HEADQUARTERS, date(2026, 10, 1), date(2026, 11, 30), Grouping.MONTH)
    with bench.store.reading() as connection:
        found = compare(connection, bench.tree, question, 0)
    changes = {of.row.key: [change.facts.get("registered") for change in of.changes] for of in found}
    assert changes == {"2026-10": [1, 1], "2026-11": [1, 2]}


def test_what_cannot_be_compared_is_refused_by_name(bench: Bench) -> None:
    with bench.store.reading() as connection:
        with pytest.raises(ComparisonUnbounded):
            compare(connection, bench.tree, Question(HEADQUARTERS, date(2026, 10, 1)), 0)
        cut = Question(HEADQUARTERS, date(2026, 10, 2), date(2026, 11, 30), Grouping.MONTH)
        with pytest.raises(ComparisonUneven) as refused:
            compare(connection, bench.tree, cut, 0)
    assert refused.value.chinese


# ---------------------------------------------------------------- late, and of a part


def test_what_is_recorded_late_restates_the_day_it_belongs_to(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("a", "registered", MONDAY)
    bench.feed(journal.segment())
    day: dict[str, Any] = {"from_day": date(2026, 11, 16), "to_day": date(2026, 11, 16)}
    assert bench.rows(**day)[0].facts == {"registered": 1}
    journal.write("b", "registered", MONDAY + 5 * DAY)
    journal.write("c", "registered", MONDAY)
    bench.feed(journal.segment(2))
    assert bench.rows(**day)[0].facts == {"registered": 2}
    assert [row.facts["registered"] for row in bench.rows(grouping=Grouping.DAY)] == [2, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hub_of_a_province_has_exactly_the_national_hubs_figures_of_it(seed: int, tmp_path: Path) -> None:
    life = lived(seed)
    hubs = {scope: Bench(f"sqlite:///{tmp_path}/{scope}.db", scope, LIVES_TREE) for scope in (HEADQUARTERS, ZHEJIANG)}
    for scope, hub in hubs.items():
        hub.now = life.federation.now
        for bureau, journal in journals_of(life).items():
            if LIVES_TREE.contains(scope, bureau):
                hub.feed(*journal.segments(), journal.head(hub.now))
    chance = Random(seed)
    begin = date(2026, 3, 1)
    for grouping in Grouping:
        for scope in (ZHEJIANG, HANGZHOU, SHANGCHENG):
            first, last = sorted(begin + timedelta(chance.randrange(90)) for _ in range(2))
            questions: tuple[dict[str, Any], ...] = (
                {},
                {"from_day": first, "to_day": last},
                {"category": 1},
                {"department": 2},
            )
            for days in questions:
                national, provincial = (told(hub.rows(scope, grouping, **days)) for hub in hubs.values())
                assert provincial == national, (grouping, scope, days)
    for hub in hubs.values():
        hub.store.close()


# ---------------------------------------------------------------- definitions


def test_every_figure_has_a_label_a_clause_and_a_sentence_in_both_languages() -> None:
    assert set(FACTS) == set(Fact)
    known = explanations()
    for explanation in known.values():
        assert explanation.label
        assert explanation.clause.startswith("§")
        assert explanation.sentence.endswith(".")
        assert explanation.chinese.endswith("。")
    names = [fact.name.lower() for fact in Fact] + [of.name for of in (*COUNTS, *RATES)]
    for kind in ClockKind:
        names += [measure_name(met(kind)), measure_name(missed(kind))]
    assert set(names) <= set(known)
    # What is open and what is overdue now is counted by nobody's day.
    assert len(known) == len(names) + len(("open", "overdue")) + 10 * len(ClockKind)
    assert len({of.name for of in (*COUNTS, *RATES)} | {fact.name.lower() for fact in Fact}) == (
        len(COUNTS) + len(RATES) + len(Fact)
    )


def test_when_entries_come_to_be_counted_in_another_way_every_ledger_is_folded_again(bench: Bench) -> None:
    journal = cases(DONGCHENG, 2)
    bench.feed(journal.segment(), cases(XICHENG, 1).segment())
    before = told(bench.rows())
    bench.store.close()
    engine = sa.create_engine(bench.url)
    with engine.begin() as connection:
        connection.execute(sa.update(HUB_FACTS).where(HUB_FACTS.c.name == "definitions").values(value="1"))
    engine.dispose()
    bench.open()
    assert bench.rows()[0].facts == {}
    assert bench.folder.mark(DONGCHENG).announced_seq == journal.seq
    bench.seconds += 10
    assert sorted(bench.folder.stuck(3)) == [DONGCHENG, XICHENG]
    bench.folder.take_answers([Answer(DONGCHENG, journal.segments())])
    bench.folder.take_answers([Answer(XICHENG, cases(XICHENG, 1).segments())])
    assert told(bench.rows()) == before
    assert bench.folder.stuck(0) == []


def test_forgetting_a_bureau_leaves_nothing_of_it_in_any_month(bench: Bench) -> None:
    bench.feed(cases(SHANGCHENG, 3, kinds=(7, 1, 3)).segment(), cases(DONGCHENG, 1).segment())
    bench.folder.forget(SHANGCHENG)
    whole: dict[str, Any] = {"from_day": date(2026, 11, 1), "to_day": date(2026, 11, 30)}
    assert told(bench.rows(ZHEJIANG, **whole))[0][1] == {}
    assert bench.rows(**whole)[0].facts == bench.rows(BEIJING, **whole)[0].facts
