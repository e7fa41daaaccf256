"""SignInService: officers sign in over gRPC, and leaders issue and revoke channels' tokens."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import grpc.aio
import structlog

from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.people import Claims
from kuaixiang.accounts.sessions import Session
from kuaixiang.accounts.tokens import IssuedToken, Tokens
from kuaixiang.domain.authority import ChannelToken, SignedIn, Subject
from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import check_actor, check_department
from kuaixiang.domain.sign_in import TOKEN_DAYS_MAX, NotSignedIn, SignInEnded
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Channel, TokenScope
from kuaixiang.runtime.clock import EPOCH
from kuaixiang.runtime.server import Context, admit, caller_of
from kuaixiang.wire.codec import enum_of, timestamp
from kuaixiang.wire.v1 import case_pb2, sign_in_pb2, sign_in_pb2_grpc

_log = structlog.get_logger(__name__)


class SignInServicer(sign_in_pb2_grpc.SignInServiceServicer):
    """Answers SignInService for the bureaus of one service."""

    def __init__(self, officers: Officers, tree: Callable[[], BureauTree]) -> None:
        self._officers = officers
        self._tree = tree

    async def SignIn(self, request: sign_in_pb2.SignInRequest, context: Context) -> sign_in_pb2.SignInResponse:
        """By bureau, number and password, at a terminal of that bureau."""
        admit(context, "SignIn", Subject(bureau=request.bureau), self._tree())
        token, session = await self._officers.sign_in(
            request.bureau,
            request.actor,
            request.password,
            new_password=request.new_password,
            address=address_of(context.peer()),
        )
        return sign_in_pb2.SignInResponse(
            token=token,
            expires_at=timestamp(self._officers.sessions.ends_at(session)),
            officer=self._officer(session),
        )

    async def SignOut(self, request: sign_in_pb2.SignOutRequest, context: Context) -> sign_in_pb2.SignOutResponse:
        """Ends the sign-in that came with the call, or all of that officer's."""
        self._admit_officer(context, "SignOut")
        token = bearer_of(context)
        ended = await self._officers.sign_out(token, everywhere=request.everywhere)
        if not ended:
            raise SignInEnded
        return sign_in_pb2.SignOutResponse(ended=ended)

    async def GetSignIn(self, request: sign_in_pb2.GetSignInRequest, context: Context) -> sign_in_pb2.GetSignInResponse:
        """Who is signed in by what came with the call."""
        officer = self._admit_officer(context, "GetSignIn")
        claims = Claims(bureau=officer.bureau, actor=officer.actor, roles=officer.roles)
        return sign_in_pb2.GetSignInResponse(officer=self._described(claims))

    async def IssueToken(
        self, request: sign_in_pb2.IssueTokenRequest, context: Context
    ) -> sign_in_pb2.IssueTokenResponse:
        """A token for a channel, told once."""
        officer, tokens = self._keeper(request.header, context, "IssueToken")
        scopes = frozenset(enum_of(TokenScope, scope, "scopes") for scope in request.scopes)
        if not scopes:
            raise FieldMissing("scopes", Both("a token is good for something", "令牌须有授权范围"))
        if not 1 <= request.valid_days <= TOKEN_DAYS_MAX:
            raise FieldMalformed(
                "valid_days",
                Both(f"is not between 1 and {TOKEN_DAYS_MAX}", f"须在 1 至 {TOKEN_DAYS_MAX} 之间"),
                Both("Give the days that the token is to be good for.", "请填写令牌的有效天数。"),
            )
        allows = ChannelToken(
            bureau=officer.bureau, channel=enum_of(Channel, request.channel, "channel"), scopes=scopes
        )
        expires_at = self._officers.now() + timedelta(days=request.valid_days)
        secret, issued = await tokens.issue(allows, officer.actor, expires_at)
        _log.info(
            "A channel's token was issued.",
            action="token.issue",
            bureau=officer.bureau,
            actor=officer.actor,
            token_id=issued.token_id,
        )
        return sign_in_pb2.IssueTokenResponse(secret=secret, token=_listed(issued))

    async def RevokeToken(
        self, request: sign_in_pb2.RevokeTokenRequest, context: Context
    ) -> sign_in_pb2.RevokeTokenResponse:
        """Ends a channel's token at once."""
        officer, tokens = self._keeper(request.header, context, "RevokeToken")
        gone = await tokens.revoke(officer.bureau, request.token_id)
        _log.info(
            "A channel's token was revoked.",
            action="token.revoke",
            bureau=officer.bureau,
            actor=officer.actor,
            token_id=gone.token_id,
        )
        return sign_in_pb2.RevokeTokenResponse(token=_listed(gone))

    async def ListTokens(
        self, request: sign_in_pb2.ListTokensRequest, context: Context
    ) -> sign_in_pb2.ListTokensResponse:
        """The tokens of a bureau, the latest first."""
        officer, tokens = self._keeper(request.header, context, "ListTokens")
        return sign_in_pb2.ListTokensResponse(tokens=[_listed(issued) for issued in tokens.of(officer.bureau)])

    def _admit_officer(self, context: Context, rpc: str) -> SignedIn:
        """Who has signed in by what came with the call; raises `NotSignedIn`."""
        officer = caller_of(context).officer
        if officer is None:
            raise NotSignedIn
        admit(context, rpc, Subject(bureau=officer.bureau), self._tree())
        return officer

    def _keeper(self, header: case_pb2.ActHeader, context: Context, rpc: str) -> tuple[SignedIn, Tokens]:
        """Who manages tokens; the gate has held the header to who has signed in."""
        admit(context, rpc, Subject(bureau=header.bureau), self._tree())
        check_actor(header.actor)
        check_department(header.department, "header.department")
        officer = caller_of(context).officer
        if officer is None or self._officers.tokens is None:
            # Where terminals are believed a token would protect nothing.
            raise NotSignedIn
        return officer, self._officers.tokens

    def _officer(self, session: Session) -> sign_in_pb2.SignedInOfficer:
        return self._described(session.claims)

    def _described(self, claims: Claims) -> sign_in_pb2.SignedInOfficer:
        ones = self._officers.capacities(claims)
        roles: Any = sorted({one.role for one in ones})
        return sign_in_pb2.SignedInOfficer(
            bureau=claims.bureau,
            actor=claims.actor,
            name=ones[0].name if ones else claims.name,
            roles=roles,
            departments=sorted({one.department for one in ones}),
        )


def add_sign_in(server: grpc.aio.Server, officers: Officers | None, tree: Callable[[], BureauTree]) -> None:
    """Adds the service, where officers sign in."""
    if officers is not None:
        sign_in_pb2_grpc.add_SignInServiceServicer_to_server(SignInServicer(officers, tree), server)


def bearer_of(context: Context) -> str:
    """The secret that came with a call; empty where none did."""
    sent = dict(context.invocation_metadata() or ())
    return str(sent.get("authorization", "")).removeprefix("Bearer ").strip()


def address_of(peer: str) -> str:
    """The address of gRPC's peer, as pages have it too: of `ipv4:10.1.2.3:5000` or `ipv6:%5B::1%5D:5000`."""
    return unquote(peer.rpartition(":")[0]).partition(":")[2].strip("[]")


def _listed(issued: IssuedToken) -> sign_in_pb2.Token:
    channel: Any = issued.allows.channel
    scopes: Any = sorted(issued.allows.scopes)
    return sign_in_pb2.Token(
        token_id=issued.token_id,
        channel=channel,
        scopes=scopes,
        issued_by=issued.issued_by,
        issued_at=timestamp(issued.issued_at),
        expires_at=timestamp(issued.expires_at),
        revoked_at=timestamp(issued.revoked_at) if issued.revoked_at > EPOCH else None,
        last_used_at=timestamp(issued.used_at) if issued.used_at > EPOCH else None,
    )
