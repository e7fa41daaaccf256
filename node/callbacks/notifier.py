"""Messages to taxpayers (SMS, mail) by a notifier that the bureau plugs in; none is built in but a file of messages.

A notifier is an object that the entry point of its name in the group `kuaixiang.notifiers` makes of the setting
`notifier_options`. It is given what must be said to whom: of what is told to the outside it alone has contacts, and
each handing over is in the journal before it is made, as a reading of private data by the system. It says nothing of
request and reply, and stands beside what an officer tells the taxpayer (§四(一)2, §四(三)), never in its place.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from kuaixiang.domain.calendar import last_day
from kuaixiang.domain.errors import Refused, UnknownCase
from kuaixiang.domain.events import ExtensionApproved, FeedbackGiven, PrivateRead, TaxpayerTold
from kuaixiang.domain.words import Channel
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.files import OWN, sync_folder
from kuaixiang.runtime.server import NOT_NOW
from kuaixiang.wire.codec import event_name_of
from node.callbacks.engine import NotDelivered
from node.cases import case_view
from node.channels.requests import PublicCase, public, shown
from node.ledger import queries
from node.ledger.ledger import Callback
from node.office import Office

GROUP: Final = "kuaixiang.notifiers"
SPOOL: Final = "spool"
SEND_SECONDS_MAX: Final = 60.0

TOLD: Final[Mapping[str, str]] = MappingProxyType(
    {
        event_name_of(TaxpayerTold): "case.told",
        event_name_of(ExtensionApproved): "case.extended",
        event_name_of(FeedbackGiven): "case.fed_back",
    }
)
"""Of which entries a taxpayer is sent a message, and as what."""


class NotifierUnusable(Exception):
    """There is no such notifier, or it cannot work with its options: why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What is to be said to whom. `message_id` is the same each time that it is tried; `text` is Chinese."""

    message_id: str
    bureau: str
    case_id: str
    event: str
    occurred_at: str
    taxpayer_name: str
    contact: str
    text: str


class Notifier(Protocol):
    """What brings messages to taxpayers; called by one task at a time for each message, several messages at once."""

    async def send(self, notification: Notification) -> None:
        """Sends it, or hands it on durably; raises `NotDelivered`, whose reason must not say anything private."""
        ...

    async def close(self) -> None:
        """Gives up what it holds."""
        ...


class Spool:
    """Appends messages as lines of JSON to a file that is its owner's alone, for another program to send."""

    def __init__(self, options: Mapping[str, str]) -> None:
        if options.keys() != {"file"} or not options["file"]:
            raise NotifierUnusable("the notifier spool has one option, `file`")
        self._file = Path(options["file"])
        self._alone = asyncio.Lock()
        try:
            os.close(self._open())
        except OSError as error:
            raise NotifierUnusable(f"{self._file} cannot be written: {error.strerror}") from None

    async def send(self, notification: Notification) -> None:
        """It is on the disk when this returns."""
        async with self._alone:
            try:
                await asyncio.to_thread(self._append, json.dumps(asdict(notification), ensure_ascii=False))
            except OSError as error:
                raise NotDelivered(error.strerror or "OSError", receiver_away=True) from None

    async def close(self) -> None:
        """Nothing is held."""

    def _open(self) -> int:
        is_new = not self._file.exists()
        descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT, OWN)
        os.fchmod(descriptor, OWN)
        if is_new:
            sync_folder(self._file.parent)
        return descriptor

    def _append(self, line: str) -> None:
        # Opened each time: whoever sends them may take the file away under another name.
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            # A line that a crash cut off stays one by itself: its message was not taken for sent, and comes again.
            is_cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            left = f"{line}\n".encode() if not is_cut_off else f"\n{line}\n".encode()
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def notifier_of(name: str, options: Mapping[str, str]) -> Notifier:
    """The notifier of that name. Raises `NotifierUnusable`."""
    if name == SPOOL:
        return Spool(options)
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = ", ".join([SPOOL, *(point.name for point in entry_points(group=GROUP))])
        raise NotifierUnusable(f"there is no notifier {name}; there is {known}")
    make: Callable[[Mapping[str, str]], Notifier] = next(iter(found)).load()
    return make(options)


class Notifications:
    """A notifier as a sink: the taxpayers of a node's bureaus, whatever channel they came by."""

    kind = "notifier"

    def __init__(self, name: str, notifier: Notifier, office: Office) -> None:
        self.name = f"notifier:{name}"
        self.bureaus = office.ledger.bureaus
        self.channels = frozenset(Channel)
        self.kinds = TOLD
        self._notifier = notifier
        self._office = office

    async def deliver(self, callback: Callback) -> None:
        """Records that the contact is handed over, then hands it over; raises `NotDelivered`."""
        office, bureau, case_id = self._office, callback.bureau, callback.case_id
        try:
            case = await office.read_case(bureau, case_id)
            private = await asyncio.to_thread(
                queries.private_of, office.ledger.database, bureau, case_id, case.snapshot_version
            )
            if private is None or not private.contact:
                raise NotDelivered("the contact is erased", final=True)
            await office.record_note(bureau, PrivateRead(), case_id)
        except UnknownCase:
            raise NotDelivered("no such case", final=True) from None
        except (Refused, *NOT_NOW) as not_now:
            # Nothing of it is told while the ledger cannot say that it was.
            raise NotDelivered(type(not_now).__name__, receiver_away=True) from None
        view = public(case_view(case, office), office.heard.of(case))
        notification = Notification(
            message_id=f"{bureau}-{callback.generation}-{callback.seq}",
            bureau=bureau,
            case_id=case_id,
            event=TOLD[callback.kind],
            occurred_at=shown(from_micros(callback.occurred_at_us)),
            taxpayer_name=private.taxpayer_name,
            contact=private.contact,
            text=self._text(callback, view),
        )
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await self._notifier.send(notification)
        except TimeoutError:
            raise NotDelivered("TimeoutError", receiver_away=True) from None

    def _text(self, callback: Callback, case: PublicCase) -> str:
        """What is said: of the request and of the reply nothing, for it may be read by others on its way."""
        tree = self._office.place.tree
        custodian = tree.get(case.custodian).name if case.custodian in tree else case.custodian
        until = f"，办理时限至 {last_day(case.deadline.due_at)}" if case.deadline is not None else ""
        said = {
            "case.told": f"已由{custodian}受理{until}",
            "case.extended": f"经批准延期办理{until}",
            "case.fed_back": f"已由{custodian}办结并反馈，如有疑问请与该单位联系",
        }[TOLD[callback.kind]]
        return f"您于 {shown(case.registered_at)[:10]} 提出的诉求（受理编号 {case.case_id}）{said}。"

    async def close(self) -> None:
        """End the notifier."""
        await self._notifier.close()
