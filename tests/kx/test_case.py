"""`kx case` against real nodes over mutual TLS: a whole case by hand, referrals, refusals, bulk, faults."""

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from kuaixiang.domain.identifiers import make_taxpayer_number
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, kx, refusal, told

pytestmark = pytest.mark.nats

REQUEST = (
    "--taxpayer",
    "晨光小卖部",
    "--contact",
    "13800138000",
    "--text",
    "电子税务局无法申报",
    "--category",
    "信息化建设",
    "--anyway",
)
WAIT_SECONDS = 60.0

Terminal = Callable[..., Result]


def registered(terminal: Terminal, *more: str) -> str:
    case_id: str = told(terminal("register", *REQUEST, *more, "--json"))["case"]["case_id"]
    return case_id


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = WAIT_SECONDS) -> Any:
    """What a terminal shows once it is as wanted."""
    deadline = time.monotonic() + seconds
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    return seen


def stage_is(stage: str) -> Callable[[Any], bool]:
    return lambda seen: seen["case"]["stage"] == stage


def shown(terminal: Terminal, case_id: str) -> Callable[[], Any]:
    return lambda: told(terminal("show", case_id, "--json"))


def test_a_county_officer_does_the_whole_job(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "受理人", "counter", "reg-1")
    service = officers.at(COUNTY, "tax-service")
    handler = officers.at(COUNTY, "handler", "systems", "handler-1")
    head = officers.at(COUNTY, "分管局领导", "leadership", "head-1")
    number = make_taxpayer_number("110101", 7)
    result = registrar("register", *REQUEST, "--channel", "12366热线", "--taxpayer-number", number)
    assert result.exit_code == 0, result.output
    assert "registered 已登记" in result.stdout
    assert "转交 by 2026-09-29 周二 24:00" in result.stdout
    case_id = result.stdout.split()[1]
    assert "分办 by 2026-09-29" in registrar("forward", case_id, "--telling", "transferred", "--told", "已转交").stdout
    # Five working days over the National Day holidays, with the make-up Saturday.
    assert "办理 by 2026-10-10 周六 24:00 in time 期内" in service("dispatch", case_id, "--to", "systems").stdout
    asked = told(handler("ask-extension", case_id, "--workdays", "3", "--reason", "需要升级", "--json"))
    assert asked["case"]["extension_pending"] is True
    approved = head("approve-extension", case_id)
    assert "extended 已延期" in approved.stdout
    assert handler("complete", case_id, "--result", "已修复").exit_code == 0
    assert handler("feedback", case_id, "--told", "已可申报", "--by", "12366热线").exit_code == 0
    assert service("follow-up", case_id, "--satisfaction", "满意").exit_code == 0
    done = told(service("write-off", case_id, "--json"))
    assert (done["case"]["stage"], done["repeated_request"], len(done["request_key"])) == ("written-off", False, 32)

    text = service("show", case_id).stdout
    assert "已销号" in text
    assert "extension-approved 批准延期" in text
    assert "晨光小卖部" not in text
    assert "需要升级" not in text
    private = service("show", case_id, "--private").stdout
    assert all(part in private for part in ("晨光小卖部", "13800138000", number, "电子税务局无法申报", "需要升级"))
    history = told(service("show", case_id, "--json"))["history"]
    assert [item["event"] for item in history] == [
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
    assert "private-read 查看隐私信息" in service("show", case_id).stdout


def test_a_leader_reads_a_case_masked_and_is_refused_it_in_clear(officers: Officers) -> None:
    case_id = registered(officers.at(COUNTY, "registrar", "counter"))
    head = officers.at(COUNTY, "分管局领导", "leadership", "head-1")
    masked = head("show", case_id, "--masked").stdout
    assert all(part in masked for part in ("晨＊＊＊部", "138****8000", "电子税务局无法申报"))
    assert not [part for part in ("晨光小卖部", "13800138000") if part in masked]
    refused = refusal(head("show", case_id, "--private", "--json"))
    assert ("PrivateNotForRole", "role", "PERMISSION_DENIED") == (refused["rule"], refused["field"], refused["code"])
    assert all((refused["remedy"], refused["message_chinese"], refused["remedy_chinese"]))
    seen = told(head("show", case_id, "--json"))
    assert (None, ["registered"]) == (seen["private_view"], [item["event"] for item in seen["history"]])


def test_who_reads_what_is_private_must_be_said(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    case_id = registered(registrar)
    nobody = {"KX_ACTOR": "", "KX_ROLE": "", "KX_DEPARTMENT": ""}
    assert case_id == told(registrar("show", case_id, "--json", **nobody))["case"]["case_id"]
    refused = refusal(registrar("show", case_id, "--private", "--json", **nobody))
    assert ("FieldMissing", "role") == (refused["rule"], refused["field"])


def test_a_case_answered_on_the_spot_is_complete_at_once(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    done = told(registrar("register", *REQUEST, "--answer", "请更新客户端", "--json"))
    assert done["case"]["stage"] == "fed-back"
    later = registered(registrar)
    assert told(registrar("answer", later, "--answer", "请更新", "--json"))["case"]["stage"] == "fed-back"


def test_the_other_acts_of_the_lifecycle(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    service = officers.at(COUNTY, "tax-service")
    handler = officers.at(COUNTY, "handler", "vat")
    helper = officers.at(COUNTY, "handler", "law", "helper")
    head = officers.at(COUNTY, "deputy-head", "leadership")

    def stage(result: Result) -> str:
        found: str = told(result)["case"]["stage"]
        return found

    case_id = registered(registrar)
    assert stage(registrar("accept", case_id, "--telling", "complicated", "--json")) == "handling"
    case_id = registered(registrar)
    assert stage(registrar("forward", case_id, "--telling", "transferred", "--json")) == "forwarded"
    assert stage(service("dispatch", case_id, "--to", "vat", "--json")) == "handling"
    assert stage(handler("return-dispatch", case_id, "--reason", "不属本科室", "--json")) == "forwarded"
    joint = ("start-joint", case_id, "--lead", "vat", "--assisting", "law", "--json")
    assert stage(service(*joint)) == "joint-handling"
    parts = told(helper("complete-part", case_id, "--result", "已会签", "--json"))["case"]["open_parts"]
    assert "law" not in parts
    case_id = registered(registrar)
    registrar("forward", case_id, "--telling", "transferred")
    service("dispatch", case_id, "--to", "vat")
    handler("ask-extension", case_id, "--workdays", "2", "--reason", "复杂")
    refused = told(head("refuse-extension", case_id, "--reason", "抓紧", "--json"))["case"]
    assert refused["extension_pending"] is False
    deferral = ("--owner", "vat-1", "--review-at", "2026-12-01", "--condition", "政策出台后")
    assert stage(handler("defer", case_id, *deferral, "--json")) == "deferred"
    assert stage(handler("resume", case_id, "--json")) == "handling"
    assert stage(handler("reconsideration", case_id, "--reference", "复议2026-1", "--json")) == "reconsideration"
    case_id = registered(registrar)
    assert stage(registrar("withdraw", case_id, "--json")) == "withdrawn"
    case_id = registered(registrar, "--answer", "好")
    assert stage(service("reopen", case_id, "--reason", "未解决", "--json")) == "handling"


def test_a_county_case_goes_up_to_headquarters_and_is_written_off_in_three_ledgers(officers: Officers) -> None:
    county = officers.at(COUNTY, "tax-service")
    province = officers.at(PROVINCE, "tax-service")
    national = officers.at(HEADQUARTERS, "tax-service")
    handler = officers.at(HEADQUARTERS, "handler", "systems")
    case_id = registered(officers.at(COUNTY, "registrar", "counter"))
    offered = county("escalate", case_id, "--reason", "需总局修改系统", "--telling", "complicated")
    assert offered.exit_code == 0, offered.output
    assert "offered 移交中" in offered.stdout
    until(shown(county, case_id), stage_is("referred"))
    officers.run(officers.federation.kill_node(PROVINCE))
    away = refusal(province("show", case_id, "--json", KX_PATIENCE="1"), exit_code=3)
    assert away["field"] == "--node"
    officers.run(officers.federation.restart_node(PROVINCE))
    assert province("escalate", case_id, "--reason", "系统由总局维护").exit_code == 0
    until(shown(province, case_id), stage_is("referred"))
    # The county's node finds the province's again within its own pause.
    tracked = until(lambda: told(county("track", case_id, "--json")), lambda seen: len(seen["segments"]) > 1)
    assert [segment["bureau"] for segment in tracked["segments"]] == [COUNTY, PROVINCE, HEADQUARTERS]
    assert "Responsible now: 000000" in county("track", case_id).stdout
    assert national("dispatch", case_id, "--to", "systems").exit_code == 0
    assert handler("complete", case_id, "--result", "已发版").exit_code == 0
    assert handler("feedback", case_id, "--told", "请升级").exit_code == 0
    for terminal in (province, county):
        until(shown(terminal, case_id), stage_is("concluded"))
    for terminal in (national, province, county):
        until(shown(terminal, case_id), lambda seen: not seen["case"]["awaiting_acknowledgement"])
        assert told(terminal("write-off", case_id, "--json"))["case"]["stage"] == "written-off"


def test_a_case_is_referred_down_and_returned(officers: Officers) -> None:
    province = officers.at(PROVINCE, "tax-service")
    county = officers.at(COUNTY, "tax-service")
    case_id = registered(officers.at(PROVINCE, "registrar", "counter"), "--place", COUNTY)
    referred = province("refer", case_id, "--to", COUNTY, "--reason", "属地管理", "--telling", "transferred")
    assert referred.exit_code == 0, referred.output
    until(lambda: county("show", case_id, "--json"), lambda result: result.exit_code == 0)
    assert county("return", case_id, "--reason", "非本地纳税人").exit_code == 0
    back = until(shown(province, case_id), stage_is("forwarded"))
    assert (back["case"]["custody"], back["history"][-1]["other_bureau"]) == ("owned", COUNTY)


def test_registering_proposes_the_bureau_that_the_taxpayer_belongs_to(officers: Officers) -> None:
    result = officers.at(PROVINCE, "registrar", "counter")("register", *REQUEST, "--place", COUNTY)
    assert f"--to {COUNTY}" in result.stdout


def test_headquarters_cannot_escalate_and_a_subordinate_is_no_superior(officers: Officers) -> None:
    top = officers.at(HEADQUARTERS)("escalate", "x", "--reason", "r", "--json")
    assert refusal(top)["rule"] == "NoSuperior"
    down = officers.at(PROVINCE)("escalate", "x", "--reason", "r", "--to", COUNTY, "--json")
    assert refusal(down)["rule"] == "NotASuperior"


def test_a_refusal_is_one_sentence_in_each_language_with_field_rule_and_remedy(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    case_id = registered(registrar)
    result = registrar("dispatch", case_id, "--to", "vat")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines == [
        "dispatch is not for the role registrar.",
        "“受理人”岗位无权分办。",
        "  field  header.role 岗位",
        "  rule   RoleNotAllowed",
        "  do     It takes the role tax-service.",
        "         须由以下岗位办理：纳税服务部门。",
    ]
    assert refusal(registrar("dispatch", case_id, "--to", "vat", "--json")) == {
        "message": "dispatch is not for the role registrar.",
        "message_chinese": "“受理人”岗位无权分办。",
        "field": "header.role",
        "rule": "RoleNotAllowed",
        "remedy": "It takes the role tax-service.",
        "remedy_chinese": "须由以下岗位办理：纳税服务部门。",
        "code": "PERMISSION_DENIED",
    }
    for options, field, rule in (
        (("--contact", "12"), "contact", "FieldMalformed"),
        (("--taxpayer-number", "1" * 18), "taxpayer_number", "FieldMalformed"),
        (("--at", "2026-09-29 09:00"), "header.occurred_at", "TimeInFuture"),
        (("--at", "2026-09-01"), "header.occurred_at", "RecordedTooLate"),
        (("--actor", "张三"), "header.actor", "FieldMalformed"),
    ):
        wrong = refusal(registrar("register", *REQUEST, *options, "--json"))
        assert (wrong["field"], wrong["rule"]) == (field, rule)
    assert refusal(registrar("show", "110101-2026-9999999", "--json"))["rule"] == "UnknownCase"


def test_a_certificate_of_another_bureau_is_refused(officers: Officers) -> None:
    elsewhere = officers.federation.node(PROVINCE).terminal.ca.parent
    result = officers.at(COUNTY)("list", "--certificates", str(elsewhere), "--json")
    assert refusal(result)["rule"] == "NotAuthorised"


def test_a_node_of_another_bureau_is_not_talked_to(officers: Officers) -> None:
    node = officers.federation.node(PROVINCE).endpoint
    begun = time.monotonic()
    result = officers.at(COUNTY)("list", "--node", node, "--json")
    assert refusal(result, exit_code=3)["rule"] == "WrongCertificate"
    # It is not tried again: that would change nothing.
    assert time.monotonic() - begun < 10


def test_the_same_key_again_changes_nothing(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    first = told(registrar("register", *REQUEST, "--key", "again-1", "--json"))
    second = told(registrar("register", *REQUEST, "--key", "again-1", "--json"))
    assert second["case"]["case_id"] == first["case"]["case_id"]
    assert (first["repeated_request"], second["repeated_request"]) == (False, True)
    assert "done before" in registrar("register", *REQUEST, "--key", "again-1").stdout
    other = registrar("register", *REQUEST, "--key", "again-1", "--place", COUNTY, "--json")
    assert refusal(other)["rule"] == "KeyReused"


def test_a_case_changed_since_is_not_overwritten(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    case_id = registered(registrar)
    late = registrar("forward", case_id, "--telling", "transferred", "--expected-version", "9", "--json")
    assert refusal(late)["rule"] == "VersionConflict"


def test_what_happened_earlier_is_recorded_with_its_time(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    case_id = registered(registrar, "--at", "2026-09-28 08:15")
    assert told(registrar("show", case_id, "--json"))["history"][0]["occurred_at"] == "2026-09-28T08:15:00+08:00"
    assert "recorded 2026-09-28 09:00" in registrar("show", case_id).stdout


def test_a_long_text_comes_by_standard_input(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    text = "第一行\n第二行"
    arguments = [*REQUEST]
    arguments[arguments.index("--text") + 1] = "-"
    result = registrar("register", *arguments, "--json", stdin=text)
    seen = told(registrar("show", told(result)["case"]["case_id"], "--private", "--json"))
    assert seen["private_view"]["text"] == text


def test_an_act_waits_for_a_node_that_comes_back(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    officers.run(officers.federation.kill_node(COUNTY))
    again = threading.Timer(1.0, officers.federation.node(COUNTY).process.start)
    again.start()
    try:
        # As long as a node may take to start on a busy machine.
        result = registrar("register", *REQUEST, "--key", "patient-1", "--json", KX_PATIENCE="120")
    finally:
        again.join()
        officers.federation.node(COUNTY).down = False
    assert result.exit_code == 0, result.output
    assert "does not answer" in result.stderr
    assert "under the same key" in result.stderr
    repeated = told(registrar("register", *REQUEST, "--key", "patient-1", "--json"))
    assert (repeated["repeated_request"], repeated["seq"]) == (True, json.loads(result.stdout)["seq"])


def test_a_node_that_stays_away_ends_the_command_in_time(officers: Officers) -> None:
    begun = time.monotonic()
    result = officers.at(COUNTY)("list", "--node", "127.0.0.1:1", "--json", KX_PATIENCE="2")
    error = refusal(result, exit_code=3)
    assert (error["field"], error["code"]) == ("--node", "UNAVAILABLE")
    assert time.monotonic() - begun < 20


def test_the_ledger_is_listed_by_filters_in_pages(officers: Officers) -> None:
    registrar = officers.at(PROVINCE, "registrar", "counter")
    service = officers.at(PROVINCE, "tax-service")
    mine = {registered(registrar, "--channel", "association") for _ in range(5)}
    by = ("--channel", "association", "--json")
    pages = [told(service("list", *by, "--page-size", "2"))]
    while token := pages[-1]["next_page_token"]:
        pages.append(told(service("list", *by, "--page-size", "2", "--page", token)))
    assert [len(page["cases"]) for page in pages] == [2, 2, 1]
    assert {case["case_id"] for page in pages for case in page["cases"]} == mine
    everything = told(service("list", *by, "--page-size", "2", "--all"))
    assert {case["case_id"] for case in everything["cases"]} == mine
    assert told(service("list", *by, "--stage", "办理中"))["cases"] == []
    assert told(service("list", *by, "--registered-before", "2026-09-28 09:00"))["cases"] == []
    assert len(told(service("list", *by, "--stage", "已登记", "--registered-from", "2026-09-28"))["cases"]) == 5
    table = service("list", "--channel", "association", "--page-size", "2").stdout
    assert "转交 2026-09-29 周二 24:00" in table
    assert "--page" in table
    assert refusal(service("list", *by, "--page", "nonsense"))["field"] == "page_token"


def test_the_work_list_is_shown_by_tabs_searched_and_counted(officers: Officers) -> None:
    registrar = officers.at(HEADQUARTERS, "registrar", "counter")
    service = officers.at(HEADQUARTERS, "tax-service")
    case_id = registered(registrar, "--text", "绿色通道排队系统叫号异常，电话13800000000")
    found = told(service("list", "--tab", "to-forward", "--search", "叫号异常", "--brief", "--json"))
    assert [case_id] == [case["case_id"] for case in found["cases"]]
    assert ["绿色通道排队系统叫号异常，电话〔电话〕"] == [brief["text"] for brief in found["briefs"]]
    assert [] == told(service("list", "--tab", "待反馈", "--search", "叫号异常", "--json"))["cases"]
    assert "叫号异常" in service("list", "--search", "叫号", "--brief").stdout
    assert refusal(service("list", "--search", "号", "--json"))["field"] == "search"
    counts = {count["tab"]: count for count in told(service("count", "--json"))["counts"]}
    assert (True, False) == (counts["to-forward"]["count"] >= 1, counts["to-forward"]["more"])
    assert "待转交" in service("count").stdout


def test_changes_are_watched_from_a_position_on(officers: Officers) -> None:
    registrar = officers.at(HEADQUARTERS, "registrar", "counter")
    case_id = registered(registrar)
    seq = told(registrar("forward", case_id, "--telling", "transferred", "--json"))["seq"]
    lines = registrar("watch", "--from-seq", str(seq - 2), "--count", "3", "--json").stdout.splitlines()
    seen = [json.loads(line) for line in lines]
    assert [change["event"] for change in seen] == ["registered", "taxpayer_told", "forwarded"]
    assert "转交纳税服务部门" in registrar("watch", "--from-seq", str(seq), "--count", "1").stdout


def test_a_change_to_come_is_seen_as_it_is_committed(officers: Officers) -> None:
    registrar = officers.at(HEADQUARTERS, "registrar", "counter")
    environment = officers.environment(HEADQUARTERS, "registrar", "counter", "reg-2")
    command = [sys.executable, "-c", "from kx.main import app; app()", "case", "watch", "--count", "1", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watcher:
        try:
            # Whenever it has begun to watch: one of these is the first change after that.
            until(lambda: [registered(registrar), watcher.poll()][1], lambda ended: ended == 0)
        finally:
            watcher.kill()
        assert watcher.stdout is not None
        assert [json.loads(line)["event"] for line in watcher.stdout] == ["registered"]


def test_ctrl_c_ends_watching_well(officers: Officers) -> None:
    registered(officers.at(HEADQUARTERS, "registrar", "counter"))
    environment = officers.environment(HEADQUARTERS, "registrar", "counter", "reg-3")
    # As in a terminal: a shell that runs the tests in the background has its children ignore Ctrl-C.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from kx.main import app; app()"
    command = [sys.executable, "-u", "-c", heeding, "case", "watch", "--from-seq", "1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watcher:
        try:
            assert watcher.stdout is not None
            assert watcher.stderr is not None
            assert watcher.stdout.readline()
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(WAIT_SECONDS) == 0
            assert watcher.stderr.read() == b""
        finally:
            watcher.kill()


HEADINGS = ["纳税人名称", "联系方式", "诉求内容", "类别", "渠道", "渠道编号"]


def write_rows(file: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows([HEADINGS, *rows])
    return file


def row(number: int, **wrong: str) -> list[str]:
    good = {
        "name": f"商户{number}",
        "contact": "13800138000",
        "text": "第一行,\n第二行",
        "category": "政策落实",
        "channel": "hotline",
        "reference": "",
    }
    return list((good | wrong).values())


def test_a_file_is_registered_row_by_row_and_refused_rows_are_named(officers: Officers, tmp_path: Path) -> None:
    service = officers.at(COUNTY, "tax-service")
    rows = [row(1, name="逐行商行"), row(2, contact="12"), row(3, category="税收"), row(4, name=""), row(5, text="")]
    file = write_rows(tmp_path / "cases.csv", rows)
    report = tmp_path / "report.csv"
    result = service("import", str(file), "--report", str(report), "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert (found["registered"], found["refused"], found["unanswered"]) == (1, 4, 0)
    refused = [one for one in found["rows"] if one["result"] == "refused"]
    assert all(one[part] for one in refused for part in ("message_chinese", "remedy", "remedy_chinese"))
    assert [(one["row"], one["field"]) for one in refused] == [
        (3, "contact"),
        (4, "category"),
        (5, "taxpayer_name"),
        (6, "text"),
    ]
    assert found["rows"][1]["message_chinese"] == "联系方式不是有效的联系方式。"
    assert found["rows"][2]["message_chinese"] == "“税收”不在规定的选项中。"
    assert found["rows"][3]["remedy_chinese"] == "请填写纳税人名称。"
    with report.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["结果 result"] for line in lines] == ["已登记 registered", *["拒绝 refused"] * 4]
    assert "诉求内容不能为空：通知四（一）1要求登记诉求和意见。" in lines[4]["说明 message"]
    table = service("import", str(file)).stdout
    assert "row 2" in table
    assert "registered before" in table
    assert "NoSuchWord" in table


def test_the_same_file_again_registers_nothing_twice(officers: Officers, tmp_path: Path) -> None:
    service = officers.at(COUNTY, "tax-service")
    file = write_rows(tmp_path / "many.csv", [row(number, name=f"再登{number}") for number in range(300)])
    first = told(service("import", str(file), "--json"))
    second = told(service("import", str(file), "--json"))
    assert (first["registered"], second["registered"], second["repeated"]) == (300, 0, 300)
    assert [one["case_id"] for one in first["rows"]] == [one["case_id"] for one in second["rows"]]
    assert len({one["case_id"] for one in first["rows"]}) == 300


def test_a_file_sent_again_corrected_and_in_another_encoding_registers_what_is_new(
    officers: Officers, tmp_path: Path
) -> None:
    service = officers.at(COUNTY, "tax-service")
    twins = [row(1, name="同名商行"), row(1, name="同名商行")]
    first = service("import", str(write_rows(tmp_path / "a.csv", [*twins, row(2, contact="12")])), "--json")
    corrected = write_rows(tmp_path / "b.csv", [row(2, name="改正商行"), *twins], encoding="gb18030")
    again = told(service("import", str(corrected), "--json"))
    assert json.loads(first.stdout)["registered"] == 2
    assert (again["registered"], again["repeated"]) == (1, 2)
    assert [one["case_id"] for one in again["rows"][1:]] == [
        one["case_id"] for one in json.loads(first.stdout)["rows"][:2]
    ]


@pytest.mark.slow
def test_a_file_cut_off_in_the_middle_goes_on_by_itself(officers: Officers, tmp_path: Path) -> None:
    service = officers.at(COUNTY, "tax-service")
    file = write_rows(tmp_path / "cut.csv", [row(number, name=f"中断{number}") for number in range(3000)])
    node = officers.federation.node(COUNTY)

    def cut() -> None:
        node.process.kill()
        node.process.start()

    thread = threading.Timer(0.6, cut)
    thread.start()
    result = service("import", str(file), "--json")
    thread.join()
    found = told(result)
    assert found["registered"] + found["repeated"] == 3000
    assert len({one["case_id"] for one in found["rows"]}) == 3000
    assert told(service("import", str(file), "--json"))["repeated"] == 3000


@pytest.mark.parametrize(
    ("content", "field", "rule"),
    [
        (b"", "FILE", "Empty"),
        ("纳税人名称,电话\nx,y\n".encode(), "电话", "Columns"),
        ("纳税人名称,联系方式\n".encode(), "text", "Columns"),
        (f"{','.join(HEADINGS)}\n商户".encode()[:-1], "FILE", "Encoding"),
        (",".join(HEADINGS).encode(), "FILE", "Empty"),
        (f'{",".join(HEADINGS)}\n"open'.encode(), "FILE", "Csv"),
    ],
)
def test_a_file_that_is_no_table_of_cases_is_refused_whole(
    officers: Officers, tmp_path: Path, content: bytes, field: str, rule: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    error = refusal(officers.at(COUNTY)("import", str(file), "--json"))
    assert (error["field"], error["rule"]) == (field, rule)


def test_a_file_in_gb18030_is_read_when_told_so(officers: Officers, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "gb.csv", [row(1, name="晨光")], encoding="gb18030")
    service = officers.at(COUNTY, "tax-service")
    found = told(service("import", str(file), "--encoding", "gb18030", "--json"))
    seen = told(service("show", found["rows"][0]["case_id"], "--private", "--json"))
    assert seen["private_view"]["taxpayer_name"] == "晨光"


def test_a_terminal_without_certificates_is_told_which_file_is_missing(tmp_path: Path) -> None:
    options = ("--node", "127.0.0.1:1", "--certificates", str(tmp_path), "--bureau", COUNTY)
    error = refusal(kx("case", "list", *options, "--json"))
    assert error["field"] == "--certificates"
    assert str(tmp_path) in error["message"]


def test_a_bureau_that_is_no_code_is_named(tmp_path: Path) -> None:
    options = ("--node", "127.0.0.1:1", "--certificates", str(tmp_path), "--bureau", "北京")
    result = kx("case", "list", *options)
    assert result.exit_code == 2
    assert "--bureau" in result.stderr


LIKE = ("--taxpayer", "芃沅百货商行", "--contact", "15400007777", "--category", "service")
ASKED = "办税厅三号窗口排队两个小时才轮到，能不能多开一个窗口，或者让我们预约？"


def test_likely_duplicates_are_shown_before_registering_and_nothing_is_registered(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    first = told(registrar("register", *LIKE, "--text", ASKED, "--json"))["case"]["case_id"]
    again = registrar("register", *LIKE, "--text", f"您好！{ASKED}谢谢")
    assert 2 == again.exit_code
    assert first in again.stdout
    assert "芃＊＊＊＊行" in again.stdout
    assert f"--link {first}" in again.stderr
    error = refusal(registrar("register", *LIKE, "--text", ASKED, "--json"))
    assert ("LikelyDuplicates", [first]) == (error["rule"], [one["case_id"] for one in error["candidates"]])
    (found,) = told(registrar("duplicates", "--text", ASKED, "--json"))["candidates"]
    assert (first, ["similar-text"]) == (found["case_id"], found["reasons"])
    assert "未发现" in registrar("duplicates", "--text", "出口退税备案单证应当保存几年？").stdout


def test_a_duplicate_is_registered_linked_to_what_it_repeats_or_anyway(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    text = ("--text", "定额发票用完了，网上申领一直提示票种核定为零，应当怎么办？")
    first = told(registrar("register", *LIKE, *text, "--anyway", "--json"))["case"]["case_id"]
    linked = told(registrar("register", *LIKE, *text, "--link", first, "--json"))["case"]
    assert first == linked["lead_case_id"]
    assert "" == told(registrar("register", *LIKE, *text, "--anyway", "--json"))["case"]["lead_case_id"]


def test_the_same_request_sent_again_is_no_duplicate_of_itself(officers: Officers) -> None:
    registrar = officers.at(COUNTY, "registrar", "counter")
    text = ("--text", "网点搬迁后银行三方协议要重新签吗，重新签时需要带哪些材料过来？")
    for option in (("--reference", "12366-4711"), ("--key", "asked-again")):
        first = told(registrar("register", *LIKE, *text, *option, "--anyway", "--json"))["case"]["case_id"]
        assert first == told(registrar("register", *LIKE, *text, *option, "--json"))["case"]["case_id"]


def test_the_receipts_of_a_case_are_held_to_the_signatures_of_both(officers: Officers) -> None:
    case_id = registered(officers.at(COUNTY, "registrar", "hall"))
    hall = officers.at(COUNTY)
    told(
        hall(
            "refer",
            case_id,
            "--to",
            PROVINCE,
            "--reason",
            "超出权限",
            "--telling",
            "transferred",
            "--told",
            "已转",
            "--json",
        )
    )
    (receipt,) = until(lambda: told(hall("receipts", case_id, "--json"))["receipts"], bool)
    assert (receipt["from_bureau"], receipt["to_bureau"], receipt["unproven"]) == (COUNTY, PROVINCE, "")
    assert "yes 是" in officers.at(PROVINCE)("receipts", case_id).stdout
