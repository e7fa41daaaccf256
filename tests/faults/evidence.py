"""What must hold after any faults, held against journals and answers by the checker (`tests.faults.checker`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kuaixiang.domain.case import Case
from tests.faults.checker.check import faults_in
from tests.faults.checker.history import Came, History, Journal, Operation

__all__ = ["Answered", "Journal", "faults_found", "fold"]


@dataclass(frozen=True, slots=True)
class Answered:
    """An act that a node said is durable. `actor` did nothing else, so that its entries are found by it.

    `may_be_so`: it changes nothing where somebody had done the same before, and then has no entry.
    """

    bureau: str
    case_id: str
    actor: str
    seq: int
    may_be_so: bool = False


def fold(journals: Mapping[str, Journal]) -> Mapping[str, Mapping[str, Case]]:
    """Each case in each ledger that knows it, by case and bureau."""
    return History(journals=journals).cases


def faults_found(
    journals: Mapping[str, Journal], answered: Sequence[Answered], refused: Sequence[str] = ()
) -> list[str]:
    """Every sentence that the journals refute; empty when all is well. `refused`: actors whose one act was refused."""
    operations = [
        Operation(
            actor=one.actor,
            bureau=one.bureau,
            act="an act",
            came=Came.OK,
            case_id=one.case_id,
            seq=one.seq,
            may_be_so=one.may_be_so,
        )
        for one in answered
    ]
    operations += [Operation(actor=actor, bureau="", act="an act", came=Came.REFUSED) for actor in refused]
    return faults_in(History(operations=operations, journals=journals))
