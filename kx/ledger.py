"""`kx case export`: the ledger 台账 as a table for people, in XLSX or CSV.

The node tells the lines one by one and they are written as they come, as `node.channels.ledger_table` says. The file
appears under its name when it is whole, and its owner alone can read it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio

from kuaixiang.domain.labels import Both
from kuaixiang.wire.v1 import case_pb2
from kx.client import Patience, channel_to, method_of, run
from kx.options import Asking, Who
from kx.output import Bar, Failed
from node.channels.ledger_table import SINKS, Period, SheetFull, Writing, export_request

STREAM_SECONDS_MAX: Final = 1800.0
"""One export; a million cases take a fraction of it."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    cases: int
    masked: bool


def export(asking: Asking, who: Who, period: Period, out: Path, *, open_only: bool) -> Exported:
    """Writes the ledger to a file. Raises `Failed`."""
    sink_of = SINKS.get(out.suffix.lower())
    if sink_of is None:
        raise Failed(
            Both(f"{out} is neither XLSX nor CSV.", f"{out} 既不是 XLSX 也不是 CSV。"),
            field="--out",
            rule="NoSuchFormat",
            remedy=Both(f"End its name with {' or '.join(SINKS)}.", f"文件名请以 {' 或 '.join(SINKS)} 结尾。"),
        )
    request = export_request(
        bureau=asking.bureau,
        actor=who.actor,
        role=int(who.role),
        department=who.department,
        period=period,
        open_only=open_only,
    )

    def write(folder: Path) -> Writing:
        return Writing(folder / out.name, sink_of, bureau=asking.bureau, bureau_name=asking.bureau_name, period=period)

    try:
        with tempfile.TemporaryDirectory(prefix=".kx-export-", dir=out.parent) as folder:
            exported = run(_export(asking, request, lambda: write(Path(folder))))
            made = Path(folder) / out.name
            made.chmod(0o600)
            made.replace(out)
    except SheetFull as full:
        remedy = Both(
            "Export a part by --from and --to, or write CSV.", "请用 --from 和 --to 分段导出，或者导出为 CSV。"
        )
        raise Failed(Both(str(full), full.chinese), field="--out", rule="TooLarge", remedy=remedy) from None
    except OSError as error:
        said = Both(f"{out} cannot be written: {error.strerror}.", f"{out} 无法写入（{error.strerror}）。")
        raise Failed(said, field="--out", rule="Unwritable") from None
    return exported


async def _export(asking: Asking, request: case_pb2.ExportLedgerRequest, attempt: Callable[[], Writing]) -> Exported:
    """Asks until the ledger has come whole; one that breaks off is begun anew."""
    async with channel_to(asking) as channel:
        call = method_of(channel, "CaseService", "ExportLedger")
        patience = Patience(asking, Both("Export again.", "请重新导出。"))
        with Bar("Exporting", None) as bar:
            while True:
                writing = attempt()
                try:
                    answers = aiter(call(request, timeout=STREAM_SECONDS_MAX))
                    first = await anext(answers)
                    with writing.begin(first) as sink:
                        async for answer in answers:
                            for row in answer.rows:
                                sink.write(writing.line(row))
                            bar.reached(writing.cases)
                    return Exported(writing.cases, first.contacts_masked)
                except grpc.aio.AioRpcError as error:
                    await patience.after(error)
