"""A closed year leaves what is worked with, and everybody who reads the ledger reads on as if it had not."""

import errno
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.reconciliation import PairRecord
from kuaixiang.domain.words import Stage
from kuaixiang.runtime import backups
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.runtime.database import BUSY_SECONDS, DatabaseNotWritable, Unwritable
from kuaixiang.wire.v1 import journal_pb2
from node.archiving import YearNotOver, archive_year
from node.ledger import archive, counting, erasing, queries, schema, sealing, texts
from node.ledger.archive import ArchiveDiffers, ArchivedYear, ArchiveMissing
from node.ledger.queries import CaseFilter, HistoryEntry, LedgerPlace
from node.ledger.search import read_search
from node.retention import Retention
from tests.domain.story import (
    COMPLETE,
    DAY,
    DISPATCH,
    FEEDBACK,
    HANGZHOU,
    MONDAY,
    REFER,
    REGISTER,
    REOPEN,
    SHANGCHENG,
    WITHDRAW,
    XIHU,
)
from tests.ledger.bureaus import Desks, desks, execute, table_rows
from tests.ledger.test_orders import ISSUE, carry, issue

NEXT_YEAR = datetime(2027, 1, 10, 2, tzinfo=UTC)
BOOKSHOP = replace(REGISTER, taxpayer_name="云水谣书店")
YEARS = 5


class Killed(BaseException):
    """The process ends here."""


async def ended(office: Desks, bureau: str = SHANGCHENG, act: acts.Register = BOOKSHOP) -> str:
    """A case that was registered, withdrawn and written off."""
    case_id = (await office.do(bureau, act)).case.case_id
    await office.do(bureau, WITHDRAW, case_id)
    await office.do(bureau, acts.WriteOff(), case_id)
    return case_id


def archived(url: str, year: int = 2026) -> list[ArchivedYear]:
    """The year is archived, in a ledger that does not run."""
    office = Desks(url, clock=FixedClock(NEXT_YEAR))
    try:
        return list(archive_year(office.ledger, year, office.clock.now()))
    finally:
        office.ledger.close()


def tables(office: Desks, *which: sa.Table) -> list[int]:
    """How many rows the database itself has of some tables, whatever is in the archive."""
    with office.database.writing.begin():
        return [
            office.database.writing.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in which
        ]


def in_archive(office: Desks) -> list[int]:
    """How many rows the archive itself has in each of its tables, counted on or not; none where it is not made."""
    file = office.database.file
    if file is not None and not Path(f"{file}.archive").exists():
        return []
    with office.database.archive.within_reach():
        with office.database.writing.begin():
            made = sa.inspect(office.database.writing).has_table(schema.A_CASES.name, schema=schema.ARCHIVE)
        return tables(office, schema.A_JOURNAL, schema.A_PRIVATE, schema.A_CASES, schema.A_CASE_WORDS) if made else []


def journal_of(office: Desks, bureau: str) -> list[journal_pb2.Segment]:
    """The whole journal of a bureau, as others are given it."""
    segments, seq = [], 0
    while segment := queries.read_segment(office.database, bureau, seq, entries_max=100, bytes_max=10**6):
        segments.append(segment)
        seq += len(segment.entries)
    return segments


def seen(office: Desks) -> dict[str, Any]:
    """Everything that is read of a ledger, wherever it is."""
    database, found = office.database, dict[str, Any]()
    for bureau in office.ledger.bureaus:
        places: list[LedgerPlace] = queries.in_order_of_registration(database, CaseFilter(bureau=bureau), None, 1_000)
        case_ids = [place.case_id for place in places]
        histories: dict[str, list[HistoryEntry] | Any] = queries.histories(database, bureau, case_ids, private=True)
        pairs: list[PairRecord] = [
            one for peer in office.ledger.bureaus for one in queries.pair_records(database, bureau, peer, [(0, 2**60)])
        ]
        found[bureau] = {
            "journal": journal_of(office, bureau),
            "ledger": places,
            "cases": {case.case_id: case for case in queries.cases_of(database, bureau, case_ids)},
            "histories": histories,
            "stages": texts.stages_of(database, bureau, case_ids),
            "texts": texts.registrations(database, bureau, 0, 1_000),
            "pairs": sorted(pairs, key=lambda one: (one.referral_id, one.from_bureau)),
            "linked": {case_id: queries.linked_cases(database, bureau, case_id) for case_id in case_ids},
            "readings": {case_id: queries.readings(database, bureau, case_id) for case_id in case_ids},
        }
    return found


def found_by(office: Desks, words: str, *, in_archive: bool = False, bureau: str = SHANGCHENG) -> list[str]:
    wanted = CaseFilter(bureau=bureau, pieces=read_search(words), archived=in_archive)
    return [case.case_id for case in queries.list_cases(office.database, wanted, 10, "")[0]]


def listed(office: Desks, *, in_archive: bool = False, bureau: str = SHANGCHENG) -> set[str]:
    wanted = CaseFilter(bureau=bureau, archived=in_archive)
    return {case.case_id for case in queries.list_cases(office.database, wanted, 500, "")[0]}


async def test_a_year_that_is_archived_is_read_as_before_by_everybody(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        for bureau in (SHANGCHENG, XIHU):
            await ended(office, bureau)
        lead, linked = [(await office.do(SHANGCHENG, BOOKSHOP)).case.case_id for _ in range(2)]
        await office.do(SHANGCHENG, acts.Link(lead_case_id=lead), linked)
        for case_id in (linked, lead):
            await office.do(SHANGCHENG, WITHDRAW, case_id)
            await office.do(SHANGCHENG, acts.WriteOff(), case_id)
        await office.live(3, 120)
        office.clock.set(NEXT_YEAR)
        await ended(office)
        await office.live(4, 38)
        await office.look(SHANGCHENG, "330102-2026-0000001")
        before = seen(office)
        assert [linked] == before[SHANGCHENG]["linked"][lead]
        rows = tables(office, schema.JOURNAL, schema.PRIVATE, schema.CASES, schema.CASE_WORDS)
        lengths = {bureau: head.seq for bureau, head in office.ledger.heads.items()}
    went = archived(database_url)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        assert before == seen(office)
        assert {SHANGCHENG, XIHU} <= {one.bureau for one in went}
        left = tables(office, schema.JOURNAL, schema.PRIVATE, schema.CASES, schema.CASE_WORDS)
        assert rows[0] - sum(one.entries for one in went) == left[0]
        assert rows[2] - sum(one.cases for one in went) == left[2]
        assert all(now < then for now, then in zip(left, rows, strict=True))
        for bureau, length in lengths.items():
            there, here = (listed(office, in_archive=one, bureau=bureau) for one in (True, False))
            assert set(before[bureau]["cases"]) == there | here
            assert not there & here
            assert all(queries.is_archived(office.database, bureau, case_id) for case_id in there)
            assert not any(queries.is_archived(office.database, bureau, case_id) for case_id in here)
            assert length == office.ledger.heads[bureau].seq
        # Work goes on, and a year that was archived is so once.
        await office.live(5, 30)
        after = seen(office)
    assert [] == archived(database_url)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        assert after == seen(office)


async def test_what_is_searched_is_found_in_the_archive_by_asking_for_it(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        old = [await ended(office) for _ in range(3)]
        still_open = (await office.do(SHANGCHENG, BOOKSHOP)).case.case_id
        office.clock.set(NEXT_YEAR)
        new = await ended(office)
    archived(database_url)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        assert [new, still_open] == found_by(office, "云水谣")
        assert old[::-1] == found_by(office, "云水谣", in_archive=True)
        assert [] == found_by(office, "云水谣", in_archive=True, bureau=XIHU)
        wanted = CaseFilter(bureau=SHANGCHENG, pieces=read_search("云水谣"), archived=True)
        page, token = queries.list_cases(office.database, wanted, 2, "")
        rest, end = queries.list_cases(office.database, wanted, 2, token)
        assert (old[::-1], "") == ([case.case_id for case in (*page, *rest)], end)


async def test_what_something_goes_on_with_stays(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        ordered = (await office.register(SHANGCHENG)).case.case_id
        lead = (await office.register(SHANGCHENG)).case.case_id
        linked = (await office.register(SHANGCHENG)).case.case_id
        over = await ended(office)
        await office.do(SHANGCHENG, acts.Link(lead_case_id=lead), linked)
        for case_id in (ordered, linked):
            await office.do(SHANGCHENG, WITHDRAW, case_id)
            await office.do(SHANGCHENG, acts.WriteOff(), case_id)
        await issue(office, act=replace(ISSUE, case_ids=(ordered,)))
        await carry(office)
        late = (await office.register(SHANGCHENG)).case.case_id
        office.clock.set(NEXT_YEAR)
        await office.do(SHANGCHENG, WITHDRAW, late)
        await office.do(SHANGCHENG, acts.WriteOff(), late)
    archived(database_url)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        assert {over} == listed(office, in_archive=True)
        assert {ordered, lead, linked, late} == listed(office)


async def test_an_archived_case_that_is_reopened_comes_back_and_goes_again(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        case_id = (await office.do(XIHU, BOOKSHOP)).case.case_id
        await office.do(XIHU, REFER, case_id)
        await office.carry_everything()
        for act in (DISPATCH, COMPLETE, FEEDBACK):
            await office.do(HANGZHOU, act, case_id)
        await office.carry_everything()
        await office.do(XIHU, acts.WriteOff(), case_id)
    archived(database_url)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        assert ({case_id}, set()) == (listed(office, in_archive=True, bureau=XIHU), listed(office, bureau=XIHU))
        await office.do(HANGZHOU, REOPEN, case_id)
        await office.carry_everything()
        assert Stage.REFERRED is (await office.office.read_case(XIHU, case_id)).stage
        assert (set(), {case_id}) == (listed(office, in_archive=True, bureau=XIHU), listed(office, bureau=XIHU))
        assert [case_id] == found_by(office, "云水谣", bureau=XIHU)
        assert [] == found_by(office, "云水谣", bureau=XIHU, in_archive=True)
        for act in (COMPLETE, FEEDBACK):
            await office.do(HANGZHOU, act, case_id)
        await office.carry_everything()
        await office.do(XIHU, acts.WriteOff(), case_id)
        before = seen(office)
    office = Desks(database_url, clock=FixedClock(NEXT_YEAR + 365 * DAY))
    list(archive_year(office.ledger, 2027, office.clock.now()))
    try:
        assert ({case_id}, set()) == (listed(office, in_archive=True, bureau=XIHU), listed(office, bureau=XIHU))
        assert [case_id] == found_by(office, "云水谣", bureau=XIHU, in_archive=True)
        assert before == seen(office)
    finally:
        office.ledger.close()


async def a_ledger(url: str) -> dict[str, Any]:
    """A few cases that are over and one that is not, last year and this one."""
    with desks(url, (SHANGCHENG, XIHU), clock=FixedClock(MONDAY)) as office:
        await ended(office)
        await office.register(SHANGCHENG)
        await ended(office)
        office.clock.set(NEXT_YEAR)
        await ended(office)
        await ended(office, XIHU)
        return seen(office)


async def test_archiving_that_is_broken_off_anywhere_has_lost_nothing_and_doubled_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await a_ledger(database_url)
    monkeypatch.setattr(archive, "ENTRIES_AT_ONCE", 4)
    monkeypatch.setattr(archive, "CASES_AT_ONCE", 1)
    begin, left = sa.Connection.begin, [10**9]

    def counted(connection: sa.Connection) -> sa.RootTransaction:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return begin(connection)

    monkeypatch.setattr(sa.Connection, "begin", counted)
    kills = {"copying": 0, "deleting": 0}
    budget, end = 0, 0
    while end == 0 or left[0] < 0:
        budget += 1
        office = Desks(database_url, (SHANGCHENG, XIHU), clock=FixedClock(NEXT_YEAR))
        assert before == seen(office)
        assert not any(in_archive(office))
        left[0] = budget
        try:
            assert [(SHANGCHENG, 7, 2)] == [
                (one.bureau, one.entries, one.cases) for one in archive_year(office.ledger, 2026, NEXT_YEAR)
            ]
        except Killed:
            kills["copying"] += 1
        end = office.database.archive.end(SHANGCHENG)
        office.ledger.close()
        if end:
            # Counted on, and not gone from here: the next to open it goes on, and may be killed as well.
            for more in range(1, 200):
                left[0] = more
                try:
                    Desks(database_url, (SHANGCHENG, XIHU)).ledger.close()
                except Killed:
                    kills["deleting"] += 1
                else:
                    break
        left[0] = 10**9
    assert kills["copying"] > 20
    assert kills["deleting"] > 5
    office = Desks(database_url, (SHANGCHENG, XIHU), clock=FixedClock(NEXT_YEAR))
    assert before == seen(office)
    assert [] == list(archive_year(office.ledger, 2026, NEXT_YEAR))
    # Of both bureaus this year's; of last year the open case, and nothing of the two that were over.
    assert [3 + 3, 1 + 2] == tables(office, schema.JOURNAL, schema.CASES)
    office.ledger.close()


async def test_a_rebuilt_ledger_has_in_the_archive_what_was_there(database_url: str) -> None:
    before = await a_ledger(database_url)
    archived(database_url)
    office = Desks(database_url, (SHANGCHENG, XIHU))
    rows = (schema.CASES, schema.CASE_WORDS, schema.A_CASES, schema.A_CASE_WORDS)
    try:
        kept = [table_rows(office.database, table) for table in rows]
        assert [3, 2] == [len(kept[0]), len(kept[2])]
        office.ledger.rebuild()
        assert kept == [table_rows(office.database, table) for table in rows]
        assert before == seen(office)
    finally:
        office.ledger.close()


async def test_what_is_private_ends_in_the_archive_by_the_same_rule(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        case_id = await ended(office)
        stays = (await office.do(SHANGCHENG, BOOKSHOP)).case.case_id
    archived(database_url)
    over = NEXT_YEAR + timedelta(days=366 * YEARS)
    with desks(database_url, clock=FixedClock(over)) as office:
        journal = journal_of(office, SHANGCHENG)
        retention = Retention(office.office, YEARS)
        assert [(case_id, 2)] == [(due.case_id, due.parts) for due in retention.due()]
        # A process that ends between the two databases …
        monkeypatch.setattr(office.database.archive, "erase", lambda: None)
        while await retention.step():
            pass
        hidden = [
            item.entry.event.private for item in queries.history(office.database, SHANGCHENG, case_id, private=True)
        ]
        assert [None, None, None] == hidden
        assert 2 == len(table_rows(office.database, schema.ARCHIVE_ERASURES))
        assert [] == list(retention.due())
    # … has what it left done by the next one that opens them.
    with desks(database_url, clock=FixedClock(over)) as office:
        assert [] == table_rows(office.database, schema.ARCHIVE_ERASURES)
        assert [] == found_by(office, "云水谣", in_archive=True)
        assert [stays] == found_by(office, "云水谣")
        left = [row for row in table_rows(office.database, schema.A_PRIVATE) if row[0] == SHANGCHENG]
        assert [4] == [row[1] for row in left]
        assert journal[0].entries == journal_of(office, SHANGCHENG)[0].entries[: len(journal[0].entries)]
        # What stayed here has its entry there, and is erased in both.
        await office.do(SHANGCHENG, WITHDRAW, stays)
        await office.do(SHANGCHENG, acts.WriteOff(), stays)
        office.clock.advance(timedelta(days=366 * YEARS))
        retention = Retention(office.office, YEARS)
        while await retention.step():
            pass
        assert [] == found_by(office, "云水谣")
        assert [] == [row for row in table_rows(office.database, schema.A_PRIVATE) if row[0] == SHANGCHENG]
        assert [] == erasing.candidates(office.database, SHANGCHENG, "", to_micros(office.clock.now()))[0]


async def test_an_act_is_done_whatever_becomes_of_the_archive_and_of_the_counters_after_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        await ended(office)
    archived(database_url)
    monkeypatch.setattr(archive, "ERASE_AGAIN_SECONDS", 0.0)
    with desks(database_url, clock=FixedClock(NEXT_YEAR + timedelta(days=366 * YEARS))) as office:
        database, head = office.database, office.ledger.heads[SHANGCHENG].seq

        def full(_: object) -> None:
            raise DatabaseNotWritable(database.name, Unwritable.FULL)

        retention = Retention(office.office, YEARS)
        with monkeypatch.context() as patched:
            # The disk passes its mark between the commit and what follows it.
            patched.setattr(database.archive, "_run", full)
            patched.setattr(counting, "count", full)
            while await retention.step():
                pass
            assert head + 1 == office.ledger.heads[SHANGCHENG].seq
            await office.register(SHANGCHENG)
        assert head + 2 == office.ledger.heads[SHANGCHENG].seq == len(journal_of(office, SHANGCHENG)[0].entries)
        assert 2 == len(table_rows(database, schema.ARCHIVE_ERASURES))
        # What was left is done after the next act.
        await office.register(SHANGCHENG)
        assert [] == table_rows(database, schema.ARCHIVE_ERASURES)
        assert not database.archive.erases_again


async def test_a_ledger_opens_though_its_archive_takes_no_erasure(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        await ended(office)
    archived(database_url)

    def broken(_: object) -> bool:
        raise OSError(errno.EIO, "the disk does not answer")

    monkeypatch.setattr(archive.Archive, "_erase", broken)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        await office.register(SHANGCHENG)


async def test_whoever_reads_the_archive_holds_up_no_act_and_no_erased_word_stays_in_its_log(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL empties its log by itself, and waits for no reader")
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        await ended(office)
    archived(database_url)
    monkeypatch.setattr(archive, "ERASE_AGAIN_SECONDS", 0.0)
    log = tmp_path / "ledger.db.archive-wal"
    with desks(database_url, clock=FixedClock(NEXT_YEAR + timedelta(days=366 * YEARS))) as office:
        with closing(backups.read_only(tmp_path / "ledger.db.archive")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM journal").fetchone()
            started = time.monotonic()
            retention = Retention(office.office, YEARS)
            while await retention.step():
                pass
            assert time.monotonic() - started < BUSY_SECONDS / 2
            assert 2 == len(table_rows(office.database, schema.ARCHIVE_ERASURES))
            assert log.stat().st_size
        await office.register(SHANGCHENG)
        assert [] == table_rows(office.database, schema.ARCHIVE_ERASURES)
        assert not log.exists() or not log.stat().st_size


async def test_another_key_is_the_archives_too(kept: str) -> None:
    before = await a_ledger(kept)
    archived(kept)
    office = Desks(kept, (SHANGCHENG, XIHU))
    sealing.rotate(office.database)
    office.ledger.close()
    office = Desks(kept, (SHANGCHENG, XIHU))
    try:
        assert 1 == len(office.database.vault.keys)
        assert before == seen(office)
        assert 2 == len(found_by(office, "云水谣", in_archive=True))
        assert 1 == len(found_by(office, "云水谣"))
    finally:
        office.ledger.close()


async def test_a_ledger_without_its_archive_or_with_anothers_does_not_open(database_url: str, tmp_path: Path) -> None:
    await a_ledger(database_url)
    archived(database_url)
    execute(database_url, "UPDATE archives SET hash = prev FROM (SELECT hash AS prev FROM journal LIMIT 1) one")
    with pytest.raises(ArchiveDiffers, match=f"of bureau {SHANGCHENG}, entry 7 is another one"):
        Desks(database_url)
    there = f"sqlite:///{tmp_path / 'ledger.db.archive'}" if database_url.startswith("sqlite") else database_url
    schema_name = "" if database_url.startswith("sqlite") else "ledger_archive."
    execute(there, f"DELETE FROM {schema_name}journal WHERE bureau = '{SHANGCHENG}' AND seq = 3")
    with pytest.raises(ArchiveDiffers, match=f"of bureau {SHANGCHENG}, 1 of 7 entries are missing"):
        Desks(database_url)
    if database_url.startswith("sqlite"):
        (tmp_path / "ledger.db.archive").unlink()
    else:
        execute(database_url, "DROP SCHEMA ledger_archive CASCADE")
    with pytest.raises(ArchiveMissing, match="Put it back beside the ledger"):
        Desks(database_url)


async def test_an_older_ledger_beside_a_newer_archive_is_whole(database_url: str, tmp_path: Path) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("of PostgreSQL both are one database")
    before = await a_ledger(database_url)
    older = (tmp_path / "ledger.db").read_bytes()
    archived(database_url)
    (tmp_path / "ledger.db").write_bytes(older)
    with desks(database_url, (SHANGCHENG, XIHU), clock=FixedClock(NEXT_YEAR)) as office:
        assert before == seen(office)
        assert set() == listed(office, in_archive=True)
    assert [(SHANGCHENG, 7, 2)] == [(one.bureau, one.entries, one.cases) for one in archived(database_url)]
    with desks(database_url, (SHANGCHENG, XIHU), clock=FixedClock(NEXT_YEAR)) as office:
        assert before == seen(office)


async def test_a_year_that_is_not_over_is_not_archived(database_url: str) -> None:
    office = Desks(database_url, clock=FixedClock(datetime(2026, 12, 31, 15, 59, tzinfo=UTC)))
    try:
        for year in (2026, 2018):
            with pytest.raises(YearNotOver, match=f"{year} is not one that can be archived"):
                list(archive_year(office.ledger, year, office.clock.now()))
        assert [] == list(archive_year(office.ledger, 2025, office.clock.now()))
    finally:
        office.ledger.close()


async def test_a_year_that_gets_entries_after_it_was_archived_is_archived_once_more(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        await ended(office)
    (first,) = archived(database_url)
    with desks(database_url, clock=FixedClock(MONDAY + DAY)) as office:
        late = await ended(office)
        before = seen(office)
    (again,) = archived(database_url)
    assert (SHANGCHENG, 2 * first.last_seq, 1) == (again.bureau, again.last_seq, again.cases)
    with desks(database_url, clock=FixedClock(NEXT_YEAR)) as office:
        assert before == seen(office)
        assert late in listed(office, in_archive=True)
        ((_, year, state, last_seq, _, cases, _),) = table_rows(office.database, schema.ARCHIVES)
        assert (2026, archive.DONE, again.last_seq, 2) == (year, state, last_seq, cases)


async def test_reading_over_the_archive_goes_by_indexes(database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("how SQLite reads a view depends on how it is asked")
    await a_ledger(database_url)
    archived(database_url)
    plans: list[str] = []
    office = Desks(database_url, (SHANGCHENG, XIHU))
    try:
        with office.database.reading() as connection:
            raw = connection.connection.driver_connection
        assert raw is not None
        asked: list[str] = []
        raw.set_trace_callback(asked.append)
        seen(office)
        found_by(office, "云水谣", in_archive=True)
        erasing.candidates(office.database, SHANGCHENG, "", 2**60)
        queries.is_archived(office.database, SHANGCHENG, "330102-2026-0000001")
        raw.set_trace_callback(None)
        for statement in {one for one in asked if one.startswith("SELECT")}:
            plans.extend(str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}"))
    finally:
        office.ledger.close()
    assert any("USING INDEX journal_by_case" in plan for plan in plans)
    assert [] == [plan for plan in plans if "SCAN" in plan and "journal" in plan]
    assert [] == [plan for plan in plans if "CO-ROUTINE" in plan or "MATERIALIZE" in plan]
