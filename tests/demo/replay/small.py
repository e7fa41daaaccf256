"""A log made by hand, small enough that its figures can be counted on one's fingers.

In March 2024 the 9th, 10th, 16th and 17th are a week's ends; no holiday falls in it. Five working days from Monday the
4th end on the 11th.
"""

from pathlib import Path

from demo.replay.figures import BureauFigures

MAPPING = """
[log]
title = "By hand"
form = "events"

[case]
id = "case"
text = "{what}"

[time]
format = "iso"
earliest = 2024-01-01
latest = 2025-01-01

[events]
at = "at"
state = ["what"]

[events.meaning]
asked = "progress"
moved = "progress"
waits = "wait"
goes-on = "progress"
done = "complete"

[tree]
headquarters = "Head office"
province.column = "line"
bureau.column = "team"
shape = "exchange"
lines = { " 2nd" = 2 }
line_default = 1

[departments]
name = "{section}"
unknown = { section = [""] }

[category]
default = "systems"

[channel]
default = "hotline"
"""

ROWS = """\
case,at,what,line,team,section
up and down,2024-03-04T09:00:00+08:00,asked,North,Desk,
across,2024-03-04T10:00:00+08:00,asked,North,Desk,
for ever,2024-03-04T11:00:00+08:00,asked,South,Counter,
up and down,2024-03-05T10:00:00+08:00,moved,North,Lab 2nd,
waiting,2024-03-05T09:00:00+08:00,asked,North,Lab 2nd,
for ever,2024-03-05T12:00:00+08:00,moved,South,Counter,
across,2024-03-06T09:00:00+08:00,moved,South,Counter,
waiting,2024-03-06T09:30:00+08:00,waits,North,Lab 2nd,
up and down,2024-03-06T10:00:00+08:00,moved,North,Desk,
hasty,2024-03-07T09:00:00+08:00,asked,North,Desk,
up and down,2024-03-07T10:00:00+08:00,done,North,Desk,
hasty,2024-03-07T10:00:00+08:00,moved,North,Lab 2nd,
hasty,2024-03-07T10:00:00.250000+08:00,moved,North,Desk,
hasty,2024-03-07T10:00:00.500000+08:00,done,North,Desk,
within,2024-03-08T09:00:00+08:00,asked,North,Desk,A
up and down,2024-03-08T09:30:00+08:00,moved,North,Desk,
no time,,asked,North,Desk,
no such word,2024-03-08T10:00:00+08:00,vanished,North,Desk,
too short,2024-03-08T10:00:00+08:00,asked
across,2024-03-15T09:00:00+08:00,done,South,Counter,
waiting,2024-03-18T09:00:00+08:00,goes-on,North,Lab 2nd,
within,2024-03-18T09:30:00+08:00,moved,North,Desk,B
waiting,2024-03-19T09:00:00+08:00,done,North,Lab 2nd,
within,2024-03-19T10:00:00+08:00,done,North,Desk,B
"""

REFUSED = {
    ("17", "up and down", "event after the completion"),
    ("18", "no time", "no time"),
    ("19", "no such word", "unknown state"),
    ("20", "too short", "malformed row"),
}
"""Line, case, reason."""

CASES = 6
EXPECTED = {
    "Head office": BureauFigures(relayed=1),
    "North": BureauFigures(relayed=1),
    "Lab 2nd": BureauFigures(registered=1, completed=1, deferred=1, met=1, returned=2, received=2, relayed=1),
    "Desk": BureauFigures(registered=4, completed=3, met=3, missed=1, referred_up=2, referred_across=1, received=2),
    "South": BureauFigures(relayed=1),
    "Counter": BureauFigures(registered=1, completed=1, missed=2, received=1),
}
"""By the bureau's name. Missed: `within` in section A, due on the 15th; `across` at Counter, due on the 13th; `for ever`,
due on the 11th."""


def write(folder: Path) -> tuple[Path, Path]:
    """The log and its mapping."""
    log, mapping = folder / "by-hand.csv", folder / "by-hand.toml"
    log.write_text(ROWS, encoding="utf-8")
    mapping.write_text(MAPPING, encoding="utf-8")
    return log, mapping
