"""Directives: what headquarters has published, as this node knows it; published here when this node is headquarters'.

A directive is kept in the bytes that headquarters signed, shown to officers, and handed on to whoever asks. A calendar
or a tree that is newer than the one in force is put in force: each bureau of the node records that it has adopted it,
in the transaction in which it is kept; after another calendar the sweep computes the open deadlines again. Which of
them is in force after a restart follows from what is kept.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.desk import Context
from kuaixiang.domain.directives import Issue, check_amendment, check_issue, check_publisher, edition
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.events import CalendarAdopted, DirectivePublished, LedgerEvent, TreeAdopted
from kuaixiang.domain.succession import check_adoption, check_succession
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import DirectiveKind
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.runtime.directives import (
    DIRECTIVES_REFUSED,
    TREES_NOT_ADOPTED,
    Published,
    Subject,
    calendar_of,
    checked,
    show_tree,
    tree_of,
)
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.v1 import directive_pb2, referral_pb2
from node.ledger import queries
from node.ledger.ledger import Draft, Work
from node.office import Header, Noted, Office, Place

ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Directives in one answer, well below gRPC's four megabytes; whoever lacks more asks again."""

KEPT: Final = Counter("kx_directives_kept_total", "Directives of headquarters that were new here.", ["kind"])
IN_FORCE: Final = Gauge(
    "kx_calendar_in_force", "1 for the version of the working calendar that deadlines are computed from.", ["version"]
)
CALENDAR_END: Final = Gauge(
    "kx_calendar_last_day_timestamp_seconds",
    "When the last published day of the working calendar in force ends, Unix time: later deadlines are provisional.",
)

_log: Final = structlog.get_logger(__name__)


class UnknownIssue(Refused):
    """Headquarters has published no such issue, as far as this node knows."""

    condition = Condition.MISSING
    field = "issue_id"
    remedy = "Check the number; what was published in the last minutes may still be on its way."
    remedy_chinese = "请核对编号；刚刚发布的内容可能尚未送达。"

    def __init__(self, issue_id: str) -> None:
        super().__init__(f"There is no common issue {issue_id}.", f"没有编号为 {issue_id} 的共性诉求。")


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
            self._put_in_force(self._newer(published))
        _show_in_force(office.place)

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

    async def publish_tree(self, header: Header, text: str) -> Noted:
        """Publishes a version of the tree of bureaus in the form of its files; every node and hub adopts it.

        Raises `NotHeadquarters`, `NotForThisRole`, `TreeUnusable`, `TreeUnnumbered`, `TreeNotNewer`, `TreeMovesRoot`,
        `TreeForgetsBureaus`, `TreeMovesSites`, `TreeForgetsSuperiors`, `TreeLocksOut` and what every act of a person
        does.
        """
        check_publisher(DirectiveKind.TREE, header.bureau, self._root, header.role)
        tree = tree_of(text)

        def check(context: Context) -> None:
            check_succession(tree, context.tree, self._seal.fingerprint())

        content = directive_pb2.Directive(tree_version=tree.version, tree=text)
        return await self._publish(header, DirectiveKind.TREE, "", content, check)

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
            self._write(draft, [published], self._newer(published))
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
            newer = self._newer(*news)
            work = Work(run=lambda draft: self._write(draft, news, newer), bureau=self._office.ledger.bureaus[0])
            await self._office.ledger.do(work)
            self._keep(news)
            return len(news)

    def _checked(self, signed: directive_pb2.SignedDirective) -> Published | None:
        try:
            return checked(signed, self._seal, self._root)
        except Refused as refusal:
            DIRECTIVES_REFUSED.inc()
            _log.warning(
                "A directive is not taken.", action="directive.refused", rule=refusal.rule, reason=str(refusal)
            )
            return None

    # ------------------------------------------------------------ reading

    def newer_than(
        self, have: Mapping[Subject, int], kinds: Collection[int] = ()
    ) -> tuple[list[directive_pb2.SignedDirective], bool]:
        """Of each subject the newest, where it is newer than what somebody has, oldest first; whether there are more.

        Of some kinds, or of all: what is of a kind that this version does not know is handed on like anything else.
        """
        wanted = sorted(
            (
                known
                for about, known in self._latest.items()
                if known.content.published_at_us > have.get(about, 0) and (not kinds or about[0] in kinds)
            ),
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

    def _newer(self, *published: Published) -> "_Newer":
        """What is among them that is newer than what is in force."""
        place, found = self._office.place, _Newer()
        for one in published:
            if one.about[0] == DirectiveKind.CALENDAR:
                calendar = found.calendar or place.calendar
                if edition(one.content.calendar_version) > edition(calendar.version):
                    found.calendar = calendar_of(one.content.calendar)
            elif one.about[0] == DirectiveKind.TREE:
                tree = found.tree or place.tree
                if edition(one.content.tree_version) > edition(tree.version):
                    found.take_tree(one.content, place.tree, self._office.ledger.bureaus)
        return found

    def _write(self, draft: Draft, news: Iterable[Published], newer: "_Newer") -> None:
        for one in news:
            content, signature = one.content, one.signed.signature.SerializeToString()
            draft.put_directive(content.kind, content.subject, content.published_at_us, one.signed.directive, signature)
        for event in newer.events():
            for bureau in self._office.ledger.bureaus:
                draft.note(self._office.system_context(bureau), event)

    def _keep(self, news: Iterable[Published]) -> None:
        """After the commit."""
        news = list(news)
        for one in news:
            self._latest[one.about] = one
            KEPT.labels(_kind_name(one.content.kind)).inc()
        newer = self._newer(*news)
        self._put_in_force(newer)
        _show_in_force(self._office.place)
        if newer.calendar is not None:
            _log.info(
                "A calendar is adopted; open deadlines are computed again.",
                action="directive.calendar",
                version=newer.calendar.version,
                horizon=newer.calendar.horizon.isoformat(),
            )
        if newer.tree is not None:
            _log.info(
                "A tree of bureaus is adopted.",
                action="directive.tree",
                version=newer.tree.version,
                bureaus=len(newer.tree),
            )
        if news:
            for tell in self.listeners:
                tell()

    def _put_in_force(self, newer: "_Newer") -> None:
        if newer.calendar is not None:
            self._office.place.in_force.adopt(newer.calendar)
        if newer.tree is not None:
            self._office.place.trees.adopt(newer.tree)


@dataclass(slots=True)
class _Newer:
    """What is to be put in force: a calendar, a tree, with its digest; or nothing."""

    calendar: WorkingCalendar | None = None
    tree: BureauTree | None = None
    tree_digest: bytes = b""

    def take_tree(self, content: directive_pb2.Directive, in_force: BureauTree, bureaus: Iterable[str]) -> None:
        """The tree of a directive, if this node can go on with it; otherwise the one in force stays, and it is told."""
        tree = tree_of(content.tree)
        try:
            check_adoption(tree, in_force, bureaus)
        except Refused as refusal:
            TREES_NOT_ADOPTED.inc()
            _log.error(
                "A tree of bureaus cannot be adopted here.",
                action="directive.tree_refused",
                version=tree.version,
                rule=refusal.rule,
                reason=str(refusal),
            )
            return
        self.tree, self.tree_digest = tree, sha256(content.tree.encode()).digest()

    def events(self) -> list[LedgerEvent]:
        """What each bureau records of it."""
        events: list[LedgerEvent] = []
        if self.calendar is not None:
            events.append(CalendarAdopted(calendar_version=self.calendar.version))
        if self.tree is not None:
            events.append(TreeAdopted(tree_version=self.tree.version, digest=self.tree_digest))
        return events


def _show_in_force(place: Place) -> None:
    IN_FORCE.clear()
    IN_FORCE.labels(place.calendar.version).set(1)
    CALENDAR_END.set(place.calendar.end_of(place.calendar.horizon).timestamp())
    show_tree(place.tree)


def _kind_name(kind: int) -> str:
    return DirectiveKind(kind).name.lower() if kind in set(DirectiveKind) else "other"
