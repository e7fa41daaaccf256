"""Periods: what is read, which days they have, which ones lie before them, and their names."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain.periods import NoSuchPeriod, PeriodKind, parse_period, period_of

DAYS = st.dates(date(1972, 1, 8), date(9998, 12, 20))
KINDS = st.sampled_from(PeriodKind)


@pytest.mark.parametrize(
    ("text", "kind", "first", "last", "chinese"),
    [
        ("2026-10-08", PeriodKind.DAY, date(2026, 10, 8), date(2026, 10, 8), "2026年10月8日"),
        ("2026-W40", PeriodKind.WEEK, date(2026, 9, 28), date(2026, 10, 4), "2026年第40周"),
        ("2026-W01", PeriodKind.WEEK, date(2025, 12, 29), date(2026, 1, 4), "2026年第1周"),
        ("2026-10", PeriodKind.MONTH, date(2026, 10, 1), date(2026, 10, 31), "2026年10月"),
        ("2028-02", PeriodKind.MONTH, date(2028, 2, 1), date(2028, 2, 29), "2028年2月"),
        ("2026-Q4", PeriodKind.QUARTER, date(2026, 10, 1), date(2026, 12, 31), "2026年第四季度"),
        ("2026", PeriodKind.YEAR, date(2026, 1, 1), date(2026, 12, 31), "2026年"),
    ],
)
def test_a_period_is_read_with_its_first_and_last_day_and_its_chinese_name(
    text: str, kind: PeriodKind, first: date, last: date, chinese: str
) -> None:
    period = parse_period(text)

    assert (kind, first, last, chinese, text) == (period.kind, period.first, period.last, period.chinese, str(period))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "october",
        "2026-13",
        "2026-00",
        "2026-02-29",
        "2026-Q5",
        "2026-Q0",
        "2026-W54",
        "2026-W00",
        "2025-W53",
        "2026-1",
        " 2026",
        "2026\n",
        "２０２６",
        "0000",
        "1970",
        "9999-12",
        "2026-10-",
    ],
)
def test_a_text_that_names_no_period_is_refused_and_the_forms_are_told(text: str) -> None:
    with pytest.raises(NoSuchPeriod) as refused:
        parse_period(text, "--period")

    assert ("--period", True, True) == (
        refused.value.field,
        "2026-Q4" in refused.value.remedy,
        "2026-Q4" in refused.value.remedy_chinese,
    )


@pytest.mark.parametrize(
    ("text", "previous", "year_before"),
    [
        ("2026-10", "2026-09", "2025-10"),
        ("2026-01", "2025-12", "2025-01"),
        ("2026-Q1", "2025-Q4", "2025-Q1"),
        ("2026", "2025", "2025"),
        ("2026-W01", "2025-W52", "2025-W01"),
        ("2026-W53", "2026-W52", "2025-W52"),
        ("2026-03-01", "2026-02-28", "2025-03-01"),
        ("2028-02-29", "2028-02-28", "2027-02-28"),
    ],
)
def test_the_period_before_and_the_same_one_of_the_year_before_are_of_its_kind(
    text: str, previous: str, year_before: str
) -> None:
    period = parse_period(text)

    assert (previous, year_before) == (str(period.previous), str(period.year_before))


@given(DAYS, KINDS)
def test_every_day_lies_in_one_period_of_each_kind_and_periods_leave_no_gap(day: date, kind: PeriodKind) -> None:
    period = period_of(day, kind)

    assert day in period
    assert period == period_of(period.first, kind) == period_of(period.last, kind)
    assert (period.first, period) == (period.previous.last + timedelta(days=1), period.previous.following)


@given(DAYS, KINDS)
def test_what_a_period_is_written_as_is_read_as_the_same_period(day: date, kind: PeriodKind) -> None:
    period = period_of(day, kind)

    assert period == parse_period(str(period))


@given(DAYS, KINDS)
def test_the_same_period_of_the_year_before_lies_before_the_period(day: date, kind: PeriodKind) -> None:
    period = period_of(day, kind)

    assert period.year_before.last < period.first
