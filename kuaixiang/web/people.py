"""Who steps in at the pages of a demonstration, without a password."""

from collections.abc import Sequence
from typing import Protocol

from kuaixiang.accounts.people import Person


class SignIn(Protocol):
    """How somebody becomes a person of the pages where nobody signs in."""

    def people(self) -> Sequence[Person]:
        """Who may step in without a password, in the demonstration; empty elsewhere."""
        ...

    def knows(self, person: Person) -> bool:
        """Whether the person is still somebody here, in that capacity."""
        ...
