"""Officers sign in at the desk: who is who, for how long, and what becomes of a form whose session has ended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from kuaixiang.accounts.lockout import Lockout
from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.sessions import Sessions
from kuaixiang.accounts.store import Store
from kuaixiang.accounts.users import User, UsersFile, UsersFileUnusable, load_users, save_users
from kuaixiang.domain.sign_in import NoPasswords, TooManyAttempts
from kuaixiang.domain.staff import Department, Officer, Staff
from kuaixiang.domain.words import DepartmentKind, Role
from kuaixiang.web.door import Kept, Reach, kept_in
from node.desk.application import application
from tests.desk.offices import Pages, pages_of
from tests.federation.bureaus import COUNTY, Federation

PASSWORD = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
STAFF = Staff(
    version="1",
    departments={
        code: Department(code=code, name=name, kind=kind)
        for code, name, kind in (
            ("tax-service", "纳税服务股", DepartmentKind.TAX_SERVICE),
            ("policy", "税政股", DepartmentKind.POLICY),
        )
    },
    officers={
        "R01": Officer(
            actor="R01", name="任", roles=frozenset({Role.REGISTRAR}), departments=frozenset({"tax-service"})
        ),
        "M01": Officer(
            actor="M01",
            name="毛",
            roles=frozenset({Role.HANDLER, Role.TAX_SERVICE}),
            departments=frozenset({"policy"}),
        ),
        "C01": Officer(actor="C01", name="热线", roles=frozenset({Role.CHANNEL}), departments=frozenset({"policy"})),
    },
)
REGISTRATION = {
    "taxpayer_name": "芃沅文具店",
    "contact": "15400001234",
    "text": "怎样更正已经申报的印花税？",
    "category": "1",
    "channel": "4",
}


class Clock:
    """The machine's time, which a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 9, 21, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


@asynccontextmanager
async def signing_in(
    bureaus: Federation, file: Path, clock: Clock, store: Store | None = None, **reach: Any
) -> AsyncIterator[Pages]:
    async with pages_of(bureaus, COUNTY) as open_pages:
        bureaus.place.staff = lambda _: STAFF
        officers = Officers(
            bureaus=[COUNTY],
            staff=bureaus.place.staff,
            users=UsersFile(file),
            sessions=Sessions(store, now=clock),
            tokens=None,
            now=clock,
            store=store,
        )
        app = application(open_pages.services, demonstration=False, officers=officers, reach=Reach(**reach))
        transport = httpx.ASGITransport(app)
        scheme = "https" if reach.get("secure") else "http"
        async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://127.0.0.1") as client:
            yield Pages(open_pages.services, client)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "users.toml"
    save_users(made, {(COUNTY, actor): User(HASH) for actor in ("R01", "M01", "C01", "Z01")})
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def pages(bureaus: Federation, file: Path, clock: Clock) -> AsyncIterator[Pages]:
    async with signing_in(bureaus, file, clock) as made:
        yield made


async def sign_in(pages: Pages, actor: str = "R01", password: str = PASSWORD, **more: str) -> httpx.Response:
    form = await pages.hidden("/sign-in")
    given = {"bureau": COUNTY, "actor": actor, "password": password}
    return await pages.client.post("/sign-in", data=form | given | more)


def bearing(pages: Pages, token: str) -> None:
    """A browser that has this cookie and no other."""
    pages.client.cookies.clear()
    pages.client.cookies.set(f"kx-desk-{COUNTY}", token)


async def test_who_gives_number_and_password_is_at_the_desk_in_his_one_role(pages: Pages) -> None:
    assert 303 == (await pages.client.get("/register")).status_code
    answer = await sign_in(pages, to="/register")
    assert (303, "/register") == (answer.status_code, answer.headers["location"])
    page = await pages.get("/register")
    assert "任" in page
    assert "受理人" in page
    done = await pages.fill_in("/register", **REGISTRATION)
    assert 303 == done.status_code


async def test_who_has_several_roles_chooses_one_and_may_choose_again(pages: Pages) -> None:
    answer = await sign_in(pages, "M01", to="/search")
    assert "/capacity?to=%2Fsearch" == answer.headers["location"]
    form = await pages.hidden("/capacity?to=/search") | {"role": "TAX_SERVICE", "department": "policy"}
    answer = await pages.client.post("/capacity", data=form)
    assert (303, "/search") == (answer.status_code, answer.headers["location"])
    assert "纳税服务部门" in await pages.get("/search")
    # A role that he does not have is not one to choose.
    form = await pages.hidden("/capacity") | {"role": "BUREAU_HEAD", "department": "policy"}
    assert 200 == (await pages.client.post("/capacity", data=form)).status_code
    assert "主要领导" not in (await pages.get("/search")).partition('class="who"')[2].partition("</span>")[0]


@pytest.mark.parametrize(
    ("actor", "password"), [("R01", "wrong"), ("X99", PASSWORD), ("Z01", PASSWORD), ("C01", PASSWORD)]
)
async def test_a_wrong_password_an_unknown_number_and_who_has_no_role_here_are_told_alike(
    pages: Pages, actor: str, password: str
) -> None:
    answer = await sign_in(pages, actor, password)
    assert (401, True) == (answer.status_code, "WrongPassword" in answer.text)
    assert password not in answer.text
    assert 303 == (await pages.client.get("/")).status_code


async def test_whoever_is_to_choose_a_new_password_is_told_what_it_takes(pages: Pages) -> None:
    page = (await sign_in(pages, new_password="short", new_again="short")).text
    assert "PasswordUnfit" in page
    assert "<details open>" in page
    assert ">原密码</label>" in page
    assert "12 至 128 个字符，不得与人员编号或原密码相同。" in page


async def test_a_form_of_another_browser_signs_nobody_in(pages: Pages) -> None:
    given = {"bureau": COUNTY, "actor": "R01", "password": PASSWORD, "form": "somebody-elses"}
    answer = await pages.client.post("/sign-in", data=given)
    assert (403, True) == (answer.status_code, "NotOurForm" in answer.text)


async def test_signing_in_again_makes_another_token_and_ends_the_first(pages: Pages) -> None:
    await sign_in(pages)
    first = pages.client.cookies["kx-desk-" + COUNTY]
    await sign_in(pages)
    second = pages.client.cookies["kx-desk-" + COUNTY]
    assert first != second
    bearing(pages, first)
    assert 303 == (await pages.client.get("/")).status_code


async def test_who_signs_out_is_out(pages: Pages) -> None:
    await sign_in(pages)
    token = pages.client.cookies["kx-desk-" + COUNTY]
    form = await pages.hidden("/capacity")
    answer = await pages.client.post("/step-out", data={"csrf": form["csrf"]})
    assert "/sign-in?out=1" == answer.headers["location"]
    bearing(pages, token)
    assert 303 == (await pages.client.get("/")).status_code


async def test_a_session_ends_when_it_is_idle_and_a_day_after_it_began(pages: Pages, clock: Clock) -> None:
    await sign_in(pages)
    for _ in range(2):
        clock.at += timedelta(hours=9)
        await pages.get("/")
    clock.at += timedelta(hours=7)
    assert 303 == (await pages.client.get("/")).status_code
    await sign_in(pages)
    clock.at += timedelta(hours=10, seconds=1)
    assert 303 == (await pages.client.get("/")).status_code


async def test_what_was_typed_when_the_session_had_ended_is_sent_once_more(pages: Pages, clock: Clock) -> None:
    await sign_in(pages)
    form = await pages.hidden("/register") | REGISTRATION
    clock.at += timedelta(hours=11)
    ended = await pages.client.post("/register", data=form)
    assert (401, True) == (ended.status_code, "已填写的内容仍保留" in ended.text)
    hidden = dict(_hidden(ended.text))
    assert "csrf" not in hidden["kept"]
    again = await pages.client.post("/sign-in", data=hidden | {"bureau": COUNTY, "actor": "R01", "password": "wrong"})
    assert 401 == again.status_code
    hidden = dict(_hidden(again.text))
    back = await pages.client.post("/sign-in", data=hidden | {"bureau": COUNTY, "actor": "R01", "password": PASSWORD})
    assert (200, True) == (back.status_code, 'action="/register"' in back.text)
    done = await pages.client.post("/register", data=dict(_hidden(back.text)))
    assert 303 == done.status_code
    assert "芃" in await pages.get(done.headers["location"])


def _hidden(page: str) -> list[tuple[str, str]]:
    inputs = page.partition("<main")[2].split('<input type="hidden" name="')[1:]
    return [(one.partition('"')[0], unescape(one.partition('value="')[2].partition('"')[0])) for one in inputs]


@pytest.mark.parametrize(
    "packed",
    ["", "[]", "{", '["/x"]', '["/x", [["a"]]]', "[1, []]", '["/x", [["csrf", "y"], ["password", "z"]]]', "[" * 9_000],
)
def test_a_kept_form_that_no_page_of_ours_has_written_is_none(packed: str) -> None:
    assert kept_in(packed) in {None, Kept("/x", ())}


async def test_a_page_that_asks_by_itself_is_not_led_away_when_the_session_has_ended(pages: Pages) -> None:
    for sign in ("1", "typing"):
        headers = {"HX-Request": "true", "HX-Request-Type": "partial", "kx-by-itself": sign}
        for asked in (
            pages.client.get("/", headers=headers),
            pages.client.post("/register/duplicates", headers=headers),
        ):
            answer = await asked
            assert (204, "") == (answer.status_code, answer.text)


async def test_a_restart_ends_no_session_and_lifts_no_pause(
    bureaus: Federation, file: Path, clock: Clock, database_url: str
) -> None:
    token = ""
    for again in (False, True):
        store = Store(database_url)
        async with signing_in(bureaus, file, clock, store) as pages:
            if not again:
                await sign_in(pages)
                token = pages.client.cookies["kx-desk-" + COUNTY]
                for _ in range(6):
                    await sign_in(pages, "M01", "wrong")
            bearing(pages, token)
            assert "任" in await pages.get("/")
            paused = await sign_in(pages, "M01")
            assert (503, True) == (paused.status_code, "无需他人解锁" in paused.text)
        await store.close()


async def test_by_tls_the_cookie_is_for_tls_alone(bureaus: Federation, file: Path, clock: Clock) -> None:
    async with signing_in(bureaus, file, clock, secure=True, hosts=frozenset({"desk.example"})) as pages:
        answer = await sign_in(pages)
        cookie = next(one for one in answer.headers.get_list("set-cookie") if "-form" not in one)
        assert cookie.startswith(f"__Host-kx-desk-{COUNTY}=kx-session-")
        assert all(word in cookie for word in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"))
        assert 200 == (await pages.client.get("/sign-in", headers={"host": "desk.example:443"})).status_code
        assert 403 == (await pages.client.get("/sign-in", headers={"host": "evil.example"})).status_code


async def test_who_was_disabled_is_out_and_a_file_that_others_may_read_changes_nothing(file: Path) -> None:
    users = UsersFile(file)
    save_users(file, {**load_users(file), (COUNTY, "R01"): User(HASH, disabled=True)})
    await users.step()
    assert (None, HASH) == (users.of(COUNTY, "R01"), getattr(users.of(COUNTY, "M01"), "password", ""))
    file.chmod(0o640)
    await users.step()
    assert users.of(COUNTY, "M01") is not None
    with pytest.raises(UsersFileUnusable, match="chmod 600"):
        load_users(file)


@pytest.mark.parametrize(
    "text", ["x", "[x]\n", f'[{COUNTY}]\na = "b"\n', f"[{COUNTY}]\na = {{ password = 'plain' }}\n"]
)
def test_a_users_file_that_says_something_else_is_refused_without_telling_what(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsersFileUnusable) as refused:
        load_users(file)
    assert "plain" not in str(refused.value)


def test_a_hash_is_not_shown_by_accident() -> None:
    assert HASH not in repr(User(HASH))


def test_pauses_grow_and_are_forgotten(clock: Clock) -> None:
    lockout, account = Lockout(clock), (COUNTY, "R01")
    for _ in range(4):
        lockout.failed(account, "")
    lockout.check(account, "")
    waits = []
    for _ in range(10):
        lockout.failed(account, "")
        with pytest.raises(TooManyAttempts) as refused:
            lockout.check(account, "")
        waits.append(int(refused.value.facts["retry_seconds"]))
    assert [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] == waits
    clock.at += timedelta(seconds=301)
    lockout.check(account, "")
    clock.at += timedelta(hours=1)
    lockout.failed(account, "")
    lockout.check(account, "")


def test_an_address_that_tries_many_numbers_waits(clock: Clock) -> None:
    lockout = Lockout(clock)
    for number in range(21):
        lockout.failed((COUNTY, f"R{number}"), "10.0.0.1")
    with pytest.raises(TooManyAttempts):
        lockout.check((COUNTY, "another"), "10.0.0.1")
    lockout.check((COUNTY, "another"), "10.0.0.2")


async def test_without_a_users_file_no_password_is_looked_at() -> None:
    officers = Officers(bureaus=[COUNTY], staff=lambda _: STAFF, users=None, sessions=Sessions(), tokens=None)
    with pytest.raises(NoPasswords):
        await officers.sign_in(COUNTY, "R01", PASSWORD)


def test_what_is_remembered_of_a_wrong_password_is_small_and_counts_all_the_same(clock: Clock) -> None:
    lockout = Lockout(clock)
    account = (COUNTY, "x" * 2_000_000)
    for _ in range(5):
        lockout.failed(account, "a" * 2_000_000)
    assert sum(map(len, lockout._failures)) < 1_000
    with pytest.raises(TooManyAttempts):
        lockout.check(account, "")
    lockout.succeeded(account)
    lockout.check(account, "")
