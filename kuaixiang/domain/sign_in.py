"""Signing in: what an officer who has signed in, and a channel with a token, may say of themselves.

Pure rules over a `Caller`: who acts or reads is who has signed in, and a token is good for its bureau, its channel and
its scopes. Where signing in is not required, terminals are believed and none of this is asked.
"""

from datetime import datetime
from typing import Final

from kuaixiang.domain.authority import Caller, ChannelToken, SignedIn
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import listed, name, term
from kuaixiang.domain.words import Channel, Role

PASSWORD_CHARACTERS_MIN: Final = 12
"""Length is what a password is hard to guess by; twelve characters are beyond trying out what argon2 slows down."""
PASSWORD_CHARACTERS_MAX: Final = 128
"""More would only make the hash slower to begin."""

TOKEN_DAYS_MAX: Final = 366
"""A token that nobody renews for a year has been forgotten."""


class NotSignedIn(Refused):
    """A terminal calls and nobody has signed in at it."""

    condition = Condition.UNAUTHENTICATED
    remedy = "Sign in (`kx sign-in`); a program sends its token with every call."
    remedy_chinese = "请先登录（kx sign-in）；程序须在每次调用时附上令牌。"

    def __init__(self) -> None:
        super().__init__("Nobody has signed in at this terminal.", "该终端尚未登录。")


class SignInEnded(Refused):
    """What came with a call is no sign-in or token of this service, or is one that is over."""

    condition = Condition.UNAUTHENTICATED
    remedy = "Sign in again; a channel asks its bureau for a new token."
    remedy_chinese = "请重新登录；渠道请向受理单位申请新令牌。"

    def __init__(self) -> None:
        super().__init__("This sign-in or token is not valid, or not any more.", "登录或令牌无效，或已失效。")


class WrongPassword(Refused):
    """Number and password do not fit; which of them is wrong is not told."""

    condition = Condition.UNAUTHENTICATED
    field = "password"
    remedy = "Type both again; if it is forgotten, whoever keeps the users file sets a new one (`kx staff password`)."
    remedy_chinese = "请重新输入；忘记密码请联系用户文件管理人员重置（kx staff password）。"

    def __init__(self) -> None:
        super().__init__("Bureau, number and password do not fit together.", "单位、人员编号或密码有误。")


class TooManyAttempts(Refused):
    """So many passwords were wrong that the next one is not looked at before a time."""

    condition = Condition.BUSY
    field = "password"

    def __init__(self, again_at: datetime, wait_seconds: int) -> None:
        self.again_at = again_at
        self.facts = {"retry_seconds": str(wait_seconds)}
        at = f"{again_at.astimezone(SHANGHAI):%H:%M:%S}"
        self.remedy = f"Try again after {at}; the pause ends by itself, and nobody has to lift it."
        self.remedy_chinese = f"请于 {at} 之后再试；暂停到时自动解除，无需他人解锁。"
        super().__init__("Too many wrong passwords were given here.", "密码错误次数过多，已暂停登录。")


class NewPasswordNeeded(Refused):
    """The password was set by somebody else and is good for choosing one's own, nothing more."""

    condition = Condition.STATE
    field = "new_password"
    remedy = "Give a new password together with the old one (at a terminal: `kx sign-in --new-password`)."
    remedy_chinese = "请同时填写原密码和新密码（终端：kx sign-in --new-password）。"

    def __init__(self) -> None:
        super().__init__("This password must be changed before it can be used.", "首次登录须先修改密码。")


class PasswordUnfit(Refused):
    """A new password that is too short, too long, or the officer's own number."""

    condition = Condition.INVALID
    field = "new_password"
    remedy = (
        f"Choose {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters, "
        "neither your number nor the old one, and type them twice alike."
    )
    remedy_chinese = (
        f"请设置 {PASSWORD_CHARACTERS_MIN} 至 {PASSWORD_CHARACTERS_MAX} 个字符，"
        "不得与人员编号或原密码相同，两次输入须一致。"
    )

    def __init__(self) -> None:
        super().__init__("This new password cannot be used.", "新密码不符合要求。")


class NoPasswords(Refused):
    """This service has no users file: officers sign in at the identity provider, or not at all."""

    condition = Condition.STATE
    remedy = "Sign in with the identity provider's token, if this service has one (setting `oidc`)."
    remedy_chinese = "如已配置统一身份认证（设置项 oidc），请使用其令牌登录。"

    def __init__(self) -> None:
        super().__init__("Nobody signs in with a password at this service.", "本服务未启用密码登录。")


class NotYourself(Refused):
    """A request says that somebody else acts or reads than has signed in."""

    condition = Condition.FORBIDDEN
    remedy = "Act as yourself, in a role that you have; the other person signs in himself."
    remedy_chinese = "请以本人身份、本人岗位办理；他人须自行登录。"

    def __init__(self, field: str, officer: SignedIn) -> None:
        self.field = field
        super().__init__(
            f"{officer.actor} of bureau {officer.bureau} has signed in, and the request names somebody else.",
            f"当前登录人员为单位 {officer.bureau} 的 {officer.actor}，与请求中填写的人员不一致。",
        )


class NotYourRole(Refused):
    """A request claims a role that the officer who has signed in does not have."""

    condition = Condition.FORBIDDEN
    field = "header.role"

    def __init__(self, officer: SignedIn, role: Role) -> None:
        held = sorted(officer.roles)
        self.remedy = f"Act as {', '.join(map(name, held)) or 'an officer with a role'}."
        self.remedy_chinese = f"请以{listed(map(term, held)) or '已有的岗位'}办理。"
        super().__init__(
            f"{officer.actor} does not have the role {name(role)}.", f"{officer.actor} 不具有“{term(role)}”岗位。"
        )


class NotThisOffice(Refused):
    """The certificate of the terminal is not of the bureau of whoever has signed in at it."""

    condition = Condition.FORBIDDEN
    remedy = "Use a terminal of your own bureau."
    remedy_chinese = "请使用本单位的终端。"

    def __init__(self, bureau: str) -> None:
        super().__init__(
            f"This terminal is not one of bureau {bureau}, where this sign-in or token belongs.",
            f"该登录或令牌属于单位 {bureau}，而当前终端不是该单位的终端。",
        )


class TokenNotForThis(Refused):
    """A channel's token is used for what is not its channel's."""

    condition = Condition.FORBIDDEN

    def __init__(self, token: ChannelToken, field: str = "") -> None:
        self.field = field
        scopes = sorted(token.scopes)
        self.remedy = f"It is good for {', '.join(map(name, scopes))}, as the channel {name(token.channel)}, no more."
        self.remedy_chinese = f"该令牌仅限“{term(token.channel)}”渠道用于：{listed(map(term, scopes))}。"
        super().__init__(
            f"This token of bureau {token.bureau} does not allow that.", f"单位 {token.bureau} 的该令牌无此权限。"
        )


class NoSuchToken(Refused):
    """A token is named that the bureau has not issued."""

    condition = Condition.MISSING
    field = "token_id"
    remedy = "List the tokens (`kx token list`)."
    remedy_chinese = "请查看令牌清单（kx token list）。"

    def __init__(self, bureau: str) -> None:
        super().__init__(f"Bureau {bureau} has issued no such token.", f"单位 {bureau} 没有该令牌。")


def check_password_fits(new: str, actor: str, old: str = "") -> None:
    """A new password may be used; raises `PasswordUnfit`."""
    fits = PASSWORD_CHARACTERS_MIN <= len(new) <= PASSWORD_CHARACTERS_MAX and new.isprintable()
    if not fits or new in {old, actor} or new.strip() != new:
        raise PasswordUnfit


def check_person(caller: Caller, bureau: str, actor: str, role: Role | None, field: str = "header.actor") -> None:
    """Who is said to act or read is who has signed in; raises `NotYourself`, `NotYourRole`, `TokenNotForThis`.

    A channel's token acts as `Role.CHANNEL`, under whatever number the channel gives itself. For callers of a service
    where signing in is required; a node or hub, which is nobody, is not held to it.
    """
    if caller.token is not None:
        if bureau != caller.token.bureau or role is not Role.CHANNEL:
            raise TokenNotForThis(caller.token, "header.role")
        return
    officer = caller.officer
    if officer is None:
        raise NotSignedIn
    if (bureau, actor) != (officer.bureau, officer.actor):
        raise NotYourself(field, officer)
    if role is not None and role not in officer.roles:
        raise NotYourRole(officer, role)


def check_token_channel(token: ChannelToken, channel: Channel) -> None:
    """What is registered or read came by the token's own channel; raises `TokenNotForThis`."""
    if channel is not token.channel:
        raise TokenNotForThis(token, "channel")
