"""CaseService over gRPC and mTLS: what an officer asks and what he is told."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from kuaixiang.domain.acts import Act
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.writer import WriterStopped
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc, common_pb2
from node import service
from node.office import Begun, Header, Office
from tests.node.callers import COUNTY, MORNING, PROVINCE, Callers, header, refusal_of, registration


async def register(office: Any, **more: Any) -> case_pb2.Case:
    response: case_pb2.ActResponse = await office.RegisterCase(registration(**more))
    return response.case


async def test_a_case_goes_from_registration_to_write_off(callers: Callers) -> None:
    office = callers.office()
    case = await register(office)
    case_id = case.case_id
    assert case_id == "110101-2026-0000001"
    acts: list[tuple[Any, Any, str, dict[str, Any]]] = [
        (office.ForwardCase, case_pb2.ForwardCaseRequest, "REGISTRAR", {"telling": common_pb2.TELLING_COMPLICATED}),
        (office.DispatchCase, case_pb2.DispatchCaseRequest, "TAX_SERVICE", {"to_department": "policy"}),
        (office.AskExtension, case_pb2.AskExtensionRequest, "HANDLER", {"workdays": 3, "reason": "需核实"}),
        (office.ApproveExtension, case_pb2.ApproveExtensionRequest, "DEPUTY_HEAD", {}),
        (office.CompleteCase, case_pb2.CompleteCaseRequest, "HANDLER", {"result": "已核实"}),
        (office.GiveFeedback, case_pb2.GiveFeedbackRequest, "HANDLER", {"told_by": 1, "told": "已答复"}),
        (office.RecordFollowUp, case_pb2.RecordFollowUpRequest, "TAX_SERVICE", {"satisfaction": 1}),
        (office.WriteOffCase, case_pb2.WriteOffCaseRequest, "TAX_SERVICE", {}),
    ]
    response = case_pb2.ActResponse()
    for call, message, role, fields in acts:
        own = {"department": "policy"} if role == "HANDLER" else {}
        response = await call(message(header=header(role, case_id, **own), **fields))
    assert response.case.stage == common_pb2.STAGE_WRITTEN_OFF
    assert not response.case.clocks
    got = await office.GetCase(
        case_pb2.GetCaseRequest(
            bureau=COUNTY,
            case_id=case_id,
            private=common_pb2.DISCLOSURE_FULL,
            include_history=True,
            actor="officer-7",
            role=common_pb2.ROLE_TAX_SERVICE,
            department="tax-service",
        )
    )
    assert [item.event for item in got.history] == [
        "registered",
        "taxpayer_told",
        "forwarded",
        "dispatched",
        "extension_asked",
        "extension_approved",
        "completed",
        "feedback_given",
        "followed_up",
        "written_off",
        "private_read",
    ]
    assert got.private_view.taxpayer_name == "晨光文具店"
    assert [item.note for item in got.history if item.event == "completed"] == ["已核实"]


async def test_private_parts_are_shown_only_when_asked_for(callers: Callers) -> None:
    office = callers.office()
    case = await register(office, answer="可以享受。")
    got = await office.GetCase(case_pb2.GetCaseRequest(bureau=COUNTY, case_id=case.case_id, include_history=True))
    assert not got.HasField("private_view")
    assert [item.note for item in got.history] == ["", ""]


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"taxpayer_name": " "}, "taxpayer_name", "FieldMissing"),
    ({"contact": ""}, "contact", "FieldMissing"),
    ({"contact": "12345"}, "contact", "FieldMalformed"),
    ({"text": ""}, "text", "FieldMissing"),
    ({"text": "诉" * 10_001}, "text", "FieldMalformed"),
    ({"category": 0}, "category", "FieldMissing"),
    ({"category": 99}, "category", "FieldMalformed"),
    ({"channel": 0}, "channel", "FieldMissing"),
    ({"taxpayer_number": make_taxpayer_number(COUNTY, 1)[:-1] + "?"}, "taxpayer_number", "FieldMalformed"),
    ({"header": header("REGISTRAR", actor="")}, "header.actor", "FieldMissing"),
    ({"header": header("REGISTRAR", role=0)}, "header.role", "FieldMissing"),
    ({"header": header("REGISTRAR", department="")}, "header.department", "FieldMissing"),
    ({"header": header("REGISTRAR", request_key="a key")}, "header.request_key", "FieldMalformed"),
    (
        {"header": header("REGISTRAR", occurred_at=timestamp(MORNING + timedelta(minutes=1)))},
        "header.occurred_at",
        "TimeInFuture",
    ),
    ({"header": header("HANDLER")}, "header.role", "RoleNotAllowed"),
]


async def test_a_faulty_registration_is_refused_by_field_and_rule_and_nothing_is_stored(callers: Callers) -> None:
    office = callers.office()
    for change, field, rule in FAULTS:
        refusal = await refusal_of(office.RegisterCase(registration(**change)))
        assert (field, rule) == (refusal.field, refusal.rule)
        assert all((*refusal.sentence, *refusal.remedy))
    listed = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY))
    assert not listed.cases


async def test_a_refusal_never_repeats_what_is_private(callers: Callers) -> None:
    refusal = await refusal_of(callers.office().RegisterCase(registration(contact="15400", taxpayer_number="91X")))
    assert "15400" not in str(refusal)
    assert "91X" not in str(refusal)


async def test_text_that_is_not_utf8_is_refused_before_anything_is_read(callers: Callers) -> None:
    raw = registration(text="诉求").SerializeToString().replace("诉求".encode(), "诉求".encode("gb18030") + b"\xff\xff")
    call: Any = callers.channel().unary_unary("/kuaixiang.wire.v1.CaseService/RegisterCase")
    refusal = await refusal_of(call(raw))
    assert (refusal.code, refusal.rule) == (grpc.StatusCode.INVALID_ARGUMENT, "NotReadable")


async def test_the_same_request_key_registers_once(callers: Callers) -> None:
    office = callers.office()
    keyed = registration(header=header("REGISTRAR", request_key="counter-7-42"))
    answers = await asyncio.gather(*(office.RegisterCase(keyed) for _ in range(8)))
    assert len({answer.case.case_id for answer in answers}) == 1
    assert sum(answer.repeated_request for answer in answers) == 7
    other = registration(header=header("REGISTRAR", request_key="counter-7-42"), text="另一件事")
    assert (await refusal_of(office.RegisterCase(other))).rule == "KeyReused"


async def test_the_same_channel_reference_is_one_case(callers: Callers) -> None:
    office = callers.office()
    first = await office.RegisterCase(registration(channel=1, channel_reference="12366-0001"))
    second = await office.RegisterCase(registration(channel=1, channel_reference="12366-0001", text="重复来电"))
    assert first.case.case_id == second.case.case_id
    assert second.repeated_request


async def test_a_stream_of_registrations_is_acknowledged_row_by_row_in_order(callers: Callers) -> None:
    office = callers.office()

    async def rows() -> Any:
        for number in range(0, 300, 60):
            contacts = ["1" if row % 50 == 7 else "15400001234" for row in range(number, number + 60)]
            yield case_pb2.RegisterCasesRequest(registrations=[registration(contact=contact) for contact in contacts])

    answers = [answer async for response in office.RegisterCases(rows()) for answer in response.answers]
    assert [answer.index for answer in answers] == list(range(300))
    refused = [answer.index for answer in answers if answer.WhichOneof("result") == "refused"]
    assert refused == [7, 57, 107, 157, 207, 257]
    assert {answers[at].refused.field for at in refused} == {"contact"}


async def test_a_registration_that_comes_alone_is_answered_by_itself(callers: Callers) -> None:
    office = callers.office()
    rows = [case_pb2.RegisterCasesRequest(registration=registration(contact=one)) for one in ("15400001234", "1")]
    first, second = [answer async for answer in office.RegisterCases(iter(rows))]
    assert first.accepted.case.bureau == COUNTY
    assert (1, "contact") == (second.index, second.refused.field)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (case_pb2.RegisterCasesRequest(), "registrations is required"),
        (
            case_pb2.RegisterCasesRequest(registration=registration(), registrations=[registration()]),
            "registration came together with registrations",
        ),
    ],
)
async def test_a_message_of_a_stream_that_registers_nothing_or_in_both_ways_is_refused(
    callers: Callers, message: case_pb2.RegisterCasesRequest, said: str
) -> None:
    office = callers.office()
    with pytest.raises(grpc.aio.AioRpcError, match=said):
        [answer async for answer in office.RegisterCases(iter([message]))]
    assert [] == list((await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY))).cases)


async def test_more_registrations_than_a_message_may_have_are_refused_and_none_of_them_is_made(
    callers: Callers,
) -> None:
    office = callers.office()
    message = case_pb2.RegisterCasesRequest(registrations=[registration()] * 513)
    with pytest.raises(grpc.aio.AioRpcError, match="513 registrations"):
        [answer async for answer in office.RegisterCases(iter([message]))]
    assert [] == list((await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY))).cases)


async def test_what_fails_behind_the_failure_that_ends_a_stream_is_no_fault_that_nobody_looked_at(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[Any] = []

    async def begin(_: Office, header: Header, __: Act) -> Begun:
        loop = asyncio.get_running_loop()
        results.append(loop.create_future())
        loop.call_later(0.05, results[-1].set_exception, WriterStopped())
        return Begun(header.bureau, results[-1])

    monkeypatch.setattr(Office, "begin", begin)
    message = case_pb2.RegisterCasesRequest(registrations=[registration()] * 3)
    with pytest.raises(grpc.aio.AioRpcError):
        [answer async for answer in callers.office().RegisterCases(iter([message]))]
    await asyncio.wait(results)
    # The loop's own mark of a failure that it will complain of.
    assert [False] * 3 == [result._log_traceback for result in results]


async def test_the_work_list_pages_by_nearest_deadline_without_gaps_or_repeats(
    callers: Callers, clock: SharedClockDriver
) -> None:
    office = callers.office()
    made = []
    for day in range(3):
        made += [(await register(office)).case_id for _ in range(5)]
        clock.advance_to(MORNING + timedelta(days=day + 1))
    seen: list[str] = []
    token = ""
    while True:
        page = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY, page_size=4, page_token=token))
        seen += [case.case_id for case in page.cases]
        token = page.next_page_token
        if not token:
            break
    assert made == seen
    overdue = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY, overdue=True))
    assert made[:10] == [case.case_id for case in overdue.cases]
    assert all(case.clocks[0].overdue for case in overdue.cases)
    assert (await refusal_of(office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY, page_token="?")))).field == (
        "page_token"
    )


async def accept(office: Any, case_id: str) -> case_pb2.Case:
    """The department that registered it handles it, within five working days."""
    request = case_pb2.AcceptDirectlyRequest(header=header("HANDLER", case_id), telling=common_pb2.TELLING_COMPLICATED)
    return (await office.AcceptDirectly(request)).case  # type: ignore[no-any-return]


async def test_what_is_due_within_one_working_day_is_marked_and_listed(
    callers: Callers, clock: SharedClockDriver
) -> None:
    office = callers.office()
    far = await accept(office, (await register(office)).case_id)
    assert [False] == [one.due_soon for one in far.clocks]
    near = await register(office)  # to be forwarded within one working day
    assert [True] == [one.due_soon for one in near.clocks]
    wanted = case_pb2.ListCasesRequest(bureau=COUNTY, due_soon=True)
    assert [near.case_id] == [case.case_id for case in (await office.ListCases(wanted)).cases]
    # Saturday: of five working days from Monday on, the last is the Monday to come; the other one is overdue.
    clock.advance_to(MORNING + timedelta(days=5))
    (listed,) = (await office.ListCases(wanted)).cases
    assert (far.case_id, [True]) == (listed.case_id, [one.due_soon for one in listed.clocks])


async def test_a_deadline_beyond_the_published_calendar_is_marked_and_listed(
    callers: Callers, clock: SharedClockDriver
) -> None:
    office = callers.office()
    settled = await accept(office, (await register(office)).case_id)
    clock.advance_to(MORNING + timedelta(days=35))
    provisional = await accept(office, (await register(office)).case_id)
    assert ([False], [True]) == (
        [one.provisional for one in settled.clocks],
        [one.provisional for one in provisional.clocks],
    )
    wanted = case_pb2.ListCasesRequest(bureau=COUNTY, provisional=True)
    assert [provisional.case_id] == [case.case_id for case in (await office.ListCases(wanted)).cases]
    got = await office.GetCase(case_pb2.GetCaseRequest(bureau=COUNTY, case_id=provisional.case_id))
    assert got.case.clocks[0].provisional


async def test_a_watcher_sees_every_change_from_a_position_on(callers: Callers) -> None:
    office = callers.office()
    first = await register(office)
    watch = office.WatchCases(case_pb2.WatchCasesRequest(bureau=COUNTY, from_seq=1))
    news = aiter(watch)
    assert (await anext(news)).case_id == first.case_id
    waiting = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await office.WithdrawCase(
        case_pb2.WithdrawCaseRequest(header=header("REGISTRAR", first.case_id), reason="纳税人自行解决")
    )
    assert (await asyncio.wait_for(waiting, 60)).event == "case_withdrawn"
    watch.cancel()


async def test_another_bureaus_officer_a_stranger_and_a_hub_may_not_act(
    callers: Callers, node: service.Running
) -> None:
    assert (await refusal_of(callers.office(PROVINCE).RegisterCase(registration()))).rule == "NotAuthorised"
    hub = case_pb2_grpc.CaseServiceStub(callers.channel("hub", PROVINCE))
    assert (await refusal_of(hub.RegisterCase(registration()))).rule == "NotAuthorised"


async def test_a_certificate_of_another_authority_is_turned_away(node: service.Running, tmp_path: Any) -> None:
    pki.init_authority(tmp_path / "strange-ca", "strangers")
    pki.issue(tmp_path / "strange-ca", tmp_path / "stranger", "office", [COUNTY])
    channel = tls.open_channel(
        f"127.0.0.1:{node.port}",
        pki.dns_name("node", COUNTY),
        pki.CertificatePaths.in_folder(tmp_path / "stranger"),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await case_pb2_grpc.CaseServiceStub(channel).RegisterCase(registration(), timeout=5)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    await channel.close()


async def test_an_unknown_bureau_and_an_unknown_case_are_named(callers: Callers) -> None:
    office = callers.office("110102")
    elsewhere = registration(header=header("REGISTRAR", bureau="110102"))
    assert (await refusal_of(office.RegisterCase(elsewhere))).rule == "NotThisBureau"
    missing = case_pb2.WithdrawCaseRequest(header=header("REGISTRAR", "110101-2026-9999999"))
    refusal = await refusal_of(callers.office().WithdrawCase(missing))
    assert (refusal.rule, refusal.code) == ("UnknownCase", grpc.StatusCode.NOT_FOUND)


async def test_an_act_on_an_older_version_is_refused(callers: Callers) -> None:
    office = callers.office()
    case = await register(office)
    late = case_pb2.WithdrawCaseRequest(header=header("REGISTRAR", case.case_id, expected_version=case.version + 1))
    refusal = await refusal_of(office.WithdrawCase(late))
    assert (refusal.rule, refusal.code) == ("VersionConflict", grpc.StatusCode.ABORTED)


async def test_a_case_survives_the_nodes_restart(settings: Any, tmp_path: Any) -> None:
    ids, listed = [], case_pb2.ListCasesResponse()
    for _ in range(2):
        async with service.running(settings) as running:
            callers = Callers(running.port, tmp_path)
            ids.append((await register(callers.office())).case_id)
            listed = await callers.office().ListCases(case_pb2.ListCasesRequest(bureau=COUNTY))
            await callers.close()
    assert ids == ["110101-2026-0000001", "110101-2026-0000002"]
    assert ids == [case.case_id for case in listed.cases]


async def test_health_and_reflection_answer(callers: Callers) -> None:
    channel = callers.channel()
    health: Any = health_pb2_grpc.HealthStub(channel)
    names = (
        "",
        "kuaixiang.wire.v1.CaseService",
        "kuaixiang.wire.v1.ReferralService",
        "kuaixiang.wire.v1.LedgerService",
        "kuaixiang.wire.v1.SupervisionService",
    )
    for name in names:
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(node: service.Running, tmp_path: Any, callers: Callers) -> None:
    callers.channel()
    paths = pki.CertificatePaths.in_folder(tmp_path / f"office-{COUNTY}")
    credentials = tls.channel_credentials(pki.load(paths))

    def services() -> list[str]:
        name = ("grpc.ssl_target_name_override", pki.dns_name("node", COUNTY))
        with grpc.secure_channel(f"127.0.0.1:{node.port}", credentials, options=(name,)) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    listed = await asyncio.to_thread(services)
    assert {
        "kuaixiang.wire.v1.CaseService",
        "kuaixiang.wire.v1.ReferralService",
        "kuaixiang.wire.v1.LedgerService",
        "grpc.health.v1.Health",
    } <= set(listed)


async def test_a_tab_is_listed_with_what_each_case_is_about_and_is_counted(callers: Callers) -> None:
    office = callers.office()
    text = "电子税务局打不开，请回电13800000000。"
    case = await register(office, taxpayer_name="京城示例商贸有限公司", text=text)
    await accept(office, (await register(office)).case_id)
    tab: Any = common_pb2.WORK_TAB_TO_FORWARD
    listed = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY, tab=tab, include_brief=True))
    assert [case.case_id] == [one.case_id for one in listed.cases]
    assert [("京＊＊＊＊＊＊＊＊司", "电子税务局打不开，请回电〔电话〕。")] == [
        (brief.taxpayer, brief.text) for brief in listed.briefs
    ]
    counted = await office.CountWork(case_pb2.CountWorkRequest(bureau=COUNTY))
    counts = {common_pb2.WorkTab.Name(one.tab): one.count for one in counted.counts if one.count}
    # To be forwarded within one working day: by the end of tomorrow.
    assert {"WORK_TAB_TO_FORWARD": 1, "WORK_TAB_TO_HANDLE": 1, "WORK_TAB_ALL": 2} == counts
    elsewhere = await office.CountWork(case_pb2.CountWorkRequest(bureau=COUNTY, department="nobodys"))
    assert {0} == {one.count for one in elsewhere.counts}


async def test_cases_are_searched_for_by_words(callers: Callers) -> None:
    office = callers.office()
    case = await register(office, text="跨区迁移后发票无法勾选")
    await register(office)
    found = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY, search="迁移 勾选"))
    assert [case.case_id] == [one.case_id for one in found.cases]
    refused = await refusal_of(office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY, search="税")))
    assert "search" == refused.field


async def test_no_bureau_lists_or_counts_anothers_work(callers: Callers) -> None:
    office = callers.office()
    for call in (
        office.ListCases(case_pb2.ListCasesRequest(bureau=PROVINCE, search="发票")),
        office.CountWork(case_pb2.CountWorkRequest(bureau=PROVINCE)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT}


async def test_a_watch_from_beyond_every_journal_waits_like_any_other(callers: Callers) -> None:
    watch = callers.office().WatchCases(case_pb2.WatchCasesRequest(bureau=COUNTY, from_seq=2**64 - 1), timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watch.read()
    assert grpc.StatusCode.DEADLINE_EXCEEDED is ended.value.code()
