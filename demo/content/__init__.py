"""What the demonstration's taxpayers say, what they are answered, and who they are; all of it made up.

README: `requests.toml` has one `[[request]]` for each text: `id`, `category` and `channel` by their names in
`kuaixiang.domain.words`, `trade` where the text betrays one, `department` that answers, `course` its case takes, `text`
(40 to 220 characters) and `reply` (30 to 150 characters).
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from random import Random

from kuaixiang.domain import acts
from kuaixiang.domain.identifiers import DEMO_SERIALS, make_taxpayer_number
from kuaixiang.domain.words import Category, Channel

REQUESTS_FILE = "requests.toml"


class Department(StrEnum):
    """A bureau's departments that answer requests, by the names they have in acts."""

    TAX_SERVICE = "tax-service"
    POLICY = "policy"
    COLLECTION = "collection"
    INFORMATION = "information"
    LEGAL = "legal"
    INSPECTION = "inspection"


class Course(StrEnum):
    """How the demonstration lets a case go (§四)."""

    ON_THE_SPOT = "on_the_spot"
    ORDINARY = "ordinary"
    EXTENDED = "extended"
    EXTENSION_REFUSED = "extension_refused"
    ESCALATED_PROVINCE = "escalated_province"
    ESCALATED_HEADQUARTERS = "escalated_headquarters"
    REFERRED_DOWN = "referred_down"
    RETURNED = "returned"
    DISPUTED = "disputed"
    RELAYED = "relayed"
    JOINT = "joint"
    LINKED = "linked"
    DEFERRED = "deferred"
    RECONSIDERATION = "reconsideration"
    WITHDRAWN = "withdrawn"


class RequestMalformed(ValueError):
    """An entry of the requests lacks a field, has one too many, or has an unknown word in one."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(position, problem)
        self.position = position
        """Place of the entry in the file, from 1."""
        self.problem = problem

    def __str__(self) -> str:
        return f"{REQUESTS_FILE}, entry {self.position}: {self.problem}"


class UnknownTrade(ValueError):
    """No company names are made for this trade."""

    def __init__(self, trade: str) -> None:
        super().__init__(trade)
        self.trade = trade

    def __str__(self) -> str:
        return f"no company names are made for the trade {self.trade!r}; known are {', '.join(sorted(TRADES))}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request or opinion, and what becomes of it."""

    id: str
    category: Category
    channel: Channel
    """The likely channel; a hint."""
    trade: str | None
    """One of `TRADES` where the text betrays one, for `fictional_taxpayer`."""
    department: Department
    course: Course
    text: str
    reply: str
    """What the bureau tells the taxpayer in the end (§四(三))."""

    def registered(self, taxpayer: "Taxpayer", reference: str) -> acts.Register:
        """Its registration for a taxpayer, under the channel's reference; what else is known, `replace` puts in."""
        return acts.Register(
            taxpayer_name=taxpayer.name,
            taxpayer_number=taxpayer.taxpayer_number,
            contact=taxpayer.contact,
            text=self.text,
            category=self.category,
            channel=self.channel,
            channel_reference=reference,
        )


@dataclass(frozen=True)
class Taxpayer:
    """A made-up company: nobody's name, number or telephone."""

    name: str
    taxpayer_number: str
    contact: str


@cache
def load_requests() -> tuple[Request, ...]:
    """Read the requests shipped with the demonstration, in the file's order.

    Raises:
        RequestMalformed: naming the entry.

    """
    entries = tomllib.loads((files(__name__) / REQUESTS_FILE).read_text("utf-8"))["request"]
    return tuple(_request(position, entry) for position, entry in enumerate(entries, start=1))


def _request(position: int, entry: Mapping[str, str]) -> Request:
    fields = {"trade": None, **entry}
    unknown = fields.keys() - Request.__dataclass_fields__.keys()
    if unknown:
        raise RequestMalformed(position, f"unknown fields: {', '.join(sorted(unknown))}")
    trade = fields["trade"]
    if trade is not None and trade not in TRADES:
        raise RequestMalformed(position, str(UnknownTrade(trade)))
    try:
        return Request(
            id=entry["id"],
            category=Category[entry["category"]],
            channel=Channel[entry["channel"]],
            trade=trade,
            department=Department(entry["department"]),
            course=Course(entry["course"]),
            text=entry["text"],
            reply=entry["reply"],
        )
    except KeyError as error:
        raise RequestMalformed(position, f"missing field or unknown name {error}") from error
    except ValueError as error:
        raise RequestMalformed(position, str(error)) from error


_MAKERS = ("有限公司", "厂", "加工厂")
_DEALERS = ("有限公司", "商行", "经营部")
_SERVANTS = ("有限公司", "服务部", "服务有限公司")
_STUDIOS = ("有限公司", "工作室")
_HOUSES = ("", "有限公司", "经营部")

TRADES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("包装", "玩具", "服装", "家具", "塑料", "印刷", "机械", "食品", "电器", "渔具", "工艺品", "电子"), _MAKERS
    ),
    **dict.fromkeys(
        ("商贸", "百货", "日用品", "文具", "五金", "建材", "化工", "水产", "苗木", "农机", "机电", "医疗器械"), _DEALERS
    ),
    **dict.fromkeys(
        (
            "餐饮",
            "汽修",
            "修理",
            "物流",
            "仓储",
            "冷链",
            "装饰",
            "劳务",
            "家政",
            "养老",
            "物业",
            "租赁",
            "展览",
            "旅游",
        ),
        _SERVANTS,
    ),
    **dict.fromkeys(("软件", "科技", "设计", "广告", "文化传播", "教育", "财务咨询", "电子商务"), _STUDIOS),
    **dict.fromkeys(("超市", "旅馆", "农家乐", "足浴店", "洗车行", "美发店"), _HOUSES),
    **dict.fromkeys(("农业", "再生资源", "环保", "水电", "房产开发"), ("有限公司",)),
}
"""Trade to the endings of a company's name in it."""
_ANY_TRADE = ("商贸", "百货", "日用品", "文具", "五金")
"""For texts that any company may have written."""

# Three rare characters, no place: what comes together by chance is hardly anybody's name.
_FIRST = "禾砚岚霁澄棠笙樾昀芃沅蓼筠湄屿柘"
_SECOND = "苒筱珩邈湉栩翊蘅旎葭淞榕祎溆麓潆"
_THIRD = "畔川序朴舟垣里棹原汀圃庭野桥坞田"

_CONTACT_PREFIX = "15400"
"""The form of a mobile number, in the range 154, in which none are given out to subscribers."""
_CONTACT_SERIAL_DIGITS = 6


def fictional_taxpayer(rng: Random, division: str, trade: str | None = None) -> Taxpayer:
    """Invent a company registered in a division (six digits); the same state of `rng` gives the same company.

    Raises:
        UnknownTrade: the trade is not one of `TRADES`.
        ValueError: the division is not six digits.

    """
    chosen = trade if trade is not None else rng.choice(_ANY_TRADE)
    if chosen not in TRADES:
        raise UnknownTrade(chosen)
    style = rng.choice(_FIRST) + rng.choice(_SECOND) + rng.choice(_THIRD)
    return Taxpayer(
        name=style + chosen + rng.choice(TRADES[chosen]),
        taxpayer_number=make_taxpayer_number(division, rng.randrange(DEMO_SERIALS)),
        contact=f"{_CONTACT_PREFIX}{rng.randrange(10**_CONTACT_SERIAL_DIGITS):0{_CONTACT_SERIAL_DIGITS}}",
    )
