"""Hostile bytes into the services of a node and the fold of a hub: clear refusals, and a ledger that stays as it is.

The corpus is repeated, and then a few seconds of new bytes; `make fuzz` goes on for longer, led by coverage.
"""

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.folder import Folding
from tests.fuzz.services import Finding, Runner, node_target

CORPUS = Path(__file__).parent / "corpus"
CORPUS_BYTES_MAX = 300 * 1024
SECONDS = float(os.environ.get("KX_TEST_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("KX_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
LENGTHS = (8, 40, 200, 600, 2_000)


def attack(running: Any, target: str) -> Counter[str]:
    """The corpus, then new bytes; how often what came."""
    came: Counter[str] = Counter()
    for file in sorted((CORPUS / target).glob("*")):
        try:
            came[running.call(file.read_bytes())] += 1
        except Finding as finding:
            pytest.fail(f"{file.name}: {finding}", pytrace=False)
    chance, ends = random.Random(SEED), time.monotonic() + SECONDS
    while time.monotonic() < ends:
        data = chance.randbytes(chance.choice(LENGTHS))
        try:
            came[running.call(data)] += 1
        except Finding as finding:
            pytest.fail(f"{finding}\nKX_TEST_SEED={SEED}, or as a file of the corpus: {data.hex()}", pytrace=False)
    return came


def test_a_node_refuses_hostile_bytes_clearly_and_its_ledger_stays_as_it_is(tmp_path: Path) -> None:
    with Runner(node_target, tmp_path) as running:
        came = attack(running, "node")
    print(f"seed {SEED}: {sum(came.values())} calls, {len(came)} kinds of outcomes")
    assert any(outcome.endswith("INVALID_ARGUMENT") for outcome in came)
    assert any(outcome.endswith("OK") for outcome in came)


def test_a_hub_takes_no_harm_from_what_arrives_over_the_bus(tmp_path: Path) -> None:
    with Folding(tmp_path) as running:
        assert attack(running, "folder").total() > 10


def test_the_corpus_stays_small() -> None:
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) < CORPUS_BYTES_MAX
