"""deploy/nats is what the harness runs: written by the same function, accepted and linked by real servers."""

import asyncio
import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from demo.processes import ChildProcess, free_port
from demo.sites import SAMPLE_PROVINCES, main, nats_server_binary, sample_confs
from kuaixiang.runtime.bus import HEADQUARTERS, Bus, Delivery, SiteUnreachable, journal_subject, site_domain

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy" / "nats"

pytestmark = pytest.mark.nats


def secrets_of(leaf_port: int, province: str | None) -> dict[str, str]:
    variables = {"KX_NATS_NODE_PASSWORD": "node-secret", "KX_NATS_HUB_PASSWORD": "hub-secret"}
    if province is None:
        return variables | {f"KX_NATS_LEAF_PASSWORD_{code}": f"leaf-{code}" for code in SAMPLE_PROVINCES}
    url = f"nats-leaf://{site_domain(province)}:leaf-{province}@127.0.0.1:{leaf_port}"
    return variables | {"KX_NATS_LEAF_URL": url}


def test_the_files_are_what_the_generator_writes_today(tmp_path: Path) -> None:
    main([str(tmp_path)])
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert sample_confs() == written
    assert written == {path.name: path.read_text(encoding="utf-8") for path in DEPLOYED.glob("*.conf")}


@pytest.mark.parametrize("name", sorted(sample_confs()))
def test_nats_server_accepts_each_file(name: str) -> None:
    done = subprocess.run(
        [str(nats_server_binary()), "-t", "-c", str(DEPLOYED / name)],
        env=os.environ | secrets_of(7422, None) | secrets_of(7422, SAMPLE_PROVINCES[0]),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


async def test_the_deployed_files_start_link_and_carry_a_message_with_only_addresses_and_store_replaced(
    tmp_path: Path,
) -> None:
    leaf_port = free_port()
    ports: dict[str, int] = {}
    servers: list[ChildProcess] = []
    try:
        for code in (HEADQUARTERS, *SAMPLE_PROVINCES):
            domain = site_domain(code)
            ports[code] = free_port()
            text = (DEPLOYED / f"{domain}.conf").read_text(encoding="utf-8")
            for deployed, here in (
                ("0.0.0.0:4222", f"127.0.0.1:{ports[code]}"),
                ("0.0.0.0:8222", f"127.0.0.1:{free_port()}"),
                ("0.0.0.0:7422", f"127.0.0.1:{leaf_port}"),
                ("/var/lib/nats", str(tmp_path / domain)),
            ):
                text = text.replace(deployed, here)
            conf = tmp_path / f"{domain}.conf"
            conf.write_text(text, encoding="utf-8")
            variables = secrets_of(leaf_port, None if code == HEADQUARTERS else code)
            server = ChildProcess(
                domain,
                [str(nats_server_binary()), "-c", str(conf)],
                log=tmp_path / f"{domain}.log",
                environment=os.environ | variables,
            )
            servers.append(server.start())
        for server in servers:
            server.wait_ready(lambda server=server: "Server is ready" in server.log_tail(200))  # type: ignore[misc]
        province = SAMPLE_PROVINCES[0]
        async with (
            Bus(f"nats://node:node-secret@127.0.0.1:{ports[province]}", name="node") as node,
            Bus(f"nats://hub:hub-secret@127.0.0.1:{ports[HEADQUARTERS]}", name="hub") as hub,
        ):
            await asyncio.gather(node.wait_connected(10), hub.wait_connected(10))
            await node.ensure_stream(province)
            await node.publish(journal_subject(province, "110101"), b"segment", message_id="1")
            durable = hub.durable(site_domain(province), "hub")
            deliveries: list[Delivery] = []
            async with asyncio.timeout(30):
                while not deliveries:
                    with contextlib.suppress(SiteUnreachable):  # until the leaf has dialled
                        deliveries = await durable.fetch(1, 1)
                    await asyncio.sleep(0.05)
            assert [b"segment"] == [delivery.data for delivery in deliveries]
    finally:
        for server in servers:
            server.stop()


def test_no_password_stands_in_the_files() -> None:
    for text in sample_confs().values():
        values = re.findall(r"(?:password|url): *(\S+)", text)
        assert values
        assert all(value.startswith("$KX_NATS_") for value in values)
