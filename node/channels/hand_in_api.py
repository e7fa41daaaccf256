"""Handing in files as OpenAPI 3.1, beside the calls of the proto: its bodies are files and its answer is lines.

Headings and fields are taken from what reads them. OpenAPI 3.1 has no word for a schema of each line: JSON Schema's
`contentSchema` of a text says it, and the description that it is of each line.
"""

import json
from http import HTTPStatus
from typing import Any, Final

from kuaixiang.text.columns import REQUIRED, TITLES
from kuaixiang.wire.registrations import CSV, HAND_IN, NDJSON, XLSX
from kuaixiang.wire.v1 import channel_pb2
from node.channels.intake import ADDRESS, FROM_ROW, OF_FINISHED, RESULTS
from node.channels.openapi import INTEGER, TEXT, described_object, problem_answer
from node.desk.asking import DIGITS_MAX

LINE: Final = "HandInLine"
REGISTRATION: Final = channel_pb2.ChannelServiceRegisterCaseRequest.DESCRIPTOR.name
"""The body of one registration, which a line of NDJSON is."""
WHO_ASKS: Final = "channel"
"""A required column that the token says where it is left out."""
PROBLEMS: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)

_ROWS: Final = {"type": "integer", "minimum": 0}
_ROW: Final = {
    "type": "integer",
    "minimum": 1,
    "description": "the row's number as a spreadsheet numbers it, of NDJSON the line's",
}
_REFERENCE: Final = {
    "type": "string",
    "description": "the channel's own number of the request; where it has none, by what the row is known",
}
_EXAMPLE: Final = {
    "channel_reference": "R-1001",
    "taxpayer_name": "晨光文具店",
    "contact": "15400001234",
    "text": "小规模纳税人本季度开具的发票如何享受优惠？",
}
_EXAMPLE_TABLE: Final = _EXAMPLE | {"category": "政策落实"}
_EXAMPLE_LINE: Final = _EXAMPLE | {"category": "policy"}


def with_hand_ins(document: dict[str, Any]) -> dict[str, Any]:
    """A description of the service's calls, with the handing in of files beside them."""
    components = document["components"]
    schemas = components["schemas"] | _lines()
    paths = document["paths"] | {ADDRESS: {"post": _operation()}}
    return document | {"paths": paths, "components": components | {"schemas": schemas}}


def _operation() -> dict[str, Any]:
    answers = {
        "description": "A line for each row, sent when the row is in the ledger or refused, then one for the whole. "
        "An answer without such a last line was cut off: send the same file again, which registers no row twice.",
        "content": {NDJSON: {"schema": _lines_of(LINE, "Lines of JSON in UTF-8.")}},
    }
    return {
        "operationId": "handIn",
        "summary": "批量受理: registers the rows of a file, each of which is answered by itself.",
        "description": f"A file has at most {HAND_IN.file_bytes >> 20} MiB, unpacked "
        f"{HAND_IN.unpacked_bytes >> 20} MiB, and {HAND_IN.rows:,} rows; a token hands in one at a time. Send the same "
        "file again after a cut: each row has the same line as before. Of a file that is refused as a whole nothing "
        "was registered.",
        "parameters": [
            {
                "name": FROM_ROW,
                "in": "query",
                "description": "The first row that is registered and answered, of the whole file, which is sent again.",
                "schema": {"type": "integer", "minimum": 1, "maximum": 10**DIGITS_MAX - 1, "default": 1},
            }
        ],
        "requestBody": {"required": True, "content": _bodies()},
        "responses": {str(int(HTTPStatus.OK)): answers}
        | {str(int(status)): problem_answer(status) for status in PROBLEMS},
    }


def _bodies() -> dict[str, Any]:
    columns = [field for field in TITLES if field not in OF_FINISHED]
    required = [field for field in REQUIRED if field != WHO_ASKS]
    headed = (
        "The first row with content has the headings, in any order: "
        + ", ".join(f"{TITLES[field]} (or {field})" for field in columns)
        + ". There must be "
        + ", ".join(TITLES[field] for field in required)
        + "; each row is a request."
    )
    table = "\n".join((",".join(TITLES[field] for field in _EXAMPLE_TABLE), ",".join(_EXAMPLE_TABLE.values()), ""))
    lines = json.dumps(_EXAMPLE_LINE, ensure_ascii=False) + "\n"
    return {
        NDJSON: {
            "schema": _lines_of(REGISTRATION, "A request on each line, in UTF-8, as POST /v1/cases has it."),
            "example": lines,
        },
        CSV: {
            "schema": {
                "type": "string",
                "contentMediaType": CSV,
                "description": f"UTF-8, or GB18030, of which Content-Type says nothing. {headed}",
            },
            "example": table,
        },
        XLSX: {
            "schema": {
                "type": "string",
                "contentMediaType": XLSX,
                "description": f"A workbook with one sheet that has content. {headed}",
            }
        },
    }


def _lines_of(name: str, said: str) -> dict[str, Any]:
    return {
        "type": "string",
        "contentMediaType": NDJSON,
        "contentSchema": {"$ref": f"#/components/schemas/{name}"},
        "description": f"{said} `contentSchema` is of each line.",
    }


def _lines() -> dict[str, dict[str, Any]]:
    refused = ("rule", "field", "detail", "detail_chinese", "remedy", "remedy_chinese")
    kinds = {
        "HandInRegistered": described_object(
            {
                "row": _ROW,
                "reference": _REFERENCE,
                "result": {"const": "registered"},
                "case_id": TEXT,
                "other_words": {
                    "const": True,
                    "description": "there when the number had been registered with other words: the first case stands, "
                    "what was sent now is kept nowhere",
                },
            },
            ["case_id", "reference", "result", "row"],
        ),
        "HandInRefused": described_object(
            {"row": _ROW, "reference": _REFERENCE, "result": {"const": "refused"}} | dict.fromkeys(refused, TEXT)
        ),
        "HandInEnd": described_object({"end": {"const": True}, "rows": _ROWS} | dict.fromkeys(RESULTS, _ROWS)),
        "HandInCut": described_object(
            {
                "end": {"const": False},
                "next_row": INTEGER | {"description": f"from where to go on, as `{FROM_ROW}`"},
                "problem": {"$ref": "#/components/schemas/Problem"},
            }
        ),
    }
    said = {
        "HandInRegistered": "The row is in the ledger and will not be lost; by this sending or by an earlier one.",
        "HandInRefused": "Nothing of the row is stored.",
        "HandInEnd": "The last line: all rows were answered. `repeated` counts those that had been registered before.",
        "HandInCut": "The last line: the rows from `next_row` on were not answered.",
    }
    one_of = [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds]
    return {LINE: {"oneOf": one_of}} | {kind: schema | {"description": said[kind]} for kind, schema in kinds.items()}
