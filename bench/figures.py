"""National figures after many entries, against DuckDB over the entries themselves: `python -m bench.figures`.

A year of every bureau of the real tree is folded, a month at a time: cases of seven entries with clocks, categories,
channels and departments at random. So that a country's year is made in minutes, one case in some is folded, and counted
again for each of its copies, which are of the other categories in turn (`--copies`). All entries are rows of a DuckDB
table. Then both are asked, again and again, for a month by province and category, and for the year's league table of all
bureaus by their on-time rate; their answers have to be the same. Asked too after a month of the entries, since neither
may grow with them: by the time of a core, which others who use the machine do not change.
"""

import gc
import random
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from bench import results
from hub.cells import Ground
from hub.fold import EPOCH_DAY, Batch, Changes, read_entries
from hub.folder import Folder, Message
from hub.measures import Fact, met, missed
from hub.query import Question, figures
from hub.store import Store
from hub.words import Grouping
from kuaixiang.domain.tree import BureauTree, Tier
from kuaixiang.domain.words import Category, ClockAction, ClockKind, ClockOutcome, Custody, DepartmentKind, Stage
from kuaixiang.facts import national_tree
from kuaixiang.runtime.bus import journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.serving import GARBAGE_THRESHOLDS
from kuaixiang.wire.chain import GENESIS, NO_PRIVATE, links
from kuaixiang.wire.v1 import journal_pb2 as pb

YEAR: Final = 2026
MONTH: Final = 9
MONTHS: Final = 12
DAYS_REGISTERED: Final = 18
"""Of a month; a case is over ten days later, so that all of it is of the month."""
LATE_ONE_IN: Final = 20
ASKED: Final = 200
ASKED_OF_DUCKDB: Final = 15
BATCH_ENTRIES: Final = 70_000
CATEGORIES: Final = len(Category)
DAY_US: Final = 86_400_000_000
KINDS: Final = tuple(
    map(int, (DepartmentKind.POLICY, DepartmentKind.COLLECTION, DepartmentKind.INFORMATION, DepartmentKind.LEGAL))
)
STEPS: Final = ("registered", "forwarded", "dispatched", "completed", "feedback_given", "followed_up", "written_off")
STAGES: Final = (
    Stage.REGISTERED,
    Stage.HANDLING,
    Stage.HANDLING,
    Stage.COMPLETED,
    Stage.FED_BACK,
    Stage.FOLLOWED_UP,
    Stage.WRITTEN_OFF,
)
HANDLE: Final = int(ClockKind.HANDLE)
COMPLETED_STEP: Final = STEPS.index("completed")
MET, MISSED = met(HANDLE), missed(HANDLE)
COUNTED: Final = (Fact.REGISTERED, Fact.COMPLETED, MET, MISSED)
SPAN: Final = (date(YEAR, MONTH, 1), date(YEAR, MONTH + 1, 1) - timedelta(days=1))
WHOLE_YEAR: Final = (date(YEAR, 1, 1), date(YEAR, 12, 31))
RATE_MIN: Final = 1
"""Deadlines of a bureau that has a rate."""

COLUMNS: Final = (
    "bureau INTEGER, province INTEGER, category TINYINT, day INTEGER, step TINYINT, due INTEGER, met BOOLEAN"
)
COPY: Final = f"""
    INSERT INTO entries SELECT bureau, province, (category - 1 + copy) % {CATEGORIES} + 1, day, step, due, met
    FROM folded, range($copies) AS copies(copy)"""
BY_PROVINCE: Final = f"""
    SELECT province, category, count(*) FILTER (step = 0 AND day BETWEEN $first AND $last),
        count(*) FILTER (step = {COMPLETED_STEP} AND day BETWEEN $first AND $last),
        count(*) FILTER (met AND due BETWEEN $first AND $last),
        count(*) FILTER (NOT met AND due BETWEEN $first AND $last)
    FROM entries WHERE day BETWEEN $first - 31 AND $last + 31 GROUP BY province, category"""
LEAGUE: Final = f"""
    SELECT bureau, count(*) FILTER (step = 0), count(*) FILTER (step = {COMPLETED_STEP}),
        count(*) FILTER (met AND due BETWEEN $first AND $last) AS done,
        count(*) FILTER (NOT met AND due BETWEEN $first AND $last) AS late
    FROM entries WHERE day BETWEEN $first AND $last GROUP BY bureau
    ORDER BY done::DOUBLE / greatest(done + late, {RATE_MIN}) DESC, bureau"""


class Year:
    """Makes the journals, month after month, and the same entries as columns of a table."""

    def __init__(self, tree: BureauTree, entries: int, copies: int) -> None:
        self.tree = tree
        self.copies = copies
        self.bureaus = [code for code, bureau in tree.bureaus.items() if bureau.tier is Tier.COUNTY]
        self.cases = max(1, entries // copies // len(self.bureaus) // MONTHS // len(STEPS))
        self.ends = dict.fromkeys(self.bureaus, (0, GENESIS))
        self.chance = random.Random(40)
        self.templates = [pb.Entry(stage=stage.value, custody=Custody.OWNED.value) for stage in STAGES]  # type: ignore[arg-type]
        for step, template in zip(STEPS, self.templates, strict=True):
            getattr(template, step).SetInParent()
        self.templates[0].clocks.add(kind=int(ClockKind.FORWARD), action=int(ClockAction.STARTED))
        self.templates[1].clocks.add(
            kind=int(ClockKind.FORWARD), action=int(ClockAction.STOPPED), outcome=int(ClockOutcome.MET)
        )
        self.templates[2].clocks.add(kind=HANDLE, action=int(ClockAction.STARTED), department="d1")
        self.templates[3].clocks.add(
            kind=HANDLE, action=int(ClockAction.STOPPED), department="d1", elapsed_milli_workdays=1500
        )
        self.templates[3].clocks.add(kind=int(ClockKind.FEEDBACK), action=int(ClockAction.STARTED))
        self.templates[4].clocks.add(
            kind=int(ClockKind.FEEDBACK), action=int(ClockAction.STOPPED), outcome=int(ClockOutcome.MET)
        )
        self.templates[5].followed_up.satisfaction = 1  # type: ignore[assignment]

    def month(self, month: int) -> Iterator[tuple[pb.Segment, list[tuple[int, ...]]]]:
        """A segment of each bureau, and what stands of it in the table."""
        start = to_micros(datetime(YEAR, month, 1, 2, tzinfo=UTC))
        first_day = (date(YEAR, month, 1) - EPOCH_DAY).days
        for bureau in self.bureaus:
            rows: list[tuple[int, ...]] = []
            sealed: list[bytes] = []
            for number in range(self.cases):
                self._case(bureau, f"{bureau}-{month:02}-{number:06}", (start, first_day), sealed, rows)
            seq, before = self.ends[bureau]
            hashes = links(before, 1, seq + 1, ((NO_PRIVATE, public) for public in sealed))
            self.ends[bureau] = seq + len(sealed), hashes[-1]
            yield (
                pb.Segment(
                    bureau=bureau,
                    generation=1,
                    first_seq=seq + 1,
                    prev_hash=before,
                    entries=[pb.SegmentEntry(public=public, private_digest=NO_PRIVATE) for public in sealed],
                    last_hash=hashes[-1],
                ),
                rows,
            )

    def _case(
        self, bureau: str, case_id: str, at: tuple[int, int], sealed: list[bytes], rows: list[tuple[int, ...]]
    ) -> None:
        chance = self.chance
        day = chance.randrange(DAYS_REGISTERED)
        category, channel, kind = chance.randint(1, 6), chance.randint(1, 6), chance.choice(KINDS)
        is_late = chance.randrange(LATE_ONE_IN) == 0
        province = int(self.tree.site(bureau))
        for step, template in enumerate(self.templates):
            on = day + (0 if step < 2 else 1 if step == 2 else (9 if is_late else 2) + (step > 4))
            template.bureau, template.case_id, template.version = bureau, case_id, step + 1
            template.category, template.channel, template.department_kind = category, channel, kind  # type: ignore[assignment]
            template.occurred_at_us = template.recorded_at_us = at[0] + on * DAY_US
            due, is_met = day + 7, not is_late
            for clock in template.clocks:
                clock.due_at_us = at[0] // DAY_US * DAY_US + (due + 1) * DAY_US - 8 * 3_600_000_000
                if step == COMPLETED_STEP and int(clock.action) == ClockAction.STOPPED:
                    # A deadline that is missed has run out before, which the ledger records by itself.
                    clock.action = int(ClockAction.OVERDUE if is_late else ClockAction.STOPPED)  # type: ignore[assignment]
                    clock.outcome = int(ClockOutcome.MET)  # type: ignore[assignment]
            sealed.append(template.SerializeToString())
            if step == COMPLETED_STEP:
                template.clocks[0].action = int(ClockAction.STOPPED)  # type: ignore[assignment]
                rows.append((int(bureau), province, category, at[1] + on, step, at[1] + due, is_met))
            else:
                rows.append((int(bureau), province, category, at[1] + on, step, 0, 0))


def counted_again(segment: pb.Segment, copies: int) -> Changes:
    """What the copies of a segment's cases add besides: the first is of the next category, and so on round."""
    own, more = read_entries(segment).counts, Changes()
    for shift in range(CATEGORIES):
        times = len(range(shift or CATEGORIES, copies, CATEGORIES))
        more.counts += [of_category_after(number, shift) for number in own] * times
    return more


def of_category_after(number: int, shift: int) -> int:
    """The same count, of a category so many further on."""
    category = number >> Ground.CATEGORY & 15
    turned = (category - 1 + shift) % CATEGORIES + 1
    return number + (turned - category << Ground.CATEGORY)


@dataclass(frozen=True, slots=True)
class Both:
    """The hub and the table."""

    store: Store
    folder: Folder
    raw: Any
    path: Path
    """Where there is room for a file."""


def fold_month(year: Year, month: int, into: Both) -> int:
    """Fold a month, count its copies, and put all of it into the table; how many entries."""
    waiting: list[Message] = []
    again = Batch()
    entries = count = 0
    columns = [array("i") for _ in range(7)]
    for segment, rows in year.month(month):
        site = year.tree.site(segment.bureau)
        waiting.append(Message(site, journal_subject(site, segment.bureau), segment.SerializeToString()))
        count += len(segment.entries)
        again.changes[segment.bureau] = counted_again(segment, year.copies)
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(values)
        if count >= BATCH_ENTRIES:
            entries += into.folder.take(waiting).entries
            waiting, count = [], 0
    entries += into.folder.take(waiting).entries
    into.store.write(again)
    with into.path.open("w", encoding="ascii") as file:
        for row in zip(*columns, strict=True):
            step, due = row[4], row[5]
            due_text, met_text = (str(due), str(row[6])) if step == COMPLETED_STEP else ("", "")
            file.write(f"{row[0]},{row[1]},{row[2]},{row[3]},{step},{due_text},{met_text}\n")
    into.raw.execute("DELETE FROM folded")
    into.raw.execute(f"COPY folded FROM '{into.path}' (FORMAT csv, HEADER false)")
    into.raw.execute(COPY, {"copies": year.copies})
    return entries * year.copies


def numbers(span: tuple[date, date]) -> dict[str, int]:
    """The days as the table has them."""
    return {"first": (span[0] - EPOCH_DAY).days, "last": (span[1] - EPOCH_DAY).days}


@dataclass(frozen=True, slots=True)
class Took:
    """How long each of some questions took, and of it time of a core, in milliseconds, the shortest first."""

    wall: list[float]
    core: list[float]


def times(ask: Callable[[], object], count: int) -> Took:
    """How long each of so many questions takes."""
    wall, core = [], []
    for _ in range(count):
        started, began = time.perf_counter(), time.thread_time()
        ask()
        core.append((time.thread_time() - began) * 1e3)
        wall.append((time.perf_counter() - started) * 1e3)
    return Took(sorted(wall), sorted(core))


class Asking:
    """The two questions, to both."""

    def __init__(self, store: Store, raw: Any) -> None:
        self.store = store
        self.raw = raw

    def by_province(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """A month by province and category, from the hub."""
        question = Question(
            self.store.scope, *SPAN, grouping=Grouping.BUREAU_AND_CATEGORY, measures=tuple(map(int, COUNTED))
        )
        with self.store.reading() as connection:
            rows = figures(connection, self.store.tree, question, 0)
        found = {}
        for row in rows:
            bureau, _, category = row.key.partition("/")
            found[int(bureau), int(category)] = tuple(row.sums.get(measure, 0) for measure in COUNTED)
        return found

    def league(self) -> list[tuple[float, str, int, int, int, int]]:
        """The year of every bureau by its on-time rate, from the hub."""
        question = Question(
            self.store.scope, *WHOLE_YEAR, grouping=Grouping.EVERY_BUREAU, measures=tuple(map(int, COUNTED))
        )
        with self.store.reading() as connection:
            rows = figures(connection, self.store.tree, question, 0)
        lines = []
        for row in rows:
            of = row.sums.get
            done, late = of(MET, 0), of(MISSED, 0)
            lines.append(
                (-done / max(done + late, RATE_MIN), row.key, of(Fact.REGISTERED, 0), of(Fact.COMPLETED, 0), done, late)
            )
        lines.sort()
        return lines

    def raw_by_province(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """The same from the entries."""
        rows = self.raw.execute(BY_PROVINCE, numbers(SPAN)).fetchall()
        return {(province, category): tuple(counts) for province, category, *counts in rows if any(counts)}

    def raw_league(self) -> list[tuple[int, ...]]:
        """The same from the entries."""
        return list(self.raw.execute(LEAGUE, numbers(WHOLE_YEAR)).fetchall())


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--entries", type=int, help="entries of the year (10000000)")
    parser.add_argument("--copies", type=int, default=10, help="of each entry that is folded, itself included (10)")
    options = results.parse(parser)
    gc.set_threshold(*GARBAGE_THRESHOLDS)  # as in a hub's process
    year = Year(national_tree(), options.entries or (3_000_000 if options.short else 10_000_000), options.copies)
    found: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        path = Path(name)
        raw = duckdb.connect(str(path / "entries.duckdb"))
        for table in ("entries", "folded"):
            raw.execute(f"CREATE TABLE {table} ({COLUMNS})")
        with Store(f"sqlite:///{path}/hub.db", year.tree, "000000") as store:
            folder = Folder(store=store, now_us=lambda: to_micros(datetime(YEAR + 1, 2, 1, tzinfo=UTC)))
            both = Both(store, folder, raw, path / "month.csv")
            asking = Asking(store, raw)
            entries = 0
            early: dict[str, Took] = {}
            for month in (MONTH, *(month for month in range(1, MONTHS + 1) if month != MONTH)):
                entries += fold_month(year, month, both)
                if month == MONTH:
                    early = {ask.__name__: times(ask, ASKED) for ask in (asking.by_province, asking.league)}
            assert asking.by_province() == asking.raw_by_province()
            assert [(int(bureau), *counts) for _, bureau, *counts in asking.league()] == asking.raw_league()
            for _ in range(options.rounds):
                for ask, count in (
                    (asking.by_province, ASKED),
                    (asking.league, ASKED),
                    (asking.raw_by_province, ASKED_OF_DUCKDB),
                    (asking.raw_league, ASKED_OF_DUCKDB),
                ):
                    found.setdefault(ask.__name__, []).append(times(ask, count))
        size = (path / "hub.db").stat().st_size
        raw.close()
    results.report("figures", rows_of(found, early, entries, size), options)


def late(took: list[float]) -> float:
    """The 99th percentile."""
    return took[int(len(took) * 0.99)]


def rows_of(found: dict[str, list[Took]], early: dict[str, Took], entries: int, size: int) -> list[results.Row]:
    """What is reported."""
    middle = {name: [statistics.median(took.wall) for took in rounds] for name, rounds in found.items()}
    rows = [
        results.Row(name="entries of the year", value=entries, unit="entries"),
        results.Row(name="the hub's database", value=size / entries, unit="bytes/entry"),
    ]
    for name, what, faster in (
        ("by_province", "a month by province and category", "≥ 1"),
        ("league", "the year's league table of all bureaus", "≥ 5"),
    ):
        ours, theirs, is_month = middle[name], middle[f"raw_{name}"], name == "by_province"
        rows += [
            results.Row.of(f"{what}, p50", ours, "ms"),
            results.Row.of(
                f"{what}, p99", [late(took.wall) for took in found[name]], "ms", target="≤ 5" if is_month else ""
            ),
            results.Row.of(f"{what}, time of a core, p99", [late(took.core) for took in found[name]], "ms"),
            results.Row.of(
                f"{what}, asked",
                [1e3 / took for took in ours],
                "1/s",
                "DuckDB",
                [1e3 / took for took in theirs],
                faster,
            ),
            results.Row.of(
                f"{what}, time of a core after the year",
                [statistics.median(took.core) for took in found[name]],
                "ms",
                "after a month of it",
                [statistics.median(early[name].core)] * len(ours),
                "≤ 1.5",
            ),
        ]
    return rows


if __name__ == "__main__":
    main()
