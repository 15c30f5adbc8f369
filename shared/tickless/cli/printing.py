"""How results look: one JSON document for machines, a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer

WIDE = 200
"""Columns of a table that goes into a file or a pipe."""


def print_json(content: Any) -> None:
    """One JSON document on stdout; refuses NaN."""
    typer.echo(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; ``right`` names the columns that are numbers. None is shown as a dash."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def note(sentence: str) -> None:
    """A sentence beside the result: on stderr, so that it is in nobody's pipe."""
    typer.echo(sentence, err=True)


def percent(frac: float, digits: int = 2) -> str:
    """A share in per cent with its sign; what rounds to nothing has none."""
    return no_sign_of_nothing(f"{frac * 100:+.{digits}f} %")


def no_sign_of_nothing(text: str) -> str:
    """``-0.00 %`` and ``+0.00 %`` as ``0.00 %``; other numbers as they are."""
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")
