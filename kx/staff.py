"""`kx staff`: the departments and officers of bureaus, checked and shown before a node takes them."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import Both, name, term
from kuaixiang.domain.sign_in import PASSWORD_CHARACTERS_MIN
from kuaixiang.domain.staff import Staff
from kx.output import Failed, failures_shown, print_json

app = typer.Typer(
    name="staff",
    help="The departments and officers of bureaus: check the list that a node is to take, set passwords.",
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


@app.command()
def password(
    *,
    actor: Annotated[str, typer.Argument(metavar="ACTOR", help="The officer's number, as the list of staff has it.")],
    users: Annotated[
        Path,
        typer.Option(envvar="KX_USERS", metavar="FILE.toml", help="The users file: the setting `users`."),
    ],
    bureau: Annotated[str, typer.Option(envvar="KX_BUREAU", metavar="CODE", help="The officer's bureau.")],
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the password from standard input, for scripts.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="The officer need not change it: he has typed it himself.")
    ] = False,
    disable: Annotated[bool, typer.Option("--disable", help="He may not sign in any more; his sessions end.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take him out of the file; his sessions end.")] = False,
) -> None:
    """Set an officer's password, which he changes when he signs in first; or disable him.

    The password is asked for, or read from standard input: never an argument, which others on the machine could see.
    """
    from kuaixiang.accounts.passwords import hash_of
    from kuaixiang.accounts.users import User, UsersFileUnusable, changing
    from kuaixiang.domain.identifiers import is_division_code
    from kuaixiang.domain.registration import check_actor
    from kuaixiang.domain.sign_in import check_password_fits

    with failures_shown(as_json=False):
        if not is_division_code(bureau):
            raise Failed(Both("A code has six digits.", "单位代码为六位数字。"), field="--bureau", rule="NoBureau")
        try:
            check_actor(actor)
            new = None
            if not (disable or remove):
                typed = _typed(stdin=stdin)
                check_password_fits(typed, actor)
                new = User(hash_of(typed), must_change=not keep)
            # Read only now: whoever types a password takes his time, and officers change theirs meanwhile.
            with changing(users) as known:
                user = known.pop((bureau, actor), None)
                if new is not None:
                    known[bureau, actor] = new
                elif user is None:
                    raise Failed(
                        Both("It has no such officer.", "文件中没有该人员。"),
                        field="ACTOR",
                        rule="NoSuchUser",
                    )
                elif disable:
                    known[bureau, actor] = replace(user, disabled=True)
        except (UsersFileUnusable, OSError) as wrong:
            raise Failed(
                Both(f"{wrong}.", f"用户文件无法使用：{wrong}。"), field="--users", rule=type(wrong).__name__
            ) from wrong
        except Refused as refusal:
            raise Failed(
                Both(str(refusal), refusal.chinese),
                field=refusal.field,
                rule=refusal.rule,
                remedy=Both(refusal.remedy, refusal.remedy_chinese),
            ) from refusal
    typer.echo(f"{users}: {bureau} {actor} {_done(disable=disable, remove=remove, keep=keep)}")


def _done(*, disable: bool, remove: bool, keep: bool) -> str:
    """What has become of an officer's password."""
    if disable:
        return "may not sign in any more 已停用"
    if remove:
        return "is taken out of it 已移除"
    return (
        "has a password 密码已设置"
        if keep
        else "has a password, to be changed at the first sign-in 密码已设置，首次登录须修改"
    )


def _typed(*, stdin: bool) -> str:
    """A password that nobody else sees."""
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt(f"password 密码 ({PASSWORD_CHARACTERS_MIN}+)", hide_input=True, confirmation_prompt=True))
