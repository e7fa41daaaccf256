"""The departments and officers of the demonstration's bureaus: the same few colleagues everywhere, by number only."""

from collections.abc import Iterable
from typing import Final

from demo.content import Department
from kuaixiang.domain.labels import name
from kuaixiang.domain.words import Role

LEADERSHIP: Final = "leadership"
CHANNEL_OFFICER: Final = "channel-12366"

_NAMES: Final = {
    Department.TAX_SERVICE: "纳税服务部门",
    Department.POLICY: "税政部门",
    Department.COLLECTION: "征收管理部门",
    Department.INFORMATION: "信息中心",
    Department.LEGAL: "政策法规部门",
    Department.INSPECTION: "稽查部门",
}
_EVERYWHERE: Final = tuple(department.value for department in Department)
_OFFICERS: Final[tuple[tuple[str, int, Role, tuple[str, ...]], ...]] = (
    ("R", 3, Role.REGISTRAR, (Department.TAX_SERVICE.value,)),
    ("T", 3, Role.TAX_SERVICE, (Department.TAX_SERVICE.value,)),
    ("V", 3, Role.TAX_SERVICE, (Department.TAX_SERVICE.value,)),
    ("H", 3, Role.HANDLER, _EVERYWHERE),
    ("D", 1, Role.DEPUTY_HEAD, (LEADERSHIP,)),
    ("B", 1, Role.BUREAU_HEAD, (LEADERSHIP,)),
    ("S", 1, Role.SUPERVISOR, (LEADERSHIP, Department.TAX_SERVICE.value)),
    ("A", 1, Role.AUDITOR, (LEADERSHIP,)),
)
"""Letter, how many, role, and departments; an officer is a letter and a number, such as H02."""


def staff_list(bureaus: Iterable[str]) -> str:
    """The list of the bureaus, in the form of the setting `staff`."""
    lines = ['version = "demo"']
    for bureau in bureaus:
        lines += ["", f"[{bureau}.departments]"]
        lines += [
            # Here a department's code is the word for its kind.
            f'{department.value} = {{ name = "{_NAMES[department]}", kind = "{department.value}" }}'
            for department in Department
        ]
        lines += [f'{LEADERSHIP} = {{ name = "局领导", kind = "leadership" }}', "", f"[{bureau}.officers]"]
        lines += [
            _line(f"{letter}{number:02d}", role, departments)
            for letter, count, role, departments in _OFFICERS
            for number in range(1, count + 1)
        ]
        lines.append(_line(CHANNEL_OFFICER, Role.CHANNEL, (Department.TAX_SERVICE.value,)))
    return "\n".join(lines) + "\n"


def _line(actor: str, role: Role, departments: tuple[str, ...]) -> str:
    listed = ", ".join(f'"{department}"' for department in departments)
    return f'{actor} = {{ roles = ["{name(role)}"], departments = [{listed}] }}'
