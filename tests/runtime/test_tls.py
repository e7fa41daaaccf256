"""Mutual TLS over a real gRPC connection: who gets in, under which name, and how a renewal reaches a running server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kuaixiang.runtime import pki
from kuaixiang.runtime.tls import (
    CHANNEL_OPTIONS,
    KEEPALIVE_ALLOWED_MS,
    KEEPALIVE_MS,
    MESSAGE_BYTES_MAX,
    SERVER_OPTIONS,
    Identity,
    PeerWithoutCertificate,
    identity_of_certificate,
    open_channel,
    peer_of,
    server_credentials,
)

SECONDS = 60
WHO = "/kuaixiang.test.Door/Who"
SERVER_NAME = pki.dns_name("node", "110101")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init_authority(tmp_path / "pki", "Test federation")
    return tmp_path / "pki"


@pytest.fixture
def server_paths(tmp_path: Path, authority: Path) -> pki.CertificatePaths:
    return pki.issue(authority, tmp_path / "server", "node", ["110101", "110102"])


class Door:
    """A server with one method, which remembers who called and answers with what it was sent."""

    def __init__(self) -> None:
        self.callers: list[Identity] = []
        self.port = 0

    async def who(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        self.callers.append(peer_of(context).identity)
        return request


@asynccontextmanager
async def open_door(credentials: grpc.ServerCredentials | None) -> AsyncIterator[Door]:
    door = Door()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler = grpc.method_handlers_generic_handler(
        "kuaixiang.test.Door", {"Who": grpc.unary_unary_rpc_method_handler(door.who)}
    )
    server.add_generic_rpc_handlers((handler,))
    if credentials is None:
        door.port = server.add_insecure_port("127.0.0.1:0")
    else:
        door.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield door
    finally:
        await server.stop(None)


async def knock(port: int, paths: pki.CertificatePaths, name: str = SERVER_NAME, message: bytes = b"hello") -> bytes:
    async with open_channel(f"127.0.0.1:{port}", name, paths) as channel:
        return await who(channel, message)


async def who(channel: grpc.aio.Channel, message: bytes = b"hello") -> bytes:
    call: Any = channel.unary_unary(WHO)
    answer: bytes = await call(message, timeout=SECONDS)
    return answer


async def test_a_peer_of_the_federation_is_let_in_under_its_name(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    async with open_door(server_credentials(server_paths)) as door:
        assert await knock(door.port, client) == b"hello"
    assert [Identity(bureaus=frozenset({"110000"}))] == door.callers


async def test_a_server_of_several_bureaus_answers_to_each_of_their_names(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "office", ["110102"])
    async with open_door(server_credentials(server_paths)) as door:
        await knock(door.port, client, pki.dns_name("node", "110101"))
        await knock(door.port, client, pki.dns_name("node", "110102"))
    assert [Identity(offices=frozenset({"110102"}))] * 2 == door.callers


async def test_a_peer_of_the_most_bureaus_that_fit_is_let_in_under_all_of_them(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    codes = [f"{n:06d}" for n in range(pki.CODES_MAX)]
    client = pki.issue(authority, tmp_path / "client", "node", codes)
    async with open_door(server_credentials(server_paths)) as door:
        await knock(door.port, client)
    assert [Identity(bureaus=frozenset(codes))] == door.callers


async def test_a_client_of_another_authority_is_refused(tmp_path: Path, server_paths: pki.CertificatePaths) -> None:
    pki.init_authority(tmp_path / "strangers", "Strangers")
    stranger = pki.issue(tmp_path / "strangers", tmp_path / "stranger", "node", ["110000"])
    # The stranger trusts our server: only what it shows is wrong.
    paths = pki.CertificatePaths(server_paths.ca, stranger.certificate, stranger.key)
    async with open_door(server_credentials(server_paths)) as door:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await knock(door.port, paths)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [] == door.callers


async def test_a_server_of_another_authority_is_refused(tmp_path: Path, authority: Path) -> None:
    pki.init_authority(tmp_path / "strangers", "Strangers")
    stranger = pki.issue(tmp_path / "strangers", tmp_path / "stranger", "node", ["110101"])
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    async with open_door(server_credentials(stranger)) as door:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await knock(door.port, client)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_without_a_certificate_is_refused(server_paths: pki.CertificatePaths) -> None:
    credentials = grpc.ssl_channel_credentials(server_paths.ca.read_bytes())
    options = (("grpc.ssl_target_name_override", SERVER_NAME),)
    async with (
        open_door(server_credentials(server_paths)) as door,
        grpc.aio.secure_channel(f"127.0.0.1:{door.port}", credentials, options=options) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await who(channel)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [] == door.callers


async def test_plaintext_is_refused(server_paths: pki.CertificatePaths) -> None:
    async with (
        open_door(server_credentials(server_paths)) as door,
        grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await who(channel)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [] == door.callers


async def test_a_server_of_another_name_is_refused(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    async with open_door(server_credentials(server_paths)) as door:
        for name in (pki.dns_name("node", "120000"), pki.dns_name("hub", "110101"), "localhost"):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await knock(door.port, client, name)
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [] == door.callers


async def test_a_caller_over_plaintext_has_no_identity() -> None:
    async with open_door(None) as door, grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=PeerWithoutCertificate.__name__):
            await who(channel)


async def test_a_running_server_shows_a_renewed_certificate_at_the_next_connection(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    async with open_door(server_credentials(server_paths)) as door:
        await knock(door.port, client)
        pki.issue(authority, server_paths.certificate.parent, "node", ["110103"], force=True)
        for _ in range(3):
            assert await knock(door.port, client, pki.dns_name("node", "110103")) == b"hello"
        with pytest.raises(grpc.aio.AioRpcError):
            await knock(door.port, client, SERVER_NAME)


async def test_a_running_server_trusts_an_added_authority_at_the_next_connection(
    tmp_path: Path, server_paths: pki.CertificatePaths
) -> None:
    pki.init_authority(tmp_path / "next", "Next authority")
    newcomer = pki.issue(tmp_path / "next", tmp_path / "newcomer", "node", ["110000"])
    paths = pki.CertificatePaths(server_paths.ca, newcomer.certificate, newcomer.key)
    async with open_door(server_credentials(server_paths)) as door:
        with pytest.raises(grpc.aio.AioRpcError):
            await knock(door.port, paths)
        server_paths.ca.write_bytes(server_paths.ca.read_bytes() + newcomer.ca.read_bytes())
        assert await knock(door.port, paths) == b"hello"


async def test_a_running_server_survives_a_broken_renewal(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    async with open_door(server_credentials(server_paths)) as door:
        server_paths.certificate.write_text("half a certif")
        assert await knock(door.port, client) == b"hello"


async def test_a_message_up_to_the_limit_passes_and_a_larger_one_is_refused(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    async with open_door(server_credentials(server_paths)) as door:
        large = b"x" * MESSAGE_BYTES_MAX
        assert await knock(door.port, client, message=large) == large
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await knock(door.port, client, message=large + b"x")
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_server_allows_the_keepalive_that_the_clients_use() -> None:
    assert dict(SERVER_OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"] == KEEPALIVE_ALLOWED_MS
    assert dict(SERVER_OPTIONS)["grpc.keepalive_permit_without_calls"] == 1
    assert dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"] == KEEPALIVE_MS
    assert KEEPALIVE_ALLOWED_MS < KEEPALIVE_MS


async def test_a_slow_link_is_given_the_time_that_it_takes_to_connect(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths
) -> None:
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    relays = list[asyncio.Task[Any]]()

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(0.2)
                writer.write(data)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with open_door(server_credentials(server_paths)) as door:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", door.port)
            both = (slowly(reader, there[1]), slowly(there[0], writer))
            relays.extend(map(asyncio.ensure_future, both))
            await asyncio.wait(relays)

        async with await asyncio.start_server(relay, "127.0.0.1", 0) as link:
            port = link.sockets[0].getsockname()[1]
            async with open_channel(f"127.0.0.1:{port}", SERVER_NAME, client) as channel:
                await who(channel)
            await asyncio.wait(relays)


async def test_an_idle_channel_that_pings_is_not_sent_away(
    tmp_path: Path, authority: Path, server_paths: pki.CertificatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ratio of the two intervals, a hundred times faster."""
    options = dict(SERVER_OPTIONS) | {"grpc.http2.min_ping_interval_without_data_ms": KEEPALIVE_ALLOWED_MS // 100}
    monkeypatch.setitem(globals(), "SERVER_OPTIONS", tuple(options.items()))
    client = pki.issue(authority, tmp_path / "client", "node", ["110000"])
    fast = (("grpc.keepalive_time_ms", KEEPALIVE_MS // 100),)
    async with (
        open_door(server_credentials(server_paths)) as door,
        open_channel(f"127.0.0.1:{door.port}", SERVER_NAME, client, fast) as channel,
    ):
        await who(channel)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


def test_names_outside_the_federation_say_nothing(tmp_path: Path, authority: Path) -> None:
    authority_itself = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    assert Identity() == identity_of_certificate(authority_itself)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    uris = [
        "spiffe://elsewhere/bureau/110000",
        "spiffe://kuaixiang/leader/110000",
        "spiffe://kuaixiang/bureau/110000/more",
        "https://kuaixiang/bureau/110000",
        "spiffe://kuaixiang/hub/000000",
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    assert Identity(hubs=frozenset({"000000"})) == identity_of_certificate(certificate)
