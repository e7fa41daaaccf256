"""`kx demo` as a user runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

KX = (sys.executable, "-c", "from kx.main import app; app()")
SECONDS_MAX = 360


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(800)
def test_a_short_demonstration_shows_the_whole_notice_loses_nothing_and_its_hub_equals_the_ledgers(
    tmp_path: Path,
) -> None:
    command = [*KX, "demo", "--cases", "40", "--exit", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["linked"] == told["completed_with_lead"] == told["duplicates_found"] > 0
    assert told["cases"] == 40 + told["linked"]
    assert told["journal_entries"] > 300
    assert told["referrals"] > 10
    assert (told["lost"], told["duplicated"], told["broken"]) == (0, 0, 0)
    assert told["hub_equals_ledgers"] is True
    assert told["pairs_that_differ"] == 0
    assert min(told["extensions"].values()) > 0
    assert min(told[deed] for deed in ("joint", "deferred", "reviews_close", "resumed", "rulings")) > 0
    assert told["attachments_travelled"] > 0
    assert told["orders"] == {"issued": 4, "cascaded": 2, "answers": 5, "answers_returned": 1, "accepted": 4}
    assert (told["calendar"]["version"], told["calendar"]["adopted_by"]) == ("2026.2", 10)
    assert {"version": "2026-10", "adopted_by": 10} == told["tree"]
    assert told["older_copy"]["cases_lost"] > 0
    assert told["older_copy"]["fault_found"] is True
    assert told["older_copy"]["takes_no_acts"] is True
    assert told["older_copy"]["entries_put_back"] > 0
    assert told["older_copy"]["generation"] == 2
    assert told["older_copy"]["differences_after"] == 0
    files = [tmp_path / file for file in told["bulletin"]]
    assert [file.suffix for file in files] == [".html", ".docx", ".xlsx"]
    assert all(file.stat().st_size > 0 for file in files)
    assert told["seconds"] > 0
    assert "kill -9" in done.stderr
    assert "is cut" in done.stderr


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(800)
def test_what_the_demonstration_suggests_works_as_it_stands_and_it_stops_without_a_trace(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [*KX, "demo", "--cases", "20", "--directory", str(directory)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + SECONDS_MAX
            while re.search("board 看板 .*\n$", output.read_text()) is None:
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.1)
            suggested = _script(output.read_text())
            tried = subprocess.run(
                ["bash", "-c", suggested],
                capture_output=True,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
                cwd=tmp_path,
            )
            stage, *others = _addresses(output.read_text())
            shown = httpx.get(stage).text
            with httpx.stream("GET", f"{stage}changes") as changes:  # a page that is open does not hold the end up
                assert changes.status_code == 200
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        finally:
            process.kill()
    assert tried.returncode == 0, tried.stderr + tried.stdout
    assert "kuaixiang.wire.v1.CaseService/RegisterCase" in tried.stdout
    assert "The hub equals its ledgers: 10 ledgers" in tried.stdout
    assert len(others) == 11
    assert all(f'href="{address}"' in shown for address in others)
    assert {"ledger.xlsx", "330000.docx"} <= {path.name for path in tmp_path.iterdir()}
    assert sorted(path.suffix for path in (directory / "bulletin").iterdir()) == [".docx", ".html", ".xlsx"]
    assert "node-110101 serves again" in output.read_text()
    assert process.returncode == 0, output.read_text()
    assert "Everything is stopped." in output.read_text()
    assert [one.info["name"] for one in psutil.process_iter(["name", "cmdline"]) if _is_of(one, directory)] == []


def _script(output: str) -> str:
    """The suggested commands as one script: with a real case and order, and as much patience as a person has."""
    suggested = output.partition("# in another terminal\n")[2].partition("\nThe stage 演示台:")[0].splitlines()
    lines = ["set -eu", 'patiently() { for _ in $(seq 60); do "$@" && return; sleep 0.5; done; return 1; }']
    for line in suggested:
        if line.startswith("grpcurl") and shutil.which("grpcurl") is None:
            continue
        if line.startswith("kx case register"):
            lines.append(f"CASE=$({line} | grep -o '110101-2026-[0-9]*' | head -1)")
        elif line.startswith("kx supervise issue"):
            lines.append(f"ORDER=$({line} | grep -o '110000-2026-D[0-9]*' | head -1)")
        else:
            # What arrives from another bureau, or is acknowledged by it, takes a moment.
            lines.append(
                ("patiently " if line.startswith("kx") else "")
                + line.replace(" CASE", " $CASE").replace(" ORDER", " $ORDER")
            )
    return "\n".join(lines)


def _addresses(output: str) -> list[str]:
    """The web pages that the demonstration names, in its order."""
    return re.findall(r"http://127\.0\.0\.1:\d+/\S*", output.partition("\nThe stage 演示台:")[2])


def _is_of(process: psutil.Process, directory: Path) -> bool:
    return any(str(directory) in part for part in process.info["cmdline"] or ())


def test_to_watch_a_demonstration_without_pages_is_refused() -> None:
    for option in ("--exit", "--no-pages"):
        command = [*KX, "demo", "--watch", option]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        assert done.returncode == 2
        assert "--watch needs the pages" in done.stderr


def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    command = [*KX, "demo", "--exit", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 1
    assert "is not empty" in done.stdout.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_part_that_is_missing_ends_the_demonstration_with_a_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"KX_NATS_SERVER": str(tmp_path / "no-such-server")}
    command = [*KX, "demo", "--exit", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False, env=environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "The demonstration failed: no nats-server found" in done.stderr
    assert "Traceback" not in done.stderr
