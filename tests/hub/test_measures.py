"""What is counted: the measures of an entry, the rates, the percentiles, and that the wire has no event without a rule."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from hub import query
from hub.fold import pack, unpack
from hub.measures import (
    BUCKETS,
    EVENTS,
    HISTOGRAM_EDGES_WORKDAYS,
    RATES,
    Fact,
    bucket_of,
    due_day,
    measure_name,
    measures,
    met,
    missed,
    percentile_workdays,
    shanghai_day,
    taken,
)
from hub.parking import Parking
from hub.store import METADATA, Store
from kuaixiang.domain.words import ClockKind, ClockOutcome
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1 import statistics_pb2
from kuaixiang.wire.v1.journal_pb2 import Entry
from tests.hub.journals import (
    DONGCHENG,
    HEADQUARTERS,
    MONDAY,
    XICHENG,
    Journal,
    due,
    overdue,
    started,
    stopped,
    tree,
)

TODAY = shanghai_day(to_micros(MONDAY))


def entry(*clocks: object, event: str = "became_overdue") -> Entry:
    journal = Journal(DONGCHENG)
    journal.write("c", event, MONDAY, *clocks)  # type: ignore[arg-type]
    return Entry.FromString(journal.entries[0].public)


def test_every_event_of_the_wire_has_a_rule() -> None:
    assert EVENTS == {field.name for field in Entry.DESCRIPTOR.oneofs_by_name["event"].fields}


def test_the_groupings_and_labels_are_the_wires() -> None:
    named = {value.number: value.name for value in statistics_pb2.Grouping.DESCRIPTOR.values}
    assert {int(grouping) for grouping in query.Grouping} == set(named)
    assert all(
        named[grouping].endswith(grouping.name) for grouping in query.Grouping if grouping is not query.Grouping.TOTAL
    )


def test_a_clock_that_ran_out_is_missed_on_its_last_day() -> None:
    change = overdue(ClockKind.FEEDBACK, MONDAY - timedelta(days=3))
    assert measures(entry(change)) == [(missed(ClockKind.FEEDBACK), TODAY - 3)]


def test_what_is_done_in_time_is_met_on_the_day_it_would_have_fallen_due() -> None:
    change = stopped(ClockKind.HANDLE, ClockOutcome.MET, MONDAY + timedelta(days=4), 2.5)
    assert measures(entry(change)) == [(met(ClockKind.HANDLE), TODAY + 4), (taken(ClockKind.HANDLE, 3), TODAY)]


def test_what_is_done_late_adds_its_working_days_and_no_second_miss() -> None:
    change = stopped(ClockKind.HANDLE, ClockOutcome.MISSED, MONDAY - timedelta(days=4), 9)
    assert measures(entry(change)) == [(taken(ClockKind.HANDLE, 6), TODAY)]


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


def test_a_tally_key_survives_its_packing() -> None:
    for key in ((20773, 6, 6, 1609), (0, 0, 0, 1), (-3, 15, 15, 65535)):
        assert unpack(pack(*key)) == key


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
