"""The calls of the gateway as OpenAPI 3.1, made of the proto and its comments.

A test holds the door to it, by requests that it allows and forbids.
"""

from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.timestamp_pb2 import Timestamp

from kuaixiang.wire import v1
from node.channels.gateway import Call
from node.channels.messages import NUMBERS, http_of, words_of

DESCRIBED: Final = "channel.binpb"
"""What protoc has kept of the proto, with its comments."""

_PROBLEMS: Final = {
    HTTPStatus.UNAUTHORIZED: "No token, or one that is not valid (any more).",
    HTTPStatus.FORBIDDEN: "The token does not allow that.",
    HTTPStatus.NOT_FOUND: "There is no such case in this ledger.",
    HTTPStatus.CONFLICT: "The key was used for something else, or the bureau's list does not know the channel.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is missing or malformed; `field` names it. Nothing is stored.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too much is asked: wait for Retry-After, then ask again under the same key.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not now: wait for Retry-After, then ask again under the same key.",
}
_WAIT: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
TEXT: Final = {"type": "string"}
INTEGER: Final = {"type": "integer"}
_PROBLEM: Final[dict[str, dict[str, Any]]] = {
    "type": TEXT,
    "title": TEXT,
    "status": INTEGER,
    "detail": TEXT,
    "detail_chinese": TEXT,
    "rule": {"type": "string", "description": "the refusal's stable name, such as FieldMissing"},
    "field": {"type": "string", "description": "the field at fault; empty when none is"},
    "remedy": TEXT,
    "remedy_chinese": TEXT,
}


def document(service: ServiceDescriptor, calls: tuple[Call, ...]) -> dict[str, Any]:
    """The description of a service's calls."""
    paths: dict[str, dict[str, Any]] = {}
    schemas = {"Problem": described_object(_PROBLEM)}
    for call in calls:
        paths.setdefault(call.address, {})[call.verb.lower()] = _operation(call, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kuaixiang 快响: cases of a channel",
            "version": "1",
            "description": _comment(service.full_name),
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "What `kx token` issued."}
            },
            "schemas": schemas,
        },
    }


def _operation(call: Call, schemas: dict[str, Any]) -> dict[str, Any]:
    name = call.method.name
    found: dict[str, Any] = {
        "operationId": name[0].lower() + name[1:],
        "summary": _comment(call.method.full_name),
        "responses": _answers(call, schemas),
    }
    if call.open_to_all:
        found["security"] = []
    parameters = [
        *(_parameter(field, "path", field.name, required=True) for field in call.in_path),
        *(_parameter(field, "header", header) for header, field in call.of_headers.items()),
        *(_parameter(field, "query", field.name, required=http_of(field).required) for field in call.in_query),
    ]
    if parameters:
        found["parameters"] = parameters
    if call.in_body:
        body = described_object(
            {field.name: _asked(field) for field in call.in_body},
            sorted(field.name for field in call.in_body if http_of(field).required),
        )
        schema = _kept(call.method.input_type, body, schemas)
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found


def _answers(call: Call, schemas: dict[str, Any]) -> dict[str, Any]:
    output = call.method.output_type
    kind: Any = output.fields_by_name[call.answer].message_type if call.answer else output
    schema = _message(kind, schemas)
    good = {HTTPStatus.OK: "It is as told."}
    if call.makes:
        good = {
            HTTPStatus.OK: "It was there before; this is how it stands.",
            HTTPStatus.CREATED: "It is made, and will not be lost.",
        }
    found: dict[str, Any] = {
        str(int(status)): {"description": said, "content": {"application/json": {"schema": schema}}}
        for status, said in good.items()
    }
    told = {
        header: {"schema": {"type": "string", "const": "true"}, "description": _comment(field.full_name)}
        for header, field in call.told_in_headers.items()
    }
    if told:
        found[str(int(HTTPStatus.OK))]["headers"] = told
    for status in _problems(call):
        found[str(int(status))] = problem_answer(status)
    return found


def problem_answer(status: HTTPStatus) -> dict[str, Any]:
    """An answer that is a refusal of that status."""
    problem: dict[str, Any] = {
        "description": _PROBLEMS[status],
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in _WAIT:
        problem["headers"] = {"Retry-After": {"schema": INTEGER, "description": "Seconds."}}
    return problem


def _problems(call: Call) -> list[HTTPStatus]:
    kinds = {
        HTTPStatus.UNAUTHORIZED: not call.open_to_all,
        HTTPStatus.FORBIDDEN: not call.open_to_all,
        HTTPStatus.NOT_FOUND: bool(call.in_path),
        HTTPStatus.CONFLICT: call.makes,
        # An argument that is not known is refused, of whichever call.
        HTTPStatus.UNPROCESSABLE_ENTITY: True,
    }
    return [*(status for status, is_one in kinds.items() if is_one), *_WAIT]


def _parameter(field: FieldDescriptor, where: str, name: str, *, required: bool = False) -> dict[str, Any]:
    schema = _asked(field)
    said = schema.pop("description", "")
    found: dict[str, Any] = {"name": name, "in": where, "schema": schema}
    if said:
        found["description"] = said
    if required:
        found["required"] = True
    return found


def _asked(field: FieldDescriptor) -> dict[str, Any]:
    """A field of what is asked: always a text in a body, a number where an address has one."""
    bounds = http_of(field)
    schema = _type(field, {})
    said: dict[str, Any] = {
        "maxLength": bounds.characters_max,
        "pattern": bounds.pattern,
        "minimum": bounds.minimum,
        "maximum": bounds.maximum,
    }
    return _said(field, schema | {word: value for word, value in said.items() if value})


def _message(kind: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    """A message that is answered, all its fields being there."""
    if kind.name not in schemas:
        # Named before its fields are looked at: these may have it too.
        _kept(kind, {}, schemas)
        schemas[kind.name].update(
            described_object({field.name: _said(field, _answered(field, schemas)) for field in kind.fields})
        )
        if said := _comment(kind.full_name):
            schemas[kind.name]["description"] = said
    return {"$ref": f"#/components/schemas/{kind.name}"}


def _kept(kind: Descriptor, schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    schemas[kind.name] = schema
    return {"$ref": f"#/components/schemas/{kind.name}"}


def _answered(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = _type(field, schemas)
    if field.is_repeated:
        return {"type": "array", "items": schema}
    if field.message_type is not None and field.containing_oneof is not None:
        # `optional` in the proto: it may be missing.
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def _type(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is Timestamp.DESCRIPTOR:
        return {"type": "string", "format": "date-time"}
    if field.message_type is not None:
        return _message(field.message_type, schemas)
    if field.enum_type is not None:
        return {"type": "string", "enum": list(words_of(field.enum_type))}
    if field.cpp_type in NUMBERS:
        return {"type": "integer"}
    return dict(_SIMPLE[field.cpp_type])


_SIMPLE: Final = {
    FieldDescriptor.CPPTYPE_STRING: TEXT,
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
}


def described_object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """An object with these properties and no others; all must be there, unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties) if required is None else required,
        "additionalProperties": False,
    }


def _said(field: FieldDescriptor, schema: dict[str, Any]) -> dict[str, Any]:
    said = _comment(field.full_name)
    return schema | {"description": said} if said else schema


def _comment(full_name: str) -> str:
    return _comments().get(full_name, "")


@cache
def _comments() -> dict[str, str]:
    """The comments of the proto on one line each, by the full name of what they stand before."""
    kept = resources.files(v1).joinpath(DESCRIBED).read_bytes()
    found: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(kept).file:
        for place in file.source_code_info.location:
            if place.leading_comments and (name := _name_at(file, list(place.path))):
                found[name] = " ".join(place.leading_comments.split())
    return found


def _name_at(file: FileDescriptorProto, path: list[int]) -> str:
    """The full name of the message, field, service or call at a path of the descriptor; empty for anything else."""
    names, place = [file.package], file
    for number, index in zip(path[::2], path[1::2], strict=False):
        part: Any = place.DESCRIPTOR.fields_by_number[number]
        if not part.is_repeated or part.message_type is None:
            return ""
        place = getattr(place, part.name)[index]
        names.append(place.name)
    return ".".join(names) if len(path) % 2 == 0 else ""
