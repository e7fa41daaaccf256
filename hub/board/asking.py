"""What the pages ask of the hub for whoever has stepped in: its own services, called inside the process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hub.board.days import Days
from hub.bulletin.document import Bulletin, Format
from hub.bulletin.league import League
from hub.bulletin.material import IssueSearch
from hub.lights import OpenCase, Wanted
from hub.publishing import Publication
from hub.query import Completeness
from hub.reconcile import Outcome
from hub.servicer import Statistics
from hub.words import Grouping
from kuaixiang.accounts.people import Person
from kuaixiang.domain.authority import Caller, SignedIn
from kuaixiang.domain.periods import Period
from kuaixiang.runtime.server import Inside
from kuaixiang.wire.v1 import statistics_pb2 as pb

CASES_AT_A_TIME: Final = 1_000
"""Open cases read in one go where all of them are wanted."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One person's questions about one scope, which he has been found to oversee."""

    statistics: Statistics
    person: Person
    scope: str

    @property
    def _context(self) -> Any:  # noqa: ANN401 - takes the place of gRPC's context
        person = self.person
        officer = SignedIn(bureau=person.bureau, actor=person.actor, roles=frozenset({person.role}), name=person.name)
        return Inside(Caller(offices=frozenset({person.bureau}), officer=officer))

    async def figures(
        self, days: Days, grouping: Grouping = Grouping.TOTAL, *, compare: bool = False
    ) -> pb.GetFiguresResponse:
        """Figures of the days, by whatever they are grouped."""
        return await self.statistics.GetFigures(self._question(days, grouping, compare=compare), self._context)

    async def league(self, days: Days) -> League:
        """The immediate subordinates, ranked."""
        return await self.statistics.league(self._question(days), self._context)

    async def lights(self) -> Sequence[pb.Lights]:
        """Open cases now by light: the scope's own bureau, then its immediate subordinates."""
        return (await self.statistics.GetLights(pb.GetLightsRequest(scope=self.scope), self._context)).rows

    async def open_cases(self, wanted: Wanted) -> list[OpenCase]:
        """Open cases, the nearest deadline first."""
        return await self.statistics.open_cases(wanted, self._context)

    async def every_open_case(self, wanted: Wanted) -> list[OpenCase]:
        """All of them, whatever the limit."""
        found: list[OpenCase] = []
        while True:
            after = found[-1].position if found else None
            some = await self.open_cases(replace(wanted, after=after, limit=CASES_AT_A_TIME))
            found += some
            if len(some) < CASES_AT_A_TIME:
                return found

    async def issues(self, days: Days) -> IssueSearch | None:
        """What the last search for common issues of these days has found; None: there was none."""
        return await self.statistics.issue_search(self.scope, (days.first, days.last), self._context)

    async def outcomes(self) -> list[Outcome]:
        """What the last daily reconciliation has said of each ledger."""
        return await self.statistics.outcomes(self.scope, self._context)

    async def marks(self) -> Sequence[pb.BureauMark]:
        """Up to where each bureau's journal has been folded."""
        request = pb.GetCompletenessRequest(scope=self.scope)
        return (await self.statistics.GetCompleteness(request, self._context)).marks

    def completeness(self) -> Completeness:
        """How complete the figures are now, every bureau that is missing by its code."""
        return self.statistics.completeness(self.scope)

    async def reconcile(self) -> pb.ReconcileResponse:
        """Compares the hub with the heads of the scope's ledgers, now."""
        return await self.statistics.Reconcile(pb.ReconcileRequest(scope=self.scope, quick=True), self._context)

    async def bulletin(self, period: str) -> Bulletin:
        """The bulletin of a period, as a value."""
        return await self.statistics.bulletin(pb.GetBulletinRequest(scope=self.scope, period=period), self._context)

    async def bulletin_file(self, period: str, wanted: Format) -> pb.GetBulletinResponse:
        """The bulletin of a period, as a file."""
        form: Any = wanted.value
        request = pb.GetBulletinRequest(scope=self.scope, period=period, format=form)
        return await self.statistics.GetBulletin(request, self._context)

    async def publication(self, period: Period) -> Publication:
        """What stands of publishing a period."""
        return await self.statistics.publication(self.scope, period, self._context)

    async def publish(self, period: str, *, by: str = "", reason: str = "") -> pb.PublishPeriodResponse:
        """Publishes; with a reason, asks for a second person; with `by`, confirms what that one has asked for."""
        request = pb.PublishPeriodRequest(scope=self.scope, period=period, override_by=by, override_reason=reason)
        return await self.statistics.PublishPeriod(request, self._context)

    def _question(
        self, days: Days, grouping: Grouping = Grouping.TOTAL, *, compare: bool = False
    ) -> pb.GetFiguresRequest:
        by: Any = grouping.value
        return pb.GetFiguresRequest(
            scope=self.scope,
            from_day=days.first.isoformat(),
            to_day=days.last.isoformat(),
            grouping=by,
            compare=compare,
        )
