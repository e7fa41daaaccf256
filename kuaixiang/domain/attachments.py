"""The files of a case 附件: what they may be called, how large they may be, and which ones a case has.

A file is known by the digest of its content. Its name is what somebody wrote, and is never trusted: it is cleaned when
it comes in, and again wherever a file of that name is to be written.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.events import Attachment, Entry
from kuaixiang.domain.labels import Both

ATTACHMENT_BYTES_MAX: Final = 20 * 1024 * 1024
"""A scanned contract of a hundred pages; more is several files, or a data medium."""
ATTACHMENTS_MAX: Final = 20
"""Files of one case, wherever they were attached: with all of them an offer stays a small message."""
FILE_NAME_BYTES_MAX: Final = 240
"""80 Chinese characters. File systems take 255 bytes, and a file that is being written has a longer name."""
UNNAMED: Final = "attachment"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_SUFFIX_CHARACTERS_MAX: Final = 16
_NOT_IN_NAMES: Final = re.compile(r'[<>:"|?*]')
"""What Windows does not take in a file's name."""


def check_attachment(attachment: Attachment, within: str = "") -> Attachment:
    """The attachment with its name cleaned; raises `FieldMissing` or `FieldMalformed`, `within` naming the message."""
    check_digest(attachment.digest, f"{within}digest")
    size = attachment.size_bytes
    if size < 1:
        raise FieldMissing(f"{within}size_bytes", Both("a file with nothing in it says nothing", "附件不能是空文件"))
    if size > ATTACHMENT_BYTES_MAX:
        raise FieldMalformed(
            f"{within}size_bytes",
            Both(f"is {size} bytes", f"为 {size} 字节，过大"),
            Both(
                f"A file has at most {ATTACHMENT_BYTES_MAX // 2**20} MiB: make it smaller, or divide it.",
                f"每个附件最多 {ATTACHMENT_BYTES_MAX // 2**20} MiB，请压缩或者拆分。",
            ),
        )
    if not _MEDIA_TYPE.fullmatch(attachment.media_type):
        raise FieldMalformed(
            f"{within}media_type",
            Both("is not a media type", "不是媒体类型"),
            Both(
                "Say what the file is, such as application/pdf or image/jpeg; application/octet-stream if unknown.",
                "请写明文件类型，如 application/pdf、image/jpeg；不清楚的写 application/octet-stream。",
            ),
        )
    return Attachment(
        digest=attachment.digest, name=clean_name(attachment.name), media_type=attachment.media_type, size_bytes=size
    )


def check_attachments(attachments: Iterable[Attachment], within: str) -> None:
    """The files that an offer lists: each as it must be, none twice, not more than a case may have."""
    found = [check_attachment(attachment, within) for attachment in attachments]
    if len(found) > ATTACHMENTS_MAX or len({attachment.digest for attachment in found}) < len(found):
        raise FieldMalformed(
            within.rstrip("."),
            Both(
                f"lists {len(found)} files, more than a case has, or one twice",
                f"列有 {len(found)} 个附件，过多或者重复",
            ),
            Both(f"List each file once, at most {ATTACHMENTS_MAX}.", f"每个附件只列一次，最多 {ATTACHMENTS_MAX} 个。"),
        )


def check_digest(digest: str, field: str) -> None:
    """Raises `FieldMalformed` for what is no SHA-256 in hexadecimal digits."""
    if not _DIGEST.fullmatch(digest):
        raise FieldMalformed(
            field,
            Both("is not a digest", "不是文件摘要"),
            Both(
                "Give the SHA-256 of the content, 64 lower-case hexadecimal digits.",
                "请填写文件内容的 SHA-256 值（64位小写十六进制）。",
            ),
        )


def clean_name(name: str) -> str:
    """The last part of a path, without what no file's name should hold; `attachment` when nothing is left.

    Control characters and those that turn the direction of writing are dropped: they make one name look like another.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    shown = "".join(character for character in last if unicodedata.category(character)[0] != "C")
    plain = _NOT_IN_NAMES.sub("_", " ".join(shown.split())).strip(". ")
    stem, dot, suffix = plain.rpartition(".")
    if not dot or len(suffix) > _SUFFIX_CHARACTERS_MAX:
        stem, dot, suffix = plain, "", ""
    room = FILE_NAME_BYTES_MAX - len((dot + suffix).encode())
    stem = stem.encode()[:room].decode(errors="ignore")
    return (stem.rstrip(". ") + dot + suffix).strip(". ") or UNNAMED


def attachments_in(entries: Iterable[Entry], snapshot_version: int) -> tuple[Attachment, ...]:
    """The files of a case, each once, in the order in which they came; the entries given with their private parts.

    `snapshot_version` is the entry that brought the case here last: it lists what had been attached before.
    """
    found: dict[str, Attachment] = {}
    for entry in entries:
        if entry.version >= snapshot_version and entry.event.private is not None:
            for attachment in entry.event.private.attachments:
                found.setdefault(attachment.digest, attachment)
    return tuple(found.values())
