"""What a new generation of a journal is entitled to, held against what has been folded of the one before.

A ledger that was restored from a backup goes on in a new generation, whose first entry says what happened to it. What
it may lack are entries behind those that its witness had kept; what stands before that first entry is what stood there
before. The hub has no witness's word, but it has what it folded: the end of it, and the hash of every
`fold.PASSED_ENTRIES`-th entry. A ledger that has another entry at one of those places was rewritten, whatever its new
generation calls itself, and so was one whose generation does not begin with such an entry.

What was judged is what is folded: the hash before that first entry binds all that stands before it, is kept, and the
journal is held to it when it is read once more. Otherwise a ledger could show its past to the judge and another one to
the fold, which has nothing to hold it to by then.
"""

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hub.fold import Mark, hashes_of, last_seq
from kuaixiang.wire.chain import GENESIS
from kuaixiang.wire.v1.journal_pb2 import Entry, Segment


@dataclass(frozen=True, slots=True)
class Lost:
    """Entries that were folded and are gone, as the new generation says itself."""

    sentence: str
    stands_to: int
    """Position of the last entry before the new generation's first one."""
    hash: bytes
    """Of that entry."""


class GenerationDenied(Exception):
    """A new generation contradicts what was folded of the one before it."""


@dataclass(slots=True)
class Judged:
    """Up to where a journal has been judged: the next sitting goes on from there, the hash binds what was before."""

    seq: int = 0
    hash: bytes = GENESIS


async def judge(
    mark: Mark, passed: Mapping[int, bytes], journal: AsyncIterable[Segment], judged: Judged | None = None
) -> Lost:
    """What the ledger's journal, read on from what was `judged` of it, says of what was folded up to the mark.

    For a journal that has not the mark's entry any more. `passed` are hashes of entries that were folded, by position.
    Where the journal breaks off with an error of its own, `judged` says how far it came. Raises `GenerationDenied`.
    """
    expected = {**passed, mark.seq: mark.hash}
    judged = judged or Judged()
    async for segment in journal:
        if (segment.first_seq, segment.prev_hash) != (judged.seq + 1, judged.hash):
            raise GenerationDenied(f"what the ledger shows of its journal breaks off after entry {judged.seq}")
        if segment.generation > mark.generation:
            return _opened(mark, segment)
        first, hashes = segment.first_seq, hashes_of(segment)
        for seq in range(first, last_seq(segment) + 1):
            if expected.get(seq, hashes[seq - first]) != hashes[seq - first]:
                raise GenerationDenied(
                    f"entry {seq} is another one than was folded, and no new generation says that it was lost"
                )
        judged.seq, judged.hash = last_seq(segment), hashes[-1]
    raise GenerationDenied(f"the journal has no entry of a generation after {mark.generation}")


def _opened(mark: Mark, segment: Segment) -> Lost:
    """What a new generation says of the entries that it has not, by its first entry."""
    opening = segment.first_seq
    try:
        entry = Entry.FromString(segment.entries[0].public)
    except DecodeError:
        entry = Entry()
    if not entry.HasField("generation_opened"):
        raise GenerationDenied(
            f"generation {segment.generation} does not say in its first entry, {opening}, what became of the entries "
            f"up to {mark.seq} that were folded"
        )
    said = entry.generation_opened
    if (said.cosigned_generation, said.cosigned_seq) == (mark.generation, mark.seq) and said.cosigned_hash != mark.hash:
        raise GenerationDenied(
            f"generation {segment.generation} names another entry {mark.seq} as cosigned than was folded"
        )
    count = mark.seq - opening + 1
    return Lost(
        f"generation {segment.generation} has lost {count} folded entries, from {opening} on; it says that entry "
        f"{said.cosigned_seq} was the last one that {said.witness or 'nobody'} had cosigned",
        stands_to=opening - 1,
        hash=segment.prev_hash,
    )
