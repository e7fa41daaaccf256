"""What a replay came to: the hub's figures beside those that the plan lets one expect."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from demo.replay.driver import Played
from demo.replay.figures import BureauFigures, PlanFigures
from demo.replay.log import Plan, RefusedRow
from kuaixiang.domain.words import ClockKind
from kuaixiang.wire.v1 import statistics_pb2 as pb

MEASURES = tuple(part.name for part in fields(BureauFigures))


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure that the hub has otherwise than the plan."""

    bureau: str
    measure: str
    hub: int
    plan: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished replay.

    Attributes:
        plan: what was played.
        cases_left_out: cases of the log beyond the limit that was asked for.
        rows_left_out: their rows.
        played: how it went.
        journal_entries: of all ledgers together.
        seconds_settling: from the last act until the hub had folded everything.
        expected: the figures by the plan.
        hub: the figures by the hub.
        reconciliation: the hub against every ledger.
        report: where the refused rows are.
    """

    plan: Plan
    cases_left_out: int
    rows_left_out: int
    played: Played
    journal_entries: int
    seconds_settling: float
    expected: PlanFigures
    hub: PlanFigures
    reconciliation: pb.ReconcileResponse
    report: Path
    differences: tuple[Difference, ...] = field(default=())

    @property
    def matches(self) -> bool:
        """Whether the hub's figures are the expected ones, and stand up to the ledgers."""
        return not (self.differences or self.reconciliation.mismatches or self.reconciliation.unreachable)

    @property
    def seconds(self) -> float:
        """From the first act until the hub had folded everything."""
        return self.played.seconds + self.seconds_settling

    @property
    def entries_per_second(self) -> float:
        """Journal entries from act to figure."""
        return self.journal_entries / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values, for JSON."""
        plan, found = self.plan, self.reconciliation
        return {
            "rows_read": plan.rows_read,
            "rows_used": plan.rows_used,
            "rows_left_out": self.rows_left_out,
            "rows_refused": len(plan.refused),
            "refused_by_reason": {reason.value: rows for reason, rows in sorted(plan.refused_by_reason().items())},
            "report": str(self.report),
            "bureaus": len(plan.tree.bureaus),
            "cases": len(plan.cases),
            "cases_left_out": self.cases_left_out,
            "acts": self.played.acts,
            "days": self.played.days,
            "journal_entries": self.journal_entries,
            "referral_seconds": self.played.referral_seconds(),
            "seconds": round(self.seconds, 1),
            "seconds_playing": round(self.played.seconds, 1),
            "entries_per_second": round(self.entries_per_second, 1),
            "hub": {
                "total": asdict(self.hub.total),
                "bureaus": {code: asdict(figures) for code, figures in self.hub.bureaus.items() if any_of(figures)},
            },
            "expected": {"total": asdict(self.expected.total)},
            "reconciliation": {
                "ledgers_compared": found.ledgers_compared,
                "entries_compared": found.entries_compared,
                "mismatches": [
                    {"bureau": one.bureau, "what": one.what, "hub": one.hub, "ledger": one.ledger}
                    for one in found.mismatches
                ],
                "unreachable": list(found.unreachable),
            },
            "matches": self.matches,
            "differences": [asdict(one) for one in self.differences],
        }


def any_of(figures: BureauFigures) -> bool:
    """Whether any figure is not zero."""
    return any(getattr(figures, measure) for measure in MEASURES)


def hub_figures(rows: Sequence[pb.Figures]) -> PlanFigures:
    """The hub's figures of each bureau alone, in the plan's measures.

    Of the clocks only the handling clock: the logs know nothing of the others. A bureau that passes a case on records
    a receipt too; `received` are the hand-overs that ended at it.
    """
    found: dict[str, BureauFigures] = {}
    for row in rows:
        facts: Mapping[str, int] = row.facts
        handle = next((clock for clock in row.clocks if clock.kind == int(ClockKind.HANDLE)), pb.ClockFigures())
        relayed = facts.get("relayed", 0)
        found[row.key] = BureauFigures(
            registered=facts.get("registered", 0),
            completed=facts.get("completed", 0),
            deferred=facts.get("deferred", 0),
            met=handle.met,
            missed=handle.missed,
            referred_up=facts.get("referred_up", 0),
            referred_down=facts.get("referred_down", 0),
            referred_across=facts.get("referred_across", 0),
            returned=facts.get("returned_referral", 0),
            received=facts.get("received", 0) - relayed,
            relayed=relayed,
        )
    return PlanFigures(found)


def compare(hub: PlanFigures, expected: PlanFigures) -> tuple[Difference, ...]:
    """Every figure of every bureau that is not the expected one."""
    none = BureauFigures()
    return tuple(
        Difference(bureau, measure, counted, wanted)
        for bureau in sorted(hub.bureaus.keys() | expected.bureaus.keys())
        for measure in MEASURES
        if (counted := getattr(hub.bureaus.get(bureau, none), measure))
        != (wanted := getattr(expected.bureaus.get(bureau, none), measure))
    )


def write_report(path: Path, refused: Sequence[RefusedRow]) -> None:
    """Write every refused row: line, case, reason, detail; as JSON where the file is named so, else as CSV."""
    rows = [
        {"line": row.line, "case": row.case_ref, "reason": row.reason.value, "detail": row.detail} for row in refused
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["line", "case", "reason", "detail"])
        writer.writeheader()
        writer.writerows(rows)
