"""A federation in a storm of faults while its officers work: nothing acknowledged is lost, doubled or stranded.

`make test-faults` storms for longer: KX_TEST_KILLS is the number of kills, KX_TEST_PARTITIONS that of partitions,
KX_TEST_SEED repeats a seed. What is done in a storm is in `tests.faults.storm`.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.machines import PRIVATE
from tests.faults.storm import REPORT, Flavour, Plan
from tests.faults.tools import need
from tests.faults.warm import UNDER_LIBFIU

KILLS = int(os.environ.get("KX_TEST_KILLS", "6"))
PARTITIONS = int(os.environ.get("KX_TEST_PARTITIONS", "3"))
SEED = int(os.environ.get("KX_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PACE_SECONDS = float(os.environ.get("KX_TEST_PACE", "0.6"))
"""From one kill to the next."""
KILLS_IN_A_STORM = 125
"""More are several storms, each looked at when it is over: what is found is then near to what has done it."""
FLAVOURS = [(Flavour.POWER, 0), (Flavour.SQLITE, 1), (Flavour.POWER, 1), (Flavour.POSTGRESQL, 1)]
"""One after the other, and whether peers meddle."""
SECONDS_FOR_A_KILL_MAX = 8.0
SECONDS_AROUND_MAX = 240.0


def plans() -> Iterator[Plan]:
    storms = -(-KILLS // KILLS_IN_A_STORM)
    for number in range(storms):
        flavour, meddled = FLAVOURS[number % len(FLAVOURS)]
        yield Plan(
            flavour=flavour,
            meddled=meddled,
            seed=SEED + number,
            kills=KILLS // storms + (number < KILLS % storms),
            partitions=PARTITIONS // storms + (number < PARTITIONS % storms),
            mishaps=KILLS // storms // 4,
            seconds_between_kills=PACE_SECONDS,
        )


@pytest.fixture
def kept() -> Iterator[Path]:
    """Where a storm leaves what it reports: it has a /dev/shm of its own, where other tests write."""
    with tempfile.TemporaryDirectory(prefix="kx-storm-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(SECONDS_AROUND_MAX * (1 + KILLS // KILLS_IN_A_STORM) + SECONDS_FOR_A_KILL_MAX * KILLS)
def test_what_was_acknowledged_in_a_storm_is_there_once_and_nothing_is_stranded(kept: Path) -> None:
    need("namespaces", "ip", "tc", "nft", "faketime", "fiu-run", "fusermount3", "/dev/fuse")
    total: Counter[str] = Counter()
    found: list[str] = []
    for plan in plans():
        command = [*PRIVATE, sys.executable, "-m", "tests.faults.storm", *plan.arguments]
        print(f"seed {plan.seed}:", *command[len(PRIVATE) + 1 :], flush=True)
        directory = kept / str(plan.seed)
        subprocess.run([*command, "--directory", str(directory)], stdout=subprocess.DEVNULL, check=False)
        if not (directory / REPORT).exists():
            found.append(f"seed {plan.seed}: the storm ended before its time")
            continue
        report = json.loads((directory / REPORT).read_text("utf-8"))
        total.update(report["faults"])
        total.update(
            {name: report[name] for name in ("answered", "refused", "unknown", "cases", "travelled", "entries")}
        )
        found += [f"seed {plan.seed}: {sentence}" for sentence in report["found"]]
        print(json.dumps(report, ensure_ascii=False), flush=True)
    for name, count in total.most_common():
        print(f"{count:8} {name}")
    assert found == []
    assert total["answered"] > KILLS


def test_a_hub_with_all_its_libraries_lives_where_syncs_are_made_to_fail_and_syncs_alone_do() -> None:
    need("fiu-run")
    program = """
import ctypes, os, tempfile
import hub.issues.joining, hub.service
ctypes.CDLL("libfiu.so.0").fiu_enable_random(b"posix/io/sync/*", 1, None, 0, ctypes.c_float(1.0))
with tempfile.TemporaryFile() as file:
    os.pwrite(file.fileno(), b"whole", 0)
    try:
        os.fsync(file.fileno())
    except OSError:
        print("it failed")
"""
    command = [*UNDER_LIBFIU, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "it failed\n", "")
