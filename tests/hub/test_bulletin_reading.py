"""A bulletin from folded journals, over both databases: its tables add up, and who is missing is named."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.journals import DAY, MONDAY, Journal
from hub import publishing
from hub.bulletin.contents import compose
from hub.bulletin.document import Bulletin, Format
from hub.bulletin.files import as_file
from hub.bulletin.material import CorrectionLine, Material, MismatchLine, ReconciliationLine, Shortfall
from hub.bulletin.reading import PeriodNotBegun, completeness_of, read_material, shortfalls
from hub.fold import Mark
from hub.folder import Folder, Message
from hub.publishing import Override
from hub.reconcile import Mismatch, Report, keep_outcomes
from hub.store import Store
from hub.words import Lack
from kuaixiang.domain.periods import parse_period
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Stage
from kuaixiang.runtime.bus import head_subject, journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1 import journal_pb2 as pb
from tests.hub.bulletins import column, text_of, texts
from tests.hub.journals import BEIJING, DONGCHENG, HANGZHOU, HEADQUARTERS, SHANGCHENG, XICHENG, ZHEJIANG

TREE = BureauTree(
    "test",
    [
        Bureau(HEADQUARTERS, "国家税务总局", Tier.NATIONAL, None),
        Bureau(BEIJING, "国家税务总局北京市税务局", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(DONGCHENG, "国家税务总局东城区税务局", Tier.COUNTY, BEIJING),
        Bureau(XICHENG, "国家税务总局西城区税务局", Tier.COUNTY, BEIJING),
        Bureau(ZHEJIANG, "国家税务总局浙江省税务局", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(HANGZHOU, "国家税务总局杭州市税务局", Tier.PREFECTURE, ZHEJIANG),
        Bureau(SHANGCHENG, "国家税务总局上城区税务局", Tier.COUNTY, HANGZHOU),
    ],
)
NOVEMBER = parse_period("2026-11")
DECEMBER_3 = MONDAY + timedelta(days=17)
EVERYONE = TREE.subtree(HEADQUARTERS)


class Bench:
    """A hub's database, and bulletins from it."""

    def __init__(self, url: str) -> None:
        self.store = Store(url, TREE, HEADQUARTERS)
        self.folder = Folder(store=self.store, now_us=lambda: to_micros(DECEMBER_3))

    def feed(self, *journals: Journal, until: datetime = DECEMBER_3) -> None:
        for journal in journals:
            site = TREE.site(journal.bureau)
            contents: list[tuple[str, pb.Segment | pb.Head]] = [
                (journal_subject(site, journal.bureau), segment) for segment in journal.segments(size=5000)
            ]
            contents.append((head_subject(site, journal.bureau), journal.head(until)))
            self.folder.take([Message(site, subject, content.SerializeToString()) for subject, content in contents])

    def material(self, scope: str = HEADQUARTERS, period: str = "2026-11", **more: Any) -> Material:
        with self.store.reading() as connection:
            return read_material(
                connection,
                **{
                    "tree": TREE,
                    "scope": scope,
                    "period": parse_period(period),
                    "marks": self.folder.marks(),
                    "silent": frozenset(),
                    "now_us": to_micros(DECEMBER_3),
                    "minimum_sample": 5,
                    **more,
                },
            )

    def bulletin(self, scope: str = HEADQUARTERS, period: str = "2026-11", **more: Any) -> Bulletin:
        return compose(self.material(scope, period, **more))


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    opened = Bench(database_url)
    yield opened
    opened.store.close()


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(f"sqlite:///{tmp_path / 'hub.db'}")
    yield opened
    opened.store.close()


def lived(bureau: str, cases: int, late: int = 0, *, day: datetime = MONDAY, **more: Any) -> Journal:
    journal = Journal(bureau)
    for number in range(cases):
        journal.live(f"{bureau}-{day:%m}-{number}", day, late=number < late, category=1 + number % 6, **more)
    return journal


def test_every_table_of_a_bulletin_adds_up_to_the_same_figures(bench: Bench) -> None:
    bench.feed(lived(DONGCHENG, 20, 2), lived(XICHENG, 10, 3), lived(SHANGCHENG, 12), lived(HEADQUARTERS, 1))
    bench.feed(*map(Journal, (BEIJING, ZHEJIANG, HANGZHOU)))
    made = bench.bulletin()
    for table in (made.bureaus, made.categories, made.channels):
        for heading in ("受理", "办结", "按时", "超时", "未办结"):
            total, *rows = (int(number) for number in column(table, heading).values())
            assert total == sum(rows)
    assert column(made.bureaus, "受理") == {"合计": "43", "浙江省": "12", "北京市": "30", "本级": "1"}
    assert column(made.bureaus, "名次") == {"合计": "—", "浙江省": "1", "北京市": "2", "本级": "—"}
    assert column(made.bureaus, "超时") == {"合计": "5", "浙江省": "0", "北京市": "5", "本级": "0"}


def test_a_province_has_the_same_figures_in_its_own_bulletin_as_in_the_national_one(bench: Bench) -> None:
    bench.feed(lived(DONGCHENG, 20, 2), lived(XICHENG, 10, 3), lived(SHANGCHENG, 12))
    bench.feed(*map(Journal, (HEADQUARTERS, BEIJING, ZHEJIANG, HANGZHOU)))
    national = {line[0]: line[1:-1] for line in texts(bench.bulletin().bureaus)}
    own = {line[0]: line[1:-1] for line in texts(bench.bulletin(BEIJING).bureaus)}
    assert national["北京市"] == own["合计"]
    assert set(own) == {"合计", "东城区", "西城区", "本级"}


def test_the_month_before_and_the_same_month_of_the_year_before_are_asked_for_too(bench: Bench) -> None:
    journal = lived(DONGCHENG, 12)
    for day, cases in ((datetime.fromisoformat("2026-10-13T02:00+00:00"), 10), (MONDAY - 364 * DAY, 8)):
        for number in range(cases):
            journal.live(f"{day:%Y%m}-{number}", day)
    bench.feed(journal)
    lines = {line[0]: line[2:] for line in texts(bench.bulletin().overall)}
    assert lines["受理"] == ["12", "10", "+20.0%", "8", "+50.0%"]


def test_the_bulletin_of_a_past_month_is_the_same_again_after_another_month_of_work(bench: Bench) -> None:
    everyone = [lived(bureau, 6, 1) for bureau in EVERYONE]
    for journal in everyone:
        journal.write("open", "registered", MONDAY + DAY)
    bench.feed(*everyone)
    then = bench.bulletin()
    assert "7" == column(then.bureaus, "未办结")["合计"]
    sealed = {journal.bureau: journal.seq for journal in everyone}
    for journal in everyone:
        journal.write("open", "completed", DECEMBER_3 + 5 * DAY, stage=Stage.COMPLETED)
        journal.write("later", "registered", DECEMBER_3 + 5 * DAY)
        bench.folder.take(
            [
                Message(
                    TREE.site(journal.bureau),
                    journal_subject(TREE.site(journal.bureau), journal.bureau),
                    journal.segment(sealed[journal.bureau] + 1).SerializeToString(),
                )
            ]
        )
    again = bench.bulletin(now_us=to_micros(DECEMBER_3 + 30 * DAY))
    for of in ("sections", "overall", "annexes", "issues", "findings"):
        assert getattr(then, of) == getattr(again, of)


def test_a_published_month_tells_its_edition_and_what_changed_since_by_bureau(bench: Bench) -> None:
    everyone = {bureau: lived(bureau, 2) for bureau in EVERYONE}
    bench.feed(*everyone.values())
    assert bench.material().edition is None
    with bench.store.reading() as connection:
        prepared = publishing.prepare(
            connection,
            TREE,
            scope=BEIJING,
            period=NOVEMBER,
            completeness=bench.material(BEIJING).completeness,
            override=Override(),
            published_by="office 110000",
            now_us=to_micros(DECEMBER_3),
        )
    bench.store.publish(*prepared)
    material = bench.material(BEIJING)
    assert material.edition is not None
    assert (1, []) == (material.edition.edition, material.corrections)
    late = everyone[DONGCHENG]
    late.write("late", "registered", MONDAY)
    site = TREE.site(DONGCHENG)
    last = late.segment(late.seq).SerializeToString()
    bench.folder.take([Message(site, journal_subject(site, DONGCHENG), last)])
    assert [
        CorrectionLine("东城区", "受理", 2, 3),
        CorrectionLine("东城区", "未办结", 0, 1),
    ] == bench.material(BEIJING).corrections
    assert "发布后更正2项" in text_of(bench.bulletin(BEIJING))


def test_what_the_last_reconciliation_left_is_told_for_the_bureaus_of_the_scope(bench: Bench) -> None:
    assert bench.material().reconciliation is None
    report = Report(
        mismatches=[Mismatch(SHANGCHENG, "head", "1", "2"), Mismatch(SHANGCHENG, "hash", "a", "b")],
        unreachable=[XICHENG],
    )
    keep_outcomes(bench.store, TREE, report, 5)
    keep_outcomes(bench.store, TREE, report, 7)
    mismatches = [MismatchLine("浙江省杭州市上城区", 2)]
    assert ReconciliationLine(7, 6, 1, mismatches) == bench.material().reconciliation
    assert ReconciliationLine(7, 2, 1, []) == bench.material(BEIJING).reconciliation


def test_a_period_that_has_not_begun_is_refused(bench: Bench) -> None:
    with pytest.raises(PeriodNotBegun) as refused:
        bench.material(period="2027-01")
    assert refused.value.field == "period"


def test_bureaus_that_are_not_folded_to_the_end_of_the_period_are_named_with_those_above_them(bench: Bench) -> None:
    bench.feed(lived(DONGCHENG, 8), lived(HEADQUARTERS, 1), lived(BEIJING, 1))
    bench.feed(lived(SHANGCHENG, 8), until=MONDAY + 10 * DAY)
    assert [(short.name, short.row, short.lack) for short in bench.material().shortfalls] == [
        ("浙江省", ZHEJIANG, Lack.NEVER_HEARD),
        ("北京市西城区", BEIJING, Lack.NEVER_HEARD),
        ("浙江省杭州市", ZHEJIANG, Lack.NEVER_HEARD),
        ("浙江省杭州市上城区", ZHEJIANG, Lack.BEHIND),
    ]
    assert list(column(bench.bulletin().bureaus, "名次")) == ["合计", "北京市※", "浙江省※", "本级"]


def whole(bureau: str, **more: Any) -> Mark:
    return replace(Mark(bureau, 1, 9, heard_at_us=1, data_as_of_us=to_micros(DECEMBER_3)), **more)


@pytest.mark.parametrize(
    ("changed", "silent", "now", "expected"),
    [
        ({}, False, DECEMBER_3, None),
        ({"heard_at_us": 0}, False, DECEMBER_3, Lack.NEVER_HEARD),
        ({"quarantine": "fork"}, False, DECEMBER_3, Lack.QUARANTINED),
        ({"data_as_of_us": to_micros(MONDAY)}, False, DECEMBER_3, Lack.BEHIND),
        ({}, True, DECEMBER_3, None),
        ({"data_as_of_us": to_micros(MONDAY)}, False, MONDAY + DAY, None),
        ({"data_as_of_us": to_micros(MONDAY)}, True, MONDAY + DAY, Lack.SILENT),
        ({"announced_generation": 2}, False, DECEMBER_3, Lack.BEHIND),
        ({"data_as_of_us": to_micros(MONDAY), "announced_generation": 2}, False, MONDAY + DAY, Lack.BEHIND),
    ],
)
def test_what_is_whole_for_a_period_depends_on_its_end_and_not_on_silence_after_it(
    changed: dict[str, Any], silent: bool, now: datetime, expected: Lack | None
) -> None:
    marks = {bureau: whole(bureau) for bureau in EVERYONE} | {XICHENG: whole(XICHENG, **changed)}
    completeness = completeness_of(
        tree=TREE,
        scope=BEIJING,
        last=NOVEMBER.last,
        marks=marks,
        silent=frozenset({XICHENG}) if silent else frozenset(),
        now_us=to_micros(now),
    )
    found = shortfalls(TREE, BEIJING, completeness)
    assert found == ([] if expected is None else [Shortfall(XICHENG, "西城区", XICHENG, expected)])


def test_nothing_of_a_case_or_a_person_is_in_any_file_of_a_bulletin(lite: Bench) -> None:
    journal = Journal(DONGCHENG)
    secret = "张三丰13800138000"
    for number in range(8):
        journal.live(f"{secret}{number}")
        columns: dict[str, Any] = {"category": 1, "channel": 1, "stage": Stage.DEFERRED.value, "version": 8}
        entry = pb.Entry(
            bureau=DONGCHENG,
            case_id=f"{secret}{number}",
            actor=secret,
            department=secret,
            occurred_at_us=to_micros(MONDAY),
            deferred=pb.Deferred(owner=secret),
            **columns,
        )
        journal.seal(entry.SerializeToString(), secret.encode())
    lite.feed(journal)
    made = lite.bulletin(BEIJING)
    assert column(made.bureaus, "受理")["东城区"] == "8"
    for wanted in Format:
        content = as_file(made, wanted).content
        parts = [content]
        if wanted is not Format.HTML:
            with zipfile.ZipFile(io.BytesIO(content)) as package:
                parts = [package.read(name) for name in package.namelist()]
        for part in parts:
            for said in (secret, "13800138000", "张三丰"):
                assert said.encode() not in part
