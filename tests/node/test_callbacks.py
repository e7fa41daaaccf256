"""What is told to the outside: web hooks of channels and messages to taxpayers, at least once, until they are given up."""

import asyncio
import base64
import contextlib
import errno
import hashlib
import hmac
import itertools
import json
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from demo.processes import free_port
from kuaixiang.domain.authority import NotForOfficer
from kuaixiang.domain.errors import FieldMissing
from kuaixiang.domain.events import PrivateRead
from kuaixiang.domain.sign_in import NotSignedIn
from kuaixiang.runtime.settings import WrongSetting, read_settings
from kuaixiang.wire.codec import event_name_of
from kuaixiang.wire.v1 import callback_pb2, callback_pb2_grpc, case_pb2, common_pb2
from node import service
from node.callbacks import engine, opening, web_hook
from node.callbacks.engine import NotDelivered
from node.callbacks.hook_file import TOLD, load_hooks
from node.callbacks.notifier import Notification, NotifierUnusable, Spool, notifier_of
from node.callbacks.servicer import UnknownSink
from node.callbacks.web_hook import WebHook
from node.ledger import callbacks, queries
from node.ledger.ledger import Callback
from node.settings import NodeSettings
from tests.node.callers import COUNTY, PROVINCE, Callers, refusal_of
from tests.node.gateways import REQUEST, Gateway, with_gateway
from tests.node.processes import node_process, start

KEY = b"0123456789abcdef0123456789abcdef"
SINK = f"hook:{COUNTY}:website"
SECONDS = 60.0


@dataclass
class Receiver:
    """A channel's receiver: what came, and what it answers, the last answer from then on; 500 to what it refuses."""

    statuses: list[int] = field(default_factory=lambda: [200])
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    elsewhere: int = 0
    refused: str = ""
    """A case of which it cannot be told."""
    refused_at: list[float] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: asyncio.Event = field(default_factory=asyncio.Event)
    """Until these are set it lets others, and what it refuses, wait for its answer."""

    def __post_init__(self) -> None:
        self.answers.set()
        self.refuses.set()

    async def hook(self, request: Request) -> Response:
        body = await request.body()
        if self.refused and json.loads(body)["data"]["case_id"] == self.refused:
            self.refused_at.append(time.monotonic())
            await self.refuses.wait()
            return Response(status_code=500)
        self.came.append((dict(request.headers), body))
        await self.answers.wait()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == HTTPStatus.FOUND:
            return RedirectResponse("/elsewhere")
        return Response("x" * 100_000, status)

    async def other(self, _: Request) -> Response:
        self.elsewhere += 1
        return Response()

    def ids(self) -> list[str]:
        """Of what came, the oldest first."""
        return [headers["webhook-id"] for headers, _ in self.came]

    def verified(self) -> list[dict[str, Any]]:
        """What came, after its signatures have been verified as the standard says, by nothing of the product."""
        for headers, body in self.came:
            assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
            assert is_signed(headers, body, KEY)
        return [json.loads(body) for _, body in self.came]


def is_signed(headers: dict[str, str], body: bytes, key: bytes) -> bool:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return f"v1,{expected}" == headers["webhook-signature"]


async def until(true: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def listening(receiver: Receiver, port: int) -> AsyncIterator[Receiver]:
    async with serving(receiver, port):
        yield receiver


def serving(receiver: Receiver, port: int) -> Any:
    """The receiver at its port, during the block."""
    app = Starlette(routes=[Route("/kx", receiver.hook, methods=["POST"]), Route("/elsewhere", receiver.other)])

    @contextlib.asynccontextmanager
    async def run() -> AsyncIterator[None]:
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
        serves = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = True
            await serves

    return run()


def hooks_file(folder: Path, url: str, **more: str) -> Path:
    secret = folder / "website.secret"
    secret.touch(0o600)
    secret.write_text(f"whsec_{base64.b64encode(KEY).decode()}", encoding="ascii")
    file = folder / "hooks.toml"
    given = {"url": f'"{url}"', "secret": '"website.secret"'} | more
    lines = "\n".join(f"{name} = {value}" for name, value in given.items())
    file.write_text(f"[{COUNTY}.website]\n{lines}\n", encoding="utf-8")
    return file


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path, port: int) -> NodeSettings:
    hooks = hooks_file(tmp_path, f"http://127.0.0.1:{port}/kx")
    spool = {"file": str(tmp_path / "messages.ndjson")}
    return with_gateway(settings, tmp_path, hooks=hooks, notifier="spool", notifier_options=spool)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MIN", 0.05)
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MAX", 0.2)
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(opening, "LOOK_SECONDS", 0.05)


async def registered(gateway: Gateway, reference: str = "W-1") -> str:
    async with await gateway.client() as program:
        made = await program.post("/v1/cases", json=REQUEST | {"channel_reference": reference})
    assert made.status_code in {200, 201}, made.text
    case_id: str = made.json()["case_id"]
    return case_id


async def fed_back(gateway: Gateway, callers: Callers, reference: str = "W-1") -> str:
    """A case of the channel that tax service has answered on the spot."""
    case_id = await registered(gateway, reference)
    header = case_pb2.ActHeader(
        bureau=COUNTY, case_id=case_id, actor="T01", role=common_pb2.ROLE_REGISTRAR, department="tax-service"
    )
    request = case_pb2.AnswerOnTheSpotRequest(header=header, answer="按季申报即可享受。")
    await callers.office().AnswerOnTheSpot(request, metadata=await gateway.signed_in("T01"))
    return case_id


async def listed(gateway: Gateway, callers: Callers, **asked: Any) -> list[callback_pb2.Callback]:
    if not gateway._leader:
        await gateway.issue()
    answer = await stub(callers).ListCallbacks(
        callback_pb2.ListCallbacksRequest(header=gateway._header(), **asked), metadata=gateway.signed()
    )
    return list(answer.callbacks)


def stub(callers: Callers) -> Any:
    return callback_pb2_grpc.CallbackServiceStub(callers.channel("office", COUNTY))


async def test_a_channel_is_told_that_its_case_is_fed_back_signed_and_without_private_data(
    gateway: Gateway, callers: Callers, listening: Receiver
) -> None:
    listening.statuses = [500, 500, 200]
    case_id = await fed_back(gateway, callers)
    await until(lambda: len(listening.came) == 3)
    first, second, third = listening.verified()
    assert first == second == third
    assert 1 == len({headers["webhook-id"] for headers, _ in listening.came})
    assert "case.fed_back" == first["type"]
    async with await gateway.client() as program:
        assert (await program.get(f"/v1/cases/{case_id}")).json() == first["data"]
    assert "closed" == first["data"]["status"]
    for private in ("taxpayer_name", "contact", "text"):
        assert REQUEST[private].encode() not in listening.came[0][1]
    async with asyncio.timeout(SECONDS):
        while await listed(gateway, callers):
            await asyncio.sleep(0.05)


async def test_a_delivery_that_its_receiver_refuses_holds_up_none_of_the_others(
    gateway: Gateway, callers: Callers, listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MIN", 3_600.0)
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MAX", 3_600.0)
    listening.refused = await registered(gateway, "REFUSED")
    await fed_back(gateway, callers, "REFUSED")
    await until(lambda: listening.refused_at)
    for number in range(3):
        case_id = await fed_back(gateway, callers, f"N-{number}")
        await until(lambda: len(listening.came) == number + 1)  # noqa: B023 - at once
        assert case_id == listening.verified()[-1]["data"]["case_id"]
    async with asyncio.timeout(SECONDS):
        while len(found := await listed(gateway, callers)) > 1:
            await asyncio.sleep(0.05)
    (waits,) = found
    assert (listening.refused, 1, "HTTP 500", False) == (waits.case_id, waits.attempts, waits.failure, waits.given_up)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is begun after this waits for an answer longer than a test lasts."""
    monkeypatch.setattr(web_hook, "ANSWER_SECONDS_MAX", 10 * SECONDS)


@pytest.mark.usefixtures("patient")
async def test_a_delivery_whose_answer_does_not_come_holds_up_none_of_the_others(
    gateway: Gateway, callers: Callers, listening: Receiver
) -> None:
    listening.refused = await registered(gateway, "REFUSED")
    listening.refuses.clear()
    await fed_back(gateway, callers, "REFUSED")
    await until(lambda: listening.refused_at)
    try:
        await fed_back(gateway, callers, "N")
        await until(lambda: listening.came)
        assert 1 == len(listening.refused_at)
    finally:
        listening.refuses.set()
    await until(lambda: len(listening.refused_at) > 1)


async def test_a_delivery_that_is_refused_is_tried_ever_more_seldom_while_others_succeed(
    gateway: Gateway, callers: Callers, listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MAX", 3_600.0)
    listening.refused = await registered(gateway, "REFUSED")
    await fed_back(gateway, callers, "REFUSED")
    for number in range(5):
        await until(lambda: len(listening.refused_at) > number)  # noqa: B023 - at once
        await fed_back(gateway, callers, f"N-{number}")
        await until(lambda: len(listening.came) > number)  # noqa: B023 - at once
    await until(lambda: len(listening.refused_at) > 5)
    for number, (before, after) in enumerate(itertools.pairwise(listening.refused_at)):
        assert after - before >= 0.05 * 2**number * (1 - engine.SPREAD), number


async def test_a_receiver_that_is_away_is_asked_by_one_delivery_and_when_it_is_back_told_of_all(
    gateway: Gateway, callers: Callers, listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MIN", 3_600.0)
    monkeypatch.setattr(engine, "BACKOFF_SECONDS_MAX", 3_600.0)
    listening.statuses = [503]
    await fed_back(gateway, callers, "FIRST")
    await until(lambda: len(listening.came) == 1)
    # A second one asks at once, whether it was the first one's fault; after that they wait.
    for number in range(5):
        await fed_back(gateway, callers, f"N-{number}")
    await until(lambda: len(listening.came) == 2)
    async with asyncio.timeout(SECONDS):
        while len(await listed(gateway, callers, sink=SINK)) < 6:
            await asyncio.sleep(0.05)
    assert 2 == len(listening.came)
    listening.statuses = [200]
    request = callback_pb2.RetryCallbacksRequest(header=gateway._header(), sink=SINK)
    assert 6 == (await stub(callers).RetryCallbacks(request, metadata=gateway.signed())).retried
    await until(lambda: len(listening.came) == 8)
    assert 6 == len(set(listening.ids()[2:]))


async def test_what_is_wanted_again_while_it_is_being_delivered_is_told_once(
    gateway: Gateway, callers: Callers, node: service.Running, listening: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening.answers.clear()
    await fed_back(gateway, callers)
    await until(lambda: listening.came)
    loop = asyncio.get_running_loop()
    kept, database = callbacks.kept, node.office.ledger.database

    def slowly(*given: Any, **asked: Any) -> list[Callback]:
        found = kept(*given, **asked)
        # The receiver answers when the leader's call has read what waits, and has not written yet.
        loop.call_soon_threadsafe(listening.answers.set)
        until_at = time.monotonic() + 1
        while kept(database, COUNTY, sink=SINK, dead=None, limit=1) and time.monotonic() < until_at:
            time.sleep(0.02)
        return found

    await gateway.issue()
    with monkeypatch.context() as during:
        during.setattr(callbacks, "kept", slowly)
        request = callback_pb2.RetryCallbacksRequest(header=gateway._header(), sink=SINK)
        assert 1 == (await stub(callers).RetryCallbacks(request, metadata=gateway.signed())).retried
    await fed_back(gateway, callers, "LATER")
    await until(lambda: len(set(listening.ids())) == 2)
    async with asyncio.timeout(SECONDS):
        while await listed(gateway, callers, sink=SINK):
            await asyncio.sleep(0.05)
    assert 2 == len(listening.came)


async def test_a_delivery_that_was_under_way_when_all_was_wanted_again_makes_nobody_wait(
    settings: NodeSettings,
) -> None:
    assert settings.hooks is not None
    (hook,) = load_hooks(settings.hooks, (COUNTY,))
    office: Any = SimpleNamespace()
    told = engine.Callbacks(office, WebHook(hook, office, lambda _: {}), 72.0, engine.Totals())
    away = NotDelivered("ReadTimeout", receiver_away=True)

    async def hanging() -> NotDelivered | None:
        return away

    def begun() -> engine._Flight:
        return engine._Flight(Callback(SINK, COUNTY, 1, 1, "C-1", "told", 0, 0), told._doubt)

    for _ in range(5):
        told._judge([(begun(), away)])
    assert told._pause_until > time.time()
    hangs = asyncio.create_task(hanging())
    told._under_way = {hangs: begun()}
    # Somebody has mended the receiver, and what was begun then has got through before the one that hangs is given up.
    told.look_again()
    told._judge([(begun(), None)])
    for _ in range(2):
        told._judge([(told._under_way[hangs], away)])
        assert (1, 0.0) == (told._doubt, told._pause_until)
    await hangs
    await told.sink.close()


def test_of_an_answer_that_may_be_one_messages_fault_no_wish_to_wait_is_heeded() -> None:
    for status, waits in ((500, 0.0), (503, 30.0), (429, 30.0), (302, 0.0), (422, 30.0)):
        with pytest.raises(NotDelivered) as failed:
            web_hook._check(status, "30")
        assert (status != 422, waits) == (failed.value.receiver_away, failed.value.wait_seconds), status


async def test_a_receiver_that_is_away_for_long_is_given_up_listed_and_told_when_somebody_wants_it(
    settings: NodeSettings, port: int, receiver: Receiver, tmp_path: Path
) -> None:
    soon = read_settings(NodeSettings, **settings.model_dump() | {"callback_hours": 1e-4})
    async with service.running(soon) as running:
        callers = Callers(running.port, tmp_path)
        gateway = Gateway(running, callers)
        case_id = await fed_back(gateway, callers)
        async with asyncio.timeout(SECONDS):
            while not (dead := await listed(gateway, callers, given_up=True)):
                await asyncio.sleep(0.05)
        assert [(SINK, case_id, True, "ConnectError")] == [
            (one.sink, one.case_id, one.given_up, one.failure) for one in dead
        ]
        async with serving(receiver, port):
            await asyncio.sleep(0.3)
            assert [] == receiver.came
            request = callback_pb2.RetryCallbacksRequest(header=gateway._header(), sink=SINK, seq=dead[0].seq)
            assert 1 == (await stub(callers).RetryCallbacks(request, metadata=gateway.signed())).retried
            await until(lambda: receiver.came)
            assert ["case.fed_back"] == [told["type"] for told in receiver.verified()]
        await callers.close()


async def test_what_was_given_up_is_dropped_by_a_leader_and_by_nobody_else(
    gateway: Gateway, callers: Callers, listening: Receiver
) -> None:
    listening.statuses = [HTTPStatus.GONE]
    await fed_back(gateway, callers)
    async with asyncio.timeout(SECONDS):
        while not await listed(gateway, callers, given_up=True):
            await asyncio.sleep(0.05)
    assert 1 == len(listening.came)
    drop = callback_pb2.DropCallbacksRequest(header=gateway._header(), sink=SINK)
    service_ = case_pb2.ActHeader(
        bureau=COUNTY, actor="T01", role=common_pb2.ROLE_TAX_SERVICE, department="tax-service"
    )
    door = stub(callers)
    other = await gateway.signed_in("T01")
    for request, metadata, rule in (
        (callback_pb2.DropCallbacksRequest(header=service_, sink=SINK), other, NotForOfficer),
        (callback_pb2.DropCallbacksRequest(header=gateway._header(), sink="hook:x"), gateway.signed(), UnknownSink),
        (callback_pb2.DropCallbacksRequest(header=gateway._header()), gateway.signed(), FieldMissing),
        (drop, None, NotSignedIn),
    ):
        assert rule.__name__ == (await refusal_of(door.DropCallbacks(request, metadata=metadata))).rule
    (one,) = await listed(gateway, callers)
    drop.seq = one.seq + 1
    assert 0 == (await door.DropCallbacks(drop, metadata=gateway.signed())).dropped
    drop.seq = one.seq
    assert 1 == (await door.DropCallbacks(drop, metadata=gateway.signed())).dropped
    assert [] == await listed(gateway, callers)
    assert 1 == len(listening.came)


async def test_what_waits_for_a_hook_that_was_taken_out_can_be_dropped(settings: NodeSettings, tmp_path: Path) -> None:
    bare = read_settings(NodeSettings, **settings.model_dump() | {"hooks": None, "notifier": ""})
    for one in (settings, bare):
        async with service.running(one) as running:
            callers = Callers(running.port, tmp_path)
            gateway = Gateway(running, callers)
            if one is settings:
                await fed_back(gateway, callers)
                async with asyncio.timeout(SECONDS):
                    while not await listed(gateway, callers, sink=SINK):
                        await asyncio.sleep(0.05)
            else:
                assert [False] == [waits.given_up for waits in await listed(gateway, callers, sink=SINK)]
                drop = callback_pb2.DropCallbacksRequest(header=gateway._header(), sink=SINK)
                assert 1 == (await stub(callers).DropCallbacks(drop, metadata=gateway.signed())).dropped
            await callers.close()


async def test_a_redirect_is_not_followed(gateway: Gateway, callers: Callers, listening: Receiver) -> None:
    listening.statuses = [HTTPStatus.FOUND, 200]
    await fed_back(gateway, callers)
    await until(lambda: len(listening.came) == 2)
    assert 0 == listening.elsewhere


async def test_a_receiver_that_answers_a_letter_at_a_time_holds_up_its_hook_no_longer_than_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_up = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for letter in b"HTTP/1.1 200 OK" + b"x" * 50_000:
                writer.write(bytes([letter]))
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        hung_up.set()

    async def body(_: Callback) -> bytes:
        return b"{}"

    monkeypatch.setattr(web_hook, "ANSWER_SECONDS_MAX", 0.5)
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (hook,) = load_hooks(hooks_file(tmp_path, f"http://127.0.0.1:{port}/kx"), (COUNTY,))
        sink = WebHook(hook, SimpleNamespace(), dict)  # type: ignore[arg-type]
        monkeypatch.setattr(sink, "_body", body)
        try:
            async with asyncio.timeout(SECONDS):
                with pytest.raises(NotDelivered, match="TimeoutError") as failed:
                    await sink.deliver(Callback(sink.name, COUNTY, 1, 1, "", next(iter(TOLD)), 0, 0))
        finally:
            await sink.close()
        async with asyncio.timeout(SECONDS):
            await hung_up.wait()
    assert failed.value.receiver_away


async def test_what_is_recorded_while_nobody_looks_is_told_after_a_restart_and_nothing_older(
    settings: NodeSettings, tmp_path: Path, port: int, receiver: Receiver
) -> None:
    bare = read_settings(NodeSettings, **settings.model_dump() | {"hooks": None, "notifier": ""})
    for one, reference in ((bare, "OLD"), (settings, "SEEN"), (bare, "NEW"), (settings, "")):
        async with service.running(one) as running:
            if reference:
                callers = Callers(running.port, tmp_path)
                gateway = Gateway(running, callers)
                if one is settings:
                    database = running.office.ledger.database
                    await until(lambda: COUNTY in callbacks.cursors(database, SINK))  # noqa: B023 - at once
                await fed_back(gateway, callers, reference)
                await callers.close()
            else:
                async with serving(receiver, port):
                    await until(lambda: len(receiver.came) >= 2)
                    await asyncio.sleep(0.3)
    told = [body["data"]["case_id"] for body in receiver.verified()]
    assert ["000002", "000003"] == sorted(case_id[-6:] for case_id in set(told))


@pytest.mark.slow
async def test_a_node_killed_between_journal_and_delivery_delivers(
    settings: NodeSettings, tmp_path: Path, port: int, receiver: Receiver
) -> None:
    ports = {"listen": f"127.0.0.1:{free_port()}", "gateway": f"127.0.0.1:{free_port()}"}
    there = read_settings(NodeSettings, **settings.model_dump() | ports)
    with node_process(there, tmp_path) as process:
        start(process)
        callers = Callers(int(ports["listen"].rpartition(":")[2]), tmp_path)
        gateway = Gateway(SimpleNamespace(gateway_port=ports["gateway"].rpartition(":")[2]), callers)  # type: ignore[arg-type]
        async with asyncio.timeout(SECONDS):
            # The cursors are there when a first case has a row.
            while not await listed(gateway, callers, sink=SINK):
                case_id = await fed_back(gateway, callers, f"K-{time.monotonic_ns()}")
                await asyncio.sleep(1)
        last = await fed_back(gateway, callers, "LAST")
        process.kill()
        await callers.close()
        async with serving(receiver, port):
            start(process)
            await until(lambda: {case_id, last} <= {told["data"]["case_id"] for told in receiver.verified()})


async def test_a_taxpayer_is_sent_a_message_by_the_notifier_alone_and_that_is_in_the_journal(
    gateway: Gateway, callers: Callers, node: service.Running, settings: NodeSettings
) -> None:
    spool = Path(settings.notifier_options["file"])
    assert 0o600 == stat.S_IMODE(spool.stat().st_mode)
    case_id = await registered(gateway)
    header = case_pb2.ActHeader(
        bureau=COUNTY, case_id=case_id, actor="T01", role=common_pb2.ROLE_REGISTRAR, department="tax-service"
    )
    forward = case_pb2.ForwardCaseRequest(header=header, telling=common_pb2.TELLING_COMPLICATED, told="较复杂，将办理")
    await callers.office().ForwardCase(forward, metadata=await gateway.signed_in("T01"))
    await until(lambda: spool.read_text("utf-8"))
    (line,) = spool.read_text("utf-8").splitlines()
    message = json.loads(line)
    assert (COUNTY, case_id, "case.told") == (message["bureau"], message["case_id"], message["event"])
    assert (REQUEST["taxpayer_name"], REQUEST["contact"]) == (message["taxpayer_name"], message["contact"])
    assert case_id in message["text"]
    assert REQUEST["text"] not in line
    readings = queries.readings(node.office.ledger.database, COUNTY, case_id)
    assert [(event_name_of(PrivateRead), "system")] == [
        (event_name_of(type(item.entry.event)), item.entry.actor) for item in readings
    ]


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("http://portal.example/kx", {}, "https"),
        ("https://user:pass@portal.example/kx", {}, "https"),
        ("https://portal.example/kx\\n", {}, "no address"),
        ("https://portal.example/kx", {"events": '["case.eaten"]'}, "events"),
        ("https://portal.example/kx", {"events": '[["case.told"]]'}, "events"),
        ("https://portal.example/kx", {"colour": '"red"'}, "url and secret"),
        ("https://portal.example/kx", {"authorities": '"none.pem"'}, "authorities"),
        ("https://portal.example/kx", {"authorities": '"no\\u0000ne.pem"'}, "authorities"),
        ("https://portal.example/kx", {"secret": '"hooks.toml"'}, "secret"),
        ("https://portal.example/kx", {"secret": '"web\\u0000site"'}, "secret"),
    ],
)
def test_a_hook_that_cannot_be_is_named_at_the_start(
    settings: NodeSettings, tmp_path: Path, url: str, more: dict[str, str], said: str
) -> None:
    file = hooks_file(tmp_path, url, **more)
    file.chmod(0o600)
    with pytest.raises(WrongSetting, match=said):
        read_settings(NodeSettings, **settings.model_dump() | {"hooks": file})


async def test_a_changed_file_of_hooks_is_in_force_without_a_restart(
    gateway: Gateway, callers: Callers, listening: Receiver, settings: NodeSettings, tmp_path: Path
) -> None:
    assert settings.hooks is not None
    before = settings.hooks.read_text("utf-8")
    settings.hooks.write_text("", encoding="utf-8")
    await until_told(gateway, callers, [])
    await fed_back(gateway, callers)
    settings.hooks.write_text(before, encoding="utf-8")
    await until_told(gateway, callers, [SINK])
    # What was recorded meanwhile is behind its cursor, and is told by the new key alone.
    key = bytes(reversed(KEY))
    (tmp_path / "website.secret").write_text(f"whsec_{base64.b64encode(key).decode()}", encoding="ascii")
    async with asyncio.timeout(SECONDS):
        while not (listening.came and is_signed(*listening.came[-1], key)):
            await fed_back(gateway, callers, f"N-{len(listening.came)}")
            await asyncio.sleep(0.2)
    assert all(is_signed(*came, KEY) or is_signed(*came, key) for came in listening.came)


async def test_a_hook_that_is_to_tell_of_more_tells_none_of_it_from_before(
    gateway: Gateway, callers: Callers, node: service.Running, listening: Receiver, settings: NodeSettings
) -> None:
    assert settings.hooks is not None
    of_all = settings.hooks.read_text("utf-8")
    ledger, new = node.office.ledger, callbacks.new
    looked: list[int] = []

    def noted(database: Any, sink: str, bureau: str, after: int, until: int, **asked: Any) -> list[Callback]:
        found = new(database, sink, bureau, after, until, **asked)
        if sink == SINK and len(asked["kinds"]) == 1:
            looked.append(until)
        return found

    async def until_looked(seq: int) -> None:
        """The hook that is told of one kind has looked as far as that."""
        async with asyncio.timeout(SECONDS):
            while max(looked, default=0) < seq:
                await registered(gateway, f"R-{ledger.heads[COUNTY].seq}")
                await asyncio.sleep(0.1)

    with pytest.MonkeyPatch.context() as during:
        during.setattr(callbacks, "new", noted)
        settings.hooks.write_text(f'{of_all}events = ["case.written_off"]\n', encoding="utf-8")
        await until_looked(1)
        before = await fed_back(gateway, callers, "BEFORE")
        await until_looked(ledger.heads[COUNTY].seq)
    settings.hooks.write_text(of_all, encoding="utf-8")
    async with asyncio.timeout(SECONDS):
        while not listening.came:
            await fed_back(gateway, callers, f"N-{ledger.heads[COUNTY].seq}")
            await asyncio.sleep(0.2)
    assert before not in {told["data"]["case_id"] for told in listening.verified()}


async def test_a_file_of_hooks_that_has_become_wrong_changes_nothing_and_is_counted_once(
    gateway: Gateway, callers: Callers, listening: Receiver, settings: NodeSettings, tmp_path: Path
) -> None:
    assert settings.hooks is not None
    before, counted = settings.hooks.read_text("utf-8"), failures()
    settings.hooks.write_text(
        f'{before}[{COUNTY}.hotline]\nurl = "https://x.example"\nsecret = "new.secret"\n', "utf-8"
    )
    await until(lambda: failures() == counted + 1)
    await fed_back(gateway, callers)
    await until(lambda: listening.came)
    await asyncio.sleep(0.2)
    assert counted + 1 == failures()
    # What it names is put in place after it.
    shutil.copy(tmp_path / "website.secret", tmp_path / "new.secret")
    await until_told(gateway, callers, [SINK, f"hook:{COUNTY}:hotline"])
    assert counted + 1 == failures()


def failures() -> float:
    return float(opening.FAILED._value.get())


async def until_told(gateway: Gateway, callers: Callers, sinks: list[str]) -> None:
    """The node has that notifier and these hooks."""
    if not gateway._leader:
        await gateway.issue()
    async with asyncio.timeout(SECONDS):
        while True:
            asked = callback_pb2.ListCallbacksRequest(header=gateway._header())
            answer = await stub(callers).ListCallbacks(asked, metadata=gateway.signed())
            if sinks == [sink for sink in answer.sinks if sink.startswith("hook:")]:
                return
            await asyncio.sleep(0.05)


def test_a_secret_that_others_may_read_and_a_bureau_elsewhere_are_named(settings: NodeSettings, tmp_path: Path) -> None:
    given = settings.model_dump()
    (tmp_path / "website.secret").chmod(0o644)
    with pytest.raises(WrongSetting, match="others may read"):
        read_settings(NodeSettings, **given)
    (tmp_path / "website.secret").chmod(0o600)
    with pytest.raises(WrongSetting, match="elsewhere"):
        read_settings(NodeSettings, **given | {"bureaus": (PROVINCE,)})


def test_a_notifier_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name, options in (("sms", {}), ("spool", {}), ("spool", {"file": str(tmp_path / "none" / "x")})):
        with pytest.raises(NotifierUnusable):
            notifier_of(name, options)
    assert isinstance(notifier_of("spool", {"file": str(tmp_path / "x")}), Spool)


def message(number: int) -> Notification:
    return Notification(
        message_id=f"{COUNTY}-1-{number}",
        bureau=COUNTY,
        case_id=f"{COUNTY}-2026-0000001",
        event="case.told",
        occurred_at="2026-11-24T09:00:00+08:00",
        taxpayer_name="晨光文具店",
        contact="15400001234",
        text="已受理",
    )


async def test_a_line_of_the_spool_is_whole_after_a_crash_and_on_a_disk_that_takes_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "messages.ndjson"
    spool = Spool({"file": str(file)})
    file.write_text('{"message_id":"cut o', encoding="utf-8")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    await spool.send(message(1))

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:7])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotDelivered, match="No space left"):
        await spool.send(message(2))
    monkeypatch.setattr(os, "write", write)
    await spool.send(message(3))
    first, *whole = file.read_text("utf-8").splitlines()
    assert '{"message_id":"cut o' == first
    assert [f"{COUNTY}-1-1", f"{COUNTY}-1-3"] == [json.loads(line)["message_id"] for line in whole]


def test_a_notifier_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "sms-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: sms\nVersion: 1.0\n", encoding="utf-8")
    (package / "entry_points.txt").write_text("[kuaixiang.notifiers]\nsms = sms_plugin:make\n", encoding="utf-8")
    (tmp_path / "sms_plugin.py").write_text("def make(options):\n    return options['account']\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    made: object = notifier_of("sms", {"account": "tax"})
    assert "tax" == made
