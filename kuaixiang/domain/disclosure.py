"""What of a taxpayer's private data an officer is shown of many cases at once, by what he needs it for."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import name, term
from kuaixiang.domain.words import Role


class Contacts(Enum):
    """How a role sees taxpayers' contacts in an exported ledger."""

    SHOWN = "shown"
    MASKED = "masked"
    NO_LEDGER = "no ledger"
    """The ledger is not exported for this role at all."""


EXPORT: Mapping[Role, Contacts] = MappingProxyType(
    {
        Role.REGISTRAR: Contacts.SHOWN,  # tells the taxpayer (§四(一)2)
        Role.HANDLER: Contacts.SHOWN,  # gives the feedback (§四(三))
        Role.TAX_SERVICE: Contacts.SHOWN,  # calls back (§四(四))
        Role.CHANNEL: Contacts.NO_LEDGER,  # hands requests in, and knows its own
        Role.SYSTEM: Contacts.NO_LEDGER,  # is nobody who reads
    }
)
"""Who calls taxpayers sees their contacts. A role that is not named here reads and compares: it gets them masked."""


class LedgerNotForRole(Refused):
    """A ledger is asked for in a capacity in which nobody reads ledgers."""

    condition = Condition.FORBIDDEN
    field = "role"
    remedy = "Ask as an officer of the bureau, in the role you have there."
    remedy_chinese = "请以本单位人员的身份，按在本单位的岗位导出。"

    def __init__(self, role: Role) -> None:
        super().__init__(f"The ledger is not exported for the role {name(role)}.", f"“{term(role)}”岗位无权导出台账。")


def contacts_for(role: Role) -> Contacts:
    """How the role sees contacts; raises `LedgerNotForRole`."""
    contacts = EXPORT.get(role, Contacts.MASKED)
    if contacts is Contacts.NO_LEDGER:
        raise LedgerNotForRole(role)
    return contacts


def hidden_name(name: str) -> str:
    """A taxpayer's name with all but its first and last character hidden; of one of two characters the first stays."""
    plain = name.strip()
    return plain[:1] + "＊" * max(len(plain) - 2, 1) + (plain[-1:] if len(plain) > 2 else "")  # noqa: PLR2004 - as said
