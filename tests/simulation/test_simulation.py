"""Real nodes, couriers, publishers and a real hub in one process, over a simulated network, disk and clock.

Each seed is a schedule: acts of officers, and what befalls processes and links. KX_TEST_SIMULATION says for how many
seconds of processor time seeds are lived, KX_TEST_SEED the first one; a seed that fails is shrunk to a small schedule
and told. `make test-simulation` runs it for longer.
"""

import gc
import os
import secrets
import time
from collections import Counter
from hashlib import sha256

import pytest

from tests.simulation.mutants import broken
from tests.simulation.schedule import Schedule, Step, scheduled, shrunk
from tests.simulation.world import Lived, Theatre

SECONDS = float(os.environ.get("KX_TEST_SIMULATION", "12"))
FIRST_SEED = int(os.environ.get("KX_TEST_SEED", "0")) or secrets.randbelow(10**9) + 1
PARTS = 2
"""As many cores as the seeds are lived on where the tests are."""
SEEDS_APART = 10**9
LIVES_MIN = 20
"""Of each part, however long they take: with fewer it is chance which answers are seen."""
LIVES_BETWEEN_COLLECTIONS = 50


def fingerprint(lived: Lived) -> str:
    """What was seen of a life, in few characters."""
    assert lived.history is not None
    ends = [(bureau, journal.head.hash) for bureau, journal in lived.history.journals.items()]
    calls = [(one.actor, one.came, one.completed_at) for one in lived.history.operations]
    return sha256(repr((ends, calls, lived.faults)).encode()).hexdigest()


def told(theatre: Theatre, lived: Lived) -> str:
    """A failure as a person wants it: the seed, the smallest schedule found, and what is wrong after that."""
    small = shrunk(lived.schedule, lambda schedule: bool(theatre.live(schedule).faults))
    again = theatre.live(small)
    return f"KX_TEST_SEED={lived.schedule.seed} repeats it\n{small}\n" + "\n".join(again.faults)


@pytest.mark.timeout(60 + 20 * SECONDS)
@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_schedule_ledgers_hub_and_clients_agree(part: int) -> None:
    first = FIRST_SEED + part * SEEDS_APART
    print(f"seeds from {first} on (KX_TEST_SEED={first} KX_TEST_SIMULATION={SECONDS:g} repeats them)")
    # Of this thread: what an earlier test left running in the process takes no lives away.
    begun, lives, seen = time.thread_time(), 0, Counter[str]()
    with Theatre() as theatre:
        gc.collect()
        gc.disable()
        try:
            while lives < LIVES_MIN or time.thread_time() < begun + SECONDS / PARTS:
                lived = theatre.live(scheduled(first + lives))
                assert not lived.faults, told(theatre, lived)
                assert lived.history is not None
                seen.update(one.came.value for one in lived.history.operations)
                seen["entries"] += sum(journal.head.seq for journal in lived.history.journals.values())
                lives += 1
                if not lives % LIVES_BETWEEN_COLLECTIONS:
                    gc.collect()
        finally:
            gc.enable()
    spent = time.thread_time() - begun
    print(f"{lives} schedules, {60 * lives / spent:.0f} a minute of one core; {dict(seen)}")
    assert min(seen["answered"], seen["refused"], seen["unknown"]) > 0


def test_a_seed_is_the_same_life_whatever_was_lived_before() -> None:
    with Theatre() as theatre:
        once = [fingerprint(theatre.live(scheduled(seed))) for seed in (3, 4, 5)]
        again = [fingerprint(theatre.live(scheduled(seed))) for seed in (5, 3, 4)]
    assert once == [*again[1:], again[0]]


def test_a_failure_shrinks_to_what_it_takes() -> None:
    with broken("receipts_are_not_kept"), Theatre() as theatre:
        lived = next(found for seed in range(1, 200) if (found := theatre.live(scheduled(seed))).faults)
        sentence = told(theatre, lived)
    schedule, *_ = sentence.partition("decisions_are_made_once_and_believed")
    assert f"seed {lived.schedule.seed}" in sentence
    assert 2 <= schedule.count("#") <= 5, sentence


def test_shrinking_keeps_only_the_steps_that_matter() -> None:
    schedule = scheduled(12)
    needed = {schedule.steps[1], schedule.steps[-2]}

    def fails(candidate: Schedule) -> bool:
        return needed <= set(candidate.steps)

    def numbers(steps: tuple[Step, ...] | set[Step]) -> set[int]:
        return {step.number for step in steps}

    assert numbers(needed) == numbers(shrunk(schedule, fails).steps)
