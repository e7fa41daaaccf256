"""Group commit: many share one, each has its own answer; what is refused leaves no trace; a key is used once."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.domain import acts, errors
from kuaixiang.domain.words import Channel
from kuaixiang.runtime.writer import WriterStopped
from node.ledger import schema
from node.ledger.ledger import Draft, Work
from tests.domain.story import (
    ASK,
    CASE_ID,
    COMPLETE,
    DISPATCH,
    FORWARD,
    HANGZHOU,
    REGISTER,
    SHANGCHENG,
)
from tests.ledger.bureaus import Desks, check_journal, desks, table_rows

BY_HOTLINE = replace(REGISTER, channel=Channel.HOTLINE, channel_reference="12366-7")


def commits(opened: Desks) -> list[None]:
    """Grows by one with every commit of the writer."""
    counted: list[None] = []
    sa.event.listen(opened.database.writing, "commit", lambda _connection: counted.append(None))
    return counted


def everything(opened: Desks) -> dict[str, list[tuple[Any, ...]]]:
    return opened.rows(*schema.METADATA.sorted_tables)


# ---------------------------------------------------------------- sharing a commit


async def test_callers_at_once_share_commits_and_each_gets_its_own_answer(opened: Desks) -> None:
    counted = commits(opened)
    done = await asyncio.gather(*(opened.register() for _ in range(100)))
    assert len(counted) < 20
    assert set(range(1, 101)) == {one.seq for one in done}
    assert 100 == len({one.case.case_id for one in done})
    journal = {(row[1], row[3]) for row in table_rows(opened.database, schema.JOURNAL)}
    assert journal == {(one.seq, one.case.case_id) for one in done}
    assert 100 == check_journal(opened.database, SHANGCHENG)


async def test_acts_on_one_case_in_one_batch_see_each_other(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    steps = [opened.do(SHANGCHENG, act, case_id) for act in (FORWARD, DISPATCH, ASK, COMPLETE)]
    done = await asyncio.gather(*steps)
    assert [3, 4, 5, 6] == [one.case.version for one in done]


async def test_a_refusal_in_a_batch_leaves_no_trace_and_the_others_go_on(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    answers = await asyncio.gather(
        opened.register(),
        opened.do(SHANGCHENG, DISPATCH, case_id, request_key="too-early"),
        opened.register(HANGZHOU),
        opened.do(SHANGCHENG, replace(REGISTER, contact="call me")),
        opened.do(SHANGCHENG, FORWARD, "no-such-case"),
        return_exceptions=True,
    )
    assert ["Done", "ActNotAllowed", "Done", "FieldMalformed", "UnknownCase"] == [type(one).__name__ for one in answers]
    assert [2, 1] == [check_journal(opened.database, bureau) for bureau in (SHANGCHENG, HANGZHOU)]
    assert [] == table_rows(opened.database, schema.REQUESTS)


async def test_a_refusal_alone_writes_nothing(opened: Desks) -> None:
    await opened.register()
    before = everything(opened)
    with pytest.raises(errors.FieldMissing):
        await opened.do(SHANGCHENG, replace(REGISTER, text=""))
    assert before == everything(opened)


async def test_a_fault_half_way_through_an_act_leaves_no_trace(opened: Desks) -> None:
    def fault(draft: Draft) -> None:
        draft.put_cursor(SHANGCHENG, 99)
        draft.keep_receipt(SHANGCHENG, "r1", b"receipt")
        raise ZeroDivisionError

    before = everything(opened)
    answers = await asyncio.gather(
        opened.ledger.do(Work(run=fault, bureau=SHANGCHENG)), opened.register(HANGZHOU), return_exceptions=True
    )
    assert ["ZeroDivisionError", "Done"] == [type(answer).__name__ for answer in answers]
    after = everything(opened)
    assert (before["cursors"], before["decisions"]) == (after["cursors"], after["decisions"])


async def test_a_caller_who_went_away_has_its_act_all_the_same(opened: Desks) -> None:
    task = asyncio.ensure_future(opened.register())
    await asyncio.sleep(0)
    task.cancel()
    await opened.register()
    assert 2 == check_journal(opened.database, SHANGCHENG)


async def test_a_closed_ledger_takes_nothing(database_url: str) -> None:
    with desks(database_url) as office:
        await office.register()
    with pytest.raises(WriterStopped):
        await office.register()


async def test_a_ledger_that_was_never_started_can_be_closed(database_url: str) -> None:
    Desks(database_url).ledger.close()
    Desks(database_url).ledger.close()


async def test_the_answer_is_durable_before_it_is_given(opened: Desks) -> None:
    done = await opened.register()
    assert [done.seq] == [row[1] for row in table_rows(opened.database, schema.JOURNAL)]


# ---------------------------------------------------------------- the caller's key


async def test_the_same_key_with_the_same_act_has_the_same_answer(opened: Desks) -> None:
    first = await opened.register(request_key="k1")
    again = await opened.register(request_key="k1")
    assert (False, True) == (first.repeated, again.repeated)
    assert (first.case, first.seq) == (again.case, again.seq)
    assert 1 == check_journal(opened.database, SHANGCHENG)


async def test_the_same_key_with_another_act_is_refused(opened: Desks) -> None:
    case_id = (await opened.register(request_key="k1")).case.case_id
    with pytest.raises(errors.KeyReused):
        await opened.do(SHANGCHENG, FORWARD, case_id, request_key="k1")


async def test_keys_hold_within_one_batch(opened: Desks) -> None:
    first, again, other = await asyncio.gather(
        opened.register(request_key="k1"),
        opened.register(request_key="k1"),
        opened.do(SHANGCHENG, replace(REGISTER, text="另一件事"), request_key="k1"),
        return_exceptions=True,
    )
    assert not isinstance(first, BaseException)
    assert not isinstance(again, BaseException)
    assert isinstance(other, errors.KeyReused)
    assert (first.seq, True) == (again.seq, again.repeated)
    assert 1 == check_journal(opened.database, SHANGCHENG)


async def test_keys_hold_after_reopening(database_url: str) -> None:
    with desks(database_url) as before:
        first = await before.register(request_key="k1")
    with desks(database_url) as after:
        again = await after.register(request_key="k1")
        assert (first.case, first.seq, True) == (again.case, again.seq, again.repeated)
        with pytest.raises(errors.KeyReused):
            await after.do(SHANGCHENG, FORWARD, first.case.case_id, request_key="k1")


async def test_a_key_is_a_bureaus_own(opened: Desks) -> None:
    await opened.register(SHANGCHENG, request_key="k1")
    assert not (await opened.register(HANGZHOU, request_key="k1")).repeated


async def test_a_repeated_act_is_answered_with_the_case_as_it_is_now(opened: Desks) -> None:
    case_id = (await opened.register(request_key="k1")).case.case_id
    await opened.do(SHANGCHENG, FORWARD, case_id)
    again = await opened.register(request_key="k1")
    assert (1, 3) == (again.seq, again.case.version)


async def test_a_refused_act_does_not_use_its_key_up(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    with pytest.raises(errors.ActNotAllowed):
        await opened.do(SHANGCHENG, DISPATCH, case_id, request_key="k1")
    await opened.do(SHANGCHENG, FORWARD, case_id)
    assert not (await opened.do(SHANGCHENG, DISPATCH, case_id, request_key="k1")).repeated


async def test_an_act_that_changed_nothing_keeps_its_key_too(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    await opened.do(SHANGCHENG, acts.Refer(final_bureau=HANGZHOU, reason="x", telling=2), case_id)  # type: ignore[arg-type]
    await opened.do(SHANGCHENG, acts.WithdrawOffer(), case_id, request_key="k1")
    await opened.do(SHANGCHENG, acts.WithdrawOffer(), case_id, request_key="k2")
    assert (await opened.do(SHANGCHENG, acts.WithdrawOffer(), case_id, request_key="k2")).repeated


# ---------------------------------------------------------------- the channel's own number


async def test_a_channels_number_twice_is_one_case(opened: Desks) -> None:
    first = await opened.do(SHANGCHENG, BY_HOTLINE)
    again = await opened.do(SHANGCHENG, replace(BY_HOTLINE, text="换了说法"))
    assert (first.case.case_id, first.seq, True) == (again.case.case_id, again.seq, again.repeated)
    assert 1 == check_journal(opened.database, SHANGCHENG)


async def test_a_channels_number_twice_in_one_batch_is_one_case(opened: Desks) -> None:
    done = await asyncio.gather(*(opened.do(SHANGCHENG, BY_HOTLINE) for _ in range(5)))
    assert 1 == len({one.case.case_id for one in done})
    assert [False, True, True, True, True] == [one.repeated for one in done]


async def test_a_channels_number_twice_is_one_case_after_reopening(database_url: str) -> None:
    with desks(database_url) as before:
        first = await before.do(SHANGCHENG, BY_HOTLINE)
    with desks(database_url) as after:
        assert first.case.case_id == (await after.do(SHANGCHENG, BY_HOTLINE)).case.case_id


async def test_the_same_number_of_another_channel_or_at_another_bureau_is_another_case(opened: Desks) -> None:
    done = [
        await opened.do(SHANGCHENG, BY_HOTLINE),
        await opened.do(SHANGCHENG, replace(BY_HOTLINE, channel=Channel.WEBSITE)),
        await opened.do(HANGZHOU, BY_HOTLINE),
    ]
    assert 3 == len({one.case.case_id for one in done})


async def test_the_key_of_a_registration_found_by_its_number_is_used(opened: Desks) -> None:
    case_id = (await opened.do(SHANGCHENG, BY_HOTLINE)).case.case_id
    await opened.do(SHANGCHENG, BY_HOTLINE, request_key="k1")
    with pytest.raises(errors.KeyReused):
        await opened.do(SHANGCHENG, FORWARD, case_id, request_key="k1")


# ---------------------------------------------------------------- what the caller saw, and what it sends


async def test_an_act_on_a_version_that_is_no_longer_so_is_refused(opened: Desks) -> None:
    case = (await opened.register()).case
    await opened.do(SHANGCHENG, FORWARD, case.case_id, expected_version=1)
    with pytest.raises(errors.VersionConflict, match="version 3, not 1"):
        await opened.do(SHANGCHENG, DISPATCH, case.case_id, expected_version=1)


async def test_two_callers_who_saw_the_same_version_do_not_both_act(opened: Desks) -> None:
    case = (await opened.register()).case
    answers = await asyncio.gather(
        *(opened.do(SHANGCHENG, FORWARD, case.case_id, expected_version=1) for _ in range(2)), return_exceptions=True
    )
    assert ["Done", "VersionConflict"] == [type(one).__name__ for one in answers]


async def test_a_number_that_no_case_can_have_is_refused_before_anything_looks_for_it(opened: Desks) -> None:
    for case_id in ("", "a\0b", "x" * 65, "案件", "a b"):
        for question in (opened.do(SHANGCHENG, FORWARD, case_id), opened.office.read_case(SHANGCHENG, case_id)):
            with pytest.raises(errors.FieldMalformed) as refusal:
                await question
            assert refusal.value.field.endswith("case_id")


async def test_a_channels_number_that_no_database_can_hold_is_refused(opened: Desks) -> None:
    with pytest.raises(errors.FieldMalformed, match="channel_reference"):
        await opened.do(SHANGCHENG, replace(BY_HOTLINE, channel_reference="a\0b"))


async def test_a_bureau_that_is_not_hosted_is_named(opened: Desks) -> None:
    with pytest.raises(errors.NotThisBureau, match="999999"):
        await opened.register("999999")
    with pytest.raises(errors.UnknownCase):
        await opened.office.read_case(SHANGCHENG, CASE_ID)
