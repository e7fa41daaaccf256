"""The services, broken on purpose: each mutant takes one rule away that something rests on.

They are put into the running code from here, by name. The simulation has to notice each, within its seeds.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import grpc.aio
import sqlalchemy as sa

import hub.consumer
import hub.folder
import kuaixiang.domain.case
import kuaixiang.domain.clocks
import kuaixiang.domain.custody
import kuaixiang.domain.referring
import kuaixiang.runtime.database
import node.ledger.ledger
import node.ledger.projections
import node.office
import node.restoration
from hub.fold import Place, Placement, last_seq
from hub.folder import Message
from hub.refill import Refiller
from kuaixiang.domain import events
from kuaixiang.domain.errors import CaseFrozen
from kuaixiang.domain.words import Custody, Refusal
from kuaixiang.runtime.writer import GroupCommitWriter, _resolve
from kuaixiang.wire.v1 import referral_pb2, supervision_pb2
from node.events.tail import Flight
from node.federation.courier import Aside, Destination, Result
from node.ledger.ledger import Draft, Head, Ledger, LedgerBatch, Request
from node.office import Office

Mutant = Callable[[], contextlib.AbstractContextManager[Any]]


def _instead(target: Any, name: str, make: Callable[[Any], Any]) -> contextlib.AbstractContextManager[Any]:
    """`make` gets what is there and gives what stands in its place."""
    return mock.patch.object(target, name, make(getattr(target, name)))


# ---------------------------------------------------------------- disk and writer


def commits_are_not_synced() -> contextlib.AbstractContextManager[Any]:
    """`synchronous=OFF`: a commit that has returned is not on the disk."""

    def make(real: Any) -> Any:
        def engine(url: sa.URL, *, sqlite: bool, reader: bool) -> sa.Engine:
            made: sa.Engine = real(url, sqlite=sqlite, reader=reader)
            if not reader:
                sa.event.listen(made, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
            return made

        return engine

    return _instead(kuaixiang.runtime.database, "_engine", make)


def callers_are_answered_before_the_commit() -> contextlib.AbstractContextManager[Any]:
    """The writer resolves its callers, then commits."""

    def do(self: Any, taken: Sequence[Any]) -> None:
        batch = self._begin([waiting.work for waiting in taken])
        _resolve([self._answer(batch, waiting) for waiting in taken])
        batch.commit()
        for call in self._after_commit:
            call()

    return mock.patch.object(GroupCommitWriter, "_do", do)


def a_refusal_leaves_rows_in_the_batch() -> contextlib.AbstractContextManager[Any]:
    """What refused work had staged is written: here, that its request key was used."""

    def perform(real: Any) -> Any:
        def kept_first(self: Office, draft: Draft, header: Any, act: Any, linked: Any) -> Any:
            done = self._done_before(draft, header, act)
            if done is None and header.request_key:
                request = Request(header.digest, header.case_id, draft.head(header.bureau).seq)
                draft.keep_request(header.bureau, header.request_key, request)
                with mock.patch.object(Office, "_done_before", staticmethod(lambda *_: None)):
                    result = real(self, draft, header, act, linked)
                # Done: the row of the real act is the one that counts.
                del draft._rows.requests[0]
                return result
            return real(self, draft, header, act, linked)

        return kept_first

    def do(self: LedgerBatch, work: Any) -> Any:
        draft = Draft(self)
        try:
            return work.run(draft)
        finally:
            draft.merge()

    stack = contextlib.ExitStack()
    stack.enter_context(_instead(Office, "_perform", perform))
    stack.enter_context(mock.patch.object(LedgerBatch, "do", do))
    return stack


def case_numbers_begin_anew_after_a_restart() -> contextlib.AbstractContextManager[Any]:
    """How many cases a bureau has registered is forgotten when the ledger is opened."""

    def make(real: Any) -> Any:
        def heads(self: Ledger) -> dict[str, Head]:
            return {bureau: replace(head, cases_registered=0) for bureau, head in real(self).items()}

        return heads

    return _instead(Ledger, "_heads", make)


def request_keys_are_not_remembered() -> contextlib.AbstractContextManager[Any]:
    """An act asked for again under its key is done again."""
    return mock.patch.object(Draft, "keep_request", return_value=None)


def the_chain_skips_an_entry() -> contextlib.AbstractContextManager[Any]:
    """The second entry of one act is linked to what was before the first."""

    def make(real: Any) -> Any:
        def append(self: Draft, head: Head, entry: Any, before: Any) -> Head:
            committed = self._batch.heads.get(head.bureau) or self._batch.ledger.heads[head.bureau]
            made: Head = real(self, replace(head, hash=committed.hash), entry, before)
            return made

        return append

    return _instead(Draft, "_append", make)


def a_rebuild_skips_releases() -> contextlib.AbstractContextManager[Any]:
    """Projections are made again without one kind of entry."""

    def make(real: Any) -> Any:
        def read(*args: Any) -> Any:
            found = real(*args)
            return [(seq, entry) for seq, entry in found if not isinstance(entry.event, events.Released)]

        return read

    return _instead(node.ledger.projections, "_read", make)


# ---------------------------------------------------------------- custody


def a_withdrawal_leaves_no_tombstone() -> contextlib.AbstractContextManager[Any]:
    """That an unknown offer was withdrawn is answered and not kept."""

    def make(real: Any) -> Any:
        def keep(self: Draft, bureau: str, referral_id: str, receipt: bytes) -> None:
            decided = referral_pb2.Decision.FromString(referral_pb2.Receipt.FromString(receipt).decision)
            if decided.refusal != int(Refusal.WITHDRAWN):
                real(self, bureau, referral_id, receipt)

        return keep

    return _instead(Draft, "keep_receipt", make)


def receipts_are_not_kept() -> contextlib.AbstractContextManager[Any]:
    """An offer that comes again is decided again."""
    return mock.patch.object(Draft, "keep_receipt", return_value=None)


def _settles(accepted: bool, when: type[BaseException] | None) -> Any:
    def make(real: Any) -> Any:
        async def tell(self: Destination, message: Any, version: int) -> Any:
            if not isinstance(message, referral_pb2.Offer):
                return await real(self, message, version)
            decision = referral_pb2.Decision(
                referral_id=message.referral_id,
                case_id=message.case_id,
                accepted=accepted,
                refusal=0 if accepted else int(Refusal.WITHDRAWN),  # type: ignore[arg-type]
            )
            if when is None:
                await self._office.settle(self.bureau, decision)
                return await real(self, message, version)
            try:
                return await real(self, message, version)
            except when:
                await self._office.settle(self.bureau, decision)
                raise

        return tell

    return make


def a_case_is_taken_back_on_a_time_out() -> contextlib.AbstractContextManager[Any]:
    """An offer without an answer counts as refused."""
    return _instead(Destination, "_tell", _settles(accepted=False, when=grpc.aio.AioRpcError))


def a_case_is_let_go_when_it_is_sent() -> contextlib.AbstractContextManager[Any]:
    """The sender does not wait for the receiver's decision."""
    return _instead(Destination, "_tell", _settles(accepted=True, when=None))


def epochs_do_not_rise() -> contextlib.AbstractContextManager[Any]:
    """A case is offered at the epoch that it has."""

    def make(real: Any) -> Any:
        def offer(*args: Any, **more: Any) -> Any:
            made = real(*args, **more)
            return replace(made, offer_epoch=max(made.epoch, 1))

        return offer

    return _instead(kuaixiang.domain.referring, "_offer", make)


def epochs_are_not_looked_at() -> contextlib.AbstractContextManager[Any]:
    """Whatever its epoch, an offer that came the right way is accepted."""
    return mock.patch.object(kuaixiang.domain.custody, "judge_epoch", return_value=None)


def an_offered_case_is_acted_on() -> contextlib.AbstractContextManager[Any]:
    """An offer does not freeze a case."""

    def make(real: Any) -> Any:
        def decide(case: Any, act: Any, context: Any) -> Any:
            try:
                return real(case, act, context)
            except CaseFrozen:
                return real(replace(case, outgoing=None, custody=Custody.OWNED), act, context)

        return decide

    return _instead(node.office, "decide", make)


# ---------------------------------------------------------------- restoring


def a_restored_ledger_is_not_refilled() -> contextlib.AbstractContextManager[Any]:
    """It goes on from where its backup ended, whatever its witness has kept."""

    async def fill(*_: Any) -> Any:
        return node.restoration._Filled(first_seq=0, refilled=0, set_aside=0)

    return mock.patch.object(node.restoration.Restoration, "_fill", fill)


def a_restored_ledger_gives_no_receipts_anew() -> contextlib.AbstractContextManager[Any]:
    """Of the referrals that it has decided since its backup it knows nothing."""
    return mock.patch.object(node.restoration.Restoration, "_decisions", return_value=[])


# ---------------------------------------------------------------- delivery


def conclusions_are_not_passed_on() -> contextlib.AbstractContextManager[Any]:
    """Whoever hears how a case ended keeps it to himself."""

    def make(real: Any) -> Any:
        return lambda *args: real(*args) | {"awaiting": frozenset()}

    return _instead(kuaixiang.domain.case, "_heard", make)


def the_courier_tries_once() -> contextlib.AbstractContextManager[Any]:
    """What had no answer is not sent again."""

    def make(real: Any) -> Any:
        async def deliver(self: Destination, delivery: Any) -> Any:
            result = await real(self, delivery)
            if result is Result.LATER:
                ledger = self._office.ledger
                subject = ledger.cached(self.bureau, delivery.case_id) or ledger.cached_order(
                    self.bureau, delivery.case_id
                )
                self.aside[delivery.case_id] = Aside(1, math.inf, subject.version if subject else 0)
            return result

        return deliver

    return _instead(Destination, "_deliver", make)


def orders_count_as_told_before_they_are() -> contextlib.AbstractContextManager[Any]:
    """That a neighbour has an order is noted when it is sent."""

    def make(real: Any) -> Any:
        async def tell(self: Destination, message: Any, version: int) -> Any:
            if not isinstance(
                message, (referral_pb2.Offer, referral_pb2.WithdrawRequest, referral_pb2.ConcludeRequest)
            ):
                record = supervision_pb2.OrderRecord(
                    bureau=self.peer, order_id=message.order_id, nonce=message.nonce, step=message.step
                )
                await self._office.orders.note_delivery(self.bureau, self.peer, record)
            return await real(self, message, version)

        return tell

    return _instead(Destination, "_tell", make)


def the_publisher_does_not_wait_for_acknowledgements() -> contextlib.AbstractContextManager[Any]:
    """The cursor moves over what has been sent."""
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(Flight, "acknowledged", property(lambda _: True)))
    stack.enter_context(mock.patch.object(Flight, "failed", property(lambda _: False)))
    return stack


# ---------------------------------------------------------------- clocks


def deadlines_are_missed_again_and_again() -> contextlib.AbstractContextManager[Any]:
    """That a deadline has been missed is recorded whenever somebody looks."""

    def make(real: Any) -> Any:
        return lambda clock, at: real(replace(clock, overdue=False), at)

    return _instead(kuaixiang.domain.clocks, "overdue", make)


# ---------------------------------------------------------------- the hub


def the_hub_acknowledges_before_its_commit() -> contextlib.AbstractContextManager[Any]:
    """A message is done with when it has come."""

    async def step(self: Any) -> int:
        site, batch = await self._queue.get()
        for delivery in batch:
            await delivery.ack()
        messages = [Message(site, delivery.subject, delivery.data) for delivery in batch]
        await self._worker.run(self._folder.take, messages)
        return len(batch)

    return mock.patch.object(hub.consumer.Consumer, "step", step)


def _placed(change: Callable[[Any, Any, Place], Place]) -> contextlib.AbstractContextManager[Any]:
    def make(real: Any) -> Any:
        return lambda mark, segment: change(mark, segment, real(mark, segment))

    return _instead(hub.folder, "place", make)


def the_hub_does_not_look_at_the_chain() -> contextlib.AbstractContextManager[Any]:
    """Whatever begins at the next position is folded."""

    def change(mark: Any, segment: Any, found: Place) -> Place:
        if found.placement is Placement.FORK and last_seq(segment) > mark.seq:
            return Place(Placement.APPLY, mark.seq + 1 - segment.first_seq)
        return found

    return _placed(change)


def the_hub_counts_what_it_has_counted() -> contextlib.AbstractContextManager[Any]:
    """A duplicate is folded once more."""

    def change(mark: Any, segment: Any, found: Place) -> Place:
        again = found.placement is Placement.DUPLICATE and last_seq(segment) == mark.seq
        return Place(Placement.APPLY) if again else found

    return _placed(change)


def the_hub_folds_over_gaps() -> contextlib.AbstractContextManager[Any]:
    """What is missing before a segment is not waited for."""

    def change(mark: Any, segment: Any, found: Place) -> Place:
        return Place(Placement.APPLY) if found.placement is Placement.GAP else found

    return _placed(change)


def the_hub_takes_a_new_generation_for_a_continuation() -> contextlib.AbstractContextManager[Any]:
    """That a ledger which was restored still has what was folded of it is not looked at."""

    async def continues(*_: Any) -> bool:
        return True

    return mock.patch.object(Refiller, "_continues", continues)


def the_hub_never_asks_the_ledgers() -> contextlib.AbstractContextManager[Any]:
    """What the stream has lost is not read from where it came."""

    async def step(_: Refiller) -> bool:
        return False

    return mock.patch.object(Refiller, "step", step)


MUTANTS: Mapping[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        commits_are_not_synced,
        callers_are_answered_before_the_commit,
        a_refusal_leaves_rows_in_the_batch,
        case_numbers_begin_anew_after_a_restart,
        request_keys_are_not_remembered,
        the_chain_skips_an_entry,
        a_rebuild_skips_releases,
        a_withdrawal_leaves_no_tombstone,
        receipts_are_not_kept,
        a_case_is_taken_back_on_a_time_out,
        a_case_is_let_go_when_it_is_sent,
        epochs_do_not_rise,
        epochs_are_not_looked_at,
        an_offered_case_is_acted_on,
        a_restored_ledger_is_not_refilled,
        a_restored_ledger_gives_no_receipts_anew,
        conclusions_are_not_passed_on,
        the_courier_tries_once,
        orders_count_as_told_before_they_are,
        the_publisher_does_not_wait_for_acknowledgements,
        deadlines_are_missed_again_and_again,
        the_hub_acknowledges_before_its_commit,
        the_hub_does_not_look_at_the_chain,
        the_hub_counts_what_it_has_counted,
        the_hub_folds_over_gaps,
        the_hub_takes_a_new_generation_for_a_continuation,
        the_hub_never_asks_the_ledgers,
    )
}


@contextlib.contextmanager
def broken(name: str) -> Iterator[None]:
    """The services with that rule taken away."""
    with MUTANTS[name]():
        yield
