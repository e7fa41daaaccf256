"""Writes the tables of docs/SETTINGS.md and docs/METRICS.md from the code; `--write` puts them in place.

Settings are the fields of `NodeSettings` and `HubSettings`, each with the sentence under it. Metrics are what
prometheus-client knows once a service has been imported, which is done in a process of its own for each service, so
that the tables say truly who shows what. What stands around the tables is written by hand and stays.
"""  # noqa: INP001 - a program, not part of a package

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pydantic_settings import BaseSettings

from docs.writing import print_or_write
from hub.settings import HubSettings
from node.settings import NodeSettings

FOLDER = Path(__file__).parent
SERVICES = {"node": "node.service", "hub": "hub.service"}
PREFIX = "kx_"
BEGIN, END = "<!-- {name}: written by docs/list_reference.py -->", "<!-- end of {name} -->"

_METRICS_OF_A_SERVICE = f"""
import importlib, sys
from prometheus_client import REGISTRY
importlib.import_module(sys.argv[1])
for one in {{id(c): c for c in REGISTRY._collector_to_names}}.values():
    if getattr(one, "_name", "").startswith("{PREFIX}"):
        name = one._name + ("_total" if one._type == "counter" else "")
        print(name, one._type, ", ".join(one._labelnames), one._documentation, sep="\\t")
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sentences(kind: type[BaseSettings]) -> dict[str, str]:
    """What stands under each field of a settings class, and of those of ours that it is made from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseSettings) and base is not BaseSettings:
            found |= _own_sentences(base)
    return found


def _own_sentences(kind: type[BaseSettings]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(kind)).body[0]
    found: dict[str, str] = {}
    if not isinstance(body, ast.ClassDef):
        return found
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            found[field.target.id] = " ".join(text.split())
    return found


def settings(kind: type[BaseSettings]) -> str:
    """The table of one service's settings."""
    said = sentences(kind)
    prefix = str(kind.model_config["env_prefix"])
    rows = []
    for name, field in kind.model_fields.items():
        if field.is_required():
            default = "needed"
        else:
            value = field.get_default(call_default_factory=True)
            shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            default = "–" if shown in (None, ()) else f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"
        rows.append((f"`{name}`", f"`{prefix}{name.upper()}`", default, said.get(name, "")))
    return table(("in the file", "in the environment", "when left out", "what it is"), rows)


def metrics() -> str:
    """The table of all services' metrics."""
    shown_by: dict[tuple[str, str, str, str], list[str]] = {}
    for service, module in SERVICES.items():
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", _METRICS_OF_A_SERVICE, module],
            cwd=FOLDER.parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        for line in done.stdout.splitlines():
            name, kind, labels, meaning = line.split("\t")
            shown_by.setdefault((name, kind, labels, meaning), []).append(service)
    rows = [
        (f"`{name}`", kind, f"`{labels}`" if labels else "–", " ".join(services), meaning)
        for (name, kind, labels, meaning), services in sorted(shown_by.items())
    ]
    return table(("name", "type", "labels", "of", "meaning"), rows)


def with_tables(document: str, tables: dict[str, str]) -> str:
    """A document with what lies between its marks replaced."""
    for name, text in tables.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        between = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        between_now = f"{begin}\n\n{text}\n\n{end}".replace("\\", r"\\")  # `sub` reads backslashes
        document = between.sub(between_now, document)
    return document


def documents() -> dict[Path, str]:
    """Both documents as they should be."""
    wanted = {
        FOLDER / "SETTINGS.md": {"node settings": settings(NodeSettings), "hub settings": settings(HubSettings)},
        FOLDER / "METRICS.md": {"metrics": metrics()},
    }
    return {path: with_tables(path.read_text("utf-8"), tables) for path, tables in wanted.items()}


if __name__ == "__main__":
    print_or_write(__doc__, documents)
