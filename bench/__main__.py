"""Runs benchmarks one after the other, each in a process of its own: `python -m bench [NAME …] [--short]`.

Without names all of them. Options are passed on to each. What several of them ask a large ledger is asked of one that is
made once. At the end stands the table of all rows that are kept.
"""

import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

from bench import results

APART = {"__init__", "__main__", "batches", "filling", "lives", "nodes", "results"}
"""Modules that are no programs."""
OF_ONE_LEDGER = ("hosting", "worklist", "ageing")
"""Programs that take a ledger of a hundred bureaus with `--ledgers`, in this order: the last of them archives it."""


def programs() -> list[str]:
    """The names of all programs, in the order in which they are run."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in APART)
    return [*(name for name in names if name not in OF_ONE_LEDGER), *OF_ONE_LEDGER]


def main() -> int:
    """Runs them; the exit status is 1 when one failed, 2 when there is none of a name."""
    known = programs()
    for name in takewhile(lambda argument: not argument.startswith("-"), sys.argv[1:]):
        if name not in known:
            print(f"There is no benchmark {name}. There are: {', '.join(known)}.", file=sys.stderr)
            return 2
    names = [argument for argument in sys.argv[1:] if argument in known]
    passed_on = [argument for argument in sys.argv[1:] if argument not in known]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        ledgers = ["--ledgers", str(Path(folder) / "ledgers.db")]
        for name in names or known:
            print(f"== {name}", flush=True)
            command = [sys.executable, "-m", f"bench.{name}", *(ledgers if name in OF_ONE_LEDGER else ()), *passed_on]
            if subprocess.run(command, check=False).returncode:
                failed.append(name)
    if results.RESULTS.exists() and "--short" not in passed_on:
        print(f"== all rows of {results.RESULTS.name}\n{results.table(dict(results.read()))}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
