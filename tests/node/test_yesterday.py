"""A node of the last release beside today's: cases go both ways, its journal reaches today's hub, today's opens its database.

A tree that it cannot read, for a column that it does not know, it leaves: it goes on by the one it has until it is upgraded.
"""

import asyncio
import io
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from demo.federation import Federation, part_of, tree_text
from demo.settling import settle
from kuaixiang.domain import acts
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Telling
from kuaixiang.facts import national_tree
from tests.kx.conftest import kx
from tests.registering import REGISTRAR, registration

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.asyncio]

ROOT = Path(__file__).parents[2]
RELEASED = "1b89b2ef1a89477a4f0d1e35a42d278eb145d37b"
"""The commit that proto/released.binpb is of."""
HEADQUARTERS, PROVINCE, COUNTY, DISSOLVED = "000000", "110000", "110101", "110102"
EDITION = "2027-1"
PATIENCE_SECONDS = 400.0


def released(folder: Path) -> Path:
    """The last release's source, from the history; skips the test, saying so, where the clone has none."""
    found = subprocess.run(
        ["git", "archive", RELEASED], cwd=ROOT, capture_output=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    if found.returncode:
        pytest.skip(f"this clone does not reach back to the last release, {RELEASED[:12]}: {found.stderr.decode()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


async def referred(federation: Federation, from_bureau: str, to_bureau: str, key: str) -> str:
    office = federation.office(from_bureau)
    case_id = (await office.do(REGISTRAR, registration(key), key=key)).case.case_id
    refer = acts.Refer(final_bureau=to_bureau, reason="超出权限", telling=Telling.TRANSFERRED, told="已转")
    await office.do(REGISTRAR, refer, case_id, key=f"{key}-refer")
    return case_id


async def held(federation: Federation, bureau: str) -> set[str]:
    return {case.case_id async for case in federation.office(bureau).cases()}


def metrics(federation: Federation, bureau: str) -> str:
    with urlopen(federation.node(bureau).metrics_url, timeout=60) as answer:
        return str(answer.read().decode())


async def until(wanted: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(wanted):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.2)


def has_edition(federation: Federation, bureau: str) -> bool:
    return f'kx_tree_in_force{{version="{EDITION}"}} 1.0' in metrics(federation, bureau)


async def dissolve(federation: Federation) -> None:
    """Headquarters publishes an edition with a successor in it, which the last release cannot read."""
    new = BureauTree(
        EDITION,
        (replace(one, successor=COUNTY) if one.code == DISSOLVED else one for one in federation.tree.bureaus.values()),
    )
    file = federation.directory / "tree-next.csv"
    file.write_text(tree_text(new), encoding="utf-8")
    who = {"KX_ACTOR": "S01", "KX_ROLE": "supervisor", "KX_DEPARTMENT": "leadership", "KX_BUREAU": HEADQUARTERS}
    node = federation.node(HEADQUARTERS)
    where = {"KX_NODE": node.endpoint, "KX_CERTIFICATES": str(node.terminal.ca.parent)}
    done = await asyncio.to_thread(kx, "supervise", "publish-tree", str(file), environment=who | where)
    assert 0 == done.exit_code, done.output


async def test_a_node_of_the_last_release_works_beside_todays_and_is_upgraded(tmp_path: Path) -> None:
    source = released(tmp_path / "released")
    tree = part_of(national_tree(), (COUNTY, DISSOLVED))
    placement = [[HEADQUARTERS], [PROVINCE], [COUNTY]]
    async with Federation(tmp_path / "federation", tree, placement=placement) as federation:
        county = await federation.stop_node(COUNTY)
        database = federation.database_file(county.name)
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink()
        # A setting that came later is not in a file of that time.
        lines = county.config.read_text("utf-8").splitlines(keepends=True)
        county.config.write_text("".join(one for one in lines if not one.startswith("nats_monitor")), "utf-8")
        county.process.directory = source
        await federation.restart_node(COUNTY)
        assert Path(f"/proc/{county.process.pid}/cwd").resolve() == source.resolve()

        up = await referred(federation, COUNTY, HEADQUARTERS, "up")
        down = await referred(federation, HEADQUARTERS, COUNTY, "down")
        await settle(federation)
        assert up in await held(federation, HEADQUARTERS)
        assert down in await held(federation, COUNTY)

        # What only a newer version can read it does not take, says so, and works on by the tree that it has.
        await dissolve(federation)
        await until(lambda: has_edition(federation, PROVINCE), "the province adopts the edition")
        await until(
            lambda: "kx_directives_refused_total 0.0" not in metrics(federation, COUNTY), "it is offered and left"
        )
        assert not has_edition(federation, COUNTY)
        beside = await referred(federation, COUNTY, HEADQUARTERS, "beside")
        await settle(federation)
        assert beside in await held(federation, HEADQUARTERS)

        # The upgrade: today's program opens yesterday's database, and goes on.
        await federation.stop_node(COUNTY)
        county.process.directory = None
        await federation.restart_node(COUNTY)
        assert {up, down, beside} <= await held(federation, COUNTY)
        await until(lambda: has_edition(federation, COUNTY), "upgraded, it takes the edition by itself")
        after = await referred(federation, COUNTY, HEADQUARTERS, "after")
        await settle(federation)
        assert {up, after} <= await held(federation, HEADQUARTERS)
