"""A refusal keeps its rule, field and remedy on its way over gRPC; its condition is the status."""

import pytest
from google.rpc import error_details_pb2

from kuaixiang.domain import acts, errors
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import NOTHING, Both
from kuaixiang.domain.words import Role
from kuaixiang.runtime.limits import TooManyCalls
from kuaixiang.wire.errors import CODE_OF, HTTP_OF, to_status, told_apart

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


def test_every_condition_has_a_status_of_its_own_over_grpc_or_http() -> None:
    assert set(Condition) == set(CODE_OF) == set(HTTP_OF)
    assert len(Condition) == len({(CODE_OF[condition], HTTP_OF[condition]) for condition in Condition})


@pytest.mark.parametrize(("refusal", "code"), REFUSALS, ids=lambda value: getattr(value, "rule", value))
def test_a_refusal_says_its_rule_field_and_remedy(refusal: Refused, code: str) -> None:
    import grpc  # noqa: PLC0415 - names the codes

    status = to_status(refusal)
    info, localized = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    assert status.details[0].Unpack(info)
    assert grpc.StatusCode[code].value[0] == status.code
    assert (refusal.rule, refusal.field, refusal.remedy, refusal.remedy_chinese) == (
        info.reason,
        info.metadata["field"],
        info.metadata["remedy"],
        info.metadata["remedy_chinese"],
    )
    assert f"{refusal} {refusal.remedy}" == status.message
    assert status.details[-1].Unpack(localized)
    assert ("zh-CN", f"{refusal.chinese}{refusal.remedy_chinese}") == (localized.locale, localized.message)


def test_what_is_wrong_is_told_apart_from_what_to_do_in_each_language() -> None:
    remedy = Both("Fill in text.", "请填写诉求内容。")
    whole = Both(f"text is required. {remedy.english}", f"诉求内容不能为空。{remedy.chinese}")
    assert Both("text is required.", "诉求内容不能为空。") == told_apart(whole, remedy)
    assert whole == told_apart(whole, NOTHING)


def test_who_waits_as_long_as_he_is_told_has_not_come_too_soon() -> None:
    status = to_status(TooManyCalls(7, 0.1004, "rate"))
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert 101 == retry.retry_delay.ToMilliseconds()


def test_an_invalid_field_is_a_field_violation_too() -> None:
    status = to_status(
        errors.FieldMissing("text", Both("§四(一)1 lists 诉求和意见", "通知四（一）1要求登记诉求和意见"))
    )
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert ["text"] == [violation.field for violation in bad.field_violations]
