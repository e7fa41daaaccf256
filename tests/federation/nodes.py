"""Nodes as they are served, in one event loop: a county, its prefecture, its province, headquarters, a far province.

Each can be stopped and started again over its own ledger; with NATS sites where the test gives them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import grpc.aio
from google.protobuf.message import Message
from prometheus_client import REGISTRY

from demo.federation import tree_text
from demo.sites import Sites
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.events import Entry, Event
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Category, Channel, ClockKind, Role, Telling
from kuaixiang.facts import CALENDAR_FILE
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.bus import Access, Bus
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.codec import decode_entry
from kuaixiang.wire.v1 import case_pb2, common_pb2, directive_pb2, directive_pb2_grpc
from node import service
from node.ledger import queries
from node.office import Header
from node.settings import NodeSettings
from tests.federation.bureaus import free_ports

HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY = "000000", "330000", "330100", "330106"
FAR_PROVINCE: Final = "110000"
BUREAUS: Final = (
    Bureau(HEADQUARTERS, "headquarters", Tier.NATIONAL, None),
    Bureau(PROVINCE, "Zhejiang", Tier.PROVINCIAL, HEADQUARTERS),
    Bureau(PREFECTURE, "Hangzhou", Tier.PREFECTURE, PROVINCE),
    Bureau(COUNTY, "Xihu", Tier.COUNTY, PREFECTURE),
    Bureau(FAR_PROVINCE, "Beijing", Tier.PROVINCIAL, HEADQUARTERS),
)
MONDAY: Final = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
"""Nine in the morning of a working day."""
SHIPPED: Final = (Path(__file__).parents[2] / "kuaixiang" / "facts" / CALENDAR_FILE).read_text(encoding="utf-8")
TEXT: Final = "增值税发票查验平台反复报错，无法抵扣。"
CONNECT_SECONDS: Final = 60.0


def amended(version: str, *, off: Sequence[date] = (), work: Sequence[date] = ()) -> str:
    """The shipped calendar under another version, with more days off and more make-up days."""
    text = SHIPPED.replace("# version: 2026.1", f"# version: {version}")
    assert text != SHIPPED
    rows = [*(f"{day},测试,off" for day in off), *(f"{day},测试,work" for day in work)]
    return text.rstrip("\n") + "\n" + "\n".join(rows) + "\n"


class Nodes:
    """The nodes of these tests. A node that is down has no entry in `up`."""

    def __init__(self, folder: Path, sites: Sites | None = None) -> None:
        self.folder = folder
        self.clock = SharedClockDriver(folder / "clock", MONDAY)
        self.up: dict[str, service.Running] = {}
        self._sites = sites
        self._stacks: dict[str, AsyncExitStack] = {}
        self._authority = sites.authority if sites is not None else folder / "authority"
        if sites is None:
            pki.init_authority(self._authority, "test")
        ports = dict(zip((bureau.code for bureau in BUREAUS), free_ports(len(BUREAUS)), strict=True))
        self.tree = BureauTree("test", (replace(one, endpoint=f"127.0.0.1:{ports[one.code]}") for one in BUREAUS))
        (folder / "tree.csv").write_text(tree_text(self.tree), encoding="utf-8")
        self._serial = 0
        self.settings: dict[str, Any] = {"cosigned_start_seconds": 0}
        """Of every node that starts from now on. Usually nobody is waited for: nodes start one after the other."""
        self.databases: dict[str, str] = {}
        """URLs of those that are not SQLite in the folder."""

    def certificate(self, kind: pki.Kind, code: str) -> pki.CertificatePaths:
        folder = self.folder / f"{kind}-{code}"
        if not folder.exists():
            return pki.issue(self._authority, folder, kind, [code])
        return pki.CertificatePaths.in_folder(folder)

    def settings_of(self, code: str) -> NodeSettings:
        self.certificate("node", code)
        return read_settings(
            NodeSettings,
            bureaus=(code,),
            tree=self.folder / "tree.csv",
            database=self.databases.get(code, f"sqlite:///{self.folder / code}.db"),
            listen=self.tree.get(code).endpoint,
            metrics_port=0,
            certificates=self.folder / f"node-{code}",
            nats_url=self._sites[self.tree.site(code)].url if self._sites is not None else None,
            clock=self.folder / "clock",
            **self.settings,
        )

    async def start(self, *codes: str) -> None:
        for code in codes:
            settings = self.settings_of(code)
            stack = self._stacks[code] = AsyncExitStack()
            self.up[code] = await stack.enter_async_context(service.running(settings))

    async def stop(self, *codes: str) -> None:
        for code in codes:
            self.up.pop(code, None)
            stack = self._stacks.pop(code, None)
            if stack is not None:
                await stack.aclose()

    # ------------------------------------------------------------ what officers do

    async def act(
        self, bureau: str, case_id: str, act: Act, role: Role = Role.TAX_SERVICE, actor: str = "officer-1"
    ) -> Case:
        header = Header(bureau=bureau, case_id=case_id, actor=actor, role=role, department="tax-service")
        return (await self.up[bureau].office.perform(header, act)).case

    async def register(self, bureau: str) -> str:
        self._serial += 1
        act = acts.Register(
            taxpayer_name="晨光文具店",
            contact="15400001234",
            text=TEXT,
            category=Category.SYSTEMS,
            channel=Channel.COUNTER,
            channel_reference=f"ref-{self._serial}",
        )
        return (await self.act(bureau, "", act, Role.REGISTRAR)).case_id

    async def accept(self, bureau: str) -> str:
        """A case that its own department handles: five working days."""
        case_id = await self.register(bureau)
        await self.act(bureau, case_id, acts.AcceptDirectly(telling=Telling.COMPLICATED, told="情况复杂"), Role.HANDLER)
        return case_id

    async def refer(self, bureau: str, case_id: str, final_bureau: str) -> None:
        act = acts.Refer(final_bureau=final_bureau, reason="超出权限", telling=Telling.TRANSFERRED, told="已转上级")
        await self.act(bureau, case_id, act)

    async def publish_calendar(self, text: str, key: str = "", **header: Any) -> directive_pb2.PublishResponse:
        request = directive_pb2.PublishCalendarRequest(header=_header(key, **header), calendar=text)
        async with self.directives(HEADQUARTERS, "office", HEADQUARTERS) as stub:
            return await stub.PublishCalendar(request, timeout=60)

    async def publish_tree(self, tree: BureauTree, key: str = "", **header: Any) -> directive_pb2.PublishResponse:
        request = directive_pb2.PublishTreeRequest(header=_header(key, **header), tree=tree_text(tree))
        async with self.directives(HEADQUARTERS, "office", HEADQUARTERS) as stub:
            return await stub.PublishTree(request, timeout=60)

    async def publish_issue(self, issue: directive_pb2.ConfirmedIssue) -> directive_pb2.PublishResponse:
        request = directive_pb2.PublishIssueRequest(header=_header(""), issue=issue)
        async with self.directives(HEADQUARTERS, "office", HEADQUARTERS) as stub:
            return await stub.PublishIssue(request, timeout=60)

    @contextlib.asynccontextmanager
    async def channel(self, bureau: str, kind: pki.Kind, code: str) -> AsyncIterator[grpc.aio.Channel]:
        """To a bureau's node, with the certificate of that kind and code."""
        async with tls.open_channel(
            self.tree.get(bureau).endpoint, pki.dns_name("node", bureau), self.certificate(kind, code)
        ) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def directives(
        self, bureau: str, kind: pki.Kind, code: str
    ) -> AsyncIterator[directive_pb2_grpc.DirectiveServiceStub]:
        async with self.channel(bureau, kind, code) as channel:
            yield directive_pb2_grpc.DirectiveServiceStub(channel)

    # ------------------------------------------------------------ what is so

    def version(self, bureau: str) -> str:
        """The calendar in force at a bureau's node."""
        return self.up[bureau].office.place.calendar.version

    def tree_version(self, bureau: str) -> str:
        """The tree in force at a bureau's node."""
        return self.up[bureau].office.place.tree.version

    def case(self, bureau: str, case_id: str) -> Case | None:
        return queries.one_case(self.up[bureau].office.ledger.database, bureau, case_id)

    def clock_of(self, bureau: str, case_id: str, kind: ClockKind = ClockKind.HANDLE) -> Clock:
        case = self.case(bureau, case_id)
        clock = case.clock(kind) if case is not None else None
        assert clock is not None
        return clock

    def entries(self, bureau: str) -> list[Entry]:
        """The whole journal."""
        ledger = self.up[bureau].office.ledger
        found: list[Entry] = []
        while True:
            # A segment is of one generation.
            segment = queries.read_segment(ledger.database, bureau, len(found), entries_max=500, bytes_max=1 << 20)
            if segment is None:
                return found
            found += [decode_entry(bytes(entry.public)) for entry in segment.entries]

    def events(self, bureau: str, kind: type[Event]) -> list[Entry]:
        return [entry for entry in self.entries(bureau) if isinstance(entry.event, kind)]


def _header(key: str, **more: Any) -> case_pb2.ActHeader:
    fields: dict[str, Any] = {
        "bureau": HEADQUARTERS,
        "actor": "supervisor-1",
        "role": common_pb2.ROLE_SUPERVISOR,
        "department": "tax-service",
        "request_key": key,
    }
    return case_pb2.ActHeader(**fields | more)


@contextlib.asynccontextmanager
async def nodes(folder: Path, sites: Sites | None = None) -> AsyncIterator[Nodes]:
    """All nodes down; those that are up at the end are stopped."""
    made = Nodes(folder, sites)
    try:
        yield made
    finally:
        await made.stop(*reversed(list(made.up)))
        made.clock.close()


def strange(kind: str) -> float:
    """How many best-effort messages of that kind the nodes have heard that were of no neighbour."""
    return REGISTRY.get_sample_value("kx_live_heard_total", {"kind": kind, "result": "strange"}) or 0.0


async def is_heard(access: Access, subject: str, notice: Message) -> None:
    """Wait until a node hears what is published on its subject from there: before, it would be lost.

    `notice` is one that the node takes for a stranger's.
    """
    kind = subject.split(".")[2]
    async with Bus(access, name="probe") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        before = strange(kind)
        async with asyncio.timeout(CONNECT_SECONDS):
            while strange(kind) == before:
                await bus.publish_core(subject, notice.SerializeToString())
                await asyncio.sleep(0.05)
