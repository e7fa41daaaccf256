"""The one thread that folds, and how the event loop hands it work.

Whatever fails in it is final: a commit that failed leaves nobody knowing what is on disk, so the process ends and the
next start goes on from the marks.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from hub.fold import Poison

P = ParamSpec("P")
T = TypeVar("T")

CANCEL_AGAIN_SECONDS: Final = 1.0


class Worker:
    """Runs functions one after the other on a thread of its own. `failed` tells of the failure that ends the hub."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub-fold")
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one function on the thread and give its answer. `Poison` is the caller's; all else ends the hub."""
        if self.failed.done():
            raise self.failed.result()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
        except Poison:
            raise
        except Exception as failure:
            if not self.failed.done():
                self.failed.set_result(failure)
            raise

    async def close(self) -> None:
        """Finish what was begun and end the thread."""
        await asyncio.to_thread(self._thread.shutdown)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: `asyncio.wait_for` of Python 3.11 can swallow a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)
