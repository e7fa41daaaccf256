"""Taxpayer numbers and contacts: their form and check characters (§四(一)).

Both are private. No error here carries the text it refuses, in its sentence or in its fields.
"""

import re
from enum import Enum

NUMBER_LENGTH = 18
DIVISION_DIGITS = 6
_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015: digits and capital letters without I, O, S, V, Z; a character's value is its place here."""
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_MODULUS = len(_ALPHABET)
_WEIGHTS = tuple(pow(3, place, _MODULUS) for place in range(NUMBER_LENGTH - 1))

_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
"""GB 11714: the organisation code's eight characters, whose values are 0-9 and A=10 to Z=35."""
_ORGANISATION_CHECKS = "0123456789X"
_DIVISION = slice(2, 8)
_ORGANISATION = slice(8, 16)
_ORGANISATION_CHECK_AT = 16

_DEMO_KIND = "91"
"""Registered by market supervision (9) as an enterprise (1)."""
_DEMO_ORGANISATION = "YY"
"""Organisation codes are not issued with this beginning, so that an invented number is nobody's."""
_DEMO_SERIAL_CHARACTERS = 6
DEMO_SERIALS = _MODULUS**_DEMO_SERIAL_CHARACTERS
"""How many different numbers can be invented for one division."""


class NumberFault(Enum):
    """Why a taxpayer number is refused; the value is the end of the sentence."""

    LENGTH = "it must have 18 characters"
    CHARACTER = "only digits and capital letters other than I, O, S, V and Z occur in it"
    DIVISION = "its characters 3 to 8 must be the digits of an administrative division"
    ORGANISATION_CHECK = "its 17th character, the check character of the organisation code, does not fit"
    CHECK = "its last character, the check character, does not fit"


_FAULTS_CHINESE = {
    NumberFault.LENGTH: "应为18位",
    NumberFault.CHARACTER: "只能由数字和大写字母组成，且不含 I、O、S、V、Z",
    NumberFault.DIVISION: "第3至8位应为行政区划代码",
    NumberFault.ORGANISATION_CHECK: "第17位（组织机构代码校验码）不符",
    NumberFault.CHECK: "最后一位（校验码）不符",
}


class BadTaxpayerNumber(ValueError):
    """A text is not a unified social credit code 统一社会信用代码."""

    def __init__(self, reason: NumberFault, position: int | None = None) -> None:
        super().__init__(reason, position)
        self.reason = reason
        self.position = position
        """Place of the offending character, from 1, where one can be named."""

    def __str__(self) -> str:
        where = f" (character {self.position})" if self.position is not None else ""
        return f"the taxpayer identification number is not valid: {self.reason.value}{where}"

    @property
    def chinese(self) -> str:
        """The fault in Chinese, the end of a sentence."""
        where = f"（第{self.position}位）" if self.position is not None else ""
        return f"{_FAULTS_CHINESE[self.reason]}{where}"


class SerialOutOfRange(ValueError):
    """More numbers were asked for than can be invented."""

    def __init__(self, serial: int) -> None:
        super().__init__(serial)
        self.serial = serial

    def __str__(self) -> str:
        return f"the serial {self.serial} is not in 0 to {DEMO_SERIALS - 1}"


class ImplausibleContact(ValueError):
    """A text is neither a Chinese telephone number nor an e-mail address."""

    def __str__(self) -> str:
        return (
            "the contact is not usable: give a mobile number of 11 digits, a landline with its area code, "
            "or an e-mail address"
        )


def is_division_code(text: str) -> bool:
    """Whether a text has the form of an administrative division code (GB/T 2260): six digits."""
    return len(text) == DIVISION_DIGITS and text.isascii() and text.isdigit()


def check_taxpayer_number(text: str) -> None:
    """Check a unified social credit code (GB 32100-2015) and the organisation code inside it (GB 11714).

    Raises:
        BadTaxpayerNumber: with the fault, and the offending character's place, never the number.

    """
    if len(text) != NUMBER_LENGTH:
        raise BadTaxpayerNumber(NumberFault.LENGTH)
    for position, character in enumerate(text, start=1):
        if character not in _VALUES:
            raise BadTaxpayerNumber(NumberFault.CHARACTER, position)
    if not is_division_code(text[_DIVISION]):
        raise BadTaxpayerNumber(NumberFault.DIVISION)
    if text[_ORGANISATION_CHECK_AT] != _organisation_check(text[_ORGANISATION]):
        raise BadTaxpayerNumber(NumberFault.ORGANISATION_CHECK, _ORGANISATION_CHECK_AT + 1)
    if text[-1] != _number_check(text[:-1]):
        raise BadTaxpayerNumber(NumberFault.CHECK, NUMBER_LENGTH)


def division_of(taxpayer_number: str) -> str | None:
    """Give the division of the registering authority, characters 3 to 8; None when the number has another form."""
    division = taxpayer_number[_DIVISION]
    return division if len(taxpayer_number) == NUMBER_LENGTH and is_division_code(division) else None


def make_taxpayer_number(division: str, serial: int) -> str:
    """Invent a valid taxpayer number for demonstrations and tests; another serial gives another number.

    Raises:
        BadTaxpayerNumber: the division is not six digits.
        SerialOutOfRange: the serial is not in 0 to `DEMO_SERIALS` - 1.

    """
    if not is_division_code(division):
        raise BadTaxpayerNumber(NumberFault.DIVISION)
    if not 0 <= serial < DEMO_SERIALS:
        raise SerialOutOfRange(serial)
    characters = []
    for _ in range(_DEMO_SERIAL_CHARACTERS):
        serial, value = divmod(serial, _MODULUS)
        characters.append(_ALPHABET[value])
    organisation = _DEMO_ORGANISATION + "".join(reversed(characters))
    body = f"{_DEMO_KIND}{division}{organisation}{_organisation_check(organisation)}"
    return body + _number_check(body)


def _number_check(body: str) -> str:
    total = sum(_VALUES[character] * weight for character, weight in zip(body, _WEIGHTS, strict=True))
    return _ALPHABET[-total % _MODULUS]


def _organisation_check(body: str) -> str:
    total = sum(int(character, 36) * weight for character, weight in zip(body, _ORGANISATION_WEIGHTS, strict=True))
    return _ORGANISATION_CHECKS[-total % len(_ORGANISATION_CHECKS)]


CONTACT_CHARACTERS_MAX = 254
"""The longest e-mail address that can be delivered to (RFC 5321); no telephone number comes near."""

MASK = "***"
"""In a contact whose middle somebody has hidden. An address may hold asterisks, and nobody has such a one."""

_COUNTRY = r"(?:(?:\+|00)?86[ -]?)?"
_MOBILE = re.compile(_COUNTRY + r"1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}")
_LANDLINE = re.compile(
    r"(?:(?:(?:\+|00)?86[ -]?)0?|0)"  # the area code's 0 is dropped after the country's 86
    r"(?:10|2[0-9]|[3-9][0-9]{2})[ -]?[2-9][0-9]{6,7}"
    r"(?:[ -][0-9]{1,6})?"  # an extension
)
_BRACKETED_AREA = re.compile(r"^[(（](0[0-9]{2,3})[)）][ -]?")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@"
    rf"(?:{_LABEL}\.)+[A-Za-z]{{2,63}}"
)


def check_contact(text: str) -> None:
    """Check that a taxpayer can be reached by a contact: a Chinese mobile or landline number, or an e-mail address.

    Plausible, not proven: nobody is called.

    Raises:
        ImplausibleContact: without the text.

    """
    if len(text) > CONTACT_CHARACTERS_MAX or MASK in text:
        raise ImplausibleContact
    telephone = _BRACKETED_AREA.sub(r"\1-", text)
    if not (_MOBILE.fullmatch(text) or _LANDLINE.fullmatch(telephone) or _EMAIL.fullmatch(text)):
        raise ImplausibleContact


def mask_name(name: str) -> str:
    """Hide all of a name but its first and last character; of one of two characters the first stays."""
    plain = name.strip()
    if not plain:
        return ""
    return plain[0] + "＊" * max(len(plain) - 2, 1) + (plain[-1] if len(plain) > 2 else "")  # noqa: PLR2004 - as said


def mask_taxpayer_number(number: str) -> str:
    """Hide all of a taxpayer number but its kind and division, which say where the taxpayer belongs."""
    return number[: _DIVISION.stop] + "*" * len(number[_DIVISION.stop :])


_AREA = r"(?:(?:\+|00)?86[ -]?0?|[(（]?0)(?:10|2[0-9]|[3-9][0-9]{2})[)）]?"
_EMAIL_WITHIN = re.compile(rf"([A-Za-z0-9])[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]*@((?:{_LABEL}\.)+[A-Za-z]{{2,63}})")
_MOBILE_WITHIN = re.compile(rf"(?<![0-9])({_COUNTRY}1[3-9][0-9])[ -]?[0-9]{{4}}[ -]?([0-9]{{4}})(?![0-9])")
_LANDLINE_WITHIN = re.compile(rf"(?<![0-9])({_AREA})[ -]?[2-9][0-9]{{2,3}}([0-9]{{4}})(?![0-9])")


def mask_contacts(text: str) -> str:
    """Hide the middle of every telephone number and e-mail address of a text: 138****0000, 0571-****4321, z***@x.cn.

    A landline number without its area code cannot be told from an amount of money and stays.
    """
    text = _EMAIL_WITHIN.sub(rf"\1{MASK}@\2", text)
    text = _MOBILE_WITHIN.sub(r"\1****\2", text)
    return _LANDLINE_WITHIN.sub(r"\1-****\2", text)


def mask_contact(contact: str) -> str:
    """Hide the middle of a contact; all of one whose form is not known."""
    masked = mask_contacts(contact)
    return masked if masked != contact else "****" * bool(contact)
