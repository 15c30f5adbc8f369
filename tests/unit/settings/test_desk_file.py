"""The desk file: what it holds, what it refuses and in which words."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickless.errors import InputError, SettingsError
from tickless.settings import (
    MAX_SECTION_BYTES,
    DrawdownStep,
    RotationSection,
    Settings,
    UniverseSection,
    build_settings,
    builtin_desks,
    load_desk,
    parse_section,
    read_desk,
    section_text,
    section_type,
)

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a desk file; returns its path."""

    def to_file(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text, "utf8")
        return str(path)

    return to_file


def test_the_built_in_desk_spells_out_the_defaults() -> None:
    desk = load_desk("rotation")
    values = tomllib.loads(read_desk("rotation")[0])
    defaults = Settings(strategy={"rotation": RotationSection()})
    untiered = desk.universe.model_copy(update={"tier1": (), "tier2": (), "tier3": ()})

    assert "rotation" in builtin_desks()
    assert desk.model_copy(update={"universe": untiered}) == defaults
    assert (len(desk.universe.tier1), len(desk.universe.tier2), len(desk.universe.tier3)) == (12, 9, 6)
    assert values["desk"]["dry_run_wallet"] == 50_000


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("rsik.kill_switch_drawdown_frac", "risk"),
        ("risk.kill_switch_drawdown", "kill_switch_drawdown_frac"),
        ("portfolio.top_k.trendy", "trend"),
        ("strategy.rotation.ema_fast", "ema_fast_bars"),
        ("strategy.rotation.weights_trend.w6h", "w_6h"),
        ("execution.order_typ", "order_type"),
    ],
)
def test_an_unknown_key_that_is_like_a_known_one_is_told_which(key: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"unknown key \(got .*\); did you mean '{meant}'\?$"):
        load_desk("rotation", [f"{key}=1"])


@pytest.mark.parametrize("key", ["risk.zzz", "zzz.stop", "strategy.rotation.zzz.b"])
def test_an_unknown_key_that_is_like_none_is_told_no_other(key: str) -> None:
    with pytest.raises(SettingsError, match=r"unknown key \(got .*\)$"):
        load_desk("rotation", [f"{key}=1"])


def test_what_a_parameter_or_a_list_holds_is_told_the_same(write: Write) -> None:
    with pytest.raises(SettingsError, match=r"risk\.drawdown_steps\.0\.scal_frac: unknown key .*; did you mean 'scale_frac'\?"):
        load_desk(write("[risk]\ndrawdown_steps = [{ drawdown_frac = 0.1, scale_frac = 0.5, scal_frac = 0.5 }]\n[strategy.rotation]\n"))
    with pytest.raises(SettingsError, match=r"parameter strategy\.rotation\.ema_fast: unknown key .*; did you mean 'ema_fast_bars'\?"):
        parse_section("strategy.rotation", '{"ema_fast": 3}')
    with pytest.raises(SettingsError, match=r"risk\.a\.b: unknown key \(got 1\)$"):
        load_desk(write('[risk]\n"a.b" = 1\n[strategy.rotation]\n'))


def test_the_built_in_desk_names_every_key() -> None:
    values = tomllib.loads(read_desk("rotation")[0])
    shown = {name: set(table) for name, table in values.items() if name != "strategy"} | {
        f"strategy.{name}": set(table) for name, table in values["strategy"].items()
    }
    known = {name: set(section_type(name).model_fields) for name in shown}
    known["risk"] -= {"take_profit_atr"}  # off by default, and TOML has no null: it stands there as a comment

    assert shown == known
    assert "# take_profit_atr" in read_desk("rotation")[0]


def test_toml_to_parameters_and_back_changes_nothing(write: Write) -> None:
    money = "[desk]\ndry_run_wallet = 1234.56\n[risk]\ntake_profit_atr = 1.5\n"
    desk = load_desk(write(money + '[universe]\npair_whitelist = ["BTC/USDT"]\n[strategy.rotation]\n'))
    sections = desk.sections()
    back = build_settings({name: parse_section(name, text) for name, text in sections.items()})

    assert back == desk
    assert back.sections() == sections
    assert back.sha256() == desk.sha256()
    assert str(back.desk.dry_run_wallet) == "1234.56"
    assert all(len(text.encode()) <= MAX_SECTION_BYTES and json.loads(text) for text in sections.values())


frac = st.floats(0.0, 1.0, allow_subnormal=False)


@given(
    caps=st.tuples(frac, frac, frac, frac),
    depths=st.lists(st.floats(0.001, 1.0), max_size=4, unique=True),
    hours=st.sets(st.integers(0, 23)),
    time_stop=st.none() | st.floats(0.001, 1e6),
)
def test_any_valid_desk_survives_the_round_trip(
    caps: tuple[float, ...], depths: list[float], hours: set[int], time_stop: float | None
) -> None:
    steps = tuple(DrawdownStep(drawdown_frac=depth, scale_frac=0.5) for depth in sorted(depths))
    desk = Settings.model_validate(
        {
            "portfolio": dict(zip(("tier1_cap_frac", "tier2_cap_frac", "tier3_cap_frac", "tier3_sleeve_frac"), caps, strict=True)),
            "risk": {"drawdown_steps": [step.model_dump() for step in steps], "time_stop_h": time_stop},
            "schedule": {"full_rebalance_hours": sorted(hours)},
            "strategy": {"rotation": {}},
        }
    )

    assert build_settings({name: parse_section(name, text) for name, text in desk.sections().items()}) == desk


def test_the_hash_follows_the_values(write: Write) -> None:
    plain = load_desk("rotation")

    assert load_desk("rotation", ["risk.time_stop_h=24"]).sha256() == plain.sha256()
    assert load_desk("rotation", ["risk.time_stop_h=25"]).sha256() != plain.sha256()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[risk]\nstop = 1", "risk.stop: unknown key (got 1)"),
        ("[rsk]\nstop = 1", "rsk: unknown key (got {'stop': 1})"),
        ("[strategy.rotation]\nfoo = true", "strategy.rotation.foo: unknown key (got True)"),
        ("[strategy.momentum]\nfoo = 1", "strategy: unknown strategy 'momentum'; known: crossover, rotation"),
        ("strategy = 3", "strategy: must be a table of strategies"),
        ("risk = [1]", "risk: must be a table (got [1])"),
        ("[strategy]\nrotation = 3", "strategy.rotation: must be a table (got 3)"),
        ('[portfolio]\ntier1_cap_frac = "0.15"', "portfolio.tier1_cap_frac: input should be a valid number (got '0.15')"),
        ("[portfolio]\ntier1_cap_frac = true", "portfolio.tier1_cap_frac: input should be a valid number (got True)"),
        ("[portfolio]\ntier1_cap_frac = 1.5", "portfolio.tier1_cap_frac: input should be less than or equal to 1 (got 1.5)"),
        ("[portfolio]\ntier3_sleeve_frac = -0.1", "portfolio.tier3_sleeve_frac: input should be greater than or equal to 0 (got -0.1)"),
        ("[portfolio]\nhysteresis_frac = nan", "portfolio.hysteresis_frac: input should be a finite number (got nan)"),
        ("[portfolio]\ntop_k = { trend = 8, side = 6 }", "portfolio.top_k.side: unknown key (got 6)"),
        ("[portfolio]\ntop_k = { trend = 8.5, chop = 6, down = 4 }", "portfolio.top_k.trend: input should be a valid integer (got 8.5)"),
        ("[risk]\ntrail_arm_atr = inf", "risk.trail_arm_atr: input should be a finite number (got inf)"),
        (
            "[risk]\ndrawdown_steps = [{ drawdown_frac = 0.1, scale_frac = 0.2 }, { drawdown_frac = 0.05, scale_frac = 0.5 }]",
            "risk.drawdown_steps: 0.05 after 0.1 must be deeper and scale more",
        ),
        ('[universe]\ntier1 = ["BTC", "ETH"]\ntier3 = ["ETH"]', "universe.tier3: 'ETH' is in tier1 already; tiers must not overlap"),
        ('[universe]\npair_whitelist = ["BTCUSDT"]', "universe.pair_whitelist: 'BTCUSDT' is not a pair such as 'BTC/USDT'"),
        ('[universe]\npair_whitelist = ["*", "BTC/USDT"]', "universe.pair_whitelist: '*' stands alone"),
        ('[universe]\npair_whitelist = ["BTC/USDT", "BTC/USDT"]', "universe.pair_whitelist: 'BTC/USDT' is named twice"),
        ("[universe]\npair_whitelist = []", "universe.pair_whitelist: must not be empty (got [])"),
        ('[universe]\npair_whitelist = "*"', "universe.pair_whitelist: must be a list such as '[\"*\"]' (got '*')"),
        ("[schedule]\nfull_rebalance_hours = [6, 0]", "schedule.full_rebalance_hours: [6, 0] must be rising hours of the day (0 to 23)"),
        ("[schedule]\nrisk_check_every_min = 7", "schedule.risk_check_every_min: input should be 5, 15 or 30 (got 7)"),
        (
            "[schedule]\nrisk_check_every_min = 30\nrebalance_every_min = 15",
            "schedule.rebalance_every_min: 15 must be a multiple of risk_check_every_min (30)",
        ),
        ('[schedule]\nretrain_at = "24:00"', "schedule.retrain_at: string should match pattern"),
        (
            "[strategy.rotation]\nweights_chop = { w_6h = 0.3, w_24h = 0.3 }",
            "strategy.rotation.weights_chop: w_6h + w_24h is 0.6, must be 1",
        ),
        ("[strategy.rotation]\nema_fast_bars = 300", "strategy.rotation.ema_fast_bars: 300 must be smaller than ema_slow_bars (200)"),
        (
            "[strategy.rotation]\nvolatility_mid_ann_frac = 0.9",
            "strategy.rotation.volatility_mid_ann_frac: 0.9 must be smaller than volatility_high_ann_frac",
        ),
        ('[desk]\nmode = "live"', "desk.secret_name: missing; a live desk needs the name of the secret with its keys"),
        ('[desk]\nmode = "paper"', "desk.mode: input should be 'dry_run' or 'live' (got 'paper')"),
        ("[desk]\nleverage = 3", "desk.leverage: 3 needs desk.market_type 'swap'; spot has none"),
        ('[desk]\nmarket_type = "swap"\nleverage = 21', "desk.leverage: input should be less than or equal to 20 (got 21)"),
        ('[desk]\nmarket_type = "future"', "desk.market_type: input should be 'spot' or 'swap' (got 'future')"),
        ('[desk]\nsecret_name = "my keys"', "desk.secret_name: string should match pattern"),
        ('[desk]\nexchange = "roostoo"', "desk.bars_exchange: roostoo has no candles; name the exchange that its bars come from"),
        ('[desk]\nexchange = "roostoo"\nbars_exchange = "roostoo"', "desk.bars_exchange: roostoo has no candles"),
        (
            '[desk]\nexchange = "roostoo"\nbars_exchange = "binance"\nmarket_type = "swap"',
            "desk.market_type: roostoo has no 'swap'",
        ),
        ('[desk]\nbars_exchange = "kraken"', "desk.bars_exchange: 'kraken' is for an exchange without candles; binance has its own"),
        ('[desk]\nbars_currency = "USD"', "desk.bars_currency: 'USD' is for an exchange without candles; binance has its own"),
        ("[execution]\nrequests_per_min = -1", "execution.requests_per_min: input should be greater than or equal to 0 (got -1)"),
        (
            "[execution]\nrequest_reserve_frac = 1.0",
            "execution.request_reserve_frac: input should be less than or equal to 0.9 (got 1.0)",
        ),
        ("[desk]\ndry_run_wallet = 0", "desk.dry_run_wallet: input should be greater than 0 (got 0)"),
        ("[desk]\ndry_run_wallet = true", "desk.dry_run_wallet: decimal input should be"),
        ('[alerts]\nemail = "nobody"', "alerts.email: string should match pattern"),
        ("[risk", "not TOML (Expected ']'"),
        ("a = " + "[" * 5000, "not TOML ("),
        ("[risk]\nblock_h = 1\nblock_h = 2\n[desk]\n", "not TOML (block_h is given twice, the second time at line 3)"),
        ("[risk]\nblock_h = 1\nblock_h = 2", "not TOML (block_h is given twice, the second time at line 3)"),
        ("[risk]\n[risk]\n", "not TOML (Cannot declare ('risk',) twice"),
        (".".join(["a"] * 20_000) + " = 1", "tables or lists nested more than 8 deep"),
        ("desk." + ".".join(["a"] * 20_000) + " = 1", "tables or lists nested more than 8 deep"),
        ('[universe]\npair_blacklist = ["*"]', "universe.pair_blacklist: '*' would leave no pair to trade"),
        ('[universe]\ntier2 = ["BTC/USDT"]', "universe.tier2: 'BTC/USDT' is not a base asset such as 'BTC'"),
        ('[universe]\ntier1 = [""]', "universe.tier1: '' is not a base asset such as 'BTC'"),
        ("[desk]\ndry_run_wallet = 1000000000001", "desk.dry_run_wallet: input should be less than or equal to 1000000000000"),
        ('[desk]\ntimeframe = "30m"', "schedule.risk_check_every_min: 15 is not a multiple of desk.timeframe '30m'"),
        (
            '[desk]\ntimeframe = "5m"\n[strategy.crossover]',
            "strategy.crossover.scan_every_min: 15 misses closes of desk.timeframe '5m': it looks at each",
        ),
        (
            '[desk]\ntimeframe = "1m"\n[strategy.crossover]\nscan_every_min = 5',
            "strategy.crossover.scan_every_min: 5 misses closes of desk.timeframe '1m': it looks at each",
        ),
        (
            '[desk]\ntimeframe = "15m"\n[strategy.crossover]\nscan_every_min = 5',
            "strategy.crossover.scan_every_min: 5 is not a multiple of desk.timeframe '15m'",
        ),
        ("[risk]", "strategy: the desk runs none; add a section such as [strategy.crossover]"),
        ("", "strategy: the desk runs none; add a section such as [strategy.crossover]"),
    ],
)
def test_bad_input_is_refused_by_name(write: Write, text: str, complaint: str) -> None:
    path = write(text)

    with pytest.raises(SettingsError) as caught:
        load_desk(path)

    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)  # exit code 2


def test_a_section_too_large_for_its_parameter_is_refused(write: Write) -> None:
    tiers = json.dumps([f"COIN{number}" for number in range(600)])
    path = write(f"[universe]\ntier1 = {tiers}")

    with pytest.raises(SettingsError, match=rf"mine.toml: universe: \d+ bytes as JSON, at most {MAX_SECTION_BYTES}"):
        load_desk(path)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_text("[desk]\nname = 'mine'\n[strategy.rotation]\n", "utf-8-sig")

    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert load_desk(str(path)).desk.name == "mine"
    assert read_desk(str(path))[0].startswith("[desk]")


def test_settings_without_a_strategy_can_be_made_but_not_loaded() -> None:
    assert Settings().strategy == {}
    assert load_desk("rotation", ["desk.dry_run_wallet=1000000000000"]).desk.dry_run_wallet == 10**12


@pytest.mark.parametrize("override", ["risk." + "a." * 20_000 + "b=1", "risk.time_stop_h=" + "[" * 100_000])
def test_an_override_that_is_nested_too_deep_is_refused(override: str) -> None:
    with pytest.raises(SettingsError, match="nested"):
        load_desk("rotation", [override])


def test_a_long_value_is_shown_in_part(write: Write) -> None:
    with pytest.raises(SettingsError) as caught:
        load_desk(write(f"[desk]\nname = '{'x' * 500}'"))

    assert str(caught.value).endswith("xxx...)")
    assert len(str(caught.value)) < 400


def test_no_such_desk(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"desk nowhere: neither a built-in desk \(.*rotation.*\) nor a file"):
        load_desk("nowhere")
    (tmp_path / "latin.toml").write_bytes(b'[desk]\nname = "\xe9"')
    with pytest.raises(SettingsError, match=r"latin.toml: cannot be read"):
        load_desk(str(tmp_path / "latin.toml"))


@pytest.mark.parametrize(
    ("section", "text", "complaint"),
    [
        ("risk", "{", "not JSON"),
        ("risk", "", "not JSON"),
        ("risk", "rubbish", "not JSON"),
        ("risk", "[" * 4000, "not JSON"),
        ("risk", "[]", "must be a table (got [])"),
        ("risk", "null", "must be a table (got None)"),
        ("portfolio", '{"tier1_cap_frac":NaN}', "portfolio.tier1_cap_frac"),
        ("strategy.rotation", '{"weights_chop":{"w_6h":2,"w_24h":0}}', "strategy.rotation.weights_chop.w_6h: input should be less than"),
        ("risk", '{"time_stop_h":"24"}', "risk.time_stop_h: input should be a valid number (got '24')"),
        ("risk", " " * (MAX_SECTION_BYTES + 1), f"{MAX_SECTION_BYTES + 1} bytes as JSON, at most {MAX_SECTION_BYTES}"),
        ("risks", "{}", "risks: unknown section; known: desk, universe,"),
        ("strategy.momentum", "{}", "strategy.momentum: unknown section"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(section: str, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_section(section, text, source="parameter")

    assert complaint in str(caught.value)
    assert section in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parameter_of_exactly_the_limit_is_taken() -> None:
    assert parse_section("risk", "{}" + " " * (MAX_SECTION_BYTES - 2)) == Settings().risk


@given(text=st.text(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_rubbish_in_a_parameter_raises_nothing_but_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_section("risk", text)


def test_null_switches_a_stop_off() -> None:
    assert parse_section("risk", '{"time_stop_h":null}') == Settings().risk.model_copy(update={"time_stop_h": None})


def test_sections_are_frozen_and_canonical() -> None:
    universe = UniverseSection(tier1=("BTC",))

    with pytest.raises(ValueError, match="frozen"):
        universe.tier1 = ()  # type: ignore[misc]
    assert list(json.loads(section_text(universe))) == sorted(UniverseSection.model_fields)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("execution.slippage_bps=0", ("execution", "slippage_bps"), 0.0),
        ("execution.close_at_end=true", ("execution", "close_at_end"), True),
        ('universe.pair_whitelist=["BTC/USDT"]', ("universe", "pair_whitelist"), ("BTC/USDT",)),
        ("portfolio.cut_off_goes_to=candidates", ("portfolio", "cut_off_goes_to"), "candidates"),
        ("portfolio.top_k.chop=3", ("portfolio", "top_k", "chop"), 3),
        ("strategy.rotation.weights_chop.w_6h=0.6", ("rotation", "weights_chop", "w_6h"), 0.6),
        ("risk.time_stop_h=null", ("risk", "time_stop_h"), None),
    ],
)
def test_overrides_reach_any_key(override: str, path: tuple[str, ...], value: object) -> None:
    found: object = load_desk("rotation", [override])
    for part in path:
        found = getattr(found, part)

    assert found == value


def test_the_last_override_wins() -> None:
    assert load_desk("rotation", ["risk.time_stop_h=1", "risk.time_stop_h=2"]).risk.time_stop_h == 2.0


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("risk", "--set risk: must be section.key=value"),
        ("risk=1", "--set risk=1: must be section.key=value"),
        ("risk.=1", "--set risk.=1: must be section.key=value"),
        ("desk.name.x=1", "--set desk.name.x=1: name is not a section"),
        ("risk.foo=1", "desk rotation --set risk.foo=1: risk.foo: unknown key (got 1)"),
        (
            "rotation.market_base=ETH",
            "--set rotation.market_base=ETH: rotation is a strategy; did you mean strategy.rotation.market_base",
        ),
        (
            "universe.pair_whitelist=[BTC/USDT, ETH/USDT]",
            (
                "desk rotation --set universe.pair_whitelist=[BTC/USDT, ETH/USDT]: universe.pair_whitelist: must be a list such as "
                """'["BTC/USDT", "ETH/USDT"]' (got '[BTC/USDT, ETH/USDT]')"""
            ),
        ),
        (
            "schedule.full_rebalance_hours=0,6",
            (
                "desk rotation --set schedule.full_rebalance_hours=0,6: "
                "schedule.full_rebalance_hours: must be a list such as '[0, 6]' (got '0,6')"
            ),
        ),
        ("universe.tier1=BTC", """desk rotation --set universe.tier1=BTC: universe.tier1: must be a list such as '["BTC"]' (got 'BTC')"""),
        (
            "portfolio.tier1_cap_frac=2",
            "desk rotation --set portfolio.tier1_cap_frac=2: portfolio.tier1_cap_frac: input should be less than",
        ),
    ],
)
def test_a_bad_override_is_refused_by_name(override: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_desk("rotation", [override])

    assert str(caught.value).startswith(complaint)


def test_a_desk_without_the_strategy_says_so() -> None:
    assert load_desk("rotation").rotation == RotationSection()
    with pytest.raises(SettingsError, match=r"strategy.rotation: this desk does not run"):
        _ = Settings().rotation


def test_sections_look_values_up_by_regime_and_tier() -> None:
    desk = load_desk("rotation")

    assert [desk.portfolio.top_k.of(regime) for regime in ("trend", "chop", "down")] == [8, 6, 4]
    assert [desk.portfolio.cash_buffer_frac.of(regime) for regime in ("trend", "chop", "down")] == [0.10, 0.20, 0.60]
    assert [desk.portfolio.tier_cap_frac(tier) for tier in (1, 2, 3)] == [0.15, 0.10, 0.05]
    assert [desk.rotation.horizon_weights(regime).w_6h for regime in ("trend", "chop", "down")] == [0.3, 0.6, 0.3]
