"""JetStream's own way of storing many messages at once: atomic batches, which the client has no helper for.

A plain nats-server with `sync_interval: always`, no TLS and no accounts, takes each entry as a message of its own, a
hundred of them in a batch, several batches under way. What the publisher is held against.
"""

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import nats

from demo.processes import ChildProcess, free_port
from demo.sites import nats_server_binary

BATCH_MESSAGES: Final = 100
BATCHES_PENDING: Final = 8
"""As many as bureaus and segments that the publisher has under way."""
STREAM: Final = "batches"
SECONDS_MAX: Final = 60.0


async def rate(payloads: Sequence[bytes]) -> float:
    """Messages acknowledged per second, the store being made anew."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder, port = Path(name), free_port()
        conf = folder / "nats.conf"
        conf.write_text(
            f"listen: 127.0.0.1:{port}\njetstream {{ store_dir: {json.dumps(name)}, sync_interval: always }}\n", "ascii"
        )
        with ChildProcess("nats", (str(nats_server_binary()), "-c", str(conf)), log=folder / "nats.log") as server:
            await asyncio.to_thread(server.start)
            return await _rate(port, payloads)


async def _rate(port: int, payloads: Sequence[bytes]) -> float:
    client = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        config = {"name": STREAM, "subjects": [f"{STREAM}.>"], "storage": "file", "allow_atomic": True}
        made = await client.request(f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(config).encode(), timeout=SECONDS_MAX)
        assert "error" not in json.loads(made.data), made.data
        slots = asyncio.Semaphore(BATCHES_PENDING)

        async def batch(messages: Sequence[bytes]) -> None:
            async with slots:
                headers = {"Nats-Batch-Id": secrets.token_hex(8)}
                for nth, message in enumerate(messages[:-1], start=1):
                    await client.publish(f"{STREAM}.x", message, headers={**headers, "Nats-Batch-Sequence": str(nth)})
                commit = {**headers, "Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
                answer = await client.request(f"{STREAM}.x", messages[-1], headers=commit, timeout=SECONDS_MAX)
                stored = json.loads(answer.data)
                assert stored.get("count") == len(messages), stored

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for start in range(0, len(payloads), BATCH_MESSAGES):
                group.create_task(batch(payloads[start : start + BATCH_MESSAGES]))
        return len(payloads) / (time.perf_counter() - started)
    finally:
        await client.close()
