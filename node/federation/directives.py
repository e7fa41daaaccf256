"""Directives on their way down the tree: asking the superiors' nodes for them, and answering the subordinates'."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import grpc.aio
import structlog

from kuaixiang.domain.authority import Subject
from kuaixiang.domain.directives import check_issue_id
from kuaixiang.domain.errors import FieldMalformed, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.directives import LOOKS_UNANSWERED, issue_of
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.loops import Loop
from kuaixiang.runtime.pki import PkiError
from kuaixiang.runtime.server import NOT_NOW, Context, admit
from kuaixiang.wire.v1 import directive_pb2, directive_pb2_grpc
from node.cases import header_of
from node.directives import Directives
from node.federation.client import Links, NoEndpoint
from node.office import Office

LOOK_SECONDS: Final = 300.0
"""How often a node asks by itself; a wake-up by NATS makes it ask at once."""
LOOK_AGAIN_SECONDS: Final = 30.0
"""After a look to which no superior answered."""
SPREAD: Final = 0.2
"""Share by which each pause is moved at random, so that a province's counties do not ask in step."""
LOOK_SECONDS_MAX: Final = 5.0
"""One question. The sweep begins after the first look, and must not wait long for a superior that is away."""
HAVE_MAX: Final = 20_000
"""Subjects in one question; more are no issues that anybody could keep in mind."""

_log: Final = structlog.get_logger(__name__)


class Follower:
    """Looks at the superiors' nodes for directives that this node lacks. `step` is one look.

    The nearest superior outside of this node that answers is enough: what it has is signed by headquarters.
    `looked` is set when the first look has ended, whatever came of it.
    """

    def __init__(
        self, directives: Directives, links: Links, trees: InForce[BureauTree], bureaus: Sequence[str]
    ) -> None:
        self.looked = asyncio.Event()
        self._directives = directives
        self._links = links
        self._trees = trees
        self._bureaus = bureaus
        self._woken_by = ""
        self._loop = Loop("directives", self.step, LOOK_SECONDS)

    async def start(self) -> None:
        """Begin, with a look now."""
        if not superiors_of(self._trees.value, self._bureaus):
            self.looked.set()
            return
        self._loop.start()

    async def stop(self) -> None:
        """Let the look under way end."""
        await self._loop.stop()

    def wake(self, superior: str) -> None:
        """That superior's node has something new: look now, and there first."""
        if superior in superiors_of(self._trees.value, self._bureaus):
            self._woken_by = superior
            self._loop.wake()

    async def step(self) -> bool:
        """Ask, and keep what is new; whether there is more."""
        try:
            for superior in sorted(
                superiors_of(self._trees.value, self._bureaus), key=lambda code: code != self._woken_by
            ):
                answer = await self._ask(superior)
                if answer is not None:
                    taken = await self._directives.take(answer.directives)
                    self._loop.interval_seconds = _spread(LOOK_SECONDS)
                    return answer.more and taken > 0
        except (*NOT_NOW, Refused) as busy:
            # A ledger that takes no entry now cannot record that it has adopted a calendar.
            _log.info("Directives are not kept now.", action="directive.busy", reason=type(busy).__name__)
        else:
            LOOKS_UNANSWERED.inc()
        finally:
            self.looked.set()
        self._loop.interval_seconds = _spread(LOOK_AGAIN_SECONDS)
        return False

    async def _ask(self, superior: str) -> directive_pb2.ReadDirectivesResponse | None:
        request = directive_pb2.ReadDirectivesRequest(bureau=superior, have=self._directives.have())
        try:
            stub = directive_pb2_grpc.DirectiveServiceStub(self._links.channel(superior))
            return await stub.ReadDirectives(request, timeout=LOOK_SECONDS_MAX)
        except grpc.aio.AioRpcError as error:
            reason = error.code().name
        except (NoEndpoint, PkiError) as failure:
            reason = type(failure).__name__
        _log.info("A superior gave no directives.", action="directive.unanswered", bureau=superior, reason=reason)
        return None


def superiors_of(tree: BureauTree, bureaus: Sequence[str]) -> list[str]:
    """The superiors of these bureaus that are none of them, the nearest to any of them first."""
    own = set(bureaus)
    distances: dict[str, int] = {}
    for bureau in bureaus:
        for distance, code in enumerate(code for code in tree.ancestors(bureau) if code not in own):
            distances[code] = min(distance, distances.get(code, distance))
    return sorted(distances, key=lambda code: (distances[code], code))


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - pacing, no secret


class DirectiveServicer(directive_pb2_grpc.DirectiveServiceServicer):
    """Answers DirectiveService for the bureaus of one node."""

    def __init__(self, office: Office, directives: Directives) -> None:
        self._office = office
        self._directives = directives

    def _admit(self, context: Context, rpc: str, bureau: str) -> None:
        admit(context, rpc, Subject(bureau=bureau), self._office.place.tree)

    async def PublishCalendar(
        self, request: directive_pb2.PublishCalendarRequest, context: Context
    ) -> directive_pb2.PublishResponse:
        """Publishes a version of the working calendar. Raises what `Directives.publish_calendar` does."""
        self._admit(context, "PublishCalendar", request.header.bureau)
        noted = await self._directives.publish_calendar(header_of(request), request.calendar)
        return directive_pb2.PublishResponse(seq=noted.seq, repeated_request=noted.repeated)

    async def PublishIssue(
        self, request: directive_pb2.PublishIssueRequest, context: Context
    ) -> directive_pb2.PublishResponse:
        """Publishes a confirmed common issue. Raises what `Directives.publish_issue` does."""
        self._admit(context, "PublishIssue", request.header.bureau)
        noted = await self._directives.publish_issue(header_of(request), issue_of(request.issue))
        return directive_pb2.PublishResponse(seq=noted.seq, repeated_request=noted.repeated)

    async def PublishTree(
        self, request: directive_pb2.PublishTreeRequest, context: Context
    ) -> directive_pb2.PublishResponse:
        """Publishes a version of the tree of bureaus. Raises what `Directives.publish_tree` does."""
        self._admit(context, "PublishTree", request.header.bureau)
        noted = await self._directives.publish_tree(header_of(request), request.tree)
        return directive_pb2.PublishResponse(seq=noted.seq, repeated_request=noted.repeated)

    async def ReadDirectives(
        self, request: directive_pb2.ReadDirectivesRequest, context: Context
    ) -> directive_pb2.ReadDirectivesResponse:
        """The newest directives that the caller does not have. Raises `NotThisBureau`, `NotAuthorised`."""
        self._office.check_hosted(request.bureau, "bureau")
        self._admit(context, "ReadDirectives", request.bureau)
        if len(request.have) > HAVE_MAX:
            raise FieldMalformed(
                "have",
                Both(f"lists {len(request.have)} directives", f"列出 {len(request.have)} 项，过多"),
                Both("List of each subject the newest.", "每个事项只列最新一项。"),
            )
        have = {(int(held.kind), held.subject): held.published_at_us for held in request.have}
        found, more = self._directives.newer_than(have, request.kinds)
        return directive_pb2.ReadDirectivesResponse(directives=found, more=more)

    async def GetPublishedIssue(
        self, request: directive_pb2.GetPublishedIssueRequest, context: Context
    ) -> directive_pb2.GetPublishedIssueResponse:
        """A common issue, for the bureau's officers. Raises `NotThisBureau`, `NotAuthorised`, `UnknownIssue`."""
        self._admit(context, "GetPublishedIssue", request.bureau)
        self._office.check_hosted(request.bureau, "bureau")
        check_issue_id(request.issue_id)
        found = self._directives.issue(request.issue_id)
        return directive_pb2.GetPublishedIssueResponse(issue=found.issue, published_at_us=found.published_at_us)
