"""Settings that are valid and do less than they say are named."""

import pytest

from tickless.settings import builtin_desks, cautions, load_desk

LIMIT = "execution.order_type=limit"
BARS_OF_5_MIN = ("desk.timeframe=5m", "schedule.risk_check_every_min=5")


def told(*overrides, desk="rotation"):
    return cautions(load_desk(desk, [override if "." in override else f"execution.{override}" for override in overrides]))


@pytest.mark.parametrize("desk", builtin_desks())
def test_the_presets_have_none(desk):
    assert told(desk=desk) == ()
    assert told(LIMIT, desk=desk) == ()


@pytest.mark.parametrize("order_type", ["market", "limit"])
def test_a_model_that_nobody_trains(order_type):
    (sentence,) = told("strategy.rotation.model_6h=rotation_6hh", f"execution.order_type={order_type}")
    assert sentence == (
        "strategy.rotation.model_6h: 'rotation_6hh' has no specification models/rotation_6hh/spec.toml, so it is never trained: without a "
        "registered model of this name the strategy does without it; known: crossover_setup, rotation_24h, rotation_6h"
    )


def test_what_goes_on_with_limit_orders_alone():
    requotes, cross = told("unfilled_requotes=2", "unfilled_action=cross")
    assert requotes == (
        "execution.unfilled_requotes: 2 does nothing with execution.order_type = 'market': only limit orders are quoted again"
    )
    assert cross.startswith("execution.unfilled_action: 'cross' does nothing with execution.order_type = 'market'")


def test_an_order_that_ends_before_a_bar_can_fill_it():
    (sentence,) = told(LIMIT, "unfilled_timeout_s=899")
    assert sentence == (
        "execution.unfilled_timeout_s: 899 ends a limit order before a bar can fill it where it rests: with desk.timeframe = '15m' that "
        "takes 900 s in simulation, so only marketable limits fill there"
    )
    assert told(LIMIT, "unfilled_timeout_s=900") == ()
    assert told("unfilled_timeout_s=60") == (), "a market order needs no bar to close"
    (sentence,) = told(LIMIT, "unfilled_timeout_s=1799", "latency_s=5")
    assert "with desk.timeframe = '15m' and execution.latency_s = 5 that takes 1800 s" in sentence
    assert told(LIMIT, "unfilled_timeout_s=1800", "latency_s=5") == ()
    assert told(LIMIT, "unfilled_timeout_s=300", *BARS_OF_5_MIN) == ()


def test_what_a_rebalance_always_forestalls():
    (sentence,) = told(LIMIT, "unfilled_timeout_s=900", "unfilled_requotes=2")
    assert sentence == (
        "execution.unfilled_requotes: 2 comes to 1 at most: with execution.unfilled_timeout_s = 900 the next rebalance of rotation "
        "(schedule.rebalance_every_min = 30) decides on the pair anew before the next"
    )
    (sentence,) = told(LIMIT, "unfilled_timeout_s=900", "unfilled_requotes=1", "unfilled_action=cross")
    assert sentence.startswith("execution.unfilled_action: 'cross' after execution.unfilled_requotes = 1 is never reached: with ")
    assert sentence.endswith("decides on the pair anew before it")
    (sentence,) = told(LIMIT, "unfilled_requotes=1")
    assert "comes to none at most" in sentence
    assert len(told(LIMIT, "unfilled_requotes=1", "unfilled_action=cross")) == 2


@pytest.mark.parametrize(
    ("seconds", "requotes", "more"),
    [
        (900, 1, ()),
        (900, 3, ("schedule.rebalance_every_min=60",)),
        (600, 2, BARS_OF_5_MIN),
        (301, 2, BARS_OF_5_MIN),
        (300, 5, BARS_OF_5_MIN),
    ],
)
def test_as_many_steps_as_there_is_room_for(seconds, requotes, more):
    assert told(LIMIT, f"unfilled_timeout_s={seconds}", f"unfilled_requotes={requotes}", *more) == ()
    assert told(LIMIT, f"unfilled_timeout_s={seconds}", f"unfilled_requotes={requotes - 1}", "unfilled_action=cross", *more) == ()
    (sentence,) = told(LIMIT, f"unfilled_timeout_s={seconds}", f"unfilled_requotes={requotes + 1}", *more)
    assert f"comes to {requotes} at most" in sentence


def test_a_desk_of_signals_alone_is_forestalled_by_no_rebalance():
    assert told(LIMIT, "unfilled_requotes=9", "unfilled_action=cross", desk="crossover") == ()


SWAP = ("desk.market_type=swap", "desk.leverage=10")


def test_leverage_that_liquidates_before_the_desk_would_leave():
    where = "desk.leverage: 10 lets the exchange liquidate a position before it has fallen by 10 %"
    assert told(*SWAP) == (), "the presets leave at 1.75 %"
    assert told(*SWAP, "risk.max_position_loss_frac=0.099") == ()
    assert told(*SWAP, "risk.max_position_loss_frac=0.1") == (f"{where}, and risk.max_position_loss_frac = 0.1 closes it no sooner",)
    without = (*SWAP, "risk.max_position_loss_frac=off")
    assert told(*without) == (f"{where}, and a stop of risk.initial_stop_atr = 1.3 may lie beyond that: set risk.max_position_loss_frac",)
    bare = f"{where}, and no stop closes it sooner: risk.max_position_loss_frac and risk.initial_stop_atr are off"
    assert told(*without, "risk.initial_stop_atr=off") == (bare,)
    assert told(*without, "desk.margin_mode=cross") == (), "there the whole account stands in"
    assert told("desk.market_type=swap", "risk.max_position_loss_frac=off") == (), "without leverage a position can fall to nothing"


LIVE = ("desk.mode=live", "desk.secret_name=desk/keys")


def test_stops_that_are_promised_where_none_rests():
    resting = (*LIVE, "stoploss_on_exchange=true")
    assert told(*resting) == ()
    assert told("stoploss_on_exchange=true", "desk.exchange=bybit") == (), "a dry run has stops everywhere"
    (sentence,) = told(*resting, "desk.exchange=bybit")
    assert sentence == (
        "execution.stoploss_on_exchange: true does nothing at bybit, where none of ours rests: the desk's own check, every 15 min, is all "
        "there is"
    )


def test_crossing_where_market_buys_are_by_value():
    crossing = (*LIVE, LIMIT, "unfilled_timeout_s=900", "unfilled_action=cross")
    assert told(*crossing) == ()
    assert told(*crossing, "desk.exchange=gate") == (
        "execution.unfilled_action: 'cross' sends sells alone at gate, which takes market buys by their cost",
    )
