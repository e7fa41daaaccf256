"""What is private of old cases is erased by the rule, on record, everywhere in the ledger; the chain goes on to verify."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.errors import KeyReused
from kuaixiang.domain.words import Channel
from kuaixiang.runtime.clock import FixedClock
from node.ledger import queries, schema
from node.ledger.queries import CaseFilter
from node.ledger.search import read_search
from node.retention import Retention
from tests.domain.story import MONDAY, REGISTER, SHANGCHENG, WITHDRAW, XIHU, ZHEJIANG
from tests.ledger.bureaus import Desks, check_journal, desks, table_rows
from tests.ledger.test_orders import ISSUE, issue

YEARS = 5
OVER = timedelta(days=366 * YEARS)
OWN, SHARED = b"a file of its own" * 20_000, b"a file that another case has too" * 20_000
OLD = replace(REGISTER, taxpayer_name="云水谣书店", channel=Channel.HOTLINE, channel_reference="12366-0001")


@pytest.fixture
def opened(database_url: str) -> Iterator[Desks]:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        yield office


async def ended(office: Desks, bureau: str = SHANGCHENG) -> str:
    """A case with files that was registered, withdrawn and written off."""
    case_id = (await office.do(bureau, OLD, request_key=f"key-{bureau}")).case.case_id
    await office.attach(bureau, OWN, case_id)
    await office.attach(bureau, SHARED, case_id)
    await office.do(bureau, WITHDRAW, case_id)
    await office.do(bureau, acts.WriteOff(), case_id)
    return case_id


async def erase(office: Desks, years: int | None = YEARS) -> None:
    retention = Retention(office.office, years)
    while await retention.step():
        pass


def parts_of(office: Desks, bureau: str, case_id: str) -> int:
    return sum(
        item.entry.event.private is not None for item in queries.history(office.database, bureau, case_id, private=True)
    )


def finds(office: Desks, words: str) -> list[str]:
    wanted = CaseFilter(bureau=SHANGCHENG, pieces=read_search(words))
    return [case.case_id for case in queries.list_cases(office.database, wanted, 10, "")[0]]


async def test_when_its_term_is_over_everything_private_of_a_case_is_gone_and_nothing_else(opened: Desks) -> None:
    case_id = await ended(opened)
    opened.clock.advance(OVER)
    other = (await opened.do(SHANGCHENG, replace(REGISTER, taxpayer_name="云水谣茶社"))).case.case_id
    await opened.attach(SHANGCHENG, SHARED, other)
    retention = Retention(opened.office, YEARS)
    (due,) = retention.due()
    assert (case_id, 4, 1) == (due.case_id, due.parts, due.files)
    before = await opened.office.read_case(SHANGCHENG, case_id)
    seq = opened.ledger.heads[SHANGCHENG].seq
    await erase(opened)
    assert [] == list(retention.due())
    assert 0 == parts_of(opened, SHANGCHENG, case_id)
    assert 2 == parts_of(opened, SHANGCHENG, other)
    assert [other] == finds(opened, "云水谣")
    digests = {row[0] for row in table_rows(opened.database, schema.BLOBS)}
    files = {
        file.digest
        for file in queries.attachments_of(opened.database, await opened.office.read_case(SHANGCHENG, other))
    }
    assert digests == files
    assert digests == {row[0] for row in table_rows(opened.database, schema.BLOB_CHUNKS)}
    assert [] == table_rows(opened.database, schema.REFERENCES)
    assert before == await opened.office.read_case(SHANGCHENG, case_id)
    assert seq + 1 == check_erased(opened, case_id)
    with pytest.raises(KeyReused):
        await opened.do(SHANGCHENG, OLD, request_key=f"key-{SHANGCHENG}")


def check_erased(office: Desks, case_id: str) -> int:
    """The chain holds, and its last entry says what was erased, and nothing of it; the journal's length."""
    (told,) = queries.readings(office.database, SHANGCHENG, case_id)
    event = told.entry.event
    assert ("PrivateErased", YEARS, MONDAY, 4, 1) == (
        type(event).__name__,
        event.retention_years,  # type: ignore[attr-defined]
        event.ended_at,  # type: ignore[attr-defined]
        event.parts,  # type: ignore[attr-defined]
        event.files,  # type: ignore[attr-defined]
    )
    rows = [row for row in table_rows(office.database, schema.JOURNAL) if row[0] == SHANGCHENG]
    assert "云水谣".encode() not in b"".join(bytes(row[9]) for row in rows)
    return told.seq


async def test_what_is_not_due_stays_and_without_a_term_everything_does(opened: Desks) -> None:
    case_id = await ended(opened)
    opened.clock.advance(OVER - timedelta(days=10))
    open_case = (await opened.register(XIHU)).case.case_id
    await erase(opened)
    opened.clock.advance(OVER)
    await erase(opened, None)
    assert (4, 1) == (parts_of(opened, SHANGCHENG, case_id), parts_of(opened, XIHU, open_case))
    await erase(opened)
    assert (0, 1) == (parts_of(opened, SHANGCHENG, case_id), parts_of(opened, XIHU, open_case))
    check_journal_without(opened)


def check_journal_without(office: Desks) -> None:
    """The public chain is whole though private parts are gone."""
    seq = 0
    while segment := queries.read_segment(office.database, SHANGCHENG, seq, entries_max=100, bytes_max=10**6):
        seq += len(segment.entries)
    assert office.ledger.heads[SHANGCHENG].seq == seq
    check_journal(office.database, XIHU)


async def test_a_rebuilt_ledger_is_the_same_after_erasing(database_url: str) -> None:
    with desks(database_url, clock=FixedClock(MONDAY)) as office:
        await ended(office)
        await ended(office, XIHU)
        office.clock.advance(OVER)
        await erase(office)
        tables = sorted(set(schema.PROJECTIONS), key=lambda table: table.name)
        before = office.rows(*tables)
    again = Desks(database_url)
    try:
        again.ledger.rebuild()
        assert before == again.rows(*tables)
        with again.database.reading() as connection:
            assert [] == list(connection.execute(sa.select(schema.PRIVATE)))
    finally:
        again.ledger.close()


async def test_cases_that_open_orders_name_are_known(opened: Desks) -> None:
    await issue(opened)
    assert set(ISSUE.case_ids) == queries.ordered_cases(opened.database, ZHEJIANG)
