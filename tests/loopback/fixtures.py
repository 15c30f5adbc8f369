"""A pytest fixture; a test module names this one with ``pytest_plugins = ["tests.loopback.fixtures"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.loopback.exchange import LoopbackExchange
from tests.loopback.server import loopback_exchange
from tests.loopback.world import World


@pytest.fixture
def serve() -> Iterator[Callable[[World], tuple[LoopbackExchange, str]]]:
    """Starts an exchange over a world: the exchange and its URL. All end with the test."""
    with ExitStack() as stack:
        yield lambda world: stack.enter_context(loopback_exchange(world))
