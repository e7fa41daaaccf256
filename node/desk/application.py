"""The desk as an application: its pages together, with what all of them show."""

from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette

from kuaixiang.accounts.officers import Officers
from kuaixiang.domain import acts
from kuaixiang.domain.disclosure import READS
from kuaixiang.domain.labels import ACTS as ACT_NAMES
from kuaixiang.domain.lifecycle import ROLES
from kuaixiang.domain.tree import short_name
from kuaixiang.domain.words import Disclosure
from kuaixiang.web.console import Console
from kuaixiang.web.door import Reach
from kuaixiang.web.language import Language, Name
from node.desk import (
    acts_page,
    bulk,
    case_page,
    files,
    ledger_page,
    listing,
    live,
    orders,
    reconcile,
    register,
    subordinates,
)
from node.desk.acts_page import choices
from node.desk.asking import Services, new_key
from node.desk.people import Listed
from node.desk.words import WORDS
from node.desk.words_supervision import SUPERVISION

TEMPLATES: Final = Path(__file__).parent / "templates"


def application(
    services: Services,
    *,
    demonstration: bool,
    officers: Officers | None = None,
    reach: Reach = Reach(),  # noqa: B008 - frozen
) -> Starlette:
    """The desk of the node's bureaus, where `officers` sign in; they come from where `reach` says.

    `demonstration`: who is on a list of staff steps in without a password.
    """
    place = services.office.place
    bureaus = services.office.ledger.bureaus

    def bureau_name(code: str) -> str:
        return Name(short_name(place.tree.get(code).name)) if code in place.tree else code

    def department_name(bureau: str, code: str) -> str:
        department = place.staff(bureau).departments.get(code)
        return Name(department.name) if department is not None else code

    common: dict[str, Any] = {
        "product": "Desk",
        "demonstration": demonstration,
        "bureau_name": bureau_name,
        "department_name": department_name,
        "act_name": _act_name,
        "superior": lambda code: place.tree.parent(code) if code in place.tree else None,
        "subordinates": lambda code: place.tree.children(code) if code in place.tree else (),
        "reads_in_clear": lambda role: READS.get(role) is Disclosure.FULL,
        "roles_of": ROLES.__getitem__,
        "bulk_acts": bulk.BULK_ACTS,
        "choices_for_bulk": lambda code: choices(place.tree, code),
        "refer": acts.Refer,
        "approve": acts.ApproveExtension,
        "approve_override": acts.ApproveOverride,
        "attach": acts.Attach,
        "new_key": new_key,
        "published_issues": services.directives.issues,
    }
    console = Console(
        name=f"desk-{bureaus[0]}",
        templates=TEMPLATES,
        words={**WORDS, **SUPERVISION},
        sign_in=Listed(bureaus, place.staff, demonstration=demonstration),
        now=place.clock.now,
        common=common,
        officers=officers,
        reach=reach,
    )
    rooms = (
        listing,
        register,
        case_page,
        acts_page,
        files,
        bulk,
        orders,
        subordinates,
        reconcile,
        ledger_page,
        live,
    )
    return console.application([route for room in rooms for route in room.routes(console, services)])


def _act_name(act: type[Any], language: Language) -> str:
    """What an act's button says."""
    named = ACT_NAMES[act]
    return named.chinese if language is Language.CHINESE else named.command.rpartition(" ")[2].replace("-", " ")
