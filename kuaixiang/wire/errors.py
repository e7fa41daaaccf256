"""Refusals over gRPC: one table between conditions and status codes, with details that say field, rule and remedy.

The status' message is English; the same in Chinese is a `google.rpc.LocalizedMessage` among the details.
"""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as PackedAny
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import NOTHING, Both

DOMAIN = "kuaixiang"
"""Of `google.rpc.ErrorInfo`."""
LOCALE = "zh-CN"
"""Of `google.rpc.LocalizedMessage`."""

CODE_OF: Mapping[Condition, int] = {
    Condition.INVALID: code_pb2.INVALID_ARGUMENT,
    Condition.MISSING: code_pb2.NOT_FOUND,
    Condition.STATE: code_pb2.FAILED_PRECONDITION,
    Condition.FORBIDDEN: code_pb2.PERMISSION_DENIED,
    Condition.CONFLICT: code_pb2.ABORTED,
    Condition.LIMIT: code_pb2.RESOURCE_EXHAUSTED,
    Condition.BUSY: code_pb2.RESOURCE_EXHAUSTED,
    Condition.UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
}

_CONDITION_OF: Mapping[grpc.StatusCode, Condition] = {
    status: condition for condition, code in CODE_OF.items() for status in grpc.StatusCode if status.value[0] == code
}

HTTP_OF: Mapping[Condition, HTTPStatus] = MappingProxyType(
    {
        Condition.INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
        Condition.MISSING: HTTPStatus.NOT_FOUND,
        Condition.STATE: HTTPStatus.CONFLICT,
        Condition.FORBIDDEN: HTTPStatus.FORBIDDEN,
        Condition.CONFLICT: HTTPStatus.CONFLICT,
        Condition.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
        Condition.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
        Condition.LIMIT: HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class RemoteRefusal(Exception):
    """A refusal as the caller sees it: what is wrong and what to do, in both languages, by which rule, in which field.

    `message` is what the status says, which ends with the remedy; its Chinese is empty when the other side sends none.
    `facts` is what a program needs to do what the remedy says.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        rule: str,
        field: str,
        message: Both,
        remedy: Both = NOTHING,
        *,
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.code = code
        self.facts = facts
        self.rule = rule
        self.field = field
        self.remedy = remedy
        self.sentence = told_apart(message, remedy)
        super().__init__(message.english)


class RefusedElsewhere(Refused):
    """Another bureau's node has refused what it was asked: passed on as it is, under that refusal's own rule."""

    def __init__(self, there: RemoteRefusal) -> None:
        self.condition = _CONDITION_OF.get(there.code, Condition.STATE)
        self.field = there.field
        self.remedy, self.remedy_chinese = there.remedy
        named = ("field", "remedy", "remedy_chinese")
        self.facts = {name: fact for name, fact in there.facts.items() if name not in named}
        self._rule = there.rule
        super().__init__(*there.sentence)

    @property
    def rule(self) -> str:
        """The rule of the refusal that is passed on."""
        return self._rule


def told_apart(message: Both, remedy: Both) -> Both:
    """What is wrong, without what to do, which a message on the wire ends with."""
    return Both(
        message.english.removesuffix(remedy.english).rstrip(), message.chinese.removesuffix(remedy.chinese).rstrip()
    )


def to_status(refusal: Refused) -> status_pb2.Status:
    """The rich status of a refusal."""
    named = {"field": refusal.field, "remedy": refusal.remedy, "remedy_chinese": refusal.remedy_chinese}
    particulars = {**refusal.facts, **named}
    packed = [_pack(error_details_pb2.ErrorInfo(reason=refusal.rule, domain=DOMAIN, metadata=particulars))]
    if refusal.condition is Condition.INVALID:
        violation = error_details_pb2.BadRequest.FieldViolation(field=refusal.field, description=str(refusal))
        packed.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    elif refusal.condition in {Condition.STATE, Condition.CONFLICT}:
        failure = error_details_pb2.PreconditionFailure.Violation(
            type=refusal.rule, subject=refusal.field, description=str(refusal)
        )
        packed.append(_pack(error_details_pb2.PreconditionFailure(violations=[failure])))
    elif refusal.condition in {Condition.BUSY, Condition.LIMIT}:
        retry = error_details_pb2.RetryInfo()
        # Not a part of a millisecond too little: whoever waits just so long would be refused again.
        retry.retry_delay.FromMilliseconds(ceil(refusal.retry_seconds * 1_000))
        packed.append(_pack(retry))
    packed.append(_pack(error_details_pb2.LocalizedMessage(locale=LOCALE, message=chinese_of(refusal))))
    sentence = f"{refusal} {refusal.remedy}".strip()
    return status_pb2.Status(code=CODE_OF[refusal.condition], message=sentence, details=packed)


def chinese_of(refusal: Refused) -> str:
    """What is wrong and what to do, in Chinese."""
    return f"{refusal.chinese}{refusal.remedy_chinese}"


def from_call(error: grpc.aio.AioRpcError) -> RemoteRefusal | None:
    """The refusal behind a failed call; None when the failure is not one (the peer is away, the call timed out …)."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return None
    info, localized = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    for detail in status.details:
        for known in (info, localized):
            detail.Unpack(known)
    if not info.reason:
        return None
    return RemoteRefusal(
        error.code(),
        info.reason,
        info.metadata.get("field", ""),
        message=Both(status.message, localized.message),
        remedy=Both(info.metadata.get("remedy", ""), info.metadata.get("remedy_chinese", "")),
        facts=dict(info.metadata),
    )


def _pack(message: Any) -> PackedAny:  # noqa: ANN401 - any of the detail messages
    packed = PackedAny()
    packed.Pack(message)
    return packed
