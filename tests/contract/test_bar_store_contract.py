"""What every bar store promises."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from desk_values import BUCKET
from hypothesis import given
from hypothesis import strategies as st

from tickless.adapters.memory import MemoryBarStore
from tickless.adapters.s3_bars import S3BarStore
from tickless.bars import COLUMNS, Panel
from tickless.errors import DataError, RetryableError
from tickless.ports import BarStore
from tickless.types import to_ms

MONDAY = datetime(2024, 6, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def a_panel(start: datetime, rows: int, pairs: Sequence[str] = ("BTC/USDT", "ETH/USDT"), seed: int = 0) -> Panel:
    rng = np.random.default_rng([seed, to_ms(start) // 3_600_000, rows])
    return Panel("1h", tuple(pairs), to_ms(start), *(rng.random((rows, len(pairs))) for _ in COLUMNS))


def same(left: Panel, right: Panel) -> bool:
    heads = [(panel.timeframe, panel.pairs, panel.start_ms, panel.rows) for panel in (left, right)]
    return heads[0] == heads[1] and all(np.array_equal(getattr(left, name), getattr(right, name), equal_nan=True) for name in COLUMNS)


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> BarStore:
    return MemoryBarStore() if request.param == "memory" else S3BarStore(BUCKET, request.getfixturevalue("s3"))


def test_an_empty_store(store: BarStore) -> None:
    assert store.through("1h") is None
    assert store.since("1h") is None
    assert same(store.read("1h", MONDAY, MONDAY + 3 * HOUR), Panel.empty("1h", (), MONDAY, MONDAY + 3 * HOUR))


def test_what_was_written_is_read_across_weeks(store: BarStore) -> None:
    panel = a_panel(MONDAY - 30 * HOUR, 24 * 9)
    store.write(panel)
    assert store.since("1h") == panel.start
    assert store.through("1h") == panel.end
    assert same(store.read("1h", panel.start, panel.end), panel)
    assert same(store.read("1h", MONDAY - 2 * HOUR, MONDAY + 2 * HOUR), panel.between(MONDAY - 2 * HOUR, MONDAY + 2 * HOUR))
    assert store.through("15m") is None


def test_a_read_has_exactly_the_rows_asked_for(store: BarStore) -> None:
    panel = a_panel(MONDAY, 5)
    store.write(panel)
    found = store.read("1h", MONDAY - 14 * DAY - HOUR, MONDAY + 20 * HOUR)
    assert (found.start, found.end) == (MONDAY - 14 * DAY - HOUR, MONDAY + 20 * HOUR)
    assert found.pairs == panel.pairs
    assert same(found.between(MONDAY, MONDAY + 5 * HOUR), panel)
    assert np.isfinite(found.close).sum() == panel.close.size
    off_grid = timedelta(minutes=1)
    assert store.read("1h", MONDAY + off_grid, MONDAY + 3 * HOUR + off_grid).open_times_ms.tolist() == [
        to_ms(MONDAY + n * HOUR) for n in (1, 2, 3)
    ]
    assert store.read("1h", MONDAY + HOUR, MONDAY + HOUR).rows == 0


def test_a_stored_value_is_never_overwritten_and_missing_ones_are_added(store: BarStore) -> None:
    first = a_panel(MONDAY, 4, ("ETH/USDT", "BTC/USDT"))
    for name in COLUMNS:
        getattr(first, name)[1, 0] = np.nan
    later = a_panel(MONDAY - HOUR, 7, ("SOL/USDT", "ETH/USDT"), seed=1)
    store.write(first)
    store.write(later)
    found = store.read("1h", MONDAY - HOUR, MONDAY + 6 * HOUR)
    assert found.pairs == ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    expected = later.select(["ETH/USDT"]).close[:, 0].copy()
    expected[[1, 3, 4]] = first.close[[0, 2, 3], 0]
    assert found.close[:, 1].tolist() == expected.tolist()
    assert found.select(["SOL/USDT"]).close.tolist() == later.select(["SOL/USDT"]).close.tolist()
    assert np.isnan(found.close[[0, 5, 6], 0]).all()
    before = found
    store.write(a_panel(MONDAY - HOUR, 7, found.pairs[1:], seed=2))
    assert same(store.read("1h", before.start, before.end), before)


def test_rows_without_any_bar_count_as_stored(store: BarStore) -> None:
    store.write(a_panel(MONDAY, 3))
    store.write(Panel.empty("1h", ("BTC/USDT",), MONDAY + 3 * HOUR, MONDAY + 6 * HOUR))
    assert store.through("1h") == MONDAY + 6 * HOUR


def test_a_pair_is_read_where_it_has_a_week_in_the_range(store: BarStore) -> None:
    store.write(a_panel(MONDAY - DAY, 24, ("OLD/USDT",)))
    store.write(a_panel(MONDAY, 24, ("NEW/USDT",)))
    assert store.read("1h", MONDAY, MONDAY + HOUR).pairs == ("NEW/USDT",)
    assert store.read("1h", MONDAY - HOUR, MONDAY + HOUR).pairs == ("NEW/USDT", "OLD/USDT")


def test_a_timeframe_that_does_not_exist_is_refused(store: BarStore) -> None:
    with pytest.raises(DataError, match="'2h'"):
        store.through("2h")


@given(st.lists(st.tuples(st.integers(-200, 200), st.integers(1, 30), st.integers(1, 7)), min_size=1, max_size=6))
def test_any_order_of_writes_keeps_the_first_value_of_every_cell(writes: list[tuple[int, int, int]]) -> None:
    store = MemoryBarStore()
    first: dict[tuple[int, str], float] = {}
    for seed, (start, rows, mask) in enumerate(writes):
        pairs = [f"{name}/USDT" for bit, name in enumerate("ABC") if mask >> bit & 1]
        panel = a_panel(MONDAY + start * HOUR, rows, pairs, seed)
        store.write(panel)
        for row, opened in enumerate(panel.open_times_ms.tolist()):
            for n, pair in enumerate(pairs):
                first.setdefault((opened, pair), panel.close[row, n])
    found = store.read("1h", MONDAY - 201 * HOUR, MONDAY + 231 * HOUR)
    cells = {
        (opened, pair): found.close[row, n]
        for row, opened in enumerate(found.open_times_ms.tolist())
        for n, pair in enumerate(found.pairs)
        if not np.isnan(found.close[row, n])
    }
    assert cells == first


def test_a_warm_tick_that_only_reads_makes_one_call(s3: Any, calls: list[str]) -> None:
    S3BarStore(BUCKET, s3).write(a_panel(MONDAY - 7 * DAY, 24 * 9))
    store = S3BarStore(BUCKET, s3)
    end = MONDAY + 2 * DAY
    store.read("1h", MONDAY - 3 * DAY, end)
    calls.clear()
    assert store.through("1h") == end
    assert store.since("1h") == MONDAY - 7 * DAY
    assert store.read("1h", MONDAY - 3 * DAY, end).rows == 24 * 5
    assert calls == ["GetObject"]


def test_a_warm_tick_that_refreshes_makes_two_calls_and_the_next_reader_one(s3: Any, calls: list[str]) -> None:
    panel = a_panel(MONDAY - 7 * DAY, 24 * 9 + 1)
    writer, reader = S3BarStore(BUCKET, s3), S3BarStore(BUCKET, s3)
    writer.write(panel.take(0, panel.rows - 1))
    for store in (writer, reader):
        store.through("1h")
    calls.clear()
    assert writer.through("1h") == panel.end - HOUR
    writer.write(panel.take(panel.rows - 1, panel.rows))
    assert same(writer.read("1h", MONDAY, panel.end), panel.between(MONDAY, panel.end))
    assert calls == ["GetObject", "PutObject"]
    calls.clear()
    assert reader.through("1h") == panel.end
    assert same(reader.read("1h", MONDAY, panel.end), panel.between(MONDAY, panel.end))
    assert calls == ["GetObject"]


def test_writing_nothing_new_makes_no_call(s3: Any, calls: list[str]) -> None:
    store = S3BarStore(BUCKET, s3)
    store.write(a_panel(MONDAY, 24))
    calls.clear()
    store.write(a_panel(MONDAY, 24))
    assert calls == []


def test_a_new_week_is_seen_by_a_warm_process(s3: Any) -> None:
    panel = a_panel(MONDAY - 7 * DAY, 24 * 8)
    writer, reader = S3BarStore(BUCKET, s3), S3BarStore(BUCKET, s3)
    writer.write(panel.between(panel.start, MONDAY - HOUR))
    assert reader.through("1h") == MONDAY - HOUR
    writer.write(panel.between(MONDAY - HOUR, MONDAY + HOUR))
    assert reader.through("1h") == MONDAY
    assert reader.through("1h") == MONDAY + HOUR
    assert same(reader.read("1h", MONDAY - 2 * HOUR, MONDAY + HOUR), panel.between(MONDAY - 2 * HOUR, MONDAY + HOUR))


def test_a_pair_added_to_past_weeks_reaches_warm_processes(s3: Any) -> None:
    writer, reader = S3BarStore(BUCKET, s3), S3BarStore(BUCKET, s3)
    writer.write(a_panel(MONDAY - 14 * DAY, 24 * 15))
    assert reader.read("1h", MONDAY - 14 * DAY, MONDAY).pairs == ("BTC/USDT", "ETH/USDT")
    listed = a_panel(MONDAY - 20 * DAY, 24 * 20, ("SOL/USDT",))
    writer.write(listed)
    assert reader.through("1h") == MONDAY + DAY
    assert same(reader.read("1h", listed.start, listed.end).select(["SOL/USDT"]), listed)
    assert reader.since("1h") == listed.start


def test_two_writers_that_know_nothing_of_one_another_lose_nothing(s3: Any) -> None:
    first, second = S3BarStore(BUCKET, s3), S3BarStore(BUCKET, s3)
    panel = a_panel(MONDAY, 24, ("BTC/USDT", "ETH/USDT", "SOL/USDT"))
    for store in (first, second):
        store.through("1h")
    first.write(panel.select(["BTC/USDT"]))
    second.write(panel.select(["ETH/USDT"]))
    first.write(panel.select(["SOL/USDT"]))
    assert same(S3BarStore(BUCKET, s3).read("1h", panel.start, panel.end), panel)
    assert same(first.read("1h", panel.start, panel.end), panel)


def test_a_writer_that_is_always_late_gives_up(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = S3BarStore(BUCKET, s3), S3BarStore(BUCKET, s3)
    put, names = store._objects.put_tagged, iter("ABCDEFGH")

    def overtaken(key: str, content: bytes, tag: str | None) -> str | None:
        other.write(a_panel(MONDAY, 2, (f"{next(names)}/USDT",)))
        return put(key, content, tag)

    monkeypatch.setattr(store._objects, "put_tagged", overtaken)
    with pytest.raises(RetryableError, match=r"1h/2024-06-03\.npz: changed by others 5 times"):
        store.write(a_panel(MONDAY, 2))


def test_the_same_bars_are_the_same_bytes_under_the_week_s_key(s3: Any) -> None:
    S3BarStore(BUCKET, s3).write(a_panel(MONDAY + HOUR, 3))
    first = s3.get_object(Bucket=BUCKET, Key="bars/1h/2024-06-03.npz")["Body"].read()
    s3.delete_object(Bucket=BUCKET, Key="bars/1h/2024-06-03.npz")
    S3BarStore(BUCKET, s3).write(a_panel(MONDAY + HOUR, 3))
    assert s3.get_object(Bucket=BUCKET, Key="bars/1h/2024-06-03.npz")["Body"].read() == first


@pytest.mark.parametrize(("key", "content"), [("2024-06-03.npz", b"not a zip"), ("2024-06-03.npz", b"PK\x03\x04"), ("notes.txt", b"")])
def test_an_object_that_is_no_week_is_named(s3: Any, key: str, content: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"bars/1h/{key}", Body=content)
    with pytest.raises(DataError, match=f"bars/1h/{key}: not "):
        S3BarStore(BUCKET, s3).read("1h", MONDAY, MONDAY + DAY)


def test_a_pickle_is_not_loaded(s3: Any, tmp_path: Any) -> None:
    path = tmp_path / "week.npz"
    np.savez(path, pairs=np.asarray([{"a": 1}], dtype=object))
    s3.put_object(Bucket=BUCKET, Key="bars/1h/2024-06-03.npz", Body=path.read_bytes())
    with pytest.raises(DataError, match="allow_pickle"):
        S3BarStore(BUCKET, s3).read("1h", MONDAY, MONDAY + DAY)


def test_a_bucket_that_is_not_there(s3: Any) -> None:
    store = S3BarStore("no-such-bucket", s3)
    with pytest.raises(RetryableError, match="s3://no-such-bucket/bars/1h/"):
        store.through("1h")
    with pytest.raises(RetryableError, match="s3://no-such-bucket/bars/1h/"):
        store.write(a_panel(MONDAY, 1))
