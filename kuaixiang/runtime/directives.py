"""Directives as they travel: the bytes that headquarters has signed, and how whoever takes one over checks them."""

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.directives import CalendarUnusable, Issue, check_issue, edition
from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.labels import Both
from kuaixiang.domain.succession import TreeUnusable
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import DirectiveKind
from kuaixiang.facts import FactsError, FactsMalformed, parse_calendar, parse_tree
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.v1 import directive_pb2

CALENDAR_BYTES_MAX: Final = 512 * 1024
"""A calendar of twenty years is some 60 KB."""
TREE_BYTES_MAX: Final = 2 * 1024 * 1024
"""The national tree is 200 KB; 3,200 bureaus with endpoint, desk and two fingerprints each are some 900 KB."""
DIRECTIVE_BYTES_MAX: Final = TREE_BYTES_MAX + 1024

LOOKS_UNANSWERED: Final = Counter(
    "kx_directive_looks_unanswered_total", "Looks for directives to which no superior's node answered."
)
DIRECTIVES_REFUSED: Final = Counter(
    "kx_directives_refused_total",
    "Directives that a superior's node offered and that were not taken: forged or broken.",
)
TREE_IN_FORCE: Final = Gauge("kx_tree_in_force", "1 for the version of the tree of bureaus that holds.", ["version"])
TREES_NOT_ADOPTED: Final = Counter(
    "kx_trees_not_adopted_total",
    "Trees of headquarters that were kept and not adopted: they leave out or move what is of this process.",
)

Subject = tuple[int, str]
"""Kind, and what of that kind."""


@dataclass(frozen=True, slots=True)
class Published:
    """A directive: what it says, and the bytes that headquarters signed."""

    content: directive_pb2.Directive
    signed: directive_pb2.SignedDirective

    @property
    def about(self) -> Subject:
        """What it is about: of two about the same the later stands."""
        return (int(self.content.kind), self.content.subject)


def calendar_of(text: str) -> WorkingCalendar:
    """The calendar of a text; raises `CalendarUnusable`."""
    try:
        _check_size(text, CALENDAR_BYTES_MAX)
        return parse_calendar(text)
    except FactsError as fault:
        raise CalendarUnusable(str(fault)) from fault


def tree_of(text: str) -> BureauTree:
    """The tree of a text; raises `TreeUnusable`."""
    try:
        _check_size(text, TREE_BYTES_MAX)
        return parse_tree(text)
    except FactsError as fault:
        raise TreeUnusable(str(fault)) from fault


def _check_size(text: str, bytes_max: int) -> None:
    if len(text.encode()) > bytes_max:
        raise FactsMalformed("the text", 0, f"it has more than {bytes_max} bytes", "leave out what is not needed")


def issue_of(message: directive_pb2.ConfirmedIssue) -> Issue:
    """An issue from the wire."""
    return Issue(
        issue_id=message.issue_id,
        title=message.title,
        owner=message.owner,
        standard_answer=message.standard_answer,
    )


def checked(signed: directive_pb2.SignedDirective, seal: Seal, headquarters: str) -> Published:
    """The directive in its envelope, proven to be headquarters'.

    Raises `SignatureNotProven`, `FieldMalformed`, `FieldMissing`, `CalendarUnusable`, `TreeUnusable`.
    """
    seal.check_kept(signed.directive, signed.signature, headquarters)
    if len(signed.directive) > DIRECTIVE_BYTES_MAX:
        raise _malformed(Both(f"has {len(signed.directive)} bytes", f"共 {len(signed.directive)} 字节，过大"))
    try:
        directive = directive_pb2.Directive.FromString(signed.directive)
    except DecodeError as fault:
        raise _malformed(Both("is not a serialized directive", "无法读取")) from fault
    if not directive.kind or directive.published_at_us <= 0:
        raise FieldMissing("directive.kind", Both("it says what is published", "须写明发布的内容"))
    match int(directive.kind):
        case DirectiveKind.CALENDAR:
            _check_version(directive.calendar_version, calendar_of(directive.calendar).version)
        case DirectiveKind.TREE:
            _check_version(directive.tree_version, tree_of(directive.tree).version)
        case DirectiveKind.ISSUE:
            check_issue(issue_of(directive.issue))
            if directive.issue.issue_id != directive.subject:
                raise _malformed(Both("is about another issue than it names", "编号与内容不一致"))
        case _:
            pass  # Of a kind that this version does not know: kept and handed on.
    return Published(directive, signed)


def show_tree(tree: BureauTree) -> None:
    """The version in force, as a metric."""
    TREE_IN_FORCE.clear()
    TREE_IN_FORCE.labels(tree.version).set(1)


def _check_version(named: str, found: str) -> None:
    if named != found or not edition(found):
        raise _malformed(Both(f"names version {named!r} and has {found!r}", f"所称版本“{named}”与内容“{found}”不一致"))


def _malformed(what: Both) -> FieldMalformed:
    remedy: Any = Both("Headquarters publishes it anew.", "请税务总局重新发布。")
    return FieldMalformed("directive", what, remedy)
