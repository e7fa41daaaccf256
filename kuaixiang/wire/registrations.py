"""Streams and files of registrations: how large a file is, by what its rows are known, and what a node answers.

A node of the first release reads one registration of a message alone. Of a message with many it reads none, and refuses
the nothing that it has read, in a response without `answers`: by this it is known, and asked again one by one.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from kuaixiang.text.columns import number_twice
from kuaixiang.text.tables import Bounds
from kuaixiang.wire.v1 import case_pb2

DIGEST_CHARACTERS: Final = 40
"""160 bits, in hexadecimal."""
HAND_IN: Final = Bounds(file_bytes=20 << 20, unpacked_bytes=128 << 20, rows=50_000, cells=2_000_000)
"""What one hand-in may be: a day of a province's hotline several times over, and some hundred megabytes of memory."""
CSV: Final = "text/csv"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
NDJSON: Final = "application/x-ndjson"
HAND_IN_KINDS: Final[Mapping[str, str]] = {".csv": CSV, ".xlsx": XLSX, ".ndjson": NDJSON}
"""What a hand-in may be, by how its file's name ends, and what it is called over HTTP."""


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


class RowNumbers:
    """By which numbers the rows of one file are registered, one row after the other."""

    def __init__(self) -> None:
        self._numbered: dict[tuple[int, str], tuple[str, int]] = {}
        self._said: Counter[str] = Counter()

    def number(self, row: int, channel: int, own: str, digest: str) -> str:
        """The row's own number at its channel; where it has none, by what it says and how many rows have said that.

        Raises `RowUnusable` for a number under which an earlier row says something else.
        """
        if not own:
            self._said[digest] += 1
            return f"row-{digest}-{self._said[digest]}"
        first, at = self._numbered.setdefault((channel, own), (digest, row))
        if first != digest:
            raise number_twice(at)
        return own
