"""Supervisors sign in at the board: each sees his own bureau and what is under it, and programs are nobody there."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from hub.board.board import Board
from hub.board.people import AT_THE_BOARD
from hub.settings import HubSettings
from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.sessions import Sessions
from kuaixiang.accounts.users import User, UsersFile, save_users
from kuaixiang.facts.staff import parse_staff
from kuaixiang.runtime.settings import WrongSetting, read_settings
from tests.hub.boards import DECEMBER_3, TREE, Bench, two_months
from tests.hub.journals import BEIJING, HEADQUARTERS

PASSWORD = "correct horse battery"
STAFF = """
version = "1"
[000000.departments]
tax-service = { name = "纳税服务司", kind = "tax-service" }
[000000.officers]
S01 = { name = "司", roles = ["supervisor"], departments = ["tax-service"] }
H01 = { name = "胡", roles = ["handler"], departments = ["tax-service"] }
[110000.departments]
tax-service = { name = "纳税服务处", kind = "tax-service" }
[110000.officers]
S01 = { name = "隋", roles = ["supervisor", "auditor"], departments = ["tax-service"] }
"""


@pytest_asyncio.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    bench = Bench(f"sqlite:///{tmp_path}/hub.db")
    bench.feed(*two_months())
    file = tmp_path / "users.toml"
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    people = [(HEADQUARTERS, "S01"), (HEADQUARTERS, "H01"), (BEIJING, "S01")]
    save_users(file, {person: User(quick) for person in people})
    officers = Officers(
        bureaus=TREE.subtree(HEADQUARTERS),
        staff=parse_staff(STAFF).__getitem__,
        users=UsersFile(file),
        sessions=Sessions(),
        tokens=None,
        roles=AT_THE_BOARD,
    )
    board = Board(
        statistics=bench.statistics,
        trees=bench.store.trees,
        scope=HEADQUARTERS,
        now=lambda: DECEMBER_3,
        demonstration=False,
        officers=officers,
    )
    transport = httpx.ASGITransport(board.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    await bench.close()


async def sign_in(visitor: httpx.AsyncClient, bureau: str, actor: str) -> httpx.Response:
    page = (await visitor.get("/sign-in")).text
    form = page.partition('name="form" value="')[2].partition('"')[0]
    given = {"form": form, "bureau": bureau, "actor": actor, "password": PASSWORD, "to": "/board"}
    return await visitor.post("/sign-in", data=given)


async def test_a_supervisor_signs_in_and_sees_what_is_under_his_bureau(visitor: httpx.AsyncClient) -> None:
    assert "/sign-in?to=%2Fboard" == (await visitor.get("/board")).headers["location"]
    assert "/board" == (await sign_in(visitor, HEADQUARTERS, "S01")).headers["location"]
    assert "浙江" in (await visitor.get("/board")).text


async def test_a_supervisor_of_a_province_sees_no_other_one(visitor: httpx.AsyncClient) -> None:
    answer = await sign_in(visitor, BEIJING, "S01")
    assert "/capacity?to=%2Fboard" == answer.headers["location"]
    assert 200 == (await visitor.get("/board")).status_code
    assert 403 == (await visitor.get("/board", params={"scope": HEADQUARTERS})).status_code


async def test_who_handles_cases_and_supervises_nobody_has_no_place_at_the_board(visitor: httpx.AsyncClient) -> None:
    assert 401 == (await sign_in(visitor, HEADQUARTERS, "H01")).status_code


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"board": "0.0.0.0:8443"}, "set users or oidc"),
        ({"users": "users.toml"}, "users: needs staff"),
        ({"sign_in": True}, "sign_in: is required"),
        ({"users": "users.toml", "staff": "staff.toml", "demonstration": True}, "demonstration"),
        ({"users": "users.toml", "staff": "staff.toml", "board": "0.0.0.0:8443"}, "without TLS"),
        (
            {"users": "users.toml", "staff": "staff.toml", "board": "0.0.0.0:8443", "pages_certificates": "."},
            "pages_hosts",
        ),
    ],
)
def test_pages_leave_the_machine_with_sign_in_a_certificate_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, object], names: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_users(tmp_path / "users.toml", {})
    (tmp_path / "staff.toml").write_text(STAFF, encoding="utf-8")
    with pytest.raises(WrongSetting, match=names):
        read_settings(HubSettings, None, **given)


def test_pages_that_have_all_three_may_be_reached_from_elsewhere(tmp_path: Path) -> None:
    save_users(tmp_path / "users.toml", {})
    (tmp_path / "staff.toml").write_text(STAFF, encoding="utf-8")
    settings = read_settings(
        HubSettings,
        users=tmp_path / "users.toml",
        staff=tmp_path / "staff.toml",
        board="0.0.0.0:8443",
        pages_certificates=tmp_path,
        pages_hosts="board.example, 10.1.2.3",
    )
    assert ("board.example", "10.1.2.3") == settings.pages_hosts
    assert "sqlite:///var/hub-accounts.db" == settings.accounts_url(settings.database)
    assert "postgresql://a/b" == settings.accounts_url("postgresql://a/b")
