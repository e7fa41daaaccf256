"""Options that many commands share: which node to ask and as whom, and who acts in what capacity."""

import functools
import inspect
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import typer

from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.domain.labels import Both, name
from kuaixiang.domain.tree import BureauTree, code_and_name
from kuaixiang.domain.words import Role
from kx.output import INSTANT_FORM, Failed, NotUnderstood, instant_of, names, word_parser

CONNECTION: Final = "Connection"
WHO: Final = "Who acts, and when"
PATIENCE_SECONDS: Final = 30.0
STANDARD_INPUT: Final = "-"

F = TypeVar("F", bound=Callable[..., Any])

# Of commands about a service, or about nothing that is asked over the network.
ServiceConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The service's settings, a TOML file; the environment wins over it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

# Where a hub is.
Endpoint = Annotated[str, typer.Option("--hub", envvar="KX_HUB_ENDPOINT", help="Where the hub answers, host:port.")]
Certificates = Annotated[
    Path,
    typer.Option(
        envvar="KX_CERTIFICATES", help="Folder with ca.crt, tls.crt and tls.key, as `kx pki issue` writes it."
    ),
]
HubScope = Annotated[
    str, typer.Option(envvar="KX_HUB_SCOPE", metavar="CODE", help="The scope in the hub's own certificate.")
]


def text_given(option: str) -> str:
    """The text that an option stands for: itself, or what standard input brings."""
    return sys.stdin.read() if option == STANDARD_INPUT else option


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Whom to ask, and with which certificate."""

    node: str
    certificates: Path
    bureau: str
    tree_file: Path | None
    patience_seconds: float
    as_json: bool

    def tree(self) -> BureauTree:
        """The tree of bureaus. Raises `Failed`."""
        return tree_in(self.tree_file)

    def bureau_name(self, code: str) -> str:
        """A bureau's code with its name, where the tree knows it."""
        return code_and_name(self.tree(), code)


@dataclass(frozen=True, slots=True)
class Who:
    """Who acts, in what capacity, and when; now when `at` is None."""

    actor: str
    role: Role
    department: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Once:
    """The act's key, and the version of the case it is meant for."""

    key: str = ""
    expected_version: int = 0
    again: bool = False
    """The caller gave the key, as he does when he asks again."""


@dataclass(frozen=True, slots=True)
class Acting:
    """All that an act's header says, and whom to ask."""

    asking: Asking
    who: Who
    once: Once


@functools.cache
def tree_in(file: Path | None) -> BureauTree:
    """The tree of that file, or the shipped one. Raises `Failed`."""
    from kuaixiang.facts import FactsError, load_tree, national_tree

    try:
        return national_tree() if file is None else load_tree(file)
    except FactsError as failure:
        said = Both(str(failure), f"机构树不能使用：{failure}")
        raise Failed(said, field="--tree", rule=type(failure).__name__) from failure


def _code(given: str) -> str:
    if not is_division_code(given):
        said = Both(
            f"{given!r} is no bureau's code; it has six digits.", f"“{given}”不是单位代码，单位代码为六位数字。"
        )
        raise NotUnderstood(said)
    return given


def asking_options(
    *,
    node: Annotated[
        str,
        typer.Option(
            envvar="KX_NODE", metavar="HOST:PORT", help="Where the bureau's node answers.", rich_help_panel=CONNECTION
        ),
    ],
    certificates: Annotated[
        Path,
        typer.Option(
            envvar="KX_CERTIFICATES",
            metavar="FOLDER",
            help="Folder with ca.crt, tls.crt and tls.key, as `kx pki issue --office` writes it.",
            rich_help_panel=CONNECTION,
        ),
    ],
    bureau: Annotated[
        str,
        typer.Option(
            envvar="KX_BUREAU",
            metavar="CODE",
            parser=_code,
            help="The bureau whose ledger it is, six digits.",
            rich_help_panel=CONNECTION,
        ),
    ],
    tree: Annotated[
        Path | None,
        typer.Option(
            envvar="KX_TREE",
            metavar="FILE",
            help="The tree of bureaus; the shipped one when left out.",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            envvar="KX_PATIENCE",
            metavar="SECONDS",
            min=0,
            max=3600,
            help="How long to go on trying a node that does not answer.",
            rich_help_panel=CONNECTION,
        ),
    ] = PATIENCE_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text, refusals too.")] = False,
) -> Asking:
    """Whom to ask."""
    return Asking(
        node=node, certificates=certificates, bureau=bureau, tree_file=tree, patience_seconds=patience, as_json=as_json
    )


Actor = Annotated[
    str,
    typer.Option(
        envvar="KX_ACTOR", metavar="ID", help="The officer's number or account, not a name.", rich_help_panel=WHO
    ),
]
_ROLE: Final = typer.Option(
    envvar="KX_ROLE",
    metavar="WORD",
    parser=word_parser(Role),
    help=f"In what capacity: {names(Role)}.",
    rich_help_panel=WHO,
)
InRole = Annotated[Role, _ROLE]
OfDepartment = Annotated[
    str,
    typer.Option(
        envvar="KX_DEPARTMENT",
        metavar="CODE",
        help="The officer's department, such as tax-service.",
        rich_help_panel=WHO,
    ),
]


def officer_options(*, actor: Actor, role: InRole, department: OfDepartment) -> Who:
    """Who asks."""
    return Who(actor, role, department, None)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, in what capacity, where that was said; the node refuses to show anything private to nobody."""

    actor: str
    role: Role | None
    department: str


def reader_options(
    *, actor: Actor = "", role: Annotated[Role | None, _ROLE] = None, department: OfDepartment = ""
) -> Reader:
    """Who reads; not needed while nothing private is asked for."""
    return Reader(actor, role, department)


def who_options(
    *,
    actor: Actor,
    role: InRole,
    department: OfDepartment,
    at: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME",
            parser=instant_of,
            help=f"When it happened, in Shanghai, if not now; at most 1 working day back: {INSTANT_FORM}.",
            rich_help_panel=WHO,
        ),
    ] = None,
) -> Who:
    """Who acts, and when."""
    return Who(actor, role, department, at)


def acting_options(
    *,
    key: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="The act's key; a fresh one when left out. The same act again under the same key is done once.",
            rich_help_panel=WHO,
        ),
    ] = "",
    expected_version: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Refuse if the case is not at this version any more; 0 does not look.",
            rich_help_panel=WHO,
        ),
    ] = 0,
) -> Once:
    """The act's key and the version it is meant for."""
    return Once(key or uuid.uuid4().hex, expected_version, again=bool(key))


def takes(**factories: Callable[..., Any]) -> Callable[[F], Callable[..., Any]]:
    """Give a command the options of each factory; the command gets what the factory makes of them, by that name."""

    def decorate(command: F) -> Callable[..., Any]:
        own = _parameters(command, without=factories)
        shared = {made: _parameters(factory) for made, factory in factories.items()}

        @functools.wraps(command)
        def run(**given: Any) -> Any:  # noqa: ANN401 - a command's own arguments
            made = {
                wanted: factories[wanted](**{one.name: given.pop(one.name) for one in parameters})
                for wanted, parameters in shared.items()
            }
            return command(**given, **made)

        everything = [*own, *(one for parameters in shared.values() for one in parameters)]
        # A parameter without a default may not follow one with a default, unless both are given by name.
        signature = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in everything])
        del run.__wrapped__  # typer would look through it at the original
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in everything}
        return run

    return decorate


def _parameters(function: Callable[..., Any], without: object = ()) -> list[inspect.Parameter]:
    left_out = set(without) if isinstance(without, dict) else set()
    return [
        one.replace(annotation=_as_text(one.annotation), default=_as_word(one.default))
        for one in inspect.signature(function, eval_str=True).parameters.values()
        if one.name not in left_out
    ]


def _as_word(default: Any) -> Any:  # noqa: ANN401 - any default
    """A word's default is named in the help as it is given, not by its number; its parser reads it back."""
    return name(default) if isinstance(default, IntEnum) else default


def _as_text(annotation: Any) -> Any:  # noqa: ANN401 - any annotation
    """A word's option is a text to typer: it would offer the numbers of the words, where its parser knows the words."""
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *rest = get_args(annotation)
    inner = get_args(kind) or (kind,)
    if not any(isinstance(one, type) and issubclass(one, IntEnum) for one in inner):
        return annotation
    return Annotated[(list[str] if get_origin(kind) is list else str, *rest)]
