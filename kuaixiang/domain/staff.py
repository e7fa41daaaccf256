"""Who works in a bureau: its departments with their kinds, its officers with their roles (SPEC §1).

Data of each bureau, given to `decide` with every act: who acts must be on the list, have the role that is claimed and
belong to the department that is named. A bureau that has given no list is `UNLISTED`: its terminals are believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kuaixiang.domain.errors import (
    NotInDepartment,
    NotOverseeing,
    RoleNotHeld,
    UnknownDepartment,
    UnknownOfficer,
)
from kuaixiang.domain.words import DepartmentKind, Role

RECEIVING_DEPARTMENT: Final = "tax-service"
"""Where referrals arrive at a bureau that lists no department of that kind (§五(二): tax service takes the lead)."""

STANDARD_DEPARTMENTS: Final[Mapping[str, DepartmentKind]] = {
    RECEIVING_DEPARTMENT: DepartmentKind.TAX_SERVICE,
    "policy": DepartmentKind.POLICY,
    "collection": DepartmentKind.COLLECTION,
    "information": DepartmentKind.INFORMATION,
    "legal": DepartmentKind.LEGAL,
    "inspection": DepartmentKind.INSPECTION,
    "hall": DepartmentKind.HALL,
    "leadership": DepartmentKind.LEADERSHIP,
}
"""Codes that say by themselves what kind of department they are, where a bureau has listed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """A department of a bureau, by its code."""

    code: str
    name: str
    kind: DepartmentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Officer:
    """Somebody who works in a bureau. `oversees`: the departments that a deputy head is in charge of; empty for all."""

    actor: str
    name: str
    roles: frozenset[Role]
    departments: frozenset[str]
    oversees: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """The departments and officers of a bureau; `listed` is False where it has given none."""

    version: str
    departments: Mapping[str, Department] = field(default_factory=dict)
    officers: Mapping[str, Officer] = field(default_factory=dict)
    listed: bool = True

    @property
    def receiving_department(self) -> str:
        """The tax-service department, where referrals arrive; the first one where there are several."""
        for department in self.departments.values():
            if department.kind is DepartmentKind.TAX_SERVICE:
                return department.code
        return RECEIVING_DEPARTMENT

    def kind_of(self, department: str) -> DepartmentKind:
        """The kind of a department; OTHER for one that is not known (any more)."""
        known = self.departments.get(department)
        return known.kind if known is not None else STANDARD_DEPARTMENTS.get(department, DepartmentKind.OTHER)

    def check_department(self, department: str, named_in: str) -> None:
        """A department that a case is to go to is one of the bureau's; raises `UnknownDepartment`."""
        if self.listed and department not in self.departments:
            raise UnknownDepartment(department, named_in, tuple(self.departments))

    def check_officer(self, actor: str, role: Role, department: str) -> None:
        """Who acts is who they say; raises `UnknownOfficer`, `RoleNotHeld`, `NotInDepartment`."""
        if not self.listed:
            return
        officer = self.officers.get(actor)
        if officer is None:
            raise UnknownOfficer(actor)
        if role not in officer.roles:
            raise RoleNotHeld(actor, role, tuple(sorted(officer.roles)))
        if department not in officer.departments:
            raise NotInDepartment(actor, department, tuple(sorted(officer.departments)))

    def check_oversight(self, actor: str, department: str) -> None:
        """A deputy head decides for the departments he is in charge of 分管 (§四(二)1); raises `NotOverseeing`."""
        officer = self.officers.get(actor)
        if officer is not None and officer.oversees and department not in officer.oversees:
            raise NotOverseeing(actor, department, tuple(sorted(officer.oversees)))


UNLISTED: Final = Staff(version="", listed=False)
"""A bureau that has given no list."""
