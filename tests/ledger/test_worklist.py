"""The work list: tabs mean what they say, counts are of what is listed, cases are found by words."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import node.ledger
from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.words import Channel, ClockKind, Custody, ReferralKind, Stage, WorkTab
from kuaixiang.domain.worklist import end_of_today
from kuaixiang.runtime.clock import FixedClock, to_micros
from node.ledger import queries, schema, search
from node.ledger.queries import CaseFilter
from node.ledger.search import read_search
from tests.domain.story import DISPATCH, FORWARD, HANGZHOU, HOUR, MONDAY, REGISTER, SHANGCHENG
from tests.ledger.bureaus import BUREAUS, Desks, desks, execute, table_rows
from tests.ledger.older import unseal

OPEN = frozenset(Stage) - {Stage.RECONSIDERATION, Stage.WITHDRAWN, Stage.WRITTEN_OFF}
TO_WRITE_OFF = {Stage.FED_BACK, Stage.FOLLOWED_UP, Stage.CONCLUDED, Stage.RECONSIDERATION, Stage.WITHDRAWN}


def owned(*stages: Stage) -> Callable[[Case, int, int], bool]:
    return lambda case, _now, _ends: case.custody is Custody.OWNED and case.stage in stages


def nearest(case: Case) -> int:
    return min((to_micros(clock.due_at) for clock in case.clocks), default=schema.NEVER_US)


def is_open(case: Case) -> bool:
    return case.custody is Custody.OWNED and case.stage in OPEN


def awaits_ruling(case: Case) -> bool:
    return case.stage is Stage.FORWARDED and case.incoming is not None and case.incoming.kind is ReferralKind.ARBITRATE


MEANT: dict[WorkTab, Callable[[Case, int, int], bool]] = {
    WorkTab.TO_FORWARD: owned(Stage.REGISTERED),
    WorkTab.TO_DISPATCH: owned(Stage.FORWARDED),
    WorkTab.TO_HANDLE: owned(Stage.HANDLING, Stage.JOINT_HANDLING),
    WorkTab.DUE_TODAY: lambda case, now, ends: is_open(case) and now < nearest(case) <= ends,
    WorkTab.OVERDUE: lambda case, now, _ends: is_open(case) and nearest(case) <= now,
    WorkTab.TO_FEED_BACK: owned(Stage.COMPLETED),
    WorkTab.TO_FOLLOW_UP: lambda case, _now, _ends: (
        case.stage is Stage.FED_BACK and case.clock(ClockKind.FOLLOW_UP) is not None
    ),
    WorkTab.TO_WRITE_OFF: lambda case, _now, _ends: (
        case.stage in TO_WRITE_OFF and case.clock(ClockKind.FOLLOW_UP) is None
    ),
    WorkTab.DEFERRED: owned(Stage.DEFERRED),
    WorkTab.ELSEWHERE: lambda case, _now, _ends: (
        case.custody is not Custody.OWNED and case.stage is not Stage.WRITTEN_OFF
    ),
    WorkTab.TO_DECIDE: lambda case, _now, _ends: (
        case.custody is Custody.OWNED
        and case.stage is not Stage.WRITTEN_OFF
        and (bool(case.extensions) or case.override_asked is not None or awaits_ruling(case))
    ),
    WorkTab.ALL: lambda _case, _now, _ends: True,
}


def wanted(opened: Desks, bureau: str = SHANGCHENG, **more: Any) -> CaseFilter:
    now = opened.clock.now()
    ends = to_micros(end_of_today(now))
    return CaseFilter(bureau=bureau, now_us=to_micros(now), today_ends_us=ends, **more)


def pages(opened: Desks, asked: CaseFilter, size: int = 500) -> list[Case]:
    found, token = queries.list_cases(opened.database, asked, size, "")
    while token:
        more, token = queries.list_cases(opened.database, asked, size, token, opened.ledger.folded)
        assert len(more) <= size
        found.extend(more)
    return found


def finds(opened: Desks, words: str, bureau: str = SHANGCHENG, size: int = 500, **more: Any) -> list[str]:
    asked = wanted(opened, bureau, pieces=read_search(words), **more)
    return [case.case_id for case in pages(opened, asked, size)]


async def test_every_tab_lists_what_it_means_nearest_deadline_first_and_the_counts_are_of_the_lists(
    opened: Desks,
) -> None:
    await opened.live(7, 400)
    now, ends = to_micros(opened.clock.now()), to_micros(end_of_today(opened.clock.now()))
    cases = await opened.cases()
    filled = set()
    for bureau in BUREAUS:
        of_bureau = [case for key, case in cases.items() if key[0] == bureau]
        for department in ("", "policy", "tax-service"):
            counts = queries.count_work(opened.database, bureau, department, now, ends)
            assert list(WorkTab) == [count.tab for count in counts]
            for tab, count in zip(WorkTab, counts, strict=True):
                meant = [
                    case for case in of_bureau if MEANT[tab](case, now, ends) and department in {"", case.department}
                ]
                meant.sort(key=lambda case: (nearest(case), case.case_id))
                asked = wanted(opened, bureau, tab=tab, department=department)
                assert meant == pages(opened, asked, 3), (tab, bureau, department)
                assert (len(meant), False) == (count.count, count.more)
                filled |= {tab} if meant else set()
    # Random lives leave nothing due today and nothing undecided for long; both have tests of their own.
    assert set(WorkTab) - {WorkTab.DUE_TODAY, WorkTab.TO_DECIDE} <= filled


async def test_what_is_due_today_is_so_until_midnight(opened: Desks) -> None:
    case = (await opened.register()).case
    day = case.clocks[0].due_at - timedelta(hours=9)
    for at, tabs in (
        (case.clocks[0].due_at - timedelta(hours=25), set[WorkTab]()),
        (day, {WorkTab.DUE_TODAY}),
        (case.clocks[0].due_at, {WorkTab.OVERDUE}),
    ):
        opened.clock.set(at)
        timed = (WorkTab.DUE_TODAY, WorkTab.OVERDUE)
        assert tabs == {tab for tab in timed if pages(opened, wanted(opened, tab=tab))}


async def test_a_tab_is_counted_to_its_limit(opened: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "COUNTED_MAX", 3)
    for number in range(5):
        await opened.register()
        now = to_micros(opened.clock.now())
        counted = queries.count_work(opened.database, SHANGCHENG, "", now, now)[WorkTab.TO_FORWARD - 1]
        assert (min(number + 1, 3), number >= 3) == (counted.count, counted.more)


async def test_a_case_is_found_by_two_characters_a_name_numbers_and_its_own_number(opened: Desks) -> None:
    act = replace(
        REGISTER,
        taxpayer_name="杭州云栖软件有限公司",
        contact="0571-88000000",
        text="电子税务局Excel导出报错ERR502，涉及加计扣除。",
        channel_reference="HT-2026-77",
    )
    case_id = (await opened.do(SHANGCHENG, act)).case.case_id
    await opened.register()
    for words in (
        "加计",
        "加计 报错",
        "云栖软件",
        "excel",
        "err502",
        "057188000000",
        "HT-2026-77",
        case_id,
        case_id[-7:],
    ):
        assert [case_id] == finds(opened, words), words
    assert [] == finds(opened, "加计 不存在")
    assert [] == finds(opened, "计加")


async def test_a_later_note_is_found_and_the_case_with_the_newest_comes_first(opened: Desks) -> None:
    first, second = [(await opened.register()).case.case_id for _ in range(2)]
    await opened.do(SHANGCHENG, replace(FORWARD, told="已说明跨省迁移手续"), second)
    await opened.do(SHANGCHENG, replace(FORWARD, told="已说明跨省迁移手续"), first)
    await opened.do(SHANGCHENG, replace(DISPATCH, note="跨省迁移优先"), second)
    for size in (1, 2, 10):
        assert [second, first] == finds(opened, "跨省迁移", size=size)


async def test_no_bureau_finds_what_is_another_ones(opened: Desks) -> None:
    here, there = (await opened.register(SHANGCHENG)).case.case_id, (await opened.register(HANGZHOU)).case.case_id
    word = REGISTER.text[:2]
    assert ([here], [there]) == (finds(opened, word, SHANGCHENG), finds(opened, word, HANGZHOU))
    assert [] == finds(opened, HANGZHOU * 2)


async def test_a_search_pages_without_gaps_or_repeats_and_within_what_else_restricts(
    opened: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "HITS_READ_MAX", 7)
    made = []
    for number in range(25):
        made.append((await opened.register()).case.case_id)
        if number % 3 == 0:
            await opened.do(SHANGCHENG, FORWARD, made[-1])
        opened.clock.advance(HOUR / 10)
    word = REGISTER.text[:2]
    assert made[::-1] == finds(opened, word, size=4)
    assert made[::3][::-1] == finds(opened, word, size=4, tab=WorkTab.TO_DISPATCH)
    assert [] == finds(opened, word, tab=WorkTab.TO_FEED_BACK)


async def test_a_token_of_a_search_is_none_of_a_list_nor_the_other_way_round(opened: Desks) -> None:
    for _ in range(3):
        await opened.register()
    listed, found = wanted(opened), wanted(opened, pieces=read_search(REGISTER.text[:2]))
    tokens = {asked.pieces: queries.list_cases(opened.database, asked, 1, "")[1] for asked in (listed, found)}
    for asked, other in ((listed, found), (found, listed)):
        with pytest.raises(FieldMalformed) as refused:
            queries.list_cases(opened.database, asked, 1, tokens[other.pieces])
        assert "page_token" == refused.value.field


@pytest.mark.parametrize(
    "words",
    [
        '"减免',
        "减免*",
        "减免\0政策",
        "减免 OR 政策",
        "减免😀",
        "NEAR(减免, 2)",
        "words:减免",
        "减免'; DROP",
        "-减免",
        "(减免",
    ],
)
async def test_whatever_is_asked_for_is_words_and_no_syntax(opened: Desks, words: str) -> None:
    await opened.do(SHANGCHENG, replace(REGISTER, text="减免政策 or near 2 words drop"))
    assert 1 == len(finds(opened, words))


@pytest.mark.parametrize("words", ["税", "😀", "\0", '"', "*", "减免" * 5_000, "a" * 201])
def test_what_cannot_be_looked_for_is_refused_in_both_languages(words: str) -> None:
    with pytest.raises(FieldMalformed) as refused:
        read_search(words)
    assert ("search", True) == (refused.value.field, "搜索内容" in refused.value.chinese)


async def test_as_many_words_as_fit_are_looked_for(opened: Desks) -> None:
    text = "".join(chr(0x4E00 + number) for number in range(200))
    await opened.do(SHANGCHENG, replace(REGISTER, text=text))
    assert 1 == len(finds(opened, text))


async def test_who_erases_a_private_part_erases_its_words(opened: Desks) -> None:
    erased, kept = [(await opened.register()).case.case_id for _ in range(2)]
    with opened.database.writing.begin():
        opened.database.writing.execute(sa.delete(schema.PRIVATE).where(schema.PRIVATE.c.seq == 1))
    assert [kept] == finds(opened, REGISTER.text[:2])
    assert [kept] == [row[2] for row in table_rows(opened.database, schema.CASE_WORDS)]
    assert {kept} == set(queries.snapshots(opened.database, SHANGCHENG, pages(opened, wanted(opened))))
    assert {erased, kept} == {case.case_id for case in pages(opened, wanted(opened))}


async def test_a_rebuilt_ledger_finds_what_it_found(database_url: str) -> None:
    with desks(database_url) as opened:
        case_id = (await opened.register()).case.case_id
    execute(database_url, "DELETE FROM case_words")
    closed = Desks(database_url)
    try:
        assert [] == finds(closed, REGISTER.text[:2])
        closed.ledger.rebuild()
        assert [case_id] == finds(closed, REGISTER.text[:2])
    finally:
        closed.ledger.close()


def views_left(connection: sa.Connection) -> bool:
    with connection.begin():
        query = "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'entries' AND relkind = 'v')"
        return bool(connection.execute(sa.text(query)).scalar_one())


async def test_a_ledger_of_an_older_version_gets_its_piles_words_and_swept_clocks_when_it_is_opened(
    database_url: str,
) -> None:
    clock = FixedClock(MONDAY)
    with desks(database_url, clock=clock) as opened:
        await opened.live(8, 250)
        before = opened.rows(schema.CASES, schema.CLOCKS, schema.CASE_WORDS)
        assert all(before.values())
        # Of cases that are offered and of others.
        assert {True, False} == {row[-1] == "" for row in before[schema.CLOCKS.name]}
        config = Config()
        config.set_main_option("script_location", str(Path(node.ledger.__file__).parent / "migrations"))
        config.set_main_option("version_locations", str(Path(node.ledger.__file__).parent / "migrations" / "versions"))
        config.set_main_option("path_separator", "newline")
        unseal(opened.database)
        connection = opened.database.writing
        config.attributes["connection"] = connection
        # Readers' views know columns that are dropped; PostgreSQL takes them away a moment after who made them has gone.
        opened.database.renew_readers()
        while not opened.database.is_sqlite and await asyncio.to_thread(views_left, connection):
            await asyncio.sleep(0.01)
        with connection.begin():
            command.downgrade(config, "0007")
    with desks(database_url, clock=clock) as again:
        assert before == again.rows(schema.CASES, schema.CLOCKS, schema.CASE_WORDS)
        case_id = (await again.register()).case.case_id
        assert case_id == finds(again, REGISTER.text[:2])[0]


async def test_a_channels_reference_is_looked_up_by_its_whole_key_however_many_there_are(tmp_path: Path) -> None:
    plans: set[str] = set()
    with desks(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        with opened.database.looking() as connection:
            raw = connection.connection.driver_connection
        assert raw is not None
        asked: list[str] = []
        raw.set_trace_callback(asked.append)
        await opened.do(SHANGCHENG, replace(REGISTER, channel=Channel.HOTLINE, channel_reference="12366-1"))
        raw.set_trace_callback(None)
        for statement in asked:
            if statement.startswith("SELECT channel_references"):
                plans.update(str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}"))
    assert {"SEARCH channel_references USING PRIMARY KEY (bureau=? AND channel=? AND reference=?)"} == plans
