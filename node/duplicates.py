"""Likely duplicates (§四(一)1): cases of the last months by the same taxpayer, or that say nearly the same.

For each bureau there is an index in memory, made when it is first asked and led on from the journal's tail each time.
Registering does nothing for it and the database holds nothing of it. The index has numbers alone; whatever it proposes
is compared with the texts in the ledger, so that one that has been erased is no longer found.
"""

import asyncio
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from kuaixiang.domain.events import Private
from kuaixiang.domain.identifiers import mask_name
from kuaixiang.domain.words import DuplicateReason, Stage
from kuaixiang.runtime.clock import Clock, from_micros, to_micros
from kuaixiang.text.masking import beginning
from kuaixiang.text.similar import SIMILAR_MIN, SketchIndex, normal, similarity, sketch
from node.ledger import texts
from node.ledger.ledger import Ledger

CANDIDATES_MAX: Final = 20
"""Cases shown: what an officer looks through before registering."""
COMPARED_MAX: Final = 50
"""Texts compared in full for one question, about 50 ms."""
TEXTS_MAX: Final = 200_000
"""Texts of one bureau that are looked back over: the busiest bureau's quarter, about 40 MB. Of more, the newest."""
TEXTS_TOTAL_MAX: Final = 2_000_000
"""Of all bureaus of the node, about 400 MB; beyond it the bureau that was asked for longest ago is forgotten."""
READ_AT_ONCE: Final = 2_000
"""Registrations read from the ledger at a time."""
BEGINNING_CHARACTERS: Final = 40
"""Of a candidate's text that is shown: two lines beside the form, enough to see whether it asks the same."""
SIMILAR_CHARACTERS_MIN: Final = 8
"""A shorter text (怎么开发票) says the same as many others and nothing of its case."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of a request before it is registered; what is empty is not compared."""

    taxpayer_name: str = ""
    taxpayer_number: str = ""
    contact: str = ""
    text: str = ""
    channel_reference: str = ""
    """A case registered under it is the same request sent again: there are no duplicates then."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A case that may be the same. `similarity` of the texts, 0 to 1; `taxpayer` with the middle of the name hidden.

    `text`: how the request begins, masked.
    """

    case_id: str
    stage: Stage
    registered_at: datetime
    reasons: tuple[DuplicateReason, ...]
    similarity: float
    taxpayer: str
    text: str


class Duplicates:
    """Looks for them in the ledgers of a node, over the last `days`; 0 looks for none."""

    def __init__(self, ledger: Ledger, clock: Clock, days: int) -> None:
        self.days = days
        self._ledger = ledger
        self._clock = clock
        self._indexes: OrderedDict[str, _Index] = OrderedDict()

    async def find(self, bureau: str, request: Request) -> list[Duplicate]:
        """The cases that may be the same as a request, the likeliest first."""
        if not self.days:
            return []
        index = self._indexes.setdefault(bureau, _Index(bureau))
        self._indexes.move_to_end(bureau)
        found = await asyncio.to_thread(index.find, self._ledger, request, self._clock.now() - timedelta(self.days))
        while len(self._indexes) > 1 and sum(len(known) for known in self._indexes.values()) > TEXTS_TOTAL_MAX:
            self._indexes.popitem(last=False)
        return found


class _Index:
    """What is remembered of one bureau's registrations. One question at a time."""

    def __init__(self, bureau: str) -> None:
        self._bureau = bureau
        self._lock = threading.Lock()
        self._seq: int | None = None
        self._texts = SketchIndex()
        self._taxpayers = SketchIndex(common_min=1)

    def __len__(self) -> int:
        return len(self._texts)

    def find(self, ledger: Ledger, request: Request, since: datetime) -> list[Duplicate]:
        """Leads the index on to the journal's end, then looks in it."""
        with self._lock:
            end = ledger.heads[self._bureau].seq
            first = texts.first_seq_at(ledger.database, self._bureau, to_micros(since), end)
            self._catch_up(ledger, first, end)
            return self._look(ledger, request, first)

    def _catch_up(self, ledger: Ledger, first: int, end: int) -> None:
        after = first - 1 if self._seq is None else max(self._seq, first - 1)
        while after < end:
            read = texts.registrations(ledger.database, self._bureau, after, READ_AT_ONCE)
            for registration in read:
                self._texts.add(registration.seq, sketch(normal(registration.private.text)))
                self._taxpayers.add(registration.seq, _taxpayer_keys(registration.private))
            after = read[-1].seq if len(read) == READ_AT_ONCE else end
        self._seq = max(after, end)
        for index in (self._texts, self._taxpayers):
            index.drop_before(first)
            index.shrink(TEXTS_MAX)

    def _look(self, ledger: Ledger, request: Request, first: int) -> list[Duplicate]:
        wanted = normal(request.text)
        asked = Private(
            taxpayer_name=request.taxpayer_name, taxpayer_number=request.taxpayer_number, contact=request.contact
        )
        proposed = self._taxpayers.candidates(_taxpayer_keys(asked), COMPARED_MAX, first)
        if len(wanted) >= SIMILAR_CHARACTERS_MIN:
            proposed += self._texts.candidates(sketch(wanted), COMPARED_MAX, first)
        found: dict[str, Duplicate] = {}
        for known in texts.registrations_at(ledger.database, self._bureau, sorted(set(proposed))):
            if request.channel_reference and request.channel_reference == known.private.channel_reference:
                return []
            alike = similarity(wanted, normal(known.private.text)) if len(wanted) >= SIMILAR_CHARACTERS_MIN else 0.0
            reasons = (
                *((DuplicateReason.SAME_TAXPAYER,) if _same_taxpayer(asked, known.private) else ()),
                *((DuplicateReason.SIMILAR_TEXT,) if alike >= SIMILAR_MIN else ()),
            )
            if reasons:
                private = known.private
                found[known.case_id] = Duplicate(
                    case_id=known.case_id,
                    stage=Stage.REGISTERED,
                    registered_at=from_micros(known.occurred_at_us),
                    reasons=reasons,
                    similarity=alike,
                    taxpayer=mask_name(private.taxpayer_name),
                    text=beginning(private.text, BEGINNING_CHARACTERS, [private.taxpayer_name]),
                )
        likeliest = sorted(
            found.values(), key=lambda one: (len(one.reasons), one.similarity, one.registered_at), reverse=True
        )[:CANDIDATES_MAX]
        stages = texts.stages_of(ledger.database, self._bureau, [one.case_id for one in likeliest])
        return [replace(one, stage=stages[one.case_id]) for one in likeliest if one.case_id in stages]


def _same_taxpayer(one: Private, other: Private) -> bool:
    return not set(_taxpayer(one)).isdisjoint(_taxpayer(other))


def _taxpayer(private: Private) -> tuple[str, ...]:
    """By what a taxpayer is known again: the number, and the name together with the contact, however it is written."""
    name, contact = normal(private.taxpayer_name), normal(private.contact)
    return (
        *((f"number {private.taxpayer_number.upper()}",) if private.taxpayer_number else ()),
        *((f"name {name} {contact}",) if name and contact else ()),
    )


def _taxpayer_keys(private: Private) -> tuple[int, ...]:
    return tuple(sorted({zlib.crc32(known.encode()) for known in _taxpayer(private)}))
