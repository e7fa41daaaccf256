"""受理登记 on one page (§四(一)1): likely duplicates are shown while one types, an answer on the spot goes with it."""

from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from kuaixiang.domain import acts
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.words import Channel, Role
from kuaixiang.runtime.server import NOT_NOW, as_refusal
from kuaixiang.web.console import Console, Visit
from kuaixiang.wire.v1 import case_pb2
from node.desk.asking import Services, header, inside, key_of, new_key
from node.desk.forms import fields_of, filled_in

FIELDS = {field.name: field for field in fields_of(acts.Register)}


def routes(console: Console, services: Services) -> list[Route]:
    """The page, and the list of duplicates beside it."""
    pages = _RegisterPages(services)
    return [
        console.route("/register", pages.register, "GET", "POST"),
        console.route("/register/duplicates", pages.duplicates, "POST"),
    ]


class _RegisterPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def register(self, visit: Visit) -> Response:
        """The form; sent, the registration, once however often it is sent."""
        if visit.request.method == "GET":
            return self._form(visit, key=new_key(), form=FormData({"channel": str(int(Channel.COUNTER))}))
        form = await visit.form()
        key = str(form.get("request_key", ""))
        try:
            request = case_pb2.RegisterCaseRequest(
                header=header(visit.person, key=key_of(form)), **filled_in(list(FIELDS.values()), form)
            )
            done = await self._services.cases.RegisterCase(request, inside(visit.person))
        except (Refused, *NOT_NOW) as error:
            # What has been typed comes back as it was, whatever stands against it.
            return self._form(visit, key=key, form=form, refusal=as_refusal(error))
        return visit.to(f"/cases/{done.case.case_id}")

    async def duplicates(self, visit: Visit) -> Response:
        """Cases that may be the one being typed; nothing is shown before there is something to compare."""
        form = await visit.form()
        names = ("taxpayer_name", "taxpayer_number", "contact", "text", "channel_reference")
        typed: dict[str, Any] = {name: str(form.get(name, "")).strip() for name in names}
        if not any(typed.values()):
            return visit.page("_duplicates.html", candidates=[], chosen="")
        answer = await self._services.cases.FindDuplicates(
            case_pb2.FindDuplicatesRequest(bureau=visit.person.bureau, **typed), inside(visit.person)
        )
        return visit.page(
            "_duplicates.html", candidates=list(answer.candidates), chosen=str(form.get("lead_case_id", ""))
        )

    @staticmethod
    def _form(visit: Visit, *, key: str, form: FormData, refusal: Refused | None = None) -> Response:
        return visit.page(
            "register.html",
            fields=FIELDS,
            typed=form.getlist,
            key=key,
            refusal=refusal,
            may=visit.person.role in {Role.REGISTRAR, Role.TAX_SERVICE},
            live="",
        )
