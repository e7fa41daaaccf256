"""What holds now and is replaced when headquarters publishes another version: the working calendar, the tree."""

from typing import Generic, TypeVar

T = TypeVar("T")


class InForce(Generic[T]):
    """The version that holds now. Safe between threads: whoever decides reads it once."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    @property
    def value(self) -> T:
        """The version in force."""
        return self._value

    def adopt(self, value: T) -> None:
        """From now on this one holds."""
        self._value = value
