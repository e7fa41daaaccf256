"""Who opens what is private: each place is named here with what becomes of it, so that none comes up unseen."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("node", "hub", "kx", "kuaixiang")
OPENERS = {
    "private_of",
    "snapshots",
    "histories",
    "history",
    "attachments_of",
    "registrations",
    "registrations_at",
    "registrations_of",
    "private_kept",
    "open_private",
    "open_salted",
}
"""Functions of the ledger that give private parts in clear."""

OWNERS = {"queries", "texts", "database", "vault", "ledger"}
"""As what they are called on."""

READERS = {
    # To persons, after `node.readings` has recorded it, or masked.
    "node/cases.py GetCase": "recorded by let_read before, or masked",
    "node/cases.py briefs": "masked",
    "node/cases.py had_other_words": "told to nobody: whether it equals what was sent",
    "node/readings.py history_of": "recorded by let_read before, or masked",
    "node/channels/ledger_export.py _rows": "recorded before the first line, or masked",
    "node/desk/case_page.py file": "a name for the answer that ReadAttachment records or refuses",
    "node/duplicates.py _catch_up": "hashes",
    "node/duplicates.py _look": "masked",
    "node/export.py export_ledger": "recorded by record_export before",
    "node/supervision.py GetOrder": "what bureaus write to each other about cases, not what taxpayers have told",
    # To the notifier of taxpayers, as an entry of the journal says before.
    "node/callbacks/notifier.py deliver": "recorded by record_note before it is handed over",
    # To superiors: without private parts.
    "node/supervision.py GetSubordinateCase": "private=False",
    "node/federation/server.py _segment": "private=False",
    # To superiors' machines: masked terms and beginnings.
    "node/journals.py ReadTerms": "masked",
    "node/journals.py _masked": "masked",
    # To nobody: from ledger to ledger, within one, or to the peers that have the case.
    "node/federation/courier.py _histories": "to the peer that the case is offered to",
    "node/federation/cosign.py _handed_over": "to the peer that had the case before",
    "node/restoration.py _set_aside": "to the administrator's file, of a backup's entries that were never cosigned",
    "node/ledger/queries.py attachments_of": "",
    "node/ledger/queries.py histories": "",
    "node/ledger/queries.py history": "",
    "node/ledger/queries.py private_of": "",
    "node/ledger/queries.py snapshots": "",
    "node/ledger/texts.py _read": "",
    "node/ledger/texts.py private_kept": "",
    "node/ledger/projections.py _read": "",
    "node/ledger/sealing.py _words_anew": "",
    "node/ledger/erasing.py kept_of": "",
}


def opened_in(path: Path) -> set[str]:
    """The functions of a module in which something private is opened: called, or handed to a thread to be called."""
    found: set[str] = set()
    of_the_ledger = "node/ledger" in path.as_posix()

    def look(node: ast.AST, within: str) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                within = node.name
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in OPENERS and owner in OWNERS:
                found.add(f"{path.relative_to(ROOT).as_posix()} {within}")
            case ast.Name(id=name, ctx=ast.Load()) if name in OPENERS and of_the_ledger:
                found.add(f"{path.relative_to(ROOT).as_posix()} {within}")
        for child in ast.iter_child_nodes(node):
            look(child, within)

    look(ast.parse(path.read_text("utf-8")), "module")
    return found


def test_private_data_are_opened_where_it_is_said_and_nowhere_else() -> None:
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "/wire/v1/" not in path.as_posix():
                found |= opened_in(path)
    assert sorted(found) == sorted(READERS)


@pytest.mark.parametrize(
    "line",
    ["queries.private_of(d, b, c, 1)", "await to_thread(queries.snapshots, d)", "database.open_private(b, 1, s)"],
)
def test_a_new_reader_would_be_seen(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.house.test_private_readers.ROOT", tmp_path)
    (tmp_path / "new.py").write_text(f"async def leak():\n    return {line}\n")
    assert {"new.py leak"} == opened_in(tmp_path / "new.py")
