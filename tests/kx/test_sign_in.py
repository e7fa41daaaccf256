"""An officer signs in by the command line, and what he does goes under his name; a channel by its token."""

import base64
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from demo.processes import ChildProcess, free_port
from kuaixiang.accounts.users import User, changing, load_users
from kuaixiang.runtime import pki
from tests.kx.conftest import kx, refusal, told
from tests.node.callers import COUNTY
from tests.node.test_sign_in import PASSWORD, STAFF

READY_SECONDS = 120.0
REGISTER = (
    *("case", "register", "--taxpayer", "晨光文具店", "--contact", "15400001234", "--text", "怎样更正印花税？"),
    *("--category", "policy", "--anyway", "--json"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sign-in")


@pytest.fixture(scope="module")
def users(folder: Path) -> Path:
    """The users file, written by the command that an administrator uses."""
    file = folder / "users.toml"
    for actor in ("R01", "B01"):
        done = kx(
            *("staff", "password", actor, "--bureau", COUNTY, "--users", str(file), "--stdin", "--keep"),
            stdin=f"{PASSWORD}\n",
        )
        assert 0 == done.exit_code, done.output
        assert PASSWORD not in done.output
    assert 0o600 == file.stat().st_mode & 0o777
    return file


def hook_of_nobody(folder: Path) -> Path:
    """A web hook of the hotline whose receiver is not there."""
    secret = folder / "hotline.secret"
    secret.touch(0o600)
    secret.write_text(f"whsec_{base64.b64encode(bytes(32)).decode()}", encoding="ascii")
    file = folder / "hooks.toml"
    given = f'url = "http://127.0.0.1:{free_port()}/"\nsecret = "hotline.secret"\n'
    file.write_text(f"[{COUNTY}.hotline]\n{given}", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def terminal(folder: Path, users: Path) -> Iterator[dict[str, str]]:
    """A node in a process of its own, and the environment of a terminal that asks it."""
    (folder / "staff.toml").write_text(STAFF, encoding="utf-8")
    pki.init_authority(folder / "ca", "test")
    pki.issue(folder / "ca", folder / "node", "node", [COUNTY])
    pki.issue(folder / "ca", folder / "office", "office", [COUNTY])
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "bureaus": COUNTY,
        "database": f"sqlite:///{folder}/node.db",
        "listen": address,
        "metrics_port": 0,
        "certificates": str(folder / "node"),
        "nats_url": "",
        "staff": str(folder / "staff.toml"),
        "users": str(users),
        "hooks": str(hook_of_nobody(folder)),
        "callback_hours": 1e-6,
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (folder / "node.toml").write_text("".join(lines), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("kx")), "node", "serve", "--config", str(folder / "node.toml")]
    with ChildProcess("node", command, log=folder / "node.log") as node:
        node.start().wait_ready(lambda: "node.start" in node.log_tail(), READY_SECONDS)
        yield {
            "KX_NODE": address,
            "KX_CERTIFICATES": str(folder / "office"),
            "KX_BUREAU": COUNTY,
            "KX_PATIENCE": "60",
            "KX_SIGN_INS": str(folder / "state" / "sign-ins.json"),
            "KX_TOKEN_FILE": "",
        }


def as_officer(terminal: dict[str, str], actor: str = "R01", role: str = "registrar", **more: str) -> dict[str, str]:
    department = "leadership" if actor == "B01" else "tax-service"
    return terminal | {"KX_ACTOR": actor, "KX_ROLE": role, "KX_DEPARTMENT": department} | more


def sign_in(environment: dict[str, str], password: str = PASSWORD) -> Result:
    return kx("sign-in", "--stdin", "--json", environment=environment, stdin=f"{password}\n")


def rule(result: Result) -> Any:
    return refusal(result)["rule"]


def test_an_officer_signs_in_acts_and_signs_out(terminal: dict[str, str]) -> None:
    officer = as_officer(terminal)
    assert "NotSignedIn" == rule(kx(*REGISTER, environment=officer))
    assert "WrongPassword" == rule(sign_in(officer, "wrong"))
    answer = told(sign_in(officer))
    assert ("R01", ["registrar"]) == (answer["actor"], answer["roles"])
    file = Path(terminal["KX_SIGN_INS"])
    assert 0o600 == file.stat().st_mode & 0o777
    assert PASSWORD not in file.read_text("utf-8")
    assert told(kx(*REGISTER, environment=officer))["case"]["case_id"]
    assert "NotYourself" == rule(kx(*REGISTER, environment=officer | {"KX_ACTOR": "T01"}))
    assert "Signed out" in kx("sign-out", environment=officer).output
    assert "NotSignedIn" == rule(kx(*REGISTER, environment=officer))


def test_whoever_signs_in_is_told_until_when(terminal: dict[str, str]) -> None:
    told_so = kx("sign-in", "--stdin", environment=as_officer(terminal), stdin=f"{PASSWORD}\n").output
    assert "R01 任: registrar 受理人" in told_so
    assert re.search(r"until 20\d\d-\d\d-\d\d \d\d:\d\d\. 已登录，有效至", told_so)
    kx("sign-out", environment=as_officer(terminal))


def test_a_file_that_others_can_read_is_not_used(terminal: dict[str, str]) -> None:
    officer = as_officer(terminal)
    told(sign_in(officer))
    file = Path(terminal["KX_SIGN_INS"])
    file.chmod(0o644)
    assert "FileOpenToOthers" == rule(kx(*REGISTER, environment=officer))
    file.chmod(0o600)


def test_a_leader_issues_a_token_by_which_a_channel_registers(terminal: dict[str, str], folder: Path) -> None:
    head = as_officer(terminal, "B01", "bureau-head")
    told(sign_in(head))
    scopes = ("--scope", "register", "--scope", "status")
    issued = told(kx("token", "issue", "--channel", "hotline", *scopes, "--json", environment=head))
    secret = folder / "token"
    secret.write_text(issued["secret"], encoding="utf-8")
    secret.chmod(0o600)
    channel = as_officer(terminal, "12366", "channel", KX_TOKEN_FILE=str(secret))
    assert told(kx(*REGISTER, "--channel", "hotline", environment=channel))["case"]["case_id"]
    # A program does not read the bureau's cases: nothing is looked for, though there is one like it.
    plainly = [word for word in REGISTER if word != "--anyway"]
    assert told(kx(*plainly, "--channel", "hotline", environment=channel))["case"]["case_id"]
    (listed,) = told(kx("token", "list", "--json", environment=head))
    assert (issued["token_id"], True) == (listed["token_id"], listed["last_used_at"] is not None)
    assert issued["secret"] not in json.dumps(listed)
    assert 0 == kx("token", "revoke", issued["token_id"], environment=head).exit_code
    assert "SignInEnded" == rule(kx(*REGISTER, "--channel", "hotline", environment=channel))
    assert "hotline" not in kx("token", "list", environment=head).output
    assert "12366热线" in kx("token", "list", environment=head).output


def test_a_leader_looks_after_what_a_channel_could_not_be_told(terminal: dict[str, str]) -> None:
    head = as_officer(terminal, "B01", "bureau-head")
    registrar = as_officer(terminal, "R01", "registrar", KX_SIGN_INS=f"{terminal['KX_SIGN_INS']}.R01")
    told(sign_in(head))
    told(sign_in(registrar))
    sink = f"hook:{COUNTY}:hotline"
    until = time.monotonic() + 60
    while not (listed := told(kx("hooks", "list", "--given-up", "--json", environment=head)))["callbacks"]:
        # Of what was recorded before the node had looked at its hooks nobody is told.
        told(kx(*REGISTER, "--channel", "hotline", "--answer", "可以更正。", environment=registrar))
        assert time.monotonic() < until
        time.sleep(0.5)
    assert [sink] == listed["sinks"]
    assert {(sink, "answered_on_the_spot", True, "ConnectError")} == {
        tuple(one[part] for part in ("sink", "kind", "given_up", "failure")) for one in listed["callbacks"]
    }
    shown = kx("hooks", "list", environment=head).output
    for said in (sink, "answered-on-the-spot 当场答复", "失败原因", "推送对象", "下次推送"):
        assert said in shown, said
    seq = listed["callbacks"][0]["seq"]
    assert {"retried": 1} == told(kx("hooks", "retry", sink, "--seq", str(seq), "--json", environment=head))
    refused = kx("hooks", "drop", "hook:x", environment=head)
    assert (2, True) == (refused.exit_code, "UnknownSink" in refused.stderr)
    until = time.monotonic() + 60
    while told(kx("hooks", "list", "--json", environment=head))["callbacks"]:
        kx("hooks", "drop", sink, environment=head)
        assert time.monotonic() < until


def test_an_administrator_disables_removes_and_is_told_what_is_wrong(users: Path, folder: Path) -> None:
    copy = folder / "copy.toml"
    copy.write_bytes(users.read_bytes())
    copy.chmod(0o600)
    base = ("staff", "password", "R01", "--bureau", COUNTY, "--users", str(copy))
    assert "首次登录须修改" in kx(*base, "--stdin", stdin=f"{PASSWORD}\n").output
    assert "已停用" in kx(*base, "--disable").output
    assert load_users(copy)[COUNTY, "R01"].disabled
    assert 0 == kx(*base, "--remove").exit_code
    assert (COUNTY, "R01") not in load_users(copy)
    assert 2 == kx(*base, "--remove").exit_code
    assert 2 == kx(*base, "--stdin", stdin="short\n").exit_code
    copy.chmod(0o644)
    assert 2 == kx(*base, "--stdin", stdin=f"{PASSWORD}\n").exit_code


def test_what_officers_change_while_an_administrator_types_stays(
    users: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = folder / "typing.toml"
    copy.write_bytes(users.read_bytes())
    copy.chmod(0o600)

    def slowly(*, stdin: bool) -> str:
        assert not stdin
        with changing(copy) as known:
            known[COUNTY, "B01"] = User(known[COUNTY, "B01"].password, disabled=True)
        return PASSWORD

    monkeypatch.setattr("kx.staff._typed", slowly)
    assert 0 == kx("staff", "password", "R01", "--bureau", COUNTY, "--users", str(copy)).exit_code
    assert load_users(copy)[COUNTY, "B01"].disabled
