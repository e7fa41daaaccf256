"""The hub's channels to the ledgers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub import ledgers
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.runtime.pki import CertificatePaths

TREE = BureauTree(
    "channels",
    [
        Bureau("000000", "总局", Tier.NATIONAL, None, "127.0.0.1:1"),
        *(Bureau(f"{number}0000", "省局", Tier.PROVINCIAL, "000000", "127.0.0.1:1") for number in range(11, 15)),
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
    monkeypatch.setattr(ledgers, "open_channel", lambda *_: Channel())
    asking = ledgers.Ledgers(TREE, CertificatePaths.in_folder(tmp_path))
    for bureau in ("110000", "120000", "130000"):
        await asking._stub(bureau)
        asking._done(bureau)
    again: Any = asking._channels["120000"]
    monkeypatch.setattr(ledgers, "CHANNELS_MAX", 1)
    # While the first is being closed to make room, the second is asked.
    await asyncio.gather(asking._stub("140000"), asking._stub("120000"))
    assert not again.closed
    assert again is asking._channels["120000"]
