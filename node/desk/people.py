"""Who may step in at the desk in the demonstration: everybody on the bureaus' lists of staff, without a password."""

from collections.abc import Callable, Sequence

from kuaixiang.accounts.people import Person
from kuaixiang.domain.staff import Staff
from kuaixiang.domain.words import Role

AT_NO_DESK = frozenset({Role.CHANNEL, Role.SYSTEM})
"""Roles of programs."""


class Listed:
    """The officers of the node's bureaus, each once for each role and department."""

    def __init__(self, bureaus: Sequence[str], staff: Callable[[str], Staff], *, demonstration: bool) -> None:
        self._bureaus = tuple(bureaus)
        self._staff = staff
        self._demonstration = demonstration

    def people(self) -> list[Person]:
        """Who may step in now; nobody outside the demonstration."""
        if not self._demonstration:
            return []
        return [
            Person(
                bureau=bureau, actor=officer.actor, name=officer.name or officer.actor, role=role, department=department
            )
            for bureau in self._bureaus
            for officer in self._staff(bureau).officers.values()
            for role in sorted(officer.roles - AT_NO_DESK)
            for department in sorted(officer.departments)
        ]

    def knows(self, person: Person) -> bool:
        """Whether the list still has the officer, with that role and in that department."""
        if not self._demonstration or person.bureau not in self._bureaus:
            return False
        officer = self._staff(person.bureau).officers.get(person.actor)
        return officer is not None and person.role in officer.roles and person.department in officer.departments
