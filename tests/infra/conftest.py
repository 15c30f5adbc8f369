"""The synthesized templates, made once: jsii takes seconds to start."""

from __future__ import annotations

from typing import Any

import pytest

from infra.app import synthesize
from tickless.settings import Settings, load_desk

OWNER = "owner@example.com"


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The built-in desk on stage dev."""
    return synthesize("rotation", "dev")


@pytest.fixture(scope="session")
def prod() -> dict[str, Any]:
    """The built-in desk on stage prod, with somebody to tell."""
    return synthesize("rotation", "prod", overrides=[f"alerts.email={OWNER}"])


@pytest.fixture(scope="session")
def desk() -> Settings:
    """The settings of the built-in desk."""
    return load_desk("rotation")
