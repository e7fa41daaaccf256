"""`kx case duplicates`, and the look for them before registering: cases that may be the one at hand (§四(一)1)."""

from typing import Any, Final

from kuaixiang.domain.acts import Register
from kuaixiang.domain.labels import Both
from kuaixiang.wire.v1 import case_pb2
from kx.client import ask
from kx.options import Asking
from kx.output import Failed, print_json, table_of
from kx.views import show_duplicates

_AGAIN: Final = Both("Looking for duplicates changes nothing; try again.", "查重不改变台账，请重试。")


class LikelyDuplicates(Failed):
    """A case that seems to be registered already; whether it is the officer decides."""

    def __init__(self, found: case_pb2.FindDuplicatesResponse) -> None:
        first = found.candidates[0].case_id
        super().__init__(
            Both(
                f"{len(found.candidates)} case(s) of the last {found.days} days may be it; nothing was registered.",
                f"近 {found.days} 天内有 {len(found.candidates)} 件疑似重复的诉求，尚未登记。",
            ),
            rule="LikelyDuplicates",
            remedy=Both(
                f"Register it linked to the case it repeats by --link {first}, or as one of its own by --anyway.",
                f"确属重复的请用 --link {first} 并案登记，否则请用 --anyway 另行登记。",
            ),
        )
        self.found = found

    def as_dict(self) -> dict[str, Any]:
        """The parts, for JSON, with the cases."""
        return {**super().as_dict(), "candidates": [table_of(one) for one in self.found.candidates]}


def find(asking: Asking, act: Register) -> case_pb2.FindDuplicatesResponse:
    """The cases that may be the same as what is to be registered. Raises `Failed`."""
    request = case_pb2.FindDuplicatesRequest(
        bureau=asking.bureau,
        taxpayer_name=act.taxpayer_name,
        taxpayer_number=act.taxpayer_number,
        contact=act.contact,
        text=act.text,
        channel_reference=act.channel_reference,
    )
    response: case_pb2.FindDuplicatesResponse = ask(asking, "CaseService", "FindDuplicates", request, _AGAIN)
    return response


def check_new(asking: Asking, act: Register) -> None:
    """Raises `LikelyDuplicates` with the cases shown, `Failed`."""
    found = find(asking, act)
    if found.candidates:
        if not asking.as_json:
            show_duplicates(found)
        raise LikelyDuplicates(found)


def tell(asking: Asking, found: case_pb2.FindDuplicatesResponse) -> None:
    """Print what was found."""
    if asking.as_json:
        print_json(table_of(found))
    else:
        show_duplicates(found)
