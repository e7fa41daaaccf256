"""Spans: how long each part of what an act sets going took, and where; made with OpenTelemetry.

A trace begins with what somebody asks, over gRPC, on a page or at the door for channels, and is continued by what that
causes: the act that is written, its delivery to a peer, its entries on their way to the hubs, the totals that tell of
them. What nobody has asked for begins none, and neither does a call of a peer that is not traced, since each call says
whether it is.

A span says what was done, by which bureau's ledger, at which entries of its journal, and what came of it by the name of
a condition. It holds nothing that anybody has written, no number of a case, and no sentence of a refusal.

The queue to the collector is bounded, and so is each attempt to send. A collector that is away is said once in the log.
"""

import contextlib
import inspect
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from opentelemetry.context import attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.util.types import AttributeValue

from kuaixiang.runtime.backups import product_version
from kuaixiang.runtime.tracing import SPANS, TRACEPARENT, TRACES_OF_MESSAGE_MAX

QUEUED_SPANS_MAX: Final = 8_192
"""Spans that wait for the collector, some 20 MB. The next ones are lost, and counted."""
SENT_AT_ONCE_MAX: Final = 512
SEND_INTERVAL_SECONDS: Final = 2.0
"""How long a span waits for others to be sent with."""
SEND_SECONDS_MAX: Final = 5.0
"""For one attempt, repeats included; what is left at a stop has no more time than that either."""

PARTS_MAX: Final = TRACES_OF_MESSAGE_MAX
"""Parts that are told of one request: acts it has written, reads, pages made. A page has some ten; a hand-in of
thousands of rows, or a stream that lies open for weeks, would displace what all others have to tell."""

_UNTRACED: Final = "00-00000000000000000000000000000001-0000000000000001-00"
"""What a call says that belongs to no trace: whoever answers it is to begin none. Nothing is ever recorded under it."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""What is an error of the one who answers, by the conventions; all others are the caller's."""
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""Of HTTP. Whatever else is sent as one is text of a stranger."""
_BETWEEN: Final = ("contextlib", __name__, "kuaixiang.runtime.database", "kuaixiang.runtime.tracing")
"""Modules that stand between who reads and the span that says so."""

_log: Final = structlog.get_logger(__name__)

Attributes = Mapping[str, AttributeValue]
Behaviour = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A piece of work on its way to the writer, of a trace: what asked for it, and since when (Unix time, ns)."""

    parent: SpanContext
    since_ns: int


class _Parts:
    """How many parts of one request are told; the others are counted."""

    __slots__ = ("_told", "left_out")

    def __init__(self) -> None:
        self._told = 0
        self.left_out = 0

    def take(self) -> bool:
        """Whether one more may be told; if so, it is."""
        if self._told >= PARTS_MAX:
            self.left_out += 1
            return False
        self._told += 1
        return True


_PARTS: Final[ContextVar[_Parts | None]] = ContextVar("parts of a request", default=None)


class Asked:
    """A request over HTTP, and its span where it has one."""

    __slots__ = ("_method", "_parts", "_span")

    def __init__(self, span: Span, method: str = "") -> None:
        self._span = span
        self._method = method
        self._parts = _Parts()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """What is done in the block is below its span; then it is over. Without a span nothing is below any."""
        # Set in either case: the task of a request that was sent behind another begins within that one.
        before = _PARTS.set(self._parts)
        try:
            with use_span(self._span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    yield
                except BaseException as failure:
                    _failed(self._span, type(failure).__name__)
                    raise
                finally:
                    _say_left_out(self._span, self._parts)
        finally:
            _PARTS.reset(before)

    def received(self) -> None:
        """All of it is here: until now its sender was waited for."""
        self._span.add_event("request.received")

    def answered(self, status: int) -> None:
        """The answer begins: from now on who asked is waited for."""
        self._span.add_event("response.begun")
        self._span.set_attribute("http.response.status_code", status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            said = (self._span.attributes or {}) if isinstance(self._span, ReadableSpan) else {}
            _failed(self._span, str(said.get("error.type", status)))

    def routed(self, template: str) -> None:
        """By which route it is answered, as the routes are written: never the address itself."""
        self._span.update_name(f"{self._method} {template}")
        self._span.set_attribute("http.route", template)


class Several:
    """Spans of one thing that was done for several traces, one in each."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    @property
    def contexts(self) -> list[SpanContext]:
        """By which each trace is continued."""
        return [span.get_span_context() for span in self._spans]

    @property
    def traceparent(self) -> str:
        """What a message says that continues them."""
        return ",".join(map(_written, self.contexts))

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """What is done in the block is below the first of them; then it is done."""
        try:
            with contextlib.ExitStack() as stack:
                for span in self._spans[:1]:
                    stack.enter_context(use_span(span, record_exception=False, set_status_on_exception=False))
                yield
        finally:
            self.end()

    def end(self) -> None:
        """It is done."""
        for span in self._spans:
            span.end()


class Writing:
    """The spans of one batch of the writer: the commit that its acts share, and one of each act that is traced."""

    __slots__ = ("_acts", "_commit", "_tracer")

    def __init__(self, tracer: Any, commit: Span) -> None:  # noqa: ANN401 - opentelemetry's, which has two
        self._tracer = tracer
        self._commit = commit
        self._acts: list[Span] = []

    @contextlib.contextmanager
    def act(self, waiting: Waiting) -> Iterator[None]:
        """One act, from when it began to wait; it ends with the batch."""
        span = self._tracer.start_span(
            "ledger write",
            context=_below(waiting.parent),
            start_time=waiting.since_ns,
            links=[Link(self._commit.get_span_context())],
        )
        self._acts.append(span)
        with use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            try:
                yield
            except Exception as failure:
                span.set_attribute("error.type", type(failure).__name__)
                raise

    def end(self, error: str = "") -> None:
        """The batch is durable, or failed for all."""
        for span in (*self._acts, self._commit):
            if error:
                _failed(span, error)
            span.end()


class Spans:
    """Makes the spans of one process and sends them to a collector. `close` ends it."""

    def __init__(self, endpoint: str, sample_ratio: float, *, service: str, instance: str) -> None:
        _quieten()
        resource = Resource.create(
            {
                "service.namespace": "kuaixiang",
                "service.name": service,
                "service.instance.id": instance,
                "service.version": product_version(),
            }
        )
        self._sending = _Sending(endpoint)
        processor = _Bounded(self._sending)
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)), resource=resource, shutdown_on_exit=False
        )
        # What acts of several traces share is of none of them: it is sampled because one of them is.
        shared = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        for one in (provider, shared):
            one.add_span_processor(processor)
        self._tracer = provider.get_tracer("kuaixiang")
        self._shared = shared.get_tracer("kuaixiang")
        self._processor = processor

    def close(self) -> None:
        """Send what waits, for a moment, and end."""
        self._sending.last_words()
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # opentelemetry's

    # ------------------------------------------------------------ what is under way

    @staticmethod
    def here() -> SpanContext | None:
        """What is under way here, if it is of a trace."""
        context = get_current_span().get_span_context()
        return context if context.is_valid and context.trace_flags.sampled else None

    @staticmethod
    def say(attributes: Attributes) -> None:
        """Something of what is under way here."""
        get_current_span().set_attributes(attributes)

    @contextlib.contextmanager
    def step(self, name: str, parent: SpanContext) -> Iterator[Span]:
        """A part of what a trace has set going, done in the block."""
        with self._tracer.start_as_current_span(
            name, context=_below(parent), record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    @contextlib.contextmanager
    def part(self, name: str, attributes: Attributes | None = None) -> Iterator[Span]:
        """A part of what is under way here, done in the block; told where that is of a trace and not told too much."""
        if not self._tells_more():
            yield INVALID_SPAN
            return
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    @contextlib.contextmanager
    def reading(self) -> Iterator[Span]:
        """A read of the database, done in the block; it says which function reads."""
        reader = {"code.function.name": _reader()} if self.here() is not None else None
        with self.part("database read", reader) as span:
            yield span

    def _tells_more(self) -> bool:
        """Whether there is something under way here that may say one more part of itself."""
        parts = _PARTS.get()
        return self.here() is not None and (parts is None or parts.take())

    # ------------------------------------------------------------ the writer

    def waiting(self) -> Waiting | None:
        """For work that is handed to the writer here: what its span will be below; None where it is of no trace."""
        here = self.here()
        return Waiting(here, time.time_ns()) if here is not None and self._tells_more() else None

    def writing(self, waiting: Iterable[Waiting | None], works: int) -> Writing | None:
        """The spans of a batch of so many works; None where none of them is of a trace."""
        traced = [one for one in waiting if one is not None]
        if not traced:
            return None
        commit = self._shared.start_span(
            "ledger commit", links=[Link(one.parent) for one in traced], attributes={"kx.works": works}
        )
        return Writing(self._tracer, commit)

    # ------------------------------------------------------------ gRPC

    def answering(self, behaviour: Behaviour, method: str, *, streams: bool) -> Behaviour:
        """What answers a call (`package.Service/Method`), with a span around it. Each call is a task of its own."""
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}

        def begin(context: Any) -> Span:  # noqa: ANN401 - grpc's contexts
            parent = None
            for name, value in context.invocation_metadata() or ():
                if name == TRACEPARENT:
                    parent = _read(value)
            span = self._tracer.start_span(method, context=_below(parent), kind=SpanKind.SERVER, attributes=attributes)
            attach(set_span_in_context(span))
            _PARTS.set(_Parts())
            return span

        def end(span: Span, context: Any) -> None:  # noqa: ANN401 - grpc's contexts
            code = grpc.StatusCode.CANCELLED if context.cancelled() else _CODES[int(context.code() or 0)]
            span.set_attribute("rpc.response.status_code", code.name)
            if code in _FAULTS:
                _failed(span, code.name)
            _say_left_out(span, _PARTS.get())
            span.end()

        async def unary(request: Any, context: Any) -> Any:  # noqa: ANN401 - any message
            span = begin(context)
            try:
                return await behaviour(request, context)
            finally:
                end(span, context)

        async def stream(request: Any, context: Any) -> Any:  # noqa: ANN401 - any message
            span = begin(context)
            try:
                async for response in behaviour(request, context):
                    yield response
            finally:
                end(span, context)

        return stream if streams else unary

    def interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """What a channel's calls pass: each has a span and says of which trace it is, or that it is of none.

        Not those that bring or give a stream: who brings one writes it when he has the call in hand, before it ends.
        """
        return [_Unary(self._tracer)]

    # ------------------------------------------------------------ HTTP

    def asked(self, method: str, *, secure: bool, traceparent: str = "") -> Asked:
        """A request, which is part of the trace that `traceparent` names, if it does; `secure`: it came by TLS."""
        known = method if method in _METHODS else "_OTHER"
        name = method if method in _METHODS else "HTTP"
        span = self._tracer.start_span(
            name,
            context=_below(_read(traceparent)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": known, "url.scheme": "https" if secure else "http"},
        )
        return Asked(span, name)

    @staticmethod
    def unasked() -> Asked:
        """A request that nobody has made himself: it begins no trace."""
        return Asked(INVALID_SPAN)

    # ------------------------------------------------------------ NATS

    def publishing(self, subject: str, parents: Iterable[SpanContext], message_id: str = "") -> Several:
        """A message that is sent because of some acts; `Several.traceparent` goes with it."""
        about = {**_about(subject, "publish", "send"), **({"messaging.message.id": message_id} if message_id else {})}
        return Several(self._begin(f"publish {_template(subject)}", SpanKind.PRODUCER, list(parents), about))

    def processing(self, received: Iterable[tuple[str, str]]) -> Several:
        """Messages that are dealt with, each a subject and the `traceparent` that came with it."""
        spans: list[Span] = []
        for subject, traceparent in received:
            if traceparent:
                parents = [one for text in traceparent.split(",") if (one := _read(text)) is not None]
                about = _about(subject, "process", "process")
                spans += self._begin(f"process {_template(subject)}", SpanKind.CONSUMER, parents, about)
        return Several(spans)

    def _begin(self, name: str, kind: SpanKind, parents: Sequence[SpanContext], about: Attributes) -> list[Span]:
        return [
            self._tracer.start_span(name, context=_below(parent), kind=kind, attributes=about)
            for parent in parents[:TRACES_OF_MESSAGE_MAX]
            if parent.trace_flags.sampled
        ]


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    """A call with one request."""

    def __init__(self, tracer: Any) -> None:  # noqa: ANN401 - opentelemetry's
        self._tracer = tracer

    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Awaitable[Any]],
        client_call_details: Any,  # noqa: ANN401 - grpc's
        request: Any,  # noqa: ANN401 - any message
    ) -> Any:  # noqa: ANN401 - grpc's calls have no common type
        return await _called(self._tracer, continuation, client_call_details, request)


async def _called(tracer: Any, continuation: Callable[..., Awaitable[Any]], details: Any, request: Any) -> Any:  # noqa: ANN401
    if Spans.here() is None:
        return await continuation(_saying(details, _UNTRACED), request)
    method = details.method.decode() if isinstance(details.method, bytes) else details.method
    name = method.lstrip("/")
    span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes={"rpc.system.name": "grpc", "rpc.method": name})
    code = grpc.StatusCode.CANCELLED
    call = None
    try:
        call = await continuation(_saying(details, _written(span.get_span_context())), request)
        code = await call.code()
    finally:
        if call is not None and not call.done():
            call.cancel()
        span.set_attribute("rpc.response.status_code", code.name)
        if code is not grpc.StatusCode.OK:
            _failed(span, code.name)
        span.end()
    return call


def _saying(details: Any, traceparent: str) -> grpc.aio.ClientCallDetails:  # noqa: ANN401 - grpc's
    metadata = grpc.aio.Metadata(*(details.metadata or ()), (TRACEPARENT, traceparent))
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _Sending(SpanExporter):
    """Sends spans to the collector; says once that it does not take them, and once that it does again."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._exporter = OTLPSpanExporter(endpoint, timeout=SEND_SECONDS_MAX)
        self._lock = threading.Lock()
        self._queued = 0
        self._away = False
        self._ending = False

    def has_room(self) -> bool:
        """Whether one more span may wait; if so, it does."""
        with self._lock:
            if self._queued >= QUEUED_SPANS_MAX:
                SPANS.labels("lost").inc()
                return False
            self._queued += 1
            return True

    def last_words(self) -> None:
        """The process ends: a collector that is away is not tried again."""
        self._ending = True
        if self._away:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # as above

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some."""
        with self._lock:
            self._queued -= len(spans)
        given_up = self._ending and self._away
        result = SpanExportResult.FAILURE if given_up else self._exporter.export(spans)
        sent = result is SpanExportResult.SUCCESS
        SPANS.labels("sent" if sent else "lost").inc(len(spans))
        if not sent and not self._away:
            _log.warning(
                "The collector does not take traces; they are lost until it does.",
                action="traces.lost",
                endpoint=self._endpoint,
            )
        elif sent and self._away:
            _log.info("The collector takes traces again.", action="traces.sent", endpoint=self._endpoint)
        self._away = not sent
        return result

    def shutdown(self) -> None:
        """End."""
        if not (self._ending and self._away):
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # as above


class _Bounded(BatchSpanProcessor):
    """Sends spans in batches, from a thread of its own; of more than may wait, the latest are lost."""

    def __init__(self, sending: _Sending) -> None:
        super().__init__(
            sending,
            max_queue_size=QUEUED_SPANS_MAX,
            schedule_delay_millis=SEND_INTERVAL_SECONDS * 1_000,
            max_export_batch_size=SENT_AT_ONCE_MAX,
        )
        self._sending = sending

    def on_end(self, span: ReadableSpan) -> None:
        """A span is over."""
        if span.context is not None and span.context.trace_flags.sampled and self._sending.has_room():
            super().on_end(span)


def _quieten() -> None:
    """The exporter says of each attempt that it failed; we say once that the collector is away."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _below(parent: SpanContext | None) -> Any:  # noqa: ANN401 - opentelemetry's context
    """The context of a span below another one; of the first one of a trace, where there is none."""
    return set_span_in_context(NonRecordingSpan(parent) if parent is not None else NonRecordingSpan(_NOWHERE))


_NOWHERE: Final = SpanContext(0, 0, is_remote=False)


def _written(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _read(traceparent: str | bytes) -> SpanContext | None:
    """What somebody else says that he continues; None for what says nothing."""
    text = traceparent.decode("ascii", "replace") if isinstance(traceparent, bytes) else traceparent
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED))
    return context if context.is_valid else None


def _say_left_out(span: Span, parts: _Parts | None) -> None:
    if parts is not None and parts.left_out:
        span.set_attribute("kx.parts_left_out", parts.left_out)


def _reader() -> str:
    """The function that reads, by its module: the first one outside of those that bring it to the database."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"] in _BETWEEN:
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}" if frame is not None else ""


def _failed(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def _about(subject: str, name: str, kind: str) -> dict[str, str]:
    return {
        "messaging.system": "nats",
        "messaging.destination.name": subject,
        "messaging.destination.template": _template(subject),
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }


def _template(subject: str) -> str:
    """A subject without its codes of bureaus, of which there are thousands."""
    return ".".join("*" if part.isdigit() else part for part in subject.split("."))
