"""Every call from every kind of certificate of every relation, over mutual TLS: who is refused, and that nothing changes.

Node and hub are the ones that are served; what is expected stands in `tests.authority`. Requests are well formed and
empty of content, so that whoever is let in is refused for something else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import grpc
import grpc.aio
import pytest
import pytest_asyncio
import sqlalchemy as sa
from argon2 import PasswordHasher
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from demo.federation import tree_text
from hub import service as hub_service
from hub.settings import HubSettings
from kuaixiang.accounts.users import User, save_users
from kuaixiang.domain.labels import name
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Role
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.clock import SharedClockDriver, to_micros
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import case_pb2, cosign_pb2, referral_pb2, sign_in_pb2, sign_in_pb2_grpc, supervision_pb2
from node import service as node_service
from node.settings import NodeSettings
from tests.authority import ASKED, BUREAUS, GROUP_OF, PEOPLE, ROLES, WHO, cells, methods
from tests.federation.bureaus import free_ports
from tests.node.callers import MORNING

KINDS: tuple[pki.Kind, ...] = get_args(pki.Kind)
SECONDS = 60.0
STREAM_SECONDS = 1.0
"""How long a stream that does not end is listened to: no refusal by then is none."""
ENDLESS = frozenset({"WatchCases"})
OF_THE_HUB = frozenset({"StatisticsService", "IssueService"})
OF_OFFICERS = frozenset({"SignInService"})
"""Answered by nodes at which officers sign in; this one's terminals are believed in all other calls."""
BY_WHO_HAS_SIGNED_IN = frozenset({"SignOut", "GetSignIn", "IssueToken", "RevokeToken", "ListTokens"}) | {
    "ListCallbacks",
    "RetryCallbacks",
    "DropCallbacks",
}
"""Nobody has, in these tests: whatever his certificate, he is refused."""
NOW_US = to_micros(MORNING)
NUMBER = "330106-2026-0000001"

STAFF = f"""
version = "1"
[{ASKED}.departments]
tax-service = {{ name = "纳税服务科", kind = "tax-service" }}
[{ASKED}.officers]
""" + "\n".join(
    f'{role.name} = {{ name = "任", roles = ["{name(role)}"], departments = ["tax-service"] }}'
    for role in sorted(PEOPLE)
)
"""An officer for each role, numbered by its name."""
PASSWORD = "correct horse battery"

Subject = tuple[str, str]
"""Kind of certificate, relation of its bureau."""


class Served:
    """A node and a hub of the bureau that everything is asked of, and channels to them from everybody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node_channels: dict[Subject, grpc.aio.Channel] = {}
        self.hub_channels: dict[Subject, grpc.aio.Channel] = {}
        self.officers_channels: dict[Subject, grpc.aio.Channel] = {}
        self.node: node_service.Running
        self._authority = folder / "authority"
        pki.init_authority(self._authority, "test")

    def certificate(self, kind: pki.Kind, code: str) -> pki.CertificatePaths:
        return pki.issue(self._authority, self.folder / f"{kind}-{code}", kind, [code])

    async def start(self, stack: AsyncExitStack) -> None:
        ports = dict(zip((one.code for one in BUREAUS), free_ports(len(BUREAUS)), strict=True))
        tree = BureauTree("2026.1", (replace(one, endpoint=f"127.0.0.1:{ports[one.code]}") for one in BUREAUS))
        (self.folder / "tree.csv").write_text(tree_text(tree), encoding="utf-8")
        stack.callback(SharedClockDriver(self.folder / "clock", MORNING).close)
        shared: dict[str, Any] = {
            "tree": self.folder / "tree.csv",
            "listen": "127.0.0.1:0",
            "metrics_port": 0,
            "clock": self.folder / "clock",
        }
        certificates = {
            (kind, relation): self.certificate(kind, code) for kind in KINDS for relation, code in WHO.items()
        }
        own = read_settings(
            NodeSettings,
            bureaus=(ASKED,),
            database=f"sqlite:///{self.folder / 'node.db'}",
            certificates=self.folder / f"node-{ASKED}",
            nats_url=None,
            cosigned_start_seconds=0.0,  # no superior is up to say that the ledger is the latest
            **shared,
        )
        self.node = await stack.enter_async_context(node_service.running(own))
        officers = await stack.enter_async_context(node_service.running(self.with_sign_in(own)))
        (nobody,) = free_ports(1)
        counting = read_settings(
            HubSettings,
            scope=ASKED,
            database=f"sqlite:///{self.folder / 'hub.db'}",
            certificates=self.folder / f"hub-{ASKED}",
            nats_url=f"nats://127.0.0.1:{nobody}",
            settle_seconds=0.0,
            **shared,
        )
        hub = await stack.enter_async_context(hub_service.running(counting))
        for subject, paths in certificates.items():
            for channels, port, kind in (
                (self.node_channels, self.node.port, "node"),
                (self.officers_channels, officers.port, "node"),
                (self.hub_channels, hub.port, "hub"),
            ):
                name = pki.dns_name("node" if kind == "node" else "hub", ASKED)
                channels[subject] = await stack.enter_async_context(tls.open_channel(f"127.0.0.1:{port}", name, paths))

    def with_sign_in(self, settings: NodeSettings) -> NodeSettings:
        """The same node over a ledger of its own, whose officers sign in."""
        staff, users = self.folder / "staff.toml", self.folder / "users.toml"
        staff.write_text(STAFF, encoding="utf-8")
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        save_users(users, {(ASKED, role.name): User(quick) for role in PEOPLE})
        other = {"database": f"sqlite:///{self.folder / 'officers.db'}", "staff": staff, "users": users}
        return read_settings(NodeSettings, **{**settings.model_dump(), **other})

    def everything(self) -> dict[str, list[Any]]:
        """Every row of the node's database."""
        engine = sa.create_engine(f"sqlite:///{self.folder / 'node.db'}")
        try:
            with engine.connect() as connection:
                tables = sa.inspect(engine).get_table_names()
                return {table: list(connection.execute(sa.text(f'SELECT * FROM "{table}"'))) for table in tables}
        finally:
            engine.dispose()

    async def sign_in(self, role: Role) -> str:
        """At an office of the bureau asked, as its officer of that role."""
        proof = sign_in_pb2.SignInRequest(bureau=ASKED, actor=role.name, password=PASSWORD)
        stub: Any = sign_in_pb2_grpc.SignInServiceStub(self.officers_channels["office", "self"])
        answer: sign_in_pb2.SignInResponse = await stub.SignIn(proof, timeout=SECONDS)
        return answer.token

    async def ask(self, rpc: str, subject: Subject, role: Role | None = None, token: str = "", *, refused: bool) -> str:
        """The rule by which the call is refused, or the code that it ends with; in a role by who has signed in.

        `refused`: whether it has to be, however long a busy machine takes for that; else no refusal is waited for.
        """
        method = methods()[rpc]
        service = method.containing_service
        channels = self.hub_channels if service.name in OF_THE_HUB else self.node_channels
        channel = (self.officers_channels if service.name in OF_OFFICERS or role else channels)[subject]
        request = request_of(rpc, WHO[subject[1]], role)
        shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        make: Any = getattr(channel, shape)(
            f"/{service.full_name}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        call = make(
            iter([request]) if method.client_streaming else request,
            timeout=STREAM_SECONDS if rpc in ENDLESS and not refused else SECONDS,
            metadata=(("authorization", f"Bearer {token}"),) if token else None,
        )
        try:
            if method.server_streaming:
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            refusal = from_call(error)
            return refusal.rule if refusal is not None and refusal.rule else error.code().name
        return "OK"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        made = Served(tmp_path)
        await made.start(stack)
        yield made


# ---------------------------------------------------------------- requests that only the table can refuse


def header(role: Role | None = None) -> case_pb2.ActHeader:
    in_the_role: Any = (role or Role.TAX_SERVICE).value
    return case_pb2.ActHeader(
        bureau=ASKED,
        case_id=NUMBER,
        actor=role.name if role else "officer-1",
        role=in_the_role,
        department="tax-service",
    )


def offer(code: str) -> referral_pb2.OfferRequest:
    """Of that bureau, unsigned."""
    made = referral_pb2.Offer(
        referral_id="r-1",
        case_id=NUMBER,
        epoch=1,
        from_bureau=code,
        to_bureau=ASKED,
        final_bureau=ASKED,
        path=[code],
        offered_at_us=NOW_US,
    )
    made.snapshot.origin_bureau = code
    made.snapshot.registered_at_us = NOW_US
    return referral_pb2.OfferRequest(offer=made.SerializeToString())


def statement(code: str) -> supervision_pb2.DeliverOrderRequest:
    made = supervision_pb2.OrderStatement(
        order_id="330000-D-2026-1",
        nonce="n-1",
        step=1,
        from_bureau=code,
        to_bureau=ASKED,
        issuer=code,
        final_bureau=ASKED,
        text="请尽快办理",
        answer_workdays=3,
        issued_at_us=NOW_US,
    )
    return supervision_pb2.DeliverOrderRequest(statement=made.SerializeToString())


def report(code: str) -> supervision_pb2.ReportOrderRequest:
    made = supervision_pb2.OrderReport(
        order_id="330100-D-2026-1",
        nonce="n-1",
        step=1,
        from_bureau=code,
        to_bureau=ASKED,
        received_at_us=NOW_US,
        due_at_us=NOW_US + 24 * 3600 * 1_000_000,
        limit_workdays=1,
    )
    return supervision_pb2.ReportOrderRequest(report=made.SerializeToString())


def shown_head(code: str) -> cosign_pb2.CosignHeadRequest:
    made = cosign_pb2.HeadStatement(
        bureau=code, generation=1, seq=1, hash=b"x" * 32, witness=ASKED, stated_at_us=NOW_US
    )
    return cosign_pb2.CosignHeadRequest(statement=made.SerializeToString())


SPECIAL: dict[str, Callable[[str], Message]] = {
    "Offer": offer,
    "PutAttachment": lambda code: referral_pb2.PutAttachmentRequest(offer=offer(code), digest="0" * 64),
    "DeliverOrder": statement,
    "ReportOrder": report,
    "CosignHead": shown_head,
    "GetCosigned": lambda code: cosign_pb2.GetCosignedRequest(bureau=code, witness=ASKED),
    "ReadWitnessed": lambda code: cosign_pb2.ReadWitnessedRequest(bureau=code, witness=ASKED),
}
FIELDS: dict[str, Callable[[str], Any]] = {
    "bureau": lambda _: ASKED,
    "scope": lambda _: ASKED,
    "subordinate": lambda _: ASKED,
    "to_bureau": lambda _: ASKED,
    "from_bureau": lambda code: code,
    "peer": lambda code: code,
    "handled_by": lambda code: code,
    "case_id": lambda _: NUMBER,
    "referral_id": lambda _: "r-1",
    "epoch": lambda _: 1,
    "offered_at_us": lambda _: NOW_US,
    "completed_at_us": lambda _: NOW_US,
    "outcome": lambda _: 1,
    "format": lambda _: 1,
}
"""What a field of a request is given, where it has it: what it is about, and what is looked at before who asks."""


def request_of(rpc: str, code: str, role: Role | None = None) -> Message:
    """A request of a bureau about the bureau asked, with a form that passes and nothing to do in it."""
    if rpc == "RegisterCases":
        return case_pb2.RegisterCasesRequest(registrations=[case_pb2.RegisterCaseRequest(header=header(role))])
    if rpc in SPECIAL:
        return SPECIAL[rpc](code)
    kind = methods()[rpc].input_type
    request: Message = GetMessageClass(kind)()
    fields: Any = request
    for field in kind.fields:
        if field.name == "header":
            fields.header.CopyFrom(header(role))
        elif field.name == "bureaus":
            fields.bureaus.append(ASKED)
        elif field.name in FIELDS and field.type != FieldDescriptor.TYPE_MESSAGE:
            setattr(request, field.name, FIELDS[field.name](code))
    return request


def expected(rpc: str) -> Iterator[tuple[Subject, bool]]:
    """Who is let in. Nobody has handed over the case that is followed here, so that only the bureau's own follow it."""
    for kind, relation, allowed in cells(rpc):
        yield (kind, relation), allowed and rpc not in BY_WHO_HAS_SIGNED_IN and (rpc != "Track" or relation == "self")


# ---------------------------------------------------------------- the attack


async def test_each_call_from_each_wrong_certificate_is_refused_and_changes_nothing(served: Served) -> None:
    before = served.everything()
    assert {"journal", "decisions", "requests"} <= set(before)
    passed: dict[tuple[str, Subject], str] = {}
    for rpc in methods():
        wrong = [subject for subject, allowed in expected(rpc) if not allowed]
        answers = await asyncio.gather(*(served.ask(rpc, subject, refused=True) for subject in wrong))
        refusals = {"NotAuthorised", *(["NotSignedIn"] if rpc in BY_WHO_HAS_SIGNED_IN else [])}
        passed |= {(rpc, one): told for one, told in zip(wrong, answers, strict=True) if told not in refusals}
    assert {} == passed
    assert before == served.everything()


async def test_each_call_from_each_right_certificate_comes_through(served: Served) -> None:
    """What it is then refused for is something else, and no handler answers without having asked who calls."""
    refused: dict[tuple[str, Subject], str] = {}
    let_in = 0
    for rpc in methods():
        right = [subject for subject, allowed in expected(rpc) if allowed]
        answers = await asyncio.gather(*(served.ask(rpc, subject, refused=False) for subject in right))
        let_in += len(right)
        for subject, answer in zip(right, answers, strict=True):
            if answer in {"NotAuthorised", "NoRuleForCall", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "UNAVAILABLE"}:
                refused[rpc, subject] = answer
    assert {} == refused
    assert len(methods()) < let_in


@pytest.mark.slow
async def test_each_call_of_an_officer_who_has_signed_in_is_held_to_his_roles(served: Served) -> None:
    told: dict[tuple[str, str], str] = {}
    of_the_node = [rpc for rpc, method in methods().items() if method.containing_service.name not in OF_THE_HUB]
    office = ("office", "self")
    at_an_office = {rpc: allowed for rpc in methods() for *one, allowed in cells(rpc) if tuple(one) == office}
    for role in sorted(PEOPLE):
        token = await served.sign_in(role)
        # The one that ends the sign-in comes last.
        for rpc in sorted(of_the_node, key=lambda one: one == "SignOut"):
            let_in = at_an_office[rpc] and role in ROLES[rpc]
            answer = await served.ask(rpc, office, role, token, refused=not let_in)
            refused = "NotForOfficer" if at_an_office[rpc] else "NotAuthorised"
            if (answer == refused) is let_in or answer in {"NotSignedIn", "NotYourRole", "INTERNAL", "UNAVAILABLE"}:
                told[rpc, role.name] = answer
    assert {} == told


def test_every_call_is_asked() -> None:
    assert set(methods()) <= set(GROUP_OF)
