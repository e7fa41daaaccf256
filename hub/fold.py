"""The fold: from journal entries to marks, tallies and open cases. Pure: no IO, no clock.

Per bureau a `Mark` says up to where its journal has been folded. A segment is placed against it (`place`):

- it begins at the next seq and its `prev_hash` is the mark's hash: it is folded;
- all of it lies at or below the mark: a duplicate. JetStream forgets message ids after a while, so this is ordinary;
- it begins further up: a gap. It is parked, and what is missing is read from the ledger;
- it, or its recomputed chain, contradicts the mark: a fork. The bureau is quarantined, all others go on;
- an older generation than the mark's: superseded, ignored;
- a newer generation that does not continue at the mark: the ledger was restored from a backup and has lost entries
  that were folded here, or was rewritten (`hub.generations` tells which). A restored one is folded again from its first
  entry, as its ledger has it now, and the loss stands with it; a rewritten one is quarantined. A newer generation that
  does continue at the mark lost nothing and is simply folded on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import Final

from google.protobuf.message import DecodeError

from hub.measures import COUNTED_ACTIONS, NOT_SMALL, NoSuchDepartment, count_clock, count_event, shanghai_day
from kuaixiang.domain.words import ClockAction, Custody, Stage
from kuaixiang.wire.chain import GENESIS, HASH_BYTES, links
from kuaixiang.wire.v1.journal_pb2 import Entry, Head, Segment, SegmentEntry

SEQ_MAX: Final = 2**63 - 1
"""Positions are signed 64-bit in SQL."""
SEGMENT_ENTRIES_MAX: Final = 100_000
"""Far above what a publisher or a ledger puts into one message; a bound, so that one message cannot stop the fold."""
PASSED_ENTRIES: Final = 1_000
"""Between entries whose hashes are kept, to hold a later generation to: a million rows for the nation's entries of a
year."""
EPOCH_DAY: Final = date(1970, 1, 1)
DAY_MIN: Final = (date.min - EPOCH_DAY).days
DAY_MAX: Final = (date.max - EPOCH_DAY).days
"""Days of tallies that a calendar has; only a false entry has others."""
_NO_CODE: Final = ~127
"""Stages, custodies and clocks: room for those to come, within a small integer of SQL."""
_KEY_CHARACTERS_MAX: Final = 64
"""Of a case's number and a department's code, as ledgers give them: a database does not index texts of any length."""


class Poison(Exception):
    """A message that can never be folded. It is set aside; it changes nothing."""


class Undecodable(Poison):
    """The bytes are not the message that the subject promises."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"What came on {subject} is not a message of the journal.")


class Malformed(Poison):
    """A segment or head lacks what it must have."""

    def __init__(self, bureau: str, what: str) -> None:
        self.bureau = bureau
        self.what = what
        super().__init__(f"A message of bureau {bureau or '(none)'} is malformed: {what}.")


class WrongBureau(Poison):
    """A message, or an entry in it, names another bureau than the subject it came on."""

    def __init__(self, subject: str, bureau: str, named: str) -> None:
        self.subject = subject
        self.bureau = bureau
        self.named = named
        super().__init__(f"A message on {subject} is bureau {bureau}'s to send but names {named or 'none'}.")


class WrongSite(Poison):
    """A message came from a site that does not serve the bureau."""

    def __init__(self, bureau: str, site: str, expected: str) -> None:
        self.bureau = bureau
        self.site = site
        self.expected = expected
        super().__init__(f"Bureau {bureau} publishes at site {expected}, but a message of it came from site {site}.")


class OutsideScope(Poison):
    """A message of a bureau that this hub does not count."""

    def __init__(self, bureau: str, scope: str) -> None:
        self.bureau = bureau
        self.scope = scope
        super().__init__(f"Bureau {bureau} is not in the scope of this hub, {scope}.")


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to where a bureau's journal has been folded, and what is known of its end."""

    bureau: str
    generation: int = 0
    seq: int = 0
    hash: bytes = GENESIS
    data_as_of_us: int = 0
    """When the last folded entry was recorded, or when the ledger last said that there is none after it."""
    heard_at_us: int = 0
    """When the hub last heard from the bureau, in business time; 0: never."""
    announced_generation: int = 0
    announced_seq: int = 0
    quarantine: str = ""
    """Why nothing of the bureau is folded any more; empty when it is."""
    restored: str = ""
    """What a new generation has lost of what had been folded; until somebody has the bureau folded anew."""

    @property
    def behind(self) -> bool:
        """Whether more of the journal is known to exist than has been folded."""
        return (self.announced_generation, self.announced_seq) > (self.generation, self.seq)

    @property
    def held(self) -> bool:
        """Whether nothing of the bureau is folded any more: not if its journal is known to go on in a new generation.

        What that says of itself is looked at in the ledger.
        """
        return bool(self.quarantine) and self.announced_generation <= self.generation

    def ends_at(self, head: Head) -> bool:
        """Whether the journal is known to end where it has been folded up to: nothing is missing here."""
        newer = head.generation >= self.generation
        return newer and head.seq == self.seq and head.hash == self.hash

    def announce(self, generation: int, seq: int) -> "Mark":
        """Remember how far the journal is known to reach."""
        if (generation, seq) <= (self.announced_generation, self.announced_seq):
            return self
        return replace(self, announced_generation=generation, announced_seq=seq)

    def back_to_the_start(self, restored: str = "") -> "Mark":
        """Nothing of the bureau is folded; what is known of its journal stays known."""
        return Mark(
            self.bureau,
            restored=restored,
            heard_at_us=self.heard_at_us,
            announced_generation=self.announced_generation,
            announced_seq=self.announced_seq,
        )


class Placement(Enum):
    """Where a segment stands against a bureau's mark."""

    APPLY = "apply"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    GAP = "gap"
    RESTORED = "restored"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class Place:
    """A segment's placement; `skip` leading entries are already folded when it applies, `reason` tells of a fork."""

    placement: Placement
    skip: int = 0
    reason: str = ""


def last_seq(segment: Segment) -> int:
    """Position of the last entry of a segment."""
    return segment.first_seq + len(segment.entries) - 1


_sealed_of: Final[Callable[[SegmentEntry], tuple[bytes, bytes]]] = attrgetter("private_digest", "public")
_digest_of: Final[Callable[[SegmentEntry], bytes]] = attrgetter("private_digest")
_public_of: Final[Callable[[SegmentEntry], bytes]] = attrgetter("public")


def hashes_of(segment: Segment) -> list[bytes]:
    """The hashes of a segment's entries, as they follow from the hash that it says stands before them."""
    return links(segment.prev_hash, segment.generation, segment.first_seq, map(_sealed_of, segment.entries))


def check_segment(segment: Segment) -> None:
    """Check a segment's form. Raises `Malformed`."""
    count = len(segment.entries)
    if not 0 < count <= SEGMENT_ENTRIES_MAX:
        raise Malformed(segment.bureau, f"it holds {count} entries, not 1 to {SEGMENT_ENTRIES_MAX}")
    if segment.first_seq < 1 or last_seq(segment) > SEQ_MAX or segment.generation > SEQ_MAX:
        raise Malformed(segment.bureau, f"its position {segment.generation}.{segment.first_seq} is none")
    if len(segment.prev_hash) != HASH_BYTES or len(segment.last_hash) != HASH_BYTES:
        raise Malformed(segment.bureau, "a hash is not 32 bytes")
    if set(map(len, map(_digest_of, segment.entries))) != {HASH_BYTES}:
        raise Malformed(segment.bureau, "a private digest is not 32 bytes")


def check_head(head: Head) -> None:
    """Check a head's form. Raises `Malformed`."""
    if len(head.hash) != HASH_BYTES:
        raise Malformed(head.bureau, "its hash is not 32 bytes")
    if head.seq > SEQ_MAX or head.generation > SEQ_MAX:
        raise Malformed(head.bureau, f"its position {head.generation}.{head.seq} is none")


def place(mark: Mark, segment: Segment) -> Place:
    """Say what is to be done with a well-formed segment of the mark's bureau."""
    last = last_seq(segment)
    older = segment.generation < mark.generation
    newer = segment.generation > mark.generation
    if older:
        # A refill of a restored ledger begins with what an older generation wrote: below the mark by then.
        return Place(Placement.DUPLICATE if last <= mark.seq else Placement.SUPERSEDED)
    if segment.first_seq > mark.seq + 1:
        return Place(Placement.GAP)
    if last < mark.seq:
        return Place(Placement.RESTORED if newer else Placement.DUPLICATE)
    if last == mark.seq:
        if segment.last_hash == mark.hash:
            return Place(Placement.DUPLICATE)
        return _contradiction(mark, segment, newer=newer, found=segment.last_hash)
    hashes = hashes_of(segment)
    if hashes[-1] != segment.last_hash:
        return Place(
            Placement.FORK,
            reason=f"the chain from seq {segment.first_seq} to {last} does not end in the hash that was sent with it",
        )
    skip = mark.seq + 1 - segment.first_seq
    found = hashes[skip - 1] if skip else segment.prev_hash
    if found != mark.hash:
        return _contradiction(mark, segment, newer=newer, found=found)
    return Place(Placement.APPLY, skip)


def _contradiction(mark: Mark, segment: Segment, *, newer: bool, found: bytes) -> Place:
    if newer:
        return Place(Placement.RESTORED)
    return Place(
        Placement.FORK,
        reason=f"the hash at seq {mark.seq} of generation {segment.generation} is {found.hex()[:16]}…, "
        f"but {mark.hash.hex()[:16]}… has been folded",
    )


# ---------------------------------------------------------------- entries

OpenCase = tuple[int, int, int, int, int, int]
"""A case that is open in a bureau's ledger and that the bureau is responsible for: stage, custody, category, channel,
department kind, and when something last happened to it, in microseconds. A plain tuple: one is made for almost every
entry."""

OpenClock = tuple[int, int, int]
"""A running clock: when it falls due and when one working day is left, in microseconds (0: since its start), and
whether it has been extended."""
UNTOLD: Final = 2
"""A change that does not say whether the clock has been extended."""

ClockKey = tuple[str, int, str]
"""Case, clock kind, department."""

_CLOSED_STAGES: Final = frozenset(map(int, (Stage.RECONSIDERATION, Stage.WITHDRAWN, Stage.WRITTEN_OFF)))
_RELEASED: Final = int(Custody.RELEASED)
_EXTENDED_BY: Final[Mapping[int, int]] = {
    int(ClockAction.STARTED): 0,
    int(ClockAction.EXTENDED): 1,
    int(ClockAction.RECOMPUTED): UNTOLD,
}
_STOPPED: Final = int(ClockAction.STOPPED)


class UnreadableEntry(Exception):
    """An entry whose hash is right but which cannot be counted: the ledger that wrote it is not one of ours."""

    def __init__(self, seq: int, what: str) -> None:
        self.seq = seq
        self.what = what
        super().__init__(f"the entry at seq {seq} cannot be read: {what}")


@dataclass(slots=True)
class Changes:
    """What a run of entries of one bureau changes."""

    counts: list[int] = field(default_factory=list)
    """Each stands for one more: a day above the bits of a cell."""
    cases: dict[str, OpenCase | None] = field(default_factory=dict)
    """None: closed here, or another bureau's business now."""
    clocks: dict[ClockKey, OpenClock | None] = field(default_factory=dict)
    """None: it has stopped."""
    entries: int = 0
    recorded_at_us: int = 0

    def go_on(self, later: "Changes") -> None:
        """Take in what the entries right after these change, read with these before them."""
        self.counts += later.counts
        self.cases.update(later.cases)
        self.clocks.update(later.clocks)
        self.entries += later.entries
        self.recorded_at_us = max(self.recorded_at_us, later.recorded_at_us)


def read_entries(segment: Segment, skip: int = 0, before: Changes | None = None) -> Changes:
    """Fold a segment's entries, its leading `skip` left out. Raises `UnreadableEntry`; nothing is changed then.

    `before` is what earlier entries of the bureau change in the same batch. Most of a hub's time is spent here:
    whatever is asked of an entry costs a hundredth of folding it.
    """
    changes = Changes()
    counts, cases, clocks = changes.counts, changes.cases, changes.clocks
    running_before: Mapping[ClockKey, OpenClock | None] = before.clocks if before is not None else {}
    bureau = segment.bureau
    parse = Entry.FromString
    recorded_at_us = [0]
    seq = segment.first_seq + skip
    for public in map(_public_of, segment.entries[skip:]):
        try:
            entry = parse(public)
        except DecodeError:
            raise UnreadableEntry(seq, "it is no entry") from None
        if entry.bureau != bureau:
            raise UnreadableEntry(seq, f"it names bureau {entry.bureau}")
        category, channel, in_charge = entry.category, entry.channel, entry.department_kind
        if (category | channel | in_charge) & NOT_SMALL:
            raise UnreadableEntry(seq, "its category, channel or kind of department is none")
        occurred_at_us = entry.occurred_at_us
        day, ground = shanghai_day(occurred_at_us), category << 24 | channel << 20
        count_event(entry, in_charge, day, ground, counts)
        stage = entry.stage
        case_id: str | None = None
        if stage and entry.version:
            # Entries about no case of the ledger, supervision orders among them, have no stage.
            case_id, custody = entry.case_id, entry.custody
            if "\x00" in case_id or len(case_id) > _KEY_CHARACTERS_MAX or (stage | custody) & _NO_CODE:
                raise UnreadableEntry(seq, "its case, stage or custody is none")
            if custody == _RELEASED or stage in _CLOSED_STAGES:
                cases[case_id] = None
            else:
                cases[case_id] = (stage, custody, category, channel, in_charge, occurred_at_us)
        for change in entry.clocks[:]:  # a slice is gone through without an exception at its end
            kind, action = change.kind, change.action
            if action in COUNTED_ACTIONS:
                try:
                    count_clock(change, kind, action, in_charge, day, ground, counts)
                except NoSuchDepartment:
                    raise UnreadableEntry(seq, "its clock is of no kind of department") from None
            if case_id is None:
                continue
            department = change.department
            if kind & _NO_CODE or "\x00" in department or len(department) > _KEY_CHARACTERS_MAX:
                raise UnreadableEntry(seq, "its clock is none")
            if action == _STOPPED:
                clocks[case_id, kind, department] = None
            elif action in _EXTENDED_BY:
                at = (case_id, kind, department)
                known = clocks[at] if at in clocks else running_before.get(at)
                clocks[at] = (change.due_at_us, change.soon_at_us, _extended(action, known))
        recorded_at_us.append(entry.recorded_at_us)
        seq += 1
    changes.entries = len(segment.entries) - skip
    changes.recorded_at_us = max(recorded_at_us)
    return changes


def _extended(action: int, known: OpenClock | None) -> int:
    """Whether a clock has been extended; what the change does not say is as it was, as far as the batch knows."""
    extended = _EXTENDED_BY[action]
    return known[2] if extended == UNTOLD and known is not None else extended


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    marks: dict[str, Mark] = field(default_factory=dict)
    changes: dict[str, Changes] = field(default_factory=dict)
    """By bureau."""
    passed: list[tuple[str, int, bytes]] = field(default_factory=list)
    """Entries whose hashes are kept: bureau, position, hash."""
    entries: int = 0

    def add(self, mark: Mark, segment: Segment, changes: Changes) -> Mark:
        """Take in a segment, read with what the batch has of its bureau before it, and give the bureau's new mark."""
        known = self.changes.get(mark.bureau)
        if known is None:
            self.changes[mark.bureau] = changes
        else:
            known.go_on(changes)
        self.entries += changes.entries
        last = last_seq(segment)
        folded = replace(
            mark,
            generation=segment.generation,
            seq=last,
            hash=segment.last_hash,
            data_as_of_us=max(mark.data_as_of_us, changes.recorded_at_us),
        ).announce(segment.generation, last)
        self.marks[mark.bureau] = folded
        if last // PASSED_ENTRIES > mark.seq // PASSED_ENTRIES:
            self.passed.append((mark.bureau, last, segment.last_hash))
        return folded


@lru_cache(maxsize=10_000)
def first_of_month(day: int) -> int:
    """The first day of the month that a day belongs to; a day beyond the calendar is its own."""
    if not DAY_MIN <= day <= DAY_MAX:
        return day
    return day - (EPOCH_DAY + timedelta(days=day)).day + 1


@lru_cache(maxsize=10_000)
def first_of_year(day: int) -> int:
    """The first day of the year that a day belongs to; a day beyond the calendar is its own."""
    if not DAY_MIN <= day <= DAY_MAX:
        return day
    return day - (EPOCH_DAY + timedelta(days=day)).timetuple().tm_yday + 1
