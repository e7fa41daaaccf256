"""Words that texts are found by: the same cut for a text and for a question, and nothing but letters and digits."""

import re

import pytest

from kuaixiang.text.finding import number_pieces, pieces_asked, pieces_of


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("小微企业增值税减免政策何时延续？", "减免"),
        ("小微企业增值税减免政策何时延续？", "减免政策 增值税"),
        ("电话：0571-88000000。", "88000000"),
        ("电话：0571-88000000。", "0571-88000000"),
        ("ＡＢＣ软件打不开", "abc"),
        ("Excel导出失败", "EXCEL 导出"),
        ("邮箱 a.b@example.com", "a.b@example.com"),
        ("住A栋3单元", "A栋 单元"),
        ("税号91330106YY0000017L", "91330106yy0000017l"),
        ("𠀀𠀁号文件", "𠀀𠀁"),
    ],
)
def test_a_text_is_found_by_what_stands_in_it(text: str, question: str) -> None:
    assert pieces_asked(question)
    assert set(pieces_asked(question)) <= set(pieces_of(text))


def test_a_single_chinese_character_is_passed_over() -> None:
    assert ("减免",) == pieces_asked("税 减免")
    assert () == pieces_asked("税")


@pytest.mark.parametrize("question", ["", " ", "😀", '"*():^', "\0", "-", "。，"])
def test_where_there_is_no_word_there_is_nothing_to_look_for(question: str) -> None:
    assert () == pieces_asked(question)


def test_whatever_is_asked_the_pieces_are_letters_and_digits() -> None:
    noise = "".join(
        map(chr, [*range(0x3000), *range(0x4E00, 0x4F00), *range(0x1F000, 0x1F900), *range(0x20000, 0x20100)])
    )
    pieces = {*pieces_of(noise), *pieces_asked(noise), *pieces_asked("x' OR 1=1; --\"*NEAR(a,b) col:税务 {")}
    assert [] == [piece for piece in pieces if not re.fullmatch(r"[^\W_]{1,64}", piece)]


def test_a_cases_number_is_found_as_a_whole_and_from_each_group_on() -> None:
    assert ("33010620260000001", "20260000001", "0000001") == number_pieces("330106-2026-0000001")
    assert set(pieces_asked("330106-2026-0000001")) <= set(number_pieces("330106-2026-0000001"))


def test_a_long_word_counts_by_its_beginning() -> None:
    assert (64,) == tuple(map(len, pieces_asked("a" * 10_000)))
