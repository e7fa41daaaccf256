"""The certificate that browsers see is renewed while its pages are served."""

import asyncio
import ssl
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from kuaixiang.runtime import pki
from kuaixiang.runtime.pki import RENEWALS, FileUnreadable
from kuaixiang.web.door import Reach
from kuaixiang.web.serving import serving_pages

COUNTY = "110101"
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def pages() -> Starlette:
    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("here")

    app = Starlette(routes=[Route("/", page)])
    app.state.served = SimpleNamespace(ending=asyncio.Event(), reach=Reach())
    return app


async def connect(port: int) -> Connection:
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=anybody)


async def answered(connection: Connection) -> bool:
    reader, writer = connection
    writer.write(GET)
    return (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200 ")


def shown(connection: Connection) -> str:
    return sha256(connection[1].get_extra_info("ssl_object").getpeercert(binary_form=True)).hexdigest()


def fingerprint(paths: pki.CertificatePaths) -> str:
    return sha256(pki.load(paths).certificate_der).hexdigest()


def renewals(outcome: str) -> float:
    count: float = RENEWALS.labels(outcome=outcome)._value.get()
    return count


async def test_a_renewed_certificate_is_shown_to_who_connects_then_and_no_connection_ends(tmp_path: Path) -> None:
    pki.init_authority(tmp_path / "ca", "test")
    folder = tmp_path / "pages"
    first = fingerprint(pki.issue(tmp_path / "ca", folder, "node", [COUNTY]))
    async with serving_pages(pages(), "127.0.0.1:0", folder) as port:
        before = await connect(port)
        assert (first, True) == (shown(before), await answered(before))
        second = fingerprint(pki.issue(tmp_path / "ca", folder, "node", [COUNTY], force=True))
        after = await connect(port)
        assert second != first
        assert (second, True, True) == (shown(after), await answered(after), await answered(before))
        # Half of a renewal: the key is there, its certificate is not.
        third = pki.issue(tmp_path / "ca", tmp_path / "next", "node", [COUNTY])
        refused = renewals("refused")
        (folder / "tls.key").write_bytes(third.key.read_bytes())
        for _ in range(2):
            between = await connect(port)
            assert (second, True) == (shown(between), await answered(between))
            between[1].close()
        assert refused + 1 == renewals("refused")
        (folder / "tls.crt").write_bytes(third.certificate.read_bytes())
        whole = await connect(port)
        assert (fingerprint(third), True) == (shown(whole), await answered(whole))
        for _, writer in (before, after, whole):
            writer.close()


async def test_pages_without_a_usable_certificate_are_not_served(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("nothing")
    with pytest.raises(FileUnreadable, match=r"tls\.crt"):
        async with serving_pages(pages(), "127.0.0.1:0", tmp_path):
            pass
