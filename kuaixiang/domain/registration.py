"""What a registration must hold (§四(一)1), checked field by field; the first fault is the refusal."""

import re

from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.identifiers import BadTaxpayerNumber, ImplausibleContact, check_contact, check_taxpayer_number

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
    required(taxpayer_name, "taxpayer_name", "§四(一)1 lists 纳税人名称")
    at_most(taxpayer_name, "taxpayer_name", NAME_CHARACTERS_MAX)
    required(contact, "contact", "§四(一)1 lists 有效联系方式")
    try:
        check_contact(contact)
    except ImplausibleContact as fault:
        remedy = "Give a mobile number, a landline with its area code, or an e-mail address."
        raise FieldMalformed("contact", "is not a contact one could use", remedy) from fault
    required(text, "text", "§四(一)1 lists 诉求和意见")
    at_most(text, "text", TEXT_CHARACTERS_MAX)
    if taxpayer_number:
        try:
            check_taxpayer_number(taxpayer_number)
        except BadTaxpayerNumber as fault:
            remedy = "Copy the 18 characters from the business licence, or leave the field empty."
            raise FieldMalformed("taxpayer_number", f"is not a taxpayer number: {fault}", remedy) from fault


def required(value: str, field: str, because: str) -> None:
    """Raises `FieldMissing` for an empty or blank value."""
    if not value.strip():
        raise FieldMissing(field, because)


def at_most(value: str, field: str, characters: int) -> None:
    """Raises `FieldMalformed` for a value that is too long, or holds what no text holds."""
    if "\0" in value:
        raise FieldMalformed(field, "holds a NUL character", "Send the text alone, without what pads it.")
    if len(value) > characters:
        raise FieldMalformed(field, f"has {len(value)} characters", f"At most {characters} fit; attach the rest.")


def check_department(value: str, field: str) -> None:
    """A department's code: lower-case letters, digits and hyphens, at most 32."""
    required(value, field, "every act says which department does it")
    if not _DEPARTMENT.fullmatch(value):
        raise FieldMalformed(
            field, "is not a department code", "Use lower-case letters, digits and hyphens, at most 32."
        )


def check_actor(value: str, field: str = "header.actor") -> None:
    """An officer's identification: not a name, at most 64 characters."""
    required(value, field, "the ledger records who did it")
    if not _ACTOR.fullmatch(value):
        remedy = "Use the officer's number or account, at most 64 letters, digits and . _ : @ -"
        raise FieldMalformed(field, "is not an officer's identification", remedy)


def check_case_id(value: str, field: str) -> None:
    """The form of a case's or a referral's number: at most 64 letters, digits and . _ : -, not empty."""
    if not _KEY.fullmatch(value):
        raise FieldMalformed(field, "is not a number that a case or a referral can have", "Copy it as it was given.")


def check_key(value: str) -> None:
    """A caller's idempotency key; empty is allowed and means none."""
    if value and not _KEY.fullmatch(value):
        remedy = "Use at most 64 letters, digits and . _ : -"
        raise FieldMalformed("header.request_key", "is not a usable key", remedy)
