"""Clusters of requests by their key terms."""

import random
from collections.abc import Sequence

import pytest

from hub.issues import joining
from hub.issues.clusters import Cluster
from hub.issues.joining import find_clusters
from kuaixiang.text.terms import key_terms

ASKED = {
    "登录": (
        "电子税务局无法登录，输入验证码后一直提示密码错误",
        "登录电子税务局时验证码收不到，密码错误登不上",
        "电子税务局密码错误，验证码过期，无法登录申报",
        "验证码收不到，电子税务局无法登录",
    ),
    "退税": (
        "留抵退税申请两个月没有到账，请尽快审核",
        "申请留抵退税以后一直在审核，什么时候到账",
        "留抵退税审核时间太长，一直没有到账",
        "增值税留抵退税什么时候审核到账",
    ),
    "发票": (
        "发票额度不够用，申请提高开票限额被退回",
        "专用发票开票限额太低，申请提高额度",
        "数电票额度用完，提高额度的申请没有通过",
        "开票限额不够，发票额度申请提高",
    ),
}
ALONE = ("契税发生重复缴纳，请退还", "残疾人就业保障金如何减免", "车船税保险公司代收以后查不到")


def mixed(times: int = 1) -> tuple[list[tuple[str, ...]], list[str]]:
    """Terms of requests in a mixed order, and what each asks; what stands alone asks nothing."""
    asked = [(text, name) for name, texts in ASKED.items() for text in texts for _ in range(times)]
    asked += [(text, "") for text in ALONE]
    random.Random(3).shuffle(asked)
    return [key_terms(text) for text, _ in asked], [name for _, name in asked]


def grouped(found: Sequence[Cluster], names: Sequence[str]) -> list[set[str]]:
    return [{names[place] for place in cluster.members} for cluster in found]


def test_requests_that_ask_the_same_are_one_cluster_and_what_stands_alone_is_in_none() -> None:
    terms, names = mixed()
    found = find_clusters(terms, [])
    assert [{"发票"}, {"登录"}, {"退税"}] == sorted(grouped(found, names), key=sorted)
    assert [4, 4, 4] == [len(cluster.members) for cluster in found]


def test_a_cluster_is_named_by_what_it_has_in_common_and_others_have_not() -> None:
    terms, names = mixed()
    labels = {names[cluster.members[0]]: cluster.terms for cluster in find_clusters(terms, [])}
    assert "留抵退税" in " ".join(labels["退税"][:2])
    assert "验证码" in " ".join(labels["登录"][:4])
    assert "申请" not in labels["退税"][:2]


def test_the_period_before_is_counted_by_the_same_rule() -> None:
    terms, names = mixed()
    before = [key_terms(ASKED["退税"][0]), key_terms(ASKED["退税"][2]), key_terms(ALONE[0]), ()]
    counts = {names[cluster.members[0]]: cluster.before for cluster in find_clusters(terms, before)}
    assert {"退税": 2, "登录": 0, "发票": 0} == counts


def test_the_most_typical_members_come_first() -> None:
    terms, _ = mixed()
    for cluster in find_clusters(terms, []):
        assert set(cluster.central) <= set(cluster.members)
        assert len(cluster.central) == len(cluster.members)


def test_smaller_clusters_than_asked_for_are_not_told() -> None:
    terms, _ = mixed()
    assert [] == find_clusters(terms, [], cases_min=5)


@pytest.mark.parametrize("period", [[], [()], [("发票",)], [("发票",), ("退税",)]])
def test_where_nothing_is_asked_twice_there_is_no_cluster(period: list[tuple[str, ...]]) -> None:
    assert [] == find_clusters(period, [("发票",)])


def test_many_requests_are_divided_into_blocks_and_what_is_alike_is_joined_across_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "EXACT_MAX", 20)
    monkeypatch.setattr(joining, "BLOCK", 8)
    terms, names = mixed(times=12)
    found = [group for group in grouped(find_clusters(terms, []), names) if group != {""}]
    assert all(len(group) == 1 for group in found)
    assert {"登录", "退税", "发票"} == set().union(*found)
    assert len(found) < sum(map(len, ASKED.values()))


def test_a_flood_of_one_request_is_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "EXACT_MAX", 20)
    (cluster,) = find_clusters([key_terms(ASKED["登录"][0])] * 90, [])
    assert 90 == len(cluster.members)


def test_the_same_question_has_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "EXACT_MAX", 20)
    terms, _ = mixed(times=4)
    assert find_clusters(terms, []) == find_clusters(terms, [])
