"""What stands before every page: forms that are ours, bodies of a bearable size, headers that keep scripts out.

The content security policy has no exception for inline scripts or styles: whatever a case's text contains stays text.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kuaixiang.domain.errors import Condition, Refused

FILE_BYTES_MAX: Final = 21 * 1024 * 1024
"""A file of 20 MiB and the form around it."""
FILE_ADDRESSES: Final = ("/files", "/intakes")
"""How the addresses end that take files."""
FORM_BYTES_MAX: Final = 2 * 1024 * 1024
"""Any other form: reading one takes the event loop's time."""
BODY_SECONDS_MAX: Final = 120.0
"""A file of 20 MiB at 1.5 Mbit/s; who trickles longer than that holds a connection."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
"""The names that pages answer to besides those of the settings: none that another site could point at this machine
(DNS rebinding)."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Frame-Options": "DENY",
}
LENGTH_DIGITS_MAX: Final = 12
_PRIVATE: Final = "no-store"
"""Pages hold private data: nothing of them stays in a browser's or a proxy's cache."""

SAFE: Final = frozenset({"GET", "HEAD"})
UTF_8: Final = frozenset({b"utf-8", b"utf8"})


class NotOurForm(Refused):
    """A form that this session's pages have not made, or that is older than the session."""

    condition = Condition.FORBIDDEN
    remedy = "Load the page again and repeat what you did."
    remedy_chinese = "请刷新页面后重新操作。"

    def __init__(self) -> None:
        super().__init__("This form does not belong to your session.", "该表单不属于当前会话。")


class BodyTooLarge(Refused):
    """More was sent than a page takes."""

    condition = Condition.INVALID

    def __init__(self, bytes_max: int) -> None:
        self.remedy = f"Send at most {bytes_max // 1024} KiB."
        self.remedy_chinese = f"提交的内容不得超过 {bytes_max // 1024} KiB。"
        super().__init__("What was sent is too large.", "提交的内容过大。")


class BodyTooSlow(Refused):
    """What was announced has not come."""

    condition = Condition.INVALID
    remedy = "Send it again, a large file over a faster connection."
    remedy_chinese = "请重新提交；较大的文件请使用较快的网络发送。"

    def __init__(self) -> None:
        super().__init__("What you began to send did not come in time.", "提交的内容未能及时送达。")


class NotUtf8(Refused):
    """A body that is said to be written in another encoding."""

    condition = Condition.INVALID
    remedy = "Send it in UTF-8, and name no other charset in Content-Type."
    remedy_chinese = "请采用 UTF-8 编码提交，Content-Type 中不要写其他 charset。"

    def __init__(self) -> None:
        super().__init__("What was sent is not in UTF-8.", "提交的内容不是 UTF-8 编码。")


class FromElsewhere(Refused):
    """A page of another site has sent something."""

    condition = Condition.FORBIDDEN
    remedy = "Open the page here and repeat what you did."
    remedy_chinese = "请在本系统页面内重新操作。"

    def __init__(self) -> None:
        super().__init__("This was sent from a page of another site.", "该请求来自其他网站的页面。")


class Hardened:
    """Adds the headers; refuses what other sites' pages send, bodies that cannot be taken, and whoever asks too much.

    `enter` counts a request in its caller's name and raises a refusal where it is one too many; files of scripts and
    styles, which browsers keep, are not counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        refuse: Callable[[Request, Refused], Awaitable[ASGIApp]],
        enter: Callable[[Request], None],
        hosts: frozenset[str] = frozenset(),
        form_bytes_max: int = FORM_BYTES_MAX,
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._enter = enter
        self._hosts = LOOPBACK | hosts
        self._form_bytes_max = form_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stays = scope["path"].startswith("/assets/")

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for header, value in HEADERS.items():
                    headers[header] = value
                if not stays:
                    headers["Cache-Control"] = _PRIVATE
            await send(message)

        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        refusal: Refused | None = None
        bytes_max = FILE_BYTES_MAX if scope["path"].endswith(FILE_ADDRESSES) else self._form_bytes_max
        if not _is_for_us(headers, self._hosts) or (scope["method"] not in SAFE and _is_from_elsewhere(headers)):
            refusal = FromElsewhere()
        elif (
            not (length.isascii() and length.isdigit() and len(length) <= LENGTH_DIGITS_MAX) or int(length) > bytes_max
        ):
            refusal = BodyTooLarge(bytes_max)
        elif scope["method"] not in SAFE and not _is_utf8(headers):
            refusal = NotUtf8()
        elif not stays:
            try:
                self._enter(Request(scope))
            except Refused as too_much:
                refusal = too_much
        if refusal is not None:
            answer = await self._refuse(Request(scope), refusal)
            await answer(scope, receive, hardened)
            return
        taken = 0
        ends = asyncio.get_running_loop().time() + BODY_SECONDS_MAX
        whole = False

        async def bounded() -> Message:
            nonlocal taken, whole
            try:
                # When all of it is here, what is waited for is that the browser goes.
                async with asyncio.timeout_at(None if whole else ends):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow from None
            whole = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > bytes_max:
                raise BodyTooLarge(bytes_max)
            return message

        await self._app(scope, bounded, hardened)


def _is_utf8(headers: Headers) -> bool:
    """Whether a body comes in UTF-8, by the same reading of its type that takes the form apart.

    A form would else be decoded by any of Python's codecs that its sender names: some need seconds for a form, some
    always fail.
    """
    _, parameters = parse_options_header(headers.get("content-type"))
    return parameters.get(b"charset", b"utf-8").lower() in UTF_8


def _is_for_us(headers: Headers, hosts: frozenset[str]) -> bool:
    """Whether the host that is asked for is this service by a name of its own."""
    host = headers.get("host", "")
    return (host if host.endswith("]") else host.rpartition(":")[0] or host).strip("[]").lower() in hosts


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin asks; what is no browser says nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host")
    except ValueError:
        return True
