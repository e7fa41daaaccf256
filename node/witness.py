"""The witness: cosigns the ends of other bureaus' journals, if they continue what it has seen of them before.

It keeps, durably and before it answers, the head that it cosigns, with the word of the bureau itself for it, and the
entries that lead there: so that it can say what was rewritten, and give back what a ledger has lost. What contradicts
it is not cosigned but recorded, in the journal of the witness, and stands until the ledger goes on in a new generation
that says what happened to it. A ledger that ended too early and is there again in full needs no more than that.

`Rereader` reads the ledgers themselves again, some entries at a time, and compares them with what was kept: an entry
that was changed behind the node's back shows there even if its hash was left as it was.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge

from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.events import LedgerDoubted, LedgerTrusted
from kuaixiang.domain.labels import Both, term
from kuaixiang.domain.words import LedgerFinding
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.loops import Loop
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.chain import HASH_BYTES
from kuaixiang.wire.v1 import cosign_pb2 as pb
from kuaixiang.wire.v1 import journal_pb2, ledger_pb2
from kuaixiang.wire.v1.ledger_pb2_grpc import LedgerServiceStub
from node.federation.client import Links, NoEndpoint
from node.ledger import evidence
from node.ledger.evidence import Doubt, Place, Span
from node.ledger.ledger import Draft, KeptSegment, Seen, Work
from node.office import Office

SHOWN_ENTRIES_MAX: Final = 1_000
"""Entries of one question, twice what a bureau sends; their hashes take a millisecond."""
POSITION_MAX: Final = 2**62
"""Positions are signed 64-bit in SQL."""
READ_SECONDS_MAX: Final = 5.0
"""One question to the ledger that is looked at; a node that needs longer is asked another time."""
REREAD_SECONDS: Final = 5.0
"""Between two looks of the rereader: 500 entries each, so that a year of a county is read again in a day or two."""

COSIGNED: Final = Counter(
    "kx_witness_heads_total",
    "Heads of other ledgers shown to bureaus of this node, by outcome: cosigned, renewed, refused, doubted.",
    ["outcome"],
)
REREAD: Final = Counter("kx_witness_reread_entries_total", "Entries of other ledgers read again and compared.")
DOUBTED: Final = Gauge(
    "kx_witness_ledgers_doubted", "Ledgers that contradict what this node has cosigned of them: alarm above 0."
)

_log: Final = structlog.get_logger(__name__)

Pair = tuple[str, str]
"""Witness and bureau."""


class HeadContradicted(Refused):
    """What a bureau shows of its ledger contradicts what the witness has cosigned of it."""

    remedy = "Stop that bureau's node, find out what happened to its database, and use `kx node refill`."
    remedy_chinese = "请停止该单位的节点，查明数据库情况，并执行 kx node refill。"

    def __init__(self, bureau: str, finding: LedgerFinding, known: Place, told: Place) -> None:
        self.finding = finding
        said = {
            LedgerFinding.SHORTER: Both(
                f"it ends at entry {told.seq} of generation {told.generation}, but entry {known.seq} of generation "
                f"{known.generation} has been cosigned",
                f"其止于第 {told.generation} 世代第 {told.seq} 项，"
                f"而第 {known.generation} 世代第 {known.seq} 项已经见证",
            ),
            LedgerFinding.REWRITTEN: Both(
                f"its entry {known.seq} has the hash {short(told.hash)}, but {short(known.hash)} has been cosigned",
                f"其第 {known.seq} 项的摘要为 {short(told.hash)}，而已经见证的是 {short(known.hash)}",
            ),
            LedgerFinding.UNACCOUNTED: Both(
                f"its generation {told.generation} does not say what became of entry {known.seq} of generation "
                f"{known.generation}, which has been cosigned",
                f"其第 {told.generation} 世代未说明已经见证的第 {known.generation} 世代第 {known.seq} 项的去向",
            ),
        }[finding]
        super().__init__(
            f"The ledger of bureau {bureau} is not cosigned: {said.english}.",
            f"单位 {bureau} 的台账未予见证（{term(finding)}）：{said.chinese}。",
        )


class HeadUnfollowed(Refused):
    """The entries shown do not begin where the witness has cosigned up to."""

    condition = Condition.CONFLICT
    remedy = "Ask what has been cosigned last, and show the entries after that."
    remedy_chinese = "请先查询最近一次见证的位置，再提交其后的日志。"

    def __init__(self, bureau: str, seq: int) -> None:
        super().__init__(
            f"The ledger of bureau {bureau} has been cosigned up to entry {seq}; what follows is missing.",
            f"单位 {bureau} 的台账已见证至第 {seq} 项，缺少其后的日志。",
        )


class StatementOvertaken(Refused):
    """The bureau has signed a later statement, which has been answered."""

    condition = Condition.CONFLICT
    remedy = "Make a new statement of the journal's end as it is now."
    remedy_chinese = "请按当前台账末尾重新陈述。"

    def __init__(self, bureau: str) -> None:
        super().__init__(
            f"A later statement of bureau {bureau} has been answered already.", f"单位 {bureau} 更晚的陈述已经答复。"
        )


@dataclass(frozen=True, slots=True)
class _Judged:
    """A head that continues what was seen: the entries to be kept, and what a new generation says it has lost."""

    new: journal_pb2.Segment | None
    opened: "_Opened | None" = None


@dataclass(frozen=True, slots=True)
class _Opened:
    generation: int
    seq: int
    lost: int


class _Contradiction(Exception):
    def __init__(self, finding: LedgerFinding, known: Place, told: Place) -> None:
        super().__init__(finding.name)
        self.finding = finding
        self.known = known
        self.told = told


class Witness:
    """Cosigns for the bureaus of one node. Reads what has been kept."""

    def __init__(self, office: Office, links: Links, seal: Seal) -> None:
        self._office = office
        self._links = links
        self._seal = seal
        database = office.ledger.database
        self._seen: dict[Pair, Seen] = {(one.witness, one.bureau): one for one in evidence.witnessed(database)}
        self._doubts: dict[Pair, Doubt] = {(one.bureau, one.peer): one for one in evidence.doubts(database)}
        self._locks: dict[Pair, asyncio.Lock] = {}
        self._recording = asyncio.Lock()
        self._show()

    def seen(self, witness: str, bureau: str) -> Seen | None:
        """What the witness has cosigned last of a ledger."""
        return self._seen.get((witness, bureau))

    def all_seen(self, witness: str) -> list[tuple[Seen, Doubt | None]]:
        """The ledgers that a bureau witnesses, and what stands against each."""
        return [(seen, self._doubts.get(pair)) for pair, seen in sorted(self._seen.items()) if pair[0] == witness]

    async def cosign(self, request: pb.CosignHeadRequest) -> pb.CosignHeadResponse:
        """Cosigns a head whose caller has been checked; durable before it is answered.

        Raises `FieldMalformed`, `SignatureNotProven`, `StatementOvertaken`, `HeadUnfollowed`, `HeadContradicted`.
        """
        stated = statement_of(request.statement)
        self._seal.check(request.statement, request.signature, stated.bureau)
        _check_segment(request.segment, stated)
        pair = (stated.witness, stated.bureau)
        async with self._locks.setdefault(pair, asyncio.Lock()):
            seen = self._seen.get(pair)
            if seen is not None and stated.stated_at_us <= seen.stated_at_us:
                raise StatementOvertaken(stated.bureau)
            try:
                judged, kept = await asyncio.to_thread(self._look_at, pair, seen, stated, request.segment)
            except _Contradiction as found:
                COSIGNED.labels("doubted").inc()
                raise await self._doubt(pair, found) from None
            except Refused:
                COSIGNED.labels("refused").inc()
                raise
            answer = await self._keep(pair, request, stated, judged, kept)
        COSIGNED.labels("cosigned" if judged.new is not None else "renewed").inc()
        return answer

    # ------------------------------------------------------------ judging

    def _look_at(
        self, pair: Pair, seen: Seen | None, stated: pb.HeadStatement, segment: journal_pb2.Segment
    ) -> tuple[_Judged, KeptSegment | None]:
        """What a head is, and its new entries as they are kept; raises what `_judge` does."""
        judged = self._judge(pair, seen, stated, segment)
        if judged.new is None:
            return judged, None
        return judged, evidence.kept(pair[0], judged.new, to_micros(self._office.place.clock.now()))

    def _judge(self, pair: Pair, seen: Seen | None, stated: pb.HeadStatement, segment: journal_pb2.Segment) -> _Judged:
        """What a head that is shown is against what was seen; raises `_Contradiction`, `HeadUnfollowed`."""
        known = Place(seen.generation, seen.seq, seen.hash) if seen is not None else Place()
        told = Place(stated.generation, stated.seq, stated.hash)
        if told == known:
            return _Judged(None)
        if told.generation > known.generation and known.seq:
            return self._judge_new_generation(pair, known, told, segment)
        if (told.generation, told.seq) < (known.generation, known.seq):
            raise _Contradiction(LedgerFinding.SHORTER, known, told)
        if told.seq == known.seq:
            raise _Contradiction(LedgerFinding.REWRITTEN, known, told)
        if not segment.entries or segment.first_seq > known.seq + 1:
            raise HeadUnfollowed(stated.bureau, known.seq)
        found = _hash_before(segment, known.seq + 1)
        if found != known.hash:
            raise _Contradiction(LedgerFinding.REWRITTEN, known, Place(segment.generation, known.seq, found))
        return _Judged(evidence.after_seq(segment, known.seq))

    def _judge_new_generation(self, pair: Pair, known: Place, told: Place, segment: journal_pb2.Segment) -> _Judged:
        if not segment.entries or segment.first_seq > known.seq + 1:
            raise HeadUnfollowed(pair[1], known.seq)
        unaccounted = _Contradiction(LedgerFinding.UNACCOUNTED, known, told)
        try:
            opening = journal_pb2.Entry.FromString(segment.entries[0].public)
        except DecodeError:
            raise unaccounted from None
        if not opening.HasField("generation_opened"):
            raise unaccounted
        opened = _Opened(segment.generation, segment.first_seq, known.seq - segment.first_seq + 1)
        if not opened.lost:
            if segment.prev_hash != known.hash:
                raise unaccounted
            return _Judged(segment, opened)
        said = opening.generation_opened
        if (said.cosigned_generation, said.cosigned_seq, said.cosigned_hash) != (
            known.generation,
            known.seq,
            known.hash,
        ):
            raise unaccounted
        database = self._office.ledger.database
        # None where nothing is kept any more, so that nothing could be given back either.
        before = evidence.hash_at(database, *pair, evidence.spans(database, *pair), segment.first_seq - 1)
        if before not in {None, segment.prev_hash}:
            raise unaccounted
        return _Judged(segment, opened)

    # ------------------------------------------------------------ keeping

    async def _keep(
        self,
        pair: Pair,
        request: pb.CosignHeadRequest,
        stated: pb.HeadStatement,
        judged: _Judged,
        kept: KeptSegment | None,
    ) -> pb.CosignHeadResponse:
        witness, bureau = pair
        now_us = to_micros(self._office.place.clock.now())
        cosignature = pb.Cosignature(
            witness=witness,
            bureau=bureau,
            generation=stated.generation,
            seq=stated.seq,
            hash=stated.hash,
            cosigned_at_us=now_us,
        ).SerializeToString()
        # Signing takes less than handing it to another thread would.
        answer = pb.CosignHeadResponse(cosignature=cosignature, cosigned=self._seal.sign(cosignature))
        head = pb.CosignedHead(
            statement=request.statement, signature=request.signature, cosignature=cosignature, cosigned=answer.cosigned
        )
        at = (stated.generation, stated.seq, stated.hash)
        seen = Seen(witness, bureau, *at, stated.stated_at_us, now_us, head.SerializeToString())
        doubt = self._doubts.get(pair)
        # A ledger that ended too early and goes on from its cosigned end is the one that it was.
        whole_again = doubt is not None and doubt.finding is LedgerFinding.SHORTER
        trusted = None
        if judged.opened is not None:
            trusted = (judged.opened.generation, judged.opened.seq, judged.opened.lost)
        elif whole_again:
            trusted = (stated.generation, 0, 0)

        def run(draft: Draft) -> None:
            draft.put_witnessed(seen)
            if kept is not None:
                draft.put_witnessed_segment(kept)
            if trusted is not None:
                generation, opened_seq, lost = trusted
                event = LedgerTrusted(
                    peer=bureau, trusted_generation=generation, opened_seq=opened_seq, lost_entries=lost
                )
                draft.note(self._office.system_context(witness), event)

        await self._office.ledger.do(Work(run=run, bureau=witness))
        self._seen[pair] = seen
        if trusted is not None:
            self._doubts.pop(pair, None)
            self._show()
            _log.warning(
                "A ledger that was doubted or restored is trusted again.",
                action="witness.trusted",
                bureau=bureau,
                witness=witness,
                generation=trusted[0],
                lost_entries=trusted[2],
            )
        return answer

    async def _doubt(self, pair: Pair, found: _Contradiction) -> HeadContradicted:
        """Records what contradicts, once; the refusal that says it."""
        bureau = pair[1]
        standing = self._doubts.get(pair)
        if standing is not None and standing.finding >= found.finding:
            # Only what is graver takes its place. Else a bureau could fill this journal by showing ever other heads,
            # and have what was rewritten forgotten by showing a shorter one.
            return HeadContradicted(bureau, standing.finding, standing.known, standing.told)
        known, told = found.known, found.told
        if found.finding is LedgerFinding.REWRITTEN:
            known, told = await self._first_difference(pair) or (known, told)
        await self.record(pair, found.finding, known, told)
        return HeadContradicted(bureau, found.finding, known, told)

    async def record(self, pair: Pair, finding: LedgerFinding, known: Place, told: Place) -> None:
        """Puts into the witness's journal what stands against a ledger, unless something as grave does already."""
        async with self._recording:
            standing = self._doubts.get(pair)
            # A head that is shown and the reading of what is kept may have found it at the same time.
            if standing is None or standing.finding < finding:
                await self._record(pair, finding, known, told)

    async def _record(self, pair: Pair, finding: LedgerFinding, known: Place, told: Place) -> None:
        witness, bureau = pair
        event = LedgerDoubted(
            peer=bureau,
            finding=finding,
            known_generation=known.generation,
            known_seq=known.seq,
            known_hash=known.hash,
            told_generation=told.generation,
            told_seq=told.seq,
            told_hash=told.hash,
        )
        since = self._office.place.clock.now()
        await self._office.record_note(witness, event)
        self._doubts[pair] = Doubt(witness, bureau, finding, known, told, to_micros(since))
        self._show()
        _log.error(
            "A ledger contradicts what was cosigned of it.",
            action="witness.doubted",
            witness=witness,
            bureau=bureau,
            finding=finding.name.lower(),
            seq=known.seq,
            known_hash=short(known.hash),
            told_hash=short(told.hash),
        )

    def finding(self, pair: Pair) -> LedgerFinding | None:
        """What stands against a ledger; None when nothing does."""
        doubt = self._doubts.get(pair)
        return doubt.finding if doubt is not None else None

    def _show(self) -> None:
        DOUBTED.set(len(self._doubts))

    # ------------------------------------------------------------ looking at the ledger itself

    async def _first_difference(self, pair: Pair) -> tuple[Place, Place] | None:
        """The first entry that is another one in the ledger than was kept, by halving; None if it cannot be found."""
        found = await asyncio.to_thread(evidence.spans, self._office.ledger.database, *pair)
        low, high = 0, len(found)
        while low < high:
            middle = (low + high) // 2
            told = await self.read(pair[1], found[middle].last_seq, found[middle].last_seq)
            kept = await self.kept(pair, found[middle])
            if told is None:
                return None
            if told.entries and evidence.hashes_of(told)[-1] == evidence.hashes_of(kept)[-1]:
                low = middle + 1
            else:
                high = middle
        return await self.compare(pair, found[low]) if low < len(found) else None

    async def kept(self, pair: Pair, span: Span) -> journal_pb2.Segment:
        """The kept entries of a span."""
        return await asyncio.to_thread(evidence.kept_segment, self._office.ledger.database, *pair, span)

    async def compare(self, pair: Pair, span: Span) -> tuple[Place, Place] | None:
        """Where the ledger first has another entry than was kept of a span: that entry, and what the ledger has.

        None where they are alike, or the ledger does not answer.
        """
        kept = await self.kept(pair, span)
        told = await self.read(pair[1], span.first_seq, span.last_seq)
        if told is None:
            return None
        known_hashes, told_hashes = evidence.hashes_of(kept), evidence.hashes_of(told)
        for at, (known, shown) in enumerate(zip(known_hashes, told_hashes, strict=False)):
            if known != shown:
                seq = span.first_seq + at
                return Place(kept.generation, seq, known), Place(told.generation, seq, shown)
        REREAD.inc(len(told_hashes))
        return None

    async def read(self, bureau: str, from_seq: int, to_seq: int) -> journal_pb2.Segment | None:
        """Entries of a ledger as its node tells them now; None when it does not answer."""
        request = ledger_pb2.ReadJournalRequest(bureau=bureau, from_seq=from_seq, to_seq=to_seq)
        whole = journal_pb2.Segment(bureau=bureau, first_seq=from_seq)
        try:
            stub = LedgerServiceStub(self._links.channel(bureau))
            async for answer in stub.ReadJournal(request, timeout=READ_SECONDS_MAX):
                if not whole.entries:
                    whole.CopyFrom(answer.segment)
                else:
                    whole.entries.extend(answer.segment.entries)
        except (grpc.aio.AioRpcError, NoEndpoint, PkiError) as failure:
            _log.info(
                "A ledger could not be looked at.",
                action="witness.unread",
                bureau=bureau,
                reason=type(failure).__name__,
            )
            return None
        return whole


class Rereader:
    """Reads the ledgers that bureaus of this node witness again. `step` looks at the next entries of the next one."""

    def __init__(self, office: Office, witness: Witness, interval_seconds: float = REREAD_SECONDS) -> None:
        self._office = office
        self._witness = witness
        self._next: dict[Pair, int] = {}
        self._turn: list[Pair] = []
        self._doubted: set[Pair] = set()
        self._loop = Loop("rereader", self.step, interval_seconds)

    async def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the look under way end."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Compare some entries of one ledger; never more to do at once."""
        pair = self._whose()
        if pair is None:
            return False
        standing = self._witness.finding(pair)
        if standing is not None:
            self._doubted.add(pair)
        elif pair in self._doubted:
            # Whatever was mended, all of it is looked at again.
            self._doubted.discard(pair)
            self._next.pop(pair, None)
        found = await asyncio.to_thread(evidence.spans, self._office.ledger.database, *pair)
        span = _first_after(found, self._next.get(pair, 0)) or _first_after(found, 0)
        if span is None:
            return False
        self._next[pair] = span.last_seq
        difference = await self._witness.compare(pair, span)
        # That it ended too early, or nothing, is known of it already: that it was rewritten is graver.
        if difference is not None and (standing is None or standing < LedgerFinding.REWRITTEN):
            await self._witness.record(pair, LedgerFinding.REWRITTEN, *difference)
        return False

    def _whose(self) -> Pair | None:
        if not self._turn:
            witnesses = self._office.ledger.bureaus
            self._turn = [(seen.witness, seen.bureau) for code in witnesses for seen, _ in self._witness.all_seen(code)]
        return self._turn.pop(0) if self._turn else None


def _first_after(found: Sequence[Span], seq: int) -> Span | None:
    return next((span for span in found if span.first_seq > seq), None)


def _hash_before(segment: journal_pb2.Segment, seq: int) -> bytes:
    """The hash that a segment says stands before a position."""
    if segment.first_seq == seq:
        return segment.prev_hash
    return evidence.hashes_of(segment)[seq - segment.first_seq - 1]


def short(hash_: bytes) -> str:
    """As much of a hash as people compare."""
    return f"{hash_.hex()[:16]}…"


def statement_of(payload: bytes) -> pb.HeadStatement:
    """What a bureau has signed of its journal's end; raises `FieldMalformed`."""
    try:
        stated = pb.HeadStatement.FromString(payload)
    except DecodeError as failure:
        raise _malformed("statement", Both("is not a serialized statement", "无法读取")) from failure
    if len(stated.hash) != HASH_BYTES or not 0 < stated.seq < POSITION_MAX or not 0 < stated.generation < POSITION_MAX:
        raise _malformed("statement", Both("names a place that no journal has", "所列位置不存在"))
    if not 0 < stated.stated_at_us < POSITION_MAX:
        raise _malformed("statement", Both("does not say when it was made", "未写明时间"))
    return stated


def _check_segment(segment: journal_pb2.Segment, stated: pb.HeadStatement) -> None:
    """Raises `FieldMalformed` for entries that do not lead to the head that they are shown with."""
    count = len(segment.entries)
    if not count:
        return
    if count > SHOWN_ENTRIES_MAX:
        raise _malformed("segment", Both(f"holds {count} entries", f"含 {count} 项，过多"))
    sizes = {len(segment.prev_hash), len(segment.last_hash), *(len(entry.private_digest) for entry in segment.entries)}
    if sizes != {HASH_BYTES} or not 0 < segment.first_seq < POSITION_MAX:
        raise _malformed("segment", Both("has a hash that is none", "所含摘要有误"))
    end = (segment.bureau, segment.generation, segment.first_seq + count - 1, evidence.hashes_of(segment)[-1])
    if end != (stated.bureau, stated.generation, stated.seq, stated.hash):
        raise _malformed("segment", Both("does not end in the head that was signed", "与所签名的台账末尾不一致"))


def _malformed(field: str, what: Both) -> FieldMalformed:
    remedy = Both("Send the entries as the journal has them, and sign their end.", "请照台账日志提交，并对其末尾签名。")
    return FieldMalformed(field, what, remedy)
