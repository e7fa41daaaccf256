"""The NATS sites and child processes of the harness do what the tests built on them take for granted."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, inspect

from demo.postgres import Postgres
from demo.processes import (
    ChildDied,
    ChildNotReady,
    ChildNotRunning,
    ChildProcess,
    ChildRunning,
    children_of,
    free_port,
    has_ended,
)
from demo.sites import (
    NATS_SERVER_VARIABLE,
    LinkProxy,
    NatsServerMissing,
    NatsServerUnfit,
    NoLink,
    NoSuchSite,
    Sites,
    nats_server_binary,
)

SITE = "110000"


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def leaves_are(sites: Sites, count: int) -> None:
    """The national site counts so many: it takes a link for one a moment after the province does."""
    until(lambda: sites.national.leaf_count == count)


@pytest.mark.nats
def test_every_province_is_linked_to_the_national_site(nats_sites: Sites) -> None:
    nats_sites.wait_linked()
    leaves_are(nats_sites, len(nats_sites.provinces))
    assert [1, 1] == [site.leaf_count for site in nats_sites.provinces]


@pytest.mark.nats
def test_a_cut_link_is_down_at_both_ends_and_the_other_stays_up(nats_sites: Sites) -> None:
    nats_sites.cut_link(SITE)
    try:
        until(lambda: not nats_sites.linked(SITE))
        leaves_are(nats_sites, 1)
        assert nats_sites.linked("330000")
        time.sleep(3)  # longer than a leaf waits before it dials again
        assert not nats_sites.linked(SITE)
    finally:
        nats_sites.restore_link(SITE)
    nats_sites.wait_linked(SITE)
    leaves_are(nats_sites, 2)


@pytest.mark.nats
def test_a_killed_site_comes_back_with_its_ports_and_its_link(nats_sites: Sites) -> None:
    before = nats_sites[SITE].url
    nats_sites.kill_site(SITE)
    assert not nats_sites[SITE].healthy
    nats_sites.start_site(SITE)
    nats_sites.wait_linked(SITE)
    assert before == nats_sites[SITE].url
    nats_sites.restart_site(SITE)
    nats_sites.wait_linked(SITE)


@pytest.mark.nats
def test_the_national_site_has_no_link_to_cut_and_unknown_sites_are_named(nats_sites: Sites) -> None:
    with pytest.raises(NoLink):
        nats_sites.cut_link("000000")
    with pytest.raises(NoSuchSite, match="999999"):
        nats_sites.kill_site("999999")


def test_whoever_is_being_put_through_when_the_links_are_closed_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = threading.Event()

    async def nobody_answers(*_: object) -> None:
        dialled.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("demo.sites.asyncio.open_connection", nobody_answers)
    proxy, port = LinkProxy(), free_port()
    proxy.open(port, free_port())
    with socket.create_connection(("127.0.0.1", port), 60) as caller:
        assert dialled.wait(60)
        proxy.close()
        with pytest.raises(ConnectionResetError):
            caller.recv(1)


def test_an_old_nats_server_is_refused_with_the_version_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    old.chmod(0o755)
    monkeypatch.setenv(NATS_SERVER_VARIABLE, str(old))
    with pytest.raises(NatsServerUnfit, match=r"v2\.9\.10, at least 2\.15\.1"):
        nats_server_binary()
    monkeypatch.setenv(NATS_SERVER_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(NatsServerMissing):
        nats_server_binary()


def test_a_child_that_dies_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = ChildProcess("child", ["sh", "-c", "echo no such bureau; exit 3"], log=tmp_path / "child.log").start()
    with pytest.raises(ChildDied, match=r"status 3(.|\n)*no such bureau"):
        child.wait_ready(lambda: False)


def test_a_child_that_is_never_ready_is_reported_and_goes_on(tmp_path: Path) -> None:
    with ChildProcess("child", ["sleep", "100"], log=tmp_path / "child.log").start() as child:
        with pytest.raises(ChildNotReady):
            child.wait_ready(lambda: False, 0.1)
        assert child.alive
        with pytest.raises(ChildRunning):
            child.start()
    assert not child.alive
    with pytest.raises(ChildNotRunning):
        child.kill()


def test_a_child_that_ignores_its_signal_is_killed_and_a_paused_one_is_stopped(tmp_path: Path) -> None:
    deaf = ChildProcess("deaf", ["sh", "-c", "trap '' TERM; echo deaf; sleep 100"], log=tmp_path / "deaf.log").start()
    deaf.wait_ready(lambda: "deaf" in deaf.log_tail())
    assert -signal.SIGKILL == deaf.stop(0.2)
    paused = ChildProcess("paused", ["sleep", "100"], log=tmp_path / "paused.log").start()
    paused.pause()
    assert -signal.SIGTERM == paused.stop(60)


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    child = ChildProcess("child", ["sleep", "100"], log=tmp_path / "child.log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert child.alive
    child.stop()


def test_no_child_outlives_a_killed_harness(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from demo.processes import ChildProcess\n"
        f"child = ChildProcess('child', ['sleep', '100'], log=Path({str(tmp_path / 'child.log')!r})).start()\n"
        "print(child.pid, flush=True); time.sleep(100)"
    )
    harness = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    with harness.stdout:
        pid = int(harness.stdout.readline())
    # The wrapper needs a moment to become the program and ask for its signal.
    until(lambda: psutil.Process(pid).name() == "sleep")
    harness.kill()
    harness.wait(60)
    until(lambda: has_ended(pid))


def test_free_ports_are_never_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)


def test_a_free_port_is_not_given_to_another_harness_while_this_one_runs() -> None:
    mine = free_port()
    few = range(mine, mine + 1)
    program = (
        "from demo import processes\n"
        f"processes.FREE_PORTS = {few!r}\n"
        "try:\n"
        "    while True: print(processes.free_port())\n"
        "except processes.NoFreePort: pass"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert str(mine) not in done.stdout.split()


@pytest.mark.postgres
def test_an_embedded_postgres_keeps_what_it_committed_over_a_kill() -> None:
    with Postgres() as server:
        url = server.create_database("kept").replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE entry (seq bigint PRIMARY KEY)")
            connection.execute("INSERT INTO entry SELECT generate_series(1, 100)")
        server.kill()
        server.start()
        with psycopg.connect(url) as connection:
            assert (100,) == connection.execute("SELECT count(*) FROM entry").fetchone()
            assert ("on", "on") == connection.execute(
                "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
            ).fetchone()
        directory = server.directory
    assert not directory.exists()


@pytest.mark.postgres
def test_a_killed_postgres_is_gone_with_its_backends_however_late_they_notice() -> None:
    with Postgres() as server:
        backends = children_of(server.process.pid)
        late = backends[0]
        os.kill(late, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (late, signal.SIGCONT)).start()
        server.kill()
        assert [] == [one for one in backends if not has_ended(one)]
        server.start()


def test_a_fresh_database_is_empty_and_of_the_kind_asked_for(database_url: str, request: pytest.FixtureRequest) -> None:
    engine = create_engine(database_url)
    try:
        assert [] == inspect(engine).get_table_names()
        assert engine.dialect.name in request.node.name
    finally:
        engine.dispose()


def test_the_harness_gives_its_children_a_session_of_their_own(tmp_path: Path) -> None:
    with ChildProcess("child", ["sleep", "100"], log=tmp_path / "child.log").start() as child:
        assert os.getsid(child.pid) == child.pid
