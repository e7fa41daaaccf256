"""Web hooks: what a channel 渠道 is told of its cases, at the address that the bureau has agreed with it.

Signed as Standard Webhooks 1.0 has it: `webhook-id`, the same for each attempt, `webhook-timestamp`, that of the
attempt, and `webhook-signature`, `v1,` and the HMAC-SHA256 of both and the body. The body says what has happened and
how the case stands now, in what `GET /v1/cases/{case_id}` tells the channel: nothing private.

Only the configured address is asked: no redirect is followed, no proxy of the environment is used.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx

from kuaixiang.domain.errors import UnknownCase
from kuaixiang.domain.labels import name
from kuaixiang.runtime.clock import SystemClock, from_micros
from node.callbacks.engine import NotDelivered
from node.callbacks.hook_file import TOLD, Hook
from node.cases import case_view
from node.channels.requests import PublicCase, public, shown
from node.ledger.ledger import Callback
from node.office import Office

CONNECT_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 15.0
"""From the first byte to the last of the answer's head; what the standard recommends at least."""
WAIT_SECONDS_MAX: Final = 3_600.0
"""However long a receiver asks to be left alone."""
_REAL: Final = SystemClock()


def signature(key: bytes, message_id: str, at: int, body: bytes) -> str:
    """What a message is signed with at that second (Unix time)."""
    mac = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


Told = Callable[[PublicCase], Mapping[str, Any]]
"""A case as the channel's interface tells it."""


class WebHook:
    """A channel's receiver, told of the channel's cases at one bureau."""

    kind = "hook"

    def __init__(self, hook: Hook, office: Office, told: Told) -> None:
        self.name = f"hook:{hook.bureau}:{name(hook.channel)}"
        self.bureaus: tuple[str, ...] = (hook.bureau,)
        self.channels = frozenset({hook.channel})
        self.kinds: Mapping[str, str] = {kind: event for kind, event in TOLD.items() if event in hook.events}
        self._hook = hook
        self._office = office
        self._told = told
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
            follow_redirects=False,
            trust_env=False,
            verify=hook.trusted,
        )

    async def deliver(self, callback: Callback) -> None:
        """Posts it; raises `NotDelivered` unless the receiver answers that it has it."""
        body = await self._body(callback)
        # The standard signs the id between full stops: it has none itself.
        message_id = f"{callback.bureau}-{callback.generation}-{callback.seq}"
        at = int(_REAL.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Kuaixiang",
            "webhook-id": message_id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._hook.key, message_id, at, body),
        }
        try:
            async with (
                # Of the whole: the client's own bound begins anew with each byte that comes.
                asyncio.timeout(ANSWER_SECONDS_MAX),
                self._client.stream("POST", self._hook.url, content=body, headers=headers) as answer,
            ):
                status, wait = answer.status_code, answer.headers.get("retry-after", "")
        except (httpx.HTTPError, ssl.SSLError, OSError) as failure:
            raise NotDelivered(type(failure).__name__, receiver_away=True) from None
        _check(status, wait)

    async def _body(self, callback: Callback) -> bytes:
        try:
            case = await self._office.read_case(callback.bureau, callback.case_id)
        except UnknownCase:
            raise NotDelivered("no such case", final=True) from None
        view = public(case_view(case, self._office), self._office.heard.of(case))
        told = {
            "type": self.kinds.get(callback.kind, TOLD[callback.kind]),
            "timestamp": shown(from_micros(callback.occurred_at_us)),
            "data": self._told(view),
        }
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _check(status: int, retry_after: str) -> None:
    """Whether the receiver has it; raises `NotDelivered`."""
    if 200 <= status < 300:  # noqa: PLR2004 - what success is
        return
    away = status in {408, 429} or status >= 500 or 300 <= status < 400  # noqa: PLR2004 - as named
    # Of what may be one message's fault the standard knows no wish that the others wait, and a redirect's is another.
    heeded = not away or status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    asked = float(retry_after) if heeded and retry_after.isascii() and retry_after.isdigit() else 0.0
    # 410: the receiver wants to hear nothing of it any more. A redirect is not followed: it could lead anywhere.
    raise NotDelivered(
        f"HTTP {status}",
        final=status == HTTPStatus.GONE,
        receiver_away=away,
        wait_seconds=min(asked, WAIT_SECONDS_MAX),
    )
