"""What can be wrong with an act: named conditions, each with its facts, the rule it rests on and what to do.

Each says it in English and in Chinese.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from kuaixiang.domain.acts import Act
from kuaixiang.domain.labels import Both, act_term, command, field_term, listed, name, term
from kuaixiang.domain.words import Custody, Role, Stage

_NOTHING_POSSIBLE = Both("Nothing can be done with it in this ledger.", "本单位台账中不能再对其进行任何操作。")


class Condition(Enum):
    """What a refusal means to the caller; each boundary maps it to its own status."""

    INVALID = "invalid"
    MISSING = "missing"
    STATE = "state"
    FORBIDDEN = "forbidden"
    CONFLICT = "conflict"
    BUSY = "busy"
    UNAUTHENTICATED = "unauthenticated"
    LIMIT = "limit"
    """The caller has asked too much; BUSY is the service's own state."""


class Refused(Exception):
    """An act is refused: nothing has changed.

    The text of the exception is the English sentence, `chinese` the Chinese one. `rule` is a stable name, `field` the
    request's field at fault (empty when none is), `remedy` and `remedy_chinese` what to do. `facts` is for the program
    that is refused: what it needs to do that. `retry_seconds` is when trying again makes sense, where it does.
    """

    condition: Condition = Condition.STATE
    remedy: str = ""
    remedy_chinese: str = ""
    field: str = ""
    facts: Mapping[str, str] = MappingProxyType({})
    retry_seconds: float = 1.0

    def __init__(self, sentence: str, chinese: str) -> None:
        super().__init__(sentence)
        self.chinese = chinese

    @property
    def rule(self) -> str:
        """The condition's stable name, such as `ActNotAllowed`."""
        return type(self).__name__


class FieldMissing(Refused):
    """A required field is empty (§四(一)1)."""

    condition = Condition.INVALID

    def __init__(self, field: str, because: Both) -> None:
        self.field = field
        self.remedy = f"Fill in {field}."
        self.remedy_chinese = f"请填写{field_term(field)}。"
        super().__init__(
            f"{field} is required: {because.english}.", f"{field_term(field)}不能为空：{because.chinese}。"
        )


class FieldMalformed(Refused):
    """A field's value cannot be what it stands for. The value itself is never repeated: it may be private."""

    condition = Condition.INVALID

    def __init__(self, field: str, what: Both, remedy: Both) -> None:
        self.field = field
        self.remedy, self.remedy_chinese = remedy
        super().__init__(f"{field} {what.english}.", f"{field_term(field)}{what.chinese}。")


class TimeInFuture(Refused):
    """An act is said to have happened later than now."""

    condition = Condition.INVALID
    field = "header.occurred_at"
    remedy = "Give the time it happened, or leave it out for now."
    remedy_chinese = "请填写实际发生时间；不填即为当前时间。"

    def __init__(self, occurred_at: str, now: str) -> None:
        super().__init__(
            f"header.occurred_at {occurred_at} lies in the future: it is now {now}.",
            f"发生时间 {occurred_at} 晚于当前时间 {now}。",
        )


class RecordedTooLate(Refused):
    """An act is recorded longer after it happened than the rules allow."""

    condition = Condition.INVALID
    field = "header.occurred_at"
    remedy = "Record it with the present time and explain the delay in the note."
    remedy_chinese = "请按当前时间补录，并在备注中说明延迟原因。"

    def __init__(self, occurred_at: str, workdays_max: int) -> None:
        super().__init__(
            f"header.occurred_at {occurred_at} is more than {workdays_max} working day(s) ago.",
            f"发生时间 {occurred_at} 距今已超过 {workdays_max} 个工作日。",
        )


class OutOfOrder(Refused):
    """An act is said to have happened before the last one on the same case or order."""

    condition = Condition.INVALID
    field = "header.occurred_at"
    remedy = "Give a time not before the last act."
    remedy_chinese = "请填写不早于上一次办理的时间。"

    def __init__(self, occurred_at: str, last_at: str) -> None:
        super().__init__(
            f"header.occurred_at {occurred_at} is before the last act at {last_at}.",
            f"发生时间 {occurred_at} 早于上一次办理的时间 {last_at}。",
        )


class UnknownCase(Refused):
    """This ledger has no such case."""

    condition = Condition.MISSING
    field = "header.case_id"
    remedy = "Check the number; a case referred elsewhere stays in this ledger."
    remedy_chinese = "请核对编号；已移交其他单位的诉求仍保留在本单位台账中。"

    def __init__(self, bureau: str, case_id: str) -> None:
        super().__init__(
            f"Bureau {bureau} has no case {case_id or '(empty)'}.",
            f"单位 {bureau} 的台账中没有诉求 {case_id or '（空）'}。",
        )


class EntryUnreadable(Refused):
    """A journal entry of the case cannot be read: the ledger was changed by something else than this system."""

    remedy = "Tell whoever runs the node: the ledger must be compared with the hub and restored."
    remedy_chinese = "请通知节点运维人员：须与汇总中心对账并恢复台账。"

    def __init__(self, bureau: str, case_id: str) -> None:
        super().__init__(
            f"An entry of case {case_id} in the ledger of bureau {bureau} cannot be read.",
            f"单位 {bureau} 台账中诉求 {case_id} 的一条记录无法读取。",
        )


class NotThisBureau(Refused):
    """The node does not host the bureau that the request names."""

    condition = Condition.MISSING

    def __init__(self, bureau: str, hosted: tuple[str, ...], field: str = "header.bureau") -> None:
        self.field = field
        self.remedy = f"This node hosts {', '.join(hosted)}."
        self.remedy_chinese = f"本节点承载的单位：{listed(hosted)}。"
        super().__init__(
            f"Bureau {bureau or '(empty)'} is not hosted by this node.", f"本节点不承载单位 {bureau or '（空）'}。"
        )


class ActNotAllowed(Refused):
    """The lifecycle has no such act at this stage."""

    def __init__(self, case_id: str, stage: Stage, act: type[Act], allowed: tuple[type[Act], ...]) -> None:
        self.remedy, self.remedy_chinese = _NOTHING_POSSIBLE
        if allowed:
            self.remedy = f"At this stage one can: {', '.join(map(command, allowed))}."
            self.remedy_chinese = f"当前环节可以：{listed(map(act_term, allowed))}。"
        super().__init__(
            f"{command(act)} is not possible: case {case_id} is {name(stage)}.",
            f"诉求 {case_id} 当前为“{term(stage)}”，不能{act_term(act)}。",
        )


class NothingOffered(Refused):
    """No offer of the case awaits a decision."""

    remedy = "The case is this bureau's own; go on with it."
    remedy_chinese = "该诉求由本单位负责，请继续办理。"

    def __init__(self, case_id: str) -> None:
        super().__init__(f"No offer of case {case_id} awaits a decision.", f"诉求 {case_id} 没有等待接收的移交。")


class CaseFrozen(Refused):
    """The case is offered to another bureau, whose decision is awaited."""

    remedy = "Wait for the decision, or ask for the offer to be taken back: withdraw-offer."
    remedy_chinese = "请等待对方接收，或者收回移交。"

    def __init__(self, case_id: str, to_bureau: str) -> None:
        super().__init__(
            f"Case {case_id} is offered to bureau {to_bureau} and cannot change until that is decided.",
            f"诉求 {case_id} 正在移交单位 {to_bureau}，对方接收或者拒收之前不能办理。",
        )


class NotCustodian(Refused):
    """Another bureau is responsible for the case."""

    def __init__(self, case_id: str, with_bureau: str, custody: Custody) -> None:
        self.remedy = f"Ask bureau {with_bureau}, or wait for its conclusion."
        self.remedy_chinese = f"请联系单位 {with_bureau}，或者等待其办理结论。"
        super().__init__(
            f"Case {case_id} is {name(custody)}: bureau {with_bureau} is responsible for it.",
            f"诉求 {case_id} {term(custody)}，由单位 {with_bureau} 负责。",
        )


class RoleNotAllowed(Refused):
    """The act is for others to do."""

    condition = Condition.FORBIDDEN
    field = "header.role"

    def __init__(self, act: type[Act], role: Role, allowed: tuple[Role, ...]) -> None:
        self.remedy = f"It takes the role {' or '.join(map(name, allowed))}."
        self.remedy_chinese = f"须由以下岗位办理：{listed(map(term, allowed))}。"
        super().__init__(
            f"{command(act)} is not for the role {name(role)}.", f"“{term(role)}”岗位无权{act_term(act)}。"
        )


class SamePerson(Refused):
    """Two acts that need two people were tried by one."""

    condition = Condition.FORBIDDEN
    field = "header.actor"
    remedy = "Somebody else must do it."
    remedy_chinese = "请由其他人员办理。"

    def __init__(self, act: type[Act], actor: str, other: Both) -> None:
        super().__init__(
            f"{command(act)} is not for {actor}, who {other.english}.",
            f"{actor} {other.chinese}，不能再由其{act_term(act)}。",
        )


class VersionConflict(Refused):
    """The case has changed since the caller looked."""

    condition = Condition.CONFLICT
    field = "header.expected_version"
    remedy = "Read the case again and decide anew."
    remedy_chinese = "请重新查看该诉求后再办理。"

    def __init__(self, case_id: str, expected: int, actual: int) -> None:
        super().__init__(
            f"Case {case_id} has changed since you looked: it is at version {actual}, not {expected}.",
            f"诉求 {case_id} 已被他人更新：当前版本为 {actual}，不是 {expected}。",
        )


class KeyReused(Refused):
    """A request key came back with another act."""

    condition = Condition.CONFLICT
    field = "header.request_key"
    remedy = "Use a new key for a new act."
    remedy_chinese = "新的操作请使用新的请求标识。"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The request key {key} was used before for a different act.", f"请求标识 {key} 已用于另一项操作。"
        )


class NotTold(Refused):
    """A case leaves the desk and the taxpayer has not been told (§四(一)2)."""

    field = "telling"
    remedy = "Tell the taxpayer, and say what was told."
    remedy_chinese = "请先告知纳税人，并填写告知事项。"

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"Case {case_id} cannot leave the desk before the taxpayer has been told.",
            f"尚未将有关情况告知纳税人，诉求 {case_id} 不能转出。",
        )


class ExtensionTooLate(Refused):
    """An extension was asked for after the deadline (§四(二)1)."""

    remedy = "The deadline stands as missed; complete the case and explain."
    remedy_chinese = "该时限按逾期计算；请尽快办结并说明原因。"

    def __init__(self, case_id: str, due_at: str | None) -> None:
        passed = Both(f"passed at {due_at}", f"已于 {due_at} 届满") if due_at else Both("has passed", "已经届满")
        super().__init__(
            f"The deadline of case {case_id} {passed.english}; an extension is asked for and approved before it.",
            f"诉求 {case_id} 的办理时限{passed.chinese}；延期须在时限届满前申请和批准。",
        )


class ExtensionTooLong(Refused):
    """An extension would take the whole limit past the notice's (§四(二)1)."""

    condition = Condition.INVALID
    field = "workdays"

    def __init__(self, asked: int, limit: int, total_max: int) -> None:
        self.remedy = f"Ask for at most {total_max - limit} working day(s)."
        self.remedy_chinese = f"最多可申请延长 {total_max - limit} 个工作日。"
        super().__init__(
            f"{limit} + {asked} working days would exceed the {total_max} that the notice allows.",
            f"{limit} 个工作日再延长 {asked} 个工作日，超过最长 {total_max} 个工作日的规定。",
        )


class ExtensionOnce(Refused):
    """A second extension (§四(二)1 allows one)."""

    remedy = "Complete the case; a further delay cannot be approved."
    remedy_chinese = "请尽快办结；不能再次批准延期。"

    def __init__(self, case_id: str) -> None:
        super().__init__(f"Case {case_id} has had its extension.", f"诉求 {case_id} 已经延期过一次。")


class NoExtensionAsked(Refused):
    """There is nothing to approve or refuse."""

    remedy = "The handler asks first."
    remedy_chinese = "请先由承办人申请延期。"

    def __init__(self, case_id: str) -> None:
        super().__init__(f"No extension is asked for on case {case_id}.", f"诉求 {case_id} 没有待批准的延期申请。")


class ExtensionPending(Refused):
    """An extension has been asked for and is not decided."""

    remedy = "Wait for the leader's decision."
    remedy_chinese = "请等待领导批示。"

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"An extension is already asked for on case {case_id}.", f"诉求 {case_id} 已提交延期申请，尚未批准。"
        )


class PartsOpen(Refused):
    """Joint handling: not every department has done its part (§四(二)2)."""

    remedy = "Each assisting department completes its part first."
    remedy_chinese = "请先由各协办部门完成协办事项。"

    def __init__(self, case_id: str, departments: tuple[str, ...]) -> None:
        super().__init__(
            f"Case {case_id} cannot be completed: {', '.join(departments)} has not done its part.",
            f"诉求 {case_id} 尚有协办部门未完成，不能办结：{listed(departments)}。",
        )


class NotAPart(Refused):
    """The department has no open part in the joint handling."""

    condition = Condition.INVALID
    field = "header.department"

    def __init__(self, case_id: str, department: str, open_parts: tuple[str, ...]) -> None:
        self.remedy = f"Open parts: {', '.join(open_parts) or 'none'}."
        self.remedy_chinese = f"尚未完成的协办部门：{listed(open_parts) or '无'}。"
        super().__init__(
            f"Department {department} has no open part in case {case_id}.",
            f"部门 {department} 在诉求 {case_id} 中没有待完成的协办事项。",
        )


class UnknownAddressee(Refused):
    """The bureau a case is to go to is not in the tree, or is this one."""

    condition = Condition.INVALID
    field = "final_bureau"
    remedy = "Name another bureau of the tree by its six-digit code."
    remedy_chinese = "请填写其他税务机关的六位单位代码。"

    def __init__(self, code: str) -> None:
        super().__init__(f"A case cannot be referred to {code or '(empty)'}.", f"诉求不能移交单位 {code or '（空）'}。")


class BureauDissolved(Refused):
    """A bureau that has been dissolved takes no new request, and none is sent to it: its successor does (属地管理)."""

    field = "bureau"

    def __init__(self, bureau: str, successor: str) -> None:
        self.bureau = bureau
        self.successor = successor
        self.remedy = f"Turn to bureau {successor}, which carries on for it."
        self.remedy_chinese = f"请改由承接单位 {successor} 办理。"
        super().__init__(f"Bureau {bureau} has been dissolved.", f"单位 {bureau} 已撤并。")


class NotReceived(Refused):
    """A case that no bureau sent cannot be returned."""

    remedy = "Refer it to the bureau in charge instead."
    remedy_chinese = "请改为移交有职责的单位。"

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"Case {case_id} was registered here; there is nobody to return it to.",
            f"诉求 {case_id} 由本单位受理登记，没有可退回的单位。",
        )


class LedgersDisagree(Refused):
    """Write-off before the other ledgers of the case have acknowledged its conclusion (§五(三))."""

    remedy = "It is delivered by itself as soon as the bureau can be reached; try again then."
    remedy_chinese = "网络恢复后系统会自动送达，请届时再销号。"

    def __init__(self, case_id: str, bureaus: tuple[str, ...]) -> None:
        super().__init__(
            f"Case {case_id}: the conclusion has not reached bureau {', '.join(bureaus)} yet.",
            f"诉求 {case_id} 的办理结论尚未送达单位 {listed(bureaus)}，不能对账销号。",
        )


class NotAPair(Refused):
    """Ledgers that share no hand-over by themselves: only a superior's and its subordinate's are compared."""

    condition = Condition.INVALID
    field = "peer"
    remedy = "Name the bureau's superior or one of its direct subordinates."
    remedy_chinese = "请填写本单位的直接上级或直接下级。"

    def __init__(self, bureau: str, peer: str) -> None:
        super().__init__(
            f"The ledgers of bureau {bureau} and of {peer or '(empty)'} are not compared with each other.",
            f"单位 {bureau} 与 {peer or '（空）'} 不是直接上下级，台账不互相对账。",
        )


class MismatchStands(Refused):
    """Write-off while another ledger tells something else of the case, as reconciliation found (§五(三) 对账销号)."""

    remedy = "See `kx reconcile --show`; mend the ledger that is wrong, reconcile again, then write off."
    remedy_chinese = "请用 kx reconcile --show 查看差异，更正有误的台账并重新对账后再销号。"

    def __init__(self, case_id: str, bureaus: tuple[str, ...]) -> None:
        super().__init__(
            f"Case {case_id}: the ledger of bureau {', '.join(bureaus)} does not agree with this one.",
            f"诉求 {case_id} 与单位 {listed(bureaus)} 的台账对账不符，不能销号。",
        )


class DissatisfactionOpen(Refused):
    """A taxpayer who is not satisfied needs a reopening or an explanation (§四(四))."""

    remedy = "Reopen the case, or record the follow-up with an explanation."
    remedy_chinese = "请重新办理，或者在回访备注中说明情况。"

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"Case {case_id} cannot be written off: the taxpayer is not satisfied, and no remark explains it.",
            f"诉求 {case_id} 的纳税人不满意，且未说明情况，不能销号。",
        )


class ImpossibleConclusion(Refused):
    """A conclusion came from a bureau that cannot have concluded the case."""

    condition = Condition.FORBIDDEN
    remedy = "Compare both ledgers: one of them is wrong."
    remedy_chinese = "请核对双方台账，其中一方有误。"

    def __init__(self, case_id: str, from_bureau: str) -> None:
        super().__init__(
            f"Bureau {from_bureau} concludes case {case_id}, which this ledger did not give to it.",
            f"单位 {from_bureau} 报来诉求 {case_id} 的办理结论，但本单位并未将该诉求移交该单位。",
        )


class UnknownDepartment(Refused):
    """The bureau has no such department."""

    condition = Condition.INVALID

    def __init__(self, department: str, field: str, known: tuple[str, ...]) -> None:
        self.field = field
        self.remedy = f"Its departments are {', '.join(known)}."
        self.remedy_chinese = f"本单位的部门有：{listed(known)}。"
        super().__init__(
            f"{field}: this bureau has no department {department}.",
            f"{field_term(field)}：本单位没有部门 {department}。",
        )


class UnknownOfficer(Refused):
    """Who acts is not on the bureau's list of officers."""

    condition = Condition.FORBIDDEN
    field = "header.actor"
    remedy = "Check the officer's number, or have the bureau's list of officers completed."
    remedy_chinese = "请核对工号，或者由管理员补充本单位人员名单。"

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} is not an officer of this bureau.", f"本单位人员名单中没有 {actor}。")


class RoleNotHeld(Refused):
    """Who acts does not have the role that is claimed."""

    condition = Condition.FORBIDDEN
    field = "header.role"

    def __init__(self, actor: str, role: Role, held: tuple[Role, ...]) -> None:
        self.remedy = f"The roles of {actor} are {', '.join(map(name, held)) or 'none'}."
        self.remedy_chinese = f"{actor} 的岗位是：{listed(map(term, held)) or '无'}。"
        super().__init__(f"{actor} does not have the role {name(role)}.", f"{actor} 没有{term(role)}岗位。")


class NotInDepartment(Refused):
    """Who acts does not belong to the department that is named."""

    condition = Condition.FORBIDDEN
    field = "header.department"

    def __init__(self, actor: str, department: str, own: tuple[str, ...]) -> None:
        self.remedy = f"{actor} belongs to {', '.join(own) or 'none'}."
        self.remedy_chinese = f"{actor} 所在部门：{listed(own) or '无'}。"
        super().__init__(
            f"{actor} does not belong to department {department}.", f"{actor} 不是部门 {department} 的人员。"
        )


class NotOverseeing(Refused):
    """A deputy head decides for the departments that he is in charge of (§四(二)1)."""

    condition = Condition.FORBIDDEN
    field = "header.actor"

    def __init__(self, actor: str, department: str, overseen: tuple[str, ...]) -> None:
        self.remedy = f"{actor} is in charge of {', '.join(overseen)}; ask the deputy head in charge of {department}."
        self.remedy_chinese = f"{actor} 分管：{listed(overseen)}；请由 {department} 的分管局领导审批。"
        super().__init__(
            f"{actor} is not the deputy head in charge of department {department}.",
            f"{actor} 不是部门 {department} 的分管局领导。",
        )


class NotInCharge(Refused):
    """The case is for another department of the bureau to handle (§二(四): 谁负责、谁主办)."""

    condition = Condition.FORBIDDEN
    field = "header.department"

    def __init__(self, case_id: str, department: str, in_charge: tuple[str, ...]) -> None:
        self.remedy = f"Department {', '.join(in_charge)} is in charge; tax service can dispatch it elsewhere."
        self.remedy_chinese = f"该诉求由部门 {listed(in_charge)} 承办；如需调整，请由纳税服务部门重新分办。"
        super().__init__(
            f"Department {department} is not in charge of case {case_id}.",
            f"部门 {department} 不是诉求 {case_id} 的承办部门。",
        )


class ExtensionNotExplained(Refused):
    """A jointly handling department got an extension and has not told the taxpayer why (§四(二)2)."""

    remedy = "Tell the taxpayer the reason, and record it: explain-extension."
    remedy_chinese = "请先向纳税人说明延期原因并登记（延期告知）。"

    def __init__(self, case_id: str, department: str) -> None:
        super().__init__(
            f"The taxpayer of case {case_id} has not been told why department {department} takes longer.",
            f"诉求 {case_id}：部门 {department} 延期的原因尚未向纳税人说明。",
        )


class NothingToExplain(Refused):
    """No extension awaits its explanation to the taxpayer."""

    remedy = "An approved extension of joint handling is explained once, by the department that got it."
    remedy_chinese = "联合办理延期获批后，由延期的部门向纳税人说明一次即可。"

    def __init__(self, case_id: str, department: str) -> None:
        super().__init__(
            f"Department {department} has no extension of case {case_id} to explain.",
            f"诉求 {case_id}：部门 {department} 没有待说明的延期。",
        )


class AlreadyAPart(Refused):
    """The department takes part in the joint handling already."""

    condition = Condition.INVALID
    field = "to_department"
    remedy = "Name a department that does not take part yet."
    remedy_chinese = "请填写尚未参与联合办理的部门。"

    def __init__(self, case_id: str, department: str) -> None:
        super().__init__(
            f"Department {department} takes part in the joint handling of case {case_id} already.",
            f"部门 {department} 已参与诉求 {case_id} 的联合办理。",
        )


class CannotLink(Refused):
    """Two cases cannot be linked."""

    condition = Condition.INVALID
    field = "lead_case_id"

    def __init__(self, case_id: str, lead_case_id: str, why: Both, remedy: Both) -> None:
        self.remedy, self.remedy_chinese = remedy
        super().__init__(
            f"Case {case_id or 'to be registered'} cannot be linked to {lead_case_id}: {why.english}.",
            f"诉求 {case_id or '（新登记）'} 不能并入 {lead_case_id}：{why.chinese}。",
        )


class NotLinked(Refused):
    """The case is not linked to any other."""

    remedy = "There is nothing to undo."
    remedy_chinese = "无需解除。"

    def __init__(self, case_id: str) -> None:
        super().__init__(f"Case {case_id} is not linked to another.", f"诉求 {case_id} 未并入其他诉求。")


class ReturnLimitReached(Refused):
    """A case has been sent back as often as it may be; a superior decides who handles it (§二(四))."""

    def __init__(self, case_id: str, returns: int, superior: str, *, here: bool) -> None:
        if here:
            self.remedy = "This bureau is the lowest common superior: its leader decides who handles the case: rule."
            self.remedy_chinese = "本单位是争议单位的最低共同上级，请由局领导裁定。"
        else:
            self.remedy = f"Handle it, or ask bureau {superior} to decide: ask-ruling."
            self.remedy_chinese = f"请直接办理，或者提请共同上级单位 {superior} 裁定。"
        super().__init__(
            f"Case {case_id} has been sent back {returns} times; it is not sent back again.",
            f"诉求 {case_id} 已被退回 {returns} 次，不得再次退回。",
        )


class RulingBinds(Refused):
    """A superior has decided that this bureau handles the case (§二(四))."""

    def __init__(self, case_id: str, ruled_by: str) -> None:
        self.remedy = "Handle it; only the superior itself can decide otherwise."
        self.remedy_chinese = "请按裁定办理；如需变更，只能由裁定单位另行决定。"
        super().__init__(
            f"Bureau {ruled_by} has ruled that case {case_id} is handled here.",
            f"上级单位 {ruled_by} 已裁定诉求 {case_id} 由本单位办理。",
        )


class NotInDispute(Refused):
    """A ruling about a case that has not been sent back as often as it may be (§二(四))."""

    def __init__(self, case_id: str, returns: int, returns_max: int) -> None:
        self.remedy = "Handle it, return it with the reason, or refer it to the bureau in charge."
        self.remedy_chinese = "请直接办理、说明原因后退回，或者移交有职责的单位。"
        super().__init__(
            f"Case {case_id} is not in dispute: it has been sent back {returns} time(s), a ruling follows after "
            f"{returns_max}.",
            f"诉求 {case_id} 已被退回 {returns} 次，退回满 {returns_max} 次方可裁定。",
        )


class NothingToRule(Refused):
    """The dispute is not this bureau's to decide: one of its parties is not under it (§二(四))."""

    def __init__(self, case_id: str, superior: str) -> None:
        self.remedy = f"Bureau {superior} is the lowest common superior of them all: ask-ruling."
        self.remedy_chinese = f"请提请争议各方的最低共同上级单位 {superior} 裁定。"
        super().__init__(
            f"Case {case_id} is in dispute between bureaus that are not all under this one.",
            f"诉求 {case_id} 的争议单位不全是本单位或者本单位的下级，本单位不能裁定。",
        )


class NotBelow(Refused):
    """A ruling names a bureau that is not under the one that rules."""

    condition = Condition.INVALID
    field = "final_bureau"
    remedy = "Name this bureau or one under it."
    remedy_chinese = "请填写本单位或者所属下级单位。"

    def __init__(self, code: str) -> None:
        super().__init__(
            f"Bureau {code or '(empty)'} is not under this one.", f"单位 {code or '（空）'} 不是本单位的下级。"
        )


class TooManyAttachments(Refused):
    """The case has as many files as a case may have."""

    remedy = "Put several files into one archive and attach that."
    remedy_chinese = "请将多个文件合并或者打包后添加。"

    def __init__(self, case_id: str, most: int) -> None:
        super().__init__(
            f"Case {case_id} has {most} attachments, the most that a case may have.",
            f"诉求 {case_id} 已有 {most} 个附件，达到上限。",
        )


class OverridePending(Refused):
    """An override has been asked for and is not decided."""

    remedy = "Wait for the leader's decision."
    remedy_chinese = "请等待局领导审批。"

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"An override is already asked for on case {case_id}.", f"诉求 {case_id} 已提出特批申请，尚未审批。"
        )


class NoOverrideAsked(Refused):
    """There is no override to approve or refuse."""

    remedy = "Tax service asks first."
    remedy_chinese = "请先由纳税服务部门提出申请。"

    def __init__(self, case_id: str) -> None:
        super().__init__(f"No override is asked for on case {case_id}.", f"诉求 {case_id} 没有待审批的特批申请。")


class OverrideLapsed(Refused):
    """An override was asked for so long ago that its reason may not hold any more."""

    condition = Condition.STATE
    remedy = "Have it asked for again, with the reason as it is now."
    remedy_chinese = "请说明当前理由，重新提出申请。"

    def __init__(self, case_id: str, workdays: int) -> None:
        super().__init__(
            f"The override of case {case_id} was not decided within {workdays} working days.",
            f"诉求 {case_id} 的特批申请超过 {workdays} 个工作日未审批，已失效。",
        )


class NothingToOverride(Refused):
    """The rule does not stand against this case."""

    condition = Condition.INVALID
    field = "override"
    remedy = "Do the act itself."
    remedy_chinese = "可直接办理，无需特批。"

    def __init__(self, case_id: str) -> None:
        super().__init__(
            f"Nothing stands against case {case_id} that an override would lift.",
            f"诉求 {case_id} 没有需要特批的事项。",
        )
