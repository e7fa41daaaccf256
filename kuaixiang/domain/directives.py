"""Directives: what headquarters publishes to every bureau, and what a new version of the calendar must be like.

What a new version of the tree must be like is in `kuaixiang.domain.succession`.
"""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both, listed, name, term
from kuaixiang.domain.registration import NAME_CHARACTERS_MAX, REFERENCE_CHARACTERS_MAX, at_most, required
from kuaixiang.domain.words import DirectiveKind, Role

PUBLISHERS: Final = {
    DirectiveKind.CALENDAR: frozenset({Role.SUPERVISOR, Role.BUREAU_HEAD}),
    DirectiveKind.ISSUE: frozenset({Role.SUPERVISOR, Role.BUREAU_HEAD, Role.TAX_SERVICE}),
    DirectiveKind.TREE: frozenset({Role.SUPERVISOR, Role.BUREAU_HEAD}),
}
"""Who publishes at headquarters. Common issues are found and answered by tax service (§四(五))."""
ANSWER_CHARACTERS_MAX: Final = 10_000

_EDITION: Final = re.compile(r"\d{1,9}([.-]\d{1,9}){0,3}")
_ISSUE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_DAY: Final = timedelta(days=1)

Edition = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """共性诉求, confirmed, with its standard answer (统一答复口径). None of it is private."""

    issue_id: str
    title: str
    owner: str
    standard_answer: str


class NotForThisRole(Refused):
    """A directive is published by others."""

    condition = Condition.FORBIDDEN
    field = "header.role"

    def __init__(self, kind: DirectiveKind, role: Role) -> None:
        allowed = sorted(PUBLISHERS[kind])
        self.remedy = f"It takes the role {' or '.join(map(name, allowed))}."
        self.remedy_chinese = f"须由以下岗位发布：{listed(map(term, allowed))}。"
        super().__init__(
            f"Publishing to every bureau ({name(kind)}) is not for the role {name(role)}.",
            f"“{term(role)}”岗位无权发布{term(kind)}。",
        )


class NotHeadquarters(Refused):
    """Only headquarters publishes directives."""

    condition = Condition.FORBIDDEN
    field = "header.bureau"
    remedy = "Ask headquarters to publish it."
    remedy_chinese = "请报税务总局发布。"

    def __init__(self, bureau: str, headquarters: str) -> None:
        super().__init__(
            f"Bureau {bureau} cannot publish to every bureau; only {headquarters} does.",
            f"单位 {bureau} 不能向各级税务机关发布，只有 {headquarters} 可以。",
        )


class CalendarUnusable(Refused):
    """The text of a calendar is not one; `problem` names the line."""

    condition = Condition.INVALID
    field = "calendar"
    remedy = "Correct the file; `kx calendar check FILE` names its faults without publishing."
    remedy_chinese = "请更正文件；可先用 kx calendar check 检查。"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The calendar cannot be used: {problem}.", f"工作日历无法使用：{problem}。")


class CalendarUnnumbered(Refused):
    """A calendar's version cannot be compared with others."""

    condition = Condition.INVALID
    field = "calendar"
    remedy = "Write the version as numbers with points between, such as 2027.1."
    remedy_chinese = "版本号请写成以点分隔的数字，例如 2027.1。"

    def __init__(self, version: str) -> None:
        super().__init__(
            f"The calendar's version {version!r} cannot be compared with others.",
            f"工作日历版本“{version}”无法比较先后。",
        )


class CalendarNotNewer(Refused):
    """A calendar is not of a higher version than the one in force."""

    field = "calendar"

    def __init__(self, version: str, in_force: str) -> None:
        self.remedy = f"Give it a version higher than {in_force}."
        self.remedy_chinese = f"请使用高于 {in_force} 的版本号。"
        super().__init__(
            f"Calendar {version} is not newer than {in_force}, which is in force.",
            f"工作日历 {version} 不比现行的 {in_force} 更新。",
        )


class CalendarForgetsDays(Refused):
    """A calendar leaves out days that are published."""

    field = "calendar"

    def __init__(self, new: WorkingCalendar, in_force: WorkingCalendar) -> None:
        self.remedy = f"Let it run from {in_force.first} or earlier to {in_force.horizon} or later."
        self.remedy_chinese = f"日历须覆盖 {in_force.first} 至 {in_force.horizon}。"
        super().__init__(
            f"Calendar {new.version} runs from {new.first} to {new.horizon} and leaves out days that "
            f"{in_force.version} has published.",
            f"工作日历 {new.version} 的范围是 {new.first} 至 {new.horizon}，遗漏了 {in_force.version} 已公布的日期。",
        )


class CalendarChangesPast(Refused):
    """A calendar says otherwise of a day that is over: deadlines have been met and missed by what it was."""

    field = "calendar"

    def __init__(self, day: date, in_force: str) -> None:
        self.remedy = f"Leave {day} as it is in {in_force}; only days to come may change."
        self.remedy_chinese = f"请保持 {day} 与 {in_force} 一致，只能调整今后的日期。"
        super().__init__(f"The calendar changes {day}, which is over.", f"工作日历更改了已经过去的日期 {day}。")


def edition(version: str) -> Edition:
    """A version as numbers that compare: 2026.10, or 2026-10, is after 2026.9; empty for one that is not numbered."""
    return tuple(map(int, version.replace("-", ".").split("."))) if _EDITION.fullmatch(version) else ()


def check_publisher(kind: DirectiveKind, bureau: str, headquarters: str, role: Role) -> None:
    """Raises `NotHeadquarters`, `NotForThisRole`."""
    if bureau != headquarters:
        raise NotHeadquarters(bureau, headquarters)
    if role not in PUBLISHERS[kind]:
        raise NotForThisRole(kind, role)


def check_amendment(new: WorkingCalendar, in_force: WorkingCalendar, today: date) -> None:
    """Whether a calendar may follow the one in force, on that day in Shanghai.

    Raises `CalendarUnnumbered`, `CalendarNotNewer`, `CalendarForgetsDays`, `CalendarChangesPast`.
    """
    number = edition(new.version)
    if not number:
        raise CalendarUnnumbered(new.version)
    if number <= edition(in_force.version):
        raise CalendarNotNewer(new.version, in_force.version)
    if new.first > in_force.first or new.horizon < in_force.horizon:
        raise CalendarForgetsDays(new, in_force)
    day = in_force.first
    while day < min(today, in_force.horizon + _DAY):
        if new.is_working(day) is not in_force.is_working(day):
            raise CalendarChangesPast(day, in_force.version)
        day += _DAY


def check_issue(issue: Issue) -> None:
    """Raises `FieldMissing`, `FieldMalformed`."""
    check_issue_id(issue.issue_id)
    required(issue.title, "title", Both("officers know an issue by it", "便于各单位识别"))
    at_most(issue.title, "title", NAME_CHARACTERS_MAX)
    required(issue.owner, "owner", Both("somebody answers for the answer", "须明确负责单位"))
    at_most(issue.owner, "owner", REFERENCE_CHARACTERS_MAX)
    required(issue.standard_answer, "standard_answer", Both("it is what is published", "发布的就是统一答复口径"))
    at_most(issue.standard_answer, "standard_answer", ANSWER_CHARACTERS_MAX)


def check_issue_id(issue_id: str) -> None:
    """Raises `FieldMissing`, `FieldMalformed`."""
    required(issue_id, "issue_id", Both("cases are linked by it", "诉求凭编号关联"))
    if not _ISSUE_ID.fullmatch(issue_id):
        raise FieldMalformed(
            "issue_id",
            Both("is not the number of a common issue", "不是共性诉求编号"),
            Both("Copy it from the list of issues, such as GX-2026-0001.", "请照共性诉求清单填写，如 GX-2026-0001。"),
        )
