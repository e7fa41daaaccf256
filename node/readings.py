"""Readings of what is private: whoever reads is an officer of the bureau, in a role that may read it so.

What a person reads in clear is recorded before it is answered: one entry for each reading, however soon after the last
one, for how often somebody looked is what an auditor asks. Of masked data nothing is recorded.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from kuaixiang.domain.attachments import check_digest
from kuaixiang.domain.disclosure import check_disclosure, masked
from kuaixiang.domain.events import AttachmentRead, Entry, LedgerEvent, PrivateRead
from kuaixiang.domain.registration import check_actor, check_department
from kuaixiang.domain.words import Disclosure, Role
from kuaixiang.wire.codec import enum_of
from kuaixiang.wire.v1 import case_pb2
from node.ledger import queries
from node.ledger.queries import HistoryEntry
from node.office import Header, Office

Request = case_pb2.GetCaseRequest | case_pb2.ReadAttachmentRequest | case_pb2.ExportLedgerRequest


def reader_of(office: Office, request: Request, case_id: str = "") -> Header:
    """Who reads what, as the request says and the bureau's list of staff holds it; raises `Refused`."""
    office.check_hosted(request.bureau, "bureau")
    reader = Header(
        bureau=request.bureau,
        case_id=case_id,
        actor=request.actor,
        role=enum_of(Role, request.role, "role"),
        department=request.department,
    )
    check_actor(reader.actor, "actor")
    check_department(reader.department, "department")
    office.place.staff(reader.bureau).check_officer(reader.actor, reader.role, reader.department)
    return reader


async def record(office: Office, reader: Header, event: LedgerEvent) -> None:
    """Records a reading in clear; it is durable when this returns. Raises what `Office.note` raises."""
    await office.note(reader, lambda draft, context: draft.note(context, event, reader.case_id).seq)


async def let_read(office: Office, request: case_pb2.GetCaseRequest) -> Disclosure | None:
    """How what is private of a case that is there is shown to who asks for it, recorded where it is shown in clear.

    None where nothing private is asked for. Raises `PrivateNotForRole` and what `reader_of` and `record` raise.
    """
    if not request.private:
        return None
    wanted = enum_of(Disclosure, request.private, "private")
    reader = reader_of(office, request, request.case_id)
    check_disclosure(reader.role, wanted)
    if wanted is Disclosure.FULL:
        await record(office, reader, PrivateRead())
    return wanted


async def read_attachment(office: Office, request: case_pb2.ReadAttachmentRequest) -> AsyncIterator[bytes]:
    """The content of a file of a case, piece by piece; raises `Refused`. It cannot be masked: it is read in clear."""
    check_digest(request.digest, "digest")
    reader = reader_of(office, request, request.case_id)
    check_disclosure(reader.role, Disclosure.FULL)
    pieces = office.read_attachment(request.bureau, request.case_id, request.digest)
    # What is not there is refused by the first piece, and nobody has read it.
    first = await anext(pieces)
    await record(office, reader, AttachmentRead())
    yield first
    async for piece in pieces:
        yield piece


async def history_of(office: Office, bureau: str, case_id: str, disclosure: Disclosure | None) -> list[HistoryEntry]:
    """The entries of a case and the latest readings of it, in the journal's order, shown in that way."""
    database = office.ledger.database
    entries = await asyncio.to_thread(queries.history, database, bureau, case_id, private=disclosure is not None)
    readings = await asyncio.to_thread(queries.readings, database, bureau, case_id)
    if disclosure is Disclosure.MASKED:
        entries = [replace(item, entry=masked_entry(item.entry)) for item in entries]
    return sorted((*entries, *readings), key=lambda item: item.seq)


def masked_entry(entry: Entry) -> Entry:
    """The same with what is private of it masked."""
    private = entry.event.private
    return replace(entry, event=replace(entry.event, private=masked(private))) if private is not None else entry
