"""The one thread that folds, and how the event loop hands it work.

Whatever fails in it is final: a commit that failed leaves nobody knowing what is on disk, so the process ends and the
next start goes on from the marks.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

from hub.fold import Poison

P = ParamSpec("P")
Q = TypeVar("Q")
T = TypeVar("T")


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


class Together(Generic[Q, T]):
    """Hands one kind of work to the worker: whatever has come while it did the last is done next, in one go.

    `work` takes what is asked for and answers each. A `Poison` among its answers is raised where it was asked for.
    """

    def __init__(self, worker: Worker, work: Callable[[Sequence[Q]], Sequence[T | Poison]]) -> None:
        self._worker = worker
        self._work = work
        self._waiting: list[tuple[Q, asyncio.Future[T]]] = []
        self._task: asyncio.Task[None] | None = None

    async def do(self, asked: Q) -> T:
        """Have one thing done, with what others ask for. Raises `Poison`, and what ends the hub."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await self._do(waiting)
        finally:
            self._task = None

    async def _do(self, waiting: Sequence[tuple[Q, asyncio.Future[T]]]) -> None:
        try:
            answers: Sequence[T | Exception] = await self._worker.run(self._work, [asked for asked, _ in waiting])
        except Exception as failure:  # noqa: BLE001 - each of them is told, and the worker ends the hub
            answers = [failure] * len(waiting)
        for (_, future), answer in zip(waiting, answers, strict=True):
            if future.done():
                continue  # given up meanwhile
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
