"""`kx tree`: the tree of bureaus, shown, checked, and asked for the way between two of them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import Bureau, BureauTree, Tier, UnknownBureau
from kx.options import tree_in
from kx.output import Failed, failures_shown, print_json

TIERS: Final = {
    Tier.NATIONAL: "国家",
    Tier.PROVINCIAL: "省级",
    Tier.PREFECTURE: "市级",
    Tier.COUNTY: "县级",
}
DEPTH: Final = 2

app = typer.Typer(
    name="tree", help="The tree of bureaus: who is above whom, and the way of a case.", no_args_is_help=True
)

File = Annotated[
    Path | None,
    typer.Option("--tree", envvar="KX_TREE", metavar="FILE", help="Another tree than the shipped national one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def show(
    *,
    under: Annotated[
        str, typer.Option(metavar="CODE", help="The bureau to begin with, six digits; the root when left out.")
    ] = "",
    depth: Annotated[int, typer.Option(metavar="N", min=0, help="How many tiers below it.")] = DEPTH,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Show a bureau and those under it, a given number of tiers deep."""
    with failures_shown(as_json=as_json):
        tree = tree_in(file)
        top = _known(tree, under or tree.root, "--under")
        if as_json:
            print_json({"version": tree.version, "bureaus": [_as_dict(one) for one in _within(tree, top.code, depth)]})
            return
        shown = Tree(_label(tree, top))
        branches = {top.code: shown}
        for bureau in _within(tree, top.code, depth):
            if bureau.code != top.code:
                branches[bureau.code] = branches[bureau.parent or ""].add(_label(tree, bureau))
        console = Console(highlight=False)
        console.print(shown)
        console.print(f"Tree {tree.version}: {len(tree.subtree(top.code))} bureaus from {top.code} down.")


@app.command()
def check(
    *,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A tree to be checked; the shipped one when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a tree's file: one root, no orphan, no circle, tiers in order; a fault is named with its line."""
    with failures_shown(as_json=as_json):
        tree = tree_in(file)
        tiers = Counter(bureau.tier for bureau in tree.bureaus.values())
        deepest = max(len(tree.superiors_and_self(code)) for code in tree.bureaus)
        told = {
            "version": tree.version,
            "root": tree.root,
            "bureaus": len(tree),
            "sites": len(tree.sites()),
            "tiers": {tier.name.lower(): tiers[tier] for tier in Tier},
            "depth": deepest,
            "with_endpoint": sum(bool(bureau.endpoint) for bureau in tree.bureaus.values()),
        }
        if as_json:
            print_json(told)
            return
        table = Table(show_header=False, box=None)
        for tier in Tier:
            table.add_row(f"{tier.name.lower()} {TIERS[tier]}", str(tiers[tier]))
        table.add_row("all", str(len(tree)))
        table.add_row("sites", str(len(tree.sites())))
        table.add_row("tiers deep", str(deepest))
        table.add_row("with an endpoint", str(told["with_endpoint"]))
        console = Console(highlight=False)
        console.print(table)
        console.print(f"Tree {tree.version} is in order; its root is {tree.root}.")


@app.command()
def route(
    *,
    a: Annotated[str, typer.Argument(metavar="FROM", help="The bureau that sends, six digits.")],
    b: Annotated[str, typer.Argument(metavar="TO", help="The bureau that is to handle the case, six digits.")],
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Show the way of a referral from one bureau to another: up to the lowest common superior, then down."""
    with failures_shown(as_json=as_json):
        tree = tree_in(file)
        _known(tree, a, "FROM")
        _known(tree, b, "TO")
        way = tree.route(a, b)
        top = tree.lowest_common_superior(a, b)
        if as_json:
            print_json({"route": [_as_dict(tree.get(code)) for code in way], "lowest_common_superior": top})
            return
        table = Table()
        for heading in ("", "bureau", "tier", "site"):
            table.add_column(heading)
        for place, code in enumerate(way):
            arrow = "" if place == 0 else ("↑ 上报" if way[place - 1] != top and place <= way.index(top) else "↓ 转交")
            bureau = tree.get(code)
            table.add_row(arrow, f"{code} {bureau.name}", TIERS[bureau.tier], tree.site(code))
        console = Console(highlight=False)
        console.print(table)
        console.print(f"{len(way) - 1} hand-over(s); {top} {tree.get(top).name} stands above both.")


def _known(tree: BureauTree, code: str, field: str) -> Bureau:
    try:
        return tree.get(code)
    except UnknownBureau as unknown:
        said = Both(f"{unknown} (tree {tree.version}).", f"机构树 {tree.version} 中没有单位 {code}。")
        remedy = Both(
            "Give a bureau's six digits; `kx tree show` lists them.", "请填写六位单位代码，可用 kx tree show 查询。"
        )
        raise Failed(said, field=field, rule="UnknownBureau", remedy=remedy) from unknown


def _within(tree: BureauTree, code: str, depth: int) -> Iterator[Bureau]:
    """A bureau and those under it, each superior before its subordinates."""
    yield tree.get(code)
    if depth:
        for child in tree.children(code):
            yield from _within(tree, child, depth - 1)


def _label(tree: BureauTree, bureau: Bureau) -> str:
    below = len(tree.subtree(bureau.code)) - 1
    endpoint = f" [cyan]{bureau.endpoint}[/cyan]" if bureau.endpoint else ""
    endpoint += f" [yellow]→ {bureau.successor}[/yellow]" if bureau.successor else ""
    return f"[bold]{bureau.code}[/bold] {bureau.name}{endpoint}" + (f" [dim]({below})[/dim]" if below else "")


def _as_dict(bureau: Bureau) -> dict[str, Any]:
    return {
        "code": bureau.code,
        "name": bureau.name,
        "tier": bureau.tier.name.lower(),
        "parent": bureau.parent,
        "endpoint": bureau.endpoint,
        "desk": bureau.desk,
        "successor": bureau.successor,
    }
