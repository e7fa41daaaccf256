"""The pages of supervision over real offices: the nodes of a federation in one process, asked through ASGI."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx

from kuaixiang.accounts.people import Person
from kuaixiang.domain.staff import Officer, Staff
from kuaixiang.domain.words import Role
from node.cases import CaseServicer
from node.desk.application import application
from node.desk.asking import Services
from node.directives import Directives
from node.duplicates import Duplicates
from node.federation.cosign import CosignServicer
from node.federation.server import ReferralServicer
from node.reconciliations import ReconciliationServicer
from node.supervision import SupervisionServicer
from node.witness import Witness
from tests.federation.bureaus import Federation

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


def everybody(bureau: str) -> list[Person]:
    """Somebody in each role at a bureau that has given no list of its staff."""
    return [
        Person(
            bureau=bureau, actor=f"{role.name.lower()}-1", name=f"经办{role.value}", role=role, department=department
        )
        for role in Role
        for department in ("systems" if role is Role.HANDLER else "tax-service",)
    ]


def listed(bureau: str) -> Staff:
    """Everybody as a list of staff, so that they may step in; their names are not checked with what they do."""
    officers = {
        one.actor: Officer(
            actor=one.actor, name=one.name, roles=frozenset({one.role}), departments=frozenset({one.department})
        )
        for one in everybody(bureau)
    }
    return Staff(version="", officers=officers, listed=False)


class Pages:
    """The pages of one node, in a browser without scripts."""

    def __init__(self, services: Services, client: httpx.AsyncClient) -> None:
        self.services = services
        self.client = client

    async def step_in(self, bureau: str, role: Role) -> None:
        person = next(one for one in everybody(bureau) if one.role is role)
        named = {"bureau": bureau, "actor": person.actor, "department": person.department, "role": role.name}
        answer = await self.client.post("/step-in", data=named)
        assert answer.status_code == 303

    async def english(self) -> None:
        await self.client.get("/language/en")

    async def get(self, address: str, status: int = 200, **more: Any) -> str:
        answer = await self.client.get(address, **more)
        assert status == answer.status_code, answer.text
        return answer.text

    async def hidden(self, address: str) -> dict[str, str]:
        """What the form at the address would send by itself: that it is ours, and its key."""
        form = (await self.get(address)).partition("<main")[2]
        return {name: unescape(value) for name, value in _HIDDEN.findall(form)}

    async def fill_in(self, address: str, **fields: Any) -> httpx.Response:
        """Load the form and send it."""
        return await self.client.post(address.partition("?")[0], data=await self.hidden(address) | fields)


@asynccontextmanager
async def pages_of(bureaus: Federation, bureau: str) -> AsyncIterator[Pages]:
    """The pages of the node that keeps a bureau's ledger."""
    owner = bureaus.node(bureau)
    parts = owner.parts
    heard_from = parts.courier.heard_from
    services = Services(
        office=parts.office,
        cases=CaseServicer(parts.office, Duplicates(parts.ledger, bureaus.clock, 90)),
        referrals=ReferralServicer(parts.office, parts.links, owner.seal, heard_from),
        supervision=SupervisionServicer(parts.office, parts.links, owner.seal, heard_from),
        reconciliations=ReconciliationServicer(parts.office, parts.reconciler),
        directives=Directives(parts.office, owner.seal),
        witness=CosignServicer(parts.office, Witness(parts.office, parts.links, owner.seal)),
    )
    bureaus.place.staff = listed
    app = application(services, demonstration=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield Pages(services, client)
