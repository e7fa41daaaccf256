"""Restoring a ledger from a backup: what its witness has kept is put back, and the ledger goes on in a new generation.

For a node that does not run. The journal of the backup is followed along the one that was cosigned; where it ends, or
has another entry, the kept entries take over, up to the head that the bureau itself had signed and the witness
cosigned: their chain must end in its hash, or nothing is changed. Everything else is folded from the journal again,
and receipts that the missing entries had given are given anew, since a peer may ask for them.

What is private was in the lost database alone. Of cases that were handed over a neighbour has the request too and
gives it back; what nobody has is recorded as lost, case by case. The first entry of the new generation says where the
cosigned journal ended and where the backup did. Numbers of cases go on far beyond the last one known: acts that were
recorded after the last cosignature are lost without anybody knowing how many there were, and their numbers have been
told.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc.aio
import sqlalchemy as sa
from google.protobuf.json_format import MessageToDict

from kuaixiang.domain.case import Case
from kuaixiang.domain.events import CaseEvent, GenerationOpened, Private, PrivatePartsLost, SnapshotRestored
from kuaixiang.domain.witness import witnesses_of
from kuaixiang.runtime.clock import clock_from
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.trust import Trust
from kuaixiang.wire.chain import NO_PRIVATE
from kuaixiang.wire.codec import decode_private
from kuaixiang.wire.v1 import cosign_pb2 as pb
from kuaixiang.wire.v1 import journal_pb2, referral_pb2
from kuaixiang.wire.v1.cosign_pb2_grpc import CosignServiceStub
from node import office as offices
from node.directives import Directives
from node.federation.client import Links, NoEndpoint, failure_of
from node.federation.cosign import CASES_MAX
from node.federation.cosigner import ASK_SECONDS_MAX, CosignatureUnusable, proven_head
from node.ledger import blobs, evidence, queries, schema
from node.ledger.evidence import Place
from node.ledger.ledger import Draft, Ledger, Work
from node.office import Office
from node.settings import NodeSettings

NUMBERS_LEFT_OUT: Final = 100_000
"""Numbers of cases and of orders that a new generation leaves out: more than a large bureau gives in the longest time
that its witness could be away."""
RANGES_UNWITNESSED: Final = 1_000
"""Of so many ranges of numbers one is drawn for a ledger that nobody witnesses: two that were restored from the same
backup draw the same one in a thousandth of all cases, and a number then has nine digits at most."""
READ_SECONDS_MAX: Final = 3_600.0
"""A whole ledger from its witness, at some thousand entries a second."""

_J: Final = schema.JOURNAL.c


class NotRestored(Exception):
    """A ledger cannot be restored as it is asked; nothing was changed. `remedy` says what would help."""

    def __init__(self, bureau: str, why: str, remedy: str) -> None:
        self.bureau = bureau
        self.remedy = remedy
        super().__init__(f"The ledger of bureau {bureau} is not restored: {why}.")


@dataclass(frozen=True, slots=True)
class LostParts:
    """What is private of a case and was lost: of how many entries, and whether the request itself is gone."""

    case_id: str
    entries: int
    snapshot: bool
    from_bureau: str = ""
    """The neighbour that has given the request back; empty when none has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came of restoring one ledger."""

    bureau: str
    witness: str
    """The bureau whose word it was held to; empty for a ledger that nobody witnesses."""
    generation: int
    backup_seq: int
    """Where the backup ended."""
    cosigned: Place
    refilled: int
    """Entries that were put back."""
    missing: int
    """Entries that are known to be lost, because nobody has kept them."""
    set_aside: int
    """Entries of the backup that the cosigned journal denies; they are in the file that was asked for."""
    private: tuple[LostParts, ...]
    away: tuple[str, ...]
    """Neighbours that could not be asked for what is private."""


@dataclass(frozen=True, slots=True)
class _Filled:
    first_seq: int
    refilled: int
    set_aside: int


class Restoration:
    """Restores the ledgers of a node, one after the other. `aside` is where entries go that are set aside."""

    def __init__(
        self, office: Office, links: Links, seal: Seal, *, aside: Path | None = None, accept_loss: bool = False
    ) -> None:
        self._office = office
        self._links = links
        self._seal = seal
        self._aside = aside
        self._accept_loss = accept_loss

    @property
    def _ledger(self) -> Ledger:
        return self._office.ledger

    async def run(self) -> list[Restored]:
        """Restore every ledger of the node. Raises `NotRestored`; ledgers before that one are restored."""
        heads = {bureau: await self._cosigned(bureau) for bureau in self._ledger.bureaus}
        before = dict(self._ledger.heads)
        filled: dict[str, _Filled] = {}
        for bureau, (witness, cosigned) in heads.items():
            filled[bureau] = await self._fill(bureau, witness, cosigned)
        self._ledger.rebuild()
        self._ledger.start()
        return [
            await self._go_on(bureau, *heads[bureau], before[bureau].seq, filled[bureau])
            for bureau in self._ledger.bureaus
        ]

    # ------------------------------------------------------------ what was cosigned

    async def _cosigned(self, bureau: str) -> tuple[str, Place]:
        """The witness that has seen most of a ledger, and what it has cosigned last; raises `NotRestored`."""
        witnesses = witnesses_of(self._office.place.tree, bureau, self._ledger.bureaus)
        best = Place()
        whose = ""
        silent: list[str] = []
        for witness in witnesses:
            try:
                stub = CosignServiceStub(self._links.channel(witness))
                request = pb.GetCosignedRequest(bureau=bureau, witness=witness)
                answer = await stub.GetCosigned(request, timeout=ASK_SECONDS_MAX)
                stated = proven_head(answer.head, bureau, witness, self._seal) if answer.HasField("head") else None
            except grpc.aio.AioRpcError as error:
                silent.append(f"{witness}: {failure_of(error).code}")
                continue
            except (NoEndpoint, PkiError, CosignatureUnusable) as failure:
                silent.append(f"{witness}: {failure}")
                continue
            whose = whose or witness
            if stated is not None and (stated.generation, stated.seq) > (best.generation, best.seq):
                whose, best = witness, Place(stated.generation, stated.seq, stated.hash)
        if witnesses and not whose:
            raise NotRestored(
                bureau,
                f"no witness says what it has cosigned ({'; '.join(silent)})",
                "Call it again when the witness's node can be reached.",
            )
        return whose, best

    # ------------------------------------------------------------ the journal

    async def _fill(self, bureau: str, witness: str, cosigned: Place) -> _Filled:
        """Puts the cosigned entries in place that the backup lacks; raises `NotRestored`."""
        end = self._ledger.heads[bureau].seq
        nothing = _Filled(end + 1, 0, 0)
        if not cosigned.seq:
            return nothing
        opening = evidence.opening_after(self._ledger.database, bureau, cosigned.generation)
        if opening is not None:
            # It went on already in a generation that the witness has not seen yet.
            return nothing
        try:
            return await self._follow(bureau, witness, cosigned)
        except (grpc.aio.AioRpcError, NoEndpoint, PkiError, _Unproven) as failure:
            if self._accept_loss and end < cosigned.seq:
                return nothing
            reason = failure_of(failure).code if isinstance(failure, grpc.aio.AioRpcError) else str(failure)
            raise NotRestored(
                bureau,
                f"{witness} has cosigned it up to entry {cosigned.seq} and cannot give back what is missing ({reason})",
                "If nobody can, --accept-loss goes on from where the backup ends, and says what is lost.",
            ) from failure

    async def _follow(self, bureau: str, witness: str, cosigned: Place) -> _Filled:
        database, make = self._ledger.database, self._ledger.statements
        end = self._ledger.heads[bureau].seq
        at = self._known(bureau, witness)
        common, refilled, set_aside = True, 0, 0
        first = end + 1
        stub = CosignServiceStub(self._links.channel(witness))
        request = pb.ReadWitnessedRequest(bureau=bureau, witness=witness, from_seq=at.seq + 1)
        with database.writing.begin():
            async for answer in stub.ReadWitnessed(request, timeout=READ_SECONDS_MAX):
                segment = answer.segment
                if segment.first_seq != at.seq + 1 or segment.prev_hash != at.hash or not segment.entries:
                    raise _Unproven(f"what follows entry {at.seq} is missing")
                own = self._own(bureau, segment) if common else {}
                hashes = evidence.hashes_of(segment)
                rows: list[tuple[Any, ...]] = []
                for offset, (entry, hash_) in enumerate(zip(segment.entries, hashes, strict=True)):
                    seq = segment.first_seq + offset
                    same = common and own.get(seq) == (segment.generation, entry.public, entry.private_digest, hash_)
                    if not same:
                        if common:
                            common, first = False, seq
                            if database.archive.holds(bureau, seq):
                                raise NotRestored(
                                    bureau,
                                    f"entry {seq}, which is in its archive, is another one than was cosigned",
                                    "Put back a ledger with its archive as they were backed up together.",
                                )
                            set_aside = self._set_aside(bureau, seq)
                        rows.append(_row(bureau, Place(segment.generation, seq, hash_), entry, at.hash))
                    at = Place(segment.generation, seq, hash_)
                database.run(make.add_entry, rows)
                database.run(make.add_decision, self._decisions(bureau, rows))
                refilled += len(rows)
                if at.seq >= cosigned.seq:
                    break
            if at != cosigned:
                raise _Unproven(f"what it gives does not end in the head of entry {cosigned.seq}")
        return _Filled(first, refilled, set_aside)

    def _known(self, bureau: str, witness: str) -> Place:
        """Up to where the backup is known to be as it was cosigned: by the cosignature in it, and its own chain."""
        database = self._ledger.database
        kept = [one for one in evidence.cosigned(database) if (one.witness, one.bureau) == (witness, bureau)]
        place = Place(kept[0].generation, kept[0].seq, kept[0].hash) if kept else Place()
        if place.seq and evidence.chain_end(database, bureau, place.seq) == place:
            return place
        return Place()

    def _own(self, bureau: str, segment: journal_pb2.Segment) -> dict[int, tuple[int, bytes, bytes, bytes]]:
        """The backup's own entries at the positions of a segment, those in its archive included."""
        last = segment.first_seq + len(segment.entries) - 1
        query = sa.select(_J.seq, _J.generation, _J.public, _J.private_digest, _J.hash).where(
            _J.bureau == bureau, _J.seq >= segment.first_seq, _J.seq <= last
        )
        with self._ledger.database.reading() as connection:
            rows = connection.execute(query).all()
        return {
            row.seq: (row.generation, bytes(row.public), bytes(row.private_digest), bytes(row.hash)) for row in rows
        }

    def _set_aside(self, bureau: str, from_seq: int) -> int:
        """Takes the backup's entries from a position on out of the ledger, into the file; how many."""
        database = self._ledger.database
        private = schema.PRIVATE
        query = (
            sa.select(_J.seq, _J.generation, _J.kind, _J.public, private.c.sealed)
            .select_from(schema.JOURNAL.outerjoin(private, (private.c.bureau == _J.bureau) & (private.c.seq == _J.seq)))
            .where(_J.bureau == bureau, _J.seq >= from_seq)
            .order_by(_J.seq)
        )
        rows = database.writing.execute(query).all()
        if not rows:
            return 0
        if self._aside is None:
            raise NotRestored(
                bureau,
                f"{len(rows)} entries of the backup, from {from_seq} on, are other ones than those that were cosigned",
                "Give --set-aside FILE: they are written there, what is private included, for officers to enter again.",
            )
        lines = []
        referrals: list[str] = []
        for row in rows:
            entry = journal_pb2.Entry.FromString(bytes(row.public))
            opened = database.open_private(bureau, row.seq, bytes(row.sealed)) if row.sealed is not None else None
            if row.kind in {"received", "offer_declined"}:
                referrals.append(getattr(entry, row.kind).referral_id)
            lines.append(
                json.dumps(
                    {
                        "bureau": bureau,
                        "generation": row.generation,
                        "seq": row.seq,
                        "kind": row.kind,
                        "entry": MessageToDict(entry, preserving_proto_field_name=True),
                        "private": MessageToDict(
                            journal_pb2.Private.FromString(opened), preserving_proto_field_name=True
                        )
                        if opened is not None
                        else None,
                    },
                    ensure_ascii=False,
                )
            )
        _append_privately(self._aside, lines)
        for table in (schema.JOURNAL, private, schema.REQUESTS, schema.ATTESTATIONS):
            # What was done under a key by an entry that is set aside has not been done.
            database.writing.execute(sa.delete(table).where(table.c.bureau == bureau, table.c.seq >= from_seq))
        decisions = schema.DECISIONS.c
        database.writing.execute(
            sa.delete(schema.DECISIONS).where(decisions.bureau == bureau, decisions.referral_id.in_(referrals))
        )
        cursors = schema.CURSORS.c
        database.writing.execute(
            sa.update(schema.CURSORS)
            .where(cursors.bureau == bureau, cursors.published_seq >= from_seq)
            .values(published_seq=from_seq - 1)
        )
        # Nobody outside is told of what is set aside, and everybody of what comes in its place.
        owed, seen = schema.CALLBACKS, schema.CALLBACK_CURSORS
        database.writing.execute(sa.delete(owed).where(owed.c.bureau == bureau, owed.c.seq >= from_seq))
        database.writing.execute(
            sa.update(seen).where(seen.c.bureau == bureau, seen.c.seq >= from_seq).values(seq=from_seq - 1)
        )
        return len(rows)

    def _decisions(self, bureau: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, str, bytes]]:
        """The receipts that some entries had given, signed anew: what they decide is in the entries."""
        found = []
        for row in rows:
            seq, generation, kind, public, hash_ = row[1], row[2], row[5], row[9], row[12]
            if kind not in {"received", "offer_declined"}:
                continue
            entry = journal_pb2.Entry.FromString(public)
            event: Any = getattr(entry, kind)
            accepted = kind == "received"
            decision = referral_pb2.Decision(
                referral_id=event.referral_id,
                case_id=entry.case_id,
                epoch=entry.epoch if accepted else event.offer_epoch,
                accepted=accepted,
                refusal=0 if accepted else event.refusal,  # type: ignore[arg-type]
                seq=seq,
                hash=hash_,
                bureau=bureau,
                generation=generation,
            ).SerializeToString()
            receipt = referral_pb2.Receipt(decision=decision, signature=self._seal.sign(decision))
            found.append((bureau, event.referral_id, receipt.SerializeToString()))
        return found

    # ------------------------------------------------------------ the new generation, and what is private

    async def _go_on(self, bureau: str, witness: str, cosigned: Place, backup_seq: int, filled: _Filled) -> Restored:
        ledger = self._ledger
        head = ledger.heads[bureau]
        lost = await asyncio.to_thread(self._lost, bureau, filled)
        # Nobody stops a second ledger that is restored from the same backup where there is no witness: then at least it
        # is most unlikely to give the same numbers.
        left_out = NUMBERS_LEFT_OUT if witness else NUMBERS_LEFT_OUT * (1 + secrets.randbelow(RANGES_UNWITNESSED))
        event = GenerationOpened(
            witness=witness,
            cosigned_generation=cosigned.generation,
            cosigned_seq=cosigned.seq,
            cosigned_hash=cosigned.hash,
            backup_seq=backup_seq,
            set_aside=filled.set_aside,
            cases_numbered=head.cases_registered + left_out,
            orders_numbered=head.orders_issued + left_out,
            nonce=secrets.token_hex(8),
        )

        def run(draft: Draft) -> None:
            draft.open_generation(self._office.system_context(bureau), event)

        await ledger.do(Work(run=run, bureau=bureau))
        given, away = await self._ask_neighbours(bureau, {case.case_id: case for case, part in lost if part.snapshot})
        noted = [await self._note(bureau, part, given.get(part.case_id)) for _, part in lost]
        return Restored(
            bureau=bureau,
            witness=witness,
            generation=ledger.heads[bureau].generation,
            backup_seq=backup_seq,
            cosigned=cosigned,
            refilled=filled.refilled,
            missing=max(0, cosigned.seq - head.seq) if head.generation == cosigned.generation else 0,
            set_aside=filled.set_aside,
            private=tuple(noted),
            away=away,
        )

    def _lost(self, bureau: str, filled: _Filled) -> list[tuple[Case, LostParts]]:
        """The cases of which something private is in entries that were put back without it."""
        if not filled.refilled:
            return []
        database = self._ledger.database
        query = sa.select(_J.case_id, _J.version).where(
            _J.bureau == bureau,
            _J.seq >= filled.first_seq,
            _J.seq < filled.first_seq + filled.refilled,
            _J.private_digest != NO_PRIVATE,
        )
        versions: dict[str, list[int]] = {}
        with database.reading() as connection:
            for row in connection.execute(query):
                versions.setdefault(row.case_id, []).append(row.version)
        found = []
        for case_id, lost in sorted(versions.items()):
            case = queries.one_case(database, bureau, case_id)
            if case is not None:
                found.append((case, LostParts(case_id, len(lost), case.snapshot_version in lost)))
        return found

    async def _ask_neighbours(
        self, bureau: str, cases: dict[str, Case]
    ) -> tuple[dict[str, tuple[str, Private]], tuple[str, ...]]:
        """What neighbours give back of some cases, and those of them that do not answer."""
        given: dict[str, tuple[str, Private]] = {}
        away: list[str] = []
        peers = sorted({peer for case in cases.values() for peer in case.neighbour_bureaus})
        for peer in peers:
            wanted = [
                case_id for case_id, case in cases.items() if peer in case.neighbour_bureaus and case_id not in given
            ]
            for start in range(0, len(wanted), CASES_MAX):
                request = pb.ReadHandedOverRequest(bureau=peer, peer=bureau, case_ids=wanted[start : start + CASES_MAX])
                try:
                    stub = CosignServiceStub(self._links.channel(peer))
                    answer = await stub.ReadHandedOver(request, timeout=ASK_SECONDS_MAX)
                except (grpc.aio.AioRpcError, NoEndpoint, PkiError):
                    away.append(peer)
                    break
                for one in answer.cases:
                    if one.case_id in wanted:
                        given[one.case_id] = (peer, decode_private(one.private.SerializeToString()))
        return given, tuple(away)

    async def _note(self, bureau: str, part: LostParts, given: tuple[str, Private] | None) -> LostParts:
        """Records on a case what of it was given back and what is lost."""
        private = await asyncio.to_thread(self._with_files_held, given[1]) if given is not None else None
        left = part.entries - (given is not None)

        def run(draft: Draft) -> None:
            case = draft.case(bureau, part.case_id)
            if case is None:
                return
            standing: dict[str, Any] = {"stage": case.stage, "custody": case.custody, "epoch": case.epoch}
            found: list[CaseEvent] = []
            if given is not None:
                found.append(SnapshotRestored(**standing, from_bureau=given[0], private=private))
            if left:
                found.append(PrivatePartsLost(**standing, entries=left, snapshot=part.snapshot and given is None))
            draft.record(self._office.system_context(bureau, case), part.case_id, found, case=case)

        await self._ledger.do(Work(run=run, bureau=bureau, case_id=part.case_id))
        return replace(part, from_bureau=given[0]) if given is not None else part

    def _with_files_held(self, private: Private) -> Private:
        """The request with those of its files whose content is in this database."""
        with self._ledger.database.reading() as connection:
            held = blobs.find(connection, {attachment.digest for attachment in private.attachments})
        files = tuple(one for one in private.attachments if one.digest in held and held[one.digest].complete)
        return replace(private, attachments=files)


async def restore(settings: NodeSettings, *, aside: Path | None, accept_loss: bool) -> list[Restored]:
    """Restore the ledgers of a node that does not run.

    Raises `NotRestored`, and for what cannot be opened `DatabaseError`, `VaultError`, `PkiError`, `ClockError`.
    """
    place = offices.Place(settings.load_tree(), settings.load_calendar(), settings.rules, clock_from(settings.clock))
    ledger = await asyncio.to_thread(Ledger, settings.database, settings.bureaus, settings.data_key)
    try:
        seal = Seal(settings.certificate_paths, Trust(settings.certificate_paths, place.trees))
        office = Office(ledger, place, seal.sign)
        # The tree and the calendar that the ledger has adopted, as in a node that serves.
        Directives(office, seal)
        async with Links(place.trees, settings.certificate_paths) as links:
            return await Restoration(office, links, seal, aside=aside, accept_loss=accept_loss).run()
    finally:
        await asyncio.to_thread(ledger.close)


class _Unproven(Exception):
    """What a witness gives back is not what it has cosigned."""


def _row(bureau: str, at: Place, sealed: journal_pb2.SegmentEntry, before: bytes) -> tuple[Any, ...]:
    """An entry as the journal keeps it: everything but the chain is in its public part."""
    entry = journal_pb2.Entry.FromString(sealed.public)
    return (
        bureau,
        at.seq,
        at.generation,
        entry.case_id,
        entry.version,
        str(entry.WhichOneof("event")),
        entry.recorded_at_us,
        entry.occurred_at_us,
        entry.actor,
        sealed.public,
        sealed.private_digest,
        before,
        at.hash,
    )


def _append_privately(path: Path, lines: Sequence[str]) -> None:
    """Adds lines to a file that nobody else can read; they are on the disk when this returns."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(opened, "a", encoding="utf-8") as file:
        # One that was there already may have been open to others.
        os.fchmod(opened, 0o600)
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
