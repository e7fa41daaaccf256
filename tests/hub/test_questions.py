"""A question for figures that cannot be meant is refused with the rule and the field at fault."""

from pathlib import Path
from typing import Any

import pytest

from demo.sites import Sites
from kuaixiang.wire.v1 import statistics_pb2 as pb
from tests.hub.federation import Federation
from tests.node.callers import refusal_of

pytestmark = pytest.mark.nats

QUESTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"from_day": "soon"}, "NoSuchDay", "from_day"),
    ({"to_day": "2026-02-30"}, "NoSuchDay", "to_day"),
    ({"to_day": "9999-12-31"}, "NoSuchDay", "to_day"),
    ({"from_day": "2026-11-02", "to_day": "2026-11-01"}, "EmptyPeriod", "to_day"),
    ({"period": "2026-11", "from_day": "2026-11-02"}, "PeriodTwice", "period"),
    ({"period": "2026-13"}, "NoSuchPeriod", "period"),
    ({"category": 99}, "NoSuchValue", "category"),
    ({"channel": 99}, "NoSuchValue", "channel"),
    ({"department_kind": 99}, "NoSuchValue", "department_kind"),
    ({"grouping": 99}, "NoSuchValue", "grouping"),
    ({"scope": "999999"}, "NotCounted", "scope"),
]


async def test_a_question_that_cannot_be_meant_is_refused_by_rule_and_field(nats_sites: Sites, tmp_path: Path) -> None:
    federation = Federation(tmp_path, nats_sites)
    async with (
        federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub,
        federation.statistics(hub.port) as stub,
    ):
        for question, rule, field in QUESTIONS:
            refusal = await refusal_of(stub.GetFigures(pb.GetFiguresRequest(**question), timeout=60))
            assert (rule, field) == (refusal.rule, refusal.field)
            assert all((*refusal.sentence, *refusal.remedy))
