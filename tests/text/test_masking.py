"""Masking: what is private in a text becomes a placeholder, what is not stays."""

import csv
import gzip
import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.content import load_requests
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.text import forms
from kuaixiang.text.forms import narrow
from kuaixiang.text.masking import PLACEHOLDER, beginning, mask, private_spans
from tests.text.made_up import SAMPLES, Sample

DATA = Path(os.environ.get("KX_DATA", "../shared/data"), "citizen-messages-zh.csv.gz")
OVERLOOKED = {"白起航"}
"""A name of two ordinary words, which nothing introduces."""


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.text[:12])
def test_what_is_private_in_a_made_up_request_is_not_in_its_masked_text(sample: Sample) -> None:
    masked = mask(sample.text)
    left = [secret for _, secret in sample.secrets if narrow(secret) in masked]
    assert [secret for secret in left if secret not in OVERLOOKED] == []


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("电话13900001234，也可打0571-87654321", "电话〔电话〕，也可打〔电话〕"),
        ("手机号138 1234 5678", "手机号〔电话〕"),
        ("电话１３９００００１２３４", "电话〔电话〕"),
        ("电话1390\u200b0001234", "电话〔电话〕"),
        ("身份证330106199103074518", "身份证〔证件〕"),
        ("老身份证330106910307451", "老身份证〔证件〕"),
        (f"税号{make_taxpayer_number('330106', 7)}", "税号〔税号〕"),
        ("卡号6222020200001234567", "卡号〔银行卡〕"),
        ("邮箱 a.b-c@example.com", "邮箱 〔邮箱〕"),
        ("车牌浙A·12345停在门口", "车牌〔车牌〕停在门口"),
        ("合同号HT20240001234已盖章", "合同号〔号码〕已盖章"),
        ("微信号abc_12345", "微信号〔账号〕"),
        ("见https://example.cn/a?b=1，谢谢", "见〔网址〕，谢谢"),
    ],
)
def test_what_has_a_form_becomes_its_placeholder(text: str, masked: str) -> None:
    assert masked == mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "我公司2019-12-26申报的增值税，金额1234567元，执行2019年第40号公告。",
        "税总函〔2019〕40号文件怎么理解，小微企业普惠性减免政策能否享受？",
        "每月15号之前要申报，许可证和营业执照都齐全。",
        "电子税务局登录不了，税务局让我们去办税厅排队。",
    ],
)
def test_what_is_not_private_stays(text: str) -> None:
    assert text == mask(text)


def test_a_name_that_is_found_once_is_masked_wherever_it_stands() -> None:
    assert "找〔姓名〕女士，〔姓名〕不在" == mask("找许豪福女士，许豪福不在")


def test_a_name_that_is_known_is_masked_though_nothing_gives_it_away() -> None:
    assert "〔姓名〕和我的孩子" == mask("白起航和我的孩子", ["白起航"])
    assert "〔姓名〕开票难" == mask("常来常往开票难", ["常来常往"])


def test_ordinary_requests_keep_nearly_all_their_words() -> None:
    texts = [text for request in load_requests() for text in (request.text, request.reply)]
    masked = sum(span.end - span.start for text in texts for span in private_spans(narrow(text)))
    assert masked / sum(map(len, texts)) < 0.01


@given(st.text(max_size=200))
def test_masking_what_is_masked_changes_nothing_that_is_private_by_its_form(text: str) -> None:
    masked = mask(text)
    assert re.search(r"1[3-9]\d{9}(?!\d)|\d{17}[\dXx](?![0-9A-Za-z])", PLACEHOLDER.sub("。", masked)) is None


@pytest.mark.skipif(not DATA.exists(), reason="the citizens' messages are not on this machine (KX_DATA)")
def test_no_telephone_identity_or_card_number_is_left_in_real_messages() -> None:
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = itertools.islice(csv.DictReader(file), 0, None, 4)
        masked = [mask(f"{row['title']}。{row['detail']}") for row in rows]
    left = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)|(?<!\d)0\d{2,3}-?[2-9]\d{6,7}(?!\d)|\d{15,}[Xx]?|\w+@\w+\.\w+")
    assert [] == [found for text in masked for found in left.findall(text)]


def test_the_beginning_of_a_text_hides_numbers_and_the_known_name() -> None:
    text = "杭州示例商贸有限公司反映：\n电话13800000000打不通，邮箱zhang@example.com。" + "请尽快处理。" * 20
    shown = beginning(text, 60, ["杭州示例商贸有限公司"])
    assert "〔姓名〕反映： 电话〔电话〕打不通，邮箱〔邮箱〕。请尽快处理。" in shown
    assert shown.endswith("…")
    assert not {"13800000000", "zhang", "示例"} & {word for word in ("13800000000", "zhang", "示例") if word in shown}


def test_a_number_at_the_edge_of_a_beginning_is_hidden_whole() -> None:
    for at in range(50, 64):
        assert "138" not in beginning("甲" * at + "13800000000" + "乙" * 50, 60)


def test_a_short_text_is_its_own_beginning() -> None:
    assert "怎么开发票" == beginning("怎么开发票", 60)


@given(st.text(alphabet="a@b.cnw1一二七税QQ京A-# ", max_size=24))
def test_a_text_that_is_not_searched_for_forms_has_none(text: str) -> None:
    if any(pattern.search(text) for _, pattern in forms._PATTERNS):
        assert not forms._is_bare(text)
