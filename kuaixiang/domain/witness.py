"""Who witnesses whose ledger (台账见证).

A witness cosigns the end of another bureau's journal if it continues what the witness has cosigned before. It is the
nearest superior whose ledger is kept elsewhere: one in the same database would be put back to an older copy together
with what it is to witness. Headquarters has no superior; some of its direct subordinates witness its ledger.
"""

from collections.abc import Collection
from typing import Final

from kuaixiang.domain.tree import BureauTree

WITNESSES_OF_HEADQUARTERS: Final = 3
"""So many of its subordinates, so that two may be away at a time and none alone is believed to be the latest."""


def witnesses_of(tree: BureauTree, bureau: str, kept_here: Collection[str]) -> tuple[str, ...]:
    """The bureaus that witness a ledger which is kept together with those of `kept_here`; none for one that nobody can.

    Only bureaus whose nodes can be reached are.
    """
    above = (code for code in tree.ancestors(bureau) if code not in kept_here and tree.get(code).endpoint)
    nearest = next(above, None)
    if nearest is not None:
        return (nearest,)
    if bureau != tree.root:
        return ()
    below = (code for code in tree.children(bureau) if code not in kept_here and tree.get(code).endpoint)
    return tuple(code for code, _ in zip(below, range(WITNESSES_OF_HEADQUARTERS), strict=False))
