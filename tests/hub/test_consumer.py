"""Pulling and acknowledging: what the sites are told of the messages that a hub holds."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from hub import consumer as consumer_module
from hub.consumer import Consumer
from hub.folder import Message, Taken
from hub.worker import Worker
from tests.hub.journals import BEIJING, HEADQUARTERS

SECONDS_MAX = 60.0


class Delivered:
    """A message whose words to the site are remembered."""

    subject, data = "s", b"d"

    def __init__(self) -> None:
        self.words: list[str] = []

    async def ack(self) -> None:
        self.words.append("done")

    async def in_progress(self) -> None:
        self.words.append("in progress")

    async def nak(self) -> None:
        self.words.append("again")


class OneSite:
    """A bus whose only site gives one pull at a time."""

    def __init__(self, *pulls: list[Delivered]) -> None:
        self._pulls = [*pulls]
        self.asked = asyncio.Event()

    def durable(self, domain: str, name: str) -> "OneSite":
        return self

    async def fetch(self, batch: int, timeout_seconds: float) -> list[Delivered]:
        if not self._pulls:
            self.asked.set()
            await asyncio.sleep(timeout_seconds)
            return []
        return self._pulls.pop(0)

    async def close(self) -> None:
        pass


class SlowFolder:
    """Folds when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def take(self, messages: Sequence[Message]) -> Taken:
        assert self.let.wait(SECONDS_MAX)
        return Taken()


async def test_what_is_held_is_in_progress_until_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "PROGRESS_SECONDS", 3600.0)  # the test tells it
    being_folded, waiting, new = Delivered(), Delivered(), Delivered()
    bus, folder, worker = OneSite([being_folded], [waiting], [new]), SlowFolder(), Worker()
    anything: Any = {"bus": bus, "folder": folder}
    consumer = Consumer(**anything, worker=worker, scope=HEADQUARTERS, sites=[BEIJING])
    consumer.start()
    async with asyncio.timeout(SECONDS_MAX):
        await bus.asked.wait()
        known = [one for one in consumer.held() if id(new) not in map(id, one.deliveries)]
        await consumer.tell_progress(known)
        assert [["in progress"], ["in progress"], []] == [one.words for one in (being_folded, waiting, new)]
        folder.let.set()
        while not new.words:
            await asyncio.sleep(0.01)
        await consumer.tell_progress(known)
    await consumer.stop()
    await worker.close()
    assert [["in progress", "done"], ["in progress", "done"], ["done"]] == [
        one.words for one in (being_folded, waiting, new)
    ]


class Gated(OneSite):
    """Gives the first pull at once, the next when it is let, and each after that a moment later."""

    def __init__(self, *pulls: list[Delivered]) -> None:
        super().__init__(*pulls)
        self.let = asyncio.Event()
        self._given = 0

    async def fetch(self, batch: int, timeout_seconds: float) -> list[Delivered]:
        self._given += 1
        if self._given == 2:
            await self.let.wait()
        elif self._given > 2:
            await asyncio.sleep(0.05)
        return await super().fetch(batch, timeout_seconds)


class WatchedFolder:
    """Takes a second for its first batch, and remembers how many messages each had."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def take(self, messages: Sequence[Message]) -> Taken:
        if not self.batches:
            time.sleep(1.0)
        self.batches.append(len(messages))
        return Taken()


@pytest.mark.parametrize(("rest_seconds_max", "batches"), [(60.0, [1, 2]), (0.0, [1, 1, 1])])
async def test_what_comes_while_the_fold_rests_shares_a_transaction(
    rest_seconds_max: float, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "REST_SECONDS_MAX", rest_seconds_max)
    first, second, third = Delivered(), Delivered(), Delivered()
    bus, folder, worker = Gated([first], [second], [third]), WatchedFolder(), Worker()
    anything: Any = {"bus": bus, "folder": folder}
    consumer = Consumer(**anything, worker=worker, scope=HEADQUARTERS, sites=[BEIJING])
    consumer.start()
    async with asyncio.timeout(SECONDS_MAX):
        while not first.words:
            await asyncio.sleep(0.01)
        bus.let.set()
        while not third.words:
            await asyncio.sleep(0.01)
    await consumer.stop()
    await worker.close()
    assert batches == folder.batches
