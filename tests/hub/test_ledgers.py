"""The hub's channels to the ledgers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub import ledgers
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.runtime import channels, pki
from kuaixiang.runtime.in_force import InForce

CODES = ("110000", "120000", "130000", "140000")
TREE = BureauTree(
    "channels",
    [
        Bureau("000000", "总局", Tier.NATIONAL, None, "127.0.0.1:1"),
        *(Bureau(code, "省局", Tier.PROVINCIAL, "000000", "127.0.0.1:1") for code in CODES),
    ],
)


class Channel:
    """A channel that takes a while to close."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True
        await asyncio.sleep(0.01)

    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_options: None


async def test_a_channel_that_is_taken_up_again_is_not_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: dict[str, Channel] = {}

    def open_one(_: str, name: str, *_more: Any) -> Channel:
        return opened.setdefault(name, Channel())

    monkeypatch.setattr(channels, "channel_to", open_one)
    pki.init_authority(tmp_path, "test")
    asking = ledgers.Ledgers(InForce(TREE), pki.issue(tmp_path, tmp_path / "hub", "hub", ["000000"]))
    for bureau in ("110000", "120000", "130000"):
        await asking._stub(bureau)
        asking._done(bureau)
    monkeypatch.setattr(ledgers, "CHANNELS_MAX", 1)
    # While the first is being closed to make room, the second is asked.
    await asyncio.gather(asking._stub("140000"), asking._stub("120000"))
    assert [True, False, True, False] == [opened[pki.dns_name("node", code)].closed for code in CODES]
    await asking.close()
