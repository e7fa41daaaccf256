"""Files of cases over gRPC: taken in with the act that attaches them, checked, kept once, read by who may."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from kuaixiang.domain.attachments import ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX
from kuaixiang.domain.events import Attachment
from kuaixiang.runtime.clock import SystemClock
from kuaixiang.runtime.streams import send
from kuaixiang.wire.v1 import case_pb2, common_pb2
from node import attachments, service
from node.attachments import Tidying
from node.ledger import blobs, schema
from node.ledger.blobs import CHUNK_BYTES
from node.ledger.ledger import Ledger
from node.settings import NodeSettings
from tests.federation.bureaus import until
from tests.node.callers import COUNTY, PROVINCE, Callers, header, refusal_of, registration

CONTENT = random.Random(7).randbytes(2 * CHUNK_BYTES + 5)
PIECE = 100_000
READER: dict[str, Any] = {"actor": "officer-7", "role": common_pb2.ROLE_TAX_SERVICE, "department": "tax-service"}


def head(case_id: str, content: bytes = CONTENT, **more: Any) -> case_pb2.AttachFileRequest:
    """What a terminal says of a file before it sends it."""
    fields: dict[str, Any] = {
        "header": header("REGISTRAR", case_id),
        "digest": sha256(content).hexdigest(),
        "name": "营业执照.jpg",
        "media_type": "image/jpeg",
        "size_bytes": len(content),
    }
    return case_pb2.AttachFileRequest(**fields | more)


async def pieces(content: bytes) -> AsyncIterator[case_pb2.AttachFileRequest]:
    for at in range(0, len(content), PIECE):
        yield case_pb2.AttachFileRequest(data=content[at : at + PIECE])


async def registered(office: Any) -> str:
    return str((await office.RegisterCase(registration())).case.case_id)


def attach(office: Any, case_id: str, content: bytes = CONTENT, **more: Any) -> Any:
    return send(office.AttachFile(), head(case_id, content, **more), pieces(content))


async def listed(office: Any, case_id: str, code: str = COUNTY) -> list[common_pb2.Attachment]:
    request = case_pb2.GetCaseRequest(bureau=code, case_id=case_id, private=common_pb2.DISCLOSURE_MASKED, **READER)
    return list((await office.GetCase(request)).private_view.attachments)


async def read(office: Any, case_id: str, digest: str) -> bytes:
    request = case_pb2.ReadAttachmentRequest(bureau=COUNTY, case_id=case_id, digest=digest, **READER)
    return b"".join([piece.data async for piece in office.ReadAttachment(request)])


def kept(node: service.Running) -> tuple[int, int]:
    return blobs.kept(node.office.ledger.database)


def chunks(node: service.Running) -> int:
    with node.office.ledger.database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM blob_chunks").scalar_one())


async def test_a_file_is_attached_listed_and_read_as_it_was(callers: Callers) -> None:
    office = callers.office()
    case_id = await registered(office)
    expected = []
    for size in (1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(CONTENT)):
        content = CONTENT[:size]
        response = await attach(office, case_id, content)
        digest = sha256(content).hexdigest()
        expected.append(
            common_pb2.Attachment(digest=digest, name="营业执照.jpg", media_type="image/jpeg", size_bytes=size)
        )
        assert (case_id, 1 + len(expected)) == (response.case.case_id, response.case.version)
        assert expected == await listed(office, case_id)
        assert content == await read(office, case_id, digest)


async def test_the_same_key_attaches_once_and_answers_as_the_first_time(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await registered(office)
    keyed = header("REGISTRAR", case_id, request_key="scan-1")
    first = await attach(office, case_id, header=keyed)
    again = await attach(office, case_id, header=keyed)
    assert (False, True) == (first.repeated_request, again.repeated_request)
    assert first.seq == again.seq
    refusal = await refusal_of(attach(office, case_id, header=keyed, name="另一个.jpg"))
    assert "KeyReused" == refusal.rule
    assert 1 == len(await listed(office, case_id))


async def test_a_file_that_a_case_has_already_is_not_attached_again(callers: Callers) -> None:
    office = callers.office()
    case_id = await registered(office)
    first = await attach(office, case_id)
    again = await attach(office, case_id, name="同一文件.jpg")
    assert first.case.version == again.case.version
    assert ["营业执照.jpg"] == [one.name for one in await listed(office, case_id)]


async def test_two_cases_with_one_file_keep_it_once(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    cases = [await registered(office) for _ in range(2)]
    for case_id in cases:
        await attach(office, case_id)
    assert (1, len(CONTENT)) == kept(node)
    assert 3 == chunks(node)
    for case_id in cases:
        assert CONTENT == await read(office, case_id, sha256(CONTENT).hexdigest())


async def test_who_does_not_have_a_file_cannot_attach_it_by_its_digest(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    owner, other = [await registered(office) for _ in range(2)]
    await attach(office, owner)
    guessed = bytes(len(CONTENT))
    refusal = await refusal_of(send(office.AttachFile(), head(other), pieces(guessed)))
    assert "ContentDiffers" == refusal.rule
    assert [] == await listed(office, other)
    assert CONTENT == await read(office, owner, sha256(CONTENT).hexdigest())


@pytest.mark.parametrize("size_bytes", [len(CONTENT) + 1, len(CONTENT) - 1, CHUNK_BYTES + 9])
async def test_a_file_that_a_case_has_is_not_lost_to_who_announces_its_digest_with_another_size(
    callers: Callers, size_bytes: int
) -> None:
    office = callers.office()
    owner, other = [await registered(office) for _ in range(2)]
    await attach(office, owner)
    for sent in (bytes(size_bytes), bytes(size_bytes)[: CHUNK_BYTES + 1]):
        refusal = await refusal_of(send(office.AttachFile(), head(other, size_bytes=size_bytes), pieces(sent)))
        assert CONTENT == await read(office, owner, sha256(CONTENT).hexdigest())
        assert "ContentDiffers" == refusal.rule


CHANGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another content": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "ContentDiffers"),
    "a byte more": (lambda content: content + b"x", "ContentDiffers"),
    "much more": (lambda content: content * 3, "ContentDiffers"),
    "a byte less": (lambda content: content[:-1], "ContentBrokenOff"),
    "nothing": (lambda _: b"", "ContentBrokenOff"),
}


async def test_content_that_is_not_what_was_announced_is_refused_and_attached_to_nothing(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await registered(office)
    for what, (change, rule) in CHANGED.items():
        refusal = await refusal_of(send(office.AttachFile(), head(case_id), pieces(change(CONTENT))))
        assert (rule, "data") == (refusal.rule, refusal.field), what
        assert [] == await listed(office, case_id)
        if rule == "ContentDiffers":
            assert ((0, 0), 0) == (kept(node), chunks(node)), what
    await attach(office, case_id)
    assert CONTENT == await read(office, case_id, sha256(CONTENT).hexdigest())


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "too large": ({"size_bytes": ATTACHMENT_BYTES_MAX + 1}, "FieldMalformed", "size_bytes"),
    "empty": ({"size_bytes": 0}, "FieldMissing", "size_bytes"),
    "no digest": ({"digest": "../../etc/passwd"}, "FieldMalformed", "digest"),
    "a digest in capitals": ({"digest": sha256(CONTENT).hexdigest().upper()}, "FieldMalformed", "digest"),
    "no media type": ({"media_type": "a picture\r\nX-Evil: 1"}, "FieldMalformed", "media_type"),
}


async def test_a_file_that_cannot_be_is_refused_before_its_content_is_taken_in(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await registered(office)
    for more, rule, field in IMPOSSIBLE.values():
        refusal = await refusal_of(attach(office, case_id, **more))
        assert (rule, field) == (refusal.rule, refusal.field)
    assert (0, 0) == kept(node)


async def test_an_act_that_is_not_possible_is_refused_before_the_content_is_taken_in(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await registered(office)
    largest = bytes(ATTACHMENT_BYTES_MAX)
    for _ in range(5):
        refusal = await refusal_of(attach(office, "110101-2026-7777777", largest))
        assert "UnknownCase" == refusal.rule
    refusal = await refusal_of(attach(office, case_id, largest, header=header("BUREAU_HEAD", case_id)))
    assert "RoleNotAllowed" == refusal.rule
    refusal = await refusal_of(attach(callers.office(PROVINCE), case_id, largest))
    assert "NotAuthorised" == refusal.rule
    assert (0, 0) == kept(node)


async def test_a_name_is_kept_without_what_no_name_should_hold(callers: Callers) -> None:
    office = callers.office()
    case_id = await registered(office)
    for number, given in enumerate(("../../../etc/cron.d/job", "C:\\Users\\张三\\合同.pdf", "发票\u202egpj.exe")):
        await attach(office, case_id, b"%d" % number, name=given)
    assert ["job", "合同.pdf", "发票gpj.exe"] == [one.name for one in await listed(office, case_id)]


async def test_a_case_has_at_most_so_many_files(callers: Callers) -> None:
    office = callers.office()
    case_id = await registered(office)
    for number in range(ATTACHMENTS_MAX):
        await attach(office, case_id, b"%d" % number)
    refusal = await refusal_of(attach(office, case_id))
    assert "TooManyAttachments" == refusal.rule
    assert ATTACHMENTS_MAX == len(await listed(office, case_id))


async def test_a_file_is_read_by_the_cases_own_bureau_alone(callers: Callers) -> None:
    office = callers.office()
    case_id = await registered(office)
    other = await registered(office)
    await attach(office, case_id)
    digest = sha256(CONTENT).hexdigest()
    with pytest.raises(grpc.aio.AioRpcError) as stranger:
        await read(callers.office(PROVINCE), case_id, digest)
    assert grpc.StatusCode.PERMISSION_DENIED is stranger.value.code()
    with pytest.raises(grpc.aio.AioRpcError) as another_case:
        await read(office, other, digest)
    assert grpc.StatusCode.NOT_FOUND is another_case.value.code()


async def test_what_a_file_is_called_is_in_no_public_part(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    case_id = await registered(office)
    await attach(office, case_id, name="李四的身份证.jpg")
    with node.office.ledger.database.reading() as connection:
        public = b"".join(bytes(row.public) for row in connection.exec_driver_sql("SELECT public FROM journal"))
    for private in ("李四", sha256(CONTENT).hexdigest(), "image/jpeg"):
        assert private.encode() not in public
    answer = await office.GetCase(case_pb2.GetCaseRequest(bureau=COUNTY, case_id=case_id, include_history=True))
    assert ["registered", "attachment_added"] == [item.event for item in answer.history]
    assert "" == answer.history[-1].note


async def test_a_sender_that_falls_silent_does_not_keep_others_from_sending_the_file(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = callers.office()
    case_id = await registered(office)
    silent = office.AttachFile()
    await silent.write(head(case_id))
    await silent.write(case_pb2.AttachFileRequest(data=CONTENT[:PIECE]))
    async with asyncio.timeout(60):
        while "ContentUnderWay" != (await refusal_of(attach(office, case_id))).rule:
            await asyncio.sleep(0.01)
    with monkeypatch.context() as impatient:
        impatient.setattr(attachments, "SILENCE_SECONDS_MAX", 0.1)
        await silent.write(case_pb2.AttachFileRequest(data=CONTENT[PIECE : PIECE + 1]))
        assert "ContentBrokenOff" == (await refusal_of(silent)).rule
    await attach(office, case_id)
    assert CONTENT == await read(office, case_id, sha256(CONTENT).hexdigest())


async def test_an_upload_that_was_broken_off_begins_again(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    case_id = await registered(office)
    broken = office.AttachFile()
    await broken.write(head(case_id))
    await broken.write(case_pb2.AttachFileRequest(data=CONTENT[: CHUNK_BYTES + 1]))
    await until(lambda: kept(node) == (1, CHUNK_BYTES))
    broken.cancel()
    await until(lambda: not node.office.attachments._under_way)
    await attach(office, case_id)
    assert CONTENT == await read(office, case_id, sha256(CONTENT).hexdigest())


async def test_content_that_no_case_has_is_deleted_after_a_day_and_no_other(
    callers: Callers, node: service.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    office, store = callers.office(), node.office.attachments
    case_id = await registered(office)
    await attach(office, case_id)

    async def whole(content: bytes) -> AsyncIterator[bytes]:
        yield content

    for number in range(2):
        content = b"nobody's %d" % number
        announced = Attachment(
            digest=sha256(content).hexdigest(), name="x", media_type="text/plain", size_bytes=len(content)
        )
        await store.take_in(announced, whole(content))
    tidying = Tidying(store)
    assert not await tidying.step()
    assert 3 == kept(node)[0]
    now = SystemClock().now()
    assert 0 == await store.give_up(now - timedelta(hours=1))
    assert 2 == await store.give_up(now + timedelta(hours=1))
    assert ((1, len(CONTENT)), 3) == (kept(node), chunks(node))
    assert CONTENT == await read(office, case_id, sha256(CONTENT).hexdigest())


async def test_a_file_that_was_lost_from_the_database_is_said_to_be_and_can_be_attached_again(
    settings: NodeSettings, tmp_path: Path
) -> None:
    digest = sha256(CONTENT).hexdigest()
    async with service.running(settings) as running:
        callers = Callers(running.port, tmp_path)
        case_id = await registered(callers.office())
        await attach(callers.office(), case_id)
        await callers.close()
    forget_contents(settings)
    async with service.running(settings) as running:
        callers = Callers(running.port, tmp_path)
        refusal = await refusal_of(read(callers.office(), case_id, digest))
        assert ("ContentLost", "digest") == (refusal.rule, refusal.field)
        await attach(callers.office(), case_id)
        assert CONTENT == await read(callers.office(), case_id, digest)
        await callers.close()


def forget_contents(settings: NodeSettings) -> None:
    """The ledger of a stopped node without the content of any file, as from a copy that left it out."""
    ledger = Ledger(settings.database, settings.bureaus)
    try:
        for table in (schema.BLOB_CHUNKS, schema.BLOBS):
            ledger.database.writing.execute(sa.delete(table))
        ledger.database.writing.commit()
    finally:
        ledger.close()


async def test_an_officers_act_does_not_wait_for_a_whole_file(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    case_id = await registered(office)
    largest = random.Random(3).randbytes(ATTACHMENT_BYTES_MAX)
    sending = asyncio.ensure_future(attach(office, case_id, largest))
    done_between = 0
    while not sending.done():
        await office.RegisterCase(registration())
        done_between += not sending.done()
    await sending
    assert done_between > 5
    assert largest == await read(office, case_id, sha256(largest).hexdigest())
