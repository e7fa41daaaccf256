"""What somebody at the stage may do to the federation: move its clock, break parts of it, and mend them.

Each deed is done whole before the next begins. One that makes no sense is refused, and nothing has changed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final

from demo.federation import Federation, Service
from demo.processes import ProcessError
from demo.story import next_morning
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.web.language import Language, shown_day, shown_instant

HOUR: Final = timedelta(hours=1)


class Deed(StrEnum):
    """What may be done, by the name that forms give it."""

    HOUR = "hour"
    MORNING = "morning"
    WORKDAY = "workday"
    CUT = "cut"
    RESTORE = "restore"
    KILL = "kill"
    RESTART = "restart"


class NoSuchDeed(Refused):
    """Something that the stage cannot do, or to a part that the federation does not have."""

    condition = Condition.MISSING
    remedy = "Use the controls of the page."
    remedy_chinese = "请使用页面上的按钮。"

    def __init__(self) -> None:
        super().__init__("The stage has no such control, or no such part.", "演示台没有这个操作，或没有这个部分。")


class StillPlayed(Refused):
    """The fortnight is being played: the story moves the clock and breaks what it breaks."""

    condition = Condition.STATE
    remedy = "Watch; the controls open when the fortnight is over and has been checked."
    remedy_chinese = "请先观看；两周演示结束并核对之后即可操作。"

    def __init__(self) -> None:
        super().__init__("The fortnight is still being played.", "两周演示仍在进行。")


class AlreadyCut(Refused):
    """A province's link is to be cut that is cut."""

    condition = Condition.STATE
    remedy = "Restore it first."
    remedy_chinese = "请先恢复。"

    def __init__(self, site: str) -> None:
        super().__init__(f"The link of {site} is cut already.", f"{site} 的链路已经切断。")


class NotCut(Refused):
    """A province's link is to be restored that is up."""

    condition = Condition.STATE
    remedy = "Cut it first."
    remedy_chinese = "请先切断。"

    def __init__(self, site: str) -> None:
        super().__init__(f"The link of {site} is not cut.", f"{site} 的链路没有切断。")


class AlreadyDown(Refused):
    """A process is to be killed that does not run."""

    condition = Condition.STATE
    remedy = "Restart it first."
    remedy_chinese = "请先重新启动。"

    def __init__(self, whom: Both) -> None:
        super().__init__(f"{whom.english[:1].upper()}{whom.english[1:]} is down already.", f"{whom.chinese}已经停机。")


class AlreadyUp(Refused):
    """A process is to be restarted that runs."""

    condition = Condition.STATE
    remedy = "Kill it first."
    remedy_chinese = "请先停掉。"

    def __init__(self, whom: Both) -> None:
        super().__init__(f"{whom.english[:1].upper()}{whom.english[1:]} is up.", f"{whom.chinese}正在运行。")


class NotBack(Refused):
    """What was to be mended did not serve again in time."""

    condition = Condition.BUSY
    remedy = "Try again; its log is in the demonstration's folder."
    remedy_chinese = "请重试；日志在演示目录中。"

    def __init__(self, whom: Both) -> None:
        super().__init__(
            f"{whom.english[:1].upper()}{whom.english[1:]} did not come back in time.",
            f"{whom.chinese}未能及时恢复。",
        )


class Controls:
    """The controls over a federation; they are closed until `open`. `calendar` says which days are worked."""

    def __init__(self, federation: Federation, calendar: WorkingCalendar) -> None:
        self._federation = federation
        self._calendar = calendar
        self._lock = asyncio.Lock()
        self.are_open = False
        self._deeds: Mapping[Deed, Callable[[str], Awaitable[Both]]] = {
            Deed.HOUR: self._hour,
            Deed.MORNING: self._morning,
            Deed.WORKDAY: self._workday,
            Deed.CUT: self._cut,
            Deed.RESTORE: self._restore,
            Deed.KILL: self._kill,
            Deed.RESTART: self._restart,
        }

    def open(self) -> None:
        """Let whoever is at the stage act."""
        self.are_open = True

    @property
    def busy(self) -> bool:
        """Whether a deed is under way."""
        return self._lock.locked()

    async def do(self, what: str, whom: str) -> Both:
        """Do a deed to a part; what has happened. Raises Refused."""
        if what not in set(Deed):
            raise NoSuchDeed
        if not self.are_open:
            raise StillPlayed
        async with self._lock:
            return await self._deeds[Deed(what)](whom)

    # ------------------------------------------------------------ the clock

    async def _hour(self, _: str) -> Both:
        self._federation.clock.advance(HOUR)
        return self._it_is()

    async def _morning(self, _: str) -> Both:
        clock = self._federation.clock
        clock.advance_to(next_morning(self._calendar, clock.now()))
        return self._it_is()

    async def _workday(self, _: str) -> Both:
        clock = self._federation.clock
        now = clock.now().astimezone(SHANGHAI)
        day = self._calendar.add_workdays(now.date(), 1)
        clock.advance_to(now.replace(year=day.year, month=day.month, day=day.day))
        return self._it_is()

    def _it_is(self) -> Both:
        now = self._federation.clock.now()
        time = shown_instant(now)[11:]
        beyond = self._calendar.is_provisional(now.astimezone(SHANGHAI).date())
        return Both(
            f"The business clock shows {shown_day(now, Language.ENGLISH)} {time}."
            + (" No working calendar is published for that day: Monday to Friday are counted." if beyond else ""),
            f"业务时间已拨到 {shown_day(now, Language.CHINESE)} {time}。"
            + ("该日尚无公布的工作日历，按周一至周五计算。" if beyond else ""),
        )

    # ------------------------------------------------------------ links

    def _site(self, code: str) -> str:
        if code not in {site.code for site in self._federation.sites.provinces}:
            raise NoSuchDeed
        return code

    async def _cut(self, whom: str) -> Both:
        site = self._site(whom)
        if self._federation.is_cut_off(site):
            raise AlreadyCut(site)
        await self._federation.cut_link(site)
        return Both(
            f"The link of {site} is cut. Its bureaus go on working; the national hub falls behind, and says so.",
            f"{site} 的链路已切断。所辖单位照常办理；全国汇总随之滞后并如实显示。",
        )

    async def _restore(self, whom: str) -> Both:
        site = self._site(whom)
        if not self._federation.is_cut_off(site):
            raise NotCut(site)
        try:
            await self._federation.restore_link(site)
        except ProcessError as failure:
            raise NotBack(Both(f"the link of {site}", f"{site} 的链路")) from failure
        return Both(f"The link of {site} is up again; the hub catches up.", f"{site} 的链路已恢复，全国汇总正在补齐。")

    # ------------------------------------------------------------ processes

    def _service(self, name: str) -> Service:
        for service in self._federation.services:
            if service.name == name:
                return service
        raise NoSuchDeed

    async def _kill(self, whom: str) -> Both:
        service, words = self._service(whom), words_for(self._service(whom))
        if service.down or not service.process.alive:
            raise AlreadyDown(words)
        if service.kind == "hub":
            await self._federation.kill_hub(service.codes[0])
            return Both(
                f"kill -9: {words.english} is gone. The ledgers go on without it.",
                f"kill -9：{words.chinese}已停机。各台账照常运行。",
            )
        await self._federation.kill_node(service.codes[0])
        return Both(
            f"kill -9: {words.english} is gone, its ledger is on disk. What is for it waits with the others.",
            f"kill -9：{words.chinese}已停机，台账保存在磁盘上；发给它的移交在其他单位等候。",
        )

    async def _restart(self, whom: str) -> Both:
        service, words = self._service(whom), words_for(self._service(whom))
        if service.process.alive:
            raise AlreadyUp(words)
        try:
            if service.kind == "hub":
                await self._federation.restart_hub(service.codes[0])
            else:
                await self._federation.restart_node(service.codes[0])
        except ProcessError as failure:
            raise NotBack(words) from failure
        return Both(
            f"{words.english[:1].upper()}{words.english[1:]} serves again, with everything that it had acknowledged.",
            f"{words.chinese}已恢复服务，此前确认的记录全部都在。",
        )


def words_for(service: Service) -> Both:
    """What a process is called in a sentence."""
    codes = "、".join(service.codes)
    if service.kind == "hub":
        return Both(f"the hub of {service.codes[0]}", f"{codes} 的汇总中心")
    return Both(f"the node of {', '.join(service.codes)}", f"{codes} 的节点")
