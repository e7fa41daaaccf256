"""How long until an act at a county is in the national figure: `python -m bench.visible`.

Real processes: a county's node, its province's and headquarters', a nats-server of the province linked as a leaf to the
national one, the national hub. Cases are registered at the county over gRPC at an even pace, while the hub is asked for
the nation's figures every few milliseconds. An act counts from when it was sent, before its commit, to the first answer
that has it: a little longer than what is asked.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from bench import results
from demo.federation import Federation, part_of
from demo.officers import Officer
from hub.words import Grouping
from kuaixiang.domain import acts
from kuaixiang.domain.words import Category, Channel, Role
from kuaixiang.facts import national_tree

HEADQUARTERS, PROVINCE, COUNTY = "000000", "110000", "110101"
REGISTRAR = Officer("R01", Role.REGISTRAR, "tax-service")
PACE_PER_SECOND = 200
ASK_SECONDS = 0.02
WARM_UP_SECONDS = 2.0
SECONDS_MAX = 120.0


async def register(federation: Federation, count: int) -> list[float]:
    """So many cases at the pace; when each was sent, in the order of their commits."""
    office = federation.office(COUNTY)
    answered: list[tuple[int, float]] = []

    async def one(nth: int) -> None:
        sent = time.monotonic()
        act = acts.Register(
            taxpayer_name="示例商贸有限公司",
            contact="15400000000",
            text="办税厅排队时间较长，希望增加咨询窗口并公布高峰时段。" * 5,
            category=Category(nth % 6 + 1),
            channel=Channel.COUNTER,
        )
        done = await office.do(REGISTRAR, act, key=f"visible-{begun}-{nth}")
        answered.append((done.seq, sent))

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for nth in range(count):
            group.create_task(one(nth))
            await asyncio.sleep(max(0.0, begun + (nth + 1) / PACE_PER_SECOND - time.monotonic()))
    return [sent for _, sent in sorted(answered)]


async def registered(federation: Federation) -> int:
    """What the nation's figure says."""
    (row,) = (await federation.hub(HEADQUARTERS).figures(Grouping.TOTAL)).rows
    return int(row.facts.get("registered", 0))


async def one_round(federation: Federation, count: int) -> list[float]:
    """How long each of so many acts took to be visible, in milliseconds, sorted."""
    before = await registered(federation)
    seen: list[tuple[float, int]] = []

    async def look() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while not seen or seen[-1][1] < before + count:
                known = await registered(federation)
                seen.append((time.monotonic(), known))
                await asyncio.sleep(ASK_SECONDS)

    looking = asyncio.create_task(look())
    sent = await register(federation, count)
    await looking
    took = []
    at = 0
    for nth, moment in enumerate(sent, start=1):
        while seen[at][1] < before + nth:
            at += 1
        took.append((seen[at][0] - moment) * 1e3)
    return sorted(took)


async def measure(rounds: int, count: int) -> list[list[float]]:
    """All rounds in one federation."""
    tree = part_of(national_tree(), [COUNTY])
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        async with Federation(
            Path(name), tree, placement=[(HEADQUARTERS,), (PROVINCE,), (COUNTY,)], hubs=(HEADQUARTERS,)
        ) as federation:
            await one_round(federation, int(WARM_UP_SECONDS * PACE_PER_SECOND))
            return [await one_round(federation, count) for _ in range(rounds)]


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--seconds", type=float, help="of each round (10)")
    options = results.parse(parser)
    count = int((options.seconds or (1 if options.short else 10)) * PACE_PER_SECOND)
    rounds = asyncio.run(measure(options.rounds, count))
    everything = sorted(took for one in rounds for took in one)
    rows = [
        results.Row(name=f"act to national figure, {what}", value=value, unit="ms", target=target)
        for what, value, target in (
            ("p50", everything[len(everything) // 2], ""),
            ("p99", everything[int(len(everything) * 0.99)], "≤ 1000"),
            ("longest", everything[-1], ""),
        )
    ]
    results.report("visible", rows, options)


if __name__ == "__main__":
    main()
