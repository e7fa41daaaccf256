"""The files of cases 附件 at a node: taken in piece by piece, checked by digest, kept once, given up when nobody's.

Content comes from an officer with the act that attaches it, or from a peer ahead of the offer that lists it. Each piece
is a piece of work of its own for the ledger's one writer, and one is under way at a time, whatever comes in at once: an
officer's act waits for one of them at most. Content is complete when all of it is here and has the digest that it goes
by; before that no case can have it. What was broken off is kept for a day, so that a peer can go on where it stopped.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.events import Attachment
from kuaixiang.domain.labels import Both
from kuaixiang.runtime.clock import SystemClock, to_micros
from kuaixiang.runtime.limits import LIMITED
from kuaixiang.runtime.loops import Loop
from node.ledger import blobs
from node.ledger.blobs import CHUNK_BYTES, Blob
from node.ledger.ledger import Draft, Ledger, Work

SILENCE_SECONDS_MAX: Final = 30.0
"""Who brings content and sends nothing for so long has gone; nobody else can bring that file meanwhile."""
GARBAGE_HOURS: Final = 24
"""Content that no case has got within a day will be sent again, if it is wanted at all. Real time."""
TIDY_SECONDS: Final = 600.0
UNDECIDED_BYTES_MAX: Final = 2 * 1024**3
"""What one bureau's node may have here of files of offers that are not decided yet. A case has 400 MiB of files at
most, and they are brought one after the other; what is given up is gone after a day."""
UNDECIDED_RETRY_SECONDS: Final = 60.0
"""When some of it may have been decided about."""

TAKEN_IN: Final = Counter(
    "kx_attachments_taken_total",
    "Contents of files brought by officers or peers, by result: complete, known, refused, broken_off.",
    ["result"],
)
TAKEN_BYTES: Final = Counter("kx_attachment_taken_bytes_total", "Bytes of files brought by officers and peers.")
READ_BYTES: Final = Counter("kx_attachment_read_bytes_total", "Bytes of files read, by officers and for peers.")
KEPT: Final = Gauge("kx_attachments_kept", "Files whose content is kept, each once; looked at every ten minutes.")
KEPT_BYTES: Final = Gauge("kx_attachment_kept_bytes", "Bytes of the files kept; looked at every ten minutes.")
GIVEN_UP: Final = Counter("kx_attachments_given_up_total", "Files that no case had got in time and that were deleted.")

_log: Final = structlog.get_logger(__name__)
_REAL: Final = SystemClock()
"""Content comes and goes in real time, even where business time is virtual."""


class ContentDiffers(Refused):
    """What was sent is not the file that was announced; nothing of it is kept."""

    condition = Condition.INVALID
    field = "data"
    remedy = "Compute digest and size of the very bytes that are sent, and send them again."
    remedy_chinese = "请按实际发送的内容重新计算摘要和大小，再次发送。"

    def __init__(self, digest: str, size_bytes: int) -> None:
        super().__init__(
            f"What was sent is not the {size_bytes} bytes with the digest {digest}.",
            f"所发送的内容与声明的文件不符（{size_bytes} 字节，摘要 {digest}）。",
        )


class ContentBrokenOff(Refused):
    """The content ended before all of it was there."""

    condition = Condition.INVALID
    field = "data"
    remedy = "Send the whole file again."
    remedy_chinese = "请重新发送整个文件。"

    def __init__(self, came_bytes: int, size_bytes: int) -> None:
        super().__init__(
            f"The content ended after {came_bytes} of {size_bytes} bytes.",
            f"文件共 {size_bytes} 字节，只收到 {came_bytes} 字节。",
        )


class ContentUnderWay(Refused):
    """The same file is being brought by somebody else at this moment."""

    condition = Condition.BUSY
    remedy = "Send it again in a moment, under the same request key."
    remedy_chinese = "请稍后使用同一请求标识重新发送。"

    def __init__(self, digest: str) -> None:
        super().__init__(f"The file {digest} is being received already.", f"文件 {digest} 正在接收中。")


class TooMuchUndecided(Refused):
    """A peer has brought more files than are kept for it before it makes the offers that they belong to."""

    condition = Condition.LIMIT
    field = "digest"
    retry_seconds = UNDECIDED_RETRY_SECONDS
    remedy = "Make the offers whose files are here, or wait a day: what no case has got is given up then."
    remedy_chinese = "请先发送附件已送达的移交单，或者等待一天：未被任何诉求采用的附件届时会清除。"

    def __init__(self, bureau: str, held_bytes: int) -> None:
        super().__init__(
            f"Files of {held_bytes} bytes from {bureau} already wait for the offers that they belong to.",
            f"{bureau} 已送达 {held_bytes} 字节的附件，相应移交单尚未决定。",
        )
        LIMITED.labels("undecided_bytes").inc()


class ContentLost(Refused):
    """The content of a file is not kept here, though a case has it."""

    condition = Condition.MISSING
    field = "digest"
    remedy = "Attach the same file again, or tell whoever runs the node to restore the ledger with its files."
    remedy_chinese = "请重新添加同一文件，或者通知节点运维人员恢复台账及其附件。"

    def __init__(self, digest: str) -> None:
        super().__init__(f"The content of the file {digest} is not kept here.", f"本节点没有文件 {digest} 的内容。")


class UnknownAttachment(Refused):
    """The case has no such file."""

    condition = Condition.MISSING
    field = "digest"
    remedy = "Copy the digest from the list of the case's attachments."
    remedy_chinese = "请照该诉求附件清单中的摘要填写。"

    def __init__(self, case_id: str, digest: str) -> None:
        super().__init__(
            f"Case {case_id} has no attachment {digest or '(empty)'}.",
            f"诉求 {case_id} 没有附件 {digest or '（空）'}。",
        )


class Missing(NamedTuple):
    """A file that is wanted from its first byte that is not held."""

    digest: str
    held_bytes: int


class AttachmentsMissing(Refused):
    """An offer lists files that are not here. That is no decision: it is to be offered again when they are."""

    field = "offer.snapshot.attachments"
    remedy = "Bring the content of each by PutAttachment, then make the same offer again."
    remedy_chinese = "请先用 PutAttachment 送达各附件内容，再重新发送同一移交单。"

    def __init__(self, missing: tuple[Missing, ...]) -> None:
        self.missing = missing
        listed = " ".join(f"{one.digest}:{one.held_bytes}" for one in missing)
        self.facts: Mapping[str, str] = MappingProxyType({"missing": listed})
        super().__init__(
            f"{len(missing)} attachment(s) of the case are not here yet.", f"该诉求有 {len(missing)} 个附件尚未送达。"
        )

    @staticmethod
    def read(facts: Mapping[str, str]) -> tuple[Missing, ...]:
        """What a peer has said is missing; what is not of this form is left out."""
        pairs = (part.rpartition(":") for part in facts.get("missing", "").split())
        return tuple(Missing(digest, int(held)) for digest, _, held in pairs if held.isascii() and held.isdigit())


class AttachmentStore:
    """Keeps the files of all bureaus of a node, in the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: set[str] = set()
        self._turn = asyncio.Lock()
        # Bytes that are announced by whose calls are under way.
        self._coming: collections.Counter[str] = collections.Counter()

    async def take_in(
        self, attachment: Attachment, pieces: AsyncIterator[bytes], from_byte: int = 0, *, brought_by: str = ""
    ) -> None:
        """Takes in the content of a file, from a byte on up to which it is held already; returns when it is complete.

        `brought_by` is the bureau whose node brings it ahead of an offer. What is complete already is compared all the
        same: who does not have a file cannot attach it by its digest.
        Raises `ContentDiffers`, `ContentBrokenOff`, `ContentUnderWay`, `TooMuchUndecided`, `FieldMalformed`,
        `WriterBusy`, `WriterStopped`.
        """
        result = "broken_off"
        self._coming[brought_by] += attachment.size_bytes
        try:
            with self._alone(attachment.digest):
                result = await self._take_in(attachment, pieces, from_byte, brought_by)
        except Refused as refusal:
            if not isinstance(refusal, ContentBrokenOff):
                result = "refused"
            raise
        finally:
            self._coming[brought_by] -= attachment.size_bytes
            if not self._coming[brought_by]:
                del self._coming[brought_by]
            TAKEN_IN.labels(result).inc()

    async def _take_in(
        self, attachment: Attachment, pieces: AsyncIterator[bytes], from_byte: int, brought_by: str
    ) -> str:
        digest, size = attachment.digest, attachment.size_bytes
        known = await self.find(digest)
        if known is not None and known.complete and known.size_bytes != size:
            # Content with this digest has another size: who announces this one must not write over what a case has.
            raise ContentDiffers(digest, size)
        if known is None or known.size_bytes != size:
            if brought_by:
                await self._check_room(brought_by)
            known = Blob(digest=digest, size_bytes=size, brought_by=brought_by)
        if from_byte > known.held_bytes or from_byte % CHUNK_BYTES:
            raise FieldMalformed(
                "from_byte",
                Both("is not where the content breaks off here", "不是已收内容的断点"),
                Both("Offer the case again: the answer says where to go on.", "请重新发送移交单，按答复中的断点续传。"),
            )
        hashed = await asyncio.to_thread(blobs.hash_of, self._ledger.database, digest, from_byte // CHUNK_BYTES)
        came, waiting = from_byte, bytearray()
        async for piece in _within_time(pieces):
            came += len(piece)
            if came > size:
                break
            TAKEN_BYTES.inc(len(piece))
            hashed.update(piece)
            waiting += piece
            # The last piece waits until all of it is known to be right: then the content is complete with it.
            while len(waiting) > CHUNK_BYTES:
                if not known.complete:
                    await self._keep(known, came - len(waiting), bytes(waiting[:CHUNK_BYTES]))
                del waiting[:CHUNK_BYTES]
        if came < size:
            raise ContentBrokenOff(came, size)
        if came > size or hashed.hexdigest() != digest:
            if not known.complete:
                await self._write(lambda draft: draft.drop_blob(digest))
            raise ContentDiffers(digest, size)
        # Also one that was complete before: it is wanted again, and must not be given up meanwhile.
        await self._keep(known, came - len(waiting), bytes(waiting), complete=True)
        return "known" if known.complete else "complete"

    async def _keep(self, blob: Blob, at_byte: int, data: bytes, *, complete: bool = False) -> None:
        held = replace(blob, held_bytes=at_byte + len(data), complete=complete)

        def run(draft: Draft) -> None:
            draft.put_chunk(blob.digest, at_byte // CHUNK_BYTES, data)
            draft.put_blob(held, _REAL.now())

        await self._write(run)

    async def _write(self, run: Callable[[Draft], None]) -> None:
        async with self._turn:
            await self._ledger.do(Work(run=run, bureau=""))

    async def _check_room(self, bureau: str) -> None:
        """Whether a peer may bring a file more. Raises `TooMuchUndecided`."""
        held = await asyncio.to_thread(blobs.undecided_bytes, self._ledger.database, bureau)
        # What is under way besides may be counted twice, never not at all.
        if held + self._coming[bureau] > UNDECIDED_BYTES_MAX:
            raise TooMuchUndecided(bureau, held)

    @contextlib.contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        if digest in self._under_way:
            raise ContentUnderWay(digest)
        self._under_way.add(digest)
        try:
            yield
        finally:
            self._under_way.discard(digest)

    async def find(self, digest: str) -> Blob | None:
        """What is kept of a file."""
        return await asyncio.to_thread(blobs.blob, self._ledger.database, digest)

    async def read(self, digest: str, from_byte: int = 0) -> AsyncIterator[bytes]:
        """The content of a file from a byte on, piece by piece. Raises `ContentLost`."""
        blob = await self.find(digest)
        if blob is None or not blob.complete:
            raise ContentLost(digest)
        for number in range(from_byte // CHUNK_BYTES, blob.chunks):
            data = await asyncio.to_thread(blobs.chunk, self._ledger.database, digest, number)
            if data is None:
                raise ContentLost(digest)
            READ_BYTES.inc(len(data))
            yield data

    async def give_up(self, before: datetime) -> int:
        """Deletes what no case has and of which nothing has come since then; how many files."""
        digests = await asyncio.to_thread(blobs.garbage, self._ledger.database, to_micros(before))
        for digest in digests:
            with contextlib.suppress(ContentUnderWay), self._alone(digest):
                await self._write(lambda draft, digest=digest: draft.drop_blob(digest))  # type: ignore[misc]
                GIVEN_UP.inc()
        return len(digests)

    async def measure(self) -> None:
        """Shows what is kept."""
        count, total = await asyncio.to_thread(blobs.kept, self._ledger.database)
        KEPT.set(count)
        KEPT_BYTES.set(total)


class Tidying:
    """Gives up files that no case has got within a day, and shows what is kept. `step` is one look."""

    def __init__(self, store: AttachmentStore, interval_seconds: float = TIDY_SECONDS) -> None:
        self._store = store
        self._loop = Loop("tidying", self.step, interval_seconds)

    async def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the step under way end."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Delete what is nobody's, oldest first; whether there may be more."""
        given_up = await self._store.give_up(_REAL.now() - timedelta(hours=GARBAGE_HOURS))
        if given_up:
            _log.info("Files that no case had got were deleted.", action="attachments.given_up", files=given_up)
        await self._store.measure()
        return given_up == blobs.GARBAGE_MAX


async def _within_time(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces as they come; ends when none has come for too long."""
    with contextlib.suppress(TimeoutError):
        while (piece := await asyncio.wait_for(anext(pieces, None), SILENCE_SECONDS_MAX)) is not None:
            yield piece
