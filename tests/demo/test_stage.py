"""The stage over HTTP against a small federation: what it shows, what it does, whom it refuses."""

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

from demo.federation import Federation, part_of
from demo.performance import PLACEMENT
from demo.picture import Heading, Kind, Sight, code_and_place
from demo.processes import ChildNotReady
from demo.stage.app import FOLDER, Stage
from demo.stage.controls import (
    AlreadyCut,
    AlreadyDown,
    AlreadyUp,
    Controls,
    Deed,
    NoSuchDeed,
    NotBack,
    NotCut,
    StillPlayed,
)
from demo.stage.drawing import BOX_HEIGHT, BOX_WIDTH, drawn
from demo.stage.words import CHINESE
from demo.story import next_morning
from demo.watch import Watch
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.words import Custody, Telling
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.web.guard import FromElsewhere, NotOurForm
from kuaixiang.web.words import SHARED
from tests.fuzz.pages import hold_out, requests_for
from tests.registering import REGISTRAR, registration

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR = "000000", "110000", "110101", "110105"
BUREAUS = (HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR)
NODE, HUB = f"node-{COUNTY}", f"hub-{HEADQUARTERS}"
SECONDS_MAX = 120.0
STAGE = pytest.mark.asyncio(loop_scope="module")
PARTS = ("people", "tree", "ledgers", "lists", "controls")


@dataclass
class Seat:
    """Somebody before the stage, and what stands behind it."""

    federation: Federation
    sight: Sight
    stage: Stage
    browser: httpx.AsyncClient

    async def page(self, path: str = "/") -> str:
        answer = await self.browser.get(path)
        assert answer.status_code == 200
        return answer.text

    async def token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', await self.page())
        assert found is not None
        return found.group(1)

    async def do(self, what: str, whom: str = "") -> httpx.Response:
        return await self.browser.post("/do", data={"csrf": await self.token(), "what": what, "whom": whom})

    async def until(self, part: str, holds: Callable[[str], bool]) -> str:
        async with asyncio.timeout(SECONDS_MAX):
            while not holds(text := await self.page(f"/part/{part}")):
                await asyncio.sleep(0.1)
        return text


def state_in(ledgers: str, bureau: str) -> str:
    row = re.search(rf'id="row-{bureau}">.*?</tr>', ledgers, re.DOTALL)
    assert row is not None
    found = re.search(r'class="state (\w+)"', row.group(0))
    assert found is not None
    return found.group(1)


def rule_in(answer: httpx.Response) -> str:
    found = re.search(r'data-rule="(\w+)"', answer.text)
    assert found is not None, answer.text
    return found.group(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seat(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seat]:
    federation = Federation(
        tmp_path_factory.mktemp("stage"),
        part_of(national_tree(), [COUNTY, NEIGHBOUR]),
        placement=[(HEADQUARTERS,), (PROVINCE,), (COUNTY, NEIGHBOUR)],
        clock_start=MONDAY,
        pages=True,
    )
    async with (
        federation,
        Watch({bureau: federation.office(bureau) for bureau in BUREAUS}) as watch,
        Sight(federation, watch) as sight,
        Stage(sight, published_calendar()) as stage,
        httpx.AsyncClient(base_url=stage.url, timeout=SECONDS_MAX) as browser,
    ):
        yield Seat(federation, sight, stage, browser)


@pytest.mark.nats
@STAGE
async def test_while_the_story_is_played_the_controls_are_closed(seat: Seat) -> None:
    before = seat.federation.clock.now()
    answer = await seat.do(Deed.HOUR)
    assert (answer.status_code, rule_in(answer)) == (409, StillPlayed.__name__)
    assert seat.federation.clock.now() == before
    assert "disabled" in await seat.page("/part/controls")
    seat.stage.controls.open()
    await seat.until("controls", lambda text: "disabled" not in text)


@pytest.mark.nats
@STAGE
async def test_the_page_leads_to_every_desk_and_to_the_board(seat: Seat) -> None:
    page = await seat.page()
    addresses = {f"{seat.federation.node(bureau).pages_url}/step-in?bureau={bureau}" for bureau in BUREAUS}
    addresses.add(f"{seat.federation.hubs[0].pages_url}/step-in?bureau={HEADQUARTERS}")
    assert len(addresses) == 5
    assert addresses <= set(re.findall(r'href="([^"]+)"', page))


@pytest.mark.nats
@STAGE
async def test_the_picture_tells_of_a_killed_node_and_of_its_return(seat: Seat) -> None:
    answer = await seat.do(Deed.KILL, NODE)
    told = await seat.page(answer.headers["location"])
    down = await seat.until("ledgers", lambda text: state_in(text, COUNTY) == "down")
    assert answer.status_code == 303
    assert f"{COUNTY}、{NEIGHBOUR} 的节点已停机" in told
    assert (state_in(down, NEIGHBOUR), state_in(down, PROVINCE)) == ("down", "up")
    assert 'class="bureau down"' in await seat.page("/part/tree")
    again = await seat.do(Deed.KILL, NODE)
    assert (again.status_code, rule_in(again)) == (409, AlreadyDown.__name__)
    await seat.do(Deed.RESTART, NODE)
    await seat.until("ledgers", lambda text: state_in(text, COUNTY) == state_in(text, NEIGHBOUR) == "up")
    assert seat.federation.node(COUNTY).process.alive
    again = await seat.do(Deed.RESTART, NODE)
    assert (again.status_code, rule_in(again)) == (409, AlreadyUp.__name__)


@pytest.mark.nats
@STAGE
async def test_a_process_that_somebody_ends_by_hand_is_noticed_and_can_be_restarted(seat: Seat) -> None:
    await asyncio.to_thread(seat.federation.hubs[0].process.kill)
    await seat.until("lists", lambda text: "汇总中心停机。" in text)
    await seat.do(Deed.RESTART, HUB)
    await seat.until("controls", lambda text: '"state down"' not in text)
    assert rule_in(await seat.do(Deed.RESTART, HUB)) == AlreadyUp.__name__


@pytest.mark.nats
@STAGE
async def test_advancing_the_clock_moves_the_time_of_every_node(seat: Seat) -> None:
    before = seat.federation.clock.now()
    assert (await seat.do(Deed.HOUR)).status_code == 303
    assert seat.federation.clock.now() == before + timedelta(hours=1)
    for bureau in BUREAUS:
        recorded = await seat.federation.office(bureau).do(REGISTRAR, registration(f"clock-{bureau}"), key=bureau)
        found = await seat.federation.office(bureau).get(recorded.case.case_id, history=True)
        assert {entry.recorded_at.ToDatetime(tzinfo=UTC) for entry in found.history} == {before + timedelta(hours=1)}


@pytest.mark.nats
@STAGE
async def test_the_clock_goes_to_the_next_morning_and_by_a_working_day_over_days_off(seat: Seat) -> None:
    await seat.do(Deed.MORNING)
    tuesday = datetime(2026, 9, 22, 9, tzinfo=SHANGHAI)
    assert seat.federation.clock.now() == tuesday
    for _ in range(3):
        await seat.do(Deed.WORKDAY)
    assert seat.federation.clock.now() == datetime(2026, 9, 28, 9, tzinfo=SHANGHAI)  # Mid-Autumn from the 25th on
    assert "2026-09-28 周一 09:00" in await seat.page("/part/tree")


@pytest.mark.nats
@STAGE
async def test_a_case_that_is_handed_over_is_drawn_listed_and_counted(seat: Seat) -> None:
    office = seat.federation.office(COUNTY)
    registered = await office.do(REGISTRAR, registration("move"), key="move-register")
    case_id = registered.case.case_id
    act = acts.Refer(final_bureau=PROVINCE, reason="涉及政策口径", telling=Telling.COMPLICATED, told="已告知")
    await office.do(REGISTRAR, act, case_id, key="move-escalate")
    await seat.sight.watch.until(
        PROVINCE, case_id, "its arrival", lambda seen: seen.custody is Custody.OWNED, SECONDS_MAX
    )
    # What the county has heard of it, too: its ledger is followed by a stream of its own.
    await seat.sight.watch.until(
        COUNTY, case_id, "its release", lambda seen: seen.custody is Custody.RELEASED, SECONDS_MAX
    )
    listed = await seat.until("lists", lambda text: case_id in text)
    tree = await seat.until("tree", lambda text: "edge moved" in text)
    (move,) = seat.sight.moves(5)
    assert (move.kind, move.origin, move.target, move.case_id) == (Kind.UP, COUNTY, PROVINCE, case_id)
    assert f'data-move="{move.key}" data-from="{COUNTY}" data-to="{PROVINCE}"' in listed
    assert "↑1" in tree
    county, province = seat.sight.bureau(COUNTY), seat.sight.bureau(PROVINCE)
    assert province.standing[Heading.TO_DISPATCH] + province.standing[Heading.REGISTERED] == province.open
    assert county.standing[Heading.REGISTERED] == 1
    assert "澄筠野" not in "".join([await seat.page(f"/part/{part}") for part in PARTS])


@pytest.mark.nats
@STAGE
async def test_a_province_that_is_cut_off_is_shown_with_what_the_hub_lacks_until_it_is_restored(seat: Seat) -> None:
    assert rule_in(await seat.do(Deed.RESTORE, PROVINCE)) == NotCut.__name__
    assert (await seat.do(Deed.CUT, PROVINCE)).status_code == 303
    cut = await seat.until("ledgers", lambda text: state_in(text, COUNTY) == "cut_off")
    assert (state_in(cut, PROVINCE), state_in(cut, HEADQUARTERS)) == ("cut_off", "up")
    assert rule_in(await seat.do(Deed.CUT, PROVINCE)) == AlreadyCut.__name__
    await seat.federation.office(NEIGHBOUR).do(REGISTRAR, registration("cut"), key="cut")
    await seat.until("ledgers", lambda text: "number lacks" in text)
    assert (await seat.do(Deed.RESTORE, PROVINCE)).status_code == 303
    await seat.until("ledgers", lambda text: state_in(text, COUNTY) == "up" and "number lacks" not in text)


@pytest.mark.nats
@STAGE
@pytest.mark.parametrize(("what", "whom"), [("destroy", NODE), (Deed.KILL, "node-999999"), (Deed.CUT, HEADQUARTERS)])
async def test_what_the_stage_has_not_is_refused(seat: Seat, what: str, whom: str) -> None:
    answer = await seat.do(what, whom)
    assert (answer.status_code, rule_in(answer)) == (404, NoSuchDeed.__name__)


@pytest.mark.nats
@STAGE
async def test_a_control_without_the_token_or_from_elsewhere_is_refused_and_does_nothing(seat: Seat) -> None:
    before, token = seat.federation.clock.now(), await seat.token()
    port = seat.browser.base_url.port
    cases: list[tuple[dict[str, str], dict[str, str], str]] = [
        ({}, {}, NotOurForm.__name__),
        ({"csrf": "x" * len(token)}, {}, NotOurForm.__name__),
        ({"csrf": token}, {"Origin": "http://example.com"}, FromElsewhere.__name__),
        ({"csrf": token}, {"Origin": f"http://127.0.0.1:{(port or 0) + 1}"}, FromElsewhere.__name__),
        ({"csrf": token}, {"Origin": "null"}, FromElsewhere.__name__),
        ({"csrf": token}, {"Sec-Fetch-Site": "same-site"}, FromElsewhere.__name__),
        ({"csrf": token}, {"Host": f"stage.example.com:{port}"}, FromElsewhere.__name__),
    ]
    for fields, headers, rule in cases:
        answer = await seat.browser.post("/do", data={"what": "hour", "whom": "", **fields}, headers=headers)
        assert (answer.status_code, rule_in(answer)) == (403, rule), headers
    assert seat.federation.clock.now() == before
    strange = await seat.browser.get("/", headers={"Host": "stage.example.com"})
    assert (strange.status_code, token in strange.text) == (403, False)
    ours = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    answer = await seat.browser.post("/do", data={"csrf": token, "what": "hour", "whom": ""}, headers=ours)
    assert answer.status_code == 303


@pytest.mark.nats
@STAGE
async def test_a_page_with_scripts_gets_the_part_that_has_changed(seat: Seat) -> None:
    answer = await seat.browser.post(
        "/do",
        data={"csrf": await seat.token(), "what": Deed.HOUR, "whom": ""},
        headers={"HX-Request": "true", "HX-Request-Type": "partial"},
    )
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "业务时间已拨到" in answer.text
    assert (await seat.browser.get("/part/cellar")).status_code == 404


@pytest.mark.nats
@STAGE
async def test_changes_are_told_as_they_come(seat: Seat) -> None:
    async with asyncio.timeout(SECONDS_MAX), seat.browser.stream("GET", "/changes") as stream:
        lines = (line async for line in stream.aiter_lines() if line.startswith("data:"))
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert await anext(lines) == "data: picture"
        seat.federation.clock.advance(timedelta(hours=1))
        assert await anext(lines) == "data: picture"


@pytest.mark.nats
@STAGE
async def test_every_page_is_whole_in_both_languages(seat: Seat) -> None:
    for part in ("/", *(f"/part/{part}" for part in PARTS)):
        seat.browser.cookies.set("kx-language", "zh-CN")
        chinese = texts_of(await seat.page(part))
        seat.browser.cookies.set("kx-language", "en")
        english = texts_of(await seat.page(part))
        seat.browser.cookies.clear()
        assert [] == [text for text in chinese if text in CHINESE]
        # What stays Chinese in English are the names of bureaus.
        names = {text for bureau in BUREAUS for text in named(seat, bureau)}
        assert [] == [
            text for text in english if re.search(r"[\u4e00-\u9fff]", text) and not set(text.split("、")) <= names
        ]


def texts_of(page: str) -> list[str]:
    """What a page says, but for the way to the other language and the brand."""
    page = re.sub(r'<a class="(?:quiet|brand)".*?</a>', "", page, flags=re.DOTALL)
    labels = re.findall(r'(?:aria-label|title)="([^"]*)"', page)
    texts = re.sub(r"<[^>]+>", "\n", page).splitlines()
    return [text.strip() for text in map(html.unescape, (*texts, *labels)) if text.strip()]


def named(seat: Seat, bureau: str) -> list[str]:
    """How a bureau may be named in English."""
    name, place = seat.federation.tree.get(bureau).name, code_and_place(seat.federation.tree, bureau)
    return [
        name,
        place,
        place.partition(" ")[2],
        f"Cut the link of {place}",
        f"Restore the link of {place}",
    ]


def test_every_sentence_of_the_templates_has_its_chinese_and_no_more_is_kept() -> None:
    told = {
        sentence
        for template in (FOLDER / "templates").glob("*.html")
        for _, sentence in re.findall(r"""\b_\((["'])(.+?)\1""", template.read_text("utf-8"))
    }
    assert set() == {sentence for sentence in told if sentence not in CHINESE and sentence not in SHARED}
    assert set() == set(CHINESE) - told
    assert set() == CHINESE.keys() & SHARED.keys()


def test_no_template_needs_what_the_content_policy_forbids() -> None:
    for template in (FOLDER / "templates").glob("*.html"):
        assert not re.search(r"\sstyle=|\son\w+=|hx-on|<script>|<style>", template.read_text("utf-8")), template.name


@pytest.mark.parametrize("bureaus", [(HEADQUARTERS,), BUREAUS, tuple(code for group in PLACEMENT for code in group)])
def test_nothing_of_the_drawing_lies_over_anything_else(bureaus: tuple[str, ...]) -> None:
    drawing = drawn(part_of(national_tree(), bureaus))
    boxes = [*drawing.boxes, drawing.hub]
    assert len(drawing.edges) == len(drawing.boxes) - 1
    for index, one in enumerate(boxes):
        assert one.x + BOX_WIDTH <= drawing.width
        assert one.bottom <= drawing.height
        for other in boxes[index + 1 :]:
            assert abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        (datetime(2026, 9, 21, 8, 59, tzinfo=SHANGHAI), datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)),
        (datetime(2026, 9, 21, 9, tzinfo=SHANGHAI), datetime(2026, 9, 22, 9, tzinfo=SHANGHAI)),
        (datetime(2026, 9, 30, 18, tzinfo=SHANGHAI), datetime(2026, 10, 8, 9, tzinfo=SHANGHAI)),
        (datetime(2026, 9, 21, 23, tzinfo=UTC), datetime(2026, 9, 22, 9, tzinfo=SHANGHAI)),
    ],
)
def test_bureaus_open_at_the_next_working_morning(at: datetime, opens: datetime) -> None:
    assert next_morning(published_calendar(), at) == opens


async def test_days_beyond_the_published_calendar_are_said_to_be_assumed() -> None:
    clock = FixedClock(datetime(2026, 12, 31, 9, tzinfo=SHANGHAI))
    calendar = WorkingCalendar("1", date(2026, 1, 1), date(2026, 12, 31), frozenset(), frozenset())
    clock.advance_to = clock.set  # type: ignore[attr-defined] # the driver's name
    controls = Controls(cast("Any", SimpleNamespace(clock=clock)), calendar)
    controls.open()
    told = await controls.do(Deed.HOUR, "")
    assert "No working calendar" not in told.english
    told = await controls.do(Deed.WORKDAY, "")
    assert told.english.endswith("Monday to Friday are counted.")
    assert told.chinese == "业务时间已拨到 2027-01-01 周五 10:00。该日尚无公布的工作日历，按周一至周五计算。"


async def test_a_process_that_does_not_come_back_is_told_as_a_refusal() -> None:
    async def restart(_: str) -> None:
        raise ChildNotReady("node-330106", 120, Path("log"), "")

    node = SimpleNamespace(name="node-330106", kind="node", codes=("330106",), process=SimpleNamespace(alive=False))
    federation = SimpleNamespace(services=(node,), restart_node=restart)
    controls = Controls(cast("Any", federation), published_calendar())
    controls.open()
    with pytest.raises(NotBack, match=r"The node of 330106 did not come back in time\."):
        await controls.do(Deed.RESTART, "node-330106")


@pytest.mark.nats
@STAGE
async def test_no_request_to_the_stage_is_a_fault_or_comes_back_as_it_was_sent(seat: Seat) -> None:
    asked = requests_for(seat.stage.application, ("csrf", "what", "whom", "to", "part"), endless=["/changes"])
    assert len(asked) > 8
    await hold_out(seat.browser, asked, seat.token)
