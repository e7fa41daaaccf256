"""A federation with a bureau whose officers sign in: at terminals, on pages, and with a door for channels beside them."""

import re
from html import unescape
from typing import Any, Final, Self

import httpx

from demo.federation import Federation, Service
from demo.processes import free_port
from kuaixiang.accounts.users import User, save_users
from kuaixiang.runtime import pki
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.v1 import case_pb2, common_pb2, sign_in_pb2, sign_in_pb2_grpc
from tests.node.test_sign_in import HASH, PASSWORD

OFFICERS: Final = """
version = "1"
[{code}.departments]
tax-service = {{ name = "纳税服务股", kind = "tax-service" }}
leadership = {{ name = "局领导", kind = "leadership" }}
[{code}.officers]
R01 = {{ name = "任", roles = ["registrar"], departments = ["tax-service"] }}
B01 = {{ name = "包", roles = ["bureau-head"], departments = ["leadership"] }}
website = {{ name = "网站", roles = ["channel"], departments = ["tax-service"] }}
"""
_HIDDEN: Final = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


class DoorFederation(Federation):
    """`signing_in` is the bureau; nobody signs in at the others."""

    def __init__(self, *arguments: Any, signing_in: str, **named: Any) -> None:
        self.signing_in = signing_in
        self._desk, self._gateway = (f"127.0.0.1:{free_port()}" for _ in range(2))
        super().__init__(*arguments, **named)

    def _node(self, group: tuple[str, ...]) -> Service:
        if group != (self.signing_in,):
            return super()._node(group)
        settings, folder = self._node_settings, self.directory / "signing-in"
        folder.mkdir(parents=True, exist_ok=True)
        staff, users = folder / "staff.toml", folder / "users.toml"
        staff.write_text(OFFICERS.format(code=self.signing_in), encoding="utf-8")
        save_users(users, {(self.signing_in, actor): User(HASH) for actor in ("R01", "B01")})
        doors = {"desk": self._desk, "demonstration": False, "gateway": self._gateway}
        try:
            self._node_settings = settings | doors | {"staff": str(staff), "users": str(users)}
            return super()._node(group)
        finally:
            self._node_settings = settings

    async def signed_in(self, actor: str = "R01") -> tuple[tuple[str, str]]:
        """What an officer of the bureau sends with each call."""
        proof = sign_in_pb2.SignInRequest(bureau=self.signing_in, actor=actor, password=PASSWORD)
        node = self.node(self.signing_in)
        async with open_channel(node.endpoint, pki.dns_name("node", self.signing_in), node.terminal) as channel:
            stub: Any = sign_in_pb2_grpc.SignInServiceStub(channel)
            return (("authorization", f"Bearer {(await stub.SignIn(proof, timeout=30)).token}"),)

    async def channel(self) -> httpx.AsyncClient:
        """A program of a channel with a token that the bureau's head has issued."""
        node = self.node(self.signing_in)
        header = case_pb2.ActHeader(
            bureau=self.signing_in, actor="B01", role=common_pb2.ROLE_BUREAU_HEAD, department="leadership"
        )
        request = sign_in_pb2.IssueTokenRequest(
            header=header,
            channel=common_pb2.CHANNEL_WEBSITE,
            scopes=[common_pb2.TOKEN_SCOPE_REGISTER, common_pb2.TOKEN_SCOPE_STATUS],
            valid_days=30,
        )
        async with open_channel(node.endpoint, pki.dns_name("node", self.signing_in), node.terminal) as channel:
            stub: Any = sign_in_pb2_grpc.SignInServiceStub(channel)
            issued = await stub.IssueToken(request, metadata=await self.signed_in("B01"), timeout=30)
        return self.stranger({"Authorization": f"Bearer {issued.secret}"})

    def stranger(self, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
        """A program at the door for channels that brings no token, or what `headers` say."""
        return httpx.AsyncClient(base_url=f"http://{self._gateway}", headers=headers, timeout=60)

    async def browser(self, actor: str = "", **more: Any) -> "Browser":
        """A browser at the bureau's desk, where the officer has signed in, if one is named."""
        browser = Browser(httpx.AsyncClient(base_url=f"http://{self._desk}", timeout=60, **more))
        if actor:
            proof = {"bureau": self.signing_in, "actor": actor, "password": PASSWORD}
            answer = await browser.fill_in("/sign-in", proof)
            assert 303 == answer.status_code, answer.text
        return browser


class Browser:
    """A browser without scripts, as long as it is entered."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def fill_in(
        self, address: str, fields: dict[str, str], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Load the form at the address and send it with those fields."""
        page = (await self.client.get(address)).text.partition("<main")[2]
        hidden = {name: unescape(value) for name, value in _HIDDEN.findall(page)}
        return await self.client.post(address, data=hidden | fields, headers=headers)
