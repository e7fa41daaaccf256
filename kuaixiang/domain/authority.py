"""Who may ask what of a bureau: decided by the names in a certificate and the tree, denied unless allowed."""

from dataclasses import dataclass

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.tree import BureauTree, Relation


@dataclass(frozen=True, slots=True)
class Caller:
    """What a certificate says of its holder: bureaus it serves, bureaus whose officers it stands for, hubs it runs."""

    bureaus: frozenset[str] = frozenset()
    offices: frozenset[str] = frozenset()
    hubs: frozenset[str] = frozenset()


class NotAuthorised(Refused):
    """The caller's certificate does not allow this."""

    condition = Condition.FORBIDDEN

    def __init__(self, what: str, bureau: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"This certificate does not allow its holder to {what} bureau {bureau or '(empty)'}.")


def check_officer(caller: Caller, bureau: str) -> None:
    """Acts on cases and reading them: the bureau's own officers and its own node."""
    if bureau not in caller.offices and bureau not in caller.bureaus:
        raise NotAuthorised("work on the cases of", bureau, f"Use a certificate for an office of bureau {bureau}.")


def check_peer(caller: Caller, from_bureau: str, to_bureau: str, tree: BureauTree) -> None:
    """Referrals: the node of the sending bureau, which must be the receiver's superior or subordinate."""
    if from_bureau not in caller.bureaus:
        raise NotAuthorised("speak for", from_bureau, f"Use the certificate of the node of bureau {from_bureau}.")
    known = from_bureau in tree and to_bureau in tree
    if not known or tree.relation(to_bureau, from_bureau) not in {Relation.PARENT, Relation.CHILD}:
        raise NotAuthorised("hand cases to", to_bureau, "Only its superior and its subordinates do; check the tree.")


def check_supervisor(caller: Caller, bureau: str, tree: BureauTree) -> None:
    """Journals, public parts: the bureau itself, its superiors, and the hubs above it."""
    above = tree.superiors_and_self(bureau) if bureau in tree else (bureau,)
    if not (caller.bureaus | caller.offices | caller.hubs).intersection(above):
        raise NotAuthorised("read the journal of", bureau, "Its superiors and the hubs above it may.")


def check_reader(caller: Caller, scope: str, tree: BureauTree) -> None:
    """Figures: whoever is of the scope, above it, or within it."""
    if scope not in tree or not any(
        code in tree and (tree.contains(code, scope) or tree.contains(scope, code))
        for code in caller.bureaus | caller.offices | caller.hubs
    ):
        raise NotAuthorised("read the figures of", scope, "Offices, bureaus and hubs of that scope may.")


def check_publisher(caller: Caller, scope: str) -> str:
    """Publishing figures: an office of the scope itself or its hub. Gives which of them it is."""
    for kind, codes in (("office", caller.offices), ("hub", caller.hubs)):
        if scope in codes:
            return f"{kind} {scope}"
    raise NotAuthorised("publish the figures of", scope, f"Use a certificate for an office or the hub of {scope}.")
