"""Writes values.schema.json of the chart; `--write` puts it in its place.

The frame is written here by hand. What a node or a hub may be told is taken from `NodeSettings` and `HubSettings`, so
that a cluster refuses a setting that there is not, or a value that the service would refuse at its start.
"""  # noqa: INP001 - a program, not part of a package

import json
from pathlib import Path
from typing import Any, Final

from pydantic_settings import BaseSettings

from docs.writing import print_or_write
from hub.settings import HubSettings
from node.settings import NodeSettings

CHART: Final = Path(__file__).parent / "kuaixiang"
NOT_OF_A_SCHEMA: Final = frozenset({"default", "title", "format", "writeOnly"})
"""What pydantic tells besides what a value must be."""
NOT_FOR_A_POD: Final = frozenset({"standby"})
"""Settings that no release may have: who stands by opens no port, by which the probes know a pod that is well."""
ADDRESSES: Final = frozenset({"accounts", "database", "nats_url"})
"""Settings that may hold a password, which belongs into the Secret `environment`: settings become a ConfigMap."""
CREDENTIAL: Final = "://[^/@]*:[^/@]*@"

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
CIDR: Final = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"
SCHEDULE: Final = r"^(\S+ ){4}\S+$"

Schema = dict[str, Any]


def thing(properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(required)} if required else {}),
    }


def text(pattern: str = "") -> Schema:
    """A string."""
    return {"type": "string", **({"pattern": pattern} if pattern else {})}


def optional(pattern: str) -> Schema:
    """A string that may be empty."""
    return {"anyOf": [{"const": ""}, text(pattern)]}


FLAG: Final[Schema] = {"type": "boolean"}
NAMES: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
RESOURCES: Final = thing(
    {
        part: thing({"cpu": {"anyOf": [text(QUANTITY), {"type": "number"}]}, "memory": text(QUANTITY)})
        for part in ("requests", "limits")
    }
)
SERVICE: Final = thing(
    {"type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, "annotations": NAMES}, required=("type",)
)


def settings_of(kind: type[BaseSettings]) -> Schema:
    """The settings of a service, as its file may hold them."""
    described = kind.model_json_schema()

    def pruned(part: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
        if isinstance(part, dict):
            return {name: pruned(value) for name, value in part.items() if name not in NOT_OF_A_SCHEMA}
        return [pruned(one) for one in part] if isinstance(part, list) else part

    bare: Schema = {"not": {"type": "string", "pattern": CREDENTIAL}}
    known = {name: one for name, one in described["properties"].items() if name not in NOT_FOR_A_POD}
    return thing({name: pruned(one) | (bare if name in ADDRESSES else {}) for name, one in sorted(known.items())})


def service_of(kind: type[BaseSettings], storage: Schema) -> Schema:
    """A node's or a hub's part of the values."""
    return thing(
        {
            "enabled": FLAG,
            "settings": settings_of(kind),
            "certificates": text(DNS_LABEL),
            "environment": optional(DNS_LABEL),
            "staff": optional(DNS_LABEL),
            "storage": thing(storage | {"class": optional(DNS_LABEL)}, required=tuple(storage)),
            "service": SERVICE,
            "resources": RESOURCES,
            "backup": thing({"enabled": FLAG, "schedule": text(SCHEDULE), "size": text(QUANTITY)}),
        }
    )


def when_enabled(part: str, needed: tuple[str, ...]) -> Schema:
    """Settings that a part cannot do without, once it is enabled."""
    return {
        "if": {"properties": {part: {"properties": {"enabled": {"const": True}}}}},
        "then": {"properties": {part: {"properties": {"settings": {"required": list(needed)}}}}},
    }


def schema() -> Schema:
    """What the values must be."""
    one_or_three = [{"minItems": many, "maxItems": many} for many in (1, 3)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart kuaixiang. Written by `python -m deploy.helm.write_schema --write`",
        **thing(
            {
                # Helm's own: what parent charts give to all.
                "global": {"type": "object"},
                "tier": {"enum": ["hq", "province", "county"]},
                "site": optional(r"^(hq|p[0-9]{6})$"),
                "image": thing(
                    {
                        "repository": text(r"^\S+$"),
                        "tag": text(),
                        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                        "pullSecrets": {"type": "array", "items": text(DNS_LABEL)},
                    }
                ),
                "files": thing({"tree": text(), "calendar": text()}),
                "node": service_of(NodeSettings, {"size": text(QUANTITY), "keys": text(QUANTITY)}),
                "hub": service_of(HubSettings, {"size": text(QUANTITY)}),
                "nats": thing(
                    {
                        "enabled": FLAG,
                        "image": thing({"repository": text(r"^\S+$"), "tag": text(r"^\S+$")}),
                        "confs": {"type": "array", "items": text(r"server_name"), "maxItems": 3},
                        "certificates": text(DNS_LABEL),
                        "storage": thing({"size": text(QUANTITY), "class": optional(DNS_LABEL)}, required=("size",)),
                        "service": SERVICE,
                        "resources": RESOURCES,
                    }
                ),
                "networkPolicy": thing(
                    {
                        "enabled": FLAG,
                        "peers": {"type": "array", "items": text(CIDR), "minItems": 1},
                        "monitoring": text(DNS_LABEL),
                    }
                ),
                "serviceMonitor": thing({"enabled": FLAG, "labels": NAMES, "interval": text(r"^[0-9]+(ms|s|m)$")}),
            },
            required=("tier", "image", "node", "hub", "nats"),
        ),
        "allOf": [
            when_enabled("node", ("bureaus", "nats_url")),
            when_enabled("hub", ("scope", "nats_url")),
            {
                "if": {"properties": {"nats": {"properties": {"enabled": {"const": True}}}}},
                "then": {"properties": {"nats": {"properties": {"confs": {"anyOf": one_or_three}}}}},
            },
        ],
    }


def documents() -> dict[Path, str]:
    """The schema as it should be."""
    return {CHART / "values.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"}


if __name__ == "__main__":
    print_or_write(__doc__, documents)
