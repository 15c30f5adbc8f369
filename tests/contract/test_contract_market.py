"""Market data of perpetual contracts, and the request budget of public requests: the real ccxt client, the exchange on loopback."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from tests.loopback import Fault, LoopbackExchange, point_at
from tests.loopback.made_worlds import made_world
from tickless.adapters.bar_files import parse_name
from tickless.adapters.ccxt_client import open_client
from tickless.adapters.ccxt_market import CcxtMarket, contract_size, is_ours, pair_rules
from tickless.adapters.weight_budget import MemoryWeightBudget, WeightLimits, WeightPurse
from tickless.errors import InputError, RateLimitedError, SettingsError
from tickless.ports import Priority
from tickless.runs.gather import universe_pairs
from tickless.settings import UniverseSection, load_desk
from tickless.strategies.rotation import market_pair
from tickless.types import from_ms, to_ms

pytest_plugins = ["tests.loopback.fixtures"]

D = Decimal
CONTRACTS = ["BNB/USDT:USDT", "BTC/USDT:USDT", "ETH/USDT:USDT"]


class Clock:
    """The exchange's, and ours: to sleep moves it."""

    def __init__(self, loopback: LoopbackExchange) -> None:
        self.loopback = loopback
        self.slept: list[float] = []

    def now(self):
        return from_ms(self.loopback.clock.now_ms)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.loopback.set_time(self.now() + timedelta(seconds=seconds))


@pytest.fixture
def opened(serve):
    """A market, its exchange, its clock."""

    def make(market_type="swap", **options):
        loopback, url = serve(made_world())
        clock = Clock(loopback)
        market = CcxtMarket("binance", "USDT", market_type=market_type, now=clock.now, sleep=clock.sleep, threads=1, **options)
        point_at(market.client, url)
        return market, loopback, clock

    return make


def purse_of(per_min: int, reserve_frac: float = 0.2) -> tuple[WeightPurse, MemoryWeightBudget]:
    budget = MemoryWeightBudget(WeightLimits(per_min, reserve_frac))
    return WeightPurse(budget, 1), budget


def test_contracts_are_named_as_ccxt_and_freqtrade_name_them(opened):
    market, loopback, _ = opened()
    assert list(market.pairs()) == CONTRACTS
    assert sorted(market.rules()) == CONTRACTS
    assert {one.endpoint for one in loopback.log} == {"GET /fapi/v1/exchangeInfo"}, "nothing is asked of spot"
    settings = load_desk("rotation", ["desk.market_type=swap"])
    assert universe_pairs(market.pairs(), settings.universe, "USDT") == tuple(CONTRACTS)
    assert market_pair(settings) == "BTC/USDT:USDT"
    with pytest.raises(SettingsError, match=r"pair_whitelist: 'BTC/USDT' has no bars on this market"):
        universe_pairs(market.pairs(), UniverseSection(pair_whitelist=("BTC/USDT",)), "USDT")


def test_bars_and_opens_of_contracts_are_those_of_the_exchange(opened):
    market, loopback, clock = opened()
    panel, now = loopback.world.panel, clock.now()
    bars = market.bars(CONTRACTS, "15m", now - timedelta(hours=6), now)
    here = panel.closed_at(now)
    assert bars.pairs == tuple(CONTRACTS)
    np.testing.assert_array_equal(bars.close[-1], here.select(["BNB/USDT", "BTC/USDT", "ETH/USDT"]).close[-1])
    assert bars.rows == 24
    assert not np.isnan(bars.close).any()
    assert market.opens(["BTC/USDT:USDT"], "15m", now)["BTC/USDT:USDT"] > 0


def test_filters_of_contracts_are_in_base_units():
    market = {"symbol": "PEPE/USDT:USDT", "contract": True, "contractSize": 1000.0, "precision": {"amount": 1.0, "price": 0.01}}
    rules = pair_rules("PEPE/USDT:USDT", {**market, "limits": {"amount": {"min": 2.0}, "cost": {"min": 5.0}}}, 4)
    assert (rules.qty_step, rules.min_qty, rules.price_step, rules.min_notional) == (D(1000), D(2000), D("0.01"), D(5))
    assert contract_size({"contract": False, "contractSize": 7}) == 1


@pytest.mark.parametrize(
    ("market", "ours"),
    [
        ({"swap": True, "quote": "USDT", "settle": "USDT"}, True),
        ({"swap": True, "quote": "USDT", "settle": "BTC"}, False),
        ({"future": True, "quote": "USDT", "settle": "USDT"}, False),
        ({"spot": True, "quote": "USDT"}, False),
        ({"swap": True, "quote": "USDC", "settle": "USDC"}, False),
    ],
)
def test_only_perpetual_contracts_settled_in_the_stake_currency_are_ours(market, ours):
    assert is_ours(market, "swap", "USDT") is ours


@pytest.mark.parametrize("market_type", ["spot", "swap"])
def test_public_requests_spend_of_the_shared_budget_and_leave_the_exits_their_share(opened, market_type):
    purse, budget = purse_of(1000)
    market, _, clock = opened(market_type, purse=purse, time_left_s=lambda: 30.0)
    market.bars(market.pairs(), "15m", clock.now() - timedelta(hours=6), clock.now())
    spent = budget.state.used(to_ms(clock.now()))
    assert 0 < spent <= 800
    assert clock.slept == []
    budget.take(1000 - spent, clock.now(), Priority.EXIT)
    with pytest.raises(RateLimitedError, match="request budget"):
        market.opens(market.pairs(), "1h", clock.now().replace(minute=0))


def test_a_first_tick_waits_for_its_turn_while_there_is_time(opened):
    purse, _ = purse_of(20)
    left = [200.0]
    market, _, clock = opened(purse=purse, time_left_s=lambda: left[0])
    market.pairs()
    for pair in CONTRACTS:
        market.bars([pair], "15m", clock.now() - timedelta(days=1), clock.now())
    assert clock.slept, "the minute's weight is spent more than once over"
    left[0] = 30.0
    with pytest.raises(RateLimitedError, match="are spent"):
        market.bars(CONTRACTS * 3, "15m", clock.now() - timedelta(days=1), clock.now())


@pytest.mark.parametrize(("fault", "pause_s"), [(Fault.RATE_LIMIT, 30), (Fault.BANNED, 120)])
@pytest.mark.parametrize(("market_type", "klines"), [("spot", "GET /api/v3/klines"), ("swap", "GET /fapi/v1/klines")])
def test_a_limit_on_a_public_request_is_told_to_every_function(opened, fault, pause_s, market_type, klines):
    purse, budget = purse_of(6000)
    market, loopback, clock = opened(market_type, purse=purse)
    (pair, *_), now = market.pairs(), clock.now()
    loopback.faults.next(klines, fault, retry_after=pause_s)
    with pytest.raises(RateLimitedError) as refused:
        market.bars([pair], "15m", now - timedelta(hours=1), now)
    assert refused.value.retry_at == now + timedelta(seconds=pause_s)
    with pytest.raises(RateLimitedError, match="has told us to wait"):
        budget.take(1, now + timedelta(seconds=pause_s - 1), Priority.EXIT)
    with pytest.raises(RateLimitedError):
        market.bars([pair], "15m", now - timedelta(hours=1), now)
    assert clock.slept == [], "what the exchange asks for is not slept through under the desk's lease"
    loopback.set_time(now + timedelta(seconds=pause_s))
    assert market.bars([pair], "15m", now - timedelta(hours=1), now).rows == 4


def test_contracts_are_downloaded_in_freqtrade_s_names(serve, monkeypatch, tmp_path):
    from tickless.adapters import bar_download

    loopback, url = serve(made_world())
    now = from_ms(loopback.clock.now_ms)
    monkeypatch.setattr(bar_download, "open_client", lambda *arguments: point_at(open_client(*arguments), url))
    get = lambda pairs: bar_download.download(  # noqa: E731
        "binance", pairs, "15m", now - timedelta(hours=5), now, tmp_path, file_format="feather", now=lambda: now
    )
    report = get(["BTC/USDT:USDT", "ETH/USDT:USDT"])
    assert {one.status for one in report.pairs} == {"done"}
    assert {parse_name(path).pair for path in tmp_path.glob("*.feather")} == {"BTC/USDT:USDT", "ETH/USDT:USDT"}
    assert all(one.span.rows == 20 for one in report.pairs)
    with pytest.raises(InputError, match="BTC/USDT:USDT is a contract and others are spot pairs"):
        get(["BTC/USDT:USDT", "ETH/USDT"])
