"""A renewal of certificates, of either side or of the authority, fails no call that is made meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
import pytest
from cryptography import x509

from kuaixiang.runtime import channels, pki
from kuaixiang.runtime.channels import Channels
from kuaixiang.runtime.tls import SERVER_OPTIONS, server_credentials

SERVER, CLIENT = "110101", "110000"
CALL = "/kuaixiang.test.Door/Call"
CALL_SECONDS = 0.03
CALLERS = 4
SECONDS = 60.0


class Door:
    """Answers after a while; remembers by which certificates it was called."""

    def __init__(self) -> None:
        self.serials: set[int] = set()
        self.port = 0

    async def call(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        (pem,) = context.auth_context()["x509_pem_cert"]
        self.serials.add(x509.load_pem_x509_certificate(pem).serial_number)
        await asyncio.sleep(CALL_SECONDS)
        return request


@asynccontextmanager
async def open_door(paths: pki.CertificatePaths) -> AsyncIterator[Door]:
    door = Door()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "kuaixiang.test.Door", {"Call": grpc.unary_unary_rpc_method_handler(door.call)}
            ),
        )
    )
    door.port = server.add_secure_port("127.0.0.1:0", server_credentials(paths))
    await server.start()
    try:
        yield door
    finally:
        await server.stop(None)


class Calls:
    """Calls that are made all the time, a few at once; `made` counts those that were answered."""

    def __init__(self, links: Channels, door: Door) -> None:
        self.made = 0
        self._links = links
        self._door = door

    async def __aenter__(self) -> Self:
        self._ended = asyncio.Event()
        self._tasks = [asyncio.create_task(self._go_on()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.set()
        await asyncio.gather(*self._tasks)

    async def _go_on(self) -> None:
        while not self._ended.is_set():
            await call(self._links.channel(SERVER, f"127.0.0.1:{self._door.port}"))
            self.made += 1

    async def some_more(self) -> None:
        wanted = self.made + 3 * CALLERS
        async with asyncio.timeout(SECONDS):
            while self.made < wanted:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)


async def call(channel: grpc.aio.Channel) -> bytes:
    method: Any = channel.unary_unary(CALL)
    answer: bytes = await method(b"x", timeout=SECONDS)
    return answer


def serial(paths: pki.CertificatePaths) -> int:
    return pki.load(paths).certificate.serial_number


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init_authority(tmp_path / "pki", "Test federation")
    return tmp_path / "pki"


async def test_no_call_fails_while_both_sides_renew_and_the_new_certificates_are_used(
    tmp_path: Path, authority: Path
) -> None:
    server = pki.issue(authority, tmp_path / "server", "node", [SERVER])
    client = pki.issue(authority, tmp_path / "client", "node", [CLIENT])
    async with open_door(server) as door:
        links = Channels(client)
        async with Calls(links, door) as calls:
            for _ in range(3):
                await calls.some_more()
                pki.issue(authority, tmp_path / "client", "node", [CLIENT], force=True)
                pki.issue(authority, tmp_path / "server", "node", [SERVER], force=True)
            await calls.some_more()
        await links.close()
    assert 4 == len(door.serials)
    assert serial(client) in door.serials


async def test_no_call_fails_while_the_authority_is_replaced_by_another(tmp_path: Path, authority: Path) -> None:
    server = pki.issue(authority, tmp_path / "server", "node", [SERVER])
    client = pki.issue(authority, tmp_path / "client", "node", [CLIENT])
    pki.init_authority(tmp_path / "next", "Next authority")
    old, new = (folder / "ca.crt" for folder in (authority, tmp_path / "next"))
    new_pem = new.read_bytes()
    both = old.read_bytes() + new_pem
    async with open_door(server) as door:
        links = Channels(client)
        async with Calls(links, door) as calls:
            await calls.some_more()
            for paths in (server, client):  # both trust both
                paths.ca.write_bytes(both)
            await calls.some_more()
            new.write_bytes(new_pem + old.read_bytes())
            for paths, code in ((server, SERVER), (client, CLIENT)):
                pki.issue(tmp_path / "next", paths.certificate.parent, "node", [code], force=True)
            await calls.some_more()
            for paths in (server, client):
                paths.ca.write_bytes(new_pem)
            await calls.some_more()
        await links.close()
    assert serial(client) in door.serials


async def test_a_call_on_a_channel_that_has_been_replaced_may_still_begin_and_end(
    tmp_path: Path, authority: Path
) -> None:
    server = pki.issue(authority, tmp_path / "server", "node", [SERVER])
    client = pki.issue(authority, tmp_path / "client", "node", [CLIENT])
    async with open_door(server) as door:
        links = Channels(client)
        endpoint = f"127.0.0.1:{door.port}"
        old = links.channel(SERVER, endpoint)
        under_way = asyncio.create_task(call(old))
        await asyncio.sleep(0)
        pki.issue(authority, tmp_path / "client", "node", [CLIENT], force=True)
        new = links.channel(SERVER, endpoint)
        assert old is not new
        assert (b"x", b"x", b"x") == tuple(await asyncio.gather(under_way, call(old), call(new)))
        await links.close()


async def test_a_channel_that_has_been_replaced_is_closed_in_the_end(
    tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "DRAIN_SECONDS", 0.05)
    server = pki.issue(authority, tmp_path / "server", "node", [SERVER])
    client = pki.issue(authority, tmp_path / "client", "node", [CLIENT])
    async with open_door(server) as door:
        links = Channels(client)
        old = links.channel(SERVER, f"127.0.0.1:{door.port}")
        links.channel(SERVER, f"localhost:{door.port}")
        async with asyncio.timeout(SECONDS):
            while old.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:
                await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.UsageError):
            await call(old)
        await links.close()


async def test_a_bureau_that_has_moved_is_called_where_it_is_now(tmp_path: Path, authority: Path) -> None:
    server = pki.issue(authority, tmp_path / "server", "node", [SERVER])
    links = Channels(pki.issue(authority, tmp_path / "client", "node", [CLIENT]))
    async with open_door(server) as before, open_door(server) as after:
        for door in (before, after):
            await call(links.channel(SERVER, f"127.0.0.1:{door.port}"))
        assert (1, 1, 1) == (len(before.serials), len(after.serials), len(links))
        await links.close()
