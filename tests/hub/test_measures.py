"""What is counted: the measures of an entry, the rates, the percentiles, and that the wire has no event without a rule."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import hub
from demo.journals import MONDAY, Journal, due, overdue, started, stopped
from hub import query, words
from hub.cells import CELL_BITS, CELL_MASK, COUNT_MAX, MEASURE_MASK, Ground, cell_of, grounds_of, summed, thawed
from hub.definitions import RATES
from hub.fold import first_of_month, first_of_year
from hub.measures import (
    BUCKETS,
    EVENTS,
    HISTOGRAM_EDGES_WORKDAYS,
    Fact,
    bucket_of,
    due_day,
    measure_name,
    met,
    missed,
    percentile_workdays,
    shanghai_day,
    taken,
)
from hub.parking import Parking
from hub.store import METADATA, Store, superiors_of
from hub.sums import Sums
from kuaixiang.domain.words import ClockKind, ClockOutcome
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.chain import GENESIS
from kuaixiang.wire.v1 import statistics_pb2
from kuaixiang.wire.v1.journal_pb2 import Entry
from tests.hub.journals import BEIJING, DONGCHENG, HEADQUARTERS, SHANGCHENG, XICHENG, frozen, measures, tree

TODAY = shanghai_day(to_micros(MONDAY))


def entry(*clocks: object, event: str = "became_overdue") -> Entry:
    journal = Journal(DONGCHENG)
    journal.write("c", event, MONDAY, *clocks)  # type: ignore[arg-type]
    return Entry.FromString(journal.entries[0].public)


def test_every_event_of_the_wire_has_a_rule() -> None:
    assert EVENTS == {field.name for field in Entry.DESCRIPTOR.oneofs_by_name["event"].fields}


def test_the_groupings_and_labels_are_the_wires() -> None:
    named = {value.number: value.name for value in statistics_pb2.Grouping.DESCRIPTOR.values}
    assert {int(grouping) for grouping in words.Grouping} == set(named)
    assert all(
        named[grouping].endswith(grouping.name) for grouping in words.Grouping if grouping is not words.Grouping.TOTAL
    )


def test_a_clock_that_ran_out_is_missed_on_its_last_day() -> None:
    change = overdue(ClockKind.FEEDBACK, MONDAY - timedelta(days=3))
    assert measures(entry(change)) == [(missed(ClockKind.FEEDBACK), TODAY - 3, 0)]


def test_what_is_done_in_time_is_met_on_the_day_it_would_have_fallen_due() -> None:
    change = stopped(ClockKind.HANDLE, ClockOutcome.MET, MONDAY + timedelta(days=4), 2.5)
    assert measures(entry(change)) == [(met(ClockKind.HANDLE), TODAY + 4, 0), (taken(ClockKind.HANDLE, 3), TODAY, 0)]


def order(event: str, **facts: object) -> Entry:
    journal = Journal(DONGCHENG)
    journal.write("110000-2026-D000001", event, MONDAY, stage=0, custody=0, **facts)  # type: ignore[arg-type]
    return Entry.FromString(journal.entries[0].public)


@pytest.mark.parametrize(
    ("event", "fact"),
    [
        ("order_acknowledged", Fact.ORDERS_ACKNOWLEDGED),
        ("order_answered", Fact.ORDERS_ANSWERED),
        ("order_answer_returned", Fact.ORDER_ANSWERS_RETURNED),
        ("order_closed", Fact.ORDERS_CLOSED),
        ("order_cancelled", Fact.ORDERS_CANCELLED),
    ],
)
def test_what_is_done_with_an_order_counts_where_it_is_done_and_not_where_it_is_heard(event: str, fact: Fact) -> None:
    assert [(fact, TODAY, 0)] == measures(order(event))
    assert [] == measures(order(event, from_bureau=HEADQUARTERS))


def test_an_order_is_received_by_the_bureau_it_is_for_and_not_by_those_that_pass_it_on() -> None:
    assert [(Fact.ORDERS_ISSUED, TODAY, 0)] == measures(order("order_issued", to_bureau=DONGCHENG))
    assert [(Fact.ORDERS_RECEIVED, TODAY, 0)] == measures(order("order_received", from_bureau=HEADQUARTERS))
    assert [] == measures(order("order_received", from_bureau=HEADQUARTERS, to_bureau=XICHENG))


def test_the_deadline_of_an_order_counts_in_the_ledger_of_the_bureau_that_is_to_answer() -> None:
    assert [(missed(ClockKind.ORDER), TODAY, 0)] == measures(entry(overdue(ClockKind.ORDER, MONDAY)))
    assert [] == measures(entry(overdue(ClockKind.ORDER, MONDAY, XICHENG)))


def test_what_is_done_late_adds_its_working_days_and_no_second_miss() -> None:
    change = stopped(ClockKind.HANDLE, ClockOutcome.MISSED, MONDAY - timedelta(days=4), 9)
    assert measures(entry(change)) == [(taken(ClockKind.HANDLE, 6), TODAY, 0)]


def test_a_clock_stopped_by_something_else_counts_nothing() -> None:
    change = stopped(ClockKind.HANDLE, ClockOutcome.VOID, MONDAY, 1)
    assert measures(entry(change, started(ClockKind.FEEDBACK, MONDAY))) == []


def test_a_clock_that_this_version_does_not_know_counts_nothing() -> None:
    change = overdue(ClockKind.HANDLE, MONDAY)
    change.kind = 77  # type: ignore[assignment]
    assert measures(entry(change)) == []


def test_a_deadline_belongs_to_the_day_that_it_ends() -> None:
    assert due_day(due(MONDAY)) == TODAY


@pytest.mark.parametrize(("milli", "bucket"), [(0, 0), (500, 0), (501, 1), (5000, 4), (20000, 8), (20001, 9)])
def test_a_bucket_holds_its_upper_edge(milli: int, bucket: int) -> None:
    assert bucket_of(milli) == bucket


def test_percentiles_are_interpolated_within_a_bucket() -> None:
    counts = [0] * BUCKETS
    assert percentile_workdays(counts, 0.5) == 0.0
    counts[3] = 10
    assert percentile_workdays(counts, 0.5) == pytest.approx(2.5)
    assert percentile_workdays(counts, 0.9) == pytest.approx(2.9)
    counts[-1] = 90
    assert percentile_workdays(counts, 0.5) == HISTOGRAM_EDGES_WORKDAYS[-1]


def test_every_measure_has_its_own_number_and_name() -> None:
    numbers = [int(fact) for fact in Fact]
    for kind in ClockKind:
        numbers += [met(kind), missed(kind), *(taken(kind, bucket) for bucket in range(BUCKETS))]
    assert len(set(numbers)) == len(numbers)
    assert len({measure_name(number) for number in numbers}) == len(numbers)
    assert max(numbers) < 2**16


def test_every_rate_has_one_definition_and_a_sentence() -> None:
    assert len({rate.name for rate in RATES}) == len(RATES)
    assert len({(rate.numerator, rate.denominator) for rate in RATES}) == len(RATES)
    assert all(rate.sentence.endswith(".") for rate in RATES)


def test_cells_survive_their_packing_and_what_is_no_count_is_refused() -> None:
    cells = {cell_of(*grounds): nth for nth, grounds in enumerate(((6, 6, 9, 1809), (0, 0, 0, 1), (15, 15, 15, 65535)))}
    assert [grounds_of(cell) for cell in cells] == [(6, 6, 9, 1809), (0, 0, 0, 1), (15, 15, 15, 65535)]
    assert thawed(frozen(cells)) == cells
    assert thawed(frozen({1: COUNT_MAX})) == {1: COUNT_MAX}
    kept = [(TODAY, DONGCHENG, frozen({1: COUNT_MAX}))]
    with pytest.raises(OverflowError):
        Sums.of_kept(kept).with_kept(kept)


def test_kept_cells_are_summed_by_their_key_and_grounds() -> None:
    chance = Random(40)
    kept = [
        (
            chance.choice("ab"),
            {
                cell_of(chance.randrange(3), chance.randrange(3), chance.randrange(3), chance.choice((1, 2, 1809))): 2
                ** 31
                for _ in range(20)
            },
        )
        for _ in range(30)
    ]
    frozen_ = [(key, frozen(cells)) for key, cells in kept]
    for wanted in ({}, {Ground.CHANNEL: 2}):
        for measures_ in ((), (2, 1809)):
            expected: dict[tuple[str, int, int], int] = {}
            for key, cells in kept:
                for cell, value in cells.items():
                    category, channel, _, measure = grounds_of(cell)
                    if channel == wanted.get(Ground.CHANNEL, channel) and measure in (measures_ or {measure}):
                        at = (key, category, measure)
                        expected[at] = expected.get(at, 0) + value
            found = summed(frozen_, [Ground.CATEGORY], wanted, measures_)
            assert {(*at, measure): value for at, sums in found for measure, value in sums.items()} == expected
    assert summed([], [Ground.CATEGORY], {}) == []
    assert summed([("a", b"")], [], {}) == []


def test_parking_has_bounds_and_gives_back_what_can_be_placed() -> None:
    one, other = Journal(DONGCHENG), Journal(XICHENG)
    for journal in (one, other):
        for number in range(4):
            journal.live(f"c{number}")
    parking = Parking(per_bureau_max=20, entries_max=30)
    assert parking.put(one.segment(8, 14))
    assert not parking.put(one.segment(8, 14))
    assert parking.put(one.segment(15, 21))
    assert not parking.put(one.segment(22, 28))
    assert parking.put(other.segment(8, 21))
    assert not parking.put(other.segment(22, 28))
    assert (parking.entries, parking.entries_of(DONGCHENG), parking.entries_of(XICHENG)) == (28, 14, 14)
    assert parking.take(DONGCHENG, 5) is None
    taken_out = parking.take(DONGCHENG, 7)
    assert taken_out is not None
    assert taken_out.first_seq == 8
    parking.drop(XICHENG)
    assert parking.entries == 7


def test_the_migrations_make_the_tables_that_the_store_uses(database_url: str) -> None:
    Store(database_url, tree(), HEADQUARTERS).close()
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "hub_version"})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_a_database_of_the_first_tables_is_brought_up_to_date_and_its_ledgers_are_folded_again(
    database_url: str,
) -> None:
    folder = Path(hub.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(folder / "versions"))
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO marks VALUES (:bureau, 1, 7, :hash, 5, 6, 1, 9, 'a fork')",
            "INSERT INTO tallies VALUES (:bureau, 0, 20000, 1, 1, 1, 3)",
            "INSERT INTO open_cases VALUES (:bureau, 'c', 1, 1, 1, 1, 5)",
            "INSERT INTO hub_facts VALUES ('scope', '000000'), ('tree', 'some shape')",
        ):
            connection.execute(sa.text(statement), {"bureau": DONGCHENG, "hash": b"h" * 32})
    with Store(database_url, tree(), HEADQUARTERS) as store:
        [mark] = store.marks().values()
        with store.reading() as connection:
            question = query.Question(HEADQUARTERS)
            [row] = query.figures(connection, tree(), question, 0)
    engine.dispose()
    assert (mark.seq, mark.announced_seq, mark.behind, mark.quarantine, mark.hash) == (0, 9, True, "", GENESIS)
    assert (row.facts, row.open) == ({}, 0)


def test_sums_are_what_adding_one_by_one_gives() -> None:
    """Up the tree, by month and by year, and onto what is kept, whatever order its cells have there."""
    chance = Random(6)
    superiors = superiors_of(tree(), HEADQUARTERS)
    numbers = {
        bureau: [chance.randrange(-40, 400) << CELL_BITS | chance.choice((1, 1 << 24 | 2, 3)) for _ in range(60)]
        for bureau in (DONGCHENG, XICHENG, SHANGCHENG, BEIJING, HEADQUARTERS)
    }
    own = Sums.of_numbers(numbers)

    def expected(first_of: Callable[[int], int], *, grounds: bool = True, up: bool = True) -> dict[str, dict[int, Any]]:
        found: dict[str, dict[int, Any]] = {}
        for bureau, of_bureau in numbers.items():
            for number in of_bureau:
                day, cell = first_of(number >> CELL_BITS), number & (CELL_MASK if grounds else MEASURE_MASK)
                for one in superiors[bureau] if up else (bureau,):
                    found.setdefault(one, {}).setdefault(day, Counter())[cell] += 1
        return found

    assert expected(lambda day: day, up=False) == own.by_bureau()
    assert expected(lambda day: day) == own.upwards(superiors).by_bureau()
    assert expected(first_of_month) == own.upwards(superiors).gathered(first_of_month).by_bureau()
    assert expected(first_of_year, grounds=False, up=False) == own.gathered(first_of_year, grounds=False).by_bureau()

    of_all_days, once = own.gathered(lambda _: 0), expected(lambda _: 0, up=False)
    kept = [(day, bureau, _upside_down(cells)) for day, bureau, cells in of_all_days.frozen() if bureau != BEIJING]
    twice = {bureau: {0: days[0] if bureau == BEIJING else days[0] + days[0]} for bureau, days in once.items()}
    assert twice == of_all_days.with_kept(kept).by_bureau()
    assert {} == own.negated().with_kept(list(own.frozen())).by_bureau()


def _upside_down(kept: bytes) -> bytes:
    numbers, counts = np.frombuffer(kept, "<u4").reshape(2, -1)
    return numbers[::-1].tobytes() + counts[::-1].tobytes()
