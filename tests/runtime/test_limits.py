"""Buckets, and what is held at once: pure, by a clock that the test moves."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from kuaixiang.runtime.limits import (
    BURST_SECONDS,
    Allowance,
    Buckets,
    CallLimits,
    Held,
    TooManyAtOnce,
    TooManyCalls,
    TooManyStreams,
)


class Time:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_burst_passes_and_the_next_call_waits_for_as_long_as_it_is_told() -> None:
    time = Time()
    buckets = Buckets(10, time)
    assert [0.0] * 50 == [buckets.take("a") for _ in range(50)]
    wait = buckets.take("a")
    assert pytest.approx(0.1) == wait
    time.seconds += wait * 0.9
    assert buckets.take("a") > 0
    time.seconds += wait * 0.1 + 1e-9
    assert buckets.take("a") == 0.0


def test_one_who_asks_too_much_is_in_nobodys_way() -> None:
    buckets = Buckets(1, Time())
    while not buckets.take("greedy"):
        pass
    assert buckets.take("modest") == 0.0


def test_a_rate_of_nought_lets_everything_pass_and_remembers_nobody() -> None:
    buckets = Buckets(0, Time())
    assert {0.0} == {buckets.take("a") for _ in range(10_000)}
    assert len(buckets) == 0


def test_callers_without_number_take_no_memory_without_bound() -> None:
    buckets = Buckets(1, Time(), callers_max=100)
    for caller in range(10_000):
        buckets.take(caller)
    assert len(buckets) == 100


@given(st.lists(st.floats(min_value=0, max_value=3), max_size=40), st.sampled_from([0.5, 3.0, 1_000.0]))
def test_never_more_passes_than_the_burst_and_the_rate_since(pauses: list[float], per_second: float) -> None:
    time, passed = Time(), 0
    buckets = Buckets(per_second, time)
    for pause in pauses:
        time.seconds += pause
        passed += buckets.take("a") == 0.0
    assert passed <= max(per_second * BURST_SECONDS, 1) + per_second * sum(pauses) + 1e-6


def test_what_is_given_back_can_be_taken_again_and_nothing_is_remembered_of_who_has_none() -> None:
    held = Held(2)
    assert [True, True, False] == [held.take("a") for _ in range(3)]
    assert held.take("b")
    held.give_back("a")
    assert held.take("a")
    for caller in ("a", "a", "b"):
        held.give_back(caller)
    assert len(held) == 0


def gate(time: Time, **limits: float) -> Allowance:
    known = {"calls_per_second": 0.0, "token_calls_per_second": 0.0, "calls_at_once": 5, "streams_at_once": 5}
    return Allowance(CallLimits(**{**known, **limits}), time)  # type: ignore[arg-type]


def test_calls_and_streams_at_once_are_counted_apart_and_given_back_by_a_call_that_fails() -> None:
    door = gate(Time(), calls_at_once=1, streams_at_once=1)
    with door.entered("a", None, streams=False), door.entered("a", None, streams=True):
        with pytest.raises(TooManyAtOnce), door.entered("a", None, streams=False):
            pass
        with pytest.raises(TooManyStreams), door.entered("a", None, streams=True):
            pass
        with door.entered("b", None, streams=False), door.entered("b", None, streams=True):
            pass
    with pytest.raises(ZeroDivisionError), door.entered("a", None, streams=False):
        raise ZeroDivisionError
    with door.entered("a", None, streams=False):
        pass


def test_a_token_has_a_rate_of_its_own_whoever_brings_it_and_refusals_are_counted_by_limit() -> None:
    labels = {"limit": "token_rate"}
    before = REGISTRY.get_sample_value("kx_limited_total", labels) or 0.0
    door = gate(Time(), token_calls_per_second=1)
    peers = count()

    def call(token: str) -> None:
        with door.entered(f"peer {next(peers)}", token, streams=False):
            pass

    for _ in range(int(BURST_SECONDS)):
        call("channel")
    with pytest.raises(TooManyCalls) as refused:
        call("channel")
    assert pytest.approx(1.0) == refused.value.retry_seconds
    call("another")
    assert before + 1 == REGISTRY.get_sample_value("kx_limited_total", labels)
