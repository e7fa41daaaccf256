"""A county officer's case goes to headquarters and back by `kx case`, while the nodes are killed one after another."""

import threading
import time
from collections.abc import Callable

import pytest
from typer.testing import Result

from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, told

WAIT_SECONDS = 60


def until(case: Callable[..., Result], case_id: str, stage: str, custody: str) -> None:
    """Waits until the ledger has the case there."""
    ends = time.monotonic() + WAIT_SECONDS
    seen = ""
    while time.monotonic() < ends:
        result = case("show", case_id, "--json")
        if result.exit_code == 0:
            view = told(result)["case"]
            seen = f"{view['stage']} {view['custody']}"
            if seen == f"{stage} {custody}":
                return
        time.sleep(0.1)
    pytest.fail(f"case {case_id} is {seen or 'not there'}, not {stage} {custody}, after {WAIT_SECONDS} s")


@pytest.mark.slow
def test_a_case_escalated_twice_is_completed_at_headquarters_and_written_off_in_all_three_ledgers(
    officers: Officers,
) -> None:
    county, province, headquarters = (officers.at(code) for code in (COUNTY, PROVINCE, HEADQUARTERS))
    killing: list[threading.Thread] = []

    def strike(victim: str) -> None:
        """Kills a node and starts it again a moment later, while the next acts are under way."""
        officers.run(officers.federation.kill_node(victim))

        def start() -> None:
            time.sleep(1)
            officers.run(officers.federation.restart_node(victim))

        killing.append(threading.Thread(target=start))
        killing[-1].start()

    case_id = told(
        county(
            "register",
            *("--taxpayer", "晨光文具店", "--contact", "15400001234", "--text", "跨省经营的汇总纳税口径不一致"),
            *("--category", "policy", "--channel", "counter", "--json"),
        )
    )["case"]["case_id"]
    told(county("forward", case_id, "--telling", "transferred", "--told", "将上报研究", "--json"))
    strike(COUNTY)
    told(county("escalate", case_id, "--reason", "口径超出本级职责", "--json"))
    until(province, case_id, "forwarded", "owned")
    for thread in killing:
        thread.join()
    strike(PROVINCE)
    told(province("escalate", case_id, "--reason", "需总局明确", "--json"))
    until(headquarters, case_id, "forwarded", "owned")
    for thread in killing:
        thread.join()
    strike(HEADQUARTERS)
    told(headquarters("dispatch", case_id, "--to", "policy", "--json"))
    handler = officers.at(HEADQUARTERS, "handler", "policy")
    told(handler("complete", case_id, "--result", "统一口径", "--json"))
    told(handler("feedback", case_id, "--by", "hotline", "--told", "已明确口径", "--json"))
    for thread in killing:
        thread.join()
    for ledger in (province, county):
        until(ledger, case_id, "concluded", "released")
    for ledger in (headquarters, province, county):
        ends = time.monotonic() + WAIT_SECONDS
        while (result := ledger("write-off", case_id, "--json")).exit_code != 0:
            assert "LedgersDisagree" in result.output
            assert time.monotonic() < ends
            time.sleep(0.1)
    until(headquarters, case_id, "written-off", "owned")
    for ledger in (province, county):
        until(ledger, case_id, "written-off", "released")
