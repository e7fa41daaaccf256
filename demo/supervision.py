"""What superiors do in the demonstration besides handling cases: supervision orders, and another working calendar.

A province urges a county about its open cases and is not content with the first answer; headquarters asks a province,
which passes the order on to two of its counties and answers when they have (督办, §五(三)). Headquarters publishes the
tree with the certificates of all nodes in it, so that from then on no other one of the authority speaks for a bureau;
later an amendment of the calendar, made up for the purpose, and every bureau computes its open deadlines again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from importlib.resources import files
from random import Random
from typing import Final

from demo.federation import Federation, tree_text
from demo.officers import Officer
from demo.staff import LEADERSHIP
from demo.story import DAY, Book, Errand, Hour, Pace, StoryBroken, office_hour
from demo.watch import NeverSeen, Watch
from kuaixiang import facts
from kuaixiang.domain import order_acts
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.words import OrderLevel, OrderStage, Role
from kuaixiang.facts import CALENDAR_FILE, published_calendar
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1.supervision_pb2 import Order

PROVINCE, COUNTY = "330000", "330109"
"""A province and a county of it, with a prefecture between them that passes the order on."""

CASCADE: Final = ("110000", ("110101", "110108"))
"""The province that headquarters asks, and the counties that it asks in turn."""

TREE_DAY, PROVINCE_DAY, HEADQUARTERS_DAY, CALENDAR_DAY = 1, 4, 5, 8
"""Working days, from 0, on which it begins."""

DAY_OFF: Final = date(2026, 10, 12)
"""The Monday after the fortnight, which the amended calendar turns into a day off."""
AMENDED: Final = "2026.2"
PINNED: Final = "2026-10"
"""The version of the tree with certificates in it."""

CASES_NAMED: Final = 3
HAND_OVER_SECONDS_MAX: Final = 60.0
"""Real time for an order to pass all bureaus between, and for a calendar to reach all."""
POLL_SECONDS: Final = 0.1

SUPERVISOR: Final = Officer("S01", Role.SUPERVISOR, LEADERSHIP)
TAX_SERVICE: Final = Officer("T01", Role.TAX_SERVICE, "tax-service")


def amended_calendar() -> str:
    """The published calendar with one more day off, as the next version of it."""
    text = (files(facts) / CALENDAR_FILE).read_text("utf-8")
    text = text.replace(f"# version: {published_calendar().version}", f"# version: {AMENDED}")
    return f"{text.rstrip()}\n{DAY_OFF},演示用调整,off\n"


class Superiors:
    """The superiors' errands of one fortnight."""

    def __init__(self, federation: Federation, watch: Watch, pace: Pace, book: Book) -> None:
        self._federation = federation
        self._watch = watch
        self._pace = pace
        self._book = book
        self._rng = Random("superiors")
        self._acts = 0

    def errands(self, hours: Sequence[Hour]) -> list[Errand]:
        """What they do and when it begins."""
        return [
            Errand("another tree", office_hour(hours, TREE_DAY), self._headquarters_publishes_a_tree),
            Errand("the order of a province", office_hour(hours, PROVINCE_DAY), self._a_province_supervises),
            Errand("the order of headquarters", office_hour(hours, HEADQUARTERS_DAY), self._headquarters_supervises),
            Errand("another calendar", office_hour(hours, CALENDAR_DAY), self._headquarters_publishes_a_calendar),
        ]

    # ------------------------------------------------------------ the four of them

    async def _a_province_supervises(self) -> None:
        name = "the order of a province"
        cases = (await self._federation.office(PROVINCE).open_cases_of(COUNTY))[:CASES_NAMED]
        order = await self._issue(
            PROVINCE,
            COUNTY,
            "所列诉求临近办理期限，请核实进度，限期办结并书面回复。",
            cases,
        )
        await self._acknowledged(name, COUNTY, order)
        await self._rest(name, 2, DAY)
        await self._do(COUNTY, TAX_SERVICE, order_acts.AnswerOrder(answer="正在抓紧办理。"), order)
        await self._stands(PROVINCE, order, OrderStage.ANSWERED)
        await self._rest(name, 1, 3)
        returned = order_acts.ReturnAnswer(reason="未说明各件的办理进度和办结时间，请补充。", answer_workdays=1)
        await self._do(PROVINCE, SUPERVISOR, returned, order)
        await self._stands(COUNTY, order, OrderStage.RETURNED)
        await self._rest(name, 1, 3)
        answer = order_acts.AnswerOrder(answer="所列诉求已逐件核实，主办部门和办结时间已落实，将按期反馈纳税人。")
        await self._do(COUNTY, TAX_SERVICE, answer, order)
        await self._accepted(name, PROVINCE, order)

    async def _headquarters_supervises(self) -> None:
        name, headquarters = "the order of headquarters", self._federation.tree.root
        province, counties = CASCADE
        order = await self._issue(headquarters, province, "请对本省小微企业诉求办理时限执行情况开展自查并报告。", ())
        await self._acknowledged(name, province, order)
        await self._rest(name, 1, 3)
        cascade = order_acts.CascadeOrder(
            to_bureaus=counties,
            level=OrderLevel.SUPERVISE,
            text="请自查本局诉求办理时限执行情况，书面回复。",
            answer_workdays=2,
        )
        derived = await self._do(province, SUPERVISOR, cascade, order)
        for one in derived:
            await self._acknowledged(name, one.final_bureau, one.order_id)
        for one in derived:
            await self._rest(name, 1, DAY // 2)
            answer = order_acts.AnswerOrder(answer="已完成自查，个别临期诉求已督促按期办结。")
            await self._do(one.final_bureau, TAX_SERVICE, answer, one.order_id)
            await self._accepted(name, province, one.order_id)
        summary = order_acts.AnswerOrder(answer="自查已完成，两个县级局的情况已核实，问题已整改。")
        await self._do(province, TAX_SERVICE, summary, order)
        await self._accepted(name, headquarters, order)

    async def _headquarters_publishes_a_calendar(self) -> None:
        root, bureaus = self._federation.tree.root, len(self._federation.bureaus)
        await self._federation.office(root).publish_calendar(SUPERVISOR, amended_calendar(), key="demo-calendar")

        async def adopted() -> bool:
            return self._watch.events["calendar_adopted"] >= bureaus

        await self._until(root, AMENDED, "the calendar's adoption by every bureau", adopted)
        self._book.calendar = AMENDED

    async def _headquarters_publishes_a_tree(self) -> None:
        root, bureaus = self._federation.tree.root, len(self._federation.bureaus)
        pinned = await asyncio.to_thread(self._federation.pinned_tree, PINNED)
        await self._federation.office(root).publish_tree(SUPERVISOR, tree_text(pinned), key="demo-tree")

        async def adopted() -> bool:
            return self._watch.events["tree_adopted"] >= bureaus

        await self._until(root, PINNED, "the tree's adoption by every bureau", adopted)
        self._book.tree = PINNED

    # ------------------------------------------------------------ steps

    async def _issue(self, issuer: str, to: str, text: str, cases: Sequence[str]) -> str:
        act = order_acts.IssueOrder(
            final_bureau=to, level=OrderLevel.SUPERVISE, text=text, answer_workdays=3, case_ids=tuple(cases)
        )
        (order,) = await self._do(issuer, SUPERVISOR, act)
        return str(order.order_id)

    async def _acknowledged(self, name: str, bureau: str, order: str) -> None:
        await self._stands(bureau, order, OrderStage.RECEIVED)
        await self._rest(name, 1, 3)
        await self._do(bureau, TAX_SERVICE, order_acts.AcknowledgeOrder(), order)

    async def _accepted(self, name: str, issuer: str, order: str) -> None:
        await self._stands(issuer, order, OrderStage.ANSWERED)
        await self._rest(name, 1, 3)
        await self._do(issuer, SUPERVISOR, order_acts.AcceptAnswer(note="同意，办结。"), order)

    async def _do(self, bureau: str, officer: Officer, act: OrderAct, order: str = "") -> list[Order]:
        self._acts += 1
        try:
            return await self._federation.office(bureau).order(officer, act, order, key=f"demo-order-{self._acts}")
        except RemoteRefusal as refusal:
            about = f"order {order}" if order else "an order"
            raise StoryBroken(about, bureau, type(act).__name__, f"{refusal} ({refusal.rule})") from refusal

    async def _stands(self, bureau: str, order: str, stage: OrderStage) -> None:
        """Wait until an order has come to a stage in a ledger."""

        async def come() -> bool:
            try:
                found = await self._federation.office(bureau).order_as_it_stands(order)
            except RemoteRefusal as refusal:
                if refusal.rule != "UnknownOrder":
                    raise
                return False
            return found.stage == stage.value

        await self._until(bureau, order, f"stage {stage.name} of the order", come)

    async def _until(self, bureau: str, subject: str, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        deadline = asyncio.get_running_loop().time() + HAND_OVER_SECONDS_MAX
        while not await holds():
            if asyncio.get_running_loop().time() >= deadline:
                raise NeverSeen(bureau, subject, what, HAND_OVER_SECONDS_MAX, None)
            await asyncio.sleep(POLL_SECONDS)

    async def _rest(self, name: str, least: int, most: int) -> None:
        await self._pace.rest(name, self._rng.randint(least, most))
