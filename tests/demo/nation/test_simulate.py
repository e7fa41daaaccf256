"""A small filing day by `kx simulate`, and what of it is found to be wrong."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from demo.federation import shared_by_site
from demo.nation import day, load, run, watching
from demo.nation.load import NodeAddress, Orders, Progress, acknowledged
from demo.tally import Acknowledged
from kuaixiang.facts import national_tree
from kx.main import app
from kx.output import REFUSED_EXIT_CODE


def test_orders_and_progress_are_read_as_they_were_written(tmp_path: Path) -> None:
    orders = Orders(
        tree="tree.csv",
        clock="clock",
        nodes=[NodeAddress(codes=["110000", "110101"], endpoint="127.0.0.1:1", terminal="folder")],
        cases=10,
        seed=1,
        worker=0,
        workers=2,
        acknowledged="a.tsv",
        progress="p.json",
    )
    orders.write(tmp_path / "orders.json")
    assert Orders.read(tmp_path / "orders.json") == orders
    assert Progress.read(tmp_path / "none.json") == Progress()
    progress = Progress(registered=3, told=["a"], done=True)
    progress.write(tmp_path / "progress.json")
    assert Progress.read(tmp_path / "progress.json") == progress


def test_in_the_evening_the_clock_waits_until_all_whose_turn_has_come_are_counted_and_few_of_them_wait() -> None:
    now = day.CLOSES - timedelta(hours=1)
    told = Progress(waiting=run.EVENING_WAITING_MAX - 1, woken=now.timestamp())
    assert run.evening_goes_on(told, now)
    assert not run.evening_goes_on(replace(told, woken=now.timestamp() - 1), now)
    assert not run.evening_goes_on(replace(told, waiting=run.EVENING_WAITING_MAX), now)
    assert not run.evening_goes_on(replace(told, woken=day.CLOSES.timestamp()), day.CLOSES)


def test_an_acknowledgement_is_read_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "acknowledged.tsv"
    file.write_text("7.1\t110101\t110101-1\t5\tRegister\n", encoding="utf-8")
    assert acknowledged(file) == [("7.1", Acknowledged("110101", "110101-1", 5, "Register"))]


def test_without_the_package_that_draws_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "find_spec", lambda _: None)
    with pytest.raises(watching.ChartUnavailable, match="pip install matplotlib"):
        watching.require_drawing()


def test_a_node_of_fewer_bureaus_stands_further_behind_but_headquarters_witness_of_most_does_not() -> None:
    tree = national_tree()
    nodes = sorted((group for group in shared_by_site(tree) if tree.root not in group), key=len, reverse=True)
    behind = [run.niceness_of(group, tree.root) for group in nodes]
    assert behind == sorted(behind)
    assert (100, run.NICENESS) == (len(nodes[0]), behind[0])
    # A step of niceness is a quarter more or less of a core: 25 bureaus have about a quarter of what 100 have.
    twenty_five = run.niceness_of(nodes[0][:25], tree.root)
    assert run.SHARE_OF_A_STEP ** (twenty_five - behind[0]) == pytest.approx(4, rel=0.2)
    assert run.niceness_of([tree.root], tree.root) == run.NICENESS
    assert run.niceness_of(nodes[0][:1], tree.root) == 19


def test_a_folder_that_holds_something_is_refused_and_nothing_is_begun(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    result = CliRunner().invoke(app, ["simulate", "--folder", str(tmp_path)])
    assert result.exit_code == REFUSED_EXIT_CODE
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]


def simulated(folder: Path, *options: str, exit_code: int = 0) -> Any:
    """The object that `kx simulate --json` prints as its last line."""
    arguments = ["simulate", "--provinces", "1", "--cases", "400", "--folder", str(folder), "--json", *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_filing_day_loses_nothing_and_the_hub_equals_its_ledgers(tmp_path: Path) -> None:
    chart = tmp_path / "backlog.png"
    told = simulated(tmp_path / "federation", "--chart", str(chart))
    assert (told["lost"], told["duplicated"], told["broken"], told["faults"], told["findings"]) == (0, 0, 0, 0, [])
    assert told["hub_equals_ledgers"]
    assert told["ledgers_compared"] == told["bureaus"] == 18
    assert told["cases"] == told["events"]["registered"] == 400
    assert told["hand_overs"] == told["events"]["received"] > 0
    assert told["events"]["answered_on_the_spot"] > 250
    assert told["events"]["written_off"] > 0
    assert told["samples"][-1]["folded"] == told["samples"][-1]["committed"] > 1_000
    assert told["memory_mb"]["in_the_end"]["node"] > 0
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_was_acknowledged_and_is_in_no_ledger_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_one_more(file: Path) -> list[tuple[str, Acknowledged]]:
        return [*load.acknowledged(file), (f"{file.name}.1", Acknowledged("110101", f"{file.name}", 1, "Register"))]

    monkeypatch.setattr(run, "acknowledged", with_one_more)
    told = simulated(tmp_path / "federation", exit_code=1)
    assert told["lost"] > 0
    assert told["hub_equals_ledgers"]
