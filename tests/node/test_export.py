"""An exported ledger proves itself; whatever is done to it is named at the first entry that it was done to."""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509

from kuaixiang.domain.events import PrivateErased
from kuaixiang.runtime import pki
from kuaixiang.runtime.audit import Proven, Tampered, verify_export
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire import chain
from kuaixiang.wire.export import FIRST_LINE, ExportUnreadable, read_export, write_record
from kuaixiang.wire.v1 import cosign_pb2, export_pb2, journal_pb2
from node.archiving import archive_year
from node.export import export_ledger
from node.ledger import schema
from node.office import Office
from tests.domain.story import HANGZHOU, MONDAY, REFER, REGISTER, SHANGCHENG, ZHEJIANG
from tests.ledger.bureaus import BUREAUS, Desks, desks


@dataclass(frozen=True)
class Authority:
    """Certificates of an authority for the bureaus of one node."""

    folder: Path

    def __post_init__(self) -> None:
        pki.init_authority(self.folder / "authority", "test")
        pki.issue(self.folder / "authority", self.folder / "node", "node", BUREAUS)

    @property
    def paths(self) -> CertificatePaths:
        return CertificatePaths.in_folder(self.folder / "node")

    @property
    def pem(self) -> bytes:
        return self.paths.ca.read_bytes()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def opened(database_url: str, authority: Authority) -> Iterator[Desks]:
    with desks(database_url) as office:
        office.office = Office(office.ledger, office.office.place, Seal(authority.paths).sign)
        yield office


def exported(office: Desks, authority: Authority, bureau: str, *, private: bool = True) -> bytes:
    file = io.BytesIO()
    export_ledger(office.database, office.ledger.heads[bureau], file, authority.paths, private=private)
    return file.getvalue()


def verify(content: bytes, authority: Authority) -> Proven:
    return verify_export(io.BytesIO(content), authority.pem)


def found(content: bytes, authority: Authority) -> tuple[type[Exception], int]:
    """What is wrong with an export, and at which entry."""
    with pytest.raises((Tampered, ExportUnreadable)) as raised:
        verify(content, authority)
    bad = raised.value
    assert isinstance(bad, (Tampered, ExportUnreadable))
    assert bad.english
    assert bad.chinese
    return type(bad), bad.seq if isinstance(bad, Tampered) else bad.record


def entries_of(content: bytes) -> tuple[export_pb2.ExportHeader, list[export_pb2.ExportedEntry]]:
    header, entries = read_export(io.BytesIO(content))
    return header, list(entries)


def written(header: export_pb2.ExportHeader, entries: Sequence[export_pb2.ExportedEntry]) -> bytes:
    file = io.BytesIO()
    file.write(FIRST_LINE)
    for record in (header, *entries):
        write_record(file, record)
    return file.getvalue()


def linked_anew(entries: Sequence[export_pb2.ExportedEntry]) -> list[export_pb2.ExportedEntry]:
    """The entries with hashes to match, as a forger has them who has everything but the bureau's key."""
    head, copies = chain.GENESIS, [export_pb2.ExportedEntry.FromString(one.SerializeToString()) for one in entries]
    for seq, entry in enumerate(copies, start=1):
        entry.seq = seq
        head = entry.hash = chain.link(head, entry.generation, seq, entry.private_digest, entry.public)
    return copies


async def a_short_life(office: Desks) -> str:
    """Two cases of Shangcheng, one of them handed to Hangzhou, by a few entries in either ledger; the first one's id."""
    case_id = (await office.register()).case.case_id
    other = (await office.register()).case.case_id
    await office.do(SHANGCHENG, replace(REFER, final_bureau=HANGZHOU), other)
    chance = Random(1)
    while not office.ledger.heads[HANGZHOU].seq:
        await office.carry(chance)
    return case_id


async def test_a_whole_ledger_is_proven_with_and_without_what_is_private(opened: Desks, authority: Authority) -> None:
    await opened.live(3, 150)
    receipts = 0
    for bureau in BUREAUS:
        proven = verify(exported(opened, authority, bureau), authority)
        head = opened.ledger.heads[bureau]
        assert (bureau, head.generation, head.seq, head.hash) == (
            proven.bureau,
            proven.generation,
            proven.entries,
            proven.hash,
        )
        assert (0, 0) == (proven.private_unchecked, proven.private_erased)
        without = verify(exported(opened, authority, bureau, private=False), authority)
        assert (0, proven.private_checked) == (without.private_checked, without.private_unchecked)
        receipts += proven.receipts
    assert receipts > 0


async def test_without_private_parts_nothing_private_is_in_the_file(opened: Desks, authority: Authority) -> None:
    await a_short_life(opened)
    for private in (False, True):
        content = exported(opened, authority, SHANGCHENG, private=private)
        assert private is (REGISTER.taxpayer_name.encode() in content)
        assert private is (REGISTER.contact.encode() in content)


# A byte of a certificate's number may make it negative, of which its reader warns before it refuses the signature.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
async def test_every_change_of_one_byte_is_named_at_its_entry(opened: Desks, authority: Authority) -> None:
    if not opened.database.is_sqlite:
        pytest.skip("the file is the same whichever database it comes from")
    await a_short_life(opened)
    content = exported(opened, authority, HANGZHOU)
    assert verify(content, authority).receipts == 1
    header, entries = entries_of(content)
    sizes = [len(written(header, entries[:count])) for count in range(len(entries) + 1)]
    wrong = []
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        record = next(number for number, size in enumerate(sizes) if at < size)
        if found(bytes(changed), authority)[1] != record:
            wrong.append((at, record))
    assert [] == wrong


async def test_what_is_cut_doubled_moved_or_put_in_is_named(opened: Desks, authority: Authority) -> None:
    await a_short_life(opened)
    header, entries = entries_of(exported(opened, authority, SHANGCHENG))
    _, others = entries_of(exported(opened, authority, HANGZHOU))
    count = len(entries)
    assert count >= 4
    for at in range(count):
        assert (Tampered, at + 1) == found(written(header, entries[:at] + entries[at + 1 :]), authority)
        assert (Tampered, at + 1) == found(written(header, entries[:at]), authority)
        assert (Tampered, at + 2) == found(written(header, entries[: at + 1] + entries[at:]), authority)
    for at, after in itertools.combinations(range(count), 2):
        moved = list(entries)
        moved[at], moved[after] = moved[after], moved[at]
        assert (Tampered, at + 1) == found(written(header, moved), authority)
    assert (Tampered, 1) == found(written(header, others), authority)
    assert (Tampered, count) == found(written(header, linked_anew([*entries[:1], *entries])[:count]), authority)
    content = written(header, entries)
    for cut in range(1, 40):
        assert (ExportUnreadable, count) == found(content[:-cut], authority)


async def test_a_ledger_rewritten_with_its_hashes_is_not_the_one_that_was_signed(
    opened: Desks, authority: Authority
) -> None:
    await a_short_life(opened)
    header, entries = entries_of(exported(opened, authority, SHANGCHENG, private=False))
    public = journal_pb2.Entry.FromString(entries[1].public)
    public.actor = "somebody-else"
    entries[1].public = public.SerializeToString()
    assert (Tampered, len(entries)) == found(written(header, linked_anew(entries)), authority)
    public.bureau = HANGZHOU
    entries[1].public = public.SerializeToString()
    assert (Tampered, 2) == found(written(header, linked_anew(entries)), authority)


async def test_a_private_part_that_is_not_the_recorded_one_is_named(opened: Desks, authority: Authority) -> None:
    await a_short_life(opened)
    header, entries = entries_of(exported(opened, authority, SHANGCHENG))
    entries[0].private.CopyFrom(entries[1].private)
    assert (Tampered, 1) == found(written(header, entries), authority)
    entries[0].ClearField("private")
    assert (Tampered, 1) == found(written(header, entries), authority)


async def test_a_private_part_that_is_gone_is_only_right_where_an_entry_says_that_it_was_erased(
    opened: Desks, authority: Authority
) -> None:
    case_id = await a_short_life(opened)
    table = schema.PRIVATE
    with opened.database.writing.begin():
        opened.database.writing.execute(sa.delete(table).where(table.c.bureau == SHANGCHENG, table.c.seq == 1))
    assert (Tampered, 1) == found(exported(opened, authority, SHANGCHENG), authority)
    erased = PrivateErased(retention_years=5, ended_at=MONDAY - timedelta(days=2000), parts=1, files=0)
    await opened.office.record_note(SHANGCHENG, erased, case_id)
    proven = verify(exported(opened, authority, SHANGCHENG), authority)
    assert (1, 1) == (proven.private_erased, proven.private_checked - 1)
    assert 0 == verify(exported(opened, authority, SHANGCHENG, private=False), authority).private_erased


async def test_a_receipt_of_another_entry_or_one_too_few_is_named(opened: Desks, authority: Authority) -> None:
    await a_short_life(opened)
    await opened.register(HANGZHOU)
    header, entries = entries_of(exported(opened, authority, HANGZHOU))
    (with_receipt,) = [entry for entry in entries if entry.receipts]
    other = next(entry for entry in entries if not entry.receipts)
    other.receipts.extend(with_receipt.receipts)
    assert (Tampered, other.seq) == found(written(header, entries), authority)
    other.ClearField("receipts")
    with_receipt.ClearField("receipts")
    assert (Tampered, 0) == found(written(header, entries), authority)


async def test_another_authoritys_ledger_is_not_believed(opened: Desks, authority: Authority, tmp_path: Path) -> None:
    await a_short_life(opened)
    content = exported(opened, authority, SHANGCHENG)
    assert (Tampered, 0) == found(content, Authority(tmp_path / "stranger"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"kuaixiang-ledger-2\n",
        FIRST_LINE,
        FIRST_LINE + b"\xff" * 40,
        FIRST_LINE + b"\xff\xff\xff\x7f" + b"\0" * 100,
        FIRST_LINE + b"\x00",
        FIRST_LINE + b"\x80\x00",
        FIRST_LINE + b"\x05hello",
        b"\0" * 10_000,
    ],
)
def test_a_file_that_is_no_export_is_unreadable_and_costs_nothing(content: bytes, authority: Authority) -> None:
    kind, record = found(content, authority)
    assert 0 == record
    assert kind is (Tampered if content == FIRST_LINE + b"\x00" else ExportUnreadable)


def cosigned(office: Desks, authority: Authority, *, by: str = ZHEJIANG, hash_: bytes = b"") -> cosign_pb2.CosignedHead:
    """The end of Shangcheng's journal as a witness has cosigned it, kept in the ledger."""
    head, seal = office.ledger.heads[SHANGCHENG], Seal(authority.paths)
    names: Any = {"bureau": SHANGCHENG, "generation": head.generation, "seq": head.seq, "witness": HANGZHOU}
    statement = cosign_pb2.HeadStatement(**names, hash=head.hash, stated_at_us=1).SerializeToString()
    seen = cosign_pb2.Cosignature(**{**names, "witness": by}, hash=hash_ or head.hash).SerializeToString()
    made = cosign_pb2.CosignedHead(
        statement=statement, signature=seal.sign(statement), cosignature=seen, cosigned=seal.sign(seen)
    )
    row = (HANGZHOU, SHANGCHENG, head.generation, head.seq, head.hash, 1, 1, made.SerializeToString())
    with office.database.writing.begin():
        office.database.writing.execute(sa.delete(schema.COSIGNED))
        office.database.writing.execute(sa.insert(schema.COSIGNED).values(row))
    return made


async def test_what_a_witness_has_cosigned_is_checked_and_told(opened: Desks, authority: Authority) -> None:
    await a_short_life(opened)
    seq = opened.ledger.heads[SHANGCHENG].seq
    cosigned(opened, authority, by=HANGZHOU)
    await opened.register()
    content = exported(opened, authority, SHANGCHENG)
    assert ((HANGZHOU, seq),) == verify(content, authority).cosigned
    header, entries = entries_of(content)
    head = cosign_pb2.CosignedHead.FromString(entries[seq - 1].cosigned_heads[0])
    entries[seq - 1].ClearField("cosigned_heads")
    assert (Tampered, 0) == found(written(header, entries), authority)
    head.cosigned.value = head.signature.value
    entries[seq - 1].cosigned_heads.append(head.SerializeToString())
    assert (Tampered, seq) == found(written(header, entries), authority)


async def test_a_ledger_that_is_not_the_one_that_was_cosigned_is_named_at_the_cosigned_entry(
    opened: Desks, authority: Authority
) -> None:
    await a_short_life(opened)
    seq = opened.ledger.heads[SHANGCHENG].seq
    cosigned(opened, authority, by=HANGZHOU, hash_=bytes(32))
    assert (Tampered, seq) == found(exported(opened, authority, SHANGCHENG), authority)
    cosigned(opened, authority, by=ZHEJIANG)
    assert (Tampered, seq) == found(exported(opened, authority, SHANGCHENG), authority)


async def test_a_certificate_that_is_revoked_signs_for_no_end_and_no_witness_has_cosigned_by_it(
    opened: Desks, authority: Authority, tmp_path: Path
) -> None:
    await a_short_life(opened)
    pki.issue(authority.folder / "authority", tmp_path / "renewed", "node", BUREAUS)
    renewed = CertificatePaths.in_folder(tmp_path / "renewed")
    serial = x509.load_pem_x509_certificate(authority.paths.certificate.read_bytes()).serial_number
    cosigned(opened, authority, by=HANGZHOU)
    by_it = exported(opened, authority, SHANGCHENG)
    with pytest.raises(Tampered, match="revoked") as raised:
        verify_export(io.BytesIO(by_it), authority.pem, revoked={serial})
    assert 0 == raised.value.seq
    file = io.BytesIO()
    export_ledger(opened.database, opened.ledger.heads[SHANGCHENG], file, renewed, private=True)
    proven = verify_export(io.BytesIO(file.getvalue()), authority.pem, revoked={serial})
    assert (len(entries_of(by_it)[1]), ()) == (proven.entries, proven.cosigned)
    assert (HANGZHOU,) == tuple(witness for witness, _ in verify(file.getvalue(), authority).cosigned)


async def test_a_ledger_with_an_archive_is_exported_and_proven_as_before(
    database_url: str, authority: Authority
) -> None:
    with desks(database_url) as office:
        office.office = Office(office.ledger, office.office.place, Seal(authority.paths).sign)
        await a_short_life(office)
        whole = {bureau: exported(office, authority, bureau) for bureau in (SHANGCHENG, HANGZHOU)}
    office = Desks(database_url)
    try:
        went = list(archive_year(office.ledger, 2026, MONDAY + timedelta(days=366)))
        assert {SHANGCHENG, HANGZHOU} <= {one.bureau for one in went}
        for bureau, before in whole.items():
            content = exported(office, authority, bureau)
            assert entries_of(before)[1] == entries_of(content)[1]
            proven = verify(before, authority)
            assert proven == replace(verify(content, authority), exported_at=proven.exported_at)
    finally:
        office.ledger.close()
