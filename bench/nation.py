"""A filing-deadline day through a whole federation, from the officers' acts to the hub's figures: `python -m bench.nation`.

What `kx simulate` does, in each round anew: four provinces of the real tree in as many node processes as they take, their
NATS sites and the national hub, officers in processes of their own. Short: one province. The whole nation takes
longer than an hour: `kx simulate --nation` is for that, and docs/PERFORMANCE.md says how far it was seen.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import results
from bench.results import Row
from demo.nation.run import Simulated, simulate

PROVINCES, PROVINCES_SHORT = 4, 1
CASES, CASES_SHORT = 8_000, 400


def main() -> int:
    """Runs the benchmark and reports it; the exit status is 1 when a day was not sound."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help=f"cases of a day ({CASES}; {CASES_SHORT} with --short)")
    parser.add_argument("--provinces", type=int, help=f"provinces ({PROVINCES}; {PROVINCES_SHORT} with --short)")
    options = results.parse(parser)
    days: list[Simulated] = []
    for seed in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="kuaixiang-bench-nation-") as folder:
            days.append(
                asyncio.run(
                    simulate(
                        Path(folder),
                        cases=options.cases or (CASES_SHORT if options.short else CASES),
                        provinces=options.provinces or (PROVINCES_SHORT if options.short else PROVINCES),
                        seed=seed,
                        tell=lambda sentence: print(sentence, file=sys.stderr, flush=True),
                    )
                )
            )
    told = [one.as_dict() for one in days]
    wrong = sum(one["lost"] + one["duplicated"] + one["broken"] + one["faults"] for one in told)
    differing = sum(not one["hub_equals_ledgers"] for one in told)
    cores = [sum(one["cpu_seconds"].values()) for one in told]
    rows = [
        Row.of("cases", [one["cases_per_second"] for one in told], "cases/s"),
        Row.of("acts", [one["acts_per_second"] for one in told], "acts/s"),
        Row.of("entries, from act to figure", [one["entries_per_second"] for one in told], "entries/s"),
        Row.of("processor time of a case", [1000 * c / one["cases"] for c, one in zip(cores, told, strict=True)], "ms"),
        Row.of("memory of a bureau's node, at rest", [_per_bureau(one, "at_rest") for one in told], "MB"),
        Row.of("memory of a bureau's node, in the end", [_per_bureau(one, "in_the_end") for one in told], "MB"),
        Row(name="lost, doubled, broken, failed", value=wrong, unit="", target="≤ 0"),
        Row(name="days on which the hub is not its ledgers", value=differing, unit="", target="≤ 0"),
    ]
    results.report("nation", rows, options)
    return int(wrong + differing > 0)


def _per_bureau(told: Mapping[str, Any], when: str) -> float:
    return float(told["memory_mb"][when]["node"]) / int(told["bureaus"])


if __name__ == "__main__":
    sys.exit(main())
