"""The users file when several change it at once: nothing that one has written is undone by another."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kuaixiang.accounts.users import User, UsersFile, changing, load_users, save_users
from tests.hub.journals import DONGCHENG

ONE, OTHER = User("$argon2id$v=19$one"), User("$argon2id$v=19$other")
NEW = "$argon2id$v=19$new"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("kuaixiang.accounts.users.is_hash", lambda text: text.startswith("$argon2id$"))
    file = tmp_path / "users.toml"
    save_users(file, {(DONGCHENG, "T01"): ONE, (DONGCHENG, "R01"): OTHER})
    return file


@pytest.mark.parametrize(
    "now", [replace(ONE, disabled=True), None, OTHER], ids=["disabled", "removed", "other-password"]
)
async def test_who_is_not_in_the_file_any_more_as_he_signed_in_does_not_get_back_by_a_new_password(
    file: Path, now: User | None
) -> None:
    users = UsersFile(file)
    was = users.of(DONGCHENG, "T01")
    assert was is not None
    with changing(file) as known:
        del known[DONGCHENG, "T01"]
        if now is not None:
            known[DONGCHENG, "T01"] = now
    written = file.read_bytes()
    assert await users.set_password(DONGCHENG, "T01", was, NEW) is None
    assert written == file.read_bytes()
    await users.step()
    found = users.of(DONGCHENG, "T01")
    assert (now if now is not None and not now.disabled else None) == found


def test_who_changes_the_file_waits_for_whoever_does_and_reads_what_he_has_written(file: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with changing(file) as known:
            known[DONGCHENG, "T01"] = replace(ONE, disabled=True)
            other = pool.submit(_add, file)
            with pytest.raises(TimeoutError):
                other.result(0.2)
        other.result(30)
    found = load_users(file)
    assert found[DONGCHENG, "T01"].disabled
    assert (DONGCHENG, "N01") in found
    assert [file] == list(file.parent.iterdir())


def _add(file: Path) -> None:
    with changing(file) as known:
        known[DONGCHENG, "N01"] = ONE
