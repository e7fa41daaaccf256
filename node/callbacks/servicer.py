"""CallbackService: leaders look after what could not be told to channels and taxpayers."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from kuaixiang.domain.authority import SignedIn, Subject
from kuaixiang.domain.errors import Condition, FieldMissing, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import check_actor, check_department
from kuaixiang.domain.sign_in import NotSignedIn
from kuaixiang.runtime.clock import SystemClock, from_micros, to_micros
from kuaixiang.runtime.server import Context, admit, caller_of
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import callback_pb2, callback_pb2_grpc, case_pb2
from node.callbacks.engine import key_of
from node.callbacks.opening import Outside
from node.ledger import callbacks
from node.ledger.ledger import Callback, Draft, Work
from node.office import Office

AT_ONCE_MAX: Final = 500
"""Listed, retried or dropped by one call: one transaction of the writer."""
_REAL: Final = SystemClock()
_log: Final = structlog.get_logger(__name__)


class UnknownSink(Refused):
    """Nobody of that name is told anything here, and nothing waits for him."""

    condition = Condition.MISSING
    field = "sink"
    remedy = "`kx hooks list` names those that there are."
    remedy_chinese = "可用 kx hooks list 查看现有的推送对象。"

    def __init__(self) -> None:
        super().__init__("There is no such web hook and no such notifier.", "没有这个推送对象。")


class CallbackServicer(callback_pb2_grpc.CallbackServiceServicer):
    """Answers CallbackService for the bureaus of one node."""

    def __init__(self, office: Office, outside: Outside) -> None:
        self._office = office
        self._outside = outside

    async def ListCallbacks(
        self, request: callback_pb2.ListCallbacksRequest, context: Context
    ) -> callback_pb2.ListCallbacksResponse:
        """What waits, and what was given up, which comes first."""
        officer = self._officer(request.header, context, "ListCallbacks")
        dead = True if request.given_up else None
        found = await self._kept(officer.bureau, request.sink, dead=dead)
        sinks = [engine.sink.name for engine in self._outside.engines if officer.bureau in engine.sink.bureaus]
        return callback_pb2.ListCallbacksResponse(callbacks=map(_message, found), sinks=sinks)

    async def RetryCallbacks(
        self, request: callback_pb2.RetryCallbacksRequest, context: Context
    ) -> callback_pb2.RetryCallbacksResponse:
        """Has what was given up tried again for as long as at first, and what waits tried now unless it just is."""
        officer = self._officer(request.header, context, "RetryCallbacks")
        now = to_micros(_REAL.now())

        def again(draft: Draft, one: Callback) -> None:
            draft.put_callback(one._replace(dead=0, since_us=now if one.dead else one.since_us, next_attempt_us=now))

        count = await self._change(officer, request, dead=None, change=again, action="callback.retry")
        engine = self._outside.engine(officer.bureau, request.sink)
        if engine is not None:
            engine.look_again()
        return callback_pb2.RetryCallbacksResponse(retried=count)

    async def DropCallbacks(
        self, request: callback_pb2.DropCallbacksRequest, context: Context
    ) -> callback_pb2.DropCallbacksResponse:
        """Has nobody told any more of what was given up, or is of a sink that there is no more."""
        officer = self._officer(request.header, context, "DropCallbacks")
        dead = None if self._outside.engine(officer.bureau, request.sink) is None else True
        count = await self._change(officer, request, dead=dead, change=Draft.drop_callback, action="callback.drop")
        return callback_pb2.DropCallbacksResponse(dropped=count)

    async def _change(
        self,
        officer: SignedIn,
        request: Any,  # noqa: ANN401 - either request
        *,
        dead: bool | None,
        change: Callable[[Draft, Callback], None],
        action: str,
    ) -> int:
        if not request.sink:
            raise FieldMissing("sink", Both("it says whose deliveries", "须写明推送对象"))
        async with self._outside.still(officer.bureau, request.sink) as under_way:
            chosen = await self._kept(officer.bureau, request.sink, dead=dead, seq=request.seq)
            if not chosen and self._outside.engine(officer.bureau, request.sink) is None:
                raise UnknownSink

            def run(draft: Draft) -> None:
                for one in chosen:
                    if key_of(one) not in under_way:
                        change(draft, one)

            if chosen:
                await self._office.ledger.do(Work(run=run, bureau=officer.bureau))
        _log.info(
            "Deliveries to the outside were changed by hand.",
            action=action,
            bureau=officer.bureau,
            actor=officer.actor,
            sink=request.sink,
            count=len(chosen),
        )
        return len(chosen)

    async def _kept(self, bureau: str, sink: str, *, dead: bool | None, seq: int = 0) -> list[Callback]:
        database = self._office.ledger.database
        return await asyncio.to_thread(
            callbacks.kept, database, bureau, sink=sink, dead=dead, limit=AT_ONCE_MAX, seq=seq
        )

    def _officer(self, header: case_pb2.ActHeader, context: Context, rpc: str) -> SignedIn:
        """Who looks after them; the gate has held the header to who has signed in. Raises `NotSignedIn` and others."""
        admit(context, rpc, Subject(bureau=header.bureau), self._office.place.tree)
        self._office.check_hosted(header.bureau)
        check_actor(header.actor)
        check_department(header.department, "header.department")
        officer = caller_of(context).officer
        if officer is None:
            # Where terminals are believed anybody could have what is owed dropped.
            raise NotSignedIn
        return officer


def _message(callback: Callback) -> callback_pb2.Callback:
    return callback_pb2.Callback(
        sink=callback.sink,
        seq=callback.seq,
        case_id=callback.case_id,
        kind=callback.kind,
        occurred_at=timestamp(from_micros(callback.occurred_at_us)),
        since=timestamp(from_micros(callback.since_us)),
        next_attempt_at=timestamp(from_micros(callback.next_attempt_us)),
        attempts=callback.attempts,
        given_up=bool(callback.dead),
        failure=callback.failure,
    )
