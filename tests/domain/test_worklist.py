"""The work list's tabs: every case has its pile, every pile is in some tab, today ends at midnight in Shanghai."""

from datetime import UTC, datetime

from kuaixiang.domain.words import Stage, WorkTab
from kuaixiang.domain.worklist import OWN, TABS, Pile, end_of_today


def test_every_stage_of_an_owned_case_is_on_a_pile() -> None:
    assert set(Stage) == set(OWN)


def test_every_tab_has_its_meaning_and_every_pile_but_the_written_off_is_in_one_besides_all() -> None:
    assert set(WorkTab) == set(TABS)
    shown = {pile for tab, meaning in TABS.items() if tab is not WorkTab.ALL for pile in meaning.piles}
    assert set(Pile) - {Pile.DONE} == shown


def test_today_ends_at_midnight_in_shanghai() -> None:
    assert datetime(2026, 9, 28, 16, tzinfo=UTC) == end_of_today(datetime(2026, 9, 28, 15, 59, tzinfo=UTC))
    assert datetime(2026, 9, 29, 16, tzinfo=UTC) == end_of_today(datetime(2026, 9, 28, 16, tzinfo=UTC))
