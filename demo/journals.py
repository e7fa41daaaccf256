"""Hand-made journals: a bureau's entries, written one after the other, sealed and cut into segments as a ledger would.

What a hub is given to fold by tests and benchmarks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Custody, Stage
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.chain import GENESIS, NO_PRIVATE, link, private_digest
from kuaixiang.wire.v1 import journal_pb2 as pb

MONDAY = datetime(2026, 11, 16, 2, 0, tzinfo=UTC)
"""10:00 in Shanghai of a plain working Monday."""
DAY = timedelta(days=1)


def due(day: datetime) -> int:
    """24:00 in Shanghai of that day, in microseconds."""
    shanghai = day + timedelta(hours=8)
    midnight = shanghai.replace(hour=0, minute=0, second=0, microsecond=0) + DAY - timedelta(hours=8)
    return to_micros(midnight)


def clock(kind: ClockKind, action: ClockAction, due_day: datetime, **more: Any) -> pb.ClockChange:
    """A change of a clock."""
    return pb.ClockChange(**{"kind": int(kind), "action": int(action), "due_at_us": due(due_day), **more})


def started(kind: ClockKind, due_day: datetime, department: str = "") -> pb.ClockChange:
    """A clock starts."""
    return clock(kind, ClockAction.STARTED, due_day, department=department)


def overdue(kind: ClockKind, due_day: datetime, department: str = "") -> pb.ClockChange:
    """A clock runs past its deadline."""
    return clock(kind, ClockAction.OVERDUE, due_day, department=department)


def stopped(
    kind: ClockKind, outcome: ClockOutcome, due_day: datetime, workdays: float, department: str = ""
) -> pb.ClockChange:
    """A clock stops."""
    return clock(
        kind,
        ClockAction.STOPPED,
        due_day,
        outcome=int(outcome),
        elapsed_milli_workdays=round(workdays * 1000),
        department=department,
    )


@dataclass
class Journal:
    """One bureau's journal. `write` appends; `restore` cuts the end off and begins a new generation, like a backup."""

    bureau: str
    generation: int = 1
    entries: list[pb.SegmentEntry] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=lambda: [GENESIS])
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def seq(self) -> int:
        """Position of the last entry."""
        return len(self.entries)

    def write(
        self,
        case_id: str,
        event: str,
        at: datetime = MONDAY,
        *clocks: pb.ClockChange,
        stage: Stage = Stage.HANDLING,
        custody: Custody = Custody.OWNED,
        category: int = 1,
        channel: int = 1,
        department_kind: int = 0,
        names: str = "",
        version: int | None = None,
        private: bytes = b"",
        **facts: Any,
    ) -> None:
        """Append one entry. `event` is the name of the oneof's member, `facts` its fields."""
        self.versions[case_id] = self.versions.get(case_id, 0) + 1
        columns: dict[str, Any] = {
            "bureau": names or self.bureau,
            "case_id": case_id,
            "version": self.versions[case_id] if version is None else version,
            "recorded_at_us": to_micros(at),
            "occurred_at_us": to_micros(at),
            "category": category,
            "channel": channel,
            "department_kind": department_kind,
            "stage": int(stage),
            "custody": int(custody),
            "clocks": clocks,
        }
        entry = pb.Entry(**columns)
        inner = getattr(entry, event)
        inner.SetInParent()
        for name, value in facts.items():
            setattr(inner, name, value)
        self.seal(entry.SerializeToString(), private)

    def look(self, event: str, case_id: str, at: datetime = MONDAY) -> None:
        """Append a reading of what is private: an entry that is none of a case's own."""
        entry = pb.Entry(
            bureau=self.bureau, case_id=case_id, recorded_at_us=to_micros(at), occurred_at_us=to_micros(at)
        )
        getattr(entry, event).SetInParent()
        self.seal(entry.SerializeToString())

    def seal(self, public: bytes, private: bytes = b"") -> None:
        """Append these bytes as an entry."""
        digest = private_digest(b"s" * 16, private) if private else NO_PRIVATE
        self.hashes.append(link(self.hashes[-1], self.generation, self.seq + 1, digest, public))
        self.entries.append(pb.SegmentEntry(public=public, private_digest=digest))
        self.generations.append(self.generation)

    def restore(self, seq: int) -> None:
        """Lose everything after `seq`; what follows is of a new generation."""
        del self.entries[seq:], self.generations[seq:], self.hashes[seq + 1 :]
        self.generation += 1

    def rewrite(self, seq: int) -> None:
        """Forget everything after `seq`, in the same generation: what follows is written over it."""
        del self.entries[seq:], self.generations[seq:], self.hashes[seq + 1 :]

    def open_generation(self, at: datetime = MONDAY, *, cosigned_seq: int = 0, cosigned_hash: bytes = b"") -> None:
        """The first entry of a generation that `restore` has begun, as a node writes it."""
        entry = pb.Entry(bureau=self.bureau, recorded_at_us=to_micros(at), occurred_at_us=to_micros(at))
        entry.generation_opened.MergeFrom(
            pb.GenerationOpened(
                witness="110000" if cosigned_seq else "",
                cosigned_generation=self.generation - 1 if cosigned_seq else 0,
                cosigned_seq=cosigned_seq,
                cosigned_hash=cosigned_hash,
                backup_seq=self.seq,
            )
        )
        self.seal(entry.SerializeToString())

    def segment(self, first: int = 1, last: int | None = None) -> pb.Segment:
        """Entries `first` to `last`, which must be of one generation."""
        end = self.seq if last is None else last
        return pb.Segment(
            bureau=self.bureau,
            generation=self.generations[first - 1],
            first_seq=first,
            prev_hash=self.hashes[first - 1],
            entries=self.entries[first - 1 : end],
            last_hash=self.hashes[end],
        )

    def segments(self, first: int = 1, last: int = 0, size: int = 100) -> Sequence[pb.Segment]:
        """Entries from `first` to `last` (0: the end) in segments as ReadJournal sends them: one generation each."""
        end = last or self.seq
        found = []
        while first <= end:
            until = first
            while until < end and until - first + 1 < size and self.generations[until] == self.generations[first - 1]:
                until += 1
            found.append(self.segment(first, until))
            first = until + 1
        return found

    def head(self, at: datetime = MONDAY) -> pb.Head:
        """The end of the journal."""
        return pb.Head(
            bureau=self.bureau, generation=self.generation, seq=self.seq, hash=self.hashes[-1], as_of_us=to_micros(at)
        )

    def live(self, case_id: str, day: datetime = MONDAY, *, late: bool = False, **more: Any) -> None:
        """A whole ordinary case in seven entries (eight when it is late), registered on `day`."""
        for _ in self.life(case_id, day, late=late, **more):
            pass

    def life(
        self,
        case_id: str,
        day: datetime = MONDAY,
        *,
        late: bool = False,
        kinds: tuple[int, int, int] = (0, 0, 0),
        **more: Any,
    ) -> Iterator[None]:
        """The same, one entry a step. `kinds` are of the departments that register, dispatch and handle it."""
        desk, middle, office = kinds
        handle, feedback = day + 7 * DAY, day + 8 * DAY
        done = day + (9 if late else 2) * DAY
        outcome = ClockOutcome.MISSED if late else ClockOutcome.MET
        self.write(
            case_id,
            "registered",
            day,
            started(ClockKind.FORWARD, day + DAY),
            stage=Stage.REGISTERED,
            private=b"p",
            department_kind=desk,
            **more,
        )
        yield
        self.write(
            case_id,
            "forwarded",
            day,
            stopped(ClockKind.FORWARD, ClockOutcome.MET, day + DAY, 0.1),
            department_kind=middle,
            **more,
        )
        yield
        self.write(
            case_id, "dispatched", day + DAY, started(ClockKind.HANDLE, handle, "d1"), department_kind=office, **more
        )
        yield
        if late:
            self.write(
                case_id,
                "became_overdue",
                day + 8 * DAY,
                overdue(ClockKind.HANDLE, handle, "d1"),
                department_kind=office,
                **more,
            )
            yield
        self.write(
            case_id,
            "completed",
            done,
            stopped(ClockKind.HANDLE, outcome, handle, 6.0 if late else 1.5, "d1"),
            started(ClockKind.FEEDBACK, feedback),
            stage=Stage.COMPLETED,
            department_kind=office,
            **more,
        )
        yield
        self.write(
            case_id,
            "feedback_given",
            done,
            stopped(ClockKind.FEEDBACK, ClockOutcome.MET, feedback, 0.2),
            stage=Stage.FED_BACK,
            department_kind=office,
            **more,
        )
        yield
        self.write(
            case_id, "followed_up", done + DAY, stage=Stage.FOLLOWED_UP, satisfaction=1, department_kind=office, **more
        )
        yield
        self.write(case_id, "written_off", done + DAY, stage=Stage.WRITTEN_OFF, department_kind=office, **more)
        yield
