"""`kx supervise` against real nodes and a hub: an order through three tiers, a killed node, a cascade, the board, refusals."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import Result

from kuaixiang.domain.labels import ACTS
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.orders import ROLES
from kuaixiang.domain.words import OrderStage, Role
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST
from kuaixiang.wire.v1 import supervision_pb2
from kx.client import rpc_of
from kx.output import both
from kx.supervise import GROUP
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, kx, refusal, running, told
from tests.kx.test_case import until
from tests.kx.test_words import command_of

pytestmark = pytest.mark.nats

Terminal = Callable[..., Result]


@pytest.fixture(scope="module")
def officers() -> Iterator[Officers]:
    """Headquarters, a province and a county, each in a process of its own, and the national hub."""
    with running(hubs=(HEADQUARTERS,)) as made:
        yield made


def at(officers: Officers, bureau: str, role: str, department: str = "leadership") -> Terminal:
    return officers.at(bureau, role, department, group="supervise")


def stage(terminal: Terminal, order_id: str, wanted: str) -> Any:
    """The order, once it is at that stage at that bureau."""
    return told(
        until(
            lambda: terminal("show", order_id, "--json"),
            lambda seen: seen.exit_code == 0 and told(seen)["order"]["stage"] == wanted,
        )
    )


def issued(terminal: Terminal, to: str, *more: str) -> str:
    words = ("issue", "--to", to, "--text", "请说明逾期原因", "--workdays", "3", *more, "--json")
    order_id: str = told(terminal(*words))["order"]["order_id"]
    return order_id


def test_every_act_on_an_order_has_a_command_an_rpc_and_the_name_of_the_table() -> None:
    people = {kind for kind, roles in ROLES.items() if roles != {Role.SYSTEM}}
    assert people == set(ACT_OF_ORDER_REQUEST.values())
    methods = {method.name for method in supervision_pb2.DESCRIPTOR.services_by_name["SupervisionService"].methods}
    assert {rpc_of(request()) for request in ACT_OF_ORDER_REQUEST} <= methods
    commands = command_of("supervise").commands
    for kind in people:
        assert issubclass(kind, OrderAct)
        name, chinese = ACTS[kind]
        assert chinese in commands[name.removeprefix(GROUP)].help
    others = {"list", "show", "board", "cases", "case", "publish-calendar", "publish-issue", "directives", "show-issue"}
    others |= {"ledgers", "publish-tree"}
    assert others | {ACTS[kind].command.removeprefix(GROUP) for kind in people} == set(commands)


def test_an_order_of_headquarters_for_a_county_is_answered_returned_answered_and_accepted(officers: Officers) -> None:
    headquarters = at(officers, HEADQUARTERS, "supervisor")
    county = at(officers, COUNTY, "tax-service", "tax-service")
    result = headquarters(
        "issue", "--to", COUNTY, "--level", "重点督办", "--text", "请限期办结", "--workdays", "3", "--case", "c-1"
    )
    assert result.exit_code == 0, result.output
    assert "key 重点督办" in result.stdout
    # Tuesday, Wednesday, and the first working day after the National Day holidays.
    assert "回复 by 2026-10-08 周四 24:00 awaited 待回复" in result.stdout
    order_id = result.stdout.split()[1]
    assert order_id.startswith(f"{HEADQUARTERS}-2026-D")
    stage(county, order_id, "received")
    stage(headquarters, order_id, "received")
    done = county("acknowledge", order_id, "--note", "已收悉")
    assert both(OrderStage.ACKNOWLEDGED) in done.stdout
    assert county("answer", order_id, "--answer", "已办结").exit_code == 0
    assert "已办结" == stage(headquarters, order_id, "answered")["texts"]["answer"]
    assert headquarters("return", order_id, "--reason", "未附材料", "--workdays", "2").exit_code == 0
    assert "未附材料" == stage(county, order_id, "returned")["texts"]["reason"]
    assert county("answer", order_id, "--answer", "材料已补").exit_code == 0
    stage(headquarters, order_id, "answered")
    assert headquarters("accept", order_id, "--note", "同意").exit_code == 0
    seen = stage(county, order_id, "closed")
    assert (1, False, None) == (seen["order"]["round"], seen["order"]["answered_late"], seen["order"]["clock"])
    events = [item["event"] for item in seen["history"] if item["event"] != "order_delivered"]
    assert events == [
        "order_received",
        "order_acknowledged",
        "order_answered",
        "order_answer_returned",
        "order_answered",
        "order_closed",
    ]
    text = county("show", order_id).stdout
    assert all(part in text for part in ("请限期办结", "材料已补", "签收督办", "退回回复", "closed 已办结", "c-1"))
    between = at(officers, PROVINCE, "supervisor")
    listed = told(between("list", "--side", "经本单位转达", "--json"))["orders"]
    assert order_id in [order["order_id"] for order in listed]
    assert order_id in between("list", "--side", "relayed").stdout


@pytest.mark.slow
def test_an_order_outlives_the_death_of_every_node_on_its_way(officers: Officers) -> None:
    headquarters = at(officers, HEADQUARTERS, "bureau-head")
    county = at(officers, COUNTY, "tax-service", "tax-service")
    officers.run(officers.federation.kill_node(COUNTY))
    order_id = issued(headquarters, COUNTY)
    stage(at(officers, PROVINCE, "supervisor"), order_id, "issued")
    for bureau in (PROVINCE, HEADQUARTERS):
        officers.run(officers.federation.kill_node(bureau))
    for bureau in (HEADQUARTERS, PROVINCE, COUNTY):
        officers.run(officers.federation.restart_node(bureau))
    stage(county, order_id, "received")
    assert county("acknowledge", order_id).exit_code == 0
    officers.run(officers.federation.kill_node(HEADQUARTERS))
    assert county("answer", order_id, "--answer", "已办结").exit_code == 0
    officers.run(officers.federation.kill_node(COUNTY))
    officers.run(officers.federation.restart_node(COUNTY))
    officers.run(officers.federation.restart_node(HEADQUARTERS))
    seen = stage(headquarters, order_id, "answered")
    events = [item["event"] for item in seen["history"]]
    assert 1 == events.count("order_issued") == events.count("order_answered") == events.count("order_arrived")


def test_a_province_passes_an_order_on_and_answers_after_its_county(officers: Officers) -> None:
    headquarters = at(officers, HEADQUARTERS, "supervisor")
    province, answering = at(officers, PROVINCE, "supervisor"), at(officers, PROVINCE, "tax-service", "tax-service")
    county = at(officers, COUNTY, "tax-service", "tax-service")
    parent = issued(headquarters, PROVINCE, "--level", "urge")
    stage(province, parent, "received")
    assert answering("acknowledge", parent).exit_code == 0
    done = told(province("cascade", parent, "--to", COUNTY, "--workdays", "2", "--json"))
    (derived,) = done["orders"]
    assert (parent, "urge") == (derived["parent_order_id"], derived["level"])
    order_id = derived["order_id"]
    assert "请说明逾期原因" == stage(county, order_id, "received")["texts"]["text"]
    early = refusal(answering("answer", parent, "--answer", "已办结", "--json"))
    assert ("DerivedOrdersOpen", "because") == (early["rule"], early["field"])
    assert order_id in early["message"]
    assert "尚未回复" in early["message_chinese"]
    assert county("acknowledge", order_id).exit_code == 0
    assert county("answer", order_id, "--answer", "已办结").exit_code == 0
    stage(province, order_id, "answered")
    assert answering("answer", parent, "--answer", "所属单位均已办结").exit_code == 0
    stage(headquarters, parent, "answered")
    assert [order_id] == stage(province, parent, "answered")["order"]["derived_order_ids"]


def test_each_refusal_names_its_rule_field_and_remedy_in_both_languages(officers: Officers) -> None:
    headquarters = at(officers, HEADQUARTERS, "supervisor")
    county = at(officers, COUNTY, "tax-service", "tax-service")
    order_id = issued(headquarters, COUNTY)
    stage(county, order_id, "received")
    stage(headquarters, order_id, "received")
    clerk = at(officers, HEADQUARTERS, "tax-service", "tax-service")
    issue = ("issue", "--text", "x", "--workdays", "3", "--json")
    cases: list[tuple[Result, str, str]] = [
        (clerk(*issue, "--to", COUNTY), "RoleNotAllowed", "header.role"),
        (headquarters(*issue, "--to", "990000"), "NotASubordinate", "final_bureau"),
        (at(officers, COUNTY, "supervisor")(*issue, "--to", PROVINCE), "NoSubordinates", ""),
        (headquarters("issue", "--text", " ", "--workdays", "3", "--to", COUNTY, "--json"), "FieldMissing", "text"),
        (county("answer", order_id, "--answer", "x", "--json"), "OrderActNotAllowed", ""),
        (headquarters("accept", order_id, "--json"), "OrderActNotAllowed", ""),
        (clerk("acknowledge", order_id, "--json"), "NotTheReceiver", "header.bureau"),
        (
            at(officers, COUNTY, "supervisor")("cancel", order_id, "--reason", "x", "--json"),
            "NotTheIssuer",
            "header.bureau",
        ),
        (headquarters("show", "x", "--json"), "UnknownOrder", "header.case_id"),
        (headquarters("cases", "990000", "--json"), "NotASubordinate", "subordinate"),
        (headquarters("list", "--page", "?", "--json"), "FieldMalformed", "page_token"),
    ]
    for result, rule, field in cases:
        error = refusal(result)
        assert (rule, field) == (error["rule"], error["field"])
        assert all(error[part] for part in ("message", "message_chinese", "remedy", "remedy_chinese"))
    assert headquarters("cancel", order_id, "--reason", "误发").exit_code == 0
    stage(county, order_id, "cancelled")


def test_the_board_counts_open_cases_by_light_and_drills_down_to_one(officers: Officers) -> None:
    county = officers.at(COUNTY, "registrar", "hall")
    request = ("--taxpayer", "晨光小卖部", "--contact", "13800138000", "--text", "无法申报", "--category", "policy")
    case_id = told(county("register", *request, "--json"))["case"]["case_id"]
    hub = next(service for service in officers.federation.services if service.kind == "hub")
    environment = {
        "KX_HUB_ENDPOINT": hub.endpoint,
        "KX_CERTIFICATES": str(officers.federation.node(HEADQUARTERS).terminal.ca.parent),
    }

    def rows(*more: str) -> dict[str, tuple[int, ...]]:
        found = told(kx("supervise", "board", *more, "--json", environment=environment))
        names = ("in_time", "due_soon", "overdue", "stopped", "extended")
        return {row["bureau"]: tuple(row[name] for name in names) for row in found["rows"]}

    until(rows, lambda seen: seen[PROVINCE] == (0, 1, 0, 0, 0))
    assert {PROVINCE: (0, 0, 0, 0, 0), COUNTY: (0, 1, 0, 0, 0)} == rows("--scope", PROVINCE)
    shown = kx("supervise", "board", environment=environment).stdout
    assert "within 1 wd 临期" in shown
    assert "总局（本级）" in shown
    assert "合计" in shown
    headquarters = at(officers, HEADQUARTERS, "supervisor")
    listed = told(headquarters("cases", COUNTY, "--light", "临期", "--json"))["cases"]
    assert [(case_id, "due-soon")] == [(one["case"]["case_id"], one["light"]) for one in listed]
    assert [] == told(headquarters("cases", COUNTY, "--light", "overdue", "--json"))["cases"]
    for command in (("cases", COUNTY), ("case", COUNTY, case_id)):
        text = headquarters(*command).stdout
        assert case_id in text
        assert "晨光" not in text
        assert "13800138000" not in text
    one = told(headquarters("case", COUNTY, case_id, "--json"))
    assert ["registered"] == [item["event"] for item in one["history"]]
    refused = refusal(kx("supervise", "board", "--scope", "999999", "--json", environment=environment))
    assert ("NotCounted", "scope") == (refused["rule"], refused["field"])
