"""`kx reconcile` and `kx case write-off --all-ready` against real nodes, one of which is restored from an older copy."""

import json
from typing import Any

import pytest
from typer.testing import Result

from demo.mishaps import OlderCopy
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, kx, refusal, told
from tests.kx.test_case import registered, shown, stage_is, until

pytestmark = pytest.mark.nats


def reconciled(officers: Officers, bureau: str, *arguments: str, exit_code: int, **more: str) -> Result:
    environment = officers.environment(bureau, "tax-service", "tax-service", "service-1")
    result = kx("reconcile", *arguments, environment={**environment, **more})
    assert result.exit_code == exit_code, result.output
    return result


def report(officers: Officers, bureau: str, *arguments: str, exit_code: int) -> Any:
    (one,) = json.loads(reconciled(officers, bureau, *arguments, "--json", exit_code=exit_code).stdout)["reports"]
    return one


def answered_by_the_province(officers: Officers) -> str:
    """A case of the county that its province has answered, known in both ledgers."""
    county, province = officers.at(COUNTY, "tax-service"), officers.at(PROVINCE, "tax-service")
    handler = officers.at(PROVINCE, "handler", "systems")
    case_id = registered(officers.at(COUNTY, "registrar", "counter"))
    assert county("escalate", case_id, "--reason", "需省局处理", "--telling", "transferred").exit_code == 0
    until(shown(county, case_id), stage_is("referred"))
    assert province("dispatch", case_id, "--to", "systems").exit_code == 0
    assert handler("complete", case_id, "--result", "已处理").exit_code == 0
    assert handler("feedback", case_id, "--told", "已处理").exit_code == 0
    until(shown(county, case_id), stage_is("concluded"))
    until(shown(province, case_id), lambda seen: not seen["case"]["awaiting_acknowledgement"])
    return case_id


@pytest.mark.slow
def test_ledgers_that_agree_and_what_a_restored_backup_has_lost(officers: Officers) -> None:
    county = officers.at(COUNTY, "tax-service")
    kept = answered_by_the_province(officers)
    agreed = report(officers, COUNTY, "--peer", PROVINCE, exit_code=0)
    assert (1, 0, []) == (agreed["matched"], agreed["pending"], agreed["differences"])
    assert "1 hand-overs agree, 0 pending, 0 differ" in reconciled(officers, COUNTY, exit_code=0).stdout
    with OlderCopy(officers.federation, PROVINCE) as copy:
        officers.run(copy.keep())
        lost = answered_by_the_province(officers)
        # Nobody is there who could tell the province's node that its ledger is an older one.
        officers.run(officers.federation.kill_node(HEADQUARTERS))
        officers.run(copy.put_back())
    found = report(officers, COUNTY, exit_code=1)
    assert (1, 1) == (found["matched"], found["missing_there"])
    assert [(lost, "missing-there")] == [(one["case_id"], one["difference"]) for one in found["differences"]]
    text = reconciled(officers, COUNTY, exit_code=1).stdout
    assert lost in text
    assert "missing-there 对方台账缺" in text
    assert "1 hand-overs agree, 0 pending, 1 differ" in text

    above = reconciled(officers, PROVINCE, "--show", exit_code=0).stdout
    assert lost in above
    assert "missing-here 本台账缺" in above
    assert "not in this ledger" in above
    assert "1 mismatch(es) of 110000" in reconciled(officers, PROVINCE, "--show", exit_code=0).stdout
    listed = json.loads(reconciled(officers, COUNTY, "--show", "--json", exit_code=0).stdout)
    assert [(lost, False)] == [(one["case_id"], one["absent"]) for one in listed["mismatches"]]
    assert "1 agreed" in reconciled(officers, COUNTY, "--show", exit_code=0).stdout

    stands = refusal(county("write-off", lost, "--json"))
    assert "MismatchStands" == stands["rule"]
    assert "对账不符" in stands["message_chinese"]
    assert "mismatch 对账不符" in county("show", lost).stdout
    swept = json.loads(county("write-off", "--all-ready", "--json").stdout)
    assert [kept] == swept["written_off"]
    assert [(lost, "MismatchStands")] == [(one["case_id"], one["rule"]) for one in swept["refused"]]
    officers.run(officers.federation.restart_node(HEADQUARTERS))


def test_all_that_is_ready_is_written_off_and_what_waits_for_its_follow_up_is_not(officers: Officers) -> None:
    county = officers.at(HEADQUARTERS, "tax-service")
    registrar = officers.at(HEADQUARTERS, "registrar", "counter")
    waiting = registered(registrar, "--answer", "请更新客户端")
    called = registered(registrar, "--answer", "请更新客户端")
    dissatisfied = registered(registrar, "--answer", "请更新客户端")
    withdrawn = registered(registrar)
    assert county("follow-up", called, "--satisfaction", "满意").exit_code == 0
    assert county("follow-up", dissatisfied, "--satisfaction", "不满意").exit_code == 0
    assert registrar("withdraw", withdrawn).exit_code == 0
    assert {"written_off": [], "refused": []} == told(
        county("write-off", "--all-ready", "--before", "2026-09-01", "--json")
    )
    result = county("write-off", "--all-ready")
    assert result.exit_code == 2, result.output
    assert "2 written off 已销号, 1 refused 未销号" in result.stdout
    assert dissatisfied in result.stdout
    assert "DissatisfactionOpen" in result.stdout
    stages = {case: told(county("show", case, "--json"))["case"]["stage"] for case in (waiting, called, withdrawn)}
    assert {waiting: "fed-back", called: "written-off", withdrawn: "written-off"} == stages
    assert [] == json.loads(county("write-off", "--all-ready", "--json").stdout)["written_off"]


@pytest.mark.parametrize("arguments", [(), ("110101-2026-0000001", "--all-ready"), ("x", "--before", "2026-09-01")])
def test_a_write_off_is_of_one_case_or_of_all_that_are_ready(officers: Officers, arguments: tuple[str, ...]) -> None:
    assert "OneOrAll" == refusal(officers.at(COUNTY, "tax-service")("write-off", *arguments, "--json"))["rule"]


def test_a_peer_that_is_none_is_refused_and_one_that_is_away_ends_with_three(officers: Officers) -> None:
    def refused(*arguments: str) -> Any:
        return refusal(reconciled(officers, COUNTY, *arguments, "--json", exit_code=2))

    assert "NotAPair" == refused("--peer", HEADQUARTERS)["rule"]
    assert "to_day" == refused("--from", "2026-09-02", "--to", "2026-09-01")["field"]
    officers.run(officers.federation.kill_node(PROVINCE))
    assert "not compared, UNAVAILABLE" in reconciled(officers, COUNTY, exit_code=3).stdout
    officers.run(officers.federation.restart_node(PROVINCE))
