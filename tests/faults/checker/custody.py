"""Rules of custody, walked through the ledgers entry by entry: at every moment one bureau has a case.

There is no common clock, and none is needed. A receiver's acceptance is the one instant at which a case changes hands.
So there is one custodian at every moment if the acceptances of a case, with its registration, are one chain by epochs,
each taken from the bureau that had the case at the epoch before, out of an offer that stood there; and if each ledger
by itself does nothing to the case but between its acceptance and its next offer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from kuaixiang.domain import events
from kuaixiang.domain.words import Custody
from tests.faults.checker.history import History, Line

_NOTED = (
    events.BecameOverdue,
    events.BecameDueSoon,
    events.ClocksRecomputed,
    events.ConclusionDelivered,
    events.MismatchFound,
    events.MismatchCleared,
    events.SnapshotRestored,
    events.PrivatePartsLost,
)
"""Notes of what time, peers and a restored disk did: they stand anywhere and change nobody's custody."""
_OF_ONES_GONE = (events.Concluded, events.ConclusionRevoked, events.WrittenOff)
"""What a ledger records of a case that is with another bureau."""


class Has(Enum):
    """What a ledger has of a case at a moment."""

    NOTHING = Custody.RELEASED
    IT = Custody.OWNED
    OFFERED = Custody.OFFERED


@dataclass(frozen=True, slots=True)
class Taken:
    """A registration or an acceptance: from here on the bureau has the case at that epoch."""

    line: Line
    epoch: int
    referral_id: str = ""
    from_bureau: str = ""


def _taken(lines: Sequence[Line]) -> Iterator[Taken]:
    for line in lines:
        event = line.entry.event
        if isinstance(event, events.Registered):
            yield Taken(line, event.epoch)
        elif isinstance(event, events.Received):
            yield Taken(line, event.epoch, event.referral_id, event.from_bureau)


def one_custodian_at_every_moment(history: History) -> list[str]:
    """Epochs are accepted once each, without a gap, each by the bureau that was offered it by the one before."""
    found = []
    for case_id, known in history.of_cases.items():
        chain = sorted((one for lines in known.values() for one in _taken(lines)), key=lambda one: one.epoch)
        for place, one in enumerate(chain):
            if one.epoch != place:
                before = chain[place - 1] if place else None
                found.append(f"{case_id}: epoch {one.epoch} is taken at {one.line}, after {before and before.line}")
                break
            if not place:
                continue
            holder = chain[place - 1].line
            if one.from_bureau != holder.bureau:
                found.append(
                    f"{case_id}: {one.line} takes epoch {one.epoch} from {one.from_bureau}, but {holder} has the case"
                )
            elif not _offered(known[holder.bureau], one, holder.seq):
                found.append(f"{case_id}: {one.line} takes epoch {one.epoch}, which {holder.bureau} never offered so")
    return found


def _offered(lines: Sequence[Line], taken: Taken, after_seq: int) -> bool:
    return any(
        isinstance(event := line.entry.event, events.Offered)
        and line.seq > after_seq
        and (event.referral_id, event.offer_epoch, event.to_bureau)
        == (taken.referral_id, taken.epoch, taken.line.bureau)
        for line in lines
    )


def each_ledger_acts_on_what_it_has(history: History) -> list[str]:
    """Offers freeze a case; it is let go by its acceptance only, and what has gone is acted on no more."""
    return [
        fault
        for case_id, known in history.of_cases.items()
        for lines in known.values()
        for fault in _walk(case_id, lines)
    ]


def _walk(case_id: str, lines: Sequence[Line]) -> Iterator[str]:
    has, epoch, outstanding = Has.NOTHING, -1, ""
    for line in lines:
        event = line.entry.event
        assert isinstance(event, events.CaseEvent)
        match event:
            case events.Registered() | events.Received() if has is not Has.NOTHING:
                yield f"{case_id}: {line} takes a case that its bureau has"
            case events.Received() if event.epoch <= epoch:
                yield f"{case_id}: {line} takes epoch {event.epoch}, and has been at {epoch}"
            case events.Offered():
                if has is not Has.IT:
                    yield f"{case_id}: {line} offers what its bureau has not, or has offered"
                if event.offer_epoch != event.epoch + 1:
                    yield f"{case_id}: {line} offers epoch {event.offer_epoch} at epoch {event.epoch}"
            case events.Released() | events.OfferRefused() if (
                has is not Has.OFFERED or event.referral_id != outstanding
            ):
                yield f"{case_id}: {line} resolves an offer that is not outstanding"
            case events.Released() if event.epoch != epoch + 1:
                yield f"{case_id}: {line} leaves at epoch {event.epoch}, it was offered at {epoch}"
            case events.OfferWithdrawalAsked() if has is not Has.OFFERED:
                yield f"{case_id}: {line} withdraws what is not offered"
            case events.Concluded() | events.ConclusionRevoked() if has is not Has.NOTHING:
                yield f"{case_id}: {line} hears how a case ended that its bureau has"
            case _ if _is_an_act(event) and has is Has.OFFERED:
                yield f"{case_id}: {line} acts on a case that is offered"
            case _ if _is_an_act(event) and has is Has.NOTHING:
                yield f"{case_id}: {line} acts on a case that its bureau has not"
        if isinstance(event, events.Offered):
            outstanding = event.referral_id
        has, epoch = Has(event.custody), event.epoch


def _is_an_act(event: events.CaseEvent) -> bool:
    of_custody = (
        events.Registered,
        events.Received,
        events.Offered,
        events.Released,
        events.OfferRefused,
        events.OfferWithdrawalAsked,
    )
    return not isinstance(event, (*_NOTED, *_OF_ONES_GONE, *of_custody))


def decisions_are_made_once_and_believed(history: History) -> list[str]:
    """A referral is decided once, by its receiver, and its sender records that decision and no other."""
    accepted: dict[str, list[Line]] = defaultdict(list)
    declined: dict[str, list[Line]] = defaultdict(list)
    for line in history.every_line():
        event = line.entry.event
        if isinstance(event, events.Received):
            accepted[event.referral_id].append(line)
        elif isinstance(event, events.OfferDeclined):
            declined[event.referral_id].append(line)
    found = []
    for referral_id in accepted.keys() | declined.keys():
        decisions = [*accepted.get(referral_id, ()), *declined.get(referral_id, ())]
        if len(decisions) > 1:
            found.append(
                f"{decisions[0].entry.case_id}: referral {referral_id} is decided "
                f"{len(decisions)} times: {', '.join(map(str, decisions))}"
            )
    for line in history.every_line():
        event = line.entry.event
        if isinstance(event, events.Released):
            there = [one for one in accepted.get(event.referral_id, ()) if one.bureau == event.to_bureau]
            if not there:
                found.append(f"{line.entry.case_id}: {line} lets go of what {event.to_bureau} has not accepted")
            elif event.receipt_seq and (there[0].seq > event.receipt_seq or not _shown(history, event)):
                found.append(f"{line.entry.case_id}: {line} has a receipt that is not {event.to_bureau}'s entry")
        elif isinstance(event, events.OfferRefused):
            bureaus = {one.bureau for one in declined.get(event.referral_id, ())}
            found += [f"{line.entry.case_id}: {line} takes back what {event.to_bureau} has not declined"] * (
                event.to_bureau not in bureaus
            )
    return found


def _shown(history: History, event: events.Released) -> bool:
    return history.has(event.to_bureau, event.receipt_seq, event.receipt_hash)


def nobody_waits_unseen(history: History) -> list[str]:
    """What one bureau owes another is delivered in the end; before that it stands in the alarm of its age."""
    owed = {
        (bureau, case_id): f"{case_id}: {bureau} owes it to {', '.join(sorted(to))}, and nobody is told"
        for case_id, known in history.cases.items()
        for bureau, case in known.items()
        if (to := {*case.awaiting, *([case.outgoing.to_bureau] if case.outgoing else [])})
    }
    owed |= {
        (bureau, order_id): f"{order_id}: {bureau} owes word of it to {', '.join(sorted(order.owed))}"
        for order_id, known_orders in history.orders.items()
        for bureau, order in known_orders.items()
        if order.owed
    }
    return [fault for key, fault in owed.items() if history.settled or key not in history.alarmed]
