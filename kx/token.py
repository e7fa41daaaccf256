"""`kx token`: what programs of channels 渠道 register and ask with, issued and revoked by the bureau's leaders."""

from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kuaixiang.domain.labels import name, term
from kuaixiang.domain.sign_in import TOKEN_DAYS_MAX
from kuaixiang.domain.words import Channel, TokenScope
from kuaixiang.wire.v1 import sign_in_pb2
from kx.options import Asking, Who, asking_options, officer_options, takes
from kx.output import failures_told, names, print_json, wide, word_parser

app = typer.Typer(
    name="token",
    help="Tokens of channels 渠道: issue, list and revoke what their programs call with.",
    no_args_is_help=True,
)

_SHANGHAI = timedelta(hours=8)


@app.command()
@takes(asking=asking_options, who=officer_options)
@failures_told
def issue(
    *,
    asking: Asking,
    who: Who,
    channel: Annotated[
        Channel,
        typer.Option(metavar="WORD", parser=word_parser(Channel), help=f"Of which channel: {names(Channel)}."),
    ],
    scope: Annotated[
        list[TokenScope],
        typer.Option(metavar="WORD", parser=word_parser(TokenScope), help=f"What for, once each: {names(TokenScope)}."),
    ],
    days: Annotated[int, typer.Option(min=1, max=TOKEN_DAYS_MAX, help="For how long.")] = 90,
) -> None:
    """Issue a token. It is shown this once: give it to the channel's program as a file that nobody else reads."""
    request = sign_in_pb2.IssueTokenRequest(valid_days=days)
    request.channel = int(channel)  # type: ignore[assignment]
    request.scopes.extend(int(one) for one in scope)  # type: ignore[misc]
    answer: sign_in_pb2.IssueTokenResponse = _ask(asking, who, "IssueToken", request)
    if asking.as_json:
        print_json({"secret": answer.secret, **_as_dict(answer.token)})
        return
    typer.echo(answer.secret)


@app.command("list")
@takes(asking=asking_options, who=officer_options)
@failures_told
def list_tokens(*, asking: Asking, who: Who) -> None:
    """The bureau's tokens, the latest first: what each is good for, until when, and when it was used last."""
    answer: sign_in_pb2.ListTokensResponse = _ask(asking, who, "ListTokens", sign_in_pb2.ListTokensRequest())
    if asking.as_json:
        print_json([_as_dict(token) for token in answer.tokens])
        return
    table = Table("token 令牌", "channel 渠道", "scopes 授权", "by", "until", "last used", "revoked")
    for token in answer.tokens:
        table.add_row(
            token.token_id,
            term(Channel(token.channel)),
            ", ".join(term(TokenScope(one)) for one in token.scopes),
            token.issued_by,
            *(_shown(token, field) for field in ("expires_at", "last_used_at", "revoked_at")),
        )
    wide(Console(highlight=False)).print(table)


@app.command()
@takes(asking=asking_options, who=officer_options)
@failures_told
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its number in the list.")],
    *,
    asking: Asking,
    who: Who,
) -> None:
    """End a token at once."""
    request = sign_in_pb2.RevokeTokenRequest(token_id=token_id)
    answer: sign_in_pb2.RevokeTokenResponse = _ask(asking, who, "RevokeToken", request)
    if asking.as_json:
        print_json(_as_dict(answer.token))
        return
    typer.echo(f"{answer.token.token_id}: {_shown(answer.token, 'revoked_at')}")


def _ask(asking: Asking, who: Who, method: str, request: Any) -> Any:  # noqa: ANN401 - the method's own answer
    from kx.client import ask_as

    return ask_as(asking, who, "SignInService", method, request)


def _as_dict(token: sign_in_pb2.Token) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "channel": name(Channel(token.channel)),
        "scopes": [name(TokenScope(one)) for one in token.scopes],
        "issued_by": token.issued_by,
        **{
            field: getattr(token, field).ToDatetime().isoformat() + "Z" if token.HasField(field) else None
            for field in ("issued_at", "expires_at", "last_used_at", "revoked_at")
        },
    }


def _shown(token: sign_in_pb2.Token, field: Any) -> str:  # noqa: ANN401 - a field's name
    if not token.HasField(field):
        return "–"
    return f"{getattr(token, field).ToDatetime() + _SHANGHAI:%Y-%m-%d %H:%M}"
