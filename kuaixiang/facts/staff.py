"""The departments and officers of bureaus, from a TOML file.

    version = "2026.1"

    [330106.departments]
    tax-service = { name = "纳税服务股", kind = "tax-service" }
    policy = { name = "税政股", kind = "policy" }

    [330106.officers]
    zj-0007 = { name = "王", roles = ["registrar"], departments = ["tax-service"] }
    zj-0001 = { name = "李", roles = ["deputy-head"], departments = ["leadership"], oversees = ["policy"] }

A file may hold several bureaus. Whatever is said wrongly is named by its place; nothing is taken of such a file.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, TypeVar

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.domain.labels import name
from kuaixiang.domain.registration import check_actor, check_department
from kuaixiang.domain.staff import Department, Officer, Staff
from kuaixiang.domain.words import DepartmentKind, Role
from kuaixiang.facts.text import FactsMalformed

_W = TypeVar("_W", bound=IntEnum)

_VERSION: Final = re.compile(r"\S{1,32}")
_OF_PEOPLE: Final = tuple(role for role in Role if role is not Role.SYSTEM)
_TAKES_CALLS: Final = frozenset({DepartmentKind.TAX_SERVICE, DepartmentKind.HALL})
"""Kinds of department whose officers may have the role of tax service: the hall is a part of it in many counties."""


def parse_staff(text: str, source: str = "the staff") -> Mapping[str, Staff]:
    """Read the departments and officers of bureaus, by bureau code; `source` is what an error calls the text.

    Raises:
        FactsMalformed.

    """
    try:
        content = tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise FactsMalformed(source, 0, str(error), "write it as TOML") from error
    version = content.pop("version", "")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise FactsMalformed(source, 0, "the version is not named", 'write a line version = "..." at the top')
    return {code: _bureau(_Part(source, code, table), version) for code, table in content.items()}


class _Part:
    """A part of the file, and where it stands."""

    def __init__(self, source: str, place: str, content: object) -> None:
        self.source = source
        self.place = place
        self.content = content

    def wrong(self, problem: str, remedy: str) -> FactsMalformed:
        return FactsMalformed(self.source, 0, f"{self.place}: {problem}", remedy)

    def table(self, *keys: str) -> dict[str, Any]:
        """The part as a table of these keys, the first of which must be there."""
        if not isinstance(self.content, dict):
            raise self.wrong("is not a table", f"write {', '.join(keys) or 'a table'}")
        strange = sorted(set(self.content) - set(keys)) if keys else []
        if strange:
            raise self.wrong(f"has {', '.join(strange)}", f"write {', '.join(keys)}")
        return self.content

    def parts(self, key: str) -> dict[str, "_Part"]:
        """The named parts of a sub-table."""
        content = self.table().get(key, {})
        part = _Part(self.source, f"{self.place}.{key}", content)
        return {inner: _Part(self.source, f"{part.place}.{inner}", value) for inner, value in part.table().items()}

    def text(self, key: str) -> str:
        value = self.table().get(key, "")
        if not isinstance(value, str):
            raise self.wrong(f"{key} is not a text", f'write {key} = "..."')
        return value

    def texts(self, key: str) -> list[str]:
        value = self.table().get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(f"{key} is not a list of texts", f'write {key} = ["..."]')
        return value

    def word(self, written: str, words: tuple[_W, ...]) -> _W:
        for word in words:
            if written == name(word):
                return word
        raise self.wrong(f"there is no {written or '(empty)'}", f"write one of {', '.join(map(name, words))}")


def _bureau(part: _Part, version: str) -> Staff:
    if not is_division_code(part.place):
        raise part.wrong("is not a bureau's code", "write its six digits")
    part.table("departments", "officers")
    departments = {code: _department(code, inner) for code, inner in part.parts("departments").items()}
    if not any(department.kind is DepartmentKind.TAX_SERVICE for department in departments.values()):
        raise part.wrong(
            "no department is of the kind tax-service", "name the one that dispatches and follows up (§五(二))"
        )
    officers = {actor: _officer(actor, inner, departments) for actor, inner in part.parts("officers").items()}
    return Staff(version=version, departments=departments, officers=officers)


def _department(code: str, part: _Part) -> Department:
    part.table("name", "kind")
    _well_formed(part, check_department, code, "department")
    return Department(code=code, name=part.text("name"), kind=part.word(part.text("kind"), tuple(DepartmentKind)))


def _officer(actor: str, part: _Part, departments: Mapping[str, Department]) -> Officer:
    part.table("name", "roles", "departments", "oversees")
    _well_formed(part, check_actor, actor, "officer")
    roles = frozenset(part.word(role, _OF_PEOPLE) for role in part.texts("roles"))
    if not roles:
        raise part.wrong("has no role", f"write one or several of {', '.join(map(name, _OF_PEOPLE))}")
    own, overseen = (frozenset(part.texts(key)) for key in ("departments", "oversees"))
    strange = sorted((own | overseen) - departments.keys())
    if strange or not own:
        known = ", ".join(departments)
        raise part.wrong(f"names the department {', '.join(strange) or '(none)'}", f"write one of {known}")
    kinds = {departments[code].kind for code in own}
    if Role.TAX_SERVICE in roles and not kinds & _TAKES_CALLS:
        raise part.wrong("has the role tax-service in no such department", "add a department of that kind")
    return Officer(actor=actor, name=part.text("name"), roles=roles, departments=own, oversees=overseen)


def _well_formed(part: _Part, check: Callable[[str, str], None], value: str, what: str) -> None:
    try:
        check(value, what)
    except Refused as refusal:
        raise part.wrong(str(refusal).removesuffix("."), refusal.remedy) from refusal
