"""What it costs to compare two ledgers that agree, and two that do not: `python -m bench.reconcile`.

A county's node and its superior's, over mutual TLS on loopback. The county refers cases to its superior, evenly over the
working days of a month; then the county's node compares the two ledgers for that month. Then one hand-over is changed
in the superior's stopped database, as many as there are on one day, and every one; each time they are compared again.
Reported are the serialized bytes of what the two nodes asked and answered, and seconds.
"""

import asyncio
import logging
import sqlite3
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench import results
from demo.federation import part_of, tree_text, with_endpoints
from demo.processes import free_port
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import Category, Channel, Custody, Role, Telling
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime import logs, pki, tls
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc
from kuaixiang.wire.v1 import reconciliation_pb2 as pb
from kuaixiang.wire.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from node import service
from node.settings import NodeSettings

SUPERIOR, COUNTY = "110000", "110101"
FIRST, LAST = date(2026, 3, 1), date(2026, 3, 31)
CALLERS: Final = 64
POLL_SECONDS: Final = 0.2


class Pair:
    """The two nodes and the county's officer."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder = folder
        self.ports = ports
        self.clock = SharedClockDriver(folder / "clock", datetime(2026, 3, 1, 1, tzinfo=UTC))
        authority = folder / "authority"
        pki.init_authority(authority, "bench")
        self.paths = {code: pki.issue(authority, folder / code, "node", [code]) for code in ports}
        self.office = pki.issue(authority, folder / "office", "office", [COUNTY])
        tree = with_endpoints(part_of(national_tree(), ports), ports)
        (folder / "tree.csv").write_text(tree_text(tree), "utf-8")

    def database(self, code: str) -> Path:
        """The SQLite file of a bureau's ledger."""
        return self.folder / f"{code}.db"

    async def start(self, stack: AsyncExitStack, code: str) -> service.Running:
        """One node, for the time of the stack."""
        settings = read_settings(
            NodeSettings,
            bureaus=[code],
            tree=self.folder / "tree.csv",
            database=f"sqlite:///{self.database(code)}",
            nats_url="",
            listen=f"127.0.0.1:{self.ports[code]}",
            metrics_port=0,
            certificates=self.folder / code,
            clock=self.folder / "clock",
        )
        return await stack.enter_async_context(service.running(settings))

    def channel(self) -> Any:
        """To the county's node, as its officer."""
        return tls.open_channel(f"127.0.0.1:{self.ports[COUNTY]}", pki.dns_name("node", COUNTY), self.office)


async def refer(stub: Any, number: int) -> None:
    """A case is registered and referred to the superior."""
    words: dict[str, Any] = {"category": Category.SERVICE, "channel": Channel.COUNTER}
    who: dict[str, Any] = {"bureau": COUNTY, "actor": "bench-1", "role": Role.REGISTRAR, "department": "hall"}
    done = await stub.RegisterCase(
        case_pb2.RegisterCaseRequest(
            header=case_pb2.ActHeader(**who),
            taxpayer_name="示例商贸有限公司",
            contact="15400000000",
            text=f"办税厅排队时间较长，希望增加咨询窗口并公布高峰时段。第{number}件",
            **words,
        )
    )
    telling: Any = Telling.TRANSFERRED
    await stub.ReferCase(
        case_pb2.ReferCaseRequest(
            header=case_pb2.ActHeader(**{**who, "case_id": done.case.case_id}),
            final_bureau=SUPERIOR,
            reason="超出本级职责",
            telling=telling,
            told="已转上级",
        )
    )


async def fill(pair: Pair, county: service.Running, cases: int) -> None:
    """A month of hand-overs, all of them accepted."""
    calendar = published_calendar()
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
    worked = [day for day in days if calendar.is_working(day)]
    async with pair.channel() as channel:
        stub = case_pb2_grpc.CaseServiceStub(channel)
        for number, day in enumerate(worked):
            pair.clock.advance_to(datetime(day.year, day.month, day.day, 9, tzinfo=SHANGHAI))
            todo = list(range(cases * number // len(worked), cases * (number + 1) // len(worked)))
            for at in range(0, len(todo), CALLERS):
                await asyncio.gather(*(refer(stub, one) for one in todo[at : at + CALLERS]))
    database = county.office.ledger.database
    while True:
        with database.reading() as connection:
            waiting = connection.exec_driver_sql(
                f"SELECT count(*) FROM cases WHERE custody <> {int(Custody.RELEASED)}"
            ).scalar_one()
        if not waiting:
            return
        await asyncio.sleep(POLL_SECONDS)


async def compare(pair: Pair, superior_changed: str) -> dict[str, float]:
    """One comparison by the county's node, both nodes fresh; `superior_changed` is SQL for the superior's database."""
    if superior_changed:
        with sqlite3.connect(pair.database(SUPERIOR)) as connection:
            connection.execute(superior_changed)
        connection.close()
    async with AsyncExitStack() as stack:
        await pair.start(stack, SUPERIOR)
        await pair.start(stack, COUNTY)
        async with pair.channel() as channel:
            begun = time.perf_counter()
            answer = await ReconciliationServiceStub(channel).ReconcileLedgers(
                pb.ReconcileLedgersRequest(
                    bureau=COUNTY, peer=SUPERIOR, from_day=FIRST.isoformat(), to_day=LAST.isoformat()
                )
            )
            seconds = time.perf_counter() - begun
    (report,) = answer.reports
    return {
        "matched": report.matched,
        "pending": report.pending,
        "different": report.different,
        "bytes_exchanged": report.bytes_exchanged,
        "seconds": seconds,
    }


async def run(cases: int) -> dict[str, dict[str, float]]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="kuaixiang-bench-") as directory:
        pair = Pair(Path(directory), {SUPERIOR: free_port(), COUNTY: free_port()})
        async with AsyncExitStack() as stack:
            await pair.start(stack, SUPERIOR)
            await fill(pair, await pair.start(stack, COUNTY), cases)
        one = "UPDATE referrals SET epoch = epoch + 7 WHERE referral_id = (SELECT min(referral_id) FROM referrals)"
        day = "UPDATE referrals SET epoch = 9 WHERE date(offered_at_us / 1000000, 'unixepoch') = '2026-03-02'"
        return {
            "equal": await compare(pair, ""),
            "one differs": await compare(pair, one),
            "a day differs": await compare(pair, day),
            "all differ": await compare(pair, "UPDATE referrals SET epoch = 11"),
        }


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help="hand-overs of the month (2200)")
    arguments = results.parse(parser)
    cases = arguments.cases or (110 if arguments.short else 2_200)
    logs.configure("bench")
    logging.disable(logging.ERROR)  # a difference is one, and here they are made on purpose
    rounds = [asyncio.run(run(cases)) for _ in range(arguments.rounds)]
    rows = []
    for what in rounds[0]:
        found = [one[what] for one in rounds]
        rows += [
            results.Row.of(f"{what}: exchanged", [one["bytes_exchanged"] for one in found], "bytes"),
            results.Row.of(f"{what}: both sides", [one["seconds"] for one in found], "s"),
        ]
    results.report("reconcile", rows, arguments)


if __name__ == "__main__":
    main()
