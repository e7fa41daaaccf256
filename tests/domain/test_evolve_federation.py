"""Random people at random times do random things on several bureaus, over a network that loses, repeats and reorders."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.lifecycle import possible
from kuaixiang.domain.words import Role, Satisfaction, Stage
from tests.domain.federation import Federation, agree
from tests.domain.story import (
    BEIJING,
    EXAMPLES,
    HANGZHOU,
    REGISTER,
    SHANGCHENG,
    TREE,
    USUAL_ROLE,
    ZHEJIANG,
)

BUREAUS = sorted(TREE.bureaus)
PEOPLE = ("zhang", "wang", "li", "zhao")
DEPARTMENTS = ("policy", "collection", "audit")
PEOPLES_ACTS = [kind for kind in USUAL_ROLE if kind is not acts.Register]


@st.composite
def acts_at(draw: st.DrawFn, stage: Stage) -> Act:
    """An act, most often one that the stage allows, with some of its particulars at random."""
    allowed = [getattr(acts, name) for name in possible(stage)]
    kind = draw(st.sampled_from(allowed * 4 + PEOPLES_ACTS))
    act = EXAMPLES[kind]
    match act:
        case acts.Refer():
            return replace(act, final_bureau=draw(st.sampled_from(BUREAUS)))
        case acts.AskExtension():
            return replace(act, workdays=draw(st.integers(1, 6)))
        case acts.FollowUp():
            return replace(
                act, satisfaction=draw(st.sampled_from(Satisfaction)), remark=draw(st.sampled_from(["", "x"]))
            )
        case acts.Defer():
            return replace(act, review_at=act.review_at + timedelta(days=365))
        case _:
            return act


class Bureaus(RuleBasedStateMachine):
    """What can happen to a federation."""

    @initialize(bureau=st.sampled_from([SHANGCHENG, HANGZHOU, ZHEJIANG, BEIJING]))
    def found(self, bureau: str) -> None:
        self.federation = Federation()
        self.registrations = 0
        self.register(bureau, answered=False)

    @precondition(lambda self: self.registrations < 3)
    @rule(bureau=st.sampled_from(BUREAUS), answered=st.booleans())
    def register(self, bureau: str, *, answered: bool) -> None:
        self.registrations += 1
        case_id = f"{bureau}-2026-{self.registrations:07d}"
        act = replace(REGISTER, answer="可以享受减免" if answered else "")
        self.federation.do(bureau, case_id, act, role=Role.REGISTRAR, actor="zhang", department="hall")

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.federation.cases)))
        before = self.federation.cases[key]
        act = data.draw(acts_at(before.stage))
        usual = USUAL_ROLE[type(act)]
        if before.stage is Stage.JOINT_HANDLING and usual is Role.DEPUTY_HEAD:
            usual = Role.BUREAU_HEAD
        who: dict[str, Any] = {
            "role": data.draw(st.sampled_from([usual] * 6 + list(Role))),
            "actor": data.draw(st.sampled_from(PEOPLE)),
            "department": data.draw(st.sampled_from(DEPARTMENTS)),
            "occurred_at": self.federation.now - timedelta(hours=data.draw(st.sampled_from([0, 0, 0, 5, 30, 200]))),
        }
        recorded = len(self.federation.entries[key])
        try:
            found = self.federation.do(*key, act, **who)
        except Refused as refusal:
            assert recorded == len(self.federation.entries[key])
            assert before is self.federation.cases[key]
            assert str(refusal)
            assert refusal.remedy
        else:
            assert recorded + len(found) == len(self.federation.entries[key])

    @rule(hours=st.sampled_from([1, 12, 24, 72, 240]))
    def time_passes(self, hours: int) -> None:
        self.federation.now += timedelta(hours=hours)

    @rule()
    def sweep(self) -> None:
        self.federation.sweep()

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        owed = list(self.federation.owed())
        if owed:
            self.federation.network.append(data.draw(st.sampled_from(owed)))

    @precondition(lambda self: self.federation.network)
    @rule(at=st.integers(0, 1_000), keep=st.booleans())
    def deliver(self, at: int, *, keep: bool) -> None:
        """A message arrives, and may arrive again."""
        network = self.federation.network
        index = at % len(network)
        message = network[index] if keep else network.pop(index)
        self.federation.deliver(message)

    @precondition(lambda self: self.federation.network)
    @rule(at=st.integers(0, 1_000))
    def lose(self, at: int) -> None:
        network = self.federation.network
        network.pop(at % len(network))

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
TestBureaus.settings = settings(
    max_examples=80, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
