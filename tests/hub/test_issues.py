"""Common issues at the hub: found over the ledgers of a scope, confirmed, listed; over gRPC and by `kx hub issues`."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from demo.sites import Sites
from hub.issues import catalogue, find, kept
from hub.issues.catalogue import Wanted
from hub.issues.find import Period, find_issues
from hub.ledgers import LedgerUnreachable
from hub.measures import Fact
from hub.store import Store
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.tls import open_channel
from kuaixiang.text.terms import key_terms
from kuaixiang.wire.v1 import issues_pb2 as pb
from kuaixiang.wire.v1 import ledger_pb2
from kuaixiang.wire.v1.issues_pb2_grpc import IssueServiceStub
from kx.hub import app
from tests.hub.federation import Federation
from tests.hub.test_clusters import ASKED
from tests.node.callers import refusal_of

NORTH, SOUTH = ("110101", "110102"), ("330106",)
TREE = BureauTree(
    "issues",
    [
        Bureau("000000", "总局", Tier.NATIONAL, None),
        Bureau("110000", "北京", Tier.PROVINCIAL, "000000"),
        Bureau("330000", "浙江", Tier.PROVINCIAL, "000000"),
        *(Bureau(code, code, Tier.COUNTY, "110000") for code in NORTH),
        *(Bureau(code, code, Tier.COUNTY, "330000") for code in SOUTH),
    ],
)
AT = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
LOGIN, REFUND = ASKED["登录"], ASKED["退税"]


def case(bureau: str, number: int, text: str, day: str, category: int = 4) -> ledger_pb2.CaseTerms:
    word: Any = category
    return ledger_pb2.CaseTerms(case_id=f"{bureau}-2026-{number:07d}", category=word, day=day, terms=key_terms(text))


NOVEMBER = {
    "110101": [case("110101", 1, LOGIN[0], "2026-11-02"), case("110101", 2, REFUND[0], "2026-11-03", 1)],
    "110102": [case("110102", 1, LOGIN[1], "2026-11-04"), case("110102", 2, LOGIN[2], "2026-10-20")],
    "330106": [
        case("330106", 1, LOGIN[3], "2026-11-05", 3),
        case("330106", 2, REFUND[1], "2026-11-06", 1),
        case("330106", 3, REFUND[2], "2026-11-30", 1),
    ],
}


class FakeLedgers:
    """Ledgers that tell what is put in, or cannot be read."""

    def __init__(self, cases: Mapping[str, Sequence[ledger_pb2.CaseTerms]], away: Sequence[str] = ()) -> None:
        self.cases = cases
        self.away = away
        self.asked: list[tuple[str, date, date, int]] = []
        self.reading = 0
        self.reading_max = 0

    async def terms(
        self, bureau: str, from_day: date, to_day: date, one_of: int
    ) -> AsyncIterator[ledger_pb2.CaseTerms]:
        self.asked.append((bureau, from_day, to_day, one_of))
        self.reading += 1
        self.reading_max = max(self.reading_max, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        if bureau in self.away:
            raise LedgerUnreachable(bureau, "away")
        for one in self.cases.get(bureau, []):
            if from_day.isoformat() <= one.day <= to_day.isoformat():
                yield one

    async def masked_texts(self, bureau: str, case_ids: Sequence[str]) -> dict[str, str]:
        return {case_id: f"masked {case_id}" for case_id in case_ids}


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with Store(database_url, TREE, "000000") as opened:
        yield opened


def wanted(**more: Any) -> Wanted:
    fields: dict[str, Any] = {
        "issue_id": "",
        "title": "电子税务局登录失败",
        "owner": "000000/information",
        "standard_answer": "请更新客户端后重试。",
        "terms": ("电子税务局 无法登录", "验证码"),
        "actor": "hq-1",
    }
    return Wanted(**fields | more)


def november(**more: Any) -> Period:
    fields: dict[str, Any] = {
        "scope": "000000",
        "from_day": date(2026, 11, 1),
        "to_day": date(2026, 11, 30),
        "cases_min": 3,
        "limit": 20,
        "examples": True,
    }
    return Period(**fields | more)


async def findings(store: Store, ledgers: FakeLedgers, period: Period) -> find.Findings:
    reading: Any = ledgers
    return await find_issues(store=store, tree=TREE, ledgers=reading, wanted=period)


async def test_an_issue_has_its_size_growth_spread_and_masked_examples_of_different_bureaus(store: Store) -> None:
    catalogue.confirm(store, wanted(), AT)
    ledgers = FakeLedgers(NOVEMBER)
    found = await findings(store, ledgers, november())
    login = next(issue for issue in found.issues if issue.known_as)
    refund = next(issue for issue in found.issues if not issue.known_as)
    assert ("GX-2026-0001", 3, 1, 3) == (login.known_as, login.cases, login.cases_before, login.bureaus)
    assert (("110000", 2), ("330000", 1)) == login.by_subordinate
    assert ((4, 2), (3, 1)) == login.by_category
    assert {"110101", "110102", "330106"} == {example.bureau for example, _ in login.examples}
    assert all(text == f"masked {example.case_id}" for example, text in login.examples)
    assert (3, 0, (("330000", 2), ("110000", 1))) == (refund.cases, refund.cases_before, refund.by_subordinate)
    assert (6, 6, 1, 1, 6, ()) == (
        found.cases,
        found.cases_in_issues,
        found.cases_before,
        found.one_of,
        found.bureaus_read,
        found.unreadable,
    )
    assert {(date(2026, 10, 1), date(2026, 11, 30), 1)} == {asked[1:] for asked in ledgers.asked}


async def test_a_bureau_that_cannot_be_read_is_named_and_its_cases_are_missing(store: Store) -> None:
    found = await findings(store, FakeLedgers(NOVEMBER, away=["330106"]), november())
    assert (("330106",), 5, 3) == (found.unreadable, found.bureaus_read, found.cases)
    assert () == found.issues


async def test_a_part_of_the_tree_is_read_alone_and_spread_over_its_own_subordinates(store: Store) -> None:
    ledgers = FakeLedgers(NOVEMBER)
    found = await findings(store, ledgers, november(scope="110000", cases_min=2, examples=False))
    assert {"110000", *NORTH} == {asked[0] for asked in ledgers.asked}
    (login,) = found.issues
    assert (("110101", 1), ("110102", 1)) == login.by_subordinate
    assert () == login.examples


async def test_few_ledgers_are_read_at_a_time_and_the_largest_issues_are_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.issues.gather.CONCURRENT_MAX", 2)
    ledgers = FakeLedgers(NOVEMBER)
    found = await findings(store, ledgers, november(limit=1))
    assert (1, 6) == (len(found.issues), found.cases_in_issues)
    assert ledgers.reading_max <= 2


async def test_of_a_period_with_very_many_cases_one_of_so_many_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "CASES_MAX", 100)
    monkeypatch.setattr(
        "hub.issues.find.query.figures",
        lambda _connection, _tree, question, _now: [
            type("Row", (), {"sums": {Fact.REGISTERED: 950 if question.to_day.month == 10 else 120}})
        ],
    )
    ledgers = FakeLedgers(NOVEMBER)
    found = await findings(store, ledgers, november(to_day=date(2026, 11, 29)))
    assert 10 == found.one_of
    assert {10} == {asked[3] for asked in ledgers.asked}


# ---------------------------------------------------------------- what is kept for the bulletin


async def test_of_a_search_the_sizes_of_confirmed_issues_are_kept_and_no_words(store: Store) -> None:
    catalogue.confirm(store, wanted(), AT)
    period = november()
    found = await findings(store, FakeLedgers(NOVEMBER, away=["000000"]), period)
    kept.keep(store, period, found, AT)
    kept.keep(store, period, found, AT)
    with store.reading() as connection:
        size = kept.Size("GX-2026-0001", 3, 1, (("110000", 2), ("330000", 1)), ((4, 2), (3, 1)))
        search = kept.kept(connection, "000000", date(2026, 11, 1), date(2026, 11, 30))
        assert kept.Search(to_micros(AT), 1, 1, 1, (size,)) == search
        assert kept.kept(connection, "110000", date(2026, 11, 1), date(2026, 11, 30)) is None
        (row,) = connection.execute(sa.select(kept.ISSUE_SEARCHES)).all()
    assert not any(term in str(row) for issue in found.issues for term in issue.terms)
    assert "masked" not in str(row)


async def test_two_findings_of_one_confirmed_issue_are_kept_as_one(store: Store) -> None:
    catalogue.confirm(store, wanted(), AT)
    found = await findings(store, FakeLedgers(NOVEMBER), november())
    twice = replace(found, issues=tuple(replace(issue, known_as="GX-2026-0001") for issue in found.issues))
    kept.keep(store, november(), twice, AT)
    with store.reading() as connection:
        search = kept.kept(connection, "000000", date(2026, 11, 1), date(2026, 11, 30))
    assert search is not None
    size = kept.Size("GX-2026-0001", 6, 1, (("110000", 3), ("330000", 3)), ((1, 3), (4, 2), (3, 1)))
    assert (0, (size,)) == (search.unconfirmed, search.sizes)


async def test_a_search_of_days_that_are_no_period_is_not_kept(store: Store) -> None:
    period = november(from_day=date(2026, 11, 2))
    kept.keep(store, period, await findings(store, FakeLedgers(NOVEMBER), period), AT)
    with store.reading() as connection:
        assert [] == connection.execute(sa.select(kept.ISSUE_SEARCHES)).all()


# ---------------------------------------------------------------- what is confirmed


def test_a_confirmed_issue_has_a_number_of_its_year(store: Store) -> None:
    confirm = catalogue.confirm
    first = confirm(store, wanted(), AT)
    second = confirm(store, wanted(title="留抵退税到账慢"), AT)
    next_year = confirm(store, wanted(title="开票额度"), datetime(2026, 12, 31, 16, tzinfo=UTC))
    assert ["GX-2026-0001", "GX-2026-0002", "GX-2027-0001"] == [
        issue.issue_id for issue in (first, second, next_year) if isinstance(issue, catalogue.Issue)
    ]
    assert first == catalogue.issue_of(store, "GX-2026-0001")


def test_the_hub_of_a_province_numbers_its_issues_with_its_code(database_url: str) -> None:
    with Store(database_url, TREE, "330000") as store:
        issue = catalogue.confirm(store, wanted(), AT)
        assert isinstance(issue, catalogue.Issue)
        assert "GX-330000-2026-0001" == issue.issue_id


def test_an_issue_can_be_changed_and_says_by_whom(store: Store) -> None:
    catalogue.confirm(store, wanted(), AT)
    later = datetime(2026, 12, 1, tzinfo=UTC)
    changed = catalogue.confirm(
        store, wanted(issue_id="GX-2026-0001", standard_answer="已修复，请重新登录。", actor="hq-2"), later
    )
    known = catalogue.issue_of(store, "GX-2026-0001")
    assert known == changed
    assert ("已修复，请重新登录。", AT, "hq-1", later, "hq-2") == (
        known.standard_answer,
        known.confirmed_at,
        known.confirmed_by,
        known.changed_at,
        known.changed_by,
    )


def test_a_title_is_given_once_so_that_a_repeated_call_makes_no_second_issue(store: Store) -> None:
    catalogue.confirm(store, wanted(), AT)
    refusal = catalogue.confirm(store, wanted(), AT)
    assert isinstance(refusal, Refused)
    assert "TitleTaken" == refusal.rule
    assert "GX-2026-0001" in str(refusal)
    assert "GX-2026-0001" in refusal.chinese
    unknown = catalogue.confirm(store, wanted(issue_id="GX-2026-0009", title="别的"), AT)
    assert isinstance(unknown, Refused)
    assert "UnknownIssue" == unknown.rule


def test_issues_are_listed_latest_first_in_pages(store: Store) -> None:
    for number in range(5):
        catalogue.confirm(store, wanted(title=f"第{number}项"), AT)
    first, token = catalogue.issues(store, 2, "")
    second, _ = catalogue.issues(store, 2, token)
    assert ["GX-2026-0005", "GX-2026-0004", "GX-2026-0003", "GX-2026-0002"] == [
        issue.issue_id for issue in (*first, *second)
    ]
    assert ("", 5) == (catalogue.issues(store, 5, "")[1], len(catalogue.all_issues(store)))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": " "}, "title"),
        ({"title": "长" * 101}, "title"),
        ({"owner": ""}, "owner"),
        ({"standard_answer": ""}, "standard_answer"),
        ({"terms": ()}, "terms"),
        ({"terms": ("",)}, "terms"),
        ({"terms": ("两\n行",)}, "terms"),
        ({"terms": ("词",) * 21}, "terms"),
        ({"actor": "张 三"}, "header.actor"),
    ],
)
def test_an_issue_that_lacks_something_is_refused_in_both_languages(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as caught:
        catalogue.check(wanted(**fields))
    assert field == caught.value.field
    assert all((str(caught.value), caught.value.chinese, caught.value.remedy, caught.value.remedy_chinese))


@pytest.mark.parametrize(
    ("terms", "known"),
    [
        (("电子税务局 无法登录", "验证码", "密码"), "GX-2026-0001"),
        (("验证码",), ""),
        (("留抵退税", "审核"), ""),
    ],
)
def test_what_is_found_is_known_by_half_of_its_words(store: Store, terms: tuple[str, ...], known: str) -> None:
    catalogue.confirm(store, wanted(), AT)
    assert known == catalogue.known_as(terms, catalogue.all_issues(store))


# ---------------------------------------------------------------- over gRPC


@pytest.mark.nats
async def test_issues_are_found_confirmed_and_shown_through_the_hub(nats_sites: Sites, tmp_path: Path) -> None:
    federation = Federation(tmp_path, nats_sites)
    federation.ledgers.terms = {
        federation.north[0]: [case(federation.north[0], 1, LOGIN[0], "2026-11-02")],
        federation.south[0]: [
            case(federation.south[0], number, text, "2026-11-05") for number, text in enumerate(LOGIN[1:])
        ],
    }
    federation.ledgers.texts = {f"{federation.north[0]}-2026-0000001": "我叫〔姓名〕，电子税务局无法登录"}
    async with federation.serving_ledgers(), federation.hub(f"sqlite:///{tmp_path / 'hub.db'}") as hub:
        endpoint = f"127.0.0.1:{hub.port}"
        period: dict[str, Any] = {"from_day": "2026-11-01", "to_day": "2026-11-30"}
        name = pki.dns_name("hub", "000000")
        async with open_channel(endpoint, name, federation.paths["office"]) as channel:
            stub: Any = IssueServiceStub(channel)
            answer = await stub.FindIssues(pb.FindIssuesRequest(**period, examples=True))
            (issue,) = answer.issues
            assert (4, 2, "") == (issue.cases, issue.bureaus, issue.known_as)
            assert ["我叫〔姓名〕，电子税务局无法登录"] == [example.text for example in issue.examples]
            assert "2026-10-01" == answer.before_from_day
            for request, field in (
                (pb.FindIssuesRequest(), "from_day"),
                (pb.FindIssuesRequest(from_day="2026-11-01", to_day="soon"), "to_day"),
                (pb.FindIssuesRequest(from_day="2026-11-02", to_day="2026-11-01"), "to_day"),
                (pb.FindIssuesRequest(from_day="2025-11-01", to_day="2026-11-02"), "to_day"),
                (pb.FindIssuesRequest(from_day="0001-01-01", to_day="0001-01-02"), "from_day"),
                (pb.FindIssuesRequest(**period, cases_min=1), "cases_min"),
                (pb.FindIssuesRequest(**period, scope="440000"), "scope"),
            ):
                assert field == (await refusal_of(stub.FindIssues(request))).field
        async with open_channel(endpoint, name, federation.paths["county"]) as channel:
            stub = IssueServiceStub(channel)
            assert "NotAuthorised" == (await refusal_of(stub.FindIssues(pb.FindIssuesRequest(**period)))).rule
            assert "NotAuthorised" == (await refusal_of(stub.ConfirmIssue(pb.ConfirmIssueRequest()))).rule
            assert [] == list((await stub.ListIssues(pb.ListIssuesRequest())).issues)
            assert (
                "UnknownIssue"
                == (await refusal_of(stub.GetConfirmedIssue(pb.GetConfirmedIssueRequest(issue_id="GX-1")))).rule
            )
        await asyncio.to_thread(by_command, endpoint, federation)


def by_command(endpoint: str, federation: Federation) -> None:
    """The same by `kx hub issues`."""
    where = ["--hub", endpoint, "--certificates", str(federation.folder / "office")]

    def issues(*arguments: str) -> Any:
        return CliRunner().invoke(
            app, ["issues", *arguments, *where], env={"COLUMNS": "200", "TERM": "dumb"}, catch_exceptions=False
        )

    period = ("--from", "2026-11-01", "--to", "2026-11-30")
    shown = issues("find", *period, "--examples")
    assert 0 == shown.exit_code, shown.output
    assert "new 新增" in shown.output
    assert "我叫〔姓名〕" in shown.output
    confirm = ("confirm", "--title", "电子税务局登录失败", "--owner", "000000/information", "--answer", "请更新客户端")
    terms = ("--term", "电子税务局 无法登录", "--term", "验证码", "--actor", "hq-1")
    issue_id = json.loads(issues(*confirm, *terms, "--json").stdout)["issue_id"]
    assert issue_id.startswith("GX-")
    again = issues(*confirm, *terms)
    assert 2 == again.exit_code
    assert issue_id in again.output
    (found,) = json.loads(issues("find", *period, "--json").stdout)["issues"]
    assert issue_id == found["known_as"]
    with tempfile.TemporaryDirectory() as folder:
        bulletin = Path(folder) / "bulletin.html"
        written = ("bulletin", "2026-11", "--format", "html", "--issues", "--out", str(bulletin))
        assert 0 == CliRunner().invoke(app, [*written, *where], catch_exceptions=False).exit_code
        page = bulletin.read_text("utf-8")
        assert (True, True, False) == (issue_id in page, "电子税务局登录失败" in page, "验证码" in page)
    assert issue_id in issues("list").output
    assert "请更新客户端" in issues("show", issue_id).output
    changed = issues(*confirm[:-1], "已修复", *terms, "--change", issue_id)
    assert "已修复" in changed.output
