"""Handing in a file at a bureau's door, over as many tries as it takes; what became of each row is kept beside it.

The acknowledgements are lines of JSON: the first says of which file, each other one what became of a row, as the door
has told it. So they say after any cut, of the line or of this machine, from which row on to go on.
"""

import hashlib
import json
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import httpx
from rich.console import Console

from kuaixiang.domain.labels import NOTHING, Both
from kuaixiang.runtime.vault import mode_open
from kuaixiang.web.serving import is_loopback
from kuaixiang.wire.registrations import HAND_IN, HAND_IN_KINDS
from kx.output import REFUSED_EXIT_CODE, UNREACHABLE_EXIT_CODE, Bar, Failed, note

CONNECT_SECONDS_MAX: Final = 10.0
SILENT_SECONDS_MAX: Final = 120.0
"""Between two acknowledgements; the first comes when the whole file has been read."""
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
AGAIN: Final = frozenset({429, 500, 502, 503, 504})
"""What a door, or a proxy before it, answers when nothing is decided."""
_AGAIN: Final = Both("Run the same command again: it goes on where it stopped.", "请重新执行同一命令，将从中断处继续。")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandIn:
    """What is handed in where, and where it is kept what became of it."""

    file: Path
    url: str
    token_file: Path
    authorities: Path | None
    acknowledgements: Path
    patience_seconds: float


@dataclass(slots=True)
class HandedIn:
    """What became of a file: rows by result, those acknowledged to an earlier command included."""

    acknowledgements: Path
    results: Counter[str] = field(default_factory=Counter)
    tries: int = 0

    @property
    def exit_code(self) -> int:
        """0 when every row is registered."""
        return REFUSED_EXIT_CODE if self.results["refused"] else 0

    def as_dict(self) -> dict[str, Any]:
        """The same in plain values."""
        return {
            "registered": self.results["registered"],
            "refused": self.results["refused"],
            "tries": self.tries,
            "acknowledgements": str(self.acknowledgements),
        }


def show_handed_in(done: HandedIn) -> None:
    """Print how many rows were registered, and where it stands what became of each."""
    Console(highlight=False, soft_wrap=True).print(
        f"{done.results['registered']} registered 已登记, {done.results['refused']} refused 被拒绝; "
        f"each row in {done.acknowledgements}."
    )


def hand_in(asked: HandIn) -> HandedIn:
    """Hands a file in until each row is acknowledged. Raises `Failed`."""
    kind = HAND_IN_KINDS.get(asked.file.suffix.lower())
    if kind is None:
        known = ", ".join(HAND_IN_KINDS)
        raise Failed(
            Both(f"{asked.file} is none of {known}.", f"文件 {asked.file} 的类型不在 {known} 之中。"),
            field="FILE",
            rule="NotTaken",
            remedy=Both("Name it by what it is.", "请按文件类型命名。"),
        )
    content = _content(asked.file)
    token = _token(asked.token_file)
    _check_url(asked.url)
    with _acknowledgements(asked, content) as kept, _client(asked, token) as client, Bar("Handing in", None) as bar:
        sender = _Sender(asked, client, kept, bar)
        sender.send_all(content, kind)
        return sender.done


@dataclass(slots=True)
class _Kept:
    """The file of acknowledgements, open at its end, and what it had already."""

    stream: IO[str]
    next_row: int
    results: Counter[str]

    def add(self, line: str) -> None:
        """Keeps a row's line."""
        self.stream.write(f"{line}\n")
        self.stream.flush()


class _Broken(Exception):
    """A try ended before the file was acknowledged whole: how it is to be told, when to try again at the soonest."""

    def __init__(self, failure: Failed, wait_seconds: float = 0.0) -> None:
        super().__init__(failure.sentence.english)
        self.failure = failure
        self.wait_seconds = wait_seconds


class _Sender:
    """Sends a file again and again from the first row that is not acknowledged."""

    def __init__(self, asked: HandIn, client: httpx.Client, kept: _Kept, bar: Bar) -> None:
        self.done = HandedIn(asked.acknowledgements, kept.results)
        self._asked = asked
        self._client = client
        self._kept = kept
        self._bar = bar

    def send_all(self, content: bytes, kind: str) -> None:
        """Raises `Failed` for a refusal of the whole file, and when the door has not answered for too long."""
        failures, silent_since = 0, time.monotonic()
        while True:
            before = self._kept.next_row
            try:
                self._send(content, kind)
            except _Broken as broken:
                if self._kept.next_row > before:
                    failures, silent_since = 0, time.monotonic()
                pause = max(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)], broken.wait_seconds)
                if time.monotonic() + pause > silent_since + self._asked.patience_seconds:
                    raise broken.failure from broken
                if not failures:
                    note(
                        f"{broken.failure.sentence.english} Going on at row {self._kept.next_row}.",
                        f"{broken.failure.sentence.chinese}将从第 {self._kept.next_row} 行继续。",
                    )
                failures += 1
                time.sleep(pause)
            else:
                return

    def _send(self, content: bytes, kind: str) -> None:
        """One try. Raises `_Broken`, `Failed`."""
        self.done.tries += 1
        try:
            with self._client.stream(
                "POST",
                "/v1/intakes",
                content=content,
                headers={"Content-Type": kind},
                params={"from_row": self._kept.next_row},
            ) as answer:
                if answer.is_success:
                    self._take(answer)
                    return
                answer.read()
        except (httpx.HTTPError, ssl.SSLError) as error:
            raise _Broken(_away(str(error) or type(error).__name__)) from None
        failure = _told(answer.status_code, _problem(answer))
        if answer.status_code in AGAIN:
            raise _Broken(failure, _seconds(answer.headers.get("retry-after", "")))
        raise failure

    def _take(self, answer: httpx.Response) -> None:
        for line in answer.iter_lines():
            told = _object(line)
            if told is None:
                break  # the end of a line that was cut off
            if "end" not in told:
                self._kept.add(line)
                self._kept.next_row = int(told["row"]) + 1
                self.done.results[str(told["result"])] += 1
                self._bar.reached(self.done.results.total())
            elif told["end"]:
                return
            else:
                problem = told.get("problem", {})
                failure = _told(int(problem.get("status", 503)), problem)
                if failure.exit_code == REFUSED_EXIT_CODE:
                    raise failure  # such as a token that has ended meanwhile
                raise _Broken(failure)
        raise _Broken(_away("the answer broke off"))


def _away(why: str) -> Failed:
    return Failed(
        Both(f"The door does not answer: {why}.", f"受理单位接口没有答复：{why}。"),
        exit_code=UNREACHABLE_EXIT_CODE,
        rule="Unreachable",
        remedy=_AGAIN,
    )


def _told(status: int, problem: Mapping[str, Any]) -> Failed:
    detail = str(problem.get("detail", "")) or f"The door answers {status}."
    return Failed(
        Both(detail, str(problem.get("detail_chinese", "")) or f"受理单位接口答复 {status}。"),
        exit_code=UNREACHABLE_EXIT_CODE if status in AGAIN else REFUSED_EXIT_CODE,
        field=str(problem.get("field", "")),
        rule=str(problem.get("rule", "")),
        remedy=Both(str(problem.get("remedy", "")), str(problem.get("remedy_chinese", ""))),
    )


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    return _object(answer.text) or {}


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _seconds(written: str) -> float:
    return float(written) if written.isascii() and written.isdigit() else 0.0


# ---------------------------------------------------------------- files


def _refused(sentence: Both, field_: str, rule: str, remedy: Both = NOTHING) -> Failed:
    return Failed(sentence, field=field_, rule=rule, remedy=remedy)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(HAND_IN.file_bytes + 1)
    except OSError as error:
        said = Both(f"{file} cannot be read: {error.strerror}.", f"{file} 无法读取：{error.strerror}。")
        raise _refused(said, "FILE", "Unreadable") from None
    if len(content) > HAND_IN.file_bytes:
        size = HAND_IN.file_bytes >> 20
        said = Both(f"{file} is larger than {size} MiB.", f"{file} 超过 {size} MiB。")
        raise _refused(said, "FILE", "TooLarge", Both("Split it.", "请拆分成几个文件。"))
    return content


def _token(file: Path) -> str:
    try:
        open_to_others = mode_open(file)
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        said = Both(f"There is no token in {file}.", f"{file} 中没有令牌。")
        raise _refused(said, "--token-file", "Unreadable") from None
    if open_to_others:
        said = Both(f"Others may read {file}.", f"其他人可以读取 {file}。")
        raise _refused(said, "--token-file", "OpenToOthers", Both(f"chmod 600 {file}", f"请执行 chmod 600 {file}。"))
    return token


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = parts.scheme == "http" and is_loopback(f"{parts.hostname}:{port or 80}")
    if not parts.hostname or not (parts.scheme == "https" or plain) or parts.username is not None:
        raise _refused(
            Both(f"{url!r} is no https address.", f"“{url}”不是 https 地址。"),
            "--to",
            "NotHttps",
            Both("A token does not travel in clear: write https://host:port.", "令牌不得明文传输，请使用 https。"),
        )


@contextmanager
def _client(asked: HandIn, token: str) -> Iterator[httpx.Client]:
    try:
        trusted = ssl.create_default_context(cafile=asked.authorities)
    except OSError as error:
        said = Both(f"{asked.authorities} cannot be used: {error}.", f"{asked.authorities} 无法使用：{error}。")
        raise _refused(said, "--authorities", "Unreadable") from None
    with httpx.Client(
        base_url=asked.url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=httpx.Timeout(SILENT_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
        follow_redirects=False,
        trust_env=False,
        verify=trusted,
    ) as client:
        yield client


@contextmanager
def _acknowledgements(asked: HandIn, content: bytes) -> Iterator[_Kept]:
    """Those of this very file go on where they stop; those of another one, and whole ones, begin anew."""
    heading = {"file": asked.file.name, "sha256": hashlib.sha256(content).hexdigest(), "to": asked.url}
    path = asked.acknowledgements
    try:
        known = path.read_bytes().decode("utf-8", "replace").split("\n") if path.exists() else []
        rows: list[tuple[str, dict[str, Any]]] = []
        if known and _object(known[0]) == heading:
            # The last piece is empty, or a line that was cut off.
            found = ((line, _object(line)) for line in known[1:-1])
            rows = [(line, told) for line, told in found if told is not None and "row" in told]
        is_whole = any((_object(line) or {}).get("end") for line in known[1:])
        if is_whole:
            rows = []
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            path.chmod(0o600)
            kept = _Kept(
                stream, int(rows[-1][1]["row"]) + 1 if rows else 1, Counter(str(told["result"]) for _, told in rows)
            )
            kept.add(json.dumps(heading, ensure_ascii=False))
            for line, _ in rows:
                kept.add(line)
            yield kept
            kept.add(json.dumps({"end": True}))
    except OSError as error:
        said = Both(f"{path} cannot be written: {error.strerror}.", f"{path} 无法写入：{error.strerror}。")
        raise _refused(said, "--acknowledgements", "Unwritable") from None
