"""What the benchmarks report: rows with a value, what it is held against, and the ratio of both from the same run.

A program is a module of this package, with `--short` for its smallest size. It measures in rounds and hands its rows to
`report`, which prints them as a table and replaces the program's rows in `bench/results.json`, with the machine that
they are from. Short runs are printed only.
"""

import argparse
import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

ROUNDS: Final = 5
"""Rounds of which the median counts: two that something else has disturbed do not decide."""
RESULTS: Final = Path(__file__).with_name("results.json")
LOAD_BEFORE: Final = os.getloadavg()[0]
"""Processes that wanted a core in the minute before this program began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. With `ratio`, `target` is about the ratio, else about the value: "≥ 0.75", "≤ 10", or empty."""

    name: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    target: str = ""

    @classmethod
    def of(  # noqa: PLR0917 - a row reads in this order
        cls,
        name: str,
        rounds: Sequence[float],
        unit: str,
        against: str = "",
        base: Sequence[float] = (),
        target: str = "",
    ) -> Self:
        """The median of the rounds, and of the ratios to the base's measured in the same rounds, as long as there are.

        There are none to a base that was too little work for the processor's clock, which counts ticks.
        """
        ratio = statistics.median(a / b for a, b in zip(rounds, base, strict=True)) if base and all(base) else None
        return cls(name=name, value=statistics.median(rounds), unit=unit, against=against, ratio=ratio, target=target)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if not self.target:
            return None
        bound = float(self.target[1:])
        figure = self.value if self.ratio is None else self.ratio
        return figure >= bound if self.target[0] == "≥" else figure <= bound


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The arguments that every program has; `doc` is the program's docstring."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--short", action="store_true", help="the smallest size: to see that it works, not what it gives")
    made.add_argument("--rounds", type=int, help=f"rounds of which the median counts ({ROUNDS}; 1 with --short)")
    made.add_argument("--results", type=Path, help=f"where the rows go ({RESULTS.name}; nowhere with --short)")
    return made


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, with what `--short` means for them."""
    parsed = parser.parse_args(arguments)
    parsed.rounds = parsed.rounds or (1 if parsed.short else ROUNDS)
    parsed.results = parsed.results or (None if parsed.short else RESULTS)
    return parsed


def machine() -> dict[str, Any]:
    """What the figures are from."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_before": round(LOAD_BEFORE, 2),
    }


def report(program: str, rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """Prints the rows, and keeps them in place of those that the program had before."""
    print(table({program: rows}), flush=True)
    if arguments.results is None:
        return
    kept: dict[str, Any] = json.loads(arguments.results.read_text("utf-8")) if arguments.results.exists() else {}
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    kept[program] = {"measured_at": measured_at, "machine": machine(), "rows": [asdict(row) for row in rows]}
    arguments.results.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def read(path: Path = RESULTS) -> dict[str, list[Row]]:
    """The rows that are kept, by program."""
    kept = json.loads(path.read_text("utf-8"))
    return {program: [Row(**row) for row in entry["rows"]] for program, entry in kept.items()}


def table(rows: dict[str, Sequence[Row]]) -> str:
    """The rows of programs as text."""
    lines = [("program", "what", "value", "unit", "against", "ratio", "target", "")]
    for program, some in rows.items():
        lines += [
            (
                program,
                row.name,
                f"{row.value:,.{0 if abs(row.value) >= 100 else 3}f}",
                row.unit,
                row.against,
                "" if row.ratio is None else f"{row.ratio:.3g}",
                row.target,
                {None: "", True: "reached", False: "missed"}[row.reached],
            )
            for row in some
        ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = {2, 5}
    return "\n".join(
        "  ".join(
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
