"""An event loop without a selector, threads or real time: what happens next follows from what has happened.

Time stands still while anything is ready and jumps to the next timer when nothing is. Work for threads is done on the
loop itself, at its turn. So a run is a function of what was put into it.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any


class NothingLeft(Exception):
    """Nothing is ready and no timer runs: whoever waits would wait for ever."""


class _Timers:
    """What stands in the place of the selector: instead of waiting, it moves the time on."""

    def __init__(self, loop: "SimulatedLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise NothingLeft
        if timeout > 0:
            self._loop.now = max(self._loop.now, self._loop.next_timer())
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """`now` is its time in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Timers(self)

    def time(self) -> float:
        return self.now

    def spawn(self, work: Coroutine[Any, Any, Any], context: contextvars.Context | None = None) -> None:
        """Lets something run that nobody waits for."""
        _ = self.create_task(work, context=context)

    def next_timer(self) -> float:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return timers[0].when() if timers else self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as failure:
                future.set_exception(failure)
            else:
                future.set_result(result)

        self.call_soon(run)
        return future

    def _process_events(self, events: Any) -> None:
        """There are none from outside."""

    def _write_to_self(self) -> None:
        """Nothing sleeps that would have to be woken."""
