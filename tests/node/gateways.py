"""A node with a door for channels, as the programs of channels have it: HTTP, and a token that a leader issued."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from kuaixiang.accounts.users import User, save_users
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, common_pb2, sign_in_pb2, sign_in_pb2_grpc
from node import service
from node.settings import NodeSettings
from tests.node.callers import COUNTY, Callers
from tests.node.test_sign_in import HASH, PASSWORD, STAFF

REQUEST = {
    "taxpayer_name": "晨光文具店",
    "contact": "15400001234",
    "text": "小规模纳税人本季度开具的发票如何享受优惠？",
    "category": "policy",
}
"""A registration with nothing wrong."""
FORM = {
    "service_code": "policy",
    "description": "小规模纳税人本季度开具的发票如何享受优惠？",
    "address_id": "110101",
    "address_string": "西长安街 1 号",
    "attribute[taxpayer_name]": "晨光文具店",
    "attribute[contact]": "15400001234",
}
"""The same as Open311 has it."""
REGISTER, STATUS = common_pb2.TOKEN_SCOPE_REGISTER, common_pb2.TOKEN_SCOPE_STATUS


def with_gateway(
    settings: NodeSettings, folder: Path, officers: Sequence[str] = ("B01", "T01"), **more: Any
) -> NodeSettings:
    """The settings of a node that lets channels in, and of which a leader and one of tax service sign in."""
    staff, users = folder / "staff.toml", folder / "users.toml"
    staff.write_text(STAFF, encoding="utf-8")
    save_users(users, {(COUNTY, actor): User(HASH) for actor in officers})
    given = {"staff": staff, "users": users, "gateway": "127.0.0.1:0"} | more
    return read_settings(NodeSettings, **{**settings.model_dump(), **given})


class Gateway:
    """The door, and the leader who gives tokens for it."""

    def __init__(self, running: service.Running, callers: Callers) -> None:
        self.base = f"http://127.0.0.1:{running.gateway_port}"
        self._door: Any = sign_in_pb2_grpc.SignInServiceStub(callers.channel("office", COUNTY))
        self._leader = ""

    async def issue(self, *scopes: Any, channel: Any = common_pb2.CHANNEL_WEBSITE) -> sign_in_pb2.IssueTokenResponse:
        """A token of the county, for everything unless said."""
        if not self._leader:
            proof = sign_in_pb2.SignInRequest(bureau=COUNTY, actor="B01", password=PASSWORD)
            self._leader = (await self._door.SignIn(proof)).token
        request = sign_in_pb2.IssueTokenRequest(
            header=self._header(), channel=channel, scopes=scopes or (REGISTER, STATUS), valid_days=30
        )
        issued: sign_in_pb2.IssueTokenResponse = await self._door.IssueToken(request, metadata=self.signed())
        return issued

    async def revoke(self, token_id: str) -> None:
        """Ends a token."""
        request = sign_in_pb2.RevokeTokenRequest(header=self._header(), token_id=token_id)
        await self._door.RevokeToken(request, metadata=self.signed())

    async def client(self, *scopes: Any, **more: Any) -> httpx.AsyncClient:
        """A program with a token of its own."""
        return self.client_with((await self.issue(*scopes, **more)).secret)

    def client_with(self, secret: str = "") -> httpx.AsyncClient:
        """A program with that token, or with none."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=self.base, headers=headers, timeout=60)

    async def signed_in(self, actor: str) -> Any:
        """What an officer of the county sends with a call who has signed in."""
        proof = sign_in_pb2.SignInRequest(bureau=COUNTY, actor=actor, password=PASSWORD)
        return (("authorization", f"Bearer {(await self._door.SignIn(proof)).token}"),)

    def _header(self) -> Any:
        return case_pb2.ActHeader(bureau=COUNTY, actor="B01", role=common_pb2.ROLE_BUREAU_HEAD, department="leadership")

    def signed(self) -> Any:
        """What the leader sends with a call."""
        return (("authorization", f"Bearer {self._leader}"),)
