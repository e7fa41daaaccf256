"""Traces cost nothing where they are off, are bounded where the collector is away, and say what they must not hold."""

import io
import json
import subprocess
import sys
import time
from typing import Any

import pytest
import structlog

from demo.processes import free_port
from hub.settings import HubSettings
from kuaixiang.runtime import tracing
from kuaixiang.runtime.settings import TraceSettings, WrongSetting, read_settings
from kuaixiang.runtime.spans import QUEUED_SPANS_MAX, SEND_SECONDS_MAX, Spans
from node.ledger import traces
from node.ledger.traces import Traces, Written
from node.settings import NodeSettings
from tests.collector import Collector

NOBODY = "http://127.0.0.1:9/v1/traces"


def lost() -> float:
    count: float = tracing.SPANS.labels("lost")._value.get()
    return count


def said(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def begun() -> Spans:
    spans = tracing.spans()
    assert spans is not None
    return spans


def test_a_service_without_a_collector_loads_nothing_of_opentelemetry() -> None:
    program = "import sys, node.service, hub.service; print([name for name in sys.modules if 'opentelemetry' in name])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert "[]" == loaded.stdout.strip()


@pytest.mark.parametrize(("kind", "more"), [(NodeSettings, {"bureaus": ("110101",)}), (HubSettings, {})])
def test_a_collector_without_the_extra_is_refused_with_what_to_install(
    kind: type[NodeSettings | HubSettings], more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kuaixiang.runtime.settings.OPENTELEMETRY", ("there.is.no.such.package",))
    with pytest.raises(WrongSetting, match=r"setting traces_endpoint: .*pip install 'kuaixiang\[tracing\]'"):
        read_settings(kind, traces_endpoint=NOBODY, **more)


@pytest.mark.parametrize(
    "endpoint", ["collector:4317", "http://collector:4318", "http://user:word@collector/v1/traces"]
)
def test_an_endpoint_that_is_no_address_with_a_path_is_refused(endpoint: str) -> None:
    with pytest.raises(WrongSetting, match="setting traces_endpoint"):
        read_settings(NodeSettings, bureaus=("110101",), traces_endpoint=endpoint)


def test_a_collector_that_is_away_is_said_once_and_what_waits_for_it_is_bounded(log: io.StringIO) -> None:
    before = lost()
    with tracing.tracing(TraceSettings(traces_endpoint=NOBODY, traces_sample_ratio=1.0), "node", "110101"):
        spans, several = begun(), 1_000
        root = spans.processing([("kx.v1.journal.110000.110101", f"00-{'a' * 32}-{'b' * 16}-01")]).contexts
        for _ in range(QUEUED_SPANS_MAX + several):
            spans.publishing("kx.v1.totals.000000", root).end()
        deadline = time.monotonic() + 60
        while not [line for line in said(log) if line["action"] == "traces.lost"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ending = time.monotonic()
    assert time.monotonic() - ending < 3 * SEND_SECONDS_MAX
    assert lost() - before == QUEUED_SPANS_MAX + several
    assert ["traces.lost"] == [line["action"] for line in said(log)]


def test_a_collector_that_is_back_is_sent_what_comes_then(log: io.StringIO) -> None:
    port = free_port()
    with tracing.tracing(
        TraceSettings(traces_endpoint=f"http://127.0.0.1:{port}/v1/traces", traces_sample_ratio=1.0), "hub", "000000"
    ):
        spans = begun()
        (parent,) = spans.processing([("kx.v1.journal.110000.110101", f"00-{'a' * 32}-{'b' * 16}-01")]).contexts
        spans.publishing("kx.v1.totals.000000", [parent]).end()
        deadline = time.monotonic() + 60
        while not said(log):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with Collector(port) as collector:
            spans.publishing("kx.v1.totals.110000", [parent]).end()
            (found,) = collector.wait_for(bool)
    assert ("hub", "000000", "a" * 32) == (found.service, found.instance, found.trace_id)
    assert ["traces.lost", "traces.sent"] == [line["action"] for line in said(log)]


def test_a_line_of_the_log_says_of_which_trace_it_is(log: io.StringIO) -> None:
    with Collector() as collector:
        with tracing.tracing(TraceSettings(traces_endpoint=collector.endpoint), "node", "110101"):
            spans = begun()
            (parent,) = spans.processing([("kx.v1.progress.110000.110101", f"00-{'a' * 32}-{'b' * 16}-01")]).contexts
            structlog.get_logger("node.office").info("Outside.", action="test")
            with spans.step("deliver", parent):
                structlog.get_logger("node.office").info("Within.", action="test", case_id="110101-2026-1")
        (step,) = collector.wait_for(bool)
    outside, within = said(log)
    assert "trace_id" not in outside
    assert ("a" * 32, step.span.span_id.hex()) == (within["trace_id"], within["span_id"])


def test_what_a_message_says_of_traces_is_taken_only_if_it_can_be_read() -> None:
    with tracing.tracing(TraceSettings(traces_endpoint=NOBODY), "hub", "000000"):
        whole = f"00-{'a' * 32}-{'b' * 16}-01"
        strange = ["", "00-xyz", f"00-{'0' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", f"{whole}\n{whole}"]
        unsampled = f"00-{'c' * 32}-{'b' * 16}-00"
        text = ",".join([*strange, unsampled, whole])
        found = begun().processing([("kx.v1.journal.110000.110101", text)])
        assert ["a" * 32] == [f"{one.trace_id:032x}" for one in found.contexts]
        found.end()
        many = begun().processing([("kx.v1.journal.110000.110101", ",".join([whole] * 1_000))])
        assert 64 == len(many.contexts)


def test_what_was_written_is_known_by_its_trace_for_an_hour_and_once_for_each_entry() -> None:
    now = 0.0
    kept = Traces(lambda: now)
    with tracing.tracing(TraceSettings(traces_endpoint=NOBODY), "node", "110101"):
        text = ",".join(f"00-{number:032x}-{'b' * 16}-01" for number in (1, 2, 3))
        one, two, three = begun().processing([("kx.v1.journal.110000.110101", text)]).contexts
    kept.keep(Written("110101", 5, frozenset({"A"})), one)
    kept.keep(Written("110101", 7, frozenset({"A", "B"})), two)
    kept.keep(Written("110102", 1, frozenset({"A"})), three)
    assert (two, two, three, None) == (
        kept.of("110101", "A"),
        kept.of("110101", "B"),
        kept.of("110102", "A"),
        kept.of("110101", "C"),
    )
    assert [one] == kept.take("110101", 6)
    assert [two] == kept.take("110101", 9)
    assert [] == kept.take("110101", 9)
    # What is done to it in no trace is delivered in none.
    kept.keep(Written("110101", 8, frozenset({"A"})), None)
    assert kept.of("110101", "A") is None
    now = traces.SECONDS_MAX + 1
    assert kept.of("110101", "B") is None
    assert [] == kept.take("110102", 1)
    for number in range(traces.SUBJECTS_MAX + 1):
        kept.keep(Written("110101", number, frozenset({str(number)})), one)
    assert kept.of("110101", "0") is None
    assert kept.of("110101", str(traces.SUBJECTS_MAX)) is one
