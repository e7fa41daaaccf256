"""Random lives of a federation of three tiers: people do acts of all kinds, messages get lost, and the books balance.

Real offices over real ledgers, in one process. KX_TEST_LIVES says how many lives are lived (one of 75 cases by default),
KX_TEST_SEED the first one's seed.
"""

import os
from collections import Counter
from collections.abc import Iterable

import pytest

from hub.cells import Days, grounds_of
from hub.fold import Changes, read_entries
from hub.measures import measure_name
from hub.sums import Sums
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import Custody, Stage
from kuaixiang.wire.v1 import journal_pb2
from node.ledger import queries
from tests.domain.federation import check_clocks
from tests.domain.story import TREE
from tests.faults.checker.figures import counted_by_hand
from tests.ledger.bureaus import Desks, check_journal, desks
from tests.ledger.test_pair_records import compared

LIVES = int(os.environ.get("KX_TEST_LIVES", "1"))
FIRST_SEED = int(os.environ.get("KX_TEST_SEED", "20190129"))
STEPS = 900
"""A case is registered at every twelfth."""
EVERY_BUREAU = tuple(TREE.bureaus)
CLOSED = {Stage.RECONSIDERATION, Stage.WITHDRAWN, Stage.WRITTEN_OFF}
COMMON = {
    "registered", "answered_on_the_spot", "forwarded", "accepted_directly", "dispatched", "dispatch_returned",
    "joint_handling_started", "part_completed", "extension_asked",
    "completed", "feedback_given", "followed_up", "reopened", "deferred", "resumed",
    "sent_to_reconsideration", "case_withdrawn", "offered", "released", "received", "offer_declined", "concluded",
    "conclusion_delivered", "written_off", "became_due_soon", "became_overdue",
    "clocks_recomputed", "calendar_adopted", "private_read",
}  # fmt: skip
"""What some case meets in every life of this length."""


def journal_of(opened: Desks, bureau: str) -> list[journal_pb2.Segment]:
    """The whole journal of a bureau, as a hub reads it."""
    segments: list[journal_pb2.Segment] = []
    after = 0
    while True:
        segment = queries.read_segment(opened.database, bureau, after, entries_max=500, bytes_max=1 << 20)
        if segment is None:
            return segments
        segments.append(segment)
        after = segment.first_seq + len(segment.entries) - 1


def entries_of(segments: Iterable[journal_pb2.Segment]) -> list[journal_pb2.Entry]:
    return [journal_pb2.Entry.FromString(one.public) for segment in segments for one in segment.entries]


def told_by_the_hub(tallies: Days, wanted: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    names = set(wanted)
    for cells in tallies.values():
        for cell, value in cells.items():
            name = measure_name(grounds_of(cell)[-1])
            if name in names:
                counts[name] += value
    return +counts


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + LIVES))
async def test_after_any_life_each_case_has_one_custodian_and_ledgers_hub_and_peers_agree(
    database_url: str, seed: int
) -> None:
    with desks(database_url, EVERY_BUREAU) as opened:
        await opened.live(seed, STEPS)
        await opened.carry_everything()
        cases = await opened.cases()
        for case_id in {case_id for _, case_id in cases}:
            held = {bureau: case.custody for (bureau, known), case in cases.items() if known == case_id}
            assert [Custody.OWNED] == [custody for custody in held.values() if custody is not Custody.RELEASED], held
        for (bureau, case_id), case in cases.items():
            history: list[Entry] = [
                item.entry for item in queries.history(opened.database, bureau, case_id, private=False)
            ]
            check_clocks(case, history)
        met: Counter[str] = Counter()
        for bureau in EVERY_BUREAU:
            check_journal(opened.database, bureau)
            segments = journal_of(opened, bureau)
            entries = entries_of(segments)
            met.update(str(entry.WhichOneof("event")) for entry in entries)
            folded = Changes()
            for segment in segments:
                folded.go_on(read_entries(segment, before=folded))
            tallies = Sums.of_numbers({bureau: folded.counts}).by_bureau().get(bureau, {})
            expected = counted_by_hand(entries)
            assert expected == told_by_the_hub(tallies, expected), bureau
            assert {case_id for case_id, row in folded.cases.items() if row is not None} == {
                case_id
                for (at, case_id), case in cases.items()
                if at == bureau and case.custody is not Custody.RELEASED and case.stage not in CLOSED
            }
        for bureau in EVERY_BUREAU:
            superior = TREE.parent(bureau)
            if superior is not None:
                found = compared(opened, bureau, superior)
                # Offers that go in a circle are forged in these lives: their senders know nothing of them.
                assert [] == [one for one in found.differences if not one.referral_id.startswith("loop")]
                assert 0 == found.pending
        assert set() == COMMON - met.keys()
