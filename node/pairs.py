"""What two nodes say to each other when they compare ledgers: periods, digests and records, as messages."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from kuaixiang.domain.case import Conclusion
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.labels import Both
from kuaixiang.domain.reconciliation import DayDigest, PairRecord
from kuaixiang.domain.registration import check_case_id
from kuaixiang.domain.words import Outcome, ReferralState, Refusal
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.codec import enum_of, instant_of
from kuaixiang.wire.v1 import reconciliation_pb2 as pb
from node.days import Period, day_of

PERIOD_DAYS_MAX: Final = 3_660
"""Ten years: about 180 kB of digests."""


def period_of(from_day: str, to_day: str) -> Period:
    """A period as it is written; raises `FieldMalformed`."""
    period = Period(day_of(from_day, "from_day"), day_of(to_day, "to_day"))
    days = (period.to_day - period.from_day).days + 1
    if not 0 < days <= PERIOD_DAYS_MAX:
        raise FieldMalformed(
            "to_day",
            Both("is before from_day, or ten years after it", "早于开始日期，或者期间超过十年"),
            Both("Give the earlier day first, and a shorter period.", "请先填较早的日期，并缩短期间。"),
        )
    return period


def digest_messages(found: Mapping[date, DayDigest]) -> list[pb.DayDigest]:
    """Digests for a peer."""
    return [pb.DayDigest(day=day.isoformat(), records=told.records, digest=told.digest) for day, told in found.items()]


def digests_told(messages: Iterable[pb.DayDigest]) -> dict[date, DayDigest]:
    """Digests from a peer; raises `FieldMalformed`."""
    return {day_of(told.day, "days"): DayDigest(told.records, told.digest) for told in messages}


def record_messages(records: Sequence[PairRecord]) -> list[pb.PairRecord]:
    """Records for a peer."""
    return [_message(record) for record in records]


def records_told(messages: Iterable[pb.PairRecord], bureau: str, peer: str) -> list[PairRecord]:
    """Records from a peer, of hand-overs with this bureau; raises `FieldMissing`, `FieldMalformed`."""
    return [_record(message, {bureau, peer}) for message in messages]


def _message(record: PairRecord) -> pb.PairRecord:
    words: dict[str, Any] = {"state": record.state, "refusal": record.refusal or 0}
    message = pb.PairRecord(
        referral_id=record.referral_id,
        case_id=record.case_id,
        epoch=record.epoch,
        from_bureau=record.from_bureau,
        to_bureau=record.to_bureau,
        offered_at_us=to_micros(record.offered_at),
        pending_since_us=to_micros(record.pending_since) if record.pending_since is not None else 0,
        **words,
    )
    ended = record.conclusion
    if ended is not None:
        outcome: Any = ended.outcome
        message.conclusion.CopyFrom(
            pb.PairConclusion(
                outcome=outcome,
                epoch=ended.epoch,
                round=ended.round,
                handled_by=ended.handled_by,
                completed_at_us=to_micros(ended.completed_at),
            )
        )
    return message


def _record(message: pb.PairRecord, pair: set[str]) -> PairRecord:
    check_case_id(message.case_id, "case_id")
    check_case_id(message.referral_id, "referral_id")
    if {message.from_bureau, message.to_bureau} != pair:
        raise FieldMalformed(
            "from_bureau",
            Both("is of another pair of bureaus", "不属于这两个单位之间的移交"),
            Both("Tell the hand-overs between the two bureaus alone.", "只应提供这两个单位之间的移交。"),
        )
    conclusion = None
    if message.HasField("conclusion"):
        told = message.conclusion
        conclusion = Conclusion(
            outcome=enum_of(Outcome, told.outcome, "outcome"),
            epoch=told.epoch,
            round=told.round,
            handled_by=told.handled_by,
            completed_at=instant_of(told.completed_at_us, "completed_at_us"),
        )
    return PairRecord(
        referral_id=message.referral_id,
        case_id=message.case_id,
        epoch=message.epoch,
        from_bureau=message.from_bureau,
        to_bureau=message.to_bureau,
        offered_at=instant_of(message.offered_at_us, "offered_at_us"),
        state=enum_of(ReferralState, message.state, "state"),
        refusal=enum_of(Refusal, message.refusal, "refusal") if message.refusal else None,
        conclusion=conclusion,
        pending_since=instant_of(message.pending_since_us, "pending_since_us") if message.pending_since_us else None,
    )
