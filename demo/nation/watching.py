"""What is looked at while the day goes on: how much waits where, and what each process takes of the machine."""

import asyncio
import time
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from demo.federation import Federation, Service
from demo.processes import ProcessError, cpu_seconds, memory_bytes
from kuaixiang.domain.calendar import SHANGHAI

PAGES_AT_ONCE: Final = 8
PAGE_SECONDS_MAX: Final = 10.0
"""As Prometheus' own scrape time-out."""

UNPUBLISHED: Final = "kx_journal_unpublished_entries"
PUBLISHED: Final = "kx_published_entries_total"
FOLDED: Final = "kx_hub_entries_total"
OWED: Final = "kx_deliveries_pending"
NAMED: Final = "&".join(f"name[]={name}" for name in (UNPUBLISHED, PUBLISHED, FOLDED, OWED))
"""What a service is asked for: the whole page of a node of a hundred bureaus, every five seconds, takes it a twelfth of
what the day does."""

MEGABYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was at one look. Counts are of journal entries where nothing else is said."""

    seconds: float
    """Since the first look, real time."""
    at: datetime
    """Business time."""
    registered: int
    """Cases, acknowledged."""
    committed: int
    """In all ledgers."""
    unpublished: int
    """Of those, not yet acknowledged by the stream of the province's NATS site."""
    folded: int
    """By the hub."""
    deliveries: int
    """Offers, conclusions and the like that peers are owed and have not answered."""
    acts_waiting: int
    """Acts of officers whose time has come and that are not acknowledged."""

    @property
    def unfolded(self) -> int:
        """In a stream, and not yet folded by the hub."""
        return max(0, self.committed - self.unpublished - self.folded)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a process takes of the machine."""

    name: str
    kind: str
    bureaus: int
    """Whose ledgers a node keeps."""
    memory_mb: float
    """Proportional set size: what is shared with others is divided among them."""
    memory_peak_mb: float
    """The largest resident set that it ever had."""
    cpu_seconds: float
    """Since its start."""


@dataclass(slots=True)
class Watched:
    """The looks of one day."""

    samples: list[Sample] = field(default_factory=list)

    def most(self, what: str) -> int:
        """The largest value of one field or property over all looks."""
        return max((int(getattr(sample, what)) for sample in self.samples), default=0)


class Watching:
    """Looks at the metrics of every service of a federation."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._began = time.monotonic()
        self._threads = ThreadPoolExecutor(PAGES_AT_ONCE, thread_name_prefix="metrics")

    async def look(self, registered: int, acts_waiting: int) -> Sample:
        """One look at all of them; a service that does not answer in time counts as nothing."""
        run = asyncio.get_running_loop().run_in_executor
        nodes = await asyncio.gather(*(run(self._threads, metrics_of, node) for node in self._federation.nodes))
        hubs = await asyncio.gather(*(run(self._threads, metrics_of, hub) for hub in self._federation.hubs))
        unpublished = _sum(nodes, UNPUBLISHED)
        return Sample(
            seconds=round(time.monotonic() - self._began, 2),
            at=self._federation.clock.now().astimezone(SHANGHAI),
            registered=registered,
            committed=_sum(nodes, PUBLISHED) + unpublished,
            unpublished=unpublished,
            folded=_sum(hubs, FOLDED),
            deliveries=_sum(nodes, OWED),
            acts_waiting=acts_waiting,
        )

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)


def metrics_of(service: Service) -> dict[str, float]:
    """The metrics of a service that are looked at, by name; none when it does not answer."""
    found: dict[str, float] = {}
    try:
        with urllib.request.urlopen(f"{service.metrics_url}?{NAMED}", timeout=PAGE_SECONDS_MAX) as page:
            for line in page.read().decode().splitlines():
                name, _, value = line.partition(" ")
                if not line.startswith("#"):
                    found[name] = float(value)
    except OSError:
        return {}
    return found


def taken_by(federation: Federation) -> list[Taken]:
    """What every process of a federation takes now. Raises `ChildNotRunning`."""
    services = [
        _taken(service.name, service.kind, len(service.codes) * (service.kind == "node"), service.process.pid)
        for service in federation.services
    ]
    sites = [_taken(f"nats-{site.code}", "nats", 0, site.process.pid) for site in federation.sites.all]
    return services + sites


def _taken(name: str, kind: str, bureaus: int, pid: int) -> Taken:
    return Taken(
        name=name,
        kind=kind,
        bureaus=bureaus,
        memory_mb=round(memory_bytes(pid, "Pss") / MEGABYTE, 1),
        memory_peak_mb=round(memory_bytes(pid, "VmHWM", of="status") / MEGABYTE, 1),
        cpu_seconds=round(cpu_seconds(pid), 2),
    )


def _sum(pages: Iterable[dict[str, float]], name: str) -> int:
    return int(sum(page.get(name, 0.0) for page in pages))


class ChartUnavailable(ProcessError):
    """The package that draws is not installed."""

    def __init__(self) -> None:
        super().__init__("a chart is drawn by the package matplotlib, which is not installed: pip install matplotlib")


def require_drawing() -> None:
    """Raises `ChartUnavailable` where no chart can be drawn."""
    if find_spec("matplotlib") is None:
        raise ChartUnavailable


def draw(samples: Sequence[Sample], title: str, file: Path) -> None:
    """The backlogs over time, above them what was done, as a PNG. Raises `ChartUnavailable`, `OSError`."""
    require_drawing()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    done, waits = figure.subplots(2, 1, sharex=True)
    seconds = [sample.seconds for sample in samples]
    figure.suptitle(title)
    done.plot(seconds, [sample.committed for sample in samples], label="journal entries committed, all ledgers")
    done.plot(seconds, [sample.folded for sample in samples], label="journal entries folded by the hub", linestyle="--")
    done.plot(seconds, [sample.registered for sample in samples], label="cases registered")
    done.set_ylabel("count")
    waits.plot(seconds, [sample.unpublished for sample in samples], label="entries not yet in a stream")
    waits.plot(seconds, [sample.unfolded for sample in samples], label="entries in a stream, not yet folded")
    waits.plot(seconds, [sample.deliveries for sample in samples], label="messages owed to peers")
    waits.plot(seconds, [sample.acts_waiting for sample in samples], label="acts of officers waiting")
    waits.set_ylabel("backlog")
    waits.set_xlabel("seconds of real time")
    for axes in (done, waits):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="upper left", fontsize="small")
    by_hour = {sample.at.hour: sample.seconds for sample in reversed(samples)}
    above = done.secondary_xaxis("top")
    above.set_xticks(list(by_hour.values()), [f"{hour:02d}:00" for hour in by_hour])
    above.set_xlabel("business time")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="png")
