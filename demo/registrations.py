"""Registrations of one node's bureaus over one stream: a call for each would cost three times as much."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import grpc
import grpc.aio

from demo.officers import NO_DECISION, PATIENCE_SECONDS, RETRY_SECONDS, NoAnswer, Office
from kuaixiang.wire.registrations import ReadsOneAlone, answers_in
from kuaixiang.wire.v1 import case_pb2

AT_ONCE_MAX: Final = 100
"""Registrations of one message: more gain nothing, and the first of them waits longer."""
_BUSY: Final = int(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


class RegistrationRefused(Exception):
    """The bureau does not register the case."""

    def __init__(self, bureau: str, refusal: case_pb2.RefusedAct) -> None:
        self.bureau = bureau
        self.rule = refusal.rule
        self.field = refusal.field
        super().__init__(refusal.message)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A registration that has not been answered."""

    request: case_pb2.RegisterCaseRequest
    answer: asyncio.Future[case_pb2.RegisteredCase]


class Registrations:
    """One stream, taken up again when the node has been away; as an asynchronous context manager.

    Every request carries a key, so that what is sent twice is registered once. How many wait is bounded by whoever
    asks.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._unsent: deque[_Asked] = deque()
        self._unanswered: deque[_Asked] = deque()
        self._more = asyncio.Event()
        self._stream = 0
        self._at_once = AT_ONCE_MAX
        self._answered_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def register(self, request: case_pb2.RegisterCaseRequest) -> case_pb2.RegisteredCase:
        """The bureau's answer, once the case is durable. Raises `RegistrationRefused`, `NoAnswer`, grpc's own error."""
        asked = _Asked(request, asyncio.get_running_loop().create_future())
        if not self._unsent and not self._unanswered:
            self._answered_at = time.monotonic()
        self._unsent.append(asked)
        self._more.set()
        return await asked.answer

    async def _run(self) -> None:
        while True:
            try:
                async for response in self._office.register_many(self._requests()):
                    for answer in answers_in(response, sent_alone=self._at_once == 1):
                        self._take(answer)
            except ReadsOneAlone:
                self._at_once = 1
            except grpc.aio.AioRpcError as failure:
                if failure.code() not in NO_DECISION:
                    self._give_up(failure)
                elif time.monotonic() - self._answered_at > PATIENCE_SECONDS:
                    reason = f"{failure.code().name}, {failure.details()}"
                    who = f"the node of bureau {self._office.bureau}"
                    self._give_up(NoAnswer(who, "RegisterCases", PATIENCE_SECONDS, reason))
            self._unsent.extendleft(reversed(self._unanswered))
            self._unanswered.clear()
            await asyncio.sleep(RETRY_SECONDS)

    async def _requests(self) -> AsyncIterator[case_pb2.RegisterCasesRequest]:
        self._stream += 1
        mine = self._stream
        while True:
            await self._more.wait()
            if mine != self._stream:
                return  # of a stream that has failed
            while self._unsent:
                sent = [self._unsent.popleft() for _ in range(min(self._at_once, len(self._unsent)))]
                self._unanswered.extend(sent)
                asked_for = [asked.request for asked in sent]
                if self._at_once == 1:
                    yield case_pb2.RegisterCasesRequest(registration=asked_for[0])
                else:
                    yield case_pb2.RegisterCasesRequest(registrations=asked_for)
            self._more.clear()

    def _take(self, answer: case_pb2.RegistrationAnswer) -> None:
        self._answered_at = time.monotonic()
        asked = self._unanswered.popleft()
        if asked.answer.done():
            return  # whoever asked has gone
        if answer.HasField("accepted"):
            asked.answer.set_result(answer.accepted)
        elif answer.refused.code == _BUSY:
            self._unsent.append(asked)
            self._more.set()
        else:
            asked.answer.set_exception(RegistrationRefused(asked.request.header.bureau, answer.refused))

    def _give_up(self, failure: Exception) -> None:
        for asked in (*self._unanswered, *self._unsent):
            if not asked.answer.done():
                asked.answer.set_exception(failure)
        self._unanswered.clear()
        self._unsent.clear()
