"""`kx channel`: what a channel's 渠道 own machine does at a bureau's door, with a token and nothing else."""

from pathlib import Path
from typing import Annotated

import typer

from kx.options import PATIENCE_SECONDS, AsJson
from kx.output import failures_shown, print_json

app = typer.Typer(
    name="channel",
    help="What a channel's 渠道 own machine does at a bureau's door: hand in files 批量受理.",
    no_args_is_help=True,
)


@app.callback()
def channel() -> None:
    """What a channel's 渠道 own machine does at a bureau's door: hand in files 批量受理."""


@app.command()
def send(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Registrations: a name that ends with .csv, .xlsx or .ndjson.")
    ],
    *,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The bureau's door: https://host:port.")],
    token_file: Annotated[
        Path, typer.Option(metavar="FILE", help="What `kx token issue` has shown, in a file of mode 0600.")
    ],
    authorities: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Authorities that vouch for the door, PEM; the system's when left out."),
    ] = None,
    acknowledgements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What became of each row; FILE.acknowledged.ndjson beside it.")
    ] = None,
    patience_seconds: Annotated[
        float, typer.Option("--patience", min=0, help="How long to go on trying a door that does not answer.")
    ] = PATIENCE_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Hand in a file of registrations; each row is acknowledged by itself, in a file beside it.

    After a cut it goes on at the first row that has no acknowledgement; so does the same command after it was ended
    itself. Nothing is registered twice. Columns are those of `kx case import`, without a mapping. Ends with 2 when a
    row was refused, with 3 when the door did not answer for as long as --patience says.
    """
    from kx.handing_in import HandIn, hand_in, show_handed_in

    with failures_shown(as_json=as_json):
        done = hand_in(
            HandIn(
                file=file,
                url=to,
                token_file=token_file,
                authorities=authorities,
                acknowledgements=acknowledgements or file.with_name(f"{file.name}.acknowledged.ndjson"),
                patience_seconds=patience_seconds,
            )
        )
        if as_json:
            print_json(done.as_dict())
        else:
            show_handed_in(done)
    if done.exit_code:
        raise typer.Exit(done.exit_code)
