"""The files of a case 附件 at a terminal: sent with their digest, and written to disk only when they have it."""

import contextlib
import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from kuaixiang.domain import acts
from kuaixiang.domain.attachments import ATTACHMENT_BYTES_MAX, clean_name
from kuaixiang.domain.labels import Both
from kuaixiang.domain.words import Disclosure
from kuaixiang.runtime.files import replacing
from kuaixiang.runtime.streams import send
from kuaixiang.wire.v1 import case_pb2, common_pb2
from kx.client import LATER, again_under, ask, channel_to, header_of, method_of, patiently, request_of, run
from kx.options import Acting, Asking, Who
from kx.output import Bar, Failed

PIECE_BYTES: Final = 256 * 1024
TRANSFER_SECONDS_MAX: Final = 600.0
"""A file of the largest size over a line of 300 kbit/s."""
DIGEST_CHARACTERS_MIN: Final = 6
"""What tells the few files of one case apart."""
UNKNOWN_TYPE: Final = "application/octet-stream"
KIB: Final = 1024


def act_of_file(file: Path, name: str, media_type: str) -> tuple[acts.Attach, bytes]:
    """The act that attaches a file, and the file's content. Raises `Failed`."""
    try:
        if file.stat().st_size > ATTACHMENT_BYTES_MAX:
            most = ATTACHMENT_BYTES_MAX // 2**20
            raise Failed(
                Both(f"{file} is larger than {most} MiB.", f"文件 {file} 超过 {most} MiB。"),
                field="FILE",
                rule="FileTooLarge",
                remedy=Both("Make it smaller, or divide it.", "请压缩或者拆分。"),
            )
        content = file.read_bytes()
    except OSError as failure:
        raise _unusable(file, failure) from failure
    act = acts.Attach(
        digest=hashlib.sha256(content).hexdigest(),
        name=name or file.name,
        media_type=media_type or mimetypes.guess_type(file.name)[0] or UNKNOWN_TYPE,
        size_bytes=len(content),
    )
    return act, content


def attach(acting: Acting, case_id: str, act: acts.Attach, content: bytes) -> case_pb2.ActResponse:
    """Sends a file and attaches it; sent again under the same key while the node is away. Raises `Failed`."""
    first = request_of(act)
    first.header.CopyFrom(header_of(acting, case_id))

    async def pieces(bar: Bar) -> AsyncIterator[case_pb2.AttachFileRequest]:
        for at in range(0, len(content), PIECE_BYTES):
            yield case_pb2.AttachFileRequest(data=content[at : at + PIECE_BYTES])
            bar.reached(min(at + PIECE_BYTES, len(content)) // KIB)

    async def work() -> case_pb2.ActResponse:
        with Bar("Sending, KiB", len(content) // KIB) as bar:
            async with channel_to(acting.asking) as channel:
                call = method_of(channel, "CaseService", "AttachFile")
                response: case_pb2.ActResponse = await patiently(
                    acting.asking,
                    lambda _: send(call(timeout=TRANSFER_SECONDS_MAX), first, pieces(bar)),
                    again_under(acting),
                )
                return response

    return run(work())


def attachments(asking: Asking, who: Who, case_id: str) -> list[common_pb2.Attachment]:
    """The files of a case, contacts in their names masked. Raises `Failed`."""
    words: dict[str, Any] = {"private": int(Disclosure.MASKED), "role": int(who.role)}
    request = case_pb2.GetCaseRequest(
        bureau=asking.bureau, case_id=case_id, actor=who.actor, department=who.department, **words
    )
    return list(ask(asking, "CaseService", "GetCase", request).private_view.attachments)


def chosen(files: Sequence[common_pb2.Attachment], case_id: str, digest: str) -> common_pb2.Attachment:
    """The one file that a digest, or how it begins, means. Raises `Failed`."""
    found = [one for one in files if one.digest.startswith(digest.lower())]
    if len(found) == 1 and len(digest) >= DIGEST_CHARACTERS_MIN:
        return found[0]
    raise Failed(
        Both(f"{digest} means no single file of case {case_id}.", f"{digest} 不能确定诉求 {case_id} 的某一个附件。"),
        field="DIGEST",
        rule="NoSuchAttachment",
        remedy=Both(
            f"Copy at least {DIGEST_CHARACTERS_MIN} characters of it from `kx case attachments {case_id}`.",
            f"请从 kx case attachments {case_id} 的清单中复制摘要（至少 {DIGEST_CHARACTERS_MIN} 个字符）。",
        ),
    )


def fetch(asking: Asking, who: Who, case_id: str, file: common_pb2.Attachment, out: Path, *, force: bool) -> Path:
    """Writes a file's content where it is wanted, once all of it is there and has its digest. Raises `Failed`.

    In a folder it gets its own name, cleaned. What is there already stays, unless `force`.
    """
    target = out / clean_name(file.name) if out.is_dir() else out
    with _written(target, force=force) as writing:
        hashed = run(_read(asking, who, case_id, file, writing))
        if hashed != file.digest:
            raise Failed(
                Both("What the node sent is not the file: its digest differs.", "节点发送的内容与附件摘要不符。"),
                field="DIGEST",
                rule="ContentDiffers",
                remedy=LATER,
            )
    return target


async def _read(asking: Asking, who: Who, case_id: str, file: common_pb2.Attachment, writing: IO[bytes]) -> str:
    role: Any = int(who.role)
    request = case_pb2.ReadAttachmentRequest(
        bureau=asking.bureau,
        case_id=case_id,
        digest=file.digest,
        actor=who.actor,
        role=role,
        department=who.department,
    )

    async def attempt(bar: Bar, call: Any) -> str:  # noqa: ANN401 - the stub's callable
        writing.seek(0)
        writing.truncate()
        hashed = hashlib.sha256()
        async for piece in call(request, timeout=TRANSFER_SECONDS_MAX):
            hashed.update(piece.data)
            writing.write(piece.data)
            bar.reached(writing.tell() // KIB)
        return hashed.hexdigest()

    with Bar("Receiving, KiB", file.size_bytes // KIB) as bar:
        async with channel_to(asking) as channel:
            call = method_of(channel, "CaseService", "ReadAttachment")
            return await patiently(asking, lambda _: attempt(bar, call), LATER)


@contextlib.contextmanager
def _written(target: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its place when the block ends well; else nothing is left of it."""
    reserved = False
    try:
        if not force:
            # Taken at once, and never through a link: nobody else's file comes to stand there meanwhile.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            reserved = True
        with replacing(target) as writing:
            yield writing
        reserved = False
    except OSError as failure:
        raise _unusable(target, failure) from failure
    finally:
        if reserved:
            target.unlink(missing_ok=True)


def _unusable(file: Path, failure: OSError) -> Failed:
    reason = failure.strerror or str(failure)
    remedy = Both("Name another file, or add --force to replace this one.", "请另选文件名，或者加上 --force 覆盖。")
    taken = isinstance(failure, FileExistsError)
    return Failed(
        Both(f"{file} cannot be used: {reason}.", f"文件 {file} 不能使用：{reason}。"),
        field="--out" if taken else "FILE",
        rule=type(failure).__name__,
        remedy=remedy if taken else Both("Look at its name and permissions.", "请检查文件名和权限。"),
    )
