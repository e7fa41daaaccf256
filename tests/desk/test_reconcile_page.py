"""对账 at the desk: what the last comparison found, what stands case by case, and comparing now."""

from pathlib import Path

import pytest

from kuaixiang.domain.labels import field_term, term
from kuaixiang.domain.words import Custody, Outcome, Role
from node import reconciler as reconciler_module
from tests.desk.offices import Pages, pages_of
from tests.federation.bureaus import COUNTY, PREFECTURE, Federation
from tests.federation.test_reconciliation import answered_above, settled
from tests.ledger.tampering import copy_database, put_back, rewrite, with_all_withdrawn


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler_module, "CONFIRM_SECONDS", 0.05)


async def handed_up(bureaus: Federation) -> str:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(PREFECTURE, case_id, Custody.OWNED)
    await settled(bureaus, case_id)
    return case_id


async def test_ledgers_that_agree_are_compared_in_the_page_and_the_comparison_is_remembered(
    county: Pages, bureaus: Federation
) -> None:
    await handed_up(bureaus)
    assert "从未对账" in await county.get("/reconcile")
    answer = await county.fill_in("/reconcile", peer=PREFECTURE)
    assert 200 == answer.status_code
    assert "没有不符" in answer.text
    page = await county.get("/reconcile")
    assert "从未对账" not in page
    assert '<td class="number">1</td>' in page


async def test_each_case_that_differs_is_named_with_a_link_and_stands(bureaus: Federation, tmp_path: Path) -> None:
    above = bureaus.node(PREFECTURE)
    await above.stop()
    copy_database(above.url, tmp_path / "older")
    await above.start()
    lost = await handed_up(bureaus)
    await above.stop()
    put_back(tmp_path / "older", above.url)
    await above.start(deliver=False)
    async with pages_of(bureaus, COUNTY) as pages:
        await pages.step_in(COUNTY, Role.TAX_SERVICE)
        found = await pages.fill_in("/reconcile", peer="", from_day="", to_day="")
        assert 2 <= found.text.count(f'<a href="/cases/{lost}">')
        page = await pages.get("/reconcile")
        assert f'data-href="/cases/{lost}"' in page
        assert "对方台账缺" in page
    async with pages_of(bureaus, PREFECTURE) as pages:
        await pages.step_in(PREFECTURE, Role.SUPERVISOR)
        page = await pages.get("/reconcile")
        assert "本台账无此诉求" in page
        assert f'href="/cases/{lost}"' not in page


async def test_what_either_ledger_says_is_told_in_words_of_the_field(bureaus: Federation) -> None:
    case_id = await answered_above(bureaus)
    node = bureaus.node(COUNTY)
    await node.stop()
    rewrite(node.url, node.codes, COUNTY, with_all_withdrawn)
    await node.start(deliver=False)
    async with pages_of(bureaus, COUNTY) as pages:
        await pages.step_in(COUNTY, Role.TAX_SERVICE)
        found = (await pages.fill_in("/reconcile", peer=PREFECTURE)).text
        assert f'<a href="/cases/{case_id}">' in found
        for told in (field_term("outcome"), term(Outcome.WITHDRAWN), term(Outcome.COMPLETED)):
            assert f"<td>{told}<br></td>" in found


@pytest.mark.parametrize(
    ("days", "wrong"),
    [(("2026-03-05", "2026-03-01"), "to_day"), (("bald", ""), "from_day")],
)
async def test_a_period_that_is_none_is_refused_at_its_field(county: Pages, days: tuple[str, str], wrong: str) -> None:
    answer = await county.fill_in("/reconcile", peer=PREFECTURE, from_day=days[0], to_day=days[1])
    assert 422 == answer.status_code
    assert f'id="fault-{wrong}"' in answer.text
    assert f'value="{days[0]}"' in answer.text


async def test_a_neighbour_that_is_away_is_told_from_one_that_differs(county: Pages, bureaus: Federation) -> None:
    await bureaus.node(PREFECTURE).stop()
    await county.english()
    answer = await county.fill_in("/reconcile", peer=PREFECTURE)
    assert "Not compared" in answer.text
    assert "None: no ledger is known to tell anything else." in answer.text
