"""Hubs of two provinces and one of the nation over the same ledgers, all of them real processes: they say the same."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from demo.federation import Federation, part_of
from demo.officers import Officer
from hub.words import Grouping
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import Category, Channel, Role, Telling
from kuaixiang.facts import national_tree
from kuaixiang.wire.v1 import statistics_pb2 as pb

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS = "000000"
PROVINCES = {"110000": ("110101",), "330000": ("330100", "330102")}
REGISTRAR = Officer("R01", Role.REGISTRAR, "tax-service")
SECONDS_MAX = 120.0
TOLD: dict[str, Any] = {"telling": Telling.COMPLICATED, "told": "情况复杂，将按规定办理。"}


def registration(nth: int) -> acts.Register:
    return acts.Register(
        taxpayer_name="澄筠野百货商行",
        contact="15400001234",
        text=f"第{nth}件：季度销售额没有超过三十万元，两张专票要不要单独缴税？",
        category=Category(nth % 6 + 1),
        channel=Channel(nth % 3 + 1),
        channel_reference=f"hubs-{nth}",
    )


async def lived(federation: Federation) -> None:
    """Cases of both provinces: answered on the spot, forwarded, and referred to headquarters and to the other one."""
    for nth, (bureau, other) in enumerate((("110101", "330102"), ("330102", "110101"), ("330100", "110000"))):
        office = federation.office(bureau)
        for number in range(5):
            registered = await office.do(REGISTRAR, registration(10 * nth + number), key=f"r-{bureau}-{number}")
            act = (
                acts.AnswerOnTheSpot(answer="已当场答复，请按公告办理。"),
                acts.Forward(**TOLD),
                acts.Refer(final_bureau=HEADQUARTERS, reason="涉及政策口径", **TOLD),
                acts.Refer(final_bureau=other, reason="属于该地管辖", **TOLD),
            )[number % 4]
            await office.do(REGISTRAR, act, registered.case.case_id, key=f"a-{bureau}-{number}")


async def settled(federation: Federation) -> None:
    """Until no journal grows any more and every hub has folded each to its end."""
    before: dict[str, int] = {}
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            ends = {bureau: (await federation.office(bureau).head()).seq for bureau in federation.bureaus}
            folded = True
            for scope in (HEADQUARTERS, *PROVINCES):
                marks = (await federation.hub(scope).completeness()).marks
                folded = folded and all(mark.seq == ends[mark.bureau] for mark in marks)
            if folded and ends == before:
                return
            before = ends
            await asyncio.sleep(1.0)


def added(rows: Iterable[pb.Figures]) -> Counter[str]:
    """Everything in rows that is a sum."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums.update({"open": row.open, "overdue": row.overdue, **row.facts})
        sums.update({f"count {name}": value for name, value in row.counts.items()})
        for rate in row.rates:
            sums.update({f"{rate.name} +": rate.numerator, f"{rate.name} of": rate.denominator})
        for clock in row.clocks:
            sums.update({f"{clock.kind} met": clock.met, f"{clock.kind} missed": clock.missed})
            sums.update({f"{clock.kind} in {nth}": count for nth, count in enumerate(clock.histogram)})
    return +sums


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_nation_s_figures_are_the_provincial_hubs_figures_and_headquarters_own_added_up(
    tmp_path: Path,
) -> None:
    tree = part_of(national_tree(), [bureau for below in PROVINCES.values() for bureau in below])
    placement = [(HEADQUARTERS,), *((province, *below) for province, below in PROVINCES.items())]
    async with Federation(
        tmp_path, tree, placement=placement, clock_start=MONDAY, hubs=(HEADQUARTERS, *PROVINCES)
    ) as federation:
        await lived(federation)
        await settled(federation)
        nation = federation.hub(HEADQUARTERS)
        for province in PROVINCES:
            mine = federation.hub(province)
            for grouping in Grouping:
                here, there = await mine.figures(grouping), await nation.figures(grouping, scope=province)
                assert list(here.rows) == list(there.rows), (province, grouping.name)
        (total,) = (await nation.figures()).rows
        own = next(row for row in (await nation.figures(Grouping.BUREAU)).rows if row.key == HEADQUARTERS)
        provinces = [(await federation.hub(province).figures()).rows[0] for province in PROVINCES]
        assert added([total]) == added([own, *provinces])
        assert total.facts["registered"] == 15
        assert own.facts["received"] == 6  # three for headquarters itself, three on their way to the other province
        crossed = (await nation.figures(Grouping.BUREAU_AND_CATEGORY)).rows
        for row in (await nation.figures(Grouping.CATEGORY)).rows:
            parts = [part for part in crossed if part.key.endswith(f"/{row.key}")]
            assert dict(row.facts) == dict(sum((Counter(part.facts) for part in parts), Counter()))
