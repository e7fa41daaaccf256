"""Officers sign in at a node over gRPC: who acts is who has signed in, a channel's token is good for what it says."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from argon2 import PasswordHasher

from kuaixiang.accounts import lockout
from kuaixiang.accounts.users import User, load_users, save_users
from kuaixiang.domain.authority import NotForOfficer, NotForToken
from kuaixiang.domain.errors import FieldMissing
from kuaixiang.domain.sign_in import (
    NewPasswordNeeded,
    NoSuchToken,
    NotSignedIn,
    NotThisOffice,
    NotYourRole,
    NotYourself,
    PasswordUnfit,
    SignInEnded,
    TokenNotForThis,
    TooManyAttempts,
    WrongPassword,
)
from kuaixiang.runtime.settings import read_settings
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc, common_pb2, sign_in_pb2, sign_in_pb2_grpc
from node import service
from node.settings import NodeSettings
from tests.node.callers import COUNTY, PROVINCE, Callers, refusal_of, refused_at_last, registration

STAFF = """
version = "1"
[110101.departments]
tax-service = { name = "纳税服务股", kind = "tax-service" }
leadership = { name = "局领导", kind = "leadership" }
[110101.officers]
R01 = { name = "任", roles = ["registrar"], departments = ["tax-service"] }
T01 = { name = "陶", roles = ["tax-service", "registrar"], departments = ["tax-service"] }
B01 = { name = "包", roles = ["bureau-head"], departments = ["leadership"] }
12366 = { name = "热线", roles = ["channel"], departments = ["tax-service"] }
[110000.departments]
tax-service = { name = "纳税服务处", kind = "tax-service" }
[110000.officers]
R01 = { name = "饶", roles = ["registrar"], departments = ["tax-service"] }
"""
PASSWORD = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""A quick one: what it costs to guess is not what is tested here."""
REGISTRAR = common_pb2.ROLE_REGISTRAR


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite alone: the ledger's databases are tested elsewhere."""
    return f"sqlite:///{tmp_path}/node.db"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "users.toml"
    known = {(COUNTY, actor): User(HASH) for actor in ("R01", "T01", "B01")}
    save_users(file, {**known, (PROVINCE, "R01"): User(HASH)})
    return file


@pytest.fixture
def settings(settings: NodeSettings, users: Path, tmp_path: Path) -> NodeSettings:
    staff = tmp_path / "staff.toml"
    staff.write_text(STAFF, encoding="utf-8")
    return read_settings(NodeSettings, **{**settings.model_dump(), "staff": staff, "users": users})


@pytest.fixture
async def node(settings: NodeSettings) -> AsyncIterator[service.Running]:
    async with service.running(settings) as running:
        yield running


def bearing(token: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def door(callers: Callers, code: str = COUNTY) -> Any:
    return sign_in_pb2_grpc.SignInServiceStub(callers.channel("office", code))


def proof(actor: str, password: str = PASSWORD, bureau: str = COUNTY, new: str = "") -> sign_in_pb2.SignInRequest:
    return sign_in_pb2.SignInRequest(bureau=bureau, actor=actor, password=password, new_password=new)


async def token_of(callers: Callers, actor: str, **more: Any) -> str:
    answer: sign_in_pb2.SignInResponse = await door(callers).SignIn(proof(actor, **more))
    return answer.token


def by(actor: str, role: Any = REGISTRAR, department: str = "tax-service", **more: Any) -> case_pb2.ActHeader:
    return case_pb2.ActHeader(**{"bureau": COUNTY, "actor": actor, "role": role, "department": department} | more)


async def test_who_has_signed_in_registers_and_nobody_else_does(callers: Callers) -> None:
    office = callers.office()
    request = registration(header=by("R01"))
    assert NotSignedIn.__name__ == (await refusal_of(office.RegisterCase(request))).rule
    signed = await door(callers).SignIn(proof("R01"))
    assert ("任", [REGISTRAR], ["tax-service"]) == (
        signed.officer.name,
        list(signed.officer.roles),
        list(signed.officer.departments),
    )
    done = await office.RegisterCase(request, **bearing(signed.token))
    assert done.case.case_id
    there = await door(callers).GetSignIn(sign_in_pb2.GetSignInRequest(), **bearing(signed.token))
    assert "R01" == there.officer.actor


async def test_nobody_acts_or_reads_as_somebody_else(callers: Callers) -> None:
    office, token = callers.office(), await token_of(callers, "R01")
    case = (await office.RegisterCase(registration(header=by("R01")), **bearing(token))).case
    for other, rule in (
        (by("T01"), NotYourself),
        (by("R01", common_pb2.ROLE_TAX_SERVICE), NotYourRole),
        (by("R01", bureau=PROVINCE), NotYourself),
    ):
        refused = await refusal_of(office.RegisterCase(registration(header=other), **bearing(token)))
        assert rule.__name__ == refused.rule
    reading = {"bureau": COUNTY, "case_id": case.case_id, "private": common_pb2.DISCLOSURE_FULL}
    as_other = case_pb2.GetCaseRequest(**reading, actor="T01", role=REGISTRAR, department="tax-service")
    assert NotYourself.__name__ == (await refusal_of(office.GetCase(as_other, **bearing(token)))).rule
    as_nobody = case_pb2.GetCaseRequest(**reading)
    assert NotYourself.__name__ == (await refusal_of(office.GetCase(as_nobody, **bearing(token)))).rule
    as_himself = case_pb2.GetCaseRequest(**reading, actor="R01", role=REGISTRAR, department="tax-service")
    assert "晨光文具店" == (await office.GetCase(as_himself, **bearing(token))).private_view.taxpayer_name


async def test_a_registration_inside_a_stream_is_held_to_who_has_signed_in(callers: Callers) -> None:
    office, token = callers.office(), await token_of(callers, "R01")

    async def sent(actor: str) -> AsyncIterator[case_pb2.RegisterCasesRequest]:
        mine, whose = registration(header=by("R01")), registration(header=by(actor))
        yield case_pb2.RegisterCasesRequest(registrations=[mine, whose])

    (response,) = [response async for response in office.RegisterCases(sent("R01"), **bearing(token))]
    assert [True, True] == [answer.HasField("accepted") for answer in response.answers]
    with pytest.raises(grpc.aio.AioRpcError, match="names somebody else"):
        [answer async for answer in office.RegisterCases(sent("T01"), **bearing(token))]
    alone = case_pb2.RegisterCasesRequest(registration=registration(header=by("T01")))
    with pytest.raises(grpc.aio.AioRpcError, match="names somebody else"):
        [answer async for answer in office.RegisterCases(iter([alone]), **bearing(token))]


async def test_a_sign_in_is_good_at_the_terminals_of_its_own_bureau(callers: Callers) -> None:
    token = await token_of(callers, "R01")
    request = case_pb2.ListCasesRequest(bureau=PROVINCE)
    refused = await refusal_of(callers.office(PROVINCE).ListCases(request, **bearing(token)))
    assert NotThisOffice.__name__ == refused.rule
    assert "NotAuthorised" == (await refusal_of(door(callers, PROVINCE).SignIn(proof("R01")))).rule
    # The county's officer at a county's terminal asks for another bureau's list.
    assert "NotAuthorised" == (await refusal_of(callers.office().ListCases(request, **bearing(token)))).rule


async def test_a_node_acts_as_nobody(callers: Callers) -> None:
    neighbour = case_pb2_grpc.CaseServiceStub(callers.channel("node", COUNTY))
    refused = await refusal_of(neighbour.RegisterCase(registration(header=by("R01"))))
    assert NotSignedIn.__name__ == refused.rule


@pytest.mark.parametrize("proven", [proof("R01", "wrong"), proof("Z99"), proof("R01", "")])
async def test_a_wrong_password_and_an_unknown_number_are_told_alike(
    callers: Callers, proven: sign_in_pb2.SignInRequest
) -> None:
    refused = await refusal_of(door(callers).SignIn(proven))
    assert (WrongPassword.__name__, grpc.StatusCode.UNAUTHENTICATED) == (refused.rule, refused.code)


async def test_a_fifth_wrong_password_makes_the_right_one_wait(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "PAUSE_SECONDS", 60)  # not over before the next call on a busy machine
    for _ in range(5):
        assert WrongPassword.__name__ == (await refusal_of(door(callers).SignIn(proof("T01", "wrong")))).rule
    refused = await refusal_of(door(callers).SignIn(proof("T01")))
    assert (TooManyAttempts.__name__, True) == (refused.rule, 1 <= int(refused.facts["retry_seconds"]) <= 60)
    assert await token_of(callers, "R01")


async def test_a_password_that_somebody_else_has_set_is_good_for_choosing_ones_own(
    callers: Callers, users: Path, node: service.Running
) -> None:
    before = await token_of(callers, "B01")
    save_users(users, {**load_users(users), (COUNTY, "B01"): User(HASH, must_change=True)})
    assert NewPasswordNeeded.__name__ == (await refused_at_last(lambda: door(callers).SignIn(proof("B01")))).rule
    for unfit in ("short", PASSWORD, "x" * 129):
        assert PasswordUnfit.__name__ == (await refusal_of(door(callers).SignIn(proof("B01", new=unfit)))).rule
    assert await token_of(callers, "B01", new="a better one than that")
    assert 0o600 == users.stat().st_mode & 0o777
    assert WrongPassword.__name__ == (await refusal_of(door(callers).SignIn(proof("B01")))).rule
    # Who was signed in with the old one is out.
    there = door(callers).GetSignIn(sign_in_pb2.GetSignInRequest(), **bearing(before))
    assert SignInEnded.__name__ == (await refusal_of(there)).rule


async def test_signing_out_ends_a_sign_in_or_all_of_them(callers: Callers) -> None:
    one, other = await token_of(callers, "R01"), await token_of(callers, "R01")
    assert one != other
    who = sign_in_pb2.GetSignInRequest()
    assert 1 == (await door(callers).SignOut(sign_in_pb2.SignOutRequest(), **bearing(one))).ended
    assert SignInEnded.__name__ == (await refusal_of(door(callers).GetSignIn(who, **bearing(one)))).rule
    third = await token_of(callers, "R01")
    everywhere = sign_in_pb2.SignOutRequest(everywhere=True)
    assert 2 == (await door(callers).SignOut(everywhere, **bearing(other))).ended
    assert SignInEnded.__name__ == (await refusal_of(door(callers).GetSignIn(who, **bearing(third)))).rule


async def test_who_is_struck_off_the_list_of_staff_is_out(callers: Callers, settings: NodeSettings) -> None:
    token = await token_of(callers, "R01")
    assert settings.staff is not None
    kept = [line for line in STAFF.splitlines() if "任" not in line]
    settings.staff.write_text("\n".join(kept), encoding="utf-8")
    os.utime(settings.staff, (1, 1))
    listing = case_pb2.ListCasesRequest(bureau=COUNTY)
    refused = await refused_at_last(lambda: callers.office().ListCases(listing, **bearing(token)))
    assert SignInEnded.__name__ == refused.rule


async def test_a_restart_ends_no_sign_in_and_forgets_no_token(settings: NodeSettings, tmp_path: Path) -> None:
    token, secret = "", ""
    for again in (False, True):
        async with service.running(settings) as running:
            callers = Callers(running.port, tmp_path)
            if not again:
                token = await token_of(callers, "B01")
                secret = (await door(callers).IssueToken(channel_token(), **bearing(token))).secret
            there = await door(callers).GetSignIn(sign_in_pb2.GetSignInRequest(), **bearing(token))
            assert "B01" == there.officer.actor
            assert (await callers.office().RegisterCase(from_channel(), **bearing(secret))).case.case_id
            await callers.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("*accounts*"))
    assert not [one for one in (token, secret) if one.encode() in kept]


def channel_token(**more: Any) -> sign_in_pb2.IssueTokenRequest:
    fields: dict[str, Any] = {
        "header": by("B01", common_pb2.ROLE_BUREAU_HEAD, "leadership"),
        "channel": common_pb2.CHANNEL_HOTLINE,
        "scopes": [common_pb2.TOKEN_SCOPE_REGISTER, common_pb2.TOKEN_SCOPE_STATUS],
        "valid_days": 90,
    }
    return sign_in_pb2.IssueTokenRequest(**fields | more)


def from_channel(**more: Any) -> case_pb2.RegisterCaseRequest:
    channel: dict[str, Any] = {"channel": common_pb2.CHANNEL_HOTLINE}
    return registration(header=by("12366", common_pb2.ROLE_CHANNEL), **channel | more)


async def test_a_channels_token_registers_and_asks_for_status_as_that_channel_alone(callers: Callers) -> None:
    head, registrar = await token_of(callers, "B01"), await token_of(callers, "R01")
    issued = await door(callers).IssueToken(channel_token(), **bearing(head))
    secret, office = issued.secret, callers.office()
    assert secret.startswith("kx-channel-")
    own = (await office.RegisterCase(from_channel(), **bearing(secret))).case
    other = (await office.RegisterCase(registration(header=by("R01")), **bearing(registrar))).case
    seen = await office.GetCase(case_pb2.GetCaseRequest(bureau=COUNTY, case_id=own.case_id), **bearing(secret))
    assert common_pb2.STAGE_REGISTERED == seen.case.stage
    private = case_pb2.GetCaseRequest(
        bureau=COUNTY,
        case_id=own.case_id,
        private=common_pb2.DISCLOSURE_FULL,
        actor="R01",
        role=REGISTRAR,
        department="tax-service",
    )
    for call, rule in (
        (office.RegisterCase(from_channel(channel=common_pb2.CHANNEL_WEBSITE), **bearing(secret)), TokenNotForThis),
        (office.RegisterCase(registration(header=by("R01")), **bearing(secret)), TokenNotForThis),
        (office.RegisterCase(from_channel(lead_case_id=other.case_id), **bearing(secret)), TokenNotForThis),
        (office.ListChanges(case_pb2.ListChangesRequest(bureau=COUNTY), **bearing(secret)), FieldMissing),
        (
            office.ListChanges(
                case_pb2.ListChangesRequest(bureau=COUNTY, channel=common_pb2.CHANNEL_WEBSITE), **bearing(secret)
            ),
            TokenNotForThis,
        ),
        (office.GetCase(asked(case_id=other.case_id), **bearing(secret)), TokenNotForThis),
        (office.GetCase(asked(case_id=own.case_id, include_history=True), **bearing(secret)), TokenNotForThis),
        (office.GetCase(private, **bearing(secret)), TokenNotForThis),
        (office.ListCases(listing(channel=common_pb2.CHANNEL_WEBSITE), **bearing(secret)), TokenNotForThis),
        (office.ListCases(listing(search="发票"), **bearing(secret)), TokenNotForThis),
        (office.ListCases(listing(include_brief=True), **bearing(secret)), TokenNotForThis),
        (office.ListCases(listing(department="tax-service"), **bearing(secret)), TokenNotForThis),
        (office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY), **bearing(secret)), FieldMissing),
        (office.CountWork(case_pb2.CountWorkRequest(bureau=COUNTY), **bearing(secret)), NotForToken),
        (door(callers).IssueToken(channel_token(header=from_channel().header), **bearing(secret)), NotForToken),
    ):
        assert rule.__name__ == (await refusal_of(call)).rule
    listed = await office.ListCases(listing(), **bearing(secret))
    assert [own.case_id] == [case.case_id for case in listed.cases]
    only_status = channel_token(scopes=[common_pb2.TOKEN_SCOPE_STATUS])
    narrow = (await door(callers).IssueToken(only_status, **bearing(head))).secret
    assert NotForToken.__name__ == (await refusal_of(office.RegisterCase(from_channel(), **bearing(narrow)))).rule


def listing(**more: Any) -> case_pb2.ListCasesRequest:
    fields: dict[str, Any] = {"bureau": COUNTY, "channel": common_pb2.CHANNEL_HOTLINE}
    return case_pb2.ListCasesRequest(**fields | more)


def asked(**more: Any) -> case_pb2.GetCaseRequest:
    return case_pb2.GetCaseRequest(**{"bureau": COUNTY} | more)


async def test_a_token_is_listed_with_its_last_use_and_ends_when_it_is_revoked(callers: Callers) -> None:
    head, service_token = await token_of(callers, "B01"), await token_of(callers, "T01")
    issued = await door(callers).IssueToken(channel_token(), **bearing(head))
    await callers.office().RegisterCase(from_channel(), **bearing(issued.secret))
    asking = sign_in_pb2.ListTokensRequest(header=by("T01", common_pb2.ROLE_TAX_SERVICE))
    (listed,) = (await door(callers).ListTokens(asking, **bearing(service_token))).tokens
    assert (issued.token.token_id, "B01", True, False) == (
        listed.token_id,
        listed.issued_by,
        listed.HasField("last_used_at"),
        listed.HasField("revoked_at"),
    )
    by_tax_service = sign_in_pb2.RevokeTokenRequest(
        header=by("T01", common_pb2.ROLE_TAX_SERVICE), token_id=listed.token_id
    )
    refused = await refusal_of(door(callers).RevokeToken(by_tax_service, **bearing(service_token)))
    assert NotForOfficer.__name__ == refused.rule
    leader = by("B01", common_pb2.ROLE_BUREAU_HEAD, "leadership")
    unknown = sign_in_pb2.RevokeTokenRequest(header=leader, token_id="00")
    assert NoSuchToken.__name__ == (await refusal_of(door(callers).RevokeToken(unknown, **bearing(head)))).rule
    revoking = sign_in_pb2.RevokeTokenRequest(header=leader, token_id=listed.token_id)
    gone = (await door(callers).RevokeToken(revoking, **bearing(head))).token
    assert gone.HasField("revoked_at")
    refused = await refusal_of(callers.office().RegisterCase(from_channel(), **bearing(issued.secret)))
    assert SignInEnded.__name__ == refused.rule


async def test_a_stream_that_is_open_ends_with_the_sign_in_or_token_that_opened_it(callers: Callers) -> None:
    head, registrar = await token_of(callers, "B01"), await token_of(callers, "R01")
    issued = await door(callers).IssueToken(channel_token(), **bearing(head))
    office, leader = callers.office(), by("B01", common_pb2.ROLE_BUREAU_HEAD, "leadership")

    async def revoke() -> None:
        gone = sign_in_pb2.RevokeTokenRequest(header=leader, token_id=issued.token.token_id)
        await door(callers).RevokeToken(gone, **bearing(head))

    async def sign_out() -> None:
        await door(callers).SignOut(sign_in_pb2.SignOutRequest(), **bearing(registrar))

    def registered(one: case_pb2.RegisterCaseRequest) -> case_pb2.RegisterCasesRequest:
        return case_pb2.RegisterCasesRequest(registrations=[one])

    for secret, first, second, end in (
        (issued.secret, from_channel(), from_channel(), revoke),
        (registrar, registration(header=by("R01")), registration(header=by("R01")), sign_out),
    ):
        stream: Any = office.RegisterCases(**bearing(secret))
        await stream.write(registered(first))
        assert (await stream.read()).answers[0].HasField("accepted")
        await end()
        await stream.write(registered(second))
        assert SignInEnded.__name__ == (await refusal_of(stream.read())).rule
    every = await office.ListCases(case_pb2.ListCasesRequest(bureau=COUNTY), **bearing(head))
    assert 2 == len(every.cases)


async def test_nothing_secret_is_in_the_log(callers: Callers, capsys: pytest.CaptureFixture[str]) -> None:
    token = await token_of(callers, "R01")
    await refusal_of(door(callers).SignIn(proof("correct horse battery", "my other password")))
    said = "".join(capsys.readouterr())
    assert "sign_in.done" in said
    assert not [one for one in (token, PASSWORD, "my other password", HASH) if one in said]
