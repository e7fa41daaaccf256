"""台账: the ledger as it is kept on paper (§四(一), §五(三)), page by page to read and print, and whole as a workbook.

Columns and lines are those of `kx case export`; the role decides whether contacts are masked, as there.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, urlencode

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.tree import code_and_name
from kuaixiang.web.console import Console, Visit
from kuaixiang.web.language import Language, Name
from kuaixiang.wire.v1 import case_pb2
from node.channels.ledger_export import ledger_page
from node.channels.ledger_table import COLUMNS, Period, Place, Value, Writing, XlsxSink, export_request, line
from node.days import day_of
from node.desk.asking import Services, departments_of, inside, whole_number

PAGE_SIZE: Final = 50
LINES_MAX: Final = 10_000_000
"""No ledger is as long: a line's number comes from the address."""
PIECE_BYTES: Final = 256 * 1024
WIDE: Final = 19
NARROW: Final = 10
"""Widths of columns, in characters, from which a text has room and below which a word is enough."""


def routes(console: Console, services: Services) -> list[Route]:
    """The pages of the ledger."""
    pages = _Pages(services)
    return [console.route("/ledger", pages.shown), console.route("/ledger.xlsx", pages.exported)]


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._place = services.office.place

    async def shown(self, visit: Visit) -> Response:
        """Some lines of the ledger, by the days of acceptance, in the order of acceptance."""
        query = visit.request.query_params
        number = query.get("line", "")
        # Of the address, and only a number on the page.
        first = max(1, min(whole_number(number), LINES_MAX))
        try:
            request = _request(visit)
            answer, following = await ledger_page(self._services.office, request, query.get("page", ""), PAGE_SIZE)
        except Refused as refusal:
            return _page(visit, refusal=refusal)
        english = visit.language is Language.ENGLISH
        names = departments_of(self._services, visit.person.bureau)
        places = [
            Place(row, at, self._bureau_name, english, lambda code: names.get(code, code))
            for at, row in enumerate(answer.rows, first)
        ]
        chosen = _chosen(visit)
        further = chosen | {"page": following, "line": str(first + len(places))}
        return _page(
            visit,
            lines=[[_written(value) for value in line(place)] for place in places],
            numbers=(first, first + len(places) - 1),
            masked=answer.contacts_masked,
            first=f"/ledger?{urlencode(chosen)}" if query.get("page") else "",
            following=f"/ledger?{urlencode(further)}" if following else "",
        )

    async def exported(self, visit: Visit) -> Response:
        """The ledger as a workbook, by the same days."""
        try:
            request = _request(visit)
            period = _period(visit)
        except Refused as refusal:
            return _page(visit, refusal=refusal)
        folder = Path(tempfile.mkdtemp(prefix="kx-ledger-"))
        file = folder / "ledger.xlsx"
        bureau = visit.person.bureau
        writing = Writing(file, XlsxSink, bureau=bureau, bureau_name=self._bureau_name, period=period)
        try:
            await _write(writing, self._services.cases.ExportLedger(request, inside(visit.person)))
            content = file.open("rb")
        finally:
            # Whatever becomes of the answer, no ledger stays behind: an open file can be read without its name.
            shutil.rmtree(folder)
        today = self._services.office.place.calendar.day_of(self._services.office.place.clock.now())
        name = quote(f"台账-{bureau}-{today.isoformat()}.xlsx")
        return StreamingResponse(
            _pieces(content),
            media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
        )

    def _bureau_name(self, code: str) -> str:
        return code_and_name(self._place.tree, code)


async def _pieces(content: BinaryIO) -> AsyncIterator[bytes]:
    with content:
        while piece := await asyncio.to_thread(content.read, PIECE_BYTES):
            yield piece


async def _write(writing: Writing, answers: AsyncIterator[case_pb2.ExportLedgerResponse]) -> None:
    """The whole file, in threads: officers at work do not wait for it."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(writing.begin(await anext(answers)))
        async for answer in answers:

            def write(rows: list[case_pb2.LedgerRow]) -> None:
                for row in rows:
                    sink.write(writing.line(row))

            await asyncio.to_thread(write, list(answer.rows))
        ending = stack.pop_all()
    await asyncio.to_thread(ending.close)


def _request(visit: Visit) -> case_pb2.ExportLedgerRequest:
    person = visit.person
    return export_request(
        bureau=person.bureau,
        actor=person.actor,
        role=int(person.role),
        department=person.department,
        period=_period(visit),
        open_only=bool(visit.request.query_params.get("open")),
    )


def _period(visit: Visit) -> Period:
    """The days of acceptance that the address names; raises `FieldMalformed`."""
    query = visit.request.query_params
    first, last = query.get("from", "").strip(), query.get("to", "").strip()
    return Period(day_of(first, "from_day") if first else None, day_of(last, "to_day") if last else None)


def _chosen(visit: Visit) -> dict[str, str]:
    query = visit.request.query_params
    return {name: query[name] for name in ("from", "to", "open") if query.get(name)}


def _page(
    visit: Visit,
    *,
    lines: list[list[str]] | None = None,
    numbers: tuple[int, int] = (1, 0),
    masked: bool = False,
    first: str = "",
    following: str = "",
    refusal: Refused | None = None,
) -> Response:
    english = visit.language is Language.ENGLISH
    return visit.page(
        "ledger.html",
        headings=[
            (
                column.english if english else column.heading,
                "wide" if column.width >= WIDE else "narrow" if column.width < NARROW else "",
            )
            for column in COLUMNS
        ],
        lines=lines or [],
        numbers=numbers,
        masked=masked,
        chosen=_chosen(visit),
        first=first,
        next=following,
        refusal=refusal,
        wrong=refusal.field if refusal is not None else "",
    )


def _written(value: Value) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case date():
            return value.isoformat()
        case _:
            text = str(value)
            # Names and texts say that they are Chinese; codes and the words of the field are in the page's language.
            return text if text.isascii() else Name(text)
