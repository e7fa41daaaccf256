"""Dropping what the hub has folded and folding it again from the ledgers, which are the authority.

For a stopped hub: it takes the database for itself. A bureau whose ledger cannot be reached keeps the figures it has
and is named; nothing is dropped that cannot be folded again. A quarantine ends here, if the ledger now verifies.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hub.fold import Poison
from hub.folder import Folder
from hub.ledgers import Ledgers, LedgerUnreachable
from hub.refill import Refiller
from hub.settings import HubSettings
from hub.store import Store
from hub.worker import Together, Worker
from kuaixiang.runtime.clock import clock_from, to_micros
from kuaixiang.wire.v1.journal_pb2 import Head

CONCURRENT_MAX: Final = 32
"""Ledgers read at a time: what has come of all of them is folded in one transaction, so that a county with a thousand
entries takes a small part of one; at most some 160,000 entries are in memory."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did."""

    bureaus: int = 0
    entries: int = 0
    seconds: float = 0.0
    unreachable: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Bureaus whose journal contradicts itself, and how."""


async def rebuild(
    settings: HubSettings, bureaus: tuple[str, ...] = (), told: Callable[[int, int, str], None] = lambda *_: None
) -> Rebuilt:
    """Fold bureaus again, all of the scope by default; `told` hears (done, of how many, bureau) after each.

    Raises `DatabaseHeld` while the hub runs, and what opening the database and the certificates raise.
    """
    clock = clock_from(settings.clock)
    found = Rebuilt()
    started = time.perf_counter()
    async with contextlib.AsyncExitStack() as stack:
        store = stack.enter_context(Store(settings.database, settings.load_tree(), settings.scope))
        worker = Worker()
        stack.push_async_callback(worker.close)
        ledgers = Ledgers(store.trees, settings.certificate_paths)
        stack.push_async_callback(ledgers.close)
        wanted = bureaus or store.tree.subtree(settings.scope)
        folder = Folder(store=store, now_us=lambda: to_micros(clock.now()))
        refiller = Refiller(
            folder=folder,
            worker=worker,
            ledgers=ledgers,
            bureaus=lambda: wanted,
            refill_after_seconds=settings.refill_after_seconds,
            silent_after_seconds=settings.silent_after_seconds,
        )
        forgetting = Together(worker, folder.forget_all)
        done = 0
        slots = asyncio.Semaphore(CONCURRENT_MAX)

        async def one(bureau: str) -> None:
            nonlocal done
            async with slots:
                await _again(bureau, folder, forgetting, refiller, found)
            done += 1
            told(done, len(wanted), bureau)

        async with asyncio.TaskGroup() as group:
            for bureau in wanted:
                group.create_task(one(bureau))
        # Once more, one after the other: a node that answered too late may have been busy with several at once.
        late, found.unreachable = sorted(found.unreachable), []
        for bureau in late:
            await _again(bureau, folder, forgetting, refiller, found)
    found.seconds = time.perf_counter() - started
    return found


async def _again(
    bureau: str, folder: Folder, forgetting: Together[str, None], refiller: Refiller, found: Rebuilt
) -> None:
    try:
        head = await refiller.head(bureau)
        await forgetting.do(bureau)
        folded = await _read_on(bureau, folder, refiller, head)
        found.entries += folded  # only now: other bureaus have been counted meanwhile
    except LedgerUnreachable:
        found.unreachable.append(bureau)
    except Poison as poison:
        found.refused[bureau] = str(poison)
    else:
        found.bureaus += 1
        if folder.mark(bureau).quarantine:
            found.refused[bureau] = folder.mark(bureau).quarantine


async def _read_on(bureau: str, folder: Folder, refiller: Refiller, head: Head) -> int:
    """Fold a ledger to its end, from where the line broke as often as it has brought something; how many entries.

    Raises `LedgerUnreachable`, `Poison`.
    """
    folded = 0
    while True:
        before = folder.mark(bureau).seq
        try:
            return folded + await refiller.read_on(bureau, head)
        except LedgerUnreachable:
            came = folder.mark(bureau).seq - before
            if not came:
                raise
            folded += came
