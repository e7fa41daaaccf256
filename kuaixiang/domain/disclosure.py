"""What of a taxpayer's private data an officer is shown, by what he needs it for; and how it is masked for the others.

One table for every way to read: a case, its files, a whole ledger.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.events import Private
from kuaixiang.domain.identifiers import mask_contact, mask_contacts, mask_name, mask_taxpayer_number
from kuaixiang.domain.labels import Both, name, term
from kuaixiang.domain.words import Disclosure, Role

READS: Mapping[Role, Disclosure | None] = MappingProxyType(
    {
        Role.REGISTRAR: Disclosure.FULL,  # tells the taxpayer (§四(一)2)
        Role.HANDLER: Disclosure.FULL,  # gives the feedback (§四(三))
        Role.TAX_SERVICE: Disclosure.FULL,  # calls back (§四(四))
        Role.CHANNEL: None,  # hands requests in, and knows its own
        Role.SYSTEM: None,  # is nobody who reads
    }
)
"""Who calls taxpayers reads their data in clear. A role that is not named decides or compares: it reads them masked."""


class LedgerNotForRole(Refused):
    """A ledger is asked for in a capacity in which nobody reads ledgers."""

    condition = Condition.FORBIDDEN
    field = "role"
    remedy = "Ask as an officer of the bureau, in the role you have there."
    remedy_chinese = "请以本单位人员的身份，按在本单位的岗位导出。"

    def __init__(self, role: Role) -> None:
        super().__init__(f"The ledger is not exported for the role {name(role)}.", f"“{term(role)}”岗位无权导出台账。")


class PrivateNotForRole(Refused):
    """Private data are asked for in a capacity that does not read them so; `most` is how it reads them, if at all."""

    condition = Condition.FORBIDDEN
    field = "role"

    def __init__(self, role: Role, most: Disclosure | None) -> None:
        if most is None:
            super().__init__(
                f"Private data are not shown to the role {name(role)}.", f"“{term(role)}”岗位无权查看隐私信息。"
            )
            self.remedy, self.remedy_chinese = Both(
                "Ask as an officer of the bureau, in the role you have there.",
                "请以本单位人员的身份，按在本单位的岗位查看。",
            )
            return
        super().__init__(
            f"Private data are shown to the role {name(role)} masked, not in clear, and files not at all.",
            f"“{term(role)}”岗位只能查看脱敏后的隐私信息，不能查看明文和附件内容。",
        )
        self.remedy, self.remedy_chinese = Both(
            "Ask for them masked. The roles that call taxpayers read them in clear.",
            "请查看脱敏信息；需联系纳税人的岗位方可查看明文。",
        )


def export_for(role: Role) -> Disclosure:
    """How the role gets an exported ledger; raises `LedgerNotForRole`."""
    most = READS.get(role, Disclosure.MASKED)
    if most is None:
        raise LedgerNotForRole(role)
    return most


def check_disclosure(role: Role, wanted: Disclosure) -> None:
    """The role may read private data in that way; raises `PrivateNotForRole`."""
    most = READS.get(role, Disclosure.MASKED)
    if most is None or wanted > most:
        raise PrivateNotForRole(role, most)


def masked(private: Private) -> Private:
    """The same with the middle of name, number and contact hidden, and of every contact that stands in a text.

    A name that somebody wrote into a text stays: whoever decides about the case must understand it.
    """
    return replace(
        private,
        taxpayer_name=mask_name(private.taxpayer_name),
        taxpayer_number=mask_taxpayer_number(private.taxpayer_number),
        contact=mask_contact(private.contact),
        text=mask_contacts(private.text),
        place=mask_contacts(private.place),
        # Some channels number a request by the telephone that it came from.
        channel_reference=mask_contacts(private.channel_reference),
        note=mask_contacts(private.note),
        attachments=tuple(replace(file, name=mask_contacts(file.name)) for file in private.attachments),
    )
