"""What a bureau tells of its texts: masked key terms and, of a few cases, a masked beginning; to its superiors alone."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.wire.v1 import case_pb2, common_pb2, ledger_pb2, ledger_pb2_grpc
from node import journals, service
from node.journals import CHARACTERS_SHOWN_MAX
from node.ledger import schema
from tests.node.callers import COUNTY, PROVINCE, Callers, refusal_of, registration

TEXT = "我叫顾念慈，电话13900001234，电子税务局无法登录，申报不了。"
OTHER_COUNTY = "110102"


async def register(callers: Callers, **more: Any) -> str:
    response: case_pb2.ActResponse = await callers.office().RegisterCase(registration(**more))
    return response.case.case_id


def ledgers(callers: Callers, code: str = PROVINCE) -> Any:
    return ledger_pb2_grpc.LedgerServiceStub(callers.channel("hub", code))


async def terms(callers: Callers, first: str, last: str, **more: Any) -> list[ledger_pb2.CaseTerms]:
    request = ledger_pb2.ReadTermsRequest(bureau=COUNTY, from_day=first, to_day=last, **more)
    return [case async for answer in ledgers(callers).ReadTerms(request) for case in answer.cases]


async def masked(callers: Callers, *case_ids: str) -> dict[str, str]:
    request = ledger_pb2.ReadMaskedTextsRequest(bureau=COUNTY, case_ids=case_ids)
    return {one.case_id: one.text for one in (await ledgers(callers).ReadMaskedTexts(request)).texts}


async def test_the_hub_above_reads_category_day_and_masked_terms(callers: Callers) -> None:
    case_id = await register(callers, text=TEXT, category=common_pb2.CATEGORY_SYSTEMS)
    (case,) = await terms(callers, "2026-11-23", "2026-11-23")
    assert (case_id, common_pb2.CATEGORY_SYSTEMS, "2026-11-23") == (case.case_id, case.category, case.day)
    assert ["申报", "电子税务局", "电子税务局 无法登录", "无法登录"] == sorted(
        case.terms, key="申报 电子税务局 无法登录".find
    )


async def test_a_period_is_of_days_in_shanghai_both_included(callers: Callers, clock: SharedClockDriver) -> None:
    ids = []
    for _ in range(4):
        ids.append(await register(callers, text=TEXT))
        clock.advance(timedelta(days=1))
    assert ids[1:3] == [case.case_id for case in await terms(callers, "2026-11-24", "2026-11-25")]
    assert [] == await terms(callers, "2026-12-24", "2026-12-25")


async def test_a_period_is_read_in_steps(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "TEXTS_AT_ONCE", 2)
    ids = [await register(callers, text=TEXT) for _ in range(5)]
    assert ids == [case.case_id for case in await terms(callers, "2026-11-01", "2026-11-30")]


async def test_of_many_cases_one_of_so_many_is_told_always_the_same(callers: Callers) -> None:
    ids = [await register(callers, text=TEXT) for _ in range(30)]
    some = [case.case_id for case in await terms(callers, "2026-11-01", "2026-11-30", one_of=3)]
    assert some == [case.case_id for case in await terms(callers, "2026-11-01", "2026-11-30", one_of=3)]
    assert 0 < len(some) < len(ids)


async def test_an_erased_text_has_no_terms_and_is_not_shown(callers: Callers, node: service.Running) -> None:
    case_id = await register(callers, text=TEXT)
    database = node.office.ledger.database
    with database.writing.begin():
        database.writing.execute(sa.delete(schema.PRIVATE))
    assert [] == await terms(callers, "2026-11-23", "2026-11-23")
    assert {} == await masked(callers, case_id)


async def test_the_beginning_of_a_text_is_shown_masked(callers: Callers) -> None:
    case_id = await register(callers, text=TEXT)
    long = await register(callers, text="发票" * 400)
    shown = await masked(callers, case_id, long, "110101-2026-9999999")
    assert "我叫〔姓名〕，电话〔电话〕，电子税务局无法登录，申报不了。" == shown[case_id]
    assert CHARACTERS_SHOWN_MAX == len(shown[long])
    assert {case_id, long} == shown.keys()


async def test_the_taxpayers_own_name_is_masked_wherever_it_stands(callers: Callers) -> None:
    case_id = await register(callers, taxpayer_name="常来常往", text="常来常往开票难，请问怎么办？")
    assert "〔姓名〕开票难，请问怎么办？" == (await masked(callers, case_id))[case_id]
    (case,) = await terms(callers, "2026-11-23", "2026-11-23")
    assert "常来常往" not in case.terms


async def test_no_placeholder_is_cut_through(callers: Callers) -> None:
    case_id = await register(callers, text="发" * 294 + "，电话13900001234，谢谢")
    assert (await masked(callers, case_id))[case_id].endswith("，电话…")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ledger_pb2.ReadTermsRequest(bureau=COUNTY, from_day="yesterday", to_day="2026-11-23"), "from_day"),
        (ledger_pb2.ReadTermsRequest(bureau=COUNTY, from_day="2026-11-23", to_day="9999-12-31"), "to_day"),
        (ledger_pb2.ReadTermsRequest(bureau=COUNTY, from_day="2026-11-23", to_day="2026-11-22"), "to_day"),
        (ledger_pb2.ReadTermsRequest(bureau=COUNTY, from_day="2024-11-22", to_day="2026-11-24"), "to_day"),
        (ledger_pb2.ReadTermsRequest(bureau="330106", from_day="2026-11-23", to_day="2026-11-23"), "bureau"),
    ],
)
async def test_a_period_that_cannot_be_is_refused(
    callers: Callers, request_: ledger_pb2.ReadTermsRequest, field: str
) -> None:
    refusal = await refusal_of(anext(aiter(ledgers(callers).ReadTerms(request_))))
    assert field == refusal.field


async def test_too_many_texts_at_once_are_refused(callers: Callers) -> None:
    request = ledger_pb2.ReadMaskedTextsRequest(bureau=COUNTY, case_ids=[f"case-{n}" for n in range(21)])
    assert "case_ids" == (await refusal_of(ledgers(callers).ReadMaskedTexts(request))).field


async def test_a_neighbour_reads_neither_terms_nor_texts(callers: Callers) -> None:
    neighbour = ledgers(callers, OTHER_COUNTY)
    period = ledger_pb2.ReadTermsRequest(bureau=COUNTY, from_day="2026-11-23", to_day="2026-11-23")
    assert "NotAuthorised" == (await refusal_of(anext(aiter(neighbour.ReadTerms(period))))).rule
    some = ledger_pb2.ReadMaskedTextsRequest(bureau=COUNTY, case_ids=["110101-2026-0000001"])
    assert "NotAuthorised" == (await refusal_of(neighbour.ReadMaskedTexts(some))).rule
