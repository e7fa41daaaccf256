"""A journal's hash chain: what each hash covers, and that nothing in it can be changed, moved or left out unseen."""

from hashlib import sha256

from hypothesis import assume, given
from hypothesis import strategies as st

from kuaixiang.wire.chain import GENESIS, NO_PRIVATE, link, links, private_digest

digests = st.binary(min_size=32, max_size=32)
parts = st.tuples(digests, st.binary(max_size=40))
journals = st.lists(parts, min_size=1, max_size=8)


def test_a_hash_covers_the_one_before_the_position_the_digest_and_the_public_part() -> None:
    expected = sha256(GENESIS + bytes(7) + b"\x02" + bytes(7) + b"\x01" + NO_PRIVATE + b"public").digest()
    assert expected == link(GENESIS, 2, 1, NO_PRIVATE, b"public")


def test_a_private_part_enters_by_its_salted_digest() -> None:
    assert sha256(b"salt" * 4 + b"payload").digest() == private_digest(b"salt" * 4, b"payload")


@given(journals, digests)
def test_the_hashes_of_a_run_are_those_of_its_entries_one_by_one(
    journal: list[tuple[bytes, bytes]], prev: bytes
) -> None:
    expected, at = [], prev
    for seq, (digest, public) in enumerate(journal, start=5):
        at = link(at, 3, seq, digest, public)
        expected.append(at)
    assert expected == links(prev, 3, 5, journal)


@given(journals, st.data())
def test_a_change_anywhere_changes_the_end(journal: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(journal) - 1))
    other = data.draw(parts)
    assume(other != journal[at])
    changed = [*journal[:at], other, *journal[at + 1 :]]
    assert links(GENESIS, 1, 1, journal)[-1] != links(GENESIS, 1, 1, changed)[-1]


@given(journals)
def test_the_same_entries_at_another_place_have_other_hashes(journal: list[tuple[bytes, bytes]]) -> None:
    hashes = links(GENESIS, 1, 1, journal)
    assert hashes[-1] != links(GENESIS, 1, 2, journal)[-1]
    assert hashes[-1] != links(GENESIS, 2, 1, journal)[-1]


@given(journals)
def test_leaving_the_last_entry_out_changes_the_end(journal: list[tuple[bytes, bytes]]) -> None:
    hashes = links(GENESIS, 1, 1, journal)
    assert len(hashes) == len(set(hashes)) == len(journal)
