"""Two counties are merged and one is retired, by the commands of docs/OPERATING.md, in a running federation with its hub."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.federation import tree_text
from kuaixiang.domain.tree import BureauTree
from tests.kx.conftest import HEADQUARTERS, Officers, kx, refusal, running, told
from tests.kx.test_case import REQUEST, registered, until

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PROVINCE, PREFECTURE, ENDS, CARRIES_ON = "330000", "330100", "330105", "330106"
PATIENCE_SECONDS = 180.0
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "OPERATING.md"
RETIRING = "### Retire one 停用"


def merging() -> AbstractContextManager[Officers]:
    """Headquarters, a province with its prefecture, the two counties, and the national hub."""
    return running(
        (ENDS, CARRIES_ON),
        [[HEADQUARTERS], [PROVINCE, PREFECTURE], [ENDS], [CARRIES_ON]],
        hubs=(HEADQUARTERS,),
        node_settings={"follow_up_sample_percent": 0},
    )


def test_a_county_that_is_dissolved_hands_over_what_is_open_and_is_retired_when_nothing_of_it_is() -> None:
    with merging() as officers:
        federation = officers.federation
        ends = officers.at(ENDS, "registrar", "counter")
        answered = registered(ends, "--answer", "到前台领取")
        going = [registered(ends) for _ in range(2)]
        supervise = officers.at(PREFECTURE, "supervisor", "leadership", group="supervise")
        order = told(supervise("issue", "--to", ENDS, "--text", "请报送情况", "--workdays", "3", "--json"))
        order_id = order["order"]["order_id"]

        # It may not go: it is there, and has cases, an order, and a hub that expects it.
        in_the_way = until(lambda: retire(officers), lambda found: "orders received" in found, PATIENCE_SECONDS)
        assert {"tree", "cases open", "cases to write off", "orders received", "hub 000000", "retire"} <= set(
            in_the_way
        )
        assert all(one in in_the_way["cases open"] for one in going)
        assert answered in in_the_way["cases to write off"]
        assert order_id in in_the_way["orders received"]

        # Headquarters says who carries on.
        merged = published(officers, "2027-1", federation.tree, successor=CARRIES_ON)

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
            assert case_id in retire(officers)["cases elsewhere"]
            told(handler("feedback", case_id, "--told", "已可申报", "--json"))
        written_off: set[str] = set()

        def write_off() -> set[str]:
            written_off.update(told(tax_service("write-off", "--all-ready", "--json"))["written_off"])
            return written_off

        until(write_off, lambda seen: seen == {answered, *going}, PATIENCE_SECONDS)

        # Of its cases nothing is open; the order is.
        assert {"orders received", "retire"} == set(until(lambda: retire(officers), settled, PATIENCE_SECONDS))
        until(lambda: expected(officers), lambda seen: seen == len(merged) - 1, PATIENCE_SECONDS)
        at_the_end = officers.at(ENDS, group="supervise")
        told(at_the_end("acknowledge", order_id, "--json"))
        told(at_the_end("answer", order_id, "--answer", "已移交承接单位", "--json"))
        until(lambda: supervise("accept", order_id, "--json"), lambda result: 0 == result.exit_code, PATIENCE_SECONDS)
        assert {} == until(lambda: retire(officers), lambda found: not found, PATIENCE_SECONDS)

        # It is stopped, its ledger proves itself, and the tree gives it no node any more.
        commands = documented(officers)
        named = [" ".join(command[:2]) for command in commands]
        assert ["doctor retire", "backup node", "node export", f"verify {federation.directory}/{ENDS}.kxl"] == named
        counted = officers.run(federation.hub().figures(scope=ENDS)).rows[0].facts
        assert len(going) + 1 == counted["registered"]
        officers.run(federation.stop_node(ENDS))
        for command in commands[1:]:
            done = kx(*command, environment={"KX_NODE_BACKUPS": str(federation.directory / "backups")})
            assert 0 == done.exit_code, (command, done.output)
        gone = published(officers, "2027-2", merged, endpoint="")

        # The hub misses nobody, and reads that ledger from the superior that has cosigned it.
        all_but_one = (len(gone) - 1, len(gone) - 1)
        until(lambda: completeness(officers), lambda seen: counts_of(seen) == all_but_one, PATIENCE_SECONDS)
        hub = federation.hubs[0]
        where = ("--hub", hub.endpoint, "--certificates", str(hub.terminal.ca.parent), "--json")
        compared = until(lambda: kx("hub", "reconcile", *where), lambda result: 0 == result.exit_code, PATIENCE_SECONDS)
        assert len(gone) == told(compared)["ledgers_compared"]

        # Nor are its figures lost when the hub folds its ledgers again.
        officers.run(federation.kill_hub(HEADQUARTERS))
        assert 0 == kx("hub", "rebuild", "--config", str(hub.config), "--json").exit_code
        officers.run(federation.restart_hub(HEADQUARTERS))
        assert counted == officers.run(federation.hub().figures(scope=ENDS)).rows[0].facts
        assert len(gone) - 1 == expected(officers)


def published(officers: Officers, version: str, tree: BureauTree, **of_the_one_that_ends: str) -> BureauTree:
    """The tree with that county's row changed, when headquarters has published it."""
    new = BureauTree(
        version,
        (replace(one, **of_the_one_that_ends) if one.code == ENDS else one for one in tree.bureaus.values()),  # type: ignore[arg-type]
    )
    edition = officers.federation.directory / f"tree-{version}.csv"
    edition.write_text(tree_text(new), encoding="utf-8")
    told(kx("tree", "check", str(edition), "--json"))
    done = officers.at(HEADQUARTERS, "supervisor", "leadership", group="supervise")("publish-tree", str(edition))
    assert 0 == done.exit_code, done.output
    return new


def documented(officers: Officers) -> list[list[str]]:
    """The commands of the document's chapter that retires a bureau, in its order, with where things are here."""
    federation = officers.federation
    node = federation.node(ENDS)
    here = {
        "hq.example:7450": federation.hubs[0].endpoint,
        f"/etc/kuaixiang/node-{ENDS}.toml": str(node.config),
        f"/etc/kuaixiang/node-{ENDS}/": f"{federation.certificates('node', ENDS)}/",
        "/var/lib/kuaixiang/": f"{federation.directory}/",
    }
    chapter = DOCUMENT.read_text("utf-8").partition(f"\n{RETIRING}\n")[2].partition("\n### ")[0]
    found = []
    for line in chapter.splitlines():
        command = line.removeprefix("runuser -u kuaixiang -- ")
        if command.startswith("kx "):
            for there, place in here.items():
                command = command.replace(there, place)
            found.append(command.split()[1:])
    return found


def retire(officers: Officers) -> dict[str, str]:
    """What `kx doctor retire` says is in the way of stopping the county's node, by what it looked at."""
    done = kx(*documented(officers)[0], "--json")
    answer = json.loads(done.stdout)
    assert done.exit_code == answer["exit_code"]
    in_the_way = [one for one in answer["findings"] if one["verdict"] != "ok"]
    assert all(one["remedy"] and one["remedy_chinese"] and one["said_chinese"] for one in in_the_way)
    assert ("retire" in {one["look"] for one in in_the_way}) is (done.exit_code != 0)
    return {one["look"]: one["said"] for one in in_the_way}


def settled(in_the_way: dict[str, str]) -> bool:
    """Whether the neighbours, the witness and the hub have all of the ledger."""
    return not any(look.startswith(("hub", "peer", "owed", "witness", "cases", "ledger")) for look in in_the_way)


def listed(terminal: Callable[..., Any], *more: str) -> list[str]:
    return sorted(case["case_id"] for case in told(terminal("list", *more, "--json"))["cases"])


def completeness(officers: Officers) -> Any:
    return officers.run(officers.federation.hub().completeness()).completeness


def counts_of(seen: Any) -> tuple[int, int]:
    """Bureaus that the hub expects, and those of them that are up to date."""
    return seen.bureaus_expected, seen.bureaus_up_to_date


def expected(officers: Officers) -> int:
    return int(completeness(officers).bureaus_expected)
