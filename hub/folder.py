"""The one who folds: takes messages as they come, decides what each is, and writes a batch in one transaction.

Used from one thread at a time. What waits for entries before it is parked in memory, within bounds; a crash or a full
park loses nothing, because the mark remembers how far the journal reaches and the ledgers are read for the rest.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from hub.fold import (
    Batch,
    Mark,
    OutsideScope,
    Placement,
    Poison,
    Undecodable,
    UnreadableEntry,
    WrongBureau,
    WrongSite,
    check_head,
    check_segment,
    hashes_of,
    last_seq,
    place,
    read_entries,
)
from hub.metrics import BATCHES, COMMIT_SECONDS, ENTRIES, HEADS, LAG_SECONDS, PARKED, POISON, REFOLDS, SEGMENTS
from hub.parking import Parking
from hub.store import Store
from kuaixiang.runtime.bus import HEAD_PREFIX, JOURNAL_PREFIX
from kuaixiang.wire.v1.journal_pb2 import Head, Segment

_JOURNAL: Final = f"{JOURNAL_PREFIX}."
_HEAD: Final = f"{HEAD_PREFIX}."
_ANSWER: Final = "the ledger's answer"
"""What stands for a subject where a ledger was asked itself."""
_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """What came from the stream of a site."""

    site: str
    subject: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bureau's ledger itself has answered: a part of its journal, and where that ends, if it was asked."""

    bureau: str
    segments: Sequence[Segment] = ()
    head: Head | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch did."""

    entries: int = 0
    duplicates: int = 0
    parked: int = 0
    poison: int = 0


class Folder:
    """Folds into one store. `now_us` gives business time in microseconds, `monotonic` real seconds for pacing."""

    def __init__(
        self,
        *,
        store: Store,
        now_us: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._now_us = now_us
        self._monotonic = monotonic
        self._marks = {bureau: mark for bureau, mark in store.marks().items() if self._counts(bureau)}
        self._parking = Parking()
        self._ahead = store.ahead()
        """Entries that must be met when a journal is folded again: position and hash."""
        self.folds = 0
        """Writings so far by which a figure may have become another one."""
        self._heard: dict[str, float] = {}
        self._doubted: set[str] = set()
        started = monotonic()
        self.started = started
        self._behind_since = {bureau: started for bureau, mark in self._marks.items() if mark.behind}

    # ------------------------------------------------------------ what is known; safe to ask from other threads

    def mark(self, bureau: str) -> Mark:
        """A bureau's mark as committed."""
        return self._marks.get(bureau) or Mark(bureau)

    def marks(self) -> Mapping[str, Mark]:
        """The marks of all bureaus that were ever heard from, as committed."""
        return self._marks.copy()

    def parked_entries(self, bureau: str) -> int:
        """How many entries of a bureau wait for those before them."""
        return self._parking.entries_of(bureau)

    def silent_seconds(self, bureau: str) -> float:
        """Real time since the bureau was last heard from, or since the start."""
        return self._monotonic() - self._heard.get(bureau, self.started)

    def stuck(self, seconds: float) -> list[str]:
        """Bureaus known to have more in their journals than was folded, without progress for that long."""
        limit = self._monotonic() - seconds
        return [
            bureau
            for bureau, since in list(self._behind_since.items())
            if since <= limit and not self.mark(bureau).held
        ]

    def doubted(self) -> list[str]:
        """Bureaus whose heads ended before what was folded of them: late ones, or their ledgers deny it."""
        return [bureau for bureau in list(self._doubted) if not self.mark(bureau).quarantine]

    def ahead(self, bureau: str) -> int:
        """Position of an entry beyond the mark that the bureau's journal must still have; 0: of none."""
        return self._ahead.get(bureau, (0, b""))[0]

    def cleared(self, bureau: str) -> None:
        """The bureau's ledger is being asked; what is doubted from now on is doubted anew."""
        self._doubted.discard(bureau)

    # ------------------------------------------------------------ folding; one thread at a time

    def take(self, messages: Sequence[Message]) -> Taken:
        """Fold messages of the streams, durably; when this returns they can be acknowledged, whatever they were.

        Raises what the database raises; then nothing of the batch is kept and this object is of no further use.
        """
        run = self._run()
        for message in messages:
            try:
                self._take_one(message, run)
            except Poison as poison:
                run.poison += 1
                POISON.labels(type(poison).__name__).inc()
                _LOG.warning(
                    "A message was set aside.",
                    action="hub.poison",
                    site=message.site,
                    subject=message.subject,
                    condition=type(poison).__name__,
                    sentence=str(poison),
                )
        return self._commit(run)

    def take_answers(self, answers: Sequence[Answer]) -> list[int | Poison]:
        """Fold what ledgers themselves have answered, durably, in one transaction.

        Of each: how many entries it brought, or where it stopped to be a journal of the bureau.
        """
        run = self._run()
        outcomes: list[int | Poison] = []
        for answer in answers:
            before = run.batch.entries
            try:
                self._take_answer(answer, run)
            except Poison as poison:
                outcomes.append(poison)
            else:
                outcomes.append(run.batch.entries - before)
        self._commit(run)
        return outcomes

    def believe(self, head: Head, before: Mark) -> None:
        """Take back what was announced of a journal when `before` was read and its ledger, asked later, denies."""
        mark = self.mark(head.bureau)
        announced = (mark.announced_generation, mark.announced_seq)
        if announced != (before.announced_generation, before.announced_seq) or announced <= (head.generation, head.seq):
            return
        self._parking.drop(head.bureau)
        run = self._run()
        run.batch.marks[head.bureau] = replace(mark, announced_generation=head.generation, announced_seq=head.seq)
        self._commit(run)
        _LOG.warning(
            "A message announced entries that the bureau's ledger does not have.",
            action="hub.false_announcement",
            bureau=head.bureau,
            generation=announced[0],
            seq=announced[1],
        )

    def passed(self, bureau: str) -> dict[int, bytes]:
        """The hashes of some entries that were folded of a bureau, by position."""
        return self._store.passed(bureau)

    def forget(self, bureau: str, restored: str = "", stands: tuple[int, bytes] | None = None) -> None:
        """Take everything of a bureau out of the figures, durably, to fold it again from its first entry.

        `restored` says what its ledger has lost, and stands until it is folded again for another reason. `stands` is
        position and hash of the last entry that it has not lost: a journal without it is folded no further.
        """
        self._forget([self.mark(bureau).back_to_the_start(restored)], {} if stands is None else {bureau: stands})

    def forget_all(self, bureaus: Sequence[str]) -> list[None]:
        """The same of several bureaus, whatever was known of them, in one transaction."""
        self._forget([self.mark(bureau).back_to_the_start() for bureau in bureaus], {})
        return [None] * len(bureaus)

    def release(self, bureau: str) -> None:
        """Fold a bureau again whose ledger goes on, in a new generation, from where it has been folded."""
        run = self._run()
        run.batch.marks[bureau] = replace(self.mark(bureau), quarantine="")
        self._commit(run)
        _LOG.warning("A journal goes on in a new generation and is folded again.", action="hub.release", bureau=bureau)

    def quarantine(self, bureau: str, reason: str, generation: int = 0) -> None:
        """Fold nothing of a bureau any more until it is rebuilt; nor of its journal's later generation, if given."""
        run = self._run()
        mark = run.mark(bureau)
        run.quarantine(replace(mark, generation=max(mark.generation, generation)), reason)
        self._commit(run)

    # ------------------------------------------------------------ inside

    def _forget(self, marks: Sequence[Mark], stands: Mapping[str, tuple[int, bytes]]) -> None:
        for mark in marks:
            self._parking.drop(mark.bureau)
        self._store.forget(marks, stands)
        self.folds += 1
        for mark in marks:
            bureau = mark.bureau
            self._ahead.pop(bureau, None)
            old = self.mark(bureau)
            self._marks[bureau] = mark
            self._follow(old, mark)
            REFOLDS.inc()
            _LOG.warning("A bureau is folded again from its first entry.", action="hub.refold", bureau=bureau)
        self._ahead.update(stands)

    def _run(self) -> "_Run":
        return _Run(self.mark, self._parking, self._now_us(), self._ahead)

    def _counts(self, bureau: str) -> bool:
        tree = self._store.tree
        return bureau in tree and tree.contains(self._store.scope, bureau)

    def _take_one(self, message: Message, run: "_Run") -> None:
        subject = message.subject
        if subject.startswith(_JOURNAL):
            kind: type[Segment | Head] = Segment
        elif subject.startswith(_HEAD):
            kind = Head
        else:
            raise Undecodable(subject)
        bureau = subject.rpartition(".")[2]
        if not self._counts(bureau):
            raise OutsideScope(bureau, self._store.scope)
        expected = self._store.tree.site(bureau)
        if message.site != expected or subject.split(".")[-2] != expected:
            raise WrongSite(bureau, message.site, expected)
        try:
            content = kind.FromString(message.data)
        except DecodeError:
            raise Undecodable(subject) from None
        if content.bureau != bureau:
            raise WrongBureau(subject, bureau, content.bureau)
        if isinstance(content, Segment):
            check_segment(content)
            run.offer(content)
        else:
            check_head(content)
            run.head(content)

    @staticmethod
    def _take_answer(answer: Answer, run: "_Run") -> None:
        for segment in answer.segments:
            if segment.bureau != answer.bureau:
                raise WrongBureau(_ANSWER, answer.bureau, segment.bureau)
            check_segment(segment)
            run.offer(segment)
        head = answer.head
        if head is not None:
            if head.bureau != answer.bureau:
                raise WrongBureau(_ANSWER, answer.bureau, head.bureau)
            check_head(head)
            run.head(head)

    def _commit(self, run: "_Run") -> Taken:
        batch = run.batch
        if batch.marks:
            started = time.perf_counter()
            self._store.write(batch)
            COMMIT_SECONDS.observe(time.perf_counter() - started)
            heard = self._monotonic()
            for bureau, mark in batch.marks.items():
                self._heard[bureau] = heard
                self._follow(self.mark(bureau), mark)
            self._marks.update(batch.marks)
            for bureau in batch.marks.keys() & self._ahead.keys():
                if self.mark(bureau).seq >= self._ahead[bureau][0]:
                    del self._ahead[bureau]
            self._doubted |= run.doubted
            BATCHES.inc()
        if batch.entries:
            self.folds += 1
            ENTRIES.inc(batch.entries)
            LAG_SECONDS.set(max(0, self._now_us() - run.newest_us) / 1e6)
        PARKED.set(self._parking.entries)
        return Taken(batch.entries, run.duplicates, run.parked, run.poison)

    def _follow(self, old: Mark, new: Mark) -> None:
        """Remember since when a bureau has been behind; only progress starts the time anew."""
        if not new.behind or new.held:
            self._behind_since.pop(new.bureau, None)
        elif not old.behind or (old.generation, old.seq) != (new.generation, new.seq):
            self._behind_since[new.bureau] = self._monotonic()


class _Run:
    """One batch in the making."""

    def __init__(
        self,
        committed: Callable[[str], Mark],
        parking: Parking,
        now_us: int,
        ahead: Mapping[str, tuple[int, bytes]],
    ) -> None:
        self._committed = committed
        self._ahead = ahead
        self._parking = parking
        self._now_us = now_us
        self.batch = Batch()
        self.duplicates = 0
        self.parked = 0
        self.poison = 0
        self.newest_us = 0
        self.doubted: set[str] = set()

    def mark(self, bureau: str) -> Mark:
        """The mark as this batch has moved it."""
        return self.batch.marks.get(bureau) or self._committed(bureau)

    def offer(self, segment: Segment) -> None:
        """Place a segment, and what was parked behind it."""
        bureau = segment.bureau
        mark = replace(self.mark(bureau), heard_at_us=self._now_us)
        self.batch.marks[bureau] = mark
        following: Segment | None = segment
        while following is not None:
            mark = self._place(mark, following)
            following = None if mark.quarantine else self._parking.take(bureau, mark.seq)

    def head(self, head: Head) -> None:
        """Take in how far a journal reaches."""
        mark = replace(self.mark(head.bureau), heard_at_us=self._now_us)
        if mark.ends_at(head):
            # A journal that is still empty, or one that went on in a new generation and lost nothing.
            mark = replace(mark, generation=head.generation)
        mark = mark.announce(head.generation, head.seq)
        HEADS.inc()
        self.batch.marks[head.bureau] = mark
        if (head.generation, head.seq) != (mark.generation, mark.seq) or mark.quarantine:
            # Behind: the loop that refills sees it. Ahead: a head that came late, or a ledger that has lost entries,
            # or never had them; it is asked.
            if (head.generation, head.seq) < (mark.generation, mark.seq):
                self.doubted.add(head.bureau)
            return
        if head.hash != mark.hash:
            self.quarantine(
                mark, f"the head at seq {head.seq} is {head.hash.hex()[:16]}…, but {mark.hash.hex()[:16]}… was folded"
            )
        else:
            self.batch.marks[head.bureau] = replace(mark, data_as_of_us=self._as_of(mark, head.as_of_us))

    def quarantine(self, mark: Mark, reason: str) -> Mark:
        """Fold nothing of the bureau any more."""
        held = replace(mark, quarantine=reason)
        self.batch.marks[mark.bureau] = held
        self._parking.drop(mark.bureau)
        _LOG.error(
            "A bureau's journal contradicts itself and is folded no more.",
            action="hub.quarantine",
            bureau=mark.bureau,
            reason=reason,
        )
        return held

    def _place(self, mark: Mark, segment: Segment) -> Mark:
        if mark.quarantine:
            SEGMENTS.labels("held_back").inc()
            mark = mark.announce(segment.generation, last_seq(segment))
            self.batch.marks[mark.bureau] = mark
            return mark
        found = place(mark, segment)
        SEGMENTS.labels(found.placement.value).inc()
        match found.placement:
            case Placement.APPLY:
                return self._apply(mark, segment, found.skip)
            case Placement.DUPLICATE | Placement.SUPERSEDED:
                self.duplicates += 1
                return mark
            case Placement.GAP:
                self.parked += self._parking.put(segment)
                mark = mark.announce(segment.generation, last_seq(segment))
            case Placement.RESTORED:
                # Believed only from the ledger itself: the refill asks it.
                mark = mark.announce(segment.generation, last_seq(segment))
            case Placement.FORK:
                return self.quarantine(mark, found.reason)
        self.batch.marks[mark.bureau] = mark
        return mark

    def _apply(self, mark: Mark, segment: Segment, skip: int) -> Mark:
        seq, hash_ = self._ahead.get(mark.bureau, (0, b""))
        if mark.seq < seq <= last_seq(segment) and hashes_of(segment)[seq - segment.first_seq] != hash_:
            # Nothing of its later generation either, whose past was another one.
            later = replace(mark, generation=max(mark.generation, mark.announced_generation))
            return self.quarantine(later, f"entry {seq} is another one than the hub had known there")
        try:
            changes = read_entries(segment, skip, self.batch.changes.get(mark.bureau))
        except UnreadableEntry as unreadable:
            return self.quarantine(mark, str(unreadable))
        self.newest_us = max(self.newest_us, changes.recorded_at_us)
        changes.recorded_at_us = self._as_of(mark, changes.recorded_at_us)
        return self.batch.add(mark, segment, changes)

    def _as_of(self, mark: Mark, at_us: int) -> int:
        """Up to when a bureau has reported; no figure is of a later time than now, whatever its clock says."""
        return max(mark.data_as_of_us, min(at_us, self._now_us))
