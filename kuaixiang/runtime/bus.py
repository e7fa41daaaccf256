"""The bus: one process's connection to the NATS server of its site, and to other sites across the leaf links.

What it carries is transport, not truth: a journal that the bus lost is read again from its ledger. Three kinds of use:

- *publish* a segment or a head into the stream of the own site, acknowledged when it is on disk there (`Bus.publish`,
  or pipelined by `Bus.publish_pipelined`). The message id makes a repeat within two minutes harmless; a later repeat is
  stored again, and the reader's contiguous fold passes it over.
- *pull* a site's stream by a durable consumer from the national connection (`Bus.durable`). The requests and the
  acknowledgements travel over the leaf link. While the link is down `Durable.fetch` raises `SiteUnreachable`;
  afterwards it goes on where the acknowledgements ended. An acknowledgement lost on the way means the same message
  again.
- *best effort*, for wake-ups and live views (`Bus.publish_core`, `Bus.subscribe`): may be lost, never waited for.

The connection is made again for ever, and by a new client each time: nats-py's own reconnection ends for good at the
first error that the server states (authorisation while a server restarts, too many connections).

Who connects is said by the process's certificate, the one it speaks gRPC by: the server of the site knows a user for
its first name, with exactly the subjects of that process. Inboxes lie under the user and the site that answers
(`_INBOX.<user>.<domain>.…`), so that no other user may listen there and no other site may answer. What the server does
not permit is said once in the log and counted, a refused publish at once to whoever waits for it; the rest goes on.
"""

import asyncio
import contextlib
import json
import re
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import nats.errors
import nats.js.api
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as ClientSubscription
from nats.js.manager import JetStreamManager
from prometheus_client import Counter, Gauge

from kuaixiang.runtime import tracing
from kuaixiang.runtime.loops import end_tasks
from kuaixiang.runtime.pki import CertificatePaths, PkiError, dns_name, load
from kuaixiang.runtime.tracing import TRACEPARENT

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

ACCOUNT: Final = "KX"
"""The NATS account of every site; a leaf binds it to the national site's account of the same name."""

HEADQUARTERS: Final = "000000"
"""Site code of the national site."""

STREAM: Final = "KX_JOURNAL"
"""Name of the one stream of each site."""

JOURNAL_PREFIX: Final = "kx.v1.journal"
HEAD_PREFIX: Final = "kx.v1.head"
PROGRESS_PREFIX: Final = "kx.v1.progress"
WAKE_PREFIX: Final = "kx.v1.wake"
DIRECTIVE_PREFIX: Final = "kx.v1.directive"
"""Best-effort subjects, each followed by the site and the code of the bureau that is to hear it; no stream keeps
them. Between bureaus that are neighbours: those of a province and, for the province itself, headquarters."""

TOTALS_PREFIX: Final = "kx.v1.totals"
"""Best effort too: what a hub tells other systems of its figures, followed by its scope."""

STREAM_BYTES_MAX: Final = 4 * 1024**3
"""A large province's filing-deadline day: 150 entries/s of 300 bytes are 3.9 GB. Full means that publishers wait."""

CLUSTER_REPLICAS: Final = 3
"""On how many servers of a cluster a message is before it is acknowledged by two of them; one of them may be away."""

STREAM_AGE_SECONDS_MAX: Final = 14 * 86_400
"""A hub away for a fortnight catches up from the stream; one away for longer refills from the ledgers."""

DUPLICATE_WINDOW_SECONDS: Final = 120
"""Longer than a publisher's longest retry within one life; memory is taken for each id of the window."""

MESSAGE_BYTES_MAX: Final = 1024**2
"""A segment of 100 entries is some 30 KB; the servers' own limit is the same."""

ACK_WAIT_SECONDS: Final = 15
"""A hub that died gets its unacknowledged messages again after it; one that lives says what it still works on."""

UNACKNOWLEDGED_MAX: Final = 2_000
"""Messages under way to one consumer; 2,000 segments of 30 KB are 60 MB in the hub at worst."""

PUBLISHES_PENDING_MAX: Final = 256
"""Pipelined publishes not yet acknowledged; at 4,000 acknowledgements a second this hides 60 ms of round trip."""

CONNECT_SECONDS_MAX: Final = 5
RECONNECT_SECONDS_MIN: Final = 0.2
RECONNECT_SECONDS_MAX: Final = 5.0
"""Between two attempts to connect: quick after a restart (a server is ready in 0.05 s), gentle when it stays away."""

PING_SECONDS: Final = 20
PINGS_UNANSWERED_MAX: Final = 2
"""A silent connection is given up after a minute."""

API_SECONDS_MAX: Final = 5.0
"""One JetStream request across a leaf link; the server answers in milliseconds or not at all."""

CLOSED_LOOK_SECONDS: Final = 2.0
"""Between two looks at whether a connection is there that nobody has said to be lost."""

CLOSE_SECONDS_MAX: Final = 5.0

UNANSWERED_PAUSE_SECONDS: Final = 0.1
"""Pause after a pull that the server did not take although its consumer exists (it is just starting)."""

PULL_GRACE_SECONDS: Final = 0.5
"""A pull request has ended this long after its expiry even if the server's word of it was lost."""

INBOX_PREFIX: Final = "_INBOX"
ACKS: Final = "acks"
"""What stands in an inbox for the site where it is the own one that acknowledges what was published."""

INBOX_BYTES: Final = 16
"""Of chance in an inbox's name: a stranger who guesses could answer in another's place, so that nobody can."""

NOT_PERMITTED_NAMED_MAX: Final = 1_000
"""Subjects of one connection of which a refusal is said once: more than a process has; the rest is counted."""

_PERMISSIONS_VIOLATION: Final = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE
)
NO_STREAM: Final = "KX_NONE"
"""The name of no stream: what is sent for it is kept by none."""
_OTHER_STREAM_EXPECTED: Final = 10_060
_STREAM_NAME_IN_USE: Final = 10_058
_STREAM_NOT_FOUND: Final = 10_059

CONNECTED: Final = Gauge("kx_nats_connected", "Whether the connection to NATS is up (1) or not (0).", ["connection"])
CONNECTS: Final = Counter("kx_nats_connects_total", "Connections made to NATS, the first included.", ["connection"])
DISCONNECTS: Final = Counter("kx_nats_disconnects_total", "Connections to NATS that were lost.", ["connection"])
ERRORS: Final = Counter(
    "kx_nats_errors_total", "Errors reported by the NATS client, and handlers that failed.", ["connection"]
)
PUBLISHES: Final = Counter(
    "kx_nats_publishes_total",
    "Messages published to a stream, by outcome: stored, duplicate, refused, unanswered.",
    ["connection", "outcome"],
)
NOT_PERMITTED: Final = Counter(
    "kx_nats_not_permitted_total",
    "Publishes and subscriptions that the server did not permit to this user, by kind.",
    ["connection", "kind"],
)
FETCHED: Final = Counter("kx_nats_fetched_total", "Messages pulled from a site's stream.", ["connection", "domain"])
REDELIVERED: Final = Counter(
    "kx_nats_redelivered_total", "Messages pulled a second time or more.", ["connection", "domain"]
)

_log: Final = structlog.get_logger(__name__)

Handler = Callable[[str, bytes], Awaitable[None]]
"""What is called with the subject and the payload of a best-effort message."""


class BusError(Exception):
    """The bus could not do what was asked; the caller may try again."""


class BusUnavailable(BusError):
    """There is no connection to the site's NATS server at this moment; it is being made again."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        super().__init__(f"The bus connection {connection} is not up.")


class NotAcknowledged(BusError):
    """No acknowledgement came in time: the message may be stored or not. Publish it again under the same id."""

    def __init__(self, subject: str, message_id: str, seconds: float) -> None:
        self.subject = subject
        self.message_id = message_id
        self.seconds = seconds
        super().__init__(f"Message {message_id} on {subject} was not acknowledged within {seconds:g} s.")


class PublishRefused(BusError):
    """The stream did not take the message (it is full, or the message breaks one of its limits)."""

    def __init__(self, subject: str, message_id: str, code: int, description: str) -> None:
        self.subject = subject
        self.message_id = message_id
        self.code = code
        self.description = description
        super().__init__(f"Message {message_id} on {subject} was refused: {description} (NATS error {code}).")


class NotPermitted(BusError):
    """The server does not let this user publish on the subject, and will not until its configuration changes."""

    def __init__(self, subject: str, user: str) -> None:
        self.subject = subject
        self.user = user
        super().__init__(f"The site's server does not permit {user} to publish on {subject}.")


class NoStreamForSubject(BusError):
    """No stream of this site keeps the subject; `Bus.ensure_stream` makes it."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(f"No stream keeps {subject} at this site.")


class MessageTooLarge(BusError):
    """The payload is larger than what the servers take."""

    def __init__(self, subject: str, size_bytes: int) -> None:
        self.subject = subject
        self.size_bytes = size_bytes
        super().__init__(f"A message of {size_bytes} bytes on {subject} is over {MESSAGE_BYTES_MAX}.")


class SiteUnavailable(BusError):
    """The stream of a site cannot be reached now; the reasons are its subclasses."""


class SiteUnreachable(SiteUnavailable):
    """JetStream of the site does not answer: its server is down, or the leaf link to it."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        super().__init__(f"JetStream of {domain} does not answer.")


class StreamMissing(SiteUnavailable):
    """The site answers, but has no stream yet: none of its bureaus has ever published."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        super().__init__(f"{domain} has no stream {STREAM} yet.")


class JetStreamRefused(BusError):
    """JetStream of a site refused a request about its stream or consumer."""

    def __init__(self, domain: str, code: int, description: str) -> None:
        self.domain = domain
        self.code = code
        self.description = description
        super().__init__(f"JetStream of {domain} refused: {description} (NATS error {code}).")


class StreamDiffers(BusError):
    """The site's stream exists with other settings than ours; changing them is for a person to decide.

    `differences` maps the setting to (ours, the existing one).
    """

    def __init__(self, domain: str, differences: dict[str, tuple[object, object]]) -> None:
        self.domain = domain
        self.differences = differences
        told = "; ".join(f"{name}: {ours!r} wanted, {theirs!r} found" for name, (ours, theirs) in differences.items())
        super().__init__(f"Stream {STREAM} of {domain} exists with other settings ({told}).")


def site_domain(site: str) -> str:
    """JetStream domain of the site with that code: `hq` for the national one, `p<code>` for a province."""
    return "hq" if site == HEADQUARTERS else f"p{site}"


def journal_subject(site: str, bureau: str) -> str:
    """Subject of the journal segments of one bureau at its site."""
    return f"{JOURNAL_PREFIX}.{site}.{bureau}"


def head_subject(site: str, bureau: str) -> str:
    """Subject of the heads (generation, seq, hash) of one bureau's journal at its site."""
    return f"{HEAD_PREFIX}.{site}.{bureau}"


def progress_subject(site: str, bureau: str) -> str:
    """Subject on which a bureau hears how cases go that it had too."""
    return f"{PROGRESS_PREFIX}.{site}.{bureau}"


def wake_subject(site: str, bureau: str) -> str:
    """Subject on which a bureau hears that a neighbour's node is there again."""
    return f"{WAKE_PREFIX}.{site}.{bureau}"


def directive_subject(site: str, bureau: str) -> str:
    """Subject on which a bureau hears that its superior's node has something new of headquarters."""
    return f"{DIRECTIVE_PREFIX}.{site}.{bureau}"


def totals_subject(scope: str) -> str:
    """Subject on which the hub of a scope tells its figures, for whoever has a reader's certificate."""
    return f"{TOTALS_PREFIX}.{scope}"


@dataclass(frozen=True, slots=True)
class Ack:
    """The stream has the message on disk. `duplicate`: it had it before, within the duplicate window."""

    stream_seq: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a site's stream holds."""

    messages: int
    bytes: int
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a durable consumer has before it: messages never delivered, and delivered ones without acknowledgement."""

    undelivered: int
    unacknowledged: int

    @property
    def total(self) -> int:
        """Messages that the consumer is not done with."""
        return self.undelivered + self.unacknowledged


def node_user(bureau: str) -> str:
    """Under which name a node's inboxes lie; `bureau` is the first that it keeps the ledger of."""
    return f"node-{bureau}"


def hub_user(scope: str) -> str:
    """Under which name a hub's inboxes lie, and how its consumers are called."""
    return f"hub-{scope}"


def operator_user(site: str) -> str:
    """Under which name the inboxes of a site's operator lie, who shows the site's own certificate."""
    return f"nats-{site}"


def consumer_name(name: str, domain: str) -> str:
    """What a durable consumer is called at a site.

    The domain is in it, because a server that leaves the domain out of its acknowledgement subjects tells the sites'
    consumers apart by nothing else.
    """
    return f"{name}-{domain}"


def inbox(user: str, answering: str) -> str:
    """Where a user hears what one site (its domain) answers, or what the own one acknowledges (`ACKS`)."""
    return f"{INBOX_PREFIX}.{user}.{answering}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a process reaches the NATS server of its site, and as whom.

    `url` is `tls://host:port`, where the process shows its certificate and the server must show that of the `site`; any
    other scheme is plain text, with the user and password in the URL, if any, which is never logged. Where the site is
    a cluster, its servers stand there with commas between them. `user` is one of `node_user`, `hub_user` and
    `operator_user`.
    """

    url: str = field(repr=False)
    site: str
    user: str
    certificates: CertificatePaths | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Each server of the site."""
        return tuple(url.strip() for url in self.url.split(","))

    @property
    def replicas(self) -> int:
        """On how many servers the site's stream is to be: on three where it names so many."""
        return CLUSTER_REPLICAS if len(self.urls) >= CLUSTER_REPLICAS else 1

    def context(self) -> ssl.SSLContext | None:
        """TLS by the files as they are now; None where the URL asks for none.

        Raises `PkiError`, `ssl.SSLError` for files that do not fit together.
        """
        if self.certificates is None or any(urlsplit(url).scheme != "tls" for url in self.urls):
            return None
        credentials = load(self.certificates)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=credentials.ca_pem.decode("ascii"))
        context.load_cert_chain(self.certificates.certificate, self.certificates.key)
        return context


class Bus:
    """One process's connection to the NATS server of its site; see the module.

    `name` labels the connection in logs, metrics and the server's own monitoring; it is the user when left out.
    """

    def __init__(self, access: Access, *, name: str = "", pending_max: int = PUBLISHES_PENDING_MAX) -> None:
        self.name = name = name or access.user
        self.epoch = 0
        self.failure = ""
        """Why the last attempt to connect failed; empty when it did not."""
        self._access = access
        self._urls = cycle(access.urls)
        self._url = next(self._urls)
        self._not_permitted: set[str] = set()
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._subscriptions: list[Subscription] = []
        self._slots = asyncio.Semaphore(pending_max)
        self._waiting: dict[str, _Publish] = {}
        self._tokens = 0
        self._ack_inbox = ""
        CONNECTED.labels(name).set(0)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, in the background and for ever; a process serves without its bus. Repeats do nothing."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"bus {self.name}")

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return self._up.is_set()

    async def wait_connected(self, timeout_seconds: float) -> None:
        """Wait until the connection is up. Raises BusUnavailable when the time is over."""
        try:
            # `asyncio.wait_for` of Python 3.11 would swallow a cancellation that comes together with the connection.
            async with asyncio.timeout(timeout_seconds):
                await self._up.wait()
        except TimeoutError:
            raise BusUnavailable(self.name) from None

    async def close(self) -> None:
        """End the connection; publishes without acknowledgement fail with BusUnavailable. Repeats do nothing."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        await end_tasks((keeper,))

    # ------------------------------------------------------------ publishing

    async def ensure_stream(
        self,
        site: str,
        domain: str | None = None,
        *,
        bytes_max: int = STREAM_BYTES_MAX,
        timeout_seconds: float = API_SECONDS_MAX,
    ) -> bool:
        """Make the stream of the site unless it exists; whether it was made now.

        It keeps the journals and heads of the site's bureaus in files, and refuses new messages when it is full: an old
        one that no hub has read yet must not be dropped for a new one. Where this bus names a cluster, it is on three
        of its servers. `domain` is `site_domain(site)` by default.

        Raises StreamDiffers when it exists with other settings, BusUnavailable, SiteUnreachable, JetStreamRefused.
        """
        where = domain or site_domain(site)
        wanted = nats.js.api.StreamConfig(
            name=STREAM,
            subjects=[f"{JOURNAL_PREFIX}.{site}.>", f"{HEAD_PREFIX}.{site}.>"],
            retention=nats.js.api.RetentionPolicy.LIMITS,
            storage=nats.js.api.StorageType.FILE,
            discard=nats.js.api.DiscardPolicy.NEW,
            max_bytes=bytes_max,
            max_age=STREAM_AGE_SECONDS_MAX,
            max_msg_size=MESSAGE_BYTES_MAX,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
            num_replicas=self._access.replicas,
        )
        manager = self.manager(where, timeout_seconds)
        try:
            info = await manager.stream_info(STREAM)
        except nats.js.errors.NotFoundError:
            pass
        except _NATS_FAILURES as failure:
            raise self.translated(failure, where) from failure
        else:
            _require_same(where, wanted, info.config)
            return False
        try:
            await manager.add_stream(wanted)
        except _NATS_FAILURES as failure:
            if isinstance(failure, nats.js.errors.APIError) and failure.err_code == _STREAM_NAME_IN_USE:
                # Another node of the site was quicker: with the same settings or not.
                return await self.ensure_stream(site, where, bytes_max=bytes_max, timeout_seconds=timeout_seconds)
            raise self.translated(failure, where) from failure
        _log.info("The stream of the site was made.", action="nats.stream", domain=where, connection=self.name)
        return True

    async def stream_state(self, domain: str, timeout_seconds: float = API_SECONDS_MAX) -> StreamState:
        """What the stream of a site holds. Raises BusUnavailable, SiteUnreachable, StreamMissing."""
        try:
            info = await self.manager(domain, timeout_seconds).stream_info(STREAM)
        except _NATS_FAILURES as failure:
            raise self.translated(failure, domain) from failure
        state = info.state
        return StreamState(
            messages=state.messages, bytes=state.bytes, first_seq=state.first_seq, last_seq=state.last_seq
        )

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, timeout_seconds: float = API_SECONDS_MAX
    ) -> Ack:
        """Publish into the stream of the site and wait until it is on disk there.

        Raises NotAcknowledged (publish again under the same id), PublishRefused, NoStreamForSubject, MessageTooLarge,
        BusUnavailable.
        """
        future = await self.publish_pipelined(subject, payload, message_id=message_id, timeout_seconds=timeout_seconds)
        return await future

    async def publish_pipelined(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        timeout_seconds: float = API_SECONDS_MAX,
        expected_stream: str = "",
        traceparent: str = "",
    ) -> asyncio.Future[Ack]:
        """Send a message to the stream and return the future of its acknowledgement, which always ends in time.

        Messages are sent in the order of the calls. Waits only while too many are unacknowledged or the socket is full.
        A stream of another name than the expected one, where one is, refuses it. `traceparent` says which traces the
        message continues, if any. The future raises NotAcknowledged,
        PublishRefused, NoStreamForSubject, NotPermitted, BusUnavailable; the call itself MessageTooLarge and
        BusUnavailable.
        """
        if len(payload) > MESSAGE_BYTES_MAX:
            raise MessageTooLarge(subject, len(payload))
        await self._slots.acquire()
        try:
            client = self.client()
        except BusUnavailable:
            self._slots.release()
            raise
        loop = asyncio.get_running_loop()
        self._tokens += 1
        token = str(self._tokens)
        publish = _Publish(subject, message_id, timeout_seconds, loop.create_future())
        self._waiting[token] = publish
        expiry = loop.call_later(timeout_seconds, self._expire, token)

        def finished(_: asyncio.Future[Ack]) -> None:
            expiry.cancel()
            self._waiting.pop(token, None)
            self._slots.release()

        publish.future.add_done_callback(finished)
        try:
            await client.publish(
                subject,
                payload,
                reply=f"{self._ack_inbox}.{token}",
                headers={
                    str(nats.js.api.Header.MSG_ID.value): message_id,
                    **({str(nats.js.api.Header.EXPECTED_STREAM.value): expected_stream} if expected_stream else {}),
                    **({TRACEPARENT: traceparent} if traceparent else {}),
                },
            )
        except _NATS_FAILURES as failure:
            publish.future.cancel()
            raise self.translated(failure, None) from failure
        except asyncio.CancelledError:
            publish.future.cancel()
            raise
        return publish.future

    async def check_publishing(self, subject: str, timeout_seconds: float = API_SECONDS_MAX) -> None:
        """Find out whether the site's stream would take a message of this subject, without having it keep one.

        It is sent for a stream that there is not, which the stream says. Raises NotPermitted, NoStreamForSubject,
        NotAcknowledged, PublishRefused, BusUnavailable.
        """
        try:
            await (
                await self.publish_pipelined(
                    subject,
                    b"",
                    message_id=secrets.token_hex(INBOX_BYTES),
                    timeout_seconds=timeout_seconds,
                    expected_stream=NO_STREAM,
                )
            )
        except PublishRefused as refusal:
            if refusal.code != _OTHER_STREAM_EXPECTED:
                raise

    async def publish_core(self, subject: str, payload: bytes = b"", traces: "Sequence[SpanContext]" = ()) -> bool:
        """Send a best-effort message; whether it was handed to a connection that is up. Never raises for the bus.

        `traces` are those that it continues.
        """
        spans = tracing.spans() if traces else None
        sending = None if spans is None else spans.publishing(subject, traces)
        try:
            headers = None if sending is None else {TRACEPARENT: sending.traceparent}
            await self.client().publish(subject, payload, headers=headers)
        except (*_NATS_FAILURES, BusUnavailable):
            ERRORS.labels(self.name).inc()
            return False
        finally:
            if sending is not None:
                sending.end()
        return True

    async def subscribe(self, subject: str, handler: Handler) -> "Subscription":
        """Call `handler` with every best-effort message on the subject, now and after each reconnection.

        A handler that fails is logged and counted; the next message comes all the same.
        """
        subscription = Subscription(self.name, subject, handler, self._forget)
        self._subscriptions.append(subscription)
        if self._client is not None and self.connected:
            with contextlib.suppress(*_NATS_FAILURES):  # lost at this moment: the next connection attaches it
                await subscription.attach(self._client)
        return subscription

    def _forget(self, subscription: "Subscription") -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    # ------------------------------------------------------------ pulling

    def durable(self, domain: str, name: str) -> "Durable":
        """A durable pull consumer of the stream of the site with that JetStream domain, from its first message on.

        Nothing is sent before the first `fetch`, so that a hub starts while sites are away. At the site the consumer is
        called `consumer_name(name, domain)`.
        """
        return Durable(self, domain, consumer_name(name, domain))

    # ------------------------------------------------------------ the connection

    async def _keep(self) -> None:
        """Connect, wait until the connection is lost, and again, until cancelled."""
        pause = RECONNECT_SECONDS_MIN
        try:
            while True:
                if await self._connect():
                    pause = RECONNECT_SECONDS_MIN
                    await self._until_closed()
                    self._lost()
                await asyncio.sleep(pause)
                pause = min(pause * 2, RECONNECT_SECONDS_MAX)
        finally:
            was_up = self.connected
            self._down()
            if self._client is not None:
                await self._discard(self._client, flush=was_up)
                self._client = None

    async def _until_closed(self) -> None:
        """Wait until a connection is lost: until its client says so, or at the next look at it.

        A client that fails or stays hanging while it closes, by what it would send yet or by its socket, never says it.
        """
        while self._client is not None and self._client.is_connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSED_LOOK_SECONDS):
                    await self._closed.wait()
                    return

    async def _connect(self) -> bool:
        client = Client()
        self._not_permitted.clear()
        self._closed = asyncio.Event()
        closed = self._closed

        async def on_closed() -> None:
            closed.set()

        try:
            secure = self._access.context()
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await client.connect(
                    self._url,
                    name=self.name,
                    tls=secure,
                    tls_hostname=dns_name("nats", self._access.site) if secure is not None else None,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_SECONDS_MAX,
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=PINGS_UNANSWERED_MAX,
                    error_cb=self._on_error,
                    closed_cb=on_closed,
                )
                self._ack_inbox = self.new_inbox(ACKS)
                await client.subscribe(f"{self._ack_inbox}.*", cb=self._on_ack)
                await client.flush()
                # Until none is left: one that is made meanwhile would else wait for the next connection.
                while waiting := [one for one in self._subscriptions if one.client is not client]:
                    for subscription in waiting:
                        await subscription.attach(client)
                    await client.flush()
        except (*_NATS_FAILURES, PkiError) as failure:
            _log.warning(
                "No connection to NATS; trying again.",
                action="nats.connect",
                connection=self.name,
                server=self._server,
                reason=type(failure).__name__,
                message=str(failure),  # a certificate that is not known, a name that is not the site's
            )
            ERRORS.labels(self.name).inc()
            self.failure = f"{type(failure).__name__}: {failure}".rstrip(": ")
            self._url = next(self._urls)
            await self._discard(client, flush=False)
            return False
        except asyncio.CancelledError:
            await self._discard(client, flush=False)
            raise
        self._client = client
        self.failure = ""
        self.epoch += 1
        self._up.set()
        CONNECTED.labels(self.name).set(1)
        CONNECTS.labels(self.name).inc()
        _log.info("Connected to NATS.", action="nats.connected", connection=self.name, server=self._server)
        return True

    @property
    def _server(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.hostname}:{parts.port or 4222}"

    def _lost(self) -> None:
        DISCONNECTS.labels(self.name).inc()
        _log.warning(
            "The connection to NATS was lost.", action="nats.disconnected", connection=self.name, server=self._server
        )
        self._down()

    def _down(self) -> None:
        self._up.clear()
        CONNECTED.labels(self.name).set(0)
        for publish in list(self._waiting.values()):
            publish.fail(BusUnavailable(self.name), self.name)

    async def _discard(self, client: Client, *, flush: bool) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                if flush and client.is_connected:
                    await client.flush()
                await client.close()
        except _NATS_FAILURES as failure:
            _log.warning(
                "The connection to NATS did not close in order.",
                action="nats.close",
                connection=self.name,
                reason=type(failure).__name__,
            )

    async def _on_error(self, failure: Exception) -> None:
        ERRORS.labels(self.name).inc()
        found = _PERMISSIONS_VIOLATION.search(str(failure)) if isinstance(failure, nats.errors.Error) else None
        if found is not None:
            self._refused(*found.groups())
            return
        _log.warning(
            "The NATS client reports an error.",
            action="nats.error",
            connection=self.name,
            reason=type(failure).__name__,
            # The server's own words (a permission, a limit); they name subjects, never payloads.
            message=str(failure) if isinstance(failure, nats.errors.Error) else "",
        )

    def _refused(self, kind: str, subject: str) -> None:
        """The server has said that this user may not: who waits for it is told now, and the log once."""
        NOT_PERMITTED.labels(self.name, kind).inc()
        for publish in list(self._waiting.values()):
            # nats-py tells the server's words in small letters.
            if kind == "publish" and publish.subject.lower() == subject.lower():
                publish.fail(NotPermitted(publish.subject, self._access.user), self.name)
        if subject in self._not_permitted or len(self._not_permitted) >= NOT_PERMITTED_NAMED_MAX:
            return
        self._not_permitted.add(subject)
        _log.error(
            "The site's server does not permit this; its configuration knows another set of bureaus for this user.",
            action="nats.not_permitted",
            connection=self.name,
            user=self._access.user,
            kind=kind,
            subject=subject,
        )

    async def _on_ack(self, message: Msg) -> None:
        publish = self._waiting.get(message.subject.rpartition(".")[2])
        if publish is None:
            return  # too late: its time was over, and the publisher sends it again
        if (message.headers or {}).get("Status") == "503":
            publish.fail(NoStreamForSubject(publish.subject), self.name)
            return
        answer: dict[str, Any] = json.loads(message.data)
        refusal = answer.get("error")
        if refusal is not None:
            code = int(refusal.get("err_code") or refusal.get("code") or 0)
            description = str(refusal.get("description", ""))
            publish.fail(PublishRefused(publish.subject, publish.message_id, code, description), self.name)
            return
        publish.succeed(Ack(stream_seq=int(answer["seq"]), duplicate=bool(answer.get("duplicate"))), self.name)

    def _expire(self, token: str) -> None:
        publish = self._waiting.get(token)
        if publish is not None:
            publish.fail(NotAcknowledged(publish.subject, publish.message_id, publish.timeout_seconds), self.name)

    # ------------------------------------------------------------ for the bus's own parts

    def client(self) -> Client:
        """The client of the connection that is up. Raises BusUnavailable."""
        if self._client is None or not self.connected or not self._client.is_connected:
            raise BusUnavailable(self.name)
        return self._client

    async def answer(self, reply: str, word: bytes) -> None:
        """Send a consumer's word about a message it was delivered. Raises BusUnavailable."""
        try:
            await self.client().publish(reply, word)
        except _NATS_FAILURES as failure:
            raise self.translated(failure, None) from failure

    def new_inbox(self, answering: str) -> str:
        """A subject that nobody can guess, under which one site's answers come."""
        return f"{inbox(self._access.user, answering)}.{secrets.token_hex(INBOX_BYTES)}"

    def manager(self, domain: str, timeout_seconds: float) -> JetStreamManager:
        """The management requests of one site's JetStream. Raises BusUnavailable."""
        return _Manager(self.client(), domain, self.new_inbox(domain), timeout_seconds)

    def translated(self, failure: BaseException, domain: str | None) -> BusError:
        """The one place where errors of nats-py become ours; `domain` is the site that was asked, if one was."""
        match failure:
            case nats.js.errors.APIError(err_code=code) if code == _STREAM_NOT_FOUND and domain is not None:
                return StreamMissing(domain)
            case nats.js.errors.ServiceUnavailableError(err_code=None) if domain is not None:
                return SiteUnreachable(domain)  # no responder
            case nats.js.errors.APIError() if domain is not None:
                return JetStreamRefused(domain, failure.err_code or failure.code or 0, failure.description or "")
            case TimeoutError() if domain is not None:
                return SiteUnreachable(domain)
            case _:
                return BusUnavailable(self.name)


_NATS_FAILURES: Final = (nats.errors.Error, OSError, TimeoutError)
"""What nats-py raises for a server or a network that does not do its part."""


def _require_same(domain: str, wanted: nats.js.api.StreamConfig, found: nats.js.api.StreamConfig) -> None:
    names = (
        "subjects",
        "retention",
        "storage",
        "discard",
        "max_bytes",
        "max_age",
        "max_msg_size",
        "duplicate_window",
        "num_replicas",
    )
    differences = {
        name: (getattr(wanted, name), getattr(found, name))
        for name in names
        if getattr(wanted, name) != getattr(found, name)
    }
    if differences:
        raise StreamDiffers(domain, differences)


class _Manager(JetStreamManager):
    """nats-py's requests, answered in an inbox of that site: nats-py has one for all, where any site may answer."""

    def __init__(self, client: Client, domain: str, answers: str, timeout_seconds: float) -> None:
        super().__init__(client, prefix=f"$JS.{domain}.API", timeout=timeout_seconds)
        self._client = client
        self._answers = answers

    async def _api_request(
        self, req_subject: str, req: bytes = b"", timeout: float = API_SECONDS_MAX
    ) -> dict[str, Any]:
        subscription = await self._client.subscribe(self._answers)
        try:
            await self._client.publish(req_subject, req, reply=self._answers)
            message = await subscription.next_msg(timeout=timeout)
        finally:
            if self._client.is_connected:
                await subscription.unsubscribe()
        if _status(message) == "503":
            raise nats.js.errors.ServiceUnavailableError
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            raise nats.js.errors.APIError.from_error(answer["error"])
        return answer


class _Publish:
    """One message on its way to a stream, and who waits for its acknowledgement."""

    __slots__ = ("future", "message_id", "subject", "timeout_seconds")

    def __init__(self, subject: str, message_id: str, timeout_seconds: float, future: asyncio.Future[Ack]) -> None:
        self.subject = subject
        self.message_id = message_id
        self.timeout_seconds = timeout_seconds
        self.future = future

    def succeed(self, ack: Ack, connection: str) -> None:
        if not self.future.done():
            PUBLISHES.labels(connection, "duplicate" if ack.duplicate else "stored").inc()
            self.future.set_result(ack)

    def fail(self, failure: BusError, connection: str) -> None:
        if not self.future.done():
            refused = isinstance(failure, PublishRefused | NoStreamForSubject | NotPermitted)
            PUBLISHES.labels(connection, "refused" if refused else "unanswered").inc()
            self.future.set_exception(failure)


class Subscription:
    """A best-effort subscription that outlives reconnections; `close` ends it. `client` is what it is attached to."""

    def __init__(
        self, connection: str, subject: str, handler: Handler, forget: "Callable[[Subscription], None]"
    ) -> None:
        self.subject = subject
        self._connection = connection
        self._handler = handler
        self._forget = forget
        self._attached: ClientSubscription | None = None
        self.client: Client | None = None

    async def attach(self, client: Client) -> None:
        """Subscribe by a new connection; called by the bus."""
        self._attached = await client.subscribe(self.subject, cb=self._deliver)
        self.client = client

    async def close(self) -> None:
        """Ask for no more messages. Repeats do nothing."""
        self._forget(self)
        attached, self._attached = self._attached, None
        if attached is not None:
            with contextlib.suppress(*_NATS_FAILURES):  # a connection that is gone has no subscription either
                await attached.unsubscribe()

    async def _deliver(self, message: Msg) -> None:
        spans = tracing.spans()
        traceparent = (message.headers or {}).get(TRACEPARENT, "")
        processing = spans.processing([(message.subject, traceparent)]) if spans is not None and traceparent else None
        try:
            if processing is None:
                await self._handler(message.subject, message.data)
            else:
                with processing.under_way():
                    await self._handler(message.subject, message.data)
        except Exception:  # noqa: BLE001 (whatever the handler raises must not end the subscription)
            ERRORS.labels(self._connection).inc()
            _log.exception(
                "A handler of a best-effort message failed.",
                action="nats.handler",
                connection=self._connection,
                subject=message.subject,
            )


class Delivery:
    """One message of a site's stream, delivered to a durable consumer.

    `stream_seq` is its number in the stream, `deliveries` how often it has been delivered (1 at first), `pending` how
    many messages of the stream were still undelivered when it was sent, `traceparent` which traces it continues.
    """

    __slots__ = ("_bus", "_reply", "data", "deliveries", "pending", "stream_seq", "subject", "traceparent")

    def __init__(self, bus: Bus, message: Msg) -> None:
        about = message.metadata
        self.subject = message.subject
        self.data = message.data
        self.stream_seq = about.sequence.stream
        self.deliveries = about.num_delivered
        self.pending = about.num_pending
        self.traceparent = (message.headers or {}).get(TRACEPARENT, "")
        self._bus = bus
        self._reply = message.reply

    async def ack(self) -> None:
        """Say that the message is dealt with, after the commit. Not confirmed: if lost, the message comes again.

        Raises BusUnavailable.
        """
        await self._bus.answer(self._reply, b"+ACK")

    async def in_progress(self) -> None:
        """Say that the message is still being dealt with: the time until it comes again begins anew.

        Raises BusUnavailable.
        """
        await self._bus.answer(self._reply, b"+WPI")

    async def nak(self, delay_seconds: float = 0.0) -> None:
        """Ask for the message again, after the delay. Raises BusUnavailable."""
        delay = f' {{"delay": {int(delay_seconds * 1e9)}}}'.encode() if delay_seconds > 0 else b""
        await self._bus.answer(self._reply, b"-NAK" + delay)


class Durable:
    """A durable pull consumer of one site's stream; see `Bus.durable`. One `fetch` at a time.

    nats-py's own `fetch` holds the first message back until the batch is full or the time is over; this one returns
    what is there, and leaves the rest of its request standing for the next call.
    """

    def __init__(self, bus: Bus, domain: str, name: str) -> None:
        self.domain = domain
        self.name = name
        self._bus = bus
        self._epoch = 0
        self._inbox = ""
        self._subscription: ClientSubscription | None = None
        self._consumer_made = False
        self._requests = 0
        self._outstanding = 0
        self._request_ends = 0.0

    async def fetch(self, batch: int, timeout_seconds: float) -> list[Delivery]:
        """Up to `batch` messages in stream order: those that are there, else the first ones to come within the time.

        An empty list when none came. Raises SiteUnreachable and StreamMissing (try again later), BusUnavailable,
        JetStreamRefused.
        """
        deadline = time.monotonic() + timeout_seconds
        deliveries: list[Delivery] = []
        try:
            while not deliveries:
                subscription = await self._ready(timeout_seconds)
                now = time.monotonic()
                if self._outstanding > 0 and now >= self._request_ends:
                    # A consumer ends each request by a word. Silence: it is gone, with the site's store perhaps, and a
                    # leaf does not say so. Making it again costs nothing if it is there.
                    self._outstanding = 0
                    self._consumer_made = False
                    subscription = await self._ready(timeout_seconds)
                if self._outstanding <= 0:
                    if now >= deadline:
                        break
                    await self._request(batch, max(deadline - now, PULL_GRACE_SECONDS))
                wait = min(deadline, self._request_ends) - now
                try:
                    message = await subscription.next_msg(timeout=max(wait, 0.001))
                except nats.errors.TimeoutError:
                    if time.monotonic() >= deadline:
                        break
                    continue
                await self._sort(message, deliveries)
                while len(deliveries) < batch and subscription.pending_msgs:
                    await self._sort(await subscription.next_msg(timeout=1.0), deliveries)
        except _NATS_FAILURES as failure:
            self._forget()
            raise self._bus.translated(failure, self.domain) from failure
        return deliveries

    async def backlog(self, timeout_seconds: float = API_SECONDS_MAX) -> Backlog:
        """What the consumer is not done with. Raises as `fetch` does."""
        await self._ready(timeout_seconds)
        try:
            info = await self._bus.manager(self.domain, timeout_seconds).consumer_info(STREAM, self.name)
        except _NATS_FAILURES as failure:
            self._consumer_made = False
            raise self._bus.translated(failure, self.domain) from failure
        return Backlog(undelivered=info.num_pending or 0, unacknowledged=info.num_ack_pending or 0)

    async def close(self) -> None:
        """Give back at once what was delivered and not fetched; the consumer itself stays at the site."""
        subscription = self._subscription
        if subscription is None:
            return
        try:
            await self._bus.client().flush()  # what this site's server has sent is here now
            left: list[Delivery] = []
            while subscription.pending_msgs:
                message = await subscription.next_msg(timeout=1.0)
                if _status(message) is None:
                    left.append(Delivery(self._bus, message))
            # First the inbox, else what is given back would go to the request that still stands.
            await subscription.unsubscribe()
            for delivery in left:
                await delivery.nak()
        except (*_NATS_FAILURES, BusUnavailable):
            _log.info(
                "What was delivered and not fetched comes again by itself.",
                action="nats.consumer",
                connection=self._bus.name,
                domain=self.domain,
            )
        finally:
            self._forget()

    def _forget(self) -> None:
        self._subscription = None
        self._consumer_made = False
        self._outstanding = 0

    async def _ready(self, timeout_seconds: float) -> ClientSubscription:
        """The inbox of this connection, and the consumer made at the site."""
        client = self._bus.client()
        if self._subscription is None or self._epoch != self._bus.epoch:
            self._forget()
            self._epoch = self._bus.epoch
            self._inbox = self._bus.new_inbox(self.domain)
            self._subscription = await client.subscribe(f"{self._inbox}.*")
        if not self._consumer_made:
            wanted = nats.js.api.ConsumerConfig(
                name=self.name,
                durable_name=self.name,
                ack_policy=nats.js.api.AckPolicy.EXPLICIT,
                deliver_policy=nats.js.api.DeliverPolicy.ALL,
                ack_wait=ACK_WAIT_SECONDS,
                max_ack_pending=UNACKNOWLEDGED_MAX,
            )
            try:
                await self._bus.manager(self.domain, min(timeout_seconds, API_SECONDS_MAX)).add_consumer(STREAM, wanted)
            except _NATS_FAILURES as failure:
                raise self._bus.translated(failure, self.domain) from failure
            self._consumer_made = True
        return self._subscription

    async def _request(self, batch: int, expires_seconds: float) -> None:
        self._requests += 1
        self._outstanding = batch
        self._request_ends = time.monotonic() + expires_seconds + PULL_GRACE_SECONDS
        await self._bus.client().publish(
            f"$JS.{self.domain}.API.CONSUMER.MSG.NEXT.{STREAM}.{self.name}",
            json.dumps({"batch": batch, "expires": int(expires_seconds * 1e9)}).encode(),
            reply=f"{self._inbox}.{self._requests}",
        )

    async def _sort(self, message: Msg, deliveries: list[Delivery]) -> None:
        """Put a message to the deliveries, or learn from a status how its request ended."""
        status = _status(message)
        if status is None:
            self._outstanding -= 1
            delivery = Delivery(self._bus, message)
            FETCHED.labels(self._bus.name, self.domain).inc()
            if delivery.deliveries > 1:
                REDELIVERED.labels(self._bus.name, self.domain).inc()
            deliveries.append(delivery)
            return
        if message.subject != f"{self._inbox}.{self._requests}" or status == "100":
            return  # of an earlier request, or a sign of life
        self._outstanding = 0
        if status not in {"404", "408"}:
            # No responder (503): the link or the server is down, or the consumer is gone. Or the consumer was deleted
            # (409). Making it again tells which.
            self._consumer_made = False
            await asyncio.sleep(UNANSWERED_PAUSE_SECONDS)


def _status(message: Msg) -> str | None:
    """The status code of a message that carries no data of the stream."""
    return (message.headers or {}).get("Status")
