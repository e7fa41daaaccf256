"""`kx nats`: the configuration of NATS sites' servers, written from the tree of bureaus."""

from pathlib import Path
from typing import Annotated

import typer

from kuaixiang.domain.labels import Both
from kx.options import tree_in
from kx.output import Failed, failures_shown


def nats(
    *,
    tree: Annotated[
        Path, typer.Argument(metavar="TREE.csv", help="The tree, with the endpoint of each bureau's node.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go: hq.conf, p330000.conf, hq-1.conf.")],
    server: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE=HOST",
            help="By which host others dial a server of that site: the national one, and each of a cluster's three.",
        ),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Only this site; repeat it. All that have a node when left out."),
    ] = None,
    hub: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE=SCOPE", help="The scope of a hub that connects to that site; its own alone when left out."
        ),
    ] = None,
) -> None:
    """Write the configuration of NATS sites: a user for each node process, hub and leaf, with its own subjects alone.

    Bureaus with one endpoint share a process, which is known by the first of them, in the order of the tree. Written
    again when bureaus move; the servers read it at a SIGHUP.
    """
    from kuaixiang.runtime.site_conf import SiteConfError, confs_of

    with failures_shown(as_json=False):
        try:
            confs = confs_of(
                tree_in(tree),
                _by_site(server, "--server"),
                sites=site or (),
                hubs=_by_site(hub, "--hub"),
            )
        except SiteConfError as wrong:
            raise Failed(wrong.sentence, rule=type(wrong).__name__, remedy=wrong.remedy) from wrong
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, text in confs.items():
                (out / name).write_text(text, encoding="utf-8")
                typer.echo(out / name)
        except OSError as failure:
            raise Failed(
                Both(f"{out}: {failure.strerror}.", f"{out}：{failure.strerror}。"), field="--out", rule="NotWritten"
            ) from failure


def _by_site(given: list[str] | None, option: str) -> dict[str, list[str]]:
    """What was said of each site, in the order in which it was said."""
    found: dict[str, list[str]] = {}
    for one in given or ():
        code, equals, what = one.partition("=")
        if not (code and equals and what):
            raise Failed(
                Both(f"{one} is not CODE=…, with the code of a site.", f"“{one}”不是“站点代码=…”的形式。"),
                field=option,
                rule="NotOfASite",
            )
        found.setdefault(code, []).append(what)
    return found
