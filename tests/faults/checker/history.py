"""What was seen of a federation: what its clients were answered, its ledgers' journals, and what its hub says.

Nothing here is a projection or a node's own opinion of itself, but for `History.alarmed`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.events import CaseEvent, Entry, OfferDeclined, OrderEvent
from kuaixiang.domain.orders import Order, evolve_order
from kuaixiang.wire.chain import links
from kuaixiang.wire.codec import decode_entry
from kuaixiang.wire.v1.journal_pb2 import Head, Segment


class Came(Enum):
    """What came of a call, as its client saw it."""

    OK = "answered"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No answer: it may have been done, and may be done still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a client. `actor` does one act and no other, so that its entries are found by it.

    A call that is repeated is an operation for each time, by the same actor. `invoked_at` and `completed_at` are read
    off one clock for all clients, in any unit.
    """

    actor: str
    bureau: str
    act: str
    came: Came
    case_id: str = ""
    """The case or the order; of a registration known when it is answered."""
    seq: int = 0
    """The journal's end as answered."""
    invoked_at: float = 0.0
    completed_at: float = 0.0
    may_be_so: bool = False
    """It changes nothing where somebody had done the same before, and then has no entry."""


@dataclass(frozen=True, slots=True)
class Journal:
    """A bureau's whole journal, and its end as asked for after it."""

    head: Head
    segments: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Line:
    """An entry at its place."""

    bureau: str
    seq: int
    entry: Entry

    def __str__(self) -> str:
        return f"{self.bureau} seq {self.seq} ({type(self.entry.event).__name__})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Somebody has been shown that a journal had this entry: a receipt, a published head, a cosignature."""

    bureau: str
    generation: int
    seq: int
    hash: bytes
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubView:
    """What a hub says: its figures by bureau and name, and up to where it has folded each journal."""

    facts: Mapping[str, Mapping[str, int]]
    marks: Mapping[str, tuple[int, int, bytes]] = field(default_factory=dict)
    """Generation, seq, hash."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    open_cases: Mapping[str, frozenset[str]] | None = None
    """The cases that it shows as a bureau's own; None where it was not asked."""


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything that was seen of one run.

    `settled`: every fault is mended and enough time has passed, so that nothing may be owed any more and the hub must
    have caught up; otherwise what is owed must stand in `alarmed` (bureau, case or order), as the nodes' metrics show it.
    """

    operations: Sequence[Operation] = ()
    journals: Mapping[str, Journal]
    witnesses: Sequence[Witness] = ()
    hub: HubView | None = None
    settled: bool = True
    alarmed: frozenset[tuple[str, str]] = frozenset()
    suspected: frozenset[str] = frozenset()
    """Bureaus in whose names a stranger has published: the hub may have quarantined them, and tells nothing wrong."""

    @cached_property
    def lines(self) -> Mapping[str, Sequence[Line]]:
        """Every journal's entries in their order; that they are the journal's is the rule of chains' business."""
        return {
            bureau: [
                Line(bureau, seq, decode_entry(public))
                for seq, public in enumerate(
                    (sealed.public for segment in journal.segments for sealed in segment.entries), start=1
                )
            ]
            for bureau, journal in self.journals.items()
        }

    def every_line(self) -> Iterator[Line]:
        """All entries, journal by journal."""
        for lines in self.lines.values():
            yield from lines

    @cached_property
    def by_actor(self) -> Mapping[str, Sequence[Line]]:
        """The entries of each actor."""
        found: dict[str, list[Line]] = defaultdict(list)
        for line in self.every_line():
            found[line.entry.actor].append(line)
        return found

    @cached_property
    def of_cases(self) -> Mapping[str, Mapping[str, Sequence[Line]]]:
        """The entries of each case, by case and bureau, declined offers left out."""
        found: dict[str, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
        for line in self.every_line():
            if isinstance(line.entry.event, CaseEvent) and not isinstance(line.entry.event, OfferDeclined):
                found[line.entry.case_id][line.bureau].append(line)
        return found

    @cached_property
    def cases(self) -> Mapping[str, Mapping[str, Case]]:
        """Each case in each ledger that knows it, by case and bureau: the domain's own fold of its entries."""
        found: dict[str, dict[str, Case]] = {}
        for case_id, known in self.of_cases.items():
            for bureau, lines in known.items():
                case: Case | None = None
                for line in lines:
                    case = evolve(case, line.entry)
                if case is not None:
                    found.setdefault(case_id, {})[bureau] = case
        return found

    @cached_property
    def orders(self) -> Mapping[str, Mapping[str, Order]]:
        """Each supervision order in each ledger that knows it, by order and bureau."""
        found: dict[str, dict[str, Order]] = {}
        for line in self.every_line():
            if isinstance(line.entry.event, OrderEvent):
                order_id = line.entry.case_id
                order = evolve_order(found.get(order_id, {}).get(line.bureau), line.entry)
                if order is not None:
                    found.setdefault(order_id, {})[line.bureau] = order
        return found

    @cached_property
    def hashes(self) -> Mapping[str, Sequence[tuple[int, bytes]]]:
        """Generation and hash of each entry, recomputed within each segment from the hash before it; seq 1 first."""
        found: dict[str, list[tuple[int, bytes]]] = {}
        for bureau, journal in self.journals.items():
            mine = found.setdefault(bureau, [])
            for segment in journal.segments:
                sealed = [(entry.private_digest, entry.public) for entry in segment.entries]
                hashes = links(segment.prev_hash, segment.generation, segment.first_seq, sealed)
                mine += [(segment.generation, hash_) for hash_ in hashes]
        return found

    def has(self, bureau: str, seq: int, hash_: bytes) -> bool:
        """Whether the journal has that entry at that place."""
        hashes = self.hashes.get(bureau, ())
        return 0 < seq <= len(hashes) and hashes[seq - 1][1] == hash_
