"""``tickless desk``: the built-in desk files."""

from __future__ import annotations

from typing import Annotated

import typer

from tickless.settings import builtin_desks, load_desk, read_desk

desk_app = typer.Typer(no_args_is_help=True, help="Desk files: show one to copy and change, check your own.")


@desk_app.command("show")
def show(name: Annotated[str, typer.Argument(help="A built-in name, such as rotation or crossover, or a file.")] = "rotation") -> None:
    """Print a desk file with its comments, to copy and change.

    Example: tickless desk show rotation > my-desk.toml
    """
    text, _ = read_desk(name)
    load_desk(name)
    typer.echo(text, nl=False)


@desk_app.command("list")
def list_desks() -> None:
    """List the built-in desks.

    Example: tickless desk list
    """
    for name in builtin_desks():
        typer.echo(name)


@desk_app.command("check")
def check(
    desk: Annotated[str, typer.Argument(help="A built-in name or a file.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, repeatable.")] = None,
) -> None:
    """Validate a desk file; exit code 2 and one sentence where it is wrong.

    Example: tickless desk check my-desk.toml --set risk.initial_stop_atr=2
    """
    settings = load_desk(desk, set_ or ())
    typer.echo(f"{desk}: good; settings_sha256 {settings.sha256()}")
