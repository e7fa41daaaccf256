"""A process's metrics at `/metrics` of a local port, in Prometheus' text format; at `/health` whether it serves."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

METRICS_PATH: Final = "/metrics"
HEALTH_PATH: Final = "/health"
REQUEST_SECONDS_MAX: Final = 10
"""As Prometheus' own scrape time-out: who has not sent his request by then has gone."""
STOP_SECONDS_MAX: Final = 5

TIME: Final = Gauge(
    "kx_time_seconds", "This machine's own time as it is asked, Unix time: Prometheus compares it with its own."
)
TIME.set_function(time.time)
# When a counter was made is a series more for each, and nothing asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]


class PortUnavailable(Exception):
    """The address for the metrics cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        self.reason = reason
        super().__init__(f"Metrics cannot be served on {host}:{port}: {reason}.")


class Exposition:
    """A running `/metrics`, and `/health` for balancers, which have no certificate to ask gRPC's health service with.

    It runs from a thread of its own; port 0 takes a free one, which `port` then is. `unfit` says why the service does
    not serve, in a line; empty: it serves. Raises `PortUnavailable`.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry = REGISTRY) -> None:
        self.unfit: Callable[[], str] = str
        self.show(registry)
        try:
            self._server: WSGIServer = make_server(
                host, port, self._answer, ThreadingWSGIServer, handler_class=_Handler
            )
        except OSError as failure:
            raise PortUnavailable(host, port, failure.strerror or str(failure)) from failure
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="exposition", daemon=True)
        self._thread.start()

    def show(self, registry: CollectorRegistry) -> None:
        """From now on that registry's metrics are shown."""
        self._metrics = make_wsgi_app(registry)

    def stop(self) -> None:
        """Stop serving and give the port back. A second call does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_SECONDS_MAX)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == METRICS_PATH:
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        status, said = "404 Not Found", "Only /metrics and /health are here."
        if environ["PATH_INFO"] == HEALTH_PATH:
            unfit = self.unfit()
            status, said = ("503 Service Unavailable", f"NOT_SERVING: {unfit}") if unfit else ("200 OK", "SERVING")
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
        return [f"{said}\n".encode()]


class _Handler(WSGIRequestHandler):
    timeout: ClassVar[float | None] = REQUEST_SECONDS_MAX

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: a line for every scrape is noise."""
