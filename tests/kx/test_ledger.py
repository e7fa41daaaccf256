"""A ledger as a table: exported with the notice's columns, imported elsewhere, the same registrations on both sides."""

import csv
import json
import re
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from python_calamine import CalamineWorkbook

from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.labels import term
from kuaixiang.domain.words import Channel, Role
from kuaixiang.wire.v1 import case_pb2
from kx import ledger
from kx.options import Asking, Who
from node.channels.ledger_table import COLUMNS, Period
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, refusal, told

pytestmark = pytest.mark.nats

NINE = datetime(2026, 9, 28, 9, 0)  # noqa: DTZ001 - as a spreadsheet has it, in Shanghai
HEADINGS = [column.heading for column in COLUMNS]
NUMBER = make_taxpayer_number("110101", 11)
CASES = [
    ("晨光小卖部", "13800138000", "电子税务局无法申报\n提示“系统繁忙”", "信息化建设", "12366热线", NUMBER),
    ("=1+1有限公司", "+86 13900139000", '=HYPERLINK("http://x.cn","请点")', "政策落实", "办税服务厅", ""),
    ('甲,乙"丙', "li.si@example.com", "-1元的税款怎么退？", "法律救济", term(Channel.OTHER), ""),
    ("@商行", "0571-87654321", "_x0041_ '引号' 与 emoji 😀", "其他", term(Channel.ASSOCIATION), ""),
]
REGISTRATION = ("taxpayer_name", "contact", "text", "taxpayer_number")


@pytest.fixture(scope="module")
def county(officers: Officers) -> list[str]:
    """Four cases of the county, the first of which ran its whole course; their numbers."""
    registrar = officers.at(COUNTY, "registrar", "hall", "reg-7")
    case_ids = []
    for name, contact, text, category, channel, number in CASES:
        options = ("--category", category, "--channel", channel, "--taxpayer-number", number, "--json")
        done = told(registrar("register", "--taxpayer", name, "--contact", contact, f"--text={text}", *options))
        case_ids.append(done["case"]["case_id"])
    first = case_ids[0]
    service = officers.at(COUNTY, "tax-service")
    handler = officers.at(COUNTY, "handler", "systems", "handler-1")
    steps: list[tuple[Any, tuple[str, ...]]] = [
        (registrar, ("forward", first, "--telling", "transferred", "--told", "已转交，请等候")),
        (service, ("dispatch", first, "--to", "systems")),
        (handler, ("ask-extension", first, "--workdays", "3", "--reason", "需要升级")),
        (officers.at(COUNTY, "deputy-head", "leadership"), ("approve-extension", first)),
        (handler, ("complete", first, "--result", "已修复，有问题请打13912345678")),
        (handler, ("feedback", first, "--told", "已可申报", "--by", "12366热线")),
        (service, ("follow-up", first, "--satisfaction", "满意", "--remark", "很快")),
        (service, ("write-off", first)),
    ]
    for terminal, arguments in steps:
        assert terminal(*arguments).exit_code == 0, arguments
    return case_ids


def exported(officers: Officers, out: Path, *options: str, bureau: str = COUNTY, role: str = "tax-service") -> Any:
    return told(officers.at(bureau, role)("export", "--out", str(out), *options, "--json"))


def lines(file: Path) -> list[dict[str, Any]]:
    """The lines of an exported workbook, by heading."""
    rows: list[list[Any]] = CalamineWorkbook.from_path(str(file)).get_sheet_by_name("台账").to_python()
    return [dict(zip(rows[2], row, strict=True)) for row in rows[3:]]


def registrations(officers: Officers, bureau: str, case_ids: list[str]) -> list[Any]:
    """What was registered: taxpayer, contact, text, words, time."""
    terminal = officers.at(bureau, "tax-service")
    found = []
    for case_id in case_ids:
        seen = told(terminal("show", case_id, "--private", "--json"))
        case, private = seen["case"], seen["private_view"]
        words = (case["category"], case["channel"], case["registered_at"])
        found.append((*(private[name] for name in REGISTRATION), *words))
    return found


def test_a_ledger_is_a_workbook_with_the_notices_columns(officers: Officers, county: list[str], tmp_path: Path) -> None:
    out = tmp_path / "ledger.xlsx"
    assert {"cases": 4, "contacts_masked": False, "file": str(out)} == exported(officers, out)
    assert 0o600 == out.stat().st_mode & 0o777
    assert [out] == list(tmp_path.iterdir())
    first, second, *_ = found = lines(out)
    assert HEADINGS == list(first)
    assert county == [line["受理编号"] for line in found]
    assert [1, 2, 3, 4] == [line["序号"] for line in found]
    assert [name for name, *_ in CASES] == [line["纳税人名称"] for line in found]
    assert [text for _, _, text, *_ in CASES] == [line["诉求和意见"] for line in found]
    assert {
        "统一社会信用代码": NUMBER,
        "有效联系方式": "13800138000",
        "类别": "信息化建设",
        "渠道": "12366热线",
        "受理时间": NINE,
        "受理单位": "110101 东城区",
        "受理部门": "hall",
        "受理人": "reg-7",
        "告知情况": "转交其他部门 2026-09-28 09:00 已转交，请等候",
        "转交时间": NINE,
        "承办部门": "systems",
        "办理时限": date(2026, 10, 14),
        "延期": "延长 3 个工作日",
        "办理结果": "已修复，有问题请打13912345678",
        "办结时间": NINE,
        "反馈时间": NINE,
        "反馈方式": "12366热线",
        "回访情况": "2026-09-28 09:00 很快",
        "满意度": "满意",
        "移交情况": "",
        "销号时间": NINE,
        "状态": "已销号",
        "备注": "",
    } == {heading: first[heading] for heading in HEADINGS[3:] if heading != "诉求和意见"}
    assert ("", "", "已登记") == (second["办结时间"], second["承办部门"], second["状态"])


def test_the_workbook_opens_ready_to_read_and_to_print(officers: Officers, county: list[str], tmp_path: Path) -> None:
    out = tmp_path / "ledger.xlsx"
    exported(officers, out)
    with zipfile.ZipFile(out) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
        styles = archive.read("xl/styles.xml").decode()
        names = archive.read("xl/workbook.xml").decode()
    assert 'topLeftCell="D4"' in sheet
    assert 'state="frozen"' in sheet
    assert re.search(
        r'<pageSetup paperSize="8" fitToWidth="2" fitToHeight="0" pageOrder="overThenDown" orientation="landscape"',
        sheet,
    )
    assert "<autoFilter" in sheet
    assert "<f>" not in sheet
    assert "Hyperlink" not in sheet
    assert 'quotePrefix="1"' in styles
    assert re.search(r"'?台账'?!\$A:\$C,'?台账'?!\$3:\$3", names)


def test_a_csv_holds_the_same_and_nothing_that_is_taken_for_a_formula(
    officers: Officers, county: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "ledger.csv"
    assert 4 == exported(officers, out)["cases"]
    with out.open(encoding="utf-8-sig", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert HEADINGS == list(found[0])
    assert "'=1+1有限公司" == found[1]["纳税人名称"]
    assert "2026-09-28 09:00:00" == found[0]["受理时间"]
    assert not [cell for line in found for cell in line.values() if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("role", ["deputy-head", "bureau-head", "supervisor", "auditor"])
def test_who_does_not_call_taxpayers_gets_contacts_masked(
    officers: Officers, county: list[str], tmp_path: Path, role: str
) -> None:
    out = tmp_path / "ledger.xlsx"
    assert exported(officers, out, role=role)["contacts_masked"] is True
    found = lines(out)
    assert ["138****8000", "+86 139****9000", "l***@example.com", "0571-****4321"] == [
        line["有效联系方式"] for line in found
    ]
    assert "已修复，有问题请打139****5678" == found[0]["办理结果"]
    above = CalamineWorkbook.from_path(str(out)).get_sheet_by_name("台账").to_python()[1][0]
    assert "联系方式已脱敏" in str(above)
    shown = officers.at(COUNTY, role)("export", "--out", str(out)).stdout
    assert "contacts are masked" in shown


def test_a_channel_exports_no_ledger_and_leaves_no_file(officers: Officers, tmp_path: Path) -> None:
    result = officers.at(COUNTY, "channel", "platform")("export", "--out", str(tmp_path / "ledger.xlsx"), "--json")
    assert "LedgerNotForRole" == refusal(result)["rule"]
    assert [] == list(tmp_path.iterdir())


def test_days_and_open_cases_can_be_asked_for(officers: Officers, county: list[str], tmp_path: Path) -> None:
    out = tmp_path / "ledger.csv"
    assert 3 == exported(officers, out, "--open")["cases"]
    assert 4 == exported(officers, out, "--from", "2026-09-28", "--to", "2026-09-28")["cases"]
    assert 0 == exported(officers, out, "--from", "2026-09-29")["cases"]
    assert 0 == exported(officers, out, "--to", "2026-09-27")["cases"]
    with out.open(encoding="utf-8-sig", newline="") as stream:
        assert [HEADINGS] == list(csv.reader(stream))


@pytest.mark.parametrize(("name", "rule"), [("ledger.pdf", "NoSuchFormat"), ("missing/ledger.xlsx", "Unwritable")])
def test_a_file_that_cannot_be_written_is_named(officers: Officers, tmp_path: Path, name: str, rule: str) -> None:
    failed = refusal(officers.at(COUNTY)("export", "--out", str(tmp_path / name), "--json"))
    assert ("--out", rule) == (failed["field"], failed["rule"])
    assert failed["message_chinese"]


def test_an_empty_ledger_is_a_table_with_headings(officers: Officers, tmp_path: Path) -> None:
    out = tmp_path / "ledger.xlsx"
    assert 0 == exported(officers, out, "--from", "2027-01-01", bureau=PROVINCE)["cases"]
    rows = CalamineWorkbook.from_path(str(out)).get_sheet_by_name("台账").to_python()
    assert HEADINGS == rows[2]
    failed = refusal(officers.at(PROVINCE)("import", str(out), "--json"))
    assert "Empty" == failed["rule"]


@pytest.mark.parametrize(("form", "bureau"), [("xlsx", PROVINCE), ("csv", HEADQUARTERS)])
def test_an_exported_ledger_imported_elsewhere_is_the_same_registrations(
    officers: Officers, county: list[str], tmp_path: Path, form: str, bureau: str
) -> None:
    out = tmp_path / f"ledger.{form}"
    exported(officers, out)
    found = told(officers.at(bureau, "tax-service")("import", str(out), "--json"))
    assert (3, 1, 0) == (found["registered"], found["skipped"], found["refused"])
    there = [row["case_id"] for row in found["rows"] if row["case_id"]]
    assert registrations(officers, COUNTY, county[1:]) == registrations(officers, bureau, there)
    again = told(officers.at(bureau, "registrar", "hall")("import", str(out), "--json"))
    assert (0, 3) == (again["registered"], again["repeated"])
    assert there == [row["case_id"] for row in again["rows"] if row["case_id"]]
    answered = told(officers.at(bureau, "tax-service")("import", str(out), "--finished", "answer", "--json"))
    assert (1, 3) == (answered["registered"], answered["repeated"])
    (case_id,) = [row["case_id"] for row in answered["rows"] if row["result"] == "registered"]
    shown = told(officers.at(bureau)("show", case_id, "--private", "--json"))
    assert "fed-back" == shown["case"]["stage"]
    assert ["registered", "answered_on_the_spot", "private_read"] == [item["event"] for item in shown["history"]]
    assert "原办结时间 2026-09-28 09:00:00" in shown["history"][0]["note"]
    assert "已修复，有问题请打13912345678" == shown["history"][1]["note"]
    line = next(one for one in lines_of(officers, bureau, tmp_path) if one["受理编号"] == case_id)
    assert ("当场答复", NINE, "已反馈") == (line["反馈方式"], line["办结时间"], line["状态"])
    assert line["备注"].startswith("由原台账转入：原编号 110101-2026-")


def lines_of(officers: Officers, bureau: str, folder: Path) -> list[dict[str, Any]]:
    out = folder / "all.xlsx"
    exported(officers, out, bureau=bureau)
    return lines(out)


def test_masked_contacts_cannot_be_imported(officers: Officers, county: list[str], tmp_path: Path) -> None:
    out = tmp_path / "masked.xlsx"
    exported(officers, out, role="auditor")
    found = json.loads(officers.at(PROVINCE)("import", str(out), "--prefix", "masked-", "--json").stdout)
    assert (0, 3) == (found["registered"], found["refused"])
    assert {"contact"} == {row["field"] for row in found["rows"] if row["result"] == "refused"}


OLD = ["编号", "纳税人名称", "联系方式", "诉求内容", "类别", "渠道", "受理时间"]
MAPPING = '[columns]\nchannel_reference = "编号"\n' + "".join(
    f'{field} = "{heading}"\n'
    for field, heading in zip(
        ("taxpayer_name", "contact", "text", "category", "channel", "accepted_at"), OLD[1:], strict=True
    )
)


def old_ledger(folder: Path, *rows: list[str]) -> tuple[str, ...]:
    (folder / "mapping.toml").write_text(MAPPING, encoding="utf-8")
    with (folder / "old.csv").open("w", encoding="gb18030", newline="") as stream:
        csv.writer(stream).writerows([["老台账"], OLD, *rows])
    return ("import", str(folder / "old.csv"), "--mapping", str(folder / "mapping.toml"))


def old_row(number: str, accepted: str, **changed: str) -> list[str]:
    cells = [number, "老商户", "13800138000", "老问题", "政策落实", "其他", accepted]
    return [changed.get(heading, cell) for heading, cell in zip(OLD, cells, strict=True)]


def test_an_old_row_is_registered_now_with_its_time_in_the_note_and_a_late_one_with_its_own(
    officers: Officers, tmp_path: Path
) -> None:
    service = officers.at(HEADQUARTERS, "tax-service")
    command = old_ledger(tmp_path, old_row("A-1", "2026/3/1 9:30:00"), old_row("A-2", "2026年9月28日 8时15分"))
    tried = told(service(*command, "--dry-run", "--json"))
    assert 2 == tried["ready"]
    found = told(service(*command, "--json"))
    old, late = (told(service("show", row["case_id"], "--private", "--json")) for row in found["rows"])
    assert "2026-09-28T09:00:00+08:00" == old["case"]["registered_at"]
    assert "2026-09-30T00:00:00+08:00" == old["case"]["clocks"][0]["due_at"]
    assert "由原台账转入：原编号 A-1，原受理时间 2026-03-01 09:30:00。时限自登记时起算。" == old["history"][0]["note"]
    assert "A-1" == old["private_view"]["channel_reference"]
    assert ("2026-09-28T08:15:00+08:00", "") == (late["case"]["registered_at"], late["history"][0]["note"])
    assert "registered now" in found["rows"][0]["message"]
    assert "2 repeated 此前已登记" in service(*command).stdout
    assert "时限自登记时起算" in service(*command, "--prefix", "again-").stdout


def test_a_corrected_table_registers_only_what_is_new(officers: Officers, tmp_path: Path) -> None:
    service = officers.at(HEADQUARTERS, "tax-service")
    faulty = old_row("B-2", "", 联系方式="12")
    command = old_ledger(tmp_path, old_row("B-1", ""), faulty, old_row("B-3", "2030/1/1"))
    first = json.loads(service(*command, "--json").stdout)
    assert ["registered", "refused", "refused"] == [row["result"] for row in first["rows"]]
    assert ["", "contact", "header.occurred_at"] == [row["field"] for row in first["rows"]]
    assert all(row["message_chinese"] for row in first["rows"] if row["result"] == "refused")
    report = tmp_path / "report.csv"
    corrected = old_ledger(tmp_path, old_row("B-1", "", 诉求内容="改写过"), old_row("B-2", ""), old_row("B-3", ""))
    again = told(service(*corrected, "--report", str(report), "--json"))
    assert ["repeated", "registered", "registered"] == [row["result"] for row in again["rows"]]
    assert first["rows"][0]["case_id"] == again["rows"][0]["case_id"]
    with report.open(encoding="utf-8-sig", newline="") as stream:
        assert ["此前已登记 repeated", "已登记 registered", "已登记 registered"] == [
            line["结果 result"] for line in csv.DictReader(stream)
        ]


def test_nobody_is_asked_in_a_dry_run(officers: Officers, tmp_path: Path) -> None:
    command = old_ledger(tmp_path, old_row("C-1", "2026/3/1"))
    found = told(officers.at(COUNTY)(*command, "--dry-run", "--node", "127.0.0.1:1", "--json"))
    assert (1, 0) == (found["ready"], found["registered"])


def test_an_export_waits_for_a_node_that_is_away_and_says_when_it_gives_up(officers: Officers, tmp_path: Path) -> None:
    terminal = officers.at(COUNTY)
    out = tmp_path / "ledger.xlsx"
    failed = refusal(terminal("export", "--out", str(out), "--node", "127.0.0.1:1", "--json", KX_PATIENCE="1"), 3)
    assert "--node" == failed["field"]
    assert [] == list(tmp_path.iterdir())


def test_an_export_that_breaks_off_is_begun_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempts: list[int] = []

    @asynccontextmanager
    async def nowhere(_: Asking) -> AsyncIterator[None]:
        yield

    async def stream(_: Any, timeout: float) -> AsyncIterator[case_pb2.ExportLedgerResponse]:
        attempts.append(len(attempts))
        yield case_pb2.ExportLedgerResponse()
        for number in range(3):
            if number == 2 and len(attempts) == 1:
                raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
            yield case_pb2.ExportLedgerResponse(rows=[case_pb2.LedgerRow(case_id=f"c-{number}")])

    monkeypatch.setattr(ledger, "channel_to", nowhere)
    monkeypatch.setattr(ledger, "method_of", lambda *_: stream)
    asking = Asking(node="", certificates=tmp_path, bureau=COUNTY, tree_file=None, patience_seconds=9.0, as_json=False)
    out = tmp_path / "ledger.xlsx"
    exported_ = ledger.export(asking, Who("o-1", Role.AUDITOR, "hall", None), Period(), out, open_only=False)
    assert (3, [0, 1]) == (exported_.cases, attempts)
    assert ["c-0", "c-1", "c-2"] == [line["受理编号"] for line in lines(out)]
    assert [out] == list(tmp_path.iterdir())
