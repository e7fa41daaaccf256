"""Private data at rest: sealed under a key that is not in the database, moved nowhere, rotated in steps."""

import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.domain.errors import EntryUnreadable, KeyReused
from kuaixiang.runtime.vault import (
    DataKey,
    KeyFile,
    KeyFileOpen,
    KeyFileUnusable,
    KeyMissing,
    SealBroken,
    Vault,
    mode_open,
)
from node.ledger import queries, schema, sealing
from node.ledger.blobs import CHUNK_BYTES
from node.ledger.database import LedgerDatabase
from node.ledger.queries import CaseFilter
from node.ledger.search import read_search
from tests.domain.story import REGISTER, SHANGCHENG
from tests.ledger.bureaus import Desks, check_journal, desks, table_rows
from tests.ledger.older import unseal

CONTENT = "附件内容 the content of a file ".encode() * 20_000
SECRET = replace(REGISTER, channel_reference="13912345678-0001")
PLANTED = (SECRET.taxpayer_name, SECRET.contact, SECRET.text[:6], SECRET.channel_reference, CONTENT[:30].decode())


PROCESSES = 8


async def fill(office: Desks) -> str:
    """A case with everything that is private, and its number."""
    case_id = (await office.do(SHANGCHENG, SECRET, request_key="the-key")).case.case_id
    await office.attach(SHANGCHENG, CONTENT, case_id)
    return case_id


def finds(office: Desks, words: str) -> list[str]:
    wanted = CaseFilter(bureau=SHANGCHENG, pieces=read_search(words))
    return [case.case_id for case in queries.list_cases(office.database, wanted, 10, "")[0]]


def everything(database: LedgerDatabase) -> bytes:
    """All that the database keeps, as bytes: its rows, and SQLite's own files."""
    rows = b"\n".join(
        value if isinstance(value, bytes) else bytes(value) if isinstance(value, memoryview) else str(value).encode()
        for table in schema.METADATA.sorted_tables
        for row in table_rows(database, table)
        for value in row
    )
    if not database.is_sqlite:
        return rows
    path = Path(sa.make_url(database.name).database or "")
    return rows + b"".join(Path(f"{path}{side}").read_bytes() for side in ("", "-wal"))


def key_ids(database: LedgerDatabase) -> set[bytes]:
    """The keys of all that is sealed."""
    tables = {schema.PRIVATE: "sealed", schema.REQUESTS: "digest", schema.BLOB_CHUNKS: "data"}
    with database.reading() as connection:
        return {
            bytes(value)[:4]
            for table, column in tables.items()
            for value in connection.execute(sa.select(table.c[column])).scalars()
        }


async def holds(office: Desks, case_id: str) -> None:
    """The ledger is whole: chain, text, file, search, reference and request key."""
    check_journal(office.database, SHANGCHENG)
    private = queries.private_of(office.database, SHANGCHENG, case_id, 1)
    assert private is not None
    assert SECRET.text == private.text
    for words in (SECRET.taxpayer_name, SECRET.contact, case_id):
        assert [case_id] == finds(office, words)
    digest = queries.attachments_of(office.database, await office.office.read_case(SHANGCHENG, case_id))[0].digest
    pieces = [piece async for piece in office.office.read_attachment(SHANGCHENG, case_id, digest)]
    assert CONTENT == b"".join(pieces)
    assert case_id == (await office.do(SHANGCHENG, SECRET, request_key="the-key")).case.case_id
    assert case_id == (await office.do(SHANGCHENG, SECRET)).case.case_id
    with pytest.raises(KeyReused):
        await office.do(SHANGCHENG, replace(SECRET, text="又一件诉求"), request_key="the-key")


async def test_neither_rows_nor_files_nor_the_log_show_what_is_private(kept: str) -> None:
    with desks(kept) as office:
        await fill(office)
        found = everything(office.database)
        assert [] == [text for text in PLANTED if text.encode() in found]
        assert SECRET.taxpayer_name[:2].encode() not in found


async def test_a_new_ledger_makes_a_key_that_its_owner_alone_can_read(kept: str, key_file: Path) -> None:
    with desks(kept) as office:
        case_id = await fill(office)
    assert 0o600 == stat.S_IMODE(key_file.stat().st_mode)
    with desks(kept) as again:
        await holds(again, case_id)


@pytest.mark.parametrize(
    ("mode", "of_the_service", "is_open"),
    [(0o600, 1000, 0), (0o640, 1000, 0), (0o660, 1000, 0o660), (0o644, 1000, 0o644), (0o640, 0, 0o640)],
)
def test_a_key_of_root_s_may_be_read_by_its_group_where_the_service_is_not_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, of_the_service: int, is_open: int
) -> None:
    key = tmp_path / "tls.key"
    key.touch()
    key.chmod(mode)
    found = key.stat()
    as_root_s = os.stat_result((*found[:4], 0, *found[5:]))
    monkeypatch.setattr(os, "stat", lambda *_: as_root_s)
    monkeypatch.setattr(os, "geteuid", lambda: of_the_service)
    assert is_open == mode_open(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_key_that_others_can_read_is_not_used(kept: str, key_file: Path, mode: int) -> None:
    with desks(kept):
        pass
    key_file.chmod(mode)
    with pytest.raises(KeyFileOpen, match=f"{mode:04o}.*chmod 600"):
        Desks(kept)


@pytest.mark.parametrize("what", ["gone", "another", "damaged"])
async def test_without_the_right_key_a_ledger_does_not_open_and_is_not_changed(
    kept: str, key_file: Path, what: str
) -> None:
    with desks(kept) as office:
        case_id = await fill(office)
    right = key_file.read_bytes()
    match what:
        case "gone":
            key_file.unlink()
        case "another":
            KeyFile(key_file).write([DataKey.new()])
        case _:
            key_file.write_bytes(right[:-3])
    there = key_file.exists() and key_file.read_bytes()
    with pytest.raises(KeyFileUnusable if what == "damaged" else KeyMissing):
        Desks(kept)
    assert there == (key_file.exists() and key_file.read_bytes())
    key_file.write_bytes(right)
    key_file.chmod(0o600)
    with desks(kept) as again:
        await holds(again, case_id)


async def test_a_private_part_that_is_moved_or_changed_is_refused_and_the_others_are_read(kept: str) -> None:
    table = schema.PRIVATE
    with desks(kept) as office:
        first, second, third = [(await office.register()).case.case_id for _ in range(3)]
        run = office.database.writing.execute
        with office.database.writing.begin():
            sealed = {row.seq: bytes(row.sealed) for row in run(sa.select(table)).all()}
            damaged = sealed[2][:-1] + bytes([sealed[2][-1] ^ 1])
            for seq, value in ((1, sealed[3]), (2, damaged)):
                run(sa.update(table).where(table.c.seq == seq).values(sealed=value))
        for case_id in (first, second):
            with pytest.raises(EntryUnreadable):
                queries.private_of(office.database, SHANGCHENG, case_id, 1)
            with pytest.raises(EntryUnreadable):
                queries.history(office.database, SHANGCHENG, case_id, private=True)
        cases = [await office.office.read_case(SHANGCHENG, case_id) for case_id in (first, second, third)]
        assert {third} == set(queries.snapshots(office.database, SHANGCHENG, cases))


async def test_rotation_seals_everything_anew_and_forgets_the_old_key(kept: str, key_file: Path) -> None:
    with desks(kept) as office:
        case_id = await fill(office)
        words = table_rows(office.database, schema.CASE_WORDS)
    old = KeyFile(key_file).read()
    closed = Desks(kept)
    try:
        steps: list[int] = []
        done = sealing.rotate(closed.database, steps.append)
        assert 0 == done.broken
        assert done.values == steps[-1] > len(CONTENT) // CHUNK_BYTES
        assert {closed.database.vault.key_id} == key_ids(closed.database) == closed.database.key_ids()
        assert not {row[3] for row in words} & {row[3] for row in table_rows(closed.database, schema.CASE_WORDS)}
        found = everything(closed.database)
        for token in words[0][3].split(" "):
            assert token.encode() not in found
    finally:
        closed.ledger.close()
    (new,) = KeyFile(key_file).read()
    assert new not in old
    with desks(kept) as again:
        await holds(again, case_id)


async def test_an_interrupted_rotation_leaves_a_ledger_that_serves_and_goes_on_later(
    kept: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_SEALED", tuple(replace(one, at_once=2) for one in sealing._SEALED))

    def interrupt(values: int) -> None:
        if values >= 4:
            raise KeyboardInterrupt

    with desks(kept) as office:
        case_id = await fill(office)
        another = replace(REGISTER, taxpayer_name="云水书店", contact="057187654321")
        others = [(await office.do(SHANGCHENG, another)).case.case_id for _ in range(4)]
    closed = Desks(kept)
    try:
        with pytest.raises(KeyboardInterrupt):
            sealing.rotate(closed.database, interrupt)
        assert 2 == len(key_ids(closed.database))
    finally:
        closed.ledger.close()
    with desks(kept) as between:
        await holds(between, case_id)
        assert {case_id, *others} == set(finds(between, SECRET.text[:2]))
    assert 2 == len(KeyFile(key_file).read())
    closed = Desks(kept)
    try:
        sealing.rotate(closed.database)
        assert {closed.database.vault.key_id} == key_ids(closed.database)
    finally:
        closed.ledger.close()
    assert 1 == len(KeyFile(key_file).read())
    with desks(kept) as again:
        await holds(again, case_id)


async def test_what_an_older_version_has_left_plain_is_sealed_when_the_ledger_is_opened(kept: str) -> None:
    with desks(kept) as office:
        case_id = await fill(office)
        unseal(office.database)
        assert SECRET.text.encode() in everything(office.database)
    with desks(kept) as again:
        found = everything(again.database)
        assert [] == [text for text in PLANTED if text.encode() in found]
        await holds(again, case_id)


async def test_once_everything_is_sealed_a_plain_value_is_not_believed(kept: str) -> None:
    with desks(kept) as office:
        case_id = (await office.register()).case.case_id
        with office.database.writing.begin():
            office.database.writing.execute(sa.update(schema.PRIVATE).values(sealed=bytes(4 + 16)))
        with pytest.raises(EntryUnreadable):
            queries.private_of(office.database, SHANGCHENG, case_id, 1)


def vaults() -> Iterator[Any]:
    for _ in range(2):
        yield Vault([DataKey.new()])


def test_a_value_opens_at_its_place_and_under_its_key_alone() -> None:
    one, other = vaults()
    sealed = one.seal("private/330102/1", b"value")
    assert b"value" == one.open("private/330102/1", sealed)
    assert sealed != one.seal("private/330102/1", b"value")
    for vault, place, changed in (
        (one, "private/330102/2", sealed),
        (other, "private/330102/1", sealed),
        (one, "private/330102/1", sealed[:-1]),
        (one, "private/330102/1", b""),
        *(
            (one, "private/330102/1", sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
            for at in range(len(sealed))
        ),
    ):
        with pytest.raises(SealBroken):
            vault.open(place, changed)


def test_tokens_of_two_bureaus_or_keys_have_nothing_in_common() -> None:
    one, other = vaults()
    words = ("减免", "13800138000")
    assert one.tokens("330102", words) == sorted(one.tokens_asked("330102", words)[0])
    assert not {*one.tokens("330102", words)} & {*one.tokens("330106", words), *other.tokens("330102", words)}


def test_no_key_shows_in_what_is_printed() -> None:
    key = DataKey.new()
    assert key.secret.hex() not in repr(key) + repr(Vault([key]).__dict__["keys"])


def test_processes_that_begin_at_once_seal_under_the_key_that_is_in_the_file(tmp_path: Path) -> None:
    begin = threading.Barrier(PROCESSES)

    def first(path: Path) -> tuple[DataKey, ...]:
        begin.wait()
        return KeyFile(path).read_or_create()

    with ThreadPoolExecutor(PROCESSES) as pool:
        for number in range(20):
            path = tmp_path / str(number) / "data.key"
            assert {*pool.map(first, [path] * PROCESSES)} == {KeyFile(path).read()}
