"""What is open below, at the superior's desk: by light, down the tree to one case, nothing private; urged from any row."""

from datetime import timedelta
from typing import Any

import pytest

from kuaixiang.domain.events import LedgerDoubted
from kuaixiang.domain.order_errors import NotASubordinate
from kuaixiang.domain.words import LedgerFinding, Light, Role
from kuaixiang.wire.errors import RefusedElsewhere
from kuaixiang.wire.v1 import supervision_pb2 as pb
from node.desk.asking import inside
from node.ledger.ledger import Seen, Work
from node.supervision import SubordinateUnreachable
from tests.desk.offices import PARTIAL, Pages, everybody, pages_of
from tests.federation.bureaus import (
    COUNTY,
    FAR_COUNTY,
    HEADQUARTERS,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    TEXT,
    Federation,
)

PRIVATE = (TEXT[:8], "13800138000", "商贸有限公司")


async def test_a_superior_sees_a_subordinates_open_cases_and_nothing_private_of_them(
    superior: Pages, bureaus: Federation
) -> None:
    cases = [await bureaus.register(COUNTY) for _ in range(3)]
    page = await superior.get(f"/subordinates/{COUNTY}")
    assert set(cases) == {one for one in cases if f'data-href="/subordinates/{COUNTY}/cases/{one}"' in page}
    one = await superior.get(f"/subordinates/{COUNTY}/cases/{cases[0]}")
    assert "受理登记" in one
    for private in PRIVATE:
        assert private not in page
        assert private not in one


async def test_the_light_chosen_is_the_only_one_shown(superior: Pages, bureaus: Federation) -> None:
    await bureaus.register(COUNTY)
    bureaus.clock.advance(timedelta(days=3))
    await bureaus.register(COUNTY)
    shown = {
        light: (await superior.get(f"/subordinates/{COUNTY}", params={"light": int(light)})).count("<tr class=")
        for light in Light
    }
    assert {Light.IN_TIME: 0, Light.DUE_SOON: 1, Light.OVERDUE: 1, Light.STOPPED: 0} == shown
    assert "没有符合条件的未结诉求" in await superior.get(f"/subordinates/{COUNTY}?extended=1")


async def test_a_line_of_the_list_counts_the_bureaus_open_cases_by_light(superior: Pages, bureaus: Federation) -> None:
    assert f'hx-get="/subordinates/{COUNTY}/lights"' in await superior.get("/subordinates")
    for _ in range(2):
        await bureaus.register(COUNTY)
    cells = await superior.get(f"/subordinates/{COUNTY}/lights", headers=PARTIAL)
    assert f'<a href="/subordinates/{COUNTY}?light=2">2</a>' in cells
    assert 4 == cells.count("<td")


async def test_words_of_a_newer_node_are_shown_as_unknown_and_break_no_page(
    superior: Pages, bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = await bureaus.register(COUNTY)
    supervision = superior.services.supervision
    real_list, real_one = supervision.ListSubordinateCases, supervision.GetSubordinateCase

    def newer(found: pb.SubordinateCase) -> None:
        found.light, found.case.stage, found.case.custody, found.case.category = 99, 98, 97, 96  # type: ignore[assignment]
        for clock in found.case.clocks:
            clock.kind = 95  # type: ignore[assignment]

    async def list_cases(request: Any, context: Any) -> pb.ListSubordinateCasesResponse:
        answer = await real_list(request, context)
        newer(answer.cases[0])
        return answer

    async def one_case(request: Any, context: Any) -> pb.GetSubordinateCaseResponse:
        answer = await real_one(request, context)
        newer(answer.found)
        for item in answer.history:
            item.stage, item.role = 94, 93  # type: ignore[assignment]
        return answer

    monkeypatch.setattr(supervision, "ListSubordinateCases", list_cases)
    monkeypatch.setattr(supervision, "GetSubordinateCase", one_case)
    for address in (f"/subordinates/{COUNTY}", f"/subordinates/{COUNTY}/cases/{case_id}"):
        assert "未知" in await superior.get(address)
    assert "未知: 1" in await superior.get(f"/subordinates/{COUNTY}/lights", headers=PARTIAL)
    await superior.english()
    assert "unknown" in await superior.get(f"/subordinates/{COUNTY}")


async def test_one_drills_from_headquarters_to_a_case_along_the_tree(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    async with pages_of(bureaus, HEADQUARTERS) as pages:
        await pages.step_in(HEADQUARTERS, Role.SUPERVISOR)
        for above, below in (("", PROVINCE), (f"/{PROVINCE}", PREFECTURE), (f"/{PREFECTURE}", COUNTY)):
            assert f'href="/subordinates/{below}"' in await pages.get(f"/subordinates{above}")
        page = await pages.get(f"/subordinates/{COUNTY}/cases/{case_id}")
        way = [f'<a href="/subordinates/{code}">' for code in (PROVINCE, PREFECTURE, COUNTY)]
        assert sorted(map(page.index, way)) == [page.index(one) for one in way]


async def test_cases_are_urged_from_their_rows_by_who_may(superior: Pages, bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    urge = f'href="/orders/new?to={COUNTY}&amp;case={case_id}"'
    assert urge in await superior.get(f"/subordinates/{COUNTY}")
    await superior.step_in(PREFECTURE, Role.AUDITOR)
    page = await superior.get(f"/subordinates/{COUNTY}")
    assert case_id in page
    assert urge not in page


async def test_a_list_longer_than_a_page_goes_on_under_the_same_filter(
    superior: Pages, bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.desk.subordinates.PAGE_SIZE", 2)
    for _ in range(3):
        await bureaus.register(COUNTY)
    first = await superior.get(f"/subordinates/{COUNTY}?light=2")
    following = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "light=2" in following
    assert [2, 1] == [page.count("<tr class=") for page in (first, await superior.get(following))]


async def test_a_bureau_that_does_not_answer_is_named_on_a_page_that_still_shows_the_tree(
    bureaus: Federation,
) -> None:
    async with pages_of(bureaus, PROVINCE) as pages:
        await pages.step_in(PROVINCE, Role.SUPERVISOR)
        await bureaus.node(PREFECTURE).stop()
        page = await pages.get(f"/subordinates/{PREFECTURE}", 503)
        assert f'data-rule="{SubordinateUnreachable.__name__}"' in page
        assert f'href="/subordinates/{COUNTY}"' in page
        assert "无法联系" in await pages.get(f"/subordinates/{PREFECTURE}/lights", headers=PARTIAL)
        assert "重试" in await pages.get(f"/subordinates/{COUNTY}/cases/c-1", 503)


async def test_what_a_subordinate_refuses_is_told_in_its_own_words(superior: Pages, bureaus: Federation) -> None:
    page = await superior.get(f"/subordinates/{COUNTY}/cases/370102-2026-9999999", 404)
    assert 'data-rule="UnknownCase"' in page
    request = pb.GetSubordinateCaseRequest(bureau=PREFECTURE, subordinate=COUNTY, case_id="c-none")
    with pytest.raises(RefusedElsewhere) as refused:
        await superior.services.supervision.GetSubordinateCase(request, inside(everybody(PREFECTURE)[0]))
    assert ("UnknownCase", True) == (refused.value.rule, COUNTY in refused.value.chinese)


@pytest.mark.parametrize("code", [FAR_COUNTY, PROVINCE, "999999"])
async def test_bureaus_that_are_not_below_are_not_looked_at(superior: Pages, code: str) -> None:
    for address in (f"/subordinates/{code}", f"/subordinates/{code}/lights", f"/subordinates/{code}/cases/c-1"):
        assert f'data-rule="{NotASubordinate.__name__}"' in await superior.get(address, 422)


async def test_a_county_has_nothing_below_and_both_languages_say_so(county: Pages, superior: Pages) -> None:
    assert "本单位没有下级单位" in await county.get("/subordinates")
    await county.english()
    assert "This bureau has no subordinates." in await county.get("/subordinates")
    await superior.english()
    page = await superior.get(f"/subordinates/{OTHER_COUNTY}")
    assert "No open cases here." in page


async def test_what_stands_against_a_ledger_below_shows_with_place_and_both_hashes(bureaus: Federation) -> None:
    office = bureaus.office(PREFECTURE)
    seen = Seen(PREFECTURE, COUNTY, 1, 12, b"\x0a" * 32, 1, 1, b"")
    await office.ledger.do(Work(run=lambda draft: draft.put_witnessed(seen), bureau=PREFECTURE))
    doubted = LedgerDoubted(
        peer=COUNTY,
        finding=LedgerFinding.REWRITTEN,
        known_generation=1,
        known_seq=7,
        known_hash=b"\xab" * 32,
        told_generation=1,
        told_seq=7,
        told_hash=b"\xcd" * 32,
    )
    await office.record_note(PREFECTURE, doubted)
    async with pages_of(bureaus, PREFECTURE) as pages:
        await pages.step_in(PREFECTURE, Role.SUPERVISOR)
        page = await pages.get("/subordinates")
        assert "本单位见证的台账" in page
        assert "与已见证不符" in page
        assert f"第 7 项已见证 {'ab' * 8}…，现出示 {'cd' * 8}…" in page
        await pages.english()
        assert f"entry 7: {'ab' * 8}… was cosigned" in await pages.get("/subordinates")
