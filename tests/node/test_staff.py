"""The list of staff is read again when its file changes; a wrong file changes nothing."""

from pathlib import Path

import pytest

from kuaixiang.accounts.staff import FAILED, StaffList
from kuaixiang.facts import FactsError

BUREAU = "330106"
LIST = """
version = "{version}"
[330106.departments]
tax-service = {{ kind = "tax-service" }}
[330106.officers]
{officer} = {{ roles = ["tax-service"], departments = ["tax-service"] }}
"""


def written(file: Path, officer: str, version: str = "1") -> Path:
    file.write_text(LIST.format(officer=officer, version=version))
    return file


async def test_a_changed_list_holds_without_a_restart(tmp_path: Path) -> None:
    file = written(tmp_path / "staff.toml", "wang")
    staff = StaffList(file, [BUREAU])
    assert ["wang"] == list(staff.of(BUREAU).officers)
    written(file, "zhaoli", version="2")
    await staff.step()
    assert ["zhaoli"] == list(staff.of(BUREAU).officers)


@pytest.mark.parametrize(
    "content", ["nonsense", LIST.format(officer="li", version="2").replace("330106", "330102"), None]
)
async def test_a_list_that_has_become_wrong_changes_nothing_and_is_counted_once(
    tmp_path: Path, content: str | None
) -> None:
    file = written(tmp_path / "staff.toml", "wang")
    staff = StaffList(file, [BUREAU])
    before = FAILED._value.get()
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    await staff.step()
    await staff.step()
    assert ["wang"] == list(staff.of(BUREAU).officers)
    assert before + 1 == FAILED._value.get()


def test_a_node_does_not_begin_with_a_wrong_list(tmp_path: Path) -> None:
    file = tmp_path / "staff.toml"
    file.write_text("nonsense")
    with pytest.raises(FactsError):
        StaffList(file, [BUREAU])


async def test_without_a_list_terminals_are_believed() -> None:
    staff = StaffList(None, [BUREAU])
    await staff.start()
    assert not staff.of(BUREAU).listed
    await staff.stop()
