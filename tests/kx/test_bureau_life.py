"""Two counties are merged, by the commands that docs/OPERATING.md gives, in a running federation with its hub."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from demo.federation import tree_text
from kuaixiang.domain.tree import BureauTree
from tests.kx.conftest import HEADQUARTERS, Officers, kx, refusal, running, told
from tests.kx.test_case import REQUEST, registered, until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PROVINCE, PREFECTURE, ENDS, CARRIES_ON = "330000", "330100", "330105", "330106"
PATIENCE_SECONDS = 180.0


def merging() -> AbstractContextManager[Officers]:
    """Headquarters, a province with its prefecture, the two counties, and the national hub."""
    return running(
        (ENDS, CARRIES_ON),
        [[HEADQUARTERS], [PROVINCE, PREFECTURE], [ENDS], [CARRIES_ON]],
        hubs=(HEADQUARTERS,),
        node_settings={"follow_up_sample_percent": 0},
    )


def test_the_open_cases_of_a_county_that_is_dissolved_go_to_its_successor_and_the_hub_expects_it_no_more() -> None:
    with merging() as officers:
        federation = officers.federation
        ends = officers.at(ENDS, "registrar", "counter")
        answered = registered(ends, "--answer", "到前台领取")
        going = [registered(ends) for _ in range(2)]

        # Headquarters says who carries on.
        tree = federation.tree
        merged = BureauTree(
            "2027-1",
            (replace(one, successor=CARRIES_ON) if one.code == ENDS else one for one in tree.bureaus.values()),
        )
        edition = federation.directory / "tree-2027-1.csv"
        edition.write_text(tree_text(merged), encoding="utf-8")
        told(kx("tree", "check", str(edition), "--json"))
        published = officers.at(HEADQUARTERS, "supervisor", "leadership", group="supervise")(
            "publish-tree", str(edition)
        )
        assert 0 == published.exit_code, published.output

        # A new request is for the successor.
        refused = until(
            lambda: ends("register", *REQUEST, "--json"), lambda result: result.exit_code != 0, PATIENCE_SECONDS
        )
        assert "BureauDissolved" == refusal(refused)["rule"]
        assert CARRIES_ON in refusal(refused)["remedy"]
        going = [one for one in listed(ends) if one != answered]

        # What is open goes over; what was answered stays; a second time finds nothing left.
        tax_service = officers.at(ENDS)
        over = ("hand-over", "--to", CARRIES_ON, "--reason", "机构撤并", "--told", "已转承接单位", "--json")
        outcome = told(tax_service(*over))
        assert (going, [], [], 1) == tuple(outcome[key] for key in ("handed_over", "refused", "under_way", "answered"))
        assert [] == told(tax_service(*over))["handed_over"]

        # The successor answers for them, and the result comes back into the ledger that has ended.
        service = officers.at(CARRIES_ON)
        handler = officers.at(CARRIES_ON, "handler", "systems", "handler-1")
        until(lambda: listed(service), lambda seen: set(seen) >= set(going), PATIENCE_SECONDS)
        assert answered not in listed(service)
        for case_id in going:
            told(service("dispatch", case_id, "--to", "systems", "--json"))
            told(handler("complete", case_id, "--result", "已修复", "--json"))
            assert expected(officers) == len(merged), "as long as something is open"
            told(handler("feedback", case_id, "--told", "已可申报", "--json"))
        written_off: set[str] = set()

        def write_off() -> set[str]:
            written_off.update(told(tax_service("write-off", "--all-ready", "--json"))["written_off"])
            return written_off

        until(write_off, lambda seen: seen == {answered, *going}, PATIENCE_SECONDS)

        # Nothing is open there: the hub expects it no more, and counts what it has done as before.
        until(lambda: expected(officers), lambda seen: seen == len(merged) - 1, PATIENCE_SECONDS)
        figures = officers.run(federation.hub().figures(scope=ENDS))
        assert len(going) + 1 == figures.rows[0].facts["registered"]


def listed(terminal: Callable[..., Any], *more: str) -> list[str]:
    return sorted(case["case_id"] for case in told(terminal("list", *more, "--json"))["cases"])


def expected(officers: Officers) -> int:
    return officers.run(officers.federation.hub().completeness()).completeness.bureaus_expected
