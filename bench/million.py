"""A ledger of a million cases, and eight officers at it: `python -m bench.million`.

`bench.filling` makes the ledger, on SQLite. A node serves it over mTLS, and eight callers ask at once, without a pause
between an answer and the next question, for the counts, each tab's first page, a deep page, searches and one case.
Then eight officers look at the desk's pages, each taking a second between two of them, and once more without a pause.
Reported are the median and the 95th percentile of each in milliseconds; `--short` is a ledger of a hundred cases, asked
less often.

`--database FILE` keeps the ledger, or takes the one that is there; its clock is FILE.clock.
"""

import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench import results
from bench.filling import clock_of, have_ledgers
from bench.lives import COMMON, DEPARTMENTS, RARE
from demo.staff import staff_list
from kuaixiang.domain.words import Disclosure, Role, WorkTab
from kuaixiang.runtime import logs, pki, tls
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc
from node import service
from node.settings import NodeSettings

BUREAU = "110101"
CALLERS = 8
ASKED, ASKED_SHORT = 25, 3
"""Questions of each caller, of each kind."""
THINK_SECONDS = 1.0
"""What an officer takes at least to look at a page before he asks for the next."""


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


async def measure(port: int, folder: Path, asked: int) -> dict[str, dict[str, float]]:
    """How long each question takes, in milliseconds, of eight callers who ask it at once."""
    paths = pki.CertificatePaths.in_folder(folder / "office")
    channel = tls.open_channel(f"127.0.0.1:{port}", pki.dns_name("node", BUREAU), paths)
    figures: dict[str, dict[str, float]] = {}
    for name, ask in (await questions(case_pb2_grpc.CaseServiceStub(channel))).items():
        took: list[float] = []

        async def caller(ask: Ask = ask, took: list[float] = took) -> None:
            for _ in range(asked):
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

    async def looks(self, address: str, search: str, pause_seconds: float, nth: int, asked: int) -> list[float]:
        """Look at a page so many times, with a pause after each; the milliseconds that each took."""
        # They do not all begin at the same instant, nor keep in step.
        await asyncio.sleep(pause_seconds * nth / CALLERS)
        took: list[float] = []
        for _ in range(asked):
            started = time.perf_counter()
            await self.look(address, search)
            took.append((time.perf_counter() - started) * 1e3)
            await asyncio.sleep(pause_seconds)
        return took


async def measure_pages(port: int, asked: int) -> dict[str, dict[str, float]]:
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
        pages = {
            "page: the work list": (work_list, ""),
            "page: all cases": (f"/?tab={int(WorkTab.ALL)}&department=*", ""),
            f"page: search {COMMON}": ("/search", COMMON),
            f"page: search {RARE}": ("/search", RARE),
            "page: a case": (case, ""),
        }
        for pause_seconds, how in ((THINK_SECONDS, ""), (0.0, ", no pause")):
            for name, (address, search) in pages.items():
                looks = (user.looks(address, search, pause_seconds, nth, asked) for nth, user in enumerate(users))
                took = [one for found in await asyncio.gather(*looks) for one in found]
                figures[name + how] = told(name + how, took)
    return figures


def told(name: str, took: list[float]) -> dict[str, float]:
    """The median and the 95th percentile of times in milliseconds, printed."""
    took.sort()
    figure = {"p50": statistics.median(took), "p95": took[int(len(took) * 0.95)]}
    print(f"  {name:36} p50 {figure['p50']:7.1f} ms   p95 {figure['p95']:7.1f} ms", flush=True)
    return figure


def run(path: Path, folder: Path, cases: int, asked: int) -> dict[str, dict[str, float]]:
    """Fills the ledger unless it is there, and measures it."""
    have_ledgers(path, (BUREAU,), cases)
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
        figures = asyncio.run(measure(port, folder, asked)) | asyncio.run(measure_pages(desk_port, asked))
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
        figures = run(
            arguments.database or Path(name) / "ledger.db",
            Path(name),
            cases,
            ASKED_SHORT if arguments.short else ASKED,
        )
    rows = [
        results.Row(name=f"{name}, {which}", value=value, unit="ms")
        for name, figure in figures.items()
        for which, value in figure.items()
    ]
    results.report("million", rows, arguments)


if __name__ == "__main__":
    main()
