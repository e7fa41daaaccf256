"""Sending a large thing over a call: what it is first, and its content once the other side has agreed to take it.

The server agrees by its initial metadata, so that what it refuses is refused before megabytes have travelled. Also, a
call that ends while its caller still writes is a fault to gRPC's client in Python, which then hides the refusal.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from kuaixiang.runtime.server import Context

GO_AHEAD: Final = ("kx-go-ahead", "1")


async def content(messages: AsyncIterator[Any], context: Context) -> AsyncIterator[bytes]:
    """What the messages of a call bring in `data`; its caller is told to go ahead when the first of it is asked for."""
    await context.send_initial_metadata((GO_AHEAD,))
    async for message in messages:
        yield message.data


async def send(call: Any, first: Any, rest: AsyncIterator[Any]) -> Any:  # noqa: ANN401 - any call and its messages
    """The answer to a call that has been opened: `first` is written, and `rest` when the server goes ahead.

    Raises `AioRpcError`, and what `rest` raises, for which the call is given up.
    """
    try:
        # A call that has ended is not written to any more; how it ended is what awaiting it says.
        with contextlib.suppress(asyncio.InvalidStateError):
            await call.write(first)
            if GO_AHEAD in tuple(tuple(pair) for pair in await call.initial_metadata()):
                async for message in rest:
                    await call.write(message)
                await call.done_writing()
        return await call
    finally:
        call.cancel()
