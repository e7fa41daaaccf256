"""The file that says where channels 渠道 are told of their cases: web hooks by bureau and channel."""

import base64
import ssl
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import httpx

from kuaixiang.domain.events import (
    AnsweredOnTheSpot,
    CaseWithdrawn,
    Concluded,
    ExtensionApproved,
    FeedbackGiven,
    Released,
    Reopened,
    SentToReconsideration,
    TaxpayerTold,
    WrittenOff,
)
from kuaixiang.domain.labels import name
from kuaixiang.domain.words import Channel
from kuaixiang.runtime.vault import mode_open
from kuaixiang.web.serving import is_loopback
from kuaixiang.wire.codec import event_name_of

_MARK: Final = "whsec_"
SECRET_BYTES_MIN: Final = 24
SECRET_BYTES_MAX: Final = 64
"""Of the key, as the standard has it."""

TOLD: Final[Mapping[str, str]] = MappingProxyType(
    {
        event_name_of(TaxpayerTold): "case.told",
        event_name_of(ExtensionApproved): "case.extended",
        event_name_of(Released): "case.referred",
        event_name_of(AnsweredOnTheSpot): "case.fed_back",
        event_name_of(FeedbackGiven): "case.fed_back",
        event_name_of(Concluded): "case.concluded",
        event_name_of(Reopened): "case.reopened",
        event_name_of(CaseWithdrawn): "case.withdrawn",
        event_name_of(SentToReconsideration): "case.reconsideration",
        event_name_of(WrittenOff): "case.written_off",
    }
)
"""Of which entries a channel is told, and as what."""


class HooksUnusable(Exception):
    """The file of web hooks cannot be used: why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Where a bureau tells a channel what, and with which key it signs."""

    bureau: str
    channel: Channel
    url: str
    key: bytes = field(repr=False)
    events: frozenset[str]
    authorities: bytes = field(repr=False)
    """The certificates that vouch for the receiver, as their file has them; empty: the system's."""
    trusted: ssl.SSLContext = field(compare=False)
    files: tuple[Path, ...] = field(compare=False)
    """What else was read for it."""


def load_hooks(file: Path, bureaus: Collection[str]) -> tuple[Hook, ...]:
    """The hooks of a file, which are of these bureaus; paths in it are beside it. Raises `HooksUnusable`.

    `[330106.website]` with `url`, `secret` (a file that is as closed as a key), and where wanted `events` and
    `authorities`.
    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise HooksUnusable(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise HooksUnusable(f"{file} is no TOML: {error}") from None
    hooks: list[Hook] = []
    for bureau, channels in found.items():
        if not isinstance(channels, dict):
            raise HooksUnusable(f"{bureau} must be a table of channels")
        hooks += [_hook(file.parent, bureau, channel, given) for channel, given in channels.items()]
    strange = sorted({hook.bureau for hook in hooks} - set(bureaus))
    if strange:
        raise HooksUnusable(f"{file} is of {', '.join(strange)}, whose ledgers are elsewhere")
    return tuple(hooks)


def _hook(folder: Path, bureau: str, channel: str, given: object) -> Hook:
    where = f"{bureau}.{channel}"
    word = next((one for one in Channel if name(one) == channel), None)
    if word is None:
        raise HooksUnusable(f"{where}: there is no such channel; use one of {', '.join(map(name, Channel))}")
    if not isinstance(given, dict) or not {"url", "secret"} <= given.keys() <= {
        "url",
        "secret",
        "events",
        "authorities",
    }:
        raise HooksUnusable(f"{where} has url and secret, and may have events and authorities")
    events = given.get("events", sorted(set(TOLD.values())))
    if not isinstance(events, list) or not events or not all(event in TOLD.values() for event in events):
        raise HooksUnusable(f"{where}.events: there are {', '.join(sorted(set(TOLD.values())))}")
    _check_url(where, str(given["url"]))
    try:
        authorities = folder / str(given["authorities"]) if "authorities" in given else None
        vouching = b"" if authorities is None else authorities.read_bytes()
        trusted = ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as error:
        raise HooksUnusable(f"{where}.authorities cannot be used: {error}") from None
    secret = folder / str(given["secret"])
    return Hook(
        bureau=bureau,
        channel=word,
        url=str(given["url"]),
        key=_key(where, secret),
        events=frozenset(events),
        authorities=vouching,
        trusted=trusted,
        files=(secret,) if authorities is None else (secret, authorities),
    )


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
        # As whoever calls it reads it.
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise HooksUnusable(f"{where}.url is no address") from None
    plain = parts.scheme == "http" and is_loopback(f"{parts.hostname}:{port or 80}")
    if not parts.hostname or not (parts.scheme == "https" or plain) or parts.username or parts.fragment:
        raise HooksUnusable(f"{where}.url must be https, without a name and a password in it")


def _key(where: str, file: Path) -> bytes:
    try:
        if mode_open(file):
            raise HooksUnusable(f"{where}.secret: others may read {file}; chmod 600 it")
        written = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise HooksUnusable(f"{where}.secret: {file} cannot be read") from None
    try:
        key = base64.b64decode(written.removeprefix(_MARK), validate=True)
    except ValueError:
        key = b""
    if not written.startswith(_MARK) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise HooksUnusable(
            f"{where}.secret is {_MARK} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes in base64"
        )
    return key
