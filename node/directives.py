"""Directives: what headquarters has published, as this node knows it; published here when this node is headquarters'.

A directive is kept in the bytes that headquarters signed, shown to officers, and handed on to whoever asks. A calendar
that is newer than the one in force is put in force: each bureau of the node records that it has adopted it, in the
transaction in which it is kept, and the sweep computes the open deadlines again. Which calendar is in force after a
restart follows from what is kept.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.desk import Context
from kuaixiang.domain.directives import (
    CalendarUnusable,
    Issue,
    check_amendment,
    check_issue,
    check_publisher,
    edition,
)
from kuaixiang.domain.errors import Condition, FieldMalformed, FieldMissing, Refused
from kuaixiang.domain.events import CalendarAdopted, DirectivePublished
from kuaixiang.domain.labels import Both
from kuaixiang.domain.words import DirectiveKind
from kuaixiang.facts import FactsError, parse_calendar
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.wire.v1 import directive_pb2, referral_pb2
from node.federation.seal import Seal
from node.ledger import queries
from node.ledger.ledger import Draft, Work
from node.office import Header, Noted, Office

DIRECTIVE_BYTES_MAX: Final = 512 * 1024
"""A calendar of twenty years is some 60 KB."""
ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Directives in one answer, well below gRPC's four megabytes; whoever lacks more asks again."""

KEPT: Final = Counter("kx_directives_kept_total", "Directives of headquarters that were new here.", ["kind"])
REFUSED: Final = Counter(
    "kx_directives_refused_total",
    "Directives that a superior's node offered and that were not taken: forged or broken.",
)
IN_FORCE: Final = Gauge(
    "kx_calendar_in_force", "1 for the version of the working calendar that deadlines are computed from.", ["version"]
)

_log: Final = structlog.get_logger(__name__)

Subject = tuple[int, str]
"""Kind, and what of that kind."""


class UnknownIssue(Refused):
    """Headquarters has published no such issue, as far as this node knows."""

    condition = Condition.MISSING
    field = "issue_id"
    remedy = "Check the number; what was published in the last minutes may still be on its way."
    remedy_chinese = "请核对编号；刚刚发布的内容可能尚未送达。"

    def __init__(self, issue_id: str) -> None:
        super().__init__(f"There is no common issue {issue_id}.", f"没有编号为 {issue_id} 的共性诉求。")


@dataclass(frozen=True, slots=True)
class Published:
    """A directive: what it says, and the bytes that headquarters signed."""

    content: directive_pb2.Directive
    signed: directive_pb2.SignedDirective

    @property
    def about(self) -> Subject:
        """What it is about: of two about the same the later stands."""
        return (int(self.content.kind), self.content.subject)


class Directives:
    """The directives of a node. Reads what is kept; `listeners` are told that something new is there."""

    def __init__(self, office: Office, seal: Seal) -> None:
        self.listeners: list[Callable[[], None]] = []
        self._office = office
        self._seal = seal
        self._root = office.place.tree.root
        self._latest: dict[Subject, Published] = {}
        self._changing = asyncio.Lock()
        for row in queries.directives(office.ledger.database):
            signature = referral_pb2.Signature.FromString(row.signature)
            signed = directive_pb2.SignedDirective(directive=row.directive, signature=signature)
            published = Published(directive_pb2.Directive.FromString(row.directive), signed)
            self._latest[published.about] = published
            if row.kind == DirectiveKind.CALENDAR:
                self._put_in_force(self._newer_calendar(published))
        _show_in_force(office.place.calendar)

    # ------------------------------------------------------------ publishing, at headquarters

    async def publish_calendar(self, header: Header, text: str) -> Noted:
        """Publishes a version of the working calendar in the form of its files; every bureau adopts it.

        Raises `NotHeadquarters`, `NotForThisRole`, `CalendarUnusable`, `CalendarUnnumbered`, `CalendarNotNewer`,
        `CalendarForgetsDays`, `CalendarChangesPast` and what every act of a person does.
        """
        check_publisher(DirectiveKind.CALENDAR, header.bureau, self._root, header.role)
        calendar = calendar_of(text)

        def check(context: Context) -> None:
            check_amendment(calendar, context.calendar, context.calendar.day_of(context.now))

        content = directive_pb2.Directive(calendar_version=calendar.version, calendar=text)
        return await self._publish(header, DirectiveKind.CALENDAR, "", content, check)

    async def publish_issue(self, header: Header, issue: Issue) -> Noted:
        """Publishes a confirmed common issue, or a new wording of one.

        Raises `NotHeadquarters`, `NotForThisRole`, `FieldMissing`, `FieldMalformed` and what every act of a person
        does.
        """
        check_publisher(DirectiveKind.ISSUE, header.bureau, self._root, header.role)
        check_issue(issue)
        content = directive_pb2.Directive(
            issue=directive_pb2.ConfirmedIssue(
                issue_id=issue.issue_id, title=issue.title, owner=issue.owner, standard_answer=issue.standard_answer
            )
        )
        return await self._publish(header, DirectiveKind.ISSUE, issue.issue_id, content, lambda _: None)

    async def _publish(
        self,
        header: Header,
        kind: DirectiveKind,
        subject: str,
        content: directive_pb2.Directive,
        check: Callable[[Context], None],
    ) -> Noted:
        made: list[Published] = []

        def write(draft: Draft, context: Context) -> int:
            check(context)
            published = self._signed(kind, subject, content, to_micros(context.now))
            made.append(published)
            digest = sha256(published.signed.directive).digest()
            at = from_micros(published.content.published_at_us)
            event = DirectivePublished(directive_kind=kind, subject=subject, published_at=at, digest=digest)
            seq = draft.note(context, event).seq
            self._write(draft, [published], self._newer_calendar(published))
            return seq

        async with self._changing:
            noted = await self._office.note(header, write)
            self._keep(made)
        return noted

    def _signed(self, kind: DirectiveKind, subject: str, content: directive_pb2.Directive, now_us: int) -> Published:
        directive = directive_pb2.Directive()
        directive.CopyFrom(content)
        directive.kind = int(kind)  # type: ignore[assignment]
        directive.subject = subject
        # Later than everything published before, should the machine's clock have been set back since.
        before = max((known.content.published_at_us for known in self._latest.values()), default=0)
        directive.published_at_us = max(now_us, before + 1)
        payload = directive.SerializeToString()
        signed = directive_pb2.SignedDirective(directive=payload, signature=self._seal.sign(payload))
        return Published(directive, signed)

    # ------------------------------------------------------------ taking over what a superior's node has

    def have(self) -> list[directive_pb2.HeldDirective]:
        """What this node has: of each subject the newest."""
        return [
            directive_pb2.HeldDirective(
                kind=known.content.kind, subject=known.content.subject, published_at_us=known.content.published_at_us
            )
            for known in self._latest.values()
        ]

    async def take(self, offered: Iterable[directive_pb2.SignedDirective]) -> int:
        """Keeps what is new of what another node has; how many. What headquarters has not signed is not taken."""
        async with self._changing:
            new: dict[Subject, Published] = {}
            for signed in offered:
                published = self._checked(signed)
                known = self._latest.get(published.about) if published is not None else None
                if published is None or (
                    known is not None and published.content.published_at_us <= known.content.published_at_us
                ):
                    continue
                new[published.about] = published
            if not new:
                return 0
            news = list(new.values())
            calendar = self._newer_calendar(*news)
            work = Work(run=lambda draft: self._write(draft, news, calendar), bureau=self._office.ledger.bureaus[0])
            await self._office.ledger.do(work)
            self._keep(news)
            return len(news)

    def _checked(self, signed: directive_pb2.SignedDirective) -> Published | None:
        try:
            return Published(directive_of(signed, self._seal, self._root), signed)
        except Refused as refusal:
            REFUSED.inc()
            _log.warning(
                "A directive is not taken.", action="directive.refused", rule=refusal.rule, reason=str(refusal)
            )
            return None

    # ------------------------------------------------------------ reading

    def newer_than(self, have: Mapping[Subject, int]) -> tuple[list[directive_pb2.SignedDirective], bool]:
        """Of each subject the newest, where it is newer than what somebody has, oldest first; whether there are more.

        What is of a kind that this version does not know is handed on like anything else.
        """
        wanted = sorted(
            (known for about, known in self._latest.items() if known.content.published_at_us > have.get(about, 0)),
            key=lambda known: known.content.published_at_us,
        )
        answer: list[directive_pb2.SignedDirective] = []
        size = 0
        for known in wanted:
            size += known.signed.ByteSize()
            if answer and size > ANSWER_BYTES_MAX:
                return answer, True
            answer.append(known.signed)
        return answer, False

    def issues(self) -> list[directive_pb2.ConfirmedIssue]:
        """The common issues that are published, by their numbers."""
        known = (one.content.issue for about, one in self._latest.items() if about[0] == DirectiveKind.ISSUE)
        return sorted(known, key=lambda issue: issue.issue_id)

    def issue(self, issue_id: str) -> directive_pb2.Directive:
        """The directive that published an issue; raises `UnknownIssue`."""
        known = self._latest.get((DirectiveKind.ISSUE, issue_id))
        if known is None:
            raise UnknownIssue(issue_id)
        return known.content

    # ------------------------------------------------------------ inside

    def _newer_calendar(self, *published: Published) -> WorkingCalendar | None:
        """The calendar among them that is newer than the one in force."""
        newest, number = None, edition(self._office.place.calendar.version)
        for one in published:
            if one.about[0] == DirectiveKind.CALENDAR and edition(one.content.calendar_version) > number:
                newest, number = calendar_of(one.content.calendar), edition(one.content.calendar_version)
        return newest

    def _write(self, draft: Draft, news: Iterable[Published], calendar: WorkingCalendar | None) -> None:
        for one in news:
            content, signature = one.content, one.signed.signature.SerializeToString()
            draft.put_directive(content.kind, content.subject, content.published_at_us, one.signed.directive, signature)
        if calendar is not None:
            for bureau in self._office.ledger.bureaus:
                context = self._office.system_context(bureau)
                draft.note(context, CalendarAdopted(calendar_version=calendar.version))

    def _keep(self, news: Iterable[Published]) -> None:
        """After the commit."""
        news = list(news)
        for one in news:
            self._latest[one.about] = one
            KEPT.labels(_kind_name(one.content.kind)).inc()
        calendar = self._newer_calendar(*news)
        self._put_in_force(calendar)
        if calendar is not None:
            _show_in_force(calendar)
            _log.info(
                "A calendar is adopted; open deadlines are computed again.",
                action="directive.calendar",
                version=calendar.version,
                horizon=calendar.horizon.isoformat(),
            )
        if news:
            for tell in self.listeners:
                tell()

    def _put_in_force(self, calendar: WorkingCalendar | None) -> None:
        if calendar is not None:
            self._office.place.in_force.adopt(calendar)


def _show_in_force(calendar: WorkingCalendar) -> None:
    IN_FORCE.clear()
    IN_FORCE.labels(calendar.version).set(1)


def _kind_name(kind: int) -> str:
    return DirectiveKind(kind).name.lower() if kind in set(DirectiveKind) else "other"


def calendar_of(text: str) -> WorkingCalendar:
    """The calendar of a text; raises `CalendarUnusable`."""
    if len(text.encode()) > DIRECTIVE_BYTES_MAX:
        raise CalendarUnusable(f"it has more than {DIRECTIVE_BYTES_MAX} bytes")
    try:
        return parse_calendar(text)
    except FactsError as fault:
        raise CalendarUnusable(str(fault)) from fault


def directive_of(signed: directive_pb2.SignedDirective, seal: Seal, headquarters: str) -> directive_pb2.Directive:
    """The directive in its envelope, proven to be headquarters'.

    Raises `SignatureNotProven`, `FieldMalformed`, `FieldMissing`, `CalendarUnusable`, `CalendarUnnumbered`.
    """
    seal.check_kept(signed.directive, signed.signature, headquarters)
    if len(signed.directive) > DIRECTIVE_BYTES_MAX * 2:
        raise _malformed(Both(f"has {len(signed.directive)} bytes", f"共 {len(signed.directive)} 字节，过大"))
    try:
        directive = directive_pb2.Directive.FromString(signed.directive)
    except DecodeError as fault:
        raise _malformed(Both("is not a serialized directive", "无法读取")) from fault
    if not directive.kind or directive.published_at_us <= 0:
        raise FieldMissing("directive.kind", Both("it says what is published", "须写明发布的内容"))
    kind = int(directive.kind)
    if kind == DirectiveKind.CALENDAR:
        calendar = calendar_of(directive.calendar)
        if calendar.version != directive.calendar_version or not edition(calendar.version):
            raise _malformed(Both("names another version than its calendar", "版本号与日历不一致"))
    elif kind == DirectiveKind.ISSUE:
        check_issue(issue_of(directive.issue))
        if directive.issue.issue_id != directive.subject:
            raise _malformed(Both("is about another issue than it names", "编号与内容不一致"))
    return directive


def issue_of(message: directive_pb2.ConfirmedIssue) -> Issue:
    """An issue from the wire."""
    return Issue(
        issue_id=message.issue_id,
        title=message.title,
        owner=message.owner,
        standard_answer=message.standard_answer,
    )


def _malformed(what: Both) -> FieldMalformed:
    remedy: Any = Both("Headquarters publishes it anew.", "请税务总局重新发布。")
    return FieldMalformed("directive", what, remedy)
