"""Likely duplicates before registering: shown to the bureau's officers, from the ledger as it is."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.wire.v1 import case_pb2, common_pb2
from node import duplicates as looking
from node import service
from node.ledger import schema, texts
from tests.node.callers import COUNTY, PROVINCE, Callers, header, refusal_of, registration

SAME, SIMILAR = common_pb2.DUPLICATE_REASON_SAME_TAXPAYER, common_pb2.DUPLICATE_REASON_SIMILAR_TEXT
TEXT = "我店本季度开具专用发票两张，申报时系统提示比对不符，电话一直占线，请问应当怎么处理？"
OTHER_TEXT = "公司打算注销，办税厅要求补充三年的财务报表，请问能不能简易注销？"


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: what is asked of the database here is asked of both in test_terms.py."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


async def register(office: Any, **more: Any) -> str:
    response: case_pb2.ActResponse = await office.RegisterCase(registration(**more))
    return response.case.case_id


async def find(office: Any, **asked: Any) -> list[case_pb2.DuplicateCandidate]:
    answer = await office.FindDuplicates(case_pb2.FindDuplicatesRequest(bureau=COUNTY, **asked))
    return list(answer.candidates)


async def test_a_request_that_says_nearly_the_same_is_shown_with_its_stage_and_its_taxpayer_hidden(
    callers: Callers,
) -> None:
    office = callers.office()
    first = await register(office, taxpayer_name="芃沅文具店", text=TEXT)
    await register(office, text=OTHER_TEXT)
    await office.ForwardCase(
        case_pb2.ForwardCaseRequest(header=header("REGISTRAR", first), telling=common_pb2.TELLING_COMPLICATED)
    )
    (found,) = await find(office, text="您好！" + TEXT.replace("，", "、") + "谢谢")
    assert (first, [SIMILAR], common_pb2.STAGE_FORWARDED) == (found.case_id, list(found.reasons), found.stage)
    assert "芃＊＊＊店" == found.taxpayer
    assert found.similarity > 0.9


async def test_a_taxpayer_is_known_again_by_the_number_or_by_name_and_contact(callers: Callers) -> None:
    office = callers.office()
    number = make_taxpayer_number(COUNTY, 42)
    by_number = await register(office, taxpayer_name="甲", taxpayer_number=number, text=TEXT)
    by_name = await register(office, taxpayer_name="晨光 文具店", contact="15400009999", text=OTHER_TEXT)
    assert [by_number] == [one.case_id for one in await find(office, taxpayer_number=number)]
    (found,) = await find(office, taxpayer_name="晨光文具店", contact="154-0000-9999")
    assert (by_name, [SAME], 0.0) == (found.case_id, list(found.reasons), found.similarity)
    assert [] == await find(office, taxpayer_name="晨光文具店", contact="15400008888")


async def test_what_has_both_reasons_comes_first(callers: Callers) -> None:
    office = callers.office()
    both = await register(office, taxpayer_name="乙", contact="15400007777", text=TEXT)
    await register(office, taxpayer_name="丙", contact="15400006666", text=TEXT)
    found = await find(office, taxpayer_name="乙", contact="15400007777", text=TEXT)
    assert (both, [SAME, SIMILAR]) == (found[0].case_id, list(found[0].reasons))
    assert 2 == len(found)


async def test_a_case_registered_after_the_first_question_is_found_by_the_next(callers: Callers) -> None:
    office = callers.office()
    assert [] == await find(office, text=TEXT)
    later = await register(office, text=TEXT)
    assert [later] == [one.case_id for one in await find(office, text=TEXT)]


async def test_cases_of_longer_ago_than_the_setting_says_are_not_compared(
    callers: Callers, clock: SharedClockDriver
) -> None:
    office = callers.office()
    await register(office, text=TEXT)
    clock.advance(timedelta(days=91))
    later = await register(office, text=TEXT)
    assert [later] == [one.case_id for one in await find(office, text=TEXT)]


async def test_a_text_that_was_erased_is_not_found(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    await register(office, text=TEXT)
    assert 1 == len(await find(office, text=TEXT))
    database = node.office.ledger.database
    with database.writing.begin():
        database.writing.execute(sa.delete(schema.PRIVATE))
    assert [] == await find(office, text=TEXT)


async def test_a_question_everybody_asks_in_few_characters_is_no_duplicate(callers: Callers) -> None:
    office = callers.office()
    await register(office, text="怎么开发票")
    assert [] == await find(office, text="怎么开发票")


async def test_only_the_bureaus_own_officers_are_shown_them(callers: Callers) -> None:
    refusal = await refusal_of(
        callers.office(PROVINCE).FindDuplicates(case_pb2.FindDuplicatesRequest(bureau=COUNTY, text=TEXT))
    )
    assert "NotAuthorised" == refusal.rule


async def test_an_index_is_led_on_in_steps_and_bureaus_beyond_the_bound_are_forgotten(
    callers: Callers, node: service.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "READ_AT_ONCE", 2)
    monkeypatch.setattr(looking, "TEXTS_TOTAL_MAX", 3)
    office = callers.office()
    cases = [await register(office, text=f"{TEXT}第{number}次反映。") for number in "一二三四五"]
    found = looking.Duplicates(node.office.ledger, node.office.place.clock, 90)
    assert set(cases) == {one.case_id for one in await found.find(COUNTY, looking.Request(text=TEXT))}
    assert [] == await found.find(PROVINCE, looking.Request(text=TEXT))
    assert [PROVINCE] == list(found._indexes)


async def test_positions_are_found_by_the_time_of_recording(
    callers: Callers, node: service.Running, clock: SharedClockDriver
) -> None:
    office = callers.office()
    times = []
    for _ in range(5):
        await register(office)
        times.append(clock.now())
        clock.advance(timedelta(hours=1))
    ledger = node.office.ledger
    found = [
        texts.first_seq_at(ledger.database, COUNTY, round(time.timestamp() * 1_000_000), ledger.heads[COUNTY].seq)
        for time in (*times, clock.now())
    ]
    assert [1, 2, 3, 4, 5, 6] == found
