"""Ledgers with many cases, made in minutes: `python -m bench.filling FILE --bureaus 100 --cases 10000`.

A pattern of cases is made through the office, act by act (`bench.lives`), and then written again as often as is
wanted: each copy has a number, a contact, a channel's reference and referrals of its own, entries of its own in the
journal, chained by their hashes, private parts sealed for their places, words and rows in every projection. What comes
out is what the same acts would have left: `kx node rebuild` finds nothing to change.

Copies of an entry stand beside each other, so that a journal is in the order of time and the open cases are the latest.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bench.lives import NOW, fill
from kuaixiang.domain.events import Entry, Private
from kuaixiang.facts import national_tree
from kuaixiang.runtime.chance import Chance
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.text.finding import number_pieces, pieces_of
from kuaixiang.wire import chain
from kuaixiang.wire.codec import decode_entry, encode_private
from node.ledger import schema
from node.ledger.database import LedgerDatabase
from node.ledger.ledger import Ledger
from node.ledger.search import doc_number, word_rows

BUREAUS, CASES = 100, 10_000
"""Of the ledgers that several programs ask: as many as a server's certificate can name and still be told by gRPC to
whom it answers, a million cases together."""
BUREAUS_SHORT, CASES_SHORT = 3, 100
PATTERN_CASES: Final = 10_000
"""Cases that are made through the office: of each life, text and department as many as their shares say."""
SERIAL_DIGITS: Final = 7
CONTACT_DIGITS: Final = 8
REFERENCE_DIGITS: Final = 9
"""What ends in the number of a case: the case's own number, the taxpayer's contact, the channel's reference."""
REFERRAL_DIGITS: Final = 8
"""First digits of a referral's id: in them the copies differ."""
ROWS_MAX: Final = 20_000
"""Entries in one commit."""
COPIED: Final = (schema.CASES, schema.CLOCKS, schema.REFERRALS, schema.DELIVERIES)
"""Projections of cases that are copied row by row."""


def counties(count: int) -> tuple[str, ...]:
    """So many county bureaus of one province, under its prefectures."""
    tree = national_tree()
    for site in tree.sites():
        found = [code for code in tree.subtree(site) if not tree.children(code) and len(tree.ancestors(code)) == 3]
        if len(found) >= count:
            return tuple(found[:count])
    raise SystemExit(f"No province has {count} county bureaus.")


class _Pieces:
    """In the vault's place: gives the pieces themselves, so that those that all copies share are cut once."""

    @staticmethod
    def tokens(_bureau: str, pieces: tuple[str, ...]) -> list[str]:
        return [piece for piece in pieces if piece]


@dataclass(frozen=True, slots=True)
class Entered:
    """An entry of the pattern: its row, what it says, and the pieces that all its copies are found by."""

    row: dict[str, Any]
    entry: Entry
    pieces: tuple[str, ...]


def _ended(text: str, digits: int, number: int) -> str:
    return f"{text[:-digits]}{number:0{digits}}" if text else text


def _pieces(entry: Entry, private: Private) -> tuple[str, ...]:
    said = replace(entry, event=replace(entry.event, private=private))
    rows = word_rows(said, 0, _Pieces())  # type: ignore[arg-type]
    return tuple(rows[0][3].split(" ")) if rows else ()


def read_pattern(ledger: LedgerDatabase, bureau: str) -> list[Entered]:
    """The entries of the pattern's journal, first to last."""
    journal, parts = schema.JOURNAL, schema.PRIVATE
    both = (parts.c.bureau == journal.c.bureau) & (parts.c.seq == journal.c.seq)
    query = sa.select(journal, parts.c.sealed).select_from(journal.outerjoin(parts, both)).order_by(journal.c.seq)
    found = []
    with ledger.reading() as connection:
        for row in connection.execute(query.where(journal.c.bureau == bureau)).mappings():
            sealed = row["sealed"]
            opened = ledger.open_private(bureau, row["seq"], sealed) if sealed is not None else None
            entry = decode_entry(row["public"], opened)
            private = entry.event.private
            shared: tuple[str, ...] = ()
            if private is not None:
                shared = _pieces(replace(entry, case_id=""), replace(private, contact="", channel_reference=""))
            found.append(Entered(dict(row), entry, shared))
    return found


class Copier:
    """Writes the cases of a pattern into a ledger again, `copies` times into each bureau."""

    def __init__(self, pattern: LedgerDatabase, of: str, ledger: Ledger, copies: int) -> None:
        self._of, self._ledger, self._copies = of, ledger, copies
        self._tree, self._chance = national_tree(), Chance()
        self._entries = read_pattern(pattern, of)
        with pattern.reading() as connection:
            self._rows = {table: connection.execute(sa.select(table)).mappings().all() for table in COPIED}
            (self._head,) = connection.execute(sa.select(schema.BUREAUS)).mappings().all()
        self._referrals: dict[str, list[bytes]] = {}
        for row in self._rows[schema.REFERRALS]:
            self._referrals.setdefault(row["case_id"], []).append(row["referral_id"].encode())

    def write(self, bureau: str) -> int:
        """Fills the ledger of a bureau that has none; the number of its entries."""
        database, make = self._ledger.database, self._ledger.statements
        self._names = [
            (ours.encode(), theirs.encode())
            for ours, theirs in zip(
                self._tree.superiors_and_self(self._of), self._tree.superiors_and_self(bureau), strict=True
            )
        ]
        seq, hash_ = 0, chain.GENESIS
        step = max(1, ROWS_MAX // self._copies)
        for first in range(0, len(self._entries), step):
            journal, private, references, words = [], [], [], []
            for entered in self._entries[first : first + step]:
                row, shared = entered.row, database.vault.tokens(bureau, entered.pieces)
                for copy in range(self._copies):
                    seq += 1
                    case_id = self._case_id(row["case_id"], copy)
                    digest, said = chain.NO_PRIVATE, entered.entry.event.private
                    if said is not None:
                        said = self._said(said, copy)
                        payload, salt = encode_private(said), self._chance.draw(chain.SALT_BYTES)
                        digest = chain.private_digest(salt, payload)
                        private.append((bureau, seq, database.seal_private(bureau, seq, salt, payload)))
                        words.extend(self._words(shared, bureau, seq, case_id, said))
                        if said.channel_reference:
                            token = database.vault.references(bureau, said.channel_reference)[-1]
                            references.append((bureau, int(entered.entry.channel or 0), token, case_id, seq))
                    public = self._public(row["public"], row["case_id"], case_id, copy)
                    before, hash_ = hash_, chain.link(hash_, row["generation"], seq, digest, public)
                    told = (row["version"], row["kind"], row["recorded_at_us"], row["occurred_at_us"], row["actor"])
                    journal.append((bureau, seq, row["generation"], case_id, *told, public, digest, before, hash_))
            with database.writing.begin():
                database.run(make.add_entry, journal)
                database.run(make.add_private, private)
                database.run(make.add_reference, references)
                database.run(make.add_words, words)
        for table in COPIED:
            statement = database.insert(table)
            for rows in self._projected(table, bureau):
                with database.writing.begin():
                    database.run(statement, rows)
        registered = self._head["cases_registered"] * self._copies
        with database.writing.begin():
            database.run(make.put_bureau, [(bureau, self._head["generation"], seq, hash_, registered, 0)])
        return seq

    # ------------------------------------------------------------ one copy

    def _case_id(self, case_id: str, copy: int) -> str:
        bureau = self._names[0][1].decode()
        serial = (int(case_id[-SERIAL_DIGITS:]) - 1) * self._copies + copy + 1
        return f"{bureau}{_ended(case_id, SERIAL_DIGITS, serial)[len(bureau) :]}"

    def _said(self, private: Private, copy: int) -> Private:
        if not private.contact:
            return private
        number = int(private.contact[-CONTACT_DIGITS:]) * self._copies + copy
        return replace(
            private,
            contact=_ended(private.contact, CONTACT_DIGITS, number),
            channel_reference=_ended(private.channel_reference, REFERENCE_DIGITS, number),
        )

    def _public(self, public: bytes, case_id: str, copied: str, copy: int) -> bytes:
        """The public part with the copy's names in it: all as long as those of the pattern, so that its form stays."""
        public = public.replace(case_id.encode(), copied.encode())
        for ours, theirs in self._names:
            public = public.replace(ours, theirs)
        for referral in self._referrals.get(case_id, ()):
            public = public.replace(referral, self._referral(referral.decode(), copy).encode())
        return public

    def _referral(self, referral_id: str, copy: int) -> str:
        """Another id for each copy, in each bureau: a receiver must not take them for one."""
        first = (
            int(referral_id[:REFERRAL_DIGITS], 16) + copy * 1_000_000 + int(self._names[0][1])
        ) % 16**REFERRAL_DIGITS
        return f"{first:0{REFERRAL_DIGITS}x}{referral_id[REFERRAL_DIGITS:]}"

    def _words(self, shared: list[str], bureau: str, seq: int, case_id: str, said: Private) -> list[tuple[Any, ...]]:
        tokens = shared
        if said.contact:
            own = (*pieces_of(said.contact, said.channel_reference), *number_pieces(case_id))
            tokens = sorted({*shared, *self._ledger.database.vault.tokens(bureau, own)})
        return [(doc_number(bureau, seq), bureau, case_id, " ".join(tokens))] if tokens else []

    def _projected(self, table: sa.Table, bureau: str) -> Iterator[list[tuple[Any, ...]]]:
        names = {ours.decode(): theirs.decode() for ours, theirs in self._names}
        rows: list[tuple[Any, ...]] = []
        for row in self._rows[table]:
            for copy in range(self._copies):
                values = {
                    name: names.get(value, value) if isinstance(value, str) else value for name, value in row.items()
                }
                values["case_id"] = self._case_id(row["case_id"], copy)
                if "referral_id" in values:
                    values["referral_id"] = self._referral(row["referral_id"], copy)
                rows.append(tuple(values.values()))
            if len(rows) >= ROWS_MAX:
                yield rows
                rows = []
        yield rows


def fill_by_copies(path: Path, bureaus: tuple[str, ...], cases: int, pattern_cases: int = PATTERN_CASES) -> int:
    """Ledgers of so many cases each in a new SQLite file, with its clock; the number of entries of all of them."""
    pattern_cases = min(pattern_cases, cases)
    entries = 0
    with tempfile.TemporaryDirectory() as folder:
        pattern_path = Path(folder) / "pattern.db"
        asyncio.run(fill(pattern_path, pattern_cases, bureaus[0]))
        pattern = LedgerDatabase(f"sqlite:///{pattern_path}")
        ledger = Ledger(f"sqlite:///{path}", bureaus)
        copier = Copier(pattern, bureaus[0], ledger, cases // pattern_cases)
        started = time.monotonic()
        for bureau in bureaus:
            entries += copier.write(bureau)
            print(f"  {bureau}: {entries} entries after {time.monotonic() - started:.0f} s", flush=True)
        pattern.close()
        ledger.close()
    # The last thing that is made: a ledger with a clock is whole.
    SharedClockDriver(clock_of(path), NOW)
    return entries


def clock_of(path: Path) -> Path:
    """The file of the clock of such ledgers."""
    return path.with_name(f"{path.name}.clock")


def shared_ledgers(*, short: bool) -> tuple[tuple[str, ...], int]:
    """The bureaus of the ledgers that several programs ask, and the cases of each."""
    return (counties(BUREAUS_SHORT), CASES_SHORT) if short else (counties(BUREAUS), CASES)


def have_ledgers(path: Path, bureaus: tuple[str, ...], cases: int) -> None:
    """Fills a file unless it is filled; one that was not filled to its end is refused."""
    if clock_of(path).exists():
        return
    if path.exists():
        raise SystemExit(f"{path} was not filled to its end: delete it first.")
    fill_by_copies(path, bureaus, cases)


def main() -> None:
    """Fills a database and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path, help="the SQLite file to make")
    parser.add_argument("--bureaus", type=int, default=1, help="county bureaus, all of one province")
    parser.add_argument("--cases", type=int, default=1_000_000, help="cases of each of them")
    parser.add_argument("--pattern", type=int, default=PATTERN_CASES, help="cases that are made through the office")
    arguments = parser.parse_args()
    if arguments.database.exists():
        raise SystemExit(f"{arguments.database} is there already.")
    entries = fill_by_copies(arguments.database, counties(arguments.bureaus), arguments.cases, arguments.pattern)
    print(f"filled: {arguments.bureaus} bureaus of {arguments.cases} cases, {entries} entries")


if __name__ == "__main__":
    main()
