"""The Chinese of the field's terms: of words, acts, events, fields of a request; in one place for all that speaks.

Also how each of them is written in English where officers read it: as the command line takes it.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from kuaixiang.domain import acts, order_acts
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockAction,
    ClockKind,
    ClockOutcome,
    Custody,
    DepartmentKind,
    DifferenceKind,
    DirectiveKind,
    Disclosure,
    DuplicateReason,
    LedgerFinding,
    Light,
    OrderLevel,
    OrderSide,
    OrderStage,
    Outcome,
    Override,
    ReferralKind,
    ReferralState,
    Refusal,
    Role,
    Satisfaction,
    Stage,
    Telling,
    TokenScope,
    WorkTab,
)

W = TypeVar("W", bound=IntEnum)


class Both(NamedTuple):
    """A sentence, or a part of one, in both languages."""

    english: str
    chinese: str


NOTHING: Final = Both("", "")

TERMS: Final[Mapping[type[IntEnum], tuple[str, ...]]] = {
    Category: ("政策落实", "执法规范", "纳税服务", "信息化建设", "法律救济", "其他"),
    Channel: ("12366热线", "12366平台", "税务网站", "办税服务厅", "行业协会商会", "其他"),
    Stage: (
        "已登记",
        "已转交纳税服务部门",
        "办理中",
        "联合办理中",
        "待条件成熟",
        "已移交",
        "已办结",
        "已反馈",
        "已回访",
        "移交已有结论",
        "转行政复议",
        "已撤回",
        "已销号",
    ),
    Custody: ("本单位负责", "移交中", "已移交"),
    Role: ("受理人", "纳税服务部门", "承办人", "分管局领导", "主要领导", "渠道", "系统", "督办岗", "督察审计"),
    DepartmentKind: ("纳税服务", "税政", "征管", "信息技术", "法制", "稽查", "办税服务厅", "局领导", "其他"),
    ClockKind: ("转交", "分办", "办理", "联合办理", "反馈", "回访", "督办", "复查"),
    ClockAction: ("开始计时", "延期", "逾期", "停止计时", "临近到期", "重新计算"),
    ClockOutcome: ("按时", "逾期", "不计"),
    Telling: ("情况复杂", "转交其他部门"),
    Satisfaction: ("满意", "基本满意", "不满意", "未联系上"),
    ReferralKind: ("上报上级", "转交下级", "跨单位移交", "退回", "提请裁定"),
    Refusal: (
        "不是直接上下级",
        "接收单位有误",
        "移交路径成环",
        "移交层级过多",
        "移交已过时",
        "与台账不符",
        "移交已收回",
        "移交内容不合规",
    ),
    Outcome: ("已办结", "已撤回", "转行政复议", "重新办理"),
    DuplicateReason: ("同一纳税人", "内容相近"),
    ReferralState: ("移交中", "收回中", "已接收", "被拒收"),
    DirectiveKind: ("工作日历", "共性诉求", "机构树"),
    Override: ("台账未核对一致而销号",),
    Disclosure: ("脱敏", "明文"),
    DifferenceKind: ("本台账缺", "对方台账缺", "内容不符"),
    LedgerFinding: ("短于已见证", "与已见证不符", "新世代未说明缺失"),
    OrderLevel: ("催办", "督办", "重点督办"),
    OrderStage: ("已下达", "已送达", "已签收", "已回复", "回复被退回", "已办结", "已撤销"),
    OrderSide: ("本单位下达", "下达给本单位", "经本单位转达"),
    Light: ("期内", "临期", "逾期", "停止计时"),
    WorkTab: (
        "待转交",
        "待分办",
        "待办理",
        "今日到期",
        "已逾期",
        "待反馈",
        "待回访",
        "待销号",
        "待条件成熟",
        "在外单位",
        "待审批",
        "全部",
    ),
    TokenScope: ("登记诉求", "查询办理进度"),
}
"""The Chinese term of each word, in the order of the words' numbers, which begin at 1."""


class ActName(NamedTuple):
    """What officers call an act: the command that does it (`kx case`, `kx supervise`), and its Chinese name."""

    command: str
    chinese: str


ACTS: Final[Mapping[type[acts.Act], ActName]] = {
    acts.Register: ActName("register", "受理登记"),
    acts.AnswerOnTheSpot: ActName("answer", "当场答复"),
    acts.Forward: ActName("forward", "转交纳税服务部门"),
    acts.Dispatch: ActName("dispatch", "分办"),
    acts.ReturnDispatch: ActName("return-dispatch", "退回分办"),
    acts.AcceptDirectly: ActName("accept", "直接受理"),
    acts.AskExtension: ActName("ask-extension", "申请延期"),
    acts.ApproveExtension: ActName("approve-extension", "批准延期"),
    acts.RefuseExtension: ActName("refuse-extension", "不批准延期"),
    acts.StartJointHandling: ActName("start-joint", "联合办理"),
    acts.ExplainExtension: ActName("explain-extension", "延期告知"),
    acts.AddPart: ActName("add-part", "增加协办"),
    acts.CompletePart: ActName("complete-part", "协办完成"),
    acts.Complete: ActName("complete", "办结"),
    acts.CompleteWithLead: ActName("completing with the lead case", "并案办结"),
    acts.Link: ActName("link", "并案"),
    acts.Unlink: ActName("unlink", "解除并案"),
    acts.LinkIssue: ActName("link-issue", "归入共性诉求"),
    acts.Attach: ActName("attach", "添加附件"),
    acts.GiveFeedback: ActName("feedback", "反馈"),
    acts.FollowUp: ActName("follow-up", "回访"),
    acts.Reopen: ActName("reopen", "重新办理"),
    acts.Withdraw: ActName("withdraw", "纳税人撤回"),
    acts.Defer: ActName("defer", "列入待条件成熟"),
    acts.Resume: ActName("resume", "恢复办理"),
    acts.SendToReconsideration: ActName("reconsideration", "转行政复议"),
    acts.Refer: ActName("refer", "移交"),
    acts.Return: ActName("return", "退回"),
    acts.AskRuling: ActName("ask-ruling", "提请裁定"),
    acts.Rule: ActName("rule", "裁定"),
    acts.AskOverride: ActName("ask-override", "申请特批"),
    acts.ApproveOverride: ActName("approve-override", "批准特批"),
    acts.RefuseOverride: ActName("refuse-override", "不批准特批"),
    acts.WithdrawOffer: ActName("withdraw-offer", "收回移交"),
    acts.WriteOff: ActName("write-off", "销号"),
    # What peers and the system do has no command.
    acts.Receive: ActName("receiving a referral", "接收移交"),
    acts.AcknowledgeAcceptance: ActName("noting that a referral was accepted", "确认移交已接收"),
    acts.AcknowledgeRefusal: ActName("noting that a referral was refused", "确认移交被拒收"),
    acts.HearConclusion: ActName("hearing a conclusion", "接收办理结论"),
    acts.AcknowledgeConclusion: ActName("noting that a conclusion arrived", "确认结论已送达"),
    acts.MarkOverdue: ActName("noting a missed deadline", "记录逾期"),
    acts.MarkDueSoon: ActName("noting that a deadline is near", "记录临期"),
    acts.Recompute: ActName("computing deadlines again", "按新日历重新计算时限"),
    acts.NoteMismatch: ActName("noting how another ledger differs", "记录对账不符"),
    order_acts.IssueOrder: ActName("supervise issue", "下达督办"),
    order_acts.CascadeOrder: ActName("supervise cascade", "转下级督办"),
    order_acts.AcknowledgeOrder: ActName("supervise acknowledge", "签收督办"),
    order_acts.AnswerOrder: ActName("supervise answer", "回复督办"),
    order_acts.AcceptAnswer: ActName("supervise accept", "认可回复"),
    order_acts.ReturnAnswer: ActName("supervise return", "退回回复"),
    order_acts.CancelOrder: ActName("supervise cancel", "撤销督办"),
    order_acts.HearStatement: ActName("receiving an order", "接收督办"),
    order_acts.HearReport: ActName("hearing what became of an order", "接收督办进展"),
    order_acts.NoteDelivery: ActName("noting that a bureau has been told", "确认督办已送达"),
    order_acts.NoteClock: ActName("noting an order's deadline", "记录督办时限"),
}
"""What each act is called."""

EVENTS: Final[Mapping[str, str]] = {
    "registered": "受理登记",
    "answered_on_the_spot": "当场答复",
    "taxpayer_told": "告知纳税人",
    "forwarded": "转交纳税服务部门",
    "dispatched": "分办",
    "dispatch_returned": "退回分办",
    "accepted_directly": "直接受理",
    "extension_asked": "申请延期",
    "extension_approved": "批准延期",
    "extension_refused": "不批准延期",
    "joint_handling_started": "联合办理",
    "part_completed": "协办完成",
    "completed": "办结",
    "feedback_given": "反馈",
    "followed_up": "回访",
    "reopened": "重新办理",
    "case_withdrawn": "纳税人撤回",
    "deferred": "待条件成熟",
    "resumed": "恢复办理",
    "sent_to_reconsideration": "转行政复议",
    "offered": "移交",
    "offer_withdrawal_asked": "申请收回移交",
    "released": "移交已接收",
    "offer_refused": "移交被拒",
    "received": "接收移交",
    "offer_declined": "拒收移交",
    "concluded": "移交已有结论",
    "conclusion_revoked": "结论撤销",
    "conclusion_delivered": "结论已送达",
    "written_off": "销号",
    "became_overdue": "逾期",
    "became_due_soon": "临期",
    "clocks_recomputed": "按新日历重新计算时限",
    "calendar_adopted": "启用新工作日历",
    "tree_adopted": "启用新机构树",
    "directive_published": "发布指令",
    "linked": "并案",
    "unlinked": "解除并案",
    "part_returned": "协办退回",
    "part_added": "增加协办",
    "extension_explained": "延期告知",
    "ruled": "裁定",
    "override_asked": "申请特批",
    "override_approved": "批准特批",
    "override_refused": "不批准特批",
    "issue_linked": "归入共性诉求",
    "attachment_added": "添加附件",
    "private_read": "查看隐私信息",
    "attachment_read": "查看附件",
    "snapshot_given_back": "退还隐私信息",
    "ledger_exported": "导出台账",
    "private_erased": "删除隐私信息",
    "ledgers_reconciled": "对账",
    "mismatch_found": "对账不符",
    "mismatch_cleared": "对账已相符",
    "absent_case_found": "对账缺失",
    "absent_case_cleared": "对账缺失已消除",
    "ledger_doubted": "台账存疑",
    "ledger_trusted": "台账恢复",
    "generation_opened": "开启新世代",
    "snapshot_restored": "找回诉求内容",
    "private_parts_lost": "隐私信息缺失",
    "order_issued": "下达督办",
    "order_received": "接收督办",
    "order_arrived": "督办已送达",
    "order_acknowledged": "签收督办",
    "order_answered": "回复督办",
    "order_answer_returned": "退回回复",
    "order_closed": "认可回复",
    "order_cancelled": "撤销督办",
    "order_delivered": "已告知",
    "order_clock_noted": "督办时限",
}
"""The Chinese term of each event of a case's history, by its name in the journal."""

FIELDS: Final[Mapping[str, str]] = {
    "password": "密码",
    "new_password": "新密码",
    "scopes": "授权范围",
    "valid_days": "有效天数",
    "token_id": "令牌编号",
    "jurisdiction_id": "单位代码（jurisdiction_id）",
    "service_code": "诉求类别（service_code）",
    "service_request_id": "诉求编号（service_request_id）",
    "start_date": "起始时间（start_date）",
    "end_date": "截止时间（end_date）",
    "status": "办理状态（status）",
    "bureau": "单位代码",
    "case_id": "诉求编号",
    "actor": "经办人",
    "role": "岗位",
    "department": "部门代码",
    "request_key": "请求标识",
    "occurred_at": "发生时间",
    "expected_version": "版本号",
    "taxpayer_name": "纳税人名称",
    "contact": "联系方式",
    "taxpayer_number": "统一社会信用代码",
    "text": "诉求内容",
    "category": "诉求类别",
    "channel": "受理渠道",
    "channel_reference": "渠道编号",
    "place": "所在地区",
    "answer": "答复内容",
    "telling": "告知事项",
    "told": "告知内容",
    "to_department": "承办部门",
    "note": "备注",
    "reason": "原因",
    "workdays": "延期工作日数",
    "for_department": "延期部门",
    "lead_case_id": "主诉求编号",
    "issue_id": "共性诉求编号",
    "with_linked": "一并办结并案诉求",
    "digest": "附件摘要",
    "name": "附件名称",
    "media_type": "附件类型",
    "size_bytes": "附件大小",
    "data": "附件内容",
    "from_byte": "续传起点",
    "attachments": "附件清单",
    "override": "特批事项",
    "lead_department": "主办部门",
    "assisting_departments": "协办部门",
    "result": "办理结果",
    "told_by": "反馈方式",
    "satisfaction": "满意度",
    "remark": "回访备注",
    "owner": "责任人",
    "review_at": "复查时间",
    "condition": "成熟条件",
    "reference": "行政复议编号",
    "final_bureau": "接收单位",
    # Of readings, lists, journals and figures.
    "private": "隐私信息",
    "bureaus": "单位代码",
    "page_token": "翻页标记",
    "page_size": "每页条数",
    "format": "文件格式",
    "minimum_sample": "最低样本数",
    "stages": "办理状态",
    "custodies": "责任状态",
    "next_clock": "时限种类",
    "tab": "待办分类",
    "search": "搜索内容",
    "registration": "单件登记",
    "registrations": "批量登记",
    "registered_from": "受理时间起",
    "registered_before": "受理时间止",
    "recorded_from": "记录时间起",
    "recorded_before": "记录时间止",
    "from_seq": "起始序号",
    "to_seq": "截止序号",
    "scope": "统计范围",
    "figure": "指标",
    "from_day": "开始日期",
    "to_day": "结束日期",
    "grouping": "分组方式",
    "period": "统计期间",
    "department_kind": "部门类别",
    "override_by": "署名人员",
    "override_second": "复核人员",
    "override_reason": "理由",
    "cases_min": "最少件数",
    "limit": "最多条数",
    "one_of": "抽样间隔",
    "terms": "关键词",
    # Of what bureaus say to each other.
    "signature": "签名",
    "offer": "移交单",
    "referral_id": "移交编号",
    "previous_referral_id": "上次移交编号",
    "from_bureau": "移出单位",
    "to_bureau": "接收单位",
    "path": "移交路径",
    "asked": "已查询的单位",
    "epoch": "移交次数",
    "origin_bureau": "首次受理单位",
    "offered_at_us": "移交时间",
    "registered_at_us": "受理时间",
    "handled_by": "办理单位",
    "outcome": "办理结论",
    "round": "办理轮次",
    "referral_kind": "移交方式",
    "returns": "退回次数",
    "disputants": "争议单位",
    "attestation": "单位自签原文",
    "salt": "摘要盐值",
    "ruled_by": "裁定单位",
    "completed_at_us": "办结时间",
    # Of directives.
    "calendar": "工作日历",
    "title": "标题",
    "standard_answer": "统一答复口径",
    "directive": "指令",
    "have": "已有指令",
    "kinds": "指令种类",
    "tree": "机构树",
    "case_ids": "诉求编号",
    "kind": "指令种类",
    "subject": "指令事项",
    "published_at_us": "发布时间",
    # Of supervision orders.
    "order_id": "督办单编号",
    "nonce": "督办单标识",
    "level": "督办级别",
    "answer_workdays": "回复工作日数",
    "to_bureaus": "接收单位",
    "because": "先行回复的理由",
    "statement": "督办单",
    "report": "督办进展",
    "step": "序号",
    "stage": "状态",
    "issuer": "下达单位",
    "issued_at_us": "下达时间",
    "received_at_us": "送达时间",
    "due_at_us": "回复时限",
    "acknowledged_at_us": "签收时间",
    "answered_at_us": "回复时间",
    "limit_workdays": "工作日数",
    "calendar_version": "工作日历版本",
    "soon_at_us": "临期时间",
    "derived_open": "未回复的下级督办数",
    "subordinate": "下级单位",
    "side": "收发方向",
    "light": "时限状态",
    # Of reconciliation.
    "offered_at": "移交时间",
    "state": "移交状态",
    "refusal": "拒收原因",
    "conclusion_epoch": "结论所属移交",
    "completed_at": "办结时间",
    "peer": "对账单位",
    "days": "日期",
    "hand_over": "移交凭证",
    # Of witnesses.
    "witness": "见证单位",
    "segment": "台账日志",
    "generation": "世代",
    "seq": "序号",
    "Content-Type": "内容类型",
    "from_row": "起始行号",
    "sink": "推送对象",
    "given_up": "已停止推送",
    "hash": "摘要",
    "stated_at_us": "陈述时间",
    "first_seq": "起始序号",
    "prev_hash": "前项摘要",
    "last_hash": "末项摘要",
    "public": "公开内容",
    "private_digest": "隐私摘要",
}
"""The Chinese name of each field of a request, by its own name: `header.actor` is `actor`."""


def term(word: IntEnum) -> str:
    """The Chinese term of a word."""
    return TERMS[type(word)][word - 1]


def term_of(kind: type[IntEnum], number: int) -> str:
    """The Chinese term of a word by its number; the number of one that this version does not know."""
    terms = TERMS[kind]
    return terms[number - 1] if 1 <= number <= len(terms) else str(number)


def name(word: IntEnum) -> str:
    """The English name of a word, as it is written on the command line."""
    return word.name.lower().replace("_", "-")


def command(kind: type[acts.Act]) -> str:
    """An act as English sentences name it: by its command."""
    return ACTS[kind].command


def act_term(kind: type[acts.Act]) -> str:
    """An act's Chinese name."""
    return ACTS[kind].chinese


def field_term(field: str) -> str:
    """The Chinese name of a request's field, which may be a path such as `header.actor`."""
    return FIELDS.get(field.rpartition(".")[2], field)


def listed(parts: Iterable[str]) -> str:
    """Parts of a Chinese sentence, one after the other."""
    return "、".join(parts)


class NoSuchWord(ValueError):
    """A text is none of the words of its kind."""

    def __init__(self, words: type[IntEnum], text: str) -> None:
        super().__init__(words, text)
        self.words = words
        self.text = text
        known = ", ".join(f"{name(word)} {term(word)}" for word in words)
        self.said = Both(f"{text!r} is no {words.__name__.lower()}.", f"“{text}”不在规定的选项中。")
        self.remedy = Both(f"Use one of {known}.", f"可选：{listed(map(term, words))}。")

    def __str__(self) -> str:
        return self.said.english


def word_of(words: type[W], text: str) -> W:
    """The word that a text means: its English name, with - or _, or its Chinese term. Raises `NoSuchWord`."""
    plain = text.strip()
    for word in words:
        if plain.lower().replace("_", "-") == name(word) or plain == term(word):
            return word
    raise NoSuchWord(words, text)
