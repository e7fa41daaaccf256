"""The figures of the four event logs, computed straight from the CSV: with `csv`, `datetime` and another calendar.

Nothing of `demo.replay` or `kuaixiang` is used: what the mapping files say is said here a second time.
The handling clock, as SPEC §4 has it: five working days after the day it starts on, to midnight in Shanghai.
"""

import csv
import datetime as dt
import gzip
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import chinese_calendar

SHANGHAI = dt.timezone(dt.timedelta(hours=8))

Row = dict[str, str]
Bureau = tuple[str, ...]


@dataclass
class Found:
    """Figures by bureau and by name: registered, completed, deferred, met, missed, up, down, across, returned, received."""

    figures: defaultdict[Bureau, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rows_read: int = 0
    rows_used: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cases: int = 0
    parents: dict[Bureau, Bureau] = field(default_factory=dict)

    @property
    def total(self) -> Counter[str]:
        return sum(self.figures.values(), Counter())


def rows_of(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


@cache
def due(day: dt.date) -> dt.datetime:
    """The first instant that is too late for what began on the day."""
    left = 5
    while left:
        day += dt.timedelta(days=1)
        left -= chinese_calendar.is_workday(day)
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), SHANGHAI)


def late(started: dt.datetime, stopped: dt.datetime) -> bool:
    return stopped >= due(started.astimezone(SHANGHAI).date())


def boston(path: Path) -> Found:
    def at(text: str) -> dt.datetime:
        return dt.datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=ZoneInfo("America/New_York"))

    found = Found()
    open_cases: list[tuple[Bureau, dt.datetime]] = []
    ends = dt.datetime.min.replace(tzinfo=dt.UTC)
    for row in rows_of(path):
        found.rows_read += 1
        bureau: Bureau = ("City of Boston", row["Department"], row["QUEUE"])
        opened = at(row["OPEN_DT"]).astimezone(dt.UTC)
        closed = at(row["CLOSED_DT"]).astimezone(dt.UTC) if row["CLOSED_DT"] else None
        if closed is not None and closed < opened:
            found.refused["closed before opened"] += 1
            continue
        found.rows_used += 1
        found.cases += 1
        found.figures[bureau]["registered"] += 1
        ends = max(ends, opened, closed or opened)
        if closed is None:
            open_cases.append((bureau, opened))
        else:
            found.figures[bureau]["completed"] += 1
            found.figures[bureau]["missed" if late(opened, closed) else "met"] += 1
    for holder, opened in open_cases:
        found.figures[holder]["missed"] += late(opened, ends)
    return found


def bpic(path: Path) -> Found:
    found = Found()
    cases: dict[str, list[tuple[dt.datetime, Bureau, str]]] = {}
    for row in rows_of(path):
        found.rows_read += 1
        moment = dt.datetime.fromisoformat(row["time:timestamp"])
        state = row["concept:name"] + "/" + row["lifecycle:transition"]
        bureau = (row["org:group"], row["organization involved"])
        cases.setdefault(row["case:concept:name"], []).append((moment, bureau, state))
    moves: Counter[tuple[Bureau, Bureau]] = Counter()
    returns: Counter[tuple[Bureau, Bureau]] = Counter()
    for events in cases.values():
        done = max(at for at, event in enumerate(events) if event[2].startswith("Completed/"))
        found.refused["event after the completion"] += len(events) - 1 - done
        found.rows_used += done + 1
        found.cases += 1
        came_from: Bureau | None = None
        for move in hand_overs(found, events[: done + 1]):
            moves[move] += 1
            returned = move[1] == came_from
            returns[move] += returned
            came_from = None if returned else move[0]
    found.refused += Counter()
    found.parents = superiors({event[1] for events in cases.values() for event in events}, moves)
    for (sender, receiver), times in moves.items():
        if receiver in above(found.parents, sender):
            direction = "up"
        elif sender in above(found.parents, receiver):
            direction = "down"
        else:
            direction = "across"
        found.figures[sender][direction] += times - returns[sender, receiver]
        found.figures[sender]["returned"] += returns[sender, receiver]
        found.figures[receiver]["received"] += times
    return found


def hand_overs(found: Found, events: list[tuple[dt.datetime, Bureau, str]]) -> Iterator[tuple[Bureau, Bureau]]:
    """Counts one case of `bpic`, and gives its hand-overs."""
    started: dt.datetime | None = events[0][0]
    holder = events[0][1]
    found.figures[holder]["registered"] += 1
    for position, (moment, bureau, state) in enumerate(events):
        waits = state == "Accepted/Wait"
        if bureau != holder:
            if started is not None:
                found.figures[holder]["missed"] += late(started, moment)
            yield holder, bureau
            holder, started = bureau, moment
        if started is None and not waits:
            started = moment
        if started is not None and waits:
            found.figures[holder]["missed"] += late(started, moment)
            found.figures[holder]["deferred"] += 1
            started = None
        if position == len(events) - 1:
            assert started is not None
            found.figures[holder]["completed"] += 1
            found.figures[holder]["missed" if late(started, moment) else "met"] += 1


def line(bureau: Bureau) -> int:
    return {"2nd": 2, "3rd": 3}.get(bureau[1].rpartition(" ")[2], 1)


def superiors(teams: set[Bureau], moves: Counter[tuple[Bureau, Bureau]]) -> dict[Bureau, Bureau]:
    """A team's superior: of its organisation line, of a higher support line, the one it exchanged most with."""
    parents: dict[Bureau, Bureau] = {}
    for team in teams:
        candidates = []
        for other in teams:
            together = moves[team, other] + moves[other, team]
            if together and other[0] == team[0] and line(other) > line(team):
                candidates.append((-together, line(other), other))
        parents[team] = min(candidates)[2] if candidates else team[:1]
        parents[team[:1]] = ()
    return parents


def above(parents: dict[Bureau, Bureau], bureau: Bureau) -> list[Bureau]:
    chain = []
    while bureau in parents:
        bureau = parents[bureau]
        chain.append(bureau)
    return chain


def wabo(path: Path) -> Found:
    found = Found()
    town = ("Province", "Municipality")
    cases: dict[str, list[Row]] = {}
    for row in rows_of(path):
        found.rows_read += 1
        cases.setdefault(row["case:concept:name"], []).append(row)
    lives: list[tuple[dt.datetime, dt.datetime | None, list[tuple[dt.datetime, str]]]] = []
    for rows in cases.values():
        opened = dt.datetime.fromisoformat(rows[0]["case:startdate"])
        closed = dt.datetime.fromisoformat(rows[0]["case:enddate"]) if rows[0]["case:enddate"] else None
        if closed is not None and closed < opened:
            found.refused["closed before opened"] += len(rows)
            continue
        kept: list[tuple[dt.datetime, str]] = []
        for row in rows:
            moment = dt.datetime.fromisoformat(row["time:timestamp"])
            if moment < opened:
                found.refused["event before the registration"] += 1
            elif closed is not None and (moment - closed).total_seconds() > 60:
                found.refused["event after the completion"] += 1
            else:
                group = "" if row["org:group"] in {"EMPTY", ""} else row["case:department"] + row["org:group"]
                kept.append((min(moment, closed or moment), group))
        if kept:
            lives.append((opened, closed, kept))
            found.rows_used += len(kept)
    # An event that brings no change of group is no step, and the log ends with its last step.
    ends = max(
        moment
        for opened, closed, kept in lives
        for moment in (opened, closed or opened, *(at for at, _ in changes(kept)))
    )
    figures = found.figures[town]
    for opened, closed, kept in lives:
        found.cases += 1
        figures["registered"] += 1
        figures["completed"] += closed is not None
        starts = [at for at, _ in changes(kept)] or [opened]
        for started, stopped in pairwise(starts):
            figures["missed"] += late(started, stopped)
        if closed is None:
            figures["missed"] += late(starts[-1], ends)
        else:
            figures["missed" if late(starts[-1], closed) else "met"] += 1
    return found


def changes(events: list[tuple[dt.datetime, str]]) -> list[tuple[dt.datetime, str]]:
    """The events at which a known group takes over from another."""
    taken: list[tuple[dt.datetime, str]] = []
    for moment, group in events:
        if group and (not taken or taken[-1][1] != group):
            taken.append((moment, group))
    return taken


def helpdesk(path: Path) -> Found:
    found = Found()
    desk = found.figures["Services", "Help desk"]
    cases: dict[str, list[Row]] = {}
    for row in rows_of(path):
        found.rows_read += 1
        cases.setdefault(row["case:concept:name"], []).append(row)
    still_open: list[dt.datetime] = []
    ends = dt.datetime.min.replace(tzinfo=dt.UTC)
    for rows in cases.values():
        found.cases += 1
        desk["registered"] += 1
        done, used = resolution([row["concept:name"] for row in rows])
        found.rows_used += used
        if used < len(rows):
            found.refused["event after the completion"] += len(rows) - used
        started: dt.datetime | None = None
        group = ""
        for row in rows[: len(rows) if done is None else done + 1]:
            moment = dt.datetime.fromisoformat(row["time:timestamp"])
            here = row["support_section"] + "/" + row["workgroup"]
            if started is not None and here != group:
                desk["missed"] += late(started, moment)
                started = None
            waiting = row["concept:name"] == "Wait"
            if started is None and (not waiting or here != group):
                started = moment
                ends = max(ends, moment)
            group = here
            if waiting and started is not None:
                desk["missed"] += late(started, moment)
                desk["deferred"] += 1
                started = None
                ends = max(ends, moment)
        if done is None:
            still_open += [started] if started is not None else []
        else:
            moment = dt.datetime.fromisoformat(rows[done]["time:timestamp"])
            assert started is not None
            desk["completed"] += 1
            desk["missed" if late(started, moment) else "met"] += 1
            ends = max(ends, moment)
    desk["missed"] += sum(late(started, ends) for started in still_open)
    return found


def resolution(names: list[str]) -> tuple[int | None, int]:
    """Which event completes a ticket, and how many of its events are of use.

    The last `Resolve ticket` or `Closed` does; of a run of closings, what comes directly before them, if that resolves.
    """
    ending = [at for at, name in enumerate(names) if name in {"Resolve ticket", "Closed"}]
    if not ending:
        return None, len(names)
    last = first_of_run = ending[-1]
    while names[first_of_run] == "Closed" and first_of_run and names[first_of_run - 1] in {"Resolve ticket", "Closed"}:
        first_of_run -= 1
    return first_of_run, last + 1


BY_LOG: dict[str, Callable[[Path], Found]] = {
    "boston311-2015-h1": boston,
    "bpic2013-closed-problems": bpic,
    "wabo-receipt": wabo,
    "helpdesk": helpdesk,
}
