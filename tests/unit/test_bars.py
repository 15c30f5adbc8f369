"""The panel: axes, cutting, choosing, joining, resampling."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tickless.bars import COLUMNS, Panel, floor_ms, join, step_ms
from tickless.errors import DataError
from tickless.types import to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def make_panel(rows=8, pairs=("A/USDT", "B/USDT"), start=START, timeframe="15m"):
    close = 100.0 + np.arange(rows * len(pairs), dtype=float).reshape(rows, len(pairs))
    return Panel(timeframe, tuple(pairs), to_ms(start), close - 1, close + 2, close - 3, close, close * 10)


def without(panel, row, pair):
    columns = {name: getattr(panel, name).copy() for name in COLUMNS}
    for values in columns.values():
        values[row, panel.column[pair]] = np.nan
    return Panel(panel.timeframe, panel.pairs, panel.start_ms, *columns.values())


def test_axes():
    panel = make_panel()
    assert panel.rows == 8
    assert (panel.start, panel.end) == (START, START + 8 * QUARTER)
    assert panel.open_times_ms.tolist() == [to_ms(START + k * QUARTER) for k in range(8)]
    assert panel.row_at(START + 3 * QUARTER) == 3
    assert panel.row_at(START - QUARTER) == -1
    assert panel.column == {"A/USDT": 0, "B/USDT": 1}


def test_a_panel_off_its_grid_or_out_of_shape_is_refused():
    good = np.ones((2, 1))
    with pytest.raises(ValueError, match="not on the 15m grid"):
        Panel("15m", ("A/USDT",), 1, good, good, good, good, good)
    with pytest.raises(ValueError, match="panel column volume has shape"):
        Panel("15m", ("A/USDT",), 0, good, good, good, good, np.ones((2, 2)))
    with pytest.raises(ValueError, match="not on the 15m grid"):
        make_panel().row_at(START + timedelta(minutes=1))
    with pytest.raises(DataError, match="timeframe '7m': unknown"):
        step_ms("7m")


def test_floor_ms_is_the_grid_point_at_or_before():
    assert [floor_ms(at, 10) for at in (0, 9, 10, -1)] == [0, 0, 10, -10]


def test_empty_has_a_row_for_every_bar_that_opens_inside():
    panel = Panel.empty("15m", ["A/USDT"], START + timedelta(minutes=1), START + timedelta(minutes=46))
    assert panel.start == START + QUARTER
    assert panel.rows == 3
    assert np.isnan(panel.close).all()
    assert Panel.empty("15m", ["A/USDT"], START, START - QUARTER).rows == 0


def test_between_takes_bars_that_open_inside_and_clips():
    panel = make_panel()
    part = panel.between(START + timedelta(minutes=1), START + timedelta(minutes=31))
    assert (part.start, part.rows) == (START + QUARTER, 2)
    assert part.close.tolist() == panel.close[1:3].tolist()
    assert panel.between(START - timedelta(days=1), START + timedelta(days=1)).rows == 8
    assert panel.between(START + timedelta(days=1), START + timedelta(days=2)).rows == 0
    assert panel.between(START - timedelta(days=2), START - timedelta(days=1)).rows == 0
    assert panel.between(START + 2 * QUARTER, START).rows == 0


def test_closed_at_leaves_out_the_running_bar():
    panel = make_panel()
    assert panel.closed_at(START + 2 * QUARTER).rows == 2
    assert panel.closed_at(START + 2 * QUARTER - timedelta(milliseconds=1)).rows == 1
    assert panel.closed_at(START - timedelta(days=1)).rows == 0
    assert panel.closed_at(START + timedelta(days=1)).rows == 8


def test_select_orders_pairs_and_gives_nan_for_one_that_is_not_there():
    panel = make_panel()
    chosen = panel.select(["C/USDT", "B/USDT", "A/USDT"])
    assert chosen.pairs == ("C/USDT", "B/USDT", "A/USDT")
    assert np.isnan(chosen.open[:, 0]).all()
    assert chosen.close[:, 1].tolist() == panel.close[:, 1].tolist()
    assert chosen.close[:, 2].tolist() == panel.close[:, 0].tolist()
    assert Panel.empty("15m", [], START, START + QUARTER).select(["A/USDT"]).close.shape == (1, 1)
    assert panel.select([]).close.shape == (8, 0)


def test_select_keeps_rows_contiguous_so_that_sums_round_alike():
    panel = make_panel()
    assert all(getattr(panel.select(["B/USDT", "A/USDT"]), name).flags.c_contiguous for name in COLUMNS)


def test_select_does_not_change_its_source():
    panel = make_panel()
    panel.select(["A/USDT"]).close[:] = 0
    assert (panel.close > 0).all()


def test_resample_by_hand():
    close = np.array([[10.0], [12.0], [11.0], [9.0]])
    panel = Panel("15m", ("A/USDT",), to_ms(START), close - 0.5, close + 1, close - 2, close, np.array([[1.0], [2.0], [3.0], [4.0]]))
    hour = panel.resample("1h")
    assert (hour.timeframe, hour.rows, hour.start) == ("1h", 1, START)
    assert [float(getattr(hour, name)[0, 0]) for name in COLUMNS] == [9.5, 13.0, 7.0, 9.0, 10.0]


def test_resample_leaves_out_periods_that_stick_out_on_either_side():
    panel = make_panel(rows=8, start=START + QUARTER)
    hour = panel.resample("1h")
    assert (hour.start, hour.rows) == (START + timedelta(hours=1), 1)
    assert hour.open[0].tolist() == panel.open[3].tolist()
    assert hour.close[0].tolist() == panel.close[6].tolist()
    assert make_panel(rows=2, start=START + QUARTER).resample("1h").rows == 0


def test_resample_bridges_missing_bars_inside_a_period_and_keeps_empty_periods_empty():
    panel = make_panel(rows=8, pairs=("A/USDT",))
    for row in (0, 3, 4, 5, 6, 7):
        panel = without(panel, row, "A/USDT")
    hour = panel.resample("1h")
    assert hour.open[0, 0] == panel.open[1, 0]
    assert hour.close[0, 0] == panel.close[2, 0]
    assert hour.volume[0, 0] == panel.volume[1, 0] + panel.volume[2, 0]
    assert all(np.isnan(getattr(hour, name)[1, 0]) for name in COLUMNS)


def test_resample_to_the_same_timeframe_is_the_panel_itself_and_to_a_shorter_one_is_refused():
    panel = make_panel()
    assert panel.resample("15m") is panel
    with pytest.raises(DataError, match="cannot resample 15m bars to 5m"):
        panel.resample("5m")
    with pytest.raises(DataError, match="cannot resample 3m bars to 5m"):
        make_panel(timeframe="3m").resample("5m")


def test_join_unites_pairs_and_leaves_what_nobody_covers_missing():
    first = make_panel(rows=2, pairs=("B/USDT",))
    second = make_panel(rows=2, pairs=("A/USDT", "B/USDT"), start=START + 3 * QUARTER)
    joined = join([second, first])
    assert joined.pairs == ("A/USDT", "B/USDT")
    assert (joined.start, joined.rows) == (START, 5)
    assert np.isnan(joined.close[:3, 0]).all()
    assert np.isnan(joined.close[2]).all()
    assert joined.close[:2, 1].tolist() == first.close[:, 0].tolist()
    assert joined.close[3:].tolist() == second.close.tolist()


def test_join_sorts_the_pairs_of_a_single_panel():
    joined = join([make_panel(pairs=("B/USDT", "A/USDT"))])
    assert joined.pairs == ("A/USDT", "B/USDT")
    assert joined.close[0].tolist() == [101.0, 100.0]


def test_join_takes_only_pairs_from_a_panel_without_rows():
    nothing = make_panel(rows=0, pairs=("C/USDT",), start=START - timedelta(days=1))
    joined = join([nothing, make_panel()])
    assert (joined.pairs, joined.start, joined.rows) == (("A/USDT", "B/USDT", "C/USDT"), START, 8)
    assert join([nothing, nothing]).rows == 0


def test_join_refuses_overlap_another_timeframe_and_nothing():
    with pytest.raises(ValueError, match="overlap"):
        join([make_panel(), make_panel(start=START + QUARTER)])
    with pytest.raises(ValueError, match="cannot join 1h bars to 15m bars"):
        join([make_panel(), make_panel(start=START + timedelta(days=1), timeframe="1h")])
    with pytest.raises(ValueError, match="nothing to join"):
        join([])


def test_spanning_has_every_row_asked_for_and_nothing_made_up():
    panel = Panel.empty("15m", ("A/USDT",), datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 1, 1, tzinfo=UTC))
    panel.close[:] = 5.0
    wide = panel.spanning(datetime(2024, 5, 31, 23, 45, tzinfo=UTC), datetime(2024, 6, 1, 1, 15, tzinfo=UTC))
    assert (wide.start_ms, wide.rows) == (panel.start_ms - panel.step_ms, 6)
    assert np.isnan(wide.close[[0, 5], 0]).all()
    assert (wide.close[1:5, 0] == 5.0).all()
    assert panel.spanning(panel.start, panel.end).close.base is not None
    assert np.isnan(panel.spanning(datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 7, 1, 1, tzinfo=UTC)).close).all()
