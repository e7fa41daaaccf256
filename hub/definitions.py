"""What every figure means: facts, counts and rates, each by one definition, shown with it wherever it is asked for.

Labels and clauses are the notice's (税总函〔2019〕40号); a fact without a clause of its own names the one it serves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hub.measures import (
    BUCKETS,
    HISTOGRAM_EDGES_WORKDAYS,
    UNFINISHED,
    Fact,
    measure_name,
    met,
    missed,
    taken,
    total,
)
from kuaixiang.domain.words import ClockKind


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a fact is."""

    label: str
    clause: str
    """Where the notice speaks of it."""
    sentence: str
    chinese: str


FACTS: Final[Mapping[Fact, Meaning]] = {
    Fact.REGISTERED: Meaning(
        "受理", "§四(一)1", "Registered by the bureau that first received it.", "首次受理单位受理登记的件数。"
    ),
    Fact.COMPLETED: Meaning(
        "办结",
        "§四(二)",
        "Completed, on the spot, ordinarily or jointly; again when completed again after a reopening.",
        "办结件数，含当场答复、普通办结、联合办结；重新办理后再次办结的再计一次。",
    ),
    Fact.COMPLETED_ON_THE_SPOT: Meaning(
        "当场答复",
        "§四(一)2",
        "Answered on the spot, complete and fed back at once.",
        "当场办理或答复、即时办结并反馈的件数。",
    ),
    Fact.COMPLETED_JOINTLY: Meaning(
        "联合办结", "§四(二)2", "Completed by several departments jointly.", "多个部门联合办理办结的件数。"
    ),
    Fact.FORWARDED: Meaning(
        "转交", "§四(一)2", "Forwarded to the bureau's tax-service department.", "登记内容转交本级纳税服务部门的件数。"
    ),
    Fact.ACCEPTED_DIRECTLY: Meaning(
        "直接受理",
        "§四(二)1",
        "Accepted for handling by the department that received it.",
        "由收到的部门直接受理办理的件数。",
    ),
    Fact.DISPATCHED: Meaning(
        "转办", "§四(一)2", "Dispatched by tax service to a department.", "纳税服务部门转交相关部门办理的件数。"
    ),
    Fact.DISPATCH_RETURNED: Meaning(
        "退回分办",
        "§四(二)",
        "Returned by a department to tax service, the case or its part of joint handling.",
        "部门退回纳税服务部门的次数，含退回协办。",
    ),
    Fact.FED_BACK: Meaning(
        "反馈",
        "§四(三)",
        "The taxpayer was told the result; an answer on the spot tells it at once.",
        "结果反馈纳税人的件数，含当场答复。",
    ),
    Fact.FOLLOWED_UP: Meaning(
        "回访", "§四(四)", "Follow-ups recorded, each call counted, reached or not.", "记录的回访次数，不论是否联系上。"
    ),
    Fact.SATISFIED: Meaning("满意", "§四(四)", "Follow-ups answered: satisfied.", "回访评价为满意的次数。"),
    Fact.BASICALLY_SATISFIED: Meaning(
        "基本满意", "§四(四)", "Follow-ups answered: basically satisfied.", "回访评价为基本满意的次数。"
    ),
    Fact.NOT_SATISFIED: Meaning("不满意", "§四(四)", "Follow-ups answered: not satisfied.", "回访评价为不满意的次数。"),
    Fact.NOT_REACHED: Meaning(
        "未联系上", "§四(四)", "Follow-ups that did not reach the taxpayer.", "回访未联系上纳税人的次数。"
    ),
    Fact.EXTENSION_ASKED: Meaning("申请延期", "§四(二)1", "Extensions asked for.", "申请延期的次数。"),
    Fact.EXTENDED: Meaning("延期", "§四(二)1", "Extensions approved.", "经批准延期的次数。"),
    Fact.EXTENSION_REFUSED: Meaning("不批准延期", "§四(二)1", "Extensions refused.", "未获批准的延期申请次数。"),
    Fact.DEFERRED: Meaning(
        "待条件成熟",
        "§四(二)1",
        "Deferred until conditions allow; out of the on-time rate, in every count.",
        "短期内无法解决、待条件成熟时解决的件数；不计入按时办结率，其余照计。",
    ),
    Fact.RESUMED: Meaning("恢复办理", "§四(二)1", "Taken up again after a deferral.", "条件成熟后恢复办理的件数。"),
    Fact.TO_RECONSIDERATION: Meaning(
        "转行政复议", "§四(二)1", "Left this track for administrative reconsideration.", "转按行政复议办理的件数。"
    ),
    Fact.WITHDRAWN: Meaning("撤回", "§四(二)", "Withdrawn by the taxpayer.", "纳税人撤回的件数。"),
    Fact.REFERRED_UP: Meaning(
        "上报",
        "§四(二)3",
        "Referred towards a superior, and accepted by the next bureau.",
        "上报上级且已被接收的件数。",
    ),
    Fact.REFERRED_DOWN: Meaning(
        "下转",
        "§四(二)3",
        "Referred towards a subordinate, and accepted by the next bureau.",
        "转交下级且已被接收的件数。",
    ),
    Fact.REFERRED_ACROSS: Meaning(
        "跨区转交",
        "§四(二)3",
        "Sent by its own decision to a bureau elsewhere in the tree, and accepted by the next bureau.",
        "经上级转往其他单位且已被接收的件数。",
    ),
    Fact.RELAYED: Meaning(
        "经转", "§四(二)3", "Passed on for others, whatever the direction.", "为其他单位中转的件数，不论方向。"
    ),
    Fact.RETURNED_REFERRAL: Meaning(
        "退回移交", "§四(二)3", "Returned to the bureau that had referred it.", "退回移出单位的件数。"
    ),
    Fact.RECEIVED: Meaning("接收移交", "§四(二)3", "Received from another bureau.", "接收其他单位移交的件数。"),
    Fact.OFFER_REFUSED: Meaning(
        "移交被拒", "§四(二)3", "Referrals refused by the next bureau by rule.", "被接收单位按规则拒收的移交次数。"
    ),
    Fact.REOPENED: Meaning("重新办理", "§四(四)", "Reopened after it had been complete.", "办结后重新办理的件数。"),
    Fact.CONCLUDED: Meaning(
        "移交已有结论",
        "§五(三)",
        "Concluded by the bureau it had been referred to.",
        "移交后由接收单位办出结论的件数。",
    ),
    Fact.WRITTEN_OFF: Meaning("销号", "§五(三)", "Written off the open ledger.", "对账销号的件数。"),
    Fact.REFERRED_FOR_RULING: Meaning(
        "提请裁定",
        "§二(四)",
        "Sent to the lowest common superior, which decides who handles it.",
        "因反复退转，提请共同上级裁定承办单位的件数。",
    ),
    Fact.ORDERS_ISSUED: Meaning(
        "下达督办",
        "§五(三)",
        "Supervision orders that the bureau issued, those derived from another included.",
        "本单位下达的督办单份数，含由上级督办转下级的。",
    ),
    Fact.ORDERS_RECEIVED: Meaning(
        "接收督办",
        "§五(三)",
        "Supervision orders for the bureau to answer; those it only passes on are not counted.",
        "下达给本单位的督办单份数，只转达的不计。",
    ),
    Fact.ORDERS_ACKNOWLEDGED: Meaning(
        "签收督办", "§五(三)", "Supervision orders that the bureau acknowledged.", "本单位签收的督办单份数。"
    ),
    Fact.ORDERS_ANSWERED: Meaning(
        "回复督办",
        "§五(三)",
        "Answers that the bureau gave to supervision orders; one that was returned can be followed by another.",
        "本单位回复督办的次数，退回后再次回复的再计一次。",
    ),
    Fact.ORDER_ANSWERS_RETURNED: Meaning(
        "退回回复",
        "§五(三)",
        "Answers to its supervision orders that the bureau did not accept.",
        "本单位作为下达单位退回督办回复的次数。",
    ),
    Fact.ORDERS_CLOSED: Meaning(
        "督办办结",
        "§五(三)",
        "Supervision orders whose answer the bureau accepted.",
        "本单位认可回复的督办单份数。",
    ),
    Fact.ORDERS_CANCELLED: Meaning(
        "撤销督办", "§五(三)", "Supervision orders that the bureau cancelled.", "本单位撤销的督办单份数。"
    ),
}
"""Each fact, counted on the Shanghai day on which it happened."""

CLOCK_DUTIES: Final[Mapping[ClockKind, tuple[str, str, str]]] = {
    ClockKind.FORWARD: ("having a registration at the tax-service department", "转交", "§四(一)2"),
    ClockKind.DISPATCH: ("dispatching to a department", "分办", "§四(一)2"),
    ClockKind.HANDLE: ("handling by one department", "办理", "§四(二)1"),
    ClockKind.JOINT: ("each department's part of joint handling", "联合办理", "§四(二)2"),
    ClockKind.FEEDBACK: ("feedback", "反馈", "§四(三)"),
    ClockKind.FOLLOW_UP: ("follow-up", "回访", "§四(四)"),
    ClockKind.ORDER: ("answering a supervision order", "督办", "§五(三)"),
    ClockKind.REVIEW: ("looking at a deferred case again", "复查", "§四(二)1"),
}
"""What each clock is for: the duty, its Chinese term, its clause."""


@dataclass(frozen=True, slots=True)
class CountDefinition:
    """A figure that is the sum of some measures less the sum of others, of the same bureaus."""

    name: str
    label: str
    clause: str
    plus: tuple[int, ...]
    minus: tuple[int, ...]
    sentence: str
    chinese: str


@dataclass(frozen=True, slots=True)
class RateDefinition:
    """A rate: the sum of some measures over the sum of others, of the same period and bureaus."""

    name: str
    label: str
    clause: str
    numerator: tuple[int, ...]
    denominator: tuple[int, ...]
    sentence: str
    chinese: str

    @property
    def measures(self) -> frozenset[int]:
        """Every measure that it needs."""
        return frozenset(self.numerator + self.denominator)


TAKEN_ON: Final = (int(Fact.REGISTERED), int(Fact.RECEIVED), int(Fact.REOPENED))
"""What makes a case unfinished business of a bureau."""
HANDED_ON: Final = tuple(
    map(
        int,
        (
            Fact.REFERRED_UP,
            Fact.REFERRED_DOWN,
            Fact.REFERRED_ACROSS,
            Fact.REFERRED_FOR_RULING,
            Fact.RETURNED_REFERRAL,
            Fact.RELAYED,
        ),
    )
)
"""What makes it another bureau's."""
FINISHED: Final = (int(Fact.COMPLETED), int(Fact.WITHDRAWN), int(Fact.TO_RECONSIDERATION))
"""What finishes it. A deferred case is not finished."""

COUNTS: Final = (
    CountDefinition(
        name="completed_ordinarily",
        label="普通办结",
        clause="§四(二)1",
        plus=(int(Fact.COMPLETED),),
        minus=(int(Fact.COMPLETED_ON_THE_SPOT), int(Fact.COMPLETED_JOINTLY)),
        sentence="Completions that were neither on the spot nor joint.",
        chinese="既非当场答复、也非联合办理的办结件数。",
    ),
    CountDefinition(
        name="in_time",
        label="按时",
        clause="§四(二)",
        plus=(met(ClockKind.HANDLE), met(ClockKind.JOINT)),
        minus=(),
        sentence="Deadlines for handling, alone or jointly, that fell due in the period and were met; of joint "
        "handling each department has its own.",
        chinese="期内到期的办理时限（联合办理按部门分别计）中，按时完成的个数。",
    ),
    CountDefinition(
        name="late",
        label="超时",
        clause="§四(二)",
        plus=(missed(ClockKind.HANDLE), missed(ClockKind.JOINT)),
        minus=(),
        sentence="Deadlines for handling, alone or jointly, that fell due in the period and were missed, whether or "
        "not the case was completed later.",
        chinese="期内到期的办理时限（联合办理按部门分别计）中，逾期的个数，不论其后是否办结。",
    ),
    CountDefinition(
        name="taken_on",
        label="承接",
        clause="§四(一)、§四(二)3",
        plus=TAKEN_ON,
        minus=(),
        sentence="Cases that became unfinished business of a bureau in the period: registered, received by referral, "
        "or reopened. Within a superior's figures a referral between its bureaus is taken on by one and handed on by "
        "the other.",
        chinese="期内由本单位负责的未办结件增加数：受理登记、接收移交、重新办理。上级汇总时，辖区内移交同时计入接收单位的承接和移出单位的移出。",
    ),
    CountDefinition(
        name="handed_on",
        label="移出",
        clause="§四(二)3",
        plus=HANDED_ON,
        minus=(),
        sentence="Cases that another bureau accepted responsibility for in the period: referred, returned, relayed.",
        chinese="期内由其他单位接收负责的件数：上报、转交、退回、经转。",
    ),
    CountDefinition(
        name="unfinished",
        label="未办结",
        clause="§五(三)",
        plus=TAKEN_ON,
        minus=(*HANDED_ON, *FINISHED),
        sentence="Cases that a bureau was responsible for and had not finished at the end of the period: all that it "
        "ever took on, less all that were completed, withdrawn, sent to reconsideration or handed on by then. A "
        "deferred case is among them. While an acceptance is on its way back to the sender both bureaus count the "
        "case. Not told by kind of department, between which cases move.",
        chinese="期末由本单位负责且尚未办结的件数：历来承接数，减去至期末已办结、撤回、转行政复议、移出的件数。待条件成熟的计在内；接收回执在途期间，双方均计。不按部门类别统计（案件在部门之间流转）。",
    ),
)
"""The one definition of each figure that is summed up from measures; `unfinished` from those of all time."""


def _on_time(kind: ClockKind, label: str, chinese: str, more: str = "") -> RateDefinition:
    duty, _, clause = CLOCK_DUTIES[kind]
    return RateDefinition(
        name=f"on_time_{kind.name.lower()}",
        label=label,
        clause=clause,
        numerator=(met(kind),),
        denominator=(met(kind), missed(kind)),
        sentence=f"Of the deadlines for {duty} that fell due in the period, the share that was met.{more}",
        chinese=f"期内到期的{chinese}",
    )


_REACHED: Final = (int(Fact.SATISFIED), int(Fact.BASICALLY_SATISFIED), int(Fact.NOT_SATISFIED))

RATES: Final = (
    RateDefinition(
        name="on_time",
        label="按时办结率",
        clause="§四(二)",
        numerator=(met(ClockKind.HANDLE), met(ClockKind.JOINT)),
        denominator=(
            met(ClockKind.HANDLE),
            missed(ClockKind.HANDLE),
            met(ClockKind.JOINT),
            missed(ClockKind.JOINT),
        ),
        sentence="Of the deadlines for handling, alone or jointly, that fell due in the period, the share that was "
        "met. An extension approved in time moves the deadline; a deferred case has none, and an answer on the spot "
        "never had one.",
        chinese="期内到期的办理时限（含联合办理）中，按时完成的比例。经批准延期的按延后时限计；待条件成熟的不计时限；当场答复的没有办理时限。",
    ),
    _on_time(
        ClockKind.FORWARD,
        "按时转交率",
        "登记内容转交纳税服务部门的时限中，按时的比例。当场答复、直接受理即时汇总到纳税服务部门，在时限内的计为按时；此前已移交或撤回的不计。",
        " Answering on the spot and accepting directly bring it there in the same act and count as met when they came "
        "in time: the duty is of every registration. A case referred or withdrawn before counts neither way.",
    ),
    _on_time(ClockKind.DISPATCH, "按时分办率", "分办时限中，按时的比例。"),
    _on_time(ClockKind.HANDLE, "按时主办率", "单独办理时限中，按时的比例。"),
    _on_time(ClockKind.JOINT, "按时联办率", "联合办理各部门时限中，按时的比例。"),
    _on_time(
        ClockKind.FOLLOW_UP,
        "按时回访率",
        "回访时限中，按时回访的比例。按时回访但未联系上的计为按时（是否联系上见有效回访率）。",
        " A call in time counts as met whether or not it reached the taxpayer, who need not answer; how often it did "
        "is the rate follow_up.",
    ),
    _on_time(ClockKind.ORDER, "按时答复督办率", "督办答复时限中，按时的比例。"),
    _on_time(ClockKind.REVIEW, "按时复查率", "待条件成熟事项复查时限中，按时的比例。"),
    RateDefinition(
        name="feedback_in_time",
        label="及时反馈率",
        clause="§四(三)",
        numerator=(met(ClockKind.FEEDBACK),),
        denominator=(met(ClockKind.FEEDBACK), missed(ClockKind.FEEDBACK)),
        sentence="Of the deadlines for feedback that fell due in the period, the share that was met; answers on the "
        "spot have no such deadline.",
        chinese="期内到期的反馈时限中，按时反馈的比例；当场答复的没有反馈时限。",
    ),
    RateDefinition(
        name="completion",
        label="办结率",
        clause="§四(二)",
        numerator=(int(Fact.COMPLETED),),
        denominator=(int(Fact.COMPLETED), UNFINISHED),
        sentence="Completions in the period over these and the cases unfinished at its end: of what the bureaus had "
        "to complete, whenever it was registered and by whom, the share that they did.",
        chinese="办结件数 ÷（办结件数 + 期末未办结件数）：期内应由本单位办结的（不论何时、由谁登记），已办结的比例。",
    ),
    RateDefinition(
        name="on_the_spot",
        label="即时答复率",
        clause="§四(一)2",
        numerator=(int(Fact.COMPLETED_ON_THE_SPOT),),
        denominator=(int(Fact.REGISTERED),),
        sentence="Cases answered on the spot for every case registered in the period.",
        chinese="期内当场答复件数与受理登记件数之比。",
    ),
    RateDefinition(
        name="returns",
        label="退回率",
        clause="§二(四)",
        numerator=(int(Fact.DISPATCH_RETURNED), int(Fact.RETURNED_REFERRAL)),
        denominator=(int(Fact.DISPATCHED), int(Fact.RECEIVED)),
        sentence="Returns in the period, by departments and to other bureaus, for every case dispatched or received "
        "from another bureau in it.",
        chinese="期内退回分办、退回移交的次数与转办、接收移交的件数之比。",
    ),
    RateDefinition(
        name="follow_up",
        label="有效回访率",
        clause="§四(四)",
        numerator=_REACHED,
        denominator=(int(Fact.FOLLOWED_UP),),
        sentence="Of the follow-ups recorded in the period, each call counted, the share that reached the taxpayer. "
        "Whether they came in time is another rate, on_time_follow_up.",
        chinese="期内记录的回访（按次）中，联系上纳税人的比例。是否按时见按时回访率。",
    ),
    RateDefinition(
        name="satisfaction",
        label="满意率",
        clause="§四(四)",
        numerator=(int(Fact.SATISFIED), int(Fact.BASICALLY_SATISFIED)),
        denominator=_REACHED,
        sentence="Of the taxpayers reached by follow-up in the period, the share that was satisfied or basically "
        "satisfied.",
        chinese="期内回访联系上的纳税人中，表示满意或基本满意的比例。",
    ),
)
"""The one definition of each rate, shown with it wherever it is shown."""


def net(sums: Mapping[int, int], count: CountDefinition) -> int:
    """A count's figure."""
    return total(sums, count.plus) - total(sums, count.minus)


# ---------------------------------------------------------------- shown


@dataclass(frozen=True, slots=True)
class Explanation:
    """A definition as it is shown: name, Chinese label, clause, formula (empty for what is counted itself)."""

    name: str
    label: str
    clause: str
    formula: str
    sentence: str
    chinese: str


STOCKS: Final = (
    Explanation(
        "open",
        "未销号",
        "§五(三)",
        "",
        "Cases open in a ledger now, whatever the period: registered or received there and neither written off, "
        "withdrawn, sent to reconsideration nor handed on.",
        "当前尚未销号的件数，与统计期间无关：本单位受理或接收，且未销号、未撤回、未转行政复议、未移出。",
    ),
    Explanation(
        "overdue",
        "当前逾期",
        "§四(二)",
        "",
        "Of the open cases, those with a clock running past its deadline now, whatever the period.",
        "未销号件中，当前有时限已经超过的件数，与统计期间无关。",
    ),
)
"""What is counted at the present and not summed up from measures."""


def explanations() -> dict[str, Explanation]:
    """Every figure there is, by its name."""
    found = [
        Explanation(fact.name.lower(), of.label, of.clause, "", of.sentence, of.chinese) for fact, of in FACTS.items()
    ]
    for kind, (duty, term, clause) in CLOCK_DUTIES.items():
        found += _of_clock(kind, duty, term, clause)
    found += [
        Explanation(
            count.name, count.label, count.clause, _formula(count.plus, count.minus), count.sentence, count.chinese
        )
        for count in COUNTS
    ]
    found += STOCKS
    for rate in RATES:
        formula = f"({_formula(rate.numerator)}) ÷ ({_formula(rate.denominator)})"
        found.append(Explanation(rate.name, rate.label, rate.clause, formula, rate.sentence, rate.chinese))
    return {explanation.name: explanation for explanation in found}


def _of_clock(kind: ClockKind, duty: str, term: str, clause: str) -> list[Explanation]:
    found = [
        Explanation(
            measure_name(met(kind)),
            f"{term}按时",
            clause,
            "",
            f"Deadlines for {duty} that were met, on the day they fell due.",
            f"{term}时限按时完成的个数，计入到期日。",
        ),
        Explanation(
            measure_name(missed(kind)),
            f"{term}逾期",
            clause,
            "",
            f"Deadlines for {duty} that were missed, on the day they fell due, once each.",
            f"{term}时限逾期的个数，计入到期日，每个时限只计一次。",
        ),
    ]
    for bucket in range(BUCKETS):
        more, more_chinese = _more(bucket)
        at_most, at_most_chinese = _at_most(bucket)
        found.append(
            Explanation(
                measure_name(taken(kind, bucket)),
                f"{term}用时",
                clause,
                "",
                f"Clocks for {duty} that ended, met or missed, after {' and '.join(filter(None, (more, at_most)))} "
                "working days, on the day they ended.",
                f"用时{'、'.join(filter(None, (more_chinese, at_most_chinese)))}个工作日的{term}时限个数，计入结束日。",
            )
        )
    return found


def _more(bucket: int) -> tuple[str, str]:
    if not bucket:
        return "", ""
    edge = f"{HISTOGRAM_EDGES_WORKDAYS[bucket - 1]:g}"
    return f"more than {edge}", f"超过 {edge} "


def _at_most(bucket: int) -> tuple[str, str]:
    if bucket == BUCKETS - 1:
        return "", ""
    edge = f"{HISTOGRAM_EDGES_WORKDAYS[bucket]:g}"
    return f"at most {edge}", f"不超过 {edge} "


def _formula(plus: tuple[int, ...], minus: tuple[int, ...] = ()) -> str:
    return " − ".join((" + ".join(map(measure_name, plus)), *map(measure_name, minus)))
