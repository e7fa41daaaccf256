"""What a ledger says of its hand-overs with a peer: whatever cases went through, with messages lost, both sides agree."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.events import AbsentCaseCleared, AbsentCaseFound, LedgersReconciled
from kuaixiang.domain.reconciliation import Comparison, compare
from kuaixiang.domain.words import Custody, DifferenceKind, Stage
from node.ledger import queries, schema
from node.ledger.ledger import Ledger
from tests.domain.story import (
    CALENDAR,
    COMPLETE,
    DAY,
    DISPATCH,
    FEEDBACK,
    FORWARD,
    HANGZHOU,
    HEADQUARTERS,
    HOUR,
    REFER,
    REOPEN,
    RETURN,
    SHANGCHENG,
    XIHU,
    ZHEJIANG,
)
from tests.ledger.bureaus import BUREAUS, Desks, desks

ALL_TIME = [(0, 2**60)]
PAIRS = ((XIHU, HANGZHOU), *pairwise((SHANGCHENG, HANGZHOU, ZHEJIANG, HEADQUARTERS)))


def compared(opened: Desks, bureau: str, peer: str) -> Comparison:
    here = queries.pair_records(opened.database, bureau, peer, ALL_TIME)
    there = queries.pair_records(opened.database, peer, bureau, ALL_TIME)
    return compare(here, there, opened.clock.now(), CALENDAR)


async def refer_to_and_fro(opened: Desks, chance: Random) -> None:
    """Cases that bureaus hand to each other, answer and reopen, while some of what they tell each other gets lost."""
    cases = [(await opened.register(chance.choice(BUREAUS))).case.case_id for _ in range(12)]
    for _ in range(150):
        case_id = chance.choice(cases)
        for bureau in BUREAUS:
            with suppress(Refused):
                case = await opened.office.read_case(bureau, case_id)
                other = chance.choice([code for code in BUREAUS if code != bureau])
                refer = replace(REFER, final_bureau=other)
                acts_possible: dict[Stage, list[Act]] = {
                    Stage.REGISTERED: [FORWARD, refer],
                    Stage.FORWARDED: [refer, RETURN, DISPATCH],
                    Stage.HANDLING: [COMPLETE, COMPLETE, refer],
                    Stage.COMPLETED: [FEEDBACK],
                    Stage.FED_BACK: [REOPEN],
                }
                act = chance.choice(acts_possible.get(case.stage, [acts.WithdrawOffer()]))
                if case.custody is Custody.OFFERED and chance.random() < 0.2:
                    act = acts.WithdrawOffer()
                await opened.do(bureau, act, case_id)
        await opened.carry(chance)
        opened.clock.advance(HOUR)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_after_hand_overs_to_and_fro_the_two_ledgers_of_a_pair_agree_but_for_what_was_forged(
    database_url: str, seed: int
) -> None:
    with desks(database_url, BUREAUS) as opened:
        await refer_to_and_fro(opened, Random(seed))
        await opened.carry_everything()
        records = [one for pair in PAIRS for one in queries.pair_records(opened.database, *pair, ALL_TIME)]
        for pair in PAIRS:
            found = compared(opened, *pair)
            # Offers that go in a circle are made up in these lives: their senders know nothing of them.
            assert [] == [one for one in found.differences if not one.referral_id.startswith("loop")], pair
            assert 0 == found.pending
        assert 20 < len(records)
        assert any(one.conclusion is not None for one in records)
        assert any(one.refusal is not None for one in records)


async def test_what_was_found_and_when_is_kept_and_comes_again_from_the_journal(database_url: str) -> None:
    event = LedgersReconciled(
        peer=HANGZHOU,
        from_day="2026-02-01",
        to_day="2026-03-02",
        matched=7,
        pending=1,
        missing_here=2,
        missing_there=0,
        different=0,
    )
    with desks(database_url, BUREAUS) as opened:
        case_id = (await opened.register(SHANGCHENG)).case.case_id
        assert await opened.office.note_mismatch(SHANGCHENG, case_id, HANGZHOU, DifferenceKind.DIFFERENT)
        assert not await opened.office.note_mismatch(SHANGCHENG, "nowhere", HANGZHOU, DifferenceKind.MISSING_HERE)
        for absent in ("one", "other", "third"):
            await opened.office.record_note(SHANGCHENG, AbsentCaseFound(peer=HANGZHOU), absent)
        await opened.office.record_note(SHANGCHENG, AbsentCaseCleared(peer=HANGZHOU), "other")
        await opened.office.record_note(SHANGCHENG, event)
        opened.clock.advance(DAY)
        await opened.office.record_note(XIHU, event)
        standing = queries.standing_mismatches(opened.database, (SHANGCHENG,), HANGZHOU)
        assert {(case_id, False), ("one", True), ("third", True)} == {(one.case_id, one.absent) for one in standing}
        assert [] == queries.standing_mismatches(opened.database, BUREAUS, ZHEJIANG)
        last = queries.last_reconciliations(opened.database, BUREAUS)
        assert [SHANGCHENG, XIHU] == [one.bureau for one in last]
        assert {(7, 1, 2, 0, 0)} == {
            (one.matched, one.pending, one.missing_here, one.missing_there, one.different) for one in last
        }
        before = opened.rows(*schema.PROJECTIONS)
    ledger = Ledger(database_url, BUREAUS)
    try:
        ledger.rebuild()
        assert standing == queries.standing_mismatches(ledger.database, (SHANGCHENG,), HANGZHOU)
        assert last == queries.last_reconciliations(ledger.database, BUREAUS)
    finally:
        ledger.close()
    with desks(database_url, BUREAUS) as again:
        assert before == again.rows(*schema.PROJECTIONS)
