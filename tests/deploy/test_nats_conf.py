"""deploy/nats is what the harness runs: written by the same function, accepted and linked by real servers."""

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest

from demo.processes import ChildProcess, free_port
from demo.sites import (
    DEPLOYED_CERTIFICATES,
    DEPLOYED_LEAF_URL,
    SAMPLE_NODES,
    main,
    nats_server_binary,
    sample_confs,
)
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import (
    HEADQUARTERS,
    Access,
    Bus,
    Delivery,
    SiteUnreachable,
    hub_user,
    journal_subject,
    node_user,
    site_domain,
)
from kuaixiang.runtime.pki import CertificatePaths

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy" / "nats"

pytestmark = pytest.mark.nats


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/prepare.sh makes, the national site's for an address of this machine."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = folder / "authority"
    pki.init_authority(authority, "test")
    for code, nodes in SAMPLE_NODES.items():
        pki.issue(authority, folder / f"nats-{code}", "nats", [code], hosts=["127.0.0.1"])
        pki.issue(authority, folder / f"hub-{code}", "hub", [code])
        for bureaus in nodes:
            pki.issue(authority, folder / f"node-{bureaus[0]}", "node", bureaus)
    return folder


def with_certificates(name: str, certificates: Path) -> str:
    """A deployed file, with only the folder of certificates replaced."""
    code = name.removeprefix("p").removesuffix(".conf").replace("hq", HEADQUARTERS)
    return (DEPLOYED / name).read_text("utf-8").replace(DEPLOYED_CERTIFICATES, str(certificates / f"nats-{code}"))


def test_the_files_are_what_the_generator_writes_today(tmp_path: Path) -> None:
    main([str(tmp_path)])
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert sample_confs() == written
    assert written == {path.name: path.read_text(encoding="utf-8") for path in DEPLOYED.glob("*.conf")}


@pytest.mark.parametrize("name", sorted(sample_confs()))
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
        for code in SAMPLE_NODES:
            domain = site_domain(code)
            ports[code] = free_port()
            text = with_certificates(f"{domain}.conf", certificates)
            for deployed, here in (
                ("0.0.0.0:4222", f"127.0.0.1:{ports[code]}"),
                ("0.0.0.0:8222", f"127.0.0.1:{free_port()}"),
                ("0.0.0.0:7422", f"127.0.0.1:{leaf_port}"),
                (DEPLOYED_LEAF_URL, f"tls://127.0.0.1:{leaf_port}"),
                ("/var/lib/nats", str(tmp_path / domain)),
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
    for text in sample_confs().values():
        assert "password" not in text.replace("No password", "")
        assert text.count("verify_and_map: true") == text.count("listen:")
        assert "no_auth_user" not in text
