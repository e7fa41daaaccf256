"""A hub's folder over one database, without a bus, and ways to feed and question it."""

from typing import Any

from demo.journals import DAY, MONDAY, Journal
from hub.folder import Folder, Message, Taken
from hub.query import Question, Row, figures
from hub.store import Store
from hub.words import Grouping
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.bus import head_subject, journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1 import journal_pb2 as pb
from tests.hub.journals import HEADQUARTERS, tree

NOW = MONDAY + 20 * DAY


class Bench:
    """Opens the database; `reopen` is a crash and a start."""

    def __init__(self, url: str, scope: str = HEADQUARTERS, of: BureauTree | None = None) -> None:
        self.url = url
        self.scope = scope
        self.tree = of or tree()
        self.now = NOW
        self.seconds = 1000.0
        self.open()

    def open(self) -> None:
        self.store = Store(self.url, self.tree, self.scope)
        self.folder = Folder(store=self.store, now_us=lambda: to_micros(self.now), monotonic=lambda: self.seconds)

    def reopen(self) -> None:
        self.store.close()
        self.open()

    def message(self, content: pb.Segment | pb.Head, site: str = "", subject: str = "") -> Message:
        at = site or self.tree.site(content.bureau)
        make = head_subject if isinstance(content, pb.Head) else journal_subject
        return Message(at, subject or make(at, content.bureau), content.SerializeToString())

    def feed(self, *contents: pb.Segment | pb.Head) -> Taken:
        return self.folder.take([self.message(content) for content in contents])

    def rows(self, scope: str = "", grouping: Grouping = Grouping.TOTAL, **more: Any) -> list[Row]:
        with self.store.reading() as connection:
            question = Question(scope or self.scope, grouping=grouping, **more)
            return figures(connection, self.tree, question, to_micros(self.now))

    def facts(self, scope: str = "") -> dict[str, int]:
        return self.rows(scope)[0].facts


def cases(bureau: str, count: int, **more: Any) -> Journal:
    """A journal of as many ordinary cases."""
    journal = Journal(bureau)
    for number in range(count):
        journal.live(f"{bureau}-{number}", **more)
    return journal
