"""Refusals over gRPC: one table between conditions and status codes, with details that say field, rule and remedy."""

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as PackedAny
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from kuaixiang.domain.errors import Condition, Refused

DOMAIN = "kuaixiang"
"""Of `google.rpc.ErrorInfo`."""

CODE_OF: Mapping[Condition, int] = {
    Condition.INVALID: code_pb2.INVALID_ARGUMENT,
    Condition.MISSING: code_pb2.NOT_FOUND,
    Condition.STATE: code_pb2.FAILED_PRECONDITION,
    Condition.FORBIDDEN: code_pb2.PERMISSION_DENIED,
    Condition.CONFLICT: code_pb2.ABORTED,
    Condition.BUSY: code_pb2.RESOURCE_EXHAUSTED,
}

BUSY_RETRY_SECONDS = 1
"""When a caller who was refused because too much waits may try again."""


class RemoteRefusal(Exception):
    """A refusal as the caller sees it: the sentence, and the rule, field and remedy from the details."""

    def __init__(self, code: grpc.StatusCode, message: str, rule: str, field: str, remedy: str) -> None:
        self.code = code
        self.rule = rule
        self.field = field
        self.remedy = remedy
        super().__init__(message)


def to_status(refusal: Refused) -> status_pb2.Status:
    """The rich status of a refusal."""
    details = [
        error_details_pb2.ErrorInfo(
            reason=refusal.rule, domain=DOMAIN, metadata={"field": refusal.field, "remedy": refusal.remedy}
        )
    ]
    packed = [_pack(detail) for detail in details]
    if refusal.condition is Condition.INVALID:
        violation = error_details_pb2.BadRequest.FieldViolation(field=refusal.field, description=str(refusal))
        packed.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    elif refusal.condition in {Condition.STATE, Condition.CONFLICT}:
        failure = error_details_pb2.PreconditionFailure.Violation(
            type=refusal.rule, subject=refusal.field, description=str(refusal)
        )
        packed.append(_pack(error_details_pb2.PreconditionFailure(violations=[failure])))
    elif refusal.condition is Condition.BUSY:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = BUSY_RETRY_SECONDS
        packed.append(_pack(retry))
    sentence = f"{refusal} {refusal.remedy}".strip()
    return status_pb2.Status(code=CODE_OF[refusal.condition], message=sentence, details=packed)


def from_call(error: grpc.aio.AioRpcError) -> RemoteRefusal | None:
    """The refusal behind a failed call; None when the failure is not one (the peer is away, the call timed out …)."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
            return RemoteRefusal(
                error.code(),
                status.message,
                info.reason,
                info.metadata.get("field", ""),
                info.metadata.get("remedy", ""),
            )
    return None


def _pack(message: Any) -> PackedAny:  # noqa: ANN401 - any of the detail messages
    packed = PackedAny()
    packed.Pack(message)
    return packed
