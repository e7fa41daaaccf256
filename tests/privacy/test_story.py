"""The demonstration's whole fortnight, with its mishaps: what taxpayers and officers have written is nowhere in clear.

Every act that an officer does is listened to, so that what is looked for is exactly what was said to the bureaus.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo import officers
from demo.performance import Pages, performance
from tests.privacy.scan import Scan
from tests.privacy.test_scan import metrics

CASES = 166
"""Each request of the demonstration once."""
BYTES_MIN = 11
"""Of what is looked for, a telephone number's: a shorter word tells nothing of anybody."""
BYTES_READ_MIN = 50_000_000
"""The fortnight writes more than that, or the scan has not looked at it."""
PUBLIC = frozenset(
    {
        "digest",
        "final_bureau",
        "for_department",
        "lead_case_id",
        "lead_department",
        "media_type",
        "owner",
        "place",
        "to_department",
    }
)
"""Fields of acts that are codes, and events have in clear."""


class Listener:
    """Hears every act; `said` is what was private in it, by the act and its field."""

    def __init__(self, request_of: Callable[..., Any]) -> None:
        self.said: dict[str, str] = {}
        self._request_of = request_of

    def __call__(self, act: Any, *args: Any, **more: Any) -> Any:
        for field in dataclasses.fields(act):
            value = getattr(act, field.name)
            if field.name not in PUBLIC and isinstance(value, str) and len(value.encode()) >= BYTES_MIN:
                self.said.setdefault(value, f"{type(act).__name__}.{field.name}")
        return self._request_of(act, *args, **more)


@pytest.mark.nats
@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_after_the_whole_fortnight_nothing_that_was_said_to_a_bureau_stands_in_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(officers.request_of)
    monkeypatch.setattr(officers, "request_of", listener)
    directory = tmp_path / "demo"
    # Keys and what is compiled hold nothing of taxpayers, and much that is random.
    without = ("pycache", "certificates", "authority", "keys")
    async with performance(
        directory,
        directory / "bulletin",
        Console(quiet=True),
        cases=CASES,
        seed=1,
        live=False,
        tell=lambda _: None,
        pages=Pages.AFTERWARDS,
    ) as performed:
        federation = performed.federation
        assert performed.sound
        assert len(listener.said) > CASES * len(("name", "number", "contact", "text"))
        scan = Scan({f"{place} {number}": said for number, (said, place) in enumerate(listener.said.items())})
        for name, text in (await metrics(federation)).items():
            scan.content(f"metrics of {name}", text)
        for process in [
            *(one.process for one in federation.services),
            *(site.process for site in federation.sites.all),
        ]:
            scan.process(process.pid, within=directory)
        # Once while all run, with the databases' logs, and once after they have closed them.
        await asyncio.to_thread(scan.folder, directory, without=without)
        public = Scan({"case": performed.an_example("110101")})
        await asyncio.to_thread(public.folder, directory, without=without)
    await asyncio.to_thread(scan.folder, directory, without=without)
    found = {Path(leak.place).relative_to(directory).parts[0] for leak in public.leaks}
    assert {"nats", "databases"} <= found
    assert scan.bytes_read > BYTES_READ_MIN
    assert [] == sorted(scan.leaks)
