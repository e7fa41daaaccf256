"""Rules of what clients were answered, and of the journals themselves."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from kuaixiang.domain.events import Registered
from kuaixiang.wire.chain import GENESIS
from tests.faults.checker.history import Came, History, Operation


def chains_verify(history: History) -> list[str]:
    """Each journal continues from its first entry to the end that its head says; generations never fall."""
    found = []
    for bureau, journal in history.journals.items():
        generation, seq, hash_ = 0, 0, GENESIS
        for segment in journal.segments:
            if (segment.bureau, segment.first_seq, segment.prev_hash) != (bureau, seq + 1, hash_):
                found.append(f"{bureau}: the chain breaks after seq {seq}")
                break
            if segment.generation < generation:
                found.append(f"{bureau}: generation {segment.generation} follows {generation} after seq {seq}")
            generation, seq = segment.generation, seq + len(segment.entries)
            hash_ = history.hashes[bureau][seq - 1][1]
            if hash_ != segment.last_hash:
                found.append(f"{bureau}: the chain does not verify up to seq {seq}")
                break
        else:
            if (seq, hash_) != (journal.head.seq, journal.head.hash):
                found.append(f"{bureau}: the journal ends at seq {seq}, its head says {journal.head.seq}")
    return found


def witnesses_are_borne_out(history: History) -> list[str]:
    """What somebody was once shown of a journal is in it still."""
    return [
        f"{one.bureau}: {one.by} was shown seq {one.seq} with hash {one.hash.hex()[:16]}, which is not there: lost"
        for one in history.witnesses
        if one.seq and not history.has(one.bureau, one.seq, one.hash)
    ]


def _by_actor(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        found[operation.actor].append(operation)
    return found


def answered_acts_are_there_once(history: History) -> list[str]:
    """An answered act is in its bureau's journal, of its case, once, and its last entry is where it was said to be."""
    found = []
    for actor, calls in _by_actor(history.operations).items():
        answers = {(call.bureau, call.case_id, call.seq) for call in calls if call.came is Came.OK}
        if not answers:
            continue
        (bureau, case_id, seq), *others = sorted(answers)
        if others:
            found.append(f"{actor}: its act was answered with {sorted(answers)}, which are several acts")
            continue
        lines = history.by_actor.get(actor, ())
        if {(line.bureau, line.entry.case_id) for line in lines} - {(bureau, case_id)}:
            found.append(f"{actor}: done to another case than {case_id}, or in another ledger than {bureau}'s")
        if all(call.may_be_so for call in calls) and not lines:
            if not 0 <= seq <= len(history.lines.get(bureau, ())):
                found.append(f"{actor}: answered with seq {seq} of {bureau}, which its journal does not reach: lost")
            continue
        if max((line.seq for line in lines), default=0) != seq:
            found.append(f"{actor}: {calls[0].act} of {case_id} was answered with {bureau} seq {seq}: lost")
    return found


def acts_are_done_at_most_once(history: History) -> list[str]:
    """Whatever was answered, and above all where nothing was: the entries of an act are there once."""
    found = []
    for actor in _by_actor(history.operations):
        kinds = Counter((line.bureau, type(line.entry.event).__name__) for line in history.by_actor.get(actor, ()))
        found += [f"{actor}: {kind} is in {bureau} {n} times" for (bureau, kind), n in kinds.items() if n > 1]
    return found


def refused_acts_are_nowhere(history: History) -> list[str]:
    """What was refused each time that it was asked has left nothing in any ledger."""
    return [
        f"{actor}: was refused, and is in a ledger: {history.by_actor[actor][0]}"
        for actor, calls in _by_actor(history.operations).items()
        if actor in history.by_actor and all(call.came is Came.REFUSED for call in calls)
    ]


def answers_come_in_the_order_of_acts(history: History) -> list[str]:
    """An act that was asked for after another had been answered stands behind it."""
    found = []
    by_bureau: dict[str, list[tuple[float, float, int, str]]] = defaultdict(list)
    for actor, calls in _by_actor(history.operations).items():
        answered = [call for call in calls if call.came is Came.OK]
        if answered and not answered[0].may_be_so:
            invoked = min(call.invoked_at for call in calls)
            completed = min(call.completed_at for call in answered)
            by_bureau[answered[0].bureau].append((invoked, completed, answered[0].seq, actor))
    for bureau, acts in by_bureau.items():
        earliest, by = float("inf"), ""
        for invoked, completed, seq, actor in sorted(acts, key=lambda act: -act[2]):
            if earliest < invoked:
                found.append(f"{actor}: asked for after {by} was answered, and stands before it at {bureau} seq {seq}")
            if completed < earliest:
                earliest, by = completed, actor
    return found


def numbers_name_one_case(history: History) -> list[str]:
    """A case's number is given out once, by the bureau that it begins with; every case was registered."""
    registered: dict[str, list[str]] = defaultdict(list)
    for line in history.every_line():
        if isinstance(line.entry.event, Registered):
            registered[line.entry.case_id].append(str(line))
    found = [f"{case_id}: registered at {' and '.join(at)}" for case_id, at in registered.items() if len(at) > 1]
    found += [
        f"{case_id}: numbered by another bureau than {at[0]}"
        for case_id, at in registered.items()
        if not at[0].startswith(case_id.partition("-")[0])
    ]
    found += [f"{case_id}: nobody registered it" for case_id in history.cases if case_id not in registered]
    versions: dict[tuple[str, str], int] = {}
    for line in history.every_line():
        key, version = (line.bureau, line.entry.case_id), line.entry.version
        if version:
            if version != versions.get(key, 0) + 1:
                found.append(f"{line.entry.case_id}: version {version} follows {versions.get(key, 0)} at {line}")
            versions[key] = version
    return found
