"""What becomes of cases in a large ledger, and such ledgers made through the office, act by act, as officers would.

Most cases are written off, and each tab of the work list has about 3 in 100 of them.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from demo.content import Request, fictional_taxpayer, load_requests
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.words import Channel, Role, Satisfaction, Telling, WorkTab
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.wire.v1.referral_pb2 import Signature
from node.ledger import queries
from node.ledger.ledger import Ledger
from node.office import Header, Office, Place

SUPERIOR = "000000"
NOW = datetime(2026, 11, 25, 10, 0, tzinfo=SHANGHAI)
"""A Wednesday morning. The first case was registered two hundred days before."""
DAYS = 200
LATE_DAYS = 6
"""Open cases were registered within the last days, so that some are due today and some overdue."""
AT_ONCE = 512
DEPARTMENTS = ("policy", "collection", "information", "legal", "inspection", "vat", "income", "hall")
RARE = "滴灌"
COMMON = "发票"
SEED = 2019

ON_THE_SPOT = acts.AnswerOnTheSpot(answer="已当场答复，请按公告办理。")
TOLD: dict[str, Any] = {"telling": Telling.COMPLICATED, "told": "情况复杂，将按规定办理。"}
FORWARD = acts.Forward(**TOLD)
ACCEPT = acts.AcceptDirectly(**TOLD)
COMPLETE = acts.Complete(result="已核实并处理，符合条件的予以办理。")
FEEDBACK = acts.GiveFeedback(told_by=Channel.HOTLINE, told="已电话告知办理结果。")
FOLLOW_UP = acts.FollowUp(satisfaction=Satisfaction.SATISFIED, remark="纳税人表示满意")
REFER = acts.Refer(final_bureau=SUPERIOR, reason="须由上级解释政策", **TOLD)
DEFER = acts.Defer(owner="owner-1", review_at=NOW + timedelta(days=60), condition="待系统升级后办理")

Steps = tuple[tuple[Role, Act], ...]

LIVES: dict[WorkTab, Steps] = {
    WorkTab.TO_FORWARD: (),
    WorkTab.TO_DISPATCH: ((Role.REGISTRAR, FORWARD),),
    WorkTab.TO_HANDLE: ((Role.REGISTRAR, ACCEPT),),
    WorkTab.TO_FEED_BACK: ((Role.REGISTRAR, ACCEPT), (Role.HANDLER, COMPLETE)),
    WorkTab.TO_FOLLOW_UP: ((Role.REGISTRAR, ON_THE_SPOT),),
    WorkTab.TO_WRITE_OFF: ((Role.REGISTRAR, ON_THE_SPOT), (Role.TAX_SERVICE, FOLLOW_UP)),
    WorkTab.DEFERRED: ((Role.REGISTRAR, ACCEPT), (Role.HANDLER, DEFER)),
    WorkTab.ELSEWHERE: ((Role.REGISTRAR, REFER),),
}
"""What is done after registration with the cases of each tab."""
ORDINARY: Steps = (
    (Role.REGISTRAR, ACCEPT),
    (Role.HANDLER, COMPLETE),
    (Role.HANDLER, FEEDBACK),
    (Role.TAX_SERVICE, FOLLOW_UP),
    (Role.TAX_SERVICE, acts.WriteOff()),
)
QUICK: Steps = ((Role.REGISTRAR, ON_THE_SPOT), (Role.TAX_SERVICE, acts.WriteOff()))
OPEN_SHARE = 0.03
"""Of all cases, those of each tab."""
ORDINARY_SHARE = 0.1
"""Of the written off, those that went the whole way; the others were answered on the spot."""


@dataclass(frozen=True)
class Life:
    """What becomes of one case."""

    registered_at: datetime
    act: acts.Register
    then: Steps
    department: str


def lives(count: int, bureau: str) -> Iterator[Life]:
    """So many cases in the order of registration: first those that are done, then those that are open."""
    chance = Random(SEED)
    requests: tuple[Request, ...] = tuple(load_requests())
    opened = [tab for tab in LIVES for _ in range(int(count * OPEN_SHARE))]
    chance.shuffle(opened)
    done = count - len(opened)
    first = NOW - timedelta(days=DAYS)
    for nth in range(count):
        request = requests[nth % len(requests)]
        taxpayer = fictional_taxpayer(chance, bureau)
        rare = RARE if nth % 10_000 == 17 else chance.choice(("窗口", "系统", "通知", COMMON))
        act = replace(
            request.registered(taxpayer, f"B{nth:09}"),
            contact=f"154{nth:08}",
            text=f"{request.text}（补充：涉及{rare}，第{chance.randrange(10**6)}号）",
        )
        if nth < done:
            at = first + timedelta(days=DAYS - LATE_DAYS) * (nth / done)
            then = ORDINARY if chance.random() < ORDINARY_SHARE else QUICK
        else:
            at = NOW - timedelta(days=LATE_DAYS) * (1 - (nth - done) / len(opened))
            then = LIVES[opened[nth - done]]
        yield Life(at, act, then, chance.choice(DEPARTMENTS))


async def fill(path: Path, count: int, bureau: str) -> None:
    """A ledger of so many cases, by acts of its officers."""
    clock = FixedClock(NOW)
    ledger = Ledger(f"sqlite:///{path}", [bureau])
    place = Place(national_tree(), published_calendar(), Rules(), clock)
    office = Office(ledger, place, lambda _: Signature())
    ledger.start()
    todo = lives(count, bureau)

    async def officer() -> None:
        for life in todo:
            clock.set(life.registered_at)
            case_id = ""
            for role, act in ((Role.REGISTRAR, life.act), *life.then):
                department = "tax-service" if role is Role.TAX_SERVICE else life.department
                header = Header(
                    bureau=bureau, case_id=case_id, actor=f"{role.name.lower()}-1", role=role, department=department
                )
                case_id = (await office.perform(header, act)).case.case_id

    await asyncio.gather(*(officer() for _ in range(AT_ONCE)))
    clock.set(NOW)
    # What time did is on record, as the sweep of a node would have it: else it would be at it while this is measured.
    while late := queries.clocks_to_note(ledger.database, [bureau], to_micros(NOW), place.calendar.version, AT_ONCE):
        await asyncio.gather(*(office.note_time(bureau, subject) for bureau, subject in late))
    ledger.close()
