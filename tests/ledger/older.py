"""A ledger as an older version has left it: nothing sealed."""

import sqlalchemy as sa

from kuaixiang.runtime.vault import PLAIN
from node.ledger import schema
from node.ledger.database import LedgerDatabase, chunk_place, private_place, request_place


def unseal(database: LedgerDatabase) -> None:
    """Everything sealed is plain again, under no key; the words and references stay those of the key."""
    vault = database.vault
    parts, requests, chunks = schema.PRIVATE, schema.REQUESTS, schema.BLOB_CHUNKS
    with database.writing.begin():
        run = database.writing.execute
        for row in run(sa.select(parts)).all():
            plain = PLAIN + vault.open(private_place(row.bureau, row.seq), row.sealed)
            run(sa.update(parts).where(parts.c.bureau == row.bureau, parts.c.seq == row.seq).values(sealed=plain))
        for row in run(sa.select(requests)).all():
            plain = PLAIN + vault.open(request_place(row.bureau, row.request_key), row.digest)
            of_key = (requests.c.bureau == row.bureau) & (requests.c.request_key == row.request_key)
            run(sa.update(requests).where(of_key).values(digest=plain))
        for row in run(sa.select(chunks)).all():
            plain = PLAIN + vault.open(chunk_place(row.digest, row.number), row.data)
            run(
                sa.update(chunks).where(chunks.c.digest == row.digest, chunks.c.number == row.number).values(data=plain)
            )
        run(sa.delete(schema.DATA_KEYS))
        run(sa.insert(schema.DATA_KEYS).values(key_id=PLAIN.hex()))
