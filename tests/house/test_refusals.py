"""Every refusal of the product says what is wrong and what to do, in English and in Chinese, in words of the field."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

import kuaixiang.wire.v1
from hub.query import Completeness
from hub.words import Lack
from kuaixiang.domain import acts, order_acts, words
from kuaixiang.domain.acts import Act
from kuaixiang.domain.authority import ChannelToken, SignedIn
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import ACTS, FIELDS, TERMS, Both, field_term
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.periods import Period, parse_period
from kuaixiang.facts import published_calendar
from kuaixiang.runtime.database import DatabaseNotWritable, Unwritable
from kuaixiang.runtime.signing import ForgedSignature, SignatureRefused
from kuaixiang.runtime.writer import WriterBusy
from kuaixiang.text.tables import TableUnusable
from kuaixiang.wire.errors import RemoteRefusal
from node.attachments import Missing
from node.ledger.evidence import Place

ROOT = Path(__file__).parents[2]
PACKAGES = ("kuaixiang", "node", "hub", "kx")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
FULL_STOPS = ("。", "：", "-")
"""A sentence's end; a list of characters that may be used ends as it does in English."""

SAMPLES: dict[object, object] = {
    str: "330106",
    int: 3,
    float: 2.5,
    bool: True,
    date: date(2026, 9, 28),
    datetime: datetime(2026, 9, 28, 1, 0, tzinfo=UTC),
    type[Act]: acts.Dispatch,
    type[OrderAct]: order_acts.AnswerOrder,
    Both: Both("is wrong", "有误"),
    Missing: Missing("ab" * 32, 0),
    Place: Place(1, 7, bytes(32)),
    RemoteRefusal: RemoteRefusal(
        grpc.StatusCode.NOT_FOUND, "UnknownCase", "case_id", Both("There is none.", "没有。"), Both("Ask.", "请查。")
    ),
    Period: parse_period("2026-10"),
    WriterBusy: WriterBusy(20_000),
    SignedIn: SignedIn(bureau="330106", actor="zj-0007", roles=frozenset({words.Role.HANDLER})),
    ChannelToken: ChannelToken(
        bureau="330106", channel=words.Channel.HOTLINE, scopes=frozenset({words.TokenScope.STATUS})
    ),
    DecodeError: DecodeError("Error parsing message"),
    SignatureRefused: ForgedSignature("330106"),
    TableUnusable: TableUnusable(Both("is wrong.", "有误。"), "NotXlsx", Both("Save it.", "请另存。")),
    WorkingCalendar: published_calendar(),
    DatabaseNotWritable: DatabaseNotWritable("ledger.db", Unwritable.FULL),
    Completeness: Completeness(2, 1, 1, 0, 0, {"330106": Lack.BEHIND}),
}
"""What a refusal is made of here; of a kind that is missing, add one."""


SIGNED = {"Offer", "OrderStatement", "OrderReport"}
"""Messages that are signed, and therefore bytes in their requests."""


@cache
def refusals() -> tuple[type[Refused], ...]:
    """Every refusal that some module of the product declares."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if ".migrations." not in found.name and not found.name.endswith("__main__"):
                importlib.import_module(found.name)

    def below(kind: type[Refused]) -> Iterator[type[Refused]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    return tuple(sorted({kind for kind in below(Refused) if kind.__module__.split(".")[0] in PACKAGES}, key=repr))


def sample(hint: Any) -> Any:
    """A value of a parameter's type."""
    if isinstance(hint, UnionType):
        return sample(next(arm for arm in get_args(hint) if arm is not NoneType))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    if get_origin(hint) is tuple:
        return (sample(get_args(hint)[0]),)
    if get_origin(hint) is frozenset:
        return frozenset({sample(get_args(hint)[0])})
    return SAMPLES[hint]


def example(kind: type[Refused]) -> Refused:
    """A refusal of that kind."""
    hints = get_type_hints(kind.__init__)
    given = {name: sample(hints[name]) for name in inspect.signature(kind).parameters}
    if "field" in given:
        given["field"] = "header.actor"
    return kind(**given)


def test_there_are_refusals_of_every_part() -> None:
    parts = {kind.__module__ for kind in refusals()}
    assert {
        "kuaixiang.domain.errors",
        "kuaixiang.domain.authority",
        "kuaixiang.runtime.server",
        "kuaixiang.runtime.seal",
        "hub.servicer",
    } <= parts


def test_every_refusal_says_what_is_wrong_and_what_to_do_in_both_languages() -> None:
    silent = []
    for kind in refusals():
        refusal = example(kind)
        said = {
            "the sentence": re.search(r"[a-z]{2}", str(refusal)),
            "the Chinese sentence": CHINESE.search(refusal.chinese) and refusal.chinese.endswith(FULL_STOPS),
            "the remedy": re.search(r"[a-z]{2}", refusal.remedy),
            "the Chinese remedy": CHINESE.search(refusal.remedy_chinese),
        }
        silent += [f"{kind.__name__} lacks {part}" for part, found in said.items() if not found]
    assert [] == silent


def test_no_refusal_names_an_act_by_the_name_it_has_in_the_code() -> None:
    assert [] == [kind.__name__ for kind in refusals() if acts.Dispatch.__name__ in str(example(kind))]


def test_every_field_that_a_refusal_names_by_itself_has_a_chinese_name() -> None:
    fields = {refusal.field for refusal in map(example, refusals()) if refusal.field}
    assert set() == {field for field in fields if field_term(field) == field}


def test_every_field_of_every_request_has_a_chinese_name() -> None:
    unnamed = {f"{message}.{field}" for message, field in request_fields() if field not in FIELDS}
    assert set() == unnamed


def request_fields() -> Iterator[tuple[str, str]]:
    """Message and name of each field that a request can hold, on whatever depth; switches cannot be wrong."""
    seen: set[str] = set()

    def within(message: Descriptor) -> Iterator[tuple[str, str]]:
        if message.full_name in seen or message.name == "Signature":
            return
        seen.add(message.full_name)
        for field in message.fields:
            if field.message_type is not None and field.message_type.full_name.startswith("kuaixiang."):
                yield from within(field.message_type)
            elif field.type != field.TYPE_BOOL:
                yield message.name, field.name

    for found in pkgutil.iter_modules(kuaixiang.wire.v1.__path__, f"{kuaixiang.wire.v1.__name__}."):
        if found.name.endswith("_pb2"):
            file = importlib.import_module(found.name).DESCRIPTOR
            for service in file.services_by_name.values():
                for method in service.methods:
                    yield from within(method.input_type)
            for signed in SIGNED & set(file.message_types_by_name):
                yield from within(file.message_types_by_name[signed])


def test_every_word_and_every_act_has_a_chinese_term() -> None:
    classes = filter(inspect.isclass, vars(words).values())
    kinds = {kind for kind in classes if issubclass(kind, IntEnum)} - {IntEnum}
    assert kinds == set(TERMS)
    assert {kind.__name__: len(kind) for kind in kinds} == {kind.__name__: len(terms) for kind, terms in TERMS.items()}
    classes = filter(inspect.isclass, (*vars(acts).values(), *vars(order_acts).values()))
    declared = {kind for kind in classes if issubclass(kind, Act)} - {Act, OrderAct}
    assert declared == set(ACTS)
    assert len({act.command for act in ACTS.values()}) == len(ACTS) == len({act.chinese for act in ACTS.values()})


def sentences() -> Iterator[tuple[str, str, str]]:
    """Where each `Both(…, …)` of the product stands, and the fixed parts of its two sides."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Both":
                    fixed = [written(side) for side in node.args]
                    if len(fixed) == 2 and all(side is not None for side in fixed):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", str(fixed[0]), str(fixed[1])


def written(side: ast.expr) -> str | None:
    """What a literal says; None for one that is put together elsewhere."""
    texts = [one.value for one in ast.walk(side) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return "".join(texts) if isinstance(side, ast.Constant | ast.JoinedStr) else None


def test_whatever_is_said_in_both_languages_is() -> None:
    found = list(sentences())
    assert len(found) > 100
    said = [(where, chinese.strip("、；：，。")) for where, _, chinese in found]
    assert [] == [where for where, chinese in said if chinese and not CHINESE.search(chinese)]


@pytest.mark.parametrize("sign", [",", ";", "?", "!"])
def test_chinese_is_punctuated_as_chinese(sign: str) -> None:
    half = re.compile(rf"[\u4e00-\u9fff]{re.escape(sign)}|{re.escape(sign)}[\u4e00-\u9fff]")
    assert [] == [kind.__name__ for kind in refusals() if half.search(example(kind).chinese)]
    assert [] == [where for where, _, chinese in sentences() if half.search(chinese)]
