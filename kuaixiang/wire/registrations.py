"""Streams of registrations: by what a row without a number of its own is known, and what a node answers.

A node of the first release reads one registration of a message alone. Of a message with many it reads none, and refuses
the nothing that it has read, in a response without `answers`: by this it is known, and asked again one by one.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from kuaixiang.wire.v1 import case_pb2

DIGEST_CHARACTERS: Final = 40
"""160 bits, in hexadecimal."""


class ReadsOneAlone(Exception):
    """Many registrations of a message were sent to a node that reads one alone; none of them has been registered."""


def answers_in(response: case_pb2.RegisterCasesResponse, *, sent_alone: bool) -> Sequence[case_pb2.RegistrationAnswer]:
    """The answers of a response; that to a registration which was sent alone as if it had been one of many.

    Raises `ReadsOneAlone`.
    """
    if response.answers:
        return response.answers
    if not sent_alone:
        raise ReadsOneAlone
    answer = case_pb2.RegistrationAnswer(index=response.index)
    if response.HasField("accepted"):
        accepted = response.accepted
        answer.accepted.case_id = accepted.case.case_id
        answer.accepted.seq = accepted.seq
        answer.accepted.repeated_request = accepted.repeated_request
    else:
        answer.refused.CopyFrom(response.refused)
    return [answer]


def digest_of(request: case_pb2.RegisterCaseRequest, *more: str, but: str = "") -> str:
    """A digest of what a request says, without one field and with more beside it."""
    said = case_pb2.RegisterCaseRequest()
    said.CopyFrom(request)
    if but:
        said.ClearField(but)  # type: ignore[arg-type]
    content = b"\0".join((said.SerializeToString(deterministic=True), *(part.encode() for part in more)))
    return hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]


def reference_of_row(digest: str, said: int) -> str:
    """The number of a row that has none of its own: by what it says, and how many rows have said that (1 or more)."""
    return f"row-{digest}-{said}"
