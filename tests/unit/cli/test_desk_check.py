"""``tickless desk check``: what it refuses beside a desk file's own mistakes, and what it notes."""

import pytest


def checked(tickless, *overrides, code=0):
    return tickless("desk", "check", "rotation", *(word for text in overrides for word in ("--set", text)), code=code)


@pytest.mark.parametrize("mode", [(), ("desk.mode=live", "desk.secret_name=desk/keys")])
def test_an_exchange_that_nobody_knows_is_refused(tickless, mode):
    result = checked(tickless, *mode, "desk.exchange=nosuchex", code=2)
    assert result.stderr == "tickless: rotation: desk.exchange: 'nosuchex' is no exchange that ccxt knows\n"
    assert result.stdout == ""
    assert "rotation: good" in checked(tickless, *mode, "desk.exchange=kraken").stdout


def test_the_bars_of_roostoo_come_from_an_exchange_that_exists(tickless):
    assert "good" in checked(tickless, "desk.exchange=roostoo", "desk.bars_exchange=binance").stdout
    result = checked(tickless, "desk.exchange=roostoo", "desk.bars_exchange=nosuchex", code=2)
    assert "desk.bars_exchange: 'nosuchex' is no exchange" in result.stderr


def test_contracts_have_names_of_their_own(tickless):
    swap = "desk.market_type=swap"
    assert "good" in checked(tickless, swap).stdout
    assert "good" in checked(tickless, swap, 'universe.pair_whitelist=["BTC/USDT:USDT"]').stdout
    assert "good" in checked(tickless, 'universe.pair_whitelist=["BTC/USDT"]').stdout
    for key in ("pair_whitelist", "pair_blacklist"):
        sentence = checked(tickless, swap, f'universe.{key}=["BTC/USDT"]', code=2).stderr
        assert f"rotation: universe.{key}: 'BTC/USDT' is no contract's name; with desk.market_type = 'swap' " in sentence
        assert "must be such as 'BTC/USDT:USDT'" in sentence


def test_settings_that_do_nothing_are_noted_on_stderr(tickless):
    result = checked(tickless, "execution.unfilled_requotes=2")
    assert "good" in result.stdout
    assert result.stderr.startswith("rotation: execution.unfilled_requotes: 2 does nothing with execution.order_type = 'market'")


def test_a_shadow_that_outlives_its_version_is_noted(tickless):
    result = checked(tickless, "training.shadow_min_periods=60")
    assert result.stderr.startswith("rotation: training.shadow_min_periods: 60 takes 64 days of shadow for model rotation_24h")
