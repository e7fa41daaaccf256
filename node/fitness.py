"""Whether the node can take acts, told to whoever looks at its health, before an officer finds out by an act."""

import asyncio
import contextlib
from typing import Final

from kuaixiang.runtime.database import Database, DatabaseNotWritable
from kuaixiang.runtime.loops import Loop
from kuaixiang.runtime.serving import Health
from node.federation.cosigner import Cosigner

LOOK_SECONDS: Final = 1.0
"""A look asks the file system for two numbers."""


class Fitness:
    """Says the node's health: its ledgers are the latest, and their database takes writes. `step` is one look."""

    def __init__(self, health: Health, database: Database, cosigner: Cosigner) -> None:
        self._health = health
        self._database = database
        self._cosigner = cosigner
        self._loop = Loop("fitness", self.step, LOOK_SECONDS)
        cosigner.listeners.append(self.say)

    def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()

    async def say(self) -> None:
        """Say it as it is known to be."""
        await self._health.say(healthy=self._cosigner.takes_acts and self._database.unwritable is None)

    async def step(self) -> bool:
        """Look at the disk, and say what follows; there is never more."""
        with contextlib.suppress(DatabaseNotWritable):  # said in the log when it began
            await asyncio.to_thread(self._database.check_writable)
        await self.say()
        return False
