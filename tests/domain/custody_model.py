"""The custody protocol as an explicit-state model: every reachable state of one case among three bureaus is visited.

What is real and what is modelled. A receiver's judgement is the domain's own `judge_epoch`; the rest is the protocol as
DESIGN.md states it. Each rule can be broken by a field of `Rules`, so that the search can show that it would notice.

The world is the worst one that still forgets nothing it has committed:

- Messages on the network are a set. A message that was sent may be delivered at any later moment, any number of times,
  in any order, or never; and at any moment the network may lose everything that it carries.
- An answer is written to memory with the decision and reaches the network in a step of its own; a crash between the two
  loses it. Everything else that a bureau knows is durable, since each step is one commit, so that a crash elsewhere is
  the same as a message not delivered yet.
- An owner may offer the case to any other bureau at any moment, and withdraw at any moment. A receiver may refuse any
  offer that it might accept: the tree's rules (scope, loop, hops) are a matter of chance here.

Only the offers made are bounded, which makes the world finite.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

from kuaixiang.domain.custody import Holding, judge_epoch
from kuaixiang.domain.words import Custody, Refusal

Item = TypeVar("Item")
Judge = Callable[[int, Holding | None], Refusal | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The protocol; as it stands when every field has its default."""

    judge: Judge = judge_epoch
    epoch_step: int = 1
    """By how much an accepted hand-over raises the epoch."""
    released_step: int = 0
    """How much of that a sender adds to its own epoch when it learns that it was accepted. It must not matter."""
    commits_before_sending: bool = True
    """OFFERED is durable before the offer leaves."""
    commits_before_answering: bool = True
    """The decision is durable before the receipt leaves."""
    stores_decisions: bool = True
    """A repeated offer is not decided again."""
    answers_repeats: bool = True
    """A repeated offer or withdrawal gets the stored receipt."""
    withdrawal_leaves_tombstone: bool = True
    """A withdrawal of an unknown referral is a decision."""
    releases_on_receipt: bool = True
    """The sender lets go when it is told that it was accepted, not when it sends."""
    matches_receipt_to_referral: bool = True
    """A receipt decides the referral that it names, and no other one of the case."""
    never_takes_back: bool = True
    """A sender waits for the decision for ever."""
    resends: bool = True
    """An undecided offer is sent again when it was lost, and its withdrawal too."""
    conclusion_proves: int = 1
    """By how many epochs a conclusion must be above an outstanding offer's case to prove that the offer was accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The size of the world."""

    bureaus: int = 3
    start: int = 0
    """Which bureau registers the case."""
    adjacent: tuple[tuple[int, ...], ...] = ((1, 2), (0, 2), (0, 1))
    """Whom each bureau may offer to. All to all contains every tree of three, seen from every start."""
    offers_max: int = 3
    """Offers made in all, decided or not: the bound on successive hand-overs too."""
    keeps_messages: bool = False
    """Every message is on the network as soon as it may be sent, and for ever. A message need not be delivered, so that
    whatever can happen to the records can happen here too, in far fewer states; but loss and crashes are out of sight.
    """
    tells_conclusions: bool = False
    """A bureau that came to own the case may have concluded it at that epoch, and told so to whoever had a part in it;
    the news may arrive at any later moment, as often as it likes.
    """


class Fault(Enum):
    """What can be wrong with a protocol."""

    TWO_OWNERS = "two bureaus are responsible at once"
    NO_OWNER = "no bureau is responsible"
    EPOCH_TWICE = "two hand-overs were accepted at one epoch"
    RIGHTFUL_OFFER_REFUSED = "the epoch rule refused an offer of the responsible bureau"
    OWNED_RECORD_REPLACED = "a bureau that owned the case accepted it from another"
    EPOCH_FELL = "a bureau accepted an epoch that it had already been past"
    OWNER_UNREACHABLE = "no bureau can come to own the case any more"
    DECISION_UNREACHABLE = "an offer can never be settled any more"


PROMISES = frozenset(Fault)
"""What a sound federation keeps."""

CONTAINMENT = frozenset({Fault.OWNED_RECORD_REPLACED, Fault.EPOCH_FELL})
"""What the epoch rule keeps even where senders do not follow the protocol."""


# Plain numbers, since the search hashes them millions of times and an enumeration's hash is slow.
OWNED, OFFERED, RELEASED = (int(custody) for custody in (Custody.OWNED, Custody.OFFERED, Custody.RELEASED))
UNDECIDED, ACCEPTED, REFUSED = range(3)

# A referral's messages, one bit each. An answer is owed while only its author's memory has it.
OFFER, WITHDRAW = 1, 2
SENT = {ACCEPTED: 4, REFUSED: 8}
OWED = {ACCEPTED: 16, REFUSED: 32}
ANY_OWED = OWED[ACCEPTED] | OWED[REFUSED]
ON_NETWORK = OFFER | WITHDRAW | SENT[ACCEPTED] | SENT[REFUSED]
OWED_TO_SENT = 2
"""How far a bit moves when the answer leaves."""
SENT_TO_EVER = 6
"""How far up a bit is noted that the offer, or the withdrawal, has left once. Kept only where it matters."""


class Record(NamedTuple):
    """A bureau's record of the case."""

    custody: int
    epoch: int
    referral: int = -1
    """Its outstanding offer while OFFERED."""


class Referral(NamedTuple):
    """One offer: who to whom, what was decided, and which of its messages are about."""

    sender: int
    receiver: int
    epoch: int
    verdict: int
    messages: int


class Doubt(NamedTuple):
    """What a crash would undo at a bureau that let a message out before its commit. Only a broken rule makes one."""

    bureau: int
    record: Record | None
    referral: int
    verdict: int


class State(NamedTuple):
    """The whole world at one instant. A record of None: that bureau has never heard of the case."""

    records: tuple[Record | None, ...]
    referrals: tuple[Referral, ...]
    doubt: Doubt | None = None


class Step(NamedTuple):
    """One thing that can happen."""

    what: str
    bureau: int
    after: State
    faults: tuple[Fault, ...] = ()
    """What is wrong with the step itself, whatever it leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What a search found."""

    visited: tuple[State, ...] = field(repr=False)
    steps: int
    handovers_most: int
    """Accepted hand-overs in the state that has most."""
    happened: frozenset[str]
    """What the steps were called that were taken at all."""
    fault: Fault | None = None
    story: tuple[str, ...] = ()
    """A shortest way to the fault, one step each."""

    @property
    def states(self) -> int:
        """How many states were visited."""
        return len(self.visited)

    @property
    def histories(self) -> frozenset[tuple[object, ...]]:
        """The states without their messages: what was offered, what was decided, and who knows."""
        return frozenset((state.records, *(referral[:-1] for referral in state.referrals)) for state in self.visited)

    def __str__(self) -> str:
        found = self.fault.value if self.fault is not None else "no fault"
        lines = (
            f"{self.states:,} states, {self.steps:,} steps, up to {self.handovers_most} hand-overs: {found}",
            *(f"  {number}. {step}" for number, step in enumerate(self.story, 1)),
        )
        return "\n".join(lines)


@cache
def _holding(record: Record | None) -> Holding | None:
    return None if record is None else Holding(custody=Custody(record.custody), epoch=record.epoch)


class Model:
    """The world's steps, under some rules."""

    def __init__(self, rules: Rules, world: World) -> None:
        self._rules = rules
        self._world = world
        self._judge = cache(rules.judge)

    def first(self) -> State:
        """One bureau has registered the case, and nobody else has heard of it."""
        return State(
            tuple(Record(OWNED, 0) if i == self._world.start else None for i in range(self._world.bureaus)), ()
        )

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next."""
        records, referrals, doubt = state
        yield from self._crashes(state)
        for i, record in enumerate(records):
            if doubt is not None and doubt.bureau == i:
                # Between its message and its commit a bureau does nothing else: it has one writer.
                yield Step("commits late", i, State(records, referrals))
            elif record is None:
                continue
            elif record.custody == OWNED:
                yield from self._offers(state, i, record)
            elif record.custody == OFFERED:
                yield from self._sends(state, i, record)
        for at, referral in enumerate(referrals):
            if doubt is None or doubt.bureau != referral.receiver:
                yield from self._receiver_hears(state, at, referral)
            if doubt is None or doubt.bureau != referral.sender:
                yield from self._sender_hears(state, at, referral)
        if self._world.tells_conclusions:
            yield from self._conclusions_heard(state)
        if not self._world.keeps_messages and any(referral.messages & ON_NETWORK for referral in referrals):
            lost = tuple(_with(r, r.verdict, r.messages & ~ON_NETWORK) for r in referrals)
            yield Step("(the network loses everything)", -1, State(records, lost, doubt))

    # ------------------------------------------------------------ the sender

    def _offers(self, state: State, i: int, record: Record) -> Iterator[Step]:
        """OWNED → OFFERED, committed before the first send."""
        records, referrals, doubt = state
        if len(referrals) >= self._world.offers_max:
            return
        frozen = _put(records, i, Record(OFFERED, record.epoch, len(referrals)))
        at_once = OFFER | WITHDRAW if self._world.keeps_messages else 0
        for to in self._world.adjacent[i]:
            referral = Referral(i, to, record.epoch + self._rules.epoch_step, UNDECIDED, at_once)
            if self._rules.commits_before_sending:
                yield Step(f"offers to {to}", i, State(frozen, (*referrals, referral), doubt))
            elif doubt is None:
                sent = _with(referral, UNDECIDED, OFFER)
                undo = Doubt(i, record, len(referrals), UNDECIDED)
                yield Step(f"offers to {to}, not committed", i, State(frozen, (*referrals, sent), undo))

    def _sends(self, state: State, i: int, record: Record) -> Iterator[Step]:
        """An outstanding offer is sent, and sent again; and the sender may ask for it back."""
        records, referrals, doubt = state
        referral = referrals[record.referral]
        for message, what in ((OFFER, "sends the offer"), (WITHDRAW, "sends a withdrawal")):
            messages = self._with_sent(referral.messages, message)
            if messages == referral.messages:
                continue
            sent = _put(referrals, record.referral, _with(referral, referral.verdict, messages))
            left = records if self._rules.releases_on_receipt else _put(records, i, Record(RELEASED, record.epoch))
            yield Step(what, i, State(left, sent, doubt))
        if not self._rules.never_takes_back:
            yield Step(
                "takes back on a time-out", i, State(_put(records, i, Record(OWNED, record.epoch)), referrals, doubt)
            )

    def _with_sent(self, messages: int, message: int) -> int:
        """The messages about once this one has been sent, which it need not be while it is under way already."""
        if self._rules.resends:
            return messages | message
        ever = message << SENT_TO_EVER
        return messages if messages & ever else messages | message | ever

    def _sender_hears(self, state: State, at: int, referral: Referral) -> Iterator[Step]:
        """OFFERED → RELEASED when accepted, → OWNED at the same epoch when refused."""
        records, referrals, doubt = state
        mine = records[referral.sender]
        if mine is None or mine.custody != OFFERED:
            return
        if mine.referral != at and self._rules.matches_receipt_to_referral:
            return
        if referral.messages & SENT[ACCEPTED]:
            gone = Record(RELEASED, mine.epoch + self._rules.released_step)
            after = State(_put(records, referral.sender, gone), referrals, doubt)
            yield Step(f"hears that referral {at} was accepted", referral.sender, after)
        if referral.messages & SENT[REFUSED]:
            after = State(_put(records, referral.sender, Record(OWNED, mine.epoch)), referrals, doubt)
            yield Step(f"hears that referral {at} was refused", referral.sender, after)

    # ----------------------------------------------------------- conclusions

    def _conclusions_heard(self, state: State) -> Iterator[Step]:
        """A conclusion at a later epoch: the case has moved on, and whoever hears of it does not have it."""
        records, referrals, doubt = state
        concluded = {0, *(referral.epoch for referral in referrals if referral.verdict == ACCEPTED)}
        for i, record in enumerate(records):
            if record is None or record.custody == OWNED:
                continue
            above = record.epoch + (self._rules.conclusion_proves if record.custody == OFFERED else 1)
            for epoch in sorted(concluded):
                if epoch >= above:
                    after = State(_put(records, i, Record(RELEASED, epoch)), referrals, doubt)
                    yield Step(f"hears of a conclusion at epoch {epoch}", i, after)

    # ---------------------------------------------------------- the receiver

    def _receiver_hears(self, state: State, at: int, referral: Referral) -> Iterator[Step]:
        """An offer or a withdrawal arrives, or an owed answer leaves."""
        records, referrals, doubt = state
        to, verdict, had = referral.receiver, referral.verdict, referral.messages
        for decision in (ACCEPTED, REFUSED):
            if had & OWED[decision]:
                answered = (had & ~OWED[decision]) | OWED[decision] >> OWED_TO_SENT
                after = State(records, _put(referrals, at, _with(referral, verdict, answered)), doubt)
                yield Step(f"answers referral {at}", to, after)
        if had & (OFFER | WITHDRAW) and verdict and self._rules.stores_decisions:
            if self._rules.answers_repeats and not had & self._answer_of(verdict):
                owed = _put(referrals, at, _with(referral, verdict, had | self._answer_of(verdict)))
                yield Step(f"hears referral {at} again", to, State(records, owed, doubt))
            return
        if had & OFFER:
            yield from self._judges(state, at, referral)
        if had & WITHDRAW:
            if self._rules.withdrawal_leaves_tombstone:
                yield self._decides(state, at, referral, REFUSED, f"refuses referral {at} as withdrawn")
            elif not had & self._answer_of(REFUSED):
                owed = _put(referrals, at, _with(referral, verdict, had | self._answer_of(REFUSED)))
                yield Step(
                    f"answers a withdrawal of referral {at} without a tombstone", to, State(records, owed, doubt)
                )

    def _judges(self, state: State, at: int, referral: Referral) -> Iterator[Step]:
        """Decides an offer by rule: by the epochs, and by whatever else the tree may hold against it."""
        mine = state.records[referral.receiver]
        refusal = self._judge(referral.epoch, _holding(mine))
        if refusal is not None:
            refused = self._decides(state, at, referral, REFUSED, f"refuses referral {at}: {refusal.name}")
            yield refused._replace(faults=(Fault.RIGHTFUL_OFFER_REFUSED,))
            return
        yield self._decides(state, at, referral, REFUSED, f"refuses referral {at} by the tree's rules")
        accepted = self._decides(state, at, referral, ACCEPTED, f"accepts referral {at}")
        yield accepted._replace(faults=tuple(self._faults_of_accepting(state, referral, mine)))

    def _faults_of_accepting(self, state: State, referral: Referral, mine: Record | None) -> Iterator[Fault]:
        if any(other.verdict == ACCEPTED and other.epoch == referral.epoch for other in state.referrals):
            yield Fault.EPOCH_TWICE
        if mine is not None and referral.epoch <= mine.epoch:
            yield Fault.EPOCH_FELL
        if mine is not None and mine.custody == OWNED:
            yield Fault.OWNED_RECORD_REPLACED

    def _decides(self, state: State, at: int, referral: Referral, decision: int, what: str) -> Step:
        """One commit: the decision, and with an acceptance the case. The answer is owed from then on."""
        records, referrals, doubt = state
        to, verdict, had = referral.receiver, referral.verdict, referral.messages
        held = _put(records, to, Record(OWNED, referral.epoch)) if decision == ACCEPTED else records
        # An acceptance that was once made stays in the model's own memory, even where the receiver has forgotten it.
        known = ACCEPTED if verdict == ACCEPTED else decision
        if self._rules.commits_before_answering or doubt is not None:
            owed = _put(referrals, at, _with(referral, known, had | self._answer_of(decision)))
            return Step(what, to, State(held, owed, doubt))
        answered = _put(referrals, at, _with(referral, known, had | SENT[decision]))
        undo = Doubt(to, records[to], at, verdict)
        return Step(f"{what}, not committed", to, State(held, answered, undo))

    def _answer_of(self, decision: int) -> int:
        """A fresh answer: in its author's memory, or already on a network that keeps messages."""
        return (SENT if self._world.keeps_messages else OWED)[decision]

    # ---------------------------------------------------------------- crashes

    def _crashes(self, state: State) -> Iterator[Step]:
        """A bureau loses what it has not committed, and the answers that it had only in memory."""
        records, referrals, doubt = state
        for i in range(self._world.bureaus):
            undone = doubt is not None and doubt.bureau == i
            if not undone and not any(r.receiver == i and r.messages & ANY_OWED for r in referrals):
                continue
            kept = tuple(_with(r, r.verdict, r.messages & ~ANY_OWED) if r.receiver == i else r for r in referrals)
            if doubt is None or not undone:
                yield Step("crashes", i, State(records, kept, doubt))
                continue
            forgotten = _with(kept[doubt.referral], doubt.verdict, kept[doubt.referral].messages)
            after = State(_put(records, i, doubt.record), _put(kept, doubt.referral, forgotten))
            yield Step("crashes before its commit", i, after)


def is_responsible(record: Record | None, referrals: tuple[Referral, ...]) -> bool:
    """Whether the bureau with this record answers for the case: it owns it, or its offer is not accepted yet."""
    if record is None:
        return False
    return record.custody == OWNED or (record.custody == OFFERED and referrals[record.referral].verdict != ACCEPTED)


def explore(rules: Rules | None = None, world: World | None = None, faults: frozenset[Fault] = PROMISES) -> Exploration:
    """Visits every reachable state, nearest first, until one of these faults is found or there is no further state."""
    model = Model(rules or Rules(), world or World())
    first = model.first()
    numbers: dict[State, int] = {first: 0}
    came_from: list[int] = [-1]
    before: list[list[int]] = [[]]
    goals: dict[Fault, list[int]] = {Fault.OWNER_UNREACHABLE: [], Fault.DECISION_UNREACHABLE: []}
    happened: set[str] = set()
    taken = handovers_most = 0
    waiting = deque([first])

    def ended(fault: Fault | None = None, last: int = 0, final: Step | None = None) -> Exploration:
        visited = tuple(numbers)
        story = () if fault is None else _story(model, visited, came_from, last, final)
        return Exploration(
            visited=visited,
            steps=taken,
            handovers_most=handovers_most,
            happened=frozenset(happened),
            fault=fault,
            story=story,
        )

    number = -1
    while waiting:
        state = waiting.popleft()
        number += 1
        wrong = _fault_of(state)
        if wrong in faults:
            return ended(wrong, number)
        handovers_most = max(handovers_most, sum(r.verdict == ACCEPTED for r in state.referrals))
        if any(record is not None and record.custody == OWNED for record in state.records):
            goals[Fault.OWNER_UNREACHABLE].append(number)
        if not any(record is not None and record.custody == OFFERED for record in state.records):
            goals[Fault.DECISION_UNREACHABLE].append(number)
        for step in model.steps(state):
            taken += 1
            happened.add(step.what)
            for fault in step.faults:
                if fault in faults:
                    return ended(fault, number, step)
            known = numbers.setdefault(step.after, len(numbers))
            if known == len(before):
                before.append([])
                came_from.append(number)
                waiting.append(step.after)
            before[known].append(number)
    for fault, reached in goals.items():
        if fault in faults and (cut_off := _cut_off(before, reached)) is not None:
            return ended(fault, cut_off)
    return ended()


def _fault_of(state: State) -> Fault | None:
    """What is wrong with a state in itself: exactly one bureau is responsible."""
    match sum(is_responsible(record, state.referrals) for record in state.records):
        case 0:
            return Fault.NO_OWNER
        case 1:
            return None
        case _:
            return Fault.TWO_OWNERS


def _cut_off(before: list[list[int]], reached: Iterable[int]) -> int | None:
    """The nearest state from which none of these states can be reached, if there is one."""
    can = bytearray(len(before))
    waiting = list(reached)
    for number in waiting:
        can[number] = 1
    while waiting:
        for number in before[waiting.pop()]:
            if not can[number]:
                can[number] = 1
                waiting.append(number)
    nearest = can.find(0)
    return nearest if nearest >= 0 else None


def _story(
    model: Model, states: tuple[State, ...], came_from: list[int], last: int, final: Step | None
) -> tuple[str, ...]:
    """The steps that lead to a state, and one more."""
    way = [last]
    while came_from[way[-1]] >= 0:
        way.append(came_from[way[-1]])
    way.reverse()
    steps = [next(step for step in model.steps(states[a]) if step.after == states[b]) for a, b in pairwise(way)]
    return tuple(
        step.what if step.bureau < 0 else f"bureau {step.bureau} {step.what}"
        for step in (*steps, *((final,) if final is not None else ()))
    )


def _with(referral: Referral, verdict: int, messages: int) -> Referral:
    return Referral(referral.sender, referral.receiver, referral.epoch, verdict, messages)


def _put(items: tuple[Item, ...], at: int, item: Item) -> tuple[Item, ...]:
    return (*items[:at], item, *items[at + 1 :])
