"""The publisher over real NATS sites and ledgers: what is committed arrives, whatever fails on the way."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from demo.sites import Sites
from kuaixiang.runtime.bus import HEAD_PREFIX, JOURNAL_PREFIX, STREAM, Access, Bus, journal_subject, site_domain
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from node.events import publisher as publishing_module
from node.events.publisher import Publisher, SeveralSites
from node.events.tail import flight_of
from node.ledger import queries
from node.ledger.latest import ENTRIES_MAX
from node.ledger.queries import read_segment
from tests.events.stage import (
    CONNECT_SECONDS,
    MONDAY,
    SITE,
    Arrivals,
    Desk,
    last_seq,
    open_desk,
    publishing,
    tree_of,
    until,
    verified,
    watching,
)

pytestmark = pytest.mark.nats


async def test_what_is_registered_arrives_at_the_national_site_as_a_chain_that_verifies(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str]
) -> None:
    async with publishing(desk, node_bus):
        await asyncio.gather(*(desk.register_many(bureau, 300) for bureau in bureaus))
        await until(lambda: all(arrivals.reached(bureau) == desk.seq(bureau) for bureau in bureaus), "all arrives")
    for bureau in bureaus:
        head = desk.ledger.heads[bureau]
        assert (head.seq, head.hash) == verified(arrivals.segments[bureau])
        assert len(arrivals.segments[bureau]) < head.seq / 2, "entries share messages"


async def test_the_tail_arrives_soon_after_each_commit(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str]
) -> None:
    bureau, seconds = bureaus[0], []
    async with publishing(desk, node_bus):
        await desk.register(bureau)
        await until(lambda: arrivals.reached(bureau) == desk.seq(bureau), "the first arrives")
        for _ in range(30):
            committed = await desk.register(bureau)
            at = time.perf_counter()
            await until(lambda: arrivals.reached(bureau) == desk.seq(bureau), "it arrives")
            seconds.append(arrivals.arrived_at[bureau, committed.seq] - at)
    print(
        f"from commit to the national site: median {statistics.median(seconds) * 1e3:.0f} ms, worst {max(seconds) * 1e3:.0f} ms"
    )


async def test_what_follows_at_once_is_sent_without_reading_the_database_and_what_is_further_back_is_read(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bureau, read = bureaus[0], []

    def reading(database: Database, bureau: str, after_seq: int, **limits: int) -> Segment | None:
        read.append(after_seq)
        return read_segment(database, bureau, after_seq, **limits)

    monkeypatch.setattr(queries, "read_segment", reading)
    await desk.register_many(bureau, ENTRIES_MAX + 10)
    async with publishing(desk, node_bus):
        await until(lambda: arrivals.reached(bureau) == desk.seq(bureau), "what lay there arrives")
        assert read[0] == 0
        read.clear()
        for _ in range(5):
            await desk.register(bureau)
            await until(lambda: arrivals.reached(bureau) == desk.seq(bureau), "what follows arrives")
        assert not read
    assert (desk.seq(bureau), desk.ledger.heads[bureau].hash) == verified(arrivals.segments[bureau])


async def test_heads_follow_the_connection_and_tell_the_end_of_every_journal_also_of_an_empty_one(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str]
) -> None:
    await desk.register(bureaus[0])
    async with publishing(desk, node_bus):
        await until(lambda: set(bureaus) == set(arrivals.heads), "a head of each bureau arrives")
    for bureau in bureaus:
        head = desk.ledger.heads[bureau]
        expected = Head(
            bureau=bureau, generation=head.generation, seq=head.seq, hash=head.hash, as_of_us=to_micros(MONDAY)
        )
        assert expected == arrivals.heads[bureau][0]


async def test_heads_come_again_after_the_interval(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing_module, "HEAD_SECONDS", 0.2)
    async with publishing(desk, node_bus):
        await until(lambda: len(arrivals.heads.get(bureaus[0], [])) >= 3, "three heads arrive")


async def test_a_publisher_that_starts_again_goes_on_from_its_cursor(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str]
) -> None:
    bureau = bureaus[0]
    async with publishing(desk, node_bus):
        await desk.register_many(bureau, 50)
        await until(lambda: arrivals.reached(bureau) == desk.seq(bureau), "all arrives")
    assert {bureau: desk.seq(bureau)} == queries.published_seqs(desk.ledger.database)
    before = len(arrivals.segments[bureau])
    async with publishing(desk, node_bus):
        await desk.register_many(bureau, 50)
        await until(lambda: arrivals.reached(bureau) == desk.seq(bureau), "the rest arrives")
    assert 51 == arrivals.segments[bureau][before].first_seq
    assert desk.seq(bureau) == verified(arrivals.segments[bureau])[0]


async def test_a_lost_cursor_costs_repetitions_under_the_same_ids_and_nothing_else(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bureau = bureaus[0]
    await desk.register_many(bureau, 1200)

    async def lost(_: Publisher) -> bool:
        return False

    before = _published("duplicate")
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "keep_cursors", lost)
        async with publishing(desk, node_bus) as first:
            await until(lambda: first.acknowledged(bureau) == 1200, "all is acknowledged")
    assert {} == queries.published_seqs(desk.ledger.database)
    async with publishing(desk, node_bus) as second:
        await until(lambda: second.acknowledged(bureau) == 1200, "all is acknowledged again")
    await until(lambda: arrivals.reached(bureau) == 1200, "all arrives")
    # More than the three where an acknowledgement was late. What is in the stream is said by what arrives.
    assert before + 3 <= _published("duplicate"), "the stream knew every repeated segment"
    assert [(1, 500), (501, 500), (1001, 200)] == [
        (segment.first_seq, len(segment.entries)) for segment in arrivals.segments[bureau]
    ]


async def test_the_cursor_is_kept_while_publishing_goes_on(
    desk: Desk, node_bus: Bus, bureaus: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing_module, "KEEP_SECONDS", 0.05)
    async with publishing(desk, node_bus):
        await desk.register(bureaus[0])
        await until(lambda: queries.published_seqs(desk.ledger.database) == {bureaus[0]: 1}, "it is kept")


async def test_nothing_is_lost_when_the_site_is_killed_and_acts_go_on_meanwhile(
    own_nats_sites: Sites, database_url: str, bureaus: tuple[str, str]
) -> None:
    bureau = bureaus[0]
    async with (
        open_desk(database_url, bureaus) as desk,
        Bus(own_nats_sites[SITE].node, name="node") as bus,
        watching(own_nats_sites, bureaus) as arrivals,
        publishing(desk, bus) as publisher,
    ):
        await desk.register_many(bureau, 200)
        await until(lambda: publisher.acknowledged(bureau) == 200, "the first are acknowledged")
        registering = asyncio.create_task(desk.register_many(bureau, 400))
        await asyncio.to_thread(own_nats_sites.kill_site, SITE)
        await registering
        await until(lambda: not bus.connected, "the bus sees it")
        heads_before = len(arrivals.heads.get(bureau, []))
        await desk.register_many(bureau, 700)
        assert 1300 == desk.seq(bureau)
        assert publisher.unpublished() > 0
        await asyncio.to_thread(own_nats_sites.start_site, SITE)
        await until(lambda: arrivals.reached(bureau) == 1300, "all arrives")
        await until(lambda: len(arrivals.heads.get(bureau, [])) > heads_before, "a head follows the connection")
        head = desk.ledger.heads[bureau]
        assert (head.seq, head.hash) == verified(in_order(arrivals, bureau))
        # What has come to the national site may be acknowledged to the node a moment later.
        await until(lambda: publisher.unpublished() == 0, "all is acknowledged")


async def test_a_publisher_that_starts_before_its_site_catches_up(
    own_nats_sites: Sites, database_url: str, bureaus: tuple[str, str]
) -> None:
    await asyncio.to_thread(own_nats_sites.stop_site, SITE)
    async with (
        open_desk(database_url, bureaus) as desk,
        Bus(own_nats_sites[SITE].node, name="node") as bus,
        publishing(desk, bus) as publisher,
    ):
        await asyncio.gather(*(desk.register_many(bureau, 600) for bureau in bureaus))
        assert 1200 == publisher.unpublished() == REGISTRY.get_sample_value("kx_journal_unpublished_entries")
        await asyncio.to_thread(own_nats_sites.start_site, SITE)
        await until(lambda: publisher.unpublished() == 0, "all is acknowledged")
        async with watching(own_nats_sites, bureaus) as arrivals:
            await until(lambda: all(arrivals.reached(bureau) == 600 for bureau in bureaus), "all arrives")
            assert [(600, desk.ledger.heads[bureau].hash) for bureau in bureaus] == [
                verified(in_order(arrivals, bureau)) for bureau in bureaus
            ]


async def test_a_stream_that_is_full_is_tried_again_until_it_takes_what_waits(
    own_nats_sites: Sites, database_url: str, bureaus: tuple[str, str]
) -> None:
    bureau = bureaus[0]
    async with open_desk(database_url, bureaus) as desk, Bus(own_nats_sites[SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.ensure_stream(SITE, bytes_max=20_000, timeout_seconds=CONNECT_SECONDS)
        await desk.register_many(bureau, 1500)
        failures = _sample("kx_publish_failures_total")
        async with publishing(desk, bus) as publisher:
            await until(lambda: _sample("kx_publish_failures_total") >= failures + 3, "it is refused")
            assert 0 == publisher.acknowledged(bureau)
            await _operate(own_nats_sites, max_bytes=100_000_000)
            await until(lambda: publisher.acknowledged(bureau) == 1500, "it is taken")
        async with watching(own_nats_sites, bureaus) as arrivals:
            await until(lambda: arrivals.reached(bureau) == 1500, "all arrives")
            assert 1500 == verified(in_order(arrivals, bureau))[0]


async def test_a_bureau_that_the_stream_refuses_holds_up_no_other(
    own_nats_sites: Sites, database_url: str, bureaus: tuple[str, str]
) -> None:
    refused, taken = bureaus
    async with open_desk(database_url, bureaus) as desk, Bus(own_nats_sites[SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.ensure_stream(SITE, timeout_seconds=CONNECT_SECONDS)
        await _operate(own_nats_sites, subjects=[journal_subject(SITE, taken), f"{HEAD_PREFIX}.{SITE}.>"])
        async with publishing(desk, bus) as publisher:
            await asyncio.gather(*(desk.register_many(bureau, 600) for bureau in bureaus))
            await until(lambda: publisher.acknowledged(taken) == 600, "the other is published")
            assert 0 == publisher.acknowledged(refused)
            await _operate(own_nats_sites, subjects=[f"{JOURNAL_PREFIX}.{SITE}.>", f"{HEAD_PREFIX}.{SITE}.>"])
            await until(lambda: publisher.acknowledged(refused) == 600, "it is published at last")


async def test_a_stream_that_was_removed_is_made_again_and_gets_what_comes_after(
    own_nats_sites: Sites, database_url: str, bureaus: tuple[str, str]
) -> None:
    bureau = bureaus[0]
    async with open_desk(database_url, bureaus) as desk, Bus(own_nats_sites[SITE].node, name="node") as bus:
        async with publishing(desk, bus) as publisher:
            await desk.register_many(bureau, 10)
            await until(lambda: publisher.acknowledged(bureau) == 10, "it is published")
            async with Bus(own_nats_sites[SITE].operator, name="operator") as operator:
                await operator.wait_connected(CONNECT_SECONDS)
                await operator.manager(site_domain(SITE), CONNECT_SECONDS).delete_stream(STREAM)
            await desk.register_many(bureau, 10)
            await until(lambda: publisher.acknowledged(bureau) == 20, "the rest is published")
        assert (await bus.stream_state(site_domain(SITE), CONNECT_SECONDS)).messages >= 1


async def test_a_node_of_several_hundred_bureaus_publishes_them_all(nats_sites: Sites, tmp_path: Path) -> None:
    bureaus = tuple(f"116{number:03d}" for number in range(300))
    async with (
        open_desk(f"sqlite:///{tmp_path}/many.db", bureaus) as desk,
        watching(nats_sites, bureaus) as arrivals,
        Bus(nats_sites[SITE].node, name="node") as bus,
        publishing(desk, bus) as publisher,
    ):
        await asyncio.gather(*(desk.register_many(bureau, 3) for bureau in bureaus))
        await until(lambda: publisher.unpublished() == 0, "all is acknowledged")
        await until(lambda: all(arrivals.reached(bureau) == 3 for bureau in bureaus), "all arrives")
        await until(lambda: set(bureaus) == set(arrivals.heads), "a head of each arrives")


async def test_a_node_that_was_killed_repeats_at_most_what_its_cursor_had_not_kept(
    node_bus: Bus, nats_sites: Sites, database_url: str, bureaus: tuple[str, str]
) -> None:
    bureau = bureaus[0]
    async with open_desk(database_url, bureaus) as desk:
        async with publishing(desk, node_bus) as publisher:
            await desk.register_many(bureau, 40)
            await until(lambda: publisher.acknowledged(bureau) == 40, "the first are acknowledged")
        publisher = Publisher(desk.ledger, node_bus, desk.tree, desk.clock)
        await desk.register_many(bureau, 20)
        while publisher.acknowledged(bureau) < 60:  # its cursor is never kept: it dies before
            await publisher.step()
            await asyncio.sleep(0.01)
    async with (
        open_desk(database_url, bureaus) as desk,
        watching(nats_sites, bureaus) as arrivals,
        publishing(desk, node_bus) as publisher,
    ):
        await desk.register_many(bureau, 5)
        await until(lambda: arrivals.reached(bureau) == 65, "all arrives")
        segments = arrivals.segments[bureau]
        repeats = [s for nth, s in enumerate(segments) if any(last_seq(e) >= s.first_seq for e in segments[:nth])]
        assert all(segment.first_seq > 40 for segment in repeats)
        assert (65, desk.ledger.heads[bureau].hash) == verified(segments)


async def test_the_id_of_a_segment_says_which_entries_it_holds(desk: Desk, bureaus: tuple[str, str]) -> None:
    await desk.register_many(bureaus[0], 3)
    segment = queries.read_segment(desk.ledger.database, bureaus[0], 1, entries_max=10, bytes_max=10_000)
    assert segment is not None
    assert f"{bureaus[0]}.1.2-3" == flight_of(segment, 0.0).message_id


async def test_bureaus_of_several_sites_are_refused(database_url: str) -> None:
    async with open_desk(database_url, ("110000", "330000")) as desk:
        with pytest.raises(SeveralSites, match="110000, 330000"):
            Publisher(
                desk.ledger, Bus(Access(url="nats://127.0.0.1:9", site="000000", user="node")), tree_of(), desk.clock
            )


def in_order(arrivals: Arrivals, bureau: str) -> list[Segment]:
    """As a hub's park puts them: a segment sent again may come after those behind it."""
    return sorted(arrivals.segments[bureau], key=lambda segment: segment.first_seq)


async def _operate(sites: Sites, **changes: Any) -> None:
    """What a person does to the site's stream."""
    async with Bus(sites[SITE].operator, name="operator") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        manager = bus.manager(site_domain(SITE), CONNECT_SECONDS)
        info = await manager.stream_info(STREAM)
        await manager.update_stream(info.config.evolve(**changes))


def _sample(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def _published(outcome: str) -> float:
    return REGISTRY.get_sample_value("kx_nats_publishes_total", {"connection": "node", "outcome": outcome}) or 0.0
