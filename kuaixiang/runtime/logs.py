"""Logs: one JSON object a line on standard error; a sentence in `event`, what was being done in `action`.

Private data never reaches a log. Three guards, because each misses what another sees:

- a value under a key of `PRIVATE_KEYS`, at any depth, is replaced by a marker and counted;
- of an exception that is not ours, only type and place are written: a database driver's message quotes the row;
- other libraries' own records are written from WARNING on, because their chatter quotes what they carry.

A line without `action` is written all the same, marked and counted: a log must not stop the act that it tells of. With
`strict`, which tests use, both faults raise instead.
"""

import errno
import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Final, TextIO

import structlog
from prometheus_client import Counter
from structlog.typing import EventDict, Processor, WrappedLogger

from kuaixiang.runtime import tracing

PRIVATE_KEYS: Final = frozenset(
    {
        "address",
        "answer",
        "contact",
        "contact_name",
        "email",
        "feedback_text",
        "mobile",
        "note",
        "payload",
        "phone",
        "place",
        "private",
        "remark",
        "result_text",
        "snapshot",
        "taxpayer",
        "taxpayer_name",
        "taxpayer_number",
        "text",
        "told",
    }
)
"""Names that the private part of a journal entry, or a request that becomes one, gives to its fields."""
REDACTED: Final = "[private]"
UNNAMED_ACTION: Final = "unnamed"
LIBRARY_ACTION: Final = "library"
OUR_PACKAGES: Final = frozenset({"kuaixiang", "node", "hub", "kx", "demo"})
LEVELS: Final = ("debug", "info", "warning", "error")

FAULTS: Final = Counter(
    "kx_log_faults_total",
    "Log lines that broke a rule, by fault: private_key (a value was blanked) or no_action.",
    ["fault"],
)


HALF_CLOSED: Final = "returning true from eof_received() has no effect when using ssl"
"""What asyncio says at the end of each TLS connection that began in plain text, as NATS's do: its streams still take it
for one that can be closed by half. Nothing follows from it, and nobody can do anything about it."""


class UnknownLogLevel(Exception):
    """A log level that there is not."""

    def __init__(self, level: str) -> None:
        self.level = level
        super().__init__(f"There is no log level {level!r}; choose one of {', '.join(LEVELS)}.")


class PrivateKeyLogged(Exception):
    """A log line carries a field that holds private data."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"A log line carries {key!r}, which holds private data.")


class ActionMissing(Exception):
    """A log line does not say what was being done."""

    def __init__(self, event: str) -> None:
        self.event = event
        super().__init__(f"The log line {event!r} has no `action`.")


def configure(service: str, level: str = "info", *, strict: bool = False, stream: TextIO | None = None) -> None:
    """Send this process's logs, ours and the libraries', to standard error as JSON. Raises `UnknownLogLevel`.

    `service` names the process in every line. A second call replaces the first.
    """
    if level.lower() not in LEVELS:
        raise UnknownLogLevel(level)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    rules: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _in_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _place_of_failure,
        _Rules(service, strict=strict),
    ]
    structlog.configure(
        processors=[*rules, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_library, *rules],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=_typename),
            ],
        )
    )
    handler.addFilter(_tells_something)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(threshold)
    logging.captureWarnings(capture=True)


def _tells_something(record: logging.LogRecord) -> bool:
    return record.name != "asyncio" or record.msg != HALF_CLOSED


class _Rules:
    """Blanks private values, asks for an action, names the service."""

    def __init__(self, service: str, *, strict: bool) -> None:
        self._service = service
        self._strict = strict

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        # The keys that structlog keeps for itself begin with an underscore and go away before the line is written.
        kept: EventDict = {key: value if key.startswith("_") else self._kept(key, value) for key, value in line.items()}
        if not kept.get("action"):
            if self._strict:
                raise ActionMissing(str(line.get("event")))
            FAULTS.labels(fault="no_action").inc()
            kept["action"] = UNNAMED_ACTION
        kept["service"] = self._service
        return kept

    def _kept(self, key: object, value: object) -> object:
        if isinstance(key, str) and key.lower() in PRIVATE_KEYS:
            if self._strict:
                raise PrivateKeyLogged(key)
            FAULTS.labels(fault="private_key").inc()
            return REDACTED
        match value:
            case Mapping():
                return {str(inner): self._kept(inner, nested) for inner, nested in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._kept(None, nested) for nested in value]
            case _:
                return value


def _name_library(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    line.setdefault("action", LIBRARY_ACTION)
    return line


def _in_trace(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Say of which trace the line is, where it is of one: the trace itself names no case, its lines do."""
    spans = tracing.spans()
    here = None if spans is None else spans.here()
    if here is not None:
        line["trace_id"], line["span_id"] = f"{here.trace_id:032x}", f"{here.span_id:016x}"
    return line


def _place_of_failure(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Replace `exc_info` by `failure`: for each its type, its place, and its sentence if it is ours; causes last."""
    failure = _failure(line.pop("exc_info", None))
    if failure is not None:
        line["failure"] = [_described(one) for one in _chain(failure)]
    return line


def _failure(exc_info: object) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as failure, _):
            return failure
        case None | False | (None, None, None):
            return None
        case _:
            return sys.exception()


def _chain(failure: BaseException) -> list[BaseException]:
    chain = [failure]
    while True:
        cause = chain[-1].__cause__ or (None if chain[-1].__suppress_context__ else chain[-1].__context__)
        if cause is None or cause in chain:
            return chain
        chain.append(cause)


def _described(failure: BaseException) -> dict[str, object]:
    kind = type(failure)
    described: dict[str, object] = {
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "at": [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(failure.__traceback__)
        ],
    }
    if kind.__module__.split(".", 1)[0] in OUR_PACKAGES:
        described["sentence"] = str(failure)
    code = _code(failure)
    if code:
        described["code"] = code
    return described


def _code(failure: BaseException) -> str:
    """What the system or a database calls the fault, such as SQLITE_FULL, 40001 or ENOSPC; its text may be private."""
    named = getattr(failure, "sqlite_errorname", None) or getattr(failure, "sqlstate", None)
    if isinstance(failure, OSError) and failure.errno is not None:
        named = errno.errorcode.get(failure.errno)
    return str(named or "")


def _typename(value: object) -> str:
    """What JSON cannot say is not written: its `repr` might quote a case."""
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
