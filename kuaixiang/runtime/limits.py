"""How much one caller may ask of a service: calls a second, calls at once, streams at once.

A bucket for each caller holds as many calls as may come in a burst and fills at a steady rate; a call that finds it
empty is refused with the time until it is not. All of it is by caller, so that one who asks too much is in nobody's
way. Pure but for the clock that is given, and made for one event loop.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Final

from prometheus_client import Counter

from kuaixiang.domain.errors import Condition, Refused

BURST_SECONDS: Final = 5.0
"""A bucket holds what may come in so long: who was cut off sends what has gathered at once."""

CALLERS_MAX: Final = 10_000
"""Callers that are remembered: three times the bureaus of the nation. Whoever has been away longest is forgotten, and
begins with a full bucket again."""

RETRY_SECONDS_MIN: Final = 0.1
"""Who is refused waits so long at least: sooner it would be refused again."""

AT_ONCE_RETRY_SECONDS: Final = 1.0
"""When one of a caller's calls will have ended, roughly: most take milliseconds."""

STREAM_RETRY_SECONDS: Final = 10.0
"""Likewise for streams, which stay open for minutes."""

LIMITED: Final = Counter(
    "kx_limited_total",
    "Calls and requests refused because their caller asks too much, by limit: rate, token_rate, at_once, streams, "
    "page_rate, streams_of_pages, undecided_bytes, hand_ins.",
    ["limit"],
)


class TooManyCalls(Refused):
    """Calls come faster than the caller may make them; nothing of what it asked was looked at."""

    condition = Condition.LIMIT
    remedy = "Wait as long as the answer says, then try again under the same request key, and more slowly."
    remedy_chinese = "请按答复所示时间等待后，使用同一请求标识重试，并降低频率。"

    def __init__(self, per_second: float, retry_seconds: float, limit: str) -> None:
        self.retry_seconds = max(retry_seconds, RETRY_SECONDS_MIN)
        super().__init__(
            f"You may make {per_second:g} calls a second and have made more.",
            f"每秒最多可调用 {per_second:g} 次，已超出。",
        )
        LIMITED.labels(limit).inc()


class TooManyAtOnce(Refused):
    """More calls of the caller are under way than it may have."""

    condition = Condition.LIMIT
    remedy = "Wait for the answers of some, then try again under the same request key."
    remedy_chinese = "请等待部分调用返回后，使用同一请求标识重试。"
    retry_seconds = AT_ONCE_RETRY_SECONDS

    def __init__(self, at_once: int) -> None:
        super().__init__(
            f"{at_once} of your calls are under way, which is as many as may be.",
            f"已有 {at_once} 个调用正在处理，达到上限。",
        )
        LIMITED.labels("at_once").inc()


class TooManyStreams(Refused):
    """The caller has more streams open than it may have."""

    condition = Condition.LIMIT
    remedy = "Close one that is not needed, then try again."
    remedy_chinese = "请关闭不需要的连接后重试。"
    retry_seconds = STREAM_RETRY_SECONDS

    def __init__(self, streams: int, limit: str) -> None:
        super().__init__(
            f"{streams} of your streams are open, which is as many as may be.",
            f"已打开 {streams} 个持续连接，达到上限。",
        )
        LIMITED.labels(limit).inc()


class Buckets:
    """A bucket for each caller. `per_second` 0 lets everything pass. `now` gives seconds that only grow."""

    def __init__(self, per_second: float, now: Callable[[], float], *, callers_max: int = CALLERS_MAX) -> None:
        self.per_second = per_second
        self._burst = max(per_second * BURST_SECONDS, 1.0)
        self._now = now
        self._callers_max = callers_max
        # What was left, and when; the caller seen last stands at the end.
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._left)

    def take(self, caller: Hashable) -> float:
        """Take a token: 0 when there was one, else the seconds until there is one, and nothing is taken."""
        if not self.per_second:
            return 0.0
        now = self._now()
        left, at = self._left.get(caller, (self._burst, now))
        left = min(left + (now - at) * self.per_second, self._burst)
        if left < 1.0:
            self._remember(caller, left, now)
            return (1.0 - left) / self.per_second
        self._remember(caller, left - 1.0, now)
        return 0.0

    def _remember(self, caller: Hashable, left: float, now: float) -> None:
        self._left[caller] = (left, now)
        self._left.move_to_end(caller)
        if len(self._left) > self._callers_max:
            self._left.popitem(last=False)


class Held:
    """How many of something each caller has at this moment; a caller who has none is not remembered."""

    def __init__(self, each_max: int) -> None:
        self.each_max = each_max
        self._held: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """How many callers have any."""
        return len(self._held)

    def take(self, caller: Hashable) -> bool:
        """Take one more, to be given back; False when the caller has as many as it may."""
        held = self._held.get(caller, 0)
        if held >= self.each_max:
            return False
        self._held[caller] = held + 1
        return True

    def give_back(self, caller: Hashable) -> None:
        """One less."""
        held = self._held[caller] - 1
        if held:
            self._held[caller] = held
        else:
            del self._held[caller]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What one peer, known by its certificate, may ask of a gRPC server; an API token besides has a rate of its own."""

    calls_per_second: float
    token_calls_per_second: float
    calls_at_once: int
    streams_at_once: int


DEFAULT_LIMITS: Final = CallLimits(
    calls_per_second=1_000.0, token_calls_per_second=100.0, calls_at_once=256, streams_at_once=128
)
"""The whole nation registers some 150 cases a second on a filing-deadline day: a peer that stands for a province never
comes near its rate, and a channel's token for one platform stays within a tenth of it. A node of a hundred bureaus has
a hundred deliveries under way, its terminals some dozens of lists that they watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimits:
    """What one session, or one address without a session, may ask of a service's pages."""

    requests_per_second: float
    streams_at_once: int = 16


DEFAULT_PAGE_LIMITS: Final = PageLimits(requests_per_second=50.0)
"""A page and what it asks by itself are some ten requests, and nobody looks at five pages a second for long. Streams:
one for each open tab."""


class PageAllowance:
    """Lets requests for pages in, or refuses them. One for each service with pages."""

    def __init__(self, limits: PageLimits, now: Callable[[], float]) -> None:
        self._requests = Buckets(limits.requests_per_second, now)
        self._streams = Held(limits.streams_at_once)

    def enter(self, caller: Hashable) -> None:
        """A request comes. Raises `TooManyCalls`."""
        wait = self._requests.take(caller)
        if wait:
            raise TooManyCalls(self._requests.per_second, wait, "page_rate")

    def begin_stream(self, caller: Hashable) -> None:
        """A stream begins, to be ended by `end_stream`. Raises `TooManyStreams`."""
        if not self._streams.take(caller):
            raise TooManyStreams(self._streams.each_max, "streams_of_pages")

    def end_stream(self, caller: Hashable) -> None:
        """A stream has ended."""
        self._streams.give_back(caller)


class Allowance:
    """Lets a peer's calls in, or refuses them. One for each server."""

    def __init__(self, limits: CallLimits, now: Callable[[], float]) -> None:
        self._calls = Buckets(limits.calls_per_second, now)
        self._tokens = Buckets(limits.token_calls_per_second, now)
        self._at_once = Held(limits.calls_at_once)
        self._streams = Held(limits.streams_at_once)

    @contextmanager
    def entered(self, peer: Hashable, token: Hashable | None, *, streams: bool) -> Iterator[None]:
        """For the time of a call. Raises `TooManyCalls`, `TooManyAtOnce`, `TooManyStreams`."""
        for buckets, caller, limit in ((self._calls, peer, "rate"), (self._tokens, token, "token_rate")):
            wait = buckets.take(caller) if caller is not None else 0.0
            if wait:
                raise TooManyCalls(buckets.per_second, wait, limit)
        held = self._streams if streams else self._at_once
        if not held.take(peer):
            raise TooManyStreams(held.each_max, "streams") if streams else TooManyAtOnce(held.each_max)
        try:
            yield
        finally:
            held.give_back(peer)


def whole_seconds(seconds: float) -> int:
    """For a header that knows no fractions: at least one."""
    return max(1, ceil(seconds))
