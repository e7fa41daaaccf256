"""`kx supervise` against real nodes: what headquarters publishes is at the county at once; `kx case` shows how cases go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from demo.federation import tree_text
from kuaixiang.facts import CALENDAR_FILE
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, kx, refusal, told
from tests.kx.test_case import registered, shown, until

pytestmark = pytest.mark.nats

SHIPPED = (Path(__file__).parents[2] / "kuaixiang" / "facts" / CALENDAR_FILE).read_text(encoding="utf-8")


def supervise(officers: Officers, bureau: str, role: str = "supervisor") -> Callable[..., Result]:
    """The group's commands, as an officer of that bureau gives them."""
    environment = officers.environment(bureau, role, "tax-service", f"{role}-1")
    return lambda *arguments: kx("supervise", *arguments, environment=environment)


def test_a_calendar_published_at_headquarters_moves_a_deadline_of_the_county(
    officers: Officers, tmp_path: Path
) -> None:
    hall = officers.at(COUNTY, "handler", "hall")
    case_id = registered(officers.at(COUNTY, "registrar", "hall"))
    told(hall("accept", case_id, "--telling", "complicated", "--json"))
    file = tmp_path / "calendar.csv"
    file.write_text(SHIPPED.replace("2026.1", "2026.2", 1) + "2026-09-29,临时,off\n", encoding="utf-8")
    published = supervise(officers, HEADQUARTERS)("publish-calendar", str(file))
    assert published.exit_code == 0, published.output
    assert "✓ the calendar is published" in published.stdout
    moved = until(shown(hall, case_id), lambda seen: seen["case"]["clocks"][0]["calendar_version"] == "2026.2")
    assert moved["case"]["clocks"][0]["due_at"] == "2026-10-13T00:00:00+08:00"
    assert "clocks-recomputed 按新日历重新计算时限" in hall("show", case_id).stdout
    listed = supervise(officers, COUNTY)("directives")
    assert "calendar 工作日历" in listed.stdout
    assert "2026.2" in listed.stdout
    again = supervise(officers, HEADQUARTERS)("publish-calendar", str(file), "--json")
    assert refusal(again)["rule"] == "CalendarNotNewer"


def test_the_standard_answer_of_an_issue_shows_with_the_cases_that_are_linked_to_it(officers: Officers) -> None:
    issue = (
        "--issue",
        "GX-2026-0001",
        "--title",
        "红冲流程不清",
        "--owner",
        "000000",
        "--answer",
        "可直接开具红字发票。",
    )
    assert "published" in supervise(officers, HEADQUARTERS)("publish-issue", *issue).stdout
    found = until(
        lambda: supervise(officers, COUNTY)("show-issue", "GX-2026-0001"), lambda result: result.exit_code == 0
    )
    assert "可直接开具红字发票。" in found.stdout
    service = officers.at(COUNTY, "tax-service")
    case_id = registered(officers.at(COUNTY, "registrar", "hall"))
    told(service("link-issue", case_id, "--issue", "GX-2026-0001", "--json"))
    assert "可直接开具红字发票。" in service("show", case_id).stdout
    assert told(service("show", case_id, "--json"))["issue"]["title"] == "红冲流程不清"
    assert refusal(supervise(officers, COUNTY)("show-issue", "GX-2026-0002", "--json"))["rule"] == "UnknownIssue"


def test_a_tree_published_at_headquarters_is_listed_at_the_county_and_published_once(
    officers: Officers, tmp_path: Path
) -> None:
    file = tmp_path / "tree.csv"
    file.write_text(tree_text(officers.federation.pinned_tree("2026-10")), encoding="utf-8")
    published = supervise(officers, HEADQUARTERS)("publish-tree", str(file))
    assert "✓ the tree is published" in published.stdout
    listed = until(lambda: supervise(officers, COUNTY)("directives"), lambda result: "2026-10" in result.stdout)
    assert "tree 机构树" in listed.stdout
    again = supervise(officers, HEADQUARTERS)("publish-tree", str(file), "--json")
    assert refusal(again)["rule"] == "TreeNotNewer"


def test_no_bureau_but_headquarters_publishes(officers: Officers, tmp_path: Path) -> None:
    file = tmp_path / "calendar.csv"
    file.write_text(SHIPPED, encoding="utf-8")
    refused: Any = refusal(supervise(officers, COUNTY, "bureau-head")("publish-calendar", str(file), "--json"))
    assert (refused["rule"], refused["field"]) == ("NotHeadquarters", "header.bureau")
    assert "只有 000000 可以" in refused["message_chinese"]


def test_a_file_that_is_no_text_is_refused_before_it_is_sent(officers: Officers, tmp_path: Path) -> None:
    file = tmp_path / "calendar.csv"
    file.write_bytes(b"\xff\xfe")
    refused = refusal(supervise(officers, HEADQUARTERS)("publish-calendar", str(file), "--json"))
    assert refused["remedy_chinese"] == "请另存为 UTF-8 编码。"


def test_how_an_escalated_case_goes_is_shown_where_it_was_registered(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "hall")
    case_id = registered(registrar)
    told(
        registrar(
            "escalate", case_id, "--to", HEADQUARTERS, "--reason", "需总局答复", "--telling", "transferred", "--json"
        )
    )
    headquarters = officers.at(HEADQUARTERS, "tax-service")
    until(lambda: headquarters("show", case_id, "--json"), lambda result: result.exit_code == 0)
    told(headquarters("dispatch", case_id, "--to", "policy", "--json"))
    seen = until(
        shown(registrar, case_id),
        lambda seen: seen["progress"] is not None and seen["progress"]["stage"] == "handling",
    )
    assert seen["progress"]["bureau"] == HEADQUARTERS
    assert "last heard 最新进展  000000" in registrar("show", case_id).stdout


def test_a_superior_sees_how_far_the_ledgers_below_are_cosigned(officers: Officers) -> None:
    registered(officers.at(COUNTY, "registrar", "hall"))
    head = officers.run(officers.federation.office(COUNTY).head())
    ledgers = supervise(officers, PROVINCE)

    def of_the_county(listed: list[Any]) -> list[Any]:
        return [one for one in listed if one["bureau"] == COUNTY]

    # Headquarters' ledger is witnessed at the province as well.
    seen = until(
        lambda: of_the_county(told(ledgers("ledgers", "--json"))["ledgers"]),
        lambda found: found and found[0]["seq"] >= head.seq,
    )
    assert [(COUNTY, head.generation, None)] == [(one["bureau"], one["generation"], one["doubt"]) for one in seen]
    assert "ledger(s) witnessed by" in ledgers("ledgers").stdout
    assert "0 under doubt" in ledgers("ledgers").stdout
