"""The confirmed common issues: each with a number of its own, an owner, a standard answer and its key terms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from hub.store import METADATA, Store
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX, at_most, check_actor, required
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.text.terms import PAIR, TERM_CHARACTERS_MAX

NATIONAL: Final = "000000"
"""The scope whose issues are numbered without it: GX-2026-0001."""
TITLE_CHARACTERS_MAX: Final = 100
OWNER_CHARACTERS_MAX: Final = 64
TERMS_MAX: Final = 20
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 500
WORDS_KNOWN_MIN: Final = 2
SHARE_KNOWN_MIN: Final = 0.5
"""Terms found are taken for a confirmed issue when so many of their words, and this share of the fewer, are alike."""

COMMON_ISSUES: Final = sa.Table(
    "common_issues",
    METADATA,
    sa.Column("issue_id", sa.String(32), primary_key=True),
    sa.Column("year", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("title", sa.Text, nullable=False, unique=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("standard_answer", sa.Text, nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("confirmed_at_us", sa.BigInteger, nullable=False),
    sa.Column("confirmed_by", sa.Text, nullable=False),
    sa.Column("changed_at_us", sa.BigInteger, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.UniqueConstraint("year", "number"),
)
_SEPARATOR: Final = "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A confirmed common issue; `changed_at` None while it stands as it was confirmed."""

    issue_id: str
    title: str
    owner: str
    standard_answer: str
    terms: tuple[str, ...]
    confirmed_at: datetime
    confirmed_by: str
    changed_at: datetime | None = None
    changed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be confirmed: a new issue, or a change of one when `issue_id` is given."""

    issue_id: str
    title: str
    owner: str
    standard_answer: str
    terms: tuple[str, ...]
    actor: str


class UnknownIssue(Refused):
    """This hub has no such issue."""

    condition = Condition.MISSING
    field = "issue_id"
    remedy = "`kx hub issues list` shows the confirmed ones."
    remedy_chinese = "可用 kx hub issues list 查看已确认的共性诉求。"

    def __init__(self, issue_id: str) -> None:
        super().__init__(f"There is no common issue {issue_id!r}.", f"没有编号为“{issue_id}”的共性诉求。")


class TitleTaken(Refused):
    """Another issue has the title; it may be the same, confirmed by a call whose answer was lost."""

    condition = Condition.CONFLICT
    field = "title"

    def __init__(self, issue_id: str) -> None:
        self.remedy = f"Change {issue_id}, or choose another title."
        self.remedy_chinese = f"请修改 {issue_id}，或者另拟标题。"
        super().__init__(f"The common issue {issue_id} has this title.", f"共性诉求 {issue_id} 已使用这一标题。")


def check(wanted: Wanted) -> None:
    """Raises `FieldMissing`, `FieldMalformed`."""
    required(wanted.title, "title", Both("an issue is known by it", "用于识别共性诉求"))
    at_most(wanted.title, "title", TITLE_CHARACTERS_MAX)
    required(wanted.owner, "owner", Both("somebody keeps the answer", "须明确由谁维护标准答复"))
    at_most(wanted.owner, "owner", OWNER_CHARACTERS_MAX)
    required(wanted.standard_answer, "standard_answer", Both("cases are answered by it", "诉求据此答复"))
    at_most(wanted.standard_answer, "standard_answer", NOTE_CHARACTERS_MAX)
    check_actor(wanted.actor)
    if not 1 <= len(wanted.terms) <= TERMS_MAX:
        what = Both(f"has {len(wanted.terms)} terms", f"有 {len(wanted.terms)} 个关键词")
        remedy = Both(f"Give 1 to {TERMS_MAX} of them.", f"请填写 1 至 {TERMS_MAX} 个关键词。")
        raise FieldMalformed("terms", what, remedy)
    for term in wanted.terms:
        required(term, "terms", Both("an empty term finds nothing", "空的关键词没有意义"))
        at_most(term, "terms", TERM_CHARACTERS_MAX)
        if _SEPARATOR in term:
            raise FieldMalformed(
                "terms",
                Both("holds a term of two lines", "中有换行"),
                Both("Write each term on its own.", "请逐个填写关键词。"),
            )


def confirm(store: Store, wanted: Wanted, at: datetime) -> Issue | Refused:
    """Writes an issue, durably; or says why not. For the store's writing thread, on which nothing may be raised."""
    table = COMMON_ISSUES
    with store.writing() as connection:
        taken = connection.execute(sa.select(table.c.issue_id).where(table.c.title == wanted.title)).scalar()
        if taken is not None and taken != wanted.issue_id:
            return TitleTaken(taken)
        if wanted.issue_id:
            return _change(connection, wanted, at)
        year = at.astimezone(SHANGHAI).year
        last = connection.execute(sa.select(sa.func.max(table.c.number)).where(table.c.year == year)).scalar()
        number = (last or 0) + 1
        issue = Issue(
            issue_id=_issue_id(store.scope, year, number),
            title=wanted.title,
            owner=wanted.owner,
            standard_answer=wanted.standard_answer,
            terms=wanted.terms,
            confirmed_at=at,
            confirmed_by=wanted.actor,
        )
        connection.execute(sa.insert(table), {**_row(issue), "year": year, "number": number})
        return issue


def _change(connection: sa.Connection, wanted: Wanted, at: datetime) -> Issue | Refused:
    known = _one(connection, wanted.issue_id)
    if known is None:
        return UnknownIssue(wanted.issue_id)
    changed = replace(
        known,
        title=wanted.title,
        owner=wanted.owner,
        standard_answer=wanted.standard_answer,
        terms=wanted.terms,
        changed_at=at,
        changed_by=wanted.actor,
    )
    table = COMMON_ISSUES
    connection.execute(sa.update(table).where(table.c.issue_id == wanted.issue_id), _row(changed))
    return changed


def issue_of(store: Store, issue_id: str) -> Issue:
    """A confirmed issue. Raises `UnknownIssue`."""
    with store.reading() as connection:
        found = _one(connection, issue_id)
    if found is None:
        raise UnknownIssue(issue_id)
    return found


def issues(store: Store, page_size: int, page_token: str) -> tuple[list[Issue], str]:
    """A page of the confirmed issues, latest first, and the token of the next one (empty after the last)."""
    table = COMMON_ISSUES
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    query = sa.select(table).order_by(table.c.year.desc(), table.c.number.desc()).limit(size + 1)
    if page_token:
        year, number = _read_token(page_token)
        query = query.where(sa.or_(table.c.year < year, sa.and_(table.c.year == year, table.c.number < number)))
    with store.reading() as connection:
        rows = connection.execute(query).all()
    more = f"{rows[size - 1].year}-{rows[size - 1].number}" if len(rows) > size else ""
    return [_issue(row) for row in rows[:size]], more


def all_issues(store: Store) -> list[Issue]:
    """Every confirmed issue, latest first."""
    table = COMMON_ISSUES
    with store.reading() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.year.desc(), table.c.number.desc())).all()
    return [_issue(row) for row in rows]


def titles(connection: sa.Connection) -> dict[str, str]:
    """What each confirmed issue is called."""
    rows = connection.execute(sa.select(COMMON_ISSUES.c.issue_id, COMMON_ISSUES.c.title))
    return {row.issue_id: row.title for row in rows}


def known_as(terms: Iterable[str], confirmed: Sequence[Issue]) -> str:
    """The confirmed issue that terms found are most like; empty when none is like enough."""
    words = _words(terms)
    best, share = "", 0.0
    for issue in confirmed:
        own = _words(issue.terms)
        alike = len(words & own)
        of_fewer = alike / max(1, min(len(words), len(own)))
        if alike >= min(WORDS_KNOWN_MIN, len(own)) and of_fewer >= SHARE_KNOWN_MIN and of_fewer > share:
            best, share = issue.issue_id, of_fewer
    return best


def _words(terms: Iterable[str]) -> frozenset[str]:
    return frozenset(word for term in terms for word in term.split(PAIR))


def _issue_id(scope: str, year: int, number: int) -> str:
    return f"GX-{year}-{number:04d}" if scope == NATIONAL else f"GX-{scope}-{year}-{number:04d}"


def _one(connection: sa.Connection, issue_id: str) -> Issue | None:
    row = connection.execute(sa.select(COMMON_ISSUES).where(COMMON_ISSUES.c.issue_id == issue_id)).one_or_none()
    return _issue(row) if row is not None else None


def _issue(row: sa.Row[Any]) -> Issue:
    return Issue(
        issue_id=row.issue_id,
        title=row.title,
        owner=row.owner,
        standard_answer=row.standard_answer,
        terms=tuple(row.terms.split(_SEPARATOR)),
        confirmed_at=from_micros(row.confirmed_at_us),
        confirmed_by=row.confirmed_by,
        changed_at=from_micros(row.changed_at_us) if row.changed_at_us else None,
        changed_by=row.changed_by,
    )


def _row(issue: Issue) -> dict[str, Any]:
    return {
        "issue_id": issue.issue_id,
        "title": issue.title,
        "owner": issue.owner,
        "standard_answer": issue.standard_answer,
        "terms": _SEPARATOR.join(issue.terms),
        "confirmed_at_us": to_micros(issue.confirmed_at),
        "confirmed_by": issue.confirmed_by,
        "changed_at_us": to_micros(issue.changed_at) if issue.changed_at else 0,
        "changed_by": issue.changed_by,
    }


def _read_token(token: str) -> tuple[int, int]:
    year, _, number = token.partition("-")
    if not (year.isdecimal() and number.isdecimal() and len(token) < OWNER_CHARACTERS_MAX):
        raise FieldMalformed(
            "page_token",
            Both("is not a token of this list", "不是本列表的翻页标记"),
            Both("Pass the next_page_token of the page before, as it is.", "请原样传入上一页返回的 next_page_token。"),
        )
    return min(int(year), 9999), min(int(number), 2**31 - 1)
