"""The hub goes by the tree that headquarters has published, as it runs and after a restart, and by no other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest_asyncio

from demo.federation import tree_text
from demo.journals import MONDAY
from hub.directives import TreeFollower
from hub.ledgers import Ledgers
from hub.store import Store
from hub.worker import Worker
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.directives import LOOKS_UNANSWERED, Published
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.tls import SERVER_OPTIONS, server_credentials
from kuaixiang.wire.v1 import common_pb2, directive_pb2, directive_pb2_grpc
from tests.hub.bench import Bench, cases
from tests.hub.journals import HANGZHOU, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG, tree


def moved(version: str, of: BureauTree) -> BureauTree:
    """The tree with Shangcheng right under the province."""
    county = replace(of.get(SHANGCHENG), parent=ZHEJIANG, formerly=(HANGZHOU,))
    return BureauTree(version, (county if one.code == SHANGCHENG else one for one in of.bureaus.values()))


def directive(of: BureauTree, seconds: int = 0) -> bytes:
    return directive_pb2.Directive(
        kind=common_pb2.DIRECTIVE_KIND_TREE,
        published_at_us=to_micros(MONDAY) + seconds,
        tree_version=of.version,
        tree=tree_text(of),
    ).SerializeToString()


def kept(of: BureauTree) -> Published:
    payload = directive(of)
    signed = directive_pb2.SignedDirective(directive=payload)
    return Published(directive_pb2.Directive.FromString(payload), signed)


def test_totals_are_those_of_the_superiors_that_the_adopted_tree_names(bench: Bench) -> None:
    bench.feed(cases(SHANGCHENG, 2).segment())
    new = moved("2026-12", bench.tree)
    bench.store.adopt(new, kept(new))
    bench.tree = new
    bench.feed(cases(HANGZHOU, 1).segment())
    expected = {SHANGCHENG: 2, HANGZHOU: 1, ZHEJIANG: 3, HEADQUARTERS: 3}
    assert expected == {scope: bench.facts(scope)["registered"] for scope in expected}


def test_the_adopted_tree_holds_after_a_restart_and_the_figures_are_the_same(bench: Bench) -> None:
    bench.feed(cases(SHANGCHENG, 2).segment())
    new = moved("2026-12", bench.tree)
    bench.store.adopt(new, kept(new))
    before = bench.facts(HANGZHOU), bench.facts(ZHEJIANG)
    bench.reopen()
    assert ("2026-12", to_micros(MONDAY)) == (bench.store.tree.version, bench.store.tree_published_at_us)
    bench.tree = new
    assert before == (bench.facts(HANGZHOU), bench.facts(ZHEJIANG))
    assert {} == bench.facts(HANGZHOU)


def test_a_file_that_is_newer_than_what_was_published_wins(bench: Bench) -> None:
    new = moved("2026-12", bench.tree)
    bench.store.adopt(new, kept(new))
    bench.tree = BureauTree("2027-1", bench.tree.bureaus.values())
    bench.reopen()
    assert "2027-1" == bench.store.tree.version


def test_a_bureau_that_the_adopted_tree_adds_is_folded(bench: Bench) -> None:
    new = BureauTree("2026-12", (*bench.tree.bureaus.values(), Bureau("330103", "new", Tier.COUNTY, HANGZHOU)))
    bench.store.adopt(new, kept(new))
    bench.tree = new
    assert 0 == bench.feed(cases("330103", 1).segment()).poison
    assert 1 == bench.facts(HANGZHOU)["registered"]


class Headquarters(directive_pb2_grpc.DirectiveServiceServicer):
    """A node that has directives, by whomever they are signed."""

    def __init__(self) -> None:
        self.signed: list[directive_pb2.SignedDirective] = []
        self.asked: list[directive_pb2.ReadDirectivesRequest] = []

    async def ReadDirectives(self, request: Any, context: Any) -> directive_pb2.ReadDirectivesResponse:
        self.asked.append(request)
        return directive_pb2.ReadDirectivesResponse(directives=self.signed)


class Following:
    """A hub's follower beside headquarters' node, the hub's own database, and certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "authority"
        pki.init_authority(self.authority, "test")
        self.node = self.issue("node", HEADQUARTERS)
        self.headquarters = Headquarters()  # type: ignore[abstract]  # what else a node answers is not asked
        self.adopted = 0

    def issue(self, kind: pki.Kind, *codes: str) -> pki.CertificatePaths:
        return pki.issue(self.authority, self.folder / f"{kind}-{codes[0]}", kind, codes)

    def sign(self, of: BureauTree, by: pki.CertificatePaths | None = None, seconds: int = 0) -> None:
        payload = directive(of, seconds)
        signature = Seal(by or self.node).sign(payload)
        self.headquarters.signed = [directive_pb2.SignedDirective(directive=payload, signature=signature)]

    @asynccontextmanager
    async def up(self) -> AsyncIterator[TreeFollower]:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        directive_pb2_grpc.add_DirectiveServiceServicer_to_server(self.headquarters, server)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(self.node))
        await server.start()
        self.tree = tree({HEADQUARTERS: f"127.0.0.1:{port}"})
        hub = self.issue("hub", HEADQUARTERS)
        worker = Worker()
        with Store(f"sqlite:///{self.folder / 'hub.db'}", self.tree, HEADQUARTERS) as self.store:
            ledgers = Ledgers(self.store.trees, hub)
            yield TreeFollower(
                store=self.store, worker=worker, ledgers=ledgers, seal=Seal(hub), adopted=self._count_adopted
            )
            await ledgers.close()
            await worker.close()
        await server.stop(None)

    def _count_adopted(self) -> None:
        self.adopted += 1


@pytest_asyncio.fixture
async def following(tmp_path: Path) -> Following:
    return Following(tmp_path)


async def test_a_hub_adopts_what_headquarters_has_published_and_asks_for_what_is_newer(following: Following) -> None:
    async with following.up() as follower:
        new = moved("2026-12", following.tree)
        following.sign(new)
        for _ in range(2):
            await follower.step()
        assert ("2026-12", ZHEJIANG) == (following.store.tree.version, following.store.tree.parent(SHANGCHENG))
        (have,) = following.headquarters.asked[-1].have
        assert (1, to_micros(MONDAY)) == (following.adopted, have.published_at_us)


async def test_a_tree_signed_by_a_province_changes_nothing_at_a_hub(following: Following) -> None:
    async with following.up() as follower:
        following.sign(moved("2026-12", following.tree), by=following.issue("node", ZHEJIANG))
        await follower.step()
        assert ("test", 0) == (following.store.tree.version, following.adopted)


async def test_an_older_tree_replayed_changes_nothing_at_a_hub(following: Following) -> None:
    async with following.up() as follower:
        following.sign(moved("2026-12", following.tree), seconds=1)
        await follower.step()
        following.sign(BureauTree("2026-11", following.tree.bureaus.values()))
        await follower.step()
        assert "2026-12" == following.store.tree.version


async def test_a_tree_that_leaves_out_what_the_hub_counts_is_not_adopted(following: Following) -> None:
    async with following.up() as follower:
        following.sign(BureauTree("2026-12", (one for one in following.tree.bureaus.values() if one.code != XICHENG)))
        await follower.step()
        following.sign(BureauTree("2026-12", (tree().get(HEADQUARTERS),)))
        await follower.step()
        assert ("test", 0) == (following.store.tree.version, following.adopted)


async def test_a_superior_that_is_away_leaves_the_tree_as_it_is(following: Following) -> None:
    before = LOOKS_UNANSWERED._value.get()
    async with following.up() as follower:
        nowhere = tree({HEADQUARTERS: "127.0.0.1:1"})
        following.store.trees.adopt(nowhere)
        assert not await follower.step()
    assert before + 1 == LOOKS_UNANSWERED._value.get()


def test_what_is_kept_is_what_was_signed(bench: Bench) -> None:
    new = moved("2026-12", bench.tree)
    published = kept(new)
    bench.store.adopt(new, published)
    with bench.store.reading() as connection:
        (row,) = connection.exec_driver_sql("SELECT directive FROM published_trees").all()
    assert sha256(published.signed.directive).digest() == sha256(bytes(row.directive)).digest()
