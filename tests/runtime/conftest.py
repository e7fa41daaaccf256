"""What tests of every service's own machinery share."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from kuaixiang.runtime import logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a service writes to its log; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    logs.configure("node-110101", "info", stream=written)
    try:
        yield written
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        for package in logs.OUR_PACKAGES:
            logging.getLogger(package).setLevel(logging.NOTSET)
        structlog.reset_defaults()
