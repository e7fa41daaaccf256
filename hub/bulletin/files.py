"""A bulletin as a file, in the form that is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hub.bulletin.document import Bulletin, Format
from hub.bulletin.docx import as_docx
from hub.bulletin.html import as_html
from hub.bulletin.xlsx import as_xlsx
from kuaixiang.domain.errors import Condition, Refused

CONTENT_BYTES_MAX: Final = 3 * 2**20
"""A message holds four mebibytes. A bulletin of the largest tier takes some tens of kibibytes."""


class BulletinTooLarge(Refused):
    """A bulletin does not fit into one answer."""

    condition = Condition.INVALID
    field = "scope"
    remedy = "Ask for the bulletin of a bureau further down, or in another format."
    remedy_chinese = "请改为索取下级单位的通报，或选择其他格式。"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"The bulletin takes {size_bytes} bytes; {CONTENT_BYTES_MAX} can be sent.",
            f"通报大小为{size_bytes}字节，超过上限{CONTENT_BYTES_MAX}字节。",
        )


@dataclass(frozen=True, slots=True)
class File:
    """A file to be kept or sent."""

    name: str
    media_type: str
    content: bytes


_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_WRITERS: Final[Mapping[Format, tuple[str, Callable[[Bulletin], bytes]]]] = {
    Format.HTML: ("text/html; charset=utf-8", as_html),
    Format.DOCX: (f"{_OFFICE}.wordprocessingml.document", as_docx),
    Format.XLSX: (f"{_OFFICE}.spreadsheetml.sheet", as_xlsx),
}


def as_file(bulletin: Bulletin, wanted: Format) -> File:
    """Write a bulletin down. Raises `BulletinTooLarge`."""
    media_type, write = _WRITERS[wanted]
    content = write(bulletin)
    if len(content) > CONTENT_BYTES_MAX:
        raise BulletinTooLarge(len(content))
    return File(f"bulletin-{bulletin.scope}-{bulletin.period}.{wanted.name.lower()}", media_type, content)
