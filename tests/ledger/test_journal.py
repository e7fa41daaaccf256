"""The journal: gapless, chained, several bureaus side by side; everything else follows from it."""

import asyncio
from random import Random

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from kuaixiang.domain import acts
from kuaixiang.domain.errors import EntryUnreadable
from kuaixiang.domain.words import Stage
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.wire import chain
from kuaixiang.wire.codec import decode_entry
from node.ledger import ledger as ledger_module
from node.ledger import queries, schema
from node.ledger.ledger import load_cases
from tests.domain.story import DISPATCH, FORWARD, HANGZHOU, MONDAY, REFER, REGISTER, SHANGCHENG
from tests.ledger.bureaus import BUREAUS, Desks, check_journal, desks, execute, table_rows

STEPS = 100


async def test_every_bureau_of_a_database_has_a_gapless_journal_whose_chain_holds(opened: Desks) -> None:
    await opened.live(1, STEPS)
    lengths = [check_journal(opened.database, bureau) for bureau in BUREAUS]
    assert len([length for length in lengths if length]) > 2
    assert sum(lengths) == len(table_rows(opened.database, schema.JOURNAL))


async def test_the_head_in_memory_is_the_end_of_the_journal(opened: Desks) -> None:
    await opened.live(2, 40)
    ends = {row[0]: (row[2], bytes(row[3])) for row in table_rows(opened.database, schema.BUREAUS)}
    assert ends == {code: (head.seq, head.hash) for code, head in opened.ledger.heads.items() if head.seq}


async def test_the_first_entry_of_a_journal_follows_nothing(opened: Desks) -> None:
    await opened.register()
    (row,) = table_rows(opened.database, schema.JOURNAL)
    assert chain.GENESIS == bytes(dict(zip(schema.JOURNAL.columns.keys(), row, strict=True))["prev_hash"])


async def test_segments_put_together_are_the_journal(opened: Desks) -> None:
    await opened.live(3, STEPS // 2)
    for bureau in BUREAUS:
        seq, head, found = 0, chain.GENESIS, []
        while segment := queries.read_segment(opened.database, bureau, seq, entries_max=7, bytes_max=2_000):
            assert (seq + 1, head) == (segment.first_seq, segment.prev_hash)
            parts = [(entry.private_digest, entry.public) for entry in segment.entries]
            head = chain.links(head, segment.generation, segment.first_seq, parts)[-1]
            assert head == segment.last_hash
            found.extend(parts)
            seq += len(parts)
        assert (opened.ledger.heads[bureau].seq, opened.ledger.heads[bureau].hash) == (len(found), head)


async def test_no_table_shows_what_is_private(opened: Desks) -> None:
    await opened.register()
    for table in schema.METADATA.sorted_tables:
        for row in table_rows(opened.database, table):
            assert REGISTER.taxpayer_name not in str(row)
            assert REGISTER.text.encode() not in b"".join(bytes(v) for v in row if isinstance(v, (bytes, memoryview)))


async def test_a_private_part_can_be_erased_without_breaking_the_chain(opened: Desks) -> None:
    done = await opened.register()
    with opened.database.writing.begin():
        opened.database.writing.execute(sa.delete(schema.PRIVATE))
    assert None is queries.private_of(opened.database, SHANGCHENG, done.case.case_id, 1)
    (row,) = table_rows(opened.database, schema.JOURNAL)
    entry = dict(zip(schema.JOURNAL.columns.keys(), row, strict=True))
    linked = chain.link(chain.GENESIS, 1, 1, bytes(entry["private_digest"]), bytes(entry["public"]))
    assert linked == bytes(entry["hash"])
    assert done.case == await opened.office.read_case(SHANGCHENG, done.case.case_id)


async def test_a_case_folded_from_the_journal_is_the_cached_one(opened: Desks) -> None:
    await opened.live(4, STEPS)
    cached = await opened.cases()
    with opened.database.reading() as connection:
        assert cached == load_cases(connection, cached)


async def test_a_cache_that_forgets_makes_no_difference(
    database_url: str, opened: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "CASES_CACHED_MAX", 1)
    await opened.live(4, STEPS // 2)
    for bureau in BUREAUS:
        check_journal(opened.database, bureau)
    versions = [row[2] for row in table_rows(opened.database, schema.CASES)]
    assert versions == [case.version for _, case in sorted((await opened.cases()).items())]


async def test_a_ledger_opened_again_is_as_it_was(database_url: str) -> None:
    clock = FixedClock(MONDAY)
    with desks(database_url, clock=clock) as first:
        await first.live(5, STEPS // 2)
        cases, heads = await first.cases(), dict(first.ledger.heads)
    with desks(database_url, clock=clock) as second:
        assert heads == second.ledger.heads
        assert cases == await second.cases()
        await second.live(6, 40)
        for bureau in BUREAUS:
            check_journal(second.database, bureau)


async def test_a_bureau_added_later_begins_a_journal_of_its_own(database_url: str) -> None:
    with desks(database_url, [SHANGCHENG]) as alone:
        await alone.register()
    with desks(database_url, [SHANGCHENG, HANGZHOU]) as both:
        done = await both.register(HANGZHOU)
        assert (1, f"{HANGZHOU}-2026-0000001") == (done.seq, done.case.case_id)
        assert 1 == check_journal(both.database, SHANGCHENG)


async def test_rebuilding_gives_the_same_rows(database_url: str) -> None:
    clock = FixedClock(MONDAY)
    with desks(database_url, clock=clock) as opened:
        await opened.live(1, 3 * STEPS)
        case = (await opened.register()).case
        case = (await opened.attach(SHANGCHENG, b"of this case", case.case_id)).case
        for act in (FORWARD, DISPATCH):
            case = (await opened.do(SHANGCHENG, act, case.case_id)).case
        clock.set(case.clocks[0].soon_at or case.clocks[0].due_at)
        await opened.office.note_time(SHANGCHENG, case.case_id)
        before = opened.rows(*schema.PROJECTIONS)
        kinds = {row[5] for row in table_rows(opened.database, schema.JOURNAL)}
    wanted = {
        "released",
        "received",
        "offer_declined",
        "concluded",
        "conclusion_delivered",
        "became_overdue",
        "became_due_soon",
        "clocks_recomputed",
        "calendar_adopted",
        "attachment_added",
        "private_read",
    }
    assert wanted <= kinds
    execute(database_url, "DELETE FROM cases", "UPDATE clocks SET due_us = 0", "DELETE FROM deliveries")
    closed = Desks(database_url, clock=clock)
    try:
        assert closed.ledger.rebuild() == sum(head.seq for head in closed.ledger.heads.values())
        assert before == closed.rows(*schema.PROJECTIONS)
    finally:
        closed.ledger.close()


async def test_rebuilding_counts_registrations_again(database_url: str) -> None:
    with desks(database_url) as opened:
        await opened.register()
        await opened.register()
    execute(database_url, "UPDATE bureaus SET cases_registered = 0")
    closed = Desks(database_url)
    try:
        closed.ledger.rebuild()
    finally:
        closed.ledger.close()
    with desks(database_url) as opened:
        assert f"{SHANGCHENG}-2026-0000003" == (await opened.register()).case.case_id


async def test_the_journal_tells_who_did_what_when(opened: Desks) -> None:
    done = await opened.register(actor="clerk-7")
    opened.clock.set(MONDAY.replace(hour=9))
    await opened.do(SHANGCHENG, FORWARD, done.case.case_id, occurred_at=MONDAY.replace(hour=8))
    (first, _, last) = queries.history(opened.database, SHANGCHENG, done.case.case_id, private=True)
    assert ("clerk-7", MONDAY, MONDAY) == (first.entry.actor, first.entry.recorded_at, first.entry.occurred_at)
    assert (MONDAY.replace(hour=9), MONDAY.replace(hour=8)) == (last.entry.recorded_at, last.entry.occurred_at)
    assert first.entry.event.private is not None
    assert REGISTER.text == first.entry.event.private.text


async def test_a_history_without_private_parts_shows_none(opened: Desks) -> None:
    done = await opened.register()
    (item,) = queries.history(opened.database, SHANGCHENG, done.case.case_id, private=False)
    assert None is item.entry.event.private


async def test_a_declined_offer_is_recorded_and_belongs_to_no_case(opened: Desks) -> None:
    done = await opened.do(SHANGCHENG, REGISTER)
    await opened.do(SHANGCHENG, FORWARD, done.case.case_id)
    refer = await opened.do(SHANGCHENG, REFER, done.case.case_id)
    await opened.do(SHANGCHENG, acts.WithdrawOffer(), refer.case.case_id)
    await opened.tell(SHANGCHENG, HANGZHOU, refer.case.case_id, chance=Random(0))
    (row,) = [row for row in table_rows(opened.database, schema.JOURNAL) if row[0] == HANGZHOU]
    entry = decode_entry(bytes(row[9]))
    assert ("OfferDeclined", 0) == (type(entry.event).__name__, entry.version)
    with opened.database.reading() as connection:
        assert {} == load_cases(connection, [(HANGZHOU, refer.case.case_id)])
    back = await opened.office.read_case(SHANGCHENG, refer.case.case_id)
    assert "OWNED" == back.custody.name


async def test_the_tables_are_those_of_the_last_migration(opened: Desks) -> None:
    connection = opened.database.writing
    with connection.begin():
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "version_table": "ledger_version",
                # The index of words is each database's own: on SQLite tables, on PostgreSQL one over an expression.
                "include_object": lambda _o, name, *_: not str(name).startswith(("ledger_version", "case_words_index")),
            },
        )
        assert [] == compare_metadata(context, schema.METADATA)


async def test_acts_of_several_bureaus_and_a_handful_of_callers_at_once_keep_every_chain(opened: Desks) -> None:
    async def clerk(number: int) -> None:
        for _ in range(6):
            bureau = BUREAUS[number % len(BUREAUS)]
            done = await opened.register(bureau)
            await opened.do(bureau, FORWARD, done.case.case_id)
            await opened.do(bureau, DISPATCH, done.case.case_id)

    await asyncio.gather(*(clerk(number) for number in range(15)))
    # Registered, told, forwarded, dispatched.
    assert [3 * 6 * 4] * len(BUREAUS) == [check_journal(opened.database, bureau) for bureau in BUREAUS]


async def test_an_entry_that_cannot_be_read_refuses_its_case_and_no_other(database_url: str) -> None:
    with desks(database_url) as first:
        damaged, sound = [(await first.register()).case.case_id for _ in range(2)]
    noise = "x'ffffff'" if database_url.startswith("sqlite") else "'\\xffffff'::bytea"
    execute(database_url, f"UPDATE journal SET public = {noise} WHERE case_id = '{damaged}'")
    with desks(database_url) as second:
        with pytest.raises(EntryUnreadable, match=damaged):
            await second.do(SHANGCHENG, FORWARD, damaged)
        with pytest.raises(EntryUnreadable, match=damaged):
            await second.office.read_case(SHANGCHENG, damaged)
        assert (await second.do(SHANGCHENG, FORWARD, sound)).case.stage is Stage.FORWARDED
