"""数据发布 on the board: one person publishes complete figures, two with a reason what is not, whatever restarts between."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from demo.journals import DAY, MONDAY, Journal
from hub.store import latest_edition, override_asked
from kuaixiang.domain.words import Role
from tests.hub.boards import Bench, lived, table_of, text_of, two_months
from tests.hub.journals import BEIJING, DONGCHENG, HEADQUARTERS, XICHENG

NOVEMBER = {"period": "2026-11"}
REASON = "办公厅要求当日通报"


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    opened = Bench(database_url)
    opened.feed(*two_months())
    yield opened
    await opened.close()


async def publish(client: httpx.AsyncClient, act: str, bureau: str = BEIJING, **more: str) -> httpx.Response:
    """Press a button of the page of November, as it stands now."""
    page = (await client.get("/publish", params=NOVEMBER | {"scope": bureau})).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf
    asked_at = re.search(r'name="asked_at" value="(\d+)"', page)
    form = {"csrf": csrf.group(1), "act": act, "asked_at": asked_at.group(1) if asked_at else ""} | more
    return await client.post("/publish", params=NOVEMBER | {"scope": bureau}, data=form)


async def shown(client: httpx.AsyncClient, **asked: str) -> str:
    return text_of((await client.get("/publish", params=NOVEMBER | asked)).text)


async def test_complete_figures_are_published_by_one_and_what_changes_later_is_told(database_url: str) -> None:
    bench = Bench(database_url)
    xicheng = lived(XICHENG, 6)
    bench.feed(Journal(BEIJING), lived(DONGCHENG, 2), xicheng)
    async with bench.visitor(BEIJING) as client:
        assert "未发布" in await shown(client)
        done = await publish(client, "publish")
        assert 303 == done.status_code, text_of(done.text)
        told = text_of((await client.get(done.headers["location"])).text)
        assert "已发布第 1 版。" in told
        assert "发布人 110000 S01" in told
        assert "自最近一版以来数据无变化。" in told
        xicheng.write("late", "registered", MONDAY + DAY)
        bench.feed(xicheng)
        page = (await client.get("/publish", params=NOVEMBER)).text
        assert [f"{XICHENG} 西城区", "受理", "6", "7"] in table_of(page, "发布后更正")
        assert 303 == (await publish(client, "publish")).status_code
        assert "版次 2" in await shown(client)
    await bench.close()


async def test_incomplete_figures_take_two_persons_and_the_edition_has_both_names(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(bench.visitor())
        second = await stack.enter_async_context(bench.visitor(actor="D01", role=Role.DEPUTY_HEAD))
        alone = await publish(first, "publish", HEADQUARTERS)
        assert (409, True) == (alone.status_code, "FiguresIncomplete" in alone.text)
        without = await publish(first, "ask", HEADQUARTERS, override_reason=" ")
        assert (409, True) == (without.status_code, "FiguresIncomplete" in without.text)
        assert 303 == (await publish(first, "ask", HEADQUARTERS, override_reason=REASON)).status_code
        himself = await publish(first, "confirm", HEADQUARTERS)
        assert "NoOverrideToConfirm" in himself.text
        told = await shown(first)
        assert "须由本单位另一名人员确认，申请人本人不能确认。" in told
        assert "确认，由两人署名发布" not in told

        told = await shown(second)
        assert "申请人 000000 S01" in told
        assert REASON in told
        done = await publish(second, "confirm", HEADQUARTERS)
        assert 303 == done.status_code, text_of(done.text)
        told = await shown(second)
        assert "发布人 000000 D01" in told
        assert f"申请人 000000 S01 确认人 000000 D01 原因 {REASON}" in told
        # What has been confirmed is not confirmed once more.
        assert "NoOverrideToConfirm" in (await publish(second, "confirm", HEADQUARTERS)).text
    with bench.store.reading() as connection:
        edition = latest_edition(connection, HEADQUARTERS, "2026-11")
        assert override_asked(connection, HEADQUARTERS, "2026-11") is None
    assert edition
    assert ("000000 S01", "000000 D01", False) == (edition.override_by, edition.override_second, edition.complete)


async def test_who_has_asked_cannot_confirm_whatever_form_he_sends(bench: Bench) -> None:
    async with bench.visitor() as first:
        await publish(first, "ask", HEADQUARTERS, override_reason=REASON)
        with bench.store.reading() as connection:
            asked = override_asked(connection, HEADQUARTERS, "2026-11")
        assert asked
        forged = await publish(first, "confirm", HEADQUARTERS, asked_at=str(asked.asked_at_us))
        assert (403, True) == (forged.status_code, "OverrideByOne" in forged.text)


async def test_what_was_asked_for_waits_over_a_restart(database_url: str) -> None:
    bench = Bench(database_url)
    bench.feed(*two_months())
    async with bench.visitor() as first:
        await publish(first, "ask", HEADQUARTERS, override_reason=REASON)
    await bench.close()
    bench = Bench(database_url)
    async with bench.visitor(actor="D01", role=Role.DEPUTY_HEAD) as second:
        assert REASON in await shown(second)
        assert 303 == (await publish(second, "confirm", HEADQUARTERS)).status_code
    await bench.close()


async def test_a_reason_that_was_changed_meanwhile_is_read_before_it_is_confirmed(bench: Bench) -> None:
    async with bench.visitor(actor="D01", role=Role.DEPUTY_HEAD) as second:
        async with bench.visitor() as first:
            await publish(first, "ask", HEADQUARTERS, override_reason=REASON)
        old = await publish(second, "confirm", HEADQUARTERS, asked_at="1")
        assert "NoOverrideToConfirm" in old.text
        assert REASON in text_of(old.text)


async def test_only_the_bureau_itself_publishes_and_only_a_period_that_is_over(bench: Bench) -> None:
    async with bench.visitor() as client:
        assert "各单位数据由本单位发布。" in await shown(client, scope=BEIJING)
        assert 403 == (await publish(client, "publish", BEIJING)).status_code
        assert 403 == (await publish(client, "ask", DONGCHENG, override_reason=REASON)).status_code
        told = text_of((await client.get("/publish", params={"period": "2026-12"})).text)
        assert "尚未结束" in told
        assert "发布本期数据" in told
        assert "2026年11月" in text_of((await client.get("/publish")).text)
