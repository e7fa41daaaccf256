"""数据发布 on the board: an edition of a whole period, complete, or with two persons' names where figures are missing.

The rules are the service's: who may publish, that a period is over, and that who confirms is another person.
"""

from dataclasses import replace
from typing import Final

from starlette.datastructures import FormData
from starlette.responses import Response

from hub.board.bulletins import NoWholePeriod
from hub.board.days import Days
from hub.board.view import View
from hub.measures import measure_name
from hub.publishing import PeriodNotOver, end_of
from hub.seconding import NoOverrideToConfirm, asker_of
from kuaixiang.domain.authority import LEADERS
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.periods import Period, PeriodKind, period_of
from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.runtime.server import NOT_NOW, as_refusal

CORRECTIONS_SHOWN_MAX: Final = 200
"""Corrections told one by one; all of them are counted."""


async def publish_page(view: View) -> Response:
    """What stands of a period; a press publishes it, asks for a second person, or confirms as one."""
    view = _with_last_month(view)
    period = view.days.period
    if period is None:
        raise NoWholePeriod
    if view.visit.request.method == "GET":
        return await _page(view, period, FormData())
    form = await view.visit.form()
    try:
        await _do(view, period, form)
    except (Refused, *NOT_NOW) as error:
        return await _page(view, period, form, as_refusal(error))
    return view.visit.to(view.link("/publish", done=str(form.get("act", ""))))


async def _do(view: View, period: Period, form: FormData) -> None:
    """What the form says: `act` is the button that was pressed."""
    match form.get("act"):
        case "ask":
            await view.asking.publish(str(period), reason=str(form.get("override_reason", "")).strip())
        case "confirm":
            asked = (await view.asking.publication(period)).asked
            # He confirms the very words that he has read.
            if asked is None or str(asked.asked_at_us) != form.get("asked_at"):
                raise NoOverrideToConfirm(view.scope, period)
            await view.asking.publish(str(period), by=asked.actor)
        case _:
            await view.asking.publish(str(period))


async def _page(view: View, period: Period, form: FormData, refusal: Refused | None = None) -> Response:
    standing = await view.asking.publication(period)
    person, asked = view.visit.person, standing.asked
    is_over = to_micros(view.now) >= end_of(period)
    return view.page(
        "publish.html",
        refusal=refusal,
        standing=standing,
        not_over=None if is_over else PeriodNotOver(period),
        own=view.scope == person.bureau,
        may=view.scope == person.bureau and person.role in LEADERS,
        asked_by=None if asked is None else asker_of(asked).signature,
        asked_by_himself=asked is not None and (asked.bureau, asked.actor) == (person.bureau, person.actor),
        reason=str(form.get("override_reason", "")),
        reason_characters_max=NOTE_CHARACTERS_MAX,
        done=view.asked.get("done", "") if refusal is None else "",
        changed=[
            (one.cell[0], measure_name(one.cell[-1]), one) for one in standing.corrections[:CORRECTIONS_SHOWN_MAX]
        ],
        published_at=None if standing.edition is None else from_micros(standing.edition.published_at_us),
    )


def _with_last_month(view: View) -> View:
    """Without days in the address the last month that is over: one publishes what is."""
    if {"period", "from", "to"} & set(view.asked):
        return view
    month = period_of(view.today, PeriodKind.MONTH).previous
    return replace(view, days=Days(month.first, month.last, month))
