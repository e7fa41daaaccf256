"""Ledgers that are filled by copies, for benchmarks, are ledgers like any other."""

from pathlib import Path

import sqlalchemy as sa

from bench.filling import counties, fill_by_copies
from node.ledger import evidence, schema
from node.ledger.ledger import Ledger

CASES, COPIES = 40, 3
"""One case of each open life, and the others are done."""


def projected(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every projection."""
    with ledger.database.reading() as connection:
        tables = (schema.BUREAUS, *schema.PROJECTIONS)
        return {table.name: sorted(map(tuple, connection.execute(sa.select(table)).all())) for table in tables}


def test_a_ledger_filled_by_copies_has_whole_chains_and_nothing_that_a_rebuild_would_change(tmp_path: Path) -> None:
    bureaus = counties(2)
    entries = fill_by_copies(tmp_path / "ledger.db", bureaus, CASES * COPIES, CASES)
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", bureaus)
    try:
        for bureau in bureaus:
            head = ledger.heads[bureau]
            assert head.cases_registered == CASES * COPIES
            end = evidence.chain_end(ledger.database, bureau, head.seq)
            assert end is not None
            assert end.hash == head.hash
        before = projected(ledger)
        assert entries == ledger.rebuild()
        assert before == projected(ledger)
    finally:
        ledger.close()
