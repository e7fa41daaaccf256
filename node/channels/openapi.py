"""What `/v1` takes and answers, as OpenAPI 3.1. A test holds the door to it, by requests that it allows and forbids."""

from http import HTTPStatus
from typing import Any, Final

from kuaixiang.domain.labels import name
from kuaixiang.domain.registration import NAME_CHARACTERS_MAX, NOTE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from kuaixiang.domain.words import Category, Channel, ClockKind, Stage

_PROBLEMS: Final = {
    HTTPStatus.UNAUTHORIZED: "No token, or one that is not valid (any more).",
    HTTPStatus.FORBIDDEN: "The token does not allow that.",
    HTTPStatus.NOT_FOUND: "There is no such case in this ledger.",
    HTTPStatus.CONFLICT: "The key was used for something else, or the bureau's list does not know the channel.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is missing or malformed; `field` names it. Nothing is stored.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too much is asked: wait for Retry-After, then ask again under the same key.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not now: wait for Retry-After, then ask again under the same key.",
}
_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "taxpayer_name": {"maxLength": NAME_CHARACTERS_MAX, "description": "纳税人名称. Required (§四(一)1)."},
    "contact": {"description": "A mobile number, a landline with its area code, or an e-mail address. Required."},
    "taxpayer_number": {"description": "统一社会信用代码: 18 characters, held to its check character."},
    "text": {"maxLength": TEXT_CHARACTERS_MAX, "description": "The request or opinion. Required."},
    "channel_reference": {"description": "The channel's own number: the same number twice is one case."},
    "place": {"pattern": "^[0-9]{6}$", "description": "行政区划代码 of where it is about."},
    "answer": {"description": "The reply, when the case was answered on the spot."},
    "lead_case_id": {"description": "The case of this ledger that asks the same 并案."},
    "note": {"maxLength": NOTE_CHARACTERS_MAX, "description": "What the channel adds."},
    "category": {"enum": [name(one) for one in Category], "description": "诉求类别 (§三). Required."},
    "channel": {"enum": [name(one) for one in Channel], "description": "The token's own when left out; no other."},
    "bureau": {"pattern": "^[0-9]{6}$", "description": "The token's own when left out; no other."},
    "actor": {"description": "The channel's number on the bureau's list of staff; needed where that has several."},
    "department": {"description": "That number's department; tax service when left out."},
    "occurred_at": {"format": "date-time", "description": "When it was received; now when left out."},
}


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


_TEXT: Final = {"type": "string"}
_AT: Final = {"type": "string", "format": "date-time"}
_CASE: Final = _schema(
    case_id=_TEXT,
    bureau=_ref("Bureau"),
    category={"type": "string", "enum": [name(one) for one in Category]},
    channel={"type": "string", "enum": [name(one) for one in Channel]},
    registered_at=_AT,
    changed_at={**_AT, "description": "when something happened to it last, as far as this ledger knows"},
    status={"type": "string", "enum": ["open", "closed"], "description": "closed: the taxpayer has his answer"},
    stage={"type": "string", "enum": [name(one) for one in Stage], "description": "where it stands at its custodian"},
    stage_name=_TEXT,
    custodian={**_ref("Bureau"), "description": "the bureau responsible, as far as this ledger knows"},
    deadline={"anyOf": [_ref("Deadline"), {"type": "null"}], "description": "the next one; null when no clock runs"},
    told={"type": "boolean", "description": "whether the taxpayer has been told how it goes on (§四(一)2)"},
    extended={"type": "boolean", "description": "whether a running deadline rests on an approved extension"},
    end_to_end_workdays={"type": "number", "minimum": 0, "description": "working days since registration"},
)
_SCHEMAS: Final = {
    "Registration": {
        "type": "object",
        "properties": {field: {"type": "string", **more} for field, more in _FIELDS.items()},
        "required": ["taxpayer_name", "contact", "text", "category"],
        "additionalProperties": False,
    },
    "Bureau": _schema(code=_TEXT, name=_TEXT),
    "Deadline": _schema(
        clock={"type": "string", "enum": [name(one) for one in ClockKind]},
        due_at=_AT,
        provisional={"type": "boolean", "description": "beyond the published working calendar: may move"},
        overdue={"type": "boolean"},
    ),
    "Case": _CASE,
    "Cases": _schema(cases={"type": "array", "items": _ref("Case")}, next_page_token=_TEXT),
    "Categories": _schema(categories={"type": "array", "items": _schema(code=_TEXT, name=_TEXT)}),
    "Problem": _schema(
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        detail_chinese=_TEXT,
        rule={"type": "string", "description": "the refusal's stable name, such as FieldMissing"},
        field={"type": "string", "description": "the field at fault; empty when none is"},
        remedy=_TEXT,
        remedy_chinese=_TEXT,
    ),
}


def _answers(good: dict[HTTPStatus, tuple[str, str]], *problems: HTTPStatus) -> dict[str, Any]:
    """Answers by status: the good ones with the schema of each, and problems."""
    found: dict[str, Any] = {
        str(int(status)): {"description": said, "content": {"application/json": {"schema": _ref(schema)}}}
        for status, (said, schema) in good.items()
    }
    for status in problems:
        problem: dict[str, Any] = {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
        }
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            problem["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
        found[str(int(status))] = problem
    return found


def _query(field: str, schema: dict[str, Any], said: str) -> dict[str, Any]:
    return {"name": field, "in": "query", "schema": schema, "description": said}


_LIMITS: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_KEPT_OUT: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_INVALID: Final = HTTPStatus.UNPROCESSABLE_ENTITY


def document() -> dict[str, Any]:
    """The description."""
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
        "description": "The same key with the same body: the first result. It, or channel_reference, must be there.",
    }
    register = {
        "operationId": "registerCase",
        "summary": "受理登记: register a request or opinion",
        "parameters": [key],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Registration")}}},
        "responses": _answers(
            {
                HTTPStatus.OK: ("It was registered before; this is how it stands.", "Case"),
                HTTPStatus.CREATED: ("It is registered, and will not be lost.", "Case"),
            },
            *_KEPT_OUT,
            HTTPStatus.CONFLICT,
            _INVALID,
            *_LIMITS,
        ),
    }
    listing = {
        "operationId": "listCases",
        "summary": "The cases of the token's bureau and channel, nearest deadline first",
        "parameters": [
            _query("status", {"type": "string", "enum": ["open", "closed"]}, "Only these."),
            _query("category", {"type": "string", "enum": [name(one) for one in Category]}, "Only these."),
            _query("registered_from", _AT, "Only those registered then or later."),
            _query("registered_before", _AT, "Only those registered earlier."),
            _query("page_size", {"type": "integer", "minimum": 1, "maximum": 500}, "50 when left out."),
            _query("page_token", _TEXT, "The `next_page_token` of the page before."),
        ],
        "responses": _answers(
            {HTTPStatus.OK: ("A page; its token is empty on the last.", "Cases")}, *_KEPT_OUT, _INVALID, *_LIMITS
        ),
    }
    one = {
        "operationId": "getCase",
        "summary": "How a case goes",
        "parameters": [{"name": "case_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": _answers(
            {HTTPStatus.OK: ("How it goes.", "Case")}, *_KEPT_OUT, HTTPStatus.NOT_FOUND, _INVALID, *_LIMITS
        ),
    }
    categories = {
        "operationId": "listCategories",
        "summary": "诉求类别",
        "security": [],
        "responses": _answers({HTTPStatus.OK: ("All there are.", "Categories")}, HTTPStatus.TOO_MANY_REQUESTS),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kuaixiang 快响: cases of a channel",
            "version": "1",
            "description": "Requests and opinions of small and micro enterprises, for channels' programs.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": {
            "/v1/cases": {"post": register, "get": listing},
            "/v1/cases/{case_id}": {"get": one},
            "/v1/categories": {"get": categories},
        },
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "What `kx token` issued."}
            },
            "schemas": _SCHEMAS,
        },
    }
