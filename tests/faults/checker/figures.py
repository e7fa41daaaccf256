"""Rules of the hub: its figures are the sum of what the journals say, counted here by code that is not the hub's."""

from collections import Counter
from collections.abc import Iterable

from demo.tally import facts_of
from kuaixiang.domain.case import Case
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Custody, Stage
from kuaixiang.wire.v1.journal_pb2 import Entry
from tests.faults.checker.history import History, HubView

CLOSED = frozenset({Stage.RECONSIDERATION, Stage.WITHDRAWN, Stage.WRITTEN_OFF})


_NOWHERE = (0, 0, b"")


def counted_by_hand(entries: Iterable[Entry]) -> Counter[str]:
    """Facts, and deadlines met and missed, by code that has nothing in common with the hub's."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts.update(facts_of(entry))
        for change in entry.clocks:
            kind, action = ClockKind(change.kind).name.lower(), int(change.action)
            if ClockKind(change.kind) is ClockKind.ORDER and change.department:
                continue  # it counts in the ledger of the bureau that is to answer
            if action == ClockAction.OVERDUE:
                counts[f"{kind}_missed"] += 1
            elif action == ClockAction.STOPPED and int(change.outcome) == ClockOutcome.MET:
                counts[f"{kind}_met"] += 1
    return counts


def the_hub_says_what_the_journals_add_up_to(history: History) -> list[str]:
    """Every figure of every bureau, up to where its journal has been folded; also of one that is distrusted now."""
    hub = history.hub
    if hub is None:
        return []
    found = []
    for bureau, journal in history.journals.items():
        end = hub.marks.get(bureau, _NOWHERE)[1] if hub.marks else journal.head.seq
        public = [sealed.public for segment in journal.segments for sealed in segment.entries]
        counted, told = counted_by_hand(map(Entry.FromString, public[:end])), hub.facts.get(bureau, {})
        found += [
            f"{bureau}: the hub says {told.get(name, 0)} {name}, its journal adds up to {counted[name]} at seq {end}"
            for name in sorted({*counted, *(name for name in told if _is_counted(name))})
            if told.get(name, 0) != counted[name]
        ]
        if hub.open_cases is not None and end == journal.head.seq:
            found += _open_cases(history, hub, bureau)
    return found


def _is_counted(name: str) -> bool:
    return "_workdays_" not in name and name != "unfinished"


def _open_cases(history: History, hub: HubView, bureau: str) -> list[str]:
    shown = (hub.open_cases or {}).get(bureau, frozenset())
    held = {case_id for case_id, known in history.cases.items() if bureau in known and _is_open(known[bureau])}
    return [f"{case_id}: open at {bureau}, and the hub does not show it" for case_id in sorted(held - shown)] + [
        f"{case_id}: the hub shows it open at {bureau}, where it is not" for case_id in sorted(shown - held)
    ]


def _is_open(case: Case) -> bool:
    return case.custody is not Custody.RELEASED and case.stage not in CLOSED


def the_hub_stands_where_the_journals_do(history: History) -> list[str]:
    """What it has folded is what the journals hold there; in the end it has folded all, and distrusts nobody."""
    hub = history.hub
    if hub is None:
        return []
    found = [
        f"{bureau}: the hub has quarantined it: {reason}"
        for bureau, reason in hub.quarantined.items()
        if bureau not in history.suspected
    ]
    for bureau, journal in history.journals.items():
        if not hub.marks:
            continue
        generation, seq, hash_ = hub.marks.get(bureau, _NOWHERE)
        if seq and not history.has(bureau, seq, hash_):
            found.append(f"{bureau}: the hub has folded generation {generation} seq {seq}, which is not its journal's")
        if history.settled and seq != journal.head.seq and bureau not in hub.quarantined:
            found.append(f"{bureau}: the hub has folded up to seq {seq}, the journal ends at {journal.head.seq}")
    return found
