"""The fold's rules over both databases, with hand-made journals."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from demo.journals import DAY, MONDAY, Journal, overdue, started, stopped
from hub.folder import Answer, Message
from hub.store import OtherScope, Store
from hub.words import Grouping
from kuaixiang.domain.tree import Bureau, BureauTree
from kuaixiang.domain.words import ClockKind, ClockOutcome, Custody, Stage
from kuaixiang.runtime.bus import journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.database import DatabaseHeld
from kuaixiang.wire.v1 import journal_pb2 as pb
from tests.hub.bench import NOW, Bench, cases
from tests.hub.journals import BEIJING, DONGCHENG, HANGZHOU, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG


def test_a_folded_case_counts_at_its_bureau_and_at_each_superior_and_nowhere_else(bench: Bench) -> None:
    bench.feed(cases(SHANGCHENG, 1).segment())
    expected = {
        "registered": 1,
        "completed": 1,
        "forwarded": 1,
        "dispatched": 1,
        "fed_back": 1,
        "followed_up": 1,
        "satisfied": 1,
        "written_off": 1,
    }
    for scope in (SHANGCHENG, HANGZHOU, ZHEJIANG, HEADQUARTERS):
        assert bench.facts(scope) == expected
    for scope in (BEIJING, DONGCHENG):
        assert bench.facts(scope) == {}


def test_the_national_figure_is_the_sum_of_its_children_and_its_own(bench: Bench) -> None:
    counts = {HEADQUARTERS: 1, BEIJING: 2, DONGCHENG: 3, XICHENG: 4, ZHEJIANG: 5, HANGZHOU: 6, SHANGCHENG: 7}
    bench.feed(*(cases(bureau, count).segment() for bureau, count in counts.items()))
    by_bureau = {row.key: row.facts["registered"] for row in bench.rows(grouping=Grouping.BUREAU)}
    assert by_bureau == {HEADQUARTERS: 1, BEIJING: 9, ZHEJIANG: 18}
    assert bench.facts()["registered"] == 28
    alone = {row.key: row.facts["registered"] for row in bench.rows(grouping=Grouping.EVERY_BUREAU)}
    assert alone == counts


def test_a_segment_that_comes_again_changes_nothing(bench: Bench) -> None:
    journal = cases(DONGCHENG, 3)
    bench.feed(journal.segment())
    before = bench.facts()
    taken = bench.feed(journal.segment(), journal.segment(1, 5), journal.segment(3))
    assert taken.entries == 0
    assert taken.duplicates == 3
    assert bench.facts() == before


def test_of_a_segment_that_overlaps_only_the_rest_is_folded(bench: Bench) -> None:
    journal = cases(DONGCHENG, 4)
    bench.feed(journal.segment(1, 10))
    assert bench.feed(journal.segment(5)).entries == journal.seq - 10
    assert bench.facts()["written_off"] == 4


def test_what_comes_before_its_predecessors_is_parked_until_they_come(bench: Bench) -> None:
    journal = cases(DONGCHENG, 3)
    assert bench.feed(journal.segment(15)).entries == 0
    assert bench.feed(journal.segment(6, 14)).entries == 0
    assert bench.folder.parked_entries(DONGCHENG) == journal.seq - 5
    assert bench.folder.mark(DONGCHENG).announced_seq == journal.seq
    bench.feed(journal.segment(1, 5))
    assert bench.folder.mark(DONGCHENG).seq == journal.seq
    assert bench.folder.parked_entries(DONGCHENG) == 0
    assert bench.facts()["written_off"] == 3


def test_a_gap_is_known_after_a_crash_too(bench: Bench) -> None:
    bench.feed(cases(DONGCHENG, 3).segment(15))
    bench.reopen()
    bench.seconds += 10
    assert bench.folder.stuck(3) == [DONGCHENG]


def test_segments_that_cannot_be_placed_do_not_put_off_the_refill(bench: Bench) -> None:
    journal = cases(DONGCHENG, 3)
    for first in range(2, 12):
        bench.feed(journal.segment(first, first))
        bench.seconds += 1
    assert bench.folder.stuck(3) == [DONGCHENG]


def test_a_fork_is_quarantined_and_the_others_go_on(bench: Bench) -> None:
    true, false = cases(DONGCHENG, 2), Journal(DONGCHENG)
    false.live("another")
    false.live("another still")
    bench.feed(true.segment(1, 7))
    bench.feed(false.segment(8), cases(XICHENG, 2).segment())
    assert bench.folder.mark(DONGCHENG).seq == 7
    assert "but" in bench.folder.mark(DONGCHENG).quarantine
    assert bench.facts(XICHENG)["registered"] == 2
    assert bench.feed(true.segment(8)).entries == 0
    assert bench.facts(DONGCHENG)["registered"] == 1
    bench.reopen()
    assert bench.folder.mark(DONGCHENG).quarantine


def test_a_fork_shows_by_its_head_alone(bench: Bench) -> None:
    bench.feed(cases(DONGCHENG, 1).segment())
    other = Journal(DONGCHENG)
    other.live("another")
    bench.feed(other.head())
    assert bench.folder.mark(DONGCHENG).quarantine


def test_a_chain_that_does_not_end_in_its_hash_is_a_fork(bench: Bench) -> None:
    segment = cases(DONGCHENG, 1).segment()
    segment.entries[3].public += b"\x00"
    bench.feed(segment)
    assert "does not end" in bench.folder.mark(DONGCHENG).quarantine
    assert bench.facts() == {}


def test_an_entry_that_names_another_bureau_quarantines_the_bureau_that_wrote_it(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.live("a")
    journal.write("b", "registered", names=XICHENG)
    bench.feed(journal.segment())
    assert bench.folder.mark(DONGCHENG).quarantine == f"the entry at seq 8 cannot be read: it names bureau {XICHENG}"
    assert bench.facts() == {}


@pytest.mark.parametrize(
    "strange",
    [
        {"case_id": random.Random(1).randbytes(4_000).hex()},
        {"department": random.Random(1).randbytes(4_000).hex()},
    ],
    ids=["case", "department"],
)
def test_a_number_that_no_ledger_gives_quarantines_the_bureau_and_the_others_go_on(
    bench: Bench, strange: dict[str, str]
) -> None:
    journal = Journal(DONGCHENG)
    running = started(ClockKind.HANDLE, MONDAY + DAY, strange.get("department", "policy"))
    journal.write(strange.get("case_id", "a"), "registered", MONDAY, running)
    bench.feed(journal.segment(), cases(XICHENG, 1).segment())
    assert "the entry at seq 1 cannot be read" in bench.folder.mark(DONGCHENG).quarantine
    assert 1 == bench.facts()["registered"]


def test_bytes_that_are_no_entry_quarantine_the_bureau_that_chained_them(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.seal(b"\xff\xff\xff")
    bench.feed(journal.segment())
    assert bench.folder.mark(DONGCHENG).quarantine == "the entry at seq 1 cannot be read: it is no entry"


@pytest.mark.parametrize(
    "poison",
    [
        lambda _: Message(BEIJING, journal_subject(BEIJING, DONGCHENG), b"\xff"),
        lambda _: Message(BEIJING, "kx.v1.live.x", b""),
        lambda bench: bench.message(pb.Segment(bureau=DONGCHENG)),
        lambda bench: bench.message(pb.Head(bureau=DONGCHENG, seq=3)),
        lambda bench: bench.message(cases(XICHENG, 1).segment(), subject=journal_subject(BEIJING, DONGCHENG)),
        lambda bench: bench.message(cases(DONGCHENG, 1).segment(), site=ZHEJIANG),
        lambda bench: bench.message(cases(DONGCHENG, 1).segment(), subject=journal_subject(ZHEJIANG, DONGCHENG)),
        lambda _: Message(
            BEIJING, journal_subject(BEIJING, "110199"), cases("110199", 1).segment().SerializeToString()
        ),
    ],
)
def test_a_message_that_can_never_be_folded_is_set_aside_and_stops_nothing(
    bench: Bench, poison: Callable[[Bench], Message]
) -> None:
    taken = bench.folder.take([poison(bench), bench.message(cases(XICHENG, 1).segment())])
    assert taken.poison == 1
    assert taken.entries == 7
    assert bench.folder.marks().keys() == {XICHENG}


def test_a_newer_generation_that_continues_at_the_mark_is_folded_on(bench: Bench) -> None:
    journal = cases(DONGCHENG, 1)
    bench.feed(journal.segment())
    journal.restore(journal.seq)
    journal.live("after")
    bench.feed(journal.segment(8))
    assert bench.folder.mark(DONGCHENG).generation == 2
    assert bench.facts()["registered"] == 2


def test_a_restored_ledger_that_lost_entries_is_folded_again_from_the_first(bench: Bench) -> None:
    journal = cases(DONGCHENG, 3)
    bench.feed(journal.segment(), cases(XICHENG, 1).segment())
    journal.restore(7)
    journal.live("after", category=2)
    bench.feed(journal.segment(8))
    bench.seconds += 10
    assert bench.folder.mark(DONGCHENG).seq == 21
    assert bench.folder.stuck(3) == [DONGCHENG]
    bench.folder.forget(DONGCHENG)
    assert bench.facts(BEIJING) == bench.facts(XICHENG)
    bench.folder.take_answers([Answer(DONGCHENG, journal.segments())])
    assert bench.folder.stuck(0) == []
    assert bench.facts()["registered"] == 3


def test_what_an_older_generation_wrote_past_its_restore_is_ignored(bench: Bench) -> None:
    journal = cases(DONGCHENG, 2)
    late = journal.segment(8)
    journal.restore(7)
    journal.live("after")
    bench.feed(*journal.segments())
    assert bench.feed(late).entries == 0
    assert bench.facts()["registered"] == 2
    assert not bench.folder.mark(DONGCHENG).quarantine


def test_a_head_says_how_far_a_journal_reaches_and_until_when_it_is_complete(bench: Bench) -> None:
    journal = cases(DONGCHENG, 1)
    bench.feed(journal.segment(1, 5), journal.head(NOW))
    mark = bench.folder.mark(DONGCHENG)
    assert mark.behind
    assert mark.data_as_of_us == to_micros(MONDAY + 2 * DAY)
    bench.feed(journal.segment(6), journal.head(NOW))
    mark = bench.folder.mark(DONGCHENG)
    assert not mark.behind
    assert mark.data_as_of_us == to_micros(NOW)


def test_no_figure_is_of_a_later_time_than_now_whatever_a_bureaus_clock_says(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("from the future", "registered", NOW + 4000 * DAY)
    bench.feed(journal.segment())
    assert bench.folder.mark(DONGCHENG).data_as_of_us == to_micros(NOW)
    bench.feed(journal.head(NOW + 4000 * DAY))
    assert bench.folder.mark(DONGCHENG).data_as_of_us == to_micros(NOW)


def test_a_head_that_ends_before_what_was_folded_is_doubted(bench: Bench) -> None:
    journal = cases(DONGCHENG, 1)
    early = journal.head()
    bench.feed(journal.segment(), early)
    assert bench.folder.doubted() == []
    journal.live("more")
    bench.feed(journal.segment(), early)
    assert bench.folder.doubted() == [DONGCHENG]
    bench.folder.cleared(DONGCHENG)
    assert bench.folder.doubted() == []


def test_a_bureau_whose_journal_is_empty_is_up_to_date_once_it_has_said_so(bench: Bench) -> None:
    bench.feed(Journal(DONGCHENG).head(NOW))
    mark = bench.folder.mark(DONGCHENG)
    assert not mark.behind
    assert mark.data_as_of_us == to_micros(NOW)
    journal = cases(DONGCHENG, 1)
    bench.feed(journal.segment(), journal.head(NOW))
    assert bench.facts()["registered"] == 1


def test_a_new_generation_that_lost_nothing_and_has_written_nothing_is_up_to_date(bench: Bench) -> None:
    journal = cases(DONGCHENG, 1)
    bench.feed(journal.segment())
    journal.restore(journal.seq)
    bench.feed(journal.head(NOW))
    assert not bench.folder.mark(DONGCHENG).behind
    journal.live("after")
    bench.feed(*journal.segments())
    assert bench.facts()["registered"] == 2


def test_a_deadline_counts_on_the_day_it_fell_due_and_once(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.live("in time")
    journal.live("late", late=True)
    bench.feed(journal.segment())
    due_day = date(2026, 11, 23)
    [row] = bench.rows(from_day=due_day, to_day=due_day)
    assert {clock.kind: (clock.met, clock.missed) for clock in row.clocks} == {ClockKind.HANDLE: (1, 1)}
    rates = {rate.name: (rate.numerator, rate.denominator) for rate in row.rates}
    assert rates["on_time"] == rates["on_time_handle"] == (1, 2)
    assert rates["feedback_in_time"] == (0, 0)


def test_working_days_taken_are_a_histogram_of_the_day_of_the_stop(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    for number, workdays in enumerate((0.5, 0.501, 1.0, 4.0, 20.0, 21.0)):
        journal.write(f"c{number}", "completed", MONDAY, stopped(ClockKind.HANDLE, ClockOutcome.MET, NOW, workdays))
    journal.write("void", "released", MONDAY, stopped(ClockKind.HANDLE, ClockOutcome.VOID, NOW, 3.0))
    bench.feed(journal.segment())
    [row] = bench.rows(to_day=date(2026, 11, 16))
    [handle] = row.clocks
    assert handle.histogram == (1, 2, 0, 0, 1, 0, 0, 0, 1, 1)
    assert handle.p50_workdays == pytest.approx(1.0)
    assert handle.p90_workdays == 20.0


def test_an_act_belongs_to_its_day_in_shanghai(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("a", "registered", datetime(2026, 11, 16, 15, 59, 59, 999999, tzinfo=UTC))
    journal.write("b", "registered", datetime(2026, 11, 16, 16, 0, tzinfo=UTC))
    bench.feed(journal.segment())
    days = {row.key: row.facts for row in bench.rows(grouping=Grouping.DAY)}
    assert days == {"2026-11-16": {"registered": 1}, "2026-11-17": {"registered": 1}}
    assert [row.key for row in bench.rows(grouping=Grouping.MONTH)] == ["2026-11"]


def test_referrals_are_counted_by_direction_and_relays_apart(bench: Bench) -> None:
    journal = Journal(BEIJING)
    for kind, relayed in ((1, False), (2, False), (3, False), (3, True), (1, True), (4, False)):
        journal.write(f"c{kind}{relayed}", "released", referral_kind=kind, relayed=relayed, custody=Custody.RELEASED)
    bench.feed(journal.segment())
    assert bench.facts() == {
        "referred_up": 1,
        "referred_down": 1,
        "referred_across": 1,
        "relayed": 2,
        "returned_referral": 1,
    }


def test_an_answer_on_the_spot_is_complete_and_fed_back(bench: Bench) -> None:
    journal = Journal(BEIJING)
    journal.write("a", "answered_on_the_spot", stage=Stage.FED_BACK)
    bench.feed(journal.segment())
    assert bench.facts() == {"completed": 1, "completed_on_the_spot": 1, "fed_back": 1}


def test_readings_of_what_is_private_change_no_figure_and_no_open_case(bench: Bench) -> None:
    plain, read = Journal(DONGCHENG), Journal(XICHENG)
    for journal in (plain, read):
        journal.live("done")
        journal.write("open", "dispatched", MONDAY, started(ClockKind.HANDLE, MONDAY))
    for event, case_id in (("private_read", "open"), ("attachment_read", "done"), ("ledger_exported", "")):
        read.look(event, case_id, NOW)
    bench.feed(plain.segment(), read.segment())
    [without], [with_readings] = bench.rows(DONGCHENG), bench.rows(XICHENG)
    assert (without.facts, without.open, without.overdue) == (
        with_readings.facts,
        with_readings.open,
        with_readings.overdue,
    )
    assert 1 == with_readings.open
    assert read.seq == bench.folder.mark(XICHENG).seq


def test_open_cases_are_those_of_their_custodian_and_overdue_by_their_own_clocks(bench: Bench) -> None:
    journal = Journal(SHANGCHENG)
    journal.write("due", "dispatched", MONDAY, started(ClockKind.HANDLE, MONDAY + 7 * DAY), category=2)
    journal.write("in time", "dispatched", MONDAY, started(ClockKind.HANDLE, NOW + DAY), channel=2)
    journal.write("joint", "joint_handling_started", MONDAY, started(ClockKind.JOINT, MONDAY, "d1"))
    journal.write("joint", "part_completed", MONDAY, stopped(ClockKind.JOINT, ClockOutcome.MET, MONDAY, 1, "d1"))
    journal.write("gone", "released", MONDAY, overdue(ClockKind.HANDLE, MONDAY), custody=Custody.RELEASED)
    journal.live("done")
    bench.feed(journal.segment())
    [row] = bench.rows()
    assert (row.open, row.overdue) == (3, 1)
    assert {row.key: (row.open, row.overdue) for row in bench.rows(grouping=Grouping.BUREAU)} == {
        HEADQUARTERS: (0, 0),
        BEIJING: (0, 0),
        ZHEJIANG: (3, 1),
    }
    assert {row.key: (row.open, row.overdue) for row in bench.rows(grouping=Grouping.CATEGORY)} == {
        "1": (2, 0),
        "2": (1, 1),
    }
    journal.write("due", "case_withdrawn", MONDAY, stage=Stage.WITHDRAWN)
    bench.feed(journal.segment(journal.seq))
    assert (bench.rows()[0].open, bench.rows()[0].overdue) == (2, 0)


def test_figures_are_filtered_by_category_and_channel(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    for category, channel in ((1, 1), (1, 2), (2, 2)):
        journal.write(f"{category}{channel}", "registered", category=category, channel=channel)
    bench.feed(journal.segment())
    assert bench.rows(category=1)[0].facts == {"registered": 2}
    assert bench.rows(category=1, channel=2)[0].facts == {"registered": 1}
    assert {row.label: row.facts for row in bench.rows(grouping=Grouping.CHANNEL)} == {
        "12366热线": {"registered": 1},
        "12366平台": {"registered": 2},
    }


def test_a_crash_between_commit_and_acknowledgement_counts_nothing_twice(bench: Bench) -> None:
    journal = cases(DONGCHENG, 3)
    bench.feed(journal.segment(1, 12))
    bench.reopen()
    bench.feed(journal.segment(1, 12), journal.segment(13))
    assert bench.facts()["registered"] == 3
    assert bench.folder.mark(DONGCHENG).hash == journal.hashes[-1]


def test_a_second_hub_on_the_same_database_is_refused(bench: Bench) -> None:
    with pytest.raises(DatabaseHeld, match="Another hub holds"):
        Store(bench.url, bench.tree, HEADQUARTERS)


def test_a_database_of_another_scope_is_refused(bench: Bench) -> None:
    bench.store.close()
    with pytest.raises(OtherScope, match="of the hub of 000000, not of 110000"):
        Store(bench.url, bench.tree, BEIJING)


def test_a_provincial_hub_counts_its_own_tree_only(database_url: str) -> None:
    bench = Bench(database_url, ZHEJIANG)
    taken = bench.feed(cases(SHANGCHENG, 2).segment(), cases(DONGCHENG, 1).segment())
    assert taken.poison == 1
    assert bench.facts()["registered"] == 2
    bench.store.close()


def test_after_a_change_of_the_tree_totals_are_summed_up_anew(bench: Bench) -> None:
    bench.feed(cases(SHANGCHENG, 2).segment(), cases(HANGZHOU, 1).segment())
    bureaus = [
        bureau if bureau.code != SHANGCHENG else Bureau(SHANGCHENG, "s", bureau.tier, BEIJING)
        for bureau in bench.tree.bureaus.values()
    ]
    bench.tree = BureauTree("moved", bureaus)
    bench.reopen()
    assert bench.facts(BEIJING)["registered"] == 2
    assert bench.facts(ZHEJIANG)["registered"] == 1
    assert bench.facts(HEADQUARTERS)["registered"] == 3
