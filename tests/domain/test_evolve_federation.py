"""Random people at random times do random things on several bureaus, over a network that loses, repeats and reorders."""

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.lifecycle import possible
from kuaixiang.domain.words import Custody, Role, Satisfaction, Stage
from tests.domain.federation import Federation, Key, agree
from tests.domain.story import BEIJING, EXAMPLES, HANGZHOU, REGISTER, SHANGCHENG, TREE, USUAL_ROLE

BUREAUS = sorted(TREE.bureaus)
PEOPLE = ("zhang", "wang", "li", "zhao")
DEPARTMENTS = ("policy", "collection", "audit")
PEOPLES_ACTS = [kind for kind in USUAL_ROLE if kind is not acts.Register]
RARE = {acts.Withdraw, acts.SendToReconsideration, acts.WithdrawOffer, acts.Defer, acts.WriteOff}
"""Acts that end much or little: chosen less often, so that cases live long enough to meet the others."""
OVER = {Stage.WITHDRAWN, Stage.RECONSIDERATION, Stage.WRITTEN_OFF}

seeds = st.integers(0, 2**32 - 1)
"""What a step chooses by: evenly, where hypothesis would rather try the same few again."""


def some_act(stage: Stage, chance: Random, now: datetime) -> Act:
    """An act that the stage allows (any act where it allows none), some of its particulars at random."""
    allowed = possible(stage) or PEOPLES_ACTS
    act = EXAMPLES[chance.choice([kind for kind in allowed for _ in range(1 if kind in RARE else 5)])]
    match act:
        case acts.Refer():
            return replace(act, final_bureau=chance.choice(BUREAUS))
        case acts.AskExtension():
            return replace(act, workdays=chance.randint(1, 6))
        case acts.FollowUp():
            satisfaction = chance.choice(list(Satisfaction))
            return replace(act, satisfaction=satisfaction, remark=chance.choice(["", "政策如此"]))
        case acts.Defer():
            return replace(act, review_at=now + timedelta(days=30))
        case _:
            return act


class Bureaus(RuleBasedStateMachine):
    """What can happen to a federation."""

    @initialize(bureau=st.sampled_from([SHANGCHENG, HANGZHOU, BEIJING]))
    def found(self, bureau: str) -> None:
        self.federation = Federation()
        self.registrations = 0
        self.register(bureau, answered=False)

    def alive(self) -> list[Key]:
        """The cases that a bureau can do something about."""
        cases = self.federation.cases.items()
        return sorted(key for key, case in cases if case.custody is not Custody.RELEASED and case.stage not in OVER)

    @precondition(lambda self: len(self.alive()) < 3)
    @rule(bureau=st.sampled_from(BUREAUS), answered=st.booleans())
    def register(self, bureau: str, *, answered: bool) -> None:
        self.registrations += 1
        case_id = f"{bureau}-2026-{self.registrations:07d}"
        act = replace(REGISTER, answer="可以享受减免" if answered else "")
        self.federation.do(bureau, case_id, act, role=Role.REGISTRAR, actor="zhang", department="hall")

    @precondition(lambda self: self.alive())
    @rule(seed=seeds, times=st.integers(1, 4))
    def proper(self, seed: int, times: int) -> None:
        """Those whose work it is do what can be done."""
        chance = Random(seed)
        for key in chance.choices(self.alive(), k=times):
            case = self.federation.cases[key]
            act = some_act(case.stage, chance, self.federation.now)
            role = USUAL_ROLE[type(act)]
            if case.stage is Stage.JOINT_HANDLING and role is Role.DEPUTY_HEAD:
                role = Role.BUREAU_HEAD
            parts: tuple[str, ...] = (case.department,) if role is Role.HANDLER else DEPARTMENTS
            if isinstance(act, (acts.CompletePart, acts.AskExtension, acts.ExplainExtension)) and case.open_parts:
                parts = case.open_parts
            match act:
                case acts.Link() | acts.CompleteWithLead():
                    others = sorted(other for bureau, other in self.federation.cases if bureau == key[0])
                    act = replace(act, lead_case_id=chance.choice(others))
                case acts.Rule():
                    act = replace(act, final_bureau=chance.choice(BUREAUS))
                case _:
                    pass
            self.attempt(key, act, role=role, actor=chance.choice(PEOPLE), department=chance.choice(parts))

    @rule(seed=seeds)
    def mischief(self, seed: int) -> None:
        """Anybody tries anything on any case, at any time."""
        chance = Random(seed)
        key = chance.choice(sorted(self.federation.cases))
        self.attempt(
            key,
            EXAMPLES[chance.choice(PEOPLES_ACTS)],
            role=chance.choice(list(Role)),
            actor=chance.choice(PEOPLE),
            department=chance.choice(DEPARTMENTS),
            occurred_at=self.federation.now - timedelta(hours=chance.choice([-1, 0, 0, 5, 30, 200])),
        )

    def attempt(self, key: Key, act: Act, **who: Any) -> None:
        before, recorded = self.federation.cases[key], len(self.federation.entries[key])
        try:
            found = self.federation.do(*key, act, **who)
        except Refused:
            assert recorded == len(self.federation.entries[key])
            assert before is self.federation.cases[key]
        else:
            assert recorded + len(found) == len(self.federation.entries[key])

    @rule(hours=st.sampled_from([1, 12, 24, 72, 240]), swept=st.booleans())
    def time_passes(self, hours: int, *, swept: bool) -> None:
        self.federation.now += timedelta(hours=hours)
        if swept:
            self.federation.sweep()

    @rule()
    def exchange(self) -> None:
        """For a moment the network does what it should."""
        for message in list(self.federation.owed()):
            self.federation.deliver(message)
            self.federation.deliver(self.federation.network.pop())

    @rule(seed=seeds)
    def send(self, seed: int) -> None:
        owed = list(self.federation.owed())
        if owed:
            self.federation.network.append(Random(seed).choice(owed))

    @precondition(lambda self: self.federation.network)
    @rule(seed=seeds, keep=st.booleans())
    def deliver(self, seed: int, *, keep: bool) -> None:
        """A message arrives, and may arrive again."""
        network = self.federation.network
        index = Random(seed).randrange(len(network))
        message = network[index] if keep else network.pop(index)
        self.federation.deliver(message)

    @precondition(lambda self: self.federation.network)
    @rule(seed=seeds)
    def lose(self, seed: int) -> None:
        network = self.federation.network
        network.pop(Random(seed).randrange(len(network)))

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "federation"):
            self.federation.check()

    def teardown(self) -> None:
        """When the network mends, every offer is decided, every conclusion known, and the ledgers agree."""
        if hasattr(self, "federation"):
            self.federation.settle_everything()
            self.federation.check()
            agree(self.federation)


TestBureaus = Bureaus.TestCase
TestBureaus.settings = settings(max_examples=50, stateful_step_count=50)


@pytest.mark.parametrize("seed", range(24))
def test_a_long_life_of_a_federation_breaks_no_rule(seed: int) -> None:
    chance = Random(seed)
    life = Bureaus()
    life.found(chance.choice(BUREAUS))
    for _ in range(300):
        number = chance.getrandbits(32)
        match chance.choice(["proper"] * 6 + ["mischief", "time", "exchange", "send", "deliver", "deliver", "lose"]):
            case "proper" if life.alive():
                life.proper(number, 1)
            case "mischief":
                life.mischief(number)
            case "time":
                life.time_passes(chance.choice([1, 12, 24, 72]), swept=chance.random() < 0.5)
            case "exchange":
                life.exchange()
            case "send":
                life.send(number)
            case "deliver" if life.federation.network:
                life.deliver(number, keep=chance.random() < 0.5)
            case "lose" if life.federation.network:
                life.lose(number)
            case _ if len(life.alive()) < 4:
                life.register(chance.choice(BUREAUS), answered=chance.random() < 0.2)
            case _:
                pass
        life.all_is_well()
    life.teardown()
