"""HTTP/JSON made of a service's descriptor: its calls that have `google.api.http` are routes, and described as OpenAPI.

What is HTTP's own is here, alike for every call: refusals as problem details (RFC 9457), 201 and Location for what is
new, fields in headers. A call that is added to the proto is a route and is described as soon as it is answered.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.wire.v1 import channel_pb2, http_pb2
from node.channels.door import Asking, Door, headers_of, status_of
from node.channels.messages import header_fields, http_of, parameters_of, read, told

SERVICE: Final = channel_pb2.DESCRIPTOR.services_by_name["ChannelService"]
"""What channels ask."""
REPEATED: Final = "repeated_request"
"""The field of an answer that tells what has been made from what had been."""
NO_FIELD: Final = "api_key"
"""An argument of an address that says who asks, and is no field of any call."""


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

    def __init__(self, calls: "tuple[Call, ...]") -> None:
        # By the names that the same fields have inside.
        self._headers = {field.name: header for call in calls for header, field in call.of_headers.items()}

    def refused(self, _: Request, refusal: Refused, status: HTTPStatus | None = None) -> Response:
        """What is wrong, by which rule, in which field, and what to do, in both languages."""
        status = status or status_of(refusal)
        plain = refusal.field.removeprefix("header.")
        problem = {
            "type": f"urn:kuaixiang:refusal:{refusal.rule}",
            "title": status.phrase,
            "status": int(status),
            "detail": str(refusal),
            "detail_chinese": refusal.chinese,
            "rule": refusal.rule,
            "field": self._headers.get(plain, plain),
            "remedy": refusal.remedy,
            "remedy_chinese": refusal.remedy_chinese,
        }
        return JSONResponse(problem, status, headers_of(refusal), media_type="application/problem+json")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the service, as its annotations put it into HTTP."""

    method: MethodDescriptor
    verb: str
    address: str
    in_body: tuple[FieldDescriptor, ...]
    in_query: tuple[FieldDescriptor, ...]
    in_path: tuple[FieldDescriptor, ...]
    of_headers: Mapping[str, FieldDescriptor]
    told_in_headers: Mapping[str, FieldDescriptor]
    """Those of the response, each a bool."""
    answer: str
    """The field of the response that is the body of the answer; empty: all of it."""
    open_to_all: bool

    @property
    def makes(self) -> bool:
        """Whether the answer tells what has been made from what had been."""
        return REPEATED in self.method.output_type.fields_by_name


def calls_of(service: ServiceDescriptor) -> tuple[Call, ...]:
    """The service's calls that HTTP has, in the proto's order."""
    return tuple(_call(method) for method in service.methods if method.GetOptions().HasExtension(annotations_pb2.http))


def _call(method: MethodDescriptor) -> Call:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    address: str = getattr(rule, verb)
    fields = method.input_type.fields_by_name
    in_path = tuple(fields[name] for name in parameters_of(address))
    rest = tuple(field for field in method.input_type.fields if field not in in_path and not http_of(field).header)
    return Call(
        method=method,
        verb=verb.upper(),
        address=address,
        in_body=rest if rule.body else (),
        in_query=() if rule.body else rest,
        in_path=in_path,
        of_headers=header_fields(method.input_type),
        told_in_headers=header_fields(method.output_type),
        answer=rule.response_body,
        open_to_all=method.GetOptions().Extensions[http_pb2.http_call].open_to_all,
    )


def routes(
    door: Door,
    calls: tuple[Call, ...],
    servicer: Any,  # noqa: ANN401 - any service's
    described: dict[str, Any],
) -> list[BaseRoute]:
    """The addresses of the calls, each answered by the servicer's method of its name; and `/v1/openapi.json`."""
    interface = Json(calls)

    async def description(_: Asking) -> Response:
        return JSONResponse(described)

    return [
        door.route("/v1/openapi.json", interface, description),
        *(
            door.route(call.address, interface, _answering(call, _below(call, calls), servicer), call.verb)
            for call in calls
        ),
    ]


def _answering(call: Call, below: str, servicer: Any) -> Callable[[Asking], Awaitable[Response]]:  # noqa: ANN401 - see above
    ask: Callable[[Any, Asking], Awaitable[Message]] = getattr(servicer, call.method.name)

    async def answer(asking: Asking) -> Response:
        if not call.open_to_all:
            # Not left to what answers: a call that forgets to ask the gate is open to nobody without a token.
            asking.door.check_token(asking.secret)
        done = await ask(await _question(call, asking.request), asking)
        body = told(getattr(done, call.answer) if call.answer else done)
        headers = {header: "true" for header, field in call.told_in_headers.items() if getattr(done, field.name)}
        if not call.makes or getattr(done, REPEATED):
            return JSONResponse(body, headers=headers)
        return JSONResponse(body, HTTPStatus.CREATED, headers | {"Location": below.format_map(body)})

    return answer


async def _question(call: Call, request: Request) -> Message:
    """The call's message; raises `NotJson`, `FieldsUnknown`, `FieldMalformed`."""
    message: Message = GetMessageClass(call.method.input_type)()
    if call.in_body:
        read(message, call.in_body, await _body(request), in_body=True)
    else:
        asked = {name: value for name, value in request.query_params.items() if name != NO_FIELD}
        read(message, call.in_query, asked, in_body=False)
    for field in call.in_path:
        setattr(message, field.name, request.path_params[field.name])
    for header, field in call.of_headers.items():
        setattr(message, field.name, request.headers.get(header, "").strip().strip('"'))
    return message


async def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise NotJson
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise NotJson from None
    if not isinstance(body, dict):
        raise NotJson
    return body


def _below(call: Call, calls: tuple[Call, ...]) -> str:
    """The address under that of a call, at which what it has made is asked for; empty where there is none."""
    return next((one.address for one in calls if one.in_path and one.address.startswith(f"{call.address}/")), "")
