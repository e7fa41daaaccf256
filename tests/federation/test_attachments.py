"""Files of cases between bureaus: brought ahead of the offer, once, by digest; what breaks off goes on."""

import random
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from kuaixiang.domain import acts
from kuaixiang.domain.attachments import ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX
from kuaixiang.domain.words import Custody, Refusal
from kuaixiang.runtime.server import Context
from kuaixiang.runtime.streams import send
from kuaixiang.wire.errors import to_status
from kuaixiang.wire.v1 import common_pb2, referral_pb2
from kuaixiang.wire.v1.referral_pb2_grpc import ReferralServiceStub
from node import attachments
from node.attachments import AttachmentsMissing, Missing
from node.federation import courier as courier_module
from node.federation import offers
from node.ledger import blobs
from node.ledger.blobs import CHUNK_BYTES
from tests.federation.bureaus import (
    COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    SECONDS,
    Do,
    Federation,
    pieces_of,
    sealed,
    until,
)
from tests.node.callers import refusal_of

LARGEST = random.Random(1).randbytes(ATTACHMENT_BYTES_MAX)
SMALL = random.Random(2).randbytes(3 * CHUNK_BYTES + 17)


def digest_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def kept(bureaus: Federation, bureau: str, content: bytes) -> blobs.Blob | None:
    return blobs.blob(bureaus.office(bureau).ledger.database, digest_of(content))


def files_kept(bureaus: Federation, bureau: str) -> int:
    return blobs.kept(bureaus.office(bureau).ledger.database)[0]


async def test_a_file_of_the_largest_size_reaches_headquarters_by_way_of_every_bureau_between(
    bureaus: Federation,
) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, LARGEST, name="../扫描件.pdf")
    await bureaus.refer(COUNTY, case_id, HEADQUARTERS)
    await bureaus.reached(HEADQUARTERS, case_id, Custody.OWNED)
    for bureau in (COUNTY, PREFECTURE, PROVINCE, HEADQUARTERS):
        (attachment,) = bureaus.attachments(bureau, case_id)
        assert ("扫描件.pdf", ATTACHMENT_BYTES_MAX) == (attachment.name, attachment.size_bytes)
        assert LARGEST == await bureaus.content(bureau, case_id, digest_of(LARGEST))
    assert [HEADQUARTERS] == bureaus.custodians(case_id)


async def test_an_offer_whose_files_are_not_here_is_not_decided_and_says_which_are_missing(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    node = bureaus.node(COUNTY)
    before = bureaus.office(PREFECTURE).ledger.heads[PREFECTURE]
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        refusal = await refusal_of(stub.Offer(sealed(offer, node.seal), timeout=SECONDS))
        assert (grpc.StatusCode.FAILED_PRECONDITION, "AttachmentsMissing") == (refusal.code, refusal.rule)
        assert (Missing(digest_of(SMALL), 0),) == AttachmentsMissing.read(refusal.facts)
        assert before == bureaus.office(PREFECTURE).ledger.heads[PREFECTURE]
        await put(stub, bureaus, offer, SMALL)
        receipt = await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    assert referral_pb2.Decision.FromString(receipt.decision).accepted
    assert SMALL == await bureaus.content(PREFECTURE, offer.case_id, digest_of(SMALL))


async def test_an_offer_that_the_rules_refuse_is_decided_without_its_files(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    offer.path[:] = [PREFECTURE, COUNTY]
    node = bureaus.node(COUNTY)
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        receipt = await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    assert Refusal.LOOP.value == int(referral_pb2.Decision.FromString(receipt.decision).refusal)
    assert None is kept(bureaus, PREFECTURE, SMALL)


async def test_a_forged_content_is_refused_and_nothing_of_it_is_kept(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    forged = bytes([SMALL[0] ^ 1]) + SMALL[1:]
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        refusal = await refusal_of(put(stub, bureaus, offer, forged, digest=digest_of(SMALL)))
        assert "ContentDiffers" == refusal.rule
        assert 0 == files_kept(bureaus, PREFECTURE)
        await put(stub, bureaus, offer, SMALL)
    assert kept(bureaus, PREFECTURE, SMALL)


async def test_a_file_begun_with_forged_content_is_refused_when_it_is_gone_on_with_and_then_begins_again(
    bureaus: Federation,
) -> None:
    offer = await offered(bureaus, SMALL)
    forged = bytes([SMALL[0] ^ 1]) + SMALL[1 : CHUNK_BYTES + 1]
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        assert "ContentBrokenOff" == (await refusal_of(put(stub, bureaus, offer, forged, digest=digest_of(SMALL)))).rule
        begun = kept(bureaus, PREFECTURE, SMALL)
        assert begun is not None
        assert (CHUNK_BYTES, False) == (begun.held_bytes, begun.complete)
        refusal = await refusal_of(put(stub, bureaus, offer, SMALL, from_byte=CHUNK_BYTES))
        assert "ContentDiffers" == refusal.rule
        assert None is kept(bureaus, PREFECTURE, SMALL)
        await put(stub, bureaus, offer, SMALL)


async def test_a_peer_brings_no_file_but_those_of_an_offer_that_is_its_own(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    node, stranger = bureaus.node(COUNTY), bureaus.node(FAR_PROVINCE)
    other = b"another file"
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        assert "UnknownAttachment" == (await refusal_of(put(stub, bureaus, offer, other))).rule
        unsigned = referral_pb2.PutAttachmentRequest(
            offer=referral_pb2.OfferRequest(offer=offer.SerializeToString()), digest=digest_of(SMALL)
        )
        assert "SignatureNotProven" == (await refusal_of(send(stub.PutAttachment(), unsigned, messages(SMALL)))).rule
        assert "FieldMalformed" == (await refusal_of(put(stub, bureaus, offer, SMALL, from_byte=CHUNK_BYTES))).rule
        nothing = referral_pb2.PutAttachmentRequest()
        assert "FieldMalformed" == (await refusal_of(send(stub.PutAttachment(), nothing, messages(SMALL)))).rule
    async with bureaus.stub(PREFECTURE, stranger.paths) as stub:
        assert "NotAuthorised" == (await refusal_of(put(stub, bureaus, offer, SMALL))).rule
    assert 0 == files_kept(bureaus, PREFECTURE)


async def test_a_peer_brings_so_much_for_offers_that_it_has_not_made_and_then_must_make_them(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await offered(bureaus, SMALL), await offered(bureaus, SMALL[::-1])
    monkeypatch.setattr(attachments, "UNDECIDED_BYTES_MAX", len(SMALL) * 3 // 2)
    node, other = bureaus.node(COUNTY), bureaus.node(PROVINCE)
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        await put(stub, bureaus, first, SMALL)
        refusal = await refusal_of(put(stub, bureaus, second, SMALL[::-1]))
        assert ("TooMuchUndecided", "digest") == (refusal.rule, refusal.field)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED == refusal.code
        assert None is kept(bureaus, PREFECTURE, SMALL[::-1])
        # What officers attach here is another matter, and so is what another peer brings.
        assert 0 == blobs.undecided_bytes(bureaus.office(PREFECTURE).ledger.database, other.codes[0])
        await stub.Offer(sealed(first, node.seal), timeout=SECONDS)
        await put(stub, bureaus, second, SMALL[::-1])
    assert kept(bureaus, PREFECTURE, SMALL[::-1])


async def test_an_offer_lists_no_file_twice_none_too_large_and_not_too_many(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    (good,) = offer.snapshot.attachments
    node = bureaus.node(COUNTY)
    many = [common_pb2.Attachment(digest=f"{n:064x}", name="x", media_type="a/b", size_bytes=1) for n in range(21)]
    assert len(many) > ATTACHMENTS_MAX
    too_large = common_pb2.Attachment(
        digest=good.digest, name="x", media_type="a/b", size_bytes=ATTACHMENT_BYTES_MAX + 1
    )
    no_digest = common_pb2.Attachment(digest="x", name="x", media_type="a/b", size_bytes=1)
    for wrong in ([good, good], [too_large], [no_digest], many):
        del offer.snapshot.attachments[:]
        offer.snapshot.attachments.extend(wrong)
        async with bureaus.stub(PREFECTURE, node.paths) as stub:
            refusal = await refusal_of(stub.Offer(sealed(offer, node.seal), timeout=SECONDS))
        assert "FieldMalformed" == refusal.rule
        assert refusal.field.startswith("offer.snapshot.attachments")
    assert None is bureaus.known(PREFECTURE, offer.case_id)


async def test_a_name_that_a_peer_gives_is_cleaned_by_the_receiver(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    offer.snapshot.attachments[0].name = "../../root/.ssh/authorized_keys"
    node = bureaus.node(COUNTY)
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        await put(stub, bureaus, offer, SMALL)
        await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    assert ["authorized_keys"] == [one.name for one in bureaus.attachments(PREFECTURE, offer.case_id)]


async def test_a_receiver_killed_during_the_stream_goes_on_where_it_stopped(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ASIDE_SECONDS_MIN", 0.1)
    receiver = bureaus.node(PREFECTURE)
    receiver.link.messages_max = 40
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, LARGEST)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await until(lambda: (begun := kept(bureaus, PREFECTURE, LARGEST)) and begun.held_bytes == 38 * CHUNK_BYTES)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody
    await receiver.stop()
    receiver.link.messages_max = None
    await receiver.start()
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert LARGEST == await bureaus.content(PREFECTURE, case_id, digest_of(LARGEST))
    assert [0, 38 * CHUNK_BYTES] == [message.from_byte for message in receiver.link.streams]
    assert ["Received"] == bureaus.events(PREFECTURE, case_id)


async def test_a_sender_killed_during_the_stream_goes_on_when_it_is_back(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ASIDE_SECONDS_MIN", 0.1)
    sender, receiver = bureaus.node(COUNTY), bureaus.node(PREFECTURE)
    receiver.link.messages_max = 3
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, SMALL)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await until(lambda: (begun := kept(bureaus, PREFECTURE, SMALL)) and begun.held_bytes == CHUNK_BYTES)
    await sender.stop()
    receiver.link.messages_max = None
    await sender.start()
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert SMALL == await bureaus.content(PREFECTURE, case_id, digest_of(SMALL))


async def test_other_cases_of_the_same_peer_do_not_wait_for_a_file(bureaus: Federation) -> None:
    receiver = bureaus.node(PREFECTURE)
    receiver.link.messages_max = 2
    heavy = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, heavy, SMALL)
    await bureaus.refer(COUNTY, heavy, PREFECTURE)
    await until(lambda: receiver.link.streams)
    light = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, light, PREFECTURE)
    await bureaus.reached(COUNTY, light, Custody.RELEASED)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, heavy)).custody


async def test_an_offer_is_taken_back_though_its_file_is_under_way(bureaus: Federation) -> None:
    receiver = bureaus.node(PREFECTURE)
    receiver.link.messages_max = 2
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, SMALL)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await until(lambda: receiver.link.streams)
    await bureaus.act(COUNTY, case_id, acts.WithdrawOffer(reason="本级可以办理"))
    await bureaus.reached(COUNTY, case_id, Custody.OWNED)
    assert [COUNTY] == bureaus.custodians(case_id)


async def test_a_file_that_the_receiver_has_already_is_not_brought_again(bureaus: Federation) -> None:
    for _ in range(2):
        case_id = await bureaus.register(COUNTY)
        await bureaus.attach(COUNTY, case_id, SMALL)
        await bureaus.refer(COUNTY, case_id, PREFECTURE)
        await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert 1 == len(bureaus.node(PREFECTURE).link.streams)
    assert (1, 1) == (files_kept(bureaus, COUNTY), files_kept(bureaus, PREFECTURE))


async def test_bureaus_of_one_node_hand_files_over_without_sending_them(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, SMALL)
    await bureaus.refer(COUNTY, case_id, OTHER_COUNTY)
    await bureaus.reached(OTHER_COUNTY, case_id, Custody.OWNED)
    assert [] == bureaus.node(OTHER_COUNTY).link.streams
    assert SMALL == await bureaus.content(OTHER_COUNTY, case_id, digest_of(SMALL))


async def test_a_case_that_comes_back_brings_what_was_attached_meanwhile_and_counts_it(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, SMALL, name="申请.pdf")
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    await bureaus.attach(PREFECTURE, case_id, b"opinion", name="意见.docx")
    await bureaus.act(PREFECTURE, case_id, acts.Return(reason="属于本级职责"))
    await bureaus.reached(PREFECTURE, case_id, Custody.RELEASED)
    assert ["申请.pdf", "意见.docx"] == [one.name for one in bureaus.attachments(COUNTY, case_id)]
    assert 2 == (await bureaus.case(COUNTY, case_id)).attached
    assert b"opinion" == await bureaus.content(COUNTY, case_id, digest_of(b"opinion"))
    assert 1 == len(bureaus.node(COUNTY).link.streams)


async def test_a_receiver_that_asks_for_a_file_of_another_case_does_not_get_it(bureaus: Federation) -> None:
    offer = await offered(bureaus, SMALL)
    other = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, other, b"of another case")
    wanted = [Missing(digest_of(b"of another case"), 0), Missing(digest_of(SMALL), 0)]

    async def ask(do: Do, context: Context) -> Any:
        await context.abort_with_status(rpc_status.to_status(to_status(AttachmentsMissing(tuple(wanted)))))

    bureaus.node(PREFECTURE).link.fault = ask
    node = bureaus.node(COUNTY)
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    assert [Missing(digest_of(SMALL), 0)] == courier_module.missing_of(failed.value, offer)


async def test_a_peer_that_has_been_brought_everything_and_wants_more_is_set_aside(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ASIDE_SECONDS_MIN", courier_module.ASIDE_SECONDS_MAX)

    async def never_enough(do: Do, context: Context) -> Any:
        missing = AttachmentsMissing((Missing(digest_of(SMALL), 0),))
        await context.abort_with_status(rpc_status.to_status(to_status(missing)))

    receiver = bureaus.node(PREFECTURE)
    receiver.link.fault = never_enough
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, SMALL)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    destination = await until(lambda: bureaus.node(COUNTY).parts.courier.destinations.get((COUNTY, PREFECTURE)))
    await until(lambda: destination.aside)
    assert 1 == len(receiver.link.streams)


async def offered(bureaus: Federation, content: bytes) -> referral_pb2.Offer:
    """The offer of a new case of the county's that has a file, not sent."""
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    case_id = await bureaus.register(COUNTY)
    await bureaus.attach(COUNTY, case_id, content)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    offer = offers.owed(bureaus.history(COUNTY, case_id), PREFECTURE)
    assert isinstance(offer, referral_pb2.Offer)
    return offer


async def messages(content: bytes) -> AsyncIterator[referral_pb2.PutAttachmentRequest]:
    async for piece in pieces_of(content):
        yield referral_pb2.PutAttachmentRequest(data=piece)


def put(
    stub: ReferralServiceStub,
    bureaus: Federation,
    offer: referral_pb2.Offer,
    content: bytes,
    *,
    digest: str = "",
    from_byte: int = 0,
) -> Any:
    """Brings the prefecture the content from a byte on, as the county's node."""
    first = referral_pb2.PutAttachmentRequest(
        offer=sealed(offer, bureaus.node(COUNTY).seal), digest=digest or digest_of(content), from_byte=from_byte
    )
    return send(stub.PutAttachment(timeout=SECONDS), first, messages(content[from_byte:]))
