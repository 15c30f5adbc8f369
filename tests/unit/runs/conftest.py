"""A market of eight synthetic pairs, and desks that trade it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from made_world import T0, World, at
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.synthetic_market import make_market
from tickless.bars import COLUMNS
from tickless.settings import load_desk
from tickless.types import to_ms

EAGER = "strategy.rotation.fallback_threshold_frac=-1.0"
"""Without a model every pair is a candidate, so that a rebalance always has something to do."""


@pytest.fixture(scope="session")
def market() -> FolderMarket:
    made = make_market(start=T0 - timedelta(days=45), end=T0 + timedelta(days=1), pairs=8, seed=2, events=False)
    return FolderMarket(made.panel, made.rules)


@pytest.fixture(scope="session")
def crash_market(market: FolderMarket) -> FolderMarket:
    """The same market, which loses a tenth from the close of the bar that opens at T0 on."""
    panel = market.panel
    row = (to_ms(T0) - panel.start_ms) // panel.step_ms
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    for name in ("open", "high", "low", "close"):
        columns[name][row + 1 :] *= 0.9
    columns["close"][row] *= 0.9
    columns["low"][row] *= 0.9
    return FolderMarket(replace(panel, **columns), market.filters)


@pytest.fixture
def new_world(market: FolderMarket) -> Callable[..., World]:
    """A desk that has never run."""

    def make(*overrides: str, on: FolderMarket | None = None) -> World:
        return World(on or market, load_desk("rotation", [EAGER, *overrides]))

    return make


@pytest.fixture
def new_scanned(market: FolderMarket) -> Callable[..., World]:
    """A desk that runs ``crossover`` on two averages so short that pairs cross at nearly every bar, and has never run."""

    def make(*, on: FolderMarket | None = None) -> World:
        return World(on or market, load_desk("crossover", ["strategy.crossover.fast_bars=1", "strategy.crossover.slow_bars=2"]))

    return make


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()


@pytest.fixture
def invested(world: World) -> World:
    """A desk that has just bought, at T0."""
    world.run("full_rebalance", at(0))
    assert world.ledger.load().positions
    return world
