"""Section IV: the problems that the figures themselves show. Each is computed; none is an opinion."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hub.bulletin.document import BASIS_POINTS, Finding, many, rate_text
from hub.bulletin.figures import basis_points, count_of, rate_of
from hub.bulletin.material import Material
from hub.query import Row
from hub.words import LACK_LABELS, Lack

NAMES_MAX: Final = 5
"""Bureaus named in a sentence; the workbook has all of them."""
FEEDBACK_BASIS_POINTS_MIN: Final = 9_500
"""The notice wants every answer within a working day (§四(三)); a list of all that were late once would hide those
where it is a habit."""
RETURNS_BASIS_POINTS_MAX: Final = 1_000
"""Of what was dispatched or received. A few are honest mistakes; one in ten says that cases are pushed about
(§二(四))."""


@dataclass(frozen=True, slots=True)
class _Concerned:
    """A bureau and its figures within a finding."""

    name: str
    weight: int
    in_words: str


def findings(material: Material, name_of: Callable[[Row], str]) -> tuple[Finding, ...]:
    """Find the problems of a period, in the order in which a superior asks for them."""
    rows = [compared.row for compared in material.figures.bureaus]
    sample = material.minimum_sample
    found = (
        _late(rows, name_of, is_over=material.is_over),
        _late_feedback(rows, name_of, sample),
        _pushed_about(rows, name_of, sample),
        _dissatisfied(rows, name_of),
        _orders(rows, name_of),
        _incomplete(material),
        _different(material),
        _corrected(material),
    )
    return tuple(finding for finding in found if finding is not None)


def _late(rows: Sequence[Row], name_of: Callable[[Row], str], *, is_over: bool) -> Finding | None:
    """What waits past its deadline now is told while the period lasts: of a past one nobody could tell it again."""
    missed = [
        _Concerned(name_of(row), late, f"{late}个，按时办结率{_told(basis_points(row, 'on_time'))}")
        for row in rows
        if (late := count_of(row, "late"))
    ]
    waiting = [_Concerned(name_of(row), row.overdue, f"{row.overdue}件") for row in rows if row.overdue and not is_over]
    sentences = []
    if missed:
        sentences.append(f"本期有{many(_sum(missed))}个办理时限超时，涉及{_listed(missed)}。")
    if waiting:
        sentences.append(f"截至数据时点，有{many(_sum(waiting))}件在办事项已超过时限，涉及{_listed(waiting)}。")
    concerned = []
    for row in rows:
        late, open_late = count_of(row, "late"), 0 if is_over else row.overdue
        if late or open_late:
            in_words = f"本期超时{late}个" + ("" if is_over else f"，在办超时{open_late}件")
            concerned.append(_Concerned(name_of(row), late, in_words))
    return _finding("办理超时", sentences, concerned)


def _late_feedback(rows: Sequence[Row], name_of: Callable[[Row], str], sample: int) -> Finding | None:
    concerned = []
    for row in rows:
        figure = rate_of(row, "feedback_in_time")
        told = basis_points(row, "feedback_in_time")
        if told is not None and told < FEEDBACK_BASIS_POINTS_MIN and figure.denominator >= sample:
            late = figure.denominator - figure.numerator
            concerned.append(_Concerned(name_of(row), BASIS_POINTS - told, f"{rate_text(told)}，逾期{late}件"))
    sentence = f"及时反馈率低于{rate_text(FEEDBACK_BASIS_POINTS_MIN)}的有{_listed(concerned)}。"
    return _finding("反馈不及时", [sentence], concerned)


def _pushed_about(rows: Sequence[Row], name_of: Callable[[Row], str], sample: int) -> Finding | None:
    concerned = []
    for row in rows:
        figure = rate_of(row, "returns")
        told = basis_points(row, "returns")
        if told is not None and told > RETURNS_BASIS_POINTS_MAX and figure.denominator >= sample:
            concerned.append(_Concerned(name_of(row), told, f"退回{figure.numerator}件，退回率{rate_text(told)}"))
    sentence = f"退回率超过{rate_text(RETURNS_BASIS_POINTS_MAX)}的有{_listed(concerned)}。"
    return _finding("转办退回较多", [sentence], concerned)


def _dissatisfied(rows: Sequence[Row], name_of: Callable[[Row], str]) -> Finding | None:
    concerned = []
    for row in rows:
        against, again = count_of(row, "not_satisfied"), count_of(row, "reopened")
        if against or again:
            told = _told(basis_points(row, "satisfaction"))
            in_words = f"不满意{against}件、重新办理{again}件，满意率{told}"
            concerned.append(_Concerned(name_of(row), against + again, in_words))
    sentence = f"回访不满意或重新办理的事项涉及{_listed(concerned)}。"
    return _finding("纳税人不满意", [sentence], concerned)


def _orders(rows: Sequence[Row], name_of: Callable[[Row], str]) -> Finding | None:
    concerned = [
        _Concerned(name_of(row), late, f"{late}份，按时答复督办率{_told(basis_points(row, 'on_time_order'))}")
        for row in rows
        if (late := count_of(row, "order_missed"))
    ]
    sentence = f"本期有{many(_sum(concerned))}份督办逾期未复，涉及{_listed(concerned)}。"
    return _finding("督办答复逾期", [sentence], concerned)


def _incomplete(material: Material) -> Finding | None:
    sentences = []
    concerned = []
    for lack in Lack:
        told = LACK_LABELS[lack]
        those = [_Concerned(short.name, 0, told) for short in material.shortfalls if short.lack is lack]
        concerned.extend(those)
        if those:
            names = "、".join(one.name for one in those[:NAMES_MAX])
            sentences.append(f"{told}的有{len(those)}个单位：{names}{'等' if len(those) > NAMES_MAX else ''}。")
    return _finding("数据报送不完整", sentences, concerned)


def _different(material: Material) -> Finding | None:
    found = () if material.reconciliation is None else material.reconciliation.mismatches
    concerned = [_Concerned(one.name, one.differences, f"{one.differences}处") for one in found]
    sentence = f"对账不符共{_sum(concerned)}处，涉及{_listed(concerned)}。"
    return _finding("对账不符", [sentence], concerned)


def _corrected(material: Material) -> Finding | None:
    concerned = [
        _Concerned(line.name, abs(line.now - line.published), f"{line.figure}由{line.published}更正为{line.now}")
        for line in material.corrections
    ]
    sentence = f"本期数据发布后更正{_listed(concerned, '项')}。"
    return _finding("已公布数据更正", [sentence], concerned)


# ---------------------------------------------------------------- inside


def _finding(title: str, sentences: Sequence[str], concerned: Sequence[_Concerned]) -> Finding | None:
    if not concerned:
        return None
    return Finding(title, tuple(sentences), tuple((one.name, one.in_words) for one in _heaviest(concerned)))


def _heaviest(concerned: Iterable[_Concerned]) -> list[_Concerned]:
    return sorted(concerned, key=lambda one: -one.weight)


def _listed(concerned: Sequence[_Concerned], unit: str = "个单位") -> str:
    """How many there are, and the heaviest ones by name."""
    names = "、".join(f"{one.name}（{one.in_words}）" for one in _heaviest(concerned)[:NAMES_MAX])
    return f"{len(concerned)}{unit}{'，居前的是' if len(concerned) > NAMES_MAX else ''}：{names}"


def _sum(concerned: Iterable[_Concerned]) -> int:
    return sum(one.weight for one in concerned)


def _told(rate: int | None) -> str:
    return "无" if rate is None else rate_text(rate)
