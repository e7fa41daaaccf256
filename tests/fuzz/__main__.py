"""Coverage-guided fuzzing by atheris, for as long as one likes: ``python -m tests.fuzz [--minutes 5] [--target node]``.

Each target is a process of its own, one after the other. A finding is written to `--findings`; put it into
`tests/fuzz/corpus/<target>` with its mending, where every run of the tests repeats it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TARGETS = ("node", "folder")
CORPUS = Path(__file__).parent / "corpus"
LENGTH_MAX = 4_096


def fuzz(target: str, findings: Path, seconds: int) -> None:
    """Be the fuzzer; does not come back."""
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 - it is not there on every platform

    with atheris.instrument_imports(include=["node", "kuaixiang", "hub"]):
        from kuaixiang.runtime import logs  # noqa: PLC0415
        from tests.fuzz.folder import Folding  # noqa: PLC0415
        from tests.fuzz.services import Runner, node_target  # noqa: PLC0415
    logs.configure("fuzz", "error")
    folder = Path(tempfile.mkdtemp(prefix="kuaixiang-fuzz-"))
    running = Runner(node_target, folder) if target == "node" else Folding(folder)
    running.__enter__()
    with tempfile.TemporaryDirectory() as found:
        command = [
            sys.argv[0],
            found,
            str(CORPUS / target),
            f"-artifact_prefix={findings}/{target}-",
            f"-max_total_time={seconds}",
            f"-max_len={LENGTH_MAX}",
            "-print_final_stats=1",
        ]
        atheris.Setup(command, running.call)
        atheris.Fuzz()


def main(arguments: Sequence[str]) -> int:
    """Fuzz each target for its share of the time; status 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--here", action="store_true", help="in this very process")
    asked = parser.parse_args(arguments)
    asked.findings.mkdir(parents=True, exist_ok=True)
    targets = [asked.target] if asked.target else list(TARGETS)
    seconds = max(1, int(asked.minutes * 60 / len(targets)))
    if asked.here:
        fuzz(targets[0], asked.findings, seconds)
    status = 0
    for target in targets:
        print(f"== {target}, {seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--here", "--target", target]
        done = subprocess.run(
            [*command, "--minutes", str(seconds / 60), "--findings", str(asked.findings)],
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            check=False,
        )
        status = status or done.returncode
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
