"""Links to other bureaus' nodes: one long-lived channel for each, under mutual TLS, opened when first needed."""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Self

import grpc
import grpc.aio

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.pki import CertificatePaths, Credentials, LiveCredentials, dns_name
from kuaixiang.runtime.tls import Options, open_channel
from kuaixiang.wire.errors import RemoteRefusal, from_call
from kuaixiang.wire.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from kuaixiang.wire.v1.referral_pb2_grpc import ReferralServiceStub
from kuaixiang.wire.v1.supervision_pb2_grpc import SupervisionServiceStub

CALL_SECONDS_MAX: Final = 10.0
"""A decision takes milliseconds; what has no answer by then is asked again, under the same id."""
LINK_OPTIONS: Final[Options] = (
    # A bureau has few neighbours, so that looking for a lost one every two seconds costs nothing.
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class NoEndpoint(Exception):
    """The tree does not say where a bureau's node answers."""

    def __init__(self, bureau: str) -> None:
        self.bureau = bureau
        super().__init__(f"The tree gives no endpoint for bureau {bureau}; add it, and what waits is delivered.")


class Failed(Enum):
    """What a failed call says: something of the link or the peer, or something of this one message."""

    PEER = "peer"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call. `rule`: the peer's named refusal, where there was one."""

    what: Failed
    code: str
    rule: str = ""


_OF_THE_PEER: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
    }
)


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """What a failed call says. None of it is a decision about a case."""
    refusal: RemoteRefusal | None = from_call(error)
    what = Failed.PEER if error.code() in _OF_THE_PEER else Failed.MESSAGE
    return Failure(what, error.code().name, refusal.rule if refusal else "")


@dataclass(slots=True)
class _Link:
    channel: grpc.aio.Channel
    referrals: ReferralServiceStub
    reconciliation: ReconciliationServiceStub
    supervision: SupervisionServiceStub
    credentials: Credentials


class Links:
    """Opens a link to a bureau when it is first asked for, and again when the node's certificate has been renewed.

    A bureau of this very node is reached like any other.
    """

    def __init__(self, tree: BureauTree, paths: CertificatePaths) -> None:
        self._tree = tree
        self._paths = paths
        self._live = LiveCredentials(paths)
        self._links: dict[str, _Link] = {}
        self._closing: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def stub(self, bureau: str) -> ReferralServiceStub:
        """The referral service of a bureau; raises `NoEndpoint`, `pki.PkiError`. Nothing is sent yet."""
        return self._link(bureau).referrals

    def reconciliation(self, bureau: str) -> ReconciliationServiceStub:
        """The reconciliation service of a bureau; raises `NoEndpoint`, `pki.PkiError`. Nothing is sent yet."""
        return self._link(bureau).reconciliation

    def supervision(self, bureau: str) -> SupervisionServiceStub:
        """The supervision service of a bureau, as `stub` gives the referral service."""
        return self._link(bureau).supervision

    def channel(self, bureau: str) -> grpc.aio.Channel:
        """The channel to a bureau's node, for its other services; raises as `stub` does. Not to be kept."""
        return self._link(bureau).channel

    def _link(self, bureau: str) -> _Link:
        endpoint = self._tree.get(bureau).endpoint if bureau in self._tree else ""
        if not endpoint:
            raise NoEndpoint(bureau)
        credentials = self._live.current()
        link = self._links.get(bureau)
        if link is None or link.credentials is not credentials:
            # A channel's credentials are fixed when it is opened.
            if link is not None:
                self._retire(link)
            channel = open_channel(endpoint, dns_name("node", bureau), self._paths, LINK_OPTIONS)
            stubs = ReferralServiceStub(channel), ReconciliationServiceStub(channel), SupervisionServiceStub(channel)
            link = self._links[bureau] = _Link(channel, *stubs, credentials)
        return link

    async def close(self) -> None:
        """Close all links; calls under way are cancelled."""
        links, self._links = self._links, {}
        await asyncio.gather(*(link.channel.close() for link in links.values()), *self._closing)

    def _retire(self, link: _Link) -> None:
        closing = asyncio.ensure_future(link.channel.close(CALL_SECONDS_MAX))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
