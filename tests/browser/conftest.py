"""A federation with desks and a browser, for each file of tests; a picture of every page of a test that fails."""

from collections.abc import AsyncIterator, Generator
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from demo.federation import part_of
from demo.staff import staff_list
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.facts import national_tree
from tests import services
from tests.browser.desks import CLOSED, COUNTY, HEADQUARTERS, PROVINCE, WAIT_MS_MAX, DeskFederation, Desks

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function) and "desks" in item.fixturenames:
        item.stash[FAILED] = True
        report.sections.append(("pages", f"a picture of each page: {item.funcargs['tmp_path']}/page-*.png"))
    return report


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    choice = services.chosen_browser()
    if choice.backend is services.Backend.NONE:
        services.unavailable(choice)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=choice.reason, timeout=WAIT_MS_MAX)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(
    request: pytest.FixtureRequest, chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DeskFederation]:
    bureaus = [HEADQUARTERS, PROVINCE, COUNTY, CLOSED]
    async with DeskFederation(
        tmp_path_factory.mktemp("federation"),
        part_of(national_tree(), bureaus),
        placement=[(bureau,) for bureau in bureaus],
        clock_start=MONDAY,
        staff=staff_list,
        hubs=getattr(request.module, "HUBS", ()),
        pages=True,
    ) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def desks(
    request: pytest.FixtureRequest, chromium: Browser, federation: DeskFederation, tmp_path: Path
) -> AsyncIterator[Desks]:
    desks = Desks(federation, chromium)
    yield desks
    failed = request.node.stash.get(FAILED, False)
    await desks.close(tmp_path if failed else None)
    if not failed:
        assert [] == desks.faults
