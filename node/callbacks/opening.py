"""What a node's settings have told to the outside: an engine for each web hook, and one for the notifier."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter

from kuaixiang.runtime.files import Stamp, stamp_of
from kuaixiang.runtime.loops import Loop
from node.callbacks.engine import Callbacks, Totals
from node.callbacks.hook_file import Hook, HooksUnusable, load_hooks
from node.callbacks.notifier import Notifications, notifier_of
from node.callbacks.web_hook import WebHook
from node.channels.case_api import told_case
from node.channels.messages import told
from node.office import Office
from node.settings import NodeSettings

LOOK_SECONDS: Final = 2.0
"""Whoever enters a hook looks whether it works; a look is a `stat` of the file and of each that it names."""

FAILED: Final = Counter("kx_hooks_failures_total", "Times the changed file of web hooks could not be used.")

_log: Final = structlog.get_logger(__name__)

_Stamps = dict[Path, Stamp | None]


class Outside:
    """The engines by the file of hooks as it was when it was last right, and by the notifier. `step` is one look.

    A file that has become wrong changes nothing and is told once; every look tries again, for what it names may be put
    in place after it. Of a right one, hooks that are as before go on undisturbed. Raises `NotifierUnusable`,
    `HooksUnusable` when made.
    """

    def __init__(self, settings: NodeSettings, office: Office) -> None:
        self._settings = settings
        self._office = office
        self._totals = Totals()
        self._hooks: dict[Hook, Callbacks] = {}
        self._others: list[Callbacks] = []
        self._files: frozenset[Path] = frozenset()
        self._seen: _Stamps = {}
        self._wrong = ""
        # Held while engines come and go, and while somebody changes what they have to tell.
        self._alone = asyncio.Lock()
        self._loop = Loop("hooks", self.step, LOOK_SECONDS)
        if settings.hooks is not None:
            self._hooks = {hook: self._engine(hook) for hook in load_hooks(settings.hooks, settings.bureaus)}
        if settings.notifier:
            notifier = notifier_of(settings.notifier, settings.notifier_options)
            sink = Notifications(settings.notifier, notifier, office)
            self._others.append(Callbacks(office, sink, settings.callback_hours, self._totals))

    @property
    def engines(self) -> Sequence[Callbacks]:
        """Those that tell somebody now."""
        return (*self._hooks.values(), *self._others)

    def engine(self, bureau: str, sink: str) -> Callbacks | None:
        """What tells a sink of that bureau's cases, where there is one."""
        return next((one for one in self.engines if one.sink.name == sink and bureau in one.sink.bureaus), None)

    @contextlib.asynccontextmanager
    async def still(self, bureau: str, sink: str) -> AsyncIterator[frozenset[tuple[str, int]]]:
        """Nobody else changes a sink's rows during the block, but of those that are under way, which it is given."""
        async with self._alone:
            engine = self.engine(bureau, sink)
            if engine is None:
                yield frozenset()
                return
            async with engine.still() as under_way:
                yield under_way

    def start(self) -> None:
        """Begin to tell, and to look at the file."""
        for engine in self.engines:
            engine.start()
        if self._settings.hooks is not None:
            self._loop.start()

    async def stop(self) -> None:
        """Let what is under way end."""
        await self._loop.stop()
        await asyncio.gather(*(engine.stop() for engine in self.engines))

    async def step(self) -> bool:
        """Read the file again if it has changed, or one that it names; there is never more to do at once."""
        file = self._settings.hooks
        if file is None:
            return False
        stamps = await asyncio.to_thread(lambda: {path: stamp_of(path) for path in (file, *self._files)})
        if stamps == self._seen:
            return False
        try:
            hooks = await asyncio.to_thread(load_hooks, file, self._settings.bureaus)
        except HooksUnusable as failure:
            if str(failure) != self._wrong:
                self._wrong = str(failure)
                FAILED.inc()
                _log.error(
                    "The changed file of web hooks cannot be used; the one before holds.",
                    action="hooks.failed",
                    reason=self._wrong,
                )
            return False
        self._wrong = ""
        await self._take(hooks)
        # Of a file that it has not named before it is not known whether it changed since it was read: the next look
        # reads again, and finds the same.
        self._seen = stamps
        self._files = frozenset(path for hook in hooks for path in hook.files)
        return False

    async def _take(self, hooks: Sequence[Hook]) -> None:
        gone = [hook for hook in self._hooks if hook not in hooks]
        new = [hook for hook in hooks if hook not in self._hooks]
        if not gone and not new:
            return
        async with self._alone:
            # The same receiver with another key is told by one engine at a time.
            ending = [self._hooks.pop(hook) for hook in gone]
            await asyncio.gather(*(engine.stop() for engine in ending))
            for engine in ending:
                self._totals.drop(engine.sink)
            for hook in new:
                self._hooks[hook] = self._engine(hook)
                self._hooks[hook].start()
        _log.info(
            "The file of web hooks was read again.",
            action="hooks.reload",
            hooks=len(hooks),
            new=len(new),
            gone=len(gone),
        )

    def _engine(self, hook: Hook) -> Callbacks:
        place = self._office.place
        sink = WebHook(hook, self._office, lambda case: told(told_case(place.tree, case)))
        return Callbacks(self._office, sink, self._settings.callback_hours, self._totals)
