"""A process's metrics at /metrics of a local port."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from demo.processes import free_port
from kuaixiang.runtime.exposition import Exposition, PortUnavailable

SECONDS = 60


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def test_metrics_of_the_registry_are_served_on_a_free_port() -> None:
    registry = CollectorRegistry()
    Counter("cases_registered", "Cases registered.", registry=registry).inc(3)
    exposition = Exposition("127.0.0.1", 0, registry)
    try:
        families = {family.name: family for family in text_string_to_metric_families(get(exposition.port, "/metrics"))}
    finally:
        exposition.stop()
    assert 3 == next(s.value for s in families["cases_registered"].samples if s.name == "cases_registered_total")


def test_other_paths_are_not_found() -> None:
    exposition = Exposition("127.0.0.1", 0, CollectorRegistry())
    try:
        with pytest.raises(urllib.error.HTTPError, match="404") as refusal:
            get(exposition.port, "/")
        refusal.value.close()
    finally:
        exposition.stop()


def test_a_taken_port_is_named_and_a_stopped_exposition_gives_its_port_back() -> None:
    # One that no connection takes while it is free, as it does those that the system chooses.
    exposition = Exposition("127.0.0.1", free_port(), CollectorRegistry())
    with pytest.raises(PortUnavailable, match=f"127.0.0.1:{exposition.port}: Address already in use"):
        Exposition("127.0.0.1", exposition.port, CollectorRegistry())
    exposition.stop()
    exposition.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", exposition.port), SECONDS)
    Exposition("127.0.0.1", exposition.port, CollectorRegistry()).stop()
