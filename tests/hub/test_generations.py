"""What a new generation of a journal may lack of what a hub has folded, and what it may not."""

from collections.abc import AsyncIterator

import pytest

from hub.fold import PASSED_ENTRIES, Mark
from hub.generations import GenerationDenied, judge
from kuaixiang.wire.v1.journal_pb2 import Segment
from tests.hub.bench import Bench, cases
from tests.hub.journals import DONGCHENG, Journal


def mark_of(journal: Journal) -> Mark:
    return Mark(journal.bureau, generation=journal.generation, seq=journal.seq, hash=journal.hashes[-1])


async def read(journal: Journal) -> AsyncIterator[Segment]:
    for segment in journal.segments(size=10):
        yield segment


async def test_entries_that_a_restored_ledger_says_it_has_lost_are_told() -> None:
    journal = cases(DONGCHENG, 3)
    mark, hash_ = mark_of(journal), journal.hashes[-1]
    journal.restore(17)
    journal.open_generation(cosigned_seq=21, cosigned_hash=hash_)
    lost = await judge(mark, {7: journal.hashes[7]}, read(journal))
    assert "generation 2 has lost 4 folded entries, from 18 on; it says that entry 21 was the last one that 110000" in (
        lost.sentence
    )


async def test_an_entry_before_the_new_generation_that_is_another_one_is_named() -> None:
    journal = cases(DONGCHENG, 3)
    mark, passed = mark_of(journal), {9: journal.hashes[9]}
    journal.rewrite(8)
    journal.live("dressed up")
    journal.restore(journal.seq)
    journal.open_generation()
    with pytest.raises(GenerationDenied, match="entry 9 is another one than was folded"):
        await judge(mark, passed, read(journal))


async def test_a_generation_that_does_not_say_what_happened_or_names_another_end_is_denied() -> None:
    journal = cases(DONGCHENG, 2)
    mark = mark_of(journal)
    silent = cases(DONGCHENG, 2)
    silent.restore(7)
    silent.live("after")
    with pytest.raises(GenerationDenied, match="does not say in its first entry, 8, what became"):
        await judge(mark, {}, read(silent))
    journal.restore(7)
    journal.open_generation(cosigned_seq=14, cosigned_hash=b"another end that was never there")
    with pytest.raises(GenerationDenied, match="names another entry 14 as cosigned"):
        await judge(mark, {}, read(journal))


def test_of_a_long_journal_the_hash_of_an_entry_in_every_thousand_is_kept_until_it_is_folded_anew(bench: Bench) -> None:
    journal = cases(DONGCHENG, 2 * PASSED_ENTRIES // 7 + 1)
    for segment in journal.segments():
        bench.feed(segment)
    assert {PASSED_ENTRIES, 2 * PASSED_ENTRIES} == bench.folder.passed(DONGCHENG).keys()
    assert journal.hashes[PASSED_ENTRIES] == bench.folder.passed(DONGCHENG)[PASSED_ENTRIES]
    bench.reopen()
    assert 2 == len(bench.folder.passed(DONGCHENG))
    bench.folder.forget(DONGCHENG, "what was lost")
    assert {} == bench.folder.passed(DONGCHENG)
    bench.reopen()
    assert "what was lost" == bench.folder.mark(DONGCHENG).restored
