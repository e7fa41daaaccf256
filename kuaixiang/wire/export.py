"""The file of an exported ledger: a line that says what it is, then records, each preceded by its length as a varint.

Whoever reads one believes nothing: a record that is longer than a record can be, ends early, has fields of no meaning
or is not written as this system writes it is named by its number and the file is read no further.
"""

from collections.abc import Iterator
from typing import IO, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from kuaixiang.wire.v1 import export_pb2

FIRST_LINE: Final = b"kuaixiang-ledger-1\n"
RECORD_BYTES_MAX: Final = 4 * 1024 * 1024
"""An entry with its private part is a few kilobytes; what a node takes in one message bounds all that it can hold."""
_LENGTH_BYTES_MAX: Final = 4
"""A varint of so many bytes reaches to 256 MiB."""

M = TypeVar("M", bound=Message)


class ExportUnreadable(Exception):
    """A file, from some record on, is none that an export writes; record 0 is the header, record n is entry n."""

    def __init__(self, record: int, english: str, chinese: str) -> None:
        self.record = record
        self.english = english
        self.chinese = chinese
        super().__init__(f"record {record}: {english}")


def write_record(file: IO[bytes], record: Message) -> None:
    """Appends a record."""
    content = record.SerializeToString(deterministic=True)
    file.write(_varint(len(content)) + content)


def read_export(file: IO[bytes]) -> tuple[export_pb2.ExportHeader, Iterator[export_pb2.ExportedEntry]]:
    """The header, and the entries as they come. Raises `ExportUnreadable`, the entries likewise."""
    if file.read(len(FIRST_LINE)) != FIRST_LINE:
        raise ExportUnreadable(0, "it does not begin as an exported ledger does", "开头不是导出的台账")
    header = _read_record(file, 0, export_pb2.ExportHeader)
    if header is None:
        raise ExportUnreadable(0, "it ends before its header", "内容不全")
    return header, _entries(file)


def _entries(file: IO[bytes]) -> Iterator[export_pb2.ExportedEntry]:
    number = 1
    while (entry := _read_record(file, number, export_pb2.ExportedEntry)) is not None:
        yield entry
        number += 1


def _read_record(file: IO[bytes], number: int, kind: type[M]) -> M | None:
    length = shift = 0
    for at in range(_LENGTH_BYTES_MAX):
        byte = file.read(1)
        if not byte:
            if at == 0:
                return None
            raise ExportUnreadable(number, "it ends within a length", "在长度字段处中断")
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:  # noqa: PLR2004 - a varint's last byte
            break
    else:
        raise ExportUnreadable(number, "its length is none that a record has", "长度超出限度")
    if length > RECORD_BYTES_MAX:
        raise ExportUnreadable(number, f"it says that it has {length} bytes", f"声明的长度为 {length} 字节，超出限度")
    content = file.read(length)
    if len(content) < length:
        raise ExportUnreadable(
            number,
            f"it ends after {len(content)} of {length} bytes",
            f"在 {length} 字节中的第 {len(content)} 字节处中断",
        )
    try:
        record = kind.FromString(content)
    except DecodeError:
        raise ExportUnreadable(number, "it is no record", "内容不是记录") from None
    again = kind.FromString(content)
    again.DiscardUnknownFields()
    if again.SerializeToString(deterministic=True) != content or len(_varint(length)) != at + 1:
        raise ExportUnreadable(number, "it is not written as an export is", "写法与导出格式不符")
    return record


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
