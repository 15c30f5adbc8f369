"""However broken a file is: what comes out is clean, and every row is accounted for."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tickless.adapters.bar_files import data_sha256, panel_of, read_file, read_folder, write_folder

STEP = 900_000
prices = st.one_of(st.floats(0.5, 2.0), st.sampled_from([0.0, -1.0, None, float("nan"), float("inf")]))
times = st.one_of(st.integers(2_000_000, 2_000_020).map(lambda n: n * STEP), st.just(2_000_003 * STEP + 1))
bars = st.lists(st.tuples(times, prices, prices, prices, prices, prices), max_size=40)


@settings(max_examples=150)
@given(bars)
def test_what_is_read_is_clean_and_every_row_is_counted(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "A_USDT-15m.json"
        path.write_text(json.dumps(content))
        got, report = read_file(path)
    assert (np.diff(got.open_times_ms) > 0).all()
    assert (got.open_times_ms % STEP == 0).all()
    assert np.isfinite(got.values).all()
    assert (got.values[:4] > 0).all()
    assert (got.column("high") >= got.column("low")).all()
    dropped = sum(count for name, count in report.repairs.items() if name != "unsorted")
    assert report.rows_read == len(content) == report.rows_used + dropped
    assert report.rows_used == len(got.open_times_ms)


@settings(max_examples=60)
@given(bars, st.sampled_from(["parquet", "feather", "csv"]))
def test_a_repaired_file_needs_no_second_repair(content, file_format):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "A_USDT-15m.json"
        path.write_text(json.dumps(content))
        got, report = read_file(path)
        if not report.rows_used:
            return
        panel = panel_of([got])
        write_folder(Path(folder) / "again", panel, file_format)
        again, clean = read_folder(Path(folder) / "again", "15m")
    assert clean.repairs == {}
    assert data_sha256(again) == data_sha256(panel)
