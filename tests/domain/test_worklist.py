"""The work list's tabs: every case has its pile, every pile is in some tab, today ends at midnight in Shanghai."""

from datetime import UTC, datetime

from kuaixiang.domain import acts
from kuaixiang.domain.possible import possible_acts
from kuaixiang.domain.words import Stage, WorkTab
from kuaixiang.domain.worklist import OWN, TABS, Pile, end_of_today, pile_of
from tests.domain import story


def test_every_stage_of_an_owned_case_is_on_a_pile() -> None:
    assert set(Stage) == set(OWN)


def test_every_tab_has_its_meaning_and_every_pile_but_the_written_off_is_in_one_besides_all() -> None:
    assert set(WorkTab) == set(TABS)
    shown = {pile for tab, meaning in TABS.items() if tab is not WorkTab.ALL for pile in meaning.piles}
    assert set(Pile) - {Pile.DONE} == shown


def test_today_ends_at_midnight_in_shanghai() -> None:
    assert datetime(2026, 9, 28, 16, tzinfo=UTC) == end_of_today(datetime(2026, 9, 28, 15, 59, tzinfo=UTC))
    assert datetime(2026, 9, 29, 16, tzinfo=UTC) == end_of_today(datetime(2026, 9, 28, 16, tzinfo=UTC))


def test_an_extension_that_is_asked_for_is_for_the_leader_and_still_for_the_handler_until_it_is_decided() -> None:
    case = story.handling()
    case.do(acts.AskExtension(workdays=3, reason="材料较多"))
    assert Pile.EXTENSION_ASKED == pile_of(case.case)
    assert pile_of(case.case) in TABS[WorkTab.TO_DECIDE].piles & TABS[WorkTab.TO_HANDLE].piles
    case.do(acts.ApproveExtension())
    assert Pile.TO_HANDLE == pile_of(case.case)


def test_the_acts_offered_to_a_leader_are_the_decision_on_what_was_asked() -> None:
    case = story.handling()
    case.do(acts.AskExtension(workdays=3, reason="材料较多"))
    offered = possible_acts(case.case, case.context(acts.ApproveExtension()))
    assert (acts.ApproveExtension, acts.RefuseExtension) == offered
    assert acts.AskExtension not in possible_acts(case.case, case.context(acts.AskExtension(workdays=1, reason="再延")))
