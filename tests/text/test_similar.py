"""Near-identical texts: candidates by sketches, decided by the whole text."""

import random

import pytest

from kuaixiang.text.similar import (
    PART_TEXTS,
    SIMILAR_MIN,
    SKETCH_SIZE,
    SketchIndex,
    normal,
    similarity,
    sketch,
)

TEXT = "我公司上个月申请了留抵退税，电子税务局一直显示审核中，已经超过二十个工作日，请问什么时候能够到账？"


@pytest.mark.parametrize(
    "again",
    [
        "尊敬的领导：您好！" + TEXT + "谢谢！",
        TEXT.replace("，", " ").replace("？", "?"),
        TEXT.replace("审核", "审合").replace("上个月", "上月"),
        TEXT[:30],
        TEXT + "联系电话是一三八，我们公司的财务等了很久，希望尽快处理。",
    ],
    ids=["courtesies", "marks", "slips of the pen", "broken off", "continued"],
)
def test_the_same_request_in_another_form_is_similar(again: str) -> None:
    assert similarity(normal(TEXT), normal(again)) >= SIMILAR_MIN


@pytest.mark.parametrize(
    "other",
    [
        "我公司上个月申请了注销登记，办税厅要求补充财务报表，请问需要哪些材料？",
        "个人所得税汇算清缴补税金额不对，赡养老人专项附加扣除没有算进去。",
    ],
)
def test_another_request_is_not_similar(other: str) -> None:
    assert similarity(normal(TEXT), normal(other)) < SIMILAR_MIN


def test_a_sketch_is_bounded_and_the_same_whenever_it_is_made() -> None:
    assert SKETCH_SIZE == len(sketch(normal(TEXT * 3)))
    assert sketch(normal(TEXT)) == sketch(normal(f"  {TEXT}  "))
    assert () == sketch("")


def test_the_index_names_the_repeat_among_many_texts_first() -> None:
    rng = random.Random(7)
    alphabet = "税务发票申报退税登记注销公司电子系统审核材料窗口"
    index = SketchIndex()
    for number in range(3_000):
        index.add(number, sketch("".join(rng.choices(alphabet, k=80))))
    index.add(3_000, sketch(normal(TEXT)))
    assert [3_000] == index.candidates(sketch(normal("您好，" + TEXT)), 1)


def test_old_texts_are_dropped_with_their_part_of_the_index() -> None:
    index = SketchIndex()
    for number in range(PART_TEXTS + 1):
        index.add(number, (number % 50_000,))
    index.drop_before(PART_TEXTS)
    assert [PART_TEXTS] == index.candidates((PART_TEXTS % 50_000,), 9)
    assert 1 == len(index)


def test_of_a_crowd_that_says_the_same_the_newest_are_named() -> None:
    index = SketchIndex()
    for number in range(2 * PART_TEXTS + 2):
        index.add(number, (1, 2, 3))
    assert [2 * PART_TEXTS + 1, 2 * PART_TEXTS] == index.candidates((1, 2, 3), 2)


def test_an_index_of_one_value_finds_it_again_and_nothing_before_the_number_asked_from() -> None:
    index = SketchIndex(common_min=1)
    for number in range(PART_TEXTS + 10):
        index.add(number, (number % 3,))
    assert [PART_TEXTS + 9, PART_TEXTS + 6] == index.candidates(((PART_TEXTS + 9) % 3,), 9, PART_TEXTS + 5)


def test_an_index_keeps_no_more_texts_than_it_is_told() -> None:
    index = SketchIndex()
    for number in range(3 * PART_TEXTS):
        index.add(number, (number,))
    index.shrink(PART_TEXTS + 5)
    assert PART_TEXTS == len(index)
