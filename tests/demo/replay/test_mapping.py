import copy
from pathlib import Path
from typing import Any

import pytest

from demo.replay.mapping import (
    SHIPPED,
    MappingUnreadable,
    SettingMissing,
    SettingUnknown,
    SettingWrong,
    load_mapping,
    parse_mapping,
)

SMALL: dict[str, Any] = {
    "log": {"title": "small", "form": "cases"},
    "case": {"id": "id", "text": "{what}"},
    "time": {"registered": "opened", "completed": "closed"},
    "tree": {"headquarters": "HQ", "province": {"constant": "P"}, "bureau": {"column": "team"}},
    "category": {"default": "other"},
    "channel": {"default": "other"},
}


def changed(path: str, value: object) -> dict[str, Any]:
    content = copy.deepcopy(SMALL)
    *sections, key = path.split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
    if value is None:
        del place[key]
    else:
        place[key] = value
    return content


def test_a_mapping_knows_the_columns_that_it_needs() -> None:
    assert parse_mapping(SMALL).columns() == {"id", "what", "opened", "closed", "team"}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_mapping_is_sound(path: Path) -> None:
    assert load_mapping(path).title


@pytest.mark.parametrize("setting", ["log.title", "case.id", "time.completed", "tree.province", "category.default"])
def test_a_missing_setting_is_named(setting: str) -> None:
    with pytest.raises(SettingMissing, match=setting):
        parse_mapping(changed(setting, None))


@pytest.mark.parametrize("setting", ["log.titel", "tree.bureau.colum", "tree.shap", "clock", "category.tables"])
def test_a_setting_that_means_nothing_is_named(setting: str) -> None:
    with pytest.raises(SettingUnknown, match=setting):
        parse_mapping(changed(setting, "x"))


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("log.form", "rows", "events or cases"),
        ("log.title", 7, "a text"),
        ("case", "id", "a table"),
        ("time.zone", "Atlantis/Capital", "a time zone"),
        ("time.zone", "../etc/passwd", "a time zone"),
        ("time.earliest", "2015", "a day"),
        ("time.completed_slack_s", "60", "a whole number"),
        ("time.completed_slack_s", True, "a whole number"),
        ("tree.shape", "star", "columns or exchange"),
        ("tree.bureau.constant", "both", "either a column or a constant"),
        ("category.default", "taxes", "policy or enforcement or service or systems or remedy or other"),
        ("channel.table", [{"column": "via", "values": {"pigeon": "pigeon"}}], "hotline or platform"),
        ("channel.table", "via", "an array of tables"),
        ("status", {"column": "s", "completed": "Closed", "open": []}, "an array of texts"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(setting: str, value: object, expected: str) -> None:
    with pytest.raises(SettingWrong, match=expected) as raised:
        parse_mapping(changed(setting, value))
    assert raised.value.setting.startswith(setting) or setting.startswith(raised.value.setting)


def test_exchange_and_a_prefecture_column_do_not_go_together() -> None:
    content = changed("tree.shape", "exchange")
    content["tree"] |= {"prefecture": {"column": "office"}, "lines": {}}
    with pytest.raises(SettingWrong, match="none where shape is exchange"):
        parse_mapping(content)


@pytest.mark.parametrize("content", [b"[log", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MappingUnreadable, match=r"m\.toml"):
        load_mapping(path)
