"""The ``tickless`` command: mounts every command, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tickless
from tickless.cli import (
    commanding,
    desks,
    explaining,
    features,
    invoking,
    lookahead,
    operating,
    practising,
    reproducing,
    running,
    training,
    tuning,
    walking,
)
from tickless.cli.data import data_app
from tickless.cli.models import models_app
from tickless.cli.params import params_app
from tickless.errors import InputError, RefusedError, TicklessError

FAILED, BAD_INPUT, REFUSED = 1, 2, 3


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for arguments that cannot be parsed; it moved from click's modules into typer's own."""


class OneSentence(TyperGroup):
    """Errors of the package and of arguments end as one sentence on stderr: exit code 2 for bad input, 3 for a refusal, 1 for the rest."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Parse the arguments before the command's name."""
        try:
            return super().make_context(*arguments, **named)
        except _UsageError as error:
            raise _misused(error) from error

    def invoke(self, ctx: Any) -> Any:
        """Parse the command's arguments, and run it."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            raise _misused(error) from error
        except TicklessError as error:
            typer.echo(f"tickless: {error}", err=True)
            code = BAD_INPUT if isinstance(error, InputError) else REFUSED if isinstance(error, RefusedError) else FAILED
            raise typer.Exit(code) from error


def _misused(error: Any) -> Exception:
    """What ends the process for arguments that are wrong, told in a sentence; a group without a command shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error  # type: ignore[no-any-return]
    sentence = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    # Where pydantic has looked at a value, typer keeps the value to itself.
    problems: list[Any] = getattr(error.__cause__ or error.__context__, "errors", list)()
    given = repr(problems[0]["input"]) if problems else ""
    if given not in sentence:
        sentence += f" (got {given})"
    where = f"{'' if sentence.endswith('?') else ';'} `{error.ctx.command_path} --help` shows how" if error.ctx is not None else ""
    typer.echo(f"tickless: {sentence}{where}", err=True)
    return typer.Exit(BAD_INPUT)


app = typer.Typer(
    name="tickless",
    cls=OneSentence,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A crypto trading desk that exists only while it decides. Exit codes: 0 done, 1 failed, 2 bad input, 3 refused for safety.",
    epilog="Example: tickless demo --days 3 --out out/demo",
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
app.command()(practising.practise)
app.command()(running.replay)
app.command()(running.backtest)
app.command()(running.compare)
app.command()(training.train)
app.command("walk-forward")(walking.walk_forward)
app.command()(tuning.tune)
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
models_app.command()(reproducing.reproduce)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")


def main() -> None:
    """The console script."""
    # OpenMP's threads spin while they wait for one another: on a machine that is busy a training then takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        where = error.filename or "the output"
        sys.stderr.write(f"tickless: {where}: cannot be read or written ({error.strerror or error})\n")
        # What is left in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(FAILED)
