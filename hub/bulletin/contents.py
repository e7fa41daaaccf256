"""From figures to a bulletin: what is said, in which order, in which words. Pure.

A period that has not ended is compared with none: half a month against a whole one says nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from hub.bulletin.document import (
    OWN,
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
from hub.bulletin.figures import basis_points, count_of, definition, label, number_of, rate_of
from hub.bulletin.findings import findings
from hub.bulletin.league import LEAGUE_COUNTS, LEAGUE_RATES, bases_told, figures_told, league
from hub.bulletin.material import Material
from hub.bulletin.ranking import RANKING_RATE, Standing
from hub.comparison import Compared
from hub.measures import DEFINITIONS, Fact
from hub.query import Row
from hub.words import BASIS_LABELS, Basis, ground_text
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.tree import Tier, short_name
from kuaixiang.domain.words import Category, Channel, ClockKind, DepartmentKind
from kuaixiang.runtime.clock import from_micros

MINIMUM_SAMPLE: Final = 30
"""A bureau with fewer deadlines in the period is listed, not ranked: one late case would move it by three points."""
NAMED_RANKS: Final = 3
"""First and last ranks named in the text."""
NAMED_BUREAUS: Final = 3
"""Bureaus named beside a common issue."""
ISSUES_MAX: Final = 20
"""Common issues in a bulletin; the rest is a list nobody reads."""

_SEE_DEFINITIONS: Final = "口径见附件5。"
INCOMPLETE_MARK: Final = "※"
NONE_CONFIRMED: Final = "其中没有经确认的共性诉求。"
NOT_SEARCHED: Final = "本期尚未归纳共性诉求。"
NO_PROBLEMS: Final = (
    "按本期数据，未发现超时办理、反馈不及时、退回较多、纳税人不满意、督办逾期及数据报送方面的突出问题。"
)
NOT_RECONCILED: Final = "本汇总中心尚未与各单位台账对账，本期数据未经对账核实。"
NOT_PUBLISHED: Final = "本期数据尚未发布，以发布的数据为准。"

_ORDINALS: Final = "一二三四五六七八九十"
_SUBJECT: Final = "小微企业涉税诉求和意见"
_ADDRESSEES: Final[Mapping[Tier, str]] = {
    Tier.NATIONAL: "国家税务总局各省、自治区、直辖市和计划单列市税务局：",
    Tier.PROVINCIAL: "各市、县（市、区）税务局：",
    Tier.PREFECTURE: "各县（市、区）税务局：",
    Tier.COUNTY: "各所属单位：",
}

_DEPARTMENT_COUNTS: Final = ("dispatched", "completed", "in_time", "late")
_DEPARTMENT_RATES: Final = ("on_time", "feedback_in_time")
"""Of what a kind of department is in charge of; cases that are not finished move between them."""

_ASIDE: Final = (
    "extended",
    "deferred",
    "resumed",
    "to_reconsideration",
    "withdrawn",
    "referred_up",
    "referred_down",
    "referred_across",
)
"""What did not go the ordinary way, told where there was any."""
_DISPUTED: Final = ("dispatch_returned", "returned_referral", "referred_for_ruling")
"""What was not taken on without dispute (§二(四)), told in the same way."""
_ORDERS: Final = (
    "orders_issued",
    "orders_received",
    "orders_acknowledged",
    "orders_answered",
    "order_answers_returned",
    "orders_closed",
    "orders_cancelled",
)

_OVERALL_COUNTS: Final = (
    "registered",
    "completed",
    "completed_on_the_spot",
    "completed_jointly",
    "in_time",
    "late",
    *_ASIDE,
    *_DISPUTED,
    "fed_back",
    "followed_up",
    "not_satisfied",
    "reopened",
    "written_off",
    "orders_issued",
    "orders_answered",
    "order_missed",
    "unfinished",
)
_OVERALL_RATES: Final = (*LEAGUE_RATES, "returns", "on_time_order")
_UNITS: Final = {
    "in_time": "个",
    "late": "个",
    "dispatch_returned": "次",
    "followed_up": "次",
    "not_satisfied": "次",
    "orders_issued": "份",
    "orders_received": "份",
    "orders_acknowledged": "份",
    "orders_answered": "次",
    "order_answers_returned": "次",
    "orders_closed": "份",
    "orders_cancelled": "份",
    "order_missed": "份",
}
_CASES: Final = "件"
"""The unit of all others."""
_DEFINED: Final = tuple(dict.fromkeys((*_OVERALL_COUNTS, *_OVERALL_RATES, *_DEPARTMENT_COUNTS)))


@dataclass(frozen=True, slots=True)
class _Measured:
    """One measure in the period and in those it is compared with; None: there is nothing to compare with."""

    now: int | None
    before: Mapping[Basis, int | None]


def compose(material: Material) -> Bulletin:
    """Write the bulletin of a period."""
    return _Composer(material).bulletin()


class _Composer:
    def __init__(self, material: Material) -> None:
        self._material = material
        self._figures = material.figures
        self._total = material.figures.total.row
        self._own = material.bureau.code
        self._signed_at = _instant(material.now_us)
        self._bases = bases_told(material.figures.total, is_over=material.is_over)
        self._league = league(
            material.figures,
            self._own,
            material.minimum_sample,
            material.shortfalls,
            self._bases,
            material.completeness,
        )
        self._standings = [line.standing for line in self._league.lines]
        issues = () if material.search is None else material.search.issues
        self._issues = sorted(issues, key=lambda issue: -issue.size)[:ISSUES_MAX]
        self._findings = findings(material, self._name)
        self._system = (
            "全国税务系统" if material.bureau.tier is Tier.NATIONAL else f"{short_name(material.bureau.name)}税务系统"
        )

    def bulletin(self) -> Bulletin:
        """The whole of it."""
        material = self._material
        overall, issues = self._overall_table(), self._issues_table()
        bureaus = self._bureaus_table()
        categories = self._rows_table("分类别办理情况统计表", "类别", Category, self._figures.categories)
        channels = self._rows_table("分渠道办理情况统计表", "渠道", Channel, self._figures.channels)
        departments = self._departments_table()
        below = len(self._figures.bureaus) > 1
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
            definitions=self._definitions(),
            overall=overall,
            bureaus=bureaus,
            categories=categories,
            channels=channels,
            departments=departments,
            issues=issues,
            findings=self._findings,
            signed_on=self._signed_at.date(),
            data_as_of=self._data_as_of(),
            strip=self._strip(),
        )

    # ------------------------------------------------------------ I

    def _overall(self, table: Table) -> tuple[Block, ...]:
        if self._figures.is_empty:
            nothing = f"{self._material.period.chinese}，{self._system}没有受理、办理{_SUBJECT}的记录。"
            return (Paragraph(nothing + self._unfinished()), table, Paragraph(self._published() + self._reconciled()))
        row = self._total
        text = (
            f"{self._material.period.chinese}，{self._system}共{label('registered')}{_SUBJECT}"
            f"{self._with_trend('registered')}；{label('completed')}{self._with_trend('completed')}，"
            f"其中{self._said(row, ('completed_on_the_spot', 'completed_jointly'), zero=True)}。{self._unfinished()}"
        )
        return (
            Paragraph(text),
            table,
            Paragraph(f"从诉求类别看，{self._shares(self._figures.categories)}。"),
            Paragraph(f"从接收渠道看，{self._shares(self._figures.channels)}。"),
            Paragraph(self._published() + self._reconciled()),
        )

    def _unfinished(self) -> str:
        """The stock at the end of the period; while it lasts, now, and with what waits past its deadline."""
        told = f"{label('unfinished')}{self._with_trend('unfinished')}"
        if self._material.is_over:
            return f"截至{chinese_day(self._material.period.last)}，{told}。"
        return f"截至{self._data_as_of()}，{told}，在办事项中已超过时限的{many(self._total.overdue)}件。"

    def _published(self) -> str:
        """Which edition of the figures there is, and how many of them have changed since."""
        edition = self._material.edition
        if edition is None:
            return NOT_PUBLISHED
        day = chinese_day(_instant(edition.published_at_us).date())
        missing = len(edition.missing.split())
        gaps = f"，发布时有{missing}个单位未报齐" if missing else ""
        counted = "；其间统计口径有调整" if edition.definitions != DEFINITIONS else ""
        changed = len(self._material.corrections)
        since = f"发布后更正{changed}项，本通报为更正后的数据" if changed else "发布后没有更正"
        return f"本期数据已于{day}发布（第{edition.edition}版{gaps}）；{since}{counted}。"

    def _reconciled(self) -> str:
        """What the last comparison with the ledgers has said."""
        last = self._material.reconciliation
        if last is None:
            return NOT_RECONCILED
        away = f"，{last.unreachable}个台账未能比对" if last.unreachable else ""
        differences = sum(line.differences for line in last.mismatches)
        verdict = f"，不符{differences}处" if differences else "，未发现不符"
        return f"最近一次对账（{_minute(last.at_us)}）比对台账{last.ledgers}个{verdict if last.ledgers else ''}{away}。"

    def _overall_table(self) -> Table:
        lines = [self._count_line(name) for name in _OVERALL_COUNTS]
        lines += [self._rate_line(name) for name in _OVERALL_RATES]
        last, year = (BASIS_LABELS[basis] for basis in (Basis.LAST_PERIOD, Basis.YEAR_BEFORE))
        return Table(
            title="主要指标情况表",
            headings=("指标", "单位", "本期", "上期", last, "上年同期", year),
            lines=tuple(lines),
            widths=(34, 12, 22, 22, 22, 22, 22),
            note=f"件数的{last}、{year}为增减百分比，比率的为增减百分点。",
        )

    def _count_line(self, name: str) -> Line:
        found = self._measured(lambda row: number_of(row, name))
        cells = [words(label(name)), term(_UNITS.get(name, _CASES)), count(found.now)]
        for basis in Basis:
            cells += [count(found.before[basis]), growth(found.now, found.before[basis])]
        return Line(tuple(cells))

    def _rate_line(self, name: str) -> Line:
        found = self._measured(lambda row: basis_points(row, name))
        cells = [words(label(name)), term("%"), rate(found.now)]
        for basis in Basis:
            cells += [rate(found.before[basis]), points(found.now, found.before[basis])]
        return Line(tuple(cells))

    def _shares(self, rows: Sequence[Compared]) -> str:
        """Each row's part of what was registered, the largest first."""
        numbers = [(compared.row.label, compared.row.sums.get(Fact.REGISTERED, 0)) for compared in rows]
        everything = sum(number for _, number in numbers)
        parts = [
            f"{of}{many(number)}件，占{rate_text(basis_points_of(number, everything) or 0)}"
            for of, number in sorted(numbers, key=lambda one: -one[1])
            if number
        ]
        return "；".join(parts) or "本期没有受理"

    # ------------------------------------------------------------ II

    def _handling(self) -> tuple[Block, ...]:
        if self._figures.is_empty:
            return (Paragraph("本期没有办理、反馈和回访的记录，不作排名。"),)
        row = self._total
        on_time, feedback = rate_of(row, RANKING_RATE), rate_of(row, "feedback_in_time")
        handle = next((clock for clock in row.clocks if clock.kind is ClockKind.HANDLE and any(clock.histogram)), None)
        handling = (
            f"本期到期的办理时限{many(on_time.denominator)}个，{self._said(row, ('in_time', 'late'), zero=True)}，"
            f"{self._rate_told(RANKING_RATE)}。"
        )
        if handle is not None:
            handling += (
                f"办理用时的中位数为{handle.p50_workdays:.1f}个工作日，"
                f"九成事项在{handle.p90_workdays:.1f}个工作日内办结。"
            )
        if aside := self._said(row, _ASIDE):
            handling += f"另有{aside}。"
        disputed = self._said(row, _DISPUTED)
        returned = f"退回与争议方面，{disputed}，{self._rate_told('returns')}。" if disputed else "没有退回和提请裁定。"
        follow_up = (
            f"本期到期的反馈时限{many(feedback.denominator)}个，{self._rate_told('feedback_in_time')}。"
            f"共{self._said(row, ('followed_up',), zero=True)}，{self._rate_told('follow_up')}；"
            f"{self._rate_told('satisfaction')}，其中{self._said(row, ('not_satisfied', 'reopened'), zero=True)}。"
        )
        return (
            Heading("（一）办理情况"),
            Paragraph(handling + returned),
            Heading("（二）反馈与回访情况"),
            Paragraph(follow_up),
            Heading("（三）督办情况"),
            Paragraph(self._supervised()),
            Heading("（四）排名情况"),
            *(Paragraph(text) for text in self._ranking()),
        )

    def _supervised(self) -> str:
        row, due = self._total, rate_of(self._total, "on_time_order")
        orders = self._said(row, _ORDERS)
        if not orders and not due.denominator:
            return "本期没有督办。"
        text = f"本期{orders}。" if orders else ""
        if due.denominator:
            late = count_of(row, "order_missed")
            text += (
                f"本期到期的督办答复时限{many(due.denominator)}个，逾期{many(late)}个，"
                f"{self._rate_told('on_time_order')}。"
            )
        return text

    def _ranking(self) -> list[str]:
        if len(self._figures.bureaus) <= 1:
            return ["没有下级单位，不作排名。"]
        ranked = [standing for standing in self._standings if standing.rank is not None]
        if not ranked:
            return [f"各单位样本均不足{self._material.minimum_sample}个，本期不作排名。各单位情况见附件1。"]
        texts = [f"以按时办结率由高到低为序，对{len(ranked)}个单位进行排名（见附件1）。{self._ends(ranked)}"]
        sample, doubtful = self._material.minimum_sample, self._league.doubtful
        few = [
            self._name(standing.row)
            for standing in self._standings
            if standing.rank is None and standing.row.key != self._own and standing.row.key not in doubtful
        ]
        if few:
            texts.append(f"本期到期的办理时限不足{sample}个，只列出、不排名的单位：{'、'.join(few)}。")
        named = [self._name(standing.row) for standing in self._standings if standing.row.key in doubtful]
        if named:
            texts.append(f"所辖台账数据存疑，只列出、不排名的单位：{'、'.join(named)}。")
        return texts

    def _ends(self, ranked: Sequence[Standing]) -> str:
        def named(some: Sequence[Standing]) -> str:
            return "、".join(f"{self._name(one.row)}（第{one.rank}名，{_told(one.row)}）" for one in some)

        if len(ranked) <= 2 * NAMED_RANKS:
            return f"依次为：{named(ranked)}。"
        return f"居前的是：{named(ranked[:NAMED_RANKS])}；居后的是：{named(ranked[-NAMED_RANKS:])}。"

    def _bureaus_table(self) -> Table:
        lines = [self._total_line(Cell(Kind.RANK, None))]
        for line in self._league.lines:
            mark = INCOMPLETE_MARK if line.is_lacking else ""
            rank = Cell(Kind.RANK, line.standing.rank)
            lines.append(Line((words(f"{self._name(line.row)}{mark}"), *line.cells, rank)))
        return _wide_table("各单位办理情况统计表", "单位", lines, ranked=True)

    # ------------------------------------------------------------ III

    def _hot(self, table: Table) -> tuple[Block, ...]:
        blocks: list[Block] = [Heading("（一）热点情况"), Paragraph(self._hottest()), Heading("（二）共性诉求")]
        search = self._material.search
        if search is None:
            return (*blocks, Paragraph(NOT_SEARCHED))
        sampled = f"（诉求量较大，每{search.one_of}件取1件，件数为所取的件数）" if search.one_of > 1 else ""
        unread = f"，有{search.unreadable}个单位的台账未能读取" if search.unreadable else ""
        found = len(search.issues) + search.unconfirmed
        day = chinese_day(_instant(search.at_us).date())
        text = f"{day}对本期诉求内容进行归纳{sampled}{unread}，归纳出共性诉求{found}项"
        if not search.issues:
            return (*blocks, Paragraph(f"{text}。{NONE_CONFIRMED if found else ''}"))
        text += f"，其中经确认的{len(search.issues)}项"
        text += f"，另有{search.unconfirmed}项待确认、未列出。" if search.unconfirmed else "。"
        return (*blocks, Paragraph(text), table)

    def _hottest(self) -> str:
        rows = [compared for compared in self._figures.categories if compared.row.sums.get(Fact.REGISTERED)]
        if not rows:
            return "本期没有受理，无热点。"
        largest = max((compared.row for compared in rows), key=lambda row: row.sums[Fact.REGISTERED])
        text = f"受理量最大的是{largest.label}类，共{many(largest.sums[Fact.REGISTERED])}件"
        risen = []
        for compared in rows:
            earlier = self._before(compared, Basis.LAST_PERIOD)
            before = 0 if earlier is None else earlier.sums.get(Fact.REGISTERED, 0)
            grown = growth_per_mille(compared.row.sums[Fact.REGISTERED], before) or 0
            if before >= self._material.minimum_sample and grown > 0:
                risen.append((grown, compared.row.label))
        if risen:
            grown, fastest = max(risen, key=lambda one: one[0])
            text += f"；{BASIS_LABELS[Basis.LAST_PERIOD]}增长最快的是{fastest}类，增长{grown / 10:.1f}%"
        return f"{text}。"

    def _issues_table(self) -> Table:
        lines = [
            Line(
                (
                    Cell(Kind.RANK, number),
                    words(issue.issue_id),
                    words(issue.title),
                    count(issue.size),
                    growth(issue.size, issue.size_before if self._material.is_over else None),
                    count(len(issue.bureaus)),
                    words("、".join(issue.bureaus[:NAMED_BUREAUS])),
                    words("、".join(issue.categories)),
                )
            )
            for number, issue in enumerate(self._issues, start=1)
        ]
        return Table(
            title="共性诉求情况表",
            headings=(
                "序号",
                "编号",
                "共性诉求",
                "件数",
                BASIS_LABELS[Basis.LAST_PERIOD],
                "涉及单位数",
                "主要单位",
                "主要类别",
            ),
            lines=tuple(lines),
            widths=(10, 29, 34, 13, 19, 13, 21, 18),
        )

    # ------------------------------------------------------------ annexes

    def _rows_table(self, title: str, heading: str, kind: type[IntEnum], rows: Sequence[Compared]) -> Table:
        lines = [self._total_line(), *(self._line(one.row.label, one) for one in _every(kind, rows))]
        return _wide_table(title, heading, lines, ranked=False)

    def _departments_table(self) -> Table:
        named = [(one.row.label, one.row) for one in _every(DepartmentKind, self._figures.departments)]
        lines = [
            Line(
                (
                    words(what),
                    *(count(number_of(row, name)) for name in _DEPARTMENT_COUNTS),
                    *(rate(basis_points(row, name)) for name in _DEPARTMENT_RATES),
                ),
                is_total=not number,
            )
            for number, (what, row) in enumerate([("合计", self._total), *named])
        ]
        return Table(
            title="分部门类别办理情况统计表",
            headings=("部门类别", *map(label, (*_DEPARTMENT_COUNTS, *_DEPARTMENT_RATES))),
            lines=tuple(lines),
            widths=(45, 30, 30, 30, 30, 30, 30),
            note=f"单位：件、个；{_SEE_DEFINITIONS}",
        )

    def _total_line(self, *more: Cell) -> Line:
        return Line(self._line("合计", self._figures.total, *more).cells, is_total=True)

    def _line(self, of: str, compared: Compared, *more: Cell) -> Line:
        return Line((words(of), *figures_told(compared, self._bases), *more))

    # ------------------------------------------------------------ notes

    def _definitions(self) -> tuple[Definition, ...]:
        period, material = self._material.period, self._material
        days = (
            f"{chinese_day(period.first)}至{chinese_day(period.last)}" if period.days > 1 else chinese_day(period.first)
        )
        last, year = (BASIS_LABELS[basis] for basis in (Basis.LAST_PERIOD, Basis.YEAR_BEFORE))
        unfinished = "" if material.is_over else f"统计期间尚未结束，不作{last}、{year}。"
        return (
            Definition("统计期间", f"{days}，按业务发生日（北京时间）归期。{unfinished}"),
            Definition("统计范围", f"{material.bureau.name}及其所辖全部单位；各单位数据含其所辖单位，“{OWN}”不含。"),
            Definition("数据时点", f"{self._data_as_of()}。晚到的记录计入其所属之日。"),
            *map(definition, _DEFINED),
            Definition(
                f"{last}、{year}",
                f"与上一期、上年同期相比：件数为增减百分比，比率为增减百分点；附件各表的{last}为{label('registered')}件数{last}。",
            ),
            Definition(
                "名次",
                f"以{label(RANKING_RATE)}（按百分数保留两位小数）由高到低排列，相同的名次并列。本期到期的办理时限不足"
                f"{material.minimum_sample}个的、所辖台账数据存疑的以及{OWN}，只列出、不排名。",
            ),
            Definition(INCOMPLETE_MARK, "该单位所辖有数据报送不完整的，见第四部分。"),
        )

    def _strip(self) -> tuple[tuple[str, str], ...]:
        found, edition = self._material.completeness, self._material.edition
        version = "未发布" if edition is None else f"第{edition.edition}版，更正{len(self._material.corrections)}项"
        return (
            ("应报送单位", str(found.bureaus_expected)),
            ("已报送", str(found.bureaus_heard)),
            ("数据最新", str(found.bureaus_up_to_date)),
            ("数据存疑", str(found.bureaus_quarantined)),
            ("数据截至", self._data_as_of()),
            ("数据版本", version),
        )

    # ------------------------------------------------------------ inside

    def _before(self, compared: Compared, basis: Basis) -> Row | None:
        """What a row is compared with; None where the whole scope had nothing, or the period lasts."""
        return compared.before(basis) if basis in self._bases else None

    def _measured(self, of: Callable[[Row], int | None]) -> _Measured:
        """A measure of the whole scope."""
        earlier = {basis: self._before(self._figures.total, basis) for basis in Basis}
        return _Measured(of(self._total), {basis: None if row is None else of(row) for basis, row in earlier.items()})

    def _with_trend(self, name: str) -> str:
        """A count with its unit, and how it has moved where there is something to compare with."""
        found = self._measured(lambda row: number_of(row, name))
        now = found.now or 0
        moves = [
            f"，{BASIS_LABELS[basis]}{_moved(grown, 'growth')}"
            for basis, then in found.before.items()
            if (grown := growth_per_mille(now, then)) is not None
        ]
        return f"{many(now)}{_UNITS.get(name, _CASES)}{''.join(moves)}"

    def _rate_told(self, name: str) -> str:
        """A rate of the whole scope by its name, with how it has moved."""
        found = self._measured(lambda row: basis_points(row, name))
        if found.now is None:
            return f"{label(name)}无"
        moves = [
            f"{BASIS_LABELS[basis]}{_moved(found.now - then, 'points')}"
            for basis, then in found.before.items()
            if then is not None
        ]
        return f"{label(name)}{rate_text(found.now)}" + (f"（{'，'.join(moves)}）" if moves else "")

    def _said(self, row: Row, names: Sequence[str], *, zero: bool = False) -> str:
        """Counts by their names within a sentence, those that are zero only where they are wanted."""
        return "、".join(
            f"{label(name)}{many(number)}{_UNITS.get(name, _CASES)}"
            for name in names
            if (number := count_of(row, name)) or zero
        )

    def _name(self, row: Row) -> str:
        return OWN if row.key == self._own else short_name(row.label)

    def _data_as_of(self) -> str:
        micros = self._material.completeness.data_as_of_us
        if not micros:
            return "尚无数据"
        return _minute(micros)


# ---------------------------------------------------------------- inside


def _instant(micros: int) -> datetime:
    return from_micros(micros).astimezone(SHANGHAI)


def _minute(micros: int) -> str:
    at = _instant(micros)
    return f"{chinese_day(at.date())}{at:%H:%M}"


def _every(kind: type[IntEnum], rows: Sequence[Compared]) -> list[Compared]:
    """A row for every category, channel or kind of department there is, whether it had cases or not."""
    known = {str(word.value): Compared(Row(str(word.value), ground_text(kind, word), unfinished=0)) for word in kind}
    return list((known | {compared.row.key: compared for compared in rows}).values())


def _wide_table(title: str, heading: str, lines: Sequence[Line], *, ranked: bool) -> Table:
    headings = (heading, *map(label, (*LEAGUE_COUNTS, *LEAGUE_RATES)), BASIS_LABELS[Basis.LAST_PERIOD])
    widths = (34, *([15] * len(LEAGUE_COUNTS)), *([21] * len(LEAGUE_RATES)), 21)
    if ranked:
        headings, widths = (*headings, "名次"), (*widths, 11)
    return Table(title, headings, tuple(lines), widths, note=f"单位：件、个；{_SEE_DEFINITIONS}")


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


def _moved(by: int, unit: str) -> str:
    if not by:
        return "持平"
    if unit == "points":
        return f"{'提高' if by > 0 else '下降'}{abs(by) / 100:.2f}个百分点"
    return f"{'增长' if by > 0 else '下降'}{abs(by) / 10:.1f}%"
