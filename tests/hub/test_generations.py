"""What a new generation of a journal may lack of what a hub has folded, and what it may not."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from demo.journals import Journal
from hub.fold import PASSED_ENTRIES, Mark
from hub.generations import GenerationDenied, Judged, judge
from hub.ledgers import LedgerUnreachable
from hub.refill import Refiller
from hub.store import FACTS
from hub.worker import Worker
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from tests.hub.bench import Bench, cases
from tests.hub.journals import DONGCHENG


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


class TwoFaced:
    """A ledger that shows one journal to who judges it, and another one to who reads it after that."""

    def __init__(self, shown: Journal, kept: Journal) -> None:
        self.shown, self.kept = shown, kept
        self.readings = 0

    async def head(self, _bureau: str) -> Head:
        return (self.kept if self.readings > 1 else self.shown).head()

    async def read(self, _bureau: str, from_seq: int, to_seq: int = 0) -> AsyncIterator[Segment]:
        self.readings += from_seq == 1
        for segment in (self.kept if self.readings > 1 else self.shown).segments(from_seq, to_seq, 10):
            yield segment


def dressed_up(cases_kept: int, lost_from: int) -> tuple[Journal, Journal, Journal]:
    """A journal, as it goes on after an honest loss, and as somebody has rewritten it from its first case on."""
    folded, honest, rewritten = cases(DONGCHENG, 3), cases(DONGCHENG, 3), Journal(DONGCHENG)
    for number in range(cases_kept):
        rewritten.live(f"never-{number}")
    for journal in (honest, rewritten):
        journal.restore(min(lost_from - 1, journal.seq))
        journal.open_generation()
    return folded, honest, rewritten


async def refilled(bench: Bench, ledger: Any) -> str:
    """Why the bureau is held back, once its ledger has been asked."""
    worker = Worker()
    try:
        refiller = Refiller(
            folder=bench.folder,
            worker=worker,
            ledgers=ledger,
            bureaus=lambda: [DONGCHENG],
            refill_after_seconds=0,
            silent_after_seconds=0,
        )
        await refiller.refill(DONGCHENG)
    finally:
        await worker.close()
    return bench.folder.mark(DONGCHENG).quarantine


async def test_a_ledger_that_is_judged_by_one_past_does_not_have_another_one_folded(bench: Bench) -> None:
    folded, honest, rewritten = dressed_up(3, lost_from=18)
    bench.feed(folded.segment())
    ledger = TwoFaced(honest, rewritten)
    assert "entry 17 is another one than the hub had known there" in await refilled(bench, ledger)
    bench.reopen()
    # A later generation of the same past does not let it go.
    rewritten.restore(rewritten.seq)
    rewritten.open_generation()
    assert "entry 17 is another one" in await refilled(bench, ledger)


async def test_what_was_judged_is_held_to_over_a_restart_of_the_hub_and_may_not_end_before(bench: Bench) -> None:
    folded, honest, rewritten = dressed_up(1, lost_from=18)
    bench.feed(folded.segment())
    lost = await judge(bench.folder.mark(DONGCHENG), {}, read(honest))
    bench.folder.forget(DONGCHENG, lost.sentence, (lost.stands_to, lost.hash))
    bench.reopen()
    ledger = TwoFaced(rewritten, rewritten)
    assert "the journal ends at seq 8, but the hub had known entry 17 of it" in await refilled(bench, ledger)


async def test_the_journal_that_was_judged_is_folded_and_held_to_no_more(bench: Bench) -> None:
    folded, honest, _ = dressed_up(1, lost_from=18)
    bench.feed(folded.segment())
    assert "" == await refilled(bench, TwoFaced(honest, honest))
    mark = bench.folder.mark(DONGCHENG)
    assert (honest.seq, 2) == (mark.seq, mark.generation)
    assert 0 == bench.folder.ahead(DONGCHENG)
    assert 2 == bench.facts()["registered"] - 1


async def test_a_journal_whose_parts_do_not_follow_one_another_is_no_past_to_judge_by() -> None:
    journal = cases(DONGCHENG, 3)
    mark = mark_of(journal)
    journal.restore(17)
    journal.open_generation()

    async def with_a_gap() -> AsyncIterator[Segment]:
        for number, segment in enumerate(journal.segments(size=5)):
            if number != 1:
                yield segment

    with pytest.raises(GenerationDenied, match="breaks off after entry 5"):
        await judge(mark, {}, with_a_gap())


class Breaking:
    """A ledger whose line breaks after so many segments of each reading."""

    def __init__(self, journal: Journal, segments: int) -> None:
        self.journal = journal
        self.segments = segments
        self.read_from: list[int] = []

    async def head(self, _bureau: str) -> Head:
        return self.journal.head()

    async def read(self, bureau: str, from_seq: int, to_seq: int = 0) -> AsyncIterator[Segment]:
        self.read_from.append(from_seq)
        for number, segment in enumerate(self.journal.segments(from_seq, to_seq, 5)):
            if number == self.segments:
                raise LedgerUnreachable(bureau, "UNAVAILABLE")
            yield segment


async def test_a_ledger_over_a_line_that_always_breaks_is_judged_in_several_sittings(bench: Bench) -> None:
    folded, honest, _ = dressed_up(1, lost_from=18)
    bench.feed(folded.segment())
    ledger, worker = Breaking(honest, 2), Worker()
    refiller = Refiller(
        folder=bench.folder,
        worker=worker,
        ledgers=ledger,  # type: ignore[arg-type]  # what a refiller asks of one
        bureaus=lambda: [DONGCHENG],
        refill_after_seconds=0,
        silent_after_seconds=0,
    )
    try:
        with pytest.raises(LedgerUnreachable):
            await refiller.refill(DONGCHENG)
        assert "" == bench.folder.mark(DONGCHENG).restored
        for _ in range(2):
            with contextlib.suppress(LedgerUnreachable):
                await refiller.refill(DONGCHENG)
    finally:
        await worker.close()
    # Judged from where it had come each time, then folded from its first entry.
    assert [1, 11, 18, 1] == ledger.read_from
    assert "has lost 4 folded entries, from 18 on" in bench.folder.mark(DONGCHENG).restored
    assert "" == bench.folder.mark(DONGCHENG).quarantine


async def test_a_ledger_is_held_in_its_second_sitting_to_what_it_has_shown_in_the_first() -> None:
    folded, honest, rewritten = dressed_up(3, lost_from=18)
    mark, judged = mark_of(folded), Judged()
    with pytest.raises(LedgerUnreachable):
        await judge(mark, {}, Breaking(honest, 2).read(DONGCHENG, 1), judged)
    assert 10 == judged.seq
    with pytest.raises(GenerationDenied, match="breaks off after entry 10"):
        await judge(mark, {}, Breaking(rewritten, 100).read(DONGCHENG, 11), judged)


def counted_otherwise(bench: Bench) -> None:
    """A crash, and a start of a version that counts entries in another way."""
    with bench.store.writing() as connection:
        connection.execute(sa.update(FACTS).where(FACTS.c.name == "definitions").values(value="0"))
    bench.reopen()


def test_an_upgrade_that_folds_all_ledgers_anew_lets_none_go_that_was_rewritten(bench: Bench) -> None:
    folded, rewritten = cases(DONGCHENG, 3), Journal(DONGCHENG)
    for number in range(4):
        rewritten.live(f"never-{number}")
    bench.feed(folded.segment())
    bench.folder.quarantine(DONGCHENG, "it was rewritten")
    counted_otherwise(bench)
    assert 0 == bench.folder.mark(DONGCHENG).seq
    bench.feed(rewritten.segment())
    assert f"entry {folded.seq} is another one than the hub had known" in bench.folder.mark(DONGCHENG).quarantine
    assert 0 == bench.facts().get("registered", 0)


def test_an_upgrade_folds_an_honest_ledger_anew_and_does_not_forget_what_it_has_lost(bench: Bench) -> None:
    folded = cases(DONGCHENG, 3)
    bench.feed(folded.segment())
    bench.folder.forget(DONGCHENG, "what was lost")
    bench.feed(folded.segment())
    counted_otherwise(bench)
    bench.feed(folded.segment())
    mark = bench.folder.mark(DONGCHENG)
    assert (folded.seq, "", "what was lost") == (mark.seq, mark.quarantine, mark.restored)
    assert 3 == bench.facts()["registered"]
