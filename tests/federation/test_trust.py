"""Attacks with certificates of the federation's own authority: revoked, not pinned, of a signer that is not believed."""

import shutil
from dataclasses import replace

import grpc
import pytest

from hub.settings import HubSettings
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Custody
from kuaixiang.runtime import pki, revocation
from kuaixiang.runtime.revocation import revoke
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.v1 import referral_pb2
from node.federation import courier
from node.settings import NodeSettings
from tests.federation.bureaus import COUNTY, OTHER_COUNTY, PREFECTURE, SECONDS, Federation, sealed
from tests.federation.test_server import offered, refused
from tests.node.callers import refusal_of

QUESTION = referral_pb2.WithdrawRequest(
    referral_id="r" * 32,
    case_id="370102-2026-0000009",
    epoch=1,
    from_bureau=COUNTY,
    to_bureau=PREFECTURE,
    offered_at_us=1,
)
"""What the county's node may ask the prefecture's at any time."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are looked at each time, and what was set aside is tried again at once."""
    monkeypatch.setattr(revocation, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(courier, "ASIDE_SECONDS_MIN", 0.05)


def revoked(bureaus: Federation, paths: pki.CertificatePaths) -> None:
    """The authority revokes that certificate, and every node has the list."""
    listed = revoke(bureaus.authority, [pki.load(paths).certificate.serial_number])
    for node in bureaus.nodes:
        shutil.copy(listed, node.paths.ca.with_name(pki.AUTHORITY_LIST))


def pin(bureaus: Federation, *codes: str, to: list[pki.CertificatePaths]) -> None:
    """The tree in force lists these certificates for those bureaus."""
    fingerprints = tuple(Seal(paths).fingerprint() for paths in to)
    bureaus.place.trees.adopt(
        BureauTree(
            "pinned",
            (
                replace(one, fingerprints=fingerprints) if one.code in codes else one
                for one in bureaus.place.tree.bureaus.values()
            ),
        )
    )


def another(bureaus: Federation, name: str, *codes: str) -> pki.CertificatePaths:
    """Another certificate for those bureaus, as a thief of the authority's trust or a renewal has it."""
    return pki.issue(bureaus.authority, bureaus.folder / name, "node", codes or (COUNTY, OTHER_COUNTY))


def test_a_service_does_not_describe_itself_unless_told_to() -> None:
    assert (False, False) == tuple(kind.model_fields["reflection"].default for kind in (NodeSettings, HubSettings))


async def test_a_revoked_certificate_is_refused_also_on_a_connection_that_is_open(bureaus: Federation) -> None:
    stolen = another(bureaus, "stolen")
    request = sealed(await offered(bureaus), bureaus.node(COUNTY).seal)
    async with bureaus.stub(PREFECTURE, stolen) as stub:
        await stub.Withdraw(QUESTION, timeout=SECONDS)
        revoked(bureaus, stolen)
        refusal = await refusal_of(stub.Offer(request, timeout=SECONDS))
    assert (grpc.StatusCode.PERMISSION_DENIED, "CertificateRevoked") == (refusal.code, refusal.rule)


async def test_an_authority_that_is_trusted_no_more_lets_nobody_in_also_on_a_connection_that_is_open(
    bureaus: Federation,
) -> None:
    former = bureaus.folder / "former"
    pki.init_authority(former, "Former authority")
    caller = pki.issue(former, bureaus.folder / "caller", "node", [COUNTY, OTHER_COUNTY])
    trusted = bureaus.node(PREFECTURE).paths.ca
    present = trusted.read_bytes()
    caller.ca.write_bytes(present)
    trusted.write_bytes(present + (former / "ca.crt").read_bytes())
    async with bureaus.stub(PREFECTURE, caller) as stub:
        await stub.Withdraw(QUESTION, timeout=SECONDS)
        trusted.write_bytes(present)
        refusal = await refusal_of(stub.Withdraw(QUESTION, timeout=SECONDS))
    assert (grpc.StatusCode.PERMISSION_DENIED, "AuthorityNotTrusted") == (refusal.code, refusal.rule)


async def test_an_offer_signed_by_a_revoked_certificate_is_refused(bureaus: Federation) -> None:
    stolen = another(bureaus, "stolen")
    request = sealed(await offered(bureaus), Seal(stolen))
    revoked(bureaus, stolen)
    refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths)
    assert "SignatureNotProven" == refusal.rule
    assert "revoked" in refusal.sentence.english


async def test_a_certificate_that_the_tree_does_not_list_is_refused(bureaus: Federation) -> None:
    stolen = another(bureaus, "stolen")
    request = sealed(await offered(bureaus), bureaus.node(COUNTY).seal)
    pin(bureaus, COUNTY, OTHER_COUNTY, to=[bureaus.node(COUNTY).paths])
    refusal = await refused(bureaus, request, stolen)
    assert (grpc.StatusCode.PERMISSION_DENIED, "CertificateNotPinned") == (refusal.code, refusal.rule)


async def test_a_certificate_that_names_a_pinned_bureau_besides_its_own_is_refused(bureaus: Federation) -> None:
    both = another(bureaus, "both", COUNTY, "370104")
    request = sealed(await offered(bureaus), bureaus.node(COUNTY).seal)
    pin(bureaus, COUNTY, to=[bureaus.node(COUNTY).paths])
    assert "CertificateNotPinned" == (await refused(bureaus, request, both)).rule


async def test_an_offer_signed_by_a_certificate_that_the_tree_does_not_list_is_refused(bureaus: Federation) -> None:
    request = sealed(await offered(bureaus), Seal(another(bureaus, "stolen")))
    pin(bureaus, COUNTY, OTHER_COUNTY, to=[bureaus.node(COUNTY).paths])
    refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths)
    assert "SignatureNotProven" == refusal.rule


async def test_two_listed_certificates_overlap_so_that_a_bureau_renews_its_own_while_cases_go_on(
    bureaus: Federation,
) -> None:
    node = bureaus.node(COUNTY)
    following = another(bureaus, "next")
    old = another(bureaus, "old")
    for path in (old.certificate, old.key):
        shutil.copy(getattr(node.paths, "certificate" if path == old.certificate else "key"), path)
    pin(bureaus, *node.codes, to=[old, following])
    for _ in range(2):
        case_id = await bureaus.register(COUNTY)
        await bureaus.refer(COUNTY, case_id, PREFECTURE)
        await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
        shutil.copy(following.key, node.paths.key)
        shutil.copy(following.certificate, node.paths.certificate)
    pin(bureaus, *node.codes, to=[following])
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)


async def test_a_receipt_of_a_server_that_is_not_pinned_releases_no_case(bureaus: Federation) -> None:
    other = another(bureaus, "elsewhere", PREFECTURE)
    pin(bureaus, PREFECTURE, to=[other])
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(PREFECTURE, case_id, Custody.OWNED)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody
    # The bureau shows the listed one from now on: the same decision, signed by it.
    node = bureaus.node(PREFECTURE)
    shutil.copy(other.key, node.paths.key)
    shutil.copy(other.certificate, node.paths.certificate)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)


async def test_a_repeated_offer_gets_the_first_decision_signed_by_the_certificate_in_use(bureaus: Federation) -> None:
    request = sealed(await offered(bureaus), bureaus.node(COUNTY).seal)
    node = bureaus.node(PREFECTURE)
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        first = await stub.Offer(request, timeout=SECONDS)
        pki.issue(bureaus.authority, node.paths.ca.parent, "node", node.codes, force=True)
        again = await stub.Offer(request, timeout=SECONDS)
    assert first.decision == again.decision
    assert node.seal.sign(b"").certificate_der == again.signature.certificate_der != first.signature.certificate_der
    bureaus.node(COUNTY).seal.check(again.decision, again.signature, PREFECTURE)
