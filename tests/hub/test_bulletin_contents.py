"""What a bulletin says: who ranks and who is listed, what is compared, which problems are found."""

from datetime import UTC, datetime

import pytest

from hub.bulletin.contents import NO_PROBLEMS, NONE_CONFIRMED, NOT_PUBLISHED, NOT_RECONCILED, NOT_SEARCHED
from hub.bulletin.document import Heading, basis_points_of, growth_per_mille, many
from hub.bulletin.material import CorrectionLine, IssueLine, MismatchLine, ReconciliationLine, Shortfall
from hub.definitions import explanations
from hub.query import Row
from hub.words import Lack
from kuaixiang.domain.periods import parse_period
from kuaixiang.domain.tree import Bureau, Tier
from kuaixiang.runtime.clock import to_micros
from tests.hub.bulletins import NOVEMBER, bulletin, column, counted, edition, row, search, text_of, texts

IN_OCTOBER = to_micros(datetime(2026, 10, 31, 15, 59, tzinfo=UTC))
"""23:59 in Shanghai of the period's last day."""

# ---------------------------------------------------------------- ranking


def test_bureaus_rank_by_their_rate_for_handling_in_time_and_equal_ones_share_a_rank() -> None:
    made = bulletin(
        row("330000"),
        row("330100", on_time=90, late=10),
        row("330200", on_time=95, late=5),
        row("330300", on_time=45, late=5),
        row("330400", on_time=80, late=20),
    )
    ranks = column(made.bureaus, "名次")
    assert ranks == {"合计": "—", "宁波市": "1", "杭州市": "2", "温州市": "2", "嘉兴市": "4", "本级": "—"}
    assert list(ranks) == ["合计", "宁波市", "杭州市", "温州市", "嘉兴市", "本级"]


def test_rates_that_look_equal_are_equal() -> None:
    made = bulletin(row("330100", on_time=90_001, late=9_999), row("330200", on_time=90_000, late=10_000))
    assert column(made.bureaus, "按时办结率") == {"合计": "90.00%", "杭州市": "90.00%", "宁波市": "90.00%"}
    assert column(made.bureaus, "名次") == {"合计": "—", "杭州市": "1", "宁波市": "1"}


def test_a_bureau_under_the_minimum_sample_is_listed_and_not_ranked() -> None:
    made = bulletin(row("330100", on_time=29), row("330200", on_time=20, late=10))
    assert column(made.bureaus, "名次") == {"合计": "—", "宁波市": "1", "杭州市": "—"}
    assert "不足30个，只列出、不排名的单位：杭州市。" in text_of(made)


def test_the_minimum_sample_that_is_asked_for_decides() -> None:
    made = bulletin(row("330100", on_time=29), row("330200", on_time=20, late=10), minimum_sample=31)
    assert "各单位样本均不足31个，本期不作排名" in text_of(made)
    assert set(column(made.bureaus, "名次").values()) == {"—"}


def test_the_publishing_bureaus_own_cases_are_listed_last_and_not_ranked() -> None:
    made = bulletin(row("330000", on_time=100), row("330100", on_time=90, late=10))
    assert column(made.bureaus, "名次") == {"合计": "—", "杭州市": "1", "本级": "—"}


def test_a_bureau_with_a_ledger_under_doubt_is_not_ranked_and_one_that_is_behind_is_marked() -> None:
    made = bulletin(
        row("330100", on_time=100),
        row("330200", on_time=90, late=10),
        shortfalls=[
            Shortfall("330106", "杭州市西湖区", "330100", Lack.QUARANTINED),
            Shortfall("330203", "宁波市海曙区", "330200", Lack.BEHIND),
        ],
    )
    assert column(made.bureaus, "名次") == {"合计": "—", "宁波市※": "1", "杭州市※": "—"}
    text = text_of(made)
    assert "所辖台账数据存疑，只列出、不排名的单位：杭州市。" in text
    assert "台账数据存疑的有1个单位：杭州市西湖区。报送滞后的有1个单位：宁波市海曙区。" in text


def test_a_bureau_without_subordinates_ranks_nobody_and_addresses_nobody() -> None:
    county = Bureau("330106", "国家税务总局西湖区税务局", Tier.COUNTY, "330100")
    made = bulletin(row("330106", on_time=50, label="国家税务总局西湖区税务局（本级）"), bureau=county)
    assert ("", True) == (made.addressees, "没有下级单位，不作排名。" in text_of(made))


# ---------------------------------------------------------------- comparisons


def test_counts_are_compared_in_percent_and_rates_in_points() -> None:
    made = bulletin(
        row("330100", on_time=90, late=10, registered=120),
        previous=counted(row("330100", on_time=80, late=20, registered=100)),
        year_before=counted(row("330100", on_time=95, late=5, registered=150)),
    )
    lines = {line[0]: line[2:] for line in texts(made.overall)}
    assert lines["受理"] == ["120", "100", "+20.0%", "150", "-20.0%"]
    assert lines["按时办结率"] == ["90.00%", "80.00%", "+10.00", "95.00%", "-5.00"]
    assert column(made.bureaus, "环比") == {"合计": "+20.0%", "杭州市": "+20.0%"}
    text = text_of(made)
    assert "共受理小微企业涉税诉求和意见120件，环比增长20.0%，同比下降20.0%" in text
    assert "按时办结率90.00%（环比提高10.00个百分点，同比下降5.00个百分点）" in text


def test_without_figures_of_the_period_before_nothing_is_compared() -> None:
    made = bulletin(row("330100", on_time=90, late=10, registered=120))
    lines = {line[0]: line[2:] for line in texts(made.overall)}
    assert lines["受理"] == ["120", "—", "—", "—", "—"]
    assert column(made.bureaus, "环比") == {"合计": "—", "杭州市": "—"}
    assert "比增长" not in text_of(made)


def test_a_period_that_has_not_ended_is_not_compared_and_says_so() -> None:
    made = bulletin(
        row("330100", registered=120),
        previous=counted(row("330100", registered=100)),
        now_us=IN_OCTOBER,
    )
    assert column(made.bureaus, "环比") == {"合计": "—", "杭州市": "—"}
    assert "统计期间尚未结束，不作环比、同比。" in made.definitions[0].meaning


def test_a_bureau_that_had_nothing_before_has_no_growth() -> None:
    made = bulletin(
        row("330100", registered=120), row("330200", registered=5), previous=counted(row("330100", registered=100))
    )
    assert column(made.bureaus, "环比") == {"合计": "+25.0%", "杭州市": "+20.0%", "宁波市": "—"}


# ---------------------------------------------------------------- an empty period


def test_an_empty_period_says_that_there_was_nothing() -> None:
    made = bulletin(row("330000"), row("330100"))
    text = text_of(made)
    for sentence in ("没有受理、办理小微企业涉税诉求和意见的记录", "不作排名", "无热点", NOT_SEARCHED, NO_PROBLEMS):
        assert sentence in text
    assert made.findings == ()


# ---------------------------------------------------------------- numbers as they are told


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [
        (0, 0, None),
        (0, 7, 0),
        (7, 7, 10_000),
        (99_999, 100_000, 9_999),
        (1, 100_000, 1),
        (1, 8, 1_250),
        (12_345, 1_000_000, 123),
        (12_350, 1_000_000, 124),
        (3, 2, 15_000),
    ],
)
def test_only_what_is_complete_is_told_as_complete(numerator: int, denominator: int, expected: int | None) -> None:
    assert expected == basis_points_of(numerator, denominator)


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [(5, 0, None), (5, None, None), (0, 5, -1000), (5, 5, 0), (1_015, 1_000, 15), (9_995, 10_000, -1)],
)
def test_growth_is_of_the_earlier_count_half_away_from_zero(now: int, before: int | None, expected: int | None) -> None:
    assert expected == growth_per_mille(now, before)


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0"), (9_999, "9999"), (10_000, "1.00万"), (123_456, "12.35万"), (10_050, "1.01万")]
)
def test_counts_in_sentences_are_exact_below_ten_thousand(number: int, expected: str) -> None:
    assert expected == many(number)


# ---------------------------------------------------------------- hot and common issues


def test_the_largest_and_the_fastest_growing_category_are_named() -> None:
    now = (row("1", label="政策落实", registered=90), row("4", label="信息化建设", registered=60))
    before = (row("1", label="政策落实", registered=80), row("4", label="信息化建设", registered=40))
    made = bulletin(
        row("330100", registered=150),
        categories=now,
        previous=counted(row("330100", registered=120), categories=before),
    )
    assert "受理量最大的是政策落实类，共90件；环比增长最快的是信息化建设类，增长50.0%。" in text_of(made)
    assert "从诉求类别看，政策落实90件，占60.00%；信息化建设60件，占40.00%。" in text_of(made)


def test_confirmed_issues_are_told_with_size_growth_and_spread_the_largest_first() -> None:
    made = bulletin(
        row("330100", registered=50),
        search=search(
            IssueLine("GX-2026-0002", "发票额度调整", 12, 10, ("杭州市", "宁波市", "温州市", "嘉兴市"), ("纳税服务",)),
            IssueLine("GX-2026-0001", "小规模减免口径", 31, 0, ("杭州市",), ("政策落实", "其他")),
            unconfirmed=3,
        ),
    )
    assert texts(made.issues) == [
        ["1", "GX-2026-0001", "小规模减免口径", "31", "—", "1", "杭州市", "政策落实、其他"],
        ["2", "GX-2026-0002", "发票额度调整", "12", "+20.0%", "4", "杭州市、宁波市、温州市", "纳税服务"],
    ]
    said = "2026年11月3日对本期诉求内容进行归纳，归纳出共性诉求5项，其中经确认的2项，另有3项待确认、未列出。"
    assert said in text_of(made)


def test_a_search_over_a_part_of_the_cases_or_ledgers_says_so() -> None:
    issue = IssueLine("GX-2026-0001", "小规模减免口径", 31, 0, ("杭州市",), ())
    text = text_of(bulletin(row("330100", registered=50), search=search(issue, one_of=4, unreadable=2)))
    assert "（诉求量较大，每4件取1件，件数为所取的件数），有2个单位的台账未能读取，归纳出共性诉求1项" in text


def test_the_issues_told_are_bounded() -> None:
    issues = [IssueLine(f"GX-2026-{number:04}", f"诉求{number}", number, 0, (), ()) for number in range(100)]
    made = bulletin(row("330100", registered=50), search=search(*issues))
    assert (20, "诉求99") == (len(made.issues.lines), made.issues.lines[0].cells[2].text)


def test_nobody_having_looked_for_issues_is_not_told_as_none_found() -> None:
    assert NOT_SEARCHED in text_of(bulletin(row("330100", registered=50)))
    assert "归纳出共性诉求0项。" in text_of(bulletin(row("330100", registered=50), search=search()))
    unconfirmed = text_of(bulletin(row("330100", registered=50), search=search(unconfirmed=2)))
    assert f"归纳出共性诉求2项。{NONE_CONFIRMED}" in unconfirmed


# ---------------------------------------------------------------- problems found


def test_late_handling_names_the_bureaus_the_worst_first() -> None:
    rows = (row("330100", on_time=95, late=5, overdue=2), row("330200", on_time=80, late=20), row("330300"))
    made = bulletin(*rows)
    assert [finding.title for finding in made.findings] == ["办理超时"]
    late = "本期有25个办理时限超时，涉及2个单位：宁波市（20个，按时办结率80.00%）、杭州市（5个，按时办结率95.00%）。"
    assert (late,) == made.findings[0].sentences
    assert made.findings[0].bureaus == (("宁波市", "本期超时20个"), ("杭州市", "本期超时5个"))
    lasting = bulletin(*rows, now_us=IN_OCTOBER)
    assert lasting.findings[0].sentences == (
        late,
        "截至数据时点，有2件在办事项已超过时限，涉及1个单位：杭州市（2件）。",
    )
    assert ("杭州市", "本期超时5个，在办超时2件") in lasting.findings[0].bureaus


def test_what_waits_now_does_not_change_the_bulletin_of_a_period_that_is_over() -> None:
    then = bulletin(row("330100", registered=9, unfinished=4, overdue=2))
    assert then == bulletin(row("330100", registered=9, unfinished=4, overdue=0))
    assert "截至2026年10月31日，未办结4件。" in text_of(then)
    now = bulletin(row("330100", registered=9, unfinished=4, overdue=2), now_us=IN_OCTOBER)
    assert "未办结4件，在办事项中已超过时限的2件。" in text_of(now)


def test_what_is_unfinished_is_compared_like_every_count() -> None:
    made = bulletin(
        row("330100", registered=9, completed=6, unfinished=6),
        previous=counted(row("330100", registered=9, completed=8, unfinished=4)),
        year_before=counted(row("330100", registered=9, completed=9, unfinished=12)),
    )
    lines = {line[0]: line[2:] for line in texts(made.overall)}
    assert lines["未办结"] == ["6", "4", "+50.0%", "12", "-50.0%"]
    assert lines["办结率"] == ["50.00%", "66.67%", "-16.67", "42.86%", "+7.14"]
    assert "未办结6件，环比增长50.0%，同比下降50.0%。" in text_of(made)


def test_a_sentence_names_the_five_worst_and_the_finding_keeps_all() -> None:
    rows = [row(f"33{number:02}00", late=number, label=f"国家税务总局{number}市税务局") for number in range(1, 9)]
    made = bulletin(*rows)
    assert "涉及8个单位，居前的是：8市（8个，" in made.findings[0].sentences[0]
    assert "3市" not in made.findings[0].sentences[0]
    assert len(made.findings[0].bureaus) == 8


def test_a_low_feedback_rate_is_a_problem_from_a_sufficient_sample_on() -> None:
    made = bulletin(
        row("330100", feedback_met=94, feedback_missed=6),
        row("330200", feedback_met=95, feedback_missed=5),
        row("330300", feedback_met=1, feedback_missed=5),
    )
    assert [(finding.title, finding.bureaus) for finding in made.findings] == [
        ("反馈不及时", (("杭州市", "94.00%，逾期6件"),))
    ]


def test_many_returns_are_a_problem() -> None:
    made = bulletin(
        row("330100", dispatched=50, received=50, dispatch_returned=6, returned_referral=5),
        row("330200", dispatched=100, dispatch_returned=10),
    )
    assert [(finding.title, finding.bureaus) for finding in made.findings] == [
        ("转办退回较多", (("杭州市", "退回11件，退回率11.00%"),))
    ]


def test_dissatisfied_taxpayers_and_reopened_cases_are_a_problem() -> None:
    made = bulletin(row("330100", satisfied=9, not_satisfied=1), row("330200", reopened=2), row("330300", satisfied=3))
    assert [(finding.title, finding.bureaus) for finding in made.findings] == [
        (
            "纳税人不满意",
            (
                ("宁波市", "不满意0件、重新办理2件，满意率无"),
                ("杭州市", "不满意1件、重新办理0件，满意率90.00%"),
            ),
        )
    ]


def test_what_the_last_reconciliation_has_found_is_told_by_bureau_and_that_there_was_none_too() -> None:
    found = ReconciliationLine(
        to_micros(NOVEMBER), 5, 1, [MismatchLine("杭州市西湖区", 2), MismatchLine("宁波市海曙区", 3)]
    )
    made = bulletin(row("330100", on_time=1), reconciliation=found)
    different = "对账不符共5处，涉及2个单位：宁波市海曙区（3处）、杭州市西湖区（2处）。"
    assert [(different,)] == [finding.sentences for finding in made.findings]
    assert "最近一次对账（2026年11月3日09:30）比对台账5个，不符5处，1个台账未能比对。" in text_of(made)
    equal = ReconciliationLine(to_micros(NOVEMBER), 5, 0)
    assert "比对台账5个，未发现不符。" in text_of(bulletin(row("330100"), reconciliation=equal))
    away = ReconciliationLine(to_micros(NOVEMBER), 0, 5)
    assert "比对台账0个，5个台账未能比对。" in text_of(bulletin(row("330100"), reconciliation=away))
    assert NOT_RECONCILED in text_of(bulletin(row("330100")))


def test_a_bulletin_says_of_which_edition_it_is_and_what_was_corrected_since() -> None:
    changed = [CorrectionLine("温州市", "受理", 120, 123), CorrectionLine("杭州市", "未办结", 9, 8)]
    made = bulletin(row("330100", on_time=1), edition=edition(2), corrections=changed)
    assert "本期数据已于2026年11月2日发布（第2版）；发布后更正2项，本通报为更正后的数据。" in text_of(made)
    assert [finding.sentences for finding in made.findings] == [
        ("本期数据发布后更正2项：温州市（受理由120更正为123）、杭州市（未办结由9更正为8）。",)
    ]
    assert "第2版，更正2项" == dict(made.strip)["数据版本"]
    gaps = text_of(bulletin(row("330100"), edition=edition(missing="330106 330203", definitions=1)))
    assert "（第1版，发布时有2个单位未报齐）；发布后没有更正；其间统计口径有调整。" in gaps
    assert NOT_PUBLISHED in text_of(bulletin(row("330100")))


# ---------------------------------------------------------------- disputes and supervision


def test_what_was_put_off_sent_elsewhere_returned_or_ruled_on_is_counted() -> None:
    made = bulletin(
        row("330100", on_time=1, deferred=2, to_reconsideration=1, dispatched=50),
        row("330200", on_time=1, received=50, dispatch_returned=3, returned_referral=2, referred_for_ruling=1),
    )
    text = text_of(made)
    assert "另有待条件成熟2件、转行政复议1件。" in text
    assert "退回与争议方面，退回分办3次、退回移交2件、提请裁定1件，退回率5.00%。" in text
    assert "没有退回和提请裁定。" in text_of(bulletin(row("330100", on_time=1)))


def test_supervision_is_told_and_late_answers_are_a_problem() -> None:
    made = bulletin(
        row("330000", orders_issued=4),
        row("330100", orders_received=4, orders_answered=3, order_met=2, order_missed=1),
    )
    said = "本期下达督办4份、接收督办4份、回复督办3次。本期到期的督办答复时限3个，逾期1个，按时答复督办率66.67%。"
    assert said in text_of(made)
    late = "本期有1份督办逾期未复，涉及1个单位：杭州市（1份，按时答复督办率66.67%）。"
    assert [("督办答复逾期", (late,))] == [(finding.title, finding.sentences) for finding in made.findings]
    assert "本期没有督办。" in text_of(bulletin(row("330100", on_time=1)))


def test_the_problems_are_numbered_within_their_section() -> None:
    made = bulletin(
        row("330100", on_time=95, late=5, not_satisfied=1),
        shortfalls=[Shortfall("330106", "杭州市西湖区", "330100", Lack.NEVER_HEARD)],
    )
    assert [block.text for block in made.sections[3].blocks if isinstance(block, Heading)] == [
        "（一）办理超时",
        "（二）纳税人不满意",
        "（三）数据报送不完整",
    ]


# ---------------------------------------------------------------- the frame


def test_the_bulletin_has_four_sections_four_annexed_tables_and_the_definitions() -> None:
    made = bulletin(row("330000"), row("330100", on_time=50))
    assert [section.title for section in made.sections] == [
        "一、总体情况",
        "二、办理与回访情况",
        "三、热点与共性诉求",
        "四、存在问题",
    ]
    assert made.attachments == (
        "各单位办理情况统计表",
        "分类别办理情况统计表",
        "分渠道办理情况统计表",
        "分部门类别办理情况统计表",
        "统计口径与数据完整性说明",
    )
    assert made.title == ("关于2026年10月小微企业涉税诉求和意见", "快速响应工作情况的通报")
    assert (made.issuer, made.addressees) == ("国家税务总局浙江省税务局", "各市、县（市、区）税务局：")
    assert made.bureaus.note.endswith(f"口径见附件{len(made.attachments)}。")


def test_every_figure_that_is_told_has_the_label_and_the_sentences_of_its_one_definition() -> None:
    made = bulletin(row("330000"), row("330100", on_time=50))
    explained = {word for definition in made.definitions for word in definition.word.split("、")}
    for table in made.annexes:
        assert set(table.headings[1:]) <= explained
    assert {line[0] for line in texts(made.overall)} <= explained
    known = {(found.label, found.chinese, found.sentence) for found in explanations().values()}
    own = {found.word for found in made.definitions if (found.word, found.meaning, found.english) not in known}
    assert own == {"统计期间", "统计范围", "数据时点", "环比、同比", "名次", "※"}


def test_the_bureaus_table_has_the_usual_columns() -> None:
    headings = [
        "单位",
        "受理",
        "办结",
        "按时",
        "超时",
        "未办结",
        "办结率",
        "按时办结率",
        "及时反馈率",
        "有效回访率",
        "满意率",
        "环比",
        "名次",
    ]
    assert headings == list(bulletin(row("330100")).bureaus.headings)


def test_every_category_and_channel_has_its_line_whether_it_had_cases_or_not() -> None:
    made = bulletin(row("330100", registered=3))
    assert [line[0] for line in texts(made.categories)] == [
        "合计",
        "政策落实",
        "执法规范",
        "纳税服务",
        "信息化建设",
        "法律救济",
        "其他",
    ]
    assert len(made.channels.lines) == 7


def test_a_quarter_says_which_days_it_has_and_how_complete_it_is() -> None:
    made = bulletin(row("330100", on_time=1), period=parse_period("2026-Q3"))
    assert made.definitions[0].meaning == "2026年7月1日至2026年9月30日，按业务发生日（北京时间）归期。"
    assert dict(made.strip) == {
        "应报送单位": "5",
        "已报送": "5",
        "数据最新": "5",
        "数据存疑": "0",
        "数据截至": "2026年11月3日09:30",
        "数据版本": "未发布",
    }
    assert made.signed_on == NOVEMBER.date()


def test_a_row_of_a_category_unknown_to_this_version_is_told_too() -> None:
    made = bulletin(row("330100", registered=3), categories=(Row("9", "9"),))
    assert texts(made.categories)[-1][0] == "9"
