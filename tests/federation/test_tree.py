"""The tree of bureaus is headquarters' word: every node adopts it as it runs, and nobody else can make or turn it back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from demo.federation import tree_text
from kuaixiang.domain.events import OfferRefused, Received, TreeAdopted
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Custody, Refusal
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.v1 import common_pb2, directive_pb2
from node.directives import Directives
from node.federation import directives as federation_directives
from tests.federation.bureaus import free_ports, until
from tests.federation.nodes import COUNTY, FAR_PROVINCE, HEADQUARTERS, PREFECTURE, PROVINCE, Nodes, nodes
from tests.node.callers import refusal_of


@pytest_asyncio.fixture
async def tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    """Nodes without NATS, none of them up; they look for directives often."""
    monkeypatch.setattr(federation_directives, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(federation_directives, "LOOK_AGAIN_SECONDS", 0.1)
    async with nodes(tmp_path) as made:
        yield made


def changed(tiers: Nodes, version: str, /, **of: dict[str, Any]) -> BureauTree:
    """The tree of the files with changes, by code after an underscore."""
    return BureauTree(version, (replace(one, **of.get(f"_{one.code}", {})) for one in tiers.tree.bureaus.values()))


async def published(tiers: Nodes, tree: BureauTree) -> directive_pb2.SignedDirective:
    """The directive by which headquarters has published a tree."""
    await tiers.publish_tree(tree)
    async with tiers.directives(HEADQUARTERS, "node", COUNTY) as stub:
        answer = await stub.ReadDirectives(
            directive_pb2.ReadDirectivesRequest(bureau=HEADQUARTERS, kinds=[common_pb2.DIRECTIVE_KIND_TREE])
        )
    (signed,) = answer.directives
    return signed


def directives_of(tiers: Nodes, bureau: str) -> Directives:
    """What takes directives at a node, handed to it by the test."""
    return Directives(tiers.up[bureau].office, Seal(tiers.certificate("node", bureau)))


def by_hand(tree: BureauTree) -> bytes:
    return directive_pb2.Directive(
        kind=common_pb2.DIRECTIVE_KIND_TREE, published_at_us=1, tree_version=tree.version, tree=tree_text(tree)
    ).SerializeToString()


async def test_every_node_adopts_a_published_tree_as_it_runs_and_records_it(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE, COUNTY)
    tree = changed(tiers, "2026-10", _330106={"name": "国家税务总局杭州市西湖区税务局"})
    await tiers.publish_tree(tree)
    for bureau in (HEADQUARTERS, PROVINCE, COUNTY):
        await until(lambda bureau=bureau: tiers.tree_version(bureau) == "2026-10")  # type: ignore[misc]
        (entry,) = tiers.events(bureau, TreeAdopted)
        assert TreeAdopted(tree_version="2026-10", digest=sha256(tree_text(tree).encode()).digest()) == entry.event


async def test_a_node_goes_on_with_the_published_tree_after_a_restart_without_asking_anybody(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE)
    await tiers.publish_tree(changed(tiers, "2026-10"))
    await until(lambda: tiers.tree_version(PROVINCE) == "2026-10")
    await tiers.stop(PROVINCE, HEADQUARTERS)
    await tiers.start(PROVINCE)
    assert "2026-10" == tiers.tree_version(PROVINCE)
    assert 1 == len(tiers.events(PROVINCE, TreeAdopted))


async def test_a_case_reaches_a_bureau_whose_node_has_moved_without_a_restart_of_its_neighbour(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE, PREFECTURE)
    first = await tiers.register(PROVINCE)
    await tiers.refer(PROVINCE, first, PREFECTURE)
    await until(lambda: tiers.case(PREFECTURE, first))
    await tiers.stop(PREFECTURE)
    (port,) = free_ports(1)
    tree = changed(tiers, "2026-10", _330100={"endpoint": f"127.0.0.1:{port}"})
    second = await tiers.register(PROVINCE)
    await tiers.refer(PROVINCE, second, PREFECTURE)
    await tiers.publish_tree(tree)
    tiers.tree = tree
    await tiers.start(PREFECTURE)
    await until(lambda: tiers.case(PREFECTURE, second))


async def test_what_is_under_way_to_a_superior_that_was_replaced_comes_to_an_end_and_finds_the_new_way(
    tiers: Nodes,
) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE, COUNTY)
    case_id = await tiers.register(COUNTY)
    # The prefecture's node is down: the case is offered and nobody decides.
    await tiers.refer(COUNTY, case_id, PROVINCE)
    tree = changed(tiers, "2026-10", _330106={"parent": PROVINCE, "formerly": (PREFECTURE,)})
    await tiers.publish_tree(tree)
    await until(lambda: tiers.tree_version(COUNTY) == "2026-10")
    await tiers.start(PREFECTURE)
    await until(lambda: tiers.tree_version(PREFECTURE) == "2026-10")
    await until(lambda: tiers.events(COUNTY, OfferRefused))
    (entry,) = tiers.events(COUNTY, OfferRefused)
    assert (Refusal.NOT_ADJACENT, Custody.OWNED) == (entry.event.refusal, entry.event.custody)  # type: ignore[attr-defined]
    await tiers.refer(COUNTY, case_id, PROVINCE)
    await until(lambda: tiers.events(PROVINCE, Received))


async def test_a_tree_signed_by_a_province_is_not_taken(tiers: Nodes) -> None:
    await tiers.start(COUNTY)
    forged = by_hand(changed(tiers, "2026-10"))
    signature = Seal(tiers.certificate("node", PROVINCE)).sign(forged)
    assert 0 == await directives_of(tiers, COUNTY).take(
        [directive_pb2.SignedDirective(directive=forged, signature=signature)]
    )
    assert "test" == tiers.tree_version(COUNTY)


async def test_an_older_tree_replayed_changes_nothing(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    older = await published(tiers, changed(tiers, "2026-10"))
    newer = await published(tiers, changed(tiers, "2026-11"))
    await tiers.stop(HEADQUARTERS)
    await tiers.start(COUNTY)
    directives = directives_of(tiers, COUNTY)
    assert [1, 0] == [await directives.take([one]) for one in (newer, older)]
    assert "2026-11" == tiers.tree_version(COUNTY)
    await tiers.stop(COUNTY)
    await tiers.start(COUNTY)
    # Whoever forgot what it had is still not taken back behind what is in force.
    directives = directives_of(tiers, COUNTY)
    directives._latest.clear()
    await directives.take([older])
    assert "2026-11" == tiers.tree_version(COUNTY)


async def test_a_tree_without_a_bureau_of_the_node_is_not_put_in_force_there(tiers: Nodes) -> None:
    await tiers.start(COUNTY)
    without = BureauTree("2026-10", (one for one in tiers.tree.bureaus.values() if one.code != COUNTY))
    payload = by_hand(without)
    signature = Seal(tiers.certificate("node", HEADQUARTERS)).sign(payload)
    assert 1 == await directives_of(tiers, COUNTY).take(
        [directive_pb2.SignedDirective(directive=payload, signature=signature)]
    )
    assert ("test", []) == (tiers.tree_version(COUNTY), tiers.events(COUNTY, TreeAdopted))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"version": "next"}, "TreeUnnumbered"),
        ({"_330106": {"parent": PROVINCE}}, "TreeForgetsSuperiors"),
        ({"_330106": {"parent": FAR_PROVINCE, "formerly": (PREFECTURE,)}}, "TreeMovesSites"),
        ({"_000000": {"fingerprints": ("ab" * 32,)}}, "TreeLocksOut"),
    ],
    ids=["unnumbered", "forgotten superior", "another province", "locked out"],
)
async def test_a_tree_that_does_not_follow_is_refused_and_changes_nothing(
    tiers: Nodes, change: dict[str, Any], rule: str
) -> None:
    await tiers.start(HEADQUARTERS)
    version = change.pop("version", "2026-10")
    assert rule == (await refusal_of(tiers.publish_tree(changed(tiers, version, **change)))).rule
    assert ("test", []) == (tiers.tree_version(HEADQUARTERS), tiers.entries(HEADQUARTERS))


async def test_a_tree_with_a_county_that_is_its_own_superior_is_refused_with_its_line(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    text = tree_text(changed(tiers, "2026-10")).replace(f"county,{PREFECTURE}", f"county,{COUNTY}")
    request = directive_pb2.PublishTreeRequest(tree=text)
    request.header.bureau, request.header.role = HEADQUARTERS, common_pb2.ROLE_SUPERVISOR
    request.header.actor, request.header.department = "supervisor-1", "tax-service"
    async with tiers.directives(HEADQUARTERS, "office", HEADQUARTERS) as stub:
        refusal = await refusal_of(stub.PublishTree(request))
    assert "TreeUnusable" == refusal.rule
    assert "line 6" in refusal.sentence.english
    assert "test" == tiers.tree_version(HEADQUARTERS)


async def test_a_tree_is_published_by_headquarters_supervisors_alone(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE)
    tree = changed(tiers, "2026-10")
    assert "NotForThisRole" == (await refusal_of(tiers.publish_tree(tree, role=common_pb2.ROLE_HANDLER))).rule
    request = directive_pb2.PublishTreeRequest(tree=tree_text(tree))
    request.header.bureau, request.header.role = PROVINCE, common_pb2.ROLE_BUREAU_HEAD
    async with tiers.directives(PROVINCE, "office", PROVINCE) as stub:
        assert "NotHeadquarters" == (await refusal_of(stub.PublishTree(request))).rule


async def test_a_new_bureau_may_call_as_soon_as_the_tree_names_it(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    request = directive_pb2.ReadDirectivesRequest(bureau=HEADQUARTERS)
    async with tiers.directives(HEADQUARTERS, "node", "330107") as stub:
        assert "NotAuthorised" == (await refusal_of(stub.ReadDirectives(request))).rule
        new = Bureau("330107", "new", Tier.COUNTY, PREFECTURE)
        await tiers.publish_tree(BureauTree("2026-10", (*tiers.tree.bureaus.values(), new)))
        assert 1 == len((await stub.ReadDirectives(request)).directives)
