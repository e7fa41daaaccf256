"""A small federation around a hub: certificates, ledgers served from hand-made journals, publishing into real sites."""

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from demo.journals import Journal
from demo.sites import Sites
from hub.service import Running, running
from hub.settings import HubSettings
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import Bus, head_subject, journal_subject
from kuaixiang.runtime.settings import read_settings
from kuaixiang.runtime.tls import SERVER_OPTIONS, open_channel, server_credentials
from kuaixiang.wire.v1 import journal_pb2, ledger_pb2
from kuaixiang.wire.v1.ledger_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceStub

TIERS = {Tier.NATIONAL: "national", Tier.PROVINCIAL: "provincial", Tier.PREFECTURE: "prefecture", Tier.COUNTY: "county"}
SECONDS_MAX = 60.0
"""For an answer of a site's server that has its share of a busy machine only."""
_numbers = itertools.count(1)


def fresh_county(province: str) -> str:
    """A county's code that no other test uses: the sites' streams are shared."""
    return f"{province[:2]}{5000 + next(_numbers)}"


class LedgerServer(LedgerServiceServicer):
    """Serves journals as a node's LedgerService does."""

    def __init__(self) -> None:
        self.journals: dict[str, Journal] = {}
        self.reads = 0
        self.unreadable: set[str] = set()
        """Bureaus whose heads are told and whose journals cannot be read."""
        self.terms: dict[str, list[ledger_pb2.CaseTerms]] = {}
        self.texts: dict[str, str] = {}
        self.segment_entries = 100
        self.port = 0

    async def ReadJournal(
        self, request: ledger_pb2.ReadJournalRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ledger_pb2.ReadJournalResponse]:
        self.reads += 1
        if request.bureau not in self.journals:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not hosted")
        if request.bureau in self.unreadable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        journal = self.journals[request.bureau]
        for segment in journal.segments(request.from_seq, request.to_seq, self.segment_entries):
            yield ledger_pb2.ReadJournalResponse(segment=segment)

    async def GetHeads(
        self, request: ledger_pb2.GetHeadsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ledger_pb2.GetHeadsResponse:
        wanted = request.bureaus or self.journals
        return ledger_pb2.GetHeadsResponse(
            heads=[self.journals[bureau].head() for bureau in wanted if bureau in self.journals]
        )

    async def ReadTerms(
        self, request: ledger_pb2.ReadTermsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ledger_pb2.ReadTermsResponse]:
        known = self.terms.get(request.bureau, [])
        yield ledger_pb2.ReadTermsResponse(
            cases=[case for case in known if request.from_day <= case.day <= request.to_day]
        )

    async def ReadMaskedTexts(
        self, request: ledger_pb2.ReadMaskedTextsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ledger_pb2.ReadMaskedTextsResponse:
        return ledger_pb2.ReadMaskedTextsResponse(
            texts=[
                ledger_pb2.MaskedText(case_id=case_id, text=self.texts[case_id])
                for case_id in request.case_ids
                if case_id in self.texts
            ]
        )


class Federation:
    """Headquarters, two provinces, and counties of this test's own; one node serves all their ledgers."""

    def __init__(self, folder: Path, sites: Sites, counties: int = 2) -> None:
        self.folder = folder
        self.sites = sites
        self.ledgers = LedgerServer()
        self.north = [fresh_county("110000") for _ in range(counties)]
        self.south = [fresh_county("330000") for _ in range(counties)]
        self.codes = ["000000", "110000", "330000", *self.north, *self.south]
        self.authority = sites.authority
        self.paths: Mapping[str, pki.CertificatePaths] = {
            "node": pki.issue(self.authority, folder / "node", "node", self.codes),
            "hub": pki.issue(self.authority, folder / "hub", "hub", ["000000"]),
            "office": pki.issue(self.authority, folder / "office", "office", ["000000"]),
            "county": pki.issue(self.authority, folder / "county", "office", [self.north[0]]),
        }

    @property
    def tree(self) -> BureauTree:
        """The tree, with the node's endpoint."""
        endpoint = f"127.0.0.1:{self.ledgers.port}"
        tiers = [Tier.NATIONAL, Tier.PROVINCIAL, Tier.PROVINCIAL] + [Tier.COUNTY] * (len(self.codes) - 3)
        above = [None, "000000", "000000", *("110000" for _ in self.north), *("330000" for _ in self.south)]
        return BureauTree(
            "test",
            [Bureau(*row, endpoint=endpoint) for row in zip(self.codes, self.codes, tiers, above, strict=True)],
        )

    def write_tree(self) -> Path:
        """The tree as a file."""
        path = self.folder / "tree.csv"
        lines = ["# version: test", "gb_code,name,tier,parent,endpoint"]
        lines += [
            f"{bureau.code},{bureau.name},{TIERS[bureau.tier]},{bureau.parent or ''},{bureau.endpoint}"
            for bureau in self.tree.bureaus.values()
        ]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    def settings(self, database_url: str, **more: Any) -> dict[str, Any]:
        """A hub's settings."""
        return {
            "tree": str(self.write_tree()),
            "database": database_url,
            "nats_url": self.sites.national.url,
            "listen": "127.0.0.1:0",
            "metrics_port": 0,
            "certificates": str(self.folder / "hub"),
            "refill_after_seconds": 0.5,
            "settle_seconds": 5.0,
            "reflection": True,
            **more,
        }

    @asynccontextmanager
    async def serving_ledgers(self) -> AsyncIterator[None]:
        """The node's LedgerService over mutual TLS."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        add_LedgerServiceServicer_to_server(self.ledgers, server)
        self.ledgers.port = server.add_secure_port("127.0.0.1:0", server_credentials(self.paths["node"]))
        await server.start()
        try:
            yield
        finally:
            await server.stop(0.5)

    @asynccontextmanager
    async def hub(self, database_url: str, **more: Any) -> AsyncIterator[Running]:
        """A hub in this process."""
        async with running(read_settings(HubSettings, None, **self.settings(database_url, **more))) as hub:
            yield hub

    @asynccontextmanager
    async def publishing(self, site: str) -> AsyncIterator["Publisher"]:
        """A connection to a site, as its nodes have it."""
        async with Bus(self.sites[site].node, name=f"test-{site}") as bus:
            await bus.wait_connected(SECONDS_MAX)
            await bus.ensure_stream(site, timeout_seconds=SECONDS_MAX)
            yield Publisher(bus, site)

    @asynccontextmanager
    async def statistics(self, port: int, who: str = "office") -> AsyncIterator[Any]:
        """A client of the hub."""
        async with open_channel(f"127.0.0.1:{port}", pki.dns_name("hub", "000000"), self.paths[who]) as channel:
            yield StatisticsServiceStub(channel)


class Publisher:
    """Publishes as a node's publisher does."""

    def __init__(self, bus: Bus, site: str) -> None:
        self._bus = bus
        self._site = site

    async def segment(self, segment: journal_pb2.Segment, again: str = "") -> None:
        """Publish one segment; `again` makes the message id another one."""
        last = segment.first_seq + len(segment.entries) - 1
        await self._bus.publish(
            journal_subject(self._site, segment.bureau),
            segment.SerializeToString(),
            message_id=f"{segment.bureau}.{segment.generation}.{segment.first_seq}-{last}{again}",
            timeout_seconds=SECONDS_MAX,
        )

    async def head(self, journal: Journal) -> None:
        """Publish the journal's head."""
        await self._bus.publish(
            head_subject(self._site, journal.bureau),
            journal.head().SerializeToString(),
            message_id=f"{journal.bureau}.head.{journal.seq}.{uuid.uuid4()}",
            timeout_seconds=SECONDS_MAX,
        )
