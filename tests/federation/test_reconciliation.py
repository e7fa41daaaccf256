"""对账 between real nodes: each kind of fault is named, case by case, in both ledgers, and stands against a write-off."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import LedgersDisagree, MismatchStands, NotAPair
from kuaixiang.domain.events import Concluded, Entry, Received
from kuaixiang.domain.reconciliation import FieldDifference
from kuaixiang.domain.words import Custody, DifferenceKind, Stage
from kuaixiang.runtime import pki
from kuaixiang.wire.v1 import reconciliation_pb2 as pb
from kuaixiang.wire.v1.reconciliation_pb2_grpc import ReconciliationServiceStub
from node import reconciler as reconciler_module
from node.ledger import queries, schema
from node.reconciler import PeerAway, Report
from tests.federation.bureaus import (
    COUNTY,
    FAR_COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    MONDAY,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    RECONCILE_DAYS,
    RECONCILE_HOUR,
    SECONDS,
    Federation,
    until,
)
from tests.ledger.tampering import copy_database, put_back, rewrite, with_all_withdrawn
from tests.node.callers import refusal_of

HERE, THERE, DIFFERENT = DifferenceKind.MISSING_HERE, DifferenceKind.MISSING_THERE, DifferenceKind.DIFFERENT


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler_module, "CONFIRM_SECONDS", 0.05)
    monkeypatch.setattr(reconciler_module, "INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(reconciler_module, "PAUSE_SECONDS_MIN", 0.1)


async def compared(bureaus: Federation, bureau: str, peer: str) -> Report:
    """What a bureau's node finds, after both have compared."""
    reconciler = bureaus.node(bureau).parts.reconciler
    return await reconciler.on_both_sides(bureau, peer, reconciler.usual_period())


def named(report: Report) -> dict[str, DifferenceKind]:
    return {found.case_id: found.kind for found in report.comparison.differences}


def standing(bureaus: Federation, bureau: str) -> dict[str, DifferenceKind]:
    """The mismatches in a bureau's ledger."""
    database = bureaus.office(bureau).ledger.database
    return {one.case_id: one.difference for one in queries.standing_mismatches(database, (bureau,))}


async def answered_above(bureaus: Federation) -> str:
    """A case that the county has referred to its prefecture, which has answered it; all ledgers know."""
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(PREFECTURE, case_id, Custody.OWNED)
    await bureaus.handle(PREFECTURE, case_id)
    await settled(bureaus, case_id)
    return case_id


async def settled(bureaus: Federation, case_id: str) -> None:
    """Nothing about the case is owed any more."""

    def so() -> bool:
        return all(
            not (case.awaiting or case.outgoing)
            for node in bureaus.nodes
            for code in node.codes
            if (case := bureaus.known(code, case_id)) is not None
        )

    await until(so)


async def restarted(bureaus: Federation, bureau: str) -> None:
    await bureaus.node(bureau).start(deliver=False)


async def test_ledgers_that_agree_exchange_digests_alone(bureaus: Federation) -> None:
    for _ in range(3):
        await answered_above(bureaus)
        bureaus.clock.advance(timedelta(days=1))
    report = await compared(bureaus, COUNTY, PREFECTURE)
    assert (3, 0, []) == (report.comparison.matched, report.comparison.pending, report.comparison.differences)
    assert report.bytes_exchanged < 3 * 60 + 60
    for bureau in (COUNTY, PREFECTURE):
        assert {} == standing(bureaus, bureau)
        (last,) = queries.last_reconciliations(bureaus.office(bureau).ledger.database, (bureau,))
        assert (3, 0, 0, 0) == (last.matched, last.missing_here, last.missing_there, last.different)


async def test_an_offer_under_way_and_a_conclusion_not_acknowledged_are_pending(bureaus: Federation) -> None:
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    offered = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, offered, PREFECTURE)
    report = await compared(bureaus, COUNTY, PREFECTURE)
    assert (0, 1, []) == (report.comparison.matched, report.comparison.pending, report.comparison.differences)
    await node.parts.courier.start()
    await bureaus.reached(COUNTY, offered, Custody.RELEASED)
    above = bureaus.node(PREFECTURE)
    await above.stop()
    await above.start(deliver=False)
    await bureaus.handle(PREFECTURE, offered)
    report = await compared(bureaus, COUNTY, PREFECTURE)
    assert (0, 1, []) == (report.comparison.matched, report.comparison.pending, report.comparison.differences)
    await above.parts.courier.start()
    await settled(bureaus, offered)
    assert 1 == (await compared(bureaus, COUNTY, PREFECTURE)).comparison.matched


async def test_what_has_been_owed_for_longer_than_a_working_day_is_a_mismatch_until_it_is_told(
    bureaus: Federation,
) -> None:
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    bureaus.clock.advance(timedelta(days=2))
    assert {case_id: THERE} == named(await compared(bureaus, COUNTY, PREFECTURE))
    assert {case_id: THERE} == standing(bureaus, COUNTY)
    assert {case_id: HERE} == standing(bureaus, PREFECTURE)
    await node.parts.courier.start()
    await settled(bureaus, case_id)
    assert {} == named(await compared(bureaus, COUNTY, PREFECTURE))
    assert {} == standing(bureaus, COUNTY) | standing(bureaus, PREFECTURE)
    assert ["MismatchFound", "MismatchCleared"] == [
        event for event in bureaus.events(COUNTY, case_id) if event.startswith("Mismatch")
    ]


async def test_an_older_copy_of_a_ledger_is_found_and_each_lost_case_is_named_in_both(
    bureaus: Federation, tmp_path: Path
) -> None:
    kept = await answered_above(bureaus)
    above = bureaus.node(PREFECTURE)
    await above.stop()
    copy_database(above.url, tmp_path / "older")
    await above.start()
    lost = [await answered_above(bureaus) for _ in range(2)]
    await above.stop()
    put_back(tmp_path / "older", above.url)
    await restarted(bureaus, PREFECTURE)
    report = await compared(bureaus, COUNTY, PREFECTURE)
    assert dict.fromkeys(lost, THERE) == named(report)
    assert 1 == report.comparison.matched
    assert dict.fromkeys(lost, THERE) == standing(bureaus, COUNTY)
    assert dict.fromkeys(lost, HERE) == standing(bureaus, PREFECTURE)
    with pytest.raises(MismatchStands) as refused:
        await bureaus.write_off(COUNTY, lost[0])
    assert PREFECTURE in str(refused.value)
    assert PREFECTURE in refused.value.chinese
    assert Stage.WRITTEN_OFF is (await bureaus.write_off(COUNTY, kept)).stage


async def test_what_is_missing_survives_a_rebuild_of_both_ledgers(bureaus: Federation, tmp_path: Path) -> None:
    above, below = bureaus.node(PREFECTURE), bureaus.node(COUNTY)
    await above.stop()
    copy_database(above.url, tmp_path / "older")
    await above.start()
    lost = await answered_above(bureaus)
    await above.stop()
    put_back(tmp_path / "older", above.url)
    await restarted(bureaus, PREFECTURE)
    await compared(bureaus, COUNTY, PREFECTURE)
    for node, bureau in ((above, PREFECTURE), (below, COUNTY)):
        before = standing(bureaus, bureau)
        await node.stop()
        rewrite(node.url, node.codes, bureau, lambda entries: entries)
        await node.start(deliver=False)
        assert before == standing(bureaus, bureau)
        assert {lost} == set(before)


async def test_a_changed_conclusion_is_named_with_what_either_ledger_says(bureaus: Federation) -> None:
    case_id = await answered_above(bureaus)
    node = bureaus.node(COUNTY)
    await node.stop()
    rewrite(node.url, node.codes, COUNTY, with_all_withdrawn)
    await restarted(bureaus, COUNTY)
    (found,) = (await compared(bureaus, COUNTY, PREFECTURE)).comparison.differences
    assert (case_id, DIFFERENT) == (found.case_id, found.kind)
    assert (FieldDifference("outcome", "WITHDRAWN", "COMPLETED"),) == found.fields
    assert {case_id: DIFFERENT} == standing(bureaus, COUNTY)
    assert {case_id: DIFFERENT} == standing(bureaus, PREFECTURE)


async def test_a_lost_conclusion_is_named(bureaus: Federation) -> None:
    case_id = await answered_above(bureaus)
    node = bureaus.node(COUNTY)
    await node.stop()
    rewrite(
        node.url,
        node.codes,
        COUNTY,
        lambda entries: [entry for entry in entries if not isinstance(entry.event, Concluded)],
    )
    await restarted(bureaus, COUNTY)
    (found,) = (await compared(bureaus, COUNTY, PREFECTURE)).comparison.differences
    assert (case_id, DIFFERENT) == (found.case_id, found.kind)
    assert FieldDifference("outcome", "", "COMPLETED") in found.fields


async def test_a_forged_hand_over_is_named(bureaus: Federation) -> None:
    true = await answered_above(bureaus)
    forged = f"{COUNTY}-2026-0000777"
    above = bureaus.node(PREFECTURE)
    await above.stop()

    def with_forgery(entries: list[Entry]) -> list[Entry]:
        arrival = next(entry for entry in entries if isinstance(entry.event, Received))
        assert isinstance(arrival.event, Received)
        return [*entries, replace(arrival, case_id=forged, event=replace(arrival.event, referral_id="forged"))]

    rewrite(above.url, above.codes, PREFECTURE, with_forgery)
    await restarted(bureaus, PREFECTURE)
    report = await compared(bureaus, COUNTY, PREFECTURE)
    assert {forged: HERE} == named(report)
    assert 1 == report.comparison.matched
    assert ({forged: HERE}, {forged: THERE}) == (standing(bureaus, COUNTY), standing(bureaus, PREFECTURE))
    assert true not in standing(bureaus, COUNTY)


async def test_a_mended_ledger_clears_what_stood_and_the_case_can_be_written_off(
    bureaus: Federation, tmp_path: Path
) -> None:
    case_id = await answered_above(bureaus)
    node = bureaus.node(COUNTY)
    await node.stop()
    copy_database(node.url, tmp_path / "whole")
    rewrite(
        node.url,
        node.codes,
        COUNTY,
        lambda entries: [entry for entry in entries if not isinstance(entry.event, Concluded)],
    )
    await restarted(bureaus, COUNTY)
    await compared(bureaus, COUNTY, PREFECTURE)
    with pytest.raises(MismatchStands):
        await bureaus.write_off(PREFECTURE, case_id)
    await node.stop()
    put_back(tmp_path / "whole", node.url)
    await restarted(bureaus, COUNTY)
    assert {} == named(await compared(bureaus, COUNTY, PREFECTURE))
    assert {} == standing(bureaus, COUNTY) | standing(bureaus, PREFECTURE)
    assert Stage.WRITTEN_OFF is (await bureaus.write_off(PREFECTURE, case_id)).stage
    assert Stage.WRITTEN_OFF is (await bureaus.write_off(COUNTY, case_id)).stage


async def test_a_case_that_stood_as_different_is_looked_at_again_whatever_the_period(bureaus: Federation) -> None:
    case_id = await answered_above(bureaus)
    node = bureaus.node(COUNTY)
    await node.stop()
    rewrite(
        node.url,
        node.codes,
        COUNTY,
        lambda entries: [entry for entry in entries if not isinstance(entry.event, Concluded)],
    )
    await restarted(bureaus, COUNTY)
    await compared(bureaus, COUNTY, PREFECTURE)
    bureaus.clock.advance(timedelta(days=RECONCILE_DAYS))
    assert [] == (await compared(bureaus, COUNTY, PREFECTURE)).comparison.differences
    assert {case_id: DIFFERENT} == standing(bureaus, COUNTY)


async def test_two_bureaus_of_one_node_are_compared_like_any_others(bureaus: Federation) -> None:
    case_id = await bureaus.register(FAR_COUNTY)
    await bureaus.refer(FAR_COUNTY, case_id, FAR_PROVINCE)
    await bureaus.reached(FAR_COUNTY, case_id, Custody.RELEASED)
    report = await compared(bureaus, FAR_COUNTY, FAR_PROVINCE)
    assert (1, "", []) == (report.comparison.matched, report.away, report.comparison.differences)


async def test_each_ledger_on_a_long_way_is_compared_with_its_neighbours(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, HEADQUARTERS)
    await bureaus.reached(HEADQUARTERS, case_id, Custody.OWNED)
    await bureaus.act(HEADQUARTERS, case_id, acts.Return(reason="请先在省内核实"))
    await bureaus.reached(COUNTY, case_id, Custody.OWNED)
    await bureaus.handle(COUNTY, case_id)
    await settled(bureaus, case_id)
    for below, above in ((COUNTY, PREFECTURE), (PREFECTURE, PROVINCE), (PROVINCE, HEADQUARTERS)):
        report = await compared(bureaus, below, above)
        assert (2, 0, []) == (report.comparison.matched, report.comparison.pending, report.comparison.differences)


async def test_a_peer_that_is_away_is_not_a_difference_and_nothing_is_recorded(bureaus: Federation) -> None:
    await answered_above(bureaus)
    await bureaus.node(PREFECTURE).stop()
    with pytest.raises(PeerAway):
        await compared(bureaus, COUNTY, PREFECTURE)
    assert [] == queries.last_reconciliations(bureaus.office(COUNTY).ledger.database, (COUNTY,))


async def test_bureaus_that_are_no_superior_and_subordinate_are_not_compared(bureaus: Federation) -> None:
    with pytest.raises(NotAPair):
        await compared(bureaus, COUNTY, OTHER_COUNTY)
    with pytest.raises(NotAPair):
        await compared(bureaus, COUNTY, PROVINCE)


async def test_the_subordinate_compares_at_the_hour_set_and_both_record_it_once_a_day(bureaus: Federation) -> None:
    await answered_above(bureaus)
    reconciler = bureaus.node(COUNTY).parts.reconciler

    def recorded(bureau: str) -> int:
        with bureaus.office(bureau).ledger.database.reading() as connection:
            return len(
                connection.execute(
                    sa.select(schema.JOURNAL.c.seq).where(
                        schema.JOURNAL.c.bureau == bureau, schema.JOURNAL.c.kind == "ledgers_reconciled"
                    )
                ).all()
            )

    await reconciler.step()
    assert (0, 0) == (recorded(COUNTY), recorded(PREFECTURE))
    bureaus.clock.set(MONDAY.astimezone(SHANGHAI).replace(hour=RECONCILE_HOUR) + timedelta(days=1))
    for _ in range(2):
        await reconciler.step()
        # The prefecture's other county is of the same node.
        assert (1, 2) == (recorded(COUNTY), recorded(PREFECTURE))
    await bureaus.node(PREFECTURE).stop()
    bureaus.clock.advance(timedelta(days=1))
    await reconciler.step()
    assert 1 == recorded(COUNTY)
    await bureaus.node(PREFECTURE).start()
    await reconciler.start()
    await until(lambda: (recorded(COUNTY), recorded(PREFECTURE)) == (2, 4))
    await reconciler.stop()


@pytest.fixture
def stranger(bureaus: Federation, tmp_path: Path) -> pki.CertificatePaths:
    """Another subordinate of the prefecture."""
    return pki.issue(bureaus.authority, tmp_path / "stranger", "node", (OTHER_COUNTY,))


async def test_only_the_peer_and_superiors_read_what_a_ledger_says_of_a_pair(
    bureaus: Federation, stranger: pki.CertificatePaths, tmp_path: Path
) -> None:
    digests = pb.GetPairDigestsRequest(bureau=PREFECTURE, peer=COUNTY, from_day="2026-03-01", to_day="2026-03-31")
    records = pb.ReadPairRecordsRequest(bureau=PREFECTURE, peer=COUNTY, days=["2026-03-02"])
    mine = pki.issue(bureaus.authority, tmp_path / "county", "node", (COUNTY,))
    superior = pki.issue(bureaus.authority, tmp_path / "province", "office", (PROVINCE,))
    for paths in (mine, superior):
        async with bureaus.channel(PREFECTURE, paths) as channel:
            assert 0 == len((await ReconciliationServiceStub(channel).GetPairDigests(digests, timeout=SECONDS)).days)
    async with bureaus.channel(PREFECTURE, stranger) as channel:
        stub = ReconciliationServiceStub(channel)
        for ask in (
            lambda: stub.GetPairDigests(digests, timeout=SECONDS),
            lambda: stub.ReadPairRecords(records, timeout=SECONDS).read(),
            lambda: stub.ReconcileLedgers(pb.ReconcileLedgersRequest(bureau=PREFECTURE, peer=COUNTY), timeout=SECONDS),
            lambda: stub.ListMismatches(pb.ListMismatchesRequest(bureau=PREFECTURE), timeout=SECONDS),
        ):
            assert "NotAuthorised" == (await refusal_of(ask())).rule


@pytest.mark.parametrize(
    ("from_day", "to_day", "field"),
    [("2026-3-1", "2026-03-02", "from_day"), ("2026-03-02", "2026-03-01", "to_day"), ("0001-01-01", "x", "from_day")],
)
async def test_what_is_no_period_is_refused(bureaus: Federation, from_day: str, to_day: str, field: str) -> None:
    request = pb.GetPairDigestsRequest(bureau=PREFECTURE, peer=COUNTY, from_day=from_day, to_day=to_day)
    async with bureaus.channel(PREFECTURE, bureaus.node(COUNTY).paths) as channel:
        refusal = await refusal_of(ReconciliationServiceStub(channel).GetPairDigests(request, timeout=SECONDS))
    assert ("FieldMalformed", field) == (refusal.rule, refusal.field)


async def test_a_conclusion_not_acknowledged_stands_against_a_write_off_before_any_reconciliation(
    bureaus: Federation,
) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    await bureaus.node(COUNTY).stop()
    await bureaus.handle(PREFECTURE, case_id)
    with pytest.raises(LedgersDisagree):
        await bureaus.write_off(PREFECTURE, case_id)
