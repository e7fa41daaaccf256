"""What a node refuses before the rules of the lifecycle are asked, and while its ledger cannot take any work."""

import asyncio
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX
from kuaixiang.runtime import writer
from kuaixiang.wire.v1 import case_pb2, common_pb2
from node import service
from tests.node.callers import Callers, header, refusal_of, registration


async def test_an_act_says_whose_ledger_it_is_for(callers: Callers) -> None:
    refusal = await refusal_of(callers.office().RegisterCase(registration(header=header("REGISTRAR", bureau=""))))
    assert ("FieldMissing", "header.bureau") == (refusal.rule, refusal.field)


@pytest.mark.parametrize("case_id", ["", "110101/2026", "1" * 65])
async def test_an_act_names_a_case_by_a_number_that_can_be_one(callers: Callers, case_id: str) -> None:
    request = case_pb2.WithdrawCaseRequest(header=header("REGISTRAR", case_id))
    refusal = await refusal_of(callers.office().WithdrawCase(request))
    assert ("FieldMalformed", "header.case_id") == (refusal.rule, refusal.field)


async def test_a_note_has_a_longest_length(callers: Callers) -> None:
    office = callers.office()
    case = (await office.RegisterCase(registration())).case
    request = case_pb2.ForwardCaseRequest(
        header=header("REGISTRAR", case.case_id),
        telling=common_pb2.TELLING_COMPLICATED,
        told="告" * (NOTE_CHARACTERS_MAX + 1),
    )
    refusal = await refusal_of(office.ForwardCase(request))
    assert ("FieldMalformed", "note") == (refusal.rule, refusal.field)


async def test_more_work_than_can_wait_is_refused_and_nothing_is_registered(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = callers.office()
    monkeypatch.setattr(writer, "QUEUE_MAX", 0)
    refusal = await refusal_of(office.RegisterCase(registration()))
    assert ("TooMuchWaits", grpc.StatusCode.RESOURCE_EXHAUSTED) == (refusal.rule, refusal.code)
    monkeypatch.undo()
    assert "110101-2026-0000001" == (await office.RegisterCase(registration())).case.case_id


async def test_an_act_that_comes_while_the_ledger_closes_is_refused(callers: Callers, node: service.Running) -> None:
    office: Any = callers.office()
    await asyncio.to_thread(node.office.ledger.writer.stop)
    refusal = await refusal_of(office.RegisterCase(registration()))
    assert ("LedgerClosed", "The ledger is closed.") == (refusal.rule, refusal.sentence.english)


async def test_what_cannot_be_read_because_the_database_is_away_is_refused_until_it_is_back(
    callers: Callers, node: service.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = callers.office()
    case_id = (await office.RegisterCase(registration())).case.case_id
    request = case_pb2.ListCasesRequest(bureau="110101")
    monkeypatch.setattr(node.office.ledger.database, "readers", sa.create_engine("sqlite:////nowhere/at/all.db"))
    refusal = await refusal_of(office.ListCases(request))
    assert ("DatabaseAway", grpc.StatusCode.RESOURCE_EXHAUSTED) == (refusal.rule, refusal.code)
    assert "nowhere" not in refusal.sentence.english
    monkeypatch.undo()
    assert [case_id] == [case.case_id for case in (await office.ListCases(request)).cases]
