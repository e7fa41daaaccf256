"""A background chore goes on whatever its step does, and can be woken and stopped at any moment."""

import asyncio
import contextlib
import time

import pytest
from prometheus_client import REGISTRY

from kuaixiang.runtime import loops
from kuaixiang.runtime.loops import Loop
from tests.simulation.loop import SimulatedLoop


class Work:
    """A step that counts its calls, says so often that there is more, and fails while told to."""

    def __init__(self, more: int = 0) -> None:
        self.calls = 0
        self.more = more
        self.fails = False

    async def step(self) -> bool:
        self.calls += 1
        if self.fails:
            raise ValueError("no")
        self.more -= 1
        return self.more >= 0

    async def wait_for(self, calls: int) -> None:
        async with asyncio.timeout(60):
            while self.calls < calls:
                await asyncio.sleep(0.005)


def failures(loop: str) -> float:
    return REGISTRY.get_sample_value("kx_loop_failures_total", {"loop": loop}) or 0.0


async def test_a_loop_steps_at_once_while_there_is_more_and_then_sleeps() -> None:
    work = Work(more=20)
    async with Loop("busy", work.step, 60.0):
        await work.wait_for(21)
        await asyncio.sleep(0.05)
    assert 21 == work.calls


async def test_a_wake_brings_the_next_step_even_when_it_comes_during_one() -> None:
    work = Work()
    async with Loop("woken", work.step, 60.0) as loop:
        await work.wait_for(1)
        loop.wake()
        await work.wait_for(2)

    entered, leave = asyncio.Event(), asyncio.Event()
    steps = 0

    async def slow() -> bool:
        nonlocal steps
        steps += 1
        entered.set()
        await leave.wait()
        return False

    async with Loop("woken in a step", slow, 60.0) as loop:
        await entered.wait()
        loop.wake()
        leave.set()
        async with asyncio.timeout(60):
            while steps < 2:
                await asyncio.sleep(0.005)


def test_chores_that_rest_a_second_or_more_wake_the_process_together() -> None:
    seen = dict[float, list[float]]()

    def noting(interval: float) -> Loop:
        times = seen[interval] = []

        async def step() -> bool:
            times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.1)  # what a step takes
            return False

        return Loop("together", step, interval)

    async def live() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for interval in (1.0, 2.0, 5.0, 0.3):
                await stack.enter_async_context(noting(interval))
                await asyncio.sleep(0.23)
            await asyncio.sleep(60.0)

    with contextlib.closing(SimulatedLoop()) as clock:
        clock.run_until_complete(live())
    every_second, others = seen[1.0], seen[2.0][1:] + seen[5.0][1:]
    assert 60 == pytest.approx(len(every_second), abs=2)
    assert 30 + 12 == pytest.approx(len(others), abs=3)
    assert all(any(at == pytest.approx(second) for second in every_second) for at in others)
    assert 60 / 0.4 == pytest.approx(len(seen[0.3]), abs=2)


async def test_a_failing_step_is_counted_and_tried_again_with_a_growing_bounded_pause() -> None:
    work = Work()
    work.fails = True
    before = failures("failing")
    async with Loop("failing", work.step, 60.0, backoff_seconds_min=0.01, backoff_seconds_max=0.04) as loop:
        started = time.monotonic()
        await work.wait_for(6)
        assert time.monotonic() - started > 0.8 * (0.01 + 0.02 + 0.04 + 0.04 + 0.04)
        assert failures("failing") - before == work.calls == loop.failures_in_a_row
        work.fails = False
        async with asyncio.timeout(60):
            while loop.failures_in_a_row:
                await asyncio.sleep(0.005)
        assert loop.running


async def test_a_wake_does_not_shorten_the_pause_after_a_failure() -> None:
    work = Work()
    work.fails = True
    async with Loop("stubborn", work.step, 0.0, backoff_seconds_min=60.0, backoff_seconds_max=60.0) as loop:
        await work.wait_for(1)
        for _ in range(10):
            loop.wake()
            await asyncio.sleep(0.005)
    assert 1 == work.calls


async def test_a_stop_lets_the_step_finish_and_cancels_one_that_does_not() -> None:
    finished = False
    entered = asyncio.Event()

    async def brief() -> bool:
        nonlocal finished
        entered.set()
        await asyncio.sleep(0.05)
        finished = True
        return True

    loop = Loop("brief", brief, 60.0)
    loop.start()
    await entered.wait()
    await loop.stop()
    assert finished
    assert not loop.running

    async def endless() -> bool:
        entered.set()
        await asyncio.Event().wait()
        return False

    entered.clear()
    loop = Loop("endless", endless, 60.0)
    loop.start()
    await entered.wait()
    await loop.stop(timeout_seconds=0.05)
    assert not loop.running


@pytest.mark.parametrize("pause", [0.0, 60.0])
async def test_a_stopped_loop_can_be_started_again(pause: float) -> None:
    work = Work()
    loop = Loop("again", work.step, pause)
    for calls in (1, 2):
        loop.start()
        await work.wait_for(calls)
        await loop.stop()
    assert not loop.running


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "CANCEL_AGAIN_SECONDS", 0.01)
    begun = asyncio.Event()

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            begun.set()
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(stubborn())
    await begun.wait()
    async with asyncio.timeout(60):
        await loops.end_tasks((task,))
    assert task.cancelled()
