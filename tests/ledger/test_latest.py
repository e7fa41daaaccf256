"""The newest entries in memory: what the publisher sends without reading the database again."""

import pytest

from kuaixiang.domain.events import CalendarAdopted
from node.ledger import latest, queries
from node.ledger.ledger import Draft, Work
from tests.ledger.bureaus import BUREAUS, Desks

BYTES_MAX = 2_000


async def test_from_wherever_they_are_kept_the_newest_entries_are_those_that_the_journal_has(opened: Desks) -> None:
    await opened.live(3, 60)
    for bureau in BUREAUS:
        end = opened.ledger.heads[bureau].seq
        for seq in range(max(end - latest.ENTRIES_MAX, 0), end):
            read = queries.read_segment(
                opened.database, bureau, seq, entries_max=latest.ENTRIES_MAX, bytes_max=BYTES_MAX
            )
            assert read is not None
            assert read == queries.segment_of(bureau, opened.ledger.latest.after(bureau, seq), BYTES_MAX)
        assert not opened.ledger.latest.after(bureau, end)


async def test_nothing_is_given_where_an_entry_in_between_is_not_kept(
    opened: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest, "ENTRIES_MAX", 3)
    bureau = BUREAUS[0]
    for _ in range(5):
        await opened.register(bureau)
    end = opened.ledger.heads[bureau].seq
    assert not opened.ledger.latest.after(bureau, end - 4)
    assert [end - 2, end - 1, end] == [entry.seq for entry in opened.ledger.latest.after(bureau, end - 3)]


async def test_what_was_recorded_by_a_piece_of_work_that_failed_is_not_among_them(opened: Desks) -> None:
    bureau = BUREAUS[0]
    await opened.register(bureau)
    end = opened.ledger.heads[bureau].seq

    def fails(draft: Draft) -> None:
        draft.note(opened.office.system_context(bureau), CalendarAdopted(calendar_version="2026.2"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await opened.ledger.do(Work(run=fails, bureau=bureau))
    assert not opened.ledger.latest.after(bureau, end)
