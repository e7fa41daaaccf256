"""What Prometheus is shown of a hub's branches is how they stand now, and of no branch that has left."""

import asyncio
from contextlib import closing
from datetime import timedelta

from prometheus_client import REGISTRY

from demo.journals import MONDAY
from hub.gauges import Gauges
from tests.hub.bench import Bench, cases
from tests.hub.boards import lived, waiting
from tests.hub.journals import HANGZHOU, SHANGCHENG, ZHEJIANG, tree
from tests.hub.test_tree import kept, moved


def shown(metric: str, branch: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"branch": branch, **labels})


async def test_a_branch_that_has_left_is_shown_no_more(
    database_url: str,
) -> None:
    before = moved("2026-12", tree())
    bench = Bench(database_url, ZHEJIANG, before)
    with closing(bench.store):
        bench.feed(waiting(lived(SHANGCHENG, 2), 3, MONDAY + timedelta(days=400)).segment())
        bench.feed(cases(HANGZHOU, 1).segment())
        gauges = Gauges(bench.store, lambda: MONDAY + timedelta(days=10))
        await gauges.step()
        assert 3 == shown("kx_hub_cases_open", SHANGCHENG, light="in_time")
        assert 2 == shown("kx_hub_deadlines_due", SHANGCHENG, clock="handle")
        await asyncio.to_thread(bench.store.adopt, tree(), kept(tree()))
        await gauges.step()
        assert 3 == shown("kx_hub_cases_open", HANGZHOU, light="in_time")
        gone = [
            metric.name
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if metric.name.startswith("kx_hub_") and sample.labels.get("branch") == SHANGCHENG
        ]
        assert [] == gone
