"""How the commands speak: the Chinese terms beside ours, words in both languages, times in Shanghai, refusals, JSON."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime
from enum import IntEnum
from typing import Any, Final, ParamSpec, Self, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.labels import NOTHING, Both, NoSuchWord, field_term, listed, name, term, word_of

FAULT_EXIT_CODE: Final = 1
"""The other side failed by a fault of its own."""
REFUSED_EXIT_CODE: Final = 2
"""The request was refused and nothing has changed."""
UNREACHABLE_EXIT_CODE: Final = 3
"""Nobody answered in time."""
DIFFERENT_EXIT_CODE: Final = 1
"""What was compared differs."""
PROGRESS_AFTER_SECONDS: Final = 2.0
"""What takes longer shows how far it is."""
WEEKDAYS: Final = "一二三四五六日"
TABLE_COLUMNS: Final = 230
"""The national table's width, where nothing else says how wide the output is."""
INSTANT_FORM: Final = "'YYYY-MM-DD', 'YYYY-MM-DD HH:MM' or ISO 8601"

W = TypeVar("W", bound=IntEnum)
P = ParamSpec("P")


# ---------------------------------------------------------------- words


def both(word: IntEnum) -> str:
    """A word in both languages."""
    return f"{name(word)} {term(word)}"


def names(words: type[IntEnum]) -> str:
    """All words of a kind, for a help text."""
    return ", ".join(map(both, words))


class NotUnderstood(typer.BadParameter):
    """What an option was given is not what it takes."""

    def __init__(self, said: Both) -> None:
        super().__init__(f"{said.english} {said.chinese}")
        self.said = said


def word_parser(words: type[W]) -> Callable[[str | W], W]:
    """What an option of that kind is read by."""

    def read(given: str | W) -> W:
        if isinstance(given, words):
            return given
        try:
            return word_of(words, str(given))
        except NoSuchWord as unknown:
            whole = (f"{sentence} {remedy}" for sentence, remedy in zip(unknown.said, unknown.remedy, strict=True))
            raise NotUnderstood(Both(*whole)) from None

    return read


def choice_of(*choices: str) -> Callable[[str], str]:
    """What an option is read by that is one of a few plain words."""

    def read(given: str) -> str:
        if given in choices:
            return given
        raise NotUnderstood(
            Both(f"{given!r} is none of {', '.join(choices)}.", f"“{given}”不在 {listed(choices)} 之中。")
        )

    return read


# ---------------------------------------------------------------- times


def local(at: datetime, *, seconds: bool = False) -> str:
    """An instant in Shanghai, to the minute."""
    return at.astimezone(SHANGHAI).isoformat(sep=" ", timespec="seconds" if seconds else "minutes")[
        : 19 if seconds else 16
    ]


def day_text(day: date) -> str:
    """A day with its weekday."""
    return f"{day.isoformat()} 周{WEEKDAYS[day.weekday()]}"


def instant_of(given: str | datetime) -> datetime:
    """An instant as officers write it, in Shanghai unless it says its offset."""
    if isinstance(given, datetime):
        return given
    try:
        at = datetime.fromisoformat(given.strip())
    except ValueError:
        said = Both(f"{given!r} is no time; write {INSTANT_FORM}.", f"“{given}”不是时间，请写作 {INSTANT_FORM}。")
        raise NotUnderstood(said) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=SHANGHAI)


def day_of(given: str | date) -> date:
    """A day as YYYY-MM-DD."""
    if isinstance(given, date):
        return given
    try:
        return date.fromisoformat(given.strip())
    except ValueError:
        said = Both(f"{given!r} is no day; write YYYY-MM-DD.", f"“{given}”不是日期，请写作 YYYY-MM-DD。")
        raise NotUnderstood(said) from None


# ---------------------------------------------------------------- failures


class Failed(Exception):
    """A command cannot do what was asked: what went wrong, by which rule, in which field, and what to do."""

    def __init__(
        self,
        sentence: Both,
        *,
        exit_code: int = REFUSED_EXIT_CODE,
        field: str = "",
        rule: str = "",
        remedy: Both = NOTHING,
        code: str = "",
    ) -> None:
        super().__init__(sentence.english)
        self.sentence = sentence
        self.exit_code = exit_code
        self.field = field
        self.rule = rule
        self.remedy = remedy
        self.code = code

    def as_dict(self) -> dict[str, str]:
        """The parts, for JSON."""
        return {
            "message": self.sentence.english,
            "message_chinese": self.sentence.chinese,
            "field": self.field,
            "rule": self.rule,
            "remedy": self.remedy.english,
            "remedy_chinese": self.remedy.chinese,
            "code": self.code,
        }


@contextlib.contextmanager
def failures_shown(*, as_json: bool) -> Iterator[None]:
    """A command's body: what fails in it is printed, as a red sentence with its parts or as JSON, and ends it."""
    try:
        yield
    except Failed as failure:
        if as_json:
            print_json({"error": failure.as_dict()})
        else:
            show_failure(failure)
        raise typer.Exit(failure.exit_code) from None


def failures_told(command: Callable[P, None]) -> Callable[P, None]:
    """A whole command as such a body; its option `as_json`, where it has one, says how."""

    @functools.wraps(command)
    def told(*given: P.args, **options: P.kwargs) -> None:
        with failures_shown(as_json=bool(options.get("as_json"))):
            command(*given, **options)

    return told


def show_failure(failure: Failed) -> None:
    """Print a failure to standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for sentence in filter(None, failure.sentence):
        console.print(sentence, style="red", markup=False)
    named = field_term(failure.field)
    field = failure.field if named == failure.field else f"{failure.field} {named}"
    parts = (("field", field), ("rule", failure.rule), ("do", failure.remedy.english), ("", failure.remedy.chinese))
    for label, value in parts:
        if value:
            console.print(f"  [dim]{label:<6}[/dim] {escape(value)}")


def note(*sentences: str) -> None:
    """Print a remark to standard error, away from the output: a line for each sentence."""
    Console(stderr=True, highlight=False, soft_wrap=True).print("\n".join(sentences), style="yellow", markup=False)


# ---------------------------------------------------------------- output


def wide(console: Console) -> Console:
    """A console that a broad table fits into, where the output is a file or a pipe with no width of its own."""
    if not console.is_terminal:
        console.width = max(console.width, TABLE_COLUMNS)
    return console


def print_json(value: object) -> None:
    """Print one JSON value on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


class Bar:
    """A progress bar on standard error that appears only once its work has taken more than two seconds."""

    def __init__(self, what: str, total: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID = self._progress.add_task(what, total=total)
        self._begun = time.monotonic()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def reached(self, done: int) -> None:
        """Say how much is done."""
        self._progress.update(self._task, completed=done)
        if not self._shown and time.monotonic() - self._begun > PROGRESS_AFTER_SECONDS:
            self._shown = True
            self._progress.start()


def table_of(message: Any) -> dict[str, Any]:  # noqa: ANN401 - any message of protobuf
    """A message in plain values: words by their lower-case names, instants in Shanghai, absent parts as None."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = [_plain(field, item) for item in value]
        elif field.message_type is not None and not message.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = _plain(field, value)
    return found


def _plain(field: Any, value: Any) -> Any:  # noqa: ANN401 - a descriptor and whatever it describes
    if field.enum_type is not None:
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        known = field.enum_type.values_by_number.get(value)
        if not value:
            return None
        return value if known is None else known.name.removeprefix(prefix).lower().replace("_", "-")
    if isinstance(value, bytes):
        return value.hex()
    if field.message_type is None:
        return value
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return value.ToDatetime(tzinfo=SHANGHAI).isoformat()
    return table_of(value)
