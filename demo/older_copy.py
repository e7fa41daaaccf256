"""A ledger that has lost cases, how that is found and how it goes on: an exercise on copies.

The fault is made outside the federation, so that its own ledgers and the hub stay what they are: a province and a
county of it are started a second time, apart and with NATS sites of their own, from copies of their databases. Then the
county's is put back to a copy that is some days old, as if somebody had restored a backup. Its node takes no acts, for
the province has cosigned more of its ledger than is there; comparing the two (对账, §五(三)) names each case that was
handed over in between. `kx node refill` puts back what the province has kept, the county goes on in a new generation,
and the two agree.
"""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from demo.federation import Federation
from demo.mishaps import copy_database
from demo.staff import staff_list
from demo.story import Errand
from demo.tally import read_journal
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import DifferenceKind
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import journal_pb2
from kuaixiang.wire.v1.reconciliation_pb2 import PairReport
from node.restoration import Restored, restore
from node.settings import NodeSettings

REACHED_SECONDS_MAX: Final = 60.0
AGAIN_SECONDS: Final = 0.5
"""A link whose other end was started again is dialled within two seconds."""
PROVINCE, COUNTY = "110000", "110101"
"""Each has a node of its own."""
APART: Final = "9999"
"""The version of the tree in the exercise: newer than any that headquarters has published and the copies hold."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """What came of it."""

    handed_over: frozenset[str]
    """Cases handed over between the two since the old copy, by the county's own journal."""
    named: Mapping[str, str]
    """What the comparison said of which case: missing there, or different."""
    refused: str
    """Why the county's node did not compare on its side."""
    restored: Restored
    """What came of restoring it."""
    after: int
    """Differences once the county's ledger is the one of now again."""

    @property
    def found(self) -> bool:
        """Whether the county took no acts, and every case that the old copy lacks was named."""
        return bool(self.refused) and self.handed_over <= self.named.keys()

    @property
    def mended(self) -> bool:
        """Whether it went on in a new generation, nothing lacking and nothing different."""
        return self.restored.generation > 1 and not self.restored.missing and self.after == 0


class OlderCounty:
    """The county's older copy, and the exercise with it."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._folder = federation.directory / "exercise"
        self._old = self._folder / "older.db"
        self._seq = 0

    def errand(self, arrives: int) -> Errand:
        """Copy the county's ledger at that hour."""
        return Errand("an older copy", arrives, self.keep)

    async def keep(self) -> None:
        """Copy the county's ledger as it is now, while its node goes on."""
        self._seq = (await self._federation.office(COUNTY).head()).seq
        await asyncio.to_thread(self._copy, COUNTY, self._old)

    async def hold(self, now: datetime) -> Exercise:
        """Start the two from their copies, put one back, compare, restore, compare again.

        Raises ProcessError, OfficeError, NotRestored.
        """
        databases = self._folder / "databases"
        county_file = databases / self._file(COUNTY).name
        for bureau in (PROVINCE, COUNTY):
            await asyncio.to_thread(self._copy, bureau, databases / self._file(bureau).name)
        await asyncio.to_thread(shutil.copytree, self._federation.keys, self._folder / "keys")
        # The copies hold receipts that this authority's certificates have signed.
        await asyncio.to_thread(shutil.copytree, self._federation.authority, self._folder / "authority")
        placement = ((PROVINCE,), (COUNTY,))
        apart = Federation(
            self._folder,
            BureauTree(APART, self._federation.tree.bureaus.values()),
            placement=placement,
            clock_start=now,
            staff=staff_list,
            hubs=(),
            compiled_by=self._federation,
        )
        async with apart:
            county = await apart.stop_node(COUNTY)
            await asyncio.to_thread(copy_database, self._old, county_file)
            # It answers, and says that it does not serve.
            await asyncio.to_thread(county.process.start)
            await apart.office(COUNTY).head()
            before = await _compared(apart)
            await apart.stop_node(COUNTY)
            settings = read_settings(NodeSettings, county.config)
            (restored,) = await restore(settings, aside=None, accept_loss=False)
            await apart.restart_node(COUNTY)
            after = await _compared(apart)
        return Exercise(
            handed_over=await self._handed_over(),
            named={found.case_id: DifferenceKind(found.difference).name.lower() for found in before.differences},
            refused=before.away,
            restored=restored,
            after=_differing(after),
        )

    async def _handed_over(self) -> frozenset[str]:
        """By the county's own journal; an offer that the old copy knows of it makes again, and loses nothing."""
        journal = await read_journal(self._federation.office(COUNTY))
        since = journal.entries[self._seq :]
        offered = {entry.offered.referral_id for entry in since if entry.HasField("offered")}
        return frozenset(entry.case_id for entry in since if _with_province(entry, offered))

    def _file(self, bureau: str) -> Path:
        return self._federation.database_file(self._federation.node(bureau).name)

    def _copy(self, bureau: str, target: Path) -> None:
        """By SQLite itself: the bureau's node goes on writing meanwhile."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file(bureau))) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)


async def _compared(apart: Federation) -> PairReport:
    """What the province says of the two ledgers; a county that has just been started again is there in a moment."""
    deadline = time.monotonic() + REACHED_SECONDS_MAX
    while True:
        (report,) = await apart.office(PROVINCE).reconcile(COUNTY)
        if report.bytes_exchanged or time.monotonic() >= deadline:
            return report
        await asyncio.sleep(AGAIN_SECONDS)


def _with_province(entry: journal_pb2.Entry, offered: set[str]) -> bool:
    """Whether the entry is a case's acceptance from the province, or by it of one of these offers."""
    if entry.HasField("received"):
        return entry.received.from_bureau == PROVINCE
    return entry.HasField("released") and entry.released.to_bureau == PROVINCE and entry.released.referral_id in offered


def _differing(report: PairReport) -> int:
    return report.missing_here + report.missing_there + report.different + bool(report.away)
