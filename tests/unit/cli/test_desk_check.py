"""``tickless desk check``: what it refuses beside a desk file's own mistakes, and what it notes."""

import pytest

from tickless.settings import NO_SPOT_SANDBOX, load_desk


def checked(tickless, *overrides, code=0):
    return tickless("desk", "check", "rotation", *(word for text in overrides for word in ("--set", text)), code=code)


@pytest.mark.parametrize("mode", [(), ("desk.mode=live", "desk.secret_name=desk/keys")])
def test_an_exchange_that_nobody_knows_is_refused(tickless, mode):
    result = checked(tickless, *mode, "desk.exchange=nosuchex", code=2)
    assert "rotation: desk.exchange: 'nosuchex' is no exchange that ccxt knows\n" in result.stderr
    assert result.stdout == ""
    assert "; did you mean 'binance'?" in checked(tickless, *mode, "desk.exchange=binnace", code=2).stderr
    assert "rotation: good" in checked(tickless, *mode, "desk.exchange=kraken").stdout


def test_no_desk_goes_live_where_its_orders_could_be_lost(tickless):
    live = ("desk.mode=live", "desk.secret_name=desk/keys")
    assert "good" in checked(tickless, "desk.exchange=hyperliquid").stdout
    result = checked(tickless, *live, "desk.exchange=hyperliquid", code=2)
    assert (
        "desk.exchange: 'hyperliquid': an order could be lost there: nobody has shown that hyperliquid tells orders on spot"
        in result.stderr
    )
    assert "with desk.mode = 'live' it must be one of binance, binanceus, " in result.stderr
    assert result.stderr.endswith("okxus, roostoo\n")
    assert "good" in checked(tickless, *live, "desk.exchange=bybit", "desk.market_type=swap").stdout
    refused = checked(tickless, *live, "desk.exchange=kraken", "desk.market_type=swap", code=2)
    assert "one of binance, binanceusdm, bybit, okx\n" in refused.stderr


@pytest.mark.parametrize("mode", [(), ("desk.mode=live", "desk.secret_name=desk/keys", "execution.order_type=limit")])
def test_a_sandbox_that_an_exchange_has_not_is_refused(tickless, mode):
    for exchange in sorted(NO_SPOT_SANDBOX):
        result = checked(tickless, *mode, f"desk.exchange={exchange}", "desk.sandbox=true", code=2)
        assert "begin with a dry run, then with an account that holds little" in result.stderr
        assert "desk.sandbox: " in result.stderr
    assert "good" in checked(tickless, *mode, "desk.exchange=okx", "desk.sandbox=true").stdout


def test_a_desk_is_told_where_an_exchange_hands_out_fewer_bars_than_it_reads(tickless):
    result = checked(tickless, "desk.exchange=kraken")
    assert "good" in result.stdout
    assert (
        "desk.exchange: 'kraken' hands out no more than the latest 720 bars of 15m, and the desk's strategies read about 3444 back: "
        "for its first 28.4 days" in result.stderr
    )
    assert "hands out" not in checked(tickless, "desk.exchange=gate").stderr
    roostoo = ("desk.exchange=roostoo", "desk.stake_currency=USD", "desk.bars_exchange=kraken")
    assert "desk.bars_exchange: 'kraken' hands out" in checked(tickless, *roostoo).stderr
    crossover = tickless("desk", "check", "crossover", "--set", "desk.exchange=kraken", code=0)
    assert "hands out" not in crossover.stderr


def test_no_desk_goes_live_whose_every_buy_would_be_refused(tickless):
    live = ("desk.mode=live", "desk.secret_name=desk/keys", "desk.exchange=gate")
    assert "good" in checked(tickless, "desk.exchange=gate").stdout
    result = checked(tickless, *live, code=2)
    assert "execution.order_type: 'market' would buy nothing: gate takes market buys by their cost" in result.stderr
    assert "good" in checked(tickless, *live, "execution.order_type=limit").stdout


def test_leverage_that_liquidates_before_the_desks_own_stop_is_noted(tickless):
    result = checked(tickless, "desk.market_type=swap", "desk.leverage=20", "risk.max_position_loss_frac=0.05")
    assert "good" in result.stdout
    assert "desk.leverage: 20 lets the exchange liquidate a position before it has fallen by 5 %" in result.stderr


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


def test_the_result_for_machines_holds_the_notes(tickless):
    facts = tickless.json("desk", "check", "rotation", "--set", "execution.unfilled_requotes=2")
    assert facts["desk"] == "rotation"
    assert facts["settings_sha256"] == load_desk("rotation", ["execution.unfilled_requotes=2"]).sha256()
    assert [note.partition(":")[0] for note in facts["notes"]] == ["execution.unfilled_requotes"]
