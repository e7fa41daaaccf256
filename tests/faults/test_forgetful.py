"""The forgetful file system loses what was not synced and nothing else, and SQLite with it as it ought to."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.forgetful import Mount, mounted
from tests.faults.tools import need

WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute(f"PRAGMA synchronous = {sys.argv[2]}")
connection.execute("CREATE TABLE IF NOT EXISTS told (number INTEGER)")
for number in range(40):
    connection.execute("INSERT INTO told VALUES (?)", (number,))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    need("fusermount3", "/dev/fuse")
    with mounted(tmp_path / "disk", tmp_path / "backing", tmp_path / "log") as mount:
        yield mount


def test_what_was_synced_is_there_after_a_power_cut_and_nothing_else(disk: Mount) -> None:
    file = disk.mountpoint / "file"
    with file.open("wb", buffering=0) as writing:
        writing.write(b"kept" * 3000)
        os.fsync(writing.fileno())
        writing.write(b"lost" * 3000)
        writing.seek(0)
        writing.write(b"LOST")
    disk.cut("", "1", 0.0)
    assert b"kept" * 3000 == file.read_bytes()


def test_a_file_put_in_anothers_place_without_being_synced_is_empty(disk: Mount) -> None:
    (disk.mountpoint / "new").write_bytes(b"never synced")
    (disk.mountpoint / "new").rename(disk.mountpoint / "old")
    assert b"never synced" == (disk.mountpoint / "old").read_bytes()
    disk.cut("", "1", 0.0)
    assert b"" == (disk.mountpoint / "old").read_bytes()


def test_only_the_files_of_whom_the_power_is_cut_are_touched(disk: Mount) -> None:
    for name in ("one", "other"):
        (disk.mountpoint / name).write_bytes(b"written")
        (disk.mountpoint / name).rename(disk.mountpoint / f"{name}.db")
    disk.cut("/one", "1", 0.0)
    assert [b"", b"written"] == [(disk.mountpoint / f"{name}.db").read_bytes() for name in ("one", "other")]


@pytest.mark.parametrize("reached", [0.0, 0.5])
@pytest.mark.parametrize("synchronous", ["FULL", "OFF"])
def test_committed_rows_survive_where_commits_are_synced_and_only_there(
    disk: Mount, synchronous: str, reached: float
) -> None:
    database = disk.mountpoint / "some.db"
    done = subprocess.run([sys.executable, "-c", WRITER, str(database), synchronous], check=False)
    assert done.returncode == -9
    disk.cut("/some.db", "1", reached)
    try:
        with closing(sqlite3.connect(database)) as connection:
            rows = connection.execute("SELECT count(*) FROM told").fetchone()[0]
    except sqlite3.DatabaseError:
        rows = 0
    assert rows == 40 if synchronous == "FULL" else rows < 40
