"""Children of the harness: what they are to the machine."""

import os
import sys
from pathlib import Path

from demo.processes import ChildProcess

SECONDS = 60.0
TWO_THREADS = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("both", flush=True)
time.sleep(600)
"""


def test_who_stands_behind_others_does_so_with_each_thread_and_with_his_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ChildProcess("behind", [sys.executable, "-c", TWO_THREADS], log=log) as child:
        child.start().wait_ready(lambda: "both" in log.read_text(), SECONDS)
        child.stand_behind(7)
        own = Path("/proc") / str(child.pid)
        threads = [int(thread.name) for thread in (own / "task").iterdir()]
        assert len(threads) == 2
        assert min(os.getpriority(os.PRIO_PROCESS, thread) for thread in threads) >= 7
        group = own / "autogroup"
        assert not group.exists() or group.read_text().split()[-1] == "7"
        child.stand_behind(3)  # never ahead again: who may not raise a priority would fail
        assert min(os.getpriority(os.PRIO_PROCESS, thread) for thread in threads) >= 7


def test_who_is_kept_to_a_core_has_no_thread_on_another(tmp_path: Path) -> None:
    log = tmp_path / "log"
    core = min(os.sched_getaffinity(0))
    with ChildProcess("kept", [sys.executable, "-c", TWO_THREADS], log=log) as child:
        child.start().wait_ready(lambda: "both" in log.read_text(), SECONDS)
        child.keep_to(core)
        threads = [int(thread.name) for thread in (Path("/proc") / str(child.pid) / "task").iterdir()]
        assert [os.sched_getaffinity(thread) for thread in threads] == [{core}] * 2
