"""A node of the last release beside today's: cases go both ways, its journal reaches today's hub, today's opens its database."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from demo.federation import Federation, part_of
from demo.settling import settle
from kuaixiang.domain import acts
from kuaixiang.domain.words import Telling
from kuaixiang.facts import national_tree
from tests.node.registering import REGISTRAR, registration

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.asyncio]

ROOT = Path(__file__).parents[2]
RELEASED = "1b89b2ef1a89477a4f0d1e35a42d278eb145d37b"
"""The commit that proto/released.binpb is of."""
HEADQUARTERS, PROVINCE, COUNTY = "000000", "110000", "110101"


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


async def test_a_node_of_the_last_release_works_beside_todays_and_is_upgraded(tmp_path: Path) -> None:
    source = released(tmp_path / "released")
    tree = part_of(national_tree(), (COUNTY,))
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

        # The upgrade: today's program opens yesterday's database, and goes on.
        await federation.stop_node(COUNTY)
        county.process.directory = None
        await federation.restart_node(COUNTY)
        assert {up, down} <= await held(federation, COUNTY)
        after = await referred(federation, COUNTY, HEADQUARTERS, "after")
        await settle(federation)
        assert {up, after} <= await held(federation, HEADQUARTERS)
