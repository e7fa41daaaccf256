"""Real processes: a second one is refused, a killed one has lost nothing it acknowledged, a failed commit ends one."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import sqlalchemy as sa

from demo.processes import bound_command
from kuaixiang.runtime.database import DatabaseHeld
from kuaixiang.runtime.writer import EXIT_COMMIT_FAILED
from node.ledger import schema
from tests.domain.story import HANGZHOU, SHANGCHENG
from tests.ledger.bureaus import BUREAUS, Desks, check_journal, desks, execute, table_rows

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 180
"""For a process to start, or to end: on a busy machine each takes many times what it needs."""
FILE_BYTES_MAX = 2 * 1024 * 1024

SQLITE_FAULT = (
    """CREATE TRIGGER fault BEFORE INSERT ON cases WHEN (SELECT count(*) FROM cases) > 40
    BEGIN SELECT RAISE(ABORT, 'the disk is on fire'); END""",
)
POSTGRES_FAULT = (
    """CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT count(*) FROM cases) > 40 THEN RAISE EXCEPTION 'the disk is on fire'; END IF; RETURN NEW; END $$""",
    "CREATE TRIGGER fault BEFORE INSERT ON cases FOR EACH ROW EXECUTE FUNCTION fault()",
)
Ack = tuple[str, str, int]


@dataclass(frozen=True)
class Worker:
    """A process that holds the ledger (`tests.ledger.worker`): what it says, and where it complains."""

    process: "subprocess.Popen[str]"
    said: IO[str]
    complaints: IO[str]

    def acknowledged(self, count: int) -> list[Ack]:
        """The next acts that it says are done."""
        return [_ack(self.said.readline()) for _ in range(count)]

    def end(self) -> tuple[list[Ack], str]:
        """What it still acknowledged before it ended, and what it complained of. A line cut short is no answer.

        Read as the lines before were: `communicate` would leave out what has been taken off the pipe with them, and
        begin within a line.
        """
        more = [_ack(line) for line in self.said if line.endswith("\n")]
        self.process.wait(SECONDS_MAX)
        self.complaints.seek(0)
        return more, self.complaints.read()


@contextmanager
def worker(mode: str, url: str) -> Iterator[Worker]:
    """A process that holds the ledger; it ends with the test whatever happens."""
    command = bound_command([sys.executable, "-m", "tests.ledger.worker", mode, url], signal.SIGKILL)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as complaints,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            begun = Worker(process, process.stdout, complaints)
            assert "open\n" == begun.said.readline(), begun.end()[1]
            yield begun
        finally:
            process.kill()


def _ack(line: str) -> Ack:
    bureau, case_id, seq = line.split()
    return bureau, case_id, int(seq)


def check_all_there(url: str, acks: list[Ack]) -> None:
    """Every acknowledged act is in the journal, every chain holds, and nothing is there by half."""
    with desks(url) as opened:
        lengths = [check_journal(opened.database, bureau) for bureau in BUREAUS]
        journal = {(row[0], row[3], row[1]) for row in table_rows(opened.database, schema.JOURNAL)}
        assert set() == set(acks) - journal
        before = opened.rows(*schema.PROJECTIONS)
        assert len(table_rows(opened.database, schema.PRIVATE)) == sum(lengths)
    closed = Desks(url)
    try:
        assert closed.ledger.rebuild() == sum(lengths)
        assert before == closed.rows(*schema.PROJECTIONS)
    finally:
        closed.ledger.close()


def test_a_second_process_on_the_same_ledger_is_refused_and_told_why(database_url: str) -> None:
    with worker("hold", database_url):
        with pytest.raises(DatabaseHeld) as refusal:
            Desks(database_url)
        second = subprocess.run(
            [sys.executable, "-m", "tests.ledger.worker", "hold", database_url],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
    name = sa.make_url(database_url).render_as_string(hide_password=True)
    sentence = f"Another ledger holds the database {name}. Stop it first, or give this one its own."
    assert (1, sentence) == (second.returncode, second.stderr.strip().splitlines()[-1])
    assert sentence == str(refusal.value)


def test_the_ledger_is_free_when_the_process_that_held_it_is_killed(database_url: str) -> None:
    with worker("hold", database_url) as holding:
        holding.process.kill()
        holding.process.wait(SECONDS_MAX)
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            Desks(database_url).ledger.close()
        except DatabaseHeld:
            # PostgreSQL notices a dead client a moment later.
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_killed_process_has_lost_nothing_that_it_acknowledged(database_url: str) -> None:
    with worker("stream", database_url) as streaming:
        acks = streaming.acknowledged(150)
        os.kill(streaming.process.pid, signal.SIGKILL)
        more, _ = streaming.end()
    assert -signal.SIGKILL == streaming.process.returncode
    acks += more
    assert {SHANGCHENG, HANGZHOU} == {bureau for bureau, _, _ in acks}
    check_all_there(database_url, acks)


def test_a_failed_commit_ends_the_process_and_leaves_nothing_half_done(database_url: str) -> None:
    Desks(database_url).ledger.close()
    sqlite = database_url.startswith("sqlite")
    execute(database_url, *(SQLITE_FAULT if sqlite else POSTGRES_FAULT))
    with worker("stream", database_url) as streaming:
        acks, complaint = streaming.end()
    assert EXIT_COMMIT_FAILED == streaming.process.returncode
    assert "A commit failed; the process ends and recovers on start." in complaint
    # The log names the fault by its code: the database's own words may quote a row.
    assert ('"code": "SQLITE_CONSTRAINT_TRIGGER"' if sqlite else '"code": "P0001"') in complaint
    assert "on fire" not in complaint
    assert acks
    execute(database_url, "DROP TRIGGER fault" if sqlite else "DROP TRIGGER fault ON cases")
    check_all_there(database_url, acks)


@pytest.mark.postgres
def test_a_lost_connection_to_postgresql_ends_the_process(fresh_postgres_url: str) -> None:
    with worker("stream", fresh_postgres_url) as streaming:
        acks = streaming.acknowledged(50)
        execute(
            fresh_postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        more, _ = streaming.end()
    assert EXIT_COMMIT_FAILED == streaming.process.returncode
    check_all_there(fresh_postgres_url, acks + more)


def test_a_write_that_the_disk_breaks_off_ends_the_process_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with worker("stream", url) as streaming:
        acks = streaming.acknowledged(20)
        # The look at the disk's room before each batch knows nothing of a limit for one file.
        resource.prlimit(streaming.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
        more, complaint = streaming.end()
    assert EXIT_COMMIT_FAILED == streaming.process.returncode
    assert '"code": "SQLITE_IOERR_WRITE"' in complaint
    check_all_there(url, acks + more)
