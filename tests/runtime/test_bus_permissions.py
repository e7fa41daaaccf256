"""Who may do what at a NATS site, asked of real servers: a node speaks for its own bureaus and for nobody else."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from nats.aio.client import Client
from prometheus_client import REGISTRY

from demo.sites import Site, Sites
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import (
    ACKS,
    STREAM,
    Access,
    Bus,
    BusUnavailable,
    Delivery,
    NotPermitted,
    directive_subject,
    head_subject,
    hub_user,
    inbox,
    journal_subject,
    node_user,
    progress_subject,
    site_domain,
    wake_subject,
)

pytestmark = pytest.mark.nats

PROVINCE, PREFECTURE, DISTRICT, ELSEWHERE = "330000", "330100", "330106", "110000"
"""In `tests.services.TEST_NODES` the prefecture's node keeps 330102's ledger, too, and the district's only its own."""
DOMAIN = site_domain(PROVINCE)
CONNECT_SECONDS = 60.0
ANSWER_SECONDS = 60
SILENCE_SECONDS = 0.4
"""What was to be refused has been by then; on one machine an answer takes a millisecond."""


@pytest.fixture
async def province(nats_sites: Sites) -> AsyncIterator[Bus]:
    async with connected(nats_sites[PROVINCE].node) as bus:
        await bus.ensure_stream(PROVINCE, timeout_seconds=CONNECT_SECONDS)
        yield bus


@asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Bus]:
    async with Bus(access) as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        yield bus


def district(sites: Sites) -> Access:
    return sites[PROVINCE].access("node", DISTRICT)


class Stranger:
    """A client that follows none of our rules: what it may is what the server lets it."""

    def __init__(self) -> None:
        self.client = Client()
        self.refusals: list[str] = []
        self.heard: list[bytes] = []

    async def _refused(self, failure: Exception) -> None:
        self.refusals.append(str(failure).lower())

    async def connect(self, access: Access) -> None:
        await self.client.connect(
            access.url,
            tls=access.context(),
            tls_hostname=pki.dns_name("nats", access.site),
            allow_reconnect=False,
            connect_timeout=ANSWER_SECONDS,
            error_cb=self._refused,
            inbox_prefix=inbox(access.user, site_domain(access.site)),
        )

    async def _heard_by_the_server(self) -> None:
        # The first ping of nats-py may overtake what is still to be written.
        for _ in range(2):
            await self.client.flush(ANSWER_SECONDS)

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        await self.client.publish(subject, payload)
        await self._heard_by_the_server()

    async def listen(self, subject: str) -> None:
        async def hear(message: object) -> None:
            self.heard.append(message.data)  # type: ignore[attr-defined]

        await self.client.subscribe(subject, cb=hear)
        await self._heard_by_the_server()

    async def may_publish(self, subject: str, payload: bytes = b"") -> bool:
        before = len(self.refusals)
        await self.publish(subject, payload)
        # A request by the domain's name is refused by the name that it becomes.
        return not any("violation for publish" in one for one in self.refusals[before:])

    async def may_listen(self, subject: str) -> bool:
        before = len(self.refusals)
        await self.listen(subject)
        return not any(f'subscription to "{subject.lower()}"' in one for one in self.refusals[before:])


@asynccontextmanager
async def stranger(access: Access) -> AsyncIterator[Stranger]:
    made = Stranger()
    await made.connect(access)
    try:
        yield made
    finally:
        await made.client.close()


async def messages(site: Site) -> int:
    async with connected(site.operator) as operator:
        return (await operator.stream_state(site.domain, CONNECT_SECONDS)).messages


async def test_a_node_publishes_for_each_of_its_bureaus(nats_sites: Sites, province: Bus) -> None:
    async with connected(nats_sites[PROVINCE].access("node", PREFECTURE)) as node:
        for bureau in (PREFECTURE, "330102"):
            for subject in (journal_subject(PROVINCE, bureau), head_subject(PROVINCE, bureau)):
                own = f"{subject}.{time.time_ns()}"
                assert not (await node.publish(subject, b"own", message_id=own, timeout_seconds=60)).duplicate


async def test_a_county_that_publishes_for_another_is_refused_at_once_and_goes_on_publishing_its_own(
    nats_sites: Sites, province: Bus
) -> None:
    before = await messages(nats_sites[PROVINCE])
    async with connected(district(nats_sites)) as node:
        labels = {"connection": node_user(DISTRICT), "kind": "publish"}
        refused = REGISTRY.get_sample_value("kx_nats_not_permitted_total", labels) or 0.0
        for bureau in (PREFECTURE, "330102", PROVINCE, "999999"):
            for subject in (journal_subject(PROVINCE, bureau), head_subject(PROVINCE, bureau)):
                # That is said and not waited for in vain: what is not answered raises something else.
                with pytest.raises(NotPermitted):
                    await node.publish(subject, b"forged", message_id=f"forged-{subject}", timeout_seconds=60)
        assert refused + 8 == REGISTRY.get_sample_value("kx_nats_not_permitted_total", labels)
        assert 1 == node.epoch, "the connection was kept"
        subject = journal_subject(PROVINCE, DISTRICT)
        await node.publish(subject, b"own", message_id=f"own.{time.time_ns()}", timeout_seconds=60)
    assert before + 1 == await messages(nats_sites[PROVINCE])


async def test_a_county_reads_changes_and_empties_no_stream(nats_sites: Sites, province: Bus) -> None:
    kept = f"kept.{time.time_ns()}"
    await province.publish(journal_subject(PROVINCE, PROVINCE), b"kept", message_id=kept, timeout_seconds=60)
    before = await messages(nats_sites[PROVINCE])
    consumer = json.dumps({"stream_name": STREAM, "config": {"ack_policy": "none", "deliver_subject": "x"}}).encode()
    requests = {
        "STREAM.DELETE": b"",
        "STREAM.PURGE": b"",
        "STREAM.UPDATE": json.dumps({"name": STREAM, "subjects": ["x"]}).encode(),
        "STREAM.CREATE": json.dumps({"name": STREAM, "subjects": ["x"]}).encode(),
        "STREAM.MSG.GET": b'{"seq":1}',
        "STREAM.MSG.DELETE": b'{"seq":1}',
        "DIRECT.GET": b'{"seq":1}',
        "STREAM.SNAPSHOT": b'{"deliver_subject":"x"}',
        "CONSUMER.CREATE": consumer,
        "CONSUMER.LIST": b"",
    }
    async with stranger(district(nats_sites)) as county:
        for prefix in ("$JS.API", f"$JS.{DOMAIN}.API", "$JS.hq.API", f"$JS.{site_domain(ELSEWHERE)}.API"):
            for request, payload in requests.items():
                assert not await county.may_publish(f"{prefix}.{request}.{STREAM}", payload), request
        assert not await county.may_publish("$JS.API.STREAM.CREATE.ANOTHER", b'{"name":"ANOTHER","subjects":["x"]}')
        assert not await county.may_listen(journal_subject(PROVINCE, PREFECTURE))
        assert not await county.may_listen("kx.v1.journal.>")
        assert not await county.may_listen(">")
        assert await county.may_publish(f"$JS.API.STREAM.INFO.{STREAM}")
    assert before == await messages(nats_sites[PROVINCE])


async def test_nobody_listens_to_what_is_answered_to_others(nats_sites: Sites, province: Bus) -> None:
    async with stranger(district(nats_sites)) as county:
        for subject in (
            "_INBOX.>",
            "_INBOX.*.>",
            f"{inbox(node_user(PREFECTURE), ACKS)}.>",
            f"{inbox(hub_user('000000'), DOMAIN)}.>",
        ):
            assert not await county.may_listen(subject), subject
        assert await county.may_listen(f"{inbox(node_user(DISTRICT), ACKS)}.own")
        for subject in (
            f"{inbox(node_user(PREFECTURE), ACKS)}.x.1",
            f"{inbox(hub_user('000000'), DOMAIN)}.x.1",
        ):
            assert not await county.may_publish(subject), subject
        for kind in (progress_subject, wake_subject, directive_subject):
            assert not await county.may_listen(kind(PROVINCE, PREFECTURE))


async def test_nobody_but_the_hub_acknowledges_what_the_hub_was_delivered(nats_sites: Sites, province: Bus) -> None:
    subject = journal_subject(PROVINCE, PROVINCE)
    await province.publish(subject, b"for the hub", message_id=f"hub.{time.time_ns()}", timeout_seconds=60)
    async with connected(nats_sites.national.hub) as hub:
        durable = hub.durable(DOMAIN, hub_user("000000"))
        deliveries: list[Delivery] = []
        async with asyncio.timeout(CONNECT_SECONDS):
            # Other tests' messages are in the stream too, and a fetch gives what has come so far.
            while not deliveries or len(deliveries) < (await durable.backlog(CONNECT_SECONDS)).total:
                deliveries += await durable.fetch(500, CONNECT_SECONDS)
        replies = [delivery._reply for delivery in deliveries]
        async with stranger(district(nats_sites)) as county:
            for reply in replies:
                assert not await county.may_publish(reply, b"+ACK")
        async with stranger(nats_sites.national.node) as headquarters:
            for reply in replies:
                assert not await headquarters.may_publish(reply, b"+ACK")
        assert len(deliveries) == (await durable.backlog(CONNECT_SECONDS)).unacknowledged
        for delivery in deliveries:
            await delivery.ack()
        async with asyncio.timeout(CONNECT_SECONDS):
            while (await durable.backlog(CONNECT_SECONDS)).unacknowledged:
                await asyncio.sleep(0.05)


async def test_a_hub_reads_and_publishes_nothing(nats_sites: Sites, province: Bus) -> None:
    async with stranger(nats_sites.national.hub) as hub:
        for subject in (
            journal_subject("000000", "000000"),
            journal_subject(PROVINCE, PREFECTURE),
            head_subject("000000", "000000"),
            progress_subject(PROVINCE, PREFECTURE),
            directive_subject(PROVINCE, PROVINCE),
            f"$JS.{DOMAIN}.API.STREAM.DELETE.{STREAM}",
            f"$JS.{DOMAIN}.API.STREAM.PURGE.{STREAM}",
            f"$JS.{DOMAIN}.API.STREAM.UPDATE.{STREAM}",
            f"$JS.{DOMAIN}.API.STREAM.CREATE.{STREAM}",
            f"$JS.{DOMAIN}.API.STREAM.MSG.DELETE.{STREAM}",
        ):
            assert not await hub.may_publish(subject), subject
        assert not await hub.may_listen("kx.v1.journal.>")


async def test_a_provinces_leaf_answers_for_itself_and_for_no_other_province(nats_sites: Sites) -> None:
    """With the right to everything at its own site, as whoever runs the province's servers has."""
    heard: list[str] = []

    async def hear(subject: str, _: bytes) -> None:
        heard.append(subject)

    site = nats_sites[PROVINCE]
    async with (
        connected(nats_sites.national.hub) as hub,
        connected(nats_sites.national.node) as headquarters,
        connected(nats_sites[ELSEWHERE].node) as neighbour,
    ):
        own, others = hub.new_inbox(DOMAIN), hub.new_inbox(site_domain(ELSEWHERE))
        acks = hub.new_inbox(ACKS)
        for subject in (own, others, acks):
            await hub.subscribe(subject, hear)
        forged = [
            others,
            acks,
            journal_subject("000000", "000000"),
            journal_subject(ELSEWHERE, ELSEWHERE),
            progress_subject(ELSEWHERE, ELSEWHERE),
            directive_subject("000000", "000000"),
        ]
        await neighbour.subscribe(progress_subject(ELSEWHERE, ELSEWHERE), hear)
        await headquarters.subscribe(directive_subject("000000", "000000"), hear)
        await headquarters.ensure_stream("000000", timeout_seconds=CONNECT_SECONDS)
        before = (await headquarters.stream_state("hq", CONNECT_SECONDS)).messages
        async with unrestricted(site) as sender, asyncio.timeout(CONNECT_SECONDS):
            while own not in heard:  # interest takes a moment to cross the link
                for subject in [*forged, own]:
                    await sender.publish(subject, b"forged")
                await asyncio.sleep(0.05)
            await asyncio.sleep(SILENCE_SECONDS)
        assert {own} == set(heard)
        assert before == (await headquarters.stream_state("hq", CONNECT_SECONDS)).messages


@asynccontextmanager
async def unrestricted(site: Site) -> AsyncIterator[Client]:
    """A client that its own site lets do everything, for as long as the block takes."""
    conf = site.directory / f"{site.domain}.conf"
    kept = conf.read_text("utf-8")
    before, user, after = kept.partition(f'user: "{pki.dns_name("node", site.conf.nodes[0][0])}"')
    end = "        }\n      }"
    everything = '\n        permissions { publish: ">", subscribe: ">" }\n      }'
    conf.write_text(before + user + everything + after.partition(end)[2], "utf-8")
    await reloaded(site)
    try:
        client = Client()
        secure = site.node.context()
        await client.connect(
            site.url,
            tls=secure,
            tls_hostname=pki.dns_name("nats", site.code),
            allow_reconnect=False,
            connect_timeout=ANSWER_SECONDS,
        )
        try:
            yield client
        finally:
            await client.close()
    finally:
        conf.write_text(kept, "utf-8")
        await reloaded(site)


def said(site: Site, words: str) -> int:
    """How often the server's log has that."""
    return site.process.log.read_text("utf-8").count(words)


async def reloaded(site: Site) -> None:
    before = said(site, "Reloaded server configuration")
    os.kill(site.process.pid, signal.SIGHUP)
    async with asyncio.timeout(CONNECT_SECONDS):
        while said(site, "Reloaded server configuration") == before:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["office", "nats"])
async def test_who_has_a_certificate_of_the_federation_and_no_user_does_not_come_in(
    nats_sites: Sites, kind: pki.Kind
) -> None:
    folder = nats_sites.certificates / f"stranger-{kind}"
    if not folder.exists():
        pki.issue(nats_sites.authority, folder, kind, ["330199"])
    access = replace(nats_sites[PROVINCE].node, certificates=pki.CertificatePaths.in_folder(folder))
    async with Bus(access, name="stranger") as bus:
        with pytest.raises(BusUnavailable):
            await bus.wait_connected(1.0)


async def test_who_has_no_certificate_of_the_federation_does_not_come_in(nats_sites: Sites) -> None:
    site = nats_sites[PROVINCE]
    async with Bus(replace(site.node, url=site.url.replace("tls://", "nats://"))) as bus:
        with pytest.raises(BusUnavailable):
            await bus.wait_connected(1.0)
    context = ssl.create_default_context(cafile=str(nats_sites.authority / pki.AUTHORITY_CERTIFICATE))
    before = said(site, "client didn't provide a certificate")
    client = Client()
    try:
        # By which error it learns that it was hung up on depends on what it was just doing.
        with contextlib.suppress(Exception):
            await client.connect(
                site.url,
                tls=context,
                tls_hostname=pki.dns_name("nats", PROVINCE),
                allow_reconnect=False,
                connect_timeout=ANSWER_SECONDS,
            )
            await client.flush(ANSWER_SECONDS)
            pytest.fail("it came in")
    finally:
        await client.close()
    async with asyncio.timeout(CONNECT_SECONDS):
        while said(site, "client didn't provide a certificate") == before:
            await asyncio.sleep(0.02)


async def test_a_server_that_is_not_of_the_site_is_not_spoken_to(nats_sites: Sites) -> None:
    async with Bus(replace(nats_sites[PROVINCE].node, url=nats_sites[ELSEWHERE].url)) as bus:
        with pytest.raises(BusUnavailable):
            await bus.wait_connected(1.0)
