"""Officers sign in at the desk in a real browser, by TLS: what they see, whole without scripts, axe clean."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from argon2 import PasswordHasher
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from demo.processes import free_port
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

SECONDS = 150.0


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

    async def close(self) -> None:
        for context in self.contexts:
            await context.close()


def furnished(folder: Path) -> Path:
    """A folder with a county's certificates, staff and users."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    save_users(folder / "users.toml", {(COUNTY, actor): User(quick) for actor in ("R01", "T01", "B01")})
    (folder / "staff.toml").write_text(STAFF, encoding="utf-8")
    pki.init_authority(folder / "ca", "test")
    pki.issue(folder / "ca", folder / "node", "node", [COUNTY])
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder = furnished(tmp_path_factory.mktemp("sign-in"))
    async with service.running(settings_in(folder, 0)) as running:
        made = Desk(f"https://127.0.0.1:{running.desk_port}", chromium, [])
        yield made
        await made.close()


def settings_in(folder: Path, port: int, **more: Any) -> NodeSettings:
    """A node with officers, its desk at a port; 0 takes a free one."""
    known: dict[str, Any] = {
        "bureaus": (COUNTY,),
        "database": f"sqlite:///{folder}/node.db",
        "listen": "127.0.0.1:0",
        "metrics_port": 0,
        "certificates": folder / "node",
        "nats_url": None,
        "staff": folder / "staff.toml",
        "users": folder / "users.toml",
        "desk": f"127.0.0.1:{port}",
        "pages_certificates": folder / "node",
    }
    return read_settings(NodeSettings, **known | more)


async def sign_in(page: Page, actor: str, password: str = PASSWORD) -> None:
    await page.fill("#actor", actor)
    await page.fill("#password", password)
    await page.keyboard.press("Enter")


async def try_to_sign_in(page: Page, actor: str, password: str) -> None:
    """As `sign_in`, until the answer is there: not what is typed next is lost with the page that goes."""
    async with page.expect_navigation():
        await sign_in(page, actor, password)


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


async def test_after_wrong_passwords_the_officer_is_told_until_when_and_that_it_ends_by_itself(desk: Desk) -> None:
    page = await desk.page()
    refused = page.locator('[data-rule="TooManyAttempts"]')
    tried = 0
    async with asyncio.timeout(SECONDS):
        # The first pauses may be over before a busy machine has typed again; each is twice as long as the one before.
        while await refused.count() == 0:
            await try_to_sign_in(page, "B01", "wrong")
            await expect(page.get_by_role("alert")).to_be_visible()
            tried += 1
    assert tried > 5
    await expect(refused).to_contain_text("密码错误次数过多，已暂停登录。")
    await expect(refused).to_contain_text(re.compile(r"请于 \d\d:\d\d:\d\d 之后再试；暂停到时自动解除，无需他人解锁。"))
    assert "B01" == await page.input_value("#actor")
    # The right password is not looked at before its time, and is right afterwards.
    async with asyncio.timeout(SECONDS):
        while await page.locator(".who").count() == 0:
            await try_to_sign_in(page, "B01", PASSWORD)
            await asyncio.sleep(0.5)
    await expect(page.locator(".who")).to_contain_text("包")


async def test_a_registration_that_is_sent_while_the_desk_is_down_is_sent_again_and_is_one_case(
    chromium: Browser, tmp_path: Path
) -> None:
    folder = furnished(tmp_path)
    text = "修配厂的季度申报什么时候截止？"
    # Not one that the system gives, which it may give to somebody else while the desk is down.
    port = free_port()
    async with service.running(settings_in(folder, port)):
        desk = Desk(f"https://127.0.0.1:{port}", chromium, [])
        page = await desk.page()
        await sign_in(page, "R01")
        await expect(page.locator(".who")).to_be_visible()
        await page.goto(f"{desk.address}/register")
        await page.fill("[name=taxpayer_name]", "澄筠野修配厂")
        await page.fill("[name=contact]", "15400001234")
        await page.fill("[name=text]", text)
        await page.check("[name=category][value='1']")
    await page.click("#register button.main")
    await expect(page.locator("#lost")).to_be_visible()
    assert text == await page.input_value("[name=text]")
    async with service.running(settings_in(folder, port)):
        # Whatever becomes of the answer: what was done is not done once more.
        async def lose(route: Route) -> None:
            await route.fetch()
            await route.abort()

        await page.route("**/register", lose, times=1)
        await expect(page.locator("#register button.main")).to_be_enabled()
        await page.click("#register button.main")
        await expect(page.locator("#lost")).to_be_visible()
        await page.click("#register button.main")
        await expect(page).to_have_url(f"{desk.address}/cases/{COUNTY}-2026-0000001")
        assert [] == await broken(page)
        await page.goto(f"{desk.address}/cases/{COUNTY}-2026-0000002")
        await expect(page.locator("[data-rule=UnknownCase]")).to_be_visible()
        await desk.close()
