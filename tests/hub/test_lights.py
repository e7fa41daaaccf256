"""Lights: open cases by how near their nearest deadline is, over both databases, for each immediate subordinate."""

from collections.abc import Iterator
from typing import Any

import pytest

from demo.journals import DAY, MONDAY, Journal, clock, due, started, stopped
from hub.folder import Folder, Message
from hub.lights import lights
from hub.store import Store
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Custody, Stage
from kuaixiang.runtime.bus import journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1 import journal_pb2 as pb
from tests.hub.journals import BEIJING, DONGCHENG, HANGZHOU, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG, tree

TREE = tree()


class Bench:
    """A store that is fed journals, and looked at on some day."""

    def __init__(self, url: str) -> None:
        self.store = Store(url, TREE, HEADQUARTERS)
        self.folder = Folder(store=self.store, now_us=lambda: to_micros(MONDAY))

    def feed(self, *journals: Journal, since: int = 1) -> None:
        messages = [
            Message(TREE.site(one.bureau), journal_subject(TREE.site(one.bureau), one.bureau), segment)
            for one in journals
            for segment in [one.segment(since).SerializeToString()]
        ]
        self.folder.take(messages)

    def rows(self, scope: str = HEADQUARTERS, days: int = 0) -> dict[str, tuple[int, ...]]:
        """In time, due soon, overdue, stopped, extended; of the bureaus that have any."""
        with self.store.reading() as connection:
            found = lights(connection, TREE, scope, to_micros(MONDAY + days * DAY))
        rows = {row.bureau: (row.in_time, row.due_soon, row.overdue, row.stopped, row.extended) for row in found}
        return {bureau: row for bureau, row in rows.items() if any(row)}


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    opened = Bench(database_url)
    yield opened
    opened.store.close()


def soon(change: pb.ClockChange, day: int) -> pb.ClockChange:
    change.soon_at_us = due(MONDAY + day * DAY)
    return change


def handled(journal: Journal, case_id: str, *, due_in: int = 4, **more: Any) -> None:
    """A case that must be handled within some days, with a day's warning."""
    change = soon(started(ClockKind.HANDLE, MONDAY + due_in * DAY, "policy"), due_in - 1)
    journal.write(case_id, "dispatched", MONDAY, change, **more)


def test_a_case_goes_from_in_time_over_due_soon_to_overdue_as_time_passes(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    handled(journal, "c")
    bench.feed(journal)
    seen = [bench.rows(DONGCHENG, days).get(DONGCHENG) for days in (0, 3, 4, 5)]
    assert [(1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0)] == seen


def test_a_limit_of_one_day_is_due_soon_from_its_start(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    journal.write("c", "registered", MONDAY, started(ClockKind.FORWARD, MONDAY + DAY), stage=Stage.REGISTERED)
    bench.feed(journal)
    assert {DONGCHENG: (0, 1, 0, 0, 0)} == bench.rows(DONGCHENG)


def test_parked_offered_and_clockless_cases_are_stopped_and_closed_ones_are_not_counted(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    handled(journal, "offered", custody=Custody.OFFERED)
    handled(journal, "parked")
    review = started(ClockKind.REVIEW, MONDAY + 60 * DAY)
    journal.write("parked", "deferred", MONDAY, _stop("policy"), review, stage=Stage.DEFERRED)
    journal.write("bare", "followed_up", MONDAY, stage=Stage.FOLLOWED_UP)
    handled(journal, "gone", custody=Custody.RELEASED)
    handled(journal, "closed")
    journal.write("closed", "written_off", MONDAY, _stop("policy"), stage=Stage.WRITTEN_OFF)
    bench.feed(journal)
    assert {DONGCHENG: (0, 0, 0, 3, 0)} == bench.rows(DONGCHENG, 30)


def _stop(department: str) -> pb.ClockChange:
    return stopped(ClockKind.HANDLE, ClockOutcome.VOID, MONDAY + 4 * DAY, 0.1, department)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_extension_counts_besides_and_a_recomputed_deadline_leaves_it_extended(bench: Bench, at_once: bool) -> None:
    journal = Journal(DONGCHENG)
    handled(journal, "c")
    extended = soon(clock(ClockKind.HANDLE, ClockAction.EXTENDED, MONDAY + 8 * DAY, department="policy"), 7)
    recomputed = soon(clock(ClockKind.HANDLE, ClockAction.RECOMPUTED, MONDAY + 9 * DAY, department="policy"), 8)
    if not at_once:
        bench.feed(journal)
    journal.write("c", "extension_approved", MONDAY, extended)
    if not at_once:
        bench.feed(journal, since=2)
        assert {DONGCHENG: (1, 0, 0, 0, 1)} == bench.rows(DONGCHENG, 6)
    journal.write("c", "extension_approved", MONDAY, recomputed)
    bench.feed(journal, since=1 if at_once else 3)
    assert {DONGCHENG: (1, 0, 0, 0, 1)} == bench.rows(DONGCHENG, 8)
    assert {DONGCHENG: (0, 0, 1, 0, 1)} == bench.rows(DONGCHENG, 10)


def test_a_clock_that_starts_again_is_not_extended_any_more(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    handled(journal, "c")
    extended = soon(clock(ClockKind.HANDLE, ClockAction.EXTENDED, MONDAY + 8 * DAY, department="policy"), 7)
    journal.write("c", "extension_approved", MONDAY, extended)
    bench.feed(journal)
    journal.write("c", "reopened", MONDAY, _stop("policy"))
    handled(journal, "c")
    bench.feed(journal, since=3)
    assert {DONGCHENG: (1, 0, 0, 0, 0)} == bench.rows(DONGCHENG)


def test_supervision_orders_are_no_open_cases(bench: Bench) -> None:
    journal = Journal(DONGCHENG)
    change = soon(started(ClockKind.ORDER, MONDAY + 2 * DAY), 1)
    journal.write("110000-2026-D000001", "order_received", MONDAY, change, stage=0, custody=0)  # type: ignore[arg-type]
    bench.feed(journal)
    assert {} == bench.rows(days=9)


def test_each_subordinate_is_counted_with_all_of_its_own_and_the_scope_alone(bench: Bench) -> None:
    journals = [Journal(code) for code in (HEADQUARTERS, BEIJING, DONGCHENG, XICHENG, HANGZHOU, SHANGCHENG)]
    for count, journal in enumerate(journals, start=1):
        for number in range(count):
            handled(journal, f"{journal.bureau}-{number}")
    bench.feed(*journals)
    of = {bureau: row[0] for bureau, row in bench.rows().items()}
    assert {HEADQUARTERS: 1, BEIJING: 2 + 3 + 4, ZHEJIANG: 5 + 6} == of
    assert {HANGZHOU: 5 + 6} == {bureau: row[0] for bureau, row in bench.rows(ZHEJIANG).items()}
    assert {HANGZHOU: 5, SHANGCHENG: 6} == {bureau: row[0] for bureau, row in bench.rows(HANGZHOU).items()}
