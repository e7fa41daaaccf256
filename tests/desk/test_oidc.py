"""Officers sign in at an identity provider: a real one end to end, and forged answers that prove nothing."""

import hmac
import json
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import RSAKey

from demo.processes import bound_command, free_port
from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.oidc import IdentityRefused, Provider, ProviderAway, ProviderUnusable, load_provider
from kuaixiang.accounts.people import Claims
from kuaixiang.accounts.sessions import Sessions
from kuaixiang.domain.authority import Caller
from kuaixiang.domain.words import Role
from kuaixiang.web.door import Reach
from node.desk.application import application
from tests.desk.offices import Pages, pages_of
from tests.desk.test_sign_in import STAFF
from tests.federation.bureaus import COUNTY, Federation

BACK = "http://127.0.0.1/sign-in/back"
SECONDS = 60.0
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
ISSUER = "http://127.0.0.1:1"
NOBODY_LISTENS = "http://127.0.0.1:9"


def config(folder: Path, issuer: str, more: str = "") -> Path:
    file, secret = folder / "oidc.toml", folder / "oidc-secret"
    secret.write_text("a secret of two", encoding="utf-8")
    secret.chmod(0o600)
    known = f'issuer = "{issuer}"\nclient_id = "kuaixiang"\nredirect_uri = "{BACK}"\n'
    file.write_text(f'{known}client_secret_file = "oidc-secret"\n{more}', encoding="utf-8")
    return file


def groups_of(bureau: str) -> str:
    """What a provider's groups mean."""
    return f"""
[[roles]]
claim = "groups"
value = "kx-registrars"
bureau = "{bureau}"
roles = ["registrar"]
departments = ["tax-service"]
"""


GROUPS = groups_of(COUNTY)


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider_for(COUNTY) as address:
        yield address


@contextmanager
def provider_for(bureau: str) -> Iterator[str]:
    """A provider in a process of its own, which knows three people of a bureau."""
    port = free_port()
    people = (
        {
            "sub": "a",
            "preferred_username": "R01",
            "name": "任某",
            "groups": ["staff", "kx-registrars"],
            "bureau": bureau,
        },
        {"sub": "b", "preferred_username": "X99", "groups": ["kx-registrars"], "bureau": bureau},
        {"sub": "c", "preferred_username": "M01", "bureau": bureau},
    )
    claims = [part for person in people for part in ("--user-claims", json.dumps(person))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *claims]
    process = subprocess.Popen(
        bound_command(command, signal.SIGTERM), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{address}/.well-known/openid-configuration", timeout=SECONDS).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < until
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def officers(file: Path) -> Officers:
    return Officers(
        bureaus=[COUNTY],
        staff=lambda _: STAFF,
        users=None,
        sessions=Sessions(),
        tokens=None,
        provider=Provider(load_provider(file)),
    )


@pytest_asyncio.fixture
async def pages(bureaus: Federation, tmp_path: Path, issuer: str) -> AsyncIterator[Pages]:
    async with pages_of(bureaus, COUNTY) as made:
        bureaus.place.staff = lambda _: STAFF
        app = application(
            made.services, demonstration=False, officers=officers(config(tmp_path, issuer, GROUPS)), reach=Reach()
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            yield Pages(made.services, client)


async def way_back(pages: Pages, who: str, to: str = "/register") -> str:
    """Where the provider sends somebody who has signed in there."""
    sent = await pages.client.get("/sign-in/provider", params={"to": to})
    assert 303 == sent.status_code, sent.text
    asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert "S256" == asked["code_challenge_method"][0]
    assert asked["nonce"][0] != asked["state"][0]
    async with httpx.AsyncClient(timeout=SECONDS) as there:
        back = await there.post(sent.headers["location"], data={"sub": who})
    assert back.headers["location"].startswith(BACK)
    return str(back.headers["location"])


async def test_whom_the_provider_knows_signs_in_and_out_again(pages: Pages) -> None:
    assert "通过统一身份认证登录" in await pages.get("/sign-in")
    back = await way_back(pages, "a")
    page = await pages.get(back)
    assert 'content="0;url=/register"' in page
    assert "任" in await pages.get("/register")
    # The same answer once more proves nothing any more.
    assert 401 == (await pages.client.get(back)).status_code
    form = await pages.hidden("/capacity")
    await pages.client.post("/step-out", data={"csrf": form["csrf"]})
    assert 303 == (await pages.client.get("/register")).status_code
    assert "/oauth2/end_session" in await pages.get("/sign-in?out=1")


async def test_whom_the_staff_does_not_list_is_refused_whatever_the_provider_says(pages: Pages) -> None:
    answer = await pages.client.get(await way_back(pages, "b"))
    assert (401, True) == (answer.status_code, "IdentityRefused" in answer.text)


async def test_who_is_in_none_of_the_groups_is_nobody_here(pages: Pages) -> None:
    assert 401 == (await pages.client.get(await way_back(pages, "c"))).status_code


async def test_an_answer_that_another_browser_asked_for_signs_nobody_in(pages: Pages) -> None:
    back = await way_back(pages, "a")
    pages.client.cookies.clear()
    assert 401 == (await pages.client.get(back)).status_code
    assert 401 == (await pages.client.get("/sign-in/back?state=x&code=y")).status_code
    denied = await way_back(pages, "a")
    assert 401 == (await pages.client.get(denied.partition("code=")[0] + "error=access_denied")).status_code


async def test_a_provider_that_is_away_is_told_and_the_page_stays(bureaus: Federation, tmp_path: Path) -> None:
    async with pages_of(bureaus, COUNTY) as made:
        app = application(
            made.services, demonstration=False, officers=officers(config(tmp_path, NOBODY_LISTENS)), reach=Reach()
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            answer = await client.get("/sign-in/provider")
            assert (503, True) == (answer.status_code, "ProviderAway" in answer.text)
            assert 200 == (await client.get("/sign-in")).status_code


# ---------------------------------------------------------------- forged answers


class Told(Provider):
    """A provider whose answers are written here."""

    id_token = ""

    async def _fetch(self, address: str, form: Any = None, auth: Any = None) -> dict[str, Any]:
        if address.endswith("/openid-configuration"):
            return {
                "issuer": ISSUER,
                **{name: f"{ISSUER}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")},
            }
        if address.endswith("jwks_uri"):
            return {"keys": [KEY.as_dict(private=False)]}
        return {"id_token": self.id_token}


def said(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "sub": "a",
        "aud": "kuaixiang",
        "iat": now,
        "exp": now + 300,
        "preferred_username": "R01",
        "bureau": COUNTY,
    } | more


def signed(claims: dict[str, Any], key: RSAKey = KEY) -> str:
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)


def by_hand(algorithm: str, claims: dict[str, Any], key: bytes = b"") -> str:
    """A token that no library would make: unsigned, or signed with the public key as a shared secret."""
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "kid": "one"}, claims)]
    text = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = urlsafe_b64encode(hmac.digest(key, text, "sha256")).rstrip(b"=") if key else b""
    return (text + b"." + mac).decode()


OTHER_KEY = RSAKey.generate_key(2048, {"kid": "one"})
PUBLIC = KEY.as_pem(private=False)


async def flow(tmp_path: Path, **claims: Any) -> tuple[Told, str, str]:
    """A provider, the state of a flow that was begun, and the nonce it wants."""
    provider = Told(load_provider(config(tmp_path, ISSUER)))
    asked = parse_qs(urlsplit(await provider.begin("browser", "/to")).query)
    return provider, asked["state"][0], asked["nonce"][0]


async def test_a_token_that_fits_says_who_somebody_is(tmp_path: Path) -> None:
    provider, state, nonce = await flow(tmp_path)
    provider.id_token = signed(said(nonce=nonce))
    claims, to = await provider.complete("browser", {"state": state, "code": "x"})
    assert (Claims(bureau=COUNTY, actor="R01"), "/to") == (claims, to)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": ["kuaixiang", "another"]},
        {"iss": "http://127.0.0.1:2"},
        {"exp": 1_000},
        {"exp": None},
        {"iat": None},
        {"preferred_username": None},
        {"preferred_username": "a\nb"},
        {"bureau": None},
        {"bureau": [COUNTY, "110000"]},
    ],
)
async def test_a_token_that_says_something_else_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    provider, state, nonce = await flow(tmp_path)
    claims = {key: value for key, value in (said(nonce=nonce) | wrong).items() if value is not None}
    provider.id_token = signed(claims)
    with pytest.raises(IdentityRefused):
        await provider.complete("browser", {"state": state, "code": "x"})


@pytest.mark.parametrize("how", ["none", "another key", "shared key", "cut", "no token"])
async def test_a_token_that_the_provider_has_not_signed_is_refused(tmp_path: Path, how: str) -> None:
    provider, state, nonce = await flow(tmp_path)
    claims = said(nonce=nonce)
    provider.id_token = {
        "none": by_hand("none", claims),
        "another key": signed(claims, OTHER_KEY),
        "shared key": by_hand("HS256", claims, PUBLIC),
        "cut": signed(claims)[:-9],
        "no token": "",
    }[how]
    with pytest.raises(IdentityRefused):
        await provider.complete("browser", {"state": state, "code": "x"})


async def test_a_terminal_calls_with_an_id_token_as_whom_it_names(tmp_path: Path) -> None:
    made = officers(config(tmp_path, ISSUER))
    made.provider = Told(load_provider(config(tmp_path, ISSUER)))
    terminal = Caller(offices=frozenset({COUNTY}))
    caller = await made.admit(terminal, "ListCases", f"Bearer {signed(said())}")
    assert caller.officer is not None
    assert ("R01", frozenset({Role.REGISTRAR})) == (caller.officer.actor, caller.officer.roles)
    for forged in (signed(said(exp=1_000)), by_hand("none", said()), signed(said(preferred_username="X99"))):
        with pytest.raises(IdentityRefused):
            await made.admit(terminal, "ListCases", f"Bearer {forged}")


async def test_a_provider_that_does_not_answer_lets_nobody_in(tmp_path: Path) -> None:
    made = officers(config(tmp_path, NOBODY_LISTENS))
    with pytest.raises(ProviderAway):
        await made.admit(Caller(offices=frozenset({COUNTY})), "ListCases", f"Bearer {signed(said())}")


@pytest.mark.parametrize("more", ["x = 1\n", "[claims]\nx = 'y'\n", "[[roles]]\nclaim = 'g'\n", "scopes = 1\n", "x\n"])
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, more: str) -> None:
    with pytest.raises(ProviderUnusable):
        load_provider(config(tmp_path, ISSUER, more))


def test_a_secret_that_others_can_read_is_refused_and_never_shown(tmp_path: Path) -> None:
    file = config(tmp_path, ISSUER)
    assert "a secret of two" not in repr(load_provider(file))
    (tmp_path / "oidc-secret").chmod(0o640)
    with pytest.raises(ProviderUnusable, match="chmod 600") as refused:
        load_provider(file)
    assert "a secret of two" not in str(refused.value)


def test_a_provider_elsewhere_is_reached_by_tls_alone(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnusable, match="https"):
        load_provider(config(tmp_path, "http://id.example"))
