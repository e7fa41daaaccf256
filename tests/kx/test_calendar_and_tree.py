"""`kx calendar` and `kx tree`."""

from pathlib import Path

import pytest

from tests.kx.conftest import kx, refusal, told

BAD_CALENDAR = "# version: x\n# first: 2026-01-01\n# horizon: 2026-12-31\ndate,name,kind\n2026-02-30,春节,off\n"
CIRCLE = "# version: x\ngb_code,name,tier,parent\n000000,总局,national,\n110000,北京,provincial,120000\n"


def test_a_deadline_counts_make_up_days_and_skips_the_holidays() -> None:
    found = told(kx("calendar", "deadline", "--from", "2026-09-28", "--workdays", "5", "--json"))
    assert found["due_day"] == "2026-10-10"
    assert found["counted"] == ["2026-09-29", "2026-09-30", "2026-10-08", "2026-10-09", "2026-10-10"]
    assert found["skipped"][0] == "2026-10-01"
    assert found["provisional"] is False
    shown = kx("calendar", "deadline", "--from", "2026-09-28", "--workdays", "5").stdout
    assert "2026-10-10 周六 24:00" in shown
    assert "10-10 班" in shown


def test_a_deadline_beyond_the_published_days_says_so() -> None:
    assert told(kx("calendar", "deadline", "--from", "2026-12-30", "--workdays", "5", "--json"))["provisional"] is True
    assert "Provisional" in kx("calendar", "deadline", "--from", "2026-12-30", "--workdays", "5").stdout


def test_a_month_shows_its_days_off_and_make_up_days() -> None:
    found = told(kx("calendar", "show", "--year", "2026", "--month", "10", "--json"))
    assert found["working_days"] == 18
    assert [day["day"] for day in found["days"] if day["make_up"]] == ["2026-10-10"]
    shown = kx("calendar", "show", "--year", "2026", "--month", "10").stdout
    assert "10班" in shown
    assert "7休" in shown


@pytest.mark.parametrize("year", ["1", "2007", "2026", "2027", "9998"])
def test_any_year_can_be_shown(year: str) -> None:
    result = kx("calendar", "show", "--year", year)
    assert result.exit_code == 0
    assert result.stdout.count("working days") == 12


def test_the_shipped_calendar_is_in_order() -> None:
    found = told(kx("calendar", "check", "--json"))
    assert found["horizon"] == "2026-12-31"
    assert {"year": 2026, "working_days": 248, "days_off": 33, "make_up_days": 6} in found["years"]


@pytest.mark.parametrize(("what", "text", "line"), [("calendar", BAD_CALENDAR, 5), ("tree", CIRCLE, 4)])
def test_a_faulty_file_is_refused_with_its_line(tmp_path: Path, what: str, text: str, line: int) -> None:
    file = tmp_path / "facts.csv"
    file.write_text(text, encoding="utf-8")
    result = kx(what, "check", str(file))
    assert result.exit_code == 2
    assert f"line {line}" in result.stderr
    assert result.stdout == ""
    assert refusal(kx(what, "check", str(file), "--json"))["rule"] == "FactsMalformed"


@pytest.mark.parametrize("wrong", [("--from", "2026-02-30"), ("--workdays", "-1"), ("--workdays", "x")])
def test_a_wrong_option_of_deadline_is_named(wrong: tuple[str, str]) -> None:
    given = {"--from": "2026-09-28", "--workdays": "5"} | {wrong[0]: wrong[1]}
    result = kx("calendar", "deadline", *(part for pair in given.items() for part in pair))
    assert result.exit_code == 2
    assert wrong[0] in result.stderr


def test_a_deadline_beyond_the_last_year_is_refused() -> None:
    result = kx("calendar", "deadline", "--from", "9999-12-30", "--workdays", "1000", "--json")
    assert refusal(result)["field"] == "--from"


def test_the_shipped_tree_is_in_order() -> None:
    found = told(kx("tree", "check", "--json"))
    assert (found["bureaus"], found["sites"], found["root"]) == (3212, 37, "000000")


def test_a_tree_is_shown_to_a_depth() -> None:
    shallow = told(kx("tree", "show", "--under", "330000", "--depth", "1", "--json"))["bureaus"]
    assert {bureau["tier"] for bureau in shallow[1:]} == {"prefecture"}
    assert told(kx("tree", "show", "--under", "330000", "--depth", "0", "--json"))["bureaus"] == shallow[:1]
    assert "330100" in kx("tree", "show", "--under", "330000", "--depth", "1").stdout


def test_a_route_goes_up_to_the_lowest_common_superior_and_down() -> None:
    found = told(kx("tree", "route", "110101", "330102", "--json"))
    assert [bureau["code"] for bureau in found["route"]] == [
        "110101",
        "110000",
        "000000",
        "330000",
        "330100",
        "330102",
    ]
    assert found["lowest_common_superior"] == "000000"
    shown = kx("tree", "route", "110101", "330102").stdout
    assert (shown.count("↑"), shown.count("↓")) == (2, 3)


def test_a_bureau_that_is_not_in_the_tree_is_named_with_the_argument() -> None:
    assert refusal(kx("tree", "route", "110101", "999999", "--json"))["field"] == "TO"
    assert refusal(kx("tree", "show", "--under", "999999", "--json"))["field"] == "--under"
