"""The bus across real NATS sites: nothing acknowledged is lost, whatever link or server fails."""

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterable

import pytest
from nats.js.errors import NotFoundError
from prometheus_client import REGISTRY

from demo.sites import Sites
from kuaixiang.runtime import bus as bus_module
from kuaixiang.runtime.bus import (
    STREAM,
    Access,
    Ack,
    Bus,
    BusError,
    BusUnavailable,
    Delivery,
    Durable,
    MessageTooLarge,
    NoStreamForSubject,
    NotPermitted,
    PublishRefused,
    SiteUnavailable,
    SiteUnreachable,
    StreamDiffers,
    StreamMissing,
    directive_subject,
    head_subject,
    journal_subject,
    site_domain,
    wake_subject,
)

pytestmark = pytest.mark.nats

SITE = "110000"
DOMAIN = site_domain(SITE)
OTHER_SITE = "330000"
CONNECT_SECONDS = 60.0
PULL_SECONDS = 1.0
PATIENCE_SECONDS = 120.0

_numbers = itertools.count(1)


@pytest.fixture
def bureau() -> str:
    return f"119{next(_numbers):03d}"


@pytest.fixture
async def node(nats_sites: Sites) -> AsyncIterator[Bus]:
    async with Bus(nats_sites[SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.ensure_stream(SITE, timeout_seconds=CONNECT_SECONDS)
        yield bus


@pytest.fixture
async def hub(nats_sites: Sites) -> AsyncIterator[Bus]:
    async with Bus(nats_sites.national.hub, name="hub") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        yield bus


async def publish(bus: Bus, bureau: str, first: int, last: int) -> list[Ack]:
    return [
        await bus.publish(
            journal_subject(SITE, bureau),
            str(n).encode(),
            message_id=f"{bureau}.1.{n}-{n}",
            timeout_seconds=CONNECT_SECONDS,
        )
        for n in range(first, last + 1)
    ]


async def pull(durable: Durable, bureau: str, count: int, *, numbered: Iterable[int] = ()) -> list[Delivery]:
    """Pull and acknowledge until `count` messages of the bureau have come, trying again while the site is away.

    Where an acknowledgement may have been lost, others come again: then until those `numbered` so are among them.
    """
    pulled: list[Delivery] = []
    wanted = set(numbered)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(pulled) < count or not wanted <= set(numbers(pulled)):
        assert time.monotonic() < deadline, f"{len(pulled)} of {count} messages came"
        try:
            deliveries = await durable.fetch(100, PULL_SECONDS)
        except (SiteUnavailable, BusUnavailable):
            await asyncio.sleep(0.1)
            continue
        for delivery in deliveries:
            await delivery.ack()
            if delivery.subject.endswith(bureau):
                pulled.append(delivery)
    return pulled


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.data) for delivery in deliveries]


async def test_a_message_published_at_a_provincial_site_is_pulled_from_the_national_one(
    node: Bus, hub: Bus, bureau: str
) -> None:
    await publish(node, bureau, 1, 5)
    pulled = await pull(hub.durable(DOMAIN, bureau), bureau, 5)
    assert [1, 2, 3, 4, 5] == numbers(pulled)
    assert {journal_subject(SITE, bureau)} == {delivery.subject for delivery in pulled}


@pytest.mark.slow
async def test_an_acknowledged_message_is_never_delivered_again(node: Bus, hub: Bus, bureau: str) -> None:
    await publish(node, bureau, 1, 3)
    durable = hub.durable(DOMAIN, bureau)
    await pull(durable, bureau, 3)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await durable.backlog()).total:
            await asyncio.sleep(0.05)
    await durable.close()
    await publish(node, bureau, 4, 4)
    assert [4] == numbers(await pull(hub.durable(DOMAIN, bureau), bureau, 1))


async def test_a_message_given_back_is_delivered_again(node: Bus, hub: Bus, bureau: str) -> None:
    await publish(node, bureau, 1, 1)
    durable = hub.durable(DOMAIN, bureau)
    first: list[Delivery] = []
    while not first:
        for delivery in await durable.fetch(100, CONNECT_SECONDS):
            if delivery.subject.endswith(bureau):
                first.append(delivery)
                await delivery.nak()
            else:
                await delivery.ack()
    assert [2] == [delivery.deliveries for delivery in await pull(durable, bureau, 1)]


async def test_what_was_delivered_and_not_fetched_comes_at_once_after_the_consumer_was_closed(
    node: Bus, hub: Bus, bureau: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "ACK_WAIT_SECONDS", 2 * PATIENCE_SECONDS)  # what is not given back comes after that
    durable = hub.durable(DOMAIN, bureau)
    await publish(node, bureau, 1, 1)
    await pull(durable, bureau, 1)
    fetching = asyncio.create_task(durable.fetch(100, 20.0))
    await asyncio.sleep(0.3)
    await publish(node, bureau, 2, 2)
    for delivery in await fetching:
        await delivery.ack()
    await publish(node, bureau, 3, 10)  # answers the request that still stands
    inbox = durable._subscription
    assert inbox is not None
    async with asyncio.timeout(CONNECT_SECONDS):
        while inbox.pending_msgs < 8:
            await asyncio.sleep(0.01)
    await durable.close()
    assert set(range(3, 11)) == set(numbers(await pull(hub.durable(DOMAIN, bureau), bureau, 8)))


async def test_one_message_is_handed_out_at_once_without_waiting_for_a_full_batch(
    node: Bus, hub: Bus, bureau: str
) -> None:
    durable = hub.durable(DOMAIN, bureau)
    await publish(node, bureau, 1, 1)
    await pull(durable, bureau, 1)
    fetching = asyncio.create_task(durable.fetch(100, 2 * PATIENCE_SECONDS))  # so long the request itself stands
    await asyncio.sleep(0.3)
    await publish(node, bureau, 2, 2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [2] == numbers(await fetching)


async def test_messages_wait_while_the_link_is_cut_and_come_without_loss_when_it_is_restored(
    nats_sites: Sites, node: Bus, hub: Bus, bureau: str
) -> None:
    durable = hub.durable(DOMAIN, bureau)
    await publish(node, bureau, 1, 10)
    await pull(durable, bureau, 10)
    await asyncio.to_thread(nats_sites.cut_link, SITE)
    try:
        await publish(node, bureau, 11, 30)
        with pytest.raises(SiteUnreachable):
            while not await durable.fetch(100, PULL_SECONDS):
                pass
    finally:
        await asyncio.to_thread(nats_sites.restore_link, SITE)
    # An acknowledgement lost in the cut brings its message again: what must not be is a gap.
    await pull(durable, bureau, 20, numbered=range(11, 31))


async def test_every_acknowledged_message_survives_a_kill_of_the_provincial_server(
    nats_sites: Sites, node: Bus, hub: Bus, bureau: str
) -> None:
    sending = [
        await node.publish_pipelined(
            journal_subject(SITE, bureau),
            str(n).encode(),
            message_id=f"{bureau}.1.{n}-{n}",
            timeout_seconds=CONNECT_SECONDS,  # those that are under way fail when the connection is lost
        )
        for n in range(1, 201)
    ]
    await sending[49]
    await asyncio.to_thread(nats_sites.kill_site, SITE)
    try:
        results = await asyncio.gather(*sending, return_exceptions=True)
    finally:
        await asyncio.to_thread(nats_sites.start_site, SITE)
    acknowledged = {n for n, result in enumerate(results, 1) if isinstance(result, Ack)}
    assert set(range(1, 51)) <= acknowledged
    assert all(isinstance(result, Ack | BusError) for result in results)
    await node.wait_connected(CONNECT_SECONDS)
    unacknowledged = [n for n in range(1, 201) if n not in acknowledged]
    for n in unacknowledged:
        await publish(node, bureau, n, n)
    pulled = await pull(hub.durable(DOMAIN, bureau), bureau, 200, numbered=range(1, 201))
    assert set(range(1, 201)) == set(numbers(pulled))


async def test_a_connection_is_made_again_whose_client_does_not_say_that_it_is_closed(own_nats_sites: Sites) -> None:
    async with Bus(own_nats_sites[SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        client, epoch = bus.client(), bus.epoch

        async def hang() -> None:
            await asyncio.Event().wait()

        client._transport.wait_closed = hang  # type: ignore[union-attr,method-assign]
        await asyncio.to_thread(own_nats_sites.kill_site, SITE)
        await asyncio.to_thread(own_nats_sites.start_site, SITE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while bus.epoch == epoch:
                await asyncio.sleep(0.1)
        assert bus.client() is not client


async def test_pulling_goes_on_after_the_national_server_was_killed(
    nats_sites: Sites, node: Bus, hub: Bus, bureau: str
) -> None:
    durable = hub.durable(DOMAIN, bureau)
    await publish(node, bureau, 1, 3)
    await pull(durable, bureau, 3)
    await asyncio.to_thread(nats_sites.kill_site, nats_sites.national.code)
    try:
        await publish(node, bureau, 4, 6)
        with pytest.raises(BusUnavailable):
            while True:
                await durable.fetch(100, 0.2)
    finally:
        await asyncio.to_thread(nats_sites.start_site, nats_sites.national.code)
        await asyncio.to_thread(nats_sites.wait_linked)
    # The earlier ones may come again first: their acknowledgements died with the server.
    seen: set[int] = set()
    while not {4, 5, 6} <= seen:
        seen |= set(numbers(await pull(durable, bureau, 1)))


async def test_pulling_goes_on_after_a_provincial_server_has_lost_its_store(own_nats_sites: Sites, bureau: str) -> None:
    site = own_nats_sites[SITE]
    async with Bus(own_nats_sites.national.hub, name="hub") as hub, Bus(site.node, name="node") as node:
        await asyncio.gather(hub.wait_connected(CONNECT_SECONDS), node.wait_connected(CONNECT_SECONDS))
        await node.ensure_stream(SITE, timeout_seconds=CONNECT_SECONDS)
        durable = hub.durable(DOMAIN, bureau)
        await publish(node, bureau, 1, 3)
        await pull(durable, bureau, 3)
        await asyncio.to_thread(own_nats_sites.kill_site, SITE)
        shutil.rmtree(site.conf.store)
        await asyncio.to_thread(own_nats_sites.restart_site, SITE)
        await asyncio.to_thread(own_nats_sites.wait_linked, SITE)
        await node.wait_connected(CONNECT_SECONDS)
        await node.ensure_stream(SITE, timeout_seconds=CONNECT_SECONDS)
        await publish(node, bureau, 4, 6)
        assert [4, 5, 6] == numbers(await pull(durable, bureau, 3))


async def test_the_stream_of_a_site_is_made_once(nats_sites: Sites) -> None:
    async with Bus(nats_sites[OTHER_SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        made = await asyncio.gather(*(bus.ensure_stream(OTHER_SITE, timeout_seconds=CONNECT_SECONDS) for _ in range(5)))
        assert not await bus.ensure_stream(OTHER_SITE, timeout_seconds=CONNECT_SECONDS)
    assert sum(made) <= 1 or len(set(made)) == 1


async def test_a_stream_with_other_settings_is_named_and_left_alone(node: Bus) -> None:
    with pytest.raises(StreamDiffers, match="max_bytes") as raised:
        await node.ensure_stream(SITE, bytes_max=1024**2)
    assert {"max_bytes"} == set(raised.value.differences)


async def test_a_site_without_a_stream_is_told_apart_from_one_that_does_not_answer(hub: Bus, nats_sites: Sites) -> None:
    async with Bus(nats_sites.national.operator, name="operator") as operator:
        await operator.wait_connected(CONNECT_SECONDS)
        with contextlib.suppress(NotFoundError):  # another test may have made it
            await operator.manager("hq", CONNECT_SECONDS).delete_stream(STREAM)
    with pytest.raises(StreamMissing):
        await hub.durable("hq", "nobody").fetch(1, CONNECT_SECONDS)
    with pytest.raises(SiteUnreachable):
        await hub.durable("p999999", "nobody").fetch(1, PULL_SECONDS)


async def test_the_same_message_id_is_stored_once(node: Bus, bureau: str) -> None:
    first, second = [
        await node.publish(
            head_subject(SITE, bureau), b"head", message_id=f"{bureau}.head", timeout_seconds=CONNECT_SECONDS
        )
        for _ in range(2)
    ]
    assert not first.duplicate
    assert Ack(first.stream_seq, duplicate=True) == second


async def test_pipelined_messages_are_stored_in_the_order_of_the_calls(node: Bus, bureau: str) -> None:
    sending = [
        await node.publish_pipelined(
            journal_subject(SITE, bureau),
            b"x" * 20_000,
            message_id=f"{bureau}.{n}",
            timeout_seconds=CONNECT_SECONDS,
        )
        for n in range(300)
    ]
    sequence = [ack.stream_seq for ack in await asyncio.gather(*sending)]
    assert sorted(sequence) == sequence


async def test_a_node_may_not_publish_the_journals_of_another_site(node: Bus) -> None:
    with pytest.raises(NotPermitted, match=r"node-110000 to publish on kx\.v1\.journal\.330000\.330101"):
        await node.publish(journal_subject(OTHER_SITE, "330101"), b"forged", message_id="f")


async def test_a_subject_that_no_stream_keeps_is_an_error(node: Bus) -> None:
    with pytest.raises(NoStreamForSubject):
        await node.publish("kx.v1.wake.110000.nothing", b"", message_id="x")


async def test_a_message_over_the_limit_is_refused_before_it_is_sent(node: Bus, bureau: str) -> None:
    with pytest.raises(MessageTooLarge):
        await node.publish(journal_subject(SITE, bureau), bytes(1024**2 + 1), message_id="large")


async def test_a_full_stream_refuses_new_messages_and_keeps_the_old(own_nats_sites: Sites) -> None:
    async with Bus(own_nats_sites[SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.ensure_stream(SITE, bytes_max=100_000, timeout_seconds=CONNECT_SECONDS)
        with pytest.raises(PublishRefused, match="maximum bytes"):
            for n in range(20):
                await bus.publish(
                    journal_subject(SITE, "110101"),
                    bytes(10_000),
                    message_id=f"m{n}",
                    timeout_seconds=CONNECT_SECONDS,
                )
        assert 1 == (await bus.stream_state(DOMAIN, CONNECT_SECONDS)).first_seq


async def test_a_best_effort_message_crosses_the_link_in_both_directions(
    node: Bus, nats_sites: Sites, bureau: str
) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def hear(subject: str, payload: bytes) -> None:
        await heard.put((subject, payload))

    async with Bus(nats_sites.national.node, name="headquarters") as headquarters:
        await headquarters.wait_connected(CONNECT_SECONDS)
        for listener, site, speaker in ((node, SITE, headquarters), (headquarters, "000000", node)):
            subject = wake_subject(site, bureau)
            subscription = await listener.subscribe(subject, hear)
            async with asyncio.timeout(CONNECT_SECONDS):
                while heard.empty():  # best effort: interest takes a moment to cross the link
                    assert await speaker.publish_core(subject, b"wake up")
                    await asyncio.sleep(0.05)
            assert (subject, b"wake up") == await heard.get()
            await subscription.close()
            while not heard.empty():
                heard.get_nowait()


async def test_a_subscription_made_while_the_connection_comes_up_is_not_left_out(
    node: Bus, nats_sites: Sites, bureau: str
) -> None:
    heard: set[str] = set()

    async def hear(subject: str, _: bytes) -> None:
        heard.add(subject)

    subjects = {wake_subject(SITE, f"{bureau}-{number}") for number in range(200)}
    async with Bus(nats_sites[SITE].node, name="early") as bus:
        for subject in sorted(subjects):
            await bus.subscribe(subject, hear)
            await asyncio.sleep(0.0002)
        await bus.wait_connected(CONNECT_SECONDS)
        async with asyncio.timeout(CONNECT_SECONDS):
            while heard != subjects:
                for subject in subjects - heard:
                    assert await node.publish_core(subject)
                await asyncio.sleep(0.05)


async def test_a_province_does_not_speak_to_another_nor_publish_directives(
    node: Bus, nats_sites: Sites, bureau: str
) -> None:
    heard: list[str] = []

    async def hear(subject: str, _: bytes) -> None:
        heard.append(subject)

    async with (
        Bus(nats_sites[OTHER_SITE].node, name="other") as other,
        Bus(nats_sites.national.node, name="headquarters") as headquarters,
    ):
        await asyncio.gather(other.wait_connected(CONNECT_SECONDS), headquarters.wait_connected(CONNECT_SECONDS))
        last = wake_subject("000000", bureau)
        for listener, subject in (
            (other, wake_subject(OTHER_SITE, bureau)),
            (other, directive_subject(OTHER_SITE, bureau)),
            (headquarters, directive_subject("000000", bureau)),
            (headquarters, last),
        ):
            await listener.subscribe(subject, hear)
        async with asyncio.timeout(CONNECT_SECONDS):
            while last not in heard:
                for subject in (
                    wake_subject(OTHER_SITE, bureau),
                    directive_subject(OTHER_SITE, bureau),
                    directive_subject("000000", bureau),
                    last,
                ):
                    await node.publish_core(subject, b"")
                await asyncio.sleep(0.05)
        assert {last} == set(heard)


async def test_a_subscription_outlives_the_connection_and_a_failing_handler(
    own_nats_sites: Sites,
) -> None:
    heard = asyncio.Event()

    async def hear(_: str, payload: bytes) -> None:
        if payload == b"bad":
            raise ValueError(payload)
        heard.set()

    async with Bus(own_nats_sites[SITE].node, name="wake") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.subscribe("kx.v1.wake.110000.x", hear)
        await bus.publish_core("kx.v1.wake.110000.x", b"bad")
        await asyncio.to_thread(own_nats_sites.kill_site, SITE)
        async with asyncio.timeout(CONNECT_SECONDS):
            while bus.connected:
                await asyncio.sleep(0.02)
        assert not await bus.publish_core("kx.v1.wake.110000.x", b"lost")
        await asyncio.to_thread(own_nats_sites.start_site, SITE)
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.publish_core("kx.v1.wake.110000.x", b"good")
        await asyncio.wait_for(heard.wait(), CONNECT_SECONDS)


async def test_a_bus_without_a_server_starts_and_says_that_it_is_not_up() -> None:
    async with Bus(Access(url="nats://127.0.0.1:9", site="000000", user="alone")) as bus:
        with pytest.raises(BusUnavailable):
            await bus.wait_connected(0.3)
        with pytest.raises(BusUnavailable):
            await bus.publish("kx.v1.journal.110000.110101", b"", message_id="x")
        with pytest.raises(BusUnavailable):
            await bus.durable(DOMAIN, "hub").fetch(1, 0.1)
    assert 0.0 == REGISTRY.get_sample_value("kx_nats_connected", {"connection": "alone"})


async def test_who_is_told_to_end_at_the_moment_of_the_connection_ends() -> None:
    bus = Bus(Access(url="nats://127.0.0.1:9", site="000000", user="alone"))
    waiting = asyncio.create_task(bus.wait_connected(CONNECT_SECONDS))
    await asyncio.sleep(0)
    bus._up.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_bus_works_over_whatever_single_server_the_environment_gives(nats_access: Access) -> None:
    async with Bus(nats_access, name="single") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        await bus.ensure_stream("000000", timeout_seconds=CONNECT_SECONDS)
        ack = await bus.publish(
            head_subject("000000", "000000"),
            b"head",
            message_id=f"head-{time.time_ns()}",
            timeout_seconds=CONNECT_SECONDS,
        )
        assert not ack.duplicate
