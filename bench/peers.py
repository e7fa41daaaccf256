"""Registering a case, and its whole life, against two trackers that others run: `python -m bench.peers`.

Roundup and django-helpdesk are installed from PyPI into environments of their own (`bench/peers/*.lock`) and served as
their documentation has it for production: gunicorn before PostgreSQL, one worker process, for a node is one process;
Roundup also before SQLite, which its documentation calls its fastest. They are asked through their REST interfaces by
a few callers, who keep that process busy, signed in once by a session, because their check of a password at every call
would take most of their time. Ours is asked through gRPC by 64 callers over mutual TLS, its commits durable on SQLite (FULL).

A whole life is, with us: register, accept, complete, feed back, follow up, write off; with them: a new item, its assignee,
the answer, its closing. All in turns in one run.
"""

import asyncio
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import sqlalchemy as sa

from bench import nodes, results
from demo.officers import Officer, request_of
from demo.postgres import Postgres
from demo.processes import ChildProcess, free_port
from kuaixiang.domain import acts
from kuaixiang.domain.words import Channel, Role, Satisfaction, Telling
from kuaixiang.wire.v1 import case_pb2_grpc

LOCKS: Final = Path(__file__).with_name("peers")
ENVIRONMENTS: Final = Path("var/bench-peers")
PEER_CALLERS: Final = 4
"""One worker process answers one call at a time: a few callers keep it busy, more would wait for each other."""
PASSWORD: Final = "Bench-2019-Response"
READY_SECONDS_MAX: Final = 120.0
TEXT: Final = nodes.request().text
NAME: Final = nodes.request().taxpayer_name
ANSWER: Final = "已核实并处理，符合条件的予以办理。"

OURS: Final = "ours"
PEERS: Final = ("roundup", "django-helpdesk")
TARGETS: Final = {"register": "≥ 50", "life": "≥ 20"}

Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A service that is asked: a registration, and a whole life."""

    name: str
    register: Act
    live: Act
    callers: int


# ---------------------------------------------------------------- Roundup


ROUNDUP_WSGI: Final = """
from roundup.cgi.wsgi_handler import RequestDispatcher
app = RequestDispatcher({home!r})
"""


def environment_of(name: str, folder: Path) -> Path:
    """The environment of a peer, made unless it is there."""
    place = (folder / name).resolve()
    if not (place / "made").exists():
        print(f"  installing {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        lock = LOCKS / f"{name}.lock"
        command = [str(place / "bin/pip"), "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(lock)]
        subprocess.run(command, check=True)
        (place / "made").touch()
    return place / "bin"


def gunicorn(name: str, folder: Path, binaries: Path, port: int, *arguments: str) -> ChildProcess:
    """The documented server, with one worker process."""
    command = [str(binaries / "gunicorn"), "--bind", f"127.0.0.1:{port}", "--workers", "1", *arguments]
    return ChildProcess(
        name, command, log=folder / f"{name}.log", directory=folder, environment={"PATH": "/usr/bin:/bin"}
    )


def answers(address: str) -> Callable[[], bool]:
    """Whether somebody answers there at all."""

    def probe() -> bool:
        try:
            return httpx.get(address, timeout=5).status_code < 500
        except httpx.TransportError:
            return False

    return probe


def make_tracker(folder: Path, binaries: Path, port: int, database: sa.URL | None) -> Path:
    """Roundup's tracker of the classic template, in PostgreSQL or else SQLite."""
    home = folder / "tracker"
    settings = {
        "tracker_web": f"http://127.0.0.1:{port}/",
        "mail_domain": "example.org",
        "mail_host": "localhost",
        "mail_debug": str(folder / "mail.log"),
        # Its own bound on what one user may ask, as the node's is lifted here.
        "web_api_calls_per_interval": "0",
    }
    if database is not None:
        settings |= {
            "rdbms_name": "roundup",
            "rdbms_host": str(database.host),
            "rdbms_port": str(database.port),
            "rdbms_user": str(database.username),
            "rdbms_password": str(database.password),
        }
    backend = "sqlite" if database is None else "postgresql"
    told = ",".join(f"{name}={value}" for name, value in settings.items())
    admin = [str(binaries / "roundup-admin"), "-i", str(home)]
    subprocess.run([*admin, "install", "classic", backend, told], check=True, capture_output=True)
    subprocess.run([*admin, "initialise", PASSWORD], check=True, capture_output=True)
    return home


@contextlib.contextmanager
def roundup(folder: Path, environments: Path, database: sa.URL | None) -> Iterator[str]:
    """A Roundup that serves; its address."""
    folder.mkdir()
    binaries, port = environment_of("roundup", environments), free_port()
    home = make_tracker(folder, binaries, port, database)
    (folder / "wsgi.py").write_text(ROUNDUP_WSGI.format(home=str(home)), encoding="utf-8")
    address = f"http://127.0.0.1:{port}"
    with gunicorn("roundup", folder, binaries, port, "--timeout", "10", "wsgi:app") as process:
        process.start().wait_ready(answers(f"{address}/rest/"), READY_SECONDS_MAX)
        yield address


@contextlib.asynccontextmanager
async def roundup_peer(name: str, address: str) -> AsyncIterator[Peer]:
    """Roundup's REST interface, by an administrator's session."""
    headers = {"X-Requested-With": "rest", "Referer": f"{address}/", "Origin": address}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
        form = {"@action": "login", "__login_name": "admin", "__login_password": PASSWORD}
        page = await client.get("/")
        nonce = re.search(r'name="@csrf"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="@csrf"', page.text)
        if nonce is not None:
            form["@csrf"] = nonce[1] or nonce[2]
        await client.post("/", data=form)

        async def sent(method: str, path: str, said: Mapping[str, Any], **more: Any) -> Any:
            answer = await client.request(method, f"/rest/data/{path}", json=said, **more)
            answer.raise_for_status()
            return answer.json()["data"]

        async def new() -> str:
            return str((await sent("POST", "issue", {"title": f"{NAME} {TEXT}"}))["id"])

        async def changed(issue: str, said: Mapping[str, Any]) -> None:
            # It takes a change of what one has seen only: the tag of what is to be changed comes first.
            seen = await client.get(f"/rest/data/issue/{issue}")
            seen.raise_for_status()
            await sent("PATCH", f"issue/{issue}", said, headers={"If-Match": seen.headers["ETag"]})

        async def live() -> None:
            issue = await new()
            await changed(issue, {"status": "chatting", "assignedto": "1"})
            message = await sent("POST", "msg", {"content": ANSWER, "author": "1"})
            await changed(issue, {"messages": [message["id"]], "status": "done-cbb"})
            await changed(issue, {"status": "resolved"})

        yield Peer(name, new, live, PEER_CALLERS)


# ---------------------------------------------------------------- django-helpdesk


HELPDESK_SETTINGS: Final = """
SECRET_KEY = "of a benchmark on this machine only, and of no other use whatsoever"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.sites",
    "django.contrib.humanize",
    "helpdesk",
    "rest_framework",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "helpdesk_urls"
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        }},
    }}
]
HELPDESK_TEAMS_MODE_ENABLED = False
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", **{database!r}}}}}
SITE_ID = 1
LOGIN_URL = "helpdesk:login"
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
STATIC_URL = "/static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""
HELPDESK_URLS: Final = """
from django.urls import include, path
urlpatterns = [path("", include("helpdesk.urls"))]
"""
HELPDESK_FIRST: Final = """
import django
django.setup()
from django.contrib.auth import get_user_model
from helpdesk.models import Queue
user = get_user_model().objects.create_superuser("officer", "officer@example.org", {password!r})
Queue.objects.create(title="Requests", slug="requests")
"""
HELPDESK_WSGI: Final = """
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""
RESOLVED, CLOSED = 3, 4
"""Its numbers of these states."""


@contextlib.contextmanager
def helpdesk(folder: Path, environments: Path, database: sa.URL) -> Iterator[str]:
    """A django-helpdesk that serves; its address."""
    folder.mkdir()
    binaries, port = environment_of("django-helpdesk", environments), free_port()
    named = {
        "NAME": database.database,
        "HOST": database.host,
        "PORT": database.port,
        "USER": database.username,
        "PASSWORD": database.password,
    }
    for module, text in {
        "helpdesk_settings": HELPDESK_SETTINGS.format(database=named),
        "helpdesk_urls": HELPDESK_URLS,
        "first": HELPDESK_FIRST.format(password=PASSWORD),
        "wsgi": HELPDESK_WSGI,
    }.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    told = {"DJANGO_SETTINGS_MODULE": "helpdesk_settings", "PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    for command in (["-m", "django", "migrate", "--noinput"], ["first.py"]):
        subprocess.run(
            [str(binaries / "python"), *command], check=True, cwd=folder, env=told, stdout=subprocess.DEVNULL
        )
    address = f"http://127.0.0.1:{port}"
    process = gunicorn("helpdesk", folder, binaries, port, "--timeout", "60", "--preload", "wsgi:app")
    process.environment = told
    with process:
        process.start().wait_ready(answers(f"{address}/login/"), READY_SECONDS_MAX)
        yield address


@contextlib.asynccontextmanager
async def helpdesk_peer(address: str) -> AsyncIterator[Peer]:
    """The REST interface of django-helpdesk, by a session of a member of its staff."""
    async with httpx.AsyncClient(base_url=address, headers={"Referer": f"{address}/"}, timeout=60) as client:
        await client.get("/login/")
        form = {"username": "officer", "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        await client.post("/login/", data=form)
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]

        async def sent(method: str, path: str, said: Mapping[str, Any]) -> Any:
            answer = await client.request(method, f"/api/{path}/", json=said)
            answer.raise_for_status()
            return answer.json()

        async def new() -> int:
            ticket = {"queue": 1, "title": NAME, "description": TEXT, "submitter_email": "taxpayer@example.org"}
            return int((await sent("POST", "tickets", ticket | {"priority": 3}))["id"])

        async def live() -> None:
            ticket = await new()
            await sent("PATCH", f"tickets/{ticket}", {"assigned_to": 1})
            for status, comment in ((RESOLVED, ANSWER), (CLOSED, "")):
                said = {"ticket": ticket, "title": "", "comment": comment, "public": True, "new_status": status}
                await sent("POST", "followups", said)

        yield Peer("django-helpdesk, PostgreSQL", new, live, PEER_CALLERS)


# ---------------------------------------------------------------- ours


@contextlib.contextmanager
def node(folder: Path) -> Iterator[int]:
    """A node that serves; its port."""
    folder.mkdir()
    nodes.issue(folder)
    with nodes.running(folder) as port:
        yield port


@contextlib.asynccontextmanager
async def our_peer(port: int, folder: Path) -> AsyncIterator[Peer]:
    """The node's gRPC interface over mutual TLS."""
    async with nodes.channel_to(folder, port) as channel:
        stub: Any = case_pb2_grpc.CaseServiceStub(channel)
        message = nodes.request()
        registrar = Officer("R01", Role.REGISTRAR, "tax-service")
        handler = Officer("H01", Role.HANDLER, "tax-service")
        service = Officer("T01", Role.TAX_SERVICE, "tax-service")
        accept = acts.AcceptDirectly(telling=Telling.COMPLICATED, told="情况复杂，将按规定办理。")
        follow_up = acts.FollowUp(satisfaction=Satisfaction.SATISFIED, remark="纳税人表示满意")
        then = (
            (stub.AcceptDirectly, registrar, accept),
            (stub.CompleteCase, handler, acts.Complete(result=ANSWER)),
            (stub.GiveFeedback, handler, acts.GiveFeedback(told_by=Channel.HOTLINE, told="已电话告知办理结果。")),
            (stub.RecordFollowUp, service, follow_up),
            (stub.WriteOffCase, service, acts.WriteOff()),
        )

        async def live() -> None:
            case_id = (await stub.RegisterCase(message)).case.case_id
            for call, officer, act in then:
                await call(request_of(act, nodes.BUREAU, officer, case_id))

        yield Peer(OURS, lambda: stub.RegisterCase(message), live, nodes.CALLERS)


# ---------------------------------------------------------------- measuring


async def rate(act: Act, callers: int, seconds: float) -> float:
    """How often a second it is done, by so many callers who begin nothing more after these seconds."""
    done = 0
    ends = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await act()
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (time.perf_counter() - started)


async def measure(
    entered: Callable[[contextlib.AsyncExitStack], Awaitable[list[Peer]]], rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """The rates of each round, after one that is not counted."""
    rates: dict[str, dict[str, list[float]]] = {"register": {}, "life": {}}
    async with contextlib.AsyncExitStack() as stack:
        peers = await entered(stack)
        for turn in range(rounds + 1):
            for kind, found in rates.items():
                for peer in peers:
                    act = peer.register if kind == "register" else peer.live
                    measured = await rate(act, peer.callers, seconds)
                    if turn:
                        found.setdefault(peer.name, []).append(measured)
    return rates


def run(folder: Path, environments: Path, rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Starts all of them and measures them in turns."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        database = sa.make_url(postgres.create_database("helpdesk"))
        on_postgres = stack.enter_context(roundup(folder / "roundup", environments, database))
        on_sqlite = stack.enter_context(roundup(folder / "roundup-sqlite", environments, None))
        address = stack.enter_context(helpdesk(folder / "helpdesk", environments, database))
        port = stack.enter_context(node(folder / "node"))

        async def entered(stack: contextlib.AsyncExitStack) -> list[Peer]:
            return [
                await stack.enter_async_context(our_peer(port, folder / "node")),
                await stack.enter_async_context(roundup_peer("Roundup, PostgreSQL", on_postgres)),
                await stack.enter_async_context(roundup_peer("Roundup, SQLite", on_sqlite)),
                await stack.enter_async_context(helpdesk_peer(address)),
            ]

        return asyncio.run(measure(entered, rounds, seconds))


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where the peers are installed")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each peer and kind in each round")
    arguments = results.parse(parser)
    try:
        for name in PEERS:
            environment_of(name, arguments.environments)
    except subprocess.CalledProcessError:
        print("Roundup and django-helpdesk cannot be installed here: nothing is measured.")
        return
    with tempfile.TemporaryDirectory() as name:
        rates = run(Path(name), arguments.environments, arguments.rounds, arguments.seconds)
    rows = []
    for kind, found in rates.items():
        for peer, values in found.items():
            base = () if peer == OURS else found[OURS]
            rows.append(results.Row.of(f"{kind}: {peer}", values, "1/s"))
            if base:
                rows.append(results.Row.of(f"{kind}: {OURS}", base, "1/s", peer, values, TARGETS[kind]))
    results.report("peers", rows, arguments)


if __name__ == "__main__":
    main()
