"""Links to other bureaus' nodes: one long-lived channel for each, under mutual TLS, opened when first needed."""

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, Self, cast

import grpc
import grpc.aio
from grpc_status import rpc_status

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.channels import Channels
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.tls import Options
from kuaixiang.wire.errors import RemoteRefusal, from_call, to_status
from kuaixiang.wire.v1 import referral_pb2
from kuaixiang.wire.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from kuaixiang.wire.v1.referral_pb2_grpc import ReferralServiceStub
from kuaixiang.wire.v1.supervision_pb2_grpc import SupervisionServiceStub

CALL_SECONDS_MIN: Final = 10.0
"""A decision takes milliseconds; what has no answer by then is asked again, under the same id."""
CALL_SECONDS_MAX: Final = 60.0
"""Who is too busy to answer sooner is waited for this long: asked again, he would only have more to do."""
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
    return _failure(error.code(), refusal.rule if refusal else "")


def failure_here(refusal: Refused) -> Failure:
    """What a refusal says that came without a link, as `failure_of` says it of one that came by one."""
    return _failure(rpc_status.to_status(to_status(refusal)).code, refusal.rule)


def _failure(code: grpc.StatusCode, rule: str) -> Failure:
    return Failure(Failed.PEER if code in _OF_THE_PEER else Failed.MESSAGE, code.name, rule)


@dataclass(frozen=True, slots=True)
class _Link:
    channel: grpc.aio.Channel
    referrals: ReferralServiceStub
    reconciliation: ReconciliationServiceStub
    supervision: SupervisionServiceStub


class Told(Protocol):
    """What the courier asks of a peer about a case. Raises AioRpcError over a link, `Refused` and `NOT_NOW` without."""

    def Offer(self, request: referral_pb2.OfferRequest, *, timeout: float) -> Awaitable[referral_pb2.Receipt]:
        """The peer's decision on a case that it is offered."""
        ...

    def Withdraw(self, request: referral_pb2.WithdrawRequest, *, timeout: float) -> Awaitable[referral_pb2.Receipt]:
        """Its decision on an offer that the sender would take back."""
        ...

    def Conclude(
        self, request: referral_pb2.ConcludeRequest, *, timeout: float
    ) -> Awaitable[referral_pb2.ConcludeResponse]:
        """That it has heard how a case ended."""
        ...


class Here(Told, Protocol):
    """Who answers in this process, and for which bureaus: those of this node."""

    @property
    def bureaus(self) -> frozenset[str]:
        """Their codes."""
        ...


class Links:
    """Opens a link to a bureau when it is first asked for, and again after a renewal of certificates or a move.

    A bureau of this very node is reached like any other, but for what the courier tells it (`told`).
    """

    def __init__(self, trees: InForce[BureauTree], paths: CertificatePaths) -> None:
        self._trees = trees
        self._channels = Channels(paths, LINK_OPTIONS)
        self._links: dict[str, _Link] = {}
        self._here: Here | None = None

    def answer_here(self, here: Here) -> None:
        """Have `here` answer for its bureaus what `told` would ask over a link."""
        self._here = here

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def stub(self, bureau: str) -> ReferralServiceStub:
        """The referral service of a bureau; raises `NoEndpoint`, `pki.PkiError`. Nothing is sent yet."""
        return self._link(bureau).referrals

    def told(self, bureau: str, by: str) -> Told:
        """Who takes what one bureau tells another about a case: over a link, or in this process; raises as `stub` does.

        A node that calls itself waits behind all that others ask of it, in both directions. One that has lost a bureau
        to another node may keep its ledger still: the tree says where that bureau answers.
        """
        here = self._here
        if here is not None and {bureau, by} <= here.bureaus and "" != self._endpoint(bureau) == self._endpoint(by):
            return here
        return cast("Told", self.stub(bureau))

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
        endpoint = self._endpoint(bureau)
        if not endpoint:
            raise NoEndpoint(bureau)
        channel = self._channels.channel(bureau, endpoint)
        link = self._links.get(bureau)
        if link is None or link.channel is not channel:
            stubs = ReferralServiceStub(channel), ReconciliationServiceStub(channel), SupervisionServiceStub(channel)
            link = self._links[bureau] = _Link(channel, *stubs)
        return link

    def _endpoint(self, bureau: str) -> str:
        """Empty where the tree does not say."""
        tree = self._trees.value
        return tree.get(bureau).endpoint if bureau in tree else ""

    async def close(self) -> None:
        """Close all links; calls under way are cancelled."""
        self._links.clear()
        await self._channels.close()
