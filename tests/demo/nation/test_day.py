"""The filing day as it is planned: the same every time, with the shares that it says, at places that can be."""

from collections import Counter
from functools import cache

import pytest

from demo.nation import day
from demo.nation.day import CasePlan, FilingDay, Way
from kuaixiang.facts import national_tree, published_calendar

CASES = 4_000


@cache
def plans(seed: int = 1) -> list[CasePlan]:
    filing = FilingDay(national_tree(), CASES, seed)
    return [filing.plan(number) for number in range(CASES)]


def seen(plan: CasePlan) -> tuple[object, ...]:
    return plan.number, plan.home, plan.at, plan.way, plan.request.id, plan.to, plan.done_today


def test_the_same_seed_gives_the_same_day_and_another_another() -> None:
    again = FilingDay(national_tree(), CASES, 1)
    assert [seen(again.plan(number)) for number in range(100)] == [seen(plan) for plan in plans()[:100]]
    other = FilingDay(national_tree(), CASES, 2)
    assert [seen(other.plan(number)) for number in range(100)] != [seen(plan) for plan in plans()[:100]]


def test_the_day_is_one_on_which_bureaus_work() -> None:
    assert published_calendar().is_working(day.FILING_DAY)


def test_cases_come_in_order_while_halls_are_open_as_many_in_each_hour_as_the_log_says() -> None:
    times = [plan.at for plan in plans()]
    assert times == sorted(times)
    assert day.OPENS <= times[0]
    assert times[-1] < day.REGISTERED_UNTIL == FilingDay(national_tree(), CASES, 1).time_of(CASES)
    by_hour = Counter(at.hour for at in times)
    whole = sum(day.REGISTERED_BY_HOUR)
    assert [round(by_hour[hour] / CASES, 2) for hour in range(8, 18)] == [
        round(count / whole, 2) for count in day.REGISTERED_BY_HOUR
    ]


def test_the_ways_have_the_shares_that_the_logs_have() -> None:
    ways = Counter(plan.way for plan in plans())
    assert ways[Way.ON_THE_SPOT] / CASES == pytest.approx(day.ON_THE_SPOT_PERCENT / 100, abs=0.02)
    handled = [plan for plan in plans() if plan.way is not Way.ON_THE_SPOT]
    handed_over = [plan for plan in handled if plan.to]
    assert len(handed_over) / len(handled) == pytest.approx(280 / 1_487, abs=0.03)
    assert ways[Way.SENT_BACK] / len(handed_over) == pytest.approx(105 / 280, abs=0.1)
    assert sum(plan.done_today for plan in handled) / len(handled) == pytest.approx(5_928 / 50_202, abs=0.03)


def test_a_case_is_handed_over_to_another_bureau_of_its_province_or_to_headquarters() -> None:
    tree = national_tree()
    for plan in plans():
        if plan.to:
            assert plan.way in {Way.HANDED_OVER, Way.SENT_BACK}
            assert plan.to != plan.home
            assert tree.root in {plan.to, plan.home} or tree.site(plan.to) == tree.site(plan.home)
        else:
            assert plan.way in {Way.HANDLED_HERE, Way.ON_THE_SPOT}


def test_most_cases_come_to_counties() -> None:
    tree = national_tree()
    tiers = Counter(tree.bureaus[plan.home].tier.name for plan in plans())
    assert tiers["COUNTY"] / CASES > 0.9
    assert len({plan.home for plan in plans()}) > 1_500


@pytest.mark.parametrize("count", [1, 2, 7, 36])
def test_provinces_are_spread_over_the_tree(count: int) -> None:
    tree = national_tree()
    chosen = day.provinces_of(tree, count)
    assert len(set(chosen)) == count
    assert all(tree.site(code) == code != tree.root for code in chosen)
    assert len(day.bureaus_of(tree, chosen)) == 1 + sum(len(tree.subtree(code)) for code in chosen)
    assert len(tree) == len(day.bureaus_of(tree, day.provinces_of(tree, 36)))
