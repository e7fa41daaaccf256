import random
import re
from difflib import SequenceMatcher
from itertools import combinations

import pytest

from demo.content import (
    TRADES,
    Course,
    Department,
    Request,
    RequestMalformed,
    UnknownTrade,
    _request,
    fictional_taxpayer,
    load_requests,
)
from kuaixiang.domain.identifiers import check_contact, check_taxpayer_number, division_of
from kuaixiang.domain.words import Category

ENTRY = {
    "id": "policy-00",
    "category": "POLICY",
    "channel": "COUNTER",
    "department": "policy",
    "course": "ordinary",
    "text": "问",
    "reply": "答",
}


def alike(first: str, second: str, limit: float) -> bool:
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    # The cheap upper bounds first: 14,000 pairs.
    return matcher.real_quick_ratio() >= limit and matcher.quick_ratio() >= limit and matcher.ratio() >= limit


def test_there_are_at_least_132_different_texts_with_different_ids() -> None:
    requests = load_requests()
    assert len({request.text for request in requests}) == len(requests) >= 132
    assert len({request.id for request in requests}) == len(requests)


def test_no_reply_is_given_twice() -> None:
    requests = load_requests()
    assert len(requests) == len({request.reply for request in requests})


@pytest.mark.parametrize("category", Category)
def test_every_category_has_at_least_twenty(category: Category) -> None:
    assert sum(request.category is category for request in load_requests()) >= 20


@pytest.mark.parametrize("course", Course)
def test_every_course_is_taken(course: Course) -> None:
    least = {Course.ON_THE_SPOT: 30, Course.ORDINARY: 40}.get(course, 5)
    assert sum(request.course is course for request in load_requests()) >= least


def test_every_department_answers_some() -> None:
    assert set(Department) == {request.department for request in load_requests()}


def test_no_two_texts_are_near_identical() -> None:
    pairs = combinations(load_requests(), 2)
    assert [(one.id, other.id) for one, other in pairs if alike(one.text, other.text, 0.85)] == []


def test_texts_and_replies_keep_their_lengths() -> None:
    def outside(request: Request) -> bool:
        return not (40 <= len(request.text) <= 220 and 30 <= len(request.reply) <= 150)

    assert [request.id for request in load_requests() if outside(request)] == []


def test_texts_and_replies_hold_no_number_that_could_be_somebodys() -> None:
    long_number = re.compile(r"[0-9A-Z]{6}")
    assert [request.id for request in load_requests() if long_number.search(request.text + request.reply)] == []


@pytest.mark.parametrize("field", ENTRY)
def test_an_entry_without_a_field_is_named(field: str) -> None:
    with pytest.raises(RequestMalformed, match=f"entry 7: .*'{field}'"):
        _request(7, {name: value for name, value in ENTRY.items() if name != field})


@pytest.mark.parametrize("field", ["category", "channel", "trade", "department", "course"])
def test_an_entry_with_an_unknown_word_is_named(field: str) -> None:
    with pytest.raises(RequestMalformed, match=r"entry 3: .*nonesuch"):
        _request(3, {**ENTRY, field: "nonesuch"})


def test_an_entry_with_an_unknown_field_is_named() -> None:
    with pytest.raises(RequestMalformed, match="entry 1: unknown fields: place"):
        _request(1, {**ENTRY, "place": "x"})


def test_invented_taxpayers_have_valid_numbers_of_their_division_and_usable_contacts() -> None:
    rng = random.Random(40)
    taxpayers = [fictional_taxpayer(rng, "330106") for _ in range(2000)]
    for taxpayer in taxpayers:
        check_taxpayer_number(taxpayer.taxpayer_number)
        check_contact(taxpayer.contact)
        assert division_of(taxpayer.taxpayer_number) == "330106"
        assert taxpayer.contact.startswith("15400")
    assert len({taxpayer.taxpayer_number for taxpayer in taxpayers}) == len(taxpayers)


def test_the_same_seed_invents_the_same_taxpayers() -> None:
    one, other = random.Random(2019), random.Random(2019)
    assert [fictional_taxpayer(one, "110101") for _ in range(50)] == [
        fictional_taxpayer(other, "110101") for _ in range(50)
    ]


@pytest.mark.parametrize("trade", TRADES)
def test_a_company_bears_its_trade(trade: str) -> None:
    name = fictional_taxpayer(random.Random(1), "110101", trade).name
    assert trade in name
    assert name[3:].removeprefix(trade) in TRADES[trade]


def test_an_unknown_trade_is_refused() -> None:
    with pytest.raises(UnknownTrade, match="铸剑"):
        fictional_taxpayer(random.Random(1), "110101", "铸剑")
