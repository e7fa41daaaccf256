"""Files of cases between bureaus: brought ahead of the offer, once, by digest; what breaks off goes on."""

import asyncio
import random
from hashlib import sha256
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from kuaixiang.domain import acts
from kuaixiang.domain.attachments import ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX
from kuaixiang.domain.words import Custody
from kuaixiang.runtime import pki
from kuaixiang.wire.errors import RemoteRefusal, from_call
from kuaixiang.wire.v1 import common_pb2, referral_pb2
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
    Federation,
    pieces_of,
    sealed,
    until,
)

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
