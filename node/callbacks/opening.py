"""What a node's settings have told to the outside: an engine for each web hook, and one for the notifier."""

from collections.abc import Iterator

from node.callbacks.engine import Callbacks, Sink, Totals
from node.callbacks.hook_file import load_hooks
from node.callbacks.notifier import Notifications, notifier_of
from node.callbacks.web_hook import WebHook
from node.channels.case_api import told_case
from node.channels.messages import told
from node.office import Office
from node.settings import NodeSettings


def callbacks_of(settings: NodeSettings, office: Office) -> list[Callbacks]:
    """The engines, to be started; raises `NotifierUnusable`, `HooksUnusable`."""
    totals = Totals()
    return [Callbacks(office, sink, settings.callback_hours, totals) for sink in _sinks(settings, office)]


def _sinks(settings: NodeSettings, office: Office) -> Iterator[Sink]:
    if settings.hooks is not None:
        for hook in load_hooks(settings.hooks):
            yield WebHook(hook, office, lambda case: told(told_case(office.place.tree, case)))
    if settings.notifier:
        yield Notifications(settings.notifier, notifier_of(settings.notifier, settings.notifier_options), office)
