"""Officers sign in at the desk in a real browser, by TLS: what they see, whole without scripts, axe clean."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from playwright.async_api import Browser, BrowserContext, Page, expect

from kuaixiang.accounts.users import User, save_users
from kuaixiang.runtime import pki
from kuaixiang.runtime.settings import read_settings
from kuaixiang.web.console import LANGUAGE_COOKIE
from node import service
from node.settings import NodeSettings
from tests.browser.desks import WAIT_MS_MAX, WATCH, broken
from tests.browser.test_pages import judged
from tests.node.callers import COUNTY
from tests.node.test_sign_in import PASSWORD, STAFF

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Desk:
    """A desk that is served by TLS, and browsers at it."""

    address: str
    browser: Browser
    contexts: list[BrowserContext]

    async def page(self, *, scripts: bool = True, language: str = "zh-CN") -> Page:
        context = await self.browser.new_context(java_script_enabled=scripts, ignore_https_errors=True)
        context.set_default_timeout(WAIT_MS_MAX)
        if scripts:
            await context.add_init_script(WATCH)
        await context.add_cookies([{"name": LANGUAGE_COOKIE, "value": language, "url": self.address}])
        self.contexts.append(context)
        page = await context.new_page()
        await page.goto(f"{self.address}/")
        return page


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder: Path = tmp_path_factory.mktemp("sign-in")
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    save_users(folder / "users.toml", {(COUNTY, actor): User(quick) for actor in ("R01", "T01")})
    (folder / "staff.toml").write_text(STAFF, encoding="utf-8")
    pki.init_authority(folder / "ca", "test")
    pki.issue(folder / "ca", folder / "node", "node", [COUNTY])
    settings = read_settings(
        NodeSettings,
        bureaus=(COUNTY,),
        database=f"sqlite:///{folder}/node.db",
        listen="127.0.0.1:0",
        metrics_port=0,
        certificates=folder / "node",
        nats_url=None,
        staff=folder / "staff.toml",
        users=folder / "users.toml",
        desk="127.0.0.1:0",
        pages_certificates=folder / "node",
    )
    async with service.running(settings) as running:
        made = Desk(f"https://127.0.0.1:{running.desk_port}", chromium, [])
        yield made
        for context in made.contexts:
            await context.close()


async def sign_in(page: Page, actor: str, password: str = PASSWORD) -> None:
    await page.fill("#actor", actor)
    await page.fill("#password", password)
    await page.keyboard.press("Enter")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
async def test_an_officer_signs_in_by_the_keyboard_and_out_again(desk: Desk, scripts: bool) -> None:
    page = await desk.page(scripts=scripts)
    await expect(page).to_have_url(f"{desk.address}/sign-in")
    await sign_in(page, "R01", "wrong")
    await expect(page.locator('[data-rule="WrongPassword"]')).to_be_visible()
    await expect(page.locator("#actor")).to_have_value("R01")
    await expect(page.locator("#password")).to_have_value("")
    await sign_in(page, "R01")
    await expect(page.locator(".who")).to_contain_text("任")
    (cookie,) = [one for one in await page.context.cookies() if one["name"] == f"__Host-kx-desk-{COUNTY}"]
    assert (True, True, "Strict") == (cookie["secure"], cookie["httpOnly"], cookie["sameSite"])
    await page.get_by_role("button", name="退出登录").click()
    await expect(page.get_by_role("status")).to_contain_text("已退出登录")
    if scripts:
        assert [] == await broken(page)


async def test_who_has_two_roles_chooses_and_changes_them(desk: Desk) -> None:
    page = await desk.page()
    await sign_in(page, "T01")
    await page.get_by_role("button", name="受理人").click()
    await expect(page.locator(".who")).to_contain_text("受理人")
    await page.get_by_role("link", name="切换岗位").click()
    await page.get_by_role("button", name="纳税服务部门").click()
    await expect(page.locator(".who")).to_contain_text("纳税服务部门")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
async def test_what_was_typed_outlives_the_session(desk: Desk, scripts: bool) -> None:
    page = await desk.page(scripts=scripts)
    await sign_in(page, "R01")
    await expect(page.locator(".who")).to_be_visible()
    await page.goto(f"{desk.address}/register")
    await page.fill('[name="taxpayer_name"]', "芃沅文具店")
    await page.fill('[name="contact"]', "15400001234")
    await page.fill('[name="text"]', f"怎样更正已经申报的印花税？{scripts}")
    await page.check('[name="category"][value="1"]', force=True)
    await page.check('[name="channel"][value="4"]', force=True)
    await page.context.clear_cookies(name=f"__Host-kx-desk-{COUNTY}")
    await page.locator("#register button.main").click()
    await expect(page.get_by_role("alert")).to_contain_text("已填写的内容仍保留")
    await sign_in(page, "R01")
    await page.get_by_role("button", name="立即提交").click()
    await expect(page).to_have_url(re.compile(rf"{desk.address}/cases/{COUNTY}-2026-\d{{7}}$"))


@pytest.mark.parametrize("language", ["zh-CN", "en"])
async def test_the_pages_of_signing_in_keep_the_rules_of_accessibility(desk: Desk, language: str) -> None:
    page = await desk.page(language=language)
    assert [] == await judged(page)
    await sign_in(page, "T01", "wrong")
    await expect(page.locator('[data-rule="WrongPassword"]')).to_be_visible()
    await page.locator("summary").click()
    assert [] == await judged(page)
    await sign_in(page, "T01")
    await expect(page).to_have_url(f"{desk.address}/capacity?to=%2F")
    assert [] == await judged(page)
