"""Settings that are harmless in simulation and refused with a real account. ``desk.mode`` is set as no file can set it."""

from __future__ import annotations

import pytest

from tickless.adapters.ccxt_client import exchange_class
from tickless.errors import SettingsError
from tickless.settings import NO_SPOT_SANDBOX, PROVEN_EXCHANGES, Section, Settings, build_settings, load_desk


def sections(desk: str, *overrides: str) -> dict[str, Section]:
    """A desk's sections, with a real account."""
    settings = load_desk(desk, overrides)
    plain = {name: getattr(settings, name) for name in ("universe", "schedule", "execution", "portfolio", "risk", "training", "alerts")}
    live = settings.desk.model_copy(update={"mode": "live", "secret_name": "desk/keys"})
    return {**plain, "desk": live, **{f"strategy.{name}": section for name, section in settings.strategy.items()}}


def test_a_real_account_takes_no_orders_off_its_steps():
    with pytest.raises(SettingsError, match=r"^execution\.filters: false is for simulation; with desk\.mode = 'live' it must be true"):
        build_settings(sections("crossover"))
    assert isinstance(build_settings(sections("crossover", "execution.filters=true")), Settings)


def test_a_lease_on_a_real_account_outlasts_the_orders_that_are_on_their_way():
    with pytest.raises(SettingsError, match=r"^schedule\.lease_ttl_s: 60 is for simulation; .* at least 120"):
        build_settings(sections("rotation", "schedule.lease_ttl_s=60"))
    assert isinstance(build_settings(sections("rotation", "schedule.lease_ttl_s=120")), Settings)


@pytest.mark.parametrize("exchange", ["bitget", "coinbase", "gate", "gateeu", "htx"])
def test_a_real_account_buys_with_limit_orders_where_market_buys_are_by_value(exchange):
    with pytest.raises(
        SettingsError, match=rf"^execution\.order_type: 'market' would buy nothing: {exchange} takes market buys by their cost"
    ):
        build_settings(sections("rotation", f"desk.exchange={exchange}"))
    assert isinstance(build_settings(sections("rotation", f"desk.exchange={exchange}", "execution.order_type=limit")), Settings)


def test_a_real_account_is_where_orders_are_found_again():
    live = ["desk.mode=live", "desk.secret_name=desk/keys"]
    with pytest.raises(SettingsError, match=r"desk\.exchange: 'bitfinex': an order could be lost there: .* one of binance, .*, roostoo"):
        load_desk("rotation", [*live, "desk.exchange=bitfinex"])
    with pytest.raises(SettingsError, match=r"desk\.exchange: 'htx': .* on swap .* one of binance, binanceusdm, bybit, okx$"):
        load_desk("rotation", [*live, "desk.exchange=htx", "desk.market_type=swap"])
    assert load_desk("rotation", ["desk.exchange=bitfinex"]).desk.exchange == "bitfinex"


@pytest.mark.parametrize("exchange", sorted(NO_SPOT_SANDBOX))
def test_a_real_account_asks_for_no_sandbox_that_is_not_there(exchange):
    live = ["desk.mode=live", "desk.secret_name=desk/keys", "execution.order_type=limit", "desk.sandbox=true"]
    with pytest.raises(SettingsError, match=rf"desk\.sandbox: {exchange} has none for spot; begin with a dry run"):
        load_desk("rotation", [*live, f"desk.exchange={exchange}"])
    assert load_desk("rotation", [*live, "desk.exchange=bybit"]).desk.sandbox


def test_the_exchanges_without_a_sandbox_are_those_that_ccxt_cannot_switch():
    found = {name for name, kinds in PROVEN_EXCHANGES.items() if "spot" in kinds and not exchange_class(name)().urls.get("test")}
    assert found == NO_SPOT_SANDBOX


def test_a_mistyped_exchange_is_told_before_anything_else():
    live = ["desk.mode=live", "desk.secret_name=desk/keys", "desk.exchange=binnace"]
    with pytest.raises(SettingsError, match=r"desk\.exchange: 'binnace': did you mean 'binance'\? an order could be lost there"):
        load_desk("rotation", live)


def test_both_are_as_before_in_simulation():
    assert load_desk("crossover").execution.filters is False
    assert load_desk("rotation", ["schedule.lease_ttl_s=60"]).schedule.lease_ttl_s == 60
