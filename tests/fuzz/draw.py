"""Hostile values out of bytes: the same bytes give the same values, so that a case of a corpus is a file.

A fuzzer changes bytes; what they mean is decided here: lengths and choices that a form's field never has, texts that break
readers, numbers at the edges. A message is filled by its descriptor, most fields plausibly, so that rules are met and not the
form alone.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor as Kinds
from google.protobuf.message import Message

T = TypeVar("T")

TEXTS = (
    "",
    " ",
    "\x00",
    "0",
    "-1",
    "110101",
    "110000",
    "000000",
    "110105",
    "999999",
    "tax-service",
    "officer-1",
    "110101-2026-0000001",
    "110101-2026-9999999",
    "../../../etc/passwd",
    "'; DROP TABLE journal; --",
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x")',
    "\u202e\u0000\ufeff",
    "\U0001f4a9" * 9,
    "e\u0301" * 40,
    "季度销售额没有超过三十万元",
    "15400001234",
    "91110101MA0000000X",
    "2026-09-21",
    "2026-13-45",
    "a" * 300,
    "诉" * 11_000,
    "%s%n{0}{x.__class__}",
    "\ud7ff\ue000",
)
NUMBERS = (0, 1, -1, 2, 3, 7, 63, 64, 127, 255, 1_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
PLAUSIBLE = {
    "bureau": ("110101", "110101", "110101", "110000"),
    "actor": ("officer-1", "officer-2", "officer-3"),
    "department": ("tax-service", "goods-services-tax"),
    "to_department": ("goods-services-tax", "tax-service"),
    "category": (1,),
    "taxpayer_name": ("晨光文具店",),
    "contact": ("15400001234",),
    "final_bureau": ("000000", "110000", "110105"),
    "to_bureau": ("110101", "110000"),
    "from_bureau": ("000000", "110105"),
    "receiver": ("110101", "110105"),
    "subordinate": ("110101", "110105"),
    "peer": ("110000", "110101"),
    "scope": ("000000", "110000"),
    "period": ("2026-10", "2026-Q4", "2026"),
    "from_day": ("2026-11-01",),
    "to_day": ("2026-11-30",),
    "channel_reference": ("", "reference-1"),
    "taxpayer_number": ("", "91110101MA0000000X"),
    "media_type": ("text/plain",),
}
"""What a field of that name may well hold."""
OMITTED_OF_256 = 14
PLAUSIBLE_OF_256 = 225
DEPTH_MAX = 4
REPEATED_MAX = 5


class Draw:
    """Draws from bytes; when they are used up, the plainest."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def empty(self) -> bool:
        """Whether all is used up."""
        return self._at >= len(self._data)

    def number(self, below: int) -> int:
        """From 0 on."""
        value = 0
        for _ in range(1 if below <= 256 else 2):
            value = value << 8 | (self._data[self._at] if self._at < len(self._data) else 0)
            self._at += 1
        return value % below

    def choice(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[self.number(len(among))]

    def chance(self, of_256: int) -> bool:
        """So often in 256 times."""
        return self.number(256) < of_256

    def bytes(self, most: int) -> bytes:
        """Some bytes as they come."""
        length = self.number(most + 1)
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken

    def text(self) -> str:
        """A text, hostile now and then."""
        if self.chance(40):
            return self.bytes(60).decode("utf-8", errors="replace")
        return self.choice(TEXTS)


def filled(message: Message, draw: Draw, known: Sequence[str], depth: int = 0) -> Message:
    """The message with most of its fields set. `known`: texts that mean something to the receiver."""
    for field in message.DESCRIPTOR.fields:
        if draw.chance(OMITTED_OF_256):
            continue
        if field.is_repeated:
            _repeated(message, field, draw, known, depth)
        elif field.type == Kinds.TYPE_MESSAGE:
            if depth < DEPTH_MAX:
                getattr(message, field.name).SetInParent()
                filled(getattr(message, field.name), draw, known, depth + 1)
        else:
            _set(message, field, _value(field, draw, known))
    return message


def _repeated(message: Message, field: Any, draw: Draw, known: Sequence[str], depth: int) -> None:
    values: Any = getattr(message, field.name)
    for _ in range(draw.number(REPEATED_MAX)):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return  # no request has one
        if field.type == Kinds.TYPE_MESSAGE:
            if depth < DEPTH_MAX:
                filled(values.add(), draw, known, depth + 1)
        else:
            values.append(_value(field, draw, known))


def _set(message: Message, field: Any, value: object) -> None:
    setattr(message, field.name, value)


def _value(field: Any, draw: Draw, known: Sequence[str]) -> Any:
    if field.name in PLAUSIBLE and draw.chance(PLAUSIBLE_OF_256):
        return draw.choice(PLAUSIBLE[field.name])
    if field.name.endswith("case_id") and draw.chance(PLAUSIBLE_OF_256):
        return draw.choice(known[-3:])
    match field.type:
        case Kinds.TYPE_STRING:
            return draw.choice(known) if draw.chance(150) else draw.text()
        case Kinds.TYPE_BYTES:
            return draw.bytes(80)
        case Kinds.TYPE_BOOL:
            return draw.chance(128)
        case Kinds.TYPE_ENUM:
            assert field.enum_type is not None
            numbers = [value.number for value in field.enum_type.values]
            return draw.choice(numbers) if draw.chance(230) else draw.choice((99, -1, 2**31 - 1))
        case Kinds.TYPE_DOUBLE | Kinds.TYPE_FLOAT:
            return draw.choice((0.0, -1.0, 1e308, float("nan"), float("inf")))
        case _:
            return _number(field, draw)


def _number(field: Any, draw: Draw) -> int:
    unsigned = field.cpp_type in {Kinds.CPPTYPE_UINT32, Kinds.CPPTYPE_UINT64}
    bits = 32 if field.cpp_type in {Kinds.CPPTYPE_UINT32, Kinds.CPPTYPE_INT32} else 64
    least, most = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    number: int = min(max(draw.choice(NUMBERS), least), most)
    return number
