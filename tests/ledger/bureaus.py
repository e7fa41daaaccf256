"""The bureaus of a small tree on one ledger, and people who work there; no network: messages are carried by hand."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from random import Random
from typing import Any

import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.events import CalendarAdopted, PrivateRead
from kuaixiang.domain.lifecycle import possible
from kuaixiang.domain.words import Channel, Custody, Role, Stage
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.wire import chain
from kuaixiang.wire.v1 import referral_pb2
from node.federation.offers import owed
from node.ledger import queries, schema
from node.ledger.ledger import Draft, Ledger, Work
from node.office import Done, Header, Office, Place
from node.readings import record
from tests.domain.story import (
    ATTACH,
    BEIJING,
    CALENDAR,
    DEPARTMENTS,
    EXAMPLES,
    HANGZHOU,
    HEADQUARTERS,
    MONDAY,
    REGISTER,
    SHANGCHENG,
    TREE,
    USUAL_ROLE,
    XIHU,
    ZHEJIANG,
)

BUREAUS = (HEADQUARTERS, ZHEJIANG, HANGZHOU, SHANGCHENG, XIHU)


OF_A_PART = (acts.CompletePart, acts.AskExtension, acts.ExplainExtension, acts.ReturnDispatch)
ASIDE = {acts.Attach, acts.Link, acts.Unlink, acts.LinkIssue, acts.AddPart, acts.AskOverride, acts.Withdraw}


class Desks:
    """The office of several bureaus, and what it takes to ask it."""

    def __init__(self, url: str, bureaus: Sequence[str] = BUREAUS, clock: FixedClock | None = None) -> None:
        self.clock = clock or FixedClock(MONDAY)
        self.ledger = Ledger(url, bureaus)
        self.office = Office(
            self.ledger, Place(TREE, CALENDAR, Rules(), self.clock), lambda _: referral_pb2.Signature()
        )

    @property
    def database(self) -> Any:
        return self.ledger.database

    async def do(self, bureau: str, act: Act, case_id: str = "", **header: Any) -> Done:
        """An act by whoever usually does it; `header` overrides."""
        return await self.office.perform(self._header(bureau, act, case_id, **header), act)

    async def attach(self, bureau: str, content: bytes, case_id: str, **header: Any) -> Done:
        """A file of that content becomes one of the case's."""
        act = replace(ATTACH, digest=sha256(content).hexdigest(), size_bytes=len(content))

        async def whole() -> AsyncIterator[bytes]:
            yield content

        return await self.office.attach(self._header(bureau, act, case_id, **header), act, whole())

    @staticmethod
    def _header(bureau: str, act: Act, case_id: str, **header: Any) -> Header:
        role = header.pop("role", None) or USUAL_ROLE[type(act)]
        plain = {
            "bureau": bureau,
            "case_id": case_id,
            "actor": f"{role.name.lower()}-1",
            "role": role,
            "department": DEPARTMENTS[role],
            "digest": sha256(repr((bureau, case_id, act)).encode()).digest(),
        }
        return Header(**{**plain, **header})

    async def register(self, bureau: str = SHANGCHENG, **header: Any) -> Done:
        return await self.do(bureau, REGISTER, **header)

    # ------------------------------------------------------------ a random life

    async def live(self, seed: int, steps: int) -> None:
        """Random acts on random cases, with what they have bureaus tell each other; refusals are part of it."""
        chance = Random(seed)
        known: list[tuple[str, str]] = []
        for number in range(steps):
            if number % 12 == 0 or not known:
                bureau = chance.choice(self.ledger.bureaus)
                reference = chance.choice(["", f"ref-{chance.randrange(40)}"])
                answer = chance.choice(["", "", "可以享受减免"])
                act = replace(
                    REGISTER, channel=chance.choice(list(Channel)), channel_reference=reference, answer=answer
                )
                done = await self.do(bureau, act)
                known.append((bureau, done.case.case_id))
            elif chance.random() < 0.35:
                await self.carry(chance)
            else:
                await self._attempt(chance, *chance.choice(sorted({*known, *self._cases()})))
            if chance.random() < 0.15:
                self.clock.advance(timedelta(hours=chance.choice([1, 8, 24, 60])))
            if chance.random() < 0.1:
                for bureau, case_id in self.to_note():
                    await self.office.note_time(bureau, case_id)
            if number % 40 == 39:
                await self.adopt(Random(number))
            if number % 25 == 24:
                await self.look(*Random(number).choice(known))

    async def look(self, bureau: str, case_id: str) -> None:
        """Somebody reads in clear what is private of a case."""
        reader = Header(
            bureau=bureau, case_id=case_id, actor="reader-1", role=Role.TAX_SERVICE, department="tax-service"
        )
        await record(self.office, reader, PrivateRead())

    async def adopt(self, chance: Random) -> None:
        """Another version of the calendar, with a day more off, in force for all bureaus and recorded by each."""
        before = self.office.place.calendar
        off = before.day_of(self.clock.now()) + timedelta(days=chance.randrange(1, 10))
        calendar = replace(
            before, version=f"{before.version}+", off_days=before.off_days | {off}, work_days=before.work_days - {off}
        )

        def run(draft: Draft) -> None:
            for bureau in self.ledger.bureaus:
                event = CalendarAdopted(calendar_version=calendar.version)
                draft.note(self.office.system_context(bureau), event)

        await self.ledger.do(Work(run=run, bureau=self.ledger.bureaus[0]))
        self.office.place.in_force.adopt(calendar)

    def to_note(self) -> list[tuple[str, str]]:
        """Whose clocks are to be noted now."""
        now, version = to_micros(self.clock.now()), self.office.place.calendar.version
        return queries.clocks_to_note(self.database, self.ledger.bureaus, now, version, 50)

    def _cases(self) -> list[tuple[str, str]]:
        with self.database.reading() as connection:
            return [(row.bureau, row.case_id) for row in connection.execute(sa.select(schema.CASES))]

    async def _attempt(self, chance: Random, bureau: str, case_id: str) -> None:
        case = await self.office.read_case(bureau, case_id)
        kinds = possible(case.stage) if case.custody is Custody.OWNED else (acts.WithdrawOffer, acts.WriteOff)
        # Acts that change little would crowd out those that bring a case on.
        telling = [kind for kind in kinds if kind not in ASIDE or chance.random() < 0.1]
        if case.extensions and chance.random() < 0.5:
            telling = [acts.ApproveExtension, acts.RefuseExtension]
        act = EXAMPLES[chance.choice(telling or [acts.Reopen])]
        if isinstance(act, acts.Refer):
            act = replace(act, final_bureau=chance.choice([*self.ledger.bureaus, BEIJING]))
        if isinstance(act, acts.Defer):
            act = replace(act, review_at=self.clock.now() + timedelta(days=30))
        role = USUAL_ROLE[type(act)]
        if case.stage is Stage.JOINT_HANDLING and role is Role.DEPUTY_HEAD:
            role = Role.BUREAU_HEAD
        department = case.department if role is Role.HANDLER or isinstance(act, acts.AcceptDirectly) else "policy"
        if case.open_parts and isinstance(act, OF_A_PART) and chance.random() < 0.8:
            department = chance.choice(case.open_parts)
        key = chance.choice(["", f"key-{chance.randrange(10_000)}"])
        with suppress(Refused):
            if isinstance(act, acts.Attach):
                await self.attach(bureau, b"file %d" % chance.randrange(9), case_id, request_key=key)
            else:
                await self.do(bureau, act, case_id, role=role, department=department, request_key=key)

    async def carry(self, chance: Random) -> None:
        """Some of what bureaus have to tell is told; an answer may get lost."""
        for owing in sorted(queries.owed_peers(self.database), key=lambda one: (one.bureau, one.peer)):
            if owing.peer not in self.ledger.bureaus or chance.random() < 0.3:
                continue
            for delivery in queries.deliveries(self.database, owing.bureau, owing.peer, 10):
                await self.tell(owing.bureau, owing.peer, delivery.case_id, lost=chance.random() < 0.2, chance=chance)

    async def carry_everything(self) -> None:
        """The network mends: what is owed is told and answered until nothing is."""
        chance = Random(1)
        chance.random = lambda: 1.0  # type: ignore[method-assign] # nothing is lost, no offer goes in a circle
        while queries.owed_peers(self.database):
            await self.carry(chance)

    async def tell(self, bureau: str, peer: str, case_id: str, *, lost: bool = False, chance: Random) -> None:
        """What the case has a bureau tell a peer is told."""
        history = queries.history(self.database, bureau, case_id, private=True)
        match owed(history, peer):
            case referral_pb2.Offer() as offer:
                if chance.random() < 0.15:
                    # One that comes round in a circle, declined by rule.
                    offer.path[:] = [peer, bureau]
                    offer.referral_id = f"loop{chance.randrange(10**9)}"
                    lost = True
                receipt = await self.office.decide_offer(offer)
            case referral_pb2.WithdrawRequest() as request:
                receipt = await self.office.withdraw_offer(request)
            case referral_pb2.ConcludeRequest() as conclusion:
                await self.office.hear_conclusion(conclusion)
                if not lost:
                    await self.office.acknowledge_conclusion(conclusion)
                return
            case _:
                return
        if not lost:
            decision = referral_pb2.Decision.FromString(referral_pb2.Receipt.FromString(receipt).decision)
            await self.office.settle(bureau, decision)

    # ------------------------------------------------------------ looking

    def rows(self, *tables: sa.Table) -> dict[str, list[tuple[Any, ...]]]:
        """The content of tables, in the order of their keys."""
        return {table.name: table_rows(self.database, table) for table in tables}

    async def cases(self) -> dict[tuple[str, str], Case]:
        return {key: await self.office.read_case(*key) for key in self._cases()}


def table_rows(database: Any, table: sa.Table) -> list[tuple[Any, ...]]:
    """All rows of a table by its key."""
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]


@contextmanager
def desks(url: str, bureaus: Sequence[str] = BUREAUS, clock: FixedClock | None = None) -> Iterator[Desks]:
    """An office that is open for the time of the block."""
    opened = Desks(url, bureaus, clock)
    opened.ledger.start()
    try:
        yield opened
    finally:
        opened.ledger.close()


def check_journal(database: Any, bureau: str) -> int:
    """The journal of a bureau has no gap and its chain holds, private parts included; gives its length."""
    salted = {row[1]: row for row in table_rows(database, schema.PRIVATE) if row[0] == bureau}
    head = chain.GENESIS
    rows = [row for row in table_rows(database, schema.JOURNAL) if row[0] == bureau]
    columns = [column.name for column in schema.JOURNAL.columns]
    for seq, values in enumerate(rows, start=1):
        row = dict(zip(columns, values, strict=True))
        assert seq == row["seq"]
        assert head == bytes(row["prev_hash"])
        digest = chain.NO_PRIVATE
        if seq in salted:
            digest = chain.private_digest(*database.open_salted(bureau, seq, salted[seq][2]))
        assert digest == bytes(row["private_digest"])
        head = chain.link(head, row["generation"], seq, digest, bytes(row["public"]))
        assert head == bytes(row["hash"])
    kept = [row for row in table_rows(database, schema.BUREAUS) if row[0] == bureau]
    assert [(len(rows), head)] == [(row[2], bytes(row[3])) for row in kept] or not rows
    return len(rows)


def execute(url: str, *statements: str) -> None:
    """Runs SQL on a database that nobody has open for writing, beside Kuaixiang."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connected:
            for statement in statements:
                connected.exec_driver_sql(statement)
    finally:
        engine.dispose()
