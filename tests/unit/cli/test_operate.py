"""``tickless status``, ``positions``, ``orders``, ``trades``, ``why``, ``halt``, ``resume``, ``flatten``, ``accept`` on a desk."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tickless.adapters.memory import ManualClock
from tickless.cli.commanding import flatten_desk, halt_desk
from tickless.errors import FencedError, LeaseHeldError
from tickless.types import Halt, LedgerUpdate, Order, OrderStatus, OrderType, Reducing, Side, Tick, TickRecord, iso, parse_time

FIRST, SECOND = "2024-06-01T00:00:00Z", "2024-06-01T06:00:00Z"


@pytest.fixture
def traded(deployed):
    """The desk after its first full rebalance."""
    assert deployed.tick("full_rebalance", FIRST).payload["positions"] > 0
    return deployed


def rewrite(deployed, **changes):
    """Change the desk's state as a tick would."""
    ledger = deployed.adapters.ledger
    fence = ledger.acquire("test", parse_time(FIRST), 60)
    state = replace(ledger.load(), **changes)
    ledger.journal(fence, [LedgerUpdate(desk=state, orders=tuple(state.orders.values()))])
    ledger.release(fence)


def sink(deployed, drawdown_frac: float):
    """Let the peak lie so high above the equity that the drawdown is this deep."""
    state = deployed.adapters.ledger.load()
    rewrite(deployed, peak_equity=(equity_of(state) / Decimal(str(1 - drawdown_frac))).quantize(Decimal("0.01")))


def equity_of(state) -> Decimal:
    value = state.cash
    for pair, position in state.positions.items():
        value += position.qty * Decimal(repr(state.marks.get(pair, float(position.entry_price))))
    return value


def test_a_desk_that_never_ran(tickless, deployed):
    assert tickless.json("status") == {
        "stage": "dev",
        "state": "NEVER RUN",
        "refused_parameters": [],
        "mode": "dry_run",
        "exchange": "binance",
        "market_type": "spot",
        "sandbox": False,
        "moves_to": None,
    }
    assert "has never run" in tickless("status").stdout
    assert tickless("positions").stdout == "no position\n"
    assert tickless("orders").stdout == "no order\n"
    assert tickless("orders", "--open").stdout == "no order\n"
    assert tickless("trades").stdout == "no closed trade\n"
    assert "the desk has never run" in tickless.refused("halt", "--reason", "why")
    assert "the desk has never run" in tickless.refused("resume")
    assert deployed.adapters.ledger.load() is None


def test_status_is_the_state_of_the_ledger(tickless, traded):
    state = traded.adapters.ledger.load()
    facts = tickless.json("status")
    assert facts["state"] == "ACTIVE"
    assert facts["last_tick"] == f"{FIRST}#full_rebalance"
    assert facts["last_tick_status"] == "done"
    assert facts["overdue"] is True
    assert Decimal(facts["cash"]) == state.cash
    assert Decimal(facts["equity"]) == pytest.approx(equity_of(state))
    assert facts["positions"] == len(state.positions)
    assert (facts["regime"], facts["regime_at"]) == (state.regime, FIRST)
    assert facts["drawdown_frac"] == pytest.approx(float(equity_of(state) / state.peak_equity) - 1)
    table = tickless("status").stdout
    for words in ("ACTIVE", "dry_run on binance", f"{FIRST}#full_rebalance (done)", "days ago, OVERDUE", "none used at the last tick"):
        assert words in table


@pytest.mark.parametrize(("settings", "last"), [({"strategy.crossover": "{}"}, "scan-crossover"), ({}, "full_rebalance")])
def test_the_last_tick_may_be_a_scan_of_a_strategy_that_the_desk_runs(tickless, traded, settings, last):
    ledger = traded.adapters.ledger
    fence = ledger.acquire("test", parse_time(FIRST), 60)
    record = TickRecord(Tick(parse_time(FIRST), "scan", "crossover"), "done", fence.number)
    ledger.journal(fence, [LedgerUpdate(record=record, settings=settings)])
    ledger.release(fence)
    assert tickless.json("status")["last_tick"] == f"{FIRST}#{last}"


def test_status_names_refused_parameters(tickless, traded, put):
    put("risk", "rubbish")
    put("strategy.nope", "{}")
    (broken, unknown) = tickless.json("status")["refused_parameters"]
    assert broken.startswith("parameter risk: not JSON")
    assert unknown.startswith("strategy.nope: unknown section")
    assert "keeps its last good value: parameter risk: not JSON" in tickless("status").stderr


def test_status_of_a_desk_that_can_never_start(tickless, deployed, put):
    put("risk", "rubbish")
    assert tickless.json("status")["refused_parameters"] == [
        "parameter risk: not JSON (Expecting value: line 1 column 1 (char 0))",
    ]


def test_positions_orders_and_trades_are_those_of_the_ledger(tickless, traded):
    traded.tick("full_rebalance", SECOND)
    ledger = traded.adapters.ledger
    state = ledger.load()
    rows = tickless.json("positions")
    assert [row["pair"] for row in rows] == sorted(state.positions)
    for row in rows:
        position = state.positions[row["pair"]]
        assert Decimal(row["qty"]) == position.qty
        assert row["stop_price"] == position.stop.stop_price
        assert row["value"] == pytest.approx(float(position.qty) * state.marks.get(row["pair"], float(position.entry_price)), abs=0.01)
        assert row["open_pnl"] == pytest.approx(row["open_pnl_frac"] * float(position.bought_value), abs=0.05)
    short, wide = tickless("positions").stdout, tickless("positions", "--wide").stdout
    assert "stop price" in short
    assert "enter" not in short
    assert "enter tag" in " ".join(wide.split())
    every = list(ledger.orders())
    shown = tickless.json("orders", "--last", 1000)
    assert [row["client_order_id"] for row in shown] == [order.client_order_id for order in every]
    assert {row["status"] for row in shown} == {"filled"}
    assert tickless.json("orders", "--last", 2) == shown[-2:]
    pair = shown[0]["pair"]
    of_pair = [row for row in shown if row["pair"] == pair]
    assert tickless.json("orders", "--pair", pair) == tickless.json("orders", "--pair", pair.lower()) == of_pair
    assert tickless.json("why", pair.lower()) == tickless.json("why", pair) != []
    assert pair in tickless("orders").stdout
    trades = list(ledger.trades())
    assert trades
    assert [Decimal(row["pnl"]) for row in tickless.json("trades", "--last", 1000)] == [trade.pnl for trade in trades]


def test_open_orders_are_shown_alone(tickless, traded):
    at = parse_time(FIRST)
    order = Order("an-open-one", at, "rotation", "BTC/USDT", Side.BUY, OrderType.LIMIT, Decimal("0.10"), "top_k", status=OrderStatus.OPEN)
    rewrite(traded, orders={order.client_order_id: order})
    assert [(row["client_order_id"], row["status"], row["qty"]) for row in tickless.json("orders", "--open")] == [
        ("an-open-one", "open", "0.1")
    ]
    assert tickless.json("status")["open_orders"] == 1
    assert "an-open-one" in [row["client_order_id"] for row in tickless.json("orders", "--last", 100)]


def test_halt_stops_buying_and_resume_lets_it_buy(tickless, deployed):
    deployed.tick("risk_check", "2024-05-31T23:45:00Z")
    done = tickless.json("halt", "--reason", "maintenance at noon")
    assert (done["state"], done["reason"], done["already_halted"]) == ("HALTED", "maintenance at noon", False)
    halted = deployed.tick("full_rebalance", FIRST).payload
    assert (halted["halted"], halted["orders"], halted["positions"]) == (True, 0, 0)
    facts = tickless.json("status")
    assert (facts["state"], facts["halt_reason"], facts["halted_since"]) == ("HALTED", "maintenance at noon", done["since"])
    again = tickless("halt", "--reason", "something else").stdout
    assert "is halted already" in again
    assert "maintenance at noon" in again
    assert "dev is active again (was halted since" in tickless("resume").stdout
    resumed = deployed.tick("full_rebalance", SECOND).payload
    assert (resumed["halted"], resumed["positions"] > 0) == (False, True)


def test_a_halt_keeps_positions_and_everything_else(tickless, traded):
    before = traded.adapters.ledger.load()
    tickless("halt", "--reason", "why")
    after = traded.adapters.ledger.load()
    assert after.halt is not None
    assert replace(after, halt=None) == before
    tickless("resume")
    assert traded.adapters.ledger.load() == before


def test_a_halt_without_a_word_is_by_hand_and_one_with_an_empty_reason_is_refused(tickless, traded):
    assert "--reason: must say why" in tickless.refused("halt", "--reason", " ")
    assert traded.adapters.ledger.load().halt is None
    assert tickless.json("halt")["reason"] == "by hand"


def test_resume_of_an_active_desk_changes_nothing(tickless, traded):
    sink(traded, 0.5)
    before = traded.adapters.ledger.load()
    assert tickless("resume", "--reset-peak").stdout == "dev is not halted; nothing was changed\n"
    assert traded.adapters.ledger.load() == before


@pytest.mark.parametrize(
    ("drawdown_frac", "option", "resets", "halts_again"),
    [
        (0.10, None, False, False),
        (0.10, "--reset-peak", True, False),
        (0.25, None, True, False),
        (0.25, "--reset-peak", True, False),
        (0.25, "--keep-peak", False, True),
    ],
)
def test_resume_resets_the_peak_only_where_the_kill_switch_would_halt_again(tickless, traded, drawdown_frac, option, resets, halts_again):
    tickless("halt", "--reason", "why")
    sink(traded, drawdown_frac)
    peak = traded.adapters.ledger.load().peak_equity
    result = tickless("resume", *([option] if option else []))
    state = traded.adapters.ledger.load()
    assert state.halt is None
    assert (state.peak_equity < peak) == resets
    assert ("is forgotten" in result.stdout) == resets
    assert ("the next risk check halts the desk again" in result.stderr) == halts_again
    if resets:
        assert state.peak_equity == pytest.approx(equity_of(state))
    next_check = traded.tick("risk_check", "2024-06-01T00:15:00Z").payload
    assert next_check["halted"] == halts_again


def test_the_kill_switch_of_the_last_good_section_counts(tickless, traded, put):
    tickless("halt", "--reason", "why")
    sink(traded, 0.25)
    put("risk", "rubbish")
    assert tickless.json("resume")["halts_again"] is False
    state = traded.adapters.ledger.load()
    assert state.peak_equity == pytest.approx(equity_of(state))


def test_a_running_tick_is_waited_for_and_an_abandoned_one_is_fenced(traded, capsys):
    ledger, clock = traded.adapters.ledger, ManualClock(parse_time(FIRST))
    stuck = ledger.acquire("a tick that hangs", clock.now(), 240)
    before = ledger.load()
    halted, already = halt_desk(ledger, clock, "why")
    assert clock.now() - parse_time(FIRST) == timedelta(seconds=240)
    assert (halted.since, already) == (clock.now(), False)
    assert "waiting for the tick that runs: the lease is held by a tick that hangs" in capsys.readouterr().err
    with pytest.raises(FencedError):
        ledger.journal(stuck, [LedgerUpdate(desk=before)])
    assert ledger.load().halt == halted


def test_a_lease_that_is_never_given_back_ends_the_wait(traded):
    ledger, clock = traded.adapters.ledger, ManualClock(parse_time(FIRST))
    ledger.acquire("a long one", clock.now(), 900)
    with pytest.raises(LeaseHeldError, match="held by a long one"):
        halt_desk(ledger, clock, "why")
    assert ledger.load().halt is None


def test_the_lease_is_given_back(tickless, traded):
    tickless("halt", "--reason", "why")
    tickless("resume")
    first = traded.adapters.ledger.acquire("next tick", parse_time(FIRST), 60)
    assert first.owner == "next tick"


def test_status_shows_what_holds_beside_the_mode(tickless, traded):
    at = parse_time(FIRST)
    lost = Order("lost-1", at, "rotation", "BTC/USDT", Side.BUY, OrderType.MARKET, Decimal(1), "entry", status=OrderStatus.UNKNOWN)
    reducing = Reducing("BTC/USDT: the ledger holds 1, the exchange 0", at)
    rewrite(traded, reducing=reducing, external={"XYZ": Decimal("7.50"), "BNB": Decimal(1)}, orders={"lost-1": lost})
    facts = tickless.json("status")
    assert (facts["state"], facts["reducing_since"], facts["reducing_reason"]) == ("REDUCING", FIRST, reducing.reason)
    assert (facts["external"], facts["unknown_orders"]) == ({"BNB": "1", "XYZ": "7.5"}, ["lost-1"])
    table = tickless("status").stdout
    for words in (f"REDUCING since {FIRST}: BTC/USDT: the ledger holds 1", "lost-1", "1 BNB, 7.5 XYZ"):
        assert words in table
    tickless("halt", "--reason", "why")
    facts = tickless.json("status")
    assert (facts["state"], facts["halt_reason"], facts["reducing_reason"]) == ("HALTED", "why", reducing.reason)
    assert "reducing" in tickless("status").stdout


def test_a_closed_market_shows_in_positions_and_status(tickless, traded):
    pair, *others = sorted(traded.adapters.ledger.load().positions)
    rewrite(traded, quarantined={pair: FIRST})
    assert {row["pair"]: row["quarantined_since"] for row in tickless.json("positions")} == {pair: FIRST, **dict.fromkeys(others)}
    assert tickless.json("status")["quarantined_pairs"] == {pair: FIRST}
    assert f"{pair} since {FIRST}" in tickless("status").stdout


def test_where_each_stop_is_shows_in_positions_and_status(tickless, traded):
    assert "desk, every 15 min" in tickless("status").stdout
    state = traded.adapters.ledger.load()
    first, second, *others = sorted(state.positions)
    rests = Order(
        "stop-1", parse_time(FIRST), "rotation", first, Side.SELL, OrderType.STOP, Decimal(1), "stop_loss", status=OrderStatus.OPEN
    )
    rewrite(
        traded, orders={"stop-1": replace(rests, stop_price=Decimal("12.5"))}, unprotected={second: "the exchange takes no stops for it"}
    )
    rows = {row["pair"]: (row["stop_on_exchange"], row["not_on_exchange"]) for row in tickless.json("positions")}
    assert rows[first] == ("12.5", None)
    assert rows[second] == (None, "the exchange takes no stops for it")
    assert {rows[pair] for pair in others} <= {(None, None)}
    facts = tickless.json("status")
    assert (facts["stops_on_exchange"], facts["stops_not_on_exchange"]) == ([first], {second: "the exchange takes no stops for it"})
    table = " ".join(tickless("status").stdout.split())
    assert f"on exchange: {first}" in table
    assert "no stops" in table


def test_resume_leaves_reducing_to_the_exchange(tickless, traded):
    reducing = Reducing("BTC/USDT: the ledger holds 1, the exchange 0", parse_time(FIRST))
    rewrite(traded, reducing=reducing)
    tickless("halt", "--reason", "why")
    done = tickless("resume")
    assert "no longer halted, but reduces" in done.stdout
    assert (traded.adapters.ledger.load().reducing, traded.adapters.ledger.load().halt) == (reducing, None)


# Flatten


@pytest.mark.parametrize("command", [("halt",), ("flatten", "--yes"), ("accept", "--yes")])
def test_a_reason_may_not_be_longer_than_a_ledger_should_carry(tickless, traded, command):
    before = traded.adapters.ledger.load()
    assert tickless.refused(*command, "--reason", "x" * 501) == "tickless: --reason: has 501 characters, at most 500"
    assert traded.adapters.ledger.load() == before


def test_flatten_needs_a_yes_and_a_reason(tickless, traded):
    before = traded.adapters.ledger.load()
    assert tickless.refused("flatten", code=3) == "tickless: flatten sells everything that dev holds, at market; say --yes"
    assert "--reason: must say why" in tickless.refused("flatten", "--yes", "--reason", " ")
    assert traded.adapters.ledger.load() == before


def test_flatten_sells_everything_at_the_next_risk_check_and_leaves_the_desk_halted(tickless, traded):
    done = tickless.json("flatten", "--yes", "--reason", "leaving")
    assert (done["state"], done["reason"], done["already_flattening"]) == ("HALTED", "leaving", False)
    asked = traded.adapters.ledger.load()
    facts = tickless.json("status")
    assert (facts["state"], facts["halt_reason"]) == ("HALTED", "flatten: leaving")
    assert (facts["flatten_reason"], facts["flatten_since"]) == ("leaving", done["since"])
    assert "leaving" in tickless("status").stdout
    assert "already" in tickless("flatten", "--yes", "--reason", "again").stdout
    assert traded.adapters.ledger.load() == asked, "asking twice asks once"

    sold = traded.tick("risk_check", "2024-06-01T00:15:00Z").payload
    assert (sold["orders"], sold["positions"]) == (len(asked.positions), 0)
    exits = {trade.exit_reason for trade in traded.adapters.ledger.trades()}
    assert exits == {"flatten"}
    assert tickless.json("status")["flatten_since"] == done["since"], "over once a risk check has seen that nothing is left"
    traded.tick("risk_check", "2024-06-01T00:30:00Z")
    facts = tickless.json("status")
    assert (facts["flatten_since"], facts["state"]) == (None, "HALTED")
    rebalanced = traded.tick("full_rebalance", SECOND).payload
    assert (rebalanced["orders"], rebalanced["positions"]) == (0, 0)


def test_resume_ends_a_flatten(tickless, traded):
    tickless("flatten", "--yes")
    assert tickless.json("resume")["was_flattening"] is True
    state = traded.adapters.ledger.load()
    assert (state.flatten, state.halt) == (None, None)
    assert traded.tick("risk_check", "2024-06-01T00:15:00Z").payload["positions"] == len(state.positions)


def test_a_flatten_waits_for_a_running_tick(traded):
    ledger, clock = traded.adapters.ledger, ManualClock(parse_time(FIRST))
    ledger.acquire("a tick that hangs", clock.now(), 240)
    wanted, already = flatten_desk(ledger, clock, "why")
    assert (wanted.since, already) == (parse_time(FIRST) + timedelta(seconds=240), False)


# Accept


def test_accept_needs_a_yes_a_reason_and_a_desk_that_reduces(tickless, traded):
    before = traded.adapters.ledger.load()
    assert "say --yes" in tickless.refused("accept", code=3)
    assert "--reason: must say why" in tickless.refused("accept", "--yes", "--reason", " ")
    assert "the desk is ACTIVE, its ledger and the exchange agree" in tickless.refused("accept", "--yes", code=3)
    tickless("halt", "--reason", "why")
    assert "the desk is HALTED, its ledger and the exchange agree" in tickless.refused("accept", "--yes", code=3)
    assert replace(traded.adapters.ledger.load(), halt=None) == before


def test_accept_is_stored_shown_asked_once_and_over_when_the_difference_is_another_one(tickless, traded):
    differs = "BTC/USDT: the ledger holds 1, the exchange 0"
    rewrite(traded, reducing=Reducing(differs, parse_time(FIRST)))
    done = tickless.json("accept", "--yes", "--reason", "sold by hand")
    assert (done["reason"], done["mismatch"], done["already_accepting"]) == ("sold by hand", differs, False)
    asked = traded.adapters.ledger.load()
    facts = tickless.json("status")
    assert (facts["state"], facts["accept_reason"], facts["accept_since"]) == ("REDUCING", "sold by hand", done["since"])
    assert "sold by hand" in tickless("status").stdout
    assert "already" in tickless("accept", "--yes", "--reason", "again").stdout
    assert traded.adapters.ledger.load() == asked, "asking twice asks once"

    traded.tick("risk_check", "2024-06-01T00:15:00Z")
    after = traded.adapters.ledger.load()
    assert (after.accept, after.reducing, after.positions.keys()) == (None, None, asked.positions.keys())
    assert [trade for trade in traded.adapters.ledger.trades() if trade.exit_reason == "written_off"] == []


# Why


def test_why_tells_what_each_tick_decided_of_a_pair_and_the_orders_that_came_of_it(tickless, traded):
    traded.tick("risk_check", "2024-06-01T00:15:00Z")
    ledger = traded.adapters.ledger
    pair = min(ledger.load().positions)
    bought, checked = tickless.json("why", pair)
    assert (bought["tick"], bought["action"]) == (f"{FIRST}#full_rebalance", "buy")
    (order,) = [order for order in ledger.orders() if order.pair == pair]
    assert bought["reason"] == order.reason
    assert [row["client_order_id"] for row in bought["orders"]] == [order.client_order_id]
    assert bought["score"] == traded.adapters.trace.read(Tick(parse_time(FIRST), "full_rebalance"))["pairs"][pair]["score"]
    assert (checked["at"], checked["action"], checked["reason"], checked["orders"]) == (
        "2024-06-01T00:15:00Z", "keep", "no_stop_hit", []
    )  # fmt: skip
    assert tickless.json("why", pair, "--last", 1) == [checked]
    for words in (pair, "full_rebalance", "risk_check", "no_stop_hit", order.reason):
        assert words in tickless("why", pair).stdout


def test_why_tells_of_a_pair_that_was_passed_over(tickless, traded):
    state = traded.adapters.ledger.load()
    told = traded.adapters.trace.read(Tick(parse_time(FIRST), "full_rebalance"))["pairs"]
    passed = next(pair for pair in told if pair not in state.positions)
    (entry,) = tickless.json("why", passed)
    assert (entry["action"], entry["reason"], entry["at"]) == ("pass", told[passed]["reason"], iso(state.last_tick_at))


def test_why_of_what_nobody_spoke_of(tickless, traded):
    assert tickless("why", "NOPE/USDT", "--hours", 1).stdout == "no tick of the last 1 h spoke of NOPE/USDT\n"
    assert "expected base and quote, such as BTC/USDT" in tickless.refused("why", "BTC")


def test_why_of_a_desk_that_never_ran(tickless, deployed):
    assert tickless.json("why", "BTC/USDT") == []
    assert deployed.adapters.ledger.load() is None


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "positions",
        "orders",
        "trades",
        "why",
        "halt",
        "resume",
        "flatten",
        "accept",
        "practise",
        "invoke",
        "params set",
        "params diff",
        "models list",
        "",
        "desk",
        "params",
        "models",
        "data",
    ],
)
def test_every_command_has_help_with_an_example(tickless, command):
    told = " ".join(tickless(*command.split(), "--help").stdout.replace("`", "").split())
    assert f"Example: tickless {command}".rstrip() in told


def test_json_is_one_document_even_when_refused_parameters_are_noted(tickless, traded, put):
    put("risk", "rubbish")
    assert json.loads(tickless("status", "--json").stdout)["stage"] == "dev"


LIVE_DESK = ("--set", "desk.mode=live", "--set", "desk.secret_name=desk/keys")


def to_live(text: str) -> str:
    return json.dumps(json.loads(text) | {"mode": "live", "secret_name": "desk/keys"})


def empty_and_halted(deployed, **changes):
    """The desk after a flatten that is over."""
    rewrite(deployed, halt=Halt("flatten: moving", parse_time(FIRST)), **changes)
    fence = deployed.adapters.ledger.acquire("test", parse_time(FIRST), 60)
    state = deployed.adapters.ledger.load()
    sold = tuple(replace(position, sold_qty=position.bought_qty) for position in state.positions.values())
    deployed.adapters.ledger.journal(fence, [LedgerUpdate(positions=sold)])
    deployed.adapters.ledger.release(fence)
    assert deployed.adapters.ledger.load().may_move


def test_resume_waits_for_the_tick_that_moves_the_desk_to_real_money(tickless, traded):
    empty_and_halted(traded)
    tickless("params", "push", "--desk", "rotation", *LIVE_DESK, "--yes", "--live")
    facts = tickless.json("status")
    assert (facts["mode"], facts["moves_to"]["mode"], facts["refused_parameters"]) == ("dry_run", "live", [])
    assert "dry_run on binance; moves to LIVE on binance, spot: REAL MONEY at its next tick" in tickless("status").stdout
    sentence = tickless.refused("resume", code=3)
    assert "desk.mode: 'live' in the place of 'dry_run'" in sentence
    assert "it moves at its next tick, resume after that, or set the parameter back" in sentence
    assert tickless.json("status")["state"] == "HALTED"
    tickless("params", "set", "desk.mode", "dry_run")
    assert tickless.json("status")["moves_to"] is None
    tickless("resume")


def test_resume_never_goes_on_with_real_money_where_the_parameters_say_dry_run(tickless, traded, put):
    there = traded.adapters.parameters.read()["desk"]
    fence = traded.adapters.ledger.acquire("test", parse_time(FIRST), 60)
    traded.adapters.ledger.journal(fence, [LedgerUpdate(settings={"desk": to_live(there)})])
    traded.adapters.ledger.release(fence)
    empty_and_halted(traded)
    assert "LIVE on binance, spot: REAL MONEY; moves to dry_run on binance at its next tick" in tickless("status").stdout
    assert "the desk would go on as LIVE on binance, spot: REAL MONEY" in tickless.refused("resume", code=3)
    assert traded.adapters.ledger.load().halt is not None


def test_resume_refuses_where_the_desk_holds_something_and_cannot_move(tickless, traded, put):
    tickless("halt", "--reason", "a look")
    put("desk", to_live(traded.adapters.parameters.read()["desk"]))
    assert "it moves once it is flattened" in tickless.refused("resume", code=3)
    facts = tickless.json("status")
    assert (facts["mode"], facts["moves_to"], len(facts["refused_parameters"])) == ("dry_run", None, 1)


@pytest.mark.parametrize("pair", ["BTCUSDT", "BTC-USDT", "BTC", ""])
def test_what_is_no_pairs_name_is_refused_not_searched_for(tickless, deployed, pair):
    for command in ("orders", "trades"):
        assert tickless.refused(command, "--pair", pair) == f"tickless: --pair {pair!r}: expected base and quote, such as BTC/USDT"
    assert tickless("orders", "--pair", "BTC/USDT").stdout == "no order\n"


def test_a_stop_is_listed_after_the_buy_that_it_protects(tickless, traded):
    def order(name, at, kind, side):
        return Order(name, parse_time(at), "rotation", "BTC/USDT", side, kind, Decimal(1), "x", status=OrderStatus.OPEN)

    stop, buy = order("a-stop", SECOND, OrderType.STOP, Side.SELL), order("b-buy", SECOND, OrderType.LIMIT, Side.BUY)
    sell = order("c-sell", SECOND, OrderType.MARKET, Side.SELL)
    later = order("0-later", "2024-06-01T12:00:00Z", OrderType.MARKET, Side.BUY)
    rewrite(traded, orders={one.client_order_id: one for one in (stop, buy, sell, later)})
    for options in (("--open",), ("--last", 4)):
        shown = [row["client_order_id"] for row in tickless.json("orders", *options)]
        assert shown == ["b-buy", "c-sell", "a-stop", "0-later"]
    assert [row["client_order_id"] for row in tickless.json("orders", "--last", 2)] == ["a-stop", "0-later"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("status", "--stage", "foo"),
            "Invalid value for '--stage': 'foo' is not one of 'dev', 'prod'; `tickless status --help` shows how",
        ),
        (("train",), "Missing option '--data'; `tickless train --help` shows how"),
        (("orders", "--last", "many"), "Invalid value for '--last': "),
        (("params", "set", "risk.time_stop_h"), "Missing argument 'value'; `tickless params set --help` shows how"),
        (("statos",), "No such command 'statos'"),
        (("--nope", "status"), "No such option: --nope"),
    ],
)
def test_arguments_that_are_wrong_end_in_one_sentence(tickless, words, sentence):
    told = tickless.refused(*words)
    assert told.startswith(f"tickless: {sentence}")
    assert "many" not in words or "'many'" in told


@pytest.mark.parametrize("words", [(), ("params",)])
def test_a_group_without_a_command_shows_its_help(tickless, words):
    result = tickless(*words, code=2)
    assert "Usage:" in result.output
    assert "tickless:" not in result.stderr
