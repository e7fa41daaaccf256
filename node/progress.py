"""How cases go at the bureaus that are responsible for them, as their other bureaus last heard; best effort.

What is kept here is in memory and is not a ledger: whoever must know asks by `Track`.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from kuaixiang.domain.case import Case
from kuaixiang.domain.words import Custody, DepartmentKind
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import case_pb2

CASES_HEARD_MAX: Final = 20_000
"""Cases of which the latest is kept, some 10 MB; the one heard of longest ago gives way."""


class Heard:
    """The latest that was heard of each case, by the ledger that wants to know it. For the event loop's thread."""

    def __init__(self) -> None:
        self._latest: OrderedDict[tuple[str, str], case_pb2.CaseProgress] = OrderedDict()
        self._listeners: dict[object, tuple[str, Callable[[str], None]]] = {}

    def listen(self, bureau: str, told: Callable[[str], None]) -> Callable[[], None]:
        """From now on `told` gets the number of each case of the bureau that something is heard of; how to end it."""
        key = object()
        self._listeners[key] = (bureau, told)

        def end() -> None:
            self._listeners.pop(key, None)

        return end

    def keep(self, bureau: str, progress: case_pb2.CaseProgress) -> bool:
        """Keep what is later than what is kept; whether it was."""
        key = (bureau, progress.case_id)
        known = self._latest.get(key)
        if known is not None and order_of(progress) <= order_of(known):
            return False
        self._latest[key] = progress
        self._latest.move_to_end(key)
        while len(self._latest) > CASES_HEARD_MAX:
            self._latest.popitem(last=False)
        for listening, told in tuple(self._listeners.values()):
            if listening == bureau:
                told(progress.case_id)
        return True

    def of(self, case: Case) -> case_pb2.CaseProgress | None:
        """What was heard of a case that is with another bureau; None when nothing was that still says anything."""
        if case.custody is Custody.OWNED:
            return None
        progress = self._latest.get((case.bureau, case.case_id))
        return progress if progress is not None and progress.epoch >= case.epoch else None


def order_of(progress: case_pb2.CaseProgress) -> tuple[int, int]:
    """Of two the higher one is later: one bureau at a time is responsible, and counts its entries."""
    return (progress.epoch, progress.version)


def progress_of(case: Case, now: datetime, in_charge: DepartmentKind | None) -> case_pb2.CaseProgress:
    """What the bureau that is responsible for a case tells the others of it: nothing private.

    `in_charge` is the kind of its department in charge.
    """
    words: dict[str, Any] = {"stage": case.stage, "custody": case.custody, "department_kind": in_charge or 0}
    progress = case_pb2.CaseProgress(
        bureau=case.bureau,
        case_id=case.case_id,
        epoch=case.epoch,
        version=case.version,
        occurred_at=timestamp(case.last_at),
        **words,
    )
    nearest = min(case.clocks, key=lambda clock: clock.due_at, default=None)
    if nearest is not None:
        progress.next_clock = int(nearest.kind)  # type: ignore[assignment]
        progress.next_due_at.CopyFrom(timestamp(nearest.due_at))
        progress.overdue = nearest.has_passed(now)
    return progress
