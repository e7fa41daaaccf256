"""A person in one capacity, and the capacities that somebody has by the bureau's list of staff."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kuaixiang.domain.staff import Staff
from kuaixiang.domain.words import Role

OF_PROGRAMS: Final = frozenset({Role.CHANNEL, Role.SYSTEM})
"""Roles in which nobody sits at a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody at the pages, in one capacity: an officer of a bureau, or whoever reads the figures of a scope."""

    bureau: str
    actor: str
    name: str
    role: Role
    department: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who somebody is by an identity provider. Without `roles` the bureau's list of staff says what they are."""

    bureau: str
    actor: str
    name: str = ""
    roles: frozenset[Role] = frozenset()
    departments: frozenset[str] = frozenset()


def roles_of(staff: Staff, claims: Claims) -> frozenset[Role]:
    """The roles that somebody has in his bureau now: none for who is not on its list, if it has one.

    What a provider claims never goes beyond the list: the bureau knows better who works there.
    """
    if not staff.listed:
        return claims.roles
    officer = staff.officers.get(claims.actor)
    if officer is None:
        return frozenset()
    return officer.roles & claims.roles if claims.roles else officer.roles


def capacities(staff: Staff, claims: Claims, roles: Iterable[Role] = Role) -> list[Person]:
    """Each role with each department that somebody has, those of `roles` alone; empty for who is nobody here."""
    officer = staff.officers.get(claims.actor)
    departments = officer.departments if officer is not None else claims.departments
    name = (officer.name if officer is not None else claims.name) or claims.actor
    held = (roles_of(staff, claims) & frozenset(roles)) - OF_PROGRAMS
    return [
        Person(bureau=claims.bureau, actor=claims.actor, name=name, role=role, department=department)
        for role in sorted(held)
        for department in sorted(departments)
    ]
