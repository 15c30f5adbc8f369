"""What docs/models.md says of measures, settings and commands, held against what there is."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from tickless.cli.app import app
from tickless.learn.validate import Measures
from tickless.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf8")


def test_every_measure_is_explained() -> None:
    table = PAGE.partition("## The measures")[2].partition("\n## ")[0]
    assert {field.name for field in fields(Measures)} <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("min_rank_ic", "`min_rank_ic` (0)"),
        ("min_rank_ic_t", "`min_rank_ic_t` (2.5)"),
        ("max_model_age_days", "`training.max_model_age_days` (30)"),
        ("effective_delay_min", "`training.effective_delay_min` (20 minutes)"),
    ],
)
def test_the_defaults_that_the_page_names_are_those_of_a_desk(key: str, told: str) -> None:
    assert told in PAGE
    assert re.search(r"\(([\d.]+)", told)[1] == f"{getattr(Settings().training, key):g}"  # type: ignore[index]


LINES = [line for line in re.search(r"```\n(.*?)```", PAGE, re.DOTALL)[1].splitlines() if line]  # type: ignore[index]


@pytest.mark.parametrize("line", LINES)
def test_every_command_of_the_page_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "market").mkdir()  # The folder that ``--data`` names has to be there.
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(line)
    assert name == "tickless"
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    context = command.make_context("tickless", arguments)
    assert not context.args
    assert context.params["models"] == Path("out/models")
