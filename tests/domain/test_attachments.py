"""Files of cases: who attaches them and when, what they may be called, how many and how large they may be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.attachments import (
    ATTACHMENT_BYTES_MAX,
    ATTACHMENTS_MAX,
    FILE_NAME_BYTES_MAX,
    UNNAMED,
    attachments_in,
    check_attachment,
    clean_name,
)
from kuaixiang.domain.events import Attachment, Private
from kuaixiang.domain.words import Role
from tests.domain.story import (
    ATTACH,
    EXAMPLES,
    JOINT,
    RECEIVE,
    Story,
    completed,
    forwarded,
    handling,
    offered,
    received,
    registered,
    released,
)

FILE = Attachment(digest="cd" * 32, name="原始材料.zip", media_type="application/zip", size_bytes=7)


def another(number: int) -> acts.Attach:
    return replace(ATTACH, digest=f"{number:064x}")


def test_an_attachment_says_how_large_it_is_to_everybody_and_the_rest_to_its_bureau_alone() -> None:
    (event,) = registered().do(ATTACH)
    assert isinstance(event, events.AttachmentAdded)
    assert ATTACH.size_bytes == event.size_bytes
    whole = Attachment(digest=ATTACH.digest, name="合同.pdf", media_type="application/pdf", size_bytes=1_000)
    assert Private(attachments=(whole,)) == event.private


@pytest.mark.parametrize("story", [registered, forwarded, handling, completed], ids=lambda made: made.__name__)
def test_an_attachment_moves_neither_stage_nor_clocks(story: object) -> None:
    found = story()  # type: ignore[operator]
    before = found.case
    found.do(ATTACH)
    assert (before.stage, before.clocks, before.department) == (
        found.case.stage,
        found.case.clocks,
        found.case.department,
    )
    assert 1 == found.case.attached


def test_a_file_that_the_case_has_is_not_attached_again() -> None:
    assert () == registered().then(ATTACH).decide(ATTACH, is_attached=True)


def test_a_case_has_at_most_twenty_files_wherever_they_were_attached() -> None:
    came = replace(RECEIVE, attachments=tuple(replace(FILE, digest=f"{n:064x}") for n in range(ATTACHMENTS_MAX - 1)))
    story = Story().then(came)
    assert ATTACHMENTS_MAX - 1 == story.case.attached
    story.do(another(100))
    with pytest.raises(errors.TooManyAttachments) as refusal:
        story.do(another(101))
    assert "20" in str(refusal.value)


def test_a_handler_of_the_department_that_handles_the_case_attaches_to_it_and_no_other() -> None:
    handling().do(ATTACH, role=Role.HANDLER)
    with pytest.raises(errors.NotInCharge):
        handling().do(ATTACH, role=Role.HANDLER, department="audit")


def test_in_joint_handling_an_assisting_department_attaches_too() -> None:
    story = forwarded().then(JOINT)
    story.do(ATTACH, role=Role.HANDLER, department="audit")
    story.do(another(1), role=Role.HANDLER, department="policy")
    assert 2 == story.case.attached


def test_nothing_is_attached_to_a_case_that_is_offered_or_elsewhere() -> None:
    with pytest.raises(errors.CaseFrozen):
        offered().do(ATTACH)
    with pytest.raises(errors.NotCustodian):
        released().do(ATTACH)


def test_a_case_that_comes_back_has_the_files_that_it_comes_with() -> None:
    story = registered().then(ATTACH, EXAMPLES[acts.Forward], EXAMPLES[acts.Refer])
    outgoing = story.case.outgoing
    assert outgoing is not None
    story.do(acts.AcknowledgeAcceptance(referral_id=outgoing.referral_id, receipt_seq=1, receipt_hash=bytes(32)))
    own = Attachment(digest=ATTACH.digest, name="合同.pdf", media_type="application/pdf", size_bytes=1_000)
    back = replace(RECEIVE, offer_epoch=2, attachments=(own, FILE))
    story.do(back)
    assert 2 == story.case.attached
    story.do(another(9))
    listed = attachments_in(story.entries, story.case.snapshot_version)
    assert [ATTACH.digest, FILE.digest, f"{9:064x}"] == [one.digest for one in listed]


def test_what_a_received_case_came_with_is_in_its_private_part_and_counted_in_public() -> None:
    (event,) = Story().do(replace(RECEIVE, attachments=(FILE,)))
    assert isinstance(event, events.Received)
    assert event.private is not None
    assert ((FILE,), 1) == (event.private.attachments, event.attached)
    assert 0 == received().case.attached


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"digest": "AB" * 32}, "digest"),
        ({"digest": "ab" * 31}, "digest"),
        ({"digest": "ab" * 32 + "\n"}, "digest"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": ATTACHMENT_BYTES_MAX + 1}, "size_bytes"),
        ({"media_type": ""}, "media_type"),
        ({"media_type": "text"}, "media_type"),
        ({"media_type": "text/html; charset=utf-8"}, "media_type"),
        ({"media_type": "Text/Html"}, "media_type"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_by_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(errors.Refused) as refusal:
        registered().do(replace(ATTACH, **change))  # type: ignore[arg-type]
    assert field == refusal.value.field


def test_a_file_of_the_largest_size_is_attached() -> None:
    registered().do(replace(ATTACH, size_bytes=ATTACHMENT_BYTES_MAX))


@pytest.mark.parametrize(
    ("given_name", "clean"),
    [
        ("合同.pdf", "合同.pdf"),
        ("../../../etc/passwd", "passwd"),
        ("C:\\Users\\张三\\合同.pdf", "合同.pdf"),
        ("..", UNNAMED),
        ("a/", UNNAMED),
        ("", UNNAMED),
        (".bashrc", "bashrc"),
        ("发票\u202egpj.exe", "发票gpj.exe"),
        ("a\x00b\r\nc\t.txt", "abc.txt"),
        ("  两  个　空格 .txt", "两 个 空格.txt"),
        ('a<b>:"c|d?*.txt', "a_b___c_d__.txt"),
        ("e\u0301.txt", "é.txt"),
        ("说" * 200 + ".docx", "说" * 78 + ".docx"),
        ("\ud800", UNNAMED),
    ],
)
def test_a_name_is_kept_without_what_no_name_should_hold(given_name: str, clean: str) -> None:
    assert clean == clean_name(given_name)
    assert clean == check_attachment(replace(FILE, name=given_name)).name


@given(st.text(max_size=400))
def test_a_clean_name_is_one_that_any_file_system_takes_and_is_clean(name: str) -> None:
    clean = clean_name(name)
    assert clean == clean_name(clean)
    assert 0 < len(clean.encode()) <= FILE_NAME_BYTES_MAX
    assert clean not in {".", ".."}
    assert not set(clean) & set('/\\\0\n\r<>:"|?*')
