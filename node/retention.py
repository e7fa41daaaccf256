"""Retention: what is private of cases that ended long ago is erased, by the rule and on record.

`step` looks at the next cases of one bureau, and erases what `kuaixiang.domain.retention` does not hold back: a few in
one transaction, with an entry for each case that says so and nothing that was erased. Each bureau erases its own copy
by its own setting. What has been erased stays proven by the chain to have been what it was.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter

from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import EntryUnreadable
from kuaixiang.domain.events import PrivateErased
from kuaixiang.domain.retention import kept_because, term_began_before
from kuaixiang.runtime.clock import clock_from, to_micros
from kuaixiang.runtime.loops import Loop
from kuaixiang.wire.v1 import referral_pb2
from node.ledger import erasing, queries
from node.ledger.erasing import Kept
from node.ledger.ledger import Draft, Ledger, Work
from node.office import Office, Place
from node.settings import NodeSettings

INTERVAL_SECONDS: Final = 3_600.0
"""Real time between two walks through the ledgers: a term is of years."""
CASES_AT_ONCE: Final = 20
"""Cases erased in one transaction: an officer's act waits for it."""

ERASED: Final = Counter("kx_private_erased_total", "Cases whose private data were erased by the rule of retention.")

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A case whose private data are to be erased: how many entries have some, and how many files go with them."""

    bureau: str
    case_id: str
    ended_at_us: int
    parts: int
    files: int


class Retention:
    """Erases what is due in the ledgers of a node; nothing at all when `years` is None. `step` is some cases of one."""

    def __init__(self, office: Office, years: int | None, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._office = office
        self._years = years
        self._loop = Loop("retention", self.step, interval_seconds)
        self._walk: Iterator[list[tuple[Case, Kept]]] | None = None

    async def start(self) -> None:
        """Begin, where there is a term."""
        if self._years is not None:
            self._loop.start()

    async def stop(self) -> None:
        """Let the step under way end."""
        if self._years is not None:
            await self._loop.stop()

    async def step(self) -> bool:
        """Erase what is due of the next cases; whether there may be more."""
        if self._years is None:
            return False
        walk = self._walk = self._walk or self._due()
        due = await asyncio.to_thread(next, walk, None)
        if due is None:
            self._walk = None
            return False
        for at in range(0, len(due), CASES_AT_ONCE):
            await asyncio.gather(*(self._erase(case, kept) for case, kept in due[at : at + CASES_AT_ONCE]))
        return True

    def due(self) -> Iterator[Due]:
        """What is to be erased now, without erasing it."""
        for found in self._due():
            for case, kept in found:
                yield Due(case.bureau, case.case_id, to_micros(case.last_at), len(kept.seqs), len(kept.digests))

    def _due(self) -> Iterator[list[tuple[Case, Kept]]]:
        """What is to be erased now, some cases of one bureau at a time."""
        if self._years is None:
            return
        ledger, now = self._office.ledger, self._office.place.clock.now()
        before_us = to_micros(term_began_before(now, self._years))
        for bureau in ledger.bureaus:
            under_order = queries.ordered_cases(ledger.database, bureau)
            after: str | None = ""
            while after is not None:
                case_ids, after = erasing.candidates(ledger.database, bureau, after, before_us)
                cases = queries.cases_of(ledger.database, bureau, case_ids)
                yield self._kept(
                    bureau, [case for case in cases if kept_because(case, now, self._years, under_order) is None]
                )

    def _kept(self, bureau: str, cases: Sequence[Case]) -> list[tuple[Case, Kept]]:
        if not cases:
            return []
        try:
            kept = erasing.kept_of(self._office.ledger.database, bureau, cases)
        except EntryUnreadable as unreadable:
            _log.exception("Private data are not erased.", action="retention.unreadable", reason=str(unreadable))
            return []
        return [(case, kept[case.case_id]) for case in cases]

    async def _erase(self, case: Case, kept: Kept) -> None:
        office, years = self._office, self._years
        bureau, case_id = case.bureau, case.case_id

        def run(draft: Draft) -> bool:
            now = draft.case(bureau, case_id)
            if now is None or now.version != kept.version:
                return False
            event = PrivateErased(
                retention_years=years or 0, ended_at=case.last_at, parts=len(kept.seqs), files=len(kept.digests)
            )
            draft.note(office.system_context(bureau, now), event, case_id)
            draft.erase(bureau, case_id, kept)
            return True

        if await office.ledger.do(Work(run=run, bureau=bureau, case_id=case_id)):
            ERASED.inc()
            _log.info("Private data were erased.", action="retention.erased", bureau=bureau, case_id=case_id)


def office_of(settings: NodeSettings, ledger: Ledger) -> Office:
    """An office over the ledger of a node that does not run; it signs nothing."""
    place = Place(settings.load_tree(), settings.load_calendar(), settings.rules, clock_from(settings.clock))
    return Office(ledger, place, lambda _: referral_pb2.Signature())


def erase_due(ledger: Ledger, retention: Retention) -> None:
    """Erases all that is due in the ledger of a node that does not run, and leaves nothing of it in free pages."""

    async def walk() -> None:
        while await retention.step():
            pass

    ledger.start()
    asyncio.run(walk())
    ledger.database.truncate_log()
