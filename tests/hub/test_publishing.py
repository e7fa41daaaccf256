"""Publishing a period: when it may be, what an edition holds, and what shows as a correction; over both databases."""

from datetime import UTC, datetime

import pytest

from demo.journals import DAY, MONDAY, Journal
from hub import publishing, query
from hub.editions import Edition
from hub.folder import Answer
from hub.measures import measure_name
from hub.publishing import (
    Corrections,
    FiguresIncomplete,
    NotPublished,
    Override,
    OverrideByOne,
    OverrideUnsigned,
    PeriodNotOver,
    end_of,
)
from hub.query import Completeness
from hub.store import ALONE
from hub.words import Lack
from kuaixiang.domain.periods import Period, parse_period
from kuaixiang.runtime.clock import to_micros
from tests.hub.bench import Bench, cases
from tests.hub.journals import BEIJING, DONGCHENG, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG

NOVEMBER = parse_period("2026-11")
AFTER = datetime(2026, 12, 3, 2, tzinfo=UTC)
TWO = Override("张三", "李四", "上级要求当日通报")


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """After the period."""
    bench.now = AFTER
    return bench


def completeness(bench: Bench, scope: str, period: Period) -> Completeness:
    return query.completeness(bench.tree.subtree(scope), bench.folder.marks(), frozenset(), end_of(period))


def publish(
    bench: Bench, scope: str = BEIJING, period: Period = NOVEMBER, override: Override | None = None
) -> tuple[Edition, bool]:
    with bench.store.reading() as connection:
        prepared = publishing.prepare(
            connection,
            bench.tree,
            scope=scope,
            period=period,
            completeness=completeness(bench, scope, period),
            override=override or Override(),
            published_by=f"office {scope}",
            now_us=to_micros(bench.now),
        )
    return bench.store.publish(*prepared)


def corrections(bench: Bench, scope: str = BEIJING, period: Period = NOVEMBER) -> Corrections:
    with bench.store.reading() as connection:
        return publishing.corrections(connection, bench.tree, scope, period)


def changed(found: Corrections) -> dict[tuple[str, str], tuple[int, int]]:
    return {(one.cell[0], measure_name(one.cell[5])): (one.published, one.now) for one in found.bureaus}


def reported(bench: Bench, *journals: Journal) -> None:
    """Everything of these bureaus is folded, and all others of the tree have said that they have nothing."""
    of = {journal.bureau: journal for journal in journals}
    for bureau in bench.tree.bureaus:
        journal = of.get(bureau, Journal(bureau))
        bench.feed(*journal.segments(), journal.head(AFTER))


def test_a_complete_period_is_published_and_publishing_it_again_makes_no_new_edition(bench: Bench) -> None:
    reported(bench, cases(DONGCHENG, 3), cases(XICHENG, 1))
    first, is_new = publish(bench)
    assert (first.edition, is_new, first.complete, first.published_by) == (1, True, True, "office 110000")
    assert (first.bureaus_expected, first.bureaus_up_to_date, first.data_as_of_us) == (3, 3, to_micros(AFTER))
    bench.reopen()
    assert publish(bench) == (first, False)
    assert corrections(bench).bureaus == []


def test_what_changes_after_publishing_is_a_correction_by_bureau_and_measure(bench: Bench) -> None:
    journal, other = cases(DONGCHENG, 2), cases(XICHENG, 1)
    reported(bench, journal, other)
    publish(bench)
    before = journal.seq
    journal.write("late", "registered", MONDAY + DAY, category=2)
    journal.write("another month", "registered", MONDAY + 20 * DAY)
    bench.feed(journal.segment(before + 1))
    found = corrections(bench)
    assert changed(found) == {(DONGCHENG, "registered"): (2, 3), (DONGCHENG, "unfinished"): (0, 1)}
    assert [one.difference for one in found.bureaus] == [1, 1]
    [ground] = found.grounds
    assert (ground.cell[0], ground.cell[2], ground.published, ground.now) == (BEIJING, 2, 0, 1)
    second, is_new = publish(bench)
    assert (second.edition, is_new) == (2, True)
    assert corrections(bench).bureaus == []
    assert corrections(bench).edition == second


def test_cases_that_move_between_categories_are_a_correction_though_no_bureaus_sum_changes(bench: Bench) -> None:
    journal = cases(DONGCHENG, 1)
    reported(bench, journal)
    publish(bench)
    bench.folder.forget(DONGCHENG)
    bench.folder.take_answers([Answer(DONGCHENG, cases(DONGCHENG, 1, category=3).segments())])
    found = corrections(bench)
    assert found.bureaus == []
    assert {(one.cell[2], one.difference > 0) for one in found.grounds} == {(1, False), (3, True)}


def test_an_edition_does_not_change_when_a_bureau_is_folded_again(bench: Bench) -> None:
    journal = cases(DONGCHENG, 2)
    reported(bench, journal)
    publish(bench)
    bench.folder.forget(DONGCHENG)
    assert (DONGCHENG, "registered") in changed(corrections(bench))
    bench.folder.take_answers([Answer(DONGCHENG, journal.segments())])
    assert corrections(bench).bureaus == corrections(bench).grounds == []


@pytest.mark.parametrize("text", ["2026-11-16", "2026-W47", "2026-11", "2026-Q3"])
def test_every_kind_of_period_is_published_apart(bench: Bench, text: str) -> None:
    reported(bench, cases(DONGCHENG, 1))
    period = parse_period(text)
    publish(bench, period=period)
    assert corrections(bench, period=period).edition.period == text
    with pytest.raises(NotPublished):
        corrections(bench, period=period.previous)
    with pytest.raises(NotPublished):
        corrections(bench, HEADQUARTERS, period)


def test_a_period_that_is_not_over_is_not_published(bench: Bench) -> None:
    reported(bench, cases(DONGCHENG, 1))
    for period in ("2026-12", "2026-Q4", "2026", "2026-12-03", "2027-01"):
        with pytest.raises(PeriodNotOver) as refused:
            publish(bench, period=parse_period(period), override=TWO)
        assert "不能发布" in refused.value.chinese


def test_figures_are_not_published_while_a_bureau_has_not_reported_to_the_end_of_the_period(bench: Bench) -> None:
    journal, other = cases(DONGCHENG, 2), cases(XICHENG, 1)
    bench.feed(journal.segment(1, 5), journal.head(AFTER), other.segment(), other.head(MONDAY))
    with pytest.raises(FiguresIncomplete) as refused:
        publish(bench)
    assert dict(refused.value.missing) == {
        BEIJING: Lack.NEVER_HEARD,
        DONGCHENG: Lack.BEHIND,
        XICHENG: Lack.BEHIND,
    }
    assert (
        "The figures of 110000 for 2026-11 are not complete: of 3 bureaus 3 have not reported to its end: "
        "110000 (never heard), 110101 (behind), 110102 (behind)."
    ) == str(refused.value)
    assert "110101（报送滞后）" in refused.value.chinese
    with pytest.raises(NotPublished):
        corrections(bench)


def test_two_persons_with_a_reason_have_incomplete_figures_published_and_the_edition_says_so(bench: Bench) -> None:
    journal = cases(DONGCHENG, 2)
    bench.feed(journal.segment(), journal.head(AFTER))
    edition, _ = publish(bench, override=TWO)
    assert (edition.override_by, edition.override_second, edition.override_reason) == ("张三", "李四", TWO.reason)
    assert edition.missing.split() == [BEIJING, XICHENG]
    reported(bench, journal)
    complete, is_new = publish(bench, override=TWO)
    assert (complete.edition, is_new, complete.complete, complete.override_by) == (2, True, True, "")


@pytest.mark.parametrize(
    ("override", "field"),
    [
        (Override("张三", "", "急"), "override_second"),
        (Override("", "李四", "急"), "override_by"),
        (Override("张三", "李四", "  "), "override_reason"),
    ],
)
def test_an_override_takes_two_names_and_a_reason(bench: Bench, override: Override, field: str) -> None:
    reported(bench)
    with pytest.raises(OverrideUnsigned) as refused:
        publish(bench, override=override)
    assert (refused.value.field, bool(refused.value.chinese)) == (field, True)


@pytest.mark.parametrize("second", ["张三", " 张 三", "张三 "])
def test_an_override_takes_two_different_persons(bench: Bench, second: str) -> None:
    with pytest.raises(OverrideByOne):
        publish(bench, override=Override("张三", second, "急"))


def test_a_province_is_published_from_its_part_of_the_nation(bench: Bench) -> None:
    reported(bench, cases(SHANGCHENG, 2), cases(DONGCHENG, 1))
    publish(bench, ZHEJIANG)
    with bench.store.reading() as connection:
        cells = publishing.snapshot(connection, bench.tree, ZHEJIANG, NOVEMBER)
    assert {cell[0] for cell in cells if cell[1] == ALONE} == {SHANGCHENG}
    assert {cell[0] for cell in cells if cell[1] != ALONE} == {ZHEJIANG}


def test_a_bureau_without_subordinates_can_be_published_too(bench: Bench) -> None:
    journal = cases(SHANGCHENG, 2)
    reported(bench, journal)
    publish(bench, SHANGCHENG)
    before = journal.seq
    journal.write("late", "registered", MONDAY)
    bench.feed(journal.segment(before + 1))
    found = corrections(bench, SHANGCHENG)
    assert changed(found)[SHANGCHENG, "registered"] == (2, 3)
    assert len(found.grounds) == 1
