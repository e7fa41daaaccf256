"""What headquarters may publish: a calendar that follows the one in force, an issue with an answer."""

from dataclasses import replace
from datetime import date

import pytest

from kuaixiang.domain import directives, errors
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.directives import Issue, check_amendment, check_issue, check_publisher, edition
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.words import DirectiveKind, Role

IN_FORCE = WorkingCalendar(
    version="2026.1",
    first=date(2026, 1, 1),
    horizon=date(2026, 12, 31),
    off_days=frozenset({date(2026, 10, 1)}),
    work_days=frozenset(),
)
TODAY = date(2026, 6, 1)
NEXT = replace(IN_FORCE, version="2026.2")
ISSUE = Issue(issue_id="GX-2026-0001", title="红冲流程不清", owner="000000/vat", standard_answer="可直接开具红字发票。")


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2026.1", (2026, 1)), ("2026.10", (2026, 10)), ("2027", (2027,)), ("test", ()), ("", ()), ("2026.x", ())],
)
def test_a_version_is_numbers_that_compare(version: str, expected: tuple[int, ...]) -> None:
    assert expected == edition(version)


def test_the_tenth_version_of_a_year_follows_the_ninth() -> None:
    check_amendment(replace(IN_FORCE, version="2026.10"), replace(IN_FORCE, version="2026.9"), TODAY)


@pytest.mark.parametrize(
    "calendar",
    [
        replace(NEXT, off_days=IN_FORCE.off_days | {TODAY}),
        replace(NEXT, work_days=frozenset({date(2026, 6, 6)})),
        replace(NEXT, version="2027.1", horizon=date(2027, 12, 31)),
        replace(NEXT, first=date(2025, 1, 1)),
    ],
    ids=["today off", "make-up day to come", "another year", "older days"],
)
def test_a_calendar_may_change_what_is_to_come_and_add_days(calendar: WorkingCalendar) -> None:
    check_amendment(calendar, IN_FORCE, TODAY)


@pytest.mark.parametrize(
    ("calendar", "refusal"),
    [
        (replace(NEXT, version="next"), directives.CalendarUnnumbered),
        (replace(NEXT, version="2026.1"), directives.CalendarNotNewer),
        (replace(NEXT, version="2025.9"), directives.CalendarNotNewer),
        (replace(NEXT, horizon=date(2026, 12, 30)), directives.CalendarForgetsDays),
        (replace(NEXT, first=date(2026, 1, 2)), directives.CalendarForgetsDays),
        (replace(NEXT, off_days=IN_FORCE.off_days | {date(2026, 5, 29)}), directives.CalendarChangesPast),
        (replace(NEXT, work_days=frozenset({date(2026, 5, 30)})), directives.CalendarChangesPast),
    ],
    ids=["unnumbered", "the same", "older", "ends earlier", "begins later", "yesterday off", "weekend worked"],
)
def test_a_calendar_that_does_not_follow_is_refused_in_both_languages(
    calendar: WorkingCalendar, refusal: type[Refused]
) -> None:
    with pytest.raises(refusal) as refused:
        check_amendment(calendar, IN_FORCE, TODAY)
    assert refused.value.chinese
    assert refused.value.remedy_chinese
    assert calendar.version in str(refused.value) or "2026-05" in str(refused.value)


def test_days_that_were_never_published_may_be_set_right_afterwards() -> None:
    later = replace(
        IN_FORCE,
        version="2027.1",
        horizon=date(2027, 12, 31),
        off_days=frozenset({date(2026, 10, 1), date(2027, 1, 1)}),
    )
    check_amendment(later, IN_FORCE, date(2027, 1, 5))


def test_a_calendar_may_follow_one_that_is_not_numbered() -> None:
    check_amendment(NEXT, replace(IN_FORCE, version="test"), TODAY)


@pytest.mark.parametrize("role", [Role.SUPERVISOR, Role.BUREAU_HEAD])
def test_supervisors_and_the_head_of_headquarters_publish_calendars(role: Role) -> None:
    check_publisher(DirectiveKind.CALENDAR, "000000", "000000", role)


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.SUPERVISOR, Role.BUREAU_HEAD}))
def test_nobody_else_publishes_a_calendar(role: Role) -> None:
    with pytest.raises(directives.NotForThisRole, match=role.name.lower().replace("_", "-")):
        check_publisher(DirectiveKind.CALENDAR, "000000", "000000", role)


def test_no_other_bureau_publishes() -> None:
    with pytest.raises(directives.NotHeadquarters) as refused:
        check_publisher(DirectiveKind.ISSUE, "330000", "000000", Role.BUREAU_HEAD)
    assert "330000" in refused.value.chinese


def test_an_issue_with_everything_is_published() -> None:
    check_issue(ISSUE)


@pytest.mark.parametrize(
    ("part", "value", "refusal"),
    [
        ("issue_id", "", errors.FieldMissing),
        ("issue_id", "共性1", errors.FieldMalformed),
        ("title", " ", errors.FieldMissing),
        ("title", "长" * 201, errors.FieldMalformed),
        ("owner", "", errors.FieldMissing),
        ("standard_answer", "", errors.FieldMissing),
        ("standard_answer", "长" * 10_001, errors.FieldMalformed),
    ],
)
def test_an_issue_without_a_part_or_with_too_long_a_one_is_refused_by_its_name(
    part: str, value: str, refusal: type[Refused]
) -> None:
    with pytest.raises(refusal, match=part):
        check_issue(replace(ISSUE, **{part: value}))
