"""Hostile requests to the pages: the desk's and the board's routes, described from the applications themselves.

Whoever asks has stepped in, so that forms and not the door are met. Nothing but pages, files, refusals and redirections
comes back, never a fault, and what is sent is never a part of the page as it was sent.
"""

from pathlib import Path

from kuaixiang.domain.words import Role
from tests.desk.conftest import bureaus, county  # noqa: F401 - fixtures
from tests.desk.offices import Pages
from tests.federation.bureaus import COUNTY, Federation
from tests.fuzz.pages import hold_out, requests_for
from tests.hub.boards import Bench, lived
from tests.hub.journals import DONGCHENG, HEADQUARTERS

AT_THE_DESK = (
    "actor",
    "bureau",
    "category",
    "channel",
    "contact",
    "cases",
    "csrf",
    "department",
    "key",
    "reason",
    "role",
    "tab",
    "taxpayer_name",
    "text",
    "version",
)
"""Names of fields that some form of the desk has."""
AT_THE_BOARD = (
    "act",
    "after",
    "asked_at",
    "bureau",
    "by",
    "category",
    "done",
    "figure",
    "from",
    "light",
    "order",
    "override_reason",
    "own",
    "period",
    "scope",
    "show",
    "sort",
    "tiles",
    "to",
)
"""Names that some form or address of the board has."""


async def test_no_request_to_the_desk_is_a_fault_or_comes_back_as_it_was_sent(
    county: Pages,  # noqa: F811
    bureaus: Federation,  # noqa: F811
) -> None:
    await bureaus.register(COUNTY)

    async def token() -> str:
        await county.step_in(COUNTY, Role.TAX_SERVICE)
        return (await county.hidden("/register"))["csrf"]

    app = county.client._transport.app  # type: ignore[attr-defined]
    asked = requests_for(app, AT_THE_DESK, endless=["/live"])
    assert len(asked) > 30
    await hold_out(county.client, asked, token)


async def test_no_request_to_the_board_is_a_fault_or_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    bench = Bench(f"sqlite:///{tmp_path}/hub.db")
    bench.feed(lived(DONGCHENG, 3))
    async with bench.visitor() as client:

        async def token() -> str:
            who = {"bureau": HEADQUARTERS, "actor": "S01", "department": "leadership", "role": Role.SUPERVISOR.name}
            await client.post("/step-in", data=who)
            page = (await client.get("/reconciliation")).text
            return page.partition('name="csrf" value="')[2].partition('"')[0]

        asked = requests_for(bench.app, AT_THE_BOARD)
        assert len(asked) > 40
        # As they are, and for days that are.
        await hold_out(client, asked, token)
        within = [one | {"params": {**(one.get("params") or {}), "period": "2026-11"}} for one in asked]
        for one in within:
            for name in ("from", "to", "scope"):
                one["params"].pop(name, None)
        await hold_out(client, within, token)
    await bench.close()
