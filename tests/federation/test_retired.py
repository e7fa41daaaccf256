"""The ledger of a retired bureau, whose node is gone, is read from its witness, by whoever could read it before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from hub.ledgers import Ledgers, LedgerUnreachable
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.in_force import InForce
from kuaixiang.wire.v1.journal_pb2 import Segment
from tests.federation.nodes import COUNTY, FAR_PROVINCE, HEADQUARTERS, PREFECTURE, PROVINCE, Nodes, nodes
from tests.federation.test_cosigning import QUICK, cosigned

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Nodes]:
    """A county with some cases, and its prefecture, which has cosigned its ledger a piece at a time."""
    async with nodes(tmp_path) as made:
        made.settings |= QUICK | {"cosigned_start_seconds": 0}
        await made.start(PREFECTURE, COUNTY)
        for _ in range(3):
            await made.accept(COUNTY)
            await cosigned(made)
        yield made


def without(made: Nodes, **changed: str) -> BureauTree:
    """The tree with the county's row changed."""
    county = replace(made.tree.get(COUNTY), **changed)  # type: ignore[arg-type]
    return BureauTree("2027-1", (county if one.code == COUNTY else one for one in made.tree.bureaus.values()))


@asynccontextmanager
async def hub_of(made: Nodes, tree: BureauTree, scope: str = HEADQUARTERS) -> AsyncIterator[Ledgers]:
    """What a hub asks ledgers with, once the nodes that run go by that tree."""
    for running in made.up.values():
        running.office.place.trees.adopt(tree)
    ledgers = Ledgers(InForce(tree), made.certificate("hub", scope))
    try:
        yield ledgers
    finally:
        await ledgers.close()


async def read(ledgers: Ledgers, from_seq: int = 1, to_seq: int = 0) -> list[tuple[int, bytes]]:
    """Positions and public parts of the county's entries."""
    found: list[Segment] = [one async for one in ledgers.read(COUNTY, from_seq, to_seq)]
    return [(one.first_seq + at, entry.public) for one in found for at, entry in enumerate(one.entries)]


async def test_a_hub_reads_the_same_from_the_witness_as_it_did_from_the_node(pair: Nodes) -> None:
    async with hub_of(pair, pair.tree) as ledgers:
        before, head = await read(ledgers), await ledgers.head(COUNTY)
    assert head.seq == len(before)
    await pair.stop(COUNTY)
    async with hub_of(pair, without(pair, successor=PREFECTURE, endpoint="")) as ledgers:
        assert ledgers.has(COUNTY)
        ended = await ledgers.head(COUNTY)
        assert (head.generation, head.seq, head.hash) == (ended.generation, ended.seq, ended.hash)
        assert before == await read(ledgers)
        assert before[1:4] == await read(ledgers, 2, 4)
        assert before[-1:] == await read(ledgers, head.seq)


@pytest.mark.parametrize("changed", [{"endpoint": ""}, {"successor": PREFECTURE}])
async def test_of_a_bureau_that_is_there_or_is_still_ending_no_witness_answers(
    pair: Nodes, changed: dict[str, str]
) -> None:
    await pair.stop(COUNTY)
    async with hub_of(pair, without(pair, **changed)) as ledgers:
        with pytest.raises(LedgerUnreachable):
            await ledgers.head(COUNTY)


async def test_a_hub_of_another_province_reads_it_no_more_than_before(pair: Nodes) -> None:
    async with hub_of(pair, without(pair, successor=PREFECTURE, endpoint=""), FAR_PROVINCE) as ledgers:
        with pytest.raises(LedgerUnreachable, match="PERMISSION_DENIED"):
            await ledgers.head(COUNTY)
        with pytest.raises(LedgerUnreachable, match="PERMISSION_DENIED"):
            await read(ledgers)


async def test_a_superior_that_has_cosigned_nothing_of_it_says_so(pair: Nodes) -> None:
    await pair.start(PROVINCE)
    tree = without(pair, successor=PREFECTURE, endpoint="", parent=PROVINCE)
    async with hub_of(pair, tree) as ledgers:
        with pytest.raises(LedgerUnreachable, match=r"INVALID_ARGUMENT|NOT_FOUND"):
            await ledgers.head(COUNTY)
