"""Proving an exported ledger: complete and untampered, or which entry is the first that is not. Offline, in one pass.

What is proven. Every entry stands where the hash chain has it, and is of the bureau that the export is of; the end is
the one that the bureau has signed, by a certificate of the authority that whoever checks trusts; private parts that
came along are those whose digests are in the chain; those that did not are told as not checked, or as erased or lost by
an entry that says so; every receipt that came along was signed by the bureau and names the entry as it is; every
cosigned head by the bureau and its witness, likewise; and what was recorded on the word of a bureau further away, an
order, a ruling or a report, says what that bureau has signed, where its word came along.

What is not. That the bureau itself has not written its ledger anew and signed that, behind the last cosigned head; and
that what is recorded is what happened.

A certificate that is known to be revoked (`revoked`) signs for no end, and no witness has cosigned by it. What it has
signed below an end that is signed by another one stands: the chain holds it, and receipts are kept as they were given.

Memory is that of one entry, and some hundred bytes for each case whose private part is erased.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import DecodeError

from kuaixiang.runtime import signing
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.revocation import serial_text
from kuaixiang.runtime.tls import Peer
from kuaixiang.wire import chain
from kuaixiang.wire.export import ExportUnreadable, read_export
from kuaixiang.wire.v1 import common_pb2, cosign_pb2, export_pb2, journal_pb2, referral_pb2, supervision_pb2

TOLD_EVERY: Final = 10_000
"""Entries between two words on how far it is."""


class Tampered(Exception):
    """An exported ledger is not what its bureau has recorded and signed; `seq` is the first bad entry, 0 the header."""

    def __init__(self, seq: int, english: str, chinese: str) -> None:
        self.seq = seq
        self.english = english
        self.chinese = chinese
        super().__init__(f"entry {seq}: {english}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What has been proven of an exported ledger, counted in what was checked."""

    bureau: str
    generation: int
    entries: int
    hash: bytes
    exported_at: datetime
    private_checked: int
    private_unchecked: int
    """Private parts that the file leaves out, as it says."""
    private_erased: int
    """Private parts that were erased, each by an entry that says so."""
    private_lost: int
    """Private parts that were lost with a database, each by an entry that says so."""
    receipts: int
    attested: int
    """Words of bureaus further away that are signed by those, and that the entries say the same as."""
    unattested: int
    """Orders and rulings of bureaus further away for which there is only their neighbour's word."""
    cosigned: tuple[tuple[str, int], ...]
    """Each witness that has cosigned the ledger as it is here, and up to which entry."""


def verify_export(
    file: IO[bytes],
    authority_pem: bytes,
    told: Callable[[int], None] = lambda _: None,
    *,
    revoked: Collection[int] = frozenset(),
) -> Proven:
    """Proves the ledger in the file, as far as the authorities in `authority_pem` are trusted.

    `told` is given how many entries are checked, now and then; `revoked` are serials of certificates. Raises
    `Tampered`, `ExportUnreadable`.
    """
    header, entries = read_export(file)
    check = _Check(_statement_of(header, authority_pem, revoked), authority_pem, revoked)
    for entry in entries:
        check.entry(entry)
        if check.seq % TOLD_EVERY == 0:
            told(check.seq)
    return check.end()


def fingerprints(authority_pem: bytes) -> list[bytes]:
    """SHA-256 of each authority's certificate."""
    return [
        hashlib.sha256(one.public_bytes(serialization.Encoding.DER)).digest()
        for one in x509.load_pem_x509_certificates(authority_pem)
    ]


def _statement_of(
    header: export_pb2.ExportHeader, authority_pem: bytes, revoked: Collection[int]
) -> export_pb2.ExportStatement:
    try:
        statement = export_pb2.ExportStatement.FromString(header.statement)
        at = from_micros(statement.exported_at_us)
    except (DecodeError, OverflowError, ValueError):
        raise ExportUnreadable(0, "its statement cannot be read", "声明无法读取") from None
    signature = signing.Signature(header.signature.certificate_der, header.signature.value)
    try:
        signer = signing.verify(header.statement, signature, statement.bureau, authority_pem, at)
        if signer.serial in revoked:
            # Whoever has its key may have written the whole of the file, and any day into it.
            raise signing.RevokedSigner(serial_text(signer.serial))
    except signing.SignatureRefused as why:
        raise Tampered(
            0, f"the bureau's signature of the journal's end does not hold: {why}", f"台账末尾的签名无效：{why.chinese}"
        ) from why
    return statement


@dataclass(frozen=True, slots=True)
class _Order:
    """Of a supervision order that an export has: who has issued it, whom it is for, and its wording."""

    issuer: str
    receiver: str
    nonce: str
    text: str | None
    """None where the export does not have it."""


def _named_from_afar(event: object) -> bool:
    """Whether an entry names somebody who is not the neighbour that brought it as the one who has ordered or ruled."""
    if isinstance(event, journal_pb2.OrderReceived):
        return event.issuer != event.from_bureau
    return isinstance(event, journal_pb2.Received) and event.ruled_by not in {"", event.from_bureau}


def _says(word: supervision_pb2.Attestation, public: journal_pb2.Entry, event: object, order: _Order | None) -> bool:
    """Whether a bureau's word says what an entry says."""
    match word.WhichOneof("said"), event:
        case "ruling", journal_pb2.Received():
            ruling, epoch = word.ruling, public.epoch - len(event.path) + 1
            said = (word.bureau, ruling.case_id, ruling.final_bureau, ruling.epoch)
            return said == (event.ruled_by, public.case_id, event.final_bureau, epoch)
        case "order", journal_pb2.OrderReceived():
            told = word.order
            said_of_it = (word.bureau, told.order_id, told.nonce, told.level, told.final_bureau, told.step)
            recorded = (event.issuer, public.case_id, event.nonce, event.level, event.final_bureau, event.step)
            more = (list(told.case_ids), told.answer_workdays, told.issued_at_us)
            return said_of_it == recorded and more == (list(event.case_ids), event.answer_workdays, event.issued_at_us)
        case "order", (
            journal_pb2.OrderAnswerReturned() | journal_pb2.OrderClosed() | journal_pb2.OrderCancelled()
        ) if order:
            told = word.order
            stage = _STATED[type(event)]
            return (word.bureau, told.order_id, told.nonce, told.step, told.stage) == (
                order.issuer,
                public.case_id,
                order.nonce,
                event.step,
                stage,
            )
        case "report", (journal_pb2.OrderArrived() | journal_pb2.OrderAcknowledged() | journal_pb2.OrderAnswered()) if (
            order
        ):
            reported = word.report
            return (word.bureau, reported.order_id, reported.nonce, reported.step) == (
                order.receiver,
                public.case_id,
                order.nonce,
                event.step,
            )
        case _:
            return False


def _worded(word: supervision_pb2.Attestation, salt: bytes, order: _Order | None, private: journal_pb2.Private) -> bool:
    """Whether the texts that an entry has are those that the bureau has signed by their digest."""
    match word.WhichOneof("said"):
        case "order":
            if order is None or order.text is None:
                return True
            texts = (order.text, private.note)
        case "report":
            texts = (private.note, private.text)
        case _:
            return True
    return chain.texts_digest(salt, *texts) == word.private_digest


_STATED: Final = {
    journal_pb2.OrderAnswerReturned: common_pb2.ORDER_STAGE_RETURNED,
    journal_pb2.OrderClosed: common_pb2.ORDER_STAGE_CLOSED,
    journal_pb2.OrderCancelled: common_pb2.ORDER_STAGE_CANCELLED,
}
"""What the issuer has said of its order by each of these entries."""


class _Check:
    """The entries so far, and what the next one must be."""

    def __init__(self, statement: export_pb2.ExportStatement, authority_pem: bytes, revoked: Collection[int]) -> None:
        self.seq = 0
        self._said = statement
        self._authority_pem = authority_pem
        self._revoked = revoked
        self._hash = chain.GENESIS
        self._generation = 0
        self._checked = self._unchecked = self._erased = self._lost = self._receipts = 0
        self._cosigned: dict[str, int] = {}
        self._cosigned_heads = self._attested = self._unattested = 0
        self._orders: dict[str, _Order] = {}
        self._missing: dict[str, tuple[int, int]] = {}
        """Of each case with private parts that are not kept: the first of them, and how many."""

    def entry(self, entry: export_pb2.ExportedEntry) -> None:
        """The next entry. Raises `Tampered`."""
        self.seq += 1
        if entry.seq != self.seq:
            raise self._bad(
                f"it is not there; entry {entry.seq} stands in its place", f"缺失，其位置上是第 {entry.seq} 条"
            )
        if self.seq > self._said.seq:
            raise self._bad("it lies behind the end that the bureau has signed", "位于单位签名的末尾之后")
        if not self._generation <= entry.generation <= self._said.generation or entry.generation == 0:
            raise self._bad(
                f"it is of generation {entry.generation}, the one before it of {self._generation}",
                f"世代为 {entry.generation}，而前一条为 {self._generation}",
            )
        linked = chain.link(self._hash, entry.generation, entry.seq, entry.private_digest, entry.public)
        if linked != entry.hash:
            raise self._bad("it, or the hash of it, is not what the chain has", "内容或哈希与链不符")
        self._hash, self._generation = linked, entry.generation
        try:
            public = journal_pb2.Entry.FromString(entry.public)
        except DecodeError:
            raise self._bad("it cannot be read", "无法读取") from None
        if public.bureau != self._said.bureau:
            raise self._bad(f"it is of bureau {public.bureau}", f"属于单位 {public.bureau}")
        self._private(entry, public)
        for receipt in entry.receipts:
            self._receipt(receipt, entry)
        for head in entry.cosigned_heads:
            self._cosigned_head(head, entry)
        self._words(entry, public)

    def end(self) -> Proven:
        """After the last entry. Raises `Tampered`."""
        said = self._said
        if self.seq < said.seq:
            self.seq += 1
            raise self._bad(f"it is not there; the journal has {said.seq} entries", f"缺失；台账共有 {said.seq} 条")
        if (self._hash, self._generation if self.seq else said.generation) != (said.hash, said.generation):
            raise self._bad("it is not the end that the bureau has signed", "不是单位签名的末尾")
        if self._missing:
            first = min(seq for seq, _ in self._missing.values())
            raise Tampered(
                first, "its private part is gone, and no entry says that it was erased", "隐私内容缺失，且无删除记录"
            )
        has = (self._checked, self._receipts, self._cosigned_heads, self._attested)
        signed_for = (said.private_parts, said.receipts, said.cosigned_heads, said.attestations)
        if has != signed_for:
            words = "{} private parts, {} receipts, {} cosigned heads and {} words of other bureaus"
            chinese = "隐私内容 {} 项、回执 {} 份、见证 {} 份、他单位自签原文 {} 份"
            raise Tampered(
                0,
                f"the file has {words.format(*has)}; signed for are {words.format(*signed_for)}",
                f"文件含{chinese.format(*has)}，而单位签名的是{chinese.format(*signed_for)}",
            )
        return Proven(
            bureau=said.bureau,
            generation=said.generation,
            entries=self.seq,
            hash=self._hash,
            exported_at=from_micros(said.exported_at_us),
            private_checked=self._checked,
            private_unchecked=self._unchecked,
            private_erased=self._erased,
            private_lost=self._lost,
            receipts=self._receipts,
            attested=self._attested,
            unattested=self._unattested,
            cosigned=tuple(sorted(self._cosigned.items())),
        )

    def _private(self, entry: export_pb2.ExportedEntry, public: journal_pb2.Entry) -> None:
        if public.HasField("private_erased"):
            _, parts = self._missing.pop(public.case_id, (0, 0))
            self._erased += parts
        elif public.HasField("private_parts_lost"):
            _, parts = self._missing.pop(public.case_id, (0, 0))
            self._lost += parts
        if entry.HasField("private"):
            if not self._said.with_private:
                raise self._bad(
                    "it has a private part in an export without them", "导出声明不含隐私内容，却带有隐私内容"
                )
            if chain.private_digest(entry.private.salt, entry.private.payload) != entry.private_digest:
                raise self._bad("its private part is not the one that was recorded", "隐私内容与记录时不符")
            self._checked += 1
        elif entry.private_digest != chain.NO_PRIVATE:
            if not self._said.with_private:
                self._unchecked += 1
                return
            first, parts = self._missing.get(public.case_id, (self.seq, 0))
            self._missing[public.case_id] = (first, parts + 1)

    def _receipt(self, receipt: bytes, entry: export_pb2.ExportedEntry) -> None:
        try:
            kept = referral_pb2.Receipt.FromString(receipt)
            decision = referral_pb2.Decision.FromString(kept.decision)
        except DecodeError:
            raise self._bad("a receipt given by it cannot be read", "所附回执无法读取") from None
        named = (decision.bureau, decision.generation, decision.seq, decision.hash)
        if named != (self._said.bureau, entry.generation, entry.seq, entry.hash):
            raise self._bad("a receipt given by it is of another entry", "所附回执属于另一条记录")
        self._proves(kept.decision, kept.signature, self._said.bureau, "a receipt given by it", "所附回执")
        self._receipts += 1

    def _cosigned_head(self, head: bytes, entry: export_pb2.ExportedEntry) -> None:
        try:
            kept = cosign_pb2.CosignedHead.FromString(head)
            stated = cosign_pb2.HeadStatement.FromString(kept.statement)
            seen = cosign_pb2.Cosignature.FromString(kept.cosignature)
        except DecodeError:
            raise self._bad("a cosigned head at it cannot be read", "所附见证无法读取") from None
        here = (self._said.bureau, entry.generation, entry.seq, entry.hash)
        if {(one.bureau, one.generation, one.seq, one.hash) for one in (stated, seen)} != {here}:
            raise self._bad("its witness has cosigned another entry in its place", "见证单位见证的是另一条记录")
        if stated.witness != seen.witness:
            raise self._bad("a cosigned head at it names two witnesses", "所附见证的见证单位不一致")
        self._proves(kept.statement, kept.signature, self._said.bureau, "a cosigned head at it", "所附见证")
        signer = self._proves(kept.cosignature, kept.cosigned, seen.witness, "a cosigned head at it", "所附见证")
        if signer.serial not in self._revoked:
            self._cosigned[seen.witness] = entry.seq
        self._cosigned_heads += 1

    def _words(self, entry: export_pb2.ExportedEntry, public: journal_pb2.Entry) -> None:
        """Each word that came with an entry is that bureau's, and says what the entry says."""
        kind = public.WhichOneof("event")
        event = getattr(public, str(kind)) if kind is not None else None
        private = journal_pb2.Private()
        if entry.HasField("private"):
            try:
                private = journal_pb2.Private.FromString(entry.private.payload)
            except DecodeError:
                raise self._bad("its private part cannot be read", "隐私内容无法读取") from None
        has_texts = entry.HasField("private") or entry.private_digest == chain.NO_PRIVATE
        text = private.text if has_texts else None
        if isinstance(event, journal_pb2.OrderReceived):
            self._orders[public.case_id] = _Order(event.issuer, event.final_bureau, event.nonce, text)
        elif isinstance(event, journal_pb2.OrderIssued):
            self._orders[public.case_id] = _Order(public.bureau, event.final_bureau, event.nonce, text)
        named = _named_from_afar(event)
        for came in entry.attestations:
            try:
                signed = referral_pb2.SignedAttestation.FromString(came)
                word = supervision_pb2.Attestation.FromString(signed.attestation)
            except DecodeError:
                raise self._bad("another bureau's word for it cannot be read", "所附他单位自签原文无法读取") from None
            order = self._orders.get(public.case_id)
            worded = not (signed.salt and has_texts) or _worded(word, signed.salt, order, private)
            if not (worded and _says(word, public, event, order)):
                raise self._bad("another bureau's word for it says something else", "所附他单位自签原文与记录不符")
            self._proves(
                signed.attestation, signed.signature, word.bureau, "another bureau's word for it", "所附他单位自签原文"
            )
            self._attested += 1
        if named and not entry.attestations:
            self._unattested += 1

    def _proves(
        self, payload: bytes, signature: referral_pb2.Signature, bureau: str, english: str, chinese: str
    ) -> Peer:
        """Who has signed it for the bureau, by a certificate of the authority; when, the signature does not say."""
        shown = signing.Signature(signature.certificate_der, signature.value)
        at = from_micros(self._said.exported_at_us)
        try:
            try:
                return signing.verify(payload, shown, bureau, self._authority_pem, at)
            except signing.CertificateNotValid as other:
                return signing.verify(payload, shown, bureau, self._authority_pem, other.ends)
        except signing.SignatureRefused as why:
            raise self._bad(f"{english} is not proven: {why}", f"{chinese}的签名无效：{why.chinese}") from why

    def _bad(self, english: str, chinese: str) -> Tampered:
        return Tampered(self.seq, english, chinese)
