"""Officers sign in at an identity provider and out of it again, in a real browser."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from demo.processes import free_port
from node import service
from tests.browser.desks import broken
from tests.browser.test_pages import judged
from tests.browser.test_sign_in import Desk, furnished, settings_in
from tests.desk.test_oidc import groups_of, provider_for
from tests.node.callers import COUNTY

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder = furnished(tmp_path_factory.mktemp("provider"))
    port = free_port()
    address = f"https://127.0.0.1:{port}"
    secret = folder / "oidc-secret"
    secret.write_text("a secret of two", encoding="utf-8")
    secret.chmod(0o600)
    with provider_for(COUNTY) as issuer:
        (folder / "oidc.toml").write_text(
            f'issuer = "{issuer}"\nclient_id = "kuaixiang"\nredirect_uri = "{address}/sign-in/back"\n'
            f'client_secret_file = "oidc-secret"\n{groups_of(COUNTY)}',
            encoding="utf-8",
        )
        async with service.running(settings_in(folder, port, users=None, oidc=folder / "oidc.toml")):
            made = Desk(address, chromium, [])
            yield made
            await made.close()


async def at_the_provider(page: Page, who: str) -> None:
    """Go to the provider and say there who one is."""
    await page.get_by_role("link", name="通过统一身份认证登录").click()
    await page.fill("[name=sub]", who)
    await page.keyboard.press("Enter")


async def test_whom_the_provider_knows_comes_to_the_page_that_he_wanted_and_leaves_both(desk: Desk) -> None:
    page = await desk.page()
    await page.goto(f"{desk.address}/register")
    assert 0 == await page.locator("#password").count()
    assert [] == await judged(page)
    await at_the_provider(page, "a")
    await expect(page).to_have_url(f"{desk.address}/register")
    await expect(page.locator(".who")).to_contain_text("任")
    assert [] == await broken(page)
    await page.get_by_role("button", name="退出登录").click()
    await expect(page.get_by_role("status")).to_contain_text("已退出登录")
    assert [] == await judged(page)
    await page.get_by_role("link", name="同时退出统一身份认证平台").click()
    await expect(page).to_have_url(re.compile("/oauth2/end_session"))
    await page.goto(f"{desk.address}/register")
    await expect(page).to_have_url(f"{desk.address}/sign-in?to=%2Fregister")


async def test_whom_the_bureau_does_not_list_is_told_so_and_may_try_again(desk: Desk) -> None:
    page = await desk.page()
    await at_the_provider(page, "b")
    await expect(page.locator("[data-rule=IdentityRefused]")).to_be_visible()
    await at_the_provider(page, "a")
    await expect(page.locator(".who")).to_contain_text("任")


async def test_what_was_typed_outlives_a_session_of_the_provider(desk: Desk) -> None:
    page = await desk.page()
    await at_the_provider(page, "a")
    # The page that one comes back to is signed in already and leads on by itself: who goes elsewhere before it did is overtaken.
    await expect(page).to_have_url(f"{desk.address}/")
    await expect(page.locator(".who")).to_be_visible()
    await page.goto(f"{desk.address}/register")
    await page.fill("[name=taxpayer_name]", "芃沅文具店")
    await page.fill("[name=contact]", "15400001234")
    await page.fill("[name=text]", "怎样更正已经申报的印花税？")
    await page.check("[name=category][value='1']")
    await page.context.clear_cookies(name=f"__Host-kx-desk-{COUNTY}")
    await page.locator("#register button.main").click()
    await expect(page.get_by_role("alert")).to_contain_text("已填写的内容仍保留")
    await page.get_by_role("button", name="已登录，继续").click()
    await expect(page.locator("[data-rule=NotSignedIn]")).to_be_visible()
    assert [] == await judged(page)
    async with page.expect_popup() as opened:
        await page.get_by_role("link", name="通过统一身份认证登录").click()
    there = await opened.value
    await there.fill("[name=sub]", "a")
    await there.keyboard.press("Enter")
    await expect(there.locator(".who")).to_contain_text("任")
    await page.get_by_role("button", name="已登录，继续").click()
    await page.get_by_role("button", name="立即提交").click()
    await expect(page).to_have_url(re.compile(f"/cases/{COUNTY}-2026-"))
