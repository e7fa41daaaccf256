"""IssueService: common issues over gRPC."""

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from hub.issues import catalogue, kept
from hub.issues.catalogue import Issue, Wanted
from hub.issues.clusters import CASES_MIN, TERM_CASES_MIN
from hub.issues.find import Findings, Found, Period, find_issues
from hub.ledgers import Ledgers
from hub.servicer import EmptyPeriod, counted_scope, day_of
from hub.store import Store
from hub.worker import Worker
from kuaixiang.domain.authority import Subject
from kuaixiang.domain.errors import FieldMalformed, FieldMissing, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.runtime.server import Context, admit
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import issues_pb2 as pb
from kuaixiang.wire.v1.issues_pb2_grpc import IssueServiceServicer

PERIOD_DAYS_MAX: Final = 366
LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 200


class Issues(IssueServiceServicer):
    """Answers IssueService for a hub. Issues are found for one caller at a time: it takes a processor and memory."""

    def __init__(self, *, store: Store, worker: Worker, ledgers: Ledgers, now: Callable[[], datetime]) -> None:
        self._store = store
        self._worker = worker
        self._ledgers = ledgers
        self._now = now
        self._finding = asyncio.Lock()

    def _admit(self, context: Context, rpc: str) -> None:
        """What is confirmed here is of the hub's own scope."""
        admit(context, rpc, Subject(bureau=self._store.scope), self._store.tree)

    async def FindIssues(self, request: pb.FindIssuesRequest, context: Context) -> pb.FindIssuesResponse:
        """Requests of a period that ask the same, most first."""
        scope = counted_scope(request.scope, self._store.scope, self._store.tree)
        admit(context, "FindIssues", Subject(bureau=scope), self._store.tree)
        wanted = _period(request, scope)
        async with self._finding:
            findings = await find_issues(store=self._store, tree=self._store.tree, ledgers=self._ledgers, wanted=wanted)
            await self._worker.run(kept.keep, self._store, wanted, findings, self._now())
        return _findings(wanted, findings)

    async def ConfirmIssue(self, request: pb.ConfirmIssueRequest, context: Context) -> pb.ConfirmIssueResponse:
        """Makes an issue of its own number, or changes a confirmed one."""
        self._admit(context, "ConfirmIssue")
        wanted = Wanted(
            issue_id=request.issue_id,
            title=request.title.strip(),
            owner=request.owner.strip(),
            standard_answer=request.standard_answer,
            terms=tuple(request.terms),
            actor=request.actor,
        )
        catalogue.check(wanted)
        result = await self._worker.run(catalogue.confirm, self._store, wanted, self._now())
        if isinstance(result, Refused):
            raise result
        return pb.ConfirmIssueResponse(issue=_issue(result))

    async def ListIssues(self, request: pb.ListIssuesRequest, context: Context) -> pb.ListIssuesResponse:
        """The confirmed issues, latest first, in pages."""
        self._admit(context, "ListIssues")
        found, more = await asyncio.to_thread(catalogue.issues, self._store, request.page_size, request.page_token)
        return pb.ListIssuesResponse(issues=[_issue(issue) for issue in found], next_page_token=more)

    async def GetConfirmedIssue(
        self, request: pb.GetConfirmedIssueRequest, context: Context
    ) -> pb.GetConfirmedIssueResponse:
        """One confirmed issue."""
        self._admit(context, "GetConfirmedIssue")
        return pb.GetConfirmedIssueResponse(
            issue=_issue(await asyncio.to_thread(catalogue.issue_of, self._store, request.issue_id))
        )


# ---------------------------------------------------------------- between the wire and ours


def _period(request: pb.FindIssuesRequest, scope: str) -> Period:
    from_day, to_day = _day("from_day", request.from_day), _day("to_day", request.to_day)
    if to_day < from_day:
        raise EmptyPeriod(from_day, to_day)
    if (to_day - from_day).days >= PERIOD_DAYS_MAX:
        what = Both(f"is more than {PERIOD_DAYS_MAX} days after from_day", f"距开始日期超过 {PERIOD_DAYS_MAX} 天")
        raise FieldMalformed("to_day", what, Both("Ask for a shorter period.", "请缩短查询期间。"))
    cases_min = request.cases_min or CASES_MIN
    if cases_min < TERM_CASES_MIN:
        what = Both(f"is {cases_min}", f"为 {cases_min}")
        remedy = Both(
            "What one case says is no common issue: ask for 2 or more.", "仅有一件的不是共性诉求，请填写 2 以上。"
        )
        raise FieldMalformed("cases_min", what, remedy)
    return Period(
        scope=scope,
        from_day=from_day,
        to_day=to_day,
        cases_min=cases_min,
        limit=min(request.limit or LIMIT_DEFAULT, LIMIT_MAX),
        examples=request.examples,
    )


def _day(field: str, text: str) -> date:
    day = day_of(field, text)
    if day is None:
        raise FieldMissing(field, Both("issues are found in a period", "须明确分析期间"))
    return day


def _findings(wanted: Period, findings: Findings) -> pb.FindIssuesResponse:
    first, last = wanted.before
    return pb.FindIssuesResponse(
        issues=[_found(found) for found in findings.issues],
        cases=findings.cases,
        cases_in_issues=findings.cases_in_issues,
        cases_before=findings.cases_before,
        before_from_day=first.isoformat(),
        before_to_day=last.isoformat(),
        one_of=findings.one_of,
        bureaus_read=findings.bureaus_read,
        unreadable=findings.unreadable,
    )


def _found(found: Found) -> pb.FoundIssue:
    issue = pb.FoundIssue(
        terms=found.terms,
        cases=found.cases,
        cases_before=found.cases_before,
        bureaus=found.bureaus,
        known_as=found.known_as,
    )
    for bureau, cases in found.by_subordinate:
        issue.by_subordinate.add(bureau=bureau, cases=cases)
    for number, cases in found.by_category:
        category: Any = number
        issue.by_category.add(category=category, cases=cases)
    for case, text in found.examples:
        issue.examples.add(bureau=case.bureau, case_id=case.case_id, text=text)
    return issue


def _issue(issue: Issue) -> pb.Issue:
    return pb.Issue(
        issue_id=issue.issue_id,
        title=issue.title,
        owner=issue.owner,
        standard_answer=issue.standard_answer,
        terms=issue.terms,
        confirmed_at=timestamp(issue.confirmed_at),
        confirmed_by=issue.confirmed_by,
        changed_at=timestamp(issue.changed_at) if issue.changed_at else None,
        changed_by=issue.changed_by,
    )
