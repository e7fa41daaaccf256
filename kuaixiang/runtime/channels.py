"""Channels to bureaus' nodes: one long-lived channel for each, under mutual TLS, opened when first needed.

A channel's credentials and address are fixed when it is opened. When this process's certificate has been renewed, when
another authority is trusted, or when a bureau has moved, the next one who asks gets a new channel, and the old one
stays open for as long as the longest call may last: no call fails for a renewal.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

import grpc.aio

from kuaixiang.runtime.pki import CertificatePaths, Credentials, LiveCredentials, dns_name
from kuaixiang.runtime.tls import Options, channel_to

DRAIN_SECONDS: Final = 600.0
"""How long a channel that has been replaced stays open: the longest calls, which read a whole journal or bring a file
over a slow line, may take so long. It costs an idle connection."""


@dataclass(frozen=True, slots=True)
class _Open:
    channel: grpc.aio.Channel
    endpoint: str
    credentials: Credentials


class Channels:
    """The channels of one process. One event loop. The certificate is read when the first channel is asked for."""

    def __init__(self, paths: CertificatePaths, options: Options = ()) -> None:
        self._paths = paths
        self._live: LiveCredentials | None = None
        self._options = options
        self._open: dict[str, _Open] = {}
        self._draining: dict[grpc.aio.Channel, asyncio.Task[None]] = {}

    def channel(self, bureau: str, endpoint: str) -> grpc.aio.Channel:
        """The channel to a bureau's node at `host:port`. Nothing is sent yet; not to be kept beyond a call.

        Raises `pki.PkiError`.
        """
        if self._live is None:
            self._live = LiveCredentials(self._paths)
        credentials = self._live.current()
        known = self._open.get(bureau)
        if known is not None:
            if known.credentials is credentials and known.endpoint == endpoint:
                return known.channel
            self._drain(known.channel)
        channel = channel_to(endpoint, dns_name("node", bureau), credentials, self._options)
        self._open[bureau] = _Open(channel, endpoint, credentials)
        return channel

    def __len__(self) -> int:
        """How many bureaus there is a channel to; those that are being drained do not count."""
        return len(self._open)

    async def drop(self, bureau: str) -> None:
        """Close the channel to a bureau now: nobody uses it."""
        known = self._open.pop(bureau, None)
        if known is not None:
            await known.channel.close()

    async def close(self) -> None:
        """Close all; calls under way are cancelled."""
        channels = [known.channel for known in self._open.values()] + list(self._draining)
        for draining in self._draining.values():
            draining.cancel()
        self._open.clear()
        self._draining.clear()
        await asyncio.gather(*(channel.close() for channel in channels))

    def _drain(self, channel: grpc.aio.Channel) -> None:
        self._draining[channel] = asyncio.get_running_loop().create_task(self._close_later(channel))

    async def _close_later(self, channel: grpc.aio.Channel) -> None:
        # gRPC's own closing with grace refuses at once whoever has the channel in hand and is about to call.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(DRAIN_SECONDS)
            self._draining.pop(channel, None)
            await channel.close()
