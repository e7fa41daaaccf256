"""Traces: what one act sets going, from the officer's request to the nation's totals, for a collector that speaks OTLP.

Off unless a service is told of a collector. Then nothing of OpenTelemetry is imported, and whoever could begin a span
asks once (`spans`) and goes on. What a span is and says is in `kuaixiang.runtime.spans`, the one module that knows
OpenTelemetry.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter

from kuaixiang.runtime.settings import TraceSettings

if TYPE_CHECKING:
    from kuaixiang.runtime.spans import Spans

TRACEPARENT: Final = "traceparent"
"""The metadata of a call and the header of a message (W3C Trace Context). A message that carries what several
traces have caused names each of them, separated by commas."""
TRACES_OF_MESSAGE_MAX: Final = 64
"""Traces that one message continues: 3.5 KB of its headers. Where more share a message, sampling is far too high."""

SPANS: Final = Counter(
    "kx_trace_spans_total",
    "Spans of traces, by result: sent to the collector, or lost because it does not take them.",
    ["result"],
)

_NO_PART: Final = contextlib.nullcontext()
_begun: "Spans | None" = None


def spans() -> "Spans | None":
    """What makes spans in this process; None where there are none."""
    return _begun


def part(name: str, attributes: Mapping[str, str] | None = None) -> AbstractContextManager[object]:
    """A part of what is under way here, done in the block, which may have taken the time."""
    return _NO_PART if _begun is None else _begun.part(name, attributes)


def say_refused(refusal: Exception) -> None:
    """What is under way here is refused: by which condition, and not its sentence, which may quote what was refused."""
    if _begun is not None:
        _begun.say({"error.type": type(refusal).__name__})


@contextlib.contextmanager
def tracing(settings: TraceSettings, service: str, instance: str) -> Iterator[None]:
    """Traces of this process for the time of the block, if the settings name a collector.

    `service` and `instance` say in each span which process it is of. Once at a time in a process.
    """
    global _begun  # noqa: PLW0603 - of the process, as its metrics and logs are
    if not settings.traces_endpoint:
        yield
        return
    # Only here: the extra may not be installed, and what is off is not to cost its import.
    from kuaixiang.runtime.spans import Spans  # noqa: PLC0415

    _begun = Spans(settings.traces_endpoint, settings.traces_sample_ratio, service=service, instance=instance)
    try:
        yield
    finally:
        ended, _begun = _begun, None
        ended.close()
