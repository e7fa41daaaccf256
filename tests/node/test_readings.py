"""Who reads what is private, over gRPC: masked for the bureau's officers, in clear for some, and then on record."""

from hashlib import sha256
from typing import Any

import pytest

from kuaixiang.domain.staff import Department, Officer, Staff
from kuaixiang.domain.words import DepartmentKind, Role
from kuaixiang.runtime.streams import send
from kuaixiang.wire.codec import decode_entry
from kuaixiang.wire.v1 import case_pb2, common_pb2, journal_pb2
from node import service
from node.ledger import queries
from tests.node.callers import COUNTY, Callers, header, refusal_of, registration

CONTACT, SECOND, MAIL = "15400001234", "13912345678", "li.si@example.cn"
SAID = f"请回电{SECOND}或 {MAIL}"
CONTENT = b"a contract"
DIGEST = sha256(CONTENT).hexdigest()
NAMED = f"合同{SECOND}.txt"
MASKED, FULL = common_pb2.DISCLOSURE_MASKED, common_pb2.DISCLOSURE_FULL
CALLS = ("REGISTRAR", "TAX_SERVICE", "HANDLER")
READS_MASKED = ("DEPUTY_HEAD", "BUREAU_HEAD", "SUPERVISOR", "AUDITOR")
READS_NOTHING = ("CHANNEL", "SYSTEM")
EVENTS = ("private_read", "attachment_read", "ledger_exported")


def reader(role: str, **more: Any) -> dict[str, Any]:
    """Who reads: each role another person."""
    number = common_pb2.Role.Value(f"ROLE_{role}")
    return {"actor": f"officer-{role.lower()}", "role": number, "department": "tax-service"} | more


def asked(case_id: str, private: Any, role: str = "TAX_SERVICE", **more: Any) -> case_pb2.GetCaseRequest:
    fields = {"bureau": COUNTY, "case_id": case_id, "private": private, "include_history": True} | reader(role)
    return case_pb2.GetCaseRequest(**fields | more)


def of_file(case_id: str, digest: str = DIGEST, role: str = "TAX_SERVICE") -> case_pb2.ReadAttachmentRequest:
    return case_pb2.ReadAttachmentRequest(bureau=COUNTY, case_id=case_id, digest=digest, **reader(role))


async def read(office: Any, request: case_pb2.ReadAttachmentRequest) -> bytes:
    return b"".join([piece.data async for piece in office.ReadAttachment(request)])


async def told(office: Any) -> str:
    """A case with contacts wherever somebody may have written one, and a file."""
    case = (await office.RegisterCase(registration(text=SAID, note=SAID, contact=CONTACT))).case
    head = case_pb2.AttachFileRequest(
        header=header("REGISTRAR", case.case_id),
        digest=DIGEST,
        name=NAMED,
        media_type="text/plain",
        size_bytes=len(CONTENT),
    )

    async def pieces() -> Any:
        yield case_pb2.AttachFileRequest(data=CONTENT)

    await send(office.AttachFile(), head, pieces())
    telling = common_pb2.TELLING_COMPLICATED
    await office.ForwardCase(
        case_pb2.ForwardCaseRequest(header=header("REGISTRAR", case.case_id), telling=telling, told=SAID)
    )
    return str(case.case_id)


def journal(node: service.Running) -> list[journal_pb2.Entry]:
    """The county's journal, public parts."""
    segment = queries.read_segment(node.office.ledger.database, COUNTY, 0, entries_max=500, bytes_max=1 << 20)
    return [journal_pb2.Entry.FromString(one.public) for one in segment.entries] if segment is not None else []


def readings(node: service.Running) -> list[tuple[str, str, str]]:
    """Event, actor and case of every reading on record."""
    named = [(str(entry.WhichOneof("event")), entry.actor, entry.case_id) for entry in journal(node)]
    return [one for one in named if one[0] in EVENTS]


async def test_every_officer_reads_a_case_masked_without_any_contact_and_nothing_is_recorded(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await told(office)
    masked = "请回电139****5678或 l***@example.cn"
    for role in (*CALLS, *READS_MASKED):
        got = await office.GetCase(asked(case_id, MASKED, role))
        view = got.private_view
        assert ("晨＊＊＊店", "154****1234", masked) == (view.taxpayer_name, view.contact, view.text)
        assert [("合同139****5678.txt", DIGEST)] == [(file.name, file.digest) for file in view.attachments]
        assert [masked, "合同139****5678.txt", masked, ""] == [item.note for item in got.history]
        everything = got.SerializeToString()
        assert [] == [one for one in (CONTACT, SECOND, MAIL, "文具") if one.encode() in everything]
    assert [] == readings(node)


async def test_who_calls_taxpayers_reads_in_clear_and_each_reading_is_recorded_and_shown(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await told(office)
    expected = []
    for role in (*CALLS, CALLS[0]):
        got = await office.GetCase(asked(case_id, FULL, role))
        view = got.private_view
        assert ("晨光文具店", CONTACT, SAID) == (view.taxpayer_name, view.contact, view.text)
        assert [NAMED] == [file.name for file in view.attachments]
        assert [SAID, NAMED, SAID] == [item.note for item in got.history[:3]]
        expected.append(("private_read", f"officer-{role.lower()}", case_id))
        assert expected == readings(node)
    seen = await office.GetCase(case_pb2.GetCaseRequest(bureau=COUNTY, case_id=case_id, include_history=True))
    assert [(actor, "tax-service", 0, 0, "") for _, actor, _ in expected] == [
        (item.actor, item.department, item.version, item.stage, item.note)
        for item in seen.history
        if item.event == "private_read"
    ]
    assert sorted(item.seq for item in seen.history) == [item.seq for item in seen.history]


async def test_who_does_not_call_taxpayers_is_refused_what_is_in_clear_and_nothing_is_recorded(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await told(office)
    for role in READS_MASKED:
        for call in (office.GetCase(asked(case_id, FULL, role)), read(office, of_file(case_id, role=role))):
            refusal = await refusal_of(call)
            assert ("PrivateNotForRole", "role") == (refusal.rule, refusal.field)
            assert all((*refusal.sentence, *refusal.remedy))
    assert [] == readings(node)


async def test_a_channel_and_the_system_read_nothing_private_not_even_masked(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await told(office)
    for role in READS_NOTHING:
        for private in (MASKED, FULL):
            assert "PrivateNotForRole" == (await refusal_of(office.GetCase(asked(case_id, private, role)))).rule
        assert "PrivateNotForRole" == (await refusal_of(read(office, of_file(case_id, role=role)))).rule
    assert [] == readings(node)


async def test_the_content_of_a_file_is_recorded_before_it_is_answered_and_what_is_not_there_is_not(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await told(office)
    assert "UnknownAttachment" == (await refusal_of(read(office, of_file(case_id, "0" * 64)))).rule
    assert [] == readings(node)
    stream = office.ReadAttachment(of_file(case_id))
    await anext(aiter(stream))
    assert [("attachment_read", "officer-tax_service", case_id)] == readings(node)
    stream.cancel()


async def test_who_reads_must_be_said_and_the_case_be_in_the_ledger(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    case_id = await told(office)
    for private in (MASKED, FULL):
        for missing in ("actor", "role", "department"):
            request = asked(case_id, private)
            request.ClearField(missing)
            refusal = await refusal_of(office.GetCase(request))
            assert ("FieldMissing", missing) == (refusal.rule, refusal.field)
    refusal = await refusal_of(office.GetCase(asked(case_id, 9)))
    assert ("FieldMalformed", "private") == (refusal.rule, refusal.field)
    assert "UnknownCase" == (await refusal_of(office.GetCase(asked("110101-2026-7777777", FULL)))).rule
    assert [] == readings(node)


async def test_whoever_reads_is_on_the_bureaus_list_in_that_role(callers: Callers, node: service.Running) -> None:
    office = callers.office()
    case_id = await told(office)
    department = Department(code="tax-service", name="纳税服务科", kind=DepartmentKind.TAX_SERVICE)
    auditor = Officer(actor="a-1", name="", roles=frozenset({Role.AUDITOR}), departments=frozenset({department.code}))
    staff = Staff(version="1", departments={department.code: department}, officers={auditor.actor: auditor})
    node.office.place.staff = lambda _: staff
    assert (await office.GetCase(asked(case_id, MASKED, "AUDITOR", actor="a-1"))).private_view.contact
    refused = {
        "RoleNotHeld": asked(case_id, FULL, actor="a-1"),
        "UnknownOfficer": asked(case_id, MASKED, "AUDITOR", actor="a-2"),
        "NotInDepartment": asked(case_id, MASKED, "AUDITOR", actor="a-1", department="policy"),
    }
    for rule, request in refused.items():
        assert rule == (await refusal_of(office.GetCase(request))).rule
    assert "UnknownOfficer" == (await refusal_of(read(office, of_file(case_id)))).rule
    assert [] == readings(node)


async def test_a_reading_leaves_the_case_as_it_was(callers: Callers) -> None:
    office = callers.office()
    case_id = str((await office.RegisterCase(registration())).case.case_id)
    before = (await office.GetCase(asked(case_id, 0))).case
    await office.GetCase(asked(case_id, FULL))
    after = (await office.GetCase(asked(case_id, 0))).case
    assert before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)
    unchanged = header("REGISTRAR", case_id, expected_version=before.version)
    forward = case_pb2.ForwardCaseRequest(header=unchanged, telling=common_pb2.TELLING_COMPLICATED)
    assert common_pb2.STAGE_FORWARDED == (await office.ForwardCase(forward)).case.stage


async def test_a_recorded_reading_says_who_read_which_case_and_nothing_that_was_read(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    case_id = await told(office)
    await office.GetCase(asked(case_id, FULL, "HANDLER", department="policy"))
    await read(office, of_file(case_id))
    for entry in journal(node)[-2:]:
        public = entry.SerializeToString()
        known = decode_entry(public)
        assert (case_id, 0, None) == (known.case_id, known.version, known.event.private)
        said = ("文具", CONTACT, SECOND, MAIL, DIGEST, "合同")
        assert [] == [one for one in said if one.encode() in public]
    first = journal(node)[-2]
    assert ("officer-handler", common_pb2.ROLE_HANDLER, "policy") == (first.actor, first.role, first.department)


async def test_a_watcher_of_the_ledger_sees_readings_pass(callers: Callers) -> None:
    office = callers.office()
    case_id = await told(office)
    await office.GetCase(asked(case_id, FULL))
    await read(office, of_file(case_id))
    watch = office.WatchCases(case_pb2.WatchCasesRequest(bureau=COUNTY, from_seq=1))
    seen = []
    async for change in watch:
        seen.append((change.event, change.case_id, change.stage))
        if change.event == "attachment_read":
            watch.cancel()
            break
    assert [("private_read", case_id, 0), ("attachment_read", case_id, 0)] == seen[-2:]


async def test_an_export_in_clear_is_recorded_once_with_its_bounds_and_a_masked_one_is_not(
    callers: Callers, node: service.Running
) -> None:
    office = callers.office()
    for _ in range(3):
        await told(office)
    request = case_pb2.ExportLedgerRequest(bureau=COUNTY, open_only=True, **reader("AUDITOR"))
    request.registered_from.FromSeconds(1_700_000_000)
    rows = [row async for answer in office.ExportLedger(request) for row in answer.rows]
    assert {("晨＊＊＊店", "154****1234")} == {(row.taxpayer_name, row.contact) for row in rows}
    assert [] == readings(node)
    request.MergeFrom(case_pb2.ExportLedgerRequest(**reader("TAX_SERVICE")))
    rows = [row async for answer in office.ExportLedger(request) for row in answer.rows]
    assert {("晨光文具店", CONTACT)} == {(row.taxpayer_name, row.contact) for row in rows}
    assert [("ledger_exported", "officer-tax_service", "")] == readings(node)
    exported = journal(node)[-1].ledger_exported
    assert (1_700_000_000_000_000, 0, True) == (
        exported.registered_from_us,
        exported.registered_before_us,
        exported.open_only,
    )


async def test_of_very_many_readings_a_case_shows_the_latest(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "READINGS_MAX", 2)
    office = callers.office()
    case_id = await told(office)
    for role in CALLS:
        await office.GetCase(asked(case_id, FULL, role))
    seen = await office.GetCase(asked(case_id, 0))
    assert ["officer-tax_service", "officer-handler"] == [
        item.actor for item in seen.history if item.event == "private_read"
    ]
