"""What the pages ask of the node for the officer who has stepped in: its own services, called inside the process."""

import secrets
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import FormData

from kuaixiang.accounts.people import Person
from kuaixiang.domain.acts import Act
from kuaixiang.domain.authority import Caller, SignedIn
from kuaixiang.domain.errors import FieldMissing
from kuaixiang.domain.labels import Both
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.runtime.server import Inside
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST, ACT_OF_REQUEST
from kuaixiang.wire.v1 import case_pb2
from node.cases import CaseServicer
from node.directives import Directives
from node.federation.cosign import CosignServicer
from node.federation.server import ReferralServicer
from node.office import Header, Office
from node.reconciliations import ReconciliationServicer
from node.supervision import SupervisionServicer

KEY_BYTES: Final = 16
DIGITS_MAX: Final = 9
"""Of a version or a line: what fits into 32 bits."""

REQUEST_OF_ACT: Final[dict[type[Act] | type[OrderAct], type[Any]]] = {
    **{act: request for request, act in ACT_OF_REQUEST.items()},
    **{act: request for request, act in ACT_OF_ORDER_REQUEST.items()},
}
"""The request that asks each act."""


@dataclass(frozen=True, slots=True)
class Services:
    """The node's services, as the pages need them."""

    office: Office
    cases: CaseServicer
    referrals: ReferralServicer
    supervision: SupervisionServicer
    reconciliations: ReconciliationServicer
    directives: Directives
    witness: CosignServicer


def departments_of(services: Services, bureau: str) -> dict[str, str]:
    """The departments of a bureau with their names, as its list of staff has them."""
    return {code: department.name for code, department in services.office.place.staff(bureau).departments.items()}


def inside(person: Person) -> Any:  # noqa: ANN401 - takes the place of gRPC's context
    """The call's context: the person asks at an office of his bureau, in the role in which he is at the pages."""
    officer = SignedIn(bureau=person.bureau, actor=person.actor, roles=frozenset({person.role}))
    return Inside(Caller(offices=frozenset({person.bureau}), officer=officer))


def new_key() -> str:
    """A request key for a form: however often it is sent, it is done once."""
    return secrets.token_hex(KEY_BYTES)


def header(person: Person, *, case_id: str = "", key: str = "", version: int = 0) -> case_pb2.ActHeader:
    """Who does what, for an act's request."""
    role: Any = person.role
    return case_pb2.ActHeader(
        bureau=person.bureau,
        case_id=case_id,
        actor=person.actor,
        role=role,
        department=person.department,
        request_key=key,
        expected_version=version,
    )


def key_of(form: FormData) -> str:
    """The key that a form was made with. Raises `FieldMissing`: without one it would be done as often as it is sent."""
    key = str(form.get("request_key", ""))
    if not key:
        raise FieldMissing("request_key", Both("every form has one", "表单须带请求标识"))
    return key


def whole_number(written: str, digits_max: int = DIGITS_MAX) -> int:
    """A number as an address or a hidden field says it; 0 for what is none."""
    return int(written) if written.isascii() and written.isdigit() and len(written) <= digits_max else 0


def asker(person: Person, case_id: str) -> Header:
    """Who asks the office what is possible with a case or an order, or, without one, at all."""
    return Header(
        bureau=person.bureau, case_id=case_id, actor=person.actor, role=person.role, department=person.department
    )
