"""对账 (§五(三)): what the two ledgers of a superior and its subordinate must agree on, and how they differ.

They share hand-overs. Each ledger gives a record of every hand-over between the two, whether it was accepted, refused
or is undecided; the latest accepted one of a case also says how the case ended. A hand-over belongs to the Shanghai day
on which its sender offered it, which both ledgers know. So two ledgers that agree have the same digest of every day,
and only the days on which they do not are compared record by record.

What one ledger has yet to tell the other is not a mismatch but pending, unless it has been owed for longer than
`PENDING_WORKDAYS_MAX`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Final

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.case import Conclusion
from kuaixiang.domain.words import DifferenceKind, ReferralState, Refusal

PENDING_WORKDAYS_MAX: Final = 1.0
"""A message between two nodes that answer each other takes seconds; one owed for a working day is stuck."""
CANONICAL_FORM: Final = "kuaixiang pair record 1"
"""Begins every record's canonical bytes: digests of another form never equal these."""

_UNDECIDED: Final = frozenset({ReferralState.OFFERED, ReferralState.WITHDRAWING})
_DECISION: Final = frozenset({"state", "refusal"})
_CONCLUSION: Final = frozenset({"outcome", "conclusion_epoch", "round", "handled_by", "completed_at"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRecord:
    """One hand-over as one of the two ledgers knows it.

    `conclusion` is how the case ended as far as this ledger knows; None while it is open, and for every hand-over of
    the case between the two but the latest accepted one. `pending_since`: the ledger has had something to tell the
    other about the case since then; None: nothing. It is no part of what the two must agree on.
    """

    referral_id: str
    case_id: str
    epoch: int
    from_bureau: str
    to_bureau: str
    offered_at: datetime
    state: ReferralState
    refusal: Refusal | None = None
    conclusion: Conclusion | None = None
    pending_since: datetime | None = None

    @property
    def undecided(self) -> bool:
        """Whether the receiver's decision is not known yet."""
        return self.state in _UNDECIDED


@dataclass(frozen=True, slots=True)
class DayDigest:
    """All records of a day, as one ledger has them."""

    records: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """What the ledger here and the one there say of one field; empty for nothing."""

    field: str
    here: str
    there: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A hand-over on which the two ledgers do not agree."""

    case_id: str
    referral_id: str
    kind: DifferenceKind
    fields: tuple[FieldDifference, ...] = ()


@dataclass(slots=True)
class Comparison:
    """What came of comparing records, counted in hand-overs."""

    matched: int = 0
    pending: int = 0
    differences: list[Difference] = field(default_factory=list)

    def count(self, kind: DifferenceKind) -> int:
        """How many hand-overs differ in this way."""
        return sum(difference.kind is kind for difference in self.differences)


def facts(record: PairRecord) -> dict[str, str]:
    """What both ledgers must say alike, by field, as text; an instant in UTC, nothing as the empty text."""
    told = {
        "case_id": record.case_id,
        "epoch": str(record.epoch),
        "from_bureau": record.from_bureau,
        "to_bureau": record.to_bureau,
        "offered_at": _text(record.offered_at),
        "state": (ReferralState.OFFERED if record.undecided else record.state).name,
        "refusal": record.refusal.name if record.refusal is not None else "",
    }
    ended = record.conclusion
    return told | {
        "outcome": ended.outcome.name if ended is not None else "",
        "conclusion_epoch": str(ended.epoch) if ended is not None else "",
        "round": str(ended.round) if ended is not None else "",
        "handled_by": ended.handled_by if ended is not None else "",
        "completed_at": _text(ended.completed_at) if ended is not None else "",
    }


def canonical(record: PairRecord) -> bytes:
    """The record's canonical bytes: the same for both ledgers when they agree, whatever either has yet to tell."""
    parts = (CANONICAL_FORM, record.referral_id, *facts(record).values())
    # Each part under its length, so that no two records have the same bytes.
    return b"".join(b"%d:%b" % (len(part), part) for part in (text.encode() for text in parts))


def digests(records: Iterable[PairRecord], day_of: Callable[[datetime], date]) -> dict[date, DayDigest]:
    """The digest of each day on which there are records, in any order."""
    by_day: dict[date, list[bytes]] = {}
    for record in records:
        by_day.setdefault(day_of(record.offered_at), []).append(canonical(record))
    return {
        day: DayDigest(len(found), sha256(b"".join(sorted(found))).digest()) for day, found in sorted(by_day.items())
    }


def days_that_differ(here: Mapping[date, DayDigest], there: Mapping[date, DayDigest]) -> list[date]:
    """The days whose records must be compared one by one."""
    return sorted(day for day in here.keys() | there.keys() if here.get(day) != there.get(day))


def compare(
    here: Iterable[PairRecord], there: Iterable[PairRecord], now: datetime, calendar: WorkingCalendar
) -> Comparison:
    """Compares the same hand-overs in two ledgers; `now` tells what has been pending for too long."""
    mine = {record.referral_id: record for record in here}
    theirs = {record.referral_id: record for record in there}
    found = Comparison()
    for referral_id in sorted(mine.keys() | theirs.keys()):
        one, other = mine.get(referral_id), theirs.get(referral_id)
        difference = _difference(referral_id, one, other)
        if difference is None:
            found.matched += 1
        elif _excused(difference, one, other, now, calendar):
            found.pending += 1
        else:
            found.differences.append(difference)
    return found


def by_case(differences: Iterable[Difference]) -> dict[str, DifferenceKind]:
    """How each case differs: of several differing hand-overs a missing one says more than one told differently."""
    found: dict[str, DifferenceKind] = {}
    for difference in differences:
        found[difference.case_id] = min(difference.kind, found.get(difference.case_id, difference.kind))
    return found


def persisting(before: Iterable[Difference], after: Iterable[Difference]) -> list[Difference]:
    """Of two looks at ledgers that go on working, what both have seen, as seen last."""
    seen = {(difference.referral_id, difference.kind) for difference in before}
    return [difference for difference in after if (difference.referral_id, difference.kind) in seen]


def _difference(referral_id: str, here: PairRecord | None, there: PairRecord | None) -> Difference | None:
    known = here or there
    if known is None:
        return None
    if here is None:
        return Difference(known.case_id, referral_id, DifferenceKind.MISSING_HERE)
    if there is None:
        return Difference(known.case_id, referral_id, DifferenceKind.MISSING_THERE)
    mine, theirs = facts(here), facts(there)
    fields = tuple(FieldDifference(name, mine[name], theirs[name]) for name in mine if mine[name] != theirs[name])
    return Difference(here.case_id, referral_id, DifferenceKind.DIFFERENT, fields) if fields else None


def _excused(
    difference: Difference, here: PairRecord | None, there: PairRecord | None, now: datetime, calendar: WorkingCalendar
) -> bool:
    """Whether a message that is under way explains the difference."""
    records = [record for record in (here, there) if record is not None]
    since = min((record.pending_since for record in records if record.pending_since is not None), default=None)
    if since is None or calendar.elapsed_workdays(since, now) > PENDING_WORKDAYS_MAX:
        return False
    undecided = any(record.undecided for record in records)
    if difference.kind is not DifferenceKind.DIFFERENT:
        # The sender records its offer first: one that the receiver knows and the sender does not is never under way.
        return undecided
    excusable = _CONCLUSION | _DECISION if undecided else _CONCLUSION
    return excusable.issuperset(told.field for told in difference.fields)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
