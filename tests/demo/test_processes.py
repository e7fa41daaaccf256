"""Children of the harness: what they are to the machine."""

import sys
from pathlib import Path

from demo.processes import ChildProcess

SECONDS = 60.0
BEHIND = """
import os, pathlib, sys
from demo.processes import AUTOGROUP, stand_behind
stand_behind(7)
group = AUTOGROUP.read_text() if AUTOGROUP.exists() else "nice 7"
pathlib.Path(sys.argv[1]).write_text(f"{os.nice(0)} {group}")
"""


def test_who_stands_behind_others_does_so_with_his_session_too(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with ChildProcess("behind", [sys.executable, "-c", BEHIND, str(told)], log=tmp_path / "log") as child:
        child.start().wait(SECONDS)
    niceness, group = told.read_text().split(maxsplit=1)
    assert int(niceness) >= 7
    assert group.split()[-1] == "7"
