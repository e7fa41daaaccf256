"""Files of cases at the command line: sent, listed, fetched where they are wanted and nowhere else."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kuaixiang.wire.v1 import common_pb2
from kx import files
from kx.output import Failed
from tests.kx.conftest import COUNTY, HEADQUARTERS, PROVINCE, Officers, refusal, told

CONTENT = os.urandom(700_001)
DIGEST = sha256(CONTENT).hexdigest()


def registered(officers: Officers) -> str:
    done = told(
        officers.at(COUNTY, "registrar")(
            "register",
            *("--taxpayer", "晨光文具店", "--contact", "15400001234", "--text", os.urandom(20).hex()),
            *("--category", "policy", "--anyway", "--json"),
        )
    )
    return str(done["case"]["case_id"])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    file = tmp_path / "营业执照 扫描.jpg"
    file.write_bytes(CONTENT)
    return file


def test_a_file_is_attached_listed_shown_and_fetched_as_it_was(officers: Officers, scan: Path, tmp_path: Path) -> None:
    case_id = registered(officers)
    county = officers.at(COUNTY, "registrar")
    done = told(county("attach", case_id, str(scan), "--json"))
    assert (case_id, 2) == (done["case"]["case_id"], done["case"]["version"])
    expected = {"digest": DIGEST, "name": "营业执照 扫描.jpg", "media_type": "image/jpeg", "size_bytes": len(CONTENT)}
    assert [expected] == told(county("attachments", case_id, "--json"))["attachments"]
    for shown in (county("attachments", case_id).output, county("show", case_id, "--private").output):
        assert "营业执照 扫描.jpg" in shown
        assert DIGEST in shown
    assert DIGEST not in county("show", case_id).output
    folder = tmp_path / "out"
    folder.mkdir()
    fetched = told(county("fetch", case_id, DIGEST[:8], "--out", str(folder), "--json"))
    assert str(folder / "营业执照 扫描.jpg") == fetched["file"]
    assert CONTENT == Path(fetched["file"]).read_bytes()
    assert ["营业执照 扫描.jpg"] == [file.name for file in folder.iterdir()]


def test_a_leader_lists_files_and_fetches_none_and_the_case_shows_who_did(
    officers: Officers, scan: Path, tmp_path: Path
) -> None:
    case_id = registered(officers)
    registrar, leader = officers.at(COUNTY, "registrar"), officers.at(COUNTY, "deputy-head")
    told(registrar("attach", case_id, str(scan), "--json"))
    assert [DIGEST] == [one["digest"] for one in told(leader("attachments", case_id, "--json"))["attachments"]]
    out = tmp_path / "out.jpg"
    assert "PrivateNotForRole" == refusal(leader("fetch", case_id, DIGEST, "--out", str(out), "--json"))["rule"]
    assert not out.exists()
    told(registrar("fetch", case_id, DIGEST, "--out", str(out), "--json"))
    history = told(leader("show", case_id, "--json"))["history"]
    assert [f"registrar-{COUNTY}"] == [item["actor"] for item in history if item["event"] == "attachment_read"]


def test_the_same_key_attaches_once(officers: Officers, scan: Path) -> None:
    case_id = registered(officers)
    county = officers.at(COUNTY, "registrar")
    first = told(county("attach", case_id, str(scan), "--key", "scan-1", "--json"))
    again = told(county("attach", case_id, str(scan), "--key", "scan-1", "--json"))
    assert (False, True, first["seq"]) == (first["repeated_request"], again["repeated_request"], again["seq"])


def test_what_is_there_stays_unless_it_is_to_be_replaced(officers: Officers, scan: Path, tmp_path: Path) -> None:
    case_id = registered(officers)
    county = officers.at(COUNTY, "registrar")
    told(county("attach", case_id, str(scan), "--json"))
    folder = tmp_path / "out"
    folder.mkdir()
    kept, elsewhere = folder / "kept.jpg", tmp_path / "elsewhere"
    kept.write_bytes(b"mine")
    link = folder / "link.jpg"
    link.symlink_to(elsewhere)
    for target in (kept, link):
        refused = refusal(county("fetch", case_id, DIGEST, "--out", str(target), "--json"))
        assert ("FileExistsError", "--out") == (refused["rule"], refused["field"])
    assert b"mine" == kept.read_bytes()
    told(county("fetch", case_id, DIGEST, "--out", str(kept), "--force", "--json"))
    told(county("fetch", case_id, DIGEST, "--out", str(link), "--force", "--json"))
    assert CONTENT == kept.read_bytes() == link.read_bytes()
    assert not elsewhere.exists()
    assert {"kept.jpg", "link.jpg"} == {file.name for file in folder.iterdir()}


def test_what_cannot_be_sent_or_fetched_is_said_in_both_languages(
    officers: Officers, scan: Path, tmp_path: Path
) -> None:
    case_id = registered(officers)
    county = officers.at(COUNTY, "registrar")
    large = tmp_path / "large.bin"
    with large.open("wb") as sparse:
        sparse.truncate(20 * 1024 * 1024 + 1)
    empty = tmp_path / "empty.txt"
    empty.touch()
    told(county("attach", case_id, str(scan), "--json"))
    commands: dict[str, tuple[str, ...]] = {
        "FileTooLarge": ("attach", case_id, str(large)),
        "FieldMissing": ("attach", case_id, str(empty)),
        "UnknownCase": ("attach", "110101-2026-7777777", str(scan)),
        "NoSuchAttachment": ("fetch", case_id, "000000", "--out", str(tmp_path / "x")),
        "FileNotFoundError": ("fetch", case_id, DIGEST, "--out", str(tmp_path / "nowhere" / "x")),
    }
    for rule, command in commands.items():
        refused = refusal(county(*command, "--json"))
        assert rule == refused["rule"]
        assert refused["message"]
        assert refused["message_chinese"]
        assert refused["remedy_chinese"]
    refused = refusal(officers.at(COUNTY, "deputy-head")("attach", case_id, str(scan), "--json"))
    assert "RoleNotAllowed" == refused["rule"]


def test_a_file_goes_with_its_case_to_headquarters(officers: Officers, scan: Path, tmp_path: Path) -> None:
    case_id = registered(officers)
    told(officers.at(COUNTY, "registrar")("attach", case_id, str(scan), "--json"))
    county = officers.at(COUNTY, "tax-service")
    refer = ("refer", case_id, "--to", HEADQUARTERS, "--reason", "需要上级解释", "--telling", "transferred", "--json")
    told(county(*refer))
    for bureau in (PROVINCE, HEADQUARTERS):
        here = officers.at(bureau)
        listed = here("attachments", case_id, "--json")
        for _ in range(200):
            if listed.exit_code == 0:
                break
            listed = here("attachments", case_id, "--json")
        assert [DIGEST] == [one["digest"] for one in told(listed)["attachments"]]
        out = tmp_path / bureau
        told(here("fetch", case_id, DIGEST, "--out", str(out), "--json"))
        assert CONTENT == out.read_bytes()


def test_a_name_that_leads_elsewhere_is_written_in_the_folder_that_was_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = common_pb2.Attachment(digest=DIGEST, name="../../evil.sh", size_bytes=len(CONTENT))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.setattr(files, "_read", sending(CONTENT))
    assert folder / "evil.sh" == files.fetch(None, None, "x", file, folder, force=False)  # type: ignore[arg-type]
    assert CONTENT == (folder / "evil.sh").read_bytes()


def test_content_that_has_another_digest_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = common_pb2.Attachment(digest=DIGEST, name="a.jpg", size_bytes=len(CONTENT))
    monkeypatch.setattr(files, "_read", sending(CONTENT[1:]))
    with pytest.raises(Failed) as failure:
        files.fetch(None, None, "x", file, tmp_path / "a.jpg", force=False)  # type: ignore[arg-type]
    assert "ContentDiffers" == failure.value.rule
    assert [] == list(tmp_path.iterdir())
    kept = tmp_path / "b.jpg"
    kept.write_bytes(b"mine")
    with pytest.raises(Failed):
        files.fetch(None, None, "x", file, kept, force=True)  # type: ignore[arg-type]
    assert [b"mine"] == [one.read_bytes() for one in tmp_path.iterdir()]


def sending(content: bytes) -> Any:
    """A node that sends that content, whatever was asked."""

    async def read(_asking: object, _who: object, _case_id: str, _file: object, writing: Any) -> str:
        writing.write(content)
        return sha256(content).hexdigest()

    return read
