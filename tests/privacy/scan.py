"""Looking for what is private where it must not be, in every form in which a program may have written it."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np
import psutil

ENCODINGS: Final = ("utf-8", "utf-16-le", "utf-16-be", "gb18030")
READ_BYTES: Final = 64 * 2**20
"""Of a file at a time; the next piece begins a little before the end of the last one."""
OVERLAP_BYTES: Final = 4096
HEAD_BYTES: Final = 8
"""By so many first bytes a form is recognised before it is compared: thousands of data are looked for in one reading."""
TABLE_BITS: Final = 20
_FACTOR: Final = np.uint64(0x9E37_79B9_7F4A_7C15)


@dataclass(frozen=True, order=True)
class Leak:
    """A private datum that was found: where, which, and in which form."""

    place: str
    datum: str
    form: str


def forms(text: str) -> dict[str, bytes]:
    """How a text may stand in bytes: in several encodings, as in an address, in JSON, in HTML, in base64, in hex."""
    found = {encoding: text.encode(encoding) for encoding in ENCODINGS}
    utf8 = found["utf-8"]
    escaped = json.dumps(text)[1:-1]
    found["json"] = escaped.encode()
    found["json, capitals"] = escaped.replace("\\u", "\0").upper().replace("\0", "\\u").encode()
    found["percent"] = quote(text, safe="").encode()
    found["percent, small"] = quote(text, safe="").lower().encode()
    found["percent, gbk"] = quote(text, safe="", encoding="gb18030").encode()
    found["html"] = "".join(f"&#{ord(one)};" for one in text).encode()
    found["html, hex"] = "".join(f"&#x{ord(one):x};" for one in text).encode()
    found["hex"] = utf8.hex().encode()
    for shift in range(3):
        # Without the characters that depend on what stands before and after.
        whole = base64.b64encode(bytes(shift) + utf8)
        cut = whole[(0, 2, 3)[shift] : -4]
        found[f"base64 {shift}"] = cut
        found[f"base64 {shift}, for addresses"] = cut.replace(b"+", b"-").replace(b"/", b"_")
    return found


class TooShort(Exception):
    """A datum cannot be told from what stands anywhere."""

    def __init__(self, datum: str, form: str) -> None:
        super().__init__(f"{datum} has fewer than {HEAD_BYTES} bytes as {form}")


def _places(heads: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """Where in the table a head has its bit."""
    return (heads * _FACTOR) >> np.uint64(64 - TABLE_BITS)


class Scan:
    """Scans for some data; `leaks` are all that was found, `bytes_read` how much was looked at."""

    def __init__(self, data: Mapping[str, str]) -> None:
        self.leaks: set[Leak] = set()
        self.bytes_read = 0
        self._needles: dict[int, list[tuple[str, str, bytes]]] = {}
        for datum, text in data.items():
            for form, needle in forms(text).items():
                if len(needle) < HEAD_BYTES:
                    raise TooShort(datum, form)
                head = int.from_bytes(needle[:HEAD_BYTES], "little")
                self._needles.setdefault(head, []).append((datum, form, needle))
        self._heads = np.array(sorted(self._needles), dtype="<u8")
        self._table = np.zeros(1 << TABLE_BITS, dtype=bool)
        self._table[_places(self._heads)] = True

    def content(self, place: str, content: bytes | str) -> None:
        """Looks through bytes, or a text."""
        looked_at = content if isinstance(content, bytes) else content.encode()
        self.bytes_read += len(looked_at)
        self.leaks.update(Leak(place, datum, form) for datum, form in self._found(looked_at))

    def _found(self, content: bytes) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for shift in range(min(HEAD_BYTES, len(content) - HEAD_BYTES + 1)):
            words = np.frombuffer(content, "<u8", (len(content) - shift) // HEAD_BYTES, shift)
            likely = np.flatnonzero(self._table[_places(words)])
            for at in likely[np.isin(words[likely], self._heads)].tolist():
                start = shift + HEAD_BYTES * at
                found.update(
                    (datum, form)
                    for datum, form, needle in self._needles[int(words[at])]
                    if content.startswith(needle, start)
                )
        return found

    def file(self, path: Path) -> None:
        """Looks through a file and its name."""
        self.content(f"name of {path}", str(path))
        last = b""
        try:
            with path.open("rb") as file:
                while piece := file.read(READ_BYTES):
                    self.content(str(path), last + piece)
                    last = piece[-OVERLAP_BYTES:]
        except FileNotFoundError:
            pass  # gone meanwhile

    def folder(self, folder: Path, *, without: Iterable[str] = ()) -> None:
        """Looks through all files under a folder, but for some folders right under it."""
        for path in folder.rglob("*"):
            if path.is_file() and path.relative_to(folder).parts[0] not in set(without):
                self.file(path)

    def process(self, pid: int, *, within: Path) -> None:
        """Looks through a process's command, its environment, and what files it has open elsewhere."""
        for side in ("cmdline", "environ"):
            self.content(f"{side} of {pid}", Path(f"/proc/{pid}/{side}").read_bytes())
        for opened in psutil.Process(pid).open_files():
            path = Path(opened.path)
            if (
                path.is_file()
                and not path.is_relative_to(within)
                and not str(path).startswith(("/usr", "/lib", "/proc"))
            ):
                self.file(path)
