"""What holds of every page: both languages whole, nothing that keeps people out, keys, and what keeps others out."""

import asyncio
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from demo.mishaps import caught_up
from demo.officers import Officer
from kuaixiang.domain import acts, order_acts
from kuaixiang.domain.words import Category, Channel, OrderLevel, Role, Telling, WorkTab
from kuaixiang.web.guard import HEADERS
from kuaixiang.web.language import Language
from tests.browser.desks import (
    CLOSED,
    COUNTY,
    HEADQUARTERS,
    LEADERSHIP,
    POLICY,
    PROVINCE,
    SERVICE,
    WAIT_MS_MAX,
    DeskFederation,
    Desks,
    Form,
    form_of,
    pages_of,
)

pytestmark = [pytest.mark.nats, pytest.mark.asyncio(loop_scope="module")]

HUBS: Final = (PROVINCE,)
"""There is a board, too."""

AXE: Final = Path(__file__).parent / "axe-4.14.1.min.js"
LOOKS: Final = 4
"""What is wrong with a page that stands is wrong each time."""
REGISTRAR = Officer("R02", Role.REGISTRAR, SERVICE)
TAX_SERVICE = Officer("T02", Role.TAX_SERVICE, SERVICE)
HANDLER = Officer("H02", Role.HANDLER, POLICY)
SUPERVISOR = Officer("S01", Role.SUPERVISOR, LEADERSHIP)

TEXTS: Final = """() => {
  const found = [];
  const language = (element) => (element.closest("[lang]") || {lang: ""}).lang;
  const keep = (element, text) => { if (text && text.trim()) found.push([language(element), text.trim()]); };
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    // What somebody has typed is nobody's sentence, nor is what is shown as it is stored.
    if (!element.closest("script, style, textarea, template, noscript, code, [translate=no]")) keep(element, walker.currentNode.data);
  }
  for (const element of document.querySelectorAll("*"))
    for (const name of ["title", "aria-label", "alt", "placeholder", "aria-description", "label"])
      keep(element, element.getAttribute(name));
  for (const template of document.querySelectorAll("template"))
    keep(template, template.content.textContent);
  return found;
}"""
"""Every text that a page shows or has read aloud, with the language that it says to be in."""

LANGUAGES = [Language.CHINESE, pytest.param(Language.ENGLISH, marks=pytest.mark.slow)]
"""Officers read Chinese; the same walk in English is made where there is more time."""

CHINESE: Final = re.compile(r"[\u3400-\u9fff\uff01-\uff5e]")
CLAUSE: Final = re.compile(r"§[一二三四五](\([一二三四五]\))?\d?")
"""A clause of the notice is named as the notice names it."""
LATIN: Final = re.compile(r"[A-Za-z]{3,}")
LATIN_IN_CHINESE: Final = frozenset(
    {"CSV", "KiB", "MiB", "XLSX", "DOCX", "PDF", "Esc", "Enter", "SHA", "URL", "HTML", "NATS"}
)
"""Units, formats and keys have no other name in Chinese."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def lived_in(federation: DeskFederation) -> list[str]:
    """A federation with something on every page; the numbers of the county's cases."""
    county, province = federation.office(COUNTY), federation.office(PROVINCE)
    cases = []
    for number in range(6):
        act = acts.Register(
            taxpayer_name=f"澄筠野百货商行第{number}分店",
            contact="15400001234",
            text="季度销售额没有超过三十万元，两张专票要不要单独缴税？",
            category=Category.POLICY,
            channel=Channel.COUNTER,
            note="窗口登记",
        )
        done = await county.do(REGISTRAR, act, key=f"page-{number}")
        cases.append(str(done.case.case_id))
    forward = acts.Forward(telling=Telling.COMPLICATED, told="已告知")
    for case_id in cases[:4]:
        await county.do(REGISTRAR, forward, case_id, key=f"{case_id}-forward")
    for case_id in cases[:3]:
        await county.do(TAX_SERVICE, acts.Dispatch(to_department=POLICY), case_id, key=f"{case_id}-dispatch")
    await county.do(HANDLER, acts.AskExtension(workdays=2, reason="须请示上级"), cases[0], key="extension")
    await county.do(HANDLER, acts.Complete(result="无须单独缴税。"), cases[1], key="complete")
    refer = acts.Refer(final_bureau=PROVINCE, reason="涉及政策口径", telling=Telling.COMPLICATED, told="已告知")
    await county.do(REGISTRAR, refer, cases[5], key="refer")
    order = order_acts.IssueOrder(
        final_bureau=COUNTY, level=OrderLevel.SUPERVISE, text="请抓紧办理。", answer_workdays=3, case_ids=(cases[0],)
    )
    await province.order(SUPERVISOR, order, key="order")
    return cases


EVERYWHERE: Final = (
    ("T01", COUNTY, SERVICE),
    ("H02", COUNTY, POLICY),
    ("D01", COUNTY, LEADERSHIP),
    ("S01", PROVINCE, LEADERSHIP),
    ("T01", PROVINCE, SERVICE),
)
"""Who sees, together, every page of the desk."""


def foreign(language: Language, texts: list[tuple[str, str]]) -> set[str]:
    """The texts that are not in the language of the page and do not say so."""
    if language is Language.ENGLISH:
        return {text for said, text in texts if said != Language.CHINESE and CHINESE.search(CLAUSE.sub("", text))}
    # What is marked English is the way to the English pages; what is data is marked Chinese, as all the page is.
    return {text for said, text in texts if said == Language.CHINESE and set(LATIN.findall(text)) - LATIN_IN_CHINESE}


async def judged(page: Page) -> list[str]:
    """What axe-core finds on the page that keeps somebody from using it."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = await page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
    )
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:160]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]


class Look:
    """What is wrong with pages that are looked at."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.seen: set[str] = set()

    async def at(self, page: Page, language: Language, what: str = "") -> None:
        """Look at a page as it is now."""
        path = urlsplit(page.url).path
        self.seen.add(path)
        faults: list[str] = []
        for _ in range(LOOKS):
            # What is on its way is shown paler, for a moment; what came in asks for more as soon as it stands there.
            await expect(page.locator(".htmx-request")).to_have_count(0)
            texts = [(said, text) for said, text in await page.evaluate(TEXTS)]
            faults = [f"not translated: {text}" for text in sorted(foreign(language, texts))]
            faults += await judged(page)
            if not faults:
                break
        self.wrong += [f"{language} {what or path}: {fault}" for fault in faults]

    async def crawl(self, page: Page, language: Language, kinds: set[str]) -> None:
        """Look at one page of each kind."""
        async for shown in pages_of(page, kinds):
            await self.at(shown, language)

    def judge(self) -> None:
        """Fail by all that is wrong."""
        if self.wrong:
            pytest.fail("\n".join(self.wrong), pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_page_of_the_desk_is_whole_in_its_language_and_keeps_nobody_out(
    desks: Desks, language: Language
) -> None:
    look, kinds = Look(), set[str]()

    # One after the other: the first who sees a page of a kind is the one who shows it.
    for who in EVERYWHERE:
        await look.crawl(await desks.step_in(*who, language=language), language, kinds)
    look.judge()
    assert {"/", "/register", "/search", "/orders", "/subordinates", "/reconcile", "/ledger"} <= look.seen


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_page_of_the_board_is_whole_in_its_language_and_keeps_nobody_out(
    desks: Desks, language: Language
) -> None:
    look = Look()
    page = await desks.step_in("S01", PROVINCE, LEADERSHIP, at=desks.federation.board(PROVINCE), language=language)
    await look.crawl(page, language, set())
    look.judge()
    assert {"/", "/board", "/bulletin", "/completeness", "/definitions"} <= look.seen


async def test_the_dashboard_s_totals_are_the_figures_of_kx_hub_stats(desks: Desks, lived_in: list[str]) -> None:
    hub = desks.federation.hub(PROVINCE)
    page = await desks.step_in("S01", PROVINCE, LEADERSHIP, at=desks.federation.board(PROVINCE))
    days = "from=2026-09-01&to=2026-09-30"
    # Nothing more may come in between the two readings.
    ends = {code: (await desks.federation.office(code).head()).seq for code in (PROVINCE, COUNTY)}
    await caught_up(desks.federation, ends, WAIT_MS_MAX / 1000)
    (row,) = (await hub.figures(scope=PROVINCE, from_day="2026-09-01", to_day="2026-09-30")).rows
    assert row.facts["registered"] >= len(lived_in)
    await page.goto(f"{page.url}?{days}")
    for name in ("registered", "completed"):
        shown = await page.inner_text(f".cards .figure[href*='figure={name}&'], .cards .figure[href$='figure={name}']")
        assert str(row.facts[name]) == shown
    met, due = next((rate.numerator, rate.denominator) for rate in row.rates if rate.name == "on_time")
    card = page.locator(".card", has=page.locator("[href*='figure=on_time']")).first
    await expect(card).to_contain_text(f"{met} / {due}" if due else "—")


async def test_a_supervisor_urges_from_the_ranking_and_the_county_answers(desks: Desks) -> None:
    board = await desks.step_in("S01", PROVINCE, LEADERSHIP, at=desks.federation.board(PROVINCE))
    await board.context.request.post(
        f"{desks.federation.desk(PROVINCE)}/step-in",
        form={"bureau": PROVINCE, "actor": "S01", "department": LEADERSHIP, "role": Role.SUPERVISOR.name},
    )
    # The county is in the ranking once the hub has heard of it.
    await expect_at(board, f"{board.url}board", "tr:has-text('东城区') >> text=催办")
    await board.click("tr:has-text('东城区') >> text=催办")
    await board.wait_for_url("**/orders/new?**")
    await board.fill("[name=text]", "请核实临期诉求，三个工作日内书面回复")
    await send(board, "main button.main")
    order = urlsplit(board.url).path
    assert order.startswith("/orders/")

    county = await desks.step_in("T01")
    await expect_at(county, f"{desks.federation.desk(COUNTY)}/orders", f"a[href='{order}']")
    await county.click(f"a[href='{order}']")
    await county.wait_for_url(f"**{order}")
    await county.goto(f"{county.url}/acknowledge")
    await send(county, "main button.main")
    await county.goto(f"{desks.federation.desk(COUNTY)}{order}/answer")
    await county.fill("[name=answer]", "已逐件核实，将按期办结")
    await send(county, "main button.main")

    await expect_at(board, f"{desks.federation.desk(PROVINCE)}{order}", "a[href$='/accept']")
    await board.goto(f"{board.url}/accept")
    await send(board, "main button.main")
    await expect(board.locator("main")).to_contain_text("已逐件核实，将按期办结")
    await expect(board.locator("main")).to_contain_text("已办结")


async def expect_at(page: Page, address: str, selector: str) -> None:
    """Load an address until what is waited for stands there: what another bureau did is on its way."""
    async with asyncio.timeout(WAIT_MS_MAX / 1000):
        while True:
            await page.goto(address)
            if await page.locator(selector).count():
                return


async def send(page: Page, button: str) -> None:
    """Press a form's button and be at its answer."""
    async with page.expect_navigation():
        await page.click(button)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_answer_of_the_desk_is_whole_in_its_language_and_keeps_nobody_out(
    desks: Desks, language: Language, lived_in: list[str]
) -> None:
    look = Look()
    page = await desks.step_in("T01", language=language)
    home = page.url
    await page.check("tbody input[name=case] >> nth=0")
    await send(page, "button[name=act][value=Dispatch]")
    await look.at(page, language, "bulk")
    await page.select_option("[name=to_department]", POLICY)
    await send(page, "button[value=preview]")
    await look.at(page, language, "bulk preview")
    await page.goto(f"{home}search")
    await page.fill("main [name=search]", "专票")
    await send(page, "main form button")
    await look.at(page, language, "found")
    await page.goto(f"{home}cases/{lived_in[3]}")
    await page.click("[data-act][data-htmx-powered] >> nth=0")
    await expect(page.locator("#dialog[open]")).to_be_visible()
    await look.at(page, language, "dialog")
    await page.keyboard.press("Escape")
    await send(page, "form[action$=private] button")
    await look.at(page, language, "in clear")
    await page.goto(f"{home}register")
    for name, value in (("taxpayer_name", "澄筠野百货商行第1分店"), ("contact", "15400001234"), ("text", "专票")):
        await page.fill(f"#f-{name}", value)
    await expect(page.locator("#duplicates input").first).to_be_visible()
    await look.at(page, language, "duplicates")
    await page.fill("#f-contact", "?")
    await page.check("[name=category] >> nth=0")
    await page.click("#register button.main")
    await expect(page.locator("#register [data-rule]")).to_be_visible()
    await look.at(page, language, "refused registration")
    await page.goto(f"{home}cases/110101-2026-9999999")
    await look.at(page, language, "refused")
    await page.goto(f"{home}nowhere")
    await look.at(page, language, "no page")
    stranger = await (await desks.context(language=language)).new_page()
    await stranger.goto(home)
    await look.at(stranger, language, "step in")
    look.judge()


async def test_lists_are_walked_by_keys_and_the_focus_is_seen(desks: Desks) -> None:
    page = await desks.step_in("R01")
    await page.goto(f"{page.url}?tab={int(WorkTab.ALL)}")
    for key, at in (("j", 0), ("j", 1), ("k", 0), ("k", 0)):
        await page.keyboard.press(key)
        await expect(page.locator("tr[data-href]").nth(at)).to_have_class(re.compile(r"\bat\b"))
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert "solid" == outline
    address = await page.evaluate("document.activeElement.href")
    await page.keyboard.press("Enter")
    await page.wait_for_url(address)
    await page.keyboard.press("?")
    await expect(page.locator("#dialog[open] .keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#dialog[open]")).to_have_count(0)
    await page.keyboard.press("/")
    await page.wait_for_url("**/search")
    await expect(page.locator("main [name=search]")).to_be_focused()
    # Keys are letters where one types.
    await page.keyboard.type("nj?")
    await expect(page.locator("main [name=search]")).to_have_value("nj?")


async def test_a_form_is_refused_without_its_token_with_another_session_s_and_from_another_site(
    desks: Desks,
) -> None:
    page, other = await desks.step_in("R01"), await desks.step_in("R02")
    await page.goto(f"{page.url}register")
    await other.goto(page.url)
    form = await form_of(page, "#register")
    form |= {"taxpayer_name": "伪造表单商店", "contact": "15400001234", "text": "伪造", "category": "1"}
    forged: tuple[tuple[Form, dict[str, str]], ...] = (
        ({key: value for key, value in form.items() if key != "csrf"}, {}),
        (form | {"csrf": (await form_of(other, "#register"))["csrf"]}, {}),
        (form, {"origin": "http://127.0.0.1:1"}),
        (form, {"origin": "null"}),
        (form, {"sec-fetch-site": "same-site"}),
        (form, {"sec-fetch-site": "cross-site"}),
    )
    for fields, headers in forged:
        answer = await page.request.post(page.url, form=fields, headers=headers, max_redirects=0)
        assert (403, True) == (answer.status, 'class="refusal"' in await answer.text())
    # A form of another site, in the same browser: another port of this machine is another origin, too.
    stranger = await page.context.new_page()
    await stranger.route(
        "http://localhost/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{page.url}'><input name=csrf value='{form['csrf']}'><button>x</button></form>",
        ),
    )
    await stranger.goto("http://localhost/")
    async with stranger.expect_response(lambda response: response.url == page.url) as sent:
        await stranger.click("button")
    assert 403 == (await sent.value).status
    answer = await page.request.post(f"{desks.federation.desk(COUNTY)}/step-in", headers={"origin": "http://elsewhere"})
    assert 403 == answer.status
    assert ["FromElsewhere"] == re.findall(r'data-rule="(\w+)"', await answer.text())
    answer = await page.request.post(page.url, form=form, max_redirects=0)
    assert 303 == answer.status


async def test_every_answer_carries_the_headers_that_keep_scripts_out(desks: Desks) -> None:
    page = await desks.step_in("T01")
    desk = desks.federation.desk(COUNTY)
    asset = await page.get_attribute("link[rel=stylesheet]", "href")
    for address in ("/", "/search", "/nowhere", "/cases/none", "/step-in", "/language/en", f"{asset}", "/assets/none"):
        answer = await page.request.get(f"{desk}{address}", max_redirects=0)
        lacking = {name for name, value in HEADERS.items() if answer.headers.get(name.lower()) != value}
        assert (address, set()) == (address, lacking)
        assert address.startswith("/assets/") or "no-store" == answer.headers["cache-control"]
    refused = await page.request.post(f"{desk}/search", form={"search": "x"})
    assert HEADERS["Content-Security-Policy"] == refused.headers["content-security-policy"]
    cookies = [cookie for cookie in await page.context.cookies() if cookie["name"].startswith("kx-desk")]
    assert [(True, "Strict")] == [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies]


async def test_people_of_the_list_step_in_and_nobody_else_and_outside_the_demonstration_nobody(desks: Desks) -> None:
    page = await (await desks.context()).new_page()
    desk = desks.federation.desk(COUNTY)
    await page.goto(desk)
    await page.wait_for_url("**/step-in*")
    names = await page.locator("main tbody td:first-child").all_inner_texts()
    assert {"R01", "T03", "H02", "D01", "B01", "S01", "A01"} <= set(names)
    assert "channel-12366" not in names
    true: Form = {"bureau": COUNTY, "actor": "R01", "department": SERVICE, "role": "REGISTRAR"}
    lies = {"actor": "X01", "role": "BUREAU_HEAD", "department": POLICY, "bureau": PROVINCE}
    for field, lie in lies.items():
        await page.request.post(f"{desk}/step-in", form=true | {field: lie})
        await page.goto(f"{desk}/search")
        assert "/step-in" == urlsplit(page.url).path
    await page.click("tr:has-text('R01') button")
    await expect(page.locator(".who")).to_contain_text("R01")
    await page.click("form[action='/step-out'] button")
    await page.goto(f"{desk}/search")
    assert "/step-in" == urlsplit(page.url).path

    closed = desks.federation.desk(CLOSED)
    await page.goto(closed)
    await expect(page.locator("main [role=alert]")).to_be_visible()
    assert 0 == await page.locator("main form").count()
    await page.request.post(f"{closed}/step-in", form=true | {"bureau": CLOSED})
    await page.goto(f"{closed}/search")
    assert "/step-in" == urlsplit(page.url).path


async def test_each_desk_has_sessions_of_its_own(desks: Desks) -> None:
    page = await desks.step_in("R01")
    await page.goto(f"{desks.federation.desk(HEADQUARTERS)}/search")
    assert "/step-in" == urlsplit(page.url).path
