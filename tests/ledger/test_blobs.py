"""The content of files in the ledger's database, over both databases: kept once, written piece by piece, given up."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.events import Attachment
from kuaixiang.runtime.clock import SystemClock
from node.attachments import ContentBrokenOff, ContentDiffers, ContentLost, ContentUnderWay
from node.ledger import blobs, queries, schema
from node.ledger.blobs import CHUNK_BYTES
from node.ledger.ledger import Work
from tests.domain.story import ATTACH, FORWARD, HANGZHOU, REFER, SHANGCHENG
from tests.ledger.bureaus import Desks, desks, table_rows

CONTENT = random.Random(11).randbytes(3 * CHUNK_BYTES + 100)
TOMORROW = timedelta(days=1, hours=1)


def announced(content: bytes) -> Attachment:
    return Attachment(
        digest=sha256(content).hexdigest(), name="a.bin", media_type="application/octet-stream", size_bytes=len(content)
    )


async def pieces(content: bytes, size: int = 90_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def read(opened: Desks, digest: str, from_byte: int = 0) -> bytes:
    return b"".join([piece async for piece in opened.office.attachments.read(digest, from_byte)])


async def test_content_comes_back_as_it_was_from_any_piece_on(opened: Desks) -> None:
    file = announced(CONTENT)
    await opened.office.attachments.take_in(file, pieces(CONTENT))
    assert CONTENT == await read(opened, file.digest)
    assert CONTENT[2 * CHUNK_BYTES :] == await read(opened, file.digest, 2 * CHUNK_BYTES)
    assert [0, 1, 2, 3] == [row[1] for row in table_rows(opened.database, schema.BLOB_CHUNKS)]


async def test_what_was_broken_off_is_gone_on_with_from_where_it_is_held(opened: Desks) -> None:
    store, file = opened.office.attachments, announced(CONTENT)
    with pytest.raises(ContentBrokenOff):
        await store.take_in(file, pieces(CONTENT[: 2 * CHUNK_BYTES + 1]))
    begun = await store.find(file.digest)
    assert begun is not None
    assert (2 * CHUNK_BYTES, False) == (begun.held_bytes, begun.complete)
    with pytest.raises(ContentLost):
        await read(opened, file.digest)
    for nowhere in (1, 3 * CHUNK_BYTES):
        with pytest.raises(FieldMalformed):
            await store.take_in(file, pieces(CONTENT[nowhere:]), nowhere)
    await store.take_in(file, pieces(CONTENT[2 * CHUNK_BYTES :]), 2 * CHUNK_BYTES)
    assert CONTENT == await read(opened, file.digest)


async def test_content_announced_with_another_size_begins_again_and_leaves_nothing_of_the_first(opened: Desks) -> None:
    store, file = opened.office.attachments, announced(CONTENT)
    larger = replace(file, size_bytes=2 * len(CONTENT))
    with pytest.raises(ContentBrokenOff):
        await store.take_in(larger, pieces(bytes(len(CONTENT) + 2 * CHUNK_BYTES)))
    await store.take_in(file, pieces(CONTENT))
    assert CONTENT == await read(opened, file.digest)


async def test_a_complete_file_announced_with_another_size_stays_as_it_is(opened: Desks) -> None:
    store, file = opened.office.attachments, announced(CONTENT)
    case_id = (await opened.register()).case.case_id
    await opened.attach(SHANGCHENG, CONTENT, case_id)
    for size in (1, 2 * len(CONTENT)):
        with pytest.raises(ContentDiffers):
            await store.take_in(replace(file, size_bytes=size), pieces(bytes(size)))
        assert CONTENT == await read(opened, file.digest)


async def test_a_complete_file_stays_as_it_is_when_something_else_is_sent_for_it(opened: Desks) -> None:
    store, file = opened.office.attachments, announced(CONTENT)
    await store.take_in(file, pieces(CONTENT))
    with pytest.raises(ContentDiffers):
        await store.take_in(file, pieces(bytes(len(CONTENT))))
    assert CONTENT == await read(opened, file.digest)


async def test_one_file_is_taken_in_by_one_at_a_time(opened: Desks) -> None:
    store, file = opened.office.attachments, announced(CONTENT)
    results = await asyncio.gather(*(store.take_in(file, pieces(CONTENT)) for _ in range(3)), return_exceptions=True)
    assert [None, ContentUnderWay, ContentUnderWay] == [result and type(result) for result in results]


async def test_pieces_of_many_files_are_written_one_in_a_transaction(opened: Desks) -> None:
    written: list[int] = []

    @sa.event.listens_for(opened.database.writing, "before_cursor_execute")
    def count(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "blob_chunks" in statement:
            written.append(len(parameters) // 3)

    @sa.event.listens_for(opened.database.writing, "commit")
    def mark(_connection: Any) -> None:
        written.append(0)

    files = [bytes([number]) + CONTENT for number in range(4)]
    await asyncio.gather(*(opened.office.attachments.take_in(announced(file), pieces(file)) for file in files))
    assert 4 * 4 == sum(written)
    assert [] == [pair for pair in pairwise(written) if sum(pair) > 1]


async def test_an_act_finds_no_content_that_is_not_there(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    with pytest.raises(ContentDiffers):
        await opened.office.attachments.take_in(announced(CONTENT), pieces(bytes(len(CONTENT))))
    await opened.attach(SHANGCHENG, CONTENT, case_id)
    assert 1 == (await opened.office.read_case(SHANGCHENG, case_id)).attached


async def test_content_that_is_given_up_while_it_is_attached_is_kept_or_the_act_refused(opened: Desks) -> None:
    store, attached = opened.office.attachments, 0
    at = SystemClock().now() + TOMORROW
    for number in range(6):
        content = bytes([number]) + CONTENT
        case_id = (await opened.register()).case.case_id
        await store.take_in(announced(content), pieces(content))
        attaching = asyncio.ensure_future(opened.attach(SHANGCHENG, content, case_id))
        while not attaching.done():
            await store.give_up(at)
        case = await opened.office.read_case(SHANGCHENG, case_id)
        if attaching.exception() is None:
            attached += case.attached
            assert content == await read(opened, announced(content).digest)
        else:
            assert isinstance(attaching.exception(), ContentLost)
            assert 0 == case.attached
    assert attached == len(table_rows(opened.database, schema.ATTACHMENTS))


async def test_a_file_attached_by_the_transaction_that_would_give_it_up_is_kept(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    file = announced(CONTENT)
    await opened.office.attachments.take_in(file, pieces(CONTENT))
    act = replace(ATTACH, digest=file.digest, size_bytes=file.size_bytes)
    drop = Work(run=lambda draft: draft.drop_blob(file.digest), bureau="")
    await asyncio.gather(opened.do(SHANGCHENG, act, case_id), opened.ledger.do(drop))
    assert 1 == (await opened.office.read_case(SHANGCHENG, case_id)).attached
    assert CONTENT == await read(opened, file.digest)


async def test_what_is_nobodys_is_given_up_and_what_two_bureaus_have_is_kept_once(opened: Desks) -> None:
    store = opened.office.attachments
    case_id = (await opened.register()).case.case_id
    await opened.attach(SHANGCHENG, CONTENT, case_id)
    await opened.do(SHANGCHENG, FORWARD, case_id)
    await opened.do(SHANGCHENG, REFER, case_id)
    await opened.tell(SHANGCHENG, HANGZHOU, case_id, chance=random.Random(2))
    assert 1 == (await opened.office.read_case(HANGZHOU, case_id)).attached
    await store.take_in(announced(b"nobody's"), pieces(b"nobody's"))
    with pytest.raises(ContentBrokenOff):
        await store.take_in(announced(b"x" * 10), pieces(b"x"))
    assert 2 == blobs.kept(opened.database)[0]
    assert 1 == await store.give_up(SystemClock().now() + TOMORROW)
    assert (1, len(CONTENT)) == blobs.kept(opened.database)
    rows = {(row[0], row[1]) for row in table_rows(opened.database, schema.ATTACHMENTS)}
    assert {(SHANGCHENG, case_id), (HANGZHOU, case_id)} == rows
    for bureau in (SHANGCHENG, HANGZHOU):
        case = await opened.office.read_case(bureau, case_id)
        assert ["合同.pdf"] == [one.name for one in queries.attachments_of(opened.database, case)]


async def test_rebuilding_leaves_the_content_and_finds_whose_it_is(database_url: str) -> None:
    with desks(database_url) as opened:
        case_id = (await opened.register()).case.case_id
        await opened.attach(SHANGCHENG, CONTENT, case_id)
        before = opened.rows(schema.ATTACHMENTS, schema.BLOBS)
    closed = Desks(database_url)
    try:
        closed.ledger.rebuild()
        assert before == closed.rows(schema.ATTACHMENTS, schema.BLOBS)
        assert CONTENT == await read(closed, announced(CONTENT).digest)
    finally:
        closed.ledger.close()
