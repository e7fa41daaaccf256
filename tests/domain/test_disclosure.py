"""Who sees taxpayers' contacts in a whole ledger: those who call them, and nobody else."""

import pytest

from kuaixiang.domain.disclosure import Contacts, LedgerNotForRole, contacts_for
from kuaixiang.domain.words import Role

CALLERS = {Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}
NOBODY = {Role.CHANNEL, Role.SYSTEM}


@pytest.mark.parametrize("role", sorted(CALLERS))
def test_who_calls_taxpayers_sees_their_contacts(role: Role) -> None:
    assert Contacts.SHOWN is contacts_for(role)


@pytest.mark.parametrize("role", sorted(set(Role) - CALLERS - NOBODY))
def test_everybody_else_of_the_bureau_gets_them_masked(role: Role) -> None:
    assert Contacts.MASKED is contacts_for(role)


@pytest.mark.parametrize("role", sorted(NOBODY))
def test_a_channel_and_the_system_get_no_ledger(role: Role) -> None:
    with pytest.raises(LedgerNotForRole) as refused:
        contacts_for(role)
    assert ("LedgerNotForRole", "role") == (refused.value.rule, refused.value.field)
    assert all((refused.value.remedy, refused.value.remedy_chinese, refused.value.chinese))
