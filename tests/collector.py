"""A collector of traces: takes OTLP over HTTP as any other does, and lets a test look at what came."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_SECONDS = 180.0
"""Totals that have not changed are told once a minute."""


@dataclass(frozen=True)
class Found:
    """A span, as it came."""

    service: str
    instance: str
    span: Span = field(repr=False)

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def kind(self) -> str:
        return Span.SpanKind.Name(self.span.kind).removeprefix("SPAN_KIND_").lower()

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def links(self) -> set[str]:
        return {link.span_id.hex() for link in self.span.links}

    @property
    def attributes(self) -> dict[str, Any]:
        return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in self.span.attributes}


class Collector:
    """Listens while it is entered; `bodies` are the requests as they came, `spans` what they hold."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[bytes] = []
        self._lock = threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with collector._lock:
                    collector.bodies.append(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}/v1/traces"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody listens any more. Repeats do nothing."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Found]:
        found = []
        with self._lock:
            bodies = list(self.bodies)
        for body in bodies:
            for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {one.key: one.value.string_value for one in of_process.resource.attributes}
                found += [
                    Found(about["service.name"], about["service.instance.id"], span)
                    for scope in of_process.scope_spans
                    for span in scope.spans
                ]
        return found

    def wait_for(self, there: Callable[[list[Found]], bool]) -> list[Found]:
        """The spans, once they are such."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not there(spans := self.spans):
            assert time.monotonic() < deadline, sorted((one.instance, one.name) for one in spans)
            time.sleep(0.1)
        return spans


def ways(spans: list[Found]) -> set[tuple[str, ...]]:
    """Each span with those above it, from the first one on, as `instance name`; one without its parent begins a way."""
    by_id = {one.span.span_id: one for one in spans}

    def way(one: Found) -> tuple[str, ...]:
        above = by_id.get(one.span.parent_span_id)
        return (*(way(above) if above else ()), f"{one.instance} {one.name}")

    return {way(one) for one in spans}
