"""Watches the links between the sites, at the NATS server's own monitoring page `/leafz`.

A leaf that dials a flaky line can stop dialling without a word: then the province goes on, its clients are connected,
its stream takes everything, and nothing leaves. The hub sees only that it is silent; this says why.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Final
from urllib.request import urlopen

import structlog
from prometheus_client import Gauge

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.loops import Loop

INTERVAL_SECONDS: Final = 15.0
"""As often as Prometheus asks."""
ANSWER_SECONDS_MAX: Final = 5.0
"""The server is in the same data centre."""

LINKS: Final = Gauge(
    "kx_nats_leaf_links", "Leaf links of the site's NATS server that are up; 0 while the server does not answer."
)
EXPECTED: Final = Gauge(
    "kx_nats_leaf_links_expected", "Leaf links that it should have: a province's one, the national site's one to each."
)

_log: Final = structlog.get_logger(__name__)


class LeafWatch:
    """Shows how many leaf links the server at `monitor_url` has, and how many the tree in force says it should have."""

    def __init__(
        self, monitor_url: str, tree: Callable[[], BureauTree], site: str, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._url = f"{monitor_url.rstrip('/')}/leafz"
        self._tree = tree
        self._site = site
        self._answered = True
        self._loop = Loop("leaf-watch", self.step, interval_seconds)

    async def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the look under way end."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Look once; never more to do at once."""
        tree = self._tree()
        EXPECTED.set(len(tree.sites()) - 1 if self._site == tree.root else 1)
        try:
            links = await asyncio.to_thread(self._links)
        except (OSError, ValueError) as failure:
            # Without its server a site has no link either.
            links = 0
            if self._answered:
                _log.warning(
                    "The site's NATS server does not show its leaf links.",
                    action="nats.leafz",
                    url=self._url,
                    reason=type(failure).__name__,
                )
            self._answered = False
        else:
            self._answered = True
        LINKS.set(links)
        return False

    def _links(self) -> int:
        with urlopen(self._url, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310 - the setting takes http alone
            return len(json.load(answer).get("leafs") or ())
