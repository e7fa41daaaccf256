"""Schedules: what officers do and what befalls the processes, and when, as a seed has it; and shrinking one that fails."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.simulation.network import CALM, Weather

SECONDS = 30.0
"""The time of work, in which the steps lie; then everything is mended and has to come to rest."""
ACTS = (2, 12)
FAULTS = (0, 5)


class Kind(StrEnum):
    """What happens."""

    ACT = "an officer acts"
    ORDER = "somebody acts on a supervision order"
    KILL = "a node is killed"
    POWER = "a node loses power"
    BEFORE_COMMIT = "a node dies before its next commit"
    AFTER_COMMIT = "a node dies after its next commit"
    REBUILD = "a node is killed and rebuilds its projections"
    STALL = "a node's disk stands still"
    CUT = "two nodes do not hear each other"
    CLOCK = "time passes at once"
    STALE_OFFER = "a neighbour offers a case anew that it has not"
    GENERATION = "a node goes on in a new generation, and its older copy publishes"
    RESTORED = "a node is put back to an older copy, refilled by its witness, and goes on in a new generation"
    HUB_KILL = "the hub is killed"
    HUB_BEFORE_COMMIT = "the hub dies before its next commit"
    HUB_AFTER_COMMIT = "the hub dies after its next commit"
    SITE_DOWN = "the site's NATS is away"
    SITE_WIPED = "the site's stream is lost"
    AGAIN = "the site delivers everything again"
    FORGOTTEN = "the site takes repeats for new"
    FORGED = "a stranger publishes in a bureau's name"


OF_THE_HUB = frozenset(
    {
        Kind.HUB_KILL,
        Kind.HUB_BEFORE_COMMIT,
        Kind.HUB_AFTER_COMMIT,
        Kind.SITE_DOWN,
        Kind.SITE_WIPED,
        Kind.AGAIN,
        Kind.FORGOTTEN,
        Kind.FORGED,
        Kind.GENERATION,
    }
)
"""What only a life with a hub notices."""
FAULTS_THERE_ARE: tuple[Kind, ...] = tuple(kind for kind in Kind if kind not in {Kind.ACT, Kind.ORDER})


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One thing that happens. `number` names it for good: its own choices depend on that and on the seed."""

    at: float
    number: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  #{self.number}  {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`counted`: there is a hub. `refill`: it reaches the ledgers; else the stream has to bring it everything.

    `in_order`: what is published is stored in its order, whatever the weather; `settled`: the network is mended in
    the end.
    """

    seed: int
    steps: tuple[Step, ...]
    weather: Weather
    counted: bool
    refill: bool
    in_order: bool
    settled: bool

    @property
    def _of_the_hub(self) -> str:
        if not self.counted:
            return ", no hub"
        return "" if self.refill else ", the hub cannot refill"

    def __str__(self) -> str:
        told = [f"seed {self.seed}: {self.weather}{self._of_the_hub}"]
        return "\n".join([*told, *map(str, self.steps)])


def scheduled(seed: int) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(seed)
    counted = chance.random() < 0.6
    refill = chance.random() < 0.5
    in_order = not refill and chance.random() < 0.5
    weather = CALM
    if chance.random() < 0.8:
        share = chance.choice((0.05, 0.15, 0.3, 0.5))
        weather = Weather(
            lost=chance.uniform(0, share),
            answer_lost=chance.uniform(0, share),
            repeated=chance.uniform(0, share),
            late=chance.uniform(0, share),
        )
    kinds = [chance.choice((Kind.ACT,) * 9 + (Kind.ORDER,)) for _ in range(chance.randint(*ACTS))]
    possible = [kind for kind in FAULTS_THERE_ARE if counted or kind not in OF_THE_HUB]
    faults = chance.choices(possible, k=chance.randint(*FAULTS))
    if Kind.RESTORED in faults:
        # A generation that does not say what it has lost is what a witness is there to refuse.
        faults = [kind for kind in faults if kind is not Kind.GENERATION]
    if not refill:
        faults = _borne_by_the_stream(faults, in_order=in_order)
    kinds += faults
    # Acts come in bursts, so that messages cross.
    bursts = [chance.uniform(0, SECONDS) for _ in range(3)]
    steps = [
        Step(round(min(chance.choice(bursts) + chance.uniform(0, 2.0), SECONDS), 3), number, kind)
        if chance.random() < 0.7
        else Step(round(chance.uniform(0, SECONDS), 3), number, kind)
        for number, kind in enumerate(kinds)
    ]
    return Schedule(
        seed=seed,
        steps=tuple(sorted(steps)),
        weather=weather,
        counted=counted,
        refill=refill,
        in_order=in_order,
        # A ledger whose witness is away for good is not restored: there is nothing that could be held to anything.
        # Of a bureau that is cut off in the end nobody could know that it is an older copy of its ledger that publishes.
        settled=chance.random() < 0.9 or Kind.RESTORED in faults or Kind.GENERATION in faults,
    )


def _borne_by_the_stream(faults: Sequence[Kind], *, in_order: bool) -> list[Kind]:
    """The faults after which the stream alone still brings a hub everything.

    What came out of order waits in the hub's memory and is acknowledged; when it dies then, the ledgers have to be
    read. So either nothing comes out of order and the hub dies once, or it does not die.
    """
    deaths = [kind for kind in faults if kind in _DEATHS_OF_THE_HUB][: int(in_order)]
    never = (
        _DEATHS_OF_THE_HUB
        | {Kind.SITE_WIPED, Kind.GENERATION, Kind.RESTORED}
        | ({Kind.SITE_DOWN} if in_order else set())
    )
    return [kind for kind in faults if kind not in never] + deaths


_DEATHS_OF_THE_HUB = {Kind.HUB_KILL, Kind.HUB_BEFORE_COMMIT, Kind.HUB_AFTER_COMMIT}


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool], tries_max: int = 200) -> Schedule:
    """A smaller schedule that fails still: steps are taken out, the network made better, as long as it does."""
    tries = 0

    def still(candidate: Schedule) -> bool:
        nonlocal tries
        tries += 1
        return tries <= tries_max and fails(candidate)

    for calmer in _calmer(schedule):
        if still(calmer):
            schedule = calmer
    chunk = max(len(schedule.steps) // 2, 1)
    while True:
        at, smaller = 0, False
        while at < len(schedule.steps):
            candidate = replace(schedule, steps=_without(schedule.steps, at, chunk))
            if still(candidate):
                schedule, smaller = candidate, True
            else:
                at += chunk
        if chunk == 1 and not smaller:
            return schedule
        chunk = max(chunk // 2, 1)
        if tries > tries_max:
            return schedule


def _calmer(schedule: Schedule) -> list[Schedule]:
    names = ("lost", "answer_lost", "repeated", "late")
    return [replace(schedule, weather=CALM)] + [
        replace(schedule, weather=replace(schedule.weather, **{name: 0.0})) for name in names
    ]


def _without(steps: Sequence[Step], at: int, count: int) -> tuple[Step, ...]:
    return (*steps[:at], *steps[at + count :])
