"""The lifecycle, cell by cell: a second copy of both tables, written from the notice, held against the first."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.draw_lifecycle import DOCUMENT, document
from kuaixiang.domain import acts, errors
from kuaixiang.domain.acts import Act
from kuaixiang.domain.lifecycle import OPENING, ROLES, STANDING, TRANSITIONS, check_role, possible, stage_after
from kuaixiang.domain.words import Role, Stage
from tests.domain.story import CASE_ID, EXAMPLES

ROOT = Path(__file__).parents[2]

# Where each act leads from each stage: a stage's name, `=` where the stage stays, `.` where the act is not possible.
# fmt: off
LIFECYCLE = """
                       Reg Fwd Han Joi Def Ref Com Fed Fol Con Rec Wdn Off
Register                .   .   .   .   .   .   .   .   .   .   .   .   .
AnswerOnTheSpot        Fed  .   .   .   .   .   .   .   .   .   .   .   .
Forward                Fwd  .   .   .   .   .   .   .   .   .   .   .   .
AcceptDirectly         Han  .   .   .   .   .   .   .   .   .   .   .   .
Dispatch                .  Han  .   .   .   .   .   .   .   .   .   .   .
ReturnDispatch          .   .  Fwd Fwd  .   .   .   .   .   .   .   .   .
AskExtension            .   .   =   =   .   .   .   .   .   .   .   .   .
ApproveExtension        .   .   =   =   .   .   .   .   .   .   .   .   .
RefuseExtension         .   .   =   =   .   .   .   .   .   .   .   .   .
StartJointHandling      .  Joi Joi  .   .   .   .   .   .   .   .   .   .
ExplainExtension        .   .   .   =   .   .   .   .   .   .   .   .   .
AddPart                 .   .   .   =   .   .   .   .   .   .   .   .   .
CompletePart            .   .   .   =   .   .   .   .   .   .   .   .   .
Complete                .   .  Com Com  .   .   .   .   .   .   .   .   .
CompleteWithLead        .  Com Com  .   .   .   .   .   .   .   .   .   .
Link                    =   =   =   =   =   .   .   .   .   .   .   .   .
Unlink                  =   =   =   =   =   .   .   .   .   .   .   .   .
LinkIssue               =   =   =   =   =   .   =   =   =   .   =   =   .
Attach                  =   =   =   =   =   .   =   .   .   .   .   .   .
GiveFeedback            .   .   .   .   .   .  Fed  .   .   .   .   .   .
FollowUp                .   .   .   .   .   .   .  Fol Fol  .   .   .   .
Reopen                  .   .   .   .   .   .   .  Han Han  .   .   .   .
Withdraw               Wdn Wdn Wdn Wdn Wdn  .   .   .   .   .   .   .   .
Defer                   .   .  Def Def Def  .   .   .   .   .   .   .   .
Resume                  .   .   .   .  Han  .   .   .   .   .   .   .   .
SendToReconsideration   .  Rec Rec Rec Rec  .   .   .   .   .   .   .   .
Refer                   =   =   =   =   .   .   .   .   .   .   .   .   .
Return                  .   =   =   =   .   .   .   .   .   .   .   .   .
AskRuling               .   =   =   =   .   .   .   .   .   .   .   .   .
Rule                    .   =   =   =   .   .   .   .   .   .   .   .   .
AskOverride             .   .   .   .   .   .   .   =   =   =   =   =   .
ApproveOverride         .   .   .   .   .   .   .   =   =   =   =   =   .
RefuseOverride          .   .   .   .   .   .   .   =   =   =   =   =   .
WithdrawOffer           =   =   =   =   .   .   .   .   .   .   .   .   .
WriteOff                .   .   .   .   .   .   .  Off Off Off Off Off  .
Receive                 .   .   .   .   .  Fwd  .   .   .  Fwd  .   .  Fwd
AcknowledgeAcceptance  Ref Ref Ref Ref  .   .   .   .   .   .   .   .   .
AcknowledgeRefusal      =   =   =   =   .   .   .   .   .   .   .   .   .
HearConclusion          .   .   .   .   .  Con  .   .   .  Con  .   .  Con
AcknowledgeConclusion   =   =   =   =   =   =   =   =   =   =   =   =   =
MarkOverdue             =   =   =   =   =   =   =   =   =   =   =   =   =
MarkDueSoon             =   =   =   =   =   =   =   =   =   =   =   =   =
Recompute               =   =   =   =   =   =   =   =   =   =   =   =   =
NoteMismatch            =   =   =   =   =   =   =   =   =   =   =   =   =
"""

# Who may do each act: registrar, tax service, handler, deputy head, bureau head, channel, system.
PEOPLE = """
                       REGISTRAR TAX_SERVICE HANDLER DEPUTY_HEAD BUREAU_HEAD CHANNEL SYSTEM
Register                   x          x         .         .           .         x      .
AnswerOnTheSpot            x          x         .         .           .         .      .
Forward                    x          x         .         .           .         .      .
AcceptDirectly             x          .         x         .           .         .      .
Dispatch                   .          x         .         .           .         .      .
ReturnDispatch             .          .         x         .           .         .      .
AskExtension               .          .         x         .           .         .      .
ApproveExtension           .          .         .         x           x         .      .
RefuseExtension            .          .         .         x           x         .      .
StartJointHandling         .          x         .         .           .         .      .
ExplainExtension           .          .         x         .           .         .      .
AddPart                    .          x         .         .           .         .      .
CompletePart               .          .         x         .           .         .      .
Complete                   .          .         x         .           .         .      .
CompleteWithLead           .          .         .         .           .         .      x
Link                       x          x         x         .           .         .      .
Unlink                     x          x         x         .           .         .      .
LinkIssue                  .          x         x         .           .         .      .
Attach                     x          x         x         .           .         .      .
GiveFeedback               .          .         x         .           .         .      .
FollowUp                   .          x         .         .           .         .      .
Reopen                     .          x         .         .           .         .      .
Withdraw                   x          x         .         .           .         .      .
Defer                      .          .         x         .           .         .      .
Resume                     .          x         x         .           .         .      .
SendToReconsideration      .          x         x         .           .         .      .
Refer                      x          x         x         .           .         .      .
Return                     .          x         x         .           .         .      .
AskRuling                  .          x         x         .           .         .      .
Rule                       .          .         .         x           x         .      .
AskOverride                .          x         .         .           .         .      .
ApproveOverride            .          .         .         x           x         .      .
RefuseOverride             .          .         .         x           x         .      .
WithdrawOffer              x          x         x         .           .         .      .
WriteOff                   .          x         .         .           .         .      .
Receive                    .          .         .         .           .         .      x
AcknowledgeAcceptance      .          .         .         .           .         .      x
AcknowledgeRefusal         .          .         .         .           .         .      x
HearConclusion             .          .         .         .           .         .      x
AcknowledgeConclusion      .          .         .         .           .         .      x
MarkOverdue                .          .         .         .           .         .      x
MarkDueSoon                .          .         .         .           .         .      x
Recompute                  .          .         .         .           .         .      x
NoteMismatch               .          .         .         .           .         .      x
"""
# fmt: on


def rows(table: str) -> tuple[list[str], dict[str, list[str]]]:
    """The head and the rows of a table, by their first word."""
    head, *body = (line.split() for line in table.strip().splitlines())
    return head, {name: cells for name, *cells in body}


EVERY_ACT = sorted(
    (kind for kind in vars(acts).values() if isinstance(kind, type) and issubclass(kind, Act) and kind is not Act),
    key=lambda kind: kind.__name__,
)
SHORT = dict(zip(rows(LIFECYCLE)[0], Stage, strict=True))
LONG = {stage: short for short, stage in SHORT.items()}


def outcome(act: Act, stage: Stage) -> str:
    """What the lifecycle says of an act at a stage, as in the table above."""
    try:
        after = stage_after(CASE_ID, stage, act)
    except errors.ActNotAllowed:
        return "."
    return "=" if after is stage and type(act) in STANDING else LONG[after]


def admits(act: Act, role: Role) -> str:
    try:
        check_role(act, role)
    except errors.RoleNotAllowed:
        return "."
    return "x"


def test_the_copies_name_every_act_once() -> None:
    names = sorted(kind.__name__ for kind in EVERY_ACT)
    assert names == sorted(rows(LIFECYCLE)[1])
    assert names == sorted(rows(PEOPLE)[1])
    assert names == sorted(kind.__name__ for kind in EXAMPLES)


@pytest.mark.parametrize("kind", EVERY_ACT, ids=lambda kind: kind.__name__)
def test_an_act_leads_from_each_stage_where_the_notice_lets_it(kind: type[Act]) -> None:
    _, body = rows(LIFECYCLE)
    assert body[kind.__name__] == [outcome(EXAMPLES[kind], stage) for stage in SHORT.values()]


@pytest.mark.parametrize("kind", EVERY_ACT, ids=lambda kind: kind.__name__)
def test_an_act_is_for_the_roles_that_the_notice_gives_it_to(kind: type[Act]) -> None:
    head, body = rows(PEOPLE)
    assert body[kind.__name__] == [admits(EXAMPLES[kind], Role[name]) for name in head]


def test_a_case_begins_by_registering_or_by_receiving() -> None:
    assert {acts.Register: Stage.REGISTERED, acts.Receive: Stage.FORWARDED} == dict(OPENING)


def test_the_tables_speak_of_every_stage_and_every_act() -> None:
    named = {*OPENING, *STANDING, *(act for row in TRANSITIONS.values() for act in row)}
    assert set(Stage) == set(TRANSITIONS)
    assert set(EVERY_ACT) == named == set(ROLES)


def test_no_act_both_moves_a_case_and_leaves_it_standing_at_a_stage() -> None:
    assert [] == [(stage, act) for stage, row in TRANSITIONS.items() for act in row if stage in STANDING.get(act, ())]


def test_every_stage_can_be_reached_from_an_opening() -> None:
    reached = set(OPENING.values())
    while more := {target for stage in reached for target in TRANSITIONS[stage].values()} - reached:
        reached |= more
    assert set(Stage) == reached


def test_every_stage_leads_to_the_end() -> None:
    ends = {Stage.WRITTEN_OFF}
    while more := {stage for stage, row in TRANSITIONS.items() if ends.intersection(row.values())} - ends:
        ends |= more
    assert set(Stage) == ends


def test_a_miss_is_a_named_error_that_lists_what_is_possible() -> None:
    with pytest.raises(errors.ActNotAllowed) as refusal:
        stage_after(CASE_ID, Stage.COMPLETED, EXAMPLES[acts.Forward])
    assert f"forward is not possible: case {CASE_ID} is completed." == str(refusal.value)
    assert "At this stage one can: feedback, attach, link-issue." == refusal.value.remedy


def test_what_is_possible_is_told_in_acts_of_people_alone() -> None:
    for stage in Stage:
        for kind in possible(stage):
            assert ROLES[kind] != {Role.SYSTEM}


def test_the_document_is_drawn_from_the_table_as_it_is() -> None:
    assert document() == DOCUMENT.read_text(encoding="utf-8"), "run python -m docs.draw_lifecycle --write"


def test_the_program_prints_the_document() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.draw_lifecycle"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    assert document() == done.stdout
