"""`kx staff`: the departments and officers of bureaus, checked and shown before a node takes them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kuaixiang.domain.labels import Both, name, term
from kuaixiang.domain.staff import Staff
from kx.output import Failed, failures_shown, print_json

app = typer.Typer(
    name="staff",
    help="The departments and officers of bureaus: check the list that a node is to take.",
    no_args_is_help=True,
)


@app.callback()
def staff() -> None:
    """The departments and officers of bureaus: check the list that a node is to take."""


@app.command()
def check(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The list, as the setting `staff` names it.")],
    bureau: Annotated[str, typer.Option(metavar="CODE", help="Only this bureau.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Check a list of staff and show it; a node that runs takes a changed file by itself."""
    from kuaixiang.facts import FactsError, load_staff

    with failures_shown(as_json=as_json):
        try:
            lists = load_staff(file)
        except FactsError as wrong:
            raise Failed(
                Both(f"{wrong}.", f"人员名单无法使用：{wrong}。"), field="FILE.toml", rule=type(wrong).__name__
            ) from wrong
        if bureau and bureau not in lists:
            raise Failed(
                Both(f"{file} lists nobody of {bureau}.", f"{file} 中没有单位 {bureau} 的人员。"),
                field="--bureau",
                rule="NotListed",
            )
        shown = {code: lists[code] for code in lists if bureau in {"", code}}
        if as_json:
            print_json({code: _as_dict(one) for code, one in shown.items()})
            return
        console = Console(highlight=False)
        for code, one in shown.items():
            _print(console, code, one)


def _as_dict(staff: Staff) -> dict[str, Any]:
    return {
        "version": staff.version,
        "departments": {one.code: {"name": one.name, "kind": name(one.kind)} for one in staff.departments.values()},
        "officers": {
            one.actor: {
                "name": one.name,
                "roles": sorted(map(name, one.roles)),
                "departments": sorted(one.departments),
                "oversees": sorted(one.oversees),
            }
            for one in staff.officers.values()
        },
    }


def _print(console: Console, code: str, staff: Staff) -> None:
    departments = Table("department 部门", "name", "kind", title=f"{code}, version {staff.version}")
    for department in staff.departments.values():
        departments.add_row(department.code, department.name, f"{name(department.kind)} {term(department.kind)}")
    officers = Table("officer 人员", "name", "roles 岗位", "departments", "oversees 分管")
    for officer in staff.officers.values():
        officers.add_row(
            officer.actor,
            officer.name,
            ", ".join(f"{name(role)} {term(role)}" for role in sorted(officer.roles)),
            ", ".join(sorted(officer.departments)),
            ", ".join(sorted(officer.oversees)),
        )
    console.print(departments)
    console.print(officers)
