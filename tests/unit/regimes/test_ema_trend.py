"""The regime against its rules, written out bar by bar."""

import math

import numpy as np
import pytest

from made_panels import MONDAY, rescaled, walk, without
from tickless.bars import Panel
from tickless.regimes.ema_trend import REGIMES, VOLATILITY_REGIMES, detect, startup_bars
from tickless.settings import RotationSection
from tickless.types import to_ms

SETTINGS = RotationSection()
QUICK = RotationSection(ema_fast_bars=8, ema_slow_bars=20)


def market(closes, timeframe="30m"):
    column = np.asarray(closes, dtype=float)[:, None]
    return Panel(timeframe, ("BTC/USDT",), to_ms(MONDAY), column, column, column, column, np.ones_like(column))


def regimes(panel, settings=SETTINGS, r_24h=None, max_gap_bars=4):
    return detect(panel, np.zeros((panel.rows, 1)) if r_24h is None else r_24h, settings, max_gap_bars)


def slow_regime(closes, settings):
    """(name, volatility regime, volatility) after the last of the 30m closes."""
    if len(closes) < settings.ema_slow_bars:
        return "chop", "mid", math.nan

    def emas(bars):
        out = [closes[0]]
        for close in closes[1:]:
            out.append(out[-1] + 2.0 / (bars + 1.0) * (close - out[-1]))
        return out

    fast, slow = emas(settings.ema_fast_bars), emas(settings.ema_slow_bars)
    slope = fast[-1] - fast[-1 - settings.slope_bars]
    name = "trend" if fast[-1] > slow[-1] and slope > 0 else "down" if fast[-1] < slow[-1] and slope < 0 else "chop"
    returns = [math.log(b / a) for a, b in zip(closes[-96:-1], closes[-95:], strict=True)]
    centre = math.fsum(returns) / 95
    volatility = math.sqrt(math.fsum((r - centre) ** 2 for r in returns) / 95) * math.sqrt(48 * 365)
    level = "high" if volatility > 0.8 else "mid" if volatility > 0.4 else "low"
    return name, level, volatility


@pytest.mark.parametrize(("seed", "sigma"), [(1, 0.001), (2, 0.0045), (3, 0.009), (4, 0.006)])
def test_every_row_agrees_with_a_slow_reference(seed, sigma):
    closes = walk(("BTC/USDT",), 330, timeframe="30m", seed=seed, sigma=sigma).close[:, 0]
    table = regimes(market(closes))
    seen = set()
    for t in range(len(closes)):
        got = table.at(t)
        name, level, volatility = slow_regime(list(closes[: t + 1]), SETTINGS)
        assert (got.name, got.volatility) == (name, level), t
        if not math.isnan(volatility):
            assert got.volatility_ann_frac == pytest.approx(volatility, rel=1e-9)
        seen.add(got.name)
    assert len(seen) > 1


def test_fewer_than_the_slow_bars_are_chop_and_mid():
    rising = 100.0 * 1.001 ** np.arange(201)
    table = regimes(market(rising))
    assert {(table.at(t).name, table.at(t).volatility) for t in range(199)} == {("chop", "mid")}
    assert (table.at(199).name, table.at(199).volatility) == ("trend", "low")


def test_a_rise_is_a_trend_a_fall_is_down_and_a_turn_is_chop():
    rise, fall = 100.0 * 1.002 ** np.arange(300), 100.0 * 0.998 ** np.arange(300)
    assert regimes(market(rise)).at(299).name == "trend"
    assert regimes(market(fall)).at(299).name == "down"
    turn = np.concatenate([rise, rise[-1] * 0.997 ** np.arange(1, 36)])
    # The fast average is still above the slow one but already falls.
    assert regimes(market(turn)).at(334).name == "chop"


def test_the_slope_looks_back_four_bars():
    closes = np.concatenate([100.0 * 1.002 ** np.arange(300), [182.0, 150.0]])
    table = regimes(market(closes))
    name, _, _ = slow_regime(list(closes), SETTINGS)
    assert table.at(301).name == name
    one_bar = RotationSection(slope_bars=1)
    assert regimes(market(closes), one_bar).at(301).name == slow_regime(list(closes), one_bar)[0]


@pytest.mark.parametrize(("sigma_ann", "level"), [(0.30, "low"), (0.55, "mid"), (1.10, "high")])
def test_volatility_is_annualised_by_the_half_hours_of_a_365_day_year(sigma_ann, level):
    step = sigma_ann / math.sqrt(48 * 365)
    closes = 100.0 * np.exp(np.cumsum(np.where(np.arange(400) % 2 == 0, step, -step)))
    got = regimes(market(closes)).at(399)
    assert got.volatility == level
    assert got.volatility_ann_frac == pytest.approx(sigma_ann, rel=1e-3)


@pytest.mark.parametrize("rows", range(8))
def test_a_market_of_a_few_bars_is_chop(rows):
    table = regimes(walk(("BTC/USDT",), rows))
    assert [table.at(t).name for t in range(rows)] == ["chop"] * rows


def test_base_bars_see_the_last_half_hour_that_has_closed():
    panel = walk(("BTC/USDT",), 400, seed=4)
    table = regimes(panel, QUICK)
    closes = panel.close[1::2, 0]
    for t in range(200, 400):
        half_hours = (t + 1) // 2
        assert table.at(t).name == slow_regime(list(closes[:half_hours]), QUICK)[0]
    # An odd quarter of an hour knows no more than the one before.
    assert [table.at(t) for t in range(200, 400, 2)] == [table.at(t) for t in range(199, 399, 2)]


def test_a_long_gap_of_the_market_starts_the_regime_anew():
    panel = market(100.0 * 1.002 ** np.arange(300))
    bridged = regimes(without(panel, "BTC/USDT", 250, 254))
    anew = regimes(without(panel, "BTC/USDT", 250, 255))
    assert bridged.at(299).name == "trend"
    assert (anew.at(249).name, anew.at(299).name, anew.at(299).volatility) == ("trend", "chop", "mid")


@pytest.mark.parametrize(("timeframe", "row"), [("30m", 240), ("15m", 480), ("15m", 481)])
@pytest.mark.parametrize("ratio", [1000.0, 0.001])
def test_a_new_price_scale_of_the_market_starts_the_regime_anew(timeframe, row, ratio):
    plain = without(walk(("BTC/USDT",), 700, timeframe=timeframe, seed=6), "BTC/USDT", row - 1, row)
    broken = rescaled(plain, "BTC/USDT", row, ratio)
    known, got = regimes(plain, QUICK), regimes(broken, QUICK)
    anew = regimes(without(broken, "BTC/USDT", 0, row), QUICK)
    for t in range(700):
        wanted = known.at(t) if t < row else anew.at(t)
        assert (got.at(t).name, got.at(t).volatility) == (wanted.name, wanted.volatility), t
        assert got.at(t).volatility_ann_frac == pytest.approx(wanted.volatility_ann_frac, abs=0.0, nan_ok=True)
    assert (got.at(row).name, got.at(row).volatility) == ("chop", "mid")
    assert got.at(699).volatility_ann_frac < 1.0


def test_a_break_around_the_first_bar_of_the_window_gives_one_tick_the_bits_of_the_whole_history():
    startup = startup_bars(QUICK, "15m")
    monday = 8 * 672
    for offset in (-3, -2, -1, 0, 1, 2, 3, 20):
        row = monday - startup + offset
        panel = rescaled(without(walk(("BTC/USDT",), monday + 50, seed=6), "BTC/USDT", row - 2, row), "BTC/USDT", row, 1000.0)
        whole = regimes(panel, QUICK)
        tick = detect(panel.take(monday - startup, monday + 40), np.zeros((1, 1)), QUICK, 4)
        assert tick.at(0) == whole.at(monday + 39)


def test_a_crash_of_the_market_by_eighty_percent_is_down_and_wild():
    panel = rescaled(walk(("BTC/USDT",), 400, timeframe="30m", seed=6), "BTC/USDT", 300, 0.2)
    got = regimes(panel, QUICK).at(305)
    assert (got.name, got.volatility) == ("down", "high")


def test_breadth_is_the_share_of_settled_pairs_that_rose():
    panel = walk(("BTC/USDT",), 3)
    r_24h = np.array([[0.01, -0.02, 0.03, np.nan], [0.0, np.nan, np.nan, np.nan], [np.nan] * 4])
    assert regimes(panel, SETTINGS, r_24h).breadth_frac.tolist() == [pytest.approx(2 / 3), 0.0, 0.5]


def test_only_the_rows_asked_for_are_answered():
    panel = walk(("BTC/USDT",), 600, timeframe="30m", seed=6)
    whole, last = regimes(panel), detect(panel, np.zeros((10, 2)), SETTINGS, 4)
    assert last.start_ms == panel.start_ms + 590 * panel.step_ms
    assert [last.at(t) for t in range(10)] == [whole.at(t) for t in range(590, 600)]


def test_startup_settles_the_slow_average():
    bars = startup_bars(SETTINGS, "30m")
    assert (1.0 - 2.0 / 201.0) ** (bars - 4) < 1e-6
    assert startup_bars(SETTINGS, "15m") == 2 * bars
    assert startup_bars(SETTINGS, "5m") == 6 * bars


def test_names_are_those_the_settings_know():
    assert set(REGIMES) == {"trend", "chop", "down"}
    assert VOLATILITY_REGIMES == ("low", "mid", "high")
