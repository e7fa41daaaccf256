"""Rules of what every ledger on a case's way must know in the end: how it ended, orders, and that clocks count once."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from kuaixiang.domain import events
from kuaixiang.domain.case import Case
from kuaixiang.domain.orders import Order
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Custody, Outcome, Stage
from tests.faults.checker.history import History, Line


def conclusions_reach_every_ledger(history: History) -> list[str]:
    """Once all is delivered, every ledger that a case went through knows how it ended, or that it is open again."""
    if not history.settled:
        return []
    found = []
    for case_id, known in history.cases.items():
        holders = [case for case in known.values() if case.custody is not Custody.RELEASED]
        if len(holders) == 1:
            found += [
                f"{case_id}: {bureau} shows {case.stage.name}, but at {holders[0].bureau} it is {holders[0].stage.name}"
                for bureau, case in known.items()
                if case is not holders[0] and not _agrees(case, holders[0])
            ]
        else:
            found.append(f"{case_id}: its custodians are {sorted(case.bureau for case in holders)}")
    return found


def _agrees(gone: Case, held: Case) -> bool:
    ended = held.conclusion if held.conclusion and held.conclusion.outcome is not Outcome.REOPENED else None
    if ended is None:
        return gone.stage is Stage.REFERRED
    return (
        gone.stage in {Stage.CONCLUDED, Stage.WRITTEN_OFF}
        and gone.conclusion is not None
        and (gone.conclusion.order, gone.conclusion.outcome) == (ended.order, ended.outcome)
        and gone.with_bureau == held.bureau
    )


def orders_are_the_same_in_every_ledger(history: History) -> list[str]:
    """An order is issued once; each step of either side is there once; its receipts prove what they say."""
    found = []
    for order_id, known in history.orders.items():
        issued = [bureau for bureau, order in known.items() if order.begins_here]
        if len(issued) != 1:
            found.append(f"{order_id}: issued by {issued}")
        if not history.settled:
            continue
        ends = [order for order in known.values() if order.ends_here]
        if len(ends) != 1:
            found.append(f"{order_id}: it is in {sorted(known)} and for {[order.bureau for order in ends]}")
        found += [f"{order_id}: its stages are {_stages(known)}"] * (len({o.stage for o in known.values()}) > 1)
    for line in history.every_line():
        event = line.entry.event
        if not isinstance(event, events.OrderDelivered) or not event.receipt_seq:
            continue
        if not history.has(event.to_bureau, event.receipt_seq, event.receipt_hash):
            found.append(f"{line.entry.case_id}: {line} has a receipt that is not {event.to_bureau}'s entry")
    return found


def _stages(known: Mapping[str, Order]) -> str:
    return ", ".join(f"{order.stage.name} at {bureau}" for bureau, order in sorted(known.items()))


def clocks_count_once(history: History) -> list[str]:
    """A clock starts once, is overdue at most once, and is met, missed or void once: not both met and missed."""
    by_subject: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in history.every_line():
        if line.entry.event.clocks:
            by_subject[line.bureau, line.entry.case_id].append(line)
    return [fault for lines in by_subject.values() for fault in _clocks(lines)]


def _clocks(lines: list[Line]) -> Iterator[str]:
    running: dict[tuple[ClockKind, str], bool] = {}
    for line in lines:
        for change in line.entry.event.clocks:
            clock = (change.kind, change.department)
            late = running.get(clock)
            told = f"{line.entry.case_id}: the {change.kind.name} clock at {line}"
            if change.action is ClockAction.STARTED:
                if clock in running:
                    yield f"{told} starts, and runs already"
                running[clock] = False
                continue
            if late is None:
                yield f"{told} is {change.action.name}, and does not run"
            elif change.action is ClockAction.STOPPED:
                del running[clock]
                if (change.outcome is ClockOutcome.MISSED) != late:
                    yield f"{told} ends {change.outcome and change.outcome.name}, but it was{'' if late else ' not'} overdue"
            elif late:
                yield f"{told} is {change.action.name}, and was overdue before"
            elif change.action is ClockAction.OVERDUE:
                running[clock] = True
