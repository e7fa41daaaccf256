"""Archiving: what is over of a closed year leaves the working set of a ledger, into `node.ledger.archive`.

For a ledger that does not run. Of the cases go those that are written off, with nothing recorded of them after the
year, that nobody is owed an answer about, about which no two ledgers disagree, that no open supervision order names,
and that are not linked (并案) to one that stays.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.runtime.clock import to_micros
from node.ledger import queries, texts
from node.ledger.archive import ArchivedYear
from node.ledger.ledger import Ledger

YEAR_MIN: Final = 2019
"""The notice's own year: no ledger is older."""


class YearNotOver(Exception):
    """A year is to be archived that is not over, or that is none of a ledger's."""

    def __init__(self, year: int) -> None:
        self.year = year
        super().__init__(f"The year {year} is not one that can be archived: it is not over, or before {YEAR_MIN}.")


def archive_year(
    ledger: Ledger,
    year: int,
    now: datetime,
    bureaus: Iterable[str] = (),
    told: Callable[[int], None] = lambda _: None,
) -> Iterator[ArchivedYear]:
    """Archives a year, and what was before it, of some bureaus or of all; tells of each that had something.

    Of a year that was archived goes what came to it since, when a clock was set back. `told` is called with how many
    entries of the bureau under way are done. After an interruption it goes on when it is called again. Raises
    `YearNotOver`, `ArchiveDiffers`.
    """
    ends = datetime(year + 1, 1, 1, tzinfo=SHANGHAI)
    if year < YEAR_MIN or now < ends:
        raise YearNotOver(year)
    archive = ledger.database.archive
    for bureau in bureaus or ledger.bureaus:
        last_seq = texts.first_seq_at(ledger.database, bureau, to_micros(ends), ledger.heads[bureau].seq) - 1
        if last_seq > archive.end(bureau):
            yield archive.add(
                bureau=bureau,
                year=year,
                last_seq=last_seq,
                kept=queries.ordered_cases(ledger.database, bureau),
                now_us=to_micros(now),
                told=told,
            )
