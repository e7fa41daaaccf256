"""What arrives at a hub over NATS, as hostile bytes: segments and heads of any bureau, on any subject, true ones changed.

The folder drops, parks or quarantines; it never fails, and what it has folded of a bureau only grows or stays.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hub.folder import Message
from kuaixiang.runtime.bus import head_subject, journal_subject
from kuaixiang.wire.v1 import journal_pb2 as pb
from tests.fuzz.draw import Draw, filled
from tests.fuzz.services import Finding
from tests.hub.bench import Bench, cases
from tests.hub.journals import tree

BUREAUS = ("110101", "110105", "330106")


class Folding:
    """A hub's folder that has folded a little."""

    def __init__(self, folder: Path) -> None:
        self._bench = Bench(f"sqlite:///{folder / 'hub.db'}")
        self._true = [segment for bureau in BUREAUS for segment in cases(bureau, 4).segments(size=3)]
        self._known = [*BUREAUS, *(site for site in ("110000", "330000", "000000"))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bench.store.close()

    def call(self, data: bytes) -> str:
        """One batch as the bytes say. Raises `Finding`."""
        draw = Draw(data)
        before = self._seqs()
        messages = [self._message(draw) for _ in range(1 + draw.number(4))]
        try:
            self._bench.folder.take(messages)
        except Exception as failure:
            raise Finding(f"the hub's folder: {failure!r}") from failure
        after = self._seqs()
        if any(after[bureau] < before[bureau] for bureau in BUREAUS):
            raise Finding(f"the hub has gone back: {before} {after}")
        return "taken"

    def _seqs(self) -> dict[str, int]:
        return {bureau: self._bench.folder.mark(bureau).seq for bureau in BUREAUS}

    def _message(self, draw: Draw) -> Message:
        content: Any
        if draw.chance(120):
            content = pb.Segment.FromString(draw.choice(self._true).SerializeToString())
            if draw.chance(60) and content.entries:
                content.entries[0].public = draw.bytes(200)
            if draw.chance(40):
                content.first_seq = draw.choice((0, 1, 2, 2**64 - 1))
            if draw.chance(40):
                content.generation = draw.choice((0, 2, 2**64 - 1))
        else:
            content = filled(draw.choice((pb.Segment, pb.Head))(), draw, self._known)
        payload = content.SerializeToString()
        if draw.chance(40):
            payload = draw.bytes(300)
        bureau = draw.choice((content.bureau or "110101", *BUREAUS))
        site = tree().site(bureau) if bureau in tree() else draw.choice(("110000", "330000", "000000"))
        make = draw.choice((journal_subject, head_subject))
        subject = draw.choice((make(site, bureau), make(site, bureau), make(site, bureau), draw.text()))
        return Message(site, subject, payload)
