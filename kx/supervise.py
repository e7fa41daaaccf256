"""`kx supervise`: what a superior bureau asks of those below it, and what headquarters publishes."""

import typer

from kx import directives

app = typer.Typer(
    name="supervise",
    help="What superiors ask of the bureaus below them, and what headquarters publishes to all.",
    no_args_is_help=True,
)
directives.add_commands(app)
