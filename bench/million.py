"""A ledger of a million cases, and eight officers at it: `python -m bench.million`.

Fills an SQLite ledger through the office, act by act, as officers would: most cases are written off, and each tab of the
work list has about 3 in 100 of them. Then a node serves it over mTLS, and eight callers ask at once, without a pause
between an answer and the next question, for the counts, each tab's first page, a deep page, searches and one case.
Then eight officers look at the desk's pages, each taking a second between two of them, and once more without a pause.
Reported are the median and the 95th percentile of each in milliseconds; `--short` is a ledger of a hundred cases.

`--database FILE` keeps the ledger, or takes the one that is there; its clock is FILE.clock.
"""

import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx

from bench import results
from demo.content import Request, fictional_taxpayer, load_requests
from demo.staff import staff_list
from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.words import Channel, Disclosure, Role, Satisfaction, Telling, WorkTab
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime import logs, pki, tls
from kuaixiang.runtime.clock import FixedClock, SharedClockDriver, to_micros
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc
from kuaixiang.wire.v1.referral_pb2 import Signature
from node import service
from node.ledger import queries
from node.ledger.ledger import Ledger
from node.office import Header, Office, Place
from node.settings import NodeSettings

BUREAU, SUPERIOR = "110101", "000000"
NOW = datetime(2026, 11, 25, 10, 0, tzinfo=SHANGHAI)
"""A Wednesday morning. The first case was registered two hundred days before."""
DAYS = 200
LATE_DAYS = 6
"""Open cases were registered within the last days, so that some are due today and some overdue."""
AT_ONCE = 512
CALLERS = 8
ASKED = 25
"""Questions of each caller, of each kind."""
THINK_SECONDS = 1.0
"""What an officer takes at least to look at a page before he asks for the next."""
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


async def fill(path: Path, count: int, bureau: str = BUREAU) -> None:
    """A ledger of so many cases, by acts of its officers."""
    clock = FixedClock(NOW)
    ledger = Ledger(f"sqlite:///{path}", [bureau])
    place = Place(national_tree(), published_calendar(), Rules(), clock)
    office = Office(ledger, place, lambda _: Signature())
    ledger.start()
    started = time.monotonic()
    todo = lives(count, bureau)
    made = 0

    async def officer() -> None:
        nonlocal made
        for life in todo:
            clock.set(life.registered_at)
            case_id = ""
            for role, act in ((Role.REGISTRAR, life.act), *life.then):
                department = "tax-service" if role is Role.TAX_SERVICE else life.department
                header = Header(
                    bureau=bureau, case_id=case_id, actor=f"{role.name.lower()}-1", role=role, department=department
                )
                case_id = (await office.perform(header, act)).case.case_id
            made += 1
            if made % 50_000 == 0:
                print(f"  {made} cases after {time.monotonic() - started:.0f} s", flush=True)

    await asyncio.gather(*(officer() for _ in range(AT_ONCE)))
    clock.set(NOW)
    # What time did is on record, as the sweep of a node would have it: else it would be at it while this is measured.
    while late := queries.clocks_to_note(ledger.database, [bureau], to_micros(NOW), place.calendar.version, AT_ONCE):
        await asyncio.gather(*(office.note_time(bureau, subject) for bureau, subject in late))
    ledger.close()
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    seconds = time.monotonic() - started
    print(f"filled: {count} cases in {seconds:.0f} s, {size / count:.0f} bytes a case on disk")


def clock_of(path: Path) -> Path:
    """The file of a ledger's clock."""
    return path.with_name(f"{path.name}.clock")


async def serve(path: Path, folder: Path, ready: Any) -> None:
    """The node, until the pipe says stop."""
    settings = read_settings(
        NodeSettings,
        bureaus=(BUREAU,),
        database=f"sqlite:///{path}",
        listen="127.0.0.1:0",
        metrics_port=0,
        certificates=folder / "node",
        clock=clock_of(path),
        nats_url=None,
        staff=folder / "staff.toml",
        desk="127.0.0.1:0",
        demonstration=True,
    )
    async with service.running(settings) as node:
        ready.send((node.port, node.desk_port))
        await asyncio.to_thread(ready.recv)


def _serve(path: Path, folder: Path, ready: Any) -> None:
    # The superior's node is not there, which the courier would tell of every case that is offered to it.
    logs.configure("bench", "error")
    asyncio.run(serve(path, folder, ready))


Ask = Callable[[], Awaitable[Any]]


async def questions(stub: Any, bureau: str = BUREAU) -> dict[str, Ask]:
    """What officers ask, by name; each may be asked any number of times."""

    def list_cases(**fields: Any) -> Ask:
        request = case_pb2.ListCasesRequest(bureau=bureau, include_brief=True, **fields)
        return lambda: stub.ListCases(request)

    def one_case(case_id: str) -> Ask:
        words: Any = {"private": Disclosure.MASKED, "role": Role.HANDLER}
        request = case_pb2.GetCaseRequest(
            bureau=bureau, case_id=case_id, include_history=True, actor="H01", department="policy", **words
        )
        return lambda: stub.GetCase(request)

    def count(department: str) -> Ask:
        return lambda: stub.CountWork(case_pb2.CountWorkRequest(bureau=bureau, department=department))

    deep, searched = "", ""
    for _ in range(40):
        deep = (await list_cases(tab=WorkTab.ALL, page_size=500, page_token=deep)()).next_page_token
        searched = (await list_cases(search=COMMON, page_size=100, page_token=searched)()).next_page_token
    (found, *_) = (await list_cases(tab=WorkTab.TO_WRITE_OFF)()).cases
    asked = {"counts": count(""), "counts of a department": count(DEPARTMENTS[0])}
    for tab in WorkTab:
        asked[f"tab {tab.name.lower()}"] = list_cases(tab=tab)
    asked |= {
        "a department's cases to handle": list_cases(tab=WorkTab.TO_HANDLE, department=DEPARTMENTS[0]),
        "a page 20,000 cases deep": list_cases(tab=WorkTab.ALL, page_token=deep),
        f"search {RARE} (rare)": list_cases(search=RARE),
        f"search {COMMON} (common)": list_cases(search=COMMON),
        f"search {COMMON}, 4,000 cases deep": list_cases(search=COMMON, page_token=searched),
        f"search {COMMON} overdue": list_cases(search=COMMON, tab=WorkTab.OVERDUE),
        f"search {RARE} {COMMON}": list_cases(search=f"{RARE} {COMMON}"),
        "search a case's number": list_cases(search=found.case_id),
        "search a telephone number": list_cases(search="15400000017"),
        "one case with its history": one_case(found.case_id),
    }
    return asked


async def measure(port: int, folder: Path) -> dict[str, dict[str, float]]:
    """How long each question takes, in milliseconds, of eight callers who ask it at once."""
    paths = pki.CertificatePaths.in_folder(folder / "office")
    channel = tls.open_channel(f"127.0.0.1:{port}", pki.dns_name("node", BUREAU), paths)
    figures: dict[str, dict[str, float]] = {}
    for name, ask in (await questions(case_pb2_grpc.CaseServiceStub(channel))).items():
        took: list[float] = []

        async def caller(ask: Ask = ask, took: list[float] = took) -> None:
            for _ in range(ASKED):
                started = time.perf_counter()
                await ask()
                took.append((time.perf_counter() - started) * 1e3)

        await ask()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        figures[name] = told(name, took)
    await channel.close()
    return figures


@dataclass
class User:
    """An officer at the desk's pages."""

    browser: httpx.AsyncClient
    csrf: str = ""

    async def step_in(self) -> None:
        """As an officer of tax service, without a password: the desk is a demonstration's."""
        person = {"bureau": BUREAU, "actor": "T01", "department": "tax-service", "role": Role.TAX_SERVICE.name}
        await self.browser.post("/step-in", data=person)
        page = await self.browser.get("/search")
        self.csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]

    async def look(self, address: str, search: str = "") -> str:
        """A page, by its address or by what is searched."""
        if search:
            answer = await self.browser.post(address, data={"csrf": self.csrf, "search": search})
        else:
            answer = await self.browser.get(address)
        answer.raise_for_status()
        return answer.text

    async def looks(self, address: str, search: str, pause_seconds: float, nth: int) -> list[float]:
        """Look at a page again and again, with a pause after each; the milliseconds that each took."""
        # They do not all begin at the same instant, nor keep in step.
        await asyncio.sleep(pause_seconds * nth / CALLERS)
        took: list[float] = []
        for _ in range(ASKED):
            started = time.perf_counter()
            await self.look(address, search)
            took.append((time.perf_counter() - started) * 1e3)
            await asyncio.sleep(pause_seconds)
        return took


async def measure_pages(port: int) -> dict[str, dict[str, float]]:
    """How long the desk's pages take, in milliseconds, of eight officers who look at them at once."""
    figures: dict[str, dict[str, float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        users = []
        for _ in range(CALLERS):
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
            users.append(User(await stack.enter_async_context(client)))
            await users[-1].step_in()
        work_list = f"/?tab={int(WorkTab.TO_HANDLE)}&department=*"
        first = await users[0].look(work_list)
        case = first.partition('data-href="')[2].partition('"')[0]
        asked = {
            "page: the work list": (work_list, ""),
            "page: all cases": (f"/?tab={int(WorkTab.ALL)}&department=*", ""),
            f"page: search {COMMON}": ("/search", COMMON),
            f"page: search {RARE}": ("/search", RARE),
            "page: a case": (case, ""),
        }
        for pause_seconds, how in ((THINK_SECONDS, ""), (0.0, ", no pause")):
            for name, (address, search) in asked.items():
                looks = (user.looks(address, search, pause_seconds, nth) for nth, user in enumerate(users))
                took = [one for found in await asyncio.gather(*looks) for one in found]
                figures[name + how] = told(name + how, took)
    return figures


def told(name: str, took: list[float]) -> dict[str, float]:
    """The median and the 95th percentile of times in milliseconds, printed."""
    took.sort()
    figure = {"p50": statistics.median(took), "p95": took[int(len(took) * 0.95)]}
    print(f"  {name:36} p50 {figure['p50']:7.1f} ms   p95 {figure['p95']:7.1f} ms", flush=True)
    return figure


def run(path: Path, folder: Path, cases: int) -> dict[str, dict[str, float]]:
    """Fills the ledger unless it is there, and measures it."""
    clock = clock_of(path)
    if not clock.exists():
        if path.exists():
            raise SystemExit(f"{path} was not filled to its end: delete it first.")
        asyncio.run(fill(path, cases))
        # The last thing that is made: a ledger with a clock is whole.
        SharedClockDriver(clock, NOW)
    (folder / "staff.toml").write_text(staff_list([BUREAU]), encoding="utf-8")
    pki.init_authority(folder / "ca", "bench")
    pki.issue(folder / "ca", folder / "node", "node", [BUREAU])
    pki.issue(folder / "ca", folder / "office", "office", [BUREAU])
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(path, folder, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        port, desk_port = ours.recv()
        figures = asyncio.run(measure(port, folder)) | asyncio.run(measure_pages(desk_port))
        ours.send("stop")
        process.join(10)
    finally:
        process.kill()
    return figures


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help="cases of the ledger (1000000)")
    parser.add_argument("--database", type=Path, help="keep the ledger in this file, or take the one that is there")
    arguments = results.parse(parser)
    cases = arguments.cases or (100 if arguments.short else 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        figures = run(arguments.database or Path(name) / "ledger.db", Path(name), cases)
    rows = [
        results.Row(name=f"{name}, {which}", value=value, unit="ms")
        for name, figure in figures.items()
        for which, value in figure.items()
    ]
    results.report("million", rows, arguments)


if __name__ == "__main__":
    main()
