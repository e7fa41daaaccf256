"""The story's calendar, its cast, and the pace at which it is told."""

import asyncio
from datetime import datetime

from demo.content import Course, Department, load_requests
from demo.federation import part_of
from demo.performance import PLACEMENT
from demo.staff import LEADERSHIP, staff_list
from demo.story import DAY, Hour, Pace, casting, fortnight, office_hour, registrations_of
from demo.supervision import DAY_OFF, amended_calendar
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.directives import check_amendment
from kuaixiang.domain.labels import name
from kuaixiang.facts import national_tree, parse_calendar, published_calendar
from kuaixiang.facts.staff import parse_staff

TREE = part_of(national_tree(), [code for group in PLACEMENT for code in group])
HOURS = fortnight(published_calendar())


def test_a_fortnight_has_ten_working_days_with_a_holiday_and_a_worked_saturday_among_them() -> None:
    worked = sorted({hour.at.date().isoformat() for hour in HOURS if hour.office})
    assert len(worked) == 10
    assert worked[0] == "2026-09-21"
    assert worked[-1] == "2026-10-10"
    assert "2026-10-01" not in worked
    assert sum(hour.office for hour in HOURS) == 10 * DAY


def test_an_hour_of_a_working_day_is_found_and_one_after_the_end_is_the_last() -> None:
    assert HOURS[office_hour(HOURS, 0)].at == datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
    assert HOURS[office_hour(HOURS, 3, 4)].at == datetime(2026, 9, 24, 14, tzinfo=SHANGHAI)
    assert HOURS[office_hour(HOURS, 10)].at == datetime(2026, 10, 10, 17, tzinfo=SHANGHAI)


def test_every_bureau_has_a_list_of_staff_that_a_node_takes() -> None:
    lists = parse_staff(staff_list(TREE.bureaus))
    assert list(TREE.bureaus) == list(lists)
    for staff in lists.values():
        kinds = {code: name(department.kind) for code, department in staff.departments.items()}
        assert {code: code for code in (*Department, LEADERSHIP)} == kinds


def test_hours_only_go_forward() -> None:
    instants = [hour.at for hour in HOURS]
    assert instants == sorted(set(instants))


def test_every_request_comes_in_once_when_there_are_as_many_cases() -> None:
    plans = casting(TREE, HOURS, len(load_requests()), 1)
    assert sorted(plan.request.id for plan in plans) == sorted(request.id for request in load_requests())


def test_a_short_story_shows_every_course() -> None:
    plans = casting(TREE, HOURS, 40, 1)
    assert len(plans) == 40
    assert {plan.request.course for plan in plans} == set(Course)


def test_the_same_seed_gives_the_same_story_and_another_seed_another() -> None:
    assert casting(TREE, HOURS, 60, 7) == casting(TREE, HOURS, 60, 7)
    assert casting(TREE, HOURS, 60, 7) != casting(TREE, HOURS, 60, 8)


def test_some_deadlines_are_missed_on_purpose_and_some_requests_sent_twice() -> None:
    plans = casting(TREE, HOURS, 166, 1)
    assert {plan.late for plan in plans} == {"", "handle", "forward", "feedback"}
    assert any(plan.twice for plan in plans)


def test_a_relayed_case_goes_to_another_province() -> None:
    relayed = [plan for plan in casting(TREE, HOURS, 166, 1) if plan.request.course is Course.RELAYED]
    assert relayed
    assert all(TREE.site(plan.home) != TREE.site(plan.other) for plan in relayed)


def test_what_many_ask_is_asked_by_two_taxpayers() -> None:
    plans = casting(TREE, HOURS, 166, 1)
    linked = [plan for plan in plans if plan.request.course is Course.LINKED]
    assert len(linked) >= 5
    assert registrations_of(plans) == 166 + len(linked)


def test_the_amended_calendar_may_follow_the_published_one_and_moves_no_hour_of_the_story() -> None:
    amended = parse_calendar(amended_calendar())
    check_amendment(amended, published_calendar(), HOURS[-1].at.date())
    assert not amended.is_working(DAY_OFF)
    assert published_calendar().is_working(DAY_OFF)
    assert fortnight(amended) == HOURS


async def test_an_hour_ends_when_every_case_rests_and_resting_cases_go_on_at_theirs() -> None:
    hours = [Hour(datetime(2026, 9, 21, hour, tzinfo=SHANGHAI), office=hour != 12) for hour in range(9, 15)]
    shown: list[datetime] = []
    pace = Pace(hours, shown.append)
    told: list[tuple[str, int]] = []

    async def case(name: str, rests: list[int]) -> None:
        for rest in rests:
            told.append((name, pace.now.hour))
            await asyncio.sleep(0.001)
            await pace.rest(name, rest)
        told.append((name, pace.now.hour))
        pace.end(name)

    tasks = []
    for index in range(len(hours)):
        await pace.turn(index)
        if index == 0:
            for name, rests in (("a", [1, 1, 1]), ("b", [3])):
                pace.begin(name)
                tasks.append(asyncio.create_task(case(name, rests)))
        assert await pace.idle(60.0)
    await asyncio.gather(*tasks)
    # Noon is no office hour: three hours after nine is one o'clock.
    assert sorted(told) == [("a", 9), ("a", 10), ("a", 11), ("a", 13), ("b", 9), ("b", 13)]
    assert shown == [hour.at for hour in hours]
