import pickle
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kuaixiang.domain.identifiers import (
    DEMO_SERIALS,
    BadTaxpayerNumber,
    ImplausibleContact,
    NumberFault,
    SerialOutOfRange,
    check_contact,
    check_taxpayer_number,
    division_of,
    make_taxpayer_number,
    mask_contact,
    mask_contacts,
    mask_name,
    mask_taxpayer_number,
)

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
DIVISIONS = st.from_regex(r"[0-9]{6}", fullmatch=True)
SERIALS = st.integers(0, DEMO_SERIALS - 1)
NUMBERS = st.builds(make_taxpayer_number, DIVISIONS, SERIALS)


def textbook_fault(number: str) -> NumberFault | None:
    """The two standards' own formulas, written out: 31 - (sum of C * 3^(i-1) mod 31) and 11 - (sum of C * W mod 11)."""
    organisation = sum(
        int(character, 36) * weight for character, weight in zip(number[8:16], (3, 7, 9, 10, 5, 8, 4, 2), strict=True)
    )
    organisation_check = {10: "X", 11: "0"}.get(11 - organisation % 11, str(11 - organisation % 11))
    if number[16] != organisation_check:
        return NumberFault.ORGANISATION_CHECK
    total = sum(ALPHABET.index(character) * 3**place for place, character in enumerate(number[:17]))
    if number[17] != ALPHABET[(31 - total % 31) % 31]:
        return NumberFault.CHECK
    return None


def refusal(check: Callable[[str], None], text: str) -> Exception | None:
    try:
        check(text)
    except (BadTaxpayerNumber, ImplausibleContact) as error:
        return error
    return None


@pytest.mark.parametrize(
    "number",
    [
        # Two well-known firms': issued by the authority, not by us.
        "91110000802100433B",
        "914403001922038216",
    ],
)
def test_an_issued_number_is_accepted(number: str) -> None:
    check_taxpayer_number(number)

    assert textbook_fault(number) is None


@given(DIVISIONS, SERIALS)
def test_an_invented_number_is_valid_and_carries_its_division(division: str, serial: int) -> None:
    number = make_taxpayer_number(division, serial)

    check_taxpayer_number(number)
    assert textbook_fault(number) is None
    assert division_of(number) == division


@given(DIVISIONS, SERIALS, SERIALS)
def test_another_serial_gives_another_number(division: str, one: int, other: int) -> None:
    assume(one != other)

    assert make_taxpayer_number(division, one) != make_taxpayer_number(division, other)


@given(NUMBERS, st.integers(8, 17), st.sampled_from(ALPHABET))
def test_a_number_is_refused_exactly_when_the_standards_formulas_do(number: str, place: int, character: str) -> None:
    changed = number[:place] + character + number[place + 1 :]

    error = refusal(check_taxpayer_number, changed)
    assert (error.reason if isinstance(error, BadTaxpayerNumber) else None) == textbook_fault(changed)


@given(NUMBERS, st.integers(0, 17), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_found(number: str, place: int, character: str) -> None:
    assume(number[place] != character)

    with pytest.raises(BadTaxpayerNumber):
        check_taxpayer_number(number[:place] + character + number[place + 1 :])


@given(NUMBERS, st.integers(0, 16))
def test_two_swapped_neighbours_are_found(number: str, place: int) -> None:
    one, other = number[place], number[place + 1]
    assume(one != other)

    with pytest.raises(BadTaxpayerNumber):
        check_taxpayer_number(number[:place] + other + one + number[place + 2 :])


GOOD = make_taxpayer_number("110101", 123456)


@pytest.mark.parametrize(
    ("number", "reason", "position"),
    [
        ("", NumberFault.LENGTH, None),
        (GOOD[:-1], NumberFault.LENGTH, None),
        (f" {GOOD}", NumberFault.LENGTH, None),
        (GOOD.replace("Y", "y"), NumberFault.CHARACTER, 9),
        (GOOD[:9] + "O" + GOOD[10:], NumberFault.CHARACTER, 10),
        (GOOD[:2] + "１" + GOOD[3:], NumberFault.CHARACTER, 3),
        (GOOD[:2] + "A" + GOOD[3:], NumberFault.DIVISION, None),
        (GOOD[:16] + ("0" if GOOD[16] != "0" else "1") + GOOD[17], NumberFault.ORGANISATION_CHECK, 17),
        (GOOD[:17] + ("0" if GOOD[17] != "0" else "1"), NumberFault.CHECK, 18),
    ],
)
def test_a_bad_number_is_refused_with_its_fault(number: str, reason: NumberFault, position: int | None) -> None:
    with pytest.raises(BadTaxpayerNumber) as caught:
        check_taxpayer_number(number)

    assert (caught.value.reason, caught.value.position) == (reason, position)
    assert reason.value in str(caught.value)


def test_a_number_is_invented_only_for_a_division_and_a_serial_in_range() -> None:
    with pytest.raises(BadTaxpayerNumber):
        make_taxpayer_number("1101", 1)
    for serial in (-1, DEMO_SERIALS):
        with pytest.raises(SerialOutOfRange, match=f"the serial {serial} is not in 0 to"):
            make_taxpayer_number("110101", serial)


@pytest.mark.parametrize(
    "contact",
    [
        "13800138000",
        "138 0013 8000",
        "199-0000-1234",
        "+8613800138000",
        "+86 138 0013 8000",
        "0086-13800138000",
        "010-62345678",
        "01062345678",
        "0755 2345678",
        "0755-82345678",
        "(0755)82345678",
        "（010）62345678",
        "021-52345678-8012",
        "+86 10 62345678",
        "li.wei@example.cn",
        "a+b_c@mail.tax-office.example.com",
    ],
)
def test_a_plausible_contact_is_accepted(contact: str) -> None:
    check_contact(contact)


@pytest.mark.parametrize(
    "contact",
    [
        "",
        " ",
        "12800138000",
        "1380013800",
        "138001380000",
        "１３８００１３８０００",
        "62345678",
        "010-12345678",
        "000-62345678",
        "同上",
        "@example.cn",
        "li wei@example.cn",
        "li.wei@example",
        "li..wei@example.cn",
        "li.wei@-example.cn",
        "13800138000\n",
        "13800138000; DROP TABLE cases",
        "a" * 250 + "@example.cn",
    ],
)
def test_an_implausible_contact_is_refused(contact: str) -> None:
    with pytest.raises(ImplausibleContact, match="the contact is not usable"):
        check_contact(contact)


@pytest.mark.parametrize("check", [check_taxpayer_number, check_contact])
@given(text=st.text("0123456789ABCXYZ@.", min_size=9, max_size=30))
def test_no_error_carries_the_private_text(check: Callable[[str], None], text: str) -> None:
    error = refusal(check, text)

    assert text not in f"{error!s} {error!r} {vars(error) if error else {}}"


def test_errors_survive_a_trip_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadTaxpayerNumber(NumberFault.CHARACTER, 3)))  # noqa: S301 our own bytes

    assert (error.reason, error.position) == (NumberFault.CHARACTER, 3)


@pytest.mark.parametrize(
    ("contact", "masked"),
    [
        ("13800000000", "138****0000"),
        ("+86 138-0000-0000", "+86 138****0000"),
        ("0571-87654321", "0571-****4321"),
        ("(0571)87654321", "(0571)-****4321"),
        ("010 62345678-123", "010-****5678-123"),
        ("li.wei@example.com.cn", "l***@example.com.cn"),
        ("13800138000@example.cn", "1***@example.cn"),
        ("", ""),
        ("同上", "****"),
    ],
)
def test_the_middle_of_a_contact_is_hidden(contact: str, masked: str) -> None:
    assert masked == mask_contact(contact)


@pytest.mark.parametrize(
    ("name", "masked"),
    [("芃沅文具店", "芃＊＊＊店"), ("王芳", "王＊"), ("欧阳澄", "欧＊澄"), ("甲", "甲＊"), ("", "")],
)
def test_the_middle_of_a_name_is_hidden(name: str, masked: str) -> None:
    assert masked == mask_name(name)


def test_a_masked_taxpayer_number_says_where_the_taxpayer_belongs_and_not_who_it_is() -> None:
    assert ("91330106**********", "") == (
        mask_taxpayer_number(make_taxpayer_number("330106", 7)),
        mask_taxpayer_number(""),
    )


def test_contacts_are_hidden_wherever_they_stand_in_a_text_and_other_numbers_stay() -> None:
    text = "请打13800138000或0571-87654321，邮箱a@b.cn；发票91330102MA2YY00074，税款20190101元，编号110101-2026-0000001"
    masked = (
        "请打138****8000或0571-****4321，邮箱a***@b.cn；发票91330102MA2YY00074，税款20190101元，编号110101-2026-0000001"
    )
    assert masked == mask_contacts(text)


@given(
    contact=st.one_of(
        st.from_regex(
            r"((\+|00)?86[ -]?)?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}", fullmatch=True, alphabet="0123456789+ -"
        ),
        st.from_regex(r"(0|86[ -]?)(10|2[0-9]|[3-9][0-9]{2})[ -]?[2-9][0-9]{6,7}", fullmatch=True),
        st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9})?@[a-z]{1,9}\.cn", fullmatch=True),
    )
)
def test_no_contact_that_can_be_registered_stays_readable(contact: str) -> None:
    check_contact(contact)
    masked = mask_contact(contact)
    assert "***" in masked
    with pytest.raises(ImplausibleContact):
        check_contact(masked)
    digits = "".join(filter(str.isdigit, contact))
    assert not digits or len("".join(filter(str.isdigit, masked))) <= len(digits) - 3
