"""HTTP/JSON for channels: register a case, see how it goes, list one's own. Described by `/v1/openapi.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from kuaixiang.domain.authority import ChannelToken
from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both, name, term
from kuaixiang.domain.words import Category
from kuaixiang.wire.v1 import case_pb2
from node.channels import openapi
from node.channels.door import Asking, Door, headers_of, status_of
from node.channels.requests import (
    REGISTRATION,
    STAGES_BY_STATUS,
    FieldsUnknown,
    NotSafeToRepeat,
    PublicCase,
    public,
    registration,
    shown,
    stamp,
    word,
)
from node.desk.asking import whole_number
from node.ledger.queries import PAGE_SIZE_MAX

KEY_HEADER: Final = "Idempotency-Key"
OF_ARCHIVE: Final = "archive."
"""What page tokens begin with that go on in the archive, where the other cases are at their end."""
LISTING: Final = ("status", "category", "registered_from", "registered_before", "page_size", "page_token")


class NotJson(Refused):
    """The body of a request is no JSON object."""

    condition = Condition.INVALID
    remedy = "Send one JSON object in UTF-8, its values texts, with Content-Type: application/json."
    remedy_chinese = "请以 UTF-8 编码发送一个 JSON 对象，各值为文本，Content-Type 为 application/json。"

    def __init__(self) -> None:
        super().__init__("The body is not a JSON object.", "请求正文不是 JSON 对象。")


class Json:
    """Refusals as problem details (RFC 9457)."""

    name = "json"

    @staticmethod
    def refused(_: Request, refusal: Refused, status: HTTPStatus | None = None) -> Response:
        """What is wrong, by which rule, in which field, and what to do, in both languages."""
        status = status or status_of(refusal)
        problem = {
            "type": f"urn:kuaixiang:refusal:{refusal.rule}",
            "title": status.phrase,
            "status": int(status),
            "detail": str(refusal),
            "detail_chinese": refusal.chinese,
            "rule": refusal.rule,
            "field": _field_of(refusal),
            "remedy": refusal.remedy,
            "remedy_chinese": refusal.remedy_chinese,
        }
        return JSONResponse(problem, status, headers_of(refusal), media_type="application/problem+json")


JSON: Final = Json()


def routes(door: Door) -> list[BaseRoute]:
    """The interface's addresses."""
    api = _CaseApi(door)
    return [
        door.route("/v1/openapi.json", JSON, api.description),
        door.route("/v1/categories", JSON, api.categories),
        door.route("/v1/cases", JSON, api.register, "POST"),
        door.route("/v1/cases", JSON, api.listing),
        door.route("/v1/cases/{case_id}", JSON, api.case),
    ]


class _CaseApi:
    def __init__(self, door: Door) -> None:
        self._services = door.services

    @staticmethod
    async def description(_: Asking) -> Response:
        """This interface as OpenAPI describes it."""
        return JSONResponse(openapi.document())

    @staticmethod
    async def categories(_: Asking) -> Response:
        """诉求类别 (§三)."""
        return JSONResponse({"categories": [{"code": name(one), "name": term(one)} for one in Category]})

    async def register(self, asking: Asking) -> Response:
        """受理登记 (§四(一)1), once however often it is sent under its key or reference."""
        fields = await _fields(asking.request)
        key = asking.request.headers.get(KEY_HEADER, "").strip().strip('"')
        if not key and not fields.get("channel_reference"):
            raise NotSafeToRepeat

        def make(token: ChannelToken) -> case_pb2.RegisterCaseRequest:
            return registration(self._services, token, fields, key)

        done: case_pb2.ActResponse = await asking.ask("RegisterCase", make)
        case = public(done.case)
        status = HTTPStatus.OK if done.repeated_request else HTTPStatus.CREATED
        return JSONResponse(self._shown(case), status, {"Location": f"/v1/cases/{case.case_id}"})

    async def case(self, asking: Asking) -> Response:
        """How a case of the token's bureau and channel goes."""
        case_id = asking.request.path_params["case_id"]

        def make(token: ChannelToken) -> case_pb2.GetCaseRequest:
            return case_pb2.GetCaseRequest(bureau=token.bureau, case_id=case_id)

        got: case_pb2.GetCaseResponse = await asking.ask("GetCase", make)
        return JSONResponse(self._shown(public(got.case, got.progress)))

    async def listing(self, asking: Asking) -> Response:
        """The cases of the token's bureau and channel in pages, nearest deadline first, those of the archive last."""
        asked = {field: value for field, value in asking.request.query_params.items() if field != "api_key"}
        unknown = len(asked.keys() - set(LISTING))
        if unknown:
            raise FieldsUnknown(unknown, LISTING)

        in_archive = asked.get("page_token", "").startswith(OF_ARCHIVE)

        def make(token: ChannelToken) -> case_pb2.ListCasesRequest:
            return _list_request(token, asked, in_archive=in_archive)

        got: case_pb2.ListCasesResponse = await asking.ask("ListCases", make)
        cases = [self._shown(public(case)) for case in got.cases]
        rest = got.next_page_token
        if in_archive:
            rest = rest and f"{OF_ARCHIVE}{rest}"
        elif not rest and asked.get("status") != "open" and self._services.office.ledger.database.archive.is_there:
            rest = OF_ARCHIVE
        return JSONResponse({"cases": cases, "next_page_token": rest})

    def _shown(self, case: PublicCase) -> dict[str, Any]:
        return {
            "case_id": case.case_id,
            "bureau": self._bureau(case.bureau),
            "category": name(case.category),
            "channel": name(case.channel),
            "registered_at": shown(case.registered_at),
            "changed_at": shown(case.changed_at),
            "status": case.status,
            "stage": name(case.stage),
            "stage_name": term(case.stage),
            "custodian": self._bureau(case.custodian),
            "deadline": _deadline(case),
            "told": case.told,
            "extended": case.extended,
            "end_to_end_workdays": case.end_to_end_workdays,
        }

    def _bureau(self, code: str) -> dict[str, str]:
        tree = self._services.office.place.tree
        return {"code": code, "name": tree.get(code).name if code in tree else code}


def _deadline(case: PublicCase) -> dict[str, Any] | None:
    if case.deadline is None:
        return None
    known = asdict(case.deadline)
    return known | {"clock": name(case.deadline.clock), "due_at": shown(case.deadline.due_at)}


def _list_request(token: ChannelToken, asked: Mapping[str, str], *, in_archive: bool) -> case_pb2.ListCasesRequest:
    channel: Any = token.channel
    request = case_pb2.ListCasesRequest(
        bureau=token.bureau,
        channel=channel,
        page_size=_page_size(asked["page_size"]) if "page_size" in asked else 0,
        page_token=asked.get("page_token", "").removeprefix(OF_ARCHIVE),
        archived=in_archive,
    )
    if "status" in asked:
        stages: Any = sorted(_of_status(asked["status"]))
        request.stages.extend(stages)
    if "category" in asked:
        category: Any = word(Category, asked["category"], "category")
        request.category = category
    if "registered_from" in asked:
        request.registered_from.CopyFrom(stamp(asked["registered_from"], "registered_from"))
    if "registered_before" in asked:
        request.registered_before.CopyFrom(stamp(asked["registered_before"], "registered_before"))
    return request


def _of_status(status: str) -> frozenset[Any]:
    stages = STAGES_BY_STATUS.get(status)
    if stages is None:
        raise FieldMalformed(
            "status",
            Both("is neither open nor closed", "不是 open 或 closed"),
            Both("Ask for open or closed.", "请填写 open 或 closed。"),
        )
    return stages


def _page_size(written: str) -> int:
    if whole_number(written) not in range(1, PAGE_SIZE_MAX + 1):
        raise FieldMalformed(
            "page_size",
            Both(f"is not a number from 1 to {PAGE_SIZE_MAX}", f"不是 1 至 {PAGE_SIZE_MAX} 的整数"),
            Both("Leave it out for 50.", "不填则为 50。"),
        )
    return int(written)


async def _fields(request: Request) -> dict[str, str]:
    """The body's fields, each a text; raises `NotJson`, `FieldsUnknown`, `FieldMalformed`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise NotJson
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise NotJson from None
    if not isinstance(body, dict):
        raise NotJson
    unknown = len(body.keys() - set(REGISTRATION))
    if unknown:
        raise FieldsUnknown(unknown, REGISTRATION)
    for field, value in body.items():
        if not isinstance(value, str):
            raise FieldMalformed(
                field, Both("is not a text", "不是文本"), Both("Send it as a JSON string.", "请以 JSON 字符串填写。")
            )
    return body


def _field_of(refusal: Refused) -> str:
    """The field at fault by the name that it has in this interface."""
    plain = refusal.field.removeprefix("header.")
    return KEY_HEADER if plain == "request_key" else plain
