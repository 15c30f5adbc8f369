"""Settings that are harmless in simulation and refused with a real account. ``desk.mode`` is set as no file can set it."""

from __future__ import annotations

import pytest

from tickless.errors import SettingsError
from tickless.settings import Section, Settings, build_settings, load_desk


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


def test_both_are_as_before_in_simulation():
    assert load_desk("crossover").execution.filters is False
    assert load_desk("rotation", ["schedule.lease_ttl_s=60"]).schedule.lease_ttl_s == 60
