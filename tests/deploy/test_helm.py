"""The chart of deploy/helm: three tiers rendered by Helm's own library, and each document held to Kubernetes' schemas.

No cluster ran it. What a cluster would read is read here: settings by our own classes, NATS's files by their generator.
"""

import importlib.util
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from helm_python import Chart
from helm_python.chart import lint
from helm_python.errors import HelmError
from kubernetes_validate import utils

from hub.settings import HubSettings
from kuaixiang.facts import load_tree
from kuaixiang.runtime.settings import read_settings
from kuaixiang.runtime.site_conf import (
    CERTIFICATES,
    CLIENT_PORT,
    LEAF_PORT,
    MONITOR_PORT,
    ROUTE_PORT,
    STORE,
    confs_of,
)
from node.settings import NodeSettings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "kuaixiang"
TREE = ROOT / "deploy" / "tree" / "sample-federation.csv"
KUBERNETES = ("1.28", "1.37")
"""The oldest that the chart names, and the newest whose schemas there are."""
RELEASES = {"hq": "hq", "province": "zj", "county": "xihu"}
HOSTS = [f"hq-nats-{number}.hq-nats" for number in range(3)]
SITES = {"hq": "000000", "province": "330000"}
OF_OTHERS = {"ServiceMonitor"}
"""Kinds of Prometheus's operator, whose schemas Kubernetes does not have."""


def schema_writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_schema", CHART.parent / "write_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def values_of(tier: str) -> dict[str, Any]:
    """The values file of a tier, and what its heading has given with --set-file."""
    values: dict[str, Any] = yaml.safe_load((CHART / f"values-{tier}.yaml").read_text("utf-8"))
    values["files"] = {"tree": TREE.read_text("utf-8")}
    if tier in SITES:
        confs = confs_of(load_tree(TREE), {"000000": HOSTS}, sites=[SITES[tier]])
        values["nats"]["confs"] = [confs[name] for name in sorted(confs)]
    return values


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


def rendered(chart: Chart, tier: str, **more: Any) -> list[dict[str, Any]]:
    """Every document of a release of that tier."""
    files = chart.render(values_of(tier) | more, name=RELEASES[tier], namespace="kuaixiang")
    documents = [
        document
        for path, text in files.items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]
    assert documents
    return documents


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each StatefulSet and CronJob runs."""
    found = {name: one["spec"]["template"] for name, one in of_kind(documents, "StatefulSet").items()}
    for name, one in of_kind(documents, "CronJob").items():
        found[name] = one["spec"]["jobTemplate"]["spec"]["template"]
    return found


TIERS = pytest.mark.parametrize("tier", sorted(RELEASES))


@TIERS
def test_helm_finds_nothing_to_say_about_the_chart(tier: str) -> None:
    report = lint(CHART, values_of(tier), strict=True)
    assert [] == report["errors"]
    assert ["icon is recommended"] == [message["error"] for message in report["messages"]]


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@pytest.mark.parametrize(
    ("tier", "version"), [*((tier, KUBERNETES[-1]) for tier in sorted(RELEASES)), ("hq", KUBERNETES[0])]
)
def test_kubernetes_would_take_every_document(chart: Chart, tier: str, version: str) -> None:
    for document in rendered(chart, tier, serviceMonitor={"enabled": True}):
        if document["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_document_with_a_mistake_is_found(chart: Chart) -> None:
    broken = deepcopy(of_kind(rendered(chart, "county"), "StatefulSet")["xihu-node"])
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolice"):
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


def test_the_schema_of_the_values_is_what_the_settings_are_today() -> None:
    for path, expected in schema_writer().documents().items():
        assert expected == path.read_text("utf-8"), "run python -m deploy.helm.write_schema --write"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tier": "city"}, "tier"),
        ({"replicas": 3}, "replicas"),
        ({"node": {"settings": {"bureau": "330106"}}}, "bureau"),
        ({"node": {"settings": {"returns_max": 0}}}, "returns_max"),
        # Its pod would be ended again and again: the probes ask the port that who stands by does not open.
        ({"node": {"settings": {"standby": True}}}, "standby"),
        ({"node": {"settings": {"nats_url": ["tls://nats:4222"]}}}, "nats_url"),
        # What is secret is in the Secret that `environment` names.
        ({"node": {"settings": {"database": "postgresql://kx:secret@db/kx"}}}, "database"),
        ({"node": {"settings": {"nats_url": "nats://kx:secret@nats:4222"}}}, "nats_url"),
        ({"node": {"resources": {"limits": {"memory": "a lot"}}}}, "memory"),
        ({"node": {"certificates": ""}}, "certificates"),
        ({"nats": {"enabled": True, "confs": []}}, "confs"),
        ({"nats": {"enabled": True, "confs": ["server_name: a", "server_name: b"]}}, "confs"),
        ({"networkPolicy": {"peers": ["everywhere"]}}, "peers"),
        ({"hub": {"enabled": True, "settings": {"listen": "0.0.0.0:7450"}}}, "scope"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(chart: Chart, change: dict[str, Any], named: str) -> None:
    values = values_of("county")

    def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        return below | {
            name: laid_over(below[name], value) if isinstance(value, dict) and name in below else value
            for name, value in above.items()
        }

    chart.validate_schema(values)
    with pytest.raises(HelmError, match=named):
        chart.render(laid_over(values, change), name="xihu")


@TIERS
def test_each_service_reads_its_settings_and_each_path_in_them_is_mounted(
    chart: Chart, tier: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    documents = rendered(chart, tier)
    for name, pod in pods(documents).items():
        (container,) = pod["spec"]["containers"]
        if container["name"] == "nats":
            continue
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        if "envFrom" in container:
            monkeypatch.setenv("KX_NODE_DATABASE", "postgresql://kuaixiang:secret@postgres:5432/kuaixiang")
        file = tmp_path / f"{name}.toml"
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        file.write_text(
            of_kind(documents, "ConfigMap")[volumes["settings"]["configMap"]["name"]]["data"]["settings.toml"], "utf-8"
        )
        written = tomllib.loads(file.read_text("utf-8"))
        kind = container["args"][0] if container["args"][0] != "backup" else container["args"][1]
        found: NodeSettings | HubSettings = (
            read_settings(NodeSettings, file, tree=TREE)
            if kind == "node"
            else read_settings(HubSettings, file, tree=TREE)
        )
        assert values_of(tier)[kind]["settings"].items() <= written.items()
        assert container["args"][-2:] == ["--config", "/etc/kuaixiang/settings/settings.toml"]
        for path in (written["tree"], f"{found.certificates}/tls.crt", "/etc/kuaixiang/settings/settings.toml"):
            assert mounted[str(Path(path).parent)] in volumes
        claimed = {
            claim["metadata"]["name"]
            for claim in of_kind(documents, "StatefulSet")[name.removesuffix("-backup")]["spec"]["volumeClaimTemplates"]
        }
        if isinstance(found, NodeSettings):
            assert mounted[str(found.data_key.parent)] == "keys"  # type: ignore[union-attr]
            if "environment" in values_of(tier)["node"]:
                assert "database" not in written
                (secret,) = container["envFrom"]
                assert values_of(tier)["node"]["environment"] == secret["secretRef"]["name"]
            else:
                assert found.database.startswith("sqlite:////var/lib/kuaixiang/")
        assert {"data"} <= claimed
        assert mounted["/var/lib/kuaixiang"] == "data"
        # Every mount is of a volume, and every volume is mounted.
        assert set(mounted.values()) == set(volumes) | (claimed if not name.endswith("-backup") else set())


@TIERS
def test_no_pod_has_more_rights_than_it_needs(chart: Chart, tier: str) -> None:
    for pod in pods(rendered(chart, tier)).values():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] != 0
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
        # Kubernetes would else open the files of keys to the group at each start.
        assert "OnRootMismatch" == spec["securityContext"]["fsGroupChangePolicy"]
        # A Service called kx-node would else give the container KX_NODE_PORT, which is no setting.
        assert (False, False) == (spec["automountServiceAccountToken"], spec["enableServiceLinks"])
        for container in spec["containers"]:
            security = container["securityContext"]
            assert (False, True) == (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"])
            assert {"drop": ["ALL"]} == security["capabilities"]
            assert {"requests", "limits"} == set(container["resources"])
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert 0o440 == volume["secret"]["defaultMode"]


@TIERS
def test_each_pod_has_a_service_a_budget_and_a_policy_that_mean_it(chart: Chart, tier: str) -> None:
    documents = rendered(chart, tier)
    for name, one in of_kind(documents, "StatefulSet").items():
        labels = one["spec"]["template"]["metadata"]["labels"]
        services = [
            service
            for service in of_kind(documents, "Service").values()
            if service["spec"]["selector"].items() <= labels.items()
        ]
        assert one["spec"]["serviceName"] in {service["metadata"]["name"] for service in services}
        budget = of_kind(documents, "PodDisruptionBudget")[name]["spec"]
        policy = of_kind(documents, "NetworkPolicy")[name]["spec"]
        for chosen in (budget["selector"], policy["podSelector"], one["spec"]["selector"]):
            assert chosen["matchLabels"].items() <= labels.items()
        (container,) = one["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert ports == let_in
        for service in services:
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        # What has neither TLS nor a password is not for other networks.
        for rule in policy["ingress"]:
            if any("ipBlock" in source for source in rule["from"]):
                assert not {"metrics", "monitor", "route"} & {port["port"] for port in rule["ports"]}


@TIERS
def test_health_is_asked_of_grpc_where_the_service_listens(chart: Chart, tier: str) -> None:
    for pod in pods(rendered(chart, tier)).values():
        (container,) = pod["spec"]["containers"]
        if container["name"] not in {"node", "hub"}:
            continue
        port = next(port["containerPort"] for port in container["ports"] if port["name"] == "grpc")
        for probe in ("startupProbe", "readinessProbe"):
            command = container[probe]["exec"]["command"]
            assert [
                "python",
                "/opt/kuaixiang/healthcheck.py",
                f"127.0.0.1:{port}",
                "/etc/kuaixiang/certificates",
            ] == command
        assert {"port": "grpc"} == container["livenessProbe"]["tcpSocket"]


@pytest.mark.parametrize("tier", ["hq", "province"])
def test_nats_has_the_ports_the_store_and_the_certificates_that_its_configuration_names(
    chart: Chart, tier: str, tmp_path: Path
) -> None:
    documents = rendered(chart, tier)
    name = f"{RELEASES[tier]}-nats"
    one = of_kind(documents, "StatefulSet")[name]
    (container,) = one["spec"]["template"]["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {STORE, CERTIFICATES} <= mounted
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {"client": CLIENT_PORT, "route": ROUTE_PORT, "leaf": LEAF_PORT, "monitor": MONITOR_PORT} == ports
    confs = of_kind(documents, "ConfigMap")[name]["data"]
    assert {f"{index}.conf" for index in range(one["spec"]["replicas"])} == set(confs)
    for key, text in confs.items():
        assert text == values_of(tier)["nats"]["confs"][int(key.removesuffix(".conf"))]
    if tier == "hq":
        # The others of the cluster, by the names that the set's Service gives them; and so do this cluster's clients.
        assert [f"{name}-{number}.{one['spec']['serviceName']}" for number in range(3)] == HOSTS
        for host in HOSTS:
            assert all(f"tls://{host}:{ROUTE_PORT}" in text for text in confs.values())
            assert f"tls://{host}:{CLIENT_PORT}" in values_of(tier)["hub"]["settings"]["nats_url"].split(",")


def test_a_setting_that_is_a_table_is_one_in_the_settings_file(chart: Chart) -> None:
    values = values_of("county")
    options = {"file": "/var/lib/kuaixiang/messages.ndjson", "of whom": '税 "a"'}
    values["node"]["settings"] |= {"notifier": "spool", "notifier_options": options}
    documents = rendered(chart, "county", node=values["node"])
    written = tomllib.loads(of_kind(documents, "ConfigMap")["xihu-node"]["data"]["settings.toml"])
    assert options == written["notifier_options"]


def test_every_page_that_the_settings_open_has_a_port(chart: Chart) -> None:
    values = values_of("county")
    values["node"]["settings"] |= {"desk": "0.0.0.0:7443", "gateway": "0.0.0.0:7444"}
    documents = rendered(chart, "county", node=values["node"])
    ports = {port["name"]: port["port"] for port in of_kind(documents, "Service")["xihu-node"]["spec"]["ports"]}
    assert {"grpc": 7440, "desk": 7443, "gateway": 7444} == ports
    let_in = of_kind(documents, "NetworkPolicy")["xihu-node"]["spec"]["ingress"][0]["ports"]
    assert {"grpc", "desk", "gateway"} == {port["port"] for port in let_in}


def test_a_service_monitor_finds_the_metrics_by_the_names_that_the_rules_know(chart: Chart) -> None:
    documents = rendered(chart, "hq", serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}})
    (monitor,) = of_kind(documents, "ServiceMonitor").values()
    assert "prometheus" == monitor["metadata"]["labels"]["release"]
    label = monitor["spec"]["jobLabel"]
    jobs = {
        service["metadata"]["labels"][label]
        for service in of_kind(documents, "Service").values()
        if label in service["metadata"]["labels"]
    }
    known = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert [{"targetLabel": "site", "replacement": "hq"}] == monitor["spec"]["endpoints"][0]["relabelings"]
    assert jobs == {one["job_name"] for one in known["scrape_configs"]} - {"prometheus"}


def test_the_chart_and_the_program_are_of_one_version(chart: Chart) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert (version, version) == (chart.version, chart.metadata["appVersion"])
