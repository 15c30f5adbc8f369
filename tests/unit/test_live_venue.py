"""Which venue bootstrap opens for which settings: keys, request budget and time of a real account. Nothing is asked of anybody."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from made_world import make_order, make_panel, steady
from tickless.adapters.ccxt_exchange import CcxtExchange
from tickless.adapters.ccxt_market import CcxtMarket
from tickless.adapters.folder_market import FolderMarket
from tickless.adapters.roostoo_exchange import RoostooExchange
from tickless.adapters.roostoo_market import RoostooMarket
from tickless.adapters.sim_exchange import SimExchange
from tickless.adapters.weight_budget import MemoryWeightBudget, WeightLimits, WeightPurse
from tickless.bootstrap import KEYS_FOR_S, Cloud, Environment, Wiring, open_venue, time_left_s
from tickless.errors import AccountError, RetryableError
from tickless.ports import Priority
from tickless.settings import Settings, load_desk

ENVIRONMENT = Environment("dev", "desk", "bucket", "arn:aws:sns:eu-central-1:123456789012:alerts")
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def live(**changes: Any) -> Settings:
    """The built-in desk with an account; a desk file cannot say so yet."""
    settings = load_desk("rotation")
    account = {"mode": "live", "secret_name": "desk/keys", **changes}
    return settings.model_copy(update={"desk": settings.desk.model_copy(update=account)})


class Services:
    """AWS clients that answer from memory, and count."""

    def __init__(self) -> None:
        self.keys = {"apiKey": "first-key", "secret": "first-secret"}
        self.asked: list[str] = []

    def __call__(self, service: str) -> Any:
        self.asked.append(service)
        return SimpleNamespace(get_secret_value=lambda **_: {"SecretString": self.secret()})

    def secret(self) -> str:
        return json.dumps(self.keys)


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def cloud(services: Services, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = Cloud(ENVIRONMENT)
    monkeypatch.setattr(made, "_client", services)
    made.accounts.now = lambda: NOW
    made.accounts.monotonic = lambda: 1000.0
    return made


def test_a_dry_run_trades_at_the_simulated_exchange_and_reads_no_keys(cloud, services):
    venue = open_venue(Wiring(), cloud, load_desk("rotation"))
    assert isinstance(venue.exchange, SimExchange)
    assert isinstance(venue.market, CcxtMarket)
    assert "secretsmanager" not in services.asked


def test_a_live_desk_trades_with_the_keys_that_its_settings_name(cloud, services):
    venue = open_venue(Wiring(), cloud, live(sandbox=True))
    assert isinstance(venue.exchange, CcxtExchange)
    client = venue.exchange.client
    assert (client.id, client.apiKey, client.secret) == ("binance", "first-key", "first-secret")
    assert client.isSandboxModeEnabled
    assert client.options["defaultType"] == "spot"
    assert services.asked.count("secretsmanager") == 1


def test_where_the_market_is_replaced_even_a_live_desk_trades_at_the_simulated_exchange(cloud, services):
    """A replay of a live desk must never reach its account."""
    venue = open_venue(Wiring(FolderMarket(make_panel({"BTC/USDT": steady()}), {})), cloud, live())
    assert isinstance(venue.exchange, SimExchange)
    assert "secretsmanager" not in services.asked


def test_a_warm_start_reads_no_keys_and_loads_no_markets_until_the_keys_are_old(cloud, services):
    first = open_venue(Wiring(), cloud, live()).exchange
    services.keys = {"apiKey": "second-key", "secret": "second-secret"}
    assert open_venue(Wiring(), cloud, live()).exchange is first
    cloud.accounts.monotonic = lambda: 1000.0 + KEYS_FOR_S
    second = open_venue(Wiring(), cloud, live()).exchange
    assert isinstance(second, CcxtExchange)
    assert second.client.apiKey == "second-key"
    assert services.asked.count("secretsmanager") == 2


@pytest.mark.parametrize("secret", ["not json", '{"apiKey": "a"}'])
def test_keys_that_cannot_be_had_refuse_every_request_and_are_read_again(cloud, services, monkeypatch, secret):
    """So that the tick which asks first is recorded, and halts the desk: a venue that did not open would tell nobody."""
    monkeypatch.setattr(services, "secret", lambda: secret)
    exchange = open_venue(Wiring(), cloud, live()).exchange
    order = make_order()
    for ask in (lambda: exchange.snapshot(NOW, ()), lambda: exchange.submit(order, NOW), lambda: exchange.cancel(order, NOW)):
        with pytest.raises(AccountError, match="desk/keys"):
            ask()
    monkeypatch.undo()
    monkeypatch.setattr(cloud, "_client", services)
    assert isinstance(open_venue(Wiring(), cloud, live()).exchange, CcxtExchange)


def test_other_settings_open_another_account(cloud):
    first = open_venue(Wiring(), cloud, live()).exchange
    assert open_venue(Wiring(), cloud, live(exchange="kraken")).exchange is not first


def test_a_desk_at_roostoo_takes_its_bars_from_another_exchange(cloud):
    settings = live(exchange="roostoo", stake_currency="USD", bars_exchange="binance", bars_currency="USDT")
    venue = open_venue(Wiring(), cloud, settings)
    assert isinstance(venue.market, RoostooMarket)
    assert isinstance(venue.exchange, RoostooExchange)
    assert open_venue(Wiring(), cloud, settings).exchange is not venue.exchange, "what was sent is read anew"
    dry = settings.model_copy(update={"desk": settings.desk.model_copy(update={"mode": "dry_run"})})
    assert isinstance(open_venue(Wiring(), cloud, dry).exchange, SimExchange)


def test_a_desk_of_contracts_has_market_and_account_of_contracts(cloud):
    venue = open_venue(Wiring(), cloud, live(market_type="swap", leverage=3, margin_mode="cross"))
    assert isinstance(venue.market, CcxtMarket)
    assert isinstance(venue.exchange, CcxtExchange)
    assert {client.options["defaultType"] for client in (venue.market.client, venue.exchange.client)} == {"swap"}
    assert venue.exchange._margin == {"leverage": 3, "marginMode": "cross"}
    assert open_venue(Wiring(), cloud, live()).market is not venue.market


@pytest.mark.parametrize(("asked_for", "expected"), [(0, 6000), (900, 900)])
def test_the_request_budget_is_the_settings_or_the_exchange_s_own(cloud, asked_for, expected):
    settings = live()
    execution = settings.execution.model_copy(update={"requests_per_min": asked_for, "request_reserve_frac": 0.3})
    venue = open_venue(Wiring(), cloud, settings.model_copy(update={"execution": execution}))
    (purse,) = cloud.accounts._purses.values()
    assert purse._budget._limits == WeightLimits(expected, 0.3)
    assert purse._block == expected // 10
    assert isinstance(venue.market, CcxtMarket)
    assert venue.market._purse is purse, "bars are paid for out of the same budget"


def test_what_is_not_spent_goes_back_at_the_end_of_an_invocation(cloud):
    budget = MemoryWeightBudget(WeightLimits(100))
    purse = WeightPurse(budget, 10)
    cloud.accounts._purses["binance", 0, 0.2] = purse
    purse.spend(4, NOW, Priority.EXIT)
    assert budget.state.used(1000 * int(NOW.timestamp())) == 10
    cloud.accounts.close()
    assert budget.state.used(1000 * int(NOW.timestamp())) == 4


def test_a_request_that_would_outlast_the_function_is_not_made(cloud):
    exchange = open_venue(Wiring(), cloud, live()).exchange
    cloud.accounts.time_left_s = time_left_s(SimpleNamespace(get_remaining_time_in_millis=lambda: 700))
    with pytest.raises(RetryableError, match=r"not asked: 0\.7 s are left of this function's time"):
        exchange.snapshot(NOW + timedelta(minutes=1), ())


def test_a_context_that_says_nothing_sets_no_limit():
    assert time_left_s(None)() == float("inf")


def test_a_dry_run_s_cold_start_loads_no_account(tmp_path):
    code = (
        "import sys, tickless.bootstrap; "
        "print([n for n in sys.modules if n.startswith(('tickless.adapters.ccxt_exchange', 'tickless.adapters.roostoo', "
        "'tickless.adapters.secrets', 'tickless.adapters.dynamodb_weight'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
