"""The text form of the facts: comment lines that name the edition, then comma-separated rows under a header.

    # version: 2026-09
    gb_code,name,tier,parent
    000000,国家税务总局,national,

A comment line `# key: value` above the rows belongs to the edition; every other comment line is ignored.
"""

import csv
import re
from dataclasses import dataclass, field
from datetime import date

from kuaixiang.domain.calendar import CalendarError, DayBothOffAndWork, DayOutsideCalendar, WorkingCalendar
from kuaixiang.domain.identifiers import DIVISION_DIGITS, is_division_code
from kuaixiang.domain.tree import Bureau, BureauTree, Tier, TreeError

CALENDAR_COLUMNS = ("date", "name", "kind")
OFF, WORK = "off", "work"
"""Words of the kind column."""

TREE_COLUMNS = ("gb_code", "name", "tier", "parent")
MORE_TREE_COLUMNS = ("endpoint", "desk", "fingerprints", "formerly", "successor")
"""Further columns of the tree, in this order; as many of them as are wanted. The two before the last list by spaces."""
DESK_ADDRESS = re.compile(r"https?://[^/\s?#]+")
"""Where pages are, without a path: whatever else stood there would become a link on a superior's board."""
ENDPOINT = re.compile(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
"""Where a node answers: host:port, with an IPv6 address in brackets."""
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
"""SHA-256 in hexadecimal, once the colons that OpenSSL writes are taken out."""
TIERS = {
    "national": Tier.NATIONAL,
    "provincial": Tier.PROVINCIAL,
    "prefecture": Tier.PREFECTURE,
    "city": Tier.PREFECTURE,
    "county": Tier.COUNTY,
}
"""Words of the tier column; `city` is how lists of administrative divisions call a prefecture."""


class FactsError(ValueError):
    """Base of every condition under which a file of facts cannot be used."""


class FactsMalformed(FactsError):
    """A line of the facts does not say what it must. Line 0 means the text as a whole."""

    def __init__(self, source: str, line: int, problem: str, remedy: str) -> None:
        super().__init__(source, line, problem, remedy)
        self.source = source
        self.line = line
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.source}, line {self.line}" if self.line else self.source
        return f"{where}: {self.problem}; {self.remedy}"


def parse_calendar(text: str, source: str = "the calendar") -> WorkingCalendar:
    """Read a working calendar.

    Its edition lines are `# version:`, `# first:` and `# horizon:`, the first and the last published day; its columns
    `date,name,kind`, days as YYYY-MM-DD and the kind `off` or `work`. `source` is what an error calls the text.

    Raises:
        FactsMalformed.

    """
    table = _read(text, source)
    _check_columns(table, CALENDAR_COLUMNS)
    listed: dict[date, int] = {}
    days: dict[str, set[date]] = {OFF: set(), WORK: set()}
    for line, (written, _, kind) in table.rows:
        day = _day(table, line, written)
        if kind not in days:
            raise FactsMalformed(source, line, f"the kind is {kind!r}", f"write {OFF} or {WORK}")
        if day in listed:
            raise FactsMalformed(source, line, f"{day} is listed already on line {listed[day]}", "keep one of them")
        listed[day] = line
        days[kind].add(day)
    first, horizon = (_day(table, *_edition(table, key)) for key in ("first", "horizon"))
    _, version = _edition(table, "version")
    try:
        return WorkingCalendar(version, first, horizon, frozenset(days[OFF]), frozenset(days[WORK]))
    except (DayOutsideCalendar, DayBothOffAndWork) as error:
        remedy = "correct the row, the first day or the horizon"
        raise FactsMalformed(source, listed[error.day], str(error), remedy) from error
    except CalendarError as error:
        raise FactsMalformed(source, 0, str(error), "correct the first day or the horizon") from error


def parse_tree(text: str, source: str = "the tree") -> BureauTree:
    """Read a tree of bureaus.

    Its edition line is `# version:`; its columns `gb_code,name,tier,parent` and, if wanted, `endpoint`, `desk`,
    `fingerprints`, `formerly` and `successor`, in this order; leave off those at the end that are not wanted. The
    root's parent is empty. `source` is what an error calls the text.

    Raises:
        FactsMalformed.

    """
    table = _read(text, source)
    every_column = (*TREE_COLUMNS, *MORE_TREE_COLUMNS)
    _check_columns(table, *(every_column[:count] for count in range(len(TREE_COLUMNS), len(every_column) + 1)))
    listed: dict[str, int] = {}
    bureaus = []
    for line, row in table.rows:
        code, name, tier, parent, endpoint, desk, pinned, formerly, successor = (
            *row,
            *("",) * (len(every_column) - len(row)),
        )
        if not is_division_code(code):
            raise FactsMalformed(source, line, f"the bureau code is {code!r}", f"write {DIVISION_DIGITS} digits")
        if not name:
            raise FactsMalformed(source, line, f"bureau {code} has no name", "write its name")
        if tier not in TIERS:
            raise FactsMalformed(source, line, f"the tier is {tier!r}", f"write one of {', '.join(TIERS)}")
        if endpoint and not ENDPOINT.fullmatch(endpoint):
            raise FactsMalformed(source, line, f"the endpoint is {endpoint!r}", "write host:port, or leave it empty")
        if desk and not DESK_ADDRESS.fullmatch(desk):
            raise FactsMalformed(source, line, f"the desk is {desk!r}", "write http://host:port, or leave it empty")
        if code in listed:
            raise FactsMalformed(source, line, f"{code} is listed already on line {listed[code]}", "keep one of them")
        listed[code] = line
        fingerprints = tuple(written.replace(":", "").lower() for written in pinned.split())
        for fingerprint in fingerprints:
            if not FINGERPRINT.fullmatch(fingerprint):
                remedy = "write SHA-256 of the certificate, as `kx pki show` does"
                raise FactsMalformed(source, line, f"the fingerprint is {fingerprint!r}", remedy)
        earlier = tuple(formerly.split())
        bureau = Bureau(code, name, TIERS[tier], parent or None, endpoint, desk, fingerprints, earlier, successor)
        bureaus.append(bureau)
    _, version = _edition(table, "version")
    try:
        return BureauTree(version, bureaus)
    except TreeError as error:
        line = listed[error.codes[0]] if error.codes else 0
        raise FactsMalformed(source, line, str(error), "correct the superior or the tier") from error


@dataclass(frozen=True, slots=True)
class _Table:
    source: str
    edition: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Line and value by key."""
    header: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """Line and columns; empty when the text has no rows at all."""
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def _read(text: str, source: str) -> _Table:
    """Split a text into its parts. Blank lines, and the byte-order mark spreadsheets write, are passed over."""
    table = _Table(source)
    for line, written in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if written.startswith("#"):
            key, _, value = written[1:].partition(":")
            if not table.header:
                table.edition[key.strip()] = (line, value.strip())
        elif written.strip():
            cells = [cell.strip() for cell in next(csv.reader([written]))]
            if table.header:
                table.rows.append((line, cells))
            else:
                table.header.append((line, tuple(cells)))
    return table


def _check_columns(table: _Table, *allowed: tuple[str, ...]) -> None:
    """Check the header, and that every row has as many fields."""
    remedy = f"write {' or '.join(','.join(columns) for columns in allowed)}"
    if not table.header:
        raise FactsMalformed(table.source, 0, "there is no header", remedy)
    ((header_line, header),) = table.header
    if header not in allowed:
        raise FactsMalformed(table.source, header_line, f"the columns are {','.join(header)}", remedy)
    for line, row in table.rows:
        if len(row) != len(header):
            remedy = f"write {','.join(header)}"
            raise FactsMalformed(table.source, line, f"the row has {len(row)} fields, not {len(header)}", remedy)


def _edition(table: _Table, key: str) -> tuple[int, str]:
    """Line and value of an edition line, which must be there."""
    line, value = table.edition.get(key, (0, ""))
    if not value:
        remedy = f"write a line '# {key}: ...' above the header"
        raise FactsMalformed(table.source, line, f"the {key} is not named", remedy)
    return line, value


def _day(table: _Table, line: int, written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError as error:
        raise FactsMalformed(table.source, line, f"{written!r} is not a day", "write it as YYYY-MM-DD") from error
