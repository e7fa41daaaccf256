"""A background chore: sleep, do one complete step, again.

The chore is the step, which a test calls by itself. The loop around it only decides when: at once while the step says
that there is more, after the interval otherwise, sooner when it is woken, later after a failure. A failure is logged
and counted and the loop goes on; it is never passed over in silence.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Self

import structlog
from prometheus_client import Counter, Gauge

BACKOFF_SECONDS_MIN: Final = 0.1
"""After the first failure: short, since most failures are a peer restarting."""

BACKOFF_SECONDS_MAX: Final = 30.0
"""A chore that fails all the time costs two attempts a minute and is back half a minute after its cause is gone."""

BACKOFF_SPREAD: Final = 0.2
"""Share by which each pause is moved at random, so that the loops of 3,000 bureaus do not return in step."""

TOGETHER_SECONDS: Final = 1.0
"""Loops that rest for so long, or longer, go on at whole multiples of it since the process began. Of a process in which
nothing happens, waking up is most of the cost: a dozen chores then wake it once a second, not a dozen times."""

STOP_SECONDS_MAX: Final = 10.0
"""A step may finish what it is doing for so long before it is cancelled."""

STEPS: Final = Counter("kx_loop_steps_total", "Steps that a background loop completed.", ["loop"])
FAILURES: Final = Counter("kx_loop_failures_total", "Steps of a background loop that failed.", ["loop"])
LAST_SUCCESS: Final = Gauge(
    "kx_loop_last_success_timestamp_seconds", "When a background loop last completed a step, Unix time.", ["loop"]
)

_BEGAN: Final = time.monotonic()
"""Processes that began one after the other do not wake together."""

CANCEL_AGAIN_SECONDS: Final = 1.0
"""What is told to end and goes on is told again after so long."""

_log: Final = structlog.get_logger(__name__)

Step = Callable[[], Awaitable[bool]]
"""One complete piece of work; whether there is more to do at once."""


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks until they have ended: `asyncio.wait_for` of Python 3.11 can swallow a cancellation.

    How they ended is nobody's concern any more.
    """
    ending = set(tasks)
    left = {task for task in ending if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*ending, return_exceptions=True)  # asyncio would tell of failures that nobody has looked at


def doubled(failures: int, seconds_min: float, seconds_max: float) -> float:
    """The pause in seconds after so many failures in a row (1 or more): doubled by each, up to the maximum."""
    # The exponent is bounded too: 2**1024 is no float.
    return min(seconds_min * 2.0 ** min(failures - 1, 32), seconds_max)


class Loop:
    """Calls `step` every `interval_seconds` (real time), at once again while it returns True.

    An interval of `TOGETHER_SECONDS` or more may be shorter or longer by half of that, to end with those of others.
    `wake` makes the next step come now. After n failures in a row the pause is `backoff_seconds_min` * 2**(n-1), at
    most `backoff_seconds_max`; a wake does not shorten that. As a context manager the loop runs inside the block.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        interval_seconds: float,
        *,
        backoff_seconds_min: float = BACKOFF_SECONDS_MIN,
        backoff_seconds_max: float = BACKOFF_SECONDS_MAX,
    ) -> None:
        self.name = name
        self.step = step
        self.interval_seconds = interval_seconds
        self.failures_in_a_row = 0
        self._backoff_seconds_min = backoff_seconds_min
        self._backoff_seconds_max = backoff_seconds_max
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = FAILURES.labels(name)
        self._steps = STEPS.labels(name)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Whether the loop was started and not stopped."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin with a step now. Repeats do nothing."""
        if not self.running:
            self._stopping.clear()
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"loop {self.name}")

    def wake(self) -> None:
        """Let the next step come now; during a step, right after it. Only from the event loop's own thread."""
        self._woken.set()

    async def stop(self, timeout_seconds: float = STOP_SECONDS_MAX) -> None:
        """Let the current step finish, cancel it when the time is over. Repeats do nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        self._woken.set()
        done, _ = await asyncio.wait({task}, timeout=timeout_seconds)
        if not done:
            _log.warning("A step did not end in time and is cancelled.", action="loop.stop", loop=self.name)
            await end_tasks((task,))

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            more = await self._step()
            if self.failures_in_a_row:
                await self._pause(self._backoff_seconds(), self._stopping)
            elif more:
                await asyncio.sleep(0)  # the others of this event loop get their turn
            else:
                await self._pause(self._rest_seconds(), self._woken)

    async def _step(self) -> bool:
        try:
            more = await self.step()
        except Exception:  # noqa: BLE001 (a chore goes on whatever its step raises; it is logged and counted)
            self.failures_in_a_row += 1
            self._failures.inc()
            _log.exception(
                "A step failed; it is tried again.",
                action="loop.failed",
                loop=self.name,
                failures_in_a_row=self.failures_in_a_row,
            )
            return False
        self.failures_in_a_row = 0
        self._steps.inc()
        LAST_SUCCESS.labels(self.name).set(time.time())
        return more

    def _rest_seconds(self) -> float:
        if self.interval_seconds < TOGETHER_SECONDS:
            return self.interval_seconds
        since = asyncio.get_running_loop().time() - _BEGAN
        return TOGETHER_SECONDS * round((since + self.interval_seconds) / TOGETHER_SECONDS) - since

    def _backoff_seconds(self) -> float:
        pause = doubled(self.failures_in_a_row, self._backoff_seconds_min, self._backoff_seconds_max)
        return pause * random.uniform(1 - BACKOFF_SPREAD, 1 + BACKOFF_SPREAD)  # noqa: S311 (pacing, no secret)

    @staticmethod
    async def _pause(seconds: float, until: asyncio.Event) -> None:
        """Wait so long, or until the event is set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await until.wait()
