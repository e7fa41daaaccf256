"""Reading the ledger: pages are complete and without repeats, filters mean what they say."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.words import Category, Channel, ClockKind, Custody, Stage
from kuaixiang.runtime.clock import to_micros
from node.ledger import queries
from node.ledger.ledger import Draft, Work
from node.ledger.queries import CaseFilter, Directive
from tests.domain.story import DISPATCH, FORWARD, HANGZHOU, HOUR, REFER, REGISTER, SHANGCHENG, day, end_of
from tests.ledger.bureaus import Desks

CASES = 23


async def fill(opened: Desks) -> list[Case]:
    """Cases of several stages, categories, channels and times."""
    found = []
    for number in range(CASES):
        act = replace(
            REGISTER,
            category=list(Category)[number % 3],
            channel=list(Channel)[number % 2],
            answer="可以享受减免" if number % 5 == 4 else "",
        )
        case = (await opened.do(SHANGCHENG, act)).case
        for step in [FORWARD, DISPATCH, REFER][: number % 4 if number % 5 != 4 else 0]:
            case = (await opened.do(SHANGCHENG, step, case.case_id)).case
        found.append(case)
        opened.clock.advance(HOUR)
    await opened.register(HANGZHOU)
    return found


def pages(opened: Desks, wanted: CaseFilter, size: int) -> list[Case]:
    found, token = queries.list_cases(opened.database, wanted, size, "")
    while token:
        assert found
        more, token = queries.list_cases(opened.database, wanted, size, token)
        assert len(more) <= size
        found.extend(more)
    return found


async def test_pages_are_complete_and_without_repeats_nearest_deadline_first(opened: Desks) -> None:
    cases = await fill(opened)
    for size in (1, 4, CASES, 500):
        found = pages(opened, CaseFilter(bureau=SHANGCHENG), size)
        assert CASES == len(found)
        assert {case.case_id: case for case in cases} == {case.case_id: case for case in found}
        dues = [min(clock.due_at for clock in case.clocks) for case in found]
        assert sorted(dues) == dues


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"stages": [Stage.HANDLING]}, lambda case: case.stage is Stage.HANDLING),
    ({"stages": [Stage.REGISTERED, Stage.FED_BACK]}, lambda case: case.stage in {Stage.REGISTERED, Stage.FED_BACK}),
    ({"custodies": [Custody.OFFERED]}, lambda case: case.custody is Custody.OFFERED),
    ({"department": "policy"}, lambda case: case.department == "policy"),
    ({"category": Category.SERVICE}, lambda case: case.category is Category.SERVICE),
    ({"channel": Channel.PLATFORM}, lambda case: case.channel is Channel.PLATFORM),
    (
        {"next_clock": ClockKind.DISPATCH},
        lambda case: min(case.clocks, key=lambda c: c.due_at).kind is ClockKind.DISPATCH,
    ),
    (
        {"due_before_us": to_micros(end_of(3, 3))},
        lambda case: min(clock.due_at for clock in case.clocks) <= end_of(3, 3),
    ),
    ({"registered_from_us": to_micros(day(3, 2, 20))}, lambda case: case.registered_at >= day(3, 2, 20)),
    ({"registered_before_us": to_micros(day(3, 2, 20))}, lambda case: case.registered_at < day(3, 2, 20)),
    (
        {"category": Category.POLICY, "channel": Channel.HOTLINE, "stages": [Stage.REGISTERED]},
        lambda case: (case.category, case.channel, case.stage)
        == (Category.POLICY, Channel.HOTLINE, Stage.REGISTERED),
    ),
]  # fmt: skip


async def test_each_filter_gives_the_cases_it_describes_and_all_of_them(opened: Desks) -> None:
    cases = await fill(opened)
    for wanted, holds in FILTERS:
        expected = {case.case_id for case in cases if holds(case)}
        assert 0 < len(expected) < CASES, wanted
        found = [case.case_id for case in pages(opened, CaseFilter(bureau=SHANGCHENG, **wanted), 3)]
        assert (len(expected), expected) == (len(found), set(found)), wanted


async def test_a_bureau_sees_its_own_cases_alone(opened: Desks) -> None:
    await fill(opened)
    assert {HANGZHOU} == {case.bureau for case in pages(opened, CaseFilter(bureau=HANGZHOU), 10)}


async def test_a_case_that_leaves_the_list_between_pages_repeats_and_hides_no_other(opened: Desks) -> None:
    cases = await fill(opened)
    wanted = CaseFilter(bureau=SHANGCHENG, stages=[Stage.REGISTERED])
    first, token = queries.list_cases(opened.database, wanted, 2, "")
    await opened.do(SHANGCHENG, FORWARD, first[0].case_id)
    second, _ = queries.list_cases(opened.database, wanted, 500, token)
    expected = [case.case_id for case in cases if case.stage is Stage.REGISTERED]
    assert sorted(expected) == sorted(case.case_id for case in [*first, *second])


async def test_a_token_that_is_none_is_named(opened: Desks) -> None:
    for token in ("x", "诉求", "MTIz", "MSBhAGI=", "!!!!"):
        with pytest.raises(FieldMalformed) as refusal:
            queries.list_cases(opened.database, CaseFilter(bureau=SHANGCHENG), 10, token)
        assert "page_token" == refusal.value.field


async def test_a_token_of_impossible_numbers_finds_the_beginning_or_the_end(opened: Desks) -> None:
    await opened.register()
    for due, count in ((-(10**30), 1), (10**30, 0)):
        token = queries.token_of(due, "x")
        assert count == len(queries.list_cases(opened.database, CaseFilter(bureau=SHANGCHENG), 10, token)[0])


async def test_a_page_has_fifty_cases_when_nothing_is_said_and_five_hundred_at_most(opened: Desks) -> None:
    assert (50, 500) == (queries.PAGE_SIZE_DEFAULT, queries.PAGE_SIZE_MAX)
    for _ in range(51):
        await opened.register()
    found, token = queries.list_cases(opened.database, CaseFilter(bureau=SHANGCHENG), 0, "")
    assert (50, True) == (len(found), bool(token))


async def test_deadlines_that_passed_and_are_not_recorded_are_found_until_they_are(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    assert [] == opened.to_note()
    opened.clock.set(day(3, 4))
    assert [(SHANGCHENG, case_id)] == opened.to_note()
    await opened.office.note_time(SHANGCHENG, case_id)
    assert [] == opened.to_note()


async def test_what_another_calendar_moves_is_found_until_it_is_recorded(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    await opened.adopt(Random(1))
    assert [(SHANGCHENG, case_id)] == opened.to_note()
    await opened.office.note_time(SHANGCHENG, case_id)
    assert [] == opened.to_note()


async def test_what_headquarters_has_published_is_kept_in_its_own_bytes(opened: Desks) -> None:
    def run(draft: Draft) -> None:
        draft.put_directive(1, "", 20, b"second", b"s2")
        draft.put_directive(1, "", 10, b"first", b"s1")
        draft.put_directive(2, "GX-1", 30, b"issue", b"s3")

    for _ in range(2):  # a repeat changes nothing
        await opened.ledger.do(Work(run=run, bureau=SHANGCHENG))
    assert [
        Directive(1, "", 10, b"first", b"s1"),
        Directive(1, "", 20, b"second", b"s2"),
        Directive(2, "GX-1", 30, b"issue", b"s3"),
    ] == queries.directives(opened.database)


async def test_an_offered_case_has_no_deadline_to_record(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    await opened.do(SHANGCHENG, REFER, case_id)
    opened.clock.set(day(3, 20))
    assert [] == opened.to_note()
