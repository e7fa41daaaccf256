"""The sample federation of deploy/ started as processes of this machine: its files, with only addresses replaced.

What containers add (the image, their network, their user) needs an engine and is not covered here.
"""

import json
import os
import re
import stat
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from demo.processes import ChildProcess, free_port
from demo.sites import nats_server_binary
from kuaixiang.runtime.tls import identity_of_certificate

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KX = Path(sys.executable).with_name("kx")
READY_SECONDS = 120.0
CODES = {"hq": "000000", "p110000": "110000", "p330000": "330000"}
SERVICES = ("node-000000", "node-110000", "node-330000", "hub-000000")


def run(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KX_")}
    return subprocess.run(
        [str(part) for part in command],
        env=environment | {"COLUMNS": "200"} | variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


def until(found: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return result


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    done = run(DEPLOY / "prepare.sh", folder, KX=str(KX))
    assert 0 == done.returncode, done.stdout + done.stderr
    return folder


def variables_of(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_prepare_makes_a_different_password_for_each_variable(prepared: Path) -> None:
    made = variables_of(prepared)
    assert set(made) == set(re.findall(r"^(KX_\w+)=$", (DEPLOY / "env.example").read_text("utf-8"), re.MULTILINE))
    assert len(made) == len(set(made.values()))
    assert all(re.fullmatch(r"k[0-9a-f]{40}", password) for password in made.values())


def test_prepare_keeps_secrets_from_others(prepared: Path) -> None:
    keys = ("authority/ca.key", "certificates/node-110000/tls.key", "certificates/nats-110000/tls.key")
    for secret in (prepared / ".env", *(prepared / key for key in keys)):
        assert 0 == stat.S_IMODE(secret.stat().st_mode) & 0o077, secret


def test_prepare_names_in_each_certificate_the_bureaus_of_the_service(prepared: Path) -> None:
    for name in SERVICES:
        pem = (prepared / "certificates" / name / "tls.crt").read_bytes()
        identity = identity_of_certificate(x509.load_pem_x509_certificate(pem))
        settings = tomllib.loads((DEPLOY / "settings" / f"{name}.toml").read_text("utf-8"))
        assert set(settings.get("bureaus", ())) == identity.bureaus
        assert ({settings["scope"]} if "scope" in settings else set()) == identity.hubs


def test_prepare_changes_nothing_the_second_time(prepared: Path) -> None:
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    assert 0 == run(DEPLOY / "prepare.sh", prepared, KX=str(KX)).returncode
    assert before == {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}


@dataclass
class Started:
    """The federation while it runs."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)

    def healthy(self, name: str) -> bool:
        certificates = self.folder / "certificates" / name
        done = run(sys.executable, DEPLOY / "healthcheck.py", f"127.0.0.1:{self.ports[name]}", certificates)
        return 0 == done.returncode

    def kx(self, *arguments: object, node: str, bureau: str) -> dict[str, Any]:
        """One `kx case …` at a terminal of a bureau."""
        done = run(
            KX,
            "case",
            *arguments,
            "--json",
            KX_NODE=f"127.0.0.1:{self.ports[f'node-{node}']}",
            KX_BUREAU=bureau,
            KX_CERTIFICATES=str(self.folder / "certificates" / f"office-{node}"),
            KX_TREE=str(self.folder / "tree.csv"),
            KX_ACTOR="zj-0007",
            KX_ROLE="registrar",
            KX_DEPARTMENT="hall",
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def hub(self, *arguments: str) -> dict[str, Any]:
        done = run(
            KX,
            "hub",
            *arguments,
            "--json",
            "--hub",
            f"127.0.0.1:{self.ports['hub-000000']}",
            "--certificates",
            self.folder / "certificates" / "office-000000",
        )
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found


@pytest.fixture(scope="module")
def federation(prepared: Path, request: pytest.FixtureRequest) -> Iterator[Started]:
    """Three NATS sites, three nodes (one over PostgreSQL) and the hub, from the files of deploy/."""
    started = Started(prepared)
    postgres = request.getfixturevalue("postgres_service")
    with ExitStack() as stack:
        database = stack.enter_context(postgres.fresh_database())

        def child(name: str, command: list[str], variables: Mapping[str, str]) -> ChildProcess:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("KX_")}
            process = ChildProcess(
                name, command, log=prepared / "logs" / f"{name}.log", environment=environment | dict(variables)
            )
            stack.callback(process.stop)
            return process.start()

        # As an operator does whose national site is dialled at another name.
        again = ("--nats", "000000", "--host", "127.0.0.1", "--force")
        issued = run(KX, "pki", "issue", prepared / "authority", "--out", prepared / "certificates/nats-000000", *again)
        assert 0 == issued.returncode, issued.stderr
        leaf_port, clients = free_port(), {site: free_port() for site in CODES}
        monitors = {site: free_port() for site in CODES}
        for site, client_port in clients.items():
            conf = (DEPLOY / "nats" / f"{site}.conf").read_text("utf-8")
            for deployed, here in (
                ("0.0.0.0:4222", f"127.0.0.1:{client_port}"),
                ("0.0.0.0:8222", f"127.0.0.1:{monitors[site]}"),
                ("0.0.0.0:7422", f"127.0.0.1:{leaf_port}"),
                ("/var/lib/nats", str(prepared / "nats" / site)),
                ("/etc/nats/certificates", str(prepared / "certificates" / f"nats-{CODES[site]}")),
                # Here the national site is dialled at an address, in compose by the name that prepare.sh puts in its
                # certificate.
                ("nats-hq:7422", f"127.0.0.1:{leaf_port}"),
            ):
                conf = conf.replace(deployed, here)
            file = prepared / f"{site}.conf"
            file.write_text(conf, "utf-8")
            child(f"nats-{site}", [str(nats_server_binary()), "-c", str(file)], {})

        tree = (DEPLOY / "tree" / "sample-federation.csv").read_text("utf-8")
        for name in SERVICES:
            started.ports[name], started.metrics[name] = free_port(), free_port()
            tree = tree.replace(f"{name}:7440", f"127.0.0.1:{started.ports[name]}")
        (prepared / "tree.csv").write_text(tree, "utf-8")
        for name in SERVICES:
            kind, _, code = name.partition("-")
            site = "hq" if code == "000000" else f"p{code}"
            prefix = f"KX_{kind.upper()}_"
            variables = {
                f"{prefix}TREE": str(prepared / "tree.csv"),
                f"{prefix}CERTIFICATES": str(prepared / "certificates" / name),
                f"{prefix}DATABASE": database if code == "330000" else f"sqlite:///{prepared}/{name}.db",
                f"{prefix}NATS_URL": f"tls://127.0.0.1:{clients[site]}",
                f"{prefix}LISTEN": f"127.0.0.1:{started.ports[name]}",
                f"{prefix}METRICS_HOST": "127.0.0.1",
                f"{prefix}METRICS_PORT": str(started.metrics[name]),
            }
            if kind == "node":
                variables[f"{prefix}NATS_MONITOR"] = f"http://127.0.0.1:{monitors[site]}"
                variables[f"{prefix}DATA_KEY"] = str(prepared / "keys" / name / "data.key")
            file = DEPLOY / "settings" / f"{name}.toml"
            child(name, [str(KX), kind, "serve", "--config", str(file)], variables)
        for name in SERVICES:
            until(lambda name=name: started.healthy(name), f"{name} serves")  # type: ignore[misc]
        yield started


@pytest.mark.nats
@pytest.mark.postgres
@pytest.mark.slow
def test_a_case_registered_in_hangzhou_is_handed_to_headquarters_and_counted(federation: Started) -> None:
    registered = federation.kx(
        "register",
        *("--taxpayer", "杭州示例商贸有限公司", "--contact", "13800000000", "--category", "policy"),
        *("--text", "小规模纳税人减免增值税政策何时延续？"),
        node="330000",
        bureau="330106",
    )
    case_id = registered["case"]["case_id"]
    federation.kx(
        *("escalate", case_id, "--to", "000000", "--reason", "政策解释属总局职责", "--telling", "complicated"),
        node="330000",
        bureau="330106",
    )

    def arrived() -> bool:
        shown = run(
            KX,
            "case",
            "show",
            case_id,
            "--json",
            *("--node", f"127.0.0.1:{federation.ports['node-000000']}", "--bureau", "000000"),
            *("--certificates", federation.folder / "certificates" / "office-000000"),
        )
        return 0 == shown.returncode and json.loads(shown.stdout)["case"]["custody"] == "owned"

    until(arrived, "headquarters has the case")
    counted = until(
        lambda: [row for row in federation.hub("stats").get("rows", ()) if row["facts"].get("registered") == 1],
        "the hub has counted it",
    )
    assert 1 == counted[0]["open"]
    completeness = until(
        lambda: (found := federation.hub("completeness")["completeness"])["bureaus_up_to_date"] == 9 and found,
        "all nine bureaus are up to date",
    )
    assert 9 == completeness["bureaus_expected"]
    assert federation.hub("reconcile")["hub_equals_ledgers"] is True


@pytest.mark.nats
@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_each_service_shows_its_metrics(federation: Started, name: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{federation.metrics[name]}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    assert re.search(r"^kx_\w+", text, re.MULTILINE)


@pytest.mark.nats
@pytest.mark.postgres
@pytest.mark.slow
def test_the_health_check_fails_where_nothing_listens_and_says_why(federation: Started) -> None:
    certificates = federation.folder / "certificates" / "node-110000"
    done = run(sys.executable, DEPLOY / "healthcheck.py", f"127.0.0.1:{free_port()}", certificates)
    assert 1 == done.returncode
    assert "UNAVAILABLE" in done.stdout
    done = run(sys.executable, DEPLOY / "healthcheck.py", "127.0.0.1:1", federation.folder / "nowhere")
    assert 1 == done.returncode
    assert "cannot be used" in done.stdout
