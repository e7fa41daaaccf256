"""Folding again: a hub from its ledgers, a ledger's projections from its journal: `python -m bench.rebuild`.

Both against the rate at which the hub folds a backlog from the stream (`bench.hub_fold`), in the same rounds. The hub
rebuilds a province of a hundred bureaus, whose journals another process serves over gRPC with mutual TLS, as a node
does; its database has all of it already, so that what was folded is taken out first. The ledger is filled by copies of
cases that were made act by act (`bench.filling`).
"""

import asyncio
import gc
import multiprocessing
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from bench import filling, hub_fold, results
from demo.federation import tree_text
from hub.folder import Message
from hub.rebuild import rebuild
from hub.settings import HubSettings
from kuaixiang.domain.tree import Bureau, BureauTree
from kuaixiang.runtime import pki
from kuaixiang.runtime.serving import GARBAGE_THRESHOLDS
from kuaixiang.runtime.settings import read_settings
from kuaixiang.runtime.tls import SERVER_OPTIONS, server_credentials
from kuaixiang.wire.v1 import journal_pb2, ledger_pb2
from kuaixiang.wire.v1.ledger_pb2_grpc import LedgerServiceServicer, add_LedgerServiceServicer_to_server
from node.ledger.ledger import Ledger

SITE: Final = hub_fold.SITES[0]
LEDGERS: Final = 4
CASES: Final = 2_500
"""Of each of the ledgers whose projections are made again."""
PATTERN: Final = 1_000


class Ledgers(LedgerServiceServicer):
    """Serves journals as a node's LedgerService does."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.journals: dict[str, list[journal_pb2.Segment]] = {}
        for message in messages:
            segment = journal_pb2.Segment.FromString(message.data)
            self.journals.setdefault(segment.bureau, []).append(segment)

    async def ReadJournal(
        self, request: ledger_pb2.ReadJournalRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ledger_pb2.ReadJournalResponse]:
        for segment in self.journals.get(request.bureau, ()):
            yield ledger_pb2.ReadJournalResponse(segment=segment)

    async def GetHeads(
        self, request: ledger_pb2.GetHeadsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ledger_pb2.GetHeadsResponse:
        heads = []
        for bureau in request.bureaus:
            ends = self.journals.get(bureau)
            last = ends[-1] if ends else journal_pb2.Segment(first_seq=1, last_hash=bytes(32))
            heads.append(
                journal_pb2.Head(
                    bureau=bureau,
                    generation=last.generation,
                    seq=last.first_seq + len(last.entries) - 1,
                    hash=last.last_hash,
                )
            )
        return ledger_pb2.GetHeadsResponse(heads=heads)


def serve(messages: Sequence[Message], certificates: pki.CertificatePaths, pipe: Any) -> None:
    """The process of the ledgers; tells its port and serves until it is killed."""

    async def run() -> None:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        add_LedgerServiceServicer_to_server(Ledgers(messages), server)  # type: ignore[abstract]
        pipe.send(server.add_secure_port("127.0.0.1:0", server_credentials(certificates)))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


def province(port: int) -> BureauTree:
    """The part of the tree that is rebuilt, with the ledgers' endpoint."""
    tree = hub_fold.a_tree()
    wanted = (tree.root, *tree.subtree(SITE))
    return BureauTree(
        "bench",
        [
            Bureau(bureau.code, bureau.name, bureau.tier, bureau.parent, f"127.0.0.1:{port}")
            for bureau in map(tree.get, wanted)
        ],
    )


class Hub:
    """A province's hub and the process that serves its ledgers."""

    def __init__(self, folder: Path, messages: Sequence[Message]) -> None:
        pki.init_authority(folder / "authority", "bench")
        codes = hub_fold.a_tree().subtree(SITE)
        node = pki.issue(folder / "authority", folder / "node", "node", codes)
        pki.issue(folder / "authority", folder / "hub", "hub", [SITE])
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(messages, node, theirs), daemon=True)
        self.process.start()
        tree = folder / "tree.csv"
        tree.write_text(tree_text(province(ours.recv())), "utf-8")
        self.settings = read_settings(
            HubSettings,
            None,
            scope=SITE,
            tree=str(tree),
            database=f"sqlite:///{folder}/hub.db",
            certificates=str(folder / "hub"),
        )

    def again(self) -> float:
        """Rebuilds it; entries per second."""
        done = asyncio.run(rebuild(self.settings))
        assert not done.unreachable, done.unreachable
        assert not done.refused, done.refused
        return done.entries / done.seconds


def projections(path: Path, bureaus: Sequence[str]) -> float:
    """Makes a ledger's projections again; entries per second."""
    ledger = Ledger(f"sqlite:///{path}", bureaus)
    try:
        started = time.perf_counter()
        return ledger.rebuild() / (time.perf_counter() - started)
    finally:
        ledger.close()


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--entries", type=int, help="entries of the hub's backlog (200000)")
    parser.add_argument("--cases", type=int, help=f"cases of each of the {LEDGERS} ledgers ({CASES})")
    options = results.parse(parser)
    gc.set_threshold(*GARBAGE_THRESHOLDS)  # as in the processes of the commands, and of a hub
    tree = hub_fold.a_tree()
    messages = hub_fold.messages_of(tree, options.entries or (10_000 if options.short else 200_000), 100)
    entries = sum(len(journal_pb2.Segment.FromString(message.data).entries) for message in messages)
    bureaus = filling.counties(LEDGERS)
    folded, hubs, ledgers = [], [], []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        filling.fill_by_copies(
            folder / "node.db",
            bureaus,
            100 if options.short else options.cases or CASES,
            100 if options.short else PATTERN,
        )
        hub = Hub(folder, [message for message in messages if message.site == SITE])
        try:
            hub.again()
            for _ in range(options.rounds):
                folded.append(hub_fold.one_round(tree, messages, entries, "")[1])
                hubs.append(hub.again())
                ledgers.append(projections(folder / "node.db", bureaus))
        finally:
            hub.process.kill()
    against = "the hub's fold from the stream"
    rows = [
        results.Row.of(against, folded, "entries/s"),
        results.Row.of("a hub rebuilt from its ledgers", hubs, "entries/s", against, folded, "≥ 0.5"),
        results.Row.of("projections rebuilt from the journal", ledgers, "entries/s", against, folded, "≥ 0.5"),
    ]
    results.report("rebuild", rows, options)


if __name__ == "__main__":
    main()
