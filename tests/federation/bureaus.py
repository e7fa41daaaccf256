"""A small federation inside one test: real gRPC servers with mutual TLS on loopback, real ledgers, one business clock.

Three nodes keep one bureau each, two keep two, so that a peer may be of the same node. Nodes are stopped and started
again one by one, over their own ledgers and ports.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from demo.processes import free_port
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.events import Attachment
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Category, Channel, Custody, Role, Stage, Telling
from kuaixiang.facts import published_calendar
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.server import Answering, Context
from kuaixiang.runtime.trust import Trust
from kuaixiang.wire.v1 import reconciliation_pb2_grpc, referral_pb2, referral_pb2_grpc, supervision_pb2_grpc
from kuaixiang.wire.v1.referral_pb2_grpc import ReferralServiceStub
from kuaixiang.wire.v1.supervision_pb2_grpc import SupervisionServiceStub
from node.federation.client import Links
from node.federation.courier import Courier
from node.federation.server import NodeItself, ReferralServicer
from node.ledger import queries
from node.ledger.ledger import Ledger
from node.ledger.queries import HistoryEntry
from node.office import Header, Office, Place
from node.reconciler import Reconciler
from node.reconciliations import ReconciliationServicer
from node.supervision import SupervisionServicer

HEADQUARTERS: Final = "000000"
PROVINCE, PREFECTURE, COUNTY, OTHER_COUNTY = "370000", "370100", "370102", "370103"
FAR_PROVINCE, FAR_COUNTY = "500000", "500101"
NODES: Final = ((HEADQUARTERS,), (PROVINCE,), (PREFECTURE,), (COUNTY, OTHER_COUNTY), (FAR_PROVINCE, FAR_COUNTY))
BUREAUS: Final = (
    Bureau(HEADQUARTERS, "headquarters", Tier.NATIONAL, None),
    Bureau(PROVINCE, "Shandong", Tier.PROVINCIAL, HEADQUARTERS),
    Bureau(PREFECTURE, "Jinan", Tier.PREFECTURE, PROVINCE),
    Bureau(COUNTY, "Lixia", Tier.COUNTY, PREFECTURE),
    Bureau(OTHER_COUNTY, "Shizhong", Tier.COUNTY, PREFECTURE),
    Bureau(FAR_PROVINCE, "Chongqing", Tier.PROVINCIAL, HEADQUARTERS),
    Bureau(FAR_COUNTY, "Wanzhou", Tier.COUNTY, FAR_PROVINCE),
)
MONDAY: Final = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
"""Nine in the morning of a working day."""
SECONDS: Final = 60.0
RECONCILE_HOUR: Final = 2
RECONCILE_DAYS: Final = 31
TEXT: Final = "发票系统开票时提示税控设备异常，三天没有恢复，请尽快处理。"

PORTS_KEPT: Final = 200
"""Each is reserved by an open file: some twenty federations' worth, of the thousand that a process may open."""

_ports: Final[deque[int]] = deque()

T = TypeVar("T")
Do = Callable[[], Awaitable[Any]]
Fault = Callable[[Do, Context], Awaitable[Any]]
"""What a bad link makes of a call: it may do it, more than once or not at all, and may keep the answer."""


class Link(grpc.aio.ServerInterceptor):
    """The link to a node, as bad as its `fault` makes it; of a stream no more than `messages_max` get through."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.messages_max: int | None = None
        self.streams: list[Any] = []
        """The first message of each stream."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler.request_streaming:
            return self._streaming(handler)
        inner = handler.unary_unary
        if inner is None:
            return handler

        async def call(request: Any, context: Context) -> Any:
            if self.fault is None:
                return await inner(request, context)
            return await self.fault(lambda: inner(request, context), context)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _streaming(self, handler: Any) -> Any:
        async def passing(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            passed = 0
            async for message in messages:
                if passed == 0:
                    self.streams.append(referral_pb2.PutAttachmentRequest.FromString(message))
                if self.messages_max is not None and passed >= self.messages_max:
                    await asyncio.Event().wait()
                passed += 1
                yield message

        async def call(messages: AsyncIterator[bytes], context: Context) -> Any:
            return await handler.stream_unary(passing(messages), context)

        return grpc.stream_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def lose_answer(do: Do, context: Context) -> Any:
    await do()
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")


async def lose_request(do: Do, context: Context) -> Any:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the request was lost")


class SeededFault:
    """Drops, repeats and delays calls and answers, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    async def __call__(self, do: Do, context: Context) -> Any:
        match self._random.choices(
            ("good", "lost", "answer lost", "repeated", "late", "late and lost"), (40, 15, 20, 10, 10, 5)
        ):
            case ["lost"]:
                return await lose_request(do, context)
            case ["answer lost"]:
                return await lose_answer(do, context)
            case ["repeated"]:
                await do()
                return await do()
            case ["late"]:
                await asyncio.sleep(self._random.uniform(0.0, 0.3))
                return await do()
            case ["late and lost"]:
                await asyncio.sleep(self._random.uniform(0.0, 0.3))
                return await lose_answer(do, context)
            case _:
                return await do()


@dataclass(slots=True)
class Parts:
    """What runs of a node while it is up."""

    ledger: Ledger
    office: Office
    server: grpc.aio.Server
    courier: Courier
    links: Links
    reconciler: Reconciler


class Node:
    """One node. `place` and `link.fault` may be changed; a stopped node has no `parts`."""

    def __init__(self, codes: tuple[str, ...], folder: Path, paths: pki.CertificatePaths, place: Place) -> None:
        self.codes = codes
        self.paths = paths
        self.place = place
        self.link = Link()
        self.trust = Trust(paths, place.trees)
        self.seal = Seal(paths, self.trust)
        self.url = f"sqlite:///{folder / codes[0]}.db"
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        assert self._parts is not None, f"node {self.codes} is down"
        return self._parts

    @property
    def up(self) -> bool:
        return self._parts is not None

    async def start(self, *, deliver: bool = True) -> None:
        ledger = Ledger(self.url, self.codes)
        ledger.start()
        office = Office(ledger, self.place, self.seal.sign)
        links = Links(self.place.trees, self.paths)
        courier = Courier(office, links, self.seal)
        server = grpc.aio.server(interceptors=(self.link, Answering(self.trust)), options=tls.SERVER_OPTIONS)
        referrals = ReferralServicer(office, links, self.seal, courier.heard_from)
        links.answer_here(NodeItself(referrals, self.codes))
        referral_pb2_grpc.add_ReferralServiceServicer_to_server(referrals, server)
        reconciler = Reconciler(office, links, hour=RECONCILE_HOUR, days=RECONCILE_DAYS)
        reconciliation_pb2_grpc.add_ReconciliationServiceServicer_to_server(
            ReconciliationServicer(office, reconciler), server
        )
        supervision_pb2_grpc.add_SupervisionServiceServicer_to_server(
            SupervisionServicer(office, links, self.seal, courier.heard_from), server
        )
        port = server.add_secure_port(self.place.tree.get(self.codes[0]).endpoint, tls.server_credentials(self.paths))
        assert port
        await server.start()
        self._parts = Parts(ledger, office, server, courier, links, reconciler)
        if deliver:
            await courier.start()

    async def stop(self) -> None:
        parts, self._parts = self._parts, None
        if parts is None:
            return
        await parts.server.stop(0)
        await parts.courier.stop()
        await parts.links.close()
        await asyncio.to_thread(parts.ledger.close)


class Federation:
    """The nodes, their common clock, and what officers do."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock(MONDAY)
        self.authority = folder / "pki"
        self.folder = folder
        pki.init_authority(self.authority, "Test federation")
        ports = dict(zip(NODES, free_ports(len(NODES)), strict=True))
        endpoints = {code: f"127.0.0.1:{port}" for codes, port in ports.items() for code in codes}
        self.tree = BureauTree("test", (replace(bureau, endpoint=endpoints[bureau.code]) for bureau in BUREAUS))
        self.place = Place(self.tree, published_calendar(), Rules(), self.clock)
        self.nodes = [
            Node(codes, folder, pki.issue(self.authority, folder / codes[0], "node", codes), self.place)
            for codes in NODES
        ]
        self._serial = 0

    def node(self, bureau: str) -> Node:
        return next(node for node in self.nodes if bureau in node.codes)

    def office(self, bureau: str) -> Office:
        return self.node(bureau).parts.office

    async def register(self, bureau: str) -> str:
        self._serial += 1
        act = acts.Register(
            category=Category.SYSTEMS,
            channel=Channel.COUNTER,
            channel_reference=f"ref-{self._serial}",
            taxpayer_name="济南某某商贸有限公司",
            taxpayer_number=make_taxpayer_number("370102", self._serial),
            contact="13800138000",
            text=TEXT,
            place="",
            answer="",
        )
        return (await self.act(bureau, "", act, Role.REGISTRAR)).case_id

    async def act(
        self, bureau: str, case_id: str, act: Act, role: Role = Role.TAX_SERVICE, actor: str = "officer-1"
    ) -> Case:
        department = "systems" if role is Role.HANDLER else "tax-service"
        header = Header(bureau=bureau, case_id=case_id, actor=actor, role=role, department=department)
        return (await self.office(bureau).perform(header, act)).case

    async def attach(self, bureau: str, case_id: str, content: bytes, name: str = "合同.pdf", **more: Any) -> Case:
        """A file becomes one of the case's, as an officer's terminal would send it."""
        file: dict[str, Any] = {"digest": sha256(content).hexdigest(), "size_bytes": len(content)}
        act = acts.Attach(name=name, media_type="application/pdf", **file | more)
        header = Header(
            bureau=bureau, case_id=case_id, actor="officer-1", role=Role.TAX_SERVICE, department="tax-service"
        )
        return (await self.office(bureau).attach(header, act, pieces_of(content))).case

    async def content(self, bureau: str, case_id: str, digest: str) -> bytes:
        """A file of the case as an officer of the bureau reads it."""
        return b"".join([piece async for piece in self.office(bureau).read_attachment(bureau, case_id, digest)])

    def attachments(self, bureau: str, case_id: str) -> list[Attachment]:
        database = self.office(bureau).ledger.database
        case = queries.one_case(database, bureau, case_id)
        return list(queries.attachments_of(database, case)) if case is not None else []

    async def refer(self, bureau: str, case_id: str, final_bureau: str, reason: str = "超出本级权限") -> Case:
        act = acts.Refer(final_bureau=final_bureau, reason=reason, telling=Telling.TRANSFERRED, told="已转上级")
        return await self.act(bureau, case_id, act)

    async def handle(self, bureau: str, case_id: str, result: str = "税控设备已更换") -> Case:
        """A received case is dispatched, completed and fed back."""
        await self.act(bureau, case_id, acts.Dispatch(to_department="systems", note=""))
        await self.complete(bureau, case_id, result)
        return await self.act(
            bureau, case_id, acts.GiveFeedback(told="已电话告知", told_by=Channel.HOTLINE), Role.HANDLER, "handler-1"
        )

    async def complete(self, bureau: str, case_id: str, result: str) -> Case:
        return await self.act(bureau, case_id, acts.Complete(result=result), Role.HANDLER, "handler-1")

    async def write_off(self, bureau: str, case_id: str) -> Case:
        return await self.act(bureau, case_id, acts.WriteOff(note=""))

    async def case(self, bureau: str, case_id: str) -> Case:
        return await self.office(bureau).read_case(bureau, case_id)

    def known(self, bureau: str, case_id: str) -> Case | None:
        return queries.one_case(self.office(bureau).ledger.database, bureau, case_id)

    def history(self, bureau: str, case_id: str) -> list[HistoryEntry]:
        return queries.history(self.office(bureau).ledger.database, bureau, case_id, private=True)

    def events(self, bureau: str, case_id: str) -> list[str]:
        return [type(item.entry.event).__name__ for item in self.history(bureau, case_id)]

    async def reached(self, bureau: str, case_id: str, *states: Custody | Stage) -> Case:
        """The case once it is so in that ledger."""

        def so() -> Case | None:
            case = self.known(bureau, case_id)
            # By identity: words of two kinds with the same number are equal.
            return case if case and all(state is case.custody or state is case.stage for state in states) else None

        return await until(so)

    def custodians(self, case_id: str) -> list[str]:
        """The bureaus whose ledgers say that the case is theirs, as far as their nodes are up."""
        return [
            code
            for node in self.nodes
            for code in node.codes
            if (case := self.known(code, case_id)) is not None and case.custody is Custody.OWNED
        ]

    def channel(self, to_bureau: str, paths: pki.CertificatePaths) -> grpc.aio.Channel:
        return tls.open_channel(self.tree.get(to_bureau).endpoint, pki.dns_name("node", to_bureau), paths)

    @asynccontextmanager
    async def stub(self, to_bureau: str, paths: pki.CertificatePaths) -> AsyncIterator[ReferralServiceStub]:
        async with self.channel(to_bureau, paths) as channel:
            yield ReferralServiceStub(channel)

    @asynccontextmanager
    async def supervision(self, to_bureau: str, paths: pki.CertificatePaths) -> AsyncIterator[SupervisionServiceStub]:
        async with self.channel(to_bureau, paths) as channel:
            yield SupervisionServiceStub(channel)


@asynccontextmanager
async def federation(folder: Path) -> AsyncIterator[Federation]:
    """All nodes up, for the time of the block."""
    made = Federation(folder)
    try:
        for node in made.nodes:
            await node.start()
        yield made
    finally:
        await asyncio.gather(*(node.stop() for node in made.nodes))


async def until(check: Callable[[], T | None], seconds: float = SECONDS) -> T:
    """The first true answer; fails when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < end, "it did not come to pass in time"
        await asyncio.sleep(0.02)


async def pieces_of(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """The content as a stream brings it, in pieces that fit nothing."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


def sealed(offer: referral_pb2.Offer, seal: Seal) -> referral_pb2.OfferRequest:
    payload = offer.SerializeToString()
    return referral_pb2.OfferRequest(offer=payload, signature=seal.sign(payload))


def free_ports(count: int) -> list[int]:
    """Ports that no outgoing connection takes while a node is down; the one used longest ago comes again."""
    ports = [_ports.popleft() if len(_ports) >= PORTS_KEPT else free_port() for _ in range(count)]
    _ports.extend(ports)
    return ports
