"""Exporting a ledger and proving it: `python -m bench.verify`.

Fills an SQLite ledger with registrations of ordinary size, exports it with and without its private parts, and verifies
each file; every step in a process of its own. Reported are entries per second and the memory that each step has taken.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import results
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.words import Category, Channel, Role
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime import pki
from kuaixiang.runtime.audit import verify_export
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.wire.v1.referral_pb2 import Signature
from node.export import export_ledger
from node.ledger.ledger import Ledger
from node.office import Header, Office, Place

BUREAU = "110101"
AT_ONCE = 512
REGISTER = acts.Register(
    taxpayer_name="示例商贸有限公司",
    contact="15400000000",
    text="办税厅排队时间较长，希望增加咨询窗口并公布高峰时段。" * 5,
    category=Category.SERVICE,
    channel=Channel.COUNTER,
)


def fill(folder: Path, entries: int) -> int:
    """Registers cases until the ledger has so many entries."""

    async def register(office: Office) -> None:
        header = Header(bureau=BUREAU, case_id="", actor="r-1", role=Role.REGISTRAR, department="hall")
        for _ in range(0, entries, AT_ONCE):
            await asyncio.gather(*(office.perform(header, REGISTER) for _ in range(AT_ONCE)))

    ledger = Ledger(f"sqlite:///{folder}/node.db", [BUREAU])
    ledger.start()
    clock = FixedClock(datetime(2026, 11, 25, 10, 0, tzinfo=SHANGHAI))
    place = Place(national_tree(), published_calendar(), Rules(), clock)
    asyncio.run(register(Office(ledger, place, lambda _: Signature())))
    ledger.close()
    return ledger.heads[BUREAU].seq


def export(folder: Path, private: int) -> int:
    """Exports the ledger."""
    ledger = Ledger(f"sqlite:///{folder}/node.db", [BUREAU])
    paths = pki.CertificatePaths.in_folder(folder / "node")
    with (folder / f"export-{private}").open("wb") as file:
        export_ledger(ledger.database, ledger.heads[BUREAU], file, paths, private=bool(private))
    ledger.close()
    return ledger.heads[BUREAU].seq


def verify(folder: Path, private: int) -> int:
    """Verifies an export."""
    with (folder / f"export-{private}").open("rb") as file:
        return verify_export(file, (folder / "node" / "ca.crt").read_bytes()).entries


def _apart(step: Callable[[Path, int], int], folder: Path, number: int, answer: Any) -> None:
    begun = time.perf_counter()
    entries = step(folder, number)
    rate = entries / (time.perf_counter() - begun)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    answer.send((rate, int(status["VmHWM"].split()[0]) / 1024))


def measured(step: Callable[[Path, int], int], folder: Path, number: int) -> tuple[float, float]:
    """Entries per second, and the most memory in MiB, of a step in a process of its own."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_apart, args=(step, folder, number, theirs))
    process.start()
    rate, memory = ours.recv()
    process.join()
    return rate, memory


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--entries", type=int, nargs="+", help="sizes of the ledger (10000 100000)")
    arguments = results.parse(parser)
    rows = []
    for entries in arguments.entries or ([2_048] if arguments.short else [10_000, 100_000]):
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                pki.init_authority(folder / "authority", "bench")
                pki.issue(folder / "authority", folder / "node", "node", [BUREAU])
                steps: dict[str, tuple[Callable[[Path, int], int], int]] = {"fill": (fill, entries)}
                for private, words in enumerate(("public parts", "private parts too")):
                    steps |= {f"export, {words}": (export, private), f"verify, {words}": (verify, private)}
                for what, (step, number) in steps.items():
                    found.setdefault(what, []).append(measured(step, folder, number))
        for what, rounds in found.items():
            rows += [
                results.Row.of(f"{entries} entries: {what}", [rate for rate, _ in rounds], "entries/s"),
                results.Row.of(f"{entries} entries: {what}, memory", [memory for _, memory in rounds], "MiB"),
            ]
    results.report("verify", rows, arguments)


if __name__ == "__main__":
    main()
