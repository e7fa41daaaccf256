"""The ledger as it is kept on paper: one line a case, whole and in order, contacts masked by role; over both databases."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from kuaixiang.domain import acts
from kuaixiang.domain.disclosure import LedgerNotForRole
from kuaixiang.domain.errors import FieldMalformed, FieldMissing, NotThisBureau, RoleNotHeld, UnknownOfficer
from kuaixiang.domain.staff import Department, Officer, Staff
from kuaixiang.domain.words import (
    Channel,
    Custody,
    DepartmentKind,
    ReferralKind,
    ReferralState,
    Role,
    Satisfaction,
    Stage,
    Telling,
)
from kuaixiang.wire.codec import instant, timestamp
from kuaixiang.wire.v1 import case_pb2
from node.channels import ledger_export
from node.channels.ledger_export import export_ledger
from node.ledger import schema
from tests.domain.story import (
    ACCEPT,
    ASK,
    COMPLETE,
    DISPATCH,
    FEEDBACK,
    FOLLOW_UP,
    FORWARD,
    HANGZHOU,
    HOUR,
    JOINT,
    MONDAY,
    REFER,
    REGISTER,
    REOPEN,
    SHANGCHENG,
    day,
    end_of,
)
from tests.ledger.bureaus import Desks, desks, execute
from tests.node.callers import COUNTY, PROVINCE, Callers, header, refusal_of, registration


@pytest.fixture
def opened(database_url: str) -> Iterator[Desks]:
    """An office over a new ledger."""
    with desks(database_url) as office:
        yield office


def asked(bureau: str = SHANGCHENG, role: Role = Role.TAX_SERVICE, **more: Any) -> case_pb2.ExportLedgerRequest:
    number: Any = int(role)
    fields: dict[str, Any] = {"bureau": bureau, "actor": "o-1", "department": "tax-service", "role": number}
    return case_pb2.ExportLedgerRequest(**fields | more)


async def exported(opened: Desks, *arguments: Any, **more: Any) -> list[Any]:
    answers = [answer async for answer in export_ledger(opened.office, asked(*arguments, **more))]
    return [row for answer in answers for row in answer.rows]


def at(row: Any, column: str) -> Any:
    return instant(getattr(row, column)) if row.HasField(column) else None


async def test_a_case_that_ran_its_whole_course_fills_every_column_of_its_line(opened: Desks) -> None:
    clock = opened.clock
    act = replace(REGISTER, channel=Channel.HOTLINE, note="老台账第7号")
    case_id = (await opened.do(SHANGCHENG, act, actor="reg-7", department="hall")).case.case_id
    clock.advance(HOUR)
    await opened.do(SHANGCHENG, FORWARD, case_id)
    clock.advance(HOUR)
    await opened.do(SHANGCHENG, DISPATCH, case_id)
    await opened.do(SHANGCHENG, replace(ASK, workdays=2), case_id)
    await opened.do(SHANGCHENG, acts.ApproveExtension(), case_id)
    clock.advance(HOUR)
    await opened.do(SHANGCHENG, COMPLETE, case_id)
    clock.advance(HOUR)
    await opened.do(SHANGCHENG, FEEDBACK, case_id)
    clock.advance(HOUR)
    await opened.do(SHANGCHENG, acts.FollowUp(satisfaction=Satisfaction.BASICALLY, remark="还想再问"), case_id)
    clock.advance(HOUR)
    await opened.do(SHANGCHENG, acts.WriteOff(), case_id)
    (row,) = await exported(opened)
    assert (case_id, REGISTER.taxpayer_name, REGISTER.contact, REGISTER.text) == (
        row.case_id,
        row.taxpayer_name,
        row.contact,
        row.text,
    )
    assert (SHANGCHENG, "hall", "reg-7", "老台账第7号") == (
        row.origin_bureau,
        row.accepting_department,
        row.accepted_by,
        row.note,
    )
    assert (Telling.TRANSFERRED, FORWARD.told, "policy", 2) == (
        row.telling,
        row.told,
        row.department,
        row.extended_workdays,
    )
    assert (COMPLETE.result, FEEDBACK.told_by, FEEDBACK.told, Satisfaction.BASICALLY, "还想再问") == (
        row.result,
        row.told_by,
        row.feedback,
        row.satisfaction,
        row.remark,
    )
    times = ("registered_at", "told_at", "forwarded_at", "completed_at", "fed_back_at", "followed_up_at")
    assert [0, 1, 1, 3, 4, 5, 6] == [(at(row, column) - MONDAY) / HOUR for column in (*times, "written_off_at")]
    assert (Stage.WRITTEN_OFF, Custody.OWNED, False, False) == (row.stage, row.custody, row.overdue, row.unreadable)
    assert end_of(3, 12) == at(row, "due_at")


async def test_what_no_longer_stands_is_struck_from_the_line(opened: Desks) -> None:
    case_id = (await opened.register(department="policy")).case.case_id
    for act in (ACCEPT, COMPLETE, FEEDBACK):
        await opened.do(SHANGCHENG, act, case_id, department="policy")
    await opened.do(SHANGCHENG, FOLLOW_UP, case_id)
    await opened.do(SHANGCHENG, REOPEN, case_id)
    (row,) = await exported(opened)
    assert ("", "", 0, Stage.HANDLING) == (row.result, row.feedback, row.satisfaction, row.stage)
    assert [None] * 3 == [at(row, column) for column in ("completed_at", "fed_back_at", "followed_up_at")]


async def test_an_answer_on_the_spot_is_its_result_and_its_feedback(opened: Desks) -> None:
    await opened.do(SHANGCHENG, replace(REGISTER, answer="可以享受"))
    (row,) = await exported(opened)
    assert (True, "可以享受", MONDAY, MONDAY) == (
        row.answered_on_the_spot,
        row.result,
        at(row, "completed_at"),
        at(row, "fed_back_at"),
    )
    assert not row.HasField("due_at")


async def test_a_referred_case_keeps_its_limit_when_its_dispatch_is_returned(opened: Desks) -> None:
    case_id = (await opened.register(HANGZHOU)).case.case_id
    await opened.do(HANGZHOU, FORWARD, case_id)
    await opened.do(HANGZHOU, replace(REFER, final_bureau=SHANGCHENG), case_id)
    await opened.tell(HANGZHOU, SHANGCHENG, case_id, chance=Random(2))
    await opened.do(SHANGCHENG, DISPATCH, case_id)
    await opened.do(SHANGCHENG, acts.ReturnDispatch(reason="不属于本部门职责"), case_id)
    (row,) = await exported(opened)
    assert ("", end_of(3, 10)) == (row.department, at(row, "due_at"))


async def test_joint_handling_shows_every_department_and_the_latest_limit(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    await opened.do(SHANGCHENG, FORWARD, case_id)
    await opened.do(SHANGCHENG, JOINT, case_id)
    await opened.do(SHANGCHENG, acts.CompletePart(result="好"), case_id, department="audit")
    for department in ("policy", "collection"):
        await opened.do(SHANGCHENG, replace(ASK, workdays=2), case_id, department=department)
        approval = acts.ApproveExtension(for_department=department)
        await opened.do(SHANGCHENG, approval, case_id, role=Role.BUREAU_HEAD)
    (row,) = await exported(opened)
    assert ("policy", ["collection", "audit"], 2) == (
        row.department,
        list(row.assisting_departments),
        row.extended_workdays,
    )
    assert end_of(3, 12) == at(row, "due_at")


async def test_a_case_handled_with_another_names_it(opened: Desks) -> None:
    lead = (await opened.register()).case.case_id
    await opened.do(SHANGCHENG, replace(REGISTER, lead_case_id=lead))
    assert ["", lead] == [row.lead_case_id for row in await exported(opened)]


async def test_a_hand_over_shows_in_both_ledgers_and_how_it_ended(opened: Desks) -> None:
    case_id = (await opened.register()).case.case_id
    await opened.do(SHANGCHENG, REFER, case_id)
    (offered,) = await exported(opened)
    assert [(ReferralKind.ESCALATE, ReferralState.OFFERED)] == [(r.kind, r.state) for r in offered.referrals]
    await opened.tell(SHANGCHENG, HANGZHOU, case_id, chance=Random(3))
    (there,) = await exported(opened, HANGZHOU)
    assert (SHANGCHENG, "", "") == (there.origin_bureau, there.accepting_department, there.accepted_by)
    assert (REGISTER.contact, MONDAY) == (there.contact, at(there, "forwarded_at"))
    await opened.do(HANGZHOU, DISPATCH, case_id)
    await opened.do(HANGZHOU, COMPLETE, case_id)
    await opened.do(HANGZHOU, FEEDBACK, case_id)
    await opened.tell(HANGZHOU, SHANGCHENG, case_id, chance=Random(3))
    (here,) = await exported(opened)
    assert (Stage.CONCLUDED, COMPLETE.result, HANGZHOU) == (here.stage, here.result, here.with_bureau)
    expected = [(SHANGCHENG, HANGZHOU, ReferralState.ACCEPTED)]
    for row in (here, there):
        assert expected == [(one.from_bureau, one.to_bureau, one.state) for one in row.referrals]


async def test_every_case_is_there_once_in_the_order_of_registration(
    opened: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened.live(seed=11, steps=260)
    for places, cases in ((20_000, 100), (3, 2), (1, 1)):
        monkeypatch.setattr(ledger_export, "PLACES_READ", places)
        monkeypatch.setattr(ledger_export, "CASES_READ", cases)
        for bureau in opened.ledger.bureaus:
            rows = await exported(opened, bureau)
            kept = [case for (where, _), case in (await opened.cases()).items() if where == bureau]
            in_order = sorted(kept, key=lambda case: (case.registered_at, case.case_id))
            assert [(case.case_id, case.stage, case.custody) for case in in_order] == [
                (row.case_id, row.stage, row.custody) for row in rows
            ]
            assert all(row.text and row.contact for row in rows)


async def test_a_period_and_the_open_cases_can_be_asked_for(opened: Desks) -> None:
    found = []
    for number in range(6):
        done = await opened.do(SHANGCHENG, replace(REGISTER, answer="好" if number % 2 else ""))
        if number % 2:
            await opened.do(SHANGCHENG, acts.WriteOff(), done.case.case_id)
        found.append(done.case.case_id)
        opened.clock.advance(timedelta(days=1))
    some = await exported(opened, registered_from=timestamp(day(3, 3, 0)), registered_before=timestamp(day(3, 6, 0)))
    assert found[1:4] == [row.case_id for row in some]
    assert found[::2] == [row.case_id for row in await exported(opened, open_only=True)]


async def test_a_large_batch_is_parted_into_messages(opened: Desks) -> None:
    for _ in range(90):
        await opened.do(SHANGCHENG, replace(REGISTER, text="诉" * 10_000))
    answers = [answer async for answer in export_ledger(opened.office, asked())]
    assert 90 == sum(len(answer.rows) for answer in answers)
    assert all(answer.ByteSize() < 2 << 20 for answer in answers)
    assert len(answers) > 3


@pytest.mark.parametrize("role", Role)
async def test_who_does_not_call_taxpayers_sees_no_contact_nowhere(opened: Desks, role: Role) -> None:
    said = "请回电13912345678或 li.si@example.cn"
    act = replace(REGISTER, contact="0571-87654321", text=said, note=said, answer=said)
    case_id = (await opened.do(SHANGCHENG, act)).case.case_id
    await opened.do(SHANGCHENG, acts.FollowUp(satisfaction=Satisfaction.SATISFIED, remark=said), case_id)
    if role in {Role.CHANNEL, Role.SYSTEM}:
        with pytest.raises(LedgerNotForRole):
            await exported(opened, role=role)
        return
    answers = [answer async for answer in export_ledger(opened.office, asked(role=role))]
    (row,) = [row for answer in answers for row in answer.rows]
    shown = role in {Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}
    assert shown is not answers[0].contacts_masked
    assert ("0571-87654321" if shown else "0571-****4321") == row.contact
    masked = "请回电139****5678或 l***@example.cn"
    texts = [getattr(row, column) for column in ("text", "note", "result", "remark")]
    assert [said if shown else masked] * 4 == texts
    text = str(row)
    assert shown is ("13912345678" in text and "li.si" in text)


async def test_an_empty_ledger_says_so_with_its_time(opened: Desks) -> None:
    (answer,) = [answer async for answer in export_ledger(opened.office, asked())]
    assert ([], MONDAY, False) == (list(answer.rows), instant(answer.as_of), answer.contacts_masked)


async def test_who_asks_is_named_and_the_bureau_is_of_this_node(opened: Desks) -> None:
    for wrong, condition in (
        ({"actor": ""}, FieldMissing),
        ({"actor": "张三"}, FieldMalformed),
        ({"department": "税政科"}, FieldMalformed),
        ({"role": 0}, FieldMissing),
        ({"bureau": "999999"}, NotThisBureau),
    ):
        request = asked()
        for name, value in wrong.items():
            setattr(request, name, value)
        with pytest.raises(condition):
            await anext(export_ledger(opened.office, request))


async def test_whoever_exports_is_on_the_bureaus_list_in_that_role(opened: Desks) -> None:
    department = Department(code="tax-service", name="纳税服务科", kind=DepartmentKind.TAX_SERVICE)
    auditor = Officer(actor="o-1", name="", roles=frozenset({Role.AUDITOR}), departments=frozenset({department.code}))
    staff = Staff(version="1", departments={department.code: department}, officers={auditor.actor: auditor})
    opened.office.place.staff = lambda _: staff
    assert [] == await exported(opened, role=Role.AUDITOR)
    with pytest.raises(RoleNotHeld):
        await exported(opened, role=Role.TAX_SERVICE)
    with pytest.raises(UnknownOfficer):
        await exported(opened, role=Role.AUDITOR, actor="o-2")


async def test_a_case_that_cannot_be_read_is_a_line_that_says_so(database_url: str) -> None:
    with desks(database_url) as opened:
        case_ids = [(await opened.register()).case.case_id for _ in range(3)]
    blob = "x'ff'" if database_url.startswith("sqlite") else "'\\xff'::bytea"
    execute(database_url, f"UPDATE {schema.JOURNAL.name} SET public = {blob} WHERE case_id = '{case_ids[1]}'")
    with desks(database_url) as opened:
        rows = await exported(opened)
    assert [(case_ids[0], False), (case_ids[1], True), (case_ids[2], False)] == [
        (row.case_id, row.unreadable) for row in rows
    ]
    assert Stage.REGISTERED == rows[1].stage


async def test_an_erased_private_part_leaves_its_columns_empty(database_url: str) -> None:
    with desks(database_url) as opened:
        await opened.register()
    execute(database_url, f"DELETE FROM {schema.PRIVATE.name}")
    with desks(database_url) as opened:
        (row,) = await exported(opened, role=Role.AUDITOR)
    assert ("", "", "", MONDAY) == (row.taxpayer_name, row.contact, row.text, at(row, "registered_at"))


async def test_only_the_bureaus_own_officers_export_its_ledger(callers: Callers) -> None:
    office = callers.office()
    await office.RegisterCase(registration(header=header("REGISTRAR")))
    answers = [answer async for answer in office.ExportLedger(asked(COUNTY))]
    assert ["15400001234"] == [row.contact for answer in answers for row in answer.rows]
    superior = callers.office(PROVINCE).ExportLedger(asked(COUNTY))
    assert (await refusal_of(anext(aiter(superior)))).rule == "NotAuthorised"
    channel = office.ExportLedger(asked(COUNTY, Role.CHANNEL))
    assert (await refusal_of(anext(aiter(channel)))).rule == "LedgerNotForRole"
