"""The simulation and its checker notice every rule that is taken away: each mutant dies within the seeds.

`make test-mutants` tries all of them; the default suite those that die soonest.
"""

import os

import pytest

from tests.simulation.mutants import MUTANTS, broken
from tests.simulation.schedule import scheduled
from tests.simulation.world import Theatre

SEEDS = range(1, 641)
"""The slowest mutant known dies at the 245th; what changes in the services moves that."""
QUICK = (
    "commits_are_not_synced",
    "callers_are_answered_before_the_commit",
    "receipts_are_not_kept",
    "a_case_is_taken_back_on_a_time_out",
    "the_publisher_does_not_wait_for_acknowledgements",
    "the_hub_counts_what_it_has_counted",
)
"""Each takes a second or less."""
TRIED = tuple(MUTANTS) if os.environ.get("KX_TEST_MUTANTS") == "all" else QUICK


@pytest.mark.timeout(1_200)  # seconds of a machine that does much else
@pytest.mark.parametrize("name", TRIED)
def test_each_mutant_is_caught(name: str) -> None:
    with broken(name), Theatre() as theatre:
        for seed in SEEDS:
            faults = theatre.live(scheduled(seed)).faults
            if faults:
                print(f"{name}: seed {seed}: {faults[0]}")
                return
    pytest.fail(f"The mutant {name} survived {len(SEEDS)} seeds: the checker or the simulation is too weak.")


def test_the_unbroken_services_live_through_seeds_that_kill_mutants() -> None:
    with Theatre() as theatre:
        assert [] == [fault for seed in range(1, 12) for fault in theatre.live(scheduled(seed)).faults]
