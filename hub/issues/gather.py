"""Reading the masked terms of a scope from its ledgers, some at a time; a bureau that cannot be read is named."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import structlog

from hub.ledgers import Ledgers, LedgerUnreachable

CONCURRENT_MAX: Final = 8
"""Bureaus read at a time: their nodes mask, which takes them a millisecond a text; the hub only waits."""

_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CaseTerms:
    """What is known here of a case: who registered it, when, as what, and its masked terms."""

    bureau: str
    case_id: str
    category: int
    day: str
    terms: tuple[str, ...]


@dataclass(slots=True)
class Gathered:
    """The terms of a scope; `unreadable` are the bureaus whose ledgers could not be read."""

    cases: list[CaseTerms] = field(default_factory=list)
    bureaus_read: int = 0
    unreadable: list[str] = field(default_factory=list)


async def gather_terms(ledgers: Ledgers, bureaus: Sequence[str], from_day: date, to_day: date, one_of: int) -> Gathered:
    """The terms of every case registered in a period, in the order of bureaus; of `one_of` cases one."""
    slots = asyncio.Semaphore(CONCURRENT_MAX)
    # One string for each term: the same few ten thousand recur at every bureau.
    terms_seen: dict[str, str] = {}

    async def one(bureau: str) -> list[CaseTerms] | None:
        found: list[CaseTerms] = []
        async with slots:
            try:
                async for case in ledgers.terms(bureau, from_day, to_day, one_of):
                    terms = tuple(terms_seen.setdefault(term, term) for term in case.terms)
                    found.append(CaseTerms(bureau, case.case_id, int(case.category), case.day, terms))
            except LedgerUnreachable as unreachable:
                _LOG.warning(
                    "A ledger's terms could not be read.",
                    action="hub.issues",
                    bureau=bureau,
                    reason=unreachable.reason,
                )
                return None
        return found

    gathered = Gathered()
    for bureau, found in zip(bureaus, await asyncio.gather(*map(one, bureaus)), strict=True):
        if found is None:
            gathered.unreadable.append(bureau)
        else:
            gathered.bureaus_read += 1
            gathered.cases += found
    return gathered


async def masked_texts(ledgers: Ledgers, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The masked beginning of the texts of cases, by (bureau, case id); what cannot be read is left out."""
    slots = asyncio.Semaphore(CONCURRENT_MAX)
    by_bureau: dict[str, list[str]] = {}
    for bureau, case_id in wanted:
        by_bureau.setdefault(bureau, []).append(case_id)

    async def one(bureau: str, case_ids: list[str]) -> dict[tuple[str, str], str]:
        async with slots:
            try:
                texts = await ledgers.masked_texts(bureau, case_ids)
            except LedgerUnreachable:
                return {}
        return {(bureau, case_id): text for case_id, text in texts.items()}

    found: dict[tuple[str, str], str] = {}
    for texts in await asyncio.gather(*(one(*each) for each in by_bureau.items())):
        found.update(texts)
    return found
