"""Handing cases over from a county to its superior, both durable: `python -m bench.referral`.

Two nodes (SQLite, synchronous=FULL) speak mutual TLS on loopback. An officer of the county refers cases; the time of one is from
the answer to `ReferCase`, when the offer is durable, to the entry that records the superior's signed receipt, as a watcher
of the county's ledger sees it. Measured are one case at a time against two registrations, and 64 outstanding against the rate
at which the same node registers.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench import nodes, results
from demo.federation import part_of, tree_text, with_endpoints
from demo.processes import free_port
from kuaixiang.domain.words import Telling
from kuaixiang.facts import national_tree
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc

SUPERIOR: Final = "110000"
OUTSTANDING: Final = 64
WAIT_SECONDS: Final = 60.0


class County:
    """The county's officer, who watches the ledger for receipts."""

    def __init__(self, channel: Any) -> None:
        self.stub = case_pb2_grpc.CaseServiceStub(channel)
        self._released: dict[str, asyncio.Future[float]] = {}

    async def watch(self) -> None:
        """Notes when each receipt is on record, until cancelled."""
        async for seen in self.stub.WatchCases(case_pb2.WatchCasesRequest(bureau=nodes.BUREAU)):
            if seen.event == "released":
                self._receipt(seen.case_id).set_result(time.perf_counter())

    def _receipt(self, case_id: str) -> asyncio.Future[float]:
        return self._released.setdefault(case_id, asyncio.get_running_loop().create_future())

    async def register(self) -> str:
        """A case's number."""
        done = await self.stub.RegisterCase(nodes.request())
        return str(done.case.case_id)

    async def hand_over(self, case_id: str) -> float:
        """Milliseconds from the durable offer to the durable receipt."""
        header = nodes.request().header
        header.case_id = case_id
        telling: Any = Telling.TRANSFERRED
        words = {"reason": "超出本级职责", "telling": telling, "told": "已转上级"}
        await self.stub.ReferCase(case_pb2.ReferCaseRequest(header=header, final_bureau=SUPERIOR, **words))
        offered = time.perf_counter()
        async with asyncio.timeout(WAIT_SECONDS):
            return (await self._receipt(case_id) - offered) * 1e3


async def measure(folder: Path, port: int, cases: int, rounds: int) -> dict[str, list[float]]:
    """Medians in milliseconds and rates of each round, after one that is not counted."""
    found: dict[str, list[float]] = {"register ms": [], "hand-over ms": [], "register": [], "hand-over": []}
    async with nodes.channel_to(folder, port) as channel:
        county = County(channel)
        watching = asyncio.ensure_future(county.watch())
        await asyncio.sleep(0)
        for turn in range(rounds + 1):
            single = max(10, cases // 16)
            alone = await nodes.latencies(county.register, single, 1)
            took = [await county.hand_over(await county.register()) for _ in range(single)]
            registered = await nodes.rate(county.register, cases)
            ready = iter([await county.register() for _ in range(cases)])
            handed = await nodes.rate(lambda ready=ready: county.hand_over(next(ready)), cases, OUTSTANDING)  # type: ignore[misc]
            if turn:
                figures = (statistics.median(alone), statistics.median(took), registered, handed)
                for name, figure in zip(found, figures, strict=True):
                    found[name].append(figure)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return found


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help="hand-overs of each round (1280)")
    arguments = results.parse(parser)
    cases = arguments.cases or (128 if arguments.short else 1_280)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = {nodes.BUREAU: free_port(), SUPERIOR: free_port()}
        nodes.issue(folder, tuple(ports))
        tree = folder / "tree.csv"
        tree.write_text(tree_text(with_endpoints(part_of(national_tree(), ports), ports)), "utf-8")
        listens: dict[str, dict[str, Any]] = {
            code: {"listen": f"127.0.0.1:{port}", "tree": tree} for code, port in ports.items()
        }
        with (
            nodes.running(folder, SUPERIOR, **listens[SUPERIOR]),
            nodes.running(folder, **listens[nodes.BUREAU]) as port,
        ):
            found = asyncio.run(measure(folder, port, cases, arguments.rounds))
    two = [2 * one for one in found["register ms"]]
    rows = [
        results.Row.of("register, one caller, p50", found["register ms"], "ms"),
        results.Row.of("offered to receipt, p50", found["hand-over ms"], "ms", "two registrations", two, "≤ 3"),
        results.Row.of("register, 64 callers", found["register"], "1/s"),
        results.Row.of("hand over, 64 outstanding", found["hand-over"], "1/s", "register", found["register"], "≥ 0.25"),
    ]
    results.report("referral", rows, arguments)


if __name__ == "__main__":
    main()
