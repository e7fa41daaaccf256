import os
from pathlib import Path

import pytest

LOGS = "KX_DATA"


@pytest.fixture(scope="session")
def logs() -> Path:
    """The folder of the real event logs, which are no part of this project."""
    beside = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get(LOGS, beside))
    if not folder.is_dir():
        pytest.skip(f"the event logs are not here: {folder} is no folder ({LOGS} names another)")
    return folder
