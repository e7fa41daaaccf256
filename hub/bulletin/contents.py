"""From figures to a bulletin: what is said, in which order, in which words. Pure.

A period that has not ended is compared with none: half a month against a whole one says nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from hub.bulletin.document import (
    Block,
    Bulletin,
    Cell,
    Definition,
    Finding,
    Heading,
    Kind,
    Line,
    Paragraph,
    Section,
    Table,
    basis_points_of,
    chinese_day,
    count,
    growth,
    growth_per_mille,
    many,
    points,
    rate,
    rate_text,
    term,
    words,
)
from hub.bulletin.findings import RETURNS, findings
from hub.bulletin.material import Lack, Material, PeriodFigures
from hub.bulletin.ranking import RANKING_RATE, Standing, basis_points, rate_of, standings
from hub.measures import Fact, total
from hub.query import Row
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import term_of
from kuaixiang.domain.tree import Tier, short_name
from kuaixiang.domain.words import Category, Channel, ClockKind

MINIMUM_SAMPLE: Final = 30
"""A bureau with fewer deadlines in the period is listed, not ranked: one late case would move it by three points."""
NAMED_RANKS: Final = 3
"""First and last ranks named in the text."""
ISSUES_MAX: Final = 20
"""Common issues in a bulletin; the rest is a list nobody reads."""
EXAMPLES_MAX: Final = 3
EXAMPLE_CHARACTERS_MAX: Final = 120
"""Of a masked example: its sense, not the whole text."""

OWN: Final = "本级"
INCOMPLETE_MARK: Final = "※"
NONE_FOUND: Final = "本期未确认、也未发现共性诉求。"
NO_PROBLEMS: Final = "按本期数据，未发现超时办理、反馈不及时、退回较多、纳税人不满意及数据报送方面的突出问题。"

_ORDINALS: Final = "一二三四五六七八九十"
_SUBJECT: Final = "小微企业涉税诉求和意见"
_ADDRESSEES: Final[Mapping[Tier, str]] = {
    Tier.NATIONAL: "国家税务总局各省、自治区、直辖市和计划单列市税务局：",
    Tier.PROVINCIAL: "各市、县（市、区）税务局：",
    Tier.PREFECTURE: "各县（市、区）税务局：",
    Tier.COUNTY: "各所属单位：",
}

_RATES: Final[Mapping[str, str]] = {
    "completion": "办结率",
    "on_time": "按时办结率",
    "feedback_in_time": "及时反馈率",
    "follow_up": "有效回访率",
    "satisfaction": "满意率",
}
"""The rates of the tables, by the names under which `hub.measures` defines them, with their customary headings."""

_ASIDE: Final = (
    (Fact.EXTENDED, "批准延期"),
    (Fact.DEFERRED, "列入待条件成熟时办理"),
    (Fact.TO_RECONSIDERATION, "转入行政复议"),
    (Fact.WITHDRAWN, "纳税人撤回"),
    (Fact.REFERRED_UP, "上报上级"),
    (Fact.REFERRED_DOWN, "转交下级"),
    (Fact.REFERRED_ACROSS, "跨区域移交"),
)
"""What did not go the ordinary way, told where there was any."""

_DEFINITIONS: Final = (
    Definition("受理", "本期受理登记的件数，由首次受理的单位计。"),
    Definition("办结", "本期办结的件数，含当场答复和联合办理；重新办理后再次办结的再计一次。"),
    Definition(
        "按时、超时",
        "办理时限（收到后5个工作日，经批准延期的按延期后的时限）在本期到期的，到期前办结计为按时，否则计为超时；"
        "联合办理的，各部门时限分别计算。当场答复的没有办理时限，待条件成熟时办理的不计。",
    ),
    Definition("未办结", "本期末（本期尚未结束的，截至数据时点）由本单位负责、尚未办结的件数，含待条件成熟时办理的。"),
    Definition("未销号", "截至数据时点，由本单位负责、尚未销号的件数，含已办结、尚待反馈、回访或者销号的。"),
    Definition("办结率", "本期办结件数与本期办结、本期末未办结两数之和的比。"),
    Definition("按时办结率", "按时数与按时、超时两数之和的比。"),
    Definition("及时反馈率", "在本期到期的反馈时限（办结后1个工作日）中，按时反馈的占比；当场答复的不计。"),
    Definition("有效回访率", "本期回访中，联系到纳税人的占比。"),
    Definition("满意率", "本期联系到的纳税人中，表示满意或者基本满意的占比。"),
    Definition(
        "环比、同比", "与上一期、上年同期相比：件数为增减百分比，比率为增减百分点；附件各表的环比为受理件数环比。"
    ),
)


@dataclass(frozen=True, slots=True)
class _Compared:
    """One measure in the period and in those it is compared with; None: there is nothing to compare with."""

    now: int | None
    before: int | None
    year_before: int | None


def compose(material: Material) -> Bulletin:
    """Write the bulletin of a period."""
    return _Composer(material).bulletin()


class _Composer:
    def __init__(self, material: Material) -> None:
        self._material = material
        self._current = material.current
        self._own = material.bureau.code
        self._signed_at = datetime.fromtimestamp(material.now_us // 1_000_000, SHANGHAI)
        self._over = material.period.last < self._signed_at.date()
        self._previous = self._comparable(material.previous)
        self._year_before = self._comparable(material.year_before)
        self._lacking = frozenset(short.row for short in material.shortfalls)
        doubtful = frozenset(short.row for short in material.shortfalls if short.lack is Lack.QUARANTINED)
        self._standings = standings(self._current.bureaus, self._own, material.minimum_sample, doubtful)
        self._doubtful = doubtful
        self._issues = sorted(material.issues, key=lambda issue: (not issue.is_confirmed, -issue.size))[:ISSUES_MAX]
        self._findings = findings(material, self._name)
        self._system = (
            "全国税务系统" if material.bureau.tier is Tier.NATIONAL else f"{short_name(material.bureau.name)}税务系统"
        )

    def bulletin(self) -> Bulletin:
        """The whole of it."""
        material = self._material
        overall, issues = self._overall_table(), self._issues_table()
        bureaus = self._bureaus_table()
        before = self._previous
        categories = self._rows_table(
            "分类别办理情况统计表",
            "类别",
            Category,
            self._current.categories,
            None if before is None else before.categories,
        )
        channels = self._rows_table(
            "分渠道办理情况统计表",
            "渠道",
            Channel,
            self._current.channels,
            None if before is None else before.channels,
        )
        below = len(self._current.bureaus) > 1
        return Bulletin(
            scope=self._own,
            period=str(material.period),
            issuer=material.bureau.name,
            title=(f"关于{material.period.chinese}{_SUBJECT}", "快速响应工作情况的通报"),
            addressees=_ADDRESSEES[material.bureau.tier] if below else "",
            opening=f"现将{material.period.chinese}{self._system}{_SUBJECT}快速响应工作情况通报如下。",
            sections=(
                Section("一、总体情况", self._overall(overall)),
                Section("二、办理与回访情况", self._handling()),
                Section("三、热点与共性诉求", self._hot(issues)),
                Section("四、存在问题", _problems(self._findings)),
            ),
            annexes=(bureaus, categories, channels),
            definitions=self._definitions(),
            overall=overall,
            bureaus=bureaus,
            categories=categories,
            channels=channels,
            issues=issues,
            findings=self._findings,
            signed_on=self._signed_at.date(),
            data_as_of=self._data_as_of(),
            strip=self._strip(),
        )

    # ------------------------------------------------------------ I

    def _overall(self, table: Table) -> tuple[Block, ...]:
        if self._current.is_empty:
            return (
                Paragraph(f"{self._material.period.chinese}，{self._system}没有受理、办理{_SUBJECT}的记录。"),
                table,
            )
        row = self._current.total
        registered, completed = self._fact(Fact.REGISTERED), self._fact(Fact.COMPLETED)
        text = (
            f"{self._material.period.chinese}，{self._system}共受理{_SUBJECT}{_cases(registered)}{_trend(registered)}；"
            f"办结{_cases(completed)}{_trend(completed)}，"
            f"其中当场答复{many(row.sums.get(Fact.COMPLETED_ON_THE_SPOT, 0))}件、"
            f"联合办理{many(row.sums.get(Fact.COMPLETED_JOINTLY, 0))}件。"
            f"本期末未办结{many(row.unfinished or 0)}件。"
            f"截至{self._data_as_of()}，未销号{many(row.open)}件，其中有时限超期未办的{many(row.overdue)}件。"
        )
        return (
            Paragraph(text),
            table,
            Paragraph(f"从诉求类别看，{self._shares(self._current.categories)}。"),
            Paragraph(f"从接收渠道看，{self._shares(self._current.channels)}。"),
        )

    def _overall_table(self) -> Table:
        row = self._current.total
        lines = [
            self._count_line("受理", "件", lambda row: row.sums.get(Fact.REGISTERED, 0)),
            self._count_line("办结", "件", lambda row: row.sums.get(Fact.COMPLETED, 0)),
            self._count_line("其中：当场答复", "件", lambda row: row.sums.get(Fact.COMPLETED_ON_THE_SPOT, 0)),
            self._count_line("　　　联合办理", "件", lambda row: row.sums.get(Fact.COMPLETED_JOINTLY, 0)),
            self._count_line("按时", "个", lambda row: rate_of(row, RANKING_RATE).numerator),
            self._count_line("超时", "个", _missed),
            self._count_line("批准延期", "件", lambda row: row.sums.get(Fact.EXTENDED, 0)),
            self._count_line("待条件成熟时办理", "件", lambda row: row.sums.get(Fact.DEFERRED, 0)),
            self._count_line("转行政复议", "件", lambda row: row.sums.get(Fact.TO_RECONSIDERATION, 0)),
            self._count_line("上报上级", "件", lambda row: row.sums.get(Fact.REFERRED_UP, 0)),
            self._count_line("转交下级", "件", lambda row: row.sums.get(Fact.REFERRED_DOWN, 0)),
            self._count_line("跨区域移交", "件", lambda row: row.sums.get(Fact.REFERRED_ACROSS, 0)),
            self._count_line("退回", "件", lambda row: total(row.sums, RETURNS)),
            self._count_line("反馈", "件", lambda row: row.sums.get(Fact.FED_BACK, 0)),
            self._count_line("回访", "件", lambda row: row.sums.get(Fact.FOLLOWED_UP, 0)),
            self._count_line("不满意", "件", lambda row: row.sums.get(Fact.NOT_SATISFIED, 0)),
            self._count_line("重新办理", "件", lambda row: row.sums.get(Fact.REOPENED, 0)),
            self._count_line("销号", "件", lambda row: row.sums.get(Fact.WRITTEN_OFF, 0)),
            *(self._rate_line(heading, name) for name, heading in _RATES.items()),
            self._count_line("未办结", "件", lambda row: row.unfinished or 0),
            Line((words("未销号"), term("件"), count(row.open), *([Cell(Kind.COUNT, None)] * 4))),
        ]
        return Table(
            title="主要指标情况表",
            headings=("指标", "单位", "本期", "上期", "环比", "上年同期", "同比"),
            lines=tuple(lines),
            widths=(34, 12, 22, 22, 22, 22, 22),
            note="件数的环比、同比为增减百分比，比率的为增减百分点。",
        )

    def _count_line(self, heading: str, unit: str, of: Callable[[Row], int]) -> Line:
        found = self._compared(of)
        now = found.now or 0
        return Line(
            (
                words(heading),
                term(unit),
                count(now),
                Cell(Kind.COUNT, found.before),
                growth(now, found.before),
                Cell(Kind.COUNT, found.year_before),
                growth(now, found.year_before),
            )
        )

    def _rate_line(self, heading: str, name: str) -> Line:
        found = self._compared(lambda row: basis_points(row, name))
        return Line(
            (
                words(heading),
                term("%"),
                rate(found.now),
                rate(found.before),
                points(found.now, found.before),
                rate(found.year_before),
                points(found.now, found.year_before),
            )
        )

    def _shares(self, rows: Sequence[Row]) -> str:
        """Each row's part of what was registered, the largest first."""
        everything = sum(row.sums.get(Fact.REGISTERED, 0) for row in rows)
        parts = [
            f"{row.label}{many(number)}件，占{rate_text(basis_points_of(number, everything) or 0)}"
            for row in sorted(rows, key=lambda row: -row.sums.get(Fact.REGISTERED, 0))
            if (number := row.sums.get(Fact.REGISTERED, 0))
        ]
        return "；".join(parts) or "本期没有受理"

    # ------------------------------------------------------------ II

    def _handling(self) -> tuple[Block, ...]:
        if self._current.is_empty:
            return (Paragraph("本期没有办理、反馈和回访的记录，不作排名。"),)
        row = self._current.total
        on_time, feedback = rate_of(row, RANKING_RATE), rate_of(row, "feedback_in_time")
        handle = next((clock for clock in row.clocks if clock.kind is ClockKind.HANDLE and any(clock.histogram)), None)
        handling = (
            f"本期到期的办理时限{many(on_time.denominator)}个，按时{many(on_time.numerator)}个，"
            f"超时{many(on_time.denominator - on_time.numerator)}个，按时办结率{self._rate_told(RANKING_RATE)}。"
        )
        if handle is not None:
            handling += (
                f"办理用时的中位数为{handle.p50_workdays:.1f}个工作日，"
                f"九成事项在{handle.p90_workdays:.1f}个工作日内办结。"
            )
        others = [f"{what}{many(number)}件" for fact, what in _ASIDE if (number := row.sums.get(fact, 0))]
        if others:
            handling += f"另有{'、'.join(others)}。"
        follow_up = (
            f"本期到期的反馈时限{many(feedback.denominator)}个，及时反馈率{self._rate_told('feedback_in_time')}。"
            f"共回访{many(row.sums.get(Fact.FOLLOWED_UP, 0))}件，有效回访率{self._rate_told('follow_up')}；"
            f"满意率{self._rate_told('satisfaction')}，其中不满意{many(row.sums.get(Fact.NOT_SATISFIED, 0))}件，"
            f"重新办理{many(row.sums.get(Fact.REOPENED, 0))}件。"
        )
        return (
            Heading("（一）办理情况"),
            Paragraph(handling),
            Heading("（二）反馈与回访情况"),
            Paragraph(follow_up),
            Heading("（三）排名情况"),
            *(Paragraph(text) for text in self._ranking()),
        )

    def _ranking(self) -> list[str]:
        if len(self._current.bureaus) <= 1:
            return ["没有下级单位，不作排名。"]
        ranked = [standing for standing in self._standings if standing.rank is not None]
        if not ranked:
            return [f"各单位样本均不足{self._material.minimum_sample}个，本期不作排名。各单位情况见附件1。"]
        texts = [f"以按时办结率由高到低为序，对{len(ranked)}个单位进行排名（见附件1）。{self._ends(ranked)}"]
        sample = self._material.minimum_sample
        few = [
            self._name(standing.row)
            for standing in self._standings
            if standing.rank is None and standing.row.key != self._own and standing.row.key not in self._doubtful
        ]
        if few:
            texts.append(f"本期到期的办理时限不足{sample}个，只列出、不排名的单位：{'、'.join(few)}。")
        doubtful = [self._name(standing.row) for standing in self._standings if standing.row.key in self._doubtful]
        if doubtful:
            texts.append(f"所辖台账数据存疑，只列出、不排名的单位：{'、'.join(doubtful)}。")
        return texts

    def _ends(self, ranked: Sequence[Standing]) -> str:
        def named(some: Sequence[Standing]) -> str:
            return "、".join(f"{self._name(one.row)}（第{one.rank}名，{_told(one.row)}）" for one in some)

        if len(ranked) <= 2 * NAMED_RANKS:
            return f"依次为：{named(ranked)}。"
        return f"居前的是：{named(ranked[:NAMED_RANKS])}；居后的是：{named(ranked[-NAMED_RANKS:])}。"

    def _bureaus_table(self) -> Table:
        lines = [self._total_line(Cell(Kind.RANK, None))]
        before = None if self._previous is None else {row.key: row for row in self._previous.bureaus}
        for standing in self._standings:
            row = standing.row
            mark = INCOMPLETE_MARK if row.key in self._lacking else ""
            earlier = None if before is None else before.get(row.key, Row())
            lines.append(self._line(f"{self._name(row)}{mark}", row, earlier, Cell(Kind.RANK, standing.rank)))
        return _wide_table("各单位办理情况统计表", "单位", lines, ranked=True)

    # ------------------------------------------------------------ III

    def _hot(self, table: Table) -> tuple[Block, ...]:
        blocks: list[Block] = [Heading("（一）热点情况"), Paragraph(self._hottest()), Heading("（二）共性诉求")]
        if not table.lines:
            return (*blocks, Paragraph(NONE_FOUND))
        confirmed = sum(issue.is_confirmed for issue in self._issues)
        of_these = f"，其中经确认的{confirmed}项" if confirmed else "，均待确认"
        blocks += [Paragraph(f"从诉求内容中归纳出共性诉求{len(self._issues)}项{of_these}。"), table]
        for number, issue in enumerate(self._issues, start=1):
            if issue.examples:
                quoted = "；".join(f"“{_shortened(example)}”" for example in issue.examples[:EXAMPLES_MAX])
                blocks.append(Paragraph(f"{number}．{issue.label}。典型表述（已脱敏）：{quoted}。"))
        return tuple(blocks)

    def _hottest(self) -> str:
        rows = [row for row in self._current.categories if row.sums.get(Fact.REGISTERED)]
        if not rows:
            return "本期没有受理，无热点。"
        largest = max(rows, key=lambda row: row.sums[Fact.REGISTERED])
        number = largest.sums[Fact.REGISTERED]
        text = f"受理量最大的是{largest.label}类，共{many(number)}件"
        before = (
            {row.key: row.sums.get(Fact.REGISTERED, 0) for row in self._previous.categories} if self._previous else {}
        )
        risen = [
            (grown, row)
            for row in rows
            if before.get(row.key, 0) >= self._material.minimum_sample
            and (grown := growth_per_mille(row.sums[Fact.REGISTERED], before[row.key]) or 0) > 0
        ]
        if risen:
            grown, fastest = max(risen, key=lambda one: one[0])
            text += f"；环比增长最快的是{fastest.label}类，增长{grown / 10:.1f}%"
        return f"{text}。"

    def _issues_table(self) -> Table:
        lines = [
            Line(
                (
                    Cell(Kind.RANK, number),
                    words(issue.label),
                    count(issue.size),
                    growth(issue.size, issue.previous_size if self._over else None),
                    count(len(issue.bureaus)),
                    words("、".join(issue.categories)),
                    term("已确认" if issue.is_confirmed else "待确认"),
                )
            )
            for number, issue in enumerate(self._issues, start=1)
        ]
        return Table(
            title="共性诉求情况表",
            headings=("序号", "共性诉求", "件数", "环比", "涉及单位数", "主要类别", "状态"),
            lines=tuple(lines),
            widths=(12, 50, 16, 18, 18, 28, 16),
        )

    # ------------------------------------------------------------ annexes

    def _rows_table(
        self, title: str, heading: str, kind: type[IntEnum], rows: Sequence[Row], before: Sequence[Row] | None
    ) -> Table:
        """A table of every category or channel there is, whether it had cases or not."""
        known = {str(word.value): Row(str(word.value), term_of(kind, word)) for word in kind}
        now = known | {row.key: row for row in rows}
        earlier = None if before is None else {row.key: row for row in before}
        lines = [self._total_line()]
        for key, row in now.items():
            lines.append(self._line(row.label, row, None if earlier is None else earlier.get(key, Row())))
        return _wide_table(title, heading, lines, ranked=False)

    def _total_line(self, *more: Cell) -> Line:
        before = None if self._previous is None else self._previous.total
        return Line(self._line("合计", self._current.total, before, *more).cells, is_total=True)

    def _line(self, label: str, row: Row, before: Row | None, *more: Cell) -> Line:
        registered = row.sums.get(Fact.REGISTERED, 0)
        cells = [
            words(label),
            count(registered),
            count(row.sums.get(Fact.COMPLETED, 0)),
            count(rate_of(row, RANKING_RATE).numerator),
            count(_missed(row)),
            count(row.unfinished or 0),
            *(rate(basis_points(row, name)) for name in _RATES),
            growth(registered, None if before is None else before.sums.get(Fact.REGISTERED, 0)),
        ]
        return Line((*cells, *more))

    # ------------------------------------------------------------ notes

    def _definitions(self) -> tuple[Definition, ...]:
        period, material = self._material.period, self._material
        days = (
            f"{chinese_day(period.first)}至{chinese_day(period.last)}" if period.days > 1 else chinese_day(period.first)
        )
        unfinished = "" if self._over else "统计期间尚未结束，不作环比、同比。"
        return (
            Definition("统计期间", f"{days}，按业务发生日（北京时间）归期。{unfinished}"),
            Definition("统计范围", f"{material.bureau.name}及其所辖全部单位；各单位数据含其所辖单位，“{OWN}”不含。"),
            Definition("数据时点", f"{self._data_as_of()}。晚到的记录计入其所属之日。"),
            *_DEFINITIONS,
            Definition(
                "名次",
                f"以按时办结率（按百分数保留两位小数）由高到低排列，相同的名次并列。本期到期的办理时限不足"
                f"{material.minimum_sample}个的、所辖台账数据存疑的以及{OWN}，只列出、不排名。",
            ),
            Definition(INCOMPLETE_MARK, "该单位所辖有数据报送不完整的，见第四部分。"),
        )

    def _strip(self) -> tuple[tuple[str, str], ...]:
        found = self._material.completeness
        return (
            ("应报送单位", str(found.bureaus_expected)),
            ("已报送", str(found.bureaus_heard)),
            ("数据最新", str(found.bureaus_up_to_date)),
            ("数据存疑", str(found.bureaus_quarantined)),
            ("数据截至", self._data_as_of()),
        )

    # ------------------------------------------------------------ inside

    def _comparable(self, figures: PeriodFigures) -> PeriodFigures | None:
        return None if figures.is_empty or not self._over else figures

    def _compared(self, of: Callable[[Row], int | None]) -> _Compared:
        return _Compared(
            of(self._current.total),
            None if self._previous is None else of(self._previous.total),
            None if self._year_before is None else of(self._year_before.total),
        )

    def _fact(self, fact: Fact) -> _Compared:
        return self._compared(lambda row: row.sums.get(fact, 0))

    def _rate_told(self, name: str) -> str:
        """A rate of the whole scope in words, with how it has moved."""
        found = self._compared(lambda row: basis_points(row, name))
        if found.now is None:
            return "无"
        moves = [
            f"{against}{_moved(found.now - then, 'points')}"
            for against, then in (("环比", found.before), ("同比", found.year_before))
            if then is not None
        ]
        return rate_text(found.now) + (f"（{'，'.join(moves)}）" if moves else "")

    def _name(self, row: Row) -> str:
        return OWN if row.key == self._own else short_name(row.label)

    def _data_as_of(self) -> str:
        micros = self._material.completeness.data_as_of_us
        if not micros:
            return "尚无数据"
        at = datetime.fromtimestamp(0, SHANGHAI) + timedelta(microseconds=micros)
        return f"{chinese_day(at.date())}{at:%H:%M}"


# ---------------------------------------------------------------- inside


def _wide_table(title: str, heading: str, lines: Sequence[Line], *, ranked: bool) -> Table:
    headings = (heading, "受理", "办结", "按时", "超时", "未办结", *_RATES.values(), "环比")
    widths = (38, 15, 15, 15, 15, 15, *([21] * len(_RATES)), 17)
    if ranked:
        headings, widths = (*headings, "名次"), (*widths, 11)
    return Table(title, headings, tuple(lines), widths, note="单位：件、个；口径见附件4。")


def _problems(found: Sequence[Finding]) -> tuple[Block, ...]:
    if not found:
        return (Paragraph(NO_PROBLEMS),)
    blocks: list[Block] = []
    for ordinal, finding in zip(_ORDINALS, found, strict=False):
        blocks.append(Heading(f"（{ordinal}）{finding.title}"))
        blocks.append(Paragraph("".join(finding.sentences)))
    return tuple(blocks)


def _told(row: Row) -> str:
    return rate_text(basis_points(row, RANKING_RATE) or 0)


def _missed(row: Row) -> int:
    figure = rate_of(row, RANKING_RATE)
    return figure.denominator - figure.numerator


def _cases(found: _Compared) -> str:
    return f"{many(found.now or 0)}件"


def _trend(found: _Compared) -> str:
    """How a count has moved, in words; nothing when there is nothing to compare with."""
    moves = [
        f"，{against}{_moved(grown, 'growth')}"
        for against, then in (("环比", found.before), ("同比", found.year_before))
        if (grown := growth_per_mille(found.now or 0, then)) is not None
    ]
    return "".join(moves)


def _moved(by: int, unit: str) -> str:
    if not by:
        return "持平"
    if unit == "points":
        return f"{'提高' if by > 0 else '下降'}{abs(by) / 100:.2f}个百分点"
    return f"{'增长' if by > 0 else '下降'}{abs(by) / 10:.1f}%"


def _shortened(example: str) -> str:
    return example if len(example) <= EXAMPLE_CHARACTERS_MAX else f"{example[:EXAMPLE_CHARACTERS_MAX]}……"
