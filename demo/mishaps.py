"""What befalls the federation during the demonstration: a node dies by ``kill -9``, and a province is cut off.

Both at hours of the story, while the acts of those hours are under way, and both mended some hours later.
"""

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from demo.federation import DATABASE_SIDES, Database, Federation
from demo.live import Show
from demo.officers import NoAnswer
from demo.picture import code_and_place
from demo.processes import ProcessError
from demo.story import DAY, Happening, Hour, office_hour, office_hours
from demo.watch import Watch
from kuaixiang.domain.calendar import SHANGHAI

KILL_DAY, KILL_HOUR, DOWN_HOURS = 2, 1, 3
"""On the third working day at its second hour, for three."""

CUT_DAY, CUT_HOUR, CUT_HOURS = 3, 4, 2 * DAY
"""On the fourth working day at its fifth hour, for two working days, a long week-end between them."""

CATCH_UP_SECONDS_MAX: Final = 120.0
"""Real time for the hub to have what waited behind a cut link: the leaf dials every 2 s, the hub's pull follows."""

POLL_SECONDS: Final = 0.1


class HubBehind(ProcessError):
    """The hub did not fold everything that the ledgers hold in time."""

    def __init__(self, behind: Mapping[str, int], seconds: float) -> None:
        self.behind = dict(behind)
        missing = ", ".join(f"{count} entries of {bureau}" for bureau, count in self.behind.items())
        super().__init__(f"after {seconds:.0f} s the hub still lacks {missing}")


async def caught_up(federation: Federation, ends: Mapping[str, int], timeout_seconds: float) -> float:
    """Wait until the hub has folded each journal up to that position; the seconds it took. Raises HubBehind."""
    begun = time.monotonic()
    while True:
        behind = await entries_behind(federation, ends)
        if not behind:
            return time.monotonic() - begun
        if time.monotonic() - begun >= timeout_seconds:
            raise HubBehind(behind, timeout_seconds)
        await asyncio.sleep(POLL_SECONDS)


async def entries_behind(federation: Federation, ends: Mapping[str, int]) -> dict[str, int]:
    """How many entries the hub lacks of each journal, up to those positions; bureaus that lack none are left out."""
    try:
        marks = {mark.bureau: mark.seq for mark in (await federation.hub().completeness()).marks}
    except NoAnswer:
        marks = {}
    return {bureau: end - marks.get(bureau, 0) for bureau, end in ends.items() if marks.get(bureau, 0) < end}


class NoFileToCopy(ProcessError):
    """The federation's ledgers are not in files."""

    def __init__(self, bureau: str) -> None:
        self.bureau = bureau
        super().__init__(f"the ledger of bureau {bureau} is not in a file: an older copy takes a federation on SQLite")


class OlderCopy:
    """An older copy of a node's database, which is put back some time later: all that came in between is lost.

    This is how a ledger loses what other ledgers know of in earnest: somebody restores a backup. Reconciliation (对账)
    names each case. A context manager that forgets the copy at its end; the node is stopped for the moment of copying.
    """

    def __init__(self, federation: Federation, bureau: str) -> None:
        self._federation = federation
        self.bureau = bureau
        if federation.database is not Database.SQLITE:
            raise NoFileToCopy(bureau)
        self._file = federation.database_file(federation.node(bureau).name)
        self._kept = self._file.with_name(f"{self._file.name}.older")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    async def keep(self) -> None:
        """Copy the database as it is now."""
        await self._federation.stop_node(self.bureau)
        await asyncio.to_thread(copy_database, self._file, self._kept)
        await self._federation.restart_node(self.bureau)

    async def put_back(self) -> None:
        """The ledger is again what it was when it was kept; its node serves from it."""
        await self._federation.stop_node(self.bureau)
        await asyncio.to_thread(copy_database, self._kept, self._file)
        await self._federation.restart_node(self.bureau)

    def forget(self) -> None:
        """Delete the copy."""
        for side in DATABASE_SIDES:
            self._kept.with_name(f"{self._kept.name}{side}").unlink(missing_ok=True)


def copy_database(source: Path, target: Path) -> None:
    """Put a copy of a SQLite database that nobody has open in another one's place, or where none was."""
    for side in DATABASE_SIDES:
        target.with_name(f"{target.name}{side}").unlink(missing_ok=True)
        beside = source.with_name(f"{source.name}{side}")
        if beside.exists():
            shutil.copy(beside, target.with_name(f"{target.name}{side}"))


class Mishaps:
    """The mishaps of one performance. `site` is the province to be cut off, `victim` the bureau whose node dies."""

    def __init__(self, federation: Federation, watch: Watch, hours: Sequence[Hour], *, victim: str, site: str) -> None:
        self._federation = federation
        self._watch = watch
        self.victim = victim
        self.site = site
        self.catch_up_seconds = 0.0
        self.entries_cut_off = 0
        """What the hub lacked of the province when the link came back."""
        self.retries = 0
        """Attempts of the victim's officers that its death left unanswered."""
        self._office = office_hours(hours)
        self._kill_at: int | None = office_hour(hours, KILL_DAY, KILL_HOUR)
        self._restart_at: int | None = None
        self._cut_at: int | None = office_hour(hours, CUT_DAY, CUT_HOUR)
        self._restore_at: int | None = None
        self._following: asyncio.Task[None] | None = None
        self._show: Show | None = None

    def shown_by(self, show: Show) -> None:
        """Say where to tell what happens."""
        self._show = show

    def at(self, index: int) -> Happening | None:
        """What befalls the federation at an hour."""
        # Its officers must be at work: a node that dies idle shows nothing.
        if self._kill_at is not None and index >= self._kill_at:
            busy = self._federation.office(self.victim).in_flight > 0
            if busy or index >= self._office[-1] - DAY:
                return lambda: self._kill(index)
        if self._restart_at is not None and index >= self._restart_at:
            return self._restart
        if self._cut_at is not None and index >= self._cut_at:
            return lambda: self._cut(index)
        if self._restore_at is not None and index >= self._restore_at:
            return self._restore
        return None

    async def mend(self) -> None:
        """Undo what is still broken, and wait until the hub has what it missed. Raises HubBehind, ChildNotReady."""
        self._kill_at = self._cut_at = None
        if self._restart_at is not None:
            await self._restart()
        if self._restore_at is not None:
            await self._restore()
        if self._following is not None:
            await self._following

    async def close(self) -> None:
        """Let go of what is under way, when the performance ends early."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    # ------------------------------------------------------------ inside

    async def _kill(self, index: int) -> None:
        self._kill_at, self._restart_at = None, self._later(index, DOWN_HOURS)
        waiting = self._federation.office(self.victim).in_flight
        acts = "one act" if waiting == 1 else f"{waiting} acts"
        self.retries = self._federation.office(self.victim).retries
        node = await self._federation.kill_node(self.victim)
        self._tell(f"kill -9: the node of {self._name(self.victim)} ({node.name}) dies in the middle of {acts}")

    async def _restart(self) -> None:
        self._restart_at = None
        begun = time.monotonic()
        await self._federation.restart_node(self.victim)
        self.retries = self._federation.office(self.victim).retries - self.retries
        self._tell(
            f"the node of {self._name(self.victim)} is back in {time.monotonic() - begun:.1f} s with its ledger; "
            f"its officers ask again under the same keys ({self.retries} attempts had no answer)"
        )

    async def _cut(self, index: int) -> None:
        self._cut_at, self._restore_at = None, self._later(index, CUT_HOURS)
        await self._federation.cut_link(self.site)
        self._tell(f"the leaf link of {self._name(self.site)} is cut; its bureaus go on working, the hub falls behind")

    async def _restore(self) -> None:
        self._restore_at = None
        ends = self._ends()
        behind = await entries_behind(self._federation, ends)
        self.entries_cut_off = sum(behind.values())
        complete = (await self._federation.hub().completeness()).completeness
        self._tell(
            f"the hub lacks {self.entries_cut_off} entries of {self._name(self.site)} by now, and says so: "
            f"its data are as of {complete.data_as_of.ToDatetime(tzinfo=SHANGHAI):%m-%d %H:%M}"
        )
        begun = time.monotonic()
        await self._federation.restore_link(self.site)
        self._tell(f"the leaf link of {self._name(self.site)} is up again after {time.monotonic() - begun:.1f} s")
        self._following = asyncio.create_task(self._follow(ends, begun))

    async def _follow(self, ends: Mapping[str, int], begun: float) -> None:
        await caught_up(self._federation, ends, CATCH_UP_SECONDS_MAX)
        self.catch_up_seconds = time.monotonic() - begun
        self._tell(
            f"the hub has caught up with the {self.entries_cut_off} entries that it lacked, "
            f"{self.catch_up_seconds:.1f} s after the link was mended"
        )

    def _ends(self) -> dict[str, int]:
        """Where the journals of the province end now."""
        tree = self._federation.tree
        return {bureau: seq for bureau, seq in self._watch.seqs.items() if tree.site(bureau) == self.site}

    def _later(self, index: int, hours: int) -> int:
        later = [hour for hour in self._office if hour > index]
        return later[min(hours, len(later)) - 1] if later else index

    def _name(self, bureau: str) -> str:
        return code_and_place(self._federation.tree, bureau)

    def _tell(self, sentence: str) -> None:
        if self._show is not None:
            self._show.note(sentence)
