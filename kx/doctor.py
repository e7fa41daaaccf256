"""`kx doctor`: looks at a service's settings and surroundings, says how each thing stands, and what is to be done."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import sqlalchemy as sa
import typer

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.labels import Both
from kuaixiang.domain.witness import witnesses_of
from kuaixiang.runtime.bus import Access, hub_user, node_user
from kuaixiang.runtime.settings import WrongSetting, read_settings
from kx import looking_around, looking_here
from kx.findings import Finding, exit_code, fail, ok, show
from kx.looking_around import Asked, Me, Place
from kx.options import AsJson, ServiceConfig
from kx.output import failures_shown, print_json

CORRECT: Final = Both(
    "Correct the file or the environment; docs/SETTINGS.md lists what there is.",
    "请更正设置文件或环境变量；各项说明见 docs/SETTINGS.md。",
)

app = typer.Typer(
    name="doctor",
    help="Look at a node's or a hub's settings and surroundings: what is well, what is not, and what to do.",
    no_args_is_help=True,
)

Offline = Annotated[bool, typer.Option("--offline", help="Look at this machine alone: no NATS, no other bureaus.")]


@app.command()
def node(config: ServiceConfig = None, *, offline: Offline = False, as_json: AsJson = False) -> None:
    """Look at a node, whether it runs or not; nothing is changed. Status: 0 well, 1 something to see to, 2 a fault."""
    from node.settings import NodeSettings

    _tell(_examined(NodeSettings, config, _of_node, offline=offline), as_json=as_json)


@app.command()
def hub(config: ServiceConfig = None, *, offline: Offline = False, as_json: AsJson = False) -> None:
    """Look at a hub, whether it runs or not; nothing is changed. Status: 0 well, 1 something to see to, 2 a fault."""
    from hub.settings import HubSettings

    _tell(_examined(HubSettings, config, _of_hub, offline=offline), as_json=as_json)


@app.command()
def retire(
    *,
    bureau: Annotated[str, typer.Argument(metavar="CODE", help="The bureau, which this node keeps the ledger of.")],
    hub: Annotated[
        list[str],
        typer.Option(
            metavar="CODE=HOST:PORT",
            help="A hub that counts it, by its scope; repeat it: the national one, a province's.",
        ),
    ],
    config: ServiceConfig = None,
    as_json: AsJson = False,
) -> None:
    """Look whether a dissolved bureau's node can be stopped for good 停用: what is open, owed, or lacking elsewhere.

    Nothing is changed. Status: 0 it can, 2 it cannot, and each thing that is in the way is named with what to do.
    """
    from kx import retiring
    from node.settings import NodeSettings

    def of(settings: Any, *, offline: bool) -> Iterator[Finding]:  # noqa: ANN401 - as `_of_node`
        yield from retiring.examined(settings, bureau, hubs)

    with failures_shown(as_json=as_json):
        hubs = retiring.hubs_of(hub)
        _tell(_examined(NodeSettings, config, of, offline=False), as_json=as_json)


def _examined(
    kind: type[Any], config: Path | None, of: Callable[..., Iterator[Finding]], *, offline: bool
) -> Iterator[Finding]:
    try:
        settings = read_settings(kind, config)
    except WrongSetting as refusal:
        for name, problem in refusal.problems.items():
            yield fail("settings", Both(f"{name}: {problem}", f"设置 {name} 有误（{problem}）。"), CORRECT)
        return
    yield ok("settings", f"{config or 'The environment'} can be used.", "设置可用。")
    yield from looking_here.secrets_closed(config)
    yield from of(settings, offline=offline)


def _of_node(settings: Any, *, offline: bool) -> Iterator[Finding]:  # noqa: ANN401 - NodeSettings, imported when asked for
    from node.ledger.database import MIGRATIONS, default_key_file

    key_file = settings.data_key or default_key_file(settings.database)
    yield from looking_here.certificates(settings.certificate_paths)
    yield from looking_here.database(settings.database, "node", MIGRATIONS, "ledger_version", standby=settings.standby)
    if _is_there(settings.database):
        yield looking_here.ledger_keys(settings.database, key_file)
        yield from looking_here.archive(settings.database)
    calendar: WorkingCalendar = settings.load_calendar()
    yield looking_here.calendar(calendar)
    yield looking_here.backup_age(settings.backups, "node", settings.bureaus[0])
    if offline:
        return
    tree = looking_here.tree_in_force(settings.load_tree(), settings.database, "node")
    first = settings.bureaus[0]
    site = tree.site(first)
    if settings.nats_url is not None:
        access = Access(
            url=settings.nats_url.get_secret_value(),
            site=site,
            user=node_user(first),
            certificates=settings.certificate_paths,
        )
        yield from asyncio.run(looking_around.nats(access, (site,), settings.bureaus))
    asked: dict[str, Asked] = {}
    for bureau in settings.bureaus:
        parent = tree.get(bureau).parent
        if parent and parent not in settings.bureaus:
            asked.setdefault(parent, Asked())
        for child in tree.children(bureau):
            if child not in settings.bureaus and tree.get(child).endpoint:
                asked[child] = Asked(head=True)
    for bureau in settings.bureaus:
        for witness in witnesses_of(tree, bureau, settings.bureaus):
            asked[witness] = Asked(witness_of=bureau, end=partial(_end, settings.database, bureau))
    me = Me(settings.certificate_paths, tree)
    yield from asyncio.run(looking_around.peers(me, asked))


def _of_hub(settings: Any, *, offline: bool) -> Iterator[Finding]:  # noqa: ANN401 - HubSettings, imported when asked for
    from hub.store import MIGRATIONS

    yield from looking_here.certificates(settings.certificate_paths)
    yield from looking_here.database(settings.database, "hub", MIGRATIONS, "hub_version")
    yield looking_here.backup_age(settings.backups, "hub", settings.scope)
    if offline:
        return
    tree = looking_here.tree_in_force(settings.load_tree(), settings.database, "hub")
    site = tree.site(settings.scope)
    access = Access(
        url=settings.nats_url.get_secret_value(),
        site=site,
        user=hub_user(settings.scope),
        certificates=settings.certificate_paths,
    )
    yield from asyncio.run(looking_around.nats(access, settings.followed_sites(tree)))
    # A node answers for all its bureaus at one address: it is looked at once.
    at: dict[str, str] = {}
    for code in tree.subtree(settings.scope):
        at.setdefault(tree.get(code).endpoint, code)
    asked = {code: Asked(head=True) for endpoint, code in at.items() if endpoint}
    me = Me(settings.certificate_paths, tree)
    yield from asyncio.run(looking_around.peers(me, asked))


def _end(database: str, bureau: str) -> Place | None:
    found = looking_here.end_of(database, bureau) if _is_there(database) else (1, 0)
    return None if found is None else Place(*found)


def _is_there(database: str) -> bool:
    url = sa.make_url(database)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


def _tell(findings: Iterator[Finding], *, as_json: bool) -> None:
    found = list(findings)
    if as_json:
        print_json({"exit_code": exit_code(found), "findings": [one.as_dict() for one in found]})
    else:
        show(found)
    raise typer.Exit(exit_code(found))
