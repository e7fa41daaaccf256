"""Who may step in at the board in the demonstration: two leaders of each bureau that reads figures, no password."""

from typing import Final

from kuaixiang.accounts.people import Person
from kuaixiang.domain.tree import BureauTree, Tier
from kuaixiang.domain.words import Role

AT_THE_BOARD: Final = frozenset({Role.TAX_SERVICE, Role.DEPUTY_HEAD, Role.BUREAU_HEAD, Role.SUPERVISOR, Role.AUDITOR})
"""Who has to do with figures and with the cases of others."""
COUNTIES_MAX: Final = 40
"""Bureaus below a provincial hub's own are listed up to so many: nobody looks for his own among hundreds."""
ACTORS: Final = {"S01": Role.SUPERVISOR, "D01": Role.DEPUTY_HEAD}
"""Their numbers on the demonstration's list of staff, so that the desk knows the same colleagues: some of what is done
here takes two."""
DEPARTMENT: Final = "leadership"


class Supervisors:
    """Two leaders of each bureau that reads the hub's figures."""

    def __init__(self, tree: BureauTree, scope: str, *, demonstration: bool) -> None:
        self._people = _supervisors(tree, scope) if demonstration else []

    def people(self) -> list[Person]:
        """Who may step in now; nobody outside the demonstration."""
        return self._people

    def knows(self, person: Person) -> bool:
        """Whether the person is one of them."""
        return person in self._people


def _supervisors(tree: BureauTree, scope: str) -> list[Person]:
    everyone = tree.subtree(scope)
    few = tree.get(scope).tier is not Tier.NATIONAL and len(everyone) <= COUNTIES_MAX
    return [
        Person(bureau=code, actor=actor, name=actor, role=role, department=DEPARTMENT)
        for code in everyone
        for actor, role in ACTORS.items()
        if few or code == scope or tree.get(code).tier is Tier.PROVINCIAL
    ]
