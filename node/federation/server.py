"""ReferralService: what a bureau of ours answers to its superior and its subordinates.

Everything is checked before the ledger hears of it: the form, who is calling and for whom, and the signature. What
fails is a named refusal and leaves no trace in the ledger. What passes is decided by rule, recorded, and only then
answered.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from kuaixiang.domain.attachments import check_attachments
from kuaixiang.domain.authority import Caller, Subject
from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import FieldMalformed, FieldMissing, UnknownCase
from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import (
    NAME_CHARACTERS_MAX,
    NOTE_CHARACTERS_MAX,
    REFERENCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    at_most,
    check_case_id,
)
from kuaixiang.domain.words import Custody, Outcome
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.server import Context, Inside, admit
from kuaixiang.runtime.streams import content
from kuaixiang.wire.codec import attachment_of, enum_of, instant
from kuaixiang.wire.v1 import referral_pb2, referral_pb2_grpc
from node.attachments import UnknownAttachment
from node.cases import clock_view, history_item
from node.federation.attestations import check_attestation, of_ruling
from node.federation.client import Links, NoEndpoint, failure_of
from node.federation.receipts import check_hand_over
from node.ledger import evidence, queries
from node.ledger.queries import HistoryEntry
from node.office import Office

OFFER_BYTES_MAX: Final = 256 * 1024
"""Text and reason of 10,000 characters of three bytes each, with as much again for the rest."""
EPOCH_MAX: Final = 1_000_000
"""Hand-overs and reopenings of one case; the field holds four thousand times as many, so that counting never ends."""
OFFERED_EPOCH_MAX: Final = EPOCH_MAX // 2
"""An offer above it is forged; were it taken, the case could be handed on no more when the epochs are used up."""
PATH_BUREAUS_MAX: Final = 64
"""More than any tree is deep, so that the rule on hops, which is a decision, meets a long journey first."""
SKEW_MICROS_MAX: Final = 24 * 3600 * 1_000_000
"""How far a peer's clock may be ahead: more than that is a broken clock, and its times would spoil ours."""
HOP_SECONDS_MAX: Final = 5.0
"""Following a case, or a subordinate's, over all the hops; an officer waits for it."""
HOP_SHARE: Final = 0.8
"""Of the time left at each hop, so that the answer on what is unreachable comes back before the asker gives up."""

_TOO_MANY_HANDOVERS: Final = (
    Both("counts more hand-overs than a case can have", "超过一项诉求可能的移交次数"),
    Both("Compare both ledgers.", "请核对双方台账。"),
)

HeardFrom = Callable[[str, str], None]
"""Told that a bureau of ours has been called by a peer."""

_log: Final = structlog.get_logger(__name__)


class ReferralServicer(referral_pb2_grpc.ReferralServiceServicer):
    """Answers ReferralService for the bureaus of one node; `heard_from` is the courier's."""

    def __init__(self, office: Office, links: Links, seal: Seal, heard_from: HeardFrom) -> None:
        self._office = office
        self._links = links
        self._seal = seal
        self._heard_from = heard_from

    async def Offer(self, request: referral_pb2.OfferRequest, context: Context) -> referral_pb2.Receipt:
        """The decision on a case offered, recorded with the case. Repeats get the first receipt, word for word.

        Raises `FieldMissing`, `FieldMalformed`, `NotAuthorised`, `SignatureNotProven`, `NotThisBureau`; and, while
        files of the case are not here, `AttachmentsMissing`, which is no decision. Of an offer that carries out a
        ruling also `NotAttested` and `AttestationDiffers`: its superior's own word is missing, or is another.
        """
        offer = offer_of(request, to_micros(self._office.place.clock.now()))
        self._admit_peer(context, "Offer", offer.from_bureau, offer.to_bureau)
        self._seal.check(request.offer, request.signature, offer.from_bureau)
        check_hand_over(request, offer, self._seal.check)
        attestation = await self._ruling_attested(request, offer)
        word = request.hand_over_signature if request.hand_over else None
        return self._receipt(await self._office.decide_offer(offer, request.hand_over, word, attestation))

    async def _ruling_attested(self, request: referral_pb2.OfferRequest, offer: referral_pb2.Offer) -> bytes:
        """The word of the superior whose ruling an offer carries out, as it is kept; empty where none is needed.

        A repeat of what has been decided is not held to it again: the superior's certificate may be another one since,
        and to whoever has not had the receipt a case that is here would stand as offered.
        """
        ruled_by = offer.snapshot.ruled_by
        database = self._office.ledger.database
        if not ruled_by or await asyncio.to_thread(evidence.is_decided, database, offer.to_bureau, offer.referral_id):
            return b""
        directly = offer.from_bureau == ruled_by and offer.to_bureau == offer.final_bureau
        return check_attestation(request.attestation, of_ruling(offer), self._seal.check, directly=directly)

    async def PutAttachment(
        self, request_iterator: AsyncIterator[referral_pb2.PutAttachmentRequest], context: Context
    ) -> referral_pb2.PutAttachmentResponse:
        """Takes in a file that an offer lists, the offer being sent along as proof that it does. It decides nothing.

        Raises what `Offer` does, `UnknownAttachment`, `TooMuchUndecided`, `ContentDiffers`, `ContentBrokenOff`,
        `ContentUnderWay`.
        """
        first = await anext(request_iterator, referral_pb2.PutAttachmentRequest())
        offer = offer_of(first.offer, to_micros(self._office.place.clock.now()))
        self._admit_peer(context, "PutAttachment", offer.from_bureau, offer.to_bureau)
        self._seal.check(first.offer.offer, first.offer.signature, offer.from_bureau)
        listed = {attachment.digest: attachment for attachment in offer.snapshot.attachments}
        if first.digest not in listed:
            raise UnknownAttachment(offer.case_id, first.digest)
        attachment, taken = attachment_of(listed[first.digest]), content(request_iterator, context)
        await self._office.attachments.take_in(attachment, taken, first.from_byte, brought_by=offer.from_bureau)
        return referral_pb2.PutAttachmentResponse()

    async def Withdraw(self, request: referral_pb2.WithdrawRequest, context: Context) -> referral_pb2.Receipt:
        """The decision on an offer that its sender would take back; from now on there is one.

        Raises `FieldMissing`, `FieldMalformed`, `NotAuthorised`, `NotThisBureau`.
        """
        check_case_id(request.referral_id, "referral_id")
        check_case_id(request.case_id, "case_id")
        _check_epoch(request.epoch)
        check_instant(request.offered_at_us, "offered_at_us", to_micros(self._office.place.clock.now()))
        self._admit_peer(context, "Withdraw", request.from_bureau, request.to_bureau)
        return self._receipt(await self._office.withdraw_offer(request))

    def _receipt(self, kept: bytes) -> referral_pb2.Receipt:
        """The decision as it was recorded, word for word, signed by the certificate that this node has now."""
        receipt = referral_pb2.Receipt.FromString(kept)
        receipt.signature.CopyFrom(self._seal.renewed(receipt.decision, receipt.signature))
        return receipt

    async def Conclude(self, request: referral_pb2.ConcludeRequest, context: Context) -> referral_pb2.ConcludeResponse:
        """How a case ended that went through both bureaus, or that it was reopened.

        Raises `FieldMissing`, `FieldMalformed`, `NotAuthorised`, `NotThisBureau`, `UnknownCase`,
        `ImpossibleConclusion`.
        """
        _check_conclusion(request, to_micros(self._office.place.clock.now()))
        self._admit_peer(context, "Conclude", request.from_bureau, request.to_bureau)
        return referral_pb2.ConcludeResponse(seq=await self._office.hear_conclusion(request))

    async def ListReceipts(
        self, request: referral_pb2.ListReceiptsRequest, context: Context
    ) -> referral_pb2.ListReceiptsResponse:
        """The receipts of a case's hand-overs that the bureau has given and got.

        Raises `FieldMalformed`, `NotAuthorised`, `NotThisBureau`.
        """
        check_case_id(request.case_id, "case_id")
        admit(context, "ListReceipts", Subject(bureau=request.bureau), self._office.place.tree)
        self._office.check_hosted(request.bureau, "bureau")
        kept = await asyncio.to_thread(evidence.receipts, self._office.ledger.database, request.bureau, request.case_id)
        return referral_pb2.ListReceiptsResponse(receipts=map(referral_pb2.Receipt.FromString, kept))

    async def Track(self, request: referral_pb2.TrackRequest, context: Context) -> referral_pb2.TrackResponse:
        """Where the case is: this bureau's segment, and those of the bureaus it went on to.

        Raises `FieldMalformed`, `NotThisBureau`, `UnknownCase`, `NotAuthorised`.
        """
        check_case_id(request.case_id, "case_id")
        if len(request.asked) > PATH_BUREAUS_MAX:
            raise FieldMalformed(
                "asked",
                Both(f"names {len(request.asked)} bureaus", f"有 {len(request.asked)} 个之多"),
                Both("Begin at the case's first bureau.", "请从首次受理该诉求的单位开始查询。"),
            )
        case = await self._trackable(request, context)
        response = referral_pb2.TrackResponse(segments=[await self._segment(case, whole=request.whole)])
        if not request.asked:
            progress = self._office.heard.of(case)
            if progress is not None:
                response.progress.CopyFrom(progress)
        asked = {*request.asked, request.bureau}
        for following in _further(case, whole=request.whole):
            if following in asked:
                continue
            question = referral_pb2.TrackRequest(
                bureau=following, case_id=case.case_id, asked=sorted(asked), whole=request.whole
            )
            further = await self._follow(question, seconds_for_a_hop(context))
            self._add(response, further, asked)
            asked |= {segment.bureau for segment in further.segments} | {following}
        return response

    def _add(self, response: referral_pb2.TrackResponse, further: referral_pb2.TrackResponse, asked: set[str]) -> None:
        """Adds what a peer tells of itself and of those beyond it; nobody speaks for who has spoken already.

        Nothing private travels here, whatever a peer sends; a segment that makes no sense is one that is missing.
        """
        away = [*filter(None, (further.unreachable,)), *further.more_unreachable]
        for segment in further.segments:
            if segment.bureau in asked or segment.bureau not in self._office.place.tree:
                continue
            for item in segment.history:
                item.ClearField("note")
            try:
                for stamp in (*(item.occurred_at for item in segment.history), *(one.due_at for one in segment.clocks)):
                    instant(stamp)
            except FieldMalformed:
                away.append(segment.bureau)
                continue
            response.segments.append(segment)
        for bureau in away:
            if not response.unreachable:
                response.unreachable = bureau
            elif bureau not in {response.unreachable, *response.more_unreachable}:
                response.more_unreachable.append(bureau)

    async def _trackable(self, request: referral_pb2.TrackRequest, context: Context) -> Case:
        """The case, for its bureau's officers and for the bureaus it was handed over with."""
        tree = self._office.place.tree
        try:
            case = await self._office.read_case(request.bureau, request.case_id)
        except UnknownCase:
            # A stranger does not learn which cases there are.
            admit(context, "Track", Subject(bureau=request.bureau), tree)
            raise
        admit(context, "Track", Subject(bureau=request.bureau, parties=frozenset(case.neighbour_bureaus)), tree)
        return case

    async def _segment(self, case: Case, *, whole: bool) -> referral_pb2.TrackedSegment:
        history: list[HistoryEntry] = []
        if whole:
            database = self._office.ledger.database
            history = await asyncio.to_thread(queries.history, database, case.bureau, case.case_id, private=False)
        now = self._office.place.clock.now()
        words: dict[str, Any] = {"stage": case.stage, "custody": case.custody}
        return referral_pb2.TrackedSegment(
            bureau=case.bureau,
            epoch=case.epoch,
            clocks=[clock_view(clock, now) for clock in case.clocks],
            with_bureau=case.with_bureau,
            history=[history_item(item.seq, item.entry) for item in history],
            **words,
        )

    async def _follow(self, question: referral_pb2.TrackRequest, seconds: float) -> referral_pb2.TrackResponse:
        bureau = question.bureau
        try:
            answer = await self._links.stub(bureau).Track(question, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            reason = failure_of(error).code
        except (NoEndpoint, PkiError) as failure:
            reason = type(failure).__name__
        else:
            return answer
        _log.info("A case could not be followed further.", action="track.unreachable", bureau=bureau, reason=reason)
        return referral_pb2.TrackResponse(unreachable=bureau)

    def _admit_peer(self, context: Context, rpc: str, from_bureau: str, to_bureau: str) -> None:
        admit(context, rpc, Subject(bureau=to_bureau, speaker=from_bureau), self._office.place.tree)
        self._office.check_hosted(to_bureau)
        self._heard_from(to_bureau, from_bureau)


def _further(case: Case, *, whole: bool) -> tuple[str, ...]:
    """Whom to ask further: where the case went, or everybody whom it was handed over with."""
    if whole:
        return tuple(bureau for bureau, _ in case.neighbours)
    return (case.neighbours[-1][0],) if case.custody is Custody.RELEASED and case.neighbours else ()


def offer_of(request: referral_pb2.OfferRequest, now_us: int) -> referral_pb2.Offer:
    """The offer in a request, in a form that the rules can decide on; raises `FieldMissing`, `FieldMalformed`."""
    if len(request.offer) > OFFER_BYTES_MAX:
        raise FieldMalformed(
            "offer",
            Both(f"has {len(request.offer)} bytes", f"有 {len(request.offer)} 字节，过大"),
            Both(f"An offer has at most {OFFER_BYTES_MAX}.", f"移交单最多 {OFFER_BYTES_MAX} 字节。"),
        )
    try:
        offer = referral_pb2.Offer.FromString(request.offer)
    except DecodeError as failure:
        raise FieldMalformed(
            "offer",
            Both("is not a serialized offer", "无法读取"),
            Both(
                "Send a serialized kuaixiang.wire.v1.Offer; its texts are UTF-8.",
                "请发送 kuaixiang.wire.v1.Offer 报文，文字采用 UTF-8 编码。",
            ),
        ) from failure
    check_case_id(offer.referral_id, "offer.referral_id")
    check_case_id(offer.case_id, "offer.case_id")
    if offer.previous_referral_id:
        check_case_id(offer.previous_referral_id, "offer.previous_referral_id")
    _check_epoch(offer.epoch, OFFERED_EPOCH_MAX)
    if len(offer.path) > PATH_BUREAUS_MAX:
        raise FieldMalformed(
            "offer.path",
            Both(f"names {len(offer.path)} bureaus", f"有 {len(offer.path)} 个单位，过多"),
            Both("It lists the bureaus of this journey.", "移交路径只列本次移交经过的单位。"),
        )
    for field, code in (
        ("offer.final_bureau", offer.final_bureau),
        ("offer.snapshot.origin_bureau", offer.snapshot.origin_bureau),
        *(("offer.path", code) for code in offer.path),
        *(("offer.snapshot.disputants", code) for code in offer.snapshot.disputants),
        *((("offer.snapshot.ruled_by", offer.snapshot.ruled_by),) if offer.snapshot.ruled_by else ()),
    ):
        check_bureau(code, field)
    if len(offer.snapshot.disputants) > PATH_BUREAUS_MAX or offer.snapshot.returns > EPOCH_MAX:
        raise FieldMalformed("offer.snapshot.returns", *_TOO_MANY_HANDOVERS)
    check_instant(offer.offered_at_us, "offer.offered_at_us", now_us)
    check_instant(offer.snapshot.registered_at_us, "offer.snapshot.registered_at_us", now_us)
    at_most(offer.reason, "offer.reason", NOTE_CHARACTERS_MAX)
    snapshot = offer.snapshot
    for field, text, characters in (
        ("taxpayer_name", snapshot.taxpayer_name, NAME_CHARACTERS_MAX),
        ("taxpayer_number", snapshot.taxpayer_number, REFERENCE_CHARACTERS_MAX),
        ("contact", snapshot.contact, NAME_CHARACTERS_MAX),
        ("text", snapshot.text, TEXT_CHARACTERS_MAX),
        ("place", snapshot.place, REFERENCE_CHARACTERS_MAX),
    ):
        at_most(text, f"offer.snapshot.{field}", characters)
    check_attachments(map(attachment_of, snapshot.attachments), "offer.snapshot.attachments.")
    return offer


def _check_conclusion(request: referral_pb2.ConcludeRequest, now_us: int) -> None:
    check_case_id(request.case_id, "case_id")
    check_case_id(request.referral_id, "referral_id")
    check_bureau(request.handled_by, "handled_by")
    if request.epoch > EPOCH_MAX or request.round > EPOCH_MAX:
        raise FieldMalformed("epoch", *_TOO_MANY_HANDOVERS)
    enum_of(Outcome, request.outcome, "outcome")
    check_instant(request.completed_at_us, "completed_at_us", now_us)
    at_most(request.result, "result", NOTE_CHARACTERS_MAX)


def _check_epoch(epoch: int, epoch_max: int = EPOCH_MAX) -> None:
    if epoch < 1:
        raise FieldMissing("epoch", Both("it says which hand-over of the case this is", "须写明是该诉求的第几次移交"))
    if epoch > epoch_max:
        raise FieldMalformed("epoch", *_TOO_MANY_HANDOVERS)


class NodeItself:
    """Answers the courier of a bureau for another one of the same node, as the node would answer another node.

    What is asked, checked, decided and signed is the same; without a link there is neither deadline nor limit.
    """

    def __init__(self, servicer: ReferralServicer, bureaus: Iterable[str]) -> None:
        self.bureaus = frozenset(bureaus)
        self._servicer = servicer
        self._inside: Any = Inside(Caller(bureaus=self.bureaus))

    async def Offer(self, request: referral_pb2.OfferRequest, *, timeout: float) -> referral_pb2.Receipt:
        """As `ReferralServicer.Offer`."""
        return await self._servicer.Offer(request, self._inside)

    async def Withdraw(self, request: referral_pb2.WithdrawRequest, *, timeout: float) -> referral_pb2.Receipt:
        """As `ReferralServicer.Withdraw`."""
        return await self._servicer.Withdraw(request, self._inside)

    async def Conclude(self, request: referral_pb2.ConcludeRequest, *, timeout: float) -> referral_pb2.ConcludeResponse:
        """As `ReferralServicer.Conclude`."""
        return await self._servicer.Conclude(request, self._inside)


def seconds_for_a_hop(context: Context) -> float:
    """How long the next bureau on the way may take: less than the caller waits, so that its answer still gets back."""
    left: Any = context.time_remaining()  # None without a deadline, which the stubs do not know
    return min(HOP_SECONDS_MAX, HOP_SHARE * left if left is not None else HOP_SECONDS_MAX)


def check_bureau(code: str, field: str) -> None:
    """Raises `FieldMalformed` for what is no bureau's code."""
    if not is_division_code(code):
        raise FieldMalformed(
            field, Both("is not a bureau's code", "不是单位代码"), Both("Give its six digits.", "请填写六位单位代码。")
        )


def check_instant(micros: int, field: str, now_us: int) -> None:
    """Raises `FieldMissing`, or `FieldMalformed` for a time further ahead than two clocks may differ."""
    if micros <= 0:
        raise FieldMissing(field, Both("it says when, in microseconds since 1970", "须写明时间（自1970年起的微秒数）"))
    if micros > now_us + SKEW_MICROS_MAX:
        raise FieldMalformed(
            field,
            Both("lies in the future", "晚于当前时间"),
            Both("Set the clocks of both nodes.", "请校准双方节点的时钟。"),
        )
