"""Supervision orders at the desk: issued, seen, acknowledged, answered and refused through the pages."""

from itertools import product

import pytest

from kuaixiang.domain import order_acts
from kuaixiang.domain.labels import act_term
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.order_errors import NoSubordinates
from kuaixiang.domain.orders import Order
from kuaixiang.domain.words import OrderLevel, OrderStage, Role
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST
from node.desk.showing import act_slug
from node.ledger import queries
from node.ledger.queries import OrderFilter
from node.office import Header
from tests.desk.offices import PARTIAL, Pages
from tests.federation.bureaus import COUNTY, OTHER_COUNTY, PREFECTURE, PROVINCE, Federation, until

WORDING = "请说明逾期原因并限期办结 <script>"


def known(bureaus: Federation, bureau: str) -> list[Order]:
    return queries.list_orders(bureaus.office(bureau).ledger.database, OrderFilter(bureau=bureau), 100, "")[0]


async def issued(
    bureaus: Federation, to_bureau: str = COUNTY, bureau: str = PREFECTURE, cases: tuple[str, ...] = ()
) -> str:
    """An order that has reached the bureau it is for."""
    act = order_acts.IssueOrder(
        final_bureau=to_bureau, level=OrderLevel.KEY, text=WORDING, answer_workdays=3, case_ids=cases
    )
    order_id = (await done(bureaus, bureau, Role.SUPERVISOR, "", act)).order_id
    await until(lambda: any(order_id == one.order_id for one in known(bureaus, to_bureau)))
    return order_id


async def done(bureaus: Federation, bureau: str, role: Role, order_id: str, act: OrderAct) -> Order:
    header = Header(bureau=bureau, case_id=order_id, actor="o-1", role=role, department="tax-service")
    return (await bureaus.office(bureau).orders.perform(header, act)).orders[0]


async def test_an_order_issued_in_the_page_is_in_the_ledger_once_though_sent_twice(
    superior: Pages, bureaus: Federation
) -> None:
    form = await superior.hidden("/orders/new") | {
        "final_bureau": COUNTY,
        "level": int(OrderLevel.URGE),
        "text": WORDING,
        "answer_workdays": "2",
        "case_ids": "c-1\r\nc-2",
    }
    first, second = [await superior.client.post("/orders/new", data=form) for _ in range(2)]
    (order,) = known(bureaus, PREFECTURE)
    assert (303, f"/orders/{order.order_id}") == (first.status_code, first.headers["location"])
    assert (303, first.headers["location"]) == (second.status_code, second.headers["location"])
    assert (COUNTY, OrderLevel.URGE, 2, ("c-1", "c-2")) == (
        order.final_bureau,
        order.level,
        order.answer_workdays,
        order.case_ids,
    )
    page = await superior.get(f"/orders/{order.order_id}")
    assert "请说明逾期原因并限期办结 &lt;script&gt;" in page


async def test_the_acts_offered_are_those_that_the_ledger_takes_and_no_other(
    superior: Pages, county: Pages, bureaus: Federation
) -> None:
    await issued(bureaus)
    lives: list[tuple[str, Role, OrderAct]] = [
        (COUNTY, Role.TAX_SERVICE, order_acts.AcknowledgeOrder()),
        (COUNTY, Role.HANDLER, order_acts.AnswerOrder(answer="已办结")),
        (PREFECTURE, Role.SUPERVISOR, order_acts.ReturnAnswer(reason="未附材料", answer_workdays=2)),
        (COUNTY, Role.HANDLER, order_acts.AnswerOrder(answer="附上")),
        (PREFECTURE, Role.SUPERVISOR, order_acts.AcceptAnswer()),
    ]
    examples = {type(act): act for _, _, act in lives}
    order_id = known(bureaus, COUNTY)[0].order_id
    for bureau, role, act in lives:
        pages = {PREFECTURE: superior, COUNTY: county}
        for at, (code, page) in product((Role.SUPERVISOR, Role.TAX_SERVICE, Role.HANDLER, Role.AUDITOR), pages.items()):
            await page.step_in(code, at)
            shown = await page.get(f"/orders/{order_id}")
            for kind in examples:
                offered = f'href="/orders/{order_id}/{act_slug(kind)}"' in shown
                form = await page.client.get(f"/orders/{order_id}/{act_slug(kind)}")
                assert offered == (form.status_code == 200), (code, at, kind)
            if (code, at) == (bureau, role):
                assert f'href="/orders/{order_id}/{act_slug(type(act))}"' in shown
        stage = (await done(bureaus, bureau, role, order_id, act)).stage
        other = PREFECTURE if bureau == COUNTY else COUNTY
        await until(lambda other=other, stage=stage: known(bureaus, other)[0].stage is stage)  # type: ignore[misc]


async def test_an_officer_acknowledges_and_answers_in_the_page_and_the_issuer_sees_it(
    superior: Pages, county: Pages, bureaus: Federation
) -> None:
    order_id = await issued(bureaus)
    assert (await county.fill_in(f"/orders/{order_id}/acknowledge", note="已阅")).status_code == 303
    assert (await county.fill_in(f"/orders/{order_id}/answer", answer="已办结\r\n并反馈")).status_code == 303
    await until(lambda: known(bureaus, PREFECTURE)[0].stage is OrderStage.ANSWERED)
    page = await superior.get(f"/orders/{order_id}")
    assert "已办结\n并反馈" in page
    assert [act_term(order_acts.AcceptAnswer), act_term(order_acts.ReturnAnswer), act_term(order_acts.CancelOrder)] == [
        name for name in map(act_term, ACT_OF_ORDER_REQUEST.values()) if f">{name}</a>" in page
    ]


async def test_an_answer_sent_twice_from_a_dialog_is_given_once_and_the_browser_goes_to_the_order(
    county: Pages, bureaus: Federation
) -> None:
    order_id = await issued(bureaus)
    dialog = await county.get(f"/orders/{order_id}/acknowledge", headers=PARTIAL)
    assert "<html" not in dialog
    assert 'hx-post="/orders/' in dialog
    form = await county.hidden(f"/orders/{order_id}/acknowledge")
    for _ in range(2):
        answer = await county.client.post(f"/orders/{order_id}/acknowledge", data=form, headers=PARTIAL)
        assert (204, f"/orders/{order_id}") == (answer.status_code, answer.headers["HX-Redirect"])


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"final_bureau": PROVINCE}, "final_bureau"),
        ({"text": " "}, "text"),
        ({"answer_workdays": "0"}, "answer_workdays"),
        ({"answer_workdays": "bald"}, "answer_workdays"),
        ({"case_ids": "c-1 c-1"}, "case_ids"),
        ({"level": "9"}, "level"),
    ],
)
async def test_a_refusal_shows_at_its_field_and_what_was_typed_is_kept(
    superior: Pages, bureaus: Federation, fields: dict[str, str], wrong: str
) -> None:
    good = {"final_bureau": COUNTY, "level": "2", "text": WORDING, "answer_workdays": "7", "case_ids": "c-9"}
    answer = await superior.fill_in("/orders/new", **good | fields)
    assert 422 == answer.status_code
    assert [] == known(bureaus, PREFECTURE)
    assert f'id="fault-{wrong}"' in answer.text
    assert 1 == answer.text.count('class="fault"')
    for name, value in (good | fields).items():
        kept = "" if name in {wrong, "level"} or not value.strip() else value.replace("<", "&lt;").replace(">", "&gt;")
        assert kept in answer.text


async def test_a_bureau_may_be_named_by_its_name(superior: Pages, bureaus: Federation) -> None:
    named = bureaus.tree.get(COUNTY).name
    answer = await superior.fill_in("/orders/new", final_bureau=named, level="2", text=WORDING, answer_workdays="3")
    assert 303 == answer.status_code
    assert f'value="{COUNTY}"' in await superior.get("/orders/bureaus", params={"final_bureau": named[:3]})
    assert [COUNTY] == [order.final_bureau for order in known(bureaus, PREFECTURE)]


async def test_the_address_fills_in_bureau_and_cases_of_a_new_order(superior: Pages) -> None:
    page = await superior.get("/orders/new", params=[("to", OTHER_COUNTY), ("case", "c-1"), ("case", "c-2")])
    assert f'value="{OTHER_COUNTY}"' in page
    assert ">c-1\nc-2</textarea>" in page
    assert '<option value="1" selected>' in page


async def test_a_received_order_is_passed_on_to_several_subordinates_in_its_own_words(
    superior: Pages, bureaus: Federation
) -> None:
    order_id = await issued(bureaus, PREFECTURE, PROVINCE, cases=("c-7",))
    await superior.step_in(PREFECTURE, Role.TAX_SERVICE)
    await superior.fill_in(f"/orders/{order_id}/acknowledge")
    await superior.step_in(PREFECTURE, Role.SUPERVISOR)
    form = await superior.get(f"/orders/{order_id}/cascade")
    assert "请说明逾期原因并限期办结 &lt;script&gt;" in form
    assert ">c-7</textarea>" in form
    sent = await superior.fill_in(
        f"/orders/{order_id}/cascade",
        to_bureaus=[COUNTY, OTHER_COUNTY],
        level="3",
        text=WORDING,
        answer_workdays="2",
    )
    assert 303 == sent.status_code
    derived = [one for one in known(bureaus, PREFECTURE) if one.parent_order_id == order_id]
    assert {COUNTY, OTHER_COUNTY} == {one.final_bureau for one in derived}
    page = await superior.get(f"/orders/{order_id}")
    assert all(f'href="/orders/{one.order_id}"' in page for one in derived)
    early = await superior.client.get(f"/orders/{order_id}/answer")
    assert 403 == early.status_code


async def test_an_answer_before_the_derived_ones_is_refused_at_the_field_that_would_say_why(
    superior: Pages, bureaus: Federation
) -> None:
    order_id = await issued(bureaus, PREFECTURE, PROVINCE)
    await done(bureaus, PREFECTURE, Role.TAX_SERVICE, order_id, order_acts.AcknowledgeOrder())
    cascade = order_acts.CascadeOrder(to_bureaus=(COUNTY,), level=OrderLevel.URGE, text="速办", answer_workdays=1)
    await done(bureaus, PREFECTURE, Role.SUPERVISOR, order_id, cascade)
    await superior.step_in(PREFECTURE, Role.TAX_SERVICE)
    answer = await superior.fill_in(f"/orders/{order_id}/answer", answer="本级已办")
    assert 409 == answer.status_code
    assert 'id="fault-because"' in answer.text
    assert "本级已办" in answer.text


async def test_each_tab_counts_what_it_lists(superior: Pages, county: Pages, bureaus: Federation) -> None:
    assert "此处没有督办单" in await superior.get("/orders")
    issued_here = await issued(bureaus)
    relayed = await issued(bureaus, COUNTY, PROVINCE)
    for tab, expected in {
        "received": set[str](),
        "issued": {issued_here},
        "overdue": set[str](),
        "relayed": {relayed},
        "all": {issued_here, relayed},
    }.items():
        page = await superior.get("/orders", params={"tab": tab})
        assert expected == {one for one in (issued_here, relayed) if f'data-href="/orders/{one}"' in page}
        assert f'<a href="/orders?tab={tab}" aria-current="page">' in page
    assert 2 == (await county.get("/orders?tab=received")).count("data-href=")


async def test_a_list_longer_than_a_page_goes_on(
    superior: Pages, bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.desk.orders.PAGE_SIZE", 2)
    numbers = {await issued(bureaus) for _ in range(3)}
    first = await superior.get("/orders?tab=issued")
    following = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    second = await superior.get(following)
    on = [{one for one in numbers if f'data-href="/orders/{one}"' in page} for page in (first, second)]
    assert [2, 1] == list(map(len, on))
    assert numbers == on[0] | on[1]


async def test_a_bureau_without_subordinates_issues_nothing(county: Pages, bureaus: Federation) -> None:
    await county.step_in(COUNTY, Role.SUPERVISOR)
    page = await county.get("/orders/new", 409)
    assert f'data-rule="{NoSubordinates.__name__}"' in page
    assert 'href="/orders/new"' not in await county.get("/orders")
    with pytest.raises(NoSubordinates):
        await issued(bureaus, COUNTY, COUNTY)


async def test_cases_of_an_order_lead_to_their_pages(superior: Pages, county: Pages, bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    order_id = await issued(bureaus, cases=(case_id, "c-none"))
    assert f'href="/cases/{case_id}"' in await county.get(f"/orders/{order_id}")
    above = await superior.get(f"/orders/{order_id}")
    assert f'href="/subordinates/{COUNTY}/cases/{case_id}"' in above
    assert 'href="/cases/c-none"' not in await county.get(f"/orders/{order_id}")


async def test_the_pages_speak_english_too(superior: Pages, county: Pages, bureaus: Federation) -> None:
    order_id = await issued(bureaus)
    assert "督办事项" in await superior.get(f"/orders/{order_id}")
    await superior.english()
    page = await superior.get(f"/orders/{order_id}")
    assert "Wording" in page
    assert "督办事项" not in page


async def test_an_unknown_order_or_act_is_no_page(superior: Pages, bureaus: Federation) -> None:
    assert 'data-rule="UnknownOrder"' in await superior.get("/orders/370100-2026-D000099", 404)
    order_id = await issued(bureaus)
    await superior.get(f"/orders/{order_id}/destroy", 404)
