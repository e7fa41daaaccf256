"""The desks of a federation in a real browser: people who step in, pages that are watched, pages that are crawled."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from playwright.async_api import Browser, BrowserContext, Page, expect

from demo.federation import Federation, Service
from kuaixiang.domain.words import Role
from kuaixiang.web.console import LANGUAGE_COOKIE
from kuaixiang.web.language import Language

Form = dict[str, str | float | bool]
"""What a form sends, as Playwright takes it."""

HEADQUARTERS, PROVINCE, COUNTY, CLOSED = "000000", "110000", "110101", "110102"
"""`CLOSED` is no demonstration: nobody can step in at its desk."""

SERVICE, POLICY, LEADERSHIP = "tax-service", "policy", "leadership"

ROLE_OF_LETTER: Final[Mapping[str, Role]] = {
    "R": Role.REGISTRAR,
    "T": Role.TAX_SERVICE,
    "H": Role.HANDLER,
    "D": Role.DEPUTY_HEAD,
    "B": Role.BUREAU_HEAD,
    "S": Role.SUPERVISOR,
    "A": Role.AUDITOR,
}
"""The demonstration's officers have the first letter of what they are."""

WAIT_MS_MAX: Final = 60_000
"""What a page waits for comes in milliseconds, on a busy machine in seconds; a limit costs nothing but where it is met."""

expect.set_options(timeout=WAIT_MS_MAX)

WATCH: Final = """
window.broken = [];
document.addEventListener("securitypolicyviolation", (event) => window.broken.push(
  `${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""

_NUMBER: Final = re.compile(r"\d{6}(-[0-9A-Z-]+)?")
_NO_PAGES: Final = re.compile(
    r"^/(assets|language|step-out|live)\b|/files/|^/[a-z]+/(csv|docx|html|print|svg|xlsx)$|[.]xlsx$"
)


class DeskFederation(Federation):
    """A federation whose nodes have a desk each, one of them outside the demonstration."""

    def _node(self, group: tuple[str, ...]) -> Service:
        settings = self._node_settings
        try:
            self._node_settings = settings | {"demonstration": CLOSED not in group}
            return super()._node(group)
        finally:
            self._node_settings = settings

    def board(self, scope: str) -> str:
        """The address of a hub's board. Raises NoSuchHub."""
        return self._hub_service(scope).pages_url

    def desk(self, bureau: str) -> str:
        """The address of a bureau's desk."""
        return self.node(bureau).pages_url


@dataclass
class Desks:
    """The desks, for one test: it ends with every page closed, and knows what went wrong on any of them."""

    federation: DeskFederation
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Dialogs, errors of scripts, and what the content security policy stopped."""
    addresses: list[str] = field(default_factory=list)
    """Every address that was asked for."""

    async def context(self, *, scripts: bool = True, language: Language = Language.CHINESE) -> BrowserContext:
        """A browser of its own, without anybody's cookies."""
        context = await self.browser.new_context(
            java_script_enabled=scripts, locale="zh-CN", viewport={"width": 1366, "height": 768}
        )
        context.set_default_timeout(WAIT_MS_MAX)
        context.on("page", self._watch)
        if scripts:
            await context.add_init_script(WATCH)
        if language is not Language.CHINESE:
            await context.add_cookies([{"name": LANGUAGE_COOKIE, "value": language.value, "url": "http://127.0.0.1"}])
        self.contexts.append(context)
        return context

    async def step_in(
        self,
        actor: str,
        bureau: str = COUNTY,
        department: str = SERVICE,
        *,
        at: str = "",
        scripts: bool = True,
        language: Language = Language.CHINESE,
    ) -> Page:
        """An officer's page, at the first page of the bureau's desk, or of the pages at an address."""
        context = await self.context(scripts=scripts, language=language)
        desk = at or self.federation.desk(bureau)
        page = await context.new_page()
        await context.request.post(
            f"{desk}/step-in",
            form={
                "bureau": bureau,
                "actor": actor,
                "department": department,
                "role": ROLE_OF_LETTER[actor[0]].name,
            },
        )
        await page.goto(f"{desk}/")
        return page

    async def close(self, screenshots: Path | None) -> None:
        """Close every page, after a picture of each where `screenshots` says where to."""
        for number, page in enumerate(page for context in self.contexts for page in context.pages):
            if screenshots is not None:
                await page.screenshot(path=screenshots / f"page-{number}.png", full_page=True)
            elif page.url.startswith("http") and not page.is_closed():
                self.faults += await broken(page)
        for context in self.contexts:
            await context.close()

    def _watch(self, page: Page) -> None:
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.faults.append(f"error of a script: {error}"))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("request", lambda request: self.addresses.append(request.url))

    async def _dialog(self, dialog: object) -> None:
        self.faults.append(f"a dialog opened: {dialog}")
        await dialog.dismiss()  # type: ignore[attr-defined]

    def _said(self, kind: str, text: str) -> None:
        # A refusal is an answer with a status of its own, which browsers call an error.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.faults.append(f"the console says: {text}")


async def broken(page: Page) -> list[str]:
    """What the content security policy has stopped on this page since it was loaded."""
    found: list[str] = await page.evaluate("() => window.broken || []")
    return [f"against the policy: {one}" for one in found]


async def form_of(page: Page, selector: str = "main form") -> Form:
    """What a form of the page would send as it stands, hidden fields and all."""
    fields: Form = await page.eval_on_selector(selector, "form => Object.fromEntries(new FormData(form).entries())")
    return fields


def shape(address: str) -> str:
    """What addresses of one kind of page have in common: cases and all that is chosen but a tab are left out."""
    parts = urlsplit(address)
    return f"{_NUMBER.sub('NUMBER', parts.path)}?{dict(parse_qsl(parts.query)).get('tab', '')}"


async def pages_of(page: Page, seen: set[str] | None = None) -> AsyncIterator[Page]:
    """One page of each kind that links lead to from where it is; kinds that are in `seen` are left out and added."""
    origin = urlsplit(page.url).netloc
    waiting, seen = [page.url], seen if seen is not None else set()
    while waiting:
        address = waiting.pop(0)
        kind = shape(address)
        if kind in seen:
            continue
        seen.add(kind)
        await page.goto(address)
        found: list[str] = await page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        yield page
        for link in found:
            parts = urlsplit(link)
            if parts.netloc == origin and not _NO_PAGES.search(parts.path):
                waiting.append(link.partition("#")[0])
