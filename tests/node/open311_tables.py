"""What GeoReport v2 and mySociety's extension say of each answer, as JSON Schema: names, types, what must be there.

Written from the tables of the specifications. The schemas that are published beside GeoReport v2 come without a licence and
are not in this repository.
"""

from typing import Any, Final

from jsonschema_rs import validator_for

_TEXT: Final = {"type": "string", "minLength": 1}
_TEXT_OR_NOTHING: Final = {"type": ["string", "null"]}
_AT: Final = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)$"}
_AT_OR_NOTHING: Final = {"anyOf": [_AT, {"type": "null"}]}
_NUMBER_OR_NOTHING: Final = {"type": ["number", "null"]}


def _object(must: dict[str, Any], may: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": must | may, "required": sorted(must), "additionalProperties": False}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_SERVICE: Final = _object(
    {
        "service_code": _TEXT,
        "service_name": _TEXT,
        "metadata": {"type": "boolean"},
        "type": {"enum": ["realtime", "batch", "blackbox"]},
    },
    {"description": _TEXT_OR_NOTHING, "keywords": _TEXT_OR_NOTHING, "group": _TEXT_OR_NOTHING},
)
_ATTRIBUTE: Final = _object(
    {
        "variable": {"type": "boolean"},
        "code": _TEXT,
        "datatype": {"enum": ["string", "number", "datetime", "text", "singlevaluelist", "multivaluelist"]},
        "required": {"type": "boolean"},
        "order": {"type": "integer", "minimum": 1},
    },
    {
        "datatype_description": _TEXT_OR_NOTHING,
        "description": _TEXT_OR_NOTHING,
        "values": _list(_object({"key": _TEXT, "name": _TEXT}, {})),
    },
)
_REQUEST: Final = _object(
    {
        "service_request_id": _TEXT,
        "status": {"enum": ["open", "closed"]},
        "service_code": _TEXT,
        "requested_datetime": _AT,
    },
    {
        "status_notes": _TEXT_OR_NOTHING,
        "service_name": _TEXT_OR_NOTHING,
        "description": {"type": ["string", "null"], "maxLength": 4000},
        "agency_responsible": _TEXT_OR_NOTHING,
        "service_notice": _TEXT_OR_NOTHING,
        "updated_datetime": _AT_OR_NOTHING,
        "expected_datetime": _AT_OR_NOTHING,
        "address": _TEXT_OR_NOTHING,
        "address_id": _TEXT_OR_NOTHING,
        "zipcode": _TEXT_OR_NOTHING,
        "lat": _NUMBER_OR_NOTHING,
        "long": _NUMBER_OR_NOTHING,
        "media_url": _TEXT_OR_NOTHING,
    },
)
_UPDATE: Final = _object(
    {
        "update_id": _TEXT,
        "service_request_id": _TEXT,
        "status": {"enum": ["OPEN", "CLOSED"]},
        "updated_datetime": _AT,
        "description": _TEXT,
    },
    {"media_url": _TEXT_OR_NOTHING},
)
_ENDPOINT: Final = _object(
    {
        "specification": _TEXT,
        "url": _TEXT,
        "changeset": _TEXT,
        "type": {"enum": ["production", "test", "other"]},
        "formats": {"type": "array", "items": {"enum": ["text/xml", "application/json"]}, "minItems": 1},
    },
    {},
)
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "discovery": _object(
        {"changeset": _TEXT, "endpoints": _list(_ENDPOINT)},
        {"contact": _TEXT_OR_NOTHING, "key_service": _TEXT_OR_NOTHING},
    ),
    "services": _list(_SERVICE),
    "definition": _object({"service_code": _TEXT, "attributes": _list(_ATTRIBUTE)}, {}),
    "posted": _list(
        _object({"service_request_id": _TEXT}, {"service_notice": _TEXT_OR_NOTHING, "account_id": _TEXT_OR_NOTHING})
    ),
    "token": _list(_object({"service_request_id": _TEXT, "token": _TEXT}, {})),
    "requests": _list(_REQUEST),
    "updates": _list(_UPDATE),
    "errors": _list(_object({"code": {"type": "integer"}, "description": _TEXT}, {})),
}
"""By what is answered."""


def faults(answer: str, told: Any) -> list[str]:
    """What of an answer is not as the specification has it."""
    return [str(fault) for fault in validator_for(ANSWERS[answer]).iter_errors(told)]
