"""`kx demo` as a user runs it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

KX = (sys.executable, "-c", "from kx.main import app; app()")
SECONDS_MAX = 110


@pytest.mark.nats
@pytest.mark.slow
def test_a_short_demonstration_loses_nothing_and_its_hub_equals_the_ledgers() -> None:
    command = [*KX, "demo", "--cases", "40", "--exit", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["cases"] == 40
    assert told["journal_entries"] > 300
    assert told["referrals"] > 10
    assert (told["lost"], told["duplicated"], told["broken"]) == (0, 0, 0)
    assert told["hub_equals_ledgers"] is True
    assert told["seconds"] > 0
    assert "kill -9" in done.stderr
    assert "is cut" in done.stderr


@pytest.mark.nats
@pytest.mark.slow
def test_a_demonstration_that_is_told_to_stop_leaves_no_process_behind(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    output = tmp_path / "output"
    with output.open("wb") as file:
        command = [*KX, "demo", "--cases", "20", "--directory", str(directory)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + SECONDS_MAX
            while b"They serve" not in output.read_bytes():
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        finally:
            process.kill()
    assert process.returncode == 0, output.read_text()
    assert "Everything is stopped." in output.read_text()
    assert [one.info["name"] for one in psutil.process_iter(["name", "cmdline"]) if _is_of(one, directory)] == []


def _is_of(process: psutil.Process, directory: Path) -> bool:
    return any(str(directory) in part for part in process.info["cmdline"] or ())


def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    command = [*KX, "demo", "--exit", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 1
    assert "is not empty" in done.stdout.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
