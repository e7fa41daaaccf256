"""`kx sign-in`, `kx sign-out`, and where a terminal keeps what it was given: a file for its officer alone."""

import json
import os
import sys
import tempfile
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import grpc.aio
import typer
from rich.console import Console

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import Both, name, term
from kuaixiang.domain.words import Role
from kuaixiang.runtime.vault import mode_open
from kuaixiang.wire.v1 import sign_in_pb2
from kx.options import CONNECTION, Asking, asking_options, takes
from kx.output import Failed, failures_shown, print_json, wide

SIGN_INS_VARIABLE: Final = "KX_SIGN_INS"
TOKEN_VARIABLE: Final = "KX_TOKEN_FILE"  # noqa: S105 - a variable's name


def sign_ins_file() -> Path:
    """Where sign-ins are kept."""
    named = os.environ.get(SIGN_INS_VARIABLE)
    if named:
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "kuaixiang" / "sign-ins.json"


def bearer_for(endpoint: str, code: str) -> str:
    """What goes with the calls to a service: the token of the file that a program is told of, else the sign-in there.

    Empty where there is none. Raises `Failed` for a file that others can read.
    """
    named = os.environ.get(TOKEN_VARIABLE)
    if named:
        return _read_closed(Path(named)).strip()
    return _kept().get(_key(endpoint, code), "")


def keep(endpoint: str, code: str, token: str) -> Path:
    """Keeps a sign-in, for this account alone; an empty one is forgotten."""
    file = sign_ins_file()
    kept = _kept()
    kept.pop(_key(endpoint, code), None)
    if token:
        kept[_key(endpoint, code)] = token
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, made = tempfile.mkstemp(dir=file.parent, prefix=".sign-ins.")
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        json.dump(kept, opened)
    Path(made).replace(file)
    return file


def with_token() -> bool:
    """Whether a program of a channel calls, by the token that it is told of."""
    return bool(os.environ.get(TOKEN_VARIABLE))


class Signed:
    """A channel all of whose calls carry a token."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._sent: dict[str, Any] = {"metadata": (("authorization", f"Bearer {token}"),)}

    def unary_unary(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - the stub's own
        """One for one."""
        return partial(self._channel.unary_unary(*given, **named), **self._sent)

    def unary_stream(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - the stub's own
        """Many for one."""
        return partial(self._channel.unary_stream(*given, **named), **self._sent)

    def stream_unary(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - the stub's own
        """One for many."""
        return partial(self._channel.stream_unary(*given, **named), **self._sent)

    def stream_stream(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - the stub's own
        """Many for many."""
        return partial(self._channel.stream_stream(*given, **named), **self._sent)


def _key(endpoint: str, code: str) -> str:
    return f"{endpoint} {code}"


def _kept() -> dict[str, str]:
    file = sign_ins_file()
    if not file.exists():
        return {}
    try:
        kept = json.loads(_read_closed(file))
    except ValueError:
        return {}
    return {str(key): str(token) for key, token in kept.items()} if isinstance(kept, dict) else {}


def _read_closed(file: Path) -> str:
    """What a secret file holds; raises `Failed` when others can read it."""
    try:
        with file.open(encoding="utf-8") as opened:
            if mode_open(opened.fileno()):
                raise Failed(
                    Both(f"{file} can be read by others.", f"{file} 可被他人读取。"),
                    rule="FileOpenToOthers",
                    remedy=Both(f"chmod 600 {file}, and sign in again.", f"请执行 chmod 600 {file}，并重新登录。"),
                )
            return opened.read()
    except OSError as failure:
        raise Failed(
            Both(f"{file} cannot be read: {failure.strerror}.", f"{file} 无法读取：{failure.strerror}。"),
            rule="FileUnreadable",
        ) from failure


# ---------------------------------------------------------------- commands

AtHub = Annotated[
    bool, typer.Option("--hub", help="The service is a hub, --bureau its scope.", rich_help_panel=CONNECTION)
]


@takes(asking=asking_options)
def sign_in(
    *,
    asking: Asking,
    actor: Annotated[str, typer.Option(envvar="KX_ACTOR", metavar="ID", help="Your number.")],
    of: Annotated[str, typer.Option("--of", metavar="CODE", help="Your bureau, at a hub or a node of several.")] = "",
    hub: AtHub = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the password from standard input, for scripts.")] = False,
    new_password: Annotated[bool, typer.Option("--new-password", help="Choose a new password as well.")] = False,
) -> None:
    """Sign in at a node or a hub: what you do there from this account is done as you, until you sign out."""
    with failures_shown(as_json=asking.as_json):
        password, new = _passwords(stdin=stdin, new=new_password)
        request = sign_in_pb2.SignInRequest(
            bureau=of or asking.bureau, actor=actor, password=password, new_password=new
        )
        answer: sign_in_pb2.SignInResponse = _ask(asking, "SignIn", request, hub=hub)
        file = keep(asking.node, asking.bureau, answer.token)
        roles = [Role(role) for role in answer.officer.roles]
        if asking.as_json:
            print_json(
                {
                    "actor": answer.officer.actor,
                    "roles": [name(role) for role in roles],
                    "departments": list(answer.officer.departments),
                    "expires_at": answer.expires_at.ToDatetime().isoformat() + "Z",
                    "file": str(file),
                }
            )
            return
        held = ", ".join(f"{name(role)} {term(role)}" for role in roles)
        until = answer.expires_at.ToDatetime(UTC).astimezone(SHANGHAI)
        console = wide(Console(highlight=False))
        console.print(f"{answer.officer.bureau} {answer.officer.actor} {answer.officer.name}: {held}", markup=False)
        console.print(f"Signed in until {until:%Y-%m-%d %H:%M}. 已登录，有效至 {until:%Y-%m-%d %H:%M}。")


@takes(asking=asking_options)
def sign_out(
    *,
    asking: Asking,
    hub: AtHub = False,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="End all your sign-ins at this service.")] = False,
) -> None:
    """End your sign-in at a node or a hub."""
    with failures_shown(as_json=asking.as_json):
        try:
            answer = _ask(asking, "SignOut", sign_in_pb2.SignOutRequest(everywhere=everywhere), hub=hub)
        finally:
            # What the service does not know any more is of no use here either.
            keep(asking.node, asking.bureau, "")
        if asking.as_json:
            print_json({"ended": answer.ended})
            return
        typer.echo("Signed out. 已退出登录。" if answer.ended else "Nobody was signed in. 此前未登录。")


def _passwords(*, stdin: bool, new: bool) -> tuple[str, str]:
    """The password, and the new one where there is to be one; seen by nobody."""
    if stdin:
        lines = sys.stdin.read().splitlines()
        return lines[0] if lines else "", lines[1] if new and len(lines) > 1 else ""
    password = str(typer.prompt("password 密码", hide_input=True))
    return password, str(typer.prompt("new password 新密码", hide_input=True, confirmation_prompt=True)) if new else ""


def _ask(asking: Asking, method: str, request: Any, *, hub: bool) -> Any:  # noqa: ANN401 - the method's own answer
    if hub:
        from kuaixiang.wire.v1.sign_in_pb2_grpc import SignInServiceStub
        from kx.asking_hub import call

        return call(asking.node, asking.certificates, asking.bureau, method, request, stub=SignInServiceStub)
    from kx.client import ask

    return ask(asking, "SignInService", method, request)
