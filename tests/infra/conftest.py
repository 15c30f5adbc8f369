"""The synthesized templates, made once: jsii takes seconds to start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stack_reading import IMAGE

from infra.app import synthesize
from tickless.settings import Settings, load_desk, read_desk

OWNER = "owner@example.com"


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The built-in desk on stage dev."""
    return synthesize("rotation", "dev")


@pytest.fixture(scope="session")
def prod() -> dict[str, Any]:
    """The built-in desk on stage prod, with somebody to tell."""
    return synthesize("rotation", "prod", overrides=[f"alerts.email={OWNER}"])


CROSSOVER = "\n[strategy.crossover]\n"
"""A strategy that is scanned, with its own defaults."""


@pytest.fixture(scope="session")
def crossover_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk that runs ``crossover`` alone."""
    path = tmp_path_factory.mktemp("desk") / "crossover.toml"
    path.write_text(f'[desk]\nname = "crossover"\n{CROSSOVER}')
    return path


@pytest.fixture(scope="session")
def both_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in desk with ``crossover`` beside it."""
    text, _ = read_desk("rotation")
    path = tmp_path_factory.mktemp("desk") / "both.toml"
    path.write_text(text + CROSSOVER)
    return path


@pytest.fixture(scope="session")
def crossover(crossover_file: Path) -> dict[str, Any]:
    """The desk that runs ``crossover`` alone, on stage dev."""
    return synthesize(str(crossover_file), "dev")


@pytest.fixture(scope="session")
def both(both_file: Path) -> dict[str, Any]:
    """The desk that runs ``rotation`` and ``crossover``, on stage dev."""
    return synthesize(str(both_file), "dev")


@pytest.fixture(scope="session")
def desk() -> Settings:
    """The settings of the built-in desk."""
    return load_desk("rotation")


@pytest.fixture(scope="session")
def on_sagemaker() -> dict[str, Any]:
    """The built-in desk whose models are trained by SageMaker, on stage dev."""
    return synthesize("rotation", "dev", overrides=["training.runs_on=sagemaker", f"training.image={IMAGE}"])
