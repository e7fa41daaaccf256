"""A hub reads on from a ledger over a line that breaks before the journal has ended."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from demo.journals import Journal
from hub import rebuild, refill
from hub.ledgers import LedgerUnreachable
from hub.refill import Refiller
from hub.settings import HubSettings
from hub.worker import Worker
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from tests.hub.bench import Bench, cases
from tests.hub.journals import DONGCHENG

SEGMENTS = 4
"""What the line brings before it breaks: never as much as is folded at a time."""


class Breaking:
    """A ledger over a line that always breaks after some segments, or before the first."""

    def __init__(self, journal: Journal, segments: int = SEGMENTS) -> None:
        self.journal = journal
        self.segments = segments
        self.readings = 0

    def has(self, _bureau: str) -> bool:
        return True

    async def head(self, _bureau: str) -> Head:
        return self.journal.head()

    async def read(self, bureau: str, from_seq: int, to_seq: int = 0) -> AsyncIterator[Segment]:
        self.readings += 1
        for number, segment in enumerate(self.journal.segments(from_seq, to_seq, 10)):
            if number == self.segments:
                raise LedgerUnreachable(bureau, "the line broke")
            yield segment

    async def close(self) -> None:
        pass


def refiller_of(bench: Bench, worker: Worker, ledger: Any) -> Refiller:
    return Refiller(
        folder=bench.folder,
        worker=worker,
        ledgers=ledger,
        bureaus=lambda: [DONGCHENG],
        refill_after_seconds=0,
        silent_after_seconds=0,
    )


async def test_what_comes_before_the_line_breaks_is_folded_so_that_a_journal_is_read_to_its_end(bench: Bench) -> None:
    journal = cases(DONGCHENG, 15)
    assert refill.BATCH_ENTRIES > journal.seq > 2 * SEGMENTS * 10
    worker = Worker()
    refiller, marks = refiller_of(bench, worker, Breaking(journal)), [0]
    try:
        while marks[-1] < journal.seq:
            try:
                await refiller.refill(DONGCHENG)
            except LedgerUnreachable:
                assert bench.folder.mark(DONGCHENG).seq == marks[-1] + SEGMENTS * 10
            marks.append(bench.folder.mark(DONGCHENG).seq)
        assert ([0, 40, 80, 105], 15) == (marks, bench.facts(DONGCHENG)["registered"])
        assert "" == bench.folder.mark(DONGCHENG).quarantine
    finally:
        await worker.close()


@pytest.mark.parametrize(("segments", "found"), [(SEGMENTS, (105, [], 3)), (0, (0, [DONGCHENG], 2))])
async def test_a_rebuild_reads_on_over_a_line_that_breaks_as_long_as_anything_comes(
    segments: int, found: tuple[int, list[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Breaking(cases(DONGCHENG, 15), segments)
    monkeypatch.setattr(rebuild, "Ledgers", lambda *_: ledger)
    settings = read_settings(HubSettings, None, database=f"sqlite:///{tmp_path}/hub.db")
    rebuilt = await rebuild.rebuild(settings, (DONGCHENG,))
    assert found == (rebuilt.entries, rebuilt.unreachable, ledger.readings)
