"""Who reads private data in clear: those who call taxpayers, and nobody else; and what is left of them when masked."""

import pytest

from kuaixiang.domain.disclosure import (
    LedgerNotForRole,
    PrivateNotForRole,
    check_disclosure,
    export_for,
    masked,
)
from kuaixiang.domain.events import Attachment, Private
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.words import Disclosure, Role

CALLERS = {Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}
NOBODY = {Role.CHANNEL, Role.SYSTEM}
OTHERS = set(Role) - CALLERS - NOBODY


@pytest.mark.parametrize("role", sorted(CALLERS))
def test_who_calls_taxpayers_reads_their_data_in_clear(role: Role) -> None:
    check_disclosure(role, Disclosure.FULL)
    check_disclosure(role, Disclosure.MASKED)
    assert Disclosure.FULL is export_for(role)


@pytest.mark.parametrize("role", sorted(OTHERS))
def test_everybody_else_of_the_bureau_reads_them_masked_alone(role: Role) -> None:
    check_disclosure(role, Disclosure.MASKED)
    assert Disclosure.MASKED is export_for(role)
    with pytest.raises(PrivateNotForRole) as refused:
        check_disclosure(role, Disclosure.FULL)
    assert ("PrivateNotForRole", "role") == (refused.value.rule, refused.value.field)
    assert "masked" in refused.value.remedy
    assert "脱敏" in refused.value.remedy_chinese


@pytest.mark.parametrize("wanted", Disclosure)
@pytest.mark.parametrize("role", sorted(NOBODY))
def test_a_channel_and_the_system_read_nothing_private(role: Role, wanted: Disclosure) -> None:
    with pytest.raises(PrivateNotForRole) as refused:
        check_disclosure(role, wanted)
    assert all((refused.value.remedy, refused.value.remedy_chinese, refused.value.chinese))


@pytest.mark.parametrize("role", sorted(NOBODY))
def test_a_channel_and_the_system_get_no_ledger(role: Role) -> None:
    with pytest.raises(LedgerNotForRole) as refused:
        export_for(role)
    assert ("LedgerNotForRole", "role") == (refused.value.rule, refused.value.field)
    assert all((refused.value.remedy, refused.value.remedy_chinese, refused.value.chinese))


def test_masked_data_hold_no_contact_no_name_and_no_number_and_say_the_same_otherwise() -> None:
    said = "请回电13912345678或 li.si@example.cn"
    file = Attachment(digest="d", name="合同13912345678.pdf", media_type="application/pdf", size_bytes=1)
    private = Private(
        taxpayer_name="晨光文具店",
        taxpayer_number=make_taxpayer_number("330106", 7),
        contact="0571-87654321",
        text=said,
        place="330106",
        channel_reference="13912345678",
        note=said,
        attachments=(file,),
    )
    expected = Private(
        taxpayer_name="晨＊＊＊店",
        taxpayer_number="91330106**********",
        contact="0571-****4321",
        text="请回电139****5678或 l***@example.cn",
        place="330106",
        channel_reference="139****5678",
        note="请回电139****5678或 l***@example.cn",
        attachments=(Attachment(digest="d", name="合同139****5678.pdf", media_type="application/pdf", size_bytes=1),),
    )
    assert expected == masked(private)


def test_what_is_empty_stays_empty_when_masked() -> None:
    assert Private() == masked(Private())
