"""The independent check finds what it is there to find."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from demo import tally
from demo.tally import Acknowledged, Journal, Tally
from kuaixiang.wire.chain import GENESIS, NO_PRIVATE, links
from kuaixiang.wire.v1 import case_pb2, common_pb2, journal_pb2, reconciliation_pb2, statistics_pb2


def entry(case_id: str, **event: Any) -> journal_pb2.Entry:
    return journal_pb2.Entry(case_id=case_id, version=1, **event)


def registered(case_id: str) -> journal_pb2.Entry:
    return entry(case_id, registered=journal_pb2.Registered())


def released(case_id: str, referral: str, to: str) -> journal_pb2.Entry:
    event = journal_pb2.Released(referral_id=referral, to_bureau=to, referral_kind=common_pb2.REFERRAL_KIND_ESCALATE)
    return entry(case_id, released=event)


def received(case_id: str, referral: str, origin: str) -> journal_pb2.Entry:
    return entry(case_id, received=journal_pb2.Received(referral_id=referral, from_bureau=origin))


class StandIn:
    """An office, or a hub, that answers from memory."""

    def __init__(self, bureau: str, journal: Sequence[journal_pb2.Entry], owned: Sequence[str] = ()) -> None:
        self.bureau = bureau
        self.entries = list(journal)
        self.owned = set(owned)
        self.hidden: set[str] = set()
        self.report = reconciliation_pb2.PairReport()
        self.standing = 0

    async def journal(self) -> list[journal_pb2.Segment]:
        sealed = [(NO_PRIVATE, one.SerializeToString()) for one in self.entries]
        if not sealed:
            return []
        packed = [journal_pb2.SegmentEntry(private_digest=digest, public=public) for digest, public in sealed]
        end = links(GENESIS, 1, 1, sealed)[-1]
        return [
            journal_pb2.Segment(
                bureau=self.bureau, generation=1, first_seq=1, prev_hash=GENESIS, entries=packed, last_hash=end
            )
        ]

    async def cases(self, page_size: int) -> AsyncIterator[case_pb2.Case]:
        assert page_size > 0
        for case_id in dict.fromkeys(one.case_id for one in self.entries if not one.order_stage):
            if case_id not in self.hidden:
                custody = common_pb2.CUSTODY_OWNED if case_id in self.owned else common_pb2.CUSTODY_RELEASED
                yield case_pb2.Case(case_id=case_id, custody=custody, stage=common_pb2.STAGE_WRITTEN_OFF)

    async def reconcile(self, peer: str) -> list[reconciliation_pb2.PairReport]:
        self.report.peer = peer
        return [self.report]

    async def mismatches(self) -> int:
        return self.standing


class HubStandIn:
    """A hub that says what it is told to say."""

    def __init__(self, figures: dict[str, dict[str, int]]) -> None:
        self._figures = figures

    async def figures(self, grouping: int = 0) -> statistics_pb2.GetFiguresResponse:
        if grouping:
            rows = [statistics_pb2.Figures(key=bureau, facts=facts) for bureau, facts in self._figures.items()]
        else:
            names = {name for facts in self._figures.values() for name in facts}
            total = {name: sum(facts.get(name, 0) for facts in self._figures.values()) for name in names}
            rows = [statistics_pb2.Figures(facts=total)]
        return statistics_pb2.GetFiguresResponse(rows=rows)


async def checked(
    *ledgers: StandIn,
    figures: dict[str, dict[str, int]],
    registrations: dict[str, str],
    homes: dict[str, str] | None = None,
    acts: Sequence[Acknowledged] = (),
) -> Tally:
    offices: Any = {ledger.bureau: ledger for ledger in ledgers}
    hub: Any = HubStandIn(figures)
    known = homes if homes is not None else dict.fromkeys(registrations.values(), ledgers[0].bureau)
    return await tally.check(offices, hub, registrations, known, acts)


def travelled() -> tuple[StandIn, StandIn]:
    """A case registered at A, handed over to B."""
    county = StandIn("A", [registered("c"), released("c", "r", "B")])
    return county, StandIn("B", [received("c", "r", "A")], owned=["c"])


FIGURES = {"A": {"registered": 1, "referred_up": 1}, "B": {"received": 1}}


async def test_a_case_in_the_right_ledgers_once_is_sound() -> None:
    found = await checked(
        *travelled(), figures=FIGURES, registrations={"k": "c"}, acts=[Acknowledged("A", "c", 2, "Refer")]
    )
    assert found.findings() == []
    assert found.sound
    assert (found.cases, found.journal_entries, found.referrals, found.written_off) == (1, 3, 1, 1)


async def test_an_acknowledged_case_that_no_ledger_has_is_lost() -> None:
    found = await checked(StandIn("A", []), figures={}, registrations={"k": "c"})
    assert len(found.lost) == 2
    assert not found.sound


async def test_a_case_that_nobody_is_responsible_for_is_lost() -> None:
    county, province = travelled()
    province.owned.clear()
    found = await checked(county, province, figures=FIGURES, registrations={"k": "c"})
    assert [line for line in found.lost if "nobody is responsible" in line]


async def test_a_case_that_the_journal_has_and_the_list_of_cases_has_not_is_found() -> None:
    county, province = travelled()
    province.hidden.add("c")
    found = await checked(county, province, figures=FIGURES, registrations={"k": "c"})
    assert found.broken == ["case c is in the journal of B alone"]


async def test_two_bureaus_responsible_for_one_case_are_found() -> None:
    county, province = travelled()
    county.owned.add("c")
    found = await checked(county, province, figures=FIGURES, registrations={"k": "c"})
    assert found.duplicated == ["2 bureaus are responsible for case c: A, B"]


async def test_a_registration_that_nobody_was_told_of_is_one_too_many() -> None:
    ledger = StandIn("A", [registered("c"), registered("d")], owned=["c", "d"])
    found = await checked(ledger, figures={"A": {"registered": 2}}, registrations={"k": "c"})
    assert len(found.duplicated) == 1
    assert "never acknowledged" in found.duplicated[0]


async def test_a_registration_sent_twice_that_made_two_cases_is_found() -> None:
    ledger = StandIn("A", [registered("c"), registered("d")], owned=["c", "d"])
    found = await checked(ledger, figures={"A": {"registered": 2}}, registrations={"k": "c", "k-again": "d"})
    assert found.duplicated == ["registration k made 2 cases"]


async def test_an_acknowledged_act_that_is_not_in_the_journal_is_found() -> None:
    found = await checked(
        *travelled(), figures=FIGURES, registrations={"k": "c"}, acts=[Acknowledged("B", "c", 2, "Dispatch")]
    )
    assert found.lost_acts == ["Dispatch of case c, acknowledged by B at 2, is not there"]


async def test_a_hand_over_that_only_one_side_knows_is_found() -> None:
    county, province = travelled()
    province.entries = [entry("c", forwarded=journal_pb2.Forwarded())]
    found = await checked(county, province, figures={}, registrations={"k": "c"})
    assert len(found.broken) == 1


async def test_a_figure_of_the_hub_that_the_journals_do_not_add_up_to_is_named() -> None:
    wrong = {"A": {"registered": 2, "referred_up": 1}, "B": {"received": 1}}
    found = await checked(*travelled(), figures=wrong, registrations={"k": "c"})
    assert found.different == [
        "registered of the whole: the hub says 2, the journals add up to 1",
        "registered of bureau A: the hub says 2, the journals add up to 1",
    ]


async def test_a_supervision_order_is_no_case_that_somebody_must_have() -> None:
    issued = journal_pb2.OrderIssued(to_bureau="A", final_bureau="A")
    order = entry("B-D1", order_issued=issued, order_stage=common_pb2.ORDER_STAGE_ISSUED)
    county, province = travelled()
    province.entries.append(order)
    figures = {**FIGURES, "B": {"received": 1, "orders_issued": 1}}
    found = await checked(county, province, figures=figures, registrations={"k": "c"})
    assert found.findings() == []
    assert found.orders == 1


async def test_ledgers_that_differ_cannot_be_compared_or_have_a_mismatch_standing_are_named() -> None:
    county, other, province = StandIn("A", []), StandIn("B", []), StandIn("P", [])
    offices: Any = {"A": county, "B": other, "P": province}
    assert await tally.compare_pairs(offices, {"A": "P", "B": "P"}) == []
    county.report.differences.add(case_id="c")
    other.report.away = "it does not answer"
    province.standing = 1
    assert await tally.compare_pairs(offices, {"A": "P", "B": "P"}) == [
        "the ledgers of A and P differ in 1 hand-overs",
        "the ledgers of B and P are not compared: it does not answer",
        "1 mismatches stand in the ledger of P",
    ]


async def test_a_journal_whose_hashes_do_not_follow_is_broken() -> None:
    class Forged(StandIn):
        async def journal(self) -> list[journal_pb2.Segment]:
            (segment,) = await super().journal()
            segment.last_hash = bytes(32)
            return [segment]

    office: Any = Forged("A", [registered("c")])
    journal = await tally.read_journal(office)
    assert isinstance(journal, Journal)
    assert journal.faults == ("the journal of A has another hash at 1",)


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        ({"completed": journal_pb2.Completed(jointly=True)}, ("completed", "completed_jointly")),
        (
            {"followed_up": journal_pb2.FollowedUp(satisfaction=common_pb2.SATISFACTION_NOT_SATISFIED)},
            ("followed_up", "not_satisfied"),
        ),
        ({"released": journal_pb2.Released(relayed=True)}, ("relayed",)),
        ({"part_returned": journal_pb2.PartReturned()}, ("dispatch_returned",)),
        ({"taxpayer_told": journal_pb2.TaxpayerTold()}, ()),
        (
            {"released": journal_pb2.Released(referral_kind=common_pb2.REFERRAL_KIND_ARBITRATE)},
            ("referred_for_ruling",),
        ),
        ({"order_issued": journal_pb2.OrderIssued(to_bureau="B")}, ("orders_issued",)),
        ({"order_received": journal_pb2.OrderReceived(from_bureau="B")}, ("orders_received",)),
        ({"order_received": journal_pb2.OrderReceived(from_bureau="B", to_bureau="C")}, ()),
        ({"order_answered": journal_pb2.OrderAnswered()}, ("orders_answered",)),
        ({"order_answered": journal_pb2.OrderAnswered(from_bureau="B")}, ()),
        ({"order_arrived": journal_pb2.OrderArrived(from_bureau="B")}, ()),
        ({"mismatch_found": journal_pb2.MismatchFound(peer="B")}, ()),
    ],
)
def test_an_entry_counts_by_what_it_says(event: dict[str, Any], facts: tuple[str, ...]) -> None:
    assert tally.facts_of(entry("c", **event)) == facts
