"""What is private and has a form: telephones, identity and tax numbers, cards, plates, addresses of the net."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Mask(StrEnum):
    """What was there; the value stands in the masked text."""

    PERSON = "〔姓名〕"
    PHONE = "〔电话〕"
    EMAIL = "〔邮箱〕"
    IDENTITY = "〔证件〕"
    TAX_NUMBER = "〔税号〕"
    CARD = "〔银行卡〕"
    NUMBER = "〔号码〕"
    ACCOUNT = "〔账号〕"
    LINK = "〔网址〕"
    PLATE = "〔车牌〕"
    ADDRESS = "〔地址〕"
    COMPANY = "〔单位〕"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text and what it is."""

    start: int
    end: int
    mask: Mask


_FULL_WIDTH: Final = (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), 0xFF20)
_NARROW: Final = {
    **{code: code - 0xFEE0 for code in _FULL_WIDTH},
    **dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD), None),
}
_TO_NARROW: Final = re.compile(f"[{''.join(map(chr, _NARROW))}]")
_SAYS: Final = r"(?:号|群)?\s?(?:是|为|：|:)?\s?"
_GAP: Final = r"[ \t\u3000\-—–－_.·•*]{0,2}"
CHINESE_DIGITS: Final = "零〇○一二三四五六七八九幺壹贰叁肆伍陆柒捌玖"
_PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使领"
_MONTH_DAY: Final = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"

_HARMLESS: Final = (
    # A day, with its time.
    re.compile(
        r"(?<!\d)(?:19|20)\d{2}(?P<gap>[-./])(?:0?[1-9]|1[0-2])(?P=gap)(?:0?[1-9]|[12]\d|3[01])(?!\d|[-./]\d)"
        r"(?:[ T]?\d{1,2}:\d{2}(?::\d{2})?)?"
    ),
    # An amount.
    re.compile(r"(?<![\d.])\d{1,12}(?:,\d{3})*(?:\.\d{1,2})?(?=\s?(?:元|块|万|亿|份|人|户|张|平方|吨|%|％))"),
)
_FORMS: Final = (
    (Mask.LINK, r"(?i:https?://|www\.)[^\s，。；、）)】》\u4e00-\u9fff]+"),
    (Mask.EMAIL, r"[A-Za-z0-9._%+\-]+\s?(?:@|\(at\)|#)\s?[A-Za-z0-9\-]+(?:\s?[.。]\s?[A-Za-z]{2,})+"),
    (
        Mask.ACCOUNT,
        rf"(?i:QQ|微信|VX|抖音|支付宝|账号|帐号|用户名|登录名|密码){_SAYS}(?P<private>[A-Za-z0-9][A-Za-z0-9_\-@.]{{4,}})",
    ),
    (
        Mask.PLATE,
        rf"[{_PROVINCES}][A-HJ-NP-Za-hj-np-z][ ·•.\-]?[A-HJ-NP-Za-hj-np-z0-9]{{4,6}}[挂学警港澳]?(?![A-Za-z0-9])",
    ),
    # Identity card, 18 characters and the old 15; passport.
    (
        Mask.IDENTITY,
        rf"(?<!\d)[1-9]\d{{5}}{_GAP}(?:18|19|20)\d{{2}}{_GAP}{_MONTH_DAY}{_GAP}\d{{3}}[\dXx×](?![\dA-Za-z])",
    ),
    (Mask.IDENTITY, rf"(?<!\d)[1-9]\d{{7}}{_MONTH_DAY}\d{{3}}(?!\d)"),
    (Mask.IDENTITY, r"(?<![A-Za-z0-9])(?!QQ)[A-Z]{1,2}\d{7,9}(?:\(\w\))?(?![A-Za-z0-9])"),
    # Unified social credit code; the taxpayer's own writing of it may have a character that the standard leaves out.
    (Mask.TAX_NUMBER, r"(?<![A-Za-z0-9])[0-9A-Za-z]{2}\d{6}[0-9A-Za-z]{10}(?![A-Za-z0-9])"),
    # Mobile, landline with its area code, service numbers, a mobile number in Chinese digits.
    (Mask.PHONE, rf"(?<!\d)(?:(?:\+|00)?86{_GAP})?1{_GAP}[3-9](?:{_GAP}\d){{9}}(?!\d)"),
    (
        Mask.PHONE,
        r"(?<!\d)(?:[(（]0\d{2,3}[)）]|0\d{2,3})[ \-—–－]{0,2}[2-9]\d{2,3}[ \-]?\d{4}(?:[ \-—转#]{1,2}\d{1,6})?(?!\d)",
    ),
    (Mask.PHONE, r"(?<!\d)[48]00[ \-—]?\d{3,4}[ \-—]?\d{3,4}(?!\d)"),
    (Mask.PHONE, rf"(?<![{CHINESE_DIGITS}])[一幺][{CHINESE_DIGITS}]{{10}}(?![{CHINESE_DIGITS}])"),
    (Mask.CARD, rf"(?<!\d)[1-9]\d{{3}}(?:{_GAP}\d{{4}}){{3}}(?:{_GAP}\d{{1,3}})?(?!\d)"),
    # Whatever else is long: contracts, invoices, local telephone numbers, accounts.
    (Mask.NUMBER, r"(?<![A-Za-z0-9])(?=(?:[A-Za-z]{0,6}\d){5})[A-Za-z0-9]{8,}(?![A-Za-z0-9])"),
    (Mask.NUMBER, r"(?<!\d)\d(?:[ \-—–－_.·]?\d){6,}(?!\d)"),
    (Mask.NUMBER, rf"[{CHINESE_DIGITS}]{{7,}}"),
)
_PATTERNS: Final = tuple((mask, re.compile(form)) for mask, form in _FORMS)
_DIGIT_OR_LETTER: Final = re.compile(r"[\dA-Za-z]")
_DIGITS_AND_LETTERS_MIN: Final = 4
_CHINESE_NUMBER: Final = re.compile(rf"[{CHINESE_DIGITS}]{{7}}")
"""Whatever has a form has four digits or letters (a@b.cn), or seven Chinese digits."""


def narrow(text: str) -> str:
    """A text with narrow letters and digits, and without what has no width and could split a number."""
    # Most texts have nothing of it, which is found in a tenth of the time that translating takes.
    return text.translate(_NARROW) if _TO_NARROW.search(text) else text


def by_form(plain: str) -> Iterator[Span]:
    """What is private by its form in a narrow text. Days and amounts are not, however many digits they have."""
    if _is_bare(plain):
        return  # most beginnings of texts, of which lists show many: eighteen patterns would look for nothing
    harmless = [match.span() for pattern in _HARMLESS for match in pattern.finditer(plain)]
    for mask, pattern in _PATTERNS:
        for match in pattern.finditer(plain):
            start, end = match.span("private" if "private" in pattern.groupindex else 0)
            if mask is not Mask.NUMBER or not any(first <= start and end <= last for first, last in harmless):
                yield Span(start, end, mask)


def _is_bare(plain: str) -> bool:
    """Whether it has too little of which whatever has a form is made."""
    few = len(_DIGIT_OR_LETTER.findall(plain)) < _DIGITS_AND_LETTERS_MIN
    return few and not _CHINESE_NUMBER.search(plain)
