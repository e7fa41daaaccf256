"""What headquarters publishes that a hub goes by: the tree of bureaus. It is asked for, as nodes ask for it.

The bureau of the scope and its superiors are asked in turn, and the first that answers is enough: what it has is signed
by headquarters. A tree that is newer than the one in force is kept with the figures, which are summed up anew for the
superiors that it names, and holds from then on for everything that the hub does.
"""

import random
from collections.abc import Callable
from typing import Final

import structlog

from hub.ledgers import Ledgers, LedgerUnreachable
from hub.store import Store
from hub.worker import Worker
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.succession import check_adoption, newer
from kuaixiang.domain.words import DirectiveKind
from kuaixiang.runtime.directives import DIRECTIVES_REFUSED, LOOKS_UNANSWERED, TREES_NOT_ADOPTED, checked, tree_of
from kuaixiang.runtime.loops import Loop
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.v1.directive_pb2 import SignedDirective

LOOK_SECONDS: Final = 60.0
"""How often a hub asks: there are some forty hubs, and a figure by the wrong superior is worth a question a minute."""
SPREAD: Final = 0.2
"""Share by which each pause is moved at random."""

_LOG: Final = structlog.get_logger(__name__)


class TreeFollower:
    """Looks for a newer tree and adopts it; `adopted` is told after each. `step` is one look."""

    def __init__(
        self, *, store: Store, worker: Worker, ledgers: Ledgers, seal: Seal, adopted: Callable[[], None]
    ) -> None:
        self._store = store
        self._worker = worker
        self._ledgers = ledgers
        self._seal = seal
        self._adopted = adopted
        self._loop = Loop("hub-tree", self.step, LOOK_SECONDS)

    async def __aenter__(self) -> None:
        self._loop.start()

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()

    async def step(self) -> bool:
        """Ask, and adopt what is newer; never more to do at once."""
        self._loop.interval_seconds = LOOK_SECONDS * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - pacing
        tree = self._store.tree
        for bureau in tree.superiors_and_self(self._store.scope):
            if not self._ledgers.has(bureau):
                continue
            try:
                found = await self._ledgers.trees(bureau, self._store.tree_published_at_us)
            except LedgerUnreachable as unreachable:
                _LOG.info("A node gave no directives.", action="hub.tree", bureau=bureau, reason=str(unreachable))
                continue
            for signed in found:
                await self._take(signed)
            return False
        LOOKS_UNANSWERED.inc()
        return False

    async def _take(self, signed: SignedDirective) -> None:
        in_force = self._store.tree
        try:
            published = checked(signed, self._seal, in_force.root)
            if published.about[0] != DirectiveKind.TREE:
                return
            tree = tree_of(published.content.tree)
        except Refused as refusal:
            DIRECTIVES_REFUSED.inc()
            _LOG.warning("A tree is not taken.", action="hub.tree.refused", rule=refusal.rule, reason=str(refusal))
            return
        if not newer(tree, in_force):
            return
        try:
            check_adoption(tree, in_force, in_force.subtree(self._store.scope))
        except Refused as refusal:
            TREES_NOT_ADOPTED.inc()
            _LOG.error(
                "A tree of bureaus cannot be adopted here.",
                action="hub.tree.refused",
                version=tree.version,
                rule=refusal.rule,
                reason=str(refusal),
            )
            return
        await self._worker.run(self._store.adopt, tree, published)
        self._adopted()
        _LOG.info("A tree of bureaus is adopted.", action="hub.tree", version=tree.version, bureaus=len(tree))
