"""A real Prometheus and Alertmanager watch a real federation: what breaks is told to whom it concerns, and told as mended.

The configurations are those of deploy/prometheus; addresses are replaced, and durations shortened.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from demo.federation import Federation, part_of
from demo.processes import ChildProcess, free_port
from kuaixiang.facts import national_tree
from kuaixiang.runtime import pki
from tests.services import Monitors

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
HEADQUARTERS, PROVINCE = "000000", "110000"
SECONDS_MAX = 180.0
READY_SECONDS = 120.0
LOOPBACK = "127.0.0.1"


class Told:
    """What receivers were told: by receiver and alert, how it stands."""

    def __init__(self) -> None:
        self.stands: dict[tuple[str, str], str] = {}

    async def until(self, receiver: str, alert: str, status: str) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while self.stands.get((receiver, alert)) != status:
                await asyncio.sleep(0.2)


@contextmanager
def receivers(told: Told) -> Iterator[str]:
    """Takes Alertmanager's messages at `/<receiver>` of the address given back."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in message["alerts"]:
                told.stands[self.path.strip("/"), alert["labels"]["alertname"]] = alert["status"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))
    return found


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), "utf-8")  # JSON is YAML too
    return path


def hurried_rules(folder: Path) -> None:
    """The rules with what they wait for cut to nothing; their expressions stay."""
    for name in ("recording.yml", "alerts.yml"):
        content = loaded(name)
        for group in content["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                rule.pop("for", None)
        write(folder / name, content)


def hurried_routes(route: dict[str, Any]) -> None:
    route |= {"group_wait": "0s", "group_interval": "1s"}
    for each in route.get("routes", ()):
        hurried_routes(each)


def ready(port: int) -> bool:
    try:
        with urlopen(f"http://{LOOPBACK}:{port}/-/ready", timeout=10) as answer:
            return bool(200 == answer.status)
    except OSError:
        return False


@asynccontextmanager
async def watched(federation: Federation, monitors: Monitors, folder: Path) -> AsyncIterator[Told]:
    """Prometheus and Alertmanager over a federation, for the time of the block."""
    prometheus_port, alertmanager_port, told = free_port(), free_port(), Told()
    conf = loaded("prometheus.yml")
    conf["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    conf["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"{LOOPBACK}:{alertmanager_port}"]}]}]
    conf["scrape_configs"] = [
        {
            "job_name": f"kuaixiang-{kind}",
            "static_configs": [
                {
                    "targets": [f"{service.host}:{service.metrics_port}"],
                    "labels": {"site": federation.tree.site(service.codes[0])},
                }
                for service in services
            ],
        }
        for kind, services in (("node", federation.nodes), ("hub", federation.hubs))
    ]
    hurried_rules(folder)
    with receivers(told) as address:
        routes = loaded("alertmanager.yml")
        hurried_routes(routes["route"])
        for receiver in routes["receivers"]:
            receiver["webhook_configs"] = [{"url": f"{address}/{receiver['name']}"}]
        programs = [
            ChildProcess(
                "alertmanager",
                [
                    *monitors.serve_alertmanager(),
                    f"--config.file={write(folder / 'alertmanager.yml', routes)}",
                    f"--storage.path={folder / 'alertmanager'}",
                    f"--web.listen-address={LOOPBACK}:{alertmanager_port}",
                    "--cluster.listen-address=",
                ],
                log=folder / "alertmanager.log",
            ),
            ChildProcess(
                "prometheus",
                [
                    monitors.prometheus,
                    f"--config.file={write(folder / 'prometheus.yml', conf)}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address={LOOPBACK}:{prometheus_port}",
                ],
                log=folder / "prometheus.log",
            ),
        ]
        try:
            for program, port in zip(programs, (alertmanager_port, prometheus_port), strict=True):
                program.start()
                await asyncio.to_thread(program.wait_ready, partial(ready, port), READY_SECONDS)
            yield told
        finally:
            for program in programs:
                program.stop()


@pytest.mark.nats
@pytest.mark.slow
async def test_what_breaks_is_told_to_those_on_call_and_told_as_mended_again(
    tmp_path: Path, monitors: Monitors
) -> None:
    tree = part_of(national_tree(), [PROVINCE])
    async with Federation(tmp_path / "federation", tree) as federation:
        (tmp_path / "monitoring").mkdir()
        async with watched(federation, monitors, tmp_path / "monitoring") as told:
            await federation.kill_hub(HEADQUARTERS)
            await told.until("operators-on-call", "KxTargetAbsent", "firing")
            await federation.restart_hub(HEADQUARTERS)
            await told.until("operators-on-call", "KxTargetAbsent", "resolved")

            await asyncio.to_thread(federation.sites.stop_site, PROVINCE)
            await told.until("operators-on-call", "KxNatsDisconnected", "firing")
            await asyncio.to_thread(federation.sites.start_site, PROVINCE)
            await told.until("operators-on-call", "KxNatsDisconnected", "resolved")

            folder = federation.certificates("node", PROVINCE)
            yesterday = datetime.now(UTC) - timedelta(days=1)
            pki.issue(federation.authority, folder, "node", [PROVINCE], 10, hosts=(), valid_from=yesterday, force=True)
            await told.until("operators", "KxCertificateExpiresSoon", "firing")
            federation.issue_certificate("node", [PROVINCE])
            await told.until("operators", "KxCertificateExpiresSoon", "resolved")
            assert ("operators-on-call", "KxCertificateExpiresSoon") not in told.stands
