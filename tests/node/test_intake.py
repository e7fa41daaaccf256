"""Files that channels hand in: each row is answered by itself, and sent again has the same answer."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import xlsxwriter

from kuaixiang.domain.authority import NotForToken
from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.sign_in import TokenNotForThis
from kuaixiang.domain.words import Channel
from kuaixiang.runtime.server import TooMuchWaits
from kuaixiang.runtime.writer import WriterBusy
from kuaixiang.text.tables import TableUnusable
from kuaixiang.web.guard import BodyTooLarge
from kuaixiang.wire.registrations import CSV, HAND_IN, NDJSON, XLSX
from kuaixiang.wire.v1 import common_pb2
from node import service
from node.channels import intake
from node.channels.door import TokenNeeded
from node.channels.intake import FileUnusable, NotTaken, TooManyHandIns
from node.channels.messages import FieldsUnknown
from node.settings import NodeSettings
from tests.node.gateways import REQUEST, STATUS, Gateway, with_gateway

HEADINGS = ("渠道编号", "纳税人名称", "联系方式", "诉求内容", "类别")


@pytest.fixture
def settings(settings: NodeSettings, tmp_path: Path) -> NodeSettings:
    return with_gateway(settings, tmp_path)


def cells(number: str, **other: str) -> list[str]:
    given = REQUEST | {"category": "政策落实"} | other
    return [number, given["taxpayer_name"], given["contact"], given["text"], given["category"]]


def csv(*rows: list[str]) -> bytes:
    return "\n".join(",".join(row) for row in (list(HEADINGS), *rows)).encode("gb18030")


def workbook(*rows: list[str]) -> bytes:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    sheet = book.add_worksheet("受理")
    for at, row in enumerate((list(HEADINGS), *rows)):
        sheet.write_row(at, 0, row)
    book.close()
    return content.getvalue()


def lines(*rows: Any) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


async def hand_in(program: httpx.AsyncClient, content: bytes, kind: str, **asked: Any) -> list[dict[str, Any]]:
    """The answers, the last of which is about the whole."""
    answer = await program.post("/v1/intakes", content=content, headers={"Content-Type": kind}, params=asked)
    assert (200, NDJSON) == (answer.status_code, answer.headers["content-type"]), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def end(registered: int = 0, repeated: int = 0, refused: int = 0) -> dict[str, Any]:
    rows = registered + repeated + refused
    return {"end": True, "rows": rows, "registered": registered, "repeated": repeated, "refused": refused}


@pytest.mark.parametrize(("kind", "written"), [(CSV, csv), (XLSX, workbook)])
async def test_a_table_is_answered_row_by_row_and_again_with_the_same_answers(
    gateway: Gateway, kind: str, written: Any
) -> None:
    table = written(cells("A1"), cells("A2", contact="12"), cells(""), cells(""), cells("A3", category="天气"))
    async with await gateway.client() as program:
        *first, whole = await hand_in(program, table, kind)
        assert end(registered=3, refused=2) == whole
        assert [2, 3, 4, 5, 6] == [answer["row"] for answer in first]
        assert ["registered", "refused", "registered", "registered", "refused"] == [one["result"] for one in first]
        assert (FieldMalformed.__name__, "contact") == (first[1]["rule"], first[1]["field"])
        assert ("NoSuchWord", "category") == (first[4]["rule"], first[4]["field"])
        assert all(first[1][part] for part in ("detail", "detail_chinese", "remedy", "remedy_chinese"))
        cases = {answer["case_id"] for answer in first if answer["result"] == "registered"}
        assert 3 == len(cases)
        *again, whole = await hand_in(program, table, kind)
        assert (first, end(repeated=3, refused=2)) == (again, whole)
        assert cases == {one["case_id"] for one in (await program.get("/v1/cases")).json()["cases"]}
        assert "website" == (await program.get(f"/v1/cases/{first[0]['case_id']}")).json()["channel"]


async def test_a_table_and_lines_that_say_the_same_are_the_same_cases(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        *table, _ = await hand_in(program, csv(cells(""), cells("")), CSV)
        *rest, _ = await hand_in(program, lines(REQUEST, REQUEST), NDJSON)
        assert [one["case_id"] for one in table] == [one["case_id"] for one in rest]
        case_ = await program.post("/v1/cases", json=REQUEST | {"channel_reference": table[0]["reference"]})
        assert (200, table[0]["case_id"]) == (case_.status_code, case_.json()["case_id"])


async def test_lines_are_refused_one_by_one(gateway: Gateway) -> None:
    rows = (
        REQUEST | {"channel_reference": "B1"},
        REQUEST | {"channel_reference": "B1", "text": "另一件诉求，内容不同。"},
        REQUEST | {"channel": "hotline"},
        REQUEST | {"text": ""},
        REQUEST | {"subject": "x"},
        REQUEST | {"text": 7},
        ["a", "list"],
    )
    async with await gateway.client() as program:
        *answers, whole = await hand_in(program, lines(*rows) + b"\n{half", NDJSON)
        assert end(registered=1, refused=7) == whole
        assert [
            "NumberTwice",
            TokenNotForThis.__name__,
            FieldMissing.__name__,
            FieldsUnknown.__name__,
            FieldMalformed.__name__,
            "NotJson",
            "NotJson",
        ] == [answer["rule"] for answer in answers[1:]]


async def test_a_row_that_joins_another_channels_case_is_refused_by_itself(gateway: Gateway) -> None:
    async with (
        await gateway.client() as program,
        await gateway.client(channel=common_pb2.CHANNEL_HOTLINE) as hotline,
    ):
        strange = (await hotline.post("/v1/cases", json=REQUEST | {"channel_reference": "H1"})).json()["case_id"]
        rows = (
            REQUEST | {"channel_reference": "D1"},
            REQUEST | {"channel_reference": "D2", "lead_case_id": strange},
            REQUEST | {"channel_reference": "D3"},
        )
        *answers, whole = await hand_in(program, lines(*rows), NDJSON)
        assert end(registered=2, refused=1) == whole
        assert ["registered", "refused", "registered"] == [answer["result"] for answer in answers]
        assert (TokenNotForThis.__name__, "lead_case_id") == (answers[1]["rule"], answers[1]["field"])


async def test_a_number_that_was_registered_with_other_words_is_answered_so(gateway: Gateway) -> None:
    async with await gateway.client() as program:
        *first, _ = await hand_in(program, csv(cells("E1"), cells("E2")), CSV)
        *again, whole = await hand_in(program, csv(cells("E1", text="另一件诉求，内容不同。"), cells("E2")), CSV)
        assert [first[0] | {"other_words": True}, first[1]] == again
        assert end(repeated=2) == whole


def test_a_file_has_as_many_lines_as_it_may_have_whether_or_not_the_last_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "HAND_IN", replace(HAND_IN, rows=2))
    for content in (lines(REQUEST, REQUEST), lines(REQUEST, REQUEST) + b"\n"):
        assert [1, 2] == [row.number for row in intake.read_rows(content, NDJSON, Channel.WEBSITE)]
    with pytest.raises(TableUnusable, match="more than 2 rows"):
        intake.read_rows(lines(REQUEST, REQUEST, REQUEST), NDJSON, Channel.WEBSITE)


async def test_a_hand_in_goes_on_at_a_row(gateway: Gateway) -> None:
    table = csv(*(cells("") for _ in range(5)))
    async with await gateway.client() as program:
        *first, _ = await hand_in(program, table, CSV)
        # What stands before is counted: rows that say the same are told apart by how many did.
        *rest, whole = await hand_in(program, table, CSV, from_row=4)
        assert (first[2:], end(repeated=3)) == (rest, whole)


async def test_what_is_no_file_of_registrations_is_refused_whole(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await gateway.client() as program, gateway.client_with() as nobody:
        follows = await gateway.client(STATUS)
        for client, content, kind, asked, expected in (
            (nobody, csv(cells("A1")), CSV, {}, (401, TokenNeeded.__name__)),
            (follows, csv(cells("A1")), CSV, {}, (403, NotForToken.__name__)),
            (program, csv(cells("A1")), "text/plain", {}, (422, NotTaken.__name__)),
            (program, csv(), CSV, {}, (422, FileUnusable.__name__)),
            (program, b"", NDJSON, {}, (422, FileUnusable.__name__)),
            (program, "天气,温度\n晴,3".encode(), CSV, {}, (422, FileUnusable.__name__)),
            (
                program,
                csv(cells("A1")).replace("类别".encode("gb18030"), "状态".encode("gb18030")),
                CSV,
                {},
                (422, FileUnusable.__name__),
            ),
            (program, workbook(cells("A1"))[:-30], XLSX, {}, (422, FileUnusable.__name__)),
            (program, b"\n" * 60_000, NDJSON, {}, (422, FileUnusable.__name__)),
            (program, csv(cells("A1")), CSV, {"from_row": "0"}, (422, FieldMalformed.__name__)),
            (program, b"x" * (22 << 20), CSV, {}, (422, BodyTooLarge.__name__)),
        ):
            answer = await client.post("/v1/intakes", content=content, headers={"Content-Type": kind}, params=asked)
            assert expected == (answer.status_code, answer.json()["rule"]), answer.text
        await follows.aclose()
        monkeypatch.setattr(intake, "HAND_INS_MAX", 0)
        answer = await program.post("/v1/intakes", content=csv(cells("A1")), headers={"Content-Type": CSV})
        assert (429, TooManyHandIns.__name__) == (answer.status_code, answer.json()["rule"])
        assert [] == (await program.get("/v1/cases")).json()["cases"]


async def test_a_ledger_that_takes_nothing_ends_the_hand_in_at_a_row_from_which_it_goes_on(
    gateway: Gateway, node: service.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, taken = node.office.begin, 0

    async def busy(header: Any, act: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > 3:
            raise WriterBusy(1)
        return await begin(header, act)

    monkeypatch.setattr(intake, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(intake, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(intake, "WAIT_SECONDS_MAX", 0.1)
    monkeypatch.setattr(node.office, "begin", busy)
    table = csv(*(cells(f"C{number}") for number in range(5)))
    async with await gateway.client() as program:
        *first, broken = await hand_in(program, table, CSV)
        assert ([2, 3], False, 4) == ([one["row"] for one in first], broken["end"], broken["next_row"])
        assert (503, TooMuchWaits.__name__) == (broken["problem"]["status"], broken["problem"]["rule"])
        monkeypatch.setattr(node.office, "begin", begin)
        *rest, whole = await hand_in(program, table, CSV, from_row=broken["next_row"])
        # The fourth row was registered in the batch that was broken off.
        assert ([4, 5, 6], end(registered=2, repeated=1)) == ([one["row"] for one in rest], whole)
