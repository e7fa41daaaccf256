"""What officers do at their desks, in a real browser, over the processes of a real federation."""

import asyncio
import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from demo.officers import Officer
from kuaixiang.domain import acts
from kuaixiang.domain.words import Category, Channel, Role, Stage, Telling, WorkTab
from tests.browser.desks import COUNTY, LEADERSHIP, POLICY, PROVINCE, SERVICE, WAIT_MS_MAX, Desks, form_of

pytestmark = [pytest.mark.nats, pytest.mark.asyncio(loop_scope="module")]

REGISTRAR = Officer("R02", Role.REGISTRAR, SERVICE)
TAX_SERVICE = Officer("T02", Role.TAX_SERVICE, SERVICE)
HANDLER = Officer("H02", Role.HANDLER, POLICY)

NUMBER = re.compile(r"/cases/(\d{6}-\d{4}-\d{7})$")


async def registered(desks: Desks, key: str, **values: str) -> str:
    """A case of the county, registered at a terminal."""
    given = {
        "taxpayer_name": f"澄筠野百货商行{key}",
        "contact": "15400001234",
        "text": f"季度销售额没有超过三十万元，两张专票要不要单独缴税？（{key}）",
    } | values
    act = acts.Register(category=Category.POLICY, channel=Channel.COUNTER, **given)
    done = await desks.federation.office(COUNTY).do(REGISTRAR, act, key=key)
    return str(done.case.case_id)


async def handled(desks: Desks, key: str, **values: str) -> str:
    """A case that the county's policy department handles."""
    case_id = await registered(desks, key, **values)
    office = desks.federation.office(COUNTY)
    await office.do(REGISTRAR, acts.Forward(telling=Telling.COMPLICATED, told="已告知"), case_id, key=f"{key}-forward")
    await office.do(TAX_SERVICE, acts.Dispatch(to_department=POLICY), case_id, key=f"{key}-dispatch")
    return case_id


async def open_case(page: Page, case_id: str) -> None:
    await page.goto(re.sub(r"(//[^/]+/).*", rf"\g<1>cases/{case_id}", page.url))


async def press_act(page: Page, act: str) -> None:
    """Open the form of an act from the case's page; it is a dialog."""
    # Before htmx has seen the link, it leads to the same form as a page of its own.
    await page.click(f"#acts [data-act={act}][data-htmx-powered]")
    await expect(page.locator("#dialog #act-form")).to_be_visible()


async def confirm(page: Page) -> None:
    """Do what the open form says, and be back at the case."""
    async with page.expect_navigation():
        await page.click("#act-form button.main")


async def attach(page: Page, name: str, content: bytes) -> None:
    """Attach a file from the case's page."""
    await page.set_input_files("[name=file]", {"name": name, "mimeType": "text/html", "buffer": content})
    async with page.expect_navigation():
        await page.click("form[action$=files] button")


async def number_in(page: Page) -> str:
    await page.wait_for_url(NUMBER)
    found = NUMBER.search(page.url)
    assert found
    return found.group(1)


async def fill_registration(page: Page, name: str, text: str) -> None:
    await page.fill("#f-taxpayer_name", name)
    await page.fill("#f-contact", "15400001234")
    await page.fill("#f-text", text)
    await page.check(f"[name=category][value='{int(Category.POLICY)}']")


@pytest.mark.slow
async def test_a_case_is_registered_by_keyboard_goes_up_and_its_open_page_follows_what_the_province_does(
    desks: Desks,
) -> None:
    text = "开办餐饮店适用的附加税减免政策到什么时候为止？"
    like = await registered(desks, "up-like", taxpayer_name="澄筠野餐饮店", text=text)
    county = await desks.step_in("R01")
    keyboard = county.keyboard
    await keyboard.press("n")
    await county.wait_for_url("**/register")
    await county.focus("#f-taxpayer_name")
    await keyboard.type("澄筠野餐饮店")
    await keyboard.press("Tab")
    await keyboard.type("15400001234")
    await county.focus("#f-text")
    await keyboard.type(text)
    await expect(county.locator("#duplicates")).to_contain_text(like)
    await county.focus("[name=category] >> nth=0")
    await keyboard.press("Space")
    await keyboard.press("Enter")
    case_id = await number_in(county)

    await expect(county.locator("[data-key=u][data-htmx-powered]")).to_be_visible()
    await keyboard.press("u")
    form = county.locator("#dialog #act-form")
    await expect(form).to_be_visible()
    await expect(form.locator("[name=final_bureau]").first).to_have_value(PROVINCE)
    await form.locator("[name=reason]").fill("涉及政策口径，须请上级答复")
    await form.locator("[name=telling]").first.check()
    await form.locator("[name=told]").fill("已告知将上报市局")
    await form.locator("[formaction$=preview]").click()
    await expect(form.locator("#preview")).to_contain_text("接收单位（如现在接收）：")
    await confirm(county)
    await expect(county.locator("#standing")).to_contain_text(f"{PROVINCE} 北京市")
    await county.evaluate("window.sameDocument = true")

    province = await desks.step_in("T01", PROVINCE)
    await province.click(f"a[href='/cases/{case_id}']")
    await press_act(province, "Dispatch")
    await province.select_option("#act-form [name=to_department]", POLICY)
    await confirm(province)
    await expect(county.locator("#progress")).to_contain_text("办理中")
    handler = await desks.step_in("H01", PROVINCE, POLICY)
    await open_case(handler, case_id)
    await press_act(handler, "Complete")
    await handler.fill("#act-form [name=result]", "减免政策执行到明年年底。")
    await confirm(handler)
    await press_act(handler, "GiveFeedback")
    await handler.check(f"#act-form [name=told_by][value='{int(Channel.HOTLINE)}']")
    await handler.fill("#act-form [name=told]", "已电话答复纳税人。")
    await confirm(handler)

    await expect(county.locator("#standing")).to_contain_text("移交已有结论")
    timeline = county.locator("#timeline")
    for done in ("接收移交", "分办", "办结", "反馈"):
        await expect(timeline.locator("li.elsewhere .segment", has_text=re.compile(f"^{done}")).first).to_be_visible()
    await expect(timeline).to_contain_text("H01")
    assert await county.evaluate("window.sameDocument")


async def test_an_extension_is_asked_by_the_handler_and_decided_by_the_deputy_head_alone(desks: Desks) -> None:
    case_id = await handled(desks, "extension")
    handler = await desks.step_in("H02", COUNTY, POLICY)
    await open_case(handler, case_id)
    due_before = await handler.inner_text("#standing time >> nth=0")
    await press_act(handler, "AskExtension")
    await handler.fill("#act-form [name=workdays]", "3")
    await handler.fill("#act-form [name=reason]", "须向上级请示")
    await confirm(handler)
    await expect(handler.locator("#standing")).to_contain_text("已申请延期")
    assert 0 == await handler.locator("[data-act=ApproveExtension], [data-act=RefuseExtension]").count()
    forged = await handler.request.post(
        f"{handler.url}/acts/ApproveExtension",
        form={"csrf": await handler.get_attribute("[name=csrf] >> nth=0", "value") or "", "request_key": "by-hand"},
    )
    assert 403 == forged.status
    assert "分管局领导" in await forged.text()
    deputy = await desks.step_in("D01", COUNTY, LEADERSHIP)
    await open_case(deputy, case_id)
    await press_act(deputy, "ApproveExtension")
    await confirm(deputy)
    standing = handler.locator("#standing")
    await expect(standing).to_contain_text("◆")
    await expect(standing).to_contain_text("已延期")
    due_after = await handler.inner_text("#standing time >> nth=0")
    assert (due_before, due_after) == ("2026-09-29 周二", "2026-10-09 周五")


async def test_a_form_that_is_sent_twice_at_once_registers_one_case(desks: Desks) -> None:
    page = await desks.step_in("R01")
    await page.goto(f"{page.url}register")
    await fill_registration(page, "双击文具店", "怎样更正已经申报的印花税？")
    form = await form_of(page, "#register")
    twice = await asyncio.gather(*(page.request.post(page.url, form={**form}, max_redirects=0) for _ in range(2)))
    assert [303, 303] == [answer.status for answer in twice]
    assert 1 == len({answer.headers["location"] for answer in twice})

    await page.reload()
    await fill_registration(page, "双击水果店", "怎样更正已经申报的房产税？")
    await page.dblclick("#register button.main")
    await number_in(page)
    found = await search(page, "双击")
    assert 2 == len(found)


async def search(page: Page, words: str) -> list[str]:
    """The numbers of the cases that a search from this desk finds."""
    await page.goto(re.sub(r"(//[^/]+/).*", r"\g<1>search", page.url))
    await page.fill("main [name=search]", words)
    async with page.expect_navigation():
        await page.click("main form button")
    return await page.locator("main table tbody th").all_inner_texts()


async def test_a_word_of_two_characters_is_found_and_nothing_of_what_is_searched_is_in_an_address(
    desks: Desks,
) -> None:
    case_id = await registered(desks, "search", taxpayer_name="云杉眼镜店", text="验光服务的税率是多少？")
    page = await desks.step_in("R01")
    assert [case_id] == await search(page, "验光")
    assert [case_id] == await search(page, "云杉 税率")
    assert [] == await search(page, "验光 没有")
    hidden = [address for address in desks.addresses if re.search("%E[0-9A-F]|验光|云杉", address)]
    assert [] == hidden


HOSTILE = (
    '<script>alert("kx")</script>',
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "<b hx-get='/step-out' hx-trigger='load' hx-on:load='alert(2)'>htmx</b>",
)


async def test_what_is_chosen_in_a_list_stays_so_whatever_comes_in_meanwhile_and_the_list_follows_afterwards(
    desks: Desks,
) -> None:
    chosen = await registered(desks, "chosen")
    page = await desks.step_in("T01")
    await page.goto(f"{page.url}?tab={int(WorkTab.ALL)}")
    await expect(page.locator("body[data-live-state=open]")).to_have_count(1)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await go_on.wait()
        await route.fulfill(response=answer)

    await page.route(lambda address: urlsplit(address).query.startswith("tab="), late)
    newer = await registered(desks, "newer")
    await asyncio.wait_for(asked.wait(), WAIT_MS_MAX / 1000)
    box = page.locator(f"input[name=case][value='{chosen}']")
    await box.check()
    async with page.expect_event("requestfinished"):
        go_on.set()
    await expect(page.locator("#list.htmx-request")).to_have_count(0)
    await expect(box).to_be_checked()
    await expect(page.locator("[data-selected] .count")).to_have_text("1")
    assert 0 == await page.locator(f"#row-{newer}").count()
    await box.uncheck()
    await page.locator("h1").click()
    await expect(page.locator(f"#row-{newer}")).to_be_visible()
    await expect(page.locator("[data-selected] button").first).to_be_disabled()


@pytest.mark.slow
async def test_whatever_a_text_looks_like_stays_text_on_every_page(desks: Desks) -> None:
    page = await desks.step_in("R01")
    await page.goto(f"{page.url}register")
    text = "\n".join(HOSTILE)
    await fill_registration(page, HOSTILE[1], text)
    for name, value in (("channel_reference", HOSTILE[3][:60]), ("note", text)):
        await page.fill(f"#f-{name}", value)
    # Beside the form, too, while one types.
    await expect(page.locator("#duplicates")).to_contain_text("未发现")
    await page.click("#register button.main")
    case_id = await number_in(page)
    await expect(page.locator("#timeline")).to_contain_text(HOSTILE[0])
    await press_act(page, "Forward")
    await page.locator("#act-form [name=telling]").first.check()
    await page.fill("#act-form [name=told]", text)
    await page.click("#act-form [formaction$=preview]")
    await expect(page.locator("#act-form #preview")).to_be_visible()
    await confirm(page)

    service = await desks.step_in("T01")
    await expect(service.locator("tr", has_text=case_id)).to_contain_text(HOSTILE[0])
    await service.check(f"input[name=case][value='{case_id}']")
    await service.click("button[name=act][value=Dispatch]")
    await service.select_option("[name=to_department]", POLICY)
    await service.fill("main [name=note]", text)
    await service.click("button[value=preview]")
    async with service.expect_navigation():
        await service.click("button[value=do]")
    await expect(service.locator("main table")).to_contain_text("办理中")

    handler = await desks.step_in("H01", COUNTY, POLICY)
    await open_case(handler, case_id)
    # The name of a file is a text of somebody else's, too.
    await attach(handler, '"><img onerror=alert(3)>.txt', b"<script>")
    await press_act(handler, "Complete")
    await handler.fill("#act-form [name=result]", text)
    await confirm(handler)
    await press_act(handler, "GiveFeedback")
    await handler.locator("#act-form [name=told_by]").first.check()
    await handler.fill("#act-form [name=told]", text)
    await confirm(handler)
    await expect(handler.locator("#text")).to_contain_text(HOSTILE[0])
    await handler.click("form[action$=private] button")
    await expect(handler.locator(".facts")).to_contain_text(HOSTILE[1])
    await expect(handler.locator("#text")).to_contain_text(HOSTILE[2])

    assert [case_id] == await search(service, "onerror")
    await page.goto(f"{desks.federation.desk(COUNTY)}/register")
    await fill_registration(page, HOSTILE[1], text)
    await expect(page.locator("#duplicates")).to_contain_text(case_id)
    await page.fill("#f-contact", HOSTILE[0])
    await page.click("#register button.main")
    await expect(page.locator(".refusal")).to_be_visible()
    assert HOSTILE[0] == await page.input_value("#f-contact")
    for opened in (page, service, handler):
        assert 0 == await opened.locator("main img, main script, main [hx-on\\:load], main b").count()


async def test_without_scripts_one_registers_acts_and_searches(desks: Desks) -> None:
    page = await desks.step_in("R01", scripts=False)
    await page.click("a[href='/register']")
    await fill_registration(page, "无脚本书店", "图书批发零售环节免征增值税吗？")
    await page.click("[formaction='/register/duplicates']")
    await expect(page.locator("body")).to_contain_text("未发现")
    await page.go_back()
    await fill_registration(page, "无脚本书店", "图书批发零售环节免征增值税吗？")
    await page.click("#register button.main")
    case_id = await number_in(page)
    await page.click("#acts [data-act=Forward]")
    await page.locator("[name=telling]").first.check()
    await page.click("[formaction$=preview]")
    await expect(page.locator("#preview")).to_be_visible()
    await page.click("#act-form button.main")
    await expect(page.locator("#standing")).to_contain_text("已转交纳税服务部门")
    assert [case_id] == await search(page, "图书批发")


async def test_a_file_comes_back_byte_for_byte(desks: Desks, tmp_path: Path) -> None:
    case_id = await registered(desks, "file")
    content = bytes(range(256)) * 3000 + b"\r\n\x00\xff"
    page = await desks.step_in("R01")
    await open_case(page, case_id)
    await attach(page, "申报表 一.pdf", content)
    async with page.expect_download() as download:
        await page.click("text=申报表 一.pdf")
    kept = await download.value
    assert "申报表 一.pdf" == kept.suggested_filename
    await kept.save_as(tmp_path / "kept")
    assert hashlib.sha256(content).digest() == hashlib.sha256((tmp_path / "kept").read_bytes()).digest()


async def test_an_act_is_offered_to_the_roles_that_may_do_it_and_to_no_other(desks: Desks) -> None:
    case_id = await registered(desks, "roles")
    offered = {}
    for actor, department in (("R01", SERVICE), ("T01", SERVICE), ("H01", POLICY), ("S01", LEADERSHIP)):
        page = await desks.step_in(actor, COUNTY, department)
        await open_case(page, case_id)
        offered[actor] = set(
            await page.locator("#acts [data-act]").evaluate_all("all => all.map(one => one.dataset.act)")
        )
    assert {"Forward", "Refer", "AnswerOnTheSpot"} <= offered["R01"]
    assert "Forward" not in offered["H01"]
    assert set() == offered["S01"]
    assert int(Stage.REGISTERED) == int((await desks.federation.office(COUNTY).get(case_id)).case.stage)


async def test_an_override_is_asked_by_one_decided_by_another_and_the_case_has_both_names(desks: Desks) -> None:
    case_id = await registered(desks, "override")
    county, province = desks.federation.office(COUNTY), desks.federation.office(PROVINCE)
    refer = acts.Refer(final_bureau=PROVINCE, reason="请上级答复", telling=Telling.TRANSFERRED, told="已告知")
    await county.do(REGISTRAR, acts.Forward(telling=Telling.COMPLICATED, told="已告知"), case_id, key="o-1")
    await county.do(TAX_SERVICE, refer, case_id, key="o-2")
    async with asyncio.timeout(60):
        while case_id not in [case.case_id async for case in province.cases()]:
            await asyncio.sleep(0.1)
    # The county's ledger does not hear the end: nothing is written off before it has, but for an override.
    await desks.federation.stop_node(COUNTY)
    await province.do(TAX_SERVICE, acts.Dispatch(to_department=POLICY), case_id, key="o-3")
    await province.do(HANDLER, acts.Complete(result="已答复"), case_id, key="o-4")
    await province.do(HANDLER, acts.GiveFeedback(told_by=Channel.HOTLINE, told="已答复"), case_id, key="o-5")

    one = await desks.step_in("T02", PROVINCE)
    await open_case(one, case_id)
    await press_act(one, "AskOverride")
    await one.check("#act-form [name=override]")
    await one.fill("#act-form [name=reason]", "对方单位正在撤并，台账无人核对")
    await confirm(one)
    await expect(one.locator("#standing")).to_contain_text("须由他人审批")
    assert 0 == await one.locator("#acts [data-act=ApproveOverride]").count()

    two = await desks.step_in("D01", PROVINCE, LEADERSHIP)
    await open_case(two, case_id)
    await press_act(two, "ApproveOverride")
    asked = two.locator("#act-form #asked")
    await expect(asked).to_contain_text("T02")
    await expect(asked).to_contain_text("对方单位正在撤并，台账无人核对")
    await expect(asked).to_contain_text("台账未核对一致而销号")
    await confirm(two)
    await expect(two.locator("#timeline")).to_contain_text("批准特批")
    timeline = await two.locator("#timeline").inner_text()
    assert ("T02" in timeline, "D01" in timeline) == (True, True)
    await one.reload()
    await press_act(one, "WriteOff")
    await confirm(one)
    await expect(one.locator("#standing")).to_contain_text("已销号")
    await desks.federation.restart_node(COUNTY)
