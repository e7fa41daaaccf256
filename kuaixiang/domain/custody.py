"""Custody: at every instant exactly one bureau is responsible for a case (SPEC §5).

The sender freezes the case (OWNED → OFFERED) before the offer leaves; only the receiver's recorded decision moves it:
RELEASED when accepted, OWNED again when refused. The sender never takes a case back because an answer is late. Each
accepted hand-over raises the case's epoch by one, so that an old message is told from a new one.
"""

from dataclasses import dataclass
from itertools import pairwise

from kuaixiang.domain.tree import BureauTree, Relation
from kuaixiang.domain.words import Custody, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferFacts:
    """What a receiver judges an offer by. `path` lists the bureaus of this journey, the sender last.

    `ruled_by` is the superior whose ruling sends the case; empty for none.
    """

    from_bureau: str
    to_bureau: str
    final_bureau: str
    path: tuple[str, ...]
    epoch: int
    ruled_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a ledger knows of a case that it has or had. `epoch` counts the hand-overs up to its own last part in it."""

    custody: Custody
    epoch: int


def judge(offer: OfferFacts, bureau: str, holding: Holding | None, tree: BureauTree, hops_max: int) -> Refusal | None:
    """Decides an offer by rule, at once. None: accepted.

    A person's "not mine" is not decided here: it is a referral back, at the next epoch.
    """
    route = judge_route(offer, bureau, tree, hops_max)
    return route if route is not None else judge_epoch(offer.epoch, holding)


def judge_route(offer: OfferFacts, bureau: str, tree: BureauTree, hops_max: int) -> Refusal | None:
    """The part of the judgement that rests on the tree."""
    if offer.from_bureau not in tree or offer.final_bureau not in tree or offer.to_bureau != bureau:
        return Refusal.WRONG_ADDRESSEE
    if tree.relation(bureau, offer.from_bureau) not in {Relation.PARENT, Relation.CHILD}:
        return Refusal.NOT_ADJACENT
    if not offer.path or offer.path[-1] != offer.from_bureau or any(code not in tree for code in offer.path):
        # The loop and hop rules rest on the path; one that does not end with the sender is not the case's way here.
        return Refusal.INVALID
    if offer.ruled_by and not _comes_down(offer, bureau, tree):
        return Refusal.INVALID
    if bureau in offer.path:
        return Refusal.LOOP
    if len(offer.path) >= hops_max:
        return Refusal.TOO_MANY_HOPS
    if offer.final_bureau != bureau and tree.next_hop(bureau, offer.final_bureau) == offer.from_bureau:
        return Refusal.WRONG_ADDRESSEE
    return None


def _comes_down(offer: OfferFacts, bureau: str, tree: BureauTree) -> bool:
    """Whether a ruling comes as rulings do: from the superior that ruled, straight down, each bureau from its parent.

    Otherwise any neighbour could bind a bureau to a case by the name of a superior of both, and by a longer way pass an
    old ruling off as a new one: the superior has signed its own epoch, from which each bureau on the way counts.
    """
    way = (*offer.path, bureau)
    return offer.path[0] == offer.ruled_by and all(tree.parent(below) == above for above, below in pairwise(way))


def judge_epoch(epoch: int, holding: Holding | None) -> Refusal | None:
    """The part of the judgement that rests on what this ledger knows of the case.

    An offer two or more epochs above mine while my own offer is undecided proves that mine was accepted: somebody
    else could not have had the case to offer.
    """
    if holding is None:
        return None
    if epoch <= holding.epoch:
        return Refusal.STALE_EPOCH
    match holding.custody:
        case Custody.RELEASED:
            return None
        case Custody.OFFERED:
            return None if proves_acceptance(epoch, holding.epoch) else Refusal.CONFLICT
        case Custody.OWNED:
            return Refusal.CONFLICT


def proves_acceptance(epoch_seen: int, epoch_held: int) -> bool:
    """Whether an offer seen at `epoch_seen` proves that my outstanding offer, made at `epoch_held`, was accepted."""
    return epoch_seen >= epoch_held + 2
