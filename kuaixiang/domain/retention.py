"""How long what is private of a case is kept after it has ended, and what holds it back. Pure.

The notice sets no term; a bureau's rules on archives do, so that the number of years is a setting. What ends the term
is never the passing of time alone: a case that is open, was opened again, went to reconsideration, is under a
supervision order or in dispute between ledgers keeps what it has.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.case import Case
from kuaixiang.domain.words import Custody, Outcome, Stage


class Hold(StrEnum):
    """Why what is private of a case is kept."""

    OPEN = "open"
    """It is not written off, or open again."""
    TERM = "term"
    """It has not been written off for long enough."""
    RECONSIDERATION = "reconsideration"
    """It left for 行政复议, whose files have a term of their own."""
    ORDER = "order"
    """An open supervision order (督办) names it."""
    DISPUTE = "dispute"
    """Another ledger tells something else of it, or is still to be told how it ended."""


def kept_because(case: Case, now: datetime, years: int, under_order: Collection[str]) -> Hold | None:
    """What holds the private data of a case; None when they are to be erased.

    `under_order` are the cases that open supervision orders name.
    """
    if case.stage is not Stage.WRITTEN_OFF or case.custody is Custody.OFFERED:
        return Hold.OPEN
    if case.conclusion is not None and case.conclusion.outcome is Outcome.RECONSIDERATION:
        return Hold.RECONSIDERATION
    if case.case_id in under_order:
        return Hold.ORDER
    if case.mismatches or case.awaiting:
        return Hold.DISPUTE
    if now < term_ends(case.last_at, years):
        return Hold.TERM
    return None


def term_ends(ended_at: datetime, years: int) -> datetime:
    """The end of the day in Shanghai on which so many years have passed; 28 February where there is no 29th."""
    day = ended_at.astimezone(SHANGHAI)
    try:
        last = day.replace(year=day.year + years)
    except ValueError:
        last = day.replace(year=day.year + years, day=28)
    return last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def term_began_before(now: datetime, years: int) -> datetime:
    """No case that was registered after this instant can be past its term."""
    return now - timedelta(days=365 * years)
