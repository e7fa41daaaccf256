"""What must hold after any faults, checked against the journals as the ledgers give them.

Nothing here trusts a projection, a hub or a client's memory: an act was answered, so its entries must stand in that
bureau's journal, once; each chain must verify from its first entry; and the fold of all journals must leave each case
with one custodian.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import Custody
from kuaixiang.wire.chain import GENESIS, links
from kuaixiang.wire.codec import decode_entry, event_name
from kuaixiang.wire.v1.journal_pb2 import Head, Segment


@dataclass(frozen=True, slots=True)
class Answered:
    """An act that a node said is durable. `actor` did nothing else, so that its entries are found by it.

    `may_be_so`: it changes nothing where somebody had done the same before, and then has no entry.
    """

    bureau: str
    case_id: str
    actor: str
    seq: int
    may_be_so: bool = False


@dataclass(frozen=True, slots=True)
class Journal:
    """A bureau's whole journal, and its end as asked for after it."""

    head: Head
    segments: Sequence[Segment]


def entries_of(journal: Journal) -> list[Entry]:
    """The entries in their order; that they are the journal's is `broken_chain`'s business."""
    return [decode_entry(sealed.public) for segment in journal.segments for sealed in segment.entries]


def broken_chain(bureau: str, journal: Journal) -> list[str]:
    """Where a journal does not continue, or does not end as its head says."""
    seq, hash_ = 0, GENESIS
    for segment in journal.segments:
        if (segment.bureau, segment.first_seq, segment.prev_hash) != (bureau, seq + 1, hash_):
            return [f"{bureau}: the chain breaks after seq {seq}"]
        sealed = [(entry.private_digest, entry.public) for entry in segment.entries]
        seq, hash_ = seq + len(sealed), links(hash_, segment.generation, segment.first_seq, sealed)[-1]
        if hash_ != segment.last_hash:
            return [f"{bureau}: the chain does not verify up to seq {seq}"]
    if (seq, hash_) != (journal.head.seq, journal.head.hash):
        return [f"{bureau}: the journal ends at seq {seq}, its head says {journal.head.seq}"]
    return []


def fold(journals: Mapping[str, Journal]) -> dict[str, dict[str, Case]]:
    """Each case in each ledger that knows it, by case and bureau."""
    cases: dict[str, dict[str, Case]] = defaultdict(dict)
    for bureau, journal in journals.items():
        for entry in entries_of(journal):
            case = evolve(cases[entry.case_id].get(bureau), entry)
            if case is not None:
                cases[entry.case_id][bureau] = case
    return {case_id: known for case_id, known in cases.items() if known}


def faults_found(
    journals: Mapping[str, Journal], answered: Sequence[Answered], refused: Sequence[str] = ()
) -> list[str]:
    """Every sentence that the journals refute; empty when all is well. `refused`: actors whose one act was refused."""
    found = [fault for bureau, journal in journals.items() for fault in broken_chain(bureau, journal)]
    by_actor: dict[str, list[tuple[str, int, Entry]]] = defaultdict(list)
    for bureau, journal in journals.items():
        for seq, entry in enumerate(entries_of(journal), start=1):
            by_actor[entry.actor].append((bureau, seq, entry))
    for act in answered:
        mine = by_actor.get(act.actor, [])
        if {(bureau, entry.case_id) for bureau, _, entry in mine} - {(act.bureau, act.case_id)}:
            found.append(f"{act.actor}: done to another case or in another ledger")
        if act.may_be_so and not mine:
            continue
        if max((seq for _, seq, _ in mine), default=0) != act.seq:
            found.append(f"{act.actor}: answered with seq {act.seq} of {act.bureau}, which is not its act: lost")
        names = Counter(event_name(entry.event) for _, _, entry in mine)
        found += [f"{act.actor}: {name} is there {count} times" for name, count in names.items() if count > 1]
    found += [f"{actor}: was refused, and is in a ledger" for actor in refused if actor in by_actor]
    registered = Counter(
        entry.case_id
        for journal in journals.values()
        for entry in entries_of(journal)
        if event_name(entry.event) == "registered"
    )
    found += [f"{case_id}: registered {count} times" for case_id, count in registered.items() if count > 1]
    for case_id, known in fold(journals).items():
        holders = sorted(bureau for bureau, case in known.items() if case.custody is not Custody.RELEASED)
        if len(holders) != 1:
            found.append(f"{case_id}: its custodians are {holders}")
        if case_id not in registered:
            found.append(f"{case_id}: nobody registered it")
    return found
