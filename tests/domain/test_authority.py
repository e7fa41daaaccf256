"""Who may ask what: every call for each capacity and relation, each role, each token; denied unless allowed."""

import dataclasses

import pytest

from docs.draw_authority import DOCUMENT, document
from kuaixiang.domain import authority
from kuaixiang.domain.authority import (
    ACCESS,
    PAGES,
    Access,
    Caller,
    Capacity,
    ChannelToken,
    NoRuleForCall,
    NotAuthorised,
    NotForOfficer,
    NotForToken,
    SignedIn,
    Subject,
    decide_access,
)
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.words import Channel, Role, TokenScope
from tests.authority import (
    ASKED,
    COUNTY,
    GROUP_OF,
    HEADQUARTERS,
    NOWHERE,
    OTHER_COUNTY,
    PEOPLE,
    PROVINCE,
    ROLES,
    TREE,
    WHO,
    caller_as,
    cells,
    methods,
)

FOR_CHANNELS = {
    "RegisterCase": TokenScope.REGISTER,
    "RegisterCases": TokenScope.REGISTER,
    "GetCase": TokenScope.STATUS,
    "ListCases": TokenScope.STATUS,
    "ListChanges": TokenScope.STATUS,
}


def answer(caller: Caller, rpc: str, subject: Subject) -> str:
    try:
        decide_access(caller, rpc, subject, TREE)
    except Refused as refusal:
        return type(refusal).__name__
    return "allowed"


def about(rpc: str, code: str) -> Subject:
    """The call about the bureau asked, the caller's own bureau being whatever else it names."""
    speaks = ACCESS[rpc].speaks is not None
    return Subject(bureau=ASKED, speaker=code if speaks else "", parties=frozenset({code}))


def test_every_call_of_the_wire_has_one_row_and_every_row_a_call() -> None:
    assert set(methods()) | PAGES == set(ACCESS) == set(GROUP_OF) == set(ROLES)


@pytest.mark.parametrize("rpc", ACCESS)
def test_a_certificate_allows_what_is_written(rpc: str) -> None:
    expected = {(kind, relation): allowed for kind, relation, allowed in cells(rpc)}
    assert len(Capacity) * len(WHO) == len(expected)
    found = {
        (kind, relation): answer(caller_as(kind, WHO[relation]), rpc, about(rpc, WHO[relation]))
        for kind, relation in expected
    }
    assert {cell: "allowed" if allowed else "NotAuthorised" for cell, allowed in expected.items()} == found


@pytest.mark.parametrize("rpc", ACCESS)
def test_an_officer_who_has_signed_in_is_held_to_his_roles(rpc: str) -> None:
    refused = "NotAuthorised" if GROUP_OF[rpc] in {"peers", "down", "up", "shows"} else "NotForOfficer"
    for role in Role:
        signed_in = SignedIn(bureau=ASKED, actor="Z01", roles=frozenset({role}))
        expected = "allowed" if role in ROLES[rpc] else refused
        assert expected == answer(Caller(offices=frozenset({ASKED}), officer=signed_in), rpc, about(rpc, ASKED)), role


@pytest.mark.parametrize("rpc", ACCESS)
def test_a_channels_token_allows_what_its_scope_says(rpc: str) -> None:
    for scope in TokenScope:
        token = ChannelToken(bureau=ASKED, channel=Channel.WEBSITE, scopes=frozenset({scope}))
        caller = Caller(offices=frozenset({ASKED}), token=token)
        refused = "NotAuthorised" if GROUP_OF[rpc] in {"peers", "down", "up", "shows"} else "NotForToken"
        expected = "allowed" if FOR_CHANNELS.get(rpc) is scope else refused
        assert expected == answer(caller, rpc, about(rpc, ASKED)), scope


@pytest.mark.parametrize("rpc", ACCESS)
def test_nobody_may_do_anything_without_a_name(rpc: str) -> None:
    assert "NotAuthorised" == answer(Caller(), rpc, about(rpc, ASKED))
    assert "NotAuthorised" == answer(Caller(), rpc, about(rpc, ""))


def test_a_call_without_a_row_is_nobodys() -> None:
    everybody = Caller(bureaus=frozenset(WHO.values()), offices=frozenset(WHO.values()), hubs=frozenset(WHO.values()))
    with pytest.raises(NoRuleForCall, match="EraseEverything"):
        decide_access(everybody, "EraseEverything", Subject(bureau=ASKED), TREE)


@pytest.mark.parametrize("rpc", [rpc for rpc, rule in ACCESS.items() if rule.speaks is not None])
def test_nobody_speaks_for_another_bureau(rpc: str) -> None:
    for speaker in (PROVINCE, COUNTY):
        others = frozenset(WHO.values()) - {speaker}
        with pytest.raises(NotAuthorised, match=speaker):
            decide_access(
                Caller(bureaus=others, offices=frozenset({speaker})),
                rpc,
                Subject(bureau=ASKED, speaker=speaker),
                TREE,
            )


def test_a_node_of_several_bureaus_speaks_for_each_of_them() -> None:
    both = Caller(bureaus=frozenset({COUNTY, OTHER_COUNTY}))
    for speaker in (COUNTY, OTHER_COUNTY):
        access = decide_access(both, "Offer", Subject(bureau=ASKED, speaker=speaker), TREE)
        assert Access(capacity=Capacity.NODE, code=speaker) == access


def test_a_neighbour_compares_its_own_ledger_and_not_anothers() -> None:
    for rpc in ("GetPairDigests", "ReadPairRecords", "ReconcileLedgers"):
        subject = Subject(bureau=ASKED, parties=frozenset({OTHER_COUNTY}))
        assert "NotAuthorised" == answer(Caller(bureaus=frozenset({COUNTY})), rpc, subject)


def test_only_who_had_the_case_follows_it() -> None:
    for code in WHO.values():
        expected = "allowed" if code == ASKED else "NotAuthorised"
        assert expected == answer(Caller(bureaus=frozenset({code})), "Track", Subject(bureau=ASKED))


def test_an_officer_is_of_his_own_bureau_whatever_else_the_terminal_is_for() -> None:
    signed_in = SignedIn(bureau=COUNTY, actor="Z01", roles=frozenset(PEOPLE))
    terminal = Caller(
        bureaus=frozenset({ASKED}),
        offices=frozenset({ASKED, COUNTY}),
        hubs=frozenset({HEADQUARTERS}),
        officer=signed_in,
    )
    for rpc in ("ListCases", "ReadJournal", "PublishPeriod"):
        assert "NotAuthorised" == answer(terminal, rpc, Subject(bureau=ASKED))
    assert "allowed" == answer(terminal, "ListCases", Subject(bureau=COUNTY))


def test_an_officer_at_a_terminal_of_another_bureau_is_nobody() -> None:
    signed_in = SignedIn(bureau=ASKED, actor="Z01", roles=frozenset(PEOPLE))
    terminal = Caller(offices=frozenset({COUNTY}), officer=signed_in)
    for bureau in (ASKED, COUNTY):
        assert "NotAuthorised" == answer(terminal, "ListCases", Subject(bureau=bureau))


def test_a_bureau_that_is_not_in_the_tree_is_nobodys_but_its_own() -> None:
    for rpc in ("ReadJournal", "GetFigures", "ReadDirectives"):
        assert "NotAuthorised" == answer(Caller(hubs=frozenset({HEADQUARTERS})), rpc, Subject(bureau=NOWHERE))
        assert "allowed" == answer(Caller(bureaus=frozenset({NOWHERE})), rpc, Subject(bureau=NOWHERE))


def test_what_a_publication_is_signed_with_says_as_what() -> None:
    for kind in ("office", "hub"):
        access = decide_access(caller_as(kind, PROVINCE), "PublishPeriod", Subject(bureau=PROVINCE), TREE)
        assert f"{kind} {PROVINCE}" == str(access)


def test_the_refusal_names_the_bureau_and_the_certificate_to_use() -> None:
    with pytest.raises(NotAuthorised) as refusal:
        decide_access(Caller(), "ListCases", Subject(bureau=ASKED), TREE)
    assert ASKED in str(refusal.value)
    assert f"Use a certificate for an office of bureau {ASKED}." == refusal.value.remedy


def test_the_refusals_of_officers_and_tokens_say_what_it_takes() -> None:
    officer = SignedIn(bureau=ASKED, actor="Z01", roles=frozenset({Role.HANDLER}))
    with pytest.raises(NotForOfficer) as refusal:
        decide_access(Caller(offices=frozenset({ASKED}), officer=officer), "ReadJournal", Subject(bureau=ASKED), TREE)
    assert "handler" in str(refusal.value)
    assert "It takes the role deputy-head or bureau-head or supervisor or auditor." == refusal.value.remedy
    token = ChannelToken(bureau=ASKED, channel=Channel.WEBSITE, scopes=frozenset())
    with pytest.raises(NotForToken, match=ASKED):
        decide_access(Caller(offices=frozenset({ASKED}), token=token), "RegisterCase", Subject(bureau=ASKED), TREE)


def test_a_row_that_is_forgotten_allows_nothing() -> None:
    """The columns' default is nobody: what a row does not say, it denies."""
    empty = authority.Rule(errand=ACCESS["ListCases"].errand)
    assert [frozenset(), frozenset(), frozenset(), frozenset()] == [empty.node, empty.office, empty.hub, empty.party]
    assert {column.name for column in dataclasses.fields(authority.Rule)} >= {"node", "office", "hub", "party"}


def test_the_document_is_drawn_from_the_table_as_it_is() -> None:
    assert document() == DOCUMENT.read_text(encoding="utf-8"), "run python -m docs.draw_authority --write"
