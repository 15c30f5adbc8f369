"""The ``tickless`` command: mounts every command, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tickless
from tickless.cli import commanding, desks, explaining, features, invoking, lookahead, operating, running, training, walking
from tickless.cli.data import data_app
from tickless.cli.models import models_app
from tickless.cli.params import params_app
from tickless.errors import InputError, RefusedError, TicklessError

FAILED, BAD_INPUT, REFUSED = 1, 2, 3


class OneSentence(TyperGroup):
    """Errors of the package end as one sentence on stderr: exit code 2 for bad input, 3 for a refusal, 1 for the rest."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except TicklessError as error:
            typer.echo(f"tickless: {error}", err=True)
            code = BAD_INPUT if isinstance(error, InputError) else REFUSED if isinstance(error, RefusedError) else FAILED
            raise typer.Exit(code) from error


app = typer.Typer(
    name="tickless",
    cls=OneSentence,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A crypto trading desk that exists only while it decides. Exit codes: 0 done, 1 failed, 2 bad input, 3 refused for safety.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tickless {tickless.__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A crypto trading desk that exists only while it decides."""


app.command()(running.demo)
app.command()(running.replay)
app.command()(running.backtest)
app.command()(running.compare)
app.command()(training.train)
app.command("walk-forward")(walking.walk_forward)
app.command("features")(features.features)
app.command()(lookahead.lookahead)
app.command()(invoking.invoke)
for _command in (operating.status, operating.positions, operating.orders, operating.trades, explaining.why):
    app.command()(_command)
app.command()(commanding.halt)
app.command()(commanding.resume)
app.command()(commanding.flatten)
app.command()(commanding.accept)
app.add_typer(desks.desk_app, name="desk")
app.add_typer(params_app, name="params")
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")


def main() -> None:
    """The console script."""
    # OpenMP's threads spin while they wait for one another: on a machine that is busy a training then takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
