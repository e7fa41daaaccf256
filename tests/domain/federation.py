"""A federation in memory: the domain's own rules on the bureaus of a tree, over a network that does as it likes.

It keeps what the ledgers keep (entries, cases, decisions) and nothing else. What a bureau has to tell is read from its
cases, as the courier does; a message may be delivered at any moment, any number of times, in any order, or never.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kuaixiang.domain import acts, events
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case, Conclusion, Outgoing, evolve
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.custody import OfferFacts, judge
from kuaixiang.domain.decide import decide
from kuaixiang.domain.desk import Context
from kuaixiang.domain.events import Entry, Event
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Custody, Outcome, Refusal, Role, Stage
from kuaixiang.wire.codec import decode_entry, encode_entry
from tests.domain.story import CALENDAR, MONDAY, RECEIVE, TREE

Key = tuple[str, str]
"""Bureau and case."""

WITHOUT_CLOCKS = {
    Stage.REFERRED,
    Stage.CONCLUDED,
    Stage.RECONSIDERATION,
    Stage.WITHDRAWN,
    Stage.WRITTEN_OFF,
}
DUTY = {
    Stage.REGISTERED: ClockKind.FORWARD,
    Stage.FORWARDED: ClockKind.DISPATCH,
    Stage.HANDLING: ClockKind.HANDLE,
    Stage.JOINT_HANDLING: ClockKind.JOINT,
    Stage.DEFERRED: ClockKind.REVIEW,
    Stage.COMPLETED: ClockKind.FEEDBACK,
    Stage.FED_BACK: ClockKind.FOLLOW_UP,
}
"""The clock that runs on a case that is ours, by its stage: no case sits anywhere unseen."""


@dataclass(frozen=True)
class Offer:
    case_id: str
    from_bureau: str
    outgoing: Outgoing
    previous: str

    @property
    def to_bureau(self) -> str:
        return self.outgoing.to_bureau


@dataclass(frozen=True)
class TakeBack:
    case_id: str
    from_bureau: str
    outgoing: Outgoing

    @property
    def to_bureau(self) -> str:
        return self.outgoing.to_bureau


@dataclass(frozen=True)
class Receipt:
    case_id: str
    to_bureau: str
    referral_id: str
    epoch: int
    refusal: Refusal | None


@dataclass(frozen=True)
class Tell:
    case_id: str
    from_bureau: str
    to_bureau: str
    conclusion: Conclusion


@dataclass(frozen=True)
class Heard:
    case_id: str
    from_bureau: str
    to_bureau: str
    conclusion: Conclusion


Message = Offer | TakeBack | Receipt | Tell | Heard


@dataclass
class Federation:
    """All bureaus, the network between them and the time."""

    now: datetime = MONDAY
    rules: Rules = field(default_factory=Rules)
    cases: dict[Key, Case] = field(default_factory=dict)
    entries: dict[Key, list[Entry]] = field(default_factory=dict)
    decisions: dict[tuple[str, str], Receipt] = field(default_factory=dict)
    network: list[Message] = field(default_factory=list)
    _ids: int = 0
    _checked: dict[Key, int] = field(default_factory=dict)

    @property
    def case_ids(self) -> list[str]:
        return sorted({case_id for _, case_id in self.cases})

    # ------------------------------------------------------------ what people and time do

    def do(self, bureau: str, case_id: str, act: Act, **who: Any) -> tuple[Event, ...]:
        """An act of a person or of the system; raises `Refused` and has then changed nothing."""
        key = (bureau, case_id)
        if isinstance(act, acts.Link):
            followers = (case for (at, _), case in self.cases.items() if at == bureau)
            who |= {
                "lead": self.cases.get((bureau, act.lead_case_id)),
                "is_lead": any(case.lead_case_id == case_id for case in followers),
            }
        return self._record(key, decide(self.cases.get(key), act, self._context(bureau, **who)), act, **who)

    def sweep(self) -> None:
        """Every passed deadline is recorded."""
        for bureau, case_id in list(self.cases):
            self.do(bureau, case_id, acts.MarkOverdue())

    def _context(self, bureau: str, **who: Any) -> Context:
        self._ids += 1
        plain: dict[str, Any] = {
            "actor": "system",
            "role": Role.SYSTEM,
            "department": "tax-service",
            "occurred_at": self.now,
            "new_id": f"r{self._ids}",
        }
        return Context(bureau=bureau, now=self.now, tree=TREE, calendar=CALENDAR, rules=self.rules, **{**plain, **who})

    def _record(self, key: Key, found: tuple[Event, ...], act: Act | None = None, **who: Any) -> tuple[Event, ...]:
        bureau, case_id = key
        context = self._context(bureau, **who)
        for event in found:
            before = self.cases.get(key)
            about_none = isinstance(event, events.OfferDeclined)
            entry = Entry(
                bureau=bureau,
                case_id=case_id,
                version=0 if about_none else (before.version if before else 0) + 1,
                recorded_at=self.now,
                occurred_at=context.occurred_at,
                actor=context.actor,
                role=context.role,
                department=context.department,
                category=before.category if before else getattr(act, "category", None),
                channel=before.channel if before else getattr(act, "channel", None),
                event=event,
            )
            self.entries.setdefault(key, []).append(entry)
            after = evolve(before, entry)
            if after is not None:
                self.cases[key] = after
        return found

    # ------------------------------------------------------------ what the network does

    def owed(self) -> Iterator[Message]:
        """What every bureau has to tell another now."""
        for (bureau, case_id), case in self.cases.items():
            if case.outgoing is not None:
                incoming = case.incoming.referral_id if case.incoming else ""
                yield (
                    TakeBack(case_id, bureau, case.outgoing)
                    if case.outgoing.withdrawing
                    else Offer(case_id, bureau, case.outgoing, incoming)
                )
            if case.conclusion is not None:
                offered = case.outgoing.to_bureau if case.outgoing else ""
                told = sorted(case.awaiting - {offered})
                yield from (Tell(case_id, bureau, peer, case.conclusion) for peer in told)

    def deliver(self, message: Message) -> None:
        """A message arrives; its answer, if it has one, is on the network."""
        match message:
            case Offer():
                self.network.append(self._decide(message))
            case TakeBack():
                self.network.append(self._take_back(message))
            case Receipt(case_id, to_bureau, referral_id, _, refusal):
                answer: Act = acts.AcknowledgeAcceptance(referral_id=referral_id, receipt_seq=1, receipt_hash=b"")
                if refusal is not None:
                    answer = acts.AcknowledgeRefusal(referral_id=referral_id, refusal=refusal)
                self.do(to_bureau, case_id, answer)
            case Tell(case_id, from_bureau, to_bureau, told):
                heard = acts.HearConclusion(
                    from_bureau=from_bureau,
                    referral_id=dict(self.cases[from_bureau, case_id].neighbours)[to_bureau],
                    epoch=told.epoch,
                    round=told.round,
                    outcome=told.outcome,
                    handled_by=told.handled_by,
                    completed_at=told.completed_at,
                )
                self.do(to_bureau, case_id, heard)
                self.network.append(Heard(case_id, to_bureau, from_bureau, told))
            case Heard(case_id, from_bureau, to_bureau, told):
                acknowledged = acts.AcknowledgeConclusion(
                    to_bureau=from_bureau, epoch=told.epoch, round=told.round, outcome=told.outcome
                )
                self.do(to_bureau, case_id, acknowledged)

    def _decide(self, offer: Offer) -> Receipt:
        bureau, out = offer.to_bureau, offer.outgoing
        stored = self.decisions.get((bureau, out.referral_id))
        if stored is not None:
            return stored
        case = self.cases.get((bureau, offer.case_id))
        facts = OfferFacts(
            from_bureau=offer.from_bureau,
            to_bureau=bureau,
            final_bureau=out.final_bureau,
            path=out.path,
            epoch=out.offer_epoch,
            ruled_by=out.ruled_by,
        )
        refusal = judge(facts, bureau, case.holding if case else None, TREE, self.rules.hops_max)
        if refusal is not None:
            return self._settle(offer, refusal)
        origin = self.cases[offer.from_bureau, offer.case_id]
        receive = replace(
            RECEIVE,
            referral_id=out.referral_id,
            previous_referral_id=offer.previous,
            referral_kind=out.referral_kind,
            offer_epoch=out.offer_epoch,
            from_bureau=offer.from_bureau,
            final_bureau=out.final_bureau,
            path=out.path,
            origin_bureau=origin.origin_bureau,
            registered_at=origin.registered_at,
            offered_at=out.offered_at,
            returns=out.returns,
            disputants=out.disputants,
            ruled_by=out.ruled_by,
        )
        self.do(bureau, offer.case_id, receive)
        return self._settle(offer, None)

    def _take_back(self, message: TakeBack) -> Receipt:
        stored = self.decisions.get((message.to_bureau, message.outgoing.referral_id))
        return stored or self._settle(message, Refusal.WITHDRAWN)

    def _settle(self, about: Offer | TakeBack, refusal: Refusal | None) -> Receipt:
        out, key = about.outgoing, (about.to_bureau, about.case_id)
        if refusal is not None:
            case = self.cases.get(key)
            declined = events.OfferDeclined(
                stage=case.stage if case else Stage.REFERRED,
                custody=case.custody if case else Custody.RELEASED,
                epoch=case.epoch if case else 0,
                referral_id=out.referral_id,
                from_bureau=about.from_bureau,
                offer_epoch=out.offer_epoch,
                refusal=refusal,
                offered_at=out.offered_at,
            )
            self._record(key, (declined,))
        receipt = Receipt(about.case_id, about.from_bureau, out.referral_id, out.offer_epoch, refusal)
        self.decisions[about.to_bureau, out.referral_id] = receipt
        return receipt

    def settle_everything(self) -> None:
        """The network mends: whatever is owed is delivered until nothing is."""
        for _ in range(40):
            for message in list(self.owed()):
                self.deliver(message)
                self.deliver(self.network.pop())
        assert [] == list(self.owed())

    # ------------------------------------------------------------ what must always be so

    def responsible(self, case_id: str) -> list[str]:
        """The bureaus that must answer for a case: its owner, or who offers it until the receiver has accepted."""
        found = []
        for (bureau, known), case in self.cases.items():
            if known == case_id and case.custody is not Custody.RELEASED:
                out = case.outgoing
                receipt = self.decisions.get((out.to_bureau, out.referral_id)) if out else None
                if receipt is None or receipt.refusal is not None:
                    found.append(bureau)
        return found

    def check(self) -> None:
        """Raises when an invariant is broken."""
        for case_id in self.case_ids:
            (holder,) = self.responsible(case_id)
            accepted = sorted(r.epoch for r in self.decisions.values() if r.case_id == case_id and r.refusal is None)
            assert list(range(1, len(accepted) + 1)) == accepted, "every epoch is accepted once"
            assert len(accepted) == self.cases[holder, case_id].epoch, "whoever is responsible has the latest epoch"
        for key, case in self.cases.items():
            if self._checked.get(key) == len(self.entries[key]):
                continue
            self._checked[key] = len(self.entries[key])
            journal = [entry for entry in self.entries[key] if entry.version]
            assert list(range(1, len(journal) + 1)) == [entry.version for entry in journal]
            assert (case.custody is Custody.OFFERED) == (case.outgoing is not None)
            assert case == fold(journal), "the journal's public parts alone give the case"
            check_clocks(case, journal)


def fold(journal: list[Entry]) -> Case | None:
    """The case as a ledger reads it from its journal."""
    case: Case | None = None
    for entry in journal:
        case = evolve(case, decode_entry(encode_entry(entry)))
    return case


def check_clocks(case: Case, journal: list[Entry]) -> None:
    """Each clock starts once, is overdue at most once, and yields one of met, missed and void when it stops."""
    running: dict[tuple[ClockKind, str], bool] = {}
    for entry in journal:
        for change in entry.event.clocks:
            clock = (change.kind, change.department)
            match change.action:
                case ClockAction.STARTED:
                    assert clock not in running, "a clock that runs does not start again"
                    running[clock] = False
                case ClockAction.OVERDUE:
                    assert running[clock] is False, "a clock is overdue once"
                    running[clock] = True
                case ClockAction.DUE_SOON:
                    assert running[clock] is False, "a clock that has run out does not come close"
                case ClockAction.EXTENDED | ClockAction.RECOMPUTED:
                    assert running[clock] is False, "what has counted as missed is not extended"
                case ClockAction.STOPPED:
                    assert running.pop(clock) == (change.outcome is ClockOutcome.MISSED)
                    assert change.outcome is not None
                    assert change.elapsed_milli_workdays >= 0
    assert set(running) == {(clock.kind, clock.department) for clock in case.clocks}
    if case.stage in WITHOUT_CLOCKS or case.custody is Custody.RELEASED:
        assert not running, "nothing runs where nothing is to be done"
    if case.custody is Custody.OWNED and case.stage in DUTY:
        assert DUTY[case.stage] in {kind for kind, _ in running}, "no case sits anywhere unseen"


def agree(federation: Federation) -> None:
    """After everything has been delivered, the ledgers of a case tell the same of it."""
    for (bureau, case_id), case in federation.cases.items():
        (holder,) = federation.responsible(case_id)
        owner = federation.cases[holder, case_id]
        assert Custody.OFFERED is not case.custody
        assert frozenset() == case.awaiting
        if bureau == holder:
            continue
        ended = owner.conclusion is not None and owner.conclusion.outcome is not Outcome.REOPENED
        assert ended == (case.stage in {Stage.CONCLUDED, Stage.WRITTEN_OFF}), (bureau, case.stage, owner.stage)
        if ended:
            assert case.conclusion is not None
            assert owner.conclusion is not None
            assert owner.conclusion.order == case.conclusion.order
            assert (owner.conclusion.outcome, holder) == (case.conclusion.outcome, case.with_bureau)
