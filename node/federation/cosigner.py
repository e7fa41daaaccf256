"""The cosigner: has the ends of this node's journals cosigned by their witnesses, and holds the ledgers to it.

Before a ledger takes its first act its witness is asked what it has cosigned of it last. The answer carries the word of
this bureau itself for that head, so that nobody can make one up: a ledger that ends before it, or has another entry
there, was put back to an older copy, cut off or rewritten, and takes no acts until `kx node refill` has mended it. The
same holds of a node that runs: what a witness does not cosign is looked at in the same way.

A witness that is away stops nothing. After `wait_seconds` a ledger takes acts unproven, which a metric shows, and is
proven when the witness answers; `must_be_proven` has it wait instead. One that goes on in a new generation always
waits, until the witness has cosigned the generation: of two that were restored from the same backup, which would give
the same numbers, only the one that comes first is cosigned.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.witness import witnesses_of
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.loops import Loop
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.writer import WriterBusy, WriterStopped
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import cosign_pb2 as pb
from kuaixiang.wire.v1 import journal_pb2, referral_pb2
from kuaixiang.wire.v1.cosign_pb2_grpc import CosignServiceStub
from node.events.publisher import SEGMENT_BYTES_MAX, SEGMENT_ENTRIES_MAX
from node.federation.client import Links, NoEndpoint, failure_of
from node.ledger import evidence, queries
from node.ledger.evidence import Place
from node.ledger.ledger import FIRST_GENERATION, Draft, Seen, Work
from node.office import Office
from node.witness import short

COSIGN_SECONDS: Final = 30.0
"""How often journals that have grown are shown: what is lost with a disk beyond that, no witness can give back."""
RENEW_SECONDS: Final = 600.0
"""A head that stays the same is cosigned again after so long, so that age tells of a link and not of a quiet bureau."""
SPREAD: Final = 0.2
"""Share by which each pause is moved at random, so that a province's counties do not ask in step."""
ASK_SECONDS_MAX: Final = 10.0
"""A witness answers within milliseconds; one that looks for what was rewritten, within seconds."""
ASK_AGAIN_SECONDS: Final = 0.5
"""Between two questions while a ledger waits to be proven."""
AT_ONCE: Final = 8
"""Ledgers shown at a time: a provincial data centre has a hundred, and officers at work."""
SHOWN_AT_ONCE_MAX: Final = 200
"""Segments of one ledger in one go: 100,000 entries; what is left follows at the next."""

COSIGNATURES: Final = Counter(
    "kx_cosignatures_total",
    "Heads of this node's ledgers shown to witnesses, by outcome: cosigned, away, forged, refused, contradicted.",
    ["outcome"],
)
AGE: Final = Gauge(
    "kx_cosign_age_seconds", "Real time since a ledger of this node was last cosigned, of the one longest ago."
)
UNCOSIGNED: Final = Gauge("kx_cosign_missing_entries", "Journal entries of this node that no witness has cosigned yet.")
UNPROVEN: Final = Gauge(
    "kx_cosign_ledgers_unproven",
    "Ledgers that take acts although no witness has said that they are the latest, none having answered.",
)
REFUTED: Final = Gauge(
    "kx_cosign_ledgers_refuted",
    "Ledgers that take no acts because they contradict what a witness has cosigned: alarm above 0.",
)

_log: Final = structlog.get_logger(__name__)


class LedgerUnproven(Refused):
    """Nobody knows yet whether the ledger is the latest: its witness has not said so, or cosigned its generation."""

    condition = Condition.BUSY
    remedy = "Try again in a moment; if this stays so, see that the witness's node can be reached."
    remedy_chinese = "请稍后重试；如持续出现，请检查见证单位的节点能否联系。"

    def __init__(self, bureau: str, witnesses: tuple[str, ...]) -> None:
        named = ", ".join(witnesses)
        super().__init__(
            f"The ledger of bureau {bureau} takes no acts before {named} has said what it has cosigned of it.",
            f"单位 {bureau} 的台账在见证单位 {'、'.join(witnesses)} 答复之前不受理业务。",
        )


class LedgerRefuted(Refused):
    """The ledger is not the one that its witness has cosigned: an older copy, cut off, or rewritten."""

    condition = Condition.BUSY
    remedy = "Stop the node, run `kx node refill`, start it again."
    remedy_chinese = "请停止节点，执行 kx node refill，再重新启动。"

    def __init__(self, bureau: str, witness: str, cosigned: Place, own: Place, end: int) -> None:
        self.bureau = bureau
        self.witness = witness
        self.cosigned = cosigned
        self.own = own
        said = f"entry {cosigned.seq} of generation {cosigned.generation} ({short(cosigned.hash)})"
        said_chinese = f"第 {cosigned.generation} 世代第 {cosigned.seq} 项（{short(cosigned.hash)}）"
        if end < cosigned.seq:
            what = Both(
                f"it ends at entry {end}, so that entries {end + 1} to {cosigned.seq} are missing: it was restored "
                "from an older copy, or cut off",
                f"而其止于第 {end} 项，缺少第 {end + 1} 项至第 {cosigned.seq} 项，系由旧备份恢复或被截短",
            )
        else:
            what = Both(
                f"there it has {short(own.hash)} of generation {own.generation}: it was rewritten, or went on from an "
                "older copy",
                f"而该处为第 {own.generation} 世代的 {short(own.hash)}，系被改写或由旧备份继续",
            )
        super().__init__(
            f"The ledger of bureau {bureau} takes no acts: {witness} has cosigned {said} of it, but {what.english}.",
            f"单位 {bureau} 的台账不受理业务：单位 {witness} 已见证{said_chinese}，{what.chinese}。",
        )


class CosignatureUnusable(Exception):
    """A witness answers with what is not what it was asked for, or proves nothing."""

    def __init__(self, witness: str, what: str) -> None:
        self.witness = witness
        self.what = what
        super().__init__(f"What bureau {witness} says it has cosigned is of no use: {what}.")


@dataclass(slots=True)
class Shown:
    """How one of this node's ledgers stands with one of its witnesses. Seconds are of `time.monotonic`."""

    bureau: str
    witness: str
    place: Place = field(default_factory=Place)
    stated_at_us: int = 0
    cosigned_at: float = 0.0
    answered: bool = False
    """Whether the witness has said since the start what it has cosigned."""


class Cosigner:
    """Shows the journals of a node to their witnesses. `step` shows all that are due."""

    def __init__(
        self,
        office: Office,
        links: Links,
        seal: Seal,
        *,
        wait_seconds: float,
        must_be_proven: bool = False,
        interval_seconds: float = COSIGN_SECONDS,
    ) -> None:
        self.listeners: list[Callable[[], Awaitable[None]]] = []
        """Told when a ledger begins or ceases to take acts."""
        self._office = office
        self._links = links
        self._seal = seal
        self._wait_seconds = wait_seconds
        self._must_be_proven = must_be_proven
        self._interval_seconds = interval_seconds
        self.shown: dict[str, tuple[Shown, ...]] = {}
        self._follow_tree()
        self._proven = {bureau for bureau, shown in self.shown.items() if not shown}
        for bureau, shown in self.shown.items():
            if shown:
                office.ledger.withheld[bureau] = LedgerUnproven(bureau, tuple(one.witness for one in shown))
        self._generations: dict[str, int] = {}
        """The last generation of each ledger that a witness has cosigned."""
        self._unkept: dict[tuple[str, str], Seen] = {}
        """Cosigned and not yet written down, the last of each ledger and witness."""
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._loop = Loop("cosigner", self.step, interval_seconds)

    async def start(self) -> None:
        """Ask the witnesses what they have cosigned, `wait_seconds` at most, and begin."""
        await self._prove_all()
        self._loop.start()

    async def stop(self) -> None:
        """Show what is committed where that works at once, and end."""
        await self._loop.stop()

    def _follow_tree(self) -> None:
        """Who witnesses the ledgers, by the tree in force."""
        tree, kept_here = self._office.place.tree, self._office.ledger.bureaus
        now = time.monotonic()
        for bureau in kept_here:
            known = {one.witness: one for one in self.shown.get(bureau, ())}
            witnesses = witnesses_of(tree, bureau, kept_here)
            self.shown[bureau] = tuple(
                known.get(witness) or Shown(bureau, witness, cosigned_at=now) for witness in witnesses
            )

    @property
    def takes_acts(self) -> bool:
        """Whether every ledger of the node does."""
        return not self._office.ledger.withheld

    # ------------------------------------------------------------ proving, at the start

    async def _prove_all(self) -> None:
        await self._hold_to_what_is_kept()
        ends = time.monotonic() + self._wait_seconds
        while True:
            await asyncio.gather(*(self._prove(bureau) for bureau in self.shown if not self._is_settled(bureau)))
            await self._keep()
            open_ = [bureau for bureau in self.shown if not self._is_settled(bureau)]
            if not open_ or time.monotonic() >= ends:
                break
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        for bureau in open_:
            witnesses = [one.witness for one in self.shown[bureau] if not one.answered]
            _log.warning(
                "No witness has said that a ledger is the latest.",
                action="cosign.unproven",
                bureau=bureau,
                witnesses=witnesses,
                takes_acts=not (self._must_be_proven or self._is_newly_opened(bureau)),
            )
            if not (self._must_be_proven or self._is_newly_opened(bureau)):
                await self._release(bureau)
        self._show()

    async def _hold_to_what_is_kept(self) -> None:
        """Hold the ledgers to the cosignatures that they keep themselves: it needs no witness to see a cut journal."""
        for seen in await asyncio.to_thread(evidence.cosigned, self._office.ledger.database):
            if seen.bureau not in self.shown:
                continue
            kept = Place(seen.generation, seen.seq, seen.hash)
            self._note_generation(seen.bureau, seen.generation)
            refuted = await asyncio.to_thread(self._refuted, seen.bureau, seen.witness, kept)
            if refuted is not None:
                await self._withhold(seen.bureau, refuted)

    def _is_settled(self, bureau: str) -> bool:
        return bureau in self._proven or isinstance(self._office.ledger.withheld.get(bureau), LedgerRefuted)

    async def _prove(self, bureau: str) -> None:
        """Ask a ledger's witnesses what they have cosigned of it, and hold it to that."""
        await asyncio.gather(*(self._ask(one) for one in self.shown[bureau] if not one.answered))
        if self._is_newly_opened(bureau):
            for one in self.shown[bureau]:
                if one.answered:
                    await self._show_all(one)
        refuted = isinstance(self._office.ledger.withheld.get(bureau), LedgerRefuted)
        answered = all(one.answered for one in self.shown[bureau])
        if answered and not refuted and not self._is_newly_opened(bureau):
            self._proven.add(bureau)
            await self._release(bureau)

    def _is_newly_opened(self, bureau: str) -> bool:
        """Whether a ledger goes on in a generation that no witness has cosigned yet."""
        generation = self._office.ledger.heads[bureau].generation
        return generation > max(FIRST_GENERATION, self._generations.get(bureau, 0))

    def _note_generation(self, bureau: str, generation: int) -> None:
        self._generations[bureau] = max(generation, self._generations.get(bureau, 0))

    async def _ask(self, shown: Shown) -> None:
        try:
            head = await self._cosigned(shown.bureau, shown.witness)
        except (grpc.aio.AioRpcError, NoEndpoint, PkiError) as failure:
            _note_away(shown, failure)
            return
        except (CosignatureUnusable, Refused) as failure:
            _note_forged(shown, failure)
            return
        await self._hold(shown, head)

    async def _hold(self, shown: Shown, head: pb.HeadStatement | None) -> None:
        """Hold a ledger to what its witness has cosigned, as its own bureau has signed it."""
        bureau = shown.bureau
        if head is not None:
            cosigned = Place(head.generation, head.seq, head.hash)
            shown.place, shown.stated_at_us = cosigned, head.stated_at_us
            refuted = await asyncio.to_thread(self._refuted, bureau, shown.witness, cosigned)
            if refuted is not None:
                await self._withhold(bureau, refuted)
            else:
                self._note_generation(bureau, cosigned.generation)
        shown.answered = True

    def _refuted(self, bureau: str, witness: str, cosigned: Place) -> LedgerRefuted | None:
        ledger = self._office.ledger
        own = evidence.place_at(ledger.database, bureau, cosigned.seq)
        if own == cosigned:
            return None
        opening = evidence.opening_after(ledger.database, bureau, cosigned.generation)
        if opening is not None:
            # A generation that says itself what it has lost.
            said = journal_pb2.Entry.FromString(opening[1]).generation_opened
            if Place(said.cosigned_generation, said.cosigned_seq, said.cosigned_hash) == cosigned:
                return None
        return LedgerRefuted(bureau, witness, cosigned, own or Place(), ledger.heads[bureau].seq)

    async def _cosigned(self, bureau: str, witness: str) -> pb.HeadStatement | None:
        """What a witness has cosigned last, proven by this bureau's own signature and the witness's; None: nothing.

        Raises `CosignatureUnusable`, `SignatureNotProven`, `AioRpcError`, `NoEndpoint`, `PkiError`.
        """
        stub = CosignServiceStub(self._links.channel(witness))
        request = pb.GetCosignedRequest(bureau=bureau, witness=witness)
        answer = await stub.GetCosigned(request, timeout=ASK_SECONDS_MAX)
        if not answer.HasField("head"):
            return None
        return await asyncio.to_thread(proven_head, answer.head, bureau, witness, self._seal)

    async def _withhold(self, bureau: str, refuted: LedgerRefuted) -> None:
        if not isinstance(self._office.ledger.withheld.get(bureau), LedgerRefuted):
            _log.error(
                "A ledger is not the one that was cosigned, and takes no acts.",
                action="cosign.refuted",
                bureau=bureau,
                witness=refuted.witness,
                cosigned_seq=refuted.cosigned.seq,
                cosigned_hash=short(refuted.cosigned.hash),
                own_hash=short(refuted.own.hash),
                end=self._office.ledger.heads[bureau].seq,
            )
        self._proven.discard(bureau)
        self._office.ledger.withheld[bureau] = refuted
        await self._tell()

    async def _release(self, bureau: str) -> None:
        if self._office.ledger.withheld.pop(bureau, None) is not None:
            await self._tell()

    async def _tell(self) -> None:
        for told in self.listeners:
            await told()

    # ------------------------------------------------------------ showing

    async def step(self) -> bool:
        """Show every journal that has grown, or was not cosigned for long; never more to do at once."""
        self._follow_tree()
        await asyncio.gather(*(self._one(shown) for several in self.shown.values() for shown in several))
        await self._keep()
        self._show()
        self._loop.interval_seconds = self._interval_seconds * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - pacing
        return False

    async def _one(self, shown: Shown) -> None:
        async with self._slots:
            if not self._is_settled(shown.bureau):
                await self._prove(shown.bureau)
            elif not shown.answered:
                await self._ask(shown)
            if not shown.answered:
                return
            await self._show_all(shown)

    async def _show_all(self, shown: Shown) -> None:
        """Show a witness what it has not cosigned yet, as far as it cosigns it."""
        for _ in range(SHOWN_AT_ONCE_MAX):
            if not self._is_due(shown) or not await self._show_next(shown):
                return

    def _is_due(self, shown: Shown) -> bool:
        head = self._office.ledger.heads[shown.bureau]
        if head.seq == 0:
            return False
        refuted = isinstance(self._office.ledger.withheld.get(shown.bureau), LedgerRefuted)
        aged = time.monotonic() - shown.cosigned_at >= RENEW_SECONDS
        return refuted or aged or (head.generation, head.seq) != (shown.place.generation, shown.place.seq)

    async def _show_next(self, shown: Shown) -> bool:
        """Show one segment, or the bare head; whether there may be more to show at once."""
        request, stated = await asyncio.to_thread(self._statement, shown)
        shown.stated_at_us = stated.stated_at_us
        try:
            stub = CosignServiceStub(self._links.channel(shown.witness))
            answer = await stub.CosignHead(request, timeout=ASK_SECONDS_MAX)
            check_cosignature(answer.cosignature, answer.cosigned, stated, self._seal)
        except grpc.aio.AioRpcError as error:
            await self._not_cosigned(shown, error)
            return False
        except (NoEndpoint, PkiError) as failure:
            _note_away(shown, failure)
            return False
        except (CosignatureUnusable, Refused) as failure:
            _note_forged(shown, failure)
            return False
        COSIGNATURES.labels("cosigned").inc()
        shown.place, shown.cosigned_at = Place(stated.generation, stated.seq, stated.hash), time.monotonic()
        self._note_generation(shown.bureau, stated.generation)
        self._unkept[shown.witness, shown.bureau] = _seen(stated, request, answer)
        return True

    def _statement(self, shown: Shown) -> tuple[pb.CosignHeadRequest, pb.HeadStatement]:
        """What is shown next, read and signed: a segment and its end, or the bare head."""
        segment = self._next_segment(shown)
        place = _end_of(segment) if segment is not None else self._head(shown.bureau)
        now_us = to_micros(self._office.place.clock.now())
        stated = pb.HeadStatement(
            bureau=shown.bureau,
            generation=place.generation,
            seq=place.seq,
            hash=place.hash,
            witness=shown.witness,
            # Later than the one before, should the machine's clock have been set back since.
            stated_at_us=max(now_us, shown.stated_at_us + 1),
        )
        payload = stated.SerializeToString()
        signature = self._seal.sign(payload)
        return pb.CosignHeadRequest(statement=payload, signature=signature, segment=segment), stated

    def _head(self, bureau: str) -> Place:
        head = self._office.ledger.heads[bureau]
        return Place(head.generation, head.seq, head.hash)

    def _next_segment(self, shown: Shown) -> journal_pb2.Segment | None:
        """The entries after those that were cosigned; from where a new generation begins, where that is earlier."""
        database, after = self._office.ledger.database, shown.place.seq
        if shown.place.seq:
            opening = evidence.opening_after(database, shown.bureau, shown.place.generation)
            if opening is not None:
                after = min(after, opening[0] - 1)
        return queries.read_segment(
            database, shown.bureau, after, entries_max=SEGMENT_ENTRIES_MAX, bytes_max=SEGMENT_BYTES_MAX
        )

    async def _keep(self) -> None:
        """Write down what has been cosigned since, in one commit for all ledgers.

        Whatever is lost of it before, the witnesses have, and are asked at the next start.
        """
        unkept, self._unkept = self._unkept, {}
        if not unkept:
            return

        def run(draft: Draft) -> None:
            for seen in unkept.values():
                draft.put_cosigned(seen)

        try:
            await self._office.ledger.do(Work(run=run, bureau=next(iter(unkept.values())).bureau))
        except (WriterBusy, WriterStopped) as busy:
            # The witnesses have them; the next cosignatures are kept instead.
            _log.info("Cosignatures are not kept now.", action="cosign.busy", reason=type(busy).__name__)

    async def _not_cosigned(self, shown: Shown, error: grpc.aio.AioRpcError) -> None:
        """Take in that a witness has not cosigned: it is away, or has seen something else, which it must prove."""
        refusal = from_call(error)
        if refusal is None or refusal.rule not in {"HeadContradicted", "HeadUnfollowed", "StatementOvertaken"}:
            _note_away(shown, error)
            return
        contradicted = refusal.rule == "HeadContradicted"
        COSIGNATURES.labels("contradicted" if contradicted else "refused").inc()
        _log.warning(
            "A witness does not cosign a head.",
            action="cosign.refused",
            bureau=shown.bureau,
            witness=shown.witness,
            rule=refusal.rule,
            sentence=refusal.sentence.english,
        )
        await self._ask(shown)

    def _show(self) -> None:
        ledger, now = self._office.ledger, time.monotonic()
        AGE.set(max((now - one.cosigned_at for several in self.shown.values() for one in several), default=0.0))
        missing = 0
        for bureau, several in self.shown.items():
            if several:
                missing += max(0, ledger.heads[bureau].seq - max(one.place.seq for one in several))
        UNCOSIGNED.set(missing)
        refuted = sum(isinstance(one, LedgerRefuted) for one in ledger.withheld.values())
        REFUTED.set(refuted)
        UNPROVEN.set(sum(bureau not in self._proven and bureau not in ledger.withheld for bureau in self.shown))


def _seen(stated: pb.HeadStatement, request: pb.CosignHeadRequest, answer: pb.CosignHeadResponse) -> Seen:
    """A cosigned head as it is kept."""
    head = pb.CosignedHead(
        statement=request.statement,
        signature=request.signature,
        cosignature=answer.cosignature,
        cosigned=answer.cosigned,
    )
    return Seen(
        stated.witness,
        stated.bureau,
        stated.generation,
        stated.seq,
        stated.hash,
        stated.stated_at_us,
        pb.Cosignature.FromString(answer.cosignature).cosigned_at_us,
        head.SerializeToString(),
    )


def _end_of(segment: journal_pb2.Segment) -> Place:
    return Place(segment.generation, segment.first_seq + len(segment.entries) - 1, segment.last_hash)


def _note_away(shown: Shown, failure: Exception) -> None:
    reason = failure_of(failure).code if isinstance(failure, grpc.aio.AioRpcError) else type(failure).__name__
    COSIGNATURES.labels("away").inc()
    _log.info(
        "A witness does not answer; what it has not cosigned is shown again.",
        action="cosign.away",
        bureau=shown.bureau,
        witness=shown.witness,
        reason=reason,
    )


def _note_forged(shown: Shown, failure: Exception) -> None:
    COSIGNATURES.labels("forged").inc()
    _log.error(
        "A witness says what it cannot prove.",
        action="cosign.forged",
        bureau=shown.bureau,
        witness=shown.witness,
        reason=str(failure),
    )


def check_cosignature(
    cosignature: bytes, signature: referral_pb2.Signature, stated: pb.HeadStatement, seal: Seal
) -> None:
    """Returns if the witness has signed this very head; raises `CosignatureUnusable`, `SignatureNotProven`."""
    seal.check_kept(cosignature, signature, stated.witness)
    try:
        said = pb.Cosignature.FromString(cosignature)
    except DecodeError as failure:
        raise CosignatureUnusable(stated.witness, "it is no cosignature") from failure
    told = (said.witness, said.bureau, said.generation, said.seq, said.hash)
    if told != (stated.witness, stated.bureau, stated.generation, stated.seq, stated.hash):
        raise CosignatureUnusable(stated.witness, "it is of another head")


def proven_head(head: pb.CosignedHead, bureau: str, witness: str, seal: Seal) -> pb.HeadStatement:
    """The head that a witness has cosigned, on the word of the bureau itself and of the witness.

    Raises `CosignatureUnusable`, `SignatureNotProven`.
    """
    seal.check_kept(head.statement, head.signature, bureau)
    try:
        stated = pb.HeadStatement.FromString(head.statement)
    except DecodeError as failure:
        raise CosignatureUnusable(witness, "it is no statement") from failure
    if (stated.bureau, stated.witness) != (bureau, witness):
        raise CosignatureUnusable(witness, "it is a statement of or to another bureau")
    check_cosignature(head.cosignature, head.cosigned, stated, seal)
    return stated
