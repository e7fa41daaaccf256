"""CaseService: what officers and channels ask of their own bureau, over gRPC."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from kuaixiang.domain import acts
from kuaixiang.domain.authority import Caller, Subject
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.disclosure import masked
from kuaixiang.domain.errors import FieldMalformed, FieldMissing, Refused, UnknownCase
from kuaixiang.domain.events import CaseEvent, Entry, OrderEvent, Private
from kuaixiang.domain.identifiers import mask_name
from kuaixiang.domain.labels import Both, listed
from kuaixiang.domain.lights import CLOSED_STAGES, is_extended, light_of
from kuaixiang.domain.registration import TEXT_CHARACTERS_MAX, at_most, check_department, check_key
from kuaixiang.domain.sign_in import TokenNotForThis, check_token_channel
from kuaixiang.domain.words import Category, Channel, ClockKind, Custody, Disclosure, Role, Stage, WorkTab
from kuaixiang.domain.worklist import end_of_today
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.runtime.server import Context, Inside, TooMuchWaits, admit, caller_of
from kuaixiang.runtime.streams import content
from kuaixiang.runtime.writer import WriterBusy
from kuaixiang.text.masking import beginning
from kuaixiang.wire.codec import (
    act_of,
    attachment_message,
    decode_entry,
    enum_of,
    event_name,
    instant,
    micros_given,
    rpc_of,
    timestamp,
)
from kuaixiang.wire.errors import chinese_of, to_status
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc
from node import readings
from node.channels.ledger_export import export_ledger
from node.duplicates import Duplicate, Duplicates, Request
from node.ledger import changes, queries
from node.ledger.database import LedgerDatabase
from node.ledger.queries import CaseFilter, TabCount
from node.ledger.search import read_search
from node.office import Begun, Done, Header, Office

STREAM_WINDOW: Final = 512
"""Registrations of one message at most, and after how many under way a stream's next message waits: one batch of the
writer."""
SEQ_MAX: Final = 2**63 - 1
"""What a database's integers hold; a journal never comes there."""
WATCH_ENTRIES_MAX: Final = 500
WATCH_BYTES_MAX: Final = 1 << 20
"""How much of a journal is read at a time for somebody who watches it."""


WORDS_OF_REQUEST: Final = ("taxpayer_name", "taxpayer_number", "contact", "text", "place")
"""What is kept of a registration's words, by their names on both sides."""
BRIEF_CHARACTERS: Final = 60
"""Of a text in a list: a line of a screen, enough to tell what it is about."""


class CaseServicer(case_pb2_grpc.CaseServiceServicer):
    """Answers CaseService for the bureaus of one node.

    The RPCs that are acts differ in their message alone, but for those that take a stream, which have a method each.
    """

    def __init__(self, office: Office, duplicates: Duplicates) -> None:
        self._office = office
        self._duplicates = duplicates
        self._watchers: set[asyncio.Event] = set()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # Who begins to watch after this reads what has been committed.
            if self._watchers:
                loop.call_soon_threadsafe(self._wake_watchers)

        office.ledger.writer.after_commit(wake)

    async def _act(self, request: Any, context: Context) -> case_pb2.ActResponse:  # noqa: ANN401 - any act's message
        header = header_of(request)
        self._admit(context, rpc_of(type(request)), header.bureau)
        return self._response(await self._office.perform(header, act_of(request)))

    async def RegisterCase(self, request: case_pb2.RegisterCaseRequest, context: Context) -> case_pb2.ActResponse:
        """受理登记; a repetition under a channel's number whose words were others is answered so."""
        header = header_of(request)
        self._admit(context, "RegisterCase", header.bureau)
        await self.check_registration(caller_of(context), request)
        done = await self._office.perform(header, act_of(request))
        response = self._response(done)
        if done.repeated and request.channel_reference:
            response.other_words = await self.had_other_words(done.case.case_id, request)
        return response

    # Each RPC that is an act; what it does is said in case.proto and decided by the domain.
    AnswerOnTheSpot = _act
    ForwardCase = _act
    DispatchCase = _act
    ReturnDispatch = _act
    AcceptDirectly = _act
    AskExtension = _act
    ApproveExtension = _act
    RefuseExtension = _act
    ExplainExtension = _act
    StartJointHandling = _act
    AddPart = _act
    LinkCase = _act
    UnlinkCase = _act
    LinkIssue = _act
    AskRuling = _act
    RuleCase = _act
    AskOverride = _act
    ApproveOverride = _act
    RefuseOverride = _act
    CompletePart = _act
    CompleteCase = _act
    GiveFeedback = _act
    RecordFollowUp = _act
    ReopenCase = _act
    WithdrawCase = _act
    DeferCase = _act
    ResumeCase = _act
    SendToReconsideration = _act
    ReferCase = _act
    ReturnCase = _act
    WithdrawOffer = _act
    WriteOffCase = _act

    def _admit(self, context: Context | Inside, rpc: str, bureau: str) -> None:
        admit(context, rpc, Subject(bureau=bureau), self._office.place.tree)

    async def check_registration(self, caller: Caller, request: case_pb2.RegisterCaseRequest) -> None:
        """A channel's token registers as its channel, and joins what its own channel has asked.

        Raises `TokenNotForThis`.
        """
        _check_channel(caller, request)
        if caller.token is not None and request.lead_case_id:
            try:
                lead = await self._office.read_case(request.header.bureau, request.lead_case_id)
            except (UnknownCase, FieldMalformed):
                # Said by the act itself, which names the field.
                return
            if lead.channel is not caller.token.channel:
                raise TokenNotForThis(caller.token, "lead_case_id")

    async def had_other_words(self, case_id: str, request: case_pb2.RegisterCaseRequest) -> bool:
        """Whether the case that a repetition is was registered in other words; not where they are kept no longer."""
        case = await self._office.read_case(request.header.bureau, case_id)
        kept = await asyncio.to_thread(
            queries.private_of, self._office.ledger.database, case.bureau, case_id, case.snapshot_version
        )
        if kept is None:
            return False
        return int(case.category) != int(request.category) or any(
            getattr(kept, field) != getattr(request, field) for field in WORDS_OF_REQUEST
        )

    def _response(self, done: Done) -> case_pb2.ActResponse:
        return case_pb2.ActResponse(
            case=self._view(done.case),
            seq=done.seq,
            repeated_request=done.repeated,
            linked_completed=done.linked_completed,
        )

    def _view(self, case: Case) -> case_pb2.Case:
        return case_view(case, self._office)

    def admit_registrar(self, context: Context | Inside) -> Caller:
        """Who may begin a stream of registrations; raises `Refused`."""
        caller = caller_of(context)
        self._admit(context, "RegisterCases", min(caller.offices | caller.bureaus, default=""))
        return caller

    async def RegisterCases(
        self, request_iterator: AsyncIterator[case_pb2.RegisterCasesRequest], context: Context | Inside
    ) -> AsyncIterator[case_pb2.RegisterCasesResponse]:
        """Registers a stream of cases; a message is answered when what is in it is durable, in the order of arrival."""
        # Whoever registers nowhere need not begin; each registration is checked for its own bureau besides.
        caller = self.admit_registrar(context)
        pending: asyncio.Queue[tuple[int, asyncio.Task[case_pb2.RegisterCasesResponse]] | None] = asyncio.Queue()
        window = _Window()

        async def read() -> None:
            index = 0
            try:
                async for message in request_iterator:
                    alone = message.HasField("registration")
                    registrations = registrations_of(message)
                    for bureau in {registration.header.bureau for registration in registrations} - {""}:
                        self._admit(context, "RegisterCases", bureau)
                    if caller.token is not None:
                        for registration in registrations:
                            await self.check_registration(caller, registration)
                    await window.enter(len(registrations))
                    answer = self._register_alone if alone else self._register_all
                    task = asyncio.ensure_future(answer(index, registrations))
                    task.add_done_callback(_looked_at)
                    pending.put_nowait((len(registrations), task))
                    index += len(registrations)
            finally:
                pending.put_nowait(None)

        reader = asyncio.ensure_future(read())
        try:
            while (answered := await pending.get()) is not None:
                count, answer = answered
                yield await answer
                window.leave(count)
            await reader
        finally:
            reader.cancel()

    async def _register_all(
        self, index: int, registrations: Sequence[case_pb2.RegisterCaseRequest]
    ) -> case_pb2.RegisterCasesResponse:
        """All are given to the writer before any is waited for, so that they share a commit."""
        begun: list[Begun | Refused] = []
        for registration in registrations:
            try:
                one = await self._office.begin(header_of(registration), act_of(registration))
                one.result.add_done_callback(_looked_at)
                begun.append(one)
            except WriterBusy as busy:
                begun.append(TooMuchWaits(busy))
            except Refused as refusal:
                begun.append(refusal)
        answers = [await self._registered(at, one) for at, one in enumerate(begun, start=index)]
        return case_pb2.RegisterCasesResponse(answers=answers)

    async def _register_alone(
        self, index: int, registrations: Sequence[case_pb2.RegisterCaseRequest]
    ) -> case_pb2.RegisterCasesResponse:
        """One registration, answered as callers of the first release read it."""
        (registration,) = registrations
        try:
            done = await self._office.perform(header_of(registration), act_of(registration))
        except WriterBusy as busy:
            return case_pb2.RegisterCasesResponse(index=index, refused=refused_act(TooMuchWaits(busy)))
        except Refused as refusal:
            return case_pb2.RegisterCasesResponse(index=index, refused=refused_act(refusal))
        return case_pb2.RegisterCasesResponse(index=index, accepted=self._response(done))

    async def _registered(self, index: int, begun: Begun | Refused) -> case_pb2.RegistrationAnswer:
        if isinstance(begun, Refused):
            return case_pb2.RegistrationAnswer(index=index, refused=refused_act(begun))
        try:
            done = await self._office.finish(begun)
        except Refused as refusal:
            return case_pb2.RegistrationAnswer(index=index, refused=refused_act(refusal))
        accepted = case_pb2.RegisteredCase(case_id=done.case.case_id, seq=done.seq, repeated_request=done.repeated)
        return case_pb2.RegistrationAnswer(index=index, accepted=accepted)

    async def AttachFile(
        self, request_iterator: AsyncIterator[case_pb2.AttachFileRequest], context: Context
    ) -> case_pb2.ActResponse:
        """附件: takes in a file and attaches it, in one go; the same key again is the same act."""
        first = await anext(request_iterator, case_pb2.AttachFileRequest())
        self._admit(context, "AttachFile", first.header.bureau)
        act = act_of(first)
        assert isinstance(act, acts.Attach)  # noqa: S101 - what the codec's table says
        taken = content(request_iterator, context)
        return self._response(await self._office.attach(header_of(first), act, taken))

    async def ReadAttachment(
        self, request: case_pb2.ReadAttachmentRequest, context: Context
    ) -> AsyncIterator[case_pb2.ReadAttachmentResponse]:
        """The content of a file of a case; whoever may read the case's private part in clear may read it."""
        self._admit(context, "ReadAttachment", request.bureau)
        async for piece in readings.read_attachment(self._office, request):
            yield case_pb2.ReadAttachmentResponse(data=piece)

    async def GetCase(self, request: case_pb2.GetCaseRequest, context: Context) -> case_pb2.GetCaseResponse:
        """One case, with its history and its private part where asked, in clear only as `readings` lets it be read."""
        self._admit(context, "GetCase", request.bureau)
        caller = caller_of(context)
        case = await self._office.read_case(request.bureau, request.case_id)
        if caller.token is not None:
            check_token_channel(caller.token, case.channel)
            if request.include_history:
                raise TokenNotForThis(caller.token, "include_history")
        response = case_pb2.GetCaseResponse(case=self._view(case), progress=self._office.heard.of(case))
        database = self._office.ledger.database
        if case.stage is Stage.WRITTEN_OFF and database.archive.is_there:
            response.case.archived = await asyncio.to_thread(queries.is_archived, database, case.bureau, case.case_id)
        disclosure = await readings.let_read(self._office, request)
        if disclosure is not None:
            private = await asyncio.to_thread(
                queries.private_of, database, case.bureau, case.case_id, case.snapshot_version
            )
            if private is not None:
                attachments = await asyncio.to_thread(queries.attachments_of, database, case)
                whole = replace(private, attachments=attachments)
                shown = masked(whole) if disclosure is Disclosure.MASKED else whole
                response.private_view.CopyFrom(private_view(shown))
        if request.include_history:
            entries = await readings.history_of(self._office, case.bureau, case.case_id, disclosure)
            response.history.extend(history_item(item.seq, item.entry) for item in entries)
        return response

    async def ListCases(self, request: case_pb2.ListCasesRequest, context: Context) -> case_pb2.ListCasesResponse:
        """The ledger by filters, nearest deadline first, in pages; to a channel the cases of that channel alone."""
        self._admit(context, "ListCases", request.bureau)
        _check_listed(caller_of(context), request)
        self._office.check_hosted(request.bureau, "bureau")
        if request.department:
            check_department(request.department, "department")
        now = self._office.place.clock.now()
        now_us = to_micros(now)
        wanted = CaseFilter(
            bureau=request.bureau,
            stages=[enum_of(Stage, stage, "stages") for stage in request.stages],
            custodies=[enum_of(Custody, custody, "custodies") for custody in request.custodies],
            department=request.department,
            category=enum_of(Category, request.category, "category") if request.category else None,
            channel=enum_of(Channel, request.channel, "channel") if request.channel else None,
            next_clock=enum_of(ClockKind, request.next_clock, "next_clock") if request.next_clock else None,
            provisional=request.provisional,
            due_before_us=now_us if request.overdue else None,
            due_soon_at_us=now_us if request.due_soon else None,
            registered_from_us=micros_given(request, "registered_from"),
            registered_before_us=micros_given(request, "registered_before"),
            tab=enum_of(WorkTab, request.tab, "tab") if request.tab else WorkTab.ALL,
            now_us=now_us,
            today_ends_us=to_micros(end_of_today(now)),
            pieces=read_search(request.search),
            archived=request.archived,
        )
        # All of it in one thread: each change between threads may wait for the interpreter's lock.
        return await asyncio.to_thread(self._page, request, wanted)

    def _page(self, request: case_pb2.ListCasesRequest, wanted: CaseFilter) -> case_pb2.ListCasesResponse:
        ledger = self._office.ledger
        cases, token = queries.list_cases(ledger.database, wanted, request.page_size, request.page_token, ledger.folded)
        views = [self._view(case) for case in cases]
        for view in views:
            view.archived = wanted.archived
        return case_pb2.ListCasesResponse(
            cases=views,
            next_page_token=token,
            briefs=briefs(ledger.database, request.bureau, cases) if request.include_brief else (),
        )

    async def ListChanges(self, request: case_pb2.ListChangesRequest, context: Context) -> case_pb2.ListChangesResponse:
        """What happened to the cases of a channel, in the journal's order."""
        self._admit(context, "ListChanges", request.bureau)
        _check_channel(caller_of(context), request)
        self._office.check_hosted(request.bureau, "bureau")
        ledger = self._office.ledger
        window = changes.Window(
            bureau=request.bureau,
            channel=enum_of(Channel, request.channel, "channel"),
            head_seq=ledger.heads[request.bureau].seq,
            from_us=micros_given(request, "recorded_from"),
            before_us=micros_given(request, "recorded_before"),
        )
        found, token = await asyncio.to_thread(
            changes.list_changes, ledger.database, window, request.page_size, request.page_token
        )
        return case_pb2.ListChangesResponse(changes=map(change_view, found), next_page_token=token)

    async def CountWork(self, request: case_pb2.CountWorkRequest, context: Context) -> case_pb2.CountWorkResponse:
        """How many cases each tab of the work list has."""
        self._admit(context, "CountWork", request.bureau)
        self._office.check_hosted(request.bureau, "bureau")
        if request.department:
            check_department(request.department, "department")
        now = self._office.place.clock.now()
        counts = await asyncio.to_thread(
            queries.count_work,
            self._office.ledger.database,
            request.bureau,
            request.department,
            to_micros(now),
            to_micros(end_of_today(now)),
        )
        return case_pb2.CountWorkResponse(counts=[count_view(count) for count in counts])

    async def ExportLedger(
        self, request: case_pb2.ExportLedgerRequest, context: Context
    ) -> AsyncIterator[case_pb2.ExportLedgerResponse]:
        """The ledger as it is kept on paper, in the order of registration."""
        self._admit(context, "ExportLedger", request.bureau)
        async for answer in export_ledger(self._office, request):
            yield answer

    async def WatchCases(
        self, request: case_pb2.WatchCasesRequest, context: Context
    ) -> AsyncIterator[case_pb2.WatchCasesResponse]:
        """Every change in the ledger from a journal position on, as it is committed."""
        self._admit(context, "WatchCases", request.bureau)
        self._office.check_hosted(request.bureau, "bureau")
        ledger = self._office.ledger
        after = min(request.from_seq - 1, SEQ_MAX) if request.from_seq else ledger.heads[request.bureau].seq
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                changed.clear()
                segment = await asyncio.to_thread(
                    queries.read_segment,
                    ledger.database,
                    request.bureau,
                    after,
                    entries_max=WATCH_ENTRIES_MAX,
                    bytes_max=WATCH_BYTES_MAX,
                )
                if segment is None:
                    await changed.wait()
                    continue
                for seq, packed in enumerate(segment.entries, start=segment.first_seq):
                    entry = decode_entry(packed.public)
                    if not isinstance(entry.event, OrderEvent):
                        yield watched(seq, entry)
                after = segment.first_seq + len(segment.entries) - 1
        finally:
            self._watchers.discard(changed)

    async def FindDuplicates(
        self, request: case_pb2.FindDuplicatesRequest, context: Context
    ) -> case_pb2.FindDuplicatesResponse:
        """Cases of the last months that may be the one about to be registered, the likeliest first."""
        self._admit(context, "FindDuplicates", request.bureau)
        self._office.check_hosted(request.bureau, "bureau")
        at_most(request.text, "text", TEXT_CHARACTERS_MAX)
        asked = Request(
            taxpayer_name=request.taxpayer_name,
            taxpayer_number=request.taxpayer_number,
            contact=request.contact,
            text=request.text,
            channel_reference=request.channel_reference,
        )
        found = await self._duplicates.find(request.bureau, asked)
        return case_pb2.FindDuplicatesResponse(
            candidates=[duplicate_view(duplicate) for duplicate in found], days=self._duplicates.days
        )

    def _wake_watchers(self) -> None:
        for changed in self._watchers:
            changed.set()


class _Window:
    """How many registrations of a stream are under way; whoever would begin more waits until there is room."""

    def __init__(self) -> None:
        self._under_way = 0
        self._room = asyncio.Event()

    async def enter(self, count: int) -> None:
        """Waits for room, then begins as many as a message has."""
        while self._under_way >= STREAM_WINDOW:
            self._room.clear()
            await self._room.wait()
        self._under_way += count

    def leave(self, count: int) -> None:
        """They are answered."""
        self._under_way -= count
        self._room.set()


def registrations_of(message: case_pb2.RegisterCasesRequest) -> Sequence[case_pb2.RegisterCaseRequest]:
    """What a message of a stream registers: one alone, or many.

    Raises `FieldMissing` for none, `FieldMalformed` for more than a message may have and for both ways at once.
    """
    many = message.registrations
    if message.HasField("registration"):
        if many:
            raise FieldMalformed(
                "registration",
                Both("came together with registrations", "与 registrations 同时出现"),
                Both("Send one alone or many, not both in one message.", "一条消息中只能使用其中一个字段。"),
            )
        return [message.registration]
    if not many:
        # Nothing would count against the stream's window, and without end.
        raise FieldMissing("registrations", Both("a message registers something", "每条消息至少登记一件"))
    if len(many) > STREAM_WINDOW:
        raise FieldMalformed(
            "registrations",
            Both(f"has {len(many)} registrations", f"共 {len(many)} 件，超过上限"),
            Both(f"Send at most {STREAM_WINDOW} in one message.", f"每次最多发送 {STREAM_WINDOW} 件。"),
        )
    return many


def _looked_at(done: asyncio.Future[Any]) -> None:
    """Its failure is no fault of the loop's when the stream has ended by another's failure before it was waited for."""
    if not done.cancelled():
        done.exception()


def _check_channel(caller: Caller, request: Any) -> None:  # noqa: ANN401 - any act's message
    """Whoever registers by a channel's token registers as that channel; raises `TokenNotForThis`."""
    if caller.token is not None:
        check_token_channel(caller.token, enum_of(Channel, request.channel, "channel"))


def _check_listed(caller: Caller, request: case_pb2.ListCasesRequest) -> None:
    """A channel lists what came by it, and looks for no words in what is private; raises `TokenNotForThis`."""
    if caller.token is None:
        return
    check_token_channel(caller.token, enum_of(Channel, request.channel, "channel"))
    for field in ("search", "include_brief", "department"):
        if getattr(request, field):
            raise TokenNotForThis(caller.token, field)


def header_of(request: Any) -> Header:  # noqa: ANN401 - any act's message
    """Who does what, from a request; raises `FieldMissing`, `FieldMalformed`."""
    header: case_pb2.ActHeader = request.header
    if not header.bureau:
        raise FieldMissing("header.bureau", Both("it says whose ledger", "须写明是哪个单位的台账"))
    check_key(header.request_key)
    role = enum_of(Role, header.role, "header.role")
    digest = digest_before = b""
    if header.request_key:
        digest = _digest_of(request)
        if role is Role.CHANNEL:
            digest, digest_before = _digest_of(_asked_by_channel(request)), digest
    return Header(
        bureau=header.bureau,
        case_id=header.case_id,
        actor=header.actor,
        role=role,
        department=header.department,
        request_key=header.request_key,
        occurred_at=instant(header.occurred_at, "header.occurred_at") if header.HasField("occurred_at") else None,
        expected_version=header.expected_version,
        digest=digest,
        digest_before=digest_before,
    )


def _asked_by_channel(request: Any) -> Any:  # noqa: ANN401 - any act's message
    """What a channel asks for: not under which number, which a door fills in by the list of staff of that moment.

    A repetition after the list has changed would else be another request, and its sender would make a second case.
    """
    asked = type(request)()
    asked.CopyFrom(request)
    for field in ("actor", "department"):
        asked.header.ClearField(field)
    return asked


def _digest_of(message: Any) -> bytes:  # noqa: ANN401 - any message
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


def refused_act(refusal: Refused) -> case_pb2.RefusedAct:
    """A refusal inside a stream."""
    status = to_status(refusal)
    return case_pb2.RefusedAct(
        code=status.code,
        message=status.message,
        rule=refusal.rule,
        field=refusal.field,
        remedy=refusal.remedy,
        message_chinese=chinese_of(refusal),
        remedy_chinese=refusal.remedy_chinese,
    )


def case_view(case: Case, office: Office) -> case_pb2.Case:
    """A case as the interface shows it, at the office's time."""
    place = office.place
    now = place.clock.now()
    ended = case.conclusion.completed_at if case.conclusion is not None else now
    elapsed = place.calendar.elapsed_workdays(case.registered_at, max(ended, case.registered_at))
    words: dict[str, Any] = {
        "stage": case.stage,
        "custody": case.custody,
        "category": case.category,
        "channel": case.channel,
        "satisfaction": case.satisfaction or 0,
        "light": 0 if case.stage in CLOSED_STAGES else light_of(case, now),
    }
    return case_pb2.Case(
        case_id=case.case_id,
        bureau=case.bureau,
        version=case.version,
        epoch=case.epoch,
        department=case.department,
        origin_bureau=case.origin_bureau,
        registered_at=timestamp(case.registered_at),
        last_at=timestamp(case.last_at),
        clocks=[clock_view(clock, now) for clock in _by_due(case)],
        with_bureau=case.with_bureau,
        competent_bureau=case.competent_bureau,
        bounces=case.bounces,
        round=case.round,
        extension_pending=bool(case.extensions),
        open_parts=case.open_parts,
        told=case.telling is not None,
        end_to_end_milli_workdays=round(elapsed * 1000),
        awaiting_acknowledgement=sorted(case.awaiting),
        lead_case_id=case.lead_case_id,
        issue_id=case.issue_id,
        returns=case.returns,
        ruled_by=case.ruled_by,
        extensions_to_explain=sorted(case.unexplained),
        override_pending=case.override_asked is not None,
        extended=is_extended(case),
        mismatched_with=sorted(mismatch.peer for mismatch in case.mismatches),
        **words,
    )


def _by_due(case: Case) -> list[Clock]:
    return sorted(case.clocks, key=lambda clock: clock.due_at)


def clock_view(clock: Clock, now: datetime) -> case_pb2.Clock:
    """A running clock as the interface shows it at that time."""
    kind: Any = clock.kind
    overdue = clock.has_passed(now)
    return case_pb2.Clock(
        kind=kind,
        department=clock.department,
        started_at=timestamp(clock.started_at),
        due_at=timestamp(clock.due_at),
        limit_workdays=clock.limit_workdays,
        extended=clock.extended,
        provisional=clock.provisional,
        overdue=overdue,
        due_soon=not overdue and clock.is_close(now),
        calendar_version=clock.calendar_version,
    )


def private_view(private: Private) -> case_pb2.PrivateView:
    """The private part of a case, with the files that the case has now, as the interface shows it."""
    return case_pb2.PrivateView(
        taxpayer_name=private.taxpayer_name,
        taxpayer_number=private.taxpayer_number,
        contact=private.contact,
        text=private.text,
        place=private.place,
        channel_reference=private.channel_reference,
        attachments=[attachment_message(attachment) for attachment in private.attachments],
    )


def count_view(count: TabCount) -> case_pb2.WorkCount:
    """How many cases a tab has, as the interface shows it."""
    tab: Any = count.tab
    return case_pb2.WorkCount(tab=tab, count=count.count, more=count.more)


def briefs(database: LedgerDatabase, bureau: str, cases: Sequence[Case]) -> list[case_pb2.Brief]:
    """What each of some cases is about, read at once; an empty one where the private part has been erased."""
    known = queries.snapshots(database, bureau, cases)
    return [brief(known[case.case_id]) if case.case_id in known else case_pb2.Brief() for case in cases]


def brief(private: Private) -> case_pb2.Brief:
    """What a registration is about, for a line of a list."""
    name = private.taxpayer_name
    return case_pb2.Brief(taxpayer=mask_name(name), text=beginning(private.text, BRIEF_CHARACTERS, [name]))


def duplicate_view(duplicate: Duplicate) -> case_pb2.DuplicateCandidate:
    """A likely duplicate as the interface shows it."""
    words: dict[str, Any] = {"stage": duplicate.stage, "reasons": duplicate.reasons}
    return case_pb2.DuplicateCandidate(
        case_id=duplicate.case_id,
        registered_at=timestamp(duplicate.registered_at),
        similarity=duplicate.similarity,
        taxpayer=duplicate.taxpayer,
        text=duplicate.text,
        **words,
    )


def history_item(seq: int, entry: Entry) -> case_pb2.HistoryItem:
    """A journal entry as a line of the case's history."""
    particulars = {name: int(getattr(entry.event, name, 0) or 0) for name in _PARTICULARS}
    words: dict[str, Any] = {"role": entry.role, **_standing(entry, "stage"), **particulars}
    return case_pb2.HistoryItem(
        seq=seq,
        version=entry.version,
        occurred_at=timestamp(entry.occurred_at),
        recorded_at=timestamp(entry.recorded_at),
        actor=entry.actor,
        department=entry.department,
        event=event_name(entry.event),
        note=_written(entry.event.private),
        other_bureau=_other_bureau(entry),
        departments=[code for name in _DEPARTMENTS for code in _codes(getattr(entry.event, name, ""))],
        **words,
    )


_PARTICULARS: Final = ("telling", "told_by", "satisfaction", "workdays", "referral_kind")
_DEPARTMENTS: Final = (
    "to_department",
    "lead_department",
    "assisting_departments",
    "part_department",
    "for_department",
)
"""What of an event its line of the history tells besides."""


def _codes(named: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(filter(None, (named,))) if isinstance(named, str) else named


def _written(private: Private | None) -> str:
    """What was written with an act; the names of the files that came by themselves."""
    if private is None:
        return ""
    return private.note or ("" if private.text else listed(attachment.name for attachment in private.attachments))


def change_view(change: changes.Change) -> case_pb2.CaseChange:
    """A change of a case, without who did what."""
    stage: Any = change.stage
    return case_pb2.CaseChange(
        seq=change.seq, case_id=change.case_id, stage=stage, recorded_at=timestamp(from_micros(change.recorded_at_us))
    )


def watched(seq: int, entry: Entry) -> case_pb2.WatchCasesResponse:
    """A journal entry as news."""
    return case_pb2.WatchCasesResponse(
        seq=seq,
        case_id=entry.case_id,
        event=event_name(entry.event),
        occurred_at=timestamp(entry.occurred_at),
        actor=entry.actor,
        other_bureau=_other_bureau(entry),
        **_standing(entry, "stage", "custody"),
    )


def _standing(entry: Entry, *names: str) -> dict[str, Any]:
    """Where the entry leaves its case; nothing for an entry about none."""
    return {name: getattr(entry.event, name) for name in names} if isinstance(entry.event, CaseEvent) else {}


def _other_bureau(entry: Entry) -> str:
    """The bureau at the other end of a referral, a conclusion or a reconciliation."""
    for name in ("to_bureau", "from_bureau", "peer"):
        other = getattr(entry.event, name, "")
        if other:
            return str(other)
    return ""
