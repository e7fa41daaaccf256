"""deploy/nats is what `kx nats` writes from the tree: accepted and linked by real servers, also as a cluster of three."""

import asyncio
import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from demo.processes import ChildProcess, free_port
from demo.sites import nats_server_binary
from kuaixiang.facts import load_tree, national_tree
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import (
    HEADQUARTERS,
    Access,
    Bus,
    BusError,
    Delivery,
    SiteUnreachable,
    hub_user,
    journal_subject,
    node_user,
    site_domain,
)
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.site_conf import (
    CERTIFICATES,
    CLIENT_PORT,
    LEAF_PORT,
    MONITOR_PORT,
    ROUTE_PORT,
    STORE,
    NoCluster,
    NoNodes,
    NoSuchSite,
    ServersMissing,
    confs_of,
    nodes_of,
)
from kx.main import app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DEPLOYED = DEPLOY / "nats"
TREE = load_tree(DEPLOY / "tree" / "sample-federation.csv")
SERVERS = {"000000": ["nats-hq"]}
NODES = {site: nodes_of(TREE, site) for site in ("000000", "110000", "330000")}

pytestmark = pytest.mark.nats


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/prepare.sh makes, the national site's for an address of this machine."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = folder / "authority"
    pki.init_authority(authority, "test")
    for code, nodes in NODES.items():
        pki.issue(authority, folder / f"nats-{code}", "nats", [code], hosts=["127.0.0.1"])
        pki.issue(authority, folder / f"hub-{code}", "hub", [code])
        for bureaus in nodes:
            pki.issue(authority, folder / f"node-{bureaus[0]}", "node", bureaus)
    return folder


def with_certificates(name: str, certificates: Path) -> str:
    """A deployed file, with only the folder of certificates replaced."""
    code = name.removeprefix("p").removesuffix(".conf").replace("hq", HEADQUARTERS)
    return (DEPLOYED / name).read_text("utf-8").replace(CERTIFICATES, str(certificates / f"nats-{code}"))


def test_the_files_are_what_the_generator_writes_today(tmp_path: Path) -> None:
    asked = (
        "nats",
        str(DEPLOY / "tree" / "sample-federation.csv"),
        "--out",
        str(tmp_path),
        "--server",
        "000000=nats-hq",
    )
    assert 0 == CliRunner().invoke(app, asked).exit_code
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert confs_of(TREE, SERVERS) == written
    assert written == {path.name: path.read_text(encoding="utf-8") for path in DEPLOYED.glob("*.conf")}


@pytest.mark.parametrize("name", sorted(confs_of(TREE, SERVERS)))
def test_nats_server_accepts_each_file(name: str, certificates: Path, tmp_path: Path) -> None:
    conf = tmp_path / name
    conf.write_text(with_certificates(name, certificates), "utf-8")
    done = subprocess.run(
        [str(nats_server_binary()), "-t", "-c", str(conf)], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stderr


async def test_the_deployed_files_start_link_and_carry_a_message_with_only_addresses_and_store_replaced(
    tmp_path: Path, certificates: Path
) -> None:
    leaf_port = free_port()
    ports: dict[str, int] = {}
    servers: list[ChildProcess] = []
    try:
        for code in NODES:
            domain = site_domain(code)
            ports[code] = free_port()
            text = with_certificates(f"{domain}.conf", certificates)
            for deployed, here in (
                (f"0.0.0.0:{CLIENT_PORT}", f"127.0.0.1:{ports[code]}"),
                (f"0.0.0.0:{MONITOR_PORT}", f"127.0.0.1:{free_port()}"),
                (f"0.0.0.0:{LEAF_PORT}", f"127.0.0.1:{leaf_port}"),
                (f"tls://nats-hq:{LEAF_PORT}", f"tls://127.0.0.1:{leaf_port}"),
                (STORE, str(tmp_path / domain)),
            ):
                text = text.replace(deployed, here)
            conf = tmp_path / f"{domain}.conf"
            conf.write_text(text, encoding="utf-8")
            server = ChildProcess(domain, [str(nats_server_binary()), "-c", str(conf)], log=tmp_path / f"{domain}.log")
            servers.append(server.start())
        for server in servers:
            server.wait_ready(lambda server=server: "Server is ready" in server.log_tail(200))  # type: ignore[misc]
        province = "110000"

        def access(site: str, user: str) -> Access:
            shown = CertificatePaths.in_folder(certificates / user)
            return Access(url=f"tls://127.0.0.1:{ports[site]}", site=site, user=user, certificates=shown)

        async with (
            Bus(access(province, node_user(province))) as node,
            Bus(access(HEADQUARTERS, hub_user(HEADQUARTERS))) as hub,
        ):
            await asyncio.gather(node.wait_connected(60), hub.wait_connected(60))
            await node.ensure_stream(province)
            await node.publish(journal_subject(province, "110101"), b"segment", message_id="1")
            durable = hub.durable(site_domain(province), hub_user(HEADQUARTERS))
            deliveries: list[Delivery] = []
            async with asyncio.timeout(60):
                while not deliveries:
                    with contextlib.suppress(SiteUnreachable):  # until the leaf has dialled
                        deliveries = await durable.fetch(1, 1)
                    await asyncio.sleep(0.05)
            assert [b"segment"] == [delivery.data for delivery in deliveries]
    finally:
        for server in servers:
            server.stop()


def test_there_is_no_password_and_nobody_comes_in_without_a_certificate() -> None:
    for text in confs_of(TREE, SERVERS).values():
        assert "password" not in text.replace("No password", "")
        assert text.count("verify_and_map: true") == text.count("listen:")
        assert "no_auth_user" not in text


HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""Three machines on this one: the files differ by the address that they listen on, and by nothing else."""
MESSAGES = 60


@dataclass
class Cluster:
    """Three national servers and a province's leaf, while they run."""

    certificates: Path
    servers: dict[str, ChildProcess] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def access(self, user: str, site: str = HEADQUARTERS) -> Access:
        """As whom, and at which servers."""
        urls = (
            [f"tls://{host}:{self.ports['client']}" for host in HOSTS]
            if site == HEADQUARTERS
            else [f"tls://127.0.0.1:{self.ports['province']}"]
        )
        shown = CertificatePaths.in_folder(self.certificates / user)
        return Access(url=",".join(urls), site=site, user=user, certificates=shown)

    def monitor(self, host: str, page: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{host}:{self.ports['monitor']}/{page}", timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def stream(self) -> dict[str, Any]:
        """The national stream as the first server that is there sees it."""
        for host in HOSTS:
            with contextlib.suppress(OSError):
                accounts = self.monitor(host, "jsz?streams=true&config=true&accounts=true")["account_details"]
                for one in accounts:
                    for stream in one.get("stream_detail") or ():
                        if "leader" in (stream.get("cluster") or {}):
                            found: dict[str, Any] = stream
                            return found
        return {}


@pytest.fixture
def cluster(tmp_path: Path, certificates: Path) -> Iterator[Cluster]:
    """The files that `kx nats` writes for it, with only addresses, ports and folders replaced."""
    started = Cluster(certificates)
    names = ("client", "route", "leaf", "monitor", "province", "province-monitor")
    started.ports = {name: free_port() for name in names}
    ports = started.ports
    issued = tmp_path / "nats-000000"
    pki.issue(certificates / "authority", issued, "nats", [HEADQUARTERS], hosts=HOSTS)
    confs = confs_of(TREE, {HEADQUARTERS: HOSTS}, sites=[HEADQUARTERS, "110000"])
    assert ["hq-1.conf", "hq-2.conf", "hq-3.conf", "p110000.conf"] == list(confs)
    try:
        for (name, text), host in zip(confs.items(), (*HOSTS, "127.0.0.1"), strict=True):
            is_national = name.startswith("hq")
            client, monitor = ("client", "monitor") if is_national else ("province", "province-monitor")
            here = text.replace(CERTIFICATES, str(issued if is_national else certificates / "nats-110000"))
            for deployed, at in (
                (f"0.0.0.0:{CLIENT_PORT}", f"{host}:{ports[client]}"),
                (f"0.0.0.0:{MONITOR_PORT}", f"{host}:{ports[monitor]}"),
                (f":{ROUTE_PORT}", f":{ports['route']}"),
                (f":{LEAF_PORT}", f":{ports['leaf']}"),
                ("0.0.0.0:", f"{host}:"),
                (STORE, str(tmp_path / "store" / name)),
            ):
                here = here.replace(deployed, at)
            file = tmp_path / name
            file.write_text(here, "utf-8")
            server = ChildProcess(name, [str(nats_server_binary()), "-c", str(file)], log=tmp_path / f"{name}.log")
            started.servers[host if is_national else "province"] = server.start()
        for server in started.servers.values():
            server.wait_ready(lambda server=server: "Server is ready" in server.log_tail(400))  # type: ignore[misc]
        yield started
    finally:
        for server in started.servers.values():
            server.stop()


@pytest.mark.slow
async def test_a_national_cluster_loses_its_leader_and_nothing_that_it_acknowledged(cluster: Cluster) -> None:
    """The publisher and the hub name three servers; what a province has comes through whichever is there."""
    province = "110000"
    async with (
        Bus(cluster.access("node-000000")) as headquarters,
        Bus(cluster.access("node-110000", province)) as node,
        Bus(cluster.access("hub-000000")) as hub,
    ):
        await asyncio.gather(headquarters.wait_connected(60), node.wait_connected(60), hub.wait_connected(60))
        await node.ensure_stream(province)
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(BusError):  # until the three have chosen a leader
                    await headquarters.ensure_stream(HEADQUARTERS)
                    break
                await asyncio.sleep(0.2)
        kept = {HEADQUARTERS: headquarters, province: node}
        sent: dict[str, list[bytes]] = {site: [] for site in kept}

        async def publish(site: str, number: int) -> None:
            payload = f"{site} {number}".encode()
            while True:
                try:
                    await kept[site].publish(journal_subject(site, site), payload, message_id=payload.decode())
                except BusError:
                    await asyncio.sleep(0.2)  # as the publisher does: again, under the same name
                else:
                    break
            sent[site].append(payload)

        read: dict[str, list[bytes]] = {site: [] for site in kept}

        async def follow(site: str) -> None:
            durable = hub.durable(site_domain(site), hub_user(HEADQUARTERS))
            while len(set(read[site])) < MESSAGES:
                try:
                    for delivery in await durable.fetch(20, 2):
                        read[site].append(delivery.data)
                        await delivery.ack()
                except BusError:
                    await asyncio.sleep(0.2)

        async def work(site: str) -> None:
            for number in range(MESSAGES):
                await publish(site, number)

        async def disaster() -> str:
            while len(sent[HEADQUARTERS]) < MESSAGES // 3:
                await asyncio.sleep(0.01)
            stream = await asyncio.to_thread(cluster.stream)
            assert 3 == stream["config"]["num_replicas"]
            number = int(stream["cluster"]["leader"].removeprefix("kx-hq-"))
            await asyncio.to_thread(cluster.servers[HOSTS[number - 1]].kill)
            return str(stream["cluster"]["leader"])

        async with asyncio.timeout(240):
            gone, *_ = await asyncio.gather(disaster(), *map(work, kept), *map(follow, kept))
        for site, payloads in sent.items():
            # What was under way to the hub comes again, after what came meanwhile.
            assert sorted(payloads) == sorted(set(read[site])), site
        assert gone != (await asyncio.to_thread(cluster.stream))["cluster"]["leader"]


async def test_a_stranger_s_certificate_does_not_become_a_server_of_the_cluster(
    cluster: Cluster, certificates: Path, tmp_path: Path
) -> None:
    """A county's certificate is the authority's too, and a server of a cluster may do everything."""
    text = (tmp_path / "hq-1.conf").read_text("utf-8")
    for before, after in (
        ("kx-hq-1", "kx-hq-4"),
        (str(tmp_path / "nats-000000"), str(certificates / "node-110000")),
        ("127.0.0.1:", "127.0.0.4:"),
        (str(tmp_path / "store" / "hq-1.conf"), str(tmp_path / "store" / "stranger")),
    ):
        text = text.replace(before, after)
    # Its own address is no route of its own.
    text = text.replace(f'    "tls://127.0.0.4:{cluster.ports["route"]}"\n', "")
    file = tmp_path / "stranger.conf"
    file.write_text(text, "utf-8")
    stranger = ChildProcess("stranger", [str(nats_server_binary()), "-c", str(file)], log=tmp_path / "stranger.log")

    async def neighbours() -> set[str]:
        routes = await asyncio.to_thread(cluster.monitor, HOSTS[1], "routez")
        return {route["remote_name"] for route in routes["routes"]}

    async with asyncio.timeout(60):  # a server is ready before the others have dialled it
        while await neighbours() != {"kx-hq-1", "kx-hq-3"}:
            await asyncio.sleep(0.1)
    try:
        stranger.start()
        async with asyncio.timeout(60):
            while "Authorization Violation" not in stranger.log_tail(400) + cluster.servers[HOSTS[1]].log_tail(400):
                await asyncio.sleep(0.1)
        assert {"kx-hq-1", "kx-hq-3"} == await neighbours()
    finally:
        stranger.stop()


@pytest.mark.parametrize(
    ("servers", "sites", "refusal"),
    [
        ({}, [], ServersMissing),
        ({HEADQUARTERS: ["a", "b"]}, [], NoCluster),
        ({HEADQUARTERS: ["a"], "330106": ["b"]}, [], NoSuchSite),
        ({HEADQUARTERS: ["a"]}, ["999999"], NoSuchSite),
    ],
)
def test_what_cannot_be_a_site_is_not_written(
    servers: dict[str, list[str]], sites: list[str], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        confs_of(TREE, servers, sites=sites)


def test_a_site_of_which_the_tree_tells_no_endpoint_is_not_written() -> None:
    with pytest.raises(NoNodes, match="330000"):
        confs_of(national_tree(), SERVERS, sites=["330000"])


@pytest.mark.parametrize("wrong", [("--server", "nats-hq"), ("--server", "000000=a", "--server", "000000=b")])
def test_the_command_says_what_is_wrong_and_writes_nothing(wrong: tuple[str, ...], tmp_path: Path) -> None:
    tree = str(DEPLOY / "tree" / "sample-federation.csv")
    done = CliRunner().invoke(app, ("nats", tree, "--out", str(tmp_path / "out"), *wrong))
    assert 2 == done.exit_code
    assert "站点" in done.output
    assert not (tmp_path / "out").exists()
