"""Open311 GeoReport v2 under `/open311/v2`: categories as services, cases as service requests, in JSON and XML.

The bureau is the jurisdiction, a token the api_key. `description`, `address` and the like, which the standard would
have everybody read, tell nothing private: of what a case is about, its category; of where, the accepting bureau.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from itertools import product
from typing import Any, Final
from xml.etree import ElementTree as ET

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kuaixiang.domain.authority import ChannelToken
from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both, listed, name, term
from kuaixiang.domain.sign_in import TokenNotForThis
from kuaixiang.domain.words import Category, ClockKind, Stage
from kuaixiang.wire.codec import instant, timestamp
from kuaixiang.wire.v1 import case_pb2, channel_pb2
from node.channels.door import Asking, Door, headers_of, status_of
from node.channels.messages import read
from node.channels.requests import (
    STAGES_BY_STATUS,
    PublicCase,
    change_id,
    changes_request,
    public,
    registration,
    required,
    shown,
    stamp,
    status_at,
    word,
)
from node.ledger.queries import PAGE_SIZE_MAX

PREFIX: Final = "/open311/v2"
FIELDS_MAX: Final = 60
"""Of a form: the standard's seventeen, and attributes."""
DAYS_MAX: Final = 90
REQUESTS_MAX: Final = 1_000
"""What one answer spans, and holds, as the standard has it."""
UPDATES_MAX: Final = 1_000
"""Those of the earliest: who asks on from the last one's time has all of them."""
IDS_MAX: Final = 100
"""Requests that are asked for by their numbers at once; each is looked up by itself."""
CHANGESET: Final = "2026-11-26"
UPDATES: Final = "servicerequestupdates"
"""mySociety's extension: what happened to requests."""
SPECIFICATIONS: Final = (
    "http://wiki.open311.org/GeoReport_v2",
    "https://github.com/mysociety/fixmystreet/wiki/Open311-FMS---Proposed-differences-to-Open311",
)
"""What is spoken here, at one address: the standard, and the extension, of which updates are answered and not taken."""
OTHER_WORDS: Final = (
    "该 channel_reference 已用于另一内容的登记，原登记有效，本次内容未保存。"
    "Other words were registered under this channel_reference; they stand, and what was sent now is kept nowhere."
)

ATTRIBUTES: Final = (
    ("taxpayer_name", True, Both("the taxpayer's name", "纳税人名称")),
    ("contact", True, Both("a telephone number or e-mail address", "有效联系方式")),
    ("taxpayer_number", False, Both("the unified social credit code", "统一社会信用代码")),
    ("channel_reference", False, Both("the channel's own number; twice the same is one request", "渠道受理编号")),
)
"""What is asked besides, by its code: whether it is required, and what it is."""
ABOUT: Final[Mapping[Category, str]] = {
    Category.POLICY: "preferential policies and how they are carried out",
    Category.ENFORCEMENT: "how officials enforce the law",
    Category.SERVICE: "how taxpayers are served",
    Category.SYSTEMS: "information systems",
    Category.REMEDY: "legal remedy",
    Category.OTHER: "anything else",
}
_SINGULAR: Final = {"attributes": "attribute", "values": "value", "endpoints": "endpoint", "formats": "format"}
_NOT_IN_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MEDIA: Final = {"json": "application/json", "xml": "text/xml"}


class NoSuchJurisdiction(Refused):
    """A bureau is named whose ledger is not behind this door."""

    condition = Condition.MISSING
    field = "jurisdiction_id"
    remedy = "Use the six-digit code of the bureau that issued the token, or leave it out."
    remedy_chinese = "请填写签发令牌单位的六位代码，或不填。"

    def __init__(self) -> None:
        super().__init__("jurisdiction_id was not found.", "没有该 jurisdiction_id 对应的单位。")


class NoSuchService(Refused):
    """A service is named that is none of the categories."""

    condition = Condition.MISSING
    field = "service_code"

    def __init__(self) -> None:
        self.remedy = f"Use one of {', '.join(map(name, Category))}."
        self.remedy_chinese = f"可选：{listed(map(name, Category))}。"
        super().__init__("service_code was not found.", "没有该 service_code 对应的诉求类别。")


class NotAForm(Refused):
    """The body of a request is no form, or holds files or too many fields."""

    condition = Condition.INVALID

    def __init__(self) -> None:
        self.remedy = f"Send at most {FIELDS_MAX} fields as application/x-www-form-urlencoded, and no file."
        self.remedy_chinese = f"请以 application/x-www-form-urlencoded 提交，字段不超过 {FIELDS_MAX} 个，不含文件。"
        super().__init__("The body is not a form that can be read.", "提交的内容不是可读取的表单。")


class Open311:
    """Refusals as the standard has them: a code and a description, in the format that was asked for."""

    name = "open311"

    @staticmethod
    def refused(request: Request, refusal: Refused, status: HTTPStatus | None = None) -> Response:
        """What is wrong and what to do, in both languages, by the statuses that the standard names."""
        status = status or _STATUS.get(refusal.condition) or status_of(refusal)
        said = f"{refusal} {refusal.remedy} {refusal.chinese}{refusal.remedy_chinese}"
        error = {"code": int(status), "description": f"{refusal.rule}: {said}"}
        format_ = "xml" if request.url.path.endswith(".xml") else "json"
        answer = _answer(format_, "errors", "error", [error], status)
        answer.headers.update(headers_of(refusal))
        return answer


_STATUS: Final = {
    Condition.INVALID: HTTPStatus.BAD_REQUEST,
    Condition.UNAUTHENTICATED: HTTPStatus.FORBIDDEN,
}
"""Where the standard names another status: 403 for an api_key that is missing or invalid, 400 for what is malformed."""
OPEN311: Final = Open311()


def routes(door: Door) -> list[BaseRoute]:
    """The interface's addresses."""
    api = _GeoReport(door)
    return [
        door.route(f"{PREFIX}/discovery.{{format}}", OPEN311, api.discovery),
        door.route(f"{PREFIX}/services.{{format}}", OPEN311, api.services),
        door.route(f"{PREFIX}/services/{{service_code}}.{{format}}", OPEN311, api.definition),
        door.route(f"{PREFIX}/requests.{{format}}", OPEN311, api.submit, "POST"),
        door.route(f"{PREFIX}/requests.{{format}}", OPEN311, api.requests),
        door.route(f"{PREFIX}/requests/{{case_id}}.{{format}}", OPEN311, api.request),
        door.route(f"{PREFIX}/tokens/{{case_id}}.{{format}}", OPEN311, api.token),
        door.route(f"{PREFIX}/{UPDATES}.{{format}}", OPEN311, api.updates),
    ]


class _GeoReport:
    def __init__(self, door: Door) -> None:
        self._door = door
        self._services = door.services

    async def discovery(self, asking: Asking) -> Response:
        """Where this interface is, and what it speaks."""
        base = asking.request.base_url
        scheme = "https" if self._door.reach.secure else base.scheme
        endpoints = [
            {
                "specification": specification,
                "url": f"{scheme}://{base.netloc}{PREFIX}",
                "changeset": CHANGESET,
                "type": "production",
                "formats": ["text/xml", "application/json"],
            }
            for specification in SPECIFICATIONS
        ]
        found = {
            "changeset": CHANGESET,
            "contact": "The bureau that issues the token.",
            "key_service": "A leader of the bureau issues tokens to channels.",
            "endpoints": endpoints,
        }
        return _answer(_format(asking), "discovery", "", found)

    async def services(self, asking: Asking) -> Response:
        """诉求类别 (§三) as services."""
        self._check_hosted(asking.request.query_params.get("jurisdiction_id", ""))
        found = [
            {
                "service_code": name(one),
                "service_name": term(one),
                "description": f"{term(one)}: {ABOUT[one]}",
                "metadata": True,
                "type": "realtime",
                "keywords": name(one),
                "group": "诉求和意见",
            }
            for one in Category
        ]
        return _answer(_format(asking), "services", "service", found)

    async def definition(self, asking: Asking) -> Response:
        """What is asked of who requests such a service."""
        self._check_hosted(asking.request.query_params.get("jurisdiction_id", ""))
        service = _service(asking.request.path_params["service_code"])
        attributes = [
            {
                "variable": True,
                "code": code,
                "datatype": "string",
                "required": needed,
                "datatype_description": said.english,
                "order": place,
                "description": said.chinese,
                "values": [],
            }
            for place, (code, needed, said) in enumerate(ATTRIBUTES, 1)
        ]
        found = {"service_code": name(service), "attributes": attributes}
        return _answer(_format(asking), "service_definition", "", found)

    async def submit(self, asking: Asking) -> Response:
        """受理登记 (§四(一)1)."""
        format_ = _format(asking)
        try:
            form = await asking.request.form(max_files=0, max_fields=FIELDS_MAX)
        except HTTPException:
            raise NotAForm from None
        given = {field: str(value).strip() for field, value in form.items()}
        secret = asking.secret or given.get("api_key", "")
        key = asking.request.headers.get("Idempotency-Key", "").strip().strip('"')

        def make(token: ChannelToken) -> case_pb2.RegisterCaseRequest:
            for named in (given, asking.request.query_params):
                self._check_jurisdiction(token, named.get("jurisdiction_id", ""))
            return registration(self._services, token, _registration_of(given, key))

        done: case_pb2.ActResponse = await self._door.ask(secret, "RegisterCase", make)
        case = public(done.case)
        found = {
            "service_request_id": case.case_id,
            "service_notice": OTHER_WORDS if done.other_words else _notice(case),
            "account_id": None,
        }
        status = HTTPStatus.OK if done.repeated_request else HTTPStatus.CREATED
        return _answer(format_, "service_requests", "request", [found], status)

    async def request(self, asking: Asking) -> Response:
        """How one request goes."""
        case = await self._case(asking, asking.request.path_params["case_id"])
        return _answer(_format(asking), "service_requests", "request", [self._shown(case)])

    async def token(self, asking: Asking) -> Response:
        """Numbers are given at once, so that each is its own token."""
        case = await self._case(asking, asking.request.path_params["case_id"])
        found = {"service_request_id": case.case_id, "token": case.case_id}
        return _answer(_format(asking), "service_requests", "request", [found])

    async def requests(self, asking: Asking) -> Response:
        """The requests of the token's bureau and channel: those that are named, else those of a time."""
        asked = asking.request.query_params
        if asked.get("service_request_id"):
            cases = await self._named(asking, asked["service_request_id"].split(","))
        else:
            cases = await self._of_a_time(asking, asked)
        ordered = sorted(cases, key=lambda case: case.registered_at, reverse=True)
        return _answer(_format(asking), "service_requests", "request", [self._shown(case) for case in ordered])

    async def _named(self, asking: Asking, case_ids: Sequence[str]) -> list[PublicCase]:
        if len(case_ids) > IDS_MAX:
            raise FieldMalformed(
                "service_request_id",
                Both(f"names {len(case_ids)} requests", f"共 {len(case_ids)} 个编号，超过上限"),
                Both(f"Name at most {IDS_MAX}.", f"每次最多 {IDS_MAX} 个。"),
            )
        found = []
        for case_id in dict.fromkeys(one.strip() for one in case_ids):
            try:
                found.append(await self._case(asking, case_id))
            except Refused as refusal:
                # What is not there, or not this channel's, is left out of a list.
                if refusal.condition is not Condition.MISSING and not isinstance(refusal, TokenNotForThis):
                    raise
        return found

    async def _of_a_time(self, asking: Asking, asked: Mapping[str, str]) -> list[PublicCase]:
        services = [_service(code.strip()) for code in asked.get("service_code", "").split(",") if code.strip()]
        status = {one.strip() for one in asked.get("status", "").split(",") if one.strip()}
        if not status <= set(STAGES_BY_STATUS):
            raise FieldMalformed(
                "status",
                Both("is neither open nor closed", "不是 open 或 closed"),
                Both("Ask for open, closed, or both.", "请填写 open、closed，或两者。"),
            )
        stages: Any = sorted(stage for one in status for stage in STAGES_BY_STATUS[one])
        start, end = self._span(asked)
        found: list[PublicCase] = []
        ended = status != {"open"} and self._services.office.ledger.database.archive.is_there
        for service, archived in product(services or (None,), (False, True) if ended else (False,)):
            page = ""
            while len(found) < REQUESTS_MAX:

                def make(
                    token: ChannelToken,
                    service: Any = service,  # noqa: ANN401 - a word of the generated code's
                    archived: bool = archived,  # noqa: FBT001 - bound here, never given
                    page: str = page,
                ) -> case_pb2.ListCasesRequest:
                    self._check_jurisdiction(token, asked.get("jurisdiction_id", ""))
                    channel: Any = token.channel
                    request = case_pb2.ListCasesRequest(
                        bureau=token.bureau,
                        channel=channel,
                        category=service,
                        stages=stages,
                        page_size=PAGE_SIZE_MAX,
                        page_token=page,
                        archived=archived,
                    )
                    request.registered_from.CopyFrom(timestamp(start))
                    request.registered_before.CopyFrom(timestamp(end))
                    return request

                got: case_pb2.ListCasesResponse = await asking.ask("ListCases", make)
                found += map(public, got.cases)
                page = got.next_page_token
                if not page:
                    break
        return found[:REQUESTS_MAX]

    async def updates(self, asking: Asking) -> Response:
        """What happened to the token's requests in a time, first to last, as mySociety's extension has it."""
        asked = asking.request.query_params
        start, end = self._span(asked)
        question = channel_pb2.ChannelServiceListCaseChangesRequest(page_size=PAGE_SIZE_MAX)
        question.recorded_from.CopyFrom(timestamp(start))
        question.recorded_before.CopyFrom(timestamp(end))
        found: list[case_pb2.CaseChange] = []

        def make(token: ChannelToken) -> case_pb2.ListChangesRequest:
            self._check_jurisdiction(token, asked.get("jurisdiction_id", ""))
            return changes_request(token, question)

        while True:
            got: case_pb2.ListChangesResponse = await asking.ask("ListChanges", make)
            found += got.changes
            question.page_token = got.next_page_token
            end_of_answer = _whole_seconds_within(found)
            if not question.page_token or end_of_answer < len(found):
                break
        told = [_update(change) for change in found[:end_of_answer]]
        return _answer(_format(asking), "service_request_updates", "request_update", told)

    def _span(self, asked: Mapping[str, str]) -> tuple[Any, Any]:
        """From when to when; the last ninety days when nothing is said. Raises `FieldMalformed`."""
        longest = timedelta(days=DAYS_MAX)
        start = instant(stamp(asked["start_date"], "start_date")) if asked.get("start_date") else None
        end = instant(stamp(asked["end_date"], "end_date")) if asked.get("end_date") else None
        try:
            if end is None:
                end = self._services.office.place.clock.now() if start is None else start + longest
            start = start if start is not None else end - longest
            fits = timedelta(0) <= end - start <= longest
            # The end itself is within the range here, and without it where it is asked.
            end += timedelta(microseconds=1)
        except OverflowError:
            fits = False
        if not fits or start is None or end is None:
            raise FieldMalformed(
                "end_date",
                Both(f"is not within {DAYS_MAX} days after start_date", f"不在 start_date 之后 {DAYS_MAX} 天以内"),
                Both(f"Ask for at most {DAYS_MAX} days at a time.", f"每次最多查询 {DAYS_MAX} 天。"),
            )
        return start, end

    async def _case(self, asking: Asking, case_id: str) -> PublicCase:
        def make(token: ChannelToken) -> case_pb2.GetCaseRequest:
            self._check_jurisdiction(token, asking.request.query_params.get("jurisdiction_id", ""))
            return case_pb2.GetCaseRequest(bureau=token.bureau, case_id=case_id)

        got: case_pb2.GetCaseResponse = await asking.ask("GetCase", make)
        return public(got.case, got.progress)

    def _check_hosted(self, bureau: str) -> None:
        if bureau and bureau not in self._door.bureaus:
            raise NoSuchJurisdiction

    def _check_jurisdiction(self, token: ChannelToken, bureau: str) -> None:
        self._check_hosted(bureau)
        if bureau not in {"", token.bureau}:
            raise TokenNotForThis(token, "jurisdiction_id")

    def _shown(self, case: PublicCase) -> dict[str, Any]:
        return {
            "service_request_id": case.case_id,
            "status": case.status,
            "status_notes": term(case.stage),
            "service_name": term(case.category),
            "service_code": name(case.category),
            "description": term(case.category),
            "agency_responsible": f"{self._bureau(case.custodian)}（{case.custodian}）",
            "service_notice": _notice(case),
            "requested_datetime": shown(case.registered_at),
            "updated_datetime": shown(case.changed_at),
            "expected_datetime": shown(case.deadline.due_at) if case.deadline is not None else None,
            "address": self._bureau(case.bureau),
            "address_id": case.bureau,
            "zipcode": None,
            "lat": None,
            "long": None,
            "media_url": None,
        }

    def _bureau(self, code: str) -> str:
        tree = self._services.office.place.tree
        return tree.get(code).name if code in tree else code


def _whole_seconds_within(changes: Sequence[case_pb2.CaseChange]) -> int:
    """How many changes an answer tells: `UPDATES_MAX`, and those of the last one's second, from which one asks on."""
    most = UPDATES_MAX
    while most < len(changes) and changes[most].recorded_at.seconds == changes[most - 1].recorded_at.seconds:
        most += 1
    return min(most, len(changes))


def _update(change: case_pb2.CaseChange) -> dict[str, Any]:
    stage = Stage(change.stage)
    return {
        "update_id": change_id(change),
        "service_request_id": change.case_id,
        "status": status_at(stage).upper(),
        "updated_datetime": shown(instant(change.recorded_at)),
        "description": term(stage),
        "media_url": None,
    }


def _notice(case: PublicCase) -> str | None:
    """What is to be known of the expected time; None where there is nothing."""
    if case.deadline is None or not case.deadline.provisional:
        return None
    clock: ClockKind = case.deadline.clock
    return (
        f"“{term(clock)}”期限在已公布的工作日历之外，为暂定。"
        "The deadline lies beyond the published working calendar and may move."
    )


def _registration_of(given: Mapping[str, str], key: str) -> channel_pb2.ChannelServiceRegisterCaseRequest:
    """The standard's arguments as a registration; attributes before what stands for them.

    Raises `FieldMissing`, `NoSuchService`, `FieldMalformed`.
    """
    of_attributes = {code: given.get(f"attribute[{code}]", "") for code, _, _ in ATTRIBUTES}
    named = f"{given.get('last_name', '')}{given.get('first_name', '')}"
    at = filter(None, (given.get(field, "") for field in ("address_string", "lat", "long")))
    fields = of_attributes | {
        "category": name(_service(required(given, "service_code"))),
        "text": given.get("description", ""),
        "taxpayer_name": of_attributes["taxpayer_name"] or named,
        "contact": of_attributes["contact"] or given.get("phone", "") or given.get("email", ""),
        "place": given.get("address_id", ""),
        # Where it is in words is kept with what officers read, as private as the text.
        "note": "，".join(at),
    }
    asked = channel_pb2.ChannelServiceRegisterCaseRequest(request_key=key)
    read(asked, asked.DESCRIPTOR.fields, fields, in_body=True)
    return asked


def _service(code: str) -> Category:
    try:
        return word(Category, code, "service_code")
    except FieldMalformed:
        raise NoSuchService from None


def _format(asking: Asking) -> str:
    format_: str = asking.request.path_params["format"]
    if format_ not in _MEDIA:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return format_


def _answer(format_: str, root: str, item: str, found: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:  # noqa: ANN401 - what JSON holds
    """What was found, in that format; `root` and, of a list, `item` are the names of XML's elements."""
    if format_ == "json":
        body = json.dumps(found, ensure_ascii=False).encode()
    else:
        element = ET.Element(root)
        _fill(element, found, item)
        body = ET.tostring(element, encoding="utf-8", xml_declaration=True)
    return Response(body, status, media_type=f"{_MEDIA[format_]}; charset=utf-8")


def _fill(element: ET.Element, value: Any, item: str = "") -> None:  # noqa: ANN401 - what JSON holds
    match value:
        case dict():
            for child, inner in value.items():
                _fill(ET.SubElement(element, child), inner, _SINGULAR.get(child, ""))
        case list():
            for inner in value:
                _fill(ET.SubElement(element, item), inner)
        case bool():
            element.text = str(value).lower()
        case None:
            pass
        case _:
            element.text = _NOT_IN_XML.sub("", str(value))
