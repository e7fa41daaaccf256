"""The writer's thread: batches, answers in order, a queue that ends, a stop that finishes, a commit that fails."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kuaixiang.runtime import writer as writer_module
from kuaixiang.runtime.writer import EXIT_COMMIT_FAILED, GroupCommitWriter, WriterBusy, WriterStopped

ROOT = Path(__file__).parents[2]


class Refusal(Exception):
    """What work says when it is refused."""


class Log:
    """A store of numbers: -1 is refused, 0 a fault. A batch waits at the gate before it commits."""

    def __init__(self) -> None:
        self.kept: list[list[int]] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.gate.set()

    def begin(self, works: Sequence[int]) -> "LogBatch":
        self.begun.set()
        return LogBatch(self, works)


class LogBatch:
    def __init__(self, log: Log, works: Sequence[int]) -> None:
        self.log = log
        self.works = list(works)
        self.staged: list[int] = []

    def do(self, work: int) -> int:
        if work == -1:
            raise Refusal
        if work == 0:
            raise ZeroDivisionError
        self.staged.append(work)
        return work * 10

    def commit(self) -> None:
        assert self.log.gate.wait(30)
        self.log.kept.append(self.staged)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def writer(log: Log) -> Iterator[GroupCommitWriter[int]]:
    made: GroupCommitWriter[int] = GroupCommitWriter("test", log.begin, Refusal)
    made.start()
    yield made
    log.gate.set()
    made.stop()


async def test_what_waits_while_a_commit_is_under_way_shares_the_next(writer: GroupCommitWriter[int], log: Log) -> None:
    log.gate.clear()
    first = writer.submit(1)
    await asyncio.to_thread(log.begun.wait, 30)
    others = [writer.submit(number) for number in range(2, 50)]
    log.gate.set()
    assert [number * 10 for number in range(1, 50)] == await asyncio.gather(first, *others)
    assert [[1], list(range(2, 50))] == log.kept


async def test_nobody_is_answered_before_the_commit(writer: GroupCommitWriter[int], log: Log) -> None:
    log.gate.clear()
    future = writer.submit(1)
    await asyncio.to_thread(log.begun.wait, 30)
    await asyncio.sleep(0.05)
    assert not future.done()
    log.gate.set()
    assert 10 == await future


async def test_a_refusal_and_a_fault_are_answered_and_the_rest_is_kept(
    writer: GroupCommitWriter[int], log: Log
) -> None:
    log.gate.clear()
    head = writer.submit(9)
    await asyncio.to_thread(log.begun.wait, 30)
    futures = [writer.submit(number) for number in (1, -1, 0, 2)]
    log.gate.set()
    answers = await asyncio.gather(head, *futures, return_exceptions=True)
    assert [int, int, Refusal, ZeroDivisionError, int] == [type(answer) for answer in answers]
    assert [[9], [1, 2]] == log.kept


async def test_a_batch_has_a_largest_size(
    writer: GroupCommitWriter[int], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BATCH_MAX", 4)
    log.gate.clear()
    futures = [writer.submit(1)]
    await asyncio.to_thread(log.begun.wait, 30)
    futures += [writer.submit(number) for number in range(2, 12)]
    log.gate.set()
    await asyncio.gather(*futures)
    assert max(map(len, log.kept)) == 4
    assert list(range(1, 12)) == [number for batch in log.kept for number in batch]


async def test_too_much_that_waits_is_refused_at_once(
    writer: GroupCommitWriter[int], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 3)
    log.gate.clear()
    futures = [writer.submit(1)]
    await asyncio.to_thread(log.begun.wait, 30)
    futures += [writer.submit(number) for number in (2, 3, 4)]
    with pytest.raises(WriterBusy, match="3 acts already wait") as refusal:
        _ = writer.submit(5)
    assert 3 == refusal.value.waiting
    log.gate.set()
    assert [10, 20, 30, 40] == await asyncio.gather(*futures)


async def test_stopping_finishes_what_waits_and_refuses_what_comes_after(log: Log) -> None:
    writer: GroupCommitWriter[int] = GroupCommitWriter("test", log.begin, Refusal)
    writer.start()
    futures = [writer.submit(number) for number in range(1, 20)]
    await asyncio.to_thread(writer.stop)
    assert [number * 10 for number in range(1, 20)] == await asyncio.gather(*futures)
    with pytest.raises(WriterStopped):
        _ = writer.submit(1)


def test_a_writer_that_never_ran_can_be_stopped(log: Log) -> None:
    GroupCommitWriter("test", log.begin, Refusal).stop()
    assert [] == log.kept


async def test_after_each_commit_those_who_asked_are_called(writer: GroupCommitWriter[int], log: Log) -> None:
    called: list[int] = []
    writer.after_commit(lambda: called.append(len(log.kept)))
    await writer.submit(1)
    await writer.submit(2)
    await asyncio.to_thread(writer.stop)
    assert [1, 2] == called


async def test_a_writer_tidies_up_when_everybody_has_been_told(log: Log) -> None:
    done: list[str] = []
    writer: GroupCommitWriter[int] = GroupCommitWriter("test", log.begin, Refusal, lambda: done.append("tidied"))
    writer.after_commit(lambda: done.append("told"))
    writer.start()
    await writer.submit(1)
    await asyncio.to_thread(writer.stop)
    assert ["told", "tidied"] == done


async def test_a_caller_who_went_away_is_not_answered_and_its_work_is_done(
    writer: GroupCommitWriter[int], log: Log
) -> None:
    future = writer.submit(1)
    future.cancel()
    assert 20 == await writer.submit(2)
    assert [1, 2] == [number for batch in log.kept for number in batch]


def test_a_loop_that_has_closed_does_not_stop_the_writer(writer: GroupCommitWriter[int], log: Log) -> None:
    async def leave() -> None:
        _ = writer.submit(1)

    async def stay() -> int:
        return int(await writer.submit(2))

    log.gate.clear()
    asyncio.run(leave())
    log.gate.set()
    assert 20 == asyncio.run(stay())


FAILING = """
import asyncio
from kuaixiang.runtime import tracing
from kuaixiang.runtime.writer import GroupCommitWriter

class Batch:
    def do(self, work): return work
    def commit(self): {commit}

class Spans:
    def waiting(self): return None
    def writing(self, waiting, works): {writing}

tracing.spans = Spans

async def main():
    writer = GroupCommitWriter("test", lambda works: Batch(), ValueError)
    writer.start()
    print(await writer.submit(1))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("commit", "writing"),
    [("raise OSError('no space left')", "return None"), ("pass", "raise ValueError('a fault beside the commit')")],
)
def test_a_failed_commit_answers_nobody_and_ends_the_process(commit: str, writing: str) -> None:
    program = FAILING.format(commit=commit, writing=writing)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert EXIT_COMMIT_FAILED == done.returncode == 74
    assert "1\n" not in done.stdout
