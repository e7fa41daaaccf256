"""Key terms: what a text is about, and nothing of who wrote it."""

import pytest

from kuaixiang.text.forms import narrow
from kuaixiang.text.terms import TERMS_MAX, key_terms
from tests.text.made_up import SAMPLES, Sample


def test_the_terms_of_a_request_are_its_words_and_pairs_of_neighbours() -> None:
    terms = key_terms("一般纳税人申请留抵退税，两个月没到账。")
    assert ("一般纳税人", "一般纳税人 申请", "申请", "申请 留抵退税", "留抵退税") == terms


def test_terms_come_sorted_so_that_the_order_of_the_text_stays_at_home() -> None:
    terms = key_terms("电子税务局无法登录，开具发票时系统报错")
    assert sorted(terms) == list(terms)


def test_digits_stop_words_and_single_characters_are_no_terms() -> None:
    assert () == key_terms("您好，请问2024年3月5日该怎么办？谢谢！")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.text[:12])
def test_no_name_of_a_made_up_request_becomes_a_term(sample: Sample) -> None:
    words = {word for term in key_terms(sample.text) for word in term.split()}
    assert [] == [secret for _, secret in sample.secrets if narrow(secret) in words]


def test_a_name_that_masking_overlooks_is_no_term_when_it_is_no_word() -> None:
    assert ("发票额度",) == key_terms("芃沅翎问发票额度")


def test_a_long_text_has_a_bounded_number_of_terms() -> None:
    text = "。".join(f"发票额度和{word}" for word in ("系统", "申报", "退税", "注销", "登记")) * 2_000
    assert len(key_terms(text)) <= TERMS_MAX
