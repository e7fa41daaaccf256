"""What headquarters publishes reaches every node, also those that were away; nobody between can alter or make it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from demo.sites import Sites
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.events import BecameOverdue, CalendarAdopted, ClocksRecomputed, DirectivePublished
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import ClockKind, DirectiveKind, Role
from kuaixiang.runtime.bus import directive_subject, wake_subject
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import common_pb2, directive_pb2, live_pb2, referral_pb2
from node.directives import Directives
from node.federation import directives as federation_directives
from node.federation.directives import superiors_of
from tests.federation.bureaus import SECONDS, until
from tests.federation.nodes import (
    BUREAUS,
    COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    MONDAY,
    PREFECTURE,
    PROVINCE,
    Nodes,
    amended,
    is_heard,
    nodes,
)
from tests.node.callers import refusal_of

THURSDAY, FRIDAY, SATURDAY = date(2026, 3, 5), date(2026, 3, 6), date(2026, 3, 7)
ISSUE = directive_pb2.ConfirmedIssue(
    issue_id="GX-2026-0001",
    title="数电票红冲流程不清",
    owner="000000/vat",
    standard_answer="购方未确认用途的，销方可直接开具红字发票。",
)


def end_of(month: int, day: int) -> datetime:
    return datetime(2026, month, day, tzinfo=SHANGHAI) + timedelta(days=1)


@pytest_asyncio.fixture
async def tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    """Nodes without NATS, none of them up; they look for directives often."""
    monkeypatch.setattr(federation_directives, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(federation_directives, "LOOK_AGAIN_SECONDS", 0.1)
    async with nodes(tmp_path) as made:
        yield made


async def published(tiers: Nodes) -> list[directive_pb2.SignedDirective]:
    """What headquarters' node has, newest of each subject."""
    async with tiers.directives(HEADQUARTERS, "node", COUNTY) as stub:
        answer = await stub.ReadDirectives(directive_pb2.ReadDirectivesRequest(bureau=HEADQUARTERS))
    return list(answer.directives)


async def alone(tiers: Nodes, bureau: str) -> None:
    """That node alone is up, so that what it has is what the test gives it."""
    await tiers.stop(HEADQUARTERS)
    await tiers.start(bureau)


async def test_a_node_that_was_away_adopts_the_calendar_when_it_is_back_and_computes_its_deadlines_again(
    tiers: Nodes,
) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY)
    case_id = await tiers.accept(COUNTY)
    assert end_of(3, 9) == tiers.clock_of(COUNTY, case_id).due_at
    await tiers.stop(COUNTY, PREFECTURE)
    await tiers.publish_calendar(amended("2026.2", off=[THURSDAY, FRIDAY], work=[SATURDAY]))
    await until(lambda: tiers.version(PROVINCE) == "2026.2")
    await tiers.stop(HEADQUARTERS)
    await tiers.start(PREFECTURE, COUNTY)
    await until(lambda: tiers.events(COUNTY, ClocksRecomputed))
    # Tuesday, Wednesday, Saturday (made up), Monday, Tuesday.
    clock = tiers.clock_of(COUNTY, case_id)
    assert (end_of(3, 10), end_of(3, 9), "2026.2") == (clock.due_at, clock.soon_at, clock.calendar_version)
    assert ["2026.2"] == [entry.event.calendar_version for entry in tiers.events(COUNTY, CalendarAdopted)]  # type: ignore[attr-defined]


async def test_an_added_make_up_day_brings_a_deadline_forward(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    case_id = await tiers.accept(HEADQUARTERS)
    await tiers.publish_calendar(amended("2026.2", work=[SATURDAY]))
    await until(lambda: tiers.events(HEADQUARTERS, ClocksRecomputed))
    assert end_of(3, 7) == tiers.clock_of(HEADQUARTERS, case_id).due_at


async def test_a_deadline_that_has_passed_stays_missed_whatever_a_later_calendar_says(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    late = await tiers.accept(HEADQUARTERS)
    tiers.clock.advance_to(end_of(3, 9))
    await until(lambda: tiers.events(HEADQUARTERS, BecameOverdue))
    open_ = await tiers.accept(HEADQUARTERS)
    await tiers.publish_calendar(amended("2026.2", off=[date(2026, 3, 10), date(2026, 3, 11)]))
    await until(lambda: tiers.events(HEADQUARTERS, ClocksRecomputed))
    assert [open_] == [entry.case_id for entry in tiers.events(HEADQUARTERS, ClocksRecomputed)]
    clock = tiers.clock_of(HEADQUARTERS, late)
    assert (True, end_of(3, 9), "2026.1") == (clock.overdue, clock.due_at, clock.calendar_version)


async def test_each_bureau_recomputes_once(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE)
    await tiers.accept(PROVINCE)
    await tiers.publish_calendar(amended("2026.2", off=[THURSDAY]))
    await until(lambda: tiers.events(PROVINCE, ClocksRecomputed))
    await tiers.stop(PROVINCE)
    await tiers.start(PROVINCE)
    await tiers.register(PROVINCE)
    assert (1, 1) == (len(tiers.events(PROVINCE, ClocksRecomputed)), len(tiers.events(PROVINCE, CalendarAdopted)))


async def test_the_calendar_is_in_force_again_after_a_restart_without_asking_anybody(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS, PROVINCE)
    await tiers.publish_calendar(amended("2026.2", off=[THURSDAY]))
    await until(lambda: tiers.version(PROVINCE) == "2026.2")
    await tiers.stop(PROVINCE, HEADQUARTERS)
    await tiers.start(PROVINCE)
    assert "2026.2" == tiers.version(PROVINCE)
    case_id = await tiers.accept(PROVINCE)
    assert end_of(3, 10) == tiers.clock_of(PROVINCE, case_id).due_at


async def test_a_node_whose_superior_is_away_asks_the_next_one_above(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    await tiers.publish_calendar(amended("2026.2", off=[THURSDAY]))
    await tiers.start(COUNTY)
    await until(lambda: tiers.version(COUNTY) == "2026.2")


async def test_a_directive_that_headquarters_has_not_signed_is_not_taken(tiers: Nodes) -> None:
    await tiers.start(COUNTY)
    office = tiers.up[COUNTY].office
    directives = Directives(office, Seal(tiers.certificate("node", COUNTY)))
    forged = directive_pb2.Directive(
        kind=common_pb2.DIRECTIVE_KIND_CALENDAR,
        published_at_us=1,
        calendar_version="2026.2",
        calendar=amended("2026.2", off=[THURSDAY]),
    ).SerializeToString()
    of_the_province = Seal(tiers.certificate("node", PROVINCE)).sign(forged)
    signed = directive_pb2.SignedDirective(directive=forged, signature=of_the_province)
    assert 0 == await directives.take([signed])
    assert "2026.1" == office.place.calendar.version


async def test_a_directive_that_was_altered_on_the_way_is_not_taken_and_the_others_are(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    await tiers.publish_issue(ISSUE)
    await tiers.publish_calendar(amended("2026.2", off=[THURSDAY]))
    issue, calendar = await published(tiers)
    await alone(tiers, COUNTY)
    calendar.directive = calendar.directive.replace(b"2026-03-05", b"2026-03-06")
    office = tiers.up[COUNTY].office
    directives = Directives(office, Seal(tiers.certificate("node", COUNTY)))
    assert 1 == await directives.take([calendar, issue])
    assert ("2026.1", ISSUE) == (office.place.calendar.version, directives.issue("GX-2026-0001").issue)


async def test_what_headquarters_signed_for_another_purpose_is_no_directive(tiers: Nodes) -> None:
    await tiers.start(COUNTY)
    offer = referral_pb2.Offer(
        referral_id="r", case_id="c", epoch=1, from_bureau=HEADQUARTERS, to_bureau=PROVINCE, reason="x"
    ).SerializeToString()
    signature = Seal(tiers.certificate("node", HEADQUARTERS)).sign(offer)
    directives = Directives(tiers.up[COUNTY].office, Seal(tiers.certificate("node", COUNTY)))
    assert 0 == await directives.take([directive_pb2.SignedDirective(directive=offer, signature=signature)])


async def test_of_two_directives_on_a_subject_the_later_stands_in_whatever_order_they_come(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    signed: list[directive_pb2.SignedDirective] = []
    for answer in ("旧口径", "新口径"):
        issue = directive_pb2.ConfirmedIssue()
        issue.CopyFrom(ISSUE)
        issue.standard_answer = answer
        await tiers.publish_issue(issue)
        signed += await published(tiers)
    await alone(tiers, COUNTY)
    directives = Directives(tiers.up[COUNTY].office, Seal(tiers.certificate("node", COUNTY)))
    assert [1, 0, 0] == [await directives.take([one]) for one in (signed[1], signed[0], signed[1])]
    assert "新口径" == directives.issue("GX-2026-0001").issue.standard_answer


async def test_an_older_calendar_is_kept_and_not_put_in_force(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    signed: list[directive_pb2.SignedDirective] = []
    for version in ("2026.2", "2026.3"):
        await tiers.publish_calendar(amended(version, off=[THURSDAY]))
        signed += await published(tiers)
    await alone(tiers, COUNTY)
    directives = Directives(tiers.up[COUNTY].office, Seal(tiers.certificate("node", COUNTY)))
    await directives.take([signed[1]])
    await directives.take([signed[0]])
    assert "2026.3" == tiers.version(COUNTY)


async def test_a_confirmed_issue_is_shown_to_the_officers_of_a_bureau_that_was_away(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    await tiers.publish_issue(ISSUE)
    await tiers.start(COUNTY)
    request = directive_pb2.GetPublishedIssueRequest(bureau=COUNTY, issue_id="GX-2026-0001")
    async with tiers.directives(COUNTY, "office", COUNTY) as stub:

        async def shown() -> directive_pb2.ConfirmedIssue:
            while True:
                try:
                    return (await stub.GetPublishedIssue(request)).issue
                except grpc.aio.AioRpcError as error:
                    refusal = from_call(error)
                    assert "UnknownIssue" == (refusal.rule if refusal else "")
                    await asyncio.sleep(0.02)

        assert ISSUE == await asyncio.wait_for(shown(), SECONDS)


async def test_publishing_is_recorded_with_who_did_it_and_done_once_under_a_key(tiers: Nodes) -> None:
    await tiers.start(HEADQUARTERS)
    text = amended("2026.2", off=[THURSDAY])
    first, again = [await tiers.publish_calendar(text, key="once") for _ in range(2)]
    assert (False, True, first.seq) == (first.repeated_request, again.repeated_request, again.seq)
    (entry,) = tiers.events(HEADQUARTERS, DirectivePublished)
    assert ("supervisor-1", Role.SUPERVISOR, DirectiveKind.CALENDAR) == (
        entry.actor,
        entry.role,
        entry.event.directive_kind,  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize(
    ("text", "header", "rule"),
    [
        (amended("2026.2"), {"role": common_pb2.ROLE_REGISTRAR}, "NotForThisRole"),
        ("no calendar", {}, "CalendarUnusable"),
        (amended("2026.0.9"), {}, "CalendarNotNewer"),
        (amended("next"), {}, "CalendarUnnumbered"),
        (amended("2026.2", work=[date(2026, 1, 31)]), {}, "CalendarChangesPast"),
    ],
    ids=["role", "no calendar", "not newer", "unnumbered", "past"],
)
async def test_what_may_not_be_published_is_refused_in_both_languages_and_changes_nothing(
    tiers: Nodes, text: str, header: dict[str, Any], rule: str
) -> None:
    await tiers.start(HEADQUARTERS)
    refusal = await refusal_of(tiers.publish_calendar(text, **header))
    assert rule == refusal.rule
    assert [] == tiers.entries(HEADQUARTERS)
    assert "2026.1" == tiers.version(HEADQUARTERS)


async def test_no_other_bureau_publishes(tiers: Nodes) -> None:
    await tiers.start(PROVINCE)
    request = directive_pb2.PublishCalendarRequest(calendar=amended("2026.2"))
    request.header.bureau, request.header.role = PROVINCE, common_pb2.ROLE_BUREAU_HEAD
    async with tiers.directives(PROVINCE, "office", PROVINCE) as stub:
        assert "NotHeadquarters" == (await refusal_of(stub.PublishCalendar(request))).rule
        request.header.bureau = HEADQUARTERS
        assert "NotAuthorised" == (await refusal_of(stub.PublishCalendar(request))).rule


async def test_directives_are_for_the_bureau_and_those_below_it(tiers: Nodes) -> None:
    await tiers.start(PROVINCE)
    request = directive_pb2.ReadDirectivesRequest(bureau=PROVINCE)
    for kind, code, may in (("node", COUNTY, True), ("office", PROVINCE, True), ("node", FAR_PROVINCE, False)):
        async with tiers.directives(PROVINCE, kind, code) as stub:  # type: ignore[arg-type]
            if may:
                assert [] == list((await stub.ReadDirectives(request)).directives)
            else:
                assert "NotAuthorised" == (await refusal_of(stub.ReadDirectives(request))).rule


def test_a_node_asks_the_nearest_superiors_that_are_not_its_own() -> None:
    tree = BureauTree("test", BUREAUS)
    assert [PREFECTURE, PROVINCE, HEADQUARTERS] == superiors_of(tree, [COUNTY])
    assert [HEADQUARTERS] == superiors_of(tree, [PROVINCE, PREFECTURE, COUNTY])
    assert [] == superiors_of(tree, [HEADQUARTERS, PROVINCE])


async def all_hear(sites: Sites) -> None:
    """Wait until each node hears of its superior that there is something new: it is told once."""
    strangers = live_pb2.DirectiveNotice(from_bureau=COUNTY)
    for superior, bureau in (
        (HEADQUARTERS, PROVINCE),
        (HEADQUARTERS, FAR_PROVINCE),
        (PROVINCE, PREFECTURE),
        (PROVINCE, COUNTY),
    ):
        site = bureau if superior == HEADQUARTERS else PROVINCE
        await is_heard(sites[superior].node, directive_subject(site, bureau), strangers)
    # That headquarters' own connection is up, too.
    wake = live_pb2.WakeNotice(from_bureau=COUNTY)
    await is_heard(sites.national.node, wake_subject(HEADQUARTERS, HEADQUARTERS), wake)


@pytest.mark.nats
async def test_with_nats_what_is_published_is_everywhere_within_a_moment(tmp_path: Path, own_nats_sites: Sites) -> None:
    async with nodes(tmp_path, own_nats_sites) as tiers:
        await tiers.start(HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY, FAR_PROVINCE)
        case_id = await tiers.accept(COUNTY)
        await all_hear(own_nats_sites)
        # The nodes look by themselves every five minutes only.
        await tiers.publish_calendar(amended("2026.2", off=[THURSDAY]))
        for bureau in (PROVINCE, PREFECTURE, COUNTY, FAR_PROVINCE):
            await until(lambda bureau=bureau: tiers.version(bureau) == "2026.2")  # type: ignore[misc]
        await until(lambda: tiers.events(COUNTY, ClocksRecomputed))
        assert end_of(3, 10) == tiers.clock_of(COUNTY, case_id, ClockKind.HANDLE).due_at
        assert tiers.clock.now() == MONDAY
