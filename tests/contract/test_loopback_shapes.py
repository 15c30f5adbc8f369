"""The loopback exchange's Binance answers have every field that recorded ones have, of the same kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import LoopbackExchange, World, ccxt_client
from tests.loopback.made_worlds import made_world

pytest_plugins = ["tests.loopback.fixtures"]

WHOLE = {"orderId", "orderListId", "time", "updateTime", "workingTime", "transactTime", "goodTillDate", "tradeGroupId"}
"""The recordings write some whole numbers as text, as ccxt's other languages do."""
ICEBERG = {"icebergQty"}


def kinds(answer: Any) -> Any:
    if isinstance(answer, list):
        return [kinds(one) for one in answer[:1]]
    if isinstance(answer, dict):
        return {name: "whole" if name in WHOLE else kinds(value) for name, value in answer.items()}
    return type(answer).__name__


@pytest.mark.realdata
def test_recorded_fields_are_all_there(serve: Callable[[World], tuple[LoopbackExchange, str]], root: Path) -> None:
    file = root.parent / "shared" / "fixtures" / "ccxt_static" / "binance_subset.json"
    recorded = {name: [one["httpResponse"] for one in cases] for name, cases in json.loads(file.read_text())["methods"].items()}
    exchange, url = serve(made_world())
    spot, futures = (ccxt_client(name, url, exchange.world, lambda: exchange.clock.now_ms) for name in ("binance", "binanceusdm"))
    limit = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "50000"}
    futures.fapiprivate_post_order({"symbol": "ETHUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"})
    ours = {
        "createOrder": [spot.private_post_order(limit)],
        "createOrders": [[futures.fapiprivate_post_order(limit)]],
        "fetchOrders": [spot.private_get_allorders({"symbol": "BTCUSDT"})],
        "fetchOHLCV": [spot.public_get_klines({"symbol": "BTCUSDT", "interval": "1h", "limit": 3})],
        "fetchTicker": [spot.public_get_ticker_24hr({"symbol": "BTCUSDT"})],
        "fetchBalance": [futures.fapiprivatev3_get_account()],
        "fetchPositions": [futures.fapiprivatev3_get_positionrisk()],
    }

    for name, answers in ours.items():
        for answer, example in zip(answers, recorded[name], strict=False):
            _compare(name, kinds(answer), kinds(example))


def _compare(where: str, ours: Any, recorded: Any) -> None:
    if isinstance(recorded, list):
        for one, other in zip(ours, recorded, strict=bool(recorded)):
            _compare(where, one, other)
    elif isinstance(recorded, dict):
        missing = recorded.keys() - ours.keys() - ICEBERG
        assert not missing, f"{where}: {sorted(missing)}"
        for name in recorded.keys() & ours.keys():
            _compare(f"{where}.{name}", ours[name], recorded[name])
    else:
        assert ours == recorded or {ours, recorded} == {"int", "str"}, where
