"""The office: one method for each thing that an officer, a channel or a peer may ask of a bureau.

It puts a question to the ledger's writer and answers when that is durable. Whoever calls (gRPC, web, sweep, courier)
has made sure who is calling; what may be done is decided by the domain.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from kuaixiang.domain import acts, errors
from kuaixiang.domain.acts import Act
from kuaixiang.domain.attachments import check_attachment
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.custody import OfferFacts, judge
from kuaixiang.domain.decide import decide
from kuaixiang.domain.desk import Context
from kuaixiang.domain.events import Attachment, LedgerEvent, OfferDeclined, Received
from kuaixiang.domain.orders import Order
from kuaixiang.domain.possible import possible_acts
from kuaixiang.domain.registration import (
    REFERENCE_CHARACTERS_MAX,
    at_most,
    check_actor,
    check_case_id,
    check_department,
    check_registration,
)
from kuaixiang.domain.staff import UNLISTED, Staff
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import (
    Category,
    Channel,
    Custody,
    DifferenceKind,
    Outcome,
    ReferralKind,
    Refusal,
    Role,
    Stage,
)
from kuaixiang.runtime.chance import Chance
from kuaixiang.runtime.clock import Clock
from kuaixiang.runtime.in_force import InForce
from kuaixiang.wire.codec import attachment_of, enum_of, instant_of
from kuaixiang.wire.v1 import referral_pb2
from node.attachments import AttachmentsMissing, AttachmentStore, ContentLost, Missing, UnknownAttachment
from node.ledger import blobs, queries
from node.ledger.ledger import Draft, Ledger, Recorded, Request, Work, entry_about
from node.orders import OrderDesk
from node.progress import Heard

TIME_ACTS: tuple[Act, ...] = (acts.MarkOverdue(), acts.Recompute(), acts.MarkDueSoon())
"""What time causes, in this order: what has passed was missed before another calendar could move it."""

SYSTEM_ACTOR = "system"
"""The actor of what nobody did in person."""

REFERRAL_ID_BYTES = 16
_CHANCE = Chance()

Signer = Callable[[bytes], referral_pb2.Signature]
"""Signs the bytes of an offer or a decision by the node's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Who does what to which case, as the caller says.

    `digest` stands for what is asked under the key; `digest_before` is what a ledger may have kept for it by an earlier
    rule, where that was another one.
    """

    bureau: str
    case_id: str
    actor: str
    role: Role
    department: str
    request_key: str = ""
    occurred_at: datetime | None = None
    expected_version: int = 0
    digest: bytes = b""
    digest_before: bytes = b""


@dataclass(frozen=True, slots=True)
class Done:
    """An act that is durable. `repeated`: it had been done before under the same key or channel reference."""

    case: Case
    seq: int
    repeated: bool
    linked_completed: tuple[str, ...] = ()
    """Cases linked to this one that the act has completed too."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An act that waits to be written."""

    bureau: str
    result: "asyncio.Future[_Result]"


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that concerns no single case and is durable. `repeated`: done before under the same key."""

    seq: int
    repeated: bool


class Place:
    """What holds at the node: the tree, the working calendar in force, the limits, the time, and who works where.

    `staff` gives the departments and officers of a bureau, as they are now.
    """

    __slots__ = ("clock", "in_force", "rules", "staff", "trees")

    def __init__(
        self,
        tree: BureauTree,
        calendar: WorkingCalendar,
        rules: Rules,
        clock: Clock,
        staff: Callable[[str], Staff] = lambda _: UNLISTED,
    ) -> None:
        self.trees = InForce(tree)
        self.in_force = InForce(calendar)
        self.rules = rules
        self.clock = clock
        self.staff = staff

    @property
    def calendar(self) -> WorkingCalendar:
        """The working calendar in force."""
        return self.in_force.value

    @property
    def tree(self) -> BureauTree:
        """The tree of bureaus in force."""
        return self.trees.value


class Office:
    """The bureaus of one node."""

    def __init__(self, ledger: Ledger, place: Place, sign: Signer) -> None:
        self.ledger = ledger
        self.place = place
        self.orders = OrderDesk(
            ledger=ledger, sign=sign, context_of=self._context, system_context_of=self.system_context
        )
        self.heard = Heard()
        """How the cases of these bureaus go elsewhere, as last heard."""
        self.attachments = AttachmentStore(ledger)
        self._sign = sign

    # ------------------------------------------------------------ officers and channels

    async def perform(self, header: Header, act: Act) -> Done:
        """Does an act of a person; raises `Refused`, `WriterBusy`, `WriterStopped`."""
        return await self.finish(await self.begin(header, act))

    async def begin(self, header: Header, act: Act) -> "Begun":
        """Gives an act of a person to the writer, to be finished by `finish`; raises like `perform`."""
        self.check_hosted(header.bureau)
        reference = None
        if not isinstance(act, acts.Register):
            check_case_id(header.case_id, "header.case_id")
        elif act.channel_reference:
            at_most(act.channel_reference, "channel_reference", REFERENCE_CHARACTERS_MAX)
            reference = (act.channel, act.channel_reference)
        linked = await self._linked(header, act)
        work = Work(
            run=lambda draft: self._perform(draft, header, act, linked),
            bureau=header.bureau,
            case_id=header.case_id,
            also=linked.look_at,
            request_key=header.request_key,
            reference=reference,
            digests=(act.digest,) if isinstance(act, acts.Attach) else (),
        )
        return Begun(header.bureau, self.ledger.writer.submit(work))

    async def finish(self, begun: "Begun") -> Done:
        """What came of an act, once it is durable; raises `Refused`, `WriterStopped`."""
        result = await begun.result
        case = result.case or await self.read_case(begun.bureau, result.case_id)
        return Done(case, result.seq, result.repeated, result.linked_completed)

    async def possible(self, header: Header) -> tuple[type[Act], ...]:
        """The acts that this person may do on the case now, as `decide` would have it; raises `UnknownCase`."""
        case = await self.read_case(header.bureau, header.case_id)
        return possible_acts(case, self._context(header, case))

    async def foresee(self, header: Header, act: Act) -> tuple[Case, Case]:
        """The case as it is and as the act would leave it, without doing it; raises what `perform` would.

        What the act does to other cases, and what only the ledger's writer knows, is not looked at.
        """
        case = await self.read_case(header.bureau, header.case_id)
        _check_version(header, case)
        context = self._context(header, case)
        after = case
        for event in decide(case, act, context):
            after = evolve(after, entry_about(context, event, header.case_id, after.version + 1)) or after
        return case, after

    async def attach(self, header: Header, act: acts.Attach, content: AsyncIterator[bytes]) -> Done:
        """Takes in a file and attaches it; raises `Refused`, `WriterBusy`, `WriterStopped`.

        What would be refused anyway is refused before its content is taken in.
        """
        self.check_hosted(header.bureau)
        attachment = check_attachment(
            Attachment(digest=act.digest, name=act.name, media_type=act.media_type, size_bytes=act.size_bytes)
        )
        if not await self._was_done(header):
            case = await self.read_case(header.bureau, header.case_id)
            decide(case, act, self._context(header, case))
        await self.attachments.take_in(attachment, content)
        return await self.perform(header, act)

    async def _was_done(self, header: Header) -> bool:
        return bool(header.request_key) and await asyncio.to_thread(
            queries.has_request, self.ledger.database, header.bureau, header.request_key
        )

    async def read_attachment(self, bureau: str, case_id: str, digest: str) -> AsyncIterator[bytes]:
        """The content of a file of a case, piece by piece; raises `UnknownCase`, `UnknownAttachment`, `ContentLost`."""
        case = await self.read_case(bureau, case_id)
        known = await asyncio.to_thread(blobs.has_attachment, self.ledger.database, case.bureau, case.case_id, digest)
        if not known:
            raise UnknownAttachment(case_id, digest)
        async for piece in self.attachments.read(digest):
            yield piece

    async def _linked(self, header: Header, act: Act) -> "_Linked":
        """The cases besides its own that an act looks at: the lead that it names, and those that it leads."""
        lead = act.lead_case_id if isinstance(act, (acts.Register, acts.Link)) else ""
        if lead:
            check_case_id(lead, "lead_case_id")
        followers: list[str] = []
        if isinstance(act, acts.Link) or (isinstance(act, acts.Complete) and act.with_linked):
            followers = await asyncio.to_thread(
                queries.linked_cases, self.ledger.database, header.bureau, header.case_id
            )
        return _Linked(lead, tuple(followers))

    def _perform(self, draft: Draft, header: Header, act: Act, linked: "_Linked") -> "_Result":
        bureau = header.bureau
        done = self._done_before(draft, header, act)
        if done is not None:
            return done
        case = None
        if not isinstance(act, acts.Register):
            case = draft.case(bureau, header.case_id)
            if case is None:
                raise errors.UnknownCase(bureau, header.case_id)
            _check_version(header, case)
        if isinstance(act, acts.Register):
            now = self._now(None)
            case_id = new_case_id(bureau, now, draft.head(bureau).cases_registered + 1)
            context = self._context_at(now, header, new_id=case_id, lead=linked.lead_in(draft, bureau))
            events = decide(None, act, context)
            recorded = draft.record(context, case_id, events, case=None, category=act.category, channel=act.channel)
        else:
            case_id = header.case_id
            context = self._context(header, case)
            if isinstance(act, acts.Link):
                context = replace(context, lead=linked.lead_in(draft, bureau), is_lead=bool(linked.followers))
            if isinstance(act, acts.Attach):
                context = replace(context, is_attached=draft.is_attached(bureau, case_id, act.digest))
                blob = draft.blob(act.digest)
                if blob is None or not blob.complete:
                    raise ContentLost(act.digest)
            recorded = draft.record(context, case_id, decide(case, act, context), case=case)
        completed: tuple[str, ...] = ()
        if isinstance(act, acts.Complete) and linked.followers:
            completed, recorded = self._complete_linked(draft, context, act, recorded, linked.followers)
        if header.request_key:
            draft.keep_request(bureau, header.request_key, Request(header.digest, case_id, recorded.seq))
        return _Result(case_id, recorded.case, recorded.seq, repeated=False, linked_completed=completed)

    @staticmethod
    def _complete_linked(
        draft: Draft, context: Context, act: acts.Complete, lead: Recorded, linked: tuple[str, ...]
    ) -> tuple[tuple[str, ...], Recorded]:
        """Completes the linked cases that can be; the others are where they were, and are handled by themselves."""
        completed: list[str] = []
        seq, hash_ = lead.seq, lead.hash
        context = replace(context, role=Role.SYSTEM)
        consequence = acts.CompleteWithLead(lead_case_id=lead.case.case_id if lead.case else "", result=act.result)
        for case_id in linked:
            case = draft.case(context.bureau, case_id)
            # What was done before a later act of the linked case cannot be recorded behind it.
            at = max(context.occurred_at, case.last_at) if case is not None else context.occurred_at
            try:
                events = decide(case, consequence, replace(context, occurred_at=at))
            except errors.Refused:
                continue
            recorded = draft.record(replace(context, occurred_at=at), case_id, events, case=case)
            completed.append(case_id)
            seq, hash_ = recorded.seq, recorded.hash
        return tuple(completed), Recorded(lead.case, seq, hash_)

    @staticmethod
    def _done_before(draft: Draft, header: Header, act: Act) -> "_Result | None":
        """The result of an act that was done under the same key, or of a registration by the channel's own number."""
        try:
            request = draft.request(header.bureau, header.request_key, header.digest)
        except errors.KeyReused:
            if not header.digest_before:
                raise
            request = draft.request(header.bureau, header.request_key, header.digest_before)
        if request is not None:
            return _Result(request.case_id, None, request.seq, repeated=True)
        if isinstance(act, acts.Register) and act.channel_reference:
            known = draft.reference(header.bureau, act.channel, act.channel_reference)
            if known is not None:
                if header.request_key:
                    draft.keep_request(header.bureau, header.request_key, Request(header.digest, *known))
                return _Result(known[0], None, known[1], repeated=True)
        return None

    def _context(self, header: Header, case: Case | Order | None) -> Context:
        return self._context_at(self._now(case), header, new_id=new_referral_id())

    def _context_at(self, now: datetime, header: Header, *, new_id: str, lead: Case | None = None) -> Context:
        return Context(
            bureau=header.bureau,
            actor=header.actor,
            role=header.role,
            department=header.department,
            now=now,
            occurred_at=header.occurred_at or now,
            tree=self.place.tree,
            calendar=self.place.calendar,
            rules=self.place.rules,
            staff=self.place.staff(header.bureau),
            new_id=new_id,
            lead=lead,
        )

    def system_context(self, bureau: str, case: Case | Order | None = None) -> Context:
        """What holds for an act that nobody does in person."""
        department = self.place.staff(bureau).receiving_department
        header = Header(bureau=bureau, case_id="", actor=SYSTEM_ACTOR, role=Role.SYSTEM, department=department)
        return self._context(header, case)

    def _now(self, case: Case | Order | None) -> datetime:
        """The time; never before the last act on the case or order, should the machine's clock have been set back."""
        now = self.place.clock.now()
        return max(now, case.last_at) if case is not None else now

    def check_hosted(self, bureau: str, field: str = "header.bureau") -> None:
        """Raises `NotThisBureau` for a bureau whose ledger is elsewhere; `field` is where the request names it."""
        if bureau not in self.ledger.heads:
            raise errors.NotThisBureau(bureau, self.ledger.bureaus, field)

    async def note(self, header: Header, write: Callable[[Draft, Context], int]) -> Noted:
        """Does something of a person that concerns no single case; `write` gives the journal's end at which it is so.

        Once under a request key. Raises `Refused`, `WriterBusy`, `WriterStopped`.
        """
        self.check_hosted(header.bureau)
        check_actor(header.actor)
        check_department(header.department, "header.department")

        def run(draft: Draft) -> Noted:
            request = draft.request(header.bureau, header.request_key, header.digest)
            if request is not None:
                return Noted(request.seq, repeated=True)
            context = self._context(header, None)
            context.staff.check_officer(header.actor, header.role, header.department)
            seq = write(draft, context)
            if header.request_key:
                draft.keep_request(header.bureau, header.request_key, Request(header.digest, "", seq))
            return Noted(seq, repeated=False)

        noted: Noted = await self.ledger.do(Work(run=run, bureau=header.bureau, request_key=header.request_key))
        return noted

    # ------------------------------------------------------------ peers: the receiver's side

    async def decide_offer(
        self,
        offer: referral_pb2.Offer,
        hand_over: bytes = b"",
        word: referral_pb2.Signature | None = None,
        attestation: bytes = b"",
    ) -> bytes:
        """The decision on an offer, recorded with the case; a repeated offer gets the first receipt, word for word.

        `hand_over` and `word` are what the sender has signed of the hand-over; they come back in the receipt.
        `attestation` is the checked word of the superior that has ruled, kept with the case.
        Raises `AttachmentsMissing`, which is none, while files of the case are not here.
        """
        self.check_hosted(offer.to_bureau)
        _check_numbers(offer)
        blank = referral_pb2.Receipt(hand_over=hand_over, hand_over_signature=word)
        work = Work(
            run=lambda draft: self._decide_offer(draft, offer, blank, attestation),
            bureau=offer.to_bureau,
            case_id=offer.case_id,
            referral_id=offer.referral_id,
            digests=tuple(attachment.digest for attachment in offer.snapshot.attachments),
        )
        receipt: bytes = await self.ledger.do(work)
        return receipt

    def _decide_offer(
        self, draft: Draft, offer: referral_pb2.Offer, blank: referral_pb2.Receipt, attestation: bytes
    ) -> bytes:
        bureau = offer.to_bureau
        stored = draft.receipt(bureau, offer.referral_id)
        if stored is not None:
            return stored
        case = draft.case(bureau, offer.case_id)
        context = self.system_context(bureau, case)
        facts = OfferFacts(
            from_bureau=offer.from_bureau,
            to_bureau=bureau,
            final_bureau=offer.final_bureau,
            path=tuple(offer.path),
            epoch=offer.epoch,
            ruled_by=offer.snapshot.ruled_by,
        )
        holding = case.holding if case else None
        refusal = judge(facts, bureau, holding, self.place.tree, self.place.rules.hops_max)
        act = received_act(offer) if refusal is None else None
        if act is None:
            return self._decline(draft, context, case, offer, refusal=refusal or Refusal.INVALID, blank=blank)
        _check_held(draft, act.attachments)
        events = decide(case, act, context)
        recorded = draft.record(context, offer.case_id, events, case=case, category=act.category, channel=act.channel)
        after = next(after for after, event in enumerate(reversed(events)) if isinstance(event, Received))
        draft.put_attestation(bureau, offer.referral_id, recorded.seq - after, attestation)
        return self._receipt(draft, offer, recorded, blank, refusal=None)

    def _decline(
        self,
        draft: Draft,
        context: Context,
        case: Case | None,
        offer: referral_pb2.Offer,
        *,
        refusal: Refusal,
        blank: referral_pb2.Receipt,
    ) -> bytes:
        declined = OfferDeclined(
            stage=case.stage if case else Stage.REFERRED,
            custody=case.custody if case else Custody.RELEASED,
            epoch=case.epoch if case else 0,
            referral_id=offer.referral_id,
            from_bureau=offer.from_bureau,
            offer_epoch=offer.epoch,
            refusal=refusal,
            offered_at=instant_of(offer.offered_at_us, "offered_at_us"),
        )
        recorded = draft.record(context, offer.case_id, (declined,), case=case)
        return self._receipt(draft, offer, recorded, blank, refusal=refusal)

    def _receipt(
        self,
        draft: Draft,
        offer: referral_pb2.Offer,
        recorded: Recorded,
        blank: referral_pb2.Receipt,
        *,
        refusal: Refusal | None,
    ) -> bytes:
        """The receipt, on a blank that has the sender's word for the hand-over on it already."""
        bureau = offer.to_bureau
        decision = referral_pb2.Decision(
            referral_id=offer.referral_id,
            case_id=offer.case_id,
            epoch=offer.epoch,
            accepted=refusal is None,
            refusal=int(refusal or 0),  # type: ignore[arg-type]
            seq=recorded.seq,
            hash=recorded.hash,
            bureau=bureau,
            generation=draft.head(bureau).generation,
        ).SerializeToString()
        blank.decision = decision
        blank.signature.CopyFrom(self._sign(decision))
        receipt = blank.SerializeToString()
        draft.keep_receipt(bureau, offer.referral_id, receipt)
        return receipt

    async def withdraw_offer(self, request: referral_pb2.WithdrawRequest) -> bytes:
        """The decision on an offer that its sender would take back; an unknown one is refused for good."""
        self.check_hosted(request.to_bureau)
        offer = referral_pb2.Offer(
            referral_id=request.referral_id,
            case_id=request.case_id,
            epoch=request.epoch,
            from_bureau=request.from_bureau,
            to_bureau=request.to_bureau,
            offered_at_us=request.offered_at_us,
        )

        _check_numbers(offer)

        def run(draft: Draft) -> bytes:
            stored = draft.receipt(offer.to_bureau, offer.referral_id)
            if stored is not None:
                return stored
            case = draft.case(offer.to_bureau, offer.case_id)
            context = self.system_context(offer.to_bureau, case)
            # The tombstone: a late offer finds this decision and cannot revive itself.
            blank = referral_pb2.Receipt()
            return self._decline(draft, context, case, offer, refusal=Refusal.WITHDRAWN, blank=blank)

        work = Work(run=run, bureau=offer.to_bureau, case_id=offer.case_id, referral_id=offer.referral_id)
        receipt: bytes = await self.ledger.do(work)
        return receipt

    async def hear_conclusion(self, request: referral_pb2.ConcludeRequest) -> int:
        """Records how a case ended elsewhere; the journal's end at which it is so. Repeats change nothing."""
        act = acts.HearConclusion(
            from_bureau=request.from_bureau,
            referral_id=request.referral_id,
            epoch=request.epoch,
            round=request.round,
            outcome=enum_of(Outcome, request.outcome, "outcome"),
            handled_by=request.handled_by,
            completed_at=instant_of(request.completed_at_us, "completed_at_us"),
            result=request.result,
        )
        return await self._by_system(request.to_bureau, request.case_id, act)

    # ------------------------------------------------------------ peers: the sender's side, and the sweep

    async def settle(self, bureau: str, decision: referral_pb2.Decision, receipt: bytes = b"") -> int:
        """Resolves an outstanding offer by the receiver's decision; an offer resolved already stays as it is."""
        act: Act
        if decision.accepted:
            act = acts.AcknowledgeAcceptance(
                referral_id=decision.referral_id, receipt_seq=decision.seq, receipt_hash=decision.hash
            )
        else:
            refusal = enum_of(Refusal, decision.refusal, "refusal")
            act = acts.AcknowledgeRefusal(referral_id=decision.referral_id, refusal=refusal)

        def keep(draft: Draft) -> None:
            if receipt:
                draft.put_hand_over(bureau, decision.referral_id, receipt)

        return await self._by_system(bureau, decision.case_id, act, keep)

    async def acknowledge_conclusion(self, request: referral_pb2.ConcludeRequest) -> int:
        """Records that a neighbouring ledger has the conclusion that `request` told it."""
        act = acts.AcknowledgeConclusion(
            to_bureau=request.to_bureau,
            epoch=request.epoch,
            round=request.round,
            outcome=enum_of(Outcome, request.outcome, "outcome"),
        )
        return await self._by_system(request.from_bureau, request.case_id, act)

    async def note_time(self, bureau: str, subject: str) -> frozenset[type[Act]]:
        """Records what time and the calendar have done to the clocks of a case or an order; which kinds of it.

        What was recorded before is not recorded again.
        """
        self.check_hosted(bureau)
        check_case_id(subject, "case_id")

        def run(draft: Draft) -> frozenset[type[Act]]:
            order = draft.order(bureau, subject)
            if order is not None:
                return self.orders.note_time(draft, order)
            case = draft.case(bureau, subject)
            if case is None:
                raise errors.UnknownCase(bureau, subject)
            noted = set[type[Act]]()
            for act in TIME_ACTS:
                context = self.system_context(bureau, case)
                found = decide(case, act, context)
                if found:
                    case = draft.record(context, subject, found, case=case).case
                    noted.add(type(act))
            return frozenset(noted)

        noted: frozenset[type[Act]] = await self.ledger.do(
            Work(run=run, bureau=bureau, case_id=subject, order_id=subject)
        )
        return noted

    async def note_mismatch(self, bureau: str, case_id: str, peer: str, difference: DifferenceKind | None) -> bool:
        """Records how a peer's ledger differs about a case, or that it no longer does; False for an unknown case."""
        try:
            await self._by_system(bureau, case_id, acts.NoteMismatch(peer=peer, difference=difference))
        except errors.UnknownCase:
            return False
        return True

    async def record_note(self, bureau: str, event: LedgerEvent, subject: str = "") -> int:
        """Records what concerns no case of the ledger; `subject` names what it is about, if anything."""
        self.check_hosted(bureau)

        def run(draft: Draft) -> int:
            return draft.note(self.system_context(bureau, None), event, subject).seq

        seq: int = await self.ledger.do(Work(run=run, bureau=bureau))
        return seq

    async def _by_system(
        self, bureau: str, case_id: str, act: Act, keep: Callable[[Draft], None] = lambda _: None
    ) -> int:
        """Does an act that nobody does in person, and keeps what comes with it; the journal's end at which it is so."""
        self.check_hosted(bureau)
        check_case_id(case_id, "case_id")

        def run(draft: Draft) -> int:
            case = draft.case(bureau, case_id)
            if case is None:
                raise errors.UnknownCase(bureau, case_id)
            context = self.system_context(bureau, case)
            keep(draft)
            return draft.record(context, case_id, decide(case, act, context), case=case).seq

        seq: int = await self.ledger.do(Work(run=run, bureau=bureau, case_id=case_id))
        return seq

    # ------------------------------------------------------------ reading

    async def read_case(self, bureau: str, case_id: str) -> Case:
        """A case as committed; raises `UnknownCase`."""
        self.check_hosted(bureau)
        cached = self.ledger.cached(bureau, case_id)
        if cached is not None:
            return cached
        check_case_id(case_id, "case_id")
        case = await asyncio.to_thread(queries.one_case, self.ledger.database, bureau, case_id)
        if case is None:
            raise errors.UnknownCase(bureau, case_id)
        return case


@dataclass(frozen=True, slots=True)
class _Result:
    case_id: str
    case: Case | None
    seq: int
    repeated: bool
    linked_completed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Linked:
    """Cases of the same ledger that an act on another one looks at: the lead that it names, those that it leads."""

    lead: str
    followers: tuple[str, ...]

    @property
    def look_at(self) -> tuple[str, ...]:
        return (self.lead, *self.followers) if self.lead else self.followers

    def lead_in(self, draft: Draft, bureau: str) -> Case | None:
        return draft.case(bureau, self.lead) if self.lead else None


def _check_version(header: Header, case: Case) -> None:
    """Raises `VersionConflict` for a case that has changed since the version that the caller has looked at."""
    if header.expected_version and header.expected_version != case.version:
        raise errors.VersionConflict(case.case_id, header.expected_version, case.version)


def _check_held(draft: Draft, attachments: Iterable[Attachment]) -> None:
    """Raises `AttachmentsMissing` for an offer that lists files whose content is not here as a whole."""
    missing = []
    for attachment in attachments:
        blob = draft.blob(attachment.digest)
        if blob is None or blob.size_bytes != attachment.size_bytes:
            missing.append(Missing(attachment.digest, 0))
        elif not blob.complete:
            missing.append(Missing(attachment.digest, blob.held_bytes))
    if missing:
        raise AttachmentsMissing(tuple(missing))


def _check_numbers(offer: referral_pb2.Offer) -> None:
    check_case_id(offer.case_id, "case_id")
    check_case_id(offer.referral_id, "referral_id")


def new_case_id(bureau: str, at: datetime, number: int) -> str:
    """A case's number: the bureau that registers it, the year, and its place in that bureau's ledger."""
    return f"{bureau}-{at.astimezone(SHANGHAI).year}-{number:07d}"


def new_referral_id() -> str:
    """A referral's id. It is drawn, not counted: a ledger restored from a backup must never use one again."""
    return _CHANCE.draw(REFERRAL_ID_BYTES).hex()


def received_act(offer: referral_pb2.Offer) -> acts.Receive | None:
    """The act that an offer asks for; None when its snapshot lacks what a registration must have (§四(一)1)."""
    snapshot = offer.snapshot
    try:
        check_registration(
            taxpayer_name=snapshot.taxpayer_name,
            contact=snapshot.contact,
            taxpayer_number=snapshot.taxpayer_number,
            text=snapshot.text,
        )
        return acts.Receive(
            referral_id=offer.referral_id,
            previous_referral_id=offer.previous_referral_id,
            referral_kind=enum_of(ReferralKind, offer.referral_kind, "referral_kind"),
            offer_epoch=offer.epoch,
            from_bureau=offer.from_bureau,
            final_bureau=offer.final_bureau,
            path=tuple(offer.path),
            reason=offer.reason,
            category=enum_of(Category, snapshot.category, "category"),
            channel=enum_of(Channel, snapshot.channel, "channel"),
            origin_bureau=snapshot.origin_bureau,
            registered_at=instant_of(snapshot.registered_at_us, "registered_at_us"),
            taxpayer_name=snapshot.taxpayer_name,
            taxpayer_number=snapshot.taxpayer_number,
            contact=snapshot.contact,
            text=snapshot.text,
            place=snapshot.place,
            offered_at=instant_of(offer.offered_at_us, "offered_at_us"),
            returns=snapshot.returns,
            disputants=tuple(snapshot.disputants),
            ruled_by=snapshot.ruled_by,
            attachments=tuple(check_attachment(attachment_of(attachment)) for attachment in snapshot.attachments),
        )
    except errors.Refused:
        return None
