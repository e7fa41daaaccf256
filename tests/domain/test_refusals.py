"""What refusals say, word by word, in both languages."""

from collections.abc import Callable

import pytest

from kuaixiang.domain import acts, errors
from kuaixiang.domain.authority import Caller, NotAuthorised, Subject, decide_access
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.lifecycle import check_role, stage_after
from kuaixiang.domain.registration import at_most, check_department, check_registration
from kuaixiang.domain.words import Custody, Role, Stage
from tests.authority import TREE

CASE = "330106-2026-0000001"
NUMBER = "taxpayer_number is not a taxpayer number: the taxpayer identification number is not valid"


def registration(**wrong: str) -> Callable[[], None]:
    told = {"taxpayer_name": "杭州某商行", "contact": "13800138000", "taxpayer_number": "", "text": "发票无法开具"}
    return lambda: check_registration(**told | wrong)


SAID: list[tuple[Callable[[], object], str, str, str, str]] = [
    (
        registration(taxpayer_name=" "),
        "taxpayer_name is required: §四(一)1 lists 纳税人名称.",
        "Fill in taxpayer_name.",
        "纳税人名称不能为空：通知四（一）1要求登记纳税人名称。",
        "请填写纳税人名称。",
    ),
    (
        registration(contact="12"),
        "contact is not a contact one could use.",
        "Give a mobile number, a landline with its area code, or an e-mail address.",
        "联系方式不是有效的联系方式。",
        "请填写手机号码、带区号的固定电话或者电子邮箱。",
    ),
    (
        registration(taxpayer_number="1" * 17),
        f"{NUMBER}: it must have 18 characters.",
        "Copy the 18 characters from the business licence, or leave the field empty.",
        "统一社会信用代码有误：应为18位。",
        "请按营业执照填写18位代码，没有的可不填。",
    ),
    (
        registration(taxpayer_number=make_taxpayer_number("330106", 7)[:-1] + "?"),
        f"{NUMBER}: only digits and capital letters other than I, O, S, V and Z occur in it (character 18).",
        "Copy the 18 characters from the business licence, or leave the field empty.",
        "统一社会信用代码有误：只能由数字和大写字母组成，且不含 I、O、S、V、Z（第18位）。",
        "请按营业执照填写18位代码，没有的可不填。",
    ),
    (
        lambda: at_most("诉" * 10_001, "text", 10_000),
        "text has 10001 characters.",
        "At most 10000 fit; attach the rest.",
        "诉求内容共 10001 个字，超过上限。",
        "最多 10000 个字，其余内容请作为附件。",
    ),
    (
        lambda: check_department("税政", "to_department"),
        "to_department is not a department code.",
        "Use lower-case letters, digits and hyphens, at most 32.",
        "承办部门不是有效的部门代码。",
        "请使用小写字母、数字和连字符，以字母开头，最多32个字符。",
    ),
    (
        lambda: refuse(
            errors.ActNotAllowed(CASE, Stage.COMPLETED, acts.AcceptDirectly, (acts.GiveFeedback, acts.Defer))
        ),
        "accept is not possible: case 330106-2026-0000001 is completed.",
        "At this stage one can: feedback, defer.",
        "诉求 330106-2026-0000001 当前为“已办结”，不能直接受理。",
        "当前环节可以：反馈、列入待条件成熟。",
    ),
    (
        lambda: stage_after(CASE, Stage.WRITTEN_OFF, acts.WriteOff()),
        "write-off is not possible: case 330106-2026-0000001 is written-off.",
        "Nothing can be done with it in this ledger.",
        "诉求 330106-2026-0000001 当前为“已销号”，不能销号。",
        "本单位台账中不能再对其进行任何操作。",
    ),
    (
        lambda: check_role(acts.Dispatch(to_department="vat"), Role.REGISTRAR),
        "dispatch is not for the role registrar.",
        "It takes the role tax-service.",
        "“受理人”岗位无权分办。",
        "须由以下岗位办理：纳税服务部门。",
    ),
    (
        lambda: check_role(acts.ApproveExtension(), Role.HANDLER),
        "approve-extension is not for the role handler.",
        "It takes the role deputy-head or bureau-head.",
        "“承办人”岗位无权批准延期。",
        "须由以下岗位办理：分管局领导、主要领导。",
    ),
    (
        lambda: decide_access(Caller(offices=frozenset({"330106"})), "ForwardCase", Subject(bureau="330100"), TREE),
        "This certificate does not allow its holder to work on the cases of bureau 330100.",
        "Use a certificate for an office of bureau 330100.",
        "该证书无权办理单位 330100 的诉求。",
        "请使用单位 330100 的办公证书。",
    ),
    (
        lambda: refuse(errors.NotCustodian(CASE, "330000", Custody.RELEASED)),
        "Case 330106-2026-0000001 is released: bureau 330000 is responsible for it.",
        "Ask bureau 330000, or wait for its conclusion.",
        "诉求 330106-2026-0000001 已移交，由单位 330000 负责。",
        "请联系单位 330000，或者等待其办理结论。",
    ),
    (
        lambda: refuse(errors.NotTold(CASE)),
        "Case 330106-2026-0000001 cannot leave the desk before the taxpayer has been told.",
        "Tell the taxpayer, and say what was told.",
        "尚未将有关情况告知纳税人，诉求 330106-2026-0000001 不能转出。",
        "请先告知纳税人，并填写告知事项。",
    ),
    (
        lambda: refuse(errors.ExtensionTooLong(6, 5, 10)),
        "5 + 6 working days would exceed the 10 that the notice allows.",
        "Ask for at most 5 working day(s).",
        "5 个工作日再延长 6 个工作日，超过最长 10 个工作日的规定。",
        "最多可申请延长 5 个工作日。",
    ),
    (
        lambda: refuse(errors.ExtensionTooLate("330106-1", "2026-10-12 23:59:59+08:00")),
        "The deadline of case 330106-1 passed at 2026-10-12 23:59:59+08:00; an extension is asked for and approved before it.",
        "The deadline stands as missed; complete the case and explain.",
        "诉求 330106-1 的办理时限已于 2026-10-12 23:59:59+08:00 届满；延期须在时限届满前申请和批准。",
        "该时限按逾期计算；请尽快办结并说明原因。",
    ),
    (
        lambda: refuse(errors.ExtensionTooLate("330106-1", None)),
        "The deadline of case 330106-1 has passed; an extension is asked for and approved before it.",
        "The deadline stands as missed; complete the case and explain.",
        "诉求 330106-1 的办理时限已经届满；延期须在时限届满前申请和批准。",
        "该时限按逾期计算；请尽快办结并说明原因。",
    ),
    (
        lambda: refuse(errors.DissatisfactionOpen(CASE)),
        "Case 330106-2026-0000001 cannot be written off: the taxpayer is not satisfied, and no remark explains it.",
        "Reopen the case, or record the follow-up with an explanation.",
        "诉求 330106-2026-0000001 的纳税人不满意，且未说明情况，不能销号。",
        "请重新办理，或者在回访备注中说明情况。",
    ),
    (
        lambda: refuse(errors.PartsOpen(CASE, ("collection", "legal"))),
        "Case 330106-2026-0000001 cannot be completed: collection, legal has not done its part.",
        "Each assisting department completes its part first.",
        "诉求 330106-2026-0000001 尚有协办部门未完成，不能办结：collection、legal。",
        "请先由各协办部门完成协办事项。",
    ),
    (
        lambda: refuse(errors.NotInDispute(CASE, 1, 2)),
        "Case 330106-2026-0000001 is not in dispute: it has been sent back 1 time(s), a ruling follows after 2.",
        "Handle it, return it with the reason, or refer it to the bureau in charge.",
        "诉求 330106-2026-0000001 已被退回 1 次，退回满 2 次方可裁定。",
        "请直接办理、说明原因后退回，或者移交有职责的单位。",
    ),
    (
        lambda: refuse(errors.LedgersDisagree(CASE, ("330000", "330100"))),
        "Case 330106-2026-0000001: the conclusion has not reached bureau 330000, 330100 yet.",
        "It is delivered by itself as soon as the bureau can be reached; try again then.",
        "诉求 330106-2026-0000001 的办理结论尚未送达单位 330000、330100，不能对账销号。",
        "网络恢复后系统会自动送达，请届时再销号。",
    ),
]


def refuse(refusal: Refused) -> None:
    raise refusal


@pytest.mark.parametrize(
    ("do", "sentence", "remedy", "chinese", "remedy_chinese"),
    SAID,
    ids=lambda said: said[:32] if isinstance(said, str) else "do",
)
def test_a_refusal_says_exactly_this(
    do: Callable[[], object], sentence: str, remedy: str, chinese: str, remedy_chinese: str
) -> None:
    with pytest.raises(Refused) as caught:
        do()
    refusal = caught.value
    assert (sentence, remedy) == (str(refusal), refusal.remedy)
    assert (chinese, remedy_chinese) == (refusal.chinese, refusal.remedy_chinese)


def test_a_bureau_that_is_not_named_is_called_empty_in_both_languages() -> None:
    with pytest.raises(NotAuthorised) as caught:
        decide_access(Caller(), "ForwardCase", Subject(bureau=""), TREE)
    assert "bureau (empty)" in str(caught.value)
    assert "单位 （空） 的诉求" in caught.value.chinese
