"""An identity provider by OpenID Connect: the code flow with PKCE, state and nonce, and ID tokens of terminals.

The file that the setting `oidc` names:

    issuer = "https://id.example"
    client_id = "kuaixiang"
    client_secret_file = "oidc-secret"          # mode 0600, beside this file; left out for a public client
    redirect_uri = "https://desk.example/sign-in/back"

    [claims]                                    # which claim says what; these are what holds when left out
    actor = "preferred_username"
    bureau = "bureau"
    name = "name"

    [[roles]]                                   # left out: the list of staff says which roles somebody has
    claim = "groups"
    value = "kx-330106-handler"
    bureau = "330106"
    roles = ["handler"]
    departments = ["policy"]

What a provider claims never goes beyond the bureau's list of staff. Authlib checks what an ID token says, joserfc its
signature; the two requests of the flow are made here, since Authlib's own client asks for a package that is another's
successor in name alone.
"""

import asyncio
import json
import secrets
import time
import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
import structlog
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from kuaixiang.accounts.people import Claims
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.domain.labels import Both, name
from kuaixiang.domain.registration import check_actor
from kuaixiang.domain.words import Role
from kuaixiang.runtime.vault import mode_open

SECONDS_MAX: Final = 5.0
"""For one answer of the provider: somebody waits in front of the page."""
BYTES_MAX: Final = 512 * 1024
"""Of one answer of the provider."""
KEYS_SECONDS: Final = 3600.0
"""The provider's address book and keys are asked for again after so long …"""
KEYS_AGAIN_SECONDS: Final = 30.0
"""… and for a key that is not among them, though not more often than this."""
FLOW_SECONDS: Final = 600.0
"""Somebody who is longer at the provider begins anew."""
FLOWS_MAX: Final = 1_000
"""People who are at the provider at one time; the one who has been there longest begins anew."""
LEEWAY_SECONDS: Final = 60
"""By which the clocks of two machines may differ."""
VERIFIER_BYTES: Final = 48
TOKEN_CHARACTERS_MAX: Final = 16_384
ALGORITHMS: Final = ["RS256", "PS256", "ES256", "EdDSA"]
"""Signatures by a key that the provider alone has: no `none`, and none by a secret that we share."""
VERIFIED_MAX: Final = 1_000
"""ID tokens of terminals whose signature need not be looked at again."""

_log: Final = structlog.get_logger(__name__)


class ProviderUnusable(Exception):
    """The file that says who the identity provider is cannot be used."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file} {problem}")


class IdentityRefused(Refused):
    """What an identity provider is said to have signed proves nothing, or nobody that works here."""

    condition = Condition.UNAUTHENTICATED
    remedy = "Sign in at the identity provider again; if it happens again, tell whoever runs this service."
    remedy_chinese = "请在统一身份认证平台重新登录；如仍失败，请联系系统管理员。"

    def __init__(self, why: Both) -> None:
        super().__init__(
            f"The identity provider's answer cannot be used: {why.english}.",
            f"统一身份认证结果不能使用：{why.chinese}。",
        )


class ProviderAway(Refused):
    """The identity provider does not answer."""

    condition = Condition.BUSY
    remedy = "Try again in a while, or sign in with a password if you have one here. Whoever is signed in stays so."
    remedy_chinese = "请稍后重试；如已设置本系统密码，可用密码登录。已登录人员不受影响。"

    def __init__(self) -> None:
        super().__init__("The identity provider does not answer.", "统一身份认证平台没有响应。")


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Who has a value in a claim has roles in a bureau."""

    claim: str
    value: str
    bureau: str
    roles: frozenset[Role]
    departments: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """Who the provider is, who we are to it, and what its claims mean."""

    issuer: str
    client_id: str
    redirect_uri: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid", "profile")
    actor: str = "preferred_username"
    bureau: str = "bureau"
    name: str = "name"
    rules: tuple[RoleRule, ...] = ()

    def claims_of(self, payload: Mapping[str, Any]) -> Claims:
        """Who somebody is here, by the claims; raises `IdentityRefused`."""
        actor = payload.get(self.actor)
        fitting = [rule for rule in self.rules if rule.value in _values(payload.get(rule.claim))]
        bureaus = {rule.bureau for rule in fitting} if self.rules else set(_values(payload.get(self.bureau)))
        if not isinstance(actor, str) or len(bureaus) != 1:
            raise IdentityRefused(
                Both("it does not say who you are in which one bureau", "其中没有说明您在哪个单位的人员编号")
            )
        try:
            check_actor(actor)
        except Refused as refusal:
            raise IdentityRefused(Both("your number there cannot be one here", "其中的人员编号不符合要求")) from refusal
        called = payload.get(self.name)
        return Claims(
            bureau=bureaus.pop(),
            actor=actor,
            name=called[:64] if isinstance(called, str) else "",
            roles=frozenset(role for rule in fitting for role in rule.roles),
            departments=frozenset(one for rule in fitting for one in rule.departments),
        )


def _values(claim: object) -> list[str]:
    ones = claim if isinstance(claim, list) else [claim]
    return [one for one in ones if isinstance(one, str)]


def load_provider(file: Path) -> ProviderConfig:
    """Reads the file; raises `ProviderUnusable`."""
    try:
        said = tomllib.loads(file.read_text("utf-8"))
        claims, rules = said.pop("claims", {}), said.pop("roles", [])
        secret_file = said.pop("client_secret_file", "")
        config = ProviderConfig(
            issuer=str(said.pop("issuer")),
            client_id=str(said.pop("client_id")),
            redirect_uri=str(said.pop("redirect_uri")),
            client_secret=_secret(file.parent / secret_file) if secret_file else "",
            scopes=tuple(map(str, said.pop("scopes", ProviderConfig.__dataclass_fields__["scopes"].default))),
            **{key: str(claims.pop(key)) for key in ("actor", "bureau", "name") if key in claims},
            rules=tuple(map(_rule, rules)),
        )
    except OSError as failure:
        raise ProviderUnusable(file, f"cannot be read: {failure.strerror}") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as failure:
        raise ProviderUnusable(file, f"does not say what it must: {type(failure).__name__} {failure}") from failure
    if said or claims:
        raise ProviderUnusable(file, f"has {', '.join(sorted({*said, *claims}))}, which is nothing of it")
    for address in (config.issuer, config.redirect_uri):
        _check_secure(file, address)
    return config


def _rule(given: dict[str, Any]) -> RoleRule:
    by_name = {name(role): role for role in Role if role is not Role.SYSTEM}
    if not is_division_code(str(given["bureau"])):
        raise ValueError("bureau has six digits")
    return RoleRule(
        claim=str(given["claim"]),
        value=str(given["value"]),
        bureau=str(given["bureau"]),
        roles=frozenset(by_name[role] for role in given["roles"]),
        departments=frozenset(map(str, given.get("departments", ()))),
    )


def _secret(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        if mode_open(opened.fileno()):
            raise ProviderUnusable(file, f"can be read by others: chmod 600 {file}")
        return opened.read().strip()


def _check_secure(file: Path, address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ProviderUnusable(file, f"names {address}: outside of this machine it must be https")


@dataclass(frozen=True, slots=True)
class Flow:
    """Somebody who is at the provider: what his answer must fit, and where he was going."""

    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    browser: str = field(repr=False)
    to: str
    began: float


@dataclass(frozen=True, slots=True)
class _Known:
    """What the provider says of itself, and since when we know it."""

    about: Mapping[str, Any]
    keys: KeySet
    since: float


class Provider:
    """One identity provider. For the event loop's thread."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self._known: _Known | None = None
        self._asking = asyncio.Lock()
        self._flows: OrderedDict[str, Flow] = OrderedDict()
        self._verified: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    # ------------------------------------------------------------ the code flow

    async def begin(self, browser: str, to: str) -> str:
        """Where a browser is sent to sign in; `browser` is what it alone has. Raises `ProviderAway`."""
        known = await self._about()
        state, nonce = secrets.token_urlsafe(VERIFIER_BYTES), secrets.token_urlsafe(VERIFIER_BYTES)
        verifier = secrets.token_urlsafe(VERIFIER_BYTES)
        self._flows[state] = Flow(nonce, verifier, browser, to, time.monotonic())
        while len(self._flows) > FLOWS_MAX:
            self._flows.popitem(last=False)
        question = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.redirect_uri,
            "scope": " ".join(self.config.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        return f"{known.about['authorization_endpoint']}?{urlencode(question)}"

    async def complete(self, browser: str, answer: Mapping[str, str]) -> tuple[Claims, str]:
        """Who has come back from the provider with that answer, and where he was going.

        Raises `IdentityRefused`, `ProviderAway`.
        """
        flow = self._flows.pop(answer.get("state", ""), None)
        if flow is None or not browser or flow.browser != browser or time.monotonic() - flow.began > FLOW_SECONDS:
            raise IdentityRefused(Both("it does not belong to a sign-in that was begun here", "与本次登录请求不符"))
        if answer.get("iss", self.config.issuer) != self.config.issuer:
            raise IdentityRefused(Both("it is another provider's", "来自其他认证平台"))
        if not answer.get("code"):
            raise IdentityRefused(Both("you were not signed in there", "未完成登录"))
        known = await self._about()
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": self.config.redirect_uri,
            "client_id": self.config.client_id,
            "code_verifier": flow.verifier,
        }
        secret = self.config.client_secret
        told = await self._fetch(
            str(known.about["token_endpoint"]),
            form=form,
            auth=httpx.BasicAuth(self.config.client_id, secret) if secret else None,
        )
        payload = await self._verified_payload(str(told.get("id_token", "")), nonce=flow.nonce)
        return self.config.claims_of(payload), flow.to

    async def leaving(self) -> str:
        """Where somebody may end his sign-in at the provider too; empty where it offers none or is away."""
        try:
            endpoint = (await self._about()).about.get("end_session_endpoint", "")
        except ProviderAway:
            return ""
        return f"{endpoint}?{urlencode({'client_id': self.config.client_id})}" if endpoint else ""

    # ------------------------------------------------------------ ID tokens of terminals

    async def claims_of(self, token: str) -> Claims:
        """Who has sent an ID token with a call; raises `IdentityRefused`, `ProviderAway`."""
        known = self._verified.get(token)
        if known is None or known["exp"] <= time.time():
            known = await self._verified_payload(token)
            self._verified[token] = known
            while len(self._verified) > VERIFIED_MAX:
                self._verified.popitem(last=False)
        return self.config.claims_of(known)

    async def _verified_payload(self, token: str, nonce: str = "") -> Mapping[str, Any]:
        """What an ID token says, which the provider has signed for us; raises `IdentityRefused`."""
        if not token or len(token) > TOKEN_CHARACTERS_MAX:
            raise IdentityRefused(Both("there is no ID token in it", "其中没有身份令牌"))
        known = await self._about()
        try:
            signed = self._decoded(token, known.keys)
        except (JoseError, ValueError):
            # A key that was changed since; not asked for again at every forged token.
            known = await self._about(older_than=KEYS_AGAIN_SECONDS)
            try:
                signed = self._decoded(token, known.keys)
            except (JoseError, ValueError):
                raise IdentityRefused(Both("its signature is not the provider's", "签名无效")) from None
        try:
            CodeIDToken(
                signed.claims,
                signed.header,
                {"iss": {"essential": True, "value": self.config.issuer}, "aud": {"value": self.config.client_id}},
                {"nonce": nonce, "client_id": self.config.client_id},
            ).validate(leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError) as wrong:
            _log.warning("An ID token was refused.", action="oidc.refused", reason=type(wrong).__name__)
            raise IdentityRefused(
                Both("it is not meant for this service, or not any more", "身份令牌不是签发给本系统的，或已过期")
            ) from None
        return signed.claims

    @staticmethod
    def _decoded(token: str, keys: KeySet) -> jwt.Token:
        return jwt.decode(token, keys, algorithms=ALGORITHMS)

    # ------------------------------------------------------------ what the provider says of itself

    async def _about(self, older_than: float = KEYS_SECONDS) -> _Known:
        async with self._asking:
            known = self._known
            if known is not None and time.monotonic() - known.since < older_than:
                return known
            about = await self._fetch(f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != self.config.issuer or not {
                "authorization_endpoint",
                "token_endpoint",
                "jwks_uri",
            } <= set(about):
                raise IdentityRefused(Both("the provider says it is another one", "认证平台标识与配置不一致"))
            try:
                keys = KeySet.import_key_set(await self._fetch(str(about["jwks_uri"])))  # type: ignore[arg-type]
            except (JoseError, ValueError, TypeError, KeyError) as wrong:
                raise ProviderAway from wrong
            self._known = known = _Known(about, keys, time.monotonic())
            return known

    async def _fetch(
        self, address: str, form: Mapping[str, str] | None = None, auth: httpx.Auth | None = None
    ) -> dict[str, Any]:
        """One answer of the provider as JSON; raises `ProviderAway`, and `IdentityRefused` for a refused code."""
        try:
            async with httpx.AsyncClient(timeout=SECONDS_MAX, follow_redirects=False, trust_env=False) as client:
                answer = await asyncio.wait_for(
                    client.get(address)
                    if form is None
                    else client.post(address, data=dict(form), auth=auth or httpx.Auth()),
                    SECONDS_MAX,
                )
        except (httpx.HTTPError, TimeoutError) as failure:
            _log.warning("The identity provider does not answer.", action="oidc.away", reason=type(failure).__name__)
            raise ProviderAway from failure
        if form is not None and answer.is_client_error:
            raise IdentityRefused(Both("the provider does not know this sign-in", "认证平台不认可本次登录"))
        try:
            told = json.loads(answer.content) if answer.is_success and len(answer.content) <= BYTES_MAX else None
        except ValueError:
            told = None
        if not isinstance(told, dict):
            _log.warning("The identity provider's answer is none.", action="oidc.away", status=answer.status_code)
            raise ProviderAway
        return told
