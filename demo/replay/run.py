"""A whole replay: read the log, start a federation of its bureaus, play, wait for the hub, compare."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from demo.federation import Database, Federation, part_of, require_unused
from demo.replay.driver import Driver
from demo.replay.figures import figures_of
from demo.replay.log import CaseHistory, HandOver, Plan, read_log
from demo.replay.mapping import LogMapping
from demo.replay.outcome import Outcome, compare, hub_figures, write_report
from demo.replay.tree import LogTree
from demo.settling import reconciled, settle
from hub.words import Grouping
from kuaixiang.facts import published_calendar

FOLLOW_UP_WORKDAYS: Final = 250
"""The longest that can be set: the logs know of no follow-up, and every case would be overdue with it for nothing."""
RETURNS_MAX: Final = 1_000
"""Who kept the log sent cases to and fro as they liked; nobody ruled."""

Progress = Callable[[str, int, int | None], None]
"""Told what is going on, how far it is, and of how much, where that is known."""


class NothingToPlay(ValueError):
    """Not one row of the log makes a case."""

    def __init__(self, log: Path, rows_read: int) -> None:
        self.log = log
        self.rows_read = rows_read
        super().__init__(f"of the {rows_read} rows of {log} not one makes a case; the report says why")


async def replay(
    log: Path,
    mapping: LogMapping,
    directory: Path,
    report: Path,
    *,
    database: Database = Database.SQLITE,
    limit: int | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Outcome:
    """Replay a log through a federation in `directory`, and compare the hub's figures with the log's.

    The refused rows are written to `report` before anything is played. `limit`: the first so many cases alone.

    Raises `LogUnreadable`, `ColumnsMissing`, `NothingToPlay`, `DirectoryInUse`, `ReplayFailed`, `NeverSettled`,
    `NoAnswer`, and what `Federation.start` does.
    """
    whole = read_log(log, mapping, on_rows=lambda rows: progress("reading rows", rows, None))
    write_report(report, whole.refused)
    if not whole.cases:
        raise NothingToPlay(log, whole.rows_read)
    require_unused(directory)
    plan = first_cases(whole, limit)
    federation = Federation(
        directory,
        plan.tree.bureaus,
        database=database,
        clock_start=plan.cases[0].registered_at,
        node_settings={"follow_up_workdays": FOLLOW_UP_WORKDAYS, "returns_max": RETURNS_MAX},
    )
    progress("starting bureaus", 0, len(federation.tree))
    async with federation:
        steps = sum(1 + len(case.steps) for case in plan.cases)
        played = await Driver(federation, plan, lambda done: progress("playing steps", done, steps)).play()
        began = time.monotonic()
        heads = await settle(federation, lambda done, total: progress("folding entries", done, total))
        settled = time.monotonic() - began
        found = await reconciled(federation, lambda look: progress("reading every ledger again", look, None))
        answer = await federation.hub().figures(int(Grouping.EVERY_BUREAU))
    hub, expected = hub_figures(answer.rows), figures_of(plan, published_calendar())
    return Outcome(
        plan=plan,
        cases_left_out=len(whole.cases) - len(plan.cases),
        rows_left_out=whole.rows_used - plan.rows_used,
        played=played,
        journal_entries=sum(heads.values()),
        seconds_settling=settled,
        expected=expected,
        hub=hub,
        reconciliation=found,
        report=report,
        differences=compare(hub, expected),
    )


def first_cases(plan: Plan, limit: int | None) -> Plan:
    """The plan of the first so many cases, with the bureaus that they need; of all without a limit."""
    if limit is None or limit >= len(plan.cases):
        return plan
    cases = plan.cases[:limit]
    codes = {code for case in cases for code in _bureaus_of(case)}
    return replace(
        plan,
        cases=cases,
        tree=LogTree(part_of(plan.tree.bureaus, codes), plan.tree.codes),
        ends_at=max(case.steps[-1].at if case.steps else case.registered_at for case in cases),
    )


def _bureaus_of(case: CaseHistory) -> set[str]:
    return {case.origin} | {step.to_bureau for step in case.steps if isinstance(step, HandOver)}
