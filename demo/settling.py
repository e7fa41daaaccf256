"""The end of what was played: every ledger has come to rest, and the hub has folded all of it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from demo.federation import Federation, Service
from demo.officers import NoAnswer
from kuaixiang.domain.words import Custody
from kuaixiang.wire.v1 import statistics_pb2 as pb

QUIET_SECONDS: Final = 3.0
"""Three times as long as a sweep takes to look again: no ledger grows any more."""

LOOK_SECONDS: Final = 0.25
"""Between two looks; as long as the look took where that is longer, so that looking is never half of the work."""

SETTLE_SECONDS_MAX: Final = 600.0
"""For the couriers, the sweeps and the hub to come to an end."""


RECONCILIATIONS_MAX: Final = 3
"""On a machine that is busy with a whole federation a ledger may not answer in time once."""


class NeverSettled(Exception):
    """The ledgers kept growing, referrals stayed under way, or the hub did not catch up."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        super().__init__(f"{what} after {seconds:.0f} s")


async def settle(
    federation: Federation,
    on_folded: Callable[[int, int], None] = lambda _folded, _of: None,
    timeout_seconds: float = SETTLE_SECONDS_MAX,
) -> dict[str, int]:
    """Wait until every ledger has come to rest and the hub has folded all of it; the length of each journal.

    `on_folded` is told how many entries the hub has folded, and of how many. Raises `NeverSettled`, `NoAnswer`,
    `ChildDied`.
    """
    deadline = time.monotonic() + timeout_seconds
    heads, since = await heads_of(federation), time.monotonic()
    while True:
        looked = time.monotonic()
        federation.require_alive()
        marks = await _marks(federation)
        on_folded(sum(marks.values()), sum(heads.values()))
        now = await heads_of(federation)
        if now != heads:
            heads, since = now, time.monotonic()
        elif marks == heads and time.monotonic() - since >= QUIET_SECONDS:
            offered = await _offered(federation)
            if not offered:
                return heads
            since = time.monotonic()
        if time.monotonic() > deadline:
            raise NeverSettled("ledgers and hub have not come to rest", timeout_seconds)
        await asyncio.sleep(max(LOOK_SECONDS, time.monotonic() - looked))


async def reconciled(
    federation: Federation, on_attempt: Callable[[int], None] = lambda _: None
) -> pb.ReconcileResponse:
    """The hub against every ledger; a ledger that gave no answer is asked again. Raises `NoAnswer`."""
    for attempt in range(1, RECONCILIATIONS_MAX):
        on_attempt(attempt)
        found = await federation.hub().reconcile()
        if not found.unreachable:
            return found
    return await federation.hub().reconcile()


async def heads_of(federation: Federation) -> dict[str, int]:
    """The length of each journal that has an entry. Raises `NoAnswer`."""
    found: dict[str, int] = {}
    for node in federation.nodes:
        for head in await federation.office(node.codes[0]).heads(node.codes):
            found[head.bureau] = head.seq
    return {bureau: seq for bureau, seq in found.items() if seq}


async def _marks(federation: Federation) -> dict[str, int]:
    """Up to where the hub has folded each journal; nothing while it is too busy to say, which is not at rest."""
    try:
        answer = await federation.hub().completeness()
    except NoAnswer:
        return {}
    return {mark.bureau: mark.seq for mark in answer.marks if mark.seq}


async def _offered(federation: Federation) -> list[str]:
    """Cases whose hand-over has not been decided, as far as their senders know."""

    async def of(node: Service) -> list[str]:
        return [
            case.case_id
            for code in node.codes
            async for case in federation.office(code).cases(custodies=[int(Custody.OFFERED)])
        ]

    return [case_id for part in await asyncio.gather(*map(of, federation.nodes)) for case_id in part]
