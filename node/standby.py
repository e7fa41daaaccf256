"""A second process over the same PostgreSQL database, which waits until the one that holds the ledger is gone.

It listens on no port of officers and peers: a balancer, or a client that knows both addresses, is refused there at once
and goes to the other one. `/metrics` and `/health` say that it stands by, and show nothing else of a node that is none.
Nobody elects anybody: PostgreSQL gives the lock to one session, and only that session commits (`Database.fence`).
"""

import asyncio
import contextlib
from functools import partial
from typing import Final

import structlog
from prometheus_client import PROCESS_COLLECTOR, REGISTRY, CollectorRegistry, Gauge

from kuaixiang.runtime.database import DatabaseHeld, DatabaseUnavailable
from kuaixiang.runtime.exposition import TIME, Exposition
from node.ledger.ledger import Ledger
from node.settings import NodeSettings

LOOK_SECONDS: Final = 0.5
"""Pause between two attempts to take the ledger; each asks for the lock for a second."""
STANDS_BY: Final = "another process holds the ledger, and this one stands by"

STANDBY: Final = Gauge("kx_node_standby", "Whether this process stands by while another one holds the ledger (1).")

_log: Final = structlog.get_logger(__name__)


class ToldToStop(Exception):
    """The process was told to stop before it had a ledger."""


async def ledger_of(settings: NodeSettings, exposition: Exposition, told: asyncio.Event) -> Ledger:
    """The node's ledger, opened; with `standby` as soon as no other process holds it, however long that takes.

    Raises `ToldToStop`, and what `Ledger` raises: while it stands by, not that the database cannot be reached.
    """
    opened = partial(Ledger, settings.database, settings.bureaus, settings.data_key)
    STANDBY.set(0)
    try:
        return await asyncio.to_thread(opened)
    except DatabaseHeld:
        if not settings.standby:
            raise
    _log.info("Another process holds the ledger; this one stands by.", action="node.standby")
    STANDBY.set(1)
    before, exposition.unfit = exposition.unfit, lambda: STANDS_BY
    exposition.show(_shown())
    is_blind = False
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await told.wait()
        if told.is_set():
            raise ToldToStop
        try:
            ledger = await asyncio.to_thread(opened)
        except DatabaseHeld:
            is_blind = False
            continue
        except DatabaseUnavailable:
            if not is_blind:
                _log.warning("The database cannot be opened; nobody could take over now.", action="node.standby_blind")
            is_blind = True
            continue
        _log.warning("The ledger is free; this process takes over.", action="node.takeover")
        STANDBY.set(0)
        exposition.show(REGISTRY)
        exposition.unfit = before
        return ledger


def _shown() -> CollectorRegistry:
    """What is true of a process that stands by; the rest of a node's metrics would raise alarms about nothing."""
    shown = CollectorRegistry()
    for one in (STANDBY, TIME, PROCESS_COLLECTOR):
        shown.register(one)
    return shown
