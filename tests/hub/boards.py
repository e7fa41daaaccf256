"""A board over a hub's database that has folded journals, and somebody who has stepped in at it."""

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from demo.journals import DAY, MONDAY, Journal, due, started
from hub.board.board import Board
from hub.folder import Folder, Message
from hub.ledgers import Ledgers
from hub.servicer import Statistics
from hub.store import Store
from hub.worker import Worker
from kuaixiang.domain.authority import Caller
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import ClockKind, Role
from kuaixiang.runtime.bus import head_subject, journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.server import Inside
from kuaixiang.web.language import Language
from kuaixiang.wire.v1 import journal_pb2, statistics_pb2
from tests.hub.journals import BEIJING, DONGCHENG, HANGZHOU, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG

DECEMBER_3 = MONDAY + timedelta(days=17)
DESK = "http://127.0.0.1:8080"
TREE = BureauTree(
    "test",
    [
        Bureau(HEADQUARTERS, "国家税务总局", Tier.NATIONAL, None, desk=DESK),
        Bureau(BEIJING, "国家税务总局北京市税务局", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(DONGCHENG, "国家税务总局东城区税务局", Tier.COUNTY, BEIJING),
        Bureau(XICHENG, "国家税务总局西城区税务局", Tier.COUNTY, BEIJING),
        Bureau(ZHEJIANG, "国家税务总局浙江省税务局", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(HANGZHOU, "国家税务总局杭州市税务局", Tier.PREFECTURE, ZHEJIANG),
        Bureau(SHANGCHENG, "国家税务总局上城区税务局", Tier.COUNTY, HANGZHOU),
    ],
)


class Bench:
    """A hub without a bus: its database, its services, its board."""

    def __init__(
        self, url: str, tree: BureauTree = TREE, scope: str = HEADQUARTERS, now: datetime = DECEMBER_3
    ) -> None:
        self.tree = tree
        self.store = Store(url, tree, scope)
        self.folder = Folder(store=self.store, now_us=lambda: to_micros(now))
        self.worker = Worker()
        self.statistics = Statistics(
            store=self.store,
            folder=self.folder,
            ledgers=Ledgers(self.store.trees, CertificatePaths.in_folder(Path("nowhere"))),
            worker=self.worker,
            now_us=lambda: to_micros(now),
            silent_after_seconds=3600,
            settle_seconds=0,
        )
        board = Board(
            statistics=self.statistics, trees=self.store.trees, scope=scope, now=lambda: now, demonstration=True
        )
        self.words = board.console.words
        self.app = board.application()

    async def close(self) -> None:
        """Give the database back."""
        await self.worker.close()
        self.store.close()

    def feed(self, *journals: Journal) -> None:
        """Fold journals, and hear that they end there."""
        for journal in journals:
            site = self.tree.site(journal.bureau)
            contents: list[tuple[str, journal_pb2.Segment | journal_pb2.Head]] = [
                (journal_subject(site, journal.bureau), segment) for segment in journal.segments(size=5000)
            ]
            contents.append((head_subject(site, journal.bureau), journal.head(DECEMBER_3)))
            self.folder.take([Message(site, subject, content.SerializeToString()) for subject, content in contents])

    async def figures(self, **asked: Any) -> statistics_pb2.GetFiguresResponse:
        """What a terminal of headquarters is told."""
        inside: Any = Inside(Caller(offices=frozenset({HEADQUARTERS})))
        return await self.statistics.GetFigures(statistics_pb2.GetFiguresRequest(**asked), inside)

    @asynccontextmanager
    async def visitor(
        self,
        bureau: str = HEADQUARTERS,
        language: Language = Language.CHINESE,
        actor: str = "S01",
        role: Role = Role.SUPERVISOR,
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody of a bureau who has stepped in."""
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await client.get(f"/language/{language}")
            who = {"bureau": bureau, "actor": actor, "department": "leadership", "role": role.name}
            answer = await client.post("/step-in", data=who)
            assert answer.status_code == 303, answer.text
            yield client


def lived(bureau: str, cases: int, late: int = 0, day: datetime = MONDAY, into: Journal | None = None) -> Journal:
    """A journal with as many whole cases, the first of them late."""
    journal = into or Journal(bureau)
    for number in range(cases):
        journal.live(f"{bureau}-{day:%m}-{number:04}", day, late=number < late)
    return journal


def waiting(journal: Journal, cases: int, due_day: datetime, **more: Any) -> Journal:
    """The same journal with so many open cases whose handling is due that day, a day's warning before."""
    for number in range(cases):
        change = started(ClockKind.HANDLE, due_day, "policy")
        change.soon_at_us = due(due_day - DAY)
        journal.write(f"{journal.bureau}-w-{due_day:%m%d}-{number:04}", "dispatched", MONDAY, change, **more)
    return journal


@cache
def two_months() -> list[Journal]:
    """October and November of two provinces, and cases that are open on 3 December: late, due soon, in time."""
    october = MONDAY - 30 * DAY
    dongcheng = lived(DONGCHENG, 40, 4, into=lived(DONGCHENG, 30, 1, october))
    shangcheng = lived(SHANGCHENG, 35, 1, into=lived(SHANGCHENG, 10, 0, october))
    waiting(dongcheng, 3, DECEMBER_3 - 2 * DAY)
    waiting(dongcheng, 2, DECEMBER_3)
    waiting(shangcheng, 4, DECEMBER_3 + 5 * DAY)
    return [dongcheng, shangcheng, lived(XICHENG, 6), lived(HEADQUARTERS, 1)]


def with_desk(tree: BureauTree, bureau: str, desk: str) -> BureauTree:
    """The tree with another desk of one bureau."""
    return BureauTree(
        tree.version, [replace(one, desk=desk if one.code == bureau else one.desk) for one in tree.bureaus.values()]
    )


def text_of(page: str) -> str:
    """What a reader sees of a page, its blanks made one."""
    return " ".join(html.unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL)).split())


def table_of(page: str, caption: str = "") -> list[list[str]]:
    """The rows of the first table of a page, or of the one whose caption begins so."""
    for table in re.findall(r"<table.*?</table>", page, flags=re.DOTALL):
        if caption in text_of(table):
            rows = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
            return [[text_of(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL)] for row in rows]
    raise AssertionError(caption)
