"""Between JSON and the wire's messages, by their descriptors: one rule for each type of field, for whatever is asked.

A word of an enum is its English name (`joint-handling`), an instant is ISO 8601 with its offset, a message that is not
there is null. Protobuf's own mapping is not this one: it would tell programs `STAGE_JOINT_HANDLING` and UTC.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both, listed
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import http_pb2
from node.channels.requests import shown, stamp
from node.desk.asking import whole_number

NUMBERS: Final = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32})
UNSPECIFIED: Final = "UNSPECIFIED"


class FieldsUnknown(Refused):
    """A request has fields that are none of its kind's. They are not repeated: a name may be anything."""

    condition = Condition.INVALID

    def __init__(self, count: int, known: tuple[str, ...]) -> None:
        self.remedy = f"Leave them out. There are: {', '.join(known) or '(none)'}."
        self.remedy_chinese = f"请去掉未知字段。可用字段：{listed(known) or '无'}。"
        super().__init__(
            f"{count} of the fields that were sent are not known here.", f"提交的内容中有 {count} 个未知字段。"
        )


def http_of(field: FieldDescriptor) -> http_pb2.HttpField:
    """What HTTP has to know of a field."""
    return field.GetOptions().Extensions[http_pb2.http_field]


@cache
def words_of(kind: EnumDescriptor) -> Mapping[str, int]:
    """The words of an enum by their English names, but the one that says nothing."""
    unsaid = kind.values_by_number[0].name
    prefix = unsaid.removesuffix(UNSPECIFIED)
    return {
        value.name.removeprefix(prefix).lower().replace("_", "-"): value.number for value in kind.values if value.number
    }


@cache
def _names_of(kind: EnumDescriptor) -> Mapping[int, str]:
    return {number: word for word, number in words_of(kind).items()}


def read(message: Message, fields: Iterable[FieldDescriptor], given: Mapping[str, Any], *, in_body: bool) -> None:
    """Fills those fields of a message from what was given by their names, each as text.

    In a body empty is left out; in an address only an empty text is. Raises `FieldsUnknown`, `FieldMalformed`.
    """
    known = {field.name: field for field in fields}
    unknown = len(given.keys() - known.keys())
    if unknown:
        raise FieldsUnknown(unknown, tuple(known))
    for name, value in given.items():
        field = known[name]
        if not isinstance(value, str):
            raise FieldMalformed(
                name, Both("is not a text", "不是文本"), Both("Send it as a JSON string.", "请以 JSON 字符串填写。")
            )
        if value or not (in_body or field.cpp_type == FieldDescriptor.CPPTYPE_STRING):
            _fill(message, field, value)


def _fill(message: Message, field: FieldDescriptor, written: str) -> None:
    name = field.name
    if field.message_type is Timestamp.DESCRIPTOR:
        getattr(message, name).CopyFrom(stamp(written, name))
    elif field.enum_type is not None:
        setattr(message, name, _word(field, written))
    elif field.cpp_type in NUMBERS:
        setattr(message, name, _number(field, written))
    else:
        try:
            setattr(message, name, written)
        except UnicodeEncodeError:
            raise FieldMalformed(
                name,
                Both("has half a character", "含有不完整的字符"),
                Both("Send the text in UTF-8.", "文字请采用 UTF-8 编码。"),
            ) from None


def _word(field: FieldDescriptor, written: str) -> int:
    """A word by its English name; the refusal does not repeat what was written."""
    words = words_of(field.enum_type)
    if written not in words:
        known = ", ".join(words)
        raise FieldMalformed(
            field.name,
            Both("is none of the words that it may be", "不在规定的选项中"),
            Both(f"Use one of {known}.", f"可选：{known}。"),
        )
    return words[written]


def _number(field: FieldDescriptor, written: str) -> int:
    bounds = http_of(field)
    if whole_number(written) not in range(bounds.minimum, bounds.maximum + 1):
        raise FieldMalformed(
            field.name,
            Both(
                f"is not a number from {bounds.minimum} to {bounds.maximum}",
                f"不是 {bounds.minimum} 至 {bounds.maximum} 的整数",
            ),
            Both("Send a whole number within these bounds, or leave it out.", "请填写该范围内的整数，或不填。"),
        )
    return int(written)


def told(message: Message) -> dict[str, Any]:
    """A message as JSON has it: every field of it, in the proto's order."""
    fields: Iterable[Any] = message.DESCRIPTOR.fields
    return {field.name: _told_of(message, field) for field in fields}


def _told_of(message: Message, field: FieldDescriptor) -> Any:  # noqa: ANN401 - what JSON holds
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_one(field, each) for each in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401 - what a field holds, what JSON does
    if field.message_type is Timestamp.DESCRIPTOR:
        return shown(instant(value))
    if field.message_type is not None:
        return told(value)
    if field.enum_type is not None:
        return _names_of(field.enum_type)[value]
    return value


def header_fields(kind: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields that come in headers, by these."""
    return {header: field for field in kind.fields if (header := http_of(field).header)}


def parameters_of(address: str) -> tuple[str, ...]:
    """The fields that an address names: `{case_id}`."""
    return tuple(re.findall(r"{(\w+)}", address))
