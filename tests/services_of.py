"""Every message and service of the wire, so that a test of all of them meets the next one too."""

import importlib
import pkgutil
from types import ModuleType
from typing import Final

import kuaixiang.wire.v1

WIRE: Final[tuple[ModuleType, ...]] = tuple(
    importlib.import_module(found.name)
    for found in pkgutil.iter_modules(kuaixiang.wire.v1.__path__, "kuaixiang.wire.v1.")
    if found.name.endswith("_pb2")
)
