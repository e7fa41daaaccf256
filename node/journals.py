"""LedgerService: a bureau's journal, public parts only, for its superiors and the hubs above it.

Of a retired bureau, whose own node has been stopped for good, its witness answers: with the entries that it has kept,
to the last head that it has cosigned.

Of the texts it tells masked key terms, and of a few cases a masked beginning; both are made when they are asked for, so
that nothing of a text is in the chain, and nothing of an erased one anywhere.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any, Final

from kuaixiang.domain.authority import Subject
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import FieldMalformed, NotThisBureau, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import check_case_id
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.clock import MICROS_PER_SECOND, SECONDS_PER_DAY, Clock, from_micros, to_micros
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.server import Context, admit
from kuaixiang.text.masking import mask
from kuaixiang.text.terms import key_terms
from kuaixiang.wire.v1 import ledger_pb2, ledger_pb2_grpc
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from node.days import Period, day_of
from node.events.publisher import SEGMENT_BYTES_MAX, SEGMENT_ENTRIES_MAX, head_of
from node.ledger import evidence, queries, texts
from node.ledger.ledger import Ledger, Seen

FIRST_SEQ: Final = 1
PERIOD_DAYS_MAX: Final = 2 * 366
"""A year and the one before it; a longer question is asked in parts."""
RECORDED_LATE_MAX_US: Final = 31 * SECONDS_PER_DAY * MICROS_PER_SECOND
"""So long after a period its registrations may still be recorded: five working days, over any holiday."""
TEXTS_AT_ONCE: Final = 100
"""Texts read and masked at a time, about 100 ms of a processor, between which others have their turn."""
CASES_SHOWN_MAX: Final = 20
CHARACTERS_SHOWN_MAX: Final = 300
"""How many masked texts are told at a time, and how much of each: enough to see what it is about."""


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Answers LedgerService for the bureaus of one node; `clock` dates the heads."""

    def __init__(self, ledger: Ledger, trees: InForce[BureauTree], clock: Clock) -> None:
        self._ledger = ledger
        self._trees = trees
        self._clock = clock

    async def ReadJournal(
        self, request: ledger_pb2.ReadJournalRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.ReadJournalResponse]:
        """Entries from a position on, in segments, up to another or the end as it is now.

        Raises `NotThisBureau`, `NotAuthorised`.
        """
        retired = await self._retired(context, "ReadJournal", request.bureau)
        if retired is not None:
            async for kept in self._witnessed(retired, request.from_seq, request.to_seq):
                yield ledger_pb2.ReadJournalResponse(segment=kept)
            return
        self._admit(context, "ReadJournal", request.bureau)
        end = self._ledger.heads[request.bureau].seq
        last = min(request.to_seq or end, end)
        after = max(request.from_seq, FIRST_SEQ) - 1
        while after < last:
            segment = await asyncio.to_thread(
                queries.read_segment,
                self._ledger.database,
                request.bureau,
                after,
                entries_max=SEGMENT_ENTRIES_MAX,
                bytes_max=SEGMENT_BYTES_MAX,
                to_seq=last,
            )
            if segment is None:
                return
            after = segment.first_seq + len(segment.entries) - 1
            yield ledger_pb2.ReadJournalResponse(segment=segment)

    async def GetHeads(self, request: ledger_pb2.GetHeadsRequest, context: Context) -> ledger_pb2.GetHeadsResponse:
        """The ends of the journals asked for; of all that the caller may read when none is named.

        Raises `NotThisBureau`, `NotAuthorised`.
        """
        as_of_us = to_micros(self._clock.now())
        heads: list[Head] = []
        for bureau in tuple(request.bureaus) or self._readable(context):
            retired = await self._retired(context, "GetHeads", bureau)
            if retired is None:
                self._admit(context, "GetHeads", bureau)
                heads.append(head_of(self._ledger, bureau, as_of_us))
            else:
                heads.append(Head(bureau=bureau, generation=retired.generation, seq=retired.seq, hash=retired.hash))
                heads[-1].as_of_us = retired.cosigned_at_us
        return ledger_pb2.GetHeadsResponse(heads=heads)

    async def ReadTerms(
        self, request: ledger_pb2.ReadTermsRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.ReadTermsResponse]:
        """The masked key terms of the requests registered in a period.

        Raises `NotThisBureau`, `NotAuthorised`, `FieldMalformed`.
        """
        self._admit(context, "ReadTerms", request.bureau)
        since_us, until_us = _period(request).span_us
        bureau, end = request.bureau, self._ledger.heads[request.bureau].seq
        database = self._ledger.database
        after = await asyncio.to_thread(texts.first_seq_at, database, bureau, since_us, end) - 1
        recorded_until_us = until_us + RECORDED_LATE_MAX_US
        while after < end:
            read = await asyncio.to_thread(
                texts.registrations, database, bureau, after, TEXTS_AT_ONCE, (texts.REGISTERED,)
            )
            wanted = [
                one
                for one in read
                if since_us <= one.occurred_at_us < until_us
                and zlib.crc32(one.case_id.encode()) % max(1, request.one_of) == 0
            ]
            if wanted:
                yield ledger_pb2.ReadTermsResponse(cases=await asyncio.to_thread(_terms_of, wanted))
            if len(read) < TEXTS_AT_ONCE or read[-1].recorded_at_us > recorded_until_us:
                return
            after = read[-1].seq

    async def ReadMaskedTexts(
        self, request: ledger_pb2.ReadMaskedTextsRequest, context: Context
    ) -> ledger_pb2.ReadMaskedTextsResponse:
        """The beginning of the texts of a few cases, masked.

        Raises `NotThisBureau`, `NotAuthorised`, `FieldMalformed`.
        """
        self._admit(context, "ReadMaskedTexts", request.bureau)
        if len(request.case_ids) > CASES_SHOWN_MAX:
            what = Both(f"has {len(request.case_ids)} cases", f"含 {len(request.case_ids)} 件诉求")
            remedy = Both(f"Ask for at most {CASES_SHOWN_MAX}.", f"每次最多查询 {CASES_SHOWN_MAX} 件。")
            raise FieldMalformed("case_ids", what, remedy)
        for case_id in request.case_ids:
            check_case_id(case_id, "case_ids")
        return await asyncio.to_thread(self._masked, request.bureau, list(request.case_ids))

    def _masked(self, bureau: str, case_ids: list[str]) -> ledger_pb2.ReadMaskedTextsResponse:
        found = texts.registrations_of(self._ledger.database, bureau, case_ids)
        # Of a case that has come here more than once the last text is the one that was sent along last.
        by_case = {
            one.case_id: mask(one.private.text, (one.private.taxpayer_name, one.private.contact)) for one in found
        }
        return ledger_pb2.ReadMaskedTextsResponse(
            texts=[ledger_pb2.MaskedText(case_id=one, text=_beginning(text)) for one, text in by_case.items()]
        )

    async def _retired(self, context: Context, rpc: str, bureau: str) -> Seen | None:
        """What a bureau of ours has cosigned last of the ledger of a retired one; None where there is none of it.

        Raises `NotAuthorised`.
        """
        tree = self._trees.value
        if bureau in self._ledger.heads or bureau not in tree or not tree.retired(bureau):
            return None
        admit(context, rpc, Subject(bureau=bureau), tree)
        return await asyncio.to_thread(evidence.last_witnessed, self._ledger.database, bureau)

    async def _witnessed(self, seen: Seen, from_seq: int, to_seq: int) -> AsyncIterator[Segment]:
        """The entries that were kept of a ledger, from a position to another, or to the end."""
        database, pair = self._ledger.database, (seen.witness, seen.bureau)
        first, last = max(from_seq, FIRST_SEQ), min(to_seq or seen.seq, seen.seq)
        for span in await asyncio.to_thread(evidence.spans, database, *pair):
            if span.last_seq < first or span.first_seq > last:
                continue
            segment = await asyncio.to_thread(evidence.kept_segment, database, *pair, span)
            within = evidence.after_seq(segment, first - 1)
            yield evidence.first_of(within, last - within.first_seq + 1)

    def _admit(self, context: Context, rpc: str, bureau: str) -> None:
        if bureau not in self._ledger.heads:
            raise NotThisBureau(bureau, self._ledger.bureaus, "bureau")
        admit(context, rpc, Subject(bureau=bureau), self._trees.value)

    def _readable(self, context: Context) -> tuple[str, ...]:
        """Of the bureaus kept here those whose heads the caller may read; raises `NotAuthorised` for none at all."""
        readable: list[str] = []
        refusal: Refused | None = None
        for bureau in self._ledger.bureaus:
            try:
                self._admit(context, "GetHeads", bureau)
            except Refused as refused:
                refusal = refused
            else:
                readable.append(bureau)
        if refusal is not None and not readable:
            raise refusal
        return tuple(readable)


def _terms_of(registrations: list[texts.Registration]) -> list[ledger_pb2.CaseTerms]:
    found = []
    for one in registrations:
        category: Any = one.category
        day = from_micros(one.occurred_at_us).astimezone(SHANGHAI).date().isoformat()
        terms = key_terms(one.private.text, (one.private.taxpayer_name, one.private.contact))
        found.append(ledger_pb2.CaseTerms(case_id=one.case_id, category=category, day=day, terms=terms))
    return found


def _beginning(masked: str) -> str:
    """As much of a masked text as is told; no placeholder is cut through."""
    if len(masked) <= CHARACTERS_SHOWN_MAX:
        return masked
    beginning = masked[: CHARACTERS_SHOWN_MAX - 1]
    opened = beginning.rfind("〔")
    return (beginning if beginning.rfind("〕") >= opened else beginning[:opened]) + "…"


def _period(request: ledger_pb2.ReadTermsRequest) -> Period:
    period = Period(day_of(request.from_day, "from_day"), day_of(request.to_day, "to_day"))
    if not 0 <= (period.to_day - period.from_day).days < PERIOD_DAYS_MAX:
        what = Both(
            f"is not within {PERIOD_DAYS_MAX} days from from_day on", f"不在起始日之后 {PERIOD_DAYS_MAX} 天之内"
        )
        raise FieldMalformed("to_day", what, Both("Ask for a shorter period.", "请缩短查询期间。"))
    return period
