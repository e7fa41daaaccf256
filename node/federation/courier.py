"""The courier: tells each peer what it is owed, until the peer has decided or acknowledged it.

Why it is so is on the package's own page.

`Courier` looks at what is owed after every commit that concerns a peer, and keeps one `Destination` for each pair of a
bureau and a peer; a destination delivers a batch, then the next.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge, Histogram

from kuaixiang.domain.errors import Refused
from kuaixiang.runtime import tracing
from kuaixiang.runtime.clock import EPOCH, SystemClock, from_micros
from kuaixiang.runtime.loops import Loop, doubled, end_tasks
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.server import NOT_NOW
from kuaixiang.runtime.streams import send
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import referral_pb2, supervision_pb2
from kuaixiang.wire.v1.referral_pb2 import SignedAttestation
from node.attachments import AttachmentsMissing, Missing
from node.federation import attestations, offers, statements
from node.federation.client import (
    CALL_SECONDS_MAX,
    CALL_SECONDS_MIN,
    Failed,
    Links,
    NoEndpoint,
    failure_here,
    failure_of,
)
from node.federation.offers import Message
from node.federation.receipts import hand_over_of
from node.federation.statements import OrderMessage, WordingErased
from node.ledger import evidence, queries
from node.ledger.blobs import CHUNK_BYTES
from node.ledger.ledger import Draft, Work
from node.ledger.queries import Delivery, HistoryEntry, Owed, PeerState
from node.office import Office
from node.orders import DOWN, UP, receipt_id_of

BATCH_MAX: Final = 64
"""Messages under way to one peer: a few milliseconds of its writer, so that its own officers do not feel it.

After a batch of which most had no answer no more than were answered, and then twice as many each time: a peer, or a
node, that is too busy to answer in time must not be kept busy by what is sent again."""
BACKOFF_SECONDS_MIN: Final = 0.2
"""After the first failure: most failures are a node restarting."""
BACKOFF_SECONDS_MAX: Final = 60.0
"""A peer that has been away for long is found again within a minute; at once when it calls in itself."""
ASIDE_SECONDS_MIN: Final = 5.0
"""A refused message is not mended by haste; often another entry of the peer's ledger must come first."""
ASIDE_SECONDS_MAX: Final = 600.0
"""Somebody mends a wrong tree or certificate during the day, and what waited goes out within ten minutes."""
SPREAD: Final = 0.2
"""Share by which each pause is moved at random, so that a province's counties do not return in step."""
PUT_SECONDS_MAX: Final = 600.0
"""A file of the largest size over a link of 300 kbit/s; what is cut off then is gone on with."""
LOOK_SECONDS: Final = 5.0
"""How often ages are looked at when nothing changes; commits wake the courier."""
LOOK_SECONDS_MIN: Final = 0.01
LOOK_SHARE: Final = 4
"""Under a stream of commits, four parts of rest to one of looking."""
STOP_SECONDS_MAX: Final = 2.0
"""A call cut off at the stop is one more whose answer was lost: it is repeated."""
IDLE_SECONDS: Final = 60.0
"""A destination that owes nothing is woken when it does; this is for nothing but safety."""

DELIVERIES: Final = Counter(
    "kx_deliveries_total", "Attempts to tell a peer something, by kind of message and result.", ["kind", "result"]
)
DELIVERY_SECONDS: Final = Histogram(
    "kx_delivery_seconds",
    "From reading a case to recording the peer's answer, by kind of message.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60),
)
FILES: Final = Counter(
    "kx_attachments_sent_total", "Files brought to peers ahead of an offer, by result: brought, broken_off.", ["result"]
)
PENDING: Final = Gauge("kx_deliveries_pending", "Messages that peers are owed and have not answered.")
OLDEST_AGE: Final = Gauge(
    "kx_delivery_oldest_age_seconds", "Business time since which the longest unanswered message has been owed."
)
UNREACHABLE: Final = Gauge("kx_peers_unreachable", "Peers that are owed something and failed at the last attempt.")
SET_ASIDE: Final = Gauge("kx_deliveries_set_aside", "Messages that a peer refuses to take; each is tried again.")

_log: Final = structlog.get_logger(__name__)
_REAL: Final = SystemClock()
"""Pauses are of real time; how long something has been owed is of business time."""


class Result(StrEnum):
    """What came of one attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ACKNOWLEDGED = "acknowledged"
    OVERTAKEN = "overtaken"
    """The case had moved on before the message was made; nothing was sent."""
    LATER = "later"
    """No answer: the peer is away or busy, or this node is."""
    CARRYING = "carrying"
    """The peer has not all of the case's files: they are being brought, and the case is offered again then."""
    ASIDE = "aside"
    """The message was not taken; this case waits by itself."""


class UnusableReceipt(Exception):
    """A peer answered with a receipt for something else."""

    def __init__(self, peer: str, what: str) -> None:
        self.peer = peer
        self.what = what
        super().__init__(f"The receipt of bureau {peer} is of no use: {what}.")


@dataclass(slots=True)
class Pause:
    """A destination's back-off.

    Failures in a row, when to try again (real time), with how many messages, and how many seconds each may take.
    """

    failures: int = 0
    until: datetime = EPOCH
    width: int = BATCH_MAX
    patience: float = CALL_SECONDS_MIN

    def seconds_left(self) -> float:
        """How long it still lasts; bounded, should the machine's clock have been set back."""
        return min(max((self.until - _REAL.now()).total_seconds(), 0.0), BACKOFF_SECONDS_MAX * (1 + SPREAD))

    def grow(self) -> None:
        """After another failure."""
        self.failures += 1
        self.until = _REAL.now() + timedelta(seconds=_backoff(self.failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX))

    def clear(self) -> None:
        """The peer is there; how much it can take, its answers will show."""
        self.failures, self.until = 0, EPOCH

    def learn(self, answered: Sequence[float], unanswered: Sequence[float]) -> None:
        """What became of a batch, after how many seconds: how wide the next one may be, and how long it may take.

        One message among many that is never answered changes neither. A peer that is away says so at once.
        """
        if len(answered) >= len(unanswered):
            self.width, took = min(2 * self.width, BATCH_MAX), max(answered)
        else:
            self.width, took = max(len(answered), 1), max(unanswered)
        self.patience = min(max(2 * took, CALL_SECONDS_MIN), CALL_SECONDS_MAX)


@dataclass(slots=True)
class Carriage:
    """Files of a case that are being brought to a peer, for the case as it was at that version."""

    version: int
    task: asyncio.Task[bool]

    @property
    def done_well(self) -> bool:
        """Whether the peer has been brought all of them."""
        return self.task.done() and not self.task.cancelled() and self.task.result()


@dataclass(frozen=True, slots=True)
class Aside:
    """A case whose message was not taken: how often, until when it waits (`time.monotonic`), and at which version."""

    failures: int
    until: float
    version: int


def _backoff(failures: int, seconds_min: float, seconds_max: float) -> float:
    pause = doubled(failures, seconds_min, seconds_max)
    return pause * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - pacing, no secret


class Destination:
    """What one bureau owes one peer, delivered a batch at a time. `step` is one batch."""

    def __init__(self, *, bureau: str, peer: str, office: Office, links: Links, seal: Seal, pause: Pause) -> None:
        self.bureau = bureau
        self.peer = peer
        self.pause = pause
        self.aside: dict[str, Aside] = {}
        self.carriages: dict[str, Carriage] = {}
        self.unanswered: dict[str, int] = {}
        """How often the message of a case had no answer, since it last had one."""
        self._road = asyncio.Lock()
        self.loop = Loop("delivery", self.step, IDLE_SECONDS)
        self._office = office
        self._links = links
        self._seal = seal
        self._kept_failures = pause.failures
        self._why_unanswered = ""

    async def stop(self) -> None:
        """Let the calls under way end for a moment; files that are being brought are brought on another time."""
        await self.loop.stop(STOP_SECONDS_MAX)
        await end_tasks(carriage.task for carriage in self.carriages.values())

    async def step(self) -> bool:
        """Deliver one batch; whether there may be more to deliver at once."""
        await self._keep_pause()
        left = self.pause.seconds_left()
        if left > 0:
            self.loop.interval_seconds = left
            return False
        wide = self.pause.width
        batch = await self._batch(wide)
        if not batch:
            self.loop.interval_seconds = self._seconds_until_next_aside()
            return False
        histories = await self._histories([delivery.case_id for delivery in batch])
        attempts = await asyncio.gather(
            *(self._attempt(delivery, histories.get(delivery.case_id, [])) for delivery in batch)
        )
        answered: list[float] = []
        unanswered: list[float] = []
        for delivery, (result, seconds) in zip(batch, attempts, strict=True):
            before = self.unanswered.pop(delivery.case_id, 0)
            if result is Result.LATER:
                self.unanswered[delivery.case_id] = before + 1
                unanswered.append(seconds)
            else:
                answered.append(seconds)
        self.pause.learn(answered, unanswered)
        if answered:
            self.pause.clear()
        if unanswered:
            self.pause.grow()
            # At the first, second, fourth, eighth …: hundreds of bureaus may be without a peer for hours.
            if self.pause.failures.bit_count() == 1:
                _log.warning(
                    "A peer gave no answer; what it is owed waits.",
                    action="delivery.peer_unreachable",
                    bureau=self.bureau,
                    peer=self.peer,
                    rule=self._why_unanswered,
                    failures=self.pause.failures,
                    pause_seconds=round(self.pause.seconds_left(), 1),
                )
        await self._keep_pause()
        self.loop.interval_seconds = self.pause.seconds_left() or self._seconds_until_next_aside()
        return not self.pause.failures and len(batch) == wide

    async def _keep_pause(self) -> None:
        """Persists the pause where it changed: a restart among unreachable peers must not knock on all at once."""
        failures, until = self.pause.failures, self.pause.until
        if failures == self._kept_failures:
            return

        def run(draft: Draft) -> None:
            draft.put_peer(self.bureau, self.peer, failures, until)

        await self._office.ledger.do(Work(run=run, bureau=self.bureau))
        self._kept_failures = failures

    async def _batch(self, wide: int) -> list[Delivery]:
        limit = BATCH_MAX + len(self.aside) + len(self.carriages)
        due = await asyncio.to_thread(queries.deliveries, self._office.ledger.database, self.bureau, self.peer, limit)
        if len(due) < limit:
            # Everything owed is in `due`: what was set aside and is not in it has been resolved otherwise.
            still = {delivery.case_id for delivery in due}
            self.aside = {case_id: aside for case_id, aside in self.aside.items() if case_id in still}
            self.unanswered = {case_id: times for case_id, times in self.unanswered.items() if case_id in still}
        waiting = [delivery for delivery in due if not self._waits(delivery.case_id)][:BATCH_MAX]
        # What had no answer comes behind what may have one: it may be the message's own fault, again and again.
        return sorted(waiting, key=lambda delivery: self.unanswered.get(delivery.case_id, 0))[:wide]

    async def _histories(self, case_ids: Sequence[str]) -> Mapping[str, list[HistoryEntry] | Exception]:
        """The entries of what is owed, read at once; where one cannot be read, what stands against it."""
        database = self._office.ledger.database
        try:
            return await asyncio.to_thread(queries.histories, database, self.bureau, case_ids, private=True)
        except NOT_NOW as silent:
            return dict.fromkeys(case_ids, silent)

    def _waits(self, case_id: str) -> bool:
        return self._is_aside(case_id) or self._is_carried(case_id)

    def _is_carried(self, case_id: str) -> bool:
        """Whether the case's files are under way; not for a case that has changed, which may be owed something else."""
        carriage = self.carriages.get(case_id)
        if carriage is None or carriage.task.done():
            return False
        case = self._office.ledger.cached(self.bureau, case_id)
        if case is None or case.version == carriage.version:
            return True
        carriage.task.cancel()
        return False

    def _is_aside(self, case_id: str) -> bool:
        aside = self.aside.get(case_id)
        if aside is None or aside.until <= time.monotonic():
            return False
        ledger = self._office.ledger
        subject = ledger.cached(self.bureau, case_id) or ledger.cached_order(self.bureau, case_id)
        return subject is None or subject.version == aside.version

    def _seconds_until_next_aside(self) -> float:
        next_at = min((aside.until for aside in self.aside.values()), default=float("inf"))
        return min(max(next_at - time.monotonic(), 0.0), IDLE_SECONDS)

    async def _attempt(self, delivery: Delivery, history: list[HistoryEntry] | Exception) -> tuple[Result, float]:
        """Delivers; what came of it, and after how many seconds."""
        started = time.monotonic()
        return await self._deliver(delivery, history), time.monotonic() - started

    async def _deliver(self, delivery: Delivery, history: list[HistoryEntry] | Exception) -> Result:
        """Delivers, in the trace of the act that has made it owed, if that is of one."""
        spans = tracing.spans()
        trace = None if spans is None else self._office.ledger.traces.of(self.bureau, delivery.case_id)
        if spans is None or trace is None:
            return await self._told(delivery, history)
        with spans.step("deliver", trace):
            result = await self._told(delivery, history)
            spans.say({"kx.bureau": self.bureau, "kx.peer": self.peer, "kx.result": str(result)})
            return result

    async def _told(self, delivery: Delivery, history: list[HistoryEntry] | Exception) -> Result:
        """Tells the peer what the case has for it now, and records the answer. Raises nothing but cancellation."""
        started = time.perf_counter()
        kind, version = "none", 0
        rule = ""
        try:
            if isinstance(history, Exception):
                raise history
            version = history[-1].entry.version if history else 0
            message = offers.owed(history, self.peer) or statements.owed_of_order(history, self.peer)
            if message is None:
                return self._count(kind, Result.OVERTAKEN)
            kind = _kind(message)
            result = await self._tell(message, version, await self._attested(message, history))
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
            result, rule = (Result.LATER if failure.what is Failed.PEER else Result.ASIDE), failure.rule or failure.code
        except (NoEndpoint, PkiError, *NOT_NOW) as not_now:
            result, rule = Result.LATER, type(not_now).__name__
        except Refused as refusal:
            failure = failure_here(refusal)
            result, rule = (Result.LATER if failure.what is Failed.PEER else Result.ASIDE), failure.rule
        except (WordingErased, UnusableReceipt) as unusable:
            result, rule = Result.ASIDE, type(unusable).__name__
        except Exception:  # noqa: BLE001 - a fault of ours with one case must not hold up the others
            _log.exception(
                "A delivery failed by a fault of this service.",
                action="delivery.fault",
                bureau=self.bureau,
                peer=self.peer,
                case_id=delivery.case_id,
            )
            result, rule = Result.ASIDE, "fault"
        DELIVERY_SECONDS.labels(kind).observe(time.perf_counter() - started)
        if result is Result.ASIDE:
            self._set_aside(delivery.case_id, version, kind, rule)
        else:
            if result is Result.LATER:
                self._why_unanswered = rule
                _log.debug(
                    "A message had no answer; it is sent again.",
                    action="delivery.later",
                    bureau=self.bureau,
                    peer=self.peer,
                    case_id=delivery.case_id,
                    kind=kind,
                    rule=rule,
                )
            if result is not Result.CARRYING:
                self.aside.pop(delivery.case_id, None)
                self.carriages.pop(delivery.case_id, None)
        return self._count(kind, result)

    @staticmethod
    def _count(kind: str, result: Result) -> Result:
        DELIVERIES.labels(kind, result).inc()
        return result

    def _set_aside(self, case_id: str, version: int, kind: str, rule: str) -> None:
        before = self.aside.get(case_id)
        failures = before.failures + 1 if before is not None else 1
        seconds = _backoff(failures, ASIDE_SECONDS_MIN, ASIDE_SECONDS_MAX)
        self.aside[case_id] = Aside(failures, time.monotonic() + seconds, version)
        _log.warning(
            "A peer does not take a message; its case is set aside and tried again later.",
            action="delivery.set_aside",
            bureau=self.bureau,
            peer=self.peer,
            case_id=case_id,
            kind=kind,
            rule=rule,
            failures=failures,
            pause_seconds=round(seconds, 1),
        )

    async def _attested(
        self, message: Message | OrderMessage, history: Sequence[HistoryEntry]
    ) -> SignedAttestation | None:
        """The word that goes with a message: our own, or as it came of whoever's the message passes on.

        None where none is needed, or none came: the peer says then what it misses.
        """
        match message:
            case supervision_pb2.OrderStatement() if message.issuer == self.bureau:
                salt = attestations.new_salt()
                return attestations.signed(attestations.of_statement(message, salt), self._seal.sign, salt)
            case supervision_pb2.OrderStatement():
                return await self._passed_on(message, DOWN)
            case supervision_pb2.OrderReport():
                order = statements.order_of(history)
                if order is None or not order.ends_here:
                    return await self._passed_on(message, UP)
                salt = attestations.new_salt()
                return attestations.signed(attestations.of_report(message, self.bureau, salt), self._seal.sign, salt)
            case referral_pb2.Offer() if message.snapshot.ruled_by == self.bureau:
                return attestations.signed(attestations.of_ruling(message), self._seal.sign)
            case referral_pb2.Offer() if message.snapshot.ruled_by:
                database = self._office.ledger.database
                referral_id = message.previous_referral_id
                return await asyncio.to_thread(evidence.attestation, database, self.bureau, referral_id)
            case _:
                return None

    async def _passed_on(self, message: OrderMessage, way: str) -> SignedAttestation | None:
        """The word that a message passes on; the message then says what that says."""
        database, receipt_id = self._office.ledger.database, receipt_id_of(message, way)
        kept = await asyncio.to_thread(evidence.attestation, database, self.bureau, receipt_id)
        if kept is not None:
            attestations.restate(message, kept)
        return kept

    async def _tell(
        self, message: Message | OrderMessage, version: int, attestation: SignedAttestation | None
    ) -> Result:
        patience = self.pause.patience
        match message:
            case supervision_pb2.OrderStatement():
                payload = message.SerializeToString()
                statement = supervision_pb2.DeliverOrderRequest(
                    statement=payload, signature=self._seal.sign(payload), attestation=attestation
                )
                answer = await self._links.supervision(self.peer).DeliverOrder(statement, timeout=patience)
                return await self._note(message, answer)
            case supervision_pb2.OrderReport():
                payload = message.SerializeToString()
                report = supervision_pb2.ReportOrderRequest(
                    report=payload, signature=self._seal.sign(payload), attestation=attestation
                )
                answer = await self._links.supervision(self.peer).ReportOrder(report, timeout=patience)
                return await self._note(message, answer)
            case referral_pb2.Offer():
                payload = message.SerializeToString()
                hand_over = hand_over_of(message, payload).SerializeToString()
                request = referral_pb2.OfferRequest(
                    offer=payload,
                    signature=self._seal.sign(payload),
                    hand_over=hand_over,
                    hand_over_signature=self._seal.sign(hand_over),
                    attestation=attestation,
                )
                try:
                    receipt = await self._links.told(self.peer, self.bureau).Offer(request, timeout=patience)
                except grpc.aio.AioRpcError as error:
                    if not self._carry(message, version, request, missing_of(error, message)):
                        raise
                    return Result.CARRYING
                return await self._settle(message, receipt)
            case referral_pb2.WithdrawRequest():
                receipt = await self._links.told(self.peer, self.bureau).Withdraw(message, timeout=patience)
                return await self._settle(message, receipt)
            case referral_pb2.ConcludeRequest():
                await self._links.told(self.peer, self.bureau).Conclude(message, timeout=patience)
                await self._office.acknowledge_conclusion(message)
                return Result.ACKNOWLEDGED

    # ------------------------------------------------------------ files

    def _carry(
        self, offer: referral_pb2.Offer, version: int, request: referral_pb2.OfferRequest, missing: Sequence[Missing]
    ) -> bool:
        """Begins to bring the peer the files of an offer that it misses; whether there is something to bring.

        Not again for a peer that has just been brought all of them: its answer then stands against the offer.
        """
        before = self.carriages.pop(offer.case_id, None)
        if not missing or (before is not None and before.version == version and before.done_well):
            return False
        task = asyncio.ensure_future(self._bring(offer.case_id, version, request, missing))
        self.carriages[offer.case_id] = Carriage(version, task)
        return True

    async def _bring(
        self, case_id: str, version: int, request: referral_pb2.OfferRequest, missing: Sequence[Missing]
    ) -> bool:
        """Brings files one after the other, beside the batches; whether all of them, so that the case can be offered.

        What breaks off sets the case aside: the answer to its next offer says how far the peer has come.
        """
        try:
            for one in missing:
                async with self._road:
                    await self._put(request, one)
        except grpc.aio.AioRpcError as error:
            rule = failure_of(error).rule or error.code().name
        except (NoEndpoint, PkiError, Refused, *NOT_NOW) as unusable:
            rule = type(unusable).__name__
        except Exception:  # noqa: BLE001 - a fault of ours with one case must not hold up the others
            _log.exception("A file could not be brought by a fault of this service.", action="attachment.fault")
            rule = "fault"
        else:
            self.loop.wake()
            return True
        self._set_aside(case_id, version, "attachment", rule)
        self.loop.wake()
        return False

    async def _put(self, request: referral_pb2.OfferRequest, missing: Missing) -> None:
        from_byte = missing.held_bytes - missing.held_bytes % CHUNK_BYTES
        pieces = self._office.attachments.read(missing.digest, from_byte)
        result = "broken_off"
        try:
            await send(
                self._links.stub(self.peer).PutAttachment(timeout=PUT_SECONDS_MAX),
                referral_pb2.PutAttachmentRequest(offer=request, digest=missing.digest, from_byte=from_byte),
                (referral_pb2.PutAttachmentRequest(data=piece) async for piece in pieces),
            )
            result = "brought"
        finally:
            FILES.labels(result).inc()

    async def _settle(
        self, asked: referral_pb2.Offer | referral_pb2.WithdrawRequest, receipt: referral_pb2.Receipt
    ) -> Result:
        decision = decision_of(receipt, asked, self._seal)
        await self._office.settle(self.bureau, decision, receipt.SerializeToString())
        return Result.ACCEPTED if decision.accepted else Result.REFUSED

    async def _note(self, told: OrderMessage, receipt: supervision_pb2.OrderReceipt) -> Result:
        record = record_of(receipt, told, self._seal)
        await self._office.orders.note_delivery(self.bureau, self.peer, record)
        return Result.ACKNOWLEDGED


def _kind(message: Message | OrderMessage) -> str:
    match message:
        case supervision_pb2.OrderStatement():
            return "order"
        case supervision_pb2.OrderReport():
            return "order_report"
        case referral_pb2.Offer():
            return "offer"
        case referral_pb2.WithdrawRequest():
            return "withdraw"
        case referral_pb2.ConcludeRequest():
            return "conclude"


def missing_of(error: grpc.aio.AioRpcError, offer: referral_pb2.Offer) -> list[Missing]:
    """The files of an offer that its receiver does not have, by its own words; it is told no other file's content."""
    refusal = from_call(error)
    if refusal is None or refusal.rule != AttachmentsMissing.__name__:
        return []
    listed = {attachment.digest for attachment in offer.snapshot.attachments}
    return [one for one in AttachmentsMissing.read(refusal.facts) if one.digest in listed]


def decision_of(
    receipt: referral_pb2.Receipt, asked: referral_pb2.Offer | referral_pb2.WithdrawRequest, seal: Seal
) -> referral_pb2.Decision:
    """The decision in a receipt, proven to be the asked bureau's on the asked referral.

    Raises `SignatureNotProven`, `UnusableReceipt`.
    """
    seal.check(receipt.decision, receipt.signature, asked.to_bureau)
    try:
        decision = referral_pb2.Decision.FromString(receipt.decision)
    except DecodeError as failure:
        raise UnusableReceipt(asked.to_bureau, "it holds no decision") from failure
    wanted = (asked.to_bureau, asked.referral_id, asked.case_id, asked.epoch)
    if wanted != (decision.bureau, decision.referral_id, decision.case_id, decision.epoch):
        raise UnusableReceipt(asked.to_bureau, "it decides something else")
    return decision


def record_of(receipt: supervision_pb2.OrderReceipt, told: OrderMessage, seal: Seal) -> supervision_pb2.OrderRecord:
    """What a receipt proves: that the bureau told has this statement or report in its ledger.

    Raises `SignatureNotProven`, `UnusableReceipt`.
    """
    seal.check(receipt.record, receipt.signature, told.to_bureau)
    try:
        record = supervision_pb2.OrderRecord.FromString(receipt.record)
    except DecodeError as failure:
        raise UnusableReceipt(told.to_bureau, "it holds no record") from failure
    wanted = (told.to_bureau, told.order_id, told.nonce, told.step)
    if wanted != (record.bureau, record.order_id, record.nonce, record.step):
        raise UnusableReceipt(told.to_bureau, "it is for something else")
    return record


class Courier:
    """Keeps the destinations of a node's bureaus going. `step` is one look at what is owed."""

    def __init__(self, office: Office, links: Links, seal: Seal) -> None:
        self.destinations: dict[tuple[str, str], Destination] = {}
        self._office = office
        self._links = links
        self._seal = seal
        self._pauses: dict[tuple[str, str], Pause] = {}
        self._loop = Loop("courier", self.step, LOOK_SECONDS)
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._seen = 0
        """Of the ledger's `owing_commits`, what it was woken by."""
        office.ledger.writer.after_commit(self._committed)

    async def start(self) -> None:
        """Read the pauses that were kept, and begin. Repeats do nothing."""
        if self._event_loop is not None:
            return
        kept = await asyncio.to_thread(queries.peer_states, self._office.ledger.database)
        self._pauses = {pair: _pause(state) for pair, state in kept.items()}
        self._event_loop = asyncio.get_running_loop()
        self._loop.start()

    async def stop(self) -> None:
        """Let the calls under way end for a moment. What is owed stays owed."""
        self._event_loop = None
        await self._loop.stop()
        await asyncio.gather(*(destination.stop() for destination in self.destinations.values()))
        self.destinations.clear()

    async def step(self) -> bool:
        """Wake whoever has something to deliver, and show what waits; no more to do until something changes."""
        started = time.perf_counter()
        owed = await asyncio.to_thread(queries.owed_peers, self._office.ledger.database)
        for one in owed:
            destination = self._destination(one.bureau, one.peer)
            destination.loop.start()
            if not destination.pause.seconds_left():
                destination.loop.wake()
        self._show(owed)
        # The next look is woken by the next commit: this keeps a busy ledger from being looked at all the time.
        await asyncio.sleep(max(LOOK_SECONDS_MIN, LOOK_SHARE * (time.perf_counter() - started)))
        return False

    def heard_from(self, bureau: str, peer: str) -> None:
        """A peer has called one of our bureaus: it is there, whatever its pause says."""
        pause = self._pauses.get((bureau, peer))
        if pause is None or not pause.failures:
            return
        pause.clear()
        destination = self.destinations.get((bureau, peer))
        if destination is not None:
            destination.loop.wake()

    def _destination(self, bureau: str, peer: str) -> Destination:
        pair = (bureau, peer)
        destination = self.destinations.get(pair)
        if destination is None:
            pause = self._pauses.setdefault(pair, Pause())
            destination = Destination(
                bureau=bureau, peer=peer, office=self._office, links=self._links, seal=self._seal, pause=pause
            )
            self.destinations[pair] = destination
        return destination

    def _show(self, owed: Sequence[Owed]) -> None:
        now = self._office.place.clock.now()
        oldest = min((from_micros(one.since_us) for one in owed), default=now)
        PENDING.set(sum(one.messages for one in owed))
        OLDEST_AGE.set(max((now - oldest).total_seconds(), 0.0))
        UNREACHABLE.set(sum(self.destinations[one.bureau, one.peer].pause.failures > 0 for one in owed))
        SET_ASIDE.set(sum(len(destination.aside) for destination in self.destinations.values()))

    def _committed(self) -> None:
        """On the writer's thread, after each commit: most are of cases that concern no peer."""
        event_loop, owing = self._event_loop, self._office.ledger.owing_commits
        if event_loop is not None and owing != self._seen:
            self._seen = owing
            # An event loop that has just been closed has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                event_loop.call_soon_threadsafe(self._loop.wake)


def _pause(state: PeerState) -> Pause:
    return Pause(state.failures, from_micros(state.next_attempt_us), 1 if state.failures else BATCH_MAX)
