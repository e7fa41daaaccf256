"""The hub's values as messages of the wire."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from hub.comparison import Change, Compared
from hub.editions import Edition
from hub.fold import Mark
from hub.measures import measure_name
from hub.publishing import NAMED_MAX, Correction, Corrections
from hub.query import Completeness, Row, day_text
from kuaixiang.domain.tree import BureauTree
from kuaixiang.wire.v1 import statistics_pb2 as pb


def compared(of: Compared) -> pb.Figures:
    """A row with its changes."""
    message = figures(of.row)
    message.changes.extend(map(change, of.changes))
    return message


def figures(row: Row) -> pb.Figures:
    """A row."""
    message = pb.Figures(
        key=row.key, label=row.label, facts=row.facts, open=row.open, overdue=row.overdue, counts=row.counts
    )
    for rate in row.rates:
        message.rates.add(name=rate.name, numerator=rate.numerator, denominator=rate.denominator)
    for clock in row.clocks:
        message.clocks.add(
            kind=clock.kind.value,
            met=clock.met,
            missed=clock.missed,
            histogram=clock.histogram,
            p50_workdays=clock.p50_workdays,
            p90_workdays=clock.p90_workdays,
            p95_workdays=clock.p95_workdays,
        )
    return message


def change(of: Change) -> pb.Change:
    """A row against an earlier one."""
    basis: Any = of.basis.value
    return pb.Change(
        basis=basis,
        from_day=of.first.isoformat(),
        to_day=of.last.isoformat(),
        before=figures(of.before),
        facts=of.facts,
        counts=of.counts,
        rates=of.rates,
    )


def completeness(found: Completeness, tree: BureauTree) -> pb.Completeness:
    """How complete figures are, the first of the bureaus that are missing by name."""
    message = pb.Completeness(
        bureaus_expected=found.bureaus_expected,
        bureaus_heard=found.bureaus_heard,
        bureaus_up_to_date=found.bureaus_up_to_date,
        bureaus_quarantined=found.bureaus_quarantined,
        data_as_of=instant(found.data_as_of_us),
        missing_count=len(found.missing),
    )
    for bureau, lack in list(found.missing.items())[:NAMED_MAX]:
        message.missing.add(bureau=bureau, name=_name(tree, bureau), lack=lack.value)
    return message


def edition(of: Edition, tree: BureauTree) -> pb.Edition:
    """An edition, without its figures."""
    missing = of.missing.split()
    return pb.Edition(
        scope=of.scope,
        period=of.period,
        edition=of.edition,
        from_day=day_text(of.first_day),
        to_day=day_text(of.last_day),
        published_at=instant(of.published_at_us),
        published_by=of.published_by,
        completeness=pb.Completeness(
            bureaus_expected=of.bureaus_expected,
            bureaus_heard=of.bureaus_heard,
            bureaus_up_to_date=of.bureaus_up_to_date,
            bureaus_quarantined=of.bureaus_quarantined,
            data_as_of=instant(of.data_as_of_us),
            missing=[pb.MissingBureau(bureau=bureau, name=_name(tree, bureau)) for bureau in missing[:NAMED_MAX]],
            missing_count=len(missing),
        ),
        override_by=of.override_by,
        override_second=of.override_second,
        override_reason=of.override_reason,
        definitions=of.definitions,
        tree_version=of.tree_version,
    )


def published(found: Corrections, tree: BureauTree) -> pb.Published:
    """That figures are published, and how many of them have changed."""
    return pb.Published(edition=edition(found.edition, tree), corrections=len(found.bureaus))


def correction(of: Correction, tree: BureauTree) -> pb.Correction:
    """A published figure that is another one now."""
    bureau, _, category, channel, kind, measure = of.cell
    message = pb.Correction(
        bureau=bureau, name=_name(tree, bureau), measure=measure_name(measure), published=of.published, now=of.now
    )
    message.category, message.channel, message.department_kind = category, channel, kind  # type: ignore[assignment]
    return message


def mark(of: Mark, parked: int) -> pb.BureauMark:
    """Up to where a bureau's journal has been folded."""
    return pb.BureauMark(
        bureau=of.bureau,
        generation=of.generation,
        seq=of.seq,
        hash=of.hash,
        announced_seq=of.announced_seq,
        heard_at=instant(of.heard_at_us),
        data_as_of=instant(of.data_as_of_us),
        parked_entries=parked,
        quarantine=of.quarantine,
        restored=of.restored,
    )


def instant(micros: int) -> Timestamp | None:
    """An instant on the wire; none for 0, which stands for never."""
    if not micros:
        return None
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def _name(tree: BureauTree, bureau: str) -> str:
    """A bureau's name; its code once it has left the tree."""
    return tree.get(bureau).name if bureau in tree else bureau
