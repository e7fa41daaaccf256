"""What a registration must hold (§四(一)1), checked field by field; the first fault is the refusal."""

import re

from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.identifiers import BadTaxpayerNumber, ImplausibleContact, check_contact, check_taxpayer_number
from kuaixiang.domain.labels import Both

TEXT_CHARACTERS_MAX = 10_000
"""A request longer than this is an attachment."""
NAME_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 10_000
REFERENCE_CHARACTERS_MAX = 64

_KEY = re.compile(r"[A-Za-z0-9._:\-]{1,64}")
_DEPARTMENT = re.compile(r"[a-z][a-z0-9-]{0,31}")
_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


def check_registration(*, taxpayer_name: str, contact: str, taxpayer_number: str, text: str) -> None:
    """Raises `FieldMissing` or `FieldMalformed`; neither repeats the value."""
    required(taxpayer_name, "taxpayer_name", _listed("纳税人名称"))
    at_most(taxpayer_name, "taxpayer_name", NAME_CHARACTERS_MAX)
    required(contact, "contact", _listed("有效联系方式"))
    try:
        check_contact(contact)
    except ImplausibleContact as fault:
        raise FieldMalformed(
            "contact",
            Both("is not a contact one could use", "不是有效的联系方式"),
            Both(
                "Give a mobile number, a landline with its area code, or an e-mail address.",
                "请填写手机号码、带区号的固定电话或者电子邮箱。",
            ),
        ) from fault
    required(text, "text", _listed("诉求和意见"))
    at_most(text, "text", TEXT_CHARACTERS_MAX)
    if taxpayer_number:
        try:
            check_taxpayer_number(taxpayer_number)
        except BadTaxpayerNumber as fault:
            raise FieldMalformed(
                "taxpayer_number",
                Both(f"is not a taxpayer number: {fault}", f"有误：{fault.chinese}"),
                Both(
                    "Copy the 18 characters from the business licence, or leave the field empty.",
                    "请按营业执照填写18位代码，没有的可不填。",
                ),
            ) from fault


def _listed(what: str) -> Both:
    return Both(f"§四(一)1 lists {what}", f"通知四（一）1要求登记{what}")


def required(value: str, field: str, because: Both) -> None:
    """Raises `FieldMissing` for an empty or blank value."""
    if not value.strip():
        raise FieldMissing(field, because)


def at_most(value: str, field: str, characters: int) -> None:
    """Raises `FieldMalformed` for a value that is too long, or holds what no text holds."""
    if "\0" in value:
        raise FieldMalformed(
            field,
            Both("holds a NUL character", "含有空字符（NUL）"),
            Both("Send the text alone, without what pads it.", "请去掉填充字符，只保留正文。"),
        )
    if len(value) > characters:
        raise FieldMalformed(
            field,
            Both(f"has {len(value)} characters", f"共 {len(value)} 个字，超过上限"),
            Both(f"At most {characters} fit; attach the rest.", f"最多 {characters} 个字，其余内容请作为附件。"),
        )


def check_department(value: str, field: str) -> None:
    """A department's code: lower-case letters, digits and hyphens, at most 32."""
    required(value, field, Both("every act says which department does it", "每项操作都须写明经办部门"))
    if not _DEPARTMENT.fullmatch(value):
        raise FieldMalformed(
            field,
            Both("is not a department code", "不是有效的部门代码"),
            Both(
                "Use lower-case letters, digits and hyphens, at most 32.",
                "请使用小写字母、数字和连字符，以字母开头，最多32个字符。",
            ),
        )


def check_actor(value: str, field: str = "header.actor") -> None:
    """An officer's identification: not a name, at most 64 characters."""
    required(value, field, Both("the ledger records who did it", "台账须记录由谁办理"))
    if not _ACTOR.fullmatch(value):
        raise FieldMalformed(
            field,
            Both("is not an officer's identification", "不是有效的人员标识"),
            Both(
                "Use the officer's number or account, at most 64 letters, digits and . _ : @ -",
                "请填写工号或者账号，最多64个字符，可用字母、数字和 . _ : @ -",
            ),
        )


def check_case_id(value: str, field: str, place: int = 0) -> None:
    """The form of a case's or a referral's number: at most 64 letters, digits and . _ : -, not empty.

    `place`: of several, the how-manieth it is, from 1.
    """
    if not _KEY.fullmatch(value):
        which = Both(f"has at place {place} what", f"第 {place} 个") if place else Both("", "")
        raise FieldMalformed(
            field,
            Both(
                f"{which.english} is not a number that a case or a referral can have".strip(),
                f"{which.chinese}不是有效的编号",
            ),
            Both("Copy it as it was given.", "请照原编号填写。"),
        )


def check_key(value: str) -> None:
    """A caller's idempotency key; empty is allowed and means none."""
    if value and not _KEY.fullmatch(value):
        raise FieldMalformed(
            "header.request_key",
            Both("is not a usable key", "不可用"),
            Both("Use at most 64 letters, digits and . _ : -", "最多64个字符，可用字母、数字和 . _ : -"),
        )
