"""Real journals: what the domain's own rules have written while random people did random things in several bureaus."""

from dataclasses import replace
from functools import cache
from random import Random
from zlib import crc32

from demo.journals import Journal
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import Category, Channel, DepartmentKind
from kuaixiang.wire.codec import encode_entry
from tests.domain.story import TREE
from tests.domain.test_evolve_federation import BUREAUS, Bureaus

CASES_AT_A_TIME = 12
KINDS = (DepartmentKind.TAX_SERVICE, DepartmentKind.POLICY, DepartmentKind.COLLECTION, DepartmentKind.HALL)


@cache
def lived(seed: int, steps: int = 900) -> Bureaus:
    """A federation after so many steps, some seven weeks; what is on its way stays there."""
    chance = Random(seed)
    life = Bureaus()
    life.found(chance.choice(BUREAUS))
    for _ in range(steps):
        number = chance.getrandbits(32)
        match chance.choice(["proper"] * 8 + ["register", "time", "exchange", "send", "deliver"]):
            case "register" if len(life.alive()) < CASES_AT_A_TIME:
                life.register(chance.choice(BUREAUS), answered=chance.random() < 0.2)
            case "time":
                life.time_passes(chance.choice([1, 12, 24, 72]), swept=True)
            case "exchange":
                life.exchange()
            case "send":
                life.send(number)
            case "deliver" if life.federation.network:
                life.deliver(number, keep=False)
            case _ if life.alive():
                life.proper(number, 1)
            case _:
                life.register(chance.choice(BUREAUS), answered=False)
    return life


def journals_of(life: Bureaus) -> dict[str, Journal]:
    """The ledgers' journals. Each case has a category and a channel of its own; departments change as it goes on."""
    written: dict[str, list[Entry]] = {bureau: [] for bureau in TREE.bureaus}
    for (bureau, _), entries in life.federation.entries.items():
        written[bureau] += entries
    journals = {}
    for bureau, entries in written.items():
        journals[bureau] = Journal(bureau)
        for entry in sorted(entries, key=lambda one: one.recorded_at):
            journals[bureau].seal(encode_entry(_spread(entry)))
    return journals


def _spread(entry: Entry) -> Entry:
    sort = crc32(entry.case_id.encode())
    return replace(
        entry,
        category=Category(1 + sort % len(Category)),
        channel=Channel(1 + sort // 7 % len(Channel)),
        department_kind=KINDS[(sort + entry.version) % len(KINDS)],
    )
