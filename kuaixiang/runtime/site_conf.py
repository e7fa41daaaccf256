"""The configuration of the nats-server of a site, written from which bureaus share a node process there.

A site has one server, or three that are a cluster. Who connects shows a certificate of the federation's authority, and
is the user that is called by the first name in it; there is no password. `confs_of` writes what the tree of bureaus
asks for, as `kx nats` does; the demonstration gives a `SiteConf` of its own ports.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import (
    ACCOUNT,
    ACKS,
    DIRECTIVE_PREFIX,
    HEAD_PREFIX,
    HEADQUARTERS,
    JOURNAL_PREFIX,
    PROGRESS_PREFIX,
    STREAM,
    WAKE_PREFIX,
    consumer_name,
    hub_user,
    inbox,
    node_user,
    operator_user,
    site_domain,
    totals_subject,
)

HANDSHAKE_SECONDS_MAX: Final = 5
"""A handshake takes milliseconds; the server's own two seconds are little where everything starts at once."""

EVERY: Final = "*"
"""For a bureau in a list of nodes: all of the site, and for a consumer: any name. Tests use it."""

CLIENT_PORT: Final = 4222
ROUTE_PORT: Final = 6222
LEAF_PORT: Final = 7422
MONITOR_PORT: Final = 8222
"""Where a deployed server listens: what NATS itself proposes."""

STORE: Final = "/var/lib/nats"
CERTIFICATES: Final = "/etc/nats/certificates"
"""Where a deployed server has its streams and its certificate."""


class SiteConfError(Exception):
    """The configuration of a site cannot be written from the tree and what was said besides: why, and what to do."""

    def __init__(self, sentence: Both, remedy: Both) -> None:
        super().__init__(sentence.english)
        self.sentence = sentence
        self.remedy = remedy


class NoNodes(SiteConfError):
    """The tree does not say where any ledger of the site is kept."""

    def __init__(self, site: str) -> None:
        self.site = site
        super().__init__(
            Both(
                f"No bureau of the site {site} has an endpoint in the tree: nobody could connect there.",
                f"机构树中站点 {site} 的单位都没有 endpoint，无人可以连接。",
            ),
            Both(
                "Say in the column `endpoint` where their nodes answer.",
                "请在机构树的 endpoint 列填写各单位节点的地址。",
            ),
        )


class NoSuchSite(SiteConfError):
    """A code that is no site's."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(
            Both(f"{code} is no NATS site of the tree.", f"{code} 不是机构树中的 NATS 站点。"),
            Both("Sites are headquarters and the provincial bureaus.", "站点为总局和各省级单位。"),
        )


class ServersMissing(SiteConfError):
    """Provinces are to dial the national site, and its servers' hosts were not said."""

    def __init__(self, site: str) -> None:
        self.site = site
        super().__init__(
            Both(
                f"By which host the provinces reach the servers of {site} was not said.",
                f"没有说明各省以哪个主机名连接站点 {site} 的服务器。",
            ),
            Both(f"Say it: `--server {site}=HOST`.", f"请用 --server {site}=主机名 说明。"),
        )


class NoCluster(SiteConfError):
    """A number of servers that is no cluster: two lose their majority with either of them."""

    def __init__(self, site: str, count: int) -> None:
        self.site = site
        self.count = count
        super().__init__(
            Both(f"{site} is given {count} servers.", f"站点 {site} 给出了 {count} 台服务器。"),
            Both("A site has one server, or a cluster of three.", "每个站点设一台服务器，或者由三台组成集群。"),
        )


CLUSTER_SERVERS: Final = 3
"""The smallest cluster that goes on when any one of its servers is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConf:
    """What distinguishes the nats-server of one site from another's.

    `nodes` are the node processes of the site, each by the bureaus that it keeps the ledgers of, in the order of its
    certificate; `hubs` the scopes of the hubs that connect here. `leaf_listen` and `provinces` belong to the national
    site only, `leaf_urls` to a province's: the national servers, of which its leaf dials one. Of a cluster each server
    has its `number` and its `cluster_listen`, and all have the same `routes`, where they dial each other.
    `any_consumer` lets hubs name consumers as they like.
    """

    code: str
    listen: str
    monitor: str
    store: str
    certificates: str
    nodes: tuple[tuple[str, ...], ...]
    hubs: tuple[str, ...]
    leaf_listen: str = ""
    leaf_urls: tuple[str, ...] = ()
    provinces: tuple[str, ...] = ()
    number: int = 0
    cluster_listen: str = ""
    routes: tuple[str, ...] = ()
    any_consumer: bool = False

    @property
    def domain(self) -> str:
        """JetStream domain of the site."""
        return site_domain(self.code)

    @property
    def name(self) -> str:
        """What the server is called, and its file: `hq`, or `hq-1` where the site is a cluster."""
        return f"{self.domain}-{self.number}" if self.routes else self.domain

    @property
    def is_national(self) -> bool:
        """Whether the provinces' leaves dial this site."""
        return self.code == HEADQUARTERS


def site_conf(conf: SiteConf) -> str:
    """The nats-server configuration of one site.

    Users, each called by the first DNS name in its certificate:

    - one for each node process: publishes the journals and heads of its own bureaus and of no other, tells neighbours
      (the site's bureaus, headquarters; headquarters everybody), hears what is for its own bureaus. The one that keeps
      the ledger of the site's own bureau may make the stream; none may change, empty, delete or read it.
    - one for each hub: reads streams by consumers of its own name, and publishes nothing but its totals.
    - one for the readers of each hub, other systems: hears that hub's totals, and publishes nothing.
    - the site's own certificate is its operator's: everything about the site's own JetStream, by hand.
    - at the national site one for each province's leaf: answers what hubs ask of that province, tells headquarters, and
      hears nothing but that and what is for its own bureaus.
    """
    quoted = json.dumps
    domain = conf.domain
    tls = (
        f"  tls {{ cert_file: {quoted(conf.certificates + '/' + pki.CERTIFICATE)}, "
        f"key_file: {quoted(conf.certificates + '/' + pki.KEY)}, "
        f"ca_file: {quoted(conf.certificates + '/' + pki.AUTHORITY_CERTIFICATE)}, timeout: {HANDSHAKE_SECONDS_MAX}"
    )
    lines = [
        f"# NATS site {domain}. Written by `kx nats` from the tree of bureaus; write it again instead of editing it.",
        f"server_name: {quoted('kx-' + conf.name)}",
        f"listen: {quoted(conf.listen)}",
        f"http: {quoted(conf.monitor)}",
        "# Who connects shows a certificate of the federation, and is the user of its first name. No password.",
        f"{tls.lstrip()}, verify_and_map: true }}",
        "# A segment of the journal is some 30 KB; what is over 1 MB is a mistake.",
        "max_payload: 1MB",
        "# A dead link is given up after a minute instead of the default's six.",
        'ping_interval: "20s"',
        "ping_max: 2",
        "",
        "# Acknowledgements name their site ($JS.ACK.<domain>. ...): without it all would be alike, since every site",
        "# has a stream of the same name, and the hub's could be taken by the wrong one.",
        "feature_flags { js_ack_fc_v2: true }",
        "",
        "jetstream {",
        f"  domain: {quoted(domain)}",
        f"  store_dir: {quoted(conf.store)}",
        "  # Acknowledged means on disk: with the default (2 minutes) a power cut took the whole stream.",
        "  sync_interval: always",
        "  max_memory_store: 64MB",
        "  max_file_store: 16GB",
        "}",
        "",
        "accounts {",
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        "    users: [",
    ]
    for bureaus in conf.nodes:
        lines += _node(conf, bureaus)
    for scope in conf.hubs:
        lines += _hub(conf, scope)
        lines += _reader(scope)
    lines += _user(
        pki.dns_name("nats", conf.code),
        "STANDARD",
        publish=[f"{prefix}.>" for prefix in _own_api(domain)],
        subscribe=[f"{inbox(operator_user(conf.code), '>')}"],
    )
    for province in conf.provinces:
        lines += _leaf(conf, province)
    lines += ["    ]", "  }", "}", ""]
    if conf.routes:
        lines += [
            "cluster {",
            f"  name: {quoted('kx-' + domain)}",
            f"  listen: {quoted(conf.cluster_listen)}",
            "  # A server of the cluster may do everything: only who shows the site's own certificate comes in.",
            f"  authorization {{ user: {quoted(pki.dns_name('nats', conf.code))} }}",
            f"{tls}, verify_and_map: true }}",
            "  no_advertise: true",
            "  routes: [",
            *(f"    {quoted(route)}" for route in conf.routes),
            "  ]",
            "}",
            "",
        ]
    if conf.is_national:
        lines += [
            "leafnodes {",
            f"  listen: {quoted(conf.leaf_listen)}",
            f"{tls}, verify_and_map: true }}",
            "  # One province's interest is no other province's business.",
            "  isolate_leafnode_interest: true",
            "  # Provinces dial the address that they were given, not one that this server believes to have.",
            "  no_advertise: true",
            "}",
        ]
    else:
        lines += [
            "leafnodes {",
            '  reconnect: "2s"',
            "  remotes: [",
            "    {",
            f"      urls: {quoted(list(conf.leaf_urls))}",
            f"      account: {ACCOUNT}",
            f"    {tls} }}",
            "      # What this site's stream keeps comes from this site's nodes alone.",
            f"      deny_imports: {quoted([f'{JOURNAL_PREFIX}.>', f'{HEAD_PREFIX}.>'])}",
            "    }",
            "  ]",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _node(conf: SiteConf, bureaus: Sequence[str]) -> list[str]:
    """The user of one node process."""
    site, own = conf.code, _own_api(conf.domain)
    requests = ["STREAM.INFO", "STREAM.CREATE"] if site in bureaus else ["STREAM.INFO"]
    return _user(
        pki.dns_name("node", bureaus[0]),
        "STANDARD",
        publish=[
            *(f"{prefix}.{site}.{bureau}" for prefix in (JOURNAL_PREFIX, HEAD_PREFIX) for bureau in bureaus),
            *_told_by_nodes(conf),
            *(f"{prefix}.{request}.{STREAM}" for prefix in own for request in requests),
        ],
        subscribe=[
            *(f"{inbox(node_user(bureaus[0]), answering)}.>" for answering in (ACKS, conf.domain)),
            *(f"{prefix}.{site}.{bureau}" for prefix in _BEST_EFFORT for bureau in bureaus),
        ],
    )


def _hub(conf: SiteConf, scope: str) -> list[str]:
    """The user of one hub, which reads the own site and, at the national one, those of the provinces."""
    publish = []
    for domain in (conf.domain, *map(site_domain, conf.provinces)):
        consumer = EVERY if conf.any_consumer else consumer_name(hub_user(scope), domain)
        for prefix in _own_api(domain) if domain == conf.domain else [f"$JS.{domain}.API"]:
            publish.append(f"{prefix}.STREAM.INFO.{STREAM}")
            publish += [
                f"{prefix}.CONSUMER.{request}.{STREAM}.{consumer}"
                for request in ("CREATE", "DURABLE.CREATE", "INFO", "MSG.NEXT")
            ]
        publish.append(f"$JS.ACK.{domain}.*.{STREAM}.{consumer}.>")
    publish.append(totals_subject(scope))
    return _user(
        pki.dns_name("hub", scope),
        "STANDARD",
        publish=publish,
        subscribe=[f"{inbox(hub_user(scope), '>')}"],
    )


def _reader(scope: str) -> list[str]:
    """The user of other systems that follow a hub's totals."""
    return _user(pki.dns_name("reader", scope), "STANDARD", publish=[], subscribe=[totals_subject(scope)])


def _leaf(conf: SiteConf, province: str) -> list[str]:
    """At the national site: the user of a province's leaf."""
    domain = site_domain(province)
    return _user(
        pki.dns_name("nats", province),
        "LEAFNODE",
        publish=[
            *(f"{inbox(hub_user(scope), domain)}.>" for scope in conf.hubs),
            f"{PROGRESS_PREFIX}.{conf.code}.>",
            f"{WAKE_PREFIX}.{conf.code}.>",
        ],
        subscribe=[
            f"$JS.{domain}.API.>",
            f"$JS.ACK.{domain}.>",
            *(f"{prefix}.{province}.>" for prefix in _BEST_EFFORT),
        ],
    )


def _own_api(domain: str) -> list[str]:
    """The requests to the own site's JetStream: the server looks at what a request by its domain becomes, too."""
    return ["$JS.API", f"$JS.{domain}.API"]


def _told_by_nodes(conf: SiteConf) -> list[str]:
    """What a site's nodes may tell: best effort, between neighbours in the tree; directives only downwards."""
    if conf.is_national:
        return [f"{prefix}.>" for prefix in _BEST_EFFORT]
    sites = (conf.code, HEADQUARTERS)
    return [
        *(f"{prefix}.{site}.>" for prefix in (PROGRESS_PREFIX, WAKE_PREFIX) for site in sites),
        f"{DIRECTIVE_PREFIX}.{conf.code}.>",
    ]


_BEST_EFFORT: Final = (PROGRESS_PREFIX, WAKE_PREFIX, DIRECTIVE_PREFIX)


def _user(name: str, connection: str, *, publish: Sequence[str], subscribe: Sequence[str]) -> list[str]:
    def listed(kind: str, subjects: Sequence[str]) -> list[str]:
        if not subjects:
            # An empty list of what is allowed would allow everything.
            return [f'          {kind}: {{ deny: ">" }}']
        return [f"          {kind}: [", *(f"            {json.dumps(subject)}" for subject in subjects), "          ]"]

    return [
        "      {",
        f"        user: {json.dumps(name)}",
        f"        allowed_connection_types: [{json.dumps(connection)}]",
        "        permissions {",
        *listed("publish", publish),
        *listed("subscribe", subscribe),
        "        }",
        "      }",
    ]


def nodes_of(tree: BureauTree, site: str) -> tuple[tuple[str, ...], ...]:
    """Which bureaus of a site share a node process: those that have one endpoint, in the order of the tree."""
    by_endpoint: dict[str, list[str]] = {}
    for code, bureau in tree.bureaus.items():
        if bureau.endpoint and tree.site(code) == site:
            by_endpoint.setdefault(bureau.endpoint, []).append(code)
    return tuple(map(tuple, by_endpoint.values()))


def confs_of(
    tree: BureauTree,
    servers: Mapping[str, Sequence[str]],
    *,
    sites: Sequence[str] = (),
    hubs: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, str]:
    """The configurations of the servers of sites by the tree: file name, and what is in it.

    `servers` are, for each site, the hosts by which others reach its servers: one, or three that are a cluster. The
    national one's must be said, where provinces dial it; a province's single server need not be. `sites` are all that
    have a node when left out; `hubs` the scopes of the hubs that connect to a site, its own when left out.

    Raises `NoSuchSite`, `NoNodes`, `NoCluster`, `ServersMissing`.
    """
    root = tree.root
    known = tree.sites()
    for code in (*sites, *servers, *(hubs or {})):
        if code not in known:
            raise NoSuchSite(code)
    for code, hosts in servers.items():
        if len(hosts) not in {1, CLUSTER_SERVERS}:
            raise NoCluster(code, len(hosts))
    found: dict[str, str] = {}
    for code in sites or [code for code in known if nodes_of(tree, code)]:
        nodes = nodes_of(tree, code)
        if not nodes:
            raise NoNodes(code)
        if code != root and not servers.get(root):
            raise ServersMissing(root)
        hosts = servers.get(code, ())
        for number, _ in enumerate(hosts or [""], start=1):
            conf = SiteConf(
                code=code,
                listen=f"0.0.0.0:{CLIENT_PORT}",
                monitor=f"0.0.0.0:{MONITOR_PORT}",
                store=STORE,
                certificates=CERTIFICATES,
                nodes=nodes,
                hubs=tuple((hubs or {}).get(code, (code,))),
                leaf_listen=f"0.0.0.0:{LEAF_PORT}" if code == root else "",
                leaf_urls=() if code == root else tuple(f"tls://{host}:{LEAF_PORT}" for host in servers[root]),
                # Those too that have no node: a hub asks them all, and the next to join finds itself known.
                provinces=tuple(one for one in known if one != root) if code == root else (),
                number=number,
                cluster_listen=f"0.0.0.0:{ROUTE_PORT}" if len(hosts) > 1 else "",
                routes=tuple(f"tls://{host}:{ROUTE_PORT}" for host in hosts) if len(hosts) > 1 else (),
            )
            found[f"{conf.name}.conf"] = site_conf(conf)
    return found
