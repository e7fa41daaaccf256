"""The mapping file of `kx case import`: which columns of somebody's table are which fields of a registration.

Its format is in docs/LEDGER.md. A setting that means nothing is refused, for a typing mistake would otherwise register
other data in silence.
"""

import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar

from kuaixiang.domain.labels import Both, NoSuchWord, word_of
from kuaixiang.domain.words import Category, Channel
from kuaixiang.text.columns import NOTICE_CATEGORIES, NOTICE_CHANNELS, OWN, REQUIRED, TITLES, Mapping
from kuaixiang.text.tables import plain
from kx.output import Failed

_W = TypeVar("_W", Category, Channel)


def _unstopped(said: Both) -> Both:
    return Both(said.english.rstrip("."), said.chinese.rstrip("。"))


class _Wrong(Exception):
    """A setting of a mapping file is unknown or cannot be so."""

    def __init__(self, setting: str, sentence: Both) -> None:
        super().__init__(sentence.english)
        self.setting = setting
        self.sentence = sentence


_SETTINGS: Final = frozenset({"columns", "values", "defaults", "finished", "heading_row"})


def load_mapping(file: Path | None) -> Mapping:
    """The mapping of a file, our own headings for None. Raises `Failed`."""
    if file is None:
        return OWN
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        return _mapping(settings)
    except OSError as error:
        why = Both(f"cannot be read: {error.strerror}", f"无法读取：{error.strerror}")
    except (ValueError, RecursionError) as error:
        why = Both(f"is no TOML: {error}", f"不是有效的 TOML：{error}")
    except _Wrong as wrong:
        why = Both(f"{wrong.setting}: {wrong.sentence.english}", f"设置 {wrong.setting}：{wrong.sentence.chinese}")
    raise Failed(
        Both(f"The mapping {file} {why.english}.", f"对照文件 {file} {why.chinese}。"),
        field="--mapping",
        rule="Mapping",
        remedy=Both("Correct it; docs/LEDGER.md describes the format.", "请改正，格式见 docs/LEDGER.md。"),
    )


def _mapping(settings: dict[str, Any]) -> Mapping:
    _known("", settings, _SETTINGS)
    columns = {
        field: _headings(f"columns.{field}", given)
        for field, given in _known("columns", settings.get("columns", {}), TITLES).items()
    }
    values = _known("values", settings.get("values", {}), {"category", "channel"})
    defaults = _known("defaults", settings.get("defaults", {}), {"category", "channel"})
    for field in REQUIRED:
        if field not in columns and field not in defaults:
            raise _Wrong(f"columns.{field}", Both("is missing, and a registration needs it", "未填写，而登记时必须有"))
    finished = settings.get("finished", [])
    if not isinstance(finished, list) or not all(isinstance(value, str) for value in finished):
        raise _Wrong("finished", Both("must be a list of texts", "应为文字列表"))
    if finished and "status" not in columns:
        raise _Wrong("columns.status", Both("is missing, and `finished` is about it", "未填写，而 finished 须与其对照"))
    heading_row = settings.get("heading_row", 0)
    if not isinstance(heading_row, int) or isinstance(heading_row, bool) or heading_row < 0:
        raise _Wrong("heading_row", Both("must be the number of a row", "应为行号"))
    return Mapping(
        columns=columns,
        categories=NOTICE_CATEGORIES | _words("values.category", Category, values.get("category", {})),
        channels=NOTICE_CHANNELS | _words("values.channel", Channel, values.get("channel", {})),
        default_category=_default(Category, defaults, "category"),
        default_channel=_default(Channel, defaults, "channel"),
        finished=frozenset(map(plain, finished)),
        heading_row=heading_row,
    )


def _known(where: str, given: Any, names: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever TOML holds
    if not isinstance(given, dict):
        raise _Wrong(where, Both("must be a table", "应为一组设置"))
    for name in given:
        if name not in names:
            known = ", ".join(sorted(names))
            raise _Wrong(
                f"{where}.{name}".removeprefix("."),
                Both(f"means nothing; there is {known}", f"没有此项，可用：{known}"),
            )
    return given


def _headings(setting: str, given: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever TOML holds
    headings = given if isinstance(given, list) else [given]
    if not headings or not all(isinstance(heading, str) and plain(heading) for heading in headings):
        raise _Wrong(setting, Both("must be a heading, or a list of headings", "应为列标题，或者列标题的列表"))
    return tuple(headings)


def _words(setting: str, words: type[_W], given: Any) -> dict[str, _W]:  # noqa: ANN401 - whatever TOML holds
    if not isinstance(given, dict):
        raise _Wrong(setting, Both("must be a table", "应为一组设置"))
    return {plain(value): _one(f"{setting}.{value}", words, word) for value, word in given.items()}


def _default(words: type[_W], defaults: dict[str, Any], field: str) -> _W | None:
    return _one(f"defaults.{field}", words, defaults[field]) if field in defaults else None


def _one(setting: str, words: type[_W], given: Any) -> _W:  # noqa: ANN401 - whatever TOML holds
    try:
        return word_of(words, str(given))
    except NoSuchWord as unknown:
        raise _Wrong(setting, _unstopped(unknown.said)) from None
