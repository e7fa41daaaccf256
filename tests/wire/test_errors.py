"""A refusal keeps its rule, field and remedy on its way over gRPC; its condition is the status."""

import pytest
from google.rpc import error_details_pb2

from kuaixiang.domain import acts, errors
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.words import Role
from kuaixiang.wire.errors import CODE_OF, to_status

REFUSALS: list[tuple[Refused, str]] = [
    (
        errors.FieldMissing("text", Both("§四(一)1 lists 诉求和意见", "通知四（一）1要求登记诉求和意见")),
        "INVALID_ARGUMENT",
    ),
    (errors.UnknownCase("330102", "330102-2026-0000001"), "NOT_FOUND"),
    (errors.CaseFrozen("330102-2026-0000001", "330100"), "FAILED_PRECONDITION"),
    (errors.RoleNotAllowed(acts.Dispatch, Role.HANDLER, (Role.TAX_SERVICE,)), "PERMISSION_DENIED"),
    (errors.VersionConflict("330102-2026-0000001", 1, 2), "ABORTED"),
]


def test_every_condition_has_a_status_of_its_own() -> None:
    assert set(Condition) == set(CODE_OF)
    assert len(Condition) == len(set(CODE_OF.values()))


@pytest.mark.parametrize(("refusal", "code"), REFUSALS, ids=lambda value: getattr(value, "rule", value))
def test_a_refusal_says_its_rule_field_and_remedy(refusal: Refused, code: str) -> None:
    import grpc  # noqa: PLC0415 - names the codes

    status = to_status(refusal)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert grpc.StatusCode[code].value[0] == status.code
    assert (refusal.rule, refusal.field, refusal.remedy) == (
        info.reason,
        info.metadata["field"],
        info.metadata["remedy"],
    )
    assert status.message == f"{refusal} {refusal.remedy}"
    assert refusal.remedy


def test_an_invalid_field_is_a_field_violation_too() -> None:
    status = to_status(
        errors.FieldMissing("text", Both("§四(一)1 lists 诉求和意见", "通知四（一）1要求登记诉求和意见"))
    )
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert ["text"] == [violation.field for violation in bad.field_violations]
